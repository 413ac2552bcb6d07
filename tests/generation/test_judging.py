"""`dino-st judge`: ratings of pairs by a language model, a server or a cross-encoder, and what takes them."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
from typer.testing import CliRunner

from dino_st import prepare_pairs, train_encoder
from dino_st.backends.chat import ChatRequest
from dino_st.backends.local import LocalWriter
from dino_st.cli.main import app
from dino_st.data.shards import ShardDirectory
from dino_st.errors import ConfigurationError, DatasetError, ModelError, OutputError
from dino_st.generation import judging
from dino_st.generation.judging import (
    CrossEncoderJudge,
    JudgingPlan,
    JudgingRun,
    ModelJudge,
    ServerJudge,
    check_orders,
    check_rated,
    check_scale,
    expected_rating,
    parse_rating,
    question,
    tell_of_ratings,
)
from dino_st.generation.options import JudgeOptions
from dino_st.pipeline.stages import judge_data, train_model
from dino_st.preparation.splits import save_prepared
from dino_st.tasks.spec import TaskSpec
from dino_st.training.options import TrainingOptions
from dino_st.training.record import RATED, read_record
from tests.fake_chat import FakeChat
from tests.shards_fixtures import rows_of
from tests.training_fixtures import QUICK, raw_pairs, save_model

PAIRS = [
    {"sentence1": "A man plays.", "sentence2": "A man is playing.", "score": 1.0},
    {"sentence1": "A dog runs.", "sentence2": "Prices rose.", "score": 0.0},
    {"sentence1": 'He said "no".', "sentence2": "He refused.", "score": 0.5},
]
ONE_ORDER = JudgeOptions(both_orders=False)


def run(judge: Any, options: JudgeOptions = ONE_ORDER, pairs: list[dict[str, Any]] = PAIRS) -> JudgingRun:
    table, spec = pa.Table.from_pylist(pairs), TaskSpec.load("sts-x2")
    return JudgingRun(judge, JudgingPlan(spec, table, {}, judge.kind, options))


def write_table(path: Path, pairs: list[dict[str, Any]] = PAIRS) -> Path:
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


def pair_asked(request: ChatRequest) -> tuple[str, str]:
    """The two sentences of a request."""
    *_, first, second, _ = request.prompt.splitlines()
    return first.partition(": ")[2].strip('"'), second.partition(": ")[2].strip('"')


@pytest.mark.parametrize(
    ("reply", "score", "reason"),
    [
        ("4", 0.8, ""),
        (" 3.5\n", 0.7, ""),
        ("Rating: 5", 1.0, ""),
        ('"0"', 0.0, ""),
        ("**2**.", 0.4, ""),
        ("<think>Both play, so 5? No, 4.</think>4", 0.8, ""),
        ("4<|im_end|>", 0.8, ""),
        ("Answer: 3", 0.6, ""),
        ("Final answer: **3**", 0.6, ""),
        ("**Rating:** 3", 0.6, ""),
        ("The score is 3.", 0.6, ""),
        ("(3)", 0.6, ""),
        ('{"score": 3}', 0.6, ""),
        ("<score>4</score>", 0.8, ""),
        ("```\n3\n```", 0.6, ""),
        ('```json\n{"rating": 3}\n```', 0.6, ""),
        ('{"score": 3, "of": 5}', None, "no number alone"),
        ("The answer has 3", None, "no number alone"),
        ("<score>4</rating>", None, "no number alone"),
        ("5/5", None, "no number alone"),
        ("I would say 4, since both play.", None, "no number alone"),
        ("3-4", None, "no number alone"),
        ("3,5", None, "no number alone"),
        ("4\n5", None, "no number alone"),
        ("four", None, "no number alone"),
        ("", None, "no number alone"),
        ("7", None, "off the scale (up to 10)"),
        ("85.5", None, "off the scale (up to 100)"),
        ("2024", None, "off the scale"),
        ("-1", None, "off the scale"),
        ("<think>Both", None, "cut off"),
    ],
)
def test_a_reply_is_a_number_alone_or_no_rating(reply: str, score: float | None, reason: str) -> None:
    assert parse_rating(reply) == (score, reason)


def test_a_number_that_was_cut_off_may_be_another() -> None:
    assert parse_rating("4", finished=False) == (None, "cut off")


def test_the_expected_rating_is_that_of_the_six_probabilities() -> None:
    assert expected_rating(np.log([0.1, 0.0001, 0.0001, 0.0001, 0.0001, 0.1]).tolist()) == pytest.approx(0.5, abs=1e-3)
    assert expected_rating([-900.0, -900.0, -900.0, -900.0, -900.0, -800.0]) == pytest.approx(1.0)


def test_a_language_model_s_ratings_are_those_of_a_plain_forward_pass(tmp_path: Path) -> None:
    writer = LocalWriter("dino-tiny", dtype="float64", device="cpu")
    run(ModelJudge(writer, 16)).into(ShardDirectory(tmp_path / "judged"))
    for row in rows_of(tmp_path / "judged"):
        prompt = writer.encode_opened(f'{question((row["sentence1"], row["sentence2"]))}Rating: "')
        scores = []
        for digit in range(6):
            text = writer.tokenizer(f'{digit}"', add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[*prompt, *text]])
            with torch.inference_mode():
                log_probs = writer.model(ids).logits[0].log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(text) - 1)
            scores.append(sum(float(log_probs[place, ids[0, place + 1]]) for place in places))
        # What cannot be drawn, such as end-of-text, has no share of the probability; that shifts the digits alike.
        assert row["judged"] == pytest.approx(expected_rating(scores), abs=0.01)


def test_both_orders_of_a_pair_are_rated_and_the_mean_is_taken(tmp_path: Path) -> None:
    chat = FakeChat(lambda request: "5" if pair_asked(request)[0] < pair_asked(request)[1] else "4")
    run(ServerJudge(chat, JudgeOptions()), JudgeOptions()).into(ShardDirectory(tmp_path / "judged"))
    assert {row["judged"] for row in rows_of(tmp_path / "judged")} == {0.9}


@pytest.mark.parametrize(("high", "is_told"), [("5", True), ("2", False)])
def test_a_judge_that_rates_the_two_orders_of_a_pair_far_apart_is_told(
    high: str, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = [{"sentence1": f"A man {i}.", "sentence2": f"Two men {i}.", "score": 1.0} for i in range(6)]
    chat = FakeChat(lambda request: high if pair_asked(request)[0] < pair_asked(request)[1] else "0")
    judging = run(ServerJudge(chat, JudgeOptions()), JudgeOptions(), pairs)
    check_orders(judging.into(ShardDirectory(tmp_path / "judged")).counts, "it")
    assert ("it rates 6 of 6 pairs at least 3 of 5 points higher or lower" in caplog.text) == is_told


def test_bad_replies_of_a_server_are_counted_and_asked_for_again(tmp_path: Path) -> None:
    def answer(request: ChatRequest) -> str | None:
        first, tried = pair_asked(request)[0], int(request.key.rpartition("/")[2])
        if first.startswith("A dog"):
            return "They differ."
        if first.startswith("He said"):
            return ["5/5", "2"][tried]
        return "5"

    judge = ServerJudge(FakeChat(answer), JudgeOptions(max_tries=2))
    counts = run(judge, JudgeOptions(max_tries=2, both_orders=False)).into(ShardDirectory(tmp_path / "judged")).counts
    assert [(row["sentence1"], row["judged"]) for row in rows_of(tmp_path / "judged")] == [
        ("A man plays.", 1.0),
        ('He said "no".', 0.4),
    ]
    assert counts["pairs"] == 3
    assert counts["rows"] == 2
    assert counts["left out: no rating"] == 1
    assert counts["rejected: no number alone"] == 3
    lost = json.loads((tmp_path / "judged" / "rejected.jsonl").read_text(encoding="utf-8"))
    assert lost == {"sentence1": "A dog runs.", "sentence2": "Prices rose.", "reason": "left out: no rating"}


def test_what_failed_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    down = FakeChat(lambda request: None if pair_asked(request)[0].startswith("A dog") else "3")
    counts = run(ServerJudge(down, ONE_ORDER)).into(ShardDirectory(tmp_path / "judged")).counts
    assert (counts["rows"], counts["failed requests"]) == (2, 1)
    up = FakeChat(lambda _: "1")
    counts = run(ServerJudge(up, ONE_ORDER)).into(ShardDirectory(tmp_path / "judged")).counts
    assert [pair_asked(request)[0] for request in up.asked] == ["A dog runs."]
    assert (counts["rows"], counts["failed requests"]) == (3, 0)
    assert [row["judged"] for row in rows_of(tmp_path / "judged")] == [0.6, 0.2, 0.6]
    assert not (tmp_path / "judged" / "rejected.jsonl").exists()


def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(judging._WAVE, "local", 1)
    writer = LocalWriter("dino-tiny", dtype="float64", device="cpu")
    run(ModelJudge(writer, 16)).into(ShardDirectory(tmp_path / "whole"))
    rate, calls = ModelJudge.rate, []

    def interrupted(self: ModelJudge, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rate(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ModelJudge, "rate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(ModelJudge(writer, 16)).into(ShardDirectory(tmp_path / "parts"))
    assert len(rows_of(tmp_path / "parts")) == 1
    run(ModelJudge(writer, 16)).into(ShardDirectory(tmp_path / "parts"))
    files = [sorted((tmp_path / name / "data").glob("*.parquet")) for name in ("whole", "parts")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_a_judge_that_always_says_the_same_is_told_of_and_not_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(ServerJudge(FakeChat(lambda _: "3"), ONE_ORDER)).into(ShardDirectory(tmp_path / "judged"))
    table = ShardDirectory.to_read(tmp_path / "judged").table()
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        assert tell_of_ratings(table) == "mean rating 0.600"
    assert "3 of 3 pairs have the rating 0.6" in caplog.text
    with pytest.raises(DatasetError, match=r"is 0\.6 in all 3 rows: the judge does not tell pairs apart"):
        prepare_pairs(Dataset(table), target="judged")


def test_an_automatic_batch_size_is_that_of_the_begun_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, output = write_table(tmp_path / "pairs.jsonl"), tmp_path / "judged"
    for rows in (12, 24):
        monkeypatch.setattr(LocalWriter, "automatic_rows", lambda *_, rows=rows: rows)
        judge_data(table, "dino-tiny", output, given={"device": "cpu"})
        assert ShardDirectory(output).configuration["judge"]["batch_size"] == 12
        (output / "data" / "train-00000.parquet").unlink()


def cross_encoder(directory: Path, outputs: int = 1) -> Path:
    directory.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["a", "man", "plays", "is", "playing", "dog", "runs", "prices", "rose", "."],
    ]
    (directory / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(3)
    config = BertConfig(vocab_size=len(words), num_labels=outputs, max_position_embeddings=64, **sizes)
    BertForSequenceClassification(config).save_pretrained(directory)
    return directory


def test_a_cross_encoder_rates_as_it_predicts(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    model, table = cross_encoder(tmp_path / "model"), write_table(tmp_path / "pairs.jsonl")
    counts, sentence = judge_data(table, str(model), tmp_path / "judged", options=ONE_ORDER, given={"device": "cpu"})
    expected = CrossEncoder(str(model), device="cpu").predict([(p["sentence1"], p["sentence2"]) for p in PAIRS])
    assert [row["judged"] for row in rows_of(tmp_path / "judged")] == pytest.approx(expected.tolist(), abs=1e-6)
    assert counts["rows"] == 3
    assert "Spearman with the assigned scores" in sentence
    card = (tmp_path / "judged" / "README.md").read_text(encoding="utf-8")
    assert "column `judged`" in card.lower()
    assert "Who wrote them, and where their labels come from, is not" in card
    assert "written by the language model" not in card


def test_another_run_is_refused_before_the_judge_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "cross"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    table = write_table(tmp_path / "pairs.jsonl")
    for options, change in ((JudgeOptions(), "both_orders"), (ONE_ORDER, "weights")):
        output = tmp_path / change
        run(ServerJudge(FakeChat(lambda _: "4"), ONE_ORDER)).into(ShardDirectory(output))
        with pytest.raises(OutputError, match=r"(?s)begun with another configuration.*kind (was|is) .*openai"):
            judge_data(table, str(model), output, options=options, given={"device": "cpu"})


def test_cross_encoders_that_give_no_similarity_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="has 3 outputs; expected one, the similarity"):
        CrossEncoderJudge(cross_encoder(tmp_path / "nli", 3), "nli", device="cpu")
    judge = CrossEncoderJudge(cross_encoder(tmp_path / "ranker"), "ranker", device="cpu")
    monkeypatch.setattr(judge._model, "predict", lambda pairs, **_: np.array([7.5] * len(pairs)))
    with pytest.raises(ModelError, match=r"gives 7\.5 for a pair; expected a similarity from 0 to 1"):
        judge.rate([("a", "b")], lambda backend: backend.complete)


def _changed(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes a cross-encoder's weights, or a file of JSON."""

    def apply(model: Path) -> None:
        file = model / name
        if file.suffix == ".json":
            file.write_text(json.dumps(change(json.loads(file.read_text()))))
        else:
            save_file(change(load_file(file)), file, {"format": "pt"})

    return apply


