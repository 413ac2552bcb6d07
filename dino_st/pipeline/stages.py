"""The stages as the command line and recipes call them: files in, files out.

Stages meet only through directories, so each can be run again, replaced, or moved to another machine alone. Each checks
its options first, then its input and its output, and imports torch and the like only when all of that is right.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.backends.chat_workers import opened
from dino_st.backends.choice import check_options, open_backend
from dino_st.backends.files import is_cross_encoder, locate_model, look_at_model
from dino_st.backends.options import (
    LOCAL_OPTIONS,
    SERVER_OPTIONS,
    ChatOptions,
    ClusterOptions,
    ModelOptions,
    SynCSEOptions,
)
from dino_st.data.cards import read_origin, state_origin, writer_of
from dino_st.data.columns import JUDGED, LOG_PROBS, SCORE, SENTENCE1, SENTENCE2
from dino_st.data.pairs import check_not_prepared, read_raw
from dino_st.data.quality import Summary
from dino_st.data.sentences import Sentences, read_sentences
from dino_st.data.shards import MANIFEST, ShardDirectory
from dino_st.data.tables import named_files
from dino_st.data.triplets import read_pairs_or_triplets
from dino_st.decoding.options import DecodingOptions
from dino_st.encoders.directory import check_named, local_directory
from dino_st.encoders.loading import encoder_files
from dino_st.errors import ConfigurationError, DatasetError, InputError, ModelError, OutputError, suggest
from dino_st.evaluation.options import EvaluationOptions
from dino_st.generation.options import GenerationOptions, JudgeOptions, WritingOptions
from dino_st.models import bundled_directory
from dino_st.preparation.directory import check_replaces, read_record
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.support.files import REJECTED, SCORES, check_can_become_directory, no_directory, only_writer, similar_path
from dino_st.support.hub import check_within_reach
from dino_st.support.objects import Place
from dino_st.support.progress import logger
from dino_st.tasks.spec import TaskSpec
from dino_st.tasks.syncse import ScratchSpec, SynCSESpec, check_arguments, is_syncse_task, load_syncse_spec
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from mteb_tasks.variables import STS_DIR_VARIABLE

if TYPE_CHECKING:
    import pyarrow as pa

    from dino_st.backends.chat import ChatBackend, ChatReply, ChatRequest
    from dino_st.evaluation.table import ScoreTable
    from dino_st.generation.chat import ChatPairRun
    from dino_st.generation.dry_run import DryRun
    from dino_st.generation.judging import JudgingPlan
    from dino_st.generation.scoring import ScoringPlan
    from dino_st.preparation.splits import PreparedSplits


@dataclass(frozen=True)
class Generation:
    """What to write."""

    task: str  # its name or file
    input: str | None = None  # file of sentences, or None for a task without inputs
    column: str | None = None  # of the input
    limit: int | None = None  # use only the first so many distinct sentences
    num: int | None = None  # texts to write, for a task without inputs
    options: Mapping[str, Any] | WritingOptions = field(default_factory=dict)  # validated for a local model
    overwrite: bool = False  # whether what another run wrote is replaced; the same run goes on
    dry_run: bool = False  # say what would be written; load no weights, ask no server, write nothing

    def sentences(self) -> Sentences | None:
        """Reads the input, if there is one."""
        return None if self.input is None else read_sentences(self.input, column=self.column, limit=self.limit)


@dataclass(frozen=True)
class GenerationOutcome:
    """What came out of a generation."""

    counts: Mapping[str, int]  # rows, and rejections by reason
    kind: str  # `pairs`, `texts` or `triplets`
    seconds: float  # of this run, model loading apart
    new_rows: int  # that this run wrote, as against ones that were there before
    examples: Mapping[str, Sequence[Sequence[str]]]  # a few rows of each label, their texts in order
    quality: Summary  # what can be seen of the labels; see `dino_st.data.quality`
    notes: Sequence[str] = ()  # what else is worth saying
    plan: DryRun | None = None  # what a dry run found; all else is empty then


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate on; see `mteb_tasks.select_tasks` and `evaluate_encoder`."""

    tasks: str | None = None
    sts_dir: Path | None = None
    senteval_dir: Path | None = None
    pairs: Sequence[Path] = ()
    whitening_sentences: Path | None = None
    options: EvaluationOptions | None = None
    official: bool = False
    languages: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        """Of the tasks beside those made from pairs: the papers' where none is named and no pairs are given."""
        named = [name.strip() for name in (self.tasks or "").split(",") if name.strip()]
        usual = ["sts"] if self.tasks is None and not self.pairs else []
        return [*(named or usual), *(["official"] if self.official else [])]


