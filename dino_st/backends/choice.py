"""A chat backend by name, with the options that fit it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from dino_st.backends.chat import ChatBackend
from dino_st.backends.options import DRAWING_OPTIONS, LOCAL_OPTIONS, SERVER_OPTIONS, BackendName, ChatOptions
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, suggest
from dino_st.support.hashes import versions


def open_backend(
    model: str | Path | tuple[Any, Any] | ChatBackend,
    backend: BackendName = "local",
    *,
    base_url: str | None = None,
    options: Mapping[str, Any],
) -> ChatBackend:
    """Loads a model, or gets ready to ask a server; a backend that is there already is taken as it is.

    The options are `LOCAL_OPTIONS` or `SERVER_OPTIONS`, whichever fits. Raises ConfigurationError where one does not,
    ModelError where a local model cannot be loaded, and MissingExtraError where the server's client is not installed.
    """
    backend = ChatOptions.of(backend=backend, base_url=base_url).backend
    ready = not isinstance(model, str | Path | tuple)
    check_options(backend, base_url=base_url, options=() if ready else options)
    if not isinstance(model, str | Path | tuple):
        unused = [name for name in options if name != "seed"]
        if unused or base_url is not None:
            raise ConfigurationError(
                f"model: given a backend that is ready, and options for making one ({', '.join(unused) or 'base_url'})"
                "; set them where the backend is made"
            )
        return model
    if backend == "openai":
        from dino_st.backends.openai import OpenAIChat

        if isinstance(model, tuple):
            raise ConfigurationError("model: given a pair, expected the name that the server knows the model by")
        return OpenAIChat(str(model), base_url=base_url, **options)
    from dino_st.backends.local_chat import LocalChat

    if options.get("seed", 0) is None:
        raise ConfigurationError("option 'seed' is none, and a local model draws by it; give a number")

    drawing = {name: value for name, value in options.items() if name in DRAWING_OPTIONS}
    others = {name: value for name, value in options.items() if name not in DRAWING_OPTIONS}
    return LocalChat(model, DecodingOptions(**drawing), **others)


def check_options(backend: BackendName, *, base_url: str | None, options: Any) -> None:
    """Checks that options fit the backend, before anything is loaded; a ConfigurationError says where they belong."""
    mine, others = (LOCAL_OPTIONS, SERVER_OPTIONS) if backend == "local" else (SERVER_OPTIONS, LOCAL_OPTIONS)
    if backend == "local" and base_url is not None:
        raise ConfigurationError(
            "base_url: a local model has no address; give --backend openai, or leave --base-url out"
        )
    for name in options:
        if name not in mine and name in others:
            other = next(each for each in get_args(BackendName) if each != backend)
            raise ConfigurationError(
                f"option {name!r} belongs to the backend {other!r}, and the backend is {backend!r}; leave it out, or "
                f"choose --backend {other}"
            )
        if name not in mine:
            raise ConfigurationError(f"there is no option {name!r}: {suggest(name, mine)}")


def is_local(backend: ChatBackend) -> bool:
    """Whether answers end at the first quotation mark, and a failure is one of the text and not of a request."""
    return backend.configuration().get("backend") == "local"


def backend_provenance(backend: ChatBackend) -> dict[str, Any]:
    """Model, versions, address and the names that a server uses, as they come: what decides nothing, for manifests."""
    packages = ("python", "dino-st", "datasets", *(("torch", "transformers") if is_local(backend) else ("openai",)))
    address, names = backend.configuration().get("base_url"), getattr(backend, "answered_as", None)
    known = {"model": backend.name, "versions": versions(*packages)} | ({"base_url": address} if address else {})
    return known if names is None else known | {"answered_as": names}


def from_all_tokens(backend: ChatBackend) -> ChatBackend:
    """The same local model drawing by top-p alone, as DINO writes sentences from scratch; any other as it is."""
    decoding = getattr(backend, "decoding", None)
    if not isinstance(decoding, DecodingOptions):
        return backend
    widened = copy.copy(backend)
    vars(widened)["decoding"] = replace(decoding, top_k=0)
    return widened
