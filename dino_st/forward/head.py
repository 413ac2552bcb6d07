"""An output layer that writes float32, whatever the type of its weights, and reads the rows that it is told to.

GPT-2's logits lie far from zero: rounded to bfloat16 their top five often change, and self-debiasing amplifies that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch

_MIXED = hasattr(torch.ops.aten.mm, "dtype")  # the overload that takes `out_dtype`
"""Whether this torch multiplies half-precision matrices into float32 (on GPUs)."""


@contextmanager
def float32_head(model: Any) -> Iterator[None]:
    """Lets a half-precision model's output layer write float32, so that near ties are not decided by rounding.

    The products of half-precision numbers are summed in float32 anyway; what is gained is that the sums are not rounded
    to half precision, or only those of unlikely tokens. On a CPU the logits also go to one buffer over and over, since
    fresh memory of that size costs as much time to map as to fill. So logits must be used, or copied, before the model
    runs again. The model's own forward is restored afterwards.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        yield
        return
    weight = head.weight
    is_half = weight.dtype in (torch.bfloat16, torch.float16)
    if not (is_half or weight.device.type == "cpu"):
        yield
        return
    product = _mixed_product if weight.is_cuda and _MIXED else _buffered_product
    is_large = weight.dtype == torch.bfloat16 and weight.numel() >= _LARGE and getattr(head, "bias", None) is None
    if is_large and weight.device.type == "cpu" and multiplies_bfloat16():
        product = _corrected_product
    before = {name: vars(head)[name] for name in ("forward",) if name in vars(head)}  # a hook's, or this one's
    vars(head)["forward"] = product(head)
    try:
        yield
    finally:
        del vars(head)["forward"]
        vars(head).update(before)


class HeadRows:
    """Whether an output layer has selected rows."""

    has_selected = False

    def of(self, logits: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor | int = -1) -> torch.Tensor:
        """What is selected of a model's logits, shape (rows, tokens, vocabulary), where its output layer has not."""
        return logits[:, -1] if self.has_selected else logits[rows, columns]


@contextmanager
def head_rows(model: Any, rows: torch.Tensor, columns: torch.Tensor | int = -1) -> Iterator[HeadRows]:
    """Lets a model's output layer read chosen rows, so that nothing as wide as the vocabulary has to be rearranged.

    `rows` names those of its batch, each as often as it is wanted; `columns` a token of each, from the end. A model
    that computes its logits in another way leaves the selection to the caller.
    """
    selection = HeadRows()

    def select(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if not inputs:
            return None
        selection.has_selected = True
        return (inputs[0][rows, columns].unsqueeze(1), *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield selection
    finally:
        handle.remove()


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products in bfloat16, as far as this torch can tell."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


_ALIGNED = 64
"""A product is quicker where its columns are a multiple of so many; GPT-2's vocabulary is odd."""

_padded: WeakKeyDictionary[torch.nn.Module, tuple[tuple[int, int], torch.Tensor]] = WeakKeyDictionary()
"""Output layers' weights with rows of zeros behind them, which must stay where they are, as CUDA graphs read them; and
of which weights they are a copy."""


def _mixed_product(head: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    bias = None if head.bias is None else head.bias.float()
    weight, size = head.weight.detach(), len(head.weight)
    if spare := -size % _ALIGNED:
        source = (weight.data_ptr(), weight._version)
        if head not in _padded or _padded[head][0] != source:
            _padded[head] = source, torch.nn.functional.pad(weight, (0, 0, 0, spare))
        weight = _padded[head][1]

    def product(hidden: torch.Tensor) -> torch.Tensor:
        flat = torch.mm(hidden.flatten(0, -2), weight.t(), out_dtype=torch.float32)[:, :size]
        logits = flat if bias is None else flat + bias
        return logits.reshape(*hidden.shape[:-1], size)

    return product


def _buffered_product(head: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    weight, bias = head.weight.to(dtype), None if head.bias is None else head.bias.to(dtype)
    buffer = weight.new_empty(0)

    def product(hidden: torch.Tensor) -> torch.Tensor:
        nonlocal buffer
        flat = hidden.flatten(0, -2).to(dtype)
        if len(buffer) < len(flat):
            buffer = weight.new_empty(len(flat), len(weight))
        logits = torch.mm(flat, weight.t(), out=buffer[: len(flat)])
        return (logits if bias is None else logits.add_(bias)).view(*hidden.shape[:-1], -1)

    return product


_LARGE = 2**23
"""Weights of an output layer for which it pays to compute some tokens twice; of one with 1.6 million it does not."""

_FREQUENT, _COLUMNS, _LIKELIEST = 4096, 32, 64
"""Tokens of the lowest ids, which are mostly the most frequent ones; columns in which a CPU's products are quick; and
tokens of each row that are computed once more."""


def _corrected_product(head: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """In bfloat16, of which the likeliest tokens are then summed in float32: a third of the time of all in float32.

    The others are rounded as differences from the largest of the frequent ones, which is one more input, whose weight
    is 1 for every token, and is added again; in GPT-2, whose logits lie far from zero, little would be left otherwise.
    """
    weight, (size, width) = head.weight.detach(), head.weight.shape
    wide = weight.new_zeros(size, width + _COLUMNS)
    wide[:, :width], wide[:, width] = weight, 1
    rounded, buffer = weight.new_empty(0), weight.new_empty(0, dtype=torch.float32)

    def product(hidden: torch.Tensor) -> torch.Tensor:
        nonlocal rounded, buffer
        flat = hidden.flatten(0, -2)
        rows = len(flat)
        if len(buffer) < rows:
            rounded, buffer = rounded.new_empty(rows, size), buffer.new_empty(rows, size)
        read = flat.new_zeros(rows, width + _COLUMNS)
        read[:, :width] = flat
        shift = torch.mm(read, wide[:_FREQUENT].t()).amax(dim=1, keepdim=True)
        read[:, width : width + 1] = -shift
        differences = torch.mm(read, wide.t(), out=rounded[:rows])
        likeliest = differences.topk(min(_LIKELIEST, size), dim=1, sorted=False).indices
        exact = torch.bmm(weight[likeliest].float(), flat.float().unsqueeze(2)).squeeze(2)
        logits = buffer[:rows].copy_(differences).add_(shift).scatter_(1, likeliest, exact)
        return logits.view(*hidden.shape[:-1], size)

    return product
