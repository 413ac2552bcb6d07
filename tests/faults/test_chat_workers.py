"""Workers of a real Ray cluster that answer requests: of triplets, pairs and ratings, by a server and by a model."""

from __future__ import annotations

import logging
import os
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Barrier, Event, Lock
from typing import Any
from zlib import crc32

import pytest

from dino_st.backends import chat_workers
from dino_st.backends.chat import ParallelBackend, in_order
from dino_st.backends.chat_workers import ChatCrew
from dino_st.backends.openai import Pace
from dino_st.data.shards import ShardDirectory
from dino_st.errors import ClusterError, ConfigurationError, OutputError
from dino_st.pipeline.stages import Generation, generate_data, judge_data
from dino_st.syncse import run
from dino_st.syncse.run import generate_triplets
from tests.hostile_server import MODEL, HostileServer, completion, hostile_server

SENTENCES = [f"Sentence number {i} is about a cat." for i in range(60)]
RAY: dict[str, Any] = {"engine": "ray", "workers": 2, "cpus_per_worker": 1}
FAST: dict[str, Any] = {"backoff_seconds": 0.001, "concurrency": 8}


def answer(prompt: str, _: int) -> Mapping[str, Any]:
    """A text of its own for every prompt; every ninth one is of no use."""
    number = crc32(prompt.encode())
    if "Rating:" in prompt:
        return completion("no idea" if number % 9 == 0 else str(number % 6))
    return completion("I cannot." if number % 9 == 0 else f'"Text {number} tells of a dog."')


@pytest.fixture(autouse=True)
def short_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WAVE", 16)
    monkeypatch.setattr("dino_st.generation.chat.WAVE", 16)
    monkeypatch.setattr("dino_st.generation.judging._WAVE", {"openai": 16})


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    return path


def triplets(server: HostileServer, directory: Path, **options: Any) -> None:
    generate_triplets(
        MODEL, SENTENCES, backend="openai", base_url=server.url, output_dir=directory, **{**FAST, **options}
    )


def assert_same(directory: Path, expected: Path) -> None:
    files = {str(file.relative_to(expected)): file for file in (*expected.glob("data/*"), expected / "manifest.json")}
    found = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}
    assert found - set(files) <= {".lock", "README.md", "replies.sqlite", "rejected.jsonl", "sentences.jsonl"}
    for name, file in files.items():
        assert (directory / name).read_bytes() == file.read_bytes(), name


def answered(directory: Path) -> int:
    with sqlite3.connect(directory / "replies.sqlite") as journal:
        return int(journal.execute("SELECT count(*) FROM replies WHERE text IS NOT NULL").fetchone()[0])


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server(answer, seconds=0.01) as made:
        yield made


def test_triplets_of_a_server_are_the_same_whoever_asked_and_nothing_is_asked_twice(
    cluster: Any, server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, directory = tmp_path / "expected", tmp_path / "by-workers"
    triplets(server, expected)
    assert len(ShardDirectory(expected).waves) == 4
    requests = dict(server.asked)
    server.asked.clear()
    put, stored = ShardDirectory.put, []

    def stop(self: ShardDirectory, wave: Any) -> None:
        put(self, wave)
        stored.append(wave.number)
        if len(stored) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ShardDirectory, "put", stop)
        with pytest.raises(KeyboardInterrupt):
            triplets(server, directory, ray_address=cluster.address, **RAY)
    kept = answered(directory)
    triplets(server, directory)
    assert sum(server.asked.values()) <= sum(requests.values()) + FAST["concurrency"] * 2
    assert_same(directory, expected)
    assert kept > 0
    (directory / "data/train-00001.parquet").unlink()
    before = dict(server.asked)
    triplets(server, directory, ray_address=cluster.address, **RAY)
    assert_same(directory, expected)
    assert dict(server.asked) == before


