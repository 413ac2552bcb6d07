from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from typer.testing import CliRunner

from dino_st.backends.chat import LATE, ChatReply, ChatRequest
from dino_st.backends.openai import OpenAIChat
from dino_st.backends.options import ServerOptions, SynCSEOptions
from dino_st.cli.main import app
from dino_st.data.shards import ShardDirectory
from dino_st.errors import ConfigurationError, ModelError, OutputError, TaskSpecError
from dino_st.support.text import normal_form
from dino_st.syncse.partial import Triplet, TripletWriter
from dino_st.syncse.run import generate_triplets
from dino_st.syncse.scratch import DistinctSentences, SentenceWriter
from dino_st.tasks.spec import TaskSpec, builtin_tasks
from dino_st.tasks.syncse import PartialSpec, ScratchSpec, is_syncse_task, load_syncse_spec, syncse_tasks
from tests.fake_chat import Answer, FakeChat
from tests.hostile_server import MODEL, hostile_server

SENTENCES = [f"Sentence number {i} is about a cat." for i in range(300)]


def given(request: ChatRequest) -> str:
    return re.findall(r"Given: (.*)", request.prompt)[-1]


def role(request: ChatRequest) -> str:
    return request.key.partition("/")[0]


def number_of_try(request: ChatRequest) -> int:
    return int(request.key.rpartition("/")[2])


def good(request: ChatRequest) -> str:
    return f'New: "{role(request).title()} text of {given(request)}"'


def partial() -> PartialSpec:
    spec = load_syncse_spec("syncse-partial")
    assert isinstance(spec, PartialSpec)
    return spec


def scratch() -> ScratchSpec:
    spec = load_syncse_spec("syncse-scratch")
    assert isinstance(spec, ScratchSpec)
    return spec


def written(directory: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ShardDirectory(directory).to_dataset().to_list()
    return rows


def rejected(directory: Path) -> list[dict[str, Any]]:
    path = directory / "rejected.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# Specifications


def test_the_shipped_specifications_are_listed_and_leave_the_tasks_of_dino_alone() -> None:
    assert syncse_tasks() == ["syncse-partial", "syncse-scratch"]
    assert not set(builtin_tasks()) & set(syncse_tasks())
    assert all(6 <= len(partial().instructions(role)) <= 8 for role in ("positive", "negative"))
    assert len(partial().examples) >= 12
    assert scratch().triplets == partial()


def test_models_without_a_chat_template_get_the_instructions_of_dino() -> None:
    pairs, texts = TaskSpec.load("sts-x2"), TaskSpec.load("sts-x1")
    assert partial().completion.positive == pairs.labels["1"].instruction
    assert partial().completion.negative == pairs.labels["0.5"].instruction
    assert scratch().completion == tuple(label.instruction for label in texts.labels.values())


def test_a_file_of_ones_own_is_a_task_by_its_kind(tmp_path: Path) -> None:
    own, pairs = tmp_path / "own.yaml", tmp_path / "pairs.yaml"
    content = partial().model_dump(mode="json") | {"task_name": "mine"}
    own.write_text(yaml.safe_dump(content))
    pairs.write_text(yaml.safe_dump(TaskSpec.load("sts-x2").model_dump(mode="json")))
    assert is_syncse_task(str(own))
    assert load_syncse_spec(str(own)).task_name == "mine"
    assert not is_syncse_task(str(pairs))
    assert not is_syncse_task("sts-x2")
    lists = scratch().model_dump(mode="json") | {"triplets": "own.yaml"}
    (tmp_path / "lists.yaml").write_text(yaml.safe_dump(lists))
    loaded = load_syncse_spec(tmp_path / "lists.yaml")
    assert isinstance(loaded, ScratchSpec)
    assert loaded.triplets.task_name == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "syncse-partail"}, r"own.yaml: field 'kind': given 'syncse-partail'; did you mean 'syncse-partial'"),
        ({"positiv": []}, "positiv: unknown field; did you mean 'positive'"),
        ({"positive": []}, "positive: .*at least 1 item"),
        ({"prompt": "<X1>"}, "prompt: holds <INSTRUCTION> 0 times; expected it once; given: '<X1>'"),
        ({"examples_per_request": 99}, "examples_per_request: given 99, while examples holds 12"),
        ({"negative": [{"id": "a", "text": "b"}] * 2}, "negative: the id 'a' stands 2 times"),
        ({"negative": [{"id": "a b", "text": "b"}]}, "negative → 0 → id: .*given: 'a b'"),
        ({"completion": {"positive": "x", "negative": 'y "'}}, "completion → positive: holds <X1> 0 times"),
        ({"completion": None}, "completion: .*given: None"),
    ],
)
def test_a_wrong_specification_names_file_field_given_and_expected(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(partial().model_dump(mode="json") | change))
    with pytest.raises(TaskSpecError, match=message):
        load_syncse_spec(path)


