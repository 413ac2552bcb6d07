"""The hub that answers, that does not, and the cache: nothing leaves this machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from dino_st.errors import InputError, ModelError
from dino_st.support import hub
from dino_st.support.hub import asking_hub, check_within_reach, fetch_model, hub_out_of_reach


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Offline mode is off, and the hub is a machine that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        yield silent


def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *files: str) -> Path:
    """A cache with one model, `someone/small`."""
    folder = tmp_path / "models--someone--small"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    for file in files:
        (snapshot / file).write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return snapshot


def test_a_hub_that_says_nothing_is_given_up_after_the_time_it_has(
    online: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.PATIENCE_SECONDS <= 5
    monkeypatch.setattr(hub, "PATIENCE_SECONDS", 0.3)
    start = time.monotonic()
    reason = str(hub_out_of_reach())
    assert "timed out" in reason or "no answer" in reason
    assert time.monotonic() - start < 2


def test_a_hub_that_is_not_there_is_known_at_once(online: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    online.close()
    with pytest.raises(ModelError, match=r"'someone/nothing': .*not in the local cache, and the hub is out of reach"):
        fetch_model("someone/nothing")


def test_out_of_reach_the_cached_model_is_taken(
    online: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.close()
    assert fetch_model_from(cache(tmp_path, monkeypatch, "config.json")) == "a" * 40


def test_a_model_of_which_nothing_is_cached_is_refused_out_of_reach(
    online: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.close()
    cache(tmp_path, monkeypatch, "config.json")
    check_within_reach("someone/small")
    with pytest.raises(ModelError, match=r"'someone/nothing': .*not in the local cache, and the hub is out of reach"):
        check_within_reach("someone/nothing")
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "st"))
    (tmp_path / "st/models--someone--nothing").mkdir(parents=True)
    check_within_reach("someone/nothing")


def fetch_model_from(snapshot: Path) -> str:
    assert fetch_model("someone/small") == snapshot
    return snapshot.name


def test_in_reach_it_is_downloaded_without_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(hub, "hub_out_of_reach", lambda: None)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **options: str(asked.update(options, name=name) or "/x")
    )
    assert fetch_model("someone/small") == Path("/x")
    assert asked["name"] == "someone/small"
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith((".bin", ".pt"))]


def test_while_it_is_out_of_reach_libraries_look_into_their_caches_alone(online: socket.socket) -> None:
    import datasets

    online.close()
    seen: list[Any] = []

    def fetch() -> None:
        with asking_hub("the data", "Give a file"):
            seen.extend([huggingface_hub.is_offline_mode(), datasets.config.HF_HUB_OFFLINE])
            huggingface_hub.hf_hub_download("someone/nothing", "a.json")

    with pytest.raises(InputError, match=r"^the data cannot be fetched: .* out of reach \(.*\)\. Give a file$"):
        fetch()
    assert seen == [True, True]
    assert not huggingface_hub.is_offline_mode()
