"""What lies in directories as one self-contained page, and its pictures as PNG files beside it.

A section has pictures, tables with their numbers and remarks, or the reason why there are none. Of several directories
the sets, runs and scores stand side by side.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dino_st.data.columns import INSTRUCTION, LABEL, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.evaluation.table import AVERAGE, column_head, published_scores
from dino_st.inspection import figures
from dino_st.inspection.audit import count_answers
from dino_st.inspection.contents import Counts, Findings, LabelledRows, Posteriors, find, labelled_rows
from dino_st.inspection.judgements import CONFUSION_HEAD, confusion_cells, percent
from dino_st.inspection.options import ReportOptions
from dino_st.inspection.page import (
    PAGE,
    Picture,
    Section,
    Table,
    check_extras,
    check_page_directory,
    render,
    subject_of,
)
from dino_st.support.files import make_directory, replacing, write_text
from dino_st.training.record import hundredfold, kept_in_words

_NEAR_COPY = 0.9
_UNDEFINED = "undefined"
_TRAINING_FACTS = ("epochs", "batch_size", "learning_rate", "warmup_share", "loss", "max_seq_length", "dtype", "seed")


def write_report(
    directories: Path | Sequence[Path], output: Path, options: ReportOptions | None = None, *, overwrite: bool = False
) -> Path:
    """Writes `index.html`, which needs neither network nor another file, and the pictures as PNG files.

    Directories are those of `dino-st generate`, `prepare`, `train` or `evaluate`, of a whole recipe, or above some of
    these; several are shown side by side. The output is new, empty, or an earlier report on the same directories, which
    is renewed; one on others is replaced with `overwrite`.
    """
    check_extras(("matplotlib", "matplotlib"), ("Jinja2", "jinja2"))
    subject = subject_of(directories)
    check_page_directory(output, subject, overwrite=overwrite)
    title, sections = build_sections(directories, options or ReportOptions())
    page = render(title, sections, subject)
    pictures = {picture.name: picture for section in sections for picture in section.pictures}
    make_directory(output)
    for old in output.glob("*.png"):
        if old.stem not in pictures:
            old.unlink()
    for name, picture in pictures.items():
        with replacing(output / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png)
    write_text(output / PAGE, page)
    return output / PAGE


def build_sections(directories: Path | Sequence[Path], options: ReportOptions) -> tuple[str, list[Section]]:
    """The title of a report and its sections, those that cannot be filled with the reason."""
    directories = [directories] if isinstance(directories, Path) else directories
    findings = find(directories)
    sets = [
        labelled_rows(part, options, name)
        for name, part in findings.sets.items()
        if part.table.num_rows and not part.is_triplets
    ]
    sections = [overview_section(findings, sets)]
    if sets:
        sections += [
            labels_section(sets),
            lengths_section(sets),
            overlap_section(sets),
            posterior_section(sets),
            rejections_section(findings),
            instructions_section(sets),
            examples_section(sets, options),
            audit_section(findings),
        ]
    else:
        sections.append(Section("Rows", absent="There are no rows with labels here to look at."))
        sections.append(rejections_section(findings))
    sections += [training_section(findings), results_section(findings)]
    return title_of(directories), sections


def title_of(directories: Sequence[Path]) -> str:
    """What the page about some directories is called."""
    return "Report on " + ", ".join(directory.resolve().name or str(directory) for directory in directories)


def overview_section(findings: Findings, sets: Sequence[LabelledRows]) -> Section:
    """What lies in the directories, and what was left out or sampled."""
    notes, facts = [], []
    for name, part in findings.sets.items():
        if part.is_triplets:
            notes.append(f"The {name} rows are triplets, which have no labels; their texts are not looked at.")
        state = "" if part.complete else " (generation has not finished)"
        facts.append((f"{name} rows", f"{part.table.num_rows:,}{state}"))
        facts += [(f"{name}: {fact}", str(value)) for fact, value in part.facts.items() if value is not None]
    for rows in sets:
        if rows.is_sample:
            notes.append(
                f"Statistics of the {rows.name} texts are computed on {rows.table.num_rows:,} of "
                f"{int(rows.totals.sum()):,} rows, drawn at random with a fixed seed; numbers of rows count all."
            )
        if rows.is_nearest:
            levels = ", ".join(rows.groups)
            notes.append(
                f"The {rows.name} rows have too many different scores; each counts under the nearest of {levels}."
            )
        notes += [f"{count:,} {rows.name} rows {reason} are left out." for reason, count in rows.left_out.items()]
    for name, run in findings.training.items():
        facts.append((f"{name}: training", f"{run.status}, from {run.encoder}"))
    for name, table in findings.scores.items():
        facts.append((f"{name}: evaluated models", ", ".join(table)))
    return Section(
        "What is here", notes, (), [Table(("what", "value"), facts, texts=frozenset({0, 1}))] if facts else ()
    )


def _picture(kind: str, rows: LabelledRows, sets: Sequence[LabelledRows], description: str, figure: Any) -> Picture:
    """A picture of one set; of several of a kind, those behind the first have a number in the file's name."""
    number = [part.name for part in sets if part.source.kind == rows.source.kind].index(rows.name)
    suffix = f"-{number + 1}" if number else ""
    text = f"{description} of the {rows.name} rows; its numbers are in the table below."
    return Picture(f"{kind}-{rows.source.kind}{suffix}", text, figure)


