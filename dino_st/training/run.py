"""A training run from its record to the saved encoder and its card, whatever is trained on."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.encoders.directory import directory_revision
from dino_st.encoders.loading import load_trainable_encoder, local_directory
from dino_st.errors import DinoWarning, OutOfMemoryError, OutputError, TrainingError
from dino_st.support.files import only_writer, write_text
from dino_st.support.text import facts_table
from dino_st.support.versions import versions
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from dino_st.training.record import (
    CHECKPOINTS,
    Score,
    TrainingRecord,
    check_same_run,
    clear_run,
    newest_checkpoint,
    read_record,
    remove_checkpoints,
    write_record,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

    from dino_st.training.objective import Objective


_HEADING = "## Training data: written by a language model"


def add_provenance(card: Path, record: TrainingRecord) -> None:
    """Adds a section on data and training to the card that sentence-transformers wrote; an earlier one is replaced.

    Args:
        card: The README.md of the model.
        record: The finished run.

    Raises:
        OutputError: The card cannot be written.
    """
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    write_text(card, f"{text.partition(_HEADING)[0].rstrip()}\n\n{provenance_section(record)}")


def provenance_section(record: TrainingRecord) -> str:
    """The section as Markdown.

    Args:
        record: The finished run.

    Returns:
        A heading, what to know about the data, and the facts as tables.
    """
    scores = [("untrained start", record.start), *((f"step {score.step}", score.spearman) for score in record.curve)]
    best = record.best.step if record.best else None
    shown = {name: "undefined" if value is None else f"{100 * value:.2f}" for name, value in scores}
    return "\n".join(
        [
            _HEADING,
            "",
            f"{_about(record)} Trained with dino-st from `{record.encoder}`.",
            "",
            facts_table("fact", {**flatten(record.provenance), **record.data}),
            "",
            f"Spearman × 100 on {_validation(record)} (the checkpoint of step {best} was kept):",
            "",
            facts_table("evaluation", shown),
            "",
        ]
    )


def _about(record: TrainingRecord) -> str:
    """What the data is, and whether people had a part in it."""
    if not isinstance(record.options, ContrastiveOptions):
        return (
            "A language model wrote the second sentence of each pair from an instruction that stands for the score "
            "(DINO, [arXiv 2104.07540](https://arxiv.org/abs/2104.07540)). No human label was used, neither to train "
            "nor to choose the checkpoint."
        )
    labels = (
        "No human label was used to train; the checkpoint was chosen by pairs that people scored."
        if record.options.checkpoint_choice == "sts-dev"
        else "No human label was used, neither to train nor to choose the checkpoint."
    )
    return (
        "Trained with a contrastive loss on triplets whose positives and hard negatives a language model wrote (the "
        "training of SynCSE, [arXiv 2305.15077](https://arxiv.org/abs/2305.15077)). " + labels
    )


def _validation(record: TrainingRecord) -> str:
    options = record.options
    if isinstance(options, ContrastiveOptions) and options.checkpoint_choice == "sts-dev":
        return "the development pairs of the STS Benchmark and SICK, averaged"
    return "the generated validation split"


def flatten(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as one level, their names joined by dots.

    Example:
        >>> flatten({"task": {"name": "sts-x2"}})
        {'task.name': 'sts-x2'}

    Args:
        facts: Names and values; a value may be such a mapping itself.
        prefix: What to put before the names.

    Returns:
        Names and values that are no mappings.
    """
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


logger = logging.getLogger(__name__)


def new_record(
    options: TrainingOptions, encoder: object, data: dict[str, int | str], provenance: dict[str, Any]
) -> TrainingRecord:
    """Writes down what a run is, before it starts.

    Args:
        options: How to train.
        encoder: What training starts from, as `load_trainable_encoder` takes it.
        data: Rows and hashes of the splits.
        provenance: Where the data came from.

    Returns:
        The record of a run that has just begun.
    """
    name, revision = type(encoder).__name__, None
    if isinstance(encoder, str | os.PathLike):
        directory = local_directory(encoder)
        name = os.fspath(encoder) if directory is None else directory.name
        revision = None if directory is None else directory_revision(directory)
    return TrainingRecord(
        options=options,
        encoder=name,
        encoder_revision=revision,
        data=data,
        provenance=provenance,
        processes=int(os.environ.get("WORLD_SIZE", "1")),
        versions=versions("dino-st", "sentence-transformers", "transformers", "torch"),
    )


_TELLING = 30
"""Validation rows below which a rank correlation is mostly chance."""


