"""Recipes: one YAML file from sentences to scores.

A recipe that says `method: contrastive` trains on triplets: those of SynCSE, or those made of DINO's pairs; its task
says who writes them. What a validation task scores are pairs of the held-out triplets, (anchor, positive) with score 1
and (anchor, negative) with score 0, for SynCSE and DINO alike, since the validation split of DINO's pairs may hold
texts that were trained on as triplets. Where pairs are trained on beside the triplets, they may hold held-out anchors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dino_st.backends.choice import check_options
from dino_st.backends.options import BackendName, SynCSEOptions
from dino_st.data.pairs import write_jsonl
from dino_st.data.sentences import read_sentences
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, InputError, suggest
from dino_st.generation.options import GenerationOptions
from dino_st.pipeline.stages import (
    Evaluation,
    Generation,
    GenerationOutcome,
    check_evaluation,
    evaluate_models,
    generate_data,
    named_sts_dir,
    prepare_data,
    prepare_triplet_data,
    train_contrastive_model,
    train_model,
)
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.syncse.run import check_arguments, generate_triplets
from dino_st.tasks.syncse import PartialSpec, ScratchSpec, is_syncse_task, load_syncse_spec
from dino_st.training.options import ContrastiveOptions, TrainingOptions

if TYPE_CHECKING:
    from datasets import Dataset

    from dino_st.evaluation.table import ScoreTable


VALIDATION = "validation"
"""Name in a recipe for the generated validation pairs as the task to evaluate on."""

VALIDATION_PAIRS = Path("prepared") / "data" / "validation.parquet"
"""Where a recipe's output directory has the generated validation pairs."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SentencesSection(_Section):
    """x1 written from scratch.

    Attributes:
        task: A task without inputs.
        num: Sentences to write.
        options: Options of generation that differ from those of the pairs.
    """

    task: str = "sts-x1"
    num: Annotated[int, Field(ge=1)]
    options: dict[str, Any] = {}


class EvaluationSection(_Section):
    """What the encoder is scored on.

    Attributes:
        tasks: As for `dino-st evaluate`; `validation` is the generated validation split; `auto` is that, and the seven
            STS tasks where a directory with their data is given.
        sts_dir: STS data in SentEval layout.
        batch_size: Sentences encoded at once.
    """

    tasks: str = "sts"
    sts_dir: str | None = None
    batch_size: int = 32


class Recipe(_Section):
    """Everything from sentences to scores.

    Attributes:
        description: What the recipe is for.
        model: The language model.
        encoder: What to train; null takes the language model itself, with mean pooling.
        input: File of sentences; relative names are looked for beside the recipe, too.
        column: Column of the input.
        limit: Use only the first so many distinct sentences.
        sentences: Write the sentences from scratch instead.
        task: The task that the pairs are written for.
        seed: Of generation, preparation and training.
        generate: Options of generation.
        prepare: Options of preparation.
        train: Options of training.
        evaluate: What to evaluate on.
    """

    description: str = ""
    model: str | None = None
    encoder: str | None = None
    input: str | None = None
    column: str | None = None
    limit: Annotated[int | None, Field(ge=1)] = None
    sentences: SentencesSection | None = None
    task: str = "sts-x2"
    seed: Annotated[int, Field(ge=0)] = 42
    generate: dict[str, Any] = {}
    prepare: dict[str, Any] = {}
    train: dict[str, Any] = {}
    evaluate: EvaluationSection = EvaluationSection()


R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class RecipeOutcome:
    """What a recipe left behind.

    Attributes:
        directory: Where everything is.
        table: The scores before and after training.
        examples: A few generated pairs of each label.
    """

    directory: Path
    table: ScoreTable
    examples: Mapping[str, Sequence[Sequence[str]]]


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in recipe_directory().glob("*.yaml"))


def evaluation_of(recipe: Recipe, pairs: Path) -> Evaluation:
    """What a recipe's encoder is scored on.

    Args:
        recipe: The recipe.
        pairs: Generated validation pairs, for `validation` and `auto`.

    Returns:
        What `evaluate_models` takes.
    """
    section = recipe.evaluate
    sts_dir = section.sts_dir or os.environ.get("DINO_ST_STS_DIR")
    tasks = section.tasks
    names = {VALIDATION: None, "auto": "sts" if sts_dir else None}.get(tasks, tasks)
    return Evaluation(
        tasks=names,
        sts_dir=Path(sts_dir) if sts_dir else None,
        pairs=(pairs,) if tasks in (VALIDATION, "auto") else (),
        batch_size=section.batch_size,
    )


