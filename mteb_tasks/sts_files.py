"""Where the STS and SICK files lie in a directory in SentEval layout, how large they must be, and how they are read."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dino_st.data.alignment import warn_of_alignment
from dino_st.data.columns import SENTENCE1, SENTENCE2
from dino_st.data.layout import quoted_as_in_csv
from dino_st.errors import DatasetError, InputError
from dino_st.support.files import similar_path
from dino_st.support.progress import logger

if TYPE_CHECKING:
    from datasets import Dataset


_QUOTED_AS_PUBLISHED = 0.01
"""The share of texts in quotation marks of CSV up to which a file is as published (11 of 1,500 in one of STS15)."""
EXPECTED_LAYOUT = """\
DIR/STS/STS12-en-test/STS.input.MSRpar.txt and STS.gs.MSRpar.txt, and so on for every source
DIR/STS/STS13-en-test, STS14-en-test, STS15-en-test, STS16-en-test: likewise
DIR/STS/STSBenchmark/sts-dev.csv and sts-test.csv
DIR/SICK/SICK_train.txt, SICK_trial.txt and SICK_test_annotated.txt"""


TRANSFER_LAYOUT = """\
DIR/MR/rt-polarity.pos and rt-polarity.neg, DIR/CR/custrev.pos and .neg, DIR/MPQA/mpqa.pos and .neg
DIR/SUBJ/subj.objective and subj.subjective
DIR/SST/binary/sentiment-train, sentiment-dev and sentiment-test
DIR/TREC/train_5500.label and TREC_10.label
DIR/MRPC/msr_paraphrase_train.txt and msr_paraphrase_test.txt"""

TRANSFER_FOLDERS = ("MR", "CR", "SUBJ", "MPQA", "SST", "TREC", "MRPC")


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two sentences as they stand in the file, and the similarity that people gave them."""

    sentence1: str
    sentence2: str
    score: float  # 0 to 5 for STS, 1 to 5 for SICK
    source: str = ""  # the collection that the pair comes from; empty where the file names none


@dataclass(frozen=True)
class YearLayout:
    """The files of one SemEval year."""

    folder: str  # below the root; holds `STS.input.SOURCE.txt` and `STS.gs.SOURCE.txt`
    sources: Mapping[str, int]  # the number of scored pairs of each, in the order in which they are pooled

    @property
    def pairs(self) -> int:
        """Number of scored pairs over all sources."""
        return sum(self.sources.values())

    def paths(self, root: Path) -> list[tuple[Path, Path]]:
        """The files of each source, those of the sentences and of the scores."""
        names = [[f"STS.{kind}.{source}.txt" for kind in ("input", "gs")] for source in self.sources]
        return [(root / self.folder / inputs, root / self.folder / gold) for inputs, gold in names]

    def read(self, root: Path) -> list[ScoredPair]:
        """Reads the scored pairs of the year, source after source.

        Raises InputError where a file is missing or malformed (it names file and line), and DatasetError where a source
        has another number of scored pairs than was published.
        """
        pairs: list[ScoredPair] = []
        for (source, expected), (inputs, gold) in zip(self.sources.items(), self.paths(root), strict=True):
            found = _read_source(inputs, gold, root, source)
            _check_count(found, expected, f"source '{source}'", gold)
            tell_of_alignment(found, gold)
            _tell_of_quotation_marks(found, inputs)
            pairs.extend(found)
        return pairs


@dataclass(frozen=True)
class TableFile:
    """One file that holds sentences and gold scores together, tab-separated and never quoted (STSb, SICK)."""

    path: str  # relative to the root
    pairs: int
    sentence_columns: tuple[int, int]  # zero-based, as is the score's
    score_column: int
    has_header: bool  # whether the first line names the columns

    def paths(self, root: Path) -> list[tuple[Path]]:
        """The file alone."""
        return [(root / self.path,)]

    def read(self, root: Path) -> list[ScoredPair]:
        """Reads the pairs in the order of the file; raises as `YearLayout.read` does."""
        path = root / self.path
        first, second = self.sentence_columns
        pairs = []
        for number, line in enumerate(read_lines(path, root), start=1):
            if number == 1 and self.has_header:
                continue
            fields = _split(line, max(second, self.score_column) + 1, path, number)
            score = _parse_score(fields[self.score_column], path, number)
            pairs.append(ScoredPair(fields[first], fields[second], score))
        _check_count(pairs, self.pairs, f"'{path.stem}'", path)
        tell_of_alignment(pairs, path)
        _tell_of_quotation_marks(pairs, path)
        return pairs


