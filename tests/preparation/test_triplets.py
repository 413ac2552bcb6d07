from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, load_dataset

from dino_st.data.triplets import read_pairs_or_triplets, read_triplets, triplet_table
from dino_st.errors import ConfigurationError, DatasetError, InputError
from dino_st.pipeline.stages import prepare_data, prepare_triplet_data
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.preparation.splits import load_prepared, save_prepared
from dino_st.preparation.triplets import prepare_triplets, to_pairs, to_triplets
from tests.shards_fixtures import write_triplet_shards

ROWS = [
    ("A man plays.", "Someone plays.", "A man sleeps."),
    ('She said "no", twice.', "She refused, twice.", "She said yes,\nat once."),
]
COLUMNS = ["anchor", "positive", "negative"]


def dataset(rows: list[tuple[str, str, str]] = ROWS) -> Dataset:
    return Dataset.from_list([dict(zip(COLUMNS, row, strict=True)) for row in rows])


def pairs(*rows: tuple[str, str, float]) -> Dataset:
    return Dataset.from_list([{"sentence1": x1, "sentence2": x2, "score": score} for x1, x2, score in rows])


def tuples(triplets: Dataset) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in COLUMNS) for row in triplets]


def many(anchors: int) -> list[tuple[str, str, str]]:
    return [(f"anchor {i}", f"positive {i} {k}", f"negative {i} {k}") for i in range(anchors) for k in range(2)]


def test_anchors_that_are_positives_of_each_other_are_in_one_split() -> None:
    rows = [(f"anchor {i}", f"positive {i}", f"negative {i}") for i in range(100)]
    both = [*rows, *((positive, anchor, "other " + negative) for anchor, positive, negative in rows)]
    splits = prepare_triplets(dataset(both))
    train, validation = ({frozenset(row[:2]) for row in tuples(splits[name])} for name in ("train", "validation"))
    assert not train & validation
    assert (len(splits["train"]), splits.counts["validation_anchors"]) == (180, 20)
    chain = [(f"a {i}", f"a {i + step}", "no") for i in range(1, 6) for step in (-1, 1)]
    few = prepare_triplets(dataset([*chain, ("b", "c", "no")]))
    assert tuples(few["validation"]) == [("b", "c", "no")]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "shards"])
def test_triplets_are_read_from_whatever_holds_them(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if name == "shards":
        write_triplet_shards(file, ROWS)
    elif name == "t.csv":
        with file.open("w", newline="") as stream:
            csv.writer(stream).writerows([("sent0", "sent1", "hard_neg"), *ROWS])
    else:
        file.write_text("".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in ROWS))
    found = read_triplets(file)
    assert found.column_names == COLUMNS
    assert tuples(found) == ROWS


@pytest.mark.parametrize(
    ("columns", "is_pairs"),
    [
        (["sentence1", "sentence2", "score"], True),
        (["Text_A", "text_b", "label"], True),
        (["anchor", "positive", "negative"], False),
        (["sent0", "sent1", "hard_neg"], False),
    ],
)
def test_pairs_are_told_from_triplets_by_their_columns(columns: list[str], is_pairs: bool, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",".join(columns) + "\na,b,1\n")
    found = read_pairs_or_triplets(tmp_path / "a.csv")
    assert found.to_pylist() == (
        [{"sentence1": "a", "sentence2": "b", "score": 1.0}]
        if is_pairs
        else [{"anchor": "a", "positive": "b", "negative": "1"}]
    )


