from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dino_st.errors import ConfigurationError, TaskSpecError
from dino_st.tasks.spec import TaskSpec, builtin_tasks, check_number

X1 = 'Rewrite "<X1>" as "'


def spec(labels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"task_name": "mine", "labels": labels, **more}


def test_the_built_in_tasks_load() -> None:
    sts = [f"sts-x{side}{language}" for side in "12" for language in ("", ".de", ".es", ".fr", ".ja", ".zh")]
    assert builtin_tasks() == ["movie-reviews", "movie-titles", *sts]
    for name in builtin_tasks():
        assert TaskSpec.load(name).task_name == name


@pytest.mark.parametrize("language", ["de", "es", "fr", "ja", "zh"])
def test_a_task_of_another_language_is_built_like_the_english_one(language: str) -> None:
    for name in ("sts-x1", "sts-x2"):
        english, other = TaskSpec.load(name), TaskSpec.load(f"{name}.{language}")
        assert other.language == language
        assert other.about.endswith("Not checked by a native speaker.")
        assert [(label, one.counter_labels) for label, one in other.labels.items()] == [
            (label, one.counter_labels) for label, one in english.labels.items()
        ]
        instructions = {one.instruction for one in other.labels.values()}
        assert len(instructions) == 3
        assert other.needs_input == english.needs_input
        for instruction in instructions:
            assert str(instruction)[-1] in other.opening_marks
            if other.needs_input:  # what is given stands between the marks that end what is written
                assert re.search(f"[{''.join(other.opening_marks)}] ?<X1> ?{other.closing_marks[0]}", str(instruction))


def test_what_a_task_does_not_say_is_not_in_its_manifest() -> None:
    assert list(TaskSpec.load("sts-x2").model_dump(mode="json")) == ["task_name", "labels"]
    german = TaskSpec.load("sts-x2.de").model_dump(mode="json")
    assert (german["closing_marks"], german["language"]) == (["“", "”", '"'], "de")
    assert "about" not in german, "a remark may change without making another data set"
    assert TaskSpec.load(german) == TaskSpec.load("sts-x2.de").model_copy(update={"about": ""})


@pytest.mark.parametrize(
    ("marks", "instruction", "message"),
    [
        (["»"], 'Write "', r"instruction: must end in an opening quotation mark \(«\).*closing mark \(»\)"),
        (["“", '"'], "Write «", r"must end in an opening quotation mark \(„ or \"\)"),
        ([], 'Write "', "closing_marks: expected one or several different marks"),
        (["###", "###"], "Write:", "closing_marks: expected one or several different marks"),
        ([" "], "Write:", "closing_marks: expected one or several different marks without blanks"),
    ],
)
def test_closing_marks_that_cannot_end_a_text_are_refused(marks: list[str], instruction: str, message: str) -> None:
    with pytest.raises(TaskSpecError, match=message):
        TaskSpec.load(spec({"1": {"instruction": instruction}}, closing_marks=marks))


def test_a_task_with_an_end_mark_of_its_own_opens_no_quotation() -> None:
    content = spec({"1": {"instruction": "Title: <X1>\nBody:"}}, closing_marks=["###"], allow_newlines=True)
    assert TaskSpec.load(content).opening_marks == ()


def test_sts_x2_is_the_published_specification() -> None:
    loaded = TaskSpec.load("sts-x2")
    assert {label: one.counter_labels for label, one in loaded.labels.items()} == {
        "1": (),
        "0.5": ("1",),
        "0": ("1", "0.5"),
    }
    assert loaded.labels["0.5"].instruction == (
        'Task: Write two sentences that are somewhat similar.\nSentence 1: "<X1>"\nSentence 2: "'
    )
    assert (loaded.is_numeric, loaded.needs_input, loaded.has_scores, loaded.streams_per_sample) == (
        True,
        True,
        True,
        6,
    )


def test_labels_that_are_not_numbers_carry_no_score() -> None:
    reviews = TaskSpec.load("movie-reviews")
    assert (reviews.is_numeric, reviews.has_scores) == (False, False)
    assert not TaskSpec.load("sts-x1").has_scores, "its labels only name the instruction"
    assert not TaskSpec.load(spec({"nan": {"instruction": X1}, "1": {"instruction": X1}})).is_numeric


def test_a_label_of_many_digits_keeps_them(tmp_path: Path) -> None:
    content = spec({"1": {"instruction": X1}, "0": {"instruction": X1}})
    written = json.dumps(content).replace('"1":', "0.1234567:").replace('"0":', "0.1234568:")
    (tmp_path / "task.yaml").write_text(written)
    assert list(TaskSpec.load(tmp_path / "task.yaml").labels) == ["0.1234567", "0.1234568"]


