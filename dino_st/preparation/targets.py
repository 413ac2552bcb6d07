"""Scores to train on that know of the labels' noise: smoothed labels, mixed with or drawn from the posterior."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from dino_st.errors import DatasetError, DinoWarning
from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.posterior import expected_score, fit_temperature, label_posterior
from dino_st.preparation.rows import Codes, PairRows, RawPairs

Values = npt.NDArray[np.float64]

_FEWEST_TO_FIT = 20
_FEWEST_TO_JUDGE = 100


def posterior_of_rows(raw: RawPairs, rows: PairRows, options: PreparationOptions) -> tuple[Values, dict[str, Any]]:
    """P(label | x1, x2) of rows, at the temperature that was given or that fits the rows.

    With fewer than 20 rows, or where all that the temperature could be fitted on have one label, it is 1, with a
    warning.

    Args:
        raw: The raw pairs, with log-probabilities.
        rows: The rows, in an order that the order of the raw rows does not change.
        options: Temperature, length normalisation, prior, seed of the held-out pairs.

    Returns:
        Shape `(raw rows, labels)`, NaN for rows that are not among `rows`; and the facts of the fit for the record.

    Raises:
        DatasetError: The pairs have no log-probabilities.
    """
    if raw.log_probs is None:
        raise DatasetError("the raw pairs have no log-probabilities; add them with `dino-st score`")
    log_probs = raw.log_probs[rows.origin]
    tokens = None if raw.num_tokens is None else raw.num_tokens[rows.origin]
    shared: dict[str, Any] = {
        "prior": options.label_prior or None,
        "length_normalised": options.posterior_length_normalised,
    }
    facts: dict[str, Any] = {"length_normalised": options.posterior_length_normalised}
    temperature = options.posterior_temperature
    if temperature is None:
        temperature, fit = _fitted(log_probs, tokens, rows.label, shared, options.seed)
        facts |= fit
    posterior = label_posterior(log_probs, tokens, temperature=temperature, **shared)
    agreement = float((posterior.argmax(axis=1) == rows.label).mean()) if len(rows) else 0.0
    labels = raw.log_probs.shape[1]
    if len(rows) >= _FEWEST_TO_JUDGE and agreement < 1 / labels:
        warnings.warn(
            f"the label posterior agrees with the label of {agreement:.0%} of the pairs only, less than chance; are "
            f"the numbers in log_probs in the order of the labels {raw.labels}?",
            DinoWarning,
            stacklevel=4,
        )
    whole = np.full(raw.log_probs.shape, np.nan)
    whole[rows.origin] = posterior
    return whole, facts | {"temperature": round(temperature, 6), "agreement_with_labels": round(agreement, 6)}


def target_scores(label: Codes, posterior: Values, options: PreparationOptions, bits: np.random.PCG64) -> Values:
    """The scores of `posterior-mixed` and `posterior-resampled` targets, γ being `posterior_weight`.

    - `posterior-mixed`: (1-γ)·smoothed(y) + γ·E[y | x1, x2]. The expectation is not smoothed: it holds its own doubt.
    - `posterior-resampled`: smoothed(y') with y' drawn: the assigned label with probability 1-γ, else from the
      posterior.

    Args:
        label: Position of the assigned label, shape `(rows,)`.
        posterior: P(label | x1, x2), shape `(rows, labels)`.
        options: Target, weight, labels and smoothing.
        bits: Where the randomness comes from.

    Returns:
        Shape `(rows,)`, rounded to ten decimals.
    """
    smoothed = np.array([options.smoothed(value) for value in options.labels])
    weight = options.posterior_weight
    if options.target == "posterior-mixed":
        mixed: Values = (1 - weight) * smoothed[label] + weight * expected_score(posterior, options.labels)
        return mixed.round(10)
    mixture = weight * posterior
    mixture[np.arange(len(label)), label] += 1 - weight
    cumulated = np.cumsum(mixture, axis=1)
    drawn = (bits.random_raw(len(label)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    places = (drawn[:, None] * cumulated[:, -1:] >= cumulated[:, :-1]).sum(axis=1)
    resampled: Values = smoothed[places]
    return resampled


def _fitted(
    log_probs: Values, tokens: Codes | None, label: Codes, shared: dict[str, Any], seed: int
) -> tuple[float, dict[str, Any]]:
    """The fitted temperature and what is to be recorded of it; 1 where there is too little to fit it on."""
    try:
        if len(label) < _FEWEST_TO_FIT:
            raise DatasetError(f"a temperature cannot be fitted on {len(label)} pairs; expected {_FEWEST_TO_FIT}")
        fit = fit_temperature(log_probs, tokens, label, seed=seed, **shared)
    except DatasetError as error:
        warnings.warn(
            f"{error}. The posterior's temperature is 1; give posterior_temperature", DinoWarning, stacklevel=5
        )
        return 1.0, {"fitted": False}
    return fit.value, {
        "fitted": True,
        "cross_entropy_before": round(fit.cross_entropy_before, 6),
        "cross_entropy_after": round(fit.cross_entropy_after, 6),
        "held_out_pairs": fit.n_held_out,
    }
