"""The options of preparation and their defaults; light enough for `--help`."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, field_validator

from dino_st.options import FrozenOptions


class PreparationOptions(FrozenOptions):
    """How raw pairs become training pairs; the defaults are the published values (arXiv 2104.07540, section 4)."""

    seed: Annotated[int, Field(ge=0, description="seed of every random choice of the preparation")] = 42
    labels: Annotated[
        tuple[float, ...],
        Field(min_length=1, description="the scores that raw pairs may have; any other score is refused"),
    ] = (0.0, 0.5, 1.0)
    drop_identical: Annotated[bool, Field(description="drop pairs whose two sentences are the same")] = True
    drop_duplicates: Annotated[bool, Field(description="keep one of several equal (x1, x2, score)")] = True
    max_per_input_and_label: Annotated[
        int, Field(ge=0, description="pairs kept for each x1 and score, chosen at random; 0 keeps all")
    ] = 2
    label_smoothing: Annotated[
        float, Field(ge=0, le=1, description="share s of the mean label mixed into each score: y·(1-s) + s·mean")
    ] = 0.2
    random_negatives: Annotated[
        int, Field(ge=0, description="random pairs added for each x1, their x2 drawn from other entries")
    ] = 2
    random_negative_score: Annotated[float, Field(description="score of the random pairs, not smoothed")] = 0.0
    validation_share: Annotated[
        float, Field(ge=0, lt=1, description="share of the pairs of each score that goes to the validation split")
    ] = 0.1

    @field_validator("labels")
    @classmethod
    def _distinct_finite_labels(cls, labels: tuple[float, ...]) -> tuple[float, ...]:
        if not all(math.isfinite(label) for label in labels):
            raise ValueError("finite numbers")
        if len(set(labels)) != len(labels):
            raise ValueError("each label once")
        return labels

    def smoothed(self, label: float) -> float:
        """The training score of a label: y·(1-s) + s·mean(labels), which is 0.8·y + 0.1 for 0, 0.5, 1 and s = 0.2.

        The published code writes the second term as `s / 3 * 1.5`: the number of its labels and their sum.

        Args:
            label: One of `labels`.

        Returns:
            The smoothed score, rounded to ten decimals so that 0.9 is 0.9.
        """
        share = self.label_smoothing
        return round(label * (1 - share) + share * math.fsum(self.labels) / len(self.labels), 10)


DEFAULTS = PreparationOptions()
