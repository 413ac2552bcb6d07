"""Raw pairs in files: a directory of shards, or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.columns import ANCHOR
from dino_st.errors import InputError
from dino_st.manifest import MANIFEST, read_manifest, warn_if_incomplete, warn_of_strays
from dino_st.preparation_options import RECORD
from dino_st.progress import logger
from dino_st.shards import read_shards

if TYPE_CHECKING:
    from datasets import Dataset


def read_raw(raw: Path) -> tuple[Dataset, dict[str, Any], list[float] | None]:
    """Reads raw rows, where they come from, and the scores that they may have.

    Args:
        raw: Directory of shards, or a JSONL file of pairs in our own columns or those of the published code.

    Returns:
        The rows; model, versions and configuration, as far as they are known; the scores, in the order of the task's
        labels, if the task is known and its labels are numbers.

    Raises:
        InputError: If there is nothing of the kind, or a shard is damaged.
    """
    from dino_st.jsonl import read_jsonl, read_reference_jsonl
    from dino_st.task_spec import TaskSpec

    if raw.is_file():
        with raw.open(encoding="utf-8", errors="replace") as file:
            is_reference = '"text_a"' in next((line for line in file if line.strip()), "")
        return (read_reference_jsonl if is_reference else read_jsonl)(raw), {"raw": raw.name}, None
    if not raw.exists():
        raise InputError(f"{raw}: there is no such file or directory; expected a directory of `dino-st generate`")
    if (raw / RECORD).is_file():
        raise InputError(f"{raw}: is prepared already; train on it, or give the directory of `dino-st generate`")
    if not (raw / MANIFEST).is_file():
        raise InputError(
            f"{raw}: holds no {MANIFEST}; expected a directory of `dino-st generate`, or a .jsonl file of pairs"
        )
    manifest = read_manifest(raw) or {}
    warn_if_incomplete(raw, manifest)
    if manifest["configuration"].get("shard"):
        part = manifest["configuration"]["shard"]
        logger.warning("%s is shard %s of a data set; `dino-st merge` joins them", raw, part)
    if manifest["complete"]:
        warn_of_strays(raw, manifest)
    dataset = read_shards(raw, manifest)
    if ANCHOR in dataset.column_names:
        raise InputError(f"{raw}: holds triplets, not pairs; `dino-st prepare-triplets` is for them")
    configuration = manifest["configuration"]
    spec = TaskSpec.load(configuration["task"])
    provenance = {
        "model": manifest["provenance"]["model"],
        "versions": manifest["provenance"]["versions"],
        **configuration,
    }
    labels = [float(label) for label in spec.labels] if spec.has_scores else None
    return dataset, provenance, labels
