"""Which prompts begin alike, so that what they share is read once, and which are read together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

_PASS = {"cpu": 64}
_PASS_ELSEWHERE = 512
"""Tokens that a forward pass takes as long for as to get under way: what it must save to be worth it."""

_LEVELS = 16
"""How often a group is split at most."""

_PREFILL_TOKENS = 16_384
"""Tokens of one prefill forward pass: enough to keep any hardware busy."""

Prompts = Sequence[tuple[int, ...]]


def common_heads(prompts: Prompts, device: str) -> list[tuple[int, list[int]]]:
    """Groups prompts by their beginnings, so that few tokens are read in all.

    Prompts for one label differ only in their sentence, and what stands before it is longer than most sentences.

    Args:
        prompts: Distinct token ids, at least one token each.
        device: Kind of device, such as `cuda`.

    Returns:
        For each group the number of tokens that all its prompts begin with (always less than the shortest has), and the
        indices of its prompts.
    """
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    return _best_groups(prompts, order, _PASS.get(device, _PASS_ELSEWHERE), _LEVELS)[1] if order else []


def _best_groups(
    prompts: Prompts, indices: list[int], a_pass: int, levels: int
) -> tuple[int, list[tuple[int, list[int]]]]:
    """The cheapest grouping of sorted prompts, and its cost in tokens."""
    if len(indices) == 1:
        return len(prompts[indices[0]]) + a_pass, [(0, indices)]
    first, last = prompts[indices[0]], prompts[indices[-1]]
    shared = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    head = min(shared, min(len(prompts[i]) for i in indices) - 1)
    whole = sum(len(prompts[i]) - head for i in indices) + head + a_pass
    if levels == 0 or len(first) <= shared:  # the first is the beginning of all others
        return whole, [(head, indices)]
    parts = [
        _best_groups(prompts, list(part), a_pass, levels - 1)
        for _, part in groupby(indices, key=lambda i: prompts[i][shared])
    ]
    split = sum(cost for cost, _ in parts)
    if whole <= split:
        return whole, [(head, indices)]
    return split, [group for _, groups in parts for group in groups]


def prefill_chunks(lengths: Sequence[int], device: str, *, padding: bool) -> Iterator[list[int]]:
    """Says which rows are read in one forward pass: those of like length, up to a number of tokens.

    Args:
        lengths: Tokens of each row.
        device: Kind of device, such as `cuda`.
        padding: Whether rows of different length may be read together, as long as little of it is padding.

    Yields:
        Indices of rows, shortest first.
    """
    chunk: list[int] = []
    tokens = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        area = (len(chunk) + 1) * lengths[i]
        spare = _PASS.get(device, _PASS_ELSEWHERE) if padding else 0
        if chunk and (area > _PREFILL_TOKENS or area > tokens + lengths[i] + spare):
            yield chunk
            chunk, tokens = [], 0
        chunk.append(i)
        tokens += lengths[i]
    if chunk:
        yield chunk
