"""How likely a model behind a server finds a text that follows a prompt, in nats.

Servers tell it in three ways, of which the first that works is taken. Two have the server run over prompt and text and
say the log-probability of each token: `echo` with `logprobs` in the completions protocol, and vLLM's `prompt_logprobs`.
llama.cpp's own server does neither, yet says how likely each token is that it writes; a grammar of tokens lets it write
the text and nothing else.

Where a text begins among the tokens is told by what these spell, byte by byte, and not by a server's offsets, since
some count characters, some bytes, and some special tokens, too. The tokens must spell the end of the text and the whole
prompt before it, so that a prompt that was cut, or an answer to something else, is no score. A token that holds both
the end of the prompt and the beginning of the text counts as one of the text. llama.cpp is given the tokens of both
apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from dino_st.backends.servers.replies import Answer, AttemptError, count_of, json_object, part_of
from dino_st.support.hashes import short_hash

Send = Callable[[str, Mapping[str, Any]], Awaitable[bytes]]
"""Sends a request to a path behind the base URL (`/completions`) or to one of the server (`//tokenize`)."""

WAYS = ("echo", "prompt_logprobs", "grammar")
"""How to ask, in the order in which it is tried."""

PROBE = ('Sentence 1: "It rains."\nSentence 2: "', 'Go on with: It snows "'), 'It snows today."'
"""Two prompts and a text that follows them, to see whether a server can score, and by the prompt."""

_LOWEST = -1000.0
"""Nats below which a token has no log-probability: servers write -9999 or the lowest number there is for none."""

_LONGEST_TOKEN = 64
"""Bytes of the first token of a prompt, which vLLM does not name."""


@dataclass(frozen=True)
class TextScore:
    """How likely a text is after a prompt, or why that cannot be said; `split` names the tokens it was taken in."""

    log_prob: float | None
    num_tokens: int = 0
    split: str = ""
    fault: str | None = None

    def as_text(self) -> str:
        """For a reply; see `of`."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Self:
        """What `as_text` made a text of."""
        return cls(**json.loads(text))


def needed_for_scores(host: str, reasons: Mapping[str, str]) -> str:
    """What is wrong with a server that cannot score, and what could."""
    tried = "; ".join(f"{way}: {reason}" for way, reason in reasons.items())
    return (
        f"{host} does not say how likely a given text is, which --debias rerank needs (tried {tried}). Start vLLM, a "
        "server that takes `echo` with `logprobs` in /completions, or llama.cpp's server of 2026 with /tokenize and "
        "/completion; or leave --debias out"
    )


async def ask_score(way: str, send: Send, model: str, prompt: str, text: str) -> Answer:
    """Asks for the score of a text after a prompt, which is the answer's text; see `TextScore`.

    Raises AttemptError where the server does not say it.
    """
    if way == "grammar":
        return await _forced(send, prompt, text)
    asked = {"echo": True, "logprobs": 1} if way == "echo" else {"prompt_logprobs": 0}
    # Not every server takes 0 for a limit, so a token is written that nobody reads. No temperature changes the numbers.
    body = {"model": model, "prompt": prompt + text, "max_tokens": 1, "temperature": 1.0, **asked}
    content = json_object(await send("/completions", body))
    usage, choice = part_of(content, "usage"), _first(content.get("choices"))
    written = count_of(usage, "completion_tokens") if "completion_tokens" in usage else 1
    tokens, values = _echoed(choice, written) if way == "echo" else _of_prompt(choice, content)
    if not tokens or len(tokens) != len(values):
        raise AttemptError("the reply holds no log-probabilities of the prompt", again=False)
    name = content.get("model")
    return Answer(
        score_of(tokens, values, prompt, text).as_text(),
        prompt_tokens=count_of(usage, "prompt_tokens"),
        completion_tokens=written,
        model=name if isinstance(name, str) else "",
    )


def score_of(tokens: Sequence[bytes], values: Sequence[object], prompt: str, text: str) -> TextScore:
    """The score of a text that a server ran over behind its prompt, from all tokens and their log-probabilities.

    Example:
        >>> score_of([b"A", b' "', b"So", b'."'], [None, -1.0, -0.5, -0.25], 'A "', 'So."').log_prob
        -0.75
    """
    spelled, expected = b"".join(tokens), (prompt + text).encode()
    if not tokens[0] and values[0] is None:  # vLLM leaves out the first token, of which nothing can be said
        missing = expected[: max(0, len(expected) - len(spelled))]
        tokens, spelled = [missing, *tokens[1:]], missing + spelled if len(missing) <= _LONGEST_TOKEN else spelled
    if not spelled.endswith(expected):
        return TextScore(None, fault="the server's tokens do not spell the prompt and the text")
    boundary = len(spelled) - len(text.encode())
    place, first = 0, len(tokens)
    for i, token in enumerate(tokens):  # a character may lie in several tokens, of which the last alone says it
        if place >= boundary or place + len(token) > boundary:
            first = i
            break
        place += len(token)
    return _sum(values[first:], repr([*tokens[first:]]))