def test_pairs_that_lack_a_score_or_are_there_twice_are_refused_as_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sentence1,sentence2\na,b\n")
    with pytest.raises(InputError, match="expected sentence1, sentence2 and score"):
        read_pairs_or_triplets(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text('{"text_a": "a", "text1": "a", "text_b": "b", "score": 1}\n')
    with pytest.raises(InputError, match=rf"^{tmp_path / 'a.jsonl'}, line 1: 'text_a' and 'text1'"):
        read_pairs_or_triplets(tmp_path / "a.jsonl")


def test_a_table_is_opened_once_whatever_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    original = Path.open

    def noted(path: Path, *given: Any, **named: Any) -> Any:
        opened.append(path)
        return original(path, *given, **named)

    monkeypatch.setattr(Path, "open", noted)
    for header in ("sentence1,sentence2,score", "sent0,sent1,hard_neg"):
        (tmp_path / "a.csv").write_text(f"{header}\na,b,1\nc,d,0\n")
        opened.clear()
        assert read_pairs_or_triplets(tmp_path / "a.csv").num_rows == 2
        assert opened == [tmp_path / "a.csv"]


def test_columns_that_change_between_pairs_and_triplets_are_refused(tmp_path: Path) -> None:
    pair, triplet = '{"text_a":"a","text_b":"b","label":1}', '{"anchor":"a","positive":"b","negative":"c"}'
    for first, second in ((pair, triplet), (triplet, pair), (pair, pair.replace("label", "score"))):
        (tmp_path / "a.jsonl").write_text(f"{first}\n{second}\n")
        with pytest.raises(InputError, match="line 2: the columns to read would be"):
            read_pairs_or_triplets(tmp_path / "a.jsonl")


def test_what_is_no_table_of_triplets_is_said() -> None:
    for given, message in (
        ([1], r"^the data set is a list; expected a datasets\.Dataset, as Dataset\.from_list makes it$"),
        (Dataset.from_dict({name: [] for name in COLUMNS}), "^there is no row in the data set; generate triplets"),
        (pairs(("a", "b", 1.0)), r"^the data set: has the columns .* missing: anchor, .*; these are pairs, see `to_tr"),
        (Dataset.from_dict({"anchor": ["a"]}), r"^the data set: has .*; missing: positive, negative\. .* hard_neg\)$"),
        (
            Dataset.from_dict({"query": [1], "positive": ["b"], "negative": ["c"]}),
            "^column 'query' of the data set holds int64; expected text in 'anchor'$",
        ),
        (
            Dataset.from_dict({"query": [None, "a"], "positive": ["b", "b"], "negative": ["c", "c"]}),
            r"^column 'query' of the data set has no value in row 0; .*row\['query'\] is not None\)$",
        ),
    ):
        with pytest.raises(DatasetError, match=message):
            triplet_table(given)  # type: ignore[arg-type]
    doubled = Dataset.from_dict({"query": ["a"], "sent0": ["a"], "positive": ["b"], "negative": ["c"]})
    with pytest.raises(InputError, match=r"^the data set: 'query' and 'sent0', and either may be 'anchor'"):
        triplet_table(doubled)
    with pytest.raises(DatasetError, match=r"^mine is a list"):
        triplet_table([1], name="mine")  # type: ignore[arg-type]
    table = triplet_table(Dataset.from_dict({"x": [1], "hard_neg": ["c"], "query": ["a"], "positive": ["b"]}))
    assert table.to_pylist() == [{"anchor": "a", "positive": "b", "negative": "c"}]
    assert {str(kind) for kind in table.schema.types} == {"string"}


def test_triplets_that_contradict_one_another_are_told_once_with_their_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("a one", "b two", "c three"), ("a one", "d four", "b two"), ("d four", "e five", "a one")]
    of_other_anchors = [(f"s{i} x", f"t{i} y", f"t{i - 1} y") for i in range(9)]
    lines = ["anchor,positive,negative", *map(",".join, rows + of_other_anchors), "f six,g seven,g seven"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    prepare_triplet_data(tmp_path / "t.csv", tmp_path / "prepared", TripletOptions())
    told = [record.getMessage() for record in caplog.records if "same anchor" in record.getMessage()]
    assert told == [
        "the triplets: the negative of 2 of 13 rows is the positive of the same anchor in another row, as 'b two' "
        "(negative in row 2, positive in row 1); each counts as it stands; leave the wrong ones out"
    ]


@pytest.mark.parametrize(
    "header", ["sent0,sent1,hard_neg\n", "sentence,positive,hard_negative\r\n", "﻿sent0,sent1,hard_neg\n"]
)
def test_the_columns_of_a_csv_are_known_by_their_names(header: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(header + '"one, two",three,four\nfive,"six ""6""",seven\n', encoding="utf-8")
    assert tuples(read_triplets(file)) == [("one, two", "three", "four"), ("five", 'six "6"', "seven")]


def test_distilabels_triplets_and_other_names_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    row = {"anchor": "a", "positive": "b", "negative": "c", "model_name": "m", "distilabel_metadata": {"x": None}}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n\n")
    assert tuples(read_triplets(tmp_path / "d.jsonl")) == [("a", "b", "c")]
    assert f"{tmp_path / 'd.jsonl'}: columns that are not used: 'model_name'" in caplog.text
    (tmp_path / "q.jsonl").write_text('{"query": "a", "positive": "b", "negative": "c"}\n')
    assert tuples(read_triplets(tmp_path / "q.jsonl")) == [("a", "b", "c")]
    Dataset.from_dict({"sentence": ["a"], "sent1": ["b"], "hard_neg": ["c"]}).to_parquet(tmp_path / "p.parquet")
    assert tuples(read_triplets(tmp_path / "p.parquet")) == [("a", "b", "c")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "one,two\n", r"line 1: has the columns \['one', 'two'\]; missing: anchor"),
        ("t.csv", "query,sent1,hard_neg\na,b,c,d\n", r"line 2: has 4 columns, expected 3"),
        ("t.csv", "", r"^there is no row in /.*t\.csv; generate"),
        ("t.csv", b"\xff,b,c\n", "line 1 is not UTF-8"),
        ("t.jsonl", '{"anchor": "a", "positive": "b"}\n', r"line 1: has the columns .*missing: negative"),
        ("t.jsonl", '{"anchor": "a", "positive": null, "negative": "c"}\n', "line 1: field 'positive' is None"),
        ("t.txt", "a", r"is no table that can be read; expected one that ends in \.csv"),
        ("t.parquet", "a", "cannot be read as parquet"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((InputError, DatasetError), match=message):
        read_triplets(file)


def test_missing_files_and_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.csv: there is no such file"):
        read_triplets(tmp_path / "no.csv")
    with pytest.raises(InputError, match=r"holds no table"):
        read_triplets(tmp_path)


def test_a_null_and_a_set_of_splits_are_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"column 'negative' of the triplets has no value in row 1.*dataset\.filter"):
        prepare_triplets(Dataset.from_dict({"anchor": ["a", "b"], "positive": ["c", "d"], "negative": ["e", None]}))
    with pytest.raises(DatasetError, match=r"the splits \['train'\]; pass one"):
        to_pairs(DatasetDict(train=dataset()))  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"column 'anchor' of the triplets holds int64"):
        to_pairs(Dataset.from_dict({"anchor": [1], "positive": ["c"], "negative": ["e"]}))


RAW = pairs(
    ("x", "same 1", 1.0), ("x", "same 2", 1.0), ("x", "near", 0.5), ("x", "far 1", 0.0), ("x", "far 2", 0.0),
    ("y", "same", 1.0), ("y", "far", 0.0),
    ("z", "near", 0.5), ("z", "far", 0.0),
)  # fmt: skip


def test_every_text_of_an_input_is_used_and_inputs_without_both_are_left_out() -> None:
    half = tuples(to_triplets(RAW))
    assert sorted(half) == [("x", "same 1", "near"), ("x", "same 2", "near")]
    zero = tuples(to_triplets(RAW, negatives="0"))
    assert [row[0] for row in zero] == ["x", "x", "y"]
    assert {row[1] for row in zero[:2]} == {"same 1", "same 2"}
    assert {row[2] for row in zero[:2]} == {"far 1", "far 2"}
    assert sorted(tuples(to_triplets(RAW, negatives="both"))) == sorted(half + zero)


def test_triplets_do_not_depend_on_the_order_of_the_rows() -> None:
    order = list(range(len(RAW)))
    random.Random(1).shuffle(order)
    assert tuples(to_triplets(RAW.select(order), negatives="both")) == tuples(to_triplets(RAW, negatives="both"))


def test_inputs_without_a_positive_or_negative_are_counted() -> None:
    counts = prepare_triplets(RAW, validation_share=0).counts
    assert (counts["inputs"], counts["inputs_without_positive"], counts["inputs_without_negative"]) == (3, 1, 1)
    assert (counts["input"], counts["kept"], counts["train"], counts["validation"]) == (2, 2, 2, 0)


def test_pairs_that_were_prepared_already_or_have_no_triplet_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"a pair has the score 0\.9"):
        to_triplets(pairs(("x", "a", 0.9)))
    with pytest.raises(DatasetError, match=r"no x1 of 1 has both a text of score 1 and one of score 0\.5"):
        to_triplets(pairs(("x", "a", 1.0)))
    with pytest.raises(ConfigurationError, match="'negatives' is '1'"):
        to_triplets(RAW, negatives="1")


