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
WITHOUT_FORM = "\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
"""Characters, as ranges, that are not seen and change no letter: soft hyphens, zero-width spaces, marks of byte order,
and those that turn the direction of writing. Joiners (U+200C, U+200D) do change letters."""
_WITHOUT_FORM = re.compile(f"[{WITHOUT_FORM}]")

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Letters of Chinese, Japanese, Thai, Lao, Burmese and Khmer, as ranges."""
MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7\u0610-\u061a\u064b-\u065f"
    "\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0711-\u07f3\u07fd\u0816-\u082d\u0859-\u085b\u0897-\u08e1"
    "\u08e3-\u0963\u0981-\u09e3\u09fe-\u0a75\u0a81-\u0ae3\u0afa-\u0b63\u0b82-\u0bd7\u0c00-\u0c63\u0c81-\u0c83"
    "\u0cbc-\u0d4d\u0d57-\u0d63\u0d81-\u0df3\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ece\u0f18-\u0f19\u0f35\u0f37"
    "\u0f39\u0f3e-\u0f84\u0f86-\u0fbc\u0fc6\u102b-\u103e\u1056-\u109d\u135d-\u135f\u1712-\u1734\u1752-\u17d3"
    "\u17dd\u180b-\u180d\u180f-\u193b\u1a17-\u1a1b\u1a55-\u1a7f\u1ab0-\u1b44\u1b6b-\u1b73\u1b80-\u1bf3"
    "\u1c24-\u1c37\u1cd0-\u1cd2\u1cd4-\u1dff\u20d0-\u20f0\u2cef-\u2cf1\u2d7f-\u2dff\u302a-\u302f\u3099-\u309a"
    "\ua66f-\ua672\ua674-\ua67d\ua69e-\ua6f1\ua802-\ua827\ua82c\ua880-\ua8c5\ua8e0-\ua8f1\ua8ff-\ua92d"
    "\ua947-\ua953\ua980-\ua9c0\ua9e5-\uaa4d\uaa7b-\uaac1\uaaeb-\uaaef\uaaf5-\uaaf6\uabe3-\uabea\uabec-\uabed"
    "\ufb1e\ufe20-\ufe2f"
)
"""Vowel signs and other marks as ranges, with the letters between them: parts of words that are no `\\w`."""
WORD = rf"[^\W_]++(?:[{MARKS}]++[^\W_]*+)*+"
"""A run of letters, marks and digits, as a pattern."""
_WORDS = re.compile(rf"{WORD}(?:'{WORD})*+|(?<!\w)[-−+$€£¥](?=\d){WORD}")
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


def folded(text: str) -> str:
    """A text in compatibility forms, small letters and straight apostrophes."""
    return unicodedata.normalize("NFKC", _WITHOUT_FORM.sub("", text)).casefold().replace("’", "'")


def without_form(text: str) -> str:
    """A text as it counts among others that differ in Unicode form (composed or not), blanks or what is not seen.

    Example:
        >>> without_form(" A  cafe\N{COMBINING ACUTE ACCENT}\N{NO-BREAK SPACE}is\N{ZERO WIDTH SPACE} open. ")
        'A café is open.'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", _WITHOUT_FORM.sub("", text))
    return " ".join(text.split())


def words_in(text: str) -> list[re.Match[str]]:
    """Where the words and numbers, with their signs, stand in a text that is folded."""
    return list(_WORDS.finditer(text))


def normal_form(text: str) -> str:
    """A text as it counts among others that differ in case, spaces, Unicode form or punctuation alone; else empty.

    What is left are words, and numbers with the sign before them, between single spaces.

    Example:
        >>> normal_form(' “A man—plays” the FLUTE!'), normal_form("It is -5°."), normal_form("?!")
        ('a man plays the flute', 'it is -5', '')
    """
    return " ".join(word[0] for word in words_in(folded(text)))


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
