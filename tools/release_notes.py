"""Prints the changelog's section for a version tag, and refuses a tag that the repository is not ready for.

python tools/release_notes.py v0.2.0 > notes.md
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def release_notes(tag: str, root: Path = ROOT) -> str:
    """The section of a version in CHANGELOG.md.

    Args:
        tag: The version with a `v` in front.
        root: The repository.

    Returns:
        Markdown without the section's heading.

    Raises:
        ValueError: `pyproject.toml` or `CITATION.cff` says another version, or the changelog has no dated section.
    """
    wanted = tag.removeprefix("v")
    package = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    cited = re.search(r"^version: *\"?([^\s\"]+)", (root / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    for file, version in (("pyproject.toml", package), ("CITATION.cff", cited and cited[1])):
        if version != wanted:
            raise ValueError(f"{file} says version {version}, the tag {tag}; they must agree")
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(
        rf"^## \[{re.escape(wanted)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if section is None:
        raise ValueError(f"CHANGELOG.md has no section '## [{wanted}] - YYYY-MM-DD'; date it")
    return section[1].strip()


if __name__ == "__main__":
    try:
        print(release_notes(sys.argv[1]))
    except (IndexError, ValueError) as error:
        sys.exit(f"error: {error}" if isinstance(error, ValueError) else __doc__)
