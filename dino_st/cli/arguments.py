"""Command-line arguments made from the option models, and help texts in which no name is ever cut off."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import shutil
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

Models = type | tuple[type, Iterable[str]]
"""A model of options (pydantic or dataclass), or one with the names of those options of it that are meant."""

_WIDEST, _NARROWEST, _TWO_COLUMNS, _WIDEST_NAME = 80, 30, 60, 30
"""Characters of help: of a line on the widest and the narrowest terminal, of one with two columns, of the first."""


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


def sign(wrapper: Callable[..., None], parameters: Iterable[inspect.Parameter]) -> None:
    """Gives a wrapper the parameters that typer reads, by name alone."""
    named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    wrapper.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in named}


def takes(
    *models: Models,
    panels: Mapping[str, str | None] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of models: names, types, defaults, help and bounds all come from their fields.

    The command gets those that stand on the command line as a mapping `given`; the stage validates them, once. An
    option that several models have is taken from the first. `panels` names the group in `--help` that begins at an
    option, None going back to the main group; `more` holds what only the command line has, by the option's name:
    `names` (other spellings), `default` (words for what happens without it), `metavar`.
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
            command(**values, given={name: value for name, value in typed.items() if value is not None and value != []})

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [parameter for parameter in own if parameter.name != "given"]
        panel = None
        for option in declared.values():
            panel = (panels or {}).get(option.name, panel)
            parameters.append(_parameter(option, panel, **(more or {}).get(option.name, {})))
        sign(wrapper, parameters)
        return wrapper

    return decorate


class Spelling:
    """How the options of a command are spelled on the command line, for messages of stages, which say keywords.

    An option is known in a message by how it stands there (`option 'seed'`, `seed=7`, `seed was 1`), and one whose name
    has an underscore, be it of another command, wherever it stands alone; recipes have such names themselves. A call,
    and a text in typographic quotation marks, is left as it is.
    """

    _everywhere: ClassVar[dict[str, str]] = {}

    def __init__(self, command: Callable[..., Any]) -> None:
        self._flags: dict[str, str] = {}
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
            for info in getattr(parameter.annotation, "__metadata__", ()):
                if isinstance(info, OptionInfo):
                    spellings = map(str, (info.default, *(info.param_decls or ())))
                    long = next((one for one in spellings if one.startswith("--")), "--" + name.replace("_", "-"))
                    self._flags[name] = long.partition("/")[0]
        self._everywhere.update({name: flag for name, flag in self._flags.items() if "_" in name})
        self._is_for_recipes = "recipe" in inspect.signature(command).parameters

    def as_typed(self, message: str) -> str:
        """A message of a stage with options as the command line spells them."""
        if not self._flags:
            return message
        flags = self._flags if self._is_for_recipes else self._everywhere | self._flags
        names = "|".join(sorted(flags, key=len, reverse=True))
        alone = "(?!)" if self._is_for_recipes else "|".join(sorted(self._everywhere, key=len, reverse=True))
        pattern = re.compile(
            r"(?P<verbatim>\w\((?:[^()]|\([^()]*\))*\)|“[^”]*”)|"
            rf"\boption '(?P<option>{names})'|(?<![\w./'\"-])(?:(?P<set>{names})=(?P<value>'[^']*'|[\w.…-]*[\w…])"
            rf"|(?P<was>{names})(?= was | = )|(?P<alone>{alone})(?![\w/'\"=-]|\.\w))",
            re.MULTILINE,
        )

        def spelled(found: re.Match[str]) -> str:
            if found["verbatim"]:
                return found[0]
            flag, value = flags[found["option"] or found["set"] or found["was"] or found["alone"]], found["value"]
            if value in (None, "True"):
                return flag
            return f"--no-{flag[2:]}" if value == "False" else f"{flag} {value.strip(chr(39))}"

        return pattern.sub(spelled, message)


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
    values: Sequence[str] = get_args(kind) if get_origin(kind) is Literal else ()
    is_value = re.split(r"\W", text, maxsplit=1)[0] in ("auto", *values)
    sentence = (text if is_value else text[:1].upper() + text[1:]) + "."
    parser = None
    if values:
        metavar, kind = f"[{'|'.join(values)}]", str
    elif get_origin(kind) is tuple:
        element = get_args(kind)[0]
        name = names[0] if names else f"--{option.name.replace('_', '-')}"
        parser = functools.partial(_one_of_several, element, name) if element in (int, float) else None
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
        parser=functools.partial(_number_or_none, kind) if is_number else parser,
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


def _one_of_several(kind: type, name: str, text: str) -> Any:
    """Reads one of the numbers of an option that may be given several times."""
    try:
        return kind(text)
    except ValueError:
        several = re.split(r"[,;\s]+", text.strip(" ,;[]()"))
        how = " ".join(f"{name} {one}" for one in (several if len(several) > 1 else ("0", "1")))
        raise typer.BadParameter(f"{text!r} is no number; give the option once for each number: {how}") from None


def _number_or_none(kind: type, text: str) -> Any:
    """Reads a number, or the word `none` for None, which the models of options know."""
    try:
        return text if text == "none" else kind(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a valid {kind.__name__}, nor none") from None


class _Plain:
    """Help as wide as the terminal, down to 40 columns, that breaks lines at spaces and breaks no name."""

    def get_help(self, ctx: Any) -> str:
        """The whole help."""
        formatter = ctx.make_formatter()
        formatter.width = max(min(shutil.get_terminal_size().columns, _WIDEST) - 2, _NARROWEST)
        self.format_help(ctx, formatter)  # type: ignore[attr-defined]  # of the command that this is mixed into
        return str(formatter.getvalue()).rstrip("\n")

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Writes the first line."""
        pieces = [ctx.command_path, *self.collect_usage_pieces(ctx)]  # type: ignore[attr-defined]
        _write_beside(formatter, "Usage: ", " ".join(pieces))

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 (click passes it)
        """Writes what the command does."""
        text = inspect.cleandoc(self.help or "").partition("\f")[0]  # type: ignore[attr-defined]
        with formatter.indentation():
            for paragraph in filter(None, text.split("\n\n")):
                formatter.write("\n")
                _write_beside(formatter, " " * formatter.current_indent, paragraph)


