from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import dino_st
from dino_st import errors

ROOT = Path(__file__).parents[1]


def test_the_public_names_are_these() -> None:
    assert dino_st.__all__ == [
        "DinoDatasetBuilder",
        "DinoError",
        "DinoWarning",
        "LabelSpec",
        "TaskSpec",
        "__version__",
        "evaluate_encoder",
        "generate_triplets",
        "prepare_pairs",
        "prepare_triplets",
        "push_to_hub",
        "read_reference_jsonl",
        "run_recipe",
        "to_dataloader",
        "to_input_examples",
        "to_triplets",
        "train_contrastive",
        "train_encoder",
        "warmup_steps",
    ]
    assert all(getattr(dino_st, name) is not None for name in dino_st.__all__)


def test_importing_the_package_is_quick_and_loads_no_heavy_library() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import dino_st; print(time.perf_counter() - start);"
        "print([name for name in ('torch', 'transformers', 'datasets', 'mteb', 'numpy') if name in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
        for _ in range(3)
    ]
    assert runs[0][1] == "[]"
    assert min(float(run[0]) for run in runs) < 0.15


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        """Of computing, since a machine that tests is busy."""
        before = os.times()
        subprocess.run(
            [sys.executable, "-c", "from dino_st.cli.main import main; main()", "--help"],
            check=True,
            capture_output=True,
        )
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(3)) < 2.0


def test_help_of_every_command_loads_no_heavy_library() -> None:
    code = (
        "import sys; from dino_st.cli.main import app\n"
        "for command in ('generate', 'prepare', 'train', 'evaluate', 'run', 'tasks'):\n"
        "    app([command, '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'datasets', 'mteb'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_error_is_also_the_built_in_that_fits() -> None:
    for error in errors.DinoError.__subclasses__():
        assert issubclass(error, ValueError | RuntimeError | ImportError), error


def test_an_error_message_suggests_the_nearest_legal_value() -> None:
    assert errors.suggest("sts-x3", ["sts-x1", "sts-x2"]).startswith("did you mean 'sts-x")
    assert errors.suggest("zzz", ["a", "b"]) == "Legal values: 'a', 'b'"


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert re.fullmatch(rf"\[{re.escape(version)}\] - (unreleased|\d{{4}}-\d\d-\d\d)", newest)
    assert dino_st.__version__ == version


def test_the_package_is_typed() -> None:
    assert (resources.files("dino_st") / "py.typed").is_file()
    assert (resources.files("mteb_tasks") / "py.typed").is_file()
