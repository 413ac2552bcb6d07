"""Tables as strangers write them: what is read from each, or the words of the refusal; never another row in silence."""

from __future__ import annotations

import csv
import gc
import io
import json
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dino_st.data.pairs import read_pairs
from dino_st.data.sentences import read_sentences
from dino_st.data.shards import ShardDirectory, Wave
from dino_st.data.tables import table_rows
from dino_st.data.triplets import read_triplets
from dino_st.errors import DatasetError, DinoWarning, InputError
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import save_prepared
from dino_st.preparation.triplets import prepare_triplets
from dino_st.training.data import pair_splits, triplet_splits
from dino_st.training.fit import to_input_examples
from dino_st.training.options import ContrastiveOptions
from mteb_tasks.pairs import read_pair_file

HEAD = "sentence1,sentence2,score\n"
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs(path: Path) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in read_pairs(path)]


def scored(path: Path) -> list[tuple[Any, ...]]:
    return [(pair.sentence1, pair.sentence2, pair.score) for pair in read_pair_file(path)]


def triplets(path: Path) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in read_triplets(path)]


def sentences(path: Path) -> list[tuple[Any, ...]]:
    return [(text,) for text in read_sentences(path).texts]


Reader = Callable[[Path], list[tuple[Any, ...]]]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.csv", HEAD + "a,b,1\nc,d,0\n", [("a", "b", 1.0), ("c", "d", 0.0)]),
        ("a.csv", HEAD.replace("\n", "\r\n") + 'a,"b\r\nc",1\r\nc,d,0\r\n', [("a", "b\r\nc", 1.0), ("c", "d", 0.0)]),
        ("a.csv", HEAD + '"a ""x"", y","b\n\nc",1\n\nc,5" d,0', [('a "x", y', "b\n\nc", 1.0), ("c", '5" d', 0.0)]),
        ("a.csv", HEAD + f'"{"x" * 200_000}",b,1\nc,d,0\n', [("x" * 200_000, "b", 1.0), ("c", "d", 0.0)]),
        ("a.csv", "\ufeffSentence1;Sentence2;Score\na, b;c;1\nd;e;0\n", [("a, b", "c", 1.0), ("d", "e", 0.0)]),
        ("a.csv", ",sentence1,sentence2,score\n0,a,b,1\n1,c,d,0\n", [("a", "b", 1.0), ("c", "d", 0.0)]),
        ("a.tsv", 'sentence1\tsentence2\tscore\na\t"b ""c""\td\n"\t1\nc\te, "f"\t0\n', [
            ("a", 'b "c"\td\n', 1.0),
            ("c", 'e, "f"', 0.0),
        ]),
        ("a.csv", "text_a,text_b,label\na,b,1\nc,d,0.5\n", [("a", "b", 1.0), ("c", "d", 0.5)]),
        ("a.csv", "sentence_A,sentence_B,relatedness_score\na,b,1\nc,d,0.5\n", [("a", "b", 1.0), ("c", "d", 0.5)]),
        ("a.jsonl", '{"text_a":"a","text_b":"b","label":"1"}\n\n{"text_a":"c","text_b":"d","label":0}\n', [
            ("a", "b", 1.0),
            ("c", "d", 0.0),
        ]),
        ("a.json", ' [{"sentence1":"a","sentence2":"b","score":1},\n{"sentence1":"c","sentence2":"d","score":0}]', [
            ("a", "b", 1.0),
            ("c", "d", 0.0),
        ]),
    ],
)  # fmt: skip
def test_pairs_are_read_alike_to_prepare_and_to_score(
    name: str, content: str, rows: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    file = written(tmp_path / name, content)
    assert pairs(file) == rows
    assert scored(file) == rows


ANY_TABLE = [
    (".csv", 'a,b,1\n"c,d,0\ne,f,1\n', r"line 3: the row that begins here has quotation marks"),
    (".csv", 'a,b,1\n"c" x,d,0\n', r"line 3: .*quotation marks .*expected after"),
    (".csv", 'a,b,1\nc, "d",0\n', r"line 3: .*a space stands before one"),
    (".csv", "a,b,1\nc,d, e,0\n", r"line 3: has 4 columns, expected 3"),
    (".csv", "a,b,1\nc,d\n", r"line 3: has 2 columns, expected 3"),
    (".csv", "a,b,1\nc\rd,e,0\n", r"line 3: .*line ends out of place"),
    (".csv", "a,b,1\nc,d,0\r\n", r"line 3: .*a carriage return stands before the line end"),
    (".csv", "a,b,1\n,d,0\nc,d,x\n", r"line \d: (one of the two sentences is blank|field 'score' is 'x')"),
    (".csv", f'a,b,1\n"{"x" * 1_000_001}",d,0\n', r"line 3: a cell holds more than 1,000,000 characters"),
    (".csv", f'a,b,1\n"{"x" * 100}\n' + "y,z,0\n" * 200_000, r"line 3: a cell .* or a quotation mark is never closed"),
    (".csv", "a,b,nan\n", r"line 2: field 'score' is 'nan'; expected a finite number"),
    (".csv", "a,b,1_0\n", r"line 2: field 'score' is '1_0'; expected a finite number"),
    (".csv", f"a,b,{'9' * 5000}\n", r"line 2: field 'score' is '9{60}'; expected a finite number"),
    (".jsonl", DEEP, r"line 1: (is not JSON \(numbers or nesting beyond measure\)|has the \w+ .*a)"),
    (".jsonl", '{"sentence1": ' + "9" * 5000 + "}", r"line 1: is not JSON \(numbers or nesting"),
    (".jsonl", '{"sentence1":"a","sentence1":"b"}', r"line 1: is not JSON \(the key 'sentence1' stands there twice\)"),
    (".jsonl", '{"sentence1":["a"],"sentence2":"b","score":1}', r"line 1: field 'sentence1' is a list; expected"),
    (".jsonl", '{"sentence1":"a","sentence2":{"b":1},"score":1}', r"line 1: field 'sentence2' is a dict"),
    (".jsonl", '{"sentence1":"a","sentence2":null,"score":1}', r"line 1: field 'sentence2' is None"),
    (".jsonl", '{"sentence1":"a","sentence2":"b","score":true}', r"line 1: field 'score' is True"),
    (".jsonl", '{"sentence1":"a","sentence2":"b","score":1e999}', r"line 1: field 'score' is inf"),
    (".jsonl", '{"sentence1":"a","sentence2":"b","score":' + "9" * 400 + "}", r"line 1: field 'score' is 9{60}"),
    (".jsonl", '{"sentence1":"\\ud83d","sentence2":"b","score":1}', r"line 1: field 'sentence1' holds half of a surro"),
    (".jsonl", '{"text_a":"a","text1":"a","sentence2":"b","score":1}', r"line 1: 'text_a' and 'text1', and either may"),
    (".jsonl", '{"sentence1":"a","sentence2":"' + "x" * 1_000_001 + '","score":1}', r"'sentence2' holds 1,000,001"),
    (".json", '[{"sentence1":"a","sentence2":"b","score":1},[1]]', r"entry 2: is a list"),
    (".json", '{"sentence1":{"0":"a"},"sentence2":{"0":"b"},"score":{"0":1}}', r"line 1: field 'sentence1' is a dict"),
    (".json", '[{"sentence1":"a",\n"sentence2":}]', r"is not JSON \(Expecting value at line 2, column 13\)"),
    (".csv", "sentence1,sentence1,sentence2,score\n", r"line 1: there are two columns 'sentence1'"),
    (".jsonl", "{}\n".encode("utf-16-le") * 3, r"line 1 is not UTF-8.*iconv -f utf-16le"),
    (".csv", HEAD.encode("utf-16-be") * 3, r"line 1 is not UTF-8.*iconv -f utf-16be"),
    (".csv", HEAD.encode("utf-16") * 3, r"line 1 is not UTF-8.*iconv -f utf-16 "),
    (".csv", b"sentence1,sentence2,score\na,\xfc,1\n", r"line 2 is not UTF-8 \(byte b'\\xfc' at offset 28\).*latin1"),
    (".csv", b"\x1f\x8b\x08", "is a gzip file"),
    (".csv.gz", b"\x1f\x8b\x08", "is no table that can be read"),
]  # fmt: skip


@pytest.mark.parametrize("read", [pairs, scored])
@pytest.mark.parametrize(("ending", "content", "message"), ANY_TABLE)
def test_what_may_be_meant_otherwise_is_refused_with_its_line(
    read: Reader, ending: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    if ending == ".csv" and isinstance(content, str) and not content.startswith("sentence1"):
        content = HEAD + content
    file = written(tmp_path / f"table{ending}", content)
    with pytest.raises(InputError, match=message) as caught:
        read(file)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.csv", 'sent0,sent1,hard_neg\n"One, a.",b,c\n', [("One, a.", "b", "c")]),
        ("a.csv", "query,hard_negative,positive\na,c,b\n", [("a", "b", "c")]),
        ("a.csv", "id,anchor,positive,negative\n7,a,b,c\n", [("a", "b", "c")]),
        ("a.tsv", "sent0\tsent1\thard_neg\na\tb\tc\n", [("a", "b", "c")]),
        ("a.json", '[{"anchor":"a","positive":"b","negative":"c","x":1}]', [("a", "b", "c")]),
    ],
)  # fmt: skip
def test_triplets_are_read_by_name(name: str, content: str, rows: list[tuple[str, ...]], tmp_path: Path) -> None:
    assert triplets(written(tmp_path / name, content)) == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            'sent0,sent1,hard_neg\nOne.,A one.,No one.\nTwo.,A two.,"No two.\nThree.,A three.,No three.\n',
            "line 3: the row that begins here has quotation marks",
        ),
        ("a.csv", "sent0,sent1,hard_neg\nOne.,A one, too.,No one.\n", "line 2: has 4 columns, expected 3"),
        ("a.csv", "sent0,sent1\na,b\n", "missing: negative"),
        ("a.csv", "premise,hypothesis,contradiction\na,b,c\n", "line 1: .*missing: anchor, positive, negative"),
        ("a.csv", "anchor,positive text,negative text\na,b,c\n", "line 1: .*missing: positive, negative"),
        ("a.csv", "7,One.,A one.,No one.\n", "line 1: .*missing: anchor"),
        ("a.csv", "sentence1,sentence2,score\na,b,1\n", "these are pairs"),
        ("a.jsonl", '{"anchor":"a","positive":"b","negative":["c"]}', "line 1: field 'negative' is a list"),
        ("a.jsonl", DEEP, r"line 1: (is not JSON|has the columns \['a'\])"),
    ],
)
def test_triplets_that_may_be_meant_otherwise_are_refused(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises((InputError, DatasetError), match=message):
        triplets(written(tmp_path / name, content))


NAMELESS = "The first row of a table names its columns: if this one does not, write one above it"


@pytest.mark.parametrize(
    "first",
    [
        "anchor text,positive text,negative text",
        "premise,hypothesis,contradiction",
        '"Ankersatz","positiver Satz","negativer Satz"',
        "phrase,phrase proche,phrase éloignée",
        "原文,正例,负例",
        "a,b,c",
        "x,x,x",
        "What is said?,What means the same?,What does not?",
        "A man plays a flute.,Someone plays the flute.,A man sleeps.",
        "0,1,2",
    ],
)
@pytest.mark.parametrize("read", [pairs, scored, triplets, sentences])
def test_a_first_row_without_known_names_is_never_taken_for_a_row(read: Reader, first: str, tmp_path: Path) -> None:
    rows = f"{first}\nOne.,A one.,0.5\nTwo.,A two.,1\n"
    for ending, separator in ((".csv", ","), (".tsv", "\t"), (".csv", ";")):
        file = written(tmp_path / f"a{ending}", rows.replace(",", separator))
        with pytest.raises((InputError, DatasetError), match=f"a{ending}, line 1: .*{NAMELESS}"):
            read(file)


@pytest.mark.parametrize(
    ("read", "header", "row"),
    [
        (pairs, "sentence1,sentence2,score", "a,b,1"),
        (scored, "sentence1,sentence2,score", "a,b,1"),
        (triplets, "anchor,positive,negative", "a,b,c"),
        (sentences, "id,text", "1,a"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_names_in_the_middle_of_tables_that_were_joined_are_no_row(
    read: Reader, header: str, row: str, mark: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "a.csv", f"{mark}{header}\n{row}\n{mark}{header}\n{row}\n")
    with pytest.raises(InputError, match=r"a\.csv, line 3: names the columns once more"):
        read(file)


@pytest.mark.parametrize(
    ("header", "names"),
    [("text,id", "id,text"), ("text,id", "Text,ID"), ("sentence,id,text", "text, id,\ufeffSENTENCE")],
)
def test_names_of_joined_tables_may_come_in_another_order_or_case(header: str, names: str, tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", f"{header}\n{header.replace('t', 'x')}\n{names}\n")
    with pytest.raises(InputError, match=r"a\.csv, line \d: names the columns once more"):
        sentences(file)


A_PAIR: dict[str, object] = {"sentence1": "a", "sentence2": "b"}
A_TRIPLET: dict[str, object] = {"positive": "b", "negative": "c"}


@pytest.mark.parametrize(
    ("read", "first", "second"),
    [
        (scored, A_PAIR | {"score": 0.9}, A_PAIR | {"label": 4}),
        (scored, A_PAIR | {"label": 0.9}, A_PAIR | {"similarity": 77}),
        (scored, A_PAIR | {"score": 0.9}, {"text_a": "a", "sentence2": "b", "score": 1}),
        (pairs, A_PAIR | {"score": 0.9}, A_PAIR | {"label": 4}),
        (pairs, A_PAIR | {"score": 0.9}, A_PAIR | {"score": 0.8, "num_tokens": 4}),
        (triplets, A_TRIPLET | {"anchor": "a"}, A_TRIPLET | {"query": "a"}),
        (sentences, {"text": "A", "sentence1": "a"}, {"sentence1": "b"}),
        (sentences, {"sentence1": "a"}, {"text": "B", "sentence1": "b"}),
    ],
)
def test_the_columns_are_the_same_for_every_row_and_file(
    read: Reader, first: dict[str, object], second: dict[str, object], tmp_path: Path
) -> None:
    file = written(tmp_path / "a.jsonl", f"{json.dumps(first)}\n{json.dumps(second)}\n")
    with pytest.raises(
        (InputError, DatasetError), match=r"a\.jsonl, line 2: the columns to read would be .*line 1 they are "
    ):
        read(file)
    for i, row in enumerate((first, second)):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"part-{i}.parquet")
    file.unlink()
    with pytest.raises(
        (InputError, DatasetError), match=r"part-1\.parquet: the columns to read would be .*part-0\.parquet"
    ):
        read(tmp_path)


@pytest.mark.parametrize("read", [pairs, scored])
def test_of_two_columns_that_may_be_the_score_none_is_taken(read: Reader, tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", "sentence1,sentence2,score,label\na,b,1,4\nc,d,0,2\n")
    with pytest.raises(InputError, match=r"line 1: has both 'score' and 'label'; remove one"):
        read(file)


def test_sentences_name_the_columns_that_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    file = written(tmp_path / "a.tsv", "index\tgenre\tsentence1\tsentence2\tscore\n0\tg\tA.\tB.\t5\n")
    assert sentences(file) == [("A.",)]
    assert "columns that are not used: 'index', 'genre', 'sentence2', 'score'" in caplog.text


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize(
    "rows",
    [
        '"I am tired,|ok|1\nand so is she"|fine|0.5\n',
        'I|"ok, he said|1\nso|it is"|0.5\n',
        '"I|a|1\nyou|b|0\nwe"|c|0.5\n',
    ],
)
def test_rows_are_not_joined_where_the_marks_may_quote_nothing(rows: str, separator: str, tmp_path: Path) -> None:
    rows = rows.replace(",", ";").replace("|", separator)
    head = separator.join(("sentence1", "sentence2", "score")) + "\n"
    file = written(tmp_path / "a.csv", head + f"a{separator}b{separator}1\n" + rows)
    for read in (pairs, scored, sentences):
        with pytest.raises(InputError, match=r"line 3: .*each of its lines is a row, too, if the marks quote nothing"):
            read(file)
    quoted = "".join(f'"{name}"{separator}' for name in ("sentence1", "sentence2")) + '"score"\n'
    assert len(pairs(written(tmp_path / "b.csv", quoted + rows))) == 1


@pytest.mark.parametrize("labels", [("0,5", "1,0"), ("50%", "7 %"), ("nan", "-NaN"), ("inf", "-inf"), ("1/2", "½")])
def test_labels_that_are_numbers_of_another_notation_are_no_words(labels: tuple[str, str], tmp_path: Path) -> None:
    rows = "".join(f"a{i};b;{label}\n" for i, label in enumerate(labels))
    with pytest.raises(InputError, match=r"line 2: field 'label' looks like a number, but .*such as 0\.5"):
        pairs(written(tmp_path / "a.csv", "sentence1;sentence2;label\n" + rows))
    texts = written(tmp_path / "b.csv", "text;label\n" + "".join(f"a;{label}\n" for label in labels))
    assert [row[1] for row in pairs(texts)] == list(labels)


def test_values_that_mean_none_elsewhere_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path / "a.csv", "text\nNaN\nNULL\nA.\nNaN\n")
    assert sentences(file) == [("NaN",), ("NULL",), ("A.",)]
    assert "a.csv: taken as texts, though they may mean that there is no value: 'NaN' (2), 'NULL' (1)" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "NA",
        "None",
        "n/a",
        "N.A.",
        "-",
        "?",
        "…",
        "...",
        "TBD",
        "undefined",
        "nil",
        "(null)",
        "[deleted]",
        "[Removed]",
        "see above",
        "Same as above.",
        "ditto",
        "〃",
        "test",
        "Test 2",
        "asdf",
        "Lorem ipsum dolor sit amet consectetur.",
        "[image]",
        "your text here",
        "no answer",
        "wie oben",
        "missing",
        "X",
        "#BEZUG!",
        "#¿NOMBRE?",
        "#Н/Д",
        "#NV",
        "Err:502",
        "Loading...",
    ],
)
def test_what_people_write_for_no_value_is_counted_wherever_it_stands(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = f"taken as texts, though they may mean that there is no value: {text!r} (1)"
    for name, content, read in (
        ("a.txt", f"A.\n{text}\n", sentences),
        ("p.csv", f"sentence1,sentence2,score\nA.,{text},1\nC.,D.,0\n", pairs),
        ("t.csv", f"anchor,positive,negative\nA.,B.,{text}\n", read_triplets),
    ):
        caplog.clear()
        read(written(tmp_path / name, content))
        assert told in caplog.text, name


@pytest.mark.parametrize("cell", ["['A man {}.']", '[""A man {}.""]', "b'A man {}.'"])
def test_tables_of_what_python_prints_are_refused(cell: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f'"{cell.format(i)}"\n' for i in range(3))
    triplet_rows = "".join(f'A {i}.,B {i}.,"{cell.format(i)}"\n' for i in range(3))
    with pytest.raises(InputError, match=r"3 of 3 texts of column 'negative' are such"):
        triplets(written(tmp_path / "t.csv", "anchor,positive,negative\n" + triplet_rows))
    with pytest.raises(
        InputError, match=r"a\.csv: 3 of 3 texts of column 'text' are such as .*as Python prints lists and bytes"
    ):
        sentences(written(tmp_path / "a.csv", "text\n" + rows))
    assert "as Python writes them" not in caplog.text, "the error says so"


@pytest.mark.parametrize(
    ("text", "encoding", "advice"),
    [
        ("日本語の文です。", "shift-jis", "find out its encoding, and convert the file first: iconv -f ENCODING"),
        ("这是一个句子。", "gbk", "find out its encoding"),
        ("Мужчина играет.", "koi8-r", "find out its encoding"),
        ("Überall spielt ein Mann.", "latin1", "for example: iconv -f latin1"),
        ("“Über” – so.", "cp1252", "for example: iconv -f CP1252"),
    ],
)
def test_an_encoding_is_named_only_where_the_bytes_look_like_it(
    text: str, encoding: str, advice: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(text.encode(encoding))
    with pytest.raises(InputError, match=advice):
        sentences(file)


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([1, 2, 5, 9, 0, 9], "the highest score is 9 .*, and no other is above 5; if it says that there is none"),
        ([1, 2, 5, 6, 7, 9], ""),
        ([1, 2, 3, 4, 5, 6, 7], ""),
        ([0, 9, 0, 9], ""),
    ],
)
def test_a_high_score_apart_from_all_others_is_told(
    scores: list[int], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"A {i}.,B.,{score}\n" for i, score in enumerate(scores))
    pairs(written(tmp_path / "a.csv", "sentence1,sentence2,score\n" + rows))
    assert re.search(told, caplog.text) if told else "highest score" not in caplog.text


def test_a_decimal_comma_is_told_as_that(tmp_path: Path) -> None:
    for score in ("0,5", "5,00E-01"):
        with pytest.raises(InputError, match=f"'score' is '{score}'; expected a finite number .with a point before"):
            pairs(written(tmp_path / "a.csv", f"sentence1;sentence2;score\nA.;B.;{score}\n"))


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_byte_order_marks_are_no_part_of_sentences(name: str, tmp_path: Path) -> None:
    lines = {"a.txt": "A.\n\ufeffB.", "a.csv": "\ufefftext\nA.\n\ufeffB.", "a.jsonl": '"A."\n"\ufeffB."'}
    assert sentences(written(tmp_path / name, "\ufeff" + lines[name])) == [("A.",), ("B.",)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", HEAD + 'a,b,1\n\ufeff"c",d,0\n'),
        ("a.csv", "\ufeff\u200bsentence1,sentence2\u200b,Score\xa0\na,b,1\n\ufeffc,d,0\n"),
        ("a.tsv", HEAD.replace(",", "\t") + "a\tb\t1\n\ufeffc\td\t0\n"),
        ("a.jsonl", '{"text_a":"a","text_b":"b","label":1}\n\ufeff{"text_a":"c","text_b":"d","label":0}\n'),
    ],
)
def test_byte_order_marks_where_files_were_joined_are_no_part_of_pairs(name: str, content: str, tmp_path: Path) -> None:
    file = written(tmp_path / name, content)
    assert pairs(file) == scored(file) == [("a", "b", 1.0), ("c", "d", 0.0)]


def test_names_of_sentences_are_known_in_any_case(tmp_path: Path) -> None:
    assert sentences(written(tmp_path / "a.csv", "sentence1,\u200bText\nno,yes\n")) == [("yes",)]
    with pytest.raises(InputError, match="'Text' and 'TEXT', and either may be 'text'"):
        sentences(written(tmp_path / "a.csv", "Text,TEXT\nno,yes\n"))


def test_nul_characters_are_no_text(tmp_path: Path) -> None:
    row = '{"sentence1": "a", "sentence2": "b\\u0000", "score": 1}'
    with pytest.raises(InputError, match="line 1: field 'sentence2' holds a NUL character"):
        pairs(written(tmp_path / "a.jsonl", row))


def test_the_separator_is_seen_outside_of_quotation_marks(tmp_path: Path) -> None:
    assert sentences(written(tmp_path / "a.csv", 'text;"b, c"\nA.;x\n')) == [("A.",)]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"BZh91AY", "bzip2"),
        (b"ARROW1\0\0", "Arrow"),
        (b"SQLite format 3\0", "SQLite"),
        (b"\x93NUMPY\x01", "NumPy"),
        (b"\x80\x04\x95", "pickle"),
        (b"a.txt" + b"\0" * 252 + b"ustar", "tar"),
    ],
)
def test_what_is_no_text_is_called_by_its_name(content: bytes, kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"this is a {kind}.* file, not text"):
        sentences(written(tmp_path / "a.txt", content))


