"""Columns or replies that were exchanged or shifted, scores that were turned round, or ratings that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from dino_st.data.columns import NEGATIVE
from dino_st.support.progress import logger

if TYPE_CHECKING:
    import pyarrow as pa

_COMPARED, _ENOUGH = 2000, 20
"""So many rows are compared, and from so many on their mean tells something."""

_TIMES_AS_MANY, _MANY_SHARED = 3, 0.2
"""How many times as many words other texts share as those that should, and at least which share."""


def warn_of_alignment(texts: pa.Table, source: str) -> None:
    """Says where texts share several times as many words with others than those that should be alike.

    The columns are both sides of pairs, or anchors, positives and negatives. A hard negative may share more words than
    a positive, but hardly several times as many; of pairs, those of the next row may share none.
    """
    import numpy as np
    import pyarrow as pa

    from dino_st.support.similarity import word_overlap

    rows = texts.slice(0, _COMPARED)
    size = len(rows)
    if size < _ENOUGH:
        return
    chunks = [chunk.cast(pa.large_string()) for column in rows.columns for chunk in column.chunks]
    joined = pa.concat_arrays(chunks)

    def shared(one: int, other: int, further: int = 0) -> float:
        """The share of words that a text of one column has in common with one of another, so many rows further."""
        places = np.arange(size - further)
        return float(word_overlap(one * size + places, other * size + places + further, joined).mean())

    own = shared(0, 1)
    others = {
        "the first texts with the second ones of the next row": shared(0, 1, 1),
        "the second texts with the first ones of the next row": shared(1, 0, 1),
    }
    if NEGATIVE in rows.column_names:
        _warn_of_negatives(rows, joined, source)
        others |= {"negatives with the anchor": shared(0, 2), "negatives with the positive": shared(1, 2)}
    what = max(others, key=others.__getitem__)
    if others[what] >= max(_MANY_SHARED, _TIMES_AS_MANY * own):
        logger.warning(
            "%s: the first two texts of a row share %.2f of their words on average, and %s %.2f, as where columns were "
            "exchanged or shifted",
            source,
            own,
            what,
            others[what],
        )


_OF_A_RUN, _MUCH_MORE, _A_LITTLE, _ONE_LANGUAGE = 50, 1.5, 0.05, 0.015
"""Of so many pairs the mean tells; what texts share more with their own sentences; what any two of a language share."""


def shares_of_strangers(pairs: Sequence[tuple[str, str]]) -> tuple[float, float] | None:
    """The mean shares of words that texts have in common with their own sentences and with others, if about equal.

    The pairs are those of texts that should be alike, in random order. Between two languages no words are shared, and
    nothing is told.
    """
    import numpy as np
    import pyarrow as pa

    from dino_st.support.similarity import word_overlap

    if len(pairs) < _OF_A_RUN:
        return None
    texts, number = (
        pa.array([text for pair in zip(*pairs, strict=True) for text in pair], pa.large_string()),
        len(pairs),
    )
    firsts, places = np.array([first for first, _ in pairs], object), np.arange(len(pairs))

    def shared(further: int) -> float:
        others = np.roll(places, -further)
        chosen = (firsts != firsts[others]) | (further == 0)
        return float(word_overlap(places[chosen], number + others[chosen], texts).mean()) if chosen.any() else 0.0

    own, others = shared(0), (shared(1) + shared(2)) / 2
    is_near = own < min(_MUCH_MORE * others, others + _A_LITTLE)
    return (own, others) if is_near and others > _ONE_LANGUAGE else None


_TIMES_ALONE, _ERRORS = 1.75, 6
"""How many times as many words anchors share with negatives of other rows, and by how many standard errors more. With
50 sets of triplets it was 3 errors at most; 12 and 1.7 times where neighbours were taken for triplets."""


def _warn_of_negatives(rows: pa.Table, joined: pa.Array, source: str) -> None:
    """Says where anchors share more words with the negatives of the next row, or of the one before, than with theirs.

    A negative that stands in the other row already, as one does that was taken from there, is no sign of it.
    """
    import numpy as np

    from dino_st.support.similarity import word_overlap

    size, (*others, negatives) = len(rows), (column.to_pylist() for column in rows.columns)
    for step, where in ((1, "the next row"), (-1, "the row before")):
        places = np.array(
            [
                place
                for place in range(max(0, -step), size - max(0, step))
                if negatives[place + step] not in (negatives[place], *(column[place] for column in others))
            ],
            np.int64,
        )
        if len(places) < _ENOUGH:
            continue
        own, moved = (word_overlap(places, 2 * size + places + further, joined) for further in (0, step))
        error = (moved - own).std(ddof=1) / len(places) ** 0.5
        if moved.mean() >= _TIMES_ALONE * own.mean() and moved.mean() - own.mean() > _ERRORS * error:
            logger.warning(
                "%s: anchors share %.2f of their words with their negatives on average, and %.2f with those of %s, as "
                "where the negatives were shifted by a row",
                source,
                own.mean(),
                moved.mean(),
                where,
            )


_MOST_SCORES, _BY_CHANCE = 10_000, 1e-6
"""So many pairs are compared, and how unlikely so low a correlation is where there is none."""


def warn_of_order(texts: pa.Table, scores: Sequence[float], source: str) -> None:
    """Says where sentences with the lower scores share more words, as where the numbers of classes are no scores."""
    import numpy as np
    import pyarrow as pa
    from scipy.stats import spearmanr

    from dino_st.support.similarity import word_overlap

    size = min(len(scores), _MOST_SCORES)
    own, places = list(islice(scores, size)), np.arange(size)
    both = [chunk.cast(pa.large_string()) for column in texts.slice(0, size).columns for chunk in column.chunks]
    if size < _ENOUGH or len(set(own)) < 2:
        return
    overlap = word_overlap(places, places + size, pa.concat_arrays(both))
    if np.ptp(overlap) and (found := spearmanr(overlap, own, alternative="less")).pvalue < _BY_CHANCE:
        logger.warning(
            "%s: the more words two sentences share, the lower their score (Spearman %.2f over %d pairs); are these "
            "distances, or numbers of classes, such as RTE's in GLUE, where 0 means entailment? Similar pairs must "
            "have the higher scores",
            source,
            found.statistic,
            size,
        )


_RATED, _WEAK, _DOUBT = 100, 0.1, 0.05
"""From so many pairs on it is told that ratings go with scores no better than by chance: below this correlation, or
where the chance of so high a one is larger than this if there is none."""


def agreement(judged: Sequence[float], scores: Sequence[float], source: str) -> float | None:
    """Spearman's correlation of a judge's ratings with the assigned scores; warns where it is backwards, or chance.

    None where all ratings, or all scores, are equal.
    """
    from scipy.stats import spearmanr

    if len(set(scores)) < 2 or len(set(judged)) < 2:
        return None
    found = spearmanr(judged, scores, alternative="greater")
    told = f"Spearman {found.statistic:.2f} over {len(judged):,} pairs"
    if 1 - found.pvalue < _BY_CHANCE:
        logger.warning(
            "%s: the higher the assigned score, the lower the judge's rating (%s), as where 0 means the same; "
            "do not train on these ratings, and take another judge",
            source,
            told,
        )
    elif len(judged) >= _RATED and (found.statistic < _WEAK or found.pvalue > _DOUBT):
        logger.warning(
            "%s: the judge's ratings go with the assigned scores hardly better than by chance (%s): either says little "
            "about these pairs; look at some (dino-st audit) before you train on the ratings",
            source,
            told,
        )
    return float(found.statistic)
