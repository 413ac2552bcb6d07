"""Raw pairs as numbers: read and checked, drawn from at random, and counted by reason where they are dropped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dino_st.data.alignment import COMPARED, agreement, warn_of_alignment
from dino_st.data.columns import (
    JUDGED,
    LABEL,
    LOG_PROBS,
    NUM_TOKENS,
    PLAIN_LOG_PROB,
    SCORE,
    SENTENCE1,
    SENTENCE2,
    TEXT,
    as_table,
    text_column,
)
from dino_st.errors import DatasetError
from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.posterior import check_log_probs, check_num_tokens
from dino_st.support.hashes import random_order
from dino_st.support.progress import logger
from dino_st.support.text import WITHOUT_FORM, printable, without_form

if TYPE_CHECKING:
    from datasets import Dataset

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Guard = Callable[[Codes, Codes], Mask]
"""Says of pairs (x1, x2) whether they look too much alike to be drawn at random."""

_NAMED = 11
"""So many labels are shown in messages."""

REASON, VALUE = "reason", "value"
"""Columns of rejected pairs: why it was dropped, and the number that was held against the option's threshold."""

_BLIND_DRAWS = 8
_GUARDED_STEPS = 64
_SLICE = 100_000
_PAIR_OPTIONS = ("near_copy_edit", "near_copy_overlap", "max_length_ratio", "max_script_difference")
_SCORE_OPTIONS = (("min_posterior", None), ("target", "smoothed"), ("near_copy_labels", ()))
_HOW_TO_SCORE = (
    "add it with `dino-st score DIRECTORY --model MODEL --output OTHER` (log_probs also with `dino-st generate "
    "--score-labels`), or leave the option out"
)
_HOW_TO_JUDGE = "add it with `dino-st judge DIRECTORY --model MODEL --output OTHER`, or leave the option out"


@dataclass(frozen=True)
class PairRows:
    """Pairs as numbers, each of shape `(rows,)`."""

    first: Codes  # rank of x1 among all texts
    second: Codes  # rank of x2; that of the text itself where there are single texts
    label: Codes  # position of the label among all labels
    origin: Codes  # row of the raw data, -1 for a random pair

    def __len__(self) -> int:
        return len(self.first)

    def take(self, chosen: npt.NDArray[Any]) -> PairRows:
        """The rows at positions, or under a mask."""
        return PairRows(self.first[chosen], self.second[chosen], self.label[chosen], self.origin[chosen])


@dataclass(frozen=True)
class RawPairs:
    """Raw pairs as numbers, with the columns that an option asks for: log-probabilities have shape `(rows, labels)`."""

    rows: PairRows  # in the order in which they came
    texts: pa.LargeStringArray  # the distinct texts by rank
    columns: tuple[list[str], str]  # names of the columns of the texts, and of the label
    labels: list[float] | list[str]  # by position
    log_probs: Floats | None
    num_tokens: Codes | None
    plain_log_prob: Floats | None
    judged: Floats | None  # from 0 to 1, shape `(rows,)`

    @property
    def is_pair(self) -> bool:
        """Whether there are two texts in a row."""
        return len(self.columns[0]) == 2

    @property
    def is_numeric(self) -> bool:
        """Whether the labels are scores."""
        return self.columns[1] == SCORE

    def without_numbers(self) -> RawPairs:
        """The same without the rows and what filters ask of them, which all take memory."""
        none = np.empty(0, np.int64)
        return replace(
            self, rows=PairRows(none, none, none, none), log_probs=None, num_tokens=None, plain_log_prob=None
        )

    def texts_of(self, rows: PairRows) -> list[pa.ChunkedArray]:
        """The columns of text of rows, in chunks that stay below the 2 GiB that a string array can hold."""
        columns = []
        for ranks in (rows.first, rows.second)[: len(self.columns[0])]:
            slices = [ranks[start : start + _SLICE] for start in range(0, len(ranks), _SLICE)]
            chunks = [self.texts.take(pa.array(part)).cast(pa.string()) for part in slices]
            columns.append(pa.chunked_array(chunks, pa.string()))
        return columns


