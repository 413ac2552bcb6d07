"""Reading with the model: prompts once each, what several begin with once for all, then a token a row at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache

from dino_st.decoding.attention import SharedCache, can_share, shared_attention
from dino_st.decoding.cache import CopiedCache, Indices, Layers, PromptStates, RowCache, StreamBuffers
from dino_st.decoding.head import head_rows

_PASS = {"cpu": 64}
_PASS_ELSEWHERE = 512
"""Tokens that a forward pass takes as long for as to get under way: what it must save to be worth it."""

_LEVELS = 16
"""How often a group is split at most."""

_PREFILL_TOKENS = 16_384
"""Tokens of one prefill forward pass: enough to keep any hardware busy."""

Prompts = Sequence[tuple[int, ...]]


def common_heads(prompts: Prompts, device: str) -> list[tuple[int, list[int]]]:
    """Groups prompts by their beginnings, so that few tokens are read in all.

    Prompts for one label differ only in their sentence, and what stands before it is longer than most sentences.

    Args:
        prompts: Distinct token ids, at least one token each.
        device: Kind of device, such as `cuda`.

    Returns:
        For each group the number of tokens that all its prompts begin with (always less than the shortest has), and the
        indices of its prompts.
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
    """Says which rows are read in one forward pass: those of like length.

    Args:
        lengths: Tokens of each row.
        tokens: How many a pass takes, padding included; a single row may exceed it.
        padding: How many of these may be padding; None for any number.

    Yields:
        Indices of rows, shortest first.
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

    Options that not every architecture has (`position_ids`, `logits_to_keep`) are passed where they exist.

    Attributes:
        model: A transformers causal model.
        shares: Whether streams read their prompt's keys and values where they are, instead of from a copy for each.
        buffers: Where streams write; a batch that is started ends the one before.
    """

    def __init__(self, model: Any, *, longest: int) -> None:
        """Prepares a model for texts that take, with their prompts, so many tokens at most."""
        self.model = model
        self.shares = can_share(model, longest)
        self.buffers = StreamBuffers()
        self.device: torch.device = model.device
        wrapped = model.get_base_model() if hasattr(model, "get_base_model") else model  # a PEFT model passes all on
        self._parameters = inspect.signature(wrapped.forward).parameters

    @torch.inference_mode()
    def read_prompts(self, prompts: Prompts) -> PromptStates:
        """Runs the model over prompts; of those that are the same, once.

        Where the model's attention is known (`can_share`), what a group of prompts begins with is read once, and their
        rests are read together with little padding between the two parts; padding attends to the beginning, so that it
        stays finite. All other prompts are read with those of the same length, so that nothing is padded.
        """
        prompts = list(dict.fromkeys(prompts))
        states: PromptStates | None = None
        spare = _PASS.get(self.device.type, _PASS_ELSEWHERE)
        groups = common_heads(prompts, self.device.type) if self.shares else [(0, list(range(len(prompts))))]
        for head, members in groups:
            before = self._read_rows([prompts[members[0]][:head]], [])[0] if head else []
            lengths = [len(prompts[i]) - head for i in members]
            for chunk in chunks_by_length(lengths, tokens=_PREFILL_TOKENS, padding=spare if head else 0):
                places = [members[i] for i in chunk]
                layers, logits = self._read_rows([prompts[i][head:] for i in places], before)
                states = states or PromptStates.empty(prompts, layers, logits)
                states.store(places, head, layers, logits)
        if states is None:
            raise ValueError("no prompts")
        return states

    def _read_rows(self, rows: Prompts, before: Layers) -> tuple[Layers, torch.Tensor]:
        """Reads left-padded rows, all behind the same tokens; returns the states, and the logits after each row."""
        cache, start = DynamicCache(), before[0][0].shape[2] if before else 0
        for number, (keys, values) in enumerate(before):
            cache.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), number)
        lengths, longest = torch.tensor([len(row) for row in rows], device=self.device), max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=self.device)
        columns = torch.arange(longest, device=self.device) - (longest - lengths.unsqueeze(1))
        mask = None
        if (columns < 0).any():
            mask = torch.cat((columns.new_ones(len(rows), start), (columns >= 0).to(torch.int64)), dim=1)
        logits = self._forward(ids, cache, mask, start + columns.clamp(min=0))[:, -1]
        layers: list[Any] = cache.layers  # of those of any cache, these have keys and values
        return [(layer.keys, layer.values) for layer in layers], logits

    def start_rows(self, states: PromptStates, prompt_of_row: Indices, most_rows: int, steps: int) -> RowCache:
        """Gives rows their prompts' states, with room for so many rows and so many tokens to come."""
        if self.shares:
            return SharedCache(states, prompt_of_row, most_rows, steps, self.buffers)
        return CopiedCache(states, prompt_of_row, steps, most_rows=most_rows)

    @torch.inference_mode()
    def read_tokens(
        self, tokens: torch.Tensor, cache: RowCache, row_of_stream: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Appends one token to every row.

        Args:
            tokens: Shape (rows,).
            cache: The rows' states; extended in place.
            row_of_stream: Which row has the text of each stream, shape (streams,).
            step: How many tokens each stream has had before this one.

        Returns:
            Next-token logits, float32 or wider, shape (streams, vocabulary).
        """
        with head_rows(self.model, row_of_stream) as head, shared_attention(self.model, cache):
            mask, positions = cache.attention_mask(), cache.position_ids(step)
            logits = self._forward(tokens.unsqueeze(1), cache, mask, positions)[:, -1]
        return logits if head.has_selected else logits.index_select(0, row_of_stream)

    @torch.inference_mode()
    def read_texts(self, ids: torch.Tensor, states: PromptStates, prompt_of_row: Indices) -> torch.Tensor:
        """Reads whole texts behind their prompts, whose states are left as they are.

        Args:
            ids: Tokens, shape (texts, length); shorter texts are padded at their end.
            states: The prompts' states.
            prompt_of_row: Index of each text's prompt, shape (texts,).

        Returns:
            What the model predicts after each token, shape (texts, length, vocabulary), float32 or wider.
        """
        length = ids.shape[1]
        cache = CopiedCache(states, prompt_of_row, length)
        positions = cache.position_ids(0) + torch.arange(length, device=self.device)
        return self._forward(ids, cache, cache.attention_mask(length), positions, keep=length)

    def _forward(
        self, ids: torch.Tensor, cache: Cache, mask: torch.Tensor | None, positions: torch.Tensor, *, keep: int = 1
    ) -> torch.Tensor:
        options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": keep}
        options = {name: value for name, value in options.items() if name in self._parameters}
        output = self.model(input_ids=ids, past_key_values=cache, attention_mask=mask, use_cache=True, **options)
        logits: torch.Tensor = output.logits[:, -keep:]
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
