"""Slots for what streams write, and attention over a prompt and the slot that continues it.

Nothing depends on which slot a stream has, nor on what happens in others, so that every forward pass over so many rows
is the same work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from dino_st.forward.attention import MaskFunction, Scoring
from dino_st.forward.cache import Indices, PackedStates
from dino_st.forward.kernels import give_up_kernels, kernels_for

_WIDTHS = 64
"""Lengths of prompts are told apart in steps of so many tokens, where a mask hides some of them."""


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """One layer's keys and values of all slots, shape (slots, heads, room, head size)."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.own = keys, values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes the states of each row's new token; the attention function stores them."""
        self.new = key_states.squeeze(2), value_states.squeeze(2)
        return key_states, value_states

    def get_seq_length(self) -> int:
        """Nothing, as rows are not equally long; positions are passed to the model."""
        return 0


TOGETHER = 4
"""Rows of one prompt that read its keys and values together, at most."""


def groups_by_prompt(prompts: Indices) -> Indices:
    """Groups rows that continue the same prompt: their numbers, shape (groups, `TOGETHER`), -1 behind the last."""
    order = prompts.argsort(kind="stable")
    is_first = np.concatenate(([True], np.diff(prompts[order]) != 0))[: len(order)]
    run = is_first.cumsum() - 1
    place = np.arange(len(order)) - is_first.nonzero()[0][run]
    group = ((place % TOGETHER == 0).cumsum() - 1) if len(order) else run
    members = np.full((int(group[-1]) + 1 if len(order) else 0, TOGETHER), -1, dtype=np.int64)
    members[group, place % TOGETHER] = order
    return members


@dataclass
class Rows:
    """What each row of a step is about; all but the last have shape (rows,)."""

    slots: torch.Tensor  # where its own keys and values are
    starts: torch.Tensor  # of its prompt among the tokens of all
    lengths: torch.Tensor  # of its prompt
    written: torch.Tensor  # tokens that it has read behind its prompt
    members: torch.Tensor  # of groups of rows with the same prompt, as `groups_by_prompt` makes them


class SlotCache(Cache):
    """The prompts' keys and values once, a slot for what each stream writes, and attention over both."""

    def __init__(self, states: PackedStates, slots: int, room: int, longest: int) -> None:
        """Room for so many tokens in each of so many slots, behind prompts of at most `longest` tokens."""
        own = [
            (keys.new_zeros(slots, keys.shape[1], room, keys.shape[2]),
             values.new_zeros(slots, values.shape[1], room, values.shape[2]))
            for keys, values in states.layers
        ]  # fmt: skip
        self._slot_layers = [SlotLayer(*each) for each in own]
        super().__init__(layers=list(self._slot_layers))
        self.room, self.slots, self.prompts = room, slots, states.layers
        self.width = -(-longest // _WIDTHS) * _WIDTHS
        keys = own[0][0]
        kernel = kernels_for(keys.device, keys.dtype)
        fits = kernel is not None and max(each[0].shape[3] for each in own) <= kernel.LARGEST_HEAD
        self._kernel = kernel if fits else None
        self._hides: list[bool] = []

    def arrange(self, rows: Rows) -> None:
        """Takes note of the rows of the next forward pass."""
        self._rows, self._hidden = rows, dict[MaskFunction, torch.Tensor | None]()

    def position_ids(self) -> torch.Tensor:
        """Position of the next token of each row, shape (rows, 1)."""
        return (self._rows.lengths + self._rows.written).unsqueeze(1)

    def _hidden_by(self, mask: MaskFunction) -> torch.Tensor | None:
        """What a layer's mask hides of each row's prompt and own tokens, shape (rows, width + room).

        None where it hides nothing of the longest text, as a window that is longer; that is found out once for each of
        a model's masks, in the order in which its layers use them.
        """
        if mask not in self._hidden:
            device, number = self._rows.slots.device, len(self._hidden)
            if number == len(self._hides):
                places = torch.arange(self.width + self.room, device=device)
                seen = mask(places * 0, 0, places.unsqueeze(1), places.unsqueeze(0))
                self._hides.append(not bool((seen | (places > places.unsqueeze(1))).all()))
            self._hidden[mask] = None
            if self._hides[number]:
                of_prompt = torch.arange(self.width, device=device).expand(len(self._rows.slots), -1)
                own = self._rows.lengths.unsqueeze(1) + torch.arange(self.room, device=device)
                rows = torch.arange(len(own), device=device).unsqueeze(1)
                self._hidden[mask] = ~mask(rows, 0, self.position_ids(), torch.cat((of_prompt, own), dim=1))
        return self._hidden[mask]

    def attend(self, layer: int, query: torch.Tensor, scoring: Scoring) -> torch.Tensor:
        """Stores each row's new key and value, and attends to its prompt and all it has written, these included.

        See `AttendingCache`.
        """
        scaling, _, softcap, sinks = scoring
        rows, (keys, values) = self._rows, self._slot_layers[layer].own
        new_keys, new_values = self._slot_layers[layer].new
        hidden = None if scoring.window is None else self._hidden_by(scoring.window)
        if self._kernel is not None:
            try:
                attended: torch.Tensor = self._kernel.attend(
                    query, (new_keys, new_values), self.prompts[layer], (keys, values), members=rows.members,
                    slots=rows.slots, starts=rows.starts, lengths=rows.lengths, written=rows.written, scaling=scaling,
                    softcap=softcap, hidden=hidden, sinks=sinks,
                )  # fmt: skip
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001  # of compilers and drivers of any kind
                give_up_kernels(error)
                self._kernel = None
            else:
                return attended
        keys[rows.slots, :, rows.written], values[rows.slots, :, rows.written] = new_keys, new_values
        of_prompt = torch.arange(self.width, device=query.device)
        tokens = (rows.starts.unsqueeze(1) + of_prompt).clamp_(max=len(self.prompts[layer][0]) - 1)
        of_prompts = [each[tokens].transpose(1, 2) for each in self.prompts[layer]]
        all_keys, all_values = (
            torch.cat((prompt, own[rows.slots]), dim=2) for prompt, own in zip(of_prompts, (keys, values), strict=True)
        )
        count, heads, size = query.shape
        scores = (query * scaling).view(count, keys.shape[1], -1, size) @ all_keys.mT
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        own_places = torch.arange(self.room, device=query.device)
        unseen = torch.cat((of_prompt >= rows.lengths.unsqueeze(1), own_places > rows.written.unsqueeze(1)), dim=1)
        scores = scores.masked_fill_((unseen if hidden is None else unseen | hidden)[:, None, None, :], -torch.inf)
        if sinks is not None:
            sink = sinks.to(query.dtype).view(1, keys.shape[1], -1, 1).expand(count, -1, -1, 1)
            scores = torch.cat((scores, sink), dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(query.dtype, torch.float32)).to(query.dtype)
        return (weights[..., : all_keys.shape[2]] @ all_values).reshape(count, heads, size)
