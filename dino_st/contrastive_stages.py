"""Preparing triplets and training on them as the command line and recipes call it: files in, files out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.columns import SENTENCE1
from dino_st.errors import ConfigurationError
from dino_st.jsonl import json_objects, read_jsonl, read_reference_jsonl
from dino_st.manifest import MANIFEST, read_manifest
from dino_st.progress import logger
from dino_st.shards import read_shards
from dino_st.training_run import training_summary
from dino_st.triplet_files import read_triplets

if TYPE_CHECKING:
    from datasets import Dataset

    from dino_st.prepared_splits import PreparedSplits


def prepare_triplet_data(raw: Path, output: Path, options: Mapping[str, Any]) -> PreparedSplits:
    """Prepares triplets, or DINO pairs as triplets, and writes them to a directory.

    Args:
        raw: Directory of shards of triplets or of pairs, a file of triplets, or a JSONL file of pairs.
        output: The directory for the splits.
        options: Options of `prepare_triplets`.

    Returns:
        The splits.

    Raises:
        InputError: If `raw` cannot be read.
        DatasetError: If no triplet is left.
    """
    from dino_st.prepared_splits import save_prepared
    from dino_st.triplets import prepare_triplets

    dataset, provenance = _read_raw(raw)
    splits = prepare_triplets(dataset, **options)
    save_prepared(splits, output, provenance=provenance)
    return splits


def train_contrastive_model(
    prepared: Path,
    encoder: str,
    output: Path,
    options: Mapping[str, Any],
    *,
    pairs: Path | None = None,
    sts_dir: Path | None = None,
) -> str:
    """Trains an encoder on prepared triplets, or resumes.

    Args:
        prepared: Directory of `prepare_triplet_data`.
        encoder: What to start from.
        output: Directory for the encoder.
        options: Options of `train_contrastive`.
        pairs: Directory of `prepare_data`, to train on as well.
        sts_dir: STS data in SentEval layout; read only if a checkpoint is to be chosen by it.

    Returns:
        A sentence about how it went.

    Raises:
        ConfigurationError: If a checkpoint is to be chosen by STS data, and there is none.
    """
    from dino_st.contrastive import train_contrastive
    from mteb_tasks.dev_pairs import read_dev_pairs

    by_labels = options.get("checkpoint_choice") == "sts-dev"
    if by_labels and sts_dir is None:
        raise ConfigurationError(
            "checkpoint_choice is 'sts-dev', which needs STS data in SentEval layout; give its directory with "
            "--sts-dir or the variable DINO_ST_STS_DIR"
        )
    sts_dev = read_dev_pairs(sts_dir) if by_labels and sts_dir is not None else None
    train_contrastive(prepared, encoder, output, pairs=pairs, sts_dev=sts_dev, resume=True, **options)
    if by_labels:
        return training_summary(output, "STSb and SICK dev, averaged")
    more = "" if pairs is None else " and the validation pairs, averaged"
    return training_summary(output, "pairs of the generated validation triplets" + more)


def named_sts_dir(given: str | None) -> Path | None:
    """The directory of STS data: the one given, else the one that the variable names."""
    name = given or os.environ.get("DINO_ST_STS_DIR")
    return Path(name) if name else None


def _read_raw(raw: Path) -> tuple[Dataset, dict[str, Any]]:
    """Reads triplets or pairs, and where they come from."""
    if (raw / MANIFEST).is_file():
        manifest = read_manifest(raw) or {}
        if not manifest["complete"]:
            logger.warning("%s is not complete; what is there is prepared (run `dino-st generate` again)", raw)
        configuration = manifest["configuration"]
        task = configuration.get("task")
        name = task.get("task_name") if isinstance(task, Mapping) else task
        known = {key: manifest["provenance"].get(key) for key in ("model", "versions")}
        return read_shards(raw, manifest), known | {"task": name, "seed": configuration.get("seed")}
    provenance = {"raw": raw.name}
    if raw.suffix.lower() == ".jsonl" and raw.is_file():
        _, first = next(json_objects(raw), (0, {}))
        if "text_a" in first:
            return read_reference_jsonl(raw), provenance
        if SENTENCE1 in first:
            return read_jsonl(raw), provenance
    return read_triplets(raw), provenance
