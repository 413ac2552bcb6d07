"""Baseline encoders for comparison, built by name.

```
mean:DIR         mean of the last layer's token vectors of any transformers model
cls:DIR          the first token's vector
first-last:DIR   mean over the tokens of the average of the first and the last layer
words:FILE       average of word vectors (GloVe text format; stop words and punctuation left out)
```

`+whitening` after the kind (`mean+whitening:DIR`) subtracts the mean and decorrelates the dimensions, fitted on
unlabelled sentences (Su et al. 2021, arXiv 2103.15316). Scores that need no model are in `dino_st.floors`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.encoder_directory import check_model_directory, directory_revision
from dino_st.errors import ConfigurationError, InputError, suggest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

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
        from dino_st.baseline_modules import whiten

        return whiten(encoder, sentences)

    return Baseline(f"baseline/{kind}-{path.stem if base == WORDS else path.name}", revision, load)


def _build(base: str, path: Path, device: str) -> SentenceTransformer:
    from dino_st import baseline_modules

    if base == WORDS:
        return baseline_modules.word_vector_encoder(path, device)
    if base == "first-last":
        return baseline_modules.first_last_encoder(path, device)
    return baseline_modules.pooled_encoder(path, base, device)


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
