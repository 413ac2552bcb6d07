"""Speech around a sentence, remarks, statements about it, second variants, openers, left-over signs: as tables.

A rule's `unless` says which source sentences may be answered like that: those that are about the same things.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dino_st.backends.answers.rules import ABOUT_THE_TASK, KINDS, OF_COURTS, SAYS, SURE, Reason, Rule, pattern

_SAYING = "(?:say|put|write|phrase|express|rephrase|reword|paraphrase|rewrite|state|word|restate)"
_SAID = "(?:(?:re|para)?phrased|(?:re)?worded|(?:re)?written|(?:re)?stated|said|put|expressed)"
_IT = r"(?:it|this|that|the~(?:\w+~)?sentence)"
_AS = "(?:as~follows|as|like~this|this~way|instead|differently)"
_YOU = rf"""(?:you|one|we|i|some(?:one|body)|people)~?(?:could|can|might|would|may|['’]d)~
    (?:\w+ly~|also~|just~|perhaps~|maybe~|instead~|rather~)?{_SAYING}(?:~{_IT})?(?:~{_AS})?|i(?:['’]d|~would)~(?:suggest|propose|choose|go~with)"""
_WAY = rf"""(?:an?|one|another|the|my)~(?:\w+~){{0,2}}(?:way|option|possibility|alternative|version|variant|rendering
        |rewording|wording|formulation|suggestion|restatement|paraphrase|contradiction|thought|statement|example|sentence)
      (?:~(?:of~{_SAYING}ing|to~{_SAYING}|for~{_IT})(?:~(?:it|this|that|the~(?:\w+~)?sentence|the~same))?)?
      ~(?:is|would~be|could~be|might~be|reads)(?:~(?:as~follows|to~say))?
    |{_IT}~(?:can|could|may|might|would)~(?:\w+ly~|also~|then~)?(?:be~{_SAID}|read|become)(?:~{_AS})?
    |(?:(?:thus|so|hence|then|therefore|now),?~)?the~(?:\w+~)?sentence~(?:becomes|reads|is~now|would~(?:be|become|read))"""
_HINT = r"""maybe|perhaps|possibly|try(?:~this)?|for~(?:example|instance)|something~like(?:~(?:this|that))?|like~this
    |here(?:['’]s|~is)~(?:one|another|mine)|(?:it|this|that)~(?:becomes|reads)"""
FRAMES = (
    pattern(rf"""(?:{_YOU}|{_WAY}|{_HINT})\s*[:,]?\s*(?=["“][^"“”]+["”]\Z)"""),
    pattern(rf"""(?:{_YOU}|{_WAY}|{_HINT})\s*:\s*(?=[^\W\d_])"""),
)
"""Speech around a sentence that is taken off: the sentence stands behind a colon, or between marks up to the end."""

_QUOTING = r"""["“«:]"""
_MODAL = r"""\b(?:could|can|might|would|may|['’]d)\b.{0,30}
    \b(?:say|said|call\w*|put|tell|argue\w*|ask\w*|write|describe\w*)\b"""
_OPTIONS = r"\b(?:ways?|options?|possibilit\w+|alternatives?|versions?|variants?|suggest\w*|propos\w*)\b"
SPEECH = pattern(rf"{_QUOTING}|{_MODAL}|{_OPTIONS}")
"""What a source sentence has that itself says how something may be said, or has options."""

_SMALL_WORDS = r"\b(?:the|and|of|is|are|was|were|has|have)\b"
_BRIEF = re.compile(r"\A\S+(?:\s\S+){0,2}\Z")
_MENTION = r"""["'“‘][^"'“”‘’]{1,30}["'”’]"""
_MARKED = re.compile("[\"“”‘«]|(?<!\\w)'|'(?!\\w)")
_BRACKETED = re.compile(r"[(\[（]")
_OR = re.compile(r"/|\bor\b", re.IGNORECASE)
_COLON = re.compile(":")
_PERSONAL = r"\b(?:i|me|my|you|your|we|us|our|not?|never|nothing)\b|n['’]t\b"
_PAST = (
    r"(?:\w+ed|kept|held|took|sold|bought|made|gave|found|left|lost|saw|told|won|sent|built|brought|broke|chose|caught)"
)
_OPEN = r"\bn(?:ot|o|ever|or)\b|n['’]t\b|\b(?:if|either|neither|whether|any\w*|may|might|could)\b"
"""What makes room for alternatives in a sentence."""
_DETERMINED = r"(?:the|an?|is|are|was|were)~"
_QUALITY = "(?:concise|simple|clear|short|correct|good|fine|perfect|plain|grammatical|formal|natural|accurate|optimal)"
_OF_WORDS = """(?:sentences?|statements?|phrases?|paraphrases?|premise|texts?|inputs?|wording|originals?|hypothesis
    |rewrite|version)"""
_NO_COURT = rf"\A(?!.*\b(?:{OF_COURTS}))\W*+"
_ABOUT_WORDS = pattern(
    r"""\b(?:sentence|statement|phras|text|words?\b|premise|original|input|sa(?:y|id)\b|hypothes|report|letter|message|document
    |version)"""
)
_GREAT = "(?:great|good|interesting|excellent|nice|wonderful|tricky|tough|difficult|lovely|hard|fine|valid)"
_HM = rf"(?:(?:{SURE}|yes|no|well|oh|h+mm*|ah|hi|hello|hey|thanks?|thank~you|so)[\s,.!…:]+)*"
_ASSISTANT = r"""(?:ai|(?:ai~)?assistant|(?:language~)?model|chat-?bot|bot|chatgpt|gpt[\w.-]*|claude|gemini|llama[\w.-]*
    |copilot|qwen[\w.-]*)"""


_SO = "(?:(?:thus|thereby|hence|while|by|and|so|now|effectively|completely|clearly)~)*"
_DETERMINER = "(?:the|its|an?|their|this|that|all|every|some|more)"
_FACT = (
    "subject|object|topic|theme|claim|statement|fact|time|hour|day|date|place|location|setting|number|amount|roles?|gender|name|order"
    "|outcome|result|action|event|actor|agent|person|animal|colou?r|meaning|sense|message|idea|information|details?"
)
"""What can be changed in what a sentence tells."""
_JOB = r"""meaning|(?<!makes~)(?<!made~)sense|wording|phrasing|premise
    |(?:paraphras|rewrit|reword|restat|rephras|contradict|entail|simplif|clarif)\w*|negat(?:ion|ed|es|ing)|contrary|opposite|tense|polarity
    |synonyms?|verb|noun|adjective|adverb|pronoun|passive|(?:in)?formal(?:ly)?|(?:casual|neutral|literal|colloquial)(?:ly)?|concise|unrelated
    |clarity|brevity|differently|prompt|guidelines|grammar|(?<=for~)variety|sentences?|word~order|(?<!unlike~the~)original|register|tone|intent|(?:same|similar
    |different|opposite|other|simpler?|fewer|plain|new|separate|unrelated|active|alternative|first|original|given|more|less)~(?:idea|message
    |words|structure|topic|subject|matter|terms|voice|form|version|style|tone|language|simple|natural|direct|polite|detailed|descriptive|facts?
    |claim|statement|information)|(?:given|original|above)~one"""
"""What a remark on the task ends with."""
_DATELINE = (
    r"\A(?-i:[A-Z][A-Z.]{2,}(?:~[A-Z]{2,}){0,2})(?:,~[^-–—]{1,25})?(?:~?\([^()]{1,30}\))?~?[-–—]{1,2}~|"
    r"\A(?-i:[A-Z])\w+(?:~\w+)?(?:,~(?:jan|feb|mar|apr|may|june?|july?|aug|sep|oct|nov|dec)\w*\.?~\d{1,2}~?[-–—]{1,2}"
    r"|(?:,~[^-–—()]{1,25})?~?\((?:reuters|ap|afp|xinhua|dpa|upi|bbc)\)~?[-–—]{1,2})~"
)
"""Where and when a report was written, and by whom."""


def _rules(reason: Reason, rows: Mapping[str, re.Pattern[str] | None]) -> tuple[Rule, ...]:
    """One rule a row: a pattern, and the source sentences that excuse it."""
    return tuple(Rule(reason, pattern(text), unless) for text, unless in rows.items())


_AROUND = {
    rf"""\A(?:{KINDS}~|final~|my~|the~)*(?:sentence|answer|output|result|response|reply|version|varia(?:nt|tion)|paraphrase|rewrite|text|string
      |option|example|attempt|draft|premise|hypothesis|contradiction|positive|negative|begin|title|caption|note|translation|correction|ok(?:ay)?|sure|done|q)
      (?:~?(?:no\.~)?(?:\d{{1,2}}|[a-d]|one|two))?[.)]?\s(?:(?:[-–—=]|->)\s|(?-i:(?=(?:[A-Z][\w'’]*~){{1,3}}[a-z\d])))
      |\A(?:{SURE}|here~(?:it~is|we~go|you~go))\s(?:[-–—=]|->)\s""": pattern(
        r"""\b(?:sentence|answer|output|result|respon|reply|version|varia|paraphras|text|string|option|example|attempt|draft|premise
        |hypothes|contradict|positiv|negativ|begin|writ|ok|sure|done|note)"""
    ),
    rf"""\A(?!.*\b{SAYS}\b)(?:[\w'’]+[,:]?\s){{1,7}}["“](?-i:[A-Z])[^"“”]{{14,}}["”]\W?\Z""": _MARKED,
    r"""\A\W*+(?:h+mm*|uh+|um+|alright|understood|noted|got~it|perfect|absolutely|certainly|in~a~nutshell|to~clarify
      |to~be~(?:precise|clear|specific)|(?:more~)?(?:in)?formally)(?:,\s|\s?[–—]+)""": pattern(
        r"\b(?:hm+|alright|underst|noted|perfect|absolut|certain|clear|precise|specific|formal)"
    ),
    r"\A\W*+(?:replac|swapp|substitut)ing~[^,]{2,40}~(?:with|by|for)\b[^,]{0,30},\s": pattern(
        "replac|swap|substitut|chang"
    ),
    r"""\A\W*+(?:the~(?:final~)?answer|my~(?:\w+~)?(?:answer|version|rewording|rewrite|paraphrase|take|variant)
      |the~(?:passive|active|negat\w+|affirmative|opposite|simplified|shorter|formal)~(?:form|voice|version))
      ~(?:is|(?:w|c|sh)ould~be)~(?!that\b)|\A\W*the~(?:\w+~)?(?:result|output|paraphrase|rewrite|rewritten~\w+)
      ~(?:is|would~be|becomes)~(?-i:(?=[A-Z]\w*~\w+~\w+))""": pattern(
        rf"{_OPTIONS}|\b(?:answer|result|output|repl(?:y|ied)|respon|form|voice|passive|active|negative)"
    ),
    rf"""\A\W*+(?:{_YOU})(?:\s*:|,?~?["“]|(?<=\bas)~(?-i:(?=[A-Z])))|\A\W*(?!i\b)(?:{_YOU})~that\b""": pattern(
        f"{_QUOTING}|{_MODAL}"
    ),
    rf"""\A\W*+(?:{_WAY})(?:\s*:|,?~?["“]|~that\b|~(?-i:(?=[A-Z])(?!I\b)))""": pattern(f"{_QUOTING}|{_OPTIONS}"),
    rf"""\A\W*+(?:how~about\b|what~about\s?[:,"“]|(?:{_HINT})\b[:,]?\s["“])""": re.compile(
        rf"\A\Z|{_QUOTING}|\?|\babout\b"
    ),
    r"\A\W*+(?:let(?:['’]s|~me|~us)~go~with\b|meaning,?\s|(?:unrelatedly|similarly),\s)": pattern(
        r"\A\Z|\b(?:go(?:es)?|also|too)\b|\b(?:mean|relat|simil|same)"
    ),
    r"""\A["“][^"“”]{12,}["”]\s(?:[-–—(](?!\s?["“])|(?:is|was|would|could|can|works?|also|fits?|sounds?|should|might|may|means?|has
      |reads)\b)""": _MARKED,
    r"""\A\W*+(?:in~(?:essence|short|brief|summary)|to~(?:sum~up|summari[sz]e)|(?:put~)?simply(?:~put)?|basically|essentially
      |that~is(?:~to~say)?|i\.e\.?),?~?[,:]|\A\W*i\.e\.""": pattern(
        r"\b(?:essen|short|brief|sum|simpl|basic|that~is|i\.e)"
    ),
    r"""\A\W*+(?:(?:it|this|which)~means(?!~(?:the~same|a~lot|(?:so~)?much|more|everything|nothing)\b)|the~(?:meaning|gist|idea|point|message)~is~that|(?:please~)?note~that|p\.?\s?s\.)
      (?!\w)""": pattern(r"\b(?:mean|gist|idea|point|messag|note|notic|please|p\.?s\.)"),
    r"\A\W*+(?:correct|exactly|true|that['’]s~right),\s": pattern(r"\b(?:correct|right|exact|true)"),
    r"\A(?:hi|hello|hey|user|greetings)[,!]\s": pattern(r"\A\Z|\b(?:hi|hello|hey|user|greet\w*)\b"),
    r"""\A(?:ok|okay|got~it|alright|yep|yup|nope|understood),?\s(?:so~|then~)?(?=(?:an?|the|two|some|he|she|it|they|there|his|her|their|this)\b)
      |\A\W*+(?:(?:for|as~an)~(?:instance|example)|e\.g\.),?\s
      |\A\W*+(?:thinking\s?(?:\.{3}|…)|thought~for~(?:\d+|a~few)~seconds)\s
      |\A\W*+(?:as~)?per~(?:the|your|these)~\w+,\s""": pattern(
        r"\b(?:ok|okay|got|alright|yep|yup|nope|understood|instance|example|like|e\.g|such~as|per|order|accord)"
    ),
    rf"\A\W*to~{_SAYING}~(?:it|this|that)\b[^,.:]{{0,30}}[,:]": SPEECH,
    r"\A\W*in~(?:other|simpler?|plain|different|fewer)~(?:words|terms|english)\b": pattern("words|terms|english"),
    r"""\A[(\[][^()\[\]]{1,40}[)\]]:?\s["“]?(?-i:(?=[A-Z]))""": _BRACKETED,
    r"""\A\W*+(?:altered|changed|modified|simplified|restated|condensed|shortened|expanded|translated|reversed|negated|rewritten
      |summari[sz]ed|said|put)(?:~\w+){0,3},\s""": pattern(
        r"\b(?:alter|chang|modif|simpl|short|expan|translat|revers|said\b|put\b)"
    ),
    r"""\A\W*+(?:(?:i~apologi[sz]e|(?:my~)?apologies|(?:i(?:['’]m|~am)~)?sorry)~(?:about|for)~(?:the|any|this|my|that)
      (?:~(?:confusion|inconvenience|misunderstanding|error|mistake)\b|[,.!:])
      |(?:my~(?:apologies|mistake|bad)|apologies|oops|whoops)[,.!:])""": pattern(
        r"\b(?:sorry|apolog\w+|mistakes?|oops|fault|regrets?|excuse|pardon|forgive)\b"
    ),
    r"""\A\W*+(?:h+mm*|ok(?:ay)?|alright|let(?:['’]s|~me|~us)|i(?:['’]ll|~will|~need~to|~should|~must|~have~to)
      |we~(?:need~to|should|must|have~to)|(?:re)?write|(?:\w+~){0,4}(?:it|sentence|version)~(?:now~)?(?:reads?|becomes?))\b
      [^:.!?]{0,60}:\s""": _COLON,
    r"\A(?:dear|hi|hello|hey)~[^,.!?]{1,30},\s": pattern(r"\A\Z|\b(?:dear|hi|hello|hey)\b"),
    rf"""[,.!?]["”]\s(?:(?:the|an|this|your)~{_ASSISTANT}~\w+|\w+~(?:the|an|this|your)~{_ASSISTANT}\b)""": pattern(
        rf"\b{_ASSISTANT}\b"
    ),
    rf"\s[-–—]{{1,2}}\s?(?:(?:by|from|via)~)?(?:(?:the|an|your)~)?{_ASSISTANT}\W*\Z": None,
    rf",\s(?:said|says|replied|answered)~(?:the|an)~{_ASSISTANT}\W*\Z": pattern(rf"\b{_ASSISTANT}\b"),
    r"""\A\W*+i(?:['’]d|~would)~(?:write|phrase|put~it~as)~(?!(?:to|a|an|in|down|it|him|her|them|about|for|on)\b)\w
      |\A\W*+mine~would~be\b|\A\W*+i~apologi[sz]e,~|\A\W*+as~an?~(?:\w+~){1,2}?\w+,~i~(?:can|would|will|must)~(?:say|tell|confirm|state)\b
      |\A(?-i:NOT~[A-Z])|\A["“]?quote\b.*\bunquote\W*\Z|,\s(?:period|full~stop|end~of~(?:the~)?(?:sentence|story|text|quote))\W*\Z
      |\A(?-i:RT)~@|(?<=[.!?]\s)https?://\S+\Z|(?:\.{3}|…)\s?(?:read~)?more\W*\Z|\benable~javascript\b""": pattern(
        r"\b(?:i|my|would|apolog\w+|sorry|regret\w*|quot\w+|period|stop|story|end|more|https?|rt|javascript)\b"
    ),
    r"""\A(?-i:(?:TRUE|FALSE|YES)~(?=[A-Z]))|\A\W*+(?:tl;?dr|fyi)\b|\A\W*+(?:namely|specifically|in~summary|in~essence),?~
      |\A\W*+(?:\w+~){0,3}?you~(?:want|wanted|asked)\b[^:.]{0,20}:|\A(?:ans|resp)\.\s(?-i:(?=[A-Z]))|\s[-–—|]\s(?:reuters|bbc(?:~news)?
      |cnn|wikipedia|associated~press|afp|bloomberg|fox~news|al~jazeera)\W*\Z""": pattern(
        r"""\b(?:true|false|yes|fyi|namely|specific|particular|exact|summar|essen|you|reuters|bbc|cnn|wikipedia|press|afp|bloomberg|news
        |jazeera)|tl;?dr|\A[a-z]{1,4}\."""
    ),
    r"\A(?-i:[A-Z]\w+(?:~[-–—]|;)~(?=[A-Z]\w*~\w+~\w+))": re.compile(r"\s[-–—]\s|[;:]"),
    r"\A(?-i:(?:assistant|user|model|system)~(?=[A-Z])|Assistant~(?=(?:The|An?|It|He|She|They|This)~))": None,
    rf"""\A\W*+(?:it|this)~(?:says|states|reads|claims|implies|mentions)\b
      |\A\W*according~to~(?:the|this|your)~{_OF_WORDS}\b""": pattern(
        rf"{_ABOUT_WORDS.pattern}|\b(?:state|read|tell|told|announc|claim|writ|wrote|impl|mention|according|warn|book|sign)"
    ),
    r"\A\W*i(?:~would|['’]d)~say~(?!that\b)": pattern(r"\b(?:i|my|me|say|said|think|seem\w*|perhaps|probably)\b|[\"“]"),
    r"""\A\W*+it~is~(?:stated|noted|mentioned|indicated|implied|asserted)~that\b|\A\W*+one~(?:might|may|can|could)~(?:note|observe|add)~that\b
      |\A\W*+according~to~my~(?!(?:mother|father|wife|husband|sister|brother|doctor|friend)\b)""": pattern(
        r"\b(?:stat|note|noti|mention|indicat|impl|assert|said|say|told|tell|announc|report|claim|accord|observ|add)|\b(?:my|i)\b"
    ),
    r"""\A\W*the~(?:user|speaker|author|writer)~
      (?:says?|states?|asks?|wants?|means?|claims?|mentions|reports|is~(?:saying|asking))\b
      |\A\W*user~(?:wants|asks)\b""": pattern(r"\b(?:user|speaker|author|writ|wrote|novel|book)"),
    r"""\A\W*+(?:(?:some(?:one|body)|the~(?:person|customer))~(?:says|states|mentions|claims|reports|is~saying)|we~are~told|(?:it|this)(?:['’]s
      |~is)~saying)~that\b|\A\W*+this~is~about~how\b""": pattern(
        r"""\b(?:some(?:one|body)|person|people|customer|client|we|us|sa(?:y|id)|stat|mention|claim|report|told|tell|talk|sp[eo]a?k|call|wr[io]te|hear|learn
        |rumou?r|explain|announc|argu|believ|th(?:ink|ought)|answer|repl|about|accord)"""
    ),
    r"""\A\W*+(?:(?:they|both|these)~(?:both~)?share~(?:the|an?)~(?:\w+~)?(?:topic|theme|subject)\b|(?:they(?:~are|['’]re)~both|both~are)
      ~(?:related~to|about)\b|this~one~has~nothing~to~do~with\b)""": pattern(
        r"\b(?:share|topic|theme|subject|relat|both|two|about|nothing|concern|connect)"
    ),
    r"""\A\W*+(?:(?:first|next|now|so),?~i~(?:should|need~to|must|have~to)~(?:look~at|think~about|identify|consider|figure~out|come~up~with)
      ~|let~me~think~(?:about|of)~(?!(?:it|this|that)\b)|i(?:['’]d|~would)~go~with~)""": pattern(
        r"\b(?:i|my|me|you|we|our|let|th(?:ink|ought)|consider|go(?:es)?|should|must|choose|prefer)\b"
    ),
    rf"""\A\W*+(?:the|your|an?)~{_ASSISTANT}~(?:should|must|needs~to|has~to|ought~to|is~to|will|would|can|could)~
      (?:now~|then~)?(?:{_SAYING}|reply|respond|answer|produce|output|generate|give|provide|return|keep)\b""": pattern(
        rf"\b{_ASSISTANT}\b"
    ),
    r"""\A\W*+(?:\w+,~)?(?:on~an?~(?:(?:\w+ly)~)?(?:unrelated|different|separate|another|side)~(?:note|topic|subject|matter)
      |(?:something~)?(?:completely~|totally~)?unrelated(?:ly)?(?:,|~(?:to|but)\b)|speaking~of~something~(?:else|different)
      |(?:chang|switch)ing~(?:the~)?(?:subject|topic)s?)\b""": pattern("note|topic|subject|matter|relat|differ|else"),
    rf"""\A\W*what~(?:the|this|that|your)~{_OF_WORDS}~(?:\w+~){{0,2}}(?:is|means)\b""": _ABOUT_WORDS,
    rf"""\A\W*+(?:in|based~on|from|per)~(?:the|this|your)~(?:{_OF_WORDS}|\w+~(?:provided|given|available|above)),|\A\W*as~(?:stated|mentioned|noted)(?:~above)?,
      |\A\W*it~can~be~(?:inferred|concluded|assumed)~that\b|\A\W*the~opposite~(?:is|would~be)\b""": pattern(
        rf"{_ABOUT_WORDS.pattern}|\b(?:state|mention|not|infer|conclu|assum|impl|opposite|contrary)"
    ),
    rf"""\A\W*+(?!i\b)(?:you|one|we|people)~(?:could|might|can|may|would)~(?:also|just|simply|perhaps|instead|alternatively|even)~
      {_SAYING}\b|\A\W*+one~(?:could|might|may)~(?:say|state|rephrase|reword)~(?!(?:no|it|so|to)\b)
      |\A\W*+(?:an?|one|another|the|my)~(?:\w+~){{0,2}}(?:way|option|possibility|version)~(?:of~{_SAYING}ing|to~{_SAYING})~(?:it|this|that|so|the~same(?:~thing)?)~is~\w
      |\A\W*+{_IT}~(?:can|could|may|might)~(?:also~|then~)?be~{_SAID}~(?!(?:about|of|to|in|on|at|for|by|with|as|off|up|down|away|into)\b)
      \w""": pattern(f"{_QUOTING}|{_MODAL}|{_OPTIONS}"),
    rf"""\A(?-i:[A-Z][\w'’]*(?:~[\w'’]+){{0,2}}~[-–—]{{1,2}}~(?=\S+~\S+~\S+)(?!.*\s[-–—]{{1,2}}\s))|{_DATELINE}|\A\([^()]{{1,30}}\)\s?[-–—]{{1,2}}\s
      |\A(?-i:(?:UPDATE|WRAPUP|BREAKING|CORRECTED|REFILE|EXCLUSIVE)\b[^a-z]{{0,9}}[-–—:|])""": re.compile(
        r"\A\Z|\s[-–—]{1,2}\s|[;:—]|\A[A-Z ,.]{4,40}[-–(]|\b[A-Z]{5,}\b"
    ),
    r"""\A\W*+(?:(?:as~)?(?:an?|my|the|another|new|second|first|next)~)*(?:alternative|version|attempt|draft|paraphrase|contradiction
      |negation|rewrite|rewording|restatement|opposite|try~this|here~goes|or~rather|better~yet|for~(?:variety|clarity)
      |(?:i['’]d~|i~would~)?(?:put|say|phrase)~(?:it|this|that)~(?:like~this|this~way|differently)
      |(?:to~)?(?:contradict|paraphras|rephras|reword|restat|negat)(?:e|ing)?(?:~(?:it|this|that|slightly))?)(?:~(?:one|two|\d))?\s?,
      \s""": pattern(
        rf"{_OPTIONS}|\b(?:attempt|draft|phras|contra|negat|writ|word|opposite|contrary|try|tries|rather|better|vari|clar)"
    ),
}
"""Speech around a sentence that cannot be taken off it without doubt."""

_REMARKS = {
    r",\s(?:which|that)~(?:is|amounts~to)~(?:\w+ly~)?the~same(?:~thing)?\W*\Z": pattern("same|equal|equivalent"),
    r""",\sas~(?:stated|described|mentioned|indicated|given|you~can~see)(?:~(?:above|before|here|earlier))?
      \W*\Z""": pattern(r"\bas\b|\bstat|descri|mention|indicat|given"),
    r"""\A\W*+(?:that|this|it)(?:['’]s|~is)~(?:not~(?:quite~)?(?:right|correct|true|accurate)|wrong|incorrect|false)\s?[:;,]
      \s""": pattern("right|wrong|correct|true|false|accura"),
    r"""\A\W*+(?:great|excellent|perfect|good|nice|wonderful|awesome|fantastic),\s(?=(?:each|every|the|an?|this|that|these|those|he|she
      |it|they|his|her|their|there|in|on|at)\b)""": pattern(
        "great|excellent|perfect|good|nice|wonder|awesome|fantastic"
    ),
    r"\A\W*instead~of~[\"“'‘][^\"“”'‘’]{1,300}[\"”'’],\s": pattern('instead|["“‘]'),
    r"""[,–—-]\s(?:just~)?(?:as~(?:you~)?(?:requested|asked|instructed|wanted|above)|per~your~request|in~short|to~be~(?:precise|clear)
      |to~put~it~(?:\w+~)?\w+|for~instance|if~you~(?:like|prefer|will)|(?:i~)?hope~(?:this|that|it)~(?:helps|works)|done|end
      |let~me~know|please~confirm|over~and~out
      |(?:in~)?(?:\d{1,2}|t(?:wo|hree|en)|four|five|six|seven|eight|nine)~words)\W*\Z""": pattern(
        r"\b(?:words|confirm|request|ask|instruct|short|precise|clear|example|instance|if~you|e\.g)"
    ),
    r"""[,;–—-]\s(?:(?:but|though|so|as|if)~)?(?:i~(?:think|guess|believe|suppose|assume|presume)(?:~\w+){0,3}
      |i~can(?:not|['’]t)~(?:verify|confirm|say|be~sure|check)\b[^,]{0,30}|please~(?:double-?check|verify|check|note|correct)\b[^,]{0,30}
      |(?:assuming|if|as)~(?:that|this|it)(?:['’]s|~is|~was)~what~you~\w+)\W*\Z""": pattern(_PERSONAL),
    r"""\w~as~(?:you~)?(?:requested|instructed)\W*\Z""": pattern(
        r"\b(?:request|ask|instruct|want|wish|told|tell|order|demand|need|requir|direct|command|call|say|said|bid|bade)"
    ),
    r"""[,;–—-]\s(?:(?:please|just)~)?let~me~know\b.{0,40}\Z|[,;–—-]\s(?:please~)?feel~free~to~.{0,40}\Z
      |,\s(?:i~)?hope~(?:this|that|it)(?:['’]s|~is)~(?:ok(?:ay)?|fine|better|good|right|what~you~\w+)\W*\Z""": pattern(
        r"\b(?:know|tell|inform|contact|notif|free|hop)"
    ),
    r"""[,;–—-]\s(?:(?:do(?:es)?|will|would|did)~(?:that|this|it|these)~(?:work|help|do|suit|fit|make~sense)(?:~for~you)?|how(?:['’]s|~about|~is)~
      (?:that|this)|is~(?:that|this|it)~(?:ok(?:ay)?|fine|better|good|right|correct)|makes?~sense|sounds?~good
      |any(?:thing)?~(?:else|more)|(?:want|need)~(?:another|more)(?:~one)?
      |(?:is|are)~you~\w+~with~(?:that|this|it))\?\W*\Z""": re.compile(r"[?？]"),
    r"""[,;–—-]\s(?:and~)?if~(?:that|this|it)~(?:makes~(?:any~|more~)?sense|helps|works|is~(?:ok(?:ay)?|fine|better|clearer))
      (?:~(?:to|for)~you)?\W*\Z""": pattern(r"\b(?:if|sense|help|works?|fine)\b"),
    r"""[,;–—-]\s(?:thanks|thank~you|cheers|you(?:['’]re|~are)~welcome)(?:~(?:so~much|very~much|a~lot|again|for~\w+ing))?
      \W*\Z""": pattern(rf"{_PERSONAL}|\b(?:thank|grateful|gratitude|appreciat|cheer|welcom|please|said|sa(?:id|ys?))"),
    r"(?<=\w)[;,]?\s(?:[-–—]\s)?in~other~words\b": pattern("words|terms"),
    r"""\b(?:(?:closing|opening)~quotation~marks?|ibid|xoxo)\W*\Z|,~(?:wikipedia|chatgpt)~says\W*\Z
      |\A\W*+unlike~the~original\b""": pattern("quotation|ibid|xo|wikipedia|chatgpt|original"),
    r"""[,;–—-]\s?(?:(?:and|but|while|though|although|as)~)?(?:this|it|the~original)~(?:retains?|preserves?|keeps?|maintains?|says|states|claims)\b
      (?:~\w+){0,4}\W*\Z|\bif~the~(?:sentence|statement|premise)~is\b
      |(?:,|\.{3})?~and~so~(?:on|forth)(?:~and~so~forth)?\W*\Z""": pattern(
        r"""\b(?:original|retain|preserv|keep|kept|maintain|says?|said|stat|claim|writ|word|phras|sentence|premise|others?|more
        |so~on|etc)"""
    ),
    r"(?<=[a-z]{2}[.!?])\s-{1,2}\s|(?<=\w{2}[.!?])\s[&+]\s(?-i:(?=[a-z]))": pattern(r"\s(?:-{1,2}|[&+])\s"),
    rf"""{_MENTION}~(?:(?:is|was|are|were|has~been|ha[ds]|can~be|could~be)~)?(?:replac\w+|becom\w+|became|chang\w+
      |swapp\w+|substitut\w+|turn\w*|instead|for|with|to|by|means?)~(?:(?:by|with|to|into|of|for|as|the
      |word)~)*{_MENTION}""": _MARKED,
    rf"\b(?:replac|chang|swapp|substitut|turn)ing~(?:the~)?(?:\w+~)?{_MENTION}": _MARKED,
    rf"\A(?:the~)?(?:word|term|verb|noun|adjective|adverb|subject|object)s?~{_MENTION}": _MARKED,
    r"""\b(?:mean|say|convey|express|ha(?:ve|s)|keep|retain|preserv|maintain|shar|carr(?:y|ies))\w*~(?:\w+ly~)?(?:the|its|their|an?)
      ~(?:very~|exact~)?(?:same|similar|original|identical|opposite|equivalent|intended)
      (?:~(?:thing|meaning|idea|message|sense|information|content|point|sentiment|facts?)\b|\W*\Z)""": pattern(
        r"\b(?:same|similar|identical|agree|equal|alike|opposite|differ|also\b|too\b|echo|repeat)"
    ),
    rf"""(?:[,;]|\s[-–—])\s(?!.{{0,60}}\b{SAYS})(?:[\w'’-]+~){{0,5}}?(?:{_JOB})(?:~(?:the~)?(?:it|that|form|version|way|tone|style|manner|language)|~(?:to|into|for|as)~[^,]{{1,30}})?\W*\Z
      |,~so~(?:both|they|the~two)~(?:can(?:not|['’]t)|could~not)~(?:both~)?be~true\W*\Z""": pattern(
        rf"\b(?:both|{_JOB})"
    ),
    r"""[,;–—-]\s(?:while~|and~)?(?:keep|preserv|maintain|retain)ing~(?:all|every|each|both|the)~(?:of~)?(?:the~)?(?:\w+~)?
      (?:facts?|details?|information|meaning|content|sense|wording)\W*\Z
      |[,;–—-]\s(?:with~)?(?:all|every|the|no)~(?:\w+~)?(?:facts?|details?|information|meaning|content)~(?:is~|are~)?(?:kept|preserved
      |retained|intact|unchanged|included|maintained|changed|lost|left~out|omitted|added|missing)\W*\Z
      |,?\s(?:as~)?(?:per|requested~(?:by|in)|required~by)~(?:the|your|these)~(?:prompt|instructions?|task|guidelines)
      \W*\Z""": pattern(
        r"\b(?:facts?|details?|inform|mean|content|sense|prompt|instruct|task|guid|told|order|manual|ask)"
    ),
    r"""\A\W*i(?:~have|['’]ve)?~(?:wrote|made|used|changed|swapped|replaced|switched|kept|added|removed|altered|turned|put)\b
      (?:.{0,80}\b(?:instead|words?|synonyms?|sentence|subject|verb|noun|structure|phrasing|tense)\W*\Z
      |~(?:the|an?)~(?:\w+~)?(?:subject|verb|noun|adjective|tense|structure|word|phrase|sentence)\b)""": pattern(
        r"\b(?:instead|words?|sentence|subject|structure|phras\w*)\b"
    ),
    r"(?<=\w)\s\[[a-z][^][]{0,40}\]\W?\Z|\s/[a-z~]{1,20}/\W?\Z": re.compile(r"[(\[/]"),
    rf""",\s{_SO}(?:revers|invert|flipp|swapp|alter|chang|switch|negat|modify|shift)ing~(?:{_DETERMINER}~)?(?:\w+~){{0,2}}?
      (?:{_FACT})(?:~(?:to|from|into|with|for|of|between)~[^,]{{1,30}})?\W*\Z
      |,\s{_SO}making~it~(?:now~)?(?:more~|less~)?(?:passive|active|negative|positive|false|untrue|shorter|longer|simpler|formal
      |informal|clearer|a~question)\W*\Z
      |,\s(?:replac|swapp|substitut)ing~\w+~(?:with|by|for)~\w+\W*\Z|,\sadding~(?:more~|some~)?(?:details?|context|information)\W*\Z
      |,\s(?:(?:with|at|on|in)~)?(?:an?~)?(?:different|changed|altered|opposite)~(?:{_FACT})\W*\Z|,\swith~the~(?:{_FACT})~(?:\w+ed)\W*\Z
      |,\s(?:changed|altered|swapped|reversed|flipped)~(?:the~)?(?:{_FACT})\W*\Z
      |,\s(?:{_SAID}~)?(?:in|using|with)~(?:(?:only|just|fewer|more)~)*(?:\w+~)?words\W*\Z""": pattern(
        rf"""\b(?:revers|invert|flip|swap|alter|chang|switch|negat|modif|shift|contra|oppos|replac|substitut|differ|detail|inform
        |clar|vari|brev|passive|active|words?\b|{_JOB})"""
    ),
}
"""Remarks behind a sentence, or inside."""

_STATEMENTS = {
    rf"""{_NO_COURT}(?:(?:yes|no|well|so|ok(?:ay)?|thus|hence|then|therefore|now|actually|here|both)[,:.]?~)*(?:the|this|that|your|both|these
      |those|two|my|each)~(?:\w+~){{0,2}}?{_OF_WORDS}~(?:(?<!original~)|(?=is\b))(?!(?:of|from|by|in|on|at|for|to|that|which|who|and|or)\b|\w+ed~(?!not\b)
      |(?:was|were|had|came|went|made|sent|said)\b)\w""": _ABOUT_WORDS,
    rf"""\A\W*+(?:it|this|that|everything|nothing)(?:['’]s|~is|~was|~looks|~seems|~sounds)~(?:already|perfectly|as)~
      (?:\w+~(?:and|enough)~)?(?:{_QUALITY}|it~is)(?:~(?:as~(?:is|it~is)|already|enough))?\W*\Z""": pattern(
        rf"\b{_QUALITY}\b"
    ),
    r"\A\W*+(?:there~is~|there['’]s~)?no~(?:need|reason)~to~(?:chang|rephras|rewrit|alter|modif|improv)": pattern(
        "need|reason"
    ),
    rf"""{_NO_COURT}(?:(?:this|that|here|it)(?:['’]s|~is)~)?(?:(?:an?|one|another|the|my|your)~)?(?:\w+~){{0,3}}?
      (?:sentence|rewording|restatement)\b(?!['’]|~was\b)""": _ABOUT_WORDS,
    rf"{_NO_COURT}.*(?:\w~sentence~(?:\d|one|two)|\bthe~(?:first|second|other|previous)~sentence)\b(?!~of\b)"
    r"|\bthe~(?:given|original|above|following)~sentences?\b": _ABOUT_WORDS,
    rf"""{_NO_COURT}(?:(?:so|okay|ok|first|now|then|well|h+mm*)[,.]?~)*(?:(?:we|i|you)~)?(?:(?:need(?:~to)?|have~to|should|must|want~to
      |let['’]s)~(?:now~)?(?:{_SAYING}|reformulate|describe|produce|make|keep|preserve|retain|change|alter|include|mention|contradict|negate)~
      (?:(?:[\w,:]+~){{0,5}}?(?:{_JOB}|statement)|(?:(?:all|the|every|each|one|some|these|of)~)*(?:facts?|details?|information|numbers?
      |names?|words?))
      |let(?:['’]s|~me|~us)~(?:think|consider|figure~out|work~out|see)~(?:about~|of~)?(?:how|what~the|which|(?:an?|another|other|some)~ways?))
      \b""": pattern(
        rf"""{_ABOUT_WORDS.pattern}|\b(?:facts?|details?|inform|mean|number|name|word|origin|secret|let|think|thought|consider|figure
        |wonder|see|look)"""
    ),
    r"\A\W*the~(?:\w+~)?meaning~(?:stays|remains|is|has|does|was|differs)\b": pattern("mean"),
    r"\A\W*there(?:['’]s|~is)~nothing~(?:else~)?to~(?:change|rewrite|rephrase|add|improve|correct|fix)\b": pattern(
        r"\bnothing|\bno\b|\bnot\b|n['’]t\b"
    ),
    r"""\A\W*+(?:task|request|job|rewrite|changes?)~(?:was~|is~|were~|has~been~)?
      (?:completed?|done|finished|applied|made)\b""": pattern(r"\b(?:task|request|job|work|chang)"),
    r"""\A\W*you~(?:should|could|can|may~want~to|might~want~to|need~to)~
      (?:contact|ask|check|call|consult|talk|speak|try|report|file)\b""": pattern(
        r"\b(?:you|your|one|should|must|please|contact|ask|call|consult)\b|\A\W*+(?:try|check|talk|speak|report|file)\b"
    ),
    r"\A\W*+(?:could|can|would)~you~(?:please~)?(?:clarify|explain|rephrase|specify|elaborate|provide)\b": pattern(
        r"\b(?:you|clarif|expla|specif|elaborat|provid)"
    ),
    r"""\A\W*here(?:['’]s|~is|~are)~(?:one|two|three|another|some|an?~\w+)~(?:about|for|with|in|on|that)\b
      [^:]{0,60}:""": _COLON,
}
"""Statements about the sentence in place of one."""

_VARIANTS = {
    r"""["“][^"“”]{8,}["”]\s(?:to|becomes?|became|and|or|means|into|is)\s["“][^"“”]{8,}["”]\W*\Z""": _MARKED,
    r",~(?:(?:er+|um+),|(?:uh+|err+|umm+|sorry|or~rather),?)~(?=\w)|\ba\.?k\.?a\.?~(?-i:(?=[a-z]))": pattern(
        r"\b(?:sorry|rather|a\.?k\.?a|um+|uh+|er+)\b|,~like,"
    ),
    r"(?-i:\([a-z]{3,}\)[^()]*\([a-z]{3,}\))": _BRACKETED,
    r"[a-z]{2}[.!?][\"”)]?\(?[2-9][.)]\s|[a-z]{2}[.!?];\s": None,
    r"[a-z],?~(?:\(|[-–—]~)?i\.e\.,?~\w|[a-z]~[-–—]~or~(?:\w+~){1,3}[-–—]~[a-z]": pattern(r"i\.e|\bor\b"),
    r"""\s\(?(?:2|b)\)\s(?-i:(?=[A-Z"“]))|[a-z.]\s//\s""": re.compile(r"\b[2b]\)|//"),
    r"[\[{(](?-i:[a-z]+)/(?-i:[a-z]+)[\])}]": _OR,
    r"""["”]\s(?:and/)?or\s["“]""": _MARKED,
    r"(?-i:(?<=[a-z.!?,;\"”])\s(?:OR|VS)\s)": re.compile(r"/|\bOR\b|\bVS\b"),
    rf"\b{_DETERMINED}(?-i:[a-z]{{3,}}~?/~?[a-z]{{3,}}(?![\w/.]))": _OR,
    r"""(?-i:(?<![\w/.:])(?!and/or|his/her|her/his|him/her)[a-z]{3,}/[a-z]{3,}(?![\w/.]))
      |(?<![\w/])(?:(?:the|an?)/(?:the|an?)|(?:is|was|are|were)/(?:is|was|are|were)|(?:in|on|at)/(?:in|on|at))
      (?![\w/])""": _OR,
    r"(?-i:[a-z]~\((?!some)[a-z]{4,}\)~[a-z]|[a-z]{2}\(e?s\))": _BRACKETED,
    r"""\((?:or|also|aka|i\.e\.|e\.g\.|alternatively|that~is|meaning|originally|instead~of|in~other~words),?
      ~(?:(?:an?|the)~)?[a-z]+(?:~[a-z]+)?\)""": _BRACKETED,
    r",~or~(?:an?~|the~|rather~|simply~|in~)?\w+,~": _OR,
    rf"""\A(?!.*(?:{_OPEN})).*\b{_PAST}~(?:and/)?or~{_PAST}~
      (?:the|an?|his|her|its|their|my|our|your|this|that|it|them|him)\b""": pattern(rf"/|\bor\b|{_OPEN}"),
    r",~(?:wait|scratch~that|correction|i~mean)[,:]?~(?!for\b)|(?:\.{3}|…)\s?(?:no|wait|actually|sorry),~": pattern(
        r"\b(?:wait|mean|correct\w*|no|actually|sorry)\b"
    ),
    r"\A(?!.*\b(?:and|or)\b)[\w'’]+(?:~[\w'’]+)?(?:,\s[\w'’]+(?:~[\w'’]+)?){3,}\W*\Z": re.compile(
        ",.*,|[;&/]|\\band\\b"
    ),
    r"""\bor,?~(?:alternatively|(?:to~)?(?:put|sa(?:id|y)|phrased?)~(?:it~)?(?:differently|another~way))\b
      |\A\W*+(?:alternatively|or)\b\s?[,:]|[,;]~or~(?:rather|simply|just|else):""": pattern("alternativ"),
    r"\A\w+(?:,~and~\w+)?\s[=≈]\s\w+": re.compile("[=≈]"),
}
"""Two variants in one text."""

_OPENERS = {
    r"""\A\W*+(?:(?:it|this|that|they|these|those|both)~(?:is|are)~)?(?:not~)?(?:(?:completely|very|totally|quite|almost|exactly|somewhat)~)?
      (?:the~)?(?:same|similar|different|identical|opposite|unrelated|alike)\W*\Z""": pattern(
        r"\b(?:same|similar|differ|identical|opposite|relat|alike|equal)"
    ),
    r"""\A\W*+(?:(?:an?|the|one|two|ten|new|next|your|my|given|this|that|first|second|another|single|write|rework|rewrite|rephrase
      |continue|go~on~with|see|english)~)*(?:sentences?|paraphrases?|text|answer|reply|output|prompt
      |instructions?)\W*\Z""": pattern(r"\b(?:sentence|paraphrase|text|answer|reply|output|prompt|instruct)"),
    r"\A\W*+(?:given|new|ditto|idem|as~above|error(?:~\d+)?|\d{3}~not~found|n\.a|x+)\W*\Z": None,
    r"""\A\W*+(?:likewise|similarly|stop|end|i~give~up|next|continue|no~comment|i~have~(?:no~answer|nothing~to~(?:say|add)))
      \W*\Z""": _BRIEF,
    rf"""\A\W*{_HM}(?:(?:that|this|it|what)(?:['’]s|~is|~was)?~)?(?:an?~)?(?:(?:really|very|such|quite|truly)~)?(?:an?~)?{_GREAT}
      ~(?:question|one|sentence|example|point|request|task|choice|idea|prompt|job|work)(?:~to~\w+)?\W*\Z""": pattern(
        r"\b(?:question|example|point|idea|job|work|choice|task)"
    ),
    rf"""\A\W*{_HM}(?:(?:but|and)~)?(?:i~(?:do~not|don['’]t|did~not|didn['’]t|can(?:not|['’]t)|am~not)~(?:really~)?
      (?:know|sure|understand|remember|tell)(?:~(?:what~to~(?:say|write|do|answer)|how(?:~to~\w+)?|that|this|it|why
      |the~(?:answer|question)))*
      |(?:i(?:['’]m|~am)~)?not~sure(?:~(?:what|how)~to~(?:say|write|do|answer|respond))?
      |(?:i~have~)?no~(?:idea|problem|comment|clue))\W*\Z""": pattern(
        r"\b(?:know|sure|idea|underst|tell|remember|clue|certain|unsure|wonder|think|forg[eo]t|doubt|problem|comment)"
    ),
    rf"""\A\W*{_HM}(?:(?:let(?:['’]s|~me|~us)|i(?:~need~to|['’]ll|~will|~have~to))~(?:think|see|try|start|begin|check|do)
      (?:~(?:about|it|this|that|again|first|with|now|step|by|for|a|moment|second|my|best|one))*
      |(?:i~)?(?:see|understand|agree|think~so|hope~(?:this|that|it)~helps)|(?:just~)?(?:a|one)~(?:moment|second)(?:,?~please)?
      |please~wait|working~on~it|here~goes|next|continue)\W*\Z""": pattern(
        r"""\b(?:let|think|thought|see|try|tries|tried|start\w*|begin|wait|moment|second|consider|agree|underst\w+|help|next|continue)\b"""
    ),
    rf"""\A\W*+(?:{SURE}[\s,.!…]+)*(?:(?:you(?:['’]re|~are)~)?(?:very~|most~)?welcome
      |thanks?(?:~you)?(?:~(?:so|very)~much|~a~lot)?(?:~for~(?:your|the)~(?:question|input|clarification|request))?
      |(?:hi|hello|hey|greetings)(?:~(?:there|everyone|all|again))?|how~are~you(?:~today)?|great|good|nice|perfect
      |excellent|wonderful|awesome|interesting|cool|wow|fine|bye|goodbye|h+mm+|uh+|um+|oh|ah|well
      |(?:good~)?luck)\W*\Z""": pattern(
        r"""\b(?:hello|hi|hey|thank|welcome|bye|greet|good|great|nice|fine|how|wow|luck|well|awesome|amaz|perfect|excellent|wonder
        |cool|interesting)"""
    ),
    r"\banything~else~(?:you|i~can)\b|\b(?:how|what)~(?:else~)?(?:can|may)~i~(?:help|assist|do~for)~you\b": pattern(
        r"\b(?:help|assist|service|serve|do~for|else)"
    ),
    r"""\A\W*+(?:\w+~of~)?my~(?:knowledge|training(?:~data)?|data)~(?:base~)?(?:only~)?(?:ends?|stops?|goes|extends?|reaches|is~limited
      |was~cut|is~(?:only~)?up~to|comes~to)\b""": pattern(r"\b(?:know|learn|train|taught|data)"),
    r"""\bmy~(?:last|latest|knowledge|training)\b.{0,12}\b(?:update|cut-?off|data)\b|\blorem~ipsum\b
      |\Ahttps?://\S+\Z""": None,
    r"""\A\W*+(?:(?:the|with|has|have|of|an?|on|about|in|clearly|completely)~)*(?:same|similar|different|opposite|identical)~(?:meaning|sense|idea|sentence|wording
      |words|topic|as~(?:above|before|given|the~original))\b.{0,20}\Z""": pattern(
        "meaning|sense|idea|sentence|word|topic|same|similar|differ"
    ),
    r"\bwe(?:['’]re|~are)~at~capacity\b": pattern("capacity"),
}
"""What is said before the work, or instead of it; the whole text."""

_SPOKEN = {
    r"""\A\W*+(?:(?:so|well|right|look|listen|anyway|i~mean|you~(?:know|see)|yes|yeah|no|nope),\s
      |(?:so|ok(?:ay)?|alright|well)~(?:then|so|now)\b,?\s)""": pattern(
        rf"""\A\Z|{_PERSONAL}|\b(?:so|well|right|anyhow|mean|know|see|yes|thus|therefore|hence|because|since|then)\b|[?!]"""
    ),
    r"""(?:,~(?:right|correct|ok(?:ay)?|yes|yeah)[.!]?|,?~(?:lol|ha(?:ha)+|hehe)[.!]?
      |,~(?:right|correct|ok(?:ay)?|no|yes|eh|huh|see|is~it~not|(?:is|are|was|were|do|does|did|has|have|had|ca|could|wo
      |would|should)n['’]t(?:~\w+){1,3})\?|,~you~(?:know|see)\b[.?]?)\W*\Z""": pattern(rf"\A\Z|{_PERSONAL}|\?"),
}
"""How people begin and end what they say to someone."""

_SHORT_REFUSALS = {
    r"""\A\W*+(?:unfortunately,?~)?(?:(?:this|that|it)(?:['’]s|~is)~)?(?:unfortunately~)?(?:not~possible|impossible)
      \W*\Z""": pattern(r"possib|\bcan|could|\bable|unable|\bway\b|hopeless"),
    r"""\A\W*sorry,~(?:but~)?(?:the|your|this)~(?:input|sentence|prompt|request|message|text)~(?:you~\w+~)?(?:seems?|is|appears?|looks|was
      |does|cannot|can['’]t)\b""": pattern("sorry|apolog|input|sentence|prompt|request|message|text"),
    r"""\A\W*+(?:the|this)~(?:ai~)?(?:assistant|(?:language~)?model|chat-?bot|bot)~(?:has~)?(?:declin\w+|refus\w+|(?:is|was)~unable)~to~\w
      |\b(?:falls?|is|are|goes|lies)~(?:outside|beyond)~(?:of~)?(?:what~i~(?:can|am)\b|(?:the~scope~of~)?my~(?:scope|\w*abilit|guidelines))
      |\bi~(?:\w+~){0,2}?(?:prefer|choose|have|need|must|like|try)~to~(?:stay|remain|be)~neutral\b|\A\W*+sorry,?~(?:but~)?no\W*\Z
      |\A\W*+my~(?:\w+~)?(?:guidelines|programming|instructions)~(?:keeps?|prevents?|do(?:es)?~not|don['’]t|prohibits?|forbids?|stops?|bars?)\b
      |\A\W*+(?:this|your)~(?:request|prompt|message|content|input)~(?:has~been|was|is)~(?:flagged|blocked|declined|denied|rejected|refused)\b
      |\bnot~something~(?:that~)?i~(?:(?:can|could|will|would)~)?(?:do|discuss|help~with|engage~in)\W*\Z
      |\A\W*+(?:(?:could|can|may|shall|should)~we|let['’]s)~(?:please~)?change~the~(?:subject|topic)\b""": pattern(
        r"""assistant|model|bot\b|outside|beyond|neutral|sorry|guideline|programming|instruct|request|prompt|messag|content|input|something
        |subject|topic"""
    ),
    r"""\A\W*i(?:['’]d|~would)~(?:be~(?:glad|happy)|love|like)~to(?:~help)?,?~but\b.{0,40}
      \b(?:context|information|details?)\b""": pattern("context|inform|detail"),
}
"""The whole of a short refusal, and what lacks something to work on."""

_NUMBERS = {
    r"""\A\(?\d{1,3}[.)](?-i:(?=[A-Z"“]))|\A[①-⓿❶-➓\uff10-\uff19]|\A\d\ufe0f|[.!?]["”)]?[①-⓿❶-➓]+\Z""": re.compile(
        r"\A\(?\d|[①-⓿❶-➓\uff10-\uff19\ufe0f]"
    ),
    r"\A(?:(?:figure|fig\.?|table|example|no\.)~?|№~?)\d+(?:\s?[.:]\s|~(?-i:(?=[A-Z][\w'’]*~[a-z\d])))": pattern(
        r"\b(?:figure|fig|table|example|no\.)|№"
    ),
    r"\A\#\d+[:.)]?\s": re.compile("#"),
    r"""\A\d{1,2}[/,]~(?-i:(?=[A-Z]))|\A\d{1,3}\s?[-–—]\s
      |\A\d{1,2}~(?-i:(?=(?:The|An?|It|He|She|They|There|This|We|You|I)~))""": re.compile(r"\A\d"),
    r"""\A[\[(]?\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?[\])]?(?!~(?:[ap]\.?m|gmt|utc|[ce]s?t|uhr|h)\b)
      \s+[-–>]*\s*(?-i:(?=[A-Z"“]))""": re.compile(r"\d:\d"),
    r"""\A(?:\d{1,2}/\d{1,2}|\d\.\d{1,3})\s(?-i:(?=[A-Z]))|\A\d{4}-\d\d-\d\d[T\s]
      |(?<=[a-z.!?])\s[-–—]\s\d[\d.,/]*\Z""": re.compile(r"\A\d|\d\Z"),
    r"""(?-i:(?:[!?]|(?<!Sept)(?<!\bvol)(?<!\best)(?<!\bfig)(?<=[a-z]{3})\.)["”)]?\s[-+]?\d[\d.,]*%?\W*\Z)
      |["”]\s?[,;]\s?\d[\d.]*\Z""": None,
}
"""Counters, times of subtitles and scores beside a sentence."""

_UNITS = r"""(?:(?:second|minute|hour|day|week|month|year|mile|dollar|euro|point|meter|metre)s?|people|percent|segundos?
    |minutos?|horas?|d[ií]as?|semanas?|mes(?:es)?|años?|anos?|jours?|heures?|semaines?|mois|ans|tagen?|stunden?|minuten|wochen?|monaten?
    |jahren?|secondi|minuti|or[ae]|giorni|settimane|mesi|anni|dagen|uren?|weken|maanden|jaar)\b"""
_JOINER = "(?:-{1,2}>|={1,2}>|>>|[\u2190-\u21ff\u2794-\u27be\u27f0-\u27ff\u2900-\u297f\u2b00-\u2b11▶►•·¦‣])"
"""Arrows and bars."""
_SIGNS = {
    rf"(?-i:(?<![\w.&])(?:XX?|NN?)~)(?={_UNITS})": None,
    rf"\w~(?:\.{{3}}|…)~(?={_UNITS})": re.compile(r"\.{3}|…"),
    r"\[(?!(?:sic|they|he|she|it|we|i|the|his|her|their)\b)[^\W\d_](?-i:[a-zß-öø-ÿ])[^\]\[\d]{1,30}\]": re.compile(
        r"[\[]"
    ),
    r"(?<![a-z*])\*\*[^*\s][^*]{0,200}\*\*": re.compile(r"\*\*"),
    r"\s(?:[=!]?=|≈|≠|\x7e|\|\||<=>|<->)\s|\w(?:→|⇒|->|=>)\w|\w\^(?:\d|\[)|\s\^\d": None,
    r"""\A(?![^\W_]|["“”„«»‹›「」『』《‘’‚'(\[¿¡…]|[-−+<>≥≤±\x7e.$€£¥#@°]\.?\w)\S""": re.compile(
        r"\A[^\w\s\"“„«‹'‘(\[]"
    ),
    r"""\A[.?!;,=\\%\x7e>]{1,3}(?-i:(?=[A-Z]))|\A(?:-{1,3}|[–—]{1,2})(?-i:(?=[A-Z]))""": re.compile(
        r"\A[^\w\s\"“„«‹'‘(\[]"
    ),
    r"""[.!?…]["”’)]?\s?(?![.!?…"”“’'»«)\]])[^\w\s]\S{0,9}\Z""": re.compile(r"[^\w\s.!?…\"”“’'»«)\]]\S{0,9}\Z"),
    r"(?-i:[a-z]~\[(?!sic\b)[a-z]+(?:~[a-z]+)*\]|~<[a-z]+(?:~[a-z]+)+>|[a-z]{3}\\[a-z]{3})": re.compile(r"[\[<\\]"),
    r"\A(?:\#\w+\s?)+\Z|\A\w+\s?=[\s'\"“]|\A[a-z]+=[a-z]": re.compile("[#=]"),
    r"""[.!?]["”)]?[⁰¹²³⁴-⁹*†‡]+\Z|\s\#{2,}\W*\Z""": None,
    r"[a-z](?:\s?\[\d{1,2}\]|\s?[†‡]|\s[⁰¹²³⁴-⁹])[.!?]?\Z": re.compile(r"\[\d|[†‡⁰¹²³⁴-⁹]"),
    r"""(?-i:\A(?:null|undefined|NaN|TODO|TBD|NAME)~)|(?<!\w)\#(?:NAME\?|REF!|N/A|VALUE!|DIV/0!)|(?-i:\bXYZ\b)|(?<!\w)N\.\s?N\.(?!\w)
      |[(\[]\s?insert\b""": re.compile(r"null|undefined|nan|todo|tbd|name|xyz|n\.\s?n|insert|\#", re.IGNORECASE),
    r"(?:(?<!\w)[^\W\d_\u2e80-\uffff]~){4}": None,
    r"(?<=[^\W\d_])%(?:[2-7][\da-f]|[c-e][\da-f]%)|(?-i:[a-z]{2}=(?:[89A-F][\dA-F]|20|3D)(?![\dA-F]))": None,
    rf"(?<!\s\d)\s(?:{_JOINER}|>)\s(?=[^\W\d])|(?<=[a-z]{{3}}[.!?])(?:{_JOINER}|/)(?=[^\W\d_])|\A\w+>~": re.compile(
        rf"{_JOINER}|\s>\s"
    ),
    r"(?-i:[a-z]~(?:\.{3}|…)~(?:the|an?|his|her|its|their|this|that|of|in|on|to)\b)": re.compile(r"\.{3}|…"),
    r"(?<!\w)([-\x7e])[a-z]+\1(?!\w)": re.compile(r"(?<!\w)[-\x7e]\w"),
    r"\A[^\W\d_]+(?:[+_][^\W\d_]+){2,}\W*\Z|\b[^\W_]{1,30}(?:[+_][^\W\d_]{1,30}){4}": None,
    r"&(?:(?:amp|quot|apos|lt|gt|nbsp)\b|\#x?\d{2})|\\x[\da-f]{2}|\A\w+\(['\"]": None,
    r"\A(?!<)(?=\S*[^\W\d_]{5})[!-,.-\x7eÀ-ӿ–—‘’“”„«»…]{12,}\Z": re.compile(r"\A\S+(?:\s\S+){0,2}\Z"),
    r"\A(?!.*(?<!\w)['‘’]).*?(?:\b(?:the|an?|he|she|it|we|they)|[^\W\d_]{4})(?<![sxzno])['’](?=\s)": re.compile(
        r"\w['’]\s"
    ),
    r"\A\[.*\]\W*\Z": _BRACKETED,
    r"\A(?:return|print|echo|assert)~?[\"'(]|\A(?:const|let|var|def)~\w+\s?=|(?<![\w'])''\Z|(?<=[.!?])''\Z": None,
    r"(?-i:\b(?:[a-z]{3,}|[A-Z]{2,}[a-z]{2,})(?:[A-Z][a-z]{2,})+\b)": re.compile("[a-z][A-Z]"),
    r"\s<-{1,2}\s|\s(?:;;|::)\s|\"{2}": re.compile(r"<-|;;|::|\"\""),
    r"""(?-i:\b[A-Z]{2,}(?:_[A-Z\d]+)+\b|\[(?:[A-Z]{8,}|DONE)\]|(?<!\S)\$[A-Z_]{3,}\b(?!~?\d)|(?<!Bowl )\bX{3,}\b)
      |(?-i:[a-z]\*+[a-z])|(?<!\S)%[sd]\b|\[(?:\.{3}|…)\]""": None,
    r"\s(?:[\#@]\w+\s*)+\Z|\shttps?://\S+\Z": re.compile(r"[#@]\w|https?:"),
    r"[a-z]{3}[.!?]?\s(?:0?\.\d{1,4}|1\.00?)\Z": re.compile(r"\d"),
    r"==\w|\w==|⁇|\w''\w|'{3}": None,
    r"(?-i:[a-z]\?[a-z])": re.compile(r"\w[?’]\w"),
    r"(?-i:(?<=[a-z]{3})(?:\.\s?\.|\s?[,!?]\s?\.)\Z)": re.compile(r"[.,!?]\s?\."),
    rf"\A(?=.*{_SMALL_WORDS}).*[«»‹›„「」『』《》]": re.compile("[«»‹›„「」『』《》]"),
    r"\w\s?[\u2500-\u27bf\U0001f300-\U0001faff]+\ufe0f?\Z": re.compile(r"[\u2500-\u27bf\U0001f300-\U0001faff]"),
    r"(?:[\uff21-\uff3a\uff41-\uff5a]|[\U0001d400-\U0001d7ff]){2}|[a-z]\s?[，。！？；：、]": re.compile(
        "[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef\U0001d400-\U0001d7ff，。！？；：、]"
    ),
    r"\w\s(?:n['’]t|['’](?:s|re|ve|ll|d|m))\b|\s\#\#\w": re.compile(r"\w\s(?:[.,?!;]|n['’]t|['’]s|#)|\A\S+\Z"),
    r"""(?-i:[.!?…]["”]?[A-Z]{2,}\Z|\s(?:END|EO[ST]|DONE)\Z)|(?<!\S)@user\b|(?-i:\b(?:HTTPURL|URL|USER)\b)
      |(?-i:\b(?:Person|Entity|Speaker)~\d\b)""": None,
    r"[/—–&=+<\\^]\Z|\band/or\Z": re.compile(r"[/—–&=+<\\^]\Z"),
    r"\A[^()]+(?<![:;=8-])\)[^()]*\Z|\A[^][]+\]|\[(?=[^][]{2,}\Z)": re.compile(r"[()\[\]]"),
    r"(?<![:;=8-])\((?=[^()]{2,}\Z)": re.compile(r"\([^()]*\Z"),
}
"""What is left of other forms: footnotes, spaced or joined letters, escapes."""
_LEFTOVERS = {
    r"""[a-z]{2}[.!?]\d{1,3}\Z|(?<=[a-z]{3})\.(?:…|[!?_,;])\Z|(?:\s\.){2,}\Z""": re.compile(r"\.\s?[\d….!?_,;]"),
    r"""[.!?]["”]?\s?(?:eot|eos|eom|ok|null|undefined|nan)\W*\Z""": None,
    r"\A(?-i:[a-z]{2}_[A-Z]{2}\b|[²³¹]\s|[b-hj-np-z]\s(?=[A-Z]))": re.compile(r"\A[b-hj-np-z²³¹]\s|_"),
    r"\A(?-i:(?:[B-HJ-Z]|[A-Z]{2,4}|New)\s(?:An?|The|This|There|He|She|It|They|Two|His|Her)\s)": re.compile(
        r"\A(?:[B-HJ-Z]|[A-Z]{2,4}|New)\s"
    ),
    r"\w@@|[a-z]\ufe0f|[a-z]\s[a-z]+[．。]|[\ufb00-\ufb06]": re.compile(r"@@|[\ufe0f．。\ufb00-\ufb06]"),
    r"\b(?:an?|the|of|in|on|to|and|his|her|their|with)\s\?\s(?-i:[a-z])": re.compile(r"\s\?"),
    r"(?-i:\b([A-Z][a-z]{2,})\1\b|\b[a-z]{2,}(?:An?|The|He|She|It|They)\s)": re.compile("[a-z][A-Z]"),
    r"""[a-z]{2}-\s(?!(?:and|or|to|und|oder|bis|et|y|o|e|n|as|in|through|than|but|versus|vs|rather|at
      |bzw|sowie|noch|wie|och|eller|og|en|of|ja|tai|lub|ou)\b)
      (?-i:[a-z]{2})""": re.compile(r"\w-\s"),
    r"[a-z]{3}[⁰¹²³⁴-⁹][.!?]?\Z": re.compile("[⁰¹²³⁴-⁹]"),
}
"""Tokens, pieces of words and single signs that stand where a text begins or ends, or break its words."""

_RUN_TOGETHER = re.compile(
    r"[a-z]{2}[.!?](?:[A-Z][a-z]+|A)(?:\s|\W{0,3}\Z)|[a-z]{3}(?:An?|The|It|He|She|They|There|This|In|On)\s[a-z]"
    r"|[a-z]{2} (?:A(?! (?:is|was|are|were|and|or|in|on|to|ha[sd]|will|can|of|with|from|that|which)\b)|An|The|It|She"
    r"|They|There|Her|Their|This|Some|Several)(?: [a-z]{2,}){2} [a-z]"
)
"""Sentences without a space, or without a mark, between them."""

_TWICE = pattern(
    r"""\b(the|an?|of|to|and|my|our|your|his|her|their|its|for|with|by|from|we|they|he|she|it|are|was|were|which
    |after)~\1\b"""
)
_DOUBLED = r"""\b(?!(?:that|had|is|so|no|very|really|much|many|more|far|long|too|ha|bye|blah|knock)~)
    ([^\W\d_]{2,})~(?-i:(?![A-Z]))\1\b"""
_AGAIN = pattern(
    r"""\b(\w+(?:~\w+){2,15})~\1\b|\b(\w+(?:~\w+){3,15})(?:,?~(?:and|or|but|then)~|,~)\2\b|\A(\w+(?:~\w+){3,15})\b.{8,300}~\3\W*\Z"""
)
"""Three words or more twice in a row, or four that a link joins to themselves, or that a text begins and ends with."""
_JOINS = r"(?:and|by|or|after|to|upon|for|on|in|of|n|with)\b"
_TWO_AGAIN = pattern(rf"\b(?!([a-z']+)\s\1\b)(?!{_JOINS})([a-z']+\s(?!{_JOINS})[a-z']+)\s\2\b")
"""Two words twice in a row, of which neither joins them, as in `again and again and again`."""
_HALF_QUOTED = re.compile(
    r"\A(?!.*(?:(?<!\w)['‘](?!\Z)|['’](?!\w).)).*[.!?…]['’]\Z"
    r"|(?<![\w.\])'])'(?!(?i:em|til|till|cause|tis|twas|round|bout|n|s)\b)[^\W\d_](?:[^'’]|(?<=\w)['’](?=\w))*\Z"
)
"""One single mark behind the end, which no mark opens and no apostrophe excuses, or one that is never closed."""

TALK = (
    Rule("talk", ABOUT_THE_TASK),
    *_rules("numbering", _NUMBERS),
    *_rules("refusal", _SHORT_REFUSALS),
    *_rules("talk", _AROUND),
    *_rules("talk", _REMARKS),
    *_rules("talk", _STATEMENTS),
    *_rules("several answers", _VARIANTS),
    *_rules("no answer", _OPENERS),
    *_rules("talk", _SPOKEN),
    *_rules("markup", _SIGNS),
    Rule("several sentences", _RUN_TOGETHER, _RUN_TOGETHER),
    *_rules("markup", _LEFTOVERS),
    Rule("repetition", _TWICE, _TWICE),
    Rule("repetition", pattern(rf"\A(?=.*{_SMALL_WORDS}).*?{_DOUBLED}"), pattern(_DOUBLED)),
    Rule("repetition", _AGAIN, _AGAIN),
    Rule("repetition", _TWO_AGAIN, _TWO_AGAIN),
    Rule("unmatched quotation mark", _HALF_QUOTED, re.compile("(?<!\\w)['’]|['’](?!\\w)")),
)
"""All of these; looked at behind what is known to be an echo or a copy."""
