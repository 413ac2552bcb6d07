"""Triplets in files: our own shards, and tables of ours or other names.

SynCSE's CSV names its columns `sent0,sent1,hard_neg`: sentence, positive, hard negative. distilabel's sentence-pair
step writes `anchor`, `positive` and `negative`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.data.alignment import warn_of_alignment
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
from dino_st.data.pairs import PAIR_NAMES, PairColumns, pair_table
from dino_st.data.shards import MANIFEST, ShardDirectory
from dino_st.data.tables import Row, name_unused, pick_columns, table_rows, text_value
from dino_st.errors import DatasetError
from dino_st.support.progress import logger

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


_NAMES = {
    ANCHOR: ("sentence", "query", "sent0"),
    POSITIVE: ("sent1",),
    NEGATIVE: ("hard_neg", "hard_negative"),
}
"""Other names under which files have the columns."""


_SHOWN = 80
"""Characters of a text in a message."""


def triplet_table(dataset: Dataset | pa.Table, *, name: str = "the data set") -> pa.Table:
    """Checks that a data set holds triplets, and takes its three columns, whatever their names (see `_NAMES`).

    Rows that seem shifted, or contradict one another, are told. Raises DatasetError where it is no single
    `datasets.Dataset`, has no rows, lacks a column, or a value is no text.
    """
    table = _three_columns(dataset, name)
    warn_of_alignment(table, name)
    _warn_of_contradictions(table, name)
    return table


def _three_columns(dataset: Dataset | pa.Table, name: str) -> pa.Table:
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


def _warn_of_contradictions(table: pa.Table, name: str) -> None:
    """Says how many negatives are positives of the same anchor in other rows, in either order of the two sentences."""
    import numpy as np
    import pyarrow as pa

    chunks = [chunk.cast(pa.large_string()) for column in table.columns for chunk in column.chunks]
    encoded = pa.chunked_array(chunks).dictionary_encode().combine_chunks()
    anchors, *others = encoded.indices.to_numpy().astype(np.int64).reshape(3, -1)
    positives, negatives = (
        np.minimum(anchors, texts) * len(encoded.dictionary) + np.maximum(anchors, texts) for texts in others
    )
    pairs, rows = np.unique(positives, return_index=True)
    places = np.searchsorted(pairs, negatives) % len(pairs)
    found = np.flatnonzero((pairs[places] == negatives) & (positives != negatives))
    if len(found):
        row = int(found[0])
        logger.warning(
            "%s: the negative of %d of %d rows is the positive of the same anchor in another row, as %r (negative in "
            "row %d, positive in row %d); each counts as it stands; leave the wrong ones out",
            name,
            len(found),
            len(table),
            table[NEGATIVE][row].as_py()[:_SHOWN],
            row + 1,
            int(rows[places[row]]) + 1,
        )


def read_triplets(path: str | os.PathLike[str]) -> Dataset:
    """Reads triplets as `read_triplet_table` does, as a data set."""
    from datasets import Dataset

    return Dataset(read_triplet_table(path))


def read_triplet_table(path: str | os.PathLike[str]) -> pa.Table:
    """Reads `anchor`, `positive` and `negative` from a directory of shards, or whatever `table_rows` reads.

    Raises InputError where the file cannot be read or is of another kind, and DatasetError as `triplet_table` does.
    """
    file = Path(path)
    if (file / MANIFEST).is_file():
        return triplet_table(ShardDirectory.to_read(file).table(), name=str(file))
    return triplet_table(_of_rows(table_rows(file, name_unused(file, _places)), file), name=str(file))


def read_pairs_or_triplets(path: str | os.PathLike[str]) -> pa.Table:
    """Reads a table of pairs or of triplets, whichever its columns say; `triplet_table` tells more of these."""
    file, of_pairs = Path(path), PairColumns()

    def chosen(names: Sequence[str], where: str) -> Mapping[str, str]:
        is_pairs = {SENTENCE1, SENTENCE2} <= pick_columns(names, PAIR_NAMES, where).keys()
        return of_pairs(names, where) if is_pairs else _places(names, where)

    rows = table_rows(file, name_unused(file, chosen))
    first = list(islice(rows, 1))  # behind it the columns are known
    if of_pairs.found:
        return pair_table(chain(first, rows), of_pairs.found, str(file))
    return _of_rows(chain(first, rows), file)


def _of_rows(rows: Iterable[Row], file: Path) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, list[str]] = {column: [] for column in TRIPLET_COLUMNS}
    for where, row in rows:
        for column, value in row.items():
            columns[column].append(text_value(where, column, value))
    table = pa.table({column: pa.array(texts, pa.string()) for column, texts in columns.items()})
    return _three_columns(table, str(file))


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
