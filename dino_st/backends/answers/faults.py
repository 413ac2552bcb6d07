"""Why a text is none to be stored: by the tables of rules, and by what only its source, or its prompt, can tell."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise

from dino_st.backends.answers import foreign
from dino_st.backends.answers.comparison import beside, repeats
from dino_st.backends.answers.rules import (
    FAULTS,
    LABELLED,
    LABELLED_SMALL,
    MAY_BE_ORDINAL,
    REFUSAL,
    REFUSAL_INSIDE,
    Reason,
    Rule,
)
from dino_st.backends.answers.talk import TALK
from dino_st.support.languages import KANA, goes_on, is_in_another_language, is_latin
from dino_st.support.progress import logger
from dino_st.support.text import count_words, normal_form, printable

_LIKE_AN_EXAMPLE = 5
"""Words in a row that a reply may not have in common with an example, unless its sentence has them, too."""
_SHORT, _STEM, _FEW, _ALIKE, _AS_LONG = 3, 4, 4, 0.7, 0.6
_PASSAGE, _LOOKED_AT, _ENOUGH, _MUCH, _SHOWN = 3, 1000, 20, 0.4, 60
"""Sentences of a passage, texts that are looked at, and how many of these, and which share of them, tell something."""
_BRACKETS = ("«»", "‹›", "「」", "『』", "《》", "【】")
_INCHES = re.compile(r"""(?<=\d)"(?=\s[a-z])""")
_BREAK = re.compile(
    r"(?<!\.)(\.|(?<![!?؟।])[!?؟।]+)([)\]”’»\"'“‘]{0,9})\s{1,9}\W{0,9}(\w)|(?<![。！？])[。！？]+(?=\w)"
)
_ABBREVIATED = re.compile(
    r"(?<!\w)(?:mrs?|ms|dr|prof|st|jr|sr|vs|inc|ltd|co|corp|gen|col|sgt|lt|capt|rev|gov|sens?|reps?|hon|mt|ft|jan|feb|mar|apr"
    r"|jun|jul|aug|sept?|oct|nov|dec|approx|dept|est|figs?|al|etc|ca|bzw|str|fla|minn|calif|mass|conn|ill|wash|penn|tenn|ariz|colo|mich|wis|va|bros|cmdr|maj|insp|adm|mme|mlle|sra|dra|ph|op|vol|pp|[^\W\d_]|\d\d?)\Z",
    re.IGNORECASE,
)
"""What a full stop behind it does not end a sentence: abbreviations, initials, ordinals as in `7. Oktober`."""
_BEFORE_NUMBER = re.compile(rf"{_ABBREVIATED.pattern}|(?<!\w)(?:nos?|nr)\Z", re.IGNORECASE)
_OF_A_SENTENCE = re.compile("sentence|satz|sätze|phrase|frase|oración|句|文", re.IGNORECASE)
_OF_A_TEXT = re.compile(
    r"\b(?:paragraph|passage|stor(?:y|ies)\b|essay|several sentences|absatz|absätze|párrafo)|段", re.IGNORECASE
)
_SCRIPTS = frozenset({"CJK", "HANGUL", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "THAI"})
_NAMES_A_LANGUAGE = re.compile(
    "translat|traduc|tradui|übersetz|перев[её]д|перевод|翻译|译成|翻訳|번역|chinese|mandarin|japanese|korean|russian|ukrainian|bulgarian"
    "|serbian|greek|hebrew|arabic|persian|urdu|hindi|bengali|tamil|thai|multilingual|any language",
    re.IGNORECASE,
)
"""Where a prompt says in which language the answer is to be."""
_STYLES = (
    *("everyday", "plain", "simple", "formal", "informal", "clear", "spoken", "colloquial", "casual", "natural"),
    *("technical", "figurative", "vivid", "neutral", "same", "einfache", "einfacher"),
)
_OF_STYLE = "".join(f"(?<!{word} )" for word in _STYLES)
"""Language that is no language: `in everyday language`, and that of the sentence."""
_NAMES_ONE_IN_LATIN = re.compile(
    "english|englisch|inglés|anglais|german|deutsch|allemand|french|französisch|français|spanish|spanisch|español|espagnol"
    r"|italian|portugu|dutch|niederländ|swedish|danish|norwegian|polish(?!\s+(?:the|this|it|up|your|my|an?)\b)|czech|turkish|romanian|finnish|hungarian|indonesian"
    rf"|vietnamese|{_OF_STYLE}language|(?<!alltags)(?<!umgangs){_OF_STYLE}sprache|langue|idioma|lingua",
    re.IGNORECASE,
)
_NAMES_ENGLISH = re.compile(
    r"(?:(?:langue|lengua|idioma|lingua)\s+)?(?:englisch\w*|english|ingl[eéê]s\w*|anglais\w*)(?:\s+(?:language|sprache)\b)?",
    re.IGNORECASE,
)

