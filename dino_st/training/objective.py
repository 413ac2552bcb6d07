"""The objective of training: on which columns, in which batches, by which loss, and what chooses the checkpoint."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator, SequentialEvaluator
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util.distributed import get_world_size

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.preparation.triplets import to_pairs
from dino_st.training.batches import BalancedBatches, SortedBatches, batches_by_kind, scores_of
from dino_st.training.distributed import compare_all
from dino_st.training.heads import WithMaskedTokens
from dino_st.training.options import LOSSES, Choice, ContrastiveOptions, Loss, TrainingOptions
from dino_st.training.passes import in_mini_batches_by_length

METRIC = "eval_sequential_score"
"""The trainer's name of the score by which the best checkpoint is chosen."""
_TIMES_ON_GPU, _MOST_ON_GPU = 8, 256
"""Sentences encoded at once on a GPU, which keeps no activations then: so many times more, up to that number."""


@dataclass(frozen=True)
class Objective:
    """What an encoder is trained on, by which loss, and what chooses the checkpoint.

    `train` has exactly the columns that the loss reads; a `DatasetDict` has a loss for each of its parts. Spearman's
    correlation on the sets of pairs of `validation` (`sentence1`, `sentence2`, `score`), averaged over the sets,
    chooses the checkpoint.
    """

    train: Dataset | DatasetDict
    loss: Callable[[SentenceTransformer], Any]  # makes the loss of an encoder, or one for each part of `train`
    validation: Mapping[str, Dataset]
    evaluation_batch_size: int  # sentences encoded at once for the validation, on the CPU
    one_forward: Choice = "auto"  # whether the texts of a batch go through the encoder together
    batch_sampler: Callable[..., Any] | None = None  # as the trainer's argument; None for its default
    data_name: str = "sentence pairs"  # what the model's card calls the data
    batch_sizes: tuple[str, ...] = ("batch_size",)  # options that say how large batches are

    def parts(self) -> list[Dataset]:
        """The data sets that are trained on: one, or one for each loss."""
        return list(self.train.values()) if isinstance(self.train, dict) else [self.train]

    def evaluator(self, *, on_gpu: bool = False) -> SequentialEvaluator:
        """Scores an encoder by the mean of Spearman's correlations, under the name `METRIC`."""
        size = self.evaluation_batch_size
        evaluators = [
            encode_once(
                EmbeddingSimilarityEvaluator(
                    sentences1=list(pairs[SENTENCE1]),
                    sentences2=list(pairs[SENTENCE2]),
                    scores=list(pairs[SCORE]),
                    batch_size=max(size, min(_TIMES_ON_GPU * size, _MOST_ON_GPU)) if on_gpu else size,
                    main_similarity="cosine",
                    name=name,
                    write_csv=False,
                )
            )
            for name, pairs in self.validation.items()
        ]
        return SequentialEvaluator(evaluators, main_score_function=statistics.fmean)


def encode_once(evaluator: EmbeddingSimilarityEvaluator) -> EmbeddingSimilarityEvaluator:
    """Has an evaluator encode each different sentence of its pairs once, all together, which sorts them by length."""
    pairs, encode, found = [evaluator.sentences1, evaluator.sentences2], evaluator.embed_inputs, {}
    place = {sentence: place for place, sentence in enumerate(dict.fromkeys(itertools.chain(*pairs)))}

    def embed(model: SentenceTransformer, sentences: list[str], **_: Any) -> npt.NDArray[np.float32]:
        if sentences is evaluator.sentences1:  # which it begins with
            found["embeddings"] = encode(model, list(place))
        embeddings: npt.NDArray[np.float32] = found["embeddings"][[place[sentence] for sentence in sentences]]
        return embeddings

    changed: Any = evaluator
    changed.embed_inputs = embed
    return evaluator


