"""Generation by chat as the command line and recipes call it: files in, files out."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.backends.server_options import ServerOptions
from dino_st.chat_choice import LOCAL_OPTIONS, SERVER_OPTIONS, check_options, open_backend
from dino_st.chat_options import BackendName, ChatOptions, SynCSEOptions
from dino_st.columns import ANCHOR, NEGATIVE, POSITIVE
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, ModelError, suggest
from dino_st.generation_options import GenerationOptions
from dino_st.inputs import read_sentences
from dino_st.manifest import read_manifest
from dino_st.stages import Generation, GenerationOutcome, check_input
from dino_st.syncse import check_arguments, run_triplets
from dino_st.syncse_spec import is_syncse_task, load_syncse_spec
from dino_st.task_spec import TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset

_EXAMPLES = 4
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
    ChatOptions.create(backend=backend)
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
    read_manifest(output)  # an unusable directory is better known before anything is asked
    if triplets:
        return _triplets(work, model, output, backend, base_url, options)
    return _pairs(work, model, output, base_url, options)


def _triplets(
    work: Generation, model: str, output: Path, backend: BackendName, base_url: str | None, options: dict[str, Any]
) -> tuple[GenerationOutcome, list[str]]:
    spec = load_syncse_spec(work.task)
    check_arguments(spec, has_sentences=work.input is not None, num=work.num)
    sentences = None if work.input is None else read_sentences(work.input, column=work.column, limit=work.limit)
    texts = None if sentences is None else sentences.texts
    start = time.monotonic()
    outcome = run_triplets(model, texts, work.num, spec, backend, base_url, output, True, options)
    seconds = time.monotonic() - start
    if backend == "openai":
        _check_answered(outcome.usage, output)
    counts = dict(outcome.counts) | ({} if sentences is None else sentences.skipped)
    examples = _examples(outcome.dataset, options.get("seed", 0))
    notes = [
        _usage(outcome.usage),
        *_left(output, len(outcome.rejected), "sentences have no triplet", "they are tried again"),
    ]
    return GenerationOutcome(counts, "triplets", seconds, outcome.new_rows, examples), notes


def _pairs(
    work: Generation, model: str, output: Path, base_url: str | None, options: dict[str, Any]
) -> tuple[GenerationOutcome, list[str]]:
    from dino_st.chat_pairs import ChatPairRun, check_debiasing

    spec = TaskSpec.load(work.task)
    decoding = DecodingOptions(**{name: options[name] for name in _PAIRS[1:] if name in options})
    check_debiasing(decoding.decay_constant)
    samples = GenerationOptions.create(**{name: options[name] for name in ("samples",) if name in options}).samples
    if spec.needs_input:  # what is written from scratch is refused by the run, which names the task for servers
        check_input(spec, work)
    asked = {name: value for name, value in options.items() if name in SERVER_OPTIONS}
    writer = open_backend(model, "openai", base_url=base_url, options=asked)
    sentences = None if work.input is None else read_sentences(work.input, column=work.column, limit=work.limit)
    texts = () if sentences is None else sentences.texts
    manifest = read_manifest(output)
    before = sum(shard["rows"] for shard in manifest["shards"]) if manifest else 0
    start = time.monotonic()
    dataset, counts, lost = ChatPairRun(writer, spec, decoding, samples, texts).into(output, True)
    seconds = time.monotonic() - start
    _check_answered(writer.usage, output)
    skipped = {} if sentences is None else sentences.skipped
    notes = [_usage(writer.usage), *_left(output, lost, "texts are missing", "failed requests are made again")]
    return GenerationOutcome(dict(counts) | skipped, "pairs", seconds, len(dataset) - before, {}), notes


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


def _examples(dataset: Dataset, seed: int) -> dict[str, list[list[str]]]:
    places = sorted(random.Random(seed).sample(range(len(dataset)), min(_EXAMPLES, len(dataset))))
    return {role: [[dataset[i][ANCHOR], dataset[i][role]] for i in places] for role in (POSITIVE, NEGATIVE)}


def _usage(usage: Mapping[str, int]) -> str:
    """A line about what a run asked of a model."""
    return "Asked in this run: " + ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in usage.items())


def _check_answered(usage: Mapping[str, int], output: Path) -> None:
    """Raises if requests were made and every one of them failed; the reason stands beside what was rejected."""
    if not usage.get("requests") or usage["failures"] < usage["requests"]:
        return
    rejected = output / "rejected.jsonl"
    first = rejected.read_text(encoding="utf-8").partition("\n")[0] if rejected.is_file() else "{}"
    reason = json.loads(first).get("reason", "see rejected.jsonl")
    raise ModelError(
        f"not one of {usage['requests']:,} requests was answered: {reason}. Look whether the server works and "
        f"--base-url and --model are right; then run the same command again. What was answered before is in {output}"
    )


def _left(output: Path, number: int, what: str, then: str) -> list[str]:
    if not number:
        return []
    return [f"{number:,} {what}: {output / 'rejected.jsonl'} says why; with the same command, {then}"]