def test_a_specification_that_is_not_there_or_not_yaml_is_said(tmp_path: Path) -> None:
    with pytest.raises(TaskSpecError, match="did you mean 'syncse-partial'"):
        load_syncse_spec("syncse-partal")
    with pytest.raises(TaskSpecError, match=r"there is no such task file; built-in tasks: .*syncse-partial"):
        load_syncse_spec(tmp_path / "no.yaml")
    (tmp_path / "bad.yaml").write_text("kind: [")
    with pytest.raises(TaskSpecError, match=r"bad.yaml: cannot be parsed"):
        load_syncse_spec(tmp_path / "bad.yaml")


# Requests


def requests_for(sentence: str, tries: int = 1, **more: Any) -> list[ChatRequest]:
    chat = FakeChat(lambda request: "")
    writer = TripletWriter(partial(), chat.complete, more.pop("is_chat", True), False, SynCSEOptions(max_tries=tries))
    writer.write([Triplet(0, sentence)])
    return chat.asked


def test_a_prompt_holds_an_instruction_examples_and_the_sentence() -> None:
    [first, _] = requests_for('He said "no" to <EXAMPLES>.')
    spec = partial()
    assert sum(" ".join(entry.text.split()) in first.prompt for entry in spec.positive) == 1
    assert sum(example.sentence in first.prompt for example in spec.examples) == spec.examples_per_request
    assert first.prompt.endswith('Given: He said "no" to <EXAMPLES>.\nNew:')
    assert first.system == spec.system


def test_every_try_has_another_instruction_and_the_same_sentence_always_the_same_ones() -> None:
    asked = [request for request in requests_for("A cat sleeps.", tries=7) if role(request) == "positive"]
    used = [next(entry.id for entry in partial().positive if entry.text.strip() in r.prompt) for r in asked]
    assert sorted(used) == sorted(entry.id for entry in partial().positive)
    assert requests_for("A cat sleeps.", tries=7) == requests_for("A cat sleeps.", tries=7)
    assert len({request.key for request in requests_for("A cat sleeps.", tries=7)}) == 14
    starts = {requests_for(sentence)[0].prompt.partition("\n")[0] for sentence in SENTENCES[:40]}
    assert len(starts) == len(partial().positive)


def test_the_sentence_itself_is_never_shown_as_an_example() -> None:
    example = partial().examples[0]
    for request in requests_for(example.sentence.upper(), tries=30):
        assert example.positive not in request.prompt
        assert example.negative not in request.prompt


def test_raw_prompts_end_in_an_opening_mark_and_quote_the_sentence_safely() -> None:
    [positive, negative] = requests_for('He said "no".', is_chat=False)
    assert positive.prompt.endswith('Sentence 1: "He said “no”."\nSentence 2: "')
    assert "mean the same thing" in positive.prompt
    assert "somewhat similar" in negative.prompt
    assert positive.system == ""


# Triplets


def test_one_row_for_each_sentence_in_order_with_its_instructions() -> None:
    chat = FakeChat(good)
    triplets = generate_triplets(chat, [*SENTENCES, SENTENCES[3], " "])
    assert triplets.column_names[:3] == ["anchor", "positive", "negative"]
    assert triplets["anchor"][:] == SENTENCES
    assert triplets["x1_index"][:] == list(range(300))
    assert triplets[299]["positive"] == f"Positive text of {SENTENCES[299]}"
    assert triplets[299]["negative"] == f"Negative text of {SENTENCES[299]}"
    assert set(triplets["tries"][:]) == {2}
    assert {row["positive_instruction"] for row in triplets} == {entry.id for entry in partial().positive}
    assert len(chat.asked) == 600


def test_an_unusable_reply_is_tried_again_with_another_instruction_and_counted(tmp_path: Path) -> None:
    def answer(request: ChatRequest) -> str:
        unusable = ["I cannot help with that.", given(request), "Two.\nLines here."]
        tries = number_of_try(request)
        if role(request) == "positive" and tries < 3:
            return unusable[tries]
        return "The same words." if role(request) == "positive" or tries == 0 else "Other words."

    triplets = generate_triplets(FakeChat(answer), SENTENCES[:2], output_dir=tmp_path / "raw")
    assert triplets["positive"][:] == ["The same words."] * 2
    assert triplets["negative"][:] == ["Other words."] * 2
    assert triplets["tries"][:] == [6, 6]
    counts = ShardDirectory(tmp_path / "raw").counts
    for reason in ("refusal", "echo", "several lines"):
        assert counts[f"rejected: positive: {reason}"] == 2
    assert counts["rejected: negative: same as the positive"] == 2
    assert (counts["rows"], counts["inputs"], counts["given up"], counts["tries"]) == (2, 2, 0, 12)


