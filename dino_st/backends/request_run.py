"""One call to a server backend: what is asked, what has come, how fast, and when to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from dino_st.backends.chat import ChatReply, ChatRequest
from dino_st.errors import DinoError


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
