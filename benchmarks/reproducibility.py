"""How many draws change when the batch has another size, and what the output layer in bfloat16 loses on a CPU.

    python benchmarks/reproducibility.py --model dino-tiny --inputs 200 --dtype float64 float32 bfloat16
    python benchmarks/reproducibility.py --model DIRECTORY --inputs 24 --output-layer

In float64 no draw should change. In the narrower types a matrix product of another shape may round differently, and
λ = 100 turns a difference in the last bits into another token now and then. Every size is compared with the first one;
a draw has changed if its text has, or if it was given up in one run only.

With `--output-layer` the logits at every token of the inputs' prompts are computed from the same hidden states in
bfloat16 and as decoding does it (`decoding.head`: in bfloat16, of which the likeliest are summed once more in float32),
and compared with the products in float32: probabilities, normalisers, and the order of the five likeliest tokens.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
import transformers

from dino_st import DinoDatasetBuilder
from dino_st.backends.loading import load_causal_model
from dino_st.forward import head
from dino_st.tasks.prompts import build_prompts
from dino_st.tasks.spec import TaskSpec

SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"


def written(builder: DinoDatasetBuilder, sentences: list[str]) -> dict[tuple[int, float, int], str]:
    """Texts by input, score and sample."""
    rows = builder.generate(sentences)
    return {(row["x1_index"], row["score"], row["sample"]): row["sentence2"] for row in rows}


def changed_draws(arguments: argparse.Namespace, sentences: list[str]) -> dict[str, dict[str, str]]:
    """Draws whose text another batch size changes, for each data type."""
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
    return report


@torch.inference_mode()
def output_layer_errors(name: str, sentences: list[str]) -> dict[str, object]:
    """How far a bfloat16 model's logits lie from those of float32 products, at every token of prompts."""
    model, tokenizer = load_causal_model(name, device=torch.device("cpu"), dtype=torch.bfloat16)
    spec, layer, hidden = TaskSpec.load("sts-x2"), model.get_output_embeddings(), []
    handle = layer.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0][0].clone()))
    for x1 in sentences:
        model(**tokenizer(build_prompts(spec, "1", x1).target, return_tensors="pt"))
    handle.remove()
    found: dict[str, list[torch.Tensor]] = {"bfloat16": [], "as decoding does it": []}
    for states in (each.unsqueeze(1) for each in hidden):
        expected = head._buffered_product(layer)(states).squeeze(1)
        share = expected.softmax(dim=-1)
        for way, product in (("bfloat16", layer), ("as decoding does it", head._corrected_product(layer))):
            logits = product(states).squeeze(1).float()
            error = (logits.softmax(dim=-1) - share).abs() / share
            found[way].append(
                torch.stack(
                    (
                        *(error.where(share > least, 0).amax(dim=1) for least in (0.01, 0.0001)),
                        (logits.logsumexp(dim=1) - expected.logsumexp(dim=1)).abs(),
                        (logits.topk(5).indices != expected.topk(5).indices).any(dim=1).float(),
                    )
                )
            )
    report: dict[str, object] = {"rows": sum(map(len, hidden))}
    for way, parts in found.items():
        frequent, rare, normaliser, order = torch.cat(parts, dim=1)
        report[way] = {
            "largest error of a probability above 0.01": f"{frequent.max():.3%}",
            "of one above 0.0001": f"{rare.max():.2%}",
            "of a normaliser, nats": f"{normaliser.max():.5f}",
            "rows with another order of the five likeliest": f"{order.mean():.1%}",
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dino-tiny")
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--dtype", nargs="+", default=["float64", "float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[768, 192, 24])
    parser.add_argument("--decay-constant", type=float, default=100.0)
    parser.add_argument("--output-layer", action="store_true", help="compare logits in place of draws")
    arguments = parser.parse_args()
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()[: arguments.inputs]
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if arguments.output_layer:
        report = {"output layer": output_layer_errors(arguments.model, sentences)}
    else:
        report = {"changed draws": changed_draws(arguments, sentences)}
    print(json.dumps({"versions": versions, **report}, indent=1))


if __name__ == "__main__":
    main()
