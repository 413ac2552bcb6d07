"""Scores to train on: smoothed labels, or smoothed labels mixed with, or drawn from, what a language model believes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from dino_st.errors import DatasetError, DinoWarning
from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.posterior import expected_score, fit_temperature, label_posterior
from dino_st.preparation.rows import Codes, Floats, PairRows, RawPairs

_FEWEST_TO_FIT = 20

_MORE, _BY_CHANCE = 0.1, 3
"""Of how many more of the pairs another order of the log-probabilities fits the labels: a share, and how often the root
of their number, which chance does not reach."""


def posterior_of_rows(
    log_probs: Floats, raw: RawPairs, rows: PairRows, options: PreparationOptions
) -> tuple[Floats, dict[str, Any]]:
    """P(label | x1, x2) of rows, at the temperature that was given or that fits the rows.

    With fewer than 20 rows, or where all that the temperature could be fitted on have one label, it is 1, with a
    warning. The raw log-probabilities have the shape of the result, `(raw rows, labels)`, which is NaN for rows that
    are not among `rows`; these come in an order that the order of the raw rows does not change. The facts of the fit,
    for the record, are returned beside it.
    """
    given: dict[str, Any] = {
        "log_probs": log_probs[rows.origin],
        "num_tokens": None if raw.num_tokens is None else raw.num_tokens[rows.origin],
        "prior": options.label_prior or None,
        "length_normalised": options.posterior_length_normalised,
    }
    facts: dict[str, Any] = {"length_normalised": options.posterior_length_normalised}
    temperature = options.posterior_temperature
    if temperature is None:
        try:
            if len(rows) < _FEWEST_TO_FIT:
                raise DatasetError(f"a temperature cannot be fitted on {len(rows)} pairs; expected {_FEWEST_TO_FIT}")
            fit = fit_temperature(labels=rows.label, seed=options.seed, **given)
        except DatasetError as error:
            temperature, facts["fitted"] = 1.0, False
            warnings.warn(
                f"{error}. The posterior's temperature is 1; give posterior_temperature", DinoWarning, stacklevel=5
            )
        else:
            temperature, facts["fitted"] = fit.value, True
            facts["cross_entropy_before"] = round(fit.cross_entropy_before, 6)
            facts["cross_entropy_after"] = round(fit.cross_entropy_after, 6)
            facts["held_out_pairs"] = fit.n_held_out
    posterior = label_posterior(temperature=temperature, **given)
    agreement = float((posterior.argmax(axis=1) == rows.label).mean()) if len(rows) else 0.0
    _warn_of_order(given["log_probs"], raw, rows)
    whole = np.full(log_probs.shape, np.nan)
    whole[rows.origin] = posterior
    return whole, facts | {"temperature": round(temperature, 6), "agreement_with_labels": round(agreement, 6)}


def _warn_of_order(log_probs: Floats, raw: RawPairs, rows: PairRows) -> None:
    """Warns of log-probabilities that would fit the labels of many more pairs if they were in another order."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((len(raw.labels), len(raw.labels)))
    np.add.at(counts, (log_probs.argmax(axis=1), rows.label), 1)
    order = linear_sum_assignment(counts, maximize=True)
    fitting, others = np.trace(counts), counts[order].sum()
    if others - fitting > max(_MORE * len(rows), _BY_CHANCE * len(rows) ** 0.5):
        warnings.warn(
            f"the log-probabilities are highest for the label of {fitting / len(rows):.0%} of the pairs, and would be "
            f"for that of {others / len(rows):.0%} if they were in the order of the labels "
            f"{[raw.labels[place] for place in order[1]]}; are they in the order of {raw.labels}?",
            DinoWarning,
            stacklevel=6,
        )


def target_scores(label: Codes, posterior: Floats, options: PreparationOptions, bits: np.random.PCG64) -> Floats:
    """The scores of `posterior-mixed` and `posterior-resampled` targets, γ being `posterior_weight`.

    - `posterior-mixed`: (1-γ)·smoothed(y) + γ·E[y | x1, x2]. The expectation is not smoothed: it holds its own doubt.
    - `posterior-resampled`: smoothed(y') with y' drawn: the assigned label with probability 1-γ, else from the
      posterior.

    The positions of the assigned labels have the shape `(rows,)`, as have the scores, which are rounded to ten
    decimals; the posterior has the shape `(rows, labels)`.
    """
    smoothed = np.array([options.smoothed(value) for value in options.labels])
    weight = options.posterior_weight
    if options.target == "posterior-mixed":
        mixed: Floats = (1 - weight) * smoothed[label] + weight * expected_score(posterior, options.labels)
        return mixed.round(10)
    mixture = weight * posterior
    mixture[np.arange(len(label)), label] += 1 - weight
    cumulated = np.cumsum(mixture, axis=1)
    drawn = (bits.random_raw(len(label)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    places = (drawn[:, None] * cumulated[:, -1:] >= cumulated[:, :-1]).sum(axis=1)
    resampled: Floats = smoothed[places]
    return resampled
