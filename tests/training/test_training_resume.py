"""Training runs that were interrupted, moved, finished, or are somebody else's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from datasets import DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerState

from dino_st.errors import InputError, OutputError
from dino_st.support.files import LOCK, only_writer
from dino_st.training.train import train_encoder
from dino_st.training.trainer import TellEpoch
from tests.training_fixtures import QUICK, prepared_splits, record, save_model, validation_spearman, weights


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupts training as Ctrl-C would, once a step is done."""

    class Interrupt(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                raise KeyboardInterrupt

    import dino_st.training.trainer

    make = dino_st.training.trainer.make_trainer

    def interrupted(*arguments: Any) -> Any:
        trainer = make(*arguments)
        trainer.add_callback(Interrupt())
        return trainer

    monkeypatch.setattr(dino_st.training.trainer, "make_trainer", interrupted)


@pytest.mark.parametrize("batches", [{}, {"balanced_batches": True}, {"sorted_batches": 2}])
def test_an_interrupted_run_continues_to_the_same_weights(
    batches: dict[str, Any], bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = QUICK | {"epochs": 2} | batches
    straight = weights(train_encoder(splits, bert, tmp_path / "straight", **options))
    with monkeypatch.context() as patch:
        stop_after(patch, 14)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(splits, bert, tmp_path / "out", **options)
    assert record(tmp_path / "out")["status"] == "running"
    assert (tmp_path / "out" / "checkpoints" / "checkpoint-12").is_dir()
    resumed = weights(train_encoder(splits, bert, tmp_path / "out", **options))
    assert all(torch.equal(weight, resumed[name]) for name, weight in straight.items())
    assert record(tmp_path / "out")["curve"] == record(tmp_path / "straight")["curve"]
    assert record(tmp_path / "out")["start"] == record(tmp_path / "straight")["start"]


def test_a_run_that_writes_weights_alone_writes_the_better_ones_and_starts_over_when_interrupted(
    bert: Path,
    splits: DatasetDict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    straight = weights(train_encoder(splits, bert, tmp_path / "straight", **QUICK))
    options = QUICK | {"weights_only": True, "keep_checkpoints": True}
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(splits, bert, tmp_path / "out", **options)
    found = weights(train_encoder(splits, bert, tmp_path / "out", **options))
    assert "holds weights alone (weights_only), so training starts over" in caplog.text
    assert all(torch.equal(weight, found[name]) for name, weight in straight.items())
    written = record(tmp_path / "out")
    assert written["curve"] == record(tmp_path / "straight")["curve"]
    best, better = -1.0, []
    for score in written["curve"]:
        if score["spearman"] > best:
            best, better = score["spearman"], [*better, score["step"]]
    checkpoints = tmp_path / "out" / "checkpoints"
    steps = sorted(int(place.name.split("-")[1]) for place in checkpoints.glob("checkpoint-*"))
    assert steps == better[-2:]
    assert not [*checkpoints.rglob("optimizer.*")]
    assert [*checkpoints.rglob("model.safetensors")]


def test_each_of_several_processes_shuffles_by_the_epoch_in_which_it_continues() -> None:
    sampler = DefaultBatchSampler(range(8), batch_size=2, drop_last=False)  # type: ignore[arg-type]
    batches = BatchSamplerShard(sampler, num_processes=2, process_index=0)
    callback, loader = TellEpoch(), DataLoader(range(8), batch_sampler=batches)  # type: ignore[arg-type]
    callback.on_train_begin(None, TrainerState(epoch=1.5), None)  # type: ignore[arg-type]
    told = []
    for _ in range(2):
        callback.on_epoch_begin(train_dataloader=loader)
        told.append(sampler.epoch)
    assert told == [1, 2]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_a_checkpoint_whose_files_are_cut_off_is_called_damaged(
    name: str, bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 14)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(splits, bert, tmp_path / "out", **QUICK, epochs=2)
    newest = max(
        (tmp_path / "out/checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])
    )
    file = next(newest.rglob(name))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"checkpoints: the newest checkpoint is damaged \(.*; remove it"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK, epochs=2)


def test_a_run_stopped_before_its_first_checkpoint_starts_again(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(splits, bert, tmp_path / "out", **QUICK)
    train_encoder(splits, bert, tmp_path / "out", **QUICK)
    assert record(tmp_path / "out")["status"] == "complete"


def test_a_run_that_was_moved_and_a_half_written_checkpoint_are_coped_with(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(splits, bert, tmp_path / "out", **QUICK)
    moved = tmp_path / "moved"
    (tmp_path / "out").rename(moved)
    shutil.copytree(moved / "checkpoints" / "checkpoint-8", moved / "checkpoints" / "checkpoint-9")
    (moved / "checkpoints" / "checkpoint-9" / "trainer_state.json").write_text('{"glob')
    train_encoder(splits, bert, moved, **QUICK)
    assert [score["step"] for score in record(moved)["curve"]] == [4, 8, 10]


def test_a_run_stopped_while_the_encoder_is_saved_only_has_to_save_it(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SentenceTransformer, "save_pretrained", _stop_at_the_end(tmp_path / "out"))
        with pytest.raises(KeyboardInterrupt):
            train_encoder(splits, bert, tmp_path / "out", **QUICK)
    assert record(tmp_path / "out")["status"] == "running"
    stop_after(monkeypatch, 1)  # not a single step is left to train
    model = train_encoder(splits, bert, tmp_path / "out", **QUICK)
    assert [score["step"] for score in record(tmp_path / "out")["curve"]] == [4, 8, 10]
    best = record(tmp_path / "out")["best"]["spearman"]
    assert validation_spearman(model, splits["validation"]) == pytest.approx(best, abs=1e-5)


def _stop_at_the_end(output: Path) -> Any:
    """Saves checkpoints as ever, and is interrupted when the encoder itself is saved."""
    save = SentenceTransformer.save_pretrained

    def interrupted(self: SentenceTransformer, path: str, *arguments: Any, **named: Any) -> None:
        if Path(path) == output:
            raise KeyboardInterrupt
        save(self, path, *arguments, **named)

    return interrupted


def test_a_directory_that_another_process_trains_into_is_refused(
    bert: Path, splits: DatasetDict, tmp_path: Path
) -> None:
    with only_writer(tmp_path / "out"), pytest.raises(OutputError, match="another process is writing there"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK)
    train_encoder(splits, bert, tmp_path / "out", **QUICK)
    assert not (tmp_path / "out" / LOCK).exists()


def test_a_finished_run_is_returned_without_training(
    bert: Path, splits: DatasetDict, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = weights(train_encoder(splits, bert, tmp_path / "out", **QUICK))
    stop_after(monkeypatch, 1)
    with caplog.at_level("INFO", logger="dino_st"):
        second = weights(train_encoder(splits, bert, tmp_path / "out", **QUICK))
    assert "training is done already" in caplog.text
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_another_run_in_the_same_directory_is_refused_unless_it_starts_over(
    bert: Path, splits: DatasetDict, tmp_path: Path
) -> None:
    train_encoder(splits, bert, tmp_path / "out", **QUICK)
    with pytest.raises(OutputError, match=r"another training run \(seed was 42, now 1\).*overwrite=True"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK, seed=1)
    with pytest.raises(OutputError, match="the train pairs are others"):
        train_encoder(prepared_splits(160, 60, seed=9), bert, tmp_path / "out", **QUICK)
    with pytest.raises(OutputError, match="encoder was 'tiny-bert', now 'gpt2'"):
        train_encoder(splits, save_model(tmp_path / "gpt2", "gpt2"), tmp_path / "out", **QUICK)
    train_encoder(splits, bert, tmp_path / "out", **QUICK, seed=1, resume=False, keep_checkpoints=True)
    assert record(tmp_path / "out")["options"]["seed"] == 1
    assert (tmp_path / "out" / "checkpoints" / "checkpoint-10").is_dir()


def test_a_directory_with_something_else_is_refused_and_untouched(
    bert: Path, splits: DatasetDict, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (True, False):
        with pytest.raises(OutputError, match="holds something else than a training run"):
            train_encoder(splits, bert, tmp_path, **QUICK, resume=resume)
    with pytest.raises(OutputError, match="is a file"):
        train_encoder(splits, bert, tmp_path / "notes.txt", **QUICK)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training.json").write_text("{}")
    with pytest.raises(OutputError, match=r"training\.json: options: this field is missing"):
        train_encoder(splits, bert, tmp_path / "run", **QUICK)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["notes.txt"]
