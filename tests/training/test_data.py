"""What a training run says of its data, without Python objects for all of it."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from dino_st.data.columns import as_table, rows_hash
from dino_st.errors import DatasetError, DinoWarning, InputError
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import save_prepared
from dino_st.training import data
from dino_st.training.data import as_datasets, data_facts, pair_splits, triplet_splits
from dino_st.training.options import ContrastiveOptions
from tests.training.test_contrastive import triplet_dict
from tests.training_fixtures import raw_pairs


def by_row(table: pa.Table) -> str:
    """The hash as records of older versions hold it: each row as JSON."""
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return hashlib.sha256("".join(map(json.dumps, rows)).encode()).hexdigest()[:16]


def test_the_hash_of_rows_is_that_of_their_json_however_they_are_cut() -> None:
    rng = random.Random(0)
    signs, scores = 'ab "\\/\n\t\x00\x7f~é漢😀', (0.1, -0.0, 1 / 3, 1e300, 5e-324, float("inf"), float("nan"))
    texts = ["".join(rng.choices(signs, k=rng.randint(0, 9))) for _ in range(12_000)]
    table = pa.table(
        {
            "sentence1": texts,
            "sentence2": pa.array(texts[::-1], pa.large_string()),
            "score": rng.choices(scores, k=len(texts)),
            "number": range(len(texts)),
            "note": rng.choices(("a", None), k=len(texts)),
        }
    )
    assert rows_hash(table) == by_row(table)
    pieces = pa.concat_tables([table[:3], table[3:3], table[3:11_000], table[11_000:]])
    assert rows_hash(pieces) == by_row(table)
    assert rows_hash(table[:0]) == by_row(table[:0])
    assert rows_hash(table[1:2]) == by_row(table[1:2]) != by_row(table[2:3])


def test_data_sets_have_the_hashes_of_the_record_as_fingerprints() -> None:
    tables = {
        name: pa.table({"sentence1": [name], "sentence2": ["b"], "score": [1.0]}) for name in ("train", "validation")
    }
    facts = data_facts(tables, "pairs")
    assert facts["train pairs"] == 1
    for name, split in as_datasets(tables, facts).items():
        assert split._fingerprint == facts[f"{name} sha256"] == by_row(tables[name])


def test_large_files_are_mapped_into_memory_and_hold_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_prepared(prepare_pairs(raw_pairs(200)), tmp_path / "set")
    before = pa.total_allocated_bytes()
    held, _ = pair_splits(tmp_path / "set", 2, "cosine")
    size = pa.total_allocated_bytes() - before
    assert size > 50_000
    monkeypatch.setattr(data, "_MAPPED_BYTES", 1000)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    mapped, _ = pair_splits(tmp_path / "set", 2, "cosine")
    assert pa.total_allocated_bytes() - before - size < size / 10
    assert mapped == held
    assert data_facts(mapped, "pairs") == data_facts(held, "pairs")
    (tmp_path / "set" / "data" / "train.parquet").write_bytes(b"PAR1" * 1000)
    with pytest.raises(InputError, match=r"train\.parquet: cannot be read"):
        pair_splits(tmp_path / "set", 2, "cosine")


def test_shuffled_rows_do_not_come_one_by_one() -> None:
    """Of each chunk of its own, whatever is looked up begins anew: 0.4 ms for a pattern, a minute for 100,000 pairs."""
    rows = datasets.Dataset.from_dict({"text": [f"text {number}" for number in range(1000)]})
    table = as_table(rows.shuffle(seed=0))
    assert sorted(table["text"].to_pylist()) == sorted(rows["text"])
    assert table["text"].num_chunks == 1


def test_a_text_that_most_triplets_hold_is_named_whatever_its_place() -> None:
    triplets = triplet_dict(("a", "z", "n"), ("n", "e", "z"), ("f", "n", "z"), ("g", "z", "h"))
    with pytest.raises(DatasetError, match="4 of 4 training triplets hold the text 'z'"):
        triplet_splits(triplets, ContrastiveOptions(batch_size=2))


def sts_pairs(rows: int) -> list[dict[str, Any]]:
    """Pairs whose scores go with the words that they share, each of sentences of its own."""
    rng = random.Random(0)
    found = []
    for number in range(rows):
        words = [f"w{number}x{place}" for place in range(8)]
        alike = rng.randint(0, 8)
        other = [word if place < alike else word + "o" for place, word in enumerate(words)]
        found.append({"sentence1": " ".join(words), "sentence2": " ".join(other), "score": alike / 8})
    return found


def given(train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> datasets.DatasetDict:
    lists = {"train": train, "validation": validation}
    return datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in lists.items()})


def exchanged(row: dict[str, Any]) -> dict[str, Any]:
    return {"sentence1": f" {row['sentence2'].upper()}", "sentence2": row["sentence1"], "score": row["score"]}


def test_judged_pairs_leave_the_training_split_in_either_order_and_case() -> None:
    rows = sts_pairs(60)
    judged = datasets.Dataset.from_list([exchanged(row) for row in rows[10:20]])
    splits, provenance = pair_splits(given(rows[:40], rows[40:]), 8, "cosine", judged=judged)
    assert splits["train"].to_pylist() == [*rows[:10], *rows[20:40]]
    assert list(provenance.values()) == [{"pairs": 10, "left out of training": 10}]


def test_rows_of_both_splits_are_told_of_data_in_memory_too() -> None:
    rows = sts_pairs(60)
    with pytest.warns(DinoWarning, match="the training data: 20 of 20 rows of validation stand in train, too"):
        pair_splits(given(rows, [exchanged(row) for row in rows[40:]]), 8, "cosine")
    triplets = [(f"a{i}", f"p{i}", f"n{i}") for i in range(20)]
    with pytest.warns(DinoWarning, match="the training data: 3 of 3 rows of validation stand in train, too"):
        triplet_splits(triplet_dict(*triplets, validation=3), ContrastiveOptions(batch_size=8))


@pytest.mark.parametrize("doubt", ["the lower their score", "the scores stand in order"])
def test_scores_that_seem_wrong_are_told_of_data_in_memory_too(doubt: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = sts_pairs(300)
    pair_splits(given(rows[:250], rows[250:]), 8, "cosine")
    assert not caplog.records
    wrong = [1 - row["score"] for row in rows]
    if "order" in doubt:
        wrong = sorted(row["score"] for row in rows)
    rows = [row | {"score": score} for row, score in zip(rows, wrong, strict=True)]
    pair_splits(given(rows[:250], rows[250:]), 8, "cosine")
    assert f"the train split: {doubt}" in caplog.text.replace("the more words two sentences share, ", "")
    caplog.clear()
    labels = sorted({row["score"] for row in rows})
    prepare_pairs(datasets.Dataset.from_list(rows), labels=labels)
    assert f"the raw pairs: {doubt}" in caplog.text.replace("the more words two sentences share, ", "")
