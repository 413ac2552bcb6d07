"""Whether a text is in Latin script, and in another language than its sentence.

In Latin script small words tell, of which sentences are seldom without any; in others, signs that only one has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        """the and with from this that these those there it its she they them their he his him you your are were been
        being have had did does would could should which what when where who whose how but because not than after before
        about into never nothing something someone everyone doesn didn isn wasn aren weren couldn wouldn hasn haven
        nobody everybody somebody people some any every each only many always again""",
    )
)
_ALSO_ENGLISH = frozenset(
    re.findall(
        r"\w+",
        "a an in on of to by at for as is was has be or no so do me we i my will can if over under up out all one",
    )
)
"""Small words of English that stand in other languages, too."""
_LANGUAGES = {
    "German": (
        "das der dem den und ist ein eine einen einem einer eines nicht mit auf für zu zum zur sich sie "
        "wird wurde wurden nach von vom aber auch",
        "er ich wir",
        "der den dem des die einen einem einer eine und oder aber weil dass ob für gegen ohne seit "
        "zwischen während bis zum zur im am vom beim ins ans",
    ),
    "French": (
        "les une des est dans pour qui que pas avec elle cette ses leur aux été",
        "l la le les un une elle ils nous",
        "à au aux de du le la les un une et ou mais que qui dans par pour avec sans vers chez entre depuis "
        "pendant ce cet cette ces mon ton ses leur nos vos notre votre sont ont",
    ),
    "Spanish": (
        "el los las una uno con para por fue está lo del pero y",
        "el la lo los las un una ella",
        "el los las una unos unas de del al en con para por sobre desde hasta hacia y o e pero que su sus mi tu han",
    ),
    "Italian": (
        "il gli è che sono della dello degli delle nel nella dopo ha ho",
        "il la le lo l gli un una",
        "il i gli uno di da e o per tra fra dello della dei degli delle allo alla ai agli alle dal dalla nel "
        "nella nei nelle sul sulla ma che",
    ),
    "Portuguese": (
        "os um uma com não em depois foi ao pela pelo dos das",
        "uma ele ela",
        "os as um uma do da de dos das em no na nos nas ao aos às com pelo pela para por sem sob e o que seu sua mas",
    ),
    "Dutch": (
        "het een niet voor zijn hij zij wordt werd naar heeft gaat aan om ook maar",
        "de het een hij zij",
        "de die een en van tegen zonder tussen tijdens sinds maar omdat",
    ),
    "Swedish": ("ett och är på som inte att efter", "", ""),
    "Danish or Norwegian": ("på som efter etter ikke til", "", ""),
    "Polish": ("się jest nie że oraz dla", "", ""),
    "Czech": ("je jsou ale", "", ""),
    "Turkish": ("bir için sonra ile", "", ""),
    "Indonesian": ("yang itu setelah tidak dengan untuk pada", "", ""),
    "Romanian": ("și că nu este după cu", "", ""),
    "Finnish": ("ja oli että", "", ""),
    "Hungarian": ("hogy egy és nem", "", ""),
}
"""Small words of other languages: those that English has not, articles and pronouns that begin a sentence, and
prepositions, articles, conjunctions and auxiliaries behind which one goes on."""

_IN_COMPANY = {
    "Swedish": "det med av har jag ska vid en",
    "Danish or Norwegian": "og det med af har jeg hva hvad skal ved en",
    "Polish": "sie są na przez przed jego po",
    "Croatian": "je su nije koji koja na se što da za od",
    "Indonesian": "dari ini sedang seorang sebuah di ke adalah atas apa saya anak",
    "Tagalog": "ang ng mga sa ay nang ko siya kanyang isang nito hindi niya",
    "Swahili": "ya wa kwa ni katika na kwenye juu za yake wake huyo",
    "Hindi in Latin letters": "hai hain ka ki ke ko mein aur nahi nahin raha rahi rahe par kar tha thi ek kya mujhe",
}
"""More small words, each of which may be one of English or a name; two of them tell a language."""

_OF_OTHERS, _OPENERS, _LINKS = (
    frozenset(word for kinds in _LANGUAGES.values() for word in kinds[kind].split()) for kind in range(3)
)
_WEAK = frozenset(" ".join(_IN_COMPANY.values()).split()) - _OF_OTHERS
_OF_EACH = {language: frozenset(" ".join(kinds).split()) for language, kinds in _LANGUAGES.items()}
_OF_NOUNS = frozenset(re.findall(r"\w+", "der das ein eine die"))
"""Of what begins a sentence, that of German stands before a capital."""
_IN_NAMES = frozenset(re.findall(r"\w+", "la de en un su al es le se te da di du van von til af et er il"))
"""More of them, which stand in names, too; a sentence that has one may be English or not."""
_SURE = _ENGLISH - frozenset(re.findall(r"\w+", "and but been had have he her him how not were"))
"""Small words of English that are no words of the others at all."""
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
KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
"""The letters of Japanese, which Chinese has not."""
_FEW, _LONG, _EVERY, _AHEAD = 2, 4, 3, 2
_AHEAD_IN_ALL, _SHARE_AHEAD = 10, 0.2
"""Small words by which the language of many texts is ahead of that of their sentences, and the share that is beyond."""
_WORD = re.compile(r"[^\W\d_]+")
_CLAUSE = re.compile(r"[,;:.!?()\[\]/|\"“”«»]+\s*|\s[-–—]+\s")
_ACCENTED = re.compile("[\u00df-\u024f\u1e00-\u1eff]")
_NOT_OF_LOANS = re.compile("[äöüßåøæőűłńśźżčšřěąęğı]")
"""Letters that English seldom has in words that it took from others, as it has those of `café`."""
_ING = re.compile("[a-z]{2,}[^aeiou]ing")


def is_in_another_language(text: str, source: str, instruction: str = "", *, asks_for_english: bool = False) -> bool:
    """Whether a text, or a clause of it, and its source are in two languages; in doubt they are in one.

    A source of few words without a sign of another language is taken for English where its instruction is, or where
    that asks for English; English is then no other language than its source's.

    Example:
        >>> is_in_another_language("Das Hotel behielt das Geld.", "The hotel kept the money.")
        True
        >>> is_in_another_language("Los Angeles beats El Paso.", "El Paso is beaten by the team of Los Angeles.")
        False
    """
    if _has_other_signs(text.casefold(), source.casefold()):
        return True
    found, given, asked = _Words.of(text), _Words.of(source), _Words.of(instruction)
    is_taken_for_english = asks_for_english or (given.shared and asked.are_english())
    clauses = [_Words.of(clause) for clause in _CLAUSE.split(text) if clause.strip().count(" ") >= _LONG]
    if given.are_english() or (not given.strange and not given.opener and is_taken_for_english):
        return found.are_of_others(given.all) or any(clause.are_of_others(given.all) for clause in clauses)
    has_some = len(found.english | found.shared) >= min(_FEW, len(found.all) // _EVERY)
    is_english = len(found.english) >= _FEW or (has_some and bool(found.sure - given.all))
    is_in_english = (is_english and not found.others - given.all) or any(
        len(clause.sure - given.all) >= _FEW and not clause.others for clause in clauses
    )
    if is_in_english and not asks_for_english and given.are_of_others(frozenset()):
        return True
    return not found.sure and not given.sure and found.are_told_apart(given)


def _has_other_signs(text: str, source: str) -> bool:
    """Whether a text has signs that its sentence's language has not, which that shows by its own; Japanese has both."""
    return not KANA.search(text + source) and any(
        not own.isdisjoint(source) and own.isdisjoint(text) and other.isdisjoint(source) and not other.isdisjoint(text)
        for pair in _SIGNS
        for own, other in (pair, pair[::-1])
    )


