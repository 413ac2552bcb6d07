"""Baseline encoders for comparison, built by name.

```
mean:DIR         mean of the last layer's token vectors of any transformers model
cls:DIR          the first token's vector
first-last:DIR   mean over the tokens of the average of the first and the last layer
words:FILE       average of word vectors (GloVe text format; stop words and punctuation left out)
```

`+whitening` after the kind (`mean+whitening:DIR`) subtracts the mean and decorrelates the dimensions, fitted on
unlabelled sentences (Su et al. 2021, arXiv 2103.15316). Scores that need no model are in `dino_st.evaluation.floors`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

from dino_st.encoders.directory import KINDS, WHITENING, WORDS, FoundEncoder, check_model_directory, directory_revision
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError, InputError, ModelError, suggest
from dino_st.support.files import similar_path
from dino_st.support.hashes import hash_file

SMALLEST_VARIANCE = 1e-7
"""Directions whose variance is below this share of the largest are noise, and are dropped instead of blown up."""


def find_baseline(
    name: str, *, device: str = "auto", whitening_sentences: Sequence[str] | None = None
) -> FoundEncoder | None:
    """The baseline that a name such as `mean:DIR` or `words+whitening:FILE` means; None for that of another model.

    Its revision is a hash of the model's or file's content, of the kind, and of the unlabelled sentences that a
    whitened one is fitted on. Raises ConfigurationError for an unknown kind or whitening without sentences, ModelError
    where the directory holds no model, and InputError where word vectors cannot be read or there is but one sentence.
    """
    kind, colon, source = name.partition(":")
    if not colon or len(kind) == 1 or Path(name).exists():  # one letter before a colon is a drive of Windows
        return None
    if kind not in KINDS:
        raise ConfigurationError(f"There is no baseline of the kind {kind!r}: {suggest(kind, KINDS)}.")
    base, whitened = kind.removesuffix(WHITENING), kind.endswith(WHITENING)
    sentences = _distinct_sentences(name, whitening_sentences) if whitened else []
    if base == WORDS:
        path = Path(source).expanduser()
        content, stem = _hash_words(path), path.stem
    else:
        path = check_model_directory(source)
        content, stem = directory_revision(path), path.name
    revision = hashlib.sha256("\n".join([kind, content, *sentences]).encode()).hexdigest()[:40]

    def load() -> SentenceTransformer:
        encoder = _assemble(_word_averaging(path) if base == WORDS else _pooling(path, base, device), device)
        return whiten(encoder, sentences) if whitened else encoder

    return FoundEncoder(f"baseline/{kind}-{stem}", revision, load)


def _hash_words(path: Path) -> str:
    if not path.is_file():
        meant = similar_path(path) or "."
        raise InputError(f"The word vectors '{path}' do not exist{meant} Give a file in GloVe's text format.")
    try:
        return hash_file(path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}). Check its permissions.") from error


def _distinct_sentences(name: str, given: Sequence[str] | None) -> list[str]:
    """The distinct sentences to whiten on, in their order; blank ones do not count."""
    if given is None:
        raise ConfigurationError(
            f"The baseline '{name}' is whitened on unlabelled sentences, but none were given. Give a file with a "
            "sentence a line with `--whitening-sentences FILE` or `whitening_sentences=...`."
        )
    sentences = list(dict.fromkeys(line.strip() for line in given if line.strip()))
    if len(sentences) < 2:
        raise InputError(f"Whitening needs at least two different sentences, but there are {len(sentences)}.")
    return sentences


def _pooling(path: Path, kind: str, device: str) -> list[torch.nn.Module]:
    """A transformers model with another pooling than its own."""
    transformer = load_trainable_encoder(path, device=device)[0]
    if not isinstance(transformer, Transformer):
        raise ModelError(
            f"'{path}' begins with a module of the kind {type(transformer).__name__}, but a baseline needs a "
            "transformers model. Give a directory that `transformers` can load."
        )
    dimension = transformer.get_embedding_dimension()
    if kind != "first-last":
        return [transformer, Pooling(dimension, kind)]
    transformer.model.config.output_hidden_states = True
    return [transformer, FirstLastAverage(), Pooling(dimension, "mean")]


class FirstLastAverage(torch.nn.Module):
    """Replaces the token vectors by the average of the first and the last layer's."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Sets `token_embeddings`, `(sentences, tokens, dimensions)`; the state before the first layer is no layer."""
        layers = features.pop("all_layer_embeddings")
        features["token_embeddings"] = (layers[1] + layers[-1]) / 2
        return features


