"""What lies in a directory as one self-contained page, and its pictures as PNG files beside it.

A section of the page has pictures, tables and remarks, or the reason why there are none; `templates/report.html` lays
them out.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dino_st.data.columns import INSTRUCTION, LABEL, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.errors import MissingExtraError, OutputError
from dino_st.evaluation.table import AVERAGE, column_head, published_scores
from dino_st.inspection import figures
from dino_st.inspection.contents import Counts, Findings, LabelledRows, Posteriors, find, labelled_rows
from dino_st.inspection.judgements import CONFUSION_HEAD, confusion_cells, count_judgements, percent
from dino_st.inspection.options import ReportOptions
from dino_st.support.files import check_can_become_directory, make_directory, replacing, write_text
from dino_st.support.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PAGE = "index.html"
_MARK = '<meta name="generator" content="dino-st report">'
_NEAR_COPY = 0.9
_PIXELS_PER_INCH = 150
_PAGE_PIXELS_PER_INCH = 96
_UNDEFINED = "undefined"


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

    @cached_property
    def png(self) -> bytes:
        """The picture as a file, drawn without a display."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        buffer = io.BytesIO()
        FigureCanvasAgg(self.figure)
        self.figure.savefig(buffer, format="png", dpi=_PIXELS_PER_INCH, metadata={"Software": None})
        return buffer.getvalue()

    @property
    def address(self) -> str:
        """The picture within the page itself."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def width(self) -> int:
        """Pixels that it takes on the page."""
        return round(self.figure.get_figwidth() * _PAGE_PIXELS_PER_INCH)


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
    """A section of the page: remarks (where there is nothing to show, the reason), pictures, and tables below."""

    title: str
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def write_report(directory: Path, output: Path, options: ReportOptions | None = None) -> Path:
    """Writes `index.html`, which needs neither network nor another file, and the pictures as PNG files.

    Args:
        directory: Of `dino-st generate`, `prepare`, `train` or `evaluate`, or of a whole recipe.
        output: New, empty, or an earlier report, which is replaced.
        options: What to look at; the defaults if None.

    Returns:
        The page.
    """
    for library, module in (("matplotlib", "matplotlib"), ("Jinja2", "jinja2")):
        if not _is_installed(module):
            raise MissingExtraError(f'a report needs {library}; run: pip install "dino-st[report]"')
    _check_output(output)
    title, sections = build_sections(directory, options or ReportOptions())
    page = render(title, sections)
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


def build_sections(directory: Path, options: ReportOptions) -> tuple[str, list[Section]]:
    """The title of a report and its sections, those that cannot be filled with the reason."""
    findings = find(directory)
    sets = [labelled_rows(part, options) for part in findings.sets if part.table.num_rows and not part.is_triplets]
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
        sections.append(Section("Rows", ["There are no rows with labels here to look at."]))
        sections.append(rejections_section(findings))
    sections += [training_section(findings), results_section(findings)]
    return f"Report on {directory.resolve().name or directory}", sections


def render(title: str, sections: Sequence[Section]) -> str:
    """The page; whatever comes from data is escaped."""
    from jinja2 import Environment, StrictUndefined

    source = resources.files("dino_st.inspection").joinpath("templates/report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["printable"] = printable
    return environment.from_string(source).render(title=printable(title), sections=sections, version=version("dino-st"))


def _is_installed(module: str) -> bool:
    return find_spec(module) is not None


def _check_output(output: Path) -> None:
    """Raises unless the output is new, empty, or an earlier report."""
    check_can_become_directory(output)
    if not output.is_dir() or not any(output.iterdir()):
        return
    try:
        is_report = _MARK in (output / PAGE).read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError:
        is_report = False
    if not is_report:
        raise OutputError(f"{output}: holds something else than a report; choose an empty directory or a new name")


def overview_section(findings: Findings, sets: Sequence[LabelledRows]) -> Section:
    """What lies in the directory, and what was left out or sampled."""
    notes, facts = [], []
    for part in findings.sets:
        if part.is_triplets:
            notes.append(f"The {part.kind} rows are triplets, which have no labels; their texts are not looked at.")
        state = "" if part.complete else " (generation has not finished)"
        facts.append((f"{part.kind} rows", f"{part.table.num_rows:,}{state}"))
        facts += [(f"{part.kind}: {name}", str(value)) for name, value in part.facts.items() if value is not None]
    for rows in sets:
        if rows.is_sample:
            notes.append(
                f"Statistics of the {rows.kind} texts are computed on {rows.table.num_rows:,} of "
                f"{int(rows.totals.sum()):,} rows, drawn at random with a fixed seed; numbers of rows count all."
            )
        if rows.is_nearest:
            levels = ", ".join(rows.groups)
            notes.append(
                f"The {rows.kind} rows have too many different scores; each counts under the nearest of {levels}."
            )
        notes += [f"{count:,} {rows.kind} rows {reason} are left out." for reason, count in rows.left_out.items()]
    if findings.training is not None:
        run = findings.training
        facts += [("encoder before training", run.encoder), ("training", run.status)]
    if findings.scores is not None:
        facts.append(("evaluated models", ", ".join(findings.scores)))
    return Section("What is here", notes, (), [Table(("", ""), facts, texts=frozenset({0, 1}))] if facts else ())


def labels_section(sets: Sequence[LabelledRows]) -> Section:
    """How many rows each label has."""
    pictures = [
        Picture(
            f"labels-{rows.kind}",
            f"Number of {rows.kind} rows for each assigned label",
            figures.counts_by_label(rows.groups, rows.totals.tolist(), title=f"{rows.kind} rows"),
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
        columns = {name: rows.by_group(values) for name, values in rows.words.items()}
        figure = figures.words_by_label(columns, rows.groups, title=f"Words of a text, {rows.kind} rows")
        pictures.append(Picture(f"lengths-{rows.kind}", f"Words of the {rows.kind} texts by assigned label", figure))
        last = rows.text_columns[-1]
        cells = [
            (name, f"{len(values):,}", *(f"{np.quantile(values, at):.0f}" for at in (0.05, 0.5, 0.95)))
            for name, values in zip(rows.groups, columns[last], strict=True)
            if len(values)
        ]
        head = ("label", "rows looked at", "5 % have at most", "median", "95 % have at most")
        tables.append(Table(head, cells, f"Words of {last}, {rows.kind} rows"))
    return Section("Lengths", (), pictures, tables)


def overlap_section(sets: Sequence[LabelledRows]) -> Section:
    """How many words the two sentences share."""
    pictures, tables = [], []
    for rows in sets:
        if rows.overlap is None:
            continue
        parts = rows.by_group(rows.overlap)
        figure = figures.overlap_by_label(parts, rows.groups, title=f"Words in common, {rows.kind} rows")
        description = f"Token overlap of the {rows.kind} pairs by assigned label"
        pictures.append(Picture(f"overlap-{rows.kind}", description, figure))
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
        tables.append(Table(head, cells, f"Share of different words in both sentences (Jaccard), {rows.kind} rows"))
    if not pictures:
        return Section("Token overlap", ["These are single texts and not pairs, so that there is no overlap."])
    return Section("Token overlap", ["Shares with 95 % intervals (Wilson)."], pictures, tables)


def posterior_section(sets: Sequence[LabelledRows]) -> Section:
    """The label posterior against the assigned label."""
    notes, pictures, tables = [], [], []
    for rows in sets:
        belief = rows.posteriors
        if isinstance(belief, str):
            notes.append(belief)
            continue
        notes += [
            f"{count:,} {rows.kind} rows {reason} are left out here." for reason, count in belief.left_out.items()
        ]
        group = rows.group[belief.rows]
        present = [number for number in range(len(rows.groups)) if (group == number).any()]
        means = np.stack([belief.values[group == number].mean(axis=0) for number in present])
        scores = rows.source.score_of_label  # labels that are numbers stand in ascending order, as the groups do
        order = sorted(range(len(belief.labels)), key=lambda place: scores.get(belief.labels[place], 0.0))
        names, columns = [rows.groups[number] for number in present], [belief.labels[number] for number in order]
        figure = figures.heat_map(means[:, order], names, columns, title=f"Label posterior, {rows.kind} pairs")
        pictures.append(Picture(f"posterior-{rows.kind}", f"Mean label posterior of the {rows.kind} pairs", figure))
        cells = [(rows.groups[number], *_agreement(belief, group == number)) for number in present]
        head = ("assigned", "pairs", "likeliest label is the assigned one", "mean posterior of the assigned label")
        tables.append(Table(head, cells, f"Self-consistency of the {rows.kind} pairs"))
    if pictures:
        notes.insert(
            0,
            "P(label | pair) of the language model under every label's instruction, without self-debiasing, with all "
            "labels equally likely beforehand. It says how well the model recognises what it was asked to write, "
            "not what a person would judge.",
        )
    return Section("Label posterior", notes, pictures, tables)


def _agreement(belief: Posteriors, chosen: Any) -> tuple[str, str, str]:
    own = belief.own[chosen]
    if own[0] < 0:
        return f"{len(own):,}", "–", "–"
    right = int((belief.values[chosen].argmax(axis=1) == own).sum())
    return f"{len(own):,}", percent(right, len(own)), f"{belief.of_own[chosen].mean():.2f}"


def rejections_section(findings: Findings) -> Section:
    """What was rejected by which stage for which reason, none left out."""
    panels: dict[str, dict[str, int]] = {}
    for part in findings.sets:
        if part.kind == "raw":
            stage, begins = "generation: tries and draws", "rejected|given up|duplicate|skipped"
        else:
            stage, begins = "preparation: rows", "dropped|rejected"
        panels[stage] = {_reason(name): count for name, count in part.counts.items() if re.match(begins, name)}
    by_reason, examples = findings.rejected
    known = panels.get("preparation: rows", {})
    named = {_reason(reason): count for reason, count in by_reason.items()}
    panels["preparation: rejected.jsonl"] = {reason: count for reason, count in named.items() if reason not in known}
    shown = {stage: {r: n for r, n in counts.items() if n} for stage, counts in panels.items() if any(counts.values())}
    if not shown:
        return Section("Rejections", ["Nothing was rejected, or no stage that counts rejections left its record here."])
    cells = [(reason, *_texts_of(row)) for reason, found in examples.items() for row in found]
    head = ("reason", "sentence 1", "sentence 2", "label", "value")
    table = Table(head, cells, "The first rejected rows of each reason", texts=frozenset({0, 1, 2}))
    picture = Picture("rejections", "What was rejected for which reason", figures.reasons(shown))
    return Section("Rejections", (), [picture], [table] if cells else [])


def _reason(name: str) -> str:
    """The reason in the name of a count."""
    return name.removeprefix("rejected: ").removeprefix("dropped_").replace("_", " ")


def _texts_of(row: Mapping[str, object]) -> tuple[str, str, str, str]:
    """Texts, label, and the number that was held against a threshold, where there is one."""
    label, value = row.get(SCORE, row.get(LABEL, "")), row.get("value")
    number = f"{value:.3g}" if isinstance(value, int | float) else ""
    return str(row.get(SENTENCE1, row.get(TEXT, ""))), str(row.get(SENTENCE2, "")), str(label), number


def instructions_section(sets: Sequence[LabelledRows]) -> Section:
    """The phrasings of each label side by side."""
    notes, tables = [], []
    for rows in sets:
        if INSTRUCTION not in rows.table.column_names:
            notes.append(
                f"The {rows.kind} rows have no column {INSTRUCTION!r}, so that phrasings cannot be told apart."
            )
            continue
        column = np.array([-1 if number is None else number for number in rows.table[INSTRUCTION].to_pylist()])
        if len(np.unique(column[column >= 0])) < 2:
            notes.append(
                f"All {rows.kind} rows were written for the first phrasing of their label: nothing to compare."
            )
            continue
        cells = [
            _instruction(rows, group, number, np.flatnonzero((rows.group == group) & (column == number)))
            for group in range(len(rows.groups))
            for number in np.unique(column[(rows.group == group) & (column >= 0)]).tolist()
        ]
        head = ("label", "phrasing", "rows", "median words", "mean overlap", "mean tries", "mean posterior", "text")
        tables.append(Table(head, cells, f"Phrasings of the {rows.kind} rows", texts=frozenset({0, 7})))
    return Section("Instructions", notes, (), tables)


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
        return Section("Examples", ["No examples were asked for."])
    rows = next((part for part in sets if not isinstance(part.posteriors, str)), sets[0])
    belief = rows.posteriors
    if isinstance(belief, str):
        return Section("Examples", [f"Drawn at random from each label's {rows.kind} rows."], (), _drawn(rows, options))
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
            tables.append(
                _example_table((*rows.text_columns, "P(assigned)", "likeliest"), cells, f"{name}: {words}", rows)
            )
    note = f"By the posterior of the assigned label, {rows.kind} rows; equal pairs once."
    return Section("Examples", [note], (), [table for table in tables if table.rows])


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
    return [table for table in tables if table.rows]


def _example_table(head: Sequence[str], cells: Sequence[Sequence[str]], label: str, rows: LabelledRows) -> Table:
    return Table(head, cells, f"Label {label}", texts=frozenset(range(len(rows.text_columns))))


def audit_section(findings: Findings) -> Section:
    """What people judged, by assigned label."""
    notes = [remark for _, remark in findings.answers.values() if remark is not None]
    tables = []
    for kind, (answers, _) in findings.answers.items():
        rows = count_judgements((answer.pair.generated, answer.judged) for answer in answers)
        caption = f"Blind judgements of {kind} pairs, shares with 95 % intervals (Wilson)"
        tables += [Table(CONFUSION_HEAD, list(map(confusion_cells, rows)), caption)] if rows else []
    if not tables and not notes:
        notes = ["No pair was judged by a person; `dino-st audit` asks for it."]
    return Section("Human check", notes, (), tables)


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
    description = "Spearman's correlation on the validation pairs over the steps"
    return Section("Training", notes, [Picture("training", description, figures.training_curve(record))])


def results_section(findings: Findings) -> Section:
    """The table of scores on the evaluation tasks."""
    if findings.scores is None:
        return Section("Results", ["There is no scores.json here; `dino-st evaluate --output` writes one."])
    names = list(next(iter(findings.scores.values())))
    cells = [[model, *_scores(row.values())] for model, row in findings.scores.items()]
    bold = set()
    for column in range(1, len(names) + 1):
        defined = [row[column] for row in cells if row[column] != _UNDEFINED]
        if len(cells) > 1 and defined:
            best = max(defined, key=float)
            bold |= {(place, column) for place, row in enumerate(cells) if row[column] == best}
    notes = []
    paper = published_scores(name for name in names if name != AVERAGE)
    if paper:
        cells += [[f"{name} (published)", *_scores(row)] for name, row in paper.rows.items()]
        notes.append(f"{paper.measure} × 100. Published rows: {paper.source}.")
    head = ["model", *map(column_head, names)]
    return Section("Results", notes, (), [Table(head, cells, "Main scores × 100", frozenset(bold))])


def _scores(values: Iterable[float | None]) -> list[str]:
    return [_UNDEFINED if value is None else f"{value:.2f}" for value in values]
