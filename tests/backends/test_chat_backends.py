from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from dino_st.backends import openai
from dino_st.backends.chat import ChatReply, ChatRequest
from dino_st.backends.journal import ReplyJournal
from dino_st.backends.local_chat import LocalChat
from dino_st.backends.openai import OpenAIChat, Pace, RequestRun, pause_before
from dino_st.backends.servers.replies import AttemptError, is_same_model, read_answer, retry_after_seconds
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, InputError, MissingExtraError, ModelError, OutputError
from tests.hostile_server import FAULTS, MODEL, HostileServer, Script, answer_to, hostile_server, random_faults

KEY = "sk-notarealkey0123456789"
FAST: dict[str, Any] = {"backoff_seconds": 0.001, "longest_wait_seconds": 0.05, "timeout": 20.0}
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if not loop.last %}[end]{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def requests(count: int, prefix: str = "request") -> list[ChatRequest]:
    return [ChatRequest(f"key-{i}", f"{prefix} {i}") for i in range(count)]


def always(fault: str) -> Script:
    return lambda prompt, attempt: fault


def first(fault: str, times: int = 1) -> Script:
    return lambda prompt, attempt: fault if attempt <= times else "ok"


def client(server: HostileServer, **options: Any) -> OpenAIChat:
    return OpenAIChat(MODEL, base_url=server.url, **FAST | options)


def texts(replies: Sequence[ChatReply]) -> list[str | None]:
    return [reply.text for reply in replies]


def expected(asked: Sequence[ChatRequest]) -> list[str]:
    return [answer_to(request.prompt) for request in asked]


# --- replies


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", True),
        ("gpt-4", "gpt-4o", False),
        ("/data/models/tiny/", "tiny", True),
        ("org/Tiny", "tiny@main", True),
        ("llama3", "llama3:latest", True),
        ("claude-latest", "claude-20250101", True),
        ("tiny", "", True),
        ("tiny", "large", False),
    ],
)
def test_a_model_may_answer_under_a_longer_name_of_its_own(asked: str, answered: str, same: bool) -> None:
    assert is_same_model(asked, answered) == same


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("soon", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_seconds({"retry-after": value}, datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == seconds


def test_pauses_double_within_a_spread_and_an_upper_bound() -> None:
    for attempt, most in ((2, 1.0), (3, 2.0), (4, 4.0), (9, 60.0), (5000, 60.0)):
        pauses = [pause_before(attempt, backoff=1.0, longest=60.0, asked=None) for _ in range(200)]
        assert most / 2 <= min(pauses) < max(pauses) <= most


def test_a_pause_that_the_server_asks_for_is_kept_up_to_the_upper_bound() -> None:
    assert 20.0 <= pause_before(2, backoff=1.0, longest=60.0, asked=20.0) <= 20.1
    assert 60.0 <= pause_before(2, backoff=1.0, longest=60.0, asked=3600.0) <= 60.1


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"choices": [7]}', b'{"choices": [{"message": "x"}]}'])
def test_any_body_is_an_answer_or_a_failed_attempt(body: bytes) -> None:
    with pytest.raises(AttemptError, match="the reply"):
        read_answer(body)


# --- the server backend


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_an_attempt_and_no_reply(fault: str) -> None:
    asked = requests(6)
    with hostile_server(first(fault)) as server:
        backend = client(server, timeout=2.5 if fault == "hang" else 20.0)
        replies = backend.complete(asked)
    assert texts(replies) == expected(asked)
    assert [reply.key for reply in replies] == [request.key for request in asked]
    assert {reply.attempts for reply in replies} == {2}
    assert backend.usage["requests"] == backend.usage["retries"] == 6
    assert backend.usage["failures"] == 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "status 429"),
        ("500", "status 500"),
        ("503", "status 503"),
        ("reset", "no connection to 127.0.0.1:"),
        ("hang", "no complete reply within 0.5 s"),
        ("flood", "the reply does not end"),
        ("truncated", "truncated or no JSON"),
        ("no choices", "no choices"),
        ("empty", "the reply is empty"),
    ],
)
def test_a_fault_that_stays_is_a_reply_with_its_reason(fault: str, reason: str) -> None:
    with hostile_server(always(fault)) as server:
        replies = client(server, max_retries=2, timeout=0.5 if fault == "hang" else 20.0).complete(requests(2))
        assert server.asked == {"request 0": 3, "request 1": 3}
    assert texts(replies) == [None, None]
    assert all(reply.failure is not None and reason in reply.failure for reply in replies)
    assert [reply.attempts for reply in replies] == [3, 3]


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_a_request_that_can_never_succeed_is_not_repeated(status: str) -> None:
    with hostile_server(lambda prompt, _: status if prompt == "request 1" else "ok") as server:
        replies = client(server).complete(requests(3))
        assert server.asked["request 1"] == 1
    assert [reply.text is None for reply in replies] == [False, True, False]
    assert f"status {status}" in str(replies[1].failure)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("401", ConfigurationError, "does not accept the key in OPENAI_API_KEY"),
        ("403", ConfigurationError, "does not accept the key in OPENAI_API_KEY"),
        ("402", ModelError, "no credit left"),
        ("404", ModelError, "knows no model 'tiny-chat'"),
        ("429 insufficient_quota", ModelError, "no credit left"),
    ],
)
def test_a_server_that_will_answer_nothing_is_an_error_at_once(
    fault: str, error: type[Exception], message: str
) -> None:
    with hostile_server(always(fault)) as server:
        with pytest.raises(error, match=message) as raised:
            client(server, concurrency=4).complete(requests(500))
        assert sum(server.asked.values()) <= 4
    assert KEY not in str(raised.value)


