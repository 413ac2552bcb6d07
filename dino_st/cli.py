"""The command line: argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from dino_st.cli_support import (
    console,
    friendly,
    group,
    print_generation_summary,
    print_pairs,
    print_tasks,
    prompt_settings,
)
from dino_st.decoding.options import DecodingOptions
from dino_st.generation_options import GenerationOptions
from dino_st.preparation_options import PreparationOptions
from dino_st.training_options import TrainingOptions

app = typer.Typer(
    cls=group(),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_DECODING = DecodingOptions()
_GENERATION = GenerationOptions.model_fields
_PREPARATION = PreparationOptions.model_fields
_TRAINING = TrainingOptions.model_fields


def _option(field: FieldInfo, *names: str, **more: Any) -> Any:
    """An option whose help is the field's description."""
    return typer.Option(*names, help=_sentence(field.description or ""), **more)


def _sentence(text: str) -> str:
    return (text if text.startswith("auto") else text[:1].upper() + text[1:]) + "."


@app.callback()
def options(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show tracebacks and the libraries' own messages; works behind a command, too."),
    ] = False,
) -> None:
    """Train sentence encoders on data that a language model writes from instructions, and score them."""
    # `--debug` is taken out of the arguments before they are parsed; see `cli_support.group`.


@app.command()
@friendly
def generate(
    output: Annotated[Path, typer.Option(help="Directory for the shards; run again to continue.")],
    model: Annotated[str, typer.Option(help="Causal language model: a directory, a name on the hub, or dino-tiny.")],
    task: Annotated[str, typer.Option(help="Built-in task (see `dino-st tasks`), or a JSON or YAML file.")] = "sts-x2",
    input: Annotated[
        str | None,
        typer.Option(
            help="Sentences x1: .txt (a line each), .jsonl, .csv, .tsv, STS Benchmark TSV, .parquet, a directory "
            "of `dino-st generate`, or - for standard input.",
        ),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column or field of the input that holds the sentences.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first so many distinct sentences.")] = None,
    num: Annotated[int | None, typer.Option(min=1, help="Texts to write, for a task without inputs.")] = None,
    samples: Annotated[int, _option(_GENERATION["samples"])] = _GENERATION["samples"].default,
    max_new_tokens: Annotated[
        int, typer.Option(help="Tokens that a text may take, its closing quotation mark included.")
    ] = _DECODING.max_new_tokens,
    max_tries: Annotated[int, typer.Option(help="Times a draw is made before it is given up.")] = _DECODING.max_tries,
    decay_constant: Annotated[
        float, typer.Option(help="Strength λ of self-debiasing; 0 is plain sampling.")
    ] = _DECODING.decay_constant,
    decay_floor: Annotated[
        float, typer.Option(help="Smallest factor of self-debiasing; 0 is the paper's formula.")
    ] = _DECODING.decay_floor,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Tokens kept for a draw; 0 keeps all.",
            show_default=f"{_DECODING.top_k}; 0 for tasks without inputs",
        ),
    ] = None,
    top_p: Annotated[
        float, typer.Option(help="Share of probability kept, after renormalising over the top k; 1 keeps all.")
    ] = _DECODING.top_p,
    min_words: Annotated[int, typer.Option(help="Reject texts with fewer words.")] = _DECODING.min_words,
    curly_quotes: Annotated[
        bool, typer.Option("--curly-quotes", help="Let typographic quotation marks end a text, too.")
    ] = _DECODING.curly_quotes,
    batch_size: Annotated[str, _option(_GENERATION["batch_size"])] = _GENERATION["batch_size"].default,
    dtype: Annotated[str, _option(_GENERATION["dtype"])] = _GENERATION["dtype"].default,
    device: Annotated[str, _option(_GENERATION["device"])] = _GENERATION["device"].default,
    prompt_format: Annotated[str, _option(_GENERATION["prompt_format"])] = _GENERATION["prompt_format"].default,
    trust_remote_code: Annotated[bool, _option(_GENERATION["trust_remote_code"], "--trust-remote-code")] = _GENERATION[
        "trust_remote_code"
    ].default,
    shard: Annotated[str | None, _option(_GENERATION["shard"], metavar="I/N")] = _GENERATION["shard"].default,
    seed: Annotated[int, _option(_GENERATION["seed"])] = _GENERATION["seed"].default,
) -> None:
    """Let a language model write pairs (or texts) for every label of a task."""
    from dino_st.stages import Generation, generate_data

    settings = prompt_settings(locals(), (*_GENERATION, *DecodingOptions.names()))
    work = Generation(task=task, input=input, column=column, limit=limit, num=num, options=settings)
    outcome = generate_data(work, model, output)
    print_generation_summary(outcome, output)
    if not outcome.counts.get("rows") and not shard:
        raise typer.Exit(1)


