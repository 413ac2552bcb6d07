"""Loading a causal language model, with errors that say what to do."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from warnings import warn

import torch

from dino_st.backends.files import GGUF, base_of, check_gguf, hash_weight_files, locate_model, model_files
from dino_st.decoding.stopping import end_of_text_ids
from dino_st.encoders.directory import (
    ADAPTER,
    SHARE_OF_EMBEDDING,
    active_adapters,
    cap_attention,
    merge_adapter,
    surplus_layers,
)
from dino_st.encoders.doubts import (
    files_doubt,
    fluency_doubt,
    kind_doubt,
    spelling_doubt,
    vocabulary_doubt,
    zeros_doubt,
)
from dino_st.errors import (
    ConfigurationError,
    DinoError,
    DinoWarning,
    MissingExtraError,
    ModelError,
    OutOfMemoryError,
    first_line,
)
from dino_st.forward.head import multiplies_bfloat16
from dino_st.forward.probe import probe
from dino_st.support.options import device_name, dtype_name, unusable_device

_PLAIN_TEXT = re.compile(r"[^\W\d_]+|[.,!?;:'-]")
"""A word, or a mark as sentences have it, which is no special token."""

_SAMPLE = "The Museum on Elm Street opens at 9 on 24 May; Anna Smith (born 1987) paid $12.50, didn't she?"
"""Words with capitals, numbers and marks, as a tokenizer should give them back."""

_WORD, _TOKENIZER_MARK = re.compile(r"\w+"), re.compile(r"[ĠĊ▁]|##|</w>|<0x")

_LANGUAGE_MODELS = ("CausalLM", "LMHead", "ForConditionalGeneration")


def resolve_device(device: str) -> torch.device:
    """Turns a device name into a device, or else raises ConfigurationError; `auto` takes a GPU where there is one."""
    if device_name(device) == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device(accelerator.type if accelerator is not None else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, ModuleNotFoundError, NotImplementedError) as error:
        raise ConfigurationError(unusable_device(device, first_line(error))) from None
    return chosen


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Turns a dtype name into a dtype; `auto` means bfloat16 where the hardware computes in it, else float32."""
    if dtype_name(dtype) == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


def load_causal_model(
    source: str | Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
    files: Path | None = None,
) -> tuple[Any, Any]:
    """Loads a decoder-only model, in evaluation mode, and its tokenizer, from safetensors or GGUF only.

    The source is a directory, a GGUF file (whose weights are dequantised), the directory of a LoRA adapter, a name on
    the hub (`owner/name`, or `owner/name/file.gguf`), or one that the package carries (`dino_st.models`); `files` is
    what `model_files` found for it, if that is known.

    Raises ModelError where it is missing, damaged, or no causal language model, MissingExtraError where reading it
    takes a package that is not installed (gguf, peft), and OutOfMemoryError where the device has no room for it.
    """
    path = files or model_files(source)
    if (path / ADAPTER).is_file():
        model, tokenizer = _load_adapter(path, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    else:
        model, tokenizer = _load_whole(path, str(source), dtype, trust_remote_code)
    if len(tokenizer.get_vocab()) <= len(tokenizer.all_special_ids):
        raise ModelError(f"model {str(source)!r} has no tokenizer beside it; copy its files (tokenizer.json, …)")
    try:
        return model.to(device).eval(), tokenizer
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"model {str(source)!r} does not fit into the memory of {device}; use a smaller model, a narrower "
            "--dtype or another --device"
        ) from error


def load_outline(source: str | Path, *, dtype: torch.dtype, trust_remote_code: bool = False) -> tuple[Any, Any]:
    """A causal language model without its weights, on the device `meta`, and its tokenizer; see `load_causal_model`.

    Only the configuration and the tokenizer are read, and, if need be, fetched from the hub.
    """
    from transformers import AutoTokenizer

    path = locate_model(source, weights=False)
    if (path / ADAPTER).is_file():
        model, tokenizer = load_outline(base_of(path), dtype=dtype, trust_remote_code=trust_remote_code)
        if (path / "tokenizer_config.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=trust_remote_code)
        return model, tokenizer
    if path.suffix == GGUF:
        check_gguf(path)
    with _worded(str(source)):
        kind, config, tokenizer, options = _read_settings(path, str(source), trust_remote_code)
        options.pop("gguf_file", None)
        with torch.device("meta"):
            return kind.from_config(config, dtype=dtype, **options), tokenizer


def _load_whole(path: Path, name: str, dtype: torch.dtype, trust_remote_code: bool) -> tuple[Any, Any]:
    """Loads all weights of a model from one place, and its tokenizer."""
    import transformers

    where, weights = str(path), dict[str, Any](use_safetensors=True)
    if path.suffix == GGUF:
        where = str(path.parent)
        weights = {"quantization_config": transformers.GgufConfig(gguf_file=path.name, dequantize=True)}
    with _worded(name):
        kind, _, tokenizer, options = _read_settings(path, name, trust_remote_code)
        loaded = kind.from_pretrained(where, dtype=dtype, output_loading_info=True, **options, **weights)
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"model {name!r} lacks {len(missing)} of the weights of a {type(model).__name__}, such as "
            f"{missing[0]!r}; it is not a complete causal language model"
        )
    if surplus := surplus_layers(model, report):
        raise ModelError(f"model {name!r} {surplus}")
    cap_attention(model)
    return model, tokenizer


