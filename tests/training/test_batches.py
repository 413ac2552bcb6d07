"""Batches sorted by length, tokens that are made ahead, and texts that are encoded together."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

import dino_st.training.trainer
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError
from dino_st.training import passes
from dino_st.training.batches import SortedBatches, TokensAhead, sorted_order, tokens_ahead
from dino_st.training.objective import contrastive_loss, encode_once, pair_objective
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from dino_st.training.passes import in_mini_batches_by_length, in_one_pass, in_passes_by_length
from dino_st.training.train import train_encoder
from tests.training_fixtures import QUICK, make_tokenizer, prepared_splits, save_model, tiny_encoder, weights


def sampler(texts: list[str], **options: Any) -> SortedBatches:
    named = {"batch_size": 4, "drop_last": False, "valid_label_columns": ["score"], "generator": None, "seed": 7}
    pairs = Dataset.from_dict({"sentence1": texts, "sentence2": ["a"] * len(texts), "score": [0.0] * len(texts)})
    return SortedBatches(pairs, **(named | {"window": 5} | options))


def padding(batches: list[list[int]], lengths: np.ndarray) -> int:
    return sum(int((lengths[batch].max() - lengths[batch]).sum()) for batch in batches)


def test_sorted_batches_take_each_pair_once_an_epoch_and_need_little_padding() -> None:
    lengths = np.random.default_rng(3).integers(1, 60, 203)
    texts = ["x" * int(length) for length in lengths]
    batches = list(sampler(texts))
    assert sorted(row for batch in batches for row in batch) == list(range(203))
    assert len(batches) == len(sampler(texts)) == 51
    random = np.random.default_rng(4).permutation(203)
    assert (
        padding(batches, lengths)
        < padding([random[start : start + 4].tolist() for start in range(0, 203, 4)], lengths) / 2
    )
    assert len(list(sampler(texts, drop_last=True))) == 50


def test_sorted_batches_depend_on_seed_and_epoch_alone() -> None:
    texts = ["x" * (1 + 7 * row % 30) for row in range(50)]
    assert list(sampler(texts)) == list(sampler(texts))
    assert list(sampler(texts)) != list(sampler(texts, seed=8))
    later = sampler(texts)
    later.set_epoch(1)
    assert list(later) != list(sampler(texts))


def test_the_batches_of_a_window_come_in_random_order() -> None:
    lengths = np.arange(40)
    longest_first = [sorted_order(lengths, 4, 10, np.random.PCG64(seed))[0] > 20 for seed in range(100)]
    assert 25 < sum(longest_first) < 75
    assert sorted_order(np.arange(0), 4, 10, np.random.PCG64(0)).tolist() == []


def test_the_longer_text_of_a_pair_counts() -> None:
    rows = {"sentence1": ["a", "aaaa", "a", "aa"], "sentence2": ["bbbb", "b", "b", "b"], "score": [0.0] * 4}
    batches = SortedBatches(Dataset.from_dict(rows), window=2, batch_size=2, drop_last=False, valid_label_columns=[])
    assert sorted(map(sorted, batches)) == [[0, 1], [2, 3]]


def test_batches_cannot_be_balanced_and_sorted() -> None:
    assert pair_objective(prepared_splits(48, 24), TrainingOptions()).batch_sampler is None
    with pytest.raises(ConfigurationError, match="either balanced_batches or sorted_batches"):
        TrainingOptions.of(balanced_batches=True, sorted_batches=8)


def preprocessed(model: SentenceTransformer, rows: list[str], **named: Any) -> None:
    """Holds tokens made ahead against those that the encoder makes."""
    parts = [Dataset.from_dict({"sentence1": rows, "score": [0.0] * len(rows)})]
    ahead = tokens_ahead(model, parts, named.get("prompt"))
    assert isinstance(ahead, TokensAhead)
    for batch in (rows, rows[:1], rows[1:4], rows[::-1], [*rows[:2], "a sentence that nobody has seen"]):
        expected, found = model.preprocess(batch, **named), ahead(batch, **named)
        assert list(found) == list(expected)
        for name, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert found[name].dtype == value.dtype
                assert torch.equal(found[name], value)
            else:
                assert found[name] == value


ROWS = ["the dog eats", "a cat", "the bird sees the river of the horse", "fish " * 40, "one two three four", "a cat"]


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("prompt", [None, "query: "])
def test_tokens_made_ahead_are_those_of_the_encoder(kind: str, side: str, prompt: str | None, tmp_path: Path) -> None:
    model = load_trainable_encoder(save_model(tmp_path, kind), device="cpu", max_seq_length=32)
    model.tokenizer.padding_side = side
    preprocessed(model, ROWS, prompt=prompt)


def test_what_an_encoder_does_beyond_padding_is_left_to_it(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [Dataset.from_dict({"sentence1": ROWS})]
    static = SentenceTransformer(modules=[StaticEmbedding(make_tokenizer(pad=True), embedding_dim=8)], device="cpu")
    assert tokens_ahead(static, parts, None) == static.preprocess
    model = load_trainable_encoder(bert, device="cpu")
    assert isinstance(tokens_ahead(model, parts, None), TokensAhead)
    monkeypatch.setattr("dino_st.training.batches._MOST_AHEAD", 5)
    assert tokens_ahead(model, parts, None) == model.preprocess
    monkeypatch.undo()
    plain = model.preprocess

    def wider(texts: list[str], **named: Any) -> dict[str, Any]:
        features = plain(texts, **named)
        padded = {name: torch.nn.functional.pad(features[name], (0, 1)) for name in ("input_ids", "attention_mask")}
        return features | padded

    monkeypatch.setattr(model, "preprocess", wider)
    assert tokens_ahead(model, parts, None) is wider


@pytest.mark.parametrize("workers", [0, 1])
def test_tokens_made_ahead_and_workers_give_the_same_weights(
    workers: int, bert: Path, splits: DatasetDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = weights(train_encoder(splits, bert, tmp_path / "ahead", **QUICK, dataloader_num_workers=workers))
    monkeypatch.setattr(dino_st.training.trainer, "tokens_ahead", lambda model, *_: model.preprocess)
    plain = weights(train_encoder(splits, bert, tmp_path / "plain", **QUICK))
    assert all(torch.equal(weight, ahead[name]) for name, weight in plain.items())


LOSSES = {
    "cosine": losses.CosineSimilarityLoss,
    "cosent": losses.CoSENTLoss,
    "angle": losses.AnglELoss,
    "ranking": losses.MultipleNegativesRankingLoss,
}


@pytest.mark.parametrize(("change", "number"), [(in_one_pass, 1), (in_passes_by_length, 3)])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_other_forward_passes_give_the_same_loss_and_gradients(
    kind: str, loss: str, change: Any, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino_st.training.passes._TOKENS_OF_A_PASS", 2)
    model = load_trainable_encoder(save_model(tmp_path, kind), device="cpu").double().eval()
    encoded: list[torch.Size] = []
    model[0].register_forward_pre_hook(lambda _, given: encoded.append(given[0]["input_ids"].shape))
    columns = [["fish " * 9, "a cat", "the dog eats"], ["the dog eats", "the bird sees the river", "cat"]]
    labels, found = torch.tensor([0.2, 0.9, 0.4]), []
    for how in (lambda made: made, change):
        encoded.clear()
        model.zero_grad()
        value = how(LOSSES[loss](model))([model.preprocess(column) for column in columns], labels)
        value.backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        found.append(([*encoded], value.detach(), gradients))
    (columns_of_texts, apart, separate), (groups, together, joint) = found
    assert (len(columns_of_texts), len(groups)) == (2, number)
    assert sum(rows for rows, _ in groups) == 6
    assert number == 1 or sum(map(math.prod, groups)) < sum(map(math.prod, columns_of_texts))
    assert torch.allclose(apart, together, rtol=1e-6, atol=1e-9)
    assert separate.keys() == joint.keys()
    assert all(torch.allclose(gradient, joint[name], rtol=1e-5, atol=1e-8) for name, gradient in separate.items())


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("side", ["right", "left", "gap"])
def test_mini_batches_by_length_give_the_same_loss_and_gradients(kind: str, side: str, tmp_path: Path) -> None:
    model = load_trainable_encoder(save_model(tmp_path, kind), device="cpu").double().eval()
    model.tokenizer.padding_side = "left" if side == "left" else "right"
    encoded: list[torch.Size] = []
    model[0].register_forward_pre_hook(lambda _, given: encoded.append(given[0]["input_ids"].shape))
    longer = ["fish " * 9, "a cat", "the dog eats the bird", "cat", "the river " * 4]
    columns = [longer, longer[::-1], [*longer[2:], *longer[:2]]]
    found = []

    def features() -> list[dict[str, Any]]:
        made = [dict(model.preprocess(column)) for column in columns]
        if side == "gap":
            made[1]["attention_mask"][0, 0] = 0
        return made

    for change in (lambda made: made, in_mini_batches_by_length):
        loss = change(losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=2))
        with torch.no_grad():
            scored = loss(features(), None)
        encoded.clear()
        model.zero_grad()
        value = loss(features(), None)
        value.backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
        found.append((sum(map(math.prod, encoded)), scored, value.detach(), gradients))
    (tokens, *values, gradients), (fewer, *sorted_values, sorted_gradients) = found
    assert (fewer < tokens) == (side == "right")
    assert torch.allclose(torch.stack(values), torch.stack(sorted_values), rtol=1e-12)
    assert gradients.keys() == sorted_gradients.keys()
    assert all(
        torch.allclose(gradient, sorted_gradients[name], rtol=1e-9, atol=1e-12) for name, gradient in gradients.items()
    )


@pytest.mark.parametrize(("choice", "is_sorted"), [("auto", True), ("on", True), ("off", False)])
def test_the_mini_batches_of_triplets_are_sorted_unless_told_otherwise(
    choice: Any, is_sorted: bool, bert: Path
) -> None:
    model = load_trainable_encoder(bert, device="cpu")
    options = ContrastiveOptions(batch_size=8, mini_batch_size=2, one_forward=choice)
    assert ("calculate_loss" in vars(contrastive_loss(model, options=options, with_pairs=False))) == is_sorted


@pytest.mark.parametrize("side", ["left", "static", "empty"])
def test_texts_that_cannot_be_grouped_by_length_are_encoded_by_column(side: str, bert: Path, tmp_path: Path) -> None:
    static = SentenceTransformer(modules=[StaticEmbedding(make_tokenizer(pad=True), embedding_dim=8)], device="cpu")
    model = static if side == "static" else load_trainable_encoder(bert, device="cpu").eval()
    if side == "left":
        model.tokenizer.padding_side = "left"
    columns = [["fish " * 9, "a cat"], ["the dog eats", "cat"]]
    features = [model.preprocess(column) for column in columns]
    if side == "empty":
        features[0]["attention_mask"][1] = 0
    expected = losses.CosineSimilarityLoss(model)([dict(column) for column in features], torch.ones(2))
    counted: list[int] = []
    model[0].register_forward_hook(lambda *_: counted.append(1))
    found = in_passes_by_length(losses.CosineSimilarityLoss(model))(features, torch.ones(2))
    assert (len(counted), torch.equal(found, expected)) == (2, True)


@pytest.mark.parametrize("seed", range(20))
def test_the_groups_cost_the_least_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = sorted(rng.integers(1, rng.integers(2, 150), seed % 9 + 1).tolist())

    def cost(bounds: Sequence[int]) -> int:
        return sum((end - begin) * lengths[end - 1] + 100 for begin, end in itertools.pairwise(bounds))

    inner = range(1, len(lengths))
    every = (
        [0, *chosen, len(lengths)] for size in range(len(lengths)) for chosen in itertools.combinations(inner, size)
    )
    assert cost(passes._ends(lengths)) == min(map(cost, every))


@pytest.mark.parametrize(("choice", "expected"), [("off", 2), ("on", 1), ("auto", 1)])
def test_passes_are_those_of_the_option(
    choice: str,
    expected: int,
    bert: Path,
    splits: DatasetDict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passes, "_TOKENS_OF_A_PASS", 10_000)
    model, counted = load_trainable_encoder(bert, device="cpu"), []
    model[0].register_forward_hook(lambda module, *_: counted.append(module.training))
    train_encoder(splits, model, tmp_path / "run", **QUICK, one_forward=choice)
    assert sum(counted) == expected * math.ceil(len(splits["train"]) / QUICK["batch_size"])


def test_each_sentence_is_encoded_once_for_the_validation_and_scores_as_before(bert: Path) -> None:
    model = load_trainable_encoder(bert, device="cpu")
    pairs = prepared_splits(6, 60)["validation"]
    encoded: list[str] = []
    preprocess = model.preprocess
    scores = []
    for seed in (None, 1, 2):
        rows = pairs if seed is None else pairs.shuffle(seed=seed)
        named: dict[str, Any] = {"main_similarity": "cosine", "write_csv": False, "batch_size": 7, "name": "v"}
        columns = [list(rows[name]) for name in ("sentence1", "sentence2", "score")]
        expected = EmbeddingSimilarityEvaluator(*columns, **named)(model)
        with pytest.MonkeyPatch.context() as patch:
            encoded.clear()
            patch.setattr(
                model, "preprocess", lambda texts, **named: (encoded.extend(texts), preprocess(texts, **named))[1]
            )
            evaluator = encode_once(EmbeddingSimilarityEvaluator(*columns, **named))
            for _ in range(2):
                found = evaluator(model)
        assert sorted(encoded) == sorted(2 * [*{*columns[0], *columns[1]}])
        assert found == pytest.approx(expected, abs=1e-6)
        scores.append(found["v_spearman_cosine"])
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-6)


def test_a_gpu_encodes_more_sentences_at_once_for_the_validation(splits: DatasetDict) -> None:
    def size(batch_size: int, *, on_gpu: bool) -> int:
        objective = pair_objective(splits, TrainingOptions(batch_size=batch_size))
        return objective.evaluator(on_gpu=on_gpu).evaluators[0].batch_size

    assert [size(batch, on_gpu=False) for batch in (4, 32, 512)] == [4, 32, 512]
    assert [size(batch, on_gpu=True) for batch in (4, 32, 512)] == [32, 256, 512]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++ here")
def test_a_compiled_encoder_learns_the_same(splits: DatasetDict, tmp_path: Path) -> None:
    count = make_tokenizer(pad=True)
    alike = splits.filter(lambda row: [len(count.tokenize(row[name])) for name in ("sentence1", "sentence2")] == [8, 8])
    few = DatasetDict({name: split.select(range(16)) for name, split in alike.items()})  # each shape is compiled anew
    found = []
    for compiled in (False, True):
        model = tiny_encoder(tmp_path / "encoder")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        train_encoder(few, model, tmp_path / f"run-{compiled}", **QUICK, epochs=4, torch_compile=compiled)
        found.append(weights(model))
    assert all(torch.allclose(weight, found[1][name], atol=1e-3) for name, weight in found[0].items())
