"""Directories of generated rows: crash-safe shards, their manifest, the loop that fills them, and reading them.

A run writes `data/train-00000.parquet`, …, one for each finished wave: under a temporary name, flushed to disk,
renamed, and only then entered in the manifest; on an object store (`s3://…`) each is put as a whole, and the entry is
an object of its own. Whatever happens in between, every wave in the manifest is complete,
and the same command goes on with those that are missing, wherever they stand. `datasets.load_dataset` reads the
directory by the names of its files: were they named in the card, it would take what it read under that name before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from heapq import nsmallest
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dino_st.data.cards import read_origin, with_header, without_rows
from dino_st.data.columns import ANCHOR, NEGATIVE, POSITIVE, SENTENCE1, SENTENCE2, TEXT
from dino_st.data.habits import TextSample
from dino_st.data.quality import (
    LabelStatistics,
    Summary,
    label_name,
    measure,
    quality_section,
    summarise,
    warn_of_doubts,
)
from dino_st.errors import InputError, OutputError, first_line
from dino_st.support.files import (
    CARD,
    LOCK,
    REJECTED,
    append_line,
    appended,
    make_directory,
    on_no_disk,
    only_writer,
    remove_leftovers,
    replacing,
    write_text,
)
from dino_st.support.hashes import hash_file, hash_stream, keyed_bits
from dino_st.support.objects import ObjectPath, Place, place
from dino_st.support.options import are_others, changes
from dino_st.support.progress import logger
from dino_st.support.text import flat_facts

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


MANIFEST = "manifest.json"
"""The file that makes a directory one of shards."""

EXAMPLES = 4
"""Rows of each label that the summary of a run shows."""

ADDED_LATER = frozenset({"template_sha256", "gpu"})
"""Parts of the configuration that older directories lack, and that are not compared with those."""

_AT_ONCE = 16
"""Files that are read or removed side by side."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_Example = tuple[bytes, tuple[int, int], list[str]]
"""Random bits of a row, its wave and place there, and its texts."""

_FORMAT = "dino-st raw 1"
_JOURNAL = "manifest.jsonl"
_SHARD = re.compile(r"data/(?:train|shard)-[a-z]?(\d+)\.parquet")
"""Files of waves; older versions called them shards, and `datasets` would read other files with those."""

_START_ANEW = "to start anew, choose another --output, or remove the directory"
_STILL_READABLE = "the rows are untouched, and datasets.load_dataset still reads them"
_MEND = "run the command that wrote it again to mend it"


@dataclass(frozen=True)
class Wave:
    """The rows of draws that were decoded together, in the order of the input, and what happened on the way."""

    number: int  # place among all waves of the data set, from 0
    rows: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]  # draws, accepted texts, and rejections by reason


@dataclass(frozen=True)
class Glance:
    """What is kept of a wave's rows in memory."""

    statistics: dict[str, LabelStatistics]  # by label
    samples: dict[str, TextSample]  # by label, or by role of a triplet
    examples: dict[str, list[_Example]]  # by label, those with the smallest random bits

    @classmethod
    def at(cls, number: int, rows: Sequence[Mapping[str, Any]], configuration: Mapping[str, Any]) -> Glance:
        """Looks at the rows of a wave; which ones become examples depends on the seed and their places alone."""
        task = configuration.get("task")
        statistics = measure(rows, list(task.get("labels", ())) if isinstance(task, Mapping) else ())
        found: dict[str, list[_Example]] = {}
        for i, row in enumerate(rows):
            bits = keyed_bits(configuration.get("seed", 0), number, i)
            for label, texts in texts_by_label(row).items():
                found.setdefault(label, []).append((bits, (number, i), texts))
        return cls(statistics, samples_of(rows), {label: nsmallest(EXAMPLES, kept) for label, kept in found.items()})


@dataclass(frozen=True)
class StoredWave:
    """A wave whose shard is on disk, not yet entered in a manifest."""

    number: int
    shard: dict[str, Any]  # what the manifest is to say: `file`, `rows`, `sha256`, `counts`
    seen: Glance


