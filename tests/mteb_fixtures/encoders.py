"""Encoders with random weights: a bag of words that encodes thousands of sentences a second, and a small BERT."""

from __future__ import annotations

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests.mteb_fixtures.senteval import WORDS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def make_bag_of_words(path: Path | None = None, *, seed: int = 0, dimensions: int = 12) -> SentenceTransformer:
    """A sentence-transformers model that averages random word vectors.

    Args:
        path: Where to save it; None for nowhere.
        seed: Seed of the vectors.
        dimensions: Length of the vectors.

    Returns:
        The model.
    """
    vectors = torch.randn(len(_vocabulary()), dimensions, generator=torch.Generator().manual_seed(seed))
    model = SentenceTransformer(modules=[StaticEmbedding(_tokenizer(), embedding_weights=vectors)], device="cpu")
    if path is not None:
        model.save(str(path), create_model_card=False)
    return model


def make_transformer(path: Path, *, seed: int = 0, layers: int = 3) -> Path:
    """A plain transformers directory with a small random BERT.

    Args:
        path: Where to save it.
        seed: Seed of the weights.
        layers: Number of layers.

    Returns:
        The path.
    """
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(path)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.save_pretrained(path)
    return path


def _vocabulary() -> dict[str, int]:
    return {word: index for index, word in enumerate([*SPECIAL, *WORDS, "."])}


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(_vocabulary(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer
