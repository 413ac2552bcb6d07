"""JSON and YAML files that people write, read strictly: no key stands twice, and a mistake is shown by its line.

And records, which are JSON that dino-st wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dino_st.errors import DinoError
from dino_st.support.options import explain

Record = TypeVar("Record", bound=BaseModel)

_JSON_HINT = "a comma, bracket or double quote is missing, or one too many"
_YAML_HINT = "a bracket or quotation mark may be open, a text with a colon lack quotation marks, or an indent differ"
_KINDS_OF_KEYS = {"tag:yaml.org,2002:bool": "true or false", "tag:yaml.org,2002:null": "nothing"}


class _TroubleError(ValueError):
    """A key that stands twice, or a key or number that YAML takes for something else."""


def read_document(file: Path | Traversable, error: type[DinoError]) -> Any:
    """Reads a file whose name ends in `.json` as JSON, any other as YAML.

    Raises FileNotFoundError where there is none, and an error of the type asked for, with file and line, where it
    cannot be read or parsed.
    """
    is_json = file.name.lower().endswith(".json")
    try:
        with _readable(file, error):
            text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as trouble:
        raise error(f"{file}: not UTF-8 text (byte {trouble.start}); save the file as UTF-8") from None
    try:
        if is_json:
            return json.loads(text, object_pairs_hook=_distinct_keys)
        return yaml.load(text, Loader=_StrictLoader)
    except json.JSONDecodeError as trouble:
        where, hint = trouble.lineno, _JSON_HINT
    except yaml.MarkedYAMLError as trouble:
        mark = trouble.problem_mark or trouble.context_mark
        where, hint = (mark.line + 1 if mark else 1), _YAML_HINT
    except yaml.reader.ReaderError as trouble:
        where, hint = text.count("\n", 0, trouble.position) + 1, "there is a character that YAML does not allow"
    except _TroubleError as trouble:
        raise error(f"{file}: {trouble}") from None
    except (RecursionError, ValueError):  # a number of thousands of digits, a date that is none
        raise error(f"{file}: cannot be parsed: it is nested too deeply, or holds a value that is none") from None
    lines = text.splitlines() or [""]
    line = lines[min(where, len(lines)) - 1]
    if "\t" in line[: len(line) - len(line.lstrip())] and not is_json:
        hint = "a tab stands in front; indent with spaces"
    kind = "JSON" if is_json else "YAML"
    raise error(f"{file}: cannot be parsed as {kind}, line {where}: {line.strip()[:80]!r}; {hint}")


def read_value(text: str, error: type[DinoError], where: str) -> Any:
    """Reads a value of the command line as strictly as a YAML file; what is no YAML is a text."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except _TroubleError as trouble:
        raise error(f"{where}: {trouble}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        return text


def read_validated(file: Path, kind: type[Record], error: type[DinoError], advice: str) -> Record:
    """Reads JSON that a pydantic model describes.

    Raises FileNotFoundError where there is none, and an error of the type asked for where it cannot be read, or is
    none, with the field and advice.
    """
    try:
        with _readable(file, error):
            return kind.model_validate_json(file.read_bytes())
    except ValidationError as trouble:
        raise error(f"{file}: {explain(trouble, kind)[0]}; {advice}") from trouble


@contextmanager
def _readable(file: Path | Traversable, error: type[DinoError]) -> Iterator[None]:
    """Raises the error asked for where a file is there and cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as trouble:
        raise error(f"{file}: cannot be read ({trouble.strerror or trouble})") from trouble


def _distinct_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in items:
        if key in result:
            raise _TroubleError(f"the key {key!r} stands twice in one object; keep one")
        result[key] = value
    return result


def _name_of(key: Any) -> str:
    """A key as a name; numbers that are equal are one, as they are in a dictionary."""
    return str(int(key) if isinstance(key, float) and key.is_integer() else key)


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, except that what it would silently lose or take for something else is an error.

    A key is a name and stands once; a number is decimal: no octal `010`, hexadecimal `0x10` or sexagesimal `1:30`.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if key.tag in _KINDS_OF_KEYS:
                raise _TroubleError(
                    f"line {key.start_mark.line + 1}: YAML reads the key {key.value or '~'} as "
                    f'{_KINDS_OF_KEYS[key.tag]}; put it in quotation marks: "{key.value}"'
                )
        _distinct_keys([(_name_of(self.construct_object(key, deep=True)), None) for key in keys])
        return super().construct_mapping(node, deep=deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> float:
        is_whole = node.tag == "tag:yaml.org,2002:int"
        value: float = self.construct_yaml_int(node) if is_whole else self.construct_yaml_float(node)
        if ":" in node.value or (is_whole and str(value) != node.value.lstrip("+").replace("_", "")):
            raise _TroubleError(
                f"line {node.start_mark.line + 1}: YAML reads {node.value} as {value}; write the number that is meant "
                f'in decimal, as {value}, or, for a text, "{node.value}"'
            )
        return value


for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.construct_decimal)
