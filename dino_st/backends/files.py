"""Where a language model's files lie, and what can be said of them before anything slow is imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.encoders.directory import (
    ADAPTER,
    adapter_base,
    check_beside,
    check_spelling,
    check_weight_file,
    is_pointer,
    read_settings,
)
from dino_st.errors import MissingExtraError, ModelError, first_line
from dino_st.models import bundled_directory
from dino_st.support.files import similar_path
from dino_st.support.hashes import hash_file
from dino_st.support.hub import fetch_model

if TYPE_CHECKING:
    from dino_st.data.shards import ShardDirectory

GGUF = ".gguf"

_GGUF_SINCE = "5.23"
"""The transformers that the extra `gguf` asks for; older ones misread the tokenizer of a file silently."""

_LOOKED_AT: dict[str, Path] = {}
"""Where the model of a run that has just begun lies, until it is loaded."""

_POINTER_BYTES = 1024


def model_files(source: str | Path) -> Path:
    """The directory or file of a model, which is complete as far as can be seen without loading it.

    What a run that has just begun found (see `look_at_model`) is taken, once, without asking the hub again. Raises
    ModelError where there is no such model, or its files are missing, damaged or of the wrong kind, and
    MissingExtraError where reading it takes a package that is not installed or too old (gguf).
    """
    path = _LOOKED_AT.pop(str(source), None) or locate_model(source)
    if path.suffix == GGUF:
        check_gguf(path)
    else:
        _check_directory(path)
    return path


def is_cross_encoder(path: Path) -> bool:
    """Whether a model's configuration is one of a classifier, as cross-encoders are."""
    try:
        kinds = json.loads((path / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):
        return False
    return bool(kinds) and str(kinds[0]).endswith("ForSequenceClassification")


def locate_model(source: str | Path, *, weights: bool = True) -> Path:
    """Where a model's files lie; one of the hub is fetched into the local cache, unless it is there.

    Without weights, only the small files are fetched. Raises ModelError where there is no such directory or file, and
    no such model on the hub, or the hub is out of reach.
    """
    name = str(source)
    path = Path(bundled_directory(source) or source).expanduser()
    if path.exists() and name.strip():
        return path
    repository, _, file = name.rpartition("/")
    meant = similar_path(path, "; expected one, or a name on the hub")
    missing = f"there is no such directory or file{meant}"
    if name.startswith((".", "/", "~")) or not name.strip() or isinstance(source, Path):
        raise ModelError(f"model {name!r}: {missing}")
    if name.endswith(GGUF) and repository.count("/") == 1:
        return fetch_model(repository, file)
    if name.count("/") > 1 or name.endswith(GGUF):
        raise ModelError(f"model {name!r}: {missing}")
    check_spelling(name)
    return fetch_model(name, weights=weights)


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        raise ModelError(
            f"model {path}: this is a file; expected the directory that holds config.json, or a *.gguf file"
        )
    names = [entry.name for entry in path.iterdir()]
    for entry in path.iterdir():
        if entry.is_file() and entry.stat().st_size < _POINTER_BYTES and is_pointer(entry):
            raise ModelError(
                f"model {path}: {entry.name} is a pointer of Git LFS, not the file; run `git lfs pull` there"
            )
    if "config.json" not in names and ADAPTER not in names:
        packed = min((name for name in names if name.endswith(GGUF)), default=None)
        if packed:
            raise ModelError(
                f"model {path}: this directory holds GGUF files; name one of them, such as {path / packed}"
            )
        kind = "a sentence-transformers encoder" if "modules.json" in names else "no model directory"
        raise ModelError(f"model {path}: this is {kind} (no config.json); expected a causal language model")
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    check_beside(path)
    if read_settings(path, "generation_config.json") is None:
        raise ModelError(
            f"model {path}: generation_config.json is damaged, and may say what ends a text; copy it again"
        )
    for name in weights:
        check_weight_file(path, name)
    if not weights:
        pickles = [
            name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")) and "training_args" not in name
        ]
        if pickles:
            raise ModelError(
                f"model {path}: the weights are pickled ({min(pickles)}), and a pickle can run any code when read; "
                "only safetensors are loaded. If you trust the file, convert it once:\n"
                f"  python -c \"from transformers import AutoModelForCausalLM as M; d = '{path}'; "
                'M.from_pretrained(d, use_safetensors=False).save_pretrained(d)"'
            )
        raise ModelError(
            f"model {path}: the directory holds no weights (no *.safetensors file); download it completely"
        )


def check_gguf(path: Path) -> None:
    """Says what is wrong with a GGUF file before transformers reads it."""
    from packaging.version import Version

    if find_spec("gguf") is None:
        raise MissingExtraError(f'model {path}: reading GGUF needs gguf; run: pip install "dino-st[gguf]"')
    if Version(there := version("transformers")) < Version(_GGUF_SINCE):
        raise MissingExtraError(
            f"model {path}: transformers {there} misreads the tokenizers of GGUF files; it takes {_GGUF_SINCE} or "
            'newer; run: pip install "dino-st[gguf]"'
        )
    gguf = import_module("gguf")
    try:
        reader = gguf.GGUFReader(path)
        field = reader.get_field("general.architecture")
        architecture = str(field.contents()) if field else "unknown"
        kinds = {tensor.tensor_type: tensor.data[:1] for tensor in reader.tensors}
    except Exception as error:  # whatever a file that is none makes the reader do
        raise ModelError(
            f"model {path}: this cannot be read as GGUF ({first_line(error)}); it is cut off or damaged: download "
            "it again"
        ) from error
    if "bert" in architecture:
        raise ModelError(f"model {path}: this is an encoder ({architecture}); expected a causal language model")
    for kind, first in kinds.items():
        try:
            gguf.dequantize(first, kind)
        except Exception as error:
            raise ModelError(
                f"model {path}: weights quantised as {kind.name} cannot be unpacked ({first_line(error)}); take a "
                "file of another quantisation, such as Q8_0, Q4_K_M or F16"
            ) from error


def hash_weight_files(path: Path) -> str | None:
    """SHA-256 over the files with a model's weights, which lies there; None where there are none."""
    digest = hashlib.sha256()
    files = _weight_files(path)
    for file in files:
        digest.update(bytes.fromhex(hash_file(file)))
    return digest.hexdigest() if files else None


def _weight_files(path: Path) -> list[Path]:
    """The files with a model's weights; those of an adapter's base model come first."""
    if path.suffix == GGUF:
        return [path]
    base = _weight_files(locate_model(base_of(path))) if (path / ADAPTER).is_file() else []
    return base + sorted(path.glob("*.safetensors"))


def base_of(path: Path) -> str | Path:
    """The base model that an adapter names: a directory, also one beside it, or a name on the hub."""
    base = adapter_base(path) or ""
    beside = path / base
    found = beside if beside.is_dir() else base
    if Path(found).expanduser().resolve() == path.resolve():
        raise ModelError(f"model {path}: {ADAPTER} names this very directory as the base model; name that one there")
    return found


def look_at_model(source: str, directory: ShardDirectory, known: Mapping[str, Any], within: str | None = None) -> None:
    """Checks, before anything slow is imported, that a model is there and may go on in a directory of shards.

    Its weights are compared only where the directory was begun by a model of another name. `known` is what is known of
    the run's configuration (see `ShardDirectory.check_continues`), and `within` the part of it that tells of the model,
    if that is not the whole. Raises ModelError where there is no whole model, and OutputError where the directory holds
    another run.
    """
    _LOOKED_AT.pop(source, None)
    path = _LOOKED_AT[source] = model_files(source)
    named = directory.provenance.get("scored_by") or directory.provenance.get("model")
    if named not in (None, source):
        weights = {"weights_sha256": hash_weight_files(path)}
        known = {**known, "model": source, **({within: {**known.get(within, {}), **weights}} if within else weights)}
    directory.check_continues(known)
