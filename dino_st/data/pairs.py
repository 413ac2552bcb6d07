"""Raw pairs in files: JSON lines in our own columns or in those of the published code, and directories of shards."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dino_st.data.columns import ANCHOR, LABEL, PROVENANCE_COLUMNS, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.data.shards import ShardDirectory
from dino_st.data.tables import json_objects, write_json_objects
from dino_st.errors import DatasetError, InputError, suggest
from dino_st.support.files import PREPARATION_RECORD
from dino_st.support.progress import logger

if TYPE_CHECKING:
    from datasets import Dataset


_REFERENCE_KEYS = ("text_a", "text_b", "label")
_COLUMN_KINDS: dict[str, type] = {
    SENTENCE1: str,
    SENTENCE2: str,
    SCORE: float,
    LABEL: str,
    TEXT: str,
    **dict.fromkeys(PROVENANCE_COLUMNS, int),
}
_REQUIRED_COLUMNS = ((SENTENCE1, SENTENCE2, SCORE), (SENTENCE1, SENTENCE2, LABEL), (TEXT, LABEL))


def read_jsonl(path: str | os.PathLike[str]) -> Dataset:
    """Reads pairs or single texts as `write_jsonl` writes them: the same fields in every line, named like our columns.

    Raises:
        InputError: The file cannot be read, or a line is not what is expected; the message names file, line and
            field.
    """
    rows: list[dict[str, Any]] = []
    for where, row in json_objects(path):
        if not rows and not any(set(required) <= set(row) for required in _REQUIRED_COLUMNS):
            raise InputError(
                f"{where}: has the fields {list(row)}; expected sentence1, sentence2 and score (or label), or text "
                "and label"
            )
        if rows and row.keys() != rows[0].keys():
            raise InputError(f"{where}: has the fields {list(row)}; the lines before it have {list(rows[0])}")
        rows.append({name: _column_value(where, name, value) for name, value in row.items()})
    return _to_dataset(path, rows)


def write_jsonl(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a data set as JSON lines with the columns as fields; the file appears whole or not at all."""
    write_json_objects(path, dataset.with_format(None))


def read_reference_jsonl(path: str | os.PathLike[str]) -> Dataset:
    """Reads a data set in the format of the published implementation.

    Args:
        path: A file with one object of `text_a`, `text_b` and `label` a line. Blank lines are skipped.

    Returns:
        Columns `sentence1`, `sentence2` and, where every label is a number or spells one, `score` (float), else
        `label` (string). Where `text_b` is null throughout: `text` and `label` (string).

    Raises:
        InputError: The file cannot be read, or a line is not what is expected; the message names file, line and
            field.
    """
    rows: list[dict[str, Any]] = []
    for where, row in json_objects(path):
        _check_reference_row(where, row)
        if rows and (row["text_b"] is None) != (rows[0]["text_b"] is None):
            raise InputError(
                f"{where}: field 'text_b' is {row['text_b']!r}; either every line has a text there or none"
            )
        rows.append(row | {"where": where})
    if not rows:
        raise InputError(f"{os.fspath(path)}: holds no pairs; expected one JSON object a line")
    if rows[0]["text_b"] is None:
        return _to_dataset(path, [{TEXT: row["text_a"], LABEL: _label_text(row["label"])} for row in rows])
    scores = [_number(row["label"]) for row in rows]
    numeric = None not in scores
    values: list[Any] = scores if numeric else [_non_numeric_label(row) for row in rows]
    column = SCORE if numeric else LABEL
    return _to_dataset(
        path,
        [
            {SENTENCE1: row["text_a"], SENTENCE2: row["text_b"], column: value}
            for row, value in zip(rows, values, strict=True)
        ],
    )


def write_reference_jsonl(
    dataset: Dataset, path: str | os.PathLike[str], *, labels: Literal["auto", "string", "number"] = "auto"
) -> None:
    """Writes pairs or single texts in the format of the published implementation, without their other columns.

    Args:
        dataset: Pairs with `score` or `label`, or single texts with `label`.
        path: The file; an existing one is replaced, whole or not at all.
        labels: How to write scores: as strings such as "0.5", as the published generator does, or as numbers, as
            its preparation does. `auto` writes strings where the data set has provenance columns, which are gone
            after preparation.

    Raises:
        DatasetError: The data set lacks columns, or its labels are not numbers and numbers were asked for.
        OutputError: The file cannot be written.
    """
    columns = set(dataset.column_names)
    if not any(set(required) <= columns for required in _REQUIRED_COLUMNS):
        raise DatasetError(
            f"the data set has the columns {dataset.column_names}; expected sentence1, sentence2 and score (or label), "
            "or text and label"
        )
    if labels == "number" and SCORE not in columns:
        raise DatasetError("labels='number' was asked for, but the labels of this data set are not numbers")
    if labels == "auto":
        labels = "string" if columns & set(PROVENANCE_COLUMNS) else "number"

    def rows() -> Iterator[dict[str, Any]]:
        for row in dataset.with_format(None):
            score = row.get(SCORE)
            label = row.get(LABEL) if score is None else (_label_text(score) if labels == "string" else score)
            first, second = (row[SENTENCE1], row[SENTENCE2]) if SENTENCE1 in row else (row[TEXT], None)
            yield dict(zip(_REFERENCE_KEYS, (first, second, label), strict=True))

    write_json_objects(path, rows())


