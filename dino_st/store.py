"""Crash-safe shards of generated rows, their manifest, and going on after an interruption.

A run writes `data/shard-00000.parquet`, …, one for each finished wave: under a temporary name, flushed to disk,
renamed, and only then entered in `manifest.json`. Whatever happens in between, every wave in the manifest is complete,
and the same command continues behind it. `README.md` is a dataset card, so `datasets.load_dataset` reads the directory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.errors import OutputError
from dino_st.files import make_directory, replacing, write_text

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

MANIFEST = "manifest.json"
_FORMAT = "dino-st raw 1"
_LOCK = ".lock"
_START_ANEW = "to start anew, choose another --output or remove the directory"


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


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Reads the manifest of a directory of shards.

    Returns:
        Its content, or None where the directory is new or empty.

    Raises:
        OutputError: If the directory holds something else, or the manifest is damaged.
    """
    path = directory / MANIFEST
    if not path.exists():
        if directory.is_dir():
            names = sorted(entry.name for entry in directory.iterdir())
            others = [name for name in names if name != _LOCK and not (name.startswith(".") and name.endswith(".tmp"))]
            if others:
                raise OutputError(
                    f"{directory}: the directory holds something else ({', '.join(others[:3])}"
                    f"{', …' if len(others) > 3 else ''}); choose an empty one or a new name"
                )
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path}: the manifest cannot be read ({error}). The shards beside it are untouched; {_START_ANEW}"
        ) from None
    needed = {"complete", "configuration", "provenance", "shards"}
    if not isinstance(content, dict) or content.get("format") != _FORMAT or not needed <= set(content):
        raise OutputError(f"{path}: not a manifest of generated shards ({_FORMAT!r}); choose another directory")
    return content


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
        self._manifest["shards"].append(self._write(wave))
        self._save()

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

    def write_card(self, card: str) -> None:
        """Writes the dataset card, which names the data files to `datasets.load_dataset`."""
        write_text(self.directory / "README.md", card)

    def to_dataset(self) -> Dataset:
        """Everything written so far, memory-mapped where the library does so."""
        from datasets import Dataset, concatenate_datasets

        files = [str(self.directory / shard["file"]) for shard in self._manifest["shards"]]
        return (
            concatenate_datasets([_as_dataset(file, self._schema) for file in files])
            if files
            else Dataset.from_dict({})
        )

    def drop_damaged(self) -> int:
        """Forgets the first shard that is missing or changed, and all behind it; they are then written again.

        Returns:
            How many were dropped.
        """
        shards = self._manifest["shards"]
        for i, shard in enumerate(shards):
            path = self.directory / shard["file"]
            if not path.is_file() or hash_file(path) != shard["sha256"]:
                dropped = len(shards) - i
                del shards[i:]
                self._manifest["complete"] = False
                return dropped
        return 0

    def _save(self) -> None:
        write_manifest(self.directory, self._manifest)


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of a directory of shards."""
    write_text(directory / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


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
    from filelock import FileLock, Timeout

    manifest = read_manifest(directory)
    make_directory(directory)
    lock = FileLock(directory / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"{directory}: another process is writing there; wait for it, or choose another --output"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot be locked ({error.strerror or error}); choose a writable place"
        ) from None
    try:
        manifest = read_manifest(directory)
        wanted = json.loads(json.dumps(configuration))
        if manifest is None:
            manifest = {"format": _FORMAT, "complete": False, "configuration": wanted}
            manifest |= {"provenance": dict(provenance), "shards": []}
        else:
            _check_same(directory, manifest["configuration"], wanted)
        for leftover in directory.rglob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        store = ShardStore(directory, manifest, schema)
        if not store.waves:
            write_manifest(directory, manifest)  # before anything else, so that the directory is known as ours
        store.drop_damaged()
        yield store
    finally:
        lock.release()


def hash_texts(texts: Iterable[str]) -> str:
    """SHA-256 over texts and where each ends."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _check_same(directory: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changes = [
        f"{name}: was {_brief(before)}, now {_brief(now)}"
        for name, (before, now) in _flatten(old, new).items()
        if before != now
    ]
    if changes:
        raise OutputError(
            f"{directory}: was begun with another configuration, so that this run cannot continue it:\n  "
            + "\n  ".join(changes)
            + f"\nRun it as before to continue; {_START_ANEW}"
        )


def _flatten(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    flat: dict[str, tuple[Any, Any]] = {}
    for name in dict.fromkeys((*old, *new)):
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            flat |= _flatten(before, now, f"{prefix}{name}.")
        else:
            flat[prefix + name] = (before, now)
    return flat


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _as_dataset(file: str, schema: pa.Schema) -> Dataset:
    import pyarrow.parquet
    from datasets import Dataset

    return Dataset(pyarrow.parquet.read_table(file).cast(schema))