def labels_section(sets: Sequence[LabelledRows]) -> Section:
    """How many rows each label has, and what smoothing made of the labels that were asked for."""
    pictures, tables = [], []
    smoothings: dict[str, list[str]] = {}
    for rows in sets:
        figure = figures.counts_by_label(rows.groups, rows.totals.tolist(), title=f"{rows.name} rows")
        pictures.append(_picture("labels", rows, sets, "Bars: number of rows for each assigned label", figure))
        total, source = int(rows.totals.sum()), rows.source
        smoothed = {label: score for label, score in source.score_of_label.items() if f"{score:g}" != label}
        asked = {group: " and ".join(_asked_for(rows, number)) for number, group in enumerate(rows.groups)}
        is_shown = source.negative_score is not None or bool(smoothed)
        cells = [
            (name, *([asked[name]] if is_shown else []), f"{count:,}", f"{100 * count / total:.1f} %")
            for name, count in zip(rows.groups, rows.totals.tolist(), strict=True)
        ]
        head = ("score" if source.has_scores else "label", *(["written as label"] if is_shown else []), "rows", "share")
        tables.append(
            Table(head, cells, f"Labels of the {rows.name} rows", texts=frozenset({0, 1} if is_shown else {0}))
        )
        if smoothed:
            changes = ", ".join(f"{label} became {score:g}" for label, score in sorted(smoothed.items()))
            smoothings.setdefault(changes, []).append(rows.name)
    notes = [
        f"The scores of the {' and '.join(names)} rows are smoothed, since written labels are noisy (`dino-st prepare "
        f"--label-smoothing`): label {changes}. Raw rows and evaluation keep the labels as they were."
        for changes, names in smoothings.items()
    ]
    if any(len(rows.groups) == 1 for rows in sets):
        notes.append("There is one label only: an encoder cannot learn to tell labels apart from these rows.")
    return Section("Labels", notes, pictures, tables)


def _asked_for(rows: LabelledRows, group: int) -> list[str]:
    """What rows of a score were written as: a label of the task, or drawn at random."""
    source, group_name = rows.source, rows.groups[group]
    found = [label for label, score in source.score_of_label.items() if f"{score:g}" == group_name]
    if source.negative_score is not None and f"{source.negative_score:g}" == group_name:
        found.append("random negative")
    return found or ["–"]


def lengths_section(sets: Sequence[LabelledRows]) -> Section:
    """How long the texts are."""
    pictures, tables = [], []
    for rows in sets:
        columns = {name: rows.by_group(values) for name, values in rows.words.items()}
        figure = figures.words_by_label(columns, rows.groups, title=f"Words of a text, {rows.name} rows")
        pictures.append(_picture("lengths", rows, sets, "Histograms: words of the texts by assigned label", figure))
        cells = [
            (group, column, f"{len(values):,}", *(f"{np.quantile(values, at):.0f}" for at in (0.05, 0.5, 0.95)))
            for column, parts in columns.items()
            for group, values in zip(rows.groups, parts, strict=True)
            if len(values)
        ]
        head = ("label", "text", "rows looked at", "5 % have at most", "median", "95 % have at most")
        tables.append(Table(head, cells, f"Words of the texts, {rows.name} rows", texts=frozenset({0, 1})))
    return Section("Lengths", (), pictures, tables)


