"""Scores of several models side by side, as a table on the terminal, Markdown, LaTeX and JSON.

The layout is that of Table 1 of the DINO paper: seven tasks and their average, the best in bold, and below a line the
published rows for reference; likewise for the seven transfer tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dino_st.support.files import SCORES, make_directory, write_text
from dino_st.support.text import printable

if TYPE_CHECKING:
    from rich.table import Table


AVERAGE = "average"

Cell = TypeVar("Cell")


@dataclass(frozen=True)
class PublishedScores:
    """A table of a paper, whose rows stand below ours where the tasks are the same."""

    columns: Mapping[str, str]  # the paper's column heads by the names of our tasks, in its order
    rows: Mapping[str, tuple[float, ...]]  # scores × 100 in that order, then the average as printed in the paper
    measure: str  # what the scores are
    source: str


STS_SCORES = PublishedScores(
    columns={
        "DinoSTS12": "STS12",
        "DinoSTS13": "STS13",
        "DinoSTS14": "STS14",
        "DinoSTS15": "STS15",
        "DinoSTS16": "STS16",
        "DinoSTSBenchmark": "STSb",
        "DinoSICKR": "SICK",
    },
    rows={
        "STS-Dino-x1x2": (64.87, 78.30, 66.38, 79.60, 76.47, 76.51, 74.26, 73.77),
        "STS-Dino-x2": (70.27, 81.26, 71.25, 80.49, 77.18, 77.82, 68.09, 75.20),
        "S-BERT, NLI": (70.97, 76.53, 73.19, 79.09, 74.30, 77.03, 72.91, 74.89),
        "S-RoBERTa, NLI": (71.54, 72.49, 70.80, 78.74, 73.69, 77.77, 74.46, 74.21),
        "GloVe, mean": (55.14, 70.66, 59.73, 68.25, 63.66, 58.02, 53.76, 61.32),
        "BERT, mean": (38.78, 57.98, 57.98, 63.15, 61.06, 46.35, 58.40, 54.81),
        "BERT, CLS": (20.16, 30.01, 20.09, 36.88, 38.08, 16.50, 42.63, 29.19),
    },
    measure="Spearman",
    source="Schick and Schütze 2021 (arXiv 2104.07540), Table 1",
)

TRANSFER_SCORES = PublishedScores(
    columns={
        "DinoMR": "MR",
        "DinoCR": "CR",
        "DinoSUBJ": "SUBJ",
        "DinoMPQA": "MPQA",
        "DinoSST2": "SST",
        "DinoTREC": "TREC",
        "DinoMRPC": "MRPC",
    },
    rows={
        "SynCSE-partial": (85.41, 91.44, 93.39, 89.91, 91.21, 84.40, 76.87, 87.52),
        "SynCSE-scratch": (85.47, 91.44, 92.53, 89.67, 90.94, 81.60, 76.06, 86.82),
        "SimCSE-RoBERTa": (81.04, 87.74, 93.28, 86.94, 86.60, 84.60, 73.68, 84.84),
        "SimCSE-BERT": (81.18, 86.46, 94.45, 88.88, 85.50, 89.80, 74.43, 85.81),
        "BERT, mean": (78.66, 86.25, 94.37, 88.66, 84.40, 92.80, 69.54, 84.94),
        "GloVe, mean": (77.25, 78.30, 91.17, 87.85, 80.18, 83.00, 72.87, 81.52),
    },
    measure="Accuracy",
    source="Zhang, Lan and He 2023 (arXiv 2305.15077), Table 7; Gao, Yao and Chen 2021 (arXiv 2104.08821), Table E.1",
)

PUBLISHED = (STS_SCORES, TRANSFER_SCORES)


def published_scores(tasks: Iterable[str]) -> PublishedScores | None:
    """The paper's table with just these columns, if there is one."""
    wanted = list(tasks)
    return next((each for each in PUBLISHED if wanted == list(each.columns)), None)


def column_head(task: str) -> str:
    """The papers' name of a task, or its own."""
    return next((each.columns[task] for each in PUBLISHED if task in each.columns), task)


def task_of_column(head: str) -> str | None:
    """The task of dino-st that the papers call so, in whatever case; None where there is none."""
    tasks = {name.casefold(): task for each in PUBLISHED for task, name in each.columns.items()}
    return tasks.get(head.casefold())


MTEBS_OWN = {task: head for task, head in STS_SCORES.columns.items() if head.startswith("STS1")} | {
    "DinoSTSBenchmark": "STSBenchmark",
    "DinoSICKR": "SICK-R",
}
"""MTEB's own version of each STS task; its STSBenchmark and SICK-R hold other pairs."""

OFFICIAL_MARK = " (MTEB's own tasks)"


_LATEX_SPECIAL = {
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
} | {character: "\\" + character for character in "&%$#_{}"}


