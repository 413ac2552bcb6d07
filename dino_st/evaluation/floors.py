"""Scores that need no model at all: what an encoder has to beat before it has learned anything.

All three compare words (runs of word characters, in lower case): the share of words in common, the cosine of counts of
character trigrams, and the cosine of TF-IDF weights whose document frequencies are counted on the task's own sentences.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dino_st.errors import ConfigurationError
from dino_st.evaluation.metrics import Vector, correlate, score_sources

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask


_WORD = re.compile(r"\w+")


def token_jaccard(first: Sequence[str], second: Sequence[str]) -> Vector:
    """Share of distinct words that two sentences have in common.

    Args:
        first: First sentences.
        second: Second sentences, as many.

    Returns:
        Intersection over union, 0 to 1, `(pairs,)`; 0 for two sentences without words.
    """
    pairs = [(set(_words(a)), set(_words(b))) for a, b in zip(first, second, strict=True)]
    return np.array([len(a & b) / max(1, len(a | b)) for a, b in pairs])


def char_trigrams(first: Sequence[str], second: Sequence[str]) -> Vector:
    """Cosine of the counts of character trigrams, the words joined by single spaces.

    Args:
        first: First sentences.
        second: Second sentences, as many.

    Returns:
        Cosines, 0 to 1, `(pairs,)`; 0 where a sentence is shorter than three characters.
    """
    return np.array([_cosine(_trigrams(a), _trigrams(b)) for a, b in zip(first, second, strict=True)])


def tf_idf(first: Sequence[str], second: Sequence[str]) -> Vector:
    """Cosine of TF-IDF vectors.

    A word's weight is its count times `ln((1 + N) / (1 + df)) + 1`, with N sentences of which df hold it.

    Args:
        first: First sentences.
        second: Second sentences, as many; document frequencies are counted on both sides together.

    Returns:
        Cosines, 0 to 1, `(pairs,)`; 0 where a sentence has no words.
    """
    counts = [[Counter(_words(sentence)) for sentence in side] for side in (first, second)]
    frequency = Counter(word for side in counts for sentence in side for word in sentence)
    sentences = len(first) + len(second)
    inverse = {word: math.log((1 + sentences) / (1 + df)) + 1 for word, df in frequency.items()}
    sides = [[{word: n * inverse[word] for word, n in sentence.items()} for sentence in side] for side in counts]
    return np.array([_cosine(a, b) for a, b in zip(*sides, strict=True)])


FLOORS: dict[str, Callable[[Sequence[str], Sequence[str]], Vector]] = {
    "token-jaccard": token_jaccard,
    "char-trigrams": char_trigrams,
    "tf-idf": tf_idf,
}


def floor_score(name: str, task: AbsTask, protocol: str = "all") -> float:
    """Scores a floor on an STS task.

    Args:
        name: A key of `FLOORS`.
        task: An STS task with its data loaded and a single subset.
        protocol: `"all"`, `"mean"` or `"wmean"`; the last two fall back to the first where the task has one source.

    Returns:
        Spearman's correlation, -1 to 1, the mean over the task's splits where it has several.

    Raises:
        ConfigurationError: The task is not an STS task.
        EvaluationError: The gold scores or the similarities are constant.
    """
    if task.metadata.type != "STS":
        raise ConfigurationError(
            f"The floor {name!r} scores pairs of sentences, but {task.metadata.name} is a {task.metadata.type} task. "
            "Leave it out, or give STS tasks only."
        )
    data: Any = task.dataset
    splits = data.get("default", data)
    return float(np.mean([_score_split(name, splits[split], task, protocol) for split in task.eval_splits]))


def _score_split(name: str, split: Any, task: AbsTask, protocol: str) -> float:
    similarities = FLOORS[name](list(split["sentence1"]), list(split["sentence2"]))
    gold = np.asarray(split["score"], dtype=np.float64)
    if protocol == "all" or "source" not in split.column_names:
        return correlate(similarities, gold, task.metadata.name)[1]
    return float(score_sources(similarities, gold, split["source"], task.metadata.name)[protocol])


def _words(sentence: str) -> list[str]:
    return _WORD.findall(sentence.lower())


def _trigrams(sentence: str) -> Counter[str]:
    text = " ".join(_words(sentence))
    return Counter(text[start : start + 3] for start in range(len(text) - 2))


def _cosine(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    product = sum(value * second.get(key, 0) for key, value in first.items())
    norms = math.sqrt(sum(v * v for v in first.values()) * sum(v * v for v in second.values()))
    return product / norms if norms else 0.0
