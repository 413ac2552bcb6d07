"""What a run would do: its prompts, tokens, waves, memory; only the tokenizer and the configuration are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch

from dino_st.backends.chat import ChatRequest
from dino_st.backends.loading import check_decoding, load_outline, resolve_device, resolve_dtype
from dino_st.backends.options import ModelOptions
from dino_st.backends.prompting import Prompter
from dino_st.decoding.memory import automatic_rows, context_length, decoding_bytes, free_memory, typical_length
from dino_st.errors import ConfigurationError
from dino_st.forward.runner import Reading
from dino_st.generation.options import WritingOptions
from dino_st.tasks.spec import TaskSpec

SAMPLE = 1000
"""Sentences whose prompts are counted."""

SHOWN = 3
"""Prompts shown of each kind."""

UNKNOWN_TIME = "unknown; write a few first, with --limit 20 (or --num 20), and see how many come out a second"


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    facts: dict[str, str]  # names and values, in an order for people
    prompts: dict[str, list[str]]  # a few as the model would be given them, by label or what they ask for


@dataclass(frozen=True)
class Outline:
    """A model without weights, how it is prompted, and the device that it would run on."""

    empty: Any
    prompter: Prompter
    device: torch.device

    @classmethod
    def of(cls, model: str, options: ModelOptions) -> Outline:
        """Reads the configuration and the tokenizer; see `load_causal_model` for what is raised."""
        device = resolve_device(options.device)
        dtype = resolve_dtype(options.dtype, device)
        empty, tokenizer = load_outline(model, dtype=dtype, trust_remote_code=options.trust_remote_code)
        check_decoding(tokenizer, type(empty).__name__)
        return cls(empty, Prompter(tokenizer, model, options), device)


def dry_run(
    model: str, spec: TaskSpec, writing: WritingOptions, sentences: Sequence[str] | None, num: int | None
) -> DryRun:
    """Plans what `GenerationRun` would write with a local model."""
    options, decoding = writing.generation, writing.decoding_for(spec)
    outline = Outline.of(model, options)
    empty, prompter = outline.empty, outline.prompter
    sample: list[str | None] = [None] if sentences is None else [*sentences[:SAMPLE]]
    prompts = {
        label: [_target(prompter, spec, label, x1, decoding.curly_quotes) for x1 in sample] for label in spec.labels
    }
    lengths = {label: [len(ids) for ids in found] for label, found in prompts.items()}
    first = lengths[next(iter(spec.labels))]
    plan = _Plan.of(outline, first, decoding.max_new_tokens)
    facts = {"task": _task(spec, sentences, num, options.samples), **plan.facts()}
    of_all = sorted(length for found in lengths.values() for length in found)
    room = context_length(empty, decoding.max_total_tokens) - decoding.max_new_tokens
    if room < 1:
        raise ConfigurationError(
            f"max_new_tokens = {decoding.max_new_tokens} leaves no room for a prompt: the model attends to "
            f"{room + decoding.max_new_tokens} tokens in all"
        )
    facts["prompt tokens"] = token_facts(of_all) + _of_sample(sentences)
    if too_long := sum(length > room for length in of_all):
        facts["too long"] = f"{too_long} prompts have more than {room} tokens; what they ask for is rejected"
    if sentences is None:
        facts["waves"] = "as many as it takes until there are enough distinct texts"
    else:
        size = max(1, plan.rows // (spec.streams_per_sample * options.samples))
        start, step = options.waves
        waves = len(range(start, -(-len(sentences) // size), step))
        facts["waves"] = f"{waves:,} of up to {size:,} sentences each"
        texts = len(sentences) * len(spec.labels) * options.samples
        facts["texts"] = f"{texts:,}{' in all shards' if step > 1 else ''}"
    facts["new tokens"] = f"at most {decoding.max_new_tokens} a try, at most {decoding.max_tries} tries a text"
    facts["time"] = UNKNOWN_TIME
    return DryRun(facts, {f"label {label}": _decoded(prompter, found) for label, found in prompts.items()})


def dry_requests(
    task: str, requests: dict[str, list[ChatRequest]], total: str, model: str, local: Outline | None
) -> DryRun:
    """Plans what a chat model would be asked: the first requests by what they ask for, and in words how many at least.

    `local` is None for a server, whose tokenizer is not known.
    """
    facts = {"task": task, "requests": total}
    every = [request for found in requests.values() for request in found]
    if local is None:
        texts = {kind: [_as_sent(request) for request in found[:SHOWN]] for kind, found in requests.items()}
        size = sum(len(request.system) + len(request.prompt) for request in every) / max(1, len(every))
        facts["model"] = f"{model}, on a server"
        facts["prompt tokens"] = f"unknown, since the server has the tokenizer; {size:,.0f} characters on average"
    else:
        encoded = {kind: [local.prompter.encode(request) for request in found] for kind, found in requests.items()}
        lengths = [len(ids) for found in encoded.values() for ids in found]
        facts |= _Plan.of(local, lengths, max(request.max_new_tokens for request in every)).facts()
        facts["prompt tokens"] = f"{token_facts(lengths)}, of the first {len(lengths):,} requests"
        texts = {kind: _decoded(local.prompter, found) for kind, found in encoded.items()}
    limits = sorted({request.max_new_tokens for request in every})
    facts["new tokens"] = f"at most {' or '.join(map(str, limits))} an answer"
    facts["time"] = UNKNOWN_TIME
    return DryRun(facts, texts)


@dataclass(frozen=True)
class _Plan:
    """Streams that would be decoded together, and the memory for them."""

    rows: int
    described: str
    memory: str

    @classmethod
    def of(cls, outline: Outline, lengths: Sequence[int], new_tokens: int) -> _Plan:
        """By the rule of `--batch-size auto`, or for the number of streams that was given."""
        empty, device = outline.empty, outline.device
        typical = typical_length(lengths)
        config = empty.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token = 2 * config.num_hidden_layers * heads * width * empty.dtype.itemsize
        shares = bool(getattr(empty, "_supports_attention_backend", False))  # what transformers says of its class
        reading = Reading(True, token, shares)
        rows = outline.prompter.options.batch_size
        if rows == "auto":
            rows = automatic_rows(empty, reading, prompt_tokens=typical, new_tokens=new_tokens, device=device)
        weights = empty.num_parameters() * empty.dtype.itemsize
        streams = decoding_bytes(empty, reading, int(rows), typical, new_tokens, device)
        dtype = str(empty.dtype).removeprefix("torch.")
        return cls(
            int(rows),
            f"{type(empty).__name__}, {empty.num_parameters() / 1e6:,.1f} million parameters, {dtype} on {device}",
            f"about {_size(weights)} of weights and {_size(streams)} for {int(rows):,} streams, of "
            f"{_size(free_memory(device))} free now; counted from the configuration, without what libraries take",
        )

    def facts(self) -> dict[str, str]:
        """For people."""
        return {"model": self.described, "memory": self.memory}


def token_facts(lengths: Sequence[int]) -> str:
    """Smallest, mean and largest number of tokens."""
    return f"{min(lengths)} to {max(lengths)}, {sum(lengths) / len(lengths):.1f} on average"


def _target(prompter: Prompter, spec: TaskSpec, label: str, x1: str | None, curly_quotes: bool) -> tuple[int, ...]:
    """The prompt of a label's first sample, in the phrasing that it would have."""
    number = crc32(x1.encode()) if x1 is not None else 0
    return prompter.encode_prompts(spec, label, x1, curly_quotes, number % len(spec.labels[label].instructions))[0]


def _decoded(prompter: Prompter, prompts: Sequence[tuple[int, ...]]) -> list[str]:
    return [prompter.tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in prompts[:SHOWN]]


def _as_sent(request: ChatRequest) -> str:
    return f"[system] {request.system}\n[user] {request.prompt}" if request.system else f"[user] {request.prompt}"


def _task(spec: TaskSpec, sentences: Sequence[str] | None, num: int | None, samples: int) -> str:
    if sentences is None:
        return f"{spec.task_name}: {num:,} texts from {len(spec.labels)} instructions"
    return f"{spec.task_name}: {len(sentences):,} sentences, {len(spec.labels)} labels, {samples} texts for each"


def _of_sample(sentences: Sequence[str] | None) -> str:
    return "" if sentences is None or len(sentences) <= SAMPLE else f", of the first {SAMPLE:,} sentences"


def _size(number: float) -> str:
    return f"{number / 2**20:,.0f} MiB" if number < 2**30 else f"{number / 2**30:,.1f} GiB"
