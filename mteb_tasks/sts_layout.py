"""Where the files of the STS tasks lie in a directory in SentEval layout, and how many pairs each must hold.

Facts only. Sizes: the task descriptions of SemEval 2012 to 2017 and of SICK; they count the pairs with a gold score,
for STS15 and STS16 publish many more pairs than were scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class YearLayout:
    """The files of one SemEval year.

    Attributes:
        folder: Directory below the root that holds `STS.input.SOURCE.txt` and `STS.gs.SOURCE.txt`.
        sources: Each source's name and its number of scored pairs, in the order in which they are pooled.
    """

    folder: str
    sources: Mapping[str, int]

    @property
    def pairs(self) -> int:
        """Number of scored pairs over all sources."""
        return sum(self.sources.values())

    def input_file(self, source: str) -> str:
        """Path of a source's sentence pairs, relative to the root."""
        return f"{self.folder}/STS.input.{source}.txt"

    def gold_file(self, source: str) -> str:
        """Path of a source's gold scores, relative to the root."""
        return f"{self.folder}/STS.gs.{source}.txt"


@dataclass(frozen=True)
class TableFile:
    """One file that holds sentences and gold scores together, tab-separated and never quoted.

    Attributes:
        path: The file, relative to the root.
        pairs: Number of pairs in it.
        sentence_columns: Zero-based columns of the two sentences.
        score_column: Zero-based column of the gold score.
        has_header: Whether the first line names the columns.
    """

    path: str
    pairs: int
    sentence_columns: tuple[int, int]
    score_column: int
    has_header: bool


def _year(year: str, sources: dict[str, int]) -> YearLayout:
    return YearLayout(f"STS/{year}-en-test", MappingProxyType(sources))


def _sts_benchmark(split: str, pairs: int) -> TableFile:
    return TableFile(f"STS/STSBenchmark/sts-{split}.csv", pairs, (5, 6), 4, has_header=False)


def _sick(part: str, pairs: int) -> TableFile:
    return TableFile(f"SICK/SICK_{part}.txt", pairs, (1, 2), 3, has_header=True)


STS12 = _year(
    "STS12", {"MSRpar": 750, "MSRvid": 750, "SMTeuroparl": 459, "surprise.OnWN": 750, "surprise.SMTnews": 399}
)
STS13 = _year("STS13", {"FNWN": 189, "headlines": 750, "OnWN": 561})
STS14 = _year(
    "STS14",
    {"deft-forum": 450, "deft-news": 300, "headlines": 750, "images": 750, "OnWN": 750, "tweet-news": 750},
)
STS15 = _year("STS15", {"answers-forums": 375, "answers-students": 750, "belief": 375, "headlines": 750, "images": 750})
STS16 = _year(
    "STS16",
    {"answer-answer": 254, "headlines": 249, "plagiarism": 230, "postediting": 244, "question-question": 209},
)

STS_BENCHMARK_DEV = _sts_benchmark("dev", 1500)
STS_BENCHMARK_TEST = _sts_benchmark("test", 1379)

SICK_TRAIN = _sick("train", 4500)
SICK_TRIAL = _sick("trial", 500)
SICK_TEST = _sick("test_annotated", 4927)

EXPECTED_LAYOUT = """\
DIR/STS/STS12-en-test/STS.input.MSRpar.txt and STS.gs.MSRpar.txt, and so on for every source
DIR/STS/STS13-en-test, STS14-en-test, STS15-en-test, STS16-en-test: likewise
DIR/STS/STSBenchmark/sts-dev.csv and sts-test.csv
DIR/SICK/SICK_train.txt, SICK_trial.txt and SICK_test_annotated.txt"""
