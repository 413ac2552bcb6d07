"""What an encoder is trained on, pairs or triplets, checked before anything slow begins: its traps are silent."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict

from dino_st.data.columns import (
    ANCHOR,
    POSITIVE,
    SCORE,
    SENTENCE1,
    SENTENCE2,
    TRIPLET_COLUMNS,
    numeric_pairs,
    refuse_blank,
)
from dino_st.data.tables import TABLE_FORMATS
from dino_st.data.triplets import read_pairs_or_triplets, triplet_table
from dino_st.errors import DatasetError, DinoWarning
from dino_st.preparation.splits import PreparedSplits, load_prepared
from dino_st.support.files import PREPARATION_RECORD
from dino_st.training.options import ContrastiveOptions

_LABELS = ("label", "labels", "score", "scores")
"""Columns that sentence-transformers takes for labels, and the contrastive loss ignores."""


def pair_splits(
    data: str | os.PathLike[str] | DatasetDict, batch_size: int, loss: str, *, size_option: str = "batch_size"
) -> tuple[DatasetDict, dict[str, Any]]:
    """Reads pairs to train on, and checks them.

    Returns:
        `train` and `validation` with exactly the columns `sentence1`, `sentence2` and `score`, and what is known of
        where they come from.

    Raises:
        DatasetError: A split or column is missing, scores are not finite numbers or out of the loss's reach, the
            training split is smaller than a batch, or all validation scores are equal.
        InputError: The directory cannot be read.
    """
    source = _given_splits(data)
    splits = DatasetDict()
    for name in ("train", "validation"):
        if set(TRIPLET_COLUMNS) <= set(getattr(source[name], "column_names", ())):
            raise DatasetError(
                f"the {name} split holds triplets; train on them with `dino-st train-contrastive` (train_contrastive)"
            )
        table = numeric_pairs(source[name], name=f"the {name} split")
        refuse_blank(table, (SENTENCE1, SENTENCE2), f"the {name} split")
        splits[name] = _as_dataset(table)
    _check_enough(splits["train"].num_rows, "pairs", batch_size, size_option)
    lowest, highest = min(splits["train"][SCORE]), max(splits["train"][SCORE])
    if loss == "cosine" and not -1 <= lowest <= highest <= 1:
        raise DatasetError(
            f"scores range from {lowest:g} to {highest:g}, and the loss 'cosine' fits cosines, which lie between -1 "
            "and 1; give the task labels from 0 to 1, or choose the loss 'cosent', which looks at their order alone"
        )
    if len(set(splits["validation"][SCORE])) < 2:
        raise DatasetError(
            f"the validation split has {splits['validation'].num_rows} pairs with fewer than two different scores, so "
            "no checkpoint can be chosen by Spearman's correlation; prepare more pairs, or a larger validation_share"
        )
    if not isinstance(source, PreparedSplits):
        return splits, {}
    return splits, {**source.provenance, "preparation": {"seed": source.options.seed, "counts": source.counts}}


def triplet_splits(
    data: str | os.PathLike[str] | DatasetDict, options: ContrastiveOptions
) -> tuple[DatasetDict, dict[str, Any]]:
    """Reads triplets to train on, and checks them.

    Returns:
        `train` and `validation` with exactly the columns `anchor`, `positive` and `negative`, and what is known of
        where they come from.

    Raises:
        DatasetError: A split or column is missing, there is a column of labels, the splits hold pairs, the training
            split is smaller than a batch, or so many triplets share a text that no batch could hold two of them.
        InputError: The directory cannot be read.
    """
    source = _given_splits(data)
    splits = DatasetDict()
    for name in ("train", "validation"):
        splits[name] = _as_dataset(_triplets(source[name], f"the {name} split", may_be_empty=name == "validation"))
    if options.checkpoint_choice == "validation" and not splits["validation"].num_rows:
        raise DatasetError(
            "the validation split is empty, so no checkpoint can be chosen by it; prepare with a "
            "validation_share above 0"
        )
    _check_batches(splits["train"], options)
    if not isinstance(source, PreparedSplits):
        return splits, {}
    preparation = {**source.options.model_dump(mode="json"), "counts": source.counts}
    return splits, {**source.provenance, "preparation": preparation}


def _check_enough(rows: int, what: str, batch_size: int, size_option: str = "batch_size") -> None:
    """Refuses what is less than a batch, of which an epoch would be one step, or none."""
    if rows < batch_size:
        raise DatasetError(
            f"{rows} training {what} are fewer than a batch of {batch_size}; generate more {what}, or choose a smaller "
            f"{size_option}"
        )


def data_facts(splits: Mapping[str, Dataset], kind: str) -> dict[str, int | str]:
    """What a training record says of its data: rows of each split, of the kind `pairs`, say, and a hash of them."""
    rows: dict[str, int | str] = {f"{name} {kind}": split.num_rows for name, split in splits.items()}
    return rows | {f"{name} sha256": _rows_hash(split.data) for name, split in splits.items()}


def _given_splits(data: str | os.PathLike[str] | DatasetDict) -> DatasetDict:
    """Takes what was given to train on, or reads it from a directory of `save_prepared`, or what was made of one."""
    source = (_split_tables(Path(data)) or load_prepared(data)) if isinstance(data, str | os.PathLike) else data
    if not isinstance(source, Mapping) or not {"train", "validation"} <= set(source):
        given = f"the splits {list(source)}" if isinstance(source, Mapping) else f"a {type(source).__name__}"
        raise DatasetError(f"the training data is {given}; expected a DatasetDict with 'train' and 'validation'")
    return source


def _split_tables(directory: Path) -> DatasetDict | None:
    """The splits in a directory that is none of ours: of `save_to_disk`, or with a file for each, such as train.csv."""
    splits = DatasetDict()
    for name in ("train", "validation") if not (directory / PREPARATION_RECORD).is_file() else ():
        tables = [file for file in directory.glob(f"{name}.*") if file.suffix.lower() in TABLE_FORMATS]
        tables += [directory / name] if (directory / name).is_dir() else []
        if len(tables) != 1:
            return None
        splits[name] = read_pairs_or_triplets(tables[0])
    return splits or None


def _as_dataset(table: pa.Table) -> Dataset:
    """A split whose fingerprint is that of its content."""
    return Dataset(table, fingerprint=_rows_hash(table))


def _rows_hash(table: pa.Table) -> str:
    """Sixteen hexadecimal digits of a SHA-256 of all values, however the table is cut into chunks."""
    digest = hashlib.sha256()
    for batch in table.to_batches():
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]


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
    table = triplet_table(split, name=name)
    refuse_blank(table, TRIPLET_COLUMNS, name)
    return table


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
    _check_enough(rows, "triplets", options.batch_size)
    if rows // most < options.batch_size // 2:
        warnings.warn(
            f"{most} of {rows} training triplets hold the text {text!r:.60}, and a batch holds no text twice: batches "
            f"will have about {rows // most} triplets instead of {options.batch_size}",
            DinoWarning,
            stacklevel=4,
        )
