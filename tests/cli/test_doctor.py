"""`dino-st doctor`: facts, and neither secrets nor names."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dino_st.cli import doctor
from dino_st.cli.main import app
from dino_st.support.hashes import versions

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino_st.support.hub.hub_out_of_reach", lambda: "offline mode is on")


def test_a_machine_on_which_all_is_well_can_be_used() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[-1] == "can be used: nothing that is needed is missing"
    assert any(line.split() == ["torch", versions("torch")["torch"]] for line in lines)
    assert any(line.split()[:1] == ["CPU"] and "threads" in line for line in lines)
    assert any(line.split()[:1] == ["hub"] and "offline mode is on" in line for line in lines)


def test_it_is_summed_up_as_json() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(result.stdout)
    assert found["problems"] == []
    assert found["checks"]["versions"]["dino-st"] == found["dino_st"]


def test_secrets_and_the_name_of_the_home_directory_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-123")
    monkeypatch.setenv("HF_TOKEN", "hf_123")
    monkeypatch.setenv("https_proxy", "http://me:pass-123@proxy:8080")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://server/v1?key=k-123")
    monkeypatch.setenv("HF_HOME", "/home/somebody/cache")
    monkeypatch.setenv("PYTHONPATH", "/home/somebody/one:/home/somebody:/data/home/somebody")
    shown = doctor.check_up().sections["environment"]
    assert "123" not in str(shown)
    assert shown["OPENAI_API_KEY"] == shown["HF_TOKEN"] == "(set)"
    assert shown["https_proxy"] == "http://…@proxy:8080"
    assert shown["OPENAI_BASE_URL"] == "http://server/v1?…"
    assert shown["HF_HOME"] == "~/cache"
    assert shown["PYTHONPATH"] == "~/one:~:/data/home/somebody"


def test_what_the_command_line_sets_for_itself_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert "TOKENIZERS_PARALLELISM" not in doctor.check_up().sections["environment"]
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    assert doctor.check_up().sections["environment"]["TOKENIZERS_PARALLELISM"] == "true"


def test_packages_that_are_missing_of_another_version_or_broken_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=99", "no-such-package>=1", 'matplotlib>=3.8; extra == "report"', "numpy"]
    monkeypatch.setattr(doctor, "requires", lambda _: wanted)
    monkeypatch.setattr(doctor, "IMPORTED", ("json", "no_such_module"))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert result.output.partition("cannot be used:\n")[2].splitlines() == [
        f'  - torch is {versions("torch")["torch"]}, expected >=99; run: pip install "torch>=99"',
        '  - no-such-package is not installed; run: pip install "no-such-package>=1"',
        "  - no_such_module cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
    ]


def test_an_extra_that_is_missing_is_shown_with_its_command_and_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ['no-such-package>=1; extra == "gguf"'])
    found = doctor.check_up()
    assert found.sections["extras"]["gguf"].startswith('missing no-such-package; pip install "dino-st[gguf]" (')
    assert found.problems == []


def test_a_package_of_an_extra_that_is_too_old_is_missing_in_the_version_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ['numpy>=1; extra == "gguf"', 'torch>=99; extra == "gguf"'])
    state = doctor.check_up().sections["extras"]["gguf"]
    assert state.startswith('missing torch>=99; pip install "dino-st[gguf]" (')


def test_every_extra_for_users_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert doctor.EXTRAS.keys() == project["optional-dependencies"].keys() - {"test", "lint", "docs", "mutation"}


def test_places_that_cannot_be_written_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    assert (
        f"{tmp_path}: temporary files cannot be written; name another place with TMPDIR" in doctor.check_up().problems
    )


def test_bundled_models_that_are_pointers_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs")
    monkeypatch.setattr(doctor, "bundled_directory", lambda _: tmp_path)
    assert "dino-tiny, which comes with dino-st, has no weights; run: git lfs pull, or reinstall" in (
        doctor.check_up().problems
    )


def test_threads_and_leftovers_of_a_launcher_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    slow = doctor.check_up().slow
    assert "torch computes in 2 threads on 64 cores (OMP_NUM_THREADS=2)" in slow
    assert "WORLD_SIZE: left over from a launcher; training takes no notice of them" in slow


def test_the_hook_of_mteb_is_found_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path)])
    monkeypatch.setattr("site.getusersitepackages", lambda: str(tmp_path))
    monkeypatch.delenv("DINO_ST_NO_AUTOLOAD", raising=False)
    assert "not installed" in doctor.check_up().sections["hub and mteb"]["mteb"]
    for name in ("dino_st_mteb.pth", "dino_st_mteb.start"):
        (tmp_path / name).touch()
    assert "`mteb run` knows the tasks" in doctor.check_up().sections["hub and mteb"]["mteb"]
    monkeypatch.setenv("DINO_ST_NO_AUTOLOAD", "1")
    assert "switched off by DINO_ST_NO_AUTOLOAD" in doctor.check_up().sections["hub and mteb"]["mteb"]
