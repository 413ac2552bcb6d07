"""From what a chat model answers to the text that was asked for, or the reason why there is none. Pure functions.

Models wrap a sentence into quotation marks, number it, announce it ("Sure, here is …:"), explain it, refuse, or repeat
what they were given. Whatever can be told from the text with confidence is taken off; the rest has a reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from dino_st.backends.answers import fault_of, normal_form, plain_text, repeats

Reason = Literal[
    "empty",
    "cut off",
    "control token",
    "broken character",
    "refusal",
    "several lines",
    "echo",
    "echo of the instruction",
    "copy of an example",
    "same as the positive",
    "too few words",
    "not in the list",
]
"""Why a reply, or a part of it, yields no text."""

_LIKE_AN_EXAMPLE = 5
"""Words in a row that a reply may not have in common with an example, unless its sentence has them, too."""

_NUMBERED = re.compile(r"\s*(?:\(?\d{1,3}[.)](?=\s)|\(?[a-zA-Z]\)(?=\s)|\[\d{1,3}\]|[-*•–—‣·](?=\s))\s*")
_MARKDOWN_PREFIX = re.compile(r"(?:#{1,6}|>)\s+")
_MARKDOWN_PAIRS = (("**", "**"), ("__", "__"), ("`", "`"), ("*", "*"), ("_", "_"))
_QUOTES = (('"', '"'), ("“", "”"), ("”", "”"), ("„", "“"), ("«", "»"), ("‘", "’"), ("'", "'"))
_LABEL = re.compile(
    r"""(?:\*\*|__)?(?:(?:the|a|an|your|my|new|second|possible|rewritten|revised|modified|generated|similar|related|hard)\s+)*
    (?:assistant|reply|final\ answer|paraphrases?|paraphrased|
    rewrit(?:e|ten|ing)|rewording|reworded|restatement|rephrased|positive|negative|
    contradiction|output|answer|result|response|sentences?|version|text)
    (?:\s+(?:sentences?|version|text))?(?:\s+\d{1,2})?(?:\*\*|__)?\s*:(?:\*\*|__)?\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_ABOUT_TEXTS = (
    r"(?:paraphras|rewrit|rephras|reword|version|sentence|example|alternativ|answer|list\b|option|contradict)"
)
_ANNOUNCEMENT = re.compile(
    rf"""(?:(?:(?:sure(?:\ thing)?|certainly|of\ course|absolutely|okay|ok|great|alright|gladly|no\ problem)[!.,]*\ *)?
    (?:here(?:['’]s|\ is|\ are)|i['’]ve|i\ have|this\ is|one)\b[^:\n"“]{{0,80}}?{_ABOUT_TEXTS}[^:\n"“]{{0,60}}
    |(?:sure(?:\ thing)?|certainly|of\ course|absolutely|okay|ok|here\ you\ (?:go|are))[!.,]?
    |(?:the|a|your)\ (?:possible\ )?(?:paraphrased?|rewritten|rephrased|reworded|contradict\w+)\b
     (?:\ (?:sentence|version))?(?:\ (?:of|for)\ [^:\n"“]{{0,60}}?)?(?:\ (?:is|would\ be|could\ be|might\ be))?)
    :\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_INTERJECTION = re.compile(r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok)\s*!\s*", re.IGNORECASE)
_SMALL_TALK = re.compile(r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok)[!.,]*", re.IGNORECASE)
_AFTERWORD = re.compile(
    r"""[(\[*_]*(?:note\b|explanation\b|let\ me\ know\b|i\ hope\ (?:this|that|these)\b|hope\ (?:this|that|these)\b
    |feel\ free\b|please\ let\ me\b|(?:this|the\ (?:new|rewritten|above))\ (?:sentence|version|paraphrase|rewrite)\b
    |would\ you\ like\b|is\ there\ anything\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_WRAPPINGS = (_MARKDOWN_PREFIX, _NUMBERED, _INTERJECTION, _ANNOUNCEMENT, _LABEL)
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_REFUSAL = re.compile(
    r"""(?:(?:i['’]?m|i\ am)\ (?:very\ |so\ |really\ )?sorry[,.]?\ (?:but\ )?|sorry[,.]\ (?:but\ )?|unfortunately,?\ |
        i\ apologi[sz]e[,.]?\ (?:but\ )?|apologies[,.]\ (?:but\ )?)?
    (?:as\ an?\ (?:ai|(?:large\ )?language\ model|artificial\ intelligence|assistant)\b
    |(?:i['’]?m|i\ am)\ (?:just\ |only\ )?an?\ (?:ai|(?:large\ )?language\ model)\b
    |i\ (?:cannot|can['’]t|can\ not|will\ not|won['’]t|must\ decline|do\ not\ feel|don['’]t\ feel)
      (?:\s*[.!…]*$|\ (?:help\b|assist|comply|paraphras|rephras|rewrit|reword|fulfil|comfortable|to\ \w+\ (?:this|that))
      |\ (?:provid|generat|creat|writ|complet|do|answer|process|produc|continu|engag|discuss|respond)\w*\b
       .{0,40}\b(?:this|that|such|your|sentences?|requests?|content|text|prompt|harmful|explicit)\b)
    |(?:i['’]?m|i\ am)\ (?:unable|not\ able|not\ comfortable)\b
    |(?:i['’]?m|i\ am)\ not\ (?:going\ to|allowed|permitted)\b
    |(?:this|the|your)\ (?:request|content|prompt)\ (?:violates|goes\ against|is\ against|may\ violate)
    |(?:please|could\ you(?:\ please)?|can\ you(?:\ please)?)\ (?:provide|give|share)\b.{0,40}\bsentence
    |(?:you\ (?:have\ not|haven['’]t|did\ not|didn['’]t)\ (?:provide|give)))""",
    re.IGNORECASE | re.VERBOSE,
)


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


def is_refusal(text: str) -> bool:
    """Whether a text reads as a model's refusal and not as a sentence."""
    return _REFUSAL.match(text.lstrip(" \"'“‘*")) is not None


def parse_reply(
    reply: str,
    source: str,
    *,
    instruction: str = "",
    examples: Collection[str] = (),
    labels: Collection[str] = (),
    finished: bool = True,
) -> Parsed:
    r"""Takes the one text that was asked for out of a reply.

    Example:
        >>> parse_reply('Sure! Here is a paraphrase:\n1. "A flute is being played."', "A man plays a flute.").text
        'A flute is being played.'
        >>> parse_reply("A man plays a flute!", "A man plays a flute.").reason
        'echo'

    Args:
        reply: What the model answered.
        source: The sentence that it was given.
        instruction: What it was told, without examples and sentence.
        examples: Texts that it was shown, which a reply may not repeat, nor put together.
        labels: What stands before sentences and answers in its prompt, such as `Given:`.
        finished: False if the reply was cut off.
    """
    answer, is_whole = plain_text(reply, finished=finished)
    if answer is None or not is_whole:
        return Parsed(None, "cut off")
    given = normal_form(source)
    texts = [text for line in _lines_of(answer) if (text := _bare(line, source, labels))]
    if len(texts) > 1:  # what was given is often repeated above the answer
        texts = [text for text in texts if normal_form(text) != given] or texts[:1]
    if not texts or not normal_form(texts[0]):
        return Parsed(None, "empty")
    if is_refusal(texts[0]) and not is_refusal(source):
        return Parsed(None, "refusal")
    if len(texts) > 1:
        return Parsed(None, "several lines")
    [text] = texts
    if normal_form(text) == given:
        return Parsed(None, "echo")
    if fault := fault_of(text, source):
        return Parsed(None, fault)
    if repeats(text, [instruction], source):
        return Parsed(None, "echo of the instruction")
    if repeats(text, examples, source, longest=_LIKE_AN_EXAMPLE):
        return Parsed(None, "copy of an example")
    return Parsed(text)


def parse_list(reply: str, *, instruction: str = "", finished: bool = True, min_words: int = 3) -> ParsedList:
    r"""Takes the texts out of a reply that was to be a list of sentences, a line each.

    Numbering, bullets, quotation marks, and what is said before and behind the list are taken off. A list in JSON is
    read, too. The last entry of a reply that was cut off (`finished` is False) is left out.

    Example:
        >>> parse_list('Here are two sentences:\n1. "The bus was late."\n2. Rain fell all night.').texts
        ('The bus was late.', 'Rain fell all night.')
    """
    left_out: Counter[str] = Counter()
    answer, is_whole = plain_text(reply, finished=finished)
    lines = [] if answer is None else _json_list(answer) or _lines_of(answer)
    if not lines:
        return ParsedList((), Counter({"cut off" if answer is None else "empty": 1}))
    if not is_whole:
        lines = lines[:-1]
        left_out["cut off"] += 1
    numbered = [line for line in lines if _NUMBERED.match(line)]
    if 2 * len(numbered) > len(lines):  # then what has no number is talk between the entries
        left_out["not in the list"] += len(lines) - len(numbered)
        lines = numbered
    texts = []
    for line in lines:
        text = _bare(line)
        words = normal_form(text)
        if not words:
            left_out["empty"] += 1
        elif is_refusal(text):
            left_out["refusal"] += 1
        elif fault := fault_of(text):
            left_out[fault] += 1
        elif len(words.split()) < min_words:
            left_out["too few words"] += 1
        elif repeats(text, [instruction]):
            left_out["echo of the instruction"] += 1
        else:
            texts.append(text)
    return ParsedList(tuple(texts), +left_out)


def _lines_of(answer: str) -> list[str]:
    """The lines that may hold what was asked for."""
    lines = [line.strip() for line in answer.splitlines()]
    lines = [line for line in lines if line and not line.startswith("```") and line not in ("---", "***", "___")]
    while len(lines) > 1 and (lines[0].rstrip("*_").endswith(":") or _SMALL_TALK.fullmatch(lines[0])):
        lines = lines[1:]
    while len(lines) > 1 and _AFTERWORD.match(lines[-1]):
        lines = lines[:-1]
    return lines


def _json_list(reply: str) -> list[str] | None:
    start, end = reply.find("["), reply.rfind("]")
    try:
        content = json.loads(reply[start : end + 1]) if 0 <= start < end else None
    except (ValueError, RecursionError):
        return None
    entries = content if isinstance(content, list) else []
    texts = [
        max(map(str, entry.values()), key=len, default="") if isinstance(entry, dict) else entry for entry in entries
    ]
    return [" ".join(text.split()) for text in texts] if all(isinstance(text, str) for text in texts) else None


def _bare(line: str, source: str = "", labels: Collection[str] = ()) -> str:
    """A line without what models put around a text, until nothing more comes off; what the source has as well stays."""
    own = [_label_pattern(label) for label in labels if label]
    wrappings = [wrapping for wrapping in (*own, *_WRAPPINGS) if not wrapping.match(source)]
    text = " ".join(line.split())
    while True:
        before = text
        for wrapping in wrappings:
            match = wrapping.match(text)
            if match and match.end() < len(text):
                text = text[match.end() :]
        text = _unwrapped(_unwrapped(text.strip(), _MARKDOWN_PAIRS), _QUOTES)
        text = _without_half_a_quotation(text)
        if text == before:
            return text


def _label_pattern(label: str) -> re.Pattern[str]:
    name, colon, _ = label.strip().partition(":")
    return re.compile(rf"(?:\*\*|__)?{re.escape(name)}(?:\*\*|__)?{colon}(?:\*\*|__)?\s*", re.IGNORECASE)


def _unwrapped(text: str, pairs: Collection[tuple[str, str]]) -> str:
    """Takes off marks that enclose a whole text, and not its first and its last words apart."""
    for opening, closing in pairs:
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            marks = _APOSTROPHE.sub("", inner)
            if opening not in marks and closing not in marks:
                return inner.strip()
    return text


def _without_half_a_quotation(text: str) -> str:
    """Takes off an opening mark that is never closed, or a closing one that was never opened."""
    if sum(text.count(mark) for mark in '"“”') == 1:
        if text[0] in '"“':
            return text[1:].strip()
        if text[-1] in '"”':
            return text[:-1].strip()
    return text
