"""How many streams fit into memory, and what to do when they do not."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dino_st.forward.runner import Reading

_USABLE = 0.6
"""Share of the free memory that a batch may plan with."""

_LARGEST = {"cpu": 512, "cuda": 8192}
"""Streams beyond which a set of a large model's streams gains no speed."""

_CPU_STEP, _LARGEST_SMALL = 1.2e11, 4096
"""On a CPU, the streams of a small model times its parameters, or else the time goes into starting operations; up to so
many streams."""

_AT_ONCE = {"cpu": (4, 192)}
_AT_ONCE_ELSEWHERE = (2, 2048)
"""One in so many streams of a set is decoded while the others wait, unless that is less than so many."""

_CPU_AT_ONCE = 1.5e10
"""On a CPU: the streams of a small model that are decoded together, times its parameters; rows that begin beside others
attend to as many columns as the longest text; of a small model's work that is a larger part than empty rows."""

_SMALLEST = 12
"""The streams of one x1 under the STS task with two samples a label."""

_STREAMS_OF_A_PROMPT = 2
"""Streams that share a prompt at least, where any share one: the samples of one label, and its counter-streams."""


def typical_length(lengths: Sequence[int]) -> int:
    """The length of prompts to plan with: one in twenty may be longer."""
    return sorted(lengths)[int(0.95 * (len(lengths) - 1))]


def automatic_rows(
    model: Any, reading: Reading, *, prompt_tokens: int, new_tokens: int, device: torch.device | None = None
) -> int:
    """Chooses how many streams to decode together from the memory that is free; a power of two times twelve.

    `reading` is what `probe` found out, or of a model without weights (on the device `meta`) what is to be expected;
    that one needs the device, too, where it will be.
    """
    device = device or model.device
    limit = _LARGEST.get(device.type, 512)
    if device.type == "cpu":
        limit = max(limit, min(_LARGEST_SMALL, int(_CPU_STEP / model.num_parameters())))
    usable, size = _USABLE * free_memory(device), _SMALLEST

    def fits(rows: int) -> bool:
        return rows <= limit and decoding_bytes(model, reading, rows, prompt_tokens, new_tokens, device) <= usable

    while fits(size * 2):
        size *= 2
    return size


def streams_at_once(rows: int, model: Any, device: torch.device | None = None) -> int:
    """How many of the streams whose prompts are read together are decoded at a time."""
    kind = (device or model.device).type
    share, least = _AT_ONCE.get(kind, _AT_ONCE_ELSEWHERE)
    if kind == "cpu":
        least = max(least, int(_CPU_AT_ONCE / model.num_parameters()))
    return max(rows // share, min(rows, least))


def decoding_bytes(
    model: Any, reading: Reading, rows: int, prompt_tokens: int, new_tokens: int, device: torch.device
) -> float:
    """Memory that so many streams take; the arguments are those of `automatic_rows`.

    Of the streams' prompts, keys and values and what is predicted after them are kept; of the streams that are decoded
    at a time, their own keys and values, those of a copy of the prompt where prompts are not shared (and room to write
    on behind it), and a handful of vectors as long as the vocabulary.
    """
    vector: int = model.get_output_embeddings().weight.shape[0] * 4
    kept = (reading.token_bytes * prompt_tokens + vector) / _STREAMS_OF_A_PROMPT
    own = new_tokens if reading.shares else prompt_tokens + 2 * new_tokens
    return rows * kept + streams_at_once(rows, model, device) * (reading.token_bytes * own + 8 * vector)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    try:
        with open("/proc/meminfo", encoding="ascii") as meminfo:  # noqa: PTH123 - not a file on disk
            available = next(line for line in meminfo if line.startswith("MemAvailable"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration):
        names = os.sysconf_names if hasattr(os, "sysconf_names") else {}
        if "SC_PHYS_PAGES" in names:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        return 4 * 2**30


def context_length(model: Any, longest: int) -> int:
    """Tokens that a model can attend to, or `longest` where it could do more.

    Beyond the length up to which it treats a position alike in all batches it is not asked: LongRoPE (Phi-3) takes
    other frequencies for a whole batch as soon as its longest row is longer, and Llama 4 scales queries by places in
    the batch.
    """
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None) or longest
    rope = getattr(config, "rope_parameters", None) or {}
    for part in (rope, *(one for one in rope.values() if isinstance(one, Mapping))):
        if part.get("rope_type") == "longrope":
            positions = min(positions, part.get("original_max_position_embeddings") or positions)
    if getattr(config, "attn_temperature_tuning", False):
        positions = min(positions, config.floor_scale - 1)
    for name, module in model.named_modules():  # RoBERTa counts positions from the one after its padding
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions = min(positions, module.num_embeddings - module.padding_idx - 1)
    return min(longest, positions)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(each in str(error) for each in words)


def release_memory(device: torch.device) -> None:
    """Hands unused memory back before the next attempt."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