def test_json_and_yaml_files_load_alike(tmp_path: Path) -> None:
    content = spec({"1": {"instruction": X1}, "0.5": {"instruction": X1, "counter_labels": ["1"]}})
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "b.yaml").write_text(
        'task_name: mine\nlabels:\n  1: {instruction: \'Rewrite "<X1>" as "\'}\n'
        '  0.5:\n    instruction: \'Rewrite "<X1>" as "\'\n    counter_labels: [1]\n'
    )
    assert TaskSpec.load(tmp_path / "a.json") == TaskSpec.load(tmp_path / "b.yaml") == TaskSpec.load(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": {"1": {"instruction": X1}}}, "task_name: this field is missing"),
        ({"task_name": "mine"}, "labels: this field is missing"),
        (spec({"1": {"instruction": X1}}, label={}), r"label: unknown field; did you mean 'labels'\?"),
        (
            spec({"1": {"instruction": X1, "counter_label": []}}),
            r"labels → '1' → counter_label: unknown field; did you mean 'counter_labels'",
        ),
        (spec({"1": {}}), "labels → '1' → instruction: this field is missing"),
        (spec({"1": {"instruction": "Write:"}}), "labels → '1' → instruction: must end in an opening quotation mark"),
        (spec({"1": {"instruction": '<X1> <X1> "'}}), "labels → '1' → instruction: holds the placeholder <X1> 2 times"),
        (
            spec({"1": {"instruction": X1}, "0": {"instruction": 'Write: "'}}),
            "labels → '0' → instruction: the placeholder <X1> is missing",
        ),
        (
            spec({"1": {"instruction": X1, "counter_labels": ["1"]}}),
            "labels → '1' → counter_labels: a label cannot be its own",
        ),
        (
            spec({"good": {"instruction": X1}, "bad": {"instruction": X1, "counter_labels": ["goud"]}}),
            "labels → 'bad' → counter_labels: 'goud' is not a label of this task; did you mean 'good'",
        ),
        (spec({"1": {"instruction": X1}, "0": {"instruction": X1, "counter_labels": ["1", "1"]}}), "stands twice"),
        (spec({}), "the set of labels is empty"),
        (spec({"1": {"instruction": X1}, "1.0": {"instruction": X1}}), "two labels stand for one score"),
        (
            spec({"1": {"instruction": 3}}),
            "labels → '1' → instruction: Input should be a valid string, or a list of strings; given: 3",
        ),
        ({"task_name": "a b", "labels": {"1": {"instruction": X1}}}, "task_name: may hold letters"),
    ],
)
def test_a_malformed_specification_is_refused_by_file_label_and_field(
    content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps(content))
    with pytest.raises(TaskSpecError, match=message) as caught:
        TaskSpec.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "cannot be parsed"),
        ("a.json", "[1]", "expected an object"),
        ("a.yaml", "a: [", "cannot be parsed"),
        ("a.json", '{"task_name": "a", "task_name": "b"}', "'task_name' stands twice"),
        ("a.yaml", "task_name: a\ntask_name: b\n", "'task_name' stands twice"),
        ("a.json", b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named(name: str, text: str | bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TaskSpecError, match=message) as caught:
        TaskSpec.load(tmp_path / name)
    assert name in str(caught.value)


def test_an_unknown_task_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TaskSpecError, match=r"no built-in task 'sts-2'.*did you mean 'sts-x2'"):
        TaskSpec.load("sts-2")
    with pytest.raises(TaskSpecError, match="there is no such task file"):
        TaskSpec.load(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('labels:\n  yes: {instruction: "<X1> \\""}', r'line 2: YAML reads the key yes as true or false; .* "yes"$'),
        ("~: 1", r"line 1: YAML reads the key ~ as nothing"),
        ("labels: {a: {counter_labels: [no]}}", r"given: False \(YAML reads yes, no, on and off"),
        (
            "a: 1\nb: 010",
            r"line 2: YAML reads 010 as 8; write .* in decimal, as 8, or, .* \"010\"$",
        ),
        ("a: 0x10", r"line 1: YAML reads 0x10 as 16"),
        ("a: [+1_000, 1e-3, 12:30]", r"line 1: YAML reads 12:30 as 750"),
        ("a: 1\n\tb: 2", r"line 2: 'b: 2'; a tab stands in front; indent with spaces$"),
        ("a: {b: 1", r"cannot be parsed as YAML, line 1: 'a: \{b: 1'; a bracket or quotation mark may be open"),
        ("a: b: c", r"line 1: 'a: b: c'; .* a text with a colon"),
        ("a: 1\na: 2", r"the key 'a' stands twice"),
        ("labels: {1: {instruction: a}, 1.0: {instruction: b}}", r"the key '1' stands twice"),
        ("[" * 3000, r"nested too deeply"),
    ],
)
def test_mistakes_in_yaml_are_told_in_words_for_people(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(content)
    with pytest.raises(TaskSpecError, match=words) as mistake:
        TaskSpec.load(tmp_path / "task.yaml")
    assert "<unicode string>" not in str(mistake.value)


@pytest.mark.parametrize(
    ("instruction", "is_told"), [("'Same.\\nText: \"'", True), ('"Same.\\nText: \\""', False), ("'\\nabla: \"'", False)]
)
def test_a_line_break_that_yaml_reads_as_two_signs_is_told(
    instruction: str, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "task.yaml").write_text(f"task_name: a\nlabels: {{a: {{instruction: {instruction}}}}}")
    TaskSpec.load(tmp_path / "task.yaml")
    assert ("task.yaml: 'Same" in caplog.text and "a backslash and an n" in caplog.text) == is_told


def test_labels_with_one_instruction_are_told(caplog: pytest.LogCaptureFixture) -> None:
    TaskSpec.load(spec({"1": {"instruction": X1}, "0": {"instruction": f"Other. {X1}"}}))
    assert not caplog.records
    TaskSpec.load(spec({"1": {"instruction": X1}, "0": {"instruction": X1}}))
    assert "the labels '1' and '0' have the same instruction" in caplog.text


def test_yaml_may_merge_what_an_anchor_names(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(
        'task_name: t\nlabels:\n  "1": &one {instruction: "Go on: \\""}\n  "0":\n    <<: *one\n'
    )
    assert TaskSpec.load(tmp_path / "task.yaml").labels["0"].instructions == ('Go on: "',)


@pytest.mark.parametrize("num", [0, -1, 100_000_001, 10**20])
def test_a_number_of_texts_that_no_run_can_write_is_refused(num: int) -> None:
    check_number(100_000_000)
    with pytest.raises(ConfigurationError, match=f"num = {num}: expected a number of texts from 1 to 100,000,000"):
        check_number(num)
