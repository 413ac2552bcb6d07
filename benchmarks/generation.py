"""How fast pairs are generated: our engine, the published algorithm, and what a competent user would write.

    python benchmarks/generation.py --shape gpt2 --fixed-tokens 40 --dtype float32
    python benchmarks/generation.py --model DIR --inputs 64            # natural stops, on shipped sentences
    python benchmarks/generation.py --shape gpt2-xl --device cuda --dtype bfloat16 --inputs 10500 --programs engine
    python benchmarks/generation.py --model DIR --inputs 128 --rows 768 --threads 1 --profile     # where the time goes

The programs write two x2 for each x1 and each of three labels with zero, one and two counter-prompts (sts-x2):

- `engine`: `dino_st.decoding.engine.DecodingEngine`; `engine-copies` is the same with a copy of the prompt's keys and
  values for each stream, as for families that cannot share them (not run unless named).
- `published`: the algorithm of the published DINO code on current transformers: one (x1, label) at a time, its two
  samples and their counter-prompts as the rows of one `model.generate` over 40 tokens, whatever was written before,
  with the debiasing done row by row in a logits processor, and transformers' own top-k and top-p behind it.
- `padded`: one `model.generate` over a left-padded batch of all prompts and counter-prompts of 16 x1, with a vectorised
  logits processor, transformers' own top-k and top-p, the default cache, and an end at the quotation mark.

`generate` draws each row on its own, while a counter-prompt must follow the text of its target prompt. So both
baselines draw inside their logits processor and leave `generate` no choice.

Programs take turns, run by run; medians and ratios of seconds for each x1 are printed. Models made by `--shape` have
random weights, since speed needs no trained ones.

Useful FLOPs count each distinct prompt token once and each decoded token of each stream once:

    tokens × 2 × (parameters without the embedding tables, with the output layer)
    + 4 × layers × width × (sum over those tokens of the positions attended to)

and are compared with a measured ceiling: the rate of a 4096³ (on a CPU 2048³) matrix product of the same dtype.

Needs torch, transformers and numpy alone.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.generation import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dino_st.decoding import engine as decoding_engine
from dino_st.decoding.engine import DecodingEngine, Draw
from dino_st.decoding.options import DecodingOptions
from dino_st.decoding.slots import Slots
from dino_st.forward.probe import probe

SHAPES = {
    "tiny": {"n_embd": 128, "n_layer": 2, "n_head": 2},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "gpt2-xl": {"n_embd": 1600, "n_layer": 48, "n_head": 25},
}
LLAMAS = {
    "smollm2-135m": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 8192,
    }
}  # fmt: skip
TASKS = ("mean the same thing", "are somewhat similar", "are on completely different topics")
COUNTERS: tuple[tuple[int, ...], ...] = ((), (0,), (0, 1))
SAMPLES = 2
SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"


class NumberTokenizer:
    """Stands in for a tokenizer where only ids matter: id 1 is the quotation mark, every other id a word.

    With `every`, one in so many ids is the mark, so that random weights stop by themselves.
    """

    all_special_ids = (0,)
    eos_token_id = 0

    def __init__(self, size: int, every: int | None = None) -> None:
        self._size, self._every = size, every or size

    def get_vocab(self) -> dict[str, int]:
        return {str(i): i for i in range(self._size)}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join('"' if i % self._every == 1 else " w" for i in ids)

    def batch_decode(self, rows: Sequence[Sequence[int]], **_: Any) -> list[str]:
        return [self.decode(row) for row in rows]


class Workload:
    """A model, the prompts of some inputs, and how many tokens to write."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.fixed, self.max_tries, self.scores = arguments.fixed_tokens, arguments.max_tries, arguments.scores
        self.device = torch.device(arguments.device)
        dtype = getattr(torch, arguments.dtype)
        if arguments.model:
            self.tokenizer: Any
            self.tokenizer, self.model = pretrained(Path(arguments.model), dtype)
            sentences = arguments.sentences.read_text(encoding="utf-8").splitlines()
            texts = [sentences[i % len(sentences)] for i in range(arguments.inputs)]
            self.prompts = [[self._encode(task, text) for task in TASKS] for text in texts]
        else:
            ids: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
            torch.manual_seed(0)
            with torch.device(self.device):
                if arguments.shape in LLAMAS:
                    self.model = LlamaForCausalLM(config := LlamaConfig(**LLAMAS[arguments.shape], **ids)).to(dtype)
                else:
                    self.model = GPT2LMHeadModel(config := GPT2Config(**SHAPES[arguments.shape], **ids)).to(dtype)
            self.tokenizer = NumberTokenizer(config.vocab_size, arguments.mark_every)
            self.prompts = random_prompts(arguments.inputs, config.vocab_size)
        self.model = self.model.to(self.device).eval()
        self.model.generation_config.pad_token_id = 0
        if self.fixed is None and not arguments.model and not arguments.mark_every:
            raise SystemExit("random weights never stop by themselves: give --fixed-tokens or --mark-every")
        mark = self.tokenizer.decode([1]) if not arguments.model else '"'
        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        pieces = self.tokenizer.batch_decode([[i] for i in range(min(vocabulary, len(self.tokenizer.get_vocab())))])
        self.marks = torch.tensor([mark in piece for piece in pieces], device=self.device)

    def _encode(self, task: str, text: str) -> tuple[int, ...]:
        prompt = f'Task: Write two sentences that {task}.\nSentence 1: "{text}"\nSentence 2: "'
        return tuple(self.tokenizer(prompt)["input_ids"])

    @property
    def max_new_tokens(self) -> int:
        return int(self.fixed or 40)


