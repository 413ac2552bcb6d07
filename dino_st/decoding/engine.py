"""The decoding engine: plan, prefill, decode, stop, refill, emit.

Self-debiasing (arXiv 2104.07540, section 3) for many texts at once. For every draw, the target stream and its
counter-streams are rows of one batch; after each step the debiased target distribution is cut by top-k and top-p, one
token is drawn, and all streams of the draw go on with it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from dino_st.decoding.batch import Draw, Drawn, StreamBatch, token_log_probs
from dino_st.decoding.memory import context_length, is_out_of_memory, release_memory, streams_at_once
from dino_st.decoding.options import DecodingOptions
from dino_st.decoding.sampling import draw_debiased, draw_key, uniforms
from dino_st.decoding.slots import Flight, Slots
from dino_st.decoding.stopping import Ending, StopRule, TextForm, end_of_text_ids
from dino_st.errors import ConfigurationError, OutOfMemoryError
from dino_st.forward.cache import Indices, PackedStates, PromptStates, on_device
from dino_st.forward.fused import fused_forwards, replaced
from dino_st.forward.head import float32_head
from dino_st.forward.probe import probe
from dino_st.forward.runner import CausalModel, Prompts, chunks_by_length

__all__ = ["DecodingEngine", "Draw", "Drawn"]

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
_Item = tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]
"""Prompts, and a text for each."""

_ENTRIES = {"cpu": 2**21}
_ENTRIES_ELSEWHERE = 2**27
"""Probabilities that are debiased and cut at once: what a cache holds, or little of a GPU's memory."""

_TOKENS = {"cpu": 1024}
_TOKENS_ELSEWHERE, _LOGITS_ELSEWHERE = 32_768, 2**30
"""Tokens read at once; each takes a row as long as the vocabulary, of which there are so many entries at most."""


