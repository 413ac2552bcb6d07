"""The attention kernel in Triton's interpreter, against attention written out in float64."""

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

from dino_st.decoding import attention, kernel
from dino_st.decoding.engine import DecodingEngine
from dino_st.decoding.options import DecodingOptions
from dino_st.decoding.runner import probe
from tests.decoding.test_engine import decode_at_once, outcomes, sts_draws


def written_out(
    query: Any, prompt: Any, own: Any, length: int, seen: Any, scaling: float, softcap: float | None, sinks: Any
) -> np.ndarray:
    """Attention of one row: every head by itself, one key after the other, float64."""
    heads, size = query.shape
    result = np.zeros((heads, size))
    repeats = heads // prompt[0].shape[0]
    width = prompt[0].shape[1]
    for head in range(heads):
        keys = [(column, prompt[0][head // repeats, column], prompt[1][head // repeats, column])
                for column in range(width - length, width)]  # fmt: skip
        keys += [(width + column, own[0][head // repeats, column], own[1][head // repeats, column])
                 for column in range(own[0].shape[1])]  # fmt: skip
        scores, values = [], []
        for column, key, value in keys:
            if seen[column]:
                score = scaling * float(query[head] @ key)
                scores.append(score if softcap is None else softcap * np.tanh(score / softcap))
                values.append(value)
        if sinks is not None:
            scores.append(float(sinks[head]))
            values.append(np.zeros(size))
        weights = np.exp(np.array(scores) - max(scores))
        result[head] = (weights / weights.sum()) @ np.array(values)
    return result


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
def test_the_kernel_computes_attention(
    size: int, groups: int, repeats: int, lengths: tuple[int, ...], window: int | None, softcap: Any, sinks: bool
) -> None:
    generator = torch.Generator().manual_seed(size + repeats)
    width, room, columns = max(lengths), 11, 9
    prompt_of_row = [i % len(lengths) for i in range(len(lengths) + 1)]
    rows = len(prompt_of_row)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    query = numbers(rows, groups * repeats, size) * 2
    prompt = numbers(len(lengths), groups, width, size), numbers(len(lengths), groups, width, size)
    buffers = numbers(rows + 2, groups, room, size), numbers(rows + 2, groups, room, size)
    own = buffers[0][:rows, :, :columns], buffers[1][:rows, :, :columns]
    written = np.arange(rows) % columns
    places = written[:, None] - (4 - np.arange(columns)) % columns  # the newest token stands in the middle
    of_row = np.array([lengths[prompt_of_row[row]] for row in range(rows)])
    positions = np.concatenate((np.arange(width) - width + of_row[:, None], of_row[:, None] + places), axis=1)
    seen = np.concatenate((positions[:, :width] >= 0, places >= 0), axis=1)
    if window is not None:
        seen &= positions > (of_row + written)[:, None] - window
    sink = numbers(groups * repeats) if sinks else None
    found = kernel.attend(
        query,
        prompt,
        own,
        prompt_of_row=torch.tensor(prompt_of_row),
        lengths=torch.tensor(of_row),
        places=torch.tensor(places),
        scaling=0.3,
        softcap=softcap,
        hidden=None if window is None else torch.tensor(~seen).unsqueeze(1),
        sinks=sink,
    )
    for row in range(rows):
        expected = written_out(
            query[row].double().numpy(),
            [each[prompt_of_row[row]].double().numpy() for each in prompt],
            [each[row].double().numpy() for each in own],
            int(of_row[row]), seen[row], 0.3, softcap, None if sink is None else sink.double().numpy(),
        )  # fmt: skip
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_texts_written_by_the_kernel_are_those_written_without(
    family: str, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, used, attend = make_model(family, dtype=torch.float32), [], kernel.attend
    assert probe(model).shares
    decode_at_once(monkeypatch, (4, 5))
    options = DecodingOptions(max_new_tokens=6, max_tries=2)
    draws = sts_draws(tokenizer, ["A man is playing a flute."], 1)
    expected = outcomes(DecodingEngine(model, tokenizer, options, seed=1, rows=30).decode(draws))
    monkeypatch.setattr(attention, "_KERNEL_DEVICES", ("cpu",))
    monkeypatch.setattr(kernel, "attend", lambda *given, **named: used.append(1) or attend(*given, **named))
    assert outcomes(DecodingEngine(model, tokenizer, options, seed=1, rows=30).decode(draws)) == expected
    assert used


def test_a_kernel_that_fails_is_given_up_and_said_once(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, options = make_model("llama", dtype=torch.float32), DecodingOptions(max_new_tokens=6, max_tries=2)
    draws = sts_draws(tokenizer, ["A man is playing a flute."], 1)
    engine = DecodingEngine(model, tokenizer, options, seed=1, rows=30)
    expected = outcomes(engine.decode(draws))

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("PTX was compiled with an unsupported toolchain\nand more")

    monkeypatch.setattr(attention, "_KERNEL_DEVICES", ("cpu",))
    monkeypatch.setattr(attention, "_without_kernel", [])
    monkeypatch.setattr(kernel, "attend", fail)
    with caplog.at_level("INFO", logger="dino_st"):
        assert [outcomes(engine.decode(draws)) for _ in range(2)] == [expected] * 2
    assert [record.message for record in caplog.records] == [
        "attention takes several steps instead of one Triton kernel, which is slower: "
        "PTX was compiled with an unsupported toolchain"
    ]


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from dino_st.decoding import kernel

constants = dict(
    has_hidden=True, has_softcap=True, has_sinks=True, padded_heads=16, padded_size=128, block=kernel._KEYS
)
kinds = {"scaling": "fp32", "softcap": "fp32", "hidden": "*u8"}
kinds |= dict.fromkeys(("prompt_of_row", "lengths", "own"), "*i64")
numbers = ("query", "prompt_keys", "prompt_values", "own_keys", "own_values", "sinks", "output")
kinds |= dict.fromkeys(numbers, "*bf16") | dict.fromkeys(constants, "constexpr")
signature = {name: kinds.get(name, "i32") for name in kernel._attend.arg_names}
source = ASTSource(kernel._attend, signature, constants)  # the last one's name changes with versions
print(len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]))
"""


@pytest.mark.slow
def test_the_kernel_compiles_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10_000
