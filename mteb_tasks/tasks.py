"""The STS tasks of the papers and their benchmark: declarations alone."""

from __future__ import annotations

from importlib import resources
from typing import Any

from mteb.benchmarks.benchmark import Benchmark

from mteb_tasks import sts_files
from mteb_tasks.abstask import AbsTaskSTSData, LocalTaskMetadata, sts_metadata

BENCHMARK_NAME = "DinoSTS(eng, v1)"

_PROTOCOL = "Main score: Spearman correlation of cosine similarity over all pairs, as in the DINO and SynCSE papers."


def bibtex(key: str) -> str:
    """An entry of `citations.bib`; those of mteb's own STS14, STS15 and STS16 name other papers."""
    entries = resources.files("mteb_tasks").joinpath("citations.bib").read_text(encoding="utf-8").split("\n\n")
    return next(f"\n{entry.strip()}\n" for entry in entries if entry.partition("{")[2].startswith(f"{key},"))


def _metadata(*, description: str, citation: str, **fields: Any) -> LocalTaskMetadata:
    """Fills in what all of the tasks have in common."""
    fields = {"annotations_creators": "human-annotated", "sample_creation": "created"} | fields
    return sts_metadata(description=f"{description} {_PROTOCOL}", bibtex_citation=bibtex(citation), **fields)


class DinoSTS12(AbsTaskSTSData):
    """SemEval-2012 Task 6: 3,108 test pairs from five sources."""

    files = (sts_files.STS12,)
    metadata = _metadata(
        name="DinoSTS12",
        description="SemEval-2012 Task 6, five sources. The readme of the data names no licence of its own; for MSRpar "
        "and MSRvid it refers to the terms of Microsoft Research.",
        dataset={"path": "mteb/sts12-sts", "revision": "a0d554a64d88156834ff5ae9920b964011b16384"},
        reference="https://aclanthology.org/S12-1051",
        date=("2005-01-01", "2012-12-31"),
        domains=["Encyclopaedic", "News", "Written"],
        citation="agirre-etal-2012-semeval",
        adapted_from=["STS12"],
    )


class DinoSTS13(AbsTaskSTSData):
    """*SEM 2013 shared task without its SMT source, which is not free: 1,500 test pairs from three sources."""

    files = (sts_files.STS13,)
    metadata = _metadata(
        name="DinoSTS13",
        description="*SEM 2013 shared task, three sources (the fourth, SMT, may not be redistributed).",
        dataset={"path": "mteb/sts13-sts", "revision": "7e90230a92c190f1bf69ae9002b8cea547a64cca"},
        reference="https://aclanthology.org/S13-1004",
        date=("2012-01-01", "2012-12-31"),
        domains=["Web", "News", "Non-fiction", "Written"],
        citation="agirre-etal-2013-sem",
        adapted_from=["STS13"],
    )


class DinoSTS14(AbsTaskSTSData):
    """SemEval-2014 Task 10, English: 3,750 test pairs from six sources."""

    files = (sts_files.STS14,)
    metadata = _metadata(
        name="DinoSTS14",
        description="SemEval-2014 Task 10, English, six sources. The image captions are under a Creative Commons "
        "Attribution-ShareAlike licence; the readme names none for the other sources.",
        dataset={"path": "mteb/sts14-sts", "revision": "6031580fec1f6af667f0bd2da0a551cf4f0b2375"},
        reference="https://aclanthology.org/S14-2010",
        date=("2012-01-01", "2012-08-31"),
        domains=["Blog", "News", "Web", "Spoken"],
        citation="agirre-etal-2014-semeval",
        adapted_from=["STS14"],
    )


class DinoSTS15(AbsTaskSTSData):
    """SemEval-2015 Task 2, English: 3,000 test pairs from five sources."""

    files = (sts_files.STS15,)
    metadata = _metadata(
        name="DinoSTS15",
        description="SemEval-2015 Task 2, English, five sources. The answers-forums pairs are under CC BY-SA 3.0; the "
        "release names no licence for the other sources.",
        dataset={"path": "mteb/sts15-sts", "revision": "ae752c7c21bf194d8b67fd573edf7ae58183cbe3"},
        reference="https://aclanthology.org/S15-2045",
        date=("2008-01-01", "2014-07-28"),
        domains=["Blog", "News", "Web", "Written", "Spoken"],
        citation="agirre-etal-2015-semeval",
        adapted_from=["STS15"],
    )


