r"""From what a model answered to the sentence, or the sentences, that were asked for, or the reason why there are none.

Pairs, triplets and sentences from scratch are all read here. What is known to be no part of a sentence is taken off:
markup of models, one fenced block, quotation marks or emphasis around the whole, the prompt's own labels, the number 1,
a line that announces the answer or comments on it. Whatever else looks like it rejects the text, by its own reason,
unless the source sentence has the same; so do more sentences than the source has. None of it is stored then, and no
text loses words of its own. Pure functions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, pairwise, takewhile

from dino_st.backends.answers.faults import LONGEST, fault_of, has_paired_marks, is_label, is_refusal
from dino_st.backends.answers.markup import out_of_json, plain_text
from dino_st.backends.answers.rules import (
    FRAMED,
    LABELS,
    LEADING_LINE,
    MAY_BE_ORDINAL,
    SAYS,
    SMALL_WORDS,
    TAGS,
    TRAILING_LINE,
    Reason,
)
from dino_st.backends.answers.talk import FRAMES, SPEECH
from dino_st.support.text import normal_form, without_form
from dino_st.tasks.spec import OPENED_BY

_LAYERS, _LOOK, _MOST_LINES = 4, 20, 300
_BLANKS = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+")
_AROUND = " \ufeff\u200b\u200e\u200f\u2060"
_PAIRS = (
    *(("**", "**"), ("__", "__"), ("`", "`"), ("*", "*"), ("_", "_")),
    *((f"<{tag}>", f"</{tag}>") for tag in TAGS),
)
_QUOTES = (
    *(('"""', '"""'), ("'''", "'''"), ("``", "``"), ("``", "''"), ("''", "''")),
    *(('"', '"'), ("“", "”"), ("”", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("»", "«"), ("「", "」"), ("『", "』")),
    *(("‘", "’"), ("'", "'"), ("‚", "‘"), ("‚", "’"), ("‹", "›"), ("›", "‹")),
)
_OPENING = re.compile('["“„«「『]')
_MOST_MARKS = 20
_SENTENCE_END = re.compile(r"[.!?…。！？][)”'’]*\Z")
_ENDED = re.compile(r"[.!?…:;؟।。！？：；][^\w\s]*\Z")
_SPEAKER = re.compile(rf"[\"'”’]?\s*(?:\w+ ){{1,3}}?{SAYS}\b")
_NEW_SENTENCE = re.compile(r"[(\[]|\d|(?![a-zß-öø-ÿа-яα-ω])[^\W_]")
_CLOSES_A_LIST = re.compile(r"[\])},;]{1,3}")
_LISTED = re.compile('["“][^"“”]+["”],')
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_LANGUAGE = r"(?:text|txt|plaintext|plain|json|markdown|md|html|xml|yaml|csv|python)?[ \t]*"
_FENCE = re.compile(rf"```(?:{_LANGUAGE}\n)?(.*?)```", re.DOTALL)
_RULE = re.compile(
    rf"```{_LANGUAGE}|[-*_=]{{3,}}|</?(?:{'|'.join(TAGS)}|ul|ol|body|html)>|(?:<br\s?/?>)+", re.IGNORECASE
)
_MARK = r"(?:[-*•–—‣·>:→⇒]|[-=]>)(?=\s+\D)|#{1,6}(?=\s+\D)"  # `- 5 degrees` may be below zero
_NUMBER_COLUMN = re.compile(r"\A\s{0,9}(\d{1,3})\t(?=\D)")
_SCORE_COLUMN = re.compile(r"\A\s{0,9}[-+]?\d+[.,]\d+\t|\t[-+]?\d[\d.,]{0,20}%?\s{0,9}\Z")
_FIRST = re.compile(rf"(?!{MAY_BE_ORDINAL})(?:\(?[1aA]\)(?=\s)|(?:1[.:]|a\.)(?=\s)|\[1\]|{_MARK})\s*")
_COUNTED = re.compile(
    r"[^\w\"“‘'-]{0,3}(\d{1,3})(?![.,:]?\d)(?!\s+[a-zß-öø-ÿ])(?:/\d{1,3})?"
    r"[^\w\"“‘'(\[*_`]*(?:\*\*(?=\s))?\s*(?=\D)"
)
_NUMBER = re.compile(
    rf"(?!{MAY_BE_ORDINAL})"
    rf"(?:\(?(?:\d{{1,3}}|[a-zA-Z])\)(?=\s)|(?:\d{{1,3}}[.:]|[a-z]\.)(?=\s)|\[\d{{1,3}}\]|{_MARK})\s*"
)
_BULLET = re.compile(rf"(?:{_MARK})\s*")
_TITLED = re.compile(
    r"(\W{0,3}?(?:\d{1,3}[.)]\s*)?)(?:\*\*|__)[^\s*_][^*_]{0,60}(?::(?:\*\*|__)|(?:\*\*|__)\s*(?::|[-–—]))\s+(?=[\"“]?[^\W\d_])"
)
"""A title in bold, set apart from the sentence behind it."""
_INITIAL = re.compile(
    r"[A-Z]\.\s(?!(?:The|An?|He|She|It|They|We|I|You|This|That|Th[eo]se|There|No|Some\w*|In|On|At|When|My|His|Her|Our)\b)"
    r"(?=[A-ZÀ-Þ])"
)
"""A name's first letter, where what follows cannot begin a sentence that is counted by letters."""