def test_a_page_of_a_proxy_is_told_as_one_and_not_as_a_wrong_key() -> None:
    page = "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>"
    with (
        hostile_server(always("ok"), respond=lambda *_: (403, page)) as server,
        pytest.raises(ConfigurationError, match=r"answers with a page \(403: <!DOCTYPE .*, as a proxy"),
    ):
        client(server).complete(requests(1))


def test_what_was_answered_before_a_key_expired_is_handed_over() -> None:
    came: list[ChatReply] = []
    with hostile_server(lambda prompt, _: "401" if prompt == "request 50" else "ok", seconds=0.01) as server:
        with pytest.raises(ConfigurationError, match="does not accept the key"):
            client(server, concurrency=8).complete(requests(400), on_reply=came.append)
        assert len(came) == sum(server.answered.values()) < 100


def test_a_server_that_is_down_stops_the_run_after_some_requests() -> None:
    came: list[ChatReply] = []
    with hostile_server(always("503")) as server:
        backend = client(server, max_retries=1, concurrency=8)
        with pytest.raises(ModelError, match="32 requests in a row failed 2 times each, the last one with: status 503"):
            backend.complete(requests(500), on_reply=came.append)
        assert 32 <= len(came) < 48
    assert {reply.text for reply in came} == {None}


def test_requests_refused_for_what_they_hold_do_not_stop_a_run() -> None:
    with hostile_server(always("400")) as server:
        assert len(client(server).complete(requests(150))) == 150


