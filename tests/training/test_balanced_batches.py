"""Batches in which the scores are spread evenly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import Dataset

from dino_st.training.batches import BalancedBatches, balanced_order
from dino_st.training.objective import pair_objective
from dino_st.training.options import TrainingOptions
from dino_st.training.train import train_encoder
from tests.training_fixtures import QUICK, prepared_splits, record, tiny_encoder


def order_of(scores: list[float], seed: int = 0) -> np.ndarray:
    return balanced_order(np.array(scores), np.random.PCG64(seed))


def sampler(scores: list[float], **options: object) -> BalancedBatches:
    named = {"batch_size": 4, "drop_last": False, "valid_label_columns": ["score"], "generator": None, "seed": 7}
    return BalancedBatches(Dataset.from_dict({"score": scores}), **(named | options))


def test_every_stretch_has_about_the_share_of_each_score() -> None:
    scores = np.repeat([0.0, 0.1, 0.5, 0.9], [400, 200, 300, 100])
    order = order_of(scores.tolist())
    assert sorted(order.tolist()) == list(range(1000))
    for start in range(0, 1000, 50):
        found = [(scores[order[start : start + 50]] == score).sum() for score in (0.0, 0.1, 0.5, 0.9)]
        assert np.abs(np.array(found) - [20, 10, 15, 5]).max() <= 2


def test_the_order_is_random_within_a_score() -> None:
    assert order_of([0.5] * 50).tolist() != order_of([0.5] * 50, seed=1).tolist()
    firsts = {int(order_of([0.0] * 4 + [1.0] * 4, seed)[0]) for seed in range(200)}
    assert firsts == set(range(8))


def test_continuous_scores_are_spread_by_intervals() -> None:
    scores = np.random.default_rng(5).random(1000)
    batches = scores[order_of(scores.tolist())].reshape(20, 50)
    # Drawn at random, the mean of 50 would deviate by 0.041.
    assert np.abs(batches.mean(axis=1) - scores.mean()).max() < 0.03


def test_no_pair_and_one_pair_have_an_order() -> None:
    assert order_of([]).tolist() == []
    assert order_of([0.3]).tolist() == [0]


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    scores = [0.0, 0.5, 1.0] * 7
    first = sampler(scores)
    assert list(first) == list(sampler(scores))
    assert list(first) != list(sampler(scores, seed=8))
    later = sampler(scores)
    later.set_epoch(1)
    assert list(later) != list(first)
    assert [len(batch) for batch in first] == [4, 4, 4, 4, 4, 1]
    assert len(first) == 6
    assert len(list(sampler(scores, drop_last=True))) == len(sampler(scores, drop_last=True)) == 5


def test_balanced_batches_are_an_option_of_training_that_is_off_by_default(tmp_path: Path) -> None:
    splits = prepared_splits(48, 24)
    assert pair_objective(splits, TrainingOptions()).batch_sampler is None
    encoder = tiny_encoder(tmp_path / "encoder")
    train_encoder(splits, encoder, tmp_path / "run", **QUICK, balanced_batches=True)
    assert record(tmp_path / "run")["options"]["balanced_batches"] is True
