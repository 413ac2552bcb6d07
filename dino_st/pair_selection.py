"""The choices of preparation as pure functions on integer arrays: order, caps, random negatives, the split.

Texts are numbered by their rank in byte order, so the outcome does not depend on the order of the rows that come
in. Random numbers are the raw output of a bit generator, whose stream numpy guarantees across versions (it does not
for `Generator.permutation`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Guard = Callable[[Codes, Codes], Mask]
"""Says of pairs (x1, x2) whether they look too much alike to be drawn at random."""

_BLIND_DRAWS = 8
_GUARDED_STEPS = 64
_SLICE = 100_000


def random_bits(seed: int, stage: int) -> np.random.PCG64:
    """A stream of random numbers for one stage, which the draws of other stages do not shift.

    Args:
        seed: The seed of the whole preparation.
        stage: Number of the stage.

    Returns:
        A bit generator; take numbers with `random_raw`.
    """
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stage,)))


def random_order(size: int, bits: np.random.PCG64) -> Codes:
    """A random permutation.

    Args:
        size: Number of elements.
        bits: Where the randomness comes from.

    Returns:
        Positions of shape `(size,)`.
    """
    return np.argsort(bits.random_raw(size), kind="stable")


def text_codes(columns: Sequence[pa.ChunkedArray]) -> tuple[list[Codes], pa.LargeStringArray]:
    """Numbers texts over all columns together, equal texts alike, in the byte order of the texts.

    Args:
        columns: String columns of the same length, without nulls.

    Returns:
        For each column its codes of shape `(rows,)`, and the distinct texts by code.
    """
    chunks = [chunk.cast(pa.large_string()) for column in columns for chunk in column.chunks]
    encoded = pa.chunked_array(chunks, pa.large_string()).dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # an empty column has no chunk to combine
        encoded = pa.array([], pa.large_string()).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    codes = ranks[encoded.indices.to_numpy()]
    return np.split(codes, np.cumsum([len(column) for column in columns])[:-1]), encoded.dictionary.take(order)


def texts_of(codes: Codes, texts: pa.LargeStringArray) -> pa.ChunkedArray:
    """The texts behind codes.

    Args:
        codes: Shape `(rows,)`.
        texts: The distinct texts by code.

    Returns:
        A string column of `rows` rows, in chunks that stay below the 2 GiB which a string array can hold.
    """
    slices = [codes[start : start + _SLICE] for start in range(0, len(codes), _SLICE)]
    return pa.chunked_array([texts.take(pa.array(part)).cast(pa.string()) for part in slices], pa.string())


def content_hash(header: str, texts: pa.LargeStringArray, *rows: Codes) -> str:
    """A hash of rows and the texts behind them, for a data set's fingerprint.

    Without one, `datasets` pickles the whole table to compute its own, which takes several times its memory.

    Args:
        header: What else tells the data set from others: names of columns, values behind codes.
        texts: The distinct texts by code.
        *rows: Arrays of codes.

    Returns:
        Sixteen hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256(header.encode())
    for buffer in texts.buffers()[1:]:
        if buffer is not None:
            digest.update(buffer)
    for row in rows:
        digest.update(row.tobytes())
    return digest.hexdigest()[:16]


def rank_among_equals(groups: Codes) -> Codes:
    """How many equal elements stand before each element.

    Example:
        >>> rank_among_equals(np.array([7, 3, 7, 7, 3]))
        array([0, 0, 1, 2, 1])

    Args:
        groups: Shape `(rows,)`.

    Returns:
        Ranks from 0, shape `(rows,)`.
    """
    order = np.argsort(groups, kind="stable")
    grouped = groups[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]][: len(grouped)])
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))
    return ranks