def languages_of(texts: Iterable[str], sources: Iterable[str]) -> tuple[str, str] | None:
    """The languages of many texts and of their sentences, where small words tell two, none of which is English.

    Texts of languages that are as near as Spanish and Portuguese show it together, each of them seldom.
    """
    if (its := _small_words(sources)) is None or (own := _small_words(texts)) is None:
        return None
    return _two_languages(own, its, _AHEAD_IN_ALL, _SHARE_AHEAD)


def _small_words(texts: Iterable[str]) -> Counter[str] | None:
    """How many small words of each language texts have; None where half as many are of English alone."""
    languages, english = Counter[str](), 0
    for words in map(_Words.of, texts):
        languages.update(words.languages)
        english += len(words.english)
    return None if 2 * english >= max(languages.values(), default=0) else languages


def _two_languages(own: Counter[str], its: Counter[str], ahead: int, share: float = 0.0) -> tuple[str, str] | None:
    """The languages that two counts of small words have most of, if they are others, and each well ahead in its own."""
    first = max(sorted(own), key=lambda each: (own[each], its[each]))
    second = max(sorted(its), key=lambda each: (its[each], own[each]))
    lead = (own[first] - own[second] - share * own[first], its[second] - its[first] - share * its[second])
    return (first, second) if min(lead) >= ahead else None


