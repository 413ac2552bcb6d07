"""Training pairs with their provenance, in memory and as a directory that `datasets.load_dataset` reads."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict

from dino_st.data.cards import CLASSIFICATION, SIMILARITY, dataset_card, writer_of
from dino_st.data.columns import LABEL, TRIPLET_COLUMNS, as_table
from dino_st.data.quality import Summary, quality_section
from dino_st.errors import ConfigurationError, InputError, OutputError
from dino_st.preparation.directory import (
    FILES,
    PAIRS,
    TRIPLETS,
    PreparationRecord,
    another_preparation,
    check_output,
    origin_changes,
    read_tables,
)
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.support.files import (
    CARD,
    PREPARATION_RECORD,
    REJECTED,
    make_directory,
    only_writer,
    remove_leftovers,
    replacing,
    write_text,
)
from dino_st.support.hashes import hash_file
from dino_st.support.options import changes
from dino_st.support.text import facts_table

_ABOUT_PAIRS = (
    "The second text of a pair was written by a language model from an instruction that stands for the label (DINO, "
    "[arXiv 2104.07540](https://arxiv.org/abs/2104.07540)). No label comes from a person, and the labels are noisy. "
    "Made with dino-st."
)
_ABOUT_TRIPLETS = (
    "A positive means the same as its anchor and a negative does not, as far as the language model that wrote them "
    "followed its instructions (SynCSE, [arXiv 2305.15077](https://arxiv.org/abs/2305.15077), or DINO, [arXiv "
    "2104.07540](https://arxiv.org/abs/2104.07540)). No label comes from a person, and the triplets are noisy. Made "
    "with dino-st."
)
_ABOUT_GIVEN = (
    "Prepared by dino-st. Who wrote the texts, and where the labels come from, is not recorded; all that is known "
    "stands below."
)


class PreparedSplits(DatasetDict):  # type: ignore[misc]
    """The splits `train` and `validation`, with how they came about; `prepare_pairs` and `load_prepared` make them.

    Attributes:
        counts: Rows kept and dropped by every step, in the order of the steps.
        options: What they were prepared with.
        provenance: Where the raw pairs came from, if known: generator model, task, seed.
        quality: What can be seen of the labels before they are smoothed; see `dino_st.data.quality`.
        rejected: The rows that were dropped, with `reason` and `value`, if `prepare_pairs` was told to keep them.
    """

    def __init__(
        self,
        splits: Mapping[str, Dataset],
        *,
        counts: Mapping[str, int],
        options: PreparationOptions | TripletOptions,
        provenance: Mapping[str, Any] | None = None,
        quality: Summary | None = None,
        rejected: pa.Table | None = None,
    ) -> None:
        super().__init__(splits)
        self.counts = dict(counts)
        self.options = options
        self.provenance = dict(provenance or {})
        self.quality = dict(quality or {})
        self.rejected = rejected


def format_counts(counts: Mapping[str, int]) -> str:
    """The counts of a preparation to print, a line a step, names on the left and numbers on the right."""
    width = max((len(name) for name in counts), default=0)
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {count:>12,}" for name, count in counts.items())


def save_prepared(
    splits: PreparedSplits, path: str | os.PathLike[str], *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Writes splits to a directory that `datasets.load_dataset(path)` reads as `train` and `validation`.

    The directory holds `data/train.parquet`, `data/validation.parquet` (unless empty), `preparation.json` (options,
    counts, provenance), the data set's card, and `rejected.jsonl` if dropped rows were kept. Each file appears whole or
    not at all, the card last; a directory whose writing was interrupted is recognised as such and may be written again.
    One written before is replaced; one that holds something else is refused with an OutputError. The provenance, as
    JSON can hold it, joins `splits.provenance`.
    """
    directory = Path(path)
    _described(splits, provenance)  # what cannot be written should leave no directory behind
    check_output(directory)
    with only_writer(directory):
        write_prepared(splits, directory, provenance=provenance)


