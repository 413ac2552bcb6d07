"""The start-up hook: makes the plain `mteb` command know the Dino tasks and local models.

`dino_st_mteb.pth` (from Python 3.15 on `dino_st_mteb.start`) calls `install` at every start of Python. It does nothing
unless the program is `mteb` or `python -m mteb`; there it waits until mteb's command line is imported, and then calls
`mteb_tasks.register()`. `DINO_ST_NO_AUTOLOAD=1` switches it off. It prints nothing, and imports nothing but the
standard library before mteb itself is imported.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SWITCH_OFF = "DINO_ST_NO_AUTOLOAD"
COMMAND_LINE = "mteb.cli.build_cli"
_PROGRAMS = ("mteb", "mteb.exe", "mteb-script.py")


def install() -> None:
    """Waits for mteb's command line, where this Python was started to run it; never raises."""
    # Whatever goes wrong here would be printed at the start of programs that have nothing to do with mteb.
    try:
        if os.environ.get(SWITCH_OFF, "") in ("", "0") and runs_mteb(sys.argv, sys.orig_argv):
            sys.meta_path.insert(0, _CommandLineFinder())
    except Exception:  # noqa: BLE001
        pass


def runs_mteb(argv: Sequence[str], orig_argv: Sequence[str]) -> bool:
    """Whether the program (`sys.argv` and `sys.orig_argv`) is the console script `mteb` or `python -m mteb`.

    While Python starts, the first item of `sys.argv` is `-m` for `python -m module`.
    """
    if argv[0] == "-m":  # the module's name is what stands right before the program's own arguments
        return orig_argv[-len(argv)].removeprefix("-m") == "mteb"
    return os.path.basename(argv[0]) in _PROGRAMS  # noqa: PTH119 (pathlib takes ten times as long to import as all of this)


class _CommandLineFinder:
    """Finds mteb's command line as usual, and registers the Dino tasks once it has been executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != COMMAND_LINE:
            return None
        sys.meta_path.remove(self)
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register() -> None:
    try:
        from mteb_tasks.registry import register
    except ImportError:  # dino-st is half uninstalled; mteb works without it
        return
    register()
