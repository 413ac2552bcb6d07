"""Recipes that train on triplets: those of SynCSE, and those that make triplets of DINO's pairs.

A recipe is one of these where it says `method: contrastive`; its task says who writes the triplets. What a validation
task scores are pairs of the held-out triplets, (anchor, positive) with score 1 and (anchor, negative) with score 0, for
SynCSE and DINO alike, since the validation split of DINO's pairs may hold texts that were trained on as triplets. Where
pairs are trained on beside the triplets, they may hold held-out anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from dino_st.chat_choice import check_options
from dino_st.chat_options import BackendName, SynCSEOptions
from dino_st.contrastive_options import ContrastiveOptions, TripletOptions
from dino_st.contrastive_stages import named_sts_dir, prepare_triplet_data, train_contrastive_model
from dino_st.errors import ConfigurationError
from dino_st.inputs import read_sentences
from dino_st.jsonl import write_jsonl
from dino_st.preparation_options import PreparationOptions
from dino_st.recipe_model import Recipe, RecipeOutcome, check_generation, evaluation_of, generate_pairs
from dino_st.stages import check_evaluation, evaluate_models, prepare_data
from dino_st.syncse import check_arguments, generate_triplets
from dino_st.syncse_spec import PartialSpec, ScratchSpec, is_syncse_task, load_syncse_spec

if TYPE_CHECKING:
    from datasets import Dataset

METHOD = "contrastive"
"""What a recipe's `method` says to be one of these."""

VALIDATION_PAIRS = "validation-pairs.jsonl"
"""Pairs of the held-out triplets, in a recipe's output directory."""

_EXAMPLES = 4


class ContrastiveRecipe(Recipe):
    """Everything from sentences to scores, by triplets.

    Attributes:
        method: Says that it is one of these.
        task: `syncse-partial`, `syncse-scratch`, a YAML file like theirs, or a task of DINO.
        backend: Who writes for SynCSE: `local` or `openai`.
        base_url: Address of the chat server.
        num: Sentences to write, for SynCSE from scratch.
        generate: Options of `generate_triplets`, or of generating pairs.
        prepare: Options of `prepare_triplets`.
        pairs: Options of `prepare_pairs`, to train on DINO's pairs as well; null trains on triplets alone.
        train: Options of `train_contrastive`.
    """

    method: Literal["contrastive"]
    task: str = "syncse-partial"
    backend: BackendName = "local"
    base_url: str | None = None
    num: Annotated[int | None, Field(ge=1)] = None
    pairs: dict[str, Any] | None = None

    @property
    def is_syncse(self) -> bool:
        """Whether triplets are written as such, and not made of pairs."""
        return is_syncse_task(self.task)


def check_contrastive_recipe(recipe: ContrastiveRecipe, path: Path) -> None:
    """Checks every option of every stage before the first one starts.

    Args:
        recipe: The recipe.
        path: Its file, for messages.

    Raises:
        ConfigurationError: An option is unknown or out of range, or does not fit the task.
    """
    if recipe.is_syncse:
        load_syncse_spec(recipe.task)
        own = {name: value for name, value in recipe.generate.items() if name in SynCSEOptions.model_fields}
        SynCSEOptions.create(**own)
        check_options(recipe.backend, base_url=recipe.base_url, options=[n for n in recipe.generate if n not in own])
        if recipe.pairs is not None or recipe.sentences is not None:
            raise ConfigurationError(
                f"{path}: 'pairs' and 'sentences' are for tasks of DINO; task {recipe.task!r} writes triplets"
            )
    else:
        check_generation(recipe, path)
        if recipe.backend != "local" or recipe.num is not None:
            raise ConfigurationError(f"{path}: 'backend' and 'num' are for tasks of SynCSE, not for {recipe.task!r}")
        PreparationOptions.create(**(recipe.pairs or {}))
    TripletOptions.create(**recipe.prepare)
    ContrastiveOptions.create(**recipe.train)


