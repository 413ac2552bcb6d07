"""The steps of preparation that every set goes through: dropping, capping, random negatives, the split."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from dino_st.columns import SCORE
from dino_st.errors import DatasetError, DinoWarning
from dino_st.pair_selection import (
    Codes,
    Guard,
    Mask,
    content_hash,
    draw_negatives,
    random_bits,
    random_order,
    rank_among_equals,
    texts_of,
    validation_rows,
)
from dino_st.preparation_options import PreparationOptions
from dino_st.prepared_splits import format_counts
from dino_st.raw_pairs import RawPairs
from dino_st.rejected_pairs import PairRows, Rejections
from dino_st.text_similarity import WordSets

Values = npt.NDArray[np.float64]

CAP, NEGATIVES, SPLIT, ORDER, TARGETS = range(5)
"""The stages that draw random numbers, each from a stream of its own."""


def drop_worthless(raw: RawPairs, options: PreparationOptions, rejections: Rejections) -> PairRows:
    """Drops blank texts, identical pairs and duplicates.

    Args:
        raw: The raw pairs.
        options: What to drop.
        rejections: Where dropped rows are counted.

    Returns:
        What is left, in the order of the texts. Of equal pairs the one that is likelier under its own instruction
        comes first, and stays, where log-probabilities are used.
    """
    rows = raw.rows
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(raw.texts)), 0).to_numpy(zero_copy_only=False)
    rows = rejections.drop(rows, blank[rows.first] | blank[rows.second], "blank")
    if raw.is_pair and options.drop_identical:
        rows = rejections.drop(rows, rows.first == rows.second, "identical")
    rows = rows.take(np.lexsort((*_preferences(raw, rows), rows.label, rows.second, rows.first)))
    if options.drop_duplicates:
        repeats = np.zeros(len(rows), np.bool_)
        repeats[1:] = (np.diff(rows.first) == 0) & (np.diff(rows.second) == 0) & (np.diff(rows.label) == 0)
        rows = rejections.drop(rows, repeats, "duplicate")
    return rows


def cap(rows: PairRows, options: PreparationOptions, rejections: Rejections) -> PairRows:
    """Keeps a random few of each (x1, label).

    Args:
        rows: The rows that are left.
        options: How many, and the seed.
        rejections: Where dropped rows are counted.

    Returns:
        What is left, in random order.
    """
    shuffled = rows.take(random_order(len(rows), random_bits(options.seed, CAP)))
    groups = shuffled.first * (int(shuffled.label.max(initial=0)) + 1) + shuffled.label
    return rejections.drop(shuffled, rank_among_equals(groups) >= options.max_per_input_and_label, "over_cap")


def add_negatives(
    raw: RawPairs, rows: PairRows, known: PairRows, options: PreparationOptions, counts: dict[str, int]
) -> PairRows:
    """Appends random pairs with a label of their own, the number behind the last of the labels.

    Args:
        raw: The raw pairs.
        rows: The entries that x2 are drawn from.
        known: Pairs that must not come up, those that were dropped on the way included.
        options: How many, how guarded, and the seed.
        counts: Where they are counted.

    Returns:
        The rows and the random pairs.
    """
    bits = random_bits(options.seed, NEGATIVES)
    guard, refused = _guard(raw, options)
    known_codes = (known.first, known.second)
    first, second = draw_negatives(rows.first, rows.second, known_codes, options.random_negatives, bits, guard)
    inputs = len(np.unique(rows.first))
    missing = inputs * options.random_negatives - len(first)
    counts["random_negatives"] = len(first)
    if guard is not None:
        counts["random_negatives_redrawn"] = sum(refused)
    counts["random_negatives_missing"] = missing
    if missing:
        reason = "the entries of other x1 have too few different x2"
        if guard is not None:
            reason += f" that share less than {options.negative_guard_overlap:g} of the words with x1"
        warnings.warn(
            f"{missing:,} of {inputs * options.random_negatives:,} random negatives could not be drawn: {reason} "
            f"(there are {inputs:,} x1). Generate from more sentences, or pass a smaller random_negatives"
            + ("" if guard is None else " or a larger negative_guard_overlap"),
            DinoWarning,
            stacklevel=3,
        )
    joined = (
        (rows.first, first),
        (rows.second, second),
        (rows.label, np.full(len(first), len(raw.labels))),
        (rows.origin, np.full(len(first), -1)),
    )
    return PairRows(*(np.concatenate(parts) for parts in joined))


def split(
    raw: RawPairs,
    rows: PairRows,
    values: Sequence[float] | Sequence[str],
    targets: Values | None,
    options: PreparationOptions,
    counts: dict[str, int],
) -> dict[str, Dataset]:
    """Splits by label, shuffles and turns the numbers back into text.

    The rows of each split do not depend on the targets, so runs that differ in those alone are compared on the same
    pairs; nor do the scores of the validation split, unless `validation_scores` says so.

    Args:
        raw: The raw pairs.
        rows: What is left.
        values: What stands for each label, smoothed.
        targets: Scores to train on, shape `(rows,)`, where they are not `values`.
        options: Share and seed.
        counts: Where rows are counted.

    Returns:
        The splits by name.

    Raises:
        DatasetError: No row is left for training.
    """
    text_columns, label_column = raw.columns
    kind = pa.float64() if label_column == SCORE else pa.string()
    distinct, strata_of_label = np.unique(np.array(values), return_inverse=True)
    strata = np.unique(strata_of_label[rows.label], return_inverse=True)[1]
    held_out, lifted = validation_rows(strata, options.validation_share, random_bits(options.seed, SPLIT))
    without = len(np.setdiff1d(strata, strata[held_out]))
    order = random_order(len(rows), random_bits(options.seed, ORDER))
    splits = {}
    for name, mask in (("train", ~held_out), ("validation", held_out)):
        chosen = order[mask[order]]
        part = rows.take(chosen)
        text = [texts_of(rank, raw.texts) for rank in (part.first, part.second)][: len(text_columns)]
        codes = strata_of_label[part.label]
        identity = [part.first, part.second, codes]
        if targets is None or (name == "validation" and options.validation_scores == "assigned"):
            label = pa.array(distinct.tolist(), kind).take(pa.array(codes))
        else:
            label = pa.array(targets[chosen])
            identity.append(targets[chosen].view(np.int64))
        table = pa.table([*text, label], names=[*text_columns, label_column])
        header = repr((raw.columns, distinct.tolist()))
        splits[name] = Dataset(table, fingerprint=content_hash(header, raw.texts, *identity))
        counts[name] = len(part)
    counts["validation_lifted_to_one"] = lifted
    if not counts["train"]:
        raise DatasetError(
            f"no pair is left to train on: validation_share {options.validation_share:g} takes all\n"
            f"{format_counts(counts)}"
        )
    if options.validation_share:
        counts[f"{label_column}s_without_validation"] = without
        if without:
            warnings.warn(
                f"{without} {label_column}(s) have a single pair and so no row in the validation split; generate more",
                DinoWarning,
                stacklevel=3,
            )
    return splits


def tally(label: Codes, values: Sequence[float] | Sequence[str]) -> dict[str, int]:
    """How many rows have each label.

    Args:
        label: Positions of labels, shape `(rows,)`.
        values: The labels.

    Returns:
        Counts named `kept[label]`, in the order of the labels.
    """
    names = [value if isinstance(value, str) else format(value, "g") for value in values]
    counts = np.bincount(label, minlength=len(names))
    return {f"kept[{name}]": int(count) for name, count in zip(names, counts, strict=True)}


def _preferences(raw: RawPairs, rows: PairRows) -> list[Values]:
    """Orders equal pairs by what a model said of them, so that which one stays does not depend on their order."""
    keys: list[Values] = []
    if raw.num_tokens is not None:
        keys.append(raw.num_tokens[rows.origin].astype(np.float64))
    if raw.plain_log_prob is not None:
        keys.append(-raw.plain_log_prob[rows.origin])
    if raw.log_probs is not None:
        keys.extend(-raw.log_probs[rows.origin].T)
        keys.append(-raw.log_probs[rows.origin, rows.label])
    return keys


def _guard(raw: RawPairs, options: PreparationOptions) -> tuple[Guard | None, list[int]]:
    """A test for random pairs that look too much alike, and a list to which it adds how many it found."""
    refused: list[int] = []
    if options.negative_guard == "none":
        return None, refused
    word_sets = WordSets.of(raw.texts)

    def is_too_close(first: Codes, second: Codes) -> Mask:
        found: Mask = word_sets.overlap(first, second) >= options.negative_guard_overlap
        refused.append(int(found.sum()))
        return found

    return is_too_close, refused
