"""Measures `dino_st.evaluate_encoder` against plain `mteb.evaluate` on the seven STS tasks.

Both score the same model on the same data in the same process, several times in turn; nothing is read from stored
results. Prints the times, how many sentences each encoded, and the largest difference between the scores.

    python benchmarks/evaluation.py --model my-encoder --sts-dir SentEval/data/downstream [--repeats 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import torch
from sentence_transformers import SentenceTransformer

import mteb_tasks
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.evaluation.evaluate import evaluate_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a directory, or a name on the hub")
    parser.add_argument("--sts-dir", required=True, help="STS data in SentEval layout")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each (default: 3)")
    parser.add_argument("--batch-size", type=int, default=32, help="sentences encoded at once (default: 32)")
    parser.add_argument("--device", default="auto", help="auto, or a device of torch (default: auto)")
    parser.add_argument("--threads", type=int, help="threads of torch on the CPU (default: torch's own choice)")
    parser.add_argument("--output", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=FutureWarning, module="mteb")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="mteb")
    figures = measure(options)
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    model = load_trainable_encoder(options.model, device=options.device)
    count = _count_sentences(model)

    def tasks() -> list[Any]:
        return mteb_tasks.select_tasks("sts", sts_dir=options.sts_dir)

    def plain() -> dict[str, float]:
        encode_kwargs: Any = {"batch_size": options.batch_size, "show_progress_bar": False}
        result = mteb.evaluate(model, tasks(), cache=None, encode_kwargs=encode_kwargs, show_progress_bar=False)
        return {task.task_name: 100 * task.get_score() for task in result.task_results}

    def once() -> dict[str, float]:
        table = evaluate_encoder({"model": model}, tasks=tasks(), batch_size=options.batch_size, show_progress=False)
        return dict(table.scores["model"])

    once()  # warms up
    runs = {"mteb.evaluate": plain, "evaluate_encoder": once}
    figures: dict[str, Any] = {name: {"seconds": []} for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            figures[name] |= _timed(run, count, figures[name]["seconds"])
    for name in runs:
        figures[name]["median_seconds"] = round(statistics.median(figures[name]["seconds"]), 3)
    mine, theirs = figures["evaluate_encoder"], figures["mteb.evaluate"]
    return {
        "model": str(options.model),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "mteb": mteb.__version__},
        **figures,
        "speedup": round(theirs["median_seconds"] / mine["median_seconds"], 2),
        "largest_score_difference": max(abs(mine["scores"][t] - theirs["scores"][t]) / 100 for t in mine["scores"]),
    }


def _timed(run: Callable[[], dict[str, float]], count: list[int], seconds: list[float]) -> dict[str, Any]:
    count[0] = 0
    start = time.perf_counter()
    scores = run()
    seconds.append(round(time.perf_counter() - start, 3))
    return {"sentences_encoded": count[0], "scores": scores}


def _count_sentences(model: SentenceTransformer) -> list[int]:
    """Makes a model count the sentences that it encodes."""
    count, encode = [0], model.encode

    def counting(inputs: Any, *args: Any, **options: Any) -> Any:
        count[0] += len(inputs)
        return encode(inputs, *args, **options)

    model.encode = counting  # type: ignore[method-assign]
    return count


if __name__ == "__main__":
    main()
