"""How alike two texts are to the eye: shared words, and edits; for many pairs at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cpdist
from scipy.sparse import csr_array

from dino_st.support.text import is_unspaced, spaced

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

COMPARED_CHARACTERS = 512
"""Edits are counted over so many characters from the beginning of each text."""

_BETWEEN_WORDS = r"[^\pL\pM\pN]+"
_SLICE = 1 << 16


def in_slices(take: Callable[[slice], None], length: int, size: int) -> None:
    """Has every slice of so many elements taken, on as many threads as Arrow may use; slices must not touch others'."""
    slices = [slice(start, min(start + size, length)) for start in range(0, length, size)]
    with ThreadPoolExecutor(pa.cpu_count()) as threads:
        for _ in threads.map(take, slices):
            pass


def with_spaces(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """The texts with spaces between the words of scripts that have none; see `support.text.spaced`."""
    unspaced = [place for place, text in enumerate(texts.to_pylist()) if is_unspaced(text)]
    if not unspaced:
        return texts
    chosen = np.zeros(len(texts), np.bool_)
    chosen[unspaced] = True
    written = [spaced(text) for text in texts.filter(pa.array(chosen)).to_pylist()]
    return pc.replace_with_mask(texts, pa.array(chosen), pa.array(written, texts.type))


def words(texts: pa.LargeStringArray) -> tuple[Codes, Codes]:
    """The words of texts, that is runs of letters, marks and digits, in lower case and in their order.

    In scripts without spaces every two letters in a row are a word. Returned are a code of each word, alike for equal
    words, and the position of its text; both of shape `(words,)`.
    """
    lists = pc.split_pattern_regex(pc.utf8_lower(with_spaces(texts)), _BETWEEN_WORDS)
    pieces, text = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
    is_word = pc.binary_length(pieces).to_numpy() > 0  # a text that ends in a full stop has an empty piece behind it
    return pieces.dictionary_encode().indices.to_numpy()[is_word].astype(np.int64), text[is_word]


def word_sets(texts: pa.LargeStringArray) -> csr_array:
    """Which words each text has: 1 where it has one, else 0; sparse, of shape `(texts, words)`."""
    codes, text = words(texts)
    sets = csr_array((np.ones(len(codes)), (text, codes)), (len(texts), int(codes.max(initial=0)) + 1))
    sets.data[:] = 1
    return sets


def word_overlap(first: Codes, second: Codes, texts: pa.LargeStringArray) -> Floats:
    """The share of shared words, |A ∩ B| / |A ∪ B| (Jaccard), 0 where neither text has a word; shape `(pairs,)`.

    `first` and `second`, of the same shape, are positions of the texts to compare.
    """
    overlap = np.zeros(len(first))

    def compare(part: slice) -> None:
        numbers, places = np.unique(np.concatenate([first[part], second[part]]), return_inverse=True)
        sets = word_sets(texts.take(pa.array(numbers)))
        a, b = np.split(places, 2)
        sizes, shared = np.diff(sets.indptr), sets[a].multiply(sets[b]).sum(axis=1)
        union = sizes[a] + sizes[b] - shared
        np.divide(shared, union, out=overlap[part], where=union > 0)

    in_slices(compare, len(first), _SLICE)
    return overlap


def edit_similarity(first: Codes, second: Codes, texts: pa.LargeStringArray) -> Floats:
    """One minus the Levenshtein distance divided by the length of the longer text; 1 for two empty texts.

    The distance is the fewest insertions, deletions and replacements of characters, after both texts are put into
    lower case and cut to 512 characters. Arguments and result as those of `word_overlap`.
    """
    similarity = np.zeros(len(first))

    def compare(part: slice) -> None:
        sides = [pc.utf8_lower(texts.take(pa.array(side[part]))) for side in (first, second)]
        sides = [pc.utf8_slice_codeunits(side, 0, COMPARED_CHARACTERS) for side in sides]
        longest = np.maximum(*(pc.utf8_length(side).to_numpy() for side in sides))
        # Not normalized_similarity with a cutoff, which takes pairs that are just as similar as the cutoff for less.
        edits = cpdist(*(side.to_pylist() for side in sides), scorer=Levenshtein.distance, dtype=np.int64)
        similarity[part] = 1 - edits / np.maximum(longest, 1)

    in_slices(compare, len(first), _SLICE)
    return similarity
