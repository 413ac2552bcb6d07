"""What was tried beyond the joint objective: rows of `real_writer.py`, measured in `docs/results.md`.

Each starts from pairs with scores that are split already, so that no pair of the validation split is contrasted,
listed or scored. The losses are those of sentence-transformers, and one of a paper that it lacks.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, GISTEmbedLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import cos_sim, pairwise_cos_sim
from sklearn.isotonic import IsotonicRegression
from transformers import PreTrainedTokenizerFast

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2, as_table
from dino_st.training.objective import Objective, pair_objective
from dino_st.training.options import TrainingOptions

Floats = npt.NDArray[np.float64]
Objectives = Callable[[DatasetDict, TrainingOptions], Objective]
Scorer = Callable[[Dataset, int], Callable[[Sequence[str], Sequence[str]], Floats]]
"""Trained on pairs, for a fold of that number; scores other pairs, on a scale of its own."""

_SPREAD = 0.2
"""Temperature of the distributions over a list: scores that are 0.4 apart, as those of two labels, become 2 apart."""


def hard_negatives(*scores: float, guide: dict[str, Any] | None = None, decay_width: float | None = None) -> Objectives:
    """The joint objective whose contrasted pairs have other texts of their x1 as hard negatives, one of each score.

    With `guide`, arguments of `GISTEmbedLoss` (arXiv 2402.16829), texts that the untrained encoder finds more alike
    than the pair's own are no negatives; with `decay_width`, hard negatives count as in `GaussianDecayLoss`.
    """

    def objective(splits: DatasetDict, options: TrainingOptions) -> Objective:
        joint = pair_objective(splits, options)
        columns = [SENTENCE1, SENTENCE2, *(f"negative{number}" for number in range(len(scores)))]
        rows = list(zip(*with_negatives(splits["train"], options.positive_score, scores), strict=True))
        contrasted = Dataset.from_dict(dict(zip(columns, map(list, rows), strict=True)))
        parts = DatasetDict(graded=joint.train["graded"], positives=contrasted)
        if decay_width is not None:
            loss = functools.partial(decayed, joint=joint.loss, width=decay_width)
        elif guide is not None:
            loss = functools.partial(guided, joint=joint.loss, arguments=guide)
        else:
            loss = joint.loss
        return dataclasses.replace(joint, train=parts, loss=loss)

    return objective


def columns_of(pairs: Dataset) -> tuple[list[str], list[str], list[float]]:
    """Both sentences and the scores, read at once: a data set gives them row by row, a hundred times as slowly."""
    table = as_table(pairs)
    first, second, scores = (table[name].to_pylist() for name in (SENTENCE1, SENTENCE2, SCORE))
    return first, second, scores


def with_negatives(pairs: Dataset, least: float, scores: Sequence[float]) -> Iterator[tuple[str, ...]]:
    """Pairs of at least a score, each with a text of every other score for the same x1, where there are some."""
    texts: dict[str, dict[float, list[str]]] = {}
    for x1, x2, score in zip(*columns_of(pairs), strict=True):
        texts.setdefault(x1, {}).setdefault(score, []).append(x2)
    for x1, found in texts.items():
        positives = [x2 for score in found if score >= least for x2 in found[score]]
        for number, positive in enumerate(positives):
            negatives = [found[score][number % len(found[score])] for score in scores if score in found]
            if len(negatives) == len(scores):
                yield x1, positive, *negatives


def guided(
    model: SentenceTransformer, *, joint: Callable[[SentenceTransformer], Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """The joint losses, the contrastive one with the encoder as it is now, frozen, as its guide.

    It insists on tokenizers of transformers, which word vectors lack, and needs none where the vocabularies are equal.
    """
    guide = copy.deepcopy(model).requires_grad_(False).eval()
    modules: list[Any] = [encoder[0] for encoder in (model, guide) if isinstance(encoder[0], StaticEmbedding)]
    own = [module.tokenizer for module in modules]
    for module in modules:
        module.tokenizer = PreTrainedTokenizerFast(tokenizer_object=module.tokenizer)
    loss = GISTEmbedLoss(model, guide, **arguments)
    for module, tokenizer in zip(modules, own, strict=True):
        module.tokenizer = tokenizer
    return joint(model) | {"positives": loss}


class GaussianDecayLoss(torch.nn.Module):
    """Contrasts pairs in a batch, each with a hard negative that counts less while it is as alike as at the start.

    As the published code of GCSE (arXiv 2409.12887) does: where a hard negative's similarity over the temperature, s,
    is not above what the frozen start finds, s₀, the logit becomes s − s·exp(−(s − s₀)² / 2α²), α being the `width`.
    So a negative that is none hardly pushes, and one that gives way soon counts in full.
    """

    def __init__(self, model: SentenceTransformer, *, width: float, scale: float = 20.0) -> None:
        super().__init__()
        self.model, self.width, self.scale = model, width, scale
        self.start = copy.deepcopy(model).requires_grad_(False).eval()

    def forward(self, sentence_features: Sequence[dict[str, Any]], labels: Any) -> torch.Tensor:
        """The mean cross-entropy over the rows of three columns: anchor, positive and hard negative."""
        anchors, positives, negatives = (self.model(dict(column))["sentence_embedding"] for column in sentence_features)
        with torch.no_grad():
            first, *_, last = (self.start(dict(column))["sentence_embedding"] for column in sentence_features)
            before = self.scale * pairwise_cos_sim(first, last)
        logits = self.scale * cos_sim(anchors, torch.cat((positives, negatives)))
        rows = torch.arange(len(anchors), device=logits.device)
        now = logits[rows, len(rows) + rows].detach()
        decay = torch.exp(-((now - before) ** 2) / (2 * self.width**2)).masked_fill(now > before, 0)
        own = torch.zeros_like(logits).index_put((rows, len(rows) + rows), -now * decay)
        return torch.nn.functional.cross_entropy(logits + own, rows)


def decayed(model: SentenceTransformer, *, joint: Callable[[SentenceTransformer], Any], width: float) -> dict[str, Any]:
    """The joint losses, the contrastive one a `GaussianDecayLoss`."""
    return joint(model) | {"positives": GaussianDecayLoss(model, width=width)}


def ranking_lists(length: int) -> Objectives:
    """The joint objective, and the order of so many texts of each x1 by their scores.

    ListNet's cross-entropy of the two distributions over the texts, as in RankCSE (arXiv 2305.16726).
    """

    def objective(splits: DatasetDict, options: TrainingOptions) -> Objective:
        joint = pair_objective(splits, options)
        texts: dict[str, dict[str, float]] = {}
        for x1, x2, score in zip(*columns_of(splits["train"]), strict=True):
            texts.setdefault(x1, {})[x2] = score
        lists = [(x1, list(found)[:length], list(found.values())[:length]) for x1, found in texts.items()]
        lists = [row for row in lists if len(row[1]) == length]
        columns: dict[str, list[Any]] = {SENTENCE1: [x1 for x1, _, _ in lists]}
        columns |= {f"text{place}": [found[place] for _, found, _ in lists] for place in range(length)}
        columns[SCORE] = [scores for _, _, scores in lists]
        return dataclasses.replace(
            joint,
            train=DatasetDict(**joint.train, lists=Dataset.from_dict(columns)),
            loss=lambda model: joint.loss(model) | {"lists": DistillKLDivLoss(model, pairwise_cos_sim, _SPREAD)},
        )

    return objective


def cross_fitted(pairs: Dataset, scorer: Scorer, *, folds: int, weight: float, seed: int) -> Dataset:
    """Pairs whose scores are mixed with what a scorer that has not seen their x1 expects of them.

    The sentences x1 are dealt into folds, and a scorer trained on all others scores the pairs of each; isotonic
    regression of the scores that the written pairs had on its own turns these into expected scores. Random pairs, of
    score 0, keep theirs. As Trans-Encoder (arXiv 2109.13059) does without folds, where a scorer sees its own labels.
    """
    first, second, scores = columns_of(pairs)
    given = np.array(scores)
    names, place = np.unique(first, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[place] % folds
    found = np.empty(len(pairs))
    for number in range(folds):
        score = scorer(pairs.select(np.flatnonzero(fold != number)), number)
        left_out = np.flatnonzero(fold == number)
        found[left_out] = score([first[row] for row in left_out], [second[row] for row in left_out])
    written = given > 0
    expected = IsotonicRegression().fit_transform(found[written], given[written])
    mixed = given.copy()
    mixed[written] = ((1 - weight) * given[written] + weight * expected).round(10)
    return pairs.remove_columns(SCORE).add_column(SCORE, mixed)