BLANK = ["", " ", "\u00a0\u3000", "\u200b", "\ufeff", "\u00ad\u2060", "\u3164", "\u2800", "\ufe0f", "\x01\x7f"]


@pytest.mark.parametrize("blank", BLANK)
def test_texts_of_which_nothing_can_be_seen_are_dropped_and_counted_or_refused(blank: str, tmp_path: Path) -> None:
    rows = [("a", "b"), ("c", blank), (blank, "d"), ("👩\u200d🔬", "日本"), ("…", "é")]
    named = [{"sentence1": x1, "sentence2": x2, "score": i % 2} for i, (x1, x2) in enumerate(rows)]
    file = written(tmp_path / "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in named))
    splits = prepare_pairs(read_pairs(file), random_negatives=0, validation_share=0, labels=(0, 1))
    assert (splits.counts["dropped_blank"], splits["train"].num_rows) == (2, 3)
    with pytest.raises(InputError, match="line 2: one of the two sentences is blank"):
        read_pair_file(file)
    with pytest.raises(DatasetError, match="column 'sentence1' of the train split is blank in row 2; leave such rows"):
        pair_splits(DatasetDict(train=read_pairs(file), validation=read_pairs(file)), 2, "cosine")
    with pytest.raises(DatasetError, match="column 'sentence1' of the data set is blank in row 2"):
        to_input_examples(read_pairs(file))
    found = read_sentences(file)
    assert (found.texts[:], found.counts) == (["a", "c", "👩\u200d🔬", "…"], {"read": 5, "kept": 4, "blank": 1})

    texts = [{"anchor": "a", "positive": x1, "negative": x2} for x1, x2 in [("b", "c"), *rows[1:]]]
    file = written(tmp_path / "triplets.jsonl", "".join(json.dumps(row) + "\n" for row in texts))
    splits = prepare_triplets(read_triplets(file), validation_share=0)
    assert (splits.counts["dropped_blank"], splits["train"].num_rows) == (2, 3)
    with pytest.raises(DatasetError, match="column 'positive' of the train split is blank in row 2"):
        triplets_to_train(DatasetDict(train=read_triplets(file), validation=read_triplets(file)))


@pytest.mark.parametrize("megabytes", [2, 30])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_line_that_is_no_sentence_is_refused_at_once(name: str, megabytes: int, tmp_path: Path) -> None:
    line = b"word " * (200_000 * megabytes)
    line = {"a.txt": line, "a.jsonl": b'{"text": "' + line + b'"}', "a.csv": b"text\n" + line}[name]
    file = written(tmp_path / name, line)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"line \d.*(holds|longer)"):
        read_sentences(file)
    assert time.monotonic() - start < 2


