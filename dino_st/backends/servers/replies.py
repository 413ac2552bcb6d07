"""What a server's answer means: a text, what it cost, or why the attempt at it failed; and the key kept out of both."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

from dino_st.backends.chat import ChatRequest, whole_characters

KEY_VARIABLE = "OPENAI_API_KEY"

_LONGEST_REASON = 300
_LARGEST_COUNT = 10**7
_COMPLETE = re.compile(
    "none|null|stop|eos|eos_token|end|end_turn|end_of_text|end_of_turn|endoftext|stop_sequence|stop_token|stop_word|complete|"
    "completed|finish|finished|done|normal"
)
_CUT_OFF = re.compile(
    "(?:max_|model_)?length|max_(?:new_|output_|completion_)?tokens|limit|(?:token|length|output|context)_limit|incomplete"
)
_FILTERED = re.compile("safety|content_filter|content_filtered|recitation|blocklist|prohibited_content|spii|refusal")
_OPEN_END = re.compile(r"[^\W_\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]\Z|[,;:(–-]\Z")  # some scripts have no full stop
_NAMES_ENDING = re.compile("(?:reason|status|type)$", re.IGNORECASE)
_IS_CUT = {"truncated": "length", "stopped_limit": "length", "incomplete": "length", "filtered": "content_filter"}
"""What a server says beside `finish_reason`: names of fields with a reason, and flags with what they mean."""
_STREAM = re.compile(rb"\s*(?:(?:data|event|id)?:\s|\{[^\n]*\}\r?\n\s*\{)")
"""How events of a server, or JSON in lines, begin."""
_MAY_PASS = re.compile("error|abort|aborted|cancelled|canceled|timeout|overloaded")


def scrubbed(text: str, *, shortest: int = 1) -> str:
    """A text without the key, should it stand in it; shorter keys are let be, since they may be a word of the data."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    return text.replace(key, "***") if len(key) >= max(1, shortest) else text


