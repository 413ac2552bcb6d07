"""`shelf:///directory/…`: an object store in a directory of this machine, which every process sees that imports this.

It puts, gets, lists and removes whole objects, and can do no more: nothing is renamed, copied, appended to or locked.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import fsspec


class Shelf(fsspec.AbstractFileSystem):
    """The store; `puts` counts what was put, and the put of the number `fails_at` and all behind it fail."""

    protocol = "shelf"
    cachable = False
    puts = 0
    fails_at: int | None = None
    error: Exception = ConnectionError("the network is gone")
    knows_conditions = True

    @staticmethod
    def _file(path: str) -> Path:
        return Path("/" + path.rpartition("://")[2].strip("/"))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        place = self._file(path)
        if place.is_file():
            found = [place]
        else:
            found = [one for one in place.iterdir() if not one.name.startswith("\x01")] if place.is_dir() else []
            found = [one for one in found if one.is_file() or any(below.is_file() for below in one.rglob("*"))]
        if not found:
            raise FileNotFoundError(path)
        kinds = {True: "file", False: "directory"}
        entries = [{"name": str(one), "size": one.stat().st_size, "type": kinds[one.is_file()]} for one in found]
        return entries if detail else [entry["name"] for entry in entries]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        place = self._file(path)
        if place.is_file():
            return {"name": str(place), "size": place.stat().st_size, "type": "file"}
        self.ls(path)
        return {"name": str(place), "size": 0, "type": "directory"}

    def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
        return self._file(path).read_bytes()

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        if mode == "create" and not self.knows_conditions:
            raise NotImplementedError(mode)
        Shelf.puts += 1
        if Shelf.fails_at is not None and Shelf.puts >= Shelf.fails_at:
            raise Shelf.error
        place = self._file(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = place.with_name(f"\x01{os.getpid()}-{next(_numbers)}")
        hidden.write_bytes(value)
        try:
            if mode == "create":
                os.link(hidden, place)
            else:
                hidden.replace(place)
        finally:
            hidden.unlink(missing_ok=True)

    def rm_file(self, path: str) -> None:
        self._file(path).unlink()


_numbers = itertools.count()
fsspec.register_implementation("shelf", Shelf, clobber=True)
