"""Batches in which the scores are spread as evenly as in the whole training split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sentence_transformers.base.sampler import DefaultBatchSampler

from dino_st.columns import SCORE

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
