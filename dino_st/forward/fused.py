"""Normalisation and activation as one kernel each, where a model's own code takes many.

The root-mean-square norm of most models is seven operations in their code and GPT-2's activation eight; on a GPU each
costs a launch, and a pass over memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn import functional

_DEVICES = ("cuda",)
"""Where a launch costs more than what it does."""

Forwards = list[tuple[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]]]
"""Modules, and what is to stand in for their own code."""

_ALIKE = 1e-5
"""How far results in float32 may differ, as a share of the largest; the two forms of GELU differ by 8e-5 of it."""


@contextmanager
def replaced(modules: Forwards) -> Iterator[None]:
    """Lets modules compute in one kernel what they compute in several; restored afterwards.

    cuDNN's attention is not used meanwhile: it plans anew for each shape, which takes a tenth of a second, and prompts
    come in many.
    """
    plans = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    try:
        torch.backends.cuda.enable_cudnn_sdp(False)
        for module, forward in modules:
            vars(module)["forward"] = forward
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(plans)
        for module, _ in modules:
            vars(module).pop("forward", None)


@torch.no_grad()
def fused_forwards(model: Any) -> Forwards:
    """Modules of a model on a GPU, and a forward of one kernel for each.

    Which these are is found out by comparing them, on a few numbers, with the kernel; a module with a forward of its
    own instance, such as a hook's, is left alone.
    """
    return _fused(model) if model.device.type in _DEVICES and not model.training else []


def _fused(model: Any) -> Forwards:
    found: Forwards = []
    for module in model.modules():
        kind = type(module)
        if "forward" in vars(module) or any(True for _ in module.children()):
            continue
        if kind.__name__.endswith("RMSNorm"):
            if (norm := one_kernel_norm(module)) is not None:
                found.append((module, norm))
        elif "gelu" in kind.__name__.lower() and _is_tanh_gelu(module, model.device):
            found.append((module, _gelu))
    return found


def _is_tanh_gelu(module: torch.nn.Module, device: torch.device) -> bool:
    has_weights = any(True for _ in module.parameters())
    return not has_weights and _agrees(module, _gelu, torch.linspace(-6, 6, 97, device=device))


_gelu = partial(functional.gelu, approximate="tanh")


def one_kernel_norm(module: torch.nn.Module) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """A root-mean-square norm as one kernel, for a module that computes the same; None where none does."""
    weights = list(module.parameters())
    epsilon = next((vars(module)[name] for name in ("variance_epsilon", "eps") if name in vars(module)), None)
    if len(weights) != 1 or weights[0].ndim != 1 or not isinstance(epsilon, float):
        return None
    weight = weights[0].detach()
    numbers = torch.linspace(-3, 5, 2 * len(weight), device=weight.device).view(2, -1).to(weight.dtype)
    for scale in (weight, 1 + weight.float()):  # as in Llama, and as in Gemma
        norm = partial(_norm, weight=scale.to(weight.dtype) if scale is weight else scale, epsilon=epsilon)
        if _agrees(module, norm, numbers):
            return norm
    return None


def _norm(hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    if weight.dtype != hidden.dtype:
        weight = weight.to(hidden.dtype)
    return functional.rms_norm(hidden, weight.shape, weight, epsilon)


def _agrees(module: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor], numbers: torch.Tensor) -> bool:
    expected, found = module(numbers).float(), function(numbers).float()
    close = _ALIKE if numbers.dtype in (torch.float32, torch.float64) else 0.02
    return bool((found - expected).abs().max() <= close * expected.abs().max())
