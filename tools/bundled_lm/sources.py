"""Reads the public corpora that the bundled model learns from, and drops what also stands in an evaluation file.

Every corpus is a folder with ``sentences.txt`` (one a line) or ``groups.jsonl`` (sentences of one image, one intent,
one restaurant, ...), plus ``PROVENANCE.txt``.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """One corpus: where it lies, whose it is, how it may be used."""

    folder: str
    licence: str
    origin: str
    domain: str


SOURCES = (
    Source("coco_captions_val2017", "CC BY 4.0", "COCO captions (cocodataset.org), val2017", "caption"),
    Source("coco_captions_karpathy_test5k_dev1k", "CC BY 4.0", "COCO captions, Karpathy split", "caption"),
    Source("coco_captions_texygen20k", "CC BY 4.0", "COCO captions, the Texygen selection", "caption"),
    Source("snli_dev_test", "CC BY-SA 4.0", "SNLI (Bowman et al. 2015), development and test sentences", "caption"),
    Source("commongen", "MIT", "CommonGen (Lin et al. 2020)", "concepts"),
    Source(
        "tatoeba_laser_eng", "CC BY 2.0 FR", "Tatoeba (tatoeba.org), the English side of LASER's test set", "everyday"
    ),
    Source("clinc150", "CC BY 3.0", "CLINC150 (Larson et al. 2019)", "request"),
    Source("clinc_wiki_sents", "CC BY-SA 3.0", "Wikipedia sentences in CLINC150", "encyclopedia"),
    Source(
        "open_english_wordnet", "CC BY 4.0 and WordNet", "Open English WordNet: usage examples, definitions", "wordnet"
    ),
    Source("e2e_nlg_dev_test", "CC BY-SA 4.0", "E2E NLG challenge (Novikova et al. 2017), dev and test", "restaurant"),
)
"""Only corpora that may be redistributed; sentences come from here and nowhere else."""

_WORD = re.compile(r"[a-z0-9]+")
_SPACE_BEFORE = re.compile(r"\s+([.,!?;:%)'])")
_ODD = re.compile(r"[\"“”«»_*<>{}\[\]|\\/=#@~^]|https?:|\.\.\.|--")
_COARSE = re.compile(
    r"\b(sex\w*|porn\w*|fuck\w*|shit\w*|nigg\w*|whore\w*|rap(?:e|ed|ist)|bitch\w*|penis|vagina\w*|suicid\w*)\b", re.I
)


def words(sentence: str) -> tuple[str, ...]:
    """The sentence's words and numbers, lower-cased: what two sentences are compared by, everywhere in this program."""
    return tuple(_WORD.findall(sentence.lower().replace("’", "'").replace("'", "")))


def tidy(sentence: str) -> str:
    """The sentence as a person would type it: tokenisation undone, plain apostrophes, single spaces."""
    text = " ".join(sentence.replace("’", "'").replace("‘", "'").replace("``", "").replace("''", "").split())
    text = re.sub(r" (n't|'s|'re|'ll|'ve|'d|'m)\b", r"\1", _SPACE_BEFORE.sub(r"\1", text))
    text = re.sub(r"(\w) - (\w)", r"\1-\2", text).strip()
    return text.capitalize() if sum(map(str.isupper, text)) > 0.6 * len(text) else text


