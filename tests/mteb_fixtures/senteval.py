"""Writes a whole directory in SentEval layout: real sizes and quirks, made-up sentences.

The sizes are written out here once more, from the task descriptions, so that they check those in the package.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

WORDS = (
    *("a", "the", "man", "woman", "dog", "cat", "child", "girl", "boy", "player", "train", "house", "river", "plays"),
    *("sees", "holds", "rides", "paints", "eats", "runs", "old", "young", "green", "red", "small", "large", "quickly"),
    *("slowly", "with", "without", "under", "over", "guitar", "horse", "ball", "bread", "garden", "street"),
)

YEARS = {
    "STS12": {"MSRpar": 750, "MSRvid": 750, "SMTeuroparl": 459, "surprise.OnWN": 750, "surprise.SMTnews": 399},
    "STS13": {"FNWN": 189, "headlines": 750, "OnWN": 561},
    "STS14": {"deft-forum": 450, "deft-news": 300, "headlines": 750, "images": 750, "OnWN": 750, "tweet-news": 750},
    "STS15": {"answers-forums": 375, "answers-students": 750, "belief": 375, "headlines": 750, "images": 750},
    "STS16": {"answer-answer": 254, "headlines": 249, "plagiarism": 230, "postediting": 244, "question-question": 209},
}
STS_BENCHMARK = {"dev": 1500, "test": 1379}
SICK = {"train": 4500, "trial": 500, "test_annotated": 4927}
UNSCORED_YEARS = ("STS15", "STS16")


def write_sts_directory(root: Path, *, tokenised: bool = False, seed: int = 0) -> Path:
    """Writes every file that the STS tasks read.

    Args:
        root: Where to; it becomes the directory that holds `STS` and `SICK`.
        tokenised: Lower case and punctuation set apart, as in SentEval's own release.
        seed: Seed of the sentences and scores.

    Returns:
        The root.
    """
    rng = random.Random(seed)
    for year, sources in YEARS.items():
        folder = root / "STS" / f"{year}-en-test"
        folder.mkdir(parents=True)
        for source, pairs in sources.items():
            _write_source(folder, year, source, pairs, rng, tokenised)
    _write_sts_benchmark(root / "STS" / "STSBenchmark", rng, tokenised)
    _write_sick(root / "SICK", rng, tokenised)
    return root


def _pairs(count: int, rng: random.Random, tokenised: bool) -> Iterator[tuple[str, str, float]]:
    for _ in range(count):
        first = [rng.choice(WORDS) for _ in range(rng.randint(3, 9))]
        share = rng.random()
        second = [word if rng.random() < share else rng.choice(WORDS) for word in first]
        score = round(min(5, max(0, 5 * share + rng.gauss(0, 0.5))), 3)
        yield _sentence(first, tokenised), _sentence(second, tokenised), score


def _sentence(words: list[str], tokenised: bool) -> str:
    text = " ".join(words)
    return f"{text} ." if tokenised else f"{text.capitalize()}."


def _write_source(folder: Path, year: str, source: str, pairs: int, rng: random.Random, tokenised: bool) -> None:
    lines, gold = [], []
    for first, second, score in _pairs(pairs, rng, tokenised):
        notes = "\thttp://example.org/1\thttp://example.org/2" if year == "STS16" and not tokenised else ""
        lines.append(f"{first}\t{second}{notes}")
        gold.append(f"{score}")
        if year in UNSCORED_YEARS and rng.random() < 0.3:
            lines.append(f"Nobody scored this\tpair{notes}")
            gold.append("")
    (folder / f"STS.input.{source}.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    (folder / f"STS.gs.{source}.txt").write_bytes("".join(f"{line}\n" for line in gold).encode())


def _write_sts_benchmark(folder: Path, rng: random.Random, tokenised: bool) -> None:
    folder.mkdir(parents=True)
    for split, count in STS_BENCHMARK.items():
        with (folder / f"sts-{split}.csv").open("w", encoding="utf-8", newline="") as file:
            for number, (first, second, score) in enumerate(_pairs(count, rng, tokenised)):
                quote = '"' if number % 50 == 0 else ""  # unbalanced, as in the real file
                notes = "\tnote\tnote" if number % 5 == 0 and not tokenised else ""
                file.write(f"main-news\theadlines\t2016\t{number:04}\t{score:.3f}\t{quote}{first}\t{second}{notes}\n")


def _write_sick(folder: Path, rng: random.Random, tokenised: bool) -> None:
    folder.mkdir(parents=True)
    for part, count in SICK.items():
        end = "\r\n" if part == "test_annotated" else "\n"
        with (folder / f"SICK_{part}.txt").open("w", encoding="utf-8", newline="") as file:
            file.write(f"pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment{end}")
            for number, (first, second, score) in enumerate(_pairs(count, rng, tokenised)):
                file.write(f"{number}\t{first}\t{second}\t{1 + score * 0.8:.2f}\tNEUTRAL{end}")
