"""`datasets.load_dataset(DIR)` gives the rows that are there now, whatever it read under that name before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import datasets
import pytest

from dino_st.data.cards import raw_card
from dino_st.data.columns import raw_schema
from dino_st.data.shards import ShardDirectory, Wave, write_waves
from dino_st.errors import InputError
from dino_st.generation.merging import merge_shards
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import load_prepared, save_prepared
from dino_st.preparation.triplets import prepare_triplets
from dino_st.tasks.spec import TaskSpec
from tests.shards_fixtures import write_triplet_shards

SPEC = TaskSpec.load("sts-x2")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def pair(word: str, score: float) -> dict[str, object]:
    places = {"x1_index": 0, "sample": 0, "tries": 1, "num_tokens": 3}
    return {"sentence1": f"{word} 1", "sentence2": f"{word} 2", "score": score, **places}


def write_raw(directory: Path, words: Sequence[str], shard: str | None = None) -> ShardDirectory:
    """A wave a word, and waves without rows before, between and behind them."""
    waves = [Wave(i, [pair(words[i // 2], 0.5)] if i % 2 else [], {"rows": i % 2}) for i in range(2 * len(words) + 1)]
    return write_waves(
        ShardDirectory(directory),
        lambda _: (wave for wave in waves),  # type: ignore[arg-type,return-value]
        configuration={"task": SPEC.model_dump(mode="json"), "seed": 0, "words": list(words), "shard": shard},
        provenance={"model": "tiny", "versions": {"dino-st": "0"}},
        schema=raw_schema(SPEC),
        card=partial(raw_card, SPEC),
    )


def raw(directory: Path, word: str) -> None:
    write_raw(directory, [word])
    for name in ("rejected.jsonl", "audit.jsonl", "notes.json", "notes.csv", "more.json"):
        (directory / name).write_text('{"sentence1": "a stray"}\n')


def merged(directory: Path, word: str) -> None:
    write_raw(directory.with_name(f"part of {word}"), [word], "1/1")
    merge_shards([directory.with_name(f"part of {word}")], directory)


def triplets(directory: Path, word: str) -> None:
    write_triplet_shards(directory, [(f"{word} 1", "p", "n")])


def prepared(directory: Path, word: str) -> None:
    rows = [pair(f"{word} {i} {score}", score) for i in range(10) for score in (0.0, 0.5, 1.0)]
    save_prepared(prepare_pairs(datasets.Dataset.from_list(rows), explain=True), directory)


def prepared_triplets(directory: Path, word: str) -> None:
    columns = {name: [f"{word} {name} {i}" for i in range(20)] for name in ("anchor", "positive", "negative")}
    save_prepared(prepare_triplets(datasets.Dataset.from_dict(columns)), directory)


@pytest.mark.parametrize("write", [raw, merged, triplets, prepared, prepared_triplets])
def test_the_rows_of_now_are_loaded(write: Callable[[Path, str], None], tmp_path: Path) -> None:
    def first_words(directory: Path) -> set[str]:
        splits = datasets.load_dataset(str(directory))
        assert set(splits) == ({"train", "validation"} if write in (prepared, prepared_triplets) else {"train"})
        column = splits["train"].column_names[0]
        return {text.split()[0] for split in splits.values() for text in split[column]}

    directory = tmp_path / "data of mine" / "set"
    directory.parent.mkdir()
    for word in ("old", "new"):
        write(directory, word)
        assert first_words(directory) == {word}
        shutil.rmtree(directory)
    other = tmp_path / "other" / "set"
    other.parent.mkdir()
    write(other, "another")
    assert first_words(other) == {"another"}


def test_more_shards_are_loaded_with_those_before(tmp_path: Path) -> None:
    with ShardDirectory(tmp_path / "set").open(configuration={}, provenance={}, schema=raw_schema(SPEC)) as store:
        for i in range(3):
            store.put(Wave(i, [pair(str(i), 0.5)], {}))
            assert len(datasets.load_dataset(str(tmp_path / "set"), split="train")) == i + 1


def test_waves_without_rows_are_done_and_do_not_come_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = write_raw(tmp_path / "set", ["a", "b"])
    assert directory.waves == [0, 1, 2, 3, 4]
    assert [row["sentence1"] for row in datasets.load_dataset(str(tmp_path / "set"), split="train")] == ["a 1", "b 1"]
    assert write_raw(tmp_path / "set", ["a", "b"]).new_rows == 0
    write_raw(tmp_path / "none", [])
    assert "no row came of this run" in caplog.text


def test_the_card_of_a_run_without_rows_recommends_no_load_dataset(tmp_path: Path) -> None:
    words: dict[str, list[str]] = {"some": ["a"], "none": []}
    for name, texts in words.items():
        write_raw(tmp_path / name, texts)
        card = (tmp_path / name / "README.md").read_text()
        assert ("load_dataset(" in card, "No row came of this run" in card) == (bool(texts), not texts)


def test_shards_of_an_older_version_without_rows_are_written_again(tmp_path: Path) -> None:
    directory = write_raw(tmp_path, ["a"])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for shard in manifest["shards"]:
        old = shard["file"].replace("train", "shard")
        (tmp_path / shard["file"]).rename(tmp_path / old)
        shard["file"] = old
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    write_raw(tmp_path, ["a"])
    assert [row["sentence1"] for row in datasets.load_dataset(str(tmp_path), split="train")] == ["a 1"]
    assert ShardDirectory(tmp_path).shards == directory.shards


def test_a_preparation_without_validation_is_loaded(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([pair(f"a {i}", score) for i in range(4) for score in (0.0, 0.5, 1.0)])
    save_prepared(prepare_pairs(rows, validation_share=0), tmp_path / "set")
    splits = datasets.load_dataset(str(tmp_path / "set"))
    assert set(splits) == {"train"}
    found = load_prepared(tmp_path / "set")
    assert found["train"].to_list() == splits["train"].to_list()
    assert (found["validation"].num_rows, found["validation"].column_names) == (0, found["train"].column_names)
    (tmp_path / "set/data/train.parquet").unlink()
    with pytest.raises(InputError, match=r"train\.parquet: cannot be read"):
        load_prepared(tmp_path / "set")
