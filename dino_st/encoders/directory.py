"""Which encoder is meant, and which exactly: directories, what must be in them, and revisions that name a content.

A directory may be a sentence-transformers model or a plain transformers model. A revision is a hash of the content, so
that results stored for one set of weights are never taken for another's.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.errors import DinoWarning, ModelError, first_line
from dino_st.models import bundled_directory, similar_model
from dino_st.support.files import similar_path

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

ADAPTER = "adapter_config.json"
"""The file that makes a directory an adapter of PEFT, which names its base model."""

WORDS, WHITENING = "words", "+whitening"
KINDS = tuple(kind + end for end in ("", WHITENING) for kind in ("mean", "cls", "first-last", WORDS))
"""Kinds of baselines; see `dino_st.encoders.baselines`."""

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


_POINTER = b"version https://git-lfs"

SHARE_OF_EMBEDDING = 0.5
"""Embeddings are rounded up, but a tokenizer with fewer tokens than this share of them is likely another model's."""


@dataclass(frozen=True)
class FoundEncoder:
    """An encoder that was found by its name, and is loaded only where something must be computed."""

    name: str  # under which mteb stores its results, `owner/name`
    revision: str  # names its content; empty for one on the hub that has not been fetched yet
    load: Callable[[], SentenceTransformer]
    fetch: Callable[[], str] | None = None  # downloads one on the hub, and returns its revision; None for all others
    directory: Path | None = None  # where it is, if it is a directory of this machine

    def resolved(self) -> FoundEncoder:
        """The same encoder with its revision, for which one on the hub is downloaded."""
        return self if self.fetch is None else replace(self, revision=self.fetch(), fetch=None)


def local_directory(encoder: str | os.PathLike[str]) -> Path | None:
    """The absolute path of the model directory that a name or path means, a bundled one's among them.

    None where the name can only be one on the hub; a ModelError where it is a path, and there is no model.
    """
    bundled = bundled_directory(encoder)
    if bundled is not None:
        return check_model_directory(bundled)
    name = os.fspath(encoder)
    path = Path(name).expanduser()
    is_path = isinstance(encoder, os.PathLike) or name.startswith((".", "~", os.sep)) or name.endswith(("/", os.sep))
    is_path = is_path or re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII) is None  # what the hub has no names like
    if is_path or path.exists():
        return check_model_directory(path)
    check_spelling(name)
    return None


def check_spelling(name: str) -> None:
    """Refuses (ModelError) the name of a model that is none here, and is like that of one that the package carries."""
    if (meant := similar_model(name)) is not None:
        raise ModelError(f"model {name!r}: there is no such directory or bundled model; did you mean {meant!r}?")


def check_named(model: str) -> None:
    """Refuses (ModelError) what cannot be an encoder or a baseline on this machine, nor the name of one on the hub."""
    kind, colon, source = model.partition(":")
    if colon and kind in KINDS and not Path(model).exists():
        if kind.removesuffix(WHITENING) != WORDS:
            check_model_directory(source)
    else:
        local_directory(model)


def check_model_directory(path: str | Path) -> Path:
    """The absolute path of a directory, after making sure (or else a ModelError) that it holds a model."""
    directory = Path(path).expanduser()
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        if directory.is_file() and directory.suffix == ".gguf":
            what += " in GGUF, which is read for generating and judging only"
        meant = "." if directory.exists() else similar_path(directory, ".", is_directory=True)
        raise ModelError(f"The model directory '{directory}' {what}{meant} Give a directory that holds a model.")
    if not any((directory / name).is_file() for name in ("modules.json", "config.json", ADAPTER)):
        raise ModelError(
            f"'{directory}' is not a model: it holds neither 'modules.json' (a sentence-transformers model) nor "
            f"'config.json' (a transformers model) nor '{ADAPTER}' (a LoRA adapter). Give the "
            "directory that `dino-st train --output` or `save_pretrained` wrote."
        )
    return directory.resolve()


def directory_name(path: str | Path) -> str:
    """The name under which mteb stores a local model's results, `local/NAME`, however its path is spelled."""
    return f"local/{Path(path).expanduser().resolve().name}"


