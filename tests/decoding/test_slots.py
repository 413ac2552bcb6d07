"""Decoding as on a GPU, on the CPU: slots, steps of fixed shape, and what is read a step behind."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from dino_st import forward
from dino_st.decoding import slots
from dino_st.decoding.drawing import TokenDrawing
from dino_st.decoding.engine import DecodingEngine, Draw
from dino_st.decoding.slots import Slots, _Step
from dino_st.forward import fused, kernels, probe
from dino_st.forward.slot_cache import TOGETHER, SlotCache, groups_by_prompt
from dino_st.tasks.prompts import encode_prompt
from tests import reference
from tests.conftest import FAMILIES
from tests.decoding.test_engine import OPTIONS, count_attention, decode_at_once, outcomes, reference_outcomes, sts_draws
from tests.decoding.test_scoring import scored_draws


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Decodes on a CPU as on a GPU, in slots; a list that grows with every use of their attention."""
    monkeypatch.setattr(probe, "SLOT_DEVICES", ("cpu",))
    monkeypatch.setattr(slots, "_FEWEST", 3)
    return count_attention(monkeypatch, SlotCache)


@pytest.mark.parametrize("decay_constant", [100.0, 0.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_in_slots_draws_the_tokens_of_the_slow_reference(
    family: str,
    decay_constant: float,
    make_model: Any,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    attended: list[int],
) -> None:
    model = make_model(family)
    assert probe.probe(model).fits_slots
    decode_at_once(monkeypatch, (3, 9))
    options = dataclasses.replace(OPTIONS, decay_constant=decay_constant)
    draws, used = sts_draws(tokenizer), len(attended)
    engine = DecodingEngine(model, tokenizer, options, seed=7, rows=30)
    expected = reference_outcomes(model, tokenizer, draws, options)
    assert outcomes(engine.decode(draws)) == expected
    assert outcomes(engine.decode(draws[:5])) == expected[:5]
    assert len(attended) > used
    written = [tokenizer.decode(tokens) for _, _, tokens in expected]
    assert any('"' in text for text in written), "the comparison says nothing unless some text ends at a mark"
    if (family, decay_constant) != ("phi", 0.0):  # whose texts are all cut at a mark inside
        assert any(text for text, _, _ in expected)


@pytest.mark.parametrize("counters", [1, 2, 3])
def test_any_number_of_counter_prompts_the_papers_formula_and_all_tokens(
    counters: int, make_model: Any, tokenizer: Any, attended: list[int]
) -> None:
    model = make_model("llama")
    options = dataclasses.replace(OPTIONS, decay_floor=0.0, top_k=0)
    texts = ["Task: one", "Task: two, a longer one", "Sentence", "A cat"][: 1 + counters]
    prompts = [encode_prompt(f'{text} "', tokenizer) for text in texts]
    draws = [Draw("", "y", sample, prompts[0], tuple(prompts[1:])) for sample in range(6)]
    drawn = DecodingEngine(model, tokenizer, options, seed=1, rows=100).decode(draws)
    expected = [reference.generate(model, tokenizer, prompts, (1, "", "y", d.sample), options) for d in draws]
    assert outcomes(drawn) == expected
    assert attended


@pytest.mark.parametrize("tokens", [1, 2, 16])
def test_texts_and_scores_are_those_of_rows_that_are_shared(
    tokens: int, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, options = make_model("llama"), dataclasses.replace(OPTIONS, max_new_tokens=tokens)
    draws = scored_draws(tokenizer)
    by_rows = DecodingEngine(model, tokenizer, options, seed=3, rows=24)
    assert by_rows._slots is None, "a CPU has no slots"
    expected = by_rows.decode(draws)
    monkeypatch.setattr(probe, "SLOT_DEVICES", ("cpu",))
    monkeypatch.delitem(probe._known, model)
    engine = DecodingEngine(model, tokenizer, options, seed=3, rows=24)
    assert engine._slots is not None
    for _ in range(2):
        found = engine.decode(draws)
        assert outcomes(found) == outcomes(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.rejections == other.rejections
            assert one.log_probs == (other.log_probs and pytest.approx(other.log_probs, abs=1e-9))


def test_the_rows_of_a_batchs_steps_do_not_depend_on_the_batches_before(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, attended: list[int]
) -> None:
    decode_at_once(monkeypatch, (1, 100))
    model, draws, run, sizes = make_model("llama"), sts_draws(tokenizer), _Step.run, []

    def noted(step: _Step, held: Slots) -> None:
        sizes.append(step.sizes)
        run(step, held)

    monkeypatch.setattr(_Step, "run", noted)
    engine = DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=36)
    engine.decode(draws)
    before = sizes[:]
    sizes.clear()
    engine.decode(draws[:4])
    after, sizes[:] = sizes[:], []
    DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=36).decode(draws[:4])
    assert sizes == after != before


def test_where_memory_runs_out_in_a_step_halves_are_decoded(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, attended: list[int]
) -> None:
    engine = DecodingEngine(make_model("llama"), tokenizer, OPTIONS, seed=7, rows=36)
    expected, run = outcomes(engine.decode(sts_draws(tokenizer))), _Step.run

    def small(step: _Step, held: Slots) -> None:
        if step.sizes[1] > 14:
            raise torch.OutOfMemoryError("CUDA out of memory")
        run(step, held)

    engine = DecodingEngine(engine._model.model, tokenizer, OPTIONS, seed=7, rows=36)
    monkeypatch.setattr(_Step, "run", small)
    assert outcomes(engine.decode(sts_draws(tokenizer))) == expected
    assert engine.rows <= 14


def graphs(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None, largest: int = 0) -> list[str]:
    """Stands in for CUDA graphs: what is captured does not run, and a replay does it all; or larger ones fail."""
    done: list[str] = []
    captured: list[Any] = []
    work = _Step._work

    class Graph:
        def __init__(self) -> None:
            self.work: Any = None

        def replay(self) -> None:
            done.append("replay")
            self.work()

    @contextmanager
    def capture(graph: Graph, pool: Any) -> Iterator[None]:
        captured.append(graph)
        try:
            yield
        except RuntimeError:  # torch's out-of-memory is one
            raise RuntimeError("capture is not valid")  # noqa: B904  # as torch does at the end of a capture
        finally:
            captured.pop()
        done.append("capture")

    def during(step: _Step, held: Slots) -> None:
        if captured:
            if error is not None and step.sizes[1] > largest:
                raise error
            captured[-1].work = lambda: work(step, held)
        else:
            work(step, held)

    monkeypatch.setattr(_Step, "_work", during)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return done


def test_a_step_is_captured_once_for_each_number_of_rows_and_then_replayed(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, attended: list[int]
) -> None:
    model = make_model("llama")
    draws = sts_draws(tokenizer)
    expected = outcomes(DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30).decode(draws))
    done = graphs(monkeypatch)
    engine = DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30)
    assert engine._slots is not None
    engine._slots.captures = True
    assert [outcomes(engine.decode(draws)) for _ in range(2)] == [expected] * 2
    assert done.count("capture") == len(engine._slots._steps) > 1
    assert done.count("replay") > done.count("capture")


