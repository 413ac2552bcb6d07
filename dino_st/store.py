"""Crash-safe shards of generated rows, their manifest, and going on after an interruption.

A run writes `data/shard-00000.parquet`, …, one for each finished wave: under a temporary name, flushed to disk,
renamed, and only then entered in the manifest. Whatever happens in between, every wave in the manifest is complete,
and the same command continues behind it. `README.md` is a dataset card, so `datasets.load_dataset` reads the directory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.directory_lock import only_writer
from dino_st.files import make_directory, remove_leftovers, replacing, write_text
from dino_st.manifest import (
    add_to_manifest,
    check_same,
    has_unmoved_lines,
    hash_file,
    is_intact,
    new_manifest,
    read_manifest,
    warn_of_strays,
    write_manifest,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


@dataclass(frozen=True)
class Wave:
    """The rows of draws that were decoded together, and what happened on the way.

    Attributes:
        number: Place among all waves of the data set, from 0.
        rows: In the order of the input.
        counts: Draws, accepted texts, and rejections by reason.
    """

    number: int
    rows: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]


class ShardStore:
    """Shards of one generation run; use `open_store`."""

    def __init__(
        self,
        directory: Path,
        manifest: dict[str, Any],
        schema: pa.Schema,
    ) -> None:
        self.directory = directory
        self._manifest = manifest
        self._schema = schema

    @property
    def is_complete(self) -> bool:
        """Whether the run came to its end."""
        return bool(self._manifest["complete"])

    @property
    def waves(self) -> int:
        """Finished waves."""
        return len(self._manifest["shards"])

    @property
    def counts(self) -> Counter[str]:
        """Counts of all finished waves together."""
        total: Counter[str] = Counter()
        for shard in self._manifest["shards"]:
            total.update(shard["counts"])
        return total

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows written so far, in order."""
        for number in range(self.waves):
            yield from self.rows_of(number)

    def rows_of(self, number: int) -> list[dict[str, Any]]:
        """The rows of one finished wave, by its place among those of this directory."""
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(
            self.directory / self._manifest["shards"][number]["file"]
        ).to_pylist()
        return rows

    def counts_of(self, number: int) -> Counter[str]:
        """The counts of one finished wave, by its place among those of this directory."""
        return Counter(self._manifest["shards"][number]["counts"])

    def append(self, wave: Wave) -> None:
        """Writes a finished wave as the next shard.

        Raises:
            OutputError: If the disk is full or the directory is not writable any more.
        """
        shard = self._write(wave)
        add_to_manifest(self.directory, shard, self.waves)
        self._manifest["shards"].append(shard)

    def replace(self, wave: Wave) -> None:
        """Writes a finished wave again, in which more was found. Killed in between, the wave counts as damaged.

        Raises:
            OutputError: If the disk is full or the directory is not writable any more.
        """
        self._manifest["shards"][wave.number] = self._write(wave)
        self._save()

    def _write(self, wave: Wave) -> dict[str, Any]:
        import pyarrow as pa
        import pyarrow.parquet

        name = f"data/shard-{wave.number:05d}.parquet"
        make_directory(self.directory / "data")
        with replacing(self.directory / name) as temporary:
            pyarrow.parquet.write_table(pa.Table.from_pylist(list(wave.rows), self._schema), temporary)
            digest = hash_file(temporary)
        return {"file": name, "rows": len(wave.rows), "sha256": digest, "counts": dict(wave.counts)}

    def finish(self, card: str) -> None:
        """Marks the run as complete and writes the dataset card."""
        self._manifest["complete"] = True
        self._manifest["counts"] = dict(self.counts)
        self.write_card(card)
        self._save()
        warn_of_strays(self.directory, self._manifest)

    def write_card(self, card: str) -> None:
        """Writes the dataset card, which names the data files to `datasets.load_dataset`."""
        write_text(self.directory / "README.md", card)

    def to_dataset(self) -> Dataset:
        """Everything written so far, in memory."""
        import pyarrow as pa
        import pyarrow.parquet
        from datasets import Dataset

        files = [self.directory / shard["file"] for shard in self._manifest["shards"]]
        tables = [pyarrow.parquet.read_table(file).cast(self._schema) for file in files]
        return Dataset(pa.concat_tables(tables) if tables else pa.table({}))

    def drop_damaged(self) -> int:
        """Forgets the first shard that is missing or changed, and all behind it; they are then written again.

        Returns:
            How many were dropped.
        """
        shards = self._manifest["shards"]
        for i, shard in enumerate(shards):
            if not is_intact(self.directory, shard):
                dropped = len(shards) - i
                del shards[i:]
                self._manifest["complete"] = False
                self._save()
                return dropped
        return 0

    def _save(self) -> None:
        write_manifest(self.directory, self._manifest)


@contextmanager
def open_store(
    directory: Path, *, configuration: Mapping[str, Any], provenance: Mapping[str, Any], schema: pa.Schema
) -> Iterator[ShardStore]:
    """Opens a directory for one run, new or continued, and keeps other processes out meanwhile.

    Args:
        directory: Where the shards go; created if need be.
        configuration: Everything that decides what is written. A directory begun under another one is refused.
        provenance: What is worth knowing but decides nothing: model name, versions.
        schema: Columns of the rows.

    Yields:
        The store.

    Raises:
        OutputError: If the directory holds something else, was begun differently, is in use, or cannot be written.
    """
    read_manifest(directory)  # so that nothing is written into a directory of something else
    with only_writer(directory):
        manifest = read_manifest(directory)
        wanted = json.loads(json.dumps(configuration))
        if manifest is None:
            manifest = new_manifest(wanted, provenance)
        else:
            check_same(directory, manifest["configuration"], wanted)
        remove_leftovers(directory, directory / "data")
        store = ShardStore(directory, manifest, schema)
        if not store.waves or has_unmoved_lines(directory):
            write_manifest(directory, manifest)  # before anything else, so that the directory is known as ours
        store.drop_damaged()
        if store.is_complete:
            warn_of_strays(directory, manifest)
        yield store
