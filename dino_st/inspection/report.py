"""What lies in a directory as one self-contained page, and its pictures as PNG files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.errors import MissingExtraError, OutputError
from dino_st.inspection.options import ReportOptions
from dino_st.support.files import check_can_become_directory, make_directory, replacing, write_text
from dino_st.support.text import printable

if TYPE_CHECKING:
    from dino_st.inspection.sections import Section


PAGE = "index.html"
_MARK = '<meta name="generator" content="dino-st report">'


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
    from dino_st.inspection import sections as parts
    from dino_st.inspection.contents import find, labelled_rows

    findings = find(directory)
    sets = [labelled_rows(part, options) for part in findings.sets if part.table.num_rows and not part.is_triplets]
    sections = [parts.overview_section(findings, sets)]
    if sets:
        sections += [
            parts.labels_section(sets),
            parts.lengths_section(sets),
            parts.overlap_section(sets),
            parts.posterior_section(sets),
            parts.rejections_section(findings),
            parts.instructions_section(sets),
            parts.examples_section(sets, options),
            parts.audit_section(findings),
        ]
    else:
        sections.append(parts.Section("Rows", ["There are no rows with labels here to look at."]))
        sections.append(parts.rejections_section(findings))
    sections += [parts.training_section(findings), parts.results_section(findings)]
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
