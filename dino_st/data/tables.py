"""Tables and lines in files: the one reader of text, CSV, TSV, JSON, parquet and what `save_to_disk` writes.

Rows come one by one, each behind its place for messages. Whatever could be read in two ways is refused: cells too many
or too few, quotation marks out of place, two columns of one name, values that are no text, a table without names of its
columns, or with others further down, a directory of which a part is missing, stands there twice or would not be read.
Files of an STS task in SentEval layout, which quote nothing, are read by `mteb_tasks.sts_files` instead.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatch
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.data.columns import SENTENCE1, SENTENCE2, TRIPLET_COLUMNS
from dino_st.data.lines import A_TEXT, MAX_TEXT, Oddities, decoded_lines, is_conflict_mark, kind_of
from dino_st.data.shards import MANIFEST, ShardDirectory
from dino_st.errors import DatasetError, InputError, first_line
from dino_st.support.files import replacing, similar_path
from dino_st.support.hashes import hash_file
from dino_st.support.progress import logger

if TYPE_CHECKING:
    import pyarrow as pa


TABLE_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
"""Endings of the files that `table_rows` reads."""

Row = tuple[str, dict[str, Any]]
"""A place for messages (file and line), and values by column."""

Choice = Callable[[Sequence[str], str], Mapping[str, str]]
"""Says of the names of a table's columns, and the place where they stand, which to read: the name it has in the rows,
and the one in the file."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_PART = re.compile(
    r"(?P<name>.*?)(?:[a-z](?=\d{6}\.))?(?P<number>\d+)(?P<of>[-_]of[-_](?P<total>\d+))?(?:-[0-9a-f]{16})?"
    r"(?P<ending>\.\w+)"
)
"""Names of numbered files, as `datasets`, the hub (older ones with a hash), dino-st and others write parts."""

_DIGITS_OF_PARTS = 4
"""Numbers with as many digits, the first of them zero, count parts; shorter ones may be days, say."""

_MOST_PARTS = 100_000
"""So many numbers are looked for among the names of files."""

_END_OF_ARROW = b"\xff\xff\xff\xff\0\0\0\0"
"""How a stream of Arrow ends; without it, what is cut off between two batches would not be missed."""

_VISIBLE = re.compile(r"\S")

_SEPARATOR = re.compile('"?sep=([,;|\t])"?[,;]*\\s*', re.IGNORECASE)
"""A first line in which Excel says what separates the columns of those below."""

_AS_LINES = ", or give sentences as .txt, a line each"
_WITHOUT_QUOTING = (
    "; if marks quote nothing in this file, let Python write it so: import pandas; pandas.read_csv({!r}, sep='\\t', "
    "quoting=3, dtype=str, keep_default_na=False).to_csv('quoted.csv', index=False)"
)
"""What to do where quotation marks stand out of place: in CSV, and between tabs, where many files quote nothing."""

_TEXTS = (SENTENCE1, SENTENCE2, *TRIPLET_COLUMNS)
"""What names of columns that hold texts begin with; a number in another may be a score."""

_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")

_VERDICTS = {
    "answer": (("accept",), ("reject", "ignore")),
    "status": (("submitted", "draft", "pending", "completed", "validated"), ("discarded",)),
    "was_cancelled": (("false", "none"), ("true",)),
    "assignmentstatus": (("approved", "submitted"), ("rejected",)),
}
"""Columns in which annotation tools (Prodigy, Argilla, Label Studio, Mechanical Turk) say what became of a row: the
words for rows to use, and those for rows that were turned down."""

_HOLDERS = ("response", "responses", "annotations", "completions", "rating", "ratings")
"""Columns in which such tools have answers as objects, each with what became of it."""

_VERDICT = "\0verdict "
"""What the names of such columns begin with in the rows, until they are looked at."""

_IMPORT_ID = re.compile(r'\s*\{\s*"ImportId"\s*:')
"""A cell of the third row of what Qualtrics exports."""

_HEADERS = 2
"""Rows below the first one in which names may stand."""

_NOTES = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")
"""Files of `datasets` that end as tables do."""

_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), "validation"
)
"""Words in a file's name by which `datasets`, too, knows its split."""


