"""The pictures of a report, drawn without a display."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dino_st.training.record import TrainingRecord


Values = NDArray[np.float64]

_BLUE, _RED, _GREY = "#30638e", "#d1495b", "#9a9a9a"
_OVERLAP_BINS = 40
_WIDEST = 24
"""Characters of a label's name beside an axis; the page has it whole."""

_WIDE_NAMES = 40
"""Characters of all names together that fit below an axis side by side."""


def counts_by_label(groups: Sequence[str], totals: Sequence[int], *, title: str) -> Figure:
    """A bar for each assigned label with its number of rows."""
    names, places = [_short(name) for name in groups], range(len(groups))
    if sum(map(len, names)) > _WIDE_NAMES:
        figure, axis = _single(6.4, 1.2 + 0.36 * len(groups))
        bars = axis.barh(places, totals, color=_BLUE)
        axis.set_yticks(places, names)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        _whole_numbers(axis.xaxis)
    else:
        figure, axis = _single(4.8, 3.2)
        bars = axis.bar(places, totals, color=_BLUE, width=0.65)
        axis.set_xticks(places, names)
        axis.set(xlabel="assigned label", ylabel="rows", xlim=(-0.7, max(1.7, len(groups) - 0.3)))
        axis.margins(y=0.12)
        _whole_numbers(axis.yaxis)
    axis.bar_label(bars, [f"{total:,}" for total in totals], padding=3, fontsize=9)
    axis.set_title(_title(title), fontsize=11)
    return figure


def words_by_label(columns: Mapping[str, Sequence[Values]], groups: Sequence[str], *, title: str) -> Figure:
    """Histograms of words, a row for each label and a column for each text; the longest half per cent stand last."""
    everything = np.concatenate([values for parts in columns.values() for values in parts])
    longest = max(3, int(np.ceil(np.quantile(everything, 0.995))))
    width = max(1, int(np.ceil(longest / 40)))
    bins = np.arange(-0.5, longest + width, width)
    clipped = {name: [np.minimum(values, bins[-1] - 0.5) for values in parts] for name, parts in columns.items()}
    return _histograms(clipped, groups, bins, title=title, unit="words (the last bar: and more)")


def overlap_by_label(parts: Sequence[Values], groups: Sequence[str], *, title: str) -> Figure:
    """Histograms of the overlap of two sentences' words (Jaccard, 0 to 1), a row for each label."""
    half = 0.5 / _OVERLAP_BINS
    bins = np.linspace(-half, 1 + half, _OVERLAP_BINS + 2)
    return _histograms({"": parts}, groups, bins, title=title, unit="words in both / words in either")


def heat_map(values: Values, rows: Sequence[str], columns: Sequence[str], *, title: str) -> Figure:
    """The mean posterior of each label by assigned label, `(rows, columns)`, a number in each field; NaN for none."""
    figure, axis = _single(2.4 + 0.85 * len(columns), 1.6 + 0.6 * len(rows))
    image = axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    names = [_short(name) for name in columns]
    turned = 60 if sum(map(len, names)) > max(_WIDE_NAMES, 6 * len(names)) else 0
    axis.set_xticks(range(len(columns)), names, rotation=turned, ha="right" if turned else "center")
    axis.set_yticks(range(len(rows)), [_short(name) for name in rows])
    axis.set_xlabel("what the model takes it for")
    axis.set_ylabel("assigned label")
    axis.set_title(_title(title), fontsize=11)
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.2f}"
        axis.text(column, row, text, ha="center", va="center", color="white" if value > 0.6 else "black")
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, label="mean P(label | pair)", shrink=0.9)
    return figure


