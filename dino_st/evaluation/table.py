"""Scores of several models side by side, as a table on the terminal, Markdown, LaTeX and JSON.

The layout is that of Table 1 of the DINO paper: seven tasks and their average, the best in bold, and below a line the
published rows for reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.support.files import make_directory, write_text

if TYPE_CHECKING:
    from rich.table import Table


AVERAGE = "average"

# The seven tasks of the papers, in their order, and the papers' column heads.
PAPER_COLUMNS = {
    "DinoSTS12": "STS12",
    "DinoSTS13": "STS13",
    "DinoSTS14": "STS14",
    "DinoSTS15": "STS15",
    "DinoSTS16": "STS16",
    "DinoSTSBenchmark": "STSb",
    "DinoSICKR": "SICK",
}

PUBLISHED_SOURCE = "Schick and Schütze 2021 (arXiv 2104.07540), Table 1"

# Spearman × 100 in the order of PAPER_COLUMNS, then the average as printed in the paper.
PUBLISHED_ROWS: dict[str, tuple[float, ...]] = {
    "STS-Dino-x1x2": (64.87, 78.30, 66.38, 79.60, 76.47, 76.51, 74.26, 73.77),
    "STS-Dino-x2": (70.27, 81.26, 71.25, 80.49, 77.18, 77.82, 68.09, 75.20),
    "S-BERT, NLI": (70.97, 76.53, 73.19, 79.09, 74.30, 77.03, 72.91, 74.89),
    "S-RoBERTa, NLI": (71.54, 72.49, 70.80, 78.74, 73.69, 77.77, 74.46, 74.21),
    "GloVe, mean": (55.14, 70.66, 59.73, 68.25, 63.66, 58.02, 53.76, 61.32),
    "BERT, mean": (38.78, 57.98, 57.98, 63.15, 61.06, 46.35, 58.40, 54.81),
    "BERT, CLS": (20.16, 30.01, 20.09, 36.88, 38.08, 16.50, 42.63, 29.19),
}

_LATEX_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: "\\" + character for character in "&%$#_{}"
}


@dataclass(frozen=True)
class ScoreTable:
    """Scores of models on tasks.

    Attributes:
        scores: Each model's score on each task × 100, models and tasks in the order in which they were given.
        published: Whether the tables end in the paper's rows; only where the columns are the paper's seven.
    """

    scores: Mapping[str, Mapping[str, float]]
    published: bool = True

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in column order."""
        return list(next(iter(self.scores.values()), {}))

    def average(self, model: str) -> float:
        """The average of one model's scores × 100.

        Args:
            model: One of the table's models.

        Returns:
            The mean over the seven tasks of the papers where all of them were run, so that it can be compared with the
            papers whatever else was run; else the mean over all tasks.
        """
        scores = self.scores[model]
        columns = PAPER_COLUMNS if scores.keys() >= PAPER_COLUMNS.keys() else scores.keys()
        return sum(scores[task] for task in columns) / len(columns)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """The scores as plain dictionaries, rounded to four digits.

        Returns:
            `{model: {task: score × 100, ..., "average": ...}}`.
        """
        return {
            model: {task: round(score, 4) for task, score in scores.items()} | {AVERAGE: round(self.average(model), 4)}
            for model, scores in self.scores.items()
        }

    def to_json(self) -> str:
        """`to_dict` as indented JSON with a final newline."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """The table in Markdown, the best score of each column in bold."""
        head = ["Model", *self._heads()]
        lines = [_markdown_row(head), _markdown_row(["---"] + ["---:"] * (len(head) - 1))]
        lines += [_markdown_row(row) for row in self._rows(_escape_markdown, "**{}**".format)]
        if self._shows_published:
            lines += [_markdown_row([f"*{name}*", *cells]) for name, cells in _published_cells()]
            lines += ["", f"Spearman × 100. In italics: {PUBLISHED_SOURCE}."]
        else:
            lines += ["", "Main scores × 100."]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        """The table in LaTeX for the package booktabs, the best score of each column in bold."""
        heads = [_escape_latex(head) for head in self._heads()]
        lines = [rf"\begin{{tabular}}{{l{'r' * len(heads)}}}", r"\toprule", _latex_row(["Model", *heads]), r"\midrule"]
        lines += [_latex_row(row) for row in self._rows(_escape_latex, r"\textbf{{{}}}".format)]
        if self._shows_published:
            lines += [r"\midrule", rf"\multicolumn{{{len(heads) + 1}}}{{l}}{{\emph{{{PUBLISHED_SOURCE}}}}} \\"]
            lines += [_latex_row([_escape_latex(name), *cells]) for name, cells in _published_cells()]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def to_rich(self) -> Table:
        """The table for a terminal; print it with `rich.console.Console().print`."""
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        title = "Spearman × 100" if self._shows_published else "Main scores × 100"
        table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # fits 80 columns
        table.add_column("Model", overflow="fold")
        for head in self._heads():
            table.add_column(head, justify="right", no_wrap=True)
        for row in self._rows(escape, "[bold]{}[/bold]".format):
            table.add_row(*map(Text.from_markup, row))
        if self._shows_published:
            table.add_section()
            table.caption = f"Last {len(PUBLISHED_ROWS)} rows: {PUBLISHED_SOURCE}"
            for name, cells in _published_cells():
                table.add_row(name, *cells, style="dim")
        return table

    def write(self, directory: str | Path) -> None:
        """Writes `scores.json`, `scores.md` and `scores.tex`, each complete or not at all.

        Args:
            directory: Where to; made where it does not exist.

        Raises:
            OutputError: A file cannot be written.
        """
        folder = Path(directory)
        make_directory(folder)
        for name, content in (
            ("scores.json", self.to_json()),
            ("scores.md", self.to_markdown()),
            ("scores.tex", self.to_latex()),
        ):
            write_text(folder / name, content)

    @property
    def _shows_published(self) -> bool:
        return self.published and self.tasks == list(PAPER_COLUMNS)

    def _heads(self) -> list[str]:
        return [*(PAPER_COLUMNS.get(task, task) for task in self.tasks), "Avg."]

    def _rows(self, escape: Callable[[str], str], bold: Callable[[str], str]) -> list[list[str]]:
        """Every model's cells; the best of a column is bold where there is anything to compare it with."""
        values = {model: [*scores.values(), self.average(model)] for model, scores in self.scores.items()}
        printed = {model: [f"{value:.2f}" for value in row] for model, row in values.items()}
        best = [max(column, key=float) for column in zip(*printed.values(), strict=True)]
        rows = []
        for model, cells in printed.items():
            marked = [
                bold(cell) if cell == top and len(printed) > 1 else cell for cell, top in zip(cells, best, strict=True)
            ]
            rows.append([escape(model), *marked])
        return rows


def _published_cells() -> list[tuple[str, list[str]]]:
    return [(name, [f"{score:.2f}" for score in row]) for name, row in PUBLISHED_ROWS.items()]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape_markdown(text: str) -> str:
    return "".join("\\" + character if character in "\\|*_`[]<>" else character for character in text)


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)