class Rejections:
    """Counts the rows that are dropped, by step in the order of the steps (`counts`), and keeps them if asked for."""

    def __init__(self, *, keep: bool) -> None:
        self.counts: dict[str, int] = {}
        self._keep = keep
        self._dropped: list[tuple[str, PairRows, Floats | None]] = []

    def drop(self, rows: PairRows, rejected: Mask, reason: str, values: Floats | None = None) -> PairRows:
        """The rows without the rejected ones, which are counted as `dropped_` and the reason.

        The values, if any, are what was held against the threshold, shape `(rows,)`.
        """
        self.counts[f"dropped_{reason}"] = int(rejected.sum())
        if self._keep:
            self._dropped.append((reason, rows.take(rejected), None if values is None else values[rejected]))
        return rows.take(~rejected)

    def table(self, raw: RawPairs) -> pa.Table | None:
        """The dropped rows, by reason in the order of the steps and then by text; None unless they are kept.

        The columns are the texts, the label as it was assigned, `reason` and `value`.
        """
        if not self._keep:
            return None
        text_columns, label_column = raw.columns
        kind = pa.float64() if raw.is_numeric else pa.string()
        types = dict.fromkeys(text_columns, pa.string()) | {
            label_column: kind,
            REASON: pa.string(),
            VALUE: pa.float64(),
        }
        tables = [pa.schema(types.items()).empty_table()]
        for reason, rows, values in self._dropped:
            order = np.lexsort((rows.origin * 0 if values is None else values, rows.label, rows.second, rows.first))
            rows = rows.take(order)
            arrays = [*raw.texts_of(rows), pa.array(raw.labels, kind).take(pa.array(rows.label))]
            arrays.append(pa.array([reason] * len(rows), pa.string()))
            arrays.append(pa.nulls(len(rows), pa.float64()) if values is None else pa.array(values[order]))
            tables.append(pa.table(arrays, names=list(types)))
        return pa.concat_tables(tables)


def read_raw_pairs(raw: Dataset | pa.Table, options: PreparationOptions, *, is_order_known: bool) -> RawPairs:
    """Reads a data set as `prepare_pairs` takes it, and refuses one that the options cannot be applied to.

    The log-probabilities of a pair are in the order of the labels, where that is known to be the one of its task.
    """
    from datasets import Dataset  # takes seconds, and who looks at a table needs none of it

    if not isinstance(raw, Dataset | pa.Table):
        hint = f"; it has the splits {list(raw)}, pass one of them" if isinstance(raw, dict) else ""
        raise DatasetError(f"the raw pairs are a {type(raw).__name__}; expected a datasets.Dataset{hint}")
    text_columns, label_column, more = check_columns(raw.column_names, options)
    if LOG_PROBS in more and not is_order_known:
        raise DatasetError(
            f"option {more[LOG_PROBS]!r} reads the column {LOG_PROBS!r}, whose numbers are in the order of the labels "
            "of the task that the pairs were written for, and the raw pairs do not say which; give labels in that "
            "order (sts-x2: --labels 1 --labels 0.5 --labels 0), or the directory that `dino-st generate` wrote"
        )
    if not len(raw):
        raise DatasetError("the raw data set is empty; generate pairs first")
    names = [*text_columns, label_column, *more]
    table = raw.select(names) if isinstance(raw, pa.Table) else as_table(raw.select_columns(names), "the raw data set")
    for name in [*text_columns, *([label_column] if label_column == LABEL else [])]:
        hint = "; if it holds numbers, rename it to 'score'" if name == LABEL else ""
        place = table.column_names.index(name)
        table = table.set_column(place, name, text_column(table[name], name, "the raw pairs", hint))
    for name in table.column_names:
        row = pc.index(pc.is_null(table[name]), True).as_py()
        if row >= 0:
            hint = (
                "; score with a model whose tokenizer has a token that begins a text" if name == PLAIN_LOG_PROB else ""
            )
            raise DatasetError(f"column {name!r} of the raw pairs has no value in row {row}{hint}")
    label, labels = _label_codes(table[label_column], options.labels, is_numeric=label_column == SCORE)
    was_read = isinstance(raw, pa.Table)  # from a file, and looked at then
    if not was_read and label_column == SCORE and len(text_columns) > 1:
        first = table.slice(0, COMPARED)
        warn_of_alignment(first.select(text_columns), "the raw pairs", first[SCORE].to_pylist())
    num_tokens = _numbers(table[NUM_TOKENS], NUM_TOKENS) if NUM_TOKENS in more else None
    if num_tokens is not None:
        check_num_tokens(num_tokens)
    log_probs = _log_probs(table[LOG_PROBS], options.labels) if LOG_PROBS in more else None
    plain_log_prob = _plain_log_prob(table[PLAIN_LOG_PROB]) if PLAIN_LOG_PROB in more else None
    judged = _judged(table[JUDGED]) if JUDGED in more else None
    if judged is not None:
        agreement(judged.tolist(), table[label_column].to_pylist(), "the raw pairs")
    columns = [table[name] for name in text_columns]
    del raw, table  # so that the texts are let go of, too, once they are numbered
    codes, texts = text_codes(columns)
    codes = _without_twins(codes, texts)
    return RawPairs(
        PairRows(codes[0], codes[-1], label, np.arange(len(label))),
        texts,
        (text_columns, label_column),
        labels,
        log_probs,
        None if num_tokens is None else num_tokens.astype(np.int64),
        plain_log_prob,
        judged,
    )


