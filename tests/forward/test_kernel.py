"""Triton's kernels in its interpreter, against attention written out in float64 and the steps that they replace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason='needs Triton: pip install "dino-st[kernel]"')
if os.environ["TRITON_INTERPRET"] != "1":
    pytest.skip("needs TRITON_INTERPRET=1", allow_module_level=True)

from dino_st.decoding.drawing import TokenDrawing
from dino_st.decoding.engine import DecodingEngine
from dino_st.decoding.options import DecodingOptions
from dino_st.forward import kernels, probe, triton_kernels
from dino_st.forward.attention import Scoring
from dino_st.forward.cache import PackedStates
from dino_st.forward.slot_cache import Rows, SlotCache, groups_by_prompt
from tests.decoding.test_engine import decode_at_once, outcomes, sts_draws


def written_out(query: Any, keys: Any, values: Any, seen: Any, scaling: float, softcap: Any, sinks: Any) -> np.ndarray:
    """Attention of one row: every head by itself, one key after the other, float64."""
    heads, size = query.shape
    result = np.zeros((heads, size))
    repeats = heads // keys.shape[1]
    for head in range(heads):
        scores, weighted = [], []
        for place in range(len(keys)):
            if seen[place]:
                score = scaling * float(query[head] @ keys[place, head // repeats])
                scores.append(score if softcap is None else softcap * np.tanh(score / softcap))
                weighted.append(values[place, head // repeats])
        if sinks is not None:
            scores.append(float(sinks[head]))
            weighted.append(np.zeros(size))
        weights = np.exp(np.array(scores) - max(scores))
        result[head] = (weights / weights.sum()) @ np.array(weighted)
    return result


@pytest.mark.parametrize("by", ["kernel", "several steps"])
@pytest.mark.parametrize(
    ("size", "groups", "repeats", "lengths", "window", "softcap", "sinks"),
    [
        (64, 3, 3, (1, 37, 200), None, None, False),
        (80, 2, 1, (5, 64, 65), None, None, False),
        (96, 1, 16, (1, 200), 20, None, False),
        (128, 2, 4, (33, 90), 7, None, False),
        (256, 1, 4, (40, 3), 16, 5.0, False),
        (256, 1, 1, (100, 1), None, 50.0, False),
        (64, 1, 8, (31, 32), 12, None, True),
        (16, 2, 2, (1, 2), 1, None, False),
    ],
)
def test_attention_over_a_prompt_and_a_slot(
    size: int,
    groups: int,
    repeats: int,
    lengths: tuple[int, ...],
    window: int | None,
    softcap: Any,
    sinks: bool,
    by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(size + repeats)
    room, rows = 19, 3 * len(lengths) + 2
    monkeypatch.setattr(kernels, "_DEVICES", ("cpu",) if by == "kernel" else ())

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    of_all = np.array(lengths)
    starts, prompt = of_all.cumsum() - of_all, np.arange(rows) % len(lengths)
    kept = numbers(sum(lengths), groups, size), numbers(sum(lengths), groups, size)
    states = PackedStates({}, torch.tensor(of_all), max(lengths), [kept], numbers(1, 1), torch.tensor(starts))
    cache = SlotCache(states, rows + 2, room, states.width)
    own = cache.layers[0].own
    for each in own:
        each.copy_(numbers(*each.shape))
    before = [each.clone() for each in own]
    slots, written = np.arange(rows)[::-1] + 1, np.arange(rows) * 3 % room
    tensors = (torch.tensor(each.copy()) for each in (slots, starts[prompt], of_all[prompt], written))
    cache.arrange(Rows(*tensors, torch.tensor(groups_by_prompt(prompt))))
    query, new = numbers(rows, groups * repeats, size) * 2, (numbers(rows, groups, size), numbers(rows, groups, size))
    sink = numbers(groups * repeats) if sinks else None
    cache.update(new[0].unsqueeze(2), new[1].unsqueeze(2), 0)

    def mask(_: Any, __: Any, queries: Any, keys: Any) -> Any:
        return (keys <= queries) & (keys > queries - window)

    found = cache.attend(0, query, Scoring(0.3, None if window is None else mask, softcap, sink))
    assert (cache._kernel is not None) == (by == "kernel")
    for row in range(rows):
        own_places, first = written[row], starts[prompt[row]]
        both = []
        for of_prompts, of_slots, newest in zip(kept, before, new, strict=True):
            own_tokens = of_slots[slots[row], :, :own_places].transpose(0, 1)
            parts = (of_prompts[first : first + of_all[prompt[row]]], own_tokens, newest[row].unsqueeze(0))
            both.append(torch.cat(parts).double().numpy())
        keys, values = both
        ago = np.arange(len(keys))[::-1]
        seen = np.ones(len(keys), dtype=bool) if window is None else ago < window
        expected = written_out(
            query[row].double().numpy(), keys, values, seen, 0.3, softcap, None if sink is None else sink.double()
        )
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=1e-4, atol=2e-5)
        for of_slots, newest in zip(own, new, strict=True):
            assert torch.equal(of_slots[slots[row], :, own_places], newest[row])
    touched = torch.zeros(own[0].shape[:3], dtype=torch.bool)
    touched[torch.tensor(slots.copy()), :, torch.tensor(written)] = True
    assert torch.equal(own[0][~touched], before[0][~touched])


@pytest.mark.parametrize("decay_constant", [0.0, 100.0])
@pytest.mark.parametrize("vocabulary", [7, 4096, 9000])
def test_tokens_drawn_by_the_kernel_are_those_drawn_without(
    vocabulary: int, decay_constant: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    options = DecodingOptions(decay_constant=decay_constant)
    wide = torch.randn(9, vocabulary + 3, generator=generator) * 3
    logits, rows = wide[:, :vocabulary], torch.tensor([[0, 1, 2], [3, -1, -1], [-1, -1, -1], [8, 4, -1], [5, 6, 7]])
    uniform, found = torch.rand(5, generator=generator, dtype=torch.float64), []
    for devices in ((), ("cpu",)):
        monkeypatch.setattr(kernels, "_DEVICES", devices)
        draws = TokenDrawing(options, torch.tensor([2, vocabulary - 1]), torch.float32)
        assert (draws._kernel is not None) == bool(devices)
        given = logits.clone() if not devices else logits
        found.append(draws.draw(given, draws.normalise(given), rows, uniform))
    (expected, scores), (tokens, log_probs) = found
    is_drawn = rows[:, 0] >= 0
    assert torch.equal(tokens[is_drawn], expected[is_drawn])
    torch.testing.assert_close(log_probs[rows >= 0], scores[rows >= 0])
    assert len(set(tokens[is_drawn].tolist())) > 1


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_texts_written_by_the_kernel_are_those_written_without(
    family: str, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, used, attend = make_model(family, dtype=torch.float32), [], triton_kernels.attend
    assert probe.probe(model).shares
    decode_at_once(monkeypatch, (4, 5))
    options = DecodingOptions(max_new_tokens=6, max_tries=2)
    draws = sts_draws(tokenizer, ["A man is playing a flute."], 1)
    expected = outcomes(DecodingEngine(model, tokenizer, options, seed=1, rows=30).decode(draws))
    monkeypatch.setattr(probe, "SLOT_DEVICES", ("cpu",))
    monkeypatch.setattr(kernels, "_DEVICES", ("cpu",))
    monkeypatch.setattr(triton_kernels, "attend", lambda *given, **named: used.append(1) or attend(*given, **named))
    monkeypatch.delitem(probe._known, model)
    assert outcomes(DecodingEngine(model, tokenizer, options, seed=1, rows=30).decode(draws)) == expected
    assert used


def test_a_kernel_that_fails_is_given_up_and_said_once(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, options = make_model("llama", dtype=torch.float32), DecodingOptions(max_new_tokens=6, max_tries=2)
    draws = sts_draws(tokenizer, ["A man is playing a flute."], 1)
    expected = outcomes(DecodingEngine(model, tokenizer, options, seed=1, rows=30).decode(draws))

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("PTX was compiled with an unsupported toolchain\nand more")

    monkeypatch.setattr(probe, "SLOT_DEVICES", ("cpu",))
    monkeypatch.setattr(kernels, "_DEVICES", ("cpu",))
    monkeypatch.setattr(kernels, "_without_kernel", [])
    monkeypatch.setattr(triton_kernels, "attend", fail)
    monkeypatch.delitem(probe._known, model)
    with caplog.at_level("INFO", logger="dino_st"):
        engine = DecodingEngine(model, tokenizer, options, seed=1, rows=30)
        assert [outcomes(engine.decode(draws)) for _ in range(2)] == [expected] * 2
    assert [record.message for record in caplog.records] == [
        "decoding does without Triton's kernels, which is slower: PTX was compiled with an unsupported toolchain"
    ]


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from dino_st.forward import triton_kernels

floats = {"scaling": "fp32", "softcap": "fp32", "decay": "fp32", "floor": "fp32"}
floats |= dict.fromkeys(("logits", "result", "normalisers", "values", "sums"), "*fp32")
whole = {"hidden": "*u8"} | dict.fromkeys(("members", "slots", "starts", "lengths", "written", "rows", "ids"), "*i64")
half = ("query", "key", "value", "prompt_keys", "prompt_values", "own_keys", "own_values", "sinks", "output")
attention = dict(has_hidden=True, has_softcap=True, has_sinks=True, padded_size=128, block=16, together=4)
for compiled, constants, kinds in (
    (triton_kernels._attend, attention | {"lanes": 16}, whole | floats | dict.fromkeys(half, "*bf16")),
    (triton_kernels._normalisers, {"block": 4096}, floats),
    (triton_kernels._candidates, {"block": 4096, "count": 5}, floats | whole),
):
    kinds = kinds | dict.fromkeys(constants, "constexpr")
    signature = {name: kinds.get(name, "i32") for name in compiled.arg_names}
    source = ASTSource(compiled, signature, constants)  # the last one's name changes with versions
    print(len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]))
"""


@pytest.mark.slow
def test_the_kernel_compiles_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert [int(size) > 3_000 for size in done.stdout.split()] == [True] * 3
