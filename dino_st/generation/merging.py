"""Joining the shards that several machines wrote into the data set that one would have written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dino_st.data.cards import raw_card
from dino_st.data.shards import ShardDirectory, run_changes
from dino_st.errors import ConfigurationError, InputError
from dino_st.support.objects import Place
from dino_st.support.progress import logger
from dino_st.tasks.spec import TaskSpec


def merge_shards(directories: Sequence[Place], output: Place, *, overwrite: bool = False) -> ShardDirectory:
    """Merges what `--shard 1/n` … `--shard n/n` wrote, in any order.

    The output, a new or empty directory or one where a merge of the same shards was interrupted, gets the same files as
    a run without shards, byte for byte, its dataset card apart. Raises InputError where a directory is missing,
    unfinished or damaged, or a shard is missing or given twice, and ConfigurationError where they are of several
    configurations.
    """
    parts = [_finished(directory) for directory in directories]
    configuration = _common_configuration(parts)
    waves = sorted(((number, part) for part in parts for number in part.waves), key=lambda wave: wave[0])
    for part in parts:
        part.check_intact()
    merged = ShardDirectory(output, overwrite=overwrite)
    with merged.locked():
        hashes = {number: part.shards[number]["sha256"] for number, part in waves}
        if merged.is_complete and {number: shard["sha256"] for number, shard in merged.shards.items()} == hashes:
            logger.info("%s is complete already; nothing to do", merged.path)
            return merged
        if merged.waves or (merged.is_begun and merged.configuration != configuration):
            merged.clear(run_changes(merged.configuration, configuration) or ["other shards of the same run"])
        provenance = (waves[0][1] if waves else parts[0]).provenance
        merged.copy_from(waves, configuration=configuration, provenance=provenance)
        described = {"configuration": configuration, "provenance": provenance, "counts": merged.counts}
        merged.finish(raw_card(TaskSpec.load(configuration["task"]), merged.path.name, **described))
    return merged


def _finished(path: Place) -> ShardDirectory:
    part = ShardDirectory.to_read(path, "a directory of `dino-st generate --shard i/n`", warn=False)
    if not part.is_complete:
        raise InputError(f"{path}: is not complete; run its `dino-st generate` again to finish it")
    if not part.configuration.get("shard"):
        raise InputError(f"{path}: is a whole data set, not a shard; there is nothing to merge")
    return part


def _common_configuration(parts: Sequence[ShardDirectory]) -> dict[str, Any]:
    """The configuration of the whole data set, if the parts are all of its shards."""
    if not parts:
        raise ConfigurationError("nothing to merge: give the directories of all shards")
    common: dict[str, Any] = parts[0].configuration | {"shard": None}
    if gpus := sorted({part.configuration["gpu"] for part in parts if "gpu" in part.configuration}):
        common["gpu"] = ", ".join(gpus)  # what kinds wrote it; shards are whole, so that they need not be of one
    for part in parts[1:]:
        configuration = part.configuration | {name: common[name] for name in ("shard", "gpu") if name in common}
        if changed := run_changes(common, configuration):
            raise ConfigurationError(
                f"{part.path} is a shard of another data set than {parts[0].path}: {'; '.join(changed)}"
            )
    given = [part.configuration["shard"] for part in parts]
    count = int(given[0].partition("/")[2])
    expected = [f"{i}/{count}" for i in range(1, count + 1)]
    missing = [shard for shard in expected if shard not in given]
    others = [shard for shard in given if shard not in expected or given.count(shard) > 1]
    if missing or others:
        raise InputError(
            f"these are not the {count} shards of one data set: missing {', '.join(missing) or 'none'}; "
            f"unexpected or double {', '.join(dict.fromkeys(others)) or 'none'}"
        )
    return common