class DecodingEngine:
    """Writes texts for many draws at once.

    Draws of one x1 share its prompts, every prompt is read once, and a draw's counter-streams are forced to the
    continuation of its target stream. Random numbers belong to the draw, so neither the batch nor the order of the
    draws changes what is written, up to floating-point rounding of the model itself.

    The model is a decoder-only one in evaluation mode. The prompts of at most `rows` streams, but for a single draw
    that exceeds it, are read together; part of these streams is decoded at a time (`memory.streams_at_once`).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        options: DecodingOptions,
        *,
        seed: int,
        rows: int,
        form: TextForm = TextForm(),  # noqa: B008  # frozen
    ) -> None:
        self.options = options
        self.rows = rows
        self._seed = seed
        longest = context_length(model, options.max_total_tokens)
        self._model = CausalModel(model, probe(model))
        size = model.get_output_embeddings().weight.shape[0]
        ends = end_of_text_ids(model, tokenizer)
        marks = dict.fromkeys((*form.closing_marks, *("“”" if options.curly_quotes else "")))
        form = replace(form, closing_marks=tuple(marks))
        self._stop = StopRule(tokenizer, size, end_ids=ends, min_words=options.min_words, form=form)
        self._may_end = self._stop.may_end.to(self._model.device)
        self._unreachable = self._stop.unreachable.nonzero().squeeze(1).to(self._model.device)
        self._fused = fused_forwards(model)
        self._slots: Slots | None = None
        if self._model.reading.fits_slots:
            self._slots = Slots(self._model, options, unreachable=self._unreachable, may_end=self._may_end)
        self.longest_prompt = longest - options.max_new_tokens
        if self.longest_prompt < 1:
            raise ConfigurationError(
                f"max_new_tokens = {options.max_new_tokens} leaves no room for a prompt: the model attends to "
                f"{longest} tokens in all"
            )

    def decode(self, draws: Sequence[Draw]) -> list[Drawn]:
        """Writes a text for every draw, in the same order.

        Draws of one x1 should follow one another, since they share prompts. Raises OutOfMemoryError if a single draw
        does not fit into memory.
        """
        if self.options.decay_constant == 0:  # the counter-prompts have no say, so they are not read
            draws = [replace(draw, counters=()) for draw in draws]
        results, fitting = dict[int, Drawn](), []
        for i, draw in enumerate(draws):
            if max(len(prompt) for prompt in (*draw.prompts, *draw.scored)) > self.longest_prompt:
                results[i] = Drawn(rejections=Counter({"prompt too long": 1}))
            else:
                fitting.append(i)
        with torch.inference_mode(), float32_head(self._model.model), replaced(self._fused):
            batches = list(self._batches(draws, fitting))
            if self._slots is not None:
                self._slots.prepare([[draws[i] for i in batch] for batch in batches])
            for batch in batches:
                outcomes = self._halving(self._decode_batch, [draws[i] for i in batch], lambda draw: draw.streams)
                results |= zip(batch, outcomes, strict=True)
        return [results[i] for i in range(len(draws))]

    def score(
        self, prompts: Sequence[tuple[tuple[int, ...], ...]], texts: Sequence[tuple[tuple[int, ...], ...]]
    ) -> list[tuple[float, ...]]:
        """How likely texts are: log p(text | prompt) in nats for every prompt of every item.

        Each prompt has its text, at least one token; items that share prompts should follow one another. End-of-text is
        impossible, as in decoding. Raises OutOfMemoryError if a single item does not fit into memory.
        """
        items = list(zip(prompts, texts, strict=True))
        size = max(1, self.rows // max((len(item) for item in prompts), default=1))
        scores: list[tuple[float, ...]] = []
        with torch.inference_mode(), float32_head(self._model.model), replaced(self._fused):
            for start in range(0, len(items), size):
                scores += self._halving(self._score_batch, items[start : start + size], lambda item: len(item[0]))
        return scores

    def _score_batch(self, items: Sequence[_Item]) -> list[tuple[float, ...]]:
        prompts = [prompt for given, _ in items for prompt in given]
        texts = [text for _, given in items for text in given]
        states = self._model.read_prompts(prompts)
        scores = iter(score_texts(self._model, states, prompts, texts, self._unreachable))
        return [tuple(islice(scores, len(given))) for given, _ in items]

    def _halving(
        self, work: Callable[[Sequence[_Given]], list[_Made]], items: Sequence[_Given], rows: Callable[[_Given], int]
    ) -> list[_Made]:
        """Works on items together; where memory runs out, on each half, and later ones take no more rows than it."""
        half = len(items) // 2
        if half and sum(map(rows, items)) > self.rows:
            return self._halving(work, items[:half], rows) + self._halving(work, items[half:], rows)
        try:
            return work(items)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(items) == 1:
                raise OutOfMemoryError(
                    "a single text and its prompts do not fit into memory; use a smaller model, a narrower --dtype or "
                    "another --device"
                ) from error
        self._model.buffers.release()
        if self._slots is not None:
            self._slots.release()
        release_memory(self._model.device)
        self.rows = min(self.rows, max(sum(map(rows, items[:half])), sum(map(rows, items[half:]))))
        return self._halving(work, items[:half], rows) + self._halving(work, items[half:], rows)

    def _batches(self, draws: Sequence[Draw], indices: Sequence[int]) -> Iterator[list[int]]:
        """Packs draws into batches, those of one input side by side.

        Where streams share rows, inputs of similar length are together; slots are none the worse for a mixture, and
        the largest batch is smaller.
        """
        groups = [list(group) for _, group in groupby(indices, key=lambda i: draws[i].x1)]
        if self._slots is None:
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

    def _decode_batch(self, draws: Sequence[Draw]) -> list[Drawn]:
        """Makes up to `max_tries` tries of every draw, and scores the texts that came of them.

        Part of the streams is decoded together. Whenever draws end, those that wait take their place, rejected ones
        first, so that only the very last leave rows empty.
        """
        prompts = [prompt for draw in draws for prompt in (*draw.prompts, *draw.scored)]
        most = max(streams_at_once(self.rows, self._model.model), *(draw.streams for draw in draws))
        tries = _Tries(draws, self._stop, self.options, self._seed)
        if self._slots is None:
            states = self._model.read_prompts(prompts)
            log_probs = self._decode_rows(draws, tries, states, most)
        else:
            states = self._model.read_prompts(prompts, self._slots.room_for_prompts)
            log_probs = self._decode_slots(draws, tries, states, most)
        results = tries.results
        known = [dict(zip(draw.prompts, kept, strict=bool(kept))) for draw, kept in zip(draws, log_probs, strict=True)]
        written = [i for i, result in enumerate(results) if result.text is not None and draws[i].scored]
        missing = [(i, prompt) for i in written for prompt in draws[i].scored if prompt not in known[i]]
        prompts, texts = [prompt for _, prompt in missing], [results[i].tokens for i, _ in missing]
        scores = score_texts(self._model, states, prompts, texts, self._unreachable)
        for (i, prompt), score in zip(missing, scores, strict=True):
            known[i][prompt] = score
        for i in written:
            results[i].log_probs = tuple(known[i][prompt] for prompt in draws[i].scored)
        return results

    def _decode_rows(
        self, draws: Sequence[Draw], tries: _Tries, states: PromptStates, most: int
    ) -> Sequence[Sequence[float]]:
        """Decodes draws whose streams share rows as long as they are alike; returns what each stream's text scores."""
        batch = StreamBatch(draws, self._model, states, steps=self.options.max_new_tokens, most_rows=most)
        going, logits = np.zeros(0, dtype=np.int64), None
        while True:
            if logits is not None:
                going = self._extend(batch, tries, going, logits)
            while fresh := tries.next(most - int(batch.streams[going].sum())):
                begun = np.array(sorted(fresh, key=batch.streams.__getitem__))
                first = batch.begin(begun, tries.uniforms(begun))
                going = np.concatenate((going, self._extend(batch, tries, begun, first)))
            if not len(going):
                break
            going = going[batch.streams[going].argsort(kind="stable")]
            logits = batch.advance(going, tries.newest(going))
        return batch.log_probs(tries.lengths.tolist())

    def _decode_slots(
        self, draws: Sequence[Draw], tries: _Tries, states: PromptStates, most: int
    ) -> Sequence[Sequence[float]]:
        """Decodes draws whose streams have slots of their own; returns what each stream's text scores.

        What a step has drawn is read while the next one runs, so a text that ends has one token too many, which counts
        for nothing.
        """
        slots = cast(Slots, self._slots)
        slots.load(cast(PackedStates, states), draws, most)
        flights: deque[Flight] = deque()
        while True:
            if slots.has_room and (fresh := np.array(tries.next(slots.free))).size:
                flights.append(slots.begin(fresh, tries.uniforms(fresh)))
            behind = 0 if slots.is_empty else 1
            if behind:
                flights.append(slots.step())
            elif not flights:
                break
            while len(flights) > behind:
                flight = flights.popleft()
                tokens, may_end = flight.read()
                is_current = slots.is_current(flight)
                these = flight.draws[is_current]
                goes_on = tries.add(these, tokens[is_current], may_end[is_current] > 0)
                slots.end(these[~goes_on])
        return slots.log_probs(tries.lengths.tolist())

    def _extend(self, batch: StreamBatch, tries: _Tries, draws: Indices, logits: torch.Tensor) -> Indices:
        """Draws the next token of some draws, sorted by their number of streams; returns those that go on."""
        tokens = self._next_tokens(logits, batch, draws, tries.lengths[draws])
        drawn, suspicious = torch.stack((tokens, self._may_end[tokens].to(tokens.dtype))).cpu().numpy()
        extended: Indices = draws[tries.add(draws, drawn, suspicious > 0)]
        return extended

    def _next_tokens(self, logits: torch.Tensor, batch: StreamBatch, draws: Indices, steps: Indices) -> torch.Tensor:
        """Draws the next token of draws from the debiased distribution; shape (draws,)."""
        logits.index_fill_(1, self._unreachable, -torch.inf)
        limit = _ENTRIES.get(logits.device.type, _ENTRIES_ELSEWHERE) // logits.shape[1]
        uniform, tokens, row, first = batch.uniforms(draws, steps), [], 0, 0
        for streams, group in groupby(batch.streams[draws].tolist()):
            size, at_once = len(list(group)), max(1, limit // streams)
            for count in (min(at_once, size - begin) for begin in range(0, size, at_once)):
                these, rows = slice(first, first + count), logits[row : row + count * streams].view(count, streams, -1)
                room = self._model.buffers.take("probabilities", rows.shape, logits)
                probabilities = torch.softmax(rows, dim=-1, out=room)
                target, counters = probabilities[:, 0], probabilities[:, 1:]
                tokens.append(draw_debiased(target, counters, uniform[these], self.options))
                batch.record(draws[these], steps[these], rows, probabilities, tokens[-1])
                row, first = row + count * streams, these.stop
        return torch.cat(tokens)


class _Tries:
    """The tries of a set of draws: which wait, what each has written, and what became of them."""

    def __init__(self, draws: Sequence[Draw], stop: StopRule, options: DecodingOptions, seed: int) -> None:
        self._draws, self._stop, self._options, self._seed = draws, stop, options, seed
        self._waiting = deque(range(len(draws)))
        self.results, self.lengths = [Drawn() for _ in draws], np.zeros(len(draws), dtype=np.int64)
        self._tokens = np.zeros((len(draws), options.max_new_tokens), dtype=np.int64)

    def next(self, streams: int) -> list[int]:
        """Draws that wait, of so many streams together."""
        taken: list[int] = []
        while self._waiting and (streams := streams - self._draws[self._waiting[0]].streams) >= 0:
            taken.append(self._waiting.popleft())
        self.lengths[taken] = 0
        return taken

    def uniforms(self, draws: Indices) -> torch.Tensor:
        """The random numbers of the next try of some draws, shape (draws, steps)."""
        names = [(self._draws[i], self.results[i].tries) for i in draws]
        keys = [draw_key(self._seed, draw.x1, draw.label, draw.sample, attempt) for draw, attempt in names]
        return uniforms(keys, self._options.max_new_tokens)

    def newest(self, draws: Indices) -> Indices:
        """The token that each of some draws has drawn last."""
        newest: Indices = self._tokens[draws, self.lengths[draws] - 1]
        return newest

    def add(self, draws: Indices, tokens: Indices, may_end: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Takes the token that each of some draws has drawn; whether their texts go on."""
        self._tokens[draws, self.lengths[draws]] = tokens
        self.lengths[draws] += 1
        is_full = self.lengths[draws] == self._options.max_new_tokens
        goes_on: npt.NDArray[np.bool_] = ~is_full
        for place in (may_end | is_full).nonzero()[0]:
            draw = int(draws[place])
            text, result = self._tokens[draw, : self.lengths[draw]].tolist(), self.results[draw]
            ending = self._stop.examine(text) if may_end[place] else None
            if ending is None and is_full[place]:
                ending = Ending(None, "no closing quote")
            if ending is None:
                continue
            goes_on[place] = False
            result.text, result.tokens, result.tries = ending.text, tuple(text), result.tries + 1
            if ending.rejection:
                result.rejections[ending.rejection] += 1
                if result.tries < self._options.max_tries:
                    self._waiting.appendleft(draw)
        return goes_on


def score_texts(
    model: CausalModel, states: PromptStates, prompts: Prompts, texts: Prompts, unreachable: torch.Tensor
) -> list[float]:
    """Log-probabilities in nats of whole texts, at least one token each, after their prompts: the sum over the tokens.

    `states` is what the model kept of the prompts; unreachable ids have no share of the probability.
    """
    scores = [0.0] * len(texts)
    elsewhere = min(_TOKENS_ELSEWHERE, _LOGITS_ELSEWHERE // states.logits.shape[1])
    limit = _TOKENS.get(model.device.type, elsewhere)
    for chunk in chunks_by_length([len(text) for text in texts], tokens=limit):
        sums = _score_chunk(model, states, [prompts[i] for i in chunk], [texts[i] for i in chunk], unreachable)
        for i, score in zip(chunk, sums.tolist(), strict=True):
            scores[i] = score
    return scores


def _score_chunk(
    model: CausalModel, states: PromptStates, prompts: Prompts, texts: Prompts, unreachable: torch.Tensor
) -> torch.Tensor:
    longest, device = max(map(len, texts)), model.device
    places = np.array([states.index[prompt] for prompt in prompts])
    padded = torch.tensor([[*text, *([0] * (longest - len(text)))] for text in texts], device=device)
    logits = states.logits.index_select(0, on_device(places, device)).index_fill_(-1, unreachable, -torch.inf)
    total = token_log_probs(logits, padded[:, 0])
    if longest == 1:
        return total
    logits = model.read_texts(padded[:, :-1], states, places).index_fill_(-1, unreachable, -torch.inf)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    behind = torch.arange(1, longest, device=device) >= lengths.unsqueeze(1)
    return total + token_log_probs(logits, padded[:, 1:]).masked_fill_(behind, 0).sum(dim=1)
