"""How likely given texts are after given prompts: one pass over whole texts, no drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from dino_st.decoding.cache import Indices, on_device

if TYPE_CHECKING:
    from dino_st.decoding.runner import CausalModel, PromptStates

_TOKENS = {"cpu": 1024}
"""Tokens read at once; each takes a row as long as the vocabulary."""
_TOKENS_ELSEWHERE = 8192


def token_log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens.

    Args:
        logits: Shape (..., vocabulary); tokens that cannot be drawn are -inf.
        tokens: Ids, shape (...).

    Returns:
        Nats, shape (...).
    """
    return logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1)


def score_texts(
    model: CausalModel,
    states: PromptStates,
    prompt_of_text: Sequence[int],
    texts: Sequence[tuple[int, ...]],
    unreachable: torch.Tensor,
) -> list[float]:
    """Log-probabilities of whole texts, each after its prompt: log p(text | prompt), the sum over its tokens.

    Args:
        model: The model that has read the prompts.
        states: What it kept of them.
        prompt_of_text: Index of each text's prompt.
        texts: Token ids, at least one each.
        unreachable: Ids of tokens that are never drawn and have no share of the probability.

    Returns:
        Nats, in the order of the texts.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    limit = _TOKENS.get(model.device.type, _TOKENS_ELSEWHERE)
    scores = [0.0] * len(texts)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * len(texts[order[end]]) <= limit:
            end += 1
        chunk = order[start:end]
        prompts = np.array([prompt_of_text[i] for i in chunk])
        sums = _score_chunk(model, states, prompts, [texts[i] for i in chunk], unreachable)
        for i, score in zip(chunk, sums.tolist(), strict=True):
            scores[i] = score
        start = end
    return scores


def _score_chunk(
    model: CausalModel,
    states: PromptStates,
    prompts: Indices,
    texts: Sequence[tuple[int, ...]],
    unreachable: torch.Tensor,
) -> torch.Tensor:
    longest, device = max(map(len, texts)), model.device
    padded = torch.tensor([[*text, *([0] * (longest - len(text)))] for text in texts], device=device)
    logits = states.logits.index_select(0, on_device(prompts, device)).index_fill_(-1, unreachable, -torch.inf)
    total = token_log_probs(logits, padded[:, 0])
    if longest == 1:
        return total
    logits = model.read_texts(padded[:, :-1], states, prompts).index_fill_(-1, unreachable, -torch.inf)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    behind = torch.arange(1, longest, device=device) >= lengths.unsqueeze(1)
    return total + token_log_probs(logits, padded[:, 1:]).masked_fill_(behind, 0).sum(dim=1)
