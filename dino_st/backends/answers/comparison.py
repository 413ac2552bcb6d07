"""Texts as comparisons see them, and whether one repeats another."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from dino_st.support.text import folded, normal_form, spaced, words_in

_RUN, _MOSTLY = 3, 0.7


def repeats(text: str, shown: Iterable[str], given: str = "", *, longest: int | None = None) -> bool:
    """Whether a text repeats what a prompt shows: exactly, nearly, in part, or as a splice of several texts.

    Most of its words stand in runs of three that one of these texts has and the given sentence has not; or so many
    words in a row, where a `longest` run is given.

    Example:
        >>> shown = ["Two boys chase a kite along the beach.", "The central bank left rates as they were."]
        >>> repeats("Two boys chase a kite as they were.", shown), repeats("A kite is chased by boys.", shown)
        (True, False)
    """
    runs = set().union(*map(_runs, shown)).difference(_runs(given))
    own = _runs(text)
    covered = {place + i for place, run in enumerate(own) if run in runs for i in range(len(run))}
    words = len(own) + len(own[0]) - 1
    streak = "".join("x" if place in covered else " " for place in range(words))
    return bool(covered) and (len(covered) >= _MOSTLY * words or max(map(len, streak.split())) >= (longest or words))


def beside(text: str, given: str) -> tuple[str, str]:
    """What stands behind, and what before, the given sentence's words in a text that begins, or ends, with them.

    Example:
        >>> beside("A man plays; he blows.", "A man plays."), beside("He blows: a man plays.", "A man plays.")
        (('; he blows.', ''), ('', 'he blows: '))
    """
    whole, words = folded(text), [word[0] for word in words_in(folded(given))]
    found, number = words_in(whole), len(words)
    if not 0 < number < len(found):
        return "", ""
    behind = whole[found[number - 1].end() :] if [word[0] for word in found[:number]] == words else ""
    before = whole[: found[-number].start()] if [word[0] for word in found[-number:]] == words else ""
    return behind, before


def words_of(text: str) -> list[str]:
    """The words of the normal form; in scripts without spaces every two letters in a row."""
    return spaced(normal_form(text)).split()


@lru_cache(maxsize=4096)
def _runs(text: str) -> tuple[tuple[str, ...], ...]:
    """The runs of three words of a text; all of its words where it has fewer."""
    words = words_of(text)
    return tuple(tuple(words[i : i + _RUN]) for i in range(max(1, len(words) - _RUN + 1)))
