"""Training in several processes: it gives what one process gives, and ends as a whole."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers.base.sampler import ProportionalBatchSampler
from torch.utils.data import ConcatDataset
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.errors import ConfigurationError, DinoWarning
from dino_st.pipeline.recipe import load_recipe, run_recipe
from dino_st.training import distributed
from dino_st.training.batches import batches_by_kind
from dino_st.training.train import train_contrastive
from tests.training import together
from tests.training_fixtures import LAUNCHED, prepared_splits, record

ROOT = Path(__file__).parents[2]


def launch(what: str, directory: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Has several processes do something of `together`."""
    torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    return subprocess.run(
        [sys.executable, *torchrun, str(Path(__file__).with_name("together.py")), what, str(directory)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)},
    )


def batches(processes: int, rank: int) -> list[list[int]]:
    """The parts of batches of 12 rows and of 8 rows, from 31 and 27 rows, that a process gets in one epoch."""
    named: dict[str, Any] = {"drop_last": False, "valid_label_columns": ["score"], "generator": torch.Generator()}
    parts = [together.triplet_splits()["train"].select(range(31)), prepared_splits(27, 9)["train"]]
    samplers = [batches_by_kind(part, 12, pairs_batch_size=8, seed=1, **named) for part in parts]
    whole = ProportionalBatchSampler(ConcatDataset(parts), samplers, generator=named["generator"], seed=1)
    share = distributed.ShareOfBatches(whole, processes, rank)
    share.set_epoch(3)
    dealt = list(share)
    assert len(dealt) == len(share)
    return dealt


@pytest.mark.parametrize("processes", [2, 4])
def test_the_processes_parts_are_the_batches_of_one_process(processes: int) -> None:
    whole = batches(1, 0)
    assert sorted(map(len, whole)) == [3, 7, 8, 8, 8, 12, 12]
    parts = [batches(processes, rank) for rank in range(processes)]
    shared = [batch[: len(batch) // processes * processes] for batch in whole if len(batch) >= processes]
    assert [[*itertools.chain(*step)] for step in zip(*parts, strict=True)] == shared
    assert all(len({len(part) for part in step}) == 1 for step in zip(*parts, strict=True))


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        ConfigurationError, match=r"4 processes were .* has 2 GPUs .*--nproc-per-node 2\), or .* the CPU"
    ):
        distributed.check_devices(4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # two machines
    distributed.check_devices(4)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"batch_size": 32}, "batch_size is 32, which 3 processes cannot share; expected a multiple of 3"),
        ({"batch_size": 33, "pairs_batch_size": 32}, "pairs_batch_size is 32, which 3 processes cannot share"),
    ],
)
def test_batches_that_the_processes_cannot_share_are_refused(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], message: str
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=message):
        train_contrastive(
            together.triplet_splits(), bert, tmp_path / "out", pairs=prepared_splits(92, 40), device="cpu", **sizes
        )
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_run_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"3 processes were started, and a recipe is run by one; .*torchrun"):
        run_recipe(load_recipe("quickstart"), tmp_path / "out")


@pytest.mark.parametrize(("rank", "told"), [("0", True), ("2", False)])
def test_the_first_process_alone_tells_how_it_goes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rank: str, told: bool
) -> None:
    for name, value in (LAUNCHED | {"RANK": rank}).items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        distributed.hush_others()
        logging.getLogger("dino_st.training.train").error("a line")
        warnings.warn("a warning", DinoWarning, stacklevel=1)
    assert distributed.is_first() == told
    assert [entry.message for entry in caplog.records] == ["a line"] * told
    assert len(warned) == told


@pytest.mark.parametrize(("rank", "told"), [("0", True), ("1", False)])
def test_the_first_process_alone_prints_the_summary(monkeypatch: pytest.MonkeyPatch, rank: str, told: bool) -> None:
    for name, value in (LAUNCHED | {"RANK": rank}).items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["tasks", "--json"])
    assert done.exit_code == 0
    assert ('"command": "tasks"' in done.stdout) == told


@pytest.mark.slow
def test_the_gradients_of_two_processes_are_those_of_one(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "bert").symlink_to(bert)
    together.gradients(tmp_path)
    done = launch("gradients", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"gradients-{processes}.pt") for processes in (1, 2))
    for name, expected in one.items():
        largest = max(float(gradient.abs().max()) for key, gradient in expected.items() if key != "loss")
        assert two[name].keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(two[name][key], value, rtol=1e-9, atol=1e-9 * largest, msg=f"{name}: {key}")


def losses(checkpoint: Path) -> list[float]:
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def saved(directory: Path) -> dict[str, torch.Tensor]:
    """All weights of a directory but those of BERT's own layer behind the CLS token, which are random and not used."""
    found = {
        (file.relative_to(directory), key): weight
        for file in directory.rglob("*.safetensors")
        for key, weight in load_file(file).items()
    }
    return {f"{file}: {key}": weight for (file, key), weight in found.items() if "pooler" not in key}


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(tmp_path: Path) -> None:
    together.masked_bert(tmp_path / "masked-bert")
    together.trainings(tmp_path)
    done = launch("trainings", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "FutureWarning" not in done.stderr
    for name, steps in (("triplets", 6), ("whole", 6), ("everything", 12), ("cosine", 6), ("joint", 24)):
        one, two = (tmp_path / f"{name}-{processes}" for processes in (1, 2))
        assert [record(place)["processes"] for place in (one, two)] == [1, 2]
        last = f"checkpoints/checkpoint-{steps}"
        assert len(losses(one / last)) == steps
        assert losses(two / last) == pytest.approx(losses(one / last), rel=1e-4, abs=1e-5), name
        trained = saved(two / last)
        for key, weight in saved(one / last).items():
            torch.testing.assert_close(trained[key], weight, rtol=1e-3, atol=5e-5, msg=f"{name}: {key}")
        assert record(two)["best"] == record(one)["best"] | {
            "spearman": pytest.approx(record(one)["best"]["spearman"], abs=1e-3)
        }


@pytest.mark.slow
def test_what_two_processes_began_they_continue_to_the_same_weights_and_different_data_are_refused(
    tmp_path: Path,
) -> None:
    done = launch("resumed", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        assert "checkpoint-3" in (tmp_path / f"interrupted-{rank}").read_text()
        refused = (tmp_path / f"refused-{rank}").read_text()
        assert refused.startswith(
            "ConfigurationError: the processes that train together were not given the same data: "
        )
        assert "rank 0 has train sha256" in refused
    straight, resumed = (saved(tmp_path / name) for name in ("straight", "resumed"))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[key]) for key, weight in straight.items())
    assert record(tmp_path / "straight")["curve"] == record(tmp_path / "resumed")["curve"]
    assert not (tmp_path / "different").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_and_the_same_command_goes_on(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "bert").symlink_to(bert)
    together.triplet_splits().save_to_disk(tmp_path / "data")
    ended = launch("killed", tmp_path)
    assert ended.returncode != 0
    assert (tmp_path / "killed").exists()
    assert "another of the processes that train together has ended" in ended.stderr or "Interrupted." in ended.stderr
    assert record(tmp_path / "out")["status"] == "running"
    assert not (tmp_path / "out/model.safetensors").exists()
    done = launch("killed", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Spearman × 100") == 1
    outcome = record(tmp_path / "out")
    assert (outcome["status"], [score["step"] for score in outcome["curve"]]) == ("complete", [1, 2, 3, 4, 5, 6])