def test_the_servers_wish_for_a_pause_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(run: RequestRun, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(openai.RequestRun, "sleep", note)
    with hostile_server(first("429 long")) as server:
        replies = client(server, longest_wait_seconds=90.0).complete(requests(1))
    assert replies[0].attempts == 2
    assert 90.0 <= max(pauses) < 90.1


def test_two_thousand_requests_with_every_tenth_attempt_failing_all_come_back_in_order() -> None:
    asked = requests(2000)
    came: list[ChatReply] = []
    tasks: list[int] = []

    def on_reply(reply: ChatReply) -> None:
        came.append(reply)
        tasks.append(len(asyncio.all_tasks()))

    with hostile_server(random_faults(seed=7, share=0.1)) as server:
        backend = client(server, timeout=10.0)
        replies = backend.complete(asked, on_reply=on_reply)
        assert texts(replies) == expected(asked)
        assert set(server.answered) == {request.prompt for request in asked}
        assert 1 < server.most_in_flight <= 64
    assert Counter(reply.key for reply in came) == Counter(request.key for request in asked)
    assert [reply.key for reply in replies] == [request.key for request in asked]
    # A worker, its attempt and its pause: nothing grows with the number of requests.
    assert max(tasks) <= 3 * 64 + 2
    assert backend.usage["retries"] >= 150


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    with hostile_server(always("ok"), seconds=0.01) as server:
        client(server, concurrency=5).complete(requests(60))
        assert server.most_in_flight == 5


def test_attempts_are_spread_over_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pace = Pace(120)
    assert [pace.seconds_to_slot() for _ in range(3)] == [0.0, 0.5, 1.0]
    now[0] = 110.0
    assert [pace.seconds_to_slot() for _ in range(2)] == [0.0, 0.5]
    assert {Pace(None).seconds_to_slot() for _ in range(3)} == {0.0}


def test_tokens_and_their_cost_are_counted_over_all_answered_attempts() -> None:
    with hostile_server(first("no choices")) as server:
        backend = client(server, price_per_million_prompt_tokens=10, price_per_million_completion_tokens=100)
        replies = backend.complete(requests(5))
    assert (replies[0].prompt_tokens, replies[0].completion_tokens) == (14, 6)
    assert backend.usage == {
        "requests": 5,
        "retries": 5,
        "failures": 0,
        "prompt_tokens": 70,
        "completion_tokens": 30,
        "cost": 0.0037,
    }


def test_a_request_is_sent_with_its_turns_limit_and_a_seed_of_its_own() -> None:
    both = [ChatRequest("a", "one", system="be brief", max_new_tokens=9), ChatRequest("b", "two")]
    with hostile_server(always("ok")) as server:
        backend = client(server, temperature=0.7, top_p=0.9, seed=3)
        backend.complete(both)
        before = dict(server.bodies)
        backend.complete(both[::-1])
        assert server.bodies == before
        client(server, seed=4).complete(both)
        assert server.bodies["one"]["seed"] != before["one"]["seed"]
    sent = before["one"]
    assert sent["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"}]
    assert (sent["model"], sent["max_tokens"], sent["temperature"], sent["top_p"]) == (MODEL, 9, 0.7, 0.9)
    assert sent["seed"] != before["two"]["seed"]
    assert before["two"]["messages"] == [{"role": "user", "content": "two"}]


@pytest.mark.parametrize(("fault", "same"), [("empty", False), ("no choices", False), ("500", True), ("reset", True)])
def test_a_useless_answer_is_asked_again_with_another_seed_and_a_lost_one_with_the_same(fault: str, same: bool) -> None:
    seeds: list[int] = []

    def script(prompt: str, attempt: int) -> str:
        seeds.append(server.bodies[prompt]["seed"])
        return fault if attempt == 1 else "ok"

    with hostile_server(script) as server:
        client(server).complete(requests(1))
    assert len(seeds) == 2
    assert (seeds[0] == seeds[1]) == same


@pytest.mark.parametrize(
    ("fault", "text", "finished"),
    [
        ("cut off", "An answer t", False),
        ("refusal", "I cannot.", True),
        ("dated model", '"An answer to request 0."', True),
        ("bare", '"An answer to request 0."', True),
    ],
)
def test_unusual_answers_are_answers(fault: str, text: str, finished: bool) -> None:
    with hostile_server(always(fault)) as server:
        (reply,) = client(server).complete(requests(1))
    assert (reply.text, reply.finished, reply.attempts) == (text, finished, 1)


