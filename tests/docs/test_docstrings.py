"""The examples in docstrings say what comes out; those that need files, models or a server are for readers alone."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOR_READERS = {
    "dino_st.builder",
    "dino_st.encoders.loading",
    "dino_st.evaluation.evaluate",
    "dino_st.pipeline.publish",
    "dino_st.preparation.triplets",
    "dino_st.support.files",
    "dino_st.syncse.run",
    "dino_st.training.train",
    "mteb_tasks.pairs",
}
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for package in ("dino_st", "mteb_tasks")
    for file in (ROOT / package).rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", [name for name in MODULES if name not in FOR_READERS])
def test_examples_in_docstrings_give_what_they_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_every_module_whose_examples_are_for_readers_alone_has_some() -> None:
    assert set(MODULES) >= FOR_READERS
