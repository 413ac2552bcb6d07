"""Specifications of SynCSE: what a chat model is asked for, as YAML that people edit.

SynCSE-partial (Zhang, Lan and He 2023, arXiv 2305.15077) has a model write a positive and a hard negative for each
sentence, by an instruction drawn from a pool, with examples from another; SynCSE-scratch has it write the sentences
first. The shipped specifications, `specs/syncse-*.yaml`, are in words of our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from dino_st.errors import ConfigurationError, TaskSpecError, suggest
from dino_st.support.options import NumbersAreNoAnswers, explain
from dino_st.tasks.spec import PLACEHOLDER, SHIPPED, builtin_tasks, check_number, read_spec

_SUFFIXES = (".yaml", ".yml")

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class _Model(NumbersAreNoAnswers):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Instruction(_Model):
    """One way to ask, and its id, which triplets record."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    text: Text


class Example(_Model):
    """A sentence with a good positive and a good hard negative, to show to a model."""

    sentence: Text
    positive: Text
    negative: Text


class Completions(_Model):
    """Raw text that a model without a chat template goes on with; each ends in an opening quotation mark."""

    positive: str
    negative: str

    @field_validator("positive", "negative")
    @classmethod
    def _takes_a_sentence(cls, value: str) -> str:
        return _completion(_with_placeholders(value, PLACEHOLDER))


class PartialSpec(_Model):
    """What positives and hard negatives are asked for with."""

    kind: Literal["syncse-partial"]
    task_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]  # in manifests and cards
    system: str = ""  # the system turn; none if empty
    prompt: str  # the user's turn, with `<INSTRUCTION>`, `<EXAMPLES>` and `<X1>`
    example: str  # how one is written, with `<X1>` and `<ANSWER>`
    positive: Annotated[tuple[Instruction, ...], Field(min_length=1)]
    negative: Annotated[tuple[Instruction, ...], Field(min_length=1)]
    examples: tuple[Example, ...] = ()  # the pool
    examples_per_request: Annotated[int, Field(ge=0)] = 3  # how many of them are shown
    completion: Completions  # for models without a chat template

    @field_validator("prompt")
    @classmethod
    def _takes_instruction_and_sentence(cls, value: str) -> str:
        return _with_placeholders(value, "<INSTRUCTION>", PLACEHOLDER)

    @field_validator("example")
    @classmethod
    def _takes_sentence_and_answer(cls, value: str) -> str:
        return _with_placeholders(value, PLACEHOLDER, "<ANSWER>")

    @field_validator("positive", "negative")
    @classmethod
    def _distinct_ids(cls, value: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
        _distinct([instruction.id for instruction in value], "id")
        return value

    @model_validator(mode="after")
    def _enough_examples(self) -> PartialSpec:
        if self.examples_per_request > len(self.examples):
            raise ValueError(
                f"examples_per_request: given {self.examples_per_request}, while examples holds {len(self.examples)}; "
                "expected at most as many as there are"
            )
        if self.examples_per_request and "<EXAMPLES>" not in self.prompt:
            raise ValueError("prompt: lacks <EXAMPLES>, where the examples go; or set examples_per_request to 0")
        return self

    @property
    def prompt_labels(self) -> tuple[str, ...]:
        """What stands before sentences and answers in an example, such as `Given:`; models like to repeat it."""
        before = (self.example.partition(placeholder)[0] for placeholder in (PLACEHOLDER, "<ANSWER>"))
        return tuple(text.rpartition("\n")[2].strip() for text in before)

    @property
    def wording(self) -> str:
        """All that a model may be told, but the examples."""
        return "\n".join([self.system, self.prompt, *(one.text for one in (*self.positive, *self.negative))])

    def instructions(self, role: str) -> tuple[Instruction, ...]:
        """The pool of a role, `positive` or `negative`."""
        return self.positive if role == "positive" else self.negative


class ScratchSpec(_Model):
    """What sentences are asked for with."""

    kind: Literal["syncse-scratch"]
    task_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]  # in manifests and cards
    triplets: PartialSpec  # in YAML its name, or a file beside this one
    sentences_per_request: Annotated[int, Field(ge=1, le=100)] = 10  # asked of a server at once
    system: str = ""  # the system turn; none if empty
    several: str  # the user's turn for several sentences, with `<NUMBER>`, `<GENRE>`, `<TOPIC>` and `<STYLE>`
    one: str  # the user's turn for one sentence, with the last three of these
    genres: Annotated[tuple[Text, ...], Field(min_length=1)]  # where a sentence might stand
    topics: Annotated[tuple[Text, ...], Field(min_length=1)]  # what it might be about
    styles: Annotated[tuple[Text, ...], Field(min_length=1)]  # how it might be worded
    completion: Annotated[tuple[str, ...], Field(min_length=1)]  # raw texts, each ending in an opening quotation mark

    @field_validator("several")
    @classmethod
    def _takes_a_number(cls, value: str) -> str:
        return _with_placeholders(value, "<NUMBER>", "<GENRE>", "<TOPIC>", "<STYLE>")

    @field_validator("one")
    @classmethod
    def _takes_a_combination(cls, value: str) -> str:
        return _with_placeholders(value, "<GENRE>", "<TOPIC>", "<STYLE>")

    @field_validator("genres", "topics", "styles")
    @classmethod
    def _distinct_entries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _distinct(value, "entry")
        return value

    @field_validator("completion")
    @classmethod
    def _open_quotations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_completion(text) for text in value)


