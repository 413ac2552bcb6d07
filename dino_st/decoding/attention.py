"""Attention in which all streams of one prompt read its keys and values from one place.

The scores over a prompt are one matrix product for each of its heads, with a row for each text that continues it; the
scores over what has been written stand beside them, and one softmax covers both. That is the same function as attention
over a copy of the prompt's states for each row.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from dino_st.decoding.cache import Indices, PromptStates, RowCache, RowLayer, StreamBuffers, on_device

logger = logging.getLogger(__name__)

NAME = "dino_st_shared_prompts"
"""Under which the attention function stands in transformers' registry."""

_FAMILIES = frozenset({"gpt2", "opt", "gpt_neox", "llama", "mistral", "qwen2"})
_SELECT_BELOW = 0.8
"""Prompts are selected anew when no more than this share of them still has a stream."""

_cache: ContextVar[SharedCache] = ContextVar("cache")


def can_share(model: Any, longest: int) -> bool:
    """Whether a model's attention is the plain one of this module, for texts of so many tokens with their prompts."""
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


class SharedCache(RowCache):
    """The prompts' keys and values once, buffers for what the rows write, and which row continues which prompt."""

    def __init__(
        self, states: PromptStates, prompt_of_row: Indices, most_rows: int, steps: int, buffers: StreamBuffers
    ) -> None:
        def room(name: str, like: torch.Tensor) -> torch.Tensor:
            return buffers.take(name, (most_rows, like.shape[1], steps, like.shape[3]), like)

        layers = [
            RowLayer(room(f"keys {number}", keys), room(f"values {number}", values), before=states.width)
            for number, (keys, values) in enumerate(states.layers)
        ]
        self._of_prompts = list(states.layers)
        columns = torch.arange(states.width, device=states.lengths.device)
        self._hidden = columns < states.width - states.lengths.unsqueeze(1)
        self._prompts = np.arange(len(states.lengths))
        super().__init__(layers, states.lengths, prompt_of_row)

    def attention_mask(self, new_tokens: int = 1) -> None:
        """The attention function hides what must not be seen by itself."""

    def arrange(self, prompt_of_row: Indices) -> None:
        """Lays the rows' heads out in a grid (prompts, key heads, most rows of a prompt); empty places repeat one."""
        super().arrange(prompt_of_row)
        used = np.unique(prompt_of_row)
        if len(used) <= _SELECT_BELOW * len(self._prompts):
            kept = on_device(np.searchsorted(self._prompts, used), self._device)
            self._prompts, self._hidden = used, self._hidden[kept]
            self._of_prompts = [(keys[kept], values[kept]) for keys, values in self._of_prompts]
        prompt = np.searchsorted(self._prompts, prompt_of_row)
        counts = np.bincount(prompt, minlength=len(self._prompts))
        self._most, groups = int(counts.max()), self._of_prompts[0][0].shape[1]
        place = np.empty_like(prompt)
        place[prompt.argsort(kind="stable")] = np.arange(len(prompt)) - np.repeat(counts.cumsum() - counts, counts)
        slot_of_row = (prompt[:, None] * groups + np.arange(groups)) * self._most + place[:, None]
        row_of_slot = np.zeros(len(counts) * groups * self._most, dtype=np.int64)
        row_of_slot[slot_of_row] = np.arange(slot_of_row.size).reshape(slot_of_row.shape)
        self._slot_of_row = on_device(slot_of_row.ravel(), self._device)
        self._row_of_slot = on_device(row_of_slot, self._device)

    def attend(self, layer: int, query: torch.Tensor, scaling: float) -> torch.Tensor:
        """Attention of one new token of each row over its prompt and over what it has written.

        Query and result have shape (rows, heads, head size); scores are multiplied by `scaling`.
        """
        prompt_keys, prompt_values = self._of_prompts[layer]
        prompts, groups, width, size = prompt_keys.shape
        rows, heads, _ = query.shape
        repeats = heads // groups
        own_keys, own_values = self._row_layers[layer].written(rows)
        query = (query * scaling).view(rows * groups, repeats, size)
        grid = query.index_select(0, self._row_of_slot).view(prompts, groups, self._most * repeats, size)
        scores = grid @ prompt_keys.transpose(2, 3)
        scores = scores.masked_fill_(self._hidden[:, None, None, :], -torch.inf)
        over_prompt = scores.view(-1, repeats, width).index_select(0, self._slot_of_row)
        own = query.view(rows, groups, repeats, size) @ own_keys.transpose(2, 3)
        scores = torch.cat((over_prompt, own.view(rows * groups, repeats, -1)), dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
        grid = weights[..., :width].index_select(0, self._row_of_slot)
        grid = grid.view(prompts, groups, self._most * repeats, width)
        from_prompt = (grid @ prompt_values).view(-1, repeats, size).index_select(0, self._slot_of_row)
        own = weights[..., width:].view(rows, groups, repeats, -1) @ own_values
        return (from_prompt + own.view(rows * groups, repeats, size)).view(rows, heads, size)


@contextmanager
def shared_attention(model: Any, cache: RowCache) -> Iterator[None]:
    """Lets a model for which `can_share` holds read from a cache of shared prompts; does nothing for any other cache.

    The cache is what is passed to the model as `past_key_values`; the model's own attention is restored afterwards.
    """
    if not isinstance(cache, SharedCache):
        yield
        return
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
