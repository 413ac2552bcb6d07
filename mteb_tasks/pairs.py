"""A user's own scored pairs, from any table, as an STS task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from dino_st.data.alignment import FEWEST_RANKED
from dino_st.data.columns import LABEL, SCORE, SENTENCE1, SENTENCE2
from dino_st.data.pairs import check_scores, pair_columns
from dino_st.data.tables import name_unused, number_value, table_rows, text_value
from dino_st.errors import InputError
from dino_st.support.hashes import hash_texts
from dino_st.support.progress import logger
from dino_st.support.text import is_blank
from mteb_tasks.abstask import AbsTaskScoredPairs, sts_metadata
from mteb_tasks.sts_files import ScoredPair, pairs_revision, tell_of_alignment


def read_pair_file(path: str | Path) -> list[ScoredPair]:
    """Reads scored pairs in the order of the file, under our names (`sentence1`, `sentence2`, `score`) or others.

    A pair that stands there twice counts twice, as in the STS tasks, and where its scores differ, a warning says so. An
    InputError, which names the row, says that the file is missing, empty, of another kind, lacks a column, or holds a
    score that is not a finite number, or seems to stand for none, or a text that is blank.
    """
    file = Path(path).expanduser()
    pairs: list[ScoredPair] = []
    first_of_score: dict[float, str] = {}
    seen: dict[tuple[str, ...], tuple[str, float]] = {}
    disagreeing: list[str] = []
    for where, row in table_rows(file, name_unused(file, _scored_pair)):
        first, second = (text_value(where, name, row[name]) for name in (SENTENCE1, SENTENCE2))
        if is_blank(first) or is_blank(second):
            raise InputError(f"{where}: one of the two sentences is blank; mend or remove the row.")
        score = number_value(where, SCORE, row[SCORE])
        first_of_score.setdefault(score, where)
        before, other = seen.setdefault(tuple(sorted((first, second))), (where, score))
        if other != score:
            disagreeing.append(f"{before} says {other:g} and {where} {score:g}")
        pairs.append(ScoredPair(first, second, score))
    if len({pair.score for pair in pairs}) < 2:
        raise InputError(
            f"'{file}' holds {len(pairs)} pairs with fewer than two different scores, so no correlation can be "
            "computed. Give pairs of varying similarity."
        )
    check_scores([pair.score for pair in pairs], first_of_score, str(file))
    if disagreeing:
        logger.warning(
            "%s: %d of %d pairs stand there before with another score, in this or the other order: %s; each counts as "
            "it stands, as in the STS tasks",
            file,
            len(disagreeing),
            len(pairs),
            disagreeing[0],
        )
    same, others = (
        [pair.score for pair in pairs if (pair.sentence1 == pair.sentence2) == is_same] for is_same in (True, False)
    )
    if not others:
        logger.warning("%s: both sentences of every pair are the same; are the right columns named?", file)
    if same and others and fmean(same) < fmean(others):
        logger.warning(
            "%s: %d of %d pairs are of one and the same sentence, and have a lower score on average (%.3g) than the "
            "others (%.3g); are these distances? Similar pairs must have the higher scores",
            file,
            len(same),
            len(pairs),
            fmean(same),
            fmean(others),
        )
    tell_of_alignment(pairs, file)
    return pairs


def _scored_pair(names: Sequence[str], where: str) -> dict[str, str]:
    """The columns of a scored pair; `label` is the score where there is no other."""
    found = pair_columns(names, where)
    score = found.get(SCORE, found.get(LABEL))
    if score is None or not {SENTENCE1, SENTENCE2} <= set(found):
        raise InputError(
            f"{where}: has the columns {', '.join(map(str, names)) or 'none'}; expected sentence1, sentence2 and "
            "score, or other names for them, such as text_a, text_b and label"
        )
    return {SENTENCE1: found[SENTENCE1], SENTENCE2: found[SENTENCE2], SCORE: score}


_HASH_DIGITS = 8


class DinoPairs(AbsTaskScoredPairs):
    """Any file of `sentence1`, `sentence2`, `score` as an STS task of its own.

    The task's name carries the file's stem and eight hexadecimal digits of the hash of its pairs, so that a changed
    file is another task and no stored result of the old one answers for it.

    Example:
        >>> task = DinoPairs("validation.jsonl")
        >>> task.metadata.name
        'DinoPairs-validation-1f0c7a52'
    """

    min_score = 0
    max_score = 1
    metadata = sts_metadata(
        name="DinoPairs",
        description="Scored sentence pairs from a file of the user's own.",
        dataset={"path": "local/DinoPairs", "revision": "unread"},
        reference="https://arxiv.org/abs/2104.07540",
        date=("2021-01-01", "2021-12-31"),
        domains=["Written"],
        annotations_creators="derived",
        sample_creation="found",
        bibtex_citation="",
        is_public=False,
    )

    def __init__(self, file: str | Path, seed: int = 42, **kwargs: Any) -> None:
        """Reads the file.

        Args:
            file: A table with the columns `sentence1`, `sentence2` and `score`; see `read_pair_file`.
            seed: mteb's seed; the task draws nothing.
            **kwargs: Handed on to mteb.

        Raises:
            InputError: The file cannot be read, or not used as scored pairs.
        """
        self.file = Path(file).expanduser()
        self._pairs = read_pair_file(self.file)
        if (number := len(self._pairs)) < FEWEST_RANKED:
            logger.warning("%s: holds %d pairs; a correlation of so few says next to nothing", self.file, number)
        self._name_after_content()
        super().__init__(seed=seed, **kwargs)

    def read_pairs(self) -> dict[str, list[ScoredPair]]:
        """The pairs that were in the file when the task was made, as the split `test`."""
        return {"test": self._pairs}

    def unload_data(self) -> None:
        """Releases mteb's copy of the data; the task keeps its name and its pairs."""
        super().unload_data()
        self._name_after_content()

    def _set_revision(self, revision: str) -> None:
        """The name and revision were settled when the file was read."""

    def _name_after_content(self) -> None:
        texts = [text for pair in self._pairs for text in (pair.sentence1, pair.sentence2, repr(pair.score))]
        is_ambiguous = any("\t" in text or "\n" in text for text in texts)  # to `pairs_revision`, which joins by them
        revision = hash_texts(texts)[:40] if is_ambiguous else pairs_revision(self.read_pairs())
        stem = re.sub(r"[^\w.-]+", "_", self.file.stem)
        name = f"DinoPairs-{stem}-{revision[:_HASH_DIGITS]}"
        fields = {"name": name, "dataset": {"path": f"local/{name}", "revision": revision}}
        self.metadata = type(self).metadata.model_copy(update=fields)
