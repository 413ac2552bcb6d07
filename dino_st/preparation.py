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
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from dino_st.columns import LABEL, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.errors import DatasetError, DinoWarning
from dino_st.pair_selection import (
    Codes,
    content_hash,
    draw_negatives,
    random_bits,
    random_order,
    rank_among_equals,
    text_codes,
    texts_of,
    validation_rows,
)
from dino_st.preparation_options import DEFAULTS, PreparationOptions
from dino_st.prepared_splits import PreparedSplits, format_counts, load_prepared, save_prepared

__all__ = ["PreparationOptions", "PreparedSplits", "format_counts", "load_prepared", "prepare_pairs", "save_prepared"]

logger = logging.getLogger(__name__)

_CAP, _NEGATIVES, _SPLIT, _ORDER = range(4)
"""The stages that draw random numbers, each from a stream of its own."""


@dataclass(frozen=True)
class _Rows:
    """Pairs as numbers: rank of x1 and x2 among all texts, position of the label among `values`."""

    first: Codes
    second: Codes
    label: Codes

    def __len__(self) -> int:
        return len(self.first)

    def take(self, chosen: npt.NDArray[Any]) -> _Rows:
        """The rows at positions, or under a mask."""
        return _Rows(self.first[chosen], self.second[chosen], self.label[chosen])


def prepare_pairs(
    raw: Dataset,
    *,
    seed: int = DEFAULTS.seed,
    labels: Sequence[float] = DEFAULTS.labels,
    drop_identical: bool = DEFAULTS.drop_identical,
    drop_duplicates: bool = DEFAULTS.drop_duplicates,
    max_per_input_and_label: int = DEFAULTS.max_per_input_and_label,
    label_smoothing: float = DEFAULTS.label_smoothing,
    random_negatives: int = DEFAULTS.random_negatives,
    random_negative_score: float = DEFAULTS.random_negative_score,
    validation_share: float = DEFAULTS.validation_share,
) -> PreparedSplits:
    """Turns raw pairs into a training and a validation split, as DINO does before it trains.

    In this order: pairs with a blank text, identical pairs and duplicates are dropped; of each (x1, label) at most
    two pairs are kept, chosen at random; scores are smoothed; each x1 gets random x2 of other entries with score 0;
    a tenth of the pairs of each score becomes the validation split.

    Labels that are not numbers (a column `label`, with pairs or with a single `text`) are neither smoothed nor given
    random negatives, and single texts are not capped; all else is the same.

    Args:
        raw: Columns `sentence1`, `sentence2`, `score`, or `label` instead of `score`, or `text` and `label`; what
            else it has (provenance) is left out.
        seed: Seed of every random choice. The same pairs and seed give the same splits, whatever the order of the
            rows.
        labels: The scores that raw pairs may have.
        drop_identical: Drop pairs whose two sentences are the same.
        drop_duplicates: Keep one of several equal (x1, x2, label).
        max_per_input_and_label: Pairs kept for each (x1, label); 0 keeps all.
        label_smoothing: Share s of the mean label in y·(1-s) + s·mean, which is 0.8·y + 0.1 for the defaults.
        random_negatives: Random pairs added for each x1.
        random_negative_score: Their score, which is not smoothed.
        validation_share: Share of the pairs of each score in the validation split.

    Returns:
        The splits `train` and `validation` with exactly the columns `sentence1`, `sentence2`, `score` (or `label`),
        and the count of every step in `counts`.

    Raises:
        ConfigurationError: An option is out of range.
        DatasetError: A column is missing, a score is none of the labels (as in a file that was prepared already), or
            no pair is left.
    """
    options = PreparationOptions.create(
        seed=seed,
        labels=tuple(labels),
        drop_identical=drop_identical,
        drop_duplicates=drop_duplicates,
        max_per_input_and_label=max_per_input_and_label,
        label_smoothing=label_smoothing,
        random_negatives=random_negatives,
        random_negative_score=random_negative_score,
        validation_share=validation_share,
    )
    table, text_columns, label_column = _read(raw)
    codes, texts = text_codes([table[name] for name in text_columns])
    is_pair, is_numeric = len(text_columns) == 2, label_column == SCORE
    label, values = _label_codes(table[label_column], options.labels, is_numeric=is_numeric)
    rows = _Rows(codes[0], codes[-1], label)
    counts = {"input": len(rows)}

    rows = _drop(rows, texts, options, counts, is_pair=is_pair)
    known = (rows.first, rows.second)
    if is_pair and options.max_per_input_and_label:
        rows = _cap(rows, options, counts)
    counts["kept"] = len(rows)
    if not len(rows):
        raise DatasetError(f"no pair is left after preparation:\n{format_counts(counts)}")
    counts |= {f"kept[{value}]": int(count) for value, count in zip(*_tally(rows.label, values), strict=True)}
    if not is_numeric:
        return _split(rows, texts, (text_columns, label_column), values, options, counts)
    scores = [options.smoothed(float(value)) for value in values]
    if is_pair and options.random_negatives:
        rows = _add_negatives(rows, known, len(scores), options, counts)
        scores.append(options.random_negative_score)
    return _split(rows, texts, (text_columns, label_column), scores, options, counts)


