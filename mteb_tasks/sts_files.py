"""Reads STS and SICK files in SentEval layout, the original release as well as the tokenised one.

Lines end at the newline alone (some sentences contain characters that Python's `splitlines` would split at), columns
at the tab alone (STSb has unbalanced quotation marks). A pair whose gold line is empty was never scored and is left
out, as in the official evaluation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dino_st.errors import DatasetError, InputError
from mteb_tasks.sts_layout import EXPECTED_LAYOUT, TableFile, YearLayout


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two sentences and the similarity that people gave them.

    Attributes:
        sentence1: The first sentence, as it stands in the file.
        sentence2: The second sentence.
        score: Gold similarity: 0 to 5 for STS, 1 to 5 for SICK.
        source: Name of the collection that the pair comes from; empty where the file names none.
    """

    sentence1: str
    sentence2: str
    score: float
    source: str = ""


def find_root(sts_dir: str | Path) -> Path:
    """Finds the directory that holds `STS/` and `SICK/`.

    Args:
        sts_dir: That directory, or a SentEval checkout or its `data` directory, which hold it as `downstream`.

    Returns:
        The directory itself.

    Raises:
        InputError: It does not exist, or holds neither `STS/` nor `SICK/`.
    """
    given = Path(sts_dir).expanduser()
    if not given.is_dir():
        what = "is a file" if given.exists() else "does not exist"
        raise InputError(f"The STS directory '{given}' {what}. Give a directory in SentEval layout:\n{EXPECTED_LAYOUT}")
    for root in (given, given / "downstream", given / "data" / "downstream"):
        if (root / "STS").is_dir() or (root / "SICK").is_dir():
            return root
    raise InputError(
        f"The STS directory '{given}' holds neither 'STS' nor 'SICK'. Give a directory in SentEval layout:\n"
        f"{EXPECTED_LAYOUT}"
    )


def read_year(root: Path, layout: YearLayout) -> list[ScoredPair]:
    """Reads the scored pairs of one SemEval year, source after source.

    Args:
        root: The directory that holds `STS/`.
        layout: The year's files and sizes.

    Returns:
        The pairs, pooled in the order of `layout.sources`.

    Raises:
        InputError: A file is missing or malformed; the message names it, and the line.
        DatasetError: A source has another number of scored pairs than was published.
    """
    pairs: list[ScoredPair] = []
    for source, expected in layout.sources.items():
        found = _read_source(root, layout, source)
        _check_count(found, expected, f"source '{source}'", root / layout.gold_file(source))
        pairs.extend(found)
    return pairs


def read_table(root: Path, table: TableFile) -> list[ScoredPair]:
    """Reads a file that holds sentences and scores together (STSb, SICK).

    Args:
        root: The directory that holds `STS/` and `SICK/`.
        table: The file, its columns and its size.

    Returns:
        The pairs in the order of the file.

    Raises:
        InputError: The file is missing or malformed; the message names it, and the line.
        DatasetError: It has another number of pairs than was published.
    """
    path = root / table.path
    columns = max(*table.sentence_columns, table.score_column) + 1
    first, second = table.sentence_columns
    pairs = []
    for number, line in enumerate(_read_lines(path, root), start=1):
        if number == 1 and table.has_header:
            continue
        fields = _split(line, columns, path, number)
        score = _parse_score(fields[table.score_column], path, number)
        pairs.append(ScoredPair(fields[first], fields[second], score))
    _check_count(pairs, table.pairs, f"'{path.stem}'", path)
    return pairs


def content_hash(splits: Mapping[str, Iterable[ScoredPair]]) -> str:
    """Names the content of a data set, wherever it lies and whatever its line ends.

    Args:
        splits: Each split's pairs.

    Returns:
        Forty hexadecimal digits of the SHA-256 of every split name, source, sentence and score.
    """
    digest = hashlib.sha256()
    for split, pairs in splits.items():
        digest.update(f"{split}\n".encode())
        for pair in pairs:
            line = "\t".join((pair.source, pair.sentence1, pair.sentence2, repr(pair.score)))
            digest.update(f"{line}\n".encode())
    return digest.hexdigest()[:40]


def _read_source(root: Path, layout: YearLayout, source: str) -> list[ScoredPair]:
    inputs = root / layout.input_file(source)
    gold = root / layout.gold_file(source)
    sentences, scores = _read_lines(inputs, root), _read_lines(gold, root)
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


def _read_lines(path: Path, root: Path) -> list[str]:
    """The lines of a file without their ends; the newline that ends the last one begins no further line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"'{path}' is missing, so '{root}' is not a complete directory in SentEval layout. Expected:\n"
            f"{EXPECTED_LAYOUT}"
        ) from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}). Check its permissions.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 (byte {error.start}). Download the file again.") from error
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
