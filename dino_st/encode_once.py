"""An mteb encoder that encodes every distinct sentence of several tasks once, the longest first.

The STS tasks share sentences among and within them; plain mteb encodes each occurrence anew, task by task and column by
column. Here the first call encodes what all of the tasks need, in one run sorted by length, and every later call looks
its sentences up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from mteb.abstasks.sts import AbsTaskSTS
from mteb.models.abs_encoder import get_prompt_name
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import PromptType
    from sentence_transformers import SentenceTransformer

Matrix = NDArray[Any]


class EncodeOnce:
    """Fulfils mteb's `EncoderProtocol` with a sentence-transformers model.

    Embeddings are remembered for the STS tasks given, grouped by the prompt that the model wants for a task. Texts of
    other tasks (a reranking corpus may be large) are encoded once in a call and not kept.
    """

    def __init__(self, model: SentenceTransformer, meta: ModelMeta, tasks: Iterable[AbsTask] = ()) -> None:
        """Wraps a model.

        Args:
            model: The encoder.
            meta: The name and revision under which mteb stores its results.
            tasks: The tasks that are going to be evaluated; STS tasks whose data is loaded are encoded together.
        """
        self.model = model
        self.mteb_model_meta = meta
        self._tasks = [task for task in tasks if isinstance(task, AbsTaskSTS) and task.data_loaded]
        self._known: dict[str | None, tuple[dict[str, int], Matrix]] = {}

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
        """Embeds texts, from memory where they are known.

        Args:
            inputs: Batches, each with its texts under `text`.
            task_metadata: The task, which settles the prompt.
            hf_split: Ignored.
            hf_subset: Ignored.
            prompt_type: Query or document in asymmetric tasks; None in STS tasks.
            **options: Options of the model's `encode`, such as `batch_size` and `show_progress_bar`.

        Returns:
            Embeddings in float32, `(texts, dimensions)`.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        if prompt_type is not None or not any(task.metadata.name == task_metadata.name for task in self._tasks):
            rows, matrix = self._encode_distinct(texts, self._prompt(task_metadata, prompt_type), prompt_type, options)
            return _look_up(texts, rows, matrix)
        prompt = self._prompt(task_metadata, None)
        if prompt not in self._known or any(text not in self._known[prompt][0] for text in texts):
            self._known[prompt] = self._encode_distinct([*self._texts_with(prompt), *texts], prompt, None, options)
        return _look_up(texts, *self._known[prompt])

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
        kind = prompt_type.value if prompt_type else None
        methods = {"query": self.model.encode_query, "document": self.model.encode_document}
        encode: Callable[..., Any] = methods[kind] if kind else self.model.encode
        embeddings = encode(list(rows), prompt=prompt, **{**options, "convert_to_numpy": True})
        return rows, np.asarray(embeddings)

    def _texts_with(self, prompt: str | None) -> Iterator[str]:
        for task in self._tasks:
            if self._prompt(task.metadata, None) == prompt:
                yield from sts_texts(task)

    def _prompt(self, metadata: TaskMetadata, prompt_type: PromptType | None) -> str | None:
        prompts = cast("dict[str, str]", self.model.prompts)
        name = get_prompt_name(prompts, metadata, prompt_type)
        return prompts[name] if name else None


def sts_texts(task: AbsTaskSTS) -> Iterator[str]:
    """Every sentence of the splits that a loaded STS task is going to be evaluated on.

    Args:
        task: An STS task with its data loaded.

    Yields:
        The sentences, with repetitions.
    """
    data: Any = task.dataset
    for subset in task.hf_subsets:
        splits = data.get(subset, data)
        for split in task.eval_splits:
            for column in task.column_names:
                yield from splits[split][column]


def _look_up(texts: Sequence[str], rows: dict[str, int], matrix: Matrix) -> Matrix:
    return matrix[[rows[text] for text in texts]]
