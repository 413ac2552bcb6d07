"""A server that speaks OpenAI's protocol (vLLM, transformers serve, Ollama, hosted ones) as a `ChatBackend`.

Two parts: where the server is and the key to it, and the client that asks; what an answer means is in
`dino_st.backends.servers`. The openai package makes the requests; when to ask again is decided here, since its own
retries know nothing of a limit of requests a minute, of a total time for an attempt, of answers that are of no use, or
of a server that answers nobody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from dino_st.backends.chat import LATE, USAGE_FIELDS, ChatReply, ChatRequest, usage_of
from dino_st.backends.options import ServerOptions
from dino_st.backends.servers.batches import BatchRun, Form
from dino_st.backends.servers.replies import (
    KEY_VARIABLE,
    Answer,
    AttemptError,
    Attempts,
    error_message,
    is_same_model,
    read_answer,
    retry_after_seconds,
    scrubbed,
    shortened,
)
from dino_st.backends.servers.scoring import PROBE, WAYS, TextScore, ask_score, needed_for_scores
from dino_st.errors import ConfigurationError, DinoError, MissingExtraError, ModelError
from dino_st.support.hashes import keyed_bits

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

URL_VARIABLE = "OPENAI_BASE_URL"
_HOSTED = "https://api.openai.com/v1"
_NO_KEY = "none"
_RETRIED_STATUS = (408, 409, 425, 429)
_LARGEST_REPLY = 4 * 2**20
_SECONDS_FOR_A_FILE = 600.0
_AS_IT_COMES = {"X-Stainless-Raw-Response": "stream"}
"""Has the client hand out a reply while it comes, on whatever path, as its `with_streaming_response` does."""
_NO_CONNECTION = "no connection to"
_GIVE_UP_AFTER = 32
"""Requests that may finally fail one after the other for the server's sake, before the run stops."""
_TRIES_OF_NOBODY = 3
"""Attempts, some seconds in all, to reach a server that nothing was ever heard of, before the run stops."""
_LIMITS = ("max_tokens", "max_completion_tokens")
_NO_SYSTEM_ROLE = re.compile(
    r"system[ _-]?(?:role|message|prompt|turn|instruction)s?\b.{0,40}\b(?:not|unsupported|n't|invalid|cannot)"
    r"|(?:not|unsupported|n't|invalid|unknown|unexpected).{0,40}\b(?:role|message)s?\W{0,6}(?:role\W{1,3})?system"
    r"|(?:only|must alternate|should be).{0,20}\buser\b.{0,9}\bassistant\b|not support\W{1,3}system\b",
    re.IGNORECASE | re.DOTALL,
)
_REFUSING = (
    "unsupported|support|unknown|unrecogni|unexpected|extra|invalid|permitted|allowed|cannot|both|parameter|argument"
)
_CONNECTION_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def server_url(base_url: str | None) -> str:
    """The address of the server: what is given, or else `OPENAI_BASE_URL`, or else OpenAI's own; checked."""
    url = base_url or os.environ.get(URL_VARIABLE) or _HOSTED
    expected = "expected an address such as http://localhost:8000/v1"
    if "@" in url:  # and is not repeated, since a password may stand in it
        raise ConfigurationError(f"base URL: it holds a user name or password; {expected}, and {KEY_VARIABLE} set")
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0
    except ValueError as error:
        raise ConfigurationError(f"base URL: {scrubbed(str(error))}; {expected}") from None
    if parts.scheme not in ("http", "https") or not named:
        raise ConfigurationError(f"base URL {scrubbed(url)!r}: {expected}")
    return url


