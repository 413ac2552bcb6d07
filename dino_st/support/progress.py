"""Progress of long work: a bar on a terminal; lines in a log, soon and then one a minute."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_FIRST_LINE, _EVERY = 5.0, 60.0
"""Seconds before the first line of a log, and between two of them in the end."""

logger = logging.getLogger("dino_st")


class Advance(Protocol):
    """Takes how much was just finished, and perhaps what to show instead of the speed."""

    def __call__(self, amount: int, pace: str = "") -> None:
        """Shows it."""


@contextmanager
def progress(description: str, total: int, unit: str, *, done: int = 0, shown: bool = True) -> Iterator[Advance]:
    """Shows how far some work is, how fast it goes and how long it will take.

    The unit, in the plural, is what `total` and `done` (before) count; the function takes what was just finished.
    """
    if not shown:
        yield lambda amount, pace="": None  # noqa: ARG005
    elif sys.stderr is not None and sys.stderr.isatty():
        with _bar(description, total, unit, done) as advance:
            yield advance
    else:
        yield _log_lines(description, total, unit, done)


@contextmanager
def _bar(description: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600) as bar:  # waves may take long
        task = bar.add_task(description, total=total, completed=done, rate="")
        finished = 0

        def advance(amount: int, pace: str = "") -> None:
            nonlocal finished
            finished += amount
            rate = finished / max(time.monotonic() - start, 1e-9)
            bar.update(task, advance=amount, rate=pace or f"{rate:.1f}/s")

        yield advance


def _log_lines(description: str, total: int, unit: str, done: int) -> Advance:
    """Lines after 5, 10, 15, 22, … seconds, as far as something was finished then; in the end one a minute."""
    start = last = time.monotonic()
    finished = 0

    def advance(amount: int, pace: str = "") -> None:
        nonlocal last, finished
        finished += amount
        now = time.monotonic()
        if now - last < min(max(_FIRST_LINE, (last - start) / 2), _EVERY):
            return
        last = now
        rate = finished / (now - start)
        left = (total - done - finished) / rate if rate else float("inf")
        shown = (description, done + finished, total, unit, pace or f"{rate:.1f}/s", left)
        logger.info("%s: %d of %d %s, %s, about %.0f s left", *shown)

    return advance
