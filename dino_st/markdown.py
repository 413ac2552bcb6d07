"""Small pieces of Markdown for the cards of data sets and models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def facts_table(heading: str, facts: Mapping[str, Any]) -> str:
    """A table of names and values.

    Args:
        heading: What stands above the names.
        facts: Names and values; values that are no strings are written as JSON.

    Returns:
        Markdown without a final newline.
    """
    lines = [f"| {heading} | value |", "| --- | --- |"]
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"| {_cell(name)} | {_cell(text)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text that neither ends a cell nor a row."""
    return text.replace("|", "\\|").replace("\r", " ").replace("\n", " ")
