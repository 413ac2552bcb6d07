"""Recipes: one YAML file from sentences to scores.

A recipe that says `method: contrastive` trains on triplets: those of SynCSE, or those made of DINO's pairs; its task
says which. What a validation task scores are then pairs of the held-out triplets, (anchor, positive) with score 1 and
(anchor, negative) with score 0, for SynCSE and DINO alike, since the validation split of DINO's pairs may hold texts
that were trained on as triplets. Where pairs are trained on beside the triplets, they may hold held-out anchors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from dino_st.backends.choice import check_options
from dino_st.backends.options import BackendName, SynCSEOptions
from dino_st.data.columns import LOG_PROBS, raw_schema
from dino_st.data.pairs import write_jsonl
from dino_st.data.tables import named_files
from dino_st.encoders.loading import encoder_files
from dino_st.errors import ConfigurationError, DatasetError, InputError, ModelError, suggest
from dino_st.evaluation.options import EvaluationOptions
from dino_st.generation.options import GenerationOptions, WritingOptions
from dino_st.pipeline.stages import (
    Evaluation,
    Generation,
    GenerationOutcome,
    check_evaluation,
    check_files,
    earlier_scores,
    evaluate_models,
    generate_data,
    named_sts_dir,
    prepare_data,
    prepare_triplet_data,
    train_contrastive_model,
    train_model,
)
from dino_st.preparation.options import PreparationOptions, TripletOptions
from dino_st.support.documents import read_document, read_value
from dino_st.support.files import check_can_become_directory, similar_path
from dino_st.support.options import NumbersAreNoAnswers, explain
from dino_st.tasks.spec import MOST_TEXTS, TaskSpec
from dino_st.tasks.syncse import ScratchSpec, is_syncse_task, load_syncse_spec
from dino_st.training.distributed import count_processes
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from dino_st.training.trackers import check_tracker

if TYPE_CHECKING:
    from dino_st.evaluation.table import ScoreTable


VALIDATION = "validation"
"""Name in a recipe for the generated validation pairs as the task to evaluate on."""

VALIDATION_PAIRS = Path("prepared") / "data" / "validation.parquet"
"""Where the output directory of a recipe for pairs has the generated validation pairs."""

VALIDATION_TRIPLET_PAIRS = Path("validation-pairs.jsonl")
"""Where that of a contrastive recipe has the pairs of the held-out triplets."""


def _task(name: Any, info: ValidationInfo) -> Any:
    """The task, or the usual one of the method."""
    return name or ("sts-x2" if info.data.get("method") is None else "syncse-partial")


def _options(content: Any, info: ValidationInfo) -> Any:
    """A section as the options of its stage, with the recipe's seed unless it has one of its own."""
    section, fields = info.field_name, info.data
    is_contrastive = fields.get("method") is not None
    if content is None:
        return None
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"expected a mapping of options, given {type(content).__name__}")
    if of_whole := [name for name in content if name in Recipe.model_fields and name != "seed"]:
        raise ConfigurationError(f"{of_whole[0]!r} stands beside {section!r}, not in it")
    given = {"seed": fields.get("seed", 42), **content}
    if section == "generate" and is_contrastive and is_syncse_task(fields.get("task", "")):
        others = dict(given)
        SynCSEOptions.take_from(others)
        check_options(fields.get("backend", "local"), base_url=fields.get("base_url"), options=others)
        return given
    if section == "generate":
        return WritingOptions.of(**given)
    if section == "prepare":
        return (TripletOptions if is_contrastive else PreparationOptions).of(**given)
    if section == "train":
        return (ContrastiveOptions if is_contrastive else TrainingOptions).of(**given)
    return PreparationOptions.of(**given)


class _Section(NumbersAreNoAnswers):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class SentencesSection(_Section):
    """x1 written from scratch."""

    task: str = "sts-x1"  # one without inputs
    num: Annotated[int, Field(ge=1, le=MOST_TEXTS)]
    options: dict[str, Any] = Field(default_factory=dict)  # of generation, where they differ from those of the pairs