@dataclass(frozen=True)
class ScoreTable:
    """Scores of models on tasks."""

    scores: Mapping[str, Mapping[str, float]]  # × 100, models and tasks in the order in which they were given
    published: bool = True  # whether a paper's rows follow where the columns are its seven

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in column order."""
        return list(next(iter(self.scores.values()), {}))

    def average(self, model: str) -> float:
        """The average of one model's scores × 100: over the seven STS tasks where all were run, else over all tasks.

        So it can be compared with the papers, whatever else was run.
        """
        scores = self.scores[model]
        columns = list(STS_SCORES.columns) if scores.keys() >= STS_SCORES.columns.keys() else self._columns
        return sum(scores[task] for task in columns) / len(columns)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """The scores rounded to four digits: `{model: {task: score × 100, ..., "average": ...}}`."""
        return {
            model: {task: round(score, 4) for task, score in scores.items()} | {AVERAGE: round(self.average(model), 4)}
            for model, scores in self.scores.items()
        }

    def to_json(self) -> str:
        """`to_dict` as indented JSON with a final newline."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """The table in Markdown, the best score of each column in bold."""
        head = ["Model", *map(_escape_markdown, self._heads())]
        lines = [_markdown_row(head), _markdown_row(["---"] + ["---:"] * (len(head) - 1))]
        lines += [_markdown_row(row) for row in self._rows(_escape_markdown, "**{}**".format)]
        paper = self.paper
        if paper:
            lines += [_markdown_row([f"*{name}*", *cells]) for name, cells in _published_cells(paper)]
        lines += ["", f"{self._title}. In italics: {paper.source}." if paper else f"{self._title}."]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        """The table in LaTeX for the package booktabs, the best score of each column in bold."""
        heads = [_escape_latex(head) for head in self._heads()]
        lines = [rf"\begin{{tabular}}{{l{'r' * len(heads)}}}", r"\toprule", _latex_row(["Model", *heads]), r"\midrule"]
        lines += [_latex_row(row) for row in self._rows(_escape_latex, r"\textbf{{{}}}".format)]
        if self.paper:
            lines += [r"\midrule", rf"\multicolumn{{{len(heads) + 1}}}{{l}}{{\emph{{{self.paper.source}}}}} \\"]
            lines += [_latex_row([_escape_latex(name), *cells]) for name, cells in _published_cells(self.paper)]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def to_rich(self) -> Table:
        """The table for a terminal; print it with `rich.console.Console().print`."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # fits 80 columns
        table.add_column("Model", overflow="fold")
        for head in self._heads():
            table.add_column(Text(head), justify="right", no_wrap=True)
        for row in self._rows(Text, partial(Text, style="bold")):  # texts and not strings, which could hold markup
            table.add_row(*row)
        if self.paper:
            table.add_section()
            table.caption = f"Last {len(self.paper.rows)} rows: {self.paper.source}"
            for name, cells in _published_cells(self.paper):
                table.add_row(name, *cells, style="dim")
        return table

    def write(self, directory: str | Path) -> None:
        """Writes `scores.json`, `scores.md` and `scores.tex`, each complete or not at all, or raises OutputError."""
        folder = Path(directory).expanduser()
        make_directory(folder)
        for name, content in (
            (SCORES, self.to_json()),
            ("scores.md", self.to_markdown()),
            ("scores.tex", self.to_latex()),
        ):
            write_text(folder / name, content)

    @property
    def paper(self) -> PublishedScores | None:
        """The published table with the same columns, if there is one and it is to be shown."""
        return published_scores(self._columns) if self.published else None

    @property
    def _title(self) -> str:
        return f"{self.paper.measure if self.paper else 'Main scores'} × 100"

    @property
    def _columns(self) -> list[str]:
        """The tasks with a column: MTEB's own versions of tasks that have one stand in a row of it."""
        in_rows = [MTEBS_OWN[task] for task in self.tasks if task in MTEBS_OWN]
        return [task for task in self.tasks if task not in in_rows]

    def _heads(self) -> list[str]:
        return [*(printable(column_head(task)) for task in self._columns), "Avg."]

    def _rows(self, plain: Callable[[str], Cell], bold: Callable[[str], Cell]) -> list[list[Cell]]:
        """Every model's cells; the best of a column is bold where there is anything to compare it with."""
        columns = self._columns
        values = {
            model: [*(scores[task] for task in columns), self.average(model)] for model, scores in self.scores.items()
        }
        printed = {model: [f"{value:.2f}" for value in row] for model, row in values.items()}
        best = [max(column, key=float) for column in zip(*printed.values(), strict=True)]
        rows = []
        for model, cells in printed.items():
            marked = [
                (bold if cell == top and len(printed) > 1 else plain)(cell)
                for cell, top in zip(cells, best, strict=True)
            ]
            rows.append([plain(printable(model)), *marked])
            own = [self.scores[model].get(MTEBS_OWN.get(task, "")) for task in columns]
            found = [score for score in own if score is not None]
            average = sum(found) / len(found) if len(found) == len(MTEBS_OWN) else None
            texts = ["" if score is None else f"{score:.2f}" for score in (*own, average)]
            rows += [[plain(printable(model + OFFICIAL_MARK)), *map(plain, texts)]] if found else []
        return rows


def _published_cells(paper: PublishedScores) -> list[tuple[str, list[str]]]:
    return [(name, [f"{score:.2f}" for score in row]) for name, row in paper.rows.items()]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape_markdown(text: str) -> str:
    return "".join("\\" + character if character in "\\|*_`[]<>" else character for character in text)


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)
