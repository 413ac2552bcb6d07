"""Tiny models and data made on the spot; nothing is downloaded."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

ANIMALS = ["dog", "cat", "horse", "bird", "fish", "cow", "sheep", "mouse"]
VERBS = ["eats", "sees", "hears", "likes", "follows", "finds"]
THINGS = ["an apple", "the river", "a red ball", "some bread", "a stone", "the house", "a tree"]
END = "<|endoftext|>"
QUICK: dict[str, Any] = {"batch_size": 16, "learning_rate": 1e-3, "evaluation_steps": 4, "device": "cpu"}
"""Options that train the tiny models in a moment."""
LAUNCHED = {"WORLD_SIZE": "3", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
"""What `torchrun` tells each process that it starts."""


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different short sentences, the same for the same seed."""
    everything = [f"the {a} {v} {t} of the {b}" for a in ANIMALS for v in VERBS for t in THINGS for b in ANIMALS]
    return random.Random(seed).sample(everything, count)


def raw_pairs(inputs: int, seed: int = 0) -> Dataset:
    """Two x2 for each of the labels 0, 0.5 and 1 of each x1: words in another order, shared words, other sentences."""
    rng = random.Random(seed)
    rows = []
    for index, x1 in enumerate(sentences(inputs, seed)):
        others = sentences(10, seed=index + 1000)
        for sample in range(2):
            half = " ".join(x1.split()[:4] + others[sample].split()[4:])
            same = f"{x1} {rng.choice(['now', 'today', 'again', 'too'])} {sample}"
            for score, x2 in ((0.0, others[sample + 2]), (0.5, half), (1.0, same)):
                rows.append(
                    {
                        "sentence1": x1,
                        "sentence2": x2,
                        "score": score,
                        "x1_index": index,
                        "sample": sample,
                        "tries": 1,
                        "num_tokens": 9,
                    }
                )
    return Dataset.from_list(rows)


def prepared_splits(train: int, validation: int, seed: int = 0) -> DatasetDict:
    """Pairs with scores that follow from their words, so that there is something to learn."""
    columns = ["sentence1", "sentence2", "score"]
    pairs = raw_pairs((train + validation) // 6 + 1, seed).select_columns(columns).shuffle(seed=seed)
    return DatasetDict(train=pairs.select(range(train)), validation=pairs.select(range(train, train + validation)))


def make_tokenizer(pad: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer trained on the sentences; GPT-style ones have no pad token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [END, "<pad>"] if pad else [END]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(300), trainer)
    tokens = {"eos_token": END, "bos_token": END} | ({"pad_token": "<pad>"} if pad else {})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **tokens)


def save_model(directory: Path, family: str = "bert") -> Path:
    """A tiny model of random weights as a plain transformers directory."""
    tokenizer = make_tokenizer(pad=family == "bert")
    set_seed(0)
    size: dict[str, Any] = {"vocab_size": len(tokenizer), "num_hidden_layers": 1, "num_attention_heads": 2}
    if family == "bert":
        config = BertConfig(hidden_size=32, intermediate_size=64, max_position_embeddings=64, **size)
        model: Any = BertModel(config)
    elif family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_positions=64, vocab_size=len(tokenizer), n_layer=1, n_head=2))
    else:
        llama = LlamaConfig(hidden_size=32, intermediate_size=64, max_position_embeddings=64, **size)
        model = LlamaForCausalLM(llama)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def tiny_encoder(directory: Path, family: str = "bert") -> SentenceTransformer:
    """A tiny encoder with mean pooling."""
    transformer = Transformer(str(save_model(directory, family)))
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    return SentenceTransformer(modules=[transformer, pooling], device="cpu")


def record(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "training.json").read_text(encoding="utf-8"))
    return content


def validation_spearman(model: SentenceTransformer, split: Dataset) -> float:
    """Spearman of the cosine, computed without sentence-transformers' evaluator."""
    first = torch.nn.functional.normalize(torch.tensor(model.encode(list(split["sentence1"]))), dim=1)
    second = torch.nn.functional.normalize(torch.tensor(model.encode(list(split["sentence2"]))), dim=1)
    return float(spearmanr((first * second).sum(dim=1).numpy(), split["score"]).statistic)


def weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}
