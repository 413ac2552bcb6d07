"""Columns or replies that were exchanged or shifted, scores that were turned round, or ratings that say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from dino_st.data.columns import NEGATIVE
from dino_st.support.hashes import random_order
from dino_st.support.progress import logger

if TYPE_CHECKING:
    import pyarrow as pa

    from dino_st.support.similarity import Floats

COMPARED, _ENOUGH = 10_000, 20
"""So many rows are compared, and from so many on their mean tells something."""

_TIMES_AS_MANY, _MANY_SHARED = 2.5, 0.2
"""How many times as many words negatives share as the texts that should be alike, and at least which share. Negatives
that alter a word or two share fewer."""


class _Rows:
    """Rows of texts, whose columns are compared with one another, or with those of rows further on."""

    def __init__(self, columns: Sequence[pa.ChunkedArray | Sequence[str]]) -> None:
        import pyarrow as pa

        chosen = [column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column]) for column in columns]
        self.size = len(chosen[0])
        self.texts = pa.concat_arrays([chunk.cast(pa.large_string()) for column in chosen for chunk in column.chunks])

    def shared(self, one: int, other: int, further: int = 0) -> Floats:
        """The share of words that each text of a column has in common with one of another, so many rows further.

        Rows for which there is none are left out: the shape is `(size - |further|,)`.
        """
        import numpy as np

        from dino_st.support.similarity import word_overlap

        places = np.arange(max(0, -further), self.size - max(0, further))
        return word_overlap(one * self.size + places, other * self.size + places + further, self.texts)


def warn_of_alignment(texts: pa.Table, source: str, scores: Iterable[float] | None = None) -> None:
    """Says where rows, or a part of them, seem to hold texts, or scores, that belong to others.

    The columns are both sides of pairs, or anchors, positives and negatives. A hard negative may share more words than
    a positive, but hardly several times as many; of pairs, those of the next row may share none.
    """
    part = texts.slice(0, COMPARED)
    if len(part) < _ENOUGH:
        return
    rows = _Rows(part.columns)
    is_told = _warn_of_shift(rows, source)
    if NEGATIVE in part.column_names:
        _warn_of_negatives(rows, part, source, is_told=is_told)
    elif scores is not None and not is_told:
        _warn_of_scores(rows, [*islice(scores, rows.size)], source)


_ALIKE, _AS_MANY, _A_BIT, _IN_ALL, _TWICE = 0.4, 1.5, 0.1, 4, 2
"""A row tells nothing where the next one's first text shares so many words with its own. It seems to hold the text of a
neighbour where this shares more words than so many times those of its own and a bit. How much more they share in a run
of rows together (2.1 at most in STS, SICK, and 39,000 generated pairs), and on average."""


def _warn_of_shift(rows: _Rows, source: str) -> bool:
    """Says where first texts share more words with the second ones of a neighbouring row; whether that is so.

    The run of rows is looked for in which they do most, since a cell that was deleted moves those below it alone.
    """
    import numpy as np

    own, near = rows.shared(0, 1), rows.shared(0, 0, 1)
    for mine, moved, what in (
        (own[:-1], rows.shared(0, 1, 1), "the first texts with the second ones of the next row"),
        (own[1:], rows.shared(1, 0, 1), "the second texts with the first ones of the next row"),
    ):
        more = np.where(near < _ALIKE, moved - _AS_MANY * mine - _A_BIT, 0)
        start, end = _run_of_most(more)
        if more[start:end].sum() >= _IN_ALL and moved[start:end].mean() >= _TWICE * mine[start:end].mean():
            logger.warning(
                "%s: the first two texts of a row share %.2f of their words on average, and %s %.2f, as where columns "
                "were exchanged or shifted: from about row %d to row %d",
                source,
                mine[start:end].mean(),
                what,
                moved[start:end].mean(),
                start + 1,
                end + 1,
            )
            return True
    return False


def _run_of_most(values: Floats) -> tuple[int, int]:
    """The begin and end of the run of values whose sum is the largest."""
    import numpy as np

    sums = np.concatenate([[0], values.cumsum()])
    end = int((sums - np.minimum.accumulate(sums)).argmax())
    return int(sums[: end + 1].argmin()), end


def shared_words(pairs: Sequence[tuple[str, str]]) -> Floats:
    """The share of words that the two texts of each of some pairs have in common, of shape `(pairs,)`; one at least."""
    return _Rows([*zip(*pairs, strict=True)]).shared(0, 1)


_OF_A_RUN, _MUCH_MORE, _A_LITTLE, _ONE_LANGUAGE = 50, 1.5, 0.05, 0.015
"""Of so many pairs the mean tells; what texts share more with their own sentences; what any two of a language share."""


def shares_of_strangers(pairs: Sequence[tuple[str, str]]) -> tuple[float, float] | None:
    """The mean shares of words that texts have in common with their own sentences and with others, if about equal.

    The pairs are those of texts that should be alike, in random order. Between two languages no words are shared, and
    nothing is told.
    """
    import numpy as np

    if len(pairs) < _OF_A_RUN:
        return None
    firsts, seconds = zip(*pairs, strict=True)
    rows, names = _Rows([firsts, seconds]), np.array(firsts, object)
    own, others = float(rows.shared(0, 1).mean()), 0.0
    for further in (1, 2):
        if (chosen := names[further:] != names[:-further]).any():
            others += float(rows.shared(0, 1, further)[chosen].mean()) / 2
    is_near = own < min(_MUCH_MORE * others, others + _A_LITTLE)
    return (own, others) if is_near and others > _ONE_LANGUAGE else None


_LIKE_ANOTHER, _UNLIKE_ITS_OWN = 0.4, 0.1
"""Which share of words a text has in common with another's sentence, at least, and with its own, at most."""


