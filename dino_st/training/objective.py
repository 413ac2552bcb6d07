"""The objective of training: on which columns, in which batches, by which loss, and what chooses the checkpoint."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler, NoDuplicatesBatchSampler
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator, SequentialEvaluator
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util.distributed import get_world_size
from torch.utils.data import RandomSampler

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.preparation.triplets import to_pairs
from dino_st.support.hashes import random_bits, random_order
from dino_st.training.distributed import compare_all
from dino_st.training.heads import WithMaskedTokens
from dino_st.training.options import LOSSES, ContrastiveOptions, Loss, TrainingOptions

METRIC = "eval_sequential_score"
"""The trainer's name of the score by which the best checkpoint is chosen."""

_MOST_STRATA = 10


_FIRST_ROWS = 500


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
    evaluation_batch_size: int  # sentences encoded at once for the validation
    batch_sampler: Callable[..., Any] | None = None  # as the trainer's argument; None for its default
    data_name: str = "pairs written by a language model"  # what the model's card calls the data

    def some_texts(self) -> list[str]:
        """Texts of the first training rows, to see what an encoder makes of them."""
        parts = self.train.values() if isinstance(self.train, dict) else [self.train]
        columns = [column for part in parts for column in part[:_FIRST_ROWS].values()]
        return [value for column in columns for value in column if isinstance(value, str)]

    def evaluator(self) -> SequentialEvaluator:
        """Scores an encoder by the mean of Spearman's correlations, under the name `METRIC`."""
        evaluators = [
            EmbeddingSimilarityEvaluator(
                sentences1=list(pairs[SENTENCE1]),
                sentences2=list(pairs[SENTENCE2]),
                scores=list(pairs[SCORE]),
                batch_size=self.evaluation_batch_size,
                main_similarity="cosine",
                name=name,
                write_csv=False,
            )
            for name, pairs in self.validation.items()
        ]
        return SequentialEvaluator(evaluators, main_score_function=statistics.fmean)


def pair_objective(splits: DatasetDict, options: TrainingOptions) -> Objective:
    """Trains on pairs with scores by the loss that the options name (`LOSSES`), and chooses by the validation split.

    The joint objective adds `MultipleNegativesRankingLoss` on the pairs of `positives`, each loss on batches of its own
    as in Piccolo2 (arXiv 2405.06932): a step takes a batch of all pairs or of those, in proportion to their numbers.
    """
    train, loss = splits["train"], functools.partial(graded_loss, name=options.loss)
    batch_sampler: Callable[..., Any] | None = BalancedBatches if options.balanced_batches else None
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
        batch_sampler=batch_sampler,
    )


def positives(pairs: Dataset, least: float) -> Dataset:
    """The pairs that have at least a score, without their scores: the anchors and positives of a contrastive loss."""
    scores = _scores(pairs)
    return pairs.select(np.flatnonzero(scores >= least)).select_columns([SENTENCE1, SENTENCE2])


def graded_loss(model: SentenceTransformer, *, name: Loss) -> Any:
    """The loss of pairs with scores that goes by a name, over the whole batch of all processes."""
    loss = getattr(losses, LOSSES[name])(model)
    return loss if name == "cosine" else compare_all(loss)  # the mean over pairs is that of the processes' means


def _scores(pairs: Dataset) -> npt.NDArray[np.float64]:
    """The scores of pairs, shape `(pairs,)`, without a Python object for each."""
    scores: npt.NDArray[np.float64] = pairs.with_format("arrow", columns=[SCORE])[:][SCORE].to_numpy()
    return scores.astype(np.float64)


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
    train, validation = splits["train"], {"triplets": to_pairs(splits["validation"])}
    if pairs is not None:
        train = DatasetDict(triplets=splits["train"], pairs=pairs["train"])
        validation["pairs"] = pairs["validation"]
    return Objective(
        train=train,
        loss=functools.partial(contrastive_loss, options=options, with_pairs=pairs is not None),
        validation=sts_dev or validation,
        evaluation_batch_size=min(options.batch_size, 128),
        batch_sampler=functools.partial(batches_by_kind, pairs_batch_size=options.pairs_batch_size),
        data_name="triplets written by a language model" + (", and pairs" if pairs is not None else ""),
    )


def contrastive_loss(model: SentenceTransformer, *, options: ContrastiveOptions, with_pairs: bool) -> Any:
    """The contrastive loss; with pairs, the losses by the name of their data."""
    size, processes = options.mini_batch_size, get_world_size()
    shared: dict[str, Any] = {"scale": options.scale, "gather_across_devices": processes > 1}
    if not size or size >= options.batch_size // processes or isinstance(model[0], StaticEmbedding):
        contrastive: Any = losses.MultipleNegativesRankingLoss(model, **shared)
    else:
        contrastive = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=size, **shared)
    if options.mlm_weight:
        contrastive = WithMaskedTokens(model, contrastive, options)
    return {"triplets": contrastive, "pairs": graded_loss(model, name=options.loss)} if with_pairs else contrastive


def batches_by_kind(
    dataset: Dataset, batch_size: int, *, pairs_batch_size: int, pairs_sampler: Any = None, **named: Any
) -> Any:
    """Batches of what is contrasted hold no text twice; those of pairs with scores are any. Checkpoints pickle this.

    So texts for one x1 never meet as each other's negatives.
    """
    if SCORE not in dataset.column_names:
        return NoDuplicatesBatchSampler(dataset, batch_size=batch_size, **named)
    if pairs_sampler is not None:
        return pairs_sampler(dataset, batch_size=pairs_batch_size, **named)
    order = RandomSampler(dataset, generator=named.get("generator"))
    return DefaultBatchSampler(order, batch_size=pairs_batch_size, **named)


class BalancedBatches(DefaultBatchSampler):
    """Goes through the pairs once an epoch, in a balanced order that depends on seed and epoch alone.

    A batch sampler of `SentenceTransformerTrainingArguments`; `model.fit` ignores batch samplers.
    """

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the positions of the pairs of each batch."""
        pairs: Any = self.sampler  # what the base class calls the data set
        scores = _scores(pairs)
        order = balanced_order(scores, random_bits(self.seed, self.epoch)).tolist()
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch


def balanced_order(scores: npt.NDArray[np.float64], bits: np.random.PCG64) -> npt.NDArray[np.int64]:
    """A random order of pairs, shape `(pairs,)`, in which every stretch has about the same share of each score.

    Pairs of one score are shuffled and then laid out at equal distances over the whole order, from a random place on.
    Where there are more than ten different scores, as with targets that are mixed with the posterior, ten intervals of
    equal width between the lowest and the highest stand for scores. Among any B in a row are B times the share of a
    score, give or take a few.
    """
    distinct, stratum = np.unique(scores, return_inverse=True)
    if len(distinct) > _MOST_STRATA:
        edges = np.linspace(distinct[0], distinct[-1], _MOST_STRATA + 1)[1:-1]
        stratum = np.unique(np.digitize(scores, edges), return_inverse=True)[1]
    shuffled = random_order(len(scores), bits)
    places = np.empty(len(scores))
    for number in range(int(stratum.max(initial=-1)) + 1):
        members = shuffled[stratum[shuffled] == number]
        start = int(bits.random_raw() >> 11) * 2.0**-53
        places[members] = (np.arange(len(members)) + start) / len(members)
    order: npt.NDArray[np.int64] = np.argsort(places, kind="stable")
    return order
