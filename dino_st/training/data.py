"""What an encoder is trained on, pairs or triplets, checked before anything slow begins: its traps are silent."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dino_st.data.columns import (
    ANCHOR,
    NEGATIVE,
    POSITIVE,
    ROWS_AT_ONCE,
    ROWS_HASH,
    SCORE,
    SENTENCE1,
    SENTENCE2,
    TRIPLET_COLUMNS,
    as_table,
    numeric_pairs,
    refuse_blank,
    rows_hash,
)
from dino_st.data.pairs import doubt_pairs
from dino_st.data.tables import splits_of, table_ending, tables_below
from dino_st.data.triplets import read_pairs_or_triplets, triplet_table
from dino_st.errors import DatasetError, DinoWarning, InputError, first_line
from dino_st.preparation.directory import read_tables
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.preparation.rows import text_codes
from dino_st.support.files import PREPARATION_RECORD
from dino_st.support.progress import logger
from dino_st.support.text import WITHOUT_FORM
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from dino_st.training.record import JUDGED, PEOPLE, RATED

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Tables = dict[str, pa.Table]
"""The rows of `train` and `validation`."""

_MAPPED_BYTES = 200_000_000
"""Size of a file from which on its rows are mapped into memory."""

_PREPARATION = "preparation"
"""Under which name a record has how the data was prepared."""

_LABELS = ("label", "labels", "score", "scores")
"""Columns that sentence-transformers takes for labels, and the contrastive loss ignores."""


def pair_splits(
    data: str | os.PathLike[str] | DatasetDict,
    batch_size: int,
    loss: str,
    *,
    size_option: str = "batch_size",
    judged: Dataset | pa.Table | None = None,
    judged_by: str = PEOPLE,
) -> tuple[Tables, dict[str, Any]]:
    """Reads pairs to train on: the columns of pairs of `train` and `validation`, and what is known of their origin.

    Judged pairs take the place of the validation split, and leave the other, in whichever order of the sentences. What
    is told of pairs in a file is told of those given, too, unless they were prepared.

    Raises DatasetError where a split or column is missing, scores are not finite numbers or out of the loss's reach,
    the training split is smaller than a batch, or all validation scores are equal; InputError where the directory
    cannot be read, or a score seems to stand for none.
    """
    source, provenance = _given_splits(data)
    splits = {}
    is_read = isinstance(data, str | os.PathLike) or _PREPARATION in provenance  # and looked at then
    for name in ("train", "validation"):
        if set(TRIPLET_COLUMNS) <= set(getattr(source[name], "column_names", ())):
            raise DatasetError(
                f"the {name} split holds triplets; train on them with `dino-st train-contrastive` (train_contrastive)"
            )
        splits[name] = numeric_pairs(source[name], name=f"the {name} split")
        refuse_blank(splits[name], (SENTENCE1, SENTENCE2), f"the {name} split")
        if not is_read and (name == "train" or judged is None):
            doubt_pairs(splits[name], f"the {name} split")
    if judged is not None:
        splits, facts = _validated_on(numeric_pairs(judged, name="the judged pairs"), splits["train"])
        provenance = {**provenance, **({JUDGED: facts} if judged_by == PEOPLE else {RATED: {**facts, "by": judged_by}})}
    _check_enough(splits["train"].num_rows, "pairs", batch_size, size_option)
    if not splits["validation"].num_rows:
        raise DatasetError(
            "the validation split is empty, so no checkpoint can be chosen by it; "
            + ("prepare with a validation_share above 0" if judged is None else "judge more pairs")
        )
    lowest, highest = pc.min_max(splits["train"][SCORE]).as_py().values()
    if lowest == highest:
        raise DatasetError(
            f"all {splits['train'].num_rows} training pairs have the score {lowest:g}, so nothing can be learned about "
            "which are more alike; add pairs of other scores, such as random pairs with 0"
        )
    for name, split in splits.items():
        if not pc.any(pc.not_equal(split[SENTENCE1], split[SENTENCE2])).as_py():
            raise DatasetError(
                f"the two sentences of each of the {split.num_rows} pairs of the {name} split are the same, so that "
                "any encoder finds them equally alike; look at the columns that they come from"
            )
    least, most = pc.min_max(splits["validation"][SCORE]).as_py().values()
    if (most > 1) != (highest > 1) or (least < 0) != (lowest < 0):
        logger.warning(
            "scores are %g to %g in the train split and %g to %g in the validation split, as if on two scales; the "
            "validation looks at their order alone",
            lowest,
            highest,
            least,
            most,
        )
    if loss == "cosine" and not -1 <= lowest <= highest <= 1:
        raise DatasetError(
            f"scores range from {lowest:g} to {highest:g}, and the loss 'cosine' fits cosines, which lie between -1 "
            "and 1; give the task labels from 0 to 1, or choose the loss 'cosent', which looks at their order alone"
        )
    if pc.count_distinct(splits["validation"][SCORE]).as_py() < 2:
        raise DatasetError(
            f"the validation split has {splits['validation'].num_rows} pairs with fewer than two different scores, so "
            "no checkpoint can be chosen by Spearman's correlation; "
            + ("prepare more pairs, or a larger validation_share" if judged is None else "judge more pairs")
        )
    if judged is None:
        _warn_of_both(data, splits)
    return splits, provenance


def count_positives(train: pa.Table, options: TrainingOptions) -> int:
    """How many pairs the joint objective contrasts; a DatasetError unless a batch of them can be made."""
    chosen = train.filter(pc.field(SCORE) >= options.positive_score)
    anchors = pc.count_distinct(chosen[SENTENCE1]).as_py()
    if anchors < options.batch_size:
        raise DatasetError(
            f"the joint objective contrasts pairs whose score is at least {options.positive_score:g}, and those have "
            f"{anchors} distinct first sentences, fewer than a batch of {options.batch_size}; choose a smaller "
            "batch_size or another positive_score, or objective='graded'"
        )
    return int(chosen.num_rows)


def _validated_on(judged: pa.Table, train: pa.Table) -> tuple[Tables, dict[str, int]]:
    """Judged pairs as the validation split beside what is left to train on, and how many they are."""
    left = _without(train, (SENTENCE1, SENTENCE2), _texts_of(judged, SENTENCE1, SENTENCE2))
    facts = {"pairs": judged.num_rows, "left out of training": train.num_rows - left.num_rows}
    return {"train": left, "validation": judged}, facts


def without_validated(triplets: Tables, pairs: Tables, options: ContrastiveOptions) -> tuple[Tables, Tables]:
    """Triplets and pairs to train on together, where neither has what the other is validated on in its training split.

    Both are made of the same texts but split apart, so that a checkpoint would be chosen by pairs that it has seen.
    """
    anchor, *others = TRIPLET_COLUMNS
    train, seen = triplets["train"], _texts_of(pairs["validation"], SENTENCE1, SENTENCE2)
    for other in others:
        train = _without(train, (anchor, other), seen)
    held_out = {texts for other in others for texts in _texts_of(triplets["validation"], anchor, other)}
    rest = _without(pairs["train"], (SENTENCE1, SENTENCE2), held_out)
    left_out = triplets["train"].num_rows - train.num_rows, pairs["train"].num_rows - rest.num_rows
    if any(left_out):
        logger.info("left out of training, since the checkpoint is chosen by them: %d triplets and %d pairs", *left_out)
        _check_batches(train, options)
        _check_enough(rest.num_rows, "pairs", options.pairs_batch_size, "pairs_batch_size")
    return {**triplets, "train": train}, {**pairs, "train": rest}


def _texts_of(table: pa.Table, first: str, second: str) -> set[tuple[str, str]]:
    """The pairs of texts of two columns."""
    return set(_rows(table, (first, second)))


def _without(table: pa.Table, columns: tuple[str, str], pairs: Set[tuple[str, str]]) -> pa.Table:
    """The rows whose two texts are none of these pairs."""
    return table.filter(pa.array((row not in pairs for row in _rows(table, columns)), pa.bool_()))


def _rows(table: pa.Table, columns: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """The texts of two columns, row by row, as they count among others: those of a pair in either order are equal."""
    pairs = table.select(list(columns)).rename_columns([SENTENCE1, SENTENCE2])
    for batch in pairs.to_batches(max_chunksize=ROWS_AT_ONCE):
        plain = _without_form(pa.Table.from_batches([batch]))
        yield from zip(*(column.to_pylist() for column in plain.columns), strict=True)


def triplet_splits(
    data: str | os.PathLike[str] | DatasetDict, options: ContrastiveOptions
) -> tuple[Tables, dict[str, Any]]:
    """Reads triplets to train on: the columns of triplets of `train` and `validation`, and what is known of them.

    Raises DatasetError where a split or column is missing, there is a column of labels, the splits hold pairs, the
    training split is smaller than a batch, or so many triplets share a text that no batch could hold two of them;
    InputError where the directory cannot be read.
    """
    source, provenance = _given_splits(data)
    splits = {}
    for name in ("train", "validation"):
        splits[name] = _triplets(source[name], f"the {name} split", may_be_empty=name == "validation")
    if options.checkpoint_choice == "validation" and not splits["validation"].num_rows:
        raise DatasetError(
            "the validation split is empty, so no checkpoint can be chosen by it; prepare with a "
            "validation_share above 0"
        )
    _check_batches(splits["train"], options)
    if options.checkpoint_choice == "validation":
        _warn_of_both(data, splits)
    return splits, provenance


def _check_enough(rows: int, what: str, batch_size: int, size_option: str = "batch_size") -> None:
    """Refuses what is less than a batch, of which an epoch would be one step, or none."""
    if rows < batch_size:
        raise DatasetError(
            f"{rows} training {what} are fewer than a batch of {batch_size}; generate more {what}, or choose a smaller "
            f"{size_option}"
        )


def as_datasets(tables: Tables, facts: Mapping[str, int | str]) -> DatasetDict:
    """The splits as data sets, whose fingerprints are the hashes that `data_facts` made of them."""
    from datasets import Dataset, DatasetDict

    return DatasetDict({name: Dataset(table, fingerprint=facts[name + ROWS_HASH]) for name, table in tables.items()})


def data_facts(splits: Mapping[str, Dataset | pa.Table], kind: str) -> dict[str, int | str]:
    """What a training record says of its data: rows of each split, of the kind `pairs`, say, and a hash of them."""
    rows: dict[str, int | str] = {f"{name} {kind}": len(split) for name, split in splits.items()}
    return rows | {name + ROWS_HASH: rows_hash(as_table(split)) for name, split in splits.items()}


def _given_splits(data: str | os.PathLike[str] | DatasetDict) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """What was given to train on, or lies in a directory of ours or of `save_to_disk`, and where it comes from."""
    if isinstance(data, str | os.PathLike):
        if (tables := _split_tables(Path(data))) is not None:
            return tables, {}
        record, tables = read_tables(Path(data), read=_rows_of)
        return tables, _origin(record.provenance, record.options, record.counts)
    if not isinstance(data, Mapping) or not {"train", "validation"} <= set(data):
        given = f"the splits {list(data)}" if isinstance(data, Mapping) else f"a {type(data).__name__}"
        raise DatasetError(f"the training data is {given}; expected a DatasetDict with 'train' and 'validation'")
    prepared: Any = data  # by `prepare_pairs`, if it has options
    has_options = hasattr(prepared, "options")
    return data, _origin(prepared.provenance, prepared.options, prepared.counts) if has_options else {}


def _rows_of(file: Path) -> pa.Table:
    """The rows of a file; those of a large one from a copy that `datasets` keeps in its cache, mapped into memory.

    So they take memory only while they are used, and once for all processes of a machine.
    """
    import pyarrow.parquet

    if file.stat().st_size < _MAPPED_BYTES:
        return pyarrow.parquet.ParquetFile(file).read()
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        return Dataset.from_parquet(str(file)).data.table
    except DatasetGenerationError as error:
        raise OSError(first_line(error.__cause__ or error)) from error


def _origin(
    provenance: Mapping[str, Any], options: PreparationOptions | TripletOptions, counts: Mapping[str, int]
) -> dict[str, Any]:
    """Where prepared splits come from."""
    how = {"seed": options.seed} if isinstance(options, PreparationOptions) else options.model_dump(mode="json")
    return {**provenance, _PREPARATION: {**how, "counts": dict(counts)}}


def _split_tables(directory: Path) -> Tables | None:
    """The splits in a directory that is none of ours: of `save_to_disk`, or with a file for each, such as train.csv."""
    if (directory / PREPARATION_RECORD).is_file() or not directory.is_dir():
        return None
    tables = [
        file for file in sorted(directory.iterdir()) if table_ending(file) or file.name in ("train", "validation")
    ]
    found = {name: [file for file in tables if name in splits_of(file)] for name in ("train", "validation")}
    if not any(found.values()):
        return None
    for name, files in found.items():
        if len(files) != 1:
            there = ", ".join(file.name for file in files) or "none"
            raise InputError(
                f"{directory}: expected one table of the {name} split, such as {name}.csv, found {there}; move what "
                "is not to be trained on elsewhere, or name a directory of `dino-st prepare`"
            )
    read = [file for (file,) in found.values()]
    others = [
        str(file.relative_to(directory))
        for file in tables_below(directory)
        if not any(file.is_relative_to(one) for one in read)
    ]
    if others:
        logger.info("%s: not trained on: %s", directory, ", ".join(others))
    return {name: read_pairs_or_triplets(file) for name, (file,) in found.items()}


_TEXTS = frozenset((SENTENCE1, SENTENCE2, *TRIPLET_COLUMNS))
_IN_BOTH = 0.01
"""Share of the validation rows of which single ones may stand in train by chance."""


def _warn_of_both(data: str | os.PathLike[str] | DatasetDict, tables: Mapping[str, pa.Table]) -> None:
    """Warns where more than a few of the validation rows stand in train, too, but for order, blanks and case."""
    both = [_without_form(tables[name]) for name in ("train", "validation")]
    train, validation = (table.group_by(table.column_names, use_threads=False).aggregate([]) for table in both)
    found = validation.join(train, validation.column_names, join_type="left semi", use_threads=False)
    twice = len(found)  # by threads memory would be let go of later
    if twice > _IN_BOTH * len(validation):
        where = data if isinstance(data, str | os.PathLike) else "the training data"
        warnings.warn(
            f"{where}: {twice} of {len(validation)} rows of validation stand in train, too, so that it says "
            "little of other texts; leave them out of one",
            DinoWarning,
            stacklevel=4,
        )


def _without_form(table: pa.Table) -> pa.Table:
    """The texts of rows as they count among others: without form, blanks, case and the order of the first two."""
    table = table.select([name for name in table.column_names if name in _TEXTS])
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            seen = pc.replace_substring_regex(column, f"[{WITHOUT_FORM}]", "")
            folded = pc.utf8_lower(pc.utf8_normalize(seen, "NFC"))
            folded = pc.utf8_trim_whitespace(pc.replace_substring_regex(folded, r"[\s\pZ]+", " "))
            table = table.set_column(place, name, folded)
    first, second = (SENTENCE1, SENTENCE2) if SENTENCE1 in table.column_names else (ANCHOR, POSITIVE)
    one, other = table[first], table[second]
    for name, sort in ((first, pc.min_element_wise), (second, pc.max_element_wise)):
        table = table.set_column(table.column_names.index(name), name, sort(one, other))
    return table


def _triplets(split: Dataset | pa.Table, name: str, *, may_be_empty: bool) -> pa.Table:
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
        return as_table(split)
    table = triplet_table(split, name=name)
    refuse_blank(table, TRIPLET_COLUMNS, name)
    return table


def _check_batches(train: pa.Table, options: ContrastiveOptions) -> None:
    """Refuses data of which no batch can be made, and warns where batches will be smaller than asked for."""
    rows = train.num_rows
    anchors = pc.count_distinct(train[ANCHOR]).as_py()
    if anchors < 2:
        raise DatasetError(
            f"the {rows} training triplets have {anchors} distinct anchor; the contrastive loss compares the triplets "
            "of a batch with one another, so it needs at least 2. Generate from more sentences"
        )
    for role, other in ((POSITIVE, NEGATIVE), (POSITIVE, ANCHOR), (NEGATIVE, ANCHOR)):
        if pc.all(pc.equal(train[role], train[other])).as_py():
            raise DatasetError(
                f"the {role} of each of the {rows} training triplets is the same text as its {other}; look at the "
                "columns that they come from"
            )
    codes, texts = text_codes([train[name] for name in TRIPLET_COLUMNS])
    in_row = np.sort(np.stack(codes), axis=0)
    is_first = np.diff(in_row, axis=0, prepend=-1) != 0
    used = np.bincount(in_row[is_first], minlength=len(texts))
    most = int(used.max())
    text = texts[int(np.flatnonzero(used == most)[-1])].as_py()
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
