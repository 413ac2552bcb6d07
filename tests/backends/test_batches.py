"""Requests by a provider's batch interface: the same replies as without, whatever happens on the way."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dino_st.backends.chat import ChatReply, ChatRequest
from dino_st.backends.journal import ReplyJournal
from dino_st.backends.openai import OpenAIChat
from dino_st.backends.servers import batches
from dino_st.errors import ConfigurationError, ModelError, OutputError, PendingError
from tests.batch_provider import (
    Answered,
    BatchProvider,
    Line,
    Outcome,
    all_answered,
    answered,
    refused,
    text_for,
    unanswered,
)
from tests.hostile_server import MODEL, HostileServer, hostile_server

FAST: dict[str, Any] = {"backoff_seconds": 0.001, "longest_wait_seconds": 0.01}
SOON: dict[str, Any] = {"batch_api": True, "batch_poll_seconds": 0.01, **FAST}
KEY = "sk-secret-of-the-test"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def provider() -> BatchProvider:
    return BatchProvider()


@pytest.fixture
def server(provider: BatchProvider) -> Iterator[HostileServer]:
    with hostile_server(lambda *_: "ok", respond=provider.respond) as running:
        yield running


def requests(count: int = 6) -> list[ChatRequest]:
    return [ChatRequest(f"key-{i}", f"Count from {i}.", "Be brief.") for i in range(count)]


Ask = Callable[..., list[ChatReply]]


@pytest.fixture
def ask(server: HostileServer, tmp_path: Path) -> Ask:
    """Asks with a journal of the test's directory."""

    def run(asked: list[ChatRequest] | None = None, **options: Any) -> list[ChatReply]:
        with ReplyJournal(tmp_path / "replies.sqlite") as journal:
            usual = SOON if options.get("batch_api", True) else FAST
            backend = OpenAIChat(MODEL, base_url=options.pop("base_url", server.url), **{**usual, **options})
            replies = journal.complete(backend, requests() if asked is None else asked)
            journal.settle_batches()
            return replies

    return run


def direct(server: HostileServer, asked: list[ChatRequest]) -> list[ChatReply]:
    return OpenAIChat(MODEL, base_url=server.url, **FAST).complete(asked)


def notes(directory: Path) -> list[Path]:
    return sorted((directory / "batches").glob("*"))


def submitted(provider: BatchProvider) -> list[int]:
    """How many requests each batch has."""
    return [len(provider.requests_of(name)) for name in provider.batches]


def test_replies_are_those_of_single_requests(
    ask: Ask, server: HostileServer, provider: BatchProvider, tmp_path: Path
) -> None:
    replies = ask()
    assert provider.calls["POST /chat/completions"] == 0
    assert submitted(provider) == [6]
    assert notes(tmp_path) == []
    assert replies == direct(server, requests())
    assert ask() == replies
    assert submitted(provider) == [6]


def test_what_goes_out_is_what_openai_expects(ask: Ask, provider: BatchProvider) -> None:
    ask(requests(1))
    [line] = provider.requests_of("batch_1")
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
    assert line["body"]["messages"][-1] == {"role": "user", "content": "Count from 0."}
    assert line["body"]["model"] == MODEL
    assert len(line["custom_id"]) <= 64
    batch = provider.batches["batch_1"]
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/chat/completions", "24h")
    assert re.fullmatch("[0-9a-f]{32}", batch["metadata"]["dino_st"])


def test_raw_text_goes_to_the_completions_endpoint(ask: Ask, provider: BatchProvider) -> None:
    def outcome(_: BatchProvider, __: int, asked: list[Line]) -> Answered:
        body = {"model": MODEL, "choices": [{"finish_reason": "stop", "text": "It rains."}]}
        response = {"status_code": 200, "body": body}
        return "completed", [{"custom_id": one["custom_id"], "response": response} for one in asked], []

    provider.outcome = outcome
    assert [reply.text for reply in ask(requests(1), endpoint="completions")] == ["It rains."]
    assert provider.requests_of("batch_1")[0]["url"] == "/v1/completions"


