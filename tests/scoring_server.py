"""A server whose model is a table, which says log-probabilities as vLLM, llama.cpp and others do, or wrongly."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

from tests.hostile_server import MODEL

Spoil = Callable[[dict[str, Any]], object]
"""Changes a reply with log-probabilities in place."""


class ScoringServer:
    """Answers with one of its texts, and says how likely a text is.

    Attributes:
        ways: Of `echo`, `prompt_logprobs` and `grammar` those that it has.
        pattern: What a token is.
        asked: Requests by what they asked for: `text`, or one of the ways.
    """

    def __init__(
        self,
        *ways: str,
        pattern: str = r" ?\w+|[^\w\s]+|\s",
        spoil: Spoil = lambda reply: None,
        texts: tuple[str, ...] = (),
    ) -> None:
        self.ways, self.pattern, self.spoil, self.texts = ways, re.compile(pattern), spoil, texts
        self.vocabulary: dict[str, int] = {}
        self.asked: Counter[str] = Counter()

    def tokens(self, text: str) -> list[str]:
        return self.pattern.findall(text)

    def log_prob(self, before: str, token: str) -> float:
        """Nats of a token after all that stands before it."""
        return -0.25 - crc32(f"{before}|{token}".encode()) % 64 / 16

    def score(self, prompt: str, text: str) -> float:
        """What is to come out for a text whose tokens do not mix with the prompt's."""
        total, before = 0.0, prompt
        for token in self.tokens(text):
            total, before = total + self.log_prob(before, token), before + token
        return total

    def respond(self, method: str, path: str, raw: bytes) -> tuple[int, object]:
        body, name = json.loads(raw), urlsplit(path).path
        if name == "/v1/chat/completions":
            self.asked["text"] += 1
            chosen = random.Random(f"{body['messages']} {body.get('seed')}").choice(self.texts)
            message = {"role": "assistant", "content": f'{chosen}"'}
            return self._completed({"message": message, "finish_reason": "stop"}, 3)
        if "grammar" in self.ways and name in ("/tokenize", "/completion"):
            return self._like_llama_cpp(name, body)
        if name != "/v1/completions":
            return 404, {"error": {"message": f"no {name}"}}
        way = "echo" if body.get("echo") else "prompt_logprobs" if "prompt_logprobs" in body else "text"
        self.asked[way] += 1
        if way == "text":
            chosen = random.Random(f"{body['prompt']} {body.get('seed')}").choice(self.texts)
            return self._completed({"text": chosen, "finish_reason": "stop"}, 3)
        tokens, before, values = self.tokens(body["prompt"]), "", list[float | None]()
        for token in tokens:
            values.append(self.log_prob(before, token) if before else None)
            before += token
        choice: dict[str, Any] = {"text": " so", "finish_reason": "length", "logprobs": None}
        if way in self.ways and way == "echo":
            offsets = [0]
            for token in tokens:
                offsets.append(offsets[-1] + len(token))
            choice["text"] = f"{before} so"
            choice["logprobs"] = {
                "tokens": [*tokens, " so"],
                "token_logprobs": [*values, -2.0],
                "text_offset": offsets,
                "top_logprobs": None,
            }
        if way in self.ways and way == "prompt_logprobs":
            named = zip(tokens, values, strict=True)
            choice["prompt_logprobs"] = [
                None if value is None else {str(number): {"logprob": value, "rank": 1, "decoded_token": token}}
                for number, (token, value) in enumerate(named)
            ]
        return self._completed(choice, 1, len(tokens))

    def _like_llama_cpp(self, name: str, body: dict[str, Any]) -> tuple[int, object]:
        if name == "/tokenize":
            found = self.tokens(body["content"])
            ids = [self.vocabulary.setdefault(token, len(self.vocabulary)) for token in found]
            pieces = [list(token.encode())[:2] if not token.isascii() else token for token in found]
            return 200, {"tokens": [{"id": i, "piece": p} for i, p in zip(ids, pieces, strict=True)]}
        self.asked["grammar"] += 1
        names = {number: token for token, number in self.vocabulary.items()}
        before = "".join(names[number] for number in body["prompt"])
        entries = []
        for number in map(int, re.findall(r"<\[(\d+)\]>", body["grammar"])[: body["n_predict"]]):
            entries.append({"id": number, "logprob": self.log_prob(before, names[number])})
            before += names[number]
        reply = {"content": "", "completion_probabilities": entries}
        self.spoil(reply)
        return 200, reply

    def _completed(self, choice: dict[str, Any], written: int, read: int = 7) -> tuple[int, object]:
        usage = {"prompt_tokens": read, "completion_tokens": written}
        reply = {"model": MODEL, "choices": [{"index": 0, **choice}], "usage": usage}
        if "message" not in choice:
            self.spoil(reply)
        return 200, reply