def test_pairs_of_triplets_hold_each_pair_once() -> None:
    back = to_pairs(dataset([("a", "b", "c"), ("a", "b", "d")]))
    assert [tuple(row.values()) for row in back] == [("a", "b", 1.0), ("a", "c", 0.0), ("a", "d", 0.0)]


def test_what_teaches_nothing_is_dropped_and_counted() -> None:
    rows = [("a", "b", "c"), ("a", "b", "c "), ("", "b", "c"), ("a", "a", "c"), ("a", "b", "b"), ("a", "b", "a")]
    splits = prepare_triplets(dataset(rows), validation_share=0)
    assert tuples(splits["train"]) == [("a", "b", "c")]
    dropped = {name: count for name, count in splits.counts.items() if name.startswith("dropped")}
    assert dropped == {
        "dropped_blank": 1,
        "dropped_anchor_is_positive": 1,
        "dropped_positive_is_negative": 1,
        "dropped_anchor_is_negative": 1,
        "dropped_duplicate": 1,
    }
    with pytest.raises(DatasetError, match=r"no triplet is left after preparation:[\s\S]*dropped blank"):
        prepare_triplets(dataset([("", "b", "c")]))


def test_triplets_that_differ_in_unicode_form_or_blanks_alone_are_one_of_one_anchor() -> None:
    rows = [("caf\u00e9", "b", "c  d"), ("cafe\u0301", "b ", "c d"), ("cafe\u0301", "x", "y")]
    splits = prepare_triplets(dataset(rows), validation_share=0)
    assert sorted(tuples(splits["train"])) == [("cafe\u0301", "b", "c  d"), ("cafe\u0301", "x", "y")]
    assert splits.counts["dropped_duplicate"] == 1


