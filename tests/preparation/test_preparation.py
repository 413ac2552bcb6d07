"""From raw pairs to training pairs: each step, and the directory they are kept in."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, load_dataset
from typer.testing import CliRunner

from dino_st.cli.main import app
from dino_st.data.shards import ShardDirectory, Wave
from dino_st.errors import ConfigurationError, DatasetError, DinoWarning, InputError, OutputError
from dino_st.pipeline import stages
from dino_st.pipeline.stages import prepare_data
from dino_st.preparation import prepare
from dino_st.preparation.directory import read_tables
from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.rows import draw_negatives, rank_among_equals, validation_rows
from dino_st.preparation.splits import format_counts, load_prepared, save_prepared, write_prepared
from dino_st.support.files import only_writer
from dino_st.support.hashes import random_bits
from dino_st.training.data import pair_splits
from tests.training_fixtures import raw_pairs

Row = tuple[str, str, float]
PLAIN: dict[str, Any] = {"label_smoothing": 0, "random_negatives": 0, "max_per_input_and_label": 0}


GOLDEN = {"train": "3f80c182f7e20af0", "validation": "204ba76bc58a014f"}


def pairs(*rows: Row) -> Dataset:
    first, second, score = zip(*rows, strict=True)
    return Dataset.from_dict({"sentence1": list(first), "sentence2": list(second), "score": list(score)})


def all_rows(splits: DatasetDict) -> list[Row]:
    return [tuple(row.values()) for split in splits.values() for row in split]


def grid(inputs: int, per_label: int = 2) -> Dataset:
    """Pairs whose texts say which x1, label and sample they are."""
    return pairs(
        *((f"x{i}", f"x{i} {y} {k}", y) for i in range(inputs) for y in (0.0, 0.5, 1.0) for k in range(per_label))
    )


def test_the_splits_have_the_three_columns_of_a_training_set_and_all_rows() -> None:
    splits = prepare_pairs(grid(20))
    assert {name: split.column_names for name, split in splits.items()} == {
        "train": ["sentence1", "sentence2", "score"],
        "validation": ["sentence1", "sentence2", "score"],
    }
    # 20 x1 with 2 pairs for each of 3 labels, and 2 random negatives each; a tenth of every score is held out.
    assert splits.counts["train"] + splits.counts["validation"] == 20 * 6 + 20 * 2
    assert Counter(splits["validation"]["score"]) == {0.0: 4, 0.1: 4, 0.5: 4, 0.9: 4}


def test_a_pair_that_stands_in_both_orders_is_in_one_split() -> None:
    rows = all_rows(DatasetDict(all=grid(50)))
    splits = prepare_pairs(pairs(*rows, *((second, first, score) for first, second, score in rows)), random_negatives=0)
    trained, held_out = ({frozenset(row[:2]) for row in all_rows(DatasetDict(one=splits[name]))} for name in splits)
    assert not held_out & trained
    assert all(10 <= count <= 30 for count in Counter(splits["validation"]["score"]).values())


@pytest.mark.parametrize("seed", range(6))
def test_a_score_whose_pairs_stand_in_both_orders_is_held_out_only_if_some_are_left(seed: int) -> None:
    one, other = ("a cat sits", "a dog sits", 0.5), ("a dog sits", "a cat sits", 0.5)
    two = [("a fish swims", "a bird sings", 0.5), ("a bird sings", "a fish swims", 0.5)]
    rows = [row for row in all_rows(DatasetDict(all=grid(20))) if row[2] != 0.5]
    options: dict[str, Any] = {"random_negatives": 0, "label_smoothing": 0.0, "seed": seed}
    with pytest.warns(DinoWarning, match=r"1 score\(s\) have a single pair"):
        alone = prepare_pairs(pairs(*rows, one, other), **options)
    assert Counter(alone["train"]["score"])[0.5] == 2
    assert alone.counts["validation_lifted_to_one"] == 0
    both = prepare_pairs(pairs(*rows, one, other, *two), **options)
    assert Counter(both["validation"]["score"])[0.5] == Counter(both["train"]["score"])[0.5] == 2
    assert both.counts["validation_lifted_to_one"] == 1


def test_published_smoothing_makes_tenths_and_leaves_random_pairs_at_zero() -> None:
    scores = Counter(row[2] for row in all_rows(prepare_pairs(grid(10))))
    assert scores == {0.1: 20, 0.5: 20, 0.9: 20, 0.0: 20}


def test_smoothing_mixes_in_the_mean_of_the_labels() -> None:
    assert PreparationOptions(labels=(0, 1), label_smoothing=0.5).smoothed(1) == 0.75
    assert PreparationOptions(labels=(1, 3, 5), label_smoothing=0.1).smoothed(5) == 4.8


def test_identical_blank_and_duplicate_pairs_are_dropped_and_counted() -> None:
    raw = pairs(("a", "a", 1.0), ("a", "b", 1.0), ("a", "b", 1.0), ("a", "b", 0.5), ("a", "  ", 0.0), ("", "b", 0.0))
    with pytest.warns(DinoWarning, match="2 score"):
        splits = prepare_pairs(raw, **PLAIN)
    assert sorted(all_rows(splits)) == [("a", "b", 0.5), ("a", "b", 1.0)]
    expected = {"input": 6, "dropped_blank": 2, "dropped_identical": 1, "dropped_duplicate": 1, "kept": 2}
    assert expected.items() <= splits.counts.items()


def test_texts_that_differ_in_unicode_form_blanks_or_what_is_not_seen_alone_are_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="dino_st")
    raw = [("a", "caf\u00e9 b", 1.0), ("a", "cafe\u0301  b", 1.0), ("a", "A b", 0.0), ("a ", "A b", 0.0)]
    raw += [("x  y", "x\u00a0y ", 1.0), ("soft", "\u200bs\u00adoft\ufeff\u202c", 1.0)]
    splits = prepare_pairs(pairs(*raw), **PLAIN, validation_share=0)
    assert sorted(all_rows(splits)) == [("a", "A b", 0.0), ("a", "caf\u00e9 b", 1.0)]
    assert {"dropped_identical": 2, "dropped_duplicate": 2}.items() <= splits.counts.items()
    assert (
        "4 texts differ from another one in Unicode form, blanks or what is not seen alone, such as 'a '" in caplog.text
    )


@pytest.mark.filterwarnings("ignore:all pairs have the label")
def test_dropping_can_be_switched_off() -> None:
    raw = pairs(("a", "a", 1.0), ("a", "b", 1.0), ("a", "b", 1.0))
    splits = prepare_pairs(raw, **PLAIN, drop_identical=False, drop_duplicates=False)
    assert len(all_rows(splits)) == 3
    assert "dropped_identical" not in splits.counts


def test_at_most_two_pairs_for_each_input_and_label_survive() -> None:
    splits = prepare_pairs(grid(5, per_label=4), random_negatives=0)
    assert set(Counter((x1, score) for x1, _, score in all_rows(splits)).values()) == {2}
    assert splits.counts["dropped_over_cap"] == 5 * 3 * 2


def test_which_pairs_survive_the_cap_depends_on_the_seed_and_is_spread_over_all() -> None:
    raw = grid(200, per_label=4)
    kept = [x2.split()[-1] for _, x2, _ in all_rows(prepare_pairs(raw, random_negatives=0))]
    shares = Counter(kept)
    # 1,200 of 2,400 survive; each of the four samples is expected 300 times, with a deviation of about 12.
    assert set(shares) == {"0", "1", "2", "3"}
    assert all(240 < count < 360 for count in shares.values())
    other = prepare_pairs(raw, random_negatives=0, seed=7)
    assert sorted(all_rows(other)) != sorted(all_rows(prepare_pairs(raw, random_negatives=0)))


def test_negatives_are_x2_of_other_inputs_each_once_with_their_own_score() -> None:
    raw = grid(12, per_label=4)
    splits = prepare_pairs(raw, random_negative_score=0.25)
    negatives = [(x1, x2) for x1, x2, score in all_rows(splits) if score == 0.25]
    assert Counter(x1 for x1, _ in negatives) == {f"x{i}": 2 for i in range(12)}
    assert len(set(negatives)) == len(negatives)
    assert all(x2.split()[0] != x1 for x1, x2 in negatives)


@pytest.mark.parametrize(
    ("labels", "score", "is_told"),
    [((1, 3, 5), 0.0, True), ((1, 3, 5), 1.0, False), ((0, 3, 5), 0.0, False), ((0.5, 1), 0.0, False)],
)
def test_negatives_below_the_scale_of_the_labels_are_told(
    labels: tuple[float, ...], score: float, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"sentence1": f"x{i}", "sentence2": f"x{i} {label:g}", "score": float(label)}
        for i in range(12)
        for label in labels
    ]
    prepare_pairs(Dataset.from_list(rows), labels=labels, random_negative_score=score, label_smoothing=0.0)
    assert ("have the score 0, and the labels begin at 1" in caplog.text) == is_told


@pytest.mark.filterwarnings("ignore:all pairs have the label")
def test_a_negative_never_stands_in_the_raw_data_in_either_direction() -> None:
    # b is x2 of a and x1 itself; c's x2 is a: (b, a) would contradict (a, b) with score 1, (b, b) would be identical.
    raw = pairs(("a", "b", 1.0), ("c", "a", 1.0), ("b", "d", 1.0))
    for seed in range(20):
        with pytest.warns(DinoWarning, match="random negatives could not be drawn"):
            splits = prepare_pairs(raw, seed=seed, random_negatives=3)
        negatives = {(x1, x2) for x1, x2, score in all_rows(splits) if score == 0.0}
        # a: not b, not itself -> d. b: not d, not itself, not a -> none. c: not a -> b, d.
        assert negatives == {("a", "d"), ("c", "b"), ("c", "d")}
        assert splits.counts["random_negatives"] == 3
        assert splits.counts["random_negatives_missing"] == 6


def test_an_x2_that_the_cap_removed_is_still_the_inputs_own() -> None:
    raw = pairs(*(("a", f"a{i}", 1.0) for i in range(9)), ("b", "a3", 0.0), ("b", "a4", 0.0))
    for seed in range(10):
        with pytest.warns(DinoWarning, match="of 4 random negatives"):
            splits = prepare_pairs(raw, seed=seed, validation_share=0)
        assert all(x1 == "b" for x1, _, score in all_rows(splits) if score == 0.0)


def test_one_input_alone_gets_no_negatives_and_a_warning() -> None:
    with pytest.warns(DinoWarning, match="2 of 2 random negatives could not be drawn"):
        splits = prepare_pairs(grid(1))
    assert splits.counts["random_negatives"] == 0
    assert splits.counts["random_negatives_missing"] == 2


def test_negatives_are_found_even_where_almost_every_entry_is_ruled_out() -> None:
    first = np.array([0] * 5000 + [1])
    second = np.array([2] * 5000 + [3])
    x1, x2 = draw_negatives(first, second, (first, second), 1, random_bits(0, 0))
    assert list(zip(x1.tolist(), x2.tolist(), strict=True)) == [(0, 3), (1, 2)]


def test_negatives_are_drawn_as_often_as_their_entries() -> None:
    # For x1 = 0 the other entries have x2 = 10 three times and 11 once.
    first, second = np.array([0, 1, 2, 3, 4]), np.array([9, 10, 10, 10, 11])
    draws = [draw_negatives(first, second, (first, second), 1, random_bits(seed, 0))[1][0] for seed in range(800)]
    assert 540 < draws.count(10) < 660  # expected 600, deviation about 12


def test_equal_pairs_of_several_ratings_have_their_mean_whatever_their_order() -> None:
    rows = [
        {"sentence1": a, "sentence2": b, "score": score, "judged": 0.4}
        for a, b, score in all_rows(DatasetDict(all=grid(9)))
    ]
    twins = [{**rows[0], "judged": 0.2}, {**rows[0], "sentence2": rows[0]["sentence2"] + " ", "judged": 0.9}]
    found = []
    for pair in (twins, twins[::-1]):
        splits = prepare_pairs(Dataset.from_list([*rows[1:], *pair]), target="judged", random_negatives=0)
        found.append(sorted(all_rows(DatasetDict(train=splits["train"]))))
    assert found[0] == found[1]
    assert {row[2] for row in found[0]} == {0.4, 0.55}


def test_the_same_seed_gives_the_same_rows_in_the_same_order_whatever_the_order_of_the_input() -> None:
    raw = raw_pairs(30)
    assert all_rows(prepare_pairs(raw)) == all_rows(prepare_pairs(raw.shuffle(seed=3)))
    assert all_rows(prepare_pairs(raw)) != all_rows(prepare_pairs(raw, seed=1))


def test_the_files_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    code = (
        "import sys, hashlib, pathlib; sys.path.insert(0, sys.argv[1]);"
        "from tests.training_fixtures import raw_pairs;"
        "from dino_st.preparation.prepare import prepare_pairs;"
        "from dino_st.preparation.splits import save_prepared;"
        "save_prepared(prepare_pairs(raw_pairs(20)), sys.argv[2])"
    )
    save_prepared(prepare_pairs(raw_pairs(20)), tmp_path / "here")
    subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[2]), str(tmp_path / "there")],
        env=os.environ | {"PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"},
        check=True,
    )
    for name in ("data/train.parquet", "data/validation.parquet", "preparation.json", "README.md"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


def test_the_split_holds_out_a_tenth_of_every_score() -> None:
    strata = np.repeat([0, 1, 2], [100, 59, 10])
    mask, lifted = validation_rows(strata, np.arange(len(strata)), 0.1, random_bits(0, 0))
    assert np.bincount(strata[mask]).tolist() == [10, 5, 1]
    assert lifted == 0


def test_a_score_with_few_pairs_still_gets_one_validation_row_and_is_counted() -> None:
    strata = np.repeat([0, 1, 2], [9, 2, 1])
    mask, lifted = validation_rows(strata, np.arange(len(strata)), 0.1, random_bits(0, 0))
    assert np.bincount(strata[mask], minlength=3).tolist() == [1, 1, 0]
    assert lifted == 2


def test_a_validation_share_that_is_no_binary_fraction_is_not_cut_by_a_row() -> None:
    mask, _ = validation_rows(np.zeros(100, np.int64), np.arange(100), 0.29, random_bits(0, 0))
    assert mask.sum() == 29


def test_without_validation_share_everything_is_for_training() -> None:
    splits = prepare_pairs(grid(4), validation_share=0)
    assert (splits.counts["validation"], len(splits["validation"])) == (0, 0)
    assert splits.counts["train"] == 4 * 6 + 4 * 2


def test_rank_among_equals_counts_the_equal_elements_before() -> None:
    assert rank_among_equals(np.array([7, 3, 7, 7, 3])).tolist() == [0, 0, 1, 2, 1]
    assert rank_among_equals(np.array([], np.int64)).tolist() == []


def test_a_set_that_was_prepared_already_is_refused() -> None:
    once = prepare_pairs(grid(5))
    with pytest.raises(DatasetError, match=r"score that is none of the labels.* 0\.1, 0\.9 .*prepared already"):
        prepare_pairs(once["train"])


def test_the_labels_that_are_missing_are_named_as_they_can_be_given() -> None:
    five = pairs(("a", "b", 5.0), ("c", "d", 0.0), ("e", "f", 2.5))
    with pytest.raises(
        DatasetError, match=r"name all: --labels 0 --labels 2\.5 --labels 5, in Python labels=\[0, 2\.5, 5\]"
    ):
        prepare_pairs(five)
    assert prepare_pairs(five, labels=[0, 2.5, 5], validation_share=0, **PLAIN).counts["train"] == 3


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"none of the labels .*: nan"):
        prepare_pairs(pairs(("a", "b", float("nan")), ("a", "c", 1.0)))


def test_other_labels_can_be_named() -> None:
    splits = prepare_pairs(pairs(("a", "b", 5.0), ("c", "d", 3.0)), labels=[3, 5], validation_share=0, **PLAIN)
    assert sorted(row[2] for row in all_rows(splits)) == [3.0, 5.0]


def test_single_precision_scores_are_taken_for_the_labels_they_stand_for() -> None:
    raw = pairs(("a", "b", 0.2), ("c", "d", 0.7))
    features = raw.features.copy()
    features["score"].dtype = "float32"
    splits = prepare_pairs(raw.cast(features), labels=(0.2, 0.7), validation_share=0, **PLAIN)
    assert sorted(row[2] for row in all_rows(splits)) == [0.2, 0.7]


def test_labels_that_are_words_are_kept_and_split_without_smoothing_or_negatives() -> None:
    raw = Dataset.from_dict(
        {
            "sentence1": [f"x{i}" for i in range(40)],
            "sentence2": [f"y{i}" for i in range(40)],
            "label": ["sports", "art"] * 20,
            "tries": [1] * 40,
        }
    )
    splits = prepare_pairs(raw)
    assert splits["train"].column_names == ["sentence1", "sentence2", "label"]
    assert Counter(splits["validation"]["label"]) == {"sports": 2, "art": 2}
    assert len(all_rows(splits)) == 40
    assert splits.counts["kept[art]"] == 20


def test_single_texts_are_deduplicated_and_split() -> None:
    raw = Dataset.from_dict({"text": ["a", "a", "b", "c", " ", "d"], "label": ["0", "0", "0", "1", "1", "1"]})
    splits = prepare_pairs(raw)
    assert splits["train"].column_names == ["text", "label"]
    assert sorted(all_rows(splits)) == [("a", "0"), ("b", "0"), ("c", "1"), ("d", "1")]
    assert splits.counts["dropped_duplicate"] == 1
    assert splits.counts["dropped_blank"] == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["x"]}, r"have the columns \['a'\]"),
        ({"sentence1": ["x"], "sentence2": ["y"], "score": [1.0], "label": ["1"]}, "either score or label"),
        ({"sentence1": ["x"], "sentence2": ["y"], "label": [1.0]}, "rename it to 'score'"),
        ({"sentence1": ["x"], "sentence2": ["y"], "score": ["1"]}, "'score' .* holds string; expected numbers"),
        ({"sentence1": ["x", None], "sentence2": ["y", "y"], "score": [1.0, 1.0]}, "'sentence1' .* no value in row 1"),
        ({"sentence1": [1], "sentence2": ["y"], "score": [1.0]}, "'sentence1' .* holds int64; expected text"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        prepare_pairs(Dataset.from_dict(columns))


def test_nothing_to_prepare_is_refused() -> None:
    with pytest.raises(DatasetError, match="empty"):
        prepare_pairs(raw_pairs(1).select([]))
    with pytest.raises(DatasetError, match=r"no pair is left(.|\n)*dropped identical +2"):
        prepare_pairs(pairs(("a", "a", 0.0), ("b", "b", 1.0)))
    with pytest.raises(DatasetError, match=r"DatasetDict.*\['train'\], pass one of them"):
        prepare_pairs(DatasetDict(train=grid(2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.5}, "'label_smoothing' is 1.5; expected less than or equal to 1"),
        ({"validation_share": 1}, "'validation_share' is 1; expected less than 1"),
        ({"max_per_input_and_label": -1}, "'max_per_input_and_label' is -1"),
        ({"random_negative_score": float("inf")}, "'random_negative_score' is inf; expected a finite number"),
        ({"random_negative_score": 5}, "a random_negative_score between -1 and 1; given 5"),
        ({"labels": (0.0, 0.0)}, "'labels' is .*; expected each label once"),
        ({"labels": ()}, "'labels'"),
        ({"seed": -1}, "'seed' is -1"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prepare_pairs(grid(2), **options)


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'label_smoothing'"):
        PreparationOptions.of(label_smothing=0.1)


def test_the_counts_are_logged_one_line_a_step(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="dino_st"):
        splits = prepare_pairs(grid(5))
    assert format_counts(splits.counts) in caplog.text
    assert format_counts({"input": 1234, "dropped_blank": 5}).splitlines() == [
        "input                 1,234",
        "dropped blank             5",
    ]


def test_a_prepared_directory_is_read_by_load_dataset_and_by_load_prepared(tmp_path: Path) -> None:
    splits = prepare_pairs(raw_pairs(20), seed=5)
    save_prepared(splits, tmp_path / "set", provenance={"generator_model": "tiny", "task": {"name": "sts-x2"}})
    loaded = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    ours = load_prepared(tmp_path / "set")
    for name in ("train", "validation"):
        assert loaded[name].to_dict() == ours[name].to_dict() == splits[name].to_dict()
    assert (ours.counts, ours.options) == (splits.counts, splits.options)
    assert ours.provenance == {"generator_model": "tiny", "task": {"name": "sts-x2"}}
    assert "| generator_model | tiny |" in (tmp_path / "set" / "README.md").read_text(encoding="utf-8")


def test_a_prepared_directory_may_be_written_again_but_no_other(tmp_path: Path) -> None:
    splits = prepare_pairs(raw_pairs(20))
    save_prepared(splits, tmp_path / "set")
    save_prepared(prepare_pairs(raw_pairs(10)), tmp_path / "set")
    assert load_prepared(tmp_path / "set").counts["input"] == 60
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds something else"):
        save_prepared(splits, tmp_path / "other")
    with pytest.raises(OutputError, match="is a file"):
        save_prepared(splits, tmp_path / "other" / "thesis.txt")
    assert (tmp_path / "other" / "thesis.txt").read_text() == "years of work"


def test_other_pairs_that_leave_the_same_rows_are_another_preparation(tmp_path: Path) -> None:
    def write(*dropped: Row, overwrite: bool = False) -> str:
        splits = prepare_pairs(pairs(*grid_rows, *dropped), explain=True, **PLAIN)
        return write_prepared(splits, tmp_path / "set", overwrite=overwrite)

    grid_rows = [tuple(row.values()) for row in grid(8)]
    write(("x0", "x0", 1.0))
    assert "complete already" in write(("x0", "x0", 1.0))
    with pytest.raises(OutputError, match="holds another preparation"):
        write(("x1", "x1", 1.0))
    with pytest.raises(OutputError, match="holds another preparation"):
        write(("x0", "x0", 1.0), ("x1", "x1", 1.0))
    assert "in place of an earlier preparation" in write(("x1", "x1", 1.0), overwrite=True)
    listed = [json.loads(line) for line in (tmp_path / "set" / "rejected.jsonl").read_text("utf-8").splitlines()]
    assert [row["sentence1"] for row in listed] == ["x1"]


def test_a_list_of_dropped_pairs_without_a_whole_preparation_is_written_again(tmp_path: Path) -> None:
    raw, output = scored_directory(tmp_path / "raw"), tmp_path / "set"
    command = ["prepare", str(raw), "--output", str(output), "--explain"]
    assert CliRunner().invoke(app, [*command, "--min-words", "99"]).exit_code == 1
    assert (output / "rejected.jsonl").exists()
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "in place of an earlier preparation that was not complete" in " ".join(result.output.split())


def test_a_split_that_was_exchanged_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        save_prepared(prepare_pairs(raw_pairs(20), seed=seed), tmp_path / name)
    caplog.clear()
    load_prepared(tmp_path / "a")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    shutil.copy(tmp_path / "b" / "data" / "train.parquet", tmp_path / "a" / "data")
    load_prepared(tmp_path / "a")
    assert "train.parquet: is another file than the one that was written here" in caplog.text
    assert "is not of this run" not in caplog.text
    shutil.copy(tmp_path / "b" / "data" / "train.parquet", tmp_path / "a" / "data" / "train-more.parquet")
    (tmp_path / "a" / "train.csv").write_text("sentence1,sentence2,score\n")
    load_prepared(tmp_path / "a")
    assert "data/train-more.parquet is not of this run, but datasets.load_dataset may read it" in caplog.text
    assert "train.csv is not of this run, and is not read" in caplog.text


def test_a_split_that_another_library_wrote_again_has_the_types_of_ours(tmp_path: Path) -> None:
    save_prepared(prepare_pairs(raw_pairs(20)), tmp_path)
    for name, kinds in {
        "train": (pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.float32()),
        "validation": (
            getattr(pa, "string_view", pa.large_string)(),
            pa.dictionary(pa.int8(), pa.large_string()),
            pa.float64(),
        ),
    }.items():
        file = tmp_path / "data" / f"{name}.parquet"
        rows = pq.read_table(file).replace_schema_metadata(None)
        columns = [column.cast(kind) for column, kind in zip(rows.columns, kinds, strict=True)]
        pq.write_table(pa.table(dict(zip(rows.column_names, columns, strict=True))), file)
        assert read_tables(tmp_path)[1][name].schema == rows.schema
    report = CliRunner().invoke(app, ["report", str(tmp_path), "--output", str(tmp_path / "report")])
    assert report.exit_code == 0, report.output
    assert pair_splits(str(tmp_path), 8, "cosine")[0]["train"].schema == rows.schema


def test_columns_that_people_and_pandas_add_to_a_split_are_named_and_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_prepared(prepare_pairs(raw_pairs(20)), tmp_path)
    file = tmp_path / "data" / "train.parquet"
    rows = pq.read_table(file).replace_schema_metadata(None)
    index = pa.array(range(len(rows)))
    pq.write_table(rows.select([2, 1, 0]).append_column("__index_level_0__", index).append_column("note", index), file)
    with caplog.at_level(logging.INFO, "dino_st"):
        assert read_tables(tmp_path)[1]["train"].equals(rows)
    assert f"{file}: columns that are not used: '__index_level_0__', 'note'" in caplog.text
    for name in ("label", "score"):  # either may be meant, or stands twice
        pq.write_table(pa.Table.from_arrays([*rows.columns, rows.column(2)], [*rows.column_names, name]), file)
        with pytest.raises(InputError, match=r"train\.parquet: has the columns \['sentence1'.*; expected one of"):
            read_tables(tmp_path)


def test_a_directory_that_another_process_writes_to_is_refused(tmp_path: Path) -> None:
    splits = prepare_pairs(raw_pairs(20))
    with only_writer(tmp_path), pytest.raises(OutputError, match="another process is writing there"):
        save_prepared(splits, tmp_path)
    save_prepared(splits, tmp_path)
    assert load_prepared(tmp_path).counts == splits.counts


def test_an_interrupted_directory_is_recognised_and_can_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = prepare_pairs(raw_pairs(20))

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.parquet.write_table", full_disk)
        with pytest.raises(OutputError, match="No space left"):
            save_prepared(splits, tmp_path / "set")
    with pytest.raises(InputError, match="was interrupted"):
        load_prepared(tmp_path / "set")
    save_prepared(splits, tmp_path / "set")
    assert load_prepared(tmp_path / "set").counts == splits.counts
    assert sorted(file.name for file in (tmp_path / "set").rglob("*") if file.is_file()) == [
        ".lock",
        "README.md",
        "preparation.json",
        "train.parquet",
        "validation.parquet",
    ]


def test_provenance_that_is_not_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="provenance cannot be written as JSON"):
        save_prepared(prepare_pairs(raw_pairs(10)), tmp_path / "set", provenance={"model": object()})
    assert not (tmp_path / "set").exists()


def test_directories_that_are_missing_foreign_or_damaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such directory"):
        load_prepared(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no preparation\.json"):
        load_prepared(tmp_path)
    save_prepared(prepare_pairs(raw_pairs(10)), tmp_path / "set")
    record = tmp_path / "set" / "preparation.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps(content | {"counts": "many"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"preparation\.json: counts: Input should be a mapping"):
        load_prepared(tmp_path / "set")
    record.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "set" / "data" / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"train\.parquet: cannot be read"):
        load_prepared(tmp_path / "set")


def scored_directory(path: Path, labels: Sequence[str] = ("1", "0.5", "0")) -> Path:
    """Shards as the scorer writes them: each pair is likeliest under its own label, in the order of the task."""
    task = {"task_name": "t", "labels": {label: {"instruction": f'{label} "<X1>" "'} for label in labels}}
    rows = [
        {
            "sentence1": f"x{i}",
            "sentence2": f"x{i} y{place}",
            "score": float(label),
            "log_probs": [-20.0 - 3 * (other != place) for other in range(len(labels))],
        }
        for i in range(40)
        for place, label in enumerate(labels)
    ]
    schema = pa.Table.from_pylist(rows[:1]).schema
    provenance = {"model": "none", "versions": {}}
    with ShardDirectory(path).open(configuration={"task": task}, provenance=provenance, schema=schema) as store:
        store.put(Wave(0, rows, {"rows": len(rows)}))
        store.finish("# Card")
    return path


def test_the_columns_of_scored_shards_reach_the_preparation_in_the_order_of_the_task(tmp_path: Path) -> None:
    raw = scored_directory(tmp_path / "raw")
    options: dict[str, Any] = {"target": "posterior-mixed", "posterior_weight": 1, "posterior_temperature": 1}
    for labels in ({}, {"labels": [0, 0.5, 1]}):  # a recipe may name the labels in another order
        splits, _ = prepare_data(raw, tmp_path / "set", PreparationOptions.of(**options, **labels, random_negatives=0))
        assert splits.provenance["label_posterior"]["agreement_with_labels"] == 1
        # 3 nats: the own label has weight 1, the others e^-3 each; the expected scores of 1, 0.5 and 0 follow.
        other = math.exp(-3) / (1 + 2 * math.exp(-3))
        assert sorted(set(splits["train"]["score"])) == pytest.approx([1.5 * other, 0.5, 1 - 1.5 * other])


def test_the_table_is_let_go_of_once_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables, held = [], []
    read, drop = stages.read_raw, prepare.drop_worthless

    def watched_read(raw: Path) -> Any:
        found = read(raw)
        tables.append(weakref.ref(found[0]))
        return found

    def watched_drop(*given: Any) -> Any:
        held.append(tables[0]())
        return drop(*given)

    monkeypatch.setattr(stages, "read_raw", watched_read)
    monkeypatch.setattr(prepare, "drop_worthless", watched_drop)
    prepare_data(scored_directory(tmp_path / "raw"), tmp_path / "set", PreparationOptions())
    assert held == [None]


def test_the_command_filters_and_explains(tmp_path: Path) -> None:
    raw, output = scored_directory(tmp_path / "raw"), tmp_path / "set"
    command = ["prepare", raw, "--output", output, "--explain", "--min-posterior", 0.5, "--near-copy-overlap", 0.5]
    command += ["--near-copy-labels", 0, "--target", "posterior-resampled"]
    result = CliRunner().invoke(app, [str(argument) for argument in command])
    assert result.exit_code == 0, result.output
    # "x3" and "x3 y0" share one of two words.
    reasons = [json.loads(line)["reason"] for line in (output / "rejected.jsonl").read_text("utf-8").splitlines()]
    assert Counter(reasons) == {"near_copy_overlap": 40}
    options = load_prepared(output).options
    assert isinstance(options, PreparationOptions)
    assert (options.near_copy_labels, options.target) == ((0.0,), "posterior-resampled")
    assert len(load_dataset(str(output), cache_dir=str(tmp_path / "cache"))["train"]) > 0


def test_the_command_explains_even_where_nothing_is_left(tmp_path: Path) -> None:
    raw, output = scored_directory(tmp_path / "raw"), tmp_path / "set"
    command = ["prepare", str(raw), "--output", str(output), "--min-words", "99"]
    result = CliRunner().invoke(app, [*command, "--explain"])
    assert result.exit_code == 1
    assert f"What was dropped, and why: {output / 'rejected.jsonl'}" in result.output.replace("\n", "")
    assert len((output / "rejected.jsonl").read_text("utf-8").splitlines()) > 100
    with pytest.raises(InputError):
        load_prepared(output)
    again = CliRunner().invoke(app, [*command[:-2]])  # the directory is ours and may be written again
    assert again.exit_code == 0
    assert "in place of an earlier preparation" in again.output.replace("\n", " ")
    assert not (output / "rejected.jsonl").exists()
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert CliRunner().invoke(app, [*command, "--explain"]).exit_code == 1
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_pairs_of_one_label_alone_are_prepared_with_a_warning() -> None:
    with pytest.warns(DinoWarning, match="all pairs have the label 1"):
        prepare_pairs(raw_pairs(10).filter(lambda row: row["score"] == 1))


def test_the_command_refuses_a_threshold_out_of_range_in_words(tmp_path: Path) -> None:
    raw = scored_directory(tmp_path / "raw")
    result = CliRunner().invoke(app, ["prepare", str(raw), "--output", str(tmp_path / "set"), "--min-posterior", "2"])
    assert result.exit_code == 2
    assert not (tmp_path / "set").exists()


def test_data_of_older_versions_is_read_with_the_defaults_of_new_options(tmp_path: Path) -> None:
    save_prepared(prepare_pairs(raw_pairs(10)), tmp_path / "set")
    record = tmp_path / "set" / "preparation.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    old = ("seed", "labels", "drop_identical", "label_smoothing", "random_negatives", "validation_share")
    content["options"] = {name: content["options"][name] for name in old}
    record.write_text(json.dumps(content), encoding="utf-8")
    assert load_prepared(tmp_path / "set").options == PreparationOptions()


def test_the_published_recipe_prepares_the_rows_that_it_always_did() -> None:
    # Of 60 x1 by the version before there were filters; the order of the rows counts.
    splits = prepare_pairs(raw_pairs(60))
    lines = {name: "\n".join(map(json.dumps, split.to_list())).encode() for name, split in splits.items()}
    found = {name: hashlib.sha256(text).hexdigest()[:16] for name, text in lines.items()}
    assert found == GOLDEN
