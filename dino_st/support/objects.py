"""Directories on an object store (`s3://bucket/dir`, `gs://…`): their objects under pathlib's names, and who may write.

A store shows an object whole or not at all, and replaces it at once by another of the same name. It knows no
directories, renames, appending or locks. Whatever its library raises comes out as an OutputError in words for people.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from threading import Event, Thread
from typing import Any

from dino_st.errors import ConfigurationError, MissingExtraError, OutputError, first_line, suggest
from dino_st.support.progress import logger

_ADDRESS = re.compile(r"((?:[a-z0-9+.-]+::)*)([a-z][a-z0-9+.-]+):(?:/{1,2}(.*)|$)", re.DOTALL)
"""An address, also one whose slashes pathlib has made one; drives have a single letter."""

_RENEW_SECONDS, _DEAD_SECONDS, _SETTLE_SECONDS = 10.0, 45.0, 2.0
"""How often a writer says that it lives, how long it may not have for another to follow, and two to see each other."""


def address_of(path: str | os.PathLike[str]) -> str | None:
    """The address that a path is meant as, if it is one.

    Example:
        >>> address_of(Path("s3://bucket/raw")), address_of("raw")
        ('s3://bucket/raw', None)
    """
    found = _ADDRESS.match(os.fspath(path))
    return "{}{}://{}".format(*found.groups("")) if found else None


def place(path: str | os.PathLike[str] | ObjectPath) -> Place:
    """Where a path or an address (`s3://bucket/dir`, or `file:///dir`, which is on disk) leads; nothing is asked yet.

    Raises ConfigurationError for an address of which fsspec knows no file system, and MissingExtraError where that is
    not installed.
    """
    if isinstance(path, ObjectPath):
        return path
    address = address_of(path)
    if address is None:
        return Path(path).expanduser()
    protocol, _, rest = address.partition("://")
    if protocol in ("file", "local"):
        return Path("/" + rest.lstrip("/"))
    from fsspec.registry import get_filesystem_class, known_implementations

    if "::" in address or not rest.strip("/"):
        raise ConfigurationError(f"{address}: expected one address that names a bucket, such as s3://bucket/directory")
    try:
        kind = get_filesystem_class(protocol)
    except ValueError:
        known = suggest(protocol, known_implementations)
        raise ConfigurationError(f"{address}: no file system is known for {protocol!r}; {known}") from None
    except ImportError as error:
        package = str(known_implementations.get(protocol, {}).get("class", "")).partition(".")[0]
        how = f"run: pip install {package}" if package not in ("", "fsspec") else first_line(error)
        raise MissingExtraError(f"{address}: the file system of {protocol!r} is not installed; {how}") from error
    with _worded(address):
        return ObjectPath(address.rstrip("/"), kind())


@contextmanager
def _worded(address: object) -> Iterator[None]:
    """Words what the library of a store raises; what is missing or there already is left to callers."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except Exception as error:  # each store's library has errors of its own
        kind = type(error).__name__
        if isinstance(error, PermissionError) or "Credential" in kind:
            what, advice = "may not be used", "check this machine's credentials, and what they allow"
        else:
            what = "cannot be used"
            advice = "check address and network. What is finished stays; run again to go on"
        raise OutputError(f"{address}: {what} ({kind}: {first_line(error)}); {advice}") from error


