"""Trains the bundled model from the shards of :mod:`tools.bundled_lm.documents`; a rerun goes on where it stopped.

``python -m tools.bundled_lm.train --work DIR --steps 5000``
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dino_st.backends.loading import resolve_dtype

BUCKETS = (24, 32, 40, 56, 80)
"""Lengths that documents are padded to; one compiled graph each."""
TOKENS = 8192
"""Tokens of a batch, padding included."""
SAVE_SECONDS = 300


def build_model(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> LlamaForCausalLM:
    """A small Llama: rotary positions, tied embeddings, heads of 64."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        intermediate_size=width * 11 // 4,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        attn_implementation="eager",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


class Batches:
    """Batches of one bucket each, in an order that depends on the step number alone."""

    def __init__(self, work: Path, eos: int, scale: float) -> None:
        rows: dict[int, list[np.ndarray]] = {bucket: [] for bucket in BUCKETS}
        for path in sorted(work.glob("documents-*.npz")):
            shard = np.load(path)
            for row in np.split(shard["ids"], shard["ends"][:-1]):
                rows[next(bucket for bucket in BUCKETS if len(row) <= bucket)].append(row)
        self.rows = rows
        self.sizes = {bucket: int(scale * TOKENS / bucket) for bucket in BUCKETS}
        plan = [
            (bucket, start)
            for bucket, found in rows.items()
            for start in range(0, len(found) - self.sizes[bucket] + 1, self.sizes[bucket])
        ]
        np.random.default_rng(1).shuffle(plan)
        self.plan, self.eos = plan, eos

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Ids and labels ``(documents, bucket)``; padding is end-of-text in ids and -100 in labels."""
        bucket, start = self.plan[step % len(self.plan)]
        found = self.rows[bucket][start : start + self.sizes[bucket]]
        ids = torch.full((len(found), bucket), self.eos)
        labels = torch.full((len(found), bucket), -100)
        for i, row in enumerate(found):
            ids[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
            labels[i, : len(row)] = ids[i, : len(row)]
        return ids, labels


def optimizers(model: LlamaForCausalLM, *, muon: bool) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms.

    Args:
        model: What to train.
        muon: Whether to use Muon; it computes in bfloat16, which takes hundreds of times as long where it is emulated.
    """
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    held = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in held]
    of_matrices: torch.optim.Optimizer = torch.optim.AdamW(matrices, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.02)
    if muon:
        of_matrices = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.02)
    return [of_matrices, torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0)]


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak rate: a short warm-up, a plateau of a third, then a straight line to nothing."""
    return min(1.0, (step + 1) / 100, max(0.0, 1.5 * (1 - step / steps)))


def loss_function(
    model: LlamaForCausalLM, device: str, compiled: bool, dtype: torch.dtype
) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean loss of a batch in products of the given type and float32 sums."""

    def loss(ids: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            hidden = model.model(ids, use_cache=False).last_hidden_state
            logits = model.lm_head(hidden[:, :-1]).float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())

    return torch.compile(loss, dynamic=False) if compiled else loss


def steps_of(
    work: Path, model: LlamaForCausalLM, steps: int, device: str, scale: float, compiled: bool, share: float
) -> Iterator[str]:
    """Trains; yields a line every so often. Keeps ``checkpoint.pt`` in the work folder."""
    batches = Batches(work, model.config.eos_token_id, scale)
    dtype = resolve_dtype("auto", torch.device(device))
    found, checkpoint = optimizers(model, muon=dtype == torch.bfloat16), work / "checkpoint.pt"
    peaks = [share * optimizer.param_groups[0]["lr"] for optimizer in found]
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        for optimizer, held in zip(found, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)
        start = state["step"]
    loss_of = loss_function(model, device, compiled, dtype)
    began = saved = time.monotonic()
    recent: list[float] = []
    for step in range(start, steps):
        for optimizer, peak in zip(found, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * learning_rate(step, steps)
        ids, labels = (tensor.to(device) for tensor in batches[step])
        loss = loss_of(ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in found:
            optimizer.step()
            optimizer.zero_grad()
        recent.append(float(loss.detach()))
        now = time.monotonic()
        if (step + 1) % 50 == 0:
            rate = (step + 1 - start) * TOKENS * scale / (now - began)
            yield f"step {step + 1}/{steps} of {len(batches)}: loss {np.mean(recent):.3f}, {rate:.0f} tokens/s"
            recent.clear()
        if now - saved > SAVE_SECONDS or step + 1 == steps:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in found], "step": step + 1}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            saved = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that documents.py wrote")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help=f"batches of so many times {TOKENS} tokens")
    parser.add_argument("--no-compile", action="store_true", help="for machines without a C++ compiler")
    parser.add_argument("--start", type=Path, help="a trained model to go on from, with its tokenizer and shape")
    parser.add_argument("--peak", type=float, default=1.0, help="share of the usual learning rates (default: 1)")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.work / "tokenizer")
    model = build_model(tokenizer, arguments.width, arguments.layers)
    if arguments.start is not None:
        model.load_state_dict(LlamaForCausalLM.from_pretrained(arguments.start, dtype=torch.float32).state_dict())
    model = model.to(device)
    print(f"{model.num_parameters() / 1e6:.2f} M parameters on {device}", flush=True)
    compiled = not arguments.no_compile
    for line in steps_of(arguments.work, model, arguments.steps, device, arguments.scale, compiled, arguments.peak):
        print(line, flush=True)
    output = arguments.work / "model"
    model.half().save_pretrained(output)
    tokenizer.save_pretrained(output)
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    (output / "config.json").write_text(json.dumps(config | {"dtype": "float16"}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
