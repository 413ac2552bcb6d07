"""Texts without duplicates, of which memory holds only a few at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import overload

from dino_st.errors import OutputError


class DistinctTexts(Sequence[str]):
    """An ordered set of texts that is read like a tuple.

    They stand in a private SQLite database: in memory while they fit into its cache of two megabytes, in a temporary
    file that nobody else sees from then on.

    Example:
        >>> texts = DistinctTexts()
        >>> texts.add("A man plays a flute."), texts.add("It rains."), texts.add("It rains.")
        (True, True, False)
        >>> texts[1:]
        ['It rains.']
    """

    def __init__(self) -> None:
        self._length = 0
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE texts (place INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);"
        )

    def add(self, text: str) -> bool:
        """Takes a text in as the last one, unless it is there.

        Args:
            text: Anything that can be written as UTF-8.

        Returns:
            Whether it is new.

        Raises:
            OutputError: If there is no room for it on the disk.
        """
        try:
            found = self._database.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (self._length, text))
        except sqlite3.Error as error:
            raise OutputError(
                f"the sentences do not fit into a temporary file ({error}); let TMPDIR name a directory with more room"
            ) from None
        self._length += found.rowcount
        return found.rowcount == 1

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        return self._select(0, self._length)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            places = range(self._length)[place]
            if places.step == 1:
                return list(self._select(places.start, places.stop))
            return [self[i] for i in places]
        number = range(self._length)[place]
        return next(self._select(number, number + 1))

    def _select(self, start: int, stop: int) -> Iterator[str]:
        found = self._database.execute(
            "SELECT text FROM texts WHERE place >= ? AND place < ? ORDER BY place", (start, stop)
        )
        return (text for (text,) in found)
