"""Directories of shards as a run leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from dino_st.data.columns import TRIPLET_COLUMNS
from dino_st.data.shards import ShardDirectory, Wave


def write_triplet_shards(directory: Path, triplets: Sequence[tuple[str, str, str]]) -> None:
    """Writes triplets as one finished wave."""
    rows = [dict(zip(TRIPLET_COLUMNS, triplet, strict=True)) for triplet in triplets]
    schema = pa.schema([(name, pa.string()) for name in TRIPLET_COLUMNS])
    shards = ShardDirectory(directory)
    with shards.open(configuration={"kind": "triplets"}, provenance={"model": None}, schema=schema):
        shards.put(Wave(0, rows, {"rows": len(rows)}))
        shards.finish("# triplets")


def rows_of(directory: Path) -> list[dict[str, Any]]:
    """The rows of all shards, in the order of their files."""
    files = sorted((directory / "data").glob("*.parquet"))
    return [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
