"""Columns of texts that were exchanged, or shifted by a row, as the words show that they share."""

from __future__ import annotations

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
