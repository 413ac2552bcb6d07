r"""From what a model answered to the sentence, or the sentences, that were asked for, or the reason why there are none.

Pairs, triplets and sentences from scratch are all read here. What is known to be no part of a sentence is taken off:
markup of models, one fenced block, quotation marks or emphasis around the whole, the prompt's own labels, the number 1,
a line that announces the answer or comments on it. Whatever else looks like it rejects the text, by its own reason,
unless the source sentence has the same. So none of it is stored, and no text loses words of its own. Pure functions.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise, takewhile
from typing import Literal

from dino_st.backends.markup import CONTROL_TOKEN, out_of_json, plain_text
from dino_st.support.text import count_words, spaced
from dino_st.tasks.spec import OPENED_BY

Reason = Literal[
    "empty",
    "cut off",
    "refusal",
    "no answer",
    "several lines",
    "several answers",
    "numbering",
    "label",
    "talk",
    "control token",
    "markup",
    "broken character",
    "another script",
    "unmatched quotation mark",
    "repetition",
    "echo",
    "echo of the prompt",
    "copy of an example",
    "same as the positive",
    "too few words",
    "not in the list",
]
"""Why a reply, or a part of it, yields no text."""

_LIKE_AN_EXAMPLE = 5
"""Words in a row that a reply may not have in common with an example, unless its sentence has them, too."""

_RUN, _MOSTLY, _LAYERS = 3, 0.7, 4

_BLANKS = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+")
_AROUND = " \ufeff\u200b\u200e\u200f\u2060"
_PAIRS = (("**", "**"), ("__", "__"), ("`", "`"), ("*", "*"), ("_", "_"))
_QUOTES = (
    *(('"', '"'), ("“", "”"), ("”", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("»", "«"), ("「", "」"), ("『", "』")),
    *(("‘", "’"), ("'", "'")),
)
_OPENING = re.compile('["“„«「『]')
_MOST_MARKS = 20
_INCHES = re.compile(r"""(?<=\d)"(?=\s[a-z])""")
_SENTENCE_END = re.compile(r"[.!?…。！？][)”'’]*\Z")
_NEW_SENTENCE = re.compile(r"[(\[]|\d|(?![a-zß-öø-ÿа-яα-ω])[^\W_]")
_SCRIPTS = frozenset({"CJK", "HANGUL", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "THAI"})
_OF_JAPANESE = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
_LABELLED = re.compile(r"[^\W\d][^:：.!?\n\"“]{0,60}[:：]\s*(?=[A-ZÀ-Þ]|[\u3040-\u9fff\uac00-\ud7af])")
"""Few words, a colon and a new sentence: in any language a label or an announcement."""
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_LANGUAGE = r"(?:text|txt|plaintext|plain|json|markdown|md|html|xml|yaml|csv|python)?[ \t]*"
_FENCE = re.compile(rf"```(?:{_LANGUAGE}\n)?(.*?)```", re.DOTALL)
_RULE = re.compile(rf"```{_LANGUAGE}|[-*_=]{{3,}}", re.IGNORECASE)
_MARK = r"[-*•–—‣·>](?=\s+\D)|#{1,6}(?=\s+\D)"  # `- 5 degrees` may be below zero
_FIRST = re.compile(rf"(?:\(?[1aA]\)(?=\s)|(?:1[.:]|a\.)(?=\s)|\[1\]|{_MARK})\s*")
_COUNTED = re.compile(r"[^\w\"“‘'-]{0,3}(\d{1,3})(?:/\d{1,3})?[^\w\"“‘'(\[*_`]*(?:\*\*(?=\s))?\s*(?=\D)")
_NUMBER = re.compile(rf"(?:\(?(?:\d{{1,3}}|[a-zA-Z])\)(?=\s)|(?:\d{{1,3}}[.:]|[a-z]\.)(?=\s)|\[\d{{1,3}}\]|{_MARK})\s*")


def _pattern(text: str) -> re.Pattern[str]:
    """A pattern in which spaces and line ends stand for nothing, and a blank is written as ~."""
    return re.compile(re.sub(r"\s+", "", text).replace("~", r"\ "), re.IGNORECASE)


