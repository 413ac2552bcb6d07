"""What somebody meets who uses the commands for the first time and gets something wrong."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dino_st.backends.chat import ChatRequest
from dino_st.backends.openai import OpenAIChat
from dino_st.cli.main import app
from dino_st.cli.support import console, print_pairs
from dino_st.support.files import PREPARATION_RECORD


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words_of(result: Result) -> str:
    return " ".join(result.output.split())


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
    original = OpenAIChat.__init__

    def hasty(self: OpenAIChat, model: str, **options: Any) -> None:
        original(self, model, **(options | {"backoff_seconds": 0.001, "max_retries": 1}))

    monkeypatch.setattr(OpenAIChat, "__init__", hasty)
    (tmp_path / "s.txt").write_text("A dog runs.\nTwo cats sleep.\n")
    task = ("--task", "syncse-partial", "--input", tmp_path / "s.txt", "--output", tmp_path / "t")
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        result = run("generate", *task, "--backend", "openai", "--model", "m", "--base-url", dead_address)
    assert result.exit_code == 1
    assert "requests brought a text" in words_of(result)
    assert "no connection to 127.0.0.1" in words_of(result)
    assert [record.message for record in caplog.records if "trying again, up to 1 times" in record.message]


def test_trouble_of_a_server_is_said_once(dead_address: str, caplog: pytest.LogCaptureFixture) -> None:
    chat = OpenAIChat("m", base_url=dead_address, backoff_seconds=0.001, max_retries=3)
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        replies = chat.complete([ChatRequest(f"key-{i}", "hello") for i in range(5)])
    assert [reply.text for reply in replies] == [None] * 5
    assert len([record for record in caplog.records if "trying again" in record.message]) == 1
