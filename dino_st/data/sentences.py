"""Sentences from files: text, JSONL, CSV, TSV, the STS Benchmark's TSV, parquet, a directory, standard input."""

from __future__ import annotations

import re
import sqlite3
import sys
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import overload

from dino_st.data.columns import SENTENCE2
from dino_st.data.lines import Oddities, sentence_lines, text_lines
from dino_st.data.tables import (
    TABLE_FORMATS,
    as_number,
    name_unused,
    pick_columns,
    table_rows,
    text_value,
)
from dino_st.errors import ConfigurationError, InputError, OutputError, suggest
from dino_st.support.files import similar_path
from dino_st.support.progress import logger
from dino_st.support.text import is_blank, printable, without_form

TEXT_COLUMNS = ("text", "sentence", "sentence1", "x1", "text_a")
"""Columns looked for, in this order, where none is named."""

_STSB_COLUMNS = 7
"""Fewest columns of an STS Benchmark file: genre, file, year, id, score, sentence1, sentence2."""

_STSB_LINE = re.compile(
    r"genre\t[^\t]*\t[^\t]*\t[^\t]*\tscore\tsentence1\tsentence2\s|"
    r"[^\t\s]+\t[^\t]*\t(19|20)\d\d[^\t]*\t\d+\t[0-5](\.\d*)?\t[^\t]*\t[^\t]"
)
"""The first line of an STS Benchmark file: its header, or values as none but it has."""


_COMPARED = 100_000
"""So many sentences are compared without regard to capitals, which takes memory."""

_HEAD, _FOLLOWING = 2, 20
"""Words of a line that may name a column, at most, and lines below it that are looked at."""

_JSON_OBJECT = re.compile(r'\s*\{\s*"(\w| )*"\s*:')
"""How a line of JSON begins."""


class DistinctTexts(Sequence[str]):
    """An ordered set of texts that is read like a tuple; two that differ as `without_form` says are one.

    They stand in a private SQLite database: in memory while they fit into its cache of two megabytes, in a temporary
    file that nobody else sees from then on.

    Example:
        >>> texts = DistinctTexts()
        >>> texts.add("A man plays a flute."), texts.add("It rains."), texts.add("It rains.")
        (True, True, False)
        >>> texts[1:]
        ['It rains.']
    """

    def __init__(self) -> None:
        self._length = 0
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE texts (place INTEGER PRIMARY KEY, form TEXT NOT NULL UNIQUE, text TEXT);"
        )
        weakref.finalize(self, self._database.close)  # Python 3.13 warns of databases that are left open

    def add(self, text: str) -> bool:
        """Takes a text in as the last one, unless it is there; says whether it is new; OutputError: a full disk."""
        form = without_form(text)
        row = (self._length, form, None if form == text else text)
        try:
            found = self._database.execute("INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", row)
        except sqlite3.Error as error:
            raise OutputError(
                f"the sentences do not fit into a temporary file ({error}); let TMPDIR name a directory with more room"
            ) from None
        self._length += found.rowcount
        return found.rowcount == 1

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return self._select(0, self._length)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            places = range(self._length)[place]
            if places.step == 1:
                return list(self._select(places.start, places.stop))
            return [self[i] for i in places]
        number = range(self._length)[place]
        return next(self._select(number, number + 1))

    def _select(self, start: int, stop: int) -> Iterator[str]:
        found = self._database.execute(
            "SELECT coalesce(text, form) FROM texts WHERE place >= ? AND place < ? ORDER BY place", (start, stop)
        )
        yield from (text for (text,) in found)  # a generator of its own keeps this object alive


@dataclass(frozen=True)
class Sentences:
    """Distinct sentences in the order of their first appearance, and what was left out on the way."""

    texts: DistinctTexts
    counts: dict[str, int]  # `read`, `kept`, and one count for every reason to skip a line

    @property
    def skipped(self) -> dict[str, int]:
        """What was left out, by reason, as `skipped: …`."""
        return {f"skipped: {why}": count for why, count in self.counts.items() if why not in ("read", "kept")}