SynCSESpec = PartialSpec | ScratchSpec
_KINDS: dict[str, type[PartialSpec] | type[ScratchSpec]] = {
    "syncse-partial": PartialSpec,
    "syncse-scratch": ScratchSpec,
}


def syncse_tasks() -> list[str]:
    """Names of the shipped specifications, sorted."""
    return builtin_tasks(".yaml")


def is_syncse_task(task: Any) -> bool:
    """Whether a task is one of SynCSE and not of DINO: by its name, or by the `kind` that its file begins with."""
    if isinstance(task, PartialSpec | ScratchSpec):
        return True
    if isinstance(task, Mapping):
        return "kind" in task
    if not isinstance(task, str | Path) or str(task) in syncse_tasks():
        return isinstance(task, str | Path)
    path = Path(task)
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return str(task).startswith("syncse")
    try:
        content = read_spec(path)
    except TaskSpecError:
        return False  # whoever reads it as a task says what is wrong
    return isinstance(content, dict) and "kind" in content


def check_arguments(spec: SynCSESpec, *, has_sentences: bool, num: int | None) -> None:
    """Checks that a specification gets sentences, or the number of those to write, whichever it needs."""
    if isinstance(spec, ScratchSpec):
        if has_sentences or num is None:
            raise ConfigurationError(
                f"task {spec.task_name!r} writes its sentences itself: say how many with --num N, and leave out --input"
            )
        check_number(num)
    elif not has_sentences or num is not None:
        raise ConfigurationError(
            f"task {spec.task_name!r} writes for given sentences: give them with --input FILE, and leave out --num"
        )


def load_syncse_spec(task: str | Path | Mapping[str, Any] | SynCSESpec) -> SynCSESpec:
    """Finds a specification by its name (`syncse-partial`, …) or YAML file, or takes a mapping, or it as it is.

    A TaskSpecError says that there is none, or names file, field, what was given and what was expected.
    """
    if isinstance(task, PartialSpec | ScratchSpec):
        return task
    if isinstance(task, Mapping):
        return _validated(dict(task), "the given mapping", Path())
    if str(task) in syncse_tasks():
        return _validated(read_spec(SHIPPED / f"{task}.yaml"), f"built-in task {task}", Path())
    path = Path(task)
    if path.suffix.lower() not in _SUFFIXES:
        raise TaskSpecError(
            f"there is no SynCSE task {str(task)!r}; {suggest(str(task), syncse_tasks())}, or a .yaml file of your own"
        )
    return _validated(read_spec(path), str(path), path.parent)


def _validated(content: Any, source: str, beside: Path) -> SynCSESpec:
    if not isinstance(content, dict) or content.get("kind") not in _KINDS:
        given = content.get("kind") if isinstance(content, dict) else type(content).__name__
        raise TaskSpecError(f"{source}: field 'kind': given {given!r}; {suggest(str(given), _KINDS)}")
    nested = content.get("triplets")
    if content["kind"] == "syncse-scratch" and isinstance(nested, str):
        file = beside / nested
        content = content | {"triplets": load_syncse_spec(file if file.is_file() else nested).model_dump()}
    kind = _KINDS[content["kind"]]
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "\n  ".join(explain(error, kind))
        raise TaskSpecError(f"{source} is not a valid specification:\n  {problems}") from None


def _with_placeholders(text: str, *placeholders: str) -> str:
    for placeholder in placeholders:
        if text.count(placeholder) != 1:
            raise ValueError(
                f"holds {placeholder} {text.count(placeholder)} times; expected it once; given: {text!r:.80}"
            )
    return text


def _completion(text: str) -> str:
    if not text.endswith('"'):
        raise ValueError(f'must end in an opening quotation mark ("); given: …{text[-20:]!r}')
    return text


def _distinct(values: Sequence[str], what: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"the {what} {value!r} stands {values.count(value)} times; expected each once")
