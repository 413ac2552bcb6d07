"""Names for exactly what is: hashes of files and texts, random bits by name, versions of packages."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hash_stream(stream)


def hash_stream(stream: BufferedReader | BytesIO) -> str:
    """SHA-256 of what is to be read, in hexadecimal digits."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_texts(texts: Iterable[str]) -> str:
    """SHA-256 over texts and where each ends, in hexadecimal digits."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def short_hash(text: str) -> str:
    """Twenty-four hexadecimal digits that stand for a text in the key of a request."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def keyed_bits(*names: object) -> bytes:
    """Random bits that belong to names (a seed, what is drawn, for what): the same on every machine and in any order.

    Sorting by them gives a random order, the smallest few a random sample.
    """
    return hashlib.sha256("\0".join(map(str, names)).encode("utf-8", "surrogatepass")).digest()


def random_bits(seed: int, *stage: int) -> np.random.PCG64:
    """A stream of random numbers for one stage of a seed, which the draws of other stages do not shift.

    Numbers are taken with `random_raw`, the one method whose results no version of NumPy may change.
    """
    import numpy as np

    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stage))


def random_order(size: int, bits: np.random.PCG64) -> NDArray[np.int64]:
    """A random permutation, shape `(size,)`."""
    import numpy as np

    return np.argsort(bits.random_raw(size), kind="stable")


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package, `none` where it is missing; `python` is Python itself."""
    return {name: platform.python_version() if name == "python" else _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