_KINDS = "(?:paraphrased|rewritten|rephrased|reworded|restated|revised|modified|generated|new|second|possible|similar)"
_SURE = "(?:sure(?:~thing)?|certainly|of~course|absolutely|okay|ok|great|alright|gladly|no~problem|got~it|understood)"
_TEXTS = "(?:paraphras|rewrit|rephras|reword|version|sentence|contradict)"
_HERE = r"""(?:here(?:['’]s|~is|~are)|i['’]ve|i~have|this~is|one)\b[^:\n"“]{0,80}?"""
_HELP = r"(?:i~(?:can|will|would)|i['’](?:ll|d|m)|i~am|let~me)\b"
_QUOTED = r"""(?=["“][^"“”]+["”]\Z)"""
_ANY_LABEL = rf"""
    (?:(?:the|a|an|your|my|{_KINDS}|final|hard|corrected|original|better)~)*
    (?:answer|output|result|response|reply|sentence|version|text|paraphrased?|rewrit\w+|rephrased|reworded|positive
    |negative|contradiction|note|explanation|reasoning|rationale|think|thinking|thoughts?|analysis|step|model|assistant
    |user|system|human|ai|bot|original|input|given|new|option|example|translation|task|instruction|question|premise
    |hypothesis|entailment|neutral|source|anchor|query|correction|topic|genre|style|title)
    (?:~(?:sentence|version|\d{{1,2}}|[a-d]\b))?(?:~(?:is|would~be|could~be|might~be))?~?:"""
_LABELS = (
    _pattern(rf"""(?:(?:{_SURE}[!.,]*~*)?{_HERE}{_TEXTS}[^:\n"“]{{0,60}}|{_SURE}|here~you~(?:go|are)[!.,]?)\s*:\s*"""),
    _pattern(
        rf"""(?:\*\*|__)?(?:(?:{_KINDS}|contradictory|positive|negative|hard|final)~)*
        (?:paraphrased?|rewrit(?:e|ten|ing)|reword(?:ed|ing)|rephrased|restatement|answer|{_KINDS}~(?:version|text)
        |sentence)(?:~(?:sentence|version))?(?:~\d{{1,2}})?(?:\*\*|__)?\s*:(?:\*\*|__)?\s*"""
    ),
    _pattern(rf"(?:{_ANY_LABEL}|{_SURE}[!.,:])\s*{_QUOTED}"),
)
_SMALL_WORDS = frozenset({"a", "an", "the", "one", "your", "my", "is", "are", "here", "i", "this", "of", "in", "new"})
_LEADING_LINE = _pattern(
    rf"""[*_#~]*(?:{_SURE}[!.,:]*|(?:here~you~(?:go|are)|assistant|model)[:!.]?
    |(?:{_SURE}[!.,]*~*)?(?:{_HERE}(?:{_TEXTS}.{{0,60}}[:.!]|(?:alternativ|option|list\b|example|answer|way\b).{{0,60}}:)
      |{_HELP}.{{0,60}}(?:{_TEXTS}|help).{{0,60}}[:.!])
    |(?:(?:the|my|your|{_KINDS}|final|answer|output|result|sentences?|paraphrase|version|text)~*)+:)[*_~]*"""
)
_AFTERWORD = r"""
    [(\[*_]*(?:note\b(?!~of)|explanation\b|(?:please~)?let~me~know\b|(?:i~)?hope~(?:this|that|these)\b|feel~free\b
    |(?:(?:could|can|would)~you~)?please~(?:provide|share|give)\b|could~you~(?:provide|share|give)\b|would~you~like\b
    |is~there~anything\b|do~you~want~me\b|in~this~(?:version|rewrite)|changes?(?:~made)?:
    |(?:this|the~(?:new|rewritten|above))~(?:sentence|version|paraphrase|rewrite)\b
    |i(?:['’]ve|~have)?~(?:changed|kept|replaced|rephrased|reworded|rewrote|paraphrased|reversed|maintained)\b)"""
