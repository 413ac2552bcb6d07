"""Which prompts are read together."""

from __future__ import annotations

import random

import pytest

from dino_st.forward.runner import chunks_by_length, common_heads


@pytest.mark.parametrize("seed", range(30))
def test_every_prompt_is_in_one_group_whose_head_it_begins_with(seed: int) -> None:
    rng = random.Random(seed)
    heads = [tuple(rng.choices((0, 1), k=rng.randrange(60))) for _ in range(4)]
    prompts = sorted({rng.choice(heads) + tuple(rng.choices((0, 1), k=rng.randrange(1, 12))) for _ in range(50)})
    rng.shuffle(prompts)
    groups = common_heads(prompts, "cpu")
    assert sorted(i for _, members in groups for i in members) == list(range(len(prompts)))
    for head, members in groups:
        assert len({prompts[i][:head] for i in members}) == 1
        assert head < min(len(prompts[i]) for i in members)


def test_instructions_are_read_once_each_and_sentences_that_begin_alike_are_not_torn_apart() -> None:
    instructions = [(9, 9, 9, label, *[8] * 20) for label in range(3)]
    prompts = [(*head, first, second) for head in instructions for first in range(5) for second in range(4)]
    groups = common_heads(prompts, "cpu")
    assert [(head, len(members)) for head, members in groups] == [(24, 20)] * 3


def test_a_long_chain_of_beginnings_does_not_exhaust_the_stack() -> None:
    prompts = [(1,) * length + (2,) for length in range(1, 3000, 7)]
    assert sum(len(members) for _, members in common_heads(prompts, "cpu")) == len(prompts)


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("count", [0, 1, 50, 900])
def test_chunks_hold_every_row_once_and_little_padding(count: int, padding: bool) -> None:
    lengths = random.Random(count).choices(range(1, 200), k=count)
    chunks = list(chunks_by_length(lengths, tokens=16_384, padding=64 if padding else 0))
    assert sorted(i for chunk in chunks for i in chunk) == list(range(len(lengths)))
    for chunk in chunks:
        widths = [lengths[i] for i in chunk]
        assert widths == sorted(widths)
        assert max(widths) * len(widths) - sum(widths) <= (64 if padding else 0)
        assert max(widths) * len(widths) <= 16_384