def texts_of_others(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of pairs that should be alike, some thousand at most, the texts that seem to be of another pair's sentence.

    Returned are such texts, each with that sentence.
    """
    import numpy as np
    import pyarrow as pa

    from dino_st.support.similarity import word_sets

    if len(pairs) < _ENOUGH:
        return []
    firsts, seconds = zip(*pairs, strict=True)
    sets, number = word_sets(pa.array([*firsts, *seconds], pa.large_string())), len(pairs)
    sizes, common = np.diff(sets.indptr), (sets[number:] @ sets[:number].T).toarray()
    shares = common / np.maximum(sizes[number:, None] + sizes[None, :number] - common, 1)
    nearest = shares.argmax(axis=1)
    found = (shares.diagonal() <= _UNLIKE_ITS_OWN) & (shares.max(axis=1) >= _LIKE_ANOTHER)
    return [(seconds[place], firsts[nearest[place]]) for place in np.flatnonzero(found).tolist()]


_TIMES_ALONE, _ERRORS = 1.75, 6
"""How many times as many words anchors share with negatives of other rows, and by how many standard errors more. With
50 sets of triplets it was 3 errors at most; 12 and 1.7 times where neighbours were taken for triplets."""


def _warn_of_negatives(rows: _Rows, texts: pa.Table, source: str, *, is_told: bool) -> None:
    """Says where negatives, or those of a neighbouring row, share more words with the others than they should.

    A negative that stands in the other row already, as one does that was taken from there, is no sign of a shift.
    """
    import numpy as np

    pairs, own = float(rows.shared(0, 1).mean()), rows.shared(0, 2)
    shares = {"the anchor": float(own.mean()), "the positive": float(rows.shared(1, 2).mean())}
    what = max(shares, key=shares.__getitem__)
    if shares[what] >= max(_MANY_SHARED, _TIMES_AS_MANY * pairs) and not is_told:
        logger.warning(
            "%s: the first two texts of a row share %.2f of their words on average, and negatives with %s %.2f, as "
            "where columns were exchanged or shifted",
            source,
            pairs,
            what,
            shares[what],
        )
    *others, negatives = (column.to_pylist() for column in texts.columns)
    for step, where in ((1, "the next row"), (-1, "the row before")):
        places = range(max(0, -step), rows.size - max(0, step))
        chosen = np.array(
            [
                negatives[place + step] not in (negatives[place], *(column[place] for column in others))
                for place in places
            ]
        )
        if chosen.sum() < _ENOUGH:
            continue
        mine, moved = own[places.start : places.stop][chosen], rows.shared(0, 2, step)[chosen]
        error = (moved - mine).std(ddof=1) / len(mine) ** 0.5
        if moved.mean() >= _TIMES_ALONE * mine.mean() and moved.mean() - mine.mean() > _ERRORS * error:
            logger.warning(
                "%s: anchors share %.2f of their words with their negatives on average, and %.2f with those of %s, as "
                "where the negatives were shifted by a row",
                source,
                mine.mean(),
                moved.mean(),
                where,
            )


_BY_CHANCE = 1e-4
"""How unlikely so low a correlation is where there is none."""

_SORTED, _GRADES = 200, 4
"""So many scores in order, of so many different ones, tell that they were sorted."""

_SHUFFLED, _SPREAD = 300, 0.15
"""From so many pairs on, and so large a standard deviation of the shares, it is told that scores go with shared words
by chance."""


def _warn_of_scores(rows: _Rows, scores: Sequence[float], source: str) -> None:
    """Says where scores fall as more words are shared, and where words and scores know nothing of one another.

    Scores that go with shared words by chance tell nothing alone: that pairs of the upper half of the scale share no
    more than any two sentences does, and so does that the scores stand in order, as where one column was sorted.
    """
    import numpy as np
    from scipy.stats import spearmanr

    if len(set(scores)) < 2:
        return
    overlap = rows.shared(0, 1)
    found = spearmanr(overlap, scores, alternative="less") if np.ptp(overlap) else None
    if found is not None and found.pvalue < _BY_CHANCE:
        logger.warning(
            "%s: the more words two sentences share, the lower their score (Spearman %.2f over %d pairs); are these "
            "distances, or numbers of classes, such as RTE's in GLUE, where 0 means entailment? Similar pairs must "
            "have the higher scores",
            source,
            found.statistic,
            rows.size,
        )
        return
    is_told = found is not None and (
        _warn_of_moved_scores(overlap, scores, source)
        or _warn_of_an_end(overlap, np.asarray(scores), source)
        or found.statistic >= _WEAK
    )
    if is_told or rows.size < _RATED:
        return
    first, second = (rows.texts.slice(start, rows.size).to_pylist() for start in (0, rows.size))
    order = random_order(rows.size, np.random.PCG64(0)).tolist()
    best = [(first[place], second[place]) for place in order if scores[place] >= max(scores) / 2 > 0]
    steps = np.diff(scores)
    if (shares := shares_of_strangers(best)) is not None:
        logger.warning(
            "%s: pairs of the upper half of the scores share %.3f of their words, and sentences of different pairs "
            "%.3f, as where one column was sorted or moved alone; look at the pairs",
            source,
            *shares,
        )
    elif rows.size >= _SORTED and len(set(scores)) >= _GRADES and ((steps >= 0).all() or (steps <= 0).all()):
        logger.warning(
            "%s: the scores stand in order, and go with the words that pairs share by chance (Spearman %.2f), as where "
            "their column was sorted alone; look at the pairs",
            source,
            0 if found is None else found.statistic,
        )
    elif found is not None and rows.size >= _SHUFFLED and overlap.std() >= _SPREAD and 1 - found.pvalue > _DOUBT:
        logger.warning(
            "%s: the scores go with the words that pairs share by chance (Spearman %.2f over %d pairs), as where their "
            "column was shuffled, or belongs to other pairs; unless the pairs were chosen so, look at them",
            source,
            found.statistic,
            rows.size,
        )


_AT_AN_END, _NEAR, _ON_A_SCALE = 5, 0.3, 5e-4
"""Pairs with the highest, or lowest, score; the share of the others that are nearest; and the chance of so few, or so
many, shared words below which that score is none."""


def _warn_of_an_end(overlap: Floats, scores: Floats, source: str) -> bool:
    """Says where the pairs of the highest score share fewer words than those next to it, or of the lowest score more.

    So do those of a number that stands for no score, such as 6 or 0 on a scale of 1 to 5. Whether that is so.
    """
    import numpy as np
    from scipy.stats import mannwhitneyu

    for sign, which, how in ((1, "highest", "fewer"), (-1, "lowest", "more")):
        ranked = sign * scores
        is_end = ranked == ranked.max()
        others = np.sort(ranked[~is_end])[::-1]
        if len(np.unique(ranked)) < _GRADES or not _AT_AN_END <= is_end.sum() <= len(others):
            continue
        least = others[min(len(others) - 1, max(is_end.sum(), int(_NEAR * len(others))))]
        is_near = ~is_end & (ranked >= least)
        found = mannwhitneyu(sign * overlap[is_end], sign * overlap[is_near], alternative="less")
        if found.pvalue < _ON_A_SCALE:
            logger.warning(
                "%s: the %d pairs of the %s score, %g, share %s words than those of the scores next to it (%.2f and "
                "%.2f), as where it says that there is none; look at the pairs",
                *(source, is_end.sum(), which, scores[is_end][0], how, overlap[is_end].mean(), overlap[is_near].mean()),
            )
            return True
    return False


_LONG_RUN, _NONE, _BACKWARDS, _SURE = 30, 0.1, -0.3, 4.5
"""Rows of a run; the most that words and scores go together in one that was moved, or turned round; and by how many
standard errors from chance words go with the scores of others, or backwards."""


def _warn_of_moved_scores(overlap: Floats, scores: Sequence[float], source: str) -> bool:
    """Says where, in a run of rows, scores go with the words of neighbouring rows, or backwards; whether they do."""
    from scipy.stats import rankdata, zscore

    words, rated = (zscore(rankdata(values)) for values in (overlap, scores))
    own = words * rated
    for mine, moved, most, whose in (
        (own[:-1], words[:-1] * rated[1:], _NONE, "of the next row"),
        (own[1:], words[1:] * rated[:-1], _NONE, "of the row before"),
        (own, -own, _BACKWARDS, "of their own, but backwards"),
    ):
        start, end = _run_of_most(moved - mine)
        is_sure = moved[start:end].sum() >= _SURE * (end - start) ** 0.5
        if is_sure and end - start >= _LONG_RUN and mine[start:end].mean() <= most:
            logger.warning(
                "%s: from about row %d to row %d the words that pairs share go with the scores %s, as where these "
                "were shifted by a row or turned round; look at the pairs",
                *(source, start + 1, end, whose),
            )
            return True
    return False


_RATED, _WEAK, _DOUBT = 100, 0.1, 0.05
"""From so many pairs on it is told that ratings go with scores no better than by chance: below this correlation, or
where the chance of so high a one is larger than this if there is none."""


FEWEST_RANKED = 30
"""Pairs below which a rank correlation is mostly chance."""


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
    elif len(judged) >= FEWEST_RANKED and (found.statistic < _WEAK or found.pvalue > _DOUBT):
        logger.warning(
            "%s: the judge's ratings go with the assigned scores hardly better than by chance (%s): either says little "
            "about these pairs; look at some (dino-st audit) before you train on the ratings",
            source,
            told,
        )
    return float(found.statistic)
