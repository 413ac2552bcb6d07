"""The commands that show people what was written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dino_st.cli.arguments import takes
from dino_st.cli.summary import note
from dino_st.cli.support import say
from dino_st.inspection.options import AuditOptions, ReportOptions


@takes(AuditOptions, more={"per_score": {"names": ("--number", "-n")}})
def audit(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory of `dino-st prepare` or `dino-st generate`.")
    ],
    given: dict[str, Any],
    output: Annotated[
        Path | None,
        typer.Option(
            help="File for the answers, ending in .jsonl; run again to go on.", show_default="DIR/audit.jsonl"
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Only write and print the table of what was judged so far.")
    ] = False,
) -> None:
    """Judge a sample of pairs yourself, blind to their scores, and see how right the scores are."""
    options = AuditOptions.of(**given)
    from dino_st.inspection.audit import ANSWERS, run_audit, summarise

    answers = output or directory / ANSWERS
    table = summarise(directory, answers) if summary else run_audit(directory, answers, options, _ask, say)
    if table is not None:
        note(output=answers.with_suffix(".json"))
        say(f"\n{table}")
        say(f"Written to {answers.with_suffix('.md')} and {answers.with_suffix('.json')}")


@takes(ReportOptions)
def report(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Directory of `dino-st generate`, `prepare`, `train` or `evaluate`, or of a whole recipe.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory for index.html and the pictures.")],
    given: dict[str, Any],
) -> None:
    """Show what is in a directory as one page with pictures: labels, lengths, overlap, rejections, training, scores."""
    options = ReportOptions.of(**given)
    from dino_st.inspection.report import write_report

    page = write_report(directory, output, options)
    note(output=page)
    say(f"Written to {page}")


def _ask() -> str | None:
    """A single key from a terminal, else a line; None at the end of the input."""
    if sys.stdin is None:
        return None
    if sys.stdin.isatty():
        try:
            return typer.getchar()
        except EOFError:
            return None
    try:
        return sys.stdin.readline() or None
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}"
