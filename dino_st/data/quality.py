"""How well texts fit their labels, as far as it shows without an encoder: copies, shared words, posteriors, habits."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dino_st.data.columns import LABEL, LOG_PROBS, NEGATIVE, POSITIVE, SCORE, SENTENCE1, SENTENCE2
from dino_st.support.progress import logger
from dino_st.support.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dino_st.data.habits import TextSample

Summary = Mapping[str, Mapping[str, Any]]
"""By label: `pairs`, of these `identical` (share of x1 = x2), `overlap` (median) and `posterior` (mean, where known),
and after a preparation `dropped` (pairs that are not among them) and `dropped_identical`. In words, where there is
something to say (see `dino_st.data.habits`): `habits`; `copies`, texts that should differ and are their sentences but
for case and marks; `out_of_order`, sentences for which the lowest label has texts that are more like x1, or several
labels have one text; `strangers`, texts that are no more like their own sentences than like others. Of a triplet's
roles there are those in words alone."""

Rows = Sequence[Sequence[str]]

_UNIT = 2.0**-40

_ENOUGH, _FEW_COPIES = 20, 5
_MARGIN = 0.05
_MANY_COPIES = 0.25


@dataclass
class LabelStatistics:
    """What is remembered of some pairs of a label: counts alone, so that those of a billion pairs take no more room."""

    identical: int = 0  # how many have x1 = x2
    overlaps: Counter[float] = field(default_factory=Counter)  # pairs by their share of shared words
    posteriors: int = 0  # of how many the language model was asked about the label
    believed: int = 0  # sum of what it said, in units of `_UNIT`, so that the order of the pairs does not matter

    @classmethod
    def of(cls, identical: int, overlaps: NDArray[np.float64], posteriors: NDArray[np.float64]) -> LabelStatistics:
        """Those of pairs of which each has a share of shared words, and some a posterior; NaN is none."""
        import numpy as np

        known = posteriors[np.isfinite(posteriors)]
        high, low = np.divmod(np.rint(known / _UNIT).astype(np.int64), 2**20)
        believed = int(high.sum()) * 2**20 + int(low.sum())
        values, pairs = np.unique(overlaps, return_counts=True)
        return cls(identical, Counter(dict(zip(values.tolist(), pairs.tolist(), strict=True))), len(known), believed)

    def add(self, other: LabelStatistics, times: int = 1) -> None:
        """Takes in those of other pairs, or with -1 takes them away."""
        self.identical += times * other.identical
        self.posteriors += times * other.posteriors
        self.believed += times * other.believed
        for overlap, pairs in other.overlaps.items():
            self.overlaps[overlap] += times * pairs

    def median_overlap(self) -> float:
        """The median share of shared words; 0 where there is no pair."""
        last = self.overlaps.total() - 1
        values = sorted(self.overlaps)
        passed = list(itertools.accumulate(self.overlaps[value] for value in values))
        middle = [values[bisect_right(passed, place)] for place in (last // 2, (last + 1) // 2) if last >= 0]
        return sum(middle) / 2


def measure(rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = ()) -> dict[str, LabelStatistics]:
    """Looks at pairs, by label in the order of the rows; there is nothing to see in triplets and single texts.

    Rows have `sentence1`, `sentence2`, `score` or `label`, and perhaps `log_probs`, which are in the order of the
    task's labels.
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
        posteriors = np.array([float(np.exp(values[own] - np.logaddexp.reduce(values))) for values in known])
        identical = sum(texts[place] == texts[place + len(rows)] for place in chosen)
        found[label] = LabelStatistics.of(identical, overlaps[chosen], posteriors)
    return found


def label_name(row: Mapping[str, Any]) -> str:
    """The label of a pair in words."""
    return f"{row[SCORE]:g}" if row.get(SCORE) is not None else str(row.get(LABEL))


def _same(name: str, label: str) -> bool:
    try:
        return f"{float(name):g}" == label
    except ValueError:
        return name == label