def test_where_memory_runs_out_while_a_step_is_captured_halves_are_decoded_with_smaller_graphs(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, attended: list[int]
) -> None:
    model, draws = make_model("llama"), sts_draws(tokenizer)
    expected = outcomes(DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=36).decode(draws))
    done = graphs(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), largest=14)
    engine = DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=36)
    assert engine._slots is not None
    engine._slots.captures = True
    assert outcomes(engine.decode(draws)) == expected
    assert engine._slots.captures
    assert engine.rows <= 14
    assert "replay" in done


def test_a_step_that_cannot_be_captured_runs_as_it_is_and_that_is_said_once(
    make_model: Any,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    attended: list[int],
) -> None:
    model = make_model("llama")
    draws = sts_draws(tokenizer)
    expected = outcomes(DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30).decode(draws))
    graphs(monkeypatch, RuntimeError("operation not permitted when stream is capturing\nand more"))
    engine = DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30)
    assert engine._slots is not None
    engine._slots.captures = True
    with caplog.at_level(logging.INFO, logger="dino_st"):
        assert [outcomes(engine.decode(draws)) for _ in range(2)] == [expected] * 2
    assert [record.message for record in caplog.records] == [
        "a decoding step cannot be captured as a CUDA graph, which is slower: operation not permitted when stream is "
        "capturing"
    ]


def test_a_model_whose_slots_differ_from_its_own_attention_goes_without_and_says_so(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probe, "SLOT_DEVICES", ("cpu",))
    attend = SlotCache.attend
    monkeypatch.setattr(SlotCache, "attend", lambda *given: attend(*given) * 1.01)
    model = make_model("llama")
    with caplog.at_level(logging.INFO, logger="dino_st"):
        engines = [DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30) for _ in range(2)]
    assert [record.message for record in caplog.records] == [
        "models of type llama decode without CUDA graphs, which is slower"
    ]
    assert [engine._slots for engine in engines] == [None, None]
    assert probe.probe(model).shares


