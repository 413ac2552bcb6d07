"""Loading an encoder to train or to score it: float32 weights, safetensors only, padding that survives saving."""

from __future__ import annotations

import json
import logging
import math
import os
import string
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dino_st.encoders.directory import (
    SHARE_OF_EMBEDDING,
    adapter_base,
    cap_attention,
    check_beside,
    check_weight_file,
    is_pointer,
    local_directory,
    merge_adapter,
    read_settings,
    surplus_layers,
)
from dino_st.encoders.doubts import (
    CHAT,
    files_doubt,
    kind_doubt,
    marks_doubt,
    position_doubt,
    spelling_doubt,
    template_doubt,
    vectors_doubt,
    vocabulary_doubt,
    zeros_doubt,
)
from dino_st.errors import ConfigurationError, DinoError, DinoWarning, MissingExtraError, ModelError, first_line
from dino_st.support.hub import fetch_model

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

logger = logging.getLogger(__name__)

PoolingName = Literal["mean", "cls", "last", "weighted-mean"]

POOLINGS: dict[PoolingName, str] = {
    "mean": "mean",
    "cls": "cls",
    "last": "lasttoken",
    "weighted-mean": "weightedmean",
}
"""Ways from token vectors to a sentence's, and the mode of sentence-transformers' `Pooling` behind each."""

_HOLDING = ("Transformer", "StaticEmbedding")
"""Kinds of modules that are nothing without weights, in whatever place."""

_WEIGHTLESS = ("BoW",)
"""Kinds of modules that an encoder may begin with and that have none."""

_PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.ckpt")

_HEADS = {
    "ForSequenceClassification": "to classify texts or pairs of them, as a cross-encoder does",
    "ForTokenClassification": "to label words",
    "ForQuestionAnswering": "to find answers in texts",
    "ForMultipleChoice": "to choose among answers",
}
"""Ends of the names of architectures whose head is not for vectors of sentences, and what it is for."""

_SAMPLE, _MOST_UNKNOWN, _MOST_UNKNOWN_WORDS, _MOST_CUT = 500, 0.05, 0.3, 0.01
"""Texts that are looked at, and the shares of unknown tokens (2.9 % at most in each of 35 sets of English texts, with
two encoders that fit), of words without a vector, and of cut texts from which on it is told."""


def load_trainable_encoder(
    encoder: str | os.PathLike[str] | SentenceTransformer,
    *,
    max_seq_length: int | None = None,
    device: str = "auto",
    pooling: PoolingName = "mean",
    layers: int | None = None,
    bidirectional: bool = False,
) -> SentenceTransformer:
    """Loads an encoder in float32, with what it takes to encode in batches.

    A plain transformers model, an encoder or a causal language model, gets mean pooling, or `pooling`, and reads texts
    as they are, without a chat template. A tokenizer
    without a padding token (those of GPT) pads with its end-of-text token, and on the right, so that positions start at
    the first word; both are saved with the model, and so are a smaller number of layers and a mask that was lifted.

    Example:
        >>> student = load_trainable_encoder("gpt2", layers=4, pooling="weighted-mean")
        >>> student.save_pretrained("student")  # SentenceTransformer("student") loads it

    Args:
        encoder: A name on the hub or of a bundled encoder, a sentence-transformers directory, a plain transformers
            directory, or a `SentenceTransformer`, which is then trained in place.
        max_seq_length: Tokens kept of a sentence; without it, what the encoder allows.
        device: `auto`, or a device of torch.
        pooling: `mean`, `cls`, `last` (the last token's vector) or `weighted-mean` (a token's weight is its position,
            as in SGPT, arXiv 2202.08904), for a plain transformers model; any other keeps its own.
        layers: Keep the first so many layers of a plain transformers model.
        bidirectional: Let the tokens of a causal language model see those behind them, too (as LLM2Vec does, arXiv
            2404.05961); the model must learn to use what it sees then.

    Returns:
        The encoder.

    Raises:
        ConfigurationError: `max_seq_length` exceeds the positions that the encoder has, `cls` is asked for with a
            causal language model, `layers` exceeds the layers that there are, the mask cannot be lifted, or either is
            asked for with what is no plain transformers model.
        ModelError: There is no such model, it needs code of its own, its weights are missing, damaged or pickled, or
            its tokenizer has no token to pad with.
    """
    from sentence_transformers.sentence_transformer.modules import Transformer

    if isinstance(encoder, str | os.PathLike):
        local, name = local_directory(encoder), os.fspath(encoder)
        directory = encoder_files(encoder)
        if (directory / "modules.json").is_file():
            _refuse_rebuilding(repr(name), layers, bidirectional)
        shape = _Shape(pooling, layers, bidirectional)
        model = _load(name if local is None else str(local), directory, device, shape).float()
        if isinstance(model[0], Transformer):
            cap_attention(model[0].model)
        if local is None:
            model.model_card_data.base_model, model.model_card_data.base_model_revision = name, directory.name
        name = repr(name)
    else:
        model, name = encoder, "the encoder"
        _check_object(model)
        _refuse_rebuilding(name, layers, bidirectional)
    pad_with_end_of_text(model)
    if getattr(getattr(model, "tokenizer", None), "pad_token", "") is None:
        raise ModelError(
            f"the tokenizer of {name} has neither a padding nor an end-of-text token; give it one: "
            "tokenizer.pad_token = ..., tokenizer.save_pretrained(directory)"
        )
    _check_vocabulary(model, name)
    _limit_length(model, max_seq_length, name)
    if names := routes(model):
        logger.warning(
            "%s reads texts by routes (%s); a pair of sentences says nothing of these, so that both go by the default "
            "one",
            name,
            ", ".join(names),
        )
    return model


