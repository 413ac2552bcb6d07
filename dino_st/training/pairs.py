"""Training an encoder on generated pairs with the noise-aware recipe of DINO, on `SentenceTransformerTrainer`.

Mean pooling, CosineSimilarityLoss, batches of 32, a learning rate of 2e-5 with 10 % warm-up, one epoch, and the
checkpoint that has the best Spearman correlation on the generated validation split (arXiv 2104.07540, section 4).
No human label is used anywhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import DatasetDict

from dino_st.encoders.loading import recommended_learning_rate
from dino_st.support.files import check_can_become_directory
from dino_st.training.data import data_facts, training_splits
from dino_st.training.options import DEFAULTS, TrainingOptions
from dino_st.training.run import new_record, train_or_resume

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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
    balanced_batches: bool = DEFAULTS.balanced_batches,
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
        balanced_batches: Spread the scores evenly over the batches; each pair still comes once an epoch.
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
        balanced_batches=balanced_batches,
        keep_checkpoints=keep_checkpoints,
    )
    directory = Path(output_dir).expanduser().resolve()
    splits, provenance = training_splits(data, options.batch_size, options.loss)
    check_can_become_directory(directory)
    record = new_record(options, encoder, data_facts(splits, "pairs"), provenance)
    from dino_st.training.objective import pair_objective

    return train_or_resume(encoder, pair_objective(splits, options), directory, record, resume=resume)