def _read_settings(path: Path, name: str, trust_remote_code: bool) -> tuple[Any, Any, Any, dict[str, Any]]:
    """The class of a model, its configuration, its tokenizer, and how they are read."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    where, options = str(path), dict[str, Any](trust_remote_code=trust_remote_code)
    if path.suffix == GGUF:
        where, options["gguf_file"] = str(path.parent), path.name
    config = AutoConfig.from_pretrained(where, **options)
    _check_architecture(config, name)
    tokenizer = AutoTokenizer.from_pretrained(where, **options)
    is_text = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or getattr(config, "auto_map", None)
    return (AutoModelForCausalLM if is_text else AutoModelForImageTextToText), config, tokenizer, options


@contextmanager
def _worded(name: str) -> Iterator[None]:
    """Words whatever fails while a model is read."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"model {name!r} cannot be loaded: {first_line(error)}{_advice(error)}") from error


def _load_adapter(path: Path, **options: Any) -> tuple[Any, Any]:
    """Loads the base model that an adapter names, and merges the adapter into it."""
    if find_spec("peft") is None:
        raise MissingExtraError(
            f'model {path}: this is an adapter, and peft reads those; run: pip install "dino-st[peft]"'
        )
    from transformers import AutoTokenizer

    base = base_of(path)
    try:
        model, tokenizer = load_causal_model(base, **options)
    except DinoError as error:
        raise ModelError(f"model {path}: this is an adapter for {str(base)!r}. {error}") from error
    try:
        model = merge_adapter(model, path)
        if (path / "tokenizer_config.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=options["trust_remote_code"])
    except Exception as error:
        raise ModelError(
            f"model {path}: this adapter cannot be merged into {str(base)!r}: {first_line(error)}. Expected one that "
            "peft wrote for this base model, such as LoRA"
        ) from error
    return model, tokenizer


def check_causal_model(model: Any) -> None:
    """Raises ModelError for what the engine cannot decode with: no output layer, an encoder, a recurrent state."""
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


def check_tokenizer(model: Any, tokenizer: Any, prompt: Sequence[int]) -> None:
    """Refuses (ModelError) a tokenizer of another model: one with tokens that the model has no embedding for.

    Special tokens beyond the embedding, such as padding that was added later, do no harm where no prompt has them; the
    prompt given is one as the tokenizer makes them.
    """
    size = model.get_input_embeddings().weight.shape[0]
    ends = {token: tokenizer.decode([token]) for token in sorted(end_of_text_ids(model, tokenizer))}
    quoting = [token for token, text in ends.items() if '"' in text]
    if quoting:
        raise ModelError(
            f"token {quoting[0]}, which has a quotation mark in its text, means end-of-text to {type(model).__name__}; "
            "so no text could end. Mend eos_token_id in config.json and generation_config.json"
        )
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    ids = tokenizer.get_vocab()
    beyond = [token for token, id_ in ids.items() if id_ >= size and (token not in special or id_ in prompt)]
    if beyond:
        raise ModelError(
            f"the tokenizer has {len(beyond)} tokens that {type(model).__name__} does not know, such as "
            f"{min(beyond)!r}: its ids go up to {max(ids.values())}, and the model has {size} embeddings; take the "
            "model's own tokenizer"
        )
    marked = {*special, *tokenizer.all_special_tokens}
    words = sorted(text for text in marked if _PLAIN_TEXT.fullmatch(text))
    if words:
        warn(
            f"the tokenizer marks {', '.join(map(repr, words))} as special, as no text of {type(model).__name__} will "
            "have it then; mend its settings (tokenizer_config.json, special_tokens_map.json)",
            DinoWarning,
            stacklevel=2,
        )
    ordinary = sorted({text for text in ends.values() if _PLAIN_TEXT.fullmatch(text.strip())} - marked)
    if ordinary:
        warn(
            f"eos_token_id says that {', '.join(map(repr, ordinary))} means end-of-text to {type(model).__name__}, so "
            "that no text will have it; take config.json and generation_config.json of this model",
            DinoWarning,
            stacklevel=2,
        )
    check_decoding(tokenizer, type(model).__name__)
    embedding = model.get_input_embeddings().weight
    doubts = [vocabulary_doubt(ids, embedding), spelling_doubt(tokenizer), zeros_doubt(model, embedding, ids)]
    doubts += [files_doubt(tokenizer, ids), kind_doubt(model.config)]
    for doubt in filter(None, doubts if any(doubts) else [fluency_doubt(model, tokenizer)]):
        warn(f"{type(model).__name__}: {doubt}", DinoWarning, stacklevel=2)
    if max(ids.values(), default=0) + 1 < size * SHARE_OF_EMBEDDING:
        warn(
            f"the tokenizer has {len(ids)} tokens and {type(model).__name__} {size} embeddings, as if it were another "
            "model's; look at what is written",
            DinoWarning,
            stacklevel=2,
        )


def check_decoding(tokenizer: Any, name: str) -> None:
    """Refuses (ModelError) a tokenizer that runs words together, tears them or leaves marks in them; tells the rest.

    What is told is a sample that comes back otherwise in capitals or in the spaces beside marks. A tokenizer that lacks
    some of the sample's letters has no say.
    """
    ids = tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
    back: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    words, expected = (_WORD.findall(text.lower()) for text in (back, _SAMPLE))
    is_marked = _TOKENIZER_MARK.search(back) is not None
    if is_marked or (words != expected and "".join(words) == "".join(expected)):
        raise ModelError(
            f"the tokenizer of {name} does not give back what it reads, as where tokenizer.json lacks its decoder or "
            f"pre-tokenizer: {_SAMPLE!r} comes back as {back!r}; fetch the tokenizer files of this model again"
        )
    if words == expected and back.strip() != _SAMPLE:
        what = "in small letters" if back.strip() == _SAMPLE.lower() else "changed"
        warn(
            f"what the tokenizer of {name} reads comes back {what}: {_SAMPLE!r} as {back!r}; so will its texts, unless "
            "the model is meant so, fetch its tokenizer files again",
            DinoWarning,
            stacklevel=3,
        )


def hash_weights(files: Path | None, model: Any) -> str:
    """SHA-256 over the files that a model was loaded from, or over its tensors if it was handed in."""
    if files is not None and (stored := hash_weight_files(files)) is not None:
        return stored
    adapters = active_adapters(model)
    digest = hashlib.sha256(repr(adapters).encode() if adapters else b"")
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_settings(model: Any, tokenizer: Any) -> str:
    """SHA-256 of what decides a model's output beside its weights: configuration, tokenizer, chat template."""
    passing = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "quantization_config")
    config = {name: value for name, value in model.config.to_dict().items() if name not in passing}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = tokenizer.get_vocab() if backend is None else backend.to_str()
    settings = [config, vocabulary, getattr(tokenizer, "chat_template", None)]
    generation = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if generation not in (None, model.config.get_text_config().eos_token_id):
        settings.append(generation)  # what ends a text is set there, too
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and multiplies_bfloat16()


