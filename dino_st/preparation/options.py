"""The options of preparation and their defaults; light enough for `--help`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import field_validator, model_validator

from dino_st.support.options import FrozenOptions, option


class PreparationOptions(FrozenOptions):
    """How raw pairs become training pairs; the defaults are the published values (arXiv 2104.07540, section 4).

    Every filter is off by default, and targets are the smoothed labels.
    """

    seed: int = option(42, "seed of every random choice of the preparation", ge=0)
    labels: tuple[float, ...] = option(
        (0.0, 0.5, 1.0), "the scores that raw pairs may have; any other score is refused", min_length=1
    )
    drop_identical: bool = option(True, "drop pairs whose two sentences are the same")
    drop_duplicates: bool = option(True, "keep one of several equal (x1, x2, score)")
    max_per_input_and_label: int = option(2, "pairs kept for each x1 and score, chosen at random; 0 keeps all", ge=0)
    label_smoothing: float = option(
        0.2, "share s of the mean label mixed into each score: y·(1-s) + s·mean", ge=0, le=1
    )
    random_negatives: int = option(
        2, "random pairs added for each x1, their x2 drawn from other entries", ge=0, le=1000
    )
    random_negative_score: float = option(0.0, "score of the random pairs, not smoothed")
    negative_guard: Literal["none", "overlap"] = option(
        "none", "which random x2 are drawn again: none, or by overlap those that share too many words with x1"
    )
    negative_guard_overlap: float = option(
        0.5, "shared words / all words of the two from which the guard draws again", gt=0, le=1
    )
    validation_share: float = option(
        0.1, "share of the pairs of each score that goes to the validation split", ge=0, lt=1
    )

    near_copy_edit: float | None = option(
        None, "drop pairs with at least this similarity, 1 - edits / length of the longer", gt=0, le=1
    )
    near_copy_overlap: float | None = option(
        None, "drop pairs with at least this share of shared words among all words of both", gt=0, le=1
    )
    near_copy_labels: tuple[float, ...] = option((), "the scores whose near-copies are dropped; all if none is named")
    min_words: int = option(0, "drop x2 with fewer words, or pairs of letters in scripts without spaces", ge=0)
    max_words: int | None = option(None, "drop x2 with more words", ge=1)
    max_length_ratio: float | None = option(
        None, "drop pairs whose longer text has more than so many times the words", ge=1
    )
    min_token_log_prob: float | None = option(
        None, "drop x2 whose mean token log-probability without instruction, in nats, is lower", le=0
    )
    max_repeated_trigrams: float | None = option(
        None, "drop x2 in which a larger share of the three-word sequences stood before", ge=0, lt=1
    )
    max_non_letters: float | None = option(
        None, "drop x2 with a larger share of characters that are no letters, spaces apart", ge=0, lt=1
    )
    max_script_difference: float | None = option(
        None, "drop pairs whose shares of Latin letters differ by more", ge=0, lt=1
    )
    drop_broken_punctuation: bool = option(
        False, "drop x2 without letters, with unbalanced brackets or quotes, or with an unfinished end"
    )
    drop_label_conflicts: bool = option(
        False,
        "of equal (x1, x2) with different labels keep the label that the language model finds likelier, or none where "
        "the pairs have no log-probabilities",
    )
    min_posterior: float | None = option(
        None, "drop pairs whose label has a lower probability given the pair (needs scoring)", ge=0, le=1
    )

    target: Literal["smoothed", "posterior-mixed", "posterior-resampled", "judged"] = option(
        "smoothed",
        "scores to train on: smoothed labels (published); posterior-mixed with the expected label given the pair; "
        "posterior-resampled, a label drawn given the pair and then smoothed; judged, the ratings of `dino-st judge`",
    )
    posterior_weight: float = option(
        0.5, "weight of the posterior against the assigned label in these scores", ge=0, le=1
    )
    validation_scores: Literal["assigned", "target"] = option(
        "assigned", "scores of the validation split: assigned, the smoothed labels whatever the target; or target"
    )
    posterior_temperature: float | None = option(
        None, "temperature of the posterior; without it, fitted to the pairs' own labels", gt=0
    )
    posterior_length_normalised: bool = option(
        False, "divide log-probabilities by the number of tokens before they are compared"
    )
    label_prior: tuple[float, ...] = option(
        (),
        "how frequent each label is before a pair is seen, in the order of labels, which must be given; else all alike",
    )

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
        if self.label_prior and "labels" not in self.model_fields_set:
            raise ValueError("labels along with label_prior, which is in their order")
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
        """These options with labels, by default their own; only now is it checked what must fit the labels.

        Labels that are the same in another order take what is said of each along.
        """
        labels, prior = self.labels if labels is None else tuple(labels), self.label_prior
        if len(prior) == len(labels) and set(labels) == set(self.labels):
            prior = tuple(prior[self.labels.index(label)] for label in labels)
        return type(self).of(self, labels=labels, label_prior=prior)

    @property
    def needs_posterior(self) -> bool:
        """Whether an option cannot do without the log-probabilities of the pairs."""
        return self.min_posterior is not None or self.target.startswith("posterior")

    @property
    def uses_posterior(self) -> bool:
        """Whether an option looks at the log-probabilities of the pairs where they have some."""
        return self.needs_posterior or self.drop_label_conflicts

    def smoothed(self, label: float) -> float:
        """The training score of a label: y·(1-s) + s·mean(labels), which is 0.8·y + 0.1 for 0, 0.5, 1 and s = 0.2.

        The published code writes the second term as `s / 3 * 1.5`: the number of its labels and their sum. Scores are
        rounded to ten decimals, so that 0.9 is 0.9.
        """
        share = self.label_smoothing
        return round(label * (1 - share) + share * math.fsum(self.labels) / len(self.labels), 10)


Negatives = Literal["0.5", "0", "both"]


class TripletOptions(FrozenOptions):
    """How triplets become training triplets."""

    negatives: Negatives = option("0.5", "of DINO pairs: the label whose texts become negatives, 0.5, 0 or both")
    validation_share: float = option(0.1, "share of the anchors that goes to the validation split", ge=0, lt=1)
    max_validation: int = option(
        2000, "anchors in the validation split at most, as it is scored often; 0 for no limit", ge=0
    )
    seed: int = option(42, "seed of every random choice of the preparation", ge=0)

    @field_validator("negatives", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        """YAML and Python say 0.5 as a number, too."""
        return format(value, "g") if isinstance(value, int | float) and not isinstance(value, bool) else value