TEXTS = pa.array(["a", "b"])
KINDS = {
    "string": TEXTS,
    "large_string": TEXTS.cast(pa.large_string()),
    "dictionary": TEXTS.dictionary_encode(),
}
if hasattr(pa, "string_view"):  # from pyarrow 16 on
    KINDS["string_view"] = TEXTS.cast(pa.string_view())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_text_column_is_read_everywhere(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    texts = dict.fromkeys(("sentence1", "sentence2", "anchor", "positive", "negative"), KINDS[kind])
    pq.write_table(pa.table({**texts, "score": [0, 1]}), file)
    assert pairs(file) == scored(file) == [("a", "a", 0.0), ("b", "b", 1.0)]
    assert triplets(file) == [("a", "a", "a"), ("b", "b", "b")]
    assert sentences(file) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([b"a", b"b"]), r"row 1: field 'sentence1' is b'a'; expected a text"),
        (pa.array([["a"], ["b"]]), "row 1: field 'sentence1' is a list"),
        (pa.array([{"a": 1}, None]), "row 1: field 'sentence1' is a dict"),
        (pa.array(["a", None]), "row 2: field 'sentence1' is None"),
        (pa.array([1, 2]), "row 1: field 'sentence1' is 1"),
        (pa.array([1, 1]).dictionary_encode(), "row 1: field 'sentence1' is 1"),
        (pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"]).buffers()), "holds what is no text"),
    ],
)
def test_columns_that_hold_no_text_are_refused_everywhere(values: pa.Array, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"sentence1": values, "sentence2": ["a", "b"], "score": [0, 1]}), file)
    for read in (pairs, scored, sentences):
        with pytest.raises(InputError, match=message):
            read(file)


def test_checksums_of_parquet_files_are_looked_at(tmp_path: Path) -> None:
    table = pa.table({"text": [f"sentence {i}" for i in range(9)]})
    file = tmp_path / "a.parquet"
    pq.write_table(table, file, compression="none", use_dictionary=False, write_page_checksum=True)
    assert len(sentences(file)) == 9
    file.write_bytes(file.read_bytes().replace(b"sentence 4", b"sentence 5", 1))
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read \(.*CRC checksum"):
        sentences(file)


def test_the_names_of_class_labels_are_read_and_not_their_numbers(tmp_path: Path) -> None:
    features = {"sentence1": Value("string"), "sentence2": Value("string"), "label": ClassLabel(names=["yes", "no"])}
    data = Dataset.from_dict({"sentence1": ["a"], "sentence2": ["b"], "label": [1]}, features=Features(features))
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    assert pairs(tmp_path / "a.parquet") == pairs(tmp_path / "saved") == [("a", "b", "no")]
    unlabelled = Dataset.from_dict({"sentence1": ["a"], "sentence2": ["b"], "label": [-1]}, features=Features(features))
    unlabelled.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"row 1: column 'label' is -1, which is none of its classes"):
        pairs(tmp_path / "b.parquet")


RAW = {
    "sentence1": ['A "b", c', "d\ne", "f"],
    "sentence2": ["g\th", "i;j", "k"],
    "score": [0.0, 0.5, 1.0],
    "x1_index": [0, 1, 2],
    "num_tokens": [3, 4, 5],
    "log_probs": [[-1.25, -2.5], [-3.0, -4.75], [-10.5, -0.125]],
    "plain_log_prob": [-1.5, None, -3.25],
    "topic": ["x", "y", "z"],
}


def save(data: Dataset, path: Path) -> Path:
    {".csv": data.to_csv, ".jsonl": data.to_json, ".parquet": data.to_parquet}.get(path.suffix, data.save_to_disk)(path)
    return path


@pytest.mark.parametrize("name", ["raw.csv", "raw.jsonl", "raw.parquet", "raw"])
def test_what_datasets_makes_of_our_pairs_is_read_with_its_columns(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Dataset.from_dict(RAW).filter(lambda row: row["score"] > 0)
    with caplog.at_level("INFO"):
        found = read_pairs(save(data, tmp_path / name))
    assert found.to_dict() == {name: values[1:] for name, values in RAW.items() if name != "topic"}
    assert caplog.text.count("columns that are not used: 'topic'") == 1
    assert [row[:2] for row in scored(tmp_path / name)] == list(zip(RAW["sentence1"], RAW["sentence2"], strict=True))[
        1:
    ]
    assert sentences(tmp_path / name) == [("d\ne",), ("f",)]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "t"])
def test_what_datasets_makes_of_our_triplets_is_read(name: str, tmp_path: Path) -> None:
    columns = {"anchor": ["a, b", "c"], "positive": ["d", "e"], "negative": ['f "g"', "h"], "x1_index": [0, 1]}
    data = Dataset.from_dict(columns).filter(lambda row: row["x1_index"] == 0)
    assert triplets(save(data, tmp_path / name)) == [("a, b", "d", 'f "g"')]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ""])
@pytest.mark.parametrize("kind", ["pairs", "triplets"])
def test_prepared_splits_that_datasets_wrote_again_are_trained_on(kind: str, ending: str, tmp_path: Path) -> None:
    names = ("anchor", "positive", "negative") if kind == "triplets" else ("sentence1", "sentence2")
    columns: dict[str, list[Any]] = {name: [f'{name} "{i}", \n' for i in range(60)] for name in names}
    prepare: Any = prepare_triplets
    if kind == "pairs":
        prepare, columns["score"] = prepare_pairs, [0.0, 0.5, 1.0] * 20
    data = prepare(Dataset.from_dict(columns))
    if ending:
        for name, split in data.items():
            save(split, tmp_path / f"{name}{ending}")
    else:
        DatasetDict(data).save_to_disk(tmp_path)
    read = (lambda data: pair_splits(data, 4, "cosine")) if kind == "pairs" else triplets_to_train
    assert {name: split.to_pylist() for name, split in read(tmp_path)[0].items()} == {
        name: split.to_list() for name, split in data.items()
    }


def triplets_to_train(data: Path | DatasetDict) -> Any:
    return triplet_splits(data, ContrastiveOptions(batch_size=4))


def test_splits_are_never_read_together(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for i in range(2):
            Dataset.from_dict({"text": [f"{split} {i}"]}).to_parquet(tmp_path / f"{split}-0000{i}-of-00002.parquet")
    with pytest.raises(InputError, match=r"several splits \(test, train\); give one file, such as .*test-00000-of"):
        read_sentences(tmp_path)
    assert sentences(tmp_path / "train-*.parquet") == [("train 0",), ("train 1",)]
    with pytest.raises(InputError, match="none that fits this as a pattern"):
        read_sentences(tmp_path / "dev-*.parquet")
    DatasetDict(train=Dataset.from_dict({"text": ["a"]}), test=Dataset.from_dict({"text": ["b"]})).save_to_disk(
        tmp_path / "both"
    )
    with pytest.raises(InputError, match=r"holds the splits test, train; give the directory of one, such as .*both"):
        read_sentences(tmp_path / "both")
    assert sentences(tmp_path / "both" / "train") == [("a",)]
    DatasetDict(dev=Dataset.from_dict({"text": ["a"]})).save_to_disk(tmp_path / "one")
    assert sentences(tmp_path / "one") == [("a",)]


def parts(directory: Path, *names: str, text: str = "text") -> Path:
    """Writes a row into each of the files, its own name."""
    for name in names:
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        row = Dataset.from_dict({text: [name]})
        {".csv": row.to_csv, ".jsonl": row.to_json, ".tsv": row.to_csv}.get(file.suffix, row.to_parquet)(file)
    return directory


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-00000-of-00002.parquet"], r"train-00001-of-00002\.parquet is missing"),
        (["data/test-00002-of-00003.parquet"], "test-00000-of-00003.parquet, test-00001-of-00003.parquet is missing"),
        (["train-00000-of-00002-0123456789abcdef.parquet"], r"train-00001-of-00002\.parquet is missing"),
        (["train-00000-of-00001.parquet", "train-00001-of-00001.parquet"], "no parts of one whole"),
        (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"], "no parts of one whole"),
        (
            ["train-00000-of-00001.parquet", "train-00000-of-00001-0123456789abcdef.parquet"],
            "train-00000-of-00001.parquet, train-00000-of-00001-0123456789abcdef.parquet are no parts of one whole",
        ),
        (["train-00000-of-00001.parquet", "train.parquet"], r"train\.parquet is no part of what"),
        (["data/train-00000.parquet", "data/train-00002.parquet"], r"train-00001\.parquet is missing"),
        (["a.parquet", "b.csv"], r"b\.csv would not be read beside a\.parquet; give one file, or a pattern"),
        (["a.parquet", "sub/b.parquet"], r"sub/b\.parquet would not be read"),
        (["split=train/b.parquet"], r"holds no table: .* give a folder below, such as .*split=train, or the file"),
        (["train.parquet", "train.jsonl"], r"train\.jsonl would not be read"),
        (["a.parquet", "b.csv.gz"], r"b\.csv\.gz would not be read"),
        (["a.parquet", "b.arrow"], r"b\.arrow would not be read"),
        (["data/a.parquet", "b.parquet"], "several splits"),
    ],
)
def test_a_directory_is_read_whole_or_not_at_all(names: list[str], message: str, tmp_path: Path) -> None:
    directory = parts(tmp_path, *names)
    for read in (pairs, scored, sentences, triplets):
        with pytest.raises(InputError, match=message):
            read(directory)


@pytest.mark.parametrize(
    ("first", "copy", "pattern"),
    [
        ("train.parquet", "train (1).parquet", ""),
        ("a.parquet", "a-copy.parquet", ""),
        ("a.csv", "b.csv", "*.csv"),
    ],
)
def test_files_of_the_same_bytes_are_not_read_twice(first: str, copy: str, pattern: str, tmp_path: Path) -> None:
    shutil.copy(parts(tmp_path, first) / first, tmp_path / copy)
    with pytest.raises(InputError, match="are byte for byte the same, so rows would be read twice; keep one"):
        sentences(tmp_path / pattern)


