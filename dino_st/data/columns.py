"""The columns of pairs and triplets, the rows of raw pairs, and the check that pairs can be trained on.

Raw pairs are a `datasets.Dataset` with `sentence1`, `sentence2` and either `score` (labels that are numbers) or
`label` (labels that are not), followed by the provenance columns. Single texts have `text` and `label` instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dino_st.errors import DatasetError
from dino_st.support.text import is_blank

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pyarrow as pa
    from datasets import Dataset
    from numpy.typing import NDArray

    from dino_st.tasks.spec import TaskSpec

SENTENCE1 = "sentence1"
SENTENCE2 = "sentence2"
SCORE = "score"
LABEL = "label"
TEXT = "text"

PAIR_COLUMNS = (SENTENCE1, SENTENCE2, SCORE)
"""The columns of a training set, in the order in which sentence-transformers reads them."""

ANCHOR, POSITIVE, NEGATIVE = TRIPLET_COLUMNS = ("anchor", "positive", "negative")
"""The columns of triplets, in the order in which sentence-transformers reads them."""

LOG_PROBS = "log_probs"
"""A list of floats, one for each label of the task in the task's order: log p(x2, closing mark | I_y(x1)), in nats.

Tokens that are never drawn, such as end-of-text, have no share of the probability, unless a server scored the text."""

PLAIN_LOG_PROB = "plain_log_prob"
"""log p(x2) without an instruction, in nats; filters divide it by `num_tokens`."""

INSTRUCTION = "instruction"
"""Which of a label's instructions a text was written for: an integer, 0 for the first."""

JUDGED = "judged"
"""How similar a judge says the two sentences are, from 0 to 1."""

NUM_TOKENS = "num_tokens"
"""Tokens of x2, the closing mark included."""

PROVENANCE_COLUMNS = ("x1_index", "sample", "tries", NUM_TOKENS)
"""Where a raw pair comes from, as integers: the position of x1 in the deduplicated input, the number of the draw among
those for the same x1 and label, the draws that it took (1 when the first was accepted), and tokens of x2."""


ROWS_HASH = " sha256"
"""What stands behind the name of a split where a record has the hash of its rows."""

ROWS_AT_ONCE = 10_000
"""Rows that are looked at together where they must be Python's."""

_PLAIN_JSON = r"^[ !#-\[\]-~]*$"
"""Texts that JSON only puts between quotation marks."""

_SURELY_VISIBLE = r"[!-~\p{Lu}\p{Ll}\p{P}\p{N}]"
"""What stands in almost every text, so that few are looked at sign by sign."""

_ROWS_OF_A_CHUNK = 100
"""Rows of a chunk, in the mean, below which chunks are joined."""


def raw_schema(spec: TaskSpec, *, score_labels: bool = False) -> pa.Schema:
    """The columns that a task's raw rows have: texts, `score` or `label`, where each comes from, and more."""
    import pyarrow as pa

    texts = (SENTENCE1, SENTENCE2) if spec.needs_input else (TEXT,)
    provenance = PROVENANCE_COLUMNS if spec.needs_input else PROVENANCE_COLUMNS[1:]
    columns = [(name, pa.string()) for name in texts]
    columns.append((SCORE, pa.float64()) if spec.has_scores else (LABEL, pa.string()))
    columns += [(name, pa.int64()) for name in provenance]
    if spec.phrasings > 1:
        columns.append((INSTRUCTION, pa.int64()))
    if score_labels and spec.needs_input:
        columns.append((LOG_PROBS, pa.list_(pa.float64())))
    return pa.schema(columns)


def raw_pair(
    spec: TaskSpec, label: str, x1: str | None, x2: str | None, provenance: tuple[int, ...], phrasing: int
) -> dict[str, Any]:
    """A row of a task that takes sentences; `provenance` as in `PROVENANCE_COLUMNS`."""
    value: dict[str, Any] = {SCORE: float(label)} if spec.has_scores else {LABEL: label}
    places = dict(zip(PROVENANCE_COLUMNS, provenance, strict=True))
    return {SENTENCE1: x1, SENTENCE2: x2} | value | places | {INSTRUCTION: phrasing}


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are text, also encoded as a dictionary or as views; bytes are none."""
    import pyarrow as pa

    return str(kind.value_type if pa.types.is_dictionary(kind) else kind) in ("string", "large_string", "string_view")


def text_column(column: pa.ChunkedArray, name: str, whose: str, hint: str = "") -> pa.ChunkedArray:
    """A column of text (see `is_text`) as strings."""
    import pyarrow as pa

    if not is_text(column.type):
        raise DatasetError(f"column {name!r} of {whose} holds {column.type}; expected text{hint}")
    return column if str(column.type) in ("string", "large_string") else column.cast(pa.string())


def blank_texts(texts: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Of which texts nothing can be seen, shape `(texts,)`; see `is_blank`."""
    import pyarrow.compute as pc

    blank: NDArray[np.bool_] = ~pc.match_substring_regex(texts, _SURELY_VISIBLE).to_numpy(zero_copy_only=False)
    for place in blank.nonzero()[0].tolist():
        blank[place] = is_blank(texts[place].as_py())
    return blank


def refuse_blank(table: pa.Table, columns: Sequence[str], name: str) -> None:
    """Raises a `DatasetError` where a text of these columns is blank; for what is used row by row, without counts."""
    for column in columns:
        rows = blank_texts(table[column]).nonzero()[0]
        if len(rows):
            raise DatasetError(
                f"column {column!r} of {name} is blank in row {rows[0]}; leave such rows out, as `dino-st prepare` and "
                "`prepare-triplets` do"
            )


