from __future__ import annotations

import copy
import json
import logging
import os
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from tokenizers import normalizers

from dino_st import DinoDatasetBuilder
from dino_st.data.shards import ShardDirectory
from dino_st.errors import ConfigurationError, InputError, OutputError, TaskSpecError
from dino_st.tasks.spec import TaskSpec
from tests import reference

SENTENCES = [
    f"{subject} {verb} the {thing}."
    for subject in ("A man", "Two dogs")
    for verb in ("see", "own")
    for thing in ("cat", "mat", "flute")
]
OPTIONS: dict[str, Any] = {"max_new_tokens": 14, "max_tries": 3, "top_k": 60, "top_p": 0.98, "seed": 5}


@pytest.fixture
def make_builder(make_model: Any, tokenizer: Any) -> Any:
    def make(task: Any = "sts-x2", **options: Any) -> DinoDatasetBuilder:
        return DinoDatasetBuilder((make_model("gpt2"), tokenizer), task, **(OPTIONS | options))

    return make


@pytest.mark.parametrize("changed", ["weights", "tokenizer", "template"])
def test_a_model_that_is_changed_in_place_is_another_one_for_the_same_builder(
    changed: str, make_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model, own = make_model("gpt2"), copy.deepcopy(tokenizer)
    builder = DinoDatasetBuilder((model, own), **OPTIONS)
    builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    if changed == "weights":
        with torch.no_grad():
            next(model.parameters()).mul_(0.9)
    elif changed == "tokenizer":
        own.backend_tokenizer.normalizer = normalizers.Replace("zq", "z")
    else:
        own.chat_template = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    with pytest.raises(OutputError, match="prompt_format was" if changed == "template" else f"{changed} .*has"):
        builder.generate(SENTENCES, output_dir=tmp_path / "raw")


def test_pairs_have_the_documented_columns_in_the_order_of_the_input(make_builder: Any) -> None:
    raw = make_builder().generate(SENTENCES)
    assert raw.column_names == ["sentence1", "sentence2", "score", "x1_index", "sample", "tries", "num_tokens"]
    order = [(row["x1_index"], [1.0, 0.5, 0.0].index(row["score"]), row["sample"]) for row in raw]
    assert order == sorted(order)
    assert all(row["sentence1"] == SENTENCES[row["x1_index"]] for row in raw)
    assert set(raw["score"]) == {0.0, 0.5, 1.0}
    assert {row["sample"] for row in raw} == {0, 1}
    assert all('"' not in text and "\n" not in text and text == text.strip() and text for text in raw["sentence2"])


def test_a_pair_is_the_one_that_the_slow_reference_writes(make_builder: Any, make_model: Any, tokenizer: Any) -> None:
    builder = make_builder()
    raw = builder.generate(SENTENCES[:3])
    spec, model = TaskSpec.load("sts-x2"), make_model("gpt2")
    assert len(raw) > 5
    for row in raw:
        label = f"{row['score']:g}"
        labels = (label, *spec.labels[label].counter_labels)
        prompts = [
            tokenizer(spec.labels[name].instruction.replace("<X1>", row["sentence1"]))["input_ids"] for name in labels
        ]
        name = (5, row["sentence1"], label, row["sample"])
        text, tries, ids = reference.generate(model, tokenizer, prompts, name, builder.decoding)
        assert (row["sentence2"], row["tries"], row["num_tokens"]) == (text, tries, len(ids))


def test_in_float64_the_data_set_does_not_depend_on_batch_size_or_order(make_builder: Any) -> None:
    columns = ("sentence1", "sentence2", "score", "sample", "tries", "num_tokens")

    def rows(raw: Any) -> list[tuple[Any, ...]]:
        return sorted(tuple(row[name] for name in columns) for row in raw)

    expected = rows(make_builder(batch_size=24).generate(SENTENCES))
    for batch_size in (1, 7, 500):
        assert rows(make_builder(batch_size=batch_size).generate(SENTENCES[::-1])) == expected, batch_size


def test_a_task_says_what_ends_its_texts_and_whether_they_may_have_line_breaks(make_builder: Any) -> None:
    task = {"task_name": "t", "labels": {"1": {"instruction": "Passage: <X1>\nAnother:"}}, "closing_marks": ["e", "th"]}
    options = {"max_new_tokens": 40, "max_tries": 8, "top_k": 0, "top_p": 1}
    passages = [f"{sentence}\nIt is a {i}." for i, sentence in enumerate(SENTENCES)]
    raw = make_builder(task | {"allow_newlines": True}, **options).generate(passages)
    assert len(raw) > 5
    assert set(raw["sentence1"]) <= set(passages)
    assert not [text for text in raw["sentence2"] if "e" in text or "th" in text]
    rejected = {}
    for allowed in (True, False):
        builder = make_builder(task | {"closing_marks": ["~"], "allow_newlines": allowed}, **options)
        builder.generate(passages)
        rejected[allowed] = builder.counts.get("rejected: newline", 0)
    assert rejected[False] > rejected[True] == 0


def test_the_pair_keeps_a_quotation_that_the_prompt_replaces(make_builder: Any) -> None:
    raw = make_builder(max_tries=5).generate(['He said "no".'])
    assert set(raw["sentence1"]) == {'He said "no".'}


def test_who_gives_passages_for_sentences_is_told(make_builder: Any, caplog: pytest.LogCaptureFixture) -> None:
    passages = [f"Train {i} was late. We waited in the rain. Nobody knew why." for i in range(20)]
    make_builder(max_new_tokens=1, max_tries=1).generate(passages)
    assert "20 of 20 texts have 3 sentences or more" in caplog.text


def test_counts_say_what_was_skipped_drawn_and_rejected(make_builder: Any) -> None:
    builder = make_builder()
    raw = builder.generate([*SENTENCES, SENTENCES[0], " ", "a\0b", "word " * 300])
    counts = builder.counts
    assert (counts["skipped: duplicate"], counts["skipped: blank"], counts["skipped: NUL byte"]) == (1, 1, 1)
    assert counts["draws"] == 6 * (len(SENTENCES) + 1)
    assert counts["rejected: prompt too long"] == 6
    assert counts["rows"] == len(raw) == counts["draws"] - counts["given up"]
    rejected = sum(n for name, n in counts.items() if name.startswith("rejected"))
    assert rejected == counts["tries"] - counts["rows"] + 6
    assert rejected > 6


def test_labels_that_are_not_numbers_make_a_label_column(make_builder: Any) -> None:
    raw = make_builder("movie-reviews").generate(["Alien"])
    assert raw.column_names[2] == "label"
    assert set(raw["label"]) <= {"negative", "positive"}


def test_texts_from_scratch_are_distinct_and_spread_over_the_labels(make_builder: Any) -> None:
    builder = make_builder("sts-x1")
    texts = builder.generate(num=20)
    assert texts.column_names == ["text", "label", "sample", "tries", "num_tokens"]
    assert Counter(texts["label"]) == {"2": 7, "1": 7, "0": 6}
    assert len(set(texts["text"])) == 20


@pytest.mark.parametrize("batch_size", [1, 5, 300])
def test_texts_from_scratch_do_not_depend_on_the_batch_size(batch_size: int, make_builder: Any) -> None:
    expected = sorted(make_builder("sts-x1", batch_size=40).generate(num=11)["text"])
    assert sorted(make_builder("sts-x1", batch_size=batch_size).generate(num=11)["text"]) == expected


def test_sentences_from_scratch_use_top_p_alone(make_model: Any, tokenizer: Any) -> None:
    builder = DinoDatasetBuilder((make_model("gpt2"), tokenizer), max_new_tokens=14)
    assert builder.decoding.top_k == 5
    many = builder.generate_sentences(9)
    assert len(set(many)) == 9
    assert (
        many
        == DinoDatasetBuilder((make_model("gpt2"), tokenizer), "sts-x1", max_new_tokens=14, top_k=0).generate(num=9)[
            "text"
        ][:]
    )


def test_a_model_that_repeats_itself_gives_fewer_texts_and_says_so(
    make_builder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    builder = make_builder("sts-x1", top_k=1)
    with caplog.at_level(logging.WARNING, logger="dino_st"):
        texts = builder.generate(num=12)
    assert len(texts) <= 3
    assert f"{len(texts)} of 12 texts came out of ten draws for each" in caplog.text


@pytest.mark.parametrize("task", ["sts-x2", "sts-x1"])
def test_an_interrupted_directory_continues_to_the_same_bytes(task: str, make_builder: Any, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"sentences": SENTENCES} if task == "sts-x2" else {"num": 25}
    options = {"batch_size": 24 if task == "sts-x2" else 9}
    whole = make_builder(task, **options).generate(**arguments, output_dir=tmp_path / "whole")
    broken = make_builder(task, **options)
    forwards = []

    def stop(*_: Any) -> None:
        forwards.append(1)
        if len(forwards) > 60:
            raise KeyboardInterrupt

    handle = broken._writer.model.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        broken.generate(**arguments, output_dir=tmp_path / "broken")
    handle.remove()
    finished = len(list((tmp_path / "broken/data").glob("*.parquet")))
    assert 0 < finished < len(list((tmp_path / "whole/data").glob("*.parquet")))
    continued = broken.generate(**arguments, output_dir=tmp_path / "broken")
    assert continued.to_dict() == whole.to_dict()
    for shard in (tmp_path / "whole/data").iterdir():
        assert (tmp_path / "broken/data" / shard.name).read_bytes() == shard.read_bytes()


def test_a_finished_directory_is_read_and_not_written_again(make_builder: Any, tmp_path: Path) -> None:
    first = make_builder().generate(SENTENCES[:3], output_dir=tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    second = make_builder().generate(SENTENCES[:3], output_dir=tmp_path)
    assert second.to_dict() == first.to_dict()
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_continuing_takes_over_the_wave_size_of_the_first_run(make_builder: Any, tmp_path: Path) -> None:
    make_builder(batch_size=13).generate(SENTENCES[:3], output_dir=tmp_path)
    make_builder(batch_size="auto").generate(SENTENCES[:3], output_dir=tmp_path)
    with pytest.raises(OutputError, match="batch_size was 13, now 26"):
        make_builder(batch_size=26).generate(SENTENCES[:3], output_dir=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "seed was 5, now 6"),
        ({"top_p": 0.5}, "top_p was 0.98, now 0.5"),
        ({"samples": 3}, "samples was 2, now 3"),
    ],
)
def test_a_directory_begun_with_other_options_is_refused(
    change: dict[str, Any], message: str, make_builder: Any, tmp_path: Path
) -> None:
    make_builder().generate(SENTENCES[:2], output_dir=tmp_path)
    with pytest.raises(OutputError, match=message):
        make_builder(**change).generate(SENTENCES[:2], output_dir=tmp_path)


def test_other_sentences_or_weights_are_refused_too(
    make_builder: Any, make_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    make_builder().generate(SENTENCES[:2], output_dir=tmp_path)
    with pytest.raises(OutputError, match=r"the sentences are others \(2 as before, of other content"):
        make_builder().generate(SENTENCES[2:4], output_dir=tmp_path)
    other = DinoDatasetBuilder((make_model("gpt2", seed=9), tokenizer), **OPTIONS)
    with pytest.raises(OutputError, match=r"the content of the weights of model .* has changed"):
        other.generate(SENTENCES[:2], output_dir=tmp_path)


def test_another_configuration_or_tokenizer_is_refused_too(
    make_builder: Any, make_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    make_builder().generate(SENTENCES[:2], output_dir=tmp_path)
    other = DinoDatasetBuilder((make_model("gpt2"), tokenizer), **OPTIONS)
    other._writer.model.config.layer_norm_epsilon = 0.5
    with pytest.raises(OutputError, match=r"the configuration or tokenizer of model .* has changed"):
        other.generate(SENTENCES[:2], output_dir=tmp_path)


def test_a_special_token_in_a_sentence_does_not_steer_the_model(make_builder: Any) -> None:
    builder = make_builder()
    [prompt, *_] = builder._writer.encode_prompts(builder.spec, "1", "A <|endoftext|> B", False)
    assert builder._writer.tokenizer.eos_token_id not in prompt
    assert "A < |endoftext|> B" in builder._writer.tokenizer.decode(prompt)
    raw = builder.generate(["A <|endoftext|> B", *SENTENCES])
    assert "A <|endoftext|> B" in raw["sentence1"][:]


def test_the_manifest_and_the_card_say_how_the_data_was_made(make_builder: Any, tmp_path: Path) -> None:
    builder = make_builder()
    builder.generate(SENTENCES[:2], output_dir=tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["configuration"]["decoding"]["decay_constant"] == 100
    assert manifest["configuration"]["seed"] == 5
    assert len(manifest["configuration"]["weights_sha256"]) == 64
    assert manifest["provenance"]["versions"]["torch"] == version("torch")  # without the build, as in 2.13.0+cu130
    assert manifest["counts"]["draws"] == 12
    card = (tmp_path / "README.md").read_text()
    assert "configs:" not in card
    assert "Write two sentences that mean the same thing" in card


@pytest.mark.filterwarnings("ignore")
def test_the_data_set_is_the_same_in_another_process_with_another_hash_seed(
    model_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "from dino_st import DinoDatasetBuilder\n"
        f"b = DinoDatasetBuilder({str(model_directory)!r}, dtype='float64', device='cpu', max_new_tokens=10, seed=3)\n"
        "raw = b.generate(['A man.', 'Two dogs run.'])\n"
        "print(raw.to_dict(), b.prepare(raw)['train'].to_dict() if len(raw) else '')"
    )
    another = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"PYTHONHASHSEED": another},
        capture_output=True,
        text=True,
        check=True,
    )
    exec(code, {})
    assert capsys.readouterr().out == there.stdout != ""


def test_what_workers_wrote_has_its_model_recorded(
    make_builder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(directory: ShardDirectory, model: Any, *_: Any) -> ShardDirectory:
        make_builder().generate_shards(directory.path, SENTENCES)
        return ShardDirectory(tmp_path / "raw")

    monkeypatch.setattr("dino_st.generation.workers.write_with_workers", write)
    builder = DinoDatasetBuilder("someone/model", load=False, **OPTIONS)
    assert builder.generate_shards(tmp_path / "raw", SENTENCES, engine="ray")["rows"] > 0
    raw = ShardDirectory(tmp_path / "raw").to_dataset()
    assert builder.prepare(raw).provenance == {"model": "someone/model"}


def test_prepared_pairs_become_examples_and_a_loader(make_builder: Any) -> None:
    builder = make_builder()
    raw = builder.generate(SENTENCES)
    splits = builder.prepare(raw)
    assert splits.provenance == {"model": "GPT2LMHeadModel"}
    assert make_builder().prepare(raw).provenance == {}  # pairs that it did not write itself
    assert splits["train"].column_names == ["sentence1", "sentence2", "score"]
    assert set(splits["train"]["score"]) == {0.0, 0.1, 0.5, 0.9}
    examples = builder.to_input_examples(splits["train"])
    assert [(*example.texts, example.label) for example in examples] == [tuple(row.values()) for row in splits["train"]]
    loader = builder.to_dataloader(splits["train"], batch_size=8)
    assert builder.warmup_steps(loader, epochs=2) == -(-len(loader) * 2 // 10)


def test_wrong_calls_say_what_is_expected(make_builder: Any, make_model: Any, tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match="there is no option 'topk': did you mean 'top_k'"):
        make_builder(topk=3)
    with pytest.raises(
        ConfigurationError, match="option 'batch_api' is for a chat server, and a local model writes here"
    ):
        make_builder(batch_api=True)
    with pytest.raises(ConfigurationError, match="top_p = 2: expected above 0 and at most 1"):
        make_builder(top_p=2)
    with pytest.raises(ConfigurationError, match="option 'samples' is 0"):
        make_builder(samples=0)
    with pytest.raises(ConfigurationError, match="batch_size"):
        make_builder(batch_size="many")
    with pytest.raises(TaskSpecError, match="task: given int; expected a name"):
        make_builder(5)
    for wrong in ([make_model("gpt2"), tokenizer], (tokenizer, make_model("gpt2")), None, (make_model("gpt2"), None)):
        with pytest.raises(ConfigurationError, match="expected a directory, a hub name, or a pair"):
            DinoDatasetBuilder(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_new_tokens = 256 leaves no room for a prompt"):
        make_builder(max_new_tokens=256).generate(SENTENCES)
    with pytest.raises(TaskSpecError, match="no built-in task"):
        make_builder("sts")
    with pytest.raises(ConfigurationError, match="'sts-x2' writes for given sentences"):
        make_builder().generate(num=3)
    with pytest.raises(ConfigurationError, match="'sts-x1' writes from scratch"):
        make_builder("sts-x1").generate(SENTENCES)
    with pytest.raises(ConfigurationError, match="given one text; wrap it"):
        make_builder().generate("A man.")
    with pytest.raises(ConfigurationError, match="given DataFrame, whose names of columns would be the sentences"):
        make_builder().generate(datasets.Dataset.from_dict({"text": ["A man."]}).to_pandas())
    with pytest.raises(InputError, match="no sentence to start from"):
        make_builder().generate([" "])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 5000),
        ("max_tries", 0),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 0.0),
        ("decay_constant", -1.0),
        ("decay_constant", float("nan")),
        ("decay_floor", 2.0),
        ("min_words", -1),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: Any, make_builder: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        make_builder(**{option: value})
