"""Sentences from files: text, JSONL, CSV, TSV, the STS Benchmark's TSV, parquet, a directory, standard input."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dino_st.errors import InputError, suggest

TEXT_COLUMNS = ("text", "sentence", "sentence1", "x1", "text_a")
"""Columns looked for, in this order, where none is named."""

_STSB_COLUMNS = 7
"""Fewest columns of an STS Benchmark file: genre, file, year, id, score, sentence1, sentence2."""


@dataclass(frozen=True)
class Sentences:
    """Distinct sentences, and what was left out on the way.

    Attributes:
        texts: In the order of their first appearance.
        counts: `read`, `kept`, and one count for every reason to skip a line.
    """

    texts: tuple[str, ...]
    counts: dict[str, int]

    @property
    def skipped(self) -> dict[str, int]:
        """What was left out, by reason, as `skipped: …`."""
        return {f"skipped: {why}": count for why, count in self.counts.items() if why not in ("read", "kept")}


def clean_sentences(lines: Iterable[str]) -> Sentences:
    """Strips sentences, and skips and counts blank ones, duplicates, and ones with a NUL byte.

    Args:
        lines: Raw sentences.

    Returns:
        The distinct ones that remain.

    Raises:
        InputError: If an item is no text, or nothing remains.
    """
    counts: Counter[str] = Counter()
    texts: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, str):
            raise InputError(f"sentence {number}: expected text, given {type(line).__name__} ({line!r:.60})")
        counts["read"] += 1
        text = line.strip()
        if not text:
            counts["blank"] += 1
        elif "\0" in text:
            counts["NUL byte"] += 1
        elif not _is_unicode(text):
            counts["half a surrogate pair"] += 1
        elif text in texts:
            counts["duplicate"] += 1
        else:
            texts[text] = None
    if not texts:
        raise InputError(f"no sentence to start from: {_describe(counts)}; at least one non-blank sentence is needed")
    counts["kept"] = len(texts)
    return Sentences(tuple(texts), dict(counts))


def read_sentences(source: str | Path, *, column: str | None = None) -> Sentences:
    """Reads sentences from a file.

    The ending of the name says what it is: `.jsonl`, `.csv`, `.tsv`, `.parquet`; anything else is text with a
    sentence a line. A tab-separated file in the layout of the STS Benchmark is recognised by its columns, and gives
    both of its sentences. A directory written by `dino-st generate` gives its texts. `-` is standard input.

    Args:
        source: File, directory, or `-`.
        column: Column or JSON field that holds the sentences; by default the first of `TEXT_COLUMNS` that exists.

    Returns:
        Distinct sentences.

    Raises:
        InputError: If the file is missing, empty, not UTF-8 or malformed, or lacks the column.
    """
    try:
        return clean_sentences(_read_lines(str(source), column))
    except InputError as error:
        name = "standard input" if str(source) == "-" else str(source)
        raise error if str(error).startswith(name) else InputError(f"{name}: {error}") from None


def _is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8; JSON lets halves of surrogate pairs through."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_lines(source: str, column: str | None) -> Iterable[str]:
    if source == "-":
        return _text_lines(_decode(sys.stdin.buffer.read()))
    path = Path(source)
    if path.is_dir():
        return _directory_rows(path, column)
    readers: dict[str, Callable[[Path, str | None], Iterable[str]]] = {
        ".jsonl": _jsonl_rows,
        ".json": _jsonl_rows,
        ".csv": _separated_rows,
        ".tsv": _separated_rows,
        ".parquet": _parquet_rows,
    }
    try:
        if path.stat().st_size == 0:
            raise InputError("the file is empty; expected one sentence a line")
        if path.suffix.lower() in readers:
            return readers[path.suffix.lower()](path, column)
        if column is not None:
            raise InputError(f"a column ({column!r}) was named, but {path.suffix or 'this'} is a file of plain lines")
        return _text_lines(_decode(path.read_bytes()))
    except FileNotFoundError:
        raise InputError("there is no such file") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})") from None


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"line {line} is not UTF-8 (byte {content[error.start : error.start + 1]!r} at offset {error.start}); "
            "convert the file first, for example: iconv -f latin1 -t utf-8 FILE > FILE.utf8"
        ) from None


def _text_lines(text: str) -> Iterator[str]:
    """Lines by line ends alone: `str.splitlines` would also cut at characters that occur inside sentences."""
    return (line.rstrip("\r") for line in text.split("\n")[: -1 if text.endswith("\n") else None])


def _jsonl_rows(path: Path, column: str | None) -> Iterator[str]:
    for number, line in enumerate(_text_lines(_decode(path.read_bytes())), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"line {number}: not JSON ({error.msg}); expected one JSON object a line") from None
        if isinstance(row, str) and column is None:
            yield row
        elif isinstance(row, dict):
            yield _checked(row[_pick(list(row), column, f"line {number}")], f"line {number}")
        else:
            raise InputError(f"line {number}: expected a JSON object with a text field, given {type(row).__name__}")


def _separated_rows(path: Path, column: str | None) -> Iterator[str]:
    text = _decode(path.read_bytes())
    tabs = text.partition("\n")[0].count("\t")
    if column is None and tabs >= _STSB_COLUMNS - 1 and _is_stsb(text):
        return _stsb_rows(text)
    separator = "\t" if path.suffix.lower() == ".tsv" or tabs else ","
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=_quoting(separator))
    return _table_rows(rows, column)


def _quoting(separator: str) -> Literal[0, 3]:
    """Tab-separated files quote nothing: their sentences have unbalanced quotation marks."""
    return csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL


def _table_rows(rows: Iterator[list[str]], column: str | None) -> Iterator[str]:
    header = next(rows, [])
    place = header.index(_pick(header, column, "header line"))
    for number, row in enumerate(rows, start=2):
        if row:
            if place >= len(row):
                raise InputError(f"row {number}: has {len(row)} columns, expected {len(header)} as in the header")
            yield row[place]


def _is_stsb(text: str) -> bool:
    first = text.partition("\n")[0].split("\t")
    try:
        return 0 <= float(first[4]) <= 5
    except ValueError:
        return first[4:7] == ["score", "sentence1", "sentence2"]


def _stsb_rows(text: str) -> Iterator[str]:
    for number, line in enumerate(_text_lines(text), start=1):
        fields = line.split("\t")
        if len(fields) < _STSB_COLUMNS:
            raise InputError(
                f"line {number}: has {len(fields)} columns; an STS Benchmark line has at least {_STSB_COLUMNS}"
            )
        if fields[4] != "score":
            yield from fields[5:7]


def _parquet_rows(path: Path, column: str | None) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        name = _pick(names, column, "schema")
        values = pyarrow.parquet.read_table(path, columns=[name]).column(name).to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"not a readable parquet file ({str(error).splitlines()[0]})") from None
    return (_checked(value, f"row {number}") for number, value in enumerate(values, start=1))


def _directory_rows(path: Path, column: str | None) -> Iterator[str]:
    shards = sorted((path / "data").glob("*.parquet"))
    if not shards:
        raise InputError(
            "this directory holds no data/*.parquet; expected a file, or a directory of `dino-st generate`"
        )
    for shard in shards:
        yield from _parquet_rows(shard, column)


def _pick(names: Sequence[str], column: str | None, where: str) -> str:
    if column is not None:
        if column not in names:
            raise InputError(f"{where}: there is no column {column!r}; {suggest(column, names)}")
        return column
    for name in TEXT_COLUMNS:
        if name in names:
            return name
    raise InputError(
        f"{where}: none of the columns {', '.join(TEXT_COLUMNS)} is there; name one with --column. "
        f"Columns: {', '.join(repr(name) for name in names)}"
    )


def _checked(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where}: expected text, given {type(value).__name__} ({value!r:.60})")
    return value


def _describe(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "nothing was read"
