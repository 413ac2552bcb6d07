"""What the documentation site makes from the package itself; mkdocs runs it as a hook (see mkdocs.yml).

- The reference of Python names, of commands, of options and of recipes is generated, so that none of it goes stale.
- Files of the repository that are no part of `docs/` become pages, and links to them from `docs/` work.
- Blocks of ```math, which GitHub draws, become MathML here.
- A public name without a docstring is an error.
"""

from __future__ import annotations

import html
import importlib
import inspect
import os
import pkgutil
import posixpath
import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import dino_st
import mteb_tasks

ROOT = Path(__file__).parents[1]

IMPORTED = {
    "CHANGELOG.md": "project/changelog.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "dino_st/models/dino-tiny/README.md": "reference/dino-tiny.md",
    "dino_st/models/dino-tiny-encoder/README.md": "reference/dino-tiny-encoder.md",
    "examples/README.md": "examples/index.md",
    "recipes/README.md": "reference/recipes.md",
}
"""Files of the repository, and the pages of the site that they become; each example is one as well."""
IMPORTED |= {
    f"examples/{path.parent.name}/README.md": f"examples/{path.parent.name}.md"
    for path in ROOT.glob("examples/*/README.md")
}

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_FRONT_MATTER = re.compile(r"\A\s*---\n.*?\n---\n", re.DOTALL)


class ExampleSections(griffe.Extension):
    """Lets `Example:` in a docstring be what `Examples:` is to griffe: code, not prose."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Renames the section."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Says how mathematics is drawn, and where the repository is if pyproject.toml knows."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": _math})
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    config.repo_url = config.repo_url or next((urls[name] for name in ("Repository", "Source") if name in urls), None)
    config.repo_name = config.repo_name or (config.repo_url or "").rpartition("/")[2]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    pages = {target: _imported(source, config.repo_url) for source, target in IMPORTED.items()}
    pages["reference/recipes.md"] += _recipe_files()
    pages["reference/python.md"] = _python_reference(dino_st, "Python: dino_st")
    pages["reference/mteb-tasks.md"] = _python_reference(mteb_tasks, "Python: mteb_tasks")
    pages["reference/command-line.md"] = _command_line()
    pages["reference/options.md"] = _options()
    for target, content in pages.items():
        files.append(File.generated(config, target, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Turns links out of `docs/` into links to the pages that these files became, or to the repository."""
    source = page.file.src_uri
    if source in IMPORTED.values():
        return markdown
    return _relink(markdown, f"docs/{source}", source, config.repo_url)


def _math(source: str, *_: Any, **__: Any) -> str:
    """LaTeX as MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    return f'<div class="math">{convert(source, display="block")}</div>'


def _imported(source: str, repository: str | None) -> str:
    """A file of the repository as a page: without front matter, its links turned."""
    text = _FRONT_MATTER.sub("", (ROOT / source).read_text(encoding="utf-8"))
    return _relink(text, source, IMPORTED[source], repository)


def _relink(text: str, source: str, page: str, repository: str | None) -> str:
    """Turns the links of a file that leave `docs/`, or that lead into it from outside.

    Args:
        text: Markdown.
        source: Where the file is in the repository.
        page: The page of the site that it becomes.
        repository: Address of the repository; without one, links to files that are no pages become plain text.
    """

    def turned(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        place, hash_mark, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not place:
            return match[0]
        found = posixpath.normpath(posixpath.join(posixpath.dirname(source), place))
        goal = IMPORTED.get(found) or (found.removeprefix("docs/") if found.startswith("docs/") else None)
        if goal is None:
            return f"[{words}]({repository}/blob/main/{found})" if repository else words
        relative = posixpath.relpath(goal, posixpath.dirname(page) or ".")
        return f"[{words}]({relative}{hash_mark}{anchor})"

    return _LINK.sub(turned, text)


def _recipe_files() -> str:
    """The shipped recipes, each with what its file says."""
    parts = ["\n\n## The files\n"]
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        parts.append(f"### {path.stem}\n\n```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n")
    return "\n".join(parts)


def _python_reference(module: ModuleType, title: str) -> str:
    """A page with every public name of a package, in the order of its `__all__`.

    Raises:
        PluginError: A public name, or a public method of one, has no docstring.
    """
    names = [name for name in module.__all__ if not name.startswith("__")]
    silent = [name for name in names for name in _without_docstring(name, getattr(module, name))]
    if silent:
        raise PluginError(f"{module.__name__}: public names without a docstring: {', '.join(silent)}")
    intro = inspect.cleandoc(module.__doc__ or "").partition("\n")[0]
    return "\n".join([f"# {title}", "", intro, "", *(f"::: {module.__name__}.{name}\n" for name in names)])


def _without_docstring(name: str, thing: Any) -> Iterator[str]:
    """Names of a public thing, and of its own public methods, that say nothing of themselves."""
    if not inspect.getdoc(thing):
        yield name
    if inspect.isclass(thing) and thing.__module__.partition(".")[0] in ("dino_st", "mteb_tasks"):
        for method, value in vars(thing).items():
            is_code = inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
            if is_code and not method.startswith("_") and not inspect.getdoc(getattr(thing, method)):
                yield f"{name}.{method}"


def _command_line() -> str:
    """The commands with their arguments and options, as `--help` has them."""
    import typer.main

    from dino_st.cli.main import app

    group: Any = typer.main.get_command(app)
    own = [*_help_table(group, group.context_class(group, info_name="dino-st"))]
    parts = ["# Command line", "", "Generated from the program; `dino-st COMMAND --help` prints the same.", "", *own]
    for name, command in group.commands.items():
        context = command.context_class(command, info_name=f"dino-st {name}")
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        about = "\n\n".join(_prose(one) for one in inspect.cleandoc(command.help or "").split("\n\n"))
        parts += [f"## {name}", "", f"```text\n{usage}\n```", "", about, "", *_help_table(command, context)]
    return "\n".join(parts)


def _help_table(command: Any, context: Any) -> Iterator[str]:
    """A command's arguments and options in tables, one for each group of `--help`."""
    panels: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or parameter.name == "help":
            continue
        kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
        names, text = record
        text, _, facts = text.partition("  [")
        row = _row(f"`{names.strip()}`", _prose(text), _prose(facts.removesuffix("]")))
        panels.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(row)
    for title, rows in panels.items():
        yield from (f"**{title}**", "", _table(("name", "what it says", "default and range"), rows), "")


