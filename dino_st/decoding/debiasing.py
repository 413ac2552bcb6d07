"""Self-debiasing as one pure function on probabilities."""

from __future__ import annotations

import torch


def self_debias(
    target: torch.Tensor, counters: torch.Tensor, *, decay_constant: float, decay_floor: float = 0.01
) -> torch.Tensor:
    """Lowers the probability of tokens that fit a counter-label better than the target label.

    With δ(w) = p_y(w) − max_y' p_y'(w), a token keeps its probability where δ ≥ 0 and has it multiplied by
    exp(λ·δ(w)) where δ < 0 (Schick and Schütze 2021, arXiv 2104.07540, equations 2 and 3; the max over counter-labels
    makes the largest excess decide). The result is renormalised.

    Example:
        >>> target = torch.tensor([[0.5, 0.5]])
        >>> counters = torch.tensor([[[0.1, 0.9]]])
        >>> self_debias(target, counters, decay_constant=100.0)
        tensor([[0.9901, 0.0099]])

    Args:
        target: Next-token probabilities under the target prompt, shape (draws, vocabulary), float32 or float64.
        counters: The same under each counter-prompt, shape (draws, counters, vocabulary); counters may be 0.
        decay_constant: λ, at least 0; 0 changes nothing.
        decay_floor: The factor never falls below this. 0.01 in the published code; 0 gives the paper's formula.

    Returns:
        New probabilities, shape (draws, vocabulary), each row summing to 1.
    """
    if counters.shape[1] == 0 or decay_constant == 0:
        return target / target.sum(dim=-1, keepdim=True)
    likeliest = counters[:, 0] if counters.shape[1] == 1 else counters.amax(dim=1)
    exponent = (target - likeliest).clamp_(max=0).mul_(decay_constant)
    if decay_floor == 0:
        # Every token of a row may decay so far that all underflow; a common shift leaves the renormalised row as it is.
        exponent -= exponent.masked_fill(target == 0, -torch.inf).amax(dim=-1, keepdim=True)
        factor = exponent.masked_fill_(target == 0, 0).exp_()
    else:
        factor = exponent.exp_().clamp_(min=decay_floor)
    debiased = factor.mul_(target)
    return debiased.div_(debiased.sum(dim=-1, keepdim=True))
