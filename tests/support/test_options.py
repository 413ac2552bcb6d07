from __future__ import annotations

from typing import Any

import pytest

from dino_st.backends.options import ClusterOptions, ModelOptions
from dino_st.errors import ConfigurationError
from dino_st.preparation.options import PreparationOptions
from dino_st.training.options import TrainingOptions


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"random_negatives": True}, "is 'true'; expected a whole number .YAML reads yes"),
        ({"label_smoothing": False}, "is 'false'; expected a number .YAML reads yes"),
        ({"near_copy_edit": False}, "is 'false'; expected a number"),
        ({"labels": [0, True]}, "'labels → 1' is 'true'; expected a number"),
    ],
)
def test_yes_and_no_of_yaml_are_no_numbers(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        PreparationOptions.of(**given)


@pytest.mark.parametrize("options", [lambda: ModelOptions.of(batch_size=True), lambda: ClusterOptions.of(workers=True)])
def test_yes_of_yaml_is_neither_auto_nor_a_number(options: Any) -> None:
    with pytest.raises(ConfigurationError, match="is True; expected 'auto', or a number of"):
        options()


def test_what_is_a_choice_or_a_text_or_none_takes_what_it_took() -> None:
    options = PreparationOptions.of(drop_label_conflicts=True, near_copy_edit="none", random_negatives=1)
    assert (options.drop_label_conflicts, options.near_copy_edit, options.random_negatives) == (True, None, 1)
    assert PreparationOptions.of(labels=(0, 0.5, 1)).labels == (0.0, 0.5, 1.0)


def test_on_and_off_without_quotation_marks_are_the_words_where_an_option_has_them() -> None:
    options = TrainingOptions.of(gradient_checkpointing=True, one_forward=False, bidirectional=True)
    assert (options.gradient_checkpointing, options.one_forward, options.bidirectional) == ("on", "off", True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"labels": "0"}, "a list$"),
        ({"random_negatives": 1.5}, "a whole number$"),
        ({"drop_identical": "x"}, "true or"),
    ],
)
def test_what_is_expected_is_said_without_the_words_of_pydantic(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=f"expected {expected}"):
        PreparationOptions.of(**given)
