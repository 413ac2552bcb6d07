"""What the shell completes, and that it does so without loading anything heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dino_st.tasks.spec import builtin_tasks

PROGRAM = (
    "import sys; from dino_st.cli.main import main\n"
    "try: main()\n"
    "finally: print(','.join(sorted({'torch', 'transformers', 'datasets', 'mteb', 'numpy'} & set(sys.modules))))\n"
)


def complete(words: str) -> list[str]:
    """What bash is offered for the last word; the last line names heavy modules that were imported."""
    number = len(words.split(" ")) - 1
    variables = {"_DINO_ST_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    file = Path(__file__).with_name("dino-st")
    program = f"import sys; sys.argv = ['{file.name}']\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ | variables
    )
    *names, heavy = done.stdout.splitlines()
    assert heavy == ""
    return names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("dino-st prep", ["prepare", "prepare-triplets"]),
        ("dino-st generate --tas", ["--task"]),
        ("dino-st generate --task ", builtin_tasks()),
        ("dino-st syncse --task s", ["syncse-partial", "syncse-scratch"]),
        ("dino-st generate --model d", ["dino-tiny"]),
        ("dino-st train --encoder d", ["dino-tiny-encoder"]),
        ("dino-st train --report-to t", ["tensorboard", "trackio"]),
        ("dino-st run sts", ["sts-dino-joint", "sts-dino-x1x2", "sts-dino-x2"]),
        ("dino-st evaluate dino", ["dino-tiny-encoder"]),
    ],
)
def test_names_are_completed_without_loading_anything_heavy(words: str, names: list[str]) -> None:
    assert complete(words) == names