def _year(year: str, **sources: int) -> YearLayout:
    return YearLayout(f"STS/{year}-en-test", MappingProxyType(sources))


def _sts_benchmark(split: str, pairs: int) -> TableFile:
    return TableFile(f"STS/STSBenchmark/sts-{split}.csv", pairs, (5, 6), 4, has_header=False)


def _sick(part: str, pairs: int) -> TableFile:
    return TableFile(f"SICK/SICK_{part}.txt", pairs, (1, 2), 3, has_header=True)


STS12 = _year(
    "STS12", **{"MSRpar": 750, "MSRvid": 750, "SMTeuroparl": 459, "surprise.OnWN": 750, "surprise.SMTnews": 399}
)
STS13 = _year("STS13", FNWN=189, headlines=750, OnWN=561)
STS14 = _year(
    "STS14",
    **{"deft-forum": 450, "deft-news": 300, "headlines": 750, "images": 750, "OnWN": 750, "tweet-news": 750},
)
STS15 = _year(
    "STS15", **{"answers-forums": 375, "answers-students": 750, "belief": 375, "headlines": 750, "images": 750}
)
STS16 = _year(
    "STS16",
    **{"answer-answer": 254, "headlines": 249, "plagiarism": 230, "postediting": 244, "question-question": 209},
)

STS_BENCHMARK_DEV = _sts_benchmark("dev", 1500)
STS_BENCHMARK_TEST = _sts_benchmark("test", 1379)

SICK_TRAIN = _sick("train", 4500)
SICK_TRIAL = _sick("trial", 500)
SICK_TEST = _sick("test_annotated", 4927)

OF_THE_PAPERS = (STS12, STS13, STS14, STS15, STS16, STS_BENCHMARK_TEST, STS_BENCHMARK_DEV, SICK_TEST)
"""The files of the seven tasks that the papers report."""


def find_root(
    directory: str | Path, folders: Sequence[str] = ("STS", "SICK"), kind: str = "STS", layout: str = EXPECTED_LAYOUT
) -> Path:
    """The directory that holds one of the data's folders: the one given, or `downstream` in a SentEval checkout.

    An InputError, for which `kind` names such directories and `layout` the files in them, says that it is not there.
    """
    given = Path(directory).expanduser()
    if not given.is_dir():
        problem = "is a file." if given.exists() else f"does not exist{similar_path(given, '.', is_directory=True)}"
    else:
        for root in (given, given / "downstream", given / "data" / "downstream"):
            if any((root / folder).is_dir() for folder in folders):
                return root
        neither = "holds neither " if len(folders) > 1 else "does not hold "
        problem = neither + " nor ".join(map(repr, folders)) + "."
    raise InputError(f"The {kind} directory '{given}' {problem} Give a directory in SentEval layout:\n{layout}")


def check_sts_directory(directory: str | Path) -> None:
    """Raises as reading does where a directory lacks a file of the papers' tasks; quick, since nothing is read."""
    root = find_root(directory)
    for part in OF_THE_PAPERS:
        for path in itertools.chain.from_iterable(part.paths(root)):
            if not path.is_file():
                raise _unreadable_file(path, root, FileNotFoundError(), EXPECTED_LAYOUT)


def check_senteval_directory(directory: str | Path) -> None:
    """Raises as reading does where a directory lacks the folder of a transfer task."""
    for folder in TRANSFER_FOLDERS:
        find_root(directory, [folder], "SentEval", TRANSFER_LAYOUT)


def pairs_revision(splits: Mapping[str, Iterable[ScoredPair]]) -> str:
    """Names the content of a data set, wherever it lies and whatever its line ends: forty digits of a SHA-256."""
    digest = hashlib.sha256()
    for split, pairs in splits.items():
        digest.update(f"{split}\n".encode())
        for pair in pairs:
            line = "\t".join((pair.source, pair.sentence1, pair.sentence2, repr(pair.score)))
            digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:40]


def tell_of_alignment(pairs: Sequence[ScoredPair], file: Path) -> None:
    """Says where sentences or scores of a file seem to belong to other rows; see `dino_st.data.alignment`."""
    import pyarrow as pa

    sides = [pa.array([getattr(pair, name) for pair in pairs], pa.string()) for name in (SENTENCE1, SENTENCE2)]
    texts = pa.table(sides, names=[SENTENCE1, SENTENCE2])
    warn_of_alignment(texts, str(file), [pair.score for pair in pairs])


