"""The classifier of the example: what it drops, what it learns from generated reviews, and what it is scored on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.test_pages import ROOT
from tests.mteb_tasks.fixtures.senteval import write_transfer_directory

EXAMPLE = ROOT / "examples/classification"


@pytest.fixture(scope="module")
def classify() -> ModuleType:
    spec = importlib.util.spec_from_file_location("classify", EXAMPLE / "classify.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(directory: Path, rows: list[tuple[str, str, str]]) -> str:
    """A directory that `datasets` reads as it does one of `dino-st generate`."""
    directory.mkdir()
    names = ("sentence1", "sentence2", "label")
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    (directory / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return str(directory)


def test_titles_repetitions_and_reviews_of_both_labels_are_dropped(classify: ModuleType, tmp_path: Path) -> None:
    rows = [
        ("Her", "her", "positive"),
        ("Her", "A fine film.", "positive"),
        ("Laura", "A fine film.", "positive"),
        ("Laura", "A film.", "positive"),
        ("Laura", "A film.", "negative"),
        ("Laura", "A bad film.\n\nStay away.", "negative"),
    ]
    texts, labels, dropped = classify.generated(written(tmp_path / "reviews", rows))
    assert dict(zip(texts, labels.tolist(), strict=True)) == {"A fine film.": True, "A bad film.\n\nStay away.": False}
    assert dropped == {"only the title": 1, "twice": 1, "under both labels": 1}


def test_reviews_that_say_what_they_mean_make_a_classifier(
    classify: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "negative": ["dull", "stale", "muddy", "wooden", "a waste", "loud and cynical", "without a single joke"],
        "positive": ["smart", "brave", "tender", "moving", "a miracle", "honest and funny", "full of grace"],
    }
    rows = [
        (f"Film {i}", f"The {part} is {word}.", label)
        for label, several in words.items()
        for i, word in enumerate(several)
        for part in ("script", "cast", "sequel", "camera", "last scene")
    ]
    monkeypatch.setattr(sys, "argv", ["classify.py", written(tmp_path / "reviews", rows), "--seeds", "2"])
    classify.main()
    head, _, _, _, found, none = capsys.readouterr().out.splitlines()
    assert head.startswith("20 judged reviews, 50% of them positive")
    _, _, sizes, dropped, held_out, accuracy, _, _ = (cell.strip() for cell in found.split("|"))
    assert (sizes, dropped) == ("35 + 35", "")
    assert float(held_out) > 80
    assert float(accuracy.split()[0]) > 65
    assert none.startswith("| none: the nearer label |")


def test_all_of_mr_is_scored_where_its_directory_is_given(classify: ModuleType, tmp_path: Path) -> None:
    texts, right = classify.judged(str(write_transfer_directory(tmp_path / "senteval")))
    assert (len(texts), right.sum()) == (10_662, 5_331)
