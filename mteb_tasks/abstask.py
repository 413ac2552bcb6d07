"""What the Dino tasks share: local data first, and scores for every paper's protocol beside the pooled one."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import datasets
import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from numpy.typing import NDArray

from dino_st.errors import DatasetError, EvaluationError, InputError
from dino_st.evaluation.metrics import correlate, pairwise_cosine, score_sources
from dino_st.support.hub import asking_hub
from mteb_tasks.sts_files import ScoredPair, TableFile, YearLayout, find_root, pairs_dataset, pairs_revision
from mteb_tasks.variables import STS_DIR_VARIABLE

if TYPE_CHECKING:
    from mteb._evaluators.any_sts_evaluator import STSEvaluatorScores
    from mteb.abstasks.sts import STSMetrics
    from mteb.models import MTEBModels
    from mteb.timing import TimingStack


HOW_TO_NAME_THE_DIRECTORY = (
    "Give a directory in SentEval layout with `--sts-dir DIR`, `sts_dir=...`, in a recipe `evaluate.sts_dir`, or the "
    f"variable {STS_DIR_VARIABLE}"
)


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


def sts_metadata(**fields: Any) -> LocalTaskMetadata:
    """Metadata of an English STS task, filled in where nothing else is said."""
    common: dict[str, Any] = {
        "type": "STS",
        "category": "t2t",
        "modalities": ["text"],
        "eval_splits": ["test"],
        "eval_langs": ["eng-Latn"],
        "main_score": "cosine_spearman",
        "task_subtypes": [],
        "dialect": [],
        "license": "not specified",
    }
    return LocalTaskMetadata(**common | fields)


def local_metadata(metadata: TaskMetadata, revision: str) -> TaskMetadata:
    """A task's metadata for local data of this content."""
    return metadata.model_copy(update={"dataset": {"path": f"local/{metadata.name}", "revision": revision}})


class EmbeddingRecorder:
    """An mteb encoder that forwards to another one and keeps every matrix it returns, `(sentences, dimensions)`.

    mteb's own check would stop at the first NaN with scikit-learn's message, which names neither the task nor the
    model, and correlations that fail are stored as NaN.
    """

    def __init__(self, model: Any, task_name: str) -> None:
        self._model = model
        self._task_name = task_name
        self.mteb_model_meta = model.mteb_model_meta
        self.embeddings: list[NDArray[Any]] = []

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        """Encodes with the wrapped model, or raises EvaluationError unless it gives one finite vector a sentence."""
        embeddings = self._model.encode(*args, **kwargs)
        matrix = _to_matrix(embeddings)
        subject = f"{self._task_name}: the model '{getattr(self.mteb_model_meta, 'name', None) or 'unnamed'}'"
        if matrix.ndim != 2:
            raise EvaluationError(
                f"{subject} returned embeddings of shape {matrix.shape}, expected (sentences, dimensions). This "
                "needs a model with one vector for each sentence."
            )
        broken = int((~np.isfinite(matrix)).any(axis=1).sum())
        if broken:
            raise EvaluationError(
                f"{subject} gave NaN or infinite embeddings for {broken} of {len(matrix)} sentences. Its weights are "
                "broken or overflow in their precision: load it in float32, or train it again with a lower learning "
                "rate."
            )
        self.embeddings.append(matrix)
        return embeddings

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The wrapped model's similarity of every first to every second embedding."""
        return self._model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The wrapped model's similarity of each pair of embeddings."""
        return self._model.similarity_pairwise(embeddings1, embeddings2)


def _to_matrix(embeddings: Any) -> NDArray[Any]:
    """A NumPy view of a tensor, an array or a list of vectors; ragged lists become one-dimensional."""
    if hasattr(embeddings, "detach"):
        embeddings = embeddings.detach().cpu().float().numpy()
    try:
        return np.asarray(embeddings)
    except ValueError:
        return np.empty(len(embeddings), dtype=object)


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
        """Each split's pairs from local files; None where the task has none and the hub is to be asked."""

    def data_revision(self) -> str:
        """The revision of the data that `load_data` would load now: a hash of the local files' content or the hub's."""
        splits = self.read_pairs()
        return str(type(self).metadata.revision) if splits is None else pairs_revision(splits)

    def load_data(self, num_proc: int | None = None, *, timer: TimingStack | None = None, **kwargs: Any) -> None:
        """Loads local files where there are any, else, with mteb's loader and these options, the hub's copy.

        Raises InputError where local files are missing or malformed, and DatasetError where the data has another number
        of pairs than was published.
        """
        if self.data_loaded:
            return
        splits = self.read_pairs()
        if splits is None:
            self.load_from_hub(num_proc=num_proc, timer=timer, **kwargs)
            return
        self.dataset = cast("Any", DatasetDict({name: pairs_dataset(pairs) for name, pairs in splits.items()}))
        self._set_revision(pairs_revision(splits))
        self.data_loaded = True

    def load_from_hub(self, **options: Any) -> None:
        """Loads the hub's copy with mteb's own loader; tasks without one override this to say so."""
        super().load_data(**options)

    def _set_revision(self, revision: str) -> None:
        """Gives this instance metadata that describe the local data; `unload_data` takes them away again."""
        self.metadata = local_metadata(type(self).metadata, revision)

    def _evaluate_subset(self, model: MTEBModels, data_split: Dataset, **options: Any) -> STSMetrics:
        name = self.metadata.name
        recorder = EmbeddingRecorder(model, name)
        metrics = super()._evaluate_subset(cast("MTEBModels", recorder), data_split, **options)
        # mteb's cosines are float32, in which identical sentences of different batches do not tie.
        cosines, gold = pairwise_cosine(*recorder.embeddings), np.asarray(data_split["score"], dtype=np.float64)
        pearson, spearman = correlate(cosines, gold, name)
        scores: dict[str, Any] = {"cosine_pearson": pearson, "cosine_spearman": spearman}
        if "source" in data_split.column_names:
            scores |= {"all": spearman, **score_sources(cosines, gold, data_split["source"], name)}
        return cast("STSMetrics", {**metrics, **scores})

    def _calculate_scores(self, scores: STSEvaluatorScores, normalized_scores: list[float]) -> STSMetrics:
        # mteb would store NaN for constant similarities, with a warning at best.
        correlate(np.asarray(scores["cosine_scores"]), np.asarray(normalized_scores), self.metadata.name)
        return super()._calculate_scores(scores, normalized_scores)