def _tell_of_quotation_marks(pairs: Sequence[ScoredPair], file: Path) -> None:
    """Says where texts stand in the quotation marks of a CSV writer, of which the published files have few."""
    texts = [text for pair in pairs for text in (pair.sentence1, pair.sentence2)]
    quoted = quoted_as_in_csv(texts)
    if len(quoted) > _QUOTED_AS_PUBLISHED * len(texts):
        logger.warning(
            "%s: %d of %d texts stand in quotation marks as a file of CSV has them, such as %s; files of this layout "
            "are read without unquoting, and the texts are taken as they stand: write the file anew without quoting",
            *(file, len(quoted), len(texts), quoted[0][:60]),
        )


def pairs_dataset(pairs: Sequence[ScoredPair]) -> Dataset:
    """The columns `sentence1`, `sentence2`, `score`, and `source` where the pairs name theirs."""
    from datasets import Dataset

    names = ["sentence1", "sentence2", "score"] + ["source"] * any(pair.source for pair in pairs)
    columns: dict[str, list[Any]] = {name: [getattr(pair, name) for pair in pairs] for name in names}
    return Dataset.from_dict(columns)


def read_dev_pairs(sts_dir: str | Path) -> dict[str, Dataset]:
    """The 1,500 pairs of STSb dev and the 500 of SICK trial, as `STSb dev` and `SICK dev`; raises as `read` does."""
    root = find_root(sts_dir)
    return {
        "STSb dev": pairs_dataset(STS_BENCHMARK_DEV.read(root)),
        "SICK dev": pairs_dataset(SICK_TRIAL.read(root)),
    }


def _read_source(inputs: Path, gold: Path, root: Path, source: str) -> list[ScoredPair]:
    sentences, scores = read_lines(inputs, root), read_lines(gold, root)
    if len(sentences) != len(scores):
        raise InputError(
            f"'{inputs}' has {len(sentences)} lines but its gold file '{gold}' has {len(scores)}; they must have the "
            "same number, an empty gold line marking a pair without a score. Download the two files again."
        )
    pairs = []
    for number, (line, score) in enumerate(zip(sentences, scores, strict=True), start=1):
        if score.strip():
            sentence1, sentence2 = _split(line, 2, inputs, number)[:2]
            pairs.append(ScoredPair(sentence1, sentence2, _parse_score(score, gold, number), source))
    return pairs


def _unreadable_file(path: Path, root: Path, error: OSError, layout: str) -> InputError:
    """What to say where a file of a directory in SentEval layout cannot be read."""
    if isinstance(error, FileNotFoundError):
        return InputError(
            f"'{path}' is missing, so '{root}' is not a complete directory in SentEval layout. Expected:\n{layout}"
        )
    return InputError(f"'{path}' cannot be read ({error.strerror}). Check its permissions.")


def read_lines(path: Path, root: Path, layout: str = EXPECTED_LAYOUT, otherwise: str | None = None) -> list[str]:
    """The lines of a file without their ends; the newline that ends the last one begins no further line.

    What is not UTF-8 is read in the encoding `otherwise`, or refused; `layout` is what messages say of the directory.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable_file(path, root, error, layout) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if otherwise is not None:
            return _lines_of(content.decode(otherwise))
        raise InputError(f"'{path}' is not UTF-8 (byte {error.start}). Download the file again.") from error
    return _lines_of(text)


def _lines_of(text: str) -> list[str]:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def _split(line: str, columns: int, path: Path, number: int) -> Sequence[str]:
    fields = line.split("\t")
    if len(fields) < columns:
        raise InputError(
            f"'{path}', line {number}: {len(fields)} tab-separated columns, expected at least {columns}. "
            "Download the file again."
        )
    return fields


def _parse_score(text: str, path: Path, number: int) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(
            f"'{path}', line {number}: the gold score is {text.strip()!r}, expected a number. Download the file again."
        )
    return score


def _check_count(pairs: Sequence[ScoredPair], expected: int, subset: str, path: Path) -> None:
    if len(pairs) != expected:
        raise DatasetError(
            f"'{path}': {subset} has {len(pairs)} scored pairs, the published data has {expected}. Scores on it would "
            "not be comparable with any paper's; use the unmodified files."
        )
