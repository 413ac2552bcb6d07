"""Recipes: one YAML file from sentences to scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, InputError, suggest
from dino_st.generation_options import GenerationOptions
from dino_st.preparation_options import PreparationOptions
from dino_st.stages import (
    Evaluation,
    Generation,
    evaluate_models,
    generate_data,
    prepare_data,
    select_tasks,
    train_model,
)
from dino_st.training_options import TrainingOptions

if TYPE_CHECKING:
    from dino_st.score_table import ScoreTable

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
    return sorted(path.stem for path in _recipe_directory().glob("*.yaml"))


def load_recipe(source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Reads a recipe and applies changes to it.

    Args:
        source: Name of a shipped recipe, or a YAML file.
        changes: `key=value` each, sections with dots (`train.learning_rate=1e-4`); values are read as YAML.

    Returns:
        The validated recipe.

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
        path = _recipe_directory() / f"{source}.yaml"
    content = _read_yaml(path)
    for change in changes:
        _apply(content, change)
    recipe = _validate(content, path)
    if recipe.input is not None and not Path(recipe.input).exists() and (path.parent / recipe.input).exists():
        recipe = recipe.model_copy(update={"input": str(path.parent / recipe.input)})
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
    if recipe.model is None:
        raise ConfigurationError("the recipe leaves the language model open; give --set model=DIRECTORY_OR_HUB_NAME")
    if recipe.input is None and recipe.sentences is None:
        raise ConfigurationError("the recipe leaves the sentences open; give --set input=FILE (a sentence a line)")
    output = Path(output)
    if recipe.evaluate.tasks not in (VALIDATION, "auto"):
        select_tasks(_evaluation(recipe, output))  # a mistake in the last stage is better known before the first
    encoder = recipe.encoder or recipe.model
    source = recipe.input
    if recipe.sentences is not None and source is None:
        scratch = recipe.sentences
        report(f"1/4 writing {scratch.num} sentences from scratch")
        options = {"seed": recipe.seed, **_shared(recipe), **scratch.options}
        generate_data(Generation(scratch.task, num=scratch.num, options=options), recipe.model, output / "sentences")
        source = str(output / "sentences")
    report("1/4 generating pairs")
    options = {"seed": recipe.seed, **recipe.generate}
    work = Generation(recipe.task, source, recipe.column, recipe.limit, options=options)
    outcome = generate_data(work, recipe.model, output / "raw")
    done = f"{outcome.seconds:.0f} s" if outcome.new_rows else "done before"
    report(f"    {outcome.counts['rows']} pairs ({done})")
    report("2/4 preparing")
    prepare_data(output / "raw", output / "prepared", {"seed": recipe.seed, **recipe.prepare})
    report("3/4 training")
    report("    " + train_model(output / "prepared", encoder, output / "model", {"seed": recipe.seed, **recipe.train}))
    report("4/4 evaluating")
    models = {"untrained": encoder, "trained": str(output / "model")}
    table = evaluate_models(models, _evaluation(recipe, output), output / "scores")
    return RecipeOutcome(output, table, outcome.examples)


def _shared(recipe: Recipe) -> dict[str, Any]:
    """Where and how the model runs is the same for sentences and pairs; how texts are drawn is not."""
    return {name: recipe.generate[name] for name in recipe.generate if name in GenerationOptions.model_fields}


def _evaluation(recipe: Recipe, output: Path) -> Evaluation:
    import os

    section = recipe.evaluate
    sts_dir = section.sts_dir or os.environ.get("DINO_ST_STS_DIR")
    tasks = section.tasks
    names = {VALIDATION: None, "auto": "sts" if sts_dir else None}.get(tasks, tasks)
    return Evaluation(
        tasks=names,
        sts_dir=Path(sts_dir) if sts_dir else None,
        pairs=(output / VALIDATION_PAIRS,) if tasks in (VALIDATION, "auto") else (),
        batch_size=section.batch_size,
    )


def _recipe_directory() -> Path:
    """The wheel carries the recipes in the package; an editable install finds them in the repository."""
    package = Path(__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def _read_yaml(path: Path) -> dict[str, Any]:
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


def _apply(content: dict[str, Any], change: str) -> None:
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


def _validate(content: Mapping[str, Any], path: Path) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                lines.append(f"  {where}: there is no such field; {suggest(where, Recipe.model_fields)}")
            else:
                lines.append(f"  {where}: {problem['msg']}; given: {problem['input']!r:.60}")
        raise ConfigurationError(f"{path} is not a valid recipe:\n" + "\n".join(lines)) from None


def _check_options(recipe: Recipe, path: Path) -> None:
    """Checks every option of every stage before the first one starts."""
    scratch = recipe.sentences.options if recipe.sentences else {}
    for section, options in (("generate", recipe.generate), ("sentences.options", scratch)):
        known = (*GenerationOptions.model_fields, *DecodingOptions.names())
        for name in options:
            if name not in known:
                raise ConfigurationError(f"{path}: {section}.{name}: there is no such option; {suggest(name, known)}")
        GenerationOptions.create(**{k: v for k, v in options.items() if k in GenerationOptions.model_fields})
        DecodingOptions(**{k: v for k, v in options.items() if k not in GenerationOptions.model_fields})
    PreparationOptions.create(**recipe.prepare)
    TrainingOptions.create(**recipe.train)
