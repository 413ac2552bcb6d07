"""Texts as arrays of characters and words, so that a million of them are looked at without a loop over texts."""

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