_JOINT = re.compile(r"[;:/]\s+|\s[-–—]{1,2}\s|\bor\b", re.IGNORECASE)
_LINK = r"""(?:\s{0,9}(?:[:;–—/|=→]|\.{2,9})|\s{1,9}[^\w\s"'“”‘’(),.!?]{1,3}(?=\s)
    |,?\s(?:meaning|which\ (?:means|is\ to\ say)|that\ is|i\.e|in\ other\ words|alternatively|vs)\b
    |,\s(?:or|and|but|while|aka)\b|\s(?:becomes|means|equals)\b)"""
_LINKED_BEHIND = re.compile(rf"""[.!?"”')]{{0,4}}{_LINK}""", re.VERBOSE)
_LINKED_BEFORE = re.compile(rf"""{_LINK}[\s"“'(,:]{{0,9}}\Z""", re.VERBOSE)
"""What joins two versions of one sentence in a text."""
_INSTEAD = re.compile(r"\A\W*(?:instead of|rather than)\s", re.IGNORECASE)
_END = re.compile(r"[.!?…][\"”)]{0,9}\s+")
_MARGIN, LONGEST = 100, 20_000
_ASIDE, _VERDICT = 12, 6
_ENGLISH = re.compile(r"\b(?:the|is|are|was|were|has|of|and|an?)\b", re.IGNORECASE)
_CONTENT = re.compile(
    r"\b(?!(?:the|and|are|was|you|has|had|his|her|its|for|not|but|can|our|who|how|all|out|any|she|him|now|let|that|this|with)"
    r"\b)[^\W\d_]{3,}|\d+"
)
_PERSON = re.compile(r"\b(?:I|[Yy]ou(?:rs?)?|[Mm][ey]|[Ww]e|us|[Oo]ur|[Pp]lease)\b")
_SMALL_I = re.compile(r"\b(?:i|US)\b")
_OPINES = re.compile(
    r"\W*(?:I(?:['’]\w+)? (?:\w+ )?(?:think|believe|guess|assume|understand|suppose|see|would say)"
    r"|In my (?:opinion|view)"
    r"|We (?:can|could) (?:say|infer|conclude))\b"
)
_ASKS_BACK = re.compile(r"\byou(?:rs?)?\b[^?]*\?[\"”]?\Z", re.IGNORECASE)
_OF_THE_JOB = re.compile(
    r"\b(?:sentences?|statements?|premise|hypothesis|claims?|context|request|content|filter\w*|polic(?:y|ies)|output|response"
    r"|edits?|rewrite|rewritten|contradict\w*|meaning|server|information|connection|opposites?|original|provided)\b",
    re.IGNORECASE,
)
_POINTED = re.compile(r"\b(?:yes|no|that|this|it|both|these)\b", re.IGNORECASE)
_POINTS = re.compile(rf"\W*{_POINTED.pattern}", re.IGNORECASE)
_GOES_ON = re.compile(
    r"\s(?:an?|which|of|from|into|onto|who|whose|with|than|if|or|and then|because of|(?<!\bit )is|(?<!they )are"
    r"|(?<!\ba )while|(?<!day )(?<!ever )(?<!soon )(?<!look )after|(?<!like )that)\Z"
)
_STRANDED = re.compile(
    r"\b(?:at|for|to|as|by|toward|towards|through|about)\Z(?<!\bin for)(?<!\bas for)(?<!near by)(?<!close by)"
    r"|\s(?:between|during|until|upon|among|against|without|despite)\Z(?<!in between)(?<!far between)",
)
_PARTICLE = re.compile(
    r"\b(?!(?:look|watch|go|c[ao]m|carr|put|turn|mov|keep|hold|set|log|break|jump|dig|fill|giv|check|get|got|let|tak|tried)\w*\s)"
    r"(?!(?:clothes|glasses|hats?|coats?|shirts?|dress|masks?|helmets?|shoes|paint|lights?|tv|radio|power|engine)\s)"
    r"(?!(?:on|in|back|early|later|so|him|her|it|them|me|us)\s)"
    r"(?<!lights )(?<!light )(?<!lamp )(?<!tv )(?<!radio )(?<!power )(?<!engine )(?<!game )(?<!show )(?<!party )"
    r"(?<!race )\w+\s(?:on|in)\Z"
    r"|\s(?:no|very|every|these|those|(?<!guess )(?<!so )(?<!know )(?<!say )what)\Z",
    re.IGNORECASE,
)
"""`On` or `in` behind a word that neither is worn nor goes with it, and other words behind which a sentence goes on."""
_MAY_STRAND = re.compile(
    r"\b(?:that|which|who\w*|what\w*|where|how|than)\b|\w (?:he|she|it|they|we|you|I) (?:\w+ ){1,2}\w+\Z|\bto \w+ \w+\Z"
    r"|\b(?:is|are|was|were|be|been|being|gets?|got) (?:\w+ )?\w+(?:ed|nt|ght) (?:at|for|to|about)\Z"
    r"|\b(?:want|like|need|ha[sdv]e?|going|used|love|tr)\w* to\Z"
    r"|\b(?:passe[ds]|drove|went|goes|go|walk\w*|stand\w*) (?:by|through|without)\Z"
)
_OPEN_CLAUSE = re.compile(
    r"\b(?:on|in|with|at|by|near|under|behind|into|onto|using|holding) (?:his|our)\Z"
    r"|\b(?:where|when|while|because|although|since|before|after) (?:he|she|it|they|we)\Z"
)
"""A possessive, or the subject of a clause, that nothing follows."""
_AUXILIARY = re.compile(
    r"\s(?:will|would|could|should|must|has|have|had|was|were|be|been|being)\Z"
    r"(?<!at will)(?<!free will)(?<!good will)(?<!own will)(?<!the will)"
    r"(?<!a will)(?<!his will)(?<!her will)(?<!a must)"
)
_MAY_REST = re.compile(
    r"\b(?:tha[nt]|as|which|wh\w+|how|always|never|too|also|but|and|if|like|so|more|less|ever|to|human|all|they|it|can|may"
    r"|might|not|well)\b"
)
"""What lets a sentence end in a preposition, or in an auxiliary: relative clauses, passives, comparisons, ellipses."""
_DOTS = re.compile(r"\s?(?:\.{3}|…)\Z")
_INFLECTION = re.compile(
    r"(?:e?[sdnr]|e?st|i?ng?|ings?|i?ons?|ly|y|al|ies|ied|i?ers?|ful|less|ness|able|ment|way|man|men)s?"
)
_OF_SIGNS = frozenset({"LATIN", "MODIFIER", "FULLWIDTH", "MATHEMATICAL", "IDEOGRAPHIC"})
_HAN = re.compile("[\u3400-\u9fff]")
_LONG_HAN = 8
"""Chinese characters from which on a Japanese sentence has kana, too."""
_OF_JAPANESE = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})


