"""A chat server on the loopback address that misbehaves as it is told, and counts what it was asked."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

MODEL = "tiny-chat"

FAULTS = ("429", "429 after", "429 date", "500", "503", "reset", "hang", "truncated", "no choices")
"""Faults after which the same request may succeed."""

Script = Callable[[str, int], str | Mapping[str, Any]]
"""From a prompt and the number of the attempt, from 1, to what happens: `ok`, the name of a fault, or the reply's body.

A body may have a `status` beside what is sent.
"""

Respond = Callable[[str, str, bytes], tuple[int, object]]
"""From a method, a path and a body to the status and the content that a server of another kind sends."""


def answer_to(prompt: str) -> str:
    """What the server answers, so that a test can tell whose answer it holds."""
    return f'"An answer to {prompt}."'


def completion(text: str, model: str = MODEL) -> dict[str, Any]:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def random_faults(seed: int, share: float) -> Script:
    """Faults at random for a share of attempts, the same for the same attempt in every run.

    The first reply to `request 100`, `request 200`, … `request 900` never ends: few enough for a test to wait for.
    """
    passing = [fault for fault in FAULTS if fault != "hang"]

    def script(prompt: str, attempt: int) -> str:
        if prompt.endswith("00") and attempt == 1 and len(prompt) == len("request 200"):
            return "hang"
        chance = random.Random(f"{seed} {prompt} {attempt}")
        return chance.choice(passing) if chance.random() < share else "ok"

    return script


class HostileServer:
    """The server's side of a test.

    Attributes:
        asked: Attempts by prompt.
        answered: Complete, good replies by prompt.
        bodies: The last request for each prompt.
        authorizations: Every `Authorization` header seen.
        most_in_flight: Most requests open at once.
    """

    def __init__(self, script: Script, *, seconds: float = 0.0, respond: Respond | None = None) -> None:
        self.script = script
        self.respond = respond
        self.seconds = seconds
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.authorizations: set[str] = set()
        self.in_flight = self.most_in_flight = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n"))
        }
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = head.split(" ", 2)
        is_json = headers.get("content-type", "").startswith("application/json") and raw
        body = json.loads(raw) if is_json else {}
        prompt = body["messages"][-1]["content"] if "messages" in body else f"{method} {path} {body.get('prompt', '')}"
        self.asked[prompt] += 1
        self.bodies[prompt] = body
        self.authorizations.add(headers.get("authorization", ""))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
            fault = self.script(prompt, self.asked[prompt])
            if fault == "ok" and self.respond is not None:
                self._send(writer, *self.respond(method, path, raw))
                self.answered[prompt] += 1
                await writer.drain()
                return True
            return await self._reply(writer, prompt, fault, headers)
        finally:
            self.in_flight -= 1

    async def _reply(
        self, writer: asyncio.StreamWriter, prompt: str, fault: str | Mapping[str, Any], headers: dict[str, str]
    ) -> bool:
        if not isinstance(fault, str):
            body = {name: value for name, value in fault.items() if name != "status"}
            self._send(writer, fault.get("status", 200), body)
            await writer.drain()
            return True
        good = completion(answer_to(prompt))
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        if fault in ("hang", "flood"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            piece = b" " * (2**18 if fault == "flood" else 1)
            while True:
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.02 if fault == "hang" else 0)
        if fault.partition(" ")[0].isdecimal():
            status, _, extra = fault.partition(" ")
            wait = {"after": "0.01", "date": formatdate(usegmt=True), "long": "1000"}.get(extra)
            # As hosted servers do, the error repeats what it was sent.
            error = {"error": {"message": f"no: {headers.get('authorization')}", "code": extra or None}}
            self._send(writer, int(status), error, {} if wait is None else {"retry-after": wait})
        elif fault == "truncated":
            self._send(writer, 200, json.dumps(good)[:-40])
        else:
            good |= {
                "no choices": {"choices": []},
                "wrong model": {"model": "another-model"},
                "dated model": {"model": f"{MODEL}-2026-01-31"},
                "empty": {"choices": [{"finish_reason": "stop", "message": {"content": " "}}]},
                "cut off": {"choices": [{"finish_reason": "length", "message": {"content": "An answer t"}}]},
                "refusal": {
                    "choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "I cannot."}}]
                },
                "echo": {"choices": [{"message": {"content": f"I was sent {headers.get('authorization')}"}}]},
                "bare": {"usage": None, "model": None},
            }.get(fault, {})
            self._send(writer, 200, good)
            self.answered[prompt] += fault == "ok"
        await writer.drain()
        return True

    def _send(
        self, writer: asyncio.StreamWriter, status: int, content: object, headers: dict[str, str] | None = None
    ) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        size = len(text.encode())
        lines = [f"HTTP/1.1 {status} Whatever", "content-type: application/json", f"content-length: {size}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join([*lines, "", text]).encode())


@contextmanager
def hostile_server(script: Script, *, seconds: float = 0.0, respond: Respond | None = None) -> Iterator[HostileServer]:
    """A server in a thread of its own, on a free port.

    Args:
        script: What happens to each attempt.
        seconds: Time that a reply takes.
        respond: What is sent where nothing happens; a chat completion by default.
    """
    server = HostileServer(script, seconds=seconds, respond=respond)
    loop = asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()

    async def run() -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await done.wait()
        listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        if not ready.wait(30):
            raise RuntimeError("the server did not start")
        yield server
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()