@dataclass(frozen=True)
class ObjectPath:
    """An object, or what names begin with like those of a directory: of pathlib's methods those that shards need."""

    url: str
    fs: Any = field(compare=False, repr=False)  # of fsspec

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(f"{self.url}/{name}" if name else self.url, self.fs)

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def _key(self) -> str:
        return str(self.fs._strip_protocol(self.url))

    def _ask(self, method: str, *given: Any, **options: Any) -> Any:
        """Calls a method of the file system, which is not to answer from what it saw before."""
        with _worded(self):
            self.fs.invalidate_cache()
            return getattr(self.fs, method)(self._key, *given, **options)

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        try:
            return bool(self._ask("info")["type"] == "file")
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether there is anything below this."""
        return any(self.iterdir())

    def exists(self) -> bool:
        """Whether there is this, or anything below it."""
        return self.is_file() or self.is_dir()

    def resolve(self) -> ObjectPath:
        """This, since there are no links."""
        return self

    def iterdir(self) -> Iterator[ObjectPath]:
        """What is directly below this."""
        try:
            found = {one.rstrip("/") for one in self._ask("ls", detail=False)}
        except (FileNotFoundError, NotADirectoryError):
            return
        found.discard(self._key.rstrip("/"))  # consoles of stores put an object of this name
        yield from (self / one.rpartition("/")[2] for one in sorted(found))

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """What is directly below this under a fitting name."""
        return (found for found in self.iterdir() if fnmatch(found.name, pattern))

    def read_bytes(self) -> bytes:
        """The content, in one request; a FileNotFoundError where there is none."""
        return bytes(self._ask("cat_file"))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> io.BytesIO:  # noqa: ARG002 (as pathlib has it)
        """The content as a file to read from."""
        return io.BytesIO(self.read_bytes())

    def write_bytes(self, content: bytes) -> None:
        """Puts the object, in place of the one that may be there."""
        try:
            self._ask("pipe_file", content)
        except FileNotFoundError as error:
            raise OutputError(f"{self}: there is no such bucket ({first_line(error)}); create it first") from error

    def create(self, content: bytes) -> None:
        """Puts the object unless it is there; where the store knows no such condition, by looking first."""
        try:
            if not self.is_file():
                self._ask("pipe_file", content, mode="create")
        except FileExistsError:
            return
        except (FileNotFoundError, OutputError):  # or it is the condition that is not known
            self.write_bytes(content)

    def replace(self, target: ObjectPath) -> None:
        """Gives the object another name."""
        target.write_bytes(self.read_bytes())
        self.unlink()

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        try:
            self._ask("rm_file")
        except FileNotFoundError:
            if not missing_ok:
                raise


Place = Path | ObjectPath
"""Where a directory of shards is."""


class Lease:
    """The object that says who writes at an address, put anew again and again while its owner lives.

    Nobody frees what a killed process held; so whoever finds such an object waits to see whether it still changes. No
    clocks are compared.
    """

    def __init__(self, lock: ObjectPath) -> None:
        self._lock, self._key, self._ended, self._is_lost = lock, secrets.token_hex(16), Event(), False
        self._owner = f"process {os.getpid()} on {socket.gethostname()}"
        self._renewer = Thread(target=self._renew, daemon=True)

    def take(self) -> None:
        """Waits for a lease that nobody renews, or takes a free one; an OutputError where another process writes."""
        self._lock.create(self._content())
        seen = self._read()
        if not self._is_mine(seen):
            self._await_end(seen)
            self._lock.write_bytes(self._content())
            time.sleep(_SETTLE_SECONDS)  # of several that waited, the last to put theirs goes on
            if not self._is_mine(seen := self._read()):
                raise self._refusal(seen)
        self._renewer.start()

    def check(self) -> None:
        """An OutputError where another process has taken over, as after a long pause of this one."""
        if self._is_lost:
            raise OutputError(
                f"{self._lock}: the lock is gone, or another process has it; this one ends, and what it finished stays"
            )

    def release(self) -> None:
        """Frees the address."""
        self._ended.set()
        self._renewer.join()
        try:
            if self._is_mine(self._read()):
                self._lock.unlink(missing_ok=True)
        except OutputError as error:
            logger.warning("%s; others will wait for %.0f s", error, _DEAD_SECONDS)

    def _await_end(self, seen: bytes | None) -> None:
        """Waits until a lease counts as left behind, or is gone."""
        until = time.monotonic() + _DEAD_SECONDS
        logger.warning(
            "%s: %s wrote there and has not said that it ended; seeing for %.0f s whether it still does",
            self._lock,
            _owner(seen),
            _DEAD_SECONDS,
        )
        while seen is not None and time.monotonic() < until:
            time.sleep(_RENEW_SECONDS / 4)
            now = self._read()
            if now not in (None, seen):
                raise self._refusal(now)
            seen = now

    def _renew(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            try:
                self._is_lost = not self._is_mine(self._read())
                if self._is_lost:
                    return
                self._lock.write_bytes(self._content())
            except OutputError as error:
                logger.warning("%s", error)

    def _content(self) -> bytes:
        owner = {"owner": self._owner, "key": self._key, "alive": datetime.now(UTC).isoformat()}
        return json.dumps(owner).encode()

    def _read(self) -> bytes | None:
        try:
            return self._lock.read_bytes()
        except FileNotFoundError:
            return None

    def _is_mine(self, content: bytes | None) -> bool:
        return content is not None and self._key.encode() in content

    def _refusal(self, seen: bytes | None) -> OutputError:
        return OutputError(f"{self._lock}: {_owner(seen)} is writing there; wait for it, or choose another --output")


def _owner(content: bytes | None) -> str:
    """Who a lock object names."""
    try:
        return str(json.loads(content or b"")["owner"])
    except (ValueError, LookupError, TypeError):
        return "another process"


@contextmanager
def leased(lock: ObjectPath) -> Iterator[Callable[[], None]]:
    """Keeps other processes away from what a lock object stands for; gives what raises once that is lost."""
    lease = Lease(lock)
    lease.take()
    try:
        yield lease.check
    finally:
        lease.release()
