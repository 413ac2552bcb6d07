"""Requested texts, the streams that are decoded together for them, and the rows that the model reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

import numpy as np
import torch

from dino_st.decoding.cache import Indices, PromptStates, RowCache, on_device
from dino_st.decoding.runner import CausalModel


@dataclass(frozen=True)
class Draw:
    """One requested text, named by (x1, label, sample); prompts are token ids."""

    x1: str  # empty where the task takes none
    label: str
    sample: int
    target: tuple[int, ...]  # the prompt I_y(x1)
    counters: tuple[tuple[int, ...], ...] = ()  # each counter-prompt I_y'(x1)
    scored: tuple[tuple[int, ...], ...] = ()  # after these the finished text is scored, whether written for them or not

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """The prompts of its streams: the target prompt first."""
        return (self.target, *self.counters)

    @property
    def streams(self) -> int:
        """Rows of the batch that the draw takes."""
        return 1 + len(self.counters)


@dataclass
class Drawn:
    """What became of a draw.

    `log_probs` holds log p(tokens | prompt) in nats for each of the draw's scored prompts, before any debiasing and
    with end-of-text impossible, as everywhere in decoding; None without a text.
    """

    text: str | None = None  # without its closing mark; None if every try was rejected
    tries: int = 0
    tokens: tuple[int, ...] = ()  # ids of the last try, closing mark included
    rejections: Counter[str] = field(default_factory=Counter)  # how often each reason made a try fail
    log_probs: tuple[float, ...] | None = None


class StreamBatch:
    """The streams being decoded: draws in the order of their stream count, each with its target stream first.

    Streams that continue the same prompt with the same tokens, such as the two samples of a label until they part, have
    one row in the model's batch. Rows whose streams have all ended are given to others at once. `draws` holds the
    places, among the draws given, of those that go on, and `uniforms` their random numbers, shape (draws, steps).
    """

    def __init__(self, draws: Sequence[Draw], model: CausalModel, states: PromptStates, uniforms: torch.Tensor) -> None:
        self._model, self._states, self._device = model, states, model.device
        self.draws = list(range(len(draws)))
        self.uniforms = uniforms.to(self._device)
        self._steps = uniforms.shape[1]
        self._streams = np.array([draw.streams for draw in draws])
        self._prompt_of_row = np.arange(len(states.lengths))
        self._row_of_stream = np.array([states.index[prompt] for draw in draws for prompt in draw.prompts])
        self._stream_numbers = torch.arange(len(self._row_of_stream), device=self._device)
        is_scored = any(draw.scored for draw in draws)
        self._log_probs = states.logits.new_zeros(len(self._row_of_stream), self._steps) if is_scored else None
        self._sizes = self._streams
        self._cache: RowCache | None = None

    @property
    def groups(self) -> list[tuple[int, int]]:
        """How many counter-streams some draws have, and how many draws those are; the draws follow one another."""
        return [(int(size) - 1, len(list(group))) for size, group in groupby(self._sizes.tolist())]

    def first_logits(self) -> torch.Tensor:
        """What the model predicts after each stream's prompt, shape (streams, vocabulary)."""
        return self._states.logits.index_select(0, on_device(self._row_of_stream, self._device))

    def record(self, stream: int, step: int, probabilities: torch.Tensor, tokens: torch.Tensor) -> None:
        """Keeps how likely each stream found the token that was drawn, if texts are scored.

        Probabilities have shape (draws, streams of each, vocabulary), tokens (draws,); `stream` is the draws' first.
        """
        if self._log_probs is not None:
            chosen = probabilities.gather(-1, tokens.view(-1, 1, 1).expand(-1, probabilities.shape[1], 1)).flatten()
            places = self._stream_numbers[stream : stream + len(chosen)]
            self._log_probs[places, step] = chosen.clamp_(min=torch.finfo(chosen.dtype).tiny).log_()

    def log_probs(self, lengths: Sequence[int]) -> list[tuple[float, ...]]:
        """Sums what was kept over the tokens of each draw given, for each of its streams; empty if nothing was."""
        if self._log_probs is None:
            return [() for _ in lengths]
        written = on_device(np.repeat(np.array(lengths), self._streams), self._device)
        columns = torch.arange(self._log_probs.shape[1], device=self._device)
        sums = iter(self._log_probs.masked_fill(columns >= written.unsqueeze(1), 0).sum(dim=1).tolist())
        return [tuple(islice(sums, count)) for count in self._streams.tolist()]

    def advance(self, tokens: Sequence[int], alive: Sequence[int], step: int) -> torch.Tensor:
        """Drops the streams of draws that have ended, and lets the model read the next token of all others.

        `tokens` holds what each draw drew, `alive` the places of those that go on, in ascending order; `step` tokens
        came before. Returns next-token logits, shape (streams, vocabulary).
        """
        if len(alive) < len(self.draws):
            self._keep(np.array(alive))
        of_stream = np.repeat(np.array(tokens)[alive], self._sizes)
        size = int(of_stream.max()) + 1
        rows, child_of_stream = np.unique(self._row_of_stream * size + of_stream, return_inverse=True)
        parents, ids = np.divmod(rows, size)
        places = np.arange(len(rows)) if self._cache is None else _places(parents)
        self._row_of_stream = places[child_of_stream]
        before, self._prompt_of_row = len(self._prompt_of_row), _scatter(self._prompt_of_row[parents], places)
        if self._cache is None:
            room = len(of_stream), self._steps - 1
            self._cache = self._model.start_rows(self._states, self._prompt_of_row, *room)
        elif (moved := places != parents).any() or len(rows) < before:
            self._cache.move(parents[moved], places[moved], self._prompt_of_row)
        following = on_device(_scatter(ids, places), self._device)
        return self._model.read_tokens(following, self._cache, on_device(self._row_of_stream, self._device), step)

    def _keep(self, alive: Indices) -> None:
        """Drops all draws but those in the given places, with their streams."""
        wanted = np.zeros(len(self.draws), dtype=bool)
        wanted[alive] = True
        streams = np.repeat(wanted, self._sizes)
        self._row_of_stream = self._row_of_stream[streams]
        self._sizes = self._sizes[alive]
        self.draws = [self.draws[place] for place in alive]
        self.uniforms = self.uniforms[on_device(alive, self._device)]
        self._stream_numbers = self._stream_numbers[on_device(streams, self._device)]


def _places(parents: Indices) -> Indices:
    """Where rows go, so that as few as possible move and no place is left empty; `parents` ascend.

    Of the rows that continue the same one, the first stays where that is, unless it lies beyond the number of rows; all
    others fill what is free.
    """
    first = np.concatenate(([True], parents[1:] != parents[:-1]))
    stays = first & (parents < len(parents))
    free = np.ones(len(parents), dtype=bool)
    free[parents[stays]] = False
    places = parents.copy()
    places[~stays] = free.nonzero()[0]
    return places


def _scatter(values: Indices, places: Indices) -> Indices:
    result = np.empty_like(values)
    result[places] = values
    return result
