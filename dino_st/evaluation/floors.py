"""Scores that need no model at all: what an encoder has to beat before it has learned anything.

All three compare words (runs of word characters, in lower case; of scripts without spaces, pairs of letters): the share
of words in common, the cosine of counts of character trigrams, and the cosine of TF-IDF weights whose document
frequencies are counted on the task's own sentences.
They take the first sentences and as many second ones, and return values from 0 to 1, `(pairs,)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from dino_st.errors import ConfigurationError, EvaluationError
from dino_st.evaluation.metrics import Vector, correlate, score_sources
from dino_st.support.text import MARKS, spaced

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask


_WORD = rf"[\w{MARKS}]+"
_NOTHING_SHARED = "no two sentences of a pair share a word or part of one, and a floor sees nothing else. Leave it out"
_ALL_ALIKE = "the sentences of every pair share the same part of their words. Leave it out, or give more varied pairs"


def token_jaccard(first: Sequence[str], second: Sequence[str]) -> Vector:
    """Share of distinct words that two sentences have in common, of all of both; 0 for two sentences without words."""
    a, b = _vectors(CountVectorizer(token_pattern=_WORD, binary=True, preprocessor=_lower), first, second)
    shared = _dot(a, b)
    return np.asarray(shared / np.maximum(_dot(a, a) + _dot(b, b) - shared, 1))


def char_trigrams(first: Sequence[str], second: Sequence[str]) -> Vector:
    """Cosine of the counts of character trigrams, the words joined by single spaces; 0 where a sentence has none."""

    def joined(sentence: str) -> str:
        return " ".join(re.findall(_WORD, sentence.lower()))

    return _cosine(*_vectors(CountVectorizer(analyzer="char", ngram_range=(3, 3), preprocessor=joined), first, second))


def tf_idf(first: Sequence[str], second: Sequence[str]) -> Vector:
    """Cosine of TF-IDF vectors; 0 where a sentence has no words.

    A word's weight is its count times `ln((1 + N) / (1 + df)) + 1`; df of the N sentences of both sides hold it.
    """
    return _cosine(*_vectors(TfidfVectorizer(token_pattern=_WORD, norm=None, preprocessor=_lower), first, second))


def _lower(sentence: str) -> str:
    return spaced(sentence.lower())


FLOORS: dict[str, Callable[[Sequence[str], Sequence[str]], Vector]] = {
    "token-jaccard": token_jaccard,
    "char-trigrams": char_trigrams,
    "tf-idf": tf_idf,
}


def floor_score(name: str, task: AbsTask, protocol: str) -> float:
    """Scores a floor on an STS task whose data is loaded: the mean Spearman correlation of its subsets and splits.

    The protocols `"mean"` and `"wmean"` fall back to `"all"` where the task has one source. Raises ConfigurationError
    where it is no STS task, and EvaluationError where gold scores or similarities are constant.
    """
    if task.metadata.type != "STS":
        raise ConfigurationError(
            f"The floor {name!r} scores pairs of sentences, but {task.metadata.name} is a {task.metadata.type} task. "
            "Leave it out, or give STS tasks only."
        )
    data: Any = task.dataset
    parts = [data.get(subset, data)[split] for subset in task.hf_subsets for split in task.eval_splits]
    return float(np.mean([_score_split(name, part, task, protocol) for part in parts]))


def _score_split(name: str, split: Any, task: AbsTask, protocol: str) -> float:
    similarities = FLOORS[name](list(split["sentence1"]), list(split["sentence2"]))
    gold = np.asarray(split["score"], dtype=np.float64)
    words = {"measured": f"floor {name!r}", "cause": _NOTHING_SHARED if not similarities.any() else _ALL_ALIKE}
    if protocol == "all" or not getattr(task, "has_sources", False):
        return correlate(similarities, gold, task.metadata.name, **words)[1]
    if "source" not in split.column_names:
        raise EvaluationError(
            f"{task.metadata.name} has no sources here, of which the protocol {protocol!r} takes the mean; give "
            "data in SentEval layout (--sts-dir), or the protocol 'all'"
        )
    return float(score_sources(similarities, gold, split["source"], task.metadata.name, **words)[protocol])


def _vectors(vectorizer: Any, first: Sequence[str], second: Sequence[str]) -> tuple[Any, Any]:
    """The sparse vectors of either side, `(pairs, terms)`, the terms being those of both sides."""
    try:
        vectors = vectorizer.fit_transform([*first, *second])
    except ValueError:  # not one term in all the sentences, which scikit-learn refuses
        vectors = csr_matrix((len(first) + len(second), 1))
    return vectors[: len(first)], vectors[len(first) :]


def _dot(first: Any, second: Any) -> Vector:
    product: Vector = np.asarray(first.multiply(second).sum(axis=1), np.float64).ravel()
    return product


def _cosine(first: Any, second: Any) -> Vector:
    norms = np.sqrt(_dot(first, first) * _dot(second, second))
    return np.asarray(np.divide(_dot(first, second), norms, out=np.zeros(len(norms)), where=norms > 0))
