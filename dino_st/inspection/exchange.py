"""Judgements to and from other programs: exports of Argilla and Label Studio read, CSV and JSONL written."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dino_st.data.columns import SENTENCE1, SENTENCE2
from dino_st.errors import DinoError, InputError, first_line
from dino_st.inspection.judgements import SCALE, SCALE_IN_WORDS, AuditPair, Judgements

logger = logging.getLogger(__name__)

Found = dict[str, dict[tuple[str, str], float | None]]
"""Judgements by annotator and the texts of a pair; None where the pair was skipped."""

_COLUMNS = (SENTENCE1, SENTENCE2, "generated", "annotator", "judged")
_SKIPPED = ("discarded",)
_UNFINISHED = ("draft", "pending")


def read_export(path: Path) -> Found:
    """Reads who judged which pair how in an export of Argilla or Label Studio, a JSON list or a record a line.

    Argilla: `records.to_json`, or `records.to_list(flatten=True)` as JSON. Label Studio: JSON or JSON-MIN. Records have
    the fields `sentence1` and `sentence2`, and one question whose answers are on the scale, as numbers or choices. Of
    several answers of one annotator to a pair the first counts, which is told. An InputError says that it cannot be
    read, is no such export, or has an answer that is not on the scale.
    """
    found: Found = {}
    stateless = again = 0
    originals: dict[str, str] = {}
    for place, record in enumerate(_records(path), start=1):
        where = f"{path}, record {place}"
        if not isinstance(record, Mapping):
            raise InputError(f"{where}: is no record; expected an export of Argilla or Label Studio")
        try:
            texts, answers = _read_record(record, where)
            stateless += bool(answers) and _has_no_states(record)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, DinoError):
                raise
            what = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"{where}: is no record of Argilla or Label Studio as they export it ({what})") from error
        for person, judged in answers:
            name = re.sub("[^A-Za-z0-9_-]+", "-", person).strip("-_")[:40] or "annotator"
            if originals.setdefault(name, person) != person:
                raise InputError(
                    f"{path}: the annotators {originals[name]!r} and {person!r} would both be {name!r}, a part of "
                    "a file's name; rename one of them in the export"
                )
            again += texts in found.setdefault(name, {})
            found[name].setdefault(texts, judged)
    if not found:
        raise InputError(f"{path}: holds no finished judgement")
    if again:
        logger.warning(
            "%s: %d answers are about pairs that the same annotator answered in an earlier record; the first counts",
            path,
            again,
        )
    if stateless:
        logger.warning(
            "%s: the answers of %d records do not say whether they were submitted; drafts and discarded ones are taken "
            "as judgements. Argilla's `records.to_list(flatten=True)` says it",
            path,
            stateless,
        )
    return found


def _records(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected an export as JSON") from None
    try:
        content = json.loads(text)
    except ValueError:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise InputError(f"{path}: is no JSON; expected an export of Argilla or Label Studio") from None
    return content if isinstance(content, list) else [content]


def _read_record(record: Mapping[str, Any], where: str) -> tuple[tuple[str, str], list[tuple[str, float | None]]]:
    """The texts of a record, and its answers by annotator, whichever program wrote it."""
    if isinstance(record.get("fields"), Mapping):  # Argilla
        texts, answers = record["fields"], _argilla(record.get("responses") or {}, where)
    elif isinstance(record.get("data"), Mapping):  # Label Studio
        texts, answers = record["data"], _label_studio(record.get("annotations") or [], where)
    elif "annotation_id" in record:  # Label Studio, JSON-MIN
        known = {*_PLAIN, SENTENCE1, SENTENCE2}
        value = _only({name: value for name, value in record.items() if name not in known}, where)
        texts, answers = record, [] if value is None else [(str(record.get("annotator")), _judged(value, where))]
    else:  # Argilla, flat
        texts, answers = record, _argilla_flat(record, where)
    pair = tuple(texts.get(name) for name in (SENTENCE1, SENTENCE2))
    if not all(isinstance(text, str) for text in pair):
        raise InputError(f"{where}: has the fields {sorted(texts)}; expected the texts sentence1 and sentence2")
    return pair, answers


_PLAIN = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
"""What Label Studio adds to each record of JSON-MIN."""


def _argilla(responses: Mapping[str, Any], where: str) -> list[tuple[str, float | None]]:
    given = _only({name: answers for name, answers in responses.items() if answers}, where) or []
    return _finished(((answer["user_id"], answer["value"], answer.get("status")) for answer in given), where)


def _has_no_states(record: Mapping[str, Any]) -> bool:
    """Whether this is Argilla's nested form, and none of its answers says whether it was submitted."""
    return isinstance(record.get("fields"), Mapping) and not any(
        "status" in answer for given in record["responses"].values() for answer in given
    )


