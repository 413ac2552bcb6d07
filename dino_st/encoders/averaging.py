"""The mean of an encoder's weights before and after training (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903).

Pairs that one language model wrote share its habits, and an encoder learns them along with what the pairs mean; so
validation pairs of the same writer keep checkpoints that have moved too far. Between the weights of the start and those
of the best checkpoint lie encoders that know some of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from dino_st.errors import TrainingError

SHARES = (0.0, 0.25, 0.5, 0.75)
"""Shares of the start of which `auto` takes one; 1 is the untrained start."""

Weights = Mapping[str, Tensor]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of an encoder's weights in memory of the CPU."""
    state = model.state_dict()
    return {name: value.to("cpu", copy=True) for name, value in state.items() if value.is_floating_point()}


def average_weights(model: nn.Module, start: Weights, trained: Weights, share: float) -> None:
    """Sets a model's weights to `share` of those of its start and the rest of those after training."""
    for name, value in model.state_dict().items():
        if name in trained:
            value.copy_(torch.lerp(trained[name], start[name], share))


def keep_average(
    model: nn.Module, start: Weights, share: float | str, spearman: float, score: Callable[[], float]
) -> list[tuple[float, float]]:
    """Sets a trained model's weights to the mean of its start's and its own, in the share asked for.

    Args:
        model: The encoder after training.
        start: Its weights before, as `weights_of` copied them.
        share: Share of the start, from 0 to below 1, or `auto` for that of `SHARES` which scores best; at a tie the
            smallest.
        spearman: The trained encoder's correlation on the validation split.
        score: Computes that of the model as it is; NaN where it is undefined.

    Returns:
        The shares that were tried, each with what it scored, the one that was kept first.

    Raises:
        TrainingError: Spearman's correlation is undefined for the share that was given.
    """
    trained, found = weights_of(model), []
    for number in SHARES if share == "auto" else (float(share),):
        average_weights(model, start, trained, number)
        reached = score() if number else spearman
        if math.isfinite(reached):
            found.append((number, reached))
    if not found:
        raise TrainingError(
            f"start_share = {share}: the mean of the weights before and after training gives all sentences the same "
            "embedding, or is not finite; choose another share, or auto"
        )
    found.sort(key=lambda average: -average[1])
    average_weights(model, start, trained, found[0][0])
    return found
