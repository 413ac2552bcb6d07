"""The commands that write and score data; argument parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dino_st.backends.options import ChatOptions, ServerOptions, SynCSEOptions
from dino_st.cli.support import console, friendly, option_of, print_generation_summary, prompt_settings
from dino_st.decoding.options import DecodingOptions
from dino_st.generation.options import GenerationOptions

_DECODING = DecodingOptions()
_GENERATION = GenerationOptions.model_fields
_CHAT = ChatOptions.model_fields
_SYNCSE = SynCSEOptions()
_SERVER = ServerOptions.model_fields


def _server(name: str) -> Any:
    return option_of(_SERVER[name], rich_help_panel="Chat servers", show_default=str(_SERVER[name].default or "none"))


@friendly
def generate(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Directory for the shards; run again to continue.")],
    model: Annotated[
        str,
        typer.Option(
            help="Causal language model: a directory, a name on the hub, or dino-tiny; for a server, its name there."
        ),
    ],
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
    samples: Annotated[int, option_of(_GENERATION["samples"])] = _GENERATION["samples"].default,
    max_new_tokens: Annotated[
        int,
        typer.Option(
            help="Tokens that a text may take, its closing quotation mark included.",
            show_default=f"{_DECODING.max_new_tokens}; {_SYNCSE.max_new_tokens} for SynCSE",
        ),
    ] = _DECODING.max_new_tokens,
    max_tries: Annotated[
        int,
        typer.Option(
            help="Times a draw is made before it is given up.",
            show_default=f"{_DECODING.max_tries}; {_SYNCSE.max_tries} for SynCSE",
        ),
    ] = _DECODING.max_tries,
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
        float,
        typer.Option(
            help="Share of probability kept, after renormalising over the top k; 1 keeps all.",
            show_default=f"{_DECODING.top_p:g}; {_SERVER['top_p'].default:g} for servers",
        ),
    ] = _DECODING.top_p,
    min_words: Annotated[int, typer.Option(help="Reject texts with fewer words.")] = _DECODING.min_words,
    curly_quotes: Annotated[
        bool, typer.Option("--curly-quotes", help="Let typographic quotation marks end a text, too.")
    ] = _DECODING.curly_quotes,
    batch_size: Annotated[str, option_of(_GENERATION["batch_size"])] = _GENERATION["batch_size"].default,
    dtype: Annotated[str, option_of(_GENERATION["dtype"])] = _GENERATION["dtype"].default,
    device: Annotated[str, option_of(_GENERATION["device"])] = _GENERATION["device"].default,
    prompt_format: Annotated[str, option_of(_GENERATION["prompt_format"])] = _GENERATION["prompt_format"].default,
    score_labels: Annotated[bool, option_of(_GENERATION["score_labels"], "--score-labels")] = _GENERATION[
        "score_labels"
    ].default,
    trust_remote_code: Annotated[bool, option_of(_GENERATION["trust_remote_code"], "--trust-remote-code")] = False,
    shard: Annotated[str | None, option_of(_GENERATION["shard"], metavar="I/N")] = _GENERATION["shard"].default,
    seed: Annotated[int, option_of(_GENERATION["seed"])] = _GENERATION["seed"].default,
    backend: Annotated[str, option_of(_CHAT["backend"])] = _CHAT["backend"].default,
    base_url: Annotated[
        str | None, option_of(_CHAT["base_url"], rich_help_panel="Chat servers", show_default="OPENAI_BASE_URL")
    ] = None,
    temperature: Annotated[float | None, _server("temperature")] = None,
    concurrency: Annotated[int | None, _server("concurrency")] = None,
    requests_per_minute: Annotated[float | None, _server("requests_per_minute")] = None,
    timeout: Annotated[float | None, _server("timeout")] = None,
) -> None:
    """Let a language model write pairs, texts, or triplets (tasks syncse-partial and syncse-scratch)."""
    from dino_st.pipeline.stages import Generation, generate_by_chat, generate_data, is_for_chat

    given = _given(context)
    if is_for_chat(task, backend, given):  # type: ignore[arg-type]  # checked there
        settings = prompt_settings(locals(), given)
        chat = Generation(task=task, input=input, column=column, limit=limit, num=num, options=settings)
        outcome, notes = generate_by_chat(chat, model, output)
        print_generation_summary(outcome, output)
        for note in notes:
            console.print(note, highlight=False, soft_wrap=True)
        if not outcome.counts.get("rows"):
            raise typer.Exit(1)
        return
    settings = prompt_settings(locals(), (*_GENERATION, *DecodingOptions.names()))
    work = Generation(task=task, input=input, column=column, limit=limit, num=num, options=settings)
    outcome = generate_data(work, model, output)
    print_generation_summary(outcome, output)
    if not outcome.counts.get("rows") and not shard:
        raise typer.Exit(1)


def _given(context: typer.Context) -> list[str]:
    """The options of the writing itself that stand on the command line: to a chat, no others are passed on."""
    names = ("output", "model", "task", "input", "column", "limit", "num", "debug")
    sources = {name: context.get_parameter_source(name) for name in context.params if name not in names}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


@friendly
def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Directories of `generate --shard i/n`, all n.")],
    output: Annotated[Path, typer.Option(help="Directory for the whole data set.")],
) -> None:
    """Join the shards of several machines into the data set that one would have written."""
    from dino_st.generation.merging import merge_shards

    merged = merge_shards(shards, output)
    console.print(f"{merged.counts['rows']:,} rows in {output}", highlight=False)


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
    from dino_st.pipeline.stages import score_data

    counts = score_data(raw, model, output, task=task, options=prompt_settings(locals(), _GENERATION))
    console.print(f"{counts.get('rows', 0):,} pairs with scores in {output}", highlight=False)
    for name, count in counts.items():
        if name.startswith("left out") and count:
            console.print(f"  {name}: {count:,}", highlight=False)
