"""Raw pairs in files: directories of shards, and tables in our own columns or in those of others."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations, pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.data.alignment import warn_of_alignment
from dino_st.data.cards import read_origin
from dino_st.data.columns import (
    ANCHOR,
    INSTRUCTION,
    JUDGED,
    LABEL,
    LOG_PROBS,
    PLAIN_LOG_PROB,
    PROVENANCE_COLUMNS,
    SCORE,
    SENTENCE1,
    SENTENCE2,
    TEXT,
)
from dino_st.data.shards import MANIFEST, ShardDirectory
from dino_st.data.tables import (
    Row,
    as_number,
    name_unused,
    number_value,
    pick_columns,
    table_rows,
    text_value,
    write_json_objects,
)
from dino_st.errors import InputError
from dino_st.support.files import PREPARATION_RECORD
from dino_st.support.objects import Place
from dino_st.support.progress import logger

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


PAIR_NAMES = {
    SENTENCE1: ("text_a", "text1", "sentence_a"),
    SENTENCE2: ("text_b", "text2", "sentence_b"),
    SCORE: ("similarity_score", "similarity", "relatedness_score"),
    LABEL: (),
    TEXT: (),
}
"""The columns of pairs, and under which other names files have them."""

_NO_SCORES = frozenset((-1, -2, -9, -10, -99, -100, -999, -1000, -9999, 99, 999, 9999, 99999))
"""Numbers that stand for a missing score in many data sets."""

_UNLIKELY = 1e-6

_END_OF_A_SCALE, _ENOUGH, _RARE = 5, 50, 0.04
"""Where the scale of the STS tasks ends, from how many scores on a few beyond it are told, and how many are few."""

_DROP, _MANY_BEYOND = 3, 0.1
"""How many times fewer scores just above the end of a scale than just below tell, and the share far above."""

_LETTERS, _ALIKE, _COMPARED = 5, 0.93, 100
"""Letters of a label that may be one that begins with it, the share of letters that two spellings of one have in common
(`grammatical` and `ungrammatical` have 0.92), and labels that are compared."""

_MORE = (*PROVENANCE_COLUMNS, INSTRUCTION, LOG_PROBS, PLAIN_LOG_PROB, JUDGED)
_EXPECTED = "expected sentence1, sentence2 and score (or label), or text and label"
_REQUIRED_COLUMNS = ((SENTENCE1, SENTENCE2, SCORE), (SENTENCE1, SENTENCE2, LABEL), (TEXT, LABEL))


def pair_columns(names: Sequence[str], where: str) -> dict[str, str]:
    """Which columns hold what, of pairs or of single texts; two that may hold the score are refused."""
    found = pick_columns(names, PAIR_NAMES, where)
    found.pop(TEXT if SENTENCE1 in found else SCORE if TEXT in found else "", None)
    if TEXT in found and SENTENCE2 in found:
        raise InputError(
            f"{where}: has {found[TEXT]!r} beside {found[SENTENCE2]!r}, so these may be pairs; rename the first to "
            f"{SENTENCE1!r}, or remove the second"
        )
    if SCORE in found and LABEL in found:
        raise InputError(f"{where}: has both {found[SCORE]!r} and {found[LABEL]!r}; remove one of them")
    return found


class PairColumns:
    """Chooses the columns of pairs or single texts; `found` says what they are called in the file."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def __call__(self, names: Sequence[str], where: str) -> dict[str, str]:
        """The choice for a table with such names; see `dino_st.data.tables.Choice`."""
        found = pair_columns(names, where)
        if not any(set(required) <= set(found) for required in _REQUIRED_COLUMNS):
            hint = "; these are triplets, `dino-st prepare-triplets` is for them" if ANCHOR in names else ""
            raise InputError(f"{where}: has the fields {list(names)}; {_EXPECTED}{hint}")
        found |= {name: name for name in _MORE if name in names}
        self.found.update(found)
        return found


def read_pairs(path: str | os.PathLike[str]) -> Dataset:
    """Reads pairs, or single texts, as `read_pair_table` does, as a data set."""
    from datasets import Dataset

    return Dataset(read_pair_table(path))


def read_pair_table(path: str | os.PathLike[str]) -> pa.Table:
    """Reads pairs, or single texts, from a table under our own names or others (`PAIR_NAMES`), provenance included.

    The columns are `sentence1`, `sentence2` and `score` (where a label is, or spells, a number in every pair) or
    `label`, or `text` and `label` where `text_b` is null throughout, or there is `text`; then what there is of the
    columns that `dino-st generate` and `score` write. Columns of other names are named in the log. An InputError names
    file, line and field.
    """
    choose = PairColumns()
    return pair_table(table_rows(path, name_unused(path, choose)), choose.found, os.fspath(path))


