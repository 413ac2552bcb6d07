"""`--json`: one object on standard output, and nothing else there."""

from __future__ import annotations

import ast
import json
import logging
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.cli.summary import note, summarised
from dino_st.errors import DinoWarning, InputError

ROOT = Path(__file__).parents[2]
COMMON = {"command", "dino_st", "exit_code", "error", "seconds", "warnings"}


def summary(result: Result) -> dict[str, Any]:
    """The one line on standard output."""
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found.keys() >= COMMON
    assert found["exit_code"] == result.exit_code
    return found


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("json")
    directory = home / "raw"
    lines = (ROOT / "recipes/quickstart-sentences.txt").read_text(encoding="utf-8").splitlines()[:12]
    (home / "x1.txt").write_text("\n".join(lines), encoding="utf-8")
    result = run("generate", "--model", "dino-tiny", "--input", home / "x1.txt", "--output", directory, "--json")
    found = summary(result)
    (home / "summary.json").write_text(json.dumps(found))
    assert "pairs in" in result.stderr  # what people read goes to standard error
    return directory


def test_a_command_in_a_shared_fixture_leaves_the_process_as_it_was(raw: Path) -> None:
    ours = logging.getLogger("dino_st")
    handlers = [type(handler) for handler in ours.handlers]
    assert (ours.level, ours.propagate, handlers) == (logging.NOTSET, True, [logging.NullHandler])
    assert warnings.showwarning.__module__ == "warnings"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_was_generated_is_summed_up(raw: Path) -> None:
    found = json.loads((raw.parent / "summary.json").read_text())
    assert (found["command"], found["kind"], found["output"]) == ("generate", "pairs", str(raw))
    assert found["rows"] == found["new_rows"] == found["counts"]["rows"] == 12 * 3 * 2 - found["counts"]["given up"]
    assert sum(found["rejected"].values()) == found["counts"]["tries"] - found["rows"]


def test_what_was_prepared_is_summed_up(raw: Path, tmp_path: Path) -> None:
    found = summary(run("prepare", raw, "--output", tmp_path / "prepared", "--json"))
    assert found["rows"] == found["splits"]["train"] + found["splits"]["validation"]
    assert set(found["rejected"]) == {"blank", "identical", "duplicate", "over_cap"}
    assert summary(run("prepare", raw, "--output", tmp_path / "prepared", "--json"))["rows"] == found["rows"]


@pytest.mark.filterwarnings("default::dino_st.errors.DinoWarning")
def test_training_and_scores_are_summed_up(raw: Path, tmp_path: Path) -> None:
    run("prepare", raw, "--output", tmp_path / "prepared")
    train = ("train", tmp_path / "prepared", "--encoder", "dino-tiny-encoder", "--output", tmp_path / "model")
    found = summary(run(*train, "--json"))
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert found["scores"] == {name: record[name] for name in ("start", "best", "curve")}
    assert found["data"]["train pairs"] == record["data"]["train pairs"]
    assert any("validation split" in line for line in found["warnings"])  # which is small
    averaged = (*train[:-1], tmp_path / "averaged", "--start-share", "0.5", "--json")
    averages = summary(run(*averaged))["scores"]["averages"]
    assert averages == json.loads((tmp_path / "averaged" / "training.json").read_text())["averages"]
    assert averages[0]["start_share"] == 0.5
    pairs = tmp_path / "prepared" / "data" / "validation.parquet"
    scores = summary(run("evaluate", "dino-tiny-encoder", "--pairs", pairs, "--json"))["scores"]
    assert scores["dino-tiny-encoder"].keys() >= {"average"}


def test_a_failure_is_in_the_object_and_on_standard_error(tmp_path: Path) -> None:
    result = run("prepare", tmp_path / "nowhere", "--output", tmp_path / "out", "--json")
    error = summary(result)["error"]
    assert error["kind"] == "InputError"
    assert error["message"] == f"{tmp_path / 'nowhere'}: there is no such file or directory"
    assert f"error: {error['message']}" in result.stderr
    wrong = summary(run("prepare", tmp_path, "--output", tmp_path / "out", "--max-words", "0", "--json"))
    assert (wrong["exit_code"], wrong["error"]["kind"]) == (2, "ConfigurationError")


def test_names_and_versions_are_listed() -> None:
    found = summary(run("tasks", "--json"))
    assert {"sts-x2", "syncse-partial"} <= set(found["tasks"])
    assert "quickstart" in found["recipes"]
    assert summary(run("version", "--json"))["versions"]["python"]


def test_every_command_but_that_of_mteb_has_it() -> None:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    without = {name for name in names if "--json" not in run(name.replace("_", "-"), "--help").output}
    assert without == {"mteb"}


def invoke(command: Any, *arguments: str) -> Result:
    own = typer.Typer()
    own.command()(summarised(command))
    return CliRunner().invoke(own, list(arguments))


def test_values_without_a_place_in_json_become_text_or_null() -> None:
    def some_command() -> None:
        note(output=Path("here"), scores={"one": float("nan"), 2: (1.5, None, True)})

    found = summary(invoke(some_command, "--json"))
    assert found["command"] == "some-command"
    assert found["scores"] == {"one": None, "2": [1.5, None, True]}
    assert found["output"] == "here"
    assert invoke(some_command).stdout == ""


@pytest.mark.parametrize(
    ("error", "code", "kind"), [(KeyboardInterrupt(), 130, "KeyboardInterrupt"), (InputError("x"), 1, "InputError")]
)
def test_an_end_before_its_time_is_told_with_its_exit_code(error: BaseException, code: int, kind: str) -> None:
    def command() -> None:
        note(rows=3)
        raise error

    (line,) = invoke(command, "--json").stdout.splitlines()
    found = json.loads(line)
    assert (found["exit_code"], found["error"]["kind"], found["rows"]) == (code, kind, 3)


def test_an_exit_code_of_the_commands_own_is_no_error() -> None:
    def command() -> None:
        raise typer.Exit(1)

    found = summary(invoke(command, "--json"))
    assert (found["exit_code"], found["error"]) == (1, None)


def test_warnings_are_collected() -> None:
    def command() -> None:
        warnings.warn("mind this", DinoWarning, stacklevel=1)
        warnings.warn("a library's own", UserWarning, stacklevel=1)

    with pytest.warns(DinoWarning, match="mind this"), pytest.warns(UserWarning, match="a library's own"):
        found = summary(invoke(command, "--json"))
    assert found["warnings"] == ["mind this"]


def test_what_libraries_print_whatever_they_print_it_with_is_not_on_standard_output() -> None:
    program = (
        "import os, sys, typer\n"
        "from dino_st.cli.summary import note, summarised\n"
        "early = sys.stdout\n"
        "def command():\n"
        "    print('by print'); print('by an old stream', file=early, flush=True); os.write(1, b'by the system\\n')\n"
        "app = typer.Typer(); app.command()(summarised(command)); app()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["exit_code"] == 0
    assert [f"by {what}" in done.stderr for what in ("print", "an old stream", "the system")] == [True] * 3


def test_the_reference_has_every_field() -> None:
    page = (ROOT / "docs/reference/json.md").read_text(encoding="utf-8")
    documented = {
        name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    noted = set()
    for file in (ROOT / "dino_st/cli").glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "note":
                noted |= {str(keyword.arg) for keyword in call.keywords if keyword.arg}
    assert documented == noted | COMMON
