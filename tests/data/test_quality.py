"""What the end of a run says of the labels, and when it warns."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from dino_st import DinoDatasetBuilder, prepare_pairs
from dino_st.data.quality import LabelStatistics, doubts, measure, quality_lines, summarise
from dino_st.data.shards import MANIFEST, ShardDirectory


def row(x1: str, x2: str, score: float, log_probs: list[float] | None = None) -> dict[str, Any]:
    return {"sentence1": x1, "sentence2": x2, "score": score, "log_probs": log_probs}


def test_copies_shared_words_and_posteriors_are_told_by_label() -> None:
    rows = [
        row("a b", "A, b!", 1.0, [0.0, 0.0]),
        row("a b", "a b", 1.0, [0.0, -50.0]),
        row("a b", "a c", 1.0),
        row("a b", "c d", 0.0, [0.0, 0.0]),
    ]
    parts = [measure(rows[:2], ["1", "0"]), measure(rows[2:], ["1", "0"])]
    assert summarise(parts) == {
        "1": {"pairs": 3, "identical": pytest.approx(1 / 3, abs=1e-4), "overlap": 1.0, "posterior": 0.75},
        "0": {"pairs": 1, "identical": 0.0, "overlap": 0.0, "posterior": 0.5},
    }
    [caption, _, first, _] = quality_lines(summarise(parts))
    assert caption.startswith("Of the pairs of each label: ")
    assert first.split() == ["1", "3", "33.3%", "1.00", "0.75"]
    assert measure([{"anchor": "a", "positive": "b", "negative": "c"}]) == measure([{"text": "a", "label": "x"}]) == {}


def test_joined_counts_have_the_median_and_the_mean_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for pairs in (1, 2, 7, 400):
        overlaps, posteriors = rng.integers(0, 9, pairs) / rng.integers(9, 12, pairs), rng.random(pairs)
        posteriors[::5] = np.nan
        parts = [slice(start, start + 3) for start in range(0, pairs, 3)]
        whole = summarise({"1": LabelStatistics.of(0, overlaps[part], posteriors[part])} for part in parts)["1"]
        assert whole["overlap"] == round(float(np.median(overlaps)), 4)
        assert whole.get("posterior") == (round(float(np.nanmean(posteriors)), 4) if pairs > 1 else None)


def test_the_posteriors_of_many_millions_of_pairs_are_summed() -> None:
    # Ten million pairs at 2^40 units each are more than 2^63.
    sure = LabelStatistics.of(0, np.zeros(1), np.ones(10_000_000))
    assert (
        summarise([{"1": sure}, {"1": LabelStatistics.of(0, np.zeros(1), np.zeros(10_000_000))}])["1"]["posterior"]
        == 0.5
    )


def by_label(**labels: tuple[float, float]) -> dict[str, dict[str, float]]:
    return {
        name.strip("_").replace("_", "."): {"pairs": 50, "identical": identical, "overlap": overlap}
        for name, (identical, overlap) in labels.items()
    }


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (by_label(_1=(0.17, 0.67), _0_5=(0, 0.2), _0=(0, 0.07)), []),
        (by_label(_1=(0.1, 0.4), _0_5=(0.1, 0.5), _0=(0, 0.1)), ["texts of label 0.5 share more words with x1"]),
        (by_label(_1=(0, 0.5), _0_5=(0.2, 0.5), _0=(0, 0.1)), ["texts of label 0.5 are copies of x1 more often"]),
        (by_label(_1=(0.6, 1.0), _0=(0, 0.1)), ["60% of the texts of label 1 are copies of x1"]),
        (by_label(good=(0, 0.1), bad=(0, 0.9)), []),
        ({"1": {"pairs": 3, "identical": 0, "overlap": 0}, "0": {"pairs": 3, "identical": 1, "overlap": 1}}, []),
    ],
)
def test_labels_out_of_order_and_many_copies_are_doubted(
    summary: dict[str, dict[str, float]], words: list[str]
) -> None:
    found = doubts(summary)
    assert len(found) == len(words)
    assert all(one.startswith(start) for one, start in zip(found, words, strict=True))


def test_a_run_keeps_the_quality_in_manifest_and_card_however_often_it_was_interrupted(
    make_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    options = {"max_new_tokens": 14, "top_k": 60, "batch_size": 8, "device": "cpu"}
    builder = DinoDatasetBuilder((make_model("gpt2"), tokenizer), **options)
    builder.generate([f"Sentence {i}." for i in range(6)], output_dir=tmp_path / "raw")
    quality = json.loads((tmp_path / "raw" / MANIFEST).read_text())["quality"]
    rows = ShardDirectory(tmp_path / "raw").to_dataset().to_list()
    assert {label: one["pairs"] for label, one in quality.items()} == {
        label: sum(f"{row['score']:g}" == label for row in rows) for label in quality
    }
    assert "words shared" in (tmp_path / "raw/README.md").read_text()
    first = ShardDirectory(tmp_path / "raw")
    first.file_of(0).unlink()
    builder.generate([f"Sentence {i}." for i in range(6)], output_dir=tmp_path / "raw")
    assert json.loads((tmp_path / "raw" / MANIFEST).read_text())["quality"] == quality


def test_a_preparation_says_how_its_labels_look_and_doubts_them(caplog: pytest.LogCaptureFixture) -> None:
    rows = [row(f"one two {i}", f"one two {i}" if i < 9 else f"one two new{i}", 0.0) for i in range(30)]
    rows += [row(f"one two {i}", f"quite different {i}", 1.0) for i in range(30)]
    raw = Dataset.from_list(rows).remove_columns("log_probs")
    with caplog.at_level(logging.INFO, logger="dino_st"):
        splits = prepare_pairs(raw, labels=(0, 1))
    habits = {label: one.pop("habits") for label, one in splits.quality.items()}
    assert splits.quality == {
        "0": {"pairs": 21, "identical": 0.0, "overlap": 0.5, "dropped": 9, "dropped_identical": 9},
        "1": {
            "pairs": 30,
            "identical": 0.0,
            "overlap": 0.2,
            "dropped": 0,
            "dropped_identical": 0,
            "out_of_order": "for 21 of 21 sentences, texts of label 0 share more words with x1 than those of 1",
        },
    }
    [caption, head, zero, _] = quality_lines(splits.quality)
    assert caption.startswith("Of the pairs of each label that are kept: ")
    assert "Of those that were dropped: how many" in caption
    assert head.split()[:2] == ["label", "kept"]
    assert zero.split() == ["0", "21", "0.0%", "0.50", "9", "9"]
    [of_scores, warning, of_habits] = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert of_scores.startswith("the raw pairs: the more words two sentences share, the lower their score")
    assert "label 1: 30 of 30 begin with “quite different”" in of_habits
    assert habits["1"] == [of_habits.partition("label 1: ")[2].partition("\n")[0]]
    assert "texts of label 0 share more words with x1 (median 0.50 against 0.20) than of 1" in warning
    assert "30% of the texts of label 0 are copies of x1" in warning
    assert "decay_constant" in warning
    assert "words shared" in caplog.text


def test_identical_pairs_that_are_kept_are_counted_among_the_kept_and_a_label_that_lost_all_stays() -> None:
    rows = [row(f"one {i}", f"one {i}", 0.5) for i in range(4)] + [row(f"one {i}", f"two {i}", 1.0) for i in range(4)]
    rows += [row(f"one {i}", " ", 0.0) for i in range(4)]
    raw = Dataset.from_list(rows).remove_columns("log_probs")
    kept = {"overlap": 1.0, "dropped": 0, "dropped_identical": 0}
    quality = prepare_pairs(raw, drop_identical=False, validation_share=0.25, random_negatives=1).quality
    assert quality["0.5"] == {"pairs": 4, "identical": 1.0, **kept}
    assert quality["0"] == {"pairs": 0, "identical": 0.0, "overlap": 0.0, "dropped": 4, "dropped_identical": 0}
    assert quality_lines(quality)[2].split() == ["0", "0", "-", "-", "4", "0"]
