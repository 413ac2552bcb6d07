from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dino_st"

LISTED = re.findall(r"^\| `([a-z_.]+)` \|", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.MULTILINE)
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)


def imported(module: str) -> set[str]:
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names


def test_the_architecture_page_lists_every_module_once() -> None:
    assert sorted(LISTED) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_modules_above_it(module: str) -> None:
    above = {f"dino_st.{name}" for name in LISTED[: LISTED.index(module)]}
    own = {name for name in imported(module) if name.startswith("dino_st.")}
    assert own <= above


def test_only_stages_and_the_command_line_import_the_tasks() -> None:
    users = {module for module in MODULES if any(name.split(".")[0] == "mteb_tasks" for name in imported(module))}
    assert users == {"cli", "contrastive_stages", "stages"}


def test_decoding_needs_torch_transformers_and_numpy_alone() -> None:
    standard = {"__future__", "hashlib", "collections", "dataclasses", "typing", "itertools", "inspect", "contextlib"}
    standard |= {"math", "gc", "os", "contextvars", "functools", "logging"}
    for module in MODULES:
        if module.startswith("decoding."):
            roots = {name.split(".")[0] for name in imported(module)}
            assert roots - standard <= {"torch", "transformers", "numpy", "dino_st"}
            own = {name for name in imported(module) if name.startswith("dino_st.")}
            assert all(name.startswith("dino_st.decoding.") or name == "dino_st.errors" for name in own)


def test_no_module_is_much_longer_than_three_hundred_lines() -> None:
    paths = [*PACKAGE.rglob("*.py"), *(ROOT / "mteb_tasks").rglob("*.py")]
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert {name: length for name, length in lengths.items() if length > 320} == {}
