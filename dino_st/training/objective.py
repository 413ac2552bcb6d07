"""What an encoder is trained on, in which batches, by which loss, and what chooses the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator, SentenceEvaluator

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.training.options import LOSSES, TrainingOptions

_MOST_STRATA = 10


def balanced_order(scores: npt.NDArray[np.float64], bits: np.random.PCG64) -> npt.NDArray[np.int64]:
    """A random order of pairs in which every stretch has about the same share of each score.

    Pairs of one score are shuffled and then laid out at equal distances over the whole order, from a random place on.
    Where there are more than ten different scores, as with targets that are mixed with the posterior, ten intervals of
    equal width between the lowest and the highest stand for scores.

    Args:
        scores: Shape `(pairs,)`.
        bits: Where the randomness comes from.

    Returns:
        Each position once, shape `(pairs,)`. Among any B in a row are B times the share of a score, give or take a few.
    """
    distinct, stratum = np.unique(scores, return_inverse=True)
    if len(distinct) > _MOST_STRATA:
        edges = np.linspace(distinct[0], distinct[-1], _MOST_STRATA + 1)[1:-1]
        stratum = np.unique(np.digitize(scores, edges), return_inverse=True)[1]
    shuffled = np.argsort(bits.random_raw(len(scores)), kind="stable")
    places = np.empty(len(scores))
    for number in range(int(stratum.max(initial=-1)) + 1):
        members = shuffled[stratum[shuffled] == number]
        start = int(bits.random_raw() >> 11) * 2.0**-53
        places[members] = (np.arange(len(members)) + start) / len(members)
    order: npt.NDArray[np.int64] = np.argsort(places, kind="stable")
    return order


class BalancedBatches(DefaultBatchSampler):
    """Goes through the pairs once an epoch, in a balanced order that depends on seed and epoch alone.

    A batch sampler of `SentenceTransformerTrainingArguments`; `model.fit` ignores batch samplers.
    """

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the positions of the pairs of each batch."""
        pairs: Any = self.sampler  # what the base class calls the data set
        scores = np.asarray(pairs[SCORE][:], np.float64)
        seed = np.random.SeedSequence(self.seed, spawn_key=(self.epoch,))
        order = balanced_order(scores, np.random.PCG64(seed)).tolist()
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch


_EVALUATOR = "validation"
METRIC = f"eval_{_EVALUATOR}_spearman_cosine"
"""The trainer's name of the score by which the best checkpoint is chosen."""


@dataclass(frozen=True)
class Objective:
    """What an encoder is trained on, by which loss, and what chooses the checkpoint.

    Attributes:
        train: Exactly the columns that the loss reads; a `DatasetDict` has a loss for each of its parts.
        loss: Makes the loss of an encoder, or one for each part of `train`.
        validation: Sets of pairs with the columns `sentence1`, `sentence2`, `score`; Spearman's correlation on them,
            averaged over the sets, chooses the checkpoint.
        evaluation_batch_size: Sentences encoded at once for it.
        batch_sampler: How batches are put together, as the trainer's argument of this name; None for its default.
        pooling: Of a plain transformers encoder, `mean` or `cls`.
        data_name: What the model's card calls the data.
    """

    train: Dataset | DatasetDict
    loss: Callable[[SentenceTransformer], Any]
    validation: Mapping[str, Dataset]
    evaluation_batch_size: int
    batch_sampler: Callable[..., Any] | None = None
    pooling: str = "mean"
    data_name: str = "pairs written by a language model"

    def evaluator(self) -> SentenceEvaluator:
        """What scores the checkpoints."""
        evaluators = [
            EmbeddingSimilarityEvaluator(
                sentences1=list(pairs[SENTENCE1]),
                sentences2=list(pairs[SENTENCE2]),
                scores=list(pairs[SCORE]),
                batch_size=self.evaluation_batch_size,
                main_similarity="cosine",
                name=_EVALUATOR,
                write_csv=False,
            )
            for pairs in self.validation.values()
        ]
        return evaluators[0] if len(evaluators) == 1 else MeanSpearman(evaluators)


class MeanSpearman(SentenceEvaluator):
    """The mean of Spearman's correlations on several sets of pairs, under the name that one alone would have.

    Args:
        evaluators: One a set.
    """

    def __init__(self, evaluators: list[EmbeddingSimilarityEvaluator]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.evaluators = evaluators
        self.primary_metric = METRIC.removeprefix("eval_")

    def __call__(self, model: Any, *arguments: Any, **named: Any) -> dict[str, float]:
        """Scores an encoder."""
        name = METRIC.removeprefix("eval_")
        found = [evaluator(model, *arguments, **named)[name] for evaluator in self.evaluators]
        return {name: sum(found) / len(found)}


def pair_objective(splits: DatasetDict, options: TrainingOptions) -> Objective:
    """The objective of training on pairs with scores.

    Args:
        splits: `train` and `validation` with the columns `sentence1`, `sentence2`, `score`, no others.
        options: The recipe.

    Returns:
        Train on the one, choose by the other.
    """
    return Objective(
        train=splits["train"],
        loss=getattr(losses, LOSSES[options.loss]),
        validation={_EVALUATOR: splits["validation"]},
        evaluation_batch_size=options.batch_size,
        batch_sampler=BalancedBatches if options.balanced_batches else None,
    )
