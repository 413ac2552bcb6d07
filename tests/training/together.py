"""What several processes do together in the tests, as `torchrun … together.py DIRECTORY WHAT…`; one does it without."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from torch import distributed
from transformers import BertConfig, BertForMaskedLM, TrainerCallback, set_seed

import dino_st.training.trainer as setup
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import DinoError
from dino_st.training.objective import contrastive_loss, graded_loss
from dino_st.training.options import ContrastiveOptions
from dino_st.training.train import train_contrastive, train_encoder
from tests.cards import compile_templates_once
from tests.training_fixtures import QUICK, make_tokenizer, sentences

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
SHORT: dict[str, Any] = {"learning_rate": 3e-3, "evaluation_steps": 1, "epochs": 2, "device": "cpu", "pooling": "mean"}
TRIPLETS: dict[str, Any] = {"batch_size": 32, "mini_batch_size": 6, **SHORT}
HEADS: dict[str, Any] = {"mlm_weight": 0.1, "mlp_head": "keep"}


def masked_bert(directory: Path, dropout: float = 0.0) -> Path:
    """A tiny BERT of random weights with the head that predicts masked tokens."""
    tokenizer = make_tokenizer(pad=True)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    set_seed(0)
    size: dict[str, Any] = {"vocab_size": len(tokenizer), "num_hidden_layers": 1, "num_attention_heads": 2}
    size |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = BertConfig(hidden_size=32, intermediate_size=64, max_position_embeddings=64, **size)
    BertForMaskedLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def triplet_splits(shift: int = 0) -> DatasetDict:
    """88 triplets to train on, of which no two share a text, and 40 to validate."""
    texts = sentences(256)
    texts = texts[shift:] + texts[:shift]
    rows = {"anchor": texts[:128], "positive": [f"{text} now" for text in texts[:128]], "negative": texts[128:]}
    whole = Dataset.from_dict(rows)
    return DatasetDict(train=whole.select(range(88)), validation=whole.select(range(88, 128)))


def scored_pairs() -> DatasetDict:
    """The triplets' anchors, in turn with a positive (score 1) and a negative (score 0)."""
    return DatasetDict(
        {
            name: split.map(_scored, with_indices=True, remove_columns=split.column_names)
            for name, split in triplet_splits().items()
        }
    )


def _scored(row: dict[str, str], index: int) -> dict[str, Any]:
    kind = ("negative", "positive")[index % 2]
    return {"sentence1": row["anchor"], "sentence2": row[kind], "score": float(index % 2)}


def gradients(directory: Path) -> None:
    """Each loss of 16 rows in float64, and the gradients that the optimizer sees."""
    texts, size = sentences(48), 16 // WORLD
    found = {}
    for name in ("whole", "cached", "cosine", "cosent", "angle"):
        model = load_trainable_encoder(directory / "bert", device="cpu", pooling="cls").double()
        pairs, labels = [texts[:16], texts[16:32]], torch.arange(16).double() / 16
        if name in ("whole", "cached"):
            mini = 4 if name == "cached" else 0
            loss = contrastive_loss(
                model, options=ContrastiveOptions(batch_size=16, mini_batch_size=mini), with_pairs=False
            )
            pairs.append(texts[32:])
        else:
            loss = graded_loss(model, name=name)
        if WORLD > 1:
            wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
            for holder in (loss, getattr(loss, "loss", loss)):
                holder.model = wrapped
        part = slice(RANK * size, (RANK + 1) * size)
        with warnings.catch_warnings():  # as in trainings
            warnings.filterwarnings("ignore", r"torch\.distributed\.nn\.functional\.all_gather", FutureWarning)
            value = loss([dict(model.preprocess(column[part])) for column in pairs], labels[part])
        value.backward()
        value = value.detach().clone()
        if WORLD > 1:
            distributed.all_reduce(value)
        named = {key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None}
        found[name] = {"loss": value / WORLD, **named}
    if RANK == 0:
        torch.save(found, directory / f"gradients-{WORLD}.pt")


def trainings(directory: Path) -> None:
    """Trainings of a few steps by each objective; the trainer's checkpoints are kept."""
    encoder, pairs = directory / "masked-bert", scored_pairs()
    kept = {**SHORT, "keep_checkpoints": True, "batch_size": 32}
    train_contrastive(triplet_splits(), encoder, place(directory, "triplets"), **TRIPLETS, keep_checkpoints=True)
    whole = {**TRIPLETS, "keep_checkpoints": True, "mini_batch_size": 0, "mlm_weight": 0.1, "mlp_head": "train"}
    train_contrastive(triplet_splits(), encoder, place(directory, "whole"), **whole)
    everything = {**TRIPLETS, **HEADS, "keep_checkpoints": True, "loss": "cosent", "pairs_batch_size": 32}
    train_contrastive(triplet_splits(), encoder, place(directory, "everything"), pairs=pairs, **everything)
    train_encoder(pairs, encoder, place(directory, "cosine"), **kept, balanced_batches=True, start_share="auto")
    train_encoder(
        pairs, encoder, place(directory, "joint"), **kept | {"batch_size": 20, "start_share": 0.25}, objective="joint"
    )
    train_encoder(directory / "set", directory / "bert", place(directory, "plain"), **QUICK)


def place(directory: Path, name: str) -> Path:
    return directory / f"{name}-{WORLD}"


def resumed(directory: Path) -> None:
    """With dropout: a training, the same interrupted and continued, and what is made of data that differ."""
    encoder = directory / "dropout-bert"
    train_contrastive(triplet_splits(), encoder, directory / "straight", **TRIPLETS, **HEADS)
    with calling(lambda step: interrupt() if step == 4 else None), contextlib.suppress(KeyboardInterrupt):
        train_contrastive(triplet_splits(), encoder, directory / "resumed", **TRIPLETS, **HEADS)
    (directory / f"interrupted-{RANK}").write_text(
        str(sorted((directory / "resumed/checkpoints").glob("checkpoint-*")))
    )
    train_contrastive(triplet_splits(), encoder, directory / "resumed", **TRIPLETS, **HEADS)
    try:
        train_contrastive(triplet_splits(shift=RANK), encoder, directory / "different", **TRIPLETS)
    except DinoError as error:
        (directory / f"refused-{RANK}").write_text(f"{type(error).__name__}: {error}")


def interrupt() -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def calling(what: Callable[[int], None]) -> Any:
    """Has something done at the end of each step of what is trained meanwhile."""

    class Callback(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            what(state.global_step)

    make = setup.make_trainer

    def made(*arguments: Any) -> Any:
        trainer = make(*arguments)
        trainer.add_callback(Callback())
        return trainer

    setup.make_trainer = made
    try:
        yield
    finally:
        setup.make_trainer = make


def killed(directory: Path) -> None:
    """The command; the second process is killed in its third step, unless this has happened already."""
    from dino_st.__main__ import main

    mark = directory / "killed"

    def end(step: int) -> None:
        if RANK == 1 and step == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    options = [part for name, value in TRIPLETS.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    data, encoder, output = (str(directory / name) for name in ("data", "bert", "out"))
    sys.argv = ["dino-st", "train-contrastive", data, "--encoder", encoder, "--output", output, *options]
    with calling(end):
        main()


def main() -> None:
    compile_templates_once()
    directory, *parts = sys.argv[1:]
    if "gradients" in parts:
        distributed.init_process_group("gloo")
    for part in parts:
        globals()[part](Path(directory))
    if distributed.is_initialized():
        gc.collect()  # what still holds the group would end it a second time, at the interpreter's end
        distributed.barrier()
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
