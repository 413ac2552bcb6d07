"""What a contrastive loss is trained on, checked before anything slow begins: its traps are silent."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict

from dino_st.columns import ANCHOR, POSITIVE, SENTENCE1, TRIPLET_COLUMNS
from dino_st.contrastive_options import ContrastiveOptions
from dino_st.errors import DatasetError, DinoWarning
from dino_st.prepared_splits import PreparedSplits
from dino_st.training_data import content_hash, given_splits
from dino_st.triplets import triplet_table

_LABELS = ("label", "labels", "score", "scores")
"""Columns that sentence-transformers takes for labels, and this loss ignores."""


def triplet_splits(
    data: str | os.PathLike[str] | DatasetDict, options: ContrastiveOptions
) -> tuple[DatasetDict, dict[str, Any]]:
    """Reads the splits to train on, and checks them.

    Args:
        data: A directory of `save_prepared`, or a `DatasetDict`.
        options: How they will be used.

    Returns:
        `train` and `validation` with exactly the columns `anchor`, `positive` and `negative`, and what is known of
        where they come from.

    Raises:
        DatasetError: A split or column is missing, there is a column of labels, the splits hold pairs, or so many
            triplets share a text that no batch could hold two of them.
        InputError: The directory cannot be read.
    """
    source = given_splits(data)
    splits = DatasetDict()
    for name in ("train", "validation"):
        table = _triplets(source[name], f"the {name} split", may_be_empty=name == "validation")
        splits[name] = Dataset(table, fingerprint=content_hash(table))
    if options.checkpoint_choice == "validation" and not splits["validation"].num_rows:
        raise DatasetError(
            "the validation split is empty, so no checkpoint can be chosen by it; prepare with a "
            "validation_share above 0"
        )
    _check_batches(splits["train"], options)
    provenance: dict[str, Any] = {}
    if isinstance(source, PreparedSplits):
        preparation = {**source.options.model_dump(mode="json"), "counts": source.counts}
        provenance = {**source.provenance, "preparation": preparation}
    return splits, provenance


def _triplets(split: Dataset, name: str, *, may_be_empty: bool) -> pa.Table:
    columns = list(getattr(split, "column_names", ()))
    if SENTENCE1 in columns and POSITIVE not in columns:
        raise DatasetError(
            f"{name} holds pairs; train on them with `dino-st train` (train_encoder), or make triplets of the raw "
            "pairs with `dino-st prepare-triplets` (prepare_triplets)"
        )
    labels = [column for column in columns if column in _LABELS]
    if labels:
        raise DatasetError(
            f"{name} has the column {labels[0]!r}, and the contrastive loss ignores labels: it takes every positive "
            "for one. Leave the column out, or train on pairs with scores with `dino-st train`"
        )
    if may_be_empty and not len(split) and list(TRIPLET_COLUMNS) == columns:
        return split.with_format("arrow")[:]
    return triplet_table(split, name=name)


def _check_batches(train: Dataset, options: ContrastiveOptions) -> None:
    """Refuses data of which no batch can be made, and warns where batches will be smaller than asked for."""
    rows = train.num_rows
    anchors = len(set(train[ANCHOR]))
    if anchors < 2:
        raise DatasetError(
            f"the {rows} training triplets have {anchors} distinct anchor; the contrastive loss compares the triplets "
            "of a batch with one another, so it needs at least 2. Generate from more sentences"
        )
    used = Counter(text for row in train for text in set(row.values()))
    text, most = max(used.items(), key=lambda item: (item[1], item[0]))
    if rows < 2 * most:
        raise DatasetError(
            f"{most} of {rows} training triplets hold the text {text!r:.60}, and a batch holds no text twice, so that "
            "most would have a single triplet and nothing to compare it with. Drop what is repeated"
        )
    possible = rows // most
    if rows < options.batch_size:
        warnings.warn(
            f"{rows} training triplets are fewer than a batch of {options.batch_size}: each step takes all of them. "
            "Generate more, or choose a smaller batch_size",
            DinoWarning,
            stacklevel=4,
        )
    elif possible < options.batch_size // 2:
        warnings.warn(
            f"{most} of {rows} training triplets hold the text {text!r:.60}, and a batch holds no text twice: batches "
            f"will have about {possible} triplets instead of {options.batch_size}",
            DinoWarning,
            stacklevel=4,
        )
