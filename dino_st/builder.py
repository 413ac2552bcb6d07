"""`DinoDatasetBuilder`: from sentences and a language model to training data."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.backends.options import ClusterOptions
from dino_st.data.sentences import clean_sentences
from dino_st.data.shards import ShardDirectory
from dino_st.errors import ConfigurationError
from dino_st.generation.options import WritingOptions
from dino_st.models import warn_of_unknown_characters
from dino_st.tasks.spec import TaskSpec, check_number

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import InputExample

    from dino_st.backends.local import LocalWriter
    from dino_st.generation.run import GenerationPlan, GenerationRun
    from dino_st.preparation.splits import PreparedSplits
    from dino_st.training.fit import FitDataLoader


class DinoDatasetBuilder:
    """Has a causal language model write a labelled data set from instructions (DINO, arXiv 2104.07540).

    Example:
        >>> builder = DinoDatasetBuilder("gpt2-xl", task="sts-x2", seed=42)
        >>> raw = builder.generate(["A man is playing a flute."])
        >>> splits = builder.prepare(raw)

    Attributes:
        spec: The task specification.
        options: Samples, seed, batch size, device and the like.
        decoding: Sampling and debiasing.
        counts: What happened in the latest `generate`: draws, rows, and rejected tries by reason.
    """

    def __init__(
        self,
        model: str | Path | tuple[Any, Any],
        task: str | Path | Mapping[str, Any] | TaskSpec = "sts-x2",
        *,
        writing: WritingOptions | None = None,
        load: bool = True,
        **options: Any,
    ) -> None:
        """Loads the language model.

        Args:
            model: Hub name, directory, or a pair (model, tokenizer) that is loaded already; the model is put into
                evaluation mode, and both are looked at anew by every call, since they may have changed.
            task: Name of a built-in task, path of a task file, parsed mapping, or `TaskSpec`.
            writing: The options as an object, in place of keyword arguments.
            load: Whether to load the model now; without it, only when it is needed, which it is not in this process
                for `generate_shards(engine="ray")`.
            **options: Fields of `GenerationOptions` (`samples`, `seed`, `batch_size`, `device`, `dtype`,
                `prompt_format`, `score_labels`, `trust_remote_code`) and of `DecodingOptions` (`max_new_tokens`,
                `max_tries`, `decay_constant`, `decay_floor`, `top_k`, `top_p`, `min_words`, `curly_quotes`, …). `top_k`
                is 5 for pairs and 0 (all tokens) for texts from scratch unless it is given.

        Raises:
            ConfigurationError: If an option is unknown or out of range.
            TaskSpecError: If there is no such task, or it is malformed.
            ModelError: If the model cannot be loaded or is no decoder-only language model.
        """
        self.spec = TaskSpec.load(task)
        self._writing = WritingOptions.of(**options) if writing is None else writing
        self.options = self._writing.generation
        self.decoding = self._writing.decoding_for(self.spec)
        self.counts: Counter[str] = Counter()
        self._model = model
        self._writer = self._load() if load else None

    def _load(self) -> LocalWriter:
        from dino_st.backends.local import LocalWriter  # wrong options are told before torch is imported

        return LocalWriter(self._model, self.options)

    def generate(
        self,
        sentences: Iterable[str] | None = None,
        *,
        num: int | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        show_progress: bool = False,
    ) -> Dataset:
        """Writes the raw data set.

        Args:
            sentences: The x1 of a task that takes inputs; blank ones and duplicates are skipped and counted.
            num: How many texts to write, for a task that takes no inputs.
            output_dir: Where to write shards as they are finished; the same call continues an interrupted one. Without
                it everything stays in memory. See also `generate_shards`.
            show_progress: Whether to show a progress bar (on a terminal) or log lines.

        Returns:
            Pairs: `sentence1`, `sentence2`, `score` (or `label`, where labels are not numbers), then `x1_index`,
            `sample`, `tries`, `num_tokens`. Texts from scratch: `text`, `label`, `sample`, `tries`, `num_tokens`.
            Further columns come with a task that has several phrasings of an instruction (`instruction`, the number of
            the phrasing) and with `score_labels` (`log_probs`, see `dino_st.data.columns`).

        Raises:
            ConfigurationError: If the task takes inputs and none are given, or the other way round.
            InputError: If no usable sentence is among the inputs.
            OutputError: If the output directory cannot be used.
        """
        if output_dir is not None:
            directory = ShardDirectory.of(output_dir)
            self.generate_shards(directory, sentences, num=num, show_progress=show_progress)
            return directory.to_dataset()
        plan, skipped = self._plan(self.spec, sentences, num)
        store = self._run(plan).in_memory(show_progress)
        self.counts = store.counts
        self.counts.update(skipped)
        return store.to_dataset()

    def generate_shards(
        self,
        output_dir: str | os.PathLike[str],
        sentences: Iterable[str] | None = None,
        *,
        num: int | None = None,
        show_progress: bool = False,
        **cluster: Any,
    ) -> Counter[str]:
        """Writes the raw data set into a directory and leaves it there, so that memory need not hold it.

        Sentences are taken one by one, and only those of the wave being written are in memory. What is written, and
        what may be raised, is as for `generate`.

        Args:
            output_dir: Where to write shards as they are finished; the same call continues an interrupted one.
            sentences: As for `generate`.
            num: As for `generate`.
            show_progress: As for `generate`.
            **cluster: Fields of `ClusterOptions`: `engine="ray"` lets workers on all GPUs of this machine, or of a Ray
                cluster (`ray_address`), write the same rows; `workers`, `gpus_per_worker`, `cpus_per_worker`. The model
                is loaded there: make the builder with `load=False`.

        Returns:
            What happened: draws, rows, and rejected tries by reason, of all calls that wrote the directory.
        """
        chosen = ClusterOptions.of(**cluster)
        plan, skipped = self._plan(self.spec, sentences, num)
        if chosen.engine == "ray":
            from dino_st.generation.workers import write_with_workers

            written = write_with_workers(ShardDirectory.of(output_dir), self._model, plan, chosen, show_progress)
        else:
            written = self._run(plan).into(output_dir, show_progress)
        self.counts = written.counts
        self.counts.update(skipped)
        return self.counts

    def generate_sentences(
        self,
        n: int,
        *,
        task: str | Path | Mapping[str, Any] | TaskSpec = "sts-x1",
        output_dir: str | os.PathLike[str] | None = None,
        show_progress: bool = False,
    ) -> list[str]:
        """Makes x1 from scratch, spread evenly over the task's instructions, by top-p alone.

        Args:
            n: How many distinct sentences.
            task: A task that takes no inputs.
            output_dir: As for `generate`.
            show_progress: As for `generate`.

        Returns:
            Distinct sentences; fewer than n only if ten draws for each did not yield enough, which is logged.
        """
        spec = TaskSpec.load(task)
        run = self._run(self._plan(spec, None, n)[0])
        store = run.in_memory(show_progress) if output_dir is None else run.into(output_dir, show_progress)
        self.counts = store.counts
        texts: list[str] = store.to_dataset()["text"][:]
        return texts

    def prepare(self, raw: Dataset, **options: Any) -> PreparedSplits:
        """Turns raw pairs into training pairs; see `prepare_pairs`, whose options may be given."""
        from dino_st.preparation.prepare import prepare_pairs

        own = {"labels": [float(label) for label in self.spec.labels]} if self.spec.has_scores else {}
        splits = prepare_pairs(raw, **({"seed": self.options.seed} | own | options))
        if self.counts:  # this builder wrote, here or with workers, which are given a name
            splits.provenance.setdefault("model", str(self._model) if self._writer is None else self._writer.name)
        return splits

    @staticmethod
    def to_input_examples(dataset: Dataset) -> list[InputExample]:
        """Converts prepared pairs; see `dino_st.to_input_examples`."""
        from dino_st.training.fit import to_input_examples

        return to_input_examples(dataset)

    def to_dataloader(self, dataset: Dataset, *, batch_size: int = 32, shuffle: bool = True) -> FitDataLoader:
        """Makes the loader that `model.fit` takes; see `dino_st.to_dataloader`."""
        from dino_st.training.fit import to_dataloader

        return to_dataloader(dataset, batch_size=batch_size, shuffle=shuffle, seed=self.options.seed)

    @staticmethod
    def warmup_steps(loader: FitDataLoader, epochs: int = 1) -> int:
        """The 10 % of steps that `model.fit` should warm up for; see `dino_st.warmup_steps`."""
        from dino_st.training.fit import warmup_steps

        return warmup_steps(loader, epochs)

    @staticmethod
    def _check_arguments(spec: TaskSpec, sentences: Iterable[str] | None, num: int | None) -> None:
        if spec.needs_input and (sentences is None or num is not None):
            raise ConfigurationError(f"task {spec.task_name!r} writes for given sentences; give them, and no number")
        if not spec.needs_input and (sentences is not None or num is None):
            raise ConfigurationError(
                f"task {spec.task_name!r} writes from scratch (its instructions have no <X1>); give the number of "
                "texts, and no sentences"
            )
        if num is not None:
            check_number(num)

    def _plan(
        self, spec: TaskSpec, sentences: Iterable[str] | None, num: int | None
    ) -> tuple[GenerationPlan, dict[str, int]]:
        """What is to be written, and the counts of the sentences that were skipped."""
        from dino_st.backends.answers.faults import warn_of_passages
        from dino_st.generation.run import GenerationPlan

        self._check_arguments(spec, sentences, num)
        cleaned = None if sentences is None else clean_sentences(sentences)
        texts, skipped = (None, {}) if cleaned is None else (cleaned.texts, cleaned.skipped)
        warn_of_unknown_characters(self._model if isinstance(self._model, str) else "", texts or ())
        warn_of_passages(spec.instructions, texts or ())
        return GenerationPlan(spec, self._writing.decoding_for(spec), self.options, texts, num), skipped

    def _run(self, plan: GenerationPlan) -> GenerationRun:
        """A plan for the model of this process."""
        from dino_st.generation.run import GenerationRun

        if self._writer is None or isinstance(self._model, tuple):  # which may be another model now
            self._writer = self._load()
        return GenerationRun(self._writer, plan)
