"""Terminals, homes, directories and moments that a program does not choose: a finished run never ends in failure."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from dino_st.cli import support
from dino_st.cli.main import app
from dino_st.errors import InputError, OutputError
from dino_st.support.files import append_line, check_can_become_directory, write_text

HALF = os.fsdecode(b"caf\xe9")
"""The name of a file that is not UTF-8, as Python holds it."""


def dino(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | more.pop("env", {})
    command = [sys.executable, "-m", "dino_st", *map(str, arguments)]
    return subprocess.run(command, env=environment, **({"capture_output": True} | more))


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_run_ends_well_on_a_terminal_that_lacks_its_characters(
    encoding: str, tmp_path: Path, model_directory: Path
) -> None:
    (tmp_path / "s.txt").write_text("Ein Schläfer → schläft.\n日本\n", encoding="utf-8")
    arguments = ["generate", "--input", tmp_path / "s.txt", "--model", model_directory, "--output", tmp_path / "out[1]"]
    options = ["--device", "cpu", "--dtype", "float32", "--max-new-tokens", 14, "--top-k", 60, "--max-tries", 9]
    result = CliRunner(charset=encoding).invoke(app, [str(argument) for argument in (*arguments, *options)])
    assert result.exit_code == 0, result.output
    assert "-> " in result.output
    assert r"\u65e5\u672c" in result.output
    assert f"pairs in {tmp_path / 'out[1]'} (" in result.output


def test_help_and_tables_are_shown_where_only_ascii_is() -> None:
    for arguments in (["tasks"], ["generate", "--help"]):
        done = dino(*arguments, env={"PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stderr) == (0, b"")
        assert (
            done.stdout.isascii() or "--help" in arguments
        )  # click itself writes UTF-8 where it thinks ASCII a mistake


def test_the_help_of_every_command_can_be_read_in_cp1252() -> None:
    program = (
        "import sys\n"
        "from typer.main import get_command\n"
        "from dino_st.cli.main import app\n"
        "from dino_st.cli.support import show_all_characters\n"
        "show_all_characters()\n"
        "for name in get_command(app).commands:\n"
        "    if name != 'mteb':\n"  # whose help is mteb's
        "        app([name, '--help'], standalone_mode=False)\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("cp1252")
    others = {"mteb"}
    for name in get_command(app).commands.keys() - others:  # type: ignore[attr-defined]  # a group
        assert f" {name} " in text
    assert not re.search(r"\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|\?{2}", text)  # nothing is shown as a number


def test_every_step_runs_in_cp1252(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts, bars of tables and messages have characters that Windows' old encoding lacks."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"sentence1": f"日本 {i} → λ", "sentence2": f"Schläfer ≤ {i} ≠ {score}", "score": score}
        for i in range(20)
        for score in (0.0, 0.5, 1.0)
    ]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for arguments in (
        ["prepare", "pairs.jsonl", "--output", "prepared", "--explain"],
        ["prepare-triplets", "pairs.jsonl", "--output", "triplets"],
        ["train", "prepared", "--encoder", "dino-tiny-encoder", "--output", "model", "--batch-size", "16"],
        ["evaluate", "model", "tf-idf", "--pairs", "prepared/data/validation.parquet", "--output", "scores"],
        ["audit", "prepared", "-n", "1"],
        ["audit", "prepared", "--summary"],
        ["report", "prepared", "model", "scores", "--output", "report"],
        ["tasks"],
        ["version"],
    ):
        result = CliRunner(charset="cp1252").invoke(app, arguments, input="9\n5\n1\n0\n")
        assert result.exit_code == 0, f"{arguments}\n{result.output}\n{result.exception!r}"


@pytest.mark.parametrize("text", ["half \udcff of a surrogate", "[red]markup[/nonsense]", "a\x1b[31m"])
def test_errors_and_warnings_show_any_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    @support.friendly
    def fails() -> None:
        support._show_warning(support.DinoWarning(text), support.DinoWarning)
        support.say(text)
        raise InputError(text)

    with pytest.raises(SystemExit, match="1"):
        fails()
    shown = capsys.readouterr()
    assert all(text[:4] in part for part in (shown.out, shown.err))
    assert "Traceback" not in shown.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_nobody_can_read_ends_no_run() -> None:
    with Path("/dev/full").open("wb") as full:
        done = dino("tasks", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, b"standard output cannot be written" in done.stderr) == (0, True)
    reader, writer = os.pipe()
    os.close(reader)
    done = dino("tasks", stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_is_not_utf_8_is_written_as_json_escapes_it(tmp_path: Path) -> None:
    write_text(tmp_path / "record.json", f'{{"raw": "{HALF}"}}')
    append_line(tmp_path / "lines.jsonl", f'"{HALF}"')
    assert (tmp_path / "record.json").read_bytes() == rb'{"raw": "caf\udce9"}'
    assert (tmp_path / "lines.jsonl").read_bytes() == b'"caf\\udce9"\n'


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
def test_a_path_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    lines = [f'{{"text_a": "x{i}", "text_b": "y{i}", "label": {i % 2}}}\n' for i in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(lines))
    result = CliRunner().invoke(app, ["prepare", str(tmp_path / "pairs.jsonl"), "--output", str(tmp_path / HALF)])
    assert (result.exit_code, "the name is not UTF-8; rename the directory" in result.output) == (1, True)
    assert [place.name for place in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_training_into_a_path_that_is_not_utf_8_is_refused_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the name is not UTF-8"):
        check_can_become_directory(tmp_path / HALF)
    check_can_become_directory(tmp_path / "café?")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a place where nobody may write")
def test_a_home_that_cannot_be_written_stops_no_evaluation(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score\na cat,a cat,1\na cat,a dog,0\nthe dog,a dog,0.9\n")
    arguments = ["evaluate", "token-jaccard", "--pairs", "pairs.csv", "--output", "scores"]
    done = dino(*arguments, env={"HOME": "/proc", "TMPDIR": "/proc", "PYTHONIOENCODING": "ascii"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/tmp/x"), "/tmp/x: No space left on device."),
        (FileNotFoundError(2, "No usable temporary directory found in ['/a']"), "TMPDIR"),
        (UnicodeEncodeError("utf-8", HALF, 3, 4, "surrogates not allowed"), "is not UTF-8"),
    ],
)
def test_what_the_system_refuses_is_no_fault_of_ours(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @support.friendly
    def fails() -> None:
        raise error

    with pytest.raises(SystemExit, match="1"):
        fails()
    shown = capsys.readouterr().err
    assert words in shown
    assert "fault in dino-st" not in shown


def started(code: str) -> subprocess.Popen[str]:
    """A process that has said that it runs."""
    begun = "import sys, time\nfrom dino_st.cli.support import friendly, obey_sigterm\n"
    process = subprocess.Popen(
        [sys.executable, "-c", begun + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    return process


@pytest.mark.parametrize(
    "work",
    [
        "import ctypes; ctypes.CDLL(None).sleep(60)",  # a library's code, to which Python gives no signal
        "    while True:\n        try: time.sleep(60)\n        except BaseException: pass",
    ],
)
def test_sigterm_is_obeyed_within_two_seconds_wherever_it_comes(work: str) -> None:
    body = work if work.startswith(" ") else f"    {work}"
    process = started(
        f"@friendly\ndef work():\n    print('runs', flush=True)\n{body}\nwith obey_sigterm():\n    work()\n"
    )
    time.sleep(0.2)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=30)[1]
    assert time.monotonic() - start < 2.5
    assert (process.returncode, "Run the same command again" in message) == (143, True)


@pytest.mark.parametrize("error", [InputError, ValueError])
def test_sigterm_while_an_error_is_worded_ends_no_command_in_silence(
    error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    class Late(error):  # type: ignore[misc,valid-type]  # made in the test
        def __str__(self) -> str:
            signal.raise_signal(signal.SIGTERM)
            return "told"

    @support.friendly
    def fails() -> None:
        raise Late

    with pytest.raises(SystemExit, match="143"):
        fails()
    assert "Run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.3])
def test_ctrl_c_at_the_start_shows_no_traceback(seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-c", "from dino_st.__main__ import main; main()", "tasks"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    for line in process.stderr:  # Python itself is up, and our own code is there to catch what comes
        if line.endswith(" dino_st.cli\n"):
            break
    time.sleep(seconds - 0.1)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert "Traceback" not in message
    # Python takes its handler away while it shuts down after the command; the signal itself ends it then:
    # 130 in a shell.
    assert process.returncode in (0, 130, -signal.SIGINT)


@pytest.mark.parametrize("address", ["s3://bucket/raw", "gs://bucket/raw", "hf://datasets/me/raw"])
def test_an_address_is_no_directory(address: str) -> None:
    with pytest.raises(OutputError, match=r"this is an address \((s3|gs|hf)\), and a directory is expected; mount it"):
        check_can_become_directory(Path(address))
