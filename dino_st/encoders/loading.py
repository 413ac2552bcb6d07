"""Loading an encoder to train or to score it: float32 weights, safetensors only, padding that survives saving."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.encoders.directory import local_directory
from dino_st.errors import ConfigurationError, ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def load_trainable_encoder(
    encoder: str | os.PathLike[str] | SentenceTransformer,
    *,
    max_seq_length: int | None = None,
    device: str = "auto",
    pooling: str = "mean",
) -> SentenceTransformer:
    """Loads an encoder in float32, with what it takes to encode in batches.

    A plain transformers model, an encoder or a causal language model, gets mean pooling, or `pooling`. A tokenizer
    without a padding token (those of GPT) pads with its end-of-text token, and on the right, so that positions start at
    the first word; both are saved with the model.

    Args:
        encoder: A name on the hub or of a bundled encoder, a sentence-transformers directory, a plain transformers
            directory, or a `SentenceTransformer`, which is then trained in place.
        max_seq_length: Tokens kept of a sentence; without it, what the encoder allows.
        device: `auto`, or a device of torch.
        pooling: `mean` or `cls`, for a plain transformers model; any other keeps its own.

    Returns:
        The encoder.

    Raises:
        ConfigurationError: `max_seq_length` exceeds the positions that the encoder has, or `cls` is asked for with a
            causal language model.
        ModelError: There is no such model, it needs code of its own, its weights are missing, damaged or pickled, or
            its tokenizer has no token to pad with.
    """
    if isinstance(encoder, str | os.PathLike):
        directory, name = local_directory(encoder), repr(os.fspath(encoder))
        if directory is not None:
            _check_weights(directory)
        model = _load(os.fspath(encoder) if directory is None else str(directory), directory, device, pooling).float()
    else:
        model, name = encoder, "the encoder"
    pad_with_end_of_text(model)
    if getattr(getattr(model, "tokenizer", None), "pad_token", "") is None:
        raise ModelError(
            f"the tokenizer of {name} has neither a padding nor an end-of-text token; give it one: "
            "tokenizer.pad_token = ..., tokenizer.save_pretrained(directory)"
        )
    if max_seq_length is not None:
        _limit_length(model, max_seq_length, name)
    return model


def pad_with_end_of_text(encoder: SentenceTransformer) -> None:
    """Gives a tokenizer of the GPT kind the padding token that `encode` needs to batch sentences.

    The padded positions are masked, so which token it is does not matter. An encoder that has a padding token, or no
    transformers tokenizer, is left as it is.
    """
    tokenizer: Any = getattr(encoder, "tokenizer", None)
    if getattr(tokenizer, "pad_token", "") is None:
        tokenizer.pad_token = tokenizer.eos_token


def _check_weights(directory: Path) -> None:
    """Raises unless the weights of the transformer are there, as safetensors."""
    home = directory
    if (directory / "modules.json").is_file():
        try:
            modules = json.loads((directory / "modules.json").read_text(encoding="utf-8"))
            home = directory / str(modules[0]["path"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ModelError(f"{directory / 'modules.json'}: cannot be read as a list of modules ({error})") from error
    if next(home.glob("*.safetensors"), None) is not None:
        return
    pickle = next((file for pattern in _PICKLES for file in sorted(home.glob(pattern))), None)
    if pickle is not None:
        raise ModelError(
            f"{directory}: the weights are a pickle ({pickle.name}), which can run any code when it is read; only "
            "safetensors are loaded. If you trust its origin, convert it once:\n"
            f'python -c "import transformers as t; d = {str(home)!r}; '
            "M = getattr(t, t.AutoConfig.from_pretrained(d).architectures[0]); "
            'M.from_pretrained(d, use_safetensors=False).save_pretrained(d)"'
        )
    raise ModelError(f"{directory}: holds no weights (no *.safetensors in {home}); copy or download it completely")


def _load(name: str, directory: Path | None, device: str, pooling: str) -> SentenceTransformer:
    """Loads a model, and words what can go wrong."""
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    no_code: dict[str, Any] = {"trust_remote_code": False}
    # Without a dtype transformers takes that of the file, and bfloat16 weights swallow small updates.
    weights = {"dtype": torch.float32, "use_safetensors": True}
    place = None if device == "auto" else device
    try:
        if directory is None or (directory / "modules.json").is_file():
            return SentenceTransformer(
                name, device=place, local_files_only=directory is not None, model_kwargs=weights, **no_code
            )
        transformer = Transformer(
            name, model_kwargs=weights | no_code, config_kwargs=dict(no_code), processor_kwargs=dict(no_code)
        )
        if transformer.tokenizer is not None:
            transformer.tokenizer.padding_side = "right"
        pool = Pooling(transformer.get_embedding_dimension(), pooling)
        model = SentenceTransformer(modules=[transformer, pool], device=place)
    except SafetensorError as error:
        raise ModelError(
            f"{name}: the weights are truncated or damaged ({error}); copy or download them again"
        ) from error
    except (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError, ImportError) as error:
        raise ModelError(f"{name}: cannot be loaded as an encoder: {_reason(error, directory)}") from error
    architectures = getattr(transformer.model.config, "architectures", None) or ()
    if any(architecture.endswith(("ForCausalLM", "LMHeadModel")) for architecture in architectures):
        if pooling == "cls":
            raise ConfigurationError(
                f"pooling is 'cls', but {name} is a causal language model, whose first token sees nothing of the "
                "sentence; choose pooling='mean'"
            )
        logger.info("%s is a causal language model; the mean of its token vectors is taken for the sentence", name)
    return model


def _reason(error: Exception, directory: Path | None) -> str:
    """The first line of a library's error, and what to do about it."""
    text = str(error).strip()
    if "trust_remote_code" in text:
        return "it comes with code of its own, and such code is never run (trust_remote_code is off); choose another"
    first = text.partition("\n")[0].rstrip(".") or type(error).__name__
    if directory is None:
        return f"{first}. There is no directory of this name; on the hub, check the spelling and the connection"
    return f"{first}. Check that configuration, tokenizer and weights belong together and are complete"


def _limit_length(model: SentenceTransformer, length: int, name: str) -> None:
    """Sets the length, unless the encoder has fewer positions or, having no order of words, needs none."""
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    if isinstance(model[0], StaticEmbedding):
        logger.info("%s averages over any number of words; max_seq_length is not used", name)
        return
    configuration = getattr(getattr(model[0], "model", None), "config", None)
    positions = getattr(configuration, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < length:
        raise ConfigurationError(
            f"max_seq_length is {length}, but {name} has {positions} positions; choose at most that"
        )
    model.max_seq_length = length