def test_the_key_is_sent_and_appears_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    faults = [*FAULTS, "400", "echo", "ok", "empty"]
    path = tmp_path / "replies.db"
    with hostile_server(lambda prompt, _: faults[int(prompt.split()[1])]) as server:
        backend = client(server, max_retries=1, timeout=2.5)
        with ReplyJournal(path) as journal:
            replies = journal.complete(backend, requests(len(faults)))
            stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
            failures = journal.failures()
        assert server.authorizations == {f"Bearer {KEY}"}
    assert len(failures) == len(faults) - 2
    printed = "".join(capfd.readouterr())
    seen = [replies, failures, backend.configuration(), vars(backend), repr(backend), printed, caplog.text]
    assert KEY not in str(seen)
    assert KEY.encode() not in stored
    assert "httpx" in caplog.text or "openai" in caplog.text
    assert "I was sent Bearer ***" in texts(replies)


def test_a_server_of_ones_own_needs_no_key_and_the_hosted_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with hostile_server(always("ok")) as server:
        assert client(server).complete(requests(1))[0].text is not None
        assert server.authorizations == {"Bearer none"}
    with pytest.raises(ConfigurationError, match=r"OPENAI_API_KEY is not set, and api\.openai\.com asks for a key"):
        OpenAIChat(MODEL)


def test_a_query_of_the_address_goes_with_every_request_and_into_no_file() -> None:
    paths: list[str] = []

    def answer(_method: str, path: str, _body: bytes) -> tuple[int, dict[str, Any]]:
        paths.append(path)
        message = {"role": "assistant", "content": "An answer."}
        return 200, {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}

    with hostile_server(always("ok"), respond=answer) as server:
        chat = OpenAIChat(MODEL, base_url=f"{server.url}?version=2026-01-01&empty=", **FAST)
        assert texts(chat.complete(requests(1))) == ["An answer."]
    whole = "/v1/chat/completions?version=2026-01-01&empty="
    assert paths == [whole] or (
        int(version("openai").partition(".")[0]) < 3 and paths == [whole.removesuffix("&empty=")]
    )
    assert "version" not in str(chat.configuration())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://me:secret-word@host/v1", "holds a user name or password"),
        ("localhost:8000/v1", "expected an address such as http://localhost:8000/v1"),
        ("http://host:port/v1", "expected an address such as"),
        ("ftp://host/v1", "expected an address such as"),
    ],
)
def test_a_wrong_address_is_refused_without_repeating_a_password(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        OpenAIChat(MODEL, base_url=url)
    assert "secret-word" not in str(raised.value)


def test_the_configuration_names_what_decides_the_answers() -> None:
    backend = OpenAIChat(MODEL, base_url="http://host:8000/v1/?token=hidden", temperature=0.5, concurrency=3)
    assert backend.configuration() == {
        "backend": "openai",
        "model": MODEL,
        "base_url": "http://host:8000/v1",
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 42,
    }


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ConfigurationError, match="there is no option 'retries': did you mean 'max_retries'"):
        OpenAIChat(MODEL, retries=3)
    with pytest.raises(ConfigurationError, match="option 'concurrency' is 0; expected greater than or equal to 1"):
        OpenAIChat(MODEL, concurrency=0)


def test_a_key_that_cannot_be_sent_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ünusual")
    with pytest.raises(ConfigurationError, match="holds characters that no key has") as raised:
        OpenAIChat(MODEL)
    assert "nusual" not in str(raised.value)


def test_without_the_client_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "dino-st\[openai\]"'):
        OpenAIChat(MODEL)


def test_it_works_where_an_event_loop_runs_already() -> None:
    asked = requests(5)

    async def cell(server: HostileServer) -> list[ChatReply]:
        return client(server).complete(asked)

    with hostile_server(always("ok")) as server:
        assert texts(asyncio.run(cell(server))) == expected(asked)


