from __future__ import annotations

import io
import json
import os
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dino_st.data.sentences import clean_sentences, read_sentences
from dino_st.data.shards import ShardDirectory, Wave
from dino_st.errors import InputError

STSB = (
    'main\tMSRvid\t2012\t0001\t5.000\tA plane.\tAn air "plane.\nmain\tMSRvid\t2012\t0004\t3.800\tA flute.\tA plane.\n'
)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_text_files_give_a_sentence_a_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\ufeffOne.\r\n\r\n  Two. \nOne.\n\nT\0hree.\nFour\u2028four\x85.")
    sentences = read_sentences(path)
    assert sentences.texts[:] == ["One.", "Two.", "Four\u2028four\x85."]
    assert sentences.counts == {"read": 7, "kept": 3, "blank": 2, "duplicate": 1, "NUL byte": 1}
    assert sentences.skipped == {"skipped: blank": 2, "skipped: duplicate": 1, "skipped: NUL byte": 1}


def test_half_a_surrogate_pair_is_skipped_and_counted(tmp_path: Path) -> None:
    sentences = read_sentences(written(tmp_path / "a.jsonl", '{"text": "a \\ud800 b"}\n{"text": "One."}\n'))
    assert sentences.texts[:] == ["One."]
    assert sentences.counts["half a surrogate pair"] == 1


def test_a_very_long_line_is_read(tmp_path: Path) -> None:
    assert len(read_sentences(written(tmp_path / "a.txt", "word " * 20_000)).texts[0]) == 99_999


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"id": 1, "text": "One."}\n\n{"id": 2, "text": "Two."}\n'),
        ("a.jsonl", '"One."\n"Two."\n'),
        ("a.jsonl", '{"text_a": "One.", "text_b": "x", "label": "1"}\n{"text_a": "Two."}'),
        ("a.csv", 'id,sentence\n1,One.\n2,"Two."\n'),
        ("a.tsv", "id\tsentence\r\n1\tOne.\r\n2\tTwo.\r\n"),
        ("a.csv", "id;sentence\n1;One.\n2;Two.\n"),
        ("a.csv", "id,sentence,\n1,One.,\n2,Two.,\n"),
        ("a.txt", "One.\rTwo.\r"),
    ],
)
def test_the_first_known_text_column_is_read(name: str, content: str, tmp_path: Path) -> None:
    assert read_sentences(written(tmp_path / name, content)).texts[:] == ["One.", "Two."]


def test_a_column_can_be_named(tmp_path: Path) -> None:
    csv = written(tmp_path / "a.csv", 'text,quote\nno,"One, two."\n')
    assert read_sentences(csv, column="quote").texts[:] == ["One, two."]
    pq.write_table(pa.table({"text": ["no"], "other": ["yes"]}), tmp_path / "a.parquet")
    assert read_sentences(tmp_path / "a.parquet", column="other").texts[:] == ["yes"]


@pytest.mark.parametrize("name", ["sts-train.csv", "sts-train.tsv"])
def test_the_sts_benchmark_file_gives_both_sentences_and_keeps_unbalanced_quotes(name: str, tmp_path: Path) -> None:
    sentences = read_sentences(written(tmp_path / name, STSB))
    assert sentences.texts[:] == ["A plane.", 'An air "plane.', "A flute."]
    assert sentences.counts["duplicate"] == 1


SEVEN = "genre\tfile\tyear\tid\tscore\tsentence1\tsentence2\n"


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (SEVEN + "g\tf\ty\t1\t5.0\tA.\tB.\n", ["A.", "B."]),
        ("g\tf\t2012\t1\t0.0\tA.\tB.\tmore\ng\tf\ty\t1\t9\tscore\tC.\n", ["A.", "B.", "score", "C."]),
        ("id\tby\tof\tin\tscore\tsentence1\tlang\tsentence2\n1\ta\tb\tc\t1\tA.\ten\tB.\n", ["A."]),
        (SEVEN + 'g\tf\ty\t1\t5.0\t"A", he said.\tB "C".\n', ['"A", he said.', 'B "C".']),
        ("a\tb\tc\td\t5.2\tf\ttext\n1\t2\t3\t4\t5\t6\tA.\n", ["A."]),  # no score, so a table with names
        ("a\tb\tc\td\te\tf\ttext\n1\t2\t3\t4\t5\t6\tA.\n", ["A."]),
        ("text\ta b c 4 e f\nA.\tB.\n", ["A."]),
    ],
)
def test_the_sts_benchmark_is_known_by_its_header_or_score(content: str, texts: list[str], tmp_path: Path) -> None:
    assert read_sentences(written(tmp_path / "a.tsv", content)).texts[:] == texts


def test_a_directory_named_like_a_table_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    pq.write_table(pa.table({"text": ["One."]}), tmp_path / "a.csv/a.parquet")
    assert read_sentences(tmp_path / "a.csv").texts[:] == ["One."]


