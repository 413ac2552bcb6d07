"""Triplets in files: our own shards, and tables of ours or other names.

SynCSE's CSV names its columns `sent0,sent1,hard_neg`: sentence, positive, hard negative. distilabel's sentence-pair
step writes `anchor`, `positive` and `negative`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.data.cards import SIMILARITY, TAGS, dataset_card
from dino_st.data.columns import (
    ANCHOR,
    NEGATIVE,
    POSITIVE,
    SENTENCE1,
    SENTENCE2,
    TRIPLET_COLUMNS,
    as_table,
    text_column,
)
from dino_st.data.pairs import PAIR_NAMES, read_pair_table
from dino_st.data.shards import MANIFEST, ShardDirectory, Wave, WaveStore, write_waves
from dino_st.data.tables import column_names, name_unused, pick_columns, table_rows, text_value, write_json_objects
from dino_st.errors import ConfigurationError, DatasetError, suggest
from dino_st.support.files import replacing
from dino_st.support.hashes import hash_texts, versions

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


PUBLISHED_HEADER = ("sent0", "sent1", "hard_neg")
"""First line of the published CSV files."""

_NAMES = {
    ANCHOR: ("sentence", "query", "sent0"),
    POSITIVE: ("sent1",),
    NEGATIVE: ("hard_neg", "hard_negative"),
}
"""Other names under which files have the columns."""


def triplet_table(dataset: Dataset | pa.Table, *, name: str = "the data set") -> pa.Table:
    """Checks that a data set holds triplets, and takes its three columns, whatever their names (see `_NAMES`).

    Raises DatasetError where it is no single `datasets.Dataset`, has no rows, lacks a column, or a value is no text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = as_table(dataset, name)
    found = _places(whole.column_names, name)
    if not len(whole):
        raise DatasetError(f"there is no row in {name}; generate triplets first")
    columns = []
    for column, source in found.items():
        texts = text_column(whole[source], source, name, f" in {column!r}")
        row = pc.index(pc.is_null(whole[source]), True).as_py()
        if row >= 0:
            raise DatasetError(
                f"column {source!r} of {name} has no value in row {row}; leave such rows out: "
                f"dataset.filter(lambda row: row[{source!r}] is not None)"
            )
        columns.append(pc.cast(texts, pa.string()))
    return pa.table(columns, names=list(found))


def read_triplets(path: str | os.PathLike[str]) -> Dataset:
    """Reads triplets as `read_triplet_table` does, as a data set."""
    from datasets import Dataset

    return Dataset(read_triplet_table(path))


def read_triplet_table(path: str | os.PathLike[str]) -> pa.Table:
    """Reads `anchor`, `positive` and `negative` from a directory of shards, or whatever `table_rows` reads.

    Raises InputError where the file cannot be read or is of another kind, and DatasetError as `triplet_table` does.
    """
    import pyarrow as pa

    file = Path(path)
    if (file / MANIFEST).is_file():
        raw = ShardDirectory.to_read(file).table()
    else:
        columns: dict[str, list[str]] = {column: [] for column in TRIPLET_COLUMNS}
        for where, row in table_rows(file, name_unused(file, _places)):
            for column, value in row.items():
                columns[column].append(text_value(where, column, value))
        raw = pa.table({column: pa.array(texts, pa.string()) for column, texts in columns.items()})
    return triplet_table(raw, name=str(file))


def read_pairs_or_triplets(path: str | os.PathLike[str]) -> pa.Table:
    """Reads a table of pairs or of triplets, whichever its columns say."""
    is_pairs = {SENTENCE1, SENTENCE2} <= set(pick_columns(column_names(path), PAIR_NAMES, os.fspath(path)))
    return read_pair_table(path) if is_pairs else read_triplet_table(path)


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
        card=lambda name, **_: dataset_card(
            name, text, rows=table.num_rows, tags=TAGS[:2], task_categories=[SIMILARITY]
        ),
    )


def _places(names: Sequence[str], where: str) -> dict[str, str]:
    """Which column holds what."""
    found = pick_columns(names, _NAMES, where)
    missing = [column for column in _NAMES if column not in found]
    if missing:
        hint = "; these are pairs, see `to_triplets`" if SENTENCE1 in names else ""
        raise DatasetError(
            f"{where}: has the columns {list(names)}; missing: {', '.join(missing)}. Expected anchor (or sentence, "
            f"query, sent0), positive (or sent1) and negative (or hard_neg){hint}"
        )
    return found
