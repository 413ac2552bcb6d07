"""How far annotators agree: Krippendorff's α, Cohen's κ of each two, what they disagree on, and their middle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import fmean, median_low, variance
from typing import Any

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.inspection.judgements import UNNAMED, Answer, AuditPair, Judgements

AGREEMENT_HEAD = ("annotators", "pairs", "the same", "Cohen's κ")


def krippendorff_alpha(units: Iterable[Sequence[float]]) -> float | None:
    """Krippendorff's α of interval data: 1 is perfect agreement, 0 what chance gives; None where it is undefined.

    α = 1 − D_o / D_e (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability). With squared differences D_o is
    the mean of 2·s² within units (the values that a pair of sentences was given, at least two), weighted by their
    values, and D_e is 2·s² of all values together.
    """
    several = [unit for unit in units if len(unit) > 1]
    values = [value for unit in several for value in unit]
    if len(set(values)) < 2:
        return None
    within = sum(len(unit) * variance(unit) for unit in several)
    return 1 - within / (len(values) * variance(values))


def cohen_kappa(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Cohen's κ of two annotators' judgements of the same pairs; None where there are none, or all are one value."""
    from sklearn.metrics import cohen_kappa_score

    if len({*first, *second}) < 2:
        return None
    return float(cohen_kappa_score([f"{value:g}" for value in first], [f"{value:g}" for value in second]))


def agreement(judgements: Judgements) -> dict[str, Any]:
    """Krippendorff's α over all annotators, and for each two the pairs that both judged, how many alike, and κ."""
    pairs = [_judged(by) for by in judgements.by_pair().values()]
    several = [by for by in pairs if len(by) > 1]
    two = []
    for first, second in combinations(judgements.by_annotator, 2):
        both = [(by[first], by[second]) for by in several if first in by and second in by]
        two.append(
            {
                "annotators": [first, second],
                "pairs": len(both),
                "same": sum(one == other for one, other in both),
                "kappa": _rounded(cohen_kappa(*(zip(*both, strict=True) if both else ((), ())))),
            }
        )
    alpha = krippendorff_alpha([list(by.values()) for by in several])
    return {"pairs": len(several), "alpha": _rounded(alpha), "each_two": two}


def agreement_cells(two: dict[str, Any]) -> list[str]:
    """One of `each_two` in words, under `AGREEMENT_HEAD`."""
    kappa = "–" if two["kappa"] is None else f"{two['kappa']:.2f}"
    return [" and ".join(map(shown_name, two["annotators"])), str(two["pairs"]), str(two["same"]), kappa]


def disagreements(judgements: Judgements) -> list[tuple[AuditPair, dict[str, float]]]:
    """The pairs that were judged differently, those furthest apart first."""
    found = [(pair, _judged(by)) for pair, by in judgements.by_pair().items()]
    apart = [(pair, by) for pair, by in found if len(set(by.values())) > 1]
    return sorted(
        apart, key=lambda item: (min(item[1].values()) - max(item[1].values()), item[0].sentence1, item[0].sentence2)
    )


def middle(judgements: Judgements) -> list[Answer]:
    """One answer for each pair: the lower median of its judgements, which is on the scale; None if all skipped it."""
    return [
        Answer(pair, median_low(judged.values()) if (judged := _judged(by)) else None)
        for pair, by in judgements.by_pair().items()
    ]


def judged_rows(judgements: Judgements) -> list[dict[str, Any]]:
    """Every pair that somebody judged as a row of a table of pairs; its score is the mean of its judgements."""
    found = ((pair, _judged(by)) for pair, by in judgements.by_pair().items())
    return [
        {SENTENCE1: pair.sentence1, SENTENCE2: pair.sentence2, SCORE: round(fmean(judged.values()), 6)}
        for pair, judged in found
        if judged
    ]


def shown_name(annotator: str) -> str:
    """An annotator for people."""
    return annotator if annotator != UNNAMED else "(no name)"


def _judged(by: dict[str, float | None]) -> dict[str, float]:
    """The judgements without those who skipped the pair."""
    return {annotator: judged for annotator, judged in by.items() if judged is not None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