def test_the_real_sts_benchmark_has_as_many_distinct_sentences_as_counted_by_hand(shared: Path) -> None:
    path = shared / "data/sts/STS/STSBenchmark/sts-train.csv"
    by_hand = {
        field.strip() for line in path.read_bytes().decode().split("\n") if line for field in line.split("\t")[5:7]
    }
    sentences = read_sentences(path)
    assert set(sentences.texts) <= by_hand
    assert sorted(" ".join(text.split()) for text in sentences.texts) == sorted({" ".join(t.split()) for t in by_hand})
    assert sentences.counts["read"] == 2 * 5749


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("One.\nTwo.\n",))
    writer.start()
    assert read_sentences(tmp_path / "pipe").texts[:] == ["One.", "Two."]
    writer.join()


def test_no_more_is_read_than_the_limit(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '"One."\n"One."\n\n"Two."\nno JSON at all\n')
    sentences = read_sentences(path, limit=2)
    assert sentences.texts[:] == ["One.", "Two."]
    assert sentences.counts == {"read": 3, "kept": 2, "duplicate": 1}


def test_of_a_directory_with_a_manifest_only_its_shards_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    schema = pa.schema([("text", pa.string())])
    with ShardDirectory(tmp_path).open(configuration={}, provenance={}, schema=schema) as store:
        store.put(Wave(0, [{"text": "One."}], {}))
    pq.write_table(pa.table({"text": ["Two."]}), tmp_path / "data/shard-00009.parquet")
    assert read_sentences(tmp_path).texts[:] == ["One."]
    assert "is not complete; what is there is taken" in caplog.text
    with pytest.raises(InputError, match="there is no column 'satz'; Legal values: 'text'"):
        read_sentences(tmp_path, column="satz")


def test_a_generated_directory_gives_its_texts(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"text": ["One."], "label": ["0"]}), tmp_path / "data/shard-00000.parquet")
    pq.write_table(pa.table({"text": ["Two."], "label": ["1"]}), tmp_path / "data/shard-00001.parquet")
    assert read_sentences(tmp_path).texts[:] == ["One.", "Two."]


def test_standard_input_is_read_for_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Eins.\nZwei ä.\n".encode())))
    assert read_sentences("-").texts[:] == ["Eins.", "Zwei ä."]
    with pytest.raises(InputError, match=r"^standard input: no sentence"):
        read_sentences("-")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "the file is empty"),
        ("a.txt", "\n \n", "no sentence to start from: 2 read, 2 blank"),
        ("a.txt", b"One.\nTw\xf6.\n", r"line 2 is not UTF-8 \(byte b'\\xf6' at offset 7\).*iconv"),
        ("a.jsonl", '{"text": "One."}\n{"text": ', "line 2: is not JSON"),
        ("a.jsonl", '{"text": 3}', "line 1: field 'text' is 3; expected a text"),
        ("a.jsonl", "[1]", "entry 1: is 1; expected a JSON object"),
        ("a.jsonl", "[1]\n[2]\n", "line 1: is a list; expected a JSON object"),
        ("a.jsonl", '{"satz": "One."}', "none of the columns text, sentence.*Columns: 'satz'"),
        ("a.csv", "id,name\n1,x\n", "line 1: none of the columns.*name one with --column"),
        ("a.csv", "id,text\n1\n", "line 2: has 1 columns, expected 2"),
        ("a.csv", "text,text\nA.,B.\n", "there are two columns 'text', .*; rename or remove one"),
        ("a.tsv", SEVEN + "g\tf\t1\n", "line 2: has 3 columns; an STS Benchmark line has at least 7"),
        ("a.tsv", SEVEN * 2, "line 2: the score is 'score'; expected a number"),
        ("a.tsv", SEVEN + 'g\tf\ty\t1\t5\t"A ""B""."\tC.\n', "line 2: has its quotation marks written twice"),
        ("a.tsv", "0\t1\t2\t3\t4\t5\t6\t7\ng\tf\t2012\t1\t5\tA.\tB.\t\n", "none of the columns.*Columns: '0', '1'"),
        ("a.tsv", "a\tb\tc\td\t5\tf\tg\n1\t2\t3\t4\t5\t6\t7\n", "none of the columns.*Columns: 'a', 'b'"),
        ("a.tsv", b"\xff\n", r"line 1 is not UTF-8"),
        ("a.parquet", b"PAR0", "cannot be read as parquet"),
        ("a.parquet", b"PAR1" + b"0" * 99, "it begins as parquet does, so a part of it is missing or damaged"),
        (
            "a.csv",
            '{"text":"One.","n":1}\n',
            r"line 1: is an object of JSON; give the file a name that ends in \.jsonl",
        ),
        ("a.tsv", "n,words\n1,One.\n", r"here it has commas and no tab; give the file a name that ends in \.csv"),
        (
            "a.csv",
            'id,text\n1,"One.\n2,Two.\n',
            r"line 2: the row that begins here has quotation marks or line ends out of place",
        ),
        (
            "a.csv",
            'id,text\n1,"One" and.\n',
            r"line 2: the row that begins here has quotation marks or line ends out of place",
        ),
        ("a.csv", "text,x\nHello, there, friend,1\n", r"line 2: has 4 columns, expected 2.*between quotation marks"),
        ("a.txt", "One.\nTwo.\n".encode("utf-16"), r"line 1 is not UTF-8.*iconv -f utf-16"),
        ("a.txt", "One.\nTwo.\n".encode("utf-32"), r"line 1 is not UTF-8.*iconv -f utf-32"),
        ("a.txt.gz", b"\x1f\x8b\x08\x00", "this is a gzip file, not text"),
        ("a.docx", b"PK\x03\x04 word", r"this is a zip \(perhaps \.docx or \.xlsx\) file, not text"),
        ("a.jsonl", "[" * 100_000, "line 1: is not JSON"),
        ("a.jsonl", "1" * 5_000, "line 1: is not JSON"),
    ],
)
def test_unusable_files_are_refused_with_their_name_and_the_reason(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_sentences(written(tmp_path / name, content))
    assert str(caught.value).count(name) == 1


def test_a_missing_file_column_or_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing.txt: there is no such file"):
        read_sentences(tmp_path / "missing.txt")
    written(tmp_path / "a.txt", "One.")
    with pytest.raises(InputError, match=r"there is no such file, and patterns are for tables; join files of lines"):
        read_sentences(tmp_path / "*.txt")
    with pytest.raises(InputError, match=r"there is no column 'txt'; did you mean 'text'"):
        read_sentences(written(tmp_path / "a.jsonl", json.dumps({"text": "One."})), column="txt")
    with pytest.raises(InputError, match=r"holds no table"):
        read_sentences(tmp_path)
    for name, called in (("a.txt", r"\.txt"), ("a", "this")):
        with pytest.raises(InputError, match=f"{called} is a file of plain lines"):
            read_sentences(written(tmp_path / name, "One."), column="text")
    with pytest.raises(InputError, match=r"aaa: cannot be read \(File name too long\)"):
        read_sentences("a" * 10_000)
    with pytest.raises(InputError, match="standard input is read as plain lines"):
        read_sentences("-", column="text")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"text": "A."}\n{"text": "B."}\n',
            r"line 1 is an object of JSON .*; give it as a file whose name ends in \.jsonl",
        ),
        ('\ufeff { "sentence 1" :1}\n', "line 1 is an object of JSON"),
        (
            "sentence1,sentence2,score\na,b,1\n",
            r"line 1 names columns .*; give it as a file whose name ends in \.csv or \.tsv",
        ),
        ('id;"Text"\n1;A.\n', "line 1 names columns"),
        ("genre\tsentence2\n", "line 1 names columns"),
    ],
)
def test_a_table_by_the_name_of_a_text_is_refused(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=message):
        read_sentences(written(tmp_path / "a.txt", content))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    with pytest.raises(InputError, match=f"standard input: {message}"):
        read_sentences("-")


