"""Directories of shards at addresses: whatever a store or a process does, the bytes of an undisturbed run on disk."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dino_st.data.shards import ShardDirectory, StoredWave, Wave, store_wave, write_waves
from dino_st.errors import InputError, OutputError
from dino_st.support import objects
from dino_st.support.objects import ObjectPath, place
from tests.shelf import Shelf

SCHEMA = pa.schema([("text", pa.string()), ("label", pa.string())])
CONFIGURATION = {"seed": 1}
WAVES = 5


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_RENEW_SECONDS", 60.0)
    monkeypatch.setattr(objects, "_DEAD_SECONDS", 0.0)
    monkeypatch.setattr(objects, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(Shelf, "puts", 0)


def wave(number: int) -> Wave:
    return Wave(number, [{"text": f"Text {number}.{i}", "label": "0"} for i in range(3)], {"draws": 4, "rows": 3})


def fill(path: Any, *, waves: int = WAVES, configuration: Any = CONFIGURATION, **options: Any) -> list[int]:
    """Has the waves written that are missing; their numbers."""
    made: list[int] = []

    def missing(store: Any) -> Generator[Wave, None, None]:
        for number in range(waves):
            if number not in store:
                made.append(number)
                yield wave(number)

    what: dict[str, Any] = {"configuration": configuration, "provenance": {"model": "m"}, "schema": SCHEMA}
    write_waves(ShardDirectory(path, **options), missing, card=lambda name, **facts: f"# {name}\n{facts}\n", **what)
    return made


def contents(path: Path | ObjectPath) -> dict[str, bytes]:
    """What is in a directory, but for its lock."""
    files = {child.name: child.read_bytes() for child in path.iterdir() if child.is_file() and child.name != ".lock"}
    below = {child.name: contents(child) for child in path.iterdir() if not child.is_file()}
    return files | {f"{name}/{inner}": content for name, found in below.items() for inner, content in found.items()}


@pytest.fixture
def on_disk(tmp_path: Path) -> dict[str, bytes]:
    fill(tmp_path / "expected" / "raw")
    found = contents(tmp_path / "expected" / "raw")
    assert len(found) == WAVES + 2
    return found


@pytest.fixture(params=["shelf", "memory"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectPath:
    found = place(f"{request.param}://{tmp_path}/store/raw")
    assert isinstance(found, ObjectPath)
    return found


def test_an_undisturbed_run_leaves_what_it_leaves_on_disk(at: ObjectPath, on_disk: dict[str, bytes]) -> None:
    assert fill(str(at)) == list(range(WAVES))
    assert contents(at) == on_disk
    assert not (at / ".lock").exists()
    assert fill(at) == []
    directory = ShardDirectory.to_read(at)
    assert directory.table().column("text").to_pylist() == [f"Text {n}.{i}" for n in range(WAVES) for i in range(3)]


def test_wherever_puts_begin_to_fail_the_next_run_goes_on_behind_what_was_entered(
    tmp_path: Path, on_disk: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    at, finished = place(f"shelf://{tmp_path}/store/raw"), []
    fill(at)
    for put in range(1, Shelf.puts + 1):
        shutil.rmtree(tmp_path / "store")
        with monkeypatch.context() as patched:
            patched.setattr(Shelf, "puts", 0)
            patched.setattr(Shelf, "fails_at", put)
            with pytest.raises(OutputError, match=r"the network is gone.*What is finished stays; run again"):
                fill(at)
        entered = ShardDirectory(at).waves
        assert fill(at) == [number for number in range(WAVES) if number not in entered], put
        assert contents(at) == on_disk, put
        finished.append(len(entered))
    assert finished == sorted(finished)
    assert set(finished) == set(range(WAVES + 1))


def test_an_object_without_an_entry_is_never_read(at: ObjectPath, on_disk: dict[str, bytes]) -> None:
    fill(at, waves=2)
    (at / "manifest.json").write_bytes(
        (at / "manifest.json").read_bytes().replace(b'"complete": true', b'"complete": false')
    )
    (at / "data" / "train-00002.parquet").write_bytes(b"half of another run's")
    assert fill(at) == [2, 3, 4]
    assert contents(at) == on_disk


def test_a_damaged_or_lost_object_is_written_again_alone(at: ObjectPath, on_disk: dict[str, bytes]) -> None:
    fill(at)
    (at / "data" / "train-00001.parquet").write_bytes(b"damaged")
    (at / "data" / "train-00003.parquet").unlink()
    with pytest.raises(InputError, match=r"raw/data/train-00001\.parquet: missing or damaged, not as manifest\.json"):
        ShardDirectory.to_read(at).table()
    assert fill(at) == [1, 3]
    assert contents(at) == on_disk


def test_another_run_is_refused_and_makes_way_where_that_is_wished(at: ObjectPath, on_disk: dict[str, bytes]) -> None:
    fill(at, configuration={"seed": 2}, waves=7)
    with pytest.raises(OutputError, match="seed was 2, now 1"):
        fill(at)
    fill(at, overwrite=True)
    assert contents(at) == on_disk


def test_something_else_at_an_address_is_left_alone(at: ObjectPath) -> None:
    (at / "photo.jpg").write_bytes(b"\xff")
    with pytest.raises(OutputError, match=r"the directory holds something else \(photo\.jpg\)"):
        fill(at)


@pytest.mark.parametrize("back", [False, True])
def test_an_unfinished_run_goes_on_where_it_is_copied_to(
    back: bool, tmp_path: Path, on_disk: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a store to a disk, and the other way round."""
    place_of_store = tmp_path / "store" / "raw"
    begun, ended = place(f"shelf://{place_of_store}"), tmp_path / "copy" / "raw"
    if back:
        begun, ended = tmp_path / "begun" / "raw", place_of_store

    with monkeypatch.context() as patched:
        patched.setattr(ShardDirectory, "finish", lambda *_: None)
        fill(begun, waves=3)
    shutil.copytree(tmp_path / "begun" / "raw" if back else place_of_store, ended)
    assert (ended / "manifest.jsonl").is_dir() != back
    goes_on: Any = place(f"shelf://{ended}") if back else ended
    assert ShardDirectory(goes_on).waves == [0, 1, 2]
    assert fill(goes_on) == [3, 4]
    assert contents(goes_on) == on_disk


def test_a_writer_that_lost_its_lock_enters_nothing_more(tmp_path: Path) -> None:
    directory = ShardDirectory(place(f"shelf://{tmp_path}/raw"))
    with directory.open(configuration=CONFIGURATION, provenance={}, schema=SCHEMA):
        directory.put(wave(0))

        def lost() -> None:
            raise OutputError("another process has it")

        directory._check_lock = lost
        stored = store_wave(directory.path, wave(1), SCHEMA, CONFIGURATION)
        assert isinstance(stored, StoredWave)
        for enter in (lambda: directory.enter([stored]), lambda: directory.put(wave(2)), lambda: directory.finish("#")):
            with pytest.raises(OutputError, match="another process has it"):
                enter()
    assert ShardDirectory(directory.path).waves == [0]
