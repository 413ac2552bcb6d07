"""The commands that write data, score it and prepare it for training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dino_st.backends.options import (
    DRAWING_OPTIONS,
    ChatOptions,
    ClusterOptions,
    ModelOptions,
    ServerOptions,
    SynCSEOptions,
)
from dino_st.cli.arguments import completes, takes
from dino_st.cli.summary import note
from dino_st.cli.support import Overwrite, as_typed, print_pairs, say
from dino_st.cli.upload import HUB_PANEL, publishes
from dino_st.data.quality import quality_lines
from dino_st.decoding.options import DecodingOptions
from dino_st.generation.options import GenerationOptions, JudgeOptions
from dino_st.models import LANGUAGE_MODEL
from dino_st.pipeline.publish import PublishOptions
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.support.files import REJECTED
from dino_st.support.objects import place
from dino_st.support.options import FrozenOptions
from dino_st.support.progress import logger
from dino_st.support.text import printable
from dino_st.tasks.spec import MOST_TEXTS, builtin_tasks
from dino_st.tasks.syncse import syncse_tasks
from dino_st.training.options import ContrastiveOptions, TrainingOptions

if TYPE_CHECKING:
    from dino_st.generation.dry_run import DryRun
    from dino_st.preparation.splits import PreparedSplits

Output = Annotated[Path, typer.Option(help="Directory for the shards; run again to continue.")]
OtherOutput = Annotated[Path, typer.Option(help="Another directory; run again to continue.")]
Pairs = Annotated[
    Path,
    typer.Argument(help="Directory of `dino-st generate`, or a table of pairs (.jsonl, .csv, .parquet, saved)."),
]
Model = Annotated[
    str,
    typer.Option(
        help="Causal language model: a directory, a name on the hub, or dino-tiny; for a server, its name there.",
        autocompletion=completes(lambda: [LANGUAGE_MODEL]),
    ),
]
Input = Annotated[
    str | None,
    typer.Option(
        help="Sentences x1: .txt (a line each), .jsonl, .json, .csv, .tsv, STS Benchmark TSV, .parquet, a directory of "
        "`dino-st generate` or `save_to_disk`, or - for standard input.",
    ),
]
Column = Annotated[str | None, typer.Option(help="Column or field of the input that holds the sentences.")]
DryRunFlag = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Show prompts, tokens, waves and memory; load no weights, ask no server and write nothing.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first so many distinct sentences.")]

_LOCAL, _DRAWING, _SERVERS = "Local models", "Sampling and debiasing", "Chat servers"
_CLUSTERS = "Several GPUs and machines"
_OF_SERVERS = {"base_url": {"default": "OPENAI_BASE_URL"}}


@takes(
    GenerationOptions,
    DecodingOptions,
    ClusterOptions,
    ChatOptions,
    ServerOptions,
    PublishOptions,
    panels={
        "batch_size": _LOCAL,
        "samples": None,
        "max_new_tokens": _DRAWING,
        "engine": _CLUSTERS,
        "backend": _SERVERS,
        **HUB_PANEL,
    },
    more={"top_k": {"default": "5; 0 for tasks without inputs"}, "shard": {"metavar": "I/N"}, **_OF_SERVERS},
)
@publishes("dataset")
def generate(
    output: Output,
    model: Model,
    given: dict[str, Any],
    task: Annotated[
        str,
        typer.Option(
            help="Built-in task (see `dino-st tasks`), or a JSON or YAML file.", autocompletion=completes(builtin_tasks)
        ),
    ] = "sts-x2",
    input: Input = None,
    column: Column = None,
    limit: Limit = None,
    num: Annotated[
        int | None, typer.Option(min=1, max=MOST_TEXTS, help="Texts to write, for a task without inputs.")
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Let a language model write pairs of texts, or texts, for a task of DINO.

    A server gives no probabilities to debias tokens with: --backend openai needs --decay-constant 0, or --debias
    rerank. For triplets see `dino-st syncse`.
    """
    work: dict[str, Any] = {"column": column, "limit": limit, "num": num, "overwrite": overwrite, "dry_run": dry_run}
    _write(model, output, given, task=task, input=input, **work)


