"""A directory of prepared splits on disk: its record, its files, and what may be written over it.

Nothing here imports `datasets`, so that a mistake in what is given can be told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from dino_st.data.cards import read_origin
from dino_st.data.columns import LABEL, PAIR_COLUMNS, SENTENCE1, SENTENCE2, TEXT, TRIPLET_COLUMNS, is_text
from dino_st.data.shards import run_changes, warn_of_strays
from dino_st.data.tables import name_unused
from dino_st.errors import InputError, OutputError
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.support.documents import read_validated
from dino_st.support.files import PREPARATION_RECORD, is_content, no_directory
from dino_st.support.hashes import hash_file
from dino_st.support.options import changes
from dino_st.support.progress import logger

if TYPE_CHECKING:
    import pyarrow as pa

FILES = {"train": Path("data", "train.parquet"), "validation": Path("data", "validation.parquet")}
"""Where the splits are; one without rows has no file."""

_ORIGIN = ("model", "task", "inputs", "weights_sha256", "backend", "decoding", "seed", "shard")
PAIRS, TRIPLETS = "dino-st prepared pairs, version 1", "dino-st prepared triplets, version 1"
"""What a record calls itself; older ones of triplets, and those of a directory that is begun, say pairs."""

_COLUMNS = (list(PAIR_COLUMNS), [SENTENCE1, SENTENCE2, LABEL], [TEXT, LABEL], list(TRIPLET_COLUMNS))


class PreparationRecord(BaseModel):
    """What `preparation.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = PAIRS
    complete: bool
    options: PreparationOptions | TripletOptions
    counts: dict[str, int]
    provenance: dict[str, Any]
    quality: dict[str, dict[str, float | str | list[str]]] = {}
    files: dict[str, str] = {}  # SHA-256 of each split's file


def read_record(directory: Path) -> PreparationRecord:
    """Reads and checks `preparation.json`."""
    file, again = directory / PREPARATION_RECORD, "run the preparation again"
    if not directory.is_dir():
        raise InputError(no_directory(directory, "one written by `dino-st prepare`"))
    try:
        record = read_validated(file, PreparationRecord, InputError, again)
    except FileNotFoundError as error:
        raise InputError(
            f"{directory}: has no {PREPARATION_RECORD}; expected a directory written by `dino-st prepare` (pairs) or "
            "`dino-st prepare-triplets` (triplets)"
        ) from error
    if record.format not in (PAIRS, TRIPLETS):
        raise InputError(f"{file}: format is {record.format!r}; expected {PAIRS!r} or {TRIPLETS!r}; {again}")
    return record


def read_tables(
    directory: Path, *, read: Callable[[Path], pa.Table] | None = None
) -> tuple[PreparationRecord, dict[str, pa.Table]]:
    """Reads the record of a directory and the rows of both splits, or raises InputError where they are not whole.

    Counts and hashes in the record are those of the files as they are. The rows of a file are held in memory, unless
    `read` gives them otherwise; it raises OSError where it cannot.
    """
    import pyarrow as pa
    import pyarrow.parquet

    record = read_record(directory)
    if not record.complete:
        raise InputError(f"{directory}: writing it was interrupted; run the preparation again")
    tables: dict[str, pa.Table] = {}
    hashes: dict[str, str] = {}
    for split, name in FILES.items():
        file = directory / name
        if record.counts.get(split) == 0 and "train" in tables and not file.exists():
            tables[split] = tables["train"].slice(0, 0)
            continue
        try:
            table = read(file) if read else pyarrow.parquet.ParquetFile(file).read()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{file}: cannot be read ({error}); run the preparation again") from error
        table = table.select([*name_unused(file, _our_columns)(table.column_names, str(file))])
        usual = pa.schema([(field.name, _usual_type(field.type)) for field in table.schema])
        tables[split] = table.replace_schema_metadata(None).cast(usual)
        hashes[split] = hash_file(file)
        if record.files.get(split) not in (None, hashes[split]):
            logger.warning("%s: is another file than the one that was written here; its rows are taken", file)
    warn_of_strays(directory, [name.as_posix() for name in FILES.values()])
    real = {split: len(rows) for split, rows in tables.items() if split in record.counts}
    if real.items() - record.counts.items():
        logger.warning(
            "%s: the counts do not fit the files, as if edited; the files are taken", directory / PREPARATION_RECORD
        )
    provenance = record.provenance | read_origin(directory)
    known = {"counts": record.counts | real, "provenance": provenance, "files": hashes}
    return record.model_copy(update=known), tables


def _our_columns(names: Sequence[str], where: str) -> dict[str, str]:
    """The columns that were written here, among which there may be those of pandas and of people."""
    known = [columns for columns in _COLUMNS if set(columns) <= set(names)]
    if len(known) != 1 or any(names.count(name) > 1 for name in known[0]):
        raise InputError(f"{where}: has the columns {list(names)}; expected one of {list(_COLUMNS)}")
    return {name: name for name in known[0]}


def _usual_type(kind: pa.DataType) -> pa.DataType:
    """The type that is written here for what pandas, polars and others, who rewrote a file, have in one of theirs."""
    import pyarrow as pa

    if is_text(kind):
        return pa.string()
    return pa.float64() if pa.types.is_floating(kind) else kind


def check_output(directory: Path) -> None:
    """Raises an OutputError unless a directory is missing, empty or one of ours, so that it may be written to."""
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory}: is a file; expected a directory to write to")
    if directory.is_dir() and any(file.is_file() and is_content(file) for file in directory.rglob("*")):
        try:
            read_record(directory)
        except InputError as error:
            raise OutputError(
                f"{directory}: holds something else than prepared pairs; choose another directory or empty it"
            ) from error


def check_replaces(
    directory: Path,
    options: PreparationOptions | TripletOptions,
    provenance: Mapping[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Refuses (OutputError) an output before anything is computed, as far as options and origin of the pairs tell."""
    check_output(directory)
    if overwrite or not (directory / PREPARATION_RECORD).is_file():
        return
    earlier = read_record(directory)
    found = changes(earlier.options.model_dump(), options.model_dump())
    found += origin_changes(earlier.provenance, provenance)
    if earlier.complete and found:
        raise OutputError(another_preparation(directory, found))


def origin_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What one run that wrote the pairs has otherwise than another, where both are known and it decides the texts."""
    if not before.keys() & now.keys() & {"inputs", "seed"}:
        return []
    return run_changes(*({name: one[name] for name in _ORIGIN if name in one} for one in (before, now)))


def another_preparation(directory: Path, found: list[str]) -> str:
    """The refusal to replace a preparation."""
    return (
        f"{directory}: holds another preparation ({'; '.join(found)}). Choose another directory, remove this one, or "
        "replace it with overwrite=True"
    )