def reasons(panels: Mapping[str, Mapping[str, int]]) -> Figure:
    """Bars of what each stage rejected for which reason, stages one above the other; none is empty."""
    from matplotlib.figure import Figure

    heights = [len(counts) + 1.4 for counts in panels.values()]
    figure = Figure(figsize=(6.4, 0.6 + 0.36 * sum(heights)), layout="constrained")
    axes: Any = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (stage, counts) in zip(axes, panels.items(), strict=True):
        ordered = sorted(counts.items(), key=lambda item: (item[1], item[0]))
        bars = axis.barh(range(len(ordered)), [count for _, count in ordered], color=_BLUE)
        axis.set_yticks(range(len(ordered)), [_short(reason) for reason, _ in ordered])
        axis.bar_label(bars, [f"{count:,}" for _, count in ordered], padding=3, fontsize=9)
        axis.set_title(_title(stage), fontsize=11, loc="left")
        axis.margins(x=0.15)
        _whole_numbers(axis.xaxis)
        _bare(axis)
    return figure


def training_curve(record: TrainingRecord) -> Figure:
    """Spearman's correlation on the validation pairs over the steps, with the start and the kept step."""
    figure, axis = _single(6.0, 3.4)
    steps, scores = zip(*((point.step, 100 * point.spearman) for point in record.curve), strict=True)
    if record.start is not None:
        steps, scores = (0, *steps), (100 * record.start, *scores)
        axis.axhline(100 * record.start, color=_GREY, linestyle="--", linewidth=1, label="untrained")
    axis.plot(steps, scores, color=_BLUE, marker="o", markersize=3.5, linewidth=1.6)
    if record.best is not None:
        label = f"{'best' if record.averages else 'kept'}: step {record.best.step:,}, {100 * record.best.spearman:.2f}"
        axis.plot([record.best.step], [100 * record.best.spearman], "o", color=_RED, markersize=8, label=label)
    axis.set(
        xlabel="training steps",
        ylabel="Spearman × 100",
        title=f"{record.validation_kind.capitalize()} validation pairs",
    )
    axis.margins(y=0.15)
    _whole_numbers(axis.xaxis)
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return figure


def _histograms(
    columns: Mapping[str, Sequence[Values]], groups: Sequence[str], bins: Values, *, title: str, unit: str
) -> Figure:
    """Histograms of shares of each label's rows, the median marked."""
    from matplotlib.figure import Figure

    names = [_short(group) for group in groups]
    width = 0.7 + 0.08 * max(map(len, names)) + 3.7 * len(columns)
    figure = Figure(figsize=(width, 1.5 + 0.8 * len(groups)), layout="constrained")
    axes: Any = figure.subplots(len(groups), len(columns), sharex=True, squeeze=False)
    for column, (name, parts) in enumerate(columns.items()):
        axes[0][column].set_title(name, fontsize=10)
        axes[-1][column].set_xlabel(unit)
        for axis, group, values in zip(axes[:, column], names, parts, strict=True):
            if len(values):
                axis.hist(values, bins, weights=np.full(len(values), 1 / len(values)), color=_BLUE)
                axis.axvline(float(np.median(values)), color=_RED, linewidth=1.4)
            axis.set_yticks([])
            if not column:
                axis.set_ylabel(group, rotation=0, ha="right", va="center")
            axis.spines[["top", "right", "left"]].set_visible(False)
        if bins[-1] > 2:
            _whole_numbers(axes[-1][column].xaxis)
    figure.suptitle(f"{_title(title)}\nshare of each label's rows; red: median", fontsize=11)
    return figure


def _single(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    _bare(axis)
    return figure, axis


def _whole_numbers(axis: Any) -> None:
    """A few whole numbers beside an axis, thousands apart by commas."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _bare(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def _title(text: str) -> str:
    """A title, over several lines if it is long."""
    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), 60))


def _short(name: str) -> str:
    """A name that fits beside an axis; dollar signs would begin mathematics."""
    half = _WIDEST // 2
    short = name if len(name) <= _WIDEST else f"{name[: half - 1]}…{name[-half:]}"
    return short.replace("$", r"\$")
