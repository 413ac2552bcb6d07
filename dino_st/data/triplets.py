"""Triplets in files: our own shards, JSON lines, parquet, and CSV in the layout that SynCSE published.

SynCSE's CSV has three columns that count by position: sentence, positive, hard negative; the first line usually names
them (`sent0,sent1,hard_neg`). distilabel's sentence-pair step writes `anchor`, `positive` and `negative`.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.data.cards import dataset_card
from dino_st.data.columns import ANCHOR, NEGATIVE, POSITIVE, SENTENCE1, TRIPLET_COLUMNS
from dino_st.data.shards import ShardDirectory, Wave, WaveStore, write_waves
from dino_st.data.tables import json_objects, read_parquet, write_json_objects
from dino_st.errors import ConfigurationError, DatasetError, InputError, suggest
from dino_st.support.files import replacing
from dino_st.support.hashes import hash_texts
from dino_st.support.progress import logger
from dino_st.support.versions import versions

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


PUBLISHED_HEADER = ("sent0", "sent1", "hard_neg")
"""First line of the published CSV files."""

_NAMES = {
    ANCHOR: (ANCHOR, "sentence", "query", "sent0"),
    POSITIVE: (POSITIVE, "sent1"),
    NEGATIVE: (NEGATIVE, "hard_neg", "hard_negative"),
}
"""Names under which files have the columns; the first that exists counts."""

_FORMATS = (".csv", ".jsonl", ".parquet")
_WIDTH = len(TRIPLET_COLUMNS)


def triplet_table(dataset: Dataset, *, name: str = "the data set") -> pa.Table:
    """Checks that a data set holds triplets, and takes its three columns, whatever their names (see `_NAMES`).

    Raises:
        DatasetError: It is no single `datasets.Dataset`, has no rows, lacks a column, or a value is no text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        given = f"the splits {list(dataset)}; pass one" if isinstance(dataset, dict) else type(dataset).__name__
        raise DatasetError(f"{name} is {given}; expected a datasets.Dataset of triplets")
    found = _places(dataset.column_names, name)
    if not len(dataset):
        raise DatasetError(f"there is no row in {name}; generate triplets first")
    whole: pa.Table = dataset.select_columns(list(found.values())).with_format("arrow")[:]
    columns = []
    for column, source in found.items():
        kind = whole.schema.field(source).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DatasetError(f"column {source!r} of {name} holds {kind}; expected text in {column!r}")
        row = pc.index(pc.is_null(whole[source]), True).as_py()
        if row >= 0:
            raise DatasetError(
                f"column {source!r} of {name} has no value in row {row}; leave such rows out: "
                f"dataset.filter(lambda row: row[{source!r}] is not None)"
            )
        columns.append(pc.cast(whole[source], pa.string()))
    return pa.table(columns, names=list(found))


def read_triplets(path: str | os.PathLike[str]) -> Dataset:
    """Reads the columns `anchor`, `positive` and `negative` of triplets.

    Args:
        path: A directory of shards, or a `.csv` (by position: sentence, positive, hard negative; with or without a
            header), `.jsonl` or `.parquet` file (by name, see `triplet_table`).

    Raises:
        InputError: The file cannot be read or is of another kind; the message names the line.
        DatasetError: A column is missing, a value is no text, or there are no rows.
    """
    from datasets import Dataset

    file = Path(path)
    kind = file.suffix.lower()
    if file.is_dir():
        raw = ShardDirectory.to_read(file, "a directory of shards or a file of triplets").to_dataset()
    elif kind == ".parquet":
        raw = Dataset(read_parquet(file))
    elif kind in _FORMATS:
        raw = _read_csv(file) if kind == ".csv" else _read_jsonl(file)
    else:
        raise InputError(f"{file}: is no file of triplets; {suggest(file.suffix, _FORMATS)}, or a directory of shards")
    return Dataset(triplet_table(raw, name=str(file)))


