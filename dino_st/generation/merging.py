"""Joins the shards that several machines wrote into the data set that one would have written."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dino_st.data.cards import raw_card
from dino_st.data.shards import MANIFEST, is_intact, new_manifest, read_manifest, write_manifest
from dino_st.errors import ConfigurationError, InputError, OutputError
from dino_st.support.files import make_directory, only_writer, remove_leftovers, replacing, write_text
from dino_st.support.progress import logger
from dino_st.tasks.spec import TaskSpec


def merge_shards(directories: Sequence[Path], output: Path) -> dict[str, Any]:
    """Merges what `--shard 1/n` … `--shard n/n` wrote.

    Args:
        directories: All n directories, in any order.
        output: A new or empty directory, or one where a merge of the same shards was interrupted; gets the same files
            as a run without shards, byte for byte, its dataset card apart.

    Returns:
        The manifest of the merged data set.

    Raises:
        InputError: If a directory is missing, unfinished or damaged, or a shard is missing or given twice.
        ConfigurationError: If the directories were not made with the same configuration.
        OutputError: If the output holds something already or cannot be written.
    """
    manifests = [(directory, _finished(directory)) for directory in directories]
    _check_complete_set(manifests)
    shards = sorted(
        ((shard, directory) for directory, manifest in manifests for shard in manifest["shards"]),
        key=lambda item: item[0]["file"],
    )
    counts: Counter[str] = Counter()
    for shard, directory in shards:
        if not is_intact(directory, shard):
            raise InputError(
                f"{directory / shard['file']}: missing or damaged; run its `dino-st generate` again to mend it"
            )
        counts.update(shard["counts"])
    first = manifests[0][1]
    configuration = first["configuration"] | {"shard": None}
    read_manifest(output)  # so that nothing is written into a directory of something else
    with only_writer(output):
        return _write(shards, output, first | {"configuration": configuration, "counts": dict(counts)})


def _write(shards: Sequence[tuple[dict[str, Any], Path]], output: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Writes the merged data set, whose manifest still lacks its shards."""
    configuration = manifest["configuration"]
    begun = read_manifest(output)
    if begun is not None and begun["complete"] and begun["shards"] == [shard for shard, _ in shards]:
        logger.info("%s is complete already; nothing to do", output)
        return begun
    if begun is not None and (begun["shards"] or begun["configuration"] != configuration):
        raise OutputError(f"{output}: holds a data set already; choose a new directory")
    make_directory(output / "data")
    remove_leftovers(output, output / "data")
    write_manifest(output, new_manifest(configuration, manifest["provenance"]))  # so that a rerun knows it as begun
    for shard, directory in shards:
        with replacing(output / shard["file"]) as temporary:
            shutil.copyfile(directory / shard["file"], temporary)
    merged = manifest | {"shards": [shard for shard, _ in shards]}
    described = {name: merged[name] for name in ("configuration", "provenance", "counts")}
    spec = TaskSpec.load(merged["configuration"]["task"])
    write_text(output / "README.md", raw_card(output.name, spec, **described))
    write_manifest(output, merged)
    return merged


def _finished(directory: Path) -> dict[str, Any]:
    if not (directory / MANIFEST).is_file():
        raise InputError(f"{directory}: holds no {MANIFEST}; expected a directory of `dino-st generate --shard i/n`")
    manifest = read_manifest(directory) or {}
    if not manifest["complete"]:
        raise InputError(f"{directory}: is not complete; run its `dino-st generate` again to finish it")
    if not manifest["configuration"].get("shard"):
        raise InputError(f"{directory}: is a whole data set, not a shard; there is nothing to merge")
    return manifest


def _check_complete_set(manifests: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    if not manifests:
        raise ConfigurationError("nothing to merge: give the directories of all shards")
    reference = {**manifests[0][1]["configuration"], "shard": None}
    for directory, manifest in manifests[1:]:
        configuration = {**manifest["configuration"], "shard": None}
        changed = sorted(name for name in reference if configuration.get(name) != reference[name])
        if changed:
            raise ConfigurationError(
                f"{directory} and {manifests[0][0]} are shards of different data sets: they differ in "
                f"{', '.join(changed)}"
            )
    given = [manifest["configuration"]["shard"] for _, manifest in manifests]
    count = int(given[0].partition("/")[2])
    expected = [f"{i}/{count}" for i in range(1, count + 1)]
    missing = [shard for shard in expected if shard not in given]
    others = [shard for shard in given if shard not in expected or given.count(shard) > 1]
    if missing or others:
        raise InputError(
            f"these are not the {count} shards of one data set: missing {', '.join(missing) or 'none'}; "
            f"unexpected or double {', '.join(dict.fromkeys(others)) or 'none'}"
        )
