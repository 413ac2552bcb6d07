"""One picture of what training did: the similarities of pairs by their score, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dino_st.errors import MissingExtraError
from dino_st.files import replacing

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

_COLOURS = ("#9a9a9a", "#d1495b", "#edae49", "#30638e", "#66a182")
_BINS = 40


def has_matplotlib() -> bool:
    """Whether pictures can be drawn here."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def pair_similarities(encoder: SentenceTransformer, pairs: Dataset) -> NDArray[np.float64]:
    """Cosine similarity of each pair.

    Args:
        encoder: The encoder.
        pairs: Columns `sentence1` and `sentence2`.

    Returns:
        Similarities from -1 to 1, shape `(pairs,)`; 0 where a sentence has no token that the encoder knows.
    """
    columns = (pairs["sentence1"][:], pairs["sentence2"][:])
    first, second = (np.asarray(encoder.encode(list(texts), show_progress_bar=False), np.float64) for texts in columns)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    similarities: NDArray[np.float64] = np.zeros(len(first))
    np.divide((first * second).sum(1), lengths, out=similarities, where=lengths > 0)
    return similarities


def plot_similarities(
    similarities: Mapping[str, NDArray[np.float64]], scores: NDArray[np.float64], path: Path, *, title: str
) -> None:
    """Draws a histogram for each encoder: how similar it finds the pairs of each score.

    Args:
        similarities: For each encoder's name the similarities of the pairs, `(pairs,)` each.
        scores: The pairs' scores, `(pairs,)`.
        path: File to write; its suffix decides the format.
        title: Of the picture.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        OutputError: If the file cannot be written.
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
        axis.set(title=name, xlabel="cosine similarity")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of the pairs of a score")
    axes[-1].legend(title="generated score", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