class PlainCommand(_Plain, TyperCommand):
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
                _write_rows(formatter, rows)


def _write_rows(formatter: Any, rows: Sequence[tuple[str, str]]) -> None:
    """Writes names and what they mean, side by side where the terminal is wide enough."""
    indent, is_wide = " " * formatter.current_indent, formatter.width >= _TWO_COLUMNS
    first = min(max(len(name) for name, _ in rows), _WIDEST_NAME) + 2 if is_wide else 4
    for name, text in rows:
        line = ""
        for piece in re.findall(r"[^\s|]*\|?[^\S]*", name):  # a list of values may be broken behind a bar
            if line.strip() and len(indent + line + piece.rstrip()) > formatter.width:
                formatter.write(f"{indent}{line.rstrip()}\n")
                line = "    "
            line += piece
        if is_wide and len(line) <= first - 2 and line.strip() == name:
            with_text = f"{indent}{line:<{first}}"
            _write_beside(formatter, with_text, text)
        else:
            formatter.write(f"{indent}{line.rstrip()}\n")
            _write_beside(formatter, " " * (len(indent) + first), text)


def _write_beside(formatter: Any, start: str, text: str) -> None:
    """Writes text behind what stands on its first line, and below that on the others."""
    width = max(formatter.width - len(start), 10)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    formatter.write(
        "\n".join(f"{start if i == 0 else ' ' * len(start)}{line}".rstrip() for i, line in enumerate(lines))
    )
    formatter.write("\n")


class PlainGroup(_Plain, TyperGroup):
    """The commands with whole sentences about them; `--debug` is taken anywhere, before or after the command."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes a line or more about each command."""
        rows = [(name, (self.commands[name].help or "").partition("\n\n")[0]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            _write_rows(formatter, rows)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Takes `--debug` out of the arguments, except of those that are passed on to mteb."""
        passed_on = args.index("mteb") if "mteb" in args[:2] else len(args)
        if "--debug" in args[:passed_on]:
            os.environ["DINO_ST_DEBUG"] = "1"
            args = [arg for place, arg in enumerate(args) if arg != "--debug" or place > passed_on]
        return super().parse_args(ctx, args)