def _echoed(choice: Mapping[str, Any], written: int) -> tuple[list[bytes], list[object]]:
    """Tokens of a prompt and their log-probabilities, of which the last so many were written behind it."""
    logprobs = choice.get("logprobs")
    logprobs = logprobs if isinstance(logprobs, dict) else {}
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list):
        return [], []
    end = len(tokens) - written
    return [_bytes(token) for token in tokens[:end]], values[: len(values) - written]


def _of_prompt(choice: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[list[bytes], list[object]]:
    """The same from vLLM's list, an entry a token: none for the first, or what the token is by its number."""
    entries = choice.get("prompt_logprobs") or content.get("prompt_logprobs")
    tokens: list[bytes] = []
    values: list[object] = []
    for entry in entries if isinstance(entries, list) else []:
        named = next(iter(entry.values()), None) if isinstance(entry, dict) else None
        named = named if isinstance(named, dict) else {}
        tokens.append(_bytes(named.get("decoded_token")))
        values.append(named.get("logprob"))
    return tokens, values


async def _forced(send: Send, prompt: str, text: str) -> Answer:
    """Has llama.cpp write a text by a grammar of its tokens; its log-probabilities are those before the grammar."""
    before, _ = await _tokens(send, prompt, add_special=True)
    own, is_split = await _tokens(send, text, add_special=False)
    if is_split:  # of such tokens llama.cpp says nothing
        score = TextScore(None, fault="a character of the text lies in several tokens")
        return Answer(score.as_text(), prompt_tokens=len(before))
    grammar = "root ::= " + " ".join(f"<[{token}]>" for token in own)
    body = {"prompt": before, "n_predict": len(own), "n_probs": 1, "grammar": grammar, "temperature": 1.0}
    content = json_object(await send("//completion", body))
    entries = content.get("completion_probabilities")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    if [entry.get("id") for entry in entries] != own:
        raise AttemptError("the server does not write the tokens that its grammar says", again=False)
    score = _sum([entry.get("logprob") for entry in entries], repr(own))
    return Answer(score.as_text(), prompt_tokens=len(before), completion_tokens=len(own))


async def _tokens(send: Send, text: str, *, add_special: bool) -> tuple[list[int], bool]:
    """llama.cpp's tokens of a text, and whether one of them holds a part of a character."""
    asked = {"content": text, "add_special": add_special, "parse_special": False, "with_pieces": True}
    tokens = json_object(await send("//tokenize", asked)).get("tokens")
    entries = [entry for entry in tokens if isinstance(entry, dict)] if isinstance(tokens, list) else []
    ids = [entry["id"] for entry in entries if type(entry.get("id")) is int]
    if not ids:
        raise AttemptError("the reply holds no tokens", again=False)
    return ids, any(not isinstance(entry.get("piece"), str) for entry in entries)


def _sum(values: Sequence[object], tokens: str) -> TextScore:
    """The score of a text of such tokens from their log-probabilities."""
    numbers = [number for number in map(_nats, values) if number is not None]
    if len(numbers) < len(values):
        return TextScore(None, fault="a token of the text has no finite log-probability")
    return TextScore(sum(numbers), len(numbers), short_hash(tokens))


def _first(choices: object) -> Mapping[str, Any]:
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise AttemptError("the reply has no choices")
    return choices[0]


def _nats(value: object) -> float | None:
    """A log-probability; none where it is no number, or one that stands for impossible; rounding may exceed 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]  # a number then
    return min(number, 0.0) if _LOWEST < number < 0.01 else None


def _bytes(token: object) -> bytes:
    r"""What a token spells; parts of a character are written as `bytes:\xe2\x80` by some servers."""
    text = token if isinstance(token, str) else ""
    if re.fullmatch(r"bytes:(?:\\x[0-9a-fA-F]{2})+", text):
        return bytes.fromhex(text.removeprefix("bytes:").replace("\\x", ""))
    return text.encode(errors="replace")