def test_without_triton_decoding_takes_several_steps_and_says_so_once(
    make_model: Any,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    attended: list[int],
) -> None:
    model, draws = make_model("llama", dtype=torch.float32), sts_draws(tokenizer)[:4]
    expected = outcomes(DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30).decode(draws))
    monkeypatch.setattr(kernels, "_DEVICES", ("cpu",))
    monkeypatch.setattr(kernels, "_without_kernel", [])
    monkeypatch.setitem(sys.modules, "dino_st.forward.triton_kernels", None)
    monkeypatch.delattr(forward, "triton_kernels", raising=False)
    engine = DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30)
    with caplog.at_level(logging.INFO, logger="dino_st"):
        assert [outcomes(engine.decode(draws)) for _ in range(2)] == [expected] * 2
    [record] = caplog.records
    assert "which is slower: import of dino_st.forward.triton_kernels halted" in record.message


@pytest.mark.parametrize("top_k", [0, 5])
def test_draws_without_a_target_get_some_token_whatever_stands_in_their_rows(top_k: int) -> None:
    draws = TokenDrawing(dataclasses.replace(OPTIONS, top_k=top_k), torch.tensor([2]), torch.float32)
    logits, rows = torch.full((3, 11), torch.nan), torch.tensor([[-1, -1], [2, -1]])
    logits[2] = torch.linspace(0, 1, 11)
    tokens, _ = draws.draw(logits, draws.normalise(logits), rows, torch.rand(2, dtype=torch.float64))
    assert all(0 <= token < 11 for token in tokens.tolist())


@given(st.lists(st.integers(0, 5), max_size=40))
def test_every_row_is_in_one_group_and_groups_have_one_prompt(prompts: list[int]) -> None:
    members = groups_by_prompt(np.array(prompts, dtype=np.int64))
    assert sorted(members[members >= 0].tolist()) == list(range(len(prompts)))
    for group in members:
        rows = group[group >= 0]
        assert len({prompts[row] for row in rows}) == 1
        assert (group[: len(rows)] >= 0).all()
    fewest = sum(-(-prompts.count(each) // TOGETHER) for each in set(prompts))
    assert members.shape == (fewest, TOGETHER)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("family", "norms", "activations"),
    [("llama", 5, 0), ("gemma2", 9, 2), ("qwen3", 9, 0), ("gpt2", 0, 2), ("gpt_neox", 0, 0)],
)
def test_norms_and_activations_in_one_kernel_are_those_of_the_model(
    family: str, norms: int, activations: int, dtype: torch.dtype, make_model: Any
) -> None:
    model = make_model(family, dtype=dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(torch.linspace(-0.3, 0.3, len(weight)).to(dtype))
    found = fused._fused(model)
    assert sum(function is fused._gelu for _, function in found) == activations
    assert len(found) == norms + activations
    generator = torch.Generator().manual_seed(0)
    for module, function in found:
        width = next((len(weight) for weight in module.parameters()), 8)
        hidden = torch.randn(3, 2, width, generator=generator).to(dtype)
        rounding = 1e-5 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(function(hidden), module(hidden), rtol=rounding, atol=rounding)


def test_the_two_forms_of_gelu_are_told_apart() -> None:
    exact, tanh = torch.nn.GELU(), torch.nn.GELU("tanh")
    model: Any = torch.nn.Sequential(tanh, exact)
    model.device = torch.device("cpu")
    assert [module for module, _ in fused._fused(model)] == [tanh]


def test_a_norm_with_a_hook_or_other_arithmetic_is_left_alone(make_model: Any) -> None:
    model = make_model("llama", dtype=torch.float32)
    everything = len(fused._fused(model))
    vars(model.model.norm)["forward"] = lambda hidden: hidden
    type_of_norm = type(model.model.layers[0].input_layernorm)
    other = type("OtherRMSNorm", (type_of_norm,), {"forward": lambda self, hidden: functional.relu(hidden)})
    model.model.layers[0].input_layernorm.__class__ = other
    assert len(fused._fused(model)) == everything - 2


def test_modules_are_as_they_were_after_decoding(make_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama", dtype=torch.float32)
    plans = torch.backends.cuda.cudnn_sdp_enabled()
    with fused.replaced(fused.fused_forwards(model)):
        assert "forward" not in vars(model.model.norm), "a CPU gains nothing"
    monkeypatch.setattr(fused, "_DEVICES", ("cpu",))
    during = []

    def look() -> None:
        during.append(("forward" in vars(model.model.norm), torch.backends.cuda.cudnn_sdp_enabled()))
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"), fused.replaced(fused.fused_forwards(model)):
        look()
    assert during == [(True, False)]
    assert "forward" not in vars(model.model.norm)
    assert torch.backends.cuda.cudnn_sdp_enabled() == plans