def draw_negatives(
    first: Codes,
    second: Codes,
    known: tuple[Codes, Codes],
    per_input: int,
    bits: np.random.PCG64,
    is_too_close: Guard | None = None,
) -> tuple[Codes, Codes]:
    """Draws for each distinct x1 the x2 of other entries, as many as asked for and distinct.

    An entry is drawn uniformly, as in the published code; it is drawn again when its x2 is x1 itself, stands with x1
    in a known pair (in either direction) or was drawn for this x1 before. After eight draws in vain the distinct x2
    are walked through from a random one on, so what exists is always found. With a guard the walk ends after 64 steps,
    since every step costs a look at two texts.

    Args:
        first: x1 of the entries, shape `(entries,)`.
        second: x2 of the entries, shape `(entries,)`.
        known: x1 and x2 of every pair there is, including those that are no entries any more.
        per_input: Negatives for each x1.
        bits: Where the randomness comes from.
        is_too_close: Pairs for which this is true are drawn again.

    Returns:
        x1 and x2 of the new pairs, ordered by x1; fewer than `per_input` for an x1 that other entries have not enough
        x2 for.
    """
    inputs = np.unique(first)
    texts = int(max(map(np.max, (first, second, *known)))) + 1
    forbidden = np.unique(np.concatenate([known[0] * texts + known[1], known[1] * texts + known[0]]))
    distinct = np.unique(second)
    steps = len(distinct) if is_too_close is None else min(len(distinct), _GUARDED_STEPS)
    drawn = np.full((len(inputs), per_input), -1, np.int64)

    for column in range(per_input):
        pending = np.arange(len(inputs))
        for _ in range(_BLIND_DRAWS):
            candidates = second[_positions(len(pending), len(second), bits)]
            free = _is_free(inputs[pending], candidates, drawn[pending], forbidden, texts, is_too_close)
            drawn[pending[free], column] = candidates[free]
            pending = pending[~free]
        starts = _positions(len(pending), len(distinct), bits)
        for step in range(steps if len(pending) else 0):
            candidates = distinct[(starts + step) % len(distinct)]
            free = _is_free(inputs[pending], candidates, drawn[pending], forbidden, texts, is_too_close)
            drawn[pending[free], column] = candidates[free]
            pending, starts = pending[~free], starts[~free]
            if not len(pending):
                break
    found = drawn >= 0
    return np.repeat(inputs, found.sum(axis=1)), drawn[found]


def _positions(count: int, size: int, bits: np.random.PCG64) -> Codes:
    """Draws positions below `size`; the modulo favours none of them by more than one in 2^64 / size."""
    return (bits.random_raw(count) % np.uint64(size)).astype(np.int64)


def _is_free(
    inputs: Codes, candidates: Codes, drawn: Codes, forbidden: Codes, texts: int, is_too_close: Guard | None
) -> Mask:
    """Whether a candidate is neither x1, nor known with x1, nor drawn for x1, nor too close to it; `(inputs,)`."""
    keys = inputs * texts + candidates
    places = np.minimum(np.searchsorted(forbidden, keys), len(forbidden) - 1)
    is_new: Mask = (candidates != inputs) & (forbidden[places] != keys) & (drawn != candidates[:, None]).all(axis=1)
    if is_too_close is not None:
        is_new[is_new] = ~is_too_close(inputs[is_new], candidates[is_new])
    return is_new


def validation_rows(strata: Codes, share: float, bits: np.random.PCG64) -> tuple[Mask, int]:
    """Chooses the rows of the validation split, the same share of each stratum.

    The share of a stratum is rounded down, as published; but a stratum of at least two rows gives at least one.

    Args:
        strata: Stratum of each row, numbered from 0, shape `(rows,)`.
        share: Share of the rows, from 0 to below 1. With 0 no row is chosen.
        bits: Where the randomness comes from.

    Returns:
        A mask of shape `(rows,)`, and the number of strata that got their row only by the exception.
    """
    sizes = np.bincount(strata)
    # 0.29 * 100 is 28.999999999999996: a millionth of a row makes up for the representation of the share.
    wanted = np.floor(sizes * share + 1e-6).astype(np.int64)
    lifted = (wanted == 0) & (sizes >= 2) & (share > 0)
    wanted[lifted] = 1
    order = random_order(len(strata), bits)
    mask = np.empty(len(strata), np.bool_)
    mask[order] = rank_among_equals(strata[order]) < wanted[strata[order]]
    return mask, int(lifted.sum())
