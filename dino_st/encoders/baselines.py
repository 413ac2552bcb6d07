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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer, WordEmbeddings
from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
from torch import Tensor

from dino_st.encoders.directory import check_model_directory, directory_revision
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError, InputError, ModelError, suggest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


# Directions whose variance is below this share of the largest are noise, and are dropped instead of blown up.
SMALLEST_VARIANCE = 1e-7


class FirstLastAverage(torch.nn.Module):
    """Replaces the token vectors by the average of the first and the last layer's."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Averages two layers.

        Args:
            features: Output of a transformer that returns all hidden states; the state before the first layer is that
                of the input embeddings and does not count.

        Returns:
            The features with new `token_embeddings`, `(sentences, tokens, dimensions)`.
        """
        layers = features.pop("all_layer_embeddings")
        features["token_embeddings"] = (layers[1] + layers[-1]) / 2
        return features


class Whitening(torch.nn.Module):
    """Subtracts a mean and multiplies by a matrix, so that the dimensions have unit variance and no correlation."""

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        """Takes a fitted transformation.

        Args:
            mean: `(dimensions,)`.
            matrix: `(dimensions, kept dimensions)`.
        """
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Whitens the sentence embeddings.

        Args:
            features: Output of a pooling module.

        Returns:
            The features with new `sentence_embedding`, `(sentences, kept dimensions)`.
        """
        features["sentence_embedding"] = (features["sentence_embedding"] - self.mean) @ self.matrix
        return features

    def get_embedding_dimension(self) -> int:
        """Number of dimensions kept."""
        return int(self.get_buffer("matrix").shape[1])


def pooled_encoder(path: Path, pooling: str, device: str) -> SentenceTransformer:
    """A transformers model with another pooling than its own.

    Args:
        path: A transformers or sentence-transformers directory.
        pooling: A pooling mode of sentence-transformers, such as `"mean"` or `"cls"`.
        device: `"auto"`, or a device of torch.

    Returns:
        The encoder.

    Raises:
        ModelError: The model cannot be loaded, or is no transformers model.
    """
    transformer = _load_transformer(path, device)
    return _assemble([transformer, Pooling(transformer.get_embedding_dimension(), pooling)], device)


def first_last_encoder(path: Path, device: str) -> SentenceTransformer:
    """A transformers model whose embedding is the mean over tokens of its first and last layer's average.

    Args:
        path: A transformers or sentence-transformers directory.
        device: `"auto"`, or a device of torch.

    Returns:
        The encoder.

    Raises:
        ModelError: The model cannot be loaded, or is no transformers model.
    """
    transformer = _load_transformer(path, device)
    transformer.model.config.output_hidden_states = True
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    return _assemble([transformer, FirstLastAverage(), pooling], device)


def word_vector_encoder(path: Path, device: str) -> SentenceTransformer:
    """Averages word vectors; stop words, punctuation and words without a vector are left out.

    Args:
        path: Vectors in GloVe's text format.
        device: `"auto"`, or a device of torch.

    Returns:
        The encoder. A sentence without a known word gets the zero vector.

    Raises:
        InputError: The file is malformed.
    """
    words, vectors = read_word_vectors(path)
    padding = np.zeros((1, vectors.shape[1]), dtype=np.float32)
    embeddings = WordEmbeddings(WhitespaceTokenizer(["[padding]", *words]), np.concatenate([padding, vectors]))
    return _assemble([embeddings, Pooling(vectors.shape[1], "mean")], device)


def read_word_vectors(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Reads word vectors in GloVe's text format: a word and its numbers on each line, separated by spaces.

    A first line of two numbers, as word2vec writes it, is skipped. Words may contain spaces, as some of GloVe's do. Of
    a word that stands twice the first vector counts.

    Args:
        path: The file, UTF-8.

    Returns:
        The words, and their vectors `(words, dimensions)`.

    Raises:
        InputError: The file is empty, a line has another number of values than the first, or a value is no number.
    """
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


def whiten(encoder: SentenceTransformer, sentences: Sequence[str]) -> SentenceTransformer:
    """Adds whitening to an encoder (Su et al. 2021, arXiv 2103.15316, equations 5 to 9).

    With the covariance C = U Λ Uᵀ of the sentences' embeddings around their mean μ, an embedding x becomes
    (x − μ) U Λ^(−1/2). Directions without variance, as there are where the sentences are fewer than the dimensions, are
    dropped.

    Args:
        encoder: Any encoder.
        sentences: Unlabelled sentences to fit on, at least two different ones.

    Returns:
        A new encoder that shares the modules of the old one.

    Raises:
        InputError: The sentences' embeddings do not vary.
    """
    embeddings = np.asarray(encoder.encode(list(sentences), show_progress_bar=False), dtype=np.float64)
    mean = embeddings.mean(axis=0)
    covariance = (embeddings - mean).T @ (embeddings - mean) / len(embeddings)
    variances, directions = np.linalg.eigh(covariance)
    kept = variances > max(variances.max() * SMALLEST_VARIANCE, 0)
    if not kept.any():
        raise InputError(
            f"Whitening cannot be fitted: the {len(sentences)} sentences all have the same embedding. Give more, and "
            "more varied sentences."
        )
    matrix = directions[:, kept] / np.sqrt(variances[kept])
    step = Whitening(torch.from_numpy(mean).float(), torch.from_numpy(matrix).float())
    return _assemble([*encoder.children(), step], str(encoder.device))


