"""Looks at the embeddings that a model hands to mteb: refuses what is not a number, and keeps them for scoring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_st.errors import EvaluationError


class EmbeddingRecorder:
    """An mteb encoder that forwards to another one and keeps every matrix it returns.

    mteb's own check would stop at the first NaN with scikit-learn's message, which names neither the task nor the
    model, and correlations that fail are stored as NaN.

    Attributes:
        embeddings: The matrices in the order in which they were asked for, each `(sentences, dimensions)`.
    """

    def __init__(self, model: Any, task_name: str) -> None:
        """Wraps a model for one evaluation of one task.

        Args:
            model: Anything that fulfils mteb's `EncoderProtocol`.
            task_name: The task, for error messages.
        """
        self._model = model
        self._task_name = task_name
        self.mteb_model_meta = model.mteb_model_meta
        self.embeddings: list[NDArray[Any]] = []

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        """Encodes with the wrapped model.

        Args:
            *args: Handed on.
            **kwargs: Handed on.

        Returns:
            What the wrapped model returned.

        Raises:
            EvaluationError: The embeddings are not one finite vector for each sentence.
        """
        embeddings = self._model.encode(*args, **kwargs)
        matrix = _to_matrix(embeddings)
        if matrix.ndim != 2:
            raise EvaluationError(
                f"{self._task_name}: the model '{self._name}' returned embeddings of shape {matrix.shape}, expected "
                "(sentences, dimensions). STS tasks need a model with one vector for each sentence."
            )
        broken = int((~np.isfinite(matrix)).any(axis=1).sum())
        if broken:
            raise EvaluationError(
                f"{self._task_name}: the model '{self._name}' gave NaN or infinite embeddings for {broken} of "
                f"{len(matrix)} sentences. Its weights are broken or overflow in their precision: load it in float32, "
                "or train it again with a lower learning rate."
            )
        self.embeddings.append(matrix)
        return embeddings

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The wrapped model's similarity of every first to every second embedding."""
        return self._model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The wrapped model's similarity of each pair of embeddings."""
        return self._model.similarity_pairwise(embeddings1, embeddings2)

    @property
    def _name(self) -> str:
        return getattr(self.mteb_model_meta, "name", None) or "unnamed"


def _to_matrix(embeddings: Any) -> NDArray[Any]:
    """A NumPy view of a tensor, an array or a list of vectors; ragged lists become one-dimensional."""
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().cpu().float().numpy()
    try:
        return np.asarray(embeddings)
    except ValueError:
        return np.empty(len(embeddings), dtype=object)
