"""What most texts of a file have before or behind them and is no part of them, and texts that were cut.

One text never tells, as `0012` or `Sports: nothing new` may stand in any. Where most begin, or end, with a code, or
with one of a few labels, these are columns of a table, names of recordings or numbers of a list.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_CODE = r"(?=[!-~]*[\d_/\\|=#@~])[!-~]+"
_SIGNS = r"[^\w\s\"'“”‘’«»„()\[\]¿¡…]+"
_BEFORE = re.compile(
    rf"\A\s*(?:(?P<code>{_CODE}|{_SIGNS})(?=\s+\S)"
    r"|(?P<label>[\[(<{]?\w[\w .&'+-]{0,30}?(?:\s*[|;:=~\t>\])}]\s*|,)(?=\S)|[a-z]+\s(?=[A-HJ-Z]|I[a-z])))"
)
_BEHIND = re.compile(
    rf"(?:(?<=\s)(?P<code>{_CODE}(?<![.!?…\"'”]))"
    r"|(?P<label>(?:[|;:#@=~\t(\[<{]|,(?=\S)|\s-\s)\s*[^\W\d_][\w&'+ -]{0,30}[\])>}]?|(?<=[a-z.] )[A-Z]{2,}))\s*\Z"
)
_CODE_ALONE, _WORD_ALONE = (re.compile(rf"\s*(?=.*[A-Za-z]){sign}\s*") for sign in (_CODE, "[!-~]+"))
"""A field before a text, one behind it, and texts that are nothing else. A label counts where it comes again."""

_AGAIN, _FEW, _MANY = 3, 3, 20
"""Times that a label is there, texts that have a field, and texts in all, from which on they tell something."""

_SURE, _FEWEST_SURE, _LONG = 0.95, 5, 5
"""The share of lines, their number, and the letters and digits of a code from which on it is no word of a sentence."""

_ENDED = re.compile(r"[.!?…:;][^\w\s]*\s*\Z")
_LONGEST = {"characters": (40, 10), "words": (12, 4)}
"""Lengths from which on many texts of the greatest one tell, and with how many lengths below it they are compared."""

_PILED_UP, _OPEN, _SHARE_CUT = 5, 0.8, 0.01
"""How many times as many texts have the greatest length as lengths below it, the share of them that ends in no mark,
and that of all texts."""


class Finding(NamedTuple):
    """What most texts have and sentences have not, how many have it, and one that has it."""

    name: str
    texts: int
    example: str


def common_fields(texts: Sequence[str]) -> Iterator[Finding]:
    """Codes, numbers, bullets and labels that most texts of a column have before or behind them, or are."""
    alone = list(filter((_WORD_ALONE if len(texts) >= _MANY else _CODE_ALONE).fullmatch, texts))
    fields = {
        "a single word or code, and nothing else": alone,
        "a number, a code or a label before them": _with_field(texts, _BEFORE),
        "a number, a code or a label behind them": _with_field(texts, _BEHIND),
    }
    for name, having in fields.items():
        if len(having) >= max(_FEW, len(texts) / 2 + 0.5):
            yield Finding(name, len(having), having[0])


def _with_field(texts: Sequence[str], field: re.Pattern[str]) -> list[str]:
    """The texts with a code, or with a label that others have, too."""
    labels: Counter[str] = Counter()
    shapes: dict[str, str] = {}
    for text in texts:
        if (found := field.search(text)) is not None and not (found["label"] and text.isupper()):
            shapes[text] = re.sub(r"\d+", "9", found["label"] or "")
            labels[shapes[text]] += 1
    return [
        text for text in texts if (shape := shapes.get(text)) is not None and (not shape or labels[shape] >= _AGAIN)
    ]


def code_in_lines(lines: Sequence[str]) -> str | None:
    """The code that (nearly) every line has before or behind its text, as the first of them has it; None if not.

    The first line may name the columns. A code has digits, and is longer than the numbers that sentences begin with.
    """
    lines = [line for line in lines[1:] if line.strip()]
    for field in (_BEFORE, _BEHIND):
        codes = [found["code"] for line in lines if (found := field.search(line)) and found["code"]]
        codes = [code for code in codes if re.search(r"\d", code) and len(re.findall(r"[^\W_]", code)) >= _LONG]
        if len(codes) >= max(_FEWEST_SURE, _SURE * len(lines)):
            return codes[0]
    return None


def cut_off(texts: Sequence[str]) -> Finding | None:
    """Where many texts have the greatest length and end in no mark, as those that were cut at it."""
    for unit, (least, below) in _LONGEST.items():
        lengths = [len(text if unit == "characters" else text.split()) for text in texts]
        longest = max(lengths, default=0)
        at_end = [text for text, length in zip(texts, lengths, strict=True) if length == longest]
        others = sum(longest - below <= length < longest for length in lengths) / below
        open_ends = [text for text in at_end if not _ENDED.search(text)]
        fewest = max(_FEWEST_SURE, _PILED_UP * others, _SHARE_CUT * len(texts), _OPEN * len(at_end))
        if len(texts) >= _MANY and longest >= least and len(open_ends) >= fewest:
            return Finding(f"{longest} {unit}, the most of all, and end in no mark", len(open_ends), open_ends[0][-60:])
    return None
