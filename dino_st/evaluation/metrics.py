"""Rank correlations of cosine similarities with gold scores: pooled, for each source, and averaged over the sources.

The papers read the same numbers off in three ways. "all": the Spearman correlation over the pooled pairs of a year (the
DINO paper, and the main score here). "mean": the mean of the sources' own correlations. "wmean": that mean weighted by
the sources' sizes. They differ by up to six points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr

from dino_st.errors import EvaluationError

# Cosines of unit vectors in float32 carry noise of about 1e-7; a spread no wider than this is noise and nothing else.
CONSTANT_SPREAD = 1e-6
COSINE_DIGITS = 9

Vector = NDArray[np.float64]


def pairwise_cosine(embeddings1: NDArray[Any], embeddings2: NDArray[Any]) -> Vector:
    """Cosine similarity of each pair of rows, computed in float64 and rounded to nine digits.

    Both embeddings have shape `(pairs, dimensions)`. The rounding makes pairs of identical sentences tie, whatever
    noise their embeddings carry from the batches that they were encoded in. Without it their order among each other
    would be noise, and a source with many of them (52 of the 459 pairs of SMTeuroparl) would score some 0.0004 lower. A
    row of zeros has no direction; its similarity to anything is 0, as in SentEval.
    """
    first = np.asarray(embeddings1, dtype=np.float64)
    second = np.asarray(embeddings2, dtype=np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines: Vector = (first * second).sum(axis=1) / np.where(norms == 0, 1, norms)
    return np.round(cosines, COSINE_DIGITS)


_SAME_EMBEDDING = (
    "the model gives all sentences the same embedding. Check its training (a collapsed model, or a learning rate that "
    "is far too high), its weights, its tokenizer (which may know none of these words, as those of another language), "
    "and whether the texts differ only behind what it reads of them"
)


def correlate(
    similarities: Vector,
    gold: Vector,
    subject: str,
    *,
    measured: str = "cosine similarity",
    cause: str = _SAME_EMBEDDING,
) -> tuple[float, float]:
    """Pearson and Spearman correlation of similarities with gold scores on any scale, both `(pairs,)`.

    An EvaluationError, which names the subject, says that either side is constant, so that they are undefined, and the
    cause, if it is what was measured.
    """
    if len(gold) < 2 or np.ptp(gold) == 0:
        raise EvaluationError(
            f"{subject}: all {len(gold)} gold scores are equal, so the Spearman correlation is undefined. Use data "
            "with at least two different scores."
        )
    if np.ptp(similarities) <= CONSTANT_SPREAD:
        raise EvaluationError(
            f"{subject}: the {measured} of every pair is {similarities[0]:.6f}, so the Spearman correlation is "
            f"undefined: {cause}."
        )
    return float(pearsonr(gold, similarities)[0]), float(spearmanr(gold, similarities)[0])


def score_sources(cosines: Vector, gold: Vector, sources: Sequence[str], subject: str, **words: str) -> dict[str, Any]:
    """Each source's Spearman correlation (`sources`), its number of pairs (`source_pairs`), their `mean` and `wmean`.

    The latter weights each source by its number of pairs. Raises EvaluationError, in the `words` of `correlate`, where
    one is constant.
    """
    names = np.asarray(sources)
    spearman, pairs = {}, {}
    for source in dict.fromkeys(sources):
        chosen = names == source
        spearman[source] = correlate(cosines[chosen], gold[chosen], f"{subject}, source '{source}'", **words)[1]
        pairs[source] = int(chosen.sum())
    values, weights = list(spearman.values()), list(pairs.values())
    return {
        "sources": spearman,
        "source_pairs": pairs,
        "mean": float(np.mean(values)),
        "wmean": float(np.average(values, weights=weights)),
    }
