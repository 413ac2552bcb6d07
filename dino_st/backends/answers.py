r"""From what a model answered to the sentence, or the sentences, that were asked for, or the reason why there are none.

Pairs, triplets and sentences from scratch are all read here. What is known to be no part of a sentence is taken off:
markup of models, one fenced block, quotation marks or emphasis around the whole, the prompt's own labels, the number 1,
a line that announces the answer or comments on it. Whatever else looks like it rejects the text, by its own reason,
unless the source sentence has the same; so do more sentences than the source has. None of it is stored then, and no
text loses words of its own. Pure functions.
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
    "several sentences",
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
_SHORT, _STEM = 3, 4

_BLANKS = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+")
_AROUND = " \ufeff\u200b\u200e\u200f\u2060"
_TAGS = ("p", "div", "span", "li", "q", "b", "strong", "i", "em", "u", "blockquote")
_PAIRS = (
    *(("**", "**"), ("__", "__"), ("`", "`"), ("*", "*"), ("_", "_")),
    *((f"<{tag}>", f"</{tag}>") for tag in _TAGS),
)
_QUOTES = (
    *(('"', '"'), ("“", "”"), ("”", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("»", "«"), ("「", "」"), ("『", "』")),
    *(("‘", "’"), ("'", "'"), ("‚", "‘"), ("‚", "’"), ("‹", "›"), ("›", "‹")),
)
_BRACKETS = ("«»", "‹›", "「」", "『』", "《》", "【】")
_OPENING = re.compile('["“„«「『]')
_MOST_MARKS = 20
_INCHES = re.compile(r"""(?<=\d)"(?=\s[a-z])""")
_SENTENCE_END = re.compile(r"[.!?…。！？][)”'’]*\Z")
_ENDED = re.compile(r"[.!?…:;؟।。！？：；][^\w\s]*\Z")
_BREAK = re.compile(r"(?<!\.)(\.|[!?؟।]+)([)\]”’»\"'“‘]*)\s+\W*(\w)|[。！？]+(?=\w)")
_ABBREVIATED = re.compile(
    r"(?<!\w)(?:mrs?|ms|dr|prof|st|jr|sr|vs|inc|ltd|co|corp|gen|col|sgt|lt|capt|rev|gov|sen|rep|hon|mt|ft|jan|feb|mar|apr"
    r"|jun|jul|aug|sept?|oct|nov|dec|approx|dept|est|figs?|al|etc|ca|bzw|str|fla|minn|calif|mass|conn|ill|wash|penn|tenn|ariz|colo|mich|wis|va|bros|cmdr|maj|insp|adm|mme|mlle|sra|dra|ph|op|vol|pp|[^\W\d_]|\d\d?)\Z",
    re.IGNORECASE,
)
"""What a full stop behind it does not end a sentence: abbreviations, initials, ordinals as in `7. Oktober`."""

_BEFORE_NUMBER = re.compile(rf"{_ABBREVIATED.pattern}|(?<!\w)(?:nos?|nr)\Z", re.IGNORECASE)
_OF_A_SENTENCE = re.compile("sentence|satz|sätze|phrase|frase|oración|句|文", re.IGNORECASE)
_OF_A_TEXT = re.compile(
    r"paragraph|passage|stor(?:y|ies)\b|essay|several sentences|absatz|absätze|párrafo|段", re.IGNORECASE
)
_SAYS = r"(?:sa(?:y|id)|ask|add|wrote|writes|repl(?:y|ie)|thought|told|tell|shout|cried|call|whisper|answer)\w*"
_SPEAKER = re.compile(rf"[\"'”’]?\s*(?:\w+ ){{1,3}}?{_SAYS}\b")
_NEW_SENTENCE = re.compile(r"[(\[]|\d|(?![a-zß-öø-ÿа-яα-ω])[^\W_]")
_SCRIPTS = frozenset({"CJK", "HANGUL", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "THAI"})
_OF_JAPANESE = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
_LABELLED = re.compile(r"[^\W\d][^:：.!?\n\"“]{0,60}[:：]\s*(?=[A-ZÀ-Þ]|[\u3040-\u9fff\uac00-\ud7af])")
"""Few words, a colon and a new sentence: in any language a label or an announcement."""

