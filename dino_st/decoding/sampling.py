"""Top-k, top-p, and a draw whose random numbers depend on nothing but its own key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from dino_st.decoding.debiasing import self_debias
from dino_st.decoding.options import DecodingOptions

_GOLDEN, _MIX_1, _MIX_2 = np.array((0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB), dtype=np.uint64)
"""The constants of SplitMix64."""


def draw_key(seed: int, x1: str, label: str, sample: int, attempt: int) -> int:
    """Hashes what names a try of a draw into a signed 64-bit integer, whatever the order, batch or process."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (str(seed), x1, label, str(sample), str(attempt)):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return int.from_bytes(digest.digest(), "little", signed=True)


def uniforms(keys: Sequence[int], steps: int) -> torch.Tensor:
    """Random numbers for every step of several draws, float64 in [0, 1), shape (draws, steps), on the CPU.

    Number t of a key (from `draw_key`) is the t-th output of SplitMix64 (Steele, Lea and Flood 2014) started at that
    key, so any of them can be had without the ones before it.
    """
    counters = np.arange(1, steps + 1, dtype=np.uint64) * _GOLDEN
    state = np.array(keys, dtype=np.int64).astype(np.uint64)[:, None] + counters
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    state = state ^ (state >> np.uint64(31))
    return torch.from_numpy((state >> np.uint64(11)) * 2.0**-53)


def top_k_top_p(probabilities: torch.Tensor, *, top_k: int, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Keeps the likeliest tokens: first k of them (0 for all), then the fewest that hold a share p of what k left.

    The order of the two, and that p is measured on the distribution renormalised over the top k, are those of
    transformers' samplers and so of the published code. From shape (draws, vocabulary) it makes the kept probabilities,
    likeliest first, zero where top-p cut, each row summing to 1, and the ids of these tokens, both of shape (draws, k).
    Equal probabilities stand in the order of their ids.
    """
    if 0 < top_k < probabilities.shape[-1]:
        kept, ids = probabilities.topk(top_k, dim=-1)
        ids, order = ids.sort(dim=-1)
        kept, by_probability = kept.gather(-1, order).sort(dim=-1, descending=True, stable=True)
        ids = ids.gather(-1, by_probability)
    else:
        kept, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    kept = kept / kept.sum(dim=-1, keepdim=True)
    if top_p < 1:
        before = kept.cumsum(dim=-1) - kept
        kept = kept.masked_fill(before >= top_p, 0)
        kept = kept / kept.sum(dim=-1, keepdim=True)
    return kept, ids


def draw_debiased(
    target: torch.Tensor, counters: torch.Tensor, uniform: torch.Tensor, options: DecodingOptions
) -> torch.Tensor:
    """Draws a token a row after self-debiasing, top-k and top-p; see `self_debias` and `draw_tokens`."""
    debiased = self_debias(target, counters, decay_constant=options.decay_constant, decay_floor=options.decay_floor)
    kept, ids = top_k_top_p(debiased, top_k=options.top_k, top_p=options.top_p)
    return draw_tokens(kept, ids, uniform)


def draw_tokens(probabilities: torch.Tensor, ids: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draws one token a row, shape (draws,), by inverting the cumulative distribution.

    Probabilities, likeliest first, and their token ids have shape (draws, k); `uniform` has a number in [0, 1) a draw.
    """
    cumulative = probabilities.cumsum(dim=-1)
    threshold = uniform.to(cumulative.dtype).unsqueeze(-1) * cumulative[:, -1:]
    index = (cumulative <= threshold).sum(dim=-1)
    last = (probabilities > 0).sum(dim=-1) - 1  # rounding may push the threshold to the very end
    return ids.gather(-1, torch.minimum(index, last).unsqueeze(-1)).squeeze(-1)
