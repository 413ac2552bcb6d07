"""Habits of a run: what many of its texts begin and end with, or contain, while their sentences do not.

No table of rules knows all that models say around a sentence. What they say again and again shows by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from dino_st.data.alignment import shared_words, shares_of_strangers, texts_of_others
from dino_st.data.layout import ENDED, cut_at, size_of
from dino_st.support.hashes import keyed_bits
from dino_st.support.languages import is_in_another_language, is_latin, languages_of
from dino_st.support.text import MARKS, UNSPACED, WORD, normal_form, printable, spaced

SAMPLED = 1_000
"""Pairs of a label that are looked at."""

_ENOUGH, _FEW_TEXTS, _TIMES, _MOST = 10, 8, 8, 3
_SHARES = {
    "marks": 0.08,
    "words": 0.15,
    "word": 0.2,
    "head": 0.3,
    "part": 0.1,
    "text": 0.08,
    "cut": 0.1,
    "lack": 0.08,
    "small": 0.05,
    "twice": 0.03,
    "joined": 0.02,
    "bare": 0.05,
    "language": 0.03,
}
"""Of how many of the texts a habit of each kind is one, at least. What right pairs have of all that is told here,
`benchmarks/habits.py` prints."""
_WORDS_OF_ONE, _FEW_SENTENCES, _SHARE_OF_ONE, _SHARE_OF_ALL, _FOREIGN = 4, 5, 0.02, 0.03, 0.1
"""Words of a text, sentences that have it and their share of all pairs, at least, the share of pairs whose texts stand
for several sentences, and the share of words that such a text has in common with them, at most."""

_FEW_OF_OTHERS, _SHARE_OF_OTHERS = 5, 0.03
"""Texts that belong to other sentences, at least."""

_FEW_COPIES, _SHARE_OF_COPIES = 5, 0.005
"""Copies but for case and marks, at least."""

_FEW_WRONG, _SHARE_WRONG = 5, 0.1
"""Sentences whose labels seem exchanged, at least."""

_FEW_TWICE, _SHARE_TWICE = 5, 0.02
"""Texts that stand under several labels of one sentence, at least."""

LACKING = "have no mark at their end, as where they are cut"
"""How it is said of texts that they lack the last mark which their sentences have."""

_FEW_LACKING, _SHARE_LACKING = 3, 0.05
"""Texts of all labels without the last mark of their sentences, at least, and for each that has one its own lacks."""

_ANSWERED = 0.5
"""Of how many of the sentences that ask something the texts ask nothing, at least."""

_SHARE_APART, _LONG = 0.25, 4
"""Texts without any word of so many letters, by its first ones, of their sentences, at least."""

_BY_CHANCE, _FEW_STRANGE, _SHARE_STRANGE = 2, 20, 0.5
"""How often chance alone would bring two words of the sentences side by side, at least, that never are; of how many
such pairs of words the texts have which share, at least."""

_LONGEST, _SHOWN, _LONG_AS_BARE = 1_000, 90, 3
_LONG_AS_ONE, _LONG_IF_RARE, _RARE = 9, 6, 2
"""Letters of two words in one, at least: shorter ones (`sunset`) in so few texts, as words that exist come again."""

_RUN = rf"[^\W{UNSPACED}](?:[^\W{UNSPACED}]|[{MARKS}])*"
_LETTERS = rf"(?:[{UNSPACED}]|{_RUN}(?:['’-]{_RUN})*)"
_WORD = re.compile(rf"(?:{_LETTERS}|[^\w{MARKS}\s])[^\w{MARKS}\s]*")
_MARK = re.compile(rf"(?<!\w)[-–—/|>~*#+=]+(?!\w)|[^\w{MARKS}\s.,'’\"%$&/-]")
_JOINT = re.compile(r"[,;:–—(，；：、（]\s*|\s-\s")
_HEAD = re.compile(rf"\W*(?:{WORD}['’ ]){{0,2}}({WORD})([,，、:：;—–]|\s-)\s*\w")
_PARTICIPLE = re.compile(r"\w+ing\b")
_TWICE = re.compile(rf"(?<!\w)({WORD}(?: {WORD}){{0,2}}) \1(?!\w)")
_ASKS = re.compile(r"[?？؟;\u037e][^\w\s]*\s*\Z")
_BEGINS = re.compile(r"\W*(\w)")
_IN_TWO = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "ø": "oe", "å": "aa"})
_WHOLE = str.maketrans("łđøı", "ldoi")


class _Feature(NamedTuple):
    """What texts may have in common."""

    what: str  # such as `begin with`
    words: str
    kind: str  # of `_SHARES`


class TextSample:
    """A thousand or two of the pairs of a label, however many there are.

    They are those with the smallest hashes of their texts: the same whatever their order, and the engine that wrote.
    That of the sentence counts first, so that samples of several labels are of the same sentences.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._kept: dict[bytes, tuple[str, str]] = {}
        self._told: tuple[frozenset[bytes], list[str]] | None = None
        for first, second in pairs:
            self._kept[keyed_bits(first) + keyed_bits(second)] = (_shortened(first), _shortened(second))
            self._drop_beyond(2 * SAMPLED)

    def update(self, other: TextSample) -> None:
        """Takes in what another one has kept."""
        self._kept |= other._kept
        self._drop_beyond(2 * SAMPLED)

    def take_in(self, other: TextSample) -> TextSample:
        """Takes in what another one has kept; what of that is among the pairs to be looked at, for all that is known.

        So of many samples, one behind another, ever less has to be handed on.
        """
        self.update(other)
        self._drop_beyond(SAMPLED)
        worthy = TextSample()
        worthy._kept = {bits: pair for bits, pair in other._kept.items() if bits in self._kept}
        return worthy

    def _drop_beyond(self, most: int) -> None:
        if len(self._kept) > most:
            self._kept = {bits: self._kept[bits] for bits in nsmallest(SAMPLED, self._kept)}

    def habits(self) -> list[str]:
        """What the texts have in common and their sentences have not, with two examples each; three at the most."""
        pairs, kept = self.pairs(), frozenset(self._kept)
        if self._told is None or self._told[0] != kept:
            self._told = (kept, _habits_of(pairs))
        return self._told[1]

    def strangers(self) -> str:
        """In words, that texts are no more like their own sentences than like others; empty where they are."""
        pairs = self.pairs()
        shares = shares_of_strangers(pairs)
        if shares is None:
            found = texts_of_others(pairs)
            if len(found) < max(_FEW_OF_OTHERS, _SHARE_OF_OTHERS * len(pairs)):
                return ""
            text, other = found[0]
            return (
                f"{len(found):,} of {len(pairs):,} texts share many words with other sentences and hardly any with "
                f"their own (as {_quoted([text])} with {_quoted([other])})"
            )
        own, others = shares
        return (
            f"{len(pairs):,} texts share {own:.3f} of their words with their own sentences and {others:.3f} with others"
        )

    def pairs(self) -> list[tuple[str, str]]:
        """The pairs that are looked at, the same whatever their order was."""
        self._drop_beyond(SAMPLED)
        return sorted(self._kept.values(), key=lambda pair: keyed_bits(*pair))

    def answers(self) -> str:
        """In words, that texts of sentences that ask something ask nothing, as answers do; empty where few do."""
        asking: dict[str, str] = {}
        gained = 0
        for first, second in self.pairs():
            if _ASKS.search(first):
                asking.setdefault(first, "" if _ASKS.search(second) else second)
            else:
                gained += _ASKS.search(second) is not None
        found = [text for text in asking.values() if text]
        if len(found) < max(_ENOUGH, _ANSWERED * len(asking), _TIMES * (gained + 1)):
            return ""
        of_them = f"for {len(found):,} of {len(asking):,} sentences that ask something"
        return f"{of_them}, texts ask nothing (as in {_quoted(found[:1])})"

    def apart(self) -> str:
        """In words, that texts of one language with their sentences share no long word with them; else empty."""
        pairs = self.pairs()
        found = [
            second
            for first, second in pairs
            if _long_words(second).isdisjoint(_long_words(first))
            and is_latin(second) == is_latin(first)
            and not is_in_another_language(second, first)
        ]
        if len(found) < max(_ENOUGH, _SHARE_APART * len(pairs)):
            return ""
        of_them = f"{len(found):,} of {len(pairs):,} share no word of {_LONG} letters or more with their sentences"
        return f"{of_them} (as {_quoted(found[:1])})"

    def copies(self) -> str:
        """In words, that texts are their own sentences but for case and marks; empty where few are."""
        pairs = self.pairs()
        found = [second for first, second in pairs if first != second and normal_form(first) == normal_form(second)]
        if len(found) < max(_FEW_COPIES, _SHARE_OF_COPIES * len(pairs)):
            return ""
        return f"{len(found):,} of {len(pairs):,} (as in {_quoted(found[:1])})"


