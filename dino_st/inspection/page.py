"""Pages of pictures and tables that need neither network nor another file; whatever comes from data is escaped."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.errors import MissingExtraError, OutputError
from dino_st.inspection.options import PICTURES
from dino_st.support.files import check_can_become_directory
from dino_st.support.hashes import short_hash
from dino_st.support.progress import logger
from dino_st.support.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.figure import Figure


PAGE = "index.html"
_MARK = '<meta name="generator" content="dino-st report">'
_PIXELS_PER_INCH = 150
_PAGE_PIXELS_PER_INCH = 96
_LONG = 12
"""Rows of a table below a picture that are shown at once; of more the reader sees the caption, and opens it."""


@dataclass(frozen=True)
class Picture:
    """A picture of the page."""

    name: str  # of its file, without suffix; what stands before the first hyphen is one of `PICTURES`
    description: str  # for those who do not see it; its numbers stand in a table below
    figure: Figure

    @cached_property
    def png(self) -> bytes:
        """The picture as a file, drawn without a display."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        buffer = io.BytesIO()
        FigureCanvasAgg(self.figure)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the tables have every character
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

    @property
    def meaning(self) -> str:
        """What it says, in a sentence."""
        return PICTURES[self.name.partition("-")[0]]


@dataclass(frozen=True)
class Table:
    """A table of the page; everything in it is plain text."""

    head: Sequence[str]  # names of the columns
    rows: Sequence[Sequence[str]]  # cells, as many a row as there are names
    caption: str = ""
    bold: frozenset[tuple[int, int]] = frozenset()  # row and column of cells that stand out
    texts: frozenset[int] = frozenset({0})  # columns that hold text to read and not numbers
    folds: bool = False  # whether it is shown closed if it is long

    @property
    def is_folded(self) -> bool:
        """Whether only the caption is seen at first."""
        return self.folds and len(self.rows) > _LONG


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    title: str
    notes: Sequence[str] = ()  # remarks, above all else
    pictures: Sequence[Picture] = ()  # side by side where there is room
    tables: Sequence[Table] = ()  # below the pictures
    absent: str = ""  # why there is nothing to show, and what would change that; such sections stand at the end
    share: float | None = None  # what is done of something, from 0 to 1, drawn as a bar
    links: Sequence[tuple[str, str]] = ()  # words and addresses of what belongs to it


def render(title: str, sections: Sequence[Section], subject: str = "", *, refresh: float | None = None) -> str:
    """The page on a subject (`subject_of`), which loads itself again after `refresh` seconds if they are given."""
    shown = [section for section in sections if not section.absent]
    absent = [section for section in sections if section.absent]
    seconds = None if refresh is None else max(1, round(refresh))
    page = environment().from_string(template("report.html"))
    return page.render(
        title=title, sections=shown, absent=absent, subject=subject, version=version("dino-st"), refresh=seconds
    )


def template(name: str) -> str:
    """The text of a file that pages are made of."""
    return resources.files("dino_st.inspection").joinpath("templates", name).read_text(encoding="utf-8")


def environment() -> Environment:
    """What fills templates: everything is escaped, and a name that was not given is an error."""
    from jinja2 import Environment, StrictUndefined

    made = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    made.filters["code"] = _with_code
    return made


def _with_code(text: str) -> Markup:
    """A remark whose parts between backticks look like code."""
    from markupsafe import Markup, escape

    pieces = [escape(piece) for piece in re.split("`([^`]+)`", printable(text))]
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(pieces))


def _shown(value: object) -> object:
    """Text without what might turn its direction or be obeyed."""
    return printable(value) if type(value) is str else value


def check_extras(*needed: tuple[str, str], what: str = "a report", extra: str = "report") -> None:
    """Raises unless the libraries of a page, given as name and module, are installed."""
    for library, module in needed:
        if not _is_installed(module):
            raise MissingExtraError(f'{what} needs {library}; run: pip install "dino-st[{extra}]"')


def _is_installed(module: str) -> bool:
    return find_spec(module) is not None


def subject_of(directories: Path | Sequence[Path]) -> str:
    """A hash that stands on a page for the directories that it is about."""
    several = [directories] if isinstance(directories, Path) else directories
    return short_hash("\0".join(str(directory.resolve()) for directory in several))


def check_page_directory(output: Path, subject: str, *, overwrite: bool) -> None:
    """Raises unless the output is new, empty, or an earlier report on the same subject, or on any with `overwrite`."""
    check_can_become_directory(output)
    if not output.is_dir() or not any(output.iterdir()):
        return
    try:
        page = (output / PAGE).read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError:
        page = ""
    if _MARK not in page:
        raise OutputError(f"{output}: holds something else than a report; choose an empty directory or a new name")
    earlier = "".join(re.findall(r'<meta name="dino-st-subject" content="(\w*)">', page)[:1])
    if earlier not in ("", subject) and not overwrite:
        raise OutputError(
            f"{output}: holds the report on something else; choose a new name, or replace it with overwrite=True"
        )
    logger.info("%s: the report that is there is %s", output, "renewed" if earlier == subject else "replaced")
