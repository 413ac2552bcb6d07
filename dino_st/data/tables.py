"""Tables and lines in files: text, JSON lines, CSV and parquet, read row by row with the line that each begins at."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.errors import InputError
from dino_st.support.files import replacing

if TYPE_CHECKING:
    import pyarrow as pa


_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_TEXT = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip (perhaps .docx or .xlsx)",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"%PDF-": "PDF",
    b"PAR1": "parquet",
}
"""First bytes of files that are no text."""


def text_lines(content: Iterable[bytes]) -> Iterator[str]:
    """Decodes lines that end in LF, CR LF or CR alone; `str.splitlines` also cuts at characters inside sentences.

    Raises:
        InputError: If it is no text, or not UTF-8.
    """
    offset = 0
    for number, line in enumerate(content, start=1):
        kind = next((kind for magic, kind in _NO_TEXT.items() if number == 1 and line.startswith(magic)), None)
        if kind is not None:
            raise InputError(f"this is a {kind} file, not text; take the sentences out of it first, one a line")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
                encoding, byte = "utf-32" if b"\x00\x00" in line[:4] else "utf-16", line[:1]
            else:
                encoding, byte = "latin1", line[error.start : error.start + 1]
            raise InputError(
                f"line {number} is not UTF-8 (byte {byte!r} at offset {offset + error.start}); "
                f"convert the file first, for example: iconv -f {encoding} -t utf-8 FILE > FILE.utf8"
            ) from None
        offset += len(line)
        yield from text.removesuffix("\n").rstrip("\r").split("\r")


def json_objects(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The object in every line of a file that is not blank, each behind its place (file and line) for messages.

    Raises:
        InputError: The file cannot be read, or a line is no object; the message names the line.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{name}, line {number}"
                    yield where, _json_object(where, line)
    except OSError as error:
        raise InputError(
            f"{name}: cannot be read ({error.strerror or error}); expected a file of JSON lines"
        ) from error


def _json_object(where: str, line: bytes) -> dict[str, Any]:
    try:
        value = parse_json(where, line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: is a {type(value).__name__}; expected an object with named fields")
    for name, text in value.items():
        if isinstance(text, str) and _SURROGATE.search(text):
            raise InputError(f"{where}: field {name!r} holds half of a surrogate pair; expected valid Unicode")
    return value


def parse_json(where: str, line: str) -> Any:
    """The value that a line of JSON holds; an error says where the line stands."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        why = "numbers or nesting beyond measure"
        if isinstance(error, json.JSONDecodeError):
            why = f"{error.msg} at column {error.colno}"
        raise InputError(f"{where}: is not JSON ({why}); expected one object") from None


def write_json_objects(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line; the file appears whole or not at all."""
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def separated_rows(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of CSV or TSV with the line that each begins at; an open quotation mark would swallow all that follows.

    Tab-separated files quote nothing: their sentences have unbalanced quotation marks.
    """
    csv.field_size_limit(2**31 - 1)
    quoting: Any = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=separator, quoting=quoting, strict=True)
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InputError(
                f"the row that begins at line {line} has quotation marks out of place ({error}); write a mark inside a "
                "quoted field twice, or give the sentences as .txt, a line each"
            ) from None
        if row is None:
            return
        yield line, row


def read_parquet(file: Path) -> pa.Table:
    """A parquet file without the metadata of whoever wrote it; an `InputError` if it is none."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file).read().replace_schema_metadata(None)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: cannot be read as parquet ({str(error).splitlines()[0]})") from None
