"""Pairs as numbers, and what became of those that were dropped: counted by reason, and kept if asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dino_st.files import replacing
from dino_st.pair_selection import Codes, Mask, texts_of

REASON, VALUE = "reason", "value"
"""Columns of rejected pairs: why it was dropped, and the number that was held against the option's threshold."""


@dataclass(frozen=True)
class PairRows:
    """Pairs as numbers, each of shape `(rows,)`.

    Attributes:
        first: Rank of x1 among all texts.
        second: Rank of x2; that of the text itself where there are single texts.
        label: Position of the label among all labels.
        origin: Row of the raw data, -1 for a random pair.
    """

    first: Codes
    second: Codes
    label: Codes
    origin: Codes

    def __len__(self) -> int:
        return len(self.first)

    def take(self, chosen: npt.NDArray[Any]) -> PairRows:
        """The rows at positions, or under a mask."""
        return PairRows(self.first[chosen], self.second[chosen], self.label[chosen], self.origin[chosen])


class Rejections:
    """Counts the rows that are dropped, and keeps them if asked for.

    Attributes:
        counts: Rows by step, in the order of the steps.
    """

    def __init__(self, *, keep: bool) -> None:
        """Starts without any.

        Args:
            keep: Keep the rows for `table`.
        """
        self.counts: dict[str, int] = {}
        self._keep = keep
        self._dropped: list[tuple[str, PairRows, npt.NDArray[np.float64] | None]] = []

    def drop(
        self, rows: PairRows, rejected: Mask, reason: str, values: npt.NDArray[np.float64] | None = None
    ) -> PairRows:
        """Drops rows for a reason.

        Args:
            rows: The rows.
            rejected: Which to drop, shape `(rows,)`.
            reason: Name of the reason; the count is called `dropped_` and the name.
            values: What was held against the threshold, shape `(rows,)`, if there is one.

        Returns:
            The other rows.
        """
        self.counts[f"dropped_{reason}"] = int(rejected.sum())
        if self._keep:
            lost = rows.take(rejected)
            self._dropped.append((reason, lost, None if values is None else values[rejected]))
        return rows.take(~rejected)

    def table(
        self, texts: pa.LargeStringArray, columns: tuple[list[str], str], labels: list[float] | list[str]
    ) -> pa.Table | None:
        """The rows that were dropped.

        Args:
            texts: The texts by rank.
            columns: Names of the texts' columns and of the label's.
            labels: The labels by position, not smoothed.

        Returns:
            The texts, the label, `reason` and `value`, by reason in the order of the steps and then by text; None
            unless rows are kept.
        """
        if not self._keep:
            return None
        kind = pa.string() if labels and isinstance(labels[0], str) else pa.float64()
        names = [*columns[0], columns[1], REASON, VALUE]
        empty = pa.schema(
            zip(names, [*([pa.string()] * len(columns[0])), kind, pa.string(), pa.float64()], strict=True)
        )
        tables = [empty.empty_table()]
        for reason, rows, values in self._dropped:
            order = np.lexsort((rows.origin * 0 if values is None else values, rows.label, rows.second, rows.first))
            rows = rows.take(order)
            arrays = [texts_of(rank, texts) for rank in (rows.first, rows.second)][: len(columns[0])]
            arrays.append(pa.array(labels, kind).take(pa.array(rows.label)))
            arrays.append(pa.array([reason], pa.string()).take(pa.array(np.zeros(len(rows), np.int64))))
            arrays.append(pa.nulls(len(rows), pa.float64()) if values is None else pa.array(values[order]))
            tables.append(pa.table(arrays, names=names))
        return pa.concat_tables(tables)


def write_rejected(table: pa.Table, path: Path) -> None:
    """Writes rejected pairs as JSON lines; the file appears whole or not at all.

    Args:
        table: What `Rejections.table` returned.
        path: The file; an existing one is replaced.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for batch in table.to_batches(max_chunksize=10_000):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
