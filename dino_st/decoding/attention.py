"""Attention in which all streams of one prompt read its keys and values from one place.

The scores over a prompt are one matrix product for each of its heads, with a row for each text that continues it; the
scores over what has been written stand beside them, and one softmax covers both. That is the same function as attention
over a copy of the prompt's states for each row.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from dino_st.decoding.cache import Indices, RowCache, RowLayer, StreamBuffers, on_device

logger = logging.getLogger(__name__)

NAME = "dino_st_shared_prompts"
"""Under which the attention function stands in transformers' registry."""

_FAMILIES = frozenset({"gpt2", "opt", "gpt_neox", "llama", "mistral", "qwen2"})
_SELECT_BELOW = 0.8
"""Prompts are selected anew when no more than this share of them still has a stream."""

_cache: ContextVar[SharedCache] = ContextVar("cache")


def can_share(model: Any, longest: int) -> bool:
    """Whether a model's attention is the plain one that this module computes.

    Args:
        model: A transformers causal model.
        longest: Tokens that a prompt and its text take together at most; a sliding window must cover them.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    known = config.model_type in _FAMILIES and config._attn_implementation in ("sdpa", "eager")
    known = known and not getattr(config, "reorder_and_upcast_attn", False) and (window is None or window >= longest)
    if not known:
        _say_once(config.model_type)
    return known


@functools.cache
def _say_once(model_type: str) -> None:
    logger.info("models of type %s decode with a copy of the prompt for each stream, which is slower", model_type)


class SharedLayer(RowLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """One layer: the prompts' states once, and buffers for what the rows write."""

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, key_buffer: torch.Tensor, value_buffer: torch.Tensor
    ) -> None:
        super().__init__(key_buffer, value_buffer)
        self.prompt_keys, self.prompt_values = keys, values

    def get_seq_length(self) -> int:
        """Positions filled so far, those of the longest prompt among them."""
        return int(self.prompt_keys.shape[2]) + self.filled

    def keep_prompts(self, prompts: torch.Tensor) -> None:
        """Drops every prompt but the given ones."""
        self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]


class SharedCache(RowCache):
    """Keys and values of prompts and rows, and which row continues which prompt.

    Args:
        layers: Keys and values of each layer's prompts, shape (prompts, heads, width, head size), right-aligned.
        lengths: Tokens of each prompt, shape (prompts,).
        prompt_of_row: Index of the prompt that each row continues, shape (rows,).
        most_rows: How many rows there may be.
        steps: Tokens to make room for.
        buffers: Where they are written.
    """

    def __init__(
        self,
        layers: Sequence[tuple[torch.Tensor, torch.Tensor]],
        lengths: torch.Tensor,
        prompt_of_row: Indices,
        most_rows: int,
        steps: int,
        buffers: StreamBuffers,
    ) -> None:
        def room(name: str, like: torch.Tensor) -> torch.Tensor:
            return buffers.take(name, (most_rows, like.shape[1], steps, like.shape[3]), like)

        self._shared = [
            SharedLayer(keys, values, room(f"keys {number}", keys), room(f"values {number}", values))
            for number, (keys, values) in enumerate(layers)
        ]
        super().__init__(self._shared, lengths.device)
        self._lengths = lengths
        width = layers[0][0].shape[2]
        columns = torch.arange(width, device=self._device)
        self._hidden = columns < width - lengths.unsqueeze(1)
        self._prompts = np.arange(len(lengths))
        self.arrange(prompt_of_row)

    def attention_mask(self) -> None:
        """The attention function hides what must not be seen by itself."""

    def position_ids(self, step: int) -> torch.Tensor:
        """Position of the next token of each row, shape (rows, 1)."""
        return (self._lengths[self._prompt_of_row] + step).unsqueeze(1)

    def arrange(self, prompt_of_row: Indices) -> None:
        """Lays the rows' heads out in a grid (prompts, key heads, most rows of a prompt); empty places repeat one."""
        used = np.unique(prompt_of_row)
        if len(used) <= _SELECT_BELOW * len(self._prompts):
            kept = on_device(np.searchsorted(self._prompts, used), self._device)
            self._prompts, self._hidden = used, self._hidden[kept]
            for layer in self._shared:
                layer.keep_prompts(kept)
        prompt = np.searchsorted(self._prompts, prompt_of_row)
        counts = np.bincount(prompt, minlength=len(self._prompts))
        self.most, groups = int(counts.max()), self._shared[0].prompt_keys.shape[1]
        place = np.empty_like(prompt)
        place[prompt.argsort(kind="stable")] = np.arange(len(prompt)) - np.repeat(counts.cumsum() - counts, counts)
        slot_of_row = (prompt[:, None] * groups + np.arange(groups)) * self.most + place[:, None]
        row_of_slot = np.zeros(len(counts) * groups * self.most, dtype=np.int64)
        row_of_slot[slot_of_row] = np.arange(slot_of_row.size).reshape(slot_of_row.shape)
        self._prompt_of_row = on_device(prompt_of_row, self._device)
        self.slot_of_row, self.row_of_slot = (
            on_device(slot_of_row.ravel(), self._device),
            on_device(row_of_slot, self._device),
        )

    def attend(self, layer: int, query: torch.Tensor, scaling: float) -> torch.Tensor:
        """Attention of one new token of each row over its prompt and over what it has written.

        Args:
            layer: Number of the layer.
            query: Shape (rows, heads, head size).
            scaling: What scores are multiplied by.

        Returns:
            Shape (rows, heads, head size).
        """
        states = self._shared[layer]
        prompts, groups, width, size = states.prompt_keys.shape
        rows, heads, _ = query.shape
        repeats = heads // groups
        query = (query * scaling).view(rows * groups, repeats, size)
        grid = query.index_select(0, self.row_of_slot).view(prompts, groups, self.most * repeats, size)
        scores = grid @ states.prompt_keys.transpose(2, 3)
        scores = scores.masked_fill_(self._hidden[:, None, None, :], -torch.inf)
        over_prompt = scores.view(-1, repeats, width).index_select(0, self.slot_of_row)
        written = slice(0, states.filled)
        own = query.view(rows, groups, repeats, size) @ states.key_buffer[:rows, :, written].transpose(2, 3)
        scores = torch.cat((over_prompt, own.view(rows * groups, repeats, -1)), dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
        grid = weights[..., :width].index_select(0, self.row_of_slot).view(prompts, groups, self.most * repeats, width)
        from_prompt = (grid @ states.prompt_values).view(-1, repeats, size).index_select(0, self.slot_of_row)
        own = weights[..., width:].view(rows, groups, repeats, -1) @ states.value_buffer[:rows, :, written]
        return (from_prompt + own.view(rows * groups, repeats, size)).view(rows, heads, size)


@contextmanager
def shared_attention(model: Any, cache: SharedCache) -> Iterator[None]:
    """Lets a model's attention read from a cache of shared prompts.

    Args:
        model: A transformers model for which `can_share` holds; its own attention is restored afterwards.
        cache: What is passed to it as `past_key_values`.
    """
    config = model.config.get_text_config()
    before, token = config._attn_implementation, _cache.set(cache)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _cache.reset(token)


def _attention(module: Any, query: torch.Tensor, *_: Any, scaling: float, **__: Any) -> tuple[torch.Tensor, None]:
    """The attention function of transformers' registry; keys and values come from the cache itself."""
    output = _cache.get().attend(module.layer_idx, query.squeeze(2), scaling)
    return output.unsqueeze(1), None


AttentionInterface.register(NAME, _attention)