def _read(raw: Dataset) -> tuple[pa.Table, list[str], str]:
    """Checks the columns; returns the table of those that count, the names of the texts and of the label."""
    if not isinstance(raw, Dataset):
        hint = f"; it has the splits {list(raw)}, pass one of them" if isinstance(raw, dict) else ""
        raise DatasetError(f"the raw pairs are a {type(raw).__name__}; expected a datasets.Dataset{hint}")
    names = raw.column_names
    texts = [TEXT] if TEXT in names and SENTENCE1 not in names else [SENTENCE1, SENTENCE2]
    label = SCORE if SCORE in names and TEXT not in texts else LABEL
    missing = [name for name in [*texts, label] if name not in names]
    if missing or (label == SCORE and LABEL in names):
        raise DatasetError(
            f"the raw pairs have the columns {names}; expected sentence1, sentence2 and either score or label, or text "
            "and label"
        )
    if not len(raw):
        raise DatasetError("the raw data set is empty; generate pairs first")
    table: pa.Table = raw.select_columns([*texts, label]).with_format("arrow")[:]
    for name in [*texts, *([label] if label == LABEL else [])]:
        kind = table.schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            hint = "; if it holds numbers, rename it to 'score'" if name == LABEL else ""
            raise DatasetError(f"column {name!r} of the raw pairs holds {kind}; expected text{hint}")
    for name in table.column_names:
        row = pc.index(pc.is_null(table[name]), True).as_py()
        if row >= 0:
            raise DatasetError(f"column {name!r} of the raw pairs has no value in row {row}")
    return table, texts, label


def _label_codes(
    column: pa.ChunkedArray, labels: Sequence[float], *, is_numeric: bool
) -> tuple[Codes, list[float] | list[str]]:
    """Numbers the labels of the rows; refuses scores that are none of the labels."""
    if not is_numeric:
        (codes,), names = text_codes([column])
        return codes, names.to_pylist()
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DatasetError(f"column {SCORE!r} of the raw pairs holds {column.type}; expected numbers")
    scores = column.cast(pa.float64()).to_numpy()
    distances = np.abs(scores[:, None] - np.array(labels))
    codes = distances.argmin(axis=1)
    strange = np.flatnonzero(~(distances.min(axis=1) < 1e-6))
    if len(strange):
        found = ", ".join(format(score, "g") for score in np.unique(scores[strange])[:5])
        raise DatasetError(
            f"{len(strange):,} of {len(scores):,} pairs have a score that is none of the labels {list(labels)}: "
            f"{found} (first in row {strange[0]}). If this set was prepared already, train on it as it is; if its "
            "task has other labels, pass labels=..."
        )
    return codes, list(labels)


def _drop(rows: _Rows, texts: pa.Array, options: PreparationOptions, counts: dict[str, int], *, is_pair: bool) -> _Rows:
    """Drops blank texts, identical pairs and duplicates; what is left is in the order of the texts."""
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0).to_numpy(zero_copy_only=False)
    keep = ~(blank[rows.first] | blank[rows.second])
    counts["dropped_blank"] = len(rows) - int(keep.sum())
    rows = rows.take(keep)
    if is_pair and options.drop_identical:
        keep = rows.first != rows.second
        counts["dropped_identical"] = len(rows) - int(keep.sum())
        rows = rows.take(keep)
    rows = rows.take(np.lexsort((rows.label, rows.second, rows.first)))
    if options.drop_duplicates:
        keep = np.ones(len(rows), np.bool_)
        keep[1:] = (np.diff(rows.first) != 0) | (np.diff(rows.second) != 0) | (np.diff(rows.label) != 0)
        counts["dropped_duplicate"] = len(rows) - int(keep.sum())
        rows = rows.take(keep)
    return rows


