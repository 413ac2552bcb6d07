"""Filters of preparation, what each measures and drops and under which name; targets that know of noise."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, Features, List, Value

from dino_st.errors import ConfigurationError, DatasetError, DinoWarning
from dino_st.pipeline.stages import prepare_data
from dino_st.preparation.filters import measure
from dino_st.preparation.options import PreparationOptions
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import PreparedSplits, load_prepared, save_prepared
from dino_st.preparation.targets import target_scores
from dino_st.support.files import REJECTED
from dino_st.support.hashes import random_bits
from dino_st.support.similarity import edit_similarity, word_overlap

# One label is enough to show what a filter drops.
pytestmark = pytest.mark.filterwarnings("ignore:all pairs have the label")

KEEP_ALL: dict[str, Any] = {
    "random_negatives": 0,
    "max_per_input_and_label": 0,
    "label_smoothing": 0,
    "validation_share": 0,
}


def prepared(dataset: Dataset, **options: Any) -> PreparedSplits:
    """With log-probabilities in the order of these labels."""
    return prepare_pairs(dataset, **({"labels": [0.0, 0.5, 1.0]} | options))


def texts(*values: str) -> pa.LargeStringArray:
    return pa.array(values, pa.large_string())


def one(name: str, *values: str) -> list[float]:
    return [round(value, 6) for value in measure(texts(*values), name)[name].tolist()]


def raw(*rows: tuple[str, str, float], **columns: list[Any]) -> Dataset:
    first, second, score = zip(*rows, strict=True)
    return Dataset.from_dict({"sentence1": list(first), "sentence2": list(second), "score": list(score)} | columns)


def kept(dataset: Dataset, **options: Any) -> tuple[set[tuple[str, float]], dict[str, int]]:
    """x2 and score of what is left, and the counts of what was dropped."""
    splits = prepared(dataset, **(KEEP_ALL | options))
    dropped = {name: count for name, count in splits.counts.items() if name.startswith("dropped") and count}
    return {(row["sentence2"], row["score"]) for row in splits["train"]}, dropped


def scored(pairs: int, seed: int = 0) -> Dataset:
    """Pairs with labels 0, 0.5, 1 in turn and log-probabilities that mostly agree with them."""
    rng = np.random.default_rng(seed)
    label = np.arange(pairs) % 3
    log_probs = rng.normal(-20, 2, (pairs, 3))
    log_probs[np.arange(pairs), label] += 3
    return Dataset.from_dict(
        {
            "sentence1": [f"x{i // 6}" for i in range(pairs)],
            "sentence2": [f"x{i // 6} y{i}" for i in range(pairs)],
            "score": (label / 2).tolist(),
            "num_tokens": [5 + i % 4 for i in range(pairs)],
            "log_probs": log_probs.tolist(),
        }
    )


def levenshtein(first: str, second: str) -> int:
    """The table of the textbook."""
    above = list(range(len(second) + 1))
    for row, a in enumerate(first, start=1):
        here = [row]
        for column, b in enumerate(second, start=1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (a != b)))
        above = here
    return above[-1]


def test_the_edit_similarity_is_that_of_the_textbook_across_block_borders() -> None:
    rng = random.Random(0)
    lengths = (0, 1, 2, 9, 31, 63, 64, 65, 100, 127, 128, 129, 200)
    words = ["".join(rng.choice("abé漢 ") for _ in range(length)) for length in lengths for _ in range(3)]
    pairs = [(rng.randrange(len(words)), rng.randrange(len(words))) for _ in range(250)]
    first, second = np.array(pairs).T
    expected = [1 - levenshtein(words[a], words[b]) / max(len(words[a]), len(words[b]), 1) for a, b in pairs]
    assert edit_similarity(first, second, texts(*words)).tolist() == pytest.approx(expected, abs=1e-12)


def test_the_edit_similarity_ignores_case_and_what_is_behind_512_characters() -> None:
    words = texts("A Dog Runs", "a dog ran", "x" * 512 + "y" * 90, "X" * 512)
    found = edit_similarity(np.array([0, 2]), np.array([1, 3]), words)
    assert found.tolist() == pytest.approx([1 - 2 / 10, 1.0])


def test_a_pair_that_is_just_as_similar_as_the_threshold_is_dropped() -> None:
    # Two edits of five characters; for rapidfuzz's own cutoff 0.6 would be less than 0.6.
    assert kept(raw(("a", "abcde", 1.0), ("abcde", "abczz", 1.0)), near_copy_edit=0.6)[1] == {
        "dropped_near_copy_edit": 1
    }


def test_word_overlap_is_jaccards_on_lower_case_words() -> None:
    words = ("A man, a plan.", "the MAN plans", "", "...", "naïve Straße 42", "straße naïve", "кот a")
    sets = [set(re.findall(r"\w+", word.lower())) for word in words]
    first, second = np.divmod(np.arange(49), 7)
    expected = [len(sets[a] & sets[b]) / max(len(sets[a] | sets[b]), 1) for a, b in zip(first, second, strict=True)]
    assert word_overlap(first, second, texts(*words)).tolist() == pytest.approx(expected)


def test_words_of_scripts_without_spaces_are_pairs_of_letters() -> None:
    given = texts("犬が寝ている。", "犬が寝ています！", "株価が下がった。", "A dog")
    pairs = [{"犬が", "が寝", "寝て", "てい", "いる"}, {"犬が", "が寝", "寝て", "てい", "いま", "ます"}]
    expected = len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1])
    first = np.zeros(4, np.int64)
    assert word_overlap(first, np.arange(4), given).tolist() == pytest.approx([1, expected, 0, 0])


def test_measures_of_a_text() -> None:
    assert one("words", "a dog  runs", " one ", "", "don't stop") == [3, 1, 0, 2]
    assert one("words", "犬が寝ている。", "猫", "我喜欢，Python 3。", "안녕 세계", "「はい」") == [5, 1, 4, 2, 1]
    assert one("non_letters", "abcd", "ab 12", "!?", "é漢") == [0, 0.5, 1, 0]
    assert one("latin", "Straße", "abДЖ", "漢字", "x漢") == [1, 0.5, 0, 0.5]
    assert math.isnan(one("latin", "123")[0])
    # "go go go go" has the sequence "go go go" twice; of the last text's six sequences the last two stood there before.
    assert one("repeated_trigrams", "a b", "a b c d", "go Go go go", "a b c d a b c d") == [0, 0, 0.5, round(2 / 6, 6)]


@pytest.mark.parametrize(
    ("text", "is_broken"),
    [
        ("A man (with a hat) plays.", False),
        ("It's the dogs' ball", False),
        ('He said "no"', False),
        ("What it is made of", False),
        ("Vitamin A", False),
        ("12 : 30", True),
        ("A man (with a hat plays.", True),
        ("A man with a hat) plays.", True),
        ("“Quoted", True),
        ('He said "no', True),
        ("A man, ", True),
        ("A man -", True),
        ("Sie sagte: „Nein“.", False),
        ("Powiedział „nie” i «tak».", False),
        ("Sie sagte: „Nein.", True),
        ("Sie sagte: Nein“.", True),
        ("彼は「はい」と言った。", False),
        ("彼は「はいと言った。", True),
        ("A man and", True),
        ("A man and.", True),
        ("He left because", True),
        ("the", True),
    ],
)
def test_punctuation_looks_broken_or_not(text: str, is_broken: bool) -> None:
    assert one("broken", text) == [float(is_broken)]


def test_a_text_is_measured_alike_wherever_it_stands() -> None:
    several = texts("a b c a b c", "(", "", "hello, world", "go go go go go")
    sliced = pa.concat_arrays([texts("zz zz (("), several])[1:]
    for name in ("words", "non_letters", "repeated_trigrams", "broken", "latin"):
        alone = np.array([measure(several.slice(i, 1), name)[name][0] for i in range(5)])
        np.testing.assert_array_equal(measure(several, name)[name], alone)
        np.testing.assert_array_equal(measure(sliced, name)[name], alone)
        assert measure(texts(), name)[name].tolist() == []


def test_repeated_trigrams_are_those_of_a_slow_count() -> None:
    rng = random.Random(0)
    some = [
        " ".join(rng.choice("abcd" if i % 2 else "abcdefghijkl") for _ in range(rng.randint(0, 14))) for i in range(400)
    ]
    expected = []
    for text in some:
        words = text.split()
        counts = Counter(zip(words, words[1:], words[2:], strict=False))
        expected.append((counts.total() - len(counts)) / max(counts.total(), 1))
    assert measure(texts(*some), "repeated_trigrams")["repeated_trigrams"].tolist() == expected


NOISY = raw(
    ("a man plays the guitar", "a man plays the guitars", 1.0),
    ("a man plays the guitar", "the guitar plays a man", 1.0),
    ("a man plays the guitar", "music", 0.5),
    ("a man plays the guitar", "no no no no no no no", 0.5),
    ("a man plays the guitar", "a woman 12 345 678 901", 0.0),
    ("a man plays the guitar", "женщина играет на гитаре", 0.0),
    ("a man plays the guitar", "a woman sings and", 0.0),
    ("a man plays the guitar", "someone sings a long song", 0.0),
)
EVERY_X2 = set(NOISY["sentence2"])


@pytest.mark.parametrize(
    ("options", "reason", "dropped"),
    [
        ({"near_copy_edit": 0.9}, "near_copy_edit", {"a man plays the guitars"}),
        ({"near_copy_overlap": 0.9}, "near_copy_overlap", {"the guitar plays a man"}),
        ({"min_words": 2}, "too_short", {"music"}),
        ({"max_words": 6}, "too_long", {"no no no no no no no"}),
        ({"max_length_ratio": 3}, "length_ratio", {"music"}),
        ({"max_repeated_trigrams": 0.3}, "repetition", {"no no no no no no no"}),
        ({"max_non_letters": 0.5}, "non_letters", {"a woman 12 345 678 901"}),
        ({"max_script_difference": 0.5}, "script", {"женщина играет на гитаре"}),
        ({"drop_broken_punctuation": True}, "punctuation", {"a woman sings and"}),
    ],
)
def test_a_filter_drops_what_it_is_for_and_counts_it(options: dict[str, Any], reason: str, dropped: set[str]) -> None:
    rows, counts = kept(NOISY, **options)
    assert {x2 for x2, _ in rows} == EVERY_X2 - dropped
    assert counts == {f"dropped_{reason}": len(dropped)}


def test_without_options_nothing_is_filtered() -> None:
    rows, counts = kept(NOISY)
    assert ({x2 for x2, _ in rows}, counts) == (EVERY_X2, {})


def test_near_copies_are_dropped_of_the_named_labels_alone() -> None:
    rows = raw(("a b c d e", "a b c d e f", 1.0), ("a b c d e", "a b c d e g", 0.0))
    assert kept(rows, near_copy_overlap=0.8, near_copy_labels=[0]) == (
        {("a b c d e f", 1.0)},
        {"dropped_near_copy_overlap": 1},
    )
    assert kept(rows, near_copy_edit=0.8, near_copy_labels=[1])[0] == {("a b c d e g", 0.0)}


def test_a_row_is_counted_once_under_the_first_reason() -> None:
    _, counts = kept(NOISY, min_words=2, max_length_ratio=3, max_repeated_trigrams=0.3)
    assert counts == {"dropped_too_short": 1, "dropped_repetition": 1}


def test_improbable_texts_are_judged_by_the_mean_of_their_tokens() -> None:
    rows = raw(
        ("a", "b c", 0.0),
        ("a", "d e", 0.0),
        ("a", "f g", 0.0),
        plain_log_prob=[-8.0, -9.0, -math.inf],
        num_tokens=[4, 2, 3],
    )
    assert kept(rows, min_token_log_prob=-2.5) == ({("b c", 0.0)}, {"dropped_improbable": 2})


def test_of_conflicting_labels_the_likelier_is_kept() -> None:
    # By the log-probabilities "b" is 1 rather than 0, though 0.5, which nobody wrote it for, is likeliest of all.
    rows = raw(
        ("a", "b", 0.0),
        ("a", "b", 1.0),
        ("a", "c", 1.0),
        log_probs=[[-4.0, -1.0, -3.0], [-4.0, -1.0, -3.0], [-1.0, -9, -9]],
    )
    found = kept(rows, drop_label_conflicts=True, posterior_temperature=1)
    assert found == ({("b", 1.0), ("c", 1.0)}, {"dropped_label_conflict": 1})


def test_without_log_probabilities_no_conflicting_label_is_kept() -> None:
    rows = raw(("a", "b", 0.0), ("a", "b", 1.0), ("b", "b2", 0.0), ("a", "c", 1.0))
    assert kept(rows, drop_label_conflicts=True) == ({("b2", 0.0), ("c", 1.0)}, {"dropped_label_conflict": 2})


def test_labels_that_conflict_are_told_where_they_stay(caplog: pytest.LogCaptureFixture) -> None:
    rows = raw(("a", "b", 0.0), ("a", "b", 1.0), ("b", "b2", 0.0), ("a", "c", 1.0))
    told = "2 of 4 rows stand there with another label, too"
    assert len(kept(rows)[0]) == 4
    assert told in caplog.text
    assert "as it stands; drop_label_conflicts=True keeps" in caplog.text
    caplog.clear()
    kept(rows, drop_label_conflicts=True)
    kept(raw(("a", "b", 0.0), ("a", "b", 0.0), ("a", "c", 1.0)))
    assert "another label" not in caplog.text


def test_labels_that_are_words_can_conflict_too() -> None:
    rows = Dataset.from_dict({"text": ["a", "a", "b"], "label": ["x", "y", "x"]})
    splits = prepared(rows, drop_label_conflicts=True, validation_share=0, min_words=1)
    assert splits["train"].to_list() == [{"text": "b", "label": "x"}]


def test_pairs_whose_label_is_unlikely_are_dropped() -> None:
    rows = raw(
        ("a", "b", 0.0),
        ("a", "c", 1.0),
        log_probs=[[math.log(0.6), math.log(0.4), -99], [-99, math.log(0.9), math.log(0.1)]],
    )
    assert kept(rows, min_posterior=0.5, posterior_temperature=1) == ({("b", 0.0)}, {"dropped_low_posterior": 1})


def test_log_probabilities_may_be_of_any_list_type_and_precision() -> None:
    features = Features(scored(6).features) | {"log_probs": List(Value("float32"), length=3)}
    options: dict[str, Any] = {"target": "posterior-mixed", "posterior_weight": 1, "posterior_temperature": 2}
    exact, rounded = (
        prepared(rows, **KEEP_ALL, **options)["train"]["score"][:]
        for rows in (scored(6), scored(6).cast(Features(features)))
    )
    assert rounded == pytest.approx(exact, abs=1e-5)


def test_mixed_targets_lie_between_the_smoothed_label_and_the_expected_score() -> None:
    posterior = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
    options = PreparationOptions(target="posterior-mixed", posterior_weight=0.25)
    # 0.75 · 0.1 + 0.25 · (0.3 · 0.5 + 0.2); 0.75 · 0.9 + 0.25 · 1
    found = target_scores(np.array([0, 2]), posterior, options, random_bits(0, 4))
    assert found.tolist() == pytest.approx([0.1625, 0.925])


def test_resampled_targets_are_smoothed_labels_as_frequent_as_the_mixture_says() -> None:
    posterior = np.tile([0.1, 0.2, 0.7], (20_000, 1))
    options = PreparationOptions(target="posterior-resampled", posterior_weight=0.5)
    drawn = Counter(target_scores(np.zeros(20_000, np.int64), posterior, options, random_bits(0, 4)).tolist())
    # Half of the rows keep label 0, the others follow the posterior; three deviations are about 210 rows.
    assert {value: round(count / 20_000, 1) for value, count in drawn.items()} == {0.1: 0.6, 0.5: 0.1, 0.9: 0.3}
    assert abs(drawn[0.1] - 11_000) < 210
    assert abs(drawn[0.9] - 7_000) < 210


@pytest.mark.parametrize("target", ["posterior-mixed", "posterior-resampled"])
def test_a_weight_of_zero_gives_the_smoothed_labels(target: str) -> None:
    options: dict[str, Any] = {"posterior_temperature": 1, "random_negatives": 1}
    plain = prepared(scored(120), random_negatives=1)
    other = prepared(scored(120), target=target, posterior_weight=0, **options)
    assert other["train"].to_list() == plain["train"].to_list()


@pytest.mark.parametrize("target", ["posterior-mixed", "posterior-resampled"])
def test_targets_change_the_scores_to_train_on_and_neither_the_pairs_nor_the_validation_split(target: str) -> None:
    plain = prepared(scored(300), random_negatives=1)
    other = prepared(scored(300), random_negatives=1, target=target, posterior_weight=1)
    assert other["validation"].to_list() == plain["validation"].to_list()
    for name in ("sentence1", "sentence2"):
        assert other["train"][name][:] == plain["train"][name][:]
    changed = np.array(other["train"]["score"][:]) != np.array(plain["train"]["score"][:])
    assert 0.05 < changed.mean() < 0.95
    randoms = [b for a, b in zip(plain["train"]["score"], other["train"]["score"], strict=True) if a == 0.0]
    assert set(randoms) == {0.0}
    assert other["train"]._fingerprint != plain["train"]._fingerprint


def test_validation_scores_follow_the_target_when_asked() -> None:
    options: dict[str, Any] = {"target": "posterior-mixed", "random_negatives": 0}
    plain = prepared(scored(300), **options)
    other = prepared(scored(300), **options, validation_scores="target")
    assert len(set(plain["validation"]["score"][:])) == 3
    assert len(set(other["validation"]["score"][:])) > 10
    assert other["train"].to_list() == plain["train"].to_list()


def test_the_fitted_temperature_is_recorded(tmp_path: Path) -> None:
    save_prepared(prepared(scored(300), target="posterior-mixed", random_negatives=0), tmp_path / "set")
    facts = load_prepared(tmp_path / "set").provenance["label_posterior"]
    assert facts["fitted"] is True
    assert facts["held_out_pairs"] == 150
    assert facts["cross_entropy_after"] < math.log(3)
    assert facts["agreement_with_labels"] > 0.6
    given = prepared(scored(300), target="posterior-mixed", random_negatives=0, posterior_temperature=3)
    assert given.provenance["label_posterior"]["temperature"] == 3


def test_everything_together_is_the_same_whatever_the_order_of_the_rows() -> None:
    rows = scored(300)
    doubled = {name: [*column, *column[:90]] for name, column in rows.to_dict().items()}
    doubled["log_probs"][300:] = scored(90, seed=1)["log_probs"][:]
    both = Dataset.from_dict(doubled | {"plain_log_prob": [-10.0 - i % 7 for i in range(390)]})
    options: dict[str, Any] = {
        "target": "posterior-resampled",
        "min_posterior": 0.1,
        "near_copy_edit": 0.99,
        "min_token_log_prob": -3,
        "drop_label_conflicts": True,
        "negative_guard": "overlap",
        "posterior_length_normalised": True,
        "explain": True,
    }
    one_way, other_way = prepared(both, **options), prepared(both.shuffle(seed=5), **options)
    for split in ("train", "validation"):
        assert one_way[split].to_list() == other_way[split].to_list()
    assert one_way.counts == other_way.counts
    assert one_way.rejected.to_pylist() == other_way.rejected.to_pylist()
    assert one_way.counts["dropped_duplicate"] == 90


def test_the_guard_draws_no_negative_that_shares_too_many_words() -> None:
    # Half of the x2 share two of three words with every x1 that is not their own.
    rows = raw(
        *((f"red fox{i}", f"red fox{i} {'red fox0 fox1' if i % 2 else f'blue{i} sky{i}'}", 1.0) for i in range(40))
    )
    sets = {text: set(text.split()) for text in [*rows["sentence1"], *rows["sentence2"]]}

    def overlaps(**options: Any) -> list[float]:
        splits = prepared(rows, **(KEEP_ALL | {"random_negatives": 2} | options))
        pairs = [(row["sentence1"], row["sentence2"]) for row in splits["train"] if row["score"] == 0.0]
        assert len(pairs) == 80
        return [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs]

    assert max(overlaps()) >= 0.25
    assert max(overlaps(negative_guard="overlap", negative_guard_overlap=0.25)) < 0.25


def test_a_guard_that_lets_nothing_through_warns_and_counts() -> None:
    rows = raw(*((f"the fox{i}", f"the fox {i}", 1.0) for i in range(10)))
    with pytest.warns(DinoWarning, match=r"20 of 20 random negatives .* share less than 0\.01 of the words"):
        splits = prepared(rows, negative_guard="overlap", negative_guard_overlap=0.01)
    assert splits.counts["random_negatives_missing"] == 20
    assert splits.counts["random_negatives_redrawn"] > 20


def test_rejected_rows_are_written_with_reason_and_value(tmp_path: Path) -> None:
    rows = raw(
        ("a b", " ", 0.0), ("a b", "a b", 0.0), ("a b", "c d", 0.5), ("a b", "c d", 0.5), ("a b", "e", 1.0),
        ("a b", "g h", 1.0), ("a b", "i j", 1.0), ("k l", "m n", 0.0), ("o p", "q r", 0.0),
    )  # fmt: skip
    options: dict[str, Any] = {"min_words": 2, "max_per_input_and_label": 1, "validation_share": 0}
    splits = prepared(rows, random_negatives=0, explain=True, **options)
    save_prepared(splits, tmp_path / "set")
    lines = [json.loads(line) for line in (tmp_path / "set" / REJECTED).read_text(encoding="utf-8").splitlines()]
    assert [(line["sentence2"], line["score"], line["reason"], line["value"]) for line in lines[:4]] == [
        (" ", 0.0, "blank", None),
        ("a b", 0.0, "identical", None),
        ("c d", 0.5, "duplicate", None),
        ("e", 1.0, "too_short", 1.0),
    ]
    assert (lines[4]["reason"], len(lines)) == ("over_cap", 5)
    assert sum(count for name, count in splits.counts.items() if name.startswith("dropped")) == len(lines)
    save_prepared(prepared(rows, random_negatives=0, **options), tmp_path / "set")
    assert not (tmp_path / "set" / REJECTED).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "posterior-mixed"}, r"option 'target' needs the column 'log_probs'.*`dino-st score"),
        ({"min_posterior": 0.5}, "option 'min_posterior' needs the column 'log_probs'"),
        ({"min_token_log_prob": -5}, "option 'min_token_log_prob' needs the column 'plain_log_prob'"),
    ],
)
def test_options_that_need_a_score_say_how_to_get_it(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        prepared(NOISY, **options)


@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (
            [[-1.0, -2.0], [-1.0, -2.0]],
            r"has 2 numbers in row 0; expected 3, one for each of the labels \[0.0, 0.5, 1.0\]",
        ),
        ([[-1.0, -2.0, -3.0], [-1.0, math.nan, -3.0]], "NaN or .inf, first in row 1"),
        ([[-1.0, -2.0, -3.0], [-1.0, None, -3.0]], "NaN or .inf, first in row 1"),
        ([[-1.0, -2.0, -3.0], None], "'log_probs' of the raw pairs has no value in row 1"),
        ([["a"], ["b"]], "holds list<.*string>; expected lists of numbers"),
        ([-1.0, -2.0], "holds double; expected lists of numbers"),
    ],
)
def test_log_probabilities_that_do_not_fit_are_refused(log_probs: list[Any], message: str) -> None:
    rows = raw(("a", "b", 0.0), ("a", "c", 1.0), log_probs=log_probs)
    with pytest.raises(DatasetError, match=message):
        prepared(rows, min_posterior=0.5)


def test_other_numbers_that_do_not_fit_are_refused() -> None:
    rows = raw(("a", "b", 0.0), plain_log_prob=[math.nan], num_tokens=[3])
    with pytest.raises(DatasetError, match="'plain_log_prob' is nan in row 0"):
        prepared(rows, min_token_log_prob=-1)
    rows = raw(("a", "b", 0.0), plain_log_prob=[-1.0], num_tokens=[0])
    with pytest.raises(DatasetError, match=r"num_tokens is 0\.0 in row 0; expected at least 1"):
        prepared(rows, min_token_log_prob=-1)


def test_log_probabilities_that_no_option_asks_for_are_not_looked_at() -> None:
    rows = raw(("a", "b", 0.0), ("a", "c", 1.0), log_probs=[[math.nan], []])
    assert len(kept(rows)[0]) == 2


def test_a_set_that_is_too_small_to_fit_a_temperature_gets_one_with_a_warning() -> None:
    with pytest.warns(DinoWarning, match=r"on 1 pairs; expected 20\. The posterior's temperature is 1"):
        splits = prepared(
            raw(("a", "b", 0.0), log_probs=[[math.log(0.5), math.log(0.5), -999.0]]),
            **KEEP_ALL,
            target="posterior-mixed",
            posterior_weight=1,
        )
    assert splits["train"]["score"][:] == [0.25]


def test_a_set_with_one_label_alone_gets_a_temperature_with_a_warning() -> None:
    rows = scored(90).filter(lambda row: row["score"] == 1.0)
    with pytest.warns(DinoWarning, match="all have one label"):
        splits = prepared(rows, **KEEP_ALL, target="posterior-mixed")
    assert len(splits["train"]) == 30
    alone = raw(("a", "b", 1.0), ("a", "c", 1.0), log_probs=[[-3.0], [-4.0]])
    splits = prepared(alone, labels=[1], **KEEP_ALL, target="posterior-mixed", posterior_temperature=1)
    assert splits["train"]["score"][:] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("option", "value"), [("target", "posterior-mixed"), ("min_posterior", 0.5), ("drop_label_conflicts", True)]
)
def test_log_probabilities_are_not_read_in_an_order_that_nobody_told(option: str, value: Any, tmp_path: Path) -> None:
    scored(40).to_parquet(tmp_path / "table.parquet")
    given = PreparationOptions.of(**{option: value})
    told = rf"option '{option}' reads the column 'log_probs'.* give labels in that order \(sts-x2: --labels 1"
    with pytest.raises(DatasetError, match=told):
        prepare_pairs(scored(40), options=given)
    with pytest.raises(DatasetError, match=told):
        prepare_data(tmp_path / "table.parquet", tmp_path / "set", given)
    with_labels = PreparationOptions.of(given, labels=[0.0, 0.5, 1.0])
    by_command, _ = prepare_data(tmp_path / "table.parquet", tmp_path / "set", with_labels)
    assert by_command["train"].to_list() == prepare_pairs(scored(40), options=with_labels)["train"].to_list()


def test_a_prior_goes_with_its_labels_whatever_their_order() -> None:
    with pytest.raises(ConfigurationError, match="labels along with label_prior, which is in their order"):
        PreparationOptions.of(label_prior=(0.5, 0.3, 0.2))
    given = PreparationOptions(labels=(0.0, 0.5, 1.0), label_prior=(0.5, 0.3, 0.2))
    assert given.with_labels([1.0, 0.5, 0.0]).label_prior == (0.2, 0.3, 0.5)
    assert given.with_labels().label_prior == (0.5, 0.3, 0.2)


@pytest.mark.parametrize(
    ("pairs", "order", "told"),
    [
        (300, [1, 2, 0], r"would be for that of \d\d% if they were in the order of the labels \[0\.5, 1\.0, 0\.0\]"),
        (
            90,
            [2, 1, 0],
            r"in the order of the labels \[1\.0, 0\.5, 0\.0\]; are they in the order of \[0\.0, 0\.5, 1\.0\]",
        ),
    ],
)
def test_log_probabilities_in_another_order_than_the_labels_are_noticed(
    pairs: int, order: list[int], told: str
) -> None:
    rows = scored(pairs).map(lambda row: {"log_probs": [row["log_probs"][place] for place in order]})
    with pytest.warns(DinoWarning, match=told):
        prepared(rows, target="posterior-mixed", random_negatives=0, posterior_temperature=1)


def test_labels_that_a_writer_does_not_know_are_in_no_other_order() -> None:
    draw = random.Random(5)
    rows = scored(300).map(lambda row: {"log_probs": [-draw.random() for _ in row["log_probs"]]})
    prepared(rows, target="posterior-mixed", random_negatives=0, posterior_temperature=1)  # warnings are errors


def test_when_every_pair_is_filtered_away_the_counts_say_why() -> None:
    with pytest.raises(DatasetError, match=r"no pair is left(.|\n)*dropped too short +8"):
        prepared(NOISY, min_words=50, target="smoothed")
    with pytest.raises(DatasetError, match=r"no pair is left(.|\n)*dropped too short +30"):
        prepared(scored(30), min_words=50, min_posterior=0.5, drop_label_conflicts=True, near_copy_edit=0.5)


def test_a_validation_split_that_takes_all_is_refused() -> None:
    with pytest.raises(DatasetError, match="no pair is left to train on: validation_share 1 takes all"):
        prepared(raw(("a", "b", 0.0)), random_negatives=0, validation_share=0.9999999)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near_copy_edit": 1.5}, "'near_copy_edit' is 1.5; expected less than or equal to 1"),
        ({"near_copy_overlap": 0}, "'near_copy_overlap' is 0; expected greater than 0"),
        ({"min_posterior": -0.1}, "'min_posterior' is -0.1"),
        ({"max_length_ratio": 0.5}, "'max_length_ratio' is 0.5; expected greater than or equal to 1"),
        ({"max_repeated_trigrams": 1}, "'max_repeated_trigrams' is 1; expected less than 1"),
        ({"min_token_log_prob": 1}, "'min_token_log_prob' is 1; expected less than or equal to 0"),
        ({"posterior_temperature": 0}, "'posterior_temperature' is 0; expected greater than 0"),
        ({"posterior_weight": 2}, "'posterior_weight' is 2"),
        ({"target": "posterior"}, "'target' is 'posterior'; expected 'smoothed', 'posterior-mixed'"),
        ({"negative_guard": "words"}, "'negative_guard' is 'words'"),
        ({"negative_guard_overlap": 0}, "'negative_guard_overlap' is 0"),
        ({"near_copy_labels": [0.0]}, "expected near_copy_edit or near_copy_overlap along with near_copy_labels"),
        (
            {"near_copy_edit": 0.9, "near_copy_labels": [2.0]},
            r"expected near_copy_labels among the labels .*; given \[2\.0\]",
        ),
        ({"min_words": 5, "max_words": 4}, "expected max_words of at least min_words, which is 5; given 4"),
        ({"label_prior": [1.0]}, r"expected a label_prior of 3 numbers .*; given \[1\.0\]"),
        ({"near_copy_edits": 0.5}, "no option 'near_copy_edits': did you mean 'near_copy_edit'"),
    ],
)
def test_thresholds_out_of_range_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        prepared(NOISY, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near_copy_edit": 0.9}, "'near_copy_edit' compares the two texts of a pair"),
        ({"max_length_ratio": 2}, "'max_length_ratio' compares the two texts of a pair"),
        ({"min_posterior": 0.5}, "'min_posterior' needs scores, and the labels of the raw data are words"),
        ({"target": "posterior-mixed"}, "'target' needs scores"),
    ],
)
def test_options_that_make_no_sense_for_single_texts_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        prepared(Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]}), **options)


def test_near_copies_of_labels_that_are_words_cannot_be_chosen_by_score() -> None:
    pairs = Dataset.from_dict({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": ["x", "y"]})
    with pytest.raises(DatasetError, match="'near_copy_labels' needs scores"):
        prepared(pairs, near_copy_labels=[0.0], near_copy_edit=0.8)
