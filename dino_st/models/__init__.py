"""The small models that the package carries, by name: nothing is downloaded for them."""

from __future__ import annotations

import difflib
import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from dino_st.errors import DinoWarning

LANGUAGE_MODEL = "dino-tiny"
"""A small causal language model that knows the three instructions of `sts-x2`; a stand-in for a real one."""

ENCODER = "dino-tiny-encoder"
"""Static word embeddings made without labels, as a start for training."""

_LOOKED_AT, _MUCH = 1000, 0.1
"""Sentences looked at for unknown characters, and the share of them, as of their letters, that is worth a warning."""

_MODELS = Path(__file__).parent


def bundled_directory(model: str | os.PathLike[str]) -> Path | None:
    """The directory of a model that the package carries; None where it carries none of this name.

    A directory of the same name is reached with a path, as in `./dino-tiny`; where there is one, a warning says so.
    """
    if model not in (LANGUAGE_MODEL, ENCODER):
        return None
    tell_of_namesake(str(model))
    return _MODELS / model


def tell_of_namesake(name: str) -> None:
    """Warns, once, where a directory with a model bears the name of something that dino-st brings, which is used."""
    if any(Path(name, file).exists() for file in ("config.json", "modules.json")):
        _warn_of_namesake(name, Path(name).absolute())


@functools.cache
def _warn_of_namesake(name: str, directory: Path) -> None:
    warnings.warn(
        f"{name!r} means what comes with dino-st, and the model in {directory} is not read; say ./{name} for that one",
        DinoWarning,
        stacklevel=4,
    )


def similar_model(name: str) -> str | None:
    """The bundled model whose name was misspelt, if so; names on the hub without an owner are not like these."""
    close = difflib.get_close_matches(name, (LANGUAGE_MODEL, ENCODER), n=1, cutoff=0.75)
    return close[0] if close and name != close[0] else None


def warn_of_unknown_characters(model: str, sentences: Sequence[str]) -> None:
    """Warns where the bundled language model is given texts in characters that it was not trained on."""
    if model != LANGUAGE_MODEL:
        return
    texts = sentences[:_LOOKED_AT]
    strange = sum(not text.isascii() and _foreign(text) > _MUCH for text in texts)
    if strange > _MUCH * len(texts):
        warnings.warn(
            f"{strange} of {len(texts)} sentences have many characters that {LANGUAGE_MODEL!r} was not trained on "
            "(English in ASCII), and it writes fragments for them; take a real language model, such as "
            "HuggingFaceTB/SmolLM2-135M-Instruct or one that knows their language",
            DinoWarning,
            stacklevel=3,
        )


def _foreign(text: str) -> float:
    """Share of letters beyond ASCII."""
    letters = [character for character in text if character.isalpha()]
    return sum(not letter.isascii() for letter in letters) / max(len(letters), 1)
