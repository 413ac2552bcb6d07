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

from dino_st.errors import InputError, OutputError
from dino_st.support.files import (
    LOCK,
    append_line,
    make_directory,
    only_writer,
    remove_leftovers,
    replacing,
    write_text,
)
from dino_st.support.hashes import hash_file
from dino_st.support.progress import logger

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


MANIFEST = "manifest.json"
_FORMAT = "dino-st raw 1"
_JOURNAL = "manifest.jsonl"
_START_ANEW = "to start anew, choose another --output or remove the directory"
_STILL_READABLE = "the rows are untouched, and datasets.load_dataset still reads them"


def new_manifest(configuration: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a run that has finished nothing; see `open_store` for the arguments."""
    manifest = {"format": _FORMAT, "complete": False, "configuration": dict(configuration)}
    return manifest | {"provenance": dict(provenance), "shards": []}


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Reads the manifest of a directory of shards.

    Returns:
        Its content, or None where the directory is new or empty.

    Raises:
        OutputError: If the directory holds something else, or the manifest is damaged.
    """
    path = directory / MANIFEST
    journal = _read_journal(directory)  # before the manifest: what leaves the one stands in the other by then
    if not path.exists():
        if directory.is_dir():
            names = sorted(entry.name for entry in directory.iterdir())
            others = [name for name in names if name != LOCK and not (name.startswith(".") and name.endswith(".tmp"))]
            if any((directory / "data").glob("shard-*.parquet")):
                raise OutputError(
                    f"{directory}: holds shards but no {MANIFEST}, without which it is not known what they belong to. "
                    f"Put the file back to continue ({_STILL_READABLE}); {_START_ANEW}"
                )
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
            f"{path}: the manifest cannot be read ({error}). Put back an undamaged copy to continue "
            f"({_STILL_READABLE}); {_START_ANEW}"
        ) from None
    kinds = {"complete": bool, "configuration": dict, "provenance": dict, "shards": list}
    if (
        not isinstance(content, dict)
        or content.get("format") != _FORMAT
        or not all(isinstance(content.get(name), kind) for name, kind in kinds.items())
        or not all(map(_is_shard, content["shards"]))
    ):
        raise OutputError(f"{path}: not a manifest of generated shards ({_FORMAT!r}); choose another directory")
    for line in journal:
        if line["place"] > len(content["shards"]):
            break  # lines before it are lost, and with them what these shards follow
        if line["place"] == len(content["shards"]):
            content["shards"].append(line["shard"])
    return content


def _read_journal(directory: Path) -> list[dict[str, Any]]:
    """The shards that were finished since the manifest was written, up to the first line that is damaged."""
    lines: list[dict[str, Any]] = []
    try:
        content = (directory / _JOURNAL).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return lines
    for text in content.split(b"\n")[:-1]:
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict) or not isinstance(line.get("place"), int) or not _is_shard(line.get("shard")):
            break
        lines.append(line)
    return lines


def _is_shard(entry: Any) -> bool:
    kinds = {"file": str, "rows": int, "sha256": str, "counts": dict}
    return isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in kinds.items())


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the whole manifest of a directory of shards."""
    write_text(directory / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    (directory / _JOURNAL).unlink(missing_ok=True)


def add_to_manifest(directory: Path, shard: Mapping[str, Any], place: int) -> None:
    """Enters one more shard on disk, and how many stand before it."""
    append_line(directory / _JOURNAL, json.dumps({"place": place, "shard": shard}, ensure_ascii=False))


def begun_batch_size(directory: Path, asked: int | str) -> int | str:
    """The batch size that a directory was begun with where none is asked for (`auto`), else the one asked for."""
    manifest = read_manifest(directory)
    if manifest is None or asked != "auto":
        return asked
    size: int | str = manifest["configuration"].get("batch_size", "auto")
    return size


def is_intact(directory: Path, shard: Mapping[str, Any]) -> bool:
    """Whether a shard is there, unchanged, with as many rows as the manifest says.

    Args:
        directory: The directory of shards.
        shard: Its entry in the manifest.
    """
    import pyarrow.parquet

    path = directory / shard["file"]
    if not path.is_file() or hash_file(path) != shard["sha256"]:
        return False
    return bool(pyarrow.parquet.read_metadata(path).num_rows == shard["rows"])


def warn_if_incomplete(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Says that a run has not come to its end, where its rows are about to be read."""
    if not manifest["complete"]:
        logger.warning("%s is not complete; what is there is taken (run `dino-st generate` again to go on)", directory)


def warn_of_strays(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Says which files beside the shards would be read with them."""
    known = {shard["file"] for shard in manifest["shards"]}
    found = sorted(f"data/{path.name}" for path in (directory / "data").glob("*.parquet"))
    strays = [name for name in found if name not in known]
    if strays:
        logger.warning(
            "%s: %s is not of this run, but datasets.load_dataset would read it, too; move it elsewhere",
            directory,
            ", ".join(strays[:3]) + (", …" if len(strays) > 3 else ""),
        )


def has_unmoved_lines(directory: Path) -> bool:
    """Whether the manifest should be written as a whole before anything is added to it."""
    return (directory / _JOURNAL).exists()


def check_same(directory: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuses to go on under another configuration than a directory was begun with.

    Raises:
        OutputError: Says what changed.
    """
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


def read_shards(raw: Path, manifest: Mapping[str, Any]) -> Dataset:
    """Reads all shards.

    Args:
        raw: The directory.
        manifest: Its manifest, from `read_manifest`.

    Returns:
        The rows, in order.

    Raises:
        InputError: A shard is missing, changed or unreadable, or there is none yet.
    """
    import pyarrow as pa
    import pyarrow.parquet
    from datasets import Dataset

    files = [raw / shard["file"] for shard in manifest["shards"]]
    for file, shard in zip(files, manifest["shards"], strict=True):
        if not is_intact(raw, shard):
            raise InputError(
                f"{file}: missing, or not as {MANIFEST} describes it; run `dino-st generate` again to mend it"
            )
    if not files:
        raise InputError(f"{raw}: no wave of pairs was finished yet; run `dino-st generate` again")
    try:
        return Dataset(pa.concat_tables([pyarrow.parquet.read_table(file) for file in files]))
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{raw}: a shard cannot be read ({reason}); run `dino-st generate` again to mend it") from None


def read_written(directory: Path) -> Dataset:
    """All rows of a directory that a run has just written; none where every draw of it was another machine's."""
    from datasets import Dataset

    manifest = read_manifest(directory)
    return read_shards(directory, manifest) if manifest and manifest["shards"] else Dataset.from_dict({})


def iterate_rows(directory: Path) -> Iterator[dict[str, Any]]:
    """The rows of a directory of shards, of which one shard at a time is in memory."""
    import pyarrow.parquet

    for shard in (read_manifest(directory) or {"shards": []})["shards"]:
        yield from pyarrow.parquet.read_table(directory / shard["file"]).to_pylist()


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
