"""How many draws change when the batch has another size: the price of float32 and bfloat16.

    python benchmarks/reproducibility.py --model dino-tiny --inputs 200 --dtype float64 float32 bfloat16

In float64 none should. In the narrower types a matrix product of another shape may round differently, and λ = 100
turns a difference in the last bits into another token now and then. Every size is compared with the first one; a draw
has changed if its text has, or if it was given up in one run only.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
import transformers

from dino_st import DinoDatasetBuilder

SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"


def written(builder: DinoDatasetBuilder, sentences: list[str]) -> dict[tuple[int, float, int], str]:
    """Texts by input, score and sample."""
    rows = builder.generate(sentences)
    return {(row["x1_index"], row["score"], row["sample"]): row["sentence2"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino-tiny")
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--dtype", nargs="+", default=["float64", "float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[768, 192, 24])
    parser.add_argument("--decay-constant", type=float, default=100.0)
    arguments = parser.parse_args()
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()[: arguments.inputs]
    draws, report = len(sentences) * 6, {}
    for dtype in arguments.dtype:
        texts = []
        for size in arguments.batch_sizes:
            options = {"device": arguments.device, "decay_constant": arguments.decay_constant, "batch_size": size}
            texts.append(written(DinoDatasetBuilder(arguments.model, dtype=dtype, **options), sentences))
        first = texts[0]
        changed = [sum(other.get(name) != first.get(name) for name in {*first, *other}) for other in texts[1:]]
        report[dtype] = {
            f"{size} instead of {arguments.batch_sizes[0]}": f"{number} of {draws} ({number / draws:.2%})"
            for size, number in zip(arguments.batch_sizes[1:], changed, strict=True)
        }
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps({"versions": versions, "changed draws": report}, indent=1))


if __name__ == "__main__":
    main()
