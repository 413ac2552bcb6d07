"""What a language model itself believes of a pair's label: Bayes over the likelihoods of x2 under every instruction.

Instructions turn a language model into a classifier: the label whose instruction makes x2 likeliest is the likeliest
label of (x1, x2). The likelihoods are those of the model without self-debiasing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from dino_st.errors import ConfigurationError, DatasetError
from dino_st.support.hashes import random_bits, random_order

Floats = npt.NDArray[np.float64]

TEMPERATURES = (0.01, 1000.0)
"""The range in which a temperature is fitted. At its upper end the log-probabilities say nothing about the labels."""

_IMPOSSIBLE = math.log(1e-12)


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature, and what it does to pairs that it was not fitted on.

    The cross-entropies are means of -log P(assigned label | x1, x2) in nats on the held-out pairs, at temperature 1 and
    at the fitted one.
    """

    value: float
    cross_entropy_before: float
    cross_entropy_after: float
    n_held_out: int


def label_posterior(
    log_probs: npt.ArrayLike,
    num_tokens: npt.ArrayLike | None = None,
    *,
    prior: Sequence[float] | npt.ArrayLike | None = None,
    temperature: float = 1.0,
    length_normalised: bool = False,
) -> Floats:
    """The probability of each label given the pair, P(y | x1, x2) ∝ P(y) · p(x2 | I_y(x1))^(1/T); rows sum to 1.

    The log-probabilities log p(x2 and closing mark | I_y(x1)) are in nats and undebiased, shape `(pairs, labels)`; -inf
    is allowed. With `length_normalised` the exponent is 1/(T·n) for x2 of n tokens (`num_tokens`, closing mark
    included, shape `(pairs,)`), so that long texts give no surer answers than short ones. The prior P(y), shape
    `(labels,)`, need not sum to 1 and is uniform if None. A pair that is impossible under every label with a prior
    above 0 (all -inf) says nothing about its label and gets the prior.

    Raises DatasetError where a log-probability is NaN or +inf (the first such row is named), a shape does not fit, or a
    number of tokens is below 1, and ConfigurationError where temperature or prior is out of range.

    Example:
        >>> label_posterior([[-1.0, -1.0 - math.log(3)]]).round(2).tolist()
        [[0.75, 0.25]]
    """
    scaled, log_prior = _checked(log_probs, num_tokens, prior, length_normalised)
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigurationError(f"temperature is {temperature}; expected a finite number above 0")
    return np.exp(_log_posterior(scaled, log_prior, temperature))


