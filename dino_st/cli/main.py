"""The command line: commands that train, score and run recipes, and the group of all commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

import dino_st
from dino_st.cli.arguments import PlainCommand, PlainGroup, completes, takes
from dino_st.cli.data import generate, judge, merge, prepare, prepare_triplets, score, syncse
from dino_st.cli.inspect import audit, report
from dino_st.cli.summary import note, summarised
from dino_st.cli.support import EXIT_FAILURE, Overwrite, friendly, obey_sigterm, print_pairs, say, show_all_characters
from dino_st.cli.upload import HUB_PANEL, publishes
from dino_st.evaluation.options import EvaluationOptions
from dino_st.models import ENCODER
from dino_st.pipeline.publish import PublishOptions
from dino_st.support.progress import logger
from dino_st.training.options import PAIRS_ONLY, ContrastiveOptions, TrainingOptions
from mteb_tasks.variables import SENTEVAL_DIR_VARIABLE, STS_DIR_VARIABLE

Encoder = Annotated[
    str,
    typer.Option(
        help="Encoder to start from: a sentence-transformers or transformers directory, a hub name, or "
        "dino-tiny-encoder.",
        autocompletion=completes(lambda: [ENCODER]),
    ),
]
Output = Annotated[Path, typer.Option(help="Directory for the trained encoder; run again to resume.")]


@takes(TrainingOptions, PublishOptions, panels=HUB_PANEL)
@publishes("model")
def train(
    prepared: Annotated[Path, typer.Argument(help="Directory of `dino-st prepare`, or of its splits saved anew.")],
    encoder: Encoder,
    output: Output,
    given: dict[str, Any],
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="What chooses the checkpoint, and is not trained on: audit:DIR for the pairs that people judged with "
            "`dino-st audit DIR`, judged:DIR for those that a model rated with `dino-st judge`, or a directory of "
            "`dino-st prepare` for its validation split, as of another writer. Without it, the validation split of "
            "PREPARED.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train an encoder on prepared pairs, keeping the best checkpoint by the validation pairs."""
    from dino_st.pipeline.stages import train_model

    options = TrainingOptions.of(**given)
    _tell_training(output, train_model(prepared, encoder, output, options, validation=validation, overwrite=overwrite))