def overlap_section(sets: Sequence[LabelledRows]) -> Section:
    """How many words the two sentences share."""
    pictures, tables = [], []
    for rows in sets:
        if rows.overlap is None:
            continue
        parts = rows.by_group(rows.overlap)
        figure = figures.overlap_by_label(parts, rows.groups, title=f"Words in common, {rows.name} rows")
        pictures.append(_picture("overlap", rows, sets, "Histograms: words in common by assigned label", figure))
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
        caption = f"Share of different words in both sentences (Jaccard), {rows.name} rows; 95 % intervals (Wilson)"
        tables.append(Table(head, cells, caption))
    if not pictures:
        return Section("Token overlap", absent="These are single texts and not pairs, so that there is no overlap.")
    return Section("Token overlap", (), pictures, tables)


def posterior_section(sets: Sequence[LabelledRows]) -> Section:
    """The label posterior against the assigned label."""
    notes, pictures, tables, absent = [], [], [], {}
    for rows in sets:
        belief = rows.posteriors
        if isinstance(belief, str):
            absent[rows.name] = belief
            continue
        notes += [
            f"{count:,} {rows.name} rows {reason} are left out here." for reason, count in belief.left_out.items()
        ]
        group = rows.group[belief.rows]
        present = [number for number in range(len(rows.groups)) if (group == number).any()]
        means = np.stack([belief.values[group == number].mean(axis=0) for number in present])
        scores = rows.source.score_of_label  # labels that are numbers stand in ascending order, as the groups do
        order = sorted(range(len(belief.labels)), key=lambda place: scores.get(belief.labels[place], 0.0))
        names, columns = [rows.groups[number] for number in present], [belief.labels[number] for number in order]
        figure = figures.heat_map(means[:, order], names, columns, title=f"Label posterior, {rows.name} pairs")
        pictures.append(_picture("posterior", rows, sets, "Heat map: mean label posterior by assigned label", figure))
        cells = [
            (rows.groups[number], *_agreement(belief, group == number), *(f"{value:.2f}" for value in row))
            for number, row in zip(present, means[:, order], strict=True)
        ]
        head = ("assigned", "pairs", "likeliest label is the assigned one", *(f"mean P({name})" for name in columns))
        tables.append(Table(head, cells, f"Self-consistency of the {rows.name} pairs"))
    if not pictures:
        raw = [reason for rows in sets if (reason := absent[rows.name]) and rows.source.kind == "raw"]
        reasons = raw or list(absent.values())  # preparation leaves log-probabilities out
        return Section("Label posterior", absent="The data " + "; the data ".join(dict.fromkeys(reasons)) + ".")
    notes.insert(
        0,
        "P(label | pair) of the language model under every label's instruction, without self-debiasing, with all "
        "labels equally likely beforehand. It says how well the model recognises what it was asked to write, "
        "not what a person would judge.",
    )
    return Section("Label posterior", notes, pictures, tables)


def _agreement(belief: Posteriors, chosen: Any) -> tuple[str, str]:
    own = belief.own[chosen]
    if own[0] < 0:
        return f"{len(own):,}", "–"
    return f"{len(own):,}", percent(int((belief.values[chosen].argmax(axis=1) == own).sum()), len(own))


