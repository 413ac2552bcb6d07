"""`--json`: one JSON object about what came out on standard output, and everything else on standard error."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Annotated, Any

import typer

import dino_st
from dino_st.cli.arguments import sign
from dino_st.cli.support import EXIT_INTERRUPTED, exit_code, say
from dino_st.errors import DinoWarning
from dino_st.training.distributed import is_first

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object about the outcome; everything else goes to standard error."),
]

_facts: ContextVar[dict[str, Any] | None] = ContextVar("facts", default=None)


def note(**facts: Any) -> None:
    """Adds facts to the summary of the command that is running, if one is asked for."""
    known = _facts.get()
    if known is not None:
        known.update(facts)


def summarised(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the option `--json`; what it tells `note` is printed at its end, also where it fails."""
    name = command.__name__.replace("_", "-")

    @functools.wraps(command)
    def wrapper(*, as_json: bool, **given: Any) -> None:
        if not as_json:
            command(**given)
            return
        facts: dict[str, Any] = {"command": name, "dino_st": dino_st.__version__, "exit_code": 0, "error": None}
        told: list[str] = []
        token, start = _facts.set(facts), time.monotonic()
        try:
            with _on_standard_error(), _collecting_warnings(told):
                command(**given)
        except BaseException as error:
            facts.update(exit_code=_exit_code(error), error=_worded(error))
            raise
        finally:
            _facts.reset(token)
            if is_first():  # of several processes that train together
                say(json.dumps(_plain(facts | {"seconds": round(time.monotonic() - start, 3), "warnings": told})))

    asked = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
    sign(wrapper, [*inspect.signature(command, eval_str=True).parameters.values(), asked])
    return wrapper


def _exit_code(error: BaseException) -> int:
    """The exit code that an exception ends a command with."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    code = getattr(error, "exit_code", getattr(error, "code", None))
    if isinstance(code, int):
        return code
    return exit_code(error)


def _worded(error: BaseException) -> dict[str, str] | None:
    """Kind and message; None where a command ends with an exit code of its own choice."""
    if isinstance(error, SystemExit | typer.Exit):
        return None
    return {"kind": type(error).__name__, "message": str(error)}


@contextlib.contextmanager
def _on_standard_error() -> Iterator[None]:
    """Sends what is printed to standard error, by Python or by a library of another language."""
    with contextlib.ExitStack() as undone, contextlib.redirect_stdout(sys.stderr):
        with contextlib.suppress(OSError):  # there may be no such stream
            kept = os.dup(1)
            undone.callback(os.close, kept)
            os.dup2(2, 1)
            undone.callback(os.dup2, kept, 1)
        yield


@contextlib.contextmanager
def _collecting_warnings(told: list[str]) -> Iterator[None]:
    """Adds what dino-st warns of to a list; it is shown all the same."""
    shown, logger, handler = warnings.showwarning, logging.getLogger("dino_st"), logging.Handler(logging.WARNING)

    def keep(message: Warning | str, category: type[Warning], *more: Any, **named: Any) -> None:
        if issubclass(category, DinoWarning):
            told.append(str(message))
        shown(message, category, *more, **named)

    vars(handler)["emit"] = lambda record: told.append(record.getMessage())
    logger.addHandler(handler)
    warnings.showwarning = keep
    try:
        yield
    finally:
        warnings.showwarning = shown
        logger.removeHandler(handler)


def _plain(value: Any) -> Any:
    """A value as JSON knows it: paths as text, and null for a number that is none."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
