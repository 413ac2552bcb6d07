"""In which language a text is, and whether that is another one than its sentence's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from itertools import islice
from typing import Any

KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
"""The letters of Japanese, which Chinese has not."""
_SIGNS = (
    (frozenset("іїєґ"), frozenset("ыэёъ")),  # Ukrainian and Russian; Belarusian has signs of both
    (
        frozenset(
            "們這說對發過還從見長開樣經東車門問間關電話書買賣讓給應該實現頭馬鳥魚嗎誰請認識讀飛飯館錢歲熱愛錯處漢鄰師鐘邊樓湯雞鑰燈紅藍綠銀網學會國來個時"
        ),
        frozenset(
            "们这说对发过还从见长开样经东车门问间关电话书买卖让给应该实现头马鸟鱼吗谁请认识读飞饭馆钱岁热爱错处汉邻师钟边楼汤鸡钥灯红蓝绿银网学会国来个时"
        ),
    ),  # traditional and simplified Chinese
)
"""Letters and signs of two languages in one script, of which each has some that the other never has."""
_LINKS = {
    language: frozenset(words.split())
    for language, words in {
        "de": "der den dem des die einen einem einer eine und oder aber weil dass ob für gegen ohne seit "
        "zwischen während bis zum zur im am vom beim ins ans",
        "fr": "à au aux de du le la les un une et ou mais que qui dans par pour avec sans vers chez entre depuis "
        "pendant ce cet cette ces mon ton ses leur nos vos notre votre sont ont",
        "es": "el los las una unos unas de del al en con para por sobre desde hasta hacia y o e pero "
        "que su sus mi tu han",
        "it": "il i gli uno di da e o per tra fra dello della dei degli delle allo alla ai agli alle dal dalla nel "
        "nella nei nelle sul sulla ma che",
        "pt": "os as um uma do da de dos das em no na nos nas ao aos às com pelo pela para por sem sob e "
        "o que seu sua mas",
        "nl": "de die een en van tegen zonder tussen tijdens sinds maar omdat",
    }.items()
}
"""Prepositions, articles, conjunctions and auxiliaries of six languages, behind which a sentence goes on."""
_NONE = frozenset({"zxx", "pcm"})
"""Labels of the identifier for what is no language, and for an English that is not written in schools."""
_FEW, _LONG = 2, 5
_ALIKE, _ALIKE_IN_PART = 0.01, 0.001
"""The probability of one language below which two texts are taken for ones of two, and that for a part of a text."""
_UNLIKE_ENGLISH = 0.07
"""How likely English is beside the likeliest language where a text without a small word of English is none."""
_FLOOR = 0.1
"""What a language has that the instruction is not in, beside the one that it is in."""
_OF_OTHERS = frozenset(
    re.findall(
        r"\w+",
        """a also am amid an as at bill by can co con de do due even fire for go has he her hers i in is it la me mine
        no of on or over per see she sincere so to un under us via we""",
    )
)
"""Stop words of English that are words of other languages, too, or stand in names."""
_TELLING = 100.0
"""How much likelier English becomes by a small word of its own."""
_POOLED = 500
"""Texts that tell their language together, at most."""
_WORD = re.compile(r"[^\W\d_]+")
_CLAUSE = re.compile(r"[,;:.!?()\[\]/|\"“”«»]+\s*|\s[-–—]+\s")


def is_in_another_language(text: str, source: str, instruction: str = "", *, asks_for_english: bool = False) -> bool:
    """Whether a text, or a clause of it, and its source are in two languages; in doubt they are in one.

    A source of few words, which may be of several languages, is rather of the one that its instruction is in. Where
    that asks for English, a text may be English whatever its source is.

    Example:
        >>> is_in_another_language("Das Hotel behielt das Geld.", "The hotel kept the money.")
        True
        >>> is_in_another_language("Los Angeles beats El Paso.", "El Paso is beaten by the team of Los Angeles.")
        False
    """
    if _has_other_signs(text.casefold(), source.casefold()):
        return True
    if is_latin(text) != is_latin(source) or min(_number_of_words(text), _number_of_words(source)) < _FEW:
        return False
    its = _expected(source, instruction)
    parts = (text, _without_names_of(source, text))
    if its["en"] > 0.5 and all(map(_is_unlike_english, parts)):
        return True
    if asks_for_english:
        its["en"] = 1.0
    clauses = (clause for clause in _CLAUSE.split(text) if _number_of_words(clause) >= _LONG and clause not in source)
    return all(_alike(_probabilities(part), its) < _ALIKE for part in parts) or any(
        _alike(_probabilities(clause), its) < _ALIKE_IN_PART for clause in clauses
    )


def languages_of(texts: Iterable[str], sources: Iterable[str]) -> tuple[str, str] | None:
    """The names of the languages that many texts and their sentences are in, where these are two.

    Texts of languages that are as near as Spanish and Portuguese show it together, each of them seldom.
    """
    own, its = (" ".join(islice(each, _POOLED)) for each in (texts, sources))
    if not own or _alike(_probabilities(own), _probabilities(its)) >= _ALIKE_IN_PART:
        return None
    first, second = (max(found, key=found.__getitem__) for found in map(_probabilities, (own, its)))
    return _name(first), _name(second)


def is_latin(text: str) -> bool:
    """Whether half of a text's letters or more are Latin; so it is where there are none.

    Example:
        >>> is_latin("Пять USB-кабелей"), is_latin("Năm cáp USB")
        (False, True)
    """
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(letter < "\u0250" or "\u1e00" <= letter <= "\u1eff" for letter in letters) >= len(letters)


def goes_on(text: str, source: str) -> bool:
    """Whether the last word of a text is one behind which a sentence in the language of its source goes on.

    Example:
        >>> goes_on("A chave da", "A chave da casa está na mesa."), goes_on("Many of them die", "Many die of it.")
        (True, False)
    """
    words = _WORD.findall(text)
    languages = [language for language, links in _LINKS.items() if words and words[-1].casefold() in links]
    if not languages:
        return False
    found = _probabilities(source)
    return max(found[language] for language in languages) > found["en"]


def _has_other_signs(text: str, source: str) -> bool:
    """Whether a text has signs that its sentence's language has not, which that shows by its own; Japanese has both."""
    return not KANA.search(text + source) and any(
        not own.isdisjoint(source) and own.isdisjoint(text) and other.isdisjoint(source) and not other.isdisjoint(text)
        for pair in _SIGNS
        for own, other in (pair, pair[::-1])
    )


