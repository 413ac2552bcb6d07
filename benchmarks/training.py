"""Measures `dino_st.train_encoder` against plain `SentenceTransformerTrainer` with the same settings.

Both train the same encoder on the same pairs with the same loss, batch size, evaluations and checkpoints, in turn, in
one process: the programs `plain` and `train`, or those of `PROGRAMS` that `--programs` names. Steps a second leave
evaluations and checkpoints out; the seconds of a run have everything in them but the imports. Without `--model` the
encoder has random weights and a bundled tokenizer, so that nothing is downloaded. The figures are printed after each
run, so that those of a run that is cut off are not lost, and their medians at the end.

    python benchmarks/training.py --device cuda [--shape minilm smollm2] [--repeats 3] [--seconds 70]
    python benchmarks/training.py --tiny      # most programs for a moment on the CPU, to see that they run
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import platform
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
import transformers
import transformers.trainer
from datasets import Dataset, DatasetDict
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaModel, PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar

from dino_st.encoders.loading import load_trainable_encoder
from dino_st.models import bundled_directory
from dino_st.training.options import TrainingOptions
from dino_st.training.train import train_encoder
from dino_st.training.trainer import training_arguments

SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"
SHAPES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "minilm": (
        BertConfig,
        BertModel,
        {
            "vocab_size": 30522,
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
    ),
    "smollm2": (
        LlamaConfig,
        LlamaModel,
        {
            "vocab_size": 49152,
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "max_position_embeddings": 2048,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    ),
    "tiny": (
        BertConfig,
        BertModel,
        {
            "vocab_size": 30522,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
        },
    ),
}
PROGRAMS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "train": {},
    "separate": {"one_forward": "off"},
    "sorted": {"sorted_batches": 50},
    "weights": {"sorted_batches": 50, "weights_only": True},
    "compiled": {"torch_compile": True},
}
"""`SentenceTransformerTrainer`, which is None, and `train_encoder` with these options beside the common ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--shape", nargs="+", choices=[*SHAPES], default=["minilm"], help="shapes of encoders with random weights"
    )
    parser.add_argument("--model", help="a real encoder in place of random weights: a directory")
    parser.add_argument("--rows", type=int, default=6400, help="training pairs (default: 6,400)")
    parser.add_argument("--batch-size", type=int, default=32, help="pairs in a step (default: 32)")
    parser.add_argument("--evaluation-steps", type=int, default=100, help="steps between evaluations (default: 100)")
    parser.add_argument("--programs", nargs="+", choices=[*PROGRAMS], default=[*PROGRAMS][:2])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each program (default: 3)")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin no run that would not end within so many seconds"
    )
    parser.add_argument("--tiny", action="store_true", help="most programs for a moment on the CPU")
    parser.add_argument("--output", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    if options.tiny:
        options.device, options.shape = "cpu", ["tiny"]
        options.programs = [name for name in PROGRAMS if name != "compiled"]  # which takes minutes on a CPU
        options.rows, options.evaluation_steps, options.repeats = 320, 4, 1
    figures = measure(options)
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    quieten()
    splits = pairs(options.rows)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        encoders = {options.model: options.model} if options.model else {}
        encoders = encoders or {shape: random_encoder(shape, Path(place, shape)) for shape in options.shape}
        for number, (name, encoder) in enumerate(encoders.items(), start=1):
            until = started + options.seconds * number / len(encoders)
            results[name] = compare(encoder, splits, options, Path(place), until)
    on_gpu = torch.cuda.is_available() and options.device != "cpu"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "pairs": {name: len(split) for name, split in splits.items()},
        "batch size": options.batch_size,
        "steps between evaluations": options.evaluation_steps,
        "encoders": results,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "sentence-transformers": sentence_transformers.__version__,
        },
    }


def quieten() -> None:
    """Leaves the figures alone on the screen."""
    warnings.filterwarnings("ignore")
    for name in ("sentence_transformers", "transformers", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("dino_st.encoders").setLevel(logging.ERROR)  # the tokenizer is not that of the random weights
    disable_progress_bar()


def compare(
    encoder: str, splits: DatasetDict, options: argparse.Namespace, place: Path, until: float
) -> dict[str, Any]:
    """Runs the programs in turn; medians over the runs, and the first program's figures as the measure of the rest."""
    shared = {
        "batch_size": options.batch_size,
        "evaluation_steps": options.evaluation_steps,
        "device": options.device,
        "learning_rate": 1e-6,  # of random weights, which have nothing to learn here
    }
    settings = {name: TrainingOptions(**shared | (PROGRAMS[name] or {})) for name in options.programs}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in options.programs}
    few = DatasetDict(splits | {"train": splits["train"].select(range(2 * options.batch_size))})
    train_encoder(few, encoder, place / "warm-up", options=TrainingOptions(**shared))
    longest: dict[str, float] = {}
    for name in [*options.programs] * options.repeats:
        began = time.monotonic()
        if began + longest.get(name, 0) > until:
            continue
        with tempfile.TemporaryDirectory(dir=place) as output:
            figures = timed(plain if name == "plain" else ours, encoder, splits, Path(output, "out"), settings[name])
        runs[name].append(figures)
        longest[name] = max(longest.get(name, 0), time.monotonic() - began)
        print(f"{Path(encoder).name}, {name}: {json.dumps(figures)}", flush=True)
    medians: dict[str, dict[str, Any]] = {
        name: {part: round(statistics.median(run[part] for run in made), 3) for part in made[0]} | {"runs": len(made)}
        for name, made in runs.items()
        if made
    }
    first = next(iter(medians.values()))
    for found in medians.values():
        found["times the steps a second"] = round(found["steps a second"] / first["steps a second"], 3)
        found["times as fast in all"] = round(first["seconds"] / found["seconds"], 3)
    return medians


