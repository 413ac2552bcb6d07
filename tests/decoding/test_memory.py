from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from dino_st.decoding import memory
from dino_st.forward.probe import probe

GIB = 2**30


@pytest.fixture
def model(make_model: Any) -> Any:
    return make_model("gpt2", dtype=torch.float32)


def rows(model: Any, *, shares: bool = False, prompt_tokens: int = 60) -> int:
    reading = dataclasses.replace(probe(model), shares=shares)
    return memory.automatic_rows(model, reading, prompt_tokens=prompt_tokens, new_tokens=40)


@pytest.mark.parametrize("free", [1, GIB // 100, GIB // 10, GIB, 1000 * GIB])
def test_rows_are_twelve_times_a_power_of_two_and_never_fewer(
    free: int, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: free)
    found = rows(model)
    assert found >= 12
    assert found in [12 * 2**n for n in range(9)]


def test_streams_fit_into_the_share_of_free_memory_that_may_be_planned_with(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = model.config
    token = 2 * config.n_layer * config.n_embd * 4  # a key and a value in each layer, float32
    vector = config.vocab_size * 4
    kept = (token * 60 + vector) / 2  # of a prompt and what follows it; two streams share one
    copied = token * (60 + 40 + 40) + 8 * vector
    monkeypatch.setattr(memory, "free_memory", lambda _: int((kept + copied) * 48 / 0.6) + 100)
    assert rows(model) == 48
    monkeypatch.setattr(memory, "free_memory", lambda _: int((kept + copied) * 48 / 0.6) - 100)
    assert rows(model) == 24


def test_streams_that_wait_take_memory_for_their_prompts_alone(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token, vector = 2 * model.config.n_layer * model.config.n_embd * 4, model.config.vocab_size * 4
    kept, own = (token * 60 + vector) / 2, token * 40 + 8 * vector
    needed = 768 * kept + 192 * own  # one in four is decoded at a time on a CPU, unless the model is small
    monkeypatch.setattr(memory, "_CPU_AT_ONCE", 0)
    monkeypatch.setattr(memory, "free_memory", lambda _: int(needed / 0.6) + 100)
    assert rows(model, shares=True) == 768
    monkeypatch.setattr(memory, "free_memory", lambda _: int(needed / 0.6) - 100)
    assert rows(model, shares=True) == 384


def test_the_smaller_a_model_the_more_streams_are_decoded_together(model: Any) -> None:
    parameters = model.num_parameters()
    assert memory.streams_at_once(4000, model, torch.device("cpu")) == min(4000, int(memory._CPU_AT_ONCE / parameters))
    model.num_parameters = lambda: 135_000_000
    assert memory.streams_at_once(4000, model, torch.device("cpu")) == 1000
    assert memory.streams_at_once(600, model, torch.device("cpu")) == 192
    assert memory.streams_at_once(100, model, torch.device("cpu")) == 100


def test_sharing_prompts_makes_room_for_more_streams(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: GIB // 10)
    assert rows(model, prompt_tokens=1000, shares=True) > rows(model, prompt_tokens=1000)