def clean_sentences(lines: Iterable[str], *, limit: int | None = None) -> Sentences:
    """Strips sentences, and byte-order marks, and skips and counts blank ones, duplicates, and ones with a NUL byte.

    A duplicate may differ in its Unicode form, in blanks, or in what is not seen. Those of a set are sorted.

    There may be any number of them, since few are in memory at a time; `limit` counts distinct ones. Raises
    ConfigurationError where they are one text, a table or no texts at all, InputError where an item is no text or
    nothing remains, and OutputError where the temporary directory has no more room.
    """
    if isinstance(lines, str):
        raise ConfigurationError("sentences: expected a list of sentences, given one text; wrap it: [text]")
    if isinstance(lines, Mapping) or hasattr(lines, "columns") or not isinstance(lines, Iterable):
        whose = ", whose names of columns would be the sentences; pass one of its columns" * hasattr(lines, "columns")
        raise ConfigurationError(f"sentences: expected a list of sentences, given {type(lines).__name__}{whose}")
    if isinstance(lines, set | frozenset):
        lines = sorted(lines, key=str)  # the order of a set is another one in every process
    if isinstance(lines, DistinctTexts):  # cleaned before
        return Sentences(lines, {"read": len(lines), "kept": len(lines)})
    counts: Counter[str] = Counter()
    texts, folded, twins = DistinctTexts(), set[int](), list[str]()
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, str):
            raise InputError(f"sentence {number}: expected text, given {type(line).__name__} ({line!r:.60})")
        counts["read"] += 1
        text = line.strip().lstrip("\ufeff").lstrip()
        if "\0" in text:
            counts["NUL byte"] += 1
        elif is_blank(text):
            counts["blank"] += 1
        elif not _is_unicode(text):
            counts["half a surrogate pair"] += 1
        elif not texts.add(text):
            counts["duplicate"] += 1
        elif len(texts) <= _COMPARED:
            folded.add(hash(text.casefold()))
            twins += [text] * (len(folded) + len(twins) < len(texts))
        if len(texts) == limit:
            break
    if not texts:
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "nothing was read"
        raise InputError(f"no sentence to start from: {why}; at least one non-blank sentence is needed")
    counts["kept"] = len(texts)
    if twins:
        logger.warning(
            "%d of %d sentences differ from an earlier one in capitals alone, such as %r; all are taken",
            len(twins),
            min(len(texts), _COMPARED),
            printable(twins[0]),
        )
    return Sentences(texts, dict(counts))


def read_sentences(source: str | Path, *, column: str | None = None, limit: int | None = None) -> Sentences:
    """Reads sentences from a file, up to a limit of distinct ones; an InputError says what is wrong with it.

    The ending of the name says what it is: `.jsonl`, `.csv`, `.tsv`, `.parquet`; anything else is text with a sentence
    a line. A tab-separated file in the layout of the STS Benchmark is recognised by its columns, and gives both of its
    sentences. A directory written by `dino-st generate` gives its texts. `-` is standard input. The column is by
    default the first of `TEXT_COLUMNS` that exists.
    """
    try:
        return clean_sentences(_read_lines(str(source), column), limit=limit)
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


def _read_lines(source: str, column: str | None) -> Iterator[str]:
    if source == "-":
        if column is not None:
            raise InputError(f"a column ({column!r}) was named, but standard input is read as plain lines")
        yield from _plain_lines(sentence_lines(sys.stdin.buffer), "standard input")
        return
    path = Path(source)
    is_table = path.suffix.lower() in TABLE_FORMATS
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise InputError("the file is empty; expected one sentence a line")
        elif is_table and column is None and _is_stsb(path):
            with path.open("rb") as stream:
                yield from _stsb_texts(text_lines(stream))
        elif is_table or path.is_dir():
            yield from _table_texts(path, column)
        elif column is not None:
            raise InputError(f"a column ({column!r}) was named, but {path.suffix or 'this'} is a file of plain lines")
        else:
            with path.open("rb") as stream:
                yield from _plain_lines(sentence_lines(stream), source)
    except FileNotFoundError:
        if re.search(r"[*?\[]", path.name):
            raise InputError("there is no such file, and patterns are for tables; join files of lines first") from None
        raise InputError(f"there is no such file{similar_path(path)}") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})") from None


