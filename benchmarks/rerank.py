"""Self-debiasing of every token, the best of several texts, and plain sampling: which keeps labels apart, at what cost?

    python benchmarks/rerank.py --model HuggingFaceTB/SmolLM2-135M-Instruct --input sentences.txt --work rerank
        [--sts-dir DIR]

Cost is counted in tokens that the model runs over. A token of a label-0 text costs three at λ = 100: under the label's
instruction and under those of its two counter-labels. Each candidate of a reranked one costs as much, since writing it
scores it under its own label, so that the best of n costs n times as much; plain sampling costs a third. Each arm and
seed is a directory below `--work`, where the same command goes on.

Printed for each arm: the share of label-0 texts that share a content word with x1 (on topic), of label-1 texts that are
copies of x1, and how many texts came out, with the range over seeds.

With `--sts-dir` the bundled static encoder is then trained on each arm's pairs, and a table printed of its scores on
the seven STS tasks. What is trained on what, and what chooses the learning rate, was written down before the first
score was read, in docs/benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations import best_rate, interval, stored_scores
from datasets import Dataset
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

import mteb_tasks
from dino_st import DinoDatasetBuilder, train_encoder
from dino_st.backends.answers.comparison import normal_form
from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.data.shards import ShardDirectory
from dino_st.evaluation.table import STS_SCORES
from dino_st.models import ENCODER
from dino_st.preparation.prepare import prepare_pairs
from dino_st.tasks.spec import TaskSpec
from dino_st.training.record import read_record

DEBIASED = "λ = 100"
ARMS: dict[str, dict[str, Any]] = {
    DEBIASED: {"decay_constant": 100.0},
    "rerank": {"debias": "rerank"},
    "λ = 0": {"decay_constant": 0.0},
}
RATES = (5e-4, 1e-3, 2e-3)

Pairs = Mapping[tuple[str, float], Mapping[str, Any]]
"""The row of each sentence and score."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino-tiny")
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--candidates", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--prompt-format", default="raw")
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sts-dir", type=Path, help="STS data in SentEval layout: train an encoder and score it")
    parser.add_argument("--learning-rate", type=float, help="of every row, instead of choosing one for each")
    arguments = parser.parse_args()
    logging.getLogger("dino_st").setLevel(logging.WARNING)
    sentences = arguments.input.read_text(encoding="utf-8").splitlines()[: arguments.limit]
    arms = {name: ARMS[name] for name in (DEBIASED, "λ = 0")}
    arms |= {f"rerank, best of {n}": ARMS["rerank"] | {"candidates": n} for n in arguments.candidates}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for seed in arguments.seeds:
        for name, options in arms.items():
            found[name].append(measured(arguments, name, options | {"seed": seed, "samples": 1}, sentences))
    report = {name: {fact: spread([one[fact] for one in every]) for fact in every[0]} for name, every in found.items()}
    print(json.dumps(report, indent=1, ensure_ascii=False), flush=True)
    if arguments.sts_dir is not None:
        print(scored(arguments, arms, sentences))


def place(arguments: argparse.Namespace, name: str, seed: int) -> Path:
    """The directory of an arm and seed."""
    return Path(arguments.work / f"{name.replace(' ', '').replace(',', '-')}-seed{seed}")


def measured(
    arguments: argparse.Namespace, name: str, options: dict[str, Any], sentences: list[str]
) -> dict[str, float]:
    """What came out of an arm with a seed."""
    path = place(arguments, name, options["seed"])
    batch = {"prompt_format": arguments.prompt_format, "batch_size": arguments.batch_size, "dtype": "float32"}
    builder = DinoDatasetBuilder(arguments.model, **options, **batch)
    counts = builder.generate_shards(path, sentences, show_progress=True)
    rows = ShardDirectory(path).to_dataset().to_list()
    zeros, ones = ([row for row in rows if row["score"] == score] for score in (0.0, 1.0))
    return {
        "texts": len(rows),
        "tries": counts["tries"],
        "on topic, label 0": share(zeros, lambda row: bool(content(row["sentence1"]) & content(row["sentence2"]))),
        "copies, label 0": share(zeros, is_copy),
        "copies, label 1": share(ones, is_copy),
    }


def is_copy(row: dict[str, Any]) -> bool:
    """Whether x2 is x1 but for case and punctuation."""
    return normal_form(row["sentence1"]) == normal_form(row["sentence2"])


def content(text: str) -> set[str]:
    """The words of a text that are no stop words."""
    return {word for word in normal_form(text).split() if word not in ENGLISH_STOP_WORDS}


def share(rows: list[dict[str, Any]], is_one: Any) -> float:
    """The share of rows for which something holds."""
    return sum(bool(is_one(row)) for row in rows) / max(1, len(rows))