def write_triplets(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Writes triplets; the file appears whole or not at all.

    Args:
        dataset: Triplets, as for `triplet_table`.
        path: A `.csv` file (the published layout, with its header), a `.jsonl` file (which distilabel and
            sentence-transformers read by name, too), or, without an ending, a new directory of shards.

    Raises:
        ConfigurationError: The ending is another one.
        DatasetError: The data set holds no triplets.
        OutputError: The file cannot be written, or the directory holds something.
    """
    table, file = triplet_table(dataset), Path(path)
    if file.suffix == ".jsonl":
        write_json_objects(file, table.to_pylist())
    elif file.suffix == ".csv":
        with replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(PUBLISHED_HEADER)
            writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    elif file.suffix:
        raise ConfigurationError(f"{file}: cannot be written; {suggest(file.suffix, ('.csv', '.jsonl'))}, or no ending")
    else:
        _write_shards(table, file)


def _write_shards(table: pa.Table, directory: Path) -> None:
    texts = (text for column in table.columns for text in column.to_pylist())
    configuration = {"kind": "triplets", "rows": table.num_rows, "texts": hash_texts(texts)}

    def waves(store: WaveStore) -> Generator[Wave, None, None]:
        if 0 not in store:
            yield Wave(0, table.to_pylist(), {"rows": table.num_rows})

    text = f"{table.num_rows:,} triplets: an anchor, a text that means the same, and a text that does not.\n"
    write_waves(
        ShardDirectory(directory),
        waves,
        configuration=configuration,
        provenance={"model": None, "versions": versions("dino-st")},
        schema=table.schema,
        card=lambda name, **_: dataset_card(name, text, tags=["sentence-transformers", "dino-st"]),
    )


def _places(names: Sequence[str], where: str) -> dict[str, str]:
    """Names the column of each part of a triplet among those that are there."""
    found = {column: next((name for name in known if name in names), None) for column, known in _NAMES.items()}
    missing = [column for column, source in found.items() if source is None]
    if missing:
        hint = "; these are pairs, see `to_triplets`" if SENTENCE1 in names else ""
        raise DatasetError(
            f"{where} has the columns {list(names)}; missing: {', '.join(missing)}. Expected anchor (or sentence, "
            f"query, sent0), positive (or sent1) and negative (or hard_neg){hint}"
        )
    return {column: str(source) for column, source in found.items()}


def _read_jsonl(file: Path) -> Dataset:
    from datasets import Dataset

    columns: dict[str, list[str]] = {column: [] for column in TRIPLET_COLUMNS}
    for where, row in json_objects(file):
        for column, source in _places(list(row), where).items():
            if not isinstance(row[source], str):
                raise InputError(f"{where}: field {source!r} is {row[source]!r:.60}; expected a text")
            columns[column].append(row[source])
    return Dataset.from_dict(columns)


def _read_csv(file: Path) -> Dataset:
    from datasets import Dataset

    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    rows = list(_csv_rows(file, csv.reader(io.StringIO(text, newline=""))))
    return Dataset.from_dict({column: [row[place] for row in rows] for place, column in enumerate(TRIPLET_COLUMNS)})


def _csv_rows(file: Path, rows: Iterable[list[str]]) -> Iterator[Sequence[str]]:
    """The rows without their header, each with three columns."""
    csv.field_size_limit(2**31 - 1)
    known = {name for names in _NAMES.values() for name in names}
    numbered = enumerate(rows, start=1)
    width = None
    try:
        for number, row in numbered:
            if not row:
                continue
            if width is None:
                width = len(row)
                if {cell.strip().lower() for cell in row[:_WIDTH]} <= known:
                    continue
                if all(cell.isidentifier() for cell in row):
                    logger.warning("%s: the first line, %s, is read as a triplet, not as a header", file, row)
            if len(row) != width or width < _WIDTH:
                raise InputError(
                    f"{file}, row {number}: has {len(row)} columns; expected sentence, positive and hard negative"
                    + (f", as in the {width} columns of the first row" if width > _WIDTH else "")
                    + ' (a text that holds a comma stands in quotation marks: "…")'
                )
            yield row[:_WIDTH]
    except csv.Error as error:
        raise InputError(f"{file}: cannot be read as CSV ({error})") from None
