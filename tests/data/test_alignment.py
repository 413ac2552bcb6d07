"""What is told of files whose rows hold, throughout or in part, texts or scores of other rows."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dino_st.data.pairs import read_pairs
from mteb_tasks.pairs import read_pair_file

Rows = list[tuple[str, str, float]]


def graded(number: int) -> Rows:
    """Pairs whose second sentences keep none to five of the words of the first ones, as their scores say."""
    draw, vocabulary = (
        random.Random(3),
        [f"{one}{two}{three}" for one in "bdfgk" for two in "aeiou" for three in "rtslm"],
    )
    rows = []
    for i in range(number):
        words = draw.sample(vocabulary, 12)
        both = (["the", *words[:6]], ["the", *words[i % 6 + 1 : i % 6 + 7]])
        first, second = (" ".join(one).capitalize() + "." for one in both)
        rows.append((first, second, 5.0 - i % 6))
    draw.shuffle(rows)
    return rows


def with_cell_deleted(rows: Rows, place: int) -> Rows:
    seconds = [second for _, second, _ in rows]
    return [
        (first, second, score)
        for (first, _, score), second in zip(rows, [*seconds[:place], *seconds[place + 1 :], "Nobody."], strict=True)
    ]


def with_sorted(rows: Rows, column: int) -> Rows:
    columns: list[list[Any]] = [list(values) for values in zip(*rows, strict=True)]
    columns[column] = sorted(columns[column])
    return [*zip(*columns, strict=True)]


def with_scores_moved(rows: Rows, begin: int) -> Rows:
    scores = [score for _, _, score in rows]
    scores[begin + 1 :] = scores[begin:-1]
    return [(first, second, score) for (first, second, _), score in zip(rows, scores, strict=True)]


def with_scores_turned(rows: Rows, begin: int) -> Rows:
    return [*rows[:begin], *((first, second, 5 - score) for first, second, score in rows[begin:])]


def with_no_scores(rows: Rows, number: int) -> Rows:
    """Every tenth score is a number that stands for none, of whole ones from 1 to 5."""
    return [(*texts, number if i % 10 == 7 else round(score * 0.8) + 1) for i, (*texts, score) in enumerate(rows)]


def with_scores_shuffled(rows: Rows) -> Rows:
    scores = [score for _, _, score in rows]
    random.Random(5).shuffle(scores)
    return [(first, second, score) for (first, second, _), score in zip(rows, scores, strict=True)]


@pytest.mark.parametrize("read", [read_pairs, read_pair_file])
@pytest.mark.parametrize(
    ("spoiled", "told"),
    [
        (lambda rows: with_no_scores(rows, 6), "the 24 pairs of the highest score, 6, share fewer words than those"),
        (lambda rows: with_no_scores(rows, 0), "the 24 pairs of the lowest score, 0, share more words than those"),
        (lambda rows: with_cell_deleted(rows, 180), "exchanged or shifted: from about row 1[78]"),
        (lambda rows: with_sorted(rows, 1), "upper half of the scores share 0.* one column was sorted or moved alone"),
        (lambda rows: with_sorted(rows, 2), "the scores stand in order, and go with the words .* by chance"),
        (lambda rows: with_scores_moved(rows, 0), "from about row 1 to row 239 .* scores of the next row"),
        (lambda rows: with_scores_moved(rows[::-1], 120)[::-1], "to row 1[12]. .* scores of the row before"),
        (lambda rows: with_scores_moved(rows[60:140], 0), "to row 79 .* scores of the next row"),
        (lambda rows: with_scores_turned(rows, 160), "from about row 161 to row 240 .* but backwards"),
        (lambda rows: with_scores_turned(rows[:24], 0), "the more words two sentences share, the lower their score"),
        (lambda _: with_scores_shuffled(graded(360)), "scores go with the words .* by chance .*column was shuffled"),
    ],
    ids=[
        "sixes for none",
        "noughts for none",
        "cell deleted",
        "second sentences sorted",
        "scores sorted",
        "scores moved down",
        "scores moved up in a part",
        "scores of few pairs moved",
        "scores of a part turned round",
        "scores of few pairs turned round",
        "scores shuffled",
    ],
)
def test_columns_out_of_step_with_the_others_are_told(
    read: Callable[[Path], object],
    spoiled: Callable[[Rows], Rows],
    told: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = graded(240)

    def look(rows: Rows) -> str:
        caplog.clear()
        lines = "".join(f"{first},{second},{score}\n" for first, second, score in rows)
        (tmp_path / "a.csv").write_text(f"sentence1,sentence2,score\n{lines}")
        read(tmp_path / "a.csv")
        return caplog.text

    assert not look(rows)
    for column in range(3):
        assert not look(sorted(rows, key=lambda row: row[column])), "whole rows may stand in any order"
    assert not look(graded(360))
    found = look(spoiled(rows))
    assert re.search(told, found)
    assert found.count("WARNING") == 1
