"""Registration in mteb: what it relies on, what it adds, that it goes away again, and `mteb run` with it."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mteb
import pytest
from typer.testing import CliRunner, Result

import mteb_tasks
from dino_st.cli.main import app
from dino_st.encoders.directory import directory_revision
from dino_st.errors import ConfigurationError, DinoWarning, ModelError
from mteb_tasks.tasks import BENCHMARK_NAME
from tests.mteb_tasks.fixtures import make_bag_of_words, make_transformer, write_sts_directory


@pytest.fixture
def registered() -> Iterator[None]:
    assert mteb_tasks.register()
    yield
    mteb_tasks.unregister()


@pytest.fixture(scope="module")
def sts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sts_directory(tmp_path_factory.mktemp("sts"))


@pytest.fixture
def workplace(sts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: None) -> Path:
    """A working directory with a model in it, and the data named by the environment."""
    monkeypatch.setenv("DINO_ST_STS_DIR", str(sts_dir))
    monkeypatch.chdir(tmp_path)
    make_bag_of_words(tmp_path / "my-encoder")
    return tmp_path


def dino_st_mteb(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["mteb", *arguments])


def run(*arguments: str) -> None:
    result = dino_st_mteb("run", *arguments, "-v", "0")
    assert result.exit_code == 0, result.output


def inside(name: str) -> Any:
    return importlib.import_module(f"mteb.{name}")


def stored(workplace: Path) -> dict[str, dict[str, Any]]:
    files = sorted((workplace / "results").rglob("Dino*.json"))
    return {f"{file.parts[-3]}/{file.parts[-2]}/{file.stem}": json.loads(file.read_text("utf-8")) for file in files}


def names(tasks: Any) -> list[str]:
    return sorted(task.metadata.name for task in tasks)


def test_the_tasks_and_the_benchmark_can_be_found_by_name(registered: None) -> None:
    assert type(mteb.get_task("DinoSTS12")) is mteb_tasks.DinoSTS12
    assert "DinoSICKRAll" in names(mteb.get_tasks(task_types=["STS"], languages=["eng"]))
    benchmark = mteb.get_benchmark(BENCHMARK_NAME)
    assert [task.metadata.name for task in benchmark.tasks][-2:] == ["DinoSTSBenchmark", "DinoSICKR"]
    assert len(benchmark.tasks) == 7


def test_registering_twice_is_registering_once() -> None:
    before = len(mteb.get_tasks())
    try:
        assert mteb_tasks.register()
        assert mteb_tasks.register()
        assert len(mteb.get_tasks()) == before + 15
    finally:
        mteb_tasks.unregister()
    assert len(mteb.get_tasks()) == before


def test_unregistering_restores_mteb_exactly() -> None:
    def state() -> list[Any]:
        return [
            dict(inside("get_tasks")._TASKS_REGISTRY),
            inside("get_tasks").TASK_LIST,
            inside("models.get_model_meta").get_model_meta,
            inside("cache").ResultCache.load_task_result,
            sorted(vars(inside("benchmarks.benchmarks"))),
            sorted(benchmark.name for benchmark in mteb.get_benchmarks()),
        ]

    before = state()
    mteb_tasks.register()
    assert state() != before
    mteb_tasks.unregister()
    mteb_tasks.unregister()
    assert state() == before


def test_importing_the_package_changes_nothing_in_mteb() -> None:
    assert not any(name.startswith("Dino") for name in names(mteb.get_tasks(task_types=["STS"])))


def test_mtebs_own_tasks_models_and_benchmarks_stay_as_they_are(registered: None) -> None:
    own = [task for task in mteb.get_tasks(task_types=["STS"]) if not task.metadata.name.startswith("Dino")]
    mteb_tasks.unregister()
    assert names(own) == names(mteb.get_tasks(task_types=["STS"]))
    mteb_tasks.register()
    assert type(mteb.get_task("STS12")).__module__.startswith("mteb.tasks")
    assert mteb.get_model_meta("mteb/baseline-random-encoder").name == "mteb/baseline-random-encoder"
    with pytest.raises(KeyError, match="not found in MTEB registry"):
        mteb.get_model_meta("nobody/nothing")


def _other_signature(*, model: str) -> None:
    """What a function of a future mteb might ask for instead."""


@pytest.mark.parametrize(
    ("place", "name", "value", "difference"),
    [
        (lambda: inside("get_tasks"), "_TASKS_REGISTRY", (), "_TASKS_REGISTRY is a dict"),
        (lambda: inside("get_tasks"), "TASK_LIST", [], "TASK_LIST is a tuple"),
        (lambda: inside("benchmarks.get_benchmark"), "_build_registry", list, "has no attribute 'cache_clear'"),
        (lambda: inside("models.get_model_meta"), "get_model_meta", _other_signature, "takes a name and a revision"),
        (lambda: inside("models.get_model_meta"), "MODEL_REGISTRY", (), "MODEL_REGISTRY is a dict"),
        (lambda: inside("cache").ResultCache, "load_task_result", _other_signature, "takes a task and a model"),
    ],
)
def test_another_mteb_gives_one_warning_and_stays_untouched(
    place: Callable[[], Any], name: str, value: Any, difference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place(), name, value)
    tasks, find_model = dict(inside("get_tasks")._TASKS_REGISTRY), inside("models.get_model_meta").get_model_meta
    with pytest.warns(
        DinoWarning, match=rf"supports mteb>=2\.26,<3, .*{re.escape(difference)}.*mteb itself works"
    ) as caught:
        assert not mteb_tasks.register()
    assert len(caught) == 1
    assert dict(inside("get_tasks")._TASKS_REGISTRY) == tasks
    assert inside("models.get_model_meta").get_model_meta is find_model
    assert not {"DINO_STS", "DINO_TRANSFER"} & set(vars(inside("benchmarks.benchmarks")))


@pytest.mark.parametrize("spelling", ["my-encoder", "./my-encoder", "my-encoder/", "{}/my-encoder"])
def test_a_local_directory_has_one_name_and_one_revision(workplace: Path, spelling: str) -> None:
    meta = mteb.get_model(spelling.format(workplace), device="cpu").mteb_model_meta
    assert (meta.name, meta.revision) == ("local/my-encoder", directory_revision(workplace / "my-encoder"))


def test_a_plain_transformers_directory_loads_with_mean_pooling(workplace: Path) -> None:
    make_transformer(workplace / "bert")
    model = mteb.get_model("./bert", device="cpu")
    assert model.mteb_model_meta.name == "local/bert"
    assert model.model[1].pooling_mode == "mean"  # type: ignore[attr-defined]


def test_a_path_without_a_model_is_refused(workplace: Path) -> None:
    (workplace / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty' is not a model"):
        mteb.get_model("./empty")
    with pytest.raises(ModelError, match=r"missing' does not exist"):
        mteb.get_model("./missing")
    with pytest.raises(ConfigurationError, match=r"revision 'v1' of the local model"):
        mteb.get_model("./my-encoder", "v1")


def test_available_tasks_lists_the_dino_tasks(workplace: Path) -> None:
    listed = dino_st_mteb("available-tasks", "--task-types", "STS").output
    assert all(name in listed for name in ("DinoSTS12", "DinoSTSBenchmark", "DinoSICKR", "STS17"))


def test_run_writes_results_under_the_directorys_name(workplace: Path) -> None:
    run("-m", "./my-encoder", "-t", "DinoSTS13", "DinoSTSBenchmark")
    results = stored(workplace)
    revision = directory_revision(workplace / "my-encoder")
    assert list(results) == [f"local__my-encoder/{revision}/{task}" for task in ("DinoSTS13", "DinoSTSBenchmark")]
    first = next(iter(results.values()))
    assert first["dataset_revision"] == mteb_tasks.DinoSTS13().data_revision()
    assert set(first["scores"]["test"][0]["sources"]) == {"FNWN", "headlines", "OnWN"}


def test_run_takes_the_benchmark(workplace: Path) -> None:
    run("-m", "./my-encoder", "-b", BENCHMARK_NAME)
    assert len(stored(workplace)) == 7


def test_mtebs_own_program_finds_tasks_and_models_without_more_than_the_registration(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mteb", "run", "-m", "./my-encoder", "-t", "DinoSTS13", "-v", "0"])
    inside("cli.build_cli").main()
    assert len(stored(workplace)) == 1


def test_an_unchanged_model_is_answered_from_storage_and_a_retrained_one_is_not(workplace: Path) -> None:
    run("-m", "./my-encoder", "-t", "DinoSTS13")
    first = stored(workplace)
    run("-m", str(workplace / "my-encoder"), "-t", "DinoSTS13")
    assert stored(workplace) == first  # dates and times included
    shutil.rmtree(workplace / "my-encoder")
    make_bag_of_words(workplace / "my-encoder", seed=1)
    run("-m", "my-encoder", "-t", "DinoSTS13")
    assert len(stored(workplace)) == 2


def test_changed_data_are_evaluated_again(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("-m", "./my-encoder", "-t", "DinoSTS13")
    before = stored(workplace)
    monkeypatch.setenv("DINO_ST_STS_DIR", str(write_sts_directory(workplace / "other", seed=5)))
    run("-m", "./my-encoder", "-t", "DinoSTS13")
    after = stored(workplace)
    assert list(after) == list(before)
    assert after != before


def test_a_stored_result_that_was_cut_off_is_computed_again(workplace: Path) -> None:
    run("-m", "./my-encoder", "-t", "DinoSTS13")
    file = next((workplace / "results").rglob("DinoSTS13.json"))
    scores = json.loads(file.read_text("utf-8"))["scores"]
    file.write_text(file.read_text("utf-8")[:300], encoding="utf-8")
    run("-m", "./my-encoder", "-t", "DinoSTS13")
    assert json.loads(file.read_text("utf-8"))["scores"] == scores


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-t", "DinoSTS21"], "There is no task 'DinoSTS21'; did you mean 'DinoSTS1"),
        (["-b", "DinoSTS(eng,v1)"], "There is no benchmark 'DinoSTS(eng,v1)'; did you mean 'DinoSTS(eng, v1)'?"),
    ],
)
def test_a_mistyped_name_fails_before_the_model_is_looked_at(
    workplace: Path, arguments: list[str], message: str
) -> None:
    result = dino_st_mteb("run", "-m", "./missing", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (workplace / "results").exists()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: shutil.rmtree(path / "my-encoder"), "my-encoder' does not exist"),
        (lambda path: (path / "my-encoder" / "model.safetensors").write_bytes(b"short"), "truncated or damaged"),
        (lambda path: (path / "results").write_text("a file"), "results: this is a file; expected a directory"),
    ],
)
def test_what_cannot_be_used_is_a_message_and_exit_code_1(workplace: Path, prepare: Any, message: str) -> None:
    prepare(workplace)
    result = dino_st_mteb("run", "-m", "./my-encoder", "-t", "DinoSTS13", "-v", "0")
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_incomplete_data_are_a_message_and_leave_no_result(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "half" / "STS").mkdir(parents=True)
    monkeypatch.setenv("DINO_ST_STS_DIR", str(workplace / "half"))
    result = dino_st_mteb("run", "-m", "./my-encoder", "-t", "DinoSTS13", "-v", "0")
    assert result.exit_code == 1
    assert "STS.input.FNWN.txt' is missing" in result.output
    assert stored(workplace) == {}


def test_wrong_arguments_are_exit_code_2_and_help_is_0(registered: None) -> None:
    assert dino_st_mteb("run", "--no-such-option").exit_code == 2
    assert dino_st_mteb("--help").exit_code == 0
    without = dino_st_mteb()
    assert without.exit_code == 0
    assert "dino-st mteb" in without.output
