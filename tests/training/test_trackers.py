"""Trackers are shown a run's progress, parameters and record, only when asked, and cost no run."""

from __future__ import annotations

import logging
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from datasets import DatasetDict

import dino_st.training.trackers
from dino_st.errors import ConfigurationError, MissingExtraError, TrainingError
from dino_st.pipeline.recipe import load_recipe, run_recipe
from dino_st.training.record import read_record
from dino_st.training.train import train_contrastive, train_encoder
from tests.training_fixtures import QUICK, prepared_splits, save_model


class Trackio(ModuleType):
    """Stands for the package that transformers' own callback writes to, and keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.__spec__ = ModuleSpec("trackio", None)
        self.__version__ = "1.0"
        self.config: Any = Config()
        self.logged: list[dict[str, Any]] = []
        self.begun: list[dict[str, Any]] = []
        self.finished = 0
        self.refuses, self.breaks_after = False, 1000
        self.context_vars = self
        self.current_space_id = self

    def get(self) -> None:
        """There is no space."""

    def init(self, **named: Any) -> None:
        """Begins a run."""
        if self.refuses:
            raise RuntimeError("you are not logged in\nmore words")
        self.begun.append(named)

    def log(self, numbers: dict[str, Any]) -> None:
        """Keeps numbers."""
        if len(self.logged) >= self.breaks_after:
            raise ConnectionError("the server is gone")
        self.logged.append(numbers)

    def finish(self) -> None:
        """Ends the run."""
        self.finished += 1


class Config(dict[str, Any]):
    """A run's parameters."""

    def update(self, values: dict[str, Any], allow_val_change: bool) -> None:  # type: ignore[override]
        """Takes parameters."""
        super().update(values)


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> Trackio:
    module = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_trackio_available", lambda: True)
    for variable in ("WANDB_PROJECT", "TRACKIO_PROJECT"):
        monkeypatch.setenv(variable, "dino-st")
    return module


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def splits() -> DatasetDict:
    return prepared_splits(192, 48)


def test_a_tracker_gets_the_curve_and_the_record_under_the_names_of_the_record(
    bert: Path, splits: DatasetDict, tmp_path: Path, trackio: Trackio
) -> None:
    train_encoder(splits, bert, tmp_path / "my-run", report_to="trackio", **QUICK)
    record = read_record(tmp_path / "my-run")
    assert record is not None
    assert record.best is not None
    curve = {entry["train/global_step"]: entry["eval/spearman"] for entry in trackio.logged if "eval/spearman" in entry}
    assert curve == {0: record.start, **{score.step: score.spearman for score in record.curve}}
    assert trackio.logged[-1]["eval/best.spearman"] == record.best.spearman
    assert trackio.logged[-1]["eval/best.step"] == record.best.step
    assert trackio.config["options.learning_rate"] == QUICK["learning_rate"]
    assert trackio.config["data.train pairs"] == 192
    assert trackio.config["versions.dino-st"] == record.versions["dino-st"]
    assert trackio.config["encoder"] == bert.name
    assert trackio.config["per_device_train_batch_size"] == 16  # the trainer's own arguments are there, too
    assert trackio.begun[0]["name"] == "my-run"
    assert trackio.begun[0]["project"] == "dino-st"
    assert (len(trackio.begun), trackio.finished) == (1, 1)  # what is computed after training begins no second run


def test_a_tracked_run_gives_the_same_files_as_one_that_is_not(
    bert: Path, splits: DatasetDict, tmp_path: Path, trackio: Trackio
) -> None:
    train_encoder(splits, bert, tmp_path / "plain", **QUICK)
    assert not trackio.begun
    train_encoder(splits, bert, tmp_path / "tracked", report_to="trackio", **QUICK)
    plain, tracked = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "tracked"))
    assert plain == tracked
    cards = [(tmp_path / name / "README.md").read_text() for name in ("plain", "tracked")]
    assert "versions.dino-st" not in cards[1]
    assert sorted(map(str, (tmp_path / "tracked").rglob("*"))) == sorted(
        str(file).replace("plain", "tracked") for file in (tmp_path / "plain").rglob("*")
    )


def test_a_run_may_go_on_with_another_tracker(
    bert: Path, splits: DatasetDict, tmp_path: Path, trackio: Trackio
) -> None:
    train_encoder(splits, bert, tmp_path, **QUICK)
    train_encoder(splits, bert, tmp_path, report_to="trackio", **QUICK)  # is done already, and no other run
    assert not trackio.begun


