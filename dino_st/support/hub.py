"""The hub behind one door: asked while it answers, and where it does not answer at once, the local cache alone."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dino_st.errors import InputError, ModelError, first_line
from dino_st.support.files import similar_path

PATIENCE_SECONDS = 5.0
"""How long the hub may take for its first answer; the libraries' own retries take 30 to 80 seconds."""

_WEIGHTS = "*.safetensors"
_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py"]
_NOT_OURS = ["onnx/*", "openvino/*", "original/*", "consolidated*"]


def hub_out_of_reach() -> str | None:
    """Why the hub cannot be asked; None where it answers."""
    import huggingface_hub as hub

    if hub.is_offline_mode():
        return "offline mode is on: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    outcome: list[str] = []

    def ask() -> None:
        try:
            status = hub.get_session().head(hub.constants.ENDPOINT, timeout=PATIENCE_SECONDS).status_code
            outcome.append(f"it answers with status {status}" if status >= 500 else "")
        except Exception as error:  # noqa: BLE001  # those of two HTTP libraries, and whatever proxies bring along
            outcome.append(first_line(error))

    asking = threading.Thread(target=ask, daemon=True)  # looking up the name of a machine knows no time limit
    asking.start()
    asking.join(PATIENCE_SECONDS)
    return (outcome or [f"no answer within {PATIENCE_SECONDS:.0f} s"])[0] or None


@contextlib.contextmanager
def asking_hub(what: str, advice: str) -> Iterator[None]:
    """Lets libraries fetch something from the hub, from their cache alone where it is out of reach.

    Where it is to be had from neither, an InputError begins with what is fetched and ends with what else can be done.
    """
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import constants, errors
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    broken_off = errors.HTTPError  # type: ignore[attr-defined]  # of httpx
    reason = hub_out_of_reach()
    with contextlib.ExitStack() as patches:
        if reason:
            both: tuple[Any, ...] = (constants, datasets.config)
            for settings in both:
                patches.callback(setattr, settings, "HF_HUB_OFFLINE", settings.HF_HUB_OFFLINE)
                settings.HF_HUB_OFFLINE = True
        try:
            yield
        except (ConnectionError, DatasetNotFoundError, EntryNotFoundError, HfHubHTTPError, broken_off) as error:
            why = f"it is not in the local cache, and the hub is out of reach ({reason})"
            why = why if reason else first_line(error)
            raise InputError(f"{what} cannot be fetched: {why}. {advice}") from error


def refused_of_card(header: Mapping[str, Any], kind: str) -> str | None:
    """What the hub refuses of a card's header, for a `dataset` or `model`; None where it takes the header.

    It is asked at HF_ENDPOINT: `RepoCard.validate` of older versions of huggingface_hub asks at huggingface.co always.
    """
    import huggingface_hub as hub
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    asked = {"repoType": kind, "content": f"---\n{json.dumps(dict(header))}\n---\n"}
    response = hub.get_session().post(f"{hub.constants.ENDPOINT}/api/validate-yaml", json=asked)
    if response.status_code == 400:
        return "; ".join(error["message"] for error in response.json()["errors"])
    hf_raise_for_status(response)
    return None


def fetch_model(name: str, file: str | None = None, *, weights: bool = True) -> Path:
    """A model of the hub as a directory of the local cache; what is missing there is downloaded, but no pickle.

    The directory's own name is the revision. With a `file`, such as `model-Q4_K_M.gguf`, it is the path of that one.
    Raises ModelError where the hub has no such model, or it is neither in the cache nor to be had.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

    missing = _not_here("/".join(filter(None, (name, file))))
    reason = hub_out_of_reach()
    try:
        if not reason:
            if file:
                return Path(hub.hf_hub_download(name, file))
            wanted = [*_SMALL_FILES, *([_WEIGHTS] if weights else [])]
            return Path(hub.snapshot_download(name, allow_patterns=wanted, ignore_patterns=_NOT_OURS))
        for each in [file] if file else ("modules.json", "config.json", "adapter_config.json"):
            cached = hub.try_to_load_from_cache(name, each)
            if isinstance(cached, str):
                return Path(cached) if file else Path(cached).parent
    except HFValidationError as error:
        raise ModelError(f"{missing}the hub has no names like this. Check the path") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{missing}the hub has no model of this name that may be read. Check the spelling") from error
    except (EntryNotFoundError, hub.errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # of httpx
        raise ModelError(f"{missing}the hub did not send it ({first_line(error)}). Try again") from error
    raise ModelError(_out_of_reach(missing, reason or ""))


def check_within_reach(name: str) -> None:
    """Raises ModelError for a model of the hub of which nothing is cached, while the hub is out of reach."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=name, repo_type="model")
    places = (constants.HF_HUB_CACHE, os.environ.get("SENTENCE_TRANSFORMERS_HOME"))
    if not any(place and Path(place, folder).exists() for place in places) and (reason := hub_out_of_reach()):
        raise ModelError(_out_of_reach(_not_here(name), reason))


def _not_here(name: str) -> str:
    meant = similar_path(name, is_directory=not name.endswith(".gguf"))
    return f"model {name!r}: there is no such directory{f' ({meant[2:]})' if meant else ''}, and "


def _out_of_reach(begin: str, reason: str) -> str:
    return (
        f"{begin}as a name on the hub it is not in the local cache, and the hub is out of reach ({reason}). Check "
        "the spelling, and the connection"
    )