def test_an_error_of_the_listener_ends_the_run_as_it_is() -> None:
    def on_reply(reply: ChatReply) -> None:
        raise OutputError("no space left")

    with hostile_server(always("ok")) as server, pytest.raises(OutputError, match="no space left"):
        client(server, concurrency=3).complete(requests(30), on_reply=on_reply)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C, which is missing in background jobs of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_an_interruption_cancels_what_is_in_flight() -> None:
    def on_reply(reply: ChatReply) -> None:
        if reply.key == "key-20":
            signal.raise_signal(signal.SIGINT)

    with hostile_server(lambda prompt, _: "ok" if int(prompt.split()[1]) < 30 else "hang") as server:
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            client(server, concurrency=4).complete(requests(500), on_reply=on_reply)
        assert len(server.asked) < 60


# --- the journal


class Echo:
    """A backend that answers at once and remembers what it was asked."""

    name = "echo"
    is_chat = True

    def __init__(self, *, failing: Sequence[str] = (), **configuration: Any) -> None:
        self.asked: list[str] = []
        self.failing = failing
        self._configuration = configuration

    def configuration(self) -> dict[str, Any]:
        return self._configuration

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None = None
    ) -> list[ChatReply]:
        replies = []
        for request in requests:
            self.asked.append(request.key)
            fails = request.key in self.failing
            reply = ChatReply(request.key, None if fails else request.prompt, "no luck" if fails else None, 5, 2)
            replies.append(reply)
            if on_reply is not None:
                on_reply(reply)
        return replies

    @property
    def usage(self) -> Counter[str]:
        return Counter()


def test_a_stored_reply_is_not_asked_for_again(tmp_path: Path) -> None:
    asked = requests(6)
    path = tmp_path / "replies.db"
    with ReplyJournal(path) as journal:
        before = journal.complete(Echo(), asked[:4])
    backend = Echo()
    with ReplyJournal(path) as journal:
        replies = journal.complete(backend, asked[::-1])
    assert backend.asked == ["key-5", "key-4"]
    assert texts(replies) == [request.prompt for request in asked[::-1]]
    assert replies[:1:-1] == before


def test_failures_are_kept_with_their_reason_and_asked_again(tmp_path: Path) -> None:
    with ReplyJournal(tmp_path / "replies.db") as journal:
        journal.complete(Echo(failing=["key-1", "key-2"]), requests(3))
        assert journal.failures() == {"key-1": "no luck", "key-2": "no luck"}
        backend = Echo(failing=["key-2"])
        assert texts(journal.complete(backend, requests(3))) == ["request 0", "request 1", None]
        assert backend.asked == ["key-1", "key-2"]
        assert journal.failures() == {"key-2": "no luck"}


def test_a_changed_request_or_backend_is_asked_again_and_a_moved_server_is_not(tmp_path: Path) -> None:
    (request,) = requests(1)
    with ReplyJournal(tmp_path / "replies.db") as journal:

        def asks(request: ChatRequest, **configuration: Any) -> bool:
            backend = Echo(**configuration)
            journal.complete(backend, [request])
            return bool(backend.asked)

        assert asks(request, base_url="http://a", temperature=1.0)
        assert not asks(request, base_url="http://b", temperature=1.0)
        assert asks(request, base_url="http://b", temperature=0.5)
        assert asks(dataclasses.replace(request, prompt="another"), temperature=0.5)
        assert asks(dataclasses.replace(request, prompt="another", system="s"), temperature=0.5)


def test_a_key_that_comes_twice_is_asked_once_and_must_mean_one_request(tmp_path: Path) -> None:
    (request,) = requests(1)
    backend = Echo()
    with ReplyJournal(tmp_path / "replies.db") as journal:
        replies = journal.complete(backend, [request, request])
        assert texts(replies) == ["request 0", "request 0"]
        assert backend.asked == ["key-0"]
        with pytest.raises(InputError, match="two different requests have the key 'key-0'"):
            journal.complete(backend, [request, dataclasses.replace(request, prompt="other")])


