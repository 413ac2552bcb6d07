"""Pairs for the three instructions, from groups, neighbours and edits; nothing here knows a human similarity score."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from tools.bundled_lm.lexicon import Lexicon
from tools.bundled_lm.news import News
from tools.bundled_lm.rewrites import Edit, Rewriter
from tools.bundled_lm.sources import Corpora, words

Pair = tuple[str, str]

DOMAINS = {"caption": 0.29, "concepts": 0.07, "everyday": 0.21, "request": 0.05, "definition": 0.09, "example": 0.08}
DOMAINS |= {"encyclopedia": 0.11, "restaurant": 0.01, "news": 0.09}
"""How often each domain gives the first sentence."""
RENAMED = 0.25
"""Share of related pairs in which a word or number becomes a rare one in both sentences."""
SHORTENED = 0.12
"""Share of similar pairs whose second sentence also loses its last phrase."""
NAMES = [
    "Anna",
    "John",
    "Peter",
    "Maria",
    "David",
    "Laura",
    "Ivan",
    "Emma",
    "Carlos",
    "Nora",
    "Sam",
    "Ravi",
    "Yuki",
    "Elena",
    "Jack",
    "Linda",
    "Paul",
    "Susan",
    "Ken",
    "Alice",
]
_TELLING = frozenset(
    [
        "not",
        "no",
        "never",
        "i",
        "you",
        "he",
        "she",
        "we",
        "they",
        "it",
        "me",
        "him",
        "her",
        "us",
        "them",
        "my",
        "your",
        "his",
        "our",
        "their",
    ]
)
"""Words of little weight that nevertheless change who or whether."""


@dataclass(frozen=True)
class Mixture:
    """How pairs are made, in shares.

    Attributes:
        edits: Numbers of edits that turn a sentence into one of the same meaning.
        groups: Share of captions and requests whose pair of the same meaning is taken from their group.
        near_copies: Share of pairs of the same meaning that are neighbours with small differences.
        opened: Share of edited pairs of the same meaning whose first word must differ where a rule can change it.
        captions: Share of similar pairs that are other members of a group.
        neighbours: Share of similar pairs that have rare words in common.
        openings: Share of similar pairs that begin alike; the rest are sentences with later words exchanged.
    """

    edits: tuple[int, ...]
    groups: float
    near_copies: float
    opened: float
    captions: float
    neighbours: float
    openings: float


MIXTURES = {
    "wide": Mixture((2, 3, 3, 4, 5), 0.4, 0.12, 0.0, 0.15, 0.15, 0.2),
    "close": Mixture((3, 4, 5, 5, 6), 0.15, 0.0, 1.0, 0.02, 0.02, 0.05),
}
"""Much variety to learn the language from, then pairs that show the labels plainly.