def _column_value(where: str, name: str, value: Any) -> str | float | int:
    """Checks the value of one of our own columns."""
    if name not in _COLUMN_KINDS:
        raise InputError(f"{where}: there is no field {name!r}: {suggest(name, _COLUMN_KINDS)}")
    kind = _COLUMN_KINDS[name]
    number = None if isinstance(value, str) else _number(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is float and number is not None:
        return number
    if kind is int and isinstance(value, int) and number is not None and abs(number) < 2**62:
        return value
    wanted = {float: "a finite number", int: "a whole number", str: "a text"}[kind]
    raise InputError(f"{where}: field {name!r} is {value!r}; expected {wanted}")


def _check_reference_row(where: str, row: Mapping[str, Any]) -> None:
    """Raises unless the object has the three fields of the published format with the right kinds of values."""
    for name in row:
        if name not in _REFERENCE_KEYS:
            raise InputError(f"{where}: there is no field {name!r}: {suggest(name, _REFERENCE_KEYS)}")
    for name in _REFERENCE_KEYS:
        if name not in row:
            raise InputError(f"{where}: field {name!r} is missing; expected the fields {list(_REFERENCE_KEYS)}")
    if not isinstance(row["text_a"], str):
        raise InputError(f"{where}: field 'text_a' is {row['text_a']!r}; expected a text")
    if not isinstance(row["text_b"], str | None):
        raise InputError(f"{where}: field 'text_b' is {row['text_b']!r}; expected a text or null")
    label = row["label"]
    if not isinstance(label, str) and _number(label) is None:
        raise InputError(f"{where}: field 'label' is {label!r}; expected a string or a finite number")


def _number(value: Any) -> float | None:
    """The finite number that a value is or spells, if any."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _non_numeric_label(row: Mapping[str, Any]) -> str:
    """The label of a file in which some label spells no number: all of them have to be strings then."""
    if isinstance(row["label"], str):
        return row["label"]
    raise InputError(
        f"{row['where']}: field 'label' is the number {row['label']!r}, while other lines have labels that are not "
        "numbers; expected numbers throughout or strings throughout"
    )


def _label_text(label: str | float) -> str:
    """A label as the published task specifications spell it: 0, 0.5, 1."""
    return label if isinstance(label, str) else format(label, ".15g")


def _to_dataset(path: str | os.PathLike[str], rows: list[dict[str, Any]]) -> Dataset:
    """Makes the data set of rows that all have the same keys."""
    from datasets import Dataset

    if not rows:
        raise InputError(f"{os.fspath(path)}: holds no pairs; expected one JSON object a line")
    return Dataset.from_dict({name: [row[name] for row in rows] for name in rows[0]})


def read_raw(raw: Path) -> tuple[Dataset, dict[str, Any], list[float] | None]:
    """Reads raw rows from a directory of shards or a JSONL file, in our own columns or those of the published code.

    Returns:
        The rows; model, versions and configuration, as far as they are known; the scores, in the order of the task's
        labels, if the task is known and its labels are numbers.

    Raises:
        InputError: If there is nothing of the kind, or a shard is damaged.
    """
    from dino_st.tasks.spec import TaskSpec

    if raw.is_file():
        with raw.open(encoding="utf-8", errors="replace") as file:
            is_reference = '"text_a"' in next((line for line in file if line.strip()), "")
        return (read_reference_jsonl if is_reference else read_jsonl)(raw), {"raw": raw.name}, None
    if not raw.exists():
        raise InputError(f"{raw}: there is no such file or directory; expected a directory of `dino-st generate`")
    if (raw / PREPARATION_RECORD).is_file():
        raise InputError(f"{raw}: is prepared already; train on it, or give the directory of `dino-st generate`")
    directory = ShardDirectory.to_read(raw, "a directory of `dino-st generate`, or a .jsonl file of pairs")
    configuration = directory.configuration
    if configuration.get("shard"):
        logger.warning("%s is shard %s of a data set; `dino-st merge` joins them", raw, configuration["shard"])
    dataset = directory.to_dataset()
    if ANCHOR in dataset.column_names:
        raise InputError(f"{raw}: holds triplets, not pairs; `dino-st prepare-triplets` is for them")
    spec = TaskSpec.load(configuration["task"])
    provenance = {name: directory.provenance[name] for name in ("model", "versions")} | configuration
    labels = [float(label) for label in spec.labels] if spec.has_scores else None
    return dataset, provenance, labels