def test_a_pattern_takes_in_neither_hidden_files_nor_several_formats(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    parts(tmp_path, ".old.csv", "p.csv", "p10.csv", "p2.csv", "p.jsonl")
    assert sentences(tmp_path / "p*.csv") == sentences(tmp_path / "*.csv") == [("p.csv",), ("p2.csv",), ("p10.csv",)]
    assert sentences(tmp_path / ".*.csv") == [(".old.csv",)]
    with pytest.raises(InputError, match=r"p\.(csv|jsonl) and p\.(csv|jsonl) have the same name"):
        triplets(tmp_path / "p.*")
    caplog.clear()
    assert sentences(tmp_path / "p[2].csv") == [("p2.csv",)]
    assert "p[2].csv: there is no file of this name; as a pattern it fits p2.csv" in caplog.text
    parts(tmp_path, "p[2].csv")
    assert sentences(tmp_path / "p[2].csv") == [("p[2].csv",)]


def test_tables_behind_a_link_are_noticed(tmp_path: Path) -> None:
    parts(tmp_path / "elsewhere", "b.parquet")
    parts(tmp_path / "data", "a.parquet")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"more/b\.parquet would not be read"):
        sentences(tmp_path / "data")


def test_a_shard_of_a_saved_data_set_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    shutil.copy(tmp_path / "a" / "data-00001-of-00003.arrow", tmp_path / "a" / "data-00000-of-00003.arrow")
    with pytest.raises(InputError, match=r"data-00000-of-00003\.arrow and data-00001.* are byte for byte the same"):
        sentences(tmp_path / "a")


@pytest.mark.parametrize("other", [list("efg"), list("efghi")])
def test_shards_of_a_saved_data_set_in_the_place_of_another_are_refused(other: list[str], tmp_path: Path) -> None:
    Dataset.from_dict({"text": list("abcd")}).save_to_disk(tmp_path / "a", num_shards=2)
    assert sentences(tmp_path / "a") == [("a",), ("b",), ("c",), ("d",)]
    Dataset.from_dict({"text": other}).save_to_disk(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "data-00000-of-00001.arrow", tmp_path / "a" / "data-00001-of-00002.arrow")
    with pytest.raises(InputError, match=rf"a: its files hold 2, {len(other)} rows, which save_to_disk would have"):
        sentences(tmp_path / "a")


def test_shards_of_a_saved_data_set_that_were_swapped_are_refused(tmp_path: Path) -> None:
    Dataset.from_dict({"text": list("abcde")}).save_to_disk(tmp_path, num_shards=2)
    first, second = (tmp_path / f"data-0000{i}-of-00002.arrow" for i in range(2))
    first.rename(tmp_path / "third")
    second.rename(first)
    (tmp_path / "third").rename(second)
    with pytest.raises(InputError, match=r"its files hold 2, 3 rows, .* stands in another's place"):
        sentences(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.parquet", "train-00001-of-00002.parquet"], "train split.* train-00001-of-00002.parquet, train"),
        (["train.csv", "train2.csv", "validation.csv"], r"train split.* found train\.csv, train2\.csv"),
        (["train.csv", "train.tsv", "validation.csv"], r"train split.* found train\.csv, train\.tsv"),
        (["train.csv", "validation.csv", "validation/a.parquet"], r"validation split.* found validation, val"),
        (["train.csv", "test.csv"], r"validation split, such as validation\.csv, found none"),
        (["validation.csv"], r"train split, such as train\.csv, found none"),
    ],
)
def test_training_takes_a_table_for_each_split_or_none(names: list[str], message: str, tmp_path: Path) -> None:
    parts(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        pair_splits(tmp_path, 2, "cosine")


def test_training_warns_of_validation_rows_that_are_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    written(tmp_path / "train.csv", HEAD + "a,b,1\nc,d,0\ne,f,1\n")
    for name in ("valid.csv", "test.csv"):
        written(tmp_path / name, HEAD + "c,d,0\na,b,1\ng,h,0\n")
    (tmp_path / "old").mkdir()
    written(tmp_path / "old/train.csv", HEAD + "c,d,0\n")
    with pytest.warns(DinoWarning, match=r"2 of 3 rows of validation stand in train, too"):
        splits, _ = pair_splits(tmp_path, 2, "cosine")
    assert [splits[name].num_rows for name in splits] == [3, 3]
    assert "not trained on: old/train.csv, test.csv" in caplog.text


def test_validation_rows_of_a_prepared_set_that_are_trained_on_are_told(tmp_path: Path) -> None:
    rows = [(f"Das Haus {i} ist alt.", f"Haus {i} steht lange.", 0.5 + i % 2 / 2) for i in range(30)]
    both = [*rows, *((second, f" {first.upper()} ", score) for first, second, score in rows)]
    pairs = Dataset.from_list([dict(zip(("sentence1", "sentence2", "score"), row, strict=True)) for row in both])
    save_prepared(prepare_pairs(pairs, random_negatives=0, validation_share=0.2), tmp_path / "set")
    with pytest.warns(DinoWarning, match=r"set: 10 of 11 rows of validation stand in train, too"):
        pair_splits(tmp_path / "set", 2, "cosine")


def test_validation_rows_that_are_trained_on_with_their_sentences_exchanged_are_told(tmp_path: Path) -> None:
    written(tmp_path / "train.csv", HEAD + "a,b,1\nc,d,0\ne,f,1\n")
    written(tmp_path / "valid.csv", HEAD + "d,\u200bc,0\nb,a,1\nh,g,0\n")
    with pytest.warns(DinoWarning, match=r"2 of 3 rows of validation stand in train, too"):
        pair_splits(tmp_path, 2, "cosine")


def test_whole_directories_of_the_hub_are_read(tmp_path: Path) -> None:
    names = [f"data/train-0000{i}-of-00003{mark}.parquet" for i, mark in enumerate(("", "-0123456789abcdef", ""))]
    parts(tmp_path, *names, ".cache/huggingface/a.parquet")
    for note in ("README.md", "dataset_infos.json", "data/.b.csv"):
        written(tmp_path / note, "{}")
    assert sentences(tmp_path) == [(name,) for name in names]


def test_what_a_pattern_leaves_out_may_be_missing_and_what_it_takes_in_may_not(tmp_path: Path) -> None:
    names = [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    parts(tmp_path, names[0], names[2], "a-00000.parquet", "a-00002.parquet")
    assert sentences(tmp_path / "train-00000-*.parquet") == sentences(tmp_path / names[0]) == [(names[0],)]
    assert sentences(tmp_path / "a-0000[02].parquet") == [("a-00000.parquet",), ("a-00002.parquet",)]
    with pytest.raises(InputError, match=r"a-00001\.parquet is missing"):
        sentences(tmp_path / "a-*.parquet")
    with pytest.raises(InputError, match=r"train-00001-of-00003\.parquet is missing"):
        sentences(tmp_path / "train-*.parquet")
    parts(tmp_path, names[1])
    assert sentences(tmp_path / "train-*.parquet") == [(name,) for name in names]


def test_shards_are_compared_with_their_manifest_whatever_reads_them(tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "score": float(i % 2)} for i in range(4)]
    directory, schema = ShardDirectory(tmp_path), pa.Table.from_pylist(rows).schema
    with directory.open(configuration={}, provenance={}, schema=schema):
        directory.put(Wave(0, rows[:2], {"rows": 2}))
        directory.put(Wave(1, rows[2:], {"rows": 2}))
        directory.finish("# raw")
    assert scored(tmp_path) == pairs(tmp_path) == [tuple(row.values()) for row in rows]
    assert sentences(tmp_path) == [(row["sentence1"],) for row in rows]
    shard = directory.file_of(1)
    for damage in (lambda: pq.write_table(pa.Table.from_pylist(rows[:2]), shard), shard.unlink):
        damage()
        for read in (pairs, scored, sentences):
            with pytest.raises(
                InputError, match=r"train-00001\.parquet: missing or damaged, not as manifest\.json describes it"
            ):
                read(tmp_path)


def saved(directory: Path) -> Path:
    """What `save_to_disk` writes, in three files."""
    Dataset.from_dict({"text": ["a", "b", "c"]}).save_to_disk(directory, num_shards=3)
    return directory


def test_the_files_of_a_saved_data_set_are_those_that_it_lists(tmp_path: Path) -> None:
    assert sentences(saved(tmp_path / "whole")) == [("a",), ("b",), ("c",)]
    written(tmp_path / "whole" / "cache-0123456789abcdef.arrow", "of a map")
    assert len(sentences(tmp_path / "whole")) == 3

    (saved(tmp_path / "missing") / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(InputError, match=r"data-00001-of-00003\.arrow is missing"):
        sentences(tmp_path / "missing")

    Dataset.from_dict({"text": ["d"]}).save_to_disk(saved(tmp_path / "again"))
    with pytest.raises(InputError, match=r"data-00000-of-00003\.arrow, .* is not listed there"):
        sentences(tmp_path / "again")

    state = saved(tmp_path / "edited") / "state.json"
    listed = json.loads(state.read_text())
    written(state, json.dumps(listed | {"_data_files": listed["_data_files"][:2]}))
    with pytest.raises(InputError, match=r"data-00002-of-00003\.arrow is not listed there"):
        sentences(tmp_path / "edited")
    (tmp_path / "edited" / "data-00002-of-00003.arrow").unlink()
    with pytest.raises(InputError, match=r"data-00002-of-00003\.arrow is missing"):
        sentences(tmp_path / "edited")

    parts(saved(tmp_path / "beside"), "more.csv")
    with pytest.raises(InputError, match=r"more\.csv would not be read"):
        sentences(tmp_path / "beside")


def test_a_saved_data_set_that_is_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    data = Dataset.from_dict({"text": [f"text {i}" for i in range(40)]})
    data.save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, data.data.schema) as writer:
        writer.write_table(data.data.table, max_chunksize=4)  # so that there are places between batches
    content = file.read_bytes()
    assert len(sentences(tmp_path / "saved")) == 40
    for size in range(0, len(content), 8):
        file.write_bytes(content[:size])
        with pytest.raises(InputError, match="is cut off"):
            sentences(tmp_path / "saved")


def test_a_split_that_a_saved_set_of_splits_lists_is_missing(tmp_path: Path) -> None:
    data = Dataset.from_dict({"text": ["a"]})
    DatasetDict(train=data, test=data).save_to_disk(tmp_path)
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(InputError, match="holds the splits test, train; give the directory of one"):
        sentences(tmp_path)
    written(tmp_path / "dataset_dict.json", "[]")
    with pytest.raises(InputError, match=r"dataset_dict\.json: does not list the splits"):
        sentences(tmp_path)


def test_a_directory_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    for i in range(3):
        Dataset.from_dict({"text": [f"part {i}"]}).to_parquet(tmp_path / f"part-{i}.parquet")
    assert sentences(tmp_path) == [("part 0",), ("part 1",), ("part 2",)]
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no table"):
        read_sentences(tmp_path / "none")


def test_a_damaged_saved_data_set_is_an_input_error(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "saved")
    for file in (tmp_path / "saved").glob("*.arrow"):
        file.write_bytes(b"ARROW")
    with pytest.raises(InputError, match="is cut off; save the data set once more"):
        read_sentences(tmp_path / "saved")
    written(tmp_path / "saved" / "state.json", "{}")
    with pytest.raises(InputError, match="cannot be read as a saved data set"):
        read_sentences(tmp_path / "saved")


# Whatever pandas, datasets and the csv module write is read back the same, or refused

TEXT = st.text(st.sampled_from(list('ab \t\n\r",;\'\\\0é\u2028\ufeff日😀"')) | st.characters(codec="utf-8"), max_size=8)
ROWS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)
FAST = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def as_written(path: Path, columns: tuple[str, ...] = ("first", "second")) -> list[tuple[Any, ...]] | None:
    """The rows that are read; None where the table is refused."""
    try:
        return [tuple(row.values()) for _, row in table_rows(path, lambda names, _: {name: name for name in columns})]
    except InputError:
        return None


@FAST
@given(rows=ROWS, separator=st.sampled_from([",", "\t", ";"]), every=st.booleans(), end=st.sampled_from(["\n", "\r\n"]))
def test_what_the_csv_module_writes(
    rows: list[tuple[str, str]], separator: str, every: bool, end: str, tmp_path: Path
) -> None:
    content = io.StringIO(newline="")
    writer = csv.writer(content, delimiter=separator, lineterminator=end, quoting=every * csv.QUOTE_ALL)
    writer.writerows([("first", "second"), *rows])
    found = as_written(written(tmp_path / ("a.tsv" if separator == "\t" else "a.csv"), content.getvalue()))
    assert unmarked(found) == unmarked([*rows]) or (found is None and not every and may_be_refused(rows, separator))


