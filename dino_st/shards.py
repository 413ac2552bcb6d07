"""The rows of a directory of shards, checked against its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.errors import InputError
from dino_st.manifest import MANIFEST, is_intact, read_manifest

if TYPE_CHECKING:
    from datasets import Dataset


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
