from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_st import DinoDatasetBuilder
from dino_st.data.shards import ShardDirectory
from dino_st.errors import OutputError
from tests.faults import SENTENCES, SETTINGS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def undisturbed(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed") / "raw"
    DinoDatasetBuilder(model_directory, **SETTINGS).generate(SENTENCES, output_dir=directory)
    return directory


@pytest.fixture
def builder(model_directory: Path) -> DinoDatasetBuilder:
    return DinoDatasetBuilder(model_directory, **SETTINGS)


def assert_same_bytes(directory: Path, undisturbed: Path) -> None:
    for expected in sorted(undisturbed.rglob("*.parquet")):
        found = directory / expected.relative_to(undisturbed)
        assert found.read_bytes() == expected.read_bytes(), found
    assert len(list(directory.rglob("*.parquet"))) == len(list(undisturbed.rglob("*.parquet")))
    assert (directory / "manifest.json").read_text() == (undisturbed / "manifest.json").read_text()
    assert not list(directory.rglob("*.tmp"))


def interrupt_after(builder: DinoDatasetBuilder, directory: Path, waves: int, error: BaseException) -> None:
    """Lets a run die at the first forward pass after so many waves."""

    def stop(*_: Any) -> None:
        if len(list(directory.glob("data/*.parquet"))) >= waves:
            raise error

    handle = builder._writer.model.register_forward_pre_hook(stop)
    try:
        with pytest.raises(type(error)):
            builder.generate(SENTENCES, output_dir=directory)
    finally:
        handle.remove()


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_nothing_that_was_finished(
    model_directory: Path, undisturbed: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.faults.killed_run", str(model_directory), str(tmp_path / "raw"), "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout.splitlines()[-1])
    assert left == sorted(left), "a kill must never take a finished wave away"
    assert left[0] < left[-1] <= 20, "kills were meant to come before the end"
    assert_same_bytes(tmp_path / "raw", undisturbed)


@pytest.mark.parametrize("step", [0, 1, 5, 17, 40])
def test_running_out_of_memory_at_any_forward_pass_changes_no_byte(
    step: int, builder: DinoDatasetBuilder, undisturbed: Path, tmp_path: Path
) -> None:
    passes = []

    def fail_once(*_: Any) -> None:
        passes.append(1)
        if len(passes) == step + 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = builder._writer.model.register_forward_pre_hook(fail_once)
    builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    handle.remove()
    assert len(passes) > step
    assert_same_bytes(tmp_path / "raw", undisturbed)


def test_a_full_disk_ends_the_run_with_a_message_and_more_room_continues_it(
    builder: DinoDatasetBuilder, undisturbed: Path, tmp_path: Path
) -> None:
    interrupt_after(builder, tmp_path / "raw", 3, KeyboardInterrupt())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = min(path.stat().st_size for path in undisturbed.rglob("*.parquet"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot be written.*disk not full"):
            builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(ShardDirectory(tmp_path / "raw").waves) == 3
    builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    assert_same_bytes(tmp_path / "raw", undisturbed)


def test_a_directory_that_turns_read_only_half_way_loses_nothing(
    builder: DinoDatasetBuilder, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def read_only(self: Path, target: Path) -> Path:
        if Path(target).name == "train-00004.parquet":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", read_only)
        with pytest.raises(OutputError, match="Read-only file system"):
            builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    assert_same_bytes(tmp_path / "raw", undisturbed)


def decoded_waves(builder: DinoDatasetBuilder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts calls of the writer, one for each wave that is decoded."""
    calls: list[int] = []
    write = builder._writer.write

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return write(*arguments, **named)

    monkeypatch.setattr(builder._writer, "write", counted)
    return calls


@pytest.mark.parametrize("damaged", [{-1: 0}, {-1: 100}, {0: None}, {3: 100}, {0: 0, 4: None, -1: 7}])
def test_damaged_shards_alone_are_written_again_wherever_they_stand(
    damaged: dict[int, int | None],
    builder: DinoDatasetBuilder,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(undisturbed, tmp_path / "raw")
    damage(tmp_path / "raw", damaged)
    calls = decoded_waves(builder, monkeypatch)
    builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    assert len(calls) == len(damaged)
    assert_same_bytes(tmp_path / "raw", undisturbed)


def damage(directory: Path, damaged: dict[int, int | None]) -> None:
    """Cuts shards to a number of bytes, or removes them."""
    shards = sorted((directory / "data").iterdir())
    for place, size in damaged.items():
        content = shards[place].read_bytes()
        shards[place].unlink() if size is None else shards[place].write_bytes(content[:size])


@pytest.fixture(scope="module")
def scratch_builder(model_directory: Path) -> DinoDatasetBuilder:
    return DinoDatasetBuilder(model_directory, task="sts-x1", **(SETTINGS | {"batch_size": 6}))


@pytest.fixture(scope="module")
def undisturbed_texts(scratch_builder: DinoDatasetBuilder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed-texts") / "raw"
    texts = scratch_builder.generate(num=20, output_dir=directory)
    assert len(set(texts["text"])) == len(texts) == 20
    assert len(list((directory / "data").iterdir())) > 4
    return directory


@pytest.mark.parametrize("damaged", [{0: None}, {2: 50}, {-1: 0}, {0: 0, 1: None, 3: 9}])
def test_texts_from_scratch_come_out_the_same_where_a_shard_before_others_is_damaged(
    damaged: dict[int, int | None],
    scratch_builder: DinoDatasetBuilder,
    undisturbed_texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(undisturbed_texts, tmp_path / "raw")
    damage(tmp_path / "raw", damaged)
    calls = decoded_waves(scratch_builder, monkeypatch)
    scratch_builder.generate(num=20, output_dir=tmp_path / "raw")
    assert len(calls) == len(damaged)
    assert_same_bytes(tmp_path / "raw", undisturbed_texts)


def test_a_shard_that_is_damaged_in_a_run_that_was_interrupted_is_written_again_and_the_rest_added(
    builder: DinoDatasetBuilder, undisturbed: Path, tmp_path: Path
) -> None:
    interrupt_after(builder, tmp_path / "raw", 4, KeyboardInterrupt())
    damage(tmp_path / "raw", {1: 20})
    lines = (tmp_path / "raw/manifest.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "raw/manifest.jsonl").write_bytes(b"".join(lines[1:]) + b'{"torn')
    builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    assert_same_bytes(tmp_path / "raw", undisturbed)


def test_a_truncated_manifest_is_refused_and_the_shards_stay(
    builder: DinoDatasetBuilder, undisturbed: Path, tmp_path: Path
) -> None:
    builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    manifest = tmp_path / "raw/manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole[: len(whole) // 2])
    with pytest.raises(OutputError, match="the manifest cannot be read"):
        builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    manifest.write_text(whole)
    assert_same_bytes(tmp_path / "raw", undisturbed)


def test_a_clock_that_runs_backwards_does_not_matter(
    builder: DinoDatasetBuilder, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    builder.generate(SENTENCES, output_dir=tmp_path / "raw", show_progress=True)
    monkeypatch.undo()
    assert_same_bytes(tmp_path / "raw", undisturbed)
