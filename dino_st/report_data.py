"""What a report is made of: what lies in a directory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dino_st.answers import Answer, read_answers
from dino_st.audit import ANSWERS
from dino_st.errors import DinoError, InputError
from dino_st.preparation_options import REJECTED
from dino_st.training_run import RECORD as TRAINING
from dino_st.training_run import TrainingRecord, read_record
from dino_st.written_pairs import WrittenPairs, is_prepared, is_raw, read_written

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
    model = next((place for place in places("model") if (place / TRAINING).is_file()), None)
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
