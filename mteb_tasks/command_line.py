"""mteb's command line with the Dino tasks in it: `dino-st mteb …`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dino_st.support.files import make_directory
from mteb_tasks.registry import check_names, known_benchmarks, known_tasks, register


def main(argv: Sequence[str]) -> None:
    """Hands over to mteb's own command line, with the Dino tasks and local models registered.

    `run` loads the model before it looks at the names of tasks, and writes its first result after the first task; here
    both are looked at before. Without arguments it shows mteb's help. Besides a DinoError there is argparse's
    SystemExit, for `--help` and for wrong arguments.
    """
    from mteb.cli import build_cli as command_line

    register()
    own_arguments = sys.argv
    sys.argv = ["dino-st mteb", *(argv or ["--help"])]
    try:
        arguments = command_line.build_cli().parse_args()
        if getattr(arguments, "func", None) is command_line.run:
            for kind, known in (("task", known_tasks), ("benchmark", known_benchmarks)):
                given = getattr(arguments, f"{kind}s") or ()
                check_names(kind, given, known() if given else [], f"`mteb available-{kind}s` lists all of them.")
            make_directory(Path(arguments.output_folder))
        command_line.main()
    finally:
        sys.argv = own_arguments
