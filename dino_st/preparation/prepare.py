"""Raw pairs in, training pairs out: everything that deals with noise before training.

The steps are those of DINO (arXiv 2104.07540, section 4) and of its published code, each an option. What differs
from that code, on purpose:

- It deduplicates through a `set`, so which pairs survive the cap and which negatives are drawn changes with
  `PYTHONHASHSEED`. Here the outcome depends on the seed and the pairs alone, not even on the order of the rows.
- It draws negatives from all entries, those of the same x1 included, and may draw one twice. Here a negative is
  never an x2 of the same x1, nor x1 itself, nor a pair that stands in the data in either direction.
- It rounds the validation share of each score down, so a score with fewer than ten pairs has none. Here a score
  with at least two pairs has at least one.
- Pairs with a blank text are dropped.

Filters and targets that know of noise (`pair_filters`, `noisy_targets`) are options that are off by default.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from dino_st.data.columns import SCORE
from dino_st.errors import DatasetError, DinoWarning
from dino_st.preparation.filters import filter_doubtful_labels, filter_near_copies, filter_texts
from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.rows import (
    Codes,
    Guard,
    Mask,
    PairRows,
    RawPairs,
    Rejections,
    codes_hash,
    draw_negatives,
    random_bits,
    random_order,
    rank_among_equals,
    read_raw_pairs,
    texts_of,
    validation_rows,
)
from dino_st.preparation.similarity import WordSets
from dino_st.preparation.splits import PreparedSplits, format_counts, load_prepared, save_prepared
from dino_st.preparation.targets import posterior_of_rows, target_scores

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
        splits[name] = Dataset(table, fingerprint=codes_hash(header, raw.texts, *identity))
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


__all__ = ["PreparationOptions", "PreparedSplits", "format_counts", "load_prepared", "prepare_pairs", "save_prepared"]

logger = logging.getLogger(__name__)


class NothingLeftError(DatasetError):
    """Every pair was dropped.

    Attributes:
        rejected: The pairs with the reasons, if `prepare_pairs` was told to keep them.
    """

    def __init__(self, message: str, rejected: pa.Table | None) -> None:
        super().__init__(message)
        self.rejected = rejected


def prepare_pairs(
    raw: Dataset,
    *,
    options: PreparationOptions | None = None,
    explain: bool = False,
    **changes: Any,
) -> PreparedSplits:
    """Turns raw pairs into a training and a validation split, as DINO does before it trains.

    In this order: pairs with a blank text, identical pairs and duplicates are dropped; filters, where some are
    switched on, drop more; of each (x1, label) at most two pairs are kept, chosen at random; scores are smoothed, or
    what `target` says; each x1 gets random x2 of other entries with score 0; a tenth of the pairs of each score becomes
    the validation split.

    The split is drawn by the assigned label, and validation pairs keep the smoothed assigned label whatever the target
    (unless `validation_scores` says otherwise). So checkpoints and runs that differ in the target alone are judged on
    the same pairs by the same scores; runs that differ in filters are not, since filters take pairs from both splits.

    Labels that are not numbers (a column `label`, with pairs or with a single `text`) are neither smoothed nor given
    random negatives, and single texts are not capped; all else is the same.

    Args:
        raw: Columns `sentence1`, `sentence2`, `score`, or `label` instead of `score`, or `text` and `label`; what
            else it has (provenance) is left out. Options that look at the label posterior need `log_probs`, one number
            for each of `labels` in this order, as `dino-st generate` and `dino-st score` write them;
            `min_token_log_prob` needs `plain_log_prob` and `num_tokens`.
        options: How to prepare. The same pairs and seed give the same splits, whatever the order of the rows.
        explain: Keep the pairs that were dropped, with the reason, in `PreparedSplits.rejected`.
        **changes: Fields of `PreparationOptions`, in place of `options` or of what it says: `seed`, `labels`,
            `random_negatives`, `label_smoothing`, `validation_share`, filters, targets, ….

    Returns:
        The splits `train` and `validation` with exactly the columns `sentence1`, `sentence2`, `score` (or `label`),
        and the count of every step in `counts`.

    Raises:
        ConfigurationError: An option is unknown or out of range.
        DatasetError: A column is missing, a score is none of the labels (as in a file that was prepared already), a
            log-probability is no number, or no pair is left.
    """
    return _prepare(raw, PreparationOptions.of(options, **changes), explain=explain)


def _prepare(raw_set: Dataset, options: PreparationOptions, *, explain: bool) -> PreparedSplits:
    """The steps in their order."""
    raw = read_raw_pairs(raw_set, options)
    rejections = Rejections(keep=explain)
    counts = rejections.counts
    counts["input"] = len(raw.rows)

    rows = known = drop_worthless(raw, options, rejections)
    rows = filter_texts(raw, rows, options, rejections)
    rows = filter_near_copies(raw, rows, options, rejections)
    is_scored = raw.log_probs is not None and len(rows) > 0
    posterior, facts = posterior_of_rows(raw, rows, options) if is_scored else (None, None)
    rows = filter_doubtful_labels(raw, rows, posterior, options, rejections)
    if raw.is_pair and options.max_per_input_and_label:
        rows = cap(rows, options, rejections)
    counts["kept"] = len(rows)
    if not len(rows):
        rejected = rejections.table(raw.texts, raw.columns, raw.labels)
        raise NothingLeftError(f"no pair is left after preparation:\n{format_counts(counts)}", rejected)
    counts |= tally(rows.label, raw.labels)
    if raw.is_pair and len(np.unique(rows.label)) == 1:
        warnings.warn(
            f"all pairs have the label {raw.labels[int(rows.label[0])]}; an encoder cannot learn from them how the "
            "labels differ",
            DinoWarning,
            stacklevel=3,
        )

    values, targets = raw.labels, None
    if raw.is_numeric:
        values = [options.smoothed(float(value)) for value in raw.labels]
        if posterior is not None and options.target != "smoothed":
            targets = target_scores(rows.label, posterior[rows.origin], options, random_bits(options.seed, TARGETS))
        if raw.is_pair and options.random_negatives:
            rows = add_negatives(raw, rows, known, options, counts)
            values.append(options.random_negative_score)
            if targets is not None:
                targets = np.pad(targets, (0, len(rows) - len(targets)), constant_values=options.random_negative_score)
    splits = split(raw, rows, values, targets, options, counts)
    logger.info("prepared pairs:\n%s", format_counts(counts))
    return PreparedSplits(
        splits,
        counts=counts,
        options=options,
        provenance={"label_posterior": facts} if facts else None,
        rejected=rejections.table(raw.texts, raw.columns, raw.labels),
    )
