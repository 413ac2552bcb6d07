"""Writing files so that a reader never sees half of one, one writer for each directory, and names that stages share."""

from __future__ import annotations

import difflib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dino_st.errors import OutputError
from dino_st.support.objects import ObjectPath, Place, address_of, leased

PREPARATION_RECORD = "preparation.json"
"""The file that makes a directory a prepared one: options, counts and provenance."""

TRAINING_RECORD = "training.json"
"""The file that says how an encoder was trained."""

SCORES = "scores.json"
"""The file that holds a table of scores."""

CARD = "README.md"
"""The card of a data set or model, as the hub has it: a header in YAML, and text for people."""

REJECTED = "rejected.jsonl"
"""What a stage dropped or could not write, a line each with the reason; absent where there is nothing to tell."""

LOCK = ".lock"
"""The file that a writer holds."""


def is_content(file: Path) -> bool:
    """Whether a file is more than what writers leave behind: their lock, and temporary files."""
    return file.suffix != ".tmp" and file.name != LOCK


def similar_path(path: str | os.PathLike[str], otherwise: str = "", *, is_directory: bool = False) -> str:
    """The end of a sentence about a path that does not exist: the neighbour that may be meant, or other words.

    Where a directory is wanted, no file is meant.

    Example:
        >>> Path("data").mkdir(), Path("data/pairs.csv").touch()
        (None, None)
        >>> similar_path("data/piars.csv")
        "; did you mean 'data/pairs.csv'?"
    """
    if address_of(path):
        return "; this is an address, which is not read here: copy what is there to a disk, and give that"
    whole = Path(path).expanduser()
    missing = next((place for place in (*reversed(whole.parents), whole) if not place.exists()), whole)
    try:
        names = [entry.name for entry in missing.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return otherwise
    for name in difflib.get_close_matches(missing.name, names, cutoff=0.66):
        found = missing.with_name(name) / whole.relative_to(missing)
        if found.is_dir() if is_directory else found.exists():
            return f"; did you mean {str(found)!r}?"
    return otherwise


def no_directory(path: Path, expected: str) -> str:
    """A sentence about a path that should be a directory, and is none: it is a file, or what may be meant instead.

    Example:
        >>> no_directory(Path("prepraed"), "one written by `dino-st prepare`")
        'prepraed: there is no such directory; expected one written by `dino-st prepare`'
    """
    if path.exists():
        return f"{path}: is a file, and no directory; expected {expected}"
    return f"{path}: there is no such directory{similar_path(path, f'; expected {expected}', is_directory=True)}"


@contextmanager
def replacing(path: Place) -> Iterator[Path]:
    """Lets a file be written under a temporary name beside it, then flushes it to disk and renames it.

    What is for an object store is written to this machine's directory for temporary files, and put there as a whole. An
    OutputError says that it cannot be written; what stood at `path` before is untouched.

    Example:
        >>> with replacing(Path("scores.json")) as temporary:
        ...     temporary.write_text("{}")
    """
    if isinstance(path, ObjectPath):
        with _worded(path), tempfile.TemporaryDirectory() as folder:
            yield Path(folder, path.name)
            path.write_bytes(Path(folder, path.name).read_bytes())
        return
    temporary = path.with_name(
        f".{path.name}.{secrets.randbits(48)}.tmp"
    )  # processes of other machines have our number
    try:
        with _worded(path):
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
            _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(*directories: Place) -> None:
    """Removes the temporary files of `replacing` that a killed process left in directories of ours."""
    for directory in (one for one in directories if isinstance(one, Path)):
        for leftover in directory.glob(".*.*.tmp"):
            if leftover.name.split(".")[-2].isdecimal():
                leftover.unlink(missing_ok=True)


def write_text(path: Place, text: str) -> None:
    """Writes a small text file through `replacing`; half of a surrogate (of a path, say) as JSON would escape it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def append_line(path: Place, line: str) -> None:
    """Adds a line to a file, or begins it, and flushes it to disk; on an object store, puts it as an object below.

    Where an OutputError says that it cannot, what stood there remains, perhaps with a part of the line behind.
    """
    content = line.encode(errors="backslashreplace") + b"\n"
    if isinstance(path, ObjectPath):
        (path / hashlib.sha256(content).hexdigest()[:24]).write_bytes(content)
        return
    with _worded(path):
        is_new = not path.exists()
        with path.open("ab") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            _sync_directory(path.parent)


def appended(path: Place) -> list[Place]:
    """The file that `append_line` adds to, or the objects that it put, copied to a disk perhaps; empty for none."""
    return [path] if path.is_file() else [*path.iterdir()] if path.is_dir() else []


@contextmanager
def _worded(path: Place) -> Iterator[None]:
    """Words the system's errors for people."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        advice = "check that the directory is writable and the disk not full"
        raise OutputError(f"{path}: cannot be written ({reason}); {advice}") from error


def _sync_directory(path: Path) -> None:
    """Makes a rename survive a power cut, where the system can open directories."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Place) -> None:
    """Creates a directory and checks that files can be made in it, or else raises an OutputError."""
    if isinstance(path, ObjectPath):
        return  # a store has none
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"{path}: this is a file; expected a directory, or a name that is still free") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be created ({error.strerror or error}); choose a writable place") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: the directory is not writable; choose another --output or change its permissions")


def check_can_become_directory(path: Place) -> None:
    """Checks that a directory can exist at a place, without making it; on an object store, that objects can.

    An OutputError says that it, or something above it, is a file, that it is an address where a disk is needed, that
    nothing can be put at an address, or that its name is not UTF-8, which libraries ask for.
    """
    if isinstance(path, ObjectPath):
        probe = path / f".{secrets.randbits(48)}.tmp"
        probe.write_bytes(b"")
        probe.unlink()
        return
    if address := address_of(path):
        raise OutputError(on_no_disk(address))
    if str(path).encode(errors="replace") != str(path).encode(errors="surrogateescape"):
        raise OutputError(f"{path}: the name is not UTF-8; rename the directory, or choose another --output")
    place = next(place for place in (path, *path.parents) if place.exists())
    if not place.is_dir():
        raise OutputError(f"{path}: cannot be created, since {place} is a file; choose another --output")


def on_no_disk(address: str) -> str:
    """The refusal of an address where a disk is needed."""
    protocol = address.partition(":")[0]
    return f"{address}: this is an address ({protocol}), and a directory is expected; " + (
        "leave out file://" if protocol == "file" else "mount it, or write to a disk and copy what was written"
    )


@contextmanager
def only_writer(directory: Place, *, leave: bool = True) -> Iterator[Callable[[], None]]:
    """Keeps other processes out of a directory, which is created if need be, while this one writes to it.

    What it gives raises an OutputError once others are no longer kept out, which can only be on an object store.
    An OutputError says that another process is writing there, or that it cannot be written. Unless `leave` is set, the
    lock's file is taken away: it might then be that two writers hold files of the same name, but only if the second one
    comes at the very moment at which the first one ends.
    """
    if isinstance(directory, ObjectPath):
        with leased(directory / LOCK) as check:
            yield check
        return
    from filelock import FileLock, Timeout

    make_directory(directory)
    lock = FileLock(directory / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"{directory}: another process is writing there; wait for it, or choose another --output"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot be locked ({error.strerror or error}); choose a writable place"
        ) from None
    try:
        yield lambda: None
    finally:
        if not leave:
            (directory / LOCK).unlink(missing_ok=True)
        lock.release()
