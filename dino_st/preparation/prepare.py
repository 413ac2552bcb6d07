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

Filters and targets that know of noise (`dino_st.preparation.filters`, `targets`) are options that are off by default.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from dino_st.data.columns import blank_texts
from dino_st.data.habits import TextSample
from dino_st.data.quality import LabelStatistics, Summary, quality_lines, summarise, warn_of_doubts
from dino_st.errors import DatasetError, DinoWarning
from dino_st.preparation.filters import apply_filters
from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.rows import (
    Codes,
    Floats,
    Guard,
    Mask,
    PairRows,
    RawPairs,
    Rejections,
    draw_negatives,
    rank_among_equals,
    read_raw_pairs,
    validation_rows,
)
from dino_st.preparation.splits import PreparedSplits, format_counts
from dino_st.preparation.targets import target_scores
from dino_st.support.hashes import random_bits, random_order
from dino_st.support.progress import logger
from dino_st.support.similarity import word_overlap

CAP, NEGATIVES, SPLIT, ORDER, TARGETS = range(5)
"""The stages that draw random numbers, each from a stream of its own."""

_COMPARED = 10_000
"""Pairs of a label whose words are compared to say what the labels look like."""


class NothingLeftError(DatasetError):
    """Every pair was dropped; `rejected` holds them with the reasons, if `prepare_pairs` was told to keep them."""

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
    the validation split, where a pair that stands in both orders with one label is in one split.

    The split is drawn by the assigned label, and validation pairs keep the smoothed assigned label whatever the target
    (unless `validation_scores` says otherwise). So checkpoints and runs that differ in the target alone are judged on
    the same pairs by the same scores; runs that differ in filters are not, since filters take pairs from both splits.

    Labels that are not numbers (a column `label`, with pairs or with a single `text`) are neither smoothed nor given
    random negatives, and single texts are not capped; all else is the same.

    Args:
        raw: Columns `sentence1`, `sentence2`, `score`, or `label` instead of `score`, or `text` and `label`; what
            else it has (provenance) is left out. Options that look at the label posterior need `log_probs`, one number
            for each of `labels`, which must then be given in the order of the task that the pairs were written for, as
            `dino-st generate` and `dino-st score` write them;
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
            log-probability is no number, `log_probs` are asked for without labels, or no pair is left.
    """
    given = PreparationOptions.of(options, **changes)
    options, is_order_known = given.with_labels(), "labels" in given.model_fields_set
    return prepare_rows(lambda: read_raw_pairs(raw, options, is_order_known=is_order_known), options, explain=explain)


def prepare_rows(read: Callable[[], RawPairs], options: PreparationOptions, *, explain: bool = False) -> PreparedSplits:
    """Does the work of `prepare_pairs` on pairs that are read here, so that they can be let go of piece by piece."""
    pairs, rejections = read(), Rejections(keep=explain)
    counts = rejections.counts
    counts["input"] = len(pairs.rows)

    written = _Written.of(pairs)
    known = drop_worthless(pairs, options, rejections)
    rows, posterior, facts = apply_filters(pairs, known, options, rejections)
    pairs = pairs.without_numbers()
    if pairs.is_pair and options.max_per_input_and_label:
        rows = cap(rows, options, rejections)
    counts["kept"] = len(rows)
    if not len(rows):
        message = f"no pair is left after preparation:\n{format_counts(counts)}"
        raise NothingLeftError(message, rejections.table(pairs))
    frequencies = np.bincount(rows.label, minlength=len(pairs.labels)).tolist()
    for label, frequency in zip(pairs.labels, frequencies, strict=True):
        counts[f"kept[{label if isinstance(label, str) else format(label, 'g')}]"] = frequency
    if pairs.is_pair and max(frequencies) == len(rows):
        warnings.warn(
            f"all pairs have the label {pairs.labels[rows.label[0]]}; an encoder cannot learn from them how the labels "
            "differ",
            DinoWarning,
            stacklevel=3,
        )
    quality = _quality(pairs, written, rows, posterior)

    values: list[Any] = list(pairs.labels)
    targets = None
    if pairs.is_numeric:
        values = [options.smoothed(value) for value in values]
        if pairs.judged is not None:
            targets = pairs.judged[rows.origin]
        elif posterior is not None and options.target != "smoothed":
            targets = target_scores(rows.label, posterior[rows.origin], options, random_bits(options.seed, TARGETS))
        posterior = None
        if pairs.is_pair and options.random_negatives:
            rows = add_negatives(pairs, rows, known, options, counts)
            values.append(options.random_negative_score)
            lowest = min(map(float, pairs.labels))
            if len(pairs.labels) > 2 and lowest >= 1 > options.random_negative_score:
                logger.warning(
                    "random negatives have the score %g, and the labels begin at %g; if that means unrelated, set "
                    "random_negative_score to it, too",
                    options.random_negative_score,
                    lowest,
                )
            if targets is not None:
                targets = np.pad(targets, (0, len(rows) - len(targets)), constant_values=options.random_negative_score)
    splits = split(pairs, rows, values, targets, options, counts)
    logger.info("prepared pairs:\n%s", "\n".join([format_counts(counts), *quality_lines(quality)]))
    warn_of_doubts(quality)
    provenance = {"label_posterior": facts} if facts else None
    return PreparedSplits(
        splits,
        counts=counts,
        options=options,
        provenance=provenance,
        quality=quality,
        rejected=rejections.table(pairs),
    )


@dataclass(frozen=True)
class _Written:
    """How many pairs of each label were written, and how many of these have x1 = x2."""

    pairs: Codes
    identical: Codes

    @classmethod
    def of(cls, raw: RawPairs) -> _Written:
        """The counts of raw pairs."""
        rows = raw.rows
        copies = rows.label[rows.first == rows.second]
        return cls(*(np.bincount(labels, minlength=len(raw.labels)) for labels in (rows.label, copies)))


def _quality(raw: RawPairs, written: _Written, rows: PairRows, posterior: Floats | None) -> Summary:
    """What can be seen of the labels of the pairs that are kept, and how many of each were dropped."""
    if not raw.is_pair:
        return {}
    parts: dict[str, LabelStatistics] = {}
    samples: dict[str, TextSample] = {}
    counts: dict[str, dict[str, float]] = {}
    for label, value in enumerate(raw.labels):
        if written.pairs[label]:
            own = rows.take(rows.label == label)
            believed = np.zeros(0) if posterior is None else posterior[own.origin, label]
            sample = own.take(np.arange(len(own)) % max(1, len(own) // _COMPARED) == 0)
            overlaps = word_overlap(sample.first, sample.second, raw.texts)
            copies = int((own.first == own.second).sum())
            name = value if isinstance(value, str) else format(value, "g")
            parts[name] = LabelStatistics.of(0, overlaps, believed)
            samples[name] = TextSample(zip(*(column.to_pylist() for column in raw.texts_of(sample)), strict=True))
            counts[name] = {
                "pairs": len(own),
                "identical": round(copies / max(len(own), 1), 4),
                "dropped": int(written.pairs[label]) - len(own),
                "dropped_identical": int(written.identical[label]) - copies,
            }
    found = summarise([parts], samples)
    return {name: found[name] | counts[name] for name in parts}


def drop_worthless(raw: RawPairs, options: PreparationOptions, rejections: Rejections) -> PairRows:
    """Drops blank texts, identical pairs and duplicates; what is left comes in the order of the texts.

    Of equal pairs the one that is likelier under its own instruction comes first, and stays, where log-probabilities
    are used; the mean of their ratings is what they are rated, where these are.
    """
    rows = raw.rows
    blank = blank_texts(raw.texts)
    rows = rejections.drop(rows, blank[rows.first] | blank[rows.second], "blank")
    if raw.is_pair and options.drop_identical:
        rows = rejections.drop(rows, rows.first == rows.second, "identical")
    rows = rows.take(np.lexsort((*_preferences(raw, rows), rows.label, rows.second, rows.first)))
    if options.drop_duplicates:
        repeats = np.zeros(len(rows), np.bool_)
        repeats[1:] = (np.diff(rows.first) == 0) & (np.diff(rows.second) == 0) & (np.diff(rows.label) == 0)
        if raw.judged is not None:
            pair = np.cumsum(~repeats) - 1
            raw.judged[rows.origin] = (np.bincount(pair, raw.judged[rows.origin]) / np.bincount(pair))[pair]
        rows = rejections.drop(rows, repeats, "duplicate")
    return rows


def _preferences(raw: RawPairs, rows: PairRows) -> list[Floats]:
    """Orders equal pairs by what models said of them, so that which one stays does not depend on their order."""
    keys: list[Floats] = [] if raw.judged is None else [-raw.judged[rows.origin]]
    if raw.num_tokens is not None:
        keys.append(raw.num_tokens[rows.origin].astype(np.float64))
    if raw.plain_log_prob is not None:
        keys.append(-raw.plain_log_prob[rows.origin])
    if raw.log_probs is not None:
        keys.extend(-raw.log_probs[rows.origin].T)
        keys.append(-raw.log_probs[rows.origin, rows.label])
    return keys


def cap(rows: PairRows, options: PreparationOptions, rejections: Rejections) -> PairRows:
    """Keeps a random few of each (x1, label), in random order."""
    shuffled = rows.take(random_order(len(rows), random_bits(options.seed, CAP)))
    groups = shuffled.first * (int(shuffled.label.max(initial=0)) + 1) + shuffled.label
    return rejections.drop(shuffled, rank_among_equals(groups) >= options.max_per_input_and_label, "over_cap")


def add_negatives(
    raw: RawPairs, rows: PairRows, known: PairRows, options: PreparationOptions, counts: dict[str, int]
) -> PairRows:
    """Appends random pairs with a label of their own, the number behind the last of the labels.

    Their x2 are drawn from `rows`; pairs in `known`, those that were dropped on the way included, do not come up.
    """
    refused: list[int] = []

    def shares_too_many_words(first: Codes, second: Codes) -> Mask:
        found: Mask = word_overlap(first, second, raw.texts) >= options.negative_guard_overlap
        refused.append(int(found.sum()))
        return found

    guard: Guard | None = None if options.negative_guard == "none" else shares_too_many_words
    bits = random_bits(options.seed, NEGATIVES)
    first, second = draw_negatives(
        rows.first, rows.second, (known.first, known.second), options.random_negatives, bits, guard
    )
    inputs = len(np.unique(rows.first))
    wanted = inputs * options.random_negatives
    counts["random_negatives"] = len(first)
    if guard:
        counts["random_negatives_redrawn"] = sum(refused)
    counts["random_negatives_missing"] = wanted - len(first)
    if len(first) < wanted:
        guarded = f" that share less than {options.negative_guard_overlap:g} of the words with x1" if guard else ""
        warnings.warn(
            f"{wanted - len(first):,} of {wanted:,} random negatives could not be drawn: the entries of other x1 have "
            f"too few different x2{guarded} (there are {inputs:,} x1). Generate from more sentences, or pass a smaller "
            "random_negatives" + (" or a larger negative_guard_overlap" if guard else ""),
            DinoWarning,
            stacklevel=4,
        )
    label, origin = np.full(len(first), len(raw.labels)), np.full(len(first), -1)
    return PairRows(
        *map(np.concatenate, ((rows.first, first), (rows.second, second), (rows.label, label), (rows.origin, origin)))
    )


def split(
    raw: RawPairs,
    rows: PairRows,
    values: Sequence[Any],
    targets: Floats | None,
    options: PreparationOptions,
    counts: dict[str, int],
) -> dict[str, Dataset]:
    """Splits by label, shuffles and turns the numbers back into text.

    The rows of each split do not depend on the targets, so runs that differ in those alone are compared on the same
    pairs; nor do the scores of the validation split, unless `validation_scores` says so. A pair that stands in both
    orders with one label is in one split. `values` are what stands for each label, smoothed, and `targets`, shape
    `(rows,)`, the scores to train on where they are others. Raises DatasetError where no row is left for training.
    """
    text_columns, label_column = raw.columns
    distinct, strata_of_label = np.unique(np.array(values), return_inverse=True)
    strata = np.unique(strata_of_label[rows.label], return_inverse=True)[1]
    bits = random_bits(options.seed, SPLIT)
    held_out, lifted = validation_rows(strata, _leaders(rows), options.validation_share, bits)
    order = random_order(len(rows), random_bits(options.seed, ORDER))
    splits = {}
    for name, mask in (("train", ~held_out), ("validation", held_out)):
        chosen = order[mask[order]]
        part = rows.take(chosen)
        codes = strata_of_label[part.label]
        identity = [part.first, part.second, codes]
        if targets is None or (name == "validation" and options.validation_scores == "assigned"):
            label = pa.array(distinct.tolist(), pa.float64() if raw.is_numeric else pa.string()).take(pa.array(codes))
        else:
            label = pa.array(targets[chosen])
            identity.append(targets[chosen].view(np.int64))
        table = pa.table([*raw.texts_of(part), label], names=[*text_columns, label_column])
        fingerprint = _fingerprint(repr((raw.columns, distinct.tolist())), raw.texts, identity)
        splits[name] = Dataset(table, fingerprint=fingerprint)
        counts[name] = len(part)
    counts["validation_lifted_to_one"] = lifted
    if not counts["train"]:
        raise DatasetError(
            f"no pair is left to train on: validation_share {options.validation_share:g} takes all\n"
            f"{format_counts(counts)}"
        )
    if options.validation_share:
        without = len(np.setdiff1d(strata, strata[held_out]))
        counts[f"{label_column}s_without_validation"] = without
        if without:
            warnings.warn(
                f"{without} {label_column}(s) have a single pair and so no row in the validation split; generate more",
                DinoWarning,
                stacklevel=4,
            )
    return splits


def _leaders(rows: PairRows) -> Codes:
    """The row whose split each row is in: its own, or the first of a written pair with one label in both orders."""
    leaders = np.arange(len(rows))
    texts, labels = int(max(rows.first.max(), rows.second.max())) + 1, int(rows.label.max()) + 1
    keys = (np.minimum(rows.first, rows.second) * texts + np.maximum(rows.first, rows.second)) * labels + rows.label
    written = rows.origin >= 0
    forward, backward = keys[written & (rows.first < rows.second)], keys[written & (rows.first > rows.second)]
    both = np.flatnonzero(written & np.isin(keys, np.intersect1d(forward, backward)))
    _, first, place = np.unique(keys[both], return_index=True, return_inverse=True)
    leaders[both] = both[first[place]]
    return leaders


def _fingerprint(header: str, texts: pa.LargeStringArray, codes: Sequence[Codes]) -> str:
    """A hash of rows and the texts behind their codes.

    Without one, `datasets` pickles the whole table to compute its own, which takes several times its memory.
    """
    digest = hashlib.sha256(header.encode())
    for buffer in texts.buffers()[1:]:
        if buffer is not None:
            digest.update(buffer)
    for column in codes:
        digest.update(column.tobytes())
    return digest.hexdigest()[:16]
