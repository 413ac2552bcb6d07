"""Sentences that are too much alike, found without comparing each with all others."""

from __future__ import annotations

import math
from collections import defaultdict

from dino_st.reply_parsing import normal_form

NEAR = 0.8
"""Jaccard coefficient of two sentences' sets of words from which on they count as one."""


class DistinctSentences:
    """Takes sentences one by one and says of each whether one like it is there already.

    Two sets of words A and B with |A ∩ B| / |A ∪ B| ≥ t share a word among the first |A| - ⌈t·|A|⌉ + 1 of A and the
    first |B| - ⌈t·|B|⌉ + 1 of B, whatever the order of all words is. Only these few are indexed, and with the longest
    words first, which are rare, few sentences have to be compared.

    Example:
        >>> distinct = DistinctSentences()
        >>> distinct.add("A man plays a flute."), distinct.add("a man plays a flute"), distinct.add("It rains.")
        (True, False, True)
    """

    def __init__(self, threshold: float = NEAR) -> None:
        self._threshold = threshold
        self._sets: list[frozenset[str]] = []
        self._index: defaultdict[str, list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, sentence: str) -> bool:
        """Takes a sentence in, unless it or one like it is there.

        Args:
            sentence: Any text; case, punctuation, and the order and number of its words do not matter.

        Returns:
            Whether it was taken in.
        """
        words = frozenset(normal_form(sentence).split())
        ordered = sorted(words, key=lambda word: (-len(word), word))
        prefix = ordered[: len(words) - math.ceil(self._threshold * len(words) - 1e-9) + 1]
        candidates = {number for word in prefix for number in self._index[word]}
        if any(self._is_near(words, self._sets[number]) for number in candidates):
            return False
        for word in prefix:
            self._index[word].append(len(self._sets))
        self._sets.append(words)
        return True

    def _is_near(self, one: frozenset[str], other: frozenset[str]) -> bool:
        if min(len(one), len(other)) < self._threshold * max(len(one), len(other)) - 1e-9:
            return False
        common = len(one & other)
        return common >= self._threshold * (len(one) + len(other) - common) - 1e-9
