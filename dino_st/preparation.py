"""Raw pairs in, training pairs out: everything that deals with noise before training.

The steps are those of DINO (arXiv 2104.07540, section 4) and of its published code, each an option. What differs
from that code, on purpose:

- It deduplicates through a `set`, so which pairs survive the cap and which negatives are drawn changes with
  `PYTHONHASHSEED`. Here the outcome depends on the seed and the pairs alone, not even on the order of the rows.
- It draws negatives from all entries, those of the same x1 included, and may draw one twice. Here a negative is
  never an x2 of the same x1, nor x1 itself, nor a pair that stands in the data in either direction.
- It rounds the validation share of each score down, so a score with fewer than ten pairs has none. Here a score
  with at least two pairs has at least one.
- Pairs with a blank text are dropped.

Filters and targets that know of noise (`pair_filters`, `noisy_targets`) are options that are off by default.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from dino_st.errors import DatasetError, DinoWarning
from dino_st.noisy_targets import posterior_of_rows, target_scores
from dino_st.pair_filters import filter_doubtful_labels, filter_near_copies, filter_texts
from dino_st.pair_selection import random_bits
from dino_st.preparation_options import DEFAULTS, PreparationOptions
from dino_st.preparation_steps import TARGETS, add_negatives, cap, drop_worthless, split, tally
from dino_st.prepared_splits import PreparedSplits, format_counts, load_prepared, save_prepared
from dino_st.raw_pairs import read_raw_pairs
from dino_st.rejected_pairs import Rejections

__all__ = ["PreparationOptions", "PreparedSplits", "format_counts", "load_prepared", "prepare_pairs", "save_prepared"]

logger = logging.getLogger(__name__)


class NothingLeftError(DatasetError):
    """Every pair was dropped.

    Attributes:
        rejected: The pairs with the reasons, if `prepare_pairs` was told to keep them.
    """

    def __init__(self, message: str, rejected: pa.Table | None) -> None:
        super().__init__(message)
        self.rejected = rejected


def prepare_pairs(
    raw: Dataset,
    *,
    seed: int = DEFAULTS.seed,
    labels: Sequence[float] = DEFAULTS.labels,
    drop_identical: bool = DEFAULTS.drop_identical,
    drop_duplicates: bool = DEFAULTS.drop_duplicates,
    max_per_input_and_label: int = DEFAULTS.max_per_input_and_label,
    label_smoothing: float = DEFAULTS.label_smoothing,
    random_negatives: int = DEFAULTS.random_negatives,
    random_negative_score: float = DEFAULTS.random_negative_score,
    validation_share: float = DEFAULTS.validation_share,
    explain: bool = False,
    **noise: Any,
) -> PreparedSplits:
    """Turns raw pairs into a training and a validation split, as DINO does before it trains.

    In this order: pairs with a blank text, identical pairs and duplicates are dropped; filters, where some are
    switched on, drop more; of each (x1, label) at most two pairs are kept, chosen at random; scores are smoothed, or
    what `target` says; each x1 gets random x2 of other entries with score 0; a tenth of the pairs of each score becomes
    the validation split.

    The split is drawn by the assigned label, and validation pairs keep the smoothed assigned label whatever the target
    (unless `validation_scores` says otherwise). So checkpoints and runs that differ in the target alone are judged on
    the same pairs by the same scores; runs that differ in filters are not, since filters take pairs from both splits.

    Labels that are not numbers (a column `label`, with pairs or with a single `text`) are neither smoothed nor given
    random negatives, and single texts are not capped; all else is the same.

    Args:
        raw: Columns `sentence1`, `sentence2`, `score`, or `label` instead of `score`, or `text` and `label`; what
            else it has (provenance) is left out. Options that look at the label posterior need `log_probs`, one number
            for each of `labels` in this order, as `dino-st generate` and `dino-st score` write them;
            `min_token_log_prob` needs `plain_log_prob` and `num_tokens`.
        seed: Seed of every random choice. The same pairs and seed give the same splits, whatever the order of the
            rows.
        labels: The scores that raw pairs may have.
        drop_identical: Drop pairs whose two sentences are the same.
        drop_duplicates: Keep one of several equal (x1, x2, label).
        max_per_input_and_label: Pairs kept for each (x1, label); 0 keeps all.
        label_smoothing: Share s of the mean label in y·(1-s) + s·mean, which is 0.8·y + 0.1 for the defaults.
        random_negatives: Random pairs added for each x1.
        random_negative_score: Their score, which is not smoothed.
        validation_share: Share of the pairs of each score in the validation split.
        explain: Keep the pairs that were dropped, with the reason, in `PreparedSplits.rejected`.
        **noise: The other options of `PreparationOptions`: filters, targets, the posterior, the guard of negatives.

    Returns:
        The splits `train` and `validation` with exactly the columns `sentence1`, `sentence2`, `score` (or `label`),
        and the count of every step in `counts`.

    Raises:
        ConfigurationError: An option is unknown or out of range.
        DatasetError: A column is missing, a score is none of the labels (as in a file that was prepared already), a
            log-probability is no number, or no pair is left.
    """
    options = PreparationOptions.create(
        seed=seed,
        labels=tuple(labels),
        drop_identical=drop_identical,
        drop_duplicates=drop_duplicates,
        max_per_input_and_label=max_per_input_and_label,
        label_smoothing=label_smoothing,
        random_negatives=random_negatives,
        random_negative_score=random_negative_score,
        validation_share=validation_share,
        **noise,
    )
    return _prepare(raw, options, explain=explain)


def _prepare(raw_set: Dataset, options: PreparationOptions, *, explain: bool) -> PreparedSplits:
    """The steps in their order."""
    raw = read_raw_pairs(raw_set, options)
    rejections = Rejections(keep=explain)
    counts = rejections.counts
    counts["input"] = len(raw.rows)

    rows = known = drop_worthless(raw, options, rejections)
    rows = filter_texts(raw, rows, options, rejections)
    rows = filter_near_copies(raw, rows, options, rejections)
    is_scored = raw.log_probs is not None and len(rows) > 0
    posterior, facts = posterior_of_rows(raw, rows, options) if is_scored else (None, None)
    rows = filter_doubtful_labels(raw, rows, posterior, options, rejections)
    if raw.is_pair and options.max_per_input_and_label:
        rows = cap(rows, options, rejections)
    counts["kept"] = len(rows)
    if not len(rows):
        rejected = rejections.table(raw.texts, raw.columns, raw.labels)
        raise NothingLeftError(f"no pair is left after preparation:\n{format_counts(counts)}", rejected)
    counts |= tally(rows.label, raw.labels)
    if raw.is_pair and len(np.unique(rows.label)) == 1:
        warnings.warn(
            f"all pairs have the label {raw.labels[int(rows.label[0])]}; an encoder cannot learn from them how the "
            "labels differ",
            DinoWarning,
            stacklevel=3,
        )

    values, targets = raw.labels, None
    if raw.is_numeric:
        values = [options.smoothed(float(value)) for value in raw.labels]
        if posterior is not None and options.target != "smoothed":
            targets = target_scores(rows.label, posterior[rows.origin], options, random_bits(options.seed, TARGETS))
        if raw.is_pair and options.random_negatives:
            rows = add_negatives(raw, rows, known, options, counts)
            values.append(options.random_negative_score)
            if targets is not None:
                targets = np.pad(targets, (0, len(rows) - len(targets)), constant_values=options.random_negative_score)
    splits = split(raw, rows, values, targets, options, counts)
    logger.info("prepared pairs:\n%s", format_counts(counts))
    return PreparedSplits(
        splits,
        counts=counts,
        options=options,
        provenance={"label_posterior": facts} if facts else None,
        rejected=rejections.table(raw.texts, raw.columns, raw.labels),
    )
