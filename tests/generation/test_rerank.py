"""Texts of which the one with the widest margin is kept: through a server, and locally."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dino_st.builder import DinoDatasetBuilder
from dino_st.data.shards import ShardDirectory
from dino_st.errors import ConfigurationError, OutputError
from dino_st.generation.options import GenerationOptions, WritingOptions
from dino_st.generation.rerank import margin, widest
from dino_st.pipeline.stages import Generation, generate_data
from dino_st.support.hashes import short_hash
from dino_st.tasks.spec import TaskSpec
from tests.hostile_server import MODEL, Script, hostile_server
from tests.scoring_server import ScoringServer
from tests.shards_fixtures import rows_of

SPEC = TaskSpec.load("sts-x2")
SENTENCES = ["A man plays a flute.", "Two dogs run in a park.", "Stocks fell on Monday."]
TEXTS = tuple(
    f"{who} {what} {where}."
    for who in ("A cat", "Nobody")
    for what in ("ran", "sat")
    for where in ("alone", "away", "again")
)
WORDS_AND_MARKS = r" ?\w+|[^\w\s]|\s"


pytestmark = pytest.mark.usefixtures("asking_this_machine")


def test_a_margin_is_over_the_likeliest_counter_label_alone() -> None:
    assert margin(SPEC, "0", [-9.0, -7.0, -4.0]) == 3.0
    assert margin(SPEC, "0.5", [-9.0, -7.0, -1.0]) == 2.0
    assert margin(SPEC, "1", [-9.0, -7.0, -4.0]) == float("inf")


def test_the_first_of_equal_margins_is_kept() -> None:
    assert widest(SPEC, "0", [[-5.0, -5.0, -6.0], [-5.0, -9.0, -3.0], [-4.0, -9.0, -2.0]]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 3}, "debias='rerank' along with candidates"),
        ({"debias": "rerank", "decay_constant": 100.0}, "decay_constant = 100 along with debias='rerank'"),
        ({"debias": "rerank", "candidates": 1}, "greater than or equal to 2"),
        ({"debias": "rank"}, "'rerank'"),
    ],
)
def test_options_that_say_nothing_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        WritingOptions.of(**options)


def test_texts_from_scratch_with_counter_labels_are_not_reranked() -> None:
    labels = {"a": {"instruction": 'Say: "', "counter_labels": ["b"]}, "b": {"instruction": 'Ask: "'}}
    task = TaskSpec.load({"task_name": "own", "labels": labels})
    with pytest.raises(ConfigurationError, match="writes texts from scratch, and debias='rerank' is for pairs"):
        WritingOptions.of(debias="rerank").decoding_for(task)
    assert WritingOptions.of(debias="rerank").decoding_for(TaskSpec.load("sts-x1")).decay_constant == 0


def test_what_is_not_reranked_is_described_as_before() -> None:
    assert GenerationOptions().reranking() == {}
    assert GenerationOptions(debias="rerank").candidates_of(SPEC, "1") == 1
    assert GenerationOptions(debias="rerank").candidates_of(SPEC, "0") == 4
    assert GenerationOptions().candidates_of(SPEC, "0") == 1


# --- through a server


@pytest.fixture
def model() -> ScoringServer:
    return ScoringServer("echo", pattern=WORDS_AND_MARKS, texts=TEXTS)


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("\n".join(SENTENCES), encoding="utf-8")
    return path


Write = Callable[..., Path]


@pytest.fixture
def write(model: ScoringServer, sentences: Path, tmp_path: Path) -> Write:
    """Runs a generation through a server; the script and the number of texts may be given."""

    def run(script: Script = lambda prompt, attempt: "ok", name: str = "raw", **options: Any) -> Path:
        with hostile_server(script, respond=model.respond) as server:
            fast = {"backoff_seconds": 0.001, "longest_wait_seconds": 0.01, "max_retries": 1, "concurrency": 4}
            given = {"backend": "openai", "base_url": server.url, "debias": "rerank", "samples": 2, **fast, **options}
            generate_data(Generation("sts-x2", str(sentences), options=given), MODEL, tmp_path / name)
        return tmp_path / name

    return run


def prompt(label: str, x1: str) -> str:
    return SPEC.labels[label].instructions[0].replace("<X1>", x1)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_each_text_kept_has_the_widest_margin_of_its_candidates(
    endpoint: str, write: Write, model: ScoringServer
) -> None:
    out = write(endpoint=endpoint, candidates=5)
    rows = rows_of(out)
    assert len(rows) == len(SENTENCES) * 3 * 2
    with contextlib.closing(sqlite3.connect(out / "replies.sqlite")) as journal:
        texts = dict(journal.execute("SELECT key, text FROM replies WHERE key LIKE 'pair/%' AND text IS NOT NULL"))
    assert len(texts) == len(SENTENCES) * 2 * (1 + 5 + 5)
    assert len(set(texts.values())) > len(TEXTS) / 2
    for row in rows:
        label = {1.0: "1", 0.5: "0.5", 0.0: "0"}[row["score"]]
        scores = {
            text: [model.score(prompt(each, row["sentence1"]), f'{text}"') for each in SPEC.labels] for text in TEXTS
        }
        assert row["log_probs"] == pytest.approx(scores[row["sentence2"]], abs=1e-4)
        assert row["num_tokens"] == len(model.tokens(f'{row["sentence2"]}"'))
        if label == "1":
            continue
        own = list(SPEC.labels).index(label)
        margins = {text: numbers[own] - max(numbers[:own]) for text, numbers in scores.items()}
        draw = f"pair/{short_hash(row['sentence1'])}/{label}/{row['sample']}/"
        candidates = {text.rstrip('"') for key, text in texts.items() if key.startswith(draw)}
        assert row["sentence2"] in candidates
        assert margins[row["sentence2"]] == max(margins[text] for text in candidates)


def test_the_manifest_says_how_and_another_number_is_another_run(write: Write) -> None:
    out = write(candidates=3)
    configuration = ShardDirectory(out).configuration
    assert (configuration["debias"], configuration["candidates"]) == ("rerank", 3)
    assert configuration["decoding"]["decay_constant"] == 0
    assert ShardDirectory(out).counts["candidates"] == len(SENTENCES) * 2 * (1 + 3 + 3)
    with pytest.raises(OutputError, match="candidates was 3, now 4"):
        write(candidates=4)


def test_nothing_is_asked_twice_by_a_second_run(write: Write, model: ScoringServer) -> None:
    out = write()
    before, asked = rows_of(out), dict(model.asked)
    write()
    assert rows_of(out) == before
    assert dict(model.asked) == asked


def test_a_run_that_lost_requests_is_mended_to_the_same_rows(write: Write, model: ScoringServer) -> None:
    whole = rows_of(write(name="whole"))
    model.asked.clear()
    echoes: list[str] = []

    def script(prompt: str, attempt: int) -> str:
        if "/v1/completions" in prompt:
            echoes.append(prompt)
        return "400" if len(echoes) % 3 == 2 and "/v1/completions" in prompt and len(echoes) > 2 else "ok"

    out = write(script, name="lossy")
    assert ShardDirectory(out).counts["failed requests"] > 0
    lost = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert all(line["reason"].startswith("request failed: status 400") for line in lost)
    assert len(rows_of(out)) + len(lost) == len(whole)
    answered = model.asked["text"]
    write(name="lossy")
    assert model.asked["text"] == answered
    assert rows_of(out) == whole


def test_a_server_that_cannot_score_is_refused_before_anything_is_written(
    write: Write, model: ScoringServer, tmp_path: Path
) -> None:
    model.ways = ()
    with pytest.raises(ConfigurationError, match="does not say how likely a given text is"):
        write()
    assert not (tmp_path / "raw").exists()
    assert model.asked["text"] == 0


def test_texts_that_have_no_score_are_rejected_and_counted(write: Write, model: ScoringServer) -> None:
    def spoil(reply: dict[str, Any]) -> None:
        logprobs = reply["choices"][0]["logprobs"]
        if logprobs and "Nobody" in "".join(logprobs["tokens"]):
            logprobs["token_logprobs"][-3] = None

    model.spoil = spoil
    out = write()
    rejected = {name: n for name, n in ShardDirectory(out).counts.items() if name.startswith("rejected: no score")}
    assert list(rejected) == ["rejected: no score (a token of the text has no finite log-probability)"]
    assert {row["sentence2"].split()[0] for row in rows_of(out)} == {"A"}


def test_a_text_split_otherwise_under_another_label_is_rejected(write: Write, model: ScoringServer) -> None:
    def spoil(reply: dict[str, Any]) -> None:
        logprobs = reply["choices"][0]["logprobs"]
        if logprobs and "same thing" in "".join(logprobs["tokens"]):
            logprobs["tokens"][-3:-1] = [logprobs["tokens"][-3] + logprobs["tokens"][-2]]
            logprobs["token_logprobs"].pop()

    model.spoil = spoil
    out = write()
    assert ShardDirectory(out).counts["rows"] == 0
    assert ShardDirectory(out).counts["rejected: no score (split into other tokens under another label)"] > 0


@pytest.mark.parametrize("words", [(), ("cat", "Nobody"), ("Nobody",)])
def test_texts_that_are_as_likely_under_every_label_are_counted_and_told(
    words: tuple[str, ...], write: Write, model: ScoringServer, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(reply: dict[str, Any]) -> None:
        logprobs = reply["choices"][0]["logprobs"]
        if logprobs and any(word in "".join(logprobs["tokens"]) for word in words):
            logprobs["token_logprobs"] = [-1.0 for _ in logprobs["tokens"]]

    model.spoil = spoil
    counts = ShardDirectory(write()).counts
    alike = counts["candidates as likely under every label"]
    assert (alike > 0, alike == counts["candidates"]) == (bool(words), len(words) > 1)
    assert (f"{alike} of {counts['candidates']} scored texts are exactly as likely" in caplog.text) == bool(words)


# --- locally


@pytest.mark.parametrize("samples", [1, 2])
def test_a_local_model_keeps_the_widest_margin_of_what_it_writes_without_debiasing(
    make_model: Callable[..., Any], tokenizer: Any, samples: int
) -> None:
    pair, options = (make_model("gpt2"), tokenizer), {"seed": 3, "max_new_tokens": 12, "dtype": "float64"}
    kept = DinoDatasetBuilder(pair, debias="rerank", candidates=3, samples=samples, **options).generate(SENTENCES)
    every = DinoDatasetBuilder(pair, decay_constant=0.0, samples=3 * samples, score_labels=True, **options)
    written = every.generate(SENTENCES).to_list()
    assert len(kept) > len(SENTENCES)
    for row in kept.to_list():
        own = [1.0, 0.5, 0.0].index(row["score"])
        same_x1 = [one for one in written if (one["x1_index"], one["score"]) == (row["x1_index"], row["score"])]
        candidates = {one["sample"]: one for one in same_x1 if one["sample"] % samples == row["sample"]}
        if own == 0:
            assert (row["sentence2"], row["log_probs"]) == (candidates[row["sample"]]["sentence2"], row["log_probs"])
            continue
        margins = {one["sentence2"]: one["log_probs"][own] - max(one["log_probs"][:own]) for one in candidates.values()}
        assert row["sentence2"] == max(margins, key=lambda text: margins[text])
        assert row["tries"] >= len(candidates)
