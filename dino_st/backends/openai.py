"""Answers of a chat server that speaks OpenAI's protocol: vLLM, transformers serve, Ollama, hosted ones."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dino_st.backends.chat import (
    USAGE_FIELDS,
    Answer,
    AttemptError,
    ChatReply,
    ChatRequest,
    error_message,
    is_retried,
    pause_before,
    read_answer,
    retry_after_seconds,
    shortened,
    usage_of,
)
from dino_st.backends.options import KEY_VARIABLE, ServerAddress, ServerOptions, scrubbed
from dino_st.errors import ConfigurationError, DinoError, MissingExtraError, ModelError
from dino_st.support.hashes import keyed_bits

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI


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


@dataclass
class RequestRun:
    """One call of `complete`.

    Attributes:
        requests: What is asked.
        on_reply: Told of each reply.
        replies: What has come, each at its request's place.
        stopped: Set when nothing new may be started.
        fatal: Why not.
    """

    requests: Sequence[ChatRequest]
    on_reply: Callable[[ChatReply], None] | None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    fatal: DinoError | None = None

    def __post_init__(self) -> None:
        self.replies: list[ChatReply | None] = [None] * len(self.requests)

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


def run_to_end(work: Coroutine[Any, Any, None]) -> None:
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


logger = logging.getLogger(__name__)

_LARGEST_REPLY = 4 * 2**20
_GIVE_UP_AFTER = 32
"""Requests that may finally fail one after the other for the server's sake, before the run stops."""