def is_latin(text: str) -> bool:
    """Whether half of a text's letters or more are Latin; so it is where there are none.

    Example:
        >>> is_latin("Пять USB-кабелей"), is_latin("Năm cáp USB")
        (False, True)
    """
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(letter < "\u0250" or "\u1e00" <= letter <= "\u1eff" for letter in letters) >= len(letters)


def goes_on(text: str) -> bool:
    """Whether the last word of a text that is not English is one behind which a sentence goes on.

    Example:
        >>> goes_on("A chave da"), goes_on("A chave"), goes_on("Many of them die")
        (True, False, False)
    """
    words = _WORD.findall(text)
    return bool(words) and words[-1].casefold() in _LINKS and not _Words.of(text).sure


class _Words(NamedTuple):
    """The words of a text, in small letters, and which of them tell its language."""

    all: frozenset[str]
    english: frozenset[str]
    shared: frozenset[str]
    others: frozenset[str]
    weak: frozenset[str]  # those that tell another language together
    sure: frozenset[str]  # those of English that no other language has
    opener: str  # the article or pronoun of another language that begins them
    languages: Counter[str]  # how many of them each other language has

    @classmethod
    def of(cls, text: str) -> _Words:
        """Names tell nothing: what has a capital counts at the beginning alone, where no capital follows."""
        words = _WORD.findall(text)
        first, second, third = [*words[:3], "", "", ""][:3]
        openers = _OPENERS if second.islower() else _OF_NOUNS
        opener = first.casefold() if third and (third.islower() or second.islower()) else ""
        if second.islower():
            words[0] = words[0].casefold()
        whole = frozenset(word.casefold() for word in words)
        others = {word for word in words if word in _OF_OTHERS or (_ACCENTED.search(word) and not word[:1].isupper())}
        return cls(
            whole,
            whole & _ENGLISH,
            whole & _ALSO_ENGLISH,
            frozenset(others),
            _WEAK.intersection(words),
            _SURE.intersection(words),
            opener if opener in openers and (first[1:].islower() or not first[1:]) else "",
            Counter({language: len(small.intersection(words)) for language, small in _OF_EACH.items()}),
        )

    @property
    def strange(self) -> frozenset[str]:
        """What may be of another language."""
        return self.others | (self.all & _IN_NAMES)

    def are_english(self) -> bool:
        """Whether these are English words: more such than of others, or nothing else, though few are English alone."""
        small = self.english | self.shared
        if self.english:
            return len(small) > len(self.others)
        return not self.strange and (len(small) >= _FEW or any(map(_ING.fullmatch, self.all)))

    def are_of_others(self, own: frozenset[str]) -> bool:
        """Whether these are no English words, but those of other languages, beside the sentence's own."""
        if self.opener and self.opener not in own and not self.english:
            return len((self.strange | {self.opener}) - own) >= len(self.shared)
        signs = len((self.others | self.weak) - own)
        strange = self.others - own
        is_telling = len(self.all) >= _LONG or any(map(_NOT_OF_LOANS.search, strange))
        is_sure = signs >= _FEW or (bool(strange) and is_telling and not self.shared)
        return not self.english and signs > len(self.shared) and is_sure

    def are_told_apart(self, other: _Words) -> bool:
        """Whether the language that most of these are of is not that of the others, in which either is well ahead."""
        return bool(_two_languages(self.languages, other.languages, _AHEAD))