def _check_architecture(config: Any, source: str) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    known = {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"model {source!r} is an encoder-decoder ({config.model_type}); expected a decoder-only model")
    architectures = getattr(config, "architectures", None) or []
    if config.model_type not in known and not getattr(config, "auto_map", None):
        raise ModelError(f"model {source!r} is of type {config.model_type!r}, which is no causal language model")
    if architectures and not any(kind in name for name in architectures for kind in _LANGUAGE_MODELS):
        raise ModelError(
            f"model {source!r} is a {architectures[0]}, not a causal language model; generation needs one that "
            "predicts the next token, such as gpt2-xl. (An encoder belongs to `dino-st train --encoder`.)"
        )


def _advice(error: BaseException) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return ". The model brings its own code; read it, and pass --trust-remote-code if you trust it"
    if "ignore_mismatched_sizes" in text:
        return ". The sizes in config.json are not those of the weights; copy the configuration that belongs to them"
    if "backend tokenizer" in text or isinstance(error, json.JSONDecodeError):
        return ". Its tokenizer (tokenizer.json, …) or configuration is missing or damaged; copy all files of the model"
    if "safetensors" in text and "not" in text:
        return ". Only safetensors are loaded"
    if "GGUF model with architecture" in text:
        from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

        return f". transformers reads {', '.join(sorted(GGUF_SUPPORTED_ARCHITECTURES))}"
    if isinstance(error, OSError):
        return ". Check the name, the connection to the hub, and that the directory is complete"
    return ""
