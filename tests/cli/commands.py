"""The command line in the process of a test."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from dino_st.cli.main import app


def run(*arguments: object) -> Result:
    """Runs a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words_of(result: Result) -> str:
    """What a command said, however its lines were broken."""
    assert "Traceback" not in result.output
    return " ".join(result.output.split())