_LABELLED_SMALL = re.compile(rf"[^\W\d][\w'’-]*(?: (?!{_SAYS}:)[\w'’-]+)?\s?:\s(?=[^\W\d_])")
"""One or two words, none of which says something, a colon and a word in small letters."""
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_LANGUAGE = r"(?:text|txt|plaintext|plain|json|markdown|md|html|xml|yaml|csv|python)?[ \t]*"
_FENCE = re.compile(rf"```(?:{_LANGUAGE}\n)?(.*?)```", re.DOTALL)
_RULE = re.compile(
    rf"```{_LANGUAGE}|[-*_=]{{3,}}|</?(?:{'|'.join(_TAGS)}|ul|ol|body|html)>|(?:<br\s?/?>)+", re.IGNORECASE
)
_MARK = r"[-*•–—‣·>](?=\s+\D)|#{1,6}(?=\s+\D)"  # `- 5 degrees` may be below zero
_ORDINAL = (
    r"(?:Januar|Jänner|Februar|März|Mai|Juni|Juli|Oktober|Dezember|FC|FSV|SC|Bundesliga|Liga|Advent|Weltkrieg)(?!\w)"
)
"""What a number with a full stop is an ordinal of and not the number of a list; English writes none of it so."""
_MAY_BE_ORDINAL = rf"\d+\.\s(?:{_ORDINAL}|(?:April|August|September|November)(?!\w))"
_FIRST = re.compile(rf"(?!{_MAY_BE_ORDINAL})(?:\(?[1aA]\)(?=\s)|(?:1[.:]|a\.)(?=\s)|\[1\]|{_MARK})\s*")
_COUNTED = re.compile(
    r"[^\w\"“‘'-]{0,3}(\d{1,3})(?![.,:]?\d)(?!\s+[a-zß-öø-ÿ])(?:/\d{1,3})?"
    r"[^\w\"“‘'(\[*_`]*(?:\*\*(?=\s))?\s*(?=\D)"
)
_NUMBER = re.compile(
    rf"(?!{_MAY_BE_ORDINAL})"
    rf"(?:\(?(?:\d{{1,3}}|[a-zA-Z])\)(?=\s)|(?:\d{{1,3}}[.:]|[a-z]\.)(?=\s)|\[\d{{1,3}}\]|{_MARK})\s*"
)
_BULLET = re.compile(rf"(?:{_MARK})\s*")
_INITIAL = re.compile(
    r"[A-Z]\.\s(?!(?:The|An?|He|She|It|They|We|I|You|This|That|Th[eo]se|There|No|Some\w*|In|On|At|When|My|His|Her|Our)\b)"
    r"(?=[A-ZÀ-Þ])"
)
"""A name's first letter, where what follows cannot begin a sentence that is counted by letters."""


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
_TITLE = r"""
    (?:\w+~){0,2}(?:entry|chapter|day|part|section|scene|review|example|item|option|version|sentence|page|post|question
    |message|caption|photo|picture|image|figure|recipe|step|lesson|week|note|story|report|article|episode|verse
    |paragraph|variant|draft|attempt|title|number)
    (?:~no\.)?~\#?(?:\d{1,3}|[ivx]{1,4}|one|two|three|four|five|six|seven|eight|nine|ten)"""
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
    |(?:(?:the|my|your|{_KINDS}|final|answer|output|result|sentences?|paraphrase|version|text)~*)+:?)[*_~]*"""
)
_AFTERWORD = r"""
    [(\[*_]*(?:note\b(?!~of)|explanation\b|(?:please~)?let~me~know\b|(?:i~)?hope~(?:this|that|these)\b|feel~free\b
    |(?:(?:could|can|would)~you~)?please~(?:provide|share|give)\b|could~you~(?:provide|share|give)\b|would~you~like\b
    |is~there~anything\b|do~you~want~me\b|in~this~(?:version|rewrite)|changes?(?:~made)?:
    |(?:this|the~(?:new|rewritten|above))~(?:sentence|version|paraphrase|rewrite)\b
    |i(?:['’]ve|~have)?~(?:changed|kept|replaced|rephrased|reworded|rewrote|paraphrased|reversed|maintained)\b)"""
_TRAILING_LINE = _pattern(_AFTERWORD)
_ABILITY = r"""(?:i~(?:cannot|can['’]t|can~not|couldn['’]t|will~not|won['’]t|must|have~to|do~not~feel|don['’]t~feel)
    |(?:i['’]?m|i~am)~(?:unable~to|not~(?:able~to|comfortable|going~to|allowed~to|permitted~to)))"""
_ABOUT_IT = r"""(?:\b.{0,40}\b(?:sentences?|requests?|content|prompt|harmful|explicit|violent|offensive)\b
    |(?:~\w+){0,2}~(?:this|that|such)(?:~(?:one|here|for~you|kind~of~\w+))?(?:[.!…\s,"”*]*\Z|[.!,;]~))"""
_REFUSAL = _pattern(
    rf"""(?:(?:i['’]?m|i~am)~(?:very~|so~|really~)?sorry[,.]?~(?:but~)?|sorry[,.]~(?:but~)?|unfortunately,?~
        |(?:i~apologi[sz]e|my~apologies|apologies)[,.]?~(?:but~)?)?
    (?:as~an?~assistant\b
    |(?:i['’]?m|i~am)~(?:just~|only~)?an?~(?:ai|(?:large~)?language~model)\b
    |(?:i['’]?m|i~am)~(?:unable|not~able)\s*[.!…]*$
    |{_ABILITY}(?:\s*[.!…]*$|~(?:paraphras|rephras|rewrit|reword)
      |~(?:help|decline|refuse|comply|assist)(?:~you)?\s*[.!…]*$|~(?:decline|refuse)~to~(?:\w+~)?(?:this|that|paraphras|writ|rewrit)
      |~(?:help(?:~you)?~(?:with~)?(?:this|that|your~(?:request|question))|fulfil\w*~(?:this|that|your|the)~request)\b
      |~(?:assist(?:~you)?|comply)~with~(?:this|that|your|any|the~request|such)\b|~comfortable~with~(?:this|that|it)\s*[.!…,]
      |~(?:comfortable~)?(?:to~)?(?:provid|generat|creat|writ|complet|do|answer|process|produc|continu|engag|discuss|respond|accommodat)
       \w*{_ABOUT_IT})
    |es~tut~mir~leid,?~(?:aber~)?ich~kann|ich~kann~(?:diesen~satz|dir~(?:dabei|damit))~(?:leider~)?nicht
    |je~suis~désolée?,?~(?:mais~)?je|lo~siento,?~(?:pero~)?no~puedo|mi~dispiace,?~(?:ma~)?non~posso
    |(?:sinto~muito|desculpe),?~(?:mas~)?não~posso|(?:很?抱歉|对不起)[，,]?\s?(?:但)?我?(?:无法|不能)|申し訳(?:ありません|ございません)
    |(?:извините|простите|к~сожалению),?~(?:но~)?я~не~могу|죄송(?:하지만|합니다)|(?:sorry,?~(?:maar~)?|het~spijt~me,?~(?:maar~)?)(?:daar~)?(?:kan~ik|ik~kan)
    |(?:przepraszam|przykro~mi),?~(?:ale~)?nie~mogę
    |i~(?:do~not|don['’]t)~(?:understand|see|have)\b.{{0,30}}\b(?:request|question|sentence|prompt|context)\b
    |(?:this|the|your)~(?:request|content|prompt)~(?:violates|goes~against|is~against|may~violate)
    |(?:please|could~you(?:~please)?|can~you(?:~please)?)~(?:provide|give|share)\b.{{0,40}}\bsentence
    |(?:there~is|i~see)~no~sentence|no~sentence~(?:was|is)
    |it~(?:seems|looks~like|appears)\b.{{0,40}}\b(?:you~forgot~to~(?:provide|include|add|share|paste)|your~message
      |(?:no|the)~sentence|you~(?:did|have|haven)\b.{{0,15}}\b(?:provid|includ|shar|past|giv))
    |you~(?:have~not|haven['’]t|did~not|didn['’]t)~(?:provided?|given?|included?)\b.{{0,20}}\b(?:sentence|text|input|prompt|question))"""
)
_REFUSAL_INSIDE = _pattern(
    r"""\bas~an?~(?:ai|(?:large~)?language~model|artificial~intelligence)\b
    |\b(?:violen|explicit|harmful|offensive|inappropriate|sensitive|hateful|sexual|graphic)\w*~(?:content|language|material|themes?)\b
     .{0,40}\bi~(?:cannot|can['’]t|won['’]t|will~not|would~rather)\b
    |\bi~(?:cannot|can['’]t|can~not|will~not|won['’]t)~(?:\w+~)?(?:rewrite|rephrase|paraphrase|reword)\b
    |\bi(?:['’]?d|~would)?~(?:rather~not|prefer~not~to)~(?:paraphras|rephras|rewrit|reword
     |(?:help|answer|write|discuss|engage|continue|repeat|produce|generate|create|provide)\b.{0,25}\b(?:this|that|such|it|sentences?|content)\b)
    |\bnot~(?:something|anything|a~\w+)~(?:that~)?i(?:['’]m|~am)?~(?:able|can|will|would|want|feel|comfortable)\b.{0,15}
     \b(?:help|do|write|writing|assist|answer|provide|discuss|generate|create|engage)\b
    |\b(?:against|violat\w+|not~allow\w*|prohibit\w*|due~to|because~of)\b.{0,20}\b(?:my|our|content|safety|usage)~(?:\w+~)?
     (?:guidelines|polic(?:y|ies)|programming|principles)\b
    |\blet['’]?s~(?:talk|speak|discuss|chat)\b.{0,15}\bsomething~else\b
    |\bi~(?:do~not|don['’]t)~think~i~(?:should|can|could)~(?:write|rewrite|help|answer|do|say)\b.{0,20}\b(?:this|that|such|it)\b
    |\bi~refuse~to~(?:paraphras|rewrit|writ|answer|generat|engag|help|creat)"""
)
_OF_COURTS = (
    "judg|court|jail|prison|years?\\b|months?\\b|death|life|suspend|convict|serv|crim|murder|trial|appeal|harsh|guilty|lenient"
    "|jury|probation|sentenced|parole|penal"
)
_ABOUT_THE_TASK = _pattern(
    rf"""\b(?:paraphras\w+|rephras\w+|reword\w+|synonyms?|antonyms?|(?:passive|active)~voice)\b
    |\b(?:same|original|intended|exact)~meaning\b
    |\b(?:keep\w*|kept|preserv\w+|chang\w+|alter\w*|revers\w+|convey\w*)\b[^.!?]{{0,20}}\bmeaning\b
    |\A(?!.*\b(?:{_OF_COURTS}))(?=.*\bsentences?\b)(?=.*\b(?:mean(?:s|ing)?~(?:the~same|exactly)|convey|contain|contradict
      |rewrit|both~be~true|cannot~both|negat(?:ion|ed)|passive|original|instruction|would~you~like|give~you|produce|below
      |following|above|here|grammar|requested|as~follows|(?:these|both|two|this|your|my|new|ten|\d+)~(?:\w+~)?sentences?)\b)
    |\A(?:to~(?:put|say|phrase|express)~(?:it|this|that)|put|said|stated)~(?:\w+~){{0,3}}\w+\s?:
    |\A(?:put~(?:simply|differently|another~way),\s|in~(?:short|brief|other~words|plain~\w+|simpler?~\w+)\s?:)
    |\A(?:i(?:['’]m|~am)~(?:so~|very~|really~)?sorry~to~hear|i~understand~your~(?:frustration|concern|feeling)
      |thank~you~for~(?:sharing|reaching~out|your~question))"""
)
_BLANK = (
    "name|topic|sport|city|town|country|place|location|date|day|month|year|time|number|person|company|team|product|event"
    "|object|title|author|activity|item|amount|price|colou?r|animal|food"
)
"""What a blank to be filled in is called."""

_FAULTS: tuple[tuple[Reason, re.Pattern[str]], ...] = (
    ("control token", CONTROL_TOKEN),
    (
        "broken character",  # what is not shown, means nothing, or is of private use; joiners have a meaning
        re.compile(
            "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffd"
            "\ud800-\udfff\ue000-\uf8ff\U000e0000-\U000e007f\U000f0000-\U0010ffff]|[ÃÂ][\x80-\xbf]|â€|"
            r"(?<=\w)Â(?=\s)"
        ),
    ),
    (
        "markup",
        re.compile(
            r"""[`|{}▁]|(?<![\w*])\*|(?<!\d)\*(?![\w*])|__|~~|(?<!\w)_\w|\w_(?!\w)|\]\(|\A\[(?=["'{\[])|"\s*:\s*["{[\d]|&(?:[a-z]{2,8}|#x?[\da-f]+);"""
            rf"""|\[(?:[\w' ]{{0,20}}\b)?(?i:{_BLANK})s?\]"""
            r"""|\\(?:(?:boxed|text\w*)\{|[nrt](?![a-z])|u[\da-f]{4}|\W|\Z)|[a-z.,][ĠĊ]|\sĠ\w+.*\sĠ\w|[a-z]{3}\\n[a-z]{3}|\A/\w+\s"""
            r"""|【|[.!?]\s*(?:\[\^?\d+\]){2,}\s*\Z|\[\^\d+\]|citeturn\d"""
            r"""|\A\W*(?:assistant|final)+(?=[A-Z])|[.!?…"”]\s?(?:assistant|im_end|im_start|user)\W*\Z"""
        ),
    ),
    (
        "cut off",
        re.compile(r"\A(?:\.{2,}|…)\s*\w|[,;]\Z|\s(?:the|and|because|although|their|my|your|its|than|[a-z]+ed by)\Z"),
    ),
    (
        "numbering",
        _pattern(
            rf"""\A(?:[-–—>•*+#]\s|\(?(?:\d{{1,3}}|[a-z]|iv|i{{2,3}})\)\s|\d{{1,3}}[.:]\s(?!{_ORDINAL})
            |(?:[a-d]|i{{1,3}})[.:]\s|\[\d+\])"""
        ),
    ),
    (
        "several answers",
        _pattern(
            r"""(?<!\S)\S+\s\S+\s\S+\s/\s(?=\S+\s\S+\s\S)|[.!?"”]\s/\s|\s(?:->|=>|→|⇒)\s|(?:[.!?"”]|\A\S+)\s+\(?(?:[2-9][.)]|[b-e]\))\s
            |(?<=[.!?"”])\s+(?:or|alternatively|another~(?:option|version|way))\b\s?[,:]
            |[,;]\s(?:or:|alternatively,)
            |\A(?=["“][^"“”]*[.!?…]["”]\W+(?:\w+\W+)?["“].*["”]\Z)"""
        ),
    ),
    ("label", _pattern(rf"""(?:\A|(?<=[.!?:"”…])\s+){_ANY_LABEL}(?=\s|\Z)|\A{_TITLE}[^\w.!?]*\Z""")),
    (
        "talk",
        _pattern(
            rf"""\A\W*(?:{_SURE}(?:[!.:]\s|,?~(?:here|i~(?:can|will|would|understand)|i['’](?:ll|d)|let~me)\b)|{_HERE}{_TEXTS}|here~you~(?:go|are)\b
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
            rf"""\A\W*(?:{_SURE}|true|false|correct|exactly|agreed|done|go~ahead|(?:i(?:['’]m|~am)~)?ready
            (?:~when(?:ever)?~you~are|~to~(?:help|assist|start|begin|go))?|(?:hello\W+|hi\W+)?(?:how|what)~(?:can|may)~i~(?:help|assist|do~for)~you\b.*
            |paraphrase|\d+|none|null|nil|nan|n\s?/\s?a|undefined|not~applicable|no~(?:answer|output|response|changes?)|todo
            |tbd|lorem~ipsum\b.*
            |(?:your|insert|new|rewritten|paraphrased)\b[\w\s]{{0,20}}\b(?:sentence|answer|text)(?:~goes)?(?:~here)?)\W*\Z
            |\A\W*(?:error|exception|traceback)\b\s?[:(]|\b(?:please~)?try~again~(?:later|in~\w+~\w+)\b|\b(?:internal~server~error
            |service~(?:temporarily~)?unavailable|bad~gateway|rate~limit|too~many~requests|(?:daily|usage|message)~limit
            |upgrade~to~(?:pro|plus|premium)|cuda~out~of~memory|request~timed~out|model~is~(?:currently~)?loading
            |exceeded~your~(?:current~)?quota|we~are~at~capacity)\b
            |\A\W*(?:no~changes?~(?:is~|are~)?(?:needed|necessary|required)|the~sentence~(?:remains|is)~unchanged|see~above)\W*\Z"""
        ),
    ),
    (
        "repetition",
        _pattern(r"([^\W\d])\1{6}|([^\w\s.])\2{4}|\b(\w+)(?:\W+\3\b){4}|\b(\w[^.!?]{5,80}\w)(?:\W+\4\b){2}"),
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
    unended = [line for line in lines if not _ENDED.search(line)]
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
    if _is_labelled(text, source):
        return "label"
    if source and re.search("[a-z]", text) and _scripts(text) - _scripts(source) - _scripts(prompt):
        return "another script"
    if is_refusal(text) and not is_refusal(source):
        return "refusal"
    for reason, pattern in _FAULTS:
        if not (reason == "numbering" and _is_own_number(text, source)) and _marks(pattern, text) - _marks(
            pattern, source
        ):
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
    if _marks(_ABOUT_THE_TASK, text) - _marks(_ABOUT_THE_TASK, source):
        return "talk"
    if count_sentences(text) > max(1, count_sentences(source)) and _is_for_a_sentence(prompt, source):
        return "several sentences"
    if words in ("yes", "no") and count_words(given) > _SHORT:
        return "no answer"
    return "too few words" if count_words(words) < min_words else None


def count_sentences(text: str) -> int:
    """How many sentences a text has; where that is not clear, as behind an abbreviation or a quotation, the fewer.

    Example:
        >>> count_sentences("Mr. J. Smith paid 3.5 million."), count_sentences("He came. She left.")
        (1, 2)
    """
    is_small = text[:1].islower()  # whoever writes without capitals begins no sentence with one
    count = 1
    for found in _BREAK.finditer(text):
        end, closing, first = found.groups()
        if end is None:
            count += 1
        elif first.islower() <= is_small and not (closing and end != "."):
            abbreviated = _BEFORE_NUMBER if first.isdigit() else _ABBREVIATED
            count += not (end == "." and abbreviated.search(text, max(0, found.start() - 9), found.start()))
    return count


def is_refusal(text: str) -> bool:
    """Whether a text reads as a model's refusal and not as a sentence."""
    bare = text.lstrip(" \"'“‘*")
    return (_REFUSAL.match(bare) or _REFUSAL_INSIDE.search(bare)) is not None


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
            number = number if _BULLET.fullmatch(found[0]) or not number else _BULLET
        text = _without_labels(text, source, labels)
        for opening, closing in (*_PAIRS, *_QUOTES):
            if opening[0] != "<" or opening not in source:
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
        if rest.strip(".") and not ends:
            continue
        for start in (1, 0) if text[:1] in opening | {'"'} else (0,):
            inner = before[start:]
            is_even = sum(map(inner.count, opening)) == sum(map(inner.count, closing - {'"'}))
            if inner and is_even and _has_paired_marks(inner):
                return inner, rest
    return None


def _is_for_a_sentence(prompt: str, source: str) -> bool:
    """Whether one sentence is asked for, and not a longer text; so it is taken to be where there is no prompt."""
    prompt = prompt.replace(source, " ") if source else prompt
    return not prompt or (bool(_OF_A_SENTENCE.search(prompt)) and not _OF_A_TEXT.search(prompt))


def _is_labelled(text: str, source: str) -> bool:
    """Whether a text begins with a label in whatever language; a topic of the source, as headlines have it, is none."""
    found = _LABELLED.match(text) or _LABELLED_SMALL.match(text)
    if found is None or set(":：") & set(source):
        return False
    head, stems = normal_form(found[0]).split(), {word[:_STEM] for word in normal_form(source).split()}
    return len(head) > 2 or not any(len(word) >= _STEM and word[:_STEM] in stems for word in head)


def _is_own_number(text: str, source: str) -> bool:
    """Whether what looks like the number of a list is the source's: the number itself, its month, an initial's name."""
    first, second = [*text.split(), "", ""][:2]
    name = second.strip(".,")
    is_named = name[:1].isupper() and name in {word.strip(".,") for word in source.split()[1:]}
    return first in source.split() or (is_named and bool(re.match(rf"[A-Z]\.|{_MAY_BE_ORDINAL}", text)))


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
    is_even = all(text.count(pair[0]) == text.count(pair[1]) for pair in _BRACKETS)
    is_curly = "„" in text or text.count("“") == text.count("”")
    return len(places) % 2 == 0 and opens and closes and is_even and is_curly


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
