"""Ctrl-C in any command: exit code 130, a sentence about how to go on, and no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.cli.support import EXIT_INTERRUPTED, INTERRUPTED
from dino_st.models import LANGUAGE_MODEL, bundled_directory

STAGES = "dino_st.pipeline.stages"
WORK = {
    "quickstart": ("dino_st.pipeline.quickstart.run_quickstart", []),
    "run": ("dino_st.pipeline.recipe.run_recipe", ["quickstart", "--output", "o"]),
    "generate": (f"{STAGES}.generate_data", ["--model", "m", "--output", "o"]),
    "syncse": (f"{STAGES}.generate_triplet_data", ["--model", "m", "--output", "o"]),
    "merge": ("dino_st.generation.merging.merge_shards", ["a", "b", "--output", "o"]),
    "score": (f"{STAGES}.score_data", ["raw", "--model", "m", "--output", "o"]),
    "judge": (f"{STAGES}.judge_data", ["raw", "--model", "m", "--output", "o"]),
    "prepare": (f"{STAGES}.prepare_data", ["raw", "--output", "o"]),
    "prepare-triplets": (f"{STAGES}.prepare_triplet_data", ["raw", "--output", "o"]),
    "train": (f"{STAGES}.train_model", ["p", "--encoder", "e", "--output", "o"]),
    "train-contrastive": (f"{STAGES}.train_contrastive_model", ["p", "--encoder", "e", "--output", "o"]),
    "evaluate": (f"{STAGES}.evaluate_models", ["e"]),
    "audit": ("dino_st.inspection.audit.run_audit", ["p"]),
    "report": ("dino_st.inspection.report.write_report", ["p", "--output", "o"]),
    "mteb": ("mteb_tasks.command_line.main", ["run"]),
}
"""For each command that may take long, what does its work, and how it is called."""


def test_no_command_that_takes_long_is_left_out() -> None:
    assert {*get_command(app).commands} == {*WORK, "tasks", "version", "doctor"}  # type: ignore[attr-defined]  # a group


@pytest.mark.parametrize("command", WORK)
def test_ctrl_c_ends_a_command_with_130(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    work, arguments = WORK[command]
    monkeypatch.setattr(work, interrupted)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [command, *arguments])
    assert result.exit_code == EXIT_INTERRUPTED == 130
    assert INTERRUPTED in " ".join(result.output.split())
    if command != "mteb":  # whose command line is mteb's own
        result = CliRunner().invoke(app, [command, *arguments, "--json"])
        assert (result.exit_code, json.loads(result.stdout)["exit_code"]) == (130, 130)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself Ctrl-C on Windows")
@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--model", "dino-tiny", "--input", "s.txt", "--output", "raw"],
        ["score", "pairs.jsonl", "--model", "dino-tiny", "--output", "scored"],
        ["run", "quickstart", "--set", "limit=40", "--output", "out"],
        ["evaluate", f"mean:{bundled_directory(LANGUAGE_MODEL)}", "--pairs", "pairs.jsonl"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_signal_in_the_middle_of_a_model_ends_the_process_with_130(arguments: list[str], tmp_path: Path) -> None:
    texts = [f"A dog runs over field {number}." for number in range(40)]
    rows = [{"sentence1": text, "sentence2": f"{text} {i}", "score": i % 3 / 2} for i, text in enumerate(texts)]
    (tmp_path / "s.txt").write_text("\n".join(texts))
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    program = """\
import os, signal, sys
import torch

original, calls = torch.nn.functional.linear, []

def counted(*given, **named):
    calls.append(1)
    if len(calls) == 20:
        os.kill(os.getpid(), signal.SIGINT)
    return original(*given, **named)

torch.nn.functional.linear = counted
signal.signal(signal.SIGINT, signal.default_int_handler)  # which the children of `command &` in a script ignore
from dino_st.cli.main import main

sys.argv[0] = "dino-st"
main()
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == INTERRUPTED
    assert "Traceback" not in done.stderr
