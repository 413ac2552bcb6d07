"""The sections of a report: pictures, tables and remarks, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dino_st.audit_table import SCALE, confusion
from dino_st.columns import LABEL, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.confidence import percent
from dino_st.report_data import Findings
from dino_st.report_figures import counts_by_label, overlap_by_label, reasons, training_curve, words_by_label
from dino_st.report_rows import LabelledRows
from dino_st.score_table import AVERAGE, PAPER_COLUMNS, PUBLISHED_ROWS, PUBLISHED_SOURCE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NEAR_COPY = 0.9
_NOT_REASONS = ("inputs", "rows", "draws", "tries", "tokens")


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        name: Of its file, without suffix.
        description: What it shows, for those who do not see it.
        figure: The picture.
    """

    name: str
    description: str
    figure: Figure


@dataclass(frozen=True)
class Table:
    """A table of the page; everything in it is plain text.

    Attributes:
        head: Names of the columns.
        rows: Cells, as many a row as there are names.
        caption: What it shows.
        bold: Row and column of cells that stand out.
        texts: Columns that hold text to read and not numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    bold: frozenset[tuple[int, int]] = frozenset()
    texts: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: Its heading.
        notes: Remarks, one a paragraph; where there is nothing to show, the reason.
        pictures: Side by side.
        tables: Below.
    """

    title: str
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def overview_section(findings: Findings, sets: Sequence[LabelledRows]) -> Section:
    """What lies in the directory, and what was left out or sampled."""
    notes, facts = [], []
    for part in findings.sets:
        if part.is_triplets:
            notes.append(f"The {part.kind} rows are triplets, which have no labels; their texts are not looked at.")
        state = "" if part.complete else " (generation has not finished)"
        facts.append((f"{part.kind} rows", f"{part.table.num_rows:,}{state}"))
        facts += [(f"{part.kind}: {name}", str(value)) for name, value in part.facts.items()]
    for rows in sets:
        kind = rows.source.kind
        if rows.is_sample:
            notes.append(
                f"Statistics of the {kind} texts are computed on {rows.table.num_rows:,} of {int(rows.totals.sum()):,} "
                "rows, drawn at random with a fixed seed; numbers of rows count all."
            )
        if rows.is_nearest:
            levels = ", ".join(rows.groups)
            notes.append(f"The {kind} rows have too many different scores; each counts under the nearest of {levels}.")
        notes += [f"{count:,} {kind} rows {reason} are left out." for reason, count in rows.left_out.items()]
    if findings.training is not None:
        run = findings.training
        facts += [("encoder before training", run.encoder), ("training", run.status)]
    if findings.scores is not None:
        facts.append(("evaluated models", ", ".join(findings.scores)))
    return Section("What is here", notes, (), [Table(("", ""), facts, texts=frozenset({0, 1}))] if facts else ())


def scores_section(sets: Sequence[LabelledRows]) -> Section:
    """How many rows each label has."""
    pictures = [
        Picture(
            f"labels-{rows.source.kind}",
            f"Number of {rows.source.kind} rows for each assigned label",
            counts_by_label(rows.groups, rows.totals.tolist(), title=f"{rows.source.kind} rows"),
        )
        for rows in sets
    ]
    notes = []
    if any(len(rows.groups) == 1 for rows in sets):
        notes.append("There is one label only: an encoder cannot learn to tell labels apart from these rows.")
    return Section("Labels", notes, pictures)


def lengths_section(sets: Sequence[LabelledRows]) -> Section:
    """How long the texts are."""
    pictures, tables = [], []
    for rows in sets:
        kind = rows.source.kind
        columns = {name: rows.by_group(values) for name, values in rows.words.items()}
        figure = words_by_label(columns, rows.groups, title=f"Words of a text, {kind} rows")
        pictures.append(Picture(f"lengths-{kind}", f"Words of the {kind} texts by assigned label", figure))
        last = rows.text_columns[-1]
        cells = [
            (name, f"{len(values):,}", *(f"{np.quantile(values, at):.0f}" for at in (0.05, 0.5, 0.95)))
            for name, values in zip(rows.groups, columns[last], strict=True)
            if len(values)
        ]
        head = ("label", "rows looked at", "5 % have at most", "median", "95 % have at most")
        tables.append(Table(head, cells, f"Words of {last}, {kind} rows"))
    return Section("Lengths", (), pictures, tables)


def overlap_section(sets: Sequence[LabelledRows]) -> Section:
    """How many words the two sentences share."""
    pictures, tables = [], []
    for rows in sets:
        if rows.overlap is None:
            continue
        kind, parts = rows.source.kind, rows.by_group(rows.overlap)
        figure = overlap_by_label(parts, rows.groups, title=f"Words in common, {kind} rows")
        pictures.append(Picture(f"overlap-{kind}", f"Token overlap of the {kind} pairs by assigned label", figure))
        cells = [
            (
                name,
                f"{values.mean():.2f}",
                f"{np.median(values):.2f}",
                percent(int((values >= _NEAR_COPY).sum()), len(values)),
                percent(int((values == 0).sum()), len(values)),
            )
            for name, values in zip(rows.groups, parts, strict=True)
            if len(values)
        ]
        head = ("label", "mean", "median", f"{_NEAR_COPY:g} and above", "no word in common")
        tables.append(Table(head, cells, f"Share of different words in both sentences (Jaccard), {kind} rows"))
    if not pictures:
        return Section("Token overlap", ["These are single texts and not pairs, so that there is no overlap."])
    return Section("Token overlap", ["Shares with 95 % intervals (Wilson)."], pictures, tables)