def pair_table(rows: Iterable[Row], source_names: Mapping[str, str], path: str) -> pa.Table:
    """The table of pairs, or single texts, of rows as `PairColumns` chose them, which knows their names in the file."""
    columns: dict[str, list[Any]] = {}
    first_of_score: dict[float, str] = {}
    first_places: dict[bool | None, str] = {}  # of a label that is, or spells, a number (if oddly: None), and of a word
    for where, row in rows:
        columns = columns or {name: [] for name in row}
        if LABEL in row:
            first_places.setdefault(_is_number(row[LABEL]), where)
        if (score := as_number(row.get(SCORE, row.get(LABEL)))) is not None:
            first_of_score.setdefault(score, where)
        for name, value in row.items():
            source = source_names[name]
            if source != "text_b" or value is not None:
                value = _VALUES[name](where, source, value)
            if source == "text_b" and columns[name] and (value is None) != (columns[name][0] is None):
                raise InputError(f"{where}: field 'text_b' is {value!r:.60}; either every row has a text there or none")
            columns[name].append(value)
    if not columns:
        raise InputError(f"{path}: holds no pairs; {_EXPECTED}")
    if SENTENCE2 in columns and columns[SENTENCE2][0] is None:
        columns[TEXT] = columns.pop(SENTENCE1)
        del columns[SENTENCE2]
    if first_places.keys() == {None} and TEXT not in columns:
        raise InputError(
            f"{first_places[None]}: field 'label' looks like a number, but not as it is written here; expected numbers "
            "such as 0.5 (with a point, neither a comma nor %), or words"
        )
    if len(first_places) > 1 and True in first_places and TEXT not in columns:
        word = first_places.get(False, first_places.get(None))
        raise InputError(
            f"{word}: field 'label' is no number, and that of {first_places[True]} is one; expected "
            "numbers throughout or words throughout"
        )
    table = _typed(columns, are_scores=True in first_places and TEXT not in columns)
    if LABEL in table.column_names:
        _check_spelling(table[LABEL].unique().to_pylist(), path)
    if SENTENCE2 in table.column_names:
        texts = table.select([SENTENCE1, SENTENCE2])
        scores = table[SCORE].to_pylist() if SCORE in table.column_names else None
        if scores is not None:
            check_scores(scores, first_of_score, path)
        warn_of_alignment(texts, path, scores)
    return table


def doubt_pairs(pairs: pa.Table, source: str) -> None:
    """Says of scored pairs that come from no file what is said of those of a table; raises as `check_scores` does."""
    import numpy as np

    scores = pairs[SCORE].to_pylist()
    distinct, places = np.unique(scores, return_index=True)
    first = {score: f"row {row} of {source}" for score, row in zip(distinct.tolist(), places.tolist(), strict=True)}
    check_scores(scores, first, source)
    warn_of_alignment(pairs.select([SENTENCE1, SENTENCE2]), source, scores)


def check_scores(scores: Sequence[float], places: Mapping[float, str], source: str) -> None:
    """Refuses scores of which one seems to stand for none, and warns where they seem to be of two scales.

    Any scale will do; `places` says where each score stands first. Raises InputError.
    """
    distinct = sorted(set(scores))
    for value in {*distinct[:1], *distinct[-1:]}:
        others = [score for score in distinct if score != value]
        is_far = bool(others) and (others[0] >= 0 and -value > others[-1] if value < 0 else 9 * others[-1] <= value)
        if others and ((value == -1 and others[0] >= 0) or (is_far and value in _NO_SCORES)):
            raise InputError(
                f"{places[value]}: the score is {value:g}, and the others are {others[0]:g} to {others[-1]:g}, so that "
                "it seems to say that there is none; leave such pairs out (or, if it is a score, add the same number "
                "to all, which changes no rank correlation)"
            )
    below = distinct[:-1]
    if (
        len(below) > 2
        and below[0] >= 0
        and below[-1] <= 5
        and distinct[-1] in (7, 8, 9)
        and distinct[-1] > below[-1] + 1
    ):
        logger.warning(
            "%s: the highest score is %g (%s), and no other is above %g; if it says that there is none, leave such "
            "pairs out",
            source,
            distinct[-1],
            places[distinct[-1]],
            below[-1],
        )
    steps = {round(after - before, 9) for before, after in pairwise(scores)}
    if len(scores) >= _ENOUGH and len(steps) == 1 and abs(min(steps)) >= 1:
        logger.warning(
            "%s: the scores count the rows, from %g to %g; is this their column?", source, *scores[:: len(scores) - 1]
        )
    beyond = [score for score in scores if score > _END_OF_A_SCALE]
    is_rare = len(scores) >= _ENOUGH and 0 < len(beyond) <= len(scores) * _RARE
    if is_rare and distinct[0] >= 0 and any(_END_OF_A_SCALE - 1 <= score <= _END_OF_A_SCALE for score in distinct):
        logger.warning(
            "%s: %d of %d scores above %d (%s says %g), where a scale may end; is that meant?",
            source,
            len(beyond),
            len(scores),
            _END_OF_A_SCALE,
            places[beyond[0]],
            beyond[0],
        )
    if distinct and distinct[0] < 0 and distinct[-1] > max(1, -2 * distinct[0]):
        logger.warning(
            "%s: scores from %g (%s) to %g; are those below 0 scores, too?",
            source,
            distinct[0],
            places[distinct[0]],
            distinct[-1],
        )
    if (above := _second_scale(scores, distinct)) is not None:
        logger.warning(
            "%s: scores seem to be of two scales, as where two files were joined: some are 0 to %g, others up to %g "
            "(%s); bring all to one",
            source,
            above,
            distinct[-1],
            places[distinct[-1]],
        )


