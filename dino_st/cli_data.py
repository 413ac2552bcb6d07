"""The commands that work on written data; argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dino_st.cli_support import console, friendly, option_of, prompt_settings
from dino_st.preparation_options import PreparationOptions

_PREPARATION = PreparationOptions.model_fields


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
    validation_share: Annotated[float, option_of(_PREPARATION["validation_share"])] = _PREPARATION[
        "validation_share"
    ].default,
    seed: Annotated[int, option_of(_PREPARATION["seed"])] = _PREPARATION["seed"].default,
) -> None:
    """Turn raw pairs into training pairs: drop, smooth, add random negatives, split."""
    from dino_st.stages import prepare_data

    prepare_data(raw, output, prompt_settings(locals(), _PREPARATION))
    console.print(f"Written to {output}", highlight=False)