_TRAILING_LINE = _pattern(_AFTERWORD)
_REFUSAL = _pattern(
    r"""(?:(?:i['’]?m|i~am)~(?:very~|so~|really~)?sorry[,.]?~(?:but~)?|sorry[,.]~(?:but~)?|unfortunately,?~
        |(?:i~apologi[sz]e|my~apologies|apologies)[,.]?~(?:but~)?)?
    (?:as~an?~(?:ai|(?:large~)?language~model|artificial~intelligence|assistant)\b
    |(?:i['’]?m|i~am)~(?:just~|only~)?an?~(?:ai|(?:large~)?language~model)\b
    |(?:i['’]?m|i~am)~(?:unable|not~(?:able|comfortable|going~to|allowed|permitted))\b
    |i~(?:cannot|can['’]t|can~not|couldn['’]t|will~not|won['’]t|must|have~to|do~not~feel|don['’]t~feel)
      (?:\s*[.!…]*$|~(?:help~(?:you|with)\b|help\s*[.!…]*$|decline\b|refuse\b|assist|comply|paraphras|rephras|rewrit
      |reword|fulfil|comfortable|to~\w+~(?:this|that))
      |~(?:provid|generat|creat|writ|complet|do|answer|process|produc|continu|engag|discuss|respond|accommodat)\w*\b
       .{0,40}\b(?:this|that|such|your|sentences?|requests?|content|text|prompt|harmful|explicit)\b)
    |i(?:['’]?d|~would)~rather~not~(?:paraphras|rephras|rewrit|reword|help|answer)
    |es~tut~mir~leid,?~(?:aber~)?ich~kann|ich~kann~(?:diesen~satz|dir~(?:dabei|damit))~(?:leider~)?nicht
    |je~suis~désolée?,?~(?:mais~)?je|lo~siento,?~(?:pero~)?no~puedo|mi~dispiace,?~(?:ma~)?non~posso
    |(?:sinto~muito|desculpe),?~(?:mas~)?não~posso|(?:很?抱歉|对不起)[，,]?\s?(?:但)?我?(?:无法|不能)|申し訳(?:ありません|ございません)
    |i~(?:do~not|don['’]t)~(?:understand|see|have)\b.{0,30}\b(?:request|question|sentence|prompt|context)\b
    |(?:this|the|your)~(?:request|content|prompt)~(?:violates|goes~against|is~against|may~violate)
    |(?:please|could~you(?:~please)?|can~you(?:~please)?)~(?:provide|give|share)\b.{0,40}\bsentence
    |(?:there~is|i~see)~no~sentence|no~sentence~(?:was|is)
    |it~(?:seems|looks~like|appears)\b.{0,40}\b(?:you~(?:did|have|haven|forgot)|your~message|(?:no|the)~sentence)\b
    |you~(?:have~not|haven['’]t|did~not|didn['’]t)~(?:provide|give|include))"""
)
_FAULTS: tuple[tuple[Reason, re.Pattern[str]], ...] = (
    ("control token", CONTROL_TOKEN),
    (
        "broken character",  # what is not shown, means nothing, or is of private use; joiners have a meaning
        re.compile(
            "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffd"
            "\ud800-\udfff\ue000-\uf8ff\U000e0000-\U000e007f\U000f0000-\U0010ffff]|[ÃÂ][\x80-\xbf]|â€"
        ),
    ),
    (
        "markup",
        re.compile(
            r"""[*`|{}▁]|__|~~|(?<!\w)_\w|\w_(?!\w)|\]\(|\A\[(?=["'{\[])|"\s*:\s*["{[\d]|&(?:[a-z]{2,8}|#x?[\da-f]+);"""
            r"""|\\(?:(?:boxed|text\w*)\{|[nrt](?![a-z])|u[\da-f]{4}|\W|\Z)|[a-z.,][ĠĊ]|\A/\w+\s"""
        ),
    ),
    ("cut off", re.compile(r"\A(?:\.{2,}|…)\s*\w|[,;]\Z")),
    (
        "numbering",
        _pattern(r"\A(?:[-–—>•*+#]\s|\(?(?:\d{1,3}|[a-z]|iv|i{2,3})\)\s|(?:\d{1,3}|[a-d]|i{1,3})[.:]\s|\[\d+\])"),
    ),
    (
        "several answers",
        _pattern(
            r"""\s/\s|\s(?:->|=>|→|⇒)\s|(?:[.!?"”]|\A\S+)\s+\(?(?:[2-9][.)]|[b-e]\))\s
            |(?<=[.!?"”])\s+(?:or|alternatively|another~(?:option|version|way))\b\s?[,:]
            |[,;]\s(?:or:|alternatively,)
            |\A(?=["“][^"“”]*[.!?…]["”]\W+(?:\w+\W+)?["“].*["”]\Z)"""
        ),
    ),
    ("label", _pattern(rf"""(?:\A|(?<=[.!?:"”…])\s+){_ANY_LABEL}(?=\s|\Z)""")),
    (
        "talk",
        _pattern(
            rf"""\A\W*(?:{_SURE}(?:[!.:]\s|,?~(?:here|i~(?:can|will|would)|let~me)\b)|{_HERE}{_TEXTS}|here~you~(?:go|are)\b
            |{_HELP}~(?:be~)?(?:happy|glad)~to~(?:help|assist)\b
            |(?:the|a|one|your)~(?:possible~)?(?:paraphrase|{_KINDS}~(?:sentence|version))\b)
            |\A\W?(?:(?:okay|ok|sure|certainly|as~requested|in~other~words|in~simpler?~(?:words|terms)),\s
              |(?:paraphrase|positive|negative|contradiction)\s(?:[-–—]\s|(?-i:(?=[A-Z]))))
            |\((?=[^()]*\)\W{{0,3}}\Z)|（(?=[^（）]*）\W?\Z)|(?<=[.!?…])\s?\[(?=[^][]*\]\W?\Z)
            |(?<=[.!?…])\s(?:[—–]{{1,2}}\s|\#(?=\w))
            |(?<=[.!?…"”)])\W{{0,9}}\s{_AFTERWORD}|:\Z|(?<=[.!?…])\s(?=["“][^"“”]+["”]\W?\Z)"""
        ),
    ),
    (
        "no answer",
        _pattern(
            rf"""\A\W*(?:{_SURE}|true|false|paraphrase|\d+|none|null|nil|nan|n\s?/\s?a|undefined|not~applicable|no~(?:answer|output|response|changes?)|todo
            |tbd|lorem~ipsum\b.*
            |(?:your|insert|new|rewritten|paraphrased)\b[\w\s]{{0,20}}\b(?:sentence|answer|text)(?:~goes)?(?:~here)?)\W*\Z"""
        ),
    ),
    (
        "repetition",
        _pattern(r"([^\W\d])\1{4}|([^\w\s.])\2{4}|\b(\w+)(?:\W+\3\b){3}|\b(\w[^.!?]{5,80}\w)(?:\W+\4\b){2}"),
    ),
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
) -> Parsed:
    r"""Takes the one text that was asked for out of a reply; where the prompt opens a quotation, up to its end.

    A reply may not repeat the `prompt`, nor the `examples` in it, and may begin with its `labels`, such as `New:`. What
    `closing_marks` end may be the source itself, which preparation drops from pairs.

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
        has_own_marks = not _without_labels(lines[0], source, labels).startswith(text)
        is_own_pair = has_own_marks and any(_OPENING.search(other) for other in (rest, *lines[1:]))
        if is_own_pair or any(_begins_with(line, labels) for line in lines[1:]):
            return Parsed(None, "several answers")
        lines, is_whole = [text], True
    texts = [text for line in lines if (text := _bare(line, source, labels))]
    if not texts or not is_whole:
        return Parsed(None, "empty" if is_whole else "cut off")
    if len(texts) > 1 and not is_refusal(texts[0]):
        return Parsed(None, "several lines")
    reason = fault_of(texts[0], source, prompt=prompt, examples=examples, labels=labels, min_words=min_words)
    is_kept = reason is None or (bool(closing_marks) and normal_form(texts[0]) == given and reason == "echo")
    return Parsed(texts[0]) if is_kept else Parsed(None, reason)


def parse_list(reply: str, *, prompt: str = "", finished: bool = True, min_words: int = 3) -> ParsedList:
    r"""Takes the texts out of a reply that was to be a list of sentences, a line each, or a list in JSON.

    The last entry of a reply that was cut off (`finished` is False) is left out.

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
    numbered = {line for line in lines if _NUMBER.match(line)}
    is_numbered = 2 * len(numbered) > len(lines) > 1  # then what has no number is talk between the entries
    number = _NUMBER if is_numbered else _FIRST if len(lines) == 1 else None
    texts, goes_on = [], False
    for line, following in pairwise([*lines, ""]):
        text, is_rest = _bare(line, number=number), goes_on
        goes_on = following[:1].islower() and following not in numbered and line[-1] not in '.!?…"”'
        if is_rest or goes_on:
            left_out["several lines"] += 1
        elif is_numbered and line not in numbered:
            left_out["not in the list"] += 1
        elif reason := fault_of(text, prompt=prompt, min_words=min_words):
            left_out[reason] += 1
        else:
            texts.append(text)
    return ParsedList(tuple(texts), +left_out)


