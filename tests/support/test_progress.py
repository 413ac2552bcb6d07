"""How far long work is, how fast, and how long it takes: of this run, whatever was done before."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dino_st.data.shards import ShardDirectory
from dino_st.decoding.options import DecodingOptions
from dino_st.generation import chat
from dino_st.generation.options import GenerationOptions
from dino_st.support import progress
from dino_st.syncse import run as syncse
from dino_st.syncse.run import generate_triplets
from dino_st.tasks.spec import TaskSpec
from tests.syncse.test_syncse import FakeChat


def test_what_was_done_before_counts_neither_for_the_rate_nor_for_the_time_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = iter([0.0, 120.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with caplog.at_level(logging.INFO, logger="dino_st"):
        progress._log_lines("writing", total=1000, unit="texts", done=760)(60)
    assert caplog.messages == ["writing: 820 of 1000 texts, 0.5/s, about 360 s left"]


def test_a_log_has_lines_soon_and_then_fewer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    advance = progress._log_lines("writing", total=10_000, unit="texts", done=0)
    with caplog.at_level(logging.INFO, logger="dino_st"):
        for second in range(1, 601):
            now = float(second)
            advance(1)
    seconds = [int(message.split()[1]) for message in caplog.messages]
    assert seconds[:6] == [5, 10, 15, 23, 35, 53]
    assert [later - earlier for earlier, later in itertools.pairwise(seconds)][-5:] == [60] * 5


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, list[int]]]:
    """Total, what was done before, and each advance, of every piece of work."""
    seen: list[tuple[int, int, list[int]]] = []
    original = progress.progress

    def watched(title: str, total: int, unit: str, *, done: int = 0, shown: bool = True) -> Any:
        steps: list[int] = []
        seen.append((total, done, steps))
        return _Watched(original(title, total, unit, done=done, shown=False), steps)

    for module in (chat, syncse):
        monkeypatch.setattr(module, "progress", watched)
    return seen


class _Watched:
    def __init__(self, inner: Any, steps: list[int]) -> None:
        self.inner, self.steps = inner, steps

    def __enter__(self) -> Any:
        self.inner.__enter__()
        return self.steps.append

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(*error)


def test_waves_that_a_server_has_written_are_done(
    shown: list[tuple[int, int, list[int]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "WAVE", 2)
    failing = ["c"]
    server = FakeChat(lambda request: None if any(f'"{x}' in request.prompt for x in failing) else f'{request.key}."')
    sentences = [f"{letter} sentence." for letter in "abcde"]
    run = chat.ChatPairRun(
        server, TaskSpec.load("sts-x2"), DecodingOptions(decay_constant=0), GenerationOptions(samples=1), sentences
    )
    run.into(ShardDirectory(tmp_path / "raw"), False)
    failing.clear()
    run.into(ShardDirectory(tmp_path / "raw"), False)
    assert [(total, done, sum(steps)) for total, done, steps in shown] == [(5, 0, 5), (5, 3, 2)]


def test_sentences_that_have_triplets_are_done(shown: list[tuple[int, int, list[int]]], tmp_path: Path) -> None:
    failing = ["Tom"]
    server = FakeChat(lambda request: None if any(x in request.prompt for x in failing) else f"Text {request.key}.")
    sentences = ["Tom sleeps in a big bed.", "Ann swims across the lake.", "Eve sings every morning."]
    for _ in range(2):
        generate_triplets(server, sentences, output_dir=tmp_path / "t")
        failing.clear()
    assert [(total, done, sum(steps)) for total, done, steps in shown] == [(3, 0, 3), (3, 2, 1)]
    assert Counter(ShardDirectory(tmp_path / "t").counts)["rows"] == 3
