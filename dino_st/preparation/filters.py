"""Filters for raw pairs: near-copies, lengths, gibberish, other scripts, punctuation, and labels that are in doubt.

Each is an option that is off by default, and drops rows for a reason of its own. A row is counted under the first
reason that applies, in the order of `apply_filters`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.rows import Codes, Floats, Mask, PairRows, RawPairs, Rejections
from dino_st.preparation.targets import posterior_of_rows
from dino_st.support.progress import logger
from dino_st.support.similarity import edit_similarity, in_slices, with_spaces, word_overlap, words

_SLICE = 50_000
_SPACE = r"\s\x0b\x1c-\x1f\x{85}\pZ"  # RE2's \s alone is that of ASCII
_BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"), ("«", "»"), ("「", "」"), ("『", "』"), ("（", "）"))
_OPEN_ENDS = ("and", "or", "but", "nor", "because", "although", "unless", "the", "a", "an")
_UNFINISHED = rf"(?:[,;:(\[{{–—-]|(?:^|\s)(?:{'|'.join(_OPEN_ENDS)})[.!?…]*)\s*$"


def apply_filters(
    raw: RawPairs, rows: PairRows, options: PreparationOptions, rejections: Rejections
) -> tuple[PairRows, Floats | None, dict[str, Any]]:
    """Drops what the options name from rows that are ordered by x1, x2 and label.

    Returns what is left; where the pairs' log-probabilities were read, P(label | x1, x2) of the raw rows, shape `(raw
    rows, labels)`; and how that posterior came about.
    """
    rows = filter_texts(raw, rows, options, rejections)
    rows = filter_near_copies(raw, rows, options, rejections)
    posterior: Floats | None = None
    facts: dict[str, Any] = {}
    if raw.log_probs is not None and len(rows):
        posterior, facts = posterior_of_rows(raw.log_probs, raw, rows, options)
    return filter_doubtful_labels(raw, rows, posterior, options, rejections), posterior, facts


def measure(texts: pa.LargeStringArray, *names: str) -> dict[str, Floats]:
    """Takes measures of texts, each of shape `(texts,)`.

    - `words`: pieces between white space; in scripts without spaces every two letters in a row.
    - `non_letters`: share of the characters other than white space that are no letters; 1 for a text without letters.
    - `repeated_trigrams`: share of the sequences of three words (runs of letters, marks and digits, in lower case)
      that stood in the text before; 0 for texts of fewer than three words.
    - `latin`: share of the letters that are of the Latin script; NaN for a text without letters.
    - `broken`: 1 where the punctuation looks broken, else 0. That is: the text has no letter; it has more opening than
      closing brackets or curly quotation marks of a kind or the other way round; it has an odd number of straight
      double quotation marks; or it ends in a comma, semicolon, colon, dash, opening bracket, or a word such as "and",
      "because" or "the".
    """
    found = {name: np.empty(len(texts)) for name in names}

    def take(part: slice) -> None:
        some = _Texts(texts[part])
        for name in names:
            found[name][part] = _MEASURES[name](some)

    in_slices(take, len(texts), _SLICE)
    return found


class _Texts:
    """Some texts, and what several measures ask of them."""

    def __init__(self, texts: pa.LargeStringArray) -> None:
        self.all = texts
        start, end = np.frombuffer(texts.buffers()[1], np.int64)[[texts.offset, texts.offset + len(texts)]]
        self._bytes = memoryview(texts.buffers()[2] or b"")[start:end].tobytes()

    def number(self, character: str) -> Any:
        """How often a character stands in each."""
        if character.encode() not in self._bytes:
            return np.zeros(len(self.all), np.int64)
        return pc.count_substring(self.all, character).to_numpy()

    @cached_property
    def letters(self) -> pa.LargeStringArray:
        """Their letters alone."""
        return _without(self.all, r"\PL+")


def _words(texts: _Texts) -> pa.Array:
    return pc.count_substring_regex(with_spaces(texts.all), f"[^{_SPACE}]+")


def _non_letters(texts: _Texts) -> Floats:
    return 1 - _share(pc.utf8_length(texts.letters), pc.utf8_length(_without(texts.all, f"[{_SPACE}]+")), 0.0)


def _latin(texts: _Texts) -> Floats:
    return _share(pc.utf8_length(_without(texts.letters, r"\P{Latin}+")), pc.utf8_length(texts.letters), np.nan)


def _repeated_trigrams(texts: _Texts) -> Floats:
    codes, text = words(texts.all)
    is_within = text[:-2] == text[2:]
    total = np.bincount(text[:-2][is_within], minlength=len(texts.all))
    # Only texts that repeat two words can repeat three, and those are found by one number a place.
    vocabulary = int(codes.max(initial=0)) + 1
    if len(texts.all) * vocabulary**2 < 2**63:
        pairs = np.sort((text[:-1] * vocabulary + codes[:-1]) * vocabulary + codes[1:])
        suspects = np.zeros(len(texts.all), np.bool_)
        suspects[pairs[1:][pairs[1:] == pairs[:-1]] // vocabulary**2] = True
        is_within &= suspects[text[:-2]]
    trigrams = np.stack([text[:-2], codes[:-2], codes[1:-1], codes[2:]])[:, is_within]
    trigrams = trigrams[:, np.lexsort(trigrams)]
    stood_before = (trigrams[:, 1:] == trigrams[:, :-1]).all(axis=0)
    return _share(np.bincount(trigrams[0, 1:][stood_before], minlength=len(texts.all)), total, 0.0)


def _broken(texts: _Texts) -> Mask:
    number = texts.number
    broken: Mask = np.asarray(pc.utf8_length(texts.letters)) == 0
    broken |= number('"') % 2 == 1
    # “ closes what „ opens, and opens what ” closes.
    broken |= np.where(number("„") > 0, number("„") - number("“"), number("“")) != number("”")
    for opening, closing in _BRACKETS:
        broken |= number(opening) != number(closing)
    broken |= np.asarray(pc.match_substring_regex(texts.all, _UNFINISHED))
    return broken


def _without(texts: pa.LargeStringArray, pattern: str) -> pa.LargeStringArray:
    return pc.replace_substring_regex(texts, pattern, "")


def _share(part: Any, whole: Any, otherwise: float) -> Floats:
    part, whole = np.asarray(part), np.asarray(whole)
    share: Floats = np.divide(part, whole, out=np.full(len(whole), otherwise), where=whole > 0)
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
    is measured once. The reasons are `too_short`, `too_long`, `length_ratio`, `non_letters`, `repetition`,
    `punctuation`, `script` and `improbable` (the column `plain_log_prob` by `num_tokens`, which counts the closing mark
    as well).
    """
    wanted = {
        "words": bool(options.min_words) or options.max_words is not None or options.max_length_ratio is not None,
        "non_letters": options.max_non_letters is not None,
        "repeated_trigrams": options.max_repeated_trigrams is not None,
        "broken": options.drop_broken_punctuation,
        "latin": options.max_script_difference is not None,
    }
    taken = measure(raw.texts, *(name for name, is_wanted in wanted.items() if is_wanted))

    def measured(name: str, ranks: Codes) -> Floats:
        return taken[name][ranks]

    if options.min_words:
        values = measured("words", rows.second)
        rows = rejections.drop(rows, values < options.min_words, "too_short", values)
    if options.max_words is not None:
        values = measured("words", rows.second)
        rows = rejections.drop(rows, values > options.max_words, "too_long", values)
    if options.max_length_ratio is not None:
        counts = np.stack([measured("words", rows.first), measured("words", rows.second)])
        values = counts.max(axis=0) / np.maximum(counts.min(axis=0), 1)
        rows = rejections.drop(rows, values > options.max_length_ratio, "length_ratio", values)
    if options.max_non_letters is not None:
        values = measured("non_letters", rows.second)
        rows = rejections.drop(rows, values > options.max_non_letters, "non_letters", values)
    if options.max_repeated_trigrams is not None:
        values = measured("repeated_trigrams", rows.second)
        rows = rejections.drop(rows, values > options.max_repeated_trigrams, "repetition", values)
    if options.drop_broken_punctuation:
        rows = rejections.drop(rows, measured("broken", rows.second) > 0, "punctuation")
    if options.max_script_difference is not None:
        # Texts without letters to judge by differ from none.
        values = np.nan_to_num(np.abs(measured("latin", rows.first) - measured("latin", rows.second)), nan=0.0)
        rows = rejections.drop(rows, values > options.max_script_difference, "script", values)
    if options.min_token_log_prob is not None and raw.plain_log_prob is not None and raw.num_tokens is not None:
        values = (raw.plain_log_prob / raw.num_tokens)[rows.origin]
        rows = rejections.drop(rows, values < options.min_token_log_prob, "improbable", values)
    return rows


def filter_near_copies(raw: RawPairs, rows: PairRows, options: PreparationOptions, rejections: Rejections) -> PairRows:
    """Drops pairs whose texts are all but the same, of the labels for which that is no signal.

    The reasons are `near_copy_overlap` (shared words of all words) and `near_copy_edit` (one minus edits by the length
    of the longer text).
    """
    wanted = [place for place, label in enumerate(raw.labels) if label in (options.near_copy_labels or raw.labels)]
    for reason, similarity, limit in (
        ("near_copy_overlap", word_overlap, options.near_copy_overlap),
        ("near_copy_edit", edit_similarity, options.near_copy_edit),
    ):
        if limit is not None:
            values, chosen = np.zeros(len(rows)), np.isin(rows.label, wanted)
            values[chosen] = similarity(rows.first[chosen], rows.second[chosen], raw.texts)
            rows = rejections.drop(rows, chosen & (values >= limit), reason, values)
    return rows


def filter_doubtful_labels(
    raw: RawPairs, rows: PairRows, posterior: Floats | None, options: PreparationOptions, rejections: Rejections
) -> PairRows:
    """Drops rows whose label is contradicted by another row, or by the posterior.

    The reasons are `label_conflict` (the same texts with several labels: the likeliest of these labels stays, by the
    mean posterior of the rows, or none where there is no posterior) and `low_posterior`.
    """
    if options.drop_label_conflicts and len(rows):
        rows = rejections.drop(rows, _conflicting(rows, posterior, len(raw.labels)), "label_conflict")
    elif len(rows) and (conflicting := int(_conflicting(rows, None, len(raw.labels)).sum())):
        logger.warning(
            "%d of %d rows stand there with another label, too; each counts as it stands; "
            "drop_label_conflicts=True keeps the likelier label, or none where the pairs have no log-probabilities",
            conflicting,
            len(rows),
        )
    if options.min_posterior is not None and posterior is not None:
        values = posterior[rows.origin, rows.label]
        rows = rejections.drop(rows, values < options.min_posterior, "low_posterior", values)
    return rows


def _conflicting(rows: PairRows, posterior: Floats | None, labels: int) -> Mask:
    """The rows to drop of those whose texts stand there with another label, too."""
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = (np.diff(rows.first) != 0) | (np.diff(rows.second) != 0)
    starts = np.flatnonzero(begins)
    group = np.cumsum(begins) - 1
    is_there = np.zeros((len(starts), labels), np.bool_)
    is_there[group, rows.label] = True
    rejected: Mask = (is_there.sum(axis=1) > 1)[group]
    if posterior is not None:
        sums = np.add.reduceat(posterior[rows.origin], starts)
        rejected &= rows.label != np.where(is_there, sums, -1.0).argmax(axis=1)[group]
    return rejected
