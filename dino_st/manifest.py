"""The manifest of a directory of shards: what is finished, and under which configuration.

While a run goes on, its waves are lines at the end of `manifest.jsonl`, since writing all of `manifest.json` for each
would take ever longer; when the run ends, or another begins, they are moved there. `read_manifest` reads both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dino_st.directory_lock import LOCK
from dino_st.errors import OutputError
from dino_st.files import append_line, write_text
from dino_st.progress import logger

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


def hash_texts(texts: Iterable[str]) -> str:
    """SHA-256 over texts and where each ends."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


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


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
