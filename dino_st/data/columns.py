"""The names of the columns of pairs, and one pair as a record. `dino_st.training.fit` is where to import them from."""

from __future__ import annotations

from dataclasses import dataclass

SENTENCE1 = "sentence1"
SENTENCE2 = "sentence2"
SCORE = "score"
LABEL = "label"
TEXT = "text"

PAIR_COLUMNS = (SENTENCE1, SENTENCE2, SCORE)
"""The columns of a training set, in the order in which sentence-transformers reads them."""

ANCHOR, POSITIVE, NEGATIVE = TRIPLET_COLUMNS = ("anchor", "positive", "negative")
"""The columns of triplets, in the order in which sentence-transformers reads them."""

LOG_PROBS = "log_probs"
"""A list of floats, one for each label of the task in the task's order: log p(x2, closing mark | I_y(x1)), in nats.

Tokens that are never drawn, such as end-of-text, have no share of the probability."""

PLAIN_LOG_PROB = "plain_log_prob"
"""log p(x2) without an instruction, in nats; filters divide it by `num_tokens`."""

INSTRUCTION = "instruction"
"""Which of a label's instructions a text was written for: an integer, 0 for the first."""

NUM_TOKENS = "num_tokens"
"""Tokens of x2, the closing mark included."""

PROVENANCE_COLUMNS = ("x1_index", "sample", "tries", NUM_TOKENS)
"""Where a raw pair comes from: integers, described at `SentencePair`."""


@dataclass(frozen=True, slots=True)
class SentencePair:
    """One generated pair.

    Attributes:
        sentence1: x1, the text given.
        sentence2: x2, the text written.
        score: The label, where the labels of the task are numbers.
        label: The label, where they are not.
        x1_index: Position of x1 in the deduplicated input.
        sample: Number of the draw among those for the same x1 and label, from 0.
        tries: Draws it took, 1 when the first was accepted.
        num_tokens: Tokens of x2, the closing mark included.
    """

    sentence1: str
    sentence2: str
    score: float | None = None
    label: str | None = None
    x1_index: int = 0
    sample: int = 0
    tries: int = 1
    num_tokens: int = 0

    def as_row(self) -> dict[str, str | float | int]:
        """The pair as a row of a raw data set: `score` or `label`, whichever is set, and never both.

        Returns:
            Column names and values in the order of the columns.

        Raises:
            ValueError: Neither or both of `score` and `label` are set.
        """
        if (self.score is None) == (self.label is None):
            raise ValueError(f"a pair has a score or a label; got score={self.score!r} and label={self.label!r}")
        row: dict[str, str | float | int] = {SENTENCE1: self.sentence1, SENTENCE2: self.sentence2}
        if self.score is not None:
            row[SCORE] = self.score
        if self.label is not None:
            row[LABEL] = self.label
        return row | {name: int(getattr(self, name)) for name in PROVENANCE_COLUMNS}