def _load_transformer(path: Path, device: str) -> Transformer:
    first = load_trainable_encoder(path, device=device)[0]
    if not isinstance(first, Transformer):
        raise ModelError(
            f"'{path}' begins with a module of the kind {type(first).__name__}, but a baseline needs a transformers "
            "model. Give a directory that `transformers` can load."
        )
    return cast("Transformer", first)


def _assemble(modules: list[torch.nn.Module], device: str) -> SentenceTransformer:
    return SentenceTransformer(modules=modules, device=None if device == "auto" else device).eval()


def _parse_vector(fields: Sequence[str]) -> NDArray[np.float32] | None:
    try:
        vector = np.array(fields, dtype=np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None


POOLINGS = ("mean", "cls", "first-last")
WORDS = "words"
WHITENING = "+whitening"
KINDS = (*POOLINGS, WORDS, *(kind + WHITENING for kind in (*POOLINGS, WORDS)))


@dataclass(frozen=True)
class Baseline:
    """A baseline encoder, named but not yet built.

    Attributes:
        name: The name under which mteb stores its results.
        revision: Hash of the model's or file's content, of the kind, and of the sentences it is whitened on.
        load: Builds the encoder.
    """

    name: str
    revision: str
    load: Callable[[], SentenceTransformer]


def find_baseline(
    name: str, *, device: str = "auto", whitening_sentences: str | Path | Sequence[str] | None = None
) -> Baseline | None:
    """Reads a baseline's name, such as `mean:DIR` or `words+whitening:FILE`.

    Args:
        name: What a person gave as a model.
        device: `"auto"`, or a device of torch.
        whitening_sentences: Unlabelled sentences that a whitened baseline is fitted on: a file with one a line, or the
            sentences.

    Returns:
        The baseline; None where the name is that of an ordinary model.

    Raises:
        ConfigurationError: An unknown kind, or whitening without sentences.
        ModelError: The directory holds no model.
        InputError: The word vectors or the sentences cannot be read.
    """
    kind, colon, source = name.partition(":")
    if not colon or len(kind) == 1 or Path(name).exists():  # one letter before a colon is a drive of Windows
        return None
    if kind not in KINDS:
        raise ConfigurationError(f"There is no baseline of the kind {kind!r}: {suggest(kind, KINDS)}.")
    base, whitened = kind.removesuffix(WHITENING), kind.endswith(WHITENING)
    sentences = _read_sentences(name, whitening_sentences) if whitened else []
    path = _check_words(source) if base == WORDS else check_model_directory(source)
    content = _file_hash(path) if base == WORDS else directory_revision(path)
    revision = hashlib.sha256("\n".join([kind, content, *sentences]).encode()).hexdigest()[:40]

    def load() -> SentenceTransformer:
        encoder = _build(base, path, device)
        if not whitened:
            return encoder

        return whiten(encoder, sentences)

    return Baseline(f"baseline/{kind}-{path.stem if base == WORDS else path.name}", revision, load)


def _build(base: str, path: Path, device: str) -> SentenceTransformer:

    if base == WORDS:
        return word_vector_encoder(path, device)
    if base == "first-last":
        return first_last_encoder(path, device)
    return pooled_encoder(path, base, device)


def _check_words(source: str) -> Path:
    path = Path(source).expanduser()
    if not path.is_file():
        raise InputError(f"The word vectors '{path}' do not exist. Give a file in GloVe's text format.")
    return path


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}). Check its permissions.") from error


def _read_sentences(name: str, given: str | Path | Sequence[str] | None) -> list[str]:
    """The distinct sentences to whiten on, in their order; blank ones do not count."""
    if given is None:
        raise ConfigurationError(
            f"The baseline '{name}' is whitened on unlabelled sentences, but none were given. Give a file with a "
            "sentence a line with `--whitening-sentences FILE` or `whitening_sentences=...`."
        )
    if isinstance(given, str | Path):
        try:
            lines = Path(given).expanduser().read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The sentences to whiten on, '{given}', cannot be read: {error}.") from error
    else:
        lines = list(given)
    sentences = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(sentences) < 2:
        raise InputError(f"Whitening needs at least two different sentences, but there are {len(sentences)}.")
    return sentences