def rejections_section(findings: Findings) -> Section:
    """What was rejected by which stage for which reason, none left out."""
    panels: dict[str, dict[str, int]] = {}
    cells, examples = [], []
    for name, part in findings.sets.items():
        stage = f"generation ({name})" if part.kind == "raw" else f"preparation ({name})"
        by_reason, first = findings.rejected.get(name, ({}, {}))
        listed = {_reason(reason): count for reason, count in by_reason.items()}
        counted = rejected_counts(part.kind, part.counts)
        known = {reason for reason, _, _ in counted}
        counted += [(reason, count, "") for reason, count in listed.items() if reason not in known]
        cells += [(stage, reason, f"{count:,}", share) for reason, count, share in counted]
        panels[stage] = {reason: count for reason, count, _ in counted}
        examples += [(_reason(reason), *_texts_of(row)) for reason, rows in first.items() for row in rows]
    panels = {stage: counts for stage, counts in panels.items() if counts}
    if not panels:
        return Section(
            "Rejections", absent="Nothing was rejected, or no stage that counts rejections left its record here."
        )
    tables = [Table(("stage", "reason", "number", "share"), cells, "What was left out", texts=frozenset({0, 1}))]
    if examples:
        head = ("reason", "sentence 1", "sentence 2", "label", "value")
        tables.append(Table(head, examples, "The first rejected rows of each reason", texts=frozenset({0, 1, 2})))
    description = "Bars: what each stage left out, by reason; the numbers are in the table below."
    notes = []
    if any(part.kind == "prepared" for part in findings.sets.values()) and not examples:
        notes = ["`dino-st prepare --explain` keeps the rows that were dropped, and examples of them are shown here."]
    return Section("Rejections", notes, [Picture("rejections", description, figures.reasons(panels))], tables)


