"""The commands that prepare triplets and train on them; argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dino_st.cli.support import console, friendly, option_of, prompt_settings
from dino_st.preparation.options import TripletOptions
from dino_st.training.options import ContrastiveOptions

_PREPARATION = TripletOptions.model_fields
_TRAINING = ContrastiveOptions.model_fields


@friendly
def prepare_triplets(
    raw: Annotated[
        Path,
        typer.Argument(
            help="Directory of `dino-st generate`, triplets or pairs; or a .csv, .jsonl or .parquet file of triplets."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory for the training and validation triplets.")],
    negatives: Annotated[str, option_of(_PREPARATION["negatives"])] = _PREPARATION["negatives"].default,
    validation_share: Annotated[float, option_of(_PREPARATION["validation_share"])] = _PREPARATION[
        "validation_share"
    ].default,
    max_validation: Annotated[int, option_of(_PREPARATION["max_validation"])] = _PREPARATION["max_validation"].default,
    seed: Annotated[int, option_of(_PREPARATION["seed"])] = _PREPARATION["seed"].default,
) -> None:
    """Turn triplets, or the pairs of DINO, into training triplets: drop what teaches nothing, split by anchor."""
    from dino_st.pipeline.stages import prepare_triplet_data

    prepare_triplet_data(raw, output, prompt_settings(locals(), _PREPARATION))
    console.print(f"Written to {output}", highlight=False)


@friendly
def train_contrastive(
    prepared: Annotated[Path, typer.Argument(help="Directory of `dino-st prepare-triplets`.")],
    encoder: Annotated[
        str,
        typer.Option(
            help="Encoder to start from: a sentence-transformers or transformers directory, a hub name, or "
            "dino-tiny-encoder."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory for the trained encoder; run again to resume.")],
    pairs: Annotated[
        Path | None, typer.Option(help="Directory of `dino-st prepare`: train on its pairs as well, by --loss.")
    ] = None,
    learning_rate: Annotated[float | None, option_of(_TRAINING["learning_rate"])] = _TRAINING["learning_rate"].default,
    batch_size: Annotated[int, option_of(_TRAINING["batch_size"])] = _TRAINING["batch_size"].default,
    mini_batch_size: Annotated[int, option_of(_TRAINING["mini_batch_size"])] = _TRAINING["mini_batch_size"].default,
    pairs_batch_size: Annotated[int, option_of(_TRAINING["pairs_batch_size"])] = _TRAINING["pairs_batch_size"].default,
    epochs: Annotated[int, option_of(_TRAINING["epochs"])] = _TRAINING["epochs"].default,
    scale: Annotated[float, option_of(_TRAINING["scale"])] = _TRAINING["scale"].default,
    loss: Annotated[str, option_of(_TRAINING["loss"])] = _TRAINING["loss"].default,
    weight_decay: Annotated[float, option_of(_TRAINING["weight_decay"])] = _TRAINING["weight_decay"].default,
    warmup_share: Annotated[float, option_of(_TRAINING["warmup_share"])] = _TRAINING["warmup_share"].default,
    evaluation_steps: Annotated[int, option_of(_TRAINING["evaluation_steps"])] = _TRAINING["evaluation_steps"].default,
    checkpoint_choice: Annotated[str, option_of(_TRAINING["checkpoint_choice"])] = _TRAINING[
        "checkpoint_choice"
    ].default,
    sts_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="DINO_ST_STS_DIR", help="STS data in SentEval layout; read only for --checkpoint-choice sts-dev."
        ),
    ] = None,
    max_seq_length: Annotated[int | None, option_of(_TRAINING["max_seq_length"])] = _TRAINING["max_seq_length"].default,
    pooling: Annotated[str, option_of(_TRAINING["pooling"])] = _TRAINING["pooling"].default,
    dtype: Annotated[str, option_of(_TRAINING["dtype"])] = _TRAINING["dtype"].default,
    device: Annotated[str, option_of(_TRAINING["device"])] = _TRAINING["device"].default,
    keep_checkpoints: Annotated[bool, option_of(_TRAINING["keep_checkpoints"], "--keep-checkpoints")] = _TRAINING[
        "keep_checkpoints"
    ].default,
    seed: Annotated[int, option_of(_TRAINING["seed"])] = _TRAINING["seed"].default,
) -> None:
    """Train an encoder on prepared triplets with a contrastive loss, in-batch and hard negatives (SynCSE's recipe)."""
    from dino_st.pipeline.stages import train_contrastive_model

    options = prompt_settings(locals(), _TRAINING)
    summary = train_contrastive_model(prepared, encoder, output, options, pairs=pairs, sts_dir=sts_dir)
    console.print(summary, highlight=False)
