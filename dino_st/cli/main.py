"""The command line: argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import dino_st
from dino_st.cli.generate import generate, merge, score
from dino_st.cli.inspect import audit, report
from dino_st.cli.prepare import prepare
from dino_st.cli.support import (
    console,
    friendly,
    group,
    option_of,
    print_pairs,
    print_tasks,
    prompt_settings,
)
from dino_st.cli.train import prepare_triplets, train_contrastive
from dino_st.training.options import TrainingOptions

app = typer.Typer(
    cls=group(),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_TRAINING = TrainingOptions.model_fields


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dino-st {dino_st.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show tracebacks and the libraries' own messages; works behind a command, too."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Train sentence encoders on data that a language model writes from instructions, and score them."""
    # `--debug` is taken out of the arguments before they are parsed; see `cli_support.group`.


for command in (generate, merge, score, prepare, audit, report, prepare_triplets, train_contrastive):
    app.command()(command)


@app.command()
@friendly
def train(
    prepared: Annotated[Path, typer.Argument(help="Directory of `dino-st prepare`.")],
    encoder: Annotated[
        str,
        typer.Option(
            help="Encoder to start from: a sentence-transformers or transformers directory, a hub name, or "
            "dino-tiny-encoder."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory for the trained encoder; run again to resume.")],
    learning_rate: Annotated[float | None, option_of(_TRAINING["learning_rate"])] = _TRAINING["learning_rate"].default,
    batch_size: Annotated[int, option_of(_TRAINING["batch_size"])] = _TRAINING["batch_size"].default,
    epochs: Annotated[int, option_of(_TRAINING["epochs"])] = _TRAINING["epochs"].default,
    loss: Annotated[str, option_of(_TRAINING["loss"])] = _TRAINING["loss"].default,
    weight_decay: Annotated[float, option_of(_TRAINING["weight_decay"])] = _TRAINING["weight_decay"].default,
    warmup_share: Annotated[float, option_of(_TRAINING["warmup_share"])] = _TRAINING["warmup_share"].default,
    evaluation_steps: Annotated[int, option_of(_TRAINING["evaluation_steps"])] = _TRAINING["evaluation_steps"].default,
    max_seq_length: Annotated[int | None, option_of(_TRAINING["max_seq_length"])] = _TRAINING["max_seq_length"].default,
    dtype: Annotated[str, option_of(_TRAINING["dtype"])] = _TRAINING["dtype"].default,
    device: Annotated[str, option_of(_TRAINING["device"])] = _TRAINING["device"].default,
    balanced_batches: Annotated[bool, option_of(_TRAINING["balanced_batches"], "--balanced-batches")] = _TRAINING[
        "balanced_batches"
    ].default,
    keep_checkpoints: Annotated[bool, option_of(_TRAINING["keep_checkpoints"], "--keep-checkpoints")] = _TRAINING[
        "keep_checkpoints"
    ].default,
    seed: Annotated[int, option_of(_TRAINING["seed"])] = _TRAINING["seed"].default,
) -> None:
    """Train an encoder on prepared pairs, keeping the best checkpoint by the generated validation pairs."""
    from dino_st.pipeline.stages import train_model

    summary = train_model(prepared, encoder, output, prompt_settings(locals(), _TRAINING))
    console.print(summary, highlight=False)


@app.command()
@friendly
def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL…", help="Encoders or baselines; several are compared side by side.")
    ],
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
        list[Path] | None, typer.Option(help="File of sentence1, sentence2, score to evaluate on as a task.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Directory for scores.json, scores.md and mteb's results.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sentences encoded at once.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    protocol: Annotated[str, typer.Option(help="all (pooled pairs), mean or wmean (of a year's sources).")] = "all",
    whitening_sentences: Annotated[
        Path | None, typer.Option(help="Unlabelled sentences, a line each, that whitened baselines are fitted on.")
    ] = None,
) -> None:
    """Score encoders on the STS tasks through mteb."""
    from dino_st.pipeline.stages import Evaluation, evaluate_models

    work = Evaluation(
        tasks=tasks,
        sts_dir=sts_dir,
        pairs=tuple(pairs or ()),
        batch_size=batch_size,
        device=device,
        protocol=protocol,
        whitening_sentences=whitening_sentences,
    )
    table = evaluate_models(models, work, output)
    console.print(table.to_rich())
    if output is not None:
        console.print(f"Written to {output}", highlight=False)


@app.command()
@friendly
def run(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a YAML file.")],
    output: Annotated[Path, typer.Option(help="Directory for everything; run again to continue.")],
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Change the recipe: model=gpt2, train.epochs=2, …")
    ] = None,
) -> None:
    """Run a recipe: generate, prepare, train and evaluate from one YAML file."""
    from dino_st.pipeline.recipe import load_recipe, run_recipe

    outcome = run_recipe(load_recipe(recipe, set or []), output, report=console.print)
    console.print(outcome.table.to_rich())
    console.print(f"Everything is in {output}", highlight=False)


@app.command()
@friendly
def quickstart(
    output: Annotated[Path, typer.Option(help="Directory for everything; run again to continue.")] = Path("quickstart"),
    sts_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="DINO_ST_STS_DIR", help="STS data in SentEval layout, to score on the seven STS tasks, too."
        ),
    ] = None,
) -> None:
    """Show the whole of dino-st in two minutes, offline: generate, prepare, train, evaluate, with a picture."""
    from dino_st.pipeline.quickstart import run_quickstart

    outcome = run_quickstart(output, sts_dir=sts_dir, report=console.print)
    console.print(outcome.table.to_rich())
    print_pairs(outcome.examples)
    for path, content in outcome.written.items():
        console.print(f"{path}: {content}", highlight=False, soft_wrap=True)


@app.command()
@friendly
def tasks() -> None:
    """List the built-in tasks and recipes."""
    print_tasks()


@app.command()
@friendly
def version() -> None:
    """Print the versions of dino-st and of what it stands on."""
    from dino_st.cli.support import print_versions

    print_versions()


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@friendly
def mteb(context: typer.Context) -> None:
    """Run mteb's own command line with the Dino tasks and local models in it."""
    from mteb_tasks.command_line import main as mteb_main

    mteb_main(context.args)


def main() -> None:
    """Entry point of the console script."""
    app()