def pretrained(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and model from a directory, or from a GGUF file, whose weights are unpacked."""
    if path.suffix != ".gguf":
        return AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    given: dict[str, Any] = {"gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **given)
    if hasattr(transformers, "GgufConfig"):
        given |= {"quantization_config": transformers.GgufConfig(gguf_file=path.name, dequantize=True)}
    return tokenizer, AutoModelForCausalLM.from_pretrained(path.parent, dtype=dtype, **given)


def random_prompts(inputs: int, vocabulary: int) -> list[list[tuple[int, ...]]]:
    """Prompts as long as those of STS Benchmark sentences: a head of 13 to 17 tokens, and a sentence."""
    rng = random.Random(0)
    prompts = []
    for _ in range(inputs):
        length = min(60, max(5, round(rng.lognormvariate(2.5, 0.45))))
        sentence = [rng.randrange(2, vocabulary) for _ in range(length)]
        heads = ([2 + task] * size for task, size in enumerate((14, 13, 15)))
        prompts.append([(*head, *sentence, 7, 8, 9, 10, 11, 12) for head in heads])
    return prompts


# --- the three programs; each takes a workload and the indices of inputs, and returns the number of decoded tokens


def engine(work: Workload, inputs: Sequence[int], rows: int) -> list[int]:
    options = DecodingOptions(max_new_tokens=work.max_new_tokens, max_tries=work.max_tries)
    runner = DecodingEngine(work.model, work.tokenizer, options, seed=0, rows=rows)
    if work.fixed:
        runner._may_end.fill_(False)
    draws = [
        Draw(
            str(i),
            str(label),
            sample,
            work.prompts[i][label],
            tuple(work.prompts[i][c] for c in COUNTERS[label]),
            tuple(work.prompts[i]) if work.scores else (),
        )
        for i in inputs
        for label in range(3)
        for sample in range(SAMPLES)
    ]
    return [len(one.tokens) for one in runner.decode(draws)]


def engine_copies(work: Workload, inputs: Sequence[int], rows: int) -> list[int]:
    """The engine as it runs for families that cannot share prompts."""
    found, decoding_engine.probe = probe, lambda model: replace(probe(model), shares=False, fits_slots=False)
    try:
        return engine(work, inputs, rows)
    finally:
        decoding_engine.probe = found


class PublishedProcessor(LogitsProcessor):  # type: ignore[misc]
    """Debiases the target rows one after the other, then forces each on its counter-rows."""

    def __init__(self, samples: int, counters: int) -> None:
        self.samples, self.counters = samples, counters

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row in range(self.samples):
            others = [row + (c + 1) * self.samples for c in range(self.counters)]
            regular = scores[row].softmax(-1)
            if others:
                biased = scores[others[0]].softmax(-1)
                for other in others[1:]:
                    biased = torch.maximum(biased, scores[other].softmax(-1))
                mask = torch.clamp(biased - regular, min=0)
                regular = regular * torch.clamp(torch.exp(-100.0 * mask), min=0.01)
            for index in (row, *others):
                scores[index] = torch.log(regular / regular.sum())
        tokens = sample(input_ids, scores)
        for row in range(self.samples):
            for index in range(row, len(scores), self.samples):
                tokens[index] = tokens[row]
        return forced(scores, tokens)


def published(work: Workload, inputs: Sequence[int], rows: int) -> list[int]:
    """Always writes `max_new_tokens` tokens, as the published code does."""
    del rows
    for i in inputs:
        for label in range(3):
            prompts = [work.prompts[i][label], *(work.prompts[i][c] for c in COUNTERS[label])]
            batch = [prompt for prompt in prompts for _ in range(SAMPLES)]
            generate(work, batch, PublishedProcessor(SAMPLES, len(prompts) - 1), None)
    return [work.max_new_tokens] * (len(inputs) * 3 * SAMPLES)


class PaddedProcessor(LogitsProcessor):  # type: ignore[misc]
    """Debiases all target rows at once; rows are sorted by draw, each with its counter-rows behind it."""

    def __init__(self, target_of: torch.Tensor, counters_of: torch.Tensor) -> None:
        self.target_of, self.counters_of = target_of, counters_of
        self.targets = target_of.unique()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        probabilities = scores.float().softmax(-1)
        regular = probabilities[self.targets]
        biased = probabilities[self.counters_of].amax(1)
        factor = torch.exp(100.0 * torch.clamp(regular - biased, max=0)).clamp(min=0.01)
        debiased = scores.clone()
        debiased[self.targets] = torch.log(regular * factor)
        return forced(scores, sample(input_ids, debiased)[self.target_of])


def padded(work: Workload, inputs: Sequence[int], rows: int) -> list[int]:
    del rows
    lengths = []
    for start in range(0, len(inputs), 16):
        batch, target_of, counters_of = [], [], []
        for i in inputs[start : start + 16]:
            for label in range(3):
                for _ in range(SAMPLES):
                    target = len(batch)
                    group = [work.prompts[i][label], *(work.prompts[i][c] for c in COUNTERS[label])]
                    batch += group
                    target_of += [target] * len(group)
                    others = list(range(target + 1, target + len(group))) or [target]
                    counters_of.append((others + others)[:2])
        device = work.device
        processor = PaddedProcessor(torch.tensor(target_of, device=device), torch.tensor(counters_of, device=device))
        output = generate(work, batch, processor, None if work.fixed else MarkStops(work.marks))
        targets = output[processor.targets]
        ended = work.marks[targets].int()
        first = torch.where(ended.any(1), ended.argmax(1) + 1, targets.shape[1])
        lengths += (first if work.fixed is None else torch.full_like(first, work.fixed)).tolist()
    return lengths


class MarkStops(StoppingCriteria):  # type: ignore[misc]
    """Ends a row whose newest token contains a quotation mark."""

    def __init__(self, marks: torch.Tensor) -> None:
        self.marks = marks

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return self.marks[input_ids[:, -1]]


def sample(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """What `generate` does with `do_sample`, `top_k=5` and `top_p=0.9`: its own warpers, softmax, multinomial."""
    scores = TopPLogitsWarper(0.9)(input_ids, TopKLogitsWarper(5)(input_ids, scores))
    return torch.multinomial(scores.softmax(-1), 1).squeeze(-1)


def forced(scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Scores under which `generate` can only draw these tokens, since counter-rows must follow their target row."""
    return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)


