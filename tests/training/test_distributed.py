"""Training in several processes: it gives what one process gives, and ends as a whole."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import ProportionalBatchSampler
from torch.utils.data import ConcatDataset
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.errors import ConfigurationError, DinoWarning
from dino_st.pipeline.recipe import load_recipe, run_recipe
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import load_prepared, save_prepared
from dino_st.training import distributed
from dino_st.training.batches import batches_by_kind
from dino_st.training.train import train_contrastive
from tests.training import together
from tests.training_fixtures import LAUNCHED, prepared_splits, raw_pairs, record, validation_spearman

ROOT = Path(__file__).parents[2]


def launch(directory: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    """Has two processes do parts of `together`, one behind another."""
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    return subprocess.run(
        [sys.executable, *torchrun, str(Path(__file__).with_name("together.py")), str(directory), *parts],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)},
    )


@dataclasses.dataclass(frozen=True)
class Runs:
    """What two processes did, which start only twice, since that takes most of the time; one process did `*-1`."""

    directory: Path
    killed: subprocess.CompletedProcess[str]
    """One of the two was killed in a training; `out-killed` is what it left."""
    done: subprocess.CompletedProcess[str]
    """All parts, the last of which is that training again."""


@pytest.fixture(scope="module")
def runs(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    directory = tmp_path_factory.mktemp("together")
    (directory / "bert").symlink_to(bert)
    together.masked_bert(directory / "masked-bert")
    together.masked_bert(directory / "dropout-bert", dropout=0.1)
    together.triplet_splits().save_to_disk(directory / "data")
    save_prepared(prepare_pairs(raw_pairs(30)), directory / "set")
    together.gradients(directory)
    together.trainings(directory)
    killed = launch(directory, "killed")
    shutil.copytree(directory / "out", directory / "out-killed")
    done = launch(directory, "gradients", "trainings", "resumed", "killed")
    assert done.returncode == 0, done.stderr[-3000:]
    return Runs(directory, killed, done)


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


@pytest.mark.parametrize(("processes", "told"), [(3, True), (1, False)])
def test_a_process_says_for_whom_it_waits(
    processes: int, told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(distributed, "_SILENT_SECONDS", 0.01)
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    distributed.hush_others()
    with distributed.telling_of_waits(processes):
        deadline = time.monotonic() + 20 * told
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [*map(str, (record.getMessage() for record in caplog.records))] == [
        "this process (rank 0) waits for the others, 3 in all, at localhost:29500, since WORLD_SIZE, RANK, LOCAL_RANK, "
        "MASTER_ADDR, MASTER_PORT are set, as torchrun does; where nothing has started others, take these variables "
        "out of the environment"
    ] * told


@pytest.mark.parametrize(("rank", "told"), [("0", True), ("1", False)])
def test_the_first_process_alone_prints_the_summary(monkeypatch: pytest.MonkeyPatch, rank: str, told: bool) -> None:
    for name, value in (LAUNCHED | {"RANK": rank}).items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["tasks", "--json"])
    assert done.exit_code == 0
    assert ('"command": "tasks"' in done.stdout) == told


@pytest.mark.slow
def test_the_gradients_of_two_processes_are_those_of_one(runs: Runs) -> None:
    one, two = (torch.load(runs.directory / f"gradients-{processes}.pt") for processes in (1, 2))
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
def test_two_processes_train_to_the_weights_of_one(runs: Runs) -> None:
    assert "FutureWarning" not in runs.done.stderr
    for name, steps in (("triplets", 6), ("whole", 6), ("everything", 12), ("cosine", 6), ("joint", 16)):
        one, two = (runs.directory / f"{name}-{processes}" for processes in (1, 2))
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
def test_two_processes_save_the_weights_that_they_scored_last_and_agree_with_one(runs: Runs) -> None:
    one, two = (record(runs.directory / f"plain-{processes}") for processes in (1, 2))
    assert two["processes"] == 2
    assert two["start"] == pytest.approx(one["start"], abs=1e-6)
    # 216 training pairs: 14 batches of 16, of which the last has 8.
    assert [score["step"] for score in one["curve"]] == [4, 8, 12, 14]
    assert [score["step"] for score in two["curve"]] == [4, 8, 12, 14]
    assert two["best"]["spearman"] == pytest.approx(one["best"]["spearman"], abs=0.1)
    # The last evaluation was made with the weights of both processes: they have to be those of the checkpoint.
    saved = SentenceTransformer(str(runs.directory / "plain-2"), device="cpu")
    validation = load_prepared(runs.directory / "set")["validation"]
    assert validation_spearman(saved, validation) == pytest.approx(two["best"]["spearman"], abs=1e-5)
    assert not (runs.directory / "plain-2/checkpoints").exists()


@pytest.mark.slow
def test_what_two_processes_began_they_continue_to_the_same_weights_and_different_data_are_refused(
    runs: Runs,
) -> None:
    for rank in range(2):
        assert "checkpoint-3" in (runs.directory / f"interrupted-{rank}").read_text()
        refused = (runs.directory / f"refused-{rank}").read_text()
        assert refused.startswith(
            "ConfigurationError: the processes that train together were not given the same data: "
        )
        assert "rank 0 has train sha256" in refused
    straight, resumed = (saved(runs.directory / name) for name in ("straight", "resumed"))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[key]) for key, weight in straight.items())
    assert record(runs.directory / "straight")["curve"] == record(runs.directory / "resumed")["curve"]
    assert not (runs.directory / "different").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_and_the_same_command_goes_on(runs: Runs) -> None:
    assert runs.killed.returncode != 0
    assert (runs.directory / "killed").exists()
    told = runs.killed.stderr
    assert "another of the processes that train together has ended" in told or "Interrupted." in told
    assert record(runs.directory / "out-killed")["status"] == "running"
    assert not (runs.directory / "out-killed/model.safetensors").exists()
    assert runs.done.stdout.count("Spearman × 100") == 1
    outcome = record(runs.directory / "out")
    assert (outcome["status"], [score["step"] for score in outcome["curve"]]) == ("complete", [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "here"}, "but MASTER_PORT is not: one"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "but MASTER_ADDR and MASTER_PORT are not: one"),
        (dict.fromkeys(distributed.LAUNCHER, "abc"), "WORLD_SIZE is 'abc', expected a number of processes: one"),
        ({"WORLD_SIZE": "1"}, ""),
    ],
)
def test_what_a_launcher_left_over_is_named(
    left: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in distributed.LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert distributed.count_processes() == 1
    assert (words in caplog.text) if words else not caplog.text
    assert "WORLD_SIZE" not in os.environ