def fault_of(
    text: str,
    source: str = "",
    *,
    prompt: str = "",
    examples: Collection[str] = (),
    labels: Collection[str] = (),
    min_words: int = 1,
) -> Reason | None:
    """Why a text is none to be stored; what the source sentence has as well is no fault.

    Example:
        >>> fault_of("A man plays.<unused7>"), fault_of("The <b> tag is old.", "What is the <b> tag?")
        ('control token', None)
    """
    words, given = normal_form(text), normal_form(source)
    if _LABELLED.match(text) and not set(":：") & set(source):
        return "label"
    if source and re.search("[a-z]", text) and _scripts(text) - _scripts(source) - _scripts(prompt):
        return "another script"
    if is_refusal(text) and not is_refusal(source):
        return "refusal"
    for reason, pattern in _FAULTS:
        is_own = reason == "numbering" and text.partition(" ")[0] in source.split()
        if not is_own and _marks(pattern, text) - _marks(pattern, source):
            return reason
    if not words:
        return "empty"
    if any(label.casefold() in text.casefold() and label not in source for label in filter(_is_label, labels)):
        return "label"
    if not _has_paired_marks(text) and _has_paired_marks(source):
        return "unmatched quotation mark"
    is_within = given and f" {given} " in f" {words} "
    if words == given or (is_within and given in map(normal_form, _ends_of(text))):
        return "echo"
    if repeats(text, [prompt], source):
        return "echo of the prompt"
    if repeats(text, examples, source, longest=_LIKE_AN_EXAMPLE):
        return "copy of an example"
    return "too few words" if count_words(words) < min_words else None