def _second_scale(scores: Sequence[float], distinct: Sequence[float]) -> float | None:
    """The upper end of a smaller scale on which a part of the scores seems to be, if any.

    Either the others are far above it, or they stand before or behind these, of which by chance hardly so many in a row
    would be so low, or there are many scores just below it, few just above, and many far above.
    """
    for below, above in pairwise(distinct[1:]):
        are_fractions = below <= 1 and sum(0 < score < 1 for score in distinct) > 1
        if above >= (2 if are_fractions else 8) * max(below, 1):
            return max(below, 1)
    for top in (1, 5):
        for order in (scores, scores[::-1]):
            low = list(takewhile(lambda score: 0 <= score <= top, order))  # noqa: B023
            rest = order[len(low) :]
            if len(set(low)) > 2 and rest and max(low) > min(rest) and any(score % top for score in low):
                share = sum(score <= top for score in rest) / len(rest)
                if share ** len(low) < _UNLIKELY:
                    return top
    for top in (1, 5):
        just_below, just_above, beyond = (
            sum(start * top < score < end * top for score in scores)
            for start, end in ((0.5, 1), (1, 1.5), (1.5, math.inf))
        )
        if just_below > _DROP * just_above + _ENOUGH / 2 and beyond > _MANY_BEYOND * len(scores):
            return top
    return None


def _is_number(label: Any) -> bool | None:
    """Whether a label is, or spells, a number; None for what only looks like one: 0,5, 50%, nan."""
    if as_number(label) is not None or not isinstance(label, str):
        return True
    looks = any(sign.isnumeric() for sign in label) and not any(sign.isalpha() for sign in label)
    return None if looks or re.fullmatch(r"\s*[-+]?(nan|inf|infinity)\s*", label, re.IGNORECASE) else False


def _typed(columns: dict[str, list[Any]], *, are_scores: bool) -> pa.Table:
    """The columns with their types; labels may be scores."""
    import pyarrow as pa

    if are_scores:
        columns[SCORE] = [as_number(label) for label in columns.pop(LABEL)]
    elif LABEL in columns:
        columns[LABEL] = [_label_text(label) for label in columns[LABEL]]
    kinds = dict.fromkeys((SCORE, PLAIN_LOG_PROB, JUDGED), pa.float64()) | {LOG_PROBS: pa.list_(pa.float64())}
    kinds |= dict.fromkeys((SENTENCE1, SENTENCE2, TEXT, LABEL), pa.string())
    order = [name for name in (TEXT, SENTENCE1, SENTENCE2, SCORE, LABEL, *_MORE) if name in columns]
    return pa.table({name: pa.array(columns[name], kinds.get(name, pa.int64())) for name in order})


def _label_value(where: str, name: str, value: Any) -> str | float:
    is_word = isinstance(value, str) and bool(value.strip())
    return text_value(where, name, value).strip() if is_word else number_value(where, name, value)


def _check_spelling(labels: Sequence[str], path: str) -> None:
    """Refuses labels that are spelled in two ways, of which each would be a label of its own; tells of likely ones."""
    seen: dict[str, str] = {}
    for label in sorted(labels):
        other = seen.setdefault(re.sub(r"(?<=\w)[\s_-]+(?=\w)|_", "", label).casefold(), label)
        if other != label:
            raise InputError(
                f"{path}: the labels {other!r} and {label!r} would be two, though they differ in capitals, spaces "
                "or hyphens alone; spell each label in one way"
            )
    for one, other in combinations(sorted(seen)[:_COMPARED], 2):
        is_short = len(one) >= _LETTERS and other.startswith(one)
        if f"{one}{other}".isalpha() and (is_short or SequenceMatcher(None, one, other).ratio() > _ALIKE):
            logger.warning("%s: the labels %r and %r may be two spellings of one", path, seen[one], seen[other])


