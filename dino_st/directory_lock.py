"""One writer for each directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dino_st.errors import OutputError
from dino_st.files import make_directory

LOCK = ".lock"
"""The file that a writer holds."""


def is_content(file: Path) -> bool:
    """Whether a file is more than what writers leave behind: their lock, and temporary files."""
    return file.suffix != ".tmp" and file.name != LOCK


@contextmanager
def only_writer(directory: Path, *, leave: bool = True) -> Iterator[None]:
    """Keeps other processes out of a directory while this one writes to it.

    Args:
        directory: Created if need be.
        leave: Whether the file stays behind; taken away, it might be that two writers hold files of the same name, but
            only if the second one comes at the very moment at which the first one ends.

    Raises:
        OutputError: If another process is writing there, or the directory cannot be written.
    """
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
        yield
    finally:
        if not leave:
            (directory / LOCK).unlink(missing_ok=True)
        lock.release()