def generate_data(work: Generation, model: str, output: Place) -> GenerationOutcome:
    """Writes for a task of DINO, or triplets for one of SynCSE, into a directory, or continues there.

    The model is a directory or hub name, or for a chat server the name that it knows a model by.
    """
    if is_syncse_task(work.task):
        return generate_triplet_data(work, model, output)
    if isinstance(work.options, WritingOptions):
        return _by_local_model(work, work.options, model, output)
    given = dict(work.options)
    if ChatOptions.of(backend=given.pop("backend", "local")).backend == "openai":
        return _by_server(work, given, model, output)
    cluster = ClusterOptions.take_from(given)
    known = (*GenerationOptions.model_fields, *DecodingOptions.names())
    for_servers = [name for name in given if name in ("base_url", *SERVER_OPTIONS) and name not in known]
    if for_servers:
        raise ConfigurationError(
            f"{', '.join(for_servers)}: for a chat server only, and the backend is 'local'; leave it out, or choose "
            "--backend openai"
        )
    return _by_local_model(work, WritingOptions.of(**given), model, output, cluster)


def _by_local_model(
    work: Generation, writing: WritingOptions, model: str, output: Place, cluster: ClusterOptions | None = None
) -> GenerationOutcome:
    """Writes with a local model, in this process or in those of a cluster."""
    spec = TaskSpec.load(work.task)
    _check_input(spec, work)
    sentences = work.sentences()
    texts = None if sentences is None else sentences.texts
    if work.dry_run:
        from dino_st.generation.dry_run import dry_run

        return _planned(dry_run(model, spec, writing, texts, work.num))
    directory = ShardDirectory(output, overwrite=work.overwrite)
    check_can_become_directory(directory.path)
    known = writing.generation.known_configuration(spec, writing.decoding_for(spec), texts, work.num)
    has_workers = _look_before(model, directory, known, cluster)
    from dino_st.builder import DinoDatasetBuilder

    builder = DinoDatasetBuilder(model, task=spec, writing=writing, load=not has_workers)
    start = time.monotonic()
    chosen = cluster.model_dump(exclude_unset=True) if cluster else {}
    builder.generate_shards(directory, texts, num=work.num, show_progress=True, **chosen)
    return _outcome(directory, "pairs" if spec.needs_input else "texts", start, sentences)


def _look_before(
    model: str,
    directory: ShardDirectory,
    known: Mapping[str, Any],
    cluster: ClusterOptions | None,
    within: str | None = None,
) -> bool:
    """Looks at a model before anything slow is imported (see `look_at_model`); whether workers are to load it.

    A model of the hub is fetched where it is loaded.
    """
    has_workers = cluster is not None and cluster.engine == "ray"
    if has_workers:
        from dino_st.backends.cluster import check_ray

        check_ray()
    if has_workers and not Path(model).expanduser().exists() and not bundled_directory(model):
        directory.check_continues(known)
    else:
        look_at_model(model, directory, known, within)
    return has_workers


def _by_server(work: Generation, given: dict[str, Any], model: str, output: Place) -> GenerationOutcome:
    """Has a server write for a task of DINO, without debiasing of tokens."""
    base_url, cluster = given.pop("base_url", None), ClusterOptions.take_from(given)
    own = ("samples", "debias", "candidates", "max_new_tokens", "max_tries", "min_words", "decay_constant")
    _check_options(work.task, "openai", given, own)
    chosen = WritingOptions.of(**{name: given[name] for name in own if name in given})
    from dino_st.backends.answers.faults import warn_of_passages
    from dino_st.generation.chat import ChatPairRun, check_debiasing

    check_debiasing(chosen.decoding.decay_constant)
    spec = TaskSpec.load(work.task)
    if spec.needs_input:  # what is written from scratch is refused by the run, which names the task for servers
        _check_input(spec, work)
    given = {name: value for name, value in given.items() if name not in own}
    sentences = work.sentences()
    texts = () if sentences is None else sentences.texts
    warn_of_passages(spec.instructions, texts)

    def run(writer: ChatBackend) -> ChatPairRun:
        return ChatPairRun(writer, spec, chosen.decoding_for(spec), chosen.generation, texts)

    if work.dry_run:
        return _planned(_dry_run_of_pairs(run(open_backend(model, "openai", base_url=base_url, options=given)), model))
    directory = ShardDirectory(output, overwrite=work.overwrite)
    with opened(model, ChatOptions(backend="openai", base_url=base_url), given, cluster, directory) as writer:
        start = time.monotonic()
        run(writer).into(directory, True)
    _check_answered(writer.usage, output)
    lost = directory.counts["draws"] - directory.counts["rows"]
    notes = _notes(writer.usage, output, lost, "texts are missing", "failed requests are made again")
    return _outcome(directory, "pairs", start, sentences, notes)


