from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PACKAGES = ("dino_st", "mteb_tasks")


def test_the_map_names_only_files_that_exist() -> None:
    section = PAGE.partition("## Where to look")[2].partition("## Terms")[0]
    named = re.findall(r"`((?:dino_st|mteb_tasks)/[^`]*)`", section)
    assert len(named) > 8
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_packages_stay_small_enough_to_be_held_in_the_head() -> None:
    folders = [folder for package in PACKAGES for folder in (ROOT / package).rglob("*") if folder.is_dir()]
    modules = {folder: [file for file in folder.glob("*.py") if file.stem != "__init__"] for folder in folders}
    assert {str(folder): len(files) for folder, files in modules.items() if len(files) > 12} == {}
    at_the_root = {path.stem for path in (ROOT / "dino_st").glob("*.py")}
    assert at_the_root == {"__init__", "__main__", "builder", "errors"}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    import graphlib

    import grimp

    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) - {package} for module in graph.modules}
    assert len(list(graphlib.TopologicalSorter(imports).static_order())) >= len(graph.modules) - 1