def fit_temperature(
    log_probs: npt.ArrayLike,
    num_tokens: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    *,
    prior: Sequence[float] | npt.ArrayLike | None = None,
    length_normalised: bool = False,
    seed: int = 0,
) -> Temperature:
    """Fits the temperature with which the posterior best predicts the labels that the pairs were written for.

    The temperature minimises the cross-entropy on one half of the pairs, drawn at random; what it achieves is measured
    on the held-out rest. The labels are the generator's own, so this is the self-consistency of the generator: it says
    how well the posterior knows which instruction was used, and nothing about what the pair means to a person.

    A pair whose assigned label has log-probability -inf costs -log(1e-12) at every temperature; a pair with -inf
    throughout costs -log P(y) of the prior.

    `labels`, shape `(pairs,)`, are the positions of the assigned labels among the columns; arguments and errors are
    else those of `label_posterior`. A DatasetError also says that there are fewer than two pairs, or that only one
    label is assigned in the part to fit on, where the best temperature is no finite number.
    """
    scaled, log_prior = _checked(log_probs, num_tokens, prior, length_normalised)
    assigned = np.asarray(labels)
    if assigned.shape != scaled.shape[:1] or (len(assigned) and assigned.dtype.kind not in "iu"):
        raise DatasetError(f"the labels have shape {assigned.shape}; expected {len(scaled)} positions of labels")
    if len(assigned) and not 0 <= assigned.min() <= assigned.max() < scaled.shape[1]:
        lowest, highest = assigned.min(), assigned.max()
        raise DatasetError(f"a label is {lowest} or {highest}; expected positions below {scaled.shape[1]}")
    pairs = len(scaled)
    if pairs < 2:
        raise DatasetError(f"a temperature cannot be fitted on {pairs} pair(s); expected at least 2, or give one")
    order = random_order(pairs, random_bits(seed))
    held_out, fitted = np.split(order, [round(pairs / 2)])
    if len(np.unique(assigned[fitted])) < 2:
        raise DatasetError(
            f"a temperature cannot be fitted: the {len(fitted):,} pairs to fit on all have one label; expected two "
            "labels at least, or give a temperature"
        )

    def cross_entropy(part: npt.NDArray[np.int64], temperature: float) -> float:
        chosen = _log_posterior(scaled[part], log_prior, temperature)[np.arange(len(part)), assigned[part]]
        return float(-np.where(np.isneginf(chosen), _IMPOSSIBLE, chosen).mean())

    best: Any = minimize_scalar(
        lambda log_temperature: cross_entropy(fitted, math.exp(log_temperature)),
        bounds=tuple(map(math.log, TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    value = math.exp(float(best.x))
    return Temperature(value, cross_entropy(held_out, 1.0), cross_entropy(held_out, value), len(held_out))


def expected_score(posterior: npt.ArrayLike, label_values: Sequence[float]) -> Floats:
    """The mean of the labels under the posterior of shape `(pairs, labels)`, E[y | x1, x2] = Σ P(y | x1, x2) · y.

    Example:
        >>> expected_score([[0.5, 0.5, 0.0]], [0.0, 0.5, 1.0]).tolist()
        [0.25]
    """
    probabilities = np.asarray(posterior, np.float64)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(label_values):
        raise DatasetError(f"the posterior has shape {probabilities.shape}; expected (pairs, {len(label_values)})")
    return probabilities @ np.asarray(label_values, np.float64)


def check_log_probs(values: Floats) -> None:
    """Refuses log-probabilities, shape `(pairs, labels)`, that are NaN or +inf; the message names the first row."""
    wrong = np.flatnonzero((np.isnan(values) | np.isposinf(values)).any(axis=1))
    if len(wrong):
        row = values[wrong[0]].tolist()
        raise DatasetError(
            f"{len(wrong):,} of {len(values):,} pairs have a log-probability that is NaN or +inf, first in row "
            f"{wrong[0]}: {row}; expected finite numbers or -inf. Score the pairs again with `dino-st score`"
        )


def check_num_tokens(tokens: npt.NDArray[Any]) -> None:
    """Refuses numbers of tokens, shape `(pairs,)`, below 1; the message names the first row."""
    short = np.flatnonzero(~(tokens >= 1))
    if len(short):
        raise DatasetError(
            f"num_tokens is {tokens[short[0]]} in row {short[0]}; expected at least 1, since the closing mark counts"
        )


def _log_posterior(scaled: Floats, log_prior: Floats, temperature: float) -> Floats:
    """The logarithm of P(y | x1, x2), shape `(pairs, labels)`."""
    scores = scaled / temperature + log_prior
    scores[np.isneginf(scores).all(axis=1)] = log_prior  # softmax knows no answer to a row of nothing but -inf
    normalised: Floats = log_softmax(scores, axis=1)
    return normalised


def _checked(log_probs: Any, num_tokens: Any, prior: Any, length_normalised: bool) -> tuple[Floats, Floats]:
    """The log-probabilities, divided by the length if asked for, and the logarithm of the prior."""
    values = np.asarray(log_probs, np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise DatasetError(f"the log-probabilities have shape {values.shape}; expected (pairs, labels)")
    check_log_probs(values)
    if length_normalised:
        if num_tokens is None:
            raise DatasetError("length_normalised needs the number of tokens of each x2; none were given")
        tokens = np.asarray(num_tokens)
        if tokens.shape != (len(values),):
            raise DatasetError(f"num_tokens has shape {tokens.shape}; expected ({len(values)},)")
        check_num_tokens(tokens)
        values = values / tokens[:, None]
    weights = np.ones(values.shape[1]) if prior is None else np.asarray(prior, np.float64)
    are_weights = np.isfinite(weights).all() and (weights >= 0).all() and weights.any()
    if weights.shape != (values.shape[1],) or not are_weights:
        raise ConfigurationError(
            f"the prior is {weights.tolist()}; expected {values.shape[1]} numbers of at least 0, one for each label, "
            "not all 0"
        )
    with np.errstate(divide="ignore"):
        return values, np.log(weights / weights.sum())
