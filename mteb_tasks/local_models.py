"""Local model directories as mteb models, named by their directory and, as revision, by the hash of their content."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.encoders.directory import directory_revision, local_directory
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError
from dino_st.evaluation.model_meta import directory_meta

if TYPE_CHECKING:
    from mteb.models import ModelMeta, SentenceTransformerEncoderWrapper


def find_local_model(name: str, revision: str | None = None) -> ModelMeta | None:
    """The metadata of a model directory for mteb, with a way to load it; None for what may be a name on the hub.

    mteb asks for the name and revision first, and its `ModelMeta.from_sentence_transformer_model` needs the loaded
    model: by that way each model would be loaded twice. Raises ModelError where the path holds no model, and
    ConfigurationError where another revision was asked for.
    """
    directory = local_directory(name)
    if directory is None:
        return None
    found = directory_revision(directory)
    if revision not in (None, found):
        raise ConfigurationError(
            f"The revision {revision!r} of the local model '{name}' was asked for, but a directory's revision is the "
            f"hash of its content, here {found!r}. Leave the revision out."
        )
    return directory_meta(directory, found).model_copy(update={"loader": partial(_load, directory)})


def _load(
    directory: Path,
    name: str,  # noqa: ARG001 (mteb's loaders get it)
    revision: str | None = None,  # noqa: ARG001 (likewise)
    device: str | int | None = None,  # the number of a CUDA device, as `mteb run --device` gives it
    **options: Any,
) -> SentenceTransformerEncoderWrapper:
    """A model directory as mteb's wrapper of a sentence-transformers model."""
    from mteb.models import SentenceTransformerEncoderWrapper

    target = f"cuda:{device}" if isinstance(device, int) else device
    encoder = load_trainable_encoder(directory, device=target or "auto")
    with warnings.catch_warnings():
        # mteb 2.26 calls a method that sentence-transformers 6 has renamed, and passes itself a deprecated argument.
        warnings.filterwarnings("ignore", "The `get_sentence_embedding_dimension`", FutureWarning)
        warnings.filterwarnings("ignore", "The fill_missing parameter", DeprecationWarning)
        return SentenceTransformerEncoderWrapper(encoder, **options)
