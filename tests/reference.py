"""Self-debiased decoding written a second time: one draw, one token, no cache, no batch, float64, NumPy.

It shares no code with the package. Slow on purpose, so that it can be read against the papers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

MASK = 2**64 - 1


def uniform(seed: int, x1: str, label: str, sample: int, attempt: int, step: int) -> float:
    digest = hashlib.blake2b(digest_size=8)
    for part in (str(seed), x1, label, str(sample), str(attempt)):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    state = (int.from_bytes(digest.digest(), "little") + (step + 1) * 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return ((state ^ (state >> 31)) >> 11) / 2**53


def next_probabilities(model: Any, ids: Sequence[int], end: int) -> np.ndarray:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1].double().numpy().copy()
    logits[end] = -np.inf
    exponent = np.exp(logits - logits.max())
    return exponent / exponent.sum()


def debias(target: np.ndarray, counters: Sequence[np.ndarray], decay: float, floor: float) -> np.ndarray:
    if not counters:
        return target
    result = np.empty_like(target)
    for w in range(len(target)):
        delta = target[w] - max(counter[w] for counter in counters)
        factor = 1.0 if delta >= 0 else max(floor, np.exp(decay * delta))
        result[w] = target[w] * factor
    return result / result.sum()


def draw(probabilities: np.ndarray, top_k: int, top_p: float, number: float) -> int:
    order = sorted(range(len(probabilities)), key=lambda w: (-probabilities[w], w))
    order = order[: top_k or None]
    kept = probabilities[order] / probabilities[order].sum()
    chosen, mass = [], 0.0
    for w, p in zip(order, kept, strict=True):
        if mass >= top_p:
            break
        chosen.append((w, p))
        mass += p
    goal, total = number * mass, 0.0
    for w, p in chosen:
        total += p
        if total > goal:
            return w
    return chosen[-1][0]


def is_cut(text: str) -> bool:
    """Whether the mark behind a text opens a quotation in the middle of a sentence."""
    return text != text.rstrip() and text.rstrip().rstrip("'’”)]")[-1] not in ".!?…。！？؟।"


def generate(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], name: tuple[Any, ...], options: Any) -> Any:
    """Returns (text or None, tries, token ids of the last try)."""
    seed, x1, label, sample = name
    for attempt in range(options.max_tries):
        ids: list[int] = []
        text = None
        for step in range(options.max_new_tokens):
            target, *counters = (next_probabilities(model, [*p, *ids], tokenizer.eos_token_id) for p in prompts)
            probabilities = debias(target, counters, options.decay_constant, options.decay_floor)
            number = uniform(seed, x1, label, sample, attempt, step)
            ids.append(draw(probabilities, options.top_k, options.top_p, number))
            so_far = tokenizer.decode(ids)
            if '"' in so_far:
                text = so_far[: so_far.index('"')]
                break
            if "\n" in so_far or "\r" in so_far:
                break
        says_something = any(sign.isalpha() or sign.isnumeric() for sign in text or "")
        if text is not None and says_something and not is_cut(text) and not {"\n", "\r", "\ufffd"} & set(text):
            return text.strip(), attempt + 1, tuple(ids)
    return None, options.max_tries, tuple(ids)
