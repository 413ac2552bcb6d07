"""What the Dino tasks share: local data first, and scores for every paper's protocol beside the pooled one."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from datasets import Dataset, DatasetDict
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from numpy.typing import NDArray

from dino_st.errors import EvaluationError
from dino_st.evaluation.metrics import correlate, pairwise_cosine, score_sources
from mteb_tasks.sts_files import ScoredPair, content_hash

if TYPE_CHECKING:
    from mteb._evaluators.any_sts_evaluator import STSEvaluatorScores
    from mteb.abstasks.sts import STSMetrics
    from mteb.models import MTEBModels
    from mteb.timing import TimingStack
    from mteb.types import EncodeKwargs


class LocalTaskMetadata(TaskMetadata):
    """Metadata of a task whose data may be local files.

    mteb writes a task's descriptive statistics beside its own modules and finds them again by the task's name. Here
    they go to mteb's cache, under the name and the data's revision.
    """

    @property
    def descriptive_stat_path(self) -> Path:
        """Where `calculate_descriptive_statistics` writes."""
        cache = Path(os.environ.get("MTEB_CACHE") or Path.home() / ".cache" / "mteb")
        return cache / "descriptive_stats" / f"{self.name}-{self.revision[:8]}.json"


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


logger = logging.getLogger(__name__)

LOCAL_PATH = "local"


class AbsTaskScoredPairs(AbsTaskSTS):
    """An STS task whose pairs are read from files, with the hash of their content as the data's revision.

    The main score is the Spearman correlation of cosine similarity over all pairs. Where the pairs name their sources,
    the result also holds `sources` (each source's Spearman correlation), `mean` and `wmean` of these, and `all`, the
    main score under the name that the papers use.
    """

    min_score = 0
    max_score = 5

    @abstractmethod
    def read_pairs(self) -> Mapping[str, Sequence[ScoredPair]] | None:
        """Reads every split from local files.

        Returns:
            Each split's pairs, or None where the task has no local files and the hub is to be asked.
        """

    def data_revision(self) -> str:
        """The revision of the data that `load_data` would load now.

        Returns:
            The hash of the local files' content, or the hub repository's revision.

        Raises:
            InputError: The local files are missing or malformed.
            DatasetError: They do not hold the published number of pairs.
        """
        splits = self.read_pairs()
        return str(type(self).metadata.revision) if splits is None else content_hash(splits)

    def load_data(self, num_proc: int | None = None, *, timer: TimingStack | None = None, **kwargs: Any) -> None:
        """Loads the data: local files where there are any, else the hub's copy.

        Args:
            num_proc: Processes for the hub's loader; local files need one.
            timer: mteb's record of phases, handed on to its loader.
            **kwargs: Handed on to mteb's loader.

        Raises:
            InputError: The local files are missing or malformed.
            DatasetError: The data has another number of pairs than was published.
        """
        if self.data_loaded:
            return
        splits = self.read_pairs()
        if splits is None:
            self.load_from_hub(num_proc=num_proc, timer=timer, **kwargs)
            return
        self.dataset = cast("Any", DatasetDict({name: _to_dataset(pairs) for name, pairs in splits.items()}))
        self._set_revision(content_hash(splits))
        self.data_loaded = True

    def load_from_hub(self, **options: Any) -> None:
        """Loads the hub's copy with mteb's own loader; tasks without one override this to say so."""
        super().load_data(**options)

    def _set_revision(self, revision: str) -> None:
        """Gives this instance metadata that describe the local data; `unload_data` takes them away again."""
        name = type(self).metadata.name
        dataset = {"path": f"{LOCAL_PATH}/{name}", "revision": revision}
        self.metadata = type(self).metadata.model_copy(update={"dataset": dataset})

    def _evaluate_subset(
        self,
        model: MTEBModels,
        data_split: Dataset,
        *,
        encode_kwargs: EncodeKwargs,
        hf_split: str,
        hf_subset: str,
        prediction_folder: Path | None = None,
        num_proc: int | None = None,
        timer: TimingStack,
        **kwargs: Any,
    ) -> STSMetrics:
        recorder = EmbeddingRecorder(model, self.metadata.name)
        metrics = super()._evaluate_subset(
            cast("MTEBModels", recorder),
            data_split,
            encode_kwargs=encode_kwargs,
            hf_split=hf_split,
            hf_subset=hf_subset,
            prediction_folder=prediction_folder,
            num_proc=num_proc,
            timer=timer,
            **kwargs,
        )
        scores = self._score(pairwise_cosine(*recorder.embeddings), data_split)
        return cast("STSMetrics", {**metrics, **scores})

    def _calculate_scores(self, scores: STSEvaluatorScores, normalized_scores: list[float]) -> STSMetrics:
        # mteb would store NaN for constant similarities, with a warning at best.
        correlate(np.asarray(scores["cosine_scores"]), np.asarray(normalized_scores), self.metadata.name)
        return super()._calculate_scores(scores, normalized_scores)

    def _score(self, cosines: np.ndarray[Any, Any], data_split: Dataset) -> dict[str, Any]:
        name = self.metadata.name
        gold = np.asarray(data_split["score"], dtype=np.float64)
        pearson, spearman = correlate(cosines, gold, name)
        scores: dict[str, Any] = {"cosine_pearson": pearson, "cosine_spearman": spearman}
        if "source" in data_split.column_names:
            scores |= {"all": spearman, **score_sources(cosines, gold, data_split["source"], name)}
        return scores


def _to_dataset(pairs: Sequence[ScoredPair]) -> Dataset:
    columns: dict[str, list[Any]] = {
        "sentence1": [pair.sentence1 for pair in pairs],
        "sentence2": [pair.sentence2 for pair in pairs],
        "score": [pair.score for pair in pairs],
    }
    if any(pair.source for pair in pairs):
        columns["source"] = [pair.source for pair in pairs]
    return Dataset.from_dict(columns)
