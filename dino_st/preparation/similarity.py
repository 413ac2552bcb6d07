"""How alike two texts are to the eye: shared words, and edits; for many pairs at once."""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

LETTER, LATIN, WORD, SPACE = 1, 2, 4, 8
"""Kinds of characters: letters, letters of the Latin script, parts of words (letters, marks, digits), white space."""

_PLANES = 0x110000
_DESCRIBED = 0x20000
_IDEOGRAPHS = slice(0x20000, 0x323B0)
_GOLDEN = 0x9E3779B97F4A7C15
_BASE = 0xD6E8FEB86659FD93


@dataclass(frozen=True)
class Characters:
    """The characters of several texts, one after the other.

    Attributes:
        points: Code points, shape `(characters,)`.
        offsets: Where each text begins, and where the last one ends, shape `(texts + 1,)`.
    """

    points: npt.NDArray[np.uint32]
    offsets: Ints

    @property
    def lengths(self) -> Ints:
        """Characters of each text, shape `(texts,)`."""
        return np.diff(self.offsets)

    def is_kind(self, kind: int) -> Mask:
        """Whether each character is of a kind: `LETTER`, `LATIN`, `WORD` or `SPACE`."""
        found: Mask = (_tables()[0][self.points] & kind) > 0
        return found

    def lowered(self) -> npt.NDArray[np.uint32]:
        """The code points in lower case, where that is one character again."""
        return _tables()[1][self.points]

    def count(self, mask: Mask) -> Ints:
        """How many characters of each text a mask of the characters holds, shape `(texts,)`."""
        counts: Ints = np.diff(np.concatenate([[0], np.cumsum(mask)])[self.offsets])
        return counts

    def runs(self, mask: Mask) -> Mask:
        """The first character of every run of masked characters; a run ends with its text."""
        before = np.concatenate([[False], mask[:-1]])[: len(mask)]
        starts = self.offsets[:-1]
        before[starts[starts < len(mask)]] = False
        first: Mask = mask & ~before
        return first


def characters(texts: pa.LargeStringArray) -> Characters:
    """Takes texts apart.

    Args:
        texts: Without nulls.

    Returns:
        Their characters.
    """
    _, offset_buffer, data_buffer = texts.buffers()
    if not len(texts) or data_buffer is None:
        return Characters(np.empty(0, np.uint32), np.zeros(len(texts) + 1, np.int64))
    bounds = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer, np.uint8)[bounds[0] : bounds[-1]]
    leading = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])
    points = np.frombuffer(data.tobytes().decode().encode("utf-32-le"), np.uint32)
    return Characters(points, leading[bounds - bounds[0]])


def words(texts: Characters) -> tuple[Hashes, Ints]:
    """The words of texts: runs of letters, marks and digits in lower case, each as a 64-bit hash.

    Two words have the same hash if they are the same; two different ones by chance once in 2^64.

    Args:
        texts: The characters of the texts.

    Returns:
        Hashes in the order of the words, shape `(words,)`, and where the words of each text begin, `(texts + 1,)`.
    """
    inside = texts.is_kind(WORD)
    begins = texts.runs(inside)
    offsets = np.concatenate([[0], np.cumsum(begins)])[texts.offsets]
    starts = np.flatnonzero(begins[inside])
    if not len(starts):
        return np.empty(0, np.uint64), offsets
    letters = mixed(texts.lowered()[inside].astype(np.uint64))
    lengths = np.diff(np.concatenate([starts, [len(letters)]]))
    places = np.arange(len(letters)) - np.repeat(starts, lengths)
    powers = np.multiply.accumulate(np.full(lengths.max(), _BASE, np.uint64))
    return mixed(np.add.reduceat(letters * powers[places], starts)), offsets


