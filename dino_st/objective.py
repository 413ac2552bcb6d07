"""What an encoder is trained on, by which loss, and what chooses the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator, SentenceEvaluator

from dino_st.balanced_batches import BalancedBatches
from dino_st.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.training_options import LOSSES, TrainingOptions

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
