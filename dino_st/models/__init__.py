"""The small models that the package carries, by name: nothing is downloaded for them."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

LANGUAGE_MODEL = "dino-tiny"
"""A small causal language model that knows the three instructions of `sts-x2`; a stand-in for a real one."""

ENCODER = "dino-tiny-encoder"
"""Static word embeddings made without labels, as a start for training."""

_MODELS = Path(__file__).parent


def bundled_directory(model: str | os.PathLike[str]) -> Path | None:
    """The directory of a model that the package carries.

    A directory of the same name is reached with a path, as in `./dino-tiny`.

    Args:
        model: What was given as a model.

    Returns:
        The directory; None where the package carries no model of this name.
    """
    return _MODELS / model if model in (LANGUAGE_MODEL, ENCODER) else None


def similar_model(name: str) -> str | None:
    """The bundled model whose name was misspelt, if so; names on the hub without an owner are not like these."""
    close = difflib.get_close_matches(name, (LANGUAGE_MODEL, ENCODER), n=1, cutoff=0.75)
    return close[0] if close and name != close[0] else None