def _whole_number(where: str, name: str, value: Any) -> int | None:
    if value in (None, ""):
        return None
    number = as_number(value)
    if number is None or number != int(number) or abs(number) >= 2**53:
        raise InputError(
            f"{where}: field {name!r} is {value!r:.60}; expected a whole number, which dino-st writes there; rename or "
            "remove the column if it is another"
        )
    return int(number)


def _log_prob(where: str, name: str, value: Any) -> float | None:
    """A number, which may be infinite; what is wrong with it is said where it is used."""
    if value in (None, ""):
        return None
    return float(value) if str(value).strip() in ("-inf", "nan") else number_value(where, name, value)


def _log_prob_list(where: str, name: str, value: Any) -> list[float | None] | None:
    """A list of numbers, or how CSV files spell one."""
    if value in (None, ""):
        return None
    if isinstance(value, str) and value[:1] == "[" and value[-1:] == "]":
        value = [part for part in re.split(r"[\s,]+", value[1:-1]) if part]
    if not isinstance(value, list):
        raise InputError(f"{where}: field {name!r} is a {type(value).__name__}; expected a list of numbers")
    return [_log_prob(where, name, one) for one in value]


_VALUES: dict[str, Callable[[str, str, Any], Any]] = {
    **dict.fromkeys((SENTENCE1, SENTENCE2, TEXT), text_value),
    **dict.fromkeys((*PROVENANCE_COLUMNS, INSTRUCTION), _whole_number),
    SCORE: number_value,
    LABEL: _label_value,
    LOG_PROBS: _log_prob_list,
    PLAIN_LOG_PROB: _log_prob,
    JUDGED: number_value,
}


def write_jsonl(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a data set as JSON lines with the columns as fields; the file appears whole or not at all."""
    write_json_objects(path, dataset.with_format(None))


def read_reference_jsonl(path: str | os.PathLike[str]) -> Dataset:
    """Reads a data set in the format of the published implementation; `read_pairs` reads it among others.

    Args:
        path: A file with one object of `text_a`, `text_b` and `label` a line. Blank lines are skipped.

    Returns:
        Columns `sentence1`, `sentence2` and, where every label is a number or spells one, `score` (float), else
        `label` (string). Where `text_b` is null throughout: `text` and `label` (string).

    Raises:
        InputError: The file cannot be read, or a line is not what is expected; the message names file, line and
            field.
    """
    return read_pairs(path)


def _label_text(label: str | float) -> str:
    """A label as the published task specifications spell it: 0, 0.5, 1."""
    return label if isinstance(label, str) else format(label, ".15g")


def check_not_prepared(raw: Place) -> None:
    """Refuses a directory of `dino-st prepare`, or a file of its splits, which may have what is for raw data."""
    whole = raw
    if isinstance(raw, Path):  # the splits lie in the folder `data`
        whole = next((place.parent for place in (raw, raw.parent) if place.name == "data"), raw)
    if any((place / PREPARATION_RECORD).is_file() for place in (raw, whole)):
        raise InputError(f"{raw}: is prepared already; train on it, or give the directory of `dino-st generate`")


def read_raw(raw: Place) -> tuple[pa.Table, dict[str, Any], list[float] | None]:
    """Reads raw rows from a directory of shards or a table (see `read_pairs`).

    Returns the rows; model, versions and configuration, as far as they are known; the scores, in the order of the
    task's labels, if the task is known and its labels are numbers.
    """
    from dino_st.tasks.spec import TaskSpec

    check_not_prepared(raw)
    if isinstance(raw, Path) and not (raw / MANIFEST).is_file():
        return read_pair_table(raw), {"raw": raw.name}, None
    directory = ShardDirectory.to_read(raw)
    configuration = directory.configuration
    if configuration.get("shard"):
        logger.warning("%s is shard %s of a data set; `dino-st merge` joins them", raw, configuration["shard"])
    table = directory.table()
    if ANCHOR in table.column_names:
        raise InputError(f"{raw}: holds triplets, not pairs; `dino-st prepare-triplets` is for them")
    spec = TaskSpec.load(configuration["task"])
    provenance = {name: directory.provenance[name] for name in ("model", "versions")} | configuration
    provenance |= read_origin(raw)
    labels = [float(label) for label in spec.labels] if spec.has_scores else None
    return table, provenance, labels
