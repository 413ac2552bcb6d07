"""Whatever happens to a directory of shards, a run ends in the rows of an undisturbed one, or in a refusal by name."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dino_st.data.sentences import read_sentences
from dino_st.data.shards import MANIFEST, ShardDirectory, Wave, WaveStore, shard_name, write_waves
from dino_st.errors import DinoError
from dino_st.support.progress import logger

SCHEMA = pa.schema([("text", pa.string()), ("label", pa.string())])
WAVES = 4
MANY = 10**6
JOURNAL = "manifest.jsonl"


def texts_of(seed: int, number: int) -> list[str]:
    """What stands in for a model; the third wave has no text, as where every draw was rejected."""
    return [f"seed {seed}, wave {number}, text {i}" for i in range(0 if number == 2 else 2 + number)]


def rows_of(seed: int, waves: Iterable[int]) -> list[str]:
    return [text for number in waves for text in texts_of(seed, number)]


def waves_of(seed: int) -> Callable[[WaveStore], Generator[Wave, None, None]]:
    def waves(store: WaveStore) -> Generator[Wave, None, None]:
        for number in range(WAVES):
            if number not in store:
                rows = [{"text": text, "label": str(number % 2)} for text in texts_of(seed, number)]
                yield Wave(number, rows, {"draws": len(rows) + 1, "rows": len(rows), "rejected: empty": 1})

    return waves


def write(directory: Path, seed: int, *, overwrite: bool = False) -> list[str]:
    found = write_waves(
        ShardDirectory(directory, overwrite=overwrite),
        waves_of(seed),
        configuration={"seed": seed},
        provenance={"model": None},
        schema=SCHEMA,
        card=lambda name, **_: f"# {name}\n",
    )
    assert found.is_complete
    return list(found.to_dataset()["text"])


class Killed(BaseException):
    """The process is gone."""


class Killer:
    """Ends a run at the n-th time that it touches the directory, leaving what a killed process leaves."""

    def __init__(self) -> None:
        self.directory: Path | None = None
        self.left = 0
        sys.addaudithook(self._touched)

    def _touched(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.directory is None or event not in ("open", "os.rename", "os.remove", "os.mkdir"):
            return
        if not str(arguments[0]).startswith(str(self.directory)):
            return
        self.left -= 1
        if self.left < 0:
            directory, self.directory = self.directory, None  # what follows is not the run's any more
            take_snapshot(directory)
            raise Killed

    @contextmanager
    def after(self, touches: int, directory: Path) -> Iterator[None]:
        self.directory, self.left = directory, touches
        try:
            yield
        except Killed:  # on its way out the exception removed files, and a killed process would not
            shutil.rmtree(directory, ignore_errors=True)
            if snapshot(directory).exists():  # else it was killed before it made the directory
                snapshot(directory).rename(directory)
        finally:
            self.directory = None


def snapshot(directory: Path) -> Path:
    return directory.with_name("snapshot")


def take_snapshot(directory: Path) -> None:
    """Copies a directory, anew where another thread of the run removed a file while it was copied."""
    for _ in range(20):
        if not directory.exists():
            return
        try:
            shutil.copytree(directory, snapshot(directory))
        except OSError:
            shutil.rmtree(snapshot(directory), ignore_errors=True)
        else:
            return
    raise RuntimeError(f"{directory} does not come to rest")


KILLER = Killer()


class Warned(logging.Handler):
    """Keeps what was warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    handler = Warned()
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


numbers = st.integers(0, WAVES - 1)
seeds = st.integers(0, 1)


