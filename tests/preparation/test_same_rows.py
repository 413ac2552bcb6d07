"""What preparation makes of fixed pairs, against hashes made while it held every column in memory (commit 2012012)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset

from dino_st.data.shards import ShardDirectory, Wave
from dino_st.generation.merging import merge_shards
from dino_st.pipeline.stages import prepare_data
from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import PreparedSplits, load_prepared

LABELS = ("0", "0.5", "1")
WORDS = (
    "a",
    "the",
    "man",
    "woman",
    "dog",
    "guitar",
    "plays",
    "runs",
    "cooks",
    "beach",
    "naïve",
    "Straße",
    "кот",
    "猫",
    "big",
    "42",
    "quickly",
    "(red",
    "tea,",
    "and",
)
ODD = ("", " \u200b", "x", "x", "Ein „Wort“.", "猫が寝ている。", "tea tea tea tea tea tea", '"', "женщина играет")
"""Texts that are blank, too short, in another script, cut off or repeat themselves."""

FILTERS: dict[str, Any] = {
    "near_copy_edit": 0.9,
    "near_copy_overlap": 0.9,
    "min_words": 2,
    "max_words": 7,
    "max_length_ratio": 4,
    "max_repeated_trigrams": 0.3,
    "max_non_letters": 0.4,
    "max_script_difference": 0.6,
    "drop_broken_punctuation": True,
    "drop_label_conflicts": True,
}
POSTERIOR: dict[str, Any] = {
    "near_copy_overlap": None,
    "min_token_log_prob": -6,
    "min_posterior": 0.2,
    "target": "posterior-mixed",
}
RESAMPLED: dict[str, Any] = {
    "target": "posterior-resampled",
    "validation_scores": "target",
    "posterior_length_normalised": True,
    "labels": (0.0, 0.5, 1.0),
    "label_prior": (1, 2, 3),
}
CASES: dict[str, dict[str, Any]] = {
    "published": {},
    "filters": FILTERS,
    "posterior": FILTERS | POSTERIOR | {"negative_guard": "overlap", "negative_guard_overlap": 0.2},
    "resampled": RESAMPLED | {"posterior_temperature": 3},
    "judged": {"target": "judged", "seed": 3, "validation_share": 0.25},
    "nothing is dropped": {"drop_identical": False, "drop_duplicates": False, "max_per_input_and_label": 0},
    "many negatives": {"random_negatives": 7, "max_per_input_and_label": 1, "seed": 7, "random_negative_score": 0.3},
}
EXPECTED = {
    "published": "81d494579214c6b6",
    "filters": "bbd3c03a020032ee",
    "posterior": "4e7fee4cc32bac94",
    "resampled": "a6e126d99c26ff0d",
    "judged": "57a8c32a7999ba3d",
    "nothing is dropped": "3b11061250003b82",
    "many negatives": "0b4d466c156f946c",
    "words as labels": "07d66f6ae4d73f3f",
    "single texts": "359b2dd41f272a16",
}


def number(*names: object) -> int:
    """A number that belongs to names."""
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:6], "little")


def sentence(*names: object) -> str:
    """A few words, and now and then something odd."""
    if number("odd", *names) % 12 == 0:
        return ODD[number("which", *names) % len(ODD)]
    length = 3 + number("length", *names) % 7
    return " ".join(WORDS[number(place, *names) % len(WORDS)] for place in range(length)).capitalize() + "."


def written() -> Iterator[dict[str, Any]]:
    """Pairs as they are written: identical ones, duplicates and pairs with two labels among them."""
    for place in range(900):
        first = sentence("x1", place // 9)
        kind = number("kind", place) % 10
        second = first if kind == 0 else sentence("x2", place - 3 * (kind in (1, 2)))
        label = place % 3 if kind != 2 else number("label", place) % 3
        yield {
            "sentence1": first,
            "sentence2": f"{first[:-1].strip()}!" if kind == 3 else second,
            "score": float(LABELS[label]),
            "x1_index": place // 9,
            "num_tokens": 2 + number("tokens", place) % 9,
            "log_probs": [
                -30.0 + 5 * (label == other) - number("log", place, other) % 16_000 / 1000 for other in range(3)
            ],
            "plain_log_prob": -(number("plain", place) % 40_000) / 1000,
            "judged": number("judged", place) % 101 / 100,
        }


def digest(splits: PreparedSplits) -> str:
    """A hash of all that a preparation gives; what no rule rounds is rounded, as processors may."""
    rejected = [] if splits.rejected is None else splits.rejected.to_pylist()
    for row in rejected:
        row["value"] = None if row["value"] is None else round(row["value"], 9)
    rows = {name: [list(row.values()) for row in split] for name, split in splits.items()}
    quality = {
        label: {
            name: value for name, value in one.items() if name not in ("habits", "strangers", "copies", "out_of_order")
        }
        for label, one in splits.quality.items()
    }
    facts = [rows, rejected, splits.counts, quality, splits.provenance.get("label_posterior")]
    return hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()[:16]


def write_shards(path: Path, shard: str | None = None) -> Path:
    """A directory of waves, or one with every other wave."""
    rows = list(written())
    waves = [rows[start : start + 70] for start in range(0, len(rows), 70)]
    first, step = (int(shard[0]) - 1, int(shard[2])) if shard else (0, 1)
    labels = {label: {"instruction": f'{label} "<X1>" "'} for label in LABELS}
    configuration = {"task": {"task_name": "t", "labels": labels}, "seed": 1, "shard": shard}
    with ShardDirectory(path).open(
        configuration=configuration,
        provenance={"model": "none", "versions": {"dino-st": "0"}},
        schema=pa.Table.from_pylist(rows[:1]).schema,
    ) as store:
        for place in range(first, len(waves), step):
            store.put(Wave(place, waves[place], {"rows": len(waves[place])}))
        store.finish("# Card")
    return path


@pytest.mark.filterwarnings("ignore::dino_st.errors.DinoWarning")
@pytest.mark.parametrize("case", CASES)
def test_the_prepared_pairs_are_those_of_before_in_memory_and_from_a_directory(case: str, tmp_path: Path) -> None:
    labels = {"labels": list(map(float, LABELS))}  # which a directory knows by itself
    in_memory = prepare_pairs(Dataset.from_list(list(written())), explain=True, **(labels | CASES[case]))
    assert digest(in_memory) == EXPECTED[case]
    options = PreparationOptions.of(**CASES[case])
    from_directory, _ = prepare_data(write_shards(tmp_path / "raw"), tmp_path / "set", options, explain=True)
    assert digest(from_directory) == EXPECTED[case]
    loaded = load_prepared(tmp_path / "set")
    assert {name: split.to_list() for name, split in loaded.items()} == {
        name: split.to_list() for name, split in in_memory.items()
    }


@pytest.mark.filterwarnings("ignore::dino_st.errors.DinoWarning")
def test_merged_directories_are_prepared_as_one(tmp_path: Path) -> None:
    parts = [write_shards(tmp_path / f"part{place}", f"{place}/2") for place in (2, 1)]
    merged = merge_shards(parts, tmp_path / "merged").path
    splits, _ = prepare_data(merged, tmp_path / "set", PreparationOptions.of(**CASES["posterior"]), explain=True)
    assert digest(splits) == EXPECTED["posterior"]


@pytest.mark.filterwarnings("ignore::dino_st.errors.DinoWarning")
def test_words_as_labels_and_single_texts_are_prepared_as_before() -> None:
    rows = [{**row, "label": f"label {row['score']}"} for row in written()]
    columns = {name: [row[name] for row in rows] for name in ("sentence1", "sentence2", "label")}
    splits = prepare_pairs(Dataset.from_dict(columns), explain=True, drop_label_conflicts=True, max_words=8)
    assert digest(splits) == EXPECTED["words as labels"]
    columns["text"] = columns.pop("sentence2")
    del columns["sentence1"]
    splits = prepare_pairs(Dataset.from_dict(columns), explain=True, min_words=2, drop_broken_punctuation=True)
    assert digest(splits) == EXPECTED["single texts"]