A model samples from the likely tokens alone (top 5, 90 %), so it edits only where an edit is likely; and self-debiasing
takes from "somewhat similar" what "the same" makes likelier. So in the second mixture the pairs of the same meaning are
edited wherever a rule applies, and similar pairs copy the beginning faithfully before they turn elsewhere.
"""


def jaccard(left: str, right: str) -> float:
    """Words in common over words in either."""
    first, second = set(words(left)), set(words(right))
    return len(first & second) / max(1, len(first | second))


class PairMaker:
    """Draws pairs by label. All randomness comes from the generator that each call is given.

    Args:
        corpora: What may be learnt from.
        lexicon: Word weights and exchanges.
        mixture: How pairs are made.
    """

    def __init__(self, corpora: Corpora, lexicon: Lexicon, mixture: Mixture) -> None:
        self.mixture = mixture
        self.lexicon, self.rewriter, self.news = lexicon, Rewriter(lexicon), News()
        self.groups = corpora.groups
        self.pools = {name: [s for group in groups for s in group] for name, groups in corpora.groups.items()}
        for name, sentences in corpora.sentences.items():
            self.pools[name] = self.pools.get(name, []) + sentences
        self.domains, self.shares = zip(*DOMAINS.items(), strict=True)
        self.openings: dict[str, dict[tuple[str, ...], list[str]]] = {name: {} for name in self.pools}
        for name, pool in self.pools.items():
            for sentence in pool:
                self.openings[name].setdefault(words(sentence)[:3], []).append(sentence)
        self.neighbours = {name: self._neighbours(pool) for name, pool in self.pools.items() if name != "restaurant"}

    def _neighbours(self, pool: list[str], queries: int = 60000, block: int = 500) -> list[tuple[int, int, float]]:
        """Sentences of one pool with rare words in common: ``(index, index, cosine)``, cosine at least 0.3."""
        vectorizer = TfidfVectorizer(analyzer=words, max_df=0.015, min_df=2, sublinear_tf=True, dtype=np.float32)
        matrix = vectorizer.fit_transform(pool).tocsr()
        rows = np.random.default_rng(0).permutation(len(pool))[:queries]
        other = matrix.T.tocsr()
        found: list[tuple[int, int, float]] = []
        for start in range(0, len(rows), block):
            scores = (matrix[rows[start : start + block]] @ other).tocsr()
            for k, row in enumerate(rows[start : start + block]):
                line = slice(scores.indptr[k], scores.indptr[k + 1])
                columns, values = scores.indices[line], scores.data[line]
                usable = (values >= 0.3) & (columns != row)
                columns, values = columns[usable], values[usable]
                best = np.argsort(-values, kind="stable")[:24:3]
                found += [(int(row), int(columns[i]), float(values[i])) for i in best]
        return found

    def _domain(self, rng: random.Random) -> str:
        return str(rng.choices(self.domains, self.shares)[0])

    def sentence(self, rng: random.Random, domain: str | None = None) -> str:
        """One sentence of a domain, of any if none is given."""
        domain = domain or self._domain(rng)
        return self.news.one(rng) if domain == "news" else rng.choice(self.pools[domain])

    def weighted_overlap(self, left: str, right: str) -> float:
        """Share of the words' weight that both sentences have."""
        first, second = set(words(left)), set(words(right))
        weight = self.lexicon.weight
        return sum(map(weight, first & second)) / max(1.0, sum(map(weight, first | second)))

    def _edited(self, sentence: str, edits: list[Edit], times: int, rng: random.Random) -> str | None:
        text, done = sentence, 0
        for _ in range(6 * times):
            changed = rng.choice(edits)(text, rng)
            if changed is not None and changed != text:
                text, done = changed, done + 1
            if done == times:
                return text
        return text if done else None

    def same(self, rng: random.Random) -> Pair | None:
        """A pair for "mean the same thing"; ``None`` where the draw gave none that is neither a copy nor too far."""
        domain = self._domain(rng)
        if domain == "news":
            return self.news.same(rng)
        if domain in ("caption", "request", "restaurant") and rng.random() < self.mixture.groups:
            least, most = (0.4, 0.85) if domain == "caption" else (0.3, 0.85)
            return self._from_group(domain, least, most, rng)
        if domain in ("everyday", "definition", "concepts") and rng.random() < self.mixture.near_copies:
            return self._near_copy(domain, rng)
        first = self.sentence(rng, domain)
        edits = self._meaning_edits(domain)
        second = self._edited(first, edits, rng.choice(self.mixture.edits), rng)
        opened = rng.random() < self.mixture.opened
        if opened and words(second or first)[:1] == words(first)[:1]:
            second = self.rewriter.change_opening(second or first, domain, rng) or second
        if second is None or not 0.3 <= jaccard(first, second) <= (0.86 if len(words(first)) > 4 else 0.95):
            return None
        return (first, second) if rng.random() < 0.6 else (second, first)

    def _meaning_edits(self, domain: str) -> list[Edit]:
        """The edits with how often each is tried; those that nearly always succeed are tried least."""
        rewriter = self.rewriter
        tries: dict[Edit, int] = {
            rewriter.synonym: 8,
            rewriter.swap_phrase: 5,
            rewriter.drop_filler: 2,
            rewriter.swap_and: 2,
        }
        tries |= {rewriter.articles: 1, rewriter.headline: 1, rewriter.tense: 1}
        if domain in ("caption", "concepts"):
            tries |= {rewriter.voice: 6, rewriter.tail_first: 3, rewriter.drop_adjective: 2}
        if domain in ("everyday", "encyclopedia", "request"):
            tries |= {rewriter.tail_first: 2}
        return [edit for edit, times in tries.items() for _ in range(times)]

    def _from_group(self, domain: str, least: float, most: float, rng: random.Random) -> Pair | None:
        group = rng.choice(self.groups[domain])
        if len(group) < 2:
            return None
        first = rng.choice(group)
        fitting = [s for s in group if s != first and least <= self.weighted_overlap(first, s) <= most]
        return (first, rng.choice(fitting)) if fitting else None

    def _near_copy(self, domain: str, rng: random.Random) -> Pair | None:
        """Neighbours that differ in words of little weight only, and in no number or negation."""
        for _ in range(40):
            i, j, cosine = rng.choice(self.neighbours[domain])
            pool = self.pools[domain]
            first, second = set(words(pool[i])), set(words(pool[j]))
            different = first ^ second
            light = all(self.lexicon.weight(word) < 5.5 for word in different)
            telling = any(word.isdigit() or word in _TELLING or word.endswith("nt") for word in different)
            if cosine > 0.85 and different and light and not telling:
                return pool[i], pool[j]
        return None

    def similar(self, rng: random.Random) -> Pair | None:
        """A pair for "are somewhat similar": the topic is shared, the statement is not."""
        domain = self._domain(rng)
        if domain == "news":
            return self.news.similar(rng)
        kind = rng.random()
        mixture = self.mixture
        if kind < mixture.captions and domain in ("caption", "request", "concepts", "restaurant"):
            return self._from_group(domain, 0.08, 0.4, rng)
        if kind < mixture.captions + mixture.neighbours and domain in self.neighbours:
            i, j, cosine = rng.choice(self.neighbours[domain])
            pool = self.pools[domain]
            overlap = self.weighted_overlap(pool[i], pool[j])
            return (pool[i], pool[j]) if cosine < 0.85 and 0.2 <= overlap <= 0.65 else None
        if kind < mixture.captions + mixture.neighbours + mixture.openings:
            return self._same_opening(domain, rng)
        first = self.sentence(rng, domain)
        changed = self.rewriter.pivot(first, rng)
        if changed is None or rng.random() < SHORTENED:
            changed = self.rewriter.drop_tail(changed or first, rng) or changed
        if changed is None or not 0.2 <= self.weighted_overlap(first, changed) <= 0.8:
            return None
        return first, changed

    def _same_opening(self, domain: str, rng: random.Random) -> Pair | None:
        """Two sentences that begin with the same three words, and have some word of content in common."""
        first = self.sentence(rng, domain)
        others = self.openings[domain][words(first)[:3]]
        for second in rng.sample(others, min(len(others), 12)):
            shared = self.lexicon.content(words(first)) & set(words(second))
            if second != first and shared and 0.25 <= self.weighted_overlap(first, second) <= 0.7:
                return first, second
        return None

    def unrelated(self, rng: random.Random) -> Pair | None:
        """A pair for "are on completely different topics": no word of content in common, mostly one domain."""
        domain = self._domain(rng)
        first = self.sentence(rng, domain)
        second = self.sentence(rng, domain if rng.random() < 0.6 else None)
        if self.lexicon.content(words(first)) & self.lexicon.content(words(second)):
            return None
        return first, second

    def styled(self, pair: Pair, rng: random.Random) -> Pair:
        """Gives both sentences one look (capital and full stop, capital only, lower case), names of their own."""
        if "Tom" in pair[0] + pair[1] or "Mary" in pair[0] + pair[1]:
            man, woman = rng.sample(NAMES, 2)
            pair = tuple(s.replace("Tom", man).replace("Mary", woman) for s in pair)  # type: ignore[assignment]
        look = rng.choices(("sentence", "plain", "lower", "mixed"), (0.56, 0.16, 0.24, 0.04))[0]

        def dress(text: str, look: str) -> str:
            if look == "lower":
                return text.lower().rstrip(".")
            text = text[:1].upper() + text[1:]
            if look == "plain":
                return text.rstrip(".")
            return text if text[-1:] in ".!?" else text + "."

        if look == "mixed":
            return dress(pair[0], rng.choice(("sentence", "plain"))), dress(pair[1], rng.choice(("lower", "plain")))
        return dress(pair[0], look), dress(pair[1], look)

    def draw(self, rng: random.Random) -> Iterator[tuple[str, Pair]]:
        """Pairs without end: ``(label, (sentence 1, sentence 2))``, the labels in turn."""
        makers: tuple[tuple[str, Callable[[random.Random], Pair | None]], ...]
        makers = (("1", self.same), ("0.5", self.similar), ("0", self.unrelated))
        while True:
            for label, make in makers:
                pair = None
                while pair is None or pair[0] == pair[1]:
                    pair = make(rng)
                if label != "0" and rng.random() < RENAMED:
                    pair = self.rewriter.rename(pair, rng)
                yield label, self.styled(pair, rng)
