"""Requested texts, the streams that are decoded together for them, and the rows that the model reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from dino_st.forward.cache import Indices, PromptStates, RowCache, on_device
from dino_st.forward.runner import CausalModel


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


def prompt_table(draws: Sequence[Draw], states: PromptStates) -> tuple[Indices, Indices]:
    """How many streams each draw has, and the prompt of each: shape (draws, most streams), -1 where it has fewer."""
    streams = np.array([draw.streams for draw in draws])
    prompts = np.full((len(draws), streams.max()), -1, dtype=np.int64)
    prompts[np.arange(prompts.shape[1]) < streams[:, None]] = [states.index[p] for draw in draws for p in draw.prompts]
    return streams, prompts


def token_log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens in nats, shape (...), from logits of shape (..., vocabulary)."""
    return logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1)


def text_scores(log_probs: torch.Tensor, lengths: Sequence[int], streams: Indices) -> list[list[float]]:
    """Sums over each draw's text, so many tokens long, of what its streams make of each token.

    Log-probabilities have shape (draws, most streams, steps).
    """
    places = torch.arange(log_probs.shape[2], device=log_probs.device)
    behind = places >= torch.tensor(lengths, device=log_probs.device).view(-1, 1, 1)
    sums = log_probs.masked_fill(behind, 0).sum(dim=2).tolist()
    return [each[:count] for each, count in zip(sums, streams.tolist(), strict=True)]


class StreamBatch:
    """The streams being decoded, of a set of draws some of which wait: each draw's target stream first.

    Streams that continue the same prompt with the same tokens, such as the two samples of a label until they part, have
    one row in the model's batch. Rows whose streams have all ended are given to others at once. Draws are named by
    their places in the set, and stand in the order of their stream count.
    """

    def __init__(
        self, draws: Sequence[Draw], model: CausalModel, states: PromptStates, *, steps: int, most_rows: int
    ) -> None:
        self._model, self._states, self._device = model, states, model.device
        self._steps, self._most_rows = steps, most_rows
        self.streams, self._prompts = prompt_table(draws, states)
        self._columns = np.arange(self._prompts.shape[1])
        self._rows = -1 - self._prompts  # of each stream; one that has no row yet is the negative of its prompt
        self._prompt_of_row = self._written = np.zeros(0, dtype=np.int64)
        self._uniforms = torch.zeros(len(draws), steps, dtype=torch.float64, device=self._device)
        is_scored = any(draw.scored for draw in draws)
        self._log_probs = states.logits.new_zeros(*self._prompts.shape, steps) if is_scored else None
        self._cache: RowCache | None = None

    def _of_streams(self, table: Indices, draws: Indices) -> Indices:
        """The entries of a table of shape (draws, most streams) for the streams of some draws, one after the other."""
        return table[draws][self._columns < self.streams[draws, None]]

    def begin(self, draws: Indices, uniforms: torch.Tensor) -> torch.Tensor:
        """Begins tries of draws, with random numbers of shape (draws, steps), behind their prompts.

        Returns what the model predicts there, shape (streams, vocabulary).
        """
        self._uniforms[on_device(draws, self._device)] = uniforms.to(self._device)
        self._rows[draws] = -1 - self._prompts[draws]
        prompts = self._of_streams(self._prompts, draws)
        return self._states.logits.index_select(0, on_device(prompts, self._device))

    def uniforms(self, draws: Indices, steps: Indices) -> torch.Tensor:
        """The random number of each draw for its step, shape (draws,)."""
        return self._uniforms[on_device(draws, self._device), on_device(steps, self._device)]

    def record(
        self,
        draws: Indices,
        steps: Indices,
        logits: torch.Tensor,
        probabilities: torch.Tensor,
        tokens: torch.Tensor,
    ) -> None:
        """Keeps how likely each stream found the token that was drawn, if texts are scored.

        Logits and probabilities have shape (draws, streams of each, vocabulary), tokens (draws,).
        """
        if self._log_probs is not None:
            count = probabilities.shape[1]
            chosen = tokens.view(-1, 1).expand(-1, count)
            found = probabilities.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
            if bool((rare := found < torch.finfo(found.dtype).tiny).any()):  # whose logarithm has lost its digits
                found[rare] = token_log_probs(logits[rare], chosen[rare])
                found[~rare] = found[~rare].log()
            else:
                found.log_()
            places, columns = on_device(draws, self._device), on_device(steps, self._device)
            self._log_probs[places, :count, columns] = found

    def log_probs(self, lengths: Sequence[int]) -> list[list[float]]:
        """Scores of the last tries, so many tokens long, for each stream; empty if nothing was kept."""
        if self._log_probs is None:
            return [[] for _ in lengths]
        return text_scores(self._log_probs, lengths, self.streams)

    def advance(self, draws: Indices, tokens: Indices) -> torch.Tensor:
        """Lets the model read the token that each of some draws has drawn; all others have ended, or not yet begun.

        Draws are in the order of their stream count. Returns next-token logits, shape (streams, vocabulary).
        """
        of_stream, rows = np.repeat(tokens, self.streams[draws]), self._of_streams(self._rows, draws)
        before, size = len(self._prompt_of_row), int(tokens.max()) + 1
        rows = np.where(rows < 0, before - 1 - rows, rows)  # behind those that exist, one for each prompt
        children, child_of_stream = np.unique(rows * size + of_stream, return_inverse=True)
        parents, ids = np.divmod(children, size)
        every_prompt = np.arange(len(self._states.index))
        prompt_of_row = np.concatenate((self._prompt_of_row, every_prompt))[parents]
        written = np.concatenate((self._written, np.zeros_like(every_prompt)))[parents]
        places, begins = _places(parents, before), parents >= before
        self._prompt_of_row, self._written = _scatter(prompt_of_row, places), _scatter(written, places)
        if self._cache is None:
            self._cache = self._model.start_rows(self._states, self._most_rows, self._steps - 1)
        if (moved := ~begins & (places != parents)).any():
            self._cache.move(parents[moved], places[moved])
        if begins.any():
            self._cache.start(places[begins], prompt_of_row[begins])
        self._cache.arrange(self._prompt_of_row, self._written)
        self._written = self._written + 1
        row_of_stream, table = places[child_of_stream], self._rows[draws]
        table[self._columns < self.streams[draws, None]] = row_of_stream
        self._rows[draws] = table
        following = on_device(_scatter(ids, places), self._device)
        return self._model.read_tokens(following, self._cache, on_device(row_of_stream, self._device))


def _places(parents: Indices, before: int) -> Indices:
    """Where rows go, so that as few as possible move and no place is left empty; `parents` ascend.

    Of the rows that continue the same one, the first stays where that is, unless it lies beyond the number of rows, or
    of those there were before; all others fill what is free.
    """
    first = np.concatenate(([True], parents[1:] != parents[:-1]))
    stays = first & (parents < min(len(parents), before))
    free = np.ones(len(parents), dtype=bool)
    free[parents[stays]] = False
    places = parents.copy()
    places[~stays] = free.nonzero()[0]
    return places


def _scatter(values: Indices, places: Indices) -> Indices:
    result = np.empty_like(values)
    result[places] = values
    return result
