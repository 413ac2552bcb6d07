"""Loading a causal language model, with errors that say what to do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from dino_st.decoding.runner import probe
from dino_st.errors import ConfigurationError, ModelError, suggest
from dino_st.models import bundled_directory
from dino_st.support.hashes import hash_file

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """Turns a device name into a device; `auto` takes a GPU where there is one.

    Raises:
        ConfigurationError: If the name is unknown or the device is not there.
    """
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device(accelerator.type if accelerator is not None else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, ModuleNotFoundError, NotImplementedError) as error:
        reason = _first_line(error)
        if "Expected one of" in reason:  # a list of every kind of device that there ever was
            reason = "torch knows no such device"
        raise ConfigurationError(
            f"device {device!r} cannot be used here ({reason}); use auto, cpu, cuda, cuda:1, … or mps"
        ) from None
    return chosen


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Turns a dtype name into a dtype; `auto` means bfloat16 where the hardware computes in it, else float32.

    Raises:
        ConfigurationError: If the name is unknown.
    """
    if dtype == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if dtype not in DTYPES:
        raise ConfigurationError(f"dtype {dtype!r} is unknown; {suggest(dtype, ['auto', *DTYPES])}")
    return DTYPES[dtype]


def load_causal_model(
    source: str | Path, *, device: torch.device, dtype: torch.dtype, trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """Loads a decoder-only model and its tokenizer, safetensors only.

    Args:
        source: Directory, a name on the hub, or one that the package carries (`dino_st.models`).
        device: Where to put the model.
        dtype: Of its weights.
        trust_remote_code: Whether code that comes with the model may run.

    Returns:
        The model in evaluation mode, and the tokenizer.

    Raises:
        ModelError: If the source is missing, holds no safetensors weights, or is no causal language model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = bundled_directory(source) or source
    path = Path(source).expanduser()
    if path.exists():
        _check_directory(path)
        source = path
    elif str(source).startswith((".", "/", "~")) or str(source).count("/") > 1 or not str(source).strip():
        raise ModelError(f"model {str(source)!r}: there is no such directory; expected a directory or a hub name")
    options = {"trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(str(source), **options)
        _check_architecture(config, str(source))
        tokenizer = AutoTokenizer.from_pretrained(str(source), **options)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(source), dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
        model, report = loaded
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"model {str(source)!r} cannot be loaded: {_first_line(error)}{_advice(error)}") from error
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_ids):
        raise ModelError(f"model {str(source)!r} has no tokenizer beside it; copy its files (tokenizer.json, …)")
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"model {str(source)!r} lacks {len(missing)} of the weights of a {type(model).__name__}, such as "
            f"{missing[0]!r}; it is not a complete causal language model"
        )
    return model.to(device).eval(), tokenizer


def check_causal_model(model: Any) -> None:
    """Refuses models that the engine cannot decode with.

    Raises:
        ModelError: If the model has no output layer, has an encoder, or keeps a recurrent state.
    """
    name = type(model).__name__
    if not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
        raise ModelError(
            f"{name} has no output layer over the vocabulary; expected a causal language model (…ForCausalLM)"
        )
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder model; expected a decoder-only causal language model")
    if getattr(model, "_is_stateful", False):
        raise ModelError(
            f"{name} keeps a recurrent state, which cannot be shared between draws; use a pure transformer"
        )
    probe(model)


def hash_weights(source: str | Path | None, model: Any) -> str:
    """SHA-256 over the safetensors files that a model was loaded from, or over its tensors if it was handed in."""
    digest = hashlib.sha256()
    files = [] if source is None else sorted(_weight_directory(source).glob("*.safetensors"))
    for file in files:
        digest.update(bytes.fromhex(hash_file(file)))
    if not files:
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_settings(model: Any, tokenizer: Any) -> str:
    """SHA-256 of what decides a model's output beside its weights: configuration, tokenizer, chat template."""
    passing = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
    config = {name: value for name, value in model.config.to_dict().items() if name not in passing}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = tokenizer.get_vocab() if backend is None else backend.to_str()
    settings = [config, vocabulary, getattr(tokenizer, "chat_template", None)]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _weight_directory(source: str | Path) -> Path:
    path = Path(bundled_directory(source) or source).expanduser()
    if path.is_dir():
        return path
    from transformers.utils.hub import cached_file

    return Path(str(cached_file(str(source), "config.json"))).parent


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        raise ModelError(f"model {path}: this is a file; expected the directory that holds config.json")
    names = [entry.name for entry in path.iterdir()]
    if "config.json" not in names:
        kind = "a sentence-transformers encoder" if "modules.json" in names else "no model directory"
        raise ModelError(f"model {path}: this is {kind} (no config.json); expected a causal language model")
    if not any(name.endswith(".safetensors") for name in names):
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


def _check_architecture(config: Any, source: str) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"model {source!r} is an encoder-decoder ({config.model_type}); expected a decoder-only model")
    architectures = getattr(config, "architectures", None) or []
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not getattr(config, "auto_map", None):
        raise ModelError(f"model {source!r} is of type {config.model_type!r}, which is no causal language model")
    if architectures and not any("CausalLM" in name or "LMHead" in name for name in architectures):
        raise ModelError(
            f"model {source!r} is a {architectures[0]}, not a causal language model; generation needs one that "
            "predicts the next token, such as gpt2-xl. (An encoder belongs to `dino-st train --encoder`.)"
        )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _advice(error: BaseException) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return ". The model brings its own code; read it, and pass --trust-remote-code if you trust it"
    if "safetensors" in text and "not" in text:
        return ". Only safetensors are loaded"
    if isinstance(error, OSError):
        return ". Check the name, the connection to the hub, and that the directory is complete"
    return ""
