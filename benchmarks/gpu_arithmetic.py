"""Is what a GPU computes right? Triton's kernels against float64, and whole texts against those of the CPU.

    python benchmarks/gpu_arithmetic.py                  # on the first GPU
    TRITON_INTERPRET=1 python benchmarks/gpu_arithmetic.py --device cpu

Attention and the debiased draw are compared with the steps that they replace, in float64, on fresh random numbers; then
small models of three families write the same draws on the CPU in float64 and on the device in float64, float32 and
bfloat16, in slots and by shared rows. Prints a line each; ends with 1 where something is wrong: attention further away
than rounding, other tokens drawn from the same logits, or other texts in float64.

Needs torch, transformers, NumPy and Triton alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from typing import Any

import numpy as np
import torch
from generation import COUNTERS, NumberTokenizer, random_prompts
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from dino_st.decoding.drawing import TokenDrawing
from dino_st.decoding.engine import DecodingEngine, Draw, Drawn
from dino_st.decoding.options import DecodingOptions
from dino_st.forward import kernels, probe
from dino_st.forward.attention import Scoring
from dino_st.forward.cache import PackedStates
from dino_st.forward.slot_cache import Rows, SlotCache, groups_by_prompt

SHAPES = (
    (64, 25, 1, None, None),
    (64, 3, 3, None, None),
    (80, 2, 1, None, None),
    (96, 1, 16, 20, None),
    (128, 2, 4, 7, None),
    (256, 1, 4, 16, 5.0),
)
"""Head size, key heads, query heads of each, window, soft cap."""

ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
VOCABULARY = 301


def attention_error(device: torch.device, dtype: torch.dtype, shape: tuple[Any, ...]) -> float:
    """How far the kernel's attention lies from float64, as a share of its norm."""
    size, groups, repeats, window, softcap = shape
    lengths, rows, room = np.array([1, 37, 200]), 11, 39
    starts, prompt = lengths.cumsum() - lengths, np.arange(rows) % 3

    def numbers(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, device=device).to(dtype)

    def mask(_: Any, __: Any, queries: Any, keys: Any) -> Any:
        return (keys <= queries) & (keys > queries - window)

    kept = numbers(238, groups, size), numbers(238, groups, size)
    own = numbers(rows + 1, groups, room, size), numbers(rows + 1, groups, room, size)
    query, new = numbers(rows, groups * repeats, size) * 2, (numbers(rows, groups, size), numbers(rows, groups, size))
    of_rows = np.arange(rows)[::-1], starts[prompt], lengths[prompt], np.arange(rows) * 5 % room
    found, scoring = [], Scoring(size**-0.5, mask if window else None, softcap)
    for wider in (dtype, torch.float64):
        layers = [(kept[0].to(wider), kept[1].to(wider))]
        places = torch.tensor(lengths, device=device), torch.tensor(starts, device=device)
        states = PackedStates({}, places[0], 200, layers, numbers(1, 1).to(wider), places[1])
        cache = SlotCache(states, rows + 1, room, 200)
        if (cache._kernel is not None) != (wider == dtype):
            raise SystemExit("the kernels are not in use")
        for target, source in zip(cache.layers[0].own, own, strict=True):
            target.copy_(source)
        tensors = [torch.tensor(each.copy(), device=device) for each in (*of_rows, groups_by_prompt(prompt))]
        cache.arrange(Rows(*tensors))
        cache.update(*(each.to(wider).unsqueeze(2) for each in new), 0)
        found.append(cache.attend(0, query.to(wider), scoring).double())
    return float((found[0] - found[1]).norm() / found[1].norm())


def drawing_error(device: torch.device, vocabulary: int) -> tuple[float, float]:
    """Share of draws that differ from those in float64, and the largest error of a log-probability."""
    logits = torch.randn(96, vocabulary, device=device) * 4
    rows = torch.arange(96, device=device).view(32, 3)
    uniform, nothing = torch.rand(32, dtype=torch.float64, device=device), torch.tensor([0], device=device)
    wide = logits.double()
    by_kernel = TokenDrawing(DecodingOptions(), nothing, logits.dtype)
    by_steps = TokenDrawing(DecodingOptions(), nothing, wide.dtype)
    tokens, scores = by_kernel.draw(logits, by_kernel.normalise(logits), rows, uniform)
    expected, log_probs = by_steps.draw(wide, by_steps.normalise(wide), rows, uniform)
    return float((tokens != expected).float().mean()), float((scores - log_probs).abs().max())


