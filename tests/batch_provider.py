"""A provider's batch interface as OpenAI describes it, for `hostile_server(respond=…)`; it fails as it is told."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.hostile_server import MODEL, completion

Line = dict[str, Any]
Answered = tuple[str, list[Line], list[Line]]
"""The final status of a batch, the lines of its replies and those of its errors."""

Outcome = Callable[["BatchProvider", int, list[Line]], Answered]
"""From the number of a batch, from 1, and its requests to what becomes of it."""


def digits_of(body: Line) -> int:
    """A number that belongs to a request."""
    return int(sha256(json.dumps([body["messages"], body.get("seed")]).encode()).hexdigest()[:12], 16)


def text_for(body: Line) -> str:
    """What the model answers: sentences, numbers, now and then something of no use."""
    prompt, number = body["messages"][-1]["content"], digits_of(body)
    if number % 7 == 0:
        return "I cannot."
    if found := re.search(r"Write (\d+) sentences", prompt):
        return "\n".join(f"{i + 1}. Number {(number + i) % 97} follows {i} here." for i in range(int(found[1])))
    if prompt.endswith("Rating:"):
        return str(number % 6)
    return f'Somebody plays the flute {number % 10_000} times."'


def answered(request: Line, text: str | None = None, model: str = MODEL) -> Line:
    """The line of a request that was answered."""
    response = {
        "status_code": 200,
        "request_id": "1",
        "body": completion(text_for(request["body"]) if text is None else text, model),
    }
    return {"id": "1", "custom_id": request["custom_id"], "response": response, "error": None}


def refused(request: Line, status: int, message: str = "no", **more: Any) -> Line:
    """The line of a request that the model's server refused."""
    body = {"error": {"message": message, **more}}
    response = {"status_code": status, "request_id": "1", "body": body}
    return {"id": "1", "custom_id": request["custom_id"], "response": response, "error": None}


def unanswered(request: Line, code: str = "batch_expired") -> Line:
    """The line of a request that the batch did not come to."""
    error = {"code": code, "message": "This request could not be executed in time."}
    return {"id": "1", "custom_id": request["custom_id"], "response": None, "error": error}


def all_answered(_: BatchProvider, __: int, requests: list[Line]) -> Answered:
    """Everything is answered, in another order."""
    return "completed", [answered(one) for one in reversed(requests)], []


@dataclass
class BatchProvider:
    """The provider's side of a test; `respond` is for `hostile_server`."""

    outcome: Outcome = all_answered
    looks: int = 2  # at a batch until it is final
    lacks: tuple[str, ...] = ()  # paths that there are not
    files: dict[str, str] = field(default_factory=dict)
    batches: dict[str, Line] = field(default_factory=dict)
    looked: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    is_stuck: bool = False  # no batch is ever final
    page: int = 2  # batches in a page of their list
    patience: dict[str, int] = field(default_factory=dict)  # looks at single batches, where they are others

    def respond(self, method: str, path: str, raw: bytes) -> tuple[int, object]:
        where = urlsplit(path)
        place = where.path.removeprefix("/v1")
        self.calls[f"{method} {re.sub(r'[-_][0-9]+', '', place)}"] += 1
        if place.startswith(self.lacks) and self.lacks:
            return 404, {"error": {"message": "Not Found"}}
        if place == "/chat/completions":
            return 200, completion(text_for(json.loads(raw)))
        if (method, place) == ("POST", "/files"):
            return self._upload(raw)
        if (method, place) == ("POST", "/batches"):
            return self._begin(json.loads(raw))
        if place == "/batches":
            return self._list(parse_qs(where.query))
        if found := re.fullmatch(r"/batches/([^/]+)", place):
            return self._look(found[1])
        if (found := re.fullmatch(r"/files/([^/]+)/content", place)) and found[1] in self.files:
            return 200, self.files[found[1]]
        return 404, {"error": {"message": f"no {place}"}}

    def requests_of(self, batch: str) -> list[Line]:
        return [json.loads(line) for line in self.files[self.batches[batch]["input_file_id"]].splitlines()]

    def add_file(self, content: str) -> str:
        name = f"file-{len(self.files) + 1}"
        self.files[name] = content
        return name

    def _upload(self, raw: bytes) -> tuple[int, object]:
        boundary = raw.split(b"\r\n", 1)[0]
        parts = [part.strip(b"\r\n").split(b"\r\n\r\n", 1) for part in raw.split(boundary)[1:-1]]
        named = {re.search(rb'name="(\w+)"', head)[1].decode(): value.decode() for head, value in parts}  # type: ignore[index]
        if named.get("purpose") != "batch":
            return 400, {"error": {"message": "purpose: expected batch"}}
        return 200, {"id": self.add_file(named["file"]), "object": "file", "purpose": "batch"}

    def _begin(self, asked: Line) -> tuple[int, object]:
        if asked["input_file_id"] not in self.files or asked["completion_window"] != "24h":
            return 400, {"error": {"message": "no such file"}}
        name = f"batch_{len(self.batches) + 1}"
        self.batches[name] = {"id": name, "object": "batch", "status": "validating", **asked}
        for request in self.requests_of(name):
            if request["url"] != asked["endpoint"] or request["method"] != "POST":
                return 400, {"error": {"message": "another endpoint"}}
        return 200, self.batches[name]

    def _list(self, query: dict[str, list[str]]) -> tuple[int, object]:
        names = list(reversed(self.batches))
        start = names.index(query["after"][0]) + 1 if "after" in query else 0
        shown = names[start : start + self.page]
        has_more = start + self.page < len(names)
        return 200, {"object": "list", "data": [self.batches[name] for name in shown], "has_more": has_more}

    def _look(self, name: str) -> tuple[int, object]:
        if name not in self.batches:
            return 404, {"error": {"message": f"No batch found with id {name!r}"}}
        batch = self.batches[name]
        self.looked[name] += 1
        if (
            not self.is_stuck
            and self.looked[name] >= self.patience.get(name, self.looks)
            and batch["status"] in ("validating", "in_progress")
        ):
            self._end(batch)
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        return 200, batch

    def _end(self, batch: Line) -> None:
        requests = self.requests_of(batch["id"])
        status, replies, errors = self.outcome(self, list(self.batches).index(batch["id"]) + 1, requests)
        batch["status"] = status
        counts = {"total": len(requests), "completed": len(replies), "failed": len(errors)}
        batch["request_counts"] = counts
        batch["output_file_id"] = self.add_file(as_lines(replies)) if replies else None
        batch["error_file_id"] = self.add_file(as_lines(errors)) if errors else None


def as_lines(lines: Iterable[Line]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)
