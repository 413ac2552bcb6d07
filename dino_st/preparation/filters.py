"""Filters for raw pairs: near-copies, lengths, gibberish, other scripts, punctuation, and labels that are in doubt.

Each is an option and drops rows for a reason of its own. A row is counted under the first reason that applies, in the
order of the functions below.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.rows import Mask, PairRows, RawPairs, Rejections
from dino_st.preparation.similarity import (
    LATIN,
    LETTER,
    SPACE,
    Characters,
    WordSets,
    characters,
    edit_similarity,
    keyed,
    words,
)

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


def filter_texts(raw: RawPairs, rows: PairRows, options: PreparationOptions, rejections: Rejections) -> PairRows:
    """Drops rows for what their texts look like.

    Measures of a single text are those of `measure` and are taken of x2 alone, since x1 was given. Each distinct text
    is measured once.

    Args:
        raw: The raw pairs.
        rows: The rows that are left.
        options: Thresholds; None or 0 switches a filter off.
        rejections: Where dropped rows are counted.

    Returns:
        The rows without: `too_short`, `too_long`, `length_ratio`, `non_letters`, `repetition`, `punctuation`, `script`,
        `improbable` (the column `plain_log_prob` by `num_tokens`, which counts the closing mark as well).
    """
    thresholds = {
        "words": (options.min_words or None, options.max_words, options.max_length_ratio),
        "non_letters": (options.max_non_letters,),
        "repeated_trigrams": (options.max_repeated_trigrams,),
        "broken": (options.drop_broken_punctuation or None,),
        "latin": (options.max_script_difference,),
    }
    measures = measure(raw.texts, [name for name, limits in thresholds.items() if any(x is not None for x in limits)])
    if options.min_words:
        values = measures["words"][rows.second]
        rows = rejections.drop(rows, values < options.min_words, "too_short", values)
    if options.max_words is not None:
        values = measures["words"][rows.second]
        rows = rejections.drop(rows, values > options.max_words, "too_long", values)
    if options.max_length_ratio is not None:
        counts = np.stack([measures["words"][rows.first], measures["words"][rows.second]])
        values = counts.max(axis=0) / np.maximum(counts.min(axis=0), 1)
        rows = rejections.drop(rows, values > options.max_length_ratio, "length_ratio", values)
    for name, reason, limit in (
        ("non_letters", "non_letters", options.max_non_letters),
        ("repeated_trigrams", "repetition", options.max_repeated_trigrams),
    ):
        if limit is not None:
            values = measures[name][rows.second]
            rows = rejections.drop(rows, values > limit, reason, values)
    if options.drop_broken_punctuation:
        rows = rejections.drop(rows, measures["broken"][rows.second] > 0, "punctuation")
    if options.max_script_difference is not None:
        values = _difference(measures["latin"], rows)
        rows = rejections.drop(rows, values > options.max_script_difference, "script", values)
    if options.min_token_log_prob is not None and raw.plain_log_prob is not None and raw.num_tokens is not None:
        values = (raw.plain_log_prob / raw.num_tokens)[rows.origin]
        rows = rejections.drop(rows, values < options.min_token_log_prob, "improbable", values)
    return rows


def filter_near_copies(raw: RawPairs, rows: PairRows, options: PreparationOptions, rejections: Rejections) -> PairRows:
    """Drops pairs whose texts are all but the same, of the labels for which that is no signal.

    Args:
        raw: The raw pairs.
        rows: The rows that are left.
        options: Thresholds and labels.
        rejections: Where dropped rows are counted.

    Returns:
        The rows without: `near_copy_overlap` (shared words of all words), `near_copy_edit` (one minus edits by the
        length of the longer text).
    """
    if options.near_copy_overlap is not None:
        values, chosen = np.zeros(len(rows)), _labelled(raw, rows, options.near_copy_labels)
        values[chosen] = WordSets.of(raw.texts).overlap(rows.first[chosen], rows.second[chosen])
        rows = rejections.drop(rows, chosen & (values >= options.near_copy_overlap), "near_copy_overlap", values)
    if options.near_copy_edit is not None:
        values, chosen = np.zeros(len(rows)), _labelled(raw, rows, options.near_copy_labels)
        values[chosen] = edit_similarity(
            rows.first[chosen], rows.second[chosen], raw.texts, at_least=options.near_copy_edit
        )
        rows = rejections.drop(rows, chosen & (values >= options.near_copy_edit), "near_copy_edit", values)
    return rows


def filter_doubtful_labels(
    raw: RawPairs, rows: PairRows, posterior: Values | None, options: PreparationOptions, rejections: Rejections
) -> PairRows:
    """Drops rows whose label is contradicted by another row, or by the posterior.

    Args:
        raw: The raw pairs.
        rows: The rows that are left, ordered by x1, x2 and label.
        posterior: P(label | x1, x2) of the raw rows, shape `(raw rows, labels)`, if it is known.
        options: What to drop.
        rejections: Where dropped rows are counted.

    Returns:
        The rows without: `label_conflict` (the same texts with several labels: the likeliest of these labels stays,
        by the mean posterior of the rows, or none where there is no posterior), `low_posterior`.
    """
    if options.drop_label_conflicts and len(rows):
        rows = rejections.drop(rows, _conflicting(rows, posterior, len(raw.labels)), "label_conflict")
    if options.min_posterior is not None and posterior is not None:
        values = posterior[rows.origin, rows.label]
        rows = rejections.drop(rows, values < options.min_posterior, "low_posterior", values)
    return rows


def _difference(latin: Values, rows: PairRows) -> Values:
    """How much the shares of Latin letters differ; 0 where one text has no letters to judge by."""
    return np.nan_to_num(np.abs(latin[rows.first] - latin[rows.second]), nan=0.0)


def _labelled(raw: RawPairs, rows: PairRows, labels: tuple[float, ...]) -> Mask:
    """The rows that have one of the labels; all, if none is named."""
    if not labels:
        return np.ones(len(rows), np.bool_)
    chosen: Mask = np.isin(rows.label, [place for place, label in enumerate(raw.labels) if label in labels])
    return chosen


def _conflicting(rows: PairRows, posterior: Values | None, labels: int) -> Mask:
    """The rows to drop of those whose texts stand there with another label, too."""
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = (np.diff(rows.first) != 0) | (np.diff(rows.second) != 0)
    starts = np.flatnonzero(begins)
    group = np.cumsum(begins) - 1
    is_there = np.zeros((len(starts), labels), np.bool_)
    is_there[group, rows.label] = True
    is_conflict = is_there.sum(axis=1) > 1
    rejected: Mask = is_conflict[group]
    if posterior is None:
        return rejected
    sums = np.add.reduceat(posterior[rows.origin], starts)
    best = np.where(is_there, sums, -1.0).argmax(axis=1)
    rejected &= rows.label != best[group]
    return rejected
