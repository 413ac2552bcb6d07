"""Text made harmless for terminals and pages, its words in every script, and small pieces of Markdown for cards."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_TURNS_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNPRINTABLE = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
_INVISIBLE_LETTERS = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]")
"""Fillers, joiners and variation selectors that Unicode counts as letters, marks or signs."""


UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Letters of Chinese, Japanese, Thai, Lao, Burmese and Khmer, as ranges."""
_UNSPACED = re.compile(rf"[「『（〈《【“‘]?([{UNSPACED}]+)[^\w\s]*")
"""Such letters in a row, and the punctuation around them."""


def is_unspaced(text: str) -> bool:
    """Whether a text has letters of a script that puts no spaces between words."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def spaced(text: str) -> str:
    """A text whose words stand between spaces: in scripts without spaces, every two letters in a row are a word.

    Example:
        >>> spaced("我喜欢 Python。"), spaced("The cat sat.")
        (' 我喜 喜欢  Python。', 'The cat sat.')
    """
    return text if text.isascii() else _UNSPACED.sub(_pairs_of_letters, text)


def _pairs_of_letters(run: re.Match[str]) -> str:
    letters = run[1]
    return f" {' '.join(letters[i : i + 2] for i in range(max(1, len(letters) - 1)))} "


def count_words(text: str) -> int:
    """How many words a text has, in any script; see `spaced`."""
    return len(spaced(text).split())


def is_blank(text: str) -> bool:
    r"""Whether nothing of a text can be seen: it is empty, or of spaces, controls and invisible characters alone.

    Example:
        >>> is_blank(" \u200b\n"), is_blank(".")
        (True, False)
    """
    return all(unicodedata.category(sign) in _INVISIBLE or _INVISIBLE_LETTERS.match(sign) for sign in text)


def without_look(text: str) -> str:
    """A text as it counts among others that differ in case, spaces, Unicode form or punctuation at the end alone.

    Vowel signs stay, which `normal_form` of replies leaves out; so does a text of punctuation alone.

    Example:
        >>> without_look("A  man plays. "), without_look("?!")
        ('a man plays', '?!')
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    end = len(folded)
    while end and (folded[end - 1] == " " or unicodedata.category(folded[end - 1])[0] == "P"):
        end -= 1
    return folded[:end] or folded


def printable(text: str) -> str:
    r"""Makes one line of a text, without what a terminal might obey or what would show another order than is written.

    These are control characters (so that no escape sequence survives), line and paragraph separators, marks that turn
    the direction of writing, surrogates and code points that mean nothing. Tabs and line ends become spaces.

    Example:
        >>> printable("A \x1b[31mcat")
        'A �[31mcat'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character in "\t\n\r":
        return " "
    hidden = character in _TURNS_DIRECTION or unicodedata.category(character) in _UNPRINTABLE
    return _REPLACEMENT if hidden else character


def with_short_hashes(text: str) -> str:
    """Text for people with the first eight digits of every hash; files hold them whole.

    Example:
        >>> with_short_hashes("was " + "0123456789abcdef" * 4)
        'was 01234567…'
    """
    return re.sub(r"\b([0-9a-f]{8})[0-9a-f]{24,}\b", r"\1…", text)


def facts_table(heading: str, facts: Mapping[str, Any]) -> str:
    """A Markdown table of names and values, without a final newline; values that are no strings become JSON."""
    lines = [f"| {heading} | value |", "| --- | --- |"]
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f"| {_cell(name)} | {_cell(text)} |")
    return "\n".join(lines)


def flat_facts(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as one level, their names joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            flat |= flat_facts(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _cell(text: str) -> str:
    """Text that neither ends a cell nor a row, nor begins a tag."""
    return text.replace("|", "\\|").replace("<", "\\<").replace("\r", " ").replace("\n", " ")