def rejected_counts(kind: str, counts: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """What a stage left out: reason, number, and the share of what it was counted among."""
    begins = "rejected|given up|duplicate|skipped" if kind == "raw" else "dropped|rejected"
    found = ((name, count) for name, count in counts.items() if count and re.match(begins, name))
    return [(_reason(name), count, _share(counts, name)) for name, count in found]


def _reason(name: str) -> str:
    """The reason in the name of a count."""
    return name.removeprefix("rejected: ").removeprefix("dropped_").replace("_", " ")


def _share(counts: Mapping[str, int], name: str) -> str:
    """A count as a share of what it was counted among."""
    kinds = {"rejected: ": ("tries", "tries"), "given up": ("draws", "draws"), "dropped": ("input", "rows")}
    total, words = next((kinds[begin] for begin in kinds if name.startswith(begin)), ("", ""))
    among = counts.get(total, 0)
    return f"{100 * counts[name] / among:.1f} % of {among:,} {words}" if among else ""


def _texts_of(row: Mapping[str, object]) -> tuple[str, str, str, str]:
    """Texts, label, and the number that was held against a threshold, where there is one."""
    label, value = row.get(SCORE, row.get(LABEL, "")), row.get("value")
    number = f"{value:.3g}" if isinstance(value, int | float) else ""
    return str(row.get(SENTENCE1, row.get(TEXT, ""))), str(row.get(SENTENCE2, "")), str(label), number


def instructions_section(sets: Sequence[LabelledRows]) -> Section:
    """The phrasings of each label side by side."""
    tables = []
    for rows in sets:
        if INSTRUCTION not in rows.table.column_names:
            continue
        column = np.array([-1 if number is None else number for number in rows.table[INSTRUCTION].to_pylist()])
        if len(np.unique(column[column >= 0])) < 2:
            continue
        cells = [
            _instruction(rows, group, number, np.flatnonzero((rows.group == group) & (column == number)))
            for group in range(len(rows.groups))
            for number in np.unique(column[(rows.group == group) & (column >= 0)]).tolist()
        ]
        head = ("label", "phrasing", "rows", "median words", "mean overlap", "mean tries", "mean posterior", "text")
        tables.append(Table(head, cells, f"Phrasings of the {rows.name} rows", texts=frozenset({0, 7})))
    if not tables:
        return Section(
            "Instructions",
            absent="No label was written for in several phrasings. A task file (`generate --task FILE`) may give a "
            "label a list of instructions, which are compared here.",
        )
    return Section("Instructions", (), (), tables)


def _instruction(rows: LabelledRows, group: int, number: int, chosen: Counts) -> tuple[str, ...]:
    """One phrasing of a label; `chosen` are the rows that were written for it."""
    belief = rows.posteriors
    posterior = np.array([]) if isinstance(belief, str) else belief.of_own[np.isin(belief.rows, chosen)]
    tries = rows.table["tries"].take(chosen).to_pylist() if "tries" in rows.table.column_names else []
    return (
        rows.groups[group],
        str(number + 1),
        f"{len(chosen):,}",
        f"{np.median(rows.words[rows.text_columns[-1]][chosen]):.0f}",
        _mean([] if rows.overlap is None else rows.overlap[chosen]),
        _mean(tries),
        _mean(posterior[~np.isnan(posterior)]),
        _phrasing(rows, group, number),
    )


def _mean(values: Any) -> str:
    return f"{np.mean(values):.2f}" if len(values) else "–"


def _phrasing(rows: LabelledRows, group: int, number: int) -> str:
    """The first line of an instruction, empty where it is not stored."""
    own = rows.own_labels[group]
    spec = rows.source.task["labels"][rows.source.labels[own]] if own >= 0 else None
    stored = spec.get("instruction") if isinstance(spec, Mapping) else None
    texts = [stored] if isinstance(stored, str) else list(stored or [])
    return str(texts[number]).partition("\n")[0] if number < len(texts) else ""


def examples_section(sets: Sequence[LabelledRows], options: ReportOptions) -> Section:
    """The surest and the most doubtful pairs of each label, or some at random."""
    if not options.examples:
        return Section("Examples", absent="No examples were asked for (--examples 0).")
    ranked = [rows for rows in sets if not isinstance(rows.posteriors, str)]
    chosen = ranked or [rows for rows in sets if rows.source.kind == sets[0].source.kind]
    notes, tables = [], []
    for rows in chosen:
        note = f"Of the {rows.name} rows: "
        if isinstance(rows.posteriors, str):
            notes.append(note + "drawn at random from each label's.")
            found = _drawn(rows, options)
        else:
            notes.append(note + "by the posterior of the assigned label; equal pairs once.")
            found = _ranked(rows, rows.posteriors, options)
        several = f", {rows.name} rows" if len(chosen) > 1 else ""
        tables += [replace(table, caption=table.caption + several) for table in found if table.rows]
    return Section("Examples", notes, (), tables)


def _ranked(rows: LabelledRows, belief: Posteriors, options: ReportOptions) -> list[Table]:
    tables = []
    for number, name in enumerate(rows.groups):
        places = np.flatnonzero((rows.group[belief.rows] == number) & (belief.own >= 0))
        ranked = _distinct(rows, belief, places[np.argsort(-belief.of_own[places], kind="stable")])
        size = min(options.examples, (len(ranked) + 1) // 2)
        for words, chosen in (("surest", ranked[:size]), ("most doubtful", ranked[len(ranked) - size :][::-1])):
            cells = [
                (
                    *_texts_at(rows, belief.rows[place]),
                    f"{belief.of_own[place]:.3f}",
                    belief.labels[int(belief.values[place].argmax())],
                )
                for place in chosen
            ]
            head = (*rows.text_columns, "P(assigned)", "likeliest")
            tables.append(_example_table(head, cells, f"{name}: {words}", rows))
    return tables


def _texts_at(rows: LabelledRows, place: Any) -> tuple[str, ...]:
    return tuple(rows.table[column][int(place)].as_py() for column in rows.text_columns)


def _distinct(rows: LabelledRows, belief: Posteriors, places: Counts) -> list[int]:
    """The first place of each different pair of texts."""
    texts = [rows.texts(name) for name in rows.text_columns]
    first: dict[tuple[str, ...], int] = {}
    for place in places.tolist():
        first.setdefault(tuple(column[belief.rows[place]] for column in texts), place)
    return list(first.values())


def _drawn(rows: LabelledRows, options: ReportOptions) -> list[Table]:
    generator = np.random.default_rng(options.seed)
    tables = []
    for number, name in enumerate(rows.groups):
        places = np.flatnonzero(rows.group == number)
        chosen = np.sort(generator.choice(places, min(options.examples, len(places)), replace=False))
        tables.append(_example_table(rows.text_columns, [_texts_at(rows, place) for place in chosen], name, rows))
    return tables


def _example_table(head: Sequence[str], cells: Sequence[Sequence[str]], label: str, rows: LabelledRows) -> Table:
    return Table(head, cells, f"Label {label}", texts=frozenset(range(len(rows.text_columns))))


def audit_section(findings: Findings) -> Section:
    """What people judged, by assigned label."""
    notes = [remark for _, remark in findings.answers.values() if remark is not None]
    tables = []
    for name, (answers, _) in findings.answers.items():
        rows = count_answers(answers)
        caption = f"Blind judgements of {name} pairs, shares with 95 % intervals (Wilson)"
        tables += [Table(CONFUSION_HEAD, list(map(confusion_cells, rows)), caption)] if rows else []
    if not tables and not notes:
        return Section("Human check", absent="No pair was judged by a person; `dino-st audit DIR` asks for it.")
    return Section("Human check", notes, (), tables)


def training_section(findings: Findings) -> Section:
    """How encoders were trained, and their scores on the validation pairs on the way."""
    runs = findings.training
    if not runs:
        return Section(
            "Training",
            absent="There is no record of a training run here; give the directory of `dino-st train` as well: "
            "`dino-st report DIR ENCODER --output PAGE`.",
        )
    facts: dict[str, list[str]] = {}
    notes, pictures, curves = [], [], []
    for place, (run, record) in enumerate(runs.items()):
        options, best = record.options.model_dump(), record.best
        if record.status != "complete":
            notes.append(f"The run {run} has not finished.")
        seconds = "–" if record.seconds is None else f"{record.seconds:,.0f}"
        own = {
            "started from": record.encoder,
            **{f"data: {what}": f"{rows:,}" for what, rows in record.data.items() if isinstance(rows, int)},
            **{
                name.replace("_", " "): "–" if options[name] is None else str(options[name]) for name in _TRAINING_FACTS
            },
            "Spearman × 100 untrained": hundredfold(record.start),
            "Spearman × 100 kept": kept_in_words(record),
            "seconds": seconds,
        }
        for fact in (*own, *facts):
            facts.setdefault(fact, ["–"] * len(runs))[place] = own.get(fact, "–")
        if not record.curve:
            notes.append(f"The run {run} was not evaluated yet, so that there is no curve.")
            continue
        caption = f"Spearman × 100 on the {record.validation_kind} validation pairs, {run}"
        description = f"Curve: Spearman's correlation of {run} over the steps; the numbers are in the table below."
        file = f"training-{place + 1}" if place else "training"
        pictures.append(Picture(file, description, figures.training_curve(record)))
        points = [("untrained", hundredfold(record.start))]
        points += [(f"{point.step:,}", hundredfold(point.spearman)) for point in record.curve]
        kept = [number for number, point in enumerate(record.curve, start=1) if point == best]
        bold = frozenset((number, 1) for number in kept)
        curves.append(Table(("step", "Spearman × 100"), points, f"{caption}; kept: bold", bold, folds=True))
    cells = [(fact, *values) for fact, values in facts.items()]
    options_table = Table(("", *runs), cells, "How the encoder was trained", texts=frozenset(range(len(runs) + 1)))
    return Section("Training", notes, pictures, [options_table, *curves])


def results_section(findings: Findings) -> Section:
    """The tables of scores on the evaluation tasks; models that have the same tasks share one."""
    if not findings.scores:
        return Section(
            "Results", absent="There is no scores.json here; `dino-st evaluate MODEL… --output DIR` writes one."
        )
    named = Counter(model for table in findings.scores.values() for model in table)
    by_tasks: dict[tuple[str, ...], dict[str, Mapping[str, float | None]]] = {}
    for directory, table in findings.scores.items():
        for model, row in table.items():
            name = model if named[model] == 1 else f"{model} ({directory})"
            by_tasks.setdefault(tuple(row), {})[name] = row
    notes, tables = [], []
    for tasks, rows in by_tasks.items():
        cells = [[model, *_scores(row.values())] for model, row in rows.items()]
        bold = set()
        for column in range(1, len(tasks) + 1):
            defined = [row[column] for row in cells if row[column] != _UNDEFINED]
            if len(cells) > 1 and defined:
                best = max(defined, key=float)
                bold |= {(place, column) for place, row in enumerate(cells) if row[column] == best}
        paper = published_scores(task for task in tasks if task != AVERAGE)
        if paper:
            cells += [[f"{name} (published)", *_scores(row)] for name, row in paper.rows.items()]
            notes.append(f"{paper.measure} × 100. Published rows: {paper.source}.")
        head = ["model", *map(column_head, tasks)]
        tables.append(Table(head, cells, "Main scores × 100", frozenset(bold)))
    return Section("Results", notes, (), tables)


def _scores(values: Iterable[float | None]) -> list[str]:
    return [_UNDEFINED if value is None else f"{value:.2f}" for value in values]
