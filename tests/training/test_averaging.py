"""The mean of an encoder's weights before and after training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import DatasetDict
from sentence_transformers import SentenceTransformer
from torch import nn

from dino_st.encoders.averaging import SHARES, keep_average, weights_of
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError, TrainingError
from dino_st.training.record import training_summary
from dino_st.training.train import train_contrastive, train_encoder
from tests.training import together
from tests.training_fixtures import QUICK, record, tiny_encoder, validation_spearman, weights


class Scale(nn.Module):
    """One weight, and a count that is none."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.register_buffer("count", torch.tensor(7))


def averaged(scores: dict[float, float], share: float | str) -> tuple[float, list[tuple[float, float]]]:
    """A model whose weight goes from 0 to 8, with correlations by what the weight is; the weight that is kept."""
    model = Scale(8.0)
    start = weights_of(Scale(0.0))
    found = keep_average(model, start, share, scores[8.0], lambda: scores[model.weight.item()])
    assert model.count.item() == 7
    return model.weight.item(), found


def test_auto_keeps_the_mean_that_scores_best() -> None:
    weight, found = averaged({8.0: 0.5, 6.0: 0.7, 4.0: 0.8, 2.0: 0.6}, "auto")
    assert weight == 4.0
    assert found[0] == (0.5, 0.8)
    assert sorted(share for share, _ in found) == list(SHARES)


def test_at_a_tie_what_was_trained_is_kept_and_an_undefined_score_chooses_nothing() -> None:
    weight, found = averaged({8.0: 0.8, 6.0: 0.8, 4.0: math.nan, 2.0: 0.6}, "auto")
    assert weight == 8.0
    assert [share for share, _ in found] == [0.0, 0.25, 0.75]


def test_a_share_that_is_given_is_taken_whatever_it_scores_unless_that_is_undefined() -> None:
    scores = {8.0: 0.8, 2.0: 0.6}
    assert averaged(scores, 0.75) == (2.0, [(0.75, 0.6)])
    with pytest.raises(TrainingError, match=r"start_share = 0\.75: the mean .* choose another share, or auto"):
        averaged(scores | {2.0: math.nan}, 0.75)


def test_the_encoder_that_is_saved_is_the_mean_of_its_start_and_the_best_checkpoint(
    bert: Path, splits: DatasetDict, tmp_path: Path
) -> None:
    start = weights(load_trainable_encoder(bert, device="cpu"))
    trained = weights(train_encoder(splits, bert, tmp_path / "trained", **QUICK))
    train_encoder(splits, bert, tmp_path / "mean", start_share=0.25, **QUICK)
    mean = SentenceTransformer(str(tmp_path / "mean"), device="cpu")
    for name, weight in weights(mean).items():
        torch.testing.assert_close(weight, 0.25 * start[name] + 0.75 * trained[name])
    kept, run = record(tmp_path / "mean"), record(tmp_path / "trained")
    assert kept["curve"] == run["curve"]
    assert not run["averages"]
    (average,) = kept["averages"]
    assert average["spearman"] == pytest.approx(validation_spearman(mean, splits["validation"]), abs=1e-5)
    assert average["spearman"] != pytest.approx(run["best"]["spearman"], abs=1e-4)


def test_what_is_told_of_an_average_is_what_was_kept(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    place = tmp_path / "out"
    model = train_encoder(splits, bert, place, start_share="auto", **QUICK)
    averages = record(place)["averages"]
    assert [average["spearman"] for average in averages] == sorted((a["spearman"] for a in averages), reverse=True)
    assert validation_spearman(model, splits["validation"]) == pytest.approx(averages[0]["spearman"], abs=1e-5)
    card = (place / "README.md").read_text(encoding="utf-8")
    for average in averages:
        assert f"| share of the start {average['start_share']:g} | {100 * average['spearman']:.2f} |" in card
    file = place / "training.json"
    half = [{"start_share": 0.5, "spearman": 0.9}, {"start_share": 0.0, "spearman": 0.8}]
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"averages": half}), encoding="utf-8")
    assert "90.00 with a share of 0.5 of the start's weights (kept)" in training_summary(place)


def test_triplets_may_be_trained_so_too(tmp_path: Path) -> None:
    encoder = together.masked_bert(tmp_path / "bert")
    options: dict[str, Any] = {**together.TRIPLETS, "mlm_weight": 0.1, "mlp_head": "train"}
    train_contrastive(together.triplet_splits(), encoder, tmp_path / "out", start_share=0.5, **options)
    start = weights(load_trainable_encoder(encoder, device="cpu", pooling="mean"))
    saved = weights(SentenceTransformer(str(tmp_path / "out"), device="cpu"))
    assert saved.keys() == start.keys()
    assert [average["start_share"] for average in record(tmp_path / "out")["averages"]] == [0.5]


@pytest.mark.parametrize("share", [1, -0.1, "half", "nan", True])
def test_shares_that_are_none_are_refused(bert: Path, splits: DatasetDict, tmp_path: Path, share: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"'start_share' is .*; expected 'auto', or a number from 0 to below 1"
    ):
        train_encoder(splits, bert, tmp_path / "out", start_share=share, **QUICK)
    assert not (tmp_path / "out").exists()


def test_what_has_no_start_is_refused(splits: DatasetDict, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="either start_share or mlp_head='keep', whose layer has no start"):
        train_contrastive(together.triplet_splits(), "bert", tmp_path / "out", start_share=0.5, mlp_head="keep")
    peft = pytest.importorskip("peft", reason="needs peft")
    model = tiny_encoder(tmp_path / "base")
    model.add_adapter(peft.LoraConfig(target_modules=["query", "value"]))
    with pytest.raises(ConfigurationError, match="start_share together with an adapter of PEFT"):
        train_encoder(splits, model, tmp_path / "out", start_share="auto", **QUICK)