@FAST
@given(rows=ROWS, separator=st.sampled_from([",", "\t"]))
def test_what_pandas_writes_as_csv(rows: list[tuple[str, str]], separator: str, tmp_path: Path) -> None:
    file = tmp_path / ("a.tsv" if separator == "\t" else "a.csv")
    pd.DataFrame(rows, columns=["first", "second"]).to_csv(file, sep=separator, index=False)
    found = as_written(file)
    assert unmarked(found) == unmarked([*rows]) or (found is None and may_be_refused(rows, separator))


def unmarked(rows: list[tuple[Any, ...]] | None) -> list[tuple[Any, ...]] | None:
    """The rows without the byte-order marks with which lines begin: files that were joined have them."""
    return rows and [tuple(re.sub("(?m)^\ufeff+", "", text) for text in row) for row in rows]


def may_be_refused(rows: list[tuple[str, str]], separator: str) -> bool:
    """Whether a text has a carriage return, or holds both what separates columns and what separates rows."""
    return any("\r" in text or (separator in text and "\n" in text) for row in rows for text in row)


@FAST
@given(rows=ROWS, lines=st.booleans())
def test_what_pandas_writes_as_json(rows: list[tuple[str, str]], lines: bool, tmp_path: Path) -> None:
    file = tmp_path / ("a.jsonl" if lines else "a.json")
    pd.DataFrame(rows, columns=["first", "second"]).to_json(file, orient="records", lines=lines)
    assert as_written(file) == rows


@settings(FAST, max_examples=50)
@given(rows=ROWS, category=st.booleans())
def test_what_pandas_writes_as_parquet(rows: list[tuple[str, str]], category: bool, tmp_path: Path) -> None:
    frame = pd.DataFrame(rows, columns=["first", "second"])
    (frame.astype("category") if category else frame).to_parquet(tmp_path / "a.parquet")
    assert as_written(tmp_path / "a.parquet") == rows


@FAST
@given(rows=st.lists(st.text(max_size=6), min_size=1, max_size=3))
def test_halves_of_surrogate_pairs_are_read_or_refused(rows: list[str], tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", "".join(json.dumps({"first": text}) + "\n" for text in rows))
    assert as_written(file, ("first",)) == [(text,) for text in rows]
    text = {"sentence1": rows[0].replace("\0", "") + "\ud83d", "sentence2": "b", "score": 1}
    with pytest.raises(InputError, match="half of a surrogate pair"):
        read_pairs(written(tmp_path / "b.jsonl", json.dumps(text)))


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("text_a,text_b,label,sentence2", "'sentence2' and 'text_b'"),
        ("text1,text2,label,sentence1", "'sentence1' and 'text1'"),
        ("sentence1,text_b,score,sentence_b", "'text_b' and 'sentence_b'"),
    ],
)
def test_columns_of_two_families_are_no_pair(tmp_path: Path, header: str, named: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(f"{header}\nA cat sits.,A cat is sitting.,1,note\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"{named}, and either may be"):
        read_pairs(file)


def test_own_names_throughout_leave_others_alone(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("sentence1,sentence2,score,text1,text_b\nOne.,Two.,1,a,b\n", encoding="utf-8")
    assert read_pairs(file).to_list() == [{"sentence1": "One.", "sentence2": "Two.", "score": 1.0}]


def test_triplets_of_two_families_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "triplets.csv"
    file.write_text("sent0,sent1,hard_neg,positive\nA.,B.,C.,note\n", encoding="utf-8")
    with pytest.raises(InputError, match="'positive' and 'sent1', and either may be"):
        read_triplets(file)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "is a Git LFS pointer"),
        ("{\\rtf1\\ansi\nA man plays.\n}\n", "is a RTF"),
        ("<!DOCTYPE html>\n<p>A man plays.</p>\n", "is a HTML or XML"),
        ('<?xml version="1.0"?>\n<s>A man plays.</s>\n', "is a XML"),
        ("\ufeffWEBVTT\n\n00:01.000 --> 00:02.000\nA man plays.\n", "is a WebVTT"),
        ("\n1\n00:00:01,000 --> 00:00:02,000\nA man plays.\n", "looks like subtitles"),
        ("[00:12.00]A man plays.\n[00:15.10]It rains.\n", "looks like subtitles"),
        ("\n<html>\n<body>A man plays.</body></html>\n", "looks like HTML"),
        ("<tmx><body><tu><seg>A man plays.</seg></tu></body></tmx>\n", "looks like HTML or XML"),
        ("<corpus>\n <s>A man plays.</s>\n</corpus>\n", "looks like HTML or XML"),
        ('{\n "cells": [\n  {"source": ["A man plays."]}\n ]\n}\n', "looks like a Jupyter notebook"),
        ('{\n  "text": "A man plays."\n}\n', "JSON over several lines, .*json"),
        ('[\n  "A man plays.",\n  "It rains."\n]\n', "JSON over several lines"),
        ('["A man plays.", "It rains."]\n', "an array of JSON"),
        ('[{"text": "A man plays."}]\n', "an array of JSON"),
        ("# text = A man plays.\n1\tA\ta\tDET\n2\tman\tman\tNOUN\n\n", "CoNLL-U"),
        ("1\tA\ta\tDET\n2\tman\tman\tNOUN\n\n1\tIt\tit\tPRON\n", "columns between tabs"),
        ("A man plays.\tSomeone plays.\t4.2\nIt rains.\tIt pours.\t4.8\n", "columns between tabs.*csv or .tsv"),
        ("1\tA man plays.\n2\tIt rains.\n", "columns between tabs"),
        ("A man plays. ||| Someone plays.\nIt rains. ||| It pours.\n", r"columns between \|\|\|"),
        ('"A man plays.","Someone plays.",4.2\n"It rains.","It pours.",4.8\n', "columns between commas"),
        (" id |    text\n----+--------------\n  1 | A man plays.\n(1 row)\n", "a table drawn with"),
        ("     text\n --------------\n A man plays.\n(1 row)\n".replace(" ---", "----"), "a table drawn with"),
        ("+----+------+\n| id | text |\n+----+------+\n|  1 | A man. |\n+----+------+\n", "a table drawn with"),
        ("# Data\n\n| a | b |\n|---|:--|\n| A man plays. | It rains. |\n", "a table drawn with"),
        ("a | b\n--|--\nA man plays. | It rains.\n", "a table drawn with"),
        ("<<<<<<< HEAD\nA man plays.\n=======\nA dog plays.\n>>>>>>> other\n", "lines 1 to 5 are a conflict that git"),
        ("A.\n" * 999 + "<<<<<<< HEAD\nB.\n=======\n>>>>>>> c0ffee\n", "lines 1000 to 1003 are a conflict"),
        ("--- a.txt\n+++ b.txt\n@@ -1,2 +1 @@\n-A man plays.\n It rains.\n", "the difference of two files"),
        ("diff --git a/a.txt b/a.txt\nindex 0..1 100644\n", "the difference of two files"),
        ("INSERT INTO s VALUES (1,'A man plays.');\nINSERT INTO s VALUES (2,'It rains.');\n", "SQL"),
        ("-- dump\n\nCREATE TABLE `s` (\n  `text` text\n);\n", "SQL"),
        ("2026-01-01 10:00:00,123 INFO A man plays.\n2026-01-01 10:00:01,200 INFO It rains.\n", "a log"),
        ("Jan  1 10:00:00 host app: A man plays.\nJan  1 10:00:01 host app: It rains.\n", "a log"),
        ("[10:01] <ann> A man plays.\n[10:02] <bob> It rains.\n", "a log"),
        ("1/2/26, 10:00 - Ann: A man plays.\n1/2/26, 10:01 - Bob: It rains.\n", "a log"),
        ("INFO:app.main:A man plays.\nWARNING:app.main:It rains.\n", "a log"),
        ("@article{key2026,\n  title = {A man plays},\n}\n", "BibTeX"),
        ("% A paper\n\\documentclass{article}\n\\begin{document}\nA man plays.\n", "LaTeX"),
        ("\\section{Men}\nA man plays.\n", "LaTeX"),
        ("From ann@example.org Thu Jan  1 10:00:00 2026\nSubject: Men\n\nA man plays.\n", "a mail or mailbox"),
        ("From: Ann <ann@example.org>\nTo: Bob\nSubject: Men\n\nA man plays.\n", "a mail or mailbox"),
        ("TY  - JOUR\nTI  - A man plays\n", "references"),
        ("BEGIN:VCARD\nFN:Ann\n", "a calendar or address book"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n", "a key"),
        ('msgid "A man plays."\nmsgstr "Ein Mann spielt."\n', "translations"),
        ("#!/bin/sh\necho A man plays.\n", "a program"),
        ("import os\n\ndef main():\n    pass\n", "a program"),
        ("---\ntitle: Men\n---\nA man plays.\n", "YAML"),
        ("---\n- A man plays.\n- It rains.\n", "YAML"),
        ("[section]\nkey = A man plays.\n", "settings"),
        ("==> a.txt <==\nA man plays.\n\n==> b.txt <==\nIt rains.\n", "several files behind one another"),
        ("a.txt:12:A man plays.\na.txt:15:It rains.\n", "what `grep` found"),
        ("the 0.1 -0.2 0.3 0.4 0.5 0.6 0.7 0.8\nof 0.1 -0.2 0.3 0.4 0.5 0.6 0.7 0.8\n", "word vectors"),
        ("(ROOT (S (NP (DT A) (NN man)) (VP (VBZ plays))))\n", "trees of a parser"),
        ("__label__a A man plays.\n__label__b It rains.\n", "text with labels"),
        ("['A man plays.', 'It rains.']\n", "what Python or R prints"),
        ("['A man plays.' 'It rains.']\n", "what Python or R prints"),
        ("{'text': 'A man plays.'}\n{'text': 'It rains.'}\n", "what Python or R prints"),
        ("Traceback (most recent call last):\n  File 'x.py'\n", "what Python or R prints"),
        ("0   A man plays.\n1   It rains.\nName: text, dtype: object\n", "what Python or R prints"),
        ('[1] "A man plays."\n[2] "It rains."\n', "what Python or R prints"),
        ("commit c0ffee1\nAuthor: Ann <ann@example.org>\n\n    A man plays.\n", "a history of git"),
        ("total 8\n-rw-r--r-- 1 root root 12 Jan  1 10:00 a.txt\n", "what a shell prints"),
        ("00:01.000 --> 00:02.000\nA man plays.\n", "looks like subtitles"),
        ("id|satz\n1|A man plays.\n2|It rains.\n", r"columns between \|"),
        ("VALUES ('A man plays.'),\n('It rains.');\n", "SQL"),
        ("%YAML 1.2\n---\n- A man plays.\n", "YAML"),
        ("<?php echo 'A man plays.'; ?>\n", "a program"),
        ("#include <stdio.h>\nint main() {}\n", "a program"),
        ('const x = "A man plays.";\nconsole.log(x);\n', "a program"),
        ("502 Bad Gateway\nnginx\n", "an error of a web server"),
        ("A DT B-NP\nman NN I-NP\nplays VBZ O\n\n", "words with labels"),
        ("KEY=A man plays.\nOTHER=It rains.\n", "names with values"),
        ('"a" = "A man plays.";\n"b" = "It rains.";\n', "names with values"),
        ('"text": "A man plays.",\n"text": "It rains.",\n', "names with values"),
        ("1|A man plays.\n2|It rains.\n", r"columns between \|"),
        ("[00:00.000 --> 00:03.000] A man plays.\n", "subtitles"),
        ("DESC:manner How does a man play ?\nHUM:ind Who plays ?\n", "questions with labels"),
        ("(4 (2 A) (3 (2 man) (2 plays)))\n", "trees of a parser"),
        (">sp|P69905 HBA\nMVLSPADKTNVKAAWGKVGA\n", "FASTA"),
        ("data/a.wav\ndata/b.wav\n", "a list of files"),
        ("".join(f"https://example.org/{'a' * (60 + n % 3)}\n" for n in range(40)), "a list of addresses"),
        ("0:00:00.599,0:00:04.160\nA man plays.\n\n0:00:04.160,0:00:09.000\nIt rains.\n", "looks like subtitles"),
        ("C:\\data\\a.wav\nC:\\data\\b.wav\n", "a list of files"),
        ("['A man plays.']\n['It rains.']\n", "what Python or R prints"),
        ("b'A man plays.'\nb'It rains.'\n", "2 of 2 texts are such as .*as Python prints lists and bytes"),
    ],
)
def test_files_of_other_kinds_are_no_sentences(tmp_path: Path, content: str, kind: str) -> None:
    file = tmp_path / "sentences.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"sentences.txt: .*{kind}"):
        read_sentences(file)


ORDINARY = [
    "A man plays.\nIt rains.\n",
    "- Bonjour, dit-il.\n- Bonsoir.\nIl pleut.\nElle dort.\n",
    "From Monday on it rains.\nTo: nobody.\n",
    "--- and then ---\nA | B\n=======\n<3 you\n",
    "[Laughs] A man plays.\n[Laughs] It rains.\n",
    '"Yes," he said.\n"No," she said, "it rains."\n',
    "At 10:30 it rains.\n2026 was dry.\n",
    "<unk> plays <unk> .\nit rains .\n",
    "Ingredients:\nAn egg.\n# of eggs: 3\n",
    "(He laughs.)\n(S)he sleeps.\n",
    "\tA man plays.\n\tIt rains.\n",
    "select a man from the list.\nInsert into the slot.\n",
    "<<<<<<< one mark alone is no conflict\nIt rains.\n",
    "NOTE:this is a man\nHUM: he plays.\n1|2 of a cup\nbe.\n",
    "and/or.\nHe or/and she plays.\n",
    "> quoted\nA MAN PLAYS.\n",
    "b' or not b'\nIt rains.\nA = B = C\n",
    "pre- and post-war houses\nOver- or underpaid.\nSee vol.3 and fig.2.\n",
    "@ home.\nMail ana@example.org: it rains.\n12 May was dry.\nMay 12?\n",
]


@pytest.mark.parametrize("column", ["sentence1", "sentence2", "anchor", "positive", "negative"])
def test_numbers_in_a_column_of_texts_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str) -> None:
    is_pair = column.startswith("sentence")
    names = ["sentence1", "sentence2", "score"] if is_pair else ["anchor", "positive", "negative"]
    rows = [[str(1000 + i) if name == column else f"Text {name} {i} stands." for name in names] for i in range(9)]
    if is_pair:
        rows = [[*row[:2], str(i / 10)] for i, row in enumerate(rows)]
    file = written(tmp_path / "a.csv", "\n".join(map(",".join, [names, *rows])))
    assert len(pairs(file) if is_pair else triplets(file)) == 9
    assert f"9 of 9 texts of column {column!r} hold nothing but numbers, such as '1000'" in caplog.text
    caplog.clear()
    good = [[f"Text {name} {i} stands." if name != "score" else str(i) for name in names] for i in range(9)]
    assert pairs(written(file, "\n".join(map(",".join, [names, *good])))) if is_pair else True
    assert "numbers" not in caplog.text


