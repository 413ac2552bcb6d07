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


def on_device(indices: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Indices as a tensor on a device."""
    return torch.from_numpy(indices).to(device)


class StreamBuffers:
    """Buffers by name that outlive a batch; only one batch may use them at a time.

    On a CPU fresh memory costs more time to map than the keys and values take to write. Other devices have allocators
    that keep memory by themselves, so there every buffer is new.
    """

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """A buffer of a shape, with whatever it holds; `like` has its dtype and device."""
        if like.device.type != "cpu":
            return like.new_empty(shape)
        size = math.prod(shape)
        if name not in self._kept or self._kept[name].numel() < size:
            self._kept.pop(name, None)
            self._kept[name] = like.new_empty(size)
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
            [(room(keys), room(values)) for keys, values in layers],
            logits.new_empty(len(prompts), logits.shape[1]),
        )

    @property
    def width(self) -> int:
        """Length of the longest prompt."""
        return self.layers[0][0].shape[2]

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


class RowLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """One layer's keys and values of all rows, in buffers that are allocated once instead of growing.

    The buffers have shape (most rows, heads, positions, head size), of which `filled` positions are written already;
    `before` positions, those of prompts that are kept elsewhere, come before their first.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, *, filled: int = 0, before: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._buffers, self._filled, self._before = (keys, values), filled, before

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to do: the buffers exist from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the states of new tokens behind the others and returns all of them."""
        start, self._filled = self._filled, self._filled + key_states.shape[2]
        keys, values = self.written(len(key_states))
        keys[:, :, start:], values[:, :, start:] = key_states, value_states
        return keys, values

    def written(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the first rows, as far as they are written."""
        keys, values = self._buffers
        return keys[:rows, :, : self._filled], values[:rows, :, : self._filled]

    def get_seq_length(self) -> int:
        """Positions filled so far."""
        return self._before + self._filled

    def move(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copies rows, as far as they are written, to other places, none of which is a source."""
        for states in self.written(len(self._buffers[0])):
            states[targets] = states.index_select(0, sources)


class RowCache(Cache):
    """Keys and values of all rows of a batch, and which prompt each row continues."""

    def __init__(self, layers: Sequence[RowLayer], lengths: torch.Tensor, prompt_of_row: Indices) -> None:
        super().__init__(layers=list(layers))
        self._row_layers, self._lengths, self._device = layers, lengths, lengths.device
        self.arrange(prompt_of_row)

    def attention_mask(self, new_tokens: int = 1) -> torch.Tensor | None:
        """What the next tokens of each row may attend to, shape (rows, positions); None where that needs no saying."""
        raise NotImplementedError

    def position_ids(self, step: int) -> torch.Tensor:
        """Position of the next token of each row, shape (rows, 1), after so many tokens of its text."""
        return (self._row_lengths + step).unsqueeze(1)

    def arrange(self, prompt_of_row: Indices) -> None:
        """Takes note of the prompt that each row continues, shape (rows,)."""
        self._row_lengths = self._lengths[on_device(prompt_of_row, self._device)]

    def move(self, sources: Indices, targets: Indices, prompt_of_row: Indices) -> None:
        """Copies rows to other places, and keeps as many rows as have a prompt afterwards."""
        if len(sources):
            places = on_device(sources, self._device), on_device(targets, self._device)
            for layer in self._row_layers:
                layer.move(*places)
        self.arrange(prompt_of_row)


class CopiedCache(RowCache):
    """A copy of its prompt's states for every row, with room for more tokens and, later, more rows.

    Prompts of several lengths stand right-aligned, so that all rows write to the same column; a mask hides what lies
    left of the shorter ones.
    """

    def __init__(self, states: PromptStates, prompt_of_row: Indices, steps: int, *, most_rows: int = 0) -> None:
        prompts = on_device(prompt_of_row, states.lengths.device)
        self._width = width = states.width

        def copied(kept: torch.Tensor) -> torch.Tensor:
            shape = max(most_rows, len(prompts)), kept.shape[1], width + steps, kept.shape[3]
            buffer = kept.new_empty(shape)  # only what was written is ever read
            buffer[: len(prompts), :, :width] = kept.index_select(0, prompts)
            return buffer

        layers = [RowLayer(copied(keys), copied(values), filled=width) for keys, values in states.layers]
        self._even = bool((states.lengths == width).all())
        self._columns = torch.arange(width + steps, device=prompts.device)
        super().__init__(layers, states.lengths, prompt_of_row)

    def attention_mask(self, new_tokens: int = 1) -> torch.Tensor | None:
        """Hides what lies left of the shorter prompts; None where all are equally long."""
        if self._even:
            return None
        columns = self._columns[: self.get_seq_length() + new_tokens]
        return (columns >= self._width - self._row_lengths.unsqueeze(1)).to(torch.int64)

    def parts(self) -> Iterator[tuple[torch.Tensor, DynamicCache]]:
        """Which rows continue prompts of one length, and their states without what lies left of these."""
        for length in torch.unique(self._row_lengths).tolist():
            rows, part = (self._row_lengths == length).nonzero().squeeze(1), DynamicCache()
            for number, layer in enumerate(self._row_layers):
                keys, values = (
                    states[rows, :, self._width - length :] for states in layer.written(len(self._row_lengths))
                )
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