def server_key(url: str) -> str:
    """The key from the environment, or a placeholder where a server of one's own may need none."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and url == _HOSTED:
        raise ConfigurationError(
            f"{KEY_VARIABLE} is not set, and {urlsplit(url).netloc} asks for a key; set it in the environment, or give "
            "the base URL of a server of your own"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(f"{KEY_VARIABLE} holds characters that no key has; set it to the key alone")
    return key or _NO_KEY


# --- asking


def pause_before(attempt: int, *, backoff: float, longest: float, asked: float | None) -> float:
    """Seconds to wait before an attempt: doubled each time, and spread at random so that requests do not come at once.

    Not seeded: time does not decide the data. Attempts are numbered from 1; the second waits for `backoff`, none more
    than `longest` but for the spread, and what the server asked for is kept up to it.
    """
    doubled = min(longest, backoff * 2.0 ** min(attempt - 2, 60))
    spread = random.uniform(0.5, 1.0) * doubled
    return spread if asked is None else min(asked, longest) + 0.1 * spread


class Pace:
    """Spreads attempts evenly over time, so that no more than so many are made in a minute."""

    def __init__(self, attempts_per_minute: float | None) -> None:
        self._distance = 0.0 if attempts_per_minute is None else 60.0 / attempts_per_minute
        self._next = 0.0

    def seconds_to_slot(self) -> float:
        """Takes the next free place and says how far off it is, in seconds."""
        now = time.monotonic()
        slot = max(now, self._next)
        self._next = slot + self._distance
        return slot - now

    async def slot(self) -> float:
        """The same for whoever is about to ask; an error ends the run."""
        return self.seconds_to_slot()

    def pause(self, seconds: float) -> None:
        """Lets no attempt begin for some time, as the server wishes."""
        self._next = max(self._next, time.monotonic() + seconds)

    def stop(self, error: DinoError) -> None:
        """Takes in what ended a run; nothing where nobody else keeps this pace."""


class RequestRun:
    """One call of `complete`: what is asked, what has come, and, once nothing new may be started, why not."""

    def __init__(self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None) -> None:
        self.requests, self.on_reply = requests, on_reply
        self.replies: list[ChatReply | None] = [None] * len(requests)
        self.stopped = asyncio.Event()
        self.fatal: DinoError | None = None

    def stop(self, error: DinoError) -> None:
        """Lets nothing new start; what is in flight may still be answered, since it will be paid for."""
        self.fatal = self.fatal or error
        self.stopped.set()

    async def sleep(self, seconds: float) -> None:
        """Sleeps, no longer than until the run stops."""
        if seconds > 0:
            try:
                await asyncio.wait_for(self.stopped.wait(), seconds)
            except TimeoutError:
                return


class OpenAIChat:
    """A model behind a chat server; a `ChatBackend`.

    The key is read from the environment for each call and kept nowhere. An attempt that may succeed later (a busy or
    broken server, a lost connection, a reply that is late, cut short, empty or another model's) is repeated after a
    pause; what finally fails is a reply with its reason. A server that will answer nothing (the key, the model or an
    option is none for it, or request after request fails for its sake) is an error instead; replies until then have
    been handed to `on_reply`. A server may answer under another name than the model was asked by; that is said once,
    and `answered_as` holds these names in the order in which they came.

    Everything that can be checked without asking the server is checked at once: a ConfigurationError says that an
    option is out of range, the address is none, or the key is missing, a MissingExtraError that the client is not
    installed.
    """

    def __init__(self, model: str, *, base_url: str | None = None, **options: Any) -> None:
        if find_spec("openai") is None:
            raise MissingExtraError('a chat server needs the openai client; run: pip install "dino-st[openai]"')
        self.name = model
        self.options = ServerOptions.of(**options)
        self.is_chat = self.options.endpoint == "chat"
        self.in_batches = self.options.batch_api
        self.way: str | None = None
        self._url = server_url(base_url)
        self._host = urlsplit(self._url).netloc
        self.counted: Counter[str] = Counter(dict.fromkeys(USAGE_FIELDS, 0))
        self.pace = Pace(self.options.requests_per_minute)
        self._troubles = 0
        self._was_reached = False
        self._has_said = self._has_answered = self.is_cost_unknown = False
        self.answered_as: list[str] = []
        self._refused: set[str] = set()
        limit = self.options.token_limit
        # OpenAI's newer models refuse the older name; other servers may know that one alone.
        self._form = Form(_LIMITS["openai" in self._host] if limit == "auto" else limit)
        server_key(self._url)

    def configuration(self) -> dict[str, Any]:
        """What decides the answers; see `ChatBackend`."""
        decisive = self.options.model_dump(include={"temperature", "top_p", "seed"})
        endpoint = {} if self.is_chat else {"endpoint": self.options.endpoint}
        return {"backend": "openai", "model": self.name, "base_url": self._public_url, **decisive, **endpoint}

    @property
    def _public_url(self) -> str:
        """The address for files and messages."""
        return scrubbed(urlsplit(self._url)._replace(query="", fragment="").geturl().rstrip("/"))

    @property
    def usage(self) -> Counter[str]:
        """Counts since the backend was made; see `ChatBackend`."""
        usage, options = Counter(self.counted), self.options
        prices = options.price_per_million_prompt_tokens, options.price_per_million_completion_tokens
        if prices != (None, None) and not self.is_cost_unknown:
            read, written = usage["prompt_tokens"] * (prices[0] or 0), usage["completion_tokens"] * (prices[1] or 0)
            usage["cost"] = round((read + written) / 1e6, 6)  # type: ignore[assignment]  # typed for whole numbers
        return usage

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Answers requests, `concurrency` at a time; see `ChatBackend`.

        Raises ConfigurationError where the server does not accept the key or an option, or cannot be reached in the way
        that the environment's variables say, and ModelError where it does not know the model, or does not answer at
        all.
        """
        if self.in_batches:
            raise ConfigurationError(
                "option 'batch_api': the ids of batches are kept in an output directory, and there is none; give "
                "output_dir, or leave batch_api out"
            )
        if self.way is None and any(request.answer is not None for request in requests):
            self.find_scoring()
        run = RequestRun(requests, on_reply)
        _run_to_end(self._answer_all(run))
        if run.fatal is not None:
            raise run.fatal
        return [reply for reply in run.replies if reply is not None]

    def complete_in_batches(
        self, requests: Mapping[str, ChatRequest], directory: Path, on_reply: Callable[[ChatReply], None]
    ) -> None:
        """Answers requests by the provider's batch interface; see `BatchingBackend`.

        Raises what `complete` raises, ConfigurationError where the server has no such interface, ModelError where it
        refuses a batch or does not answer, and PendingError where batches are not waited for.
        """
        if any(request.answer is not None for request in requests.values()):
            raise ConfigurationError(
                "option 'batch_api': no batch interface says how likely a given text is, which --debias rerank needs; "
                "leave one of the two out"
            )

        def keep(reply: ChatReply) -> None:
            self.counted.update(usage_of(reply))
            on_reply(reply)

        async def answer() -> None:
            async with _open_client(self._url, self.options.timeout) as client:
                await BatchRun(_Batching(self, client), directory, requests, keep).to_end()

        _run_to_end(answer())

    def find_scoring(self) -> str:
        """The way in which the server says how likely a text is; see `dino_st.backends.servers.scoring`.

        Raises ConfigurationError where it has none, and what `complete` raises where it does not answer at all.
        """
        reasons: dict[str, str] = {}
        for way in WAYS:
            if self.way is None and (fault := self._tried(way)) is not None:
                reasons[way] = fault
        if self.way is None:
            raise ConfigurationError(needed_for_scores(self._host, reasons))
        return self.way

    def _tried(self, way: str) -> str | None:
        """Has the server score in a way, which is kept if it can; otherwise why it cannot."""
        prompts, text = PROBE
        self.way, found, failures = way, None, self.counted["failures"]
        try:
            replies = self.complete([ChatRequest("probe", each, max_new_tokens=1, answer=text) for each in prompts])
            scores = [TextScore.of(reply.text) for reply in replies if reply.text is not None]
            faults = (*(reply.failure for reply in replies), *(score.fault for score in scores))
            fault = next(filter(None, faults), None)
            if fault is None and len({score.log_prob for score in scores}) == 1:
                fault = "a text is exactly as likely behind one prompt as behind another"
            found = way if fault is None else None
        except ModelError as error:  # there is no such path, or no such model
            if not self._was_reached:
                raise
            fault = str(error)
        finally:
            self.way, self.counted["failures"] = found, failures  # a probe that fails is none of the run's
        if fault is not None and fault.startswith(_NO_CONNECTION) and not self._was_reached:
            raise ModelError(f"{fault}; look whether {self._host} works, and run again")
        return fault

    async def _answer_all(self, run: RequestRun) -> None:
        """Runs the workers: no more tasks than requests in flight, however many requests there are."""
        client = _open_client(self._url, self.options.timeout)
        places = iter(range(len(run.requests)))
        try:
            async with client, asyncio.TaskGroup() as workers:
                for _ in range(min(self.options.concurrency, len(run.requests))):
                    workers.create_task(self._work(client, places, run))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _work(self, client: AsyncOpenAI, places: Iterator[int], run: RequestRun) -> None:
        for place in places:
            reply = await self._answer(client, run.requests[place], run)
            if reply is None:
                return
            self.counted.update(usage_of(reply))
            run.replies[place] = reply
            if run.on_reply is not None:
                run.on_reply(reply)

    def _stop(self, run: RequestRun, error: DinoError) -> None:
        run.stop(error)
        self.pace.stop(error)

    async def _answer(self, client: AsyncOpenAI, request: ChatRequest, run: RequestRun) -> ChatReply | None:
        """Asks until there is a reply; None if the run stops before."""
        options, attempts, failed = self.options, Attempts.of(request), AttemptError("not asked")
        for attempt in range(1, options.max_retries + 2):
            if attempt > 1:
                await run.sleep(self._pause_before(attempt, failed.wait))
            try:
                await run.sleep(await self.pace.slot())
                if run.stopped.is_set():
                    return None
                answer = await self._ask(client, attempts)
            except AttemptError as error:
                failed = error
                if error.wait is not None:
                    self.pace.pause(min(error.wait, options.longest_wait_seconds))
                if not attempts.goes_on(error):
                    break
                if self._meets_nobody(error) and attempt >= self._most_attempts(error):
                    advice = "Look whether the server runs, and whether base_url is right; then run again"
                    self._stop(run, ModelError(f"{error.reason}, tried {attempt} times. {advice}"))
                    return None
                self._say_once(error)
            except DinoError as error:
                self._stop(run, error)
                return None
            else:
                return self._taken(attempts, answer)
        is_divided = failed.kind == "late" and request.is_divisible
        self._troubles = self._troubles + 1 if (failed.server_trouble or failed.again) and not is_divided else 0
        if self._troubles >= max(_GIVE_UP_AFTER, options.concurrency):
            tries = f"{self._troubles} requests in a row failed {attempt} times each"
            advice = f"Look whether {self._host} works, and run again"
            self._stop(run, ModelError(f"{tries}, the last one with: {failed.reason}. {advice}"))
        cost = attempts.counts
        return ChatReply(request.key, None, failed.reason, cost.read, cost.written, attempt)

    def _taken(self, attempts: Attempts, answer: Answer) -> ChatReply:
        """The reply to a request that was answered; tells of what is odd about the answer."""
        self._troubles, self._has_answered = 0, True
        self._note_name(answer.model)
        self._note_cost(answer)
        cost, text = attempts.counts, scrubbed(answer.text, shortest=8)
        read, written = cost.read + answer.prompt_tokens, cost.written + answer.completion_tokens
        return ChatReply(attempts.request.key, text, None, read, written, cost.number, answer.finished)

    def _pause_before(self, attempt: int, asked: float | None) -> float:
        options = self.options
        longest = options.longest_wait_seconds
        return pause_before(attempt, backoff=options.backoff_seconds, longest=longest, asked=asked)

    def _say_once(self, error: AttemptError) -> None:
        """Tells that the server is in trouble, so that nobody waits for one that is not there."""
        if error.server_trouble and not self._has_said:
            self._has_said = True
            logger.warning("%s; trying again, up to %d times", error.reason, self._most_attempts(error) - 1)

    def _meets_nobody(self, error: AttemptError) -> bool:
        """Whether nobody answers at an address where nobody ever did."""
        return error.kind == "nobody" and not self._was_reached

    def _most_attempts(self, error: AttemptError) -> int:
        """How often a request that ends so is made at most."""
        most = self.options.max_retries + 1
        return min(_TRIES_OF_NOBODY, most) if self._meets_nobody(error) else most

    def _note_name(self, name: str) -> None:
        """Tells once for each other name that the model answers under."""
        if not is_same_model(self.name, name) and name not in self.answered_as:
            self.answered_as.append(name)
            logger.warning("%s answers as %r where %r is asked; its answers are taken", self._host, name, self.name)

    def _note_no_system_role(self) -> None:
        """Puts the system's text before the user's from now on, and tells so once."""
        if self._form.has_system_role:
            self._form = self._form._replace(has_system_role=False)
            logger.warning("%s takes no system role; its text is put before the user's in one message", self._host)

    def _note_cost(self, answer: Answer) -> None:
        """Tells once that the cost is unknown: prices are given, and the server does not say what it read."""
        options = self.options
        prices = (options.price_per_million_prompt_tokens, options.price_per_million_completion_tokens)
        if prices != (None, None) and not answer.prompt_tokens and not self.is_cost_unknown:
            self.is_cost_unknown = True
            logger.warning("%s does not say how many tokens it read and wrote; the cost is unknown", self._host)

    async def _ask(self, client: AsyncOpenAI, attempts: Attempts) -> Answer:
        """Makes one attempt; again at once without what the server cannot have: a name of the limit, a system turn.

        Raises AttemptError where it failed, and another DinoError where every other one will fail as well.
        """
        import openai

        request = attempts.request

        async def send(path: str, body: Mapping[str, Any]) -> bytes:
            return await self._received(client, "POST", path, body)

        while True:
            form = self._form
            body = self._body(attempts, form) if request.answer is None else {}
            try:
                if request.answer is not None:
                    return await ask_score(self.way or WAYS[0], send, self.name, request.prompt, request.answer)
                return read_answer(await send(self._path, body), body.get(form.limit))
            except openai.APIStatusError as error:
                wait = retry_after_seconds(error.response.headers)
                refusal = self._refusal(error.status_code, error.body, body, wait)
                if refusal is not None:
                    raise refusal from None
            except AttemptError as error:
                raise (error if error.status is None else self._judged(error.status, error.reason)) from None

    @property
    def _path(self) -> str:
        return "/chat/completions" if self.is_chat else "/completions"

    def _refusal(
        self, status: int, content: object, body: Mapping[str, Any], wait: float | None = None
    ) -> AttemptError | DinoError | None:
        """What an error means for a request, or for all of them; None where it is to be sent in another form.

        `content` is what the server says of it, `body` what was sent to be answered; empty for anything else.
        """
        said = error_message(content)
        refused = _refused_option(status, content, body)
        is_with_system = body.get("messages", [{}])[0].get("role") == "system"
        if is_with_system and _NO_SYSTEM_ROLE.search(said):
            self._note_no_system_role()
            return None
        if refused in _LIMITS and self.options.token_limit == "auto":
            self._refused.add(refused)
            limit = next((name for name in _LIMITS if name not in self._refused), self._form.limit)
            self._form = self._form._replace(limit=limit)
            if limit not in self._refused:
                return None
        if refused is not None and not self._has_answered:
            option = "token_limit" if refused in _LIMITS else refused
            return ConfigurationError(
                f"{self._host} does not take {refused!r} as it is sent ({status}: {scrubbed(said)})"
                f"; change the option {option}, or leave it out: --{option.replace('_', '-')} none"
            )
        return self._judged(status, said, wait, content.get("code") if isinstance(content, dict) else None)

    async def _received(
        self,
        client: AsyncOpenAI,
        method: str,
        path: str,
        body: Any = None,
        *,
        seconds: float | None = None,
        largest: int = _LARGEST_REPLY,
        upload: bytes | None = None,
    ) -> bytes:
        """What the server sends back, or an AttemptError; a certificate that is not trusted is a ConfigurationError."""
        import openai

        seconds = seconds or self.options.timeout
        try:
            async with asyncio.timeout(seconds):
                address = path.replace("//", f"{_root(self._url)}/")
                received = await _requested(client, method, address, body, seconds, largest, upload)
            self._was_reached = True
            return received
        except openai.APIStatusError:
            self._was_reached = True
            raise
        except (TimeoutError, openai.APITimeoutError):
            reason = f"{LATE} {seconds:g} s (--timeout)"
            raise AttemptError(reason, server_trouble=True, kind="late") from None
        except Exception as error:
            if not isinstance(error, openai.OpenAIError) and not _is_of_transport(error):
                raise
            cause = error.__cause__ or error
            said = shortened(str(cause)) or type(cause).__name__
            if "CERTIFICATE_VERIFY_FAILED" in said:
                raise ConfigurationError(
                    f"the certificate of {self._host} is not trusted ({said}); set SSL_CERT_FILE to a file with the "
                    "certificate of who signed it"
                ) from None
            is_nobody = type(cause).__name__ == "ConnectError"  # of httpx or httpx2, whichever the client has
            reason = f"{_NO_CONNECTION} {self._host}{'' if is_nobody else ', or it broke'} ({said})"
            raise AttemptError(reason, server_trouble=True, kind="nobody" if is_nobody else None) from None

    def _body(self, attempts: Attempts, form: Form) -> dict[str, Any]:
        """What is sent; after useless answers with another seed, since the same one would bring the same."""
        request, counts = attempts.request, attempts.counts
        turns = [{"role": "system", "content": request.system}] if request.system else []
        turns.append({"role": "user", "content": request.prompt})
        if not form.has_system_role:
            turns = [{"role": "user", "content": "\n\n".join(turn["content"] for turn in turns)}]
        options = self.options
        asked: dict[str, Any] = {"messages": turns}
        if not self.is_chat:
            asked = {"prompt": "\n\n".join(filter(None, (request.system, request.prompt))), "stop": [*request.closing]}
        body: dict[str, Any] = {
            "model": self.name,
            **asked,
            form.limit: None if form.limit == "none" else counts.limit,
            "temperature": options.temperature,
            "top_p": options.top_p,
        }
        if options.seed is not None:
            body["seed"] = int.from_bytes(keyed_bits(options.seed, request.key, counts.useless)[:4], "big") >> 1
        return {name: value for name, value in body.items() if value is not None}

    def _judged(
        self, status: int, said: str, wait: float | None = None, code: object = None
    ) -> AttemptError | DinoError:
        """What an error status means for the request, or for all of them."""
        said = scrubbed(said)
        if status in (401, 403) and said.startswith("<"):
            return ConfigurationError(
                f"{self._host} answers with a page ({status}: {said}), as a proxy or a firewall before a server does; "
                "see what it says in a browser, and whether the address is right"
            )
        if status in (401, 403):
            return ConfigurationError(
                f"{self._host} does not accept the key in {KEY_VARIABLE} ({status}: {said}); set it to a valid one"
            )
        if status == 404:
            return ModelError(
                f"{self._host} knows no model {self.name!r}, or the address is wrong (404: {said}); expected a name "
                "that the server lists under /models, and a base URL such as http://localhost:8000/v1"
            )
        if status == 402 or (status == 429 and code == "insufficient_quota"):
            return ModelError(f"the account at {self._host} has no credit left ({said}); add some and run again")
        again = status in _RETRIED_STATUS or status >= 500
        return AttemptError(f"status {status}: {said}", again=again, server_trouble=again, wait=wait)


class _Batching:
    """A chat server as batches know it; a `BatchServer`."""

    def __init__(self, chat: OpenAIChat, client: AsyncOpenAI) -> None:
        self._chat, self._client = chat, client
        options = chat.options
        self.host, self.base_url, self.endpoint = chat._host, chat._public_url, f"/v1{chat._path}"
        self.waits, self.poll_seconds = options.batch_wait, options.batch_poll_seconds
        self.most_requests = options.batch_requests
        self.max_retries = options.max_retries

    @property
    def form(self) -> Form:
        """See `BatchServer`, as all that follows."""
        return self._chat._form

    def learn(self, form: Form) -> None:
        if not form.has_system_role:
            self._chat._note_no_system_role()
        if self._chat.options.token_limit == "auto":
            self._chat._form = self._chat._form._replace(limit=form.limit)

    def body(self, attempts: Attempts, form: Form) -> dict[str, Any]:
        return self._chat._body(attempts, form)

    def read(self, attempts: Attempts, form: Form, status: int, content: object) -> Answer | None:
        body = self._chat._body(attempts, form)
        if status == 200:
            try:
                return read_answer(json.dumps(content).encode(), body.get(form.limit))
            except AttemptError as error:
                if error.status is None:
                    raise
                raise self._chat._judged(error.status, error.reason) from None
        said = content.get("error", content) if isinstance(content, dict) else content
        if (refusal := self._chat._refusal(status, said, body)) is not None:
            raise refusal
        return None

    def taken(self, attempts: Attempts, answer: Answer) -> ChatReply:
        return self._chat._taken(attempts, answer)

    async def call(
        self, method: str, path: str, body: Any = None, *, upload: bytes | None = None, largest: int | None = None
    ) -> bytes:
        import openai

        is_file = upload is not None or largest is not None
        seconds = max(self._chat.options.timeout, _SECONDS_FOR_A_FILE if is_file else 0.0)
        body = {"purpose": "batch"} if upload is not None else body
        try:
            return await self._chat._received(
                self._client, method, path, body, seconds=seconds, largest=largest or _LARGEST_REPLY, upload=upload
            )
        except openai.APIStatusError as error:
            said, wait = error_message(error.body), retry_after_seconds(error.response.headers)
            judged = self._chat._judged(error.status_code, said, wait, error.code)
            if error.status_code in (404, 405, 501):  # of a path here, not of a model
                reason = f"status {error.status_code}: {scrubbed(said)}"
                judged = AttemptError(reason, again=False, status=error.status_code)
            raise judged from None

    async def pause(self, attempt: int, asked: float | None) -> None:
        await asyncio.sleep(self._chat._pause_before(attempt, asked))


def _open_client(url: str, timeout: float) -> AsyncOpenAI:
    """The client, which goes by the environment's proxies and certificates, or a ConfigurationError that names them."""
    from openai import AsyncOpenAI

    parts = urlsplit(url)
    address = parts._replace(query="", fragment="").geturl()
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        return AsyncOpenAI(
            api_key=server_key(url), base_url=address, default_query=query, max_retries=0, timeout=timeout
        )
    except Exception as error:
        of_files, is_socks = isinstance(error, OSError), isinstance(error, ImportError)
        names = [
            name
            for name in os.environ
            if name.upper() in _CONNECTION_VARIABLES
            and name.upper().startswith("SSL") == of_files
            and (not is_socks or os.environ[name].startswith("socks"))
        ]
        if not names:
            raise
        # What is wrong with an address is not repeated, since a password may stand in it.
        what = (
            "a file of certificates that can be read" if of_files else "the address of a proxy, such as http://host:80"
        )
        what += ", or install socksio for SOCKS" if is_socks else ""
        raise ConfigurationError(f"the client cannot use {' and '.join(names)}; set to {what}, or unset it") from None


def _refused_option(status: int, content: object, body: Mapping[str, Any]) -> str | None:
    """The option of a request that a server will not have, by the parameter that it names or by its words."""
    said = json.dumps(content, default=str).lower()
    if status not in (400, 422) or re.search(r"context|too l(?:arge|ong)|exceed", said):
        return None
    names = [name for name in (*_LIMITS, "temperature", "top_p", "seed") if name in body]
    if isinstance(content, dict) and content.get("param") in names:
        return str(content["param"])
    if not re.search(_REFUSING, said):
        return None
    return next((name for name in names if re.search(rf"\b{name}\b", said)), None)


def _root(url: str) -> str:
    """The address of a server without the path of OpenAI's protocol."""
    return url.rstrip("/").removesuffix("/v1")


async def _requested(
    client: AsyncOpenAI, method: str, path: str, body: Any, seconds: float, largest: int, upload: bytes | None
) -> bytes:
    """Sends a request, perhaps with a file, and reads the reply, up to a size that no honest one has."""
    received = bytearray()
    options: Any = {"headers": dict(_AS_IT_COMES), "timeout": seconds}
    response: Any
    if upload is not None:
        options["headers"]["Content-Type"] = "multipart/form-data"
        file = ("requests.jsonl", upload, "application/jsonl")
        response = await client.post(path, cast_to=object, body=body, files={"file": file}, options=options)
    elif method == "POST":
        response = await client.post(path, cast_to=object, body=body, options=options)
    else:
        response = await client.get(path, cast_to=object, options=options)
    try:
        async for chunk in response.iter_bytes():
            received += chunk
            if len(received) > largest:
                raise AttemptError(f"the reply does not end ({len(received)} bytes so far)", server_trouble=True)
    finally:
        await response.close()
    return bytes(received)


def _is_of_transport(error: Exception) -> bool:
    """Whether an error comes from below the client, which lets some through while a reply is read."""
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or module in ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "anyio")


def _run_to_end(work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end, also where an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_quiet_at_exit(work))
        return
    tasks: list[asyncio.Task[Any]] = []

    async def followed() -> None:
        tasks.extend(task for task in [asyncio.current_task()] if task is not None)
        await work

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, followed())
        try:
            future.result()
        except BaseException:
            for task in tasks:
                if not future.done():
                    task.get_loop().call_soon_threadsafe(task.cancel)
            raise


async def _quiet_at_exit(work: Coroutine[Any, Any, None]) -> None:
    """Keeps asyncio from printing a traceback where a signal handler's `sys.exit` strikes in the middle of a task."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), SystemExit | KeyboardInterrupt):
            loop.default_exception_handler(context)

    asyncio.get_running_loop().set_exception_handler(handle)
    await work
