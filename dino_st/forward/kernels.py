"""Triton's kernels where they can be used; what they do in one step takes several elsewhere."""

from __future__ import annotations

import logging
from typing import Any

import torch

from dino_st.errors import first_line

logger = logging.getLogger(__name__)

_DEVICES = ("cuda",)

_without_kernel: list[str] = []
"""Why Triton's kernels are not used any more."""


def kernels_for(device: torch.device, dtype: torch.dtype) -> Any | None:
    """The module of Triton's kernels; None where it has no place, is missing or broken, or has failed before."""
    if device.type not in _DEVICES or dtype == torch.float64 or _without_kernel:
        return None
    try:
        from dino_st.forward import triton_kernels
    except Exception as error:  # noqa: BLE001  # a broken installation raises whatever
        give_up_kernels(error)
        return None
    return triton_kernels


def give_up_kernels(error: Exception) -> None:
    """Says once that decoding goes on without Triton's kernels, and why."""
    if not _without_kernel:
        _without_kernel.append(first_line(error))
        logger.warning("decoding does without Triton's kernels, which is slower: %s", _without_kernel[0])
