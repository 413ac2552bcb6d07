"""What the documentation says to type, typed: with the bundled models in place of large ones, and few sentences."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dino_st.cli.main import app

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("default::dino_st.errors.DinoWarning")  # few sentences are worth a warning

STAND_INS = {"gpt2-xl": "dino-tiny", "gpt2": "dino-tiny", "roberta-base": "dino-tiny-encoder"}
"""What takes the place of a word on the command line."""

QUICK = ["--max-tries", "1", "--max-new-tokens", "24"]
"""Options that have texts written in half the time."""

_BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

MARKDOWN = sorted(
    path.relative_to(ROOT).as_posix() for folder in ("docs", "skills") for path in (ROOT / folder).rglob("*.md")
)

EXAMPLES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.md"))
"""`test_examples.py` runs their commands."""


def blocks(page: Path, language: str, *, skipped: bool = False) -> list[str]:
    """The blocks of code of a page that are run, or those that say why they are not."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [code for mark, kind, code in found if kind == language and bool(mark) == skipped]


def commands(page: Path) -> list[list[str]]:
    """The `dino-st` commands of a page, in its order, as lists of words."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and line[0] == "dino-st"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files that the pages take for granted."""
    sentences = (ROOT / "recipes/quickstart-sentences.txt").read_text(encoding="utf-8").splitlines()[:24]
    for name in ("sentences.txt", "questions.txt", "set-aside.txt"):
        (tmp_path / name).write_text("\n".join(sentences), encoding="utf-8")
    with (tmp_path / "judged.csv").open("w", encoding="utf-8", newline="") as stream:
        judged = csv.writer(stream)
        judged.writerow(("sentence1", "sentence2", "score"))
        judged.writerows((*pair, number % 5 / 4) for number, pair in enumerate(itertools.pairwise(sentences[:20])))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [name for name in MARKDOWN if commands(ROOT / name)])
def test_commands_of_a_page_run_in_its_order(name: str, work: Path) -> None:
    page = ROOT / name
    for number, block in enumerate(blocks(page, "yaml")):
        found = re.search(r"^task_name: (\S+)|^# (\S+\.yaml)", block, re.MULTILINE)
        if found:
            file = found[2] or ("questions.yaml" if number == 0 else f"{found[1]}.yaml")
            (work / file).write_text(block.replace("gpt2-xl", "dino-tiny").replace("roberta-base", "dino-tiny-encoder"))
    for arguments in commands(page):
        if arguments[0] == "quickstart":  # tests/pipeline runs it
            continue
        typed = [STAND_INS.get(word, word) for word in arguments]
        if arguments[0] == "generate":
            typed += QUICK
        if arguments[0] == "train-contrastive" and "--batch-size" not in typed:
            typed += ["--batch-size", "16"]  # of so few sentences there are fewer triplets than a published batch
        if "joint" in typed:
            typed[typed.index("--batch-size") + 1] = "16"  # as above
        result = CliRunner().invoke(app, typed, input="9\n5\n1\n0\n" * 100)  # `audit` asks
        assert result.exit_code == 0, f"dino-st {shlex.join(typed)}\n{result.output}\n{result.exception!r}"


@pytest.mark.parametrize("name", [*MARKDOWN, *EXAMPLES])
def test_commands_that_are_not_run_name_options_that_exist(name: str) -> None:
    for block in blocks(ROOT / name, "bash", skipped=True):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "dino-st" in words[:1] and words[1] != "mteb":
                help_text = CliRunner().invoke(app, [words[1], "--help"]).output
                missing = [word for word in words if word.startswith("-") and word not in help_text]
                assert not missing, f"{line}: {missing}"


@pytest.mark.parametrize("name", [name for name in MARKDOWN if blocks(ROOT / name, "python")])
def test_python_of_a_page_runs(name: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "docs/how-to/resume.md":
        for file, output in (("sentences.txt", "raw"), ("questions.txt", "more")):
            CliRunner().invoke(app, ["generate", "--model", "dino-tiny", "--input", file, "--output", output, *QUICK])
    with contextlib.chdir(work):
        exec("\n".join(blocks(ROOT / name, "python")), {"__name__": "page"})
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", ["README.md", *MARKDOWN, *EXAMPLES])
def test_no_two_commands_of_a_page_write_one_directory(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    outputs = re.findall(r"^dino-st[^`\n]*?(?:\\\n[^`\n]*?)*--output ([\w./:-]+)", text, re.MULTILINE)
    outputs += re.findall(r"train_(?:encoder|contrastive)\([^)\n]*?, \"([\w.-]+)\", ", text)
    assert len(outputs) == len(set(outputs)), outputs
