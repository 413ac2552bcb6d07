"""What it costs to store every pair's log-probabilities under all labels while generating.

    python benchmarks/label_scores.py --model dino-tiny --inputs 200 --repeats 5

Runs without and with `score_labels` take turns; medians of seconds and their ratio are printed. The texts must be the
same, and are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import transformers

from dino_st import DinoDatasetBuilder
from dino_st.data.columns import LOG_PROBS

SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino-tiny")
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()[: arguments.inputs]
    options = {"device": arguments.device, "dtype": arguments.dtype}
    builders = {scored: DinoDatasetBuilder(arguments.model, score_labels=scored, **options) for scored in (False, True)}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for builder in builders.values():
        builder.generate(sentences[:20])
    for _ in range(arguments.repeats):
        rows = {}
        for scored, builder in builders.items():
            start = time.perf_counter()
            rows[scored] = builder.generate(sentences)
            seconds[scored].append(time.perf_counter() - start)
        if rows[True].remove_columns(LOG_PROBS).to_list() != rows[False].to_list():
            raise SystemExit("scoring changed what is written")
    medians = {scored: statistics.median(found) for scored, found in seconds.items()}
    report = {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "seconds without": [round(value, 2) for value in seconds[False]],
        "seconds with": [round(value, 2) for value in seconds[True]],
        "with over without": round(medians[True] / medians[False], 3),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
