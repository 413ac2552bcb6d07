"""The commands that show people what was written; argument parsing and keys only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dino_st.cli.support import console, friendly, option_of, prompt_settings
from dino_st.inspection.options import AuditOptions, ReportOptions

_AUDIT = AuditOptions.model_fields
_REPORT = ReportOptions.model_fields


@friendly
def audit(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory of `dino-st prepare` or `dino-st generate`.")
    ],
    per_score: Annotated[int, option_of(_AUDIT["per_score"], "--number", "-n")] = _AUDIT["per_score"].default,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File for the answers, ending in .jsonl; run again to go on.", show_default="DIR/audit.jsonl"
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Only write and print the table of what was judged so far.")
    ] = False,
    seed: Annotated[int, option_of(_AUDIT["seed"])] = _AUDIT["seed"].default,
) -> None:
    """Judge a sample of pairs yourself, blind to their scores, and see how right the scores are."""
    from dino_st.inspection.audit import ANSWERS, run_audit, summarise

    answers = output or directory / ANSWERS
    options = AuditOptions.of(**prompt_settings(locals(), _AUDIT))
    table = summarise(directory, answers) if summary else run_audit(directory, answers, options, _ask, _show)
    if table is not None:
        _show(f"\n{table}")
        _show(f"Written to {answers.with_suffix('.md')} and {answers.with_suffix('.json')}")


@friendly
def report(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Directory of `dino-st generate`, `prepare`, `train` or `evaluate`, or of a whole recipe.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory for index.html and the pictures.")],
    sample: Annotated[int, option_of(_REPORT["sample"])] = _REPORT["sample"].default,
    examples: Annotated[int, option_of(_REPORT["examples"])] = _REPORT["examples"].default,
    seed: Annotated[int, option_of(_REPORT["seed"])] = _REPORT["seed"].default,
) -> None:
    """Show what is in a directory as one page with pictures: labels, lengths, overlap, rejections, training, scores."""
    from dino_st.inspection.report import write_report

    page = write_report(directory, output, ReportOptions.of(**prompt_settings(locals(), _REPORT)))
    console.print(f"Written to {page}", highlight=False, soft_wrap=True)


def _ask() -> str | None:
    """A single key from a terminal, else a line; None at the end of the input."""
    if sys.stdin.isatty():
        try:
            return typer.getchar()
        except EOFError:
            return None
    try:
        return sys.stdin.readline() or None
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}"


def _show(text: str) -> None:
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
