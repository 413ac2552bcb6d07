"""Reads files of scored sentence pairs: JSON Lines, CSV, TSV and parquet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dino_st.errors import InputError, suggest
from mteb_tasks.sts_files import ScoredPair

COLUMNS = ("sentence1", "sentence2", "score")
FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")


def read_pair_file(path: str | Path) -> list[ScoredPair]:
    """Reads the columns `sentence1`, `sentence2` and `score`; any others are left alone.

    Args:
        path: A `.jsonl`, `.csv`, `.tsv` or `.parquet` file, UTF-8 where it is text.

    Returns:
        The pairs in the order of the file, their source empty.

    Raises:
        InputError: The file is missing, empty, of another kind, lacks a column, or holds a score that is not a finite
            number; the message names the row.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        what = "is a directory" if file.is_dir() else "does not exist"
        raise InputError(f"The file of pairs '{file}' {what}. Give a {', '.join(FORMATS)} file.")
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".tsv": _read_tsv, ".parquet": _read_parquet}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"The file of pairs '{file}' ends in '{file.suffix}': {suggest(file.suffix, FORMATS)}.")
    try:
        pairs = [_to_pair(row, file, number) for number, row in enumerate(reader(file), start=1)]
    except OSError as error:
        raise InputError(f"'{file}' cannot be read ({error.strerror or error}). Check its permissions.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{file}' is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    if len({pair.score for pair in pairs}) < 2:
        raise InputError(
            f"'{file}' holds {len(pairs)} pairs with fewer than two different scores, so no correlation can be "
            "computed. Give pairs of varying similarity."
        )
    return pairs


def _to_pair(row: Mapping[str, Any], file: Path, number: int) -> ScoredPair:
    missing = [column for column in COLUMNS if row.get(column) is None]
    if missing:
        raise InputError(
            f"'{file}', row {number}: no value for '{missing[0]}'. Every row needs {', '.join(COLUMNS)}; this one has "
            f"{', '.join(str(key) for key in row if key is not None) or 'nothing'}."
        )
    try:
        score = float(row["score"])
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"'{file}', row {number}: 'score' is {row['score']!r}, expected a number.")
    return ScoredPair(str(row["sentence1"]), str(row["sentence2"]), score)


def _read_jsonl(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"'{file}', line {number} is not JSON ({error.msg}). Mend or remove it.") from error
            if not isinstance(row, dict):
                raise InputError(f"'{file}', line {number} holds a {type(row).__name__}, expected a JSON object.")
            yield row


def _read_csv(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        yield from csv.DictReader(lines)


def _read_tsv(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        yield from csv.DictReader(
            (line.removesuffix("\n").removesuffix("\r") for line in lines), delimiter="\t", quoting=csv.QUOTE_NONE
        )


def _read_parquet(file: Path) -> Iterable[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"'{file}' is not a parquet file ({error}). Write it again.") from error
    rows: list[Mapping[str, Any]] = table.select([c for c in COLUMNS if c in table.column_names]).to_pylist()
    return rows