def generate_triplet_data(work: Generation, model: str, output: Place) -> GenerationOutcome:
    """Has triplets written for a task of SynCSE, by a local model or a chat server; see `generate_data`."""
    given = dict(work.options) if isinstance(work.options, Mapping) else {}
    chat = ChatOptions.take_from(given)
    cluster = ClusterOptions.take_from(given)
    _check_options(work.task, chat.backend, given, SynCSEOptions.model_fields)
    options = SynCSEOptions.take_from(given)
    spec = load_syncse_spec(work.task)
    check_arguments(spec, has_sentences=work.input is not None, num=work.num)
    sentences = work.sentences()
    texts = None if sentences is None else sentences.texts
    if work.dry_run:
        return _planned(_dry_run_of_triplets(model, spec, options, chat, given, texts or (), work.num))
    directory = ShardDirectory(output, overwrite=work.overwrite)
    check_can_become_directory(directory.on_disk)
    from dino_st.syncse.run import known_configuration, run_triplets

    known = known_configuration(spec, options, texts, work.num)
    if chat.backend == "local":
        identity = {"backend": "local", "model": model, **ModelOptions.take_from(dict(given)).known_identity()}
        _look_before(model, directory, {**known, "backend": identity}, cluster, "backend")
    directory.check_continues(known)
    start = time.monotonic()
    given |= cluster.model_dump(exclude_unset=True)
    _, usage = run_triplets(model, texts, work.num, spec, options, chat, given, directory, True)
    if chat.backend == "openai":
        _check_answered(usage, output)
    missing = directory.counts["given up"]
    notes = _notes(usage, output, missing, "sentences have no triplet", "they are tried again")
    return _outcome(directory, "triplets", start, sentences, notes)


def _planned(plan: DryRun) -> GenerationOutcome:
    return GenerationOutcome({}, "", 0.0, 0, {}, {}, plan=plan)


def _dry_run_of_pairs(run: ChatPairRun, model: str) -> DryRun:
    """What a chat server would be asked for pairs."""
    from dino_st.generation.dry_run import SAMPLE, dry_requests

    draws = run.draws(0, run.sentences[:SAMPLE])
    asked = {f"label {label}": [run.request(one) for one in draws if one.label == label] for label in run.spec.labels}
    samples, labels = run.options.samples, run.spec.labels
    texts = len(run.sentences) * samples * sum(run.options.candidates_of(run.spec, label) for label in labels)
    scores = f", and up to {texts * len(labels):,} for log-probabilities" if run.options.debias == "rerank" else ""
    task = f"{run.spec.task_name}: {len(run.sentences):,} sentences, {len(asked)} labels, {samples} texts for each"
    return dry_requests(task, asked, f"{texts:,}{scores}, more where an answer cannot be used", model, None)