def mixed(values: Hashes) -> Hashes:
    """Scrambles numbers one to one, so that their sums with multiples of a constant collide by chance only.

    The finisher of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    values = values + np.uint64(_GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: Hashes = values ^ (values >> np.uint64(31))
    return scrambled


def keyed(hashes: Hashes, group: Ints) -> Hashes:
    """Hashes of (group, hash), so that equal hashes of different groups differ.

    Args:
        hashes: Shape `(items,)`.
        group: Numbers from 0, shape `(items,)`.

    Returns:
        Shape `(items,)`.
    """
    return mixed(hashes ^ mixed(group.astype(np.uint64)))


@functools.lru_cache(maxsize=1)
def _tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32]]:
    """The kinds and the lower case of every code point; beyond the second plane only ideographs are letters."""
    kinds = np.zeros(_PLANES, np.uint8)
    lower = np.arange(_PLANES, dtype=np.uint32)
    for point in range(_DESCRIBED):
        character = chr(point)
        category = unicodedata.category(character)
        if category[0] == "L":
            is_latin = unicodedata.name(character, "").startswith(("LATIN", "FULLWIDTH LATIN"))
            kinds[point] = LETTER | WORD | (LATIN if is_latin else 0)
            small = character.lower()
            lower[point] = ord(small) if len(small) == 1 else point
        elif category[0] in "MN":
            kinds[point] = WORD
        elif character.isspace():
            kinds[point] = SPACE
    kinds[_IDEOGRAPHS] = LETTER | WORD
    return kinds, lower


Values = npt.NDArray[np.float64]

COMPARED_CHARACTERS = 512
"""Edits are counted over so many characters from the beginning of each text."""

_SLICE = 1 << 16
_TABLE = 1 << 19
_BITS = 64
_ONE = np.uint64(1)


@dataclass(frozen=True)
class WordSets:
    """The different words of texts.

    Attributes:
        hashes: Hashes of the words, text by text, shape `(words,)`.
        offsets: Where the words of each text begin, shape `(texts + 1,)`.
    """

    hashes: Hashes
    offsets: Ints

    @classmethod
    def of(cls, texts: pa.LargeStringArray) -> WordSets:
        """Finds the words of texts: runs of letters, marks and digits, in lower case.

        Args:
            texts: Without nulls.

        Returns:
            The sets, in the order of the texts.
        """
        hashes, counts = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
        for start in range(0, len(texts), _SLICE):
            found, offsets = words(characters(texts.slice(start, _SLICE)))
            text = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
            first = np.sort(np.unique(keyed(found, text), return_index=True)[1])
            hashes.append(found[first])
            counts.append(np.bincount(text[first], minlength=len(offsets) - 1))
        return cls(np.concatenate(hashes), np.cumsum(np.concatenate(counts)))

    def overlap(self, first: Ints, second: Ints) -> Values:
        """The share of shared words, |A ∩ B| / |A ∪ B| (Jaccard), 0 where both have no word.

        Args:
            first: Positions of texts, shape `(pairs,)`.
            second: Positions of the texts to compare them with, shape `(pairs,)`.

        Returns:
            Shape `(pairs,)`, from 0 to 1.
        """
        slices = [np.empty(0)]
        for start in range(0, len(first), _SLICE):
            part = slice(start, start + _SLICE)
            slices.append(self._overlap(first[part], second[part]))
        return np.concatenate(slices)

    def _overlap(self, first: Ints, second: Ints) -> Values:
        texts = np.concatenate([first, second])
        lengths = np.diff(self.offsets)[texts]
        pair = np.repeat(np.concatenate([np.arange(len(first))] * 2), lengths)
        places = np.repeat(self.offsets[texts] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        keys = keyed(self.hashes[places], pair)
        order = np.argsort(keys)
        twice = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        shared = np.bincount(pair[order[twice]], minlength=len(first))
        union = lengths[: len(first)] + lengths[len(first) :] - shared
        overlap: Values = np.divide(shared, union, out=np.zeros(len(first)), where=union > 0)
        return overlap


def edit_similarity(first: Ints, second: Ints, texts: pa.LargeStringArray, *, at_least: float = 0.0) -> Values:
    """One minus the Levenshtein distance divided by the length of the longer text; 1 for two empty texts.

    The distance is exact: the fewest insertions, deletions and replacements of characters, after both texts are put
    into lower case and cut to 512 characters. Computed for many pairs in step, with the bits of a word standing for
    the rows of the table (Myers 1999, "A fast bit-vector algorithm for approximate string matching"; blocks as in
    Hyyrö 2003).

    Args:
        first: Positions of texts, shape `(pairs,)`.
        second: Positions of the texts to compare them with, shape `(pairs,)`.
        texts: The texts.
        at_least: Pairs whose lengths alone rule out so much similarity are not compared.

    Returns:
        Shape `(pairs,)`, from 0 to 1. Where the lengths rule out `at_least`, the bound that they give.
    """
    slices = [np.empty(0)]
    for start in range(0, len(first), _SLICE):
        part = slice(start, start + _SLICE)
        numbers, places = np.unique(np.concatenate([first[part], second[part]]), return_inverse=True)
        apart = characters(texts.take(pa.array(numbers)))
        half = len(places) // 2
        slices.append(_edit_similarity(places[:half], places[half:], apart, at_least))
    return np.concatenate(slices)


def _edit_similarity(first: Ints, second: Ints, apart: Characters, at_least: float) -> Values:
    """As `edit_similarity`, for positions among a few texts."""
    lengths = np.minimum(apart.lengths, COMPARED_CHARACTERS)
    is_shorter = lengths[first] <= lengths[second]
    pattern, text = np.where(is_shorter, first, second), np.where(is_shorter, second, first)
    longest = np.maximum(lengths[text], 1)
    similarity: Values = 1 - (lengths[text] - lengths[pattern]) / longest
    blocks = -(-lengths[pattern] // _BITS)
    todo = np.flatnonzero((similarity >= at_least) & (blocks > 0))
    todo = todo[np.lexsort((lengths[text[todo]], blocks[todo]))]

    lowered = apart.lowered()
    is_used = np.zeros(int(lowered.max(initial=0)) + 1, np.bool_)
    is_used[lowered] = True
    # Numbers begin at 1: 0 is padding, which equals no character of a pattern.
    letters: Ints = np.cumsum(is_used, dtype=np.int64)[lowered]
    alphabet = int(is_used.sum()) + 1

    for count in np.unique(blocks[todo]):
        same = todo[blocks[todo] == count]
        step = max(_TABLE // (alphabet * int(count)), 64)
        for start in range(0, len(same), step):
            chosen = same[start : start + step]
            a, b = pattern[chosen], text[chosen]
            rows = _padded(letters, apart.offsets[a], lengths[a])
            columns = _padded(letters, apart.offsets[b], lengths[b])
            distance = _distances(rows, columns, lengths[a], lengths[b], alphabet)
            similarity[chosen] = 1 - distance / longest[chosen]
    return similarity


def _padded(letters: Ints, starts: Ints, lengths: Ints) -> Ints:
    """Texts as columns of a matrix of shape `(longest, texts)`, filled up with 0."""
    steps = np.arange(lengths.max())[:, None]
    places = np.minimum(starts + steps, len(letters) - 1)
    padded: Ints = np.where(steps < lengths, letters[places], 0)
    return padded


def _distances(pattern: Ints, text: Ints, pattern_lengths: Ints, text_lengths: Ints, alphabet: int) -> Ints:
    """The Levenshtein distances of the columns of two matrices of letters; patterns have equally many blocks."""
    pairs = np.arange(len(pattern_lengths))
    blocks = -(-len(pattern) // _BITS)
    equal = np.zeros((blocks, alphabet * len(pairs)), np.uint64)
    for row, letters in enumerate(pattern):
        equal[row // _BITS, letters * len(pairs) + pairs] |= _ONE << np.uint64(row % _BITS)
    equal[:, : len(pairs)] = 0
    up, down = np.full((blocks, len(pairs)), ~np.uint64(0)), np.zeros((blocks, len(pairs)), np.uint64)
    tops = np.full((blocks, len(pairs)), np.uint64(_BITS - 1))
    tops[-1] = ((pattern_lengths - 1) % _BITS).astype(np.uint64)
    distance = pattern_lengths.copy()
    for column, letters in enumerate(text):
        places = letters * len(pairs) + pairs
        rise, fall = np.ones(len(pairs), np.uint64), np.zeros(len(pairs), np.uint64)
        for block in range(blocks):
            same = equal[block][places]
            vertical = same | down[block]
            same |= fall
            horizontal = (((same & up[block]) + up[block]) ^ up[block]) | same
            higher = down[block] | ~(horizontal | up[block])
            lower = up[block] & horizontal
            rise_out, fall_out = (higher >> tops[block]) & _ONE, (lower >> tops[block]) & _ONE
            higher = (higher << _ONE) | rise
            lower = (lower << _ONE) | fall
            up[block] = lower | ~(vertical | higher)
            down[block] = higher & vertical
            rise, fall = rise_out, fall_out
        change = rise.astype(np.int64) - fall.astype(np.int64)
        distance += change if column < text_lengths[0] else np.where(column < text_lengths, change, 0)
    return distance
