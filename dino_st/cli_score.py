"""The command that scores written pairs; argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dino_st.cli_support import console, friendly, option_of, prompt_settings
from dino_st.generation_options import GenerationOptions

_GENERATION = GenerationOptions.model_fields


@friendly
def score(
    raw: Annotated[Path, typer.Argument(help="Directory of `dino-st generate`, or a .jsonl file of pairs.")],
    model: Annotated[str, typer.Option(help="Causal language model: a directory, a name on the hub, or dino-tiny.")],
    output: Annotated[Path, typer.Option(help="Another directory; run again to continue.")],
    task: Annotated[
        str | None,
        typer.Option(
            help="Task whose instructions are asked about.",
            show_default="the one the pairs were written for, or sts-x2",
        ),
    ] = None,
    batch_size: Annotated[str, option_of(_GENERATION["batch_size"])] = _GENERATION["batch_size"].default,
    dtype: Annotated[str, option_of(_GENERATION["dtype"])] = _GENERATION["dtype"].default,
    device: Annotated[str, option_of(_GENERATION["device"])] = _GENERATION["device"].default,
    prompt_format: Annotated[str, option_of(_GENERATION["prompt_format"])] = _GENERATION["prompt_format"].default,
    trust_remote_code: Annotated[bool, option_of(_GENERATION["trust_remote_code"], "--trust-remote-code")] = False,
) -> None:
    """Say how likely each pair is under every label, for filters and noise-aware targets of `prepare`."""
    from dino_st.stages import score_data

    counts = score_data(raw, model, output, task=task, options=prompt_settings(locals(), _GENERATION))
    console.print(f"{counts.get('rows', 0):,} pairs with scores in {output}", highlight=False)
    for name, count in counts.items():
        if name.startswith("left out") and count:
            console.print(f"  {name}: {count:,}", highlight=False)