def _options() -> str:
    """Every model of options: names, types, defaults, bounds and help, for Python and for recipes."""
    parts = [
        "# Options",
        "",
        "Each option is declared once. The command line writes it with hyphens (`--top-k`), Python and recipe files "
        "with underscores (`top_k`). Generated from the option models.",
        "",
    ]
    for model in _option_models():
        parts += [f"## {model.__name__}", "", inspect.cleandoc(model.__doc__ or ""), "", f"`{model.__module__}`", ""]
        rows = [
            _row(f"`{name}`", _prose(text), f"`{default}`" if default else "", kind)
            for name, kind, default, text in _fields_of(model)
        ]
        parts += [_table(("option", "what it says", "default", "values"), rows), ""]
    return "\n".join(parts)


def _option_models() -> Iterator[type]:
    """The models in the modules called `options`, in the order of the packages."""
    from pydantic import BaseModel

    for package in pkgutil.iter_modules(dino_st.__path__, "dino_st."):
        if not package.ispkg or package.name.endswith(".support"):
            continue
        try:
            module = importlib.import_module(f"{package.name}.options")
        except ModuleNotFoundError:
            continue
        for value in vars(module).values():
            if not inspect.isclass(value) or value.__module__ != module.__name__:
                continue
            if issubclass(value, BaseModel) or (is_dataclass(value) and fields(value)[0].metadata.get("description")):
                yield value


def _fields_of(model: Any) -> Iterator[tuple[str, str, str, str]]:
    """Name, values, default and help of each option of a model."""
    if is_dataclass(model):
        for one in fields(model):
            facts = {name: value for name, value in one.metadata.items() if name != "description"}
            default = "" if one.default is MISSING else one.default
            yield one.name, _values(one.type, facts), str(default), one.metadata["description"]
        return
    for name, info in model.model_fields.items():
        facts = {
            bound: getattr(item, bound)
            for item in info.metadata
            for bound in ("gt", "ge", "lt", "le")
            if getattr(item, bound, None) is not None
        }
        yield name, _values(info.annotation, facts), str(info.default), info.description or ""


def _values(kind: Any, bounds: dict[str, Any]) -> str:
    """A type and its bounds in words."""
    words = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = ", ".join(f"{words[name]} {value:g}" for name, value in bounds.items() if name in words)
    return " ".join(filter(None, [_type_name(kind), limits]))


def _type_name(kind: Any) -> str:
    """A type as people write it."""
    if isinstance(kind, str):
        return kind
    if kind is type(None):
        return "none"
    origin, inner = get_origin(kind), get_args(kind)
    if str(origin) == "typing.Literal":
        return ", ".join(map(str, inner))
    if inner and origin is not tuple:
        return " or ".join(_type_name(one) for one in inner if one is not Ellipsis)
    if origin is tuple:
        return f"several of {_type_name(inner[0])}"
    return getattr(kind, "__name__", str(kind))


def _prose(text: str) -> str:
    """Help as Markdown of one paragraph."""
    return html.escape(" ".join(text.split()), quote=False)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table(heads: tuple[str, ...], rows: list[str]) -> str:
    return "\n".join([_row(*heads), "|" + " --- |" * len(heads), *rows])
