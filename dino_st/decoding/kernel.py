"""Attention over a row's prompt and its own tokens as one Triton kernel, for GPUs.

Each program takes a row and a key head, with all query heads that read it: it goes through the prompt's keys and values
where they are kept once for all rows, then through the row's own, and keeps a running softmax over both (Milakov and
Gimelshein 2018, arXiv 1805.02867, algorithm 3; as in FlashAttention, arXiv 2205.14135, algorithm 1).
`SharedCache.attend` says what is computed, and does the same in several steps where Triton is missing.
"""

from __future__ import annotations

from typing import Any

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

_KEYS = 32
"""Keys that a program takes at once."""


@triton.jit  # type: ignore[untyped-decorator]
def _over_keys(  # type: ignore[no-untyped-def]
    query, keys, values, places_of_row, begin, end, key_stride, hidden, softcap,
    top, total, sums, dims, size, has_hidden: tl.constexpr, has_places: tl.constexpr,
    has_softcap: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Takes keys from `begin` to `end` into the running softmax: largest score, sum of weights, weighted values."""
    for start in range(begin, end, block):
        columns = start + tl.arange(0, block)
        is_seen = columns < end
        if has_places:
            is_seen &= tl.load(places_of_row + columns, mask=is_seen, other=-1) >= 0
        if has_hidden:
            is_seen &= tl.load(hidden + columns, mask=is_seen, other=1) == 0
        places = columns[:, None] * key_stride + dims[None, :]
        is_there = (columns < end)[:, None] & (dims < size)[None, :]
        key = tl.load(keys + places, mask=is_there, other=0.0)
        scores = tl.dot(query, tl.trans(key).to(query.dtype), input_precision="ieee")
        if has_softcap:  # c·tanh(s/c), by way of exp, which every version has
            bounded = 2.0 / (1.0 + tl.exp(-2.0 * scores / softcap)) - 1.0
            scores = softcap * bounded
        scores = tl.where(is_seen[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp(scores - safe[:, None])
        rescaled = tl.exp(top - safe)
        value = tl.load(values + places, mask=is_there, other=0.0)
        sums = sums * rescaled[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        total = total * rescaled + tl.sum(weights, axis=1)
        top = higher
    return top, total, sums


@triton.jit(do_not_specialize=["width", "columns"])  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    query, prompt_keys, prompt_values, own_keys, own_values, prompt_of_row, lengths, own, hidden, sinks, output,
    scaling, softcap, repeats, size, width, columns,
    prompt_stride, prompt_head_stride, prompt_key_stride, row_stride, head_stride, key_stride,
    has_hidden: tl.constexpr, has_softcap: tl.constexpr, has_sinks: tl.constexpr,
    padded_heads: tl.constexpr, padded_size: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    heads, dims = tl.arange(0, padded_heads), tl.arange(0, padded_size)
    mine = (row * tl.num_programs(1) + group) * repeats
    places = (mine + heads)[:, None] * size + dims[None, :]
    is_there = (heads < repeats)[:, None] & (dims < size)[None, :]
    queries = tl.load(query + places, mask=is_there, other=0.0)
    queries = (queries.to(tl.float32) * scaling).to(queries.dtype)
    top = tl.full((padded_heads,), float("-inf"), tl.float32)
    total = tl.zeros((padded_heads,), tl.float32)
    if has_sinks:
        is_head = heads < repeats
        top = tl.load(sinks + group * repeats + heads, mask=is_head, other=float("-inf")).to(tl.float32)
        total = tl.where(is_head, 1.0, 0.0)
    sums = tl.zeros((padded_heads, padded_size), tl.float32)
    prompt, length = tl.load(prompt_of_row + row), tl.load(lengths + row)
    hidden_of_row = hidden + row * (width + columns)
    there = prompt * prompt_stride + group * prompt_head_stride
    top, total, sums = _over_keys(
        queries, prompt_keys + there, prompt_values + there, own, width - length, width, prompt_key_stride,
        hidden_of_row, softcap, top, total, sums, dims, size, has_hidden, False, has_softcap, block,
    )  # fmt: skip
    there = row * row_stride + group * head_stride
    top, total, sums = _over_keys(
        queries, own_keys + there, own_values + there, own + row * columns, 0, columns, key_stride,
        hidden_of_row + width, softcap, top, total, sums, dims, size, has_hidden, True, has_softcap, block,
    )  # fmt: skip
    tl.store(output + places, (sums / total[:, None]).to(output.dtype.element_ty), mask=is_there)


def attend(
    query: torch.Tensor,
    prompt: tuple[torch.Tensor, torch.Tensor],
    own: tuple[torch.Tensor, torch.Tensor],
    *,
    prompt_of_row: torch.Tensor,
    lengths: torch.Tensor,
    places: torch.Tensor,
    scaling: float,
    softcap: float | None = None,
    hidden: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of one token of each row over its prompt and its own tokens, shape (rows, heads, head size).

    Keys and values of prompts have shape (prompts, key heads, width, head size), right-aligned, `lengths` tokens of
    the prompt of each row; those of rows (rows, key heads, columns, head size), where `places`, shape (rows, columns),
    are negative for columns that are not the row's. `hidden`, shape (rows, 1, width + columns), is what a mask hides.
    Half precision or float32; head sizes up to 256.
    """
    (prompt_keys, prompt_values), (own_keys, own_values) = prompt, own
    rows, heads, size = query.shape
    groups, width, columns = prompt_keys.shape[1], prompt_keys.shape[2], own_keys.shape[2]
    query, places = query.contiguous(), places.contiguous()
    for keys, values in (prompt, own):
        if keys.stride() != values.stride() or keys.stride(3) != 1:
            raise ValueError("keys and values must lie alike, each head's numbers side by side")
    output, nothing = torch.empty_like(query), places
    given: Any = hidden.contiguous().view(torch.uint8) if hidden is not None else nothing
    _attend[rows, groups](
        query, prompt_keys, prompt_values, own_keys, own_values, prompt_of_row, lengths, places, given,
        nothing if sinks is None else sinks.contiguous(), output,
        scaling, softcap or 1.0, heads // groups, size, width, columns,
        *prompt_keys.stride()[:3], *own_keys.stride()[:3],
        has_hidden=hidden is not None, has_softcap=softcap is not None, has_sinks=sinks is not None,
        padded_heads=max(16, triton.next_power_of_2(heads // groups)),
        padded_size=max(16, triton.next_power_of_2(size)), block=_KEYS,
    )  # fmt: skip
    return output