def test_the_split_is_by_anchor_and_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = many(50)
    splits = prepare_triplets(dataset(rows), validation_share=0.2)
    held_out = set(splits["validation"]["anchor"])
    assert len(held_out) == 10
    assert splits["validation"].num_rows == 20
    assert not held_out & set(splits["train"]["anchor"])
    random.Random(0).shuffle(rows)
    again = prepare_triplets(dataset(rows), validation_share=0.2)
    assert [tuples(again[name]) for name in again] == [tuples(splits[name]) for name in splits]
    assert set(prepare_triplets(dataset(rows), seed=1)["validation"]["anchor"]) != held_out
    assert len(set(prepare_triplets(dataset(rows), max_validation=3)["validation"]["anchor"])) == 3
    assert len(set(prepare_triplets(dataset(many(3)))["validation"]["anchor"])) == 1


def test_prepared_triplets_come_back_from_their_directory(tmp_path: Path) -> None:
    splits = prepare_triplets(dataset(many(10)))
    save_prepared(splits, tmp_path / "p", provenance={"model": "some-model"})
    found = load_prepared(tmp_path / "p")
    assert tuples(found["train"]) == tuples(splits["train"])
    assert (found.options, found.counts, found.provenance) == (splits.options, splits.counts, {"model": "some-model"})
    assert load_dataset(str(tmp_path / "p"), cache_dir=str(tmp_path / "c"))["train"].column_names == COLUMNS
    assert "Triplets written by a language model" in (tmp_path / "p/README.md").read_text()


def test_the_record_says_triplets_and_an_older_one_that_says_pairs_is_read(tmp_path: Path) -> None:
    splits = prepare_triplets(dataset(many(10)))
    save_prepared(splits, tmp_path / "p")
    record = tmp_path / "p" / "preparation.json"
    content = json.loads(record.read_text())
    assert content["format"] == "dino-st prepared triplets, version 1"
    record.write_text(json.dumps(content | {"format": "dino-st prepared pairs, version 1"}))
    assert tuples(load_prepared(tmp_path / "p")["train"]) == tuples(splits["train"])
    record.write_text(json.dumps(content | {"format": "dino-st prepared triplets, version 2"}))
    with pytest.raises(InputError, match=r"format is 'dino-st prepared triplets, version 2'; expected .*version 1'"):
        load_prepared(tmp_path / "p")


def test_each_kind_of_raw_data_is_prepared_by_its_own_command(tmp_path: Path) -> None:
    write_triplet_shards(tmp_path / "shards", many(10))
    assert prepare_triplet_data(tmp_path / "shards", tmp_path / "p", TripletOptions())[0].counts["input"] == 20
    with pytest.raises(InputError, match=r"holds triplets, not pairs; .*dino-st prepare-triplets"):
        prepare_data(tmp_path / "shards", tmp_path / "q", PreparationOptions())
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in RAW))
    splits, _ = prepare_triplet_data(
        tmp_path / "pairs.jsonl", tmp_path / "r", TripletOptions.of(negatives=0, validation_share=0)
    )
    assert splits["train"].num_rows == 3
    assert splits.options.negatives == "0"


def test_texts_that_are_equal_but_for_their_look_count_as_equal() -> None:
    found = prepare_triplets(
        dataset(
            [
                ("A man plays.", "Someone plays.", "A MAN  PLAYS"),
                ("A man plays.", "Someone plays.", "someone\u00a0plays!"),
                ("A cafe\u0301 opens.", "a caf\u00e9 opens", "It shuts."),
                ("\u0932\u0921\u093c\u0915\u093e", "It is a boy.", "\u0932\u0921\u093c\u0915\u0940"),  # boy, girl
                ("It costs 5.", "Five is its price.", "It costs -5."),
            ]
        ),
        validation_share=0,
    )
    names = ("anchor_is_negative", "positive_is_negative", "anchor_is_positive")
    assert [found.counts[f"dropped_{name}"] for name in names] == [1, 1, 1]
    assert found.counts["kept"] == 2
