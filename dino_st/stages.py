"""The four stages as the command line and recipes call them: files in, files out.

Stages meet only through directories, so each can be run again, replaced, or moved to another machine alone.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.columns import LABEL, LOG_PROBS, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.directory_lock import only_writer
from dino_st.errors import ConfigurationError, DatasetError, InputError
from dino_st.inputs import read_sentences
from dino_st.manifest import read_manifest
from dino_st.preparation_options import REJECTED, PreparationOptions
from dino_st.raw_files import read_raw
from dino_st.shards import iterate_rows

if TYPE_CHECKING:
    from dino_st.preparation import PreparedSplits
    from dino_st.score_table import ScoreTable
    from dino_st.task_spec import TaskSpec

_EXAMPLES = 4


@dataclass(frozen=True)
class Generation:
    """What to generate.

    Attributes:
        task: Name or file of the task.
        input: File of sentences, or None for a task without inputs.
        column: Column of the input.
        limit: Use only the first so many distinct sentences.
        num: Texts to write, for a task without inputs.
        options: Options of `DinoDatasetBuilder`.
    """

    task: str
    input: str | None = None
    column: str | None = None
    limit: int | None = None
    num: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GenerationOutcome:
    """What came out of a generation.

    Attributes:
        counts: Rows, and rejections by reason.
        kind: `pairs` or `texts`.
        seconds: Time of this run, model loading apart.
        new_rows: Rows that this run wrote, as against ones that were there before.
        examples: A few rows of each label, their texts in order.
    """

    counts: Mapping[str, int]
    kind: str
    seconds: float
    new_rows: int
    examples: Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate on; see `mteb_tasks.select_tasks` and `evaluate_encoder`."""

    tasks: str | None = None
    sts_dir: Path | None = None
    pairs: Sequence[Path] = ()
    batch_size: int = 32
    device: str = "auto"
    protocol: str = "all"
    whitening_sentences: Path | None = None


def generate_data(work: Generation, model: str, output: Path) -> GenerationOutcome:
    """Generates into a directory, or continues there.

    Args:
        work: What to generate.
        model: Directory or hub name of a causal language model.
        output: The directory.

    Returns:
        Counts, speed and examples.
    """
    from dino_st.builder import DinoDatasetBuilder
    from dino_st.task_spec import TaskSpec

    spec = TaskSpec.load(work.task)
    check_input(spec, work)
    read_manifest(output)  # an unusable directory is better known before the model is loaded
    sentences = None if work.input is None else read_sentences(work.input, column=work.column, limit=work.limit)
    builder = DinoDatasetBuilder(model, task=spec, **work.options)
    manifest = read_manifest(output)
    before = sum(shard["rows"] for shard in manifest["shards"]) if manifest else 0
    start = time.monotonic()
    texts = None if sentences is None else sentences.texts
    counts = builder.generate_shards(output, texts, num=work.num, show_progress=True)
    seconds = time.monotonic() - start
    skipped = {} if sentences is None else sentences.skipped
    kind = "pairs" if spec.needs_input else "texts"
    examples = _examples(iterate_rows(output), builder.options.seed)
    return GenerationOutcome(dict(counts) | skipped, kind, seconds, counts["rows"] - before, examples)


def prepare_data(raw: Path, output: Path, options: Mapping[str, Any]) -> PreparedSplits:
    """Prepares generated pairs and writes them to a directory.

    Args:
        raw: Directory of shards, or a JSONL file of pairs in our own columns or those of the published code.
        output: The directory for the splits.
        options: Options of `prepare_pairs`.

    Returns:
        The splits.

    Raises:
        InputError: If there are no raw pairs at `raw`.
        DatasetError: If no pair is left.
    """
    from dino_st.preparation import NothingLeftError, prepare_pairs
    from dino_st.prepared_splits import check_output, save_rejected, write_prepared

    check_output(output)
    dataset, provenance, labels = read_raw(raw)
    chosen = {"labels": labels, **options} if labels else dict(options)
    if labels and LOG_PROBS in dataset.column_names and set(chosen["labels"]) == set(labels):
        chosen["labels"] = labels  # the log-probabilities stand in the order of the task's labels
    # Wrong options should leave no directory behind.
    PreparationOptions.create(**{name: value for name, value in chosen.items() if name != "explain"})
    with only_writer(output):
        try:
            splits = prepare_pairs(dataset, **chosen)
        except NothingLeftError as error:
            if error.rejected is None or not save_rejected(error.rejected, output):
                raise
            raise DatasetError(f"{error}\nWhat was dropped, and why: {output / REJECTED}") from error
        write_prepared(splits, output, provenance=provenance)
    return splits


