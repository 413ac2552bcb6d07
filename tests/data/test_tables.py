"""Lines and their encodings, and what is said of files that are no tables; `tests/hostile` has those of strangers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from dino_st.data.lines import MAX_TEXT, text_lines
from dino_st.data.pairs import read_pairs
from dino_st.data.tables import pick_columns, table_rows, write_json_objects
from dino_st.errors import InputError


def column_names(path: Path) -> list[str]:
    """The names of a table's columns; in JSON, those of the first row."""
    found: list[str] = []

    def noted(names: Sequence[str], _: str) -> dict[str, str]:
        found.extend(names)
        return {name: name for name in names[:1]}

    next(table_rows(path, noted), None)
    return found


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("A \r\nB\t\n\n C", ["A ", "B\t", "", " C"]),
        ("A\rB\r\r\nXCX\r\n", ["A", "B", "XCX"]),
        ("\ufeffA\u2028\x85B\x0b\n\ufeffC\ufeff", ["A\u2028\x85B\x0b", "C\ufeff"]),
        ("XAX\nB", ["XAX", "B"]),
        ("x" * MAX_TEXT + "\ny", ["x" * MAX_TEXT, "y"]),
    ],
)
def test_lines_end_in_the_three_ways_of_text_files_alone(content: str, lines: list[str]) -> None:
    assert list(text_lines(BytesIO(content.encode()))) == lines


def test_a_line_that_is_too_long_is_named() -> None:
    with pytest.raises(InputError, match=r"^line 2 holds 1,000,001 characters; expected a sentence"):
        list(text_lines(BytesIO(b"a\n" + b"x" * (MAX_TEXT + 1))))


@pytest.mark.parametrize(
    ("content", "encoding", "byte"),
    [
        ("Tür\n".encode("latin1"), "latin1", r"byte b'\\xfc' at offset 1"),
        ("Ein\nTür\n".encode("latin1"), "latin1", r"byte b'\\xfc' at offset 5"),
        (b"\xff\xfe" + "aĀ\n".encode("utf-16-le"), "utf-16", r"byte b'\\xff' at offset 0"),
        (b"\xfe\xff" + "aĀ\n".encode("utf-16-be"), "utf-16", r"byte b'\\xfe' at offset 0"),
        ("a\n".encode("utf-32"), "utf-32", r"byte b'\\x00' at offset 2"),
        (b"\x00\x00\xfe\xff" + "a\n".encode("utf-32-be"), "utf-32", r"byte b'\\x00' at offset 0"),
        ("ab\n".encode("utf-16-le"), "utf-16le", r"byte b'\\x00' at offset 1"),
        ("Кошка\nСобака бежит домой.\n".encode("utf-16-le"), "utf-16le", r"byte b'\\x04' at offset 1"),
        ("Кошка\nСобака бежит домой.\n".encode("utf-16-be"), "utf-16be", r"byte b'\\x04' at offset 0"),
        ("Μια γάτα.\n".encode("utf-16-le"), "utf-16le", r"byte b'\\x03' at offset 1"),
        ("aĀ\n".encode("utf-16-le"), "utf-16le", r"byte b'\\x00' at offset 1"),
        ("日a\n".encode("utf-16-le"), "utf-16le", r"byte b'\\xe5' at offset 0"),
        ("日a\n".encode("utf-16-be"), "utf-16be", r"byte b'\\xe5' at offset 1"),
        ("ab\n".encode("utf-16-be"), "utf-16be", r"byte b'\\x00' at offset 0"),
        (b"ab\nc\n\xff", "latin1", r"line 3 is not UTF-8 \(byte b'\\xff' at offset 5"),
        (b"abc\n\xff\xfe\x00\x00", "utf-16be", r"line 2 is not UTF-8 \(byte b'\\xff' at offset 4"),
    ],
)
def test_another_encoding_is_guessed_and_its_first_byte_named(content: bytes, encoding: str, byte: str) -> None:
    with pytest.raises(InputError, match=rf"{byte}\).* iconv -f {encoding} -t utf-8 "):
        list(text_lines(BytesIO(content)))


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.TSV", "text\nA, b; c\n", [("A, b; c",)]),
        ("a.csv", "a\tb, c\nd\te, f\n", [("d", "e, f")]),
        ("a.csv", "a;b,c\nd;e,f\n", [("d;e", "f")]),
        ("a.csv", "a;b\nd, e;f\n", [("d, e", "f")]),
        ("a.json", '\ufeff [{"a": "b"},\n{"a": "c"}]', [("b",), ("c",)]),
        ("a.json", '\ufeff{"a": "b"}\n{"a": "c"}', [("b",), ("c",)]),
        ("a.csv", 'a,b,c\n" ""x""",Xa,\td\n', [(' "x"', "Xa", "\td")]),
        ("a.tsv", 'a\tb\n" ""x"""\ty\n', [(' "x"', "y")]),
        ("a.csv", 'a;b\n" ""x""";y, z\n', [(' "x"', "y, z")]),
    ],
)
def test_what_separates_and_quotes_is_seen_in_the_first_line(
    name: str, content: str, rows: list[tuple[str, ...]], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    found = table_rows(tmp_path / name, lambda names, _: {name: name for name in names})
    assert [tuple(row.values()) for _, row in found] == rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"a,b\nc\rd,e\n", r"line 2: .* out of place \(new-line character seen in unquoted field\)"),
        ("a.jsonl", b'{"a": 1}\n  {"a":}\n', r"line 2: is not JSON \(Expecting value at column 8\); expected one"),
        ("a.json", b'[{"a": 1},\n{"a":}]', r"a\.json, line 1: is not JSON \(Expecting value at line 2, column 6\)"),
        ("a.json", b'[{"a": "\xff"}]', r"a\.json: line 1 is not UTF-8"),
        ("a.jsonl", b'{"a": 1, "b": 1, "b": 2}', r"line 1: is not JSON \(the key 'b' stands there twice\)"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_place(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(table_rows(tmp_path / name, lambda names, _: {name: name for name in names}))


@pytest.mark.parametrize(("others", "more"), [(3, ""), (4, " and 1 more"), (5, " and 2 more")])
def test_many_files_are_named_by_the_first_three(others: int, more: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["b"]}), tmp_path / "a.parquet")
    for number in range(others):
        (tmp_path / f"b{number}.csv").write_text("a\nb\n")
    with pytest.raises(InputError, match=rf": b0\.csv, b1\.csv, b2\.csv{more} would not be read beside a\.parquet"):
        column_names(tmp_path)


