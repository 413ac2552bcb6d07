"""Raw pairs read and checked: their columns, their labels, and what a model said of them if an option asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from dino_st.columns import LABEL, LOG_PROBS, NUM_TOKENS, PLAIN_LOG_PROB, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.errors import DatasetError
from dino_st.label_posterior import check_log_probs, check_num_tokens
from dino_st.pair_selection import Codes, text_codes
from dino_st.preparation_options import PreparationOptions
from dino_st.rejected_pairs import PairRows

Floats = npt.NDArray[np.float64]

_PAIR_OPTIONS = ("near_copy_edit", "near_copy_overlap", "max_length_ratio", "max_script_difference")
_HOW_TO_SCORE = (
    "add it with `dino-st score DIRECTORY --model MODEL --output OTHER` (log_probs also with `dino-st generate "
    "--score-labels`), or leave the option out"
)


@dataclass(frozen=True)
class RawPairs:
    """Raw pairs as numbers.

    Attributes:
        rows: The pairs, in the order in which they came.
        texts: The distinct texts by rank.
        columns: Names of the columns of the texts, and of the label.
        labels: The labels by position.
        log_probs: The column `log_probs`, shape `(rows, labels)`, if an option asks for it.
        num_tokens: The column `num_tokens`, shape `(rows,)`, if an option asks for it.
        plain_log_prob: The column `plain_log_prob`, shape `(rows,)`, if an option asks for it.
    """

    rows: PairRows
    texts: pa.LargeStringArray
    columns: tuple[list[str], str]
    labels: list[float] | list[str]
    log_probs: Floats | None
    num_tokens: Codes | None
    plain_log_prob: Floats | None

    @property
    def is_pair(self) -> bool:
        """Whether there are two texts in a row."""
        return len(self.columns[0]) == 2

    @property
    def is_numeric(self) -> bool:
        """Whether the labels are scores."""
        return self.columns[1] == SCORE


def read_raw_pairs(raw: Dataset, options: PreparationOptions) -> RawPairs:
    """Reads a data set, and refuses one that the options cannot be applied to.

    Args:
        raw: As for `prepare_pairs`.
        options: What will be done with it.

    Returns:
        The pairs.

    Raises:
        DatasetError: A column that is needed is missing or holds something else than expected, a score is none of the
            labels, or an option makes no sense for single texts or for labels that are words.
    """
    text_columns, label_column = _columns(raw)
    _check_fit(options, is_pair=len(text_columns) == 2, is_numeric=label_column == SCORE)
    more = _more_columns(raw.column_names, options, is_numeric=label_column == SCORE)
    table: pa.Table = raw.select_columns([*text_columns, label_column, *more]).with_format("arrow")[:]
    for name in [*text_columns, *([label_column] if label_column == LABEL else [])]:
        kind = table.schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            hint = "; if it holds numbers, rename it to 'score'" if name == LABEL else ""
            raise DatasetError(f"column {name!r} of the raw pairs holds {kind}; expected text{hint}")
    for name in table.column_names:
        row = pc.index(pc.is_null(table[name]), True).as_py()
        if row >= 0:
            hint = (
                "; score with a model whose tokenizer has a token that begins a text" if name == PLAIN_LOG_PROB else ""
            )
            raise DatasetError(f"column {name!r} of the raw pairs has no value in row {row}{hint}")
    codes, texts = text_codes([table[name] for name in text_columns])
    label, labels = _label_codes(table[label_column], options.labels, is_numeric=label_column == SCORE)
    return RawPairs(
        PairRows(codes[0], codes[-1], label, np.arange(len(label))),
        texts,
        (text_columns, label_column),
        labels,
        _log_probs(table[LOG_PROBS], options.labels) if LOG_PROBS in more else None,
        _num_tokens(table[NUM_TOKENS]) if NUM_TOKENS in more else None,
        _plain_log_prob(table[PLAIN_LOG_PROB]) if PLAIN_LOG_PROB in more else None,
    )


def _columns(raw: Dataset) -> tuple[list[str], str]:
    """Checks the kind of data set; returns the names of the texts and of the label."""
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
    return texts, label


def _check_fit(options: PreparationOptions, *, is_pair: bool, is_numeric: bool) -> None:
    """Refuses options that single texts, or labels that are words, leave nothing to do for."""
    if not is_pair:
        for name in _PAIR_OPTIONS:
            if getattr(options, name) is not None:
                raise DatasetError(
                    f"option {name!r} compares the two texts of a pair, and the raw data has single texts"
                )
    if not is_numeric:
        for name, is_used in (
            ("min_posterior", options.min_posterior is not None),
            ("target", options.target != "smoothed"),
            ("near_copy_labels", bool(options.near_copy_labels)),
        ):
            if is_used:
                raise DatasetError(
                    f"option {name!r} needs scores, and the labels of the raw data are words (column 'label')"
                )


def _more_columns(names: Sequence[str], options: PreparationOptions, *, is_numeric: bool) -> list[str]:
    """The columns beside texts and label that the options ask for; refuses a set that lacks one."""
    wanted: dict[str, str] = {}
    if options.needs_posterior:
        wanted[LOG_PROBS] = "target" if options.min_posterior is None else "min_posterior"
    elif options.drop_label_conflicts and is_numeric and LOG_PROBS in names:
        wanted[LOG_PROBS] = "drop_label_conflicts"
    if options.min_token_log_prob is not None:
        wanted[PLAIN_LOG_PROB] = wanted[NUM_TOKENS] = "min_token_log_prob"
    if LOG_PROBS in wanted and options.posterior_length_normalised:
        wanted[NUM_TOKENS] = "posterior_length_normalised"
    for name, option in wanted.items():
        if name not in names:
            raise DatasetError(
                f"option {option!r} needs the column {name!r}, which the raw pairs lack; {_HOW_TO_SCORE}"
            )
    return list(wanted)


def _label_codes(
    column: pa.ChunkedArray, labels: Sequence[float], *, is_numeric: bool
) -> tuple[Codes, list[float] | list[str]]:
    """Numbers the labels of the rows; refuses scores that are none of the labels."""
    if not is_numeric:
        (codes,), names = text_codes([column])
        return codes, names.to_pylist()
    scores = _numbers(column, SCORE)
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


def _numbers(column: pa.ChunkedArray, name: str) -> Floats:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DatasetError(f"column {name!r} of the raw pairs holds {column.type}; expected numbers")
    numbers: Floats = column.cast(pa.float64()).to_numpy()
    return numbers


def _log_probs(column: pa.ChunkedArray, labels: Sequence[float]) -> Floats:
    """The lists of log-probabilities as a matrix of shape `(rows, labels)`."""
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise DatasetError(f"column {LOG_PROBS!r} of the raw pairs holds {kind}; expected lists of numbers")
    lengths = pc.list_value_length(column).to_numpy()
    wrong = np.flatnonzero(lengths != len(labels))
    if len(wrong):
        raise DatasetError(
            f"column {LOG_PROBS!r} has {lengths[wrong[0]]} numbers in row {wrong[0]}; expected {len(labels)}, one for "
            f"each of the labels {list(labels)} in this order. Pass labels=... as the task has them"
        )
    values: Floats = pc.list_flatten(column).cast(pa.float64()).to_numpy().reshape(-1, len(labels))
    check_log_probs(values)
    return values


def _num_tokens(column: pa.ChunkedArray) -> Codes:
    tokens = _numbers(column, NUM_TOKENS)
    check_num_tokens(tokens)
    return tokens.astype(np.int64)


def _plain_log_prob(column: pa.ChunkedArray) -> Floats:
    values = _numbers(column, PLAIN_LOG_PROB)
    wrong = np.flatnonzero(np.isnan(values) | np.isposinf(values))
    if len(wrong):
        raise DatasetError(
            f"column {PLAIN_LOG_PROB!r} is {values[wrong[0]]} in row {wrong[0]}; expected a finite number or -inf"
        )
    return values
