"""Heads that are there while training: the masked-language-model loss, and the layer with tanh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Dense
from transformers import AutoTokenizer, BertForMaskedLM

from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError
from dino_st.pipeline.recipe import load_recipe, run_recipe
from dino_st.training import heads, passes
from dino_st.training.heads import WithMaskedTokens, training_heads
from dino_st.training.objective import contrastive_loss
from dino_st.training.options import Choice, ContrastiveOptions
from dino_st.training.train import train_contrastive
from dino_st.training.trainer import choose_passes, training_arguments
from tests.training.test_training_resume import stop_after
from tests.training.together import SHORT, masked_bert, triplet_splits
from tests.training_fixtures import record, save_model, sentences, tiny_encoder, weights

TRIPLETS: dict[str, Any] = {"batch_size": 32, "mini_batch_size": 6, **SHORT}
BOTH: dict[str, Any] = {"mlm_weight": 0.1, "mlp_head": "train"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return masked_bert(tmp_path_factory.mktemp("encoder") / "bert", dropout=0.1)


def seen_by_masked_model(loss: Any, columns: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Runs a loss forward and backward, and returns it with the masked texts that the masked model was given.

    It is given each of them once, whatever their order, with less padding than their columns have.
    """
    given: list[torch.Tensor] = []
    whole: list[torch.Tensor] = []
    head = next(module for module in loss.model if hasattr(module, "masked"))
    scores, mask = head.scores, loss._mask

    def masking(model: Any, head: Any, features: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
        targets: list[torch.Tensor] = mask(model, head, features)
        whole.extend(column["input_ids"] for column in features)
        return targets

    loss._mask = masking
    head.scores = lambda encoder, inputs: given.append(inputs["input_ids"]) or scores(encoder, inputs)
    value = loss([dict(loss.model.preprocess(column)) for column in columns], None)
    value.backward()
    longest = max(ids.shape[1] for ids in whole)
    rows, seen = (
        torch.cat([torch.nn.functional.pad(ids, (0, longest - ids.shape[1]), value=1) for ids in parts])
        for parts in (whole, given)
    )
    assert sorted(rows.tolist()) == sorted(seen.tolist())
    assert sum(ids.numel() for ids in given) < sum(ids.numel() for ids in whole)
    return value.detach(), rows, rows != 1


@pytest.mark.parametrize("mini_batch_size", [0, 5])
def test_the_loss_and_its_gradients_are_those_of_the_masked_language_model(
    tmp_path: Path, mini_batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "_TOKENS_OF_A_PASS", 1)
    directory, texts = masked_bert(tmp_path / "bert"), sentences(48)
    columns = [texts[:16], texts[16:32], texts[32:]]
    options = ContrastiveOptions(batch_size=16, mini_batch_size=mini_batch_size, mlm_weight=0.3, mlm_probability=0.4)
    model = load_trainable_encoder(directory, device="cpu", pooling="cls")
    with training_heads(model, directory, options):
        loss = contrastive_loss(model, options=options, with_pairs=False)
        value, masked, mask = seen_by_masked_model(loss, columns)
        ours = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    plain = load_trainable_encoder(directory, device="cpu", pooling="cls")
    contrastive = MultipleNegativesRankingLoss(plain)([dict(plain.preprocess(column)) for column in columns], None)
    contrastive.backward()
    whole = BertForMaskedLM.from_pretrained(directory)
    whole.cls.predictions.decoder.weight = torch.nn.Parameter(whole.cls.predictions.decoder.weight.detach().clone())
    tokens = AutoTokenizer.from_pretrained(directory)(texts, padding=True, return_tensors="pt")["input_ids"]
    tokens = torch.nn.functional.pad(tokens, (0, masked.shape[1] - tokens.shape[1]), value=1)
    # Tokens that were chosen and left as they are cannot be told from the others: the loss names them.
    chosen = chosen_positions(options, columns, masked.shape[1]) & mask
    expected = whole(input_ids=masked, attention_mask=mask.long(), labels=tokens.where(chosen, -100)).loss
    (0.3 * expected).backward()
    assert ((masked != tokens) <= chosen).all()
    torch.testing.assert_close(value, contrastive.detach() + 0.3 * expected.detach())
    for name, weight in whole.bert.named_parameters():
        both = weight.grad + dict(plain[0].model.named_parameters())[name].grad
        torch.testing.assert_close(ours[f"0.model.{name}"], both, rtol=1e-3, atol=1e-5, msg=name)
    for name, weight in whole.cls.named_parameters():
        torch.testing.assert_close(ours[f"2.masked.cls.{name}"], weight.grad, rtol=1e-3, atol=1e-5, msg=name)


def chosen_positions(options: ContrastiveOptions, columns: list[list[str]], length: int) -> torch.Tensor:
    """The positions that the first draw of a seed chooses, drawn here once more: raw PCG64 numbers below the share."""
    import numpy as np

    stream = np.random.PCG64(np.random.SeedSequence(options.seed, spawn_key=(0,)))
    numbers = stream.random_raw(3 * len(columns) * len(columns[0]) * length) / 2.0**64
    return torch.from_numpy(numbers[: len(numbers) // 3].reshape(-1, length) < options.mlm_probability)


def test_fifteen_in_a_hundred_tokens_are_masked_and_no_padding(encoder: Path) -> None:
    texts = sentences(1500)
    options = ContrastiveOptions(batch_size=500, mini_batch_size=0, mlm_weight=0.1)
    model = load_trainable_encoder(encoder, device="cpu")
    with training_heads(model, encoder, options):
        loss: Any = contrastive_loss(model, options=options, with_pairs=False)
        columns = [dict(model.preprocess(texts[start : start + 500])) for start in (0, 500, 1000)]
        before = [column["input_ids"].clone() for column in columns]
        targets = torch.cat([target.flatten() for target in loss._mask(model, model[2], columns)])
        again = loss._mask(model, model[2], [dict(model.preprocess(texts[:500]))])
    tokens, masked = (
        torch.cat([ids.flatten() for ids in side]) for side in (before, [c["input_ids"] for c in columns])
    )
    chosen = targets != -100
    assert (targets[chosen] == tokens[chosen]).all()
    assert (masked[~chosen] == tokens[~chosen]).all()
    special = torch.isin(tokens, torch.tensor(model.tokenizer.all_special_ids))
    assert special.any()
    assert not (chosen & special).any()
    assert float(chosen.sum() / (~special).sum()) == pytest.approx(0.15, abs=0.01)
    hidden, kept = masked[chosen] == model.tokenizer.mask_token_id, masked[chosen] == tokens[chosen]
    assert float(hidden.float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float(kept.float().mean()) == pytest.approx(0.1, abs=0.03)
    assert not torch.equal(again[0], targets[: again[0].numel()].reshape(again[0].shape))  # the next batch is another


def modules(directory: Path) -> list[str]:
    return [part["type"].rpartition(".")[2] for part in json.loads((directory / "modules.json").read_text())]


def test_heads_that_are_for_training_alone_are_not_saved(encoder: Path, tmp_path: Path) -> None:
    data = triplet_splits()
    trained = train_contrastive(data, encoder, tmp_path / "out", **TRIPLETS, **BOTH)
    assert modules(tmp_path / "out") == ["Transformer", "Pooling"]
    assert len(trained) == 2
    assert not [name for name in map(str, (tmp_path / "out").rglob("*")) if "Head" in name or "Dense" in name]
    loaded = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    texts = list(data["validation"]["anchor"])
    assert (loaded.encode(texts) == trained.encode(texts)).all()
    from tests.training.test_contrastive import pair_spearman

    best = record(tmp_path / "out")["best"]["spearman"]
    assert pair_spearman(loaded, data["validation"]) == pytest.approx(best, abs=1e-4)  # it was chosen without the layer
    plain = train_contrastive(data, encoder, tmp_path / "plain", **TRIPLETS)
    assert any(not torch.equal(weight, weights(plain)[name]) for name, weight in weights(trained).items())


def test_a_layer_that_is_kept_is_part_of_the_encoder(encoder: Path, tmp_path: Path) -> None:
    data = triplet_splits()
    trained = train_contrastive(data, encoder, tmp_path / "out", **TRIPLETS, mlm_weight=0.1, mlp_head="keep")
    assert modules(tmp_path / "out") == ["Transformer", "Pooling", "Dense"]
    loaded = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    layer = loaded[2]
    assert isinstance(layer, Dense)
    before = SentenceTransformer(modules=[loaded[0], loaded[1]], device="cpu").encode(
        ["the dog"], convert_to_tensor=True
    )
    after = torch.tanh(before.clone() @ layer.linear.weight.T + layer.linear.bias)
    torch.testing.assert_close(trained.encode(["the dog"], convert_to_tensor=True), after.detach())


def test_the_layer_starts_as_published_and_by_the_seed(encoder: Path) -> None:
    first = []
    for seed in (1, 1, 2):
        model = load_trainable_encoder(encoder, device="cpu")
        with training_heads(model, encoder, ContrastiveOptions(mlp_head="train", seed=seed)):
            first.append(model[2].linear.weight.detach().clone())
            assert not model[2].linear.bias.any()
        assert len(model) == 2
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert float(first[0].std()) == pytest.approx(0.02, rel=0.1)


def test_the_same_seed_gives_the_same_weights_also_after_an_interruption(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = triplet_splits()
    straight = weights(train_contrastive(data, encoder, tmp_path / "straight", **TRIPLETS, **BOTH))
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            train_contrastive(data, encoder, tmp_path / "out", **TRIPLETS, **BOTH)
    checkpoint = tmp_path / "out/checkpoints/checkpoint-4"
    assert modules(checkpoint) == ["Transformer", "Pooling", "MaskedTokenHead", "TrainingHead"]
    resumed = weights(train_contrastive(data, encoder, tmp_path / "out", **TRIPLETS, **BOTH))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[name]) for name, weight in straight.items())
    assert record(tmp_path / "out")["curve"] == record(tmp_path / "straight")["curve"]


def test_a_model_handed_in_gets_its_shape_back_when_training_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_encoder(tmp_path / "encoder")
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train_contrastive(triplet_splits(), model, tmp_path / "out", **TRIPLETS, mlp_head="train")
    assert len(model) == 2


@pytest.mark.parametrize("one_forward", ["on", "auto", "off"])
def test_masked_tokens_leave_the_passes_of_the_other_loss_as_they_are_asked_for(
    encoder: Path, one_forward: Choice, tmp_path: Path
) -> None:
    model = load_trainable_encoder(encoder, device="cpu", pooling="mean")
    options = ContrastiveOptions(mlm_weight=0.1, mini_batch_size=0)
    arguments = training_arguments(ContrastiveOptions(device="cpu"), tmp_path)
    with training_heads(model, encoder, options):
        loss = contrastive_loss(model, options=options, with_pairs=True)
        choose_passes(loss, one_forward, arguments)
    assert isinstance(loss["triplets"], WithMaskedTokens)
    changed = ["forward" in vars(each) for each in (loss["triplets"].loss, loss["pairs"], loss["triplets"])]
    assert changed == [one_forward != "off", one_forward != "off", False]


def test_a_model_handed_in_gets_its_shape_back_when_a_head_cannot_be_made(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_trainable_encoder(encoder, device="cpu", pooling="mean")

    def fails(*_: Any) -> None:
        raise RuntimeError("no memory for the layer")

    monkeypatch.setattr(heads, "_layer_with_tanh", fails)
    options = ContrastiveOptions(mlm_weight=0.1, mlp_head="train")
    with pytest.raises(RuntimeError, match="no memory"), training_heads(model, encoder, options):
        pass
    assert len(model) == 2


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("static", "'dino-tiny-encoder' has no head that predicts them: it is of a kind that never predicts"),
        ("gpt2", "it is of a kind that never predicts"),
        ("bert", r"its files hold the encoder alone \(cls\..* is missing\)"),
        ("object", "the encoder has no head .* handed in as a model"),
    ],
)
def test_an_encoder_without_a_head_for_masked_tokens_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    given: Any = "dino-tiny-encoder"
    if kind == "object":
        given = tiny_encoder(tmp_path / "encoder")
    elif kind != "static":
        given = save_model(tmp_path / kind, kind)
    options = {**TRIPLETS, "max_seq_length": None} if kind == "static" else TRIPLETS
    with pytest.raises(ConfigurationError, match=message + r".*Set mlm_weight to 0 \(of a recipe: --set train.mlm_w"):
        train_contrastive(triplet_splits(), given, tmp_path / "out", **options, mlm_weight=0.1)
    assert not (tmp_path / "out").exists()


def test_a_recipe_refuses_an_encoder_without_a_head_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("A man plays.\nA dog runs.\n")
    changes = ["model=dino-tiny", "encoder=dino-tiny-encoder", f"input={tmp_path / 's.txt'}"]
    with pytest.raises(ConfigurationError, match="no head that predicts"):
        run_recipe(load_recipe("syncse-partial", changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_heads_are_off_but_in_the_recipes_that_are_as_published() -> None:
    assert (ContrastiveOptions().mlm_weight, ContrastiveOptions().mlp_head) == (0, "none")
    for name in ("syncse-partial", "syncse-scratch"):
        train: Any = load_recipe(name).train
        assert (train.mlm_weight, train.mlm_probability, train.mlp_head) == (0.1, 0.15, "keep")
    for name in ("dino-triplets", "dino-both"):
        train = load_recipe(name).train
        assert (train.mlm_weight, train.mlp_head) == (0, "none")