def summarise(
    parts: Iterable[Mapping[str, LabelStatistics]], samples: Mapping[str, TextSample] | None = None
) -> dict[str, dict[str, Any]]:
    """Joins what was seen of several parts of a data set, and looks for habits in samples of its texts."""
    from dino_st.data.habits import (
        LACKING,
        in_other_languages,
        ones_for_many,
        out_of_order,
        out_of_word_order,
        under_several_labels,
        without_last_marks,
    )

    samples = samples or {}
    whole: dict[str, LabelStatistics] = {}
    for part in parts:
        for label, statistics in part.items():
            whole.setdefault(label, LabelStatistics()).add(statistics)
    summary: dict[str, dict[str, Any]] = {}
    for label, one in whole.items():
        pairs = one.overlaps.total()
        summary[label] = {
            "pairs": pairs,
            "identical": round(one.identical / max(pairs, 1), 4),
            "overlap": round(one.median_overlap(), 4),
            **({"posterior": round(one.believed * _UNIT / one.posteriors, 4)} if one.posteriors else {}),
        }
    for label in sorted(samples):
        if habits := samples[label].habits():
            summary.setdefault(label, {})["habits"] = habits
    scale = sorted((number, label) for label in samples if (number := _number(label)) is not None)
    if len(scale) > 1:
        lowest, highest = scale[0][1], scale[-1][1]
        if wrong := out_of_order(samples[highest], samples[lowest]):
            words = f"{wrong}, texts of label {lowest} share more words with x1 than those of {highest}"
            summary.setdefault(highest, {})["out_of_order"] = words
    if several := under_several_labels(samples):
        known = summary.setdefault(min(samples), {})
        known["out_of_order"] = "; ".join(filter(None, [known.get("out_of_order"), several]))
    highest_ones = sorted({*_alike(samples)}.difference(_lower(samples)))
    of_highest = [
        (label, told)
        for label in highest_ones
        for check in (samples[label].answers, samples[label].apart)
        if (told := check())
    ]
    is_known = any(LACKING in habit for one in summary.values() for habit in one.get("habits", ()))
    of_all = (*ones_for_many(samples), *out_of_word_order(samples), *in_other_languages(samples))
    lacking = [] if is_known else without_last_marks(samples)
    for label, habit in (*of_highest, *of_all, *lacking):
        summary.setdefault(label, {})["habits"] = [*summary.get(label, {}).get("habits", ()), habit]
    for label in _lower(samples):
        if copies := samples[label].copies():
            summary.setdefault(label, {})["copies"] = copies
    for label in _alike(samples):
        if strangers := samples[label].strangers():
            summary.setdefault(label, {})["strangers"] = strangers
    return summary


def _alike(labels: Iterable[str]) -> list[str]:
    """Of some labels those of pairs that should be alike: positives, and the upper half of a scale."""
    numbers = {label: number for label in sorted(labels) if (number := _number(label)) is not None}
    half = max(numbers.values(), default=0) / 2
    return [POSITIVE] * (POSITIVE in labels) + [label for label, number in numbers.items() if number >= half > 0]


def _lower(labels: Iterable[str]) -> list[str]:
    """Of some labels those of pairs that should differ: negatives, and all of a scale but its upper end."""
    numbers = {label: number for label in sorted(labels) if (number := _number(label)) is not None}
    highest = max(numbers.values(), default=0)
    return [NEGATIVE] * (NEGATIVE in labels) + [label for label, number in numbers.items() if number < highest]


def quality_table(summary: Summary) -> tuple[str, Rows]:
    """A summary for people: what the columns mean, and the rows, names first."""
    summary = _of_pairs(summary)
    has_posterior = any("posterior" in one for one in summary.values())
    has_dropped = any("dropped" in one for one in summary.values())
    meaning = [
        "share of copies of x1 (x2 = x1)",
        "median share of the different words of both that both have (words shared)",
        *(["the language model's own mean P(label | pair) (posterior)"] if has_posterior else []),
    ]
    caption = f"Of the pairs of each label{' that are kept' if has_dropped else ''}: {', '.join(meaning)}."
    if has_dropped:
        caption += " Of those that were dropped: how many, and how many of them had x2 = x1."
    rows = [["label", "kept" if has_dropped else "pairs", "x2 = x1", "words shared"]]
    rows[0] += ["posterior"] * has_posterior + ["dropped", "of these x2 = x1"] * has_dropped
    for label, one in summary.items():
        shares = [f"{one['identical']:.1%}", f"{one['overlap']:.2f}"] if one["pairs"] else ["-", "-"]
        row = [printable(label), f"{one['pairs']:,.0f}", *shares]
        if has_posterior:
            row.append(f"{one['posterior']:.2f}" if "posterior" in one else "-")
        if has_dropped:
            row += [f"{one.get(name, 0):,.0f}" for name in ("dropped", "dropped_identical")]
        rows.append(row)
    return caption, rows


