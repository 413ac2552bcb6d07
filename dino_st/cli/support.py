"""What the commands share: errors for people, exit codes, summaries."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, ParamSpec, TypeVar

from rich.console import Console

from dino_st.errors import ConfigurationError, DinoError, DinoWarning
from dino_st.support.text import printable

console = Console()
errors = Console(stderr=True)

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_INTERRUPTED = "Interrupted. What was finished is on disk; run the same command to continue."

P = ParamSpec("P")
R = TypeVar("R")


class _Terminated(SystemExit):
    """SIGTERM has come."""


def _terminate(*_: object) -> NoReturn:
    raise _Terminated(EXIT_TERMINATED)


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors into a message and an exit code: 1 for failures, 2 for wrong options, 130 for Ctrl-C, 143 for TERM.

    With `--debug` the traceback is shown as well.
    """

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        _quieten_libraries()
        signal.signal(signal.SIGTERM, _terminate)
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            errors.print(_INTERRUPTED)
            _trace()
            raise SystemExit(EXIT_INTERRUPTED) from None
        except _Terminated:
            errors.print(_INTERRUPTED)
            raise
        except DinoError as error:
            errors.print(f"[bold red]error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
            _trace()
            raise SystemExit(EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_FAILURE) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise SystemExit(EXIT_FAILURE) from None
        except Exception as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise
            errors.print(
                f"[bold red]unexpected error:[/] {type(error).__name__}: {_escape(str(error))}\n"
                "This may be a fault in dino-st; run again with --debug for the traceback.",
                highlight=False,
                soft_wrap=True,
            )
            _trace()
            raise SystemExit(EXIT_FAILURE) from None

    return wrapper


def print_pairs(examples: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Prints texts, or pairs of them, by label."""
    for label, rows in examples.items():
        console.print(f"Examples of label {label}:", highlight=False)
        for row in rows:
            console.print("  " + _escape(" → ".join(map(printable, row))), highlight=False, soft_wrap=True)


def _quieten_libraries() -> None:
    """Our own messages go to standard error; libraries speak up only when something is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    own = logging.getLogger("dino_st")
    if not own.handlers:
        own.addHandler(handler)
        own.setLevel(logging.INFO)
        own.propagate = False
    warnings.showwarning = _show_warning
    if "DINO_ST_DEBUG" not in os.environ:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Our own warnings are for people; those of libraries are for their developers."""
    if issubclass(category, DinoWarning):
        errors.print(f"[bold yellow]warning:[/] {_escape(str(message))}", highlight=False, soft_wrap=True)
    elif "DINO_ST_DEBUG" in os.environ:
        errors.print(f"{category.__name__}: {_escape(str(message))}", highlight=False, soft_wrap=True)


def _trace() -> None:
    if "DINO_ST_DEBUG" in os.environ:
        errors.print_exception()


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