def directory_revision(path: str | Path) -> str:
    """Hashes everything in a model directory that can change an embedding: forty hexadecimal digits of a SHA-256.

    That is every file except documentation and what a training run leaves behind: weights, configurations and tokenizer
    alike, so that other weights, another pooling and another vocabulary each give another revision.
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
    if not (directory / "modules.json").is_file() and (directory / "chat_template.jinja").is_file():
        digest.update(b"texts are read without the template\n")  # as they were not by earlier versions
    base = adapter_base(directory)
    if base is not None and (local := local_directory(base)) is not None:
        digest.update(directory_revision(local).encode())
    return digest.hexdigest()[:40]


def adapter_base(directory: Path) -> str | None:
    """The name of the base model, if this directory holds an adapter of PEFT; a ModelError if that names none."""
    file = directory / ADAPTER
    if not file.is_file():
        return None
    try:
        name = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise ModelError(f"'{file}' names no base model; write it into the field 'base_model_name_or_path'.")
    return name


def _relevant_files(directory: Path) -> Iterator[Path]:
    for file in _files_below(directory):
        folders = file.relative_to(directory).parts[:-1]
        hidden = any(part.startswith(".") for part in (*folders, file.name))
        leftovers = any(part in _IRRELEVANT_FOLDERS or part.startswith("checkpoint-") for part in folders)
        documentation = file.name in _IRRELEVANT_FILES or file.suffix.lower() in _IRRELEVANT_SUFFIXES
        if file.is_file() and not (hidden or leftovers or documentation):
            yield file


def _files_below(directory: Path) -> Iterator[Path]:
    """All files, those of folders that are links included; a link to a folder around it is not followed."""
    for folder, folders, files in os.walk(directory, followlinks=True):
        around = [Path(folder).resolve(), *Path(folder).resolve().parents]
        folders[:] = [name for name in folders if Path(folder, name).resolve() not in around]
        yield from (Path(folder, name) for name in files)


def state_revision(encoder: SentenceTransformer) -> str:
    """Hashes a loaded encoder, its modules, settings and every weight: forty hexadecimal digits of a SHA-256."""
    import torch

    settings = (
        sorted(encoder.prompts.items()),
        encoder.default_prompt_name,
        encoder.max_seq_length,
        encoder.truncate_dim,
        encoder.similarity_fn_name,
        _words(getattr(encoder, "tokenizer", None)),
        active_adapters(encoder),
    )
    digest = hashlib.sha256(repr((encoder, *settings)).encode())
    for name, weight in encoder.state_dict().items():
        digest.update(f"{name}\n".encode())
        if isinstance(weight, torch.Tensor) and not weight.is_quantized:
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        else:  # what torch quantised is packed
            packed = io.BytesIO()
            torch.save(weight, packed)
            digest.update(packed.getvalue())
    return digest.hexdigest()[:40]


def _words(tokenizer: Any) -> str:
    """What a tokenizer reads, as JSON; how it pads and cuts changes with every text. Empty where it does not say."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        words = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else ()
        left_out = sorted(getattr(tokenizer, "stop_words", ()))
        return json.dumps([list(words.items() if isinstance(words, dict) else words), left_out])
    return json.dumps(json.loads(backend.to_str()) | {"padding": None, "truncation": None})


def active_adapters(model: torch.nn.Module) -> list[tuple[str, dict[str, float | None]]]:
    """The layers of a loaded model that have adapters of PEFT's, with the active ones and the factors of these."""
    return [
        (name, {} if getattr(module, "disable_adapters", False) else _factors(module))
        for name, module in model.named_modules()
        if isinstance(getattr(module, "active_adapters", None), list)
    ]


