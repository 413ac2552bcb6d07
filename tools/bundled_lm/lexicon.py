"""Which words may stand for one another: WordNet says so, and the corpora use both in the same company."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from tools.bundled_lm.sources import words

SYNONYM_COSINE, NEIGHBOUR_COSINE = 0.2, 0.5
RARE, NEIGHBOURS = 12, 12
OWN_SYNONYMS = Path(__file__).with_name("synonyms.txt")
IRREGULAR_PASTS = dict(
    pair.split("=")
    for pair in [
        "buy=bought",
        "begin=began",
        "say=said",
        "speak=spoke",
        "throw=threw",
        "hold=held",
        "hit=hit",
        "give=gave",
        "get=got",
        "think=thought",
        "understand=understood",
        "know=knew",
        "find=found",
        "make=made",
        "see=saw",
        "take=took",
        "tell=told",
        "fall=fell",
        "rise=rose",
        "build=built",
        "keep=kept",
        "sit=sat",
        "run=ran",
        "ride=rode",
        "choose=chose",
        "leave=left",
        "lose=lost",
        "win=won",
        "sell=sold",
        "send=sent",
        "catch=caught",
        "cut=cut",
        "shut=shut",
        "hurt=hurt",
        "slay=slew",
        "feel=felt",
        "eat=ate",
        "drink=drank",
        "grow=grew",
        "bring=brought",
        "break=broke",
    ]
)


def inflected(lemma: str, pos: str) -> dict[str, str]:
    """Regular forms of a lemma by their tag; what the corpora do not attest is dropped by the caller."""
    sibilant = lemma.endswith(("s", "x", "z", "ch", "sh"))
    plural = lemma[:-1] + "ies" if lemma[-1] == "y" and lemma[-2:-1] not in "aeiou" else lemma + "es" * sibilant
    plural = plural if sibilant or plural.endswith("ies") else lemma + "s"
    if pos == "n":
        return {"n": lemma, "ns": plural}
    if pos != "v":
        return {pos: lemma}
    stem = lemma[:-1] if lemma.endswith("e") and not lemma.endswith("ee") else lemma
    doubled = len(lemma) <= 4 and lemma[-1] in "bdgmnprt" and lemma[-2:-1] in "aeiou" and lemma[-3:-2] not in "aeiou"
    stem += lemma[-1] * doubled
    past = IRREGULAR_PASTS.get(lemma, lemma[:-1] + "ied" if plural.endswith("ies") else stem + "ed")
    return {"v": lemma, "vs": plural, "ving": stem + "ing", "ved": past}


class Lexicon:
    """Synonyms and near terms of inflected words, with the weight of each word (inverse document frequency).

    A synonym shares one of the first two WordNet senses (or a line of ``synonyms.txt``) and the inflection. A near
    term stands between the same words in the corpora ("guitar", "piano", "drums"): like in kind, other in meaning.

    Args:
        sentences: The text to learn frequencies and company from.
        wordnet: The folder with ``synsets.jsonl`` and ``senses.jsonl``.
    """

    def __init__(self, sentences: Iterable[str], wordnet: Path) -> None:
        texts = list(sentences)
        vectorizer = TfidfVectorizer(analyzer=words, min_df=RARE, sublinear_tf=True, dtype=np.float32)
        matrix = vectorizer.fit_transform(texts)
        self.index: dict[str, int] = vectorizer.vocabulary_
        self.idf = dict(zip(self.index, (float(vectorizer.idf_[i]) for i in self.index.values()), strict=True))
        vectors = TruncatedSVD(150, algorithm="randomized", n_iter=2, random_state=0).fit(matrix).components_.T
        self.vectors: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        self.counts = Counter(word for text in texts for word in words(text))
        self.bigrams = Counter(
            pair for text in texts for pair in zip(("", *words(text)), (*words(text), ""), strict=True)
        )
        self.synonyms = self._synonyms(wordnet)
        self.near = self._near(texts)
        self.tenses = self._tenses(wordnet)
        self.rare = sorted(w for w, n in self.counts.items() if 2 <= n < RARE and w.isalpha() and len(w) > 3)

    def weight(self, word: str) -> float:
        """The word's inverse document frequency; unknown words weigh most."""
        return self.idf.get(word, 12.0)

    def content(self, tokens: Iterable[str]) -> set[str]:
        """The words that carry meaning: rarer than one in about sixty sentences."""
        return {token for token in tokens if self.weight(token) > 5.0}

    def cosine(self, left: str, right: str) -> float:
        """How alike the company of two words is."""
        return float(self.vectors[self.index[left]] @ self.vectors[self.index[right]])

    def fits(self, left: str, word: str, right: str) -> bool:
        """Whether the corpora put the word after ``left`` and before ``right`` (``""`` at an end of the sentence)."""
        pairs = ((left.lower(), word.lower()), (word.lower(), right.lower()))
        return all(self.bigrams[pair] > 1 or "" in pair for pair in pairs)

    def _synonyms(self, wordnet: Path) -> dict[str, list[str]]:
        senses: dict[tuple[str, str], list[str]] = {}
        for record in map(json.loads, (wordnet / "senses.jsonl").read_text(encoding="utf-8").splitlines()):
            if record["lemma"].isalpha():
                senses[record["lemma"], record["pos"].replace("s", "a")] = record["synsets"][:2]
        members: dict[str, set[str]] = defaultdict(set)
        for (lemma, _), ids in senses.items():
            for synset in ids:
                members[synset].add(lemma)
        synonyms: dict[str, set[str]] = defaultdict(set)
        for (lemma, pos), ids in senses.items():
            same = set().union(*(members[synset] for synset in ids)) - {lemma}
            self._pair_forms(lemma, pos, same, SYNONYM_COSINE, synonyms)
        for line in OWN_SYNONYMS.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                pos, *lemmas = line.split()
                for lemma in lemmas:
                    self._pair_forms(lemma, pos, set(lemmas) - {lemma}, -1.0, synonyms)
        return {word: sorted(others) for word, others in synonyms.items()}

    def _tenses(self, wordnet: Path) -> dict[str, list[str]]:
        """From the present of the third person to the past and back, where the corpora have both."""
        tenses: dict[str, list[str]] = {
            "is": ["was"],
            "are": ["were"],
            "has": ["had"],
            "does": ["did"],
            "says": ["said"],
        }
        for record in map(json.loads, (wordnet / "senses.jsonl").read_text(encoding="utf-8").splitlines()):
            if record["pos"] == "v" and record["lemma"].isalpha():
                forms = inflected(record["lemma"], "v")
                if forms["vs"] in self.index and forms["ved"] in self.index:
                    tenses.setdefault(forms["vs"], [forms["ved"]])
        return tenses | {past: [present] for present, (past,) in tenses.items() if past not in tenses}

    def _pair_forms(self, lemma: str, pos: str, others: set[str], least: float, into: dict[str, set[str]]) -> None:
        for tag, form in inflected(lemma, pos).items():
            if form not in self.index:
                continue
            for other in others:
                candidate = inflected(other, pos)[tag]
                if candidate in self.index and candidate != form and self.cosine(form, candidate) >= least:
                    into[form].add(candidate)

    def _near(self, texts: list[str]) -> dict[str, list[str]]:
        """Words with the same neighbours left and right: positive mutual information, reduced, nearest by cosine."""
        contexts = {word: i for i, (word, _) in enumerate(self.counts.most_common(4000))}
        pairs: Counter[tuple[int, int]] = Counter()
        for text in texts:
            tokens = ("", *words(text), "")
            for left, word, right in zip(tokens, tokens[1:], tokens[2:], strict=False):
                row = self.index.get(word)
                if row is not None:
                    pairs[row, contexts.get(left, 4000)] += 1
                    pairs[row, 4001 + contexts.get(right, 4000)] += 1
        rows, columns = np.array(list(pairs)).T
        counts = csr_matrix((np.fromiter(pairs.values(), np.float64), (rows, columns)), (len(self.index), 8002))
        expected = counts.sum(1).A1[rows] * counts.sum(0).A1[columns] / counts.sum()
        counts = csr_matrix((np.log(np.fromiter(pairs.values(), np.float64) / expected).clip(0), (rows, columns)))
        vectors = TruncatedSVD(150, n_iter=2, random_state=0).fit_transform(counts)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        names = sorted(self.index, key=self.index.__getitem__)
        near = {}
        for word, row in self.index.items():
            if self.counts[word] >= 2 * RARE and word.isalpha() and self.weight(word) > 4.0:
                scores = vectors @ vectors[row]
                best = np.argsort(-scores)[1 : NEIGHBOURS + 1]
                found = [names[i] for i in best if scores[i] >= NEIGHBOUR_COSINE and names[i].isalpha()]
                near[word] = [w for w in found if self.weight(w) > 4.0 and w not in self.synonyms.get(word, ())]
        return {word: others for word, others in near.items() if others}