def check_columns(names: Sequence[str], options: PreparationOptions) -> tuple[list[str], str, dict[str, str]]:
    """Which columns of raw data the options are applied to: texts, label, and more; refuses data that lack one.

    Of those beside texts and label, the option that asks for each is told.
    """
    texts = [TEXT] if TEXT in names and SENTENCE1 not in names else [SENTENCE1, SENTENCE2]
    label = SCORE if SCORE in names and TEXT not in texts else LABEL
    missing = [name for name in [*texts, label] if name not in names]
    if missing or (label == SCORE and LABEL in names):
        raise DatasetError(
            f"the raw pairs have the columns {names}; expected sentence1, sentence2 and either score or label, or text "
            "and label"
        )
    _check_fit(options, is_pair=len(texts) == 2, is_numeric=label == SCORE)
    return texts, label, _more_columns(names, options, is_numeric=label == SCORE)


def _check_fit(options: PreparationOptions, *, is_pair: bool, is_numeric: bool) -> None:
    """Refuses options that single texts, or labels that are words, leave nothing to do for."""
    for name in () if is_pair else _PAIR_OPTIONS:
        if getattr(options, name) is not None:
            raise DatasetError(f"option {name!r} compares the two texts of a pair, and the raw data has single texts")
    for name, unused in () if is_numeric else _SCORE_OPTIONS:
        if getattr(options, name) != unused:
            raise DatasetError(
                f"option {name!r} needs scores, and the labels of the raw data are words (column 'label')"
            )


def _more_columns(names: Sequence[str], options: PreparationOptions, *, is_numeric: bool) -> dict[str, str]:
    """The columns beside texts and label that options ask for, and which; refuses a set that lacks one."""
    wanted: dict[str, str] = {}
    if options.needs_posterior:
        wanted[LOG_PROBS] = "target" if options.min_posterior is None else "min_posterior"
    elif options.drop_label_conflicts and is_numeric and LOG_PROBS in names:
        wanted[LOG_PROBS] = "drop_label_conflicts"
    if options.min_token_log_prob is not None:
        wanted[PLAIN_LOG_PROB] = wanted[NUM_TOKENS] = "min_token_log_prob"
    if LOG_PROBS in wanted and options.posterior_length_normalised:
        wanted[NUM_TOKENS] = "posterior_length_normalised"
    if options.target == "judged":
        wanted[JUDGED] = "target"
    for name, option in wanted.items():
        if name not in names:
            how = _HOW_TO_JUDGE if name == JUDGED else _HOW_TO_SCORE
            raise DatasetError(f"option {option!r} needs the column {name!r}, which the raw pairs lack; {how}")
    return wanted


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
            f"task has other labels, name all: {_how_to_name(np.unique(scores))}"
        )
    return codes, list(labels)


