"""How time and memory of generation grow: with the number of inputs, the vocabulary, the number of counter-labels.

    python benchmarks/scaling.py time --inputs 2000 --repeats 5      # N and 2 N in turn, ratio of medians
    python benchmarks/scaling.py memory --inputs 5000 100000         # peak resident memory, one process each
    python benchmarks/scaling.py vocabulary --values 6000 12000 24000 48000
    python benchmarks/scaling.py counters --values 0 1 2 4

For `time` and `memory` the model is a two-layer Llama with random weights and the bundled tokenizer, whose quotation
mark is made likely, so that many texts end within their eight tokens. The inputs are numbered variants of the shipped
sentences. `time` also prints the token-forwards for each input, prompts included, which should not depend on the number
of inputs; `memory` generates into a directory through `DinoDatasetBuilder`, as the command line does.

`vocabulary` and `counters` run the engine alone on a two-layer GPT-2 with random weights, 128 draws of 20 tokens for 64
inputs, one process for each value: one counter-label and so large a vocabulary, or 6,000 tokens and so many
counter-labels for every draw. Memory is what the peak grows by while it decodes.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from generation import NumberTokenizer
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dino_st import DinoDatasetBuilder
from dino_st.decoding.engine import DecodingEngine, Draw
from dino_st.decoding.options import DecodingOptions
from dino_st.models import bundled_directory

SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"
TOKENS = 8
_CHILDREN = ("child", "child-vocabulary", "child-counters")
"""What a process of its own is asked for."""


def make_builder() -> tuple[DinoDatasetBuilder, list[int]]:
    """A builder on a tiny model, and a list to which every forward pass adds its number of tokens."""
    tokenizer = AutoTokenizer.from_pretrained(bundled_directory("dino-tiny"))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    mark = tokenizer.convert_tokens_to_ids('"')

    def favour_the_mark(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
        logits[..., mark] += 0.7
        return logits

    model.get_output_embeddings().register_forward_hook(favour_the_mark)
    forwards: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: forwards.append(given["input_ids"].numel()), with_kwargs=True)
    builder = DinoDatasetBuilder((model, tokenizer), max_new_tokens=TOKENS, max_tries=1, batch_size=192)
    return builder, forwards


def make_inputs(number: int) -> Iterator[str]:
    """Distinct inputs of which any first part has the lengths of the whole."""
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    return (f"{i:06d} {sentences[i % len(sentences)]}" for i in range(number))


def measure_time(inputs: int, repeats: int) -> dict[str, Any]:
    """Seconds and token-forwards for N and 2 N inputs, taking turns."""
    builder, forwards = make_builder()
    builder.generate(make_inputs(200))
    seconds: dict[int, list[float]] = {inputs: [], 2 * inputs: []}
    each: dict[int, float] = {}
    for _ in range(repeats):
        for number, found in seconds.items():
            forwards.clear()
            start = time.perf_counter()
            builder.generate(make_inputs(number))
            found.append(time.perf_counter() - start)
            each[number] = sum(forwards) / number
    medians = {number: statistics.median(found) for number, found in seconds.items()}
    return {
        "seconds": {number: round(value, 2) for number, value in medians.items()},
        "all runs": {number: [round(value, 2) for value in found] for number, found in seconds.items()},
        "time for 2 N over time for N": round(medians[2 * inputs] / medians[inputs], 3),
        "token-forwards for each input": {number: round(value, 3) for number, value in each.items()},
    }


def measure_memory(numbers: list[int]) -> dict[str, Any]:
    """Peak resident memory of a process for each number of inputs."""
    peaks = {}
    for number in numbers:
        command = [sys.executable, __file__, "child", "--inputs", str(number)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        peaks[number] = json.loads(output.splitlines()[-1])
    first, last = (peaks[number]["peak MiB"] for number in (numbers[0], numbers[-1]))
    return {"processes": peaks, "peak of the last over peak of the first": round(last / first, 3)}


def child(number: int) -> dict[str, Any]:
    """Generates into a directory and reports the process's peak."""
    builder, _ = make_builder()
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        rows = builder.generate_shards(directory, make_inputs(number))["rows"]
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"rows": rows, "seconds": round(seconds, 1), "peak MiB": peak}


def measure_growth(what: str, values: list[int], repeats: int) -> dict[str, Any]:
    """Seconds, and memory beyond what is there before, for each size of one thing."""
    found = {}
    for value in values:
        command = [sys.executable, __file__, f"child-{what}", "--values", str(value), "--repeats", str(repeats)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[value] = json.loads(output.splitlines()[-1])
    first = found[values[0]]["seconds"]
    return {
        "processes": found,
        "seconds over those of the first": {v: round(found[v]["seconds"] / first, 2) for v in found},
    }


def growth_child(vocabulary: int, counters: int, repeats: int) -> dict[str, Any]:
    """Decodes the same draws several times and reports the median time, and what the process's peak grew by."""
    config = GPT2Config(vocab_size=vocabulary, n_embd=128, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    heads = [[2 + label] * 14 for label in range(1 + counters)]
    draws = []
    for i in range(64):
        sentence = [2 + (37 * i + j) % (vocabulary - 2) for j in range(8 + i % 8)]
        target, *others = ((*head, *sentence) for head in heads)
        draws += [Draw(str(i), "0", sample, target, tuple(others)) for sample in range(2)]
    engine = DecodingEngine(
        model, NumberTokenizer(vocabulary), DecodingOptions(max_new_tokens=20, max_tries=1), seed=0, rows=192
    )
    engine._may_end.fill_(False)  # no text ends early, so that every value has the same work
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        engine.decode(draws)
        seconds.append(time.perf_counter() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    return {"seconds": round(statistics.median(seconds[1:]), 3), "memory MiB": grown}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("time", "memory", "vocabulary", "counters", *_CHILDREN))
    parser.add_argument("--inputs", type=int, nargs="+", help="numbers of inputs, for time and memory")
    parser.add_argument("--values", type=int, nargs="+", help="sizes to try, for vocabulary and counters")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    numbers = arguments.inputs if arguments.what in ("time", "memory", "child") else arguments.values
    if not numbers:
        parser.error("give --inputs for time and memory, --values for vocabulary and counters")
    match arguments.what:
        case "time":
            found = measure_time(numbers[0], arguments.repeats)
        case "memory":
            found = measure_memory(numbers)
        case "child":
            found = child(numbers[0])
        case "child-vocabulary":
            found = growth_child(numbers[0], 1, arguments.repeats)
        case "child-counters":
            found = growth_child(6000, numbers[0], arguments.repeats)
        case what:
            found = measure_growth(what, numbers, arguments.repeats)
    if arguments.what in _CHILDREN:
        print(json.dumps(found))
    else:
        print(json.dumps({"python": platform.python_version(), "torch": torch.__version__} | found, indent=1))


if __name__ == "__main__":
    main()