class AnySequence(RuleBasedStateMachine):
    """A directory to which anything may happen between runs."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.directory = self.root / "raw"
        self.seed = 0

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @initialize(seed=seeds)
    def choose(self, seed: int) -> None:
        self.seed = seed

    # Runs

    @rule(touches=st.integers(0, 60))
    def run_and_kill(self, touches: int) -> None:
        try:
            with KILLER.after(touches, self.directory):
                write(self.directory, self.seed)
        except DinoError as error:
            self.refused(error)

    @rule()
    def run(self) -> None:
        try:
            found = write(self.directory, self.seed)
        except DinoError as error:
            self.refused(error)
            found = write(self.directory, self.seed)
        assert found == rows_of(self.seed, range(WAVES))
        assert not list(self.directory.rglob(".*.tmp"))
        with warnings_kept() as messages:
            again = list(ShardDirectory.to_read(self.directory).to_dataset()["text"])
        assert again == found
        assert [message for message in messages if "is not of this run" not in message] == []

    @rule(seed=seeds, overwrite=st.booleans(), touches=st.one_of(st.just(MANY), st.integers(0, 60)))
    def run_another(self, seed: int, overwrite: bool, touches: int) -> None:
        before = self.rows_there()
        try:
            with KILLER.after(touches, self.directory):
                write(self.directory, seed, overwrite=overwrite)
        except DinoError as error:
            self.refused(error, mend=False)
            assert self.rows_there() == before
        else:
            self.seed = seed

    def refused(self, error: DinoError, *, mend: bool = True) -> None:
        """A refusal names the place; what it advises is to remove the directory."""
        assert str(self.directory) in str(error)
        if mend:
            shutil.rmtree(self.directory)

    def rows_there(self) -> list[str]:
        files = sorted((self.directory / "data").glob("train-*.parquet"))
        return [file.read_bytes().hex() for file in files]

    # Damage

    def file(self, number: int) -> Path:
        return self.directory / shard_name(number)

    @rule(number=numbers)
    def delete_a_shard(self, number: int) -> None:
        self.file(number).unlink(missing_ok=True)

    @rule(number=numbers, share=st.floats(0, 1))
    def truncate_a_shard(self, number: int, share: float) -> None:
        if self.file(number).exists():
            os.truncate(self.file(number), int(share * self.file(number).stat().st_size))

    @rule(number=numbers, place=st.integers(0, MANY), flip=st.integers(1, 255))
    def flip_bits_of_a_shard(self, number: int, place: int, flip: int) -> None:
        if self.file(number).exists() and (content := bytearray(self.file(number).read_bytes())):
            content[place % len(content)] ^= flip
            self.file(number).write_bytes(content)

    @rule(number=numbers, other=numbers)
    def copy_a_shard_over_another(self, number: int, other: int) -> None:
        if number != other and self.file(number).exists():
            shutil.copyfile(self.file(number), self.file(other))

    @rule()
    def leave_a_shard_of_a_longer_run(self) -> None:
        if self.file(0).exists():
            shutil.copyfile(self.file(0), self.file(WAVES))

    @rule(names=st.lists(st.sampled_from([f"{MANIFEST}.77", "data/train-00001.parquet.78", "data/x.tmp.1"])))
    def leave_temporary_files(self, names: list[str]) -> None:
        for name in names:
            file = self.directory / name
            if file.parent.is_dir():
                file.with_name(f".{file.name}.tmp").write_bytes(b"half of")

    @rule()
    def delete_the_manifest(self) -> None:
        (self.directory / MANIFEST).unlink(missing_ok=True)

    @rule(name=st.sampled_from([MANIFEST, JOURNAL]), share=st.floats(0, 1))
    def truncate_the_manifest(self, name: str, share: float) -> None:
        if (self.directory / name).exists():
            os.truncate(self.directory / name, int(share * (self.directory / name).stat().st_size))

    @rule(seed=st.integers(0, MANY))
    def mix_up_the_lines_behind_the_manifest(self, seed: int) -> None:
        if (self.directory / JOURNAL).exists():
            lines = (self.directory / JOURNAL).read_bytes().splitlines(keepends=True)
            drawn = random.Random(seed).choices(lines, k=len(lines))  # some twice, some not at all
            (self.directory / JOURNAL).write_bytes(b"".join(drawn))

    @rule(
        place=numbers,
        name=st.sampled_from(["rows", "sha256", "draws", "whole", "entry", "twice"]),
        by=st.integers(1, 9),
    )
    def edit_the_manifest(self, place: int, name: str, by: int) -> None:
        try:
            manifest = json.loads((self.directory / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return
        if not manifest["shards"]:
            return
        shard = manifest["shards"][place % len(manifest["shards"])]
        if name == "sha256":
            shard["sha256"] = shard["sha256"][by:] + shard["sha256"][:by]
        elif name == "whole":
            manifest.get("counts", {})["rows"] = by
        elif name == "entry":
            manifest["shards"].remove(shard)
        elif name == "twice":
            manifest["shards"].append(shard)
        else:
            counts = shard if name == "rows" else shard["counts"]
            counts[name] += by
        (self.directory / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    # What holds at any time

    @invariant()
    def what_is_read_is_right_or_refused_or_warned_of(self) -> None:
        if not (self.directory / MANIFEST).exists():
            return
        with warnings_kept() as messages:
            try:
                directory = ShardDirectory.to_read(self.directory)
                found = list(directory.to_dataset()["text"])
            except DinoError as error:
                self.refused(error, mend=False)
                return
        seed = directory.configuration["seed"]
        assert found == rows_of(seed, directory.waves)
        if found != rows_of(seed, range(WAVES)):
            assert any(str(self.directory) in message for message in messages)
        if found:
            assert read_sentences(self.directory).texts[:] == found


@pytest.fixture
def _without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


AnySequence.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.usefixtures("_without_waiting_for_the_disk")
class TestAnySequence(AnySequence.TestCase):  # type: ignore[misc,name-defined]
    pass
