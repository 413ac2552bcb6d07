"""Contrastive training on triplets with the recipe of SynCSE, on `SentenceTransformerTrainer`.

MultipleNegativesRankingLoss with scale 20 (a temperature of 0.05) and hard negatives, batches of 512 without any text
twice, a learning rate of 5e-5 that falls to 0, no warm-up, 3 epochs, 32 tokens, CLS pooling (arXiv 2305.15077 and its
training script). Batches that do not fit go through gradient caching, which gives the same gradients.

What differs from the published script:

- It chooses the checkpoint by the mean of Spearman's correlations on STSb and SICK dev every 25 steps, which uses human
  labels. Here that is done only when it is asked for (`checkpoint_choice="sts-dev"`). The default is Spearman's
  correlation on pairs made of generated validation triplets: (anchor, positive) scores 1, (anchor, negative) scores 0.
  The share of triplets whose positive is nearer than their negative soon reaches 100 % and tells no checkpoint from
  another, and so do ranks within a batch; this compares the similarities of different anchors, too, as the STS tasks
  do. It cannot exceed √3/2 ≈ 0.87, since there are two scores only.
- Its masked-language-model loss (weight 0.1) is left out.
- Its MLP head with tanh behind the CLS token is left out: the encoder is trained as it is used.
- One process trains; the published script spreads a batch over four GPUs.

With pairs beside the triplets both losses are trained together, each on its own data: a step takes a batch of the one
or of the other, in proportion to how many there are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict

from dino_st.data.columns import SCORE
from dino_st.errors import ConfigurationError
from dino_st.preparation.triplets import to_pairs
from dino_st.support.files import check_can_become_directory
from dino_st.training.data import data_facts, training_splits, triplet_splits
from dino_st.training.options import LOSSES, ContrastiveOptions
from dino_st.training.run import new_record, train_or_resume

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from dino_st.training.objective import Objective


def train_contrastive(
    data: str | os.PathLike[str] | DatasetDict,
    encoder: str | os.PathLike[str] | SentenceTransformer,
    output_dir: str | os.PathLike[str],
    *,
    pairs: str | os.PathLike[str] | DatasetDict | None = None,
    options: ContrastiveOptions | None = None,
    sts_dev: Mapping[str, Dataset] | None = None,
    resume: bool = True,
    **changes: Any,
) -> SentenceTransformer:
    """Trains an encoder on triplets, keeps its best checkpoint and saves it with a card and the record of the run.

    Example:
        >>> splits = prepare_triplets(read_triplets("triplets.csv"))
        >>> encoder = train_contrastive(splits, "roberta-base", "my-encoder")

    Args:
        data: What `prepare_triplets` returned, a directory of `save_prepared`, or any `DatasetDict` with `train` and
            `validation` of the columns `anchor`, `positive`, `negative`.
        encoder: As for `train_encoder`; a plain transformers encoder gets `pooling`.
        output_dir: Where the encoder, `training.json` and, while training, the checkpoints go.
        pairs: What `prepare_pairs` returned, or a directory of it: trained on together with the triplets.
        options: How to train; the defaults are SynCSE's published values.
        sts_dev: For `checkpoint_choice="sts-dev"`: sets of pairs `sentence1`, `sentence2`, `score`, whose correlations
            are averaged.
        resume: As for `train_encoder`.
        **changes: Fields of `ContrastiveOptions`, in place of `options` or of what it says: `batch_size` (triplets in
            one step), `mini_batch_size` (those encoded at once, through gradient caching; static embeddings are always
            encoded whole), `scale`, `learning_rate`, `epochs`, `pooling`, `checkpoint_choice`, and for `pairs` `loss`
            and `pairs_batch_size`, ….

    Returns:
        The best checkpoint; it is saved in `output_dir`.

    Raises:
        ConfigurationError: An option is unknown or out of range, or `sts_dev` does not fit `checkpoint_choice`.
        DatasetError: The data cannot be trained on: it has labels, holds pairs, or repeats too much.
        DinoError: Whatever else `train_encoder` raises.
    """
    options = ContrastiveOptions.of(options, **changes)
    _check_choice(options, sts_dev)
    directory = Path(output_dir).expanduser().resolve()
    splits, provenance = triplet_splits(data, options)
    check_can_become_directory(directory)
    facts = data_facts(splits, "triplets")
    pair_splits = None
    if pairs is not None:
        pair_splits, origin = training_splits(pairs, options.pairs_batch_size, options.loss)
        facts |= {f"pairs {name}": value for name, value in data_facts(pair_splits, "rows").items()}
        provenance = {**provenance, "pairs": origin}
    if sts_dev is not None:
        facts |= {f"sts-dev {name}": value for name, value in data_facts(sts_dev, "pairs").items()}
    objective = _objective(splits, pair_splits, sts_dev, options)
    return train_or_resume(
        encoder, objective, directory, new_record(options, encoder, facts, provenance), resume=resume
    )


def _check_choice(options: ContrastiveOptions, sts_dev: Mapping[str, Dataset] | None) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError(
            "contrastive training runs in one process, since the triplets of a batch are compared with one another; "
            "start it without torchrun (gradient caching makes any batch fit: see mini_batch_size)"
        )
    if options.checkpoint_choice == "sts-dev" and not sts_dev:
        raise ConfigurationError(
            "checkpoint_choice is 'sts-dev', but there are no scored pairs to choose by; give sts_dev={name: pairs}, "
            "on the command line --sts-dir DIR with STS data in SentEval layout"
        )
    if options.checkpoint_choice == "validation" and sts_dev:
        raise ConfigurationError("sts_dev is given, but checkpoint_choice is 'validation'; choose 'sts-dev' to use it")


def _objective(
    splits: DatasetDict, pairs: DatasetDict | None, sts_dev: Mapping[str, Dataset] | None, options: ContrastiveOptions
) -> Objective:
    """What to train on, by which losses, and what chooses the checkpoint."""
    from dino_st.training.objective import Objective

    if sts_dev is not None:
        validation = dict(sts_dev)
    else:
        validation = {"triplets": to_pairs(splits["validation"])}
        if pairs is not None:
            validation["pairs"] = pairs["validation"]
    train = splits["train"] if pairs is None else DatasetDict(triplets=splits["train"], pairs=pairs["train"])
    return Objective(
        train=train,
        loss=functools.partial(_losses, options=options, with_pairs=pairs is not None),
        validation=validation,
        evaluation_batch_size=min(options.batch_size, 128),
        batch_sampler=functools.partial(_batches, pairs_batch_size=options.pairs_batch_size),
        pooling=options.pooling,
        data_name="triplets written by a language model" + (", and pairs" if pairs is not None else ""),
    )


def _losses(model: SentenceTransformer, *, options: ContrastiveOptions, with_pairs: bool) -> Any:
    """The contrastive loss; with pairs, the losses by the name of their data."""
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    size = options.mini_batch_size
    if not size or size >= options.batch_size or isinstance(model[0], StaticEmbedding):
        contrastive: Any = losses.MultipleNegativesRankingLoss(model, scale=options.scale)
    else:
        contrastive = losses.CachedMultipleNegativesRankingLoss(model, scale=options.scale, mini_batch_size=size)
    if not with_pairs:
        return contrastive
    return {"triplets": contrastive, "pairs": getattr(losses, LOSSES[options.loss])(model)}


def _batches(dataset: Dataset, batch_size: int, *, pairs_batch_size: int, **named: Any) -> Any:
    """Batches of triplets hold no text twice; those of pairs are any. Checkpoints pickle this."""
    from sentence_transformers.base.sampler import DefaultBatchSampler, NoDuplicatesBatchSampler
    from torch.utils.data import RandomSampler

    if SCORE in dataset.column_names:
        order = RandomSampler(dataset, generator=named.get("generator"))
        return DefaultBatchSampler(order, batch_size=pairs_batch_size, **named)
    return NoDuplicatesBatchSampler(dataset, batch_size=batch_size, **named)
