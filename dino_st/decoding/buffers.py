"""Memory for what streams write, used again by the next batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


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