def table_rows(path: str | os.PathLike[str], choose: Choice, *, may_stop: bool = False) -> Generator[Row, None, None]:
    """Reads a table whose columns have names (in CSV or TSV its first row): place and chosen values of each row.

    The path is a file (see `TABLE_FORMATS`), a pattern of files such as `data/train-*.parquet`, a directory of shards,
    one written by `datasets.Dataset.save_to_disk`, or one of parquet files; `choose` is called once for each set of
    names, and must choose the same of all. Values are texts in CSV, and what they hold in JSON and parquet. What its
    texts hold is told behind the last row, or where a reader that `may_stop` does so, and of no table that is refused.
    Raises InputError, with file and line, where there is no such file, it is no table, or cannot be read in one way
    only.
    """
    choose = _with_verdicts(_chosen_once(choose))
    odd, verdicts = Oddities(), Counter[tuple[str, str]]()

    def tell() -> None:
        odd.tell(os.fspath(path))
        _tell_verdicts(verdicts, path)

    try:
        for file in _files(Path(path)):
            if file.is_dir():
                rows = _saved_rows(file, choose)
            elif file.suffix.lower() in (".csv", ".tsv"):
                rows = _separated_rows(file, choose)
            elif file.suffix.lower() == ".parquet":
                rows = _parquet_rows(file, choose)
            else:
                rows = _json_rows(file, choose)
            for where, row in rows:
                for name in [name for name in row if name.startswith(_VERDICT)]:
                    column = name.removeprefix(_VERDICT)
                    said = {*_verdicts_in(column, row.pop(name))}  # several that all say the same are one
                    verdicts[column, said.pop() if len(said) == 1 else ""] += 1
                for name, value in row.items():
                    is_text = len(row) == 1 or name.startswith(_TEXTS)
                    if isinstance(value, str) and (is_text or as_number(value) is None):
                        odd.look(value, name if is_text else None)
                yield where, row
        _check_texts(odd, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({str(error.strerror or error).splitlines()[0]})") from None
    except GeneratorExit:
        if may_stop:
            tell()
        raise
    tell()


def _with_verdicts(choose: Choice) -> Choice:
    """A choice that takes the columns of `_VERDICTS`, too, where nothing else is read from them."""

    def chosen(names: Sequence[str], where: str) -> Mapping[str, str]:
        found = choose(names, where)
        free = [name for name in names if name not in found.values() and list(names).count(name) == 1]
        return {**found, **{_VERDICT + name: name for name in free if _kind_of(name) in (*_VERDICTS, *_HOLDERS)}}

    return chosen


def _kind_of(name: str) -> str:
    """What a column is about: `status` of `similarity.responses.status`."""
    return _folded(name).rpartition(".")[2]


def _verdicts_in(name: str, value: Any) -> Iterator[str]:
    """The verdicts of a cell, which may hold several answers, or objects of which each has one."""
    if isinstance(value, Mapping):
        for inner, one in value.items():
            yield from _verdicts_in(str(inner), one)
    elif isinstance(value, list):
        for one in value:
            yield from _verdicts_in(name, one)
    elif _kind_of(name) in _VERDICTS:
        yield str(value).strip().lower()


def _tell_verdicts(verdicts: Counter[tuple[str, str]], path: str | os.PathLike[str]) -> None:
    """Warns of rows that annotators turned down, where the column says nothing but that."""
    for name in dict.fromkeys(name for name, _ in verdicts):
        known = [_VERDICTS[kind] for kind in _VERDICTS if _kind_of(name) in (kind, *_HOLDERS)]
        good, bad = (tuple(word for words in each for word in words) for each in zip(*known, strict=True))
        counts = {value: count for (column, value), count in verdicts.items() if column == name}
        turned_down = {value: counts[value] for value in bad if value in counts}
        if turned_down and counts.keys() <= {"", "none", *good, *bad}:
            filtered = f"dataset.filter(lambda row: str(row[{name!r}]).lower() not in {bad!r})"
            logger.warning(
                "%s: rows that an annotator turned down are used, too: %s in column %r; to leave them out, filter the "
                "file first%s",
                path,
                ", ".join(f"{count} of {sum(counts.values())} say {value!r}" for value, count in turned_down.items()),
                name,
                f", in Python: {filtered}" if _kind_of(name) in _VERDICTS else "",
            )


def _check_texts(odd: Oddities, path: str | os.PathLike[str]) -> None:
    try:
        odd.check()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _chosen_once(choose: Choice) -> Choice:
    """A choice that must come out the same for every file and every row of a table."""
    first: list[tuple[Mapping[str, str], str]] = []

    def chosen(names: Sequence[str], where: str) -> Mapping[str, str]:
        found = choose(names, where)
        before, place = first[0] if first else (found, where)
        if found != before:
            now, then = (", ".join(map(repr, columns.values())) for columns in (found, before))
            raise InputError(
                f"{where}: the columns to read would be {now}, and in {place} they are {then}; name all alike"
            )
        first.append((found, where))
        return found

    return chosen


def pick_columns(names: Sequence[str], known: Mapping[str, Sequence[str]], where: str) -> dict[str, str]:
    """Which column of a table holds what: by its own name, or by others that are `known` (in lower case).

    Where every column that is there has its own name, other names mean nothing; else two that may be one are refused:
    of `text_a`, `text_b` and `sentence2` the last may be a note on the other two.
    """
    own = {column: [name for name in names if _folded(name) == column] for column in known}
    other = {column: [name for name in names if _folded(name) in others] for column, others in known.items()}
    are_own = all(own[column] or not other[column] for column in known)
    found: dict[str, str] = {}
    for column in known:
        here = own[column] if are_own else [*own[column], *other[column]]
        if len(here) > 1:
            two = "there are two columns" if here[0] == here[1] else f"{here[0]!r} and"
            raise InputError(f"{where}: {two} {here[1]!r}, and either may be {column!r}; rename or remove one")
        if here:
            found[column] = here[0]
    return found


def _folded(name: str) -> str:
    """A column's name as it is compared: without spaces around it, and without case and what cannot be seen."""
    return "".join(sign for sign in name if unicodedata.category(sign) not in ("Cc", "Cf")).strip().casefold()


def name_unused(path: str | os.PathLike[str], choose: Choice) -> Choice:
    """A choice of columns that names in the log, once, those that are not read."""
    told: set[str] = set()

    def chosen(names: Sequence[str], where: str) -> Mapping[str, str]:
        found = choose(names, where)
        unused = [name for name in names if name not in found.values() and name not in told]
        if unused:
            told.update(unused)
            logger.info("%s: columns that are not used: %s", path, ", ".join(map(repr, unused)))
        return found

    return chosen


def text_value(where: str, name: str, value: Any, *, is_whole: bool = True) -> str:
    """A value that must be a text of reasonable length, and, if it is to be `whole`, valid Unicode."""
    if not isinstance(value, str):
        raise InputError(f"{where}: field {name!r} is {_shown(value)}; expected a text")
    if len(value) > MAX_TEXT:
        raise InputError(f"{where}: field {name!r} holds {len(value):,} characters; expected {A_TEXT}")
    if is_whole and "\0" in value:
        raise InputError(f"{where}: field {name!r} holds a NUL character; remove it")
    if is_whole and _SURROGATE.search(value):
        raise InputError(f"{where}: field {name!r} holds half of a surrogate pair; expected valid Unicode")
    return value


def number_value(where: str, name: str, value: Any) -> float:
    """A value that must be, or spell, a finite number."""
    number = as_number(value)
    if number is None:
        has_comma = isinstance(value, str) and "," in value and as_number(value.replace(",", ".")) is not None
        hint = " (with a point before the decimals, not a comma)" if has_comma else ""
        raise InputError(f"{where}: field {name!r} is {_shown(value)}; expected a finite number{hint}")
    return number


def as_number(value: Any) -> float | None:
    """The finite number that a value is or spells, if any."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    if isinstance(value, str) and "_" in value:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    """A value for a message, short; of containers the kind alone, as they may be deep."""
    if isinstance(value, str | bytes):
        return repr(value[:60])
    return f"{value!r:.60}" if value is None or isinstance(value, bool | int | float) else f"a {type(value).__name__}"


# Which files


def named_files(path: str | os.PathLike[str]) -> list[Path]:
    """The file or directory at a path, or the files that fit it as a pattern; an `InputError` if there is none."""
    path = Path(path)
    if path.exists():
        return [path]
    is_pattern = any(sign in path.name for sign in "*?[")
    files = sorted(path.parent.glob(path.name), key=_in_order) if is_pattern else []
    files = [file for file in files if path.name[0] == "." or file.name[0] != "."]
    if not files:
        more = ", and none that fits this as a pattern" if is_pattern else f" or directory{similar_path(path)}"
        raise InputError(f"{path}: there is no such file{more}")
    return files


def _in_order(file: Path) -> tuple[list[tuple[str, int]], Path]:
    """Sorts names with their numbers by size: part-2 comes before part-10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", file.stem)], file


def _as_separated(file: Path) -> str:
    """What to do with a file that is a table but for its name, as those of SICK: in words, or empty."""
    with file.open("rb") as stream:
        has_tabs = b"\t" in stream.readline(MAX_TEXT)
    return (
        f"; there are tabs in its first line: as {file.with_suffix('.tsv').name} it is read as a table"
        if has_tabs
        else ""
    )


def _files(path: Path) -> list[Path]:
    """The files, or the directory of `save_to_disk`, that a path names; they must belong together."""
    if path.is_dir():
        return _files_of_directory(path)
    files = named_files(path)
    for file in files:
        if file.suffix.lower() not in TABLE_FORMATS:
            raise InputError(
                f"{file}: is no table that can be read; expected one that ends in {', '.join(TABLE_FORMATS)}, or a "
                f"directory{_as_separated(file)}"
            )
    if not path.exists():
        logger.info("%s: there is no file of this name; as a pattern it fits %s", path, _some([f.name for f in files]))
        _check_parts(files, path.name)
    return files


def _files_of_directory(path: Path) -> list[Path]:
    if (path / MANIFEST).is_file():
        return ShardDirectory.to_read(path).intact_files()
    if (path / "state.json").is_file():
        files = [path]
    elif (path / "dataset_dict.json").is_file():
        splits = sorted({file.parent.name for file in path.glob("*/state.json")} | _listed_splits(path))
        files = [path / split for split in splits]
        if len(splits) != 1:
            raise InputError(
                f"{path}: holds the splits {', '.join(splits) or 'none'}; give the directory of one, such as "
                f"{path / (splits or ['train'])[0]}"
            )
    else:
        files = _parquet_files(path)
    _check_all_read(path, files)
    return files


def _listed_splits(path: Path) -> set[str]:
    """The splits that `DatasetDict.save_to_disk` says it wrote."""
    file = path / "dataset_dict.json"
    try:
        return set(map(str, json.loads(file.read_text(encoding="utf-8"))["splits"]))
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{file}: does not list the splits ({error!r:.100})") from None


def _parquet_files(path: Path) -> list[Path]:
    """The parquet files of a directory or its `data`; they must be of one split, and none of its parts be missing."""
    inside = [file for place in (path, path / "data") for file in place.glob("[!.]*")]
    files = sorted((file for file in inside if file.suffix.lower() == ".parquet" and file.is_file()), key=_in_order)
    if not files:
        raise InputError(
            f"{path}: holds no table: neither manifest.json (a directory of dino-st), state.json (save_to_disk) nor "
            f"*.parquet or data/*.parquet{_below(path)}"
        )
    groups = sorted({(file.parent, split) for file in files for split in splits_of(file) or ["others"]})
    if len(groups) > 1:
        raise InputError(
            f"{path}: holds files of several splits ({', '.join(split for _, split in groups)}); give one file, such "
            f"as {files[0]}, or a pattern in quotation marks, such as '{files[0].parent}/train*.parquet'"
        )
    _check_parts(files)
    return files


def _below(path: Path) -> str:
    """Where tables lie in folders below, as parts by a column's values do: in words, or empty."""
    found = tables_below(path)
    return f"; give a folder below, such as {found[0].parent}, or the file there" if found else ""


def tables_below(path: Path) -> list[Path]:
    """The tables in a directory and in those below it, but for hidden ones, in the order of their names."""
    return [file for file in sorted(path.rglob("[!.]*")) if table_ending(file) and file.is_file()]


def table_ending(file: Path) -> str:
    """The ending that says what kind of table a file is, packed or not; empty for none, and for what `datasets` notes.

    Example:
        >>> table_ending(Path("a.CSV.gz")), table_ending(Path("notes.md"))
        ('.csv', '')
    """
    if file.name in _NOTES or file.name.startswith((".", "cache-")):
        return ""
    unpacked = file.with_suffix("") if file.suffix.lower() in _PACKED else file
    ending = unpacked.suffix.lower()
    return ending if ending in (*TABLE_FORMATS, ".arrow") else ""


def _check_all_read(path: Path, files: Sequence[Path]) -> None:
    """Refuses a directory with tables beside or below those that are read."""
    below = sorted(path.rglob("*"))
    below += [file for link in below if link.is_symlink() and link.is_dir() for file in sorted(link.rglob("*"))]
    tables = [file for file in below if table_ending(file) and file.is_file() and file not in files]
    others = [str(file.relative_to(path)) for file in tables if file.suffix != ".arrow" or file.parent not in files]
    others = [name for name in others if not re.search(r"(^|/)\.", name)]
    if others:
        raise InputError(
            f"{path}: {_some(others)} would not be read beside {_some([file.name for file in files])}; give one file, "
            "or a pattern in quotation marks, or move it elsewhere"
        )


def _check_parts(files: Sequence[Path], pattern: str | None = None) -> None:
    """Refuses numbered parts (see `_PART`) that are no whole; what a pattern leaves out on purpose may be missing."""
    series: dict[tuple[Path, str, str], list[re.Match[str]]] = {}
    others = []
    for file in files:
        part = _PART.fullmatch(file.name)
        if part:
            series.setdefault((file.parent, part["name"], part["ending"]), []).append(part)
        if not (part and part["of"]):
            others.append(file.name)
    for (parent, name, ending), parts in series.items():
        where = f"{parent}: {_some([part[0] for part in parts])}"
        numbers = {int(part["number"]) for part in parts}
        of, total = parts[0]["of"] or "", int(parts[0]["total"] or max(numbers) + 1)
        if len({part["of"] for part in parts}) > 1 or len(numbers) < len(parts) or max(numbers) >= total:
            raise InputError(f"{where} are no parts of one whole; move those elsewhere that do not belong to it")
        start, width = 0 if of else min(numbers), min(len(part["number"]) for part in parts)
        all_names = ((i, f"{name}{i:0{width}d}{of}{ending}") for i in range(start, min(total, start + _MOST_PARTS)))
        missing = [one for i, one in all_names if i not in numbers and fnmatch(one, pattern or "*")]
        is_padded = any(part["number"][:1] == "0" for part in parts)
        if missing and (of or (is_padded and width >= _DIGITS_OF_PARTS)):
            raise InputError(f"{where}: {_some(missing)} is missing; fetch it, or name the files that are to be read")
        if missing and (is_padded or start == 1):
            _warn_without(where, missing)
    if len(others) < len(files) and others and any(part["of"] for parts in series.values() for part in parts):
        raise InputError(
            f"{files[0].parent}: {_some(others)} is no part of what the other files are parts of; move it elsewhere"
        )
    counted = {(part.string, parent) for (parent, *_), parts in series.items() if len(parts) > 1 for part in parts}
    _warn_of_gaps([file for file in files if (file.name, file.parent) not in counted])
    _check_copies(files)


def _warn_without(where: str | Path, missing: Sequence[str]) -> None:
    logger.warning("%s: read without %s, as if a part were missing", where, _some(missing))


def _warn_of_gaps(files: Sequence[Path]) -> None:
    """Tells of numbers that are missing in names which differ in one number alone, wherever it stands, as Spark's do.

    Spark writes no file for a part without rows, so that nothing is refused.
    """
    alike: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        alike.setdefault((file.parent, re.sub(r"\d+", "#", file.name)), []).append(file)
    for (parent, _), those in alike.items():
        columns = [*zip(*(re.findall(r"\d+", file.name) for file in those), strict=True)]
        varying = [place for place, column in enumerate(columns) if len(set(column)) > 1]
        if len(varying) != 1:
            continue
        numbers = {*map(int, columns[varying[0]])}
        width = min(map(len, columns[varying[0]]))
        is_counted = any(number[:1] == "0" for number in columns[varying[0]])
        if not is_counted or max(numbers) - min(numbers) > _MOST_PARTS:
            continue
        pieces = re.split(r"(\d+)", those[0].name)
        names = [
            "".join([*pieces[: 2 * varying[0] + 1], f"{number:0{width}d}", *pieces[2 * varying[0] + 2 :]])
            for number in range(min(numbers), max(numbers))
            if number not in numbers
        ]
        if names:
            _warn_without(parent, names)


def _check_copies(files: Sequence[Path]) -> None:
    """Refuses what stands there twice: files of the same bytes, or of one name in several formats."""
    seen: dict[Path | str, Path] = {}
    sizes = Counter(file.stat().st_size for file in files)
    for file in files:
        keys = [file.with_suffix(""), *([hash_file(file)] if sizes[file.stat().st_size] > 1 else ())]
        for other in (seen.setdefault(key, file) for key in keys):
            if other != file:
                same = "have the same name" if other.stem == file.stem else "are byte for byte the same"
                raise InputError(
                    f"{file.parent}: {other.name} and {file.name} {same}, so rows would be read twice; keep one"
                )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def splits_of(file: Path) -> list[str]:
    """The splits that a file's name names, as `datasets` understands it: train, validation, test."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    return list(dict.fromkeys(_SPLITS[word] for word in words if word in _SPLITS))


# CSV and TSV


def _separated_rows(file: Path, choose: Choice) -> Iterator[Row]:
    """Rows of CSV or TSV; what separates is seen in the first line."""
    with file.open("rb") as stream:
        lines = _named(file, decoded_lines(stream))
        first = next(lines, "")
        said = _SEPARATOR.fullmatch(first)
        first = next(lines, "") if said else first
        if first.startswith('{"'):
            raise InputError(
                f"{file}, line {1 + (said is not None)}: is an object of JSON; give the file a name that ends in .jsonl"
            )
        plain = re.sub('"[^"]*"', "", first)
        semicolons = ";" in plain and "," not in plain
        tabs = file.suffix.lower() == ".tsv" or "\t" in plain
        separator = said[1] if said else "\t" if tabs else ";" if semicolons else ","
        rows = _strict_rows(file, chain([first], lines), separator, lines_before=int(said is not None))
        line, header = next(rows, (1, []))
        if not header:
            return
        try:
            found = choose(header, f"{file}, line {line}")
        except (InputError, DatasetError) as error:
            hint = "if this one does not, write one above it"
            if tabs and len(header) == 1 and "," in plain:
                hint = "here it has commas and no tab; give the file a name that ends in .csv"
            raise type(error)(f"{error}. The first row of a table names its columns: {hint}") from None
        places = {column: header.index(name) for column, name in found.items()}
        names = sorted(map(_folded, header))
        for number, (line, row) in enumerate(rows, start=1):
            where = f"{file}, line {line}"
            if is_conflict_mark(row[0]):
                raise InputError(f"{where}: {row[0]:.40} begins or ends what git could not merge; settle it first")
            if len(row) != len(header):
                raise InputError(
                    f"{where}: has {len(row)} columns, expected {len(header)} as in the first row; a text that holds "
                    'the separator or a line end stands between quotation marks: "…"'
                )
            if sorted(map(_folded, row)) == names:
                raise InputError(f"{where}: names the columns once more, as where tables were joined; remove the row")
            if number <= _HEADERS and (what := _second_header(header, row)):
                raise InputError(f"{where}: {what}, as in a table with several rows of names; remove all but the first")
            yield where, {column: row[place] for column, place in places.items()}


def _second_header(header: Sequence[str], row: Sequence[str]) -> str | None:
    """What a row below the names of the columns says that is no row of values; None if nothing does."""
    if any(map(_IMPORT_ID.match, row)):
        return 'holds ids of Qualtrics ({"ImportId": …}), and the row above it questions'
    same = [cell for name, cell in zip(header, row, strict=True) if _letters(cell) and _letters(cell) == _letters(name)]
    return f"says {same[0]!r} and {same[1]!r} below columns of these names" if len(same) > 1 else None


def _letters(name: str) -> str:
    """A column's name without spaces, hyphens and the like."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _strict_rows(
    file: Path, lines: Iterable[str], separator: str, *, lines_before: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank with the line that each begins at; refuses quotation marks that can be read otherwise."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_TEXT))
    taken: list[str] = []
    after_plain = False
    width = 0  # columns of the first row, where not all of its cells are quoted

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    rows = csv.reader(noted(), delimiter=separator, strict=True)
    while True:
        is_first, line = rows.line_num == 0, rows.line_num + 1 + lines_before
        where = f"{file}, line {line}"
        taken.clear()
        try:
            row = next(rows, None)
            if row is None:
                return
            has_return = taken[-1].endswith("\r\n")
            if has_return and after_plain:  # it may belong to the text before it
                raise csv.Error("a carriage return stands before the line end, as before no earlier one")
            after_plain = not has_return
            # A mark behind a space is a part of the text to Python, and quotes it to others.
            if any(cell[:1] == " " and cell.lstrip(" ")[:1] == '"' for cell in row):
                others = next(csv.reader(taken, delimiter=separator, strict=True, skipinitialspace=True))
                if [cell.lstrip(" ") for cell in others] != [cell.lstrip(" ") for cell in row]:
                    raise csv.Error("a space stands before one")
            if is_first and taken[0].count('"') < 2 * len(row):
                width = len(row)
            if len(taken) > 1 < width and all(one.count(separator) == width - 1 for one in taken):
                raise csv.Error(
                    "each of its lines is a row, too, if the marks quote nothing; if they do, quote all cells"
                )
        except csv.Error as error:
            reason = str(error).partition(" - do you need")[0]
            advice = _WITHOUT_QUOTING.format(os.fspath(file)) if separator == "\t" else _AS_LINES
            if "field limit" in reason:
                raise InputError(
                    f"{where}: a cell holds more than {MAX_TEXT:,} characters, or a quotation mark is never closed"
                    f"{advice}"
                ) from None
            raise InputError(
                f"{where}: the row that begins here has quotation marks or line ends out of place ({reason}); quote "
                f"such a text, and write a mark inside it twice{advice}"
            ) from None
        if row:
            yield line, row


def _named(file: Path, lines: Iterator[str]) -> Iterator[str]:
    """The lines; an error names the file."""
    try:
        yield from lines
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


# JSON


def _json_rows(file: Path, choose: Choice) -> Iterator[Row]:
    """Objects of JSON lines, or of what else a file of JSON may hold."""
    chosen: dict[tuple[str, ...], Mapping[str, str]] = {}
    for where, row in _json_values(file):
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise InputError(f"{where}: is {_shown(row)}; expected a JSON object with named fields")
        names = tuple(row)
        if names not in chosen:
            chosen[names] = choose(names, where)
        yield where, {column: row[name] for column, name in chosen[names].items()}


def _json_values(file: Path) -> Iterator[tuple[str, Any]]:
    """Values of JSON: one a line, or those of an array, or one behind another, over several lines each."""
    longest = {"longest": sys.maxsize - 1} if file.suffix.lower() == ".json" else {}
    with file.open("rb") as stream:
        lines = enumerate(_named(file, decoded_lines(stream, **longest)), start=1)
        is_first = True
        for number, line in lines:
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                if is_first and line.lstrip()[0] == "[":
                    raise InputError(f"{where}: an array may begin here")
                value = parse_json(where, line.rstrip())
            except InputError as error:
                if not is_first:
                    raise
                whole = "\n" * (number - 1) + line + "".join(line for _, line in lines)
                try:
                    values = _parse_values(file, whole)
                except InputError:
                    if line.strip()[-1:] not in ("{", "[", ",") and line.lstrip()[0] != "[":
                        raise error from None
                    raise
                yield from values
                return
            is_first = False
            yield where, value


def _parse_values(file: Path, text: str) -> list[tuple[str, Any]]:
    """All values of JSON in a text, with where they stand; the entries, where a single array is all there is."""
    values = []
    place = line = 0
    while begin := _VISIBLE.search(text, place):
        start = begin.start()
        line += text.count("\n", place, start)
        where = f"{file}, line {line + 1}"
        value, place = _decode(where, partial(_DECODER.raw_decode, text, start))
        values.append((where, value))
        line += text.count("\n", start, place)
    if len(values) == 1 and isinstance(values[0][1], list):
        return [(f"{file}, entry {i}", row) for i, row in enumerate(values[0][1], start=1)]
    return values


def parse_json(where: str, text: str) -> Any:
    """The value that JSON stands for; an error says where it stands."""
    return _decode(where, partial(_DECODER.decode, text))


def _decode(where: str, decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except (ValueError, RecursionError) as error:
        why = "numbers or nesting beyond measure"
        if isinstance(error, json.JSONDecodeError):
            why = f"{error.msg} at {f'line {error.lineno}, ' if error.lineno > 1 else ''}column {error.colno}"
        elif isinstance(error, _DoubleKeyError):
            why = str(error)
        raise InputError(f"{where}: is not JSON ({why}); expected one object") from None


class _DoubleKeyError(ValueError):
    """An object has a key twice."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DoubleKeyError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_without_doubles)


def write_json_objects(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line; the file appears whole or not at all."""
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


# Arrow


def _parquet_rows(file: Path, choose: Choice) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True) as parquet:
            yield from _arrow_rows(
                file, parquet.schema_arrow, choose, lambda names: parquet.iter_batches(columns=names)
            )
    except pa.ArrowException as error:
        with file.open("rb") as stream:
            kind = kind_of(stream.read(64))
        why = f"; it is a {kind} file" if kind else ""
        if kind == "parquet":
            why = "; it begins as parquet does, so a part of it is missing or damaged: copy it anew"
        raise InputError(f"{file}: cannot be read as parquet ({first_line(error)}){why}") from None


def _saved_rows(directory: Path, choose: Choice) -> Iterator[Row]:
    """Rows of a directory of `Dataset.save_to_disk`, whose files must be those that it lists, whole and in order."""
    import pyarrow as pa
    from datasets import load_from_disk

    try:
        state = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        listed = {str(entry["filename"]) for entry in state["_data_files"]}
        there = {file.name for file in directory.iterdir() if table_ending(file) == ".arrow"}
        for names, what in ((listed - there, "missing"), (there - listed, "not listed there")):
            if names:
                raise InputError(f"{directory}: {_some(sorted(names))} is {what} ({directory / 'state.json'})")
        files = [directory / name for name in sorted(listed)]
        _check_parts(files)
        for file in files:
            with file.open("rb") as stream:
                stream.seek(max(0, file.stat().st_size - len(_END_OF_ARROW)))
                if stream.read() != _END_OF_ARROW:
                    raise InputError(f"{file}: is cut off; save the data set once more")
        _check_shares(directory, [_rows_of_arrow(file) for file in files])
        dataset = load_from_disk(os.fspath(directory)).with_format("arrow")
        yield from _arrow_rows(directory, dataset.features.arrow_schema, choose, lambda _: dataset.iter(1000))
    except (pa.ArrowException, LookupError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{directory}: cannot be read as a saved data set ({error!r:.200})") from None


def _rows_of_arrow(file: Path) -> int:
    import pyarrow as pa

    with pa.memory_map(os.fspath(file)) as source, pa.ipc.open_stream(source) as stream:
        return sum(batch.num_rows for batch in stream)


def _check_shares(directory: Path, rows: Sequence[int]) -> None:
    """Refuses files of a saved data set that do not hold as many rows each as `save_to_disk` would have given them."""
    share, rest = divmod(sum(rows), len(rows))
    if list(rows) != [share + (i < rest) for i in range(len(rows))]:
        raise InputError(
            f"{directory}: its files hold {', '.join(map(str, rows[:10]))}{', …' * (len(rows) > 10)} rows, which "
            "save_to_disk would have shared out evenly; one is of another data set, or stands in another's place"
        )


def _arrow_rows(
    place: Path, schema: pa.Schema, choose: Choice, batches: Callable[[list[str]], Iterable[pa.RecordBatch | pa.Table]]
) -> Iterator[Row]:
    found = choose(schema.names, os.fspath(place))
    classes = _classes(schema)
    number = 0
    for batch in batches(list(found.values())):
        try:
            columns = [batch.column(name).to_pylist() for name in found.values()]
        except ValueError as error:  # UnicodeDecodeError is one
            raise InputError(f"{place}, after row {number}: holds what is no text ({error})") from None
        for values in zip(*columns, strict=True):
            number += 1
            row = dict(zip(found, values, strict=True))
            for column, name in found.items():
                if name not in classes or column.startswith(_VERDICT):
                    continue
                if row[column] not in range(len(classes[name])):
                    raise InputError(
                        f"{place}, row {number}: column {name!r} is {row[column]}, which is none of its classes "
                        f"{classes[name]} (-1 means no label); drop such rows"
                    )
                row[column] = classes[name][row[column]]
            yield f"{place}, row {number}", row


def _classes(schema: pa.Schema) -> dict[str, list[str]]:
    """The names behind the numbers of columns that `datasets` wrote as `ClassLabel`."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
