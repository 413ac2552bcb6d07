"""The protocol of every model that answers prompts: a request, the reply to it, and the backend between the two."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

T = TypeVar("T")
R = TypeVar("R")

USAGE_FIELDS = ("requests", "retries", "failures", "prompt_tokens", "completion_tokens")
"""What every backend counts, in the order of summaries. `retries` are attempts beyond a request's first."""

LATE = "no complete reply within"
"""How the failure of a request begins whose answer did not come in time."""


@dataclass(frozen=True)
class ChatRequest:
    """One prompt to answer.

    Attributes:
        key: Names the request for good: the same key is the same request. It decides random numbers and is what
            `ReplyJournal` finds a reply by.
        prompt: The user's turn; for a model without a chat template, the text to continue.
        system: A system turn; none if empty.
        opening: What a local model's answer begins with; a server is not told.
        max_new_tokens: Tokens that the answer may take.
        is_divisible: Whether one can ask for less instead, so that it is not repeated when no answer came in time.
        closing: Marks that end an answer, for servers that continue raw text.
        answer: An answer that is there already. Then how likely it is after the prompt is asked for, of a backend that
            is a `ScoringBackend`, and the reply's text is a `TextScore`.
    """

    key: str
    prompt: str
    system: str = ""
    opening: str = '"'
    max_new_tokens: int = 64
    is_divisible: bool = False
    closing: tuple[str, ...] = ('"',)
    answer: str | None = None


@dataclass(frozen=True)
class ChatReply:
    """What became of a request.

    Attributes:
        key: Of the request.
        text: The answer; None if the request finally failed.
        failure: Why it failed, for people; None if it did not. Never holds a credential.
        prompt_tokens: Tokens read, over all attempts that were answered.
        completion_tokens: Tokens written, likewise.
        attempts: Times the request was made.
        finished: False if the answer was cut off at `max_new_tokens`.
    """

    key: str
    text: str | None
    failure: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    attempts: int = 1
    finished: bool = True

    def __post_init__(self) -> None:
        for name in ("text", "failure"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, whole_characters(value))


def whole_characters(text: str) -> str:
    """A text that can be stored: halves of surrogate pairs, which JSON may hold, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def usage_of(reply: ChatReply) -> dict[str, int]:
    """What one reply adds to the counts of `USAGE_FIELDS`."""
    counted = (1, reply.attempts - 1, int(reply.text is None), reply.prompt_tokens, reply.completion_tokens)
    return dict(zip(USAGE_FIELDS, counted, strict=True))


class ChatBackend(Protocol):
    """What answers requests: `OpenAIChat` (a server), `LocalChat` (a model on this machine), or one of your own."""

    name: str
    """Of the model, for manifests."""

    is_chat: bool
    """False for a local model without a chat template: its prompts are raw text to continue."""

    def configuration(self) -> dict[str, Any]:
        """Everything that decides what is answered, for manifests; no credentials."""

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Answers requests.

        Args:
            requests: What to ask.
            on_reply: Called with each reply, failures included, as soon as it is final, in whatever order they come.

        Returns:
            One reply a request, in the order given.
        """

    @property
    def usage(self) -> Counter[str]:
        """The `USAGE_FIELDS` since the backend was made, and `cost` where prices are known."""


@runtime_checkable
class ScoringBackend(ChatBackend, Protocol):
    """A backend that can also say how likely an answer is that is there already (`ChatRequest.answer`)."""

    def find_scoring(self) -> str:
        """Sees that it can, and says by what way; a ConfigurationError where it cannot."""


@runtime_checkable
class ParallelBackend(ChatBackend, Protocol):
    """A backend that several threads may ask at the same time (see `chat_workers`)."""

    calls_at_once: int
    """Calls of `complete` that keep it busy."""

    def close(self) -> None:
        """Ends whatever is being answered."""


@runtime_checkable
class BatchingBackend(ChatBackend, Protocol):
    """A backend that may be asked in batches, which are answered hours later (see `servers.batches`)."""

    in_batches: bool
    """Whether it is to be asked so; then everything that can be asked should be asked at once."""

    def complete_in_batches(
        self, requests: Mapping[str, ChatRequest], directory: Path, on_reply: Callable[[ChatReply], None]
    ) -> None:
        """Answers requests, each under a name of its own, or goes on with batches that are noted in a directory.

        Raises PendingError where batches are not waited for; what came until then was handed to `on_reply`.
        """


def in_order(
    backend: ChatBackend | None, work: Callable[[T], R], items: Iterable[T]
) -> Generator[tuple[T, R], None, None]:
    """Does work by a backend for items; each with its result, in their order, several at a time where it takes several.

    Where work fails, what others are at is finished, since it will be paid for; an interruption ends it.
    """
    if not isinstance(backend, ParallelBackend):
        for item in items:
            yield item, work(item)
        return
    coming: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(backend.calls_at_once) as pool:
        try:
            for item in items:
                coming.append((item, pool.submit(work, item)))
                if len(coming) >= backend.calls_at_once:
                    first, result = coming.popleft()
                    yield first, result.result()
            for first, result in coming:
                yield first, result.result()
        except BaseException as error:
            if not isinstance(error, Exception):
                backend.close()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def is_batching(backend: ChatBackend) -> TypeGuard[BatchingBackend]:
    """Whether a backend is to be asked in batches."""
    return isinstance(backend, BatchingBackend) and backend.in_batches