def _how_to_name(labels: Iterable[float]) -> str:
    """How labels are named on the command line and in Python; of many only the first."""
    names = [format(label, "g") for label in labels if np.isfinite(label)]
    more = [] if len(names) <= _NAMED else ["…"]
    shown = names[:_NAMED]
    return f"{' '.join([f'--labels {one}' for one in shown] + more)}, in Python labels=[{', '.join(shown + more)}]"


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
            f"each of the labels {list(labels)} in this order. Name those of the task, as {_how_to_name((0, 1))}"
        )
    values: Floats = pc.list_flatten(column).cast(pa.float64()).to_numpy().reshape(-1, len(labels))
    check_log_probs(values)
    return values


def _plain_log_prob(column: pa.ChunkedArray) -> Floats:
    values = _numbers(column, PLAIN_LOG_PROB)
    wrong = np.flatnonzero(np.isnan(values) | np.isposinf(values))
    if len(wrong):
        raise DatasetError(
            f"column {PLAIN_LOG_PROB!r} is {values[wrong[0]]} in row {wrong[0]}; expected a finite number or -inf"
        )
    return values


def _judged(column: pa.ChunkedArray) -> Floats:
    values = _numbers(column, JUDGED)
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(wrong):
        raise DatasetError(
            f"column {JUDGED!r} is {values[wrong[0]]:g} in row {wrong[0]}; expected a number from 0 to 1"
        )
    if len(values) > 1 and values.min() == values.max():
        raise DatasetError(
            f"column {JUDGED!r} is {values[0]:g} in all {len(values)} rows: the judge does not tell pairs apart; take "
            "another, or another target"
        )
    return values.copy()  # that of a table cannot be written to, as where equal pairs get their mean


def text_codes(columns: list[pa.ChunkedArray]) -> tuple[list[Codes], pa.LargeStringArray]:
    """Numbers texts over all columns together, equal texts alike, in the byte order of the texts.

    Returns the codes of each column, none of which has nulls, shape `(rows,)`; and the distinct texts by code. The list
    of columns is emptied, so that those which nothing else holds make room for the distinct texts.
    """
    ends = np.cumsum([len(column) for column in columns])[:-1]
    chunks = [chunk.cast(pa.large_string()) for column in columns for chunk in column.chunks]
    columns.clear()
    encoded = pa.chunked_array(chunks, pa.large_string()).dictionary_encode().combine_chunks()
    del chunks
    pa.default_memory_pool().release_unused()
    if isinstance(encoded, pa.ChunkedArray):  # an empty column has no chunk to combine
        encoded = pa.array([], pa.large_string()).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    codes = ranks[encoded.indices.to_numpy()]
    return np.split(codes, ends), encoded.dictionary.take(order)


_BEYOND_ASCII = r"[^ -~]"
_BLANKS = (
    r"[\t-\r\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]|  |^ | $|"
    f"[{WITHOUT_FORM}]"
)
"""Blanks that are not one space between two words, and what is not seen."""


def _without_twins(codes: list[Codes], texts: pa.LargeStringArray) -> list[Codes]:
    """The codes of texts, alike also for texts that differ as `without_form` says, which is told."""
    stands_for, first = np.arange(len(texts)), dict[str, int]()
    has_blanks = pc.match_substring_regex(texts, _BLANKS).to_numpy(zero_copy_only=False)
    others = np.flatnonzero(pc.match_substring_regex(texts, _BEYOND_ASCII))
    beyond = texts.take(pa.array(others))
    is_decomposed = pc.not_equal(pc.utf8_normalize(beyond, "NFC"), beyond).to_numpy(zero_copy_only=False)
    for place in np.union1d(np.flatnonzero(has_blanks), others[is_decomposed]).tolist():
        if form := without_form(texts[place].as_py()):
            key = form.encode()
            found = bisect_left(range(len(texts)), key, key=lambda other: texts[other].as_py().encode())
            is_there = found < len(texts) and texts[found].as_py() == form
            stands_for[place] = found if is_there else first.setdefault(form, place)
    twins = np.flatnonzero(stands_for != np.arange(len(texts)))
    if len(twins):
        logger.info(
            "%d texts differ from another one in Unicode form, blanks or what is not seen alone, such as %r; they "
            "count as the same",
            len(twins),
            printable(texts[int(twins[0])].as_py()),
        )
    return [stands_for[one] for one in codes]


