"""What the commands share: errors for people, exit codes, summaries."""

from __future__ import annotations

import codecs
import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from dino_st.cli.arguments import Spelling
from dino_st.errors import ConfigurationError, DinoError, DinoWarning, HubError, PendingError
from dino_st.support.text import printable


class _Console(Console):
    """A console to which text is text: no markup, no colours of its own, and a closed pipe ends no run."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Leaves it to `say`."""
        raise


console = _Console()
_spelling = Spelling(lambda: None)
errors = _Console(stderr=True)

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_HUB = 3
EXIT_PENDING = 4
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
INTERRUPTED = "Interrupted. Run the same command again; it goes on from what it had put on disk, if anything."
_SECONDS_TO_END = 1.0
_IN_ASCII = {
    "→": "->",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "–": "-",
    "±": "+-",
    "·": "*",
    "×": "x",
    "λ": "lambda",
    "√": "sqrt ",
}

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace what another run of dino-st left in --output; the same run goes on all the same."
    ),
]

P = ParamSpec("P")
R = TypeVar("R")


class _Terminated(SystemExit):
    """SIGTERM has come."""


def _terminate(*_: object) -> NoReturn:
    raise _Terminated(EXIT_TERMINATED)


@contextlib.contextmanager
def obey_sigterm() -> Iterator[None]:
    """Ends the process soon after SIGTERM, also where it stays in a library's code, or that swallows the exception.

    All that is written is written so that it may end at any moment. What libraries do at the end takes seconds.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while os.read(reader, 1) != bytes([signal.SIGTERM]):
            pass
        time.sleep(_SECONDS_TO_END)
        os.write(2, f"{INTERRUPTED}\n".encode())
        os._exit(EXIT_TERMINATED)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except _Terminated:
        os._exit(EXIT_TERMINATED)


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors into a message and an exit code: those of docs/reference/files.md.

    With `--debug` the traceback is shown as well.
    """
    spelling = Spelling(command)

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        global _spelling
        _spelling = spelling
        show_all_characters()
        _quieten_libraries()
        signal.signal(signal.SIGTERM, _terminate)
        try:
            try:
                return command(*args, **kwargs)
            except KeyboardInterrupt:
                _tell(INTERRUPTED)
                code = EXIT_INTERRUPTED
            except DinoError as error:
                _tell(str(error), *(("pending: ", "bold") if isinstance(error, PendingError) else ("error: ",)))
                code = exit_code(error)
            except Exception as error:
                if type(error).__module__.startswith(("click", "typer")):
                    raise
                _tell(*_worded(error))
                code = EXIT_FAILURE
        except _Terminated:  # in the command, or while it is told why that ends
            _tell(INTERRUPTED)
            raise
        raise SystemExit(code)

    return wrapper


def exit_code(error: BaseException) -> int:
    """The exit code of a command that an error ends."""
    codes = {ConfigurationError: EXIT_USAGE, HubError: EXIT_HUB, PendingError: EXIT_PENDING}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), EXIT_FAILURE)


def _worded(error: Exception) -> tuple[str, str]:
    """Words for an error that is not ours, of the system or perhaps a fault of dino-st, and how it begins."""
    if isinstance(error, UnicodeEncodeError) and "surrogates not allowed" in error.reason:
        return (
            f"{error.object[:200]!r} is not UTF-8, and a library that dino-st stands on takes nothing else; if this is "
            "the name of a file or directory, rename it",
            "error: ",
        )
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror}. The system refused this; look at permissions, at the room on the disk and in "
            "the place of temporary files (TMPDIR), and at HOME (HF_HOME for what comes from the hub)",
            "error: ",
        )
    text = f"{type(error).__name__}: {error}\nThis may be a fault in dino-st; run again with --debug for the traceback."
    return text, "unexpected error: "


def _tell(message: str, head: str = "", style: str = "bold red") -> None:
    """Prints a message to standard error, and with `--debug` the traceback of what is being handled."""
    with contextlib.suppress(OSError):
        errors.print(Text.assemble((head, style), as_typed(message)), soft_wrap=True)
        if "DINO_ST_DEBUG" in os.environ and style == "bold red" and sys.exc_info()[0] is not None:
            errors.print_exception()


def show_all_characters() -> None:
    """Lets the standard streams write in other characters what their encoding lacks, in place of an error."""
    codecs.register_error("dino_st", _in_other_characters)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="dino_st")


def _in_other_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(one, ascii(one)[1:-1]) for one in lacking), error.end


def as_typed(message: str) -> str:
    """A message of a stage with options as the running command spells them."""
    return _spelling.as_typed(message)


def say(content: Any, *, wrap: bool = False) -> None:
    """Prints text, or a table with `wrap`, to standard output; where nobody reads that, the run goes on."""
    try:
        console.print(content, soft_wrap=not wrap)
        console.file.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            _tell(f"standard output cannot be written ({error.strerror or error})", "warning: ", "bold yellow")


def print_pairs(examples: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Prints texts, or pairs of them, by label."""
    for label, rows in examples.items():
        say(f"Examples of label {printable(label)}:")
        for row in rows:
            say("  " + " → ".join(map(printable, row)))


class _Line(logging.Formatter):
    """A log line with options as they are typed."""

    def format(self, record: logging.LogRecord) -> str:
        return as_typed(super().format(record))


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what standard error is when a line comes."""

    @property
    def stream(self) -> Any:
        """The stream of now."""
        return sys.stderr

    @stream.setter
    def stream(self, _: Any) -> None:
        pass


OWN_SETTINGS = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Variables that the command line sets for itself, and that say nothing of a machine."""


def _quieten_libraries() -> None:
    """Our own messages go to standard error; libraries speak up only when something is wrong."""
    handler = _StandardError()
    handler.setFormatter(_Line("%(message)s"))
    own = logging.getLogger("dino_st")
    if not own.handlers:
        own.addHandler(handler)
        own.setLevel(logging.INFO)
        own.propagate = False
    warnings.showwarning = _show_warning
    if "DINO_ST_DEBUG" not in os.environ:
        for name, value in OWN_SETTINGS.items():
            os.environ.setdefault(name, value)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Our own warnings are for people; those of libraries are for their developers."""
    if issubclass(category, DinoWarning):
        _tell(str(message), "warning: ", "bold yellow")
    elif "DINO_ST_DEBUG" in os.environ:
        _tell(f"{category.__name__}: {message}", style="")
