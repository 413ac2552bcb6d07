"""Scores encoders with mteb: task instances in, a table out.

The tasks are instances, such as those of `mteb_tasks.select_tasks` or `mteb.get_tasks`. Results are stored in mteb's
own format, and a stored result answers only for the same model content and the same data: mteb alone would also return
it for retrained weights or changed data.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from mteb.abstasks.sts import AbsTaskSTS
from mteb.models.abs_encoder import get_prompt_name
from numpy.typing import NDArray

from dino_st.data.columns import PAIR_COLUMNS, ROWS_HASH, as_table, rows_hash
from dino_st.data.sentences import read_sentences
from dino_st.encoders.baselines import find_baseline
from dino_st.encoders.directory import (
    WHITENING,
    FoundEncoder,
    directory_name,
    directory_revision,
    local_directory,
    read_settings,
    state_revision,
)
from dino_st.encoders.loading import (
    load_trainable_encoder,
    pad_with_end_of_text,
    warn_of_similarity,
    warn_of_tokens,
)
from dino_st.errors import ConfigurationError, EvaluationError, ModelError, OutputError
from dino_st.evaluation.cards import add_scores
from dino_st.evaluation.floors import FLOORS, floor_score
from dino_st.evaluation.model_meta import directory_meta, loaded_meta
from dino_st.evaluation.options import EvaluationOptions, SourceProtocol
from dino_st.evaluation.table import ScoreTable
from dino_st.models import tell_of_namesake
from dino_st.support.files import TRAINING_RECORD, only_writer
from dino_st.support.hub import asking_hub, fetch_model
from dino_st.support.progress import progress

if TYPE_CHECKING:
    from mteb import ResultCache, TaskResult
    from mteb.abstasks import AbsTask
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import PromptType
    from sentence_transformers import SentenceTransformer

    Model = str | Path | SentenceTransformer

Matrix = NDArray[Any]
logger = logging.getLogger(__name__)

_LONG = 5.0
"""Seconds that a task takes when a line tells that it is done."""


def evaluate_encoder(
    models: Model | Sequence[Model] | Mapping[str, Model],
    *,
    tasks: Iterable[AbsTask],
    output_dir: str | Path | None = None,
    options: EvaluationOptions | None = None,
    whitening_sentences: str | Path | Sequence[str] | None = None,
    show_progress: bool = True,
    **changes: Any,
) -> ScoreTable:
    """Scores one or several encoders on tasks.

    Example:
        >>> table = evaluate_encoder("my-encoder", tasks=mteb_tasks.select_tasks("sts", sts_dir="SentEval"))

    Args:
        models: One or several of: a directory (sentence-transformers, or transformers with mean pooling), a name on the
            hub, a loaded `SentenceTransformer`, a baseline such as `"cls:DIR"` (see `dino_st.encoders.baselines`), or a
            floor such as `"tf-idf"` (see `dino_st.evaluation.floors`). A mapping gives each a name of your own.
        tasks: Task instances, for example from `mteb_tasks.select_tasks`.
        output_dir: Where `scores.json`, `scores.md`, `scores.tex` and mteb's results are written; results found there
            for the same model and data are not computed again. None writes nothing.
        options: How to score.
        whitening_sentences: Unlabelled sentences that whitened baselines are fitted on: a file, as for
            `read_sentences`, or the sentences.
        show_progress: Whether to show progress: a bar on a terminal, else lines in the log.
        **changes: Fields of `EvaluationOptions`, in place of `options` or of what it says: `batch_size`, `device`, and
            `protocol`, which number of a task with several sources is reported: `"all"` (over the pooled pairs, as in
            the DINO and SynCSE papers), `"mean"` (of the sources) or `"wmean"` (weighted by their sizes), and
            `add_to_card`, which states the scores in the card of each directory.

    Returns:
        The table of scores × 100; its columns are the tasks in the order given.

    Raises:
        ConfigurationError: No task or no model, a name twice, an unknown protocol, or one that the data cannot give.
        ModelError: A model cannot be loaded.
        InputError: A task's data is missing or malformed.
        DatasetError: A task's data has another number of pairs than was published.
        EvaluationError: A model cannot be scored: NaN or constant embeddings.
        OutputError: `output_dir` cannot be written.
    """
    options = EvaluationOptions.of(options, **changes)
    named, instances = _name_models(models), _check_tasks(tasks)
    own = [task for task in instances if hasattr(task, "data_revision")]  # these ask the hub themselves, if at all
    others = [task for task in instances if task not in own]
    # What is on this machine is looked for before the hub is asked, and all models before the first is scored.
    output_dir = None if output_dir is None else Path(output_dir).expanduser()
    with _open_results(output_dir) as cache:
        for floor in FLOORS.keys() & {model for model in named.values() if isinstance(model, str)}:
            tell_of_namesake(floor)
        found = {
            name: model
            if isinstance(model, str) and model in FLOORS
            else find_model(model, device=options.device, whitening_sentences=whitening_sentences)
            for name, model in named.items()
        }
        work = _Work(instances, cache, options.batch_size, options.protocol, show_progress)
        with _loaded(own):
            found = {name: model if isinstance(model, str) else model.resolved() for name, model in found.items()}
            names = ", ".join(task.metadata.name for task in others)
            advice = "Connect to the network, or choose tasks whose data is at hand"
            asking = asking_hub(f"the data of {names}", advice) if others else contextlib.nullcontext()
            with asking, _loaded(others):
                table = ScoreTable({name: work.score(name, model) for name, model in found.items()})
                if output_dir is not None:
                    table.write(output_dir)
                for name, model in found.items() if options.add_to_card else ():
                    if not isinstance(model, str) and model.directory is not None:
                        add_scores(model.directory, table.scores[name], instances, options.protocol)
    return table


@dataclass(frozen=True)
class _Work:
    """What the evaluation of every model shares."""

    tasks: Sequence[AbsTask]
    cache: ResultCache | None
    batch_size: int
    protocol: SourceProtocol
    show_progress: bool

    def score(self, name: str, model: FoundEncoder | str) -> dict[str, float]:
        """One model's score × 100 on every task; a floor is given by its name."""
        if isinstance(model, str):
            scores = {task.metadata.name: floor_score(model, task, self.protocol) for task in self.tasks}
        else:
            results = self._results(model)
            scores = {task.metadata.name: self._read(results[task.metadata.name], task, name) for task in self.tasks}
        return {task: score * 100 for task, score in scores.items()}

    def _results(self, found: FoundEncoder) -> dict[str, TaskResult]:
        """Every task's result: from storage where that is of this model and this data, else computed."""
        _warn_of_known_pairs(found, self.tasks)
        stored = {task.metadata.name: self._stored(task, found) for task in self.tasks}
        results = {name: result for name, result in stored.items() if result is not None}
        pending = [task for task in self.tasks if task.metadata.name not in results]
        return results | {result.task_name: result for result in self._evaluate(found, pending)}

    def _stored(self, task: AbsTask, found: FoundEncoder) -> TaskResult | None:
        if self.cache is None:
            return None
        load = inspect.unwrap(type(self.cache).load_task_result)  # of registered tasks it compares with other data
        try:
            result: TaskResult | None = load(self.cache, task.metadata.name, found.name, found.revision)
        except (OSError, ValueError) as error:
            logger.warning("A stored result of %s is unreadable and computed again: %s", task.metadata.name, error)
            return None
        if result is None or result.dataset_revision != task.metadata.revision or result.get_missing_evaluations(task):
            return None
        return result

    def _evaluate(self, found: FoundEncoder, pending: Sequence[AbsTask]) -> Sequence[TaskResult]:
        import mteb

        if not pending:
            return []
        logger.info("scoring %s on %d tasks", found.name, len(pending))
        encoder, place = found.load(), found.directory
        if any(isinstance(task, AbsTaskSTS) for task in pending):
            warn_of_similarity(encoder, found.name)
        meta = directory_meta(place, found.revision) if place else loaded_meta(found.name, found.revision, encoder)
        options = (read_settings(place, TRAINING_RECORD) or {}).get("options") if place else None
        is_chosen = isinstance(options, dict) and options.get("max_seq_length") is not None
        model = EncodeOnce(encoder, meta, pending, show_progress=self.show_progress, is_length_chosen=is_chosen)
        results: list[TaskResult] = []
        for task in pending:
            begun = time.monotonic()
            outcome = mteb.evaluate(
                model,
                task,
                cache=self.cache,
                overwrite_strategy="always",
                encode_kwargs={"batch_size": self.batch_size, "show_progress_bar": False},
                show_progress_bar=False,
                co2_tracker=False,
            )
            results += outcome.task_results
            if self.show_progress and (seconds := time.monotonic() - begun) > _LONG:
                done = (len(results), len(pending), task.metadata.name, seconds)
                logger.info("scored %d of %d tasks: %s took %.0f s", *done)
        return results

    def _read(self, result: TaskResult, task: AbsTask, model: str) -> float:
        key = "main_score" if self.protocol == "all" or not getattr(task, "has_sources", False) else self.protocol
        try:
            parts = [
                part for split in task.eval_splits for part in result.scores[split]
            ]  # of an earlier run perhaps more
            score = float(np.mean([part[key] for part in parts if part["hf_subset"] in task.hf_subsets]))
        except KeyError:
            raise EvaluationError(
                f"{task.metadata.name} has no score by the protocol {self.protocol!r}: the hub's copy of the data does "
                "not name the sources. Give a directory in SentEval layout with `--sts-dir DIR`, or use 'all'."
            ) from None
        if not math.isfinite(score):
            raise EvaluationError(
                f"{task.metadata.name}: the score of '{model}' is {score}. Its embeddings are constant or not numbers."
            )
        return score


