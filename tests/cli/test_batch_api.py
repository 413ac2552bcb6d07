"""`--batch-api`: every command that asks a chat server writes by batches what it writes by single requests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.cli.support import EXIT_PENDING, EXIT_USAGE
from dino_st.errors import PendingError
from dino_st.syncse.run import generate_triplets
from tests.batch_provider import BatchProvider, Line, answered, refused
from tests.hostile_server import MODEL, HostileServer, hostile_server

SENTENCES = [f"Person number {i} plays the flute in the park." for i in range(70)]  # more than a wave of pairs
FAST = ("--backoff-seconds", "0.001", "--longest-wait-seconds", "0.01")
SOON = ("--batch-api", "--batch-poll-seconds", "0.01")


pytestmark = pytest.mark.usefixtures("asking_this_machine")


@pytest.fixture
def provider() -> BatchProvider:
    return BatchProvider()


@pytest.fixture
def server(provider: BatchProvider) -> Iterator[HostileServer]:
    with hostile_server(lambda *_: "ok", respond=provider.respond) as running:
        yield running


@pytest.fixture
def commands(server: HostileServer, tmp_path: Path) -> dict[str, list[str]]:
    """The commands that ask a server, without where they write."""
    (tmp_path / "sentences.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    pairs = [{"sentence1": SENTENCES[i], "sentence2": SENTENCES[i + 1], "score": 0.5} for i in range(66)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    sentences = ["--input", str(tmp_path / "sentences.txt")]
    at = ["--model", MODEL, "--backend", "openai", "--base-url", server.url, *FAST]
    return {
        "generate": ["generate", *at, *sentences, "--decay-constant", "0"],
        "syncse": ["syncse", *at, *sentences, "--limit", "12"],
        "scratch": ["syncse", *at, "--task", "syncse-scratch", "--num", "30"],
        "judge": ["judge", str(tmp_path / "pairs.jsonl"), *at],
    }


def run(command: list[str], output: Path, *more: str) -> Any:
    return CliRunner().invoke(app, [*command, "--output", str(output), *more])


def what_was_written(directory: Path) -> dict[str, bytes]:
    """The files of data, and of what was rejected."""
    paths = [*directory.glob("data/*"), *directory.glob("rejected.jsonl"), *directory.glob("sentences.jsonl")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(paths)}


def shards(directory: Path) -> Any:
    return json.loads((directory / "manifest.json").read_text(encoding="utf-8"))["shards"]


NAMES = ["generate", "syncse", "scratch", "judge"]


@pytest.mark.parametrize("name", NAMES)
def test_a_command_writes_the_same_bytes_by_batches(
    name: str, commands: dict[str, list[str]], provider: BatchProvider, tmp_path: Path
) -> None:
    singly = run(commands[name], tmp_path / "singly")
    assert singly.exit_code == 0, singly.output
    asked = provider.calls["POST /chat/completions"]
    assert asked
    by_batches = run(commands[name], tmp_path / "batches", *SOON)
    assert by_batches.exit_code == 0, by_batches.output
    assert provider.calls["POST /chat/completions"] == asked
    assert len(provider.batches) > 1  # what could not be used was asked again
    assert what_was_written(tmp_path / "batches") == what_was_written(tmp_path / "singly")
    if name != "scratch":  # where sentences are asked for at once, more may be asked for than by and by
        assert shards(tmp_path / "batches") == shards(tmp_path / "singly")
        assert sum(len(provider.requests_of(batch)) for batch in provider.batches) == asked
    assert list((tmp_path / "batches" / "batches").iterdir()) == []
    before = len(provider.batches)
    assert run(commands[name], tmp_path / "batches", *SOON).exit_code == 0
    if name != "syncse":  # which tries rejected sentences again
        assert len(provider.batches) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_does_not_wait_ends_with_a_code_of_its_own_until_all_is_there(
    name: str, commands: dict[str, list[str]], provider: BatchProvider, tmp_path: Path
) -> None:
    assert run(commands[name], tmp_path / "singly").exit_code == 0
    codes = []
    while len(codes) < 40 and 0 not in codes:
        result = run(commands[name], tmp_path / "batches", *SOON, "--no-batch-wait")
        assert result.exit_code in (0, EXIT_PENDING), result.output
        codes.append(result.exit_code)
        if result.exit_code:
            assert re.search("pending: .* requests are in batches that are pending at", result.output)
            assert f"batch_{len(provider.batches)}: " in result.output
    assert EXIT_PENDING in codes
    assert what_was_written(tmp_path / "batches") == what_was_written(tmp_path / "singly")
    assert len(set(provider.looked)) == len(provider.batches)


def test_python_and_recipes_take_the_same_option(
    commands: dict[str, list[str]], server: HostileServer, provider: BatchProvider, tmp_path: Path
) -> None:
    own = {"backoff_seconds": 0.001, "batch_api": True, "batch_poll_seconds": 0.01, "batch_wait": False}
    provider.is_stuck = True
    with pytest.raises(PendingError, match="24 requests are in batches that are pending"):
        generate_triplets(
            *(MODEL, SENTENCES[:12]), backend="openai", base_url=server.url, output_dir=tmp_path / "raw", **own
        )
    fields = [f"model={MODEL}", f"input={tmp_path / 'sentences.txt'}", "backend=openai", f"base_url={server.url}"]
    fields += ["limit=12", *(f"generate.{name}={json.dumps(value)}" for name, value in own.items())]
    fields += ["encoder=dino-tiny-encoder", "train.mlm_weight=0", "train.mlp_head=none"]
    settings = [part for field in fields for part in ("--set", field)]
    result = CliRunner().invoke(app, ["run", "syncse-partial", *settings, "--output", str(tmp_path / "run")])
    assert result.exit_code == EXIT_PENDING, result.output
    assert "24 requests are in batches that are pending" in result.output


def test_what_fails_is_listed_and_asked_again_by_the_next_run_alone(
    commands: dict[str, list[str]], provider: BatchProvider, tmp_path: Path
) -> None:
    def some_fail(_: BatchProvider, __: int, asked: list[Line]) -> Any:
        bad = [one for one in asked if "number 7 " in one["body"]["messages"][-1]["content"]]
        good = [answered(one) for one in asked if one not in bad]
        return "completed", good, [refused(one, 400, "of no kind") for one in bad]

    provider.outcome = some_fail
    first = run(commands["generate"], tmp_path / "raw", *SOON)
    assert first.exit_code == 0, first.output
    lost = [json.loads(line) for line in (tmp_path / "raw/rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    failed = [line for line in lost if line["reason"] == "request failed: status 400: of no kind"]
    assert {line["sentence1"] for line in failed} == {SENTENCES[7]}
    assert len(failed) == 6
    assert "failed requests are made again" in first.output
    number = len(provider.batches)
    provider.outcome = BatchProvider().outcome
    assert run(commands["generate"], tmp_path / "raw", *SOON).exit_code == 0
    assert len(provider.requests_of(f"batch_{number + 1}")) == 6
    assert run(commands["generate"], tmp_path / "singly").exit_code == 0
    assert what_was_written(tmp_path / "raw") == what_was_written(tmp_path / "singly")


def test_a_killed_command_goes_on_with_its_batch_and_two_do_not_meet(
    commands: dict[str, list[str]], provider: BatchProvider, tmp_path: Path
) -> None:
    provider.is_stuck = True
    command = [*commands["generate"], "--output", str(tmp_path / "raw"), *SOON]
    process = subprocess.Popen([sys.executable, "-m", "dino_st", *command], env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not provider.looked and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    second = CliRunner().invoke(app, command)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert second.exit_code == 1
    assert "another process is writing there" in second.output
    assert len(provider.batches) == 1
    provider.is_stuck = False
    assert CliRunner().invoke(app, command).exit_code == 0
    assert run(commands["generate"], tmp_path / "singly").exit_code == 0
    assert what_was_written(tmp_path / "raw") == what_was_written(tmp_path / "singly")
    first_round = len(SENTENCES) * 3 * 2
    assert [len(provider.requests_of(name)) for name in list(provider.batches)[:2]] == [
        first_round,
        sum(1 for one in provider.requests_of("batch_1") if "I cannot." in json.dumps(answered(one))),
    ]


def test_the_summary_names_what_is_pending(
    commands: dict[str, list[str]], provider: BatchProvider, tmp_path: Path
) -> None:
    provider.is_stuck = True
    result = run(commands["generate"], tmp_path / "raw", *SOON, "--no-batch-wait", "--json")
    assert result.exit_code == EXIT_PENDING
    facts = json.loads(result.stdout)
    assert (facts["exit_code"], facts["error"]["kind"]) == (EXIT_PENDING, "PendingError")
    assert "(batch_1: in_progress)" in facts["error"]["message"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--debias", "rerank", "--batch-api"], "--batch-api along with --debias rerank: no batch interface says"),
        (["--no-batch-wait"], "expected --batch-api along with --batch-wait"),
        (["--engine", "ray", "--batch-api"], "--engine ray along with --batch-api: the provider answers a batch"),
    ],
)
def test_batches_are_refused_where_they_do_not_fit(
    options: list[str], message: str, commands: dict[str, list[str]], provider: BatchProvider, tmp_path: Path
) -> None:
    result = run(commands["generate"], tmp_path / "raw", *options)
    assert result.exit_code == EXIT_USAGE, result.output
    assert message in " ".join(result.output.split())
    assert not provider.calls


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["generate"], "--batch-api: for a chat server only, and the backend is 'local'"),
        (["generate", "--engine", "ray"], "--batch-api: for a chat server only, and the backend is 'local'"),
        (["syncse"], "--batch-api belongs to the backend 'openai', and the backend is 'local'"),
    ],
)
def test_a_local_model_is_not_asked_in_batches(command: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("\n".join(SENTENCES[:2]), encoding="utf-8")
    result = run(
        [*command, "--model", "dino-tiny", "--input", str(tmp_path / "s.txt")], tmp_path / "raw", "--batch-api"
    )
    assert result.exit_code == EXIT_USAGE
    assert message in " ".join(result.output.split())


def test_a_server_without_the_interface_is_told_with_the_option(
    commands: dict[str, list[str]], provider: BatchProvider, tmp_path: Path
) -> None:
    provider.lacks = ("/files",)
    result = run(commands["judge"], tmp_path / "judged", *SOON)
    assert result.exit_code == EXIT_USAGE
    assert "--batch-api: 127.0.0.1:" in result.output
    assert "has no batch interface as OpenAI has (status 404: Not Found at /files); leave it out" in result.output