def _plain_lines(lines: Iterator[str], source: str) -> Iterator[str]:
    """The lines of a text, whose first one must not be that of a table: an object of JSON, or names of columns."""
    first = next(lines, None)
    if first is None:
        return
    if _JSON_OBJECT.match(first):
        raise InputError(
            f"line 1 is an object of JSON ({first:.40}), no sentence; give it as a file whose name ends in .jsonl"
        )
    cells = {cell.strip(' "').lower() for cell in re.split(r"[,;\t]", first)}
    if len(cells) > 1 and cells & {*TEXT_COLUMNS, SENTENCE2} and all(map(str.isidentifier, cells)):
        raise InputError(
            f"line 1 names columns ({first:.60}), and is no sentence; give it as a file whose name ends in .csv or .tsv"
        )
    following = [*islice(lines, _FOLLOWING)]
    if cells <= {*TEXT_COLUMNS} or _is_head(first, following):
        logger.warning("%s: line 1 is %r, which is taken for a sentence, though it may name a column", source, first)
    odd = Oddities()
    try:
        for line in chain([first], following, lines):
            odd.look(line)
            yield line
        odd.check()
    except GeneratorExit:  # as many as were wanted are read
        odd.tell(source)
        raise
    odd.tell(source)


def _is_head(first: str, following: Sequence[str]) -> bool:
    """Whether a line of one or two words without a mark at its end stands above lines that all have more words."""
    lengths = [len(line.split()) for line in following if line.strip()]
    is_short = len(first.split()) <= _HEAD and first.strip().rstrip(")")[-1:].isalnum()
    return is_short and len(lengths) >= _FOLLOWING // 2 and min(lengths) > _HEAD


def _table_texts(path: Path, column: str | None) -> Iterator[str]:
    """The texts of the named column, or of the first known one; halves of surrogate pairs are skipped later."""

    def chosen(names: Sequence[str], where: str) -> dict[str, str]:
        name = column or next(iter(pick_columns(names, dict.fromkeys(TEXT_COLUMNS, ()), where).values()), None)
        if name is None:
            raise InputError(
                f"{where}: none of the columns {', '.join(TEXT_COLUMNS)} is there; name one with --column. "
                f"Columns: {', '.join(map(repr, names))}"
            )
        if name not in names:
            raise InputError(f"{where}: there is no column {name!r}; {suggest(name, names)}")
        if list(names).count(name) > 1:
            raise InputError(f"{where}: there are two columns {name!r}; rename or remove one")
        return {name: name}

    rows = table_rows(path, name_unused(path, chosen), may_stop=True)
    for where, row in rows:
        for name, value in row.items():
            try:
                text = text_value(where, name, value, is_whole=False)
            except InputError as error:
                rows.throw(error)  # so that no more is told of the table
                raise
            yield text


def _is_stsb(path: Path) -> bool:
    """Whether a file is laid out as the STS Benchmark, which quotes nothing, with or without its header."""
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return False
    with path.open("rb") as stream:
        return bool(_STSB_LINE.match(stream.readline(10_000).decode("utf-8-sig", errors="replace")))


def _stsb_texts(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) < _STSB_COLUMNS:
            raise InputError(
                f"line {number}: has {len(fields)} columns; an STS Benchmark line has at least {_STSB_COLUMNS}"
            )
        if number == 1 and fields[4] == "score":
            continue
        if as_number(fields[4]) is None:
            raise InputError(
                f"line {number}: the score is {fields[4]!r:.60}; expected a number, as in an STS Benchmark line"
            )
        if any(re.fullmatch('".*"".*"', text) for text in fields[5:7]):
            raise InputError(
                f"line {number}: has its quotation marks written twice, as an STS Benchmark file never has; take "
                "the published file, or name the column with --column"
            )
        yield from fields[5:7]
