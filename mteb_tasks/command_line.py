"""mteb's command line with the Dino tasks: `dino-st mteb ...`, and the checks that come before `mteb run`."""

from __future__ import annotations

import difflib
import functools
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from dino_st.errors import ConfigurationError, DinoError, OutputError

Run = Callable[[Namespace], None]


def main(argv: Sequence[str]) -> int:
    """Hands over to mteb's own command line, with the Dino tasks and local models registered.

    Args:
        argv: The arguments after `dino-st mteb`, for example `["run", "-m", "./my-encoder", "-t", "DinoSTS12"]`; none
            shows mteb's help.

    Returns:
        The exit code: 0, 1 where something failed, 2 where the arguments are wrong.
    """
    from mteb.cli.build_cli import main as mteb_main

    from mteb_tasks.registry import register

    register()
    own_arguments = sys.argv
    sys.argv = ["dino-st mteb", *(argv or ["--help"])]
    try:
        mteb_main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = own_arguments
    return 0


def checked(run: Run) -> Run:
    """Puts checks of names and folders before `mteb run`, and turns dino-st's errors into a message and an exit code.

    Args:
        run: mteb's own function behind `mteb run`.

    Returns:
        A function to use in its place. It exits with code 2 where a name is unknown, with 1 where a model, data or a
        folder cannot be used.
    """

    @functools.wraps(run)
    def checked_run(args: Namespace) -> None:
        try:
            _check_names(args)
            _check_output_folder(args)
            run(args)
        except DinoError as error:
            from rich.console import Console

            Console(stderr=True).print(f"[bold red]Error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
            raise SystemExit(2 if isinstance(error, ConfigurationError) else 1) from error

    return checked_run


def _check_names(args: Namespace) -> None:
    from mteb_tasks.registry import known_benchmarks, known_tasks

    for kind, given, known in (("task", args.tasks, known_tasks), ("benchmark", args.benchmarks, known_benchmarks)):
        names = known() if given else []
        for name in given or ():
            if name not in names:
                nearest = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {nearest[0]!r}?" if nearest else "no name is similar to it."
                raise ConfigurationError(
                    f"There is no {kind} {name!r}; {hint} `mteb available-{kind}s` lists all of them."
                )


def _check_output_folder(args: Namespace) -> None:
    """Tries to write where `mteb run` will write its results, which it does only after the first task."""
    folder = Path(args.output_folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"The results cannot be written to '{folder}' ({error.strerror}). Give another folder with "
            "`--output-folder`."
        ) from error


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