@pytest.mark.parametrize("line", ["text", "Text, a sentence.", "{text}", '{"A," he said', "text,", "One, two; text!"])
def test_a_sentence_is_not_taken_for_a_table(line: str, tmp_path: Path) -> None:
    assert read_sentences(written(tmp_path / "a.txt", f"{line}\nB.\n")).texts[:] == [line, "B."]


def test_what_is_left_out_is_counted_by_reason() -> None:
    lines = ["One.", *("One.", " ", "a\0b", "\ud800") * 2]
    counts = {"duplicate": 2, "blank": 2, "NUL byte": 2, "half a surrogate pair": 2}
    assert clean_sentences(lines).counts == {"read": 9, "kept": 1} | counts
    with pytest.raises(InputError, match="no sentence to start from: nothing was read; at least"):
        clean_sentences([])


def test_a_mark_of_byte_order_is_no_part_of_a_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert clean_sentences(["\ufeff A.", " Xaver. "]).texts[:] == ["A.", "Xaver."]
    with caplog.at_level("INFO"):
        read_sentences(written(tmp_path / "a.csv", "id,text\n1,A.\n"))
    assert f"{tmp_path / 'a.csv'}: columns that are not used: 'id'" in caplog.text


def test_a_set_has_one_order_in_every_process() -> None:
    lines = [f"Sentence {number}." for number in range(100)]
    assert clean_sentences({*lines}).texts[:] == sorted(lines)
    assert clean_sentences(dict.fromkeys(reversed(lines)).keys()).texts[:] == lines[::-1], "keys have an order"
    with pytest.raises(InputError, match="expected text, given int"):
        clean_sentences({"One.", 2})  # type: ignore[arg-type]


def test_sentences_that_are_clean_are_taken_as_they_are() -> None:
    texts = clean_sentences(["One.", "Two.", "Two."]).texts
    again = clean_sentences(texts)
    assert again.texts is texts
    assert again.counts == {"read": 2, "kept": 2}


def test_items_that_are_no_text_are_refused() -> None:
    with pytest.raises(InputError, match="sentence 2: expected text, given int"):
        clean_sentences(["One.", 2])  # type: ignore[list-item]
