"""Training an encoder on generated pairs with the noise-aware recipe of DINO, on `SentenceTransformerTrainer`.

Mean pooling, CosineSimilarityLoss, batches of 32, a learning rate of 2e-5 with 10 % warm-up, one epoch, and the
checkpoint that has the best Spearman correlation on the generated validation split (arXiv 2104.07540, section 4).
No human label is used anywhere.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import DatasetDict

from dino_st.encoder_directory import directory_revision
from dino_st.encoder_loading import load_trainable_encoder, local_directory, recommended_learning_rate
from dino_st.errors import DinoWarning, OutOfMemoryError, OutputError, TrainingError
from dino_st.files import check_can_become_directory
from dino_st.model_card import add_provenance
from dino_st.training_data import content_hash, training_splits
from dino_st.training_options import DEFAULTS, TrainingOptions
from dino_st.training_run import (
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

logger = logging.getLogger(__name__)


def train_encoder(
    data: str | os.PathLike[str] | DatasetDict,
    encoder: str | os.PathLike[str] | SentenceTransformer,
    output_dir: str | os.PathLike[str],
    *,
    loss: str = DEFAULTS.loss,
    batch_size: int = DEFAULTS.batch_size,
    learning_rate: float | None = DEFAULTS.learning_rate,
    weight_decay: float = DEFAULTS.weight_decay,
    warmup_share: float = DEFAULTS.warmup_share,
    epochs: int = DEFAULTS.epochs,
    evaluation_steps: int = DEFAULTS.evaluation_steps,
    seed: int = DEFAULTS.seed,
    max_seq_length: int | None = DEFAULTS.max_seq_length,
    dtype: str = DEFAULTS.dtype,
    device: str = DEFAULTS.device,
    keep_checkpoints: bool = DEFAULTS.keep_checkpoints,
    resume: bool = True,
) -> SentenceTransformer:
    """Trains an encoder, keeps its best checkpoint and saves it with a card and the record of the run.

    Example:
        >>> splits = prepare_pairs(raw)
        >>> encoder = train_encoder(splits, "roberta-base", "my-encoder")

    The untrained start is scored first. Evaluation is by Spearman on the validation split, every
    `evaluation_steps` steps and at the end of each epoch. Under `torchrun` the processes share each batch.

    Args:
        data: What `prepare_pairs` returned, a directory of `save_prepared`, or any `DatasetDict` with `train` and
            `validation`, whose columns `sentence1`, `sentence2` and `score` are used.
        encoder: A name on the hub or of a bundled encoder, a sentence-transformers directory, a transformers directory
            (mean pooling is added), or a model, which is trained in place.
        output_dir: Where the encoder, `training.json` and, while training, the checkpoints go.
        loss: `cosine`, `cosent` or `angle`. The latter two compare the pairs of a batch with one another, so they
            depend on how many processes share it.
        batch_size: Pairs in one step, over all processes together.
        learning_rate: Peak learning rate of AdamW; None for what the encoder's folder recommends, else 2e-5.
        weight_decay: Of AdamW; biases and norms have none.
        warmup_share: Share of the steps in which the learning rate rises from 0; it falls to 0 after.
        epochs: Passes over the training split.
        evaluation_steps: Steps between evaluations.
        seed: Seed of dropout and of the order of the pairs.
        max_seq_length: Tokens kept of a sentence; without it, what the encoder allows.
        dtype: `auto`, `float32` or `bfloat16` (mixed precision; the weights stay in float32).
        device: `auto`, `cpu`, `cuda` or `mps`.
        keep_checkpoints: Leave the trainer's checkpoints in `output_dir/checkpoints`.
        resume: Continue an interrupted run of the same call from its newest checkpoint, and return the outcome of a
            finished one. With False an earlier run in `output_dir` is discarded.

    Returns:
        The best checkpoint; in the main process it is saved in `output_dir`.

    Raises:
        ConfigurationError: An option is unknown or out of range.
        DatasetError: A split or column is missing, scores are not numbers, or there are fewer pairs than a batch.
        InputError: `data` is a directory that cannot be read.
        ModelError: The encoder cannot be loaded.
        OutputError: `output_dir` holds something else, or another run, or cannot be written.
        OutOfMemoryError: A batch does not fit.
        TrainingError: No evaluation gave a score, or the best checkpoint could not be read back.
    """
    options = TrainingOptions.create(
        loss=loss,
        batch_size=batch_size,
        learning_rate=recommended_learning_rate(encoder) if learning_rate is None else learning_rate,
        weight_decay=weight_decay,
        warmup_share=warmup_share,
        epochs=epochs,
        evaluation_steps=evaluation_steps,
        seed=seed,
        max_seq_length=max_seq_length,
        dtype=dtype,
        device=device,
        keep_checkpoints=keep_checkpoints,
    )
    directory = Path(output_dir).expanduser().resolve()
    splits, provenance = training_splits(data, options.batch_size, options.loss)
    check_can_become_directory(directory)
    record = _new_record(options, encoder, splits, provenance)
    earlier = read_record(directory)
    if earlier is not None and resume:
        check_same_run(directory, earlier, record)
        if earlier.status == "complete":
            logger.info("%s: training is done already", directory)
            return load_trainable_encoder(directory, device=options.device)
        record = record.model_copy(update={"start": earlier.start})
    return _run(encoder, splits, directory, record, fresh=earlier is None or not resume)


def _new_record(
    options: TrainingOptions, encoder: object, splits: DatasetDict, provenance: dict[str, Any]
) -> TrainingRecord:
    """Writes down what a run is, before it starts."""
    name, revision = type(encoder).__name__, None
    if isinstance(encoder, str | os.PathLike):
        directory = local_directory(encoder)
        name = os.fspath(encoder) if directory is None else directory.name
        revision = None if directory is None else directory_revision(directory)
    packages = ("dino-st", "sentence-transformers", "transformers", "torch")
    return TrainingRecord(
        options=options,
        encoder=name,
        encoder_revision=revision,
        data={f"{name} pairs": split.num_rows for name, split in splits.items()}
        | {f"{name} sha256": content_hash(split.data) for name, split in splits.items()},
        provenance=provenance,
        processes=int(os.environ.get("WORLD_SIZE", "1")),
        versions={package: version(package) for package in packages},
    )


def _run(
    encoder: str | os.PathLike[str] | SentenceTransformer,
    splits: DatasetDict,
    directory: Path,
    record: TrainingRecord,
    *,
    fresh: bool,
) -> SentenceTransformer:
    """Trains, and writes the outcome."""
    from accelerate import PartialState

    from dino_st.trainer import ReportProgress, make_trainer, quiet_bars, start_score, training_arguments

    started = time.monotonic()
    arguments = training_arguments(record.options, directory / CHECKPOINTS)
    is_main = arguments.process_index == 0
    # On the CPU at first: the trainer knows which device is this process's own.
    model = load_trainable_encoder(encoder, max_seq_length=record.options.max_seq_length, device="cpu")
    PartialState().wait_for_everyone()  # all have read the record of an earlier run by now
    if is_main:
        if fresh:
            clear_run(directory)
        write_record(directory, record)
        newest_checkpoint(directory, repair=True)
    PartialState().wait_for_everyone()
    report = ReportProgress()
    with _worded(record.options, directory), quiet_bars(), contextlib.closing(report):
        trainer = make_trainer(model, splits, record.options, arguments, report)
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
    from dino_st.trainer import METRIC

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
            stacklevel=4,
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
        raise OutOfMemoryError(
            f"a batch of {options.batch_size} pairs does not fit into memory; choose a smaller batch_size or "
            "max_seq_length"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot be written ({error.strerror or error}); free space and run again"
        ) from error