class Clock(TrainerCallback):
    """Times the steps of whatever trainer is made while it is installed, apart from evaluations and checkpoints."""

    current: Clock | None = None

    def __init__(self) -> None:
        type(self).current = self
        self.steps, self.seconds, self._since = 0, 0.0, 0.0
        self._begun: int | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begins a stretch at the first step after an evaluation, and ends it at the step before the next."""
        if self._begun is None:
            self._begun, self._since = state.global_step, now()
        elif control.should_evaluate or state.global_step == state.max_steps:
            self.steps += state.global_step - self._begun
            self.seconds += now() - self._since
            self._begun = None


def now() -> float:
    """The time once the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(
    run: Callable[..., Any], encoder: str, splits: DatasetDict, output: Path, options: TrainingOptions
) -> dict[str, float]:
    """Steps a second, seconds of the whole run, and the most memory that tensors took on the GPU."""
    if on_gpu := torch.cuda.is_available() and options.device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with clocked():
        began = now()
        run(encoder, splits, output, options)
        seconds = now() - began
        clock = Clock.current
    if clock is None or not clock.seconds:
        raise SystemExit("no stretch of two steps without an evaluation was timed: give more --rows")
    figures = {"steps a second": clock.steps / clock.seconds, "seconds": seconds}
    if on_gpu:
        figures["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    return {name: round(figure, 3) for name, figure in figures.items()}


@contextlib.contextmanager
def clocked() -> Iterator[None]:
    """Gives a clock to each trainer that is made."""
    Clock.current = None
    transformers.trainer.DEFAULT_CALLBACKS.append(Clock)
    try:
        yield
    finally:
        transformers.trainer.DEFAULT_CALLBACKS.remove(Clock)


def ours(encoder: str, splits: DatasetDict, output: Path, options: TrainingOptions) -> SentenceTransformer:
    """`train_encoder`, as it is."""
    return train_encoder(splits, encoder, output, options=options)


def plain(encoder: str, splits: DatasetDict, output: Path, options: TrainingOptions) -> SentenceTransformer:
    """The trainer as its documentation shows it, with the same settings."""
    settings = training_arguments(options, output / "checkpoints")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=settings.output_dir,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup_steps=options.warmup_share,
        num_train_epochs=options.epochs,
        seed=options.seed,
        bf16=settings.bf16,
        use_cpu=settings.use_cpu,
        dataloader_pin_memory=not settings.use_cpu,
        eval_strategy="steps",
        eval_steps=options.evaluation_steps,
        save_strategy="steps",
        save_steps=options.evaluation_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_validation_spearman_cosine",
        logging_steps=options.evaluation_steps,
        report_to="none",
        disable_tqdm=True,
    )
    model = load_trainable_encoder(encoder, device="cpu")
    model.model_card_data.local_files_only = True
    vars(model.model_card_data)["set_widget_examples"] = lambda _: None  # encodes some, which is no training
    validation = splits["validation"]
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=splits["train"],
        loss=CosineSimilarityLoss(model),
        evaluator=EmbeddingSimilarityEvaluator(
            list(validation["sentence1"]),
            list(validation["sentence2"]),
            list(validation["score"]),
            batch_size=options.batch_size,
            main_similarity="cosine",
            name="validation",
            write_csv=False,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.save_pretrained(str(output))
    return model


def random_encoder(shape: str, directory: Path) -> str:
    """A transformers directory with random weights of a shape and the tokenizer of the bundled language model."""
    config, model, sizes = SHAPES[shape]
    tokenizer = AutoTokenizer.from_pretrained(bundled_directory("dino-tiny"))
    torch.manual_seed(0)
    model(config(**sizes, pad_token_id=tokenizer.pad_token_id)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def pairs(rows: int, seed: int = 0) -> DatasetDict:
    """Pairs as the recipe makes them: two x2 of each score for a sentence and two random ones; a tenth to validate."""
    rng = random.Random(seed)
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    made: list[tuple[str, str, float]] = []
    total = rows + max(rows // 9, 40)
    while len(made) < total:
        first, *others = rng.sample(sentences, 5)
        words = first.split()
        for other in others[:2]:
            others_words = other.split()
            made += [
                (first, " ".join(words[: len(words) // 2] + others_words[len(others_words) // 2 :]), 0.5),
                (first, " ".join(sorted(words, key=lambda _: rng.random())), 0.9),
                (first, other, 0.1),
            ]
        made += [(first, other, 0.0) for other in others[2:]]
    rng.shuffle(made)
    columns = zip(*made[:total], strict=True)
    whole = Dataset.from_dict(dict(zip(("sentence1", "sentence2", "score"), map(list, columns), strict=True)))
    return DatasetDict(train=whole.select(range(rows)), validation=whole.select(range(rows, total)))


if __name__ == "__main__":
    main()