def quality_lines(summary: Summary) -> list[str]:
    """The same in lines of text: the caption, and a line a label below the names."""
    if not _of_pairs(summary):
        return []
    caption, rows = quality_table(summary)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [caption, *lines]


def quality_section(summary: Summary) -> str:
    """The same as a section of a data set's card, with the habits of the texts."""
    parts = []
    if _of_pairs(summary):
        caption, *table = quality_lines(summary)
        parts += ["", "## Labels", "", caption, "", "```", *table, "```", ""]
    if found := habits_in(summary):
        parts += ["", "## Habits", "", "Many texts have in common what their sentences have not:", "", "```"]
        parts += [*found, "```", ""]
    return "\n".join(parts)


def doubts(summary: Summary) -> list[str]:
    """What speaks against the labels: texts of a lower one that are more like x1 than those of a higher, and copies."""
    found, summary = [], _of_pairs(summary)
    numbers = {label: number for label in summary if (number := _number(label)) is not None}
    ordered = sorted(numbers, key=numbers.__getitem__, reverse=True)
    enough = [label for label in ordered if summary[label]["pairs"] >= _ENOUGH]
    for higher, lower in itertools.pairwise(enough):
        for measured, words in (
            (_overlap, "share more words with x1 (median"),
            (_copies, "are copies of x1 more often (share"),
        ):
            above, below = measured(summary[higher]), measured(summary[lower])
            if below > above + _MARGIN:
                found.append(f"texts of label {lower} {words} {below:.2f} against {above:.2f}) than of {higher}")
    found += [one["out_of_order"] for one in summary.values() if "out_of_order" in one]
    for label, one in summary.items():
        copies, written = _copies(one), one["pairs"] + one.get("dropped", 0)
        if copies > _MANY_COPIES and (written >= _ENOUGH or copies * written >= _FEW_COPIES):
            found.append(f"{copies:.0%} of the texts of label {label} are copies of x1")
    return found


def habits_in(summary: Summary) -> list[str]:
    """What many texts have in common and their sentences have not, a line each."""
    return [f"label {label}: {habit}" for label, one in summary.items() for habit in one.get("habits", ())]


def _of_pairs(summary: Summary) -> Summary:
    """The part of a summary that is about pairs."""
    return {label: one for label, one in summary.items() if "pairs" in one}


def _overlap(one: Mapping[str, Any]) -> float:
    return float(one["overlap"])


def _copies(one: Mapping[str, Any]) -> float:
    """Share of x1 = x2 among all pairs that were written, those that a preparation dropped included."""
    copies = one["identical"] * one["pairs"] + one.get("dropped_identical", 0)
    return float(copies / max(one["pairs"] + one.get("dropped", 0), 1))


def warn_of_doubts(summary: Summary, configuration: Mapping[str, Any] | None = None) -> None:
    """Says what speaks against labels and texts, and which habits these have, if something does, and what to try.

    The configuration is that of the run that wrote the pairs, since not every model can be asked in every way.
    """
    if found := doubts(summary):
        wrote = configuration or {}
        tries = [] if "backend" in wrote else ["a larger decay_constant (λ)"]
        tries += ["another model", *(["prompt_format='raw'"] if wrote.get("prompt_format") == "chat" else [])]
        ways = f"{', '.join(tries)} when they are generated, or filters of `dino-st prepare` such as near_copy_overlap"
        logger.warning(
            "the labels may not mean what they say: %s; look at the pairs, and try %s", "; ".join(found), ways
        )
    if habits := habits_in(summary):
        logger.warning(
            "many texts have in common what their sentences have not, as where a model talks to someone:\n  %s\n"
            "An encoder may learn this and not the meaning; look at the texts, leave out those that are no sentences, "
            "or generate with another instruction or model",
            "\n  ".join(habits),
        )
    if copies := [f"label {label}: {one['copies']}" for label, one in summary.items() if "copies" in one]:
        logger.warning(
            "texts that should differ are their sentences but for case and marks: %s; `near_copy_edit` of `dino-st "
            "prepare` drops such pairs",
            "; ".join(copies),
        )
    if strangers := [f"label {label}: {one['strangers']}" for label, one in summary.items() if "strangers" in one]:
        logger.warning(
            "%s, as where replies came in another order than the requests, or for other sentences; look at the pairs",
            "; ".join(strangers),
        )


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