def write_prepared(
    splits: PreparedSplits,
    directory: Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> str:
    """Writes splits into a directory that `only_writer` holds, and says what became of what was there.

    An earlier preparation stays as it is until the files of the new one are written beside its own. One with the same
    outcome is left alone; another one is replaced only with `overwrite`, or else refused with an OutputError.
    """
    record, card = _described(splits, provenance)
    check_output(directory)
    try:
        earlier = load_prepared(directory)
    except InputError:
        earlier = None  # there is none, or none that is whole
    changed = [] if earlier is None else _changes(earlier, splits, record.provenance)
    if earlier is not None and not changed:
        has_list = (directory / REJECTED).exists()
        if has_list and splits.rejected is not None and not _holds_rejected(directory, splits.rejected):
            changed = [_OTHER_PAIRS]
        elif has_list == (splits.rejected is not None):
            return f"{directory} is complete already; nothing to do"
    if changed and not overwrite:
        raise OutputError(another_preparation(directory, changed))
    make_directory(directory / "data")
    was_begun = earlier is None and (directory / PREPARATION_RECORD).exists()
    if earlier is None:
        _write_begun(directory)
    remove_leftovers(directory, directory / "data")
    written: dict[str, str] = {}
    with contextlib.ExitStack() as files:  # each appears under its name when all are written
        for split, name in FILES.items():
            if splits[split].num_rows:  # `datasets` cannot read a split without rows
                temporary = files.enter_context(replacing(directory / name))
                pq.write_table(as_table(splits[split]), temporary)
                written[split] = hash_file(temporary)
        if splits.rejected is not None:
            _write_rejected(splits.rejected, files.enter_context(replacing(directory / REJECTED)))
        _write_begun(directory)
        for old in (Path(CARD), Path(REJECTED), *FILES.values()):
            (directory / old).unlink(missing_ok=True)
    write_text(directory / PREPARATION_RECORD, _to_json(record.model_copy(update={"files": written})))
    write_text(directory / CARD, card)
    what = "that was not complete" if was_begun else ""
    if earlier is not None and changed:
        what = f"of {sum(map(len, earlier.values())):,} rows ({'; '.join(changed)})"
    return f"Written to {directory}" + (f", in place of an earlier preparation {what}" if what else "")


_OTHER_PAIRS = "other pairs, prepared in the same way"


def _changes(earlier: PreparedSplits, now: PreparedSplits, provenance: Mapping[str, Any]) -> list[str]:
    """What a preparation has otherwise than an earlier one: options, or else rows."""
    if found := changes(earlier.options.model_dump(), now.options.model_dump()):
        return found
    if earlier.counts == now.counts and all(as_table(earlier[split]) == as_table(now[split]) for split in FILES):
        return []
    return origin_changes(earlier.provenance, provenance) or [_OTHER_PAIRS]


def _holds_rejected(directory: Path, rejected: pa.Table) -> bool:
    """Whether a directory lists just these dropped pairs."""
    with (directory / REJECTED).open(encoding="utf-8", newline="\n") as lines:
        return all(found == line for found, line in zip_longest(lines, _rejected_lines(rejected)))


def _described(splits: PreparedSplits, provenance: Mapping[str, Any] | None) -> tuple[PreparationRecord, str]:
    """The record, which JSON can hold, and the card."""
    facts = {**splits.provenance, **(provenance or {})}
    known: dict[str, Any] = {"options": splits.options, "counts": splits.counts, "quality": splits.quality}
    kind = TRIPLETS if isinstance(splits.options, TripletOptions) else PAIRS
    record = PreparationRecord(format=kind, complete=True, provenance=facts, **known)
    try:
        _to_json(record)
        return record, _card(splits, facts)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the provenance cannot be written as JSON: {error}") from error


def _to_json(record: PreparationRecord) -> str:
    return json.dumps(record.model_dump(mode="json"), ensure_ascii=False, indent=2) + "\n"


def _write_begun(directory: Path) -> None:
    """Writes a record by which a directory is known as one of ours that is not complete."""
    record = PreparationRecord(complete=False, options=PreparationOptions(), counts={}, provenance={})
    write_text(directory / PREPARATION_RECORD, record.model_dump_json())


def load_prepared(path: str | os.PathLike[str]) -> PreparedSplits:
    """Reads a directory written by `save_prepared`; an InputError says that it is none, incomplete or damaged."""
    directory = Path(path)
    record, tables = read_tables(directory)
    splits: dict[str, Dataset] = {}
    for split, table in tables.items():
        if split in record.files:
            splits[split] = Dataset(table, fingerprint=record.files[split][:16])
        else:
            splits[split] = splits["train"].select([])
    return PreparedSplits(
        splits,
        counts=record.counts,
        options=record.options,
        provenance=record.provenance,
        quality=record.quality,
    )


def save_rejected(rejected: pa.Table, directory: Path) -> bool:
    """Writes the dropped pairs of a preparation that left none, and says whether it did.

    It does not where the directory holds an earlier preparation.
    """
    if (directory / PREPARATION_RECORD).exists():
        return False
    make_directory(directory)
    _write_begun(directory)
    with replacing(directory / REJECTED) as temporary:
        _write_rejected(rejected, temporary)
    return True


def _write_rejected(table: pa.Table, path: Path) -> None:
    """Writes rejected pairs as JSON lines."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_rejected_lines(table))


def _rejected_lines(table: pa.Table) -> Iterator[str]:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from (json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())


def _card(splits: PreparedSplits, provenance: Mapping[str, Any]) -> str:
    """The data set's card: a YAML header that lists the data files, and a description for people."""
    columns = splits["train"].column_names
    is_triplets = columns == list(TRIPLET_COLUMNS)
    kind = "triplets" if is_triplets else "pairs"
    is_generated = writer_of(provenance) is not None
    about = (_ABOUT_TRIPLETS if is_triplets else _ABOUT_PAIRS) if is_generated else _ABOUT_GIVEN
    title = f"{kind.capitalize()} written by a language model" if is_generated else f"{kind.capitalize()}, prepared"
    sizes = ", ".join(f"{name}: {splits[name].num_rows:,}" for name in FILES)
    steps = {name.replace("_", " "): f"{count:,}" for name, count in splits.counts.items()}
    if added := splits.counts.get("random_negatives"):
        about += (
            f" {added:,} of the pairs are random negatives that dino-st added: the two texts are of different pairs."
        )
    text = f"""\
{about}

```python
from datasets import load_dataset

splits = load_dataset("DIRECTORY")  # {sizes}
```

Columns: {", ".join(f"`{name}`" for name in columns)}.

## Where the {kind} come from

{facts_table("fact", provenance or {"provenance": "not recorded"})}

## Rows by step of the preparation

{facts_table("step", steps)}

## Options of the preparation

{facts_table("option", splits.options.model_dump(mode="json"))}
{quality_section(splits.quality)}"""
    return dataset_card(
        title,
        text,
        rows=sum(map(len, splits.values())),
        is_synthetic=is_generated,
        task_categories=[CLASSIFICATION if LABEL in columns else SIMILARITY],
        **{name: provenance[name] for name in ("language", "license") if provenance.get(name)},
    )