def _finished(answers: Iterable[tuple[Any, Any, Any]], where: str) -> list[tuple[str, float | None]]:
    """Who judged how, of Argilla's answers (person, value, state): without drafts, and None for what was discarded."""
    return [
        (str(person), None if state in _SKIPPED else _judged(value, where))
        for person, value, state in answers
        if state not in _UNFINISHED
    ]


def _argilla_flat(record: Mapping[str, Any], where: str) -> list[tuple[str, float | None]]:
    questions = {name: value for name, value in record.items() if name.endswith(".responses") and value}
    if not questions and not any(name.endswith(".responses") for name in record):
        raise InputError(f"{where}: has the fields {sorted(record)}; expected an export of Argilla or Label Studio")
    if not questions:
        return []
    values = _only(questions, where)
    name = next(iter(questions))
    states = record.get(f"{name}.status") or [None] * len(values)
    return _finished(zip(record[f"{name}.users"], values, states, strict=True), where)


def _label_studio(annotations: Sequence[Mapping[str, Any]], where: str) -> list[tuple[str, float | None]]:
    answers: list[tuple[str, float | None]] = []
    for annotation in annotations:
        person = annotation.get("completed_by")
        name = str(person.get("email") or person.get("id") if isinstance(person, Mapping) else person)
        if annotation.get("was_cancelled"):
            answers.append((name, None))
            continue
        results = {result.get("from_name"): result.get("value") for result in annotation.get("result") or []}
        value = _only(results, where)
        if value is not None:
            answers.append((name, _judged(value, where)))
    return answers


def _only(questions: Mapping[Any, Any], where: str) -> Any:
    """The answers to the only question; None where there is none."""
    if len(questions) > 1:
        raise InputError(
            f"{where}: answers {len(questions)} questions ({', '.join(map(str, questions))}); expected one"
        )
    return next(iter(questions.values()), None)


def _judged(value: Any, where: str) -> float:
    """An answer on the scale, however it is wrapped."""
    plain = value
    while isinstance(plain, Mapping | list) and len(plain) == 1:
        plain = next(iter(plain.values() if isinstance(plain, Mapping) else plain))
    try:
        judged = math.nan if isinstance(plain, bool) else float(plain)
    except (TypeError, ValueError):
        judged = math.nan
    if judged not in SCALE:
        raise InputError(f"{where}: the answer {value!r:.80} is not on the scale; expected {SCALE_IN_WORDS}")
    return judged + 0.0


def judgement_rows(judgements: Judgements) -> Iterator[dict[str, Any]]:
    """A row for each judgement: the pair, its assigned score, the annotator, and what was judged (None if skipped)."""
    for annotator, answers in judgements.by_annotator.items():
        for answer in answers:
            yield {**vars(answer.pair), "annotator": annotator, "judged": answer.judged}


def as_jsonl(judgements: Judgements) -> str:
    """The judgements as JSON, a line each, in ASCII, which holds every text as it is."""
    return "".join(json.dumps(row) + "\n" for row in judgement_rows(judgements))


def as_csv(judgements: Judgements) -> str:
    """The judgements for a spreadsheet; a text that it would take for a formula begins with an apostrophe."""
    written = io.StringIO()
    writer = csv.DictWriter(written, _COLUMNS)
    writer.writeheader()
    for row in judgement_rows(judgements):
        writer.writerow({name: _no_formula(value) for name, value in row.items()})
    return written.getvalue()


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def as_questions(sample: Sequence[AuditPair]) -> str:
    """The pairs without their scores, as a JSON list to import into another program."""
    return json.dumps([{SENTENCE1: pair.sentence1, SENTENCE2: pair.sentence2} for pair in sample], indent=1) + "\n"
