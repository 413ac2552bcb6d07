"""What the commands share: errors for people, exit codes, summaries."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from typer.core import TyperGroup

from dino_st.errors import ConfigurationError, DinoError, DinoWarning
from dino_st.support.text import printable
from dino_st.support.versions import versions

if TYPE_CHECKING:
    from dino_st.pipeline.stages import GenerationOutcome


console = Console()
errors = Console(stderr=True)

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_INTERRUPTED = "Interrupted. What was finished is on disk; run the same command to continue."

P = ParamSpec("P")
R = TypeVar("R")


def group() -> type[TyperGroup]:
    """A command group that takes `--debug` anywhere, before or after the command."""

    class DebuggableGroup(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            passed_on = args.index("mteb") if "mteb" in args[:2] else len(args)
            if "--debug" in args[:passed_on]:
                os.environ["DINO_ST_DEBUG"] = "1"
                args = [arg for i, arg in enumerate(args) if arg != "--debug" or i > passed_on]
            return super().parse_args(ctx, args)

    return DebuggableGroup


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


def option_of(field: FieldInfo, *names: str, **more: Any) -> Any:
    """An option of a command whose help is the description of an option model's field."""
    text = field.description or ""
    sentence = (text if text.startswith("auto") else text[:1].upper() + text[1:]) + "."
    return typer.Option(*names, help=sentence, **more)


def prompt_settings(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Takes from a command's parameters those that are options of a step and were given a value."""
    wanted = set(names)
    return {name: value for name, value in values.items() if name in wanted and value is not None}


def print_generation_summary(outcome: GenerationOutcome, output: Path) -> None:
    """Prints what came out: rows, rejections by reason, speed, and examples of each label."""
    counts = outcome.counts
    speed = f", {outcome.new_rows / outcome.seconds:,.1f} a second" if outcome.new_rows else ""
    console.print(
        f"{counts.get('rows', 0):,} {outcome.kind} in {output} ({outcome.seconds:.1f} s{speed})", highlight=False
    )
    for name, count in sorted(counts.items()):
        if name.startswith(("rejected", "skipped", "given up", "duplicate")) and count:
            console.print(f"  {name}: {count:,}", highlight=False)
    print_pairs(outcome.examples)


def print_pairs(examples: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Prints texts, or pairs of them, by label."""
    for label, rows in examples.items():
        console.print(f"Examples of label {label}:", highlight=False)
        for row in rows:
            console.print("  " + _escape(" → ".join(map(printable, row))), highlight=False, soft_wrap=True)


def print_tasks() -> None:
    """Prints the built-in tasks with their labels, and the recipes."""
    from rich.table import Table

    from dino_st.pipeline.recipe import recipe_names
    from dino_st.tasks.spec import TaskSpec, builtin_tasks
    from dino_st.tasks.syncse import PartialSpec, load_syncse_spec, syncse_tasks

    table = Table("task", "writes", "labels (counter-labels)")
    for name in builtin_tasks():
        spec = TaskSpec.load(name)
        labels = (
            f"{label} ({', '.join(label_spec.counter_labels)})" if label_spec.counter_labels else label
            for label, label_spec in spec.labels.items()
        )
        table.add_row(name, "pairs for given texts" if spec.needs_input else "texts from scratch", ", ".join(labels))
    for name in syncse_tasks():
        given = (
            "triplets for given texts" if isinstance(load_syncse_spec(name), PartialSpec) else "triplets from scratch"
        )
        table.add_row(name, given, "anchor, positive, negative")
    console.print(table)
    console.print(f"Recipes for `dino-st run`: {', '.join(recipe_names())}", highlight=False)


def print_versions() -> None:
    """Prints the versions of the package, Python, and the libraries below."""
    packages = ("dino-st", "sentence-transformers", "mteb", "transformers", "torch", "datasets", "python")
    for name, version in versions(*packages).items():
        console.print(f"{name} {version}", highlight=False)


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