def run_contrastive_recipe(
    recipe: ContrastiveRecipe, output: Path, report: Callable[[str], Any] = lambda _: None
) -> RecipeOutcome:
    """Generates, prepares, trains and evaluates.

    Args:
        recipe: The recipe.
        output: Directory; gets `raw`, `prepared`, `prepared-pairs` (where pairs are trained on), `model`, `scores` and
            the validation pairs. A second run continues where the first one stopped.
        report: Called with a line for every stage.

    Returns:
        The directory and the table of scores.

    Raises:
        ConfigurationError: The recipe leaves open what it needs.
        DinoError: Whatever a stage raises; what earlier stages wrote stays.
    """
    model = _check_complete(recipe)
    evaluation = evaluation_of(recipe, output / VALIDATION_PAIRS)
    check_evaluation(evaluation)
    if recipe.is_syncse:
        examples = _write_triplets(recipe, model, output, report)
    else:
        examples = generate_pairs(recipe, model, output, report).examples
    report("2/4 preparing")
    options = {"seed": recipe.seed, **recipe.prepare}
    splits = prepare_triplet_data(output / "raw", output / "prepared", options)
    _write_validation(splits["validation"], output / VALIDATION_PAIRS)
    pairs = None if recipe.pairs is None else output / "prepared-pairs"
    if pairs is not None:
        prepare_data(output / "raw", pairs, {"seed": recipe.seed, **(recipe.pairs or {})})
    report("3/4 training")
    training = {"seed": recipe.seed, **recipe.train}
    if recipe.encoder is None:
        training["pooling"] = "mean"  # a language model's first token sees nothing of the sentence
    encoder, sts_dir = recipe.encoder or model, named_sts_dir(recipe.evaluate.sts_dir)
    prepared, trained = output / "prepared", output / "model"
    report("    " + train_contrastive_model(prepared, encoder, trained, training, pairs=pairs, sts_dir=sts_dir))
    report("4/4 evaluating")
    table = evaluate_models({"untrained": encoder, "trained": str(trained)}, evaluation, output / "scores")
    return RecipeOutcome(output, table, examples)


def _check_complete(recipe: ContrastiveRecipe) -> str:
    """The language model; raises where something is left open."""
    if recipe.model is None:
        raise ConfigurationError("the recipe leaves the language model open; give --set model=DIRECTORY_OR_HUB_NAME")
    if recipe.is_syncse:
        spec = load_syncse_spec(recipe.task)
        if isinstance(spec, ScratchSpec) and recipe.num is None:
            raise ConfigurationError("the recipe leaves the number of sentences open; give --set num=N")
        given = recipe.input is not None or isinstance(spec, PartialSpec)  # what is missing is asked for below
        check_arguments(spec, has_sentences=given, num=recipe.num)
    if recipe.input is None and recipe.sentences is None and recipe.num is None:
        raise ConfigurationError("the recipe leaves the sentences open; give --set input=FILE (a sentence a line)")
    return recipe.model


def _write_triplets(
    recipe: ContrastiveRecipe, model: str, output: Path, report: Callable[[str], Any]
) -> Mapping[str, Sequence[Sequence[str]]]:
    """Has the triplets written; returns a few positives and negatives."""
    report("1/4 generating triplets")
    sentences = None
    if recipe.input is not None:
        sentences = read_sentences(recipe.input, column=recipe.column, limit=recipe.limit).texts
    triplets = generate_triplets(
        model,
        sentences,
        num=recipe.num,
        task=recipe.task,
        backend=recipe.backend,
        base_url=recipe.base_url,
        output_dir=output / "raw",
        show_progress=True,
        **{"seed": recipe.seed, **recipe.generate},
    )
    report(f"    {len(triplets)} triplets")
    rows = triplets.select(range(min(_EXAMPLES, len(triplets)))).to_list()
    return {name: [[row["anchor"], row[name]] for row in rows] for name in ("positive", "negative")}


def _write_validation(triplets: Dataset, file: Path) -> None:
    """Writes the pairs that a validation task scores, where anything is held out."""
    from dino_st.triplets import to_pairs

    if len(triplets):
        write_jsonl(to_pairs(triplets), file)