@takes(
    SynCSEOptions,
    ChatOptions,
    ServerOptions,
    ModelOptions,
    (DecodingOptions, DRAWING_OPTIONS),
    ClusterOptions,
    PublishOptions,
    panels={"backend": _SERVERS, "batch_size": _LOCAL, "engine": _CLUSTERS, **HUB_PANEL},
    more=_OF_SERVERS,
)
@publishes("dataset")
def syncse(
    output: Output,
    model: Model,
    given: dict[str, Any],
    task: Annotated[
        str,
        typer.Option(
            help="syncse-partial (for given sentences), syncse-scratch, or a YAML file.",
            autocompletion=completes(syncse_tasks),
        ),
    ] = "syncse-partial",
    input: Input = None,
    column: Column = None,
    limit: Limit = None,
    num: Annotated[
        int | None, typer.Option(min=1, max=MOST_TEXTS, help="Sentences to write, for syncse-scratch.")
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRunFlag = False,
) -> None:
    """Let a chat model write triplets: a positive and a hard negative for each sentence (SynCSE)."""
    work: dict[str, Any] = {"column": column, "limit": limit, "num": num, "overwrite": overwrite, "dry_run": dry_run}
    _write(model, output, given, triplets=True, task=task, input=input, **work)


def _write(model: str, output: Path, given: dict[str, Any], *, triplets: bool = False, **work: Any) -> None:
    """Writes, says what came out, and fails where nothing did."""
    from dino_st.pipeline.stages import Generation, generate_data, generate_triplet_data

    where = place(output)
    outcome = (generate_triplet_data if triplets else generate_data)(Generation(**work, options=given), model, where)
    if outcome.plan is not None:
        _show_plan(outcome.plan)
        raise typer.Exit  # nothing is there to be described or uploaded
    counts = outcome.counts
    note(output=where, kind=outcome.kind, rows=counts.get("rows", 0), new_rows=outcome.new_rows, counts=counts)
    note(rejected=_by_reason(counts), notes=outcome.notes)
    speed = f", {outcome.new_rows / outcome.seconds:,.1f} a second" if outcome.new_rows else ""
    say(f"{counts.get('rows', 0):,} {outcome.kind} in {where} ({outcome.seconds:.1f} s{speed})")
    for name, count in sorted(counts.items()):
        if name.startswith(("rejected", "skipped", "given up", "duplicate")) and count:
            say(f"  {name}: {count:,}")
    print_pairs(outcome.examples)
    for line in (*quality_lines(outcome.quality), *map(as_typed, outcome.notes)):
        say(line)
    if not counts.get("rows") and "shard" not in given:
        raise typer.Exit(1)


def _show_plan(plan: DryRun) -> None:
    """Prints what a dry run found."""
    note(plan=plan.facts, prompts=plan.prompts)
    for kind, prompts in plan.prompts.items():
        for prompt in prompts:
            say(f"{kind}:")
            for line in prompt.split("\n"):
                say(f"  | {printable(line)}")
    for name, value in plan.facts.items():
        say(f"{name}: {value}")
    say("No weights were loaded, nobody was asked, and nothing was written.")


def _by_reason(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts of what was rejected, by reason."""
    return {name.removeprefix("rejected: "): count for name, count in counts.items() if name.startswith("rejected: ")}


@takes(PublishOptions, panels=HUB_PANEL)
@publishes("dataset")
def merge(
    shards: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Directories of `generate --shard i/n`, all n.")],
    output: Annotated[Path, typer.Option(help="Directory for the whole data set.")],
    given: dict[str, Any],  # noqa: ARG001  (all of it is for the hub)
    overwrite: Overwrite = False,
) -> None:
    """Join the shards of several machines into the data set that one would have written."""
    from dino_st.generation.merging import merge_shards

    merged = merge_shards([place(shard) for shard in shards], place(output), overwrite=overwrite)
    note(output=merged.path, rows=merged.counts["rows"], counts=merged.counts, rejected=_by_reason(merged.counts))
    say(f"{merged.counts['rows']:,} rows in {merged.path}")


@takes(ModelOptions, ClusterOptions, PublishOptions, panels={"engine": _CLUSTERS, **HUB_PANEL})
@publishes("dataset")
def score(
    raw: Pairs,
    model: Annotated[
        str,
        typer.Option(
            help="Causal language model: a directory, a name on the hub, or dino-tiny.",
            autocompletion=completes(lambda: [LANGUAGE_MODEL]),
        ),
    ],
    output: OtherOutput,
    given: dict[str, Any],
    task: Annotated[
        str | None,
        typer.Option(
            help="Task whose instructions are asked about.",
            autocompletion=completes(builtin_tasks),
            show_default="the one the pairs were written for, or sts-x2",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say how likely each pair is under every label, for filters and noise-aware targets of `prepare`."""
    from dino_st.pipeline.stages import score_data

    cluster = ClusterOptions.take_from(given)
    of_model = ModelOptions.of(**given)
    where = place(output)
    counts = score_data(place(raw), model, where, task=task, options=of_model, cluster=cluster, overwrite=overwrite)
    note(output=where, rows=counts.get("rows", 0), counts=counts)
    say(f"{counts.get('rows', 0):,} pairs with scores in {where}")
    for name, count in counts.items():
        if name.startswith("left out") and count:
            say(f"  {name}: {count:,}")


@takes(
    JudgeOptions,
    ChatOptions,
    ServerOptions,
    ModelOptions,
    ClusterOptions,
    PublishOptions,
    panels={"backend": _SERVERS, "batch_size": _LOCAL, "engine": _CLUSTERS, **HUB_PANEL},
    more=_OF_SERVERS,
)
@publishes("dataset")
def judge(
    raw: Pairs,
    model: Annotated[
        str,
        typer.Option(
            help="Causal language model or cross-encoder: a directory or a name on the hub; for a server, its name "
            "there."
        ),
    ],
    output: OtherOutput,
    given: dict[str, Any],
    overwrite: Overwrite = False,
) -> None:
    """Let a language model or a cross-encoder rate pairs on the scale of STS, for targets and to choose checkpoints."""
    from dino_st.pipeline.stages import judge_data

    options = JudgeOptions.of(**{name: given.pop(name) for name in JudgeOptions.model_fields if name in given})
    where = place(output)
    counts, sentence = judge_data(place(raw), model, where, options=options, given=given, overwrite=overwrite)
    note(output=where, rows=counts.get("rows", 0), counts=counts)
    say(f"{counts.get('rows', 0):,} pairs with ratings in {where}: {sentence}")
    for name, count in counts.items():
        if name.startswith(("left out", "rejected", "failed")) and count:
            say(f"  {name}: {count:,}")


@takes(
    PreparationOptions,
    PublishOptions,
    panels={
        "near_copy_edit": "Filters, off unless asked for",
        "target": "Scores to train on, unless smoothed",
        **HUB_PANEL,
    },
)
@publishes("dataset")
def prepare(
    raw: Pairs,
    output: Annotated[Path, typer.Option(help="Directory for the training and validation pairs.")],
    given: dict[str, Any],
    explain: Annotated[
        bool, typer.Option("--explain", help="Write the dropped pairs with their reasons to OUTPUT/rejected.jsonl.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn raw pairs into training pairs: drop, filter, smooth, add random negatives, split.

    Filters are off, and targets are smoothed labels, unless an option says otherwise.
    """
    from dino_st.pipeline.stages import prepare_data

    options = PreparationOptions.of(**given)
    splits, outcome = prepare_data(place(raw), output, options, explain=explain, overwrite=overwrite)
    _tell_splits(splits, output, TrainingOptions)
    say(as_typed(outcome))
    if explain:
        say(f"What was dropped, and why: {output / REJECTED}")


@takes(TripletOptions, PublishOptions, panels=HUB_PANEL)
@publishes("dataset")
def prepare_triplets(
    raw: Annotated[
        Path,
        typer.Argument(
            help="Directory of `dino-st syncse` or `dino-st generate`; or a table of triplets or pairs (.jsonl, .csv, "
            ".parquet, saved)."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Directory for the training and validation triplets.")],
    given: dict[str, Any],
    overwrite: Overwrite = False,
) -> None:
    """Turn triplets, or the pairs of DINO, into training triplets: drop what teaches nothing, split by anchor."""
    from dino_st.pipeline.stages import prepare_triplet_data

    splits, outcome = prepare_triplet_data(place(raw), output, TripletOptions.of(**given), overwrite=overwrite)
    _tell_splits(splits, output, ContrastiveOptions)
    say(as_typed(outcome))


def _tell_splits(splits: PreparedSplits, output: Path, training: type[FrozenOptions]) -> None:
    """Notes what came out, and warns where it is less than training puts into a batch by default."""
    rows = {name: split.num_rows for name, split in splits.items()}
    dropped = {name.removeprefix("dropped_"): n for name, n in splits.counts.items() if name.startswith("dropped_")}
    note(output=output, rows=sum(rows.values()), splits=rows, counts=splits.counts, rejected=dropped)
    batch = training.model_fields["batch_size"].default
    if rows["train"] < batch:
        logger.warning(
            "%d rows to train on are fewer than a batch of %d, the default of training, which refuses that; generate "
            "more, or train with a smaller --batch-size",
            rows["train"],
            batch,
        )