def store_wave(
    path: Place, wave: Wave, schema: pa.Schema | None, configuration: Mapping[str, Any], name: str | None = None
) -> StoredWave:
    """Writes the shard of a wave into a directory, whole or not at all; `name` is its file, if not the usual one."""
    import pyarrow as pa
    import pyarrow.parquet

    name = name or shard_name(wave.number)
    make_directory(path / "data")
    with replacing(path / name) as temporary:
        table = pa.Table.from_pylist(list(wave.rows), schema)
        with pyarrow.parquet.ParquetWriter(temporary, table.schema) as writer:
            if wave.rows:  # `datasets` cannot read a group of no rows
                writer.write_table(table)
        digest = hash_file(temporary)
    shard = {"file": name, "rows": len(wave.rows), "sha256": digest, "counts": dict(wave.counts)}
    return StoredWave(wave.number, shard, Glance.at(wave.number, wave.rows, configuration))


class RowsInMemory:
    """The waves of a run that has no directory."""

    on_disk: Path | None = None
    waves: Sequence[int] = ()

    def __init__(self, schema: pa.Schema) -> None:
        self.counts: Counter[str] = Counter()
        self._schema = schema
        self._rows: list[Mapping[str, Any]] = []

    def __contains__(self, number: int) -> bool:
        """Whether a wave was finished before; never here."""
        return False

    def rows_of(self, number: int) -> list[dict[str, Any]]:
        """Rows of a wave that was finished before; there is none."""
        raise KeyError(number)

    def counts_of(self, number: int) -> Counter[str]:
        """Counts of such a wave."""
        raise KeyError(number)

    def put(self, wave: Wave) -> None:
        """Takes a finished wave in."""
        self._rows += wave.rows
        self.counts.update(wave.counts)

    def quality(self) -> Summary:
        """What can be seen of the labels; see `dino_st.data.quality`."""
        return summarise([measure(self._rows)], samples_of(self._rows))

    def to_dataset(self) -> Dataset:
        """All rows."""
        import pyarrow as pa
        from datasets import Dataset

        return Dataset(pa.Table.from_pylist(self._rows, self._schema))