class OpenAIChat:
    """A model behind a chat server; a `ChatBackend`.

    The key is read from the environment for each call and kept nowhere. An attempt that may succeed later (a busy or
    broken server, a lost connection, a reply that is late, cut short, empty or another model's) is repeated after a
    pause; what finally fails is a reply with its reason. A server that will answer nothing (the key or the model is
    unknown to it, or request after request fails for its sake) is an error instead; replies until then have been handed
    to `on_reply`.

    Attributes:
        name: Name of the model.
        is_chat: True.
        options: How the server is asked.
    """

    is_chat = True

    def __init__(self, model: str, *, base_url: str | None = None, **options: Any) -> None:
        """Checks everything that can be checked without asking the server.

        Args:
            model: Name that the server knows the model by.
            base_url: Such as `http://localhost:8000/v1`; by default `OPENAI_BASE_URL`, or else OpenAI's own.
            **options: The fields of `ServerOptions`.

        Raises:
            ConfigurationError: If an option is out of range, the address is none, or the key is missing.
            MissingExtraError: If the client is not installed.
        """
        if find_spec("openai") is None:
            raise MissingExtraError('a chat server needs the openai client; run: pip install "dino-st[openai]"')
        self.name = model
        self.options = ServerOptions.of(**options)
        self._address = ServerAddress.of(base_url)
        self._host = self._address.host
        self._usage: Counter[str] = Counter(dict.fromkeys(USAGE_FIELDS, 0))
        self._pace = Pace(self.options.requests_per_minute)
        self._troubles = 0
        self._has_said = False
        self._address.key()

    def configuration(self) -> dict[str, Any]:
        """What decides the answers; see `ChatBackend`."""
        decisive = self.options.model_dump(include={"temperature", "top_p", "seed"})
        return {"backend": "openai", "model": self.name, "base_url": self._address.public, **decisive}

    @property
    def usage(self) -> Counter[str]:
        """Counts since the backend was made; see `ChatBackend`."""
        usage, options = Counter(self._usage), self.options
        prices = options.price_per_million_prompt_tokens, options.price_per_million_completion_tokens
        if prices != (None, None):
            read, written = usage["prompt_tokens"] * (prices[0] or 0), usage["completion_tokens"] * (prices[1] or 0)
            usage["cost"] = round((read + written) / 1e6, 6)  # type: ignore[assignment]  # typed for whole numbers
        return usage

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Answers requests, `concurrency` at a time; see `ChatBackend`.

        Raises:
            ConfigurationError: If the server does not accept the key.
            ModelError: If the server does not know the model, or does not answer at all.
        """
        run = RequestRun(requests, on_reply)
        run_to_end(self._answer_all(run))
        if run.fatal is not None:
            raise run.fatal
        return [reply for reply in run.replies if reply is not None]

    async def _answer_all(self, run: RequestRun) -> None:
        """Runs the workers: no more tasks than requests in flight, however many requests there are."""
        from openai import AsyncOpenAI

        client = AsyncOpenAI(
            api_key=self._address.key(), base_url=self._address.url, max_retries=0, timeout=self.options.timeout
        )
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
            self._usage.update(usage_of(reply))
            run.replies[place] = reply
            if run.on_reply is not None:
                run.on_reply(reply)

    async def _answer(self, client: AsyncOpenAI, request: ChatRequest, run: RequestRun) -> ChatReply | None:
        """Asks until there is a reply; None if the run stops before."""
        options, read, written, useless = self.options, 0, 0, 0
        failed = AttemptError("not asked")
        for attempt in range(1, options.max_retries + 2):
            if attempt > 1:
                await run.sleep(
                    pause_before(
                        attempt,
                        backoff=options.backoff_seconds,
                        longest=options.longest_wait_seconds,
                        asked=failed.wait,
                    )
                )
            await run.sleep(self._pace.seconds_to_slot())
            if run.stopped.is_set():
                return None
            try:
                answer = await self._ask(client, self._body(request, useless))
            except AttemptError as error:
                failed = error
                useless += not error.server_trouble
                read, written = read + error.answer.prompt_tokens, written + error.answer.completion_tokens
                if not error.again:
                    break
                self._say_once(error)
            except DinoError as error:
                run.stop(error)
                return None
            else:
                self._troubles = 0
                read, written = read + answer.prompt_tokens, written + answer.completion_tokens
                text = scrubbed(answer.text, shortest=8)
                return ChatReply(request.key, text, None, read, written, attempt, answer.finished)
        self._troubles = self._troubles + 1 if failed.server_trouble else 0
        if self._troubles >= max(_GIVE_UP_AFTER, options.concurrency):
            run.stop(self._no_server(failed.reason))
        return ChatReply(request.key, None, scrubbed(failed.reason), read, written, attempt)

    def _say_once(self, error: AttemptError) -> None:
        """Tells that the server is in trouble, so that nobody waits for one that is not there."""
        if error.server_trouble and not self._has_said:
            self._has_said = True
            logger.warning("%s; trying again, up to %d times", scrubbed(error.reason), self.options.max_retries)

    async def _ask(self, client: AsyncOpenAI, body: dict[str, Any]) -> Answer:
        """Makes one attempt.

        Raises:
            AttemptError: If it failed.
            DinoError: If every other one will fail as well.
        """
        import openai

        try:
            async with asyncio.timeout(self.options.timeout):
                received = await _post(client, body)
        except openai.APIStatusError as error:
            raise self._judged(error) from None
        except (TimeoutError, openai.APITimeoutError):
            reason = f"no complete reply within {self.options.timeout:g} s"
            raise AttemptError(reason, server_trouble=True) from None
        except Exception as error:
            if not isinstance(error, openai.OpenAIError) and not _is_of_transport(error):
                raise
            cause = error.__cause__ or error
            reason = f"no connection to {self._host}, or it broke ({shortened(str(cause)) or type(cause).__name__})"
            raise AttemptError(reason, server_trouble=True) from None
        return read_answer(received, self.name)

    def _body(self, request: ChatRequest, useless: int) -> dict[str, Any]:
        """What is sent; after so many useless answers, with another seed, since the same one would bring the same."""
        turns = [{"role": "system", "content": request.system}] if request.system else []
        options = self.options
        # OpenAI's newer models refuse the older name; other servers may know that one alone.
        limit = "max_completion_tokens" if "openai" in self._host else "max_tokens"
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [*turns, {"role": "user", "content": request.prompt}],
            limit: request.max_new_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
        }
        if options.seed is not None:
            body["seed"] = int.from_bytes(keyed_bits(options.seed, request.key, useless)[:4], "big") >> 1
        return {name: value for name, value in body.items() if value is not None}

    def _judged(self, error: APIStatusError) -> AttemptError | DinoError:
        """What an error status means for the request, or for all of them."""
        status, said = error.status_code, scrubbed(error_message(error.body))
        if status in (401, 403):
            return ConfigurationError(
                f"{self._host} does not accept the key in {KEY_VARIABLE} ({status}: {said}); set it to a valid one"
            )
        if status == 404:
            return ModelError(
                f"{self._host} knows no model {self.name!r}, or the address is wrong (404: {said}); expected a name "
                "that the server lists under /models, and a base URL such as http://localhost:8000/v1"
            )
        if status == 429 and error.code == "insufficient_quota":
            return ModelError(f"the account at {self._host} has no credit left ({said}); add some and run again")
        wait = retry_after_seconds(error.response.headers)
        reason = f"status {status}: {said}"
        return AttemptError(reason, again=is_retried(status), server_trouble=is_retried(status), wait=wait)

    def _no_server(self, reason: str) -> ModelError:
        return ModelError(
            f"{self._troubles} requests in a row failed {self.options.max_retries + 1} times each, the last one with: "
            f"{scrubbed(reason)}. Look whether {self._host} works, and run again"
        )


async def _post(client: AsyncOpenAI, body: dict[str, Any]) -> bytes:
    """Sends a request and reads the reply, up to a size that no honest one has."""
    received = bytearray()
    async with client.chat.completions.with_streaming_response.create(**body) as response:
        async for chunk in response.iter_bytes():
            received += chunk
            if len(received) > _LARGEST_REPLY:
                raise AttemptError(f"the reply does not end ({len(received)} bytes so far)", server_trouble=True)
    return bytes(received)


def _is_of_transport(error: Exception) -> bool:
    """Whether an error comes from below the client, which lets some through while a reply is read."""
    module = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or module in ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "anyio")
