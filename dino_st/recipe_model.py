"""What a recipe says: its fields, how its file is read and changed, and the parts that all recipes share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, InputError, suggest
from dino_st.generation_options import GenerationOptions
from dino_st.stages import Evaluation, Generation, GenerationOutcome, generate_data

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
    package = Path(__file__).parent
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
        GenerationOptions.create(**{k: v for k, v in options.items() if k in GenerationOptions.model_fields})
        DecodingOptions(**{k: v for k, v in options.items() if k not in GenerationOptions.model_fields})
