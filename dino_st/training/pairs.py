"""Training an encoder on generated pairs with the noise-aware recipe of DINO, on `SentenceTransformerTrainer`.

Mean pooling, CosineSimilarityLoss, batches of 32, a learning rate of 2e-5 with 10 % warm-up, one epoch, and the
checkpoint that has the best Spearman correlation on the generated validation split (arXiv 2104.07540, section 4).
No human label is used anywhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import DatasetDict

from dino_st.support.files import check_can_become_directory
from dino_st.training.data import data_facts, training_splits
from dino_st.training.options import TrainingOptions
from dino_st.training.run import new_record, train_or_resume

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def train_encoder(
    data: str | os.PathLike[str] | DatasetDict,
    encoder: str | os.PathLike[str] | SentenceTransformer,
    output_dir: str | os.PathLike[str],
    *,
    options: TrainingOptions | None = None,
    resume: bool = True,
    **changes: Any,
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
        options: How to train; the defaults are the published values.
        resume: Continue an interrupted run of the same call from its newest checkpoint, and return the outcome of a
            finished one. With False an earlier run in `output_dir` is discarded.
        **changes: Fields of `TrainingOptions`, in place of `options` or of what it says: `loss` (`cosine`, `cosent` or
            `angle`; the latter two compare the pairs of a batch with one another, so they depend on how many processes
            share it), `batch_size`, `learning_rate` (2e-5; static embeddings such as `dino-tiny-encoder` need more,
            5e-4), `warmup_share`, `epochs`, `evaluation_steps`, `max_seq_length`, `dtype`, `device`, `seed`, ….

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
    options = TrainingOptions.of(options, **changes)
    directory = Path(output_dir).expanduser().resolve()
    splits, provenance = training_splits(data, options.batch_size, options.loss)
    check_can_become_directory(directory)
    record = new_record(options, encoder, data_facts(splits, "pairs"), provenance)
    from dino_st.training.objective import pair_objective

    return train_or_resume(encoder, pair_objective(splits, options), directory, record, resume=resume)