def _cap(rows: _Rows, options: PreparationOptions, counts: dict[str, int]) -> _Rows:
    """Keeps a random few of each (x1, label)."""
    shuffled = rows.take(random_order(len(rows), random_bits(options.seed, _CAP)))
    groups = shuffled.first * (int(shuffled.label.max(initial=0)) + 1) + shuffled.label
    keep = rank_among_equals(groups) < options.max_per_input_and_label
    counts["dropped_over_cap"] = len(rows) - int(keep.sum())
    return shuffled.take(keep)


def _add_negatives(
    rows: _Rows, known: tuple[Codes, Codes], label: int, options: PreparationOptions, counts: dict[str, int]
) -> _Rows:
    """Appends random pairs with a label of their own."""
    bits = random_bits(options.seed, _NEGATIVES)
    first, second = draw_negatives(rows.first, rows.second, known, options.random_negatives, bits)
    inputs = len(np.unique(rows.first))
    missing = inputs * options.random_negatives - len(first)
    counts["random_negatives"] = len(first)
    counts["random_negatives_missing"] = missing
    if missing:
        warnings.warn(
            f"{missing:,} of {inputs * options.random_negatives:,} random negatives could not be drawn: the entries of "
            f"other x1 have too few different x2 (there are {inputs:,} x1). Generate from more sentences, or pass a "
            "smaller random_negatives",
            DinoWarning,
            stacklevel=3,
        )
    joined = (rows.first, first), (rows.second, second), (rows.label, np.full(len(first), label))
    return _Rows(*(np.concatenate(parts) for parts in joined))


def _tally(label: Codes, values: Sequence[float] | Sequence[str]) -> tuple[list[str], Codes]:
    """The names of the labels and how many rows have each."""
    names = [value if isinstance(value, str) else format(value, "g") for value in values]
    return names, np.bincount(label, minlength=len(names))


def _split(
    rows: _Rows,
    texts: pa.Array,
    columns: tuple[list[str], str],
    values: Sequence[float] | Sequence[str],
    options: PreparationOptions,
    counts: dict[str, int],
) -> PreparedSplits:
    """Splits by label, shuffles and turns the numbers back into text."""
    kind = pa.float64() if columns[1] == SCORE else pa.string()
    distinct, strata_of_label = np.unique(np.array(values), return_inverse=True)
    strata = np.unique(strata_of_label[rows.label], return_inverse=True)[1]
    held_out, lifted = validation_rows(strata, options.validation_share, random_bits(options.seed, _SPLIT))
    without = len(np.setdiff1d(strata, strata[held_out]))
    order = random_order(len(rows), random_bits(options.seed, _ORDER))
    splits = {}
    for name, mask in (("train", ~held_out), ("validation", held_out)):
        part = rows.take(order[mask[order]])
        text = [texts_of(rank, texts) for rank in (part.first, part.second)][: len(columns[0])]
        codes = strata_of_label[part.label]
        label = pa.array(distinct.tolist(), kind).take(pa.array(codes))
        table = pa.table([*text, label], names=[*columns[0], columns[1]])
        header = repr((columns, distinct.tolist()))
        splits[name] = Dataset(table, fingerprint=content_hash(header, texts, part.first, part.second, codes))
        counts[name] = len(part)
    counts["validation_lifted_to_one"] = lifted
    if options.validation_share:
        counts[f"{columns[1]}s_without_validation"] = without
        if without:
            warnings.warn(
                f"{without} {columns[1]}(s) have a single pair and so no row in the validation split; generate more",
                DinoWarning,
                stacklevel=3,
            )
    logger.info("prepared pairs:\n%s", format_counts(counts))
    return PreparedSplits(splits, counts=counts, options=options)
