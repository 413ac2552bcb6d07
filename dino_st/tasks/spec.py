"""Task specifications: which labels there are, and the instruction that makes a language model write for each.

The format is that of the published DINO code (arXiv 2104.07540, section 3), so its files work unchanged; the same
structure may be written as YAML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_serializer, model_validator

from dino_st.errors import ConfigurationError, TaskSpecError, suggest
from dino_st.support.documents import read_document
from dino_st.support.files import similar_path
from dino_st.support.options import explain
from dino_st.support.progress import logger

MOST_TEXTS = 100_000_000
"""Texts that one run from scratch may be asked for: weeks of work on any machine, and still countable in memory."""

PLACEHOLDER = "<X1>"
"""Stands in an instruction where x1 goes."""

SHIPPED = resources.files("dino_st.tasks") / "specs"
"""The specifications that come with the package."""

_SUFFIXES = (".json", ".yaml", ".yml")
_ESCAPED = re.compile(r"\\n(?![a-z])")
"""A line break that was not read as one; what goes on in small letters may be a command of LaTeX."""

OPENED_BY = {'"': '"', "”": "“„”", "“": "„", "»": "«", "«": "»", "」": "「", "』": "『"}
"""Closing quotation marks, and the marks that open a quotation which they close."""


class LabelSpec(BaseModel):
    """One label: the instruction to write for it, and the labels its text must not fit.

    Attributes:
        instruction: The prompt up to and including the opening quotation mark of the text to write, where it has one;
            or several such prompts, over which the draws are spread.
        counter_labels: Labels whose instructions act as counter-prompts in self-debiasing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: str | tuple[str, ...]
    counter_labels: tuple[str, ...] = ()

    @property
    def instructions(self) -> tuple[str, ...]:
        """All phrasings of the instruction, at least one."""
        return (self.instruction,) if isinstance(self.instruction, str) else self.instruction

    def phrasing(self, number: int) -> str:
        """The phrasing with a number, or the first where there are not so many."""
        return self.instructions[number] if number < len(self.instructions) else self.instructions[0]

    @field_validator("counter_labels", mode="before")
    @classmethod
    def _label_names(cls, value: Any) -> Any:
        return tuple(_label_name(item) for item in value) if isinstance(value, list | tuple) else value

    @field_validator("instruction", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> str | tuple[str, ...]:
        """Checks both types at once, so that what is wrong is said once and not for each of them."""
        phrasings = (value,) if isinstance(value, str) else value
        if not isinstance(phrasings, list | tuple) or not all(isinstance(phrasing, str) for phrasing in phrasings):
            given = repr(value)[:40]
            raise ValueError(f"Input should be a valid string, or a list of strings; given: {given}")
        if not phrasings or len(set(phrasings)) < len(phrasings):
            raise ValueError(
                "holds no phrasing, or one of them twice; expected one instruction, or several different ones"
            )
        for phrasing in phrasings:
            if phrasing.count(PLACEHOLDER) > 1:
                raise ValueError(
                    f"holds the placeholder {PLACEHOLDER} {phrasing.count(PLACEHOLDER)} times; expected it once"
                )
        return value if isinstance(value, str) else tuple(phrasings)


class TaskSpec(BaseModel):
    """The labels of a task and their instructions.

    Example:
        >>> spec = TaskSpec.load("sts-x2")
        >>> spec.labels["0.5"].counter_labels
        ('1',)

    Attributes:
        task_name: Letters, digits, `-`, `_` and `.` only.
        labels: Label name to its specification, in the order in which labels are generated.
        closing_marks: What ends a text: closing quotation marks, or end marks of your own. A quotation mark that closes
            one inside the text ends nothing.
        allow_newlines: Whether the given sentence keeps its line breaks, and a text may have some.
        language: Of the texts, as the hub names it (`de`); it stands in the header of their card.
        about: A remark for people; it decides nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_name: str
    labels: dict[str, LabelSpec]
    closing_marks: tuple[str, ...] = ('"',)
    allow_newlines: bool = False
    language: str | None = None
    about: str = Field("", exclude=True)

    @model_serializer(mode="wrap")
    def _as_before(self, handler: Any) -> dict[str, Any]:
        """Leaves out what is as it always was, so that manifests of tasks that say nothing of it stay the same."""
        changed = {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
        return {name: value for name, value in handler(self).items() if name in changed}

    @field_validator("task_name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
            raise ValueError(f"may hold letters, digits, '-', '_' and '.' only; given: {value!r}")
        return value

    @field_validator("closing_marks")
    @classmethod
    def _marks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value) or not all(mark and mark == mark.strip(" \t") for mark in value):
            raise ValueError(
                f"expected one or several different marks without blanks around them; given: {list(value)}"
            )
        return value

    @field_validator("labels", mode="before")
    @classmethod
    def _named_labels(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        named = {_label_name(label): spec for label, spec in value.items()}
        if len(named) < len(value):
            raise ValueError(f"holds two spellings of one label: {', '.join(repr(label) for label in value)}")
        return named

    @model_validator(mode="after")
    def _labels_fit_together(self) -> TaskSpec:
        if not self.labels:
            raise ValueError("labels: the set of labels is empty; at least one is needed")
        self._check_openings()
        takes_input = {
            label: [PLACEHOLDER in phrasing for phrasing in spec.instructions] for label, spec in self.labels.items()
        }
        if any(map(any, takes_input.values())):
            with_input = [label for label, phrasings in takes_input.items() if all(phrasings)]
            for label in self.labels:
                if label not in with_input:
                    raise ValueError(
                        f"labels → {label!r} → instruction: the placeholder {PLACEHOLDER} is missing, while the "
                        f"instruction of {next(iter(with_input), label)!r} has it; either every instruction has it, or "
                        "none"
                    )
        for label, spec in self.labels.items():
            self._check_counter_labels(label, spec)
        if self.is_numeric and len(set(map(float, self.labels))) < len(self.labels):
            raise ValueError(f"labels: two labels stand for one score: {', '.join(self.labels)}")
        return self

    def _check_openings(self) -> None:
        """Where quotation marks alone end a text, the instruction has to open the quotation."""
        if not all(mark in OPENED_BY for mark in self.closing_marks):
            return
        opening = dict.fromkeys("".join(OPENED_BY[mark] for mark in self.closing_marks))
        for label, spec in self.labels.items():
            for phrasing in spec.instructions:
                if not phrasing.endswith(tuple(opening)):
                    raise ValueError(
                        f"labels → {label!r} → instruction: must end in an opening quotation mark "
                        f"({' or '.join(opening)}), because the next closing mark ({' or '.join(self.closing_marks)}) "
                        f"that the model writes ends its text; given: …{phrasing[-20:]!r}"
                    )

    def _check_counter_labels(self, label: str, spec: LabelSpec) -> None:
        field = f"labels → {label!r} → counter_labels"
        for counter in spec.counter_labels:
            if counter == label:
                raise ValueError(f"{field}: a label cannot be its own counter-label; remove {counter!r}")
            if counter not in self.labels:
                others = [other for other in self.labels if other != label]
                raise ValueError(f"{field}: {counter!r} is not a label of this task; {suggest(counter, others)}")
        if len(set(spec.counter_labels)) < len(spec.counter_labels):
            raise ValueError(f"{field}: a counter-label stands twice in {list(spec.counter_labels)}")

    @property
    def opening_marks(self) -> tuple[str, ...]:
        """The quotation marks that open what a closing mark closes, where the two can be told apart."""
        opening = dict.fromkeys("".join(OPENED_BY.get(mark, "") for mark in self.closing_marks))
        return tuple(mark for mark in opening if mark not in self.closing_marks)

    @property
    def is_numeric(self) -> bool:
        """Whether every label is a finite number, so that it is a score an encoder can be trained on."""
        return all(_is_finite_number(label) for label in self.labels)

    @property
    def needs_input(self) -> bool:
        """Whether the instructions take an x1, so that pairs come out; without one, single texts do."""
        return any(PLACEHOLDER in spec.instructions[0] for spec in self.labels.values())

    @property
    def instructions(self) -> list[str]:
        """All phrasings of all labels."""
        return [phrasing for spec in self.labels.values() for phrasing in spec.instructions]

    @property
    def phrasings(self) -> int:
        """Phrasings of the label that has most of them."""
        return max(len(spec.instructions) for spec in self.labels.values())

    @property
    def has_scores(self) -> bool:
        """Whether generated rows carry a `score`: pairs under numeric labels do, everything else has a `label`."""
        return self.is_numeric and self.needs_input

    @property
    def streams_per_sample(self) -> int:
        """Rows of the model's batch that one sample of every label takes: one a label, one a counter-label."""
        return sum(1 + len(spec.counter_labels) for spec in self.labels.values())

    @classmethod
    def load(cls, task: str | Path | Mapping[str, Any] | TaskSpec) -> TaskSpec:
        """Finds a specification by the name of a built-in one, by file, or takes it as it is.

        Args:
            task: Built-in name (see `builtin_tasks`), path of a JSON or YAML file, parsed mapping, or `TaskSpec`.

        Returns:
            The validated specification.

        Raises:
            TaskSpecError: If there is no such task or its content is malformed; names file, label and field.
        """
        if isinstance(task, TaskSpec):
            return task
        if isinstance(task, Mapping):
            return _validated(dict(task), "the given mapping")
        if not isinstance(task, str | Path):
            raise TaskSpecError(f"task: given {type(task).__name__}; expected a name, a file, a mapping or a TaskSpec")
        path = Path(task)
        if path.suffix.lower() in _SUFFIXES or path.is_file():
            return _validated(read_spec(path), str(path))
        if str(task) not in builtin_tasks():
            raise TaskSpecError(
                f"there is no built-in task {str(task)!r} and no such file; {suggest(str(task), builtin_tasks())}. "
                "A task of your own is a .json or .yaml file; `dino-st tasks` also lists those that write triplets"
            )
        return _validated(read_spec(SHIPPED / f"{task}.json"), f"built-in task {task}")


def builtin_tasks(suffix: str = ".json") -> list[str]:
    """Names of the built-in task specifications, sorted; those of SynCSE are YAML."""
    return sorted(entry.name.removesuffix(suffix) for entry in SHIPPED.iterdir() if entry.name.endswith(suffix))


def _label_name(value: Any) -> Any:
    """YAML reads an unquoted 0.5 as a number; labels are names."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return f"{value:.15g}"


def _is_finite_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _validated(content: Any, source: str) -> TaskSpec:
    if not isinstance(content, Mapping):
        raise TaskSpecError(
            f"{source}: expected an object with 'task_name' and 'labels', given {type(content).__name__}"
        )
    try:
        spec = TaskSpec.model_validate(content)
    except ValidationError as error:
        problems = "\n  ".join(explain(error, TaskSpec))
        raise TaskSpecError(f"{source} is not a valid task specification:\n  {problems}") from error
    labels: dict[tuple[str, ...], str] = {}
    for label, one in spec.labels.items():
        if (other := labels.setdefault(tuple(one.instructions), label)) != label:
            logger.warning(
                "%s: the labels %r and %r have the same instruction, and so the same texts", source, other, label
            )
    return spec


def read_spec(file: Path | Traversable) -> Any:
    """Reads a specification in JSON or YAML, in which no key may stand twice, or raises TaskSpecError."""
    try:
        content = read_document(file, TaskSpecError)
    except FileNotFoundError:
        known = ", ".join(builtin_tasks() + builtin_tasks(".yaml"))
        raise TaskSpecError(
            f"{file}: there is no such task file{similar_path(str(file))}; built-in tasks: {known}"
        ) from None
    if escaped := next((text for text in _texts_in(content) if _ESCAPED.search(text)), None):
        logger.warning(
            "%s: %r holds a line break as two signs, a backslash and an n, and so will the prompt; in YAML, a text of "
            "several lines stands behind |-, or in double quotation marks",
            file,
            escaped[:80],
        )
    return content


def _texts_in(content: Any) -> Iterator[str]:
    """All texts of a document, however deep they stand."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping | list):
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from _texts_in(part)


def check_number(num: int) -> None:
    """Refuses a number of texts that no run can write."""
    if not 1 <= num <= MOST_TEXTS:
        raise ConfigurationError(f"num = {num}: expected a number of texts from 1 to {MOST_TEXTS:,}")
