"""Keys and values of prompts, and of the rows of a batch that continue them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

Indices = npt.NDArray[np.int64]
"""Numbers of rows, streams or prompts, kept on the host."""

Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, shape (rows, heads, positions, head size)."""


def on_device(indices: npt.NDArray[Any] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Indices, or other numbers of the host, as a tensor on a device; nothing waits for what that is doing."""
    numbers = torch.as_tensor(indices)
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)


class StreamBuffers:
    """Buffers by name that outlive a batch; only one batch may use them at a time. They hold numbers, never NaN.

    On a CPU fresh memory costs more time to map than the keys and values take to write. Other devices have allocators
    that keep memory by themselves, so there every buffer is new.
    """

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """A buffer of a shape, with whatever it holds; `like` has its dtype and device."""
        if like.device.type != "cpu":
            return like.new_zeros(shape)
        size = math.prod(shape)
        if name not in self._kept or self._kept[name].numel() < size:
            self._kept.pop(name, None)
            self._kept[name] = like.new_zeros(size)
        return self._kept[name][:size].view(*shape)

    def release(self) -> None:
        """Gives the memory back."""
        self._kept.clear()


@dataclass(frozen=True)
class PromptStates:
    """What the model keeps of distinct prompts, each read once however many draws continue it.

    A layer's states have shape (prompts, heads, width, head size); a prompt's own positions are the last ones, and what
    stands before them means nothing.
    """

    index: dict[tuple[int, ...], int]  # place of each prompt, by its token ids
    lengths: torch.Tensor  # tokens of each prompt, shape (prompts,)
    width: int  # tokens of the longest prompt
    layers: Layers
    logits: torch.Tensor  # what the model predicts after each, shape (prompts, vocabulary)

    @classmethod
    def empty(cls, prompts: Sequence[tuple[int, ...]], layers: Layers, logits: torch.Tensor) -> PromptStates:
        """Room for distinct prompts; what was read of some of them tells the shapes and types."""
        width = max(map(len, prompts))

        def room(state: torch.Tensor) -> torch.Tensor:
            return state.new_empty(len(prompts), state.shape[1], width, state.shape[3])

        return cls(
            {prompt: place for place, prompt in enumerate(prompts)},
            torch.tensor([len(prompt) for prompt in prompts], device=logits.device),
            width,
            [(room(keys), room(values)) for keys, values in layers],
            logits.new_empty(len(prompts), logits.shape[1]),
        )

    def of(self, layer: int, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values of some prompts, shape (prompts, heads, width, head size), right-aligned."""
        keys, values = self.layers[layer]
        return keys.index_select(0, prompts), values.index_select(0, prompts)

    def store(self, places: list[int], layers: Layers, logits: torch.Tensor) -> None:
        """Writes what was read of some prompts, shortest first, right-aligned and without the padding at their end.

        A layer has shape (these prompts, heads, longest of them, head size), the logits (these prompts, vocabulary).
        """
        device, width = logits.device, self.width
        self.logits[torch.tensor(places, device=device)] = logits
        lengths = self.lengths[torch.tensor(places, device=device)].tolist()
        for length, run in groupby(range(len(places)), key=lengths.__getitem__):
            rows = list(run)
            here, there = slice(rows[0], rows[-1] + 1), torch.tensor([places[row] for row in rows], device=device)
            for kept, read in zip(self.layers, layers, strict=True):
                for target, source in zip(kept, read, strict=True):
                    target[there, :, : width - length] = 0  # has no weight in attention, but must be finite
                    target[there, :, width - length :] = source[here, :, :length]


class PromptRoom:
    """Memory for the tokens of prompts one after the other, which outlives a batch and grows when it must."""

    def __init__(self) -> None:
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.least = 0  # tokens that there is to be room for

    def take(self, tokens: int, like: Layers) -> Layers:
        """Keys and values of each layer for so many tokens, shape (at least tokens, heads, head size)."""
        tokens = max(tokens, self.least)
        if not self.layers or len(self.layers[0][0]) < tokens:
            self.layers = []  # before the new ones are made
            self.layers = [
                (keys.new_zeros(tokens, keys.shape[1], keys.shape[3]), values.new_zeros(tokens, *values.shape[1::2]))
                for keys, values in like
            ]
        return self.layers


@dataclass(frozen=True)
class PackedStates(PromptStates):
    """States of prompts one after the other, so that nothing is kept but their own tokens.

    A layer's states have shape (tokens of all, heads, head size); each prompt's begin at its place in `starts`.
    """

    starts: torch.Tensor  # shape (prompts,)

    @classmethod
    def into(
        cls, prompts: Sequence[tuple[int, ...]], layers: Layers, logits: torch.Tensor, room: PromptRoom
    ) -> PackedStates:
        """A place in the room for each of distinct prompts; what was read of some of them tells shapes and types."""
        lengths = np.array([len(prompt) for prompt in prompts])
        return cls(
            {prompt: place for place, prompt in enumerate(prompts)},
            torch.from_numpy(lengths).to(logits.device),
            int(lengths.max()),
            room.take(int(lengths.sum()), layers),
            logits.new_empty(len(prompts), logits.shape[1]),
            torch.from_numpy(lengths.cumsum() - lengths).to(logits.device),
        )

    def of(self, layer: int, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values of some prompts, shape (prompts, heads, width, head size), right-aligned."""
        columns = torch.arange(self.width, device=prompts.device) - self.width
        tokens = ((self.starts + self.lengths)[prompts].unsqueeze(1) + columns).clamp_(min=0)
        keys, values = self.layers[layer]
        return keys[tokens].transpose(1, 2), values[tokens].transpose(1, 2)

    def store(self, places: list[int], layers: Layers, logits: torch.Tensor) -> None:
        """Writes what was read of some prompts, padded at their end to a shape (these, heads, longest, head size)."""
        device, longest = logits.device, layers[0][0].shape[2]
        where = torch.tensor(places, device=device)
        self.logits[where] = logits
        columns = torch.arange(longest, device=device)
        is_own = (columns < self.lengths[where].unsqueeze(1)).flatten().nonzero().squeeze(1)
        there = (self.starts[where].unsqueeze(1) + columns).flatten()[is_own]
        for kept, read in zip(self.layers, layers, strict=True):
            for target, source in zip(kept, read, strict=True):
                target.index_copy_(0, there, source.transpose(1, 2).flatten(0, 1)[is_own])


class RowLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """One layer's keys and values of all rows, in buffers that are allocated once instead of growing.

    The buffers have shape (most rows, heads, columns, head size). What rows read together goes to one column, so a
    row's own states are in the columns written last; behind the last column comes the first again.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, *, filled: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._buffers, self._filled, self.room = (keys, values), filled, keys.shape[2]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the states of new tokens into the next columns and returns all that are written."""
        start = self._filled % self.room
        self._filled += key_states.shape[2]
        keys, values = self.written(len(key_states))
        here = slice(start, start + key_states.shape[2])
        keys[:, :, here], values[:, :, here] = key_states, value_states
        return keys, values

    def written(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the first rows, in the columns that are written."""
        keys, values = self._buffers
        return keys[:rows, :, : self._filled], values[:rows, :, : self._filled]

    def get_seq_length(self) -> int:
        """Columns written so far."""
        return self._filled

    def move(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copies rows to other places, none of which is a source."""
        for states in self.written(len(self._buffers[0])):
            states[targets] = states.index_select(0, sources)

    def put(self, rows: torch.Tensor, layer: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Writes states of shape (rows, heads, width, head size) into the last columns of some rows."""
        for states, new in zip(self._buffers, layer, strict=True):
            states[rows, :, self._filled - new.shape[2] : self._filled] = new

    def shift(self, columns: int) -> None:
        """Makes the last columns the first, and room behind them."""
        for states in self._buffers:
            states[:, :, :columns] = states[:, :, self._filled - columns : self._filled].clone()
        self._filled = columns


class RowCache(Cache):
    """Keys and values of all rows of a batch; which prompt each continues, and how much of its text it has read."""

    def __init__(self, layers: Sequence[RowLayer], states: PromptStates) -> None:
        super().__init__(layers=list(layers))
        self._row_layers, self._states, self._device = layers, states, states.lengths.device

    def attention_mask(self, new_tokens: int = 1) -> torch.Tensor | None:
        """What the next tokens of each row may attend to, shape (rows, columns); None where that needs no saying."""
        raise NotImplementedError

    def position_ids(self) -> torch.Tensor:
        """Position of the next token of each row, shape (rows, 1)."""
        return self._held.unsqueeze(1)

    def start(self, rows: Indices, prompts: Indices) -> None:
        """Lets rows begin, each behind its prompt."""

    def move(self, sources: Indices, targets: Indices) -> None:
        """Copies rows to other places, none of which is a source."""
        places = on_device(sources, self._device), on_device(targets, self._device)
        for layer in self._row_layers:
            layer.move(*places)

    def arrange(self, prompt_of_row: Indices, written: Indices) -> None:
        """Takes note of the prompt that each row continues and how many tokens it has read behind it, shape (rows,)."""
        self._row_lengths = self._states.lengths[on_device(prompt_of_row, self._device)]
        self._held = self._row_lengths + on_device(written, self._device)


class CopiedCache(RowCache):
    """A copy of its prompt's states for every row, with room for more tokens and, later, more rows.

    The states of each row stand right-aligned before the column that all rows write to next; a mask hides what lies
    left of the shorter ones. When the columns are used up, the last ones move to the front.
    """

    def __init__(self, states: PromptStates, most_rows: int, tokens: int) -> None:
        width = states.width

        def room(kept: torch.Tensor) -> torch.Tensor:
            return kept.new_zeros(most_rows, kept.shape[1], width + tokens, kept.shape[3])

        nothing = torch.arange(0, device=states.lengths.device)
        like = [states.of(number, nothing) for number in range(len(states.layers))]
        layers = [RowLayer(room(keys), room(values), filled=width) for keys, values in like]
        self._kept_columns = width + tokens // 2
        self._columns = torch.arange(width + tokens, device=states.lengths.device)
        self._host_lengths = states.lengths.cpu().numpy()
        super().__init__(layers, states)

    def start(self, rows: Indices, prompts: Indices) -> None:
        """Copies the states of prompts."""
        there, here = on_device(rows, self._device), on_device(prompts, self._device)
        for number, layer in enumerate(self._row_layers):
            layer.put(there, self._states.of(number, here))

    def arrange(self, prompt_of_row: Indices, written: Indices) -> None:
        """Makes room for the next token, too."""
        super().arrange(prompt_of_row, written)
        if self.get_seq_length() == self._row_layers[0].room:
            for layer in self._row_layers:
                layer.shift(self._kept_columns)
        self._even = bool((self._host_lengths[prompt_of_row] + written == self.get_seq_length()).all())

    def attention_mask(self, new_tokens: int = 1) -> torch.Tensor | None:
        """Hides what lies left of the shorter rows; None where all are equally long."""
        if self._even:
            return None
        end = self.get_seq_length()
        return (self._columns[: end + new_tokens] >= end - self._held.unsqueeze(1)).to(torch.int64)

    def parts(self) -> Iterator[tuple[torch.Tensor, DynamicCache]]:
        """Which rows are equally long, and their states without what lies left of these."""
        end = self.get_seq_length()
        for length in torch.unique(self._held).tolist():
            rows, part = (self._held == length).nonzero().squeeze(1), DynamicCache()
            for number, layer in enumerate(self._row_layers):
                keys, values = (states[rows, :, end - length :] for states in layer.written(len(self._held)))
                part.update(keys, values, number)
            yield rows, part

    def join(self, parts: Sequence[tuple[torch.Tensor, DynamicCache]], new_tokens: int) -> torch.Tensor:
        """Takes over what the parts have read; returns where each row stands among all of theirs."""
        order = torch.cat([rows for rows, _ in parts]).argsort()
        for number, layer in enumerate(self._row_layers):
            read: list[Any] = [part.layers[number] for _, part in parts]
            keys = torch.cat([each.keys[:, :, -new_tokens:] for each in read])
            values = torch.cat([each.values[:, :, -new_tokens:] for each in read])
            layer.update(keys[order], values[order])
        return order