def _pickled(model: Path) -> None:
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def with_second_layer(weights: Any) -> Any:
    return weights | {name.replace(".0.", ".1."): weight.clone() for name, weight in weights.items() if ".0." in name}


def _without(part: str) -> Callable[[Any], Any]:
    return lambda weights: {name: weight for name, weight in weights.items() if part not in name}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_changed("model.safetensors", _without("classifier.")), "lacks 2 of the weights .*'classifier.bias'"),
        (_changed("model.safetensors", _without("attention.self")), "lacks 6 of the weights"),
        (_changed("model.safetensors", lambda w: {f"model.{k}": v for k, v in w.items()}), "lacks .* of the weights"),
        (_changed("model.safetensors", with_second_layer), "has weights that its configuration does"),
        (_changed("config.json", lambda c: c | {"intermediate_size": 8}), "sizes in its config.json are not those"),
        (
            _changed("model.safetensors", lambda w: w | {n: v.char() for n, v in w.items() if "dense.weight" in n}),
            r"dense.weight' holds whole numbers \(I8\)",
        ),
        (_changed("model.safetensors", lambda w: {n: v * torch.nan for n, v in w.items()}), "hold NaN"),
        (_changed("tokenizer.json", lambda c: with_token(c, 99)), "tokens up to number 99, but the embedding has 15"),
        (lambda model: [(model / f).unlink() for f in ("tokenizer.json", "vocab.txt")], "its tokenizer knows no words"),
        (_pickled, "the weights are a pickle"),
        (lambda model: (model / "model.safetensors").unlink(), "holds no weights"),
        (lambda model: os.truncate(model / "model.safetensors", 2000), "truncated or damaged"),
        (lambda model: (model / "model.safetensors").write_bytes(bytes(2000)), "nothing but zeros"),
        (lambda model: (model / "model.safetensors").write_text("version https://git-lfs x"), "pointer of Git LFS"),
    ],
)
def test_a_damaged_cross_encoder_is_refused(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    model = cross_encoder(tmp_path / "model")
    CrossEncoderJudge(model, "whole", device="cpu")
    damage(model)
    with pytest.raises(ModelError, match=message):
        CrossEncoderJudge(model, "damaged", device="cpu")


def with_token(content: dict[str, Any], number: int) -> dict[str, Any]:
    content["model"]["vocab"]["more"] = number
    return content


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("a man plays a man plays .", "a dog runs .")] * 3, "100 % of the texts are longer than the 5 tokens"),
        ([("猫 坐", "狗 跑")] * 3, "100 % of the texts' tokens are unknown"),
        ([("a man", "a dog")] * 3, ""),
    ],
)
def test_what_a_cross_encoder_does_not_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pairs: list[tuple[str, str]], told: str
) -> None:
    model = cross_encoder(tmp_path / "model")
    _changed("tokenizer_config.json", lambda config: config | {"model_max_length": 8})(model)
    CrossEncoderJudge(model, "it", device="cpu").rate(pairs, lambda backend: backend.complete)
    assert (told in caplog.text) if told else not caplog.text
    assert "max_seq_length" not in caplog.text  # which `judge` has no option for