def _word_averaging(path: Path) -> list[torch.nn.Module]:
    """Averages word vectors; a sentence without a known word gets the zero vector."""
    words, vectors = read_word_vectors(path)
    padding = np.zeros((1, vectors.shape[1]), dtype=np.float32)
    embeddings = WordEmbeddings(WhitespaceTokenizer(["[padding]", *words]), np.concatenate([padding, vectors]))
    return [embeddings, Pooling(vectors.shape[1], "mean")]


def read_word_vectors(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Reads word vectors in GloVe's text format: a word and its numbers on each line, separated by spaces.

    A first line of two numbers, as word2vec writes it, is skipped. Words may contain spaces, as some of GloVe's do. Of
    a word that stands twice the first vector counts. The vectors have shape `(words, dimensions)`.
    """
    with path.open("rb") as stream:
        if stream.read(4).startswith((b"\x1f\x8b", b"PK\x03\x04")):
            raise InputError(f"'{path}' is packed (gzip or zip); expected text in GloVe's format: unpack it first.")
    vectors: dict[str, NDArray[np.float32]] = {}
    dimensions = 0
    with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip("\r\n ").split(" ")
            if (number == 1 and len(fields) == 2) or not line.strip():
                continue
            dimensions = dimensions or len(fields) - 1
            word = " ".join(fields[:-dimensions]) if dimensions else ""
            vector = _parse_vector(fields[-dimensions:]) if dimensions else None
            if not word or vector is None:
                raise InputError(
                    f"'{path}', line {number}: expected a word and {dimensions or 'several'} finite numbers separated "
                    f"by spaces (GloVe's text format), found {line[:60].rstrip()!r}."
                )
            vectors.setdefault(word, vector)
    if not vectors:
        raise InputError(f"'{path}' holds no word vectors. Give a file in GloVe's text format.")
    return list(vectors), np.stack(list(vectors.values()))


def _parse_vector(fields: Sequence[str]) -> NDArray[np.float32] | None:
    try:
        vector = np.array(fields, dtype=np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None


def whiten(encoder: SentenceTransformer, sentences: Sequence[str]) -> SentenceTransformer:
    """Adds whitening to an encoder, whose modules the new one shares (Su et al. 2021, arXiv 2103.15316, eqs. 5 to 9).

    With the covariance C = U Λ Uᵀ of the sentences' embeddings around their mean μ, an embedding x becomes (x − μ) U
    Λ^(−1/2). Directions without variance, as there are where the sentences are fewer than the dimensions, are dropped.
    Raises InputError where the sentences' embeddings do not vary.
    """
    from sklearn.decomposition import PCA

    embeddings = np.asarray(encoder.encode(list(sentences), show_progress_bar=False), dtype=np.float64)
    if not np.ptp(embeddings, axis=0).any():
        raise InputError(
            f"Whitening cannot be fitted: the {len(sentences)} sentences all have the same embedding. Give more, and "
            "more varied sentences."
        )
    fitted = PCA(whiten=True).fit(embeddings)
    variances = fitted.explained_variance_ * (1 - 1 / len(embeddings))  # PCA divides by one sentence less
    kept = variances > variances[0] * SMALLEST_VARIANCE
    matrix = fitted.components_[kept] / np.sqrt(variances[kept])[:, None]
    step = Dense(
        matrix.shape[1],
        matrix.shape[0],
        activation_function=torch.nn.Identity(),
        init_weight=torch.from_numpy(matrix).float(),
        init_bias=torch.from_numpy(-matrix @ fitted.mean_).float(),
    )
    return _assemble([*encoder.children(), step], str(encoder.device))


def _assemble(modules: list[torch.nn.Module], device: str) -> SentenceTransformer:
    return SentenceTransformer(modules=modules, device=None if device == "auto" else device).eval()
