"""Recipes: one YAML file from sentences to scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dino_st.contrastive_recipe import METHOD, ContrastiveRecipe, check_contrastive_recipe, run_contrastive_recipe
from dino_st.errors import ConfigurationError, InputError, suggest
from dino_st.preparation_options import PreparationOptions
from dino_st.recipe_model import (
    VALIDATION,
    EvaluationSection,
    Recipe,
    RecipeOutcome,
    SentencesSection,
    apply_change,
    check_generation,
    evaluation_of,
    generate_pairs,
    read_yaml,
    recipe_directory,
    recipe_names,
    validate,
)
from dino_st.stages import Evaluation, check_evaluation, evaluate_models, prepare_data, train_model
from dino_st.training_options import TrainingOptions

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

VALIDATION_PAIRS = Path("prepared") / "data" / "validation.parquet"
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
    PreparationOptions.create(**recipe.prepare)
    TrainingOptions.create(**recipe.train)