def _warn_of_known_pairs(found: FoundEncoder, tasks: Iterable[AbsTask]) -> None:
    """Says where the pairs of a task are those that an encoder was trained on, or chosen by, all in the same order."""
    record = read_settings(found.directory, TRAINING_RECORD) if found.directory else None
    facts = (record or {}).get("data")
    known = {facts[name]: name for name in facts if name.endswith(ROWS_HASH)} if isinstance(facts, dict) else {}
    for task in tasks if known else ():
        if not isinstance(task, AbsTaskSTS) or not hasattr(task, "data_revision"):
            continue
        for split in task.eval_splits:
            pairs = cast("Any", task.dataset)[split].select_columns(list(PAIR_COLUMNS))
            if (name := known.get(rows_hash(as_table(pairs)))) is not None:
                split_name = name.removesuffix(ROWS_HASH)
                logger.log(
                    logging.WARNING if split_name == "train" else logging.INFO,
                    "%s: these are the %s pairs of %s itself, so that the score says little of other texts",
                    task.metadata.name,
                    split_name,
                    found.name,
                )


def find_model(
    model: Model, *, device: str = "auto", whitening_sentences: str | Path | Sequence[str] | None = None
) -> FoundEncoder:
    """Finds a model without loading it: a directory, a name on the hub, a baseline or a loaded model.

    Raises ModelError where there is no such directory, or no model in it, ConfigurationError for a whitened baseline
    without sentences to fit on, and InputError where sentences or word vectors cannot be read.
    """
    if not isinstance(model, str | Path):
        pad_with_end_of_text(model)
        card = model.model_card_data
        name = _owned(str(card.model_name or card.base_model or "unnamed"))
        return FoundEncoder(name, state_revision(model), lambda: model)
    sentences = whitening_sentences
    if isinstance(sentences, str | Path):
        is_whitened = str(model).partition(":")[0].endswith(WHITENING)
        sentences = read_sentences(Path(sentences).expanduser()).texts[:] if is_whitened else None
    baseline = find_baseline(str(model), device=device, whitening_sentences=sentences)
    if baseline is not None:
        return baseline
    directory = local_directory(model)
    if directory is None:
        name = str(model)
        load = functools.partial(load_trainable_encoder, name, device=device)
        return FoundEncoder(_owned(name), "", load, fetch=lambda: _fetch(name))
    return FoundEncoder(
        directory_name(directory),
        directory_revision(directory),
        lambda: load_trainable_encoder(directory, device=device),
        directory=directory,
    )