def pair_objective(splits: DatasetDict, options: TrainingOptions) -> Objective:
    """Trains on pairs with scores by the loss that the options name (`LOSSES`), and chooses by the validation split.

    The joint objective adds `MultipleNegativesRankingLoss` on the pairs of `positives`, each loss on batches of its own
    as in Piccolo2 (arXiv 2405.06932): a step takes a batch of all pairs or of those, in proportion to their numbers.
    """
    train, loss = splits["train"], functools.partial(graded_loss, name=options.loss)
    batch_sampler: Callable[..., Any] | None = BalancedBatches if options.balanced_batches else None
    if options.sorted_batches:
        batch_sampler = functools.partial(SortedBatches, window=options.sorted_batches)
    if options.objective == "joint":
        train = DatasetDict(graded=train, positives=positives(train, options.positive_score))
        loss = functools.partial(joint_loss, graded=loss)
        batch_sampler = functools.partial(
            batches_by_kind, pairs_batch_size=options.batch_size, pairs_sampler=batch_sampler
        )
    return Objective(
        train=train,
        loss=loss,
        validation={"validation": splits["validation"]},
        evaluation_batch_size=options.batch_size,
        one_forward=options.one_forward,
        batch_sampler=batch_sampler,
    )


def positives(pairs: Dataset, least: float) -> Dataset:
    """The pairs that have at least a score, without their scores: the anchors and positives of a contrastive loss."""
    scores = scores_of(pairs)
    return pairs.select(np.flatnonzero(scores >= least)).select_columns([SENTENCE1, SENTENCE2])


def graded_loss(model: SentenceTransformer, *, name: Loss) -> Any:
    """The loss of pairs with scores that goes by a name, over the whole batch of all processes."""
    loss = getattr(losses, LOSSES[name])(model)
    return loss if name == "cosine" else compare_all(loss)  # the mean over pairs is that of the processes' means


def joint_loss(model: SentenceTransformer, *, graded: Callable[[SentenceTransformer], Any]) -> dict[str, Any]:
    """The losses of the joint objective, by the name of their data."""
    gather = get_world_size() > 1
    return {
        "graded": graded(model),
        "positives": losses.MultipleNegativesRankingLoss(model, gather_across_devices=gather),
    }


def triplet_objective(
    splits: DatasetDict, pairs: DatasetDict | None, sts_dev: Mapping[str, Dataset] | None, options: ContrastiveOptions
) -> Objective:
    """Trains on triplets, and on pairs where there are some; chooses by the validation splits or by human scores."""
    train, validation = splits["train"], dict(sts_dev or {})
    if pairs is not None:
        train = DatasetDict(triplets=splits["train"], pairs=pairs["train"])
    if not validation:
        validation["triplets"] = to_pairs(splits["validation"])
        if pairs is not None:
            validation["pairs"] = pairs["validation"]
    return Objective(
        train=train,
        loss=functools.partial(contrastive_loss, options=options, with_pairs=pairs is not None),
        validation=validation,
        evaluation_batch_size=min(options.batch_size, 128),
        one_forward=options.one_forward,
        batch_sampler=functools.partial(batches_by_kind, pairs_batch_size=options.pairs_batch_size),
        data_name="triplets" if pairs is None else "triplets, and sentence pairs",
        batch_sizes=("batch_size",) if pairs is None else ("batch_size", "pairs_batch_size"),
    )


def contrastive_loss(model: SentenceTransformer, *, options: ContrastiveOptions, with_pairs: bool) -> Any:
    """The contrastive loss; with pairs, the losses by the name of their data."""
    size, processes = options.mini_batch_size, get_world_size()
    shared: dict[str, Any] = {"scale": options.scale, "gather_across_devices": processes > 1}
    if not size or size >= options.batch_size // processes or isinstance(model[0], StaticEmbedding):
        contrastive: Any = losses.MultipleNegativesRankingLoss(model, **shared)
    else:
        contrastive = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=size, **shared)
        if options.one_forward != "off":
            contrastive = in_mini_batches_by_length(contrastive)
    if options.mlm_weight:
        contrastive = WithMaskedTokens(model, contrastive, options)
    return {"triplets": contrastive, "pairs": graded_loss(model, name=options.loss)} if with_pairs else contrastive
