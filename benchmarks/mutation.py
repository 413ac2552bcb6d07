"""How many small mistakes in the readers and parsers the tests notice: `make mutants`.

    python benchmarks/mutation.py                            runs what is new since the last run, then counts
    python benchmarks/mutation.py 'dino_st.data.tables.*'    runs these mutants again, then counts
    python benchmarks/mutation.py --count                    counts only

mutmut makes the mutants (`[tool.mutmut]` in pyproject.toml says of which modules, and which tests run); each runs only
the tests that reach its function. A mutant that changes nothing but the words of an error is counted apart. `mutants/`
holds the results; mutmut does not see that a test has changed, so name the mutants to run again, or remove it.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path

MUTMUT = Path(sys.executable).with_name("mutmut")
NOTICED = ("killed", "timeout", "segfault")


def without_words(function: ast.FunctionDef) -> str:
    """A function whose errors say nothing, for comparing."""
    function = copy.deepcopy(function)
    for statement in ast.walk(function):
        if isinstance(statement, ast.Raise):
            for text in ast.walk(statement):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    text.value = ""
    return ast.unparse(function)


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    """By name, the functions of a file that mutmut wrote: each original, and a copy for every mutant."""
    found = {}
    for node in ast.walk(ast.parse((Path("mutants") / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name:
            found[node.name], node.name = node, "f"
    return found


def difference(old: ast.FunctionDef, new: ast.FunctionDef) -> list[str]:
    """The lines that differ, marked - and +."""
    lines = difflib.ndiff(ast.unparse(old).splitlines(), ast.unparse(new).splitlines())
    return [f"{line[0]} {line[2:].strip()}" for line in lines if line[0] in "-+"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mutants", nargs="*", help="mutants to run, with * for any characters; default: the new ones")
    parser.add_argument("--count", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    if not arguments.count:
        subprocess.run([MUTMUT, "run", "--max-children", "1", *arguments.mutants], check=True)
    results = subprocess.run([MUTMUT, "results", "--all", "true"], check=True, capture_output=True, text=True).stdout
    status = dict(line.strip().split(": ") for line in results.splitlines())
    modules = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]["only_mutate"]

    total: Counter[str] = Counter()
    survivors: list[str] = []
    rows = []
    for path in map(Path, modules):
        made = functions(path)
        module = ".".join(path.with_suffix("").parts)
        counts: Counter[str] = Counter()
        for name, new in made.items():
            original, _, number = name.rpartition("_")
            if number == "orig":
                continue
            old, state = made[f"{original}_orig"], status[f"{module}.{name}"]
            diff = difference(old, new)
            is_wording = without_words(old) == without_words(new)
            outcome = "killed" if state in NOTICED else "left" if state in ("survived", "no tests") else state
            counts[f"words {outcome}" if is_wording else outcome] += 1
            if outcome == "left" and not is_wording:
                survivors.append("\n".join([f"{module}.{name}: {state}", *(f"    {line}" for line in diff)]))
        total += counts
        rows.append((f"`{path}`", counts))
    print(f"mutmut {version('mutmut')}, Python {sys.version.split()[0]}\n")
    print("| module | mutants | killed | share | words: mutants | killed |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for title, counts in (*rows, ("all", total)):
        tried, words = counts["killed"] + counts["left"], counts["words killed"] + counts["words left"]
        share = f"{100 * counts['killed'] / tried:.1f} %" if tried else "–"
        print(f"| {title} | {tried} | {counts['killed']} | {share} | {words} | {counts['words killed']} |")
    others = {state: count for state, count in total.items() if state.split()[-1] not in ("killed", "left")}
    print(f"\nneither killed nor left: {others or 'none'}\n\nsurvivors:\n")
    print("\n".join(survivors))


if __name__ == "__main__":
    main()