def train_or_resume(
    encoder: str | os.PathLike[str] | SentenceTransformer,
    objective: Objective,
    directory: Path,
    record: TrainingRecord,
    *,
    resume: bool,
) -> SentenceTransformer:
    """Trains into a directory, continues what was begun there, or returns what is finished there.

    Args:
        encoder: What training starts from.
        objective: On what, and by what.
        directory: The output directory.
        record: What the run is, from `new_record`.
        resume: Whether to go on with an earlier run of the same record; with False it is discarded.

    Returns:
        The best checkpoint; in the main process it is saved in the directory.

    Raises:
        DinoError: As `train_encoder` does.
    """
    few = [size for name, size in record.data.items() if name.startswith("validation ") and isinstance(size, int)]
    if few and 0 < min(few) < _TELLING:
        logger.warning(
            "the validation split has %d rows: its score says next to nothing, and neither does the choice of the "
            "checkpoint; generate from more sentences",
            min(few),
        )
    earlier = read_record(directory)
    if earlier is not None and resume:
        check_same_run(directory, earlier, record)
        if earlier.status == "complete":
            logger.info("%s: training is done already", directory)
            return load_trainable_encoder(directory, device=record.options.device)
        record = record.model_copy(update={"start": earlier.start})
    return _run(encoder, objective, directory, record, fresh=earlier is None or not resume)


def _run(
    encoder: str | os.PathLike[str] | SentenceTransformer,
    objective: Objective,
    directory: Path,
    record: TrainingRecord,
    *,
    fresh: bool,
) -> SentenceTransformer:
    """Trains, and writes the outcome."""
    from accelerate import PartialState

    from dino_st.training.trainer import ReportProgress, make_trainer, quiet_bars, start_score, training_arguments

    started = time.monotonic()
    arguments = training_arguments(record.options, directory / CHECKPOINTS)
    is_main = arguments.process_index == 0
    # On the CPU at first: the trainer knows which device is this process's own.
    length = record.options.max_seq_length
    model = load_trainable_encoder(encoder, max_seq_length=length, device="cpu", pooling=objective.pooling)
    PartialState().wait_for_everyone()  # all have read the record of an earlier run by now
    with only_writer(directory, leave=False) if is_main else contextlib.nullcontext():
        if is_main:
            if fresh:
                clear_run(directory)
            write_record(directory, record)
            newest_checkpoint(directory, repair=True)
        PartialState().wait_for_everyone()
        report = ReportProgress()
        with _worded(record.options, directory), quiet_bars(), contextlib.closing(report):
            trainer = make_trainer(model, objective, arguments, report)
            if record.start is None:
                record = record.model_copy(update={"start": start_score(trainer)})
                if is_main:
                    write_record(directory, record)
            checkpoint = newest_checkpoint(directory, repair=False)
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            record = _outcome(trainer, record, time.monotonic() - started)
            trainer.accelerator.wait_for_everyone()  # the others are done with reading the best checkpoint
            if is_main:
                _save(model, directory, record)
            trainer.accelerator.wait_for_everyone()
    return model


def _outcome(trainer: SentenceTransformerTrainer, record: TrainingRecord, seconds: float) -> TrainingRecord:
    """Reads the curve and the best score from the trainer, and makes sure that the best weights are loaded."""
    from dino_st.training.objective import METRIC

    state = trainer.state
    scores = [Score(step=int(entry["step"]), spearman=entry[METRIC]) for entry in state.log_history if METRIC in entry]
    curve = tuple(score for score in scores if math.isfinite(score.spearman))
    if not curve or state.best_model_checkpoint is None:
        raise TrainingError(
            "no evaluation gave a Spearman correlation: the encoder gives all sentences the same embedding, or its "
            "weights are not finite. Choose a lower learning_rate"
        )
    best = max(curve, key=lambda score: score.spearman)
    loaded = trainer.evaluate()[METRIC]
    if not abs(loaded - best.spearman) < 1e-3:
        raise TrainingError(
            f"the best checkpoint (step {best.step}, Spearman {best.spearman:.4f}) could not be read back: the model "
            f"scores {loaded:.4f}. The checkpoints are in {Path(state.best_model_checkpoint).parent}"
        )
    if record.start is not None and best.spearman < record.start:
        warnings.warn(
            f"training made the encoder worse on the generated validation split: Spearman {record.start:.4f} before, "
            f"{best.spearman:.4f} at best. Choose another learning_rate, or look at the pairs",
            DinoWarning,
            stacklevel=5,
        )
    return record.model_copy(update={"status": "complete", "curve": curve, "best": best, "seconds": round(seconds, 1)})


def _save(model: SentenceTransformer, directory: Path, record: TrainingRecord) -> None:
    """Writes the encoder, its card and, last, the record that says that the run is complete."""
    model.save_pretrained(str(directory))
    add_provenance(directory / "README.md", record)
    write_record(directory, record)
    if not record.options.keep_checkpoints:
        remove_checkpoints(directory)


@contextlib.contextmanager
def _worded(options: TrainingOptions, directory: Path) -> Iterator[None]:
    """Words what can fail in the middle of training."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        cached = isinstance(options, ContrastiveOptions)
        raise OutOfMemoryError(
            f"a batch of {options.batch_size} {'triplets' if cached else 'pairs'} does not fit into memory; choose a "
            f"smaller {'mini_batch_size' if cached else 'batch_size'} or max_seq_length"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot be written ({error.strerror or error}); free space and run again"
        ) from error