@takes(
    (ContrastiveOptions, [name for name in ContrastiveOptions.model_fields if name not in PAIRS_ONLY]),
    PublishOptions,
    panels=HUB_PANEL,
)
@publishes("model")
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
            envvar=STS_DIR_VARIABLE, help="STS data in SentEval layout; read only for --checkpoint-choice sts-dev."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train an encoder on prepared triplets with a contrastive loss, in-batch and hard negatives (SynCSE's recipe)."""
    from dino_st.pipeline.stages import train_contrastive_model

    options = ContrastiveOptions.of(**given)
    more: dict[str, Any] = {"pairs": pairs, "sts_dir": sts_dir, "overwrite": overwrite}
    _tell_training(output, train_contrastive_model(prepared, encoder, output, options, **more))


def _tell_training(output: Path, summary: str) -> None:
    from dino_st.training.distributed import is_first
    from dino_st.training.record import read_record

    if not is_first():
        return
    say(summary)
    record = read_record(output)
    if record is not None:
        scores = record.model_dump(include={"start", "best", "curve"} | ({"averages"} if record.averages else set()))
        note(output=output, data=record.data, scores=scores, training_seconds=record.seconds)


@takes(EvaluationOptions)
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…",
            help="Encoders or baselines; several are compared side by side.",
            autocompletion=completes(lambda: [ENCODER]),
        ),
    ],
    given: dict[str, Any],
    sts_dir: Annotated[
        Path | None, typer.Option(envvar=STS_DIR_VARIABLE, help="STS data in SentEval layout; without it, the hub's.")
    ] = None,
    senteval_dir: Annotated[
        Path | None,
        typer.Option(envvar=SENTEVAL_DIR_VARIABLE, help="The transfer tasks' data in SentEval layout."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="sts (the papers' seven), transfer (SentEval's seven), syncse (reranking), official (MTEB's own STS), "
            "or mteb task names with commas.",
            show_default="sts; none along with --pairs",
        ),
    ] = None,
    pairs: Annotated[
        list[Path] | None, typer.Option(help="Table of sentence1, sentence2, score to evaluate on as a task.")
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            help="Of MTEB's tasks in several languages the parts in these alone: deu,fra (ISO 639-3; data of the hub).",
            show_default="all",
        ),
    ] = None,
    official: Annotated[
        bool,
        typer.Option("--official", help="Run MTEB's own STS12 … SICK-R as well (data of the hub), shown in a row."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Directory for scores.json, scores.md and mteb's results; without it they are only printed."),
    ] = None,
    whitening_sentences: Annotated[
        Path | None, typer.Option(help="Unlabelled sentences (as for generate --input) to fit whitened baselines on.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score encoders on the STS tasks through mteb."""
    from dino_st.pipeline.stages import Evaluation, evaluate_models

    options = EvaluationOptions.of(**given)
    chosen = tuple((languages or "").replace(",", " ").split())
    work = Evaluation(tasks, sts_dir, senteval_dir, tuple(pairs or ()), whitening_sentences, options, official, chosen)
    if sts_dir and pairs and not work.names and os.environ.get(STS_DIR_VARIABLE) != str(sts_dir):
        logger.warning("--sts-dir is not used: along with --pairs no other task is scored; for both, add --tasks sts")
    table = evaluate_models(models, work, output, overwrite=overwrite)
    note(output=output, scores=table.to_dict())
    say(table.to_rich(), wrap=True)
    if output is not None:
        say(f"Written to {output}")


app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    # `--debug` is taken out of the arguments before they are parsed; see `PlainGroup`.


def _recipes() -> list[str]:
    from dino_st.pipeline.recipe import recipe_names

    return recipe_names()


@takes(PublishOptions, panels=HUB_PANEL)
@publishes("model", part="model")
def run(
    recipe: Annotated[
        str, typer.Argument(help="Name of a shipped recipe, or a YAML file.", autocompletion=completes(_recipes))
    ],
    output: Annotated[Path, typer.Option(help="Directory for everything; run again to continue.")],
    given: dict[str, Any],  # noqa: ARG001  (all of it is for the hub)
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Change the recipe: model=gpt2, train.epochs=2, …")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Run a recipe: generate, prepare, train and evaluate from one YAML file.

    What --push-to-hub uploads is the trained encoder, OUTPUT/model.
    """
    from dino_st.pipeline.recipe import load_recipe, run_recipe

    outcome = run_recipe(load_recipe(recipe, set or []), output, overwrite=overwrite, report=say)
    note(output=output, scores=outcome.table.to_dict())
    say(outcome.table.to_rich(), wrap=True)
    say(f"Everything is in {output}")


def quickstart(
    output: Annotated[Path, typer.Option(help="Directory for everything; run again to continue.")] = Path("quickstart"),
    sts_dir: Annotated[
        Path | None,
        typer.Option(
            envvar=STS_DIR_VARIABLE, help="STS data in SentEval layout, to score on the seven STS tasks, too."
        ),
    ] = None,
) -> None:
    """Show the whole of dino-st offline, in minutes: generate, prepare, train, evaluate, with a picture."""
    from dino_st.pipeline.quickstart import run_quickstart

    outcome = run_quickstart(output, sts_dir=sts_dir, report=say)
    note(output=output, scores=outcome.table.to_dict())
    say(outcome.table.to_rich(), wrap=True)
    print_pairs(outcome.examples)
    for path, content in outcome.written.items():
        say(f"{path}: {content}")


def tasks() -> None:
    """List the built-in tasks with their labels, and the recipes."""
    from rich.table import Table

    from dino_st.pipeline.recipe import recipe_names
    from dino_st.tasks.spec import TaskSpec, builtin_tasks
    from dino_st.tasks.syncse import PartialSpec, load_syncse_spec, syncse_tasks

    table = Table("task", "writes", "labels (counter-labels)")
    for name in builtin_tasks():
        spec = TaskSpec.load(name)
        labels = (
            f"{label} ({', '.join(label_spec.counter_labels)})" if label_spec.counter_labels else label
            for label, label_spec in spec.labels.items()
        )
        table.add_row(name, "pairs for given texts" if spec.needs_input else "texts from scratch", ", ".join(labels))
    for name in syncse_tasks():
        is_partial = isinstance(load_syncse_spec(name), PartialSpec)
        given = "triplets for given texts" if is_partial else "triplets from scratch"
        table.add_row(name, given, "anchor, positive, negative")
    note(tasks=[*builtin_tasks(), *syncse_tasks()], recipes=recipe_names())
    say(table, wrap=True)
    say(f"Recipes for `dino-st run`: {', '.join(recipe_names())}")


def version() -> None:
    """Print the versions of dino-st and of what it stands on."""
    from dino_st.support.hashes import versions

    packages = ("dino-st", "sentence-transformers", "mteb", "transformers", "torch", "datasets", "python")
    note(versions=versions(*packages))
    for name, number in versions(*packages).items():
        say(f"{name} {number}")


def doctor() -> None:
    """Look at this machine: versions, devices, extras, directories, and what would be slow; to paste into a report."""
    from dino_st.cli.doctor import check_up

    found = check_up()
    note(checks=found.sections, slow=found.slow, problems=found.problems)
    for line in found.lines():
        say(line)
    if found.problems:
        raise typer.Exit(EXIT_FAILURE)


def mteb(context: typer.Context) -> None:
    """Run mteb's own command line with the Dino tasks and local models in it."""
    from dino_st.pipeline.stages import give_mteb_a_home

    give_mteb_a_home()
    from mteb_tasks.command_line import main as mteb_main

    mteb_main(context.args)


for command in (quickstart, run, generate, merge, score, judge, prepare, train, evaluate, audit, report):
    app.command(cls=PlainCommand)(friendly(summarised(command)))
for command in (syncse, prepare_triplets, train_contrastive, tasks, version, doctor):
    app.command(cls=PlainCommand)(friendly(summarised(command)))
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)(friendly(mteb))


def main() -> None:
    """Entry point of the console script."""
    show_all_characters()
    with obey_sigterm():
        app()
