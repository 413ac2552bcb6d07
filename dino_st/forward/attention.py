"""Attention in which all streams of one prompt read its keys and values from one place.

The scores over a prompt are one matrix product for each of its heads, with a row for each text that continues it; the
scores over what has been written stand beside them, and one softmax covers both. That is the same function as attention
over a copy of the prompt's states for each row, softmax(QKᵀ·scaling)V.

It stands in transformers' registry, and what differs between families comes from the model as it calls: scaling,
soft-capped scores, sinks, and the mask of each layer, as the function of positions that transformers makes masks of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface, causal_mask_function

from dino_st.forward.cache import Indices, PromptStates, RowCache, RowLayer, StreamBuffers, on_device

NAME = "dino_st_shared_prompts"
"""Under which the attention function stands in transformers' registry."""

MaskFunction = Callable[..., Any]
"""Of batch, head, and the positions of queries and keys (tensors): whether the one sees the other."""

_DENSE = 0.25
"""Prompts that have rows are copied side by side where they are no more than this share of those between them."""


class Scoring(NamedTuple):
    """How a layer makes scores of a query and keys."""

    scaling: float  # by which the products are multiplied
    mask: MaskFunction | None = None  # what may be seen
    softcap: float | None = None  # c, which makes c·tanh(s/c) of a score s (Gemma 2, arXiv 2408.00118, section 2)
    sinks: torch.Tensor | None = None  # scores of a key without a value, shape (heads,) (gpt-oss)

    @property
    def window(self) -> MaskFunction | None:
        """The mask, if it hides more than what is to come."""
        return None if self.mask is causal_mask_function else self.mask


@runtime_checkable
class AttendingCache(Protocol):
    """Keys and values that compute attention themselves."""

    def attend(self, layer: int, query: torch.Tensor, scoring: Scoring) -> torch.Tensor:
        """Attention of one new token of each row; query and result have shape (rows, heads, head size)."""


_cache: ContextVar[AttendingCache] = ContextVar("cache")