def test_a_text_beside_a_second_one_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", "text,text2,label\nA dog.,A cat.,1\n")
    with pytest.raises(
        InputError, match=r"has 'text' beside 'text2', so these may be pairs; rename the first to 'sent"
    ):
        pairs(file)


@pytest.mark.parametrize("content", ORDINARY)
def test_an_ordinary_text_is_read_whatever_signs_its_sentences_hold(tmp_path: Path, content: str) -> None:
    file = written(tmp_path / "sentences.txt", content)
    assert [text for (text,) in sentences(file)] == [line.strip() for line in content.splitlines()]


def test_what_is_printed_on_paper_is_told_by_how_many_texts_have_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = "".join(f"The {i}th of the pre- and post-war houses is dry.\n" for i in range(14))
    sentences(written(tmp_path / "good.txt", good))
    assert not caplog.text
    sentences(written(tmp_path / "a.txt", good + "The com- pany grew.\nA let- ter came.\nOne was flooded.3\n"))
    assert "2 of 17 texts hold words with a hyphen and a space in them" in caplog.text
    assert (
        "1 of 17 texts hold numbers behind the full stop, as of footnotes, such as 'One was flooded.3'" in caplog.text
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("Start Date,Response ID,What was it?\n", "line 2: says 'Start Date' and 'Response ID' below columns of these"),
        (
            'What?,When?,Who?\n"{""ImportId"":""a""}",b,"{""ImportId"": ""QID1_TEXT""}"\n',
            "line 3: holds ids of Qualtrics",
        ),
    ],
)
def test_further_rows_of_names_are_refused(rows: str, message: str, tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", f"StartDate,ResponseId,text\n{rows}2024,R_1,It rains.\n")
    with pytest.raises(InputError, match=message):
        sentences(file)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("answer", ["accept", "reject", "ignore", "reject"], "2 of 4 say 'reject', 1 of 4 say 'ignore'"),
        ("AssignmentStatus", ["Approved", "Rejected", "Submitted", "Approved"], "1 of 4 say 'rejected'"),
        ("status", ["submitted", "discarded", "draft", "submitted"], "1 of 4 say 'discarded'"),
        (
            "status",
            [["submitted"], ["discarded", "discarded"], [], ["submitted", "discarded"]],
            "1 of 4 say 'discarded'",
        ),
        ("was_cancelled", [False, True, None, False], "1 of 4 say 'true'"),
        ("rating.responses.status", [["submitted"], ["discarded"], ["draft"], []], "1 of 4 say 'discarded'"),
        (
            "responses",
            [[{"value": 3, "status": one}] for one in ("submitted", "discarded", "discarded", "draft")],
            "2 of 4 say 'discarded'",
        ),
        (
            "responses",
            [{"rating": [{"value": 3, "status": one}]} for one in ("submitted", "discarded", "pending", "draft")],
            "1 of 4 say 'discarded'",
        ),
        ("annotations", [[{"was_cancelled": one, "result": []}] for one in (True, False) * 2], "2 of 4 say 'true'"),
        ("rating", [1, 2, 3, 4], None),
        ("responses", [["It rains."], ["discarded"], [], ["Yes."]], None),
        ("answer", ["accept", "accept", "accept", "accept"], None),
        ("answer", ["reject", "Paris", "accept", "accept"], None),
        ("status", ["married", "discarded", "draft", "submitted"], None),
    ],
)
def test_rows_that_annotators_turned_down_are_told(
    name: str, values: list[Any], told: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"sentence1": f"A {i} stands.", "sentence2": f"B {i} sits.", "score": i, name: value}
        for i, value in enumerate(values)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    lines = written(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for file in (tmp_path / "a.parquet", lines):
        for read in (pairs, sentences):
            caplog.clear()
            assert len(read(file)) == 4
            assert (f"rows that an annotator turned down are used, too: {told} in column {name!r}" in caplog.text) == (
                told is not None
            )
            assert ("turned down" in caplog.text) == (told is not None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Tom &amp; Jerry don&#39;t fight.", "characters as HTML writes them, such as 'Tom &amp;"),
        ("A%20man%20plays.", "characters as web addresses write them"),
        ("A <b>man</b> plays.", "tags of HTML or XML"),
        ("A man plays.\tSomeone plays.", "tabs, as between columns"),
        ("A man plays. ||| Someone plays.", r"\|\|\|, as between columns"),
        (r"A man plays.\nIt pours.", "characters behind a backslash"),
        (r"The man\u2019s flute.", "characters behind a backslash"),
        (r"It\'s a man.", "characters behind a backslash"),
        (r"and\/or", "characters behind a backslash"),
        (r"Red\, and green.", "characters behind a backslash"),
        ("RT @ana: A man plays.", "signs of tweets"),
        ("Ana Maria has joined the group.", "signs of chats"),
        ("Ben left the chat", "signs of chats"),
        ("A man plays. https://t.co/aB3dE9fGhI", "signs of tweets"),
        ("@ana A man plays.", "signs of tweets"),
        ("43831", "nothing but what Excel makes of a text"),
        ("1.23E+11", "nothing but what Excel makes of a text"),
        ("12-May", "nothing but what Excel makes of a text"),
        ("05.Mrz", "nothing but what Excel makes of a text"),
        ("May-12", "nothing but what Excel makes of a text"),
        ("########", "nothing but what Excel makes of a text"),
        ('{"ImportId":"QID1_TEXT"}', "objects of JSON"),
        ("The ﬁrst man.", "letters joined as in print"),
        ("The sec\xadond man.", "letters joined as in print"),
        ("A man_x000D_ plays.", "characters as Excel writes them"),
        ("CafÃ© noir.", "characters that were read in a wrong encoding"),
        ("Itâ€™s raining.", "characters that were read in a wrong encoding"),
        ("Ïðèâåò, êàê äåëà?", "characters that were read in a wrong encoding"),
        ("Poci¹g odje¿d¿a o dziewi¹tej.", "characters that were read in a wrong encoding"),
        ("Le garþon a mangÚ Ó la crÛperie.", "characters that were read in a wrong encoding"),
        ("рПЕЪД ПФРТБЧМСЕФУС Ч ДЕЧСФШ ЮБУПЧ.", "characters that were read in a wrong encoding"),
        ("The company #39;s shares fell.", "characters as HTML writes them"),
        ("He said, quot;it rains.", "characters as HTML writes them"),
        ("A \x1b[31mman\x1b[0m plays.", "control characters"),
        ("A man\ufeff plays.", "characters that are not seen"),
        ("A\u200b man plays.", "characters that are not seen"),
        ("A man \u202eplays\u202c.", "characters that are not seen"),
        ("\u202aA man plays.\u202c", "characters that are not seen"),
        ("A man plays.^M", "control characters or further line ends"),
        ("A man\u2028plays.", "control characters or further line ends"),
        ("A man plays -LRB- well -RRB- .", "marks of a tokenizer"),
        ("A well @-@ known man .", "marks of a tokenizer"),
        ("▁A▁man▁plays.", "marks of a tokenizer"),
        ("A man plays.</s>", "special tokens of language models"),
        ("A man [SEP] plays.", "special tokens of language models"),
        ("<|im_start|>A man plays.", "special tokens of language models"),
        ("A man plays.\\", "characters behind a backslash"),
        (r"A \emph{man} plays.", "commands of LaTeX"),
        ("=?utf-8?q?A_man_plays?=", "characters as mails write them"),
        ("A man=E2=80=99s flute.", "characters as mails write them"),
        ("=CONCAT(A2;B2)", "formulas of a spreadsheet"),
        ("A m a n p l a y s .", "spaces between letters"),
        ("12 34 567", "nothing but numbers"),
        ("A/DT man/NN plays/VBZ ./.", "words with tags"),
        ("A [[man]] plays.", "Markdown or wiki markup"),
        ("A [man](person) plays.", "Markdown or wiki markup"),
        ("A ${name} plays.", "places of a template"),
        ("A %(name)s plays.", "places of a template"),
        ("A (cid:116)all man plays.", "signs without a letter"),
        ("\uf0b7 A man plays.", "signs without a letter"),
        ("A [b]man[/b] plays.", "tags of forums"),
        ("A th?m plays.", "question marks inside words"),
        ("# A heading", "Markdown or wiki markup"),
        (" = A man = ".strip(), "Markdown or wiki markup"),
        ("== A man ==", "Markdown or wiki markup"),
        ("['A man plays.']", "as Python writes them"),
        ('["A man plays."]', "as Python writes them"),
        ("b'A man plays.'", "as Python writes them"),
        ('"A man plays.",', "a comma behind quotation marks"),
        ("----------", "lines of a table"),
        ("__label__a A man plays.", "labels of fastText"),
        ("    'A man plays.',", "a comma behind quotation marks"),
        ("- Page 3 of 20 -", "numbers of pages"),
        ("Page 12", "numbers of pages"),
        ("Total", "words of a row of totals"),
        ("Average: 2.5", "words of a row of totals"),
        ("30 rows", "words of a row of totals"),
        ("Total number of pairs: 30", "words of a row of totals"),
        ("Mean score", "words of a row of totals"),
        ("Durchschnitt: 2,5", "words of a row of totals"),
        ("Source: Reuters.", "what stands below a table"),
        ("Copyright (c) 2000-2024 example.com, inc. All rights reserved.", "what stands below a table"),
        ("Exported on 5/5/2024", "what stands below a table"),
        ("End of report", "what stands below a table"),
    ],
)
def test_what_sentences_seldom_hold_is_told_wherever_they_come_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    texts = ["A first one.", text, "A last one."]
    lines = "".join(f"{one}\n" for one in texts)
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    rows = "".join(json.dumps({"sentence1": one, "sentence2": one, "score": 0}) + "\n" for one in texts)
    for read, source in (
        (sentences, written(tmp_path / "a.txt", lines)),
        (sentences, Path("-")),
        (sentences, written(tmp_path / "a.jsonl", "".join(json.dumps({"text": one}) + "\n" for one in texts))),
        (sentences, tmp_path / "a.parquet"),
        (pairs, written(tmp_path / "pairs.jsonl", rows)),
    ):
        caplog.clear()
        assert text.strip() in [str(value).strip() for row in read(source) for value in row]
        assert re.search(f"{told}.*; they are taken as they stand", caplog.text), source


