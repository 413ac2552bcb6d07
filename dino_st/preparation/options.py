"""The options of preparation and their defaults; light enough for `--help`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from dino_st.support.options import FrozenOptions


class PreparationOptions(FrozenOptions):
    """How raw pairs become training pairs; the defaults are the published values (arXiv 2104.07540, section 4).

    Every filter is off by default, and targets are the smoothed labels.
    """

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
        int, Field(ge=0, le=1000, description="random pairs added for each x1, their x2 drawn from other entries")
    ] = 2
    random_negative_score: Annotated[float, Field(description="score of the random pairs, not smoothed")] = 0.0
    negative_guard: Annotated[
        Literal["none", "overlap"],
        Field(
            description="which random x2 are drawn again: none, or by overlap those that share too many words with x1"
        ),
    ] = "none"
    negative_guard_overlap: Annotated[
        float, Field(gt=0, le=1, description="shared words / all words of the two from which the guard draws again")
    ] = 0.5
    validation_share: Annotated[
        float, Field(ge=0, lt=1, description="share of the pairs of each score that goes to the validation split")
    ] = 0.1

    near_copy_edit: Annotated[
        float | None,
        Field(gt=0, le=1, description="drop pairs with at least this similarity, 1 - edits / length of the longer"),
    ] = None
    near_copy_overlap: Annotated[
        float | None,
        Field(gt=0, le=1, description="drop pairs with at least this share of shared words among all words of both"),
    ] = None
    near_copy_labels: Annotated[
        tuple[float, ...], Field(description="the scores whose near-copies are dropped; all if none is named")
    ] = ()
    min_words: Annotated[int, Field(ge=0, description="drop x2 with fewer whitespace-separated words")] = 0
    max_words: Annotated[int | None, Field(ge=1, description="drop x2 with more whitespace-separated words")] = None
    max_length_ratio: Annotated[
        float | None, Field(ge=1, description="drop pairs whose longer text has more than so many times the words")
    ] = None
    min_token_log_prob: Annotated[
        float | None,
        Field(le=0, description="drop x2 whose mean token log-probability without instruction, in nats, is lower"),
    ] = None
    max_repeated_trigrams: Annotated[
        float | None,
        Field(ge=0, lt=1, description="drop x2 in which a larger share of the three-word sequences stood before"),
    ] = None
    max_non_letters: Annotated[
        float | None,
        Field(ge=0, lt=1, description="drop x2 with a larger share of characters that are no letters, spaces apart"),
    ] = None
    max_script_difference: Annotated[
        float | None,
        Field(ge=0, lt=1, description="drop pairs whose shares of Latin letters differ by more"),
    ] = None
    drop_broken_punctuation: Annotated[
        bool,
        Field(description="drop x2 without letters, with unbalanced brackets or quotes, or with an unfinished end"),
    ] = False
    drop_label_conflicts: Annotated[
        bool,
        Field(
            description="of equal (x1, x2) with different labels keep the label that the language model finds "
            "likelier, or none where the pairs have no log-probabilities"
        ),
    ] = False
    min_posterior: Annotated[
        float | None,
        Field(ge=0, le=1, description="drop pairs whose label has a lower probability given the pair (needs scoring)"),
    ] = None

    target: Annotated[
        Literal["smoothed", "posterior-mixed", "posterior-resampled"],
        Field(
            description="scores to train on: smoothed labels (published); posterior-mixed with the expected label "
            "given the pair; posterior-resampled, a label drawn given the pair and then smoothed"
        ),
    ] = "smoothed"
    posterior_weight: Annotated[
        float, Field(ge=0, le=1, description="weight of the posterior against the assigned label in these scores")
    ] = 0.5
    validation_scores: Annotated[
        Literal["assigned", "target"],
        Field(
            description="scores of the validation split: assigned, the smoothed labels whatever the target; or target"
        ),
    ] = "assigned"
    posterior_temperature: Annotated[
        float | None,
        Field(gt=0, description="temperature of the posterior; without it, fitted to the pairs' own labels"),
    ] = None
    posterior_length_normalised: Annotated[
        bool, Field(description="divide log-probabilities by the number of tokens before they are compared")
    ] = False
    label_prior: Annotated[
        tuple[float, ...],
        Field(
            description="how frequent each label is before a pair is seen, in the order of the labels; else all alike"
        ),
    ] = ()

    @field_validator("labels")
    @classmethod
    def _distinct_finite_labels(cls, labels: tuple[float, ...]) -> tuple[float, ...]:
        if not all(math.isfinite(label) for label in labels):
            raise ValueError("finite numbers")
        if len(set(labels)) != len(labels):
            raise ValueError("each label once")
        return labels

    @model_validator(mode="after")
    def _options_fit_together(self) -> Self:
        if self.near_copy_labels and self.near_copy_edit is None and self.near_copy_overlap is None:
            raise ValueError("near_copy_edit or near_copy_overlap along with near_copy_labels, or else none is dropped")
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words of at least min_words, which is {self.min_words}; given {self.max_words}")
        return self._fits_labels() if "labels" in self.model_fields_set else self

    def _fits_labels(self) -> Self:
        strange = [label for label in self.near_copy_labels if label not in self.labels]
        if strange:
            raise ValueError(f"near_copy_labels among the labels {list(self.labels)}; given {strange}")
        lowest, highest = min(-1.0, *self.labels), max(1.0, *self.labels)
        if not lowest <= self.random_negative_score <= highest:
            raise ValueError(
                f"a random_negative_score between {lowest:g} and {highest:g}; given {self.random_negative_score:g}"
            )
        prior = self.label_prior
        if prior and (len(prior) != len(self.labels) or min(prior) < 0 or not any(prior)):
            raise ValueError(
                f"a label_prior of {len(self.labels)} numbers of at least 0, one for each of the labels "
                f"{list(self.labels)}, not all 0; given {list(prior)}"
            )
        return self

    def with_labels(self, labels: Sequence[float] | None = None) -> Self:
        """These options with labels, by default their own; only now is it checked what must fit the labels."""
        return type(self).of(self, labels=self.labels if labels is None else labels)

    @property
    def needs_posterior(self) -> bool:
        """Whether an option cannot do without the log-probabilities of the pairs."""
        return self.min_posterior is not None or self.target != "smoothed"

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


Negatives = Literal["0.5", "0", "both"]


class TripletOptions(FrozenOptions):
    """How triplets become training triplets."""

    negatives: Annotated[
        Negatives, Field(description="of DINO pairs: the label whose texts become negatives, 0.5, 0 or both")
    ] = "0.5"
    validation_share: Annotated[
        float, Field(ge=0, lt=1, description="share of the anchors that goes to the validation split")
    ] = 0.1
    max_validation: Annotated[
        int,
        Field(ge=0, description="anchors in the validation split at most, as it is scored often; 0 for no limit"),
    ] = 2000
    seed: Annotated[int, Field(ge=0, description="seed of every random choice of the preparation")] = 42

    @field_validator("negatives", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """YAML and Python say 0.5 as a number, too."""
        return format(value, "g") if isinstance(value, int | float) and not isinstance(value, bool) else value
