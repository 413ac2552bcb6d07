"""The script of the device check, where there is no device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(["bash", SCRIPT, *options], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_every_part_runs_for_a_moment_on_the_cpu() -> None:
    done = run("--tiny")
    assert done.returncode == 0, done.stderr
    parts = re.findall(r"^== (?!done)(.*) \(at most", done.stdout, re.MULTILINE)
    assert len(parts) == 5 + 1  # training, too
    assert len(re.findall(r"^== done in \d+ s$", done.stdout, re.MULTILINE)) == len(parts)
    assert '"seconds for each x1"' in done.stdout
    assert '"operations"' in done.stdout


def test_all_parts_together_take_less_than_nine_minutes() -> None:
    limits = re.findall(r'^ *part "[^"]*" (\d+) ', SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(limits) == 8
    assert sum(map(int, limits)) < 540


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_and_with_an_unknown_option_it_says_what_to_do() -> None:
    assert (run().returncode, run("--small").returncode) == (2, 2)
    assert "torch sees no GPU here; --tiny runs every part on the CPU" in run().stderr
    assert "unknown option --small: expected --tiny, --model DIR or --sentences FILE" in run("--small").stderr
