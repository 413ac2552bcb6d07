"""The sections of a report: pictures, tables and remarks, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dino_st.data.columns import INSTRUCTION, LABEL, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.evaluation.table import AVERAGE, PAPER_COLUMNS, PUBLISHED_ROWS, PUBLISHED_SOURCE
from dino_st.inspection.contents import Counts, Findings, LabelledRows, Posteriors
from dino_st.inspection.figures import (
    counts_by_label,
    heat_map,
    overlap_by_label,
    reasons,
    training_curve,
    words_by_label,
)
from dino_st.inspection.judgements import SCALE, confusion, percent
from dino_st.inspection.options import ReportOptions

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


Beliefs = Mapping[str, Posteriors | str]
"""For each kind of rows the posteriors, or the reason why there are none."""


def posterior_section(sets: Sequence[LabelledRows], beliefs: Beliefs) -> Section:
    """The label posterior against the assigned label."""
    notes, pictures, tables = [], [], []
    for rows in sets:
        kind, belief = rows.source.kind, beliefs[rows.source.kind]
        if isinstance(belief, str):
            notes.append(belief)
            continue
        notes += [f"{count:,} {kind} rows {reason} are left out here." for reason, count in belief.left_out.items()]
        group = rows.group[belief.rows]
        present = [number for number in range(len(rows.groups)) if (group == number).any()]
        means = np.stack([belief.values[group == number].mean(axis=0) for number in present])
        names = [rows.groups[number] for number in present]
        order = _ascending(belief.labels, rows)
        columns = [belief.labels[number] for number in order]
        figure = heat_map(means[:, order], names, columns, title=f"Label posterior, {kind} pairs")
        pictures.append(Picture(f"posterior-{kind}", f"Mean label posterior of the {kind} pairs", figure))
        cells = [_agreement(rows.groups[number], belief, group == number) for number in present]
        head = ("assigned", "pairs", "likeliest label is the assigned one", "mean posterior of the assigned label")
        tables.append(Table(head, cells, f"Self-consistency of the {kind} pairs"))
    if pictures:
        notes.insert(
            0,
            "P(label | pair) of the language model under every label's instruction, without self-debiasing, with all "
            "labels equally likely beforehand. It says how well the model recognises what it was asked to write, "
            "not what a person would judge.",
        )
    return Section("Label posterior", notes, pictures, tables)


def _ascending(labels: Sequence[str], rows: LabelledRows) -> list[int]:
    """The labels by their scores, as the groups are, where they are numbers."""
    scores = rows.source.score_of_label
    return sorted(range(len(labels)), key=lambda place: scores.get(labels[place], 0.0))


def _agreement(name: str, belief: Posteriors, chosen: Any) -> tuple[str, ...]:
    own, values = belief.own[chosen], belief.values[chosen]
    if own[0] < 0:
        return name, f"{len(own):,}", "–", "–"
    right = int((values.argmax(axis=1) == own).sum())
    return name, f"{len(own):,}", percent(right, len(own)), f"{belief.of_own[chosen].mean():.2f}"


def instructions_section(sets: Sequence[LabelledRows], beliefs: Beliefs) -> Section:
    """The phrasings of each label side by side."""
    notes, tables = [], []
    for rows in sets:
        kind = rows.source.kind
        if INSTRUCTION not in rows.table.column_names:
            notes.append(f"The {kind} rows have no column {INSTRUCTION!r}, so that phrasings cannot be told apart.")
            continue
        column = np.array([-1 if number is None else number for number in rows.table[INSTRUCTION].to_pylist()])
        if len(np.unique(column[column >= 0])) < 2:
            notes.append(f"All {kind} rows were written for the first phrasing of their label: nothing to compare.")
            continue
        cells = []
        for group in range(len(rows.groups)):
            for number in np.unique(column[(rows.group == group) & (column >= 0)]).tolist():
                chosen = np.flatnonzero((rows.group == group) & (column == number))
                cells.append(_instruction(rows, beliefs[kind], group, number, chosen))
        head = ("label", "phrasing", "rows", "median words", "mean overlap", "mean tries", "mean posterior", "text")
        tables.append(Table(head, cells, f"Phrasings of the {kind} rows", texts=frozenset({0, 7})))
    return Section("Instructions", notes, (), tables)


def _instruction(
    rows: LabelledRows, belief: Posteriors | str, group: int, number: int, chosen: Counts
) -> tuple[str, ...]:
    tries = "–"
    if "tries" in rows.table.column_names:
        tries = f"{np.mean(rows.table['tries'].take(chosen).to_pylist()):.2f}"
    posterior = "–"
    if not isinstance(belief, str):
        found = belief.of_own[np.isin(belief.rows, chosen)]
        found = found[~np.isnan(found)]
        posterior = f"{found.mean():.2f}" if len(found) else "–"
    return (
        rows.groups[group],
        str(number + 1),
        f"{len(chosen):,}",
        f"{np.median(rows.words[rows.text_columns[-1]][chosen]):.0f}",
        "–" if rows.overlap is None else f"{rows.overlap[chosen].mean():.2f}",
        tries,
        posterior,
        _phrasing(rows, group, number),
    )


def _phrasing(rows: LabelledRows, group: int, number: int) -> str:
    """The first line of an instruction, empty where it is not stored."""
    own = rows.own_labels[group]
    if own < 0:
        return ""
    spec = rows.source.task["labels"][rows.source.labels[own]]
    stored = spec.get("instruction") if isinstance(spec, Mapping) else None
    texts = [stored] if isinstance(stored, str) else list(stored or [])
    return str(texts[number]).partition("\n")[0] if number < len(texts) else ""


def examples_section(sets: Sequence[LabelledRows], beliefs: Beliefs, options: ReportOptions) -> Section:
    """The surest and the most doubtful pairs of each label, or some at random."""
    if not sets or not options.examples:
        return Section("Examples", ["No examples were asked for." if sets else "There are no rows."])
    rows = next((part for part in sets if not isinstance(beliefs[part.source.kind], str)), sets[0])
    belief = beliefs[rows.source.kind]
    if isinstance(belief, str):
        return Section(
            "Examples", [f"Drawn at random from each label's {rows.source.kind} rows."], (), _drawn(rows, options)
        )
    tables = []
    for number, name in enumerate(rows.groups):
        places = np.flatnonzero((rows.group[belief.rows] == number) & (belief.own >= 0))
        ranked = _distinct(rows, belief, places[np.argsort(-belief.of_own[places], kind="stable")])
        size = min(options.examples, (len(ranked) + 1) // 2)
        for words, chosen in (("surest", ranked[:size]), ("most doubtful", ranked[len(ranked) - size :][::-1])):
            cells = [
                (
                    *(rows.table[column][int(belief.rows[place])].as_py() for column in rows.text_columns),
                    f"{belief.of_own[place]:.3f}",
                    belief.labels[int(belief.values[place].argmax())],
                )
                for place in chosen
            ]
            if cells:
                head = (*rows.text_columns, "P(assigned)", "likeliest")
                tables.append(_example_table(head, cells, f"Label {name}: {words}", rows))
    note = f"By the posterior of the assigned label, {rows.source.kind} rows; equal pairs once."
    return Section("Examples", [note], (), tables)


def _distinct(rows: LabelledRows, belief: Posteriors, places: Counts) -> list[int]:
    """The first place of each different pair of texts."""
    first: dict[tuple[str, ...], int] = {}
    texts = [rows.table[name].to_pylist() for name in rows.text_columns]
    for place in places.tolist():
        first.setdefault(tuple(column[belief.rows[place]] for column in texts), place)
    return list(first.values())


def _drawn(rows: LabelledRows, options: ReportOptions) -> list[Table]:
    generator = np.random.default_rng(options.seed)
    tables = []
    for number, name in enumerate(rows.groups):
        places = np.flatnonzero(rows.group == number)
        chosen = np.sort(generator.choice(places, min(options.examples, len(places)), replace=False))
        cells = [tuple(rows.table[column][int(place)].as_py() for column in rows.text_columns) for place in chosen]
        if cells:
            tables.append(_example_table(rows.text_columns, cells, f"Label {name}", rows))
    return tables


def _example_table(head: Sequence[str], cells: Sequence[Sequence[str]], caption: str, rows: LabelledRows) -> Table:
    return Table(head, cells, caption, texts=frozenset(range(len(rows.text_columns))))