class DinoSTS16(AbsTaskSTSData):
    """SemEval-2016 Task 1, English: 1,186 test pairs from five sources."""

    files = (sts_files.STS16,)
    metadata = _metadata(
        name="DinoSTS16",
        description="SemEval-2016 Task 1, English, five sources, each with a licence of its own: CC BY-SA 3.0 "
        "(question-question, answer-answer), CC BY 4.0 (postediting), CC BY-NC-SA 2.0 UK (plagiarism), and the terms "
        "of the Europe Media Monitor (headlines).",
        license="multiple",
        dataset={"path": "mteb/sts16-sts", "revision": "4d8694f8f0e0100860b497b999b3dbed754a0513"},
        reference="https://aclanthology.org/S16-1081",
        date=("2015-10-01", "2015-12-31"),
        domains=["Blog", "News", "Web", "Spoken"],
        citation="agirre-etal-2016-semeval",
        adapted_from=["STS16"],
    )


class DinoSTSBenchmark(AbsTaskSTSData):
    """STS Benchmark with all 1,379 test pairs, and its 1,500 development pairs as the split `validation`."""

    files = (sts_files.STS_BENCHMARK_TEST,)
    validation_files = (sts_files.STS_BENCHMARK_DEV,)
    metadata = _metadata(
        name="DinoSTSBenchmark",
        description="STS Benchmark (SemEval-2017 Task 1), all 1,379 test pairs. The gold scores are under CC BY-SA "
        "4.0; each source of the text has a licence of its own.",
        license="multiple",
        dataset={"path": "mteb/stsbenchmark-sts", "revision": "b0fddb56ed78048fa8b90373c8a3cfc37b684831"},
        reference="https://aclanthology.org/S17-2001",
        date=("2012-01-01", "2017-12-31"),
        domains=["Blog", "News", "Written"],
        citation="cer-etal-2017-semeval",
        adapted_from=["STSBenchmark"],
    )


_SICK: dict[str, Any] = {
    "license": "cc-by-nc-sa-3.0",
    "dataset": {"path": "mteb/sickr-sts", "revision": "20a6d6f312dd54037fe07a32d58e5e168867909d"},
    "reference": "https://aclanthology.org/L14-1314",
    "date": ("2014-01-01", "2014-12-31"),
    "domains": ["Web", "Written"],
    "task_subtypes": ["Textual Entailment"],
    "citation": "marelli-etal-2014-sick",
    "adapted_from": ["SICK-R"],
}


class DinoSICKR(AbsTaskSTSData):
    """SICK relatedness, the 4,927 test pairs that papers report."""

    files = (sts_files.SICK_TEST,)
    on_hub = False
    metadata = _metadata(
        name="DinoSICKR",
        description="SICK relatedness (SemEval-2014 Task 1), the 4,927 pairs of the test file.",
        **_SICK,
    )


class DinoSICKRAll(AbsTaskSTSData):
    """SICK relatedness, all 9,927 pairs of the train, trial and test files, as in MTEB's SICK-R."""

    files = (sts_files.SICK_TRAIN, sts_files.SICK_TRIAL, sts_files.SICK_TEST)
    metadata = _metadata(
        name="DinoSICKRAll",
        description="SICK relatedness (SemEval-2014 Task 1), all 9,927 pairs of its train, trial and test files.",
        **_SICK,
    )


STS_TASKS: tuple[type[AbsTaskSTSData], ...] = (
    DinoSTS12,
    DinoSTS13,
    DinoSTS14,
    DinoSTS15,
    DinoSTS16,
    DinoSTSBenchmark,
    DinoSICKR,
)
ALL_TASKS: tuple[type[AbsTaskSTSData], ...] = (*STS_TASKS, DinoSICKRAll)


def make_benchmark() -> Benchmark:
    """Makes the benchmark with fresh task instances, which read DINO_ST_STS_DIR, the datasets cache or the hub."""
    return Benchmark(
        name=BENCHMARK_NAME,
        tasks=[task() for task in STS_TASKS],
        description="The seven English STS tasks that papers on unsupervised sentence embeddings report, scored as "
        "they score them: Spearman correlation over all pairs of a year, the full STS Benchmark test set, and the "
        "4,927 test pairs of SICK.",
        reference="https://arxiv.org/abs/2104.07540",
        citation=bibtex("schick-schutze-2021-generating"),
    )
