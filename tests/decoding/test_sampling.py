from __future__ import annotations

import hashlib

import pytest
import torch
from scipy import stats
from transformers import TopKLogitsWarper, TopPLogitsWarper

from dino_st.decoding.sampling import draw_key, draw_tokens, top_k_top_p, uniforms


def test_the_generator_is_splitmix64() -> None:
    # the first outputs of the published algorithm for the seed 1234567
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    expected = torch.tensor([[(number >> 11) / 2**53 for number in published]], dtype=torch.float64)
    assert torch.equal(uniforms([1234567], 4), expected)


def test_a_step_can_be_had_without_the_steps_before_it() -> None:
    keys = [draw_key(1, f"sentence {i}", "1", 0, 0) for i in range(50)]
    together = uniforms(keys, 40)
    assert torch.equal(torch.cat([uniforms([key], 40) for key in keys]), together)
    assert torch.equal(uniforms(keys, 7), together[:, :7])


def test_random_numbers_of_many_keys_and_steps_are_uniform_and_unrelated() -> None:
    keys = [draw_key(0, "x", label, sample, attempt) for label in "ab" for sample in range(100) for attempt in range(5)]
    table = uniforms(keys, 40).numpy()
    assert stats.kstest(table.ravel(), "uniform").pvalue > 0.001
    assert stats.kstest(table[:, 0], "uniform").pvalue > 0.001
    assert abs(stats.pearsonr(table[:, 0], table[:, 1]).statistic) < 0.12
    assert abs(stats.pearsonr(table[:-1, 0], table[1:, 0]).statistic) < 0.12


def test_a_key_is_blake2b_over_its_parts_with_their_lengths() -> None:
    data = b"".join(len(p).to_bytes(8, "little") + p for p in (b"7", "é".encode(), b"0.5", b"1", b"2"))
    expected = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)
    assert draw_key(7, "é", "0.5", 1, 2) == expected


def test_every_part_of_the_key_counts() -> None:
    base = (1, "x", "1", 0, 0)
    others = [(2, "x", "1", 0, 0), (1, "y", "1", 0, 0), (1, "x", "0", 0, 0), (1, "x", "1", 1, 0), (1, "x", "1", 0, 1)]
    assert len({draw_key(*key) for key in [base, *others]}) == 6
    assert draw_key(1, "ab", "c", 0, 0) != draw_key(1, "a", "bc", 0, 0)


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 0.9), (0, 0.9), (5, 1.0), (1, 0.9), (0, 1.0), (3, 0.2), (99, 0.5)])
def test_top_k_then_top_p_keep_what_transformers_keeps(top_k: int, top_p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 30, generator=generator, dtype=torch.float64) * 3
    scores = logits.clone()
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)  # type: ignore[arg-type]
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)  # type: ignore[arg-type]
    kept, ids = top_k_top_p(logits.softmax(-1), top_k=top_k, top_p=top_p)
    ours = torch.zeros_like(logits).scatter(1, ids, kept)
    torch.testing.assert_close(ours, scores.softmax(-1))


def test_the_token_that_reaches_the_share_exactly_is_the_last_one_kept() -> None:
    kept, ids = top_k_top_p(torch.tensor([[0.25, 0.5, 0.25]]), top_k=0, top_p=0.5)
    assert (kept.tolist(), ids.tolist()) == ([[1.0, 0.0, 0.0]], [[1, 0, 2]])


def test_equal_probabilities_stand_in_the_order_of_their_ids() -> None:
    _, ids = top_k_top_p(torch.tensor([[0.2, 0.4, 0.2, 0.2]]), top_k=4, top_p=1.0)
    assert ids.tolist() == [[1, 0, 2, 3]]


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2, 0.0]], dtype=torch.float64).expand(20000, 4)
    ids = torch.tensor([[9, 4, 7, 1]]).expand(20000, 4)
    drawn = draw_tokens(probabilities, ids, uniforms(range(20000), 1)[:, 0])
    counts = [int((drawn == token).sum()) for token in (9, 4, 7)]
    assert stats.chisquare(counts, [10000, 6000, 4000]).pvalue > 0.001
    assert not (drawn == 1).any()


def test_a_number_next_to_one_draws_the_last_kept_token() -> None:
    probabilities = torch.tensor([[0.7, 0.3, 0.0]], dtype=torch.float32)
    nearly_one = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert draw_tokens(probabilities, torch.tensor([[5, 6, 7]]), nearly_one).tolist() == [6]
    assert draw_tokens(probabilities, torch.tensor([[5, 6, 7]]), torch.tensor([0.0])).tolist() == [5]