def shortened(text: str) -> str:
    """A text on one line that can be shown and stored, cut where it is long."""
    line = " ".join(whole_characters(text).split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


@dataclass(frozen=True)
class Answer:
    """A usable answer of a server; the fields as in `ChatReply`, and what the model calls itself."""

    text: str
    finished: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str = ""


class AttemptError(Exception):
    """One attempt at a request failed; never leaves the backend.

    `reason` is for people, without the key; `again` says whether another attempt may succeed, `server_trouble` whether
    the server or a setting, rather than what was answered, is at fault; `wait` holds the seconds that the server asked
    to wait, `answer` what the attempt cost, `status` the one that the server gave, if it was none of success. The kind
    is `late` for a reply that did not come in time, `limit` for one without a text at the limit of tokens, `nobody`
    where there is nobody to be connected to.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = True,
        server_trouble: bool = False,
        wait: float | None = None,
        answer: Answer | None = None,
        status: int | None = None,
        kind: Literal["late", "limit", "nobody"] | None = None,
    ) -> None:
        self.reason = scrubbed(reason)
        super().__init__(self.reason)
        self.again, self.server_trouble, self.wait = again, server_trouble, wait
        self.answer, self.status, self.kind = answer or Answer(""), status, kind


class Counts(NamedTuple):
    """How far a request has come: attempts, useless answers, its limit of tokens, tokens read and written."""

    number: int
    useless: int
    limit: int
    read: int
    written: int


@dataclass
class Attempts:
    """A request on its way through attempts, and what they have cost."""

    request: ChatRequest
    counts: Counts

    @classmethod
    def of(cls, request: ChatRequest) -> Attempts:
        """At the first attempt."""
        return cls(request, Counts(1, 0, request.max_new_tokens, 0, 0))

    def goes_on(self, error: AttemptError) -> bool:
        """Counts a failed attempt in, and says whether another one may succeed."""
        before, cost, limit = self.counts, error.answer, self.counts.limit
        is_hopeless = error.kind == "limit" and limit > self.request.max_new_tokens
        goes_on = error.again and not is_hopeless and not (error.kind == "late" and self.request.is_divisible)
        self.counts = before._replace(
            number=before.number + goes_on,
            useless=before.useless + (not error.server_trouble),
            limit=2 * limit if goes_on and error.kind == "limit" else limit,
            read=before.read + cost.prompt_tokens,
            written=before.written + cost.completion_tokens,
        )
        return goes_on


def read_answer(body: bytes, limit: int | None = None) -> Answer:
    """Reads a completion, of a chat or not, that came with status 200; a refusal, where marked as one, is its text.

    Where the server does not say how the answer ended, as many tokens were written as the `limit` allows, or a blank
    stands before the mark at which a completion was stopped, a text that stops in a sentence is cut off.

    Raises AttemptError where the body is no completion, holds no text, or did not end as answers do.
    """
    content = json_object(body)
    usage = part_of(content, "usage")
    cost = Answer("", True, count_of(usage, "prompt_tokens"), count_of(usage, "completion_tokens"))
    _refuse_error(content, cost)
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise AttemptError("the reply has no choices", answer=cost)
    choice = next((other for other in choices if isinstance(other, dict) and other.get("index") == 0), choices[0])
    _refuse_error(choice, cost)
    named = choice.get("finish_reason")
    told = [*_told_beside(choice), *_told_beside(content)]
    beside = (reason for kind in (_FILTERED, _CUT_OFF) for reason in told if kind.fullmatch(reason))
    ending = next(beside, str(named or "stop").lower())
    is_whole, is_cut_off = bool(_COMPLETE.fullmatch(ending)), bool(_CUT_OFF.fullmatch(ending))
    if not is_whole and not is_cut_off:
        is_passing = bool(_MAY_PASS.fullmatch(ending))
        reason = f"the answer ended with finish_reason {shortened(ending)!r}"
        raise AttemptError(reason, again=is_passing, server_trouble=is_passing, answer=cost)
    message = part_of(choice, "message")
    continued = choice.get("text")  # of no chat
    texts = [message.get("refusal"), _joined(message.get("content")), continued]
    text = next((text for text in texts if isinstance(text, str) and text.strip()), None)
    if text is None and is_cut_off:
        reason = "the reply is empty at the limit of tokens; raise --max-new-tokens (models that think need many)"
        raise AttemptError(reason, server_trouble=True, answer=cost, kind="limit")
    if text is None:
        raise AttemptError("the reply is empty", answer=cost)
    written_by = content.get("model")
    name = shortened(written_by) if isinstance(written_by, str) else ""
    used_up = limit is not None and cost.completion_tokens >= limit
    opens_quotation = text == continued and text[-1:].isspace()  # where the server stopped at a mark inside
    is_in_doubt = named in (None, "", "None", "null") or used_up or opens_quotation
    is_whole = is_whole and not (is_in_doubt and _OPEN_END.search(text.rstrip()))
    return replace(cost, text=text, finished=is_whole, model=name)


def _refuse_error(part: dict[str, Any], cost: Answer) -> None:
    """Raises AttemptError where a reply, or its choice, tells of an error, whatever text stands beside it."""
    if part.get("error"):
        status = part_of(part, "error").get("code")
        said = f"the server reports: {error_message(part)}"
        raise AttemptError(said, server_trouble=True, answer=cost, status=status if isinstance(status, int) else None)


def json_object(body: bytes) -> dict[str, Any]:
    """What a server sent, which must be a JSON object (AttemptError)."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        what = "streamed, though that was not asked for" if _STREAM.match(body) else "truncated or no JSON"
        raise AttemptError(f"the reply is {what} ({len(body)} bytes)", server_trouble=True) from None
    if not isinstance(content, dict):
        raise AttemptError("the reply is JSON, but no completion", server_trouble=True)
    return content


def _told_beside(record: dict[str, Any], depth: int = 3) -> Iterator[str]:
    """The reasons that an answer ended, or was filtered or cut off, in the fields of a reply and of what they hold."""
    for name, value in record.items():
        if isinstance(value, dict) and name not in ("message", "logprobs") and depth:
            yield from _told_beside(value, depth - 1)
        elif isinstance(value, str) and _NAMES_ENDING.search(name):
            yield value.lower()
        elif value is True and (told := _IS_CUT.get(name)):
            yield told


def _joined(content: object) -> object:
    """The text of a message's content; one that comes in parts is put together, without thoughts, sounds and images."""
    if isinstance(content, int | float) and not isinstance(content, bool):
        return str(content)  # a judge's rating
    if not isinstance(content, list):
        return content
    parts = [part if isinstance(part, dict) else {"text": part} for part in content]
    kinds = ("text", "output_text", "refusal")
    texts = [part.get("text", part.get("refusal")) for part in parts if part.get("type", "text") in kinds]
    return "".join(text for text in texts if isinstance(text, str))


def part_of(content: dict[str, Any], name: str) -> dict[str, Any]:
    """An object inside another; an empty one where there is none."""
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def count_of(usage: dict[str, Any], name: str) -> int:
    """A number of tokens that a server says; 0 where it can be none."""
    try:
        number = float(usage.get(name) or 0)
    except (TypeError, ValueError):
        return 0
    return int(number) if 0 <= number <= _LARGEST_COUNT else 0


def error_message(body: object) -> str:
    """What a server says in the body of an error."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or json.dumps(error, default=str)
    return shortened(str(error or "no reason given"))


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


def _base_name(name: str) -> str:
    base = name.strip().replace("\\", "/").rstrip("/").rpartition("/")[2].partition("@")[0].lower()
    return base.removesuffix("latest").rstrip(":-")


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait by the header `Retry-After`, which holds seconds or a date (RFC 9110, section 10.2.3).

    None where the header is missing or means nothing. `now` is the clock's time by default.
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