def _owned(name: str) -> str:
    """The form that mteb asks for, `owner/name`; models without an owner belong to `local`."""
    return name if "/" in name else f"local/{name}"


def _fetch(name: str) -> str:
    """Downloads a model of the hub, and returns its revision."""
    try:
        return fetch_model(name).name
    except ModelError as error:
        floor = difflib.get_close_matches(name, FLOORS, n=1)
        if not floor:
            raise
        raise ModelError(f"{error} Or did you mean the floor {floor[0]!r}?") from error


class EncodeOnce:
    """Fulfils mteb's `EncoderProtocol` with a sentence-transformers model.

    Embeddings are remembered for the STS tasks given whose data is loaded, grouped by the prompt that the model wants
    for a task. Texts of other tasks (a reranking corpus may be large) are encoded once in a call and not kept.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        meta: ModelMeta,
        tasks: Iterable[AbsTask] = (),
        *,
        show_progress: bool = False,
        is_length_chosen: bool = False,
    ) -> None:
        self.model = model
        self.mteb_model_meta = meta
        self._shown = show_progress
        self._tasks = [task for task in tasks if isinstance(task, AbsTaskSTS) and task.data_loaded]
        self._known: dict[str | None, tuple[dict[str, int], Matrix]] = {}
        self._has_warned, self._is_length_chosen = False, is_length_chosen

    def encode(
        self,
        inputs: Iterable[dict[str, Any]],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,  # noqa: ARG002 (mteb passes it to every encoder)
        hf_subset: str,  # noqa: ARG002 (likewise)
        prompt_type: PromptType | None = None,
        **options: Any,
    ) -> Matrix:
        """Embeds batches of texts, from memory where they are known: float32, `(texts, dimensions)`.

        The task settles the prompt; `prompt_type` is None in STS tasks. Other options are those of the model's
        `encode`.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        prompt = self._prompt(task_metadata, prompt_type)
        if prompt_type is not None or not any(task.metadata.name == task_metadata.name for task in self._tasks):
            rows, matrix = self._encode_distinct(texts, prompt, prompt_type, options)
        else:
            rows, matrix = self._known.get(prompt, ({}, np.empty(0)))
            if any(text not in rows for text in texts):
                together = [*self._texts_with(prompt), *texts]
                rows, matrix = self._known[prompt] = self._encode_distinct(together, prompt, None, options)
        return matrix[[rows[text] for text in texts]]

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The model's own similarity of every first to every second embedding."""
        return self.model.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The model's own similarity of each pair of embeddings."""
        return self.model.similarity_pairwise(embeddings1, embeddings2)

    def _encode_distinct(
        self, texts: Sequence[str], prompt: str | None, prompt_type: PromptType | None, options: dict[str, Any]
    ) -> tuple[dict[str, int], Matrix]:
        """Each distinct text's row, and the rows; sentence-transformers itself sorts a call's texts by length."""
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        if not self._has_warned:  # a sample of the first texts tells enough
            self._has_warned = True
            name, is_chosen = str(self.mteb_model_meta.name), self._is_length_chosen
            warn_of_tokens(self.model, list(rows), name, is_length_chosen=is_chosen)
        methods = {"query": self.model.encode_query, "document": self.model.encode_document}
        encode: Callable[..., Any] = methods[prompt_type.value] if prompt_type else self.model.encode
        with progress(f"encoding with {self.mteb_model_meta.name}", len(rows), "texts", shown=self._shown) as advance:
            counting = self.model[0].register_forward_pre_hook(lambda _, given: advance(_batch_size(*given)))
            try:
                embeddings = encode(list(rows), prompt=prompt, **{**options, "convert_to_numpy": True})
            finally:
                counting.remove()
        return rows, np.asarray(embeddings)

    def _texts_with(self, prompt: str | None) -> Iterator[str]:
        """Every sentence, with repetitions, of the splits to evaluate of the STS tasks that want a prompt."""
        for task in self._tasks:
            if self._prompt(task.metadata, None) != prompt:
                continue
            data: Any = task.dataset
            for subset in task.hf_subsets:
                splits = data.get(subset, data)
                for split in task.eval_splits:
                    for column in task.column_names:
                        yield from splits[split][column]

    def _prompt(self, metadata: TaskMetadata, prompt_type: PromptType | None) -> str | None:
        prompts = cast("dict[str, str]", self.model.prompts)
        name = get_prompt_name(prompts, metadata, prompt_type)
        return prompts[name] if name else None


