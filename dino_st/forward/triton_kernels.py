"""Triton kernels for GPUs: attention over a prompt and a row's own tokens, and debiasing over a vocabulary.

They compute what `SlotCache.attend` and `TokenDrawing` compute in several steps where Triton is missing.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

LARGEST_HEAD = 256
"""Numbers of a head that the attention kernel holds."""

LARGEST_TOP_K = 32
"""Tokens that the kernel finds one after the other in each part of the vocabulary."""

_KEYS, _WARPS, _STAGES = 16, 1, 2
"""Keys that a program takes at once, its warps and stages; of those tried (16 to 128, 1 to 4), quickest on an H200."""

_ENTRIES = 4096
"""Entries of a vocabulary that a program takes at once."""


@triton.jit
def _capped(scores, softcap):  # type: ignore[no-untyped-def]
    """c·tanh(s/c), by way of exp, which every version has."""
    return softcap * (2.0 / (1.0 + tl.exp(-2.0 * scores / softcap)) - 1.0)


@triton.jit  # type: ignore[untyped-decorator]
def _over_keys(  # type: ignore[no-untyped-def]
    query, is_mine, keys, values, end, key_stride, hidden, scaling, softcap, top, total, sums, dims, size,
    has_hidden: tl.constexpr, has_softcap: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Takes keys up to `end` into the running softmax of the queries that see them.

    The softmax is kept as the largest score, the sum of weights and the weighted values.
    """
    for start in range(0, end, block):
        columns = start + tl.arange(0, block)
        is_key = columns < end
        places = columns[:, None] * key_stride + dims[None, :]
        is_there = is_key[:, None] & (dims < size)[None, :]
        key = tl.load(keys + places, mask=is_there, other=0.0)
        value = tl.load(values + places, mask=is_there, other=0.0)
        scores = tl.dot(query, tl.trans(key).to(query.dtype), input_precision="ieee") * scaling
        if has_softcap:
            scores = _capped(scores, softcap)
        is_seen = is_mine[:, None] & is_key[None, :]
        if has_hidden:
            is_seen &= tl.load(hidden[:, None] + columns[None, :], mask=is_seen, other=1) == 0
        scores = tl.where(is_seen, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        weights = tl.exp(scores - higher[:, None])
        rescaled = tl.exp(top - higher)
        sums = sums * rescaled[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        total = total * rescaled + tl.sum(weights, axis=1)
        top = higher
    return top, total, sums


@triton.jit(do_not_specialize=["width", "room"])  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    query, key, value, prompt_keys, prompt_values, own_keys, own_values, members, slots, starts, lengths, written,
    hidden, sinks, output, scaling, softcap, repeats, size, width, room,
    query_row, query_head, key_row, key_head, value_row, value_head,
    has_hidden: tl.constexpr, has_softcap: tl.constexpr, has_sinks: tl.constexpr,
    together: tl.constexpr, lanes: tl.constexpr, padded_size: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    group, member = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64) * together
    groups = tl.num_programs(0)
    first = tl.load(members + member)
    if first >= 0:
        lane, dims = tl.arange(0, lanes), tl.arange(0, padded_size)
        number = lane // repeats  # of the lane's row among the members
        row = tl.load(members + member + number, mask=number < together, other=-1)
        is_lane, is_dim = row >= 0, dims < size
        head = group * repeats + lane % repeats
        is_there = is_lane[:, None] & is_dim[None, :]
        places = row[:, None] * query_row + head[:, None] * query_head + dims[None, :]
        queries = tl.load(query + places, mask=is_there, other=0.0)
        slot = tl.load(slots + row, mask=is_lane, other=0)
        read = tl.load(written + row, mask=is_lane, other=0)
        newest_key = tl.load(
            key + row[:, None] * key_row + group * key_head + dims[None, :], mask=is_there, other=0.0
        )  # fmt: skip
        newest_value = tl.load(
            value + row[:, None] * value_row + group * value_head + dims[None, :], mask=is_there, other=0.0
        )  # fmt: skip
        places = (((slot * groups + group) * room + read) * size)[:, None] + dims[None, :]
        is_new = is_there & (lane % repeats == 0)[:, None]
        tl.store(own_keys + places, newest_key.to(own_keys.dtype.element_ty), mask=is_new)
        tl.store(own_values + places, newest_value.to(own_values.dtype.element_ty), mask=is_new)
        top = tl.sum(queries.to(tl.float32) * newest_key.to(tl.float32), axis=1) * scaling
        if has_softcap:
            top = _capped(top, softcap)
        total = tl.full((lanes,), 1.0, tl.float32)
        sums = newest_value.to(tl.float32)
        if has_sinks:
            sink = tl.load(sinks + head, mask=is_lane, other=0.0).to(tl.float32)
            higher = tl.maximum(top, sink)
            rescaled = tl.exp(top - higher)
            total = rescaled + tl.exp(sink - higher)
            sums = sums * rescaled[:, None]
            top = higher
        hidden_of_row = hidden + row * (width + room)
        prompt = (tl.load(starts + first) * groups + group) * size
        top, total, sums = _over_keys(
            queries, is_lane, prompt_keys + prompt, prompt_values + prompt, tl.load(lengths + first), groups * size,
            hidden_of_row, scaling, softcap, top, total, sums, dims, size, has_hidden, has_softcap, block,
        )  # fmt: skip
        for other in range(0, together):
            this = tl.load(members + member + other)
            if this >= 0:
                own = (tl.load(slots + this) * groups + group) * room * size
                top, total, sums = _over_keys(
                    queries, number == other, own_keys + own, own_values + own, tl.load(written + this), size,
                    hidden_of_row + width, scaling, softcap, top, total, sums, dims, size,
                    has_hidden, has_softcap, block,
                )  # fmt: skip
        places = (row[:, None] * groups * repeats + head[:, None]) * size + dims[None, :]
        tl.store(output + places, (sums / total[:, None]).to(output.dtype.element_ty), mask=is_there)


def attend(
    query: torch.Tensor,
    new: tuple[torch.Tensor, torch.Tensor],
    prompts: tuple[torch.Tensor, torch.Tensor],
    own: tuple[torch.Tensor, torch.Tensor],
    *,
    members: torch.Tensor,
    slots: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    written: torch.Tensor,
    scaling: float,
    softcap: float | None = None,
    hidden: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Stores the key and value of each row's new token and attends to its prompt, its own tokens and that one.

    Each program takes a few rows of one prompt and a key head, with all their query heads that read it, and keeps a
    running softmax (Milakov and Gimelshein 2018, arXiv 1805.02867, algorithm 3; as in FlashAttention, arXiv 2205.14135,
    algorithm 1) over the prompt's keys, which are read once for these rows, and then over each row's own.

    `query` has shape (rows, heads, head size), `new` (rows, key heads, head size) each, `prompts` (tokens, key heads,
    head size), of which `lengths` tokens from `starts` are the row's prompt, `own` (slots, key heads, room, head size),
    of which `written` tokens in the row's slot are its own. `members`, shape (groups, rows of a group), names rows of
    the same prompt, -1 behind the last; a row that no group has gets whatever is there. `hidden`, shape (rows, width +
    room), is what a mask hides of prompt and own tokens. Half precision or float32.
    """
    (keys, values), (prompt_keys, prompt_values), (own_keys, own_values) = new, prompts, own
    rows, heads, size = query.shape
    groups, room = own_keys.shape[1:3]
    if any(each.stride(-1) != 1 for each in (query, keys, values)):
        raise ValueError("queries, keys and values must have each head's numbers side by side")
    output, nothing, together = query.new_empty(rows, heads, size), slots, members.shape[1]
    _attend[groups, len(members)](
        query, keys, values, prompt_keys, prompt_values, own_keys, own_values,
        *(each.contiguous() for each in (members, slots, starts, lengths, written)),
        nothing if hidden is None else hidden.contiguous().view(torch.uint8),
        nothing if sinks is None else sinks.contiguous(), output,
        scaling, softcap or 1.0, heads // groups, size, 0 if hidden is None else hidden.shape[1] - room, room,
        *query.stride()[:2], *keys.stride()[:2], *values.stride()[:2],
        has_hidden=hidden is not None, has_softcap=softcap is not None, has_sinks=sinks is not None,
        together=together, lanes=max(16, triton.next_power_of_2(together * heads // groups)),
        padded_size=max(16, triton.next_power_of_2(size)), block=_KEYS, num_warps=_WARPS, num_stages=_STAGES,
    )  # fmt: skip
    return output


@triton.jit  # type: ignore[untyped-decorator]
def _normalisers(logits, result, vocabulary, stride, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    top = tl.full((block,), float("-inf"), tl.float32)
    total = tl.zeros((block,), tl.float32)
    for start in range(0, vocabulary, block):
        columns = start + tl.arange(0, block)
        logit = tl.load(logits + row * stride + columns, mask=columns < vocabulary, other=float("-inf"))
        higher = tl.maximum(top, logit)
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(top - safe) + tl.exp(logit - safe)
        top = higher
    highest = tl.max(top, axis=0)
    tl.store(result + row, highest + tl.log(tl.sum(total * tl.exp(top - highest), axis=0)))


@triton.jit  # type: ignore[untyped-decorator]
def _candidates(  # type: ignore[no-untyped-def]
    logits, normalisers, rows, values, ids, sums, vocabulary, stride, streams, decay, floor,
    count: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    draw, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    place = draw * tl.num_programs(1) + part
    lanes = tl.arange(0, block)
    columns = part * block + lanes
    is_there = columns < vocabulary
    target = tl.load(rows + draw * streams)
    if target >= 0:
        logit = tl.load(logits + target * stride + columns, mask=is_there, other=float("-inf"))
        probability = tl.exp(logit - tl.load(normalisers + target))
        likeliest = tl.zeros((block,), tl.float32)
        for stream in range(1, streams):
            counter = tl.load(rows + draw * streams + stream)
            if counter >= 0:
                logit = tl.load(logits + counter * stride + columns, mask=is_there, other=float("-inf"))
                likeliest = tl.maximum(likeliest, tl.exp(logit - tl.load(normalisers + counter)))
        excess = tl.minimum(probability - likeliest, 0.0)
        probability = probability * tl.maximum(tl.exp(decay * excess), floor)
        tl.store(sums + place, tl.sum(probability, axis=0))
        probability = tl.where(is_there, probability, -1.0)
        for found in tl.static_range(count):
            best = tl.argmax(probability, axis=0)
            tl.store(values + place * count + found, tl.max(probability, axis=0))
            tl.store(ids + place * count + found, (part * block + best).to(tl.int64))
            probability = tl.where(lanes == best, -1.0, probability)
    else:  # no draw: any token will do
        tl.store(sums + place, 1.0)
        for found in tl.static_range(count):
            tl.store(values + place * count + found, 1.0)
            tl.store(ids + place * count + found, tl.zeros((), tl.int64))


def normalisers(logits: torch.Tensor) -> torch.Tensor:
    """Logarithms of the sums of exponentials, shape (rows,), of float32 logits, shape (rows, vocabulary)."""
    result = logits.new_empty(len(logits))
    _normalisers[(len(logits),)](logits, result, logits.shape[1], logits.stride(0), block=_ENTRIES, num_warps=8)
    return result


def debiased_candidates(
    logits: torch.Tensor, normalisers: torch.Tensor, rows: torch.Tensor, *, count: int, decay: float, floor: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens of each part of the vocabulary after self-debiasing (`debiasing.self_debias`).

    `rows`, shape (draws, streams), names each draw's target row and those of its counter-prompts, -1 where there is
    none. Returns probabilities and ids of `count` tokens of each part, shape (draws, parts × count); those of a part
    stand in order, and ids of equal ones ascend. A token that a part lacks has probability 0.
    """
    (draws, streams), rows = rows.shape, rows.contiguous()
    parts = triton.cdiv(logits.shape[1], _ENTRIES)
    values = logits.new_empty(draws, parts * count)
    ids, sums = torch.empty_like(values, dtype=torch.int64), logits.new_empty(draws, parts)
    _candidates[draws, parts](
        logits, normalisers, rows, values, ids, sums, logits.shape[1], logits.stride(0), streams, decay, floor,
        count=count, block=_ENTRIES, num_warps=8,
    )  # fmt: skip
    return values.clamp_(min=0).div_(sums.sum(dim=1, keepdim=True)), ids
