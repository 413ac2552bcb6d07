"""What somebody meets who uses the commands for the first time and gets something wrong."""

from __future__ import annotations

import json
import logging
import socket
import time
from pathlib import Path

import pytest

from dino_st.backends.chat import ChatRequest
from dino_st.backends.openai import OpenAIChat
from dino_st.cli.support import console, print_pairs
from dino_st.pipeline import stages
from dino_st.support.files import PREPARATION_RECORD
from tests.cli.commands import run, words_of
from tests.hostile_server import hostile_server


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        {"sentence1": f"sentence {i}", "sentence2": f"text {i} {score}", "score": score}
        for i in range(12)
        for score in (0.0, 0.5, 1.0)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def dead_address() -> str:
    """An address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def test_escape_sequences_in_texts_never_reach_the_terminal() -> None:
    with console.capture() as shown:
        print_pairs({"1": [["A \x1b[31mred cat", "[bold]no markup"]]})
    assert "\x1b[31m" not in shown.get()
    assert "[bold]no markup" in shown.get()


def test_preparing_says_what_is_wrong_with_its_input(pairs: Path, tmp_path: Path) -> None:
    missing = run("prepare", tmp_path / "none", "--output", tmp_path / "p")
    assert "there is no such file or directory" in words_of(missing)
    assert run("prepare", pairs, "--output", tmp_path / "p").exit_code == 0
    assert (tmp_path / "p" / PREPARATION_RECORD).is_file()
    again = run("prepare", tmp_path / "p", "--output", tmp_path / "q")
    assert again.exit_code == 1
    assert "is prepared already" in words_of(again)


def test_an_unusable_output_is_refused_before_the_work(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear all")
    result = run("prepare", pairs, "--output", tmp_path / "other")
    assert result.exit_code == 1
    assert "holds something else than prepared pairs" in words_of(result)
    assert "kept" not in result.output


def test_explain_says_where_the_dropped_pairs_are(pairs: Path, tmp_path: Path) -> None:
    result = run("prepare", pairs, "--output", tmp_path / "p", "--explain", "--max-words", "3")
    assert result.exit_code == 0, result.output
    assert "rejected.jsonl" in "".join(result.output.split())


def test_ray_that_is_not_installed_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.txt").write_text("A dog runs.\nTwo cats sleep.\n")
    monkeypatch.setattr("dino_st.backends.cluster.find_spec", lambda name: None)
    monkeypatch.setattr(stages, "look_at_model", pytest.fail)
    command = ["generate", "--model", "dino-tiny", "--input", tmp_path / "s.txt", "--output", tmp_path / "raw"]
    result = run(*command, "--engine", "ray")
    assert result.exit_code == 1
    assert 'engine ray needs Ray; run: pip install "dino-st[ray]"' in words_of(result).replace("'", "")
    assert not (tmp_path / "raw").exists()


def test_where_many_tries_fail_for_one_reason_a_remedy_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("A dog runs.\nTwo cats sleep.\n")
    command = ["generate", "--model", "dino-tiny", "--input", tmp_path / "s.txt", "--output", tmp_path / "raw"]
    result = run(*command, "--max-new-tokens", "1", "--max-tries", "1")
    assert result.exit_code == 1
    assert "100% of the tries were rejected (no closing quote): raise --max-new-tokens, or take" in words_of(result)
    assert stages._remedies({"tries": 100, "rejected: no closing quote": 20, "rejected: too few words": 10}) == []
    assert stages._remedies({"tries": 100, "rejected: no closing quote": 10, "rejected: too few words": 21}) == [
        "21% of the tries were rejected (too few words): lower min_words"
    ]
    [told] = stages._remedies({"rejected: prompt too long": 36})
    assert told.startswith("100% of the tries were rejected (prompt too long)")


def test_preparing_warns_where_training_would_refuse(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = [{"sentence1": f"One {i}.", "sentence2": f"Two {i} {s}.", "score": s} for i in range(4) for s in (0, 0.5, 1)]
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, few)))
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        prepared = run("prepare", tmp_path / "few.jsonl", "--output", tmp_path / "p")
        triplets = run("prepare-triplets", tmp_path / "few.jsonl", "--output", tmp_path / "t")
    trained = run("train", tmp_path / "p", "--encoder", "dino-tiny-encoder", "--output", tmp_path / "m")
    assert (prepared.exit_code, triplets.exit_code, trained.exit_code) == (0, 0, 1)
    rows = json.loads(run("prepare", tmp_path / "few.jsonl", "--output", tmp_path / "p", "--json").stdout)["splits"]
    said = [record.getMessage() for record in caplog.records if "fewer than a batch" in record.getMessage()]
    assert said[0].startswith(f"{rows['train']} rows to train on are fewer than a batch of 32, the default")
    assert "fewer than a batch of 512" in said[1]
    assert f"{rows['train']} training pairs are fewer than a batch of 32" in words_of(trained)


def test_training_warns_of_a_validation_split_that_says_nothing(
    pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run("prepare", pairs, "--output", tmp_path / "p")
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        result = run("train", tmp_path / "p", "--encoder", "dino-tiny-encoder", "--output", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert any("says next to nothing" in record.message for record in caplog.records)


def test_a_server_that_is_not_there_is_an_error_and_said_at_once(
    dead_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (tmp_path / "s.txt").write_text("A dog runs.\nTwo cats sleep.\n")
    task = ("--task", "syncse-partial", "--input", tmp_path / "s.txt", "--output", tmp_path / "t")
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        result = run("generate", *task, "--backend", "openai", "--model", "m", "--base-url", dead_address)
    assert time.monotonic() - begin < 20  # with the default options; pauses of 3 seconds at most, and a slow machine
    assert result.exit_code == 1
    assert "no connection to 127.0.0.1" in words_of(result)
    assert "tried 3 times. Look whether the server runs, and whether --base-url is right" in words_of(result)
    assert [record.message for record in caplog.records if "trying again, up to 2 times" in record.message]


def test_a_server_that_went_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with hostile_server(lambda *_: "ok") as server:
        chat = OpenAIChat("tiny-chat", base_url=server.url, backoff_seconds=0.001, max_retries=5)
        assert chat.complete([ChatRequest("key", "hello")])[0].text is not None
    later = chat.complete([ChatRequest(f"key-{i}", "hello") for i in range(3)])
    assert [reply.attempts for reply in later] == [6] * 3
    assert all("no connection to 127.0.0.1" in str(reply.failure) for reply in later)


def test_trouble_of_a_server_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with hostile_server(lambda *_: "503") as server, caplog.at_level(logging.WARNING, logger="dino_st"):
        chat = OpenAIChat("m", base_url=server.url, backoff_seconds=0.001, max_retries=3)
        replies = chat.complete([ChatRequest(f"key-{i}", "hello") for i in range(5)])
    assert [reply.text for reply in replies] == [None] * 5
    assert len([record for record in caplog.records if "trying again" in record.message]) == 1