class Tokenizer(NumberTokenizer):
    """One in seventeen tokens is the mark."""

    def __init__(self) -> None:
        super().__init__(VOCABULARY, 17)


def families() -> dict[str, Any]:
    """Small models of random weights, scaled up so that they prefer some tokens."""
    ids: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    shape: dict[str, Any] = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 3, **ids}
    gemma = Gemma3TextConfig(
        **shape, num_attention_heads=4, num_key_value_heads=1, head_dim=32, sliding_window=16, vocab_size=VOCABULARY
    )
    torch.manual_seed(1)
    made = {
        "llama": LlamaForCausalLM(
            LlamaConfig(**shape, num_attention_heads=6, num_key_value_heads=2, vocab_size=VOCABULARY)
        ),
        "gpt2": GPT2LMHeadModel(GPT2Config(n_embd=96, n_layer=3, n_head=3, vocab_size=VOCABULARY, **ids)),
        "gemma3": Gemma3ForCausalLM(gemma),
    }
    for model in made.values():
        for weight in model.parameters():
            weight.data.mul_(3 if weight.ndim > 1 else 1)
    return made


def write(model: Any, inputs: int) -> tuple[list[Drawn], DecodingEngine]:
    """Texts of some inputs under three labels, scored under each."""
    prompts = random_prompts(inputs, VOCABULARY)
    draws = [
        Draw(str(i), str(label), sample, own[label], tuple(own[c] for c in COUNTERS[label]), tuple(own))
        for i, own in enumerate(prompts)
        for label in range(3)
        for sample in range(2)
    ]
    options = DecodingOptions(max_new_tokens=24, max_tries=3, top_k=20)
    engine = DecodingEngine(model, Tokenizer(), options, seed=3, rows=300)
    return engine.decode(draws), engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--inputs", type=int, default=60, help="x1 for which small models write; 0 leaves them out")
    arguments = parser.parse_args()
    device, failed = torch.device(arguments.device), False
    kernels._DEVICES = (device.type,)
    if importlib.util.find_spec("triton") is None:
        print("skipped: there is no Triton here")
        sys.exit(device.type != "cpu")
    torch.manual_seed(0)
    for dtype in (torch.float32,) if device.type == "cpu" else ROUNDING:
        error = max(attention_error(device, dtype, shape) for shape in SHAPES)
        failed |= not error <= ROUNDING[dtype]
        print(f"attention, {dtype}: at most {error:.1e} of its norm from float64", flush=True)
    for vocabulary in (50257, 49152):
        differs, error = drawing_error(device, vocabulary)
        failed |= differs > 0.05 or not error <= 1e-4
        print(f"draws of {vocabulary} tokens: {differs:.1%} differ, log-probabilities by {error:.1e}", flush=True)
    ways = [("slots", "float64"), ("slots", "float32"), ("rows", "float32")]
    if device.type != "cpu":  # the interpreter has no bfloat16 worth the name
        ways.append(("slots", "bfloat16"))
    for name, model in families().items() if arguments.inputs else ():
        probe.SLOT_DEVICES = ()
        expected, _ = write(model.to("cpu", torch.float64).eval(), arguments.inputs)
        for way, kind in ways:
            probe.SLOT_DEVICES = (device.type,) if way == "slots" else ()
            moved = model.to(device, getattr(torch, kind))
            probe._known.pop(moved, None)
            start = time.perf_counter()
            drawn, engine = write(moved, arguments.inputs)
            seconds = time.perf_counter() - start
            same = np.mean([one.tokens == other.tokens for one, other in zip(drawn, expected, strict=True)])
            failed |= (kind == "float64" and same < 1) or (engine._slots is None) == (way == "slots")
            steps = list(engine._slots._steps.values()) if engine._slots else []
            captured = sum(step._graph is not None for step in steps)
            print(
                f"{name}, {way}, {kind}: {same:.1%} of the texts are those of the CPU in float64, {captured} of "
                f"{len(steps)} steps captured, {seconds:.1f} s",
                flush=True,
            )
    sys.exit(failed)


if __name__ == "__main__":
    main()