def generate_pairs(recipe: Recipe, model: str, output: Path, report: Callable[[str], Any]) -> GenerationOutcome:
    """Writes x1 from scratch where the recipe says so, and the pairs.

    Args:
        recipe: The recipe.
        model: The language model.
        output: Directory; gets `sentences` (if written from scratch) and `raw`.
        report: Called with a line for every step.

    Returns:
        Counts, time and examples of the pairs.
    """
    source = recipe.input
    if recipe.sentences is not None and source is None:
        scratch = recipe.sentences
        report(f"1/4 writing {scratch.num} sentences from scratch")
        options = {"seed": recipe.seed, **_shared(recipe), **scratch.options}
        generate_data(Generation(scratch.task, num=scratch.num, options=options), model, output / "sentences")
        source = str(output / "sentences")
    report("1/4 generating pairs")
    options = {"seed": recipe.seed, **recipe.generate}
    work = Generation(recipe.task, source, recipe.column, recipe.limit, options=options)
    outcome = generate_data(work, model, output / "raw")
    done = f"{outcome.seconds:.0f} s" if outcome.new_rows else "done before"
    report(f"    {outcome.counts['rows']} pairs ({done})")
    return outcome


def _shared(recipe: Recipe) -> dict[str, Any]:
    """Where and how the model runs is the same for sentences and pairs; how texts are drawn is not."""
    return {name: recipe.generate[name] for name in recipe.generate if name in GenerationOptions.model_fields}


def recipe_directory() -> Path:
    """Where the shipped recipes are: in the wheel beside the modules, in an editable install in the repository."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a recipe's file as a mapping.

    Raises:
        InputError: It is missing or no mapping in YAML.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such recipe file; shipped recipes: {', '.join(recipe_names())}"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of fields, given {type(content).__name__}")
    return content


def apply_change(content: dict[str, Any], change: str) -> None:
    """Sets a field from `key=value`, sections with dots.

    Raises:
        ConfigurationError: It does not read so, or the key names no place.
    """
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise ConfigurationError(f"--set {change!r}: expected KEY=VALUE, such as train.epochs=2")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = value
    if isinstance(parsed, str):
        parsed = _number(parsed)
    *sections, name = key.strip().split(".")
    place = content
    for section in sections:
        if place.get(section) is None:
            place[section] = {}
        place = place[section]
        if not isinstance(place, dict):
            raise ConfigurationError(f"--set {change!r}: {section!r} is a value, not a section")
    place[name] = parsed


def _number(text: str) -> str | float:
    """YAML reads 1e-4 as text; people mean a number."""
    try:
        return float(text)
    except ValueError:
        return text


def validate(kind: type[R], content: Mapping[str, Any], path: Path) -> R:
    """Makes a recipe of the content of a file.

    Raises:
        ConfigurationError: A field is unknown or malformed; every such field is named.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                lines.append(f"  {where}: there is no such field; {suggest(where, kind.model_fields)}")
            else:
                lines.append(f"  {where}: {problem['msg']}; given: {problem['input']!r:.60}")
        raise ConfigurationError(f"{path} is not a valid recipe:\n" + "\n".join(lines)) from None


def check_generation(recipe: Recipe, path: Path) -> None:
    """Checks every option of writing sentences and pairs before anything starts.

    Args:
        recipe: The recipe.
        path: Its file, for messages.

    Raises:
        ConfigurationError: An option is unknown or out of range.
    """
    scratch = recipe.sentences.options if recipe.sentences else {}
    for section, options in (("generate", recipe.generate), ("sentences.options", scratch)):
        known = (*GenerationOptions.model_fields, *DecodingOptions.names())
        for name in options:
            if name not in known:
                raise ConfigurationError(f"{path}: {section}.{name}: there is no such option; {suggest(name, known)}")
        GenerationOptions.of(**{k: v for k, v in options.items() if k in GenerationOptions.model_fields})
        DecodingOptions(**{k: v for k, v in options.items() if k not in GenerationOptions.model_fields})


METHOD = "contrastive"
"""What a recipe's `method` says to be one of these."""

VALIDATION_TRIPLET_PAIRS = "validation-pairs.jsonl"
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
        SynCSEOptions.of(**own)
        check_options(recipe.backend, base_url=recipe.base_url, options=[n for n in recipe.generate if n not in own])
        if recipe.pairs is not None or recipe.sentences is not None:
            raise ConfigurationError(
                f"{path}: 'pairs' and 'sentences' are for tasks of DINO; task {recipe.task!r} writes triplets"
            )
    else:
        check_generation(recipe, path)
        if recipe.backend != "local" or recipe.num is not None:
            raise ConfigurationError(f"{path}: 'backend' and 'num' are for tasks of SynCSE, not for {recipe.task!r}")
        PreparationOptions.of(**(recipe.pairs or {}))
    TripletOptions.of(**recipe.prepare)
    ContrastiveOptions.of(**recipe.train)


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
    evaluation = evaluation_of(recipe, output / VALIDATION_TRIPLET_PAIRS)
    check_evaluation(evaluation)
    if recipe.is_syncse:
        examples = _write_triplets(recipe, model, output, report)
    else:
        examples = generate_pairs(recipe, model, output, report).examples
    report("2/4 preparing")
    options = {"seed": recipe.seed, **recipe.prepare}
    splits = prepare_triplet_data(output / "raw", output / "prepared", options)
    _write_validation(splits["validation"], output / VALIDATION_TRIPLET_PAIRS)
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
    from dino_st.preparation.triplets import to_pairs

    if len(triplets):
        write_jsonl(to_pairs(triplets), file)


