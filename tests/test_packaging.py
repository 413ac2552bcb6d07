from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dino_st

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would be published."""
    output = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(output.glob("*.whl"))


def test_the_wheel_carries_code_tasks_recipes_and_type_marks(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"dino_st/py.typed", "mteb_tasks/py.typed", "dino_st/tasks/specs/sts-x2.json", "dino_st/recipes/README.md"}
    wanted |= {f"dino_st/recipes/{path.name}" for path in (ROOT / "recipes").iterdir()}
    models = (path for path in (ROOT / "dino_st/models").rglob("*") if path.is_file() and path.suffix != ".pyc")
    wanted |= {str(path.relative_to(ROOT)) for path in models}
    assert wanted <= names
    assert {"dino_st/models/dino-tiny/model.safetensors", "dino_st/models/dino-tiny-encoder/README.md"} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "tools"))]


def test_the_wheel_stays_small_enough_to_be_installed_for_a_try(wheel: Path) -> None:
    assert wheel.stat().st_size < 40_000_000


def test_recipes_run_by_name_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import dino_st; from dino_st.pipeline.recipe import load_recipe, recipe_names\n"
        "print(dino_st.__file__); print(recipe_names()); print(load_recipe('quickstart').input)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert output[0] == str(tmp_path / "dino_st/__init__.py")
    assert output[1] == str(sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")))
    assert output[2] == str(tmp_path / "dino_st/recipes/quickstart-sentences.txt")


def test_an_editable_install_finds_the_repositorys_recipes() -> None:
    from dino_st.pipeline.recipe import load_recipe

    if Path(dino_st.__file__).parent != ROOT / "dino_st":
        pytest.skip("not an editable install")
    assert load_recipe("quickstart").input == str(ROOT / "recipes/quickstart-sentences.txt")
