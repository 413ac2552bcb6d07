"""Attention in which all streams of one prompt read its keys and values from one place.

The scores over a prompt are one matrix product for each of its heads, with the prompt's streams as rows; the scores
over what each stream has written stand beside them, and one softmax covers both. That is the same function as attention
over a copy of the prompt's states for each stream.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

from dino_st.decoding.buffers import StreamBuffers, move_to_front

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


class SharedLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """One layer: the prompts' states once, and a buffer for what the streams write."""

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, key_buffer: torch.Tensor, value_buffer: torch.Tensor
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = keys.dtype, keys.device
        self.prompt_keys, self.prompt_values = keys, values
        self.key_buffer, self.value_buffer = key_buffer, value_buffer
        self.written = 0
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to do: the buffers exist from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the states of a new token for each stream and returns all that the streams have written."""
        self.key_buffer[:, :, self.written : self.written + 1] = key_states
        self.value_buffer[:, :, self.written : self.written + 1] = value_states
        self.written += 1
        return self.key_buffer[:, :, : self.written], self.value_buffer[:, :, : self.written]

    def get_seq_length(self) -> int:
        """Positions filled so far, those of the longest prompt among them."""
        return int(self.prompt_keys.shape[2]) + self.written

    def keep_streams(self, rows: torch.Tensor) -> None:
        """Drops every stream but the given ones; they move to the front of the buffers, as far as these are written."""
        self.key_buffer = move_to_front(self.key_buffer, rows, self.written)
        self.value_buffer = move_to_front(self.value_buffer, rows, self.written)

    def keep_prompts(self, prompts: torch.Tensor) -> None:
        """Drops every prompt but the given ones."""
        self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]


class SharedCache(Cache):
    """Keys and values of prompts and streams, and which stream continues which prompt.

    Args:
        layers: Keys and values of each layer's prompts, shape (prompts, heads, width, head size), right-aligned.
        prompt_of_row: Index of the prompt that each stream continues, shape (streams,).
        lengths: Tokens of each prompt, shape (prompts,).
        steps: Tokens to make room for.
        buffers: Where they are written.
    """

    def __init__(
        self,
        layers: Sequence[tuple[torch.Tensor, torch.Tensor]],
        prompt_of_row: torch.Tensor,
        lengths: torch.Tensor,
        steps: int,
        buffers: StreamBuffers,
    ) -> None:
        def room(name: str, like: torch.Tensor) -> torch.Tensor:
            return buffers.take(name, (len(prompt_of_row), like.shape[1], steps, like.shape[3]), like)

        self._shared = [
            SharedLayer(keys, values, room(f"keys {number}", keys), room(f"values {number}", values))
            for number, (keys, values) in enumerate(layers)
        ]
        super().__init__(layers=list(self._shared))
        self._lengths, self._prompt_of_row = lengths, prompt_of_row
        width = layers[0][0].shape[2]
        columns = torch.arange(width, device=lengths.device)
        self._hidden = columns < width - lengths.unsqueeze(1)
        self._arrange()

    def attention_mask(self) -> None:
        """The attention function hides what must not be seen by itself."""

    def position_ids(self, step: int) -> torch.Tensor:
        """Position of the next token of each stream, shape (streams, 1)."""
        return (self._lengths[self._prompt_of_row] + step).unsqueeze(1)

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every stream but the given ones, and prompts without a stream where there are many."""
        self._prompt_of_row = self._prompt_of_row[rows]
        for layer in self._shared:
            layer.keep_streams(rows)
        self._arrange()

    def _arrange(self) -> None:
        """Lays the streams out in a grid (prompts, most streams of a prompt); empty places repeat stream 0."""
        used = self._prompt_of_row.bincount().nonzero().squeeze(1)
        if len(used) <= _SELECT_BELOW * len(self._lengths):
            self._prompt_of_row = torch.searchsorted(used, self._prompt_of_row)
            self._lengths, self._hidden = self._lengths[used], self._hidden[used]
            for layer in self._shared:
                layer.keep_prompts(used)
        order = self._prompt_of_row.argsort(stable=True)
        counts = self._prompt_of_row.bincount(minlength=len(self._lengths))
        self.most = int(counts.max())
        first = counts.cumsum(0) - counts
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device) - first[self._prompt_of_row[order]]
        self.slot_of_row = self._prompt_of_row * self.most + place
        self.row_of_slot = torch.zeros(len(counts) * self.most, dtype=torch.int64, device=order.device)
        self.row_of_slot[self.slot_of_row] = torch.arange(len(order), device=order.device)

    def attend(self, layer: int, query: torch.Tensor, scaling: float) -> torch.Tensor:
        """Attention of one new token of each stream over its prompt and over what it has written.

        Args:
            layer: Number of the layer.
            query: Shape (streams, heads, head size).
            scaling: What scores are multiplied by.

        Returns:
            Shape (streams, heads, head size).
        """
        states = self._shared[layer]
        prompts, groups, width, size = states.prompt_keys.shape
        streams, heads, _ = query.shape
        repeats = heads // groups
        query = query * scaling
        grid = query.index_select(0, self.row_of_slot).view(prompts, self.most, groups, repeats, size)
        grid = grid.transpose(1, 2).reshape(prompts, groups, self.most * repeats, size)
        scores = grid @ states.prompt_keys.transpose(2, 3)
        scores = scores.masked_fill_(self._hidden[:, None, None, :], -torch.inf)
        scores = scores.view(prompts, groups, self.most, repeats, width).transpose(1, 2)
        over_prompt = scores.reshape(prompts * self.most, heads, width).index_select(0, self.slot_of_row)
        written = slice(0, states.written)
        own = query.view(streams, groups, repeats, size) @ states.key_buffer[:, :, written].transpose(2, 3)
        scores = torch.cat((over_prompt, own.view(streams, heads, -1)), dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
        grid = weights[..., :width].index_select(0, self.row_of_slot).view(prompts, self.most, groups, repeats, width)
        grid = grid.transpose(1, 2).reshape(prompts, groups, self.most * repeats, width) @ states.prompt_values
        grid = grid.view(prompts, groups, self.most, repeats, size).transpose(1, 2)
        from_prompt = grid.reshape(prompts * self.most, heads, size).index_select(0, self.slot_of_row)
        own = weights[..., width:].reshape(streams, groups, repeats, -1) @ states.value_buffer[:, :, written]
        return from_prompt + own.view(streams, heads, size)


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