__all__ = [
    "VALIDATION",
    "VALIDATION_PAIRS",
    "EvaluationSection",
    "Recipe",
    "RecipeOutcome",
    "SentencesSection",
    "load_recipe",
    "recipe_names",
    "run_recipe",
]
"""Where a recipe's output directory has the generated validation pairs."""


def load_recipe(source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies changes to it.

    Args:
        source: Name of a shipped recipe, or a YAML file.
        changes: `key=value` each, sections with dots (`train.learning_rate=1e-4`); values are read as YAML.

    Returns:
        The validated recipe; a `ContrastiveRecipe` where it says `method: contrastive`.

    Raises:
        InputError: If there is no such recipe, or it is not YAML.
        ConfigurationError: If a field or option is unknown or out of range; before anything is computed.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        if str(source) not in recipe_names():
            raise InputError(
                f"there is no recipe {str(source)!r}; {suggest(str(source), recipe_names())}, or a .yaml file of yours"
            )
        path = recipe_directory() / f"{source}.yaml"
    content = read_yaml(path)
    for change in changes:
        apply_change(content, change)
    if content.get("method") is None:
        recipe = validate(Recipe, {name: value for name, value in content.items() if name != "method"}, path)
    elif content["method"] == METHOD:
        recipe = validate(ContrastiveRecipe, content, path)
    else:
        raise ConfigurationError(
            f"{path}: method is {content['method']!r}; expected {METHOD!r} for training on triplets, or none"
        )
    if recipe.input is not None and not Path(recipe.input).exists() and (path.parent / recipe.input).exists():
        recipe = recipe.model_copy(update={"input": str(path.parent / recipe.input)})
    if isinstance(recipe, ContrastiveRecipe):
        check_contrastive_recipe(recipe, path)
    else:
        _check_options(recipe, path)
    return recipe


def run_recipe(
    recipe: Recipe | str | Path,
    output: str | Path,
    *,
    report: Callable[[str], Any] = lambda _: None,
) -> RecipeOutcome:
    """Generates, prepares, trains and evaluates.

    Args:
        recipe: From `load_recipe`, or what it takes.
        output: Directory; gets `sentences` (if written from scratch), `raw`, `prepared`, `model` and `scores`. A second
            run continues where the first one stopped.
        report: Called with a line for every stage.

    Returns:
        The directory and the table of scores.

    Raises:
        DinoError: Whatever a stage raises; what earlier stages wrote stays.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    output = Path(output)
    if isinstance(recipe, ContrastiveRecipe):
        return run_contrastive_recipe(recipe, output, report)
    if recipe.model is None:
        raise ConfigurationError("the recipe leaves the language model open; give --set model=DIRECTORY_OR_HUB_NAME")
    if recipe.input is None and recipe.sentences is None:
        raise ConfigurationError("the recipe leaves the sentences open; give --set input=FILE (a sentence a line)")
    check_evaluation(_evaluation(recipe, output))
    encoder = recipe.encoder or recipe.model
    outcome = generate_pairs(recipe, recipe.model, output, report)
    report("2/4 preparing")
    prepare_data(output / "raw", output / "prepared", {"seed": recipe.seed, **recipe.prepare})
    report("3/4 training")
    report("    " + train_model(output / "prepared", encoder, output / "model", {"seed": recipe.seed, **recipe.train}))
    report("4/4 evaluating")
    models = {"untrained": encoder, "trained": str(output / "model")}
    table = evaluate_models(models, _evaluation(recipe, output), output / "scores")
    return RecipeOutcome(output, table, outcome.examples)


def _evaluation(recipe: Recipe, output: Path) -> Evaluation:
    return evaluation_of(recipe, output / VALIDATION_PAIRS)


def _check_options(recipe: Recipe, path: Path) -> None:
    """Checks every option of every stage before the first one starts."""
    check_generation(recipe, path)
    PreparationOptions.of(**recipe.prepare)
    TrainingOptions.of(**recipe.train)
