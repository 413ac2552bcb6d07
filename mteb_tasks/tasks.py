"""The STS tasks of the papers and their benchmark: declarations, and where the data come from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import datasets
from datasets import Dataset, DatasetDict, concatenate_datasets
from datasets.exceptions import DatasetNotFoundError
from mteb.benchmarks.benchmark import Benchmark

from dino_st.errors import DatasetError, InputError
from mteb_tasks import sts_files
from mteb_tasks.abstask import AbsTaskScoredPairs, LocalTaskMetadata
from mteb_tasks.sts_files import ScoredPair, TableFile, YearLayout, find_root, read_table, read_year

STS12 = r"""
@inproceedings{agirre-etal-2012-semeval,
  address = {Montr{\'e}al, Canada},
  author = {Agirre, Eneko and Cer, Daniel and Diab, Mona and Gonzalez-Agirre, Aitor},
  booktitle = {*{SEM} 2012: The First Joint Conference on Lexical and Computational Semantics},
  pages = {385--393},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2012 Task 6: A Pilot on Semantic Textual Similarity},
  url = {https://aclanthology.org/S12-1051},
  year = {2012},
}
"""

STS13 = r"""
@inproceedings{agirre-etal-2013-sem,
  address = {Atlanta, Georgia, USA},
  author = {Agirre, Eneko and Cer, Daniel and Diab, Mona and Gonzalez-Agirre, Aitor and Guo, Weiwei},
  booktitle = {Second Joint Conference on Lexical and Computational Semantics (*{SEM}), Volume 1},
  pages = {32--43},
  publisher = {Association for Computational Linguistics},
  title = {*{SEM} 2013 shared task: Semantic Textual Similarity},
  url = {https://aclanthology.org/S13-1004},
  year = {2013},
}
"""

STS14 = r"""
@inproceedings{agirre-etal-2014-semeval,
  address = {Dublin, Ireland},
  author = {Agirre, Eneko and Banea, Carmen and Cardie, Claire and Cer, Daniel and Diab, Mona and
    Gonzalez-Agirre, Aitor and Guo, Weiwei and Mihalcea, Rada and Rigau, German and Wiebe, Janyce},
  booktitle = {Proceedings of the 8th International Workshop on Semantic Evaluation ({S}em{E}val 2014)},
  pages = {81--91},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2014 Task 10: Multilingual Semantic Textual Similarity},
  url = {https://aclanthology.org/S14-2010},
  year = {2014},
}
"""

STS15 = r"""
@inproceedings{agirre-etal-2015-semeval,
  address = {Denver, Colorado},
  author = {Agirre, Eneko and Banea, Carmen and Cardie, Claire and Cer, Daniel and Diab, Mona and
    Gonzalez-Agirre, Aitor and Guo, Weiwei and Lopez-Gazpio, I{\~n}igo and Maritxalar, Montse and
    Mihalcea, Rada and Rigau, German and Uria, Larraitz and Wiebe, Janyce},
  booktitle = {Proceedings of the 9th International Workshop on Semantic Evaluation ({S}em{E}val 2015)},
  pages = {252--263},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2015 Task 2: Semantic Textual Similarity, {E}nglish, {S}panish and Pilot on Interpretability},
  url = {https://aclanthology.org/S15-2045},
  year = {2015},
}
"""

STS16 = r"""
@inproceedings{agirre-etal-2016-semeval,
  address = {San Diego, California},
  author = {Agirre, Eneko and Banea, Carmen and Cer, Daniel and Diab, Mona and Gonzalez-Agirre, Aitor and
    Mihalcea, Rada and Rigau, German and Wiebe, Janyce},
  booktitle = {Proceedings of the 10th International Workshop on Semantic Evaluation ({S}em{E}val-2016)},
  pages = {497--511},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2016 Task 1: Semantic Textual Similarity, Monolingual and Cross-Lingual Evaluation},
  url = {https://aclanthology.org/S16-1081},
  year = {2016},
}
"""

STS_BENCHMARK = r"""
@inproceedings{cer-etal-2017-semeval,
  address = {Vancouver, Canada},
  author = {Cer, Daniel and Diab, Mona and Agirre, Eneko and Lopez-Gazpio, I{\~n}igo and Specia, Lucia},
  booktitle = {Proceedings of the 11th International Workshop on Semantic Evaluation ({S}em{E}val-2017)},
  pages = {1--14},
  publisher = {Association for Computational Linguistics},
  title = {{S}em{E}val-2017 Task 1: Semantic Textual Similarity Multilingual and Crosslingual Focused Evaluation},
  url = {https://aclanthology.org/S17-2001},
  year = {2017},
}
"""

SICK = r"""
@inproceedings{marelli-etal-2014-sick,
  address = {Reykjavik, Iceland},
  author = {Marelli, Marco and Menini, Stefano and Baroni, Marco and Bentivogli, Luisa and Bernardi, Raffaella and
    Zamparelli, Roberto},
  booktitle = {Proceedings of the Ninth International Conference on Language Resources and Evaluation ({LREC}'14)},
  pages = {216--223},
  publisher = {European Language Resources Association (ELRA)},
  title = {A {SICK} cure for the evaluation of compositional distributional semantic models},
  url = {https://aclanthology.org/L14-1314},
  year = {2014},
}
"""

DINO = r"""
@inproceedings{schick-schutze-2021-generating,
  author = {Schick, Timo and Sch{\"u}tze, Hinrich},
  booktitle = {Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing},
  publisher = {Association for Computational Linguistics},
  title = {Generating Datasets with Pretrained Language Models},
  url = {https://arxiv.org/abs/2104.07540},
  year = {2021},
}
"""


def read_cached(repository: str, revision: str) -> DatasetDict | None:
    """Reads a data set from the cache that `datasets.load_dataset` filled earlier.

    Args:
        repository: Its repository on the hub, `owner/name`.
        revision: The commit, in full.

    Returns:
        Its splits; None where the cache does not hold this very revision.
    """
    owner, _, name = repository.partition("/")
    cache = Path(datasets.config.HF_DATASETS_CACHE).expanduser()
    for info in sorted(cache.glob(f"{owner}___{name}/*/*/{revision}/dataset_info.json")):
        splits = json.loads(info.read_text(encoding="utf-8")).get("splits") or {}
        shards = {split: sorted(info.parent.glob(f"{name}-{split}*.arrow")) for split in splits}
        if shards and all(shards.values()):
            return DatasetDict(
                {
                    split: concatenate_datasets([Dataset.from_file(str(f)) for f in files])
                    for split, files in shards.items()
                }
            )
    return None


STS_DIR_VARIABLE = "DINO_ST_STS_DIR"
HOW_TO_NAME_THE_DIRECTORY = (
    "Give a directory in SentEval layout with `--sts-dir DIR`, `sts_dir=...`, in a recipe `evaluate.sts_dir`, or the "
    f"variable {STS_DIR_VARIABLE}"
)


@dataclass(frozen=True)
class DataFiles:
    """The files behind a task's splits.

    Attributes:
        test: The year's files, or the files whose pairs are pooled, in SentEval layout.
        validation: Likewise; empty where the task has no such split.
        on_hub: Whether the hub has a copy of these very pairs.
    """

    test: YearLayout | tuple[TableFile, ...]
    validation: tuple[TableFile, ...] = ()
    on_hub: bool = True

    def splits(self) -> dict[str, YearLayout | tuple[TableFile, ...]]:
        """The files of every split that the task has."""
        return {"test": self.test} | ({"validation": self.validation} if self.validation else {})


class AbsTaskSTSData(AbsTaskScoredPairs):
    """A task on published STS or SICK data.

    Attributes:
        files: Where a subclass's pairs lie in a directory in SentEval layout.
    """

    files: ClassVar[DataFiles]

    def __init__(self, seed: int = 42, *, sts_dir: str | Path | None = None, **kwargs: Any) -> None:
        """Prepares the task; no file is read before `load_data`.

        Args:
            seed: mteb's seed; these tasks draw nothing.
            sts_dir: Directory in SentEval layout; None for the one that the variable DINO_ST_STS_DIR names, and where
                it names none, the local datasets cache and the hub.
            **kwargs: Handed on to mteb.
        """
        super().__init__(seed=seed, **kwargs)
        self.sts_dir = sts_dir

    def read_pairs(self) -> dict[str, list[ScoredPair]] | None:
        """Reads every split from the STS directory; None where none is named."""
        given = self.sts_dir or os.environ.get(STS_DIR_VARIABLE)
        if not given:
            return None
        root = find_root(given)
        return {split: _read_split(root, files) for split, files in self.files.splits().items()}

    @property
    def has_sources(self) -> bool:
        """Whether the papers report this task's sources one by one; the hub's copy does not name them."""
        return isinstance(self.files.test, YearLayout)

    def load_from_hub(self, **options: Any) -> None:
        """Loads the hub's copy at its pinned revision, from the local datasets cache where that holds it.

        Args:
            **options: Handed on to mteb's loader.

        Raises:
            InputError: The hub has no such data, or it is neither cached nor reachable.
            DatasetError: The copy has another number of pairs than was published.
        """
        name = type(self).metadata.name
        if not self.files.on_hub:
            raise InputError(
                f"{name} cannot be loaded from the hub, whose copy pools all of the data and does not say which pairs "
                f"are the test pairs. {HOW_TO_NAME_THE_DIRECTORY}."
            )
        repository, revision = type(self).metadata.dataset["path"], type(self).metadata.dataset["revision"]
        cached = read_cached(repository, revision)
        if cached is not None:
            self.dataset, self.data_loaded = cast("Any", cached), True
        else:
            self._ask_hub(name, repository, options)
        self._check_hub_counts(name)

    def _ask_hub(self, name: str, repository: str, options: dict[str, Any]) -> None:
        try:
            super().load_from_hub(**options)
        except (ConnectionError, DatasetNotFoundError, FileNotFoundError) as error:
            raise InputError(
                f"The data of {name} is neither in the local datasets cache nor can '{repository}' be loaded from the "
                f"hub ({_first_line(error)}). {HOW_TO_NAME_THE_DIRECTORY}, or connect to the network."
            ) from error

    def _check_hub_counts(self, name: str) -> None:
        dataset: Mapping[str, Any] = self.dataset or {}
        for split, files in self.files.splits().items():
            pairs = files.pairs if isinstance(files, YearLayout) else sum(table.pairs for table in files)
            found = len(dataset[split]) if split in dataset else 0
            if found != pairs:
                self.unload_data()
                raise DatasetError(
                    f"{name}: the hub's copy has {found} pairs in split '{split}', the published data has {pairs}. "
                    f"{HOW_TO_NAME_THE_DIRECTORY}."
                )


def _read_split(root: Path, files: YearLayout | tuple[TableFile, ...]) -> list[ScoredPair]:
    if isinstance(files, YearLayout):
        return read_year(root, files)
    return [pair for table in files for pair in read_table(root, table)]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


_PROTOCOL = "Main score: Spearman correlation of cosine similarity over all pairs, as in the DINO and SynCSE papers."


def _metadata(**fields: Any) -> LocalTaskMetadata:
    """Fills in what all of the tasks have in common."""
    common: dict[str, Any] = {
        "type": "STS",
        "category": "t2t",
        "modalities": ["text"],
        "eval_splits": ["test"],
        "eval_langs": ["eng-Latn"],
        "main_score": "cosine_spearman",
        "annotations_creators": "human-annotated",
        "task_subtypes": [],
        "dialect": [],
        "sample_creation": "created",
        "license": "not specified",
    }
    return LocalTaskMetadata(**{**common, **fields, "description": f"{fields['description']} {_PROTOCOL}"})


class DinoSTS12(AbsTaskSTSData):
    """SemEval-2012 Task 6: 3,108 test pairs from five sources."""

    files = DataFiles(sts_files.STS12)
    metadata = _metadata(
        name="DinoSTS12",
        description="SemEval-2012 Task 6, five sources. The readme of the data names no licence of its own; for MSRpar "
        "and MSRvid it refers to the terms of Microsoft Research.",
        dataset={"path": "mteb/sts12-sts", "revision": "a0d554a64d88156834ff5ae9920b964011b16384"},
        reference="https://aclanthology.org/S12-1051",
        date=("2005-01-01", "2012-12-31"),
        domains=["Encyclopaedic", "News", "Written"],
        bibtex_citation=STS12,
        adapted_from=["STS12"],
    )


class DinoSTS13(AbsTaskSTSData):
    """*SEM 2013 shared task without its SMT source, which is not free: 1,500 test pairs from three sources."""

    files = DataFiles(sts_files.STS13)
    metadata = _metadata(
        name="DinoSTS13",
        description="*SEM 2013 shared task, three sources (the fourth, SMT, may not be redistributed).",
        dataset={"path": "mteb/sts13-sts", "revision": "7e90230a92c190f1bf69ae9002b8cea547a64cca"},
        reference="https://aclanthology.org/S13-1004",
        date=("2012-01-01", "2012-12-31"),
        domains=["Web", "News", "Non-fiction", "Written"],
        bibtex_citation=STS13,
        adapted_from=["STS13"],
    )


class DinoSTS14(AbsTaskSTSData):
    """SemEval-2014 Task 10, English: 3,750 test pairs from six sources."""

    files = DataFiles(sts_files.STS14)
    metadata = _metadata(
        name="DinoSTS14",
        description="SemEval-2014 Task 10, English, six sources. The image captions are under a Creative Commons "
        "Attribution-ShareAlike licence; the readme names none for the other sources.",
        dataset={"path": "mteb/sts14-sts", "revision": "6031580fec1f6af667f0bd2da0a551cf4f0b2375"},
        reference="https://aclanthology.org/S14-2010",
        date=("2012-01-01", "2012-08-31"),
        domains=["Blog", "News", "Web", "Spoken"],
        bibtex_citation=STS14,
        adapted_from=["STS14"],
    )


class DinoSTS15(AbsTaskSTSData):
    """SemEval-2015 Task 2, English: 3,000 test pairs from five sources."""

    files = DataFiles(sts_files.STS15)
    metadata = _metadata(
        name="DinoSTS15",
        description="SemEval-2015 Task 2, English, five sources. The answers-forums pairs are under CC BY-SA 3.0; the "
        "release names no licence for the other sources.",
        dataset={"path": "mteb/sts15-sts", "revision": "ae752c7c21bf194d8b67fd573edf7ae58183cbe3"},
        reference="https://aclanthology.org/S15-2045",
        date=("2008-01-01", "2014-07-28"),
        domains=["Blog", "News", "Web", "Written", "Spoken"],
        bibtex_citation=STS15,
        adapted_from=["STS15"],
    )


class DinoSTS16(AbsTaskSTSData):
    """SemEval-2016 Task 1, English: 1,186 test pairs from five sources."""

    files = DataFiles(sts_files.STS16)
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
        bibtex_citation=STS16,
        adapted_from=["STS16"],
    )


class DinoSTSBenchmark(AbsTaskSTSData):
    """STS Benchmark with all 1,379 test pairs, and its 1,500 development pairs as the split `validation`."""

    files = DataFiles((sts_files.STS_BENCHMARK_TEST,), validation=(sts_files.STS_BENCHMARK_DEV,))
    metadata = _metadata(
        name="DinoSTSBenchmark",
        description="STS Benchmark (SemEval-2017 Task 1), all 1,379 test pairs. The gold scores are under CC BY-SA "
        "4.0; each source of the text has a licence of its own.",
        license="multiple",
        dataset={"path": "mteb/stsbenchmark-sts", "revision": "b0fddb56ed78048fa8b90373c8a3cfc37b684831"},
        reference="https://aclanthology.org/S17-2001",
        date=("2012-01-01", "2017-12-31"),
        domains=["Blog", "News", "Written"],
        bibtex_citation=STS_BENCHMARK,
        adapted_from=["STSBenchmark"],
    )


class DinoSICKR(AbsTaskSTSData):
    """SICK relatedness, the 4,927 test pairs that papers report."""

    files = DataFiles((sts_files.SICK_TEST,), on_hub=False)
    metadata = _metadata(
        name="DinoSICKR",
        description="SICK relatedness (SemEval-2014 Task 1), the 4,927 pairs of the test file.",
        license="cc-by-nc-sa-3.0",
        dataset={"path": "mteb/sickr-sts", "revision": "20a6d6f312dd54037fe07a32d58e5e168867909d"},
        reference="https://aclanthology.org/L14-1314",
        date=("2014-01-01", "2014-12-31"),
        domains=["Web", "Written"],
        task_subtypes=["Textual Entailment"],
        bibtex_citation=SICK,
        adapted_from=["SICK-R"],
    )


class DinoSICKRAll(AbsTaskSTSData):
    """SICK relatedness, all 9,927 pairs of the train, trial and test files, as in MTEB's SICK-R."""

    files = DataFiles((sts_files.SICK_TRAIN, sts_files.SICK_TRIAL, sts_files.SICK_TEST))
    metadata = _metadata(
        name="DinoSICKRAll",
        description="SICK relatedness (SemEval-2014 Task 1), all 9,927 pairs of its train, trial and test files.",
        license="cc-by-nc-sa-3.0",
        dataset={"path": "mteb/sickr-sts", "revision": "20a6d6f312dd54037fe07a32d58e5e168867909d"},
        reference="https://aclanthology.org/L14-1314",
        date=("2014-01-01", "2014-12-31"),
        domains=["Web", "Written"],
        task_subtypes=["Textual Entailment"],
        bibtex_citation=SICK,
        adapted_from=["SICK-R"],
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


BENCHMARK_NAME = "DinoSTS(eng, v1)"


def make_benchmark() -> Benchmark:
    """Makes the benchmark with fresh task instances, which read DINO_ST_STS_DIR, the datasets cache or the hub.

    Returns:
        STS12 to STS16, STS Benchmark and SICK-R as the DINO and SynCSE papers score them.
    """
    return Benchmark(
        name=BENCHMARK_NAME,
        tasks=[task() for task in STS_TASKS],
        description="The seven English STS tasks that papers on unsupervised sentence embeddings report, scored as "
        "they score them: Spearman correlation over all pairs of a year, the full STS Benchmark test set, and the "
        "4,927 test pairs of SICK.",
        reference="https://arxiv.org/abs/2104.07540",
        citation=DINO,
    )