def test_a_positive_that_every_negative_repeats_is_asked_for_again() -> None:
    def answer(request: ChatRequest) -> str:
        is_first = role(request) == "positive" and number_of_try(request) == 0
        return "The service is busy." if is_first or role(request) == "negative" else "Other words."

    triplets = generate_triplets(FakeChat(answer), SENTENCES[:2])
    assert triplets["positive"][:] == ["Other words."] * 2
    assert triplets["negative"][:] == ["The service is busy."] * 2


def test_a_rejected_sentence_is_listed_and_the_next_run_puts_it_in_its_place(tmp_path: Path) -> None:
    stubborn = {SENTENCES[5], SENTENCES[280]}

    def refuses(request: ChatRequest) -> str:
        return "I cannot." if given(request) in stubborn and role(request) == "negative" else good(request)

    raw = tmp_path / "raw"
    first = FakeChat(refuses)
    assert len(generate_triplets(first, SENTENCES, output_dir=raw, max_tries=3)) == 298
    assert [(line["x1_index"], line["anchor"], line["reason"]) for line in rejected(raw)] == [
        (5, SENTENCES[5], "negative: refusal"),
        (280, SENTENCES[280], "negative: refusal"),
    ]
    before = written(raw)
    second = FakeChat(lambda request: good(request) if given(request) == SENTENCES[5] else "I cannot.")
    assert len(generate_triplets(second, SENTENCES, output_dir=raw, max_tries=3)) == 299
    assert [number_of_try(request) for request in second.asked] == [3, 3, 4, 5]
    assert [line["x1_index"] for line in rejected(raw)] == [280]
    rows = written(raw)
    assert [row["x1_index"] for row in rows] == [i for i in range(300) if i != 280]
    assert [row for row in rows if row["x1_index"] != 5] == before
    assert rows[5]["tries"] == 1 + 4
    third = FakeChat(good)
    assert len(generate_triplets(third, SENTENCES, output_dir=raw)) == 300
    assert not (raw / "rejected.jsonl").exists()
    counts = ShardDirectory(raw).counts
    assert (counts["rows"], counts["given up"], counts["rejected: negative: refusal"]) == (300, 0, 3 + 3 + 3)
    assert [row["anchor"] for row in written(raw)] == SENTENCES


