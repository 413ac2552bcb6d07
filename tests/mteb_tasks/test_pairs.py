"""A user's own file of pairs as a task: formats, its name, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr
from sentence_transformers.util import pairwise_cos_sim

import mteb_tasks
from dino_st.errors import InputError
from dino_st.evaluation.evaluate import evaluate_encoder
from mteb_tasks.pairs import read_pair_file
from mteb_tasks.sts_files import pairs_revision
from tests.mteb_tasks.fixtures import make_bag_of_words

ROWS = [
    {"sentence1": 'A man, said "yes".', "sentence2": "The dog runs.", "score": 0.1},
    {"sentence1": "A cat eats bread.", "sentence2": "A cat eats.", "score": 0.9},
    {"sentence1": "The girl sings.", "sentence2": "The girl runs quickly.", "score": 0.5},
    {"sentence1": "A green train.", "sentence2": "A red train.", "score": 0.7},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = ["\t".join(map(str, row)) for row in [rows[0].keys(), *(row.values() for row in rows)]]
        path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, suffix: str) -> None:
    pairs = read_pair_file(write(tmp_path / f"pairs{suffix}", ROWS))
    assert [(p.sentence1, p.sentence2, p.score) for p in pairs] == [tuple(row.values()) for row in ROWS]


def test_other_columns_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = [{"model": "gpt2", **row} for row in ROWS]
    assert len(read_pair_file(write(tmp_path / "pairs.jsonl", rows))) == len(ROWS)
    assert "pairs.jsonl: columns that are not used: 'model'" in caplog.text


def test_a_file_becomes_a_task_named_after_its_stem_and_content(tmp_path: Path) -> None:
    task = mteb_tasks.DinoPairs(write(tmp_path / "my pairs.jsonl", ROWS))
    assert task.metadata.is_filled()
    stem, digits = task.metadata.name.rsplit("-", 1)
    assert stem == "DinoPairs-my_pairs"
    assert task.metadata.revision.startswith(digits)
    assert len(digits) == 8
    assert task.metadata.dataset["path"] == f"local/{task.metadata.name}"
    assert (task.seed, mteb_tasks.DinoPairs(task.file, seed=7).seed) == (42, 7)


def test_the_same_pairs_have_the_same_name_in_every_format_and_others_do_not(tmp_path: Path) -> None:
    first = mteb_tasks.DinoPairs(write(tmp_path / "pairs.jsonl", ROWS)).metadata.name
    assert mteb_tasks.DinoPairs(write(tmp_path / "pairs.parquet", ROWS)).metadata.name == first
    assert mteb_tasks.DinoPairs(write(tmp_path / "pairs.jsonl", ROWS[:3])).metadata.name != first


def test_tabs_in_texts_do_not_make_other_pairs_the_same(tmp_path: Path) -> None:
    texts = [("red dog\tblue cat", "blue cat"), ("red dog", "blue cat\tblue cat")]
    rows = [[{"sentence1": a, "sentence2": b, "score": 1}, *ROWS] for a, b in texts]
    names = {mteb_tasks.DinoPairs(write(tmp_path / "pairs.jsonl", some)).metadata.name for some in rows}
    assert len(names) == 2


def test_pairs_too_few_for_a_correlation_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"sentence1": f"Bus {i} is late.", "sentence2": f"Bus {i} comes late.", "score": i / 30} for i in range(30)]
    mteb_tasks.DinoPairs(write(tmp_path / "thirty.jsonl", rows))
    assert "a correlation" not in caplog.text
    mteb_tasks.DinoPairs(write(tmp_path / "few.jsonl", rows[1:]))
    assert "few.jsonl: holds 29 pairs; a correlation of so few says next to nothing" in caplog.text


def test_the_name_is_that_of_the_content_whatever_stands_in_the_texts(tmp_path: Path) -> None:
    def revision(*rows: tuple[str, str, float]) -> str:
        columns = ("sentence1", "sentence2", "score")
        file = write(tmp_path / "a.jsonl", [dict(zip(columns, row, strict=True)) for row in rows])
        found = mteb_tasks.DinoPairs(file).metadata.revision
        plain = pairs_revision({"test": read_pair_file(file)})
        assert (found == plain) == (not any(sign in text for row in rows for text in row[:2] for sign in "\t\n"))
        assert len(found) == 40
        return str(found)

    found = [
        revision(("a", "b", 0.0), ("c", "d", 1.0)),
        revision(("a\tb", "c", 0.0), ("c", "d", 1.0)),
        revision(("a", "b\tc", 0.0), ("c", "d", 1.0)),
        revision(("a", "b\nc", 0.0), ("c", "d", 1.0)),
        revision(("a", "b\nc", 0.5), ("c", "d", 1.0)),
    ]
    assert len(set(found)) == 5


def test_the_name_survives_unloading(tmp_path: Path) -> None:
    task = mteb_tasks.DinoPairs(write(tmp_path / "pairs.jsonl", ROWS))
    name = task.metadata.name
    task.load_data()
    task.unload_data()
    assert task.metadata.name == name


def test_the_score_is_spearmans_correlation(tmp_path: Path) -> None:
    model = make_bag_of_words()
    tasks = mteb_tasks.select_tasks(pairs=write(tmp_path / "pairs.csv", ROWS))
    table = evaluate_encoder({"model": model}, tasks=tasks)
    embeddings = [model.encode([str(row[side]) for row in ROWS]) for side in ("sentence1", "sentence2")]
    expected = spearmanr(pairwise_cos_sim(*embeddings), [row["score"] for row in ROWS])[0]
    assert table.scores["model"][tasks[0].metadata.name] == pytest.approx(100 * expected)


def test_pairs_stand_alone_or_beside_named_tasks(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.csv", ROWS)
    assert len(mteb_tasks.select_tasks(pairs=[file])) == 1
    assert len(mteb_tasks.select_tasks("sts", pairs=[file])) == 8


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "pairs.txt",
            "a\tb\t1\n",
            r"is no table that can be read; expected one that ends in \.csv, .*: as pairs\.tsv it is read",
        ),
        (
            "pairs.csv",
            "sentence1,sentence2,gold\na,b,1\n",
            r"line 1: has the columns sentence1, sentence2, gold; expected",
        ),
        (
            "pairs.csv",
            "sentence1,sentence2,score\na,b,1\nc,d,x\n",
            r"line 3: field 'score' is 'x'; expected a finite number",
        ),
        ("pairs.csv", "sentence1,sentence2,score\na,b,nan\n", r"line 2: field 'score' is 'nan'"),
        ("pairs.csv", "sentence1,sentence2,score\na,b,1\nc, ,0\n", r"line 3: one of the two sentences is blank"),
        ("pairs.csv", "sentence1,sentence2,score\n ,b,1\nc,d,0\n", r"line 2: one of the two sentences is blank"),
        ("pairs.csv", "", r"holds 0 pairs"),
        ("pairs.csv", "sentence1,sentence2,score\na,b,1\nc,d,1\n", r"holds 2 pairs with fewer than two different"),
        ("pairs.jsonl", '{"sentence1": "a"\n', r"line 1: is not JSON"),
        ("pairs.jsonl", "[1, 2]\n", r"entry 1: is 1; expected a JSON object"),
        ("pairs.jsonl", '{"sentence1": "a", "sentence2": null, "score": 1}\n', r"line 1: field 'sentence2' is None"),
        ("pairs.parquet", "not parquet", r"cannot be read as parquet"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        mteb_tasks.DinoPairs(tmp_path / name)


def test_a_missing_file_and_invalid_utf8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: there is no such file"):
        mteb_tasks.DinoPairs(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_bytes(b"sentence1,sentence2,score\n\xff,b,1\n")
    with pytest.raises(InputError, match=r"is not UTF-8"):
        mteb_tasks.DinoPairs(tmp_path / "bad.csv")
