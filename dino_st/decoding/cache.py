"""Keys and values of the rows of a batch, in memory that the next batch uses again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import Cache, DynamicLayer


class StreamBuffers:
    """Buffers that outlive a batch of streams, one for each name.

    On a CPU fresh memory costs more time to map than the keys and values take to write. Other devices have allocators
    that keep memory by themselves, so there every buffer is new. Only one batch may use the buffers at a time.
    """

    def __init__(self) -> None:
        self._kept: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """Gives a buffer with whatever it holds.

        Args:
            name: What it is for.
            shape: Its shape.
            like: A tensor of the same dtype and device.
        """
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


Indices = npt.NDArray[np.int64]
"""Numbers of rows, streams or prompts, kept on the host."""


def on_device(indices: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Indices as a tensor on a device."""
    return torch.from_numpy(indices).to(device)


class RowLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """One layer's keys and values of all rows, in buffers that are allocated once instead of growing.

    Args:
        key_buffer: Shape (most rows, heads, positions, head size).
        value_buffer: Likewise.
        filled: Positions that are written already.
    """

    def __init__(self, key_buffer: torch.Tensor, value_buffer: torch.Tensor, filled: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = key_buffer.dtype, key_buffer.device
        self.key_buffer, self.value_buffer = key_buffer, value_buffer
        self.filled = filled
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to do: the buffers exist from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the states of new tokens behind the others and returns all of them."""
        rows, end = len(key_states), self.filled + key_states.shape[2]
        self.key_buffer[:rows, :, self.filled : end] = key_states
        self.value_buffer[:rows, :, self.filled : end] = value_states
        self.filled = end
        return self.show(rows)

    def show(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The states of the first rows, as far as they are written."""
        self.keys = self.key_buffer[:rows, :, : self.filled]
        self.values = self.value_buffer[:rows, :, : self.filled]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Positions filled so far."""
        return self.filled

    def move(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copies rows, as far as they are written, to other places, none of which is a source."""
        for buffer in (self.key_buffer, self.value_buffer):
            states = buffer[:, :, : self.filled]
            states[targets] = states.index_select(0, sources)


class RowCache(Cache):
    """Keys and values of all rows of a batch.

    Args:
        layers: One for each layer of the model.
        device: Where they are.
    """

    def __init__(self, layers: Sequence[RowLayer], device: torch.device) -> None:
        super().__init__(layers=list(layers))
        self._row_layers, self._device = layers, device

    def attention_mask(self) -> torch.Tensor | None:
        """What the next token of each row may attend to, shape (rows, positions); None where that is known."""
        raise NotImplementedError

    def position_ids(self, step: int) -> torch.Tensor:
        """Position of the next token of each row, shape (rows, 1)."""
        raise NotImplementedError

    def arrange(self, prompt_of_row: Indices) -> None:
        """Takes note of the prompt that each row continues, shape (rows,)."""
        raise NotImplementedError

    def move(self, sources: Indices, targets: Indices, prompt_of_row: Indices) -> None:
        """Copies rows to other places, and keeps as many rows as have a prompt.

        Args:
            sources: Rows to copy.
            targets: Where each goes.
            prompt_of_row: Index of the prompt that each row continues afterwards, shape (rows,).
        """
        if len(sources):
            places = on_device(sources, self._device), on_device(targets, self._device)
            for layer in self._row_layers:
                layer.move(*places)
        self.arrange(prompt_of_row)