def spread(values: list[float]) -> str:
    """The mean and the range over seeds."""
    digits = 0 if all(float(value).is_integer() and value > 1 for value in values) else 3
    return f"{statistics.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


# The encoder's score


def scored(arguments: argparse.Namespace, arms: Mapping[str, dict[str, Any]], sentences: Sequence[str]) -> str:
    """The table of an encoder's scores: means over seeds, and differences to λ = 100, paired by seed."""
    warnings.filterwarnings("ignore", module="mteb")
    tasks = mteb_tasks.select_tasks("sts", sts_dir=arguments.sts_dir)
    trained: dict[str, dict[int, Pairs]] = {}
    for seed in arguments.seeds:
        for name, pairs in comparable(arguments, arms, sentences, seed).items():
            trained.setdefault(name, {})[seed] = pairs
    rows = {"untrained": ("", [stored_scores(arguments.work, "untrained", ENCODER, tasks)])}
    for name, of_seeds in trained.items():
        rates = RATES if arguments.learning_rate is None else [arguments.learning_rate]
        runs = {rate: {seed: train(arguments, name, seed, rate, of_seeds[seed]) for seed in of_seeds} for rate in rates}
        means = {rate: statistics.mean(map(validation, every.values())) for rate, every in runs.items()}
        rate = best_rate(name, means)
        scores = [stored_scores(arguments.work, path.name, path, tasks) for path in runs[rate].values()]
        judged = [run | {"validation": validation(path)} for run, path in zip(scores, runs[rate].values(), strict=True)]
        rows[name] = f"{statistics.mean(map(len, of_seeds.values())):.0f}, {rate:g}", judged
    return as_markdown(rows)


def comparable(
    arguments: argparse.Namespace, arms: Mapping[str, dict[str, Any]], sentences: Sequence[str], seed: int
) -> dict[str, Pairs]:
    """The pairs of each arm that all arms have and none as a copy, which no preparation keeps; as many of each.

    Of a reranked arm there is a second set: of as many sentences as cost what λ = 100 costs for all.
    """
    every = {}
    for name in arms:
        rows = ShardDirectory(place(arguments, name, seed)).to_dataset().to_list()
        every[name] = {(row[SENTENCE1], row[SCORE]): row for row in rows if row[SENTENCE1] != row[SENTENCE2]}
    common = [key for key in every[DEBIASED] if all(key in pairs for pairs in every.values())]
    found: dict[str, Pairs] = {name: {key: pairs[key] for key in common} for name, pairs in every.items()}
    for name, options in arms.items():
        if "candidates" in options:
            few = set(sentences[: round(len(sentences) * cost(1) / cost(options["candidates"]))])
            found[f"{name}, {len(few)} sentences"] = {key: row for key, row in found[name].items() if key[0] in few}
    return found


def cost(candidates: int) -> int:
    """Streams of a sentence under its labels and their counter-labels, where so many texts are compared."""
    counters = (len(label.counter_labels) for label in TaskSpec.load("sts-x2").labels.values())
    return sum((candidates if count else 1) * (1 + count) for count in counters)


def train(arguments: argparse.Namespace, name: str, seed: int, rate: float, pairs: Pairs) -> Path:
    """The bundled static encoder, trained on pairs by the published recipe; the same seed splits and shuffles."""
    path = Path(f"{place(arguments, name, seed)}-encoder-{rate:g}")
    record = read_record(path)
    if record is None or record.status != "complete":
        raw = Dataset.from_list(
            [{column: row[column] for column in (SENTENCE1, SENTENCE2, SCORE)} for row in pairs.values()]
        )
        train_encoder(prepare_pairs(raw, seed=seed), ENCODER, path, learning_rate=rate, seed=seed)
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return path


def validation(path: Path) -> float:
    """Spearman × 100 on the generated validation split, of the checkpoint that was kept."""
    record = read_record(path)
    if record is None or record.best is None:
        raise RuntimeError(f"{path}: no score on the validation split")
    return 100 * record.best.spearman


def as_markdown(rows: Mapping[str, tuple[str, list[dict[str, float]]]]) -> str:
    """The table of the scores."""
    heads = [
        "pairs, learning rate",
        *STS_SCORES.columns.values(),
        "Avg.",
        f"difference to {DEBIASED}",
        "generated validation",
    ]
    lines = [f"| arm | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    base = [run["average"] for run in rows[DEBIASED][1]]
    for name, (what, runs) in rows.items():
        means = [f"{statistics.mean(run[column] for run in runs):.2f}" for column in (*STS_SCORES.columns, "average")]
        gains = [run["average"] - other for run, other in zip(runs, base, strict=False)]
        gain = "" if name in ("untrained", DEBIASED) else interval(gains)
        judged = [run["validation"] for run in runs if "validation" in run]
        cells = [what, *means, gain, f"{statistics.mean(judged):.2f}" if judged else ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