class SharedCache(RowCache):
    """The prompts' keys and values once, buffers for what the rows write, and which row continues which prompt."""

    def __init__(self, states: PromptStates, most_rows: int, steps: int, buffers: StreamBuffers) -> None:
        def room(name: str, like: torch.Tensor) -> torch.Tensor:
            return buffers.take(name, (most_rows, like.shape[1], steps, like.shape[3]), like)

        layers = [
            RowLayer(room(f"keys {number}", keys), room(f"values {number}", values))
            for number, (keys, values) in enumerate(states.layers)
        ]
        super().__init__(layers, states)
        self._prompts, self._of_row = np.arange(0), np.arange(0)
        self._prompt_columns = torch.arange(states.width, device=self._device) - states.width

    def attention_mask(self, new_tokens: int = 1) -> None:
        """The attention function hides what must not be seen by itself."""

    def arrange(self, prompt_of_row: Indices, written: Indices) -> None:
        """Takes note, too, of which columns hold tokens of each row's text, counted from its first."""
        super().arrange(prompt_of_row, written)
        room, read = self._row_layers[0].room, self.get_seq_length()
        ago = (read - np.arange(min(read + 1, room))) % room
        own = written[:, None] - ago
        self._own = on_device(own, self._device)
        self._foreign = self._own < 0 if (own < 0).any() else None
        self._hidden_of_row: dict[MaskFunction, torch.Tensor | None] = {}
        if np.array_equal(prompt_of_row, self._of_row):
            return
        self._of_row = prompt_of_row.copy()
        self._lay_out()

    def _lay_out(self) -> None:
        """Puts the rows' heads into a grid (prompts, key heads, most rows of a prompt); empty places repeat one."""
        used = np.unique(self._of_row)
        if len(used) <= _DENSE * len(self._prompts) or not np.isin(used, self._prompts).all():
            among = np.arange(used[0], used[-1] + 1)
            is_dense = len(used) > _DENSE * len(among)
            self._prompts = among if is_dense else used
            here: Any = slice(used[0], used[-1] + 1) if is_dense else on_device(used, self._device)
            self._hidden = self._prompt_columns < -self._states.lengths[here].unsqueeze(1)
            self._of_prompts = [(keys[here], values[here]) for keys, values in self._states.layers]
        prompt = np.searchsorted(self._prompts, self._of_row)
        counts = np.bincount(prompt, minlength=len(self._prompts))
        self._most, groups = int(counts.max()), self._of_prompts[0][0].shape[1]
        place = np.empty_like(prompt)
        place[prompt.argsort(kind="stable")] = np.arange(len(prompt)) - np.repeat(counts.cumsum() - counts, counts)
        slot_of_row = (prompt[:, None] * groups + np.arange(groups)) * self._most + place[:, None]
        row_of_slot = np.zeros(len(counts) * groups * self._most, dtype=np.int64)
        row_of_slot[slot_of_row] = np.arange(slot_of_row.size).reshape(slot_of_row.shape)
        self._slot_of_row = on_device(slot_of_row.ravel(), self._device)
        self._row_of_slot = on_device(row_of_slot, self._device)

    def _hidden_by(self, mask: MaskFunction) -> torch.Tensor | None:
        """What a layer's mask hides of each row's prompt and of what it has written, shape (rows, 1, columns).

        None where it hides nothing that is its own, as a window that is longer than any text so far.
        """
        if mask not in self._hidden_of_row:
            lengths, rows = self._row_lengths.unsqueeze(1), torch.arange(len(self._held), device=self._device)
            keys = torch.cat((self._prompt_columns + lengths, self._own + lengths), dim=1)
            is_own = torch.cat((keys[:, : len(self._prompt_columns)] >= 0, self._own >= 0), dim=1)
            seen = mask(rows.unsqueeze(1), 0, self._held.unsqueeze(1), keys) & is_own
            self._hidden_of_row[mask] = None if torch.equal(seen, is_own) else ~seen.unsqueeze(1)
        return self._hidden_of_row[mask]

    def attend(self, layer: int, query: torch.Tensor, scoring: Scoring) -> torch.Tensor:
        """Attention of one new token of each row over its prompt and over what it has written; see `AttendingCache`."""
        rows, heads, size = query.shape
        own_keys, own_values = self._row_layers[layer].written(rows)
        hidden = None if scoring.window is None else self._hidden_by(scoring.window)
        prompt_keys, prompt_values = self._of_prompts[layer]
        prompts, groups, width, _ = prompt_keys.shape
        repeats = heads // groups
        query = (query * scoring.scaling).view(rows * groups, repeats, size)
        grid = query.index_select(0, self._row_of_slot).view(prompts, groups, self._most * repeats, size)
        scores, own = grid @ prompt_keys.transpose(2, 3), query.view(rows, groups, repeats, size) @ own_keys.mT
        if (cap := scoring.softcap) is not None:
            scores, own = (cap * torch.tanh(each / cap) for each in (scores, own))
        scores = scores.masked_fill_(self._hidden[:, None, None, :], -torch.inf)
        if self._foreign is not None:
            own = own.masked_fill_(self._foreign[:, None, None, :], -torch.inf)
        parts = [scores.view(-1, repeats, width).index_select(0, self._slot_of_row)]
        parts.append(own.view(rows * groups, repeats, -1))
        if scoring.sinks is not None:
            parts.append(scoring.sinks.to(query.dtype).view(groups, repeats, 1).repeat(rows, 1, 1))
        scores = torch.cat(parts, dim=-1)
        behind = width + own.shape[-1]
        if hidden is not None:
            scores[..., :behind].view(rows, heads, behind).masked_fill_(hidden, -torch.inf)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
        grid = weights[..., :width].index_select(0, self._row_of_slot)
        grid = grid.view(prompts, groups, self._most * repeats, width)
        from_prompt = (grid @ prompt_values).view(-1, repeats, size).index_select(0, self._slot_of_row)
        own = weights[..., width:behind].view(rows, groups, repeats, -1) @ own_values
        return (from_prompt + own.view(rows * groups, repeats, size)).view(rows, heads, size)


@contextmanager
def shared_attention(model: Any, cache: Cache) -> Iterator[None]:
    """Lets a model that can (`probe.probe`) read from a cache of shared prompts; does nothing for any other cache.

    The cache is what is passed to the model; the model's own attention is restored afterwards.
    """
    if not isinstance(cache, AttendingCache):
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


def _attention(
    module: Any,
    query: torch.Tensor,
    _keys: torch.Tensor,
    _values: torch.Tensor,
    attention_mask: MaskFunction | None = None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function of transformers' registry; keys and values come from the cache itself."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scoring = Scoring(scaling, attention_mask, softcap, s_aux)
    return _cache.get().attend(module.layer_idx, query.squeeze(2), scoring).unsqueeze(1), None


def _mask(*_: Any, mask_function: MaskFunction, **__: Any) -> MaskFunction:
    """The mask of transformers' registry: the function itself, which knows windows and chunks."""
    return mask_function


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
