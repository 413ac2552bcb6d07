"""The base of option models, and the one wording of whatever pydantic refuses, in options and in files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dino_st.errors import ConfigurationError, suggest

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping of names to values",
    "model": "a mapping of names to values",
}
"""What pydantic expects, by the beginning of the type of its error, in words of those who write options and files."""

DTYPES = ("float32", "float64", "bfloat16", "float16")
"""Number types in which a local model computes."""
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|xla|hpu|npu|mtia|meta|privateuseone)(:\d+)?")
"""Kinds of devices that torch or one of its extensions computes on."""
_YAML_HINT = "YAML reads yes, no, on and off without quotation marks as true or false"


def option(default: Any, description: str, **bounds: Any) -> Any:
    """A field of an option model, with its help and its bounds (`ge`, `gt`, `le`, `lt`, `min_length`)."""
    return Field(default, description=description, **bounds)


def device_name(name: str) -> str:
    """A device's name if torch may know one of that kind, before torch is there to say; else a ConfigurationError."""
    if name != "auto" and not _DEVICE.fullmatch(name):
        raise ConfigurationError(unusable_device(name, "torch knows no such device"))
    return name


def unusable_device(name: str, reason: str) -> str:
    """Says in an error's words why a device cannot be used, and which names there are."""
    return f"device {name!r} cannot be used here ({reason}); use auto, cpu, cuda, cuda:1, … or mps"


def dtype_name(name: str) -> str:
    """The name of a number type, or `auto`; of another name a ConfigurationError."""
    if name not in ("auto", *DTYPES):
        raise ConfigurationError(f"dtype {name!r} is unknown; {suggest(name, ['auto', *DTYPES])}")
    return name


DeviceName = Annotated[str, AfterValidator(device_name)]
DtypeName = Annotated[str, AfterValidator(dtype_name)]
"""Fields of options that hold the name of a device, or of a number type."""


