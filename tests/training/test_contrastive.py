from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError, DatasetError, DinoWarning, InputError, OutputError
from dino_st.pipeline.recipe import load_recipe, recipe_names, run_recipe
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import PreparedSplits
from dino_st.preparation.triplets import prepare_triplets, to_triplets
from dino_st.training.batches import batches_by_kind
from dino_st.training.data import pair_splits, triplet_splits, without_validated
from dino_st.training.objective import contrastive_loss, triplet_objective
from dino_st.training.options import ContrastiveOptions
from dino_st.training.train import train_contrastive, train_encoder
from tests.mteb_tasks.fixtures import write_sts_directory
from tests.training_fixtures import raw_pairs, record, validation_spearman

SMALL: dict[str, Any] = {
    "batch_size": 32,
    "mini_batch_size": 8,
    "learning_rate": 3e-3,
    "evaluation_steps": 4,
    "epochs": 2,
    "pooling": "mean",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def triplets() -> PreparedSplits:
    """About 100 triplets to train on; their negatives are other sentences, which is easily learned."""
    splits = prepare_triplets(raw_pairs(60), negatives="0")
    splits.provenance["model"] = "tiny-lm"
    return splits


@pytest.fixture(scope="module")
def trained(bert: Path, triplets: PreparedSplits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("contrastive") / "out"
    train_contrastive(triplets, bert, directory, **SMALL)
    return directory


def pair_spearman(model: SentenceTransformer, triplets: Dataset) -> float:
    """What the checkpoint is chosen by, computed without the code under test."""
    pairs = {
        (row["anchor"], row[kind]): score for row in triplets for kind, score in (("positive", 1), ("negative", 0))
    }
    first, second = (torch.tensor(model.encode([pair[side] for pair in pairs])) for side in (0, 1))
    return float(spearmanr(torch.cosine_similarity(first, second).numpy(), list(pairs.values())).statistic)


def test_training_on_triplets_learns_and_keeps_the_best_checkpoint(trained: Path, triplets: PreparedSplits) -> None:
    outcome = record(trained)
    assert outcome["status"] == "complete"
    assert outcome["best"]["spearman"] == max(score["spearman"] for score in outcome["curve"])
    assert outcome["best"]["spearman"] > outcome["start"] + 0.2
    model = SentenceTransformer(str(trained), device="cpu")
    assert pair_spearman(model, triplets["validation"]) == pytest.approx(outcome["best"]["spearman"], abs=1e-3)
    assert outcome["data"]["train triplets"] == triplets["train"].num_rows
    assert outcome["provenance"]["preparation"]["negatives"] == "0"
    card = (trained / "README.md").read_text()
    assert "contrastive loss on triplets" in card
    assert "No human label was used, neither to train nor to choose the checkpoint" in card
    assert not (trained / "checkpoints").exists()


def test_a_finished_run_is_returned_and_another_one_refused(
    trained: Path, bert: Path, triplets: PreparedSplits
) -> None:
    again = train_contrastive(triplets, bert, trained, **SMALL)
    assert isinstance(again, SentenceTransformer)
    with pytest.raises(RuntimeError, match=r"holds another training run \(scale was 20\.0, now 10\.0\)"):
        train_contrastive(triplets, bert, trained, **SMALL, scale=10)


def test_a_run_with_pairs_is_not_the_answer_to_one_without(
    bert: Path, triplets: PreparedSplits, splits: DatasetDict, tmp_path: Path
) -> None:
    place, dev = tmp_path / "out", {"dev": splits["validation"]}
    options: dict[str, Any] = {**SMALL, "checkpoint_choice": "sts-dev", "sts_dev": dev, "epochs": 1}
    train_contrastive(triplets, bert, place, pairs=splits, **options)
    with pytest.raises(OutputError, match=r"the pairs train rows are others \(were 160, now none\)"):
        train_contrastive(triplets, bert, place, **options)


def test_human_scores_choose_without_a_validation_split(
    bert: Path, triplets: PreparedSplits, splits: DatasetDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = DatasetDict(train=triplets["train"], validation=triplets["validation"].select([]))
    options: dict[str, Any] = {**SMALL, "checkpoint_choice": "sts-dev", "epochs": 1}
    model = train_contrastive(data, bert, tmp_path / "out", sts_dev={"dev": splits["validation"]}, **options)
    kept = record(tmp_path / "out")["best"]["spearman"]
    assert kept == pytest.approx(validation_spearman(model, splits["validation"]), abs=1e-5)
    assert "next to nothing" not in caplog.text
    train_contrastive(data, bert, tmp_path / "few", sts_dev={"dev": splits["validation"].select(range(9))}, **options)
    assert "the checkpoint is chosen by 9 pairs: their score says next to nothing" in caplog.text


@pytest.mark.parametrize("change", [{"balanced_batches": True}, {"sorted_batches": 50}, {"positive_score": 0.5}])
def test_options_of_pairs_alone_are_refused(
    change: dict[str, Any], bert: Path, triplets: PreparedSplits, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=f"no {next(iter(change))}, which is of training on pairs alone"):
        train_contrastive(triplets, bert, tmp_path / "out", **SMALL, **change)


def test_only_batches_that_there_are_must_be_shared(triplets: PreparedSplits, splits: DatasetDict) -> None:
    options = ContrastiveOptions(batch_size=30)
    both = ("batch_size", "pairs_batch_size")
    assert triplet_objective(triplets, None, None, options).batch_sizes == ("batch_size",)
    assert triplet_objective(triplets, splits, None, options).batch_sizes == both


def test_gradient_caching_gives_the_gradients_of_the_whole_batch(bert: Path, triplets: PreparedSplits) -> None:
    gradients = []
    for size in (0, 8):
        model = load_trainable_encoder(bert, device="cpu", pooling="cls", max_seq_length=32).eval()
        loss = contrastive_loss(
            model, options=ContrastiveOptions(batch_size=32, mini_batch_size=size), with_pairs=False
        )
        assert type(loss).__name__ == ("CachedMultipleNegativesRankingLoss" if size else "MultipleNegativesRankingLoss")
        assert loss.scale == 20
        rows = triplets["train"].select(range(32))
        loss([model.preprocess(list(rows[name])) for name in rows.column_names], None).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3)


def test_batches_hold_no_text_twice(triplets: PreparedSplits) -> None:
    rows = to_triplets(raw_pairs(20))
    named = {"drop_last": False, "valid_label_columns": ["score"], "generator": torch.Generator(), "seed": 1}
    sampler = batches_by_kind(rows, 16, pairs_batch_size=4, **named)
    batches = list(sampler)
    assert sorted(place for batch in batches for place in batch) == list(range(len(rows)))
    for batch in batches:
        texts = [text for place in batch for text in set(rows[place].values())]
        assert len(texts) == len(set(texts))
    pickle.dumps(batches_by_kind)


def test_neither_trains_on_what_the_other_is_validated_on(triplets: PreparedSplits) -> None:
    """Of one data set both are made, each with a split of its own."""
    pairs = prepare_pairs(raw_pairs(60), random_negatives=0)
    options = ContrastiveOptions(batch_size=8)
    (given, _), (scored, _) = triplet_splits(triplets, options), pair_splits(pairs, 8, "cosine")
    contrasted, rest = without_validated(given, scored, options)

    def held(rows: list[dict[str, str]], *columns: str) -> set[tuple[str, str]]:
        return {(row[columns[0]], row[other]) for row in rows for other in columns[1:]}

    roles = ("anchor", "positive", "negative")
    validated = {*held(scored["validation"].to_pylist(), "sentence1", "sentence2")}
    assert validated & held(given["train"].to_pylist(), *roles)
    assert not validated & held(contrasted["train"].to_pylist(), *roles)
    judged = held(given["validation"].to_pylist(), *roles)
    assert judged & held(scored["train"].to_pylist(), "sentence1", "sentence2")
    assert not judged & held(rest["train"].to_pylist(), "sentence1", "sentence2")
    left_out = [row for row in given["train"].to_pylist() if row not in contrasted["train"].to_pylist()]
    assert left_out
    assert all(held([row], *roles) & validated for row in left_out)
    assert (contrasted["validation"], rest["validation"]) == (given["validation"], scored["validation"])


def test_both_losses_are_trained_together_on_their_own_data(
    bert: Path, triplets: PreparedSplits, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dino_st.training.trainer

    seen: dict[str, Any] = {}
    make = dino_st.training.trainer.make_trainer

    def recorded(*arguments: Any) -> Any:
        trainer = make(*arguments)
        seen["losses"] = {name: type(loss).__name__ for name, loss in trainer.loss.items()}
        sizes: dict[str, set[int]] = {}
        for batch in trainer.get_train_dataloader():
            sizes.setdefault(batch["dataset_name"], set()).add(len(batch[next(n for n in batch if "input_ids" in n)]))
        seen["sizes"] = sizes
        return trainer

    monkeypatch.setattr(dino_st.training.trainer, "make_trainer", recorded)
    train_contrastive(triplets, bert, tmp_path / "out", pairs=splits, **SMALL | {"epochs": 1}, pairs_batch_size=20)
    assert seen["losses"] == {"triplets": "CachedMultipleNegativesRankingLoss", "pairs": "CosineSimilarityLoss"}
    assert max(seen["sizes"]["triplets"]) == 32
    assert max(seen["sizes"]["pairs"]) == 20
    outcome = record(tmp_path / "out")
    assert outcome["data"]["pairs train rows"] == 145  # of 160; the triplets are validated on the others
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(f"{name}_spearman_cosine" in card for name in ("triplets", "pairs"))
    both = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    first, second = (torch.tensor(both.encode(list(splits["validation"][name]))) for name in ("sentence1", "sentence2"))
    scored = spearmanr(torch.cosine_similarity(first, second).numpy(), splits["validation"]["score"]).statistic
    mean = (pair_spearman(both, triplets["validation"]) + scored) / 2
    assert outcome["best"]["spearman"] == pytest.approx(mean, abs=1e-3)


def test_a_static_encoder_takes_its_own_rate(triplets: PreparedSplits, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "batch_size": 64}
    train_contrastive(triplets, "dino-tiny-encoder", tmp_path / "out", learning_rate=5e-4, **options)
    outcome = record(tmp_path / "out")
    assert outcome["options"]["learning_rate"] == 5e-4
    assert outcome["options"]["scale"] == 20


def test_the_defaults_are_the_published_values() -> None:
    published = {"batch_size": 512, "epochs": 3, "max_seq_length": 32, "scale": 20, "pooling": "cls", "warmup_share": 0}
    published |= {"learning_rate": 5e-5}
    assert {name: getattr(ContrastiveOptions(), name) for name in published} == published


def test_pooling_is_for_plain_transformers_and_cls_not_for_causal_models(
    bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.training_fixtures import save_model

    assert load_trainable_encoder(bert, device="cpu", pooling="cls")[1].pooling_mode == "cls"
    assert load_trainable_encoder(bert, device="cpu")[1].pooling_mode == "mean"
    llama = save_model(tmp_path / "llama", "llama")
    with pytest.raises(ConfigurationError, match=r"causal language model, .* choose pooling='mean'"):
        load_trainable_encoder(llama, device="cpu", pooling="cls")
    assert "is a causal language model" not in caplog.text
    with caplog.at_level("INFO", logger="dino_st"):
        load_trainable_encoder(llama, device="cpu")
    assert "is a causal language model; pooling of its token vectors: mean" in caplog.text


def triplet_dict(*rows: tuple[str, str, str], validation: int = 1, **columns: list[Any]) -> DatasetDict:
    names = ("anchor", "positive", "negative")
    made = Dataset.from_dict({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
    for name, column in columns.items():
        made = made.add_column(name, column)
    return DatasetDict(train=made, validation=made.select(range(validation)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (triplet_dict(("a", "b", "c"), ("a", "d", "e")), "have 1 distinct anchor"),
        (triplet_dict(("a", "b", "n"), ("d", "e", "n"), ("f", "g", "n")), "3 of 3 training triplets hold the text 'n'"),
        (triplet_dict(("a", "b", "c"), ("d", "e", "f"), score=[1.0, 0.0]), "column 'score', .* ignores labels"),
        (triplet_dict(("a", "b", "c"), ("d", "e", "f"), label=[1, 0]), "column 'label', .* ignores labels"),
        (triplet_dict(("a", "b", "c"), ("d", "e", "f"), validation=0), "validation split is empty"),
        (triplet_dict(("a", "b", "c"), ("d", "e", "f")), "2 training triplets are fewer than a batch of 512; generate"),
        (DatasetDict(train=Dataset.from_dict({"a": [1]})), r"the splits \['train'\]; expected"),
    ],
)
def test_what_the_loss_would_learn_nothing_or_wrong_from_is_refused(
    data: DatasetDict, message: str, bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=message):
        train_contrastive(data, bert, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pairs_beside_the_triplets_are_as_many_as_their_batch(
    bert: Path, triplets: PreparedSplits, splits: DatasetDict, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"160 training pairs .* of 161; .*choose a smaller pairs_batch_size"):
        train_contrastive(triplets, bert, tmp_path / "out", pairs=splits, **SMALL, pairs_batch_size=161)


def test_repeated_texts_that_shrink_the_batches_are_warned_of(bert: Path, tmp_path: Path) -> None:
    from dino_st.training.data import triplet_splits

    data = triplet_dict(*((f"a{i}", f"p{i}", f"n{i % 4}") for i in range(40)))
    data["validation"] = triplet_dict(("a", "p", "n"))["train"]
    with pytest.warns(DinoWarning, match=r"10 of 40 .* batches will have about 4 triplets instead of 20"):
        triplet_splits(data, ContrastiveOptions(batch_size=20))


def test_each_kind_of_data_is_sent_to_its_own_training(
    bert: Path, triplets: PreparedSplits, splits: DatasetDict, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="holds triplets; train on them with `dino-st train-contrastive`"):
        train_encoder(triplets, bert, tmp_path / "out")
    with pytest.raises(DatasetError, match="holds pairs; train on them with `dino-st train`"):
        train_contrastive(splits, bert, tmp_path / "out")


def test_options_that_do_not_fit_are_refused(
    bert: Path, triplets: PreparedSplits, splits: DatasetDict, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigurationError, match="'pooling' is 'max'; expected 'mean', 'cls', 'last' or 'weighted-mean'"
    ):
        train_contrastive(triplets, bert, tmp_path / "out", pooling="max")
    with pytest.raises(ConfigurationError, match=r"no scored pairs to choose by; .*--sts-dir"):
        train_contrastive(triplets, bert, tmp_path / "out", checkpoint_choice="sts-dev")
    with pytest.raises(ConfigurationError, match="choose 'sts-dev' to use it"):
        train_contrastive(triplets, bert, tmp_path / "out", sts_dev={"dev": splits["validation"]})


def test_the_commands_prepare_and_train_and_human_scores_choose_only_by_name(
    triplets: PreparedSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DINO_ST_STS_DIR", raising=False)
    raw_pairs(40).to_json(tmp_path / "raw.jsonl")
    run = CliRunner().invoke
    done = run(app, ["prepare-triplets", str(tmp_path / "raw.jsonl"), "--output", str(tmp_path / "p")])
    assert done.exit_code == 0, done.output
    train = ["train-contrastive", str(tmp_path / "p"), "--encoder", "dino-tiny-encoder", "--epochs", "1"]
    train += ["--output", str(tmp_path / "out"), "--batch-size", "16", "--checkpoint-choice", "sts-dev"]
    refused = run(app, train)
    assert refused.exit_code == 2
    done = run(app, [*train, "--sts-dir", str(write_sts_directory(tmp_path / "sts"))])
    assert done.exit_code == 0, done.output
    assert "STSb and SICK dev, averaged" in done.output
    outcome = record(tmp_path / "out")
    assert (outcome["data"]["sts-dev STSb dev pairs"], outcome["data"]["sts-dev SICK dev pairs"]) == (1500, 500)
    assert "chosen by pairs that people scored" in (tmp_path / "out/README.md").read_text()


def test_the_recipes_hold_the_published_values() -> None:
    assert {"syncse-partial", "syncse-scratch", "dino-triplets", "dino-both"} <= set(recipe_names())
    for name in ("syncse-partial", "syncse-scratch"):
        recipe = load_recipe(name)
        assert (recipe.model, recipe.encoder, recipe.task) == (None, "roberta-base", name)
        assert isinstance(recipe.train, ContrastiveOptions)
        assert (recipe.train.batch_size, recipe.train.scale, recipe.train.epochs) == (512, 20, 3)
        assert (recipe.train.max_seq_length, recipe.train.pooling) == (32, "cls")
    assert load_recipe("dino-both").pairs.label_smoothing == 0.2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("syncse-partial", "train.batch=3", "there is no option 'batch'"),
        ("syncse-partial", "generate.temperature=1", "option 'temperature' belongs to the backend 'openai'"),
        ("syncse-partial", "pairs.seed=1", "'pairs' and 'sentences' are for tasks of DINO"),
        ("syncse-partial", "method=contrast", "method is 'contrast'; expected 'contrastive'"),
        ("dino-both", "num=3", "'backend' and 'num' are for tasks of SynCSE"),
        ("dino-both", "pairs.label_smoothing=3", "label_smoothing"),
        ("dino-triplets", "prepare.negatives=1", "option 'negatives' is '1'; expected '0.5'"),
    ],
)
def test_mistakes_in_a_recipe_are_found_before_anything_runs(name: str, change: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(name, [change])


def test_what_a_recipe_leaves_open_is_asked_for(tmp_path: Path) -> None:
    for name, changes, message in (
        ("syncse-partial", [], "--set model="),
        ("syncse-partial", ["model=dino-tiny"], "--set input="),
        ("syncse-scratch", ["model=dino-tiny"], "--set num="),
    ):
        with pytest.raises(ConfigurationError, match=message):
            run_recipe(load_recipe(name, changes), tmp_path)
    with pytest.raises(InputError, match="there is no such file"):
        run_recipe(load_recipe("syncse-partial", ["model=dino-tiny", "input=no.txt"]), tmp_path)


@pytest.mark.filterwarnings("default")
def test_pairs_and_triplets_of_dino_are_trained_on_from_one_recipe(tmp_path: Path) -> None:
    sentences = str(Path(__file__).parents[2] / "recipes" / "quickstart-sentences.txt")
    changes = [f"input={sentences}", "limit=24", "model=dino-tiny", "encoder=dino-tiny-encoder", "train.epochs=1"]
    changes += ["train.batch_size=16"]
    outcome = run_recipe(load_recipe("dino-both", [*changes, "train.evaluation_steps=100"]), tmp_path / "out")
    assert list(outcome.table.scores) == ["untrained", "trained"]
    rows = [json.loads(line) for line in (tmp_path / "out/validation-pairs.jsonl").read_text().splitlines()]
    assert {row["score"] for row in rows} == {0, 1}
    assert (tmp_path / "out/prepared-pairs/data/train.parquet").is_file()