def test_contrastive_training_is_tracked_as_well(bert: Path, tmp_path: Path, trackio: Trackio) -> None:
    rows = prepared_splits(192, 48)
    triplets = DatasetDict(
        {
            name: part.rename_columns({"sentence1": "anchor", "sentence2": "positive"})
            .remove_columns("score")
            .map(lambda row, i: {"negative": f"{i} nothing of the kind"}, with_indices=True)
            for name, part in rows.items()
        }
    )
    small = QUICK | {"batch_size": 8, "mini_batch_size": 0}
    train_contrastive(triplets, bert, tmp_path, report_to="trackio", **small)
    assert trackio.config["options.scale"] == 20.0


def test_a_tracker_that_cannot_begin_is_an_error_that_says_what_to_do(
    bert: Path, splits: DatasetDict, tmp_path: Path, trackio: Trackio
) -> None:
    trackio.refuses = True
    with pytest.raises(TrainingError, match=r"trackio cannot be written to: you are not logged in\. Set it up"):
        train_encoder(splits, bert, tmp_path, report_to="trackio", **QUICK)


def test_a_tracker_that_breaks_down_costs_no_training(
    bert: Path, splits: DatasetDict, tmp_path: Path, trackio: Trackio, caplog: pytest.LogCaptureFixture
) -> None:
    trackio.breaks_after = 2
    with caplog.at_level(logging.WARNING, "dino_st"):
        train_encoder(splits, bert, tmp_path, report_to="trackio", **QUICK)
    assert [line for line in caplog.messages if "tracked" in line] == [
        "trackio: the server is gone. Training goes on, and is not tracked any further"
    ]
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize("train", [train_encoder, train_contrastive])
def test_a_package_that_is_missing_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Any
) -> None:
    monkeypatch.setattr(dino_st.training.trackers, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"report_to is 'mlflow', .*; run: pip install mlflow$"):
        train(tmp_path / "no such data", "no such encoder", tmp_path / "out", report_to="mlflow")


def test_a_recipe_names_it_before_anything_is_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dino_st.training.trackers, "find_spec", lambda name: None)
    recipe = load_recipe("quickstart", ["train.report_to=wandb"])
    with pytest.raises(MissingExtraError, match="pip install wandb"):
        run_recipe(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tracker_that_a_variable_switches_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dino_st.training.trackers, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setenv("DISABLE_MLFLOW_INTEGRATION", "TRUE")
    with pytest.raises(ConfigurationError, match="the variable DISABLE_MLFLOW_INTEGRATION switches that off"):
        train_encoder(tmp_path / "no such data", "no such encoder", tmp_path / "out", report_to="mlflow")


def test_a_package_that_is_broken_is_named(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    (tmp_path / "wandb.py").write_text("raise OSError('a shared library is missing')")
    with pytest.raises(ConfigurationError, match="'wandb', which cannot be imported: a shared library is missing"):
        train_encoder(splits, bert, tmp_path / "out", report_to="wandb", **QUICK)


def test_every_training_of_a_process_is_a_run_of_its_own_in_wandb(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wandb(Trackio):
        """What transformers' own callback for wandb uses of it."""

        run: Any = None

        def init(self, **named: Any) -> None:
            super().init(**named)
            self.run = self

        def _label(self, **_: Any) -> None: ...

        @property
        def summary(self) -> dict[str, Any]:
            return {}

        def finish(self) -> None:
            super().finish()
            self.run = None

    wandb, inside = Wandb(), ModuleType("wandb.sdk.lib.config_util")
    wandb.config["model/num_parameters"] = 0
    vars(inside)["ConfigError"] = ValueError
    for name, module in {"wandb": wandb, "wandb.sdk": inside, "wandb.sdk.lib": inside}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "wandb.sdk.lib.config_util", inside)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: True)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    for name in ("one", "two"):
        train_encoder(splits, bert, tmp_path / name, report_to="wandb", **QUICK)
    assert [named["name"] for named in wandb.begun] == ["one", "two"]
    assert wandb.finished == 2
    wandb.init(name="of the caller")
    train_encoder(splits, bert, tmp_path / "three", report_to="wandb", **QUICK)
    assert wandb.finished == 2  # a run that the caller began is the caller's to end


def test_tensorboard_reads_the_curve_back(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ
    train_encoder(splits, bert, tmp_path, report_to="tensorboard", **QUICK)
    record = read_record(tmp_path)
    assert record is not None
    events = accumulator.EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    curve = {event.step: event.value for event in events.Scalars("eval/spearman")}
    assert curve == pytest.approx({0: record.start, **{score.step: score.spearman for score in record.curve}})
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert "options.learning_rate" in str(events.Tensors("args/text_summary")[0].tensor_proto.string_val)
