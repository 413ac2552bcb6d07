"""What most texts of a file have before or behind them and is no part of them, and texts that were cut.

One text never tells, as `0012` or `Sports: nothing new` may stand in any. Where most begin, or end, with a code, or
with one of a few labels, these are columns of a table, names of recordings or numbers of a list.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

_SELDOM = {
    "| or arrows, as between columns": (r"\S (?:\||[-=]+>|→|#{3}|[/~=]{1,3}|::|;;|<[-=]+>) \S", 0.5),
    "spaces between letters": (r"(?:(?<!\S)[^\W\d_] +){6}", 0.1),
    "nothing but numbers": (r"^(?=\D*\d)\s*[-+\d][\d\s.,:/+-]*%?$", 0.1),
    "quotation marks around the whole": (r"^[\"“„«'][^\"”“»]*[\"”“»']$", 0.5),
    "a hyphen at the end, as where lines were broken": (r"[a-z]-$", 0.1),
    "words with a hyphen and a space in them, as where lines were joined": (
        r"[^\W\d_]{2}- (?!(?:and|or|to|und|oder|bzw|sowie|bis|wie|et|ou|y|o|e|ed|en|of|och|eller)\b)[a-zß-ÿ]{2}",
        0.1,
    ),
    "numbers behind the full stop, as of footnotes": (
        r"(?<!\bvol)(?<!\bfig)(?<!\bsec)[a-zà-ÿ]{3}[.!?][\"”’)]*(?:\d{1,2}|\[\d{1,3}\])(?=\s|$)",
        0.05,
    ),
    "question marks inside words, as where letters were lost": (r"[^\W\d_]\?(?!\w+=)[^\W\d_]|\b[^\W\d_]+\? [a-z]", 0.2),
    "an address and nothing else": (r"^\w+://\S+$", 0.1),
    "several lines, as messages do": (r"\S[ \t]*\n\s*\S", 0.3),
    "over 2,000 characters, as whole documents do": (r"^(?s:.{2000})", 0.1),
    "no space": (r"^[!-~]{16,}$", 0.5),
    "a sign for the line end, as editors and `cat -A` show it": (r"(?:\S\$|[¶⏎↵])\s*$", 0.5),
    "three points at the end, as where they were cut": (r"(?:\.\.\.|…)\s*$", 0.5),
}
"""What sentences seldom hold: a regular expression, and the share of texts from which on it is told."""

_ANY = re.compile("|".join(f"({sign})" for sign, _ in _SELDOM.values()))

_CODE = r"(?=[!-~]*[\d_/\\|=#@~])[!-~]+"
_IN_SENTENCE = (
    r"(?:(?:\d{1,4}|[A-Z]{2,5}-?\d\d?)(?=\s)|(?=(?s:.*)\s\w*[A-Z])(?:[^\s,;|=]|,(?=\d))+)"
    r"\s+[a-zß-öø-ÿа-яё](?s:.*)[.!?]\s*\Z"
)
"""A number, a date or a name with digits that a sentence begins with, and goes on in small letters to its end; what is
long stands for itself where there are no capitals, as in texts that were put in small letters."""

_SIGNS = r"[^\w\s\"'“”‘’«»„()\[\]¿¡…—§]+"
_BEFORE = re.compile(
    rf"\A\s*(?:(?P<code>(?:(?!{_IN_SENTENCE}){_CODE}|{_SIGNS}|\[[ xX]?\])(?=\s+\S)|[-+*•·>~^=|]+(?=[^\W\d]))"
    r"|(?P<label>(?:[\[(<{]?\w[\w .@&'+-]{0,30}?(?:\s*(?:[|;=~\t>\])}]|:(?!\d|//))\s*|,|\s[-–—]\s+)|\w{1,4}\.\s+)(?=\S)"
    r"|[a-z]+\s(?=[A-HJ-Z]|I[a-z])))"
)
_BEHIND = re.compile(
    rf"(?:(?<=\s)(?P<code>{_CODE}(?<![.!?…\"'”]))"
    r"|(?P<label>(?:[|;:#@=~\t(\[<{]|,(?=\S)|\s[-–—―]\s)\s*[^\W\d_][\w&'+., -]{0,30}[\])>}]?"
    r"|(?<=[a-z.\d] )[A-Z]{2,}))\s*\Z"
)
_CODE_ALONE, _WORD = (re.compile(rf"\s*(?=.*[A-Za-z]){sign}\s*") for sign in (_CODE, "[!-~]+"))
"""A field before a text, one behind it, and texts that are nothing else. A label counts where it comes again."""

_AGAIN, _FEW, _MANY = 3, 3, 20
"""Times that a label is there, texts that have a field, and texts in all, from which on they tell something."""

_MOST, _SAME = 0.4, 0.1
"""The share of texts from which on it is told that they have a field, and that they are the same."""

_SURE, _FEWEST_SURE, _LONG = 0.95, 5, 5
"""The share of lines, their number, and the letters and digits of a code from which on it is no word of a sentence."""

_AS_IN_CSV = re.compile(r'\s*"(?=.*?(?:,|""))(?:[^"]|"")+"\s*', re.DOTALL)
"""A text as CSV quotes it, since it has a comma or quotation marks of its own."""

_PHRASE, _ALL, _FEW_HUNDRED = 4, 0.95, 200
"""Words of the longest beginning or end that is looked for; the share of fewer texts that have it, and how many say
more."""

_SAME_ENDS = {"begin": (2, _MANY, 0.8), "end": (2, _MANY, 0.5), "end ": (1, 50, 0.5)}
"""Words, texts and the share of many texts, at least, from which on it is told that they begin, or end, with the same.
Of windows of 61 English sets the share was 0.84 at most in 20 texts, and 0.72 and 0.34 in 200."""

ENDED = re.compile(r"[.!?…:;؟।。！？]\W*\Z")
"""How a sentence ends."""

_LONGEST = {"characters": (20, 10), "words": (5, 4)}
"""Lengths from which on many texts of one tell, and with how many lengths below it they are compared."""

_PILED_UP, _ALL_BUT_FEW, _SHARE_CUT = 5, 0.8, 0.01
"""How many times as many texts have a length as each below it, the share of them that ends in no mark, and of those
that are as long or longer, and the share of all texts."""


class Cut(NamedTuple):
    """The length at which texts seem to be cut, and those that end there."""

    size: int
    unit: str  # `characters` or `words`
    texts: list[str]


class Finding(NamedTuple):
    """What texts do that sentences do not, how many of them do, and one that does."""

    name: str
    texts: int
    example: str


def findings(texts: Sequence[str], told: Collection[str] = ()) -> Iterator[Finding]:
    """What is wrong with the texts of a column, in words that follow `12 of 20 texts`.

    Of texts of which something was told, before or here, no number, code or label is told.
    """
    signs: dict[str, list[tuple[str, int]]] = defaultdict(list)
    quoted = quoted_as_in_csv(texts)
    if quoted:
        yield Finding("stand in quotation marks as a file of CSV has them", len(quoted), quoted[0][:60])
    as_in_csv = {*quoted}
    for text in texts:
        if text not in as_in_csv and (found := _ANY.search(text)) is not None:
            signs[list(_SELDOM)[(found.lastindex or 1) - 1]].append((text, max(0, found.start() - 20)))
    is_told = {*told, *as_in_csv}
    for name, having in signs.items():
        if len(having) > _SELDOM[name][1] * len(texts):
            text, start = having[0]
            yield Finding(f"hold {name}", len(having), text[start : start + 60])
            is_told.update(text for text, _ in having)
    others = [text for text in texts if text not in is_told]
    fields = {
        "are a single word or code": list(filter((_WORD if len(texts) >= _MANY else _CODE_ALONE).fullmatch, others)),
        "hold a number, a code or a label before them": _with_field(others, _BEFORE),
        "hold a number, a code or a label behind them": _with_field(others, _BEHIND),
    }
    for name, found_in in fields.items():
        if len(found_in) >= max(_FEW, _MOST * len(texts)):
            yield Finding(name, len(found_in), found_in[0][:60])
    (most, times), *_ = Counter(texts).most_common(1) or [("", 0)]
    if times >= max(_MANY, _SAME * len(texts)):
        yield Finding("are one and the same", times, most[:60])
    if len(texts) >= _MANY and (cut := cut_at(texts)) is not None:
        is_most = max(size_of(text, cut.unit) for text in texts) == cut.size
        most = f"the most of {'all' if is_most else 'nearly all'}"
        name = f"have {cut.size} {cut.unit}, {most}, and end in no mark, as where texts are cut"
        yield Finding(name, len(cut.texts), cut.texts[0][-60:])


def same_ends(texts: Sequence[str]) -> Iterator[Finding]:
    """The longest words that texts begin with, and those that they end with, where nearly all, or many, have them."""
    texts = [*dict.fromkeys(texts)]
    words = [re.findall(r"\w+(?:['’-]\w+)*", text.casefold()) for text in texts]
    told = set()
    for where, (least, fewest, share) in _SAME_ENDS.items():
        share = share if len(texts) >= _FEW_HUNDRED else _ALL
        for size in range(_PHRASE, least - 1, -1):
            part = slice(-size, None) if where.startswith("end") else slice(size)
            counts = Counter(tuple(one[part]) for one in words if len(one) > size)
            most, times = max(counts.items(), key=lambda item: item[1], default=((), 0))
            if where.strip() not in told and len(texts) >= fewest and times >= share * len(texts):
                told.add(where.strip())
                example = next(text for text, one in zip(texts, words, strict=True) if tuple(one[part]) == most)
                name = f"{where.strip()} with the same words (“{' '.join(most)}”)"
                yield Finding(name, times, example[-60:] if where.startswith("end") else example[:60])


def quoted_as_in_csv(texts: Sequence[str]) -> list[str]:
    """The texts that stand in quotation marks by the rules of CSV, or all; none where these may mark speech."""
    if len(texts) >= _MANY and all(len(text) > 1 and text[0] == text[-1] == '"' for text in texts):
        return [*texts]
    quoted = [text for text in texts if _AS_IN_CSV.fullmatch(text)]
    doubled = sum('""' in text.strip()[1:-1] for text in quoted)
    if len(quoted) < _FEW or (doubled < _FEW and any("," in text or '"' in text for text in {*texts} - {*quoted})):
        return []
    return quoted


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


def cut_at(texts: Sequence[str], share: float = _SHARE_CUT) -> Cut | None:
    """Where many texts, a share of all at least, have the (nearly) greatest length and end in no mark.

    Of texts that were cut at a number of characters, some may have lost a blank behind it.
    """
    for unit, (least, below) in _LONGEST.items():
        sizes = [size_of(text, unit) for text in texts]
        numbers, longer = Counter(sizes), 0
        lost = unit == "characters"
        for size in sorted(numbers, reverse=True):
            number = numbers[size] + lost * numbers[size - 1]
            others = sum(numbers[size - lost - i] for i in range(1, below + 1)) / below
            fewest = max(_FEWEST_SURE, share * len(texts), _PILED_UP * others, _ALL_BUT_FEW * (longer + number))
            if size >= least and number >= fewest:
                ends = [text for text, one in zip(texts, sizes, strict=True) if size - lost <= one <= size]
                open_ends = [text for text in ends if not ENDED.search(text)]
                is_often = len({*open_ends}) >= _FEWEST_SURE  # a sentence stands in many pairs
                if is_often and len(open_ends) >= max(fewest, _ALL_BUT_FEW * number):
                    return Cut(size, unit, open_ends)
            longer += numbers[size]
    return None


def size_of(text: str, unit: str) -> int:
    """How long a text is, in `characters` or `words`."""
    return len(text if unit == "characters" else text.split())
