"""Log-probabilities of written texts under every label's prompt, against the slow reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dino_st.decoding import engine as engine_module
from dino_st.decoding.batch import StreamBatch, token_log_probs
from dino_st.decoding.engine import DecodingEngine, Draw
from dino_st.decoding.options import DecodingOptions
from tests import reference
from tests.conftest import FAMILIES
from tests.decoding.test_engine import sts_draws

OPTIONS = DecodingOptions(max_new_tokens=16, max_tries=3, top_k=60, top_p=0.98)


def scored_draws(tokenizer: Any) -> list[Draw]:
    """The draws of the STS task, each scored after the prompts of all three labels of its x1."""
    draws = sts_draws(tokenizer)
    targets = {(draw.x1, draw.label): draw.target for draw in draws}
    return [replace(draw, scored=tuple(targets[draw.x1, label] for label in ("1", "0.5", "0"))) for draw in draws]


def reference_log_prob(model: Any, prompt: tuple[int, ...], tokens: tuple[int, ...], end: int) -> float:
    ids, total = list(prompt), 0.0
    for token in tokens:
        total += float(np.log(reference.next_probabilities(model, ids, end)[token]))
        ids.append(token)
    return total


@pytest.mark.parametrize("decay_constant", [100.0, 0.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_label_scores_the_tokens_that_were_drawn(
    family: str, decay_constant: float, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Norms of Gemma go through float32, whose last digit depends on the processor and on what is computed together.
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    model = make_model(family)
    options = replace(OPTIONS, decay_constant=decay_constant)
    draws = scored_draws(tokenizer)
    drawn = DecodingEngine(model, tokenizer, options, seed=3, rows=24).decode(draws)
    written = [(draw, one) for draw, one in zip(draws, drawn, strict=True) if one.text is not None]
    assert written, "the comparison says nothing unless some text ends at a mark"
    for draw, one in written[:: max(1, len(written) // 5)]:
        expected = [reference_log_prob(model, prompt, one.tokens, tokenizer.eos_token_id) for prompt in draw.scored]
        assert one.log_probs == pytest.approx(expected, abs=1e-6)


def test_scoring_changes_no_text_and_a_draw_without_a_text_has_no_scores(make_model: Any, tokenizer: Any) -> None:
    model = make_model("llama")
    engine = DecodingEngine(model, tokenizer, replace(OPTIONS, max_tries=1), seed=3, rows=24)
    plain, scored = engine.decode(sts_draws(tokenizer)), engine.decode(scored_draws(tokenizer))
    assert [one.tokens for one in plain] == [one.tokens for one in scored]
    assert all(one.log_probs is None for one in plain)
    assert [one.log_probs is None for one in scored] == [one.text is None for one in scored]
    assert {one.text is None for one in scored} == {True, False}


@pytest.mark.parametrize("tokens", [1, 40, 10_000])
def test_the_size_of_a_chunk_changes_no_score(
    tokens: int, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DecodingEngine(make_model("gpt2"), tokenizer, OPTIONS, seed=3, rows=1000)
    whole = [one.log_probs for one in engine.decode(scored_draws(tokenizer)) if one.log_probs]
    monkeypatch.setitem(engine_module._TOKENS, "cpu", tokens)
    chunked = [one.log_probs for one in engine.decode(scored_draws(tokenizer)) if one.log_probs]
    assert np.allclose(whole, chunked, atol=1e-9)


@pytest.mark.parametrize("entries", [1, 1000, 10**9])
def test_the_size_of_a_slice_of_probabilities_changes_nothing(
    entries: int, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DecodingEngine(make_model("gpt2", dtype=torch.float32), tokenizer, OPTIONS, seed=3, rows=1000)
    draws = scored_draws(tokenizer)
    expected = [(one.tokens, one.tries, one.log_probs) for one in engine.decode(draws)]
    monkeypatch.setitem(engine_module._ENTRIES, "cpu", entries)
    assert [(one.tokens, one.tries, one.log_probs) for one in engine.decode(draws)] == expected


def test_a_token_that_is_hardly_possible_keeps_its_log_probability(make_model: Any, tokenizer: Any) -> None:
    model = DecodingEngine(make_model("gpt2", dtype=torch.float32), tokenizer, OPTIONS, seed=3, rows=9)._model
    draw = next(draw for draw in scored_draws(tokenizer) if draw.streams > 1)
    batch = StreamBatch([draw], model, model.read_prompts([*draw.prompts, *draw.scored]), steps=1, most_rows=9)
    logits = torch.zeros(1, draw.streams, 7)
    logits[0, 1:, 4] = -200  # less than any number of single precision, as a probability
    place = np.zeros(1, np.int64)
    batch.record(place, place, logits, torch.softmax(logits, dim=-1), torch.tensor([4]))
    others = [-200 - np.log(6)] * (draw.streams - 1)
    assert batch.log_probs([1])[0] == pytest.approx([-np.log(7), *others])


def test_log_probs_of_tokens_are_those_of_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, -torch.inf], [2.0, 2.0, 2.0]])
    found = token_log_probs(logits, torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([np.log(np.e / (1 + np.e)), np.log(1 / 3)])
