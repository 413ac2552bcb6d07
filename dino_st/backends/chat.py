"""What is asked of a model that answers prompts, and what its answer means: a text, or a reason to ask again or not."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

USAGE_FIELDS = ("requests", "retries", "failures", "prompt_tokens", "completion_tokens")
"""What every backend counts, in the order of summaries. `retries` are attempts beyond a request's first."""

_OPENING = re.compile(r"""\s*(?:[^\W\d_]+(?:[ ]\d+)?\s*:\s*)?["“]""")
_CLOSING = re.compile('["”]')


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
    """

    key: str
    prompt: str
    system: str = ""
    opening: str = '"'
    max_new_tokens: int = 64


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


def usage_of(reply: ChatReply) -> dict[str, int]:
    """What one reply adds to the counts of `USAGE_FIELDS`."""
    counted = (1, reply.attempts - 1, int(reply.text is None), reply.prompt_tokens, reply.completion_tokens)
    return dict(zip(USAGE_FIELDS, counted, strict=True))


class ChatBackend(Protocol):
    """Whoever answers requests: `openai_api.OpenAIChat` (a server) or `local_chat.LocalChat` (a model here)."""

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


def text_up_to_closing_mark(reply: str) -> str | None:
    """The text of an answer to an instruction that ends in an opening quotation mark, as DINO's do.

    An answer may go on behind the mark, or repeat it, with the last line's label before it or without.

    Example:
        >>> text_up_to_closing_mark('A man plays." It is similar.')
        'A man plays.'
        >>> text_up_to_closing_mark('Sentence 2: "A man plays."')
        'A man plays.'

    Args:
        reply: A model's answer.

    Returns:
        The text; None if it has no closing mark, is empty, or holds a line break.
    """
    opening = _OPENING.match(reply)
    start = opening.end() if opening else 0
    closing = _CLOSING.search(reply, start)
    if closing is None:
        return None
    text = reply[start : closing.start()].strip()
    return None if not text or "\n" in text or "\r" in text else text


_RETRIED_STATUS = (408, 409, 425, 429)
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Answer:
    """A usable answer of a server; the fields as in `ChatReply`."""

    text: str
    finished: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0


class AttemptError(Exception):
    """One attempt at a request failed; never leaves the backend.

    Attributes:
        reason: For people.
        again: Whether another attempt may succeed.
        server_trouble: Whether the server, rather than what it answered, is at fault.
        wait: Seconds that the server asked to wait; None if it did not.
        answer: What the attempt cost, if it was answered.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = True,
        server_trouble: bool = False,
        wait: float | None = None,
        answer: Answer | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.server_trouble = server_trouble
        self.wait = wait
        self.answer = answer or Answer("")


def read_answer(body: bytes, model: str) -> Answer:
    """Reads a chat completion.

    Args:
        body: What the server sent with status 200.
        model: Name of the model that was asked.

    Returns:
        The answer; a refusal, where the server marks one, is its text.

    Raises:
        AttemptError: If the body is no chat completion, holds no text, or another model wrote it.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise AttemptError(f"the reply is truncated or no JSON ({len(body)} bytes)", server_trouble=True) from None
    if not isinstance(content, dict):
        raise AttemptError("the reply is JSON, but no chat completion", server_trouble=True)
    usage = _part(content, "usage")
    cost = Answer("", True, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
    if content.get("error") and not content.get("choices"):
        raise AttemptError(f"the server reports: {error_message(content)}", server_trouble=True, answer=cost)
    written_by = content.get("model")
    if isinstance(written_by, str) and not is_same_model(model, written_by):
        raise AttemptError(
            f"wrong model: {shortened(written_by)!r} answered, {model!r} was asked; give the name that the server uses",
            answer=cost,
        )
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise AttemptError("the reply has no choices", answer=cost)
    finished = choices[0].get("finish_reason") != "length"
    message = _part(choices[0], "message")
    texts = [message.get("content"), message.get("refusal")]
    text = next((text for text in texts if isinstance(text, str) and text.strip()), None)
    if text is None:
        raise AttemptError("the reply is empty" + ("" if finished else " at max_new_tokens"), answer=cost)
    return replace(cost, text=text, finished=finished)


def is_same_model(asked: str, answered: str) -> bool:
    """Whether a model that answered may be the one that was asked.

    Servers name versions (`gpt-4o` answers as `gpt-4o-2024-08-06`), add a revision or tag, or leave out a path. A
    server that gives no name is believed.

    Example:
        >>> is_same_model("models/llama", "llama@main"), is_same_model("gpt-4", "gpt-4o")
        (True, False)
    """
    ours, theirs = _base_name(asked), _base_name(answered)
    if not ours or not theirs:
        return True
    return theirs == ours or (theirs.startswith(ours) and not theirs[len(ours)].isalnum())


def is_retried(status: int) -> bool:
    """Whether an HTTP status says that the same request may succeed later."""
    return status in _RETRIED_STATUS or status >= 500


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait by the header `Retry-After`, which holds seconds or a date (RFC 9110, section 10.2.3).

    Args:
        headers: Of a reply; names are looked up as they stand, which HTTP clients do without regard to case.
        now: The present, with a time zone; the clock's by default.

    Returns:
        Seconds, at least 0; None where the header is missing or means nothing.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def pause_before(attempt: int, *, backoff: float, longest: float, asked: float | None) -> float:
    """Seconds to wait before an attempt: doubled each time, and spread at random so that requests do not come at once.

    Args:
        attempt: Number of the attempt to come, from 2 on.
        backoff: Seconds before the second attempt.
        longest: Seconds that are never exceeded by more than the spread.
        asked: What the server asked to wait; None if it did not.

    Returns:
        Seconds; no less than the server asked for, up to `longest`. Not seeded: time does not decide the data.
    """
    doubled = min(longest, backoff * 2.0 ** min(attempt - 2, 60))
    spread = random.uniform(0.5, 1.0) * doubled
    return spread if asked is None else min(asked, longest) + 0.1 * spread


def shortened(text: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


def error_message(body: object) -> str:
    """What a server says in the body of an error."""
    return shortened(_message(body))


def _message(body: object) -> str:
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or json.dumps(error, default=str)
    return str(error or "no reason given")


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _base_name(name: str) -> str:
    base = name.strip().replace("\\", "/").rstrip("/").rpartition("/")[2].partition("@")[0].lower()
    return base.removesuffix("latest").rstrip(":-")
