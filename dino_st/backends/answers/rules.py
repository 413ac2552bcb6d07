"""What models say around a sentence or instead of it: why a text is none to be stored, as tables of patterns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dino_st.backends.answers.markup import CONTROL_TOKEN
from dino_st.support.text import MARKS

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
    "another language",
    "unmatched quotation mark",
    "repetition",
    "echo",
    "echo of the prompt",
    "copy of an example",
    "same as the positive",
    "too few words",
    "too long",
    "not in the list",
]
"""Why a reply, or a part of it, yields no text."""
TAGS = ("p", "div", "span", "li", "q", "b", "strong", "i", "em", "u", "blockquote")
SAYS = r"(?:sa(?:y|id)|ask|add|wrote|writes|repl(?:y|ie)|thought|told|tell|shout|cried|call|whisper|answer)\w*"
LABELLED = re.compile(
    r"(?!(?:His|Her|Their) )[^\W\d][^:：.!?\n\"“]{0,60}[:：]\s*(?=[A-ZÀ-Þ]|[\u3040-\u9fff\uac00-\ud7af])"
)
"""Few words, a colon and a new sentence: in any language a label or an announcement."""
LABELLED_SMALL = re.compile(rf"[^\W\d][\w{MARKS}'’-]*(?: (?!{SAYS}:)[\w{MARKS}'’-]+)?\s?:\s(?=[^\W\d_])")
"""One or two words, none of which says something, a colon and a word in small letters."""
_ORDINAL = (
    r"(?:Januar|Jänner|Februar|März|Mai|Juni|Juli|Oktober|Dezember|FC|FSV|SC|Bundesliga|Liga|Advent|Weltkrieg)(?!\w)"
)
"""What a number with a full stop is an ordinal of and not the number of a list; English writes none of it so."""
MAY_BE_ORDINAL = rf"\d+\.\s(?:{_ORDINAL}|(?:April|August|September|November)(?!\w))"


@dataclass(frozen=True)
class Rule:
    """What a text may not have, unless its source sentence has the same, or is about such things."""

    reason: Reason
    pattern: re.Pattern[str]
    unless: re.Pattern[str] | None = None


def pattern(text: str) -> re.Pattern[str]:
    """A pattern in which spaces and line ends stand for nothing, and a blank is written as ~."""
    return re.compile(re.sub(r"\s+", "", text).replace("~", r"\ "), re.IGNORECASE)


KINDS = "(?:paraphrased|rewritten|rephrased|reworded|restated|revised|modified|generated|new|second|possible|similar)"
SURE = "(?:sure(?:~thing)?|certainly|of~course|absolutely|okay|ok|great|alright|gladly|no~problem|got~it|understood)"
_TEXTS = "(?:paraphras|rewrit|rephras|reword|version|sentence|contradict)"
_HERE = r"""(?:here(?:['’]s|~is|~are)|i['’]ve|i~have|this~is|one)\b[^:\n"“]{0,80}?"""
_HELP = r"(?:i~(?:can|will|would)|i['’](?:ll|d|m)|i~am|let~me)\b"
_QUOTED = r"""(?=["“][^"“”]+["”]\Z)"""
_ANY_LABEL = rf"""
    (?:(?:the|a|an|your|my|{KINDS}|final|hard|corrected|original|better)~)*
    (?:answer|output|result|response|reply|sentence|version|text|paraphrased?|rewrit\w+|rephrased|reworded|positive
    |negative|contradiction|note|explanation|reasoning|rationale|think|thinking|thoughts?|analysis|step|model|assistant
    |user|system|human|ai|bot|original|input|given|new|option|example|translation|task|instruction|question|premise
    |hypothesis|entailment|neutral|source|anchor|query|correct(?:ion|ed)?|modified|altered|changed|topic|genre|style|title|headline)
    (?:~(?:sentence|version|\d{{1,2}}|[a-d]\b))?(?:~(?:is|would~be|could~be|might~be))?~?:"""
_TITLE = r"""
    (?:\w+~){0,2}(?:entry|chapter|day|part|section|scene|review|example|item|option|version|sentence|page|post|question
    |message|caption|photo|picture|image|figure|recipe|step|lesson|week|note|story|report|article|episode|verse
    |paragraph|variant|draft|attempt|title|number)
    (?:~no\.)?~\#?(?:\d{1,3}|[ivx]{1,4}|one|two|three|four|five|six|seven|eight|nine|ten)"""
LABELS = (
    pattern(rf"""(?:(?:{SURE}[!.,]*~*)?{_HERE}{_TEXTS}[^:\n"“]{{0,60}}|{SURE}|here~you~(?:go|are)[!.,]?)\s*:\s*"""),
    pattern(
        rf"""(?:\*\*|__)?(?:(?:{KINDS}|contradictory|positive|negative|hard|final)~)*
        (?:paraphrased?|rewrit(?:e|ten|ing)|reword(?:ed|ing)|rephrased|restatement|answer|{KINDS}~(?:version|text)
        |sentence)(?:~(?:sentence|version))?(?:~\d{{1,2}})?(?:\*\*|__)?\s*:(?:\*\*|__)?\s*"""
    ),
    pattern(rf"(?:{_ANY_LABEL}|{SURE}[!.,:])\s*{_QUOTED}"),
)
FRAMED = pattern(
    rf"""(?:{SURE}[!.]\s|(?:the~|my~|your~|final~)*(?:answer|output|result|response|reply)(?:~is)?\s?:\s)
    (?=(?:[^\s.!?]+\s){{2,200}}[^\s.!?]+[.!?]\Z)"""
)
"""Consent or a label before one whole sentence of three words or more."""
SMALL_WORDS = frozenset({"a", "an", "the", "one", "your", "my", "is", "are", "here", "i", "this", "of", "in", "new"})
LEADING_LINE = pattern(
    rf"""[*_#~]*(?:{SURE}[!.,:]*|(?:here~you~(?:go|are)|assistant|model)[:!.]?
    |(?:{SURE}[!.,]*~*)?(?:{_HERE}(?:{_TEXTS}.{{0,60}}[:.!]|(?:alternativ|option|list\b|example|answer|way\b).{{0,60}}:)
      |{_HELP}.{{0,60}}(?:{_TEXTS}|help).{{0,60}}[:.!])
    |(?!(?:the|my|your)\W*\Z)
      (?:(?:the|my|your|{KINDS}|final|answer|output|result|response|reply|sentences?|paraphrase|version|text)~*)+:?)[*_~]*"""
)
_AFTERWORD = r"""
    [(\[*_]*(?:note\b(?!~of)|explanation\b|word~count:|(?:please~)?let~me~know\b|(?:i~)?hope~(?:this|that|these)\b|feel~free\b
    |(?:(?:could|can|would)~you~)?please~(?:provide|share|give)\b|could~you~(?:provide|share|give)\b|would~you~like\b
    |is~there~anything\b|do~you~want~me\b|in~this~(?:version|rewrite)|changes?(?:~made)?:
    |(?:this|the~(?:new|rewritten|above))~(?:sentence|version|paraphrase|rewrite)\b
    |i(?:['’]ve|~have)?~(?:changed|kept|replaced|rephrased|reworded|rewrote|paraphrased|reversed|maintained)\b)"""
TRAILING_LINE = pattern(_AFTERWORD)
_ABILITY = r"""(?:i~(?:cannot|can['’]t|can~not|couldn['’]t|will~not|won['’]t|must|have~to|do~not~feel|don['’]t~feel
    |(?:will~not|won['’]t)~be~able~to)
    |(?:i['’]?m|i~am)~(?:unable~to|not~(?:able~to|comfortable|going~to|allowed~to|permitted~to)))"""
_ABOUT_IT = r"""(?:\b.{0,40}\b(?:sentences?|requests?|content|prompt|harmful|explicit|violent|offensive)\b
    |(?:~\w+){0,2}~(?:this|that|such)(?:~(?:one|here|for~you|kind~of~\w+))?(?:[.!…\s,"”*]*\Z|[.!,;]~))"""
REFUSAL = pattern(
    rf"""(?:(?:i['’]?m|i~am)~(?:very~|so~|really~)?sorry[,.]?~(?:but~)?|sorry[,.]~(?:but~)?|unfortunately,?~
        |(?:i~apologi[sz]e|my~apologies|apologies)[,.]?~(?:but~)?)?
    (?:as~an?~assistant\b
    |(?:i['’]?m|i~am)~(?:just~|only~)?an?~(?:ai|(?:large~)?language~model)\b
    |(?:i['’]?m|i~am)~(?:unable|not~able)\s*[.!…]*$
    |{_ABILITY}(?:\s*[.!…]*$|~(?:paraphras|rephras|rewrit|reword)
      |~(?:help|decline|refuse|comply|assist)(?:~you)?\s*[.!…]*$|~(?:decline|refuse)~(?:this~request|to~(?:\w+~)?(?:this|that|paraphras|writ|rewrit))
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
    |no~(?:sentence|text|input|statement)\b.{{0,40}}\b(?:was|is|has~been)~(?:provided|given|included|supplied|specified|attached)\b
    |it~(?:seems|looks~like|appears)\b.{{0,40}}\b(?:you~forgot~to~(?:provide|include|add|share|paste)|your~message
      |(?:no|the)~sentence|you~(?:did|have|haven)\b.{{0,15}}\b(?:provid|includ|shar|past|giv))
    |you~(?:have~not|haven['’]t|did~not|didn['’]t)~(?:provided?|given?|included?)\b.{{0,20}}\b(?:sentence|text|input|prompt|question))"""
)
REFUSAL_INSIDE = pattern(
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
OF_COURTS = (
    "judg|court|jail|prison|years?\\b|months?\\b|death|life|suspend|convict|serv|crim|murder|trial|appeal|harsh|guilty|lenient"
    "|jury|probation|sentenced|parole|penal"
)
ABOUT_THE_TASK = pattern(
    rf"""\b(?:paraphras\w+|rephras\w+|reword\w+|synonyms?|antonyms?|(?:passive|active)~voice)\b
    |\b(?:same|original|intended|exact)~meaning\b
    |\b(?:keep\w*|kept|preserv\w+|chang\w+|alter\w*|revers\w+|convey\w*)\b[^.!?]{{0,20}}\bmeaning\b
    |\A(?!.*\b(?:{OF_COURTS}))(?=.*\bsentences?\b)(?=.*\b(?:mean(?:s|ing)?~(?:the~same|exactly)|convey|contain|contradict
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
FAULTS = (
    Rule("control token", CONTROL_TOKEN),
    Rule(
        "broken character",  # what is not shown, means nothing, or is of private use; joiners have a meaning
        re.compile(
            "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffd"
            "\ud800-\udfff\ue000-\uf8ff\U000e0000-\U000e007f\U000f0000-\U0010ffff]|[ÃÂ][\x80-\xbf]|â€|"
            r"(?<=[a-z])Â(?=\W)"
        ),
    ),
    Rule(
        "markup",
        re.compile(
            r"""[`|{}▁]|(?<![\w*])\*|(?<!\d)\*(?![\w*])|__|~~|(?<!\w)_\w|\w_(?!\w)|\]\(|\A\[(?=["'{\[])|"\s*:\s*["{[\d]|&(?:[a-z]{2,8}|#x?[\da-f]+);"""
            rf"""|\[(?:[\w' ]{{0,20}}\b)?(?i:{_BLANK})s?\]"""
            r"""|\\(?:(?:boxed|text\w*)\{|[nrt](?![a-z])|u[\da-f]{4}|\W|\Z)|[a-z.,][ĠĊ]|(?<!\w)Ċ+(?!\w)|\sĠ\w+.*\sĠ\w|[a-z]{3}\\n[a-z]{3}|\A/\w+\s"""
            r"""|【|(?:(?<=[^\W\d]\s)|(?<=[.!?"”)]\s)|(?<=[.!?"”)\]]))\[\^?\d{1,3}\](?=(?:\[\^?\d{1,3}\]){0,9}[\s.!?]{0,3}\Z)|\[\^\w{1,9}\^?\]|citeturn\d"""
            r"""|\A\W*+(?:assistant|final)+(?=[A-Z])|[.!?…"”](?:final|analysis|commentary|\s?(?:assistant|im_end|im_start|user)){1,9}\W*\Z"""
        ),
    ),
    Rule(
        "cut off",
        re.compile(
            r"\A(?:\.{2,}|…)\s*\w|[,;(\[]\Z|\s(?:the|and|because|although|their|my|your|its|than|[a-z]+ed by)\Z"
            r"|\s(?:the|an?|and|of|to|with|their|my|your|its)\s?(?:\.{3}|…)\Z|\s[-–—]{1,3}\Z"
            r"|\s(?:the|an?|and|or|because|although|their|my|your|its|than)\.\Z"
        ),
    ),
    Rule(
        "numbering",
        pattern(
            rf"""\A(?:[-–—>•*+#]\s|\(?(?:\d{{1,3}}|[a-z]|iv|i{{2,3}})\)\s|\d{{1,3}}[.:]\s(?!{_ORDINAL})
            |(?:[a-d]|i{{1,3}})[.:]\s|\[\d+\])"""
        ),
    ),
    Rule(
        "several answers",
        pattern(
            r"""(?<!\S)\S+\s\S+\s\S+\s/\s(?=\S+\s\S+\s\S)|[.!?"”]\s(?:/|vs\.)\s|\s(?:->|=>|→|⇒)\s|(?:[.!?"”]|\A\S+)\s+\(?(?:[2-9][.)]|[b-e]\))\s
            |(?<=[.!?"”])\s+(?:or|alternatively|another~(?:option|version|way))\b\s?[,:]
            |[,;]\s(?:or:|alternatively,)
            |\A(?=["“][^"“”]*[.!?…]["”]\W{1,9}(?:\w{1,20}\W{1,9})?["“].*["”]\Z)"""
        ),
    ),
    Rule("label", pattern(rf"""(?:\A|(?<=[.!?:"”…])\s*){_ANY_LABEL}(?=\s|\Z)|\A{_TITLE}[^\w.!?]*\Z""")),
    Rule(
        "talk",
        pattern(
            rf"""\A\W*+(?:{SURE}(?:[!.:]\s|,?~(?:here|i~(?:can|will|would|understand)|i['’](?:ll|d)|let~me)\b)|{_HERE}{_TEXTS}|here~you~(?:go|are)\b
            |{_HELP}~(?:be~)?(?:happy|glad)~to~(?:help|assist)\b
            |(?:the|a|one|your)~(?:possible~)?(?:paraphrase|{KINDS}~(?:sentence|version))\b)
            |\A\W?(?:(?:okay|ok|sure|certainly|as~requested|in~other~words|in~simpler?~(?:words|terms)),\s)
            |\((?=[^()]*\)\W{{0,3}}\Z)|（(?=[^（）]*）\W?\Z)|(?<=[.!?…])\s?\[(?=[^][]*\]\W?\Z)
            |(?<=[.!?…])\s(?:[—–]{{1,2}}\s|\#(?=\w))
            |(?<=[.!?…"”)])\W{{0,9}}\s{_AFTERWORD}|:\Z|(?<=[.!?…])\s(?=["“][^"“”]+["”]\W?\Z)"""
        ),
    ),
    Rule(
        "no answer",
        pattern(
            rf"""\A\W*+(?:{SURE}|true|false|correct|exactly|agreed|done|go~ahead|(?:i(?:['’]m|~am)~)?ready
            (?:~when(?:ever)?~you~are|~to~(?:help|assist|start|begin|go))?|(?:hello\W+|hi\W+)?(?:how|what)~(?:can|may)~i~(?:help|assist|do~for)~you\b.*
            |paraphrase|\d+(?:[.,]\d+)?|none(?:~(?:found|given|provided|available))?|null|nil|nan|n\.?\s?[/\\]?\s?a|undefined
            |not~(?:applicable|available|provided|specified|found|given|defined)|todo|tb[ad]|to~be~(?:determined|defined|announced)
            |no~(?:answer|output|response|change|text|data|content|result|sentence|value|input|information)s?|lorem~ipsum\b.*
            |(?:your|insert|new|rewritten|paraphrased)\b[\w\s]{{0,20}}\b(?:sentence|answer|text)(?:~goes)?(?:~here)?)\W*\Z
            |\A\W*+(?:error|exception|traceback)\b\s?[:(]|\b(?:please~)?try~again~(?:later|in~\w+~\w+)\b|\b(?:internal~server~error
            |service~(?:temporarily~)?unavailable|bad~gateway|rate~limit|too~many~requests|(?:daily|usage|message)~limit
            |upgrade~to~(?:pro|plus|premium)|cuda~out~of~memory|request~timed~out|model~is~(?:currently~)?(?:loading|overloaded)
            |upstream~connect~error|content~management~polic(?:y|ies)
            |(?:content|response|request|prompt|output)~(?:was~|is~|has~been~)?(?:blocked|filtered|flagged|rejected)~(?:by|due~to)
            |exceeded~your~(?:current~)?quota|we~are~at~capacity|no~endpoints~found|provider~returned~error|upstream~error|invalid~api~key
            |connection~reset~by~peer|openrouter~processing|not~found,~try~pulling|insufficient~credits
            |(?:message|content|response|text|request)~(?:was~|is~|has~been~)?(?:blocked|removed|hidden)~by~(?:our|the|a|content|safety)?~?
             (?:safety|content|moderat\w+|filters?))\b|\A\W*+(?:content|response|message)~(?:was~|is~)?(?:blocked|removed|filtered|hidden)\W*\Z
            |\A\W*+(?:no~changes?~(?:is~|are~)?(?:needed|necessary|required)|the~sentence~(?:remains|is)~unchanged|see~above)\W*\Z"""
        ),
    ),
    Rule(
        "no answer",
        pattern(
            r"""\A\W*+(?:(?:(?:label|class|score|rating|category|type|relation)\s?[:=]?\s?)?(?:\d(?:[.,]\d)?|[a-e]|entail(?:ment|s|ed)
            |contradict(?:ion|ory|s|ed)|neutral|paraphrases?|positive|negative|equivalen(?:t|ce)|(?:not~|dis|un)?(?:similar|related)
            |(?:semantic~)?(?:similarity|equivalence)|(?:high|low|medium|no)~(?:semantic~)?(?:similarity|overlap))
            |(?:hard|easy|true|false)~(?:negative|positive)|(?:positive|negative)~(?:pair|example|sample)|label|class|score
            |empty|blank|void|unknown|missing|nothing|untitled|skip(?:ped)?|pass|string|text|foo(?:bar)?|test|placeholder(?:~text)?
            |lorem)\W*\Z"""
        ),
        re.compile(r"\A\W*\w+\W*\Z"),
    ),
    Rule(  # what servers say of themselves, where the sentence speaks of nothing of that kind
        "no answer",
        pattern(
            r"""\A\W*+(?:(?:the|this|your|our|that)~)?(?:requested~|selected~|upstream~)?(?:model|function|request|server|service|endpoint
            |deployment|api|gateway|backend)~(?:call~|invocation~|host~)?(?:(?:has~|have~)?timed~out
            |(?:is|was|are|has~been|does)~(?:currently~|temporarily~|now~|no~longer~|not~)*(?:at~capacity|over(?:loaded|capacity)
            |(?:un)?available|deprecated|retired|disabled|offline|loading|exist|supported|found|aborted|throttled|rate~limited))
            \b[^.!?]{0,60}\W*\Z"""
        ),
        re.compile(
            r"\b(?:models?|functions?|requests?|servers?|services?|endpoints?|apis?|gateways?|backends?)\b", re.I
        ),
    ),
    Rule(
        "repetition",
        pattern(
            r"([^\W\d])\1{6}|([^\w\s.])\2{4}|\b(\w+)(?:\W+\3\b){4}|\b(\w[^.!?]{5,80}\w)(?:\W+\4\b){2}|(?:([^\W\d_])\5){4}"
        ),
    ),
)
