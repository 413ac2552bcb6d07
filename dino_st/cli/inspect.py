"""The commands that show people what was written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dino_st.cli.arguments import takes
from dino_st.cli.summary import note
from dino_st.cli.support import Overwrite, say
from dino_st.errors import ConfigurationError
from dino_st.inspection.options import PICTURES, TOKEN_VARIABLE, AuditOptions, PageOptions, ReportOptions


@takes(AuditOptions, PageOptions, more={"per_score": {"names": ("--number", "-n")}})
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
    web: Annotated[bool, typer.Option("--web", help="Judge on a page in the browser, several people at once.")] = False,
    annotators: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Who judges; with --web, may be given several times, and each has a link."),
    ] = None,
    imported: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Add the judgements of an export of Argilla or Label Studio."),
    ] = None,
) -> None:
    """Judge a sample of pairs yourself, blind to their scores, and see how right the scores are."""
    at = {name: given.pop(name) for name in PageOptions.model_fields if name in given}
    page = PageOptions.of(**{"token": os.environ.get(TOKEN_VARIABLE), **at})
    options = AuditOptions.of(**given)
    chosen = [name for name, is_given in (("--web", web), ("--summary", summary), ("--import", imported)) if is_given]
    if len(chosen) > 1:
        raise ConfigurationError(f"{' and '.join(chosen)}: each is a run of its own; give one of them")
    if at and not web:
        raise ConfigurationError(f"{', '.join(f'--{name}' for name in at)}: is of the page; give --web as well")
    if annotators and (summary or imported):
        raise ConfigurationError(f"--annotators: {chosen[0]} takes everybody who judged; leave the names out")
    from dino_st.inspection.audit import ANSWERS, import_judgements, run_audit, scores_of, summarise, write_table

    answers = output or directory / ANSWERS
    if web:
        from dino_st.inspection.web import serve_audit

        serve_audit(directory, answers, options, page, annotators or [], say)
        return
    table: str | None
    if imported is not None:
        say(import_judgements(directory, answers, options, imported))
        table = write_table(answers)
    elif summary:
        table = summarise(directory, answers)
    else:
        table = run_audit(directory, answers, options, _ask, say, annotators=annotators or [])
    if table is not None:
        note(output=answers.with_suffix(".json"))
        say(f"\n{table}")
        say(f"Written to {answers.with_suffix('.md')} and {answers.with_suffix('.json')}")
        say(f"The judged pairs, for `dino-st evaluate --pairs`: {scores_of(answers)}")


@takes(ReportOptions)
def report(
    directories: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR…",
            help="Directories of `dino-st generate`, `prepare`, `train` or `evaluate`, or one that holds some of "
            "these, such as that of a recipe; several are shown side by side.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory for index.html and the pictures.")],
    given: dict[str, Any],
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Watch runs that are still writing: the page shows how far they are and loads itself again, and "
            "becomes the report when they are whole.",
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Show what is in directories as one page with pictures: labels, lengths, overlap, rejections, training, scores."""
    options = ReportOptions.of(**given)
    if follow:
        from dino_st.inspection.live import follow_runs

        page = follow_runs(directories, output, options, say, overwrite=overwrite)
    else:
        from dino_st.inspection.report import write_report

        page = write_report(directories, output, options, overwrite=overwrite)
    note(output=page)
    say(f"Written to {page}")


report.__doc__ = f"""{report.__doc__}

Each picture has its numbers in a table below it, and says:

{"".join(f"{chr(10)}{name}: {meaning}{chr(10)}" for name, meaning in PICTURES.items())}"""


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
