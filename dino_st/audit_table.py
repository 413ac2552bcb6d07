"""What people judged against what was assigned: the scale, the confusion table, and its two formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dino_st.confidence import percent, wilson_interval

SCALE: Mapping[float, str] = {
    0.9: "the same meaning or nearly so: tense, article, a synonym or a detail of no weight may differ",
    0.5: "somewhat similar: the topic or a clear part of the content is shared; who, what, where or how many differs",
    0.1: "unrelated, though of one broad kind, or with one unimportant word in common",
    0.0: "nothing to do with each other, or sentence 2 says nothing",
}
"""What a judgement means, highest first (the scale of the DINO paper, arXiv 2104.07540, Table 3)."""

RULE = "\n".join(
    [
        "How alike are the two sentences in what they say? Slips of grammar and style do not count.",
        *(f"  {key}  {score:g}: {SCALE[score]}" for key, score in (("9", 0.9), ("5", 0.5), ("1", 0.1), ("0", 0.0))),
    ]
)

_SIMILAR_FROM, _SAME_FROM = 0.3, 0.7
"""Halfway between 0.1 and 0.5, and between 0.5 and 0.9: what a label asks for. Below, 0 and 0.1 are equally right."""


def fitting(assigned: float) -> tuple[float, ...]:
    """The judgements that fit an assigned score.

    Args:
        assigned: A score on the scale from 0 to 1, smoothed or not.

    Returns:
        0.9 for what was meant to be the same, 0.5 for somewhat similar, 0 and 0.1 for unrelated; none for scores of
        another scale.
    """
    if not 0 <= assigned <= 1:
        return ()
    if assigned < _SIMILAR_FROM:
        return (0.0, 0.1)
    return (0.5,) if assigned < _SAME_FROM else (0.9,)


def confusion(answers: Iterable[tuple[float, float | None]]) -> list[dict[str, Any]]:
    """Counts judgements by assigned score.

    Args:
        answers: The assigned score and the judgement of each pair; None for a skipped one.

    Returns:
        A row for each assigned score, the highest first: `assigned`, `judged` (how many were), `skipped`, `counts` (by
        judgement: `count`, `share`, and the ends `low` and `high` of Wilson's 95 % interval), and `fits` (the same for
        the judgements that fit the score; None where the scale is another).
    """
    tallies: dict[float, Counter[float | None]] = {}
    for assigned, judged in answers:
        tallies.setdefault(assigned, Counter())[judged] += 1
    rows = []
    for assigned in sorted(tallies, reverse=True):
        tally = tallies[assigned]
        judged = sum(tally[score] for score in SCALE)
        wanted = fitting(assigned)
        rows.append(
            {
                "assigned": assigned,
                "judged": judged,
                "skipped": tally[None],
                "counts": {f"{score:g}": _share(tally[score], judged) for score in SCALE},
                "fits": _share(sum(tally[score] for score in wanted), judged) if wanted else None,
            }
        )
    return rows


def to_markdown(rows: Sequence[Mapping[str, Any]], *, heading: str) -> str:
    """The confusion table for people.

    Args:
        rows: From `confusion`.
        heading: What was judged.

    Returns:
        Markdown with a final newline.
    """
    judgements = [f"{score:g}" for score in SCALE]
    lines = [
        f"# {heading}",
        "",
        "| assigned | judged | skipped | " + " | ".join(f"judged {name}" for name in judgements) + " | fits |",
        "| ---: | ---: | ---: | " + " | ".join("---" for _ in judgements) + " | --- |",
    ]
    for row in rows:
        shares = [row["counts"][name] for name in judgements]
        cells = [f"{row['assigned']:g}", str(row["judged"]), str(row["skipped"]), *(map(_words, shares))]
        lines.append("| " + " | ".join([*cells, _words(row["fits"]) if row["fits"] else "–"]) + " |")
    meanings = [f"- {score:g}: {meaning}" for score, meaning in SCALE.items()]
    notes = (
        "Shares of the judged pairs of a row, with Wilson's 95 % intervals. A pair fits where it was judged 0.9 and "
        f"its score is at least {_SAME_FROM:g}, 0.5 and its score is from {_SIMILAR_FROM:g} to below {_SAME_FROM:g}, "
        f"or 0 or 0.1 and its score is below {_SIMILAR_FROM:g}."
    )
    return "\n".join([*lines, "", notes, "", *meanings]) + "\n"


def _share(count: int, total: int) -> dict[str, float | int | None]:
    low, high = wilson_interval(count, total)
    return {
        "count": count,
        "of": total,
        "share": round(count / total, 4) if total else None,
        "low": round(low, 4),
        "high": round(high, 4),
    }


def _words(share: Mapping[str, Any]) -> str:
    return percent(share["count"], share["of"])