def _without_names_of(source: str, text: str) -> str:
    """A text without its source's words that have a capital or an accent: names and loans tell of no language."""
    own = {word for word in _WORD.findall(source) if not (word.isascii() and word.islower())}
    return _WORD.sub(lambda found: "" if found[0] in own else found[0], text)


def _expected(source: str, instruction: str) -> dict[str, float]:
    """The probabilities of a source's language, of which the instruction tells something, too."""
    its = _probabilities(source)
    if not instruction:
        return dict(its)
    asked = _probabilities(instruction)
    return _normalized({language: share * (asked[language] + _FLOOR) for language, share in its.items()})


def _is_unlike_english(text: str) -> bool:
    """Whether a text has no small word of English and, with or without its first capital, looks like no English."""
    if _has_small_words(text):
        return False
    found = map(_probabilities, (text, text[:1].lower() + text[1:]))
    return any(each["en"] < _UNLIKE_ENGLISH * max(each.values()) for each in found)


def _has_small_words(text: str) -> bool:
    """Whether a text has a small word that is one of English alone, such as `the` or `with`."""
    return not _small_words().isdisjoint(map(str.casefold, _WORD.findall(text)))


@cache
def _small_words() -> frozenset[str]:
    """Small words that are ones of English alone."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS - _OF_OTHERS)


def _number_of_words(text: str) -> int:
    """How many words of two letters or more a text has, each counted once."""
    return len({word for word in map(str.casefold, _WORD.findall(text)) if len(word) > 1})


def _alike(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The probability that two texts are in one language, whichever that is."""
    return sum(share * other[language] for language, share in one.items())


@lru_cache(maxsize=256)
def _probabilities(text: str) -> Mapping[str, float]:
    """The probability of each language, by the identifier's model."""
    found = dict(_identifier().rank(text))
    if _has_small_words(text):
        found["en"] *= _TELLING
    return _normalized(found)


def _normalized(shares: Mapping[str, float]) -> dict[str, float]:
    whole = sum(shares.values())
    return {language: share / whole for language, share in shares.items()}


def _name(code: str) -> str:
    """The English name of a language; its code where mteb has no name."""
    from mteb.languages.iso_mappings import ISO_TO_LANGUAGE

    return str(ISO_TO_LANGUAGE.get(in_three_letters(code), code))


def in_three_letters(code: str) -> str:
    """The ISO 639-3 code, by which mteb goes, of a language with one of two letters; other codes as they are."""
    from mteb.languages import iso_mappings

    return str(iso_mappings._get_iso1_to_iso3().get(code, code))


@cache
def _identifier() -> Any:
    """The identifier, loaded where it is first needed."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(set(identifier.labels) - _NONE)
    return identifier
