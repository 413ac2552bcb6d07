"""Graded pairs and in-batch contrast in one run: what is contrasted, what never meets in a batch, what is recorded."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from typer.testing import CliRunner

import dino_st.training.trainer
from dino_st.cli.main import app
from dino_st.errors import ConfigurationError, DatasetError, OutputError
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import save_prepared
from dino_st.training.batches import BalancedBatches
from dino_st.training.objective import pair_objective
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from dino_st.training.train import train_encoder
from tests.training.test_training_resume import stop_after
from tests.training_fixtures import QUICK, raw_pairs, record, weights

JOINT: dict[str, Any] = {**QUICK, "objective": "joint"}


def sampler_of(objective: Any, part: str, size: int) -> Any:
    named = {"drop_last": False, "valid_label_columns": ["score"], "generator": torch.Generator(), "seed": 1}
    return objective.batch_sampler(objective.train[part], size, **named)


def test_pairs_of_one_sentence_never_meet_as_negatives_in_a_batch_and_none_is_left_out() -> None:
    splits = prepare_pairs(raw_pairs(40), validation_share=0.1)  # smoothed: 0.9, 0.5, 0.1, and 0 for random pairs
    objective = pair_objective(splits, TrainingOptions(objective="joint", batch_size=16))
    rows = objective.train["positives"]
    assert rows.column_names == ["sentence1", "sentence2"]  # a score would be taken for a label
    expected = [(row["sentence1"], row["sentence2"]) for row in splits["train"] if row["score"] == 0.9]
    assert [tuple(row.values()) for row in rows] == expected
    assert len({first for first, _ in expected}) < len(expected)  # two texts for most x1
    batches = list(sampler_of(objective, "positives", 16))
    assert sorted(place for batch in batches for place in batch) == list(range(len(rows)))
    for batch in batches:
        texts = [text for place in batch for text in rows[place].values()]
        assert len(texts) == len(set(texts))
    graded = list(sampler_of(objective, "graded", 16))
    assert sorted(place for batch in graded for place in batch) == list(range(len(splits["train"])))
    pickle.dumps(objective.batch_sampler)


def test_balanced_batches_are_of_the_graded_pairs_alone(splits: DatasetDict) -> None:
    objective = pair_objective(splits, TrainingOptions(objective="joint", batch_size=16, balanced_batches=True))
    assert isinstance(sampler_of(objective, "graded", 16), BalancedBatches)
    assert type(sampler_of(objective, "positives", 16)).__name__ == "NoDuplicatesBatchSampler"


@pytest.mark.parametrize(("loss", "kind"), [("cosine", losses.CosineSimilarityLoss), ("cosent", losses.CoSENTLoss)])
def test_each_kind_of_pairs_has_its_own_loss_and_both_are_trained(
    loss: str, kind: type, bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    make = dino_st.training.trainer.make_trainer

    def watched(*given: Any) -> Any:
        seen["trainer"] = make(*given)
        seen["parts"] = []
        compute = seen["trainer"].compute_loss

        def compute_loss(model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            seen["parts"].append(inputs["dataset_name"])
            return compute(model, inputs, *more, **named)

        seen["trainer"].compute_loss = compute_loss
        return seen["trainer"]

    monkeypatch.setattr(dino_st.training.trainer, "make_trainer", watched)
    model = train_encoder(splits, bert, tmp_path / "out", **JOINT, loss=loss)
    assert type(seen["trainer"].loss["graded"]) is kind
    assert type(seen["trainer"].loss["positives"]) is losses.MultipleNegativesRankingLoss
    count = sum(score >= 0.75 for score in splits["train"]["score"])
    assert record(tmp_path / "out")["data"]["pairs to contrast"] == count
    # 160 pairs in batches of 16 are ten steps; the pairs of label 1 take as many as their batches are.
    assert seen["parts"].count("graded") == 10
    assert count // 16 <= seen["parts"].count("positives") <= count // 16 + 2
    outcome = record(tmp_path / "out")
    assert outcome["best"]["spearman"] == max(score["spearman"] for score in outcome["curve"])
    assert outcome["best"]["spearman"] > outcome["start"] + 0.1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pairs of a score of at least 0.75 were contrasted with one another as well" in card
    saved = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert all(torch.equal(weight, weights(saved)[name]) for name, weight in weights(model).items())


def test_an_interrupted_joint_run_continues_to_the_same_weights(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = weights(train_encoder(splits, bert, tmp_path / "straight", **JOINT, epochs=2))
    with monkeypatch.context() as patch:
        stop_after(patch, 17)
        with pytest.raises(KeyboardInterrupt):
            train_encoder(splits, bert, tmp_path / "out", **JOINT, epochs=2)
    resumed = weights(train_encoder(splits, bert, tmp_path / "out", **JOINT, epochs=2))
    assert all(torch.equal(weight, resumed[name]) for name, weight in straight.items())
    with pytest.raises(OutputError, match="objective was 'joint', now 'graded'"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK, epochs=2)


def test_too_few_pairs_to_contrast_are_refused_before_the_encoder_is_loaded(
    splits: DatasetDict, tmp_path: Path
) -> None:
    message = r"score is at least 2, and those have 0 distinct first sentences, fewer than a batch of 16; choose"
    with pytest.raises(DatasetError, match=message):
        train_encoder(splits, "no-encoder", tmp_path / "out", **JOINT, positive_score=2)
    one = Dataset.from_list([{"sentence1": "a", "sentence2": str(n), "score": n % 2} for n in range(40)])
    with pytest.raises(DatasetError, match=r"at least 0\.75, and those have 1 distinct"):
        train_encoder(DatasetDict(train=one, validation=splits["validation"]), "no-encoder", tmp_path / "out", **JOINT)


def test_the_joint_objective_is_of_pairs_and_on_the_command_line(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'objective' is 'joint'; expected 'graded'"):
        ContrastiveOptions.of(objective="joint")
    save_prepared(prepare_pairs(raw_pairs(40)), tmp_path / "prepared")
    options = ["--batch-size", "16", "--evaluation-steps", "4", "--device", "cpu", "--learning-rate", "1e-3"]
    arguments = ["train", str(tmp_path / "prepared"), "--encoder", str(bert), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--objective", "joint", *options])
    assert done.exit_code == 0, done.output
    assert record(tmp_path / "out")["options"]["objective"] == "joint"
    assert "--objective" not in CliRunner().invoke(app, ["train-contrastive", "--help"]).output