def fault_of(
    text: str,
    source: str = "",
    *,
    prompt: str = "",
    examples: Collection[str] = (),
    labels: Collection[str] = (),
    min_words: int = 1,
    is_rewrite: bool = False,
) -> Reason | None:
    """Why a text is none to be stored; what the source sentence has as well is no fault.

    What is a rewrite of its source has its topic; see `is_aside`.

    Example:
        >>> fault_of("A man plays.<unused7>"), fault_of("The <b> tag is old.", "What is the <b> tag?")
        ('control token', None)
    """
    if len(text) > LONGEST:
        return "too long"
    words, given = normal_form(text), normal_form(source)
    if _is_labelled(text, source):
        return "label"
    if is_refusal(text) and not is_refusal(source):
        return "refusal"
    if _is_in_another_script(text, source, prompt):
        return "another script"
    if any(label.casefold() in text.casefold() and label not in source for label in filter(is_label, labels)):
        return "label"
    if _is_in_another_language(text, source, prompt):
        return "another language"
    if reason := _fault_by((*FAULTS, *foreign.FAULTS), text, source):
        return reason
    if not words:
        return "empty"
    if not has_paired_marks(text) and has_paired_marks(source):
        return "unmatched quotation mark"
    is_within = given and f" {given} " in f" {words} "
    if words == given or (is_within and given in map(normal_form, _ends_of(text, 2 * len(source) + _MARGIN))):
        return "echo"
    if repeats(text, [prompt], source):
        return "echo of the prompt"
    if repeats(text, examples, source, longest=_LIKE_AN_EXAMPLE):
        return "copy of an example"
    if reason := _fault_by(TALK, text, source):
        return reason
    is_joined = count_words(text) == 1 and count_words(words) > _SHORT  # A-man-plays-a-flute
    if (count_words(words) == 1 or is_joined) and count_words(given) > _SHORT:
        return "no answer"
    if is_rewrite and is_aside(text, source) and not _NAMES_A_LANGUAGE.search(_asked(prompt, source)):
        return "talk"
    if _stops(text, source):
        return "cut off"
    if is_beside_its_source(text, source) or (_has_variants(text) and not _has_variants(source)):
        return "several answers"
    if count_sentences(text) > max(1, count_sentences(source)) and _is_for_a_sentence(prompt, source):
        return "several sentences"
    return "too few words" if count_words(words) < min_words else None


