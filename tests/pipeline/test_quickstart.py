from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from dino_st.errors import MissingExtraError
from dino_st.pipeline import quickstart
from dino_st.pipeline.quickstart import PICTURE, run_quickstart
from dino_st.pipeline.recipe import load_recipe
from tests.mteb_tasks.fixtures import write_sts_directory

PAGE = Path(__file__).parents[2] / "docs" / "quick-start.md"
PNG = b"\x89PNG\r\n\x1a\n"


class FakeEncoder:
    """Embeds a sentence as the numbers that it consists of."""

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        return np.array([[float(number) for number in text.split()] for text in texts])


@pytest.mark.filterwarnings("default")
def test_the_quick_start_shows_scores_ten_pairs_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("quickstart", ["limit=40"])
    outcome = run_quickstart(tmp_path, recipe=recipe)
    assert [len(rows) for rows in outcome.examples.values()] == [4, 3, 3]
    assert list(outcome.table.scores) == ["untrained", "trained"]
    assert all(path.exists() for path in outcome.written)
    assert (tmp_path / PICTURE).read_bytes().startswith(PNG)
    said = [f"quickstart/{path.relative_to(tmp_path)}: {what}" for path, what in outcome.written.items()]
    assert "\n".join(["```text", *said, "```"]) in PAGE.read_text(encoding="utf-8")
    (tmp_path / PICTURE).unlink()
    monkeypatch.setattr(quickstart, "has_matplotlib", lambda: False)
    lines: list[str] = []
    again = run_quickstart(tmp_path, recipe=recipe, report=lines.append)
    assert again.table.to_dict() == outcome.table.to_dict()
    assert again.examples == outcome.examples
    assert any('pip install "dino-st[report]"' in line for line in lines)
    assert not (tmp_path / PICTURE).exists()
    with_tasks = run_quickstart(tmp_path, recipe=recipe, sts_dir=write_sts_directory(tmp_path / "data"))
    assert [len(scores) for scores in with_tasks.table.scores.values()] == [8, 8], "the seven, and its own pairs"


def test_the_data_directory_reaches_the_recipe_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StopError(Exception):
        pass

    def stop(recipe: object, *_: object, **__: object) -> None:
        raise StopError(recipe.evaluate.sts_dir)  # type: ignore[attr-defined]

    monkeypatch.setattr(quickstart, "run_recipe", stop)
    name = tmp_path / "it's: a [dir]"
    with pytest.raises(StopError, match="it's: a "):
        run_quickstart(tmp_path, sts_dir=name)


def test_similarities_are_cosines_of_each_pair_and_zero_without_a_known_token() -> None:
    pairs = Dataset.from_dict({"sentence1": ["1 0", "3 4", "0 0"], "sentence2": ["1 1", "-3 -4", "1 2"]})
    found = quickstart.pair_similarities(FakeEncoder(), pairs)  # type: ignore[arg-type]
    assert found == pytest.approx([2**-0.5, -1.0, 0.0])


def test_no_similarity_exceeds_1_where_the_histogram_ends() -> None:
    pairs = Dataset.from_dict({"sentence1": [f"0.{i} 0.7 0.{i}3" for i in range(1, 60)]})
    pairs = pairs.add_column("sentence2", pairs["sentence1"][:])
    found = quickstart.pair_similarities(FakeEncoder(), pairs)  # type: ignore[arg-type]
    assert found.max() == 1


def test_the_picture_has_a_panel_for_each_encoder(tmp_path: Path) -> None:
    values = {"before": np.array([0.1, 0.9, 0.4]), "after": np.array([-0.2, 1.0, 0.5])}
    quickstart.plot_similarities(values, np.array([0.0, 1.0, 1.0]), tmp_path / "a.svg", title="Both")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in text for name in ("before", "after", "Both", "1 (2 pairs)"))


def test_without_matplotlib_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "has_matplotlib", lambda: False)
    with pytest.raises(MissingExtraError, match=r'pip install "dino-st\[report\]"'):
        quickstart.plot_similarities({}, np.zeros(0), tmp_path / "a.png", title="")