def test_a_damaged_journal_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "replies.db"
    with ReplyJournal(path) as journal:
        journal.complete(Echo(), [ChatRequest(f"key-{i}", "x" * 500) for i in range(100)])
    content = bytearray(path.read_bytes())
    content[4096 : 3 * 4096] = b"\x5a" * (2 * 4096)
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"replies\.db: the journal of replies is damaged .*move it away"):
        ReplyJournal(path)
    path.write_bytes(b"this is no database, however long it may be" * 100)
    with pytest.raises(OutputError, match=r"replies\.db: the journal of replies is damaged"):
        ReplyJournal(path)


def test_something_else_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE replies (key TEXT)")
    other.close()
    with pytest.raises(OutputError, match=r"other\.db: not a journal of replies"):
        ReplyJournal(tmp_path / "other.db")
    with pytest.raises(OutputError, match=r"cannot be used .*check the path"):
        ReplyJournal(tmp_path / "missing" / "replies.db")


def test_after_a_kill_no_journalled_request_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "replies.db"
    program = textwrap.dedent(
        """
        import sys
        from dino_st.backends.chat import ChatRequest
        from dino_st.backends.openai import OpenAIChat
        from dino_st.backends.journal import ReplyJournal
        url, path = sys.argv[1:]
        asked = [ChatRequest(f"key-{i}", f"request {i}") for i in range(600)]
        with ReplyJournal(path) as journal:
            backend = OpenAIChat("tiny-chat", base_url=url, concurrency=8, backoff_seconds=0.001)
            journal.complete(backend, asked)
        """
    )
    at_random, running, killed = random_faults(seed=3, share=0.1), list[subprocess.Popen[bytes]](), list[int]()

    def faults(prompt: str, attempt: int) -> str:
        if not killed and sum(server.answered.values()) >= 200:
            running[0].kill()
            killed.append(running[0].wait())
        fault = at_random(prompt, attempt)
        return "ok" if fault == "hang" else fault

    with hostile_server(faults, seconds=0.01) as server:
        running.append(subprocess.Popen([sys.executable, "-c", program, server.url, str(path)], env=dict(os.environ)))
        assert running[0].wait(120) == -signal.SIGKILL
        deadline = time.monotonic() + 120
        while server.in_flight and time.monotonic() < deadline:
            time.sleep(0.005)
        database = sqlite3.connect(path)
        stored = {prompt for (prompt,) in database.execute("SELECT key FROM replies WHERE text IS NOT NULL")}
        database.close()
        assert 150 < len(stored) < 600
        before = Counter(server.asked)
        with ReplyJournal(path) as journal:
            replies = journal.complete(client(server, concurrency=8), requests(600))
        assert texts(replies) == expected(requests(600))
        for key in stored:
            prompt = f"request {key.removeprefix('key-')}"
            assert server.asked[prompt] == before[prompt]
        # What had been answered and was not yet stored is no more than what was in flight.
        assert sum(count - 1 for count in server.answered.values()) <= 8


# --- the local backend


@pytest.fixture(scope="module")
def chat_model(tokenizer: Any, make_model: Callable[..., Any]) -> tuple[Any, Any]:
    import copy

    templated = copy.deepcopy(tokenizer)
    templated.chat_template = TEMPLATE
    return make_model("llama", dtype=torch.float64), templated


def local(model: tuple[Any, Any], **options: Any) -> LocalChat:
    decoding = DecodingOptions(top_k=60, top_p=0.98, max_tries=3)
    return LocalChat(model, **{"decoding": decoding, "batch_size": 4} | options)


def prompts(count: int) -> list[ChatRequest]:
    words = ["a", "man", "plays", "the", "flute", "while", "two", "dogs", "run", "over", "grass"]
    return [
        ChatRequest(f"key-{i}", " ".join(words[: 2 + i % 9]), max_new_tokens=16 if i % 3 else 24) for i in range(count)
    ]