class EvaluationSection(EvaluationOptions):
    """What the encoder is scored on, and how.

    `tasks` are as for `dino-st evaluate`; `validation` is the generated validation split; `auto` is that, and the seven
    STS tasks where a directory with their data is given. Files of `pairs` are tasks of their own, looked for beside the
    recipe, too.
    """

    tasks: str = "sts"
    sts_dir: str | None = None  # STS data in SentEval layout
    senteval_dir: str | None = None  # the transfer tasks' data in SentEval layout
    pairs: tuple[str, ...] = ()


class Recipe(_Section):
    """Everything from sentences to scores.

    The task is one of DINO, or for `contrastive` `syncse-partial`, `syncse-scratch` or a file like theirs, too.
    `generate` holds validated options for DINO, those given for SynCSE; `pairs`, for `contrastive`, those of preparing
    DINO's pairs, to train on them as well. The other sections are the options of their stages.
    """

    description: str = ""  # what the recipe is for
    method: Literal["contrastive"] | None = None  # `contrastive` trains on triplets; without it, on pairs
    model: str | None = None  # the language model
    encoder: str | None = None  # what to train; null takes the language model itself, with mean pooling
    input: str | None = None  # file of sentences; relative names are looked for beside the recipe, too
    column: str | None = None  # of the input
    limit: Annotated[int | None, Field(ge=1)] = None  # use only the first so many distinct sentences
    sentences: SentencesSection | None = None  # write the sentences from scratch instead
    task: Annotated[str, BeforeValidator(_task)] = Field(None, validate_default=True)
    num: Annotated[int | None, Field(ge=1, le=MOST_TEXTS)] = None  # sentences to write, for SynCSE from scratch
    backend: BackendName = "local"  # which model writes for SynCSE
    base_url: str | None = None  # of the chat server
    seed: Annotated[int, Field(ge=0)] = 42  # of every stage that has no seed of its own
    generate: Annotated[WritingOptions | dict[str, Any], BeforeValidator(_options)] = Field({}, validate_default=True)
    prepare: Annotated[PreparationOptions | TripletOptions, BeforeValidator(_options)] = Field(
        {}, validate_default=True
    )
    pairs: Annotated[PreparationOptions | None, BeforeValidator(_options)] = None
    train: Annotated[TrainingOptions, BeforeValidator(_options)] = Field({}, validate_default=True)
    evaluate: EvaluationSection = EvaluationSection()

    @property
    def is_syncse(self) -> bool:
        """Whether triplets are written as such, and not made of pairs."""
        return is_syncse_task(self.task)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        for_syncse = self.backend != "local" or self.base_url is not None or self.num is not None
        if self.method is None and (for_syncse or self.pairs is not None or self.is_syncse):
            raise ValueError(
                "'backend', 'base_url', 'num', 'pairs' and tasks of SynCSE are for recipes with 'method: contrastive'"
            )
        if self.is_syncse and (self.pairs is not None or self.sentences is not None):
            raise ValueError(f"'pairs' and 'sentences' are for tasks of DINO; task {self.task!r} writes triplets")
        if not self.is_syncse and for_syncse:
            raise ValueError(f"'backend' and 'num' are for tasks of SynCSE, not for {self.task!r}")
        if self.sentences is not None:
            self.scratch_options()
        return self

    def scratch_options(self) -> WritingOptions:
        """How sentences from scratch are written: what and where as the pairs, drawn in a way of their own."""
        shared: dict[str, Any] = {}
        if isinstance(self.generate, WritingOptions):
            shared = self.generate.generation.model_dump(exclude_unset=True)
        return WritingOptions.of(**shared | (self.sentences.options if self.sentences else {}))


@dataclass(frozen=True)
class RecipeOutcome:
    """What a recipe left behind."""

    directory: Path  # where everything is
    table: ScoreTable  # the scores before and after training
    examples: Mapping[str, Sequence[Sequence[str]]]  # a few generated pairs of each label


def recipe_names() -> list[str]:
    """Names of the shipped recipes, sorted."""
    return sorted(path.stem for path in recipe_directory().glob("*.yaml"))


