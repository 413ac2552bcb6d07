"""The decoding engine: plan, prefill, decode, stop, compact, emit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch

from dino_st.decoding.debiasing import self_debias
from dino_st.decoding.kv_cache import CausalModel, PromptStates, StreamCache, float32_head
from dino_st.decoding.options import DecodingOptions
from dino_st.decoding.sampling import draw_key, draw_tokens, top_k_top_p, uniforms
from dino_st.decoding.shared_prompts import SharedCache
from dino_st.decoding.sizing import context_length, is_out_of_memory, release_memory
from dino_st.decoding.stopping import Ending, StopRule, end_of_text_ids
from dino_st.errors import ConfigurationError, OutOfMemoryError

_COMPACT_BELOW = 0.8
"""Streams are compacted when no more than this share of them is still being written."""


@dataclass(frozen=True)
class Draw:
    """One requested text, named by (x1, label, sample).

    Attributes:
        x1: The input sentence, empty where the task takes none.
        label: The label to write for.
        sample: Number of the text among those for the same (x1, label).
        target: Token ids of the target prompt.
        counters: Token ids of each counter-prompt.
    """

    x1: str
    label: str
    sample: int
    target: tuple[int, ...]
    counters: tuple[tuple[int, ...], ...] = ()

    @property
    def streams(self) -> int:
        """Rows of the batch that the draw takes."""
        return 1 + len(self.counters)


@dataclass
class Drawn:
    """What became of a draw.

    Attributes:
        text: The text without its closing mark; None if every try was rejected.
        tries: Tries made.
        tokens: Ids of the last try, closing mark included.
        rejections: How often each reason made a try fail.
    """

    text: str | None = None
    tries: int = 0
    tokens: tuple[int, ...] = ()
    rejections: Counter[str] = field(default_factory=Counter)


class DecodingEngine:
    """Writes texts for many draws at once.

    Draws of one x1 share its prompts, every prompt is read once, and a draw's counter-streams are forced to the
    continuation of its target stream. Random numbers belong to the draw, so neither the batch nor the order of the
    draws changes what is written, up to floating-point rounding of the model itself.
    """

    def __init__(self, model: Any, tokenizer: Any, options: DecodingOptions, *, seed: int, rows: int) -> None:
        """Prepares a model for decoding.

        Args:
            model: A decoder-only transformers model in evaluation mode.
            tokenizer: Its tokenizer.
            options: How texts are drawn.
            seed: Seed of all random numbers.
            rows: Streams decoded together at most; a single draw may exceed it.
        """
        self.options = options
        self.rows = rows
        self._seed = seed
        longest = context_length(model, options.max_total_tokens)
        self._model = CausalModel(model, longest=longest)
        size = model.get_output_embeddings().weight.shape[0]
        ends = end_of_text_ids(model, tokenizer)
        self._stop = StopRule(
            tokenizer, size, end_ids=ends, min_words=options.min_words, curly_quotes=options.curly_quotes
        )
        self._may_end = self._stop.may_end.to(self._model.device)
        self._unreachable = self._stop.unreachable.to(self._model.device)
        self.longest_prompt = longest - options.max_new_tokens
        if self.longest_prompt < 1:
            raise ConfigurationError(
                f"max_new_tokens = {options.max_new_tokens} leaves no room for a prompt: the model attends to "
                f"{longest} tokens in all"
            )

    def decode(self, draws: Sequence[Draw]) -> list[Drawn]:
        """Writes a text for every draw.

        Args:
            draws: In any order; those of one x1 should follow one another, since they share prompts.

        Returns:
            One outcome a draw, in the same order.

        Raises:
            OutOfMemoryError: If a single draw does not fit into memory.
        """
        if self.options.decay_constant == 0:  # the counter-prompts have no say, so they are not read
            draws = [Draw(d.x1, d.label, d.sample, d.target) for d in draws]
        results = [Drawn() for _ in draws]
        fitting = []
        for i, draw in enumerate(draws):
            if max(len(prompt) for prompt in (draw.target, *draw.counters)) > self.longest_prompt:
                results[i].rejections["prompt too long"] += 1
            else:
                fitting.append(i)
        with torch.inference_mode(), float32_head(self._model.model):
            for batch in self._batches(draws, fitting):
                self._decode_or_split([draws[i] for i in batch], [results[i] for i in batch])
        return results

    def _batches(self, draws: Sequence[Draw], indices: Sequence[int]) -> Iterator[list[int]]:
        """Packs draws into batches, inputs of similar length together and those of one input side by side."""
        groups = [list(group) for _, group in groupby(indices, key=lambda i: draws[i].x1)]
        groups.sort(key=lambda group: max(len(draws[i].target) for i in group))
        batch: list[int] = []
        streams = 0
        for i in (i for group in groups for i in group):
            if batch and streams + draws[i].streams > self.rows:
                yield batch
                batch, streams = [], 0
            batch.append(i)
            streams += draws[i].streams
        if batch:
            yield batch

    def _decode_or_split(self, draws: Sequence[Draw], results: Sequence[Drawn]) -> None:
        """Decodes a batch; where memory runs out, halves it, and keeps later batches to the size that fitted."""
        fresh = [Drawn() for _ in draws]
        try:
            self._decode_batch(draws, fresh)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure: BaseException = error
        else:
            for result, outcome in zip(results, fresh, strict=True):
                result.__dict__.update(outcome.__dict__)
            return
        if len(draws) == 1:
            raise OutOfMemoryError(
                f"one draw of {draws[0].streams} streams and {len(draws[0].target)} prompt tokens does not fit into "
                "memory; use a smaller model, a narrower --dtype or another --device"
            ) from failure
        del failure
        release_memory(self._model.device)
        half = len(draws) // 2
        self.rows = max(1, min(self.rows, sum(draw.streams for draw in draws[:half])))
        self._decode_or_split(draws[:half], results[:half])
        self._decode_or_split(draws[half:], results[half:])

    def _decode_batch(self, draws: Sequence[Draw], results: Sequence[Drawn]) -> None:
        prompts = list(dict.fromkeys(prompt for draw in draws for prompt in (draw.target, *draw.counters)))
        states = self._model.read_prompts(prompts)
        index = {prompt: i for i, prompt in enumerate(prompts)}
        pending = sorted(range(len(draws)), key=lambda i: draws[i].streams)
        for attempt in range(self.options.max_tries):
            endings = self._try_once([draws[i] for i in pending], attempt, states, index)
            for i, (ending, tokens) in zip(pending, endings, strict=True):
                results[i].text, results[i].tokens = ending.text, tokens
                results[i].tries += 1
                if ending.rejection:
                    results[i].rejections[ending.rejection] += 1
            pending = [i for i in pending if results[i].text is None]
            if not pending:
                return

    def _try_once(
        self, draws: Sequence[Draw], attempt: int, states: PromptStates, index: dict[tuple[int, ...], int]
    ) -> list[tuple[Ending, tuple[int, ...]]]:
        """Makes one try of several draws, sorted by their number of streams; returns endings and token ids."""
        steps = self.options.max_new_tokens
        keys = [draw_key(self._seed, draw.x1, draw.label, draw.sample, attempt) for draw in draws]
        batch = _Batch(draws, states, index, uniforms(keys, steps), steps)
        texts: list[list[int]] = [[] for _ in draws]
        endings: list[Ending | None] = [None] * len(draws)
        logits = states.logits.index_select(0, batch.prompt_of_row)
        for step in range(steps):
            tokens = self._next_tokens(logits, batch, step)
            drawn, suspicious = torch.stack((tokens, self._may_end[tokens].to(tokens.dtype))).tolist()
            for i, token, suspect in zip(batch.draws, drawn, suspicious, strict=True):
                if endings[i] is None:
                    texts[i].append(token)
                    endings[i] = self._stop.examine(texts[i]) if suspect else None
            alive = [place for place, i in enumerate(batch.draws) if endings[i] is None]
            if not alive or step == steps - 1:
                break
            if len(alive) <= _COMPACT_BELOW * len(batch.draws):
                tokens = tokens[batch.compact(alive)]
            logits = self._model.read_tokens(tokens[batch.draw_of_row], batch.cache, step)
        unfinished = Ending(None, "no closing quote")
        return [(ending or unfinished, tuple(text)) for ending, text in zip(endings, texts, strict=True)]

    def _next_tokens(self, logits: torch.Tensor, batch: _Batch, step: int) -> torch.Tensor:
        """Draws the next token of every draw from the debiased distribution; shape (draws,)."""
        logits.masked_fill_(self._unreachable, -torch.inf)
        uniform = batch.uniforms[:, step].to(logits.device)
        options, tokens, row, first = self.options, [], 0, 0
        for counters, size in batch.groups:
            rows = logits[row : row + size * (1 + counters)].view(size, 1 + counters, -1)
            probabilities = rows.softmax(dim=-1)
            debiased = self_debias(
                probabilities[:, 0],
                probabilities[:, 1:],
                decay_constant=options.decay_constant,
                decay_floor=options.decay_floor,
            )
            kept, ids = top_k_top_p(debiased, top_k=options.top_k, top_p=options.top_p)
            tokens.append(draw_tokens(kept, ids, uniform[first : first + size]))
            row += rows.shape[0] * rows.shape[1]
            first += size
        return torch.cat(tokens)


class _Batch:
    """The streams being decoded: draws in the order of their stream count, each with its target stream first."""

    def __init__(
        self,
        draws: Sequence[Draw],
        states: PromptStates,
        index: dict[tuple[int, ...], int],
        numbers: torch.Tensor,
        steps: int,
    ) -> None:
        device = states.lengths.device
        self.draws = list(range(len(draws)))
        self.uniforms = numbers
        self._counters = [len(draw.counters) for draw in draws]
        rows = [index[prompt] for draw in draws for prompt in (draw.target, *draw.counters)]
        self.prompt_of_row = torch.tensor(rows, device=device)
        self.cache: StreamCache | SharedCache = states.start_streams(self.prompt_of_row, steps - 1)
        self._number_rows(device)

    def _number_rows(self, device: torch.device) -> None:
        self.groups = [(count, len(list(group))) for count, group in groupby(self._counters)]
        sizes = torch.tensor([1 + count for count in self._counters], device=device)
        self.draw_of_row = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)

    def compact(self, places: Sequence[int]) -> torch.Tensor:
        """Drops the streams of all draws but those at the given places.

        Returns:
            The places as a tensor, to select by.
        """
        device = self.draw_of_row.device
        kept = torch.tensor(places, device=device)
        wanted = torch.zeros(len(self.draws), dtype=torch.bool, device=device)
        wanted[kept] = True
        self.cache.keep(wanted[self.draw_of_row].nonzero().squeeze(1))
        self.draws = [self.draws[place] for place in places]
        self.uniforms = self.uniforms[kept.to(self.uniforms.device)]
        self._counters = [self._counters[place] for place in places]
        self._number_rows(device)
        return kept
