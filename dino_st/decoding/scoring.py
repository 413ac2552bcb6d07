"""How likely given texts are after given prompts, log p(text | prompt): one pass over whole texts, no drawing."""

from __future__ import annotations

import numpy as np
import torch

from dino_st.decoding.cache import PromptStates, on_device
from dino_st.decoding.runner import CausalModel, Prompts, chunks_by_length

_TOKENS = {"cpu": 1024}
_TOKENS_ELSEWHERE = 8192
"""Tokens read at once; each takes a row as long as the vocabulary."""


def token_log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens in nats, shape (...), from logits of shape (..., vocabulary)."""
    return logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1)


def score_texts(
    model: CausalModel, states: PromptStates, prompts: Prompts, texts: Prompts, unreachable: torch.Tensor
) -> list[float]:
    """Log-probabilities of whole texts, each after its prompt: the sum over its tokens.

    Args:
        model: The model that has read the prompts.
        states: What it kept of them.
        prompts: The prompt of each text.
        texts: Token ids, at least one each.
        unreachable: Ids of tokens that are never drawn and have no share of the probability.

    Returns:
        Nats, in the order of the texts.
    """
    scores = [0.0] * len(texts)
    limit = _TOKENS.get(model.device.type, _TOKENS_ELSEWHERE)
    for chunk in chunks_by_length([len(text) for text in texts], tokens=limit):
        sums = _score_chunk(model, states, [prompts[i] for i in chunk], [texts[i] for i in chunk], unreachable)
        for i, score in zip(chunk, sums.tolist(), strict=True):
            scores[i] = score
    return scores


def _score_chunk(
    model: CausalModel, states: PromptStates, prompts: Prompts, texts: Prompts, unreachable: torch.Tensor
) -> torch.Tensor:
    longest, device = max(map(len, texts)), model.device
    places = np.array([states.index[prompt] for prompt in prompts])
    padded = torch.tensor([[*text, *([0] * (longest - len(text)))] for text in texts], device=device)
    logits = states.logits.index_select(0, on_device(places, device)).index_fill_(-1, unreachable, -torch.inf)
    total = token_log_probs(logits, padded[:, 0])
    if longest == 1:
        return total
    logits = model.read_texts(padded[:, :-1], states, places).index_fill_(-1, unreachable, -torch.inf)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    behind = torch.arange(1, longest, device=device) >= lengths.unsqueeze(1)
    return total + token_log_probs(logits, padded[:, 1:]).masked_fill_(behind, 0).sum(dim=1)