def as_table(dataset: Dataset | pa.Table, name: str = "the data set") -> pa.Table:
    """The rows of a data set, which may be a table already, with the names of classes in place of their numbers.

    Raises DatasetError where it is neither, or changes its rows as they are read.
    """
    import pyarrow as pa

    if isinstance(dataset, pa.Table):
        return dataset
    from datasets import Dataset

    if isinstance(dataset, dict) and all(isinstance(split, Dataset | pa.Table) for split in dataset.values()):
        raise DatasetError(f"{name} has the splits {list(dataset)}; pass one of them, such as splits['train']")
    if not isinstance(dataset, Dataset):
        way = {"dict": "from_dict", "list": "from_list", "DataFrame": "from_pandas"}.get(type(dataset).__name__)
        hint = f", as Dataset.{way} makes it" if way else ""
        raise DatasetError(f"{name} is a {type(dataset).__name__}; expected a datasets.Dataset{hint}")
    if dataset.format["type"] == "custom":
        raise DatasetError(
            f"{name} has a transform (set_transform or with_transform), which changes rows as they are read and would "
            "be left out; write what it makes into the data set (dataset.map), or take it off (dataset.reset_format())"
        )
    table: pa.Table = _with_names(dataset.with_format("arrow")[:], dataset)
    scattered = table.num_columns and table.column(0).num_chunks * _ROWS_OF_A_CHUNK > len(table)
    return table.combine_chunks() if scattered else table  # selected rows are a chunk each, for which all is done anew


def _with_names(table: pa.Table, dataset: Dataset) -> pa.Table:
    """Puts the names of classes (`datasets.ClassLabel`) in place of their numbers, as numbers where all spell some."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import ClassLabel

    for place, column in enumerate(table.column_names):
        feature = dataset.features[column]
        if isinstance(feature, ClassLabel):
            names = pa.array(feature.names, pa.string())
            with contextlib.suppress(pa.ArrowInvalid):
                names = pc.cast(names, pa.float64())
            numbers = table[column]
            numbers = pc.if_else(pc.less(numbers, 0), None, numbers)  # -1 stands for none
            table = table.set_column(place, column, pc.take(names, numbers))
    return table


def rows_hash(table: pa.Table) -> str:
    """Sixteen hexadecimal digits of a SHA-256 of all rows as JSON, however the table is cut into chunks."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    digest = hashlib.sha256()
    opens, comma, closes, nothing = (pa.scalar(sign, pa.large_string()) for sign in ("[", ", ", "]", ""))
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        cells = [part for column in batch.columns for part in (comma, _json_values(column))][1:]
        rows = pc.binary_join_element_wise(opens, *cells, closes, nothing)
        _, ends, letters = rows.buffers()  # one row directly behind the other
        digest.update(memoryview(letters)[: np.frombuffer(ends, np.int64)[len(rows)]] if len(rows) else b"")
    return digest.hexdigest()[:16]


def _json_values(column: pa.Array) -> pa.LargeStringArray:
    """The values as `json.dumps` writes them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.large_string()
    if pa.types.is_floating(column.type) and len(column):
        return pa.array(json.dumps(column.to_pylist())[1:-1].split(", "), kind)
    if column.null_count or not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return pa.array([json.dumps(value) for value in column.to_pylist()], kind)
    texts, quote = column.cast(kind), pa.scalar('"', kind)
    is_plain = pc.match_substring_regex(texts, _PLAIN_JSON)
    written = pc.binary_join_element_wise(quote, texts, quote, pa.scalar("", kind))
    others = [json.dumps(text) for text in texts.filter(pc.invert(is_plain)).to_pylist()]
    return pc.replace_with_mask(written, pc.invert(is_plain), pa.array(others, kind))


def numeric_pairs(dataset: Dataset | pa.Table, *, name: str = "the data set") -> pa.Table:
    """A table of the columns of pairs that can be trained on: two strings and a float64, ordered as `PAIR_COLUMNS`.

    Further columns are left out, so that none of them becomes a third text. Raises DatasetError where the data set is
    not a single `datasets.Dataset`, a column is missing, labels are not numbers, or a value is missing or not finite.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = as_table(dataset, name)
    _check_columns(table.column_names, name)
    table = table.select(list(PAIR_COLUMNS))
    for place, column in enumerate((SENTENCE1, SENTENCE2)):
        table = table.set_column(place, column, text_column(table[column], column, name))
    kind = table.schema.field(SCORE).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise DatasetError(
            f"column {SCORE!r} of {name} holds {kind}; the training part is for numeric labels, such as 0.5"
        )
    scores = pc.cast(table[SCORE], pa.float64())
    table = table.set_column(2, SCORE, scores)
    usable = pc.fill_null(pc.is_finite(scores), False)
    for column in (SENTENCE1, SENTENCE2):
        usable = pc.and_(usable, pc.is_valid(table[column]))
    row = pc.index(usable, False).as_py()
    if row >= 0:
        raise DatasetError(
            f"row {row} of {name} is {table.slice(row, 1).to_pylist()[0]}; expected two texts and a finite score"
        )
    return table


def _check_columns(columns: Sequence[str], name: str) -> None:
    """Raises unless the three columns of a pair with a score are there."""
    if SCORE not in columns and LABEL in columns:
        raise DatasetError(
            f"{name} has the column {LABEL!r} and no {SCORE!r}: the training part is for numeric labels. If these are "
            f"numbers, rename the column: dataset.rename_column({LABEL!r}, {SCORE!r})"
        )
    missing = [column for column in PAIR_COLUMNS if column not in columns]
    if missing:
        raise DatasetError(f"{name} has the columns {columns}; missing: {missing}")
