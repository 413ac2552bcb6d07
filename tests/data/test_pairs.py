"""The columns of pairs, and the JSON lines formats."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, List, Value

from dino_st.data.columns import PROVENANCE_COLUMNS, numeric_pairs, raw_pair, raw_schema, text_column
from dino_st.data.pairs import read_pairs, read_raw, read_reference_jsonl, write_jsonl
from dino_st.data.shards import ShardDirectory, Wave
from dino_st.errors import DatasetError, InputError, OutputError
from dino_st.preparation.prepare import prepare_pairs
from dino_st.support.files import PREPARATION_RECORD
from dino_st.tasks.spec import TaskSpec
from dino_st.training.fit import to_input_examples
from tests.shards_fixtures import write_triplet_shards

PAIRS = {"sentence1": ["a b", "ü"], "sentence2": ["c", 'said "d"'], "score": [0.5, 1.0]}
PROVENANCE = {"x1_index": [0, 1], "sample": [0, 0], "tries": [1, 3], "num_tokens": [4, 7]}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_importing_the_readers_of_pairs_loads_no_heavy_package() -> None:
    heavy = "('torch', 'datasets', 'transformers')"
    code = f"import sys, dino_st.data.pairs; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_pair_becomes_a_row_with_score_or_label_and_provenance() -> None:
    spec = TaskSpec.load("sts-x2")
    row = raw_pair(spec, "0.5", "a", "b", (3, 1, 2, 9), 0)
    assert list(row) == ["sentence1", "sentence2", "score", *PROVENANCE_COLUMNS, "instruction"]
    assert (row["score"], row["x1_index"], row["num_tokens"]) == (0.5, 3, 9)
    assert raw_schema(spec).names == list(row)[:-1]  # the instruction is told where there are several
    labels = {"sports": {"instruction": 'Sports: "<X1>" "', "counter_labels": []}}
    named = TaskSpec.load({"task_name": "t", "labels": labels})
    assert raw_pair(named, "sports", "a", "b", (3, 1, 2, 9), 0)["label"] == "sports"
    assert raw_schema(named).names[2] == "label"


SCORED = {"sentence1": "string", "sentence2": "string", "score": "double", "x1_index": "int64"}
DRAWN = {"sample": "int64", "tries": "int64", "num_tokens": "int64"}


@pytest.mark.parametrize(
    ("instructions", "score_labels", "columns"),
    [
        (['"<X1>" "'], False, SCORED | DRAWN),
        (['"<X1>" "'], True, SCORED | DRAWN | {"log_probs": str(pa.list_(pa.float64()))}),
        (['"<X1>" "', '<X1> "'], False, SCORED | DRAWN | {"instruction": "int64"}),
        (['Go on: "'], True, {"text": "string", "label": "string"} | DRAWN),
    ],
)
def test_raw_rows_have_the_columns_of_their_task(
    instructions: list[str], score_labels: bool, columns: dict[str, str]
) -> None:
    spec = TaskSpec.load({"task_name": "t", "labels": {"1": {"instruction": instructions, "counter_labels": []}}})
    schema = raw_schema(spec, score_labels=score_labels)
    assert {field.name: str(field.type) for field in schema} == columns
    assert schema.names == list(columns)


@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        (pa.string(), "string"),
        (pa.large_string(), "large_string"),  # a chunk may be too large for the other
        (pa.dictionary(pa.int32(), pa.string()), "string"),
        (pa.dictionary(pa.int32(), pa.large_string()), "string"),
        *([(pa.string_view(), "string")] if hasattr(pa, "string_view") else []),  # from pyarrow 16 on
    ],
)
def test_text_of_every_encoding_becomes_strings(kind: pa.DataType, becomes: str) -> None:
    column = text_column(pa.chunked_array([["a", "ü"]], pa.string()).cast(kind), "x", "y")
    assert (str(column.type), column.to_pylist()) == (becomes, ["a", "ü"])


def test_a_column_without_text_is_named_with_its_owner() -> None:
    with pytest.raises(DatasetError, match=r"^column 'x' of the file holds int64; expected text$"):
        text_column(pa.chunked_array([[1]]), "x", "the file")


def test_whole_numbers_become_float_scores() -> None:
    table = numeric_pairs(Dataset.from_dict(PAIRS | {"score": [0, 1]}))
    assert table["score"].to_pylist() == [0.0, 1.0]
    assert str(table.schema.field("score").type) == "double"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sentence1": ["a"], "score": [1.0]}, r"^the data set has .* missing: \['sentence2'\]"),
        ({"sentence1": ["a"], "sentence2": ["b"], "label": ["x"]}, "training part is for numeric labels"),
        ({"sentence1": ["a"], "sentence2": ["b"], "score": ["x"]}, "training part is for numeric labels"),
        ({"sentence1": ["a"], "sentence2": ["b"], "score": [float("nan")]}, "row 0 .* a finite score"),
        ({"sentence1": ["a", "a"], "sentence2": ["b", None], "score": [1.0, 1.0]}, "row 1 .* two texts"),
        ({"sentence1": ["a"], "sentence2": ["b"], "score": [None]}, "numeric labels"),
        (
            {"sentence1": ["a", "c", "d"], "sentence2": ["b", "e", "f"], "score": [1.0, None, 0.0]},
            "^row 1 of the data set is {'sentence1': 'c', 'sentence2': 'e', 'score': None}; expected .* a finite score",
        ),
        ({"sentence1": [1], "sentence2": ["b"], "score": [1.0]}, "'sentence1' of the data set holds int64; exp"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        numeric_pairs(Dataset.from_dict(columns))


def test_further_columns_are_left_out_of_pairs_to_train_on() -> None:
    data = Dataset.from_dict({"label": ["x", "y"]} | PAIRS | PROVENANCE)
    assert numeric_pairs(data).column_names == ["sentence1", "sentence2", "score"]


def test_splits_instead_of_one_split_are_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"\['train'\]; pass one of them"):
        numeric_pairs(DatasetDict(train=Dataset.from_dict(PAIRS)))
    with pytest.raises(DatasetError, match=r"^x\.csv is a list; expected a datasets\.Dataset"):
        numeric_pairs([1], name="x.csv")  # type: ignore[arg-type]


def test_jsonl_brings_back_what_was_written(tmp_path: Path) -> None:
    dataset = Dataset.from_dict(PAIRS | PROVENANCE)
    write_jsonl(dataset, tmp_path / "pairs.jsonl")
    back = read_pairs(tmp_path / "pairs.jsonl")
    assert back.to_dict() == dataset.to_dict()
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"sentence1": "a", "sentence2": "b"}, "line 2: has the fields"),
        (
            {"sentence1": "a", "sentence2": "b", "score": 1, "tries": 1},
            r"line 2: the columns to read would be .*'tries'",
        ),
        ({"sentence1": "a", "sentence2": 3, "score": 1}, "line 2: field 'sentence2' is 3; expected a text"),
        ({"sentence1": "a", "sentence2": "b", "score": "x"}, "line 2: field 'score' is 'x'; expected a finite number"),
        ({"sentence1": "a", "sentence2": "b", "score": True}, "line 2: field 'score' is True"),
        ('{"sentence1": "a", "sentence2": "b", "score": NaN}', "line 2: field 'score' is nan"),
        ("[1]", "line 2: is a list"),
        ("{", "line 2: is not JSON"),
        ('{"sentence1": "\\ud800", "sentence2": "b", "score": 1}', "line 2: field 'sentence1' holds half of a surro"),
    ],
)
def test_jsonl_errors_name_line_and_field(tmp_path: Path, second: object, message: str) -> None:
    path = lines(tmp_path / "x.jsonl", {"sentence1": "a", "sentence2": "b", "score": 1}, second)
    with pytest.raises(InputError, match=rf"x\.jsonl, {message}"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("column", "value", "becomes"),
    [
        ("x1_index", "7", 7),
        ("sample", 2.0, 2),
        ("tries", "", None),
        ("num_tokens", None, None),
        ("x1_index", -(2**53) + 1, -(2**53) + 1),
        ("instruction", 2**53 - 1, 2**53 - 1),
        ("plain_log_prob", "-1.5", -1.5),
        ("plain_log_prob", "", None),
        ("plain_log_prob", None, None),
        ("plain_log_prob", " -inf", float("-inf")),
        ("log_probs", ["nan"], [pytest.approx(float("nan"), nan_ok=True)]),
        ("log_probs", [-1, "-2.5", None, "-inf"], [-1.0, -2.5, None, float("-inf")]),
        ("log_probs", "[-1.0 -2.5]", [-1.0, -2.5]),
        ("log_probs", "[-1.0,\n -2.5 ]", [-1.0, -2.5]),
        ("log_probs", "[]", []),
        ("log_probs", "", None),
        ("log_probs", None, None),
    ],
)
def test_what_we_wrote_beside_pairs_is_read_from_any_spelling(
    column: str, value: object, becomes: object, tmp_path: Path
) -> None:
    row = {"sentence1": "a", "sentence2": "b", "score": 1, column: value}
    found = read_pairs(lines(tmp_path / "x.jsonl", row))
    assert found.column_names == ["sentence1", "sentence2", "score", column]
    assert found[column] == [becomes]
    assert found.features[column] == {"plain_log_prob": Value("float64"), "log_probs": List(Value("float64"))}.get(
        column, Value("int64")
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"x1_index": 1.5}, "line 1: field 'x1_index' is 1.5; expected a whole number"),
        ({"sample": 2**53}, "line 1: field 'sample' is 9007199254740992; expected a whole number"),
        ({"tries": "x"}, "line 1: field 'tries' is 'x'; expected a whole number.*; rename or remove the column"),
        ({"log_probs": 1}, "line 1: field 'log_probs' is a int; expected a list of numbers"),
        ({"log_probs": "[-1.0"}, "line 1: field 'log_probs' is a str; expected a list of numbers"),
        ({"log_probs": "-1.0]"}, "line 1: field 'log_probs' is a str; expected a list of numbers"),
        ({"log_probs": "[a]"}, "line 1: field 'log_probs' is 'a'; expected a finite number"),
        ({"plain_log_prob": "inf"}, "line 1: field 'plain_log_prob' is 'inf'; expected a finite number"),
        ({"label": "x"}, "line 1: has both 'score' and 'label'; remove one of them"),
        ({"score": None, "anchor": "a"}, "line 1: field 'score' is None"),
    ],
)
def test_what_else_stands_in_a_row_is_refused_by_name(more: dict[str, object], message: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", {"sentence1": "a", "sentence2": "b", "score": 1} | more)
    with pytest.raises(InputError, match=rf"x\.jsonl, {message}"):
        read_pairs(path)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (
            {"text": "t", "sentence1": "a", "sentence2": "b", "score": 1},
            {"sentence1": "a", "sentence2": "b", "score": 1},
        ),
        ({"text": "t", "score": 0.5, "label": "1"}, {"text": "t", "label": "1"}),
        ({"text": "t", "label": 1.50}, {"text": "t", "label": "1.5"}),
        ({"text": "t", "label": 1e-7}, {"text": "t", "label": "1e-07"}),
        ({"text_a": "a", "text_b": "b", "label": 1}, {"sentence1": "a", "sentence2": "b", "score": 1}),
        ({"text_a": "a", "text_b": "b", "label": "x y"}, {"sentence1": "a", "sentence2": "b", "label": "x y"}),
    ],
)
def test_one_of_several_shapes_is_chosen(row: object, found: dict[str, object], tmp_path: Path) -> None:
    assert read_pairs(lines(tmp_path / "x.jsonl", row)).to_list() == [found]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"anchor": "a", "positive": "b"}, r"has the fields \['anchor', 'positive'\]; expected .*are triplets, `dino"),
        ({"sentence1": "a", "sentence2": "b"}, r"has the fields .* or text and label$"),
        ({"sentence1": "a", "sentence2": "b", "label": "\ud800"}, "field 'label' holds half of a surrogate pair"),
        ({"sentence1": "a", "sentence2": "b", "label": " "}, "field 'label' is ' '; expected a finite number"),
    ],
)
def test_rows_of_no_shape_are_refused(row: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"x\.jsonl, line 1: {message}"):
        read_pairs(lines(tmp_path / "x.jsonl", row))


def test_raw_data_comes_with_what_is_known_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"sentence1": "a", "sentence2": "b", "score": 1.0}
    rows, facts, labels = read_raw(lines(tmp_path / "x.jsonl", row))
    assert (rows.to_pylist(), facts, labels) == ([row], {"raw": "x.jsonl"}, None)
    spec = TaskSpec.load("sts-x2")
    row |= {"x1_index": 0, "sample": 0, "tries": 1, "num_tokens": 3}
    configuration = {"task": spec.model_dump(mode="json"), "shard": "1/2"}
    provenance = {"model": "tiny", "versions": {"a": "1"}, "seconds": 3}
    with ShardDirectory(tmp_path / "raw").open(
        configuration=configuration, provenance=provenance, schema=raw_schema(spec)
    ) as store:
        store.put(Wave(0, [row], {"rows": 1}))
    rows, facts, labels = read_raw(tmp_path / "raw")
    assert (rows.to_pylist(), labels) == ([row], [1.0, 0.5, 0.0])
    assert facts == {"model": "tiny", "versions": {"a": "1"}} | configuration
    assert f"{tmp_path / 'raw'} is shard 1/2 of a data set; `dino-st merge` joins them" in caplog.text


def test_raw_data_of_a_task_with_words_for_labels_has_no_scores(tmp_path: Path) -> None:
    labels = {"sports": {"instruction": 'Sports: "<X1>" "', "counter_labels": []}}
    spec = TaskSpec.load({"task_name": "t", "labels": labels})
    with ShardDirectory(tmp_path).open(
        configuration={"task": spec.model_dump(mode="json")},
        provenance={"model": "tiny", "versions": {}},
        schema=raw_schema(spec),
    ) as store:
        store.put(Wave(0, [], {}))
    assert read_raw(tmp_path)[2] is None


def test_what_is_no_raw_data_is_refused(tmp_path: Path) -> None:
    write_triplet_shards(tmp_path / "t", [("a", "b", "c")])
    with pytest.raises(InputError, match=rf"^{tmp_path / 't'}: holds triplets, not pairs; `dino-st prepare-triplets`"):
        read_raw(tmp_path / "t")
    (tmp_path / PREPARATION_RECORD).touch()
    for place in (tmp_path, tmp_path / "data", tmp_path / "data" / "train.parquet"):
        with pytest.raises(InputError, match=f"^{place}: is prepared already"):
            read_raw(place)


def test_fields_beyond_ours_are_named_once_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"sentence1": "a", "sentence2": "b", "score": 1, "x1_indx": 3, "topic": {"a": None}}
    again = dict(reversed(row.items()))
    with caplog.at_level("INFO"):
        assert read_pairs(lines(tmp_path / "x.jsonl", row, again)).column_names == ["sentence1", "sentence2", "score"]
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'x.jsonl'}: columns that are not used: 'x1_indx', 'topic'"
    ]


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: there is no such file"):
        read_pairs(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text_a": "\xfc"}')
    with pytest.raises(InputError, match=r"latin\.jsonl: line 1 is not UTF-8 \(byte b'\\xfc' at offset 12\)"):
        read_reference_jsonl(tmp_path / "latin.jsonl")
    with pytest.raises(InputError, match=r"blank\.jsonl: holds no pairs; expected sentence1, sentence2 and score"):
        read_reference_jsonl(lines(tmp_path / "blank.jsonl", "", " "))
    with pytest.raises(OutputError, match="cannot be written"):
        write_jsonl(Dataset.from_dict(PAIRS), tmp_path / "no" / "such" / "x.jsonl")


def test_reference_labels_that_spell_numbers_become_scores(tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text_a": "a", "text_b": "b", "label": "0.5"}\r\n\r\n'
        b'{"text_a": "a", "text_b": "c", "label": 1}\r\n'
    )
    assert read_reference_jsonl(path).to_dict() == {
        "sentence1": ["a", "a"],
        "sentence2": ["b", "c"],
        "score": [0.5, 1.0],
    }


def test_reference_labels_that_are_no_numbers_stay_strings(tmp_path: Path) -> None:
    rows = [{"text_a": "a", "text_b": "b", "label": label} for label in ("one", "other", "nan")]
    assert read_reference_jsonl(lines(tmp_path / "x.jsonl", *rows))["label"] == ["one", "other", "nan"]


def test_reference_single_texts_have_text_and_label(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", {"text_a": "great film", "text_b": None, "label": "1"})
    assert read_reference_jsonl(path).to_dict() == {"text": ["great film"], "label": ["1"]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text_a": "a", "label": "0"}, r"has the fields \['text_a', 'label'\]; expected"),
        ({"text_a": None, "text_b": "b", "label": "0"}, "field 'text_a' is None; expected a text"),
        ({"text_a": "a", "text_b": 1, "label": "0"}, "field 'text_b' is 1; expected a text"),
        ({"text_a": "a", "text_b": "b", "label": None}, "field 'label' is None"),
        ({"text_a": "a", "text_b": None, "label": "0"}, "field 'text_b' is None; either every row has a text there"),
    ],
)
def test_reference_errors_name_line_and_field(tmp_path: Path, row: object, message: str) -> None:
    path = lines(tmp_path / "x.jsonl", {"text_a": "a", "text_b": "b", "label": "0"}, row)
    with pytest.raises(InputError, match=rf"x\.jsonl, line 2: .*{message}"):
        read_reference_jsonl(path)


def test_a_second_text_after_a_row_without_one_is_refused(tmp_path: Path) -> None:
    rows = [{"text_a": "a", "text_b": text, "label": "0"} for text in (None, None, "b")]
    with pytest.raises(InputError, match="line 3: field 'text_b' is 'b'; either every row has a text there or none"):
        read_pairs(lines(tmp_path / "x.jsonl", *rows))


def test_reference_labels_mixing_numbers_and_words_are_refused(tmp_path: Path) -> None:
    for labels in (("other", 0.5), ("0", "1", "nan"), (1, "NA"), ("1", "1,0")):
        rows = [{"text_a": "a", "text_b": "b", "label": label} for label in labels]
        number, word = (1, len(labels)) if labels[0] != "other" else (2, 1)
        message = rf"line {word}: field 'label' is no number, and that of .*x\.jsonl, line {number} is one; expected"
        with pytest.raises(InputError, match=message):
            read_reference_jsonl(lines(tmp_path / "x.jsonl", *rows))


def of_classes(column: str, names: list[str]) -> Dataset:
    numbers = [place % len(names) for place in range(12)]
    rows = {
        "sentence1": [f"The cat saw {number} dogs." for number in range(12)],
        "sentence2": [f"{number} dogs were seen by the cat." for number in range(12)],
        column: numbers,
    }
    return Dataset.from_dict(rows).cast_column(column, ClassLabel(names=names))


def test_classes_of_a_data_set_are_their_names_and_not_their_numbers() -> None:
    pairs = of_classes("score", ["1", "0.5", "0"])
    assert [example.label for example in to_input_examples(pairs)] == [1, 0.5, 0] * 4
    options: dict[str, Any] = {"label_smoothing": 0.0, "random_negatives": 0, "validation_share": 0}
    prepared = prepare_pairs(pairs, **options)["train"]
    assert {row["sentence1"]: row["score"] for row in prepared} == dict(
        zip(pairs["sentence1"], [1, 0.5, 0] * 4, strict=True)
    )
    words = of_classes("label", ["same", "other"])
    labels = prepare_pairs(words, **options)["train"]
    assert sorted(labels["label"]) == ["other"] * 6 + ["same"] * 6
    with pytest.raises(DatasetError, match="column 'score' of the data set holds string"):
        to_input_examples(of_classes("score", ["entailment", "not_entailment"]))


def test_a_class_that_stands_for_none_is_no_score() -> None:
    pairs = of_classes("score", ["1", "0"]).to_dict()
    pairs["score"][3] = -1
    with pytest.raises(DatasetError, match=r"row 3 of the data set .*'score': None"):
        to_input_examples(Dataset.from_dict(pairs).cast_column("score", ClassLabel(names=["1", "0"])))


@pytest.mark.parametrize("read", [to_input_examples, prepare_pairs])
def test_a_data_set_that_changes_its_rows_as_they_are_read_is_refused(read: Any) -> None:
    pairs = of_classes("score", ["1", "0"])
    with pytest.raises(DatasetError, match=r"has a transform .*dataset\.map"):
        read(pairs.with_transform(lambda rows: rows))