def out_of_order(upper: TextSample, lower: TextSample) -> str:
    """In words, that texts of a lower label share more words with their sentences than those of a higher; else empty.

    They are compared sentence by sentence, so that labels show that were exchanged for a part of the sentences.
    """
    pairs = [(place, pair) for place, sample in enumerate((upper, lower)) for pair in sample.pairs()]
    if not pairs:
        return ""
    shared = shared_words([pair for _, pair in pairs]).tolist()
    by_sentence: defaultdict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for (place, (first, _)), overlap in zip(pairs, shared, strict=True):
        by_sentence[first][place].append(overlap)
    both = [(fmean(above), fmean(below)) for above, below in by_sentence.values() if above and below]
    wrong = sum(above < below for above, below in both)
    return f"for {wrong:,} of {len(both):,} sentences" if wrong >= max(_FEW_WRONG, _SHARE_WRONG * len(both)) else ""


def under_several_labels(samples: Mapping[str, TextSample]) -> str:
    """In words, that texts stand under several labels of one sentence, which they do not copy; empty where few do."""
    labels: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for label, sample in samples.items():
        for first, second in sample.pairs():
            if (text := normal_form(second)) != normal_form(first):
                labels[first, text].add(label)
    found = sorted(pair for pair, those in labels.items() if len(those) > 1)
    if len(found) < max(_FEW_TWICE, _SHARE_TWICE * len(labels)):
        return ""
    shown = _quoted([found[0][1]])
    return f"{len(found):,} of {len(labels):,} texts stand under several labels of their sentence ({shown})"


