"""What lies in a directory, and its rows by assigned label: what a report is made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dino_st.data.columns import LABEL, LOG_PROBS, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.errors import DatasetError, DinoError, InputError
from dino_st.inspection.audit import ANSWERS
from dino_st.inspection.judgements import Answer, read_answers
from dino_st.inspection.options import ReportOptions
from dino_st.inspection.pairs import WrittenPairs, assigned_scores, has_many_scores, is_prepared, is_raw, read_written
from dino_st.preparation.posterior import label_posterior
from dino_st.support.files import REJECTED, TRAINING_RECORD
from dino_st.training.record import TrainingRecord, read_record

if TYPE_CHECKING:
    import pyarrow as pa


Counts = NDArray[np.int64]
Values = NDArray[np.float64]

_MAX_GROUPS = 12


@dataclass(frozen=True)
class LabelledRows:
    """The rows of one set by the label that they were assigned.

    Attributes:
        source: The set.
        groups: Names of the assigned labels, scores ascending.
        totals: Rows of each group in the whole set, `(groups,)`.
        left_out: Rows that cannot be shown, by reason.
        table: The rows that texts are looked at in: all, or a sample.
        group: Position of each of these rows among `groups`, `(rows,)`.
        is_nearest: Whether the groups are the nearest scores and not the rows' own, of which there are too many.
    """

    source: WrittenPairs
    groups: tuple[str, ...]
    totals: Counts
    left_out: Mapping[str, int]
    table: pa.Table
    group: Counts
    is_nearest: bool = False

    @property
    def is_sample(self) -> bool:
        """Whether `table` holds only some of the rows."""
        return bool(self.table.num_rows < int(self.totals.sum()))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of texts."""
        return (TEXT,) if TEXT in self.table.column_names else (SENTENCE1, SENTENCE2)

    @cached_property
    def words(self) -> dict[str, Values]:
        """Words of each text, `(rows,)`, by column; words stand between white space."""
        return {name: np.array([len(text.split()) for text in self.texts(name)], float) for name in self.text_columns}

    @cached_property
    def overlap(self) -> Values | None:
        """Share of distinct words that the two sentences have in common, `(rows,)`; None for single texts."""
        from dino_st.evaluation.floors import token_jaccard

        if len(self.text_columns) == 1:
            return None
        return token_jaccard(self.texts(SENTENCE1), self.texts(SENTENCE2))

    @cached_property
    def own_labels(self) -> Counts:
        """Position of each group's label among the task's labels, -1 where it is none of them, `(groups,)`."""
        return np.array([_own_label(name, self.source) for name in self.groups], np.int64)

    def texts(self, column: str) -> list[str]:
        """One column of texts."""
        values: list[str] = self.table[column].to_pylist()
        return values

    def by_group(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Splits values of the rows by group."""
        return [values[self.group == number] for number in range(len(self.groups))]


def labelled_rows(source: WrittenPairs, options: ReportOptions) -> LabelledRows:
    """Sorts rows by assigned label, and draws the sample whose texts are looked at.

    Args:
        source: The rows of one set; there is at least one.
        options: Size and seed of the sample.

    Returns:
        The rows. Those without a label, a finite score or a text are counted and left out, and so are labels beyond the
        dozen most frequent ones.

    Raises:
        DatasetError: Columns are missing, scores are no numbers, or no row can be shown.
    """
    table, where = source.table, source.directory
    label = SCORE if source.has_scores else LABEL
    texts = [TEXT] if TEXT in table.column_names else [SENTENCE1, SENTENCE2]
    missing = [name for name in (*texts, label) if name not in table.column_names]
    if missing:
        raise DatasetError(f"{where}: the rows have the columns {table.column_names}; missing: {missing}")
    left_out: dict[str, int] = {}
    usable = np.ones(table.num_rows, np.bool_)
    for name in texts:
        usable &= table[name].is_valid().to_numpy()
    left_out["without a text"] = int((~usable).sum())
    labelled = _labelled(table[label], where, source.has_scores)
    left_out["without a finite score" if source.has_scores else "without a label"] = int((usable & ~labelled).sum())
    usable &= labelled
    if not usable.any():
        raise DatasetError(f"{where}: none of {table.num_rows:,} rows has texts and a usable {label}; write them again")
    table = table.filter(usable)
    is_nearest = False
    if source.has_scores:
        scores = np.asarray(table[label].to_numpy(), np.float64)
        is_nearest = has_many_scores(scores)
        values, group = np.unique(assigned_scores(scores, source.levels), return_inverse=True)
        names = [f"{value:g}" for value in values]
    else:
        strings, group = np.unique(np.array(table[label].to_pylist(), dtype=object), return_inverse=True)
        names = [str(name) for name in strings]
    totals = np.bincount(group, minlength=len(names))
    frequent = np.sort(np.argsort(-totals, kind="stable")[:_MAX_GROUPS])
    shown = np.isin(group, frequent)
    left_out[f"with a label beyond the {_MAX_GROUPS} most frequent"] = int((~shown).sum())
    rows = np.flatnonzero(shown)
    if len(rows) > options.sample:
        rows = np.sort(np.random.default_rng(options.seed).choice(rows, options.sample, replace=False))
    return LabelledRows(
        source,
        tuple(names[number] for number in frequent),
        totals[frequent],
        {reason: count for reason, count in left_out.items() if count},
        table.take(rows),
        np.searchsorted(frequent, group[rows]),
        is_nearest,
    )


def _labelled(column: pa.ChunkedArray, where: Path, is_score: bool) -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not is_score:
        return np.asarray(column.is_valid().to_numpy())
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DatasetError(f"{where}: column {SCORE!r} holds {column.type}; expected numbers")
    return np.asarray(pc.fill_null(pc.is_finite(column), False).to_numpy())


@dataclass(frozen=True)
class Posteriors:
    """What the language model itself believes of rows that have log-probabilities.

    Attributes:
        labels: The task's labels.
        values: P(label | x1, x2) under a uniform prior and temperature 1, `(chosen, labels)`.
        rows: Positions of these rows among those of the `LabelledRows`, `(chosen,)`.
        own: Position of each row's assigned label among `labels`, -1 where it is none of them, `(chosen,)`.
        left_out: Rows without usable log-probabilities, by reason.
    """

    labels: tuple[str, ...]
    values: Values
    rows: Counts
    own: Counts
    left_out: Mapping[str, int]

    @property
    def of_own(self) -> Values:
        """Posterior of each row's assigned label, NaN where it has none, `(chosen,)`."""
        found: Values = np.where(self.own >= 0, self.values[np.arange(len(self.own)), self.own], np.nan)
        return found


def posteriors(rows: LabelledRows) -> Posteriors | str:
    """The label posterior of every row that has log-probabilities.

    Args:
        rows: Rows of one set.

    Returns:
        The posteriors, or the reason why there are none.
    """
    kind, labels = rows.source.kind, rows.source.labels
    if LOG_PROBS not in rows.table.column_names:
        return f"The {kind} rows have no column {LOG_PROBS!r}, so that there is no posterior."
    if len(labels) < 2:
        known = "has a single label" if labels else "is not known"
        return f"The task of the {kind} rows {known}, so that there is nothing to choose between."
    stored = rows.table[LOG_PROBS].to_pylist()
    left_out: Counter[str] = Counter()
    chosen, usable = [], []
    for row, values in enumerate(stored):
        reason = _unusable(values, len(labels))
        if reason is None:
            chosen.append(row)
            usable.append(values)
        else:
            left_out[reason] += 1
    if not usable:
        return f"No {kind} row has usable log-probabilities ({_listed(left_out)})."
    places = np.array(chosen, np.int64)
    values = np.asarray(label_posterior(np.array(usable, np.float64)), np.float64)
    return Posteriors(labels, values, places, rows.own_labels[rows.group[places]], left_out)


def _unusable(values: Any, labels: int) -> str | None:
    if values is None:
        return "without log-probabilities"
    if len(values) != labels:
        return "with another number of labels"
    if any(value is None or np.isnan(value) or value == np.inf for value in values):
        return "with a log-probability that is NaN or +inf"
    return None


def _own_label(group: str, source: WrittenPairs) -> int:
    """Position of the task's label that a group was assigned, -1 if none."""
    if not source.has_scores:
        return source.labels.index(group) if group in source.labels else -1
    for place, label in enumerate(source.labels):
        if label in source.score_of_label and f"{source.score_of_label[label]:g}" == group:
            return place
    return -1


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


SCORES = "scores.json"
_REJECTED_EXAMPLES = 2


@dataclass(frozen=True)
class Findings:
    """What lies in a directory.

    Attributes:
        directory: The directory.
        sets: Raw pairs, prepared pairs, or both in this order.
        training: The record of a training run.
        scores: Each model's score on each task × 100; None where a score is undefined.
        rejected: Rows that preparation rejected by reason, with a few examples of each.
        answers: Judgements of an audit by the set that they are about, or why they cannot be read.
    """

    directory: Path
    sets: tuple[WrittenPairs, ...] = ()
    training: TrainingRecord | None = None
    scores: Mapping[str, Mapping[str, float | None]] | None = None
    rejected: tuple[Mapping[str, int], Mapping[str, Sequence[Mapping[str, Any]]]] = field(default=({}, {}))
    answers: Mapping[str, Sequence[Answer] | str] = field(default_factory=dict)


def find(directory: Path) -> Findings:
    """Looks for what the stages write, in a directory and in the folders of a recipe.

    Args:
        directory: Of one stage, or of a whole recipe with `raw`, `prepared`, `model` and `scores`.

    Returns:
        What is there.

    Raises:
        InputError: The directory is missing, nothing of ours lies there, or a file is damaged.
        OutputError: A manifest or a training record is damaged.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such directory; expected one that a dino-st command wrote")

    def places(folder: str) -> tuple[Path, Path]:
        return directory, directory / folder

    raw = next(filter(is_raw, places("raw")), None)
    prepared = next(filter(is_prepared, places("prepared")), None)
    model = next((place for place in places("model") if (place / TRAINING_RECORD).is_file()), None)
    scores = next((place / SCORES for place in places("scores") if (place / SCORES).is_file()), None)
    sets = [place for place in (raw, prepared) if place is not None]
    if not sets and model is None and scores is None:
        raise InputError(
            f"{directory}: holds nothing to report; expected what `dino-st generate`, `prepare`, `train`, `evaluate`, "
            "`run` or `quickstart` wrote"
        )
    written = tuple(map(read_written, sets))
    rejected = prepared / REJECTED if prepared is not None else None
    return Findings(
        directory,
        written,
        read_record(model) if model is not None else None,
        _read_scores(scores) if scores is not None else None,
        _read_rejected(rejected) if rejected is not None and rejected.is_file() else ({}, {}),
        {part.kind: _read_answers(path) for part in written if (path := part.directory / ANSWERS).is_file()},
    )


def _read_answers(path: Path) -> Sequence[Answer] | str:
    try:
        return read_answers(path)[1]
    except DinoError as error:
        return str(error)


def _read_scores(path: Path) -> dict[str, dict[str, float | None]]:
    """Scores of models on tasks; one that is undefined becomes None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = {str(model): {str(task): float(score) for task, score in row.items()} for model, row in content.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no table of `dino-st evaluate` ({error}); run the evaluation again") from None
    if not rows or len({tuple(row) for row in rows.values()}) != 1:
        raise InputError(f"{path}: models must have the same tasks, and there must be one; run the evaluation again")
    return {m: {t: s if np.isfinite(s) else None for t, s in row.items()} for m, row in rows.items()}


def _read_rejected(path: Path) -> tuple[dict[str, int], dict[str, list[dict[str, Any]]]]:
    counts: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                row = json.loads(line) if line.strip() else None
                if row is None:
                    continue
                if not isinstance(row, dict) or not isinstance(row.get("reason"), str):
                    raise InputError(f"{path}, line {number}: expected an object with a field 'reason'; prepare again")
                counts[row["reason"]] += 1
                found = examples.setdefault(row["reason"], [])
                if len(found) < _REJECTED_EXAMPLES:
                    found.append(row)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({error}); prepare again with --explain") from None
    return dict(counts), examples
