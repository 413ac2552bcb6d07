"""Encoders on disk: what a directory must hold, and a name for exactly what is in it.

A directory may be a sentence-transformers model or a plain transformers model. Its revision is a hash of its content,
so that results stored for one set of weights are never taken for another's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


# Left behind by training, or documentation: they change nothing about the embeddings.
_IRRELEVANT_FILES = {
    "training.json",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "trainer_state.json",
    "training_args.bin",
}
_IRRELEVANT_FOLDERS = {"eval", "runs", "logs", "checkpoints", "results", "__pycache__"}
_IRRELEVANT_SUFFIXES = {".md", ".log", ".lock", ".tmp"}


def is_model_directory(path: str | Path) -> bool:
    """Whether a directory looks like an encoder: a sentence-transformers or a plain transformers model.

    Args:
        path: Any path.

    Returns:
        True where `modules.json` or `config.json` lies in it.
    """
    directory = Path(path).expanduser()
    return (directory / "modules.json").is_file() or (directory / "config.json").is_file()


def check_model_directory(path: str | Path) -> Path:
    """Makes sure that a directory holds a model, before anything slow is done with it.

    Args:
        path: A directory.

    Returns:
        Its absolute path.

    Raises:
        ModelError: It does not exist, or holds no model.
    """
    directory = Path(path).expanduser()
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise ModelError(f"The model directory '{directory}' {what}. Give a directory that holds a model.")
    if not is_model_directory(directory):
        raise ModelError(
            f"'{directory}' is not a model: it holds neither 'modules.json' (a sentence-transformers model) nor "
            "'config.json' (a transformers model). Give the directory that `dino-st train --output` or "
            "`save_pretrained` wrote."
        )
    return directory.resolve()


def directory_name(path: str | Path) -> str:
    """The name under which mteb stores a local model's results, however its path is spelled.

    Args:
        path: A model directory.

    Returns:
        `local/` and the directory's own name.
    """
    return f"local/{Path(path).expanduser().resolve().name}"


def directory_revision(path: str | Path) -> str:
    """Hashes everything in a model directory that can change an embedding.

    That is every file except documentation and what a training run leaves behind: weights, configurations and
    tokenizer alike, so that other weights, another pooling and another vocabulary each give another revision.

    Args:
        path: A model directory.

    Returns:
        Forty hexadecimal digits of a SHA-256.

    Raises:
        ModelError: The directory holds no model, or a file in it cannot be read.
    """
    directory = check_model_directory(path)
    digest = hashlib.sha256()
    for file in sorted(_relevant_files(directory)):
        digest.update(f"{file.relative_to(directory).as_posix()}\n".encode())
        try:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise ModelError(f"'{file}' cannot be read ({error.strerror}). Check its permissions.") from error
    return digest.hexdigest()[:40]


def pad_with_end_of_text(encoder: SentenceTransformer) -> None:
    """Gives a tokenizer of the GPT kind the padding token that `encode` needs to batch sentences.

    The padded positions are masked, so which token it is does not matter.

    Args:
        encoder: An encoder; one that has a padding token, or no transformers tokenizer, is left as it is.
    """
    tokenizer: Any = getattr(encoder, "tokenizer", None)
    if getattr(tokenizer, "pad_token", "") is None:
        tokenizer.pad_token = tokenizer.eos_token


def _relevant_files(directory: Path) -> Iterator[Path]:
    for file in directory.rglob("*"):
        folders = file.relative_to(directory).parts[:-1]
        hidden = any(part.startswith(".") for part in (*folders, file.name))
        leftovers = any(part in _IRRELEVANT_FOLDERS or part.startswith("checkpoint-") for part in folders)
        documentation = file.name in _IRRELEVANT_FILES or file.suffix.lower() in _IRRELEVANT_SUFFIXES
        if file.is_file() and not (hidden or leftovers or documentation):
            yield file
