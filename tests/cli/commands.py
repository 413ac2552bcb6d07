"""The command line in the process of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from typer.testing import CliRunner, Result

from dino_st.cli.main import app


def run(*arguments: object) -> Result:
    """Runs a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


_PROGRAM = """\
import json, sys
from typer.testing import CliRunner
from dino_st.cli.main import app
for arguments in json.load(sys.stdin):
    done = CliRunner().invoke(app, arguments)
    print(json.dumps([done.exit_code, done.output, [name for name in sys.argv[1:] if name in sys.modules]]))
"""


def run_light(commands: Sequence[Sequence[object]], place: Path, heavy: Sequence[str]) -> list[tuple[int, str]]:
    """Exit codes and words of commands that one new process runs in a place, none of which imports what is heavy."""
    given = json.dumps([[str(argument) for argument in arguments] for arguments in commands])
    program = [sys.executable, "-c", _PROGRAM, *heavy]
    done = subprocess.run(program, input=given, capture_output=True, text=True, cwd=place, check=True)
    found = []
    for arguments, line in zip(commands, done.stdout.splitlines(), strict=True):
        code, output, imported = json.loads(line)
        assert imported == [], f"{arguments} imports {imported}"
        assert "Traceback" not in output, output
        found.append((code, " ".join(output.split())))
    return found


def words_of(result: Result) -> str:
    """What a command said, however its lines were broken."""
    assert "Traceback" not in result.output
    return " ".join(result.output.split())