def test_a_local_answer_does_not_depend_on_the_batch_size_or_the_other_requests(chat_model: tuple[Any, Any]) -> None:
    asked = prompts(14)
    replies = local(chat_model, batch_size=14).complete(asked)
    assert sum(reply.text is not None for reply in replies) >= 3
    for size in (1, 5, "auto"):
        assert local(chat_model, batch_size=size).complete(asked) == replies
    assert local(chat_model).complete(asked[::-2]) == replies[::-2]
    assert local(chat_model, seed=7).complete(asked) != replies


def test_a_local_prompt_is_a_chat_whose_answer_has_begun(chat_model: tuple[Any, Any]) -> None:
    backend = local(chat_model)
    ids = backend.encode(ChatRequest("k", "Say it.", system="Be brief.", opening='Sure: "'))
    assert backend.is_chat
    assert chat_model[1].decode(ids) == '[system]Be brief.[end][user]Say it.[end][assistant]Sure: "'
    without = backend.encode(ChatRequest("k", "Say it.", opening=""))
    assert chat_model[1].decode(without) == "[user]Say it.[assistant]"


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE,
        TEMPLATE.replace(
            "[{{ m.role }}]{{ m.content }}", "{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endif %}"
        ),
    ],
    ids=["refused", "left out"],
)
def test_a_system_turn_that_a_template_does_not_take_stands_before_the_prompt(
    chat_model: tuple[Any, Any], template: str
) -> None:
    import copy

    model, tokenizer = chat_model[0], copy.deepcopy(chat_model[1])
    tokenizer.chat_template = template
    ids = local((model, tokenizer)).encode(ChatRequest("k", "Say it.", system="Be brief."))
    assert "[user]Be brief.\n\nSay it.[end][assistant]" in tokenizer.decode(ids)


def test_without_a_template_the_prompt_is_raw_text(tokenizer: Any, make_model: Callable[..., Any]) -> None:
    backend = local((make_model("llama"), tokenizer))
    assert not backend.is_chat
    assert tokenizer.decode(backend.encode(ChatRequest("k", 'They asked: "', opening="ignored"))) == 'They asked: "'


def test_special_tokens_in_a_prompt_end_nothing(chat_model: tuple[Any, Any]) -> None:
    ids = local(chat_model).encode(ChatRequest("k", "Say <|endoftext|> now."))
    assert 0 not in ids
    assert "< |endoftext|>" in chat_model[1].decode(ids)


def test_a_local_request_that_finally_fails_says_why(chat_model: tuple[Any, Any]) -> None:
    backend = local(chat_model, decoding=DecodingOptions(top_k=60, max_tries=2, max_total_tokens=64))
    came: list[ChatReply] = []
    short, long = (
        ChatRequest("short", "A man", max_new_tokens=1),
        ChatRequest("long", "green grass " * 60, max_new_tokens=1),
    )
    replies = backend.complete([short, long], on_reply=came.append)
    assert replies == came
    assert replies[0].failure == "every try was rejected: no closing quote (2)"
    assert replies[0].attempts == 2
    assert replies[1].failure == "every try was rejected: prompt too long (1)"
    assert (backend.usage["requests"], backend.usage["failures"], backend.usage["retries"]) == (2, 2, 1)


def test_local_replies_go_through_the_journal(chat_model: tuple[Any, Any], tmp_path: Path) -> None:
    asked = prompts(8)
    with ReplyJournal(tmp_path / "replies.db") as journal:
        replies = journal.complete(local(chat_model), asked)
        again = local(chat_model)
        assert journal.complete(again, asked) == replies
    assert again.usage["requests"] == sum(reply.text is None for reply in replies)


def test_a_wrong_batch_size_is_refused(chat_model: tuple[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match="option 'batch_size' is 0; expected 'auto', or a number of streams"):
        local(chat_model, batch_size=0)
