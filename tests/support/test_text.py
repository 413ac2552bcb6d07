"""Text for people."""

from __future__ import annotations

import re
import unicodedata

import pytest

from dino_st.errors import first_line
from dino_st.support.text import MARKS, WORD, normal_form


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


def test_every_mark_that_is_written_with_letters_is_part_of_a_word_and_no_punctuation_is() -> None:
    signs = [chr(code) for code in range(0x300, 0x10000)]
    marks = {sign for sign in signs if unicodedata.category(sign)[0] == "M"} - set(map(chr, range(0xFE00, 0xFE10)))
    found = set(re.findall(f"[{MARKS}]", "".join(signs)))
    assert marks <= found
    assert {sign for sign in found if unicodedata.category(sign)[0] in "PSZ"} == set()
    assert [word for sign in marks if (word := f"क{sign}त") != re.findall(WORD, word)[0]] == []


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        ("वह किताब पढ़ता है।", "वह किताब पढ़ती है।", False),
        ("நான் வந்தேன்.", "நான் வந்தான்.", False),
        ("ผู้ชายเล่นขลุ่ย", "ผู้ชายเลนขลุ่ย", False),
        ("كَتَبَ الولد", "كُتُب الولد", False),
        ("It is -5 degrees.", "It is 5 degrees.", False),
        ("It costs $5.", "It costs €5.", False),
        ("Pages 3-5 are lost.", "Pages 3 - 5 are lost", True),
        ("Cafe\u0301s, then!", "cafés then", True),
        ("वह किताब पढ़ता है।", "“वह किताब पढ़ता है!”", True),
        ("I like it \u2764\ufe0f", "I like it.", True),
        ("\u202aHe re\u00adads.\u202c", "He reads", True),
        ("\u0646\u0645\u06cc\u200c\u0631\u0648\u062f", "\u0646\u0645\u06cc\u0631\u0648\u062f", False),
    ],
)
def test_texts_are_equal_whose_words_and_numbers_are(one: str, other: str, is_equal: bool) -> None:
    assert (normal_form(one) == normal_form(other)) == is_equal
