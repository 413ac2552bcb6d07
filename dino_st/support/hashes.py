"""Hashes of files and texts, and random numbers that a name alone decides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_texts(texts: Iterable[str]) -> str:
    """SHA-256 over texts and where each ends, in hexadecimal digits."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def keyed_bits(*names: object) -> bytes:
    """Random bits that belong to names (a seed, what is drawn, for what): the same on every machine and in any order.

    Sorting by them gives a random order, the smallest few a random sample.
    """
    return hashlib.sha256("\0".join(map(str, names)).encode("utf-8", "surrogatepass")).digest()