def is_aside(text: str, source: str) -> bool:
    """Whether a text is no rewrite of its source but addresses someone, judges, or is about the job.

    A short one that shares no word with its source and has a person, or a noun of the job, that the source has not; few
    words where the source has many; a question back; an opinion on what is told of nobody in particular.

    Example:
        >>> is_aside("You must be tired.", "The bus was late."), is_aside("I missed the bus.", "The bus was late.")
        (True, False)
        >>> is_aside("My train was late.", "Our train was late."), is_aside("They had to wait.", "The bus was late.")
        (False, False)
    """
    number = count_words(text)
    if not _ENGLISH.search(source):
        return False
    is_told_of_nobody = not _PERSON.search(source) and not _SMALL_I.search(source)
    if is_told_of_nobody and (_OPINES.match(text) or ("?" not in source and _ASKS_BACK.search(text))):
        return True
    if number > _ASIDE or _content(text) & _content(source):
        return False
    return bool(
        (is_told_of_nobody and _PERSON.search(text))
        or (number <= _FEW and count_words(source) >= 2 * _FEW)
        or (number <= _VERDICT and _POINTS.match(text) and not _POINTED.search(source))
        or (number <= 2 * _FEW and _OF_THE_JOB.search(text) and not _OF_THE_JOB.search(source))
    )


def is_beside_its_source(text: str, source: str) -> bool:
    """Whether a text begins or ends with its source, word for word, linked to about as many words again.

    Example:
        >>> is_beside_its_source("The bus was late, and it came late.", "The bus was late.")
        True
        >>> is_beside_its_source("The bus was late for the third time.", "The bus was late.")
        False
    """
    own = count_words(normal_form(source))
    if own < _SHORT:
        return False
    behind, before = beside(_INSTEAD.sub("", text), source)
    least = max(_SHORT, _AS_LONG * own)
    return (
        count_words(normal_form(behind)) >= least and bool(_LINKED_BEHIND.match(behind) or _INSTEAD.match(text))
    ) or (count_words(normal_form(before)) >= least and _LINKED_BEFORE.search(before) is not None)


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
    return (REFUSAL.match(bare) or REFUSAL_INSIDE.search(bare) or foreign.REFUSAL.match(bare)) is not None


def is_label(label: str) -> bool:
    """Whether what stands before a sentence in a prompt can be told from the sentence's first word."""
    return not label[-1:].isalnum() and normal_form(label) != ""


def _content(text: str) -> set[str]:
    """The stems of a text's words but the smallest, and its numbers."""
    return {word[:_STEM] for word in _CONTENT.findall(text.casefold())}


def _stops(text: str, source: str) -> bool:
    """Whether a text stops, without a mark, at a word that goes on or in one of its source, a sentence with a mark."""
    end = text[-_MARGIN:]
    if re.search(r"\w-\Z", end):
        return True
    if _DOTS.search(end) and not re.search(r"\.{3}|…", source):
        end = _DOTS.sub("", end)
        if goes_on(end, source) or re.search(r"\s(?!I\Z)[^\W\d_]\Z", end):
            return True
    if not (end[-1:].isalpha() and source.lstrip("¿¡\"“«'")[:1].isupper() and re.search(r"[.!?][\"”’)]*\Z", source)):
        return False
    last = re.findall(r"\w+", end)[-1].casefold()
    if normal_form(source).split()[-1:] == [last]:
        return False
    is_left = (_STRANDED.search(end) or _PARTICLE.search(end)) and not _MAY_STRAND.search(end)
    is_bare = _AUXILIARY.search(end) and not _MAY_REST.search(end)
    if is_left or is_bare or goes_on(end, source):
        return True
    return bool(_GOES_ON.search(end) or _OPEN_CLAUSE.search(end)) or (
        text[:1].isupper() and _is_broken(last, source.casefold())
    )