@dataclass(frozen=True)
class Parsed:
    """The text of a reply, or the reason why there is none."""

    text: str | None
    reason: Reason | None = None


@dataclass(frozen=True)
class ParsedList:
    """The texts of a reply that was to be a list, in its order, and what was left out, by reason."""

    texts: tuple[str, ...]
    left_out: Counter[str] = field(default_factory=Counter)


def parse_reply(
    reply: str,
    source: str,
    *,
    prompt: str = "",
    examples: Collection[str] = (),
    labels: Collection[str] = (),
    min_words: int = 1,
    finished: bool = True,
    closing_marks: Collection[str] = (),
    is_rewrite: bool = False,
) -> Parsed:
    r"""Takes the one text that was asked for out of a reply; where the prompt opens a quotation, up to its end.

    A reply may not repeat the `prompt`, nor the `examples` in it, and may begin with its `labels`, such as `New:`. What
    `closing_marks` end may be the source itself, which preparation drops from pairs. What `is_rewrite` says the same as
    the source, or contradicts it: what then addresses someone and shares no word with the source is talk.

    Example:
        >>> parse_reply('Sure! Here is a paraphrase:\n1. "A flute is being played."', "A man plays a flute.").text
        'A flute is being played.'
        >>> parse_reply("A man plays a flute!", "A man plays a flute.").reason
        'echo'
        >>> parse_reply('A flute is played." They mean the same.', "A man plays a flute.", closing_marks='"').text
        'A flute is played.'
    """
    answer, is_whole = plain_text(reply, source, finished=finished)
    if answer is None:
        return Parsed(None, "cut off")
    given = normal_form(source)
    lines, _ = _entries_of(answer)
    lines = [line for line in lines if normal_form(_bare(line, source, labels)) != given] or lines[:1]
    lines = _of_one_example(lines, source, labels)
    if not lines and answer.strip():
        return Parsed(None, "label")
    if closing_marks and lines and (closed := _up_to_closing_mark(lines[0], source, labels, closing_marks)):
        text, rest = closed
        has_own_marks = not _without_labels(lines[0], source, labels).startswith(text.rstrip(".!?"))
        is_own_pair = has_own_marks and any(_OPENING.search(other) for other in (rest, *lines[1:]))
        if is_own_pair or any(_begins_with(line, labels) for line in lines[1:]):
            return Parsed(None, "several answers")
        lines, is_whole = [text], True
    texts = [text for line in lines if (text := _bare(line, source, labels))]
    if not texts or not is_whole:
        return Parsed(None, "empty" if is_whole else "cut off")
    if len(texts) > 1 and not is_refusal(texts[0]):
        return Parsed(None, "several lines")
    reason = fault_of(
        texts[0],
        source,
        prompt=prompt,
        examples=examples,
        labels=labels,
        min_words=min_words,
        is_rewrite=is_rewrite,
    )
    is_copy = without_form(texts[0]) == without_form(source)  # and of no other case or marks
    is_kept = reason is None or (bool(closing_marks) and is_copy and reason == "echo")
    return Parsed(texts[0]) if is_kept else Parsed(None, reason)


