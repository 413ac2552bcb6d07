"""The whole of dino-st in two minutes, offline: the `quickstart` recipe, its examples and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.recipe import VALIDATION_PAIRS, Recipe, load_recipe, run_recipe
from dino_st.score_plot import has_matplotlib, pair_similarities, plot_similarities

if TYPE_CHECKING:
    from dino_st.score_table import ScoreTable

RECIPE = "quickstart"
PICTURE = "similarities.png"
_PER_LABEL = {"1": 4, "0.5": 3, "0": 3}


@dataclass(frozen=True)
class QuickstartOutcome:
    """What the quick start left behind.

    Attributes:
        table: Scores before and after training.
        examples: Ten generated pairs by label.
        written: Every path that was written, and what it is.
    """

    table: ScoreTable
    examples: Mapping[str, Sequence[Sequence[str]]]
    written: Mapping[Path, str]


def run_quickstart(
    output: str | Path,
    *,
    sts_dir: str | Path | None = None,
    recipe: Recipe | None = None,
    report: Callable[[str], Any] = lambda _: None,
) -> QuickstartOutcome:
    """Generates, prepares, trains and evaluates with what the package carries, and draws what training changed.

    Args:
        output: Directory for everything. A second run continues there, and does nothing twice.
        sts_dir: STS data in SentEval layout; with it the seven STS tasks are scored, too.
        recipe: Another recipe than the shipped one.
        report: Called with a line for every stage.

    Returns:
        Scores, examples, and what lies where.

    Raises:
        DinoError: Whatever a stage raises; what earlier stages wrote stays.
    """
    output = Path(output)
    recipe = recipe or load_recipe(RECIPE)
    if sts_dir is not None:
        evaluate = recipe.evaluate.model_copy(update={"sts_dir": str(sts_dir)})
        recipe = recipe.model_copy(update={"evaluate": evaluate})
    outcome = run_recipe(recipe, output, report=report)
    written = {
        output / "raw": "generated pairs with provenance; `datasets.load_dataset` reads them",
        output / "prepared": "training and validation pairs",
        output / "model": "the trained encoder, for SentenceTransformer(...)",
        output / "scores": "the table as JSON, Markdown and LaTeX",
    }
    if has_matplotlib():
        _draw(output, recipe.encoder or str(recipe.model))
        written[output / PICTURE] = "similarity of the validation pairs by score, before and after training"
    else:
        report('    no picture, since matplotlib is not installed; for one, run: pip install "dino-st[report]"')
    examples = {label: outcome.examples.get(label, ())[:rows] for label, rows in _PER_LABEL.items()}
    return QuickstartOutcome(outcome.table, examples, written)


def _draw(output: Path, encoder: str) -> None:
    import numpy as np
    import pyarrow.parquet
    from datasets import Dataset

    from dino_st.encoder_loading import load_trainable_encoder

    pairs = Dataset(pyarrow.parquet.read_table(output / VALIDATION_PAIRS))
    encoders = {"before training": encoder, "after training": str(output / "model")}
    similarities = {name: pair_similarities(load_trainable_encoder(model), pairs) for name, model in encoders.items()}
    title = "Generated validation pairs: how similar each score's pairs look to the encoder"
    plot_similarities(similarities, np.asarray(pairs["score"][:]), output / PICTURE, title=title)