def test_somebody_who_left_a_room_is_told_as_no_sign_of_a_chat(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sentences(written(tmp_path / "a.txt", "She answered him once and then left the room.\nHe left the room.\n"))
    assert not caplog.records


@pytest.mark.parametrize(
    "line",
    [
        "- A man plays.",
        "> A man plays.",
        "12. A man plays.",
        "0012 A man plays.",
        "12;A man plays.",
        "1089-134686-0000 A MAN PLAYS",
        "A man plays.;1",
        "A man plays. (utt_001)",
        "User: A man plays.",
        "LABEL_1 A man plays.",
        "QSBtYW4gcGxheXMu",
        "A man plays. | It rains.",
        "A man plays. -> It rains.",
        "A man plays. => 0.8",
        "A man plays. / It rains.",
        "+A man plays.",
        "b. A man plays.",
        "Ann - A man plays.",
        "A man plays.   0.8",
        "Sentence 1: A man plays.",
        '"A man plays."',
        "“A man plays.”",
        "A man plays and con-",
        "https://example.org/a",
        f"A man plays {'and plays ' * 200}.",
    ],
)
def test_bullets_and_numbers_are_told_where_most_texts_have_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    others = "".join(f"It rains {word}.\n" for word in range(11))
    sentences(written(tmp_path / "a.txt", f"{others}{line}\n"))
    assert not caplog.text
    sentences(written(tmp_path / "a.txt", f"{line}\n" * 20 + others))
    assert "20 of 31 texts hold" in caplog.text


def test_signs_of_line_ends_are_told_where_most_texts_have_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(sentences(written(tmp_path / "a.txt", "A man plays.$\nIt rains.$\nHe has 5$\n"))) == 3
    assert "3 of 3 texts hold a sign for the line end" in caplog.text
    caplog.clear()
    assert len(sentences(written(tmp_path / "b.txt", "A man plays.\nIt rains.\nHe has 5$\n"))) == 3
    assert not caplog.text


WRAPPED = """\
The hotel on the hill has been closed since the storm took its roof off, and
nobody has asked the guests whether they would like their money back. In the
village people say that the owner left for the coast on the very next day,
with everything that was in the till. His cook, who is still there, feeds the
dog and waters the plants, although she has not been paid for as many weeks as
it takes to learn how to make a decent soup.
"""


def test_prose_whose_lines_are_broken_is_no_sentence_a_line(tmp_path: Path) -> None:
    for content in (WRAPPED, WRAPPED.replace("\n", "\r\n"), f"{WRAPPED}\n{WRAPPED}", WRAPPED.lower()):
        with pytest.raises(InputError, match=r"prose that is broken at 78 characters.*join"):
            sentences(written(tmp_path / "a.txt", content))
    width = f"{'x' * 60} {'y' * 15}"
    for content in (WRAPPED[:200], "\n".join(f"{i} {width}" for i in range(20)), "it rains\n" * 9 + f"and {width}"):
        assert len(sentences(written(tmp_path / "b.txt", content))) > 0


def test_sentences_that_differ_in_case_alone_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(sentences(written(tmp_path / "a.txt", "It rains.\nit rains.\nIT RAINS.\nA man plays.\n"))) == 4
    assert re.search("2 of 4 sentences differ from an earlier one in capitals alone, such as 'it rains.'", caplog.text)


def test_a_first_line_that_may_name_the_column_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert sentences(written(tmp_path / "a.csv.bak", "text\nA man plays.\n")) == [("text",), ("A man plays.",)]
    assert "line 1 is 'text', which is taken for a sentence, though it may name a column" in caplog.text


@pytest.mark.parametrize(
    ("first", "is_told"),
    [("Sentences", True), ("Sentence (EN)", True), ("Product review", True), ("It rains.", False), ("He is it", False)],
)
def test_a_short_line_above_sentences_may_name_the_column(
    first: str, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plays = [
        f"A man plays {tune}.\n" for tune in ("one", "a tune", "this", "all", "much", "it", "two", "so", "on", "up")
    ]
    assert len(sentences(written(tmp_path / "a.txt", f"{first}\n{''.join(plays)}"))) == 11
    assert (f"line 1 is {first!r}, which is taken for a sentence" in caplog.text) is is_told
    caplog.clear()
    sentences(written(tmp_path / "b.txt", f"{first}\n{''.join(plays)}It rains.\n"))
    assert "line 1" not in caplog.text, "where other lines are as short"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{\n  "text": "A."\n}\n{\n  "text": "B."\n}\n'),
        ("a.jsonl", '[\n  {\n    "text": "A."\n  },\n  {"text": "B."}\n]\n'),
        ("a.ndjson", '\n[{"text": "A."}, {"text": "B."}]\n'),
        ("a.jsonl", '{"text": "A.",\n "x": 1}\n\n{"text": "B."}'),
        ("a.json", '{\n  "text": "A."\n}{"text": "B."}\n'),
        ("a.json", '{"text": "A."}\n{"text": "B."}\n'),
    ],
)
def test_json_is_read_however_its_lines_are_broken(name: str, content: str, tmp_path: Path) -> None:
    assert sentences(written(tmp_path / name, content)) == [("A.",), ("B.",)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n  "text": "A."\n}\n{\n  "text":\n}\n', r"a\.jsonl, line 4: is not JSON \(Expecting value at line 6"),
        ('{"text" "A."}\n{"text": "B."}\n', r"a\.jsonl, line 1: is not JSON \(Expecting ':' delimiter at column 9"),
        ('{"text": "A."}\n{"text": "B."\n', r"a\.jsonl, line 2: is not JSON"),
        ('{\n  "text": "A."\n}\n{"text": 3}\n', r"a\.jsonl, line 4: field 'text' is 3"),
        ('["A.", "B."]\n["C."]\n', r"a\.jsonl, line 1: is a list"),
    ],
)
def test_broken_json_is_told_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        sentences(written(tmp_path / "a.jsonl", content))


@pytest.mark.parametrize(
    ("mark", "separator"), [("sep=;\r\n", ";"), ('"sep=,"\n', ","), ("sep=|\n", "|"), ("SEP=\t\n", "\t")]
)
def test_the_line_in_which_excel_names_the_separator_is_no_row(mark: str, separator: str, tmp_path: Path) -> None:
    head = separator.join(("sentence1", "sentence2", "score"))
    file = written(tmp_path / "a.csv", f"{mark}{head}\na{separator}b{separator}1\nc{separator}d{separator}0\n")
    assert pairs(file) == [("a", "b", 1.0), ("c", "d", 0.0)]
    written(file, f"{mark}{head}\na{separator}b{separator}1\nc{separator}d\n")
    with pytest.raises(InputError, match=r"a\.csv, line 4: has 2 columns, expected 3"):
        pairs(file)


