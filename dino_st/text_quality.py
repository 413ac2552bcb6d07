"""What can be said about the quality of a text without a model: length, repetition, punctuation, script.

Each measure is taken of many texts at once. None knows a language, but the words that no sentence ends in are English.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dino_st.text_characters import LATIN, LETTER, SPACE, Characters, characters, keyed, words

Values = npt.NDArray[np.float64]

_SLICE = 50_000
_BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"), ("“", "”"), ("«", "»"))
_OPEN_ENDS = ("and", "or", "but", "nor", "because", "although", "unless", "the", "a", "an")
_UNFINISHED = rf"(?:[,;:(\[{{–—-]|(?:^|\s)(?:{'|'.join(_OPEN_ENDS)})[.!?…]*)\s*$"


def measure(texts: pa.LargeStringArray, names: Iterable[str]) -> dict[str, Values]:
    """Takes measures of texts.

    - `words`: pieces between white space.
    - `non_letters`: share of the characters other than white space that are no letters; 1 for a text without letters.
    - `repeated_trigrams`: share of the sequences of three words (runs of letters, marks and digits, in lower case)
      that stood in the text before; 0 for texts of fewer than three words.
    - `latin`: share of the letters that are of the Latin script; NaN for a text without letters.
    - `broken`: 1 where the punctuation looks broken, else 0. That is: the text has no letter; it has more opening than
      closing brackets or curly quotation marks of a kind or the other way round; it has an odd number of straight
      double quotation marks; or it ends in a comma, semicolon, colon, dash, opening bracket, or a word such as "and",
      "because" or "the".

    Args:
        texts: Without nulls, shape `(texts,)`.
        names: Which measures.

    Returns:
        For each name an array of shape `(texts,)`.
    """
    functions = {name: _MEASURES[name] for name in names}
    parts: dict[str, list[Values]] = {name: [] for name in functions}
    for start in range(0, len(texts), _SLICE):
        piece = texts.slice(start, _SLICE)
        apart = characters(piece)
        for name, function in functions.items():
            parts[name].append(function(piece, apart).astype(np.float64))
    return {name: np.concatenate([np.empty(0), *values]) for name, values in parts.items()}


def _words(_: pa.LargeStringArray, apart: Characters) -> Values:
    return apart.count(apart.runs(~apart.is_kind(SPACE))).astype(np.float64)


def _non_letters(_: pa.LargeStringArray, apart: Characters) -> Values:
    visible = apart.count(~apart.is_kind(SPACE))
    letters = apart.count(apart.is_kind(LETTER))
    return 1 - _share(letters, visible, 0.0)


def _latin(_: pa.LargeStringArray, apart: Characters) -> Values:
    return _share(apart.count(apart.is_kind(LATIN)), apart.count(apart.is_kind(LETTER)), np.nan)


def _repeated_trigrams(_: pa.LargeStringArray, apart: Characters) -> Values:
    hashes, offsets = words(apart)
    texts = len(offsets) - 1
    text = np.repeat(np.arange(texts), np.diff(offsets))
    whole = text[:-2] == text[2:]
    trigrams = hashes[:-2] + hashes[1:-1] * np.uint64(3) + hashes[2:] * np.uint64(7)
    keys, text = keyed(trigrams[whole], text[:-2][whole]), text[:-2][whole]
    total = np.bincount(text, minlength=texts)
    distinct = np.bincount(text[np.unique(keys, return_index=True)[1]], minlength=texts)
    return _share(total - distinct, total, 0.0)


def _broken(piece: pa.LargeStringArray, apart: Characters) -> Values:
    def number(character: str) -> npt.NDArray[np.int64]:
        return apart.count(apart.points == ord(character))

    broken = apart.count(apart.is_kind(LETTER)) == 0
    broken |= number('"') % 2 == 1
    for opening, closing in _BRACKETS:
        broken |= number(opening) != number(closing)
    broken |= pc.match_substring_regex(piece, _UNFINISHED).to_numpy(zero_copy_only=False)
    flags: Values = broken.astype(np.float64)
    return flags


def _share(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64], otherwise: float) -> Values:
    share: Values = np.divide(part, whole, out=np.full(len(whole), otherwise), where=whole > 0)
    return share


_MEASURES = {
    "words": _words,
    "non_letters": _non_letters,
    "repeated_trigrams": _repeated_trigrams,
    "latin": _latin,
    "broken": _broken,
}