@pytest.mark.parametrize(
    ("ratings", "kind", "told"),
    [
        ([0.99991, 0.99995, 0.99999], "cross-encoder", "the ratings lie between 0.99991 and 0.99999"),
        (
            [0.16, 0.02, 0.14, 0.2, 0.16, 0.18],
            "openai",
            "6 of 6 ratings are not above 1, .* such as 0.8, .*from 0 to 1",
        ),
        ([0.4, *[0.16, 0.02, 0.14] * 8], "openai", "24 of 25 ratings are not above 1, .* such as 0.8, .*from 0 to 1"),
        ([0.16, 0.02, 0.14, 0.2, 0.16, 0.18], "cross-encoder", ""),
        ([0.2, 0.0, 0.1, 0.2, 0.0, 0.1], "openai", ""),
        ([0.16, 0.02, 0.14, 0.2, 0.16, 0.8], "openai", ""),
        (
            [0.2] * 8 + [0.6, 1.0] * 20,
            "openai",
            "no rating is below 1, and 8 of 48 are 1, as if the judge rated from 1 to",
        ),
        ([0.0] + [0.2] * 8 + [0.6, 1.0] * 20, "openai", ""),
        ([0.2] * 4 + [0.6, 1.0] * 20, "openai", ""),
        ([0.4] * 8 + [0.6, 1.0] * 20, "openai", ""),
    ],
)
def test_ratings_on_another_scale_or_without_spread_are_told(
    ratings: list[float], kind: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    tell_of_ratings(pa.table({"judged": ratings}), kind)
    assert re.search(told, caplog.text) if told else not caplog.text


@pytest.mark.parametrize(
    ("order", "stuck", "told"),
    [
        ("mixed", range(90, 120), "rows 91 to 120 all have the rating 0.6, whatever their scores, and of the other"),
        ("mixed", range(30, 60), "rows 31 to 60 all have the rating 0.6"),
        ("mixed", range(0), ""),
        ("mixed", range(15), ""),
        ("sorted", range(0), ""),
        ("sorted", range(40), ""),
    ],
)
def test_a_judge_that_gets_stuck_at_a_rating_is_told_by_its_rows(
    order: str, stuck: range, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    scores = [number % 3 / 2 for number in range(120)]
    if order == "sorted":
        scores.sort()
    ratings = [min(1.0, round(5 * (0.8 * score + number * 7 % 4 / 20)) / 5) for number, score in enumerate(scores)]
    for place in stuck:
        ratings[place] = 0.6
    tell_of_ratings(pa.table({"judged": ratings, "score": scores}), "openai")
    assert (told in caplog.text) if told else "stuck" not in caplog.text


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (
            lambda score, number: 0.9 - 0.7 * score + number % 4 / 40,
            r"the lower the judge's rating \(Spearman -0\.\d+ over",
        ),
        (
            lambda score, number: number * 37 % 101 / 101,
            r"hardly better than by chance \(Spearman -?0\.\d+ over 120 pairs",
        ),
        (lambda score, number: 0.3 * score + number * 37 % 101 / 101 * 0.6, ""),
    ],
)
def test_a_judge_that_rates_backwards_or_by_chance_is_told_by_judge_and_by_prepare(
    rate: Callable[[float, int], float], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = pa.Table.from_pylist(
        [
            {
                "sentence1": f"A man {number}.",
                "sentence2": f"A dog {number}.",
                "score": score,
                "judged": rate(score, number),
            }
            for number, score in enumerate([0.0, 0.5, 1.0] * 40)
        ]
    )
    for said in (tell_of_ratings, lambda pairs: prepare_pairs(pairs, target="judged")):
        caplog.clear()
        said(table)
        assert re.search(told, caplog.text) if told else "Spearman" not in caplog.text


@pytest.mark.parametrize(("pairs", "is_told"), [(30, True), (27, False)])
def test_by_chance_is_told_of_as_many_pairs_as_a_correlation_takes(
    pairs: int, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    scores = [number % 3 / 2 for number in range(pairs)]
    tell_of_ratings(pa.table({"judged": [number * 37 % 101 / 101 for number in range(pairs)], "score": scores}))
    assert ("hardly better than by chance" in caplog.text) == is_told


@pytest.mark.parametrize(
    ("counts", "told", "is_refused"),
    [
        ({"pairs": 60, "rows": 49, "left out: no rating": 11, "rejected: cut off": 66}, "", False),
        (
            {"pairs": 60, "rows": 1, "left out: no rating": 59, "rejected: cut off": 59},
            "it rated 1 of 60 pairs alone: rejected: cut off; raise --max-new-tokens",
            False,
        ),
        (
            {"pairs": 60, "rows": 0, "left out: no rating": 60, "rejected: no number alone": 360},
            "it rated none of 60 pairs: rejected: no number alone; take a judge that answers with a number",
            True,
        ),
    ],
)
def test_a_judge_that_leaves_many_pairs_without_a_rating_is_told_with_what_helps(
    counts: dict[str, int], told: str, is_refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ModelError, match=told) if is_refused else nullcontext():
        check_rated(counts, "it")
    assert is_refused or ((told in caplog.text) if told else not caplog.text)


@pytest.mark.parametrize(
    ("counts", "told", "is_refused"),
    [
        ({"rows": 1000, "rejected: off the scale (up to 10)": 9}, "", False),
        (
            {"rows": 1000, "rejected: off the scale (up to 10)": 60},
            "60 replies .* from 0 to 10, .* the 1,000 rat",
            False,
        ),
        ({"rows": 40, "rejected: off the scale (up to 10)": 60}, "the 40 ratings .* do not use them", True),
        (
            {"rows": 4, "rejected: off the scale (up to 10)": 6, "rejected: off the scale (up to 100)": 90},
            "96 replies of it are numbers above 5, as if it rated from 0 to 100",
            True,
        ),
        ({"rows": 10, "rejected: off the scale": 60, "rejected: no number alone": 90}, "", False),
    ],
)
def test_a_judge_that_rates_on_a_larger_scale_is_told_and_refused_where_it_mostly_does(
    counts: dict[str, int], told: str, is_refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ModelError, match=told) if is_refused else nullcontext():
        check_scale(counts, "it")
    assert re.search(told, caplog.text) if told and not is_refused else not caplog.text


def judged(pairs: Dataset) -> Dataset:
    """Pairs with ratings: the score, a little lower."""
    return pairs.add_column("judged", [score * 0.8 for score in pairs["score"]])


def test_ratings_become_targets_and_leave_the_validation_split_alone() -> None:
    raw = raw_pairs(40)
    plain, rated = prepare_pairs(raw), prepare_pairs(judged(raw), target="judged")
    assert set(rated["train"]["score"]) == {0.0, 0.4, 0.8}
    assert rated["train"]["sentence2"] == plain["train"]["sentence2"]
    assert rated["validation"].to_list() == plain["validation"].to_list()
    with pytest.raises(
        DatasetError, match="needs the column 'judged', which the raw pairs lack; add it with `dino-st ju"
    ):
        prepare_pairs(raw, target="judged")
    with pytest.raises(DatasetError, match=r"column 'judged' is 1\.5 in row 0; expected a number from 0 to 1"):
        prepare_pairs(raw.add_column("judged", [1.5] + [0.5] * (len(raw) - 1)), target="judged")


def test_pairs_of_a_judge_or_of_another_writer_choose_the_checkpoint(tmp_path: Path) -> None:
    splits = prepare_pairs(raw_pairs(40), seed=1)
    save_prepared(splits, tmp_path / "mine")
    other = judged(raw_pairs(20, seed=7))
    table = write_table(
        tmp_path / "judged.jsonl", other.select_columns(["sentence1", "sentence2", "score", "judged"]).to_list()
    )
    save_prepared(prepare_pairs(other), tmp_path / "others")
    options = {**QUICK, "evaluation_steps": 100}

    for validation, by in (
        (f"judged:{table}", f"the judge of {table}"),
        (str(tmp_path / "others"), "the instructions of"),
    ):
        output = tmp_path / by.split()[-1].replace("/", "_")
        train_model(
            tmp_path / "mine",
            str(save_model(tmp_path / "encoder")),
            output,
            TrainingOptions.of(**options),
            validation=validation,
        )
        record = read_record(output)
        assert record is not None
        assert record.validation_kind == "rated"
        assert record.provenance[RATED]["by"].startswith(by)
        assert by in (output / "README.md").read_text(encoding="utf-8")


def test_validation_pairs_are_not_trained_on(tmp_path: Path) -> None:
    splits = prepare_pairs(raw_pairs(40), seed=1)
    shared = DatasetDict(train=splits["train"], validation=splits["validation"])["train"].select(range(10))
    train_encoder(
        splits, str(save_model(tmp_path / "encoder")), tmp_path / "model", judged=shared, judged_by="a judge", **QUICK
    )
    record = read_record(tmp_path / "model")
    assert record is not None
    assert record.provenance[RATED] == {"pairs": 10, "left out of training": 10, "by": "a judge"}


def test_a_validation_that_is_nothing_of_the_kind_is_refused(tmp_path: Path) -> None:
    save_prepared(prepare_pairs(raw_pairs(40)), tmp_path / "mine")

    table = write_table(tmp_path / "pairs.jsonl")
    with pytest.raises(ConfigurationError, match=r"expected audit:DIR, .*judged:DIR.*or a directory of"):
        train_model(tmp_path / "mine", "x", tmp_path / "out", TrainingOptions(), validation="nowhere")
    with pytest.raises(DatasetError, match="has no ratings; `dino-st judge"):
        train_model(tmp_path / "mine", "x", tmp_path / "out", TrainingOptions(), validation=f"judged:{table}")


def test_the_command_rates_and_what_it_wrote_is_prepared(tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "pairs.jsonl", [dict(pair, sentence1=f"{pair['sentence1']} {i}") for i in range(8) for pair in PAIRS]
    )
    command = ["judge", str(table), "--model", "dino-tiny", "--output", str(tmp_path / "judged")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "24 pairs with ratings" in result.output
    prepared = ["prepare", str(tmp_path / "judged"), "--output", str(tmp_path / "prepared"), "--target", "judged"]
    result = CliRunner().invoke(app, prepared)
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, [*command[:-1], str(table)])
    assert result.exit_code == 2
    result = CliRunner().invoke(app, [*command, "--base-url", "http://localhost:1/v1"])
    assert result.exit_code == 2
    assert "a local model has no address" in result.output
