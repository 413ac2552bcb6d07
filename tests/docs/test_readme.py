"""The front page: what it says to type works, what it shows stands elsewhere, and it reads well on PyPI."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from dino_st.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SITE = "https://dino-st.github.io/dino-st/"


def test_the_readmes_python_runs_as_printed(tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL)), encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "my-python-encoder/modules.json").is_file()


def test_the_readmes_commands_exist_with_their_options() -> None:
    named = [part for code in re.findall(r"`(dino-st [^`]+)`", README) for part in [code.split()]]
    assert {words[1] for words in named} >= {
        "quickstart",
        "generate",
        "prepare",
        "train",
        "evaluate",
        "syncse",
        "audit",
    }
    for command, *words in (words[1:] for words in named):
        shown = CliRunner().invoke(app, [command, "--help"])
        assert shown.exit_code == 0, command
        assert all(word in shown.output for word in words if word.startswith("--")), words


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 106


def test_every_link_of_the_readme_is_absolute_and_leads_somewhere() -> None:
    repository = PROJECT["urls"]["Repository"]
    raw = repository.replace("github.com", "raw.githubusercontent.com") + "/main/"
    targets = re.findall(r"\]\(([^)\s]+)\)", README)
    for target in targets:
        assert target.startswith("https://"), target
        if target.startswith(raw):
            assert (ROOT / target.removeprefix(raw)).is_file(), target
        elif target.startswith(repository):
            assert (ROOT / re.sub(r"^.*?/(blob|tree)/main/", "", target)).exists(), target
        elif target.startswith(SITE):
            page, _, anchor = target.removeprefix(SITE).partition("#")
            source = ROOT / "docs" / f"{page.rstrip('/')}.md"
            generated = page.startswith("reference/")
            assert generated or source.is_file(), target
            headings = [] if generated else re.findall(r"^#+ (.*)$", source.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings]
            assert not anchor or anchor in anchors, target
    assert sum(target.startswith(SITE) for target in targets) >= 5


def test_the_site_and_the_repository_have_one_address_each() -> None:
    urls = PROJECT["urls"]
    assert urls["Documentation"] == SITE
    assert all(url.startswith((SITE, urls["Repository"])) for url in urls.values())
    assert f"site_url: {SITE}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_the_three_pairs_stand_in_the_file_that_is_pointed_to() -> None:
    rows = (ROOT / "examples/domain-adaptation/smollm2-pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = {(row["sentence1"], f"{row['score']:g}", row["sentence2"]) for row in map(json.loads, rows)}
    section = re.split(r"^## ", README, flags=re.MULTILINE)[1]
    x1 = re.findall(r"^\*(.*)\*$", section, re.MULTILINE)[0]
    shown = re.findall(r"^\| ([\d.]+) \| (.*) \|$", section, re.MULTILINE)
    assert [label for label, _ in shown] == ["1", "0.5", "0"]
    for label, text in shown:
        beginning = text.removesuffix(" […]")
        assert any(pair[:2] == (x1, label) and pair[2].startswith(beginning) for pair in pairs), text
    assert f"[all {len(rows)} pairs]" in section


def test_the_scores_stand_in_the_results() -> None:
    section = re.split(r"^## ", README, flags=re.MULTILINE)[2]
    command = re.findall(r"`(python benchmarks/[^`]+)`", section)[0]
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    study = results[results.index(command) :]
    tables = [line for line in study.splitlines() if line.startswith("|")]
    rows = [line for line in section.splitlines() if re.match(r"\| .* \d\d\.\d\d \|", line)]
    assert len(rows) == 3
    for row in rows:
        _, untrained, published, joint, difference = row.strip("| ").split(" | ")
        for scores in ([untrained], [published], [joint, difference]):
            assert any(all(f"| {score} |" in line for score in scores) for line in tables), (row, scores)
