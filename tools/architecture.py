"""Draws the packages and the arrows between them into the documentation, from the imports as they are.

    python -m tools.architecture           writes docs/architecture.svg and the table in docs/architecture.md
    python -m tools.architecture --check   fails where either is not what the code says (`make lint` runs it)

An arrow is drawn where a package imports another and does not reach it through a third one (transitive reduction).
"""

from __future__ import annotations

import argparse
import ast
import graphlib
import html
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- packages: written by tools/architecture.py -->\n", "<!-- end of packages -->\n"
PACKAGES = ("dino_st", "mteb_tasks")
LEFT_OUT = ("dino_st.errors", "dino_st.models", "dino_st.support", "dino_st.__main__")
"""Whatever may be imported from everywhere, and what only starts the command line."""

WIDTH, HEIGHT, ROW, GAP, MARGIN = 164, 34, 92, 26, 20


def rooms() -> dict[str, Path]:
    """The packages of `dino_st`, its modules at the root, and `mteb_tasks`, by dotted name."""
    found = {"mteb_tasks": ROOT / "mteb_tasks"}
    for path in sorted((ROOT / "dino_st").iterdir()):
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.stem != "__init__"):
            found[f"dino_st.{path.stem}"] = path
    return found


def first_line(path: Path) -> str:
    """What the docstring of a package or module says first."""
    file = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def arrows(names: list[str]) -> dict[str, set[str]]:
    """Which package imports which, without what follows from other arrows."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    owner = {
        module: name for module in graph.modules for name in names if module == name or module.startswith(f"{name}.")
    }
    direct: dict[str, set[str]] = {name: set() for name in names}
    for module, name in owner.items():
        reached = {owner.get(imported, name) for imported in graph.find_modules_directly_imported_by(module)}
        direct[name] |= reached - {name}
    list(graphlib.TopologicalSorter(direct).static_order())  # raises where packages import each other in a circle

    def below(name: str) -> set[str]:
        return direct[name].union(*(below(other) for other in direct[name]))

    return {
        name: {to for to in others if not any(to in below(other) for other in others - {to})}
        for name, others in direct.items()
    }


def levels(edges: dict[str, set[str]]) -> list[list[str]]:
    """The packages from the top row to the bottom row; an arrow always points down."""

    def height(name: str) -> int:
        return 1 + max((height(other) for other in edges[name]), default=-1)

    heights = {name: height(name) for name in edges}
    return [sorted(name for name in edges if heights[name] == row) for row in range(max(heights.values()), -1, -1)]


def picture(edges: dict[str, set[str]]) -> str:
    """The packages as boxes in rows, and the arrows, as SVG."""
    rows = levels(edges)
    width = MARGIN * 2 + max(len(row) for row in rows) * (WIDTH + GAP) - GAP
    places = {}
    for y, row in enumerate(rows):
        left = (width - len(row) * (WIDTH + GAP) + GAP) / 2
        places |= {name: (left + x * (WIDTH + GAP), MARGIN + y * ROW) for x, name in enumerate(row)}
    height = MARGIN * 2 + (len(rows) - 1) * ROW + HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        'font-family="sans-serif" font-size="14">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#57606a"/></marker></defs>',
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>',
    ]
    for name, others in sorted(edges.items()):
        x, y = places[name]
        for number, other in enumerate(sorted(others, key=lambda each: places[each])):
            start = x + WIDTH * (number + 1) / (len(others) + 1)
            users = sorted((user for user in edges if other in edges[user]), key=lambda each: places[each])
            end = places[other][0] + WIDTH * (users.index(name) + 1) / (len(users) + 1)
            lines.append(
                f'<path d="M{start:.1f} {y + HEIGHT:.1f}C{start:.1f} {y + HEIGHT + 30:.1f} {end:.1f} '
                f'{places[other][1] - 34:.1f} {end:.1f} {places[other][1] - 2:.1f}" fill="none" stroke="#57606a" '
                'marker-end="url(#tip)"/>'
            )
    for name, (x, y) in places.items():
        fill = "#fff8c5" if name == "mteb_tasks" else "#ddf4ff"
        lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="#54aeff"/>'
            f'<text x="{x + WIDTH / 2:g}" y="{y + 22:g}" text-anchor="middle">'
            f"{html.escape(name.removeprefix('dino_st.'))}</text>"
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def table(found: dict[str, Path]) -> str:
    """Every package with what it is for and its files, those that come first in a run first."""
    lines = ["| package | what it is for | its files |", "| --- | --- | --- |"]
    for name, path in found.items():
        if name in ("dino_st.__main__", "dino_st.models"):
            continue
        modules = sorted(file.stem for file in path.glob("*.py") if file.stem != "__init__") if path.is_dir() else []
        shown = name.removeprefix("dino_st.")
        lines.append(f"| `{shown}` | {first_line(path)} | {', '.join(f'`{module}`' for module in modules)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes the picture and the table, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the documentation lies")
    check = parser.parse_args().check
    found = rooms()
    edges = arrows([name for name in found if name not in LEFT_OUT])
    order = [name for row in reversed(levels(edges)) for name in row]
    listed = [*order, *(name for name in found if name not in order)]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    page = before + BEGIN + table({name: found[name] for name in listed}) + END + rest.partition(END)[2]
    wanted = {PICTURE: picture(edges), PAGE: page}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is not what the imports say; run python -m tools.architecture")
        else:
            path.write_text(wanted[path], encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