def _dry_run_of_triplets(
    model: str,
    spec: SynCSESpec,
    options: SynCSEOptions,
    chat: ChatOptions,
    of_model: Mapping[str, Any],
    sentences: Sequence[str],
    num: int | None,
) -> DryRun:
    """What a chat model would be asked for triplets."""
    from dino_st.generation.dry_run import SAMPLE, Outline, dry_requests
    from dino_st.syncse.partial import ROLES, Triplet, TripletWriter
    from dino_st.syncse.scratch import SentenceWriter

    local = None
    if chat.backend == "local":
        local = Outline.of(model, ModelOptions.take_from(dict(of_model)))
    is_chat = local is None or local.prompter.prompt_format == "chat"
    if isinstance(spec, ScratchSpec):
        writer = SentenceWriter(spec, _asks_nobody, is_chat, local is not None, options)
        wanted = num or 0
        first = -(-wanted // writer.sentences_at_once(wanted))
        total = f"{first:,} for sentences and {2 * wanted:,} for their triplets, more where an answer cannot be used"
        asked = {"sentences": writer.first_requests(wanted, min(first, SAMPLE))}
        return dry_requests(f"{spec.task_name}: {wanted:,} sentences", asked, total, model, local)
    triplets = TripletWriter(spec, _asks_nobody, is_chat, local is not None, options)
    sample = [Triplet(i, sentence) for i, sentence in enumerate(sentences[:SAMPLE])]
    asked = {role: [triplets.request(one, role) for one in sample] for role in ROLES}
    total = f"{2 * len(sentences):,}, more where an answer cannot be used"
    return dry_requests(f"{spec.task_name}: {len(sentences):,} sentences", asked, total, model, local)


def _asks_nobody(_: Sequence[ChatRequest]) -> list[ChatReply]:
    raise NotImplementedError("a dry run asks nobody")


def _outcome(
    directory: ShardDirectory, kind: str, start: float, sentences: Sentences | None, notes: Sequence[str] = ()
) -> GenerationOutcome:
    """What came out of a run that began at a time of `time.monotonic`."""
    seconds = time.monotonic() - start
    skipped = {} if sentences is None else sentences.skipped
    counts = dict(directory.counts) | skipped
    examples, quality = directory.examples(), directory.quality()
    remedies = _remedies(counts) if directory.new_rows or not counts.get("rows") else []
    return GenerationOutcome(counts, kind, seconds, directory.new_rows, examples, quality, [*notes, *remedies])


_REMEDIES = {
    "no closing quote": "raise max_new_tokens, or take a model that follows instructions",
    "cut off": "raise max_new_tokens; where that changes nothing, the server ends replies, by a limit or a stop mark",
    "too few words": "lower min_words",
    "prompt too long": "shorten the sentences, raise max_total_tokens, or take a model with a longer context",
    "echo of the prompt": "take another model, or word the task's instructions otherwise",
}
"""What helps where many tries end for a reason."""

_MANY = 0.2
"""Share of the tries from which on a reason is worth a remedy."""


def _remedies(counts: Mapping[str, int]) -> list[str]:
    """What would help where a large share of the tries was rejected for one reason."""
    lines = []
    for name, count in counts.items():
        reason = name.rpartition(": ")[2]
        share = count / max(counts.get("tries", 0), count, 1)  # a prompt that is too long is never tried
        if name.startswith("rejected: ") and reason in _REMEDIES and share > _MANY:
            lines.append(f"{share:.0%} of the tries were rejected ({reason}): {_REMEDIES[reason]}")
    return lines


def _check_input(spec: TaskSpec, work: Generation) -> None:
    """Checks that a task gets sentences, or the number of texts to write, whichever it needs."""
    if spec.needs_input and (work.input is None or work.num is not None):
        raise ConfigurationError(
            f"task {spec.task_name!r} writes for given sentences: give them with --input FILE, and leave out --num"
        )
    if not spec.needs_input and (work.num is None or work.input is not None):
        raise ConfigurationError(
            f"task {spec.task_name!r} writes from scratch: say how many texts with --num N, and leave out --input "
            "(its instructions have no placeholder <X1> to put a sentence in)"
        )


def _check_options(task: str, backend: Any, given: Mapping[str, Any], of_task: Iterable[str]) -> None:
    """Refuses what the task has no use for, and what belongs to the other backend."""
    models = (GenerationOptions, ClusterOptions, SynCSEOptions)
    known = {*(name for one in models for name in one.model_fields), *DecodingOptions.names(), *SERVER_OPTIONS}
    others = [name for name in given if name not in of_task]
    for name in others:
        if name not in known:
            raise ConfigurationError(f"there is no option {name!r}: {suggest(name, sorted(known))}")
        if name not in (*LOCAL_OPTIONS, *SERVER_OPTIONS):
            raise ConfigurationError(
                f"option {name!r} ({given[name]!r}) means nothing for task {task!r} with --backend {backend}; "
                "leave it out"
            )
    check_options(backend, base_url=None, options=others)


def _check_answered(usage: Mapping[str, int], output: Place) -> None:
    """Raises if requests were made and every one of them failed; the reason stands beside what was rejected."""
    if not usage.get("requests") or usage["failures"] < usage["requests"]:
        return
    rejected = output / REJECTED
    first = rejected.read_text(encoding="utf-8").partition("\n")[0] if rejected.is_file() else "{}"
    reason = json.loads(first).get("reason", f"see {REJECTED}")
    advice = "Look whether the server works and --base-url and --model are right; then run"
    if re.search(r"the answer ended|the reply is empty|status 4(?:00|13|22)", reason):
        advice = "The server answers, but not these requests; change the task, the inputs or the model, or run"
    if "--max-new-tokens" in reason:
        advice = "Run"
    raise ModelError(
        f"not one of {usage['requests']:,} requests brought a text: {reason}. {advice} the same command again. What "
        f"was answered before is in {output}"
    )


def _notes(usage: Mapping[str, int], output: Place, missing: int, what: str, then: str) -> list[str]:
    """What a run asked of a model, and what it left out."""
    counted = {name: f"{name.replace('_', ' ')} {count:,}" for name, count in usage.items()}
    if usage.get("requests", 0) > usage.get("failures", 0) and not usage.get("completion_tokens"):
        known = [words for name, words in counted.items() if "tokens" not in name and name != "cost"]
        asked = f"Asked in this run: {', '.join(known)}; the server does not say how many tokens"
    else:
        asked = f"Asked in this run: {', '.join(counted.values())}"
    left = f"{missing:,} {what}: {output / REJECTED} says why; with the same command, {then}"
    return [asked, left] if missing else [asked]


def score_data(
    raw: Place,
    model: str,
    output: Place,
    *,
    task: str | None = None,
    options: ModelOptions | None = None,
    cluster: ClusterOptions | None = None,
    overwrite: bool = False,
) -> dict[str, int]:
    """Writes pairs once more, with their log-probabilities under every label; see `ScoringPlan.into`.

    Without a task, it is the one that the shards were written for, or `sts-x2` for a file. The counts of all runs are
    returned.
    """
    chosen = ModelOptions.of(options)
    directory, table, provenance = _written_anew(raw, output, "scored", overwrite=overwrite)
    spec = TaskSpec.load(task or provenance.get("task") or "sts-x2")
    if not spec.needs_input:
        raise ConfigurationError(f"task {spec.task_name!r} has no pairs; give the task they were written for: --task")
    from dino_st.generation.scoring import ScoringPlan, scorable, warn_of_other_labels

    origin = {"model": provenance["model"]} if "model" in provenance else {}
    if (raw / MANIFEST).is_file():
        origin["counts"] = dict(ShardDirectory(raw).counts)
    plan = ScoringPlan(spec, scorable(table, str(raw)), origin, chosen)
    warn_of_other_labels(spec, table)
    has_workers = _look_before(model, directory, {**plan.known, **chosen.known_identity()}, cluster)
    _write(plan, model, directory, cluster if has_workers else None)
    state_origin(output, **read_origin(raw))
    return dict(directory.counts)


def _write(
    plan: ScoringPlan | JudgingPlan, model: str, directory: ShardDirectory, cluster: ClusterOptions | None
) -> None:
    """Writes into a directory with a model of this process, or with those of a cluster's workers."""
    if cluster is None:
        plan.open(model, model).into(directory, True)
    else:
        from dino_st.generation.workers import write_with_workers

        write_with_workers(directory, model, plan, cluster, True)


def _written_anew(
    raw: Place, output: Place, how: str, *, overwrite: bool
) -> tuple[ShardDirectory, pa.Table, dict[str, Any]]:
    """Where pairs are to be written once more, `scored` or `rated`; the pairs, and where they come from."""
    if isinstance(raw, Path):
        named_files(raw)
    if output.resolve() == raw.resolve():
        raise ConfigurationError(
            f"--output {output}: holds the pairs to be {how}; give another directory for the {how} ones"
        )
    directory = ShardDirectory(output, overwrite=overwrite)
    check_can_become_directory(directory.path)
    table, provenance, _ = read_raw(raw)
    return directory, table, provenance


def judge_data(
    raw: Place,
    model: str,
    output: Place,
    *,
    options: JudgeOptions | None = None,
    given: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> tuple[dict[str, int], str]:
    """Writes pairs once more, with how similar a judge says they are; see `JudgingPlan.written`.

    The model is a directory or hub name of a language model or a cross-encoder, or for a chat server the name that it
    knows a model by; `given` holds the options of the backend, `backend` and `base_url` among them, and of the cluster.
    Returns the counts, and a sentence about the ratings.
    """
    of_backend = dict(given or {})
    cluster = ClusterOptions.take_from(of_backend)
    chat = ChatOptions.take_from(of_backend)
    check_options(chat.backend, base_url=chat.base_url, options=of_backend)
    chosen = JudgeOptions.of(options)
    directory, table, provenance = _written_anew(raw, output, "rated", overwrite=overwrite)
    spec = TaskSpec.load(provenance.get("task") or "sts-x2")
    from dino_st.generation.judging import (
        JudgingPlan,
        JudgingRun,
        ServerJudge,
        check_orders,
        check_rated,
        check_scale,
        tell_of_ratings,
    )
    from dino_st.generation.scoring import scorable

    kind = _kind_of_judge(model, chat)
    origin = {"model": provenance["model"]} if "model" in provenance else {}
    local = ModelOptions.take_from(dict(of_backend))
    plan = JudgingPlan(spec, scorable(table, str(raw)), origin, kind, chosen, local)
    directory.check_continues({**plan.known, "judge": {**plan.known["judge"], "model": model}})
    if kind == ServerJudge.kind:
        with opened(model, chat, of_backend, cluster, directory) as server:
            JudgingRun(ServerJudge(server, chosen), plan).into(directory, show_progress=True)
    else:
        _write(plan, model, directory, cluster if cluster.engine == "ray" else None)
    counts = dict(directory.counts)
    state_origin(output, **read_origin(raw))
    check_rated(counts, model)
    check_scale(counts, model)
    check_orders(counts, model)
    return counts, tell_of_ratings(directory.table(), kind)


def _kind_of_judge(model: str, chat: ChatOptions) -> str:
    """What a judge is: a chat server, or what a model on this machine is: a cross-encoder or a language model."""
    from dino_st.generation.judging import CrossEncoderJudge, ModelJudge, ServerJudge

    if chat.backend == "openai":
        return ServerJudge.kind
    return CrossEncoderJudge.kind if is_cross_encoder(locate_model(model)) else ModelJudge.kind


def prepare_data(
    raw: Place, output: Path, options: PreparationOptions, *, explain: bool = False, overwrite: bool = False
) -> tuple[PreparedSplits, str]:
    """Prepares generated pairs, shards or a table, and writes the splits to a directory.

    Unless labels are given, they are those of the task that the pairs were written for. With `explain` the dropped
    pairs are written, too, with the reasons. What became of the directory is returned as a sentence; see
    `write_prepared`.
    """
    check_can_become_directory(output)
    table, provenance, labels = read_raw(raw)
    # Log-probabilities stand in the order of the task's labels.
    in_another_order = LOG_PROBS in table.column_names and set(options.labels) == set(labels or ())
    is_given = "labels" in options.model_fields_set
    options = options.with_labels(labels if in_another_order or not is_given else None)
    if LOG_PROBS in table.column_names and options.uses_posterior and labels and set(labels) != set(options.labels):
        raise ConfigurationError(
            f"labels = {list(options.labels)}, and the log-probabilities of {raw} are those of the labels of its task: "
            f"{labels}. Score the pairs under the task that they were written for (dino-st score --task), or leave out "
            "the options that use log-probabilities"
        )
    check_replaces(output, options, provenance, overwrite=overwrite)
    from dino_st.preparation.prepare import NothingLeftError, prepare_rows
    from dino_st.preparation.rows import read_raw_pairs
    from dino_st.preparation.splits import save_rejected, write_prepared

    options, tables = options.with_labels(), [table]
    del table  # whoever reads it takes it, so that every text is held once from then on
    with only_writer(output):
        try:
            splits = prepare_rows(
                lambda: read_raw_pairs(tables.pop(), options, is_order_known=is_given or labels is not None),
                options,
                explain=explain,
            )
        except NothingLeftError as error:
            if error.rejected is None or not save_rejected(error.rejected, output):
                raise
            raise DatasetError(f"{error}\nWhat was dropped, and why: {output / REJECTED}") from error
        return splits, write_prepared(splits, output, provenance=provenance, overwrite=overwrite)


def prepare_triplet_data(
    raw: Place, output: Path, options: TripletOptions, *, overwrite: bool = False
) -> tuple[PreparedSplits, str]:
    """Prepares triplets, or DINO pairs as triplets, from shards or a file; otherwise as `prepare_data`."""
    check_can_become_directory(output)
    table, provenance = _read_triplets_or_pairs(raw)
    check_replaces(output, options, provenance, overwrite=overwrite)
    from datasets import Dataset

    from dino_st.preparation.splits import write_prepared
    from dino_st.preparation.triplets import prepare_triplets

    with only_writer(output):
        splits = prepare_triplets(Dataset(table), options=options)
        return splits, write_prepared(splits, output, provenance=provenance, overwrite=overwrite)


def _read_triplets_or_pairs(raw: Place) -> tuple[pa.Table, dict[str, Any]]:
    """Reads triplets or pairs, and where they come from."""
    if not isinstance(raw, Path) or (raw / MANIFEST).is_file():
        directory = ShardDirectory.to_read(raw)
        task = directory.configuration.get("task")
        name = task.get("task_name") if isinstance(task, Mapping) else task
        known = {key: directory.provenance.get(key) for key in ("model", "versions")}
        known |= {"task": name, "seed": directory.configuration.get("seed")}
        return directory.table(), known | read_origin(raw)
    check_not_prepared(raw)
    return read_pairs_or_triplets(raw), {"raw": raw.name}


def train_model(
    prepared: Path,
    encoder: str,
    output: Path,
    options: TrainingOptions,
    *,
    validation: str | None = None,
    overwrite: bool = False,
) -> str:
    """Trains an encoder on a prepared directory, or resumes; returns a sentence about how it went.

    `validation` is `audit:DIR` for the pairs that people judged there, `judged:DIR` for those that `dino-st judge`
    rated, or a directory of `dino-st prepare`, whose validation split it is, such as that of another language model's
    pairs; without it, the generated ones.
    """
    _look_at(prepared)
    from dino_st.training.record import training_summary
    from dino_st.training.train import train_encoder

    judged, by = (None, "people") if validation is None else _validation_pairs(validation)
    train_encoder(prepared, encoder, output, options=options, judged=judged, judged_by=by, overwrite=overwrite)
    _leave_process_group()
    return training_summary(output)


def _validation_pairs(validation: str) -> tuple[pa.Table, str]:
    """The pairs that are to choose the checkpoint, and whose scores they have."""
    kind, _, name = validation.partition(":")
    if kind == "audit" and name:
        return _judged_pairs(name), "people"
    if kind == "judged" and name:
        table, origin, _ = read_raw(Path(name))
        if JUDGED not in table.column_names:
            raise DatasetError(
                f"{name}: has no ratings; `dino-st judge {name} --model MODEL --output OTHER` writes them"
            )
        judge = origin.get("judge", {}).get("model")
        columns = [table[SENTENCE1], table[SENTENCE2], table[JUDGED]]
        import pyarrow as pa

        return pa.table(columns, names=[SENTENCE1, SENTENCE2, SCORE]), f"the judge {judge or 'of ' + name}"
    if not Path(validation).is_dir():
        raise ConfigurationError(
            f"--validation {validation}: expected audit:DIR, with the directory that `dino-st audit` was given, "
            "judged:DIR, with one that `dino-st judge` wrote, or a directory of `dino-st prepare`"
        )
    from dino_st.preparation.directory import read_tables

    record, tables = read_tables(Path(validation))
    return tables["validation"], f"the instructions of {writer_of(record.provenance) or 'another data set'}"


def _judged_pairs(directory: str) -> pa.Table:
    """The pairs that people judged, each with the mean of its judgements."""
    import pyarrow as pa

    from dino_st.inspection.agreement import judged_rows
    from dino_st.inspection.audit import ANSWERS, changed_since
    from dino_st.inspection.judgements import read_judgements
    from dino_st.inspection.pairs import WrittenPairs

    judgements = read_judgements(Path(directory) / ANSWERS)
    if judgements.sample and (changed := changed_since(judgements.sample, lambda: WrittenPairs.read(Path(directory)))):
        logger.warning("%s; what people judged chooses the checkpoint all the same", changed.partition(";")[0])
    rows = judged_rows(judgements)
    if not rows:
        raise DatasetError(f"{directory}: nobody has judged a pair yet; `dino-st audit {directory}` asks")
    return pa.Table.from_pylist(rows)


def train_contrastive_model(
    prepared: Path,
    encoder: str,
    output: Path,
    options: ContrastiveOptions,
    *,
    pairs: Path | None = None,
    sts_dir: Path | None = None,
    overwrite: bool = False,
) -> str:
    """Trains an encoder on prepared triplets, and prepared pairs if given, or resumes; returns how it went.

    The STS data (SentEval layout) is read only if a checkpoint is to be chosen by it.
    """
    by_labels = options.checkpoint_choice == "sts-dev"
    if by_labels and sts_dir is None:
        raise ConfigurationError(
            "checkpoint_choice is 'sts-dev', which needs STS data in SentEval layout; give its directory with "
            f"--sts-dir or the variable {STS_DIR_VARIABLE}"
        )
    for directory in (prepared, *([pairs] if pairs else [])):
        _look_at(directory)
    from mteb_tasks.sts_files import read_dev_pairs

    sts_dev = read_dev_pairs(sts_dir) if by_labels and sts_dir is not None else None
    from dino_st.training.record import training_summary
    from dino_st.training.train import train_contrastive

    train_contrastive(prepared, encoder, output, pairs=pairs, sts_dev=sts_dev, options=options, overwrite=overwrite)
    _leave_process_group()
    return training_summary(output)


def _look_at(prepared: Path) -> None:
    """Tells at once of a directory that is not there; what is in it is looked at when it is read."""
    if not prepared.is_dir():
        read_record(prepared)


def _leave_process_group() -> None:
    """Ends what `torchrun` began: torch's threads may abort a process that exits without it."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def evaluate_models(
    models: Sequence[str] | Mapping[str, str], work: Evaluation, output: Path | None, *, overwrite: bool = False
) -> ScoreTable:
    """Scores encoders or baselines on the chosen tasks; without an output nothing is written.

    The table of the same models on the same tasks is renewed, another one replaced only with `overwrite`.
    """
    of_hub = []
    for model in models.values() if isinstance(models, Mapping) else models:
        check_named(model)
        if ":" in model or Path(model).exists():
            continue
        if "/" in model:
            of_hub += [model] if local_directory(model) is None else []
        elif similar_path(model, is_directory=True):
            from dino_st.evaluation.floors import FLOORS

            if model not in FLOORS:
                encoder_files(model)
    check_files(work)
    for model in of_hub:
        check_within_reach(model)
    earlier = {} if output is None or overwrite else earlier_scores(output)
    _check_same_scores(output, "models", earlier, models)
    tasks = select_tasks(work)
    columns = [name for name in next(iter(earlier.values()), {}) if name != "average"]
    _check_same_scores(output, "tasks", columns, [task.metadata.name for task in tasks])
    from dino_st.evaluation.evaluate import evaluate_encoder

    return evaluate_encoder(
        models,
        tasks=tasks,
        output_dir=output,
        options=work.options,
        whitening_sentences=work.whitening_sentences,
    )


def earlier_scores(output: Path) -> dict[str, dict[str, float]]:
    """The table that an evaluation wrote into a directory; empty where there is none, or it is damaged."""
    check_can_become_directory(output)
    try:
        found = json.loads((output / SCORES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        others = sorted(file.name for file in output.glob("*") if file.name not in (SCORES, "results"))
        if others and not (output / SCORES).exists():
            raise OutputError(
                f"{output}: holds something else than scores ({', '.join(others[:3])}); choose an empty directory or a "
                "new name"
            ) from None
        return {}
    return found if isinstance(found, dict) else {}


def _check_same_scores(output: Path | None, what: str, before: Iterable[str], now: Iterable[str]) -> None:
    """Refuses to replace the scores of other models, or on other tasks."""
    was, are = list(before), list(now)
    if was and set(was) != set(are):
        raise OutputError(
            f"{output}: holds the scores of another evaluation ({what} were {', '.join(was)}, now {', '.join(are)}). "
            "Choose another directory, or replace them with overwrite=True"
        )


def check_files(work: Evaluation) -> None:
    """Looks for the files of an evaluation, before mteb is imported, which takes its time."""
    from mteb_tasks.sts_files import check_senteval_directory, check_sts_directory

    for kind, folder in (("STS", work.sts_dir), ("the transfer tasks'", work.senteval_dir)):
        if folder is not None and not folder.is_dir():
            raise InputError(no_directory(folder, f"one with {kind} data in SentEval layout"))
    for file in (*work.pairs, work.whitening_sentences):
        if file is not None:
            named_files(file)
    if "sts" in work.names and work.sts_dir is not None:
        check_sts_directory(work.sts_dir)
    if "transfer" in work.names and work.senteval_dir is not None:
        check_senteval_directory(work.senteval_dir)


def select_tasks(work: Evaluation) -> Any:
    """The mteb task instances of an evaluation, once its files are found to be there."""
    check_files(work)
    give_mteb_a_home()
    import mteb_tasks

    return mteb_tasks.select_tasks(
        work.names,
        sts_dir=work.sts_dir,
        senteval_dir=work.senteval_dir,
        pairs=list(work.pairs),
        languages=work.languages,
    )


def give_mteb_a_home() -> None:
    """Names a place among the temporary files to mteb, which makes a directory as it is imported, if home has none."""
    if "MTEB_CACHE" in os.environ:
        return
    try:
        (Path.home() / ".cache" / "mteb").mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        os.environ["MTEB_CACHE"] = str(Path(tempfile.gettempdir()) / f"dino-st-mteb-{os.getpid()}")


def check_evaluation(work: Evaluation) -> None:
    """Loads the data of an evaluation once, since what is missing is better known before the stages that take hours."""
    if work.tasks is not None or work.pairs:
        for task in select_tasks(work):
            task.load_data()
            task.unload_data()


def named_sts_dir(given: str | None) -> Path | None:
    """The directory of STS data: the one given, else the one that the variable names."""
    name = given or os.environ.get(STS_DIR_VARIABLE)
    return Path(name) if name else None