@pytest.mark.parametrize(("most_requests", "most_bytes"), [(4, 10**6), (50_000, 1300)])
def test_files_larger_than_a_provider_takes_are_cut(
    most_requests: int, most_bytes: int, ask: Ask, provider: BatchProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_BYTES", most_bytes)
    replies = [reply.text for reply in ask(requests(10), batch_requests=most_requests)]
    assert replies == [text_for(body) for body in bodies(provider, 10)]
    assert len(submitted(provider)) == 3
    assert sum(submitted(provider)) == 10
    assert max(submitted(provider)) <= most_requests
    sizes = [len(provider.files[batch["input_file_id"]]) for batch in provider.batches.values()]
    assert max(sizes) <= most_bytes


def bodies(provider: BatchProvider, count: int) -> list[Line]:
    """What was sent for each of the first requests."""
    lines = [line["body"] for name in provider.batches for line in provider.requests_of(name)]
    by_prompt = {body["messages"][-1]["content"]: body for body in lines}
    return [by_prompt[f"Count from {i}."] for i in range(count)]


# --- what comes back


def in_first(change: Callable[[list[Line]], Answered]) -> Outcome:
    """The first batch ends as told, others well."""

    def outcome(provider: BatchProvider, number: int, asked: list[Line]) -> Answered:
        return change(asked) if number == 1 else all_answered(provider, number, asked)

    return outcome


def halves(asked: list[Line]) -> tuple[list[Line], list[Line]]:
    return [answered(one) for one in asked[:3]], asked[3:]


@pytest.mark.parametrize(
    ("change", "then", "told"),
    [
        pytest.param(
            lambda asked: ("expired", halves(asked)[0], [unanswered(one) for one in halves(asked)[1]]),
            [6, 3],
            "batch batch_1: expired, 3 of 6 requests are done; the rest is submitted again (batch_expired: This",
            id="expired half",
        ),
        pytest.param(
            lambda asked: ("expired", halves(asked)[0], []),
            [6, 3],
            "batch batch_1: expired, 3 of 6 requests are done; the rest is submitted again (batch batch_1 expired",
            id="expired without a word",
        ),
        pytest.param(
            lambda asked: ("completed", halves(asked)[0], [refused(one, 429, "slow down") for one in asked[3:]]),
            [6, 3],
            "batch batch_1: completed, 3 of 6 requests are done; the rest is submitted again (status 429: slow down",
            id="too many requests in a batch",
        ),
        pytest.param(
            lambda asked: ("completed", [answered(one) for one in asked[1:]], []),
            [6, 1],
            "batch batch_1: completed, 5 of 6 requests are done; the rest is submitted again (batch batch_1 has no",
            id="missing",
        ),
        pytest.param(
            lambda asked: ("completed", [*map(answered, asked), answered(asked[0], "Another text.")], []),
            [6],
            "batch batch_1: 0 replies are to no request of it, and 1 to one that has a reply; they are left out",
            id="twice",
        ),
        pytest.param(
            lambda asked: ("completed", [*map(answered, asked)], [refused(asked[0], 500)]),
            [6],
            "batch batch_1: 0 replies are to no request of it, and 1 to one that has a reply; they are left out",
            id="an error and an answer",
        ),
        pytest.param(
            lambda asked: ("completed", [answered(asked[0] | {"custom_id": "other"}), *map(answered, asked)], []),
            [6],
            "batch batch_1: 1 replies are to no request of it, and 0 to one that has a reply; they are left out",
            id="unknown",
        ),
        pytest.param(
            lambda asked: ("completed", [answered(asked[0], " "), *map(answered, asked[1:])], []),
            [6, 1],
            "batch batch_1: completed, 5 of 6 requests are done; the rest is submitted again (the reply is empty",
            id="empty",
        ),
        pytest.param(
            lambda asked: ("completed", [answered(one, model="another-model") for one in asked], []),
            [6],
            f"answers as 'another-model' where {MODEL!r} is asked; its answers are taken",
            id="another model",
        ),
    ],
)
def test_what_is_not_answered_is_submitted_again_with_words(
    change: Callable[[list[Line]], Answered],
    then: list[int],
    told: str,
    ask: Ask,
    server: HostileServer,
    provider: BatchProvider,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    provider.outcome = in_first(change)
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        replies = ask()
    assert submitted(provider) == then
    assert any(told in message for message in caplog.messages), caplog.messages
    assert all(reply.failure is None for reply in replies)
    by_prompt = {body["messages"][-1]["content"]: text_for(body) for body in bodies(provider, 6)}
    assert [reply.text for reply in replies] == [by_prompt[f"Count from {i}."] for i in range(6)]
    assert notes(tmp_path) == []


def test_one_request_that_is_refused_fails_alone(ask: Ask, provider: BatchProvider) -> None:
    provider.outcome = lambda _, __, asked: (
        "completed",
        [answered(one) for one in asked[1:]],
        [refused(asked[0], 400, "This model's maximum context length is 8 tokens.")],
    )
    replies = ask()
    assert replies[0].failure == "status 400: This model's maximum context length is 8 tokens."
    assert [reply.text is None for reply in replies] == [True, *[False] * 5]
    assert submitted(provider) == [6]


@pytest.mark.parametrize("waits", [True, False])
def test_attempts_end(waits: bool, ask: Ask, provider: BatchProvider) -> None:
    provider.outcome = lambda _, __, asked: ("completed", [], [refused(one, 500, "broken") for one in asked])
    replies = until_all_is_there(ask, waits, max_retries=2)
    assert {(reply.failure, reply.attempts) for reply in replies} == {("status 500: broken", 3)}
    assert submitted(provider) == [6, 6, 6]


def test_a_batch_of_many_that_fails_as_a_whole_is_not_submitted_again_at_once(
    ask: Ask, provider: BatchProvider
) -> None:
    provider.outcome = lambda _, __, asked: ("completed", [], [refused(one, 500, "broken") for one in asked])
    with pytest.raises(ModelError, match="not one of 40 requests of batch batch_1 was answered, the last one with: s"):
        ask(requests(40))
    provider.outcome = all_answered
    assert all(reply.text for reply in ask(requests(40)))
    assert submitted(provider) == [40, 40]


def test_a_file_that_is_cut_short_is_fetched_again(ask: Ask, provider: BatchProvider) -> None:
    provider.looks, fetched = 1, list[str]()

    class CutShort(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            whole = super().__getitem__(name)
            fetched.append(name)
            return whole[: len(whole) // 2 + 20] if name == "file-2" and fetched.count("file-2") < 3 else whole

    provider.files = CutShort(provider.files)
    assert all(reply.text for reply in ask())
    assert submitted(provider) == [6]
    assert fetched.count("file-2") == 3


def test_what_a_file_lacks_for_good_is_asked_again(
    ask: Ask, provider: BatchProvider, caplog: pytest.LogCaptureFixture
) -> None:
    class CutShort(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            whole = super().__getitem__(name)
            return whole[: whole.rindex("{")] + "\n[1]\n" if name == "file-2" else whole

    provider.files = CutShort(provider.files)
    assert all(reply.text for reply in ask())
    assert submitted(provider)[0] == 6
    assert 0 < submitted(provider)[1] < 6
    assert any("of /files/file-2/content are no JSON objects" in message for message in caplog.messages)


def test_replies_to_other_requests_alone_are_bought_only_once(
    ask: Ask, provider: BatchProvider, tmp_path: Path
) -> None:
    provider.outcome = lambda _, __, asked: ("completed", [answered(one | {"custom_id": "x"}) for one in asked], [])
    with pytest.raises(ModelError, match=r"none of its 6 replies is to one of its 6 requests; .* remove .*\.json"):
        ask()
    with pytest.raises(ModelError, match="none of its 6 replies"):
        ask()
    assert submitted(provider) == [6]
    notes(tmp_path)[0].unlink()
    provider.outcome = all_answered
    assert all(reply.text for reply in ask())


def until_all_is_there(ask: Ask, waits: bool, **options: Any) -> list[ChatReply]:
    """Asks as often as it takes, by a new process as it were each time."""
    for _ in range(20):
        with contextlib.suppress(PendingError):
            return ask(batch_wait=waits, **options)
    return []


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "max_completion_tokens"),
        ("System role not supported", "user"),
    ],
)
@pytest.mark.parametrize("waits", [True, False])
def test_a_form_that_is_refused_is_left_for_good(
    waits: bool, message: str, changed: str, ask: Ask, provider: BatchProvider
) -> None:
    def takes(body: Line) -> bool:
        return "max_completion_tokens" in body if changed != "user" else body["messages"][0]["role"] == "user"

    provider.outcome = lambda _, number, asked: (
        "completed",
        [answered(one) for one in asked[number == 2 :] if takes(one["body"])],
        [refused(one, 400, message) for one in asked if not takes(one["body"])],
    )
    replies = until_all_is_there(ask, waits)
    assert all(reply.text for reply in replies)
    assert [reply.attempts for reply in replies] == [2, *[1] * 5]
    assert submitted(provider) == [6, 6, 1]


def test_an_option_that_is_refused_ends_the_run(ask: Ask, provider: BatchProvider) -> None:
    provider.outcome = lambda _, __, asked: (
        "completed",
        [],
        [refused(one, 400, "Unsupported value: 'temperature'", param="temperature") for one in asked],
    )
    with pytest.raises(ConfigurationError, match="does not take 'temperature' as it is sent"):
        ask()
    assert submitted(provider) == [6]


def test_an_option_that_was_taken_before_is_no_reason_to_end(ask: Ask, provider: BatchProvider) -> None:
    said = "Unsupported value: 'temperature'"
    provider.outcome = lambda _, __, asked: (
        "completed",
        [answered(asked[0])],
        [refused(one, 400, said, param="temperature") for one in asked[1:]],
    )
    assert [reply.failure for reply in ask()] == [None, *[f"status 400: {said}"] * 5]


def test_a_model_that_is_not_there_ends_the_run_after_the_answers_are_kept(
    ask: Ask, provider: BatchProvider, server: HostileServer
) -> None:
    provider.outcome = in_first(
        lambda asked: ("completed", [answered(one) for one in asked[:4]], [refused(one, 404) for one in asked[4:]])
    )
    with pytest.raises(ModelError, match=f"knows no model '{MODEL}'"):
        ask()
    assert ask() == direct(server, requests())
    assert submitted(provider) == [6, 2]


# --- batches as a whole


def test_a_batch_that_fails_validation_is_named_and_ends_the_run(
    ask: Ask, provider: BatchProvider, tmp_path: Path
) -> None:
    def outcome(self: BatchProvider, number: int, _: list[Line]) -> Answered:
        fault = {"code": "model_not_found", "message": "No such model in batch.", "line": 1, "param": "body.model"}
        self.batches[f"batch_{number}"]["errors"] = {"object": "list", "data": [fault] * 9}
        return "failed", [], []

    provider.outcome = outcome
    words = r"refused batch batch_1 of 6 requests \(model_not_found: No such model in batch. \(line 1\)\); mend that"
    with pytest.raises(ModelError, match=words):
        ask()
    assert notes(tmp_path) == []
    provider.outcome = all_answered
    assert all(reply.text for reply in ask())


def test_a_batch_that_no_queue_takes_is_to_be_cut_and_then_all_is_answered(ask: Ask, provider: BatchProvider) -> None:
    def outcome(self: BatchProvider, number: int, asked: list[Line]) -> Answered:
        if len(asked) > 2:
            self.batches[f"batch_{number}"]["errors"] = {"data": [{"code": "token_limit_exceeded", "message": "Full."}]}
            return "failed", [], []
        return all_answered(self, number, asked)

    provider.outcome = outcome
    with pytest.raises(
        ModelError, match=r"Full\.\); ask for fewer at once \(.*batch.requests.*\), and run the same again"
    ):
        ask()
    assert all(reply.text for reply in ask(batch_requests=2))
    assert submitted(provider) == [6, 2, 2, 2]


def test_what_a_full_provider_refuses_waits_for_the_other_batches(ask: Ask, provider: BatchProvider) -> None:
    def outcome(self: BatchProvider, number: int, asked: list[Line]) -> Answered:
        if self.batches["batch_1"]["status"] == "in_progress" and number > 1:
            self.batches[f"batch_{number}"]["errors"] = {"data": [{"code": "token_limit_exceeded", "message": "Full."}]}
            return "failed", [], []
        return all_answered(self, number, asked)

    provider.outcome, provider.patience = outcome, {"batch_1": 5}
    assert all(reply.text for reply in ask(batch_requests=3))
    assert submitted(provider) == [3, 3, 3]


def test_what_a_cancelled_batch_had_answered_is_kept(ask: Ask, provider: BatchProvider, server: HostileServer) -> None:
    provider.outcome = in_first(
        lambda asked: ("cancelled", halves(asked)[0], [unanswered(one, "batch_cancelled") for one in asked[3:]])
    )
    with pytest.raises(ModelError, match=r"batch batch_1 was cancelled at .*; what it had answered is kept"):
        ask()
    assert ask()[:3] == direct(server, requests())[:3]
    assert submitted(provider) == [6, 3]


@pytest.mark.parametrize("path", ["/files", "/batches"])
def test_a_server_without_the_interface_is_told_of(
    path: str, ask: Ask, provider: BatchProvider, tmp_path: Path
) -> None:
    provider.lacks = (path,)
    with pytest.raises(ConfigurationError, match=rf"'batch_api': .* has no batch interface .* at {path}\); leave it"):
        ask()
    assert notes(tmp_path) == []


def test_a_key_that_is_refused_is_told_of_and_stands_nowhere(
    server: HostileServer, provider: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def run(url: str) -> list[ChatReply]:
        with ReplyJournal(tmp_path / "replies.sqlite") as journal:
            return journal.complete(OpenAIChat(MODEL, base_url=url, **SOON, batch_wait=False), requests())

    with (
        hostile_server(lambda *_: "401") as other,
        pytest.raises(ConfigurationError, match=r"not accept the key .*Bearer \*\*\*"),
    ):
        run(other.url)
    provider.is_stuck = True
    with caplog.at_level(logging.DEBUG, logger="dino_st"), pytest.raises(PendingError):
        run(server.url)
    assert server.authorizations == {f"Bearer {KEY}"}
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    assert KEY not in caplog.text


# --- leaving and coming back


def test_a_run_that_does_not_wait_is_collected_by_a_later_one(
    ask: Ask, provider: BatchProvider, server: HostileServer, tmp_path: Path
) -> None:
    provider.is_stuck = True
    with pytest.raises(
        PendingError, match=r"^6 requests are in batches that are pending at .* \(batch_1: in_progress\); run"
    ):
        ask(batch_wait=False)
    assert json.loads(notes(tmp_path)[0].read_text())["batch"] == "batch_1"
    with pytest.raises(PendingError):
        ask(batch_wait=False)
    provider.is_stuck = False
    assert ask(batch_wait=False) == direct(server, requests())
    assert submitted(provider) == [6]


def test_what_is_in_a_batch_is_not_asked_singly(
    ask: Ask, provider: BatchProvider, server: HostileServer, tmp_path: Path
) -> None:
    provider.is_stuck = True
    with pytest.raises(PendingError):
        ask(batch_wait=False)
    with pytest.raises(OutputError, match=r"6 of the requests are in batch batch_1 .*; go on with batch_api=True"):
        ask(batch_api=False)
    assert provider.calls["POST /chat/completions"] == 0


def test_a_batch_at_another_address_is_not_forgotten(ask: Ask, provider: BatchProvider, server: HostileServer) -> None:
    provider.is_stuck = True
    with pytest.raises(PendingError):
        ask(batch_wait=False)
    with pytest.raises(ConfigurationError, match=rf"batch_1 with 6 of these requests was submitted to {server.url};"):
        ask(base_url="http://127.0.0.1:9/v1")


def test_a_batch_of_other_settings_is_neither_mixed_in_nor_forgotten(
    ask: Ask, provider: BatchProvider, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    provider.is_stuck = True
    with pytest.raises(PendingError):
        ask(batch_wait=False, temperature=0.5)
    provider.is_stuck = False
    assert all(reply.text for reply in ask(temperature=1.0))
    assert submitted(provider) == [6, 6]
    assert {line["body"]["temperature"] for line in provider.requests_of("batch_2")} == {1.0}
    assert [path.name for path in notes(tmp_path)] == [f"{provider.batches['batch_1']['metadata']['dino_st']}.json"]
    assert any("batch batch_1 of 6 requests at" in m and "does not make" in m for m in caplog.messages)


@pytest.mark.parametrize("lost", [True, False])
def test_a_batch_whose_id_nobody_wrote_down_is_found_by_its_mark(
    lost: bool, ask: Ask, provider: BatchProvider, server: HostileServer, tmp_path: Path
) -> None:
    provider.is_stuck = True
    for i in range(3):  # others' batches, on several pages of the list
        provider.batches[f"batch_{i + 100}"] = {
            "id": f"batch_{i + 100}",
            "metadata": {"dino_st": "other"} if i else None,
        }
    with pytest.raises(PendingError):
        ask(batch_wait=False)
    [path] = notes(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"batch": None}))
    mine = provider.batches["batch_4"]
    if lost:
        del provider.batches["batch_4"]
    for i in range(3):
        provider.batches[f"batch_{i + 200}"] = {"id": f"batch_{i + 200}", "metadata": {}}
    provider.is_stuck = False
    assert ask() == direct(server, requests())
    ours = [one for one in provider.batches.values() if one.get("input_file_id")]
    assert len(ours) == 1
    assert (ours[0] is mine) != lost


def test_a_submission_without_an_answer_is_looked_for_before_it_is_repeated(
    provider: BatchProvider, tmp_path: Path
) -> None:
    def script(prompt: str, attempt: int) -> str:
        return "ok"

    begin = provider._begin

    def begun_without_a_word(asked: Line) -> tuple[int, object]:
        status, batch = begin(asked)
        return (500, {"error": {"message": "broken"}}) if len(provider.batches) == 1 else (status, batch)

    provider._begin = begun_without_a_word  # type: ignore[method-assign]
    with hostile_server(script, respond=provider.respond) as server, ReplyJournal(tmp_path / "replies") as journal:
        replies = journal.complete(OpenAIChat(MODEL, base_url=server.url, **SOON), requests())
    assert all(reply.text for reply in replies)
    assert submitted(provider) == [6]


@pytest.mark.parametrize("fault", ["429 after", "503", "reset", "truncated"])
def test_a_server_in_trouble_is_asked_again(fault: str, provider: BatchProvider, tmp_path: Path) -> None:
    def script(prompt: str, attempt: int) -> str:
        return fault if attempt <= 2 else "ok"

    with hostile_server(script, respond=provider.respond) as server, ReplyJournal(tmp_path / "replies") as journal:
        replies = journal.complete(OpenAIChat(MODEL, base_url=server.url, **SOON), requests())
    assert all(reply.text for reply in replies)
    assert submitted(provider) == [6]


@pytest.mark.parametrize("waits", [True, False])
def test_a_run_that_waits_outlives_an_outage(
    waits: bool, provider: BatchProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def script(prompt: str, attempt: int) -> str:
        return "503" if prompt.startswith("GET") and attempt <= 4 else "ok"

    with hostile_server(script, respond=provider.respond) as server, ReplyJournal(tmp_path / "replies") as journal:
        backend = OpenAIChat(MODEL, base_url=server.url, **SOON, max_retries=1, batch_wait=waits)
        if waits:
            assert all(reply.text for reply in journal.complete(backend, requests()))
            told = f"127.0.0.1:{server.port}: status 503: no: Bearer ***; looking again every 0.01 s"
            assert caplog.messages == [told, told]  # the batch, and its replies
        else:
            with pytest.raises(
                ModelError, match=r"fails at /batches/batch_1 \(status 503.*\); run the same again; what"
            ):
                journal.complete(backend, requests())
    assert submitted(provider) == [6]


def test_a_batch_that_the_provider_does_not_know_is_not_bought_again(
    ask: Ask, provider: BatchProvider, tmp_path: Path
) -> None:
    provider.is_stuck = True
    with pytest.raises(PendingError):
        ask(batch_wait=False)
    provider.batches.clear()
    with pytest.raises(ModelError, match=r"knows no batch batch_1 .* set the key of the account .* remove .*\.json"):
        ask()
    notes(tmp_path)[0].unlink()
    provider.is_stuck = False
    assert all(reply.text for reply in ask())


def test_replies_that_are_gone_are_told_of(ask: Ask, provider: BatchProvider) -> None:
    provider.lacks = ("/files/",)
    with pytest.raises(ModelError, match=r"the replies of batch batch_1 cannot be had \(status 404.*; run the same"):
        ask()
    provider.lacks = ()
    assert all(reply.text for reply in ask())
    assert submitted(provider) == [6]


@pytest.mark.parametrize("content", ["{", '{"mark": 1}', "[]", ""])
def test_a_damaged_note_is_told_of(content: str, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "x.json").write_text(content)
    with pytest.raises(OutputError, match=r"x\.json: not a note of a batch \(.*\); put it back, or remove it"):
        ask()


@pytest.mark.parametrize("moment", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/", "GET /v1/files/"])
def test_a_kill_at_any_moment_buys_nothing_twice(moment: str, provider: BatchProvider, tmp_path: Path) -> None:
    program = (
        "import sys; from tests.backends.test_batches import *\n"
        "with ReplyJournal(sys.argv[2]) as journal:\n"
        "    journal.complete(OpenAIChat(MODEL, base_url=sys.argv[1], **SOON), requests())\n"
    )
    path, running, killed = tmp_path / "replies.sqlite", list[subprocess.Popen[bytes]](), list[int]()

    def respond_and_kill(method: str, place: str, raw: bytes) -> tuple[int, object]:
        reply = provider.respond(method, place, raw)
        if f"{method} {place}".startswith(moment) and not killed:
            while not running:
                time.sleep(0.01)
            running[0].kill()
            killed.append(running[0].wait())
        return reply

    with hostile_server(lambda *_: "ok", respond=respond_and_kill) as server:
        running.append(subprocess.Popen([sys.executable, "-c", program, server.url, str(path)], env=dict(os.environ)))
        running[0].wait(60)
        assert killed == [-signal.SIGKILL]
        with ReplyJournal(path) as journal:
            replies = journal.complete(OpenAIChat(MODEL, base_url=server.url, **SOON), requests())
            journal.settle_batches()
    assert all(reply.text for reply in replies)
    assert submitted(provider) == [6]
    assert notes(tmp_path) == []


def test_ctrl_c_keeps_the_ids(provider: BatchProvider, server: HostileServer, ask: Ask, tmp_path: Path) -> None:
    provider.is_stuck = True
    program = (
        "import sys; from tests.backends.test_batches import *\n"
        "with ReplyJournal(sys.argv[2]) as journal:\n"
        "    journal.complete(OpenAIChat(MODEL, base_url=sys.argv[1], **SOON), requests())\n"
    )
    command = [sys.executable, "-c", program, server.url, str(tmp_path / "replies.sqlite")]
    process = subprocess.Popen(
        command,
        env=dict(os.environ),
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore Ctrl-C
    )
    deadline = time.monotonic() + 60
    while not provider.looked and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    provider.is_stuck = False
    assert ask() == direct(server, requests())
    assert submitted(provider) == [6]


# --- where it does not fit


@pytest.mark.parametrize("name", ["batch_poll_seconds", "batch_requests", "batch_wait"])
def test_options_of_batches_need_batches(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"batch_api=True along with {name}"):
        OpenAIChat(MODEL, base_url="http://h/v1", **{name: 1})


def test_batches_need_a_directory(server: HostileServer) -> None:
    with pytest.raises(ConfigurationError, match="'batch_api': the ids of batches are kept in an output directory"):
        OpenAIChat(MODEL, base_url=server.url, **SOON).complete(requests())


def test_scores_are_not_asked_for_in_batches(ask: Ask) -> None:
    with pytest.raises(ConfigurationError, match="no batch interface says how likely a given text is"):
        ask([ChatRequest("a", "b", answer="c")])


def test_replies_that_are_all_kept_need_no_note(ask: Ask, provider: BatchProvider, tmp_path: Path) -> None:
    provider.is_stuck = True
    with pytest.raises(PendingError):
        ask(batch_wait=False)
    [path] = notes(tmp_path)
    content, provider.is_stuck = path.read_text(encoding="utf-8"), False
    ask()
    path.write_text(content, encoding="utf-8")  # as if the process had ended between the two
    ask()
    assert notes(tmp_path) == []
    assert submitted(provider) == [6]