def test_a_failed_request_is_asked_again_by_the_next_run_and_no_other(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    first = FakeChat(lambda request: None if given(request) == SENTENCES[1] else good(request))
    assert len(generate_triplets(first, SENTENCES[:3], output_dir=raw)) == 2
    [line] = rejected(raw)
    assert line["reason"] == "positive: request failed: status 400: no; negative: request failed: status 400: no"
    second = FakeChat(good)
    assert generate_triplets(second, SENTENCES[:3], output_dir=raw)["anchor"][:] == SENTENCES[:3]
    assert {request.key for request in second.asked} == {r.key for r in first.asked if given(r) == SENTENCES[1]}


def test_a_complete_directory_is_left_alone(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    generate_triplets(FakeChat(good), SENTENCES, output_dir=raw)
    before = {path: path.read_bytes() for path in raw.rglob("*.*") if path.suffix in (".json", ".parquet", ".md")}
    again = FakeChat(good)
    assert len(generate_triplets(again, SENTENCES, output_dir=raw, max_tries=9)) == 300
    assert again.asked == []
    assert {path: path.read_bytes() for path in before} == before


class PowerCutError(Exception):
    pass


def test_after_an_interruption_nothing_is_asked_twice_and_the_data_is_the_same(tmp_path: Path) -> None:
    def moody(request: ChatRequest) -> str:
        bad = int(hashlib.sha256(request.key.encode()).hexdigest(), 16) % 5 == 0
        return "As an AI, I have no opinion." if bad else good(request)

    whole = generate_triplets(FakeChat(moody), SENTENCES, output_dir=tmp_path / "whole")
    left = iter(range(700))

    def dying(request: ChatRequest) -> str:
        if next(left, None) is None or number_of_try(request) == 2:
            raise PowerCutError
        return moody(request)

    answered: Counter[str] = Counter()

    def noted(answer: Answer) -> Answer:
        def noting(request: ChatRequest) -> str | None:
            text = answer(request)
            answered[request.key] += 1
            return text

        return noting

    for answer in (dying, dying):
        with pytest.raises(PowerCutError):
            generate_triplets(FakeChat(noted(answer)), SENTENCES, output_dir=tmp_path / "pieces")
    pieces = generate_triplets(FakeChat(noted(moody)), SENTENCES, output_dir=tmp_path / "pieces")
    assert set(answered.values()) == {1}
    assert pieces.to_list() == whole.to_list()
    assert written(tmp_path / "pieces") == written(tmp_path / "whole")
    counts = [ShardDirectory(tmp_path / name).counts for name in ("pieces", "whole")]
    assert counts[0] == counts[1]


def test_a_damaged_shard_is_mended_from_the_replies_that_are_kept(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    whole = generate_triplets(FakeChat(good), SENTENCES, output_dir=raw).to_list()
    (raw / "data/train-00000.parquet").write_bytes(b"PAR1")
    silent = FakeChat(lambda request: None)
    assert generate_triplets(silent, SENTENCES, output_dir=raw).to_list() == whole
    assert silent.asked == []


def test_a_directory_begun_with_another_model_or_task_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    generate_triplets(FakeChat(good), SENTENCES[:2], output_dir=raw)
    with pytest.raises(OutputError, match="model was 'fake', now 'other'"):
        generate_triplets(FakeChat(good, name="other"), SENTENCES[:2], output_dir=raw)
    with pytest.raises(OutputError, match=r"the sentences are others \(were 2, now 3\)"):
        generate_triplets(FakeChat(good), SENTENCES[:3], output_dir=raw)


def test_what_lies_in_the_directory_is_read_by_datasets_and_told_by_the_card(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    generate_triplets(FakeChat(good), SENTENCES[:5], output_dir=raw)
    loaded = datasets.load_dataset(str(raw), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["anchor"][:] == SENTENCES[:5]
    card = (raw / "README.md").read_text()
    assert "# syncse-partial, generated" in card
    assert all(f"`{entry.id}`" in card for entry in partial().negative)
    assert "- rows: 5" in card


def test_a_text_that_the_engine_rejected_is_tried_again_at_once() -> None:
    chat = FakeChat(lambda r: None if number_of_try(r) == 0 else f"{role(r)} words", is_chat=False, kind="local")
    triplets = generate_triplets(chat, SENTENCES[:2])
    assert triplets["tries"][:] == [4, 4]
    assert triplets["positive_instruction"][:] == ["completion"] * 2


# Sentences from scratch


def test_near_duplicates_are_those_that_comparing_all_pairs_finds() -> None:
    words = [*"abcdefghijklmnop", "there"]
    digests = [hashlib.sha256(str(i).encode()).digest() for i in range(1500)]
    sentences = [
        " ".join(words[byte % (4 + digest[20] % 14)] for byte in digest[: 3 + digest[21] % 9]) for digest in digests
    ]
    kept: list[set[str]] = []
    expected = []
    for sentence in sentences:
        new = set(sentence.split())
        expected.append(not any(10 * len(new & old) >= 8 * len(new | old) for old in kept))
        if expected[-1]:
            kept.append(new)
    distinct = DistinctSentences()
    assert [distinct.add(sentence) for sentence in sentences] == expected
    assert 100 < len(distinct) == len(kept) < 1400


def test_batches_ask_for_all_sentences_at_once_and_get_the_same() -> None:
    def written_by(at_once: bool) -> tuple[list[int], Any]:
        rounds: list[int] = []

        def ask(requests: Sequence[ChatRequest]) -> list[ChatReply]:
            rounds.append(len(requests))
            return FakeChat(ten_sentences).complete(requests)

        writer = SentenceWriter(scratch(), ask, True, False, SynCSEOptions(), at_once)
        return rounds, writer.write(150)[0]

    rounds, sentences = written_by(False)
    fewer, same = written_by(True)
    assert rounds[0] == 8
    assert fewer[0] == 17  # 1.1 times 150 sentences, ten in each
    assert same == sentences
    assert len(same) == 150


def ten_sentences(request: ChatRequest) -> str:
    """Ten sentences, of which the second repeats what every other reply says and the third the first."""
    name = hashlib.sha256(request.key.encode()).hexdigest()
    lines = [f"Someone {name[i : i + 6]} met {name[i + 6 : i + 12]} in {name[i + 12 : i + 18]}." for i in range(10)]
    lines[1], lines[2] = "Rain fell all night long.", lines[0].upper() + "!"
    return "Here are ten sentences:\n" + "\n".join(f"{i + 1}. {line}" for i, line in enumerate(lines))


def from_scratch(request: ChatRequest) -> str:
    return ten_sentences(request) if request.key.startswith("sentences/") else good(request)


def test_scratch_writes_distinct_sentences_and_their_triplets(tmp_path: Path) -> None:
    chat = FakeChat(from_scratch)
    triplets = generate_triplets(chat, num=60, task="syncse-scratch", output_dir=tmp_path / "raw")
    anchors = triplets["anchor"][:]
    assert len(anchors) == len({normal_form(anchor) for anchor in anchors}) == 60
    asked = [request for request in chat.asked if request.key.startswith("sentences/")]
    assert all("Write 10 sentences" in request.prompt and "<" not in request.prompt for request in asked)
    assert len({request.prompt for request in asked}) == len(asked)
    lines = [json.loads(line) for line in (tmp_path / "raw/sentences.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == anchors
    assert {line["genre"] for line in lines} <= set(scratch().genres)
    counts = ShardDirectory(tmp_path / "raw").counts
    assert counts["sentence requests"] == len(asked)
    assert counts["duplicate sentences"] >= len(asked)
    assert "Sentences, positives and hard negatives" in (tmp_path / "raw/README.md").read_text()


def test_scratch_goes_on_with_the_same_sentences(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"num": 60, "task": "syncse-scratch"}
    whole = generate_triplets(FakeChat(from_scratch), **arguments, output_dir=tmp_path / "whole").to_list()

    def dies_at_triplets(request: ChatRequest) -> str:
        if role(request) == "negative":
            raise PowerCutError
        return from_scratch(request)

    with pytest.raises(PowerCutError):
        generate_triplets(FakeChat(dies_at_triplets), **arguments, output_dir=tmp_path / "raw")
    second = FakeChat(from_scratch)
    assert generate_triplets(second, **arguments, output_dir=tmp_path / "raw").to_list() == whole
    assert not [request for request in second.asked if request.key.startswith("sentences/")]
    third = FakeChat(from_scratch)
    assert generate_triplets(third, **arguments, output_dir=tmp_path / "raw").to_list() == whole
    assert third.asked == []
    (tmp_path / "raw/sentences.jsonl").write_text('{"text": "Another sentence."}\n' * 60)
    with pytest.raises(OutputError, match="belongs to other sentences"):
        generate_triplets(FakeChat(from_scratch), **arguments, output_dir=tmp_path / "raw")


@pytest.mark.parametrize("shard", [0, 1])
def test_scratch_mends_a_shard_without_asking_and_keeps_the_counts(
    shard: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino_st.syncse.run.WAVE", 16)
    arguments: dict[str, Any] = {"num": 40, "task": "syncse-scratch", "output_dir": tmp_path / "raw"}
    generate_triplets(FakeChat(from_scratch), **arguments)
    files = [
        *sorted((tmp_path / "raw/data").iterdir()),
        tmp_path / "raw/manifest.json",
        tmp_path / "raw/sentences.jsonl",
    ]
    before = [file.read_bytes() for file in files]
    files[shard].unlink()
    silent = FakeChat(from_scratch)
    generate_triplets(silent, **arguments)
    assert silent.asked == []
    assert [file.read_bytes() for file in files] == before
    files[shard].unlink()
    (tmp_path / "raw/replies.sqlite").unlink()
    generate_triplets(FakeChat(lambda r: from_scratch(r).replace("Someone", "A man")), **arguments)
    assert (tmp_path / "raw/sentences.jsonl").read_bytes() == before[-1]
    assert len(ShardDirectory(tmp_path / "raw").to_dataset()) == 40


def test_which_sentences_are_taken_does_not_depend_on_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def texts() -> list[str]:
        writer = SentenceWriter(scratch(), FakeChat(ten_sentences).complete, True, False, SynCSEOptions())
        return [sentence.text for sentence in writer.write(100)[0]]

    in_large_rounds = texts()
    monkeypatch.setattr("dino_st.syncse.scratch._LEAST_IN_A_ROUND", 1)
    monkeypatch.setattr("dino_st.syncse.scratch._MOST_IN_A_ROUND", 2)
    assert texts() == in_large_rounds


def test_scratch_gives_up_with_a_message_when_nothing_new_comes(caplog: pytest.LogCaptureFixture) -> None:
    chat = FakeChat(lambda r: "1. Rain fell all night.\n2. She sold a house." if "sentences/" in r.key else good(r))
    triplets = generate_triplets(chat, num=30, task="syncse-scratch")
    assert triplets["anchor"][:] == ["Rain fell all night.", "She sold a house."]
    assert len([request for request in chat.asked if request.key.startswith("sentences/")]) == 10 * 3
    assert "2 of 30 sentences came out of 30 requests (58 were like others)" in caplog.text


def test_scratch_keeps_the_reasons_where_no_sentence_came_out_and_says_them_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat = FakeChat(lambda _: "1. Yes, no.\n2. As an AI, I write nothing of this.")
    arguments: dict[str, Any] = {"num": 2, "task": "syncse-scratch", "output_dir": tmp_path / "raw"}
    expected = {"left out sentences: too few words": 10, "left out sentences: refusal": 10, "sentence requests": 10}
    for _ in range(2):
        caplog.clear()
        assert len(generate_triplets(chat, **arguments)) == 0
        assert len(chat.asked) == 10
        counts = ShardDirectory(tmp_path / "raw").counts
        assert {name: counts[name] for name in expected} == expected
        assert "0 of 2 sentences came out of 10 requests (0 were like others, 10 left out: too few words" in caplog.text
        assert "no row came of this run" in caplog.text
        assert "complete already" not in caplog.text
    (tmp_path / "raw/replies.sqlite").unlink()
    assert len(generate_triplets(FakeChat(from_scratch), **arguments)) == 2


def test_scratch_tells_again_why_there_are_fewer_sentences_than_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat = FakeChat(lambda r: "1. Rain fell all night.\n2. She sold a house." if "sentences/" in r.key else good(r))
    for _ in range(2):
        caplog.clear()
        generate_triplets(chat, num=30, task="syncse-scratch", output_dir=tmp_path / "raw")
        assert "2 of 30 sentences came out of 30 requests (58 were like others)" in caplog.text


def test_scratch_says_so_when_requests_failed(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"0 of 20 sentences came out, since 9 of 9 requests failed, .*: status 400: no; run"
    ):
        generate_triplets(FakeChat(lambda _: None), num=20, task="syncse-scratch", output_dir=tmp_path / "raw")
    chat = FakeChat(from_scratch)
    assert len(generate_triplets(chat, num=20, task="syncse-scratch", output_dir=tmp_path / "raw")) == 20


@pytest.mark.parametrize(("num", "requests", "several", "limit"), [(1, 1, 2, 192), (2, 1, 3, 288), (10, 2, 10, 960)])
def test_scratch_asks_for_no_more_than_is_wanted(num: int, requests: int, several: int, limit: int) -> None:
    chat = FakeChat(from_scratch)
    writer = SentenceWriter(scratch(), chat.complete, True, False, SynCSEOptions())
    assert len(writer.write(num)[0]) == num
    assert [request.max_new_tokens for request in chat.asked] == [limit] * requests
    assert all(f"Write {several} sentences" in request.prompt for request in chat.asked)


def test_scratch_asks_for_half_as_many_sentences_after_an_answer_that_was_too_late() -> None:
    def slow(request: ChatRequest) -> str | None:
        return ten_sentences(request) if request.max_new_tokens <= 3 * 96 else None

    chat = FakeChat(slow, failure=f"{LATE} 60 s (--timeout)")
    writer = SentenceWriter(scratch(), chat.complete, True, False, SynCSEOptions())
    sentences, counts = writer.write(100)
    assert len(sentences) == 100
    asked = [request.max_new_tokens // 96 for request in chat.asked]
    assert asked[:24] == [10] * 8 + [5] * 8 + [2] * 8
    assert counts["failed sentence requests"] == 16
    assert [request.is_divisible for request in chat.asked] == [True] * len(asked)


def test_scratch_names_the_time_limit_where_no_answer_comes_in_time() -> None:
    chat = FakeChat(lambda _: None, failure=f"{LATE} 60 s (--timeout)")
    writer = SentenceWriter(scratch(), chat.complete, True, False, SynCSEOptions())
    with pytest.raises(ModelError, match=r"0 of 5 sentences came out, .*: no complete reply within 60 s \(--timeout\)"):
        writer.write(5)
    assert [request.max_new_tokens // 96 for request in chat.asked] == [6, 3, 3, *[1] * 12]


def test_a_late_answer_that_can_be_divided_is_not_asked_for_again() -> None:
    both = [ChatRequest("a", "one", is_divisible=True), ChatRequest("b", "two")]
    with hostile_server(lambda prompt, _: "ok" if prompt == "first" else "hang") as server:
        chat = OpenAIChat(MODEL, base_url=server.url, timeout=0.5, max_retries=2, backoff_seconds=0.001)
        chat.complete([ChatRequest("0", "first")])  # takes longest, since the client imports its parts then
        server.asked.clear()
        replies = chat.complete(both)
        assert server.asked == {"one": 1, "two": 3}
    assert all(str(reply.failure).startswith(LATE) for reply in replies)


def test_a_local_model_is_asked_for_one_sentence_at_a_time() -> None:
    chat = FakeChat(lambda r: f"Someone saw {r.key.replace('/', ' ')} there.", kind="local")
    writer = SentenceWriter(scratch(), chat.complete, True, True, SynCSEOptions())
    assert len(writer.write(12)[0]) == 12
    assert all(request.prompt.startswith("Write one sentence") for request in chat.asked)
    raw = FakeChat(lambda r: f"Someone saw {r.key.replace('/', ' ')} there.", is_chat=False, kind="local")
    SentenceWriter(scratch(), raw.complete, False, True, SynCSEOptions()).write(12)
    assert {request.prompt for request in raw.asked} == set(scratch().completion)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sentences": None}, "writes for given sentences"),
        ({"sentences": ["A."], "num": 3}, "leave out --num"),
        ({"sentences": ["A."], "task": "syncse-scratch", "num": 3}, "writes its sentences itself"),
        ({"sentences": None, "task": "syncse-scratch"}, "say how many"),
        ({"sentences": None, "task": "syncse-scratch", "num": 0}, "expected a number of texts from 1 to 100,000,000"),
        ({"sentences": "A cat."}, "wrap it"),
        ({"sentences": ["A."], "max_tries": 0}, "option 'max_tries' is 0"),
        ({"sentences": ["A."], "temperature": 1.0}, "belongs to the backend 'openai'"),
        ({"sentences": ["A."], "base_url": "http://localhost:1/v1"}, "a local model has no address"),
        ({"sentences": ["A."], "backend": "openai", "top_k": 5}, "belongs to the backend 'local'"),
        ({"sentences": ["A."], "backend": "claude"}, "option 'backend' is 'claude'; expected 'local' or 'openai'"),
        ({"sentences": ["A."], "temprature": 1.0, "backend": "openai"}, "did you mean 'temperature'"),
    ],
)
def test_arguments_that_make_no_sense_together_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        generate_triplets("dino-tiny", **arguments)


def test_a_ready_backend_takes_no_options_for_making_one() -> None:
    with pytest.raises(ConfigurationError, match="a backend that is ready"):
        generate_triplets(FakeChat(good), ["A cat."], top_k=4)


def test_a_local_model_needs_a_seed() -> None:
    with pytest.raises(ConfigurationError, match="option 'seed' is none, and a local model draws by it"):
        generate_triplets("dino-tiny", ["A cat."], seed=None)


# The command line


Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `dino-st generate` with a fake in the server's place."""
    (tmp_path / "s.txt").write_text("\n".join(SENTENCES[:6]) + "\n")

    def invoke(*arguments: object, answer: Answer = good) -> Any:
        made: list[dict[str, Any]] = []

        def make(model: str, **options: Any) -> FakeChat:
            made.append(options)
            return FakeChat(answer, name=model)

        monkeypatch.setattr("dino_st.backends.openai.OpenAIChat", make)
        base = ["generate", "--model", "m", "--backend", "openai", "--output", str(tmp_path / "raw")]
        result: Any = CliRunner().invoke(app, [*base, *(str(argument) for argument in arguments)])
        result.made = made
        return result

    return invoke


def test_the_command_writes_triplets_and_says_what_was_rejected(run: Run, tmp_path: Path) -> None:
    command = ["--task", "syncse-partial", "--input", tmp_path / "s.txt"]
    result = run(*command, answer=lambda r: "I cannot." if given(r) == SENTENCES[2] else good(r))
    assert result.exit_code == 0, result.output
    assert "5 triplets in" in result.output
    assert "rejected: positive: refusal: 4" in result.output
    assert "1 sentences have no triplet" in result.output
    assert [line["x1_index"] for line in rejected(tmp_path / "raw")] == [2]
    again = run(*command, "--concurrency", 3, "--temperature", 0.5, "--base-url", "http://h/v1", "--timeout", 9)
    assert "6 triplets in" in again.output
    assert again.made == [
        {"base_url": "http://h/v1", "temperature": 0.5, "concurrency": 3, "timeout": 9.0, "seed": 42},
    ]


def test_the_command_writes_sentences_from_scratch(run: Run, tmp_path: Path) -> None:
    result = run("--task", "syncse-scratch", "--num", 20, answer=from_scratch)
    assert result.exit_code == 0, result.output
    assert "20 triplets in" in result.output
    assert result.made == [{"base_url": None, "seed": 42}]


def test_what_a_server_refuses_can_be_left_out_on_the_command_line(run: Run) -> None:
    result = run(
        *("--task", "syncse-scratch", "--num", 2, "--seed", "none", "--temperature", "none", "--token-limit", "none"),
        answer=from_scratch,
    )
    assert result.exit_code == 0, result.output
    [made] = result.made
    assert ServerOptions.of(**{name: made[name] for name in made if name != "base_url"}).model_dump(
        include={"seed", "temperature", "token_limit", "top_p"}
    ) == {"seed": None, "temperature": None, "token_limit": "none", "top_p": 1.0}
    assert "'x' is not a valid float, nor none" in run("--task", "syncse-scratch", "--num", 2, "--top-p", "x").output


def test_the_command_fails_where_nothing_came_out(run: Run, tmp_path: Path) -> None:
    result = run("--task", "syncse-partial", "--input", tmp_path / "s.txt", answer=lambda _: "I cannot.")
    assert result.exit_code == 1
    assert "given up: 6" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "syncse-partial"], "give them with --input FILE"),
        (["--task", "syncse-scratch"], "say how many with --num N"),
        (["--task", "syncse-partial", "--num", "3"], "leave out --num"),
        (["--task", "syncse-partial", "--samples", "3"], "--samples (3) means nothing for task"),
        (["--task", "syncse-partial", "--decay-constant", "0"], "--decay-constant (0.0) means nothing for task"),
        (["--task", "syncse-partial", "--device", "cpu"], "--device belongs to the backend 'local'"),
        (["--task", "syncse-partial", "--shard", "1/2"], "--shard ('1/2') means nothing"),
        (["--task", "syncse-partal", "--num", "3"], "did you mean 'syncse-partial'"),
        (["--task", "sts-x2"], "--decay-constant = 100: self-debiasing compares the probabilities of every next token"),
        (
            ["--task", "sts-x2", "--decay-constant", "0", "--top-k", "9"],
            "--top-k belongs to the backend 'local'",
        ),
        (["--task", "sts-x2", "--decay-constant", "0"], "give them with --input FILE"),
        (["--task", "sts-x1", "--decay-constant", "0", "--num", "3"], "is asked for with --task syncse-scratch"),
        (["--backend", "local", "--task", "sts-x2", "--temperature", "1"], "temperature: for a chat server only"),
        (["--backend", "local", "--task", "sts-x2", "--base-url", "http://h"], "--base-url: for a chat server only"),
        (["--backend", "hosted"], "--backend is 'hosted'; expected 'local' or 'openai'"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(
    arguments: list[str], message: str, run: Run, tmp_path: Path
) -> None:
    result = run(*arguments)
    assert message in " ".join(result.output.split())
    assert result.exit_code == (1 if "syncse-partal" in arguments else 2)
    assert not (tmp_path / "raw").exists()


# DINO's own tasks with a server


def x1_of(request: ChatRequest) -> str:
    return re.findall('Sentence 1: "(.*)"', request.prompt)[-1]


def test_a_server_writes_pairs_for_a_task_of_dino_without_debiasing(run: Run, tmp_path: Path) -> None:
    def answer(request: ChatRequest) -> str:
        unusable = request.key.split("/")[2:] == ["0", "1", "0"]
        return "Two.\nLines." if unusable else f'{x1_of(request)[:-1]} now." And more.'

    command = ["--task", "sts-x2", "--input", tmp_path / "s.txt", "--decay-constant", 0, "--samples", 2]
    result = run(*command, answer=answer)
    assert result.exit_code == 0, result.output
    rows = written(tmp_path / "raw")
    expected = [(i, score, sample) for i in range(6) for score in (1.0, 0.5, 0.0) for sample in range(2)]
    assert [(row["x1_index"], row["score"], row["sample"]) for row in rows] == expected
    assert rows[0]["sentence2"] == SENTENCES[0][:-1] + " now."
    assert {row["tries"] for row in rows if (row["score"], row["sample"]) == (0.0, 1)} == {2}
    local = ["sentence1", "sentence2", "score", "x1_index", "sample", "tries", "num_tokens"]
    assert list(rows[0]) == local
    assert "rejected: several lines: 6" in result.output
    assert "without self-debiasing" in (tmp_path / "raw/README.md").read_text()


def test_pairs_whose_request_failed_are_listed_and_asked_for_by_the_next_run(run: Run, tmp_path: Path) -> None:
    def answer(request: ChatRequest) -> str | None:
        return None if x1_of(request) == SENTENCES[4] else "Another text."

    command = ["--task", "sts-x2", "--input", tmp_path / "s.txt", "--decay-constant", 0, "--samples", 1]
    assert run(*command, answer=answer).exit_code == 0
    assert len(written(tmp_path / "raw")) == 15
    assert [(line["x1_index"], line["label"]) for line in rejected(tmp_path / "raw")] == [
        (4, "1"),
        (4, "0.5"),
        (4, "0"),
    ]
    asked: list[str] = []

    def listed(request: ChatRequest) -> str:
        asked.append(x1_of(request))
        return "Another text."

    assert run(*command, answer=listed).exit_code == 0
    assert asked == [SENTENCES[4]] * 3
    assert [row["x1_index"] for row in written(tmp_path / "raw")] == [i for i in range(6) for _ in range(3)]
    assert not (tmp_path / "raw/rejected.jsonl").exists()
