"""How well texts fit their labels, as far as it shows without an encoder: copies, shared words, posteriors by label."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dino_st.data.columns import LABEL, LOG_PROBS, SCORE, SENTENCE1, SENTENCE2
from dino_st.support.progress import logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TRY = (
    "look at the pairs, and try a larger --decay-constant (λ), another model or another --prompt-format when they are "
    "generated, or filters of `dino-st prepare` such as --near-copy-overlap"
)
"""What to do about labels that do not mean what they say."""

Summary = Mapping[str, Mapping[str, float]]
"""By label: `pairs`, `identical` (share of x1 = x2), `overlap` (median), and `posterior` (mean) where there is one."""

_ENOUGH = 20
_MARGIN = 0.05
_MANY_COPIES = 0.25


@dataclass(frozen=True)
class LabelStatistics:
    """What is remembered of some pairs of a label.

    Attributes:
        identical: How many have x1 = x2.
        overlaps: Share of shared words of each, shape `(pairs,)`.
        posteriors: What the language model believes of the label of each that it was asked about.
    """

    identical: int
    overlaps: NDArray[np.float64]
    posteriors: NDArray[np.float64]


def measure(rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = ()) -> dict[str, LabelStatistics]:
    """Looks at pairs, by label in the order of the rows; there is nothing to see in triplets and single texts.

    Args:
        rows: With `sentence1`, `sentence2`, `score` or `label`, perhaps `log_probs`.
        labels: Those of the task, in the order of the log-probabilities.
    """
    if not rows or SENTENCE2 not in rows[0]:
        return {}
    import numpy as np
    import pyarrow as pa

    from dino_st.support.similarity import word_overlap

    texts = [row[name] for name in (SENTENCE1, SENTENCE2) for row in rows]
    places = np.arange(len(rows))
    overlaps = word_overlap(places, places + len(rows), pa.array(texts, pa.large_string()))
    names = [label_name(row) for row in rows]
    found = {}
    for label in dict.fromkeys(names):
        chosen = [place for place, name in enumerate(names) if name == label]
        own = next((place for place, name in enumerate(labels) if _same(name, label)), None)
        believed = [np.asarray(rows[place].get(LOG_PROBS) or (), np.float64) for place in chosen]
        known = [values for values in believed if own is not None and len(values) == len(labels)]
        posteriors = [float(np.exp(values[own] - np.logaddexp.reduce(values))) for values in known]
        identical = sum(texts[place] == texts[place + len(rows)] for place in chosen)
        found[label] = LabelStatistics(identical, overlaps[chosen], np.array(posteriors, np.float64))
    return found


def label_name(row: Mapping[str, Any]) -> str:
    """The label of a pair in words."""
    return f"{row[SCORE]:g}" if row.get(SCORE) is not None else str(row.get(LABEL))


def _same(name: str, label: str) -> bool:
    try:
        return f"{float(name):g}" == label
    except ValueError:
        return name == label


def summarise(parts: Iterable[Mapping[str, LabelStatistics]]) -> dict[str, dict[str, float]]:
    """Joins what was seen of several parts of a data set."""
    import numpy as np

    by_label: dict[str, list[LabelStatistics]] = {}
    for part in parts:
        for label, statistics in part.items():
            by_label.setdefault(label, []).append(statistics)
    summary = {}
    for label, several in by_label.items():
        overlaps = np.concatenate([one.overlaps for one in several])
        posteriors = np.concatenate([one.posteriors for one in several])
        summary[label] = {
            "pairs": len(overlaps),
            "identical": round(sum(one.identical for one in several) / max(len(overlaps), 1), 4),
            "overlap": round(float(np.median(overlaps)), 4) if len(overlaps) else 0.0,
            **({"posterior": round(float(np.nanmean(posteriors)), 4)} if np.isfinite(posteriors).any() else {}),
        }
    return summary


def quality_lines(summary: Summary) -> list[str]:
    """A table for people, a line a label."""
    if not summary:
        return []
    rows = [["label", "pairs", "x2 = x1", "words shared", "posterior"]]
    for label, one in summary.items():
        posterior = f"{one['posterior']:.2f}" if "posterior" in one else "-"
        rows.append([label, f"{one['pairs']:,.0f}", f"{one['identical']:.1%}", f"{one['overlap']:.2f}", posterior])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def quality_section(summary: Summary) -> str:
    """The same as a section of a data set's card."""
    if not summary:
        return ""
    about = "Share of pairs with x2 = x1, median share of words that both have, and the language model's own mean "
    about += "posterior of the label, where it was asked."
    return "\n".join(["", "## Labels", "", about, "", "```", *quality_lines(summary), "```", ""])


def doubts(summary: Summary) -> list[str]:
    """What speaks against the labels: texts of a lower one that are more like x1 than those of a higher, and copies."""
    found = []
    numbers = {label: number for label in summary if (number := _number(label)) is not None}
    ordered = sorted(numbers, key=numbers.__getitem__, reverse=True)
    enough = [label for label in ordered if summary[label]["pairs"] >= _ENOUGH]
    for higher, lower in itertools.pairwise(enough):
        for name, words in (("overlap", "share more words with x1 (median {} against {})"), ("identical", "")):
            above, below = summary[higher][name], summary[lower][name]
            if below > above + _MARGIN:
                words = words or "are copies of x1 more often ({} against {})"
                found.append(f"texts of label {lower} {words.format(f'{below:.2f}', f'{above:.2f}')} than of {higher}")
    for label in summary:
        if summary[label]["pairs"] >= _ENOUGH and summary[label]["identical"] > _MANY_COPIES:
            found.append(f"{summary[label]['identical']:.0%} of the texts of label {label} are copies of x1")
    return found


def warn_of_doubts(summary: Summary) -> None:
    """Says what speaks against the labels, if something does, and what to try."""
    if found := doubts(summary):
        logger.warning("the labels may not mean what they say: %s; %s", "; ".join(found), TRY)


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