def routes(encoder: SentenceTransformer) -> list[str]:
    """The names of an encoder's routes, such as query and document; none where all texts go one way."""
    from sentence_transformers.sentence_transformer.modules import Router

    return [name for module in encoder if isinstance(module, Router) for name in module.sub_modules]


def load_cross_encoder(directory: Path, name: str, *, device: str) -> CrossEncoder:
    """Loads a cross-encoder with the checks that an encoder gets; a ModelError says what is missing or damaged."""
    from sentence_transformers import CrossEncoder

    _check_files(directory)
    place = None if device == "auto" else device
    options: dict[str, Any] = {"local_files_only": True, "model_kwargs": {"use_safetensors": True}}
    with _worded(name, "a cross-encoder"):
        model: CrossEncoder = CrossEncoder(str(directory), device=place, trust_remote_code=False, **options)
        _check_weights(model[0], homes_of(directory)[0], name)
    _check_vocabulary(model, name)
    _limit_length(model, None, name)
    return model


@dataclass(frozen=True)
class _Shape:
    """What becomes of a plain transformers model."""

    pooling: PoolingName
    layers: int | None
    bidirectional: bool


def _refuse_rebuilding(name: str, layers: int | None, bidirectional: bool) -> None:
    """Refuses to change what a sentence-transformers model is made of."""
    asked = [f"layers={layers}"] * (layers is not None) + ["bidirectional=True"] * bidirectional
    if asked:
        raise ConfigurationError(
            f"{' and '.join(asked)}: for plain transformers models, but {name} is a sentence-transformers model, which "
            "stays as it was made; leave it out, or start from the transformers model"
        )


def encoder_files(encoder: str | os.PathLike[str]) -> Path:
    """The directory with an encoder's files, one on the hub fetched first; a ModelError unless all are there."""
    directory = local_directory(encoder) or fetch_model(os.fspath(encoder))
    _check_files(directory)
    return directory


def pad_with_end_of_text(encoder: SentenceTransformer) -> None:
    """Gives a tokenizer of the GPT kind the padding token that `encode` needs to batch sentences.

    The padded positions are masked, so which token it is does not matter. An encoder that has a padding token, or no
    transformers tokenizer, is left as it is.
    """
    tokenizer: Any = getattr(encoder, "tokenizer", None)
    if getattr(tokenizer, "pad_token", "") is None:
        tokenizer.pad_token = tokenizer.eos_token


