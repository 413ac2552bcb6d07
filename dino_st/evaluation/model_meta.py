"""An encoder as mteb describes models: what its directory says, and nothing that nobody knows.

mteb asks for this before it loads a model, so it is read from files: the trainer's record, the card, configurations,
and the headers of the weights.
"""

from __future__ import annotations

import json
import math
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dino_st.data.cards import read_header
from dino_st.encoders.directory import directory_name
from dino_st.encoders.loading import homes_of
from dino_st.errors import ModelError
from dino_st.support.files import TRAINING_RECORD
from dino_st.support.languages import in_three_letters

if TYPE_CHECKING:
    from mteb.models import ModelMeta
    from sentence_transformers import SentenceTransformer

FRAMEWORK = ["Sentence Transformers", "PyTorch", "safetensors"]

_WIDTHS = ("out_features", "embedding_dimension", "word_embedding_dimension")
_WORDS = ("word_embeddings.weight", "embed_tokens.weight", "wte.weight", "embedding.weight", "shared.weight")
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_CHOSEN_BY_PEOPLE = {"STSBenchmark", "SICK-R"}
"""Tasks of mteb whose development pairs choose the checkpoint with `checkpoint_choice="sts-dev"`."""


def directory_meta(directory: Path, revision: str) -> ModelMeta:
    """All fields of mteb's `ModelMeta` for a model directory, None where the directory does not say; without a loader.

    `release_date`, `reference`, `citation` and `contacts` are those of a publication, which a directory is none of.
    """
    record, header = _read_json(directory / TRAINING_RECORD), read_header(directory)
    settings = _read_json(directory / "config_sentence_transformers.json")
    tensors = _tensors(directory)
    size = sum(math.prod(shape) * _BYTES.get(dtype, 1) for shape, dtype in tensors.values())
    words = [shape for name, (shape, _) in tensors.items() if name.endswith(_WORDS)]
    base = record.get("encoder") if record.get("encoder_revision") is None else None
    return make_meta(
        name=directory_name(directory),
        revision=revision,
        languages=_languages(header.get("language")),
        license=_license(header.get("license")),
        open_weights=True if header.get("license") else None,
        n_parameters=sum(math.prod(shape) for shape, _ in tensors.values()) or None,
        n_embedding_parameters=math.prod(words[0]) if words else None,
        memory_usage_mb=size / 2**20 or None,
        embed_dim=_dimensions(directory, words),
        max_tokens=_max_tokens(directory),
        similarity_fn_name=settings.get("similarity_fn_name") or "cosine",
        use_instructions=any((settings.get("prompts") or {}).values()),
        adapted_from=base if base and "/" in base else _first(header.get("base_model")),
        training_datasets=_training_datasets(record),
        public_training_code=_home_of_code() if record else None,
        public_training_data=_data_on_hub(header.get("datasets")),
    )


def loaded_meta(name: str, revision: str, encoder: SentenceTransformer) -> ModelMeta:
    """What a loaded encoder shows, for one that has no directory."""
    weights = list(encoder.parameters())
    return make_meta(
        name=name,
        revision=revision,
        n_parameters=sum(weight.numel() for weight in weights),
        memory_usage_mb=sum(weight.numel() * weight.element_size() for weight in weights) / 2**20,
        embed_dim=encoder.get_embedding_dimension(),
        max_tokens=encoder.max_seq_length,
        similarity_fn_name=encoder.similarity_fn_name,
        use_instructions=any(encoder.prompts.values()),
    )


def make_meta(**known: Any) -> ModelMeta:
    """Mteb's description, checked by its own rules, with None for all that is not known."""
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    similarity = known.pop("similarity_fn_name")
    empty = ModelMeta.create_empty().model_dump() | {"framework": FRAMEWORK}
    facts = {field: value for field, value in known.items() if field in ModelMeta.model_fields}
    try:
        function = ScoringFunction.from_str(similarity)
    except ValueError:
        raise ModelError(
            f"{known.get('name')}: the encoder's similarity_fn_name is {similarity!r}; expected cosine, dot, euclidean "
            "or manhattan (in its config_sentence_transformers.json)"
        ) from None
    return ModelMeta(**empty | facts | {"similarity_fn_name": function})


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _modules(directory: Path) -> list[Path]:
    """The folders of the modules, in order."""
    try:
        return homes_of(directory)
    except ModelError:  # loading it says so
        return [directory]


def _tensors(directory: Path) -> dict[str, tuple[list[int], str]]:
    """Shape and dtype of every tensor of the modules' weights; tables of positions and the like are none."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[list[int], str]] = {}
    for folder in dict.fromkeys(_modules(directory)):
        for file in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(file, "pt") as weights:
                    for name in weights.keys():  # noqa: SIM118  (it is no mapping)
                        part = weights.get_slice(name)
                        found[f"{folder.name}/{name}"] = (part.get_shape(), part.get_dtype())
            except (OSError, SafetensorError):  # loading it will say so
                return {}
    return {name: (shape, dtype) for name, (shape, dtype) in found.items() if "F" in dtype}


def _dimensions(directory: Path, words: list[list[int]]) -> int | None:
    for folder in reversed(_modules(directory)):
        config = _read_json(folder / "config.json")
        for width in _WIDTHS:
            if isinstance(config.get(width), int):
                modes = config.get("pooling_mode")
                return int(config[width]) * (len(modes) if isinstance(modes, list) else 1)
        if isinstance(config.get("hidden_size"), int):
            return int(config["hidden_size"])
    return words[0][1] if words else None


def _max_tokens(directory: Path) -> float | None:
    settings, config = _read_json(directory / "sentence_bert_config.json"), _read_json(directory / "config.json")
    if not config:
        return math.inf if "StaticEmbedding" in _text(directory / "modules.json") else None
    tokenizer = _read_json(directory / "tokenizer_config.json")
    limits = [config.get("max_position_embeddings"), tokenizer.get("model_max_length")]
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 10**9]
    return settings.get("max_seq_length") or min(known, default=None)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _languages(given: Any) -> list[str] | None:
    """The languages of a card as mteb writes them, such as `eng-Latn`; None where it does not know one of them."""
    from mteb.languages import iso_mappings

    codes = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    scripts = iso_mappings._get_iso3_to_default_script()
    names = [in_three_letters(str(code)) for code in codes]
    return [f"{name}-{scripts[name]}" for name in names] if names and all(name in scripts for name in names) else None


def _license(given: Any) -> str | None:
    """The licence where mteb has a name for it."""
    from mteb.types import Licenses

    return given if given in get_args(Licenses) else None


def _first(names: Any) -> str | None:
    return names if isinstance(names, str) or not names else str(names[0])


def _training_datasets(record: dict[str, Any]) -> set[str] | None:
    """Tasks of mteb that training saw, as far as that is known: of the sentences that were given it is not."""
    options = record.get("options")
    chosen = isinstance(options, dict) and options.get("checkpoint_choice") == "sts-dev"
    return set(_CHOSEN_BY_PEOPLE) if chosen else None


def _data_on_hub(names: Any) -> str | bool | None:
    """The address of the data set of the hub that a card names; True for several, for which mteb has no room."""
    several = isinstance(names, list) and len(names) > 1
    return several or (f"https://huggingface.co/datasets/{_first(names)}" if names else None)


def _home_of_code() -> str | None:
    """Where the code of dino-st is, as its package says."""
    try:
        addresses = metadata("dino-st").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    named = {label.lower(): url for label, _, url in (address.partition(", ") for address in addresses)}
    return next((named[label] for label in ("repository", "source", "homepage") if label in named), None)
