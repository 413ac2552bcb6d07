"""The sections of a report about single pairs: what the model believes of them, instructions, examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dino_st.columns import INSTRUCTION
from dino_st.confidence import percent
from dino_st.inspection_options import ReportOptions
from dino_st.report_figures import heat_map
from dino_st.report_rows import Counts, LabelledRows, Posteriors
from dino_st.report_sections import Picture, Section, Table

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