def recipe_directory() -> Path:
    """Where the shipped recipes are: in the wheel beside the modules, in an editable install in the repository."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def load_recipe(source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Reads a shipped recipe, by name, or a YAML file, and applies changes to it.

    A change is `key=value`, sections with dots (`train.learning_rate=1e-4`); values are read as YAML. Raises InputError
    where there is no such recipe, or it is not YAML, and ConfigurationError where a field or option is unknown or out
    of range; before anything is computed.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        if str(source) not in recipe_names():
            raise InputError(
                f"there is no recipe {str(source)!r}; {suggest(str(source), recipe_names())}, or a .yaml file of yours"
            )
        path = recipe_directory() / f"{source}.yaml"
    content = _read_yaml(path)
    for change in changes:
        _apply_change(content, change)
    if content.get("method") not in (None, "contrastive"):  # which decides what the sections may hold
        raise ConfigurationError(
            f"{_origin(('method',), path, changes)}: method is {content['method']!r}; expected 'contrastive' for "
            "training on triplets, or none"
        )
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        places = [_origin(problem["loc"], path, changes) for problem in error.errors()]
        problems = [f"{place}: {words}" for place, words in zip(places, explain(error, Recipe), strict=True)]
        raise ConfigurationError("\n".join(problems)) from None
    if recipe.is_syncse:
        load_syncse_spec(recipe.task)
    pairs = tuple(_beside(file, path) for file in recipe.evaluate.pairs)
    update: dict[str, Any] = {"evaluate": recipe.evaluate.model_copy(update={"pairs": pairs})}
    if recipe.input is not None:
        update["input"] = _beside(recipe.input, path)
    return recipe.model_copy(update=update)


def _beside(file: str, recipe: Path) -> str:
    """A file that a recipe names, which may stand beside it."""
    return str(recipe.parent / file) if not Path(file).exists() and (recipe.parent / file).exists() else file


def _origin(place: Sequence[int | str], path: Path, changes: Sequence[str]) -> str:
    """Where a field of a recipe comes from: a change, or the file."""
    given = [change for change in changes if place and change.strip().split("=")[0].split(".")[0] == place[0]]
    if not place and changes:
        return f"{path} with {' '.join(f'--set {change}' for change in changes)}"
    return f"--set {given[-1]}" if given else str(path)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_document(path, InputError)
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such recipe file{similar_path(path)}; shipped recipes: {', '.join(recipe_names())}"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of fields, given {type(content).__name__}")
    return content


def _apply_change(content: dict[str, Any], change: str) -> None:
    """Sets a field from `key=value`, sections with dots."""
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise ConfigurationError(f"--set {change!r}: expected KEY=VALUE, such as train.epochs=2")
    parsed = read_value(value, ConfigurationError, f"--set {change}")
    if isinstance(parsed, str):  # YAML reads 1e-4 as text; people mean a number
        with contextlib.suppress(ValueError):
            parsed = float(parsed)
    *sections, name = key.strip().split(".")
    place = content
    for section in sections:
        if place.get(section) is None:
            place[section] = {}
        place = place[section]
        if not isinstance(place, dict):
            raise ConfigurationError(f"--set {change!r}: {section!r} is a value, not a section")
    place[name] = parsed


def run_recipe(
    recipe: Recipe | str | Path,
    output: str | Path,
    *,
    overwrite: bool = False,
    overwrite_scores: bool = False,
    report: Callable[[str], Any] = lambda _: None,
) -> RecipeOutcome:
    """Generates, prepares, trains and evaluates.

    Args:
        recipe: From `load_recipe`, or what it takes.
        output: Directory; gets `sentences` (if written from scratch), `raw`, `prepared`, `model` and `scores`, and for
            `method: contrastive` the validation pairs and `prepared-pairs` (where pairs are trained on). A second run
            continues where the first one stopped.
        overwrite: Replace what another recipe, or this one with other options, left there; what is the same stays.
        overwrite_scores: Replace the scores on other tasks alone.
        report: Called with a line for every stage.

    Returns:
        The directory and the table of scores.

    Raises:
        ConfigurationError: The recipe leaves open what it needs.
        DinoError: Whatever a stage raises; what earlier stages wrote stays.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe)
    steps = _Steps(recipe, _language_model(recipe), Path(output).expanduser(), report, overwrite, overwrite_scores)
    steps.check()
    outcome = steps.generate()
    steps.prepare()
    steps.train()
    return RecipeOutcome(steps.directory, steps.evaluate(), outcome.examples)