@pytest.mark.parametrize(
    ("names", "pattern", "message"),
    [
        (["a-00001", "a-00002"], "", None),  # a wave without rows may have left no file
        (["a-00000-of-00002", "a-00001-of-00003"], "", "are no parts of one whole"),
        (["a-00001", "b-00000-of-00002"], "*.parquet", r"b-00001-of-00002\.parquet is missing"),
        (["a-00001", "b-0-of-1"], "", r"a-00001\.parquet is no part of what"),
        (["part-0001", "part-0003"], "", r"part-0001\.parquet, part-0003\.parquet: part-0002\.parquet is missing"),
        (["part-0001", "part-0003"], "p*", r"part-0002\.parquet is missing; fetch it, or name the files"),
        (["part-0001", "part-0003"], "part-000[13].parquet", None),
        (["0001", "0002", "0005"], "", r"0003\.parquet, 0004\.parquet is missing"),
        (["a_0_of_3", "a_2_of_3"], "", r"a_1_of_3\.parquet is missing"),
        (["a-000000000", "a-999999999"], "", r"a-000000001\.parquet, .* and 99996 more is missing"),
        (["train-99999", "train-a100001"], "", None),
        (["2012", "2014", "2015"], "", None),
        (["2024-01-01", "2024-01-03"], "", None),
    ],
)
def test_parts_make_a_whole(names: list[str], pattern: str, message: str | None, tmp_path: Path) -> None:
    for name in names:
        pq.write_table(pa.table({"a": [name]}), tmp_path / f"{name}.parquet")
    if message is None:
        assert column_names(tmp_path / pattern) == ["a"]
    else:
        with pytest.raises(InputError, match=message):
            column_names(tmp_path / pattern)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a1", "a2", "a4", "a6"], "a3.parquet, a5.parquet"),
        (["2024-01-01", "2024-01-03"], "2024-01-02.parquet"),
        (["v1-a", "v3-a"], None),
        (["2012", "2014"], None),
        (["a0", "a3"], "a1.parquet, a2.parquet"),
        (
            [f"part-{number:05d}-0b5c-4f1e-c000.snappy" for number in (0, 2)],
            "part-00001-0b5c-4f1e-c000.snappy.parquet",
        ),
        (["000_pairs", "002_pairs"], "001_pairs.parquet"),
        (["3_000000_000000", "3_000002_000000"], "3_000001_000000.parquet"),
        (["part-0.zstd", "part-2.zstd"], "part-1.zstd.parquet"),
        (["part-00000.c000.snappy", "part-00001.c000.snappy"], None),
        (["data_0_0_0.snappy", "data_0_1_2.snappy"], None),
    ],
)
def test_a_number_that_may_be_missing_is_said(
    names: list[str], told: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in names:
        pq.write_table(pa.table({"a": [name]}), tmp_path / f"{name}.parquet")
    assert column_names(tmp_path) == ["a"]
    assert (f": read without {told}, as if a part were missing" in caplog.text) == (told is not None)
    assert ("read without" in caplog.text) == (told is not None)


@pytest.mark.parametrize("name", ["\u200bB", "b\xa0", "\ufeffb", " \xadb\t", "\x00b"])
def test_what_cannot_be_seen_of_a_name_does_not_count(name: str) -> None:
    assert pick_columns(["a", name], {"b": ()}, "here") == {"b": name}
    assert pick_columns(["a", name], {"c": ("b",)}, "here") == {"c": name}


def test_splits_that_are_not_listed_are_seen(tmp_path: Path) -> None:
    DatasetDict(dev=Dataset.from_dict({"a": ["b"]})).save_to_disk(tmp_path)
    (tmp_path / "dataset_dict.json").write_text('{"splits": []}')
    assert column_names(tmp_path) == ["a"]
    shutil.rmtree(tmp_path / "dev")
    with pytest.raises(InputError, match=rf"holds the splits none; give .* such as {tmp_path / 'train'}"):
        column_names(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.csv", r"none\.csv: there is no such file or directory$"),
        ("none*.csv", r"none\*\.csv: there is no such file, and none that fits this as a pattern$"),
        ("n" * 10_000, r"nn: cannot be read \(File name too long\)$"),
    ],
)
def test_what_is_not_there_is_said(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        column_names(tmp_path / name)


def test_files_of_no_split_are_others(tmp_path: Path) -> None:
    for name in ("train", "words"):
        pq.write_table(pa.table({"a": ["b"]}), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"several splits \(others, train\)"):
        column_names(tmp_path)


def test_json_objects_are_written_readably_a_line_each(tmp_path: Path) -> None:
    write_json_objects(tmp_path / "a.jsonl", [{"a": "ü"}, {"b": None}])
    assert (tmp_path / "a.jsonl").read_bytes() == '{"a": "ü"}\n{"b": null}\n'.encode()


def test_a_table_without_rows_has_no_names_in_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    assert column_names(tmp_path / "a.jsonl") == []
    (tmp_path / "a.csv").write_text("a,b\n")
    assert column_names(tmp_path / "a.csv") == ["a", "b"]


def test_what_is_wrong_with_a_parquet_file_is_said_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["b"]}), file)
    with pytest.raises(InputError, match=rf"^{file}: has the fields \['a'\]; expected"):
        read_pairs(file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match=rf"^{file}: cannot be read as parquet \(.*magic bytes"):
        next(table_rows(file, lambda names, _: {name: name for name in names}))
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"cannot be read as parquet \(.*; it is a Git LFS pointer file"):
        read_pairs(file)


@pytest.mark.parametrize(
    "rows",
    [
        '"Go," he said.\tHe said "NA".\t1\n',
        'A "b" c.\tNA\t1\n"Go home.\tGo.\t0\n',
        '"Go home.\tGo.\t0\nA.\tHe "b".\t1\n',
    ],
)
def test_a_table_between_tabs_that_quotes_nothing_is_refused_with_what_writes_it_right(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("sentence1\tsentence2\tscore\n" + rows, encoding="utf-8-sig")
    with pytest.raises(InputError, match="marks quote nothing in this file, let Python write it so: ") as caught:
        read_pairs(file)
    monkeypatch.chdir(tmp_path)
    exec(str(caught.value).partition("write it so: ")[2], {})
    found = [tuple(map(str, row.values())) for row in read_pairs("quoted.csv")]
    assert found == [(*row.split("\t")[:2], f"{float(row[-1])}") for row in rows.splitlines()]