class AbsTaskSTSData(AbsTaskScoredPairs):
    """A task on published STS or SICK data."""

    files: ClassVar[tuple[YearLayout | TableFile, ...]]  # of the split `test`, below the root; their pairs are pooled
    validation_files: ClassVar[tuple[YearLayout | TableFile, ...]] = ()  # of the split `validation`, if there is one
    on_hub: ClassVar[bool] = True  # whether the hub has a copy of these very pairs

    def __init__(self, seed: int = 42, *, sts_dir: str | Path | None = None, **kwargs: Any) -> None:
        """Prepares the task; no file is read before `load_data`.

        Args:
            seed: mteb's seed; these tasks draw nothing.
            sts_dir: Directory in SentEval layout; None for the one that the variable DINO_ST_STS_DIR names, and where
                it names none, the local datasets cache and the hub.
            **kwargs: Handed on to mteb.
        """
        super().__init__(seed=seed, **kwargs)
        self.sts_dir = sts_dir

    @property
    def has_sources(self) -> bool:
        """Whether the papers report this task's sources one by one; the hub's copy does not name them."""
        return any(isinstance(file, YearLayout) for file in self.files)

    def read_pairs(self) -> dict[str, list[ScoredPair]] | None:
        """Reads every split from the STS directory; None where none is named."""
        given = self.sts_dir or os.environ.get(STS_DIR_VARIABLE)
        if not given:
            return None
        root = find_root(given)
        return {split: [pair for file in files for pair in file.read(root)] for split, files in self._splits()}

    def _splits(self) -> list[tuple[str, tuple[YearLayout | TableFile, ...]]]:
        return [(name, files) for name, files in (("test", self.files), ("validation", self.validation_files)) if files]

    def load_from_hub(self, **options: Any) -> None:
        """Loads the hub's copy at its pinned revision, from the local datasets cache where that holds it.

        Raises InputError where the hub has no such data, or it is neither cached nor reachable, and DatasetError where
        the copy has another number of pairs than was published.
        """
        metadata = type(self).metadata
        repository, revision = metadata.dataset["path"], metadata.dataset["revision"]
        if not self.on_hub:
            raise InputError(
                f"{metadata.name} cannot be loaded from the hub, whose copy pools all of the data and does not say "
                f"which pairs are the test pairs. {HOW_TO_NAME_THE_DIRECTORY}."
            )
        cached = _read_cached(repository, revision)
        if cached is not None:
            self.dataset, self.data_loaded = cast("Any", cached), True
        else:
            with asking_hub(f"The data of {metadata.name}, '{repository}',", f"{HOW_TO_NAME_THE_DIRECTORY}."):
                super().load_from_hub(**options)
        dataset: Mapping[str, Any] = self.dataset or {}
        for split, files in self._splits():
            published, found = sum(file.pairs for file in files), len(dataset.get(split, ()))
            if found != published:
                self.unload_data()
                raise DatasetError(
                    f"{metadata.name}: the hub's copy has {found} pairs in split '{split}', the published data has "
                    f"{published}. {HOW_TO_NAME_THE_DIRECTORY}."
                )


def _read_cached(repository: str, revision: str) -> DatasetDict | None:
    """The splits that `datasets.load_dataset` cached earlier; None where it did not cache this very revision.

    Offline, `load_dataset` itself would take any cached revision.
    """
    owner, _, name = repository.partition("/")
    cache = Path(datasets.config.HF_DATASETS_CACHE).expanduser()
    for info in sorted(cache.glob(f"{owner}___{name}/*/*/{revision}/dataset_info.json")):
        splits = json.loads(info.read_text(encoding="utf-8")).get("splits") or {}
        shards = {split: sorted(info.parent.glob(f"{name}-{split}*.arrow")) for split in splits}
        if shards and all(shards.values()):
            read = {split: [Dataset.from_file(str(file)) for file in files] for split, files in shards.items()}
            return DatasetDict({split: concatenate_datasets(parts) for split, parts in read.items()})
    return None
