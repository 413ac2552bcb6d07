"""Reading with the model: prompts once each, what several begin with once for all, then a token a row at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache

from dino_st.forward.attention import SharedCache, shared_attention
from dino_st.forward.cache import (
    CopiedCache,
    Indices,
    Layers,
    PackedStates,
    PromptRoom,
    PromptStates,
    RowCache,
    StreamBuffers,
)
from dino_st.forward.head import HeadRows, head_rows
from dino_st.forward.slot_cache import SlotCache

_PASS = {"cpu": 64}
_PASS_ELSEWHERE = 8192
"""Tokens that a forward pass takes as long for as to get under way: what it must save to be worth it."""

_LEVELS = 16
"""How often a group is split at most."""

_PREFILL_TOKENS, _PREFILL_TOKENS_ELSEWHERE, _PREFILL_BYTES = 16_384, 65_536, 3e9
"""Tokens of one prefill forward pass: enough to keep a CPU, or other hardware, busy; there, and what they keep."""

_HEADS = 16
"""Beginnings of prompts whose states are kept for later batches."""

Prompts = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Reading:
    """How a model reads, as `probe` found out."""

    mixes_lengths: bool  # whether prompts of several lengths may be read side by side
    token_bytes: int = 0  # memory that the keys and values of one token take
    shares: bool = False  # whether streams may read their prompt's keys and values where they are
    fits_slots: bool = False  # whether, too, every stream may have a slot of its own


def common_heads(prompts: Prompts, device: str) -> list[tuple[int, list[int]]]:
    """Groups distinct prompts by their beginnings, so that few tokens are read in all.

    Prompts for one label differ only in their sentence, and what stands before it is longer than most sentences. A
    group is the number of tokens that all its prompts begin with (always less than the shortest has), and their
    indices. The kind of device, such as `cuda`, says what a forward pass costs.
    """
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    return _best_groups(prompts, order, _PASS.get(device, _PASS_ELSEWHERE), _LEVELS)[1] if order else []


def _best_groups(
    prompts: Prompts, indices: list[int], a_pass: int, levels: int
) -> tuple[int, list[tuple[int, list[int]]]]:
    """The cheapest grouping of sorted prompts, and its cost in tokens."""
    if len(indices) == 1:
        return len(prompts[indices[0]]) + a_pass, [(0, indices)]
    first, last = prompts[indices[0]], prompts[indices[-1]]
    shared = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    head = min(shared, min(len(prompts[i]) for i in indices) - 1)
    whole = sum(len(prompts[i]) - head for i in indices) + head + a_pass
    if levels == 0 or len(first) <= shared:  # the first is the beginning of all others
        return whole, [(head, indices)]
    parts = [
        _best_groups(prompts, list(part), a_pass, levels - 1)
        for _, part in groupby(indices, key=lambda i: prompts[i][shared])
    ]
    split = sum(cost for cost, _ in parts)
    if whole <= split:
        return whole, [(head, indices)]
    return split, [group for _, groups in parts for group in groups]


def chunks_by_length(lengths: Sequence[int], *, tokens: int, padding: int | None = None) -> Iterator[list[int]]:
    """Yields the indices of rows that are read in one forward pass, those of like length together, shortest first.

    A pass takes so many tokens, padding included, unless a single row exceeds it, and at most so much padding, if
    given.
    """
    chunk: list[int] = []
    own = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        area = (len(chunk) + 1) * lengths[i]
        if chunk and (area > tokens or (padding is not None and area - own - lengths[i] > padding)):
            yield chunk
            chunk, own = [], 0
        chunk.append(i)
        own += lengths[i]
    if chunk:
        yield chunk


class CausalModel:
    """What the engine asks of a transformers model: to read prompts, one more token a row, and whole texts.

    Options that not every architecture has (`position_ids`, `logits_to_keep`) are passed where they exist. How it reads
    is what `probe` found out. Streams write to `buffers`; a batch that is started ends the one before.
    """

    def __init__(self, model: Any, reading: Reading) -> None:
        self.model, self.reading, self.buffers = model, reading, StreamBuffers()
        self._heads: dict[tuple[int, ...], Layers] = {}
        self.device: torch.device = model.device
        wrapped = model.get_base_model() if hasattr(model, "get_base_model") else model  # a PEFT model passes all on
        options = {"position_ids", "logits_to_keep"} if reading.mixes_lengths else {"logits_to_keep"}
        parameters = inspect.signature(wrapped.forward).parameters
        self._options = options & set(parameters)
        self._cache = "cache" if "cache" in parameters else "past_key_values"  # its name before transformers 5.24
        self._pass_tokens = _PREFILL_TOKENS
        if self.device.type != "cpu":
            most = int(_PREFILL_BYTES / max(1, reading.token_bytes))
            self._pass_tokens = max(_PREFILL_TOKENS // 4, min(_PREFILL_TOKENS_ELSEWHERE, most))

    @torch.inference_mode()
    def read_prompts(self, prompts: Prompts, room: PromptRoom | None = None) -> PromptStates:
        """Runs the model over prompts; of those that are the same, once. In a `room`, what is kept of them is packed.

        Where streams share prompts, what a group of prompts begins with is read once, and their rests are read together
        with little padding at their end, which no token sees. All other prompts are read with those of the same length,
        so that nothing is padded.
        """
        prompts = list(dict.fromkeys(prompts))
        states: PromptStates | None = None
        spare = _PASS.get(self.device.type, _PASS_ELSEWHERE)
        groups = common_heads(prompts, self.device.type) if self.reading.shares else [(0, list(range(len(prompts))))]
        for head, members in groups:
            before = self._read_head(prompts[members[0]][:head]) if head else []
            lengths, pads = [len(prompts[i]) - head for i in members], head or (room and self.reading.mixes_lengths)
            for chunk in chunks_by_length(lengths, tokens=self._pass_tokens, padding=spare if pads else 0):
                places = [members[i] for i in chunk]
                layers, logits = self.read_rows([prompts[i][head:] for i in places], before)
                if states is None and room is not None:
                    states = PackedStates.into(prompts, layers, logits, room)
                states = states or PromptStates.empty(prompts, layers, logits)
                states.store(places, layers, logits)
        if states is None:
            raise ValueError("no prompts")
        return states

    def _read_head(self, head: tuple[int, ...]) -> Layers:
        """States of what prompts begin with, which most batches have in common."""
        if head not in self._heads:
            if len(self._heads) == _HEADS:
                del self._heads[next(iter(self._heads))]
            self._heads[head] = self.read_rows([head], [])[0]
        return self._heads[head]

    def read_rows(self, rows: Prompts, before: Layers) -> tuple[Layers, torch.Tensor]:
        """Reads rows, padded at their end, behind the same tokens; returns the states and the logits after each row."""
        cache, start = DynamicCache(), before[0][0].shape[2] if before else 0
        for number, (keys, values) in enumerate(before):
            cache.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), number)
        lengths, longest = torch.tensor([len(row) for row in rows], device=self.device), max(map(len, rows))
        ids = torch.tensor([[*row, *row[-1:] * (longest - len(row))] for row in rows], device=self.device)
        positions = torch.arange(start, start + longest, device=self.device).expand(len(rows), -1)
        everyone, last = torch.arange(len(rows), device=self.device), lengths - longest - 1
        with self._select(everyone, last) as head:
            logits = self._forward(ids, cache, None, positions, keep=longest - min(map(len, rows)) + 1)
        layers: list[Any] = cache.layers  # of those of any cache, these have keys and values
        return [(layer.keys, layer.values) for layer in layers], head.of(logits, everyone, last)

    def _select(self, rows: torch.Tensor, columns: torch.Tensor | int = -1) -> AbstractContextManager[HeadRows]:
        return head_rows(self.model, rows, columns) if self.reading.mixes_lengths else nullcontext(HeadRows())

    def start_rows(self, states: PromptStates, most_rows: int, steps: int) -> RowCache:
        """Room for so many rows that continue prompts, and so many tokens of each; none of them has begun."""
        if self.reading.shares:
            return SharedCache(states, most_rows, steps, self.buffers)
        return CopiedCache(states, most_rows, 2 * steps)

    @torch.inference_mode()
    def read_tokens(self, tokens: torch.Tensor, cache: RowCache, row_of_stream: torch.Tensor) -> torch.Tensor:
        """Appends one token, shape (rows,), to every row; the cache is extended in place.

        `row_of_stream`, shape (streams,), names the row that has each stream's text. Returns next-token logits, float32
        or wider, shape (streams, vocabulary).
        """
        with self._select(row_of_stream) as head, shared_attention(self.model, cache):
            logits = self._forward(tokens.unsqueeze(1), cache, cache.attention_mask(), cache.position_ids())
        return head.of(logits, row_of_stream)

    @torch.inference_mode()
    def read_slots(self, tokens: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """Reads one token, shape (rows,), of every row that the cache is arranged for; returns next-token logits.

        They have shape (rows, vocabulary), float32 or wider.
        """
        with shared_attention(self.model, cache):
            return self._forward(tokens.unsqueeze(1), cache, None, cache.position_ids())[:, -1]

    @torch.inference_mode()
    def read_texts(self, ids: torch.Tensor, states: PromptStates, prompt_of_row: Indices) -> torch.Tensor:
        """Reads whole texts behind their prompts, whose states are left as they are.

        Ids have shape (texts, length); shorter texts are padded at their end. Returns what the model predicts after
        each token, shape (texts, length, vocabulary), float32 or wider.
        """
        length, rows = ids.shape[1], np.arange(len(prompt_of_row))
        cache = CopiedCache(states, len(rows), length)
        cache.start(rows, prompt_of_row)
        cache.arrange(prompt_of_row, np.zeros_like(rows))
        positions = cache.position_ids() + torch.arange(length, device=self.device)
        return self._forward(ids, cache, cache.attention_mask(length), positions, keep=length)

    def _forward(
        self, ids: torch.Tensor, cache: Cache, mask: torch.Tensor | None, positions: torch.Tensor, *, keep: int = 1
    ) -> torch.Tensor:
        if not self.reading.mixes_lengths and isinstance(cache, CopiedCache):
            parts = list(cache.parts())
            read = [self._forward(ids[rows], part, None, positions[rows], keep=keep).clone() for rows, part in parts]
            return torch.cat(read)[cache.join(parts, ids.shape[1])]
        given: dict[str, Any] = {"position_ids": positions, "logits_to_keep": keep}
        options = {name: given[name] for name in self._options} | {self._cache: cache}
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **options)
        logits: torch.Tensor = output.logits[:, -keep:]
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