def score_data(
    raw: Path, model: str, output: Path, *, task: str | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """Writes pairs once more, with their log-probabilities under every label; see `ScoringRun`.

    Args:
        raw: Directory of shards, or a JSONL file of pairs.
        model: Directory or hub name of a causal language model.
        output: Another directory.
        task: The task whose instructions are asked about; None takes the one that the shards were written for, or
            `sts-x2` for a file.
        options: Batch size, device, dtype and prompt format, as in `GenerationOptions`.

    Returns:
        Counts of what happened.

    Raises:
        ConfigurationError: If the pairs do not fit the task.
    """
    from dino_st.backends.local import LocalWriter
    from dino_st.generation_options import GenerationOptions
    from dino_st.scoring_run import ScoringRun
    from dino_st.task_spec import TaskSpec

    chosen = GenerationOptions.create(**(options or {}))
    if output.resolve() == raw.resolve():
        raise ConfigurationError(
            f"--output {output}: holds the pairs to be scored; give another directory for the scored ones"
        )
    read_manifest(output)  # an unusable directory is better known before the model is loaded
    dataset, provenance, _ = read_raw(raw)
    spec = TaskSpec.load(task or provenance.get("task") or "sts-x2")
    if not spec.needs_input:
        raise ConfigurationError(f"task {spec.task_name!r} has no pairs; give the task they were written for: --task")
    writer = LocalWriter(
        model,
        device=chosen.device,
        dtype=chosen.dtype,
        prompt_format=chosen.prompt_format,
        trust_remote_code=chosen.trust_remote_code,
    )
    known = {"model": provenance["model"]} if "model" in provenance else {}
    return ScoringRun(writer, spec, chosen, dataset, known).into(output, show_progress=True)


def train_model(prepared: Path, encoder: str, output: Path, options: Mapping[str, Any]) -> str:
    """Trains an encoder on a prepared directory, or resumes.

    Returns:
        A sentence about how it went.
    """
    from dino_st.training import train_encoder
    from dino_st.training_run import training_summary

    train_encoder(prepared, encoder, output, resume=True, **options)
    _leave_process_group()
    return training_summary(output, "the generated validation pairs")


def evaluate_models(models: Sequence[str] | Mapping[str, str], work: Evaluation, output: Path | None) -> ScoreTable:
    """Scores encoders on the chosen tasks.

    Args:
        models: Directories, hub names or baselines; a mapping gives each a name of its own.
        work: On what.
        output: Directory for the scores; None writes nothing.

    Returns:
        The table of scores.
    """
    from dino_st.evaluation import evaluate_encoder

    return evaluate_encoder(
        models,
        tasks=select_tasks(work),
        output_dir=output,
        batch_size=work.batch_size,
        device=work.device,
        protocol=work.protocol,  # type: ignore[arg-type]  # checked there
        whitening_sentences=work.whitening_sentences,
    )


def select_tasks(work: Evaluation) -> Any:
    """The mteb task instances of an evaluation.

    Raises:
        ConfigurationError: If a task is unknown.
        InputError: If a file or directory of data is missing.
    """
    import mteb_tasks

    if work.sts_dir is not None and not work.sts_dir.is_dir():
        raise InputError(f"{work.sts_dir}: there is no such directory; expected STS data in SentEval layout")
    names = None if work.tasks is None else [name.strip() for name in work.tasks.split(",") if name.strip()]
    return mteb_tasks.select_tasks(names, sts_dir=work.sts_dir, pairs=list(work.pairs))


def check_evaluation(work: Evaluation) -> None:
    """Loads the data of an evaluation once, since what is missing is better known before the stages that take hours.

    Args:
        work: What will be evaluated on; pairs that are still to be written are left out.

    Raises:
        DinoError: As for `select_tasks`, or the data of a task cannot be had.
    """
    if work.tasks is not None:
        for task in select_tasks(replace(work, pairs=())):
            task.load_data()
            task.unload_data()


def _leave_process_group() -> None:
    """Ends what `torchrun` began: torch's threads may abort a process that exits without it."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def check_input(spec: TaskSpec, work: Generation) -> None:
    """Checks that a task gets what it needs.

    Raises:
        ConfigurationError: If sentences or the number of texts to write are missing, or do not belong to the task.
    """
    if spec.needs_input and (work.input is None or work.num is not None):
        raise ConfigurationError(
            f"task {spec.task_name!r} writes for given sentences: give them with --input FILE, and leave out --num"
        )
    if not spec.needs_input and (work.num is None or work.input is not None):
        raise ConfigurationError(
            f"task {spec.task_name!r} writes from scratch: say how many texts with --num N, and leave out --input "
            "(its instructions have no placeholder <X1> to put a sentence in)"
        )


def _examples(rows: Iterable[Mapping[str, Any]], seed: int) -> dict[str, list[list[str]]]:
    """A few random rows for each label (reservoir sampling), in the order of the labels' appearance."""
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    chosen: dict[str, list[list[str]]] = {}
    for row in rows:
        label = f"{row[SCORE]:g}" if SCORE in row else str(row[LABEL])
        texts = [row[name] for name in (SENTENCE1, SENTENCE2, TEXT) if name in row]
        kept = chosen.setdefault(label, [])
        place = rng.randrange(seen[label] + 1)
        seen[label] += 1
        if len(kept) < _EXAMPLES:
            kept.append(texts)
        elif place < _EXAMPLES:
            kept[place] = texts
    return chosen