def rank_among_equals(groups: Codes) -> Codes:
    """How many equal elements stand before each element.

    Example:
        >>> rank_among_equals(np.array([7, 3, 7, 7, 3]))
        array([0, 0, 1, 2, 1])
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
    """Draws for each distinct x1 the x2 of other entries, `per_input` different ones if there are as many; by x1.

    An entry is drawn uniformly, as in the published code; it is drawn again when its x2 is x1 itself, stands with x1 in
    a known pair (in either direction; pairs that are no entries any more count) or was drawn for this x1 before. After
    eight draws in vain the distinct x2 are walked through from a random one on, so what exists is always found. With a
    guard the walk ends after 64 steps, since every step costs a look at two texts.
    """
    inputs = np.unique(first)
    texts = int(max(map(np.max, (first, second, *known)))) + 1
    forbidden = np.unique(np.concatenate([known[0] * texts + known[1], known[1] * texts + known[0]]))
    distinct = np.unique(second)
    steps = len(distinct) if is_too_close is None else min(len(distinct), _GUARDED_STEPS)
    drawn = np.full((len(inputs), per_input), -1, np.int64)

    def enter(candidates: Codes, pending: Codes, column: int) -> Mask:
        """Enters the candidates that are neither x1, nor known with x1, drawn for x1 or too close to it; says which."""
        x1 = inputs[pending]
        keys = x1 * texts + candidates
        places = np.minimum(np.searchsorted(forbidden, keys), len(forbidden) - 1)
        free: Mask = (
            (candidates != x1) & (forbidden[places] != keys) & (drawn[pending] != candidates[:, None]).all(axis=1)
        )
        if is_too_close is not None:
            free[free] = ~is_too_close(x1[free], candidates[free])
        drawn[pending[free], column] = candidates[free]
        return free

    for column in range(per_input):
        pending = np.arange(len(inputs))
        for _ in range(_BLIND_DRAWS):
            pending = pending[~enter(second[_positions(len(pending), len(second), bits)], pending, column)]
        starts = _positions(len(pending), len(distinct), bits)
        for step in range(steps if len(pending) else 0):
            entered = enter(distinct[(starts + step) % len(distinct)], pending, column)
            pending, starts = pending[~entered], starts[~entered]
            if not len(pending):
                break
    found = drawn >= 0
    return np.repeat(inputs, found.sum(axis=1)), drawn[found]


def _positions(count: int, size: int, bits: np.random.PCG64) -> Codes:
    """Draws positions below `size`; the modulo favours none of them by more than one in 2^64 / size."""
    return (bits.random_raw(count) % np.uint64(size)).astype(np.int64)


def validation_rows(strata: Codes, leaders: Codes, share: float, bits: np.random.PCG64) -> tuple[Mask, int]:
    """A mask of the rows of the validation split, the same share of each stratum.

    A row is held out with its leader, which is in the same stratum; of most rows it is the row itself. The share of a
    stratum is rounded down, as published; but a stratum of at least two leaders gives at least one, and one of a single
    leader none. How many got theirs only so is returned beside the mask. Strata are numbered from 0, shape `(rows,)`.
    """
    sizes = np.bincount(strata)
    groups = np.bincount(strata[leaders == np.arange(len(leaders))], minlength=len(sizes))
    # 0.29 * 100 is 28.999999999999996: a millionth of a row makes up for the representation of the share.
    wanted = np.floor(sizes * share + 1e-6).astype(np.int64)
    lifted = (wanted == 0) & (groups >= 2) & (share > 0)
    wanted[lifted] = 1
    wanted[(groups < 2) & (sizes > groups)] = 0
    order = random_order(len(strata), bits)
    mask = np.empty(len(strata), np.bool_)
    mask[order] = rank_among_equals(strata[order]) < wanted[strata[order]]
    held_out = mask[leaders]
    missed = np.setdiff1d(strata[mask], strata[held_out])  # no leader was drawn there: those of the drawn rows, then
    held_out |= np.isin(leaders, leaders[mask & np.isin(strata, missed)])
    return held_out, int(lifted.sum())