def _factors(module: Any) -> dict[str, float | None]:
    factors = getattr(module, "scaling", None)
    return {name: factors.get(name) if isinstance(factors, dict) else None for name in module.active_adapters}


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Adds the weights of an adapter to its base model; a ModelError names one that has no place there."""
    from safetensors import safe_open

    peft: Any = import_module("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("error", "Found missing adapter keys")
        joined = peft.PeftModel.from_pretrained(model, str(adapter), use_safetensors=True)
    known = {*joined.state_dict(), *peft.get_peft_model_state_dict(joined, save_embedding_layers=False)}
    with safe_open(adapter / "adapter_model.safetensors", framework="np") as file:
        homeless = sorted(set(file.keys()) - known)
        changes = [name for name in file.keys() if "lora_B" in name or "lora_embedding_B" in name]  # noqa: SIM118
        is_empty = bool(changes) and not any(file.get_tensor(name).any() for name in changes)
    if homeless:
        raise ModelError(
            f"{len(homeless)} weights of the adapter, such as {homeless[0]!r}, have no place in "
            f"{type(model).__name__} as {ADAPTER} and the base model describe it"
        )
    if is_empty:
        warnings.warn(
            f"the adapter {adapter} changes nothing: all its weights lora_B are zero, as before training or after a "
            "broken download; train or fetch it again",
            DinoWarning,
            stacklevel=2,
        )
    if not hasattr(joined.base_model, "merge_and_unload"):
        kind = joined.peft_config["default"].peft_type.value
        raise ModelError(
            f"the adapter is of type {kind}, which adds virtual tokens and cannot be merged into its base "
            "model; expected one that changes weights, such as LoRA"
        )
    return joined.merge_and_unload()


def cap_attention(model: Any) -> None:
    """Has attention scores capped where the configuration says so (Gemma 2, arXiv 2408.00118, section 2).

    transformers computes attention by `sdpa`, which leaves the cap out without a word before 5.21.
    """
    config = model.config.get_text_config()
    if getattr(config, "attn_logit_softcapping", None) and config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")


def is_pointer(file: Path) -> bool:
    """Whether a pointer of Git LFS stands in place of a file."""
    with file.open("rb") as content:
        return content.read(len(_POINTER)) == _POINTER


def check_beside(path: Path) -> None:
    """Warns of whole weights beside those that are read, of which any may be meant, and refuses parts of no whole."""
    parts = sorted(file.name for file in path.glob("model-*-of-*.safetensors"))
    has_whole, has_adapter = (path / "model.safetensors").is_file(), (path / ADAPTER).is_file()
    read = f"the base model of {ADAPTER}" if has_adapter else "model.safetensors"
    unread = parts or ["model.safetensors"] * has_whole if has_adapter else parts if has_whole else []
    if unread:
        advice = "move elsewhere what does not belong to it"
        warnings.warn(f"model {path}: {read} is read, and {unread[0]} is not; {advice}", DinoWarning, stacklevel=2)
    elif parts and not (path / "model.safetensors.index.json").is_file():
        raise ModelError(f"model {path}: {parts[0]} is a part, and model.safetensors.index.json is missing; copy it")


def check_weight_file(path: Path, name: str) -> None:
    """Refuses a file that is damaged, or whose weights are whole numbers that nothing says how to unpack."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path / name, framework="np") as file:
            kinds = {key: file.get_slice(key).get_dtype() for key in file.keys() if key.endswith(".weight")}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        why = first_line(error)
        if isinstance(error, SafetensorError):
            with (path / name).open("rb") as content:
                begin = content.read(4096)
            why = "it begins with nothing but zeros" if begin and not any(begin) else why
        raise ModelError(
            f"model {path}: {name} cannot be read ({why}); it is truncated or damaged: download it again"
        ) from error
    packed = next((key for key, kind in kinds.items() if kind[:1] in "IU"), None)
    if packed is not None and "quantization_config" not in (read_settings(path, "config.json") or {}):
        raise ModelError(
            f"model {path}: {packed!r} holds whole numbers ({kinds[packed]}), and config.json has no "
            "quantization_config that says how they are unpacked; copy the one that belongs to the weights"
        )


def read_settings(path: Path, name: str) -> dict[str, Any] | None:
    """What a file of settings holds, nothing where there is none; None where it is damaged."""
    try:
        found = json.loads((path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def surplus_layers(model: Any, report: Mapping[str, Any]) -> str:
    """Says, if so, that the weights have layers which the configuration of a model does not know.

    Other weights that are not needed, such as those of a head, are no fault. The report is the loading information of
    transformers.
    """
    stacks = {found[1] for name in model.state_dict() if (found := LAYER.match(name))}
    surplus = sorted(
        name
        for name in report["unexpected_keys"]
        if (found := LAYER.match(name)) and any(f".{found[1]}".endswith(f".{stack}") for stack in stacks)
    )
    if not surplus:
        return ""
    return (
        f"has weights that its configuration does not know, such as {surplus[0]!r}, as if layers were cut off; copy "
        "the config.json that belongs to the weights"
    )


LAYER = re.compile(r"(.+?)\.\d+\.")
"""The beginning of the name of a weight in a stack of layers."""
