"""A user's own scored pairs, from JSON Lines, CSV, TSV or parquet, as an STS task."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dino_st.errors import InputError, suggest
from mteb_tasks.abstask import AbsTaskScoredPairs, sts_metadata
from mteb_tasks.sts_files import ScoredPair, pairs_revision

COLUMNS = ("sentence1", "sentence2", "score")
FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")


def read_pair_file(path: str | Path) -> list[ScoredPair]:
    """Reads the columns `sentence1`, `sentence2` and `score`, in the order of the file; any others are left alone.

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
        stripped = (line.removesuffix("\n").removesuffix("\r") for line in lines)
        yield from csv.DictReader(stripped, delimiter="\t", quoting=csv.QUOTE_NONE)


def _read_parquet(file: Path) -> Iterable[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"'{file}' is not a parquet file ({error}). Write it again.") from error
    rows: list[Mapping[str, Any]] = table.select([c for c in COLUMNS if c in table.column_names]).to_pylist()
    return rows


_HASH_DIGITS = 8


class DinoPairs(AbsTaskScoredPairs):
    """Any file of `sentence1`, `sentence2`, `score` as an STS task of its own.

    The task's name carries the file's stem and eight hexadecimal digits of the hash of its pairs, so that a changed
    file is another task and no stored result of the old one answers for it.

    Example:
        >>> task = DinoPairs("validation.jsonl")
        >>> task.metadata.name
        'DinoPairs-validation-1f0c7a52'
    """

    min_score = 0
    max_score = 1
    metadata = sts_metadata(
        name="DinoPairs",
        description="Scored sentence pairs from a file of the user's own.",
        dataset={"path": "local/DinoPairs", "revision": "unread"},
        reference="https://arxiv.org/abs/2104.07540",
        date=("2021-01-01", "2021-12-31"),
        domains=["Written"],
        annotations_creators="derived",
        sample_creation="found",
        bibtex_citation="",
        is_public=False,
    )

    def __init__(self, file: str | Path, seed: int = 42, **kwargs: Any) -> None:
        """Reads the file.

        Args:
            file: A `.jsonl`, `.csv`, `.tsv` or `.parquet` file with the columns `sentence1`, `sentence2` and `score`.
            seed: mteb's seed; the task draws nothing.
            **kwargs: Handed on to mteb.

        Raises:
            InputError: The file cannot be read, or not used as scored pairs.
        """
        self.file = Path(file).expanduser()
        self._pairs = read_pair_file(self.file)
        self._name_after_content()
        super().__init__(seed=seed, **kwargs)

    def read_pairs(self) -> dict[str, list[ScoredPair]]:
        """The pairs that were in the file when the task was made, as the split `test`."""
        return {"test": self._pairs}

    def unload_data(self) -> None:
        """Releases mteb's copy of the data; the task keeps its name and its pairs."""
        super().unload_data()
        self._name_after_content()

    def _set_revision(self, revision: str) -> None:
        """The name and revision were settled when the file was read."""

    def _name_after_content(self) -> None:
        revision = pairs_revision(self.read_pairs())
        stem = re.sub(r"[^\w.-]+", "_", self.file.stem)
        name = f"DinoPairs-{stem}-{revision[:_HASH_DIGITS]}"
        fields = {"name": name, "dataset": {"path": f"local/{name}", "revision": revision}}
        self.metadata = type(self).metadata.model_copy(update=fields)