def _language_model(recipe: Recipe) -> str:
    """The language model of a recipe, which must leave nothing open."""
    if recipe.model is None:
        raise ConfigurationError("the recipe leaves the language model open; give --set model=DIRECTORY_OR_HUB_NAME")
    if recipe.is_syncse and isinstance(load_syncse_spec(recipe.task), ScratchSpec) and recipe.num is None:
        raise ConfigurationError("the recipe leaves the number of sentences open; give --set num=N")
    if recipe.input is None and recipe.sentences is None and recipe.num is None:
        raise ConfigurationError("the recipe leaves the sentences open; give --set input=FILE (a sentence a line)")
    if recipe.encoder is None and recipe.backend != "local":
        raise ConfigurationError(
            "the recipe leaves open what is trained, and the model behind a server cannot be; give --set encoder=NAME"
        )
    return recipe.model


@dataclass(frozen=True)
class _Steps:
    """The four steps of a recipe in its directory; the kind of recipe decides what each of them calls."""

    recipe: Recipe
    model: str
    directory: Path
    report: Callable[[str], Any]
    overwrite: bool = False
    overwrite_scores: bool = False

    @property
    def encoder(self) -> str:
        """What training starts from."""
        return self.recipe.encoder or self.model

    @property
    def evaluation(self) -> Evaluation:
        """What the encoder is scored on."""
        section = self.recipe.evaluate
        sts_dir = named_sts_dir(section.sts_dir)
        names = {VALIDATION: None, "auto": "sts" if sts_dir else None}.get(section.tasks, section.tasks)
        pairs = self.directory / (VALIDATION_TRIPLET_PAIRS if self.recipe.method else VALIDATION_PAIRS)
        return Evaluation(
            tasks=names,
            sts_dir=sts_dir,
            senteval_dir=Path(section.senteval_dir) if section.senteval_dir else None,
            pairs=(*((pairs,) if section.tasks in (VALIDATION, "auto") else ()), *map(Path, section.pairs)),
            options=section,
        )

    def check(self) -> None:
        """Refuses what a later step would, before the first one writes: options, paths, outputs, models, data."""
        recipe = self.recipe
        if (processes := count_processes()) > 1:
            raise ConfigurationError(
                f"{processes} processes were started, and a recipe is run by one; run it without torchrun, or share "
                "its training alone: torchrun --nproc-per-node N -m dino_st train-contrastive (or train)"
            )
        check_tracker(recipe.train)
        given = replace(self.evaluation, pairs=tuple(map(Path, recipe.evaluate.pairs)))
        check_files(given)
        for file in (*((recipe.input,) if recipe.input not in (None, "-") else ()), *recipe.evaluate.pairs):
            named_files(str(file))
        for name in (self.model if recipe.backend == "local" else "", self.encoder):
            is_path = name.startswith((".", "/", "~")) or name.count("/") > 1
            if is_path and not Path(name).expanduser().exists():
                meant = similar_path(name) or "; expected a model, or a name on the hub"
                raise ModelError(f"{name}: there is no such directory{meant}")
        self._check_outputs()
        self._check_what_is_written()
        if recipe.train.device not in ("auto", "cpu"):
            from dino_st.training.trainer import use_cpu

            use_cpu(recipe.train.device)
        check_evaluation(given)
        encoder_files(self.encoder)
        if isinstance(recipe.train, ContrastiveOptions) and recipe.train.mlm_weight:
            from dino_st.training.heads import masked_language_model

            masked_language_model(self.encoder, "meta")

    def _check_what_is_written(self) -> None:
        """Checks that the task and its options write what the other steps need."""
        recipe = self.recipe
        if recipe.is_syncse:
            return
        spec = TaskSpec.load(recipe.task)
        if not spec.has_scores:
            raise ConfigurationError(
                f"task {recipe.task!r} writes no pairs with numbers as labels, which training needs; take another "
                "task, or write its texts with `dino-st generate`"
            )
        generation = recipe.generate.generation if isinstance(recipe.generate, WritingOptions) else GenerationOptions()
        names = raw_schema(spec, score_labels=generation.score_labels).names
        for section, options in (("prepare", recipe.prepare), ("pairs", recipe.pairs)):
            if isinstance(options, PreparationOptions):
                from dino_st.preparation.rows import check_columns

                try:
                    check_columns(names, options)
                except DatasetError as error:
                    advice = "; in a recipe generate.score_labels=true" if repr(LOG_PROBS) in str(error) else ""
                    raise ConfigurationError(f"{section}: {error}{advice}") from None

    def _check_outputs(self) -> None:
        """Checks that nothing else stands where the steps will write."""
        from dino_st.preparation.directory import check_output
        from dino_st.training.record import read_record

        check_can_become_directory(self.directory)
        check_output(self.directory / "prepared")
        check_output(self.directory / "prepared-pairs")
        read_record(self.directory / "model")
        earlier_scores(self.directory / "scores")

    def generate(self) -> GenerationOutcome:
        """Writes x1 from scratch where the recipe says so; then pairs, or triplets."""
        recipe, source, options = self.recipe, self.recipe.input, self.recipe.generate
        if recipe.sentences is not None and source is None:
            self.report(f"1/4 writing {recipe.sentences.num} sentences from scratch")
            source = str(self.directory / "sentences")
            work = Generation(recipe.sentences.task, num=recipe.sentences.num, options=recipe.scratch_options())
            work = replace(work, overwrite=self.overwrite)
            generate_data(work, self.model, Path(source))
        kind = "triplets" if recipe.is_syncse else "pairs"
        self.report(f"1/4 generating {kind}")
        if not isinstance(options, WritingOptions):
            options = options | {"backend": recipe.backend, "base_url": recipe.base_url}
        work = Generation(recipe.task, source, recipe.column, recipe.limit, recipe.num, options, self.overwrite)
        outcome = generate_data(work, self.model, self.directory / "raw")
        done = f"{outcome.seconds:.0f} s" if outcome.new_rows else "done before"
        self.report(f"    {outcome.counts['rows']} {kind} ({done})")
        return outcome

    def prepare(self) -> None:
        """Prepares pairs, or triplets and the pairs that a validation task scores."""
        self.report("2/4 preparing")
        raw, prepared, options = self.directory / "raw", self.directory / "prepared", self.recipe.prepare
        if isinstance(options, PreparationOptions):
            prepare_data(raw, prepared, options, overwrite=self.overwrite)
            return
        held_out = prepare_triplet_data(raw, prepared, options, overwrite=self.overwrite)[0]["validation"]
        if len(held_out):
            from dino_st.preparation.triplets import to_pairs

            write_jsonl(to_pairs(held_out), self.directory / VALIDATION_TRIPLET_PAIRS)
        if self.recipe.pairs is not None:
            prepare_data(raw, self.directory / "prepared-pairs", self.recipe.pairs, overwrite=self.overwrite)

    def train(self) -> None:
        """Trains on what was prepared."""
        self.report("3/4 training")
        prepared, trained, options = self.directory / "prepared", self.directory / "model", self.recipe.train
        if isinstance(options, ContrastiveOptions):
            if self.recipe.encoder is None:  # a language model's first token sees nothing of the sentence
                options = ContrastiveOptions.of(options, pooling="mean")
            pairs = None if self.recipe.pairs is None else self.directory / "prepared-pairs"
            sts_dir = named_sts_dir(self.recipe.evaluate.sts_dir)
            summary = train_contrastive_model(
                prepared, self.encoder, trained, options, pairs=pairs, sts_dir=sts_dir, overwrite=self.overwrite
            )
        else:
            summary = train_model(prepared, self.encoder, trained, options, overwrite=self.overwrite)
        self.report(f"    {summary}")

    def untrained(self) -> str:
        """What training started from, for which the first layers of a model, or one without its mask, are saved."""
        options = self.recipe.train
        if options.layers is None and not options.bidirectional:
            return self.encoder
        from dino_st.encoders.loading import load_trainable_encoder

        shape = options.model_dump(include={"layers", "pooling", "bidirectional"})
        place = str(self.directory / "untrained")
        load_trainable_encoder(self.encoder, device="cpu", **shape).save_pretrained(place)
        return place

    def evaluate(self) -> ScoreTable:
        """Scores the encoder before and after training."""
        self.report("4/4 evaluating")
        models = {"untrained": self.untrained(), "trained": str(self.directory / "model")}
        replaces = self.overwrite or self.overwrite_scores
        return evaluate_models(models, self.evaluation, self.directory / "scores", overwrite=replaces)