def parse_list(reply: str, *, prompt: str = "", finished: bool = True, min_words: int = 3) -> ParsedList:
    r"""Takes the texts out of a reply that was to be a list of sentences, a line each, or a list in JSON.

    Titles in bold go where each entry has one. The last entry of a reply that was cut off (`finished` is False) is
    left out.

    Example:
        >>> parse_list('Here are two sentences:\n1. "The bus was late."\n2. Rain fell all night.').texts
        ('The bus was late.', 'Rain fell all night.')
    """
    left_out: Counter[str] = Counter()
    answer, is_whole = plain_text(reply, finished=finished)
    lines, left_out["talk"] = _entries_of(answer or "")
    if not lines:
        return ParsedList((), Counter({"cut off" if answer is None else "empty": 1}))
    if is_refusal(lines[0]):
        return ParsedList((), Counter(refusal=len(lines)))
    if not is_whole:
        lines = lines[:-1]
        left_out["cut off"] += 1
    counted = [_COUNTED.match(line) for line in lines]
    if len(lines) > 1 and [int(one[1]) for one in counted if one] == [*range(1, len(lines) + 1)]:
        lines = [
            f"{i}. {line[one.end() :]}" for i, (line, one) in enumerate(zip(lines, counted, strict=True), 1) if one
        ]
    titled = [found for line in lines if (found := _TITLED.match(line)) and not line[found.end()].islower()]
    if 1 < len(titled) == len(lines):
        lines = [f"{found[1]}{found.string[found.end() :]}" for found in titled]
    numbered = {line for line in lines if _NUMBER.match(line)}
    is_numbered = 2 * len(numbered) > len(lines) > 1  # then what has no number is talk between the entries
    number = _NUMBER if is_numbered else _FIRST if len(lines) == 1 else None
    texts, goes_on = [], False
    unended = [line for line in lines if not _ENDED.search(line[-_LOOK:])]
    is_ended = (
        2 * (len(lines) - len(unended)) > len(lines) - 1
    )  # most of the others: then what has no end is no sentence
    for line, following in pairwise([*lines, ""]):
        text, is_rest = _bare(line, number=number), goes_on
        goes_on = following[:1].islower() and following not in numbered and line[-1] not in '.!?…"”'
        if is_rest or goes_on:
            left_out["several lines"] += 1
        elif is_numbered and line not in numbered:
            left_out["not in the list"] += 1
        elif reason := _fault_in_list(text, is_numbered, prompt, min_words):
            left_out[reason] += 1
        elif is_ended and line in unended:
            left_out["cut off"] += 1
        else:
            texts.append(text)
    return ParsedList(tuple(texts), +left_out)


def _fault_in_list(text: str, is_numbered: bool, prompt: str, min_words: int) -> Reason | None:
    """The fault of an entry; the first letter of a name is no letter that counts where numbers do."""
    initial = _INITIAL.match(text) if is_numbered else None
    return fault_of(text[initial.end() if initial else 0 :], prompt=prompt, min_words=min_words)


def _entries_of(answer: str) -> tuple[list[str], int]:
    """The lines, or the entries in JSON, that may hold what was asked for; and how many lines are talk around them."""
    parts = re.split(r"\r\n|\r|\n", _FENCE.sub(r"\n\1\n", answer))
    bare = (line for part in parts if (line := _in_one_column(part).strip(_AROUND)) and not _RULE.fullmatch(line))
    lines = [line[: 2 * LONGEST] for line in islice(bare, _MOST_LINES)]  # what is cut is still too long
    number = len(lines) + sum(1 for _ in bare)
    first = next(
        (i for i, line in enumerate(lines) if not (LEADING_LINE.fullmatch(line) and not is_refusal(line))),
        max(0, len(lines) - 1),
    )
    lines = lines[first:]
    lines = lines[:1] + list(takewhile(lambda line: not TRAILING_LINE.match(line), lines[1:]))
    entries = out_of_json("\n".join(lines))
    spoken = number - len(lines)
    return (lines if entries is None else [entry or "{" for entry in entries]), spoken


def _bare(line: str, source: str = "", labels: Collection[str] = (), number: re.Pattern[str] | None = _FIRST) -> str:
    """A line without what is known to stand around a text, in a few layers."""
    text = _BLANKS.sub(" ", line).strip(_AROUND)
    for _ in range(_LAYERS):
        before = text
        found = number.match(text) if number and not number.match(source) else None
        if found and found[0].strip() not in source.split():
            text = text[found.end() :]
            number = number if _BULLET.fullmatch(found[0]) or not number else _BULLET
        text = _without_labels(text, source, labels)
        if _LISTED.fullmatch(text):
            text = text[:-1]
        for opening, closing in (*_PAIRS, *_QUOTES):
            if opening[0] != "<" or opening not in source:
                text = _unwrapped(text, opening, closing)
        if sum(map(text.count, '"“”')) == 1:  # the mark that the prompt opens, or that closes it
            text = text.lstrip('"“').rstrip('"”')
        text = text.strip(_AROUND)
        if text == before:
            break
    return text


def _in_one_column(line: str) -> str:
    """A line with single blanks for tabs; a number in a column of its own counts the line, or is set apart by a bar."""
    if "\t" in line:
        line = _SCORE_COLUMN.sub(" | ", _NUMBER_COLUMN.sub(r"\1. ", line))
    return _BLANKS.sub(" ", line)


