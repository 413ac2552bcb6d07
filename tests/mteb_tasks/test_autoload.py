"""The start-up hook: where it acts, and that it is silent and harmless everywhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mteb_tasks.autoload import runs_mteb

REPOSITORY = Path(__file__).parents[2]
HOOK = REPOSITORY / "mteb_tasks" / "autoload" / "dino_st_mteb.pth"
START_FILE = HOOK.with_suffix(".start")

# What a console script does, after the hook's file has been processed as Python does it at its start.
PROGRAM = """
import site, sys
site.addpackage({folder!r}, "dino_st_mteb.pth", set())
if {run}:
    from mteb.cli import main
    sys.exit(main())
import mteb
print(sorted(task.metadata.name for task in mteb.get_tasks(task_types=["STS"]) if "Dino" in task.metadata.name))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copy(HOOK, tmp_path)).parent


def start(
    program: Path, *arguments: str, env: dict[str, str] | None = None, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a program; `-S` among the flags keeps the hook of an installed dino-st from running by itself before."""
    return subprocess.run(
        [sys.executable, *flags, str(program), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
        check=False,
    )


def script(folder: Path, name: str, *, run: bool) -> Path:
    path = folder / name
    path.write_text(PROGRAM.format(folder=str(folder), run=run), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        (["/usr/bin/mteb", "run"], ["python", "/usr/bin/mteb", "run"], True),
        (["-m", "run", "-t", "x"], ["python", "-m", "mteb", "run", "-t", "x"], True),
        (["-m"], ["python", "-X", "dev", "-m", "mteb"], True),
        (["-m"], ["python", "-mmteb"], True),
        (["-m", "mteb"], ["python", "-m", "pytest", "mteb"], False),
        (["-m", "mteb"], ["python", "-Im", "mteb.other", "mteb"], False),
        (["my_mteb.py"], ["python", "my_mteb.py"], False),
        (["script.py", "-m", "mteb"], ["python", "script.py", "-m", "mteb"], False),
        (["-c"], ["python", "-c", "import mteb"], False),
        ([""], ["python"], False),
    ],
)
def test_only_mtebs_own_program_is_recognised(argv: list[str], orig_argv: list[str], expected: bool) -> None:
    assert runs_mteb(argv, orig_argv) is expected


@pytest.mark.slow
def test_the_program_mteb_lists_the_tasks(folder: Path) -> None:
    done = start(script(folder, "mteb", run=True), "available-tasks", "--task-types", "STS")
    assert done.returncode == 0, done.stderr
    assert "DinoSTS12" in done.stdout


@pytest.mark.slow
def test_it_can_be_switched_off(folder: Path) -> None:
    program = script(folder, "mteb", run=True)
    done = start(program, "available-tasks", "--task-types", "STS", env={"DINO_ST_NO_AUTOLOAD": "1"})
    assert done.returncode == 0, done.stderr
    assert "STS12" in done.stdout
    assert "Dino" not in done.stdout


@pytest.mark.slow
def test_a_library_that_imports_mteb_gets_what_it_always_got(folder: Path) -> None:
    done = start(script(folder, "library_of_mteb.py", run=False))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_a_python_that_does_not_run_mteb_imports_nothing(folder: Path) -> None:
    program = folder / "other.py"
    program.write_text(
        "import encodings.utf_8_sig, site, sys\n"  # by which site itself reads such files from Python 3.13 on
        f"before = set(sys.modules)\nsite.addpackage({str(folder)!r}, 'dino_st_mteb.pth', set())\n"
        "print(sorted(set(sys.modules) - before), len(sys.meta_path))\n",
        encoding="utf-8",
    )
    with_hook = start(program, flags=("-S",))
    without = start(program, env={"DINO_ST_NO_AUTOLOAD": "1"}, flags=("-S",))
    assert with_hook.stdout == without.stdout
    assert with_hook.stdout.startswith("[] ")
    assert with_hook.stderr == ""


def test_in_mteb_it_imports_only_the_standard_library_until_mteb_is_imported(folder: Path) -> None:
    program = folder / "mteb"
    program.write_text(
        f"import site, sys\nbefore = set(sys.modules)\nsite.addpackage({str(folder)!r}, 'dino_st_mteb.pth', set())\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))\n",
        encoding="utf-8",
    )
    assert start(program, flags=("-S",)).stdout == "['mteb_tasks']\n"


def test_it_is_silent_where_dino_st_is_half_uninstalled(folder: Path) -> None:
    program = folder / "mteb"
    program.write_text(
        f"import site, sys\nsite.addpackage({str(folder)!r}, 'dino_st_mteb.pth', set())\n"
        "try:\n    import mteb_tasks\nexcept ImportError:\n    print('gone')\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, "-I", "-S", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("gone\n", "")


def test_it_is_silent_where_only_the_registration_is_missing(folder: Path) -> None:
    package = folder / "rest" / "mteb_tasks"
    shutil.copytree(HOOK.parent, package / "autoload")
    shutil.copy(HOOK.parents[1] / "__init__.py", package)
    command_line = folder / "rest" / "mteb" / "cli"
    command_line.mkdir(parents=True)
    (command_line.parent / "__init__.py").write_text("")
    (command_line / "__init__.py").write_text("from mteb.cli.build_cli import main")
    (command_line / "build_cli.py").write_text("def main():\n    print('mteb runs')\n")
    program = folder / "mteb"
    program.write_text(
        f"import site, sys\nsys.path.insert(0, {str(folder / 'rest')!r})\n"
        f"site.addpackage({str(folder)!r}, 'dino_st_mteb.pth', set())\nfrom mteb.cli import main\nmain()\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, "-I", "-S", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("mteb runs\n", "")


def test_the_start_file_of_later_pythons_names_the_same_function() -> None:
    from pkgutil import resolve_name

    from mteb_tasks.autoload import install

    entries = [line for line in START_FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [resolve_name(entry) for entry in entries] == [install]


@pytest.mark.slow
def test_the_wheel_carries_the_hook_at_its_root_and_uninstalling_leaves_nothing(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="building a wheel needs hatchling")
    wheel = next(builder.WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"]))
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = next((tmp_path / "venv").glob("[bS]*/python*"))
    site_packages = next((tmp_path / "venv").glob("[Ll]ib/**/site-packages"))
    before = {path.name for path in site_packages.iterdir()}
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    installed = {path.name for path in site_packages.iterdir()} - before
    assert {HOOK.name, START_FILE.name, "mteb_tasks", "dino_st"} <= installed
    quiet = subprocess.run([python, "-c", "import sys"], capture_output=True, check=True)
    assert (quiet.stdout, quiet.stderr) == (b"", b"")
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "dino-st"], check=True)
    assert {path.name for path in site_packages.iterdir()} == before