def test_workers_are_asked_several_at_a_time_and_ended_when_a_run_is_interrupted() -> None:
    crew = ChatCrew.__new__(ChatCrew)
    crew.name, crew.is_chat, crew.calls_at_once = "model", True, 4
    crew._front, crew._usage, crew._stopped = None, Counter(), Event()
    assert isinstance(crew, ParallelBackend)
    running, most, ended = 0, 0, []
    vars(crew)["close"] = lambda: ended.append(True)
    together, lock = Barrier(4, timeout=20), Lock()

    def work(item: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1
        return item

    assert [result for _, result in in_order(crew, work, range(8))] == list(range(8))
    assert most == 4

    def interrupted(item: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_order(crew, interrupted, range(2)))
    assert ended == [True]


def test_a_worker_that_is_killed_loses_no_reply_that_was_handed_over(
    cluster: Any,
    server: HostileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected, directory = tmp_path / "expected", tmp_path / "by-workers"
    triplets(server, expected)
    requests = dict(server.asked)
    server.asked.clear()
    server.seconds = 0.2  # so that a call lasts for long
    take_in, killed, handed_over = ChatCrew._take_in, [], []

    def watched(self: ChatCrew, came: Any) -> Any:
        replies = take_in(self, came)
        handed_over.extend(replies)
        if len(handed_over) >= 16 and not killed:
            for _ in range(500):  # a busy machine may not have come to ask for more yet
                if server.in_flight:
                    break
                time.sleep(0.01)
            killed.append(self.places[0].sight["pid"])
            os.kill(int(killed[0]), signal.SIGKILL)
        return replies

    monkeypatch.setattr(ChatCrew, "_take_in", watched)
    with caplog.at_level(logging.WARNING, "dino_st"):
        triplets(server, directory, ray_address=cluster.address, **{**RAY, "workers": 1})
    assert f"worker {killed[0]} on" in caplog.text
    assert re.search(r"another answers \d+ of its requests", caplog.text)
    assert_same(directory, expected)
    again = sum(server.asked.values()) - sum(requests.values())
    assert 0 < again <= 2 * FAST["concurrency"]  # what was in flight, and, on a busy machine, not handed over yet


def test_a_server_that_refuses_the_key_stops_all_workers_and_answers_are_kept(cluster: Any, tmp_path: Path) -> None:
    taken: list[str] = []

    def script(prompt: str, attempt: int) -> str | Mapping[str, Any]:
        taken.append(prompt)
        return "401" if len(taken) == 40 else answer(prompt, attempt)

    with hostile_server(script, seconds=0.02) as server:
        with pytest.raises(ConfigurationError, match="does not accept the key in OPENAI_API_KEY"):
            triplets(server, tmp_path / "raw", ray_address=cluster.address, **RAY)
        assert 40 <= len(taken) <= 40 + 2 * FAST["concurrency"]
        assert answered(tmp_path / "raw") == len(taken) - 1  # with what was in flight


def test_all_workers_together_keep_the_limit_a_minute_and_the_servers_pauses(cluster: Any, tmp_path: Path) -> None:
    came: list[float] = []

    def script(prompt: str, attempt: int) -> str | Mapping[str, Any]:
        came.append(time.monotonic())
        return answer(prompt, attempt)

    with hostile_server(script) as server:
        options = {"requests_per_minute": 1800, "ray_address": cluster.address, **RAY}
        triplets(server, tmp_path / "raw", **options)
    assert len(came) > 100
    seconds = (came[-1] - came[0]) / (len(came) - 1)
    assert 60 / 1800 * 0.98 <= seconds < 60 / 1800 * 2


def test_a_pause_that_the_server_wishes_holds_for_whoever_shares_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace(60)
    assert [pace.seconds_to_slot() for _ in range(2)] == [0.0, 1.0]
    pace.pause(20.0)
    pace.pause(5.0)
    assert [pace.seconds_to_slot() for _ in range(2)] == [20.0, 21.0]
    limits = chat_workers.Limits(None)
    limits.pause(3.0)
    assert limits.seconds_to_slot() == 3.0
    limits.stop(ConfigurationError("no"))
    assert isinstance(limits.seconds_to_slot(), ConfigurationError)


def test_pairs_and_ratings_of_a_server_are_the_same_whoever_asked(
    cluster: Any, server: HostileServer, sentences: Path, tmp_path: Path
) -> None:
    of_server = {"backend": "openai", "base_url": server.url, **FAST}
    workers = {"ray_address": cluster.address, **RAY}
    expected, directory = tmp_path / "expected", tmp_path / "by-workers"
    for place, more in ((expected, {}), (directory, workers)):
        options = of_server | {"decay_constant": 0.0, "samples": 1} | more
        generate_data(Generation("sts-x2", str(sentences), options=options), MODEL, place)
    assert_same(directory, expected)
    for place, more in ((expected, {}), (directory, workers)):
        judge_data(expected, MODEL, Path(f"{place}-judged"), given=of_server | more)
    assert_same(Path(f"{directory}-judged"), Path(f"{expected}-judged"))


@pytest.mark.parametrize("task", ["syncse-partial", "syncse-scratch"])
def test_triplets_of_a_model_are_the_same_whoever_wrote_them(cluster: Any, tmp_path: Path, task: str) -> None:
    how: dict[str, Any] = {"batch_size": 24, "device": "cpu", "dtype": "float32", "max_new_tokens": 12, "max_tries": 2}
    what: dict[str, Any] = {"sentences": SENTENCES[:20]} if task == "syncse-partial" else {"num": 10}
    expected, directory = tmp_path / "expected", tmp_path / "by-workers"
    generate_triplets("dino-tiny", task=task, output_dir=expected, **what, **how)
    generate_triplets("dino-tiny", task=task, output_dir=directory, **what, **how, **RAY, ray_address=cluster.address)
    assert_same(directory, expected)
    for name in ("rejected.jsonl", "sentences.jsonl"):
        assert not (expected / name).exists() or (directory / name).read_bytes() == (expected / name).read_bytes()


class Doomed(chat_workers.ChatWorker):
    """Dies of every call."""

    def answer(self, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        yield []


def test_a_call_that_ends_every_worker_ends_the_run(
    cluster: Any, server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_workers, "ChatWorker", Doomed)
    with pytest.raises(ClusterError, match="3 workers ended"):
        triplets(server, tmp_path / "raw", ray_address=cluster.address, **RAY)


def test_workers_are_not_started_where_another_process_writes(
    cluster: Any, server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_workers, "connected", None)
    with (
        ShardDirectory(tmp_path / "raw").locked(),
        pytest.raises(OutputError, match="another process is writing there"),
    ):
        triplets(server, tmp_path / "raw", ray_address=cluster.address, **RAY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_api": True}, "the provider answers a batch"),
        ({"concurrency": 1}, "concurrency = 1 along with 2 workers"),
        ({"ray_address": "ray://head:10001"}, "start the command there with ray_address='auto'"),
    ],
)
def test_options_that_do_not_fit_workers_are_refused(
    cluster: Any, options: dict[str, Any], message: str, tmp_path: Path, server: HostileServer
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        triplets(server, tmp_path / "raw", **{"ray_address": cluster.address, **RAY, **options})
    assert not server.asked