def is_refusal(text: str) -> bool:
    """Whether a text reads as a model's refusal and not as a sentence."""
    return _REFUSAL.match(text.lstrip(" \"'“‘*")) is not None


def repeats(text: str, shown: Iterable[str], given: str = "", *, longest: int | None = None) -> bool:
    """Whether a text repeats what a prompt shows: exactly, nearly, in part, or as a splice of several texts.

    Most of its words stand in runs of three that one of these texts has and the given sentence has not; or so many
    words in a row, where a `longest` run is given.

    Example:
        >>> shown = ["Two boys chase a kite along the beach.", "The central bank left rates as they were."]
        >>> repeats("Two boys chase a kite as they were.", shown), repeats("A kite is chased by boys.", shown)
        (True, False)
    """
    runs = set().union(*map(_runs, shown)).difference(_runs(given))
    own = _runs(text)
    covered = {place + i for place, run in enumerate(own) if run in runs for i in range(len(run))}
    words = len(own) + len(own[0]) - 1
    streak = "".join("x" if place in covered else " " for place in range(words))
    return bool(covered) and (len(covered) >= _MOSTLY * words or max(map(len, streak.split())) >= (longest or words))


def _entries_of(answer: str) -> tuple[list[str], int]:
    """The lines, or the entries in JSON, that may hold what was asked for; and how many lines are talk around them."""
    parts = re.split(r"\r\n|\r|\n", _FENCE.sub(r"\n\1\n", answer))
    lines = [line for part in parts if (line := _BLANKS.sub(" ", part).strip(_AROUND)) and not _RULE.fullmatch(line)]
    number = len(lines)
    while len(lines) > 1 and _LEADING_LINE.fullmatch(lines[0]) and not is_refusal(lines[0]):
        lines = lines[1:]
    lines = lines[:1] + list(takewhile(lambda line: not _TRAILING_LINE.match(line), lines[1:]))
    entries = out_of_json("\n".join(lines))
    spoken = number - len(lines)
    return (lines if entries is None else [entry or "{" for entry in entries]), spoken


def _bare(line: str, source: str = "", labels: Collection[str] = (), number: re.Pattern[str] | None = _FIRST) -> str:
    """A line without what is known to stand around a text, in a few layers."""
    text = _BLANKS.sub(" ", line).strip(_AROUND)
    for _ in range(_LAYERS):
        found = number.match(text) if number and not number.match(source) else None
        if found and found[0].strip() not in source.split():
            text = text[found.end() :]
        text = _without_labels(text, source, labels)
        for opening, closing in (*_PAIRS, *_QUOTES):
            text = _unwrapped(text, opening, closing)
        if sum(map(text.count, '"“”')) == 1:  # the mark that the prompt opens, or that closes it
            text = text.lstrip('"“').rstrip('"”')
        text = text.strip(_AROUND)
    return text