class NumbersAreNoAnswers(BaseModel):
    """A model in which true and false, as which YAML reads yes, no, on and off, are not taken for the numbers 1 and 0.

    Where an option may be the word `on` or `off`, they are these words.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any, info: ValidationInfo) -> Any:
        return _truth_as_text(value, _kinds_of(cls.model_fields[str(info.field_name)].annotation))


def _kinds_of(annotation: Any) -> set[Any]:
    """The types and literal values that an annotation is made of."""
    parts = get_args(annotation)
    return set().union(*map(_kinds_of, parts)) if parts else {annotation}


def _truth_as_text(value: Any, kinds: set[Any]) -> Any:
    """True and false as texts, alone and in lists, where on or off, or a number and no truth, may stand."""
    if isinstance(value, list | tuple):
        return [_truth_as_text(item, kinds) for item in value]
    if not isinstance(value, bool) or bool in kinds:
        return value
    if {"on", "off"} <= kinds:
        return "on" if value else "off"
    return str(value).lower() if kinds & {int, float} else value


class FrozenOptions(NumbersAreNoAnswers):
    """Options of one stage. Name, type, default, bounds and help of each stand in its field, and nowhere else.

    The command line (`dino_st.cli.arguments`), recipe files and Python functions all take them from there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _none_in_words(cls, values: Any) -> Any:
        """Takes `none` for None where numbers are expected, as the command line gives it."""
        if not isinstance(values, dict):  # options that are made already
            return values
        kinds = {name: get_args(field.annotation) for name, field in cls.model_fields.items()}
        named = [name for name in values if values[name] == "none" and name in kinds]
        empty = [name for name in named if type(None) in kinds[name] and str not in kinds[name]]
        return values | dict.fromkeys(empty) if empty else values

    @classmethod
    def take_from(cls, given: dict[str, Any], options: Self | None = None) -> Self:
        """Takes these options out of others that are given along with them; see `of`."""
        return cls.of(options, **{name: given.pop(name) for name in cls.model_fields if name in given})

    @classmethod
    def of(cls, options: Self | None = None, /, **changes: Any) -> Self:
        """Builds options from keyword arguments, or from others and what differs from them.

        A ConfigurationError names every option that is unknown, of the wrong type or out of range, with what was given
        and what is expected.
        """
        if options is not None:
            if not isinstance(options, cls):
                raise ConfigurationError(f"options: given {type(options).__name__}, expected {cls.__name__}")
            if not changes:
                return options
            changes = {name: getattr(options, name) for name in options.model_fields_set} | changes
        try:
            return cls(**changes)
        except ValidationError as error:
            raise ConfigurationError("; ".join(explain(error, cls, noun="option"))) from error


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the values of options, in words: `seed was 1, now 2`."""
    names = [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]
    return [f"{name} was {_brief(before.get(name))}, now {_brief(now.get(name))}" for name in names]


def are_others(what: str, before: Any, now: Any) -> str:
    """Says that what a run reads are other rows than those of an earlier one, of so many before and now."""
    counts = f"were {before}, now {now}" if before != now else f"{now} as before, of other content or in another order"
    return f"the {what} are others ({counts})"


def _brief(value: Any) -> str:
    text = "none" if value is None else repr(value)
    longest = 160 if isinstance(value, str) else 60  # paths differ at their end
    return text if len(text) <= longest else text[: longest - 3] + "…"


def explain(error: ValidationError, model: Any, *, noun: str = "field") -> list[str]:
    """Words what pydantic refused, a line each: where, what was given, what is expected, and the nearest legal name.

    The model, or union of models, is the one that was asked for; `noun` is `option` for keyword arguments, `field` for
    what stands in a file.
    """
    lines, of_whole = [], [name for kind in _models_in(model) for name in kind.model_fields]
    for problem in error.errors():
        where, legal = _place(model, problem["loc"])
        message, given = problem["msg"].removeprefix("Value error, "), problem["input"]
        kind, _, rest = problem["type"].partition("_")
        if kind in _EXPECTED and rest in ("type", "parsing", "from_float"):
            message = f"Input should be {_EXPECTED[kind]}"
        name = str(problem["loc"][-1]) if problem["loc"] else ""
        if problem["type"] == "literal_error" and isinstance(given, str):
            nearest, is_near, _ = suggest(given, re.findall(r"'([^']*)'", message)).partition("? ")
            message += f"; {nearest}?" if is_near else ""
        hint = f" ({_YAML_HINT})" if given in ("true", "false") or isinstance(given, bool) else ""
        if problem["type"] == "extra_forbidden":
            unknown = f"there is no option {name!r}: " if noun == "option" else f"{where}: unknown field; "
            nearest = suggest(name, legal)
            is_of_whole = len(problem["loc"]) > 1 and name in of_whole and not nearest.startswith("did you mean")
            lines.append(
                f"{name!r} stands beside {problem['loc'][0]!r}, not in it" if is_of_whole else unknown + nearest
            )
        elif problem["type"] == "missing":
            lines.append(f"{where}: this {noun} is missing")
        elif noun == "option" and isinstance(problem.get("ctx", {}).get("error"), ConfigurationError):
            lines.append(message)  # which has the option's name and what it was
        elif noun == "option":
            expected = f"expected {message.removeprefix('Input should be ')}{hint}"
            lines.append(f"option {where!r} is {given!r}; {expected}" if where else expected)
        else:
            message = message if problem["type"] == "value_error" else f"{message}; given: {given!r:.80}{hint}"
            lines.append(f"{where}: {message}" if where else message)
    return lines


def _place(model: Any, place: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """A place in what is to become a model, in words, and the names of the fields that may stand there."""
    models, legal, words = _models_in(model), [], []
    for number, part in enumerate(place, start=1):
        legal = [name for kind in models for name in kind.model_fields]
        is_key = isinstance(part, str) and part not in legal and number < len(place)
        words.append(repr(part) if is_key else str(part))
        inner = [kind.model_fields[str(part)].annotation for kind in models if part in kind.model_fields]
        models = [found for annotation in inner for found in _models_in(annotation)] or models
    return " → ".join(words), legal


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
