"""The commands that work on written data; argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dino_st.cli.support import console, friendly, option_of, prompt_settings
from dino_st.preparation.options import PreparationOptions
from dino_st.support.files import PREPARATION_RECORD, REJECTED

_PREPARATION = PreparationOptions.model_fields


def _filter(name: str) -> Any:
    return option_of(_PREPARATION[name], rich_help_panel="Filters, off unless asked for")


def _target(name: str) -> Any:
    return option_of(_PREPARATION[name], rich_help_panel="Scores to train on")


@friendly
def prepare(
    raw: Annotated[Path, typer.Argument(help="Directory of `dino-st generate`, or a .jsonl file of pairs.")],
    output: Annotated[Path, typer.Option(help="Directory for the training and validation pairs.")],
    drop_identical: Annotated[bool, option_of(_PREPARATION["drop_identical"])] = _PREPARATION["drop_identical"].default,
    drop_duplicates: Annotated[bool, option_of(_PREPARATION["drop_duplicates"])] = _PREPARATION[
        "drop_duplicates"
    ].default,
    max_per_input_and_label: Annotated[int, option_of(_PREPARATION["max_per_input_and_label"])] = _PREPARATION[
        "max_per_input_and_label"
    ].default,
    label_smoothing: Annotated[float, option_of(_PREPARATION["label_smoothing"])] = _PREPARATION[
        "label_smoothing"
    ].default,
    random_negatives: Annotated[int, option_of(_PREPARATION["random_negatives"])] = _PREPARATION[
        "random_negatives"
    ].default,
    random_negative_score: Annotated[float, option_of(_PREPARATION["random_negative_score"])] = _PREPARATION[
        "random_negative_score"
    ].default,
    negative_guard: Annotated[str, option_of(_PREPARATION["negative_guard"])] = _PREPARATION["negative_guard"].default,
    negative_guard_overlap: Annotated[float, option_of(_PREPARATION["negative_guard_overlap"])] = _PREPARATION[
        "negative_guard_overlap"
    ].default,
    validation_share: Annotated[float, option_of(_PREPARATION["validation_share"])] = _PREPARATION[
        "validation_share"
    ].default,
    near_copy_edit: Annotated[float | None, _filter("near_copy_edit")] = _PREPARATION["near_copy_edit"].default,
    near_copy_overlap: Annotated[float | None, _filter("near_copy_overlap")] = _PREPARATION[
        "near_copy_overlap"
    ].default,
    near_copy_labels: Annotated[list[float] | None, _filter("near_copy_labels")] = None,
    min_words: Annotated[int, _filter("min_words")] = _PREPARATION["min_words"].default,
    max_words: Annotated[int | None, _filter("max_words")] = _PREPARATION["max_words"].default,
    max_length_ratio: Annotated[float | None, _filter("max_length_ratio")] = _PREPARATION["max_length_ratio"].default,
    min_token_log_prob: Annotated[float | None, _filter("min_token_log_prob")] = _PREPARATION[
        "min_token_log_prob"
    ].default,
    max_repeated_trigrams: Annotated[float | None, _filter("max_repeated_trigrams")] = _PREPARATION[
        "max_repeated_trigrams"
    ].default,
    max_non_letters: Annotated[float | None, _filter("max_non_letters")] = _PREPARATION["max_non_letters"].default,
    max_script_difference: Annotated[float | None, _filter("max_script_difference")] = _PREPARATION[
        "max_script_difference"
    ].default,
    drop_broken_punctuation: Annotated[bool, _filter("drop_broken_punctuation")] = _PREPARATION[
        "drop_broken_punctuation"
    ].default,
    drop_label_conflicts: Annotated[bool, _filter("drop_label_conflicts")] = _PREPARATION[
        "drop_label_conflicts"
    ].default,
    min_posterior: Annotated[float | None, _filter("min_posterior")] = _PREPARATION["min_posterior"].default,
    target: Annotated[str, _target("target")] = _PREPARATION["target"].default,
    posterior_weight: Annotated[float, _target("posterior_weight")] = _PREPARATION["posterior_weight"].default,
    validation_scores: Annotated[str, _target("validation_scores")] = _PREPARATION["validation_scores"].default,
    posterior_temperature: Annotated[float | None, _target("posterior_temperature")] = _PREPARATION[
        "posterior_temperature"
    ].default,
    posterior_length_normalised: Annotated[bool, _target("posterior_length_normalised")] = _PREPARATION[
        "posterior_length_normalised"
    ].default,
    label_prior: Annotated[list[float] | None, _target("label_prior")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Write the dropped pairs with their reasons to OUTPUT/rejected.jsonl.")
    ] = False,
    seed: Annotated[int, option_of(_PREPARATION["seed"])] = _PREPARATION["seed"].default,
) -> None:
    """Turn raw pairs into training pairs: drop, filter, smooth, add random negatives, split.

    Filters are off, and targets are smoothed labels, unless an option says otherwise.
    """
    from dino_st.pipeline.stages import prepare_data

    settings = prompt_settings(locals(), _PREPARATION)
    replaced = ", in place of an earlier preparation" if (output / PREPARATION_RECORD).exists() else ""
    prepare_data(raw, output, settings | {"explain": True} if explain else settings)
    console.print(f"Written to {output}{replaced}", highlight=False, soft_wrap=True)
    if explain:
        console.print(f"What was dropped, and why: {output / REJECTED}", highlight=False)