def _is_broken(word: str, source: str) -> bool:
    """Whether a word is the beginning of one of the source and not another form of it: `depos` of `deposit`."""
    words = re.findall(r"\w+", source)
    rests = [one[len(word) :] for one in words if one.startswith(word)]
    forms = [*rests, *(rest.removeprefix(word[-1]) for rest in rests)]  # hit, hitting
    return len(word) >= _SHORT and bool(rests) and "" not in rests and not any(map(_INFLECTION.fullmatch, forms))


def _is_for_a_sentence(prompt: str, source: str) -> bool:
    """Whether one sentence is asked for, and not a longer text; so it is taken to be where there is no prompt."""
    prompt = _asked(prompt, source)
    return not prompt or _asks_for_a_sentence(prompt)


def _asks_for_a_sentence(prompt: str) -> bool:
    return bool(_OF_A_SENTENCE.search(prompt)) and not _OF_A_TEXT.search(prompt)


def warn_of_passages(prompts: Iterable[str], texts: Sequence[str]) -> None:
    """Says in the log where many of the texts to write for are passages, and all prompts ask for a sentence."""
    if len(texts) < _ENOUGH or not all(map(_asks_for_a_sentence, prompts)):
        return
    sample = texts[:_LOOKED_AT]
    passages = [text for text in sample if count_sentences(text) >= _PASSAGE]
    if len(passages) > _MUCH * len(sample):
        logger.warning(
            "%d of %d texts have %d sentences or more, such as %r, and a model is asked for one sentence to each, "
            "which cannot mean the same; give a sentence a line, or word the instructions for paragraphs",
            len(passages),
            len(sample),
            _PASSAGE,
            printable(passages[0][:_SHOWN]),
        )


def _is_labelled(text: str, source: str) -> bool:
    """Whether a text begins with a label in whatever language; a topic of the source, as headlines have it, is none."""
    found = LABELLED.match(text) or LABELLED_SMALL.match(text) or foreign.ANNOUNCED.match(text)
    if found is None or set(":：") & set(source):
        return False
    head, stems = normal_form(found[0]).split(), {word[:_STEM] for word in normal_form(source).split()}
    return len(head) > 2 or not any(len(word) >= _STEM and word[:_STEM] in stems for word in head)


def _is_own_number(text: str, source: str) -> bool:
    """Whether what looks like the number of a list is the source's: the number itself, its month, an initial's name."""
    first, second = [*text.split(), "", ""][:2]
    name = second.strip(".,")
    is_named = name[:1].isupper() and name in {word.strip(".,") for word in source.split()[1:]}
    is_number = bool(re.search(r"\d|\W", first)) and first in source.split()
    return is_number or (is_named and bool(re.match(rf"[A-Z]\.|{MAY_BE_ORDINAL}", text)))


def _is_in_another_script(text: str, source: str, prompt: str) -> bool:
    """Whether a text has a script that neither its source nor the prompt has, or is in Latin where these are not.

    Chinese and Japanese are told apart by kana. A prompt that names a language may ask for any.
    """
    asked = _asked(prompt, source)
    if not (source or prompt) or _NAMES_A_LANGUAGE.search(asked):
        return False
    own, found, of_prompt = _scripts(source, every=True), _scripts(text), _scripts(asked, every=True)
    is_in_latin = not found and re.search("[a-z]{2}", text) is not None
    is_own = not is_latin(source) or bool(own & of_prompt)
    is_own &= not _NAMES_ONE_IN_LATIN.search(asked)
    has_kana, is_chinese = ([bool(test(each)) for each in (source, text)] for test in (KANA.search, _is_chinese))
    is_mixed = (has_kana[0] and is_chinese[1]) or (is_chinese[0] and has_kana[1] and not KANA.search(asked))
    return bool(found - own - of_prompt) or (is_in_latin and is_own) or is_mixed


def _is_chinese(text: str) -> bool:
    return len(_HAN.findall(text)) >= _LONG_HAN and not KANA.search(text)