def narrow_weights(model: SentenceTransformer) -> str:
    """The types of a model's weights, in words, that have fewer bits than float32, so that small updates are lost."""
    few = {weight.dtype for weight in model.parameters() if weight.is_floating_point() and weight.element_size() < 4}
    return " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in few))


def _check_object(model: Any) -> None:
    """Takes a model that was handed in, in float32."""
    from sentence_transformers import SentenceTransformer

    if not isinstance(model, SentenceTransformer):
        raise ConfigurationError(
            f"the encoder is a {type(model).__name__}; expected a directory, a name on the hub or a SentenceTransformer"
        )
    if narrow := narrow_weights(model):
        warnings.warn(
            f"the encoder's weights are {narrow}, in which small updates are lost; they are converted to float32",
            DinoWarning,
            stacklevel=3,
        )
        model.float()
    _check_finite(model, "the encoder")


_PROBES = ("A man is playing a flute.", "The train to the coast leaves at nine.", "Bread rises.")
_SAME = 1e-3
"""How much vectors may differ, as a share of their length, that are the same but for rounding."""


def check_saved_form(encoder: SentenceTransformer) -> None:
    """Refuses (ModelError) an encoder that is another one when it is saved and read again, so that training is lost.

    Parts that write their weights under names which they do not read, such as a PEFT model, or a pruned or parallel
    one, in place of a module's own model, make such an encoder; so do settings that no file holds. One with modules
    that are not of sentence-transformers may need code to be read: that it cannot be is a warning.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    own = encoder.encode(_PROBES, convert_to_tensor=True, show_progress_bar=False).cpu()
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder.save_pretrained(folder, create_model_card=False)
        try:
            with _worded("the encoder, as it would be saved", "an encoder"), quiet_transformers():
                again = SentenceTransformer(folder, device="cpu", local_files_only=True, trust_remote_code=False)
            found = again.encode(_PROBES, convert_to_tensor=True, show_progress_bar=False)
        except ModelError as error:
            if all(type(module).__module__.startswith("sentence_transformers.") for module in encoder):
                raise ModelError(f"{error} {_UNWRAP}") from error
            logger.warning("the encoder, as it will be saved, cannot be read here: %s", first_line(error))
            return
    names = {name.replace("_orig_mod.", "") for name in encoder.state_dict()}  # torch.compile's, which is saved well
    if unlike := names ^ again.state_dict().keys():
        raise ModelError(
            f"weights of the encoder have other names once it is saved, such as {min(unlike)!r}. {_UNWRAP}"
        )
    if found.shape != own.shape or (found - own).norm(dim=1).max() > _SAME * own.norm(dim=1).max():
        raise ModelError(f"the encoder gives other vectors when it is saved and read again. {_UNWRAP}")


_UNWRAP = (
    "Hand it in without what is wrapped around its parts: adapters by encoder.add_adapter(...) or merged into their "
    "base (merge_and_unload), compilation by the option torch_compile; and with the tokenizer that it was loaded with"
)


def _check_files(directory: Path) -> None:
    """Raises unless every module's files are there, the weights as safetensors, and none is a mere pointer to one."""
    homes = homes_of(directory)
    for kind, home in _modules_of(directory):
        if kind in ("Pooling", "Dense") and not (home / "config.json").is_file():
            raise ModelError(
                f"{directory}: modules.json names a module {kind} in {home.name}, but {home.name}/config.json is "
                "missing; copy or download the encoder completely"
            )
    for kind, home in _modules_of(directory):
        _check_home(directory, home, needs_weights=kind in _HOLDING or (home == homes[0] and kind not in _WEIGHTLESS))
    _warn_of_unread(directory, homes)


def _warn_of_unread(directory: Path, homes: list[Path]) -> None:
    """Warns of a numbered folder of weights, such as 2_Dense, if modules.json names no folder of that number.

    Variants, of which one is named (2_Dense_512 and 2_Dense_1024), are no sign of a lost entry.
    """
    named = {home.name.partition("_")[0] for home in homes}
    for weights in sorted(directory.glob("[0-9]*_*/model.safetensors")):
        home = weights.parent
        if home.name.partition("_")[0] not in named and (home / "config.json").is_file():
            logger.warning(
                "%s: modules.json does not name %s, which is left out; if it belongs to the encoder, copy modules.json "
                "again, else move the folder elsewhere",
                directory,
                home.name,
            )


