"""The whole of dino-st offline, in one to three minutes: the `quickstart` recipe, its examples and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dino_st.errors import MissingExtraError
from dino_st.pipeline.recipe import VALIDATION_PAIRS, Recipe, load_recipe, run_recipe
from dino_st.support.files import replacing

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from dino_st.evaluation.table import ScoreTable


_COLOURS = ("#9a9a9a", "#d1495b", "#edae49", "#30638e", "#66a182")
_BINS = 40


def has_matplotlib() -> bool:
    """Whether pictures can be drawn here."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def pair_similarities(encoder: SentenceTransformer, pairs: Dataset) -> NDArray[np.float64]:
    """Cosine similarity of each pair, shape `(pairs,)`; 0 where a sentence has no token that the encoder knows."""
    columns = (pairs["sentence1"][:], pairs["sentence2"][:])
    first, second = (np.asarray(encoder.encode(list(texts), show_progress_bar=False), np.float64) for texts in columns)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    similarities: NDArray[np.float64] = np.zeros(len(first))
    np.divide((first * second).sum(1), lengths, out=similarities, where=lengths > 0)
    return similarities.clip(-1, 1)  # rounding may leave more than 1, for which a histogram has no bar


def plot_similarities(
    similarities: Mapping[str, NDArray[np.float64]], scores: NDArray[np.float64], path: Path, *, title: str
) -> None:
    """Draws a histogram for each encoder: how similar it finds the pairs of each score.

    Similarities (by the encoder's name) and scores have the shape `(pairs,)`; the file's suffix decides the format.
    """
    if not has_matplotlib():
        raise MissingExtraError('pictures need matplotlib; run: pip install "dino-st[report]"')
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(similarities), 3.6), layout="constrained")
    axes: Any = figure.subplots(1, len(similarities), sharex=True, sharey=True, squeeze=False)[0]
    lowest = min(float(values.min()) for values in similarities.values())
    bins = np.linspace(min(0.0, lowest), 1.0, _BINS + 1)
    levels = np.unique(scores)
    for axis, (name, values) in zip(axes, similarities.items(), strict=True):
        for level, colour in zip(levels, _COLOURS, strict=False):
            chosen = values[scores == level]
            share = np.full(len(chosen), 1 / len(chosen))
            axis.hist(chosen, bins, weights=share, color=colour, alpha=0.55, label=f"{level:g} ({len(chosen)} pairs)")
            axis.axvline(float(np.median(chosen)), color=colour, linewidth=1.5)
        axis.set(title=name, xlabel="cosine similarity", xlim=(bins[0] - 0.03, 1.03))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of the pairs of a score")
    axes[-1].legend(title="generated score", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)


RECIPE = "quickstart"
PICTURE = "similarities.png"
_PER_LABEL = {"1": 4, "0.5": 3, "0": 3}


@dataclass(frozen=True)
class QuickstartOutcome:
    """What the quick start left behind."""

    table: ScoreTable  # scores before and after training
    examples: Mapping[str, Sequence[Sequence[str]]]  # ten generated pairs by label
    written: Mapping[Path, str]  # every path that was written, and what it is


def run_quickstart(
    output: str | Path,
    *,
    sts_dir: str | Path | None = None,
    recipe: Recipe | None = None,
    report: Callable[[str], Any] = lambda _: None,
) -> QuickstartOutcome:
    """Generates, prepares, trains and evaluates with what the package carries, and draws what training changed.

    A second run continues in the directory, and does nothing twice. With a directory of STS data the seven STS tasks
    are scored, too, also of what a run without one made. `report` is called with a line for every stage.
    """
    output = Path(output)
    recipe = recipe or load_recipe(RECIPE)
    if sts_dir is not None:
        evaluate = recipe.evaluate.model_copy(update={"sts_dir": str(sts_dir)})
        recipe = recipe.model_copy(update={"evaluate": evaluate})
    outcome = run_recipe(recipe, output, report=report, overwrite_scores=True)
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

    from dino_st.encoders.loading import load_trainable_encoder

    pairs = Dataset(pyarrow.parquet.read_table(output / VALIDATION_PAIRS))
    encoders = {"before training": encoder, "after training": str(output / "model")}
    similarities = {name: pair_similarities(load_trainable_encoder(model), pairs) for name, model in encoders.items()}
    title = "Generated validation pairs: how similar each score's pairs look to the encoder"
    plot_similarities(similarities, np.asarray(pairs["score"][:]), output / PICTURE, title=title)
