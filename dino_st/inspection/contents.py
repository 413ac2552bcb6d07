"""What lies in a directory, and its rows by assigned label: what a report is made of."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dino_st.data.columns import LABEL, LOG_PROBS, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.data.shards import MANIFEST
from dino_st.errors import DatasetError, DinoError, InputError
from dino_st.inspection.agreement import middle
from dino_st.inspection.audit import ANSWERS, changed_since
from dino_st.inspection.judgements import Answer, has_judgements, read_judgements
from dino_st.inspection.options import ReportOptions
from dino_st.inspection.pairs import WrittenPairs, assigned_scores, has_many_scores
from dino_st.support.files import PREPARATION_RECORD, REJECTED, SCORES, TRAINING_RECORD, no_directory
from dino_st.support.text import count_words
from dino_st.training.record import TrainingRecord, read_record

if TYPE_CHECKING:
    import pyarrow as pa


Counts = NDArray[np.int64]
Values = NDArray[np.float64]

_MAX_GROUPS = 12
_REJECTED_EXAMPLES = 2


@dataclass(frozen=True)
class Findings:
    """What lies in some directories; of several things of one kind each has the name of its directory.

    Sets, raw and prepared rows, are called `raw`, `prepared`, or as their directory where there are several of a kind.
    Scores are those of each model on each task × 100, None where undefined. Rows that preparation rejected are counted
    by reason, with a few examples of each. Judgements of an audit have a remark where they cannot be read or may be
    about other pairs than are there now.
    """

    sets: Mapping[str, WrittenPairs] = field(default_factory=dict)
    training: Mapping[str, TrainingRecord] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    rejected: Mapping[str, tuple[Mapping[str, int], Mapping[str, Sequence[Mapping[str, Any]]]]] = field(
        default_factory=dict
    )
    answers: Mapping[str, tuple[Sequence[Answer], str | None]] = field(default_factory=dict)


def find(directories: Sequence[Path]) -> Findings:
    """Looks for what the stages write, in directories and in their folders (`raw`, `prepared`, … of a recipe).

    Raises InputError where a directory is missing, nothing of ours lies there, or a file is damaged, and OutputError
    where a manifest or a training record is.
    """
    found = {kind: places(directories, kind) for kind in KINDS}
    for directory in directories:
        if not any(directory in (path, path.parent) for paths in found.values() for path in paths):
            raise InputError(
                f"{directory}: holds nothing to report; expected what `dino-st generate`, `prepare`, `train`, "
                "`evaluate`, `run` or `quickstart` wrote"
            )
    sets = {
        name: WrittenPairs.read(path) for kind in ("raw", "prepared") for name, path in named(kind, found[kind]).items()
    }
    records = {name: read_record(path) for name, path in named("model", found["model"]).items()}
    return Findings(
        sets,
        {name: record for name, record in records.items() if record is not None},
        {name: _read_scores(path / SCORES) for name, path in named("scores", found["scores"]).items()},
        {
            name: _read_rejected(part.directory / REJECTED)
            for name, part in sets.items()
            if part.kind == "prepared" and (part.directory / REJECTED).is_file()
        },
        {name: _read_answers(part) for name, part in sets.items() if has_judgements(part.directory / ANSWERS)},
    )


KINDS = {"raw": MANIFEST, "prepared": PREPARATION_RECORD, "model": TRAINING_RECORD, "scores": SCORES}
"""What a recipe calls the folder of each stage, and the file by which a directory is known as one."""


def places(directories: Sequence[Path], kind: str) -> list[Path]:
    """Where something of a kind lies: in directories, which must exist, or in their folders, a recipe's name first."""
    found: list[Path] = []
    for directory in directories:
        if not directory.is_dir():
            raise InputError(no_directory(directory, "one that a dino-st command wrote"))
        folders = sorted(path for path in directory.iterdir() if path.is_dir())
        ordered = (directory, *sorted(folders, key=lambda path: path.name != kind))
        found += [path for path in ordered if (path / KINDS[kind]).is_file() and path not in found]
    return found


def named(kind: str, paths: Sequence[Path]) -> dict[str, Path]:
    """Directories by a name: their kind, or as much of the path as tells several of them apart."""
    if len(paths) <= 1:
        return dict(zip([kind], paths, strict=False))
    whole = [path.resolve() for path in paths]
    common = os.path.commonpath([path.parent for path in whole])
    return {path.relative_to(common).as_posix(): given for path, given in zip(whole, paths, strict=True)}