def homes_of(directory: Path) -> list[Path]:
    """The folder of each module of an encoder, in their order; one of plain transformers has one."""
    return [home for _, home in _modules_of(directory)]


def _modules_of(directory: Path) -> list[tuple[str, Path]]:
    """The kind and the folder of each module of an encoder, in their order."""
    file = directory / "modules.json"
    if not file.is_file():
        return [("Transformer", directory)]
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
        found = [(str(one.get("type")).rpartition(".")[2], directory / str(one["path"])) for one in modules]
        for place, (kind, home) in enumerate(found):
            if kind == "Router":  # the folders of its routes lie in its own
                file = home / "router_config.json"
                routes = json.loads(file.read_text(encoding="utf-8"))["types"]
                found[place : place + 1] = [
                    (str(kind).rpartition(".")[2], home / name) for name, kind in routes.items()
                ]
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: cannot be read as a list of modules ({error})") from error


def _check_weights(module: Any, home: Path, name: str) -> None:
    """Raises where transformers made up weights that the files lack, ignored layers that they have, or read NaN."""
    transformer: Any = getattr(module, "model", None)
    kind: Any = type(transformer)
    if hasattr(kind, "from_pretrained"):
        with quiet_transformers():  # it has told all of this when it loaded the weights
            _, report = kind.from_pretrained(
                str(home), device_map="meta", output_loading_info=True, use_safetensors=True, trust_remote_code=False
            )
        missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))  # not used here
        if missing:
            raise ModelError(
                f"{name}: lacks {len(missing)} of the weights of a {kind.__name__}, such as "
                f"{missing[0]!r}; they would be random numbers. Copy the model again, with the config.json that "
                "belongs to it"
            )
        if surplus := surplus_layers(transformer, report):
            raise ModelError(f"{name}: {surplus}")
    _check_finite(module, name)


def _check_finite(module: Any, name: str) -> None:
    broken = next((key for key, weight in module.named_parameters() if not _is_finite(weight)), None)
    if broken is not None:
        raise ModelError(f"{name}: the weights {broken!r} hold NaN or infinite numbers; copy or train the model again")


