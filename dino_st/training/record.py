"""A training run on disk: what it is, how far it came, and whether a directory may be continued."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dino_st.errors import OutputError, TrainingError
from dino_st.support.files import TRAINING_RECORD, is_content, make_directory, write_text
from dino_st.support.options import explain
from dino_st.training.options import ContrastiveOptions, TrainingOptions

logger = logging.getLogger(__name__)


CHECKPOINTS = "checkpoints"
"""The folder of the trainer's checkpoints, removed after success."""

_FORMAT = "dino-st training run, version 1"
_MODEL_FILES = ("modules.json", "config.json", "model.safetensors", "README.md")
_FREE_OPTIONS = {"device", "keep_checkpoints"}
_STATE = "trainer_state.json"


class Score(BaseModel):
    """Spearman's correlation on the generated validation split after some steps, from -1 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    spearman: float


class TrainingRecord(BaseModel):
    """What `training.json` holds.

    Attributes:
        format: What kind of file this is, and its version.
        status: Whether the model beside it is the outcome.
        options: How it was trained.
        encoder: Name or directory that training started from.
        encoder_revision: Hash of that directory's content, where it is one.
        data: Rows of each split, and a hash of all of them.
        provenance: Where the data came from.
        processes: Processes that trained together.
        versions: Of the packages that matter.
        start: Spearman of the untrained start; null where it is undefined.
        curve: Spearman at every evaluation.
        best: The evaluation whose checkpoint was kept.
        seconds: Wall-clock time of training and evaluation since the last start or resumption.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = _FORMAT
    status: Literal["running", "complete"] = "running"
    options: TrainingOptions | ContrastiveOptions
    encoder: str
    encoder_revision: str | None
    data: dict[str, int | str]
    provenance: dict[str, Any]
    processes: int
    versions: dict[str, str]
    start: float | None = None
    curve: tuple[Score, ...] = ()
    best: Score | None = None
    seconds: float | None = None


def read_record(directory: Path) -> TrainingRecord | None:
    """Reads the record of a run.

    Args:
        directory: The output directory of `train_encoder`.

    Returns:
        The record, or None where the directory is missing or empty.

    Raises:
        OutputError: The directory is a file, holds something else, or its record is damaged.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory}: is a file; expected a directory to write to")
    if not directory.is_dir() or not any(map(is_content, directory.iterdir())):
        return None
    try:
        record = TrainingRecord.model_validate_json((directory / TRAINING_RECORD).read_bytes())
    except FileNotFoundError as error:
        raise OutputError(
            f"{directory}: holds something else than a training run; choose another directory or empty it"
        ) from error
    except OSError as error:
        raise OutputError(f"{directory / TRAINING_RECORD}: cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        problem = explain(error, TrainingRecord)[0]
        raise OutputError(f"{directory / TRAINING_RECORD}: {problem}; delete the directory to start over") from error
    if record.format != _FORMAT:
        raise OutputError(f"{directory / TRAINING_RECORD}: format is {record.format!r}; expected {_FORMAT!r}")
    return record


def training_summary(directory: Path, validation: str) -> str:
    """A sentence about how a finished training went.

    Args:
        directory: The output directory of a run.
        validation: What the checkpoint was chosen by, in words.

    Returns:
        The scores before and after, and the time.

    Raises:
        TrainingError: The directory has no record of a score.
    """
    record = read_record(directory)
    if record is None or record.best is None:
        raise TrainingError(f"{directory}: training left no record of its scores; run it again")
    start = "undefined" if record.start is None else f"{100 * record.start:.2f}"
    return (
        f"Spearman × 100 on {validation}: {start} untrained, {100 * record.best.spearman:.2f} at "
        f"step {record.best.step} (kept), {record.seconds:.0f} s. The encoder is in {directory}"
    )


def check_same_run(directory: Path, old: TrainingRecord, new: TrainingRecord) -> None:
    """Makes sure that a run may continue another one.

    Args:
        directory: Where the other run lies.
        old: Its record.
        new: The record of the run that wants to continue it.

    Raises:
        OutputError: Options, data or encoder differ; the message names each difference.
    """
    differences = [
        f"{name}: was {before!r}, now {after!r}"
        for name, (before, after) in _comparable(old, new).items()
        if before != after
    ]
    if differences:
        raise OutputError(
            f"{directory}: holds another training run ({'; '.join(differences)}). Choose another directory, repeat the "
            "call as it was, choose another output directory, or (in Python) start over with resume=False"
        )


def _comparable(old: TrainingRecord, new: TrainingRecord) -> dict[str, tuple[Any, Any]]:
    """What has to be equal, by name."""
    before, after = old.options.model_dump(), new.options.model_dump()
    names = dict.fromkeys((*before, *after))
    pairs: dict[str, tuple[Any, Any]] = {
        name: (before.get(name), after.get(name)) for name in names if name not in _FREE_OPTIONS
    }
    pairs |= {f"data {name}": (old.data.get(name), new.data.get(name)) for name in new.data}
    if old.encoder_revision or new.encoder_revision:
        return pairs | {"encoder's content": (old.encoder_revision, new.encoder_revision)}
    return pairs | {"encoder": (old.encoder, new.encoder)}


def write_record(directory: Path, record: TrainingRecord) -> None:
    """Writes the record whole or not at all.

    Args:
        directory: The output directory; made if missing.
        record: What to write.

    Raises:
        OutputError: It cannot be written.
    """
    make_directory(directory)
    content = json.dumps(record.model_dump(mode="json"), ensure_ascii=False, indent=2)
    write_text(directory / TRAINING_RECORD, content + "\n")


def clear_run(directory: Path) -> None:
    """Removes the checkpoints and the model of an earlier run; other files stay.

    Args:
        directory: The output directory of a run.
    """
    remove_checkpoints(directory)
    for name in _MODEL_FILES:
        (directory / name).unlink(missing_ok=True)


def remove_checkpoints(directory: Path) -> None:
    """Removes the trainer's checkpoints.

    Args:
        directory: The output directory of a run.
    """
    shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)


def newest_checkpoint(directory: Path, *, repair: bool) -> Path | None:
    """Finds the newest checkpoint that was written to its end.

    The trainer writes its state last, so a checkpoint without a readable one was interrupted. The state names the best
    checkpoint by its path; where the run was moved since, that is brought up to date.

    Args:
        directory: The output directory of a run.
        repair: Whether to remove interrupted checkpoints and to mend paths; one process does.

    Returns:
        The checkpoint, or None.
    """
    folder = directory / CHECKPOINTS
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    for path in sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            if repair:
                logger.warning("%s was interrupted while it was written; it is removed", path)
                shutil.rmtree(path, ignore_errors=True)
            continue
        best = state.get("best_model_checkpoint")
        moved = best and folder / Path(best).name
        if repair and moved and str(moved) != best:
            write_text(path / _STATE, json.dumps(state | {"best_model_checkpoint": str(moved)}, indent=2) + "\n")
        return path
    return None
