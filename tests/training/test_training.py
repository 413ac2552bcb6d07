"""Training an encoder: the recipe, what it refuses, and running in several processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from huggingface_hub import ModelCardData
from packaging.version import Version
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.modules import Router
from transformers import AutoModel, TrainerCallback

from dino_st.data.cards import read_header, state_origin
from dino_st.encoders.loading import check_saved_form, load_trainable_encoder
from dino_st.errors import (
    ConfigurationError,
    DatasetError,
    DinoWarning,
    InputError,
    MissingExtraError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    TrainingError,
)
from dino_st.pipeline.stages import train_model
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import save_prepared
from dino_st.training import train
from dino_st.training.data import pair_splits
from dino_st.training.options import TrainingOptions
from dino_st.training.train import train_encoder
from tests.hub_stand_in import problems
from tests.training_fixtures import (
    LAUNCHED,
    QUICK,
    make_tokenizer,
    raw_pairs,
    record,
    save_model,
    sentences,
    tiny_encoder,
    validation_spearman,
    weights,
)


def test_the_trained_encoder_is_the_best_checkpoint_and_is_saved(
    bert: Path, splits: DatasetDict, tmp_path: Path
) -> None:
    model = train_encoder(splits, bert, tmp_path / "out", **QUICK)
    run = record(tmp_path / "out")
    # 160 pairs in batches of 16 are ten steps: evaluations at 4 and 8, and at the end of the epoch.
    assert [score["step"] for score in run["curve"]] == [4, 8, 10]
    best = max(run["curve"], key=lambda score: score["spearman"])
    assert run["best"] == best
    assert run["status"] == "complete"
    assert run["start"] == pytest.approx(
        validation_spearman(load_trainable_encoder(bert), splits["validation"]), abs=1e-5
    )
    saved = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    for encoder in (model, saved):
        assert validation_spearman(encoder, splits["validation"]) == pytest.approx(best["spearman"], abs=1e-5)
    assert best["spearman"] > run["start"] + 0.1
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_student_of_a_language_model_is_trained_saved_and_not_continued_as_another(
    splits: DatasetDict, tmp_path: Path
) -> None:
    llama = save_model(tmp_path / "llama", "llama")
    shape: dict[str, Any] = {"layers": 1, "pooling": "last", "bidirectional": True}
    model = train_encoder(splits, llama, tmp_path / "out", **QUICK, **shape)
    assert record(tmp_path / "out")["options"].items() >= shape.items()
    saved = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert saved[1].pooling_mode == "lasttoken"
    assert saved[0].model.config.is_causal is False
    assert torch.equal(
        torch.tensor(saved.encode(["a dog", "the cat eats"])), torch.tensor(model.encode(["a dog", "the cat eats"]))
    )
    with pytest.raises(OutputError, match="pooling was 'last', now 'mean'"):
        train_encoder(splits, llama, tmp_path / "out", **QUICK, **shape | {"pooling": "mean"})


def test_a_set_with_fewer_steps_than_an_evaluation_is_evaluated_at_the_end_of_each_epoch(
    bert: Path, splits: DatasetDict, tmp_path: Path
) -> None:
    train_encoder(splits, bert, tmp_path / "out", **QUICK | {"evaluation_steps": 100, "epochs": 2})
    assert [score["step"] for score in record(tmp_path / "out")["curve"]] == [10, 20]


def test_a_last_step_that_was_evaluated_is_not_evaluated_again(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    train_encoder(splits, bert, tmp_path / "out", **QUICK | {"evaluation_steps": 5})
    assert [score["step"] for score in record(tmp_path / "out")["curve"]] == [5, 10]


def test_the_best_checkpoint_is_kept_even_when_it_is_not_the_last(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    at_step: dict[int, dict[str, torch.Tensor]] = {}
    made_up = {-1: 0.1, 4: 0.9, 8: 0.3, 10: 0.2}

    def score(self: Any, model: SentenceTransformer, output: str | None, epoch: float, steps: int) -> dict[str, float]:
        is_reload = steps == 10 and 10 in at_step
        at_step.setdefault(steps, weights(model))
        return {"validation_spearman_cosine": 0.9 if is_reload else made_up[steps]}

    monkeypatch.setattr(EmbeddingSimilarityEvaluator, "__call__", score)
    model = train_encoder(splits, bert, tmp_path / "out", **QUICK)
    assert record(tmp_path / "out")["best"] == {"step": 4, "spearman": 0.9}
    assert all(torch.equal(weight, at_step[4][name]) for name, weight in weights(model).items())
    assert not all(torch.equal(weight, at_step[10][name]) for name, weight in weights(model).items())


def test_the_rate_warms_up_over_a_tenth_of_the_steps_and_the_recipe_is_the_published_one(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dino_st.training.trainer

    rates: list[float] = []
    seen: dict[str, Any] = {}
    make = dino_st.training.trainer.make_trainer

    class Record(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            seen["arguments"] = args
            rates.append(named["optimizer"].param_groups[0]["lr"])

    def recorded(*arguments: Any) -> Any:
        trainer = make(*arguments)
        trainer.add_callback(Record())
        seen["loss"] = type(trainer.loss).__name__
        return trainer

    monkeypatch.setattr(dino_st.training.trainer, "make_trainer", recorded)
    train_encoder(splits, bert, tmp_path / "out", batch_size=8, device="cpu")
    # 160 pairs in batches of 8: 20 steps, two of warm-up; after step k the rate is that of step k + 1.
    assert rates[:3] == pytest.approx([1e-5, 2e-5, 2e-5 * 17 / 18])
    assert rates[-1] == 0
    assert seen["loss"] == "CosineSimilarityLoss"
    assert (seen["arguments"].weight_decay, seen["arguments"].max_grad_norm) == (0.01, 1.0)
    assert (seen["arguments"].eval_steps, seen["arguments"].report_to) == (100, [])


@pytest.mark.parametrize(("name", "loss"), [("cosent", "CoSENTLoss"), ("angle", "AnglELoss")])
def test_other_losses_are_chosen_by_name(bert: Path, splits: DatasetDict, tmp_path: Path, name: str, loss: str) -> None:
    train_encoder(splits, bert, tmp_path / "out", **QUICK, loss=name)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"Loss: [<code>{loss}</code>]" in card


def test_the_same_seed_gives_the_same_weights(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    first, second, other = (
        weights(train_encoder(splits, bert, tmp_path / name, **QUICK, seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_causal_language_model_becomes_an_encoder_that_also_encodes_in_batches_after_loading(
    splits: DatasetDict, tmp_path: Path, family: str
) -> None:
    directory = save_model(tmp_path / "model", family)
    train_encoder(splits, directory, tmp_path / "out", **QUICK)
    loaded = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    texts = ["the dog eats", sentences(1)[0] + " and " + sentences(1)[0]]
    together = loaded.encode(texts, batch_size=2)
    alone = [loaded.encode([text])[0] for text in texts]
    assert torch.allclose(torch.tensor(together), torch.tensor(np.stack(alone)), atol=1e-5)
    assert loaded.tokenizer.pad_token == "<|endoftext|>"
    assert loaded.tokenizer.padding_side == "right"


def test_mean_pooling_averages_the_token_vectors(bert: Path) -> None:
    encoder = load_trainable_encoder(bert, device="cpu")
    text = sentences(1)[0]
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(bert)(
            **make_tokenizer(pad=True)(text, return_tensors="pt")
        ).last_hidden_state
    assert torch.allclose(torch.tensor(encoder.encode(text)), hidden[0].mean(dim=0), atol=1e-5)


def test_weights_stored_in_bfloat16_are_trained_in_float32(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "model")
    AutoModel.from_pretrained(directory).to(torch.bfloat16).save_pretrained(directory)
    assert {weight.dtype for weight in load_trainable_encoder(directory).parameters()} == {torch.float32}


def test_a_model_in_memory_and_a_sentence_transformers_directory_can_be_trained(
    splits: DatasetDict, tmp_path: Path
) -> None:
    model = tiny_encoder(tmp_path / "plain")
    model.save(str(tmp_path / "encoder"))
    assert train_encoder(splits, model, tmp_path / "a", **QUICK) is model
    again = train_encoder(splits, str(tmp_path / "encoder"), tmp_path / "b", **QUICK)
    assert all(torch.equal(weight, weights(again)[name]) for name, weight in weights(model).items())
    assert record(tmp_path / "a")["encoder"] == "SentenceTransformer"


def test_the_length_is_limited_and_saved(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    train_encoder(splits, bert, tmp_path / "out", **QUICK, max_seq_length=16)
    assert SentenceTransformer(str(tmp_path / "out"), device="cpu").max_seq_length == 16
    with pytest.raises(ConfigurationError, match=r"max_seq_length is 65, but .*tiny-bert' has 64 positions"):
        train_encoder(splits, bert, tmp_path / "long", **QUICK, max_seq_length=65)


def test_texts_that_are_cut_are_told_and_their_share_is_recorded(
    splits: DatasetDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="dino_st")
    train = splits["train"].to_list()
    for number, row in enumerate(train[-4:]):  # the last ones must be looked at, too
        row["sentence2"] = " ".join(one["sentence1"] for one in train[number:])
    data = DatasetDict(train=Dataset.from_list(train), validation=splits["validation"])
    for length, level in ((None, "WARNING"), (64, "INFO")):
        caplog.clear()
        place = tmp_path / str(length)
        train_encoder(data, str(save_model(tmp_path / "bert")), place, **QUICK, max_seq_length=length)
        assert [one.levelname for one in caplog.records if "longer than the 64 tokens" in one.message] == [level]
        assert 0 < float(record(place)["data"]["texts cut"].rstrip("%")) < 10


def test_mixed_precision_keeps_the_weights_in_float32(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    model = train_encoder(splits, bert, tmp_path / "out", **QUICK, dtype="bfloat16")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_the_card_says_where_the_data_comes_from_and_the_record_keeps_it(bert: Path, tmp_path: Path) -> None:
    provenance = {"model": "tiny-lm", "generator": {"model": "tiny-lm", "weights": "abc"}, "task": "sts-x2", "seed": 42}
    save_prepared(prepare_pairs(raw_pairs(30)), tmp_path / "set", provenance=provenance)
    state_origin(tmp_path / "set", language=["en"], license="cc-by-4.0")
    train_encoder(tmp_path / "set", bert, tmp_path / "out", **QUICK)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for line in ("| generator.model | tiny-lm |", "| task | sts-x2 |", "| preparation.counts.input | 180 |"):
        assert line in card
    assert "No human label was used" in card
    assert card.count("## Training data: written by a language model") == 1
    assert record(tmp_path / "out")["provenance"]["generator"] == provenance["generator"]
    assert record(tmp_path / "out")["provenance"]["preparation"]["seed"] == 42
    assert "can be used for semantic textual similarity." in card
    assert f"seconds on {record(tmp_path / 'out')['hardware']}." in card
    header = ModelCardData(**read_header(tmp_path / "out"))
    assert (header.language, header.license) == (["en"], None)  # the licence of data is not that of a model
    assert (header.pipeline_tag, header.library_name) == ("sentence-similarity", "sentence-transformers")
    assert {"sentence-transformers", "dino-st", "synthetic"} <= set(header.tags)
    assert not problems(card, "model")


@pytest.mark.parametrize("provenance", [{}, {"raw": "own.csv"}, {"model": "unknown", "scored_by": "tiny-lm"}])
def test_no_card_says_of_pairs_of_unknown_origin_who_wrote_or_labelled_them(
    provenance: dict[str, str], bert: Path, tmp_path: Path
) -> None:
    prepared = prepare_pairs(raw_pairs(30))
    save_prepared(prepared, tmp_path / "set", provenance=provenance)
    assert f"{prepared.counts['random_negatives']} of the pairs are random" in (tmp_path / "set/README.md").read_text()
    summary = train_model(tmp_path / "set", str(bert), tmp_path / "out", TrainingOptions.of(**QUICK))
    assert "Spearman × 100 on the given validation pairs" in summary
    for place, unknown in (("set", "Who wrote the texts"), ("out", "Who wrote and labelled the data")):
        card = (tmp_path / place / "README.md").read_text(encoding="utf-8")
        assert unknown in card
        assert "language model" not in card
        assert "human" not in card
        assert "synthetic" not in read_header(tmp_path / place)["tags"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cosin"}, "'loss' is 'cosin'; expected 'cosine', 'cosent' or 'angle'; did you mean 'cosine'"),
        ({"device": "cud"}, "'device' is 'cud'; expected .*did you mean 'cuda'"),
        ({"learning_rate": 0}, "'learning_rate' is 0; expected greater than 0"),
        ({"warmup_share": 1}, "'warmup_share' is 1; expected less than 1"),
        ({"epochs": 0}, "'epochs' is 0"),
        ({"dtype": "float16"}, "'dtype' is 'float16'; expected 'auto', 'float32' or 'bfloat16'"),
        ({"batch_size": 1.5}, r"'batch_size' is 1\.5"),
    ],
)
def test_options_out_of_range_are_refused_by_name(
    bert: Path, splits: DatasetDict, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train_encoder(splits, bert, tmp_path / "out", **QUICK | options)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_missing_is_refused(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="device is 'cuda', which this machine lacks"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK | {"device": "cuda"})


def test_data_that_cannot_be_trained_on_is_refused(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    def train(data: Any, **options: Any) -> None:
        train_encoder(data, bert, tmp_path / "out", **QUICK | options)

    with pytest.raises(DatasetError, match=r"the splits \['train'\]; expected .* 'train' and 'validation'"):
        train(DatasetDict(train=splits["train"]))
    with pytest.raises(DatasetError, match="is a Dataset; expected a DatasetDict"):
        train(splits["train"])
    with pytest.raises(DatasetError, match="160 training pairs are fewer than a batch of 161"):
        train(splits, batch_size=161)
    words = splits["validation"].remove_columns("score").add_column("label", ["a"] * 60)
    with pytest.raises(DatasetError, match=r"the validation split has the column 'label'.*numeric labels"):
        train(DatasetDict(train=splits["train"], validation=words))
    same = splits["validation"].remove_columns("score").add_column("score", [0.5] * 60)
    with pytest.raises(DatasetError, match="fewer than two different scores"):
        train(DatasetDict(train=splits["train"], validation=same))
    with pytest.raises(InputError, match=r"has no preparation\.json"):
        train(bert)
    assert not (tmp_path / "out").exists()


def test_an_empty_validation_split_is_named(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    data = DatasetDict(train=splits["train"], validation=splits["validation"].select([]))
    with pytest.raises(
        DatasetError, match=r"the validation split is empty, .* prepare with a validation_share above 0"
    ):
        train_encoder(data, bert, tmp_path / "out", **QUICK)


def test_extra_columns_never_become_text(bert: Path, splits: DatasetDict, tmp_path: Path) -> None:
    extended = splits.map(lambda row: row | {"sentence3": "noise", "label": 0.3})
    plain = weights(train_encoder(splits, bert, tmp_path / "a", **QUICK))
    other = weights(train_encoder(extended, bert, tmp_path / "b", **QUICK))
    assert all(torch.equal(weight, other[name]) for name, weight in plain.items())


def test_encoders_that_cannot_be_loaded_are_refused(splits: DatasetDict, tmp_path: Path) -> None:
    def train(encoder: Path | str) -> None:
        train_encoder(splits, encoder, tmp_path / "out", **QUICK)

    with pytest.raises(ModelError, match="does not exist"):
        train(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="is not a model"):
        train(tmp_path / "empty")
    with pytest.raises(ModelError, match=r"'nosuch-encoder': there is no such directory, and .*out of reach"):
        train("nosuch-encoder")
    damaged = save_model(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="truncated or damaged"):
        train(damaged)
    (damaged / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no weights \(no \*\.safetensors"):
        train(damaged)
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused_with_a_command_that_converts_them(splits: DatasetDict, tmp_path: Path) -> None:
    directory = save_model(tmp_path / "model", "gpt2")
    model = AutoModel.from_pretrained(directory)
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the weights are a pickle \(pytorch_model\.bin\)") as caught:
        train_encoder(splits, directory, tmp_path / "out", **QUICK)
    command = str(caught.value).splitlines()[1]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True, capture_output=True)
    assert (directory / "model.safetensors").is_file()
    load_trainable_encoder(directory)


def test_a_model_with_code_of_its_own_is_refused(splits: DatasetDict, tmp_path: Path) -> None:
    directory = save_model(tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "code.Own", "AutoModel": "code.OwnModel"}}
    (directory / "config.json").write_text(json.dumps(config | own))
    (directory / "code.py").write_text("raise SystemExit('this code must never run')")
    with pytest.raises(ModelError, match="code of its own, and such code is never run"):
        train_encoder(splits, directory, tmp_path / "out", **QUICK)


def test_a_tokenizer_without_any_token_to_pad_with_is_refused(splits: DatasetDict, tmp_path: Path) -> None:
    directory = save_model(tmp_path / "model", "gpt2")
    tokenizer = make_tokenizer(pad=False)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(directory)
    with pytest.raises(ModelError, match="neither a padding nor an end-of-text token"):
        train_encoder(splits, directory, tmp_path / "out", **QUICK)


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_an_encoder_that_collapses_is_an_error_that_says_so(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    scores: list[float] = []
    monkeypatch.setattr(
        EmbeddingSimilarityEvaluator,
        "__call__",
        lambda *_, **__: {"validation_spearman_cosine": scores.pop() if scores else float("nan")},
    )
    with pytest.raises(
        TrainingError, match=r"no evaluation gave a Spearman correlation.*before training, too: .*tokenizer"
    ):
        train_encoder(splits, bert, tmp_path / "out", **QUICK)
    scores.append(0.5)
    with pytest.raises(TrainingError, match=r"no evaluation gave a Spearman correlation.*lower learning_rate"):
        train_encoder(splits, bert, tmp_path / "other", **QUICK)


def test_training_that_only_makes_it_worse_warns(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    scores = [0.8, 0.2]

    def score(self: Any, model: SentenceTransformer, output: str | None, epoch: float, steps: int) -> dict[str, float]:
        return {"validation_spearman_cosine": scores[steps >= 1]}

    monkeypatch.setattr(EmbeddingSimilarityEvaluator, "__call__", score)
    with pytest.warns(DinoWarning, match=r"Spearman 0\.8000 before, 0\.2000 at best"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK)
    scores[:] = 0.800049, 0.800041
    train_encoder(splits, bert, tmp_path / "same", **QUICK)  # warnings are errors


def test_running_out_of_memory_says_what_to_make_smaller(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    def exhausted(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CosineSimilarityLoss, "compute_loss_from_embeddings", exhausted)
    with pytest.raises(OutOfMemoryError, match=r"a batch of 16 pairs does not fit.*smaller batch_size"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK)


def test_a_batch_that_the_processes_cannot_share_is_refused(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="batch_size is 16, which 3 processes cannot share"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK)


def test_scores_that_no_cosine_reaches_are_refused(tmp_path: Path) -> None:
    from datasets import DatasetDict

    split = Dataset.from_dict({"sentence1": ["a"] * 40, "sentence2": ["b"] * 40, "score": [0.0, 4.5] * 20})
    with pytest.raises(DatasetError, match=r"scores range from 0 to 4.5.*choose the loss 'cosent'"):
        train_encoder(DatasetDict(train=split, validation=split), "no-encoder", tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"score": [1.0] * 40}}, "all 40 training pairs have the score 1, so nothing can be learned"),
        ({"validation": {"score": [1.0] * 40}}, "validation split has 40 pairs with fewer than two different scores"),
        (
            {"train": {"sentence2": [f"a {i}" for i in range(40)]}},
            "the 40 pairs of the train split are the same",
        ),
        ({"validation": {"sentence2": [f"a {i}" for i in range(40)]}}, "each of the 40 pairs of the validation split"),
    ],
)
def test_data_that_say_the_same_of_every_pair_are_refused(
    changes: dict[str, dict[str, Any]], message: str, tmp_path: Path
) -> None:
    columns = {
        "sentence1": [f"a {i}" for i in range(40)],
        "sentence2": [f"b {i}" for i in range(40)],
        "score": [0.0, 1.0] * 20,
    }
    splits = DatasetDict({name: Dataset.from_dict(columns | changes.get(name, {})) for name in ("train", "validation")})
    with pytest.raises(DatasetError, match=message):
        train_encoder(splits, "no-encoder", tmp_path / "model")


def test_splits_with_scores_of_two_scales_are_told(caplog: pytest.LogCaptureFixture) -> None:
    train, validation = (
        Dataset.from_dict({"sentence1": [first] * 4, "sentence2": ["b"] * 4, "score": scores})
        for first, scores in (("a", [0, 1, 0.5, 1]), ("c", [0, 5, 3, 4]))
    )
    pair_splits(DatasetDict(train=train, validation=validation), 2, "cosine")
    assert "0 to 1 in the train split and 0 to 5 in the validation split, as if on two scales" in caplog.text


def test_an_output_below_a_file_is_refused_before_anything_is_loaded(splits: DatasetDict, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file is a file; choose another --output"):
        train_encoder(splits, "no-encoder", tmp_path / "file" / "model")


@pytest.mark.parametrize(
    "left", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}, {"WORLD_SIZE": "abc"}]
)
def test_variables_left_over_from_a_launcher_change_nothing(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: dict[str, str]
) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    train_encoder(splits, bert, tmp_path / "plain", **QUICK)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    train_encoder(splits, bert, tmp_path / "left", **QUICK)
    assert record(tmp_path / "left")["curve"] == record(tmp_path / "plain")["curve"]
    assert record(tmp_path / "left")["processes"] == 1


def test_an_encoder_handed_in_with_half_its_bits_is_trained_in_float32(splits: DatasetDict, tmp_path: Path) -> None:
    expected = tiny_encoder(tmp_path / "encoder").half().float()
    train_encoder(splits, expected, tmp_path / "float32", **QUICK)
    model = tiny_encoder(tmp_path / "encoder").half()
    with pytest.warns(DinoWarning, match=r"weights are float16, .* converted to float32"):
        train_encoder(splits, model, tmp_path / "float16", **QUICK)
    assert record(tmp_path / "float16")["curve"] == record(tmp_path / "float32")["curve"]
    assert all(torch.equal(weight, weights(expected)[name]) for name, weight in weights(model).items())


def _with_peft_inside(model: SentenceTransformer) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    inner: Any = model[0]
    inner.model = peft.get_peft_model(inner.model, peft.LoraConfig(target_modules=["query", "value"]))


def _with_hidden_weights(model: SentenceTransformer) -> None:
    torch.nn.utils.parametrizations.weight_norm(model[0].model.encoder.layer[0].output.dense)


def _with_a_setting_that_no_file_holds(model: SentenceTransformer) -> None:
    cast("Any", model[1]).register_forward_hook(
        lambda module, given, features: features | {"sentence_embedding": 2 * features["sentence_embedding"]}
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft against transformers
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with_peft_inside, r"have other names once it is saved, such as '0\.model.*merge_and_unload"),
        (_with_hidden_weights, r"have other names once it is saved, such as '0\.model.*merge_and_unload"),
        (_with_a_setting_that_no_file_holds, "gives other vectors when it is saved and read again"),
    ],
)
def test_an_encoder_that_is_another_one_once_saved_is_refused_before_it_is_trained(
    change: Callable[[SentenceTransformer], None], message: str, splits: DatasetDict, tmp_path: Path
) -> None:
    model = tiny_encoder(tmp_path / "base")
    change(model)
    with pytest.raises(ModelError, match=message):
        train_encoder(splits, model, tmp_path / "out", **QUICK)


def test_a_compiled_encoder_is_taken(tmp_path: Path) -> None:
    model = tiny_encoder(tmp_path / "base")
    transformer = cast("Any", model[0])
    transformer.model = torch.compile(transformer.model, backend="eager")
    try:
        transformer.model(**model.preprocess(["the dog eats"]))
    except NameError as error:
        pytest.skip(f"transformers cannot be compiled by this torch: {error}")  # 5.5 by 2.6
    check_saved_form(model)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft against transformers
def test_an_adapter_that_sentence_transformers_added_is_trained_and_saved(
    splits: DatasetDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    if Version(version("transformers")) < Version(train._ADAPTERS_SINCE):
        pytest.skip(f"needs transformers {train._ADAPTERS_SINCE}")
    model = tiny_encoder(tmp_path / "base")
    model.add_adapter(peft.LoraConfig(target_modules=["query", "value"]))
    trained = train_encoder(splits, model, tmp_path / "out", **QUICK)
    assert "nothing but zeros" not in caplog.text
    assert all(weight.any() for name, weight in trained.named_parameters() if "lora_B" in name)
    saved = load_trainable_encoder(tmp_path / "out", device="cpu")
    assert np.allclose(saved.encode("the dog eats"), trained.encode("the dog eats"), atol=1e-5)


def test_an_adapter_is_not_trained_where_its_checkpoints_would_be_read_back_untrained(
    splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"transformers>={train._ADAPTERS_SINCE}" in project["optional-dependencies"]["peft"]
    monkeypatch.setattr(train, "version", lambda _: "5.5.4")
    model = tiny_encoder(tmp_path / "base")
    model.add_adapter(peft.LoraConfig(target_modules=["query", "value"]))
    with pytest.raises(MissingExtraError, match=r"transformers 5\.5\.4 reads the checkpoints of adapters without"):
        train_encoder(splits, model, tmp_path / "out", **QUICK)


def test_weights_that_are_not_those_of_the_best_checkpoint_are_refused(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misread(trainer: SentenceTransformerTrainer) -> None:
        torch.manual_seed(0)
        for weight in cast("SentenceTransformer", trainer.model).parameters():
            torch.nn.init.normal_(weight)

    monkeypatch.setattr(SentenceTransformerTrainer, "_load_best_model", misread)
    with pytest.raises(TrainingError, match=r"best checkpoint \(step \d+, .* could not be read back: the model scores"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK)
    assert (tmp_path / "out" / "checkpoints").is_dir()


def test_something_else_handed_in_is_named(splits: DatasetDict, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the encoder is a BertModel; expected a directory"):
        train_encoder(splits, AutoModel.from_pretrained(bert), tmp_path / "out", **QUICK)


def test_another_encoder_handed_in_is_not_answered_with_the_one_that_was_trained(
    splits: DatasetDict, tmp_path: Path
) -> None:
    model = tiny_encoder(tmp_path / "encoder")
    train_encoder(splits, model, tmp_path / "out", **QUICK)
    for other in (model, tiny_encoder(tmp_path / "encoder")):
        other.truncate_dim = 16 if other is not model else None
        with pytest.raises(
            OutputError, match="the content of encoder 'SentenceTransformer' has changed, as that of an"
        ):
            train_encoder(splits, other, tmp_path / "out", **QUICK)
    again = train_encoder(splits, tiny_encoder(tmp_path / "encoder"), tmp_path / "out", **QUICK)
    assert all(torch.equal(weight, weights(model)[name]) for name, weight in weights(again).items())


def test_an_encoder_with_routes_is_refused_since_pairs_do_not_say_which(
    splits: DatasetDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    query, document = tiny_encoder(tmp_path / "query"), tiny_encoder(tmp_path / "document")
    model = SentenceTransformer(modules=[Router.for_query_document(list(query), list(document))], device="cpu")
    with pytest.raises(TrainingError, match=r"reads texts by routes \(query, document\), .* router_mapping"):
        train_encoder(splits, model, tmp_path / "out", **QUICK)
    assert "a pair of sentences says nothing of these, so that both go by the default one" in caplog.text


def test_an_encoder_handed_in_with_a_weight_that_is_no_number_is_refused(splits: DatasetDict, tmp_path: Path) -> None:
    model = tiny_encoder(tmp_path / "encoder")
    model[0].model.get_input_embeddings().weight.data[-1] = torch.nan
    with pytest.raises(ModelError, match=r"the encoder: the weights .*word_embeddings.weight' hold NaN"):
        train_encoder(splits, model, tmp_path / "out", **QUICK)


def test_an_encoder_whose_weights_are_all_frozen_is_refused(splits: DatasetDict, tmp_path: Path) -> None:
    model = tiny_encoder(tmp_path / "encoder").requires_grad_(False)
    with pytest.raises(TrainingError, match="no weight of the encoder can be trained"):
        train_encoder(splits, model, tmp_path / "out", **QUICK)


def test_the_default_prompt_stands_before_the_sentences_in_training_and_in_validation(
    splits: DatasetDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = "the horse sees: "
    model = tiny_encoder(tmp_path / "encoder")
    model.prompts["mine"], model.default_prompt_name = prompt, "mine"
    with caplog.at_level("INFO", logger="dino_st"):
        train_encoder(splits, model, tmp_path / "prompted", **QUICK)
    assert f"the encoder's default prompt {prompt!r} stands before each sentence" in caplog.text
    written = splits.map(lambda row: {name: prompt + row[name] for name in ("sentence1", "sentence2")})
    train_encoder(written, tiny_encoder(tmp_path / "encoder"), tmp_path / "written", **QUICK)
    assert record(tmp_path / "prompted")["curve"] == record(tmp_path / "written")["curve"]


def test_recomputed_activations_give_the_same_weights_and_may_be_chosen_when_a_run_goes_on(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recomputes(model: SentenceTransformer) -> bool:
        return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())

    plain = train_encoder(splits, bert, tmp_path / "plain", **QUICK)
    monkeypatch.setattr("dino_st.training.trainer._LARGE", 10)
    recomputed = train_encoder(splits, bert, tmp_path / "auto", **QUICK)
    assert [recomputes(plain), recomputes(recomputed)] == [False, True]
    assert all(torch.equal(weight, weights(recomputed)[name]) for name, weight in weights(plain).items())
    train_encoder(splits, bert, tmp_path / "auto", **QUICK, gradient_checkpointing="off")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_is_full_is_named(
    bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("transformers.Trainer._save_optimizer_and_scheduler", full)
    with pytest.raises(OutputError, match=r"out: cannot be written \(.*\); free space and run again"):
        train_encoder(splits, bert, tmp_path / "out", **QUICK)
