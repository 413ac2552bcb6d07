"""The commands that train encoders and score them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dino_st.cli.arguments import takes
from dino_st.cli.support import Overwrite, say
from dino_st.evaluation.options import EvaluationOptions
from dino_st.training.options import ContrastiveOptions, TrainingOptions

Encoder = Annotated[
    str,
    typer.Option(
        help="Encoder to start from: a sentence-transformers or transformers directory, a hub name, or "
        "dino-tiny-encoder."
    ),
]
Output = Annotated[Path, typer.Option(help="Directory for the trained encoder; run again to resume.")]


@takes(TrainingOptions)
def train(
    prepared: Annotated[Path, typer.Argument(help="Directory of `dino-st prepare`, or of its splits saved anew.")],
    encoder: Encoder,
    output: Output,
    given: dict[str, Any],
    overwrite: Overwrite = False,
) -> None:
    """Train an encoder on prepared pairs, keeping the best checkpoint by the generated validation pairs."""
    from dino_st.pipeline.stages import train_model

    say(train_model(prepared, encoder, output, TrainingOptions.of(**given), overwrite=overwrite))


@takes((ContrastiveOptions, [name for name in ContrastiveOptions.model_fields if name != "balanced_batches"]))
def train_contrastive(
    prepared: Annotated[
        Path, typer.Argument(help="Directory of `dino-st prepare-triplets`, or of its splits saved anew.")
    ],
    encoder: Encoder,
    output: Output,
    given: dict[str, Any],
    pairs: Annotated[
        Path | None, typer.Option(help="Directory of `dino-st prepare`: train on its pairs as well, by --loss.")
    ] = None,
    sts_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="DINO_ST_STS_DIR", help="STS data in SentEval layout; read only for --checkpoint-choice sts-dev."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train an encoder on prepared triplets with a contrastive loss, in-batch and hard negatives (SynCSE's recipe)."""
    from dino_st.pipeline.stages import train_contrastive_model

    options = ContrastiveOptions.of(**given)
    more: dict[str, Any] = {"pairs": pairs, "sts_dir": sts_dir, "overwrite": overwrite}
    say(train_contrastive_model(prepared, encoder, output, options, **more))


@takes(EvaluationOptions)
def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL…", help="Encoders or baselines; several are compared side by side.")
    ],
    given: dict[str, Any],
    sts_dir: Annotated[
        Path | None, typer.Option(envvar="DINO_ST_STS_DIR", help="STS data in SentEval layout; without it, the hub's.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="sts (the papers' seven), syncse (reranking), or mteb task names with commas.",
            show_default="sts; none along with --pairs",
        ),
    ] = None,
    pairs: Annotated[
        list[Path] | None, typer.Option(help="Table of sentence1, sentence2, score to evaluate on as a task.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Directory for scores.json, scores.md and mteb's results.")
    ] = None,
    whitening_sentences: Annotated[
        Path | None, typer.Option(help="Unlabelled sentences (as for generate --input) to fit whitened baselines on.")
    ] = None,
) -> None:
    """Score encoders on the STS tasks through mteb."""
    from dino_st.pipeline.stages import Evaluation, evaluate_models

    work = Evaluation(tasks, sts_dir, tuple(pairs or ()), whitening_sentences, EvaluationOptions.of(**given))
    table = evaluate_models(models, work, output)
    say(table.to_rich(), wrap=True)
    if output is not None:
        say(f"Written to {output}")