def _is_finite(weights: Any) -> bool:
    """Whether all are numbers; their sum, which is quick, tells unless it overflows."""
    return bool(weights.sum().isfinite() or weights.isfinite().all())


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers from telling anything but errors."""
    from transformers.utils import logging as verbosity

    before = verbosity.get_verbosity()
    verbosity.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        verbosity.set_verbosity(before)


def _check_home(directory: Path, home: Path, *, needs_weights: bool) -> None:
    """Looks at the folder of one module, of which all but the first may do without weights."""
    for file in filter(Path.is_file, home.glob("*")):
        if is_pointer(file):
            raise ModelError(
                f"{file}: a pointer of Git LFS stands here instead of the file; run `git lfs pull` in {directory}"
            )
    if needs_weights:
        check_beside(home)
    for file in sorted(home.glob("*.safetensors")):
        if not file.name.startswith("adapter_"):  # PEFT, which may be missing, reads those
            check_weight_file(home, file.name)
    if next(home.glob("*.safetensors" if needs_weights else "model.safetensors"), None) is not None:
        return
    pickle = next((file for pattern in _PICKLES for file in sorted(home.glob(pattern))), None)
    if pickle is not None:
        module = (
            "import transformers as t; d = {!r}; M = getattr(t, t.AutoConfig.from_pretrained(d).architectures[0]); "
        )
        convert = module.format(str(home)) + "M.from_pretrained(d, use_safetensors=False).save_pretrained(d)"
        if not needs_weights:
            convert = "import torch, safetensors.torch as s; "
            convert += f"s.save_file(torch.load({str(pickle)!r}), {str(home / 'model.safetensors')!r})"
        raise ModelError(
            f"{directory}: the weights are a pickle ({pickle.relative_to(directory)}), which can run any code when it "
            "is read; only safetensors are loaded. If you trust its origin, convert it once:\n"
            f'python -c "{convert}"'
        )
    if needs_weights:
        raise ModelError(f"{directory}: holds no weights (no *.safetensors in {home}); copy or download it completely")


def _load(name: str, directory: Path, device: str, shape: _Shape) -> SentenceTransformer:
    """Loads a model from a directory, and words what can go wrong."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    no_code: dict[str, Any] = {"trust_remote_code": False}
    # Without a dtype transformers takes that of the file, and bfloat16 weights swallow small updates.
    weights = {"dtype": torch.float32, "use_safetensors": True}
    place = None if device == "auto" else device
    with _worded(name, "an encoder"):
        base = _adapter_home(directory)
        if (directory / "modules.json").is_file():
            options: dict[str, Any] = {"local_files_only": True, "model_kwargs": weights} | no_code
            made_as = (read_settings(directory, "config_sentence_transformers.json") or {}).get("model_type")
            if made_as not in (None, "SentenceTransformer"):
                logger.warning("%s was made as a %s, not to give dense vectors of sentences", name, made_as)
            model = SentenceTransformer(str(directory), device=place, **options)
            if len(model) == 1 and isinstance(model[0], Transformer) and not _gives_vectors(model):
                raise ModelError(
                    f"{name}: modules.json names no module behind the transformer that makes one vector of its tokens' "
                    "(such as 1_Pooling); copy or download the encoder completely"
                )
            _check_weights(model[0], base or homes_of(directory)[0], name)
            if base is not None:
                model[0].model = _merged(directory, base).to(model.device)
            return model
        if (directory / "1_Pooling").is_dir():
            raise ModelError(
                f"{name}: modules.json is missing beside 1_Pooling, so it is not known how this encoder pools; copy or "
                "download it completely"
            )
        transformer = Transformer(
            str(base or directory),
            model_kwargs=weights | no_code,
            config_kwargs=dict(no_code),
            processor_kwargs=dict(no_code),
        )
        _read_plain_text(transformer)
        _check_weights(transformer, base or directory, name)
        if base is not None:
            transformer.model = _merged(directory, base)
        if transformer.tokenizer is not None:
            transformer.tokenizer.padding_side = "right"
        if shape.layers is not None:
            _keep_layers(transformer.model, shape.layers, name)
        if shape.bidirectional:
            _lift_mask(transformer.model, name)
        pool = Pooling(transformer.get_embedding_dimension(), POOLINGS[shape.pooling])
        model = SentenceTransformer(modules=[transformer, pool], device=place)
    architectures = getattr(transformer.model.config, "architectures", None) or ()
    if any(architecture.endswith(("ForCausalLM", "LMHeadModel")) for architecture in architectures):
        if shape.pooling == "cls" and not shape.bidirectional:
            raise ConfigurationError(
                f"pooling is 'cls', but {name} is a causal language model, whose first token sees nothing of the "
                "sentence; choose pooling='mean'"
            )
        logger.info("%s is a causal language model; pooling of its token vectors: %s", name, shape.pooling)
    for architecture in architectures:
        if purpose := next((purpose for end, purpose in _HEADS.items() if architecture.endswith(end)), None):
            logger.warning(
                "%s was made %s (%s), not to give vectors of sentences: its head is left out, and the vectors of its "
                "tokens are pooled (%s)",
                name,
                purpose,
                architecture,
                shape.pooling,
            )
    return model


