"""The stages as the command line and recipes call them: files in, files out.

Stages meet only through directories, so each can be run again, replaced, or moved to another machine alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.backends.choice import LOCAL_OPTIONS, SERVER_OPTIONS, check_options, open_backend
from dino_st.backends.options import BackendName, ChatOptions, ServerOptions, SynCSEOptions
from dino_st.data.columns import LOG_PROBS, SENTENCE1
from dino_st.data.pairs import read_jsonl, read_raw, read_reference_jsonl
from dino_st.data.sentences import read_sentences
from dino_st.data.shards import MANIFEST, ShardDirectory
from dino_st.data.tables import json_objects
from dino_st.data.triplets import read_triplets
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, DatasetError, InputError, ModelError, suggest
from dino_st.generation.options import GenerationOptions
from dino_st.preparation.options import PreparationOptions
from dino_st.support.files import REJECTED, only_writer
from dino_st.syncse.run import check_arguments, run_triplets
from dino_st.tasks.spec import TaskSpec
from dino_st.tasks.syncse import is_syncse_task, load_syncse_spec
from dino_st.training.record import training_summary

if TYPE_CHECKING:
    from datasets import Dataset

    from dino_st.evaluation.table import ScoreTable
    from dino_st.preparation.splits import PreparedSplits


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

    spec = TaskSpec.load(work.task)
    check_input(spec, work)
    directory = ShardDirectory(output)  # an unusable one is better known before the model is loaded
    sentences = None if work.input is None else read_sentences(work.input, column=work.column, limit=work.limit)
    builder = DinoDatasetBuilder(model, task=spec, **work.options)
    start = time.monotonic()
    texts = None if sentences is None else sentences.texts
    counts = builder.generate_shards(directory, texts, num=work.num, show_progress=True)
    seconds = time.monotonic() - start
    skipped = {} if sentences is None else sentences.skipped
    kind = "pairs" if spec.needs_input else "texts"
    return GenerationOutcome(dict(counts) | skipped, kind, seconds, directory.new_rows, directory.examples())


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
    from dino_st.preparation.prepare import NothingLeftError, prepare_pairs
    from dino_st.preparation.splits import check_output, save_rejected, write_prepared

    check_output(output)
    dataset, provenance, labels = read_raw(raw)
    chosen = {"labels": labels, **options} if labels else dict(options)
    if labels and LOG_PROBS in dataset.column_names and set(chosen["labels"]) == set(labels):
        chosen["labels"] = labels  # the log-probabilities stand in the order of the task's labels
    explain = chosen.pop("explain", False)
    preparation = PreparationOptions.of(**chosen)  # wrong ones should leave no directory behind
    with only_writer(output):
        try:
            splits = prepare_pairs(dataset, options=preparation, explain=explain)
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
    from dino_st.generation.options import GenerationOptions
    from dino_st.generation.scoring import ScoringRun

    chosen = GenerationOptions.of(**(options or {}))
    if output.resolve() == raw.resolve():
        raise ConfigurationError(
            f"--output {output}: holds the pairs to be scored; give another directory for the scored ones"
        )
    directory = ShardDirectory(output)  # an unusable one is better known before the model is loaded
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
    return dict(ScoringRun(writer, spec, chosen, dataset, known).into(directory, show_progress=True))


def train_model(prepared: Path, encoder: str, output: Path, options: Mapping[str, Any]) -> str:
    """Trains an encoder on a prepared directory, or resumes.

    Returns:
        A sentence about how it went.
    """
    from dino_st.training.record import training_summary
    from dino_st.training.train import train_encoder

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
    from dino_st.evaluation.evaluate import evaluate_encoder

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


def prepare_triplet_data(raw: Path, output: Path, options: Mapping[str, Any]) -> PreparedSplits:
    """Prepares triplets, or DINO pairs as triplets, and writes them to a directory.

    Args:
        raw: Directory of shards of triplets or of pairs, a file of triplets, or a JSONL file of pairs.
        output: The directory for the splits.
        options: Options of `prepare_triplets`.

    Returns:
        The splits.

    Raises:
        InputError: If `raw` cannot be read.
        DatasetError: If no triplet is left.
    """
    from dino_st.preparation.splits import save_prepared
    from dino_st.preparation.triplets import prepare_triplets

    dataset, provenance = _read_raw(raw)
    splits = prepare_triplets(dataset, **options)
    save_prepared(splits, output, provenance=provenance)
    return splits


def train_contrastive_model(
    prepared: Path,
    encoder: str,
    output: Path,
    options: Mapping[str, Any],
    *,
    pairs: Path | None = None,
    sts_dir: Path | None = None,
) -> str:
    """Trains an encoder on prepared triplets, or resumes.

    Args:
        prepared: Directory of `prepare_triplet_data`.
        encoder: What to start from.
        output: Directory for the encoder.
        options: Options of `train_contrastive`.
        pairs: Directory of `prepare_data`, to train on as well.
        sts_dir: STS data in SentEval layout; read only if a checkpoint is to be chosen by it.

    Returns:
        A sentence about how it went.

    Raises:
        ConfigurationError: If a checkpoint is to be chosen by STS data, and there is none.
    """
    from dino_st.training.train import train_contrastive
    from mteb_tasks.sts_files import read_dev_pairs

    by_labels = options.get("checkpoint_choice") == "sts-dev"
    if by_labels and sts_dir is None:
        raise ConfigurationError(
            "checkpoint_choice is 'sts-dev', which needs STS data in SentEval layout; give its directory with "
            "--sts-dir or the variable DINO_ST_STS_DIR"
        )
    sts_dev = read_dev_pairs(sts_dir) if by_labels and sts_dir is not None else None
    train_contrastive(prepared, encoder, output, pairs=pairs, sts_dev=sts_dev, resume=True, **options)
    if by_labels:
        return training_summary(output, "STSb and SICK dev, averaged")
    more = "" if pairs is None else " and the validation pairs, averaged"
    return training_summary(output, "pairs of the generated validation triplets" + more)


def named_sts_dir(given: str | None) -> Path | None:
    """The directory of STS data: the one given, else the one that the variable names."""
    name = given or os.environ.get("DINO_ST_STS_DIR")
    return Path(name) if name else None


def _read_raw(raw: Path) -> tuple[Dataset, dict[str, Any]]:
    """Reads triplets or pairs, and where they come from."""
    if (raw / MANIFEST).is_file():
        directory = ShardDirectory.to_read(raw)
        task = directory.configuration.get("task")
        name = task.get("task_name") if isinstance(task, Mapping) else task
        known = {key: directory.provenance.get(key) for key in ("model", "versions")}
        return directory.to_dataset(), known | {"task": name, "seed": directory.configuration.get("seed")}
    provenance = {"raw": raw.name}
    if raw.suffix.lower() == ".jsonl" and raw.is_file():
        _, first = next(json_objects(raw), (0, {}))
        if "text_a" in first:
            return read_reference_jsonl(raw), provenance
        if SENTENCE1 in first:
            return read_jsonl(raw), provenance
    return read_triplets(raw), provenance


_TRIPLETS = tuple(SynCSEOptions.model_fields)
_PAIRS = ("samples", "max_new_tokens", "max_tries", "min_words", "decay_constant")


def is_for_chat(task: str, backend: BackendName, given: Iterable[str]) -> bool:
    """Whether chat requests do a task: SynCSE's always, DINO's with a server.

    Args:
        task: Name or file.
        backend: Who writes.
        given: Options that were given.

    Raises:
        ConfigurationError: If there is no such backend, or options of a server are given for a local model.
    """
    ChatOptions.of(backend=backend)
    if is_syncse_task(task) or backend == "openai":
        return True
    only_for_servers = [name for name in given if name in ("base_url", *SERVER_OPTIONS) and not _is_local_option(name)]
    if only_for_servers:
        raise ConfigurationError(
            f"{', '.join(only_for_servers)}: for a chat server only, and the backend is 'local'; leave it out, or "
            "choose --backend openai"
        )
    return False


def generate_by_chat(work: Generation, model: str, output: Path) -> tuple[GenerationOutcome, list[str]]:
    """Has triplets written, or pairs for a task of DINO by a server.

    Args:
        work: What to generate; its options are those that were given, `backend` and `base_url` among them.
        model: Directory or name of a model.
        output: The directory; a second run goes on there.

    Returns:
        Counts, speed and examples; and what else is worth saying.

    Raises:
        ConfigurationError: If options do not fit the task, the backend, or one another.
    """
    options = dict(work.options)
    backend: BackendName = options.pop("backend", "local")
    base_url = options.pop("base_url", None)
    triplets = is_syncse_task(work.task)
    _check_options(work.task, backend, options, _TRIPLETS if triplets else _PAIRS)
    directory = ShardDirectory(output)  # an unusable one is better known before anything is asked
    if triplets:
        return _triplets(work, model, directory, backend, base_url, options)
    return _pairs(work, model, directory, base_url, options)


def _triplets(
    work: Generation,
    model: str,
    directory: ShardDirectory,
    backend: BackendName,
    base_url: str | None,
    options: dict[str, Any],
) -> tuple[GenerationOutcome, list[str]]:
    spec = load_syncse_spec(work.task)
    check_arguments(spec, has_sentences=work.input is not None, num=work.num)
    sentences = None if work.input is None else read_sentences(work.input, column=work.column, limit=work.limit)
    texts = None if sentences is None else sentences.texts
    start = time.monotonic()
    _, usage = run_triplets(model, texts, work.num, spec, backend, base_url, directory, True, options)
    seconds = time.monotonic() - start
    if backend == "openai":
        _check_answered(usage, directory.path)
    counts = dict(directory.counts) | ({} if sentences is None else sentences.skipped)
    notes = [
        _usage(usage),
        *_left(directory.path, counts["given up"], "sentences have no triplet", "they are tried again"),
    ]
    return GenerationOutcome(counts, "triplets", seconds, directory.new_rows, directory.examples()), notes


def _pairs(
    work: Generation, model: str, directory: ShardDirectory, base_url: str | None, options: dict[str, Any]
) -> tuple[GenerationOutcome, list[str]]:
    from dino_st.generation.chat import ChatPairRun, check_debiasing

    spec = TaskSpec.load(work.task)
    decoding = DecodingOptions(**{name: options[name] for name in _PAIRS[1:] if name in options})
    check_debiasing(decoding.decay_constant)
    samples = GenerationOptions.of(**{name: options[name] for name in ("samples",) if name in options}).samples
    if spec.needs_input:  # what is written from scratch is refused by the run, which names the task for servers
        check_input(spec, work)
    asked = {name: value for name, value in options.items() if name in SERVER_OPTIONS}
    writer = open_backend(model, "openai", base_url=base_url, options=asked)
    sentences = None if work.input is None else read_sentences(work.input, column=work.column, limit=work.limit)
    texts = () if sentences is None else sentences.texts
    start = time.monotonic()
    ChatPairRun(writer, spec, decoding, samples, texts).into(directory, True)
    seconds = time.monotonic() - start
    _check_answered(writer.usage, directory.path)
    counts = dict(directory.counts) | ({} if sentences is None else sentences.skipped)
    lost = counts["draws"] - counts["rows"]
    notes = [_usage(writer.usage), *_left(directory.path, lost, "texts are missing", "failed requests are made again")]
    return GenerationOutcome(counts, "pairs", seconds, directory.new_rows, directory.examples()), notes


def _check_options(task: str, backend: BackendName, options: Mapping[str, Any], of_task: Sequence[str]) -> None:
    """Refuses what the task has no use for, and what belongs to the other backend."""
    known = {*GenerationOptions.model_fields, *DecodingOptions.names(), *ServerOptions.model_fields, *_TRIPLETS}
    others = [name for name in options if name not in of_task]
    for name in others:
        if name not in known:
            raise ConfigurationError(f"there is no option {name!r}: {suggest(name, sorted(known))}")
        if name not in (*LOCAL_OPTIONS, *SERVER_OPTIONS):
            raise ConfigurationError(
                f"option {name!r} ({options[name]!r}) means nothing for task {task!r} with --backend {backend}; "
                "leave it out"
            )
    check_options(backend, base_url=None, options=others)


def _is_local_option(name: str) -> bool:
    return name in (*GenerationOptions.model_fields, *DecodingOptions.names())


def _usage(usage: Mapping[str, int]) -> str:
    """A line about what a run asked of a model."""
    return "Asked in this run: " + ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in usage.items())


def _check_answered(usage: Mapping[str, int], output: Path) -> None:
    """Raises if requests were made and every one of them failed; the reason stands beside what was rejected."""
    if not usage.get("requests") or usage["failures"] < usage["requests"]:
        return
    rejected = output / REJECTED
    first = rejected.read_text(encoding="utf-8").partition("\n")[0] if rejected.is_file() else "{}"
    reason = json.loads(first).get("reason", f"see {REJECTED}")
    raise ModelError(
        f"not one of {usage['requests']:,} requests was answered: {reason}. Look whether the server works and "
        f"--base-url and --model are right; then run the same command again. What was answered before is in {output}"
    )


def _left(output: Path, number: int, what: str, then: str) -> list[str]:
    if not number:
        return []
    return [f"{number:,} {what}: {output / REJECTED} says why; with the same command, {then}"]