def _is_in_another_language(text: str, source: str, prompt: str) -> bool:
    """Whether a text and its source, or without one the prompt, are in two languages, and the prompt names no other.

    What names English alone asks for English.
    """
    asked = _asked(prompt, source)
    others = _NAMES_ENGLISH.sub(" ", asked)
    if _NAMES_A_LANGUAGE.search(others) or _NAMES_ONE_IN_LATIN.search(others):
        return False
    return is_in_another_language(text, source or prompt, asked, asks_for_english=others != asked)


def _asked(prompt: str, source: str) -> str:
    """A prompt without its sentence, though blanks and marks in it are others."""
    if not source:
        return prompt
    if source in prompt:
        return prompt.replace(source, " ")
    words, own = f" {normal_form(prompt)} ", f" {normal_form(source)} "
    return words.replace(own, " ") if own.strip() and own in words else prompt


def _scripts(text: str, *, every: bool = False) -> set[str]:
    """The scripts of a text's letters but Latin; others than these, such as Greek, where most letters are theirs."""
    letters = [
        unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter > "\u024f" and letter.isalpha()
    ]
    most = 0 if every or not letters else sum(map(str.isalpha, text)) / 2
    found = Counter("CJK" if name in _OF_JAPANESE else name for name in letters)
    return {name for name, number in found.items() if name in _SCRIPTS or (number > most and name not in _OF_SIGNS)}


def _fault_by(rules: Iterable[Rule], text: str, source: str) -> Reason | None:
    """The reason of the first rule that a text breaks, while its source does not and is about something else.

    Talk in the words of its source alone, as `The second sentence` may be where that has them, is none.
    """
    for rule in rules:
        if (
            rule.pattern.search(text)
            and not (rule.unless and rule.unless.search(source))
            and not (rule.reason == "numbering" and _is_own_number(text, source))
        ):
            own = set(_marks(rule.pattern, source))
            given = set(normal_form(source).split()) if rule.reason == "talk" else set()
            for mark in _marks(rule.pattern, text):
                if mark not in own and not (given and given.issuperset(normal_form(mark).split() or [""])):
                    return rule.reason
    return None


def _has_variants(text: str) -> bool:
    """Whether a text says the same twice: two of its parts have most of their words in common, or its halves all.

    Example:
        >>> _has_variants("A hound dozes under it; a hound sleeps under it."), _has_variants("Cold; she left.")
        (True, False)
    """
    parts = [normal_form(part).split() for part in _JOINT.split(text)]
    words = normal_form(text).split()
    half = len(words) // 2
    return (half >= _FEW and words[:half] == words[half:]) or any(
        min(len(one), len(other)) >= _FEW and len({*one} & {*other}) >= _ALIKE * max(len({*one}), len({*other}))
        for one, other in pairwise(parts)
    )


def _marks(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """What a pattern finds in a text, one after the other, whatever the case and the numbers."""
    return (re.sub(r"\d+", "0", found[0].casefold()) for found in pattern.finditer(text))


def has_paired_marks(text: str) -> bool:
    """Whether every double quotation mark that opens is closed, and no other stands inside; inches have no pair.

    The mark behind a number is taken for inches only where the marks have no pairs with it.

    Examples:
        >>> has_paired_marks('He sang "route 66" to us.'), has_paired_marks('A 5" nail and a "nut".')
        (True, True)
    """
    return _is_paired(text) or _is_paired(_INCHES.sub("", text))


def _is_paired(text: str) -> bool:
    places = [found.start() for found in re.finditer('"', text)]
    opens = all(not _ends_a_word(text[place - 1 : place]) for place in places[::2] if place)
    closes = all(not text[place + 1 : place + 2].isalnum() for place in places[1::2])
    is_even = all(text.count(pair[0]) == text.count(pair[1]) for pair in _BRACKETS)
    is_curly = "„" in text or text.count("“") == text.count("”")
    return len(places) % 2 == 0 and opens and closes and is_even and is_curly


def _ends_a_word(character: str) -> bool:
    return character.isalnum() or character in ".,;!?"


def _ends_of(text: str, longest: int) -> Iterator[str]:
    """What stands before, and what stands behind, ends of sentences inside a text, where that is not too long."""
    for found in _END.finditer(text, 0, longest):
        yield text[: found.end()]
    for found in _END.finditer(text, max(0, len(text) - longest)):
        yield text[found.end() :]
