"""From what people call a model to its name, its exact revision and a way to load it."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.encoders.baselines import find_baseline
from dino_st.encoders.directory import directory_name, directory_revision, local_directory
from dino_st.encoders.loading import load_trainable_encoder, pad_with_end_of_text
from dino_st.errors import ModelError
from dino_st.evaluation.floors import FLOORS

if TYPE_CHECKING:
    from mteb.models import ModelMeta
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to be scored.

    Attributes:
        name: The name under which mteb stores results, `owner/name`.
        revision: Names the model's content, so that a stored result can be trusted; empty for a model on the hub that
            has not been loaded yet.
        load: Loads the model; called only where something must be computed.
    """

    name: str
    revision: str
    load: Callable[[], SentenceTransformer]

    def resolved(self) -> EvaluatedModel:
        """The same model with its revision, for which one on the hub is loaded."""
        if self.revision:
            return self
        encoder = self.load()
        revision = encoder.model_card_data.base_model_revision or state_revision(encoder)
        return EvaluatedModel(self.name, revision, lambda: encoder)


def find_model(
    model: str | Path | SentenceTransformer,
    *,
    device: str = "auto",
    whitening_sentences: str | Path | Sequence[str] | None = None,
) -> EvaluatedModel:
    """Finds a model without loading it.

    Args:
        model: A directory, a name on the hub, a baseline (see `dino_st.encoders.baselines`) or a loaded model.
        device: `"auto"`, or a device of torch.
        whitening_sentences: Unlabelled sentences for whitened baselines.

    Returns:
        The model's name and revision, and a way to load it.

    Raises:
        ModelError: There is no such directory, or no model in it.
        ConfigurationError: A whitened baseline without sentences to fit on.
        InputError: The sentences or the word vectors cannot be read.
    """
    if not isinstance(model, str | Path):
        pad_with_end_of_text(model)
        card = model.model_card_data
        return EvaluatedModel(
            _owned(str(card.model_name or card.base_model or "unnamed")), state_revision(model), lambda: model
        )
    baseline = find_baseline(str(model), device=device, whitening_sentences=whitening_sentences)
    if baseline is not None:
        return EvaluatedModel(baseline.name, baseline.revision, baseline.load)
    directory = local_directory(model)
    if directory is not None:
        return EvaluatedModel(
            directory_name(directory),
            directory_revision(directory),
            lambda: load_trainable_encoder(directory, device=device),
        )
    return EvaluatedModel(_owned(str(model)), "", lambda: _load_from_hub(str(model), device))


def model_meta(found: EvaluatedModel, encoder: SentenceTransformer) -> ModelMeta:
    """What mteb stores about a model beside its results."""
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    return ModelMeta.create_empty(
        overwrites={
            "name": found.name,
            "revision": found.revision,
            "max_tokens": encoder.max_seq_length,
            "embed_dim": encoder.get_embedding_dimension(),
            "n_parameters": sum(parameter.numel() for parameter in encoder.parameters()),
            "similarity_fn_name": ScoringFunction.from_str(encoder.similarity_fn_name),
            "framework": ["Sentence Transformers", "PyTorch"],
        }
    )


def state_revision(encoder: SentenceTransformer) -> str:
    """Hashes a loaded model, its modules, prompts and every weight: forty hexadecimal digits of a SHA-256."""
    import torch

    digest = hashlib.sha256(repr((encoder, sorted(encoder.prompts.items()), encoder.max_seq_length)).encode())
    for name, weight in encoder.state_dict().items():
        flat = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(f"{name}\n".encode())
        digest.update(flat.numpy())
    return digest.hexdigest()[:40]


def _load_from_hub(name: str, device: str) -> SentenceTransformer:
    try:
        return load_trainable_encoder(name, device=device)
    except ModelError as error:
        floor = difflib.get_close_matches(name, FLOORS, n=1)
        if not floor:
            raise
        raise ModelError(f"{error} Or did you mean the floor {floor[0]!r}?") from error


def _owned(name: str) -> str:
    """The form that mteb asks for, `owner/name`; models without an owner belong to `local`."""
    return name if "/" in name else f"local/{name}"