@contextmanager
def _worded(name: str, kind: str) -> Iterator[None]:
    """Words what can go wrong while a model of a kind is loaded."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise ModelError(
            f"{name}: the weights are truncated or damaged ({error}); copy or download them again"
        ) from error
    except DinoError:
        raise
    except (
        OSError,
        ValueError,
        RuntimeError,
        LookupError,
        AttributeError,
        TypeError,
        ImportError,
        UserWarning,
    ) as error:
        raise ModelError(f"{name}: cannot be loaded as {kind}: {_reason(error)}") from error


def _read_plain_text(transformer: Any) -> None:
    """Has a transformer read texts as they are, now and once saved, not as a chat in the tokenizer's template.

    sentence-transformers wraps every text in the template where there is one, so that the pooled vector is that of
    template and text together.
    """
    if transformer.modality_config.pop(CHAT, None) is not None:
        transformer.input_formatter.supported_modalities = list(transformer.modality_config)


def _gives_vectors(model: SentenceTransformer) -> bool:
    """Whether an encoder makes a vector of a text; a transformer without pooling has token vectors alone."""
    try:
        model.encode("a", show_progress_bar=False)
    except KeyError:
        return False
    return True


def _keep_layers(model: Any, number: int, name: str) -> None:
    """Cuts a transformers model off behind its first layers, in its configuration, too, so that it is saved so."""
    from torch.nn import ModuleList

    config, total = model.config, getattr(model.config, "num_hidden_layers", None)
    children = [(parent, key, child) for parent in model.modules() for key, child in parent.named_children()]
    stacks = [(parent, key) for parent, key, child in children if isinstance(child, ModuleList) and len(child) == total]
    if not isinstance(total, int) or not 1 <= number <= total:
        raise ConfigurationError(f"layers is {number}, but {name} has {total} layers; choose from 1 to {total}")
    if number == total:
        return
    if len(stacks) != 1:
        raise ConfigurationError(
            f"layers is {number}, but a {type(model).__name__} has no single stack of its {total} layers that could be "
            "cut; leave it out"
        )
    parent, key = stacks[0]
    setattr(parent, key, getattr(parent, key)[:number])
    for kinds in _KINDS_OF_LAYERS:
        if isinstance(of_each := getattr(config, kinds, None), list | tuple) and len(of_each) == total:
            setattr(config, kinds, list(of_each[:number]))
    config.num_hidden_layers = number


_KINDS_OF_LAYERS = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Fields of configurations that have an entry for each layer."""


def _lift_mask(model: Any, name: str) -> None:
    """Lets every token see those behind it, through the configuration, so that it is saved so; looks whether it does.

    transformers builds the masks of most decoders from `config.is_causal` (from some 5.x release on, without a word
    about the others), so two texts that differ in their last token must differ in the first one's vector.
    """
    import torch

    model.config.is_causal = False
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False
    training, device = model.training, next(model.parameters()).device
    texts = torch.tensor([[5, 6, 7], [5, 6, 8]], device=device)
    try:
        with torch.no_grad():
            output = model.eval()(input_ids=texts, attention_mask=torch.ones_like(texts))
        first, second = output.last_hidden_state[:, 0]
        is_lifted = not torch.allclose(first, second, rtol=1e-5, atol=1e-6)
    except (AttributeError, TypeError, RuntimeError):  # of a model that takes for granted that there is a mask
        is_lifted = False
    model.train(training)
    if not is_lifted:
        from transformers import __version__

        raise ConfigurationError(
            f"bidirectional=True, but transformers {__version__} cannot lift the causal mask of a "
            f"{type(model).__name__} ({name}); leave it out"
        )


def _adapter_home(directory: Path) -> Path | None:
    """The directory of the base model, if this one holds an adapter."""
    name = adapter_base(directory)
    if name is None:
        return None
    if find_spec("peft") is None:
        raise MissingExtraError(f'{directory} holds an adapter, which PEFT loads; run: pip install "dino-st[peft]"')
    base = local_directory(name) or fetch_model(name)
    _check_files(base)
    return base


def _merged(adapter: Path, base: Path) -> Any:
    """The base model with an adapter's weights added to its own, so that it is trained and saved like any other."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    peft: Any = import_module("peft")
    is_causal = peft.PeftConfig.from_pretrained(str(adapter)).task_type == peft.TaskType.CAUSAL_LM
    kind: Any = AutoModelForCausalLM if is_causal else AutoModel  # an adapter's weights are named after its whole model
    whole = kind.from_pretrained(str(base), dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
    merged = merge_adapter(whole, adapter).requires_grad_(True)
    return merged.base_model if is_causal else merged


def _reason(error: Exception) -> str:
    """The first line of a library's error, and what to do about it."""
    if "trust_remote_code" in str(error):
        return "it comes with code of its own, and such code is never run (trust_remote_code is off); choose another"
    if "ignore_mismatched_sizes" in str(error):
        return "the sizes in its config.json are not those of the weights. Copy the configuration that belongs to them"
    return f"{first_line(error)}. Check that configuration, tokenizer and weights belong together and are complete"


