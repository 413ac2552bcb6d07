"""The patch that is proposed to mteb, applied to a copy of the installed one, makes the start-up hook needless."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import mteb
import pytest

from tests.mteb_tasks.fixtures import write_sts_directory

ROOT = Path(__file__).parents[2]
PATCH = ROOT / "docs/upstream/mteb-entry-points.patch"
ENTRY_POINTS = """\
[mteb.tasks]
dino-st = mteb_tasks.tasks:ALL_TASKS
[mteb.benchmarks]
dino-st = mteb_tasks.tasks:make_benchmark
[mteb.models]
dino-st = mteb_tasks.local_models:find_local_model
"""
CHECK = """\
import sys, mteb
assert mteb.__file__.startswith(sys.argv[1]), mteb.__file__
print(mteb.get_task("DinoSTS12").metadata.name)
print("DinoSTS12" in [task.metadata.name for task in mteb.get_tasks(task_types=["STS"], languages=["eng"])])
print(len(mteb.get_benchmark("DinoSTS(eng, v1)").tasks))
"""


@pytest.fixture
def patched(tmp_path: Path) -> Path:
    """A directory with the patched mteb, and the entry points that dino-st would have."""
    if version("mteb") != "2.26.24":
        pytest.skip("the patch is against mteb 2.26.24")
    if shutil.which("patch") is None:
        pytest.skip("the program patch is not installed")
    place = tmp_path / "site"
    shutil.copytree(Path(mteb.__file__).parent, place / "mteb", ignore=shutil.ignore_patterns("descriptive_stats"))
    (place / "mteb/descriptive_stats").symlink_to(Path(mteb.__file__).parent / "descriptive_stats")
    subprocess.run(["patch", "-p1", "-d", str(place), "-i", str(PATCH)], check=True, capture_output=True)
    shown = place / "dino_st_plugin-1.dist-info"
    shown.mkdir()
    (shown / "METADATA").write_text("Metadata-Version: 2.1\nName: dino-st-plugin\nVersion: 1\n")
    (shown / "entry_points.txt").write_text(ENTRY_POINTS)
    return place


def python(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)]),
        "DINO_ST_NO_AUTOLOAD": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment | variables,
        cwd=place.parent,
        timeout=600,
    )


@pytest.mark.slow
def test_the_patched_mteb_finds_tasks_benchmark_and_local_models_without_the_hook(
    patched: Path, tmp_path: Path
) -> None:
    found = python(patched, "-c", CHECK, str(patched))
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["DinoSTS12", "True", "7"]
    without = python(patched, "-c", CHECK, str(patched), MTEB_PLUGINS="0")
    assert "DinoSTS12" in without.stderr
    assert without.returncode == 1

    data = write_sts_directory(tmp_path / "sts")
    shutil.copytree(ROOT / "dino_st/models/dino-tiny-encoder", tmp_path / "my-encoder")
    command = ["-m", "mteb", "run", "-m", "./my-encoder", "-t", "DinoSTS13", "--output-folder", "results", "-v", "0"]
    ran = python(patched, *command, DINO_ST_STS_DIR=str(data))
    assert ran.returncode == 0, ran.stderr
    assert list((tmp_path / "results").rglob("DinoSTS13.json"))