@app.command()
@friendly
def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Directories of `generate --shard i/n`, all n.")],
    output: Annotated[Path, typer.Option(help="Directory for the whole data set.")],
) -> None:
    """Join the shards of several machines into the data set that one would have written."""
    from dino_st.merging import merge_shards

    manifest = merge_shards(shards, output)
    console.print(f"{manifest['counts'].get('rows', 0):,} rows in {output}", highlight=False)


@app.command()
@friendly
def prepare(
    raw: Annotated[Path, typer.Argument(help="Directory of `dino-st generate`, or a .jsonl file of pairs.")],
    output: Annotated[Path, typer.Option(help="Directory for the training and validation pairs.")],
    drop_identical: Annotated[bool, _option(_PREPARATION["drop_identical"])] = _PREPARATION["drop_identical"].default,
    drop_duplicates: Annotated[bool, _option(_PREPARATION["drop_duplicates"])] = _PREPARATION[
        "drop_duplicates"
    ].default,
    max_per_input_and_label: Annotated[int, _option(_PREPARATION["max_per_input_and_label"])] = _PREPARATION[
        "max_per_input_and_label"
    ].default,
    label_smoothing: Annotated[float, _option(_PREPARATION["label_smoothing"])] = _PREPARATION[
        "label_smoothing"
    ].default,
    random_negatives: Annotated[int, _option(_PREPARATION["random_negatives"])] = _PREPARATION[
        "random_negatives"
    ].default,
    random_negative_score: Annotated[float, _option(_PREPARATION["random_negative_score"])] = _PREPARATION[
        "random_negative_score"
    ].default,
    validation_share: Annotated[float, _option(_PREPARATION["validation_share"])] = _PREPARATION[
        "validation_share"
    ].default,
    seed: Annotated[int, _option(_PREPARATION["seed"])] = _PREPARATION["seed"].default,
) -> None:
    """Turn raw pairs into training pairs: drop, smooth, add random negatives, split."""
    from dino_st.stages import prepare_data

    prepare_data(raw, output, prompt_settings(locals(), _PREPARATION))
    console.print(f"Written to {output}", highlight=False)


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
    learning_rate: Annotated[float | None, _option(_TRAINING["learning_rate"])] = _TRAINING["learning_rate"].default,
    batch_size: Annotated[int, _option(_TRAINING["batch_size"])] = _TRAINING["batch_size"].default,
    epochs: Annotated[int, _option(_TRAINING["epochs"])] = _TRAINING["epochs"].default,
    loss: Annotated[str, _option(_TRAINING["loss"])] = _TRAINING["loss"].default,
    weight_decay: Annotated[float, _option(_TRAINING["weight_decay"])] = _TRAINING["weight_decay"].default,
    warmup_share: Annotated[float, _option(_TRAINING["warmup_share"])] = _TRAINING["warmup_share"].default,
    evaluation_steps: Annotated[int, _option(_TRAINING["evaluation_steps"])] = _TRAINING["evaluation_steps"].default,
    max_seq_length: Annotated[int | None, _option(_TRAINING["max_seq_length"])] = _TRAINING["max_seq_length"].default,
    dtype: Annotated[str, _option(_TRAINING["dtype"])] = _TRAINING["dtype"].default,
    device: Annotated[str, _option(_TRAINING["device"])] = _TRAINING["device"].default,
    keep_checkpoints: Annotated[bool, _option(_TRAINING["keep_checkpoints"], "--keep-checkpoints")] = _TRAINING[
        "keep_checkpoints"
    ].default,
    seed: Annotated[int, _option(_TRAINING["seed"])] = _TRAINING["seed"].default,
) -> None:
    """Train an encoder on prepared pairs, keeping the best checkpoint by the generated validation pairs."""
    from dino_st.stages import train_model

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
    from dino_st.stages import Evaluation, evaluate_models

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
    from dino_st.recipe import load_recipe, run_recipe

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
    from dino_st.quickstart import run_quickstart

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
    from dino_st.cli_support import print_versions

    print_versions()


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@friendly
def mteb(context: typer.Context) -> None:
    """Run mteb's own command line with the Dino tasks and local models in it."""
    from mteb_tasks.command_line import main as mteb_main

    raise typer.Exit(mteb_main(context.args))


def main() -> None:
    """Entry point of the console script."""
    app()