def _check_vocabulary(model: SentenceTransformer | CrossEncoder, name: str) -> None:
    """Raises where the tokenizer knows tokens that the embedding has no row for; tells what speaks against it."""
    from sentence_transformers import SentenceTransformer

    first: Any = model[0]
    tokenizer: Any = getattr(first, "tokenizer", None)
    if not hasattr(tokenizer, "get_vocab"):
        return
    vocabulary = tokenizer.get_vocab()  # built anew at each call
    if not isinstance(vocabulary, dict):  # of counted words, or word vectors
        return
    if set(vocabulary) <= set(getattr(tokenizer, "all_special_tokens", ())):
        raise ModelError(
            f"{name}: its tokenizer knows no words, as where tokenizer.json is missing; copy or download it completely"
        )
    embedding = first.model.get_input_embeddings() if hasattr(first, "model") else first
    rows, last = getattr(embedding, "num_embeddings", None), max(vocabulary.values(), default=0)
    if isinstance(rows, int) and last >= rows:
        raise ModelError(
            f"{name}: the tokenizer has tokens up to number {last}, but the embedding has {rows} rows; copy the "
            "tokenizer that belongs to the weights, or enlarge the embedding with resize_token_embeddings"
        )

    if isinstance(rows, int) and last + 1 < rows * SHARE_OF_EMBEDDING:
        logger.warning(
            "%s: the tokenizer has %d tokens and the embedding %d rows, as if it were another model's; take the "
            "tokenizer that belongs to the weights",
            name,
            last + 1,
            rows,
        )
    transformer = getattr(first, "model", None)
    weights = (
        getattr(embedding, "weight", None)
        if transformer
        else getattr(getattr(first, "embedding", None), "weight", None)
    )
    doubts = [vocabulary_doubt(vocabulary, weights)] if weights is not None else []
    doubts += [spelling_doubt(tokenizer), files_doubt(tokenizer, vocabulary), zeros_doubt(first, weights, vocabulary)]
    if transformer is not None:
        doubts += [
            kind_doubt(transformer.config),
            marks_doubt(transformer.config, tokenizer),
            position_doubt(transformer),
        ]
    if isinstance(model, SentenceTransformer):
        doubts += [vectors_doubt(model, vocabulary), template_doubt(model)]
    for doubt in filter(None, doubts):
        logger.warning("%s: %s", name, doubt)


