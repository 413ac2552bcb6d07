"""Text for people."""

from __future__ import annotations

import pytest

from dino_st.errors import first_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n  It is broken.\nMore.", "It is broken"),
        ("Errors in A:\n\n\tsize mismatch for b.\n\tmore", "Errors in A: size mismatch for b"),
        ("Only a heading:", "Only a heading:"),
        (" \n", "ValueError"),
    ],
)
def test_the_line_of_an_error_that_says_something(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line