def _batch_size(features: Mapping[str, Any], *_: Any) -> int:
    """The texts of a batch, whose tokens are rows of a matrix or, in static embeddings, stand in one row."""
    return len(features["offsets"] if "offsets" in features else next(iter(features.values())))


def _name_models(models: Model | Sequence[Model] | Mapping[str, Model]) -> dict[str, Model]:
    """Each model under the name that its row gets; a string is its own name."""
    if isinstance(models, Mapping):
        named = dict(models)
    else:
        several = list(models) if isinstance(models, list | tuple) else [cast("Model", models)]
        named = {}
        for model in several:
            name = str(model) if isinstance(model, str | Path) else f"model {len(named) + 1}"
            if name in named:
                raise ConfigurationError(f"The model '{name}' was given twice. Give each model once.")
            named[name] = model
    if not named:
        raise ConfigurationError("No model was given. Give at least one directory, hub name or baseline.")
    return named


def _check_tasks(tasks: Iterable[AbsTask]) -> list[AbsTask]:
    instances = list(tasks)
    names = [task.metadata.name for task in instances]
    if not names:
        raise ConfigurationError("No task was given. Give task instances, e.g. `mteb_tasks.select_tasks('sts')`.")
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"The task '{name}' was given twice. Give each task once.")
    return instances