def ones_for_many(samples: Mapping[str, TextSample]) -> list[tuple[str, str]]:
    """Texts that stand for many sentences with which they share no words: the label that has each most, and words."""
    having: defaultdict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    found: list[tuple[int, str, str]] = []
    number = 0
    for label in sorted(samples):
        for first, second in (pairs := samples[label].pairs()):
            having[_plain(second)][first] = label, second
        number += len(pairs)
    for text, of_sentences in sorted(having.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(of_sentences) < 2:
            break
        words = set(re.findall(_LETTERS, text))
        if len(words) < _WORDS_OF_ONE:
            continue
        others = [set(re.findall(_LETTERS, _plain(first))) for first in of_sentences]
        shared = sum(len(words & other) / len(words | other) for other in others)
        if shared <= _FOREIGN * len(others):
            (label, example), _ = Counter(of_sentences.values()).most_common(1)[0]
            told = f"{_quoted([example])} is the text of {len(others):,} different sentences"
            found.append((len(others), label, f"{told}, among {number:,} pairs of all labels"))
    few = max(_FEW_SENTENCES, _SHARE_OF_ONE * number)
    if sum(times for times, _, _ in found) < max(_FEW_SENTENCES, _SHARE_OF_ALL * number):
        found = [one for one in found if one[0] >= few]
    return [(label, told) for _, label, told in found[:_MOST]]


def out_of_word_order(samples: Mapping[str, TextSample]) -> list[tuple[str, str]]:
    """The label with most texts that have words side by side as no sentence has them, and that in words; if many do.

    Looked at are words so frequent in the sentences that chance alone would have brought them together, as `the` behind
    `an`. Texts have most such pairs of words where a fifth of them is shuffled, and fewer than half even where they are
    of another kind than the sentences.
    """
    pairs = [(label, *pair) for label in sorted(samples) for pair in samples[label].pairs()]
    known = Counter(both for sentence in {first for _, first, _ in pairs} for both in _neighbours(sentence))
    before, behind = Counter[str](), Counter[str]()
    for (one, other), times in known.items():
        before[one] += times
        behind[other] += times
    strange: set[tuple[str, str]] = set()
    by_number = behind.most_common()
    for one, times in before.items():
        for other, others in by_number:
            if times * others < _BY_CHANCE * known.total():
                break
            if (one, other) not in known and (one or other):
                strange.add((one, other))
    found = [(label, second, both) for label, _, second in pairs if (both := strange.intersection(_neighbours(second)))]
    seen = {two for *_, both in found for two in both}
    if len(strange) < _FEW_STRANGE or len(seen) < _SHARE_STRANGE * len(strange):
        return []
    most = Counter(label for label, *_ in found).most_common(1)[0][0]
    clearest = sorted((one for one in found if one[0] == most), key=lambda one: -len(one[2]))[:2]
    shown = _quoted(text for _, text, _ in clearest)
    told = (
        f"{len(seen):,} of {len(strange):,} pairs of frequent words that never stand side by side in the sentences "
        f"do in {len(found):,} of {len(pairs):,} texts of all labels, as where they have no order (as in {shown})"
    )
    return [(most, told)]


def without_last_marks(samples: Mapping[str, TextSample]) -> list[tuple[str, str]]:
    """The label with most texts that lack the mark which their sentences end with, and that in words, if many do.

    All labels are counted together, so that a twentieth of a small run is seen, as where a server cuts some replies.
    """
    number, gained = 0, 0
    found: list[tuple[str, str]] = []
    for label in sorted(samples):
        for first, second in samples[label].pairs():
            is_ended, was_ended = (ENDED.search(text) is not None for text in (second, first))
            number += 1
            gained += is_ended and not was_ended
            if was_ended and not is_ended:
                found.append((label, second))
    if len(found) < max(_FEW_LACKING, _SHARE_LACKING * number, _FEW_LACKING * (gained + 1)):
        return []
    most = Counter(label for label, _ in found).most_common(1)[0][0]
    shown = _quoted((text for _, text in found[:2]), are_ends=True)
    return [(most, f"most of the {len(found):,} in {number:,} texts of all labels that {LACKING} (as in {shown})")]


def in_other_languages(samples: Mapping[str, TextSample]) -> list[tuple[str, str]]:
    """Labels whose texts together are in another language than their sentences, none in English, and that in words."""
    found: list[tuple[str, str]] = []
    for label in sorted(samples):
        pairs = samples[label].pairs()
        if two := languages_of((second for _, second in pairs), (first for first, _ in pairs)):
            shown = _quoted(second for _, second in pairs[:2])
            found.append(
                (label, "{} texts seem to be in {}, and their sentences in {} (as {})".format(len(pairs), *two, shown))
            )
    return found


def _neighbours(text: str) -> list[tuple[str, str]]:
    """Words side by side with no mark between them; beside the first and the last one is none."""
    found = _WORD.findall(_plain(text))
    words = [*("".join(re.findall(_LETTERS, word)[:1]) for word in found), ""]
    inside = [(one, other) for word, one, other in zip(found, words, words[1:], strict=False) if word == one and other]
    return [("", words[0]), *inside, (words[len(found) - 1], "")]


def _long_words(text: str) -> set[str]:
    """The first letters of a text's words that have so many; all numbers, and what has other letters than A to Z."""
    words = spaced(normal_form(text)).split()
    return {word[:_LONG] for word in words if len(word) >= _LONG or not (word.isascii() and word.isalpha())}


def _habits_of(pairs: Sequence[tuple[str, str]]) -> list[str]:
    having, missing = _compared(pairs)
    found: list[str] = []
    told: set[str] = set()
    for feature in sorted(having, key=lambda one: (-len(having[one]) * (1 + len(one.words.split())), one)):
        texts = having[feature]
        few = max(_FEW_TEXTS, _SHARES[feature.kind] * len(pairs))
        if len(texts) < max(few, _TIMES * (missing[feature] + 1)) or len(texts.keys() - told) < few:
            continue
        if feature.kind == "text" or len(set(texts.values())) >= few:
            told |= texts.keys()
            found.append(_in_words(feature, texts, missing[feature], len(pairs)))
    return found[:_MOST]


def _compared(pairs: Sequence[tuple[str, str]]) -> tuple[dict[_Feature, dict[str, str]], Counter[_Feature]]:
    """The texts that have a feature, by their sentences, which have not; and how many sentences have it alone."""
    having: defaultdict[_Feature, dict[str, str]] = defaultdict(dict)
    missing: Counter[_Feature] = Counter()
    for first, second in pairs:
        own, given = _features(second, first), _features(first, second)
        for feature in _foreign(own - given, first):
            having[feature].setdefault(first, second)
        missing.update(_foreign(given - own, second))
    cut = cut_at([second for _, second in pairs], _SHARES["cut"])
    if cut and sum(size_of(first, cut.unit) > cut.size for first, _ in pairs) >= _SHARES["cut"] * len(pairs):
        ends = {*cut.texts}
        having[_Feature("are cut at", f"{cut.size} {cut.unit}", "cut")] = {
            first: second for first, second in pairs if second in ends
        }
    for first, second in pairs:
        if is_latin(second) != is_latin(first) or is_in_another_language(second, first):
            having[_Feature("are in another language than their sentences", "", "language")][first] = second
    words = [[re.findall(_LETTERS, _plain(text)) for text in pair] for pair in pairs]
    for feature, (of_texts, of_sentences) in _altered(words).items():
        for (first, second), (given_words, own_words) in zip(pairs, words, strict=True):
            if of_texts.intersection(own_words):
                having[feature][first] = second
            missing[feature] += not of_sentences.isdisjoint(given_words)
    return having, missing


def _altered(pairs: Sequence[Sequence[Sequence[str]]]) -> dict[_Feature, list[set[str]]]:
    """Words that are other words of the run as a proxy may alter them: those of texts, and those of sentences.

    What the other side has as a word, as `everyday` or `resume`, is none.
    """
    sides = [{word for pair in pairs for word in pair[side]} for side in (0, 1)]
    times = Counter(word for pair in pairs for words in pair for word in set(words))
    joined = {one + other for pair in pairs for words in pair for one, other in pairwise(words)}
    bare = {form for word in sides[0] | sides[1] for form in _without_accents(word) if len(form) >= _LONG_AS_BARE}
    altered = {
        _Feature("have two words without the space between them", "", "joined"): {
            word
            for word in joined
            if len(word) >= _LONG_AS_ONE or (len(word) >= _LONG_IF_RARE and times[word] <= _RARE)
        },
        _Feature("have words without the accents that others have", "", "bare"): bare,
    }
    return {feature: [(own - other) & made for other, own in (sides, sides[::-1])] for feature, made in altered.items()}


def _without_accents(word: str) -> Iterator[str]:
    """A word with its accents lost, the letters that have them lost, or each written as two; none that is of A to Z."""
    word = word.replace("’", "'")
    if not word.isascii():
        bare = "".join(sign for sign in unicodedata.normalize("NFKD", word.translate(_WHOLE)) if sign.isascii())
        lost = "".join(sign for sign in word if sign.isascii())
        yield from (one for one in (bare, lost, word.translate(_IN_TWO)) if one.isascii())


def _in_words(feature: _Feature, texts: Mapping[str, str], missing: int, pairs: int) -> str:
    """A habit for people, with the number of its texts and two of them."""
    words = f" “{feature.words}”" if feature.kind != "cut" and feature.words else f" {feature.words}".rstrip()
    also = f"; the same of their sentences: {missing:,}" if missing else ""
    are_ends = feature.kind in ("cut", "lack") or feature.what.startswith("end ")
    examples = _quoted(sorted(texts.values(), key=keyed_bits)[:2], are_ends=are_ends)
    return f"{len(texts):,} of {pairs:,} {feature.what}{words}{also} (as in {examples})"


def _quoted(texts: Iterable[str], *, are_ends: bool = False) -> str:
    """The beginnings of some texts, or their ends, for people; an ellipsis stands for the rest."""
    shown = []
    for text in map(printable, texts):
        rest = "…" * (len(text) > _SHOWN)
        shown.append(f"“{rest}{text[-_SHOWN:]}”" if are_ends else f"“{text[:_SHOWN]}{rest}”")
    return ", ".join(shown)


def _shortened(text: str) -> str:
    """A text without its middle, where it is long."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} {text[-_LONGEST // 2 :]}"


def _plain(text: str) -> str:
    """A text whose numbers are all the same number, in small letters."""
    return re.sub(r"\d+", "0", printable(text).casefold()).strip()


def _features(text: str, other: str) -> set[_Feature]:
    """What a text begins and ends with, what its last part begins with, its marks, what it lacks, and the whole of it.

    Where its head is of words of the other, as the time in `Last winter, she won.`, it begins with no frame.
    """
    plain = _plain(text)
    words, last = _WORD.findall(plain), _WORD.findall(_JOINT.split(plain)[-1])
    found = {_Feature("contain", mark, "marks") for mark in _MARK.findall(plain)}
    found.add(_Feature("are", text.casefold().strip(), "text"))
    if ENDED.search(text) is None:
        found.add(_Feature(LACKING, "", "lack"))
    if (first := _BEGINS.match(text)) and first[1].islower():
        found.add(_Feature("begin with a small letter", "", "small"))
    if _TWICE.search(text.casefold()):
        found.add(_Feature("have one to three words twice in a row", "", "twice"))
    if (head := _HEAD.match(plain)) and head[1] not in re.findall(_LETTERS, _plain(other)):
        found.add(_Feature("begin with one to three words and", head[2].strip(), "head"))
    if last and last != words and _PARTICIPLE.match(last[0]):
        found.add(_Feature("end with a part that begins with a word in -ing", "", "part"))
    for number in (1, 2, 3):
        if number < len(words):
            found |= {_of("begin with", words[:number]), _of("end with", words[-number:])}
        if number < len(last) < len(words):
            found.add(_of("begin their last part with", last[:number], "part"))
    return found


def _of(what: str, words: Sequence[str], kind: str = "words") -> _Feature:
    is_bare = not re.search(rf"[^\w{MARKS}\s'’-]", " ".join(words).rstrip("."))
    kind = "marks" if not is_bare else "word" if len(words) == 1 else kind
    shown = re.sub(rf"(?<=[{UNSPACED}]) (?=[{UNSPACED}])", "", " ".join(words))
    return _Feature(what, shown, kind)


def _foreign(features: Iterable[_Feature], text: str) -> list[_Feature]:
    """Those of some features that have no words, or one that another text has not."""
    known = set(re.findall(_LETTERS, _plain(text)))
    return [one for one in features if not (words := re.findall(_LETTERS, one.words)) or not known.issuperset(words)]