@dataclass
class Evaluation:
    """The sentences of the evaluation files, as what must not be learnt: whole sentences and runs of eight words."""

    sentences: set[tuple[str, ...]] = field(default_factory=set)
    runs: set[tuple[str, ...]] = field(default_factory=set)

    @classmethod
    def read(cls, root: Path) -> "Evaluation":
        """Collects every text field of every file under ``root/STS`` and ``root/SICK``.

        Reading every field of every file (scores and names of sources among them), instead of the columns that hold
        sentences, can only make the list longer.
        """
        found = cls()
        for path in sorted(p for name in ("STS", "SICK") for p in (root / name).rglob("*") if p.is_file()):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                for text in line.split("\t"):
                    found.add(text)
        return found

    def add(self, text: str) -> None:
        """Adds one text."""
        tokens = words(text)
        if len(tokens) >= 2:
            self.sentences.add(tokens)
            self.runs.update(tokens[i : i + 8] for i in range(len(tokens) - 7))

    def overlaps(self, sentence: str) -> str | None:
        """Why the sentence may not be used (``"sentence"`` or ``"8-gram"``), or ``None`` where it may."""
        tokens = words(sentence)
        if tokens in self.sentences:
            return "sentence"
        if any(tokens[i : i + 8] in self.runs for i in range(len(tokens) - 7)):
            return "8-gram"
        return None


@dataclass
class Corpora:
    """What is left to learn from after the evaluation's sentences went: groups and single sentences by domain."""

    groups: dict[str, list[list[str]]]
    sentences: dict[str, list[str]]
    dropped: dict[str, int]

    def everything(self) -> Iterator[str]:
        """Every sentence, groups first; one that stands in two places comes twice."""
        for groups in self.groups.values():
            for group in groups:
                yield from group
        for sentences in self.sentences.values():
            yield from sentences

    def split(self, one_in: int = 50) -> "tuple[Corpora, Corpora]":
        """What to train on, and one in so many groups and sentences kept back; the choice depends on the text alone."""

        def kept_back(sentence: str) -> bool:
            return int.from_bytes(blake2b(" ".join(words(sentence)).encode(), digest_size=4).digest()) % one_in == 0

        parts = (Corpora({}, {}, self.dropped), Corpora({}, {}, {}))
        for back, part in enumerate(parts):
            for name, groups in self.groups.items():
                part.groups[name] = [group for group in groups if kept_back(group[0]) == bool(back)]
            for name, sentences in self.sentences.items():
                part.sentences[name] = [sentence for sentence in sentences if kept_back(sentence) == bool(back)]
        return parts


def read_corpora(root: Path, evaluation: Evaluation) -> Corpora:
    """Reads all sources; drops odd, too short, too long, repeated and evaluation sentences, and counts them."""
    dropped = dict.fromkeys(("odd", "length", "repeated", "sentence", "8-gram"), 0)
    seen: set[tuple[str, ...]] = set()

    def kept(raw: Iterable[str]) -> list[str]:
        result = []
        for sentence in map(tidy, raw):
            tokens = words(sentence)
            reason: str | None = None
            if _ODD.search(sentence) or _COARSE.search(sentence) or not sentence.isascii():
                reason = "odd"
            elif not 3 <= len(tokens) <= 32:
                reason = "length"
            elif tokens in seen:
                reason = "repeated"
            else:
                reason = evaluation.overlaps(sentence)
            if reason is not None:
                dropped[reason] += 1
                continue
            seen.add(tokens)
            result.append(sentence)
        return result

    corpora = Corpora({}, {}, dropped)
    for source in SOURCES:
        folder = root / source.folder
        if (folder / "groups.jsonl").exists():
            lines = (folder / "groups.jsonl").read_text(encoding="utf-8").splitlines()
            records = [json.loads(line) for line in lines]
            groups = [kept(record["sentences"]) for record in records if record["id"] != "oos"]
            corpora.groups.setdefault(source.domain, []).extend(group for group in groups if group)
        else:
            lines = (folder / "sentences.txt").read_text(encoding="utf-8").splitlines()
            name = "example" if source.domain == "wordnet" else source.domain
            corpora.sentences.setdefault(name, []).extend(kept(lines))
    glosses = (root / "open_english_wordnet" / "glosses.tsv").read_text(encoding="utf-8").splitlines()
    corpora.sentences["definition"] = kept(re.sub(r"^\([^)]*\)\s*", "", line.split("\t")[2]) for line in glosses)
    return corpora
