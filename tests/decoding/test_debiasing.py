from __future__ import annotations

import numpy as np
import pytest
import torch

from dino_st.decoding.debiasing import self_debias


def by_the_formula(target: np.ndarray, counters: np.ndarray, decay: float, floor: float) -> np.ndarray:
    rows = []
    for p, others in zip(target, counters, strict=True):
        delta = p - np.max(others, axis=0) if len(others) else np.ones_like(p)
        alpha = np.where(delta >= 0, 1.0, np.maximum(np.exp(decay * np.minimum(delta, 0)), floor))
        rows.append(alpha * p / np.sum(alpha * p))
    return np.array(rows)


def distributions(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * 2).softmax(-1)


@pytest.mark.parametrize("floor", [0.01, 0.0, 0.5])
@pytest.mark.parametrize("decay", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("counters", [0, 1, 2, 3])
def test_probabilities_follow_the_papers_equation(counters: int, decay: float, floor: float) -> None:
    target, others = distributions(4, 50, seed=1), distributions(4, counters, 50, seed=2)
    result = self_debias(target, others, decay_constant=decay, decay_floor=floor)
    np.testing.assert_allclose(result.numpy(), by_the_formula(target.numpy(), others.numpy(), decay, floor), rtol=1e-12)


def test_a_worked_example() -> None:
    # δ = 0.5 - 0.9 = -0.4, and 0.5 · exp(-40) is raised to 0.5 · 0.01
    result = self_debias(
        torch.tensor([[0.5, 0.5]], dtype=torch.float64),
        torch.tensor([[[0.1, 0.9]]], dtype=torch.float64),
        decay_constant=100,
    )
    np.testing.assert_allclose(result.numpy(), [[0.5 / 0.505, 0.005 / 0.505]])


def test_float32_stays_float32_and_close() -> None:
    target, others = distributions(3, 200, seed=3), distributions(3, 2, 200, seed=4)
    exact = self_debias(target, others, decay_constant=100.0)
    single = self_debias(target.float(), others.float(), decay_constant=100.0)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-7)


def test_the_inputs_are_left_alone() -> None:
    target, others = distributions(3, 20, seed=5), distributions(3, 2, 20, seed=6)
    before = target.clone(), others.clone()
    self_debias(target, others, decay_constant=100.0, decay_floor=0.0)
    assert torch.equal(target, before[0])
    assert torch.equal(others, before[1])


def test_without_a_floor_rows_whose_every_token_decays_still_sum_to_one() -> None:
    target = torch.tensor([[0.5, 0.5, 0.0]])
    others = torch.tensor([[[0.9, 0.0, 0.1], [0.0, 0.95, 0.05]]])
    result = self_debias(target, others, decay_constant=1e6, decay_floor=0.0)
    assert torch.isfinite(result).all()
    np.testing.assert_allclose(result.numpy(), [[1.0, 0.0, 0.0]], atol=1e-6)