def _without_labels(text: str, source: str, labels: Collection[str]) -> str:
    """A text without the labels of its prompt, and without one that models put before an answer."""
    for label in filter(_is_label, labels):
        own = _label_pattern(label)
        if not own.match(source) and (found := own.match(text)):
            text = text[found.end() :]
    for pattern in _LABELS:
        if found := pattern.match(text):
            first = text[found.end() :].lstrip("\"'“‘„«*_` ")[:1]
            if (
                first.isalpha()
                and not first.islower()
                and not {*normal_form(found[0]).split()} & {*normal_form(source).split()} - _SMALL_WORDS
            ):
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
    return any(_label_pattern(label).match(line) for label in filter(_is_label, labels))


@lru_cache(maxsize=256)
def _label_pattern(label: str) -> re.Pattern[str]:
    name, colon, _ = label.strip().partition(":")
    return re.compile(rf"(?:\*\*|__)?{re.escape(name)}(?:\*\*|__)?{colon}(?:\*\*|__)?\s*", re.IGNORECASE)


def _is_label(label: str) -> bool:
    """Whether what stands before a sentence in a prompt can be told from the sentence's first word."""
    return not label[-1:].isalnum() and normal_form(label) != ""


def _unwrapped(text: str, opening: str, closing: str) -> str:
    """Takes off marks that enclose a whole text, and not its first and its last words apart."""
    inner = text[len(opening) : -len(closing)]
    marks = _APOSTROPHE.sub("", inner)
    encloses = text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing)
    is_nested = opening == '"' and _has_paired_marks(inner) and not _has_paired_marks(text)
    return inner.strip() if encloses and (is_nested or (opening not in marks and closing not in marks)) else text


def _up_to_closing_mark(
    line: str, source: str, labels: Collection[str], closing_marks: Collection[str]
) -> tuple[str, str] | None:
    """The text before the mark that closes it, and what follows; None where no mark does.

    A mark closes a text behind which nothing follows, or which ends as sentences do and is followed by a new one. The
    marks inside the text are in pairs, of which the first may stand at its beginning.
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
        ends = _SENTENCE_END.search(before[-9:]) and _NEW_SENTENCE.match(rest) and not opens
        if rest.strip(".") and not ends:
            continue
        for start in (1, 0) if text[:1] in opening | {'"'} else (0,):
            inner = before[start:]
            is_even = sum(map(inner.count, opening)) == sum(map(inner.count, closing - {'"'}))
            if inner and is_even and _has_paired_marks(inner):
                return inner, rest
    return None


def _scripts(text: str) -> set[str]:
    """The scripts of a text's letters, without Latin and Greek ones, which formulas and names have everywhere."""
    names = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if ord(letter) > 0x24F)
    found = {"CJK" if name in _OF_JAPANESE else name for name in names}
    return found & _SCRIPTS


def _marks(pattern: re.Pattern[str], text: str) -> set[str]:
    """What a pattern finds in a text, whatever the case and the numbers."""
    return {re.sub(r"\d+", "0", found[0].casefold()) for found in pattern.finditer(text)}


def _has_paired_marks(text: str) -> bool:
    """Whether every double quotation mark that opens is closed, and no other stands inside; inches have no pair."""
    text = _INCHES.sub("", text)
    places = [found.start() for found in re.finditer('"', text)]
    opens = all(not _ends_a_word(text[place - 1 : place]) for place in places[::2] if place)
    closes = all(not text[place + 1 : place + 2].isalnum() for place in places[1::2])
    return len(places) % 2 == 0 and opens and closes and ("„" in text or text.count("“") == text.count("”"))


def _ends_a_word(character: str) -> bool:
    return character.isalnum() or character in ".,;!?"


def _ends_of(text: str) -> Iterator[str]:
    """What stands before, and what stands behind, every end of a sentence inside a text."""
    for found in re.finditer(r"[.!?…][\"”)]*\s+", text):
        yield text[: found.end()]
        yield text[found.end() :]


def normal_form(text: str) -> str:
    """A text as comparisons see it: compatibility forms, lower case, words and numbers alone, single spaces.

    Example:
        >>> normal_form(' “A man—plays” the FLUTE!')
        'a man plays the flute'
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", folded))


def words_of(text: str) -> list[str]:
    """The words of the normal form; in scripts without spaces every two letters in a row."""
    return spaced(normal_form(text)).split()


@lru_cache(maxsize=4096)
def _runs(text: str) -> tuple[tuple[str, ...], ...]:
    """The runs of three words of a text; all of its words where it has fewer."""
    words = words_of(text)
    return tuple(tuple(words[i : i + _RUN]) for i in range(max(1, len(words) - _RUN + 1)))