class _Entries(MutableMapping[int, dict[str, Any]]):
    """What a manifest says of each wave, held as JSON, which takes a third of the memory of dictionaries."""

    def __init__(self, entries: Iterable[tuple[int, dict[str, Any]]] = ()) -> None:
        self._lines: dict[int, bytes] = {}
        self.update(entries)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A copy; what is changed must be entered again."""
        entry: dict[str, Any] = json.loads(self._lines[number])
        return entry

    def __setitem__(self, number: int, entry: Mapping[str, Any]) -> None:
        self._lines[number] = json.dumps(entry, ensure_ascii=False).encode(errors="surrogatepass")

    def __delitem__(self, number: int) -> None:
        del self._lines[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, number: object) -> bool:
        return number in self._lines


class ShardDirectory(os.PathLike[str]):
    """A directory of shards: what its manifest says, the rows, and writing more of them.

    The manifest is read when the object is made, and again only if another process changes it before this one locks the
    directory. Making one neither creates nor writes anything; it raises OutputError where the directory holds something
    else, or the manifest is damaged. With `overwrite`, what another run wrote makes way for one that is opened; that of
    the same run goes on.
    """

    is_begun: bool  # whether there is a manifest
    is_complete: bool  # whether a run came to its end
    configuration: dict[str, Any]  # what decides the rows
    provenance: dict[str, Any]  # what is worth knowing but decides nothing: model name, versions
    shards: MutableMapping[int, dict[str, Any]]  # `file`, `rows`, `sha256` and `counts` of each finished wave

    def __init__(self, path: str | os.PathLike[str] | ObjectPath, *, overwrite: bool = False) -> None:
        self.path = place(path)
        self.overwrite = overwrite
        self.new_rows = 0
        self._check_lock: Callable[[], None] = lambda: None
        self._schema: pa.Schema | None = None
        self._read()

    @classmethod
    def of(cls, path: str | os.PathLike[str] | ObjectPath) -> ShardDirectory:
        """The directory itself, or the one at a path."""
        return path if isinstance(path, ShardDirectory) else cls(path)

    @classmethod
    def to_read(cls, path: Place, expected: str = "a directory of `dino-st generate`", *, warn: bool = True) -> Self:
        """A directory that must be one of shards, or else an InputError says what else would do (`expected`)."""
        if not (path / MANIFEST).is_file():
            raise InputError(f"{path}: holds no {MANIFEST}; expected {expected}")
        directory = cls(path)
        if warn and not directory.is_complete:
            logger.warning("%s is not complete; what is there is taken (the command that wrote it goes on)", path)
        elif warn:
            directory._warn_of_strays()
        return directory

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def on_disk(self) -> Path:
        """Where it is, for what needs a disk, such as a journal of replies; else an OutputError."""
        if isinstance(self.path, Path):
            return self.path
        raise OutputError(on_no_disk(self.path.url))

    def __contains__(self, number: int) -> bool:
        """Whether a wave is finished."""
        return number in self.shards

    @property
    def waves(self) -> list[int]:
        """Numbers of the finished waves, in order."""
        return sorted(self.shards)

    @property
    def counts(self) -> Counter[str]:
        """Counts of all finished waves together."""
        total: Counter[str] = Counter()
        for number in self.waves:
            total.update(self.shards[number]["counts"])
        return total

    def counts_of(self, number: int) -> Counter[str]:
        """Counts of one finished wave."""
        return Counter(self.shards[number]["counts"])

    def file_of(self, number: int) -> Place:
        """The shard of one finished wave."""
        return self.path / str(self.shards[number]["file"])

    def begun_batch_size(self, asked: int | str) -> int | str:
        """The batch size that the run was begun with where none is asked for (`auto`), else the one asked for."""
        return self.configuration.get("batch_size", asked) if asked == "auto" else asked

    # Reading

    def is_intact(self, number: int) -> bool:
        """Whether a shard is there, unchanged, with as many rows as the manifest says."""
        import pyarrow.parquet

        shard = self.shards[number]
        try:
            with self.file_of(number).open("rb") as file:
                is_same = hash_stream(file) == shard["sha256"]
                return is_same and bool(pyarrow.parquet.read_metadata(file).num_rows == shard["rows"])
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return False

    def damaged(self) -> list[int]:
        """The finished waves whose shards are not intact."""
        return [
            number
            for number, is_whole in zip(self.waves, _each(self.is_intact, self.waves), strict=True)
            if not is_whole
        ]

    def rows_of(self, number: int) -> list[dict[str, Any]]:
        """The rows of one finished wave."""
        rows: list[dict[str, Any]] = self._table_of(number).to_pylist()
        return rows

    def check_intact(self) -> None:
        """Raises an InputError where a shard differs from its hash in the manifest."""
        for number in self.damaged():
            raise InputError(f"{self.file_of(number)}: missing or damaged, not as {MANIFEST} describes it; {_MEND}")

    def intact_files(self) -> list[Path]:
        """The shards on disk, in the order of the waves; raises as `check_intact` does."""
        self.check_intact()
        return [self.on_disk / str(self.shards[number]["file"]) for number in self.waves]

    def table(self) -> pa.Table:
        """All rows, in the order of the waves; an InputError where a shard is damaged, or the columns are not known."""
        import pyarrow as pa

        self.check_intact()
        if self.waves:
            return pa.concat_tables(_each(self._table_of, self.waves), promote_options="default")
        if self._schema is None:
            raise InputError(f"{self.path}: no wave of pairs was finished yet; run `dino-st generate` again")
        return self._schema.empty_table()

    def to_dataset(self) -> Dataset:
        """All rows, in the order of the waves; raises as `table` does."""
        from datasets import Dataset

        return Dataset(self.table())

    def _table_of(self, number: int) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet

        try:
            # by this thread alone: one of Arrow's that lets go of Python's bytes while the program ends aborts it
            with self.file_of(number).open("rb") as file:
                return pyarrow.parquet.ParquetFile(file, pre_buffer=False).read(use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.file_of(number)}: cannot be read ({first_line(error)}); {_MEND}") from None

    def examples(self) -> dict[str, list[list[str]]]:
        """The texts of a few random rows for each label (triplets: for each role), by the order of the rows.

        Those of waves that this object wrote were kept on the way; the shards of earlier ones are read.
        """
        self._look_at_all()
        of_label: dict[str, list[_Example]] = {label: [] for label in self._labels()}
        for number in sorted(self._examples):
            for label, kept in self._examples[number].items():
                of_label.setdefault(label, []).extend(kept)
        chosen = {label: sorted(nsmallest(EXAMPLES, kept), key=itemgetter(1)) for label, kept in of_label.items()}
        return {label: [texts for _, _, texts in kept] for label, kept in chosen.items()}

    def quality(self) -> Summary:
        """What can be seen of the labels; see `dino_st.data.quality`. What is read, and when, is as for `examples`."""
        self._look_at_all()
        return summarise([{label: self._statistics[label] for label in self._labels()}], self._samples)

    def _labels(self) -> list[str]:
        """The labels that were seen, by the first wave that has them and their order there, whoever looked first."""
        return sorted(self._first_places, key=self._first_places.__getitem__)

    def _look_at_all(self) -> None:
        for number in self.waves:
            if number not in self._seen:
                self._take_in(number, Glance.at(number, self.rows_of(number), self.configuration))

    def _take_in(self, number: int, glance: Glance) -> None:
        """Keeps what was seen of a wave, beside what was seen of others."""
        self._seen.add(number)
        self._examples[number] = glance.examples
        for label, sample in glance.samples.items():
            self._samples.setdefault(label, TextSample()).update(sample)
        for rank, (label, statistics) in enumerate(glance.statistics.items()):
            self._statistics.setdefault(label, LabelStatistics()).add(statistics)
            self._first_places[label] = min(self._first_places.get(label, (number, rank)), (number, rank))

    def _forget_seen(self, number: int) -> None:
        """Takes away what was seen of a wave, whose shard will be written again with more in it, its rows included."""
        if number in self._seen and not self.is_intact(number):
            self._forget_all_seen()  # and look again at what there is
        elif number in self._seen:
            self._seen.remove(number)
            for label, statistics in Glance.at(number, self.rows_of(number), self.configuration).statistics.items():
                self._statistics[label].add(statistics, -1)
                if self._first_places[label][0] == number:
                    del self._first_places[label]

    def _forget_all_seen(self) -> None:
        self._seen: set[int] = set()
        self._statistics: dict[str, LabelStatistics] = {}
        self._samples: dict[str, TextSample] = {}
        self._first_places: dict[str, tuple[int, int]] = {}
        self._examples: dict[int, dict[str, list[_Example]]] = {}

    def _drop_examples(self) -> None:
        """Forgets the examples that others have taken the place of, where no wave will be written again."""
        best: dict[str, list[_Example]] = {}
        for kept in self._examples.values():
            for label, found in kept.items():
                best[label] = nsmallest(EXAMPLES, [*best.get(label, ()), *found])
        self._examples.clear()
        for label, found in best.items():
            for example in found:
                self._examples.setdefault(example[1][0], {}).setdefault(label, []).append(example)

    # Writing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out, and takes in what they did before; OutputError where the directory is in use."""
        with only_writer(self.path) as self._check_lock:
            if self._signature() != self._read_from:
                self._read()
            yield

    @contextmanager
    def open(
        self, *, configuration: Mapping[str, Any], provenance: Mapping[str, Any], schema: pa.Schema
    ) -> Iterator[Self]:
        """Locks the directory for one run, new or continued, and forgets the shards that are damaged.

        The configuration is everything that decides what is written: a directory begun under another one is refused
        with an OutputError, unless it holds no row, or `overwrite` is set. The provenance is kept in a new directory;
        lists in it may grow until the run ends.
        """
        with self.locked():
            wanted = json.loads(json.dumps(configuration))
            if self.makes_way_for(wanted):
                self.clear()
            if self.is_begun:
                self._refuse(self._changes(wanted, provenance))
                for name in (name for name, value in provenance.items() if isinstance(value, list)):
                    known = self.provenance.get(name) or []
                    provenance[name][:0] = [entry for entry in known if entry not in provenance[name]]
                    self.provenance[name] = provenance[name]
            else:
                self.configuration, self.provenance = wanted, dict(provenance)
            self._schema = schema
            remove_leftovers(self.path, self.path / "data")
            has_forgotten = self._forget_damaged()
            if has_forgotten or not self.shards or appended(self.path / _JOURNAL):
                self._save()  # before anything else, so that the directory is known as ours
            if self.is_complete:
                self._warn_of_strays()
            yield self

    def put(self, wave: Wave) -> None:
        """Writes a wave, or writes it again with more in it; killed in between, the latter counts as damaged."""
        before = self.shards.get(wave.number)
        name = before["file"] if before else None
        self._forget_seen(wave.number)
        stored = store_wave(self.path, wave, self._schema, self.configuration, name)
        if before is None:
            self._enter([stored])
            return
        self.shards[wave.number] = stored.shard
        self._take_in(wave.number, stored.seen)
        self._save()
        self.new_rows += len(wave.rows) - before["rows"]

    def enter(self, waves: Sequence[StoredWave]) -> None:
        """Enters new waves, whose shards are here already, flushing the manifest to disk once for all of them.

        They are not to be written again by this object.
        """
        self._enter(waves)
        self._drop_examples()

    def _enter(self, waves: Sequence[StoredWave]) -> None:
        self._check_lock()
        lines = [json.dumps({"shard": wave.shard}, ensure_ascii=False) for wave in waves]
        append_line(self.path / _JOURNAL, "\n".join(lines))
        for wave in waves:
            self.shards[wave.number] = wave.shard
            self.new_rows += wave.shard["rows"]
            self._take_in(wave.number, wave.seen)

    def write_card(self, card: str) -> None:
        """Writes the dataset card; what the one before states of language and licence stays."""
        write_text(self.path / CARD, with_header(card, **read_origin(self.path)))

    def finish(self, card: str) -> None:
        """Marks the run as complete and writes the dataset card; what a killed worker was writing goes."""
        self.is_complete = True
        remove_leftovers(self.path, self.path / "data")
        quality = self.quality()
        self.write_card((card if self.has_rows() else without_rows(card)) + quality_section(quality))
        self._save()
        warn_of_doubts(quality, self.configuration)
        self._warn_of_strays()
        self.warn_of_no_row()

    def has_rows(self) -> bool:
        """Whether any shard has a row."""
        return any(shard["rows"] for shard in self.shards.values())

    def warn_of_no_row(self) -> bool:
        """Warns of a run of which no row came; says whether it did."""
        is_empty = not self.has_rows()
        if is_empty:
            logger.warning(
                "%s: no row came of this run; datasets.load_dataset opens no data set without rows", self.path
            )
        return is_empty

    def copy_from(
        self,
        sources: Sequence[tuple[int, ShardDirectory]],
        *,
        configuration: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> None:
        """Copies waves of other directories into this one, which must be locked and hold none; `finish` enters them."""
        self.configuration, self.provenance = dict(configuration), dict(provenance)
        make_directory(self.path / "data")
        remove_leftovers(self.path, self.path / "data")
        self._save()  # so that another try knows the directory as begun
        copied = {}
        for number, source in sources:
            copied[number] = source.shards[number] | {"file": shard_name(number)}
            with (
                source.file_of(number).open("rb") as content,
                replacing(self.path / copied[number]["file"]) as temporary,
                temporary.open("wb") as copy,
            ):
                shutil.copyfileobj(content, copy)
        self.shards = _Entries(copied.items())

    def _forget_damaged(self) -> bool:
        """Forgets shards that are missing or changed, so that they are written again; says whether any is another now.

        Those of older versions get the name under which they are read beside new ones.
        """
        damaged = set(self.damaged())
        old = [number for number in self.waves if self.shards[number]["file"] != shard_name(number)]
        for number in old:
            if number in damaged or not self.shards[number]["rows"]:
                damaged.add(number)
                self.file_of(number).unlink(missing_ok=True)
            else:
                self.file_of(number).replace(self.path / shard_name(number))  # type: ignore[arg-type]  # of one kind
                self.shards[number] |= {"file": shard_name(number)}
        for number in damaged:
            del self.shards[number]
        if not damaged.isdisjoint(self._seen):
            self._forget_all_seen()
        self.is_complete &= not damaged
        return bool(damaged or old)

    def _save(self) -> None:
        """Writes the whole manifest; what was added in lines stands in it from then on."""
        self._check_lock()
        self.is_begun = True
        manifest = {
            "format": _FORMAT,
            "complete": self.is_complete,
            "configuration": self.configuration,
            "provenance": self.provenance,
            "shards": [None] * bool(self.shards),  # in whose place all are written one by one
        }
        if self.is_complete:
            manifest["counts"] = dict(self.counts)
            if quality := self.quality():
                manifest["quality"] = quality
        head, null, tail = json.dumps(manifest, indent=1, ensure_ascii=False).partition("\n  null\n")
        with (
            replacing(self.path / MANIFEST) as temporary,
            temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            file.write(head)
            for place, number in enumerate(self.waves):
                entry = "\n" + json.dumps(self.shards[number], indent=1, ensure_ascii=False)
                file.write("," * bool(place) + entry.replace("\n", "\n  "))
            file.write("\n" * bool(null) + tail + "\n")
        self._remove_lines()

    def _remove_lines(self) -> None:
        """Removes the lines that stand in the manifest, or are not wanted."""
        journal = self.path / _JOURNAL
        _each(lambda part: part.unlink(missing_ok=True), appended(journal))
        if isinstance(journal, Path) and journal.is_dir():
            journal.rmdir()

    # The manifest

    def _signature(self) -> list[tuple[int, int, int] | None]:
        """Changes whenever the manifest or the lines behind it do; on a store, where that is not told, always."""
        if isinstance(self.path, ObjectPath):
            return [(0, 0, time.monotonic_ns())]
        signature: list[tuple[int, int, int] | None] = []
        for name in (MANIFEST, _JOURNAL):
            try:
                status = (self.path / name).stat()
                signature.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                signature.append(None)
        return signature

    def _read(self) -> None:
        self._read_from = self._signature()
        self._forget_all_seen()
        added = self._added_lines()  # before the manifest: what leaves the one stands in the other by then
        content = self._manifest()
        self.is_begun = content is not None
        content = content or {"complete": False, "configuration": {}, "provenance": {}, "shards": []}
        if not self.is_begun:
            added = []
        self.is_complete = content["complete"]
        self.configuration = content["configuration"]
        self.provenance = content["provenance"]
        shards = {_wave_of(shard): shard for shard in (*added, *content["shards"])}
        edited = [shard["file"] for _, shard in sorted(shards.items()) if _has_edited_counts(shard)]
        self.shards = _Entries(sorted(shards.items()))
        whole = content.get("counts", self.counts)
        if not added and not (isinstance(whole, dict) and Counter(whole) == self.counts):
            edited.append("the whole")
            self.is_complete = False  # entries may be gone, whose waves would never be missed
        if edited:
            logger.warning(
                "%s: the counts of %s do not fit the shards, as if edited; those of the shards are taken",
                self.path / MANIFEST,
                ", ".join(edited[:3]),
            )

    def _manifest(self) -> dict[str, Any] | None:
        """Content of the manifest; None where the directory is new or empty."""
        path = self.path / MANIFEST
        if not path.exists():
            self._check_empty()
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
        return content

    def _check_empty(self) -> None:
        """Raises if a directory without a manifest holds anything."""
        if not self.path.is_dir():
            return
        if any(_SHARD.fullmatch(f"data/{file.name}") for file in (self.path / "data").glob("*.parquet")):
            raise OutputError(
                f"{self.path}: holds shards but no {MANIFEST}, without which it is not known what they belong to. "
                f"Put the file back to continue ({_STILL_READABLE}); {_START_ANEW}"
            )
        names = sorted(entry.name for entry in self.path.iterdir())
        others = [name for name in names if name != LOCK and not (name.startswith(".") and name.endswith(".tmp"))]
        if others:
            raise OutputError(
                f"{self.path}: the directory holds something else ({', '.join(others[:3])}"
                f"{', …' if len(others) > 3 else ''}); choose an empty one or a new name"
            )

    def _added_lines(self) -> list[dict[str, Any]]:
        """The shards that were finished since the manifest was written; lines that are damaged are passed over."""
        parts = _each(_content, appended(self.path / _JOURNAL))
        added = []
        for text in (line for part in parts for line in part.split(b"\n")[:-1]):
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and _is_shard(line.get("shard")):
                added.append(line["shard"])
        return added

    def makes_way_for(self, configuration: Mapping[str, Any]) -> bool:
        """Whether another run than that of a configuration is here, and may be replaced."""
        return self.is_begun and self._is_free and bool(self._changes(configuration))

    @property
    def _is_free(self) -> bool:
        return self.overwrite or not any(shard["rows"] for shard in self.shards.values())

    def check_continues(self, known: Mapping[str, Any]) -> None:
        """Refuses a run of which a part of the configuration, and perhaps the `model`, is known, before it is begun.

        An OutputError says that the directory holds another one, which may not be replaced.
        """
        if self.is_begun and not self._is_free:
            before = self._facts(self.configuration, self.provenance)
            self._refuse(run_changes(_part_of(before, known), known))

    def clear(self, found: Sequence[str] = ()) -> None:
        """Removes what a run wrote; answers of a server stay, since they are known by what was asked.

        Where it may not be replaced, an OutputError names the differences that were found.
        """
        if not self._is_free:
            self._refuse(found)
        logger.info("%s: the %d rows of another run are replaced", self.path, self.counts["rows"])
        _each(lambda number: self.file_of(number).unlink(missing_ok=True), self.waves)
        for name in (REJECTED, CARD):
            (self.path / name).unlink(missing_ok=True)
        self._remove_lines()
        self.shards, self.is_begun, self.is_complete = _Entries(), False, False
        self._forget_all_seen()

    def _changes(self, configuration: Mapping[str, Any], provenance: Mapping[str, Any] | None = None) -> list[str]:
        """What another configuration has otherwise than the one that the directory was begun with."""
        now = self._facts(configuration, self.provenance if provenance is None else provenance)
        return run_changes(self._facts(self.configuration, self.provenance), now)

    @staticmethod
    def _facts(configuration: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": provenance.get("scored_by") or provenance.get("model"), **configuration}

    def _refuse(self, found: Sequence[str]) -> None:
        """Refuses to go on under another configuration than the directory was begun with, and says what changed."""
        if found:
            raise OutputError(
                f"{self.path}: was begun with another configuration, so that this run cannot continue it:\n  "
                + "\n  ".join(found)
                + f"\nRun it as before to continue; {_START_ANEW}, or replace that run with overwrite=True"
            )

    def _warn_of_strays(self) -> None:
        warn_of_strays(self.path, [shard["file"] for shard in self.shards.values()])


def warn_of_strays(directory: Path | ObjectPath, known: Sequence[str]) -> None:
    """Warns of tables beside those of a directory that may be read with them, or be taken for read."""
    inside = sorted(f"data/{file.name}" for file in (directory / "data").glob("*.*"))
    beside = sorted(file.name for file in directory.glob("*.*"))
    with_shards = [name for name in inside if name.lower().endswith(".parquet")]
    alone = [name for name in inside if name.lower().endswith((".csv", ".tsv", ".json", ".jsonl"))]
    alone += [name for name in beside if name.lower().endswith((".csv", ".tsv", ".parquet"))]
    for names, how in (
        (with_shards, "but datasets.load_dataset may read it, too"),
        (alone, "and is not read: a table is given by its own name"),
    ):
        if strays := [name for name in names if name not in known]:
            logger.warning(
                "%s: %s is not of this run, %s; move it elsewhere",
                directory,
                ", ".join(strays[:3]) + (", …" if len(strays) > 3 else ""),
                how,
            )


WaveStore = RowsInMemory | ShardDirectory
Waves = Callable[[WaveStore], Generator[Wave, None, None]]
"""Makes the waves that a store lacks, or has to have anew; each is put there before the next is asked for."""

StoredWaves = Callable[[WaveStore], Generator[Sequence[StoredWave], None, None]]
"""The same where others write the shards; what is finished at a time is entered together."""


def write_waves(
    directory: ShardDirectory,
    waves: Waves | StoredWaves,
    *,
    configuration: Mapping[str, Any],
    provenance: Mapping[str, Any],
    schema: pa.Schema,
    card: Callable[..., str],
    looks_again: bool = False,
) -> ShardDirectory:
    """Fills a directory with the waves of a run, or goes on there, and returns it: the loop that all runs share.

    Configuration, provenance and schema are those of `ShardDirectory.open`. `card` makes the dataset card of the
    directory's name, `configuration`, `provenance` and `counts`. With `looks_again`, a complete directory may still get
    more, as where failed requests are made again.
    """

    def described() -> str:
        facts = {"configuration": configuration, "provenance": provenance, "counts": directory.counts}
        return card(directory.path.name, **facts)

    with directory.open(configuration=configuration, provenance=provenance, schema=schema):
        was_complete, has_written = directory.is_complete, False
        if not was_complete:
            if directory.waves:
                logger.info("continuing %s: %d waves are finished", directory.path, len(directory.waves))
            directory.write_card(described())
        if looks_again or not was_complete:
            with closing(waves(directory)) as coming:
                for wave in coming:
                    directory.put(wave) if isinstance(wave, Wave) else directory.enter(wave)
                    has_written = True
        if has_written or not was_complete:
            directory.finish(described())
        elif not directory.warn_of_no_row():
            logger.info("%s is complete already; nothing to do", directory.path)
    return directory


def collect_waves(waves: Waves, schema: pa.Schema) -> RowsInMemory:
    """The waves of a run, in memory."""
    store = RowsInMemory(schema)
    with closing(waves(store)) as coming:
        for wave in coming:
            store.put(wave)
    warn_of_doubts(store.quality())
    return store


def _content(file: Place) -> bytes:
    """The content of a file, if it is still there."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def _each(function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """What a function makes of each item, of which several are done at a time, since most of it is waiting."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, items))


def write_rejected(directory: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Lists in `rejected.jsonl` what a run could not write, with reasons; there is no such file where all was."""
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    if content:
        write_text(directory / REJECTED, content)
    else:
        (directory / REJECTED).unlink(missing_ok=True)


def shard_name(number: int) -> str:
    """The file of a wave, its place in the directory included; files sort as their numbers do.

    Numbers have five digits; from 100,000 on a letter says how many more there are.

    Example:
        >>> shard_name(7), shard_name(99_999), shard_name(100_000)
        ('data/train-00007.parquet', 'data/train-99999.parquet', 'data/train-a100000.parquet')
    """
    digits = f"{number:05d}"
    letter = "" if len(digits) == 5 else chr(ord("a") + len(digits) - 6)
    return f"data/train-{letter}{digits}.parquet"


def _wave_of(shard: Mapping[str, Any]) -> int:
    """The number of a shard's wave; those of older versions have no letter in front of six digits."""
    match = _SHARD.fullmatch(shard["file"])
    return int(match[1]) if match else -1


def _has_edited_counts(shard: dict[str, Any]) -> bool:
    """Whether counts do not fit a shard; the number of rows is then put right, and what is no number left out."""
    given, rows = shard["counts"], shard["rows"]
    counts = {name: count for name, count in given.items() if isinstance(count, int) and count >= 0}
    counts |= {"rows": rows} if "rows" in given else {}
    shard["counts"] = counts
    return bool(counts != given or counts.get("draws", rows) < rows)


def _is_shard(entry: Any) -> bool:
    kinds = {"file": str, "rows": int, "sha256": str, "counts": dict}
    fits = isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in kinds.items())
    return fits and _SHARD.fullmatch(entry["file"]) is not None


def texts_by_label(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """The texts that an example shows: those of a pair under its label, those of a triplet under both roles."""
    if ANCHOR in row:
        return {role: [row[ANCHOR], row[role]] for role in (POSITIVE, NEGATIVE)}
    return {label_name(row): [row[name] for name in (SENTENCE1, SENTENCE2, TEXT) if name in row]}


def samples_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, TextSample]:
    """Samples of the pairs of each label, or of each role of triplets; single texts have no sentence to compare."""
    pairs: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for label, texts in texts_by_label(row).items():
            if len(texts) > 1:
                pairs.setdefault(label, []).append((texts[0], texts[1]))
    return {label: TextSample(found) for label, found in pairs.items()}


def _part_of(whole: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Of nested facts those that have a counterpart; all of those below the first two levels."""
    return {
        name: {inner: whole[name].get(inner) for inner in part}
        if name in ("backend", "judge") and isinstance(part, Mapping) and isinstance(whole.get(name), Mapping)
        else whole.get(name)
        for name, part in like.items()
    }


def run_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What one run has otherwise than another, in words for people; what only follows from another change is left out.

    Both are configurations as in a manifest, with the name of the model under `model`.
    """
    old, new = (
        {name: value for name, value in flat_facts(one).items() if value != {}}
        for one in (before, json.loads(json.dumps(now)))
    )
    found = [
        name
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name) and not (old.get(name) is None and name.rpartition(".")[2] in ADDED_LATER)
    ]
    lines: list[str] = []
    for cause, follows in _FOLLOWS.items():
        if cause in found:
            found = [name for name in found if name == cause or not name.startswith(follows)]
    is_same_model = not any(name.rpartition(".")[2] in ("weights_sha256", "settings_sha256") for name in found)
    if "model" in found and is_same_model:
        found.remove("model")  # the same content by another name
    for name in found:
        *groups, last = name.split(".")
        if last == "sha256":
            kind = next(one for one in ("sentences", "pairs") if f"inputs.{one}" in {**old, **new})
            lines.append(are_others(kind, *(one.get(f"inputs.{kind}") or "none" for one in (old, new))))
        elif last in _HASHES:
            if "model" not in found:
                lines.append(f"the {_HASHES[last]} of model {new.get('model')!r} has changed")
        elif groups[:1] == ["task"] and last != "task_name":
            where = " → ".join((*groups[1:], last))
            said = changes({where: old.get(name)}, {where: new.get(name)})
            lines += (f"task {new.get('task.task_name')!r}: {line}" for line in said)
        else:
            key = "task" if last == "task_name" else last
            lines += changes({key: old.get(name)}, {key: new.get(name)})
    return list(dict.fromkeys(lines))


_HASHES = {
    "weights_sha256": "content of the weights",
    "settings_sha256": "configuration or tokenizer",
    "template_sha256": "chat template",
}
"""What a hash is of, for messages."""

_FOLLOWS = {
    "task.task_name": ("task.",),
    "inputs.sha256": ("inputs.sentences", "inputs.pairs"),
    "weights_sha256": ("settings_sha256", "template_sha256", "template_date"),
    "backend.weights_sha256": ("backend.settings_sha256", "backend.template_sha256", "backend.template_date"),
    "settings_sha256": ("template_sha256",),
    "prompt_format": ("template_sha256", "template_date"),
}
"""Parts of a configuration that differ because another one does, and need no line of their own."""