@contextlib.contextmanager
def _open_results(output_dir: str | Path | None) -> Iterator[ResultCache | None]:
    """Opens the results folder, to which no other process may write; where nothing is written, none is left behind."""
    from mteb import ResultCache

    if output_dir is None:
        yield None
        return
    results = Path(output_dir) / "results"
    made = [place for place in (results, *results.parents) if not place.exists()]
    try:
        try:
            results.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=results):
                cache = ResultCache(Path(output_dir))
        except OSError as error:
            raise OutputError(
                f"The results cannot be written to '{output_dir}' ({error.strerror}). Give a directory that can be "
                "written."
            ) from error
        with only_writer(Path(output_dir), leave=False):
            yield cache
    except BaseException:
        for place in made:
            with contextlib.suppress(OSError):  # something was written there
                place.rmdir()
        raise


@contextlib.contextmanager
def _loaded(tasks: Iterable[AbsTask]) -> Iterator[None]:
    """Loads the data of STS and of our tasks, which settles its revision and what to encode; unloads what it loaded."""
    fresh: list[AbsTask] = []
    try:
        for task in tasks:
            if (isinstance(task, AbsTaskSTS) or hasattr(task, "data_revision")) and not task.data_loaded:
                task.load_data()
                fresh.append(task)
        yield
    finally:
        for task in fresh:
            task.unload_data()