def _without_labels(text: str, source: str, labels: Collection[str]) -> str:
    """A text without the labels of its prompt, and without one that models put before an answer."""
    for label in filter(is_label, labels):
        own = _label_pattern(label)
        if not own.match(source) and (found := own.match(text)):
            text = text[found.end() :]
    for pattern in (*LABELS, *FRAMES, *((FRAMED,) if source else ())):
        if found := pattern.match(text):
            first = text[found.end() : found.end() + _LOOK].lstrip("\"'“‘„«*_` ")[:1]
            is_own = (
                SPEECH.search(source)
                if pattern in FRAMES
                else {*normal_form(found[0]).split()} & {*normal_form(source).split()} - SMALL_WORDS
            )
            if first.isalpha() and not first.islower() and not is_own:
                text = text[found.end() :]
    return text


def _of_one_example(lines: Sequence[str], source: str, labels: Collection[str]) -> list[str]:
    """The lines before those of another example, which begin with another label than the last, which is the answer's.

    What another label announces is no answer, unless nothing but the source stands there.
    """
    given = normal_form(source)
    for place, line in enumerate(lines):
        is_another = _begins_with(line, [*labels][:-1]) and not _begins_with(line, [*labels][-1:])
        if is_another and not _begins_with(source, labels):
            is_source = len(lines) == 1 and normal_form(_bare(line, source, labels)) == given
            return list(lines if is_source else lines[:place])
    return list(lines)


def _begins_with(line: str, labels: Collection[str]) -> bool:
    return any(_label_pattern(label).match(line) for label in filter(is_label, labels))


@lru_cache(maxsize=256)
def _label_pattern(label: str) -> re.Pattern[str]:
    name, colon, _ = label.strip().partition(":")
    return re.compile(rf"(?:\*\*|__)?{re.escape(name)}(?:\*\*|__)?{colon}(?:\*\*|__)?\s*", re.IGNORECASE)


def _unwrapped(text: str, opening: str, closing: str) -> str:
    """Takes off marks that enclose a whole text, or all but its full stop, and not two ends apart."""
    end = text[-1:] if text.endswith((f"{closing}.", f"{closing}!", f"{closing}?")) else ""
    whole = text[: len(text) - len(end)]
    if not (whole.startswith(opening) and whole.endswith(closing) and len(whole) > len(opening) + len(closing)):
        return text
    inner = whole[len(opening) : -len(closing)]
    marks = _APOSTROPHE.sub("", inner)
    is_nested = opening == '"' and has_paired_marks(inner) and not has_paired_marks(text)
    if not is_nested and (opening in marks or closing in marks):
        return text
    return inner.strip() + ("" if _ENDED.search(inner[-_LOOK:]) else end)


def _up_to_closing_mark(
    line: str, source: str, labels: Collection[str], closing_marks: Collection[str]
) -> tuple[str, str] | None:
    """The text before the mark that closes it, and what follows; None where no mark does.

    A mark closes a text behind which nothing follows, or which ends as sentences do and is followed by a new one that
    does not tell who spoke. The marks inside the text are in pairs, of which the first may stand at its beginning.
    """
    bare = _bare(line, source, labels)
    closing = {*closing_marks, '"', "”"}
    opening = {*"".join(OPENED_BY.get(mark, "") for mark in closing)} - closing
    if sum(map(line.count, closing | opening)) == 2 and not (closing | opening) & set(bare):
        return bare, ""
    text = _without_labels(line, source, labels)
    places = [place for place, letter in enumerate(text) if letter in closing]
    for place in places if len(places) <= _MOST_MARKS else ():
        before, rest = text[:place].strip(), text[place + 1 :].strip(" *_`")
        opens = re.match(r"\s\S\S", text[max(0, place - 1) : place + 2])
        ends = (
            _SENTENCE_END.search(before[-9:]) and _NEW_SENTENCE.match(rest) and not opens and not _SPEAKER.match(rest)
        )
        is_rest_of_list = _CLOSES_A_LIST.fullmatch(rest) and _ENDED.search(before[-9:]) and not set("([{") & set(before)
        has_more = rest.strip(".!?") != ""
        if has_more and not ends and not is_rest_of_list:
            continue
        for start in (1, 0) if text[:1] in opening | {'"'} else (0,):
            inner = before[start:]
            is_even = sum(map(inner.count, opening)) == sum(map(inner.count, closing - {'"'}))
            if inner and is_even and has_paired_marks(inner):
                end = "" if has_more or _ENDED.search(inner[-_LOOK:]) else rest[:1]
                return inner + end, rest  # a mark that ends the sentence may stand behind the one that closes it
    return None
