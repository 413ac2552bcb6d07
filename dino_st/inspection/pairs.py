"""What `generate` and `prepare` wrote, read back to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dino_st.data.columns import POSITIVE, SCORE
from dino_st.data.shards import MANIFEST, ShardDirectory
from dino_st.errors import DatasetError, InputError
from dino_st.preparation.directory import read_tables
from dino_st.preparation.options import PreparationOptions
from dino_st.support.files import PREPARATION_RECORD, no_directory

if TYPE_CHECKING:
    import pyarrow as pa


MAX_LEVELS = 12
"""With more different scores than these (as posterior targets give), rows count under the nearest assigned score."""


@dataclass(frozen=True)
class WrittenPairs:
    """Rows of a directory with what is known of them."""

    kind: Literal["raw", "prepared"]  # which stage wrote them
    directory: Path
    table: pa.Table  # all rows, all columns; of a prepared set the training split before the validation split
    task: Mapping[str, Any] = field(default_factory=dict)  # as it was stored; empty where it is not known
    counts: Mapping[str, int] = field(default_factory=dict)  # what the stage counted
    levels: tuple[float, ...] = ()  # scores that the stage assigns, ascending; empty for labels that are no numbers
    score_of_label: Mapping[str, float] = field(default_factory=dict)  # of the task's labels, where they are numbers
    negative_score: float | None = None  # of the random negatives among them, if there are some
    complete: bool = True  # whether the stage came to its end
    facts: Mapping[str, Any] = field(default_factory=dict)  # where the rows come from: model, seed, …

    @classmethod
    def read(cls, directory: Path) -> WrittenPairs:
        """Reads a directory of `dino-st generate` (no rows where it has not finished a wave) or `dino-st prepare`.

        Raises InputError where it is missing, holds neither, or a file in it is damaged, and OutputError where that is
        the manifest.
        """
        if not directory.is_dir():
            raise InputError(no_directory(directory, "one of `dino-st generate` or `prepare`"))
        if (directory / MANIFEST).is_file():
            return _read_raw(directory)
        if (directory / PREPARATION_RECORD).is_file():
            return _read_prepared(directory)
        inside = [name for name in ("prepared", "raw") if (directory / name).is_dir()]
        hint = f"; did you mean {directory / inside[0]}?" if inside else ""
        raise InputError(
            f"{directory}: holds neither {MANIFEST} nor {PREPARATION_RECORD}; expected a directory of `dino-st "
            f"generate` or `dino-st prepare`{hint}"
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The task's labels in its order, which is that of stored log-probabilities; empty where not known."""
        labels = self.task.get("labels")
        return tuple(map(str, labels)) if isinstance(labels, Mapping) else ()

    @property
    def has_scores(self) -> bool:
        """Whether the rows carry numbers and not names."""
        return SCORE in self.table.column_names

    @property
    def is_triplets(self) -> bool:
        """Whether the rows are triplets, which have no labels."""
        return POSITIVE in self.table.column_names


def has_many_scores(scores: NDArray[np.float64]) -> bool:
    """Whether there are more different scores than labels can have, so that `assigned_scores` takes the nearest."""
    return len(np.unique(np.round(scores, 6))) > MAX_LEVELS


def assigned_scores(scores: NDArray[np.float64], levels: Sequence[float]) -> NDArray[np.float64]:
    """The score that each row counts under: its own, rounded to six digits, or the nearest level (the lower of two).

    Raises DatasetError where there are more than `MAX_LEVELS` different scores, and no level is known.
    """
    rounded = np.round(scores, 6) + 0.0
    if not has_many_scores(scores):
        return rounded
    if not levels:
        raise DatasetError(
            f"the pairs have {len(np.unique(rounded)):,} different scores, and it is not known which were assigned; "
            f"expected at most {MAX_LEVELS}"
        )
    ascending = np.sort(np.asarray(levels, np.float64))
    nearest: NDArray[np.float64] = ascending[np.abs(rounded[:, None] - ascending).argmin(axis=1)]
    return nearest


def _read_raw(directory: Path) -> WrittenPairs:
    import pyarrow as pa

    raw = ShardDirectory(directory)
    task = raw.configuration.get("task") or {}
    table = raw.table() if raw.waves else pa.table({})
    scores = _numbers(task.get("labels", {})) if SCORE in table.column_names else {}
    return WrittenPairs(
        "raw",
        directory,
        table,
        task,
        {**raw.provenance.get("counts", {}), **raw.counts},  # of scored pairs, what happened when they were written
        tuple(sorted(scores.values())),
        scores,
        None,
        raw.is_complete,
        {"language model": raw.provenance.get("model"), "seed": raw.configuration.get("seed")},
    )


def _read_prepared(directory: Path) -> WrittenPairs:
    import pyarrow as pa

    record, splits = read_tables(directory)
    table = pa.concat_tables([splits["train"], splits["validation"]], promote_options="default")
    task = record.provenance.get("task")
    task = task if isinstance(task, Mapping) else {}
    options = record.options
    scores: dict[str, float] = {}
    levels: set[float] = set()
    negative_score = None
    if SCORE in table.column_names and isinstance(options, PreparationOptions):
        labels = _numbers(task.get("labels", {})) or {f"{label:g}": label for label in options.labels}
        scores = {label: options.smoothed(score) for label, score in labels.items()}
        levels = {options.smoothed(label) for label in options.labels}
        if record.counts.get("random_negatives"):
            negative_score = float(options.random_negative_score)
            levels.add(negative_score)
    return WrittenPairs(
        "prepared",
        directory,
        table,
        task,
        record.counts,
        tuple(sorted(levels)),
        scores,
        negative_score,
        facts={"language model": record.provenance.get("model"), "seed of the preparation": options.seed},
    )


def _numbers(labels: Any) -> dict[str, float]:
    """The task's labels as numbers; none where one of them is no number."""
    try:
        return {str(label): float(label) for label in labels}
    except (TypeError, ValueError):
        return {}
