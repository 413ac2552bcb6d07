"""Edits of one sentence: some keep its meaning, some its topic only. Rules over words; no model, no human score."""

import random
import re
from collections.abc import Callable

from tools.bundled_lm.lexicon import Lexicon, inflected
from tools.bundled_lm.sources import words

Edit = Callable[[str, random.Random], str | None]
"""Takes a sentence, gives another one, or ``None`` where the rule finds nothing to work on."""

PHRASES = (
    ("a group of people", "several people", "some people"),
    ("a lot of", "lots of", "many", "plenty of"),
    ("next to", "beside", "by"),
    ("in front of", "before"),
    ("on top of", "on"),
    ("close to", "near"),
    ("in order to", "to"),
    ("have to", "must", "need to"),
    ("has to", "must", "needs to"),
    ("going to", "about to"),
    ("want to", "would like to", "wish to"),
    ("wants to", "would like to", "wishes to"),
    ("because", "since", "as"),
    ("although", "though", "even though"),
    ("right now", "now", "at the moment", "currently"),
    ("is able to", "can", "has the ability to"),
    ("every day", "daily", "each day"),
    ("each other", "one another"),
    ("as well as", "and", "along with"),
    ("a couple of", "two", "a pair of"),
    ("used to", "would"),
    ("inside of", "inside", "within", "in"),
    ("across from", "opposite"),
    ("out of", "from"),
    ("through", "across"),
    ("underneath", "under", "beneath", "below"),
    ("above", "over"),
    ("during", "in the course of"),
    ("such as", "like"),
    ("relating to", "of or relating to", "concerning", "having to do with"),
    ("the act of", "the action of", "the process of"),
    ("the state of", "the condition of"),
    ("the quality of", "the property of"),
    ("someone who", "a person who", "one who"),
    ("something that", "a thing that"),
    ("used for", "for", "employed for"),
    ("consisting of", "made up of", "composed of"),
    ("more than", "over", "in excess of"),
    ("less than", "under", "fewer than"),
    ("at least", "no fewer than"),
    ("how do i", "how can i", "what do i do to", "how should i"),
    ("can you", "could you", "would you"),
    ("tell me", "let me know", "i want to know"),
    ("what is", "what's"),
    ("i need to know", "tell me", "i'd like to know"),
    ("don't", "do not"),
    ("doesn't", "does not"),
    ("didn't", "did not"),
    ("isn't", "is not"),
    ("aren't", "are not"),
    ("wasn't", "was not"),
    ("can't", "cannot", "can not"),
    ("won't", "will not"),
    ("wouldn't", "would not"),
    ("couldn't", "could not"),
    ("shouldn't", "should not"),
    ("i'm", "i am"),
    ("you're", "you are"),
    ("it's", "it is"),
    ("he's", "he is"),
    ("she's", "she is"),
    ("that's", "that is"),
    ("they're", "they are"),
    ("we're", "we are"),
    ("i've", "i have"),
    ("i'll", "i will"),
    ("there's", "there is"),
    ("let's", "let us"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("ten", "10"),
    ("percent", "per cent"),
    ("the united states", "america", "the u.s."),
    ("is seen", "can be seen"),
    ("is standing", "stands"),
    ("are standing", "stand"),
    ("is sitting", "sits"),
    ("are sitting", "sit"),
    ("said that", "said"),
    ("according to", "as reported by"),
    ("one of the", "one of"),
    ("some", "a few", "several"),
)
FRAMES = {
    "caption": ("In this picture, ", "Here, ", "We can see ", "You can see ", "In the image, "),
    "concepts": ("Here, ", "In the scene, ", "We see how ", "It is a scene where "),
    "request": ("please, ", "hey, ", "hello, ", "so, ", "now, ", "okay, "),
    "definition": ("That is, ", "Namely, ", "In other words, ", "It means ", "That means "),
    "everyday": ("In fact, ", "Indeed, ", "Actually, ", "So, ", "Well, ", "You know, ", "The fact is that "),
    "example": ("In fact, ", "Indeed, ", "It is true that ", "As it happens, "),
    "encyclopedia": ("In fact, ", "It is known that ", "It is said that ", "According to reports, ", "Reports say "),
    "restaurant": ("In fact, ", "We hear that ", "It is said that "),
}
"""Openings that say who speaks or points and change nothing of what is said, by domain."""
_DECLARING = ("that ", "how ", "where ", "say ")
FILLERS = ("very", "really", "just", "currently", "actually", "quite", "simply", "also", "still", "already")
FREQUENT_FIRST = 200
"""A first word that the corpora have less often, and that has no near terms, may be a name and keeps its capital."""
PIVOT_LAST = 0.6
TARGETS_ONLY = frozenset(
    [
        "and",
        "to",
        "in",
        "for",
        "on",
        "by",
        "as",
        "over",
        "can",
        "like",
        "from",
        "under",
        "of",
        "before",
        "across",
        "over",
        "would",
        "many",
        "inside",
    ]
)
"""What a phrase may become, but never starts as: these words have too many other uses."""
_FILLER = re.compile(rf"\b(?:{'|'.join(FILLERS)}) (?=\w)", re.I)
_WHO = r"(?P<who>(?:a|an|the|two|three|some|several|one|another|many)(?: [\w-]+){1,3}?)"
_PROGRESSIVE = re.compile(rf"^{_WHO} (?P<be>is|are) (?P<verb>\w{{3,}}ing)(?P<rest>\b.*)$", re.I)
_PASSIVE = re.compile(
    rf"^{_WHO} (?P<be>is|are) (?P<verb>\w{{3,}}ing) (?P<what>(?:a|an|the|some|two|his|her|their)(?: \w+){{1,2}}?)"
    r"(?P<rest>(?: (?:in|on|at|with|near|by|from|into|for)\b.*)?)[.]?$",
    re.I,
)
_THERE = re.compile(r"^there (?P<be>is|are) (?P<who>[^,]+?) (?P<verb>\w{3,}ing)\b(?P<rest>.*)$", re.I)
_CAPTION = re.compile(rf"^{_WHO} (?P<verb>\w{{3,}}ing)\b(?P<rest>.*)$", re.I)
_AND = re.compile(
    r"(?<= )(?P<a>(?:(?:a|an|the|some|two|his|her) )?\w+) and (?P<b>(?:(?:a|an|the|some|two|his|her) )?\w+)(?=[.,]|$)",
    re.I,
)
_TAIL = re.compile(
    r"^(?P<head>(?:\S+ ){3,}?\S+?),? (?P<tail>(?:in|on|at|with|near|by|while|for|during|after|before|under|next to|"
    r"in front of|because|when|and|but|which|who|that)\b .+?)(?P<end>[.!?]?)$"
)
_MOVABLE = re.compile(r"^(?:(?:in|on|at) (?:a|an|the|front)\b|during|after|before|when|because|while|next to|near)")
_ADJECTIVE = re.compile(r"\b(a|an|the|his|her|their|some|two|three) (\w+) (?=\w)", re.I)
_PROGRESSIVE_STEMS = re.compile(r"(?:([bdgmnprt])\1)ing$")


def _cased(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lowered(text: str) -> str:
    first = text.split(" ", 1)[0]
    return text if first == "I" or (len(first) > 1 and first.isupper()) else text[:1].lower() + text[1:]


def _presents(verb: str, lexicon: Lexicon) -> list[str]:
    """Base forms whose "-ing" form the verb is, the attested ones, likeliest first."""
    stem = verb[:-3]
    candidates = [stem, stem + "e"] + ([stem[:-1]] if _PROGRESSIVE_STEMS.search(verb) else [])
    found = [c for c in candidates if len(c) > 1 and inflected(c, "v")["ving"] == verb and c in lexicon.index]
    return sorted(found, key=lambda c: -lexicon.counts[c])


def _participle(base: str) -> str:
    irregular = {
        "eat": "eaten",
        "ride": "ridden",
        "drive": "driven",
        "throw": "thrown",
        "take": "taken",
        "write": "written",
    }
    irregular |= {
        "give": "given",
        "hold": "held",
        "cut": "cut",
        "make": "made",
        "feed": "fed",
        "build": "built",
        "hit": "hit",
    }
    return irregular.get(base, inflected(base, "v")["ved"])


class Rewriter:
    """Edits that need the lexicon, as methods of type :data:`Edit`."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon

    def swap_phrase(self, sentence: str, rng: random.Random) -> str | None:
        """One phrase of :data:`PHRASES` for another of its set."""
        lower = f" {sentence.lower()} "
        found = [
            (old, group)
            for group in PHRASES
            for old in group
            if old not in TARGETS_ONLY and re.search(rf"\b{re.escape(old)}\b", lower)
        ]
        if not found:
            return None
        old, group = rng.choice(found)
        new = rng.choice([other for other in group if other != old])
        return _cased_like(sentence, re.sub(rf"\b{re.escape(old)}\b", new, sentence, count=1, flags=re.I))

    def synonym(self, sentence: str, rng: random.Random) -> str | None:
        """One word for a synonym of it."""
        return self._replace(sentence, self.lexicon.synonyms, rng)

    def tense(self, sentence: str, rng: random.Random) -> str | None:
        """One verb from the present to the past or back."""
        return self._replace(sentence, self.lexicon.tenses, rng)

    def _replace(self, sentence: str, table: dict[str, list[str]], rng: random.Random) -> str | None:
        parts = re.split(r"(\W+)", sentence)
        places = [i for i, p in enumerate(parts) if p.lower() in table]
        if not places:
            return None
        place = rng.choice(places)
        fitting = [new for new in table[parts[place].lower()] if self._fits(parts, place, new)]
        if not fitting:
            return None
        new = rng.choice(fitting)
        if place >= 2 and parts[place - 2].lower() in ("a", "an"):
            article = "an" if new[0] in "aeiou" else "a"
            parts[place - 2] = article.capitalize() if parts[place - 2][0].isupper() else article
        parts[place] = new.capitalize() if parts[place][0].isupper() else new
        return "".join(parts)

    def _fits(self, parts: list[str], place: int, new: str) -> bool:
        left = parts[place - 2] if place >= 2 else ""
        right = parts[place + 2] if place + 2 < len(parts) else ""
        if left.lower() in ("a", "an"):
            left = "an" if new[0] in "aeiou" else "a"
        return self.lexicon.fits(left, new, right)

    def _happens(self, match: re.Match[str]) -> bool:
        """Whether the matched "-ing" word is something one does, and not the head of a noun phrase."""
        verb = match["verb"].lower()
        return self.lexicon.bigrams["is", verb] + self.lexicon.bigrams["are", verb] > 4 and match["who"].split()[
            -1
        ] not in ("of", "the", "for", "to", "and", "with")

    def voice(self, sentence: str, rng: random.Random) -> str | None:
        """Active to passive, progressive to simple present, "there is ...": ways of saying what somebody is doing."""
        end = "." if sentence.endswith(".") else ""
        body = _lowered(sentence.rstrip("."))
        found: list[str] = []
        if match := _PASSIVE.match(body):
            for base in _presents(match["verb"], self.lexicon)[:1]:
                be = (
                    "is"
                    if match["what"].split()[0].lower() in ("a", "an", "the", "his", "her")
                    and not match["what"].endswith("s")
                    else "are"
                )
                found.append(f"{match['what']} {be} being {_participle(base)} by {match['who']}{match['rest']}")
        if (match := _PROGRESSIVE.match(body)) and self._happens(match):
            found.append(f"there {match['be']} {match['who']} {match['verb']}{match['rest']}")
            found.append(f"{match['who']} {match['verb']}{match['rest']}")
            for base in _presents(match["verb"], self.lexicon)[:1]:
                form = inflected(base, "v")["vs"] if match["be"].lower() == "is" else base
                found.append(f"{match['who']} {form}{match['rest']}")
        elif (match := _THERE.match(body)) and self._happens(match):
            found.append(f"{match['who']} {match['be']} {match['verb']}{match['rest']}")
            found.append(f"{match['who']} {match['verb']}{match['rest']}")
        elif (match := _CAPTION.match(body)) and self._happens(match):
            be = (
                "is"
                if match["who"].split()[0].lower() in ("a", "an", "the")
                and not match["who"].endswith(("s", "people", "men"))
                else "are"
            )
            found.append(f"{match['who']} {be} {match['verb']}{match['rest']}")
            found.append(f"there {be} {match['who']} {match['verb']}{match['rest']}")
        return _cased_like(sentence, rng.choice(found) + end) if found else None

    def tail_first(self, sentence: str, rng: random.Random) -> str | None:
        """The last phrase of place, time or manner moves to the front."""
        match = _TAIL.match(sentence)
        if match is None or not _MOVABLE.match(match["tail"]) or "(" in sentence or sentence.endswith("?"):
            return None
        return _cased_like(sentence, f"{match['tail']}, {_lowered(match['head'])}{match['end']}")

    def swap_and(self, sentence: str, rng: random.Random) -> str | None:
        """``x and y`` at the end becomes ``y and x``."""
        match = _AND.search(sentence)
        if match is None:
            return None
        left, right = match["a"].split(), match["b"].split()
        if len(left) != len(right) or not all(w.lower() in self.lexicon.near for w in (left[-1], right[-1])):
            return None
        return f"{sentence[: match.start()]}{match['b']} and {match['a']}{sentence[match.end() :]}"

    def drop_filler(self, sentence: str, rng: random.Random) -> str | None:
        """Words that add little go."""
        shorter = _FILLER.sub("", sentence, count=1)
        return _cased_like(sentence, shorter) if shorter != sentence else None

    def articles(self, sentence: str, rng: random.Random) -> str | None:
        """``a`` becomes ``the`` or the other way round, once."""
        places = list(re.finditer(r"\b(a|an|the)\b", sentence, re.I))
        if not places:
            return None
        match = rng.choice(places)
        after = sentence[match.end() :].lstrip()
        if match[0].lower() == "the" and (not after or after.split()[0].rstrip(".,").endswith("s")):
            return None
        new = "the" if match[0].lower() != "the" else "an" if after[:1] in "aeiou" else "a"
        before = re.findall(r"\w+", sentence[: match.start()])[-1:]
        if not self.lexicon.fits("".join(before), new, re.match(r"\w*", after)[0]):
            return None
        return _cased_like(sentence, sentence[: match.start()] + new + sentence[match.end() :])

    def drop_adjective(self, sentence: str, rng: random.Random) -> str | None:
        """One word between an article and its noun goes, where what is left still reads as article and noun."""
        places = [
            m
            for m in _ADJECTIVE.finditer(sentence)
            if self.lexicon.weight(m[2].lower()) < 9.0 and not m[2].endswith("ing")
        ]
        if not places:
            return None
        match = rng.choice(places)
        after = sentence[match.end() :].split(" ", 1)[0].strip(".,").lower()
        if (
            after not in self.lexicon.near
            or after.endswith(("ing", "ed"))
            or match[2].lower() in ("of", "is", "are", "and", "in")
        ):
            return None
        if self.lexicon.bigrams[match[1].lower(), after] + self.lexicon.bigrams["the", after] < 6:
            return None
        article = ("an" if after[0] in "aeiou" else "a") if match[1].lower() in ("a", "an") else match[1]
        return _cased_like(sentence, sentence[: match.start()] + article + " " + sentence[match.end() :])

    def headline(self, sentence: str, rng: random.Random) -> str | None:
        """Articles and the auxiliary before an "-ing" form go, as in a headline."""
        shorter = re.sub(r"\b(?:is|are) (?=\w+ing\b)", "", sentence)
        shorter = re.sub(r"\b(?:a|an|the) (?=\w)", "", shorter, flags=re.I)
        if shorter == sentence or len(words(shorter)) < 3 or sentence.endswith("?"):
            return None
        return _cased_like(sentence, shorter)

    def change_opening(self, sentence: str, domain: str, rng: random.Random) -> str | None:
        """The first word changes: another article or none, "there is ...", the last phrase in front, or a frame."""
        match = re.match(r"(?:a|an|the) (?=\w)", sentence, re.I)
        rest = sentence[match.end() :] if match else ""
        options = [self.voice(sentence, rng), self.tail_first(sentence, rng)]
        if match and len(words(rest)) > 1:
            article = match[0].strip().lower()
            plural = rest.split()[0].rstrip(",.").endswith("s")
            options += [rest, "one " + rest if article != "the" else None]
            options += ["the " + rest] * 2 if article != "the" else [] if plural else ["this " + rest]
        options.append(self.frame(sentence, domain, rng))
        changed = [text for text in options if text is not None and words(text)[:1] != words(sentence)[:1]]
        return _cased_like(sentence, rng.choice(changed)) if changed else None

    def frame(self, sentence: str, domain: str, rng: random.Random) -> str | None:
        """One of :data:`FRAMES` in front; ``None`` where it would not read: a clause does not take in a question."""
        opening = rng.choice(FRAMES[domain])
        if opening.endswith(_DECLARING) and (sentence.endswith("?") or "," in sentence):
            return None
        kept = (
            sentence.split(" ", 1)[0].lower() not in self.lexicon.near
            and self.lexicon.counts[sentence.split(" ", 1)[0].lower()] < FREQUENT_FIRST
        )
        return _cased_like(sentence, opening + (sentence if kept else _lowered(sentence)))

    def pivot(self, sentence: str, rng: random.Random) -> str | None:
        """One word of content, mostly the last, for a near term, or a number for another; all else stays as it is.

        Now and then a second word follows. What stays is copied faithfully: a token that "mean the same thing" makes
        likelier would be taken away from this label by self-debiasing.
        """
        parts = re.split(r"(\W+)", sentence)
        places = [i for i, part in enumerate(parts) if part.isdigit() or self._known(part.lower())]
        rng.shuffle(places)
        if rng.random() < PIVOT_LAST:
            places.sort(reverse=True)
        wanted, changed = rng.choice((1, 1, 1, 2)), 0
        for place in places:
            if changed < wanted and (new := self._other(parts, place, rng)) is not None:
                parts[place] = new.capitalize() if parts[place][0].isupper() else new
                if place >= 2 and parts[place - 2] in ("a", "an"):
                    parts[place - 2] = "an" if new[0] in "aeiou" else "a"
                changed += 1
        return "".join(parts) if changed else None

    def _known(self, word: str) -> bool:
        return word in self.lexicon.near and self.lexicon.weight(word) > 4.5

    def _other(self, parts: list[str], place: int, rng: random.Random) -> str | None:
        word = parts[place].lower()
        if word.isdigit():
            return str(rng.randint(10 ** (len(word) - 1), 10 ** len(word) - 1))
        fitting = [new for new in self.lexicon.near[word] if self._fits(parts, place, new)]
        return rng.choice(fitting) if fitting else None

    def drop_tail(self, sentence: str, rng: random.Random) -> str | None:
        """The last phrase goes: half of what was said stays."""
        match = _TAIL.match(sentence)
        return match["head"].rstrip(",") + match["end"] if match and len(words(match["head"])) >= 3 else None

    def rename(self, pair: tuple[str, str], rng: random.Random) -> tuple[str, str]:
        """A word or number of both sentences becomes the same rare one: copying must be learnt for any word."""
        numbers = sorted(set(re.findall(r"\d+", pair[0])) & set(re.findall(r"\d+", pair[1])))
        if numbers and rng.random() < 0.5:
            old = rng.choice(numbers)
            new = str(rng.randint(10 ** (len(old) - 1), 10 ** len(old) - 1))
            first, second = (re.sub(rf"\b{old}\b", new, text) for text in pair)
            return first, second
        shared = sorted(self.lexicon.content(words(pair[0])) & set(words(pair[1])))
        shared = [word for word in shared if word.isalpha() and len(word) > 3]
        if not shared:
            return pair
        old, new = rng.choice(shared), rng.choice(self.lexicon.rare)
        new = new.capitalize() if rng.random() < 0.4 else new
        first, second = (re.sub(rf"\b{old}\b", new, text, flags=re.I) for text in pair)
        return first, second


def _cased_like(before: str, after: str) -> str:
    return _cased(after) if before[:1].isupper() else after
