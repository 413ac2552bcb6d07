"""What the language model believes of a label: Bayes, the temperature, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dino_st.errors import ConfigurationError, DatasetError
from dino_st.preparation.posterior import expected_score, fit_temperature, label_posterior

INF = math.inf


def by_hand(row: list[float], prior: list[float], temperature: float) -> list[float]:
    """Bayes with powers of probabilities, as one writes it on paper."""
    weights = [p * math.exp(value) ** (1 / temperature) for value, p in zip(row, prior, strict=True)]
    return [weight / sum(weights) for weight in weights]


def synthetic(pairs: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), log-probabilities `scale`·z - 50: the best temperature is `scale`."""
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=1.5, size=(pairs, 3))
    chances = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    labels = (rng.random((pairs, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return scale * z - 50, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_posterior_is_bayes_rule(temperature: float) -> None:
    row, prior = [-2.0, -3.5, -2.7], [0.5, 0.2, 0.3]
    found = label_posterior([row], prior=prior, temperature=temperature)
    assert found[0].tolist() == pytest.approx(by_hand(row, prior, temperature))


def test_a_prior_need_not_sum_to_one_and_is_uniform_by_default() -> None:
    rows = [[-1.0, -2.0], [-5.0, -5.0]]
    assert label_posterior(rows, prior=[7, 7]).tolist() == label_posterior(rows).tolist()
    assert label_posterior(rows, prior=[3, 1])[1].tolist() == pytest.approx([0.75, 0.25])


def test_very_small_probabilities_do_not_underflow() -> None:
    found = label_posterior([[-5000.0, -5000.0 - math.log(4)], [-9000.0, -1.0]])
    assert found.tolist() == [pytest.approx([0.8, 0.2]), pytest.approx([0.0, 1.0])]


def test_length_normalisation_takes_the_mean_log_probability_of_a_token() -> None:
    found = label_posterior([[-10.0, -20.0], [-20.0, -40.0]], [10, 20], length_normalised=True)
    assert found[0].tolist() == pytest.approx(by_hand([-1.0, -2.0], [1, 1], 1))
    assert found[1].tolist() == pytest.approx(found[0].tolist())


def test_a_label_under_which_the_text_is_impossible_gets_nothing() -> None:
    assert label_posterior([[-INF, -3.0, -3.0]]).tolist() == [[0.0, 0.5, 0.5]]


def test_a_pair_that_is_impossible_under_every_label_gets_the_prior() -> None:
    found = label_posterior([[-INF, -INF], [-1.0, -1.0], [-INF, -4.0]], prior=[0.25, 0.75])
    assert found.tolist() == [pytest.approx([0.25, 0.75]), pytest.approx([0.25, 0.75]), [0.0, 1.0]]
    assert label_posterior([[-INF, -2.0]], prior=[1.0, 0.0]).tolist() == [[1.0, 0.0]]


def test_one_label_is_certain_and_no_pair_gives_no_row() -> None:
    assert label_posterior([[-3.0], [-9.0]]).tolist() == [[1.0], [1.0]]
    assert label_posterior(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("bad", [math.nan, INF])
def test_log_probabilities_that_are_no_numbers_are_refused_with_the_first_row(bad: float) -> None:
    with pytest.raises(DatasetError, match=r"2 of 4 pairs have a log-probability that is NaN or \+inf, first in row 1"):
        label_posterior([[-1.0, -1.0], [-1.0, bad], [-1.0, -1.0], [bad, -1.0]])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": 0.0}, ConfigurationError, "temperature is 0.0; expected a finite number above 0"),
        ({"temperature": math.nan}, ConfigurationError, "temperature is nan"),
        ({"prior": [1.0]}, ConfigurationError, "expected 2 numbers of at least 0"),
        ({"prior": [-1.0, 2.0]}, ConfigurationError, "expected 2 numbers of at least 0"),
        ({"prior": [0.0, 0.0]}, ConfigurationError, "not all 0"),
        ({"length_normalised": True}, DatasetError, "needs the number of tokens"),
        ({"length_normalised": True, "num_tokens": [1, 2]}, DatasetError, r"shape \(2,\); expected \(1,\)"),
        ({"length_normalised": True, "num_tokens": [0]}, DatasetError, "num_tokens is 0 in row 0; expected at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        label_posterior([[-1.0, -2.0]], **options)


def test_log_probabilities_need_two_dimensions() -> None:
    with pytest.raises(DatasetError, match=r"shape \(2,\); expected \(pairs, labels\)"):
        label_posterior([-1.0, -2.0])


@pytest.mark.parametrize("scale", [0.5, 1.0, 6.0])
def test_the_fitted_temperature_is_the_one_that_the_labels_were_drawn_with(scale: float) -> None:
    log_probs, labels = synthetic(40_000, scale)
    fit = fit_temperature(log_probs, None, labels)
    assert fit.value == pytest.approx(scale, rel=0.05)
    assert fit.n_held_out == 20_000
    # The entropy of the labels given z, which no posterior can beat.
    z = (log_probs + 50) / scale
    chances = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert fit.cross_entropy_after == pytest.approx(-(chances * np.log(chances)).sum(axis=1).mean(), abs=0.02)
    assert fit.cross_entropy_after <= fit.cross_entropy_before + 1e-4


def test_log_probabilities_that_say_nothing_get_a_temperature_that_flattens_them() -> None:
    log_probs, _ = synthetic(5_000, 4.0)
    labels = np.random.default_rng(1).integers(0, 3, 5_000)
    fit = fit_temperature(log_probs, None, labels)
    assert fit.value > 50
    assert fit.cross_entropy_after == pytest.approx(math.log(3), abs=0.01)


def test_the_fit_is_the_same_for_the_same_seed_and_takes_another_part_for_another() -> None:
    log_probs, labels = synthetic(300, 2.0)
    assert fit_temperature(log_probs, None, labels, seed=1) == fit_temperature(log_probs, None, labels, seed=1)
    assert fit_temperature(log_probs, None, labels, seed=1) != fit_temperature(log_probs, None, labels, seed=2)
    assert fit_temperature(log_probs, None, labels, seed=1).n_held_out == 150


def test_impossible_labels_cost_the_same_at_every_temperature() -> None:
    log_probs = [[-1.0, -2.0], [-2.0, -1.0]] * 20 + [[-INF, -1.0], [-INF, -INF]] * 5
    fit = fit_temperature(log_probs, None, [0, 1] * 20 + [0, 0] * 5)
    assert math.isfinite(fit.value)
    assert math.isfinite(fit.cross_entropy_after)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 0, 0], "all have one label"),
        ([0, 1, 2, 0], "expected positions below 2"),
        ([0, 1], "expected 4 positions"),
        ([0.0, 1.0, 0.0, 1.0], "expected 4 positions"),
    ],
)
def test_labels_that_nothing_can_be_fitted_to_are_refused(labels: list[Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        fit_temperature([[-1.0, -2.0]] * 4, None, labels)


def test_one_pair_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"on 1 pair\(s\); expected at least 2"):
        fit_temperature([[-1.0, -2.0]], None, [0])


def test_the_expected_score_weighs_the_labels_in_their_order() -> None:
    assert expected_score([[0.2, 0.3, 0.5], [1, 0, 0]], [1.0, 0.5, 0.0]).tolist() == pytest.approx([0.35, 1.0])
    with pytest.raises(DatasetError, match=r"shape \(1, 2\); expected \(pairs, 3\)"):
        expected_score([[0.5, 0.5]], [1.0, 0.5, 0.0])