def _read_answers(part: WrittenPairs) -> tuple[Sequence[Answer], str | None]:
    try:
        judgements = read_judgements(part.directory / ANSWERS)
    except DinoError as error:
        return (), str(error)
    return middle(judgements), changed_since(judgements.sample, lambda: part)


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
    """How many rows were rejected for each reason, and the first of them."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("reason"), str):
                    raise InputError(f"{path}, line {number}: expected an object with a field 'reason'; prepare again")
                counts[row["reason"]] += 1
                if counts[row["reason"]] <= _REJECTED_EXAMPLES:
                    examples.setdefault(row["reason"], []).append(row)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); prepare again with --explain") from None
    return dict(counts), examples


@dataclass(frozen=True)
class LabelledRows:
    """The rows of one set by the label that they were assigned."""

    name: str
    source: WrittenPairs
    groups: tuple[str, ...]  # names of the assigned labels, scores ascending
    totals: Counts  # rows of each group in the whole set, `(groups,)`
    left_out: Mapping[str, int]  # rows that cannot be shown, by reason
    table: pa.Table  # the rows that texts are looked at in: all, or a sample
    group: Counts  # position of each of these rows among `groups`, `(rows,)`
    is_nearest: bool = False  # whether groups are the nearest scores, the rows' own being too many

    @property
    def is_sample(self) -> bool:
        """Whether `table` holds only some of the rows."""
        return bool(self.table.num_rows < int(self.totals.sum()))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of texts."""
        return _text_columns(self.table)

    @cached_property
    def words(self) -> dict[str, Values]:
        """Words of each text, `(rows,)`, by column, as `count_words` has them."""
        return {name: np.array([count_words(text) for text in self.texts(name)], float) for name in self.text_columns}

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
        labels = self.source.labels
        if self.source.has_scores:
            labels = tuple(f"{self.source.score_of_label.get(label, np.nan):g}" for label in labels)
        return np.array([labels.index(name) if name in labels else -1 for name in self.groups], np.int64)

    @cached_property
    def posteriors(self) -> Posteriors | str:
        """The label posterior of every row that has log-probabilities, or the reason why there are none."""
        return _posteriors(self)

    def texts(self, column: str) -> list[str]:
        """One column of texts."""
        values: list[str] = self.table[column].to_pylist()
        return values

    def by_group(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Splits values of the rows by group."""
        return [values[self.group == number] for number in range(len(self.groups))]


def labelled_rows(source: WrittenPairs, options: ReportOptions, name: str | None = None) -> LabelledRows:
    """Sorts rows by assigned label, and draws the sample whose texts are looked at.

    Rows without a label, a finite score or a text are counted and left out, and so are labels beyond the dozen most
    frequent ones. Raises DatasetError where columns are missing, scores are no numbers, or no row can be shown.
    """
    table, where = source.table, source.directory
    label = SCORE if source.has_scores else LABEL
    texts = _text_columns(table)
    missing = [column for column in (*texts, label) if column not in table.column_names]
    if missing:
        raise DatasetError(f"{where}: the rows have the columns {table.column_names}; missing: {missing}")
    left_out: dict[str, int] = {}
    usable = np.ones(table.num_rows, np.bool_)
    for column in texts:
        usable &= table[column].is_valid().to_numpy()
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
        names = [str(value) for value in strings]
    totals = np.bincount(group, minlength=len(names))
    frequent = np.sort(np.argsort(-totals, kind="stable")[:_MAX_GROUPS])
    shown = np.isin(group, frequent)
    left_out[f"with a label beyond the {_MAX_GROUPS} most frequent"] = int((~shown).sum())
    rows = np.flatnonzero(shown)
    if len(rows) > options.sample:
        rows = np.sort(np.random.default_rng(options.seed).choice(rows, options.sample, replace=False))
    return LabelledRows(
        name or source.kind,
        source,
        tuple(names[number] for number in frequent),
        totals[frequent],
        {reason: count for reason, count in left_out.items() if count},
        table.take(rows),
        np.searchsorted(frequent, group[rows]),
        is_nearest,
    )


def _text_columns(table: pa.Table) -> tuple[str, ...]:
    return (TEXT,) if TEXT in table.column_names else (SENTENCE1, SENTENCE2)


def _labelled(column: pa.ChunkedArray, where: Path, is_score: bool) -> NDArray[np.bool_]:
    """Which rows have a label, or a finite score."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not is_score:
        return np.asarray(column.is_valid().to_numpy())
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DatasetError(f"{where}: column {SCORE!r} holds {column.type}; expected numbers")
    return np.asarray(pc.fill_null(pc.is_finite(column), False).to_numpy())


@dataclass(frozen=True)
class Posteriors:
    """What the language model itself believes of rows that have log-probabilities."""

    labels: tuple[str, ...]  # the task's
    values: Values  # P(label | x1, x2) under a uniform prior and temperature 1, `(chosen, labels)`
    rows: Counts  # positions of these rows among those of the `LabelledRows`, `(chosen,)`
    own: Counts  # position of each row's assigned label among `labels`, or -1, `(chosen,)`
    left_out: Mapping[str, int]  # rows without usable log-probabilities, by reason

    @property
    def of_own(self) -> Values:
        """Posterior of each row's assigned label, NaN where it has none, `(chosen,)`."""
        found: Values = np.where(self.own >= 0, self.values[np.arange(len(self.own)), self.own], np.nan)
        return found


def _posteriors(rows: LabelledRows) -> Posteriors | str:
    from dino_st.preparation.posterior import label_posterior

    labels = rows.source.labels
    if LOG_PROBS not in rows.table.column_names or rows.table[LOG_PROBS].null_count == rows.table.num_rows:
        return (
            "has no log-probabilities; `dino-st generate --score-labels` writes them with the pairs, and `dino-st "
            "score` adds them to raw pairs that are there"
        )
    if len(labels) < 2:
        return f"is of a task that {'has a single label' if labels else 'is not known'}: nothing to choose between"
    left_out: Counter[str] = Counter()
    usable: dict[int, list[float]] = {}
    for row, values in enumerate(rows.table[LOG_PROBS].to_pylist()):
        if values is None:
            left_out["without log-probabilities"] += 1
        elif len(values) != len(labels):
            left_out["with another number of labels"] += 1
        elif any(value is None or np.isnan(value) or value == np.inf for value in values):
            left_out["with a log-probability that is NaN or +inf"] += 1
        else:
            usable[row] = values
    if not usable:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        return f"has no usable log-probabilities ({reasons}); `dino-st score` writes them anew"
    places = np.array(list(usable), np.int64)
    beliefs = np.asarray(label_posterior(np.array(list(usable.values()), np.float64)), np.float64)
    return Posteriors(labels, beliefs, places, rows.own_labels[rows.group[places]], left_out)