def rejections_section(findings: Findings) -> Section:
    """What was rejected by which stage for which reason, none left out."""
    panels: dict[str, dict[str, int]] = {}
    tables = []
    for part in findings.sets:
        if part.kind == "raw":
            counts = {name.removeprefix("rejected: "): n for name, n in part.counts.items() if _is_rejection(name)}
            panels["generation: tries and draws"] = counts
        else:
            counts = {
                name.removeprefix("dropped_").replace("_", " "): count
                for name, count in part.counts.items()
                if name.startswith(("dropped", "rejected"))
            }
            panels["preparation: rows"] = counts
    by_reason, examples = findings.rejected
    named = {reason.removeprefix("dropped_").replace("_", " "): count for reason, count in by_reason.items()}
    known = panels.get("preparation: rows", {})
    panels["preparation: rejected.jsonl"] = {reason: n for reason, n in named.items() if reason not in known}
    shown = {stage: {r: n for r, n in counts.items() if n} for stage, counts in panels.items()}
    shown = {stage: counts for stage, counts in shown.items() if counts}
    if examples:
        cells = [(reason, *_texts_of(row)) for reason, found in examples.items() for row in found]
        head = ("reason", "sentence 1", "sentence 2", "label", "value")
        tables.append(Table(head, cells, "The first rejected rows of each reason", texts=frozenset({0, 1, 2})))
    if not shown:
        return Section("Rejections", ["Nothing was rejected, or no stage that counts rejections left its record here."])
    picture = Picture("rejections", "What was rejected for which reason", reasons(shown))
    return Section("Rejections", (), [picture], tables)


def _is_rejection(name: str) -> bool:
    return name not in _NOT_REASONS and name.startswith(("rejected", "given up", "duplicate", "skipped"))


def _texts_of(row: Mapping[str, object]) -> tuple[str, str, str, str]:
    """Texts, label, and the number that was held against a threshold, where there is one."""
    label, value = row.get(SCORE, row.get(LABEL, "")), row.get("value")
    number = f"{value:.3g}" if isinstance(value, int | float) else ""
    return str(row.get(SENTENCE1, row.get(TEXT, ""))), str(row.get(SENTENCE2, "")), str(label), number


def audit_section(findings: Findings) -> Section:
    """What people judged, by assigned label."""
    tables = []
    unreadable = [answers for answers in findings.answers.values() if isinstance(answers, str)]
    for kind, answers in findings.answers.items():
        if isinstance(answers, str):
            continue
        rows = confusion((answer.pair.generated, answer.judged) for answer in answers)
        cells = []
        for row in rows:
            shares = [*row["counts"].values(), row["fits"]]
            words = [percent(share["count"], share["of"]) if share else "–" for share in shares]
            cells.append((f"{row['assigned']:g}", str(row["judged"]), *words))
        head = ("assigned", "judged", *(f"judged {score:g}" for score in SCALE), "fits")
        tables.append(Table(head, cells, f"Blind judgements of {kind} pairs, shares with 95 % intervals (Wilson)"))
    if not any(table.rows for table in tables):
        return Section("Human check", unreadable or ["No pair was judged by a person; `dino-st audit` asks for it."])
    return Section("Human check", unreadable, (), tables)


def training_section(findings: Findings) -> Section:
    """The scores on the generated validation pairs while training."""
    record = findings.training
    if record is None:
        return Section("Training", ["There is no record of a training run here."])
    if not record.curve:
        return Section("Training", ["The run was not evaluated yet, so that there is no curve."])
    notes = [f"Training took {record.seconds:,.0f} s."] if record.seconds is not None else []
    if record.status != "complete":
        notes.append("The run has not finished.")
    picture = Picture(
        "training", "Spearman's correlation on the validation pairs over the steps", training_curve(record)
    )
    return Section("Training", notes, [picture])


def results_section(findings: Findings) -> Section:
    """The table of scores on the evaluation tasks."""
    if findings.scores is None:
        return Section("Results", ["There is no scores.json here; `dino-st evaluate --output` writes one."])
    models = findings.scores
    names = list(next(iter(models.values())))
    cells = [[model, *map(_score, row.values())] for model, row in models.items()]
    bold = set()
    for column in range(len(names)):
        values = [list(row.values())[column] for row in models.values()]
        found = [value for value in values if value is not None]
        if len(models) > 1 and found:
            bold |= {(i, column + 1) for i, value in enumerate(values) if _score(value) == _score(max(found))}
    notes = []
    if [name for name in names if name != AVERAGE] == list(PAPER_COLUMNS):
        cells += [[f"{name} (published)", *map(_score, row)] for name, row in PUBLISHED_ROWS.items()]
        notes.append(f"Spearman × 100. Published rows: {PUBLISHED_SOURCE}.")
    head = ["model", *(PAPER_COLUMNS.get(name, name) for name in names)]
    return Section("Results", notes, (), [Table(head, cells, "Main scores × 100", frozenset(bold))])


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