def warn_of_tokens(
    model: SentenceTransformer | CrossEncoder, texts: Sequence[str], name: str, *, is_length_chosen: bool = False
) -> float:
    """Warns where an encoder reads little of texts, of which it looks at a sample: unknown words, or what is cut.

    Where somebody chose how many tokens it reads, what is cut is information. Returns the share of texts that are cut.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer
    from tokenizers import Tokenizer

    is_encoder = isinstance(model, SentenceTransformer)
    first: Any = model[0]
    tokenizer: Any = getattr(first, "tokenizer", None)
    most = _MOST_UNKNOWN
    sample = [text for text in texts[:: max(1, len(texts) // _SAMPLE)] if isinstance(text, str)]
    if isinstance(tokenizer, Tokenizer):  # of static embeddings
        limit, unknown = (tokenizer.truncation or {}).get("max_length"), _unknown_token(tokenizer)
        is_length_chosen = False  # which these do not heed
        whole = Tokenizer.from_str(tokenizer.to_str())
        whole.no_truncation()
        rows = [encoding.ids for encoding in whole.encode_batch(sample, add_special_tokens=False)]
    elif isinstance(tokenizer, WhitespaceTokenizer):  # of word vectors; it leaves unknown words out, and stop words
        limit, unknown, most = None, 0, _MOST_UNKNOWN_WORDS
        words = [word for text in sample for word in text.split() if any(map(str.isalnum, word))]
        stop_words = set(tokenizer.stop_words)
        rows = [[int(bool(tokenizer.tokenize(word)) or _bare(word) in stop_words)] for word in words]
    elif hasattr(tokenizer, "num_special_tokens_to_add"):
        limit, unknown = model.max_seq_length, tokenizer.unk_token_id
        limit = None if limit is None else limit - tokenizer.num_special_tokens_to_add(pair=not is_encoder)
        rows = (
            tokenizer(sample, add_special_tokens=False, truncation=False, verbose=False)["input_ids"] if sample else []
        )
    else:
        return 0.0
    total = sum(map(len, rows))
    strange = sum(row.count(unknown) for row in rows) / max(total, 1) if unknown is not None else 0
    cut: float = sum(limit is not None and len(row) > limit for row in rows) / max(len(rows), 1)
    if strange > most:
        logger.warning(
            "%s: %.0f %% of the texts' tokens are unknown to its tokenizer, so that it cannot tell many texts apart; "
            "is it for this language and spelling?",
            name,
            100 * strange,
        )
    if cut >= _MOST_CUT:
        logger.log(
            logging.INFO if is_length_chosen else logging.WARNING,
            "%s: %.0f %% of the texts are longer than the %d tokens that it reads, and are cut; raise its maximum "
            "length (%s)",
            name,
            100 * cut,
            limit,
            "max_seq_length, or truncation in tokenizer.json"
            if is_encoder
            else "model_max_length in tokenizer_config.json",
        )
    return cut


def _bare(word: str) -> str:
    """A word without case and the punctuation around it."""
    return word.lower().strip(string.punctuation)


def warn_of_similarity(model: SentenceTransformer, name: str) -> None:
    """Says that cosines are compared where an encoder was made for another similarity that may order pairs otherwise.

    Dot products and distances of vectors of length 1 order pairs as cosines do. A single dimension is told, too.
    """
    from sentence_transformers.sentence_transformer.modules import Normalize

    own = model.similarity_fn_name
    same = ("cosine", "dot", "euclidean") if isinstance(model[-1], Normalize) else ("cosine",)
    if own not in same:
        logger.warning(
            "%s was made for another similarity (similarity_fn_name: %s); what is compared here is the cosine, as in "
            "the papers on STS",
            name,
            own,
        )
    if model.get_embedding_dimension() == 1:
        logger.warning("%s gives vectors of a single dimension, whose cosines are 1 or -1 (see truncate_dim)", name)


def _unknown_token(tokenizer: Any) -> int | None:
    token = getattr(tokenizer.model, "unk_token", None)
    return None if token is None else tokenizer.token_to_id(token)


def _limit_length(model: SentenceTransformer | CrossEncoder, length: int | None, name: str) -> None:
    """Sets the length, unless the encoder has fewer positions or, having no order of words, needs none."""
    if length is None and (model.max_seq_length or 0) < 0:
        raise ModelError(
            f"{name}: its maximum length is {model.max_seq_length} tokens (max_seq_length); mend its configuration, or "
            "give a length"
        )
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    if isinstance(model[0], StaticEmbedding):
        if length is not None:
            logger.info("%s averages over the words of whole texts; max_seq_length is for other encoders", name)
        return
    positions = _positions(getattr(model[0], "model", None))
    if length is not None and positions is not None and positions < length:
        raise ConfigurationError(
            f"max_seq_length is {length}, but {name} has {positions} positions; choose at most that"
        )
    if length is not None or (positions is not None and (model.max_seq_length or math.inf) > positions):
        model.max_seq_length = length or positions


def _positions(transformer: Any) -> int | None:
    """The tokens that a transformer has positions for; None where it sets no limit."""
    positions = getattr(getattr(transformer, "config", None), "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    for name, module in transformer.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return min(
                positions, int(module.num_embeddings) - int(module.padding_idx) - 1
            )  # RoBERTa counts on from the padding
    return positions