def generate(work: Workload, batch: Sequence[tuple[int, ...]], processor: Any, stop: Any) -> torch.Tensor:
    width = max(len(prompt) for prompt in batch)
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in batch], device=work.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch], device=work.device)
    output = work.model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        top_k=0,
        top_p=1.0,
        max_new_tokens=work.max_new_tokens,
        min_new_tokens=None if stop else work.max_new_tokens,
        logits_processor=LogitsProcessorList([processor]),
        stopping_criteria=StoppingCriteriaList([stop] if stop else []),
    )
    return output[:, width:]


PROGRAMS: dict[str, Callable[[Workload, Sequence[int], int], list[int]]] = {
    "engine": engine,
    "engine-copies": engine_copies,
    "published": published,
    "padded": padded,
}


# --- measuring


def useful_flops(work: Workload, inputs: Sequence[int], lengths: Sequence[int]) -> float:
    """The formula of the module's docstring; `lengths` are the decoded tokens of each draw, in order."""
    config = work.model.config
    tables = {
        id(p): p.numel()
        for name, p in work.model.named_parameters()
        if "wte" in name or "wpe" in name or "embed" in name
    }
    head = work.model.get_output_embeddings().weight
    weights = sum(p.numel() for p in work.model.parameters()) - sum(tables.values())
    weights += head.numel() if id(head) in tables else 0
    tokens = positions = 0
    draw = 0
    for i in inputs:
        for prompt in set(work.prompts[i]):
            tokens += len(prompt)
            positions += len(prompt) * (len(prompt) + 1) // 2
        for label in range(3):
            for _ in range(SAMPLES):
                for prompt in (label, *COUNTERS[label]):
                    start, new = len(work.prompts[i][prompt]), lengths[draw] - 1
                    tokens += new
                    positions += new * start + new * (new + 1) // 2
                draw += 1
    return 2.0 * tokens * weights + 4.0 * config.num_hidden_layers * config.hidden_size * positions


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product: the median of ten after three to warm up."""
    size = 4096 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for i in range(13):
        start = clock(device)
        a @ b
        if i >= 3:
            seconds.append(clock(device) - start)
    return 2.0 * size**3 / statistics.median(seconds)


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(work: Workload, arguments: argparse.Namespace) -> dict[str, Any]:
    counts = {
        "engine": arguments.inputs,
        "engine-copies": arguments.inputs,
        "published": arguments.slow_inputs,
        "padded": min(16, arguments.inputs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arguments.programs}
    decoded: dict[str, list[int]] = {}
    begun = clock(work.device)
    for name in arguments.programs:
        PROGRAMS[name](work, range(min(2, counts[name])), arguments.rows)  # warm up
    warm = clock(work.device) - begun
    for _ in range(arguments.repeats):
        for name in arguments.programs:
            start = clock(work.device)
            decoded[name] = PROGRAMS[name](work, range(counts[name]), arguments.rows)
            seconds[name].append((clock(work.device) - start) / counts[name])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result: dict[str, Any] = {
        "seconds for each x1": {name: round(value, 5) for name, value in medians.items()},
        "all runs": {name: [round(value, 5) for value in values] for name, values in seconds.items()},
        "seconds of the first two x1, all programs": round(warm, 2),
        "peak memory, MiB": peak_memory(work.device) // 2**20,
    }
    if "engine" in medians:
        rate = useful_flops(work, range(arguments.inputs), decoded["engine"]) / (medians["engine"] * arguments.inputs)
        highest = ceiling(work.device, work.model.dtype)
        result["engine, useful GFLOP/s"] = round(rate / 1e9, 1)
        result["matrix product, GFLOP/s"] = round(highest / 1e9, 1)
        result["share of the matrix product's rate"] = round(rate / highest, 3)
        result["tokens of a text, mean"] = round(float(np.mean(decoded["engine"])), 2)
        result["ratios to engine"] = {
            name: round(value / medians["engine"], 2) for name, value in medians.items() if name != "engine"
        }
    return result


def operations(work: Workload, arguments: argparse.Namespace) -> dict[str, float]:
    """Share of the time in operations that each of the twelve costliest takes while our engine runs.

    On a GPU, too, the share of the whole time in which no kernel runs.
    """
    on_gpu = work.device.type == "cuda"
    engine(work, range(min(2, arguments.inputs)), arguments.rows)  # warm up
    start = clock(work.device)
    engine(work, range(arguments.inputs), arguments.rows)
    whole = clock(work.device) - start
    with torch.profiler.profile() as profile:
        engine(work, range(arguments.inputs), arguments.rows)
    spent = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profile.key_averages()
    }
    total = sum(spent.values())
    costliest = sorted(spent, key=lambda key: -spent[key])[:12]
    shares = {key: round(spent[key] / total, 3) for key in costliest}
    return {"no kernel runs": round(1 - total / 1e6 / whole, 3), **shares} if on_gpu else shares


def step_gaps(work: Workload, arguments: argparse.Namespace) -> dict[str, float]:
    """One step of `rows` streams on a GPU: its time, and the share of it in which no kernel runs; medians of ten."""
    original, found = Slots.step, dict[str, float]()

    def timed(slots: Slots) -> Any:
        flight = original(slots)
        if slots._step is not None and "milliseconds" not in found:
            step, seconds = slots._step, []
            step.run(slots)  # captures, if that is still to be done
            for _ in range(13):
                start = clock(work.device)
                step.run(slots)
                seconds.append(clock(work.device) - start)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                for _ in range(10):
                    step.run(slots)
                clock(work.device)
            kernels = sum(event.self_device_time_total for event in profile.key_averages()) / 10 / 1e6
            whole = statistics.median(seconds[3:])
            found["milliseconds"], found["no kernel runs"] = round(whole * 1e3, 3), round(1 - kernels / whole, 3)
        return flight

    Slots.step = timed  # type: ignore[method-assign]
    try:
        engine(work, range(arguments.inputs), arguments.rows)
    finally:
        Slots.step = original  # type: ignore[method-assign]
    return found


def host(work: Workload, arguments: argparse.Namespace) -> list[str]:
    """The functions in which Python spends most of the time while our engine runs, seconds and calls."""
    engine(work, range(min(2, arguments.inputs)), arguments.rows)  # warm up
    profile = cProfile.Profile()
    profile.runcall(engine, work, range(arguments.inputs), arguments.rows)
    clock(work.device)
    spent: Any = pstats.Stats(profile)
    costliest = sorted(spent.stats.items(), key=lambda item: -item[1][2])[:25]
    return [
        f"{own:.3f} s, {total:.3f} s with what it calls, {calls} calls: {Path(file).name}:{line} {name}"
        for (file, line, name), (calls, _, own, total, _) in costliest
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES | LLAMAS, default="gpt2", help="random weights of this shape")
    parser.add_argument("--model", help="a directory, hub name or GGUF file instead")
    parser.add_argument("--sentences", type=Path, default=SENTENCES, help="x1 for --model, one a line")
    parser.add_argument("--max-tries", type=int, default=1, help="of a draw, in our engine")
    parser.add_argument("--scores", action="store_true", help="our engine scores every text under all three labels")
    parser.add_argument("--fixed-tokens", type=int, help="write exactly so many tokens; without it, stop at the mark")
    parser.add_argument("--mark-every", type=int, help="with random weights, one in so many tokens ends a text")
    parser.add_argument("--inputs", type=int, default=16, help="x1 for engine and padded")
    parser.add_argument("--slow-inputs", type=int, default=1, help="x1 for published")
    parser.add_argument("--rows", type=int, default=192, help="streams that the engine decodes together")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16", "float64"))
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=["engine", "published", "padded"])
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--profile", action="store_true", help="only say where our engine spends its time")
    parser.add_argument("--profile-step", action="store_true", help="only say how long a step of so many rows takes")
    parser.add_argument("--profile-host", action="store_true", help="only say where Python spends its time meanwhile")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.profile_step:
        if not arguments.device.startswith("cuda"):
            raise SystemExit("--profile-step needs a GPU: --device cuda")
        arguments.inputs = arguments.rows // 12  # so many streams, three labels with none to two counter-prompts, twice
    work = Workload(arguments)
    machine = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.processor()
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    if arguments.profile_host:
        found: dict[str, Any] = {"host": host(work, arguments)}
    elif arguments.profile_step:
        found = {"step": step_gaps(work, arguments)}
    else:
        found = {"operations": operations(work, arguments)} if arguments.profile else measure(work, arguments)
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    print(json.dumps({"arguments": given, "machine": machine, **versions} | found, indent=1))


if __name__ == "__main__":
    main()
