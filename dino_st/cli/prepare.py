"""The commands that turn raw rows into training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dino_st.cli.arguments import takes
from dino_st.cli.support import console
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.support.files import PREPARATION_RECORD, REJECTED


@takes(
    PreparationOptions,
    panels={"near_copy_edit": "Filters, off unless asked for", "target": "Scores to train on, other than the smoothed"},
)
def prepare(
    raw: Annotated[Path, typer.Argument(help="Directory of `dino-st generate`, or a .jsonl file of pairs.")],
    output: Annotated[Path, typer.Option(help="Directory for the training and validation pairs.")],
    given: dict[str, Any],
    explain: Annotated[
        bool, typer.Option("--explain", help="Write the dropped pairs with their reasons to OUTPUT/rejected.jsonl.")
    ] = False,
) -> None:
    """Turn raw pairs into training pairs: drop, filter, smooth, add random negatives, split.

    Filters are off, and targets are smoothed labels, unless an option says otherwise.
    """
    from dino_st.pipeline.stages import prepare_data

    replaced = ", in place of an earlier preparation" if (output / PREPARATION_RECORD).exists() else ""
    prepare_data(raw, output, PreparationOptions.of(**given), explain=explain)
    console.print(f"Written to {output}{replaced}", highlight=False, soft_wrap=True)
    if explain:
        console.print(f"What was dropped, and why: {output / REJECTED}", highlight=False)


@takes(TripletOptions)
def prepare_triplets(
    raw: Annotated[
        Path,
        typer.Argument(
            help="Directory of `dino-st syncse` or `dino-st generate`; or a .csv, .jsonl or .parquet file of triplets."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory for the training and validation triplets.")],
    given: dict[str, Any],
) -> None:
    """Turn triplets, or the pairs of DINO, into training triplets: drop what teaches nothing, split by anchor."""
    from dino_st.pipeline.stages import prepare_triplet_data

    prepare_triplet_data(raw, output, TripletOptions.of(**given))
    console.print(f"Written to {output}", highlight=False)
