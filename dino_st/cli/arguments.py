"""Command-line arguments made from the option models, and help texts in which no name is ever cut off."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from dino_st.errors import DinoError

Models = type | tuple[type, Iterable[str]]
"""A model of options (pydantic or dataclass), or one with the names of those options of it that are meant."""


@dataclass(frozen=True)
class _Option:
    """One option, as its model declares it."""

    name: str
    annotation: Any
    default: Any
    description: str
    bounds: Mapping[str, float]


def completes(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What the shell completes an option with: names, which are asked for only then."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def takes(
    *models: Models,
    panels: Mapping[str, str | None] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of models: names, types, defaults, help and bounds all come from their fields.

    The command gets those that stand on the command line as a mapping `given`; the stage validates them, once.

    Args:
        *models: The models. An option that several of them have is taken from the first.
        panels: The group in `--help` that begins at an option, by its name; None goes back to the main group.
        more: What only the command line has, by the option's name: `names` (other spellings), `default` (words for
            what happens without it), `metavar`.

    Returns:
        A decorator for commands that have a parameter `given`.
    """
    declared: dict[str, _Option] = {}
    for model in models:
        for option in _declared(model):
            first = declared.setdefault(option.name, option)
            if type(None) in get_args(option.annotation):  # then none may be given, wherever the option goes
                declared[option.name] = dataclasses.replace(first, annotation=first.annotation | None)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(**values: Any) -> None:
            typed = {name: values.pop(name) for name in declared}
            given = {name: value for name, value in typed.items() if value is not None and value != []}
            try:
                command(**values, given=given)
            except DinoError as error:  # as it was typed
                error.args = tuple(_as_typed(part, flags) if isinstance(part, str) else part for part in error.args)
                raise

        flags = {name: ((more or {}).get(name, {}).get("names") or [_flag(name)])[0] for name in declared}
        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [parameter for parameter in own if parameter.name != "given"]
        panel = None
        for option in declared.values():
            panel = (panels or {}).get(option.name, panel)
            parameters.append(_parameter(option, panel, **(more or {}).get(option.name, {})))
        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _as_typed(message: str, flags: Mapping[str, str]) -> str:
    """A message of a stage with options as the command line spells them."""
    pattern = re.compile(r"\boption '(\w+)'|^(\w+)(?= = )")
    return pattern.sub(lambda found: flags.get(found[1] or found[2], found[0]), message)


def _declared(model: Models) -> Iterator[_Option]:
    """The options of a model in the order of their declaration."""
    kind, only = model if isinstance(model, tuple) else (model, None)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        found = [
            _Option(f.name, hints[f.name], f.default, f.metadata["description"], f.metadata)
            for f in dataclasses.fields(kind)
        ]
    else:
        found = []
        for name, field in kind.model_fields.items():  # type: ignore[attr-defined]  # a pydantic model then
            bounds = {
                key: getattr(rule, key)
                for rule in field.metadata
                for key in ("ge", "gt", "le", "lt")
                if hasattr(rule, key)
            }
            found.append(_Option(name, field.annotation, field.default, field.description or "", bounds))
    wanted = None if only is None else set(only)
    yield from (option for option in found if wanted is None or option.name in wanted)


def _parameter(
    option: _Option,
    panel: str | None,
    *,
    names: Sequence[str] = (),
    default: str | None = None,
    metavar: str | None = None,
) -> inspect.Parameter:
    """A parameter of a command that is None unless it was given; its range is left to the model."""
    kind = option.annotation
    if get_origin(kind) in (Union, types.UnionType):
        alternatives = [part for part in get_args(kind) if part is not type(None)]
        kind = alternatives[0] if len(alternatives) == 1 else str
    text = option.description
    values: Sequence[str] = ()
    sentence = (text if text.startswith("auto") else text[:1].upper() + text[1:]) + "."
    if get_origin(kind) is Literal:
        values = get_args(kind)
        metavar, kind = f"[{'|'.join(values)}]", str
    elif get_origin(kind) is tuple:
        element = get_args(kind)[0]
        metavar, kind = f"<{element.__name__}>", list[element]  # type: ignore[valid-type]  # for typer, not for mypy
        sentence += " May be given several times."
    default = default or _words(option.default)
    facts = "; ".join(fact for fact in (default and f"default: {default}", _range(option.bounds)) if fact)
    is_number = kind in (int, float) and type(None) in get_args(option.annotation)
    metavar = metavar or (f"<{kind.__name__}|none>" if is_number else None)
    given = typer.Option(
        *names,
        help=f"{sentence}  [{facts}]" if facts else sentence,
        metavar=metavar,
        parser=functools.partial(_number_or_none, kind) if is_number else None,
        rich_help_panel=panel,
        show_default=False,
        autocompletion=completes(lambda: values) if values else None,
    )
    annotation = Annotated[kind | None, given]  # type: ignore[valid-type]  # for typer, not for mypy
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _words(default: Any) -> str:
    """A default for people; nothing where it says nothing."""
    if isinstance(default, bool):
        return "on" if default else ""
    if isinstance(default, tuple):
        return " ".join(format(value, "g") for value in default)
    if isinstance(default, float):
        return format(default, "g")
    return "" if default is None else str(default)


def _range(bounds: Mapping[str, float]) -> str:
    words = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
    found = " and ".join(f"{word} {bounds[name]:g}" for name, word in words if name in bounds)
    return found.replace("at least 0 and at most", "0 to")


def _number_or_none(kind: type, text: str) -> Any:
    """Reads a number, or the word `none` for None, which the models of options know."""
    try:
        return text if text == "none" else kind(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a valid {kind.__name__}, nor none") from None


class PlainCommand(TyperCommand):
    """A command whose help shows every name whole, by groups of options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, and the options by group."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                main = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or main, []).append(record)
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class PlainGroup(TyperGroup):
    """The commands with whole sentences about them; `--debug` is taken anywhere, before or after the command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes a line or more about each command."""
        rows = [(name, (self.commands[name].help or "").partition("\n\n")[0]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes `--debug` out of the arguments, except of those that are passed on to mteb."""
        passed_on = args.index("mteb") if "mteb" in args[:2] else len(args)
        if "--debug" in args[:passed_on]:
            os.environ["DINO_ST_DEBUG"] = "1"
            args = [arg for place, arg in enumerate(args) if arg != "--debug" or place > passed_on]
        return super().parse_args(ctx, args)
