"""Self-debiasing of every token, the best of several texts, and plain sampling: which keeps labels apart, at what cost?

    python benchmarks/rerank.py --model HuggingFaceTB/SmolLM2-135M-Instruct --input sentences.txt --work rerank

Cost is counted in tokens that the model runs over. A token of a label-0 text costs three at λ = 100: under the label's
instruction and under those of its two counter-labels. Each candidate of a reranked one costs as much, since writing it
scores it under its own label, so that the best of n costs n times as much; plain sampling costs a third. Each arm and
seed is a directory below `--work`, where the same command goes on.

Printed for each arm: the share of label-0 texts that share a content word with x1 (on topic), of label-1 texts that are
copies of x1, and how many texts came out, with the range over seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from dino_st import DinoDatasetBuilder
from dino_st.backends.answers.comparison import normal_form
from dino_st.data.shards import ShardDirectory

ARMS: dict[str, dict[str, Any]] = {
    "λ = 100": {"decay_constant": 100.0},
    "rerank": {"debias": "rerank"},
    "λ = 0": {"decay_constant": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino-tiny")
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--candidates", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--prompt-format", default="raw")
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    sentences = arguments.input.read_text(encoding="utf-8").splitlines()[: arguments.limit]
    arms = {name: ARMS[name] for name in ("λ = 100", "λ = 0")}
    arms |= {f"rerank, best of {n}": ARMS["rerank"] | {"candidates": n} for n in arguments.candidates}
    report: dict[str, dict[str, str]] = {}
    for name, options in arms.items():
        found = [
            measured(arguments, name, options | {"seed": seed, "samples": 1}, sentences) for seed in arguments.seeds
        ]
        report[name] = {fact: spread([one[fact] for one in found]) for fact in found[0]}
    print(json.dumps(report, indent=1, ensure_ascii=False))


def measured(
    arguments: argparse.Namespace, name: str, options: dict[str, Any], sentences: list[str]
) -> dict[str, float]:
    """What came out of an arm with a seed."""
    path = arguments.work / f"{name.replace(' ', '').replace(',', '-')}-seed{options['seed']}"
    batch = {"prompt_format": arguments.prompt_format, "batch_size": 48, "dtype": "float32"}
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


if __name__ == "__main__":
    main()