@pytest.mark.parametrize(
    ("name", "rows"), [("a.csv", "text\nA.\n<<<<<<< HEAD\nB.\n=======\n"), ("a.tsv", "text\tid\nA.\t1\n>>>>>>> main\n")]
)
def test_a_conflict_of_git_in_a_table_is_no_row(name: str, rows: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: .{7} \w+ begins or ends what git could not merge; settle it first"):
        sentences(written(tmp_path / name, rows))


def test_the_encoding_that_is_named_has_the_bytes_that_are_there(tmp_path: Path) -> None:
    for text, encoding in (("Die Tür ist “zu”.", "CP1252"), ("Die Tür.", "latin1")):
        with pytest.raises(InputError, match=f"iconv -f {encoding} -t utf-8"):
            sentences(written(tmp_path / "a.txt", text.encode("cp1252")))


def scored_rows(*scores: float) -> str:
    return HEAD + "".join(f"One {i}.,Another {i}.,{score}\n" for i, score in enumerate(scores))


@pytest.mark.parametrize("read", [pairs, scored])
@pytest.mark.parametrize(
    "scores", [(1, -1, 0), (0, 1, -1, -1), (4.2, 0, -1), (0.2, 0, 1, 99), (5, 3, 999), (0.5, 1, -99), (0, 1, -100)]
)
def test_a_score_that_stands_for_none_is_refused(read: Reader, scores: tuple[float, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv, line \d: the score is -?[190]+, and the others are .*there is none"):
        read(written(tmp_path / "a.csv", scored_rows(*scores)))


@pytest.mark.parametrize("read", [pairs, scored])
@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ((-0.5, 3, 5, 2), r"scores from -0\.5 .*line 2\) to 5; are those below 0 scores, too"),
        ((0.1, 0.9, 0.5, 4, 5, 3), r"two scales.* some are 0 to 1, others up to 5 .*line 6"),
        ((0, 0.5, 1, 100), r"two scales.* 0 to 1, others up to 100"),
        ((0, 1, 0.5, 0.7, 40, 80, 100), r"two scales.* 0 to 1, others up to 100"),
        (
            (*(0.1 * (i % 11) for i in range(40)), *(0.5 * (i % 11) for i in range(40))),
            r"two scales.* 0 to 1, others up",
        ),
        (
            (*(5.0 * (i % 21) for i in range(40)), *(0.5 * (i % 11) for i in range(40))),
            r"two scales.* 0 to 5, others up",
        ),
    ],
)
def test_scores_of_two_scales_are_told(
    read: Reader, scores: tuple[float, ...], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(read(written(tmp_path / "a.csv", scored_rows(*scores)))) == len(scores)
    assert re.search(told, caplog.text)


@pytest.mark.parametrize(
    "scores",
    [
        (0, 0.5, 1),
        (-1, -0.5, 0, 1),
        (-2, -1, 0, 1, 2),
        (0, 1, 2, 3, 4, 5),
        (1, 5, 3.2, 4),
        (0, 25, 50, 75, 100),
        (0, 99, 50),
        tuple(i / 20 for i in range(101)),
        tuple(5 - i / 20 for i in range(101)),
        (*(0,) * 30, *(5,) * 30, *(0,) * 30),
        (-0.2, 0.4, 0.9),
    ],
)
def test_scores_of_one_scale_are_read_without_a_word(
    scores: tuple[float, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(scored(written(tmp_path / "a.csv", scored_rows(*scores)))) == len(scores)
    assert not caplog.text


@pytest.mark.parametrize("read", [pairs, scored])
def test_scores_of_two_scales_in_mixed_rows_are_told(
    read: Reader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(7)
    of_five = [round(5 * draw.random(), 2) for _ in range(300)]
    of_one = [round(draw.random(), 2) for _ in range(300)]
    mixed = [score for pair in zip(of_five, of_one, strict=True) for score in pair]
    draw.shuffle(mixed)
    read(written(tmp_path / "a.csv", scored_rows(*mixed)))
    assert re.search("two scales.* some are 0 to 1, others up to 4", caplog.text)
    caplog.clear()
    read(written(tmp_path / "b.csv", scored_rows(*of_five)))
    read(written(tmp_path / "c.csv", scored_rows(*(5 * draw.random() ** 2 for _ in range(300)))))
    assert not caplog.text


def test_pairs_that_stand_there_with_two_scores_are_told_and_count_as_they_stand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "a.csv", HEAD + "a,b,1\nb,a,0\na,b,1\nc,d,0.5\na,b,0.2\n")
    assert [score for _, _, score in scored(file)] == [1, 0, 1, 0.5, 0.2]
    assert re.search(
        r"2 of 5 pairs stand there before with another score, .*line 2 says 1 and .*line 3 0; each", caplog.text
    )


def test_scores_by_which_the_same_sentences_differ_most_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scored(written(tmp_path / "a.csv", HEAD + "a,a,1\nb,c,0\nd,e,0.5\n"))
    assert not caplog.text
    scored(written(tmp_path / "a.csv", HEAD + "a,a,0\nb,c,1\nd,e,0.5\n"))
    assert "1 of 3 pairs are of one and the same sentence, and have a lower score on average" in caplog.text


def test_pairs_of_nothing_but_the_same_sentence_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scored(written(tmp_path / "a.csv", HEAD + "a,a,1\nb,b,0\n"))
    assert "a.csv: both sentences of every pair are the same; are the right columns named?" in caplog.text


@pytest.mark.parametrize("top", [6, 5.5, 10])
def test_few_scores_just_above_a_scale_are_told(top: float, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = [i % 6 for i in range(60)]
    assert len(scored(written(tmp_path / "a.csv", scored_rows(*scores, top)))) == 61
    assert re.search(rf"1 of 61 scores above 5 \(.*line 62 says {top:g}\)", caplog.text)
    caplog.clear()
    scored(written(tmp_path / "d.csv", scored_rows(*(i % 49 / 10 for i in range(60)), 20 + top, 30 + top)))
    assert "2 of 62 scores above 5" in caplog.text
    caplog.clear()
    scored(written(tmp_path / "b.csv", scored_rows(*(i % 7 for i in range(60)))))
    scored(written(tmp_path / "c.csv", scored_rows(*(i % 6 for i in range(12)), top)))
    assert not caplog.text


def test_scores_that_fall_where_more_words_are_shared_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(f"A man plays a flute in room {i}.", f"A man plays in room {i}.", 0) for i in range(40)]
    rows += [(f"A man plays a flute in room {i}.", f"Nobody was at home in May {i}.", 1) for i in range(40)]
    write = lambda scores: written(  # noqa: E731
        tmp_path / "a.csv",
        HEAD + "".join(f"{one},{two},{score}\n" for (one, two, _), score in zip(rows, scores, strict=True)),
    )
    for read in (scored, pairs):
        caplog.clear()
        read(write([1 - score for *_, score in rows]))
        assert not caplog.text
        read(write([score for *_, score in rows]))
        assert re.search("the more words two sentences share, the lower their score .*RTE", caplog.text)


@pytest.mark.parametrize(("number", "is_told"), [(20, True), (12, False)])
def test_few_scores_that_fall_with_every_shared_word_are_told(
    number: int, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [f"{one}{vowel}" for one in "bdfgk" for vowel in "aeiou"][:number]
    rows = [f"{' '.join(words)},{' '.join(words[: i + 1])} x,{(number - i) / number}" for i in range(number)]
    scored(written(tmp_path / "a.csv", HEAD + "\n".join(rows) + "\n"))
    assert ("the more words two sentences share, the lower their score" in caplog.text) == is_told


def test_sentences_about_sums_sources_and_tests_are_read_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        "The test was easy.",
        "Total war began in 1914.",
        "See above the clouds.",
        "Same as always, he came late.",
        "The sum of all fears is a book.",
        "Number one is his brother.",
        "Average people sleep eight hours.",
        "Source code is read more often than written.",
        "Created in 1987, the museum was closed in 1999.",
        "Copyright law is hard to understand.",
        "\u1781\u17d2\u1789\u17bb\u17c6\u200b\u179a\u17c0\u1793\u200b\u1797\u17b6\u179f\u17b6\u17d4",
        "\u0642\u0631\u0623\u062a \u202ahello\u202c \u0627\u0644\u064a\u0648\u0645.",
        "Generated text has its writer's errors.",
        "Notes on a small island.",
        "Nobody knows who wrote this, unknown or not.",
        "Mean people are rarely happy.",
    ]
    assert sentences(written(tmp_path / "a.txt", "\n".join(lines))) == [(line,) for line in lines]
    assert not caplog.text


def test_what_databases_and_spreadsheets_write_for_no_value_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "sentences.tsv"
    file.write_text("text\n\\N\n#NAME?\nA man plays.\n", encoding="utf-8")
    list(read_sentences(file).texts)
    assert "may mean that there is no value: '\\\\N' (1), '#NAME?' (1)" in caplog.text


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("entailment", "ENTAILMENT", "neutral"), "labels 'ENTAILMENT' and 'entailment' would be two"),
        (
            ("not_paraphrase", "paraphrase", "Not paraphrase"),
            "labels 'Not paraphrase' and 'not_paraphrase' would be two",
        ),
        (("yes", "no", "Yes"), "labels 'Yes' and 'yes' would be two"),
    ],
)
def test_labels_that_are_spelled_in_two_ways_are_refused(labels: tuple[str, ...], told: str, tmp_path: Path) -> None:
    rows = "".join(f"One {i}.,Another {i}.,{label}\n" for i, label in enumerate(labels))
    with pytest.raises(InputError, match=rf"a\.csv: the {told}"):
        pairs(written(tmp_path / "a.csv", "sentence1,sentence2,label\n" + rows))


def test_labels_are_read_without_spaces_and_short_forms_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(
        f"One {i}.,Another {i}.,{one}\n" for i, one in enumerate(["neutral ", "neutral", " duplicate", "no"])
    )
    file = written(tmp_path / "a.csv", "sentence1,sentence2,label\n" + rows)
    assert [row[2] for row in pairs(file)] == ["neutral", "neutral", "duplicate", "no"]
    assert not caplog.text
    pairs(written(file, "sentence1,sentence2,label\n" + rows + "One.,Two.,duplicates\n"))
    assert "the labels 'duplicate' and 'duplicates' may be two spellings of one" in caplog.text


@pytest.mark.parametrize(
    ("read", "name", "content"),
    [
        (pairs, "a.csv", HEAD + "A <b>man</b>.,N/A,1\nA.,B.,C.,0\n"),
        (pairs, "a.csv", HEAD + "A <b>man</b>.,N/A,1\nA.,B.,01. Mai\n"),
        (scored, "a.csv", HEAD + "A <b>man</b>.,N/A,1\nA.,B.,01. Mai\n"),
        (triplets, "a.jsonl", '{"anchor": "<b>", "positive": "N/A", "negative": "x"}\n{"anchor": "a"}\n'),
        (sentences, "a.jsonl", '{"text": "A <b>man</b>."}\n{"text": 3}\n'),
        (sentences, "a.txt", b"A <b>man</b>.\nA caf\xe9.\n"),
    ],
)
def test_nothing_is_told_of_the_texts_of_what_is_refused(
    read: Reader, name: str, content: str | bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises((InputError, DatasetError), match=r"a\.(csv|txt|jsonl)") as caught:
        read(written(tmp_path / name, content))
    del caught
    gc.collect()
    assert not caplog.text


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_what_is_read_up_to_a_limit_is_told(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ['{"text": "A <b>man</b>."}', '{"text": "B."}', '{"text": 3}'] if name == "a.jsonl" else ["A <b>.", "B."]
    read_sentences(written(tmp_path / name, "\n".join(lines)), limit=1)
    gc.collect()
    assert "1 of 1 texts hold tags of HTML or XML" in caplog.text


def test_triplets_whose_columns_seem_exchanged_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        (f"A man plays flute number {i}.", f"Flute number {i} is played.", f"Rome {i + 99} burns.") for i in range(30)
    ]
    triplets(written(tmp_path / "a.csv", "anchor,positive,negative\n" + "".join(f"{a},{p},{n}\n" for a, p, n in rows)))
    assert not caplog.text
    triplets(written(tmp_path / "b.csv", "anchor,positive,negative\n" + "".join(f"{a},{n},{p}\n" for a, p, n in rows)))
    assert re.search(
        r"b\.csv: the first two texts of a row share 0\.0\d .*, and negatives with the anchor 0\.\d+, as where columns",
        caplog.text,
    )
    triplets(written(tmp_path / "c.csv", "anchor,positive,negative\n" + "".join(f"{n},{p},{a}\n" for a, p, n in rows)))
    assert re.search(r"c\.csv: .* and negatives with the positive 0\.\d+, as where columns", caplog.text)


@pytest.mark.parametrize(("further", "is_told"), [(6, True), (2, False)])
def test_negatives_that_share_two_and_a_half_times_the_words_of_positives_are_told(
    further: int, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def row(i: int) -> str:
        words = [f"w{chr(97 + i)}{chr(97 + place)}" for place in range(10 + further)]
        near, far = [*words[:8], "near", "close"], [*words[:4], *words[10:]]
        return ",".join(map(" ".join, (words[:10], far, near)))

    triplets(written(tmp_path / "a.csv", "anchor,positive,negative\n" + "".join(f"{row(i)}\n" for i in range(25))))
    assert ("negatives with the anchor 0.67, as where columns" in caplog.text) == is_told


@pytest.mark.parametrize("read", [pairs, scored, triplets])
@pytest.mark.parametrize("shift", [1, -1])
def test_columns_that_are_shifted_by_a_row_are_told(
    read: Reader, shift: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [f"{one}{vowel}{two}" for one in "bdfgk" for vowel in "aeiou" for two in "rt"][:30]
    first = [f"The {word} plays {word}s." for word in words]
    second = [f"Of {word}s the {word} has some." for word in words]
    third = [f"Rome {i + 99} burns." for i in range(30)] if read == triplets else [str(i % 6) for i in range(30)]
    head = "anchor,positive,negative\n" if read == triplets else HEAD

    def write(*columns: list[str]) -> Path:
        return written(tmp_path / "a.csv", head + "".join(map("{},{},{}\n".format, *columns)))

    read(write(first, second, third))
    assert not caplog.text
    read(write(first, second[shift:] + second[:shift], third))
    assert re.search(r"first two texts of a row share 0\.\d+ .* of the next row 0\.\d+, as where columns", caplog.text)


@pytest.mark.parametrize(("shift", "told"), [(1, "the row before"), (-1, "the next row"), (0, "")])
def test_negatives_that_are_shifted_alone_are_told(
    shift: int, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [f"{one}{vowel}{two}" for one in "bdfgk" for vowel in "aeiou" for two in "rt"][:40]
    anchors, positives, negatives = (
        [text.format(word) for word in words]
        for text in ("The {0} plays {0}s.", "Of {0}s the {0} has some.", "A {0} has no {0}s.")
    )
    moved = negatives[shift:] + negatives[:shift]
    rows = map("{},{},{}\n".format, anchors, positives, moved)
    triplets(written(tmp_path / "a.csv", "anchor,positive,negative\n" + "".join(rows)))
    assert (f"with those of {told}, as where the negatives were shifted" in caplog.text) if told else not caplog.text


def test_negatives_that_are_the_positives_of_the_next_row_are_none_that_were_shifted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [f"{one}{vowel}{two}" for one in "bdfgk" for vowel in "aeiou" for two in "rt"][:40]
    anchors, positives = (
        [text.format(word) for word in words] for text in ("The {0} plays {0}s.", "The {0} has {0}s.")
    )
    rows = map("{},{},{}\n".format, anchors, positives, positives[1:] + positives[:1])
    triplets(written(tmp_path / "a.csv", "anchor,positive,negative\n" + "".join(rows)))
    assert not caplog.text


@pytest.mark.parametrize("scores", [range(60), range(7000, 100, -7)])
def test_scores_that_count_the_rows_are_told(scores: range, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scored(written(tmp_path / "a.csv", scored_rows(*scores)))
    assert f"the scores count the rows, from {scores[0]} to {scores[-1]}; is this their column?" in caplog.text


def test_a_text_that_most_rows_have_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        f"One {i}.,{'Sorry, no.' if i % 3 else f'Two {i}.'},{i % 6}\n".replace("Sorry,", "Sorry") for i in range(60)
    ]
    pairs(written(tmp_path / "a.csv", HEAD + "".join(rows)))
    assert "40 of 60 texts of column 'sentence2' are one and the same, such as 'Sorry no.'" in caplog.text
