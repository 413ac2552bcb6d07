"""Makes the encoder's unlabelled start: static word embeddings from the text that the bundled model learns from.

``python -m tools.bundled_encoder --corpora DIR --evaluation DIR --output dino_st/models/dino-tiny-encoder``

A sentence is the mean of its words' vectors (``StaticEmbedding``). A word's vector has two halves of equal length: what
latent semantic analysis of the sentences says about the company that it keeps, and a random direction of its own (a
sketch of the identity, so that a word is more like itself than like its company). Both are scaled by the word's inverse
document frequency. No label, no human score and no evaluation sentence takes part.
"""

import argparse
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_matrix, diags
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sklearn.utils.extmath import randomized_svd
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tools.bundled_lm.documents import prepare

VOCABULARY = 16000
COMPANY, OWN = 256, 256
"""Dimensions of the two halves."""
SCALE = 0.05
"""Root mean square of a weight, which the learning rate is relative to."""


def train_tokenizer(sentences: Iterable[str]) -> Tokenizer:
    """An uncased WordPiece tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=["[PAD]", "[UNK]"], min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def embeddings(tokenizer: Tokenizer, sentences: list[str]) -> NDArray[np.float32]:
    """Word vectors, shape ``(vocabulary, COMPANY + OWN)``."""
    tokenizer.no_padding()
    rows = [encoding.ids for encoding in tokenizer.encode_batch(sentences)]
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    columns = np.fromiter(chain.from_iterable(rows), np.int64)
    places = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    size = (len(rows), tokenizer.get_vocab_size())
    counts = csr_matrix((np.ones(len(columns), np.float32), (places, columns)), size)
    counts.sum_duplicates()
    idf = np.log((1 + len(rows)) / (1 + counts.getnnz(axis=0))) + 1
    weighted = counts.copy()
    weighted.data = 1 + np.log(weighted.data)
    weighted = weighted @ diags(idf)
    lengths = np.sqrt(weighted.multiply(weighted).sum(1)).A1
    weighted = (diags(1 / np.maximum(lengths, 1e-9)) @ weighted).astype(np.float32)
    _, values, directions = randomized_svd(weighted, COMPANY, n_iter=3, random_state=0)
    company = _unit(directions.T * np.sqrt(values))
    own = _unit(np.random.default_rng(0).standard_normal((len(idf), OWN)))
    vectors = np.hstack([company, own]) * idf[:, None]
    vectors[:2] = 0  # padding and unknown words say nothing
    return (vectors / np.sqrt((vectors**2).mean()) * SCALE).astype(np.float32)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True, help="folder with STS/ and SICK/, to be left out")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    training, _, _ = prepare(arguments.corpora, arguments.evaluation)
    sentences = list(training.everything())
    tokenizer = train_tokenizer(sentences)
    vectors = embeddings(tokenizer, sentences)
    module = StaticEmbedding(tokenizer, embedding_weights=torch.from_numpy(vectors))
    encoder = SentenceTransformer(modules=[module], device="cpu")
    encoder.save_pretrained(str(arguments.output), create_model_card=False)
    for file in arguments.output.rglob("model.safetensors"):
        # Rounded to float16, which compresses well, and stored as float32, in which they can be trained.
        save_file({name: tensor.half().float() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    print(f"{len(vectors)} words in {vectors.shape[1]} dimensions from {len(sentences)} sentences")


if __name__ == "__main__":
    main()
