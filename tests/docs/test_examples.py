"""The examples, run as their READMEs print them."""

from __future__ import annotations

import csv
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dino_st.cli.main import app
from tests.docs.test_pages import ROOT, blocks
from tests.hostile_server import MODEL, completion, hostile_server

EXAMPLES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/README.md"))

pytestmark = pytest.mark.filterwarnings("default::dino_st.errors.DinoWarning")  # few sentences are worth a warning


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples."""
    copy = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", copy)
    return copy


def lines(name: str, *, skipped: bool = False) -> list[list[str]]:
    """The commands of an example's README, as lists of words."""
    code = "\n".join(blocks(ROOT / "examples" / name / "README.md", "bash", skipped=skipped)).replace("\\\n", " ")
    return [words for line in code.splitlines() if (words := shlex.split(line, comments=True))]


def run(words: list[str], directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of a README."""
    monkeypatch.chdir(directory)
    if words[0] == "dino-st":
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}\n{result.exception!r}"
    elif words[0] != "pip":  # pyproject.toml has what the tests install
        assert words[0] == "python", words
        in_process_of_its_own(words[1:])


def in_process_of_its_own(arguments: list[str]) -> None:
    """Python with arguments, offline, in the working directory."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, timeout=600
    )
    assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def few_sentences(examples: Path) -> None:
    """Cuts the sentences that the examples share, so that the tests stay short."""
    sentences = examples / "domain-adaptation/sentences.txt"
    sentences.write_text("\n".join(sentences.read_text(encoding="utf-8").splitlines()[:60]), encoding="utf-8")


def skip_without(*modules: str) -> None:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; run: pip install {' '.join(missing)}")


def test_the_index_names_every_example() -> None:
    index = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\(([\w-]+)/README\.md\)", index)) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_it_takes_and_what_comes_out(name: str) -> None:
    text = (ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
    assert "**Time**" in text
    assert "**What comes out**" in text or "**The end of the output**" in text


def test_the_domain_example_has_300_sentences_and_judged_pairs() -> None:
    directory = ROOT / "examples/domain-adaptation"
    sentences = (directory / "sentences.txt").read_text(encoding="utf-8").splitlines()
    assert len(sentences) == len(set(sentences)) == 300
    with (directory / "judged.csv").open(encoding="utf-8", newline="") as stream:
        judged = list(csv.DictReader(stream))
    assert len(judged) == 36
    assert all(row["sentence1"] in sentences and 0 <= float(row["score"]) <= 1 for row in judged)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["classification", "compare-encoders", "domain-adaptation", "german-task", "trainer-with-trackers"]
)
def test_an_example_runs_as_printed(name: str, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "trainer-with-trackers":
        skip_without("tensorboard")
    few_sentences(examples)
    commands = lines(name)
    assert len(commands) >= 3
    for words in commands:
        run(words, examples / name, monkeypatch)
    if name == "trainer-with-trackers":
        (events,) = (examples / name / "my-encoder/runs").rglob("events.out.tfevents.*")
        recorded = events.read_bytes()
        assert b"train/loss" in recorded
        assert b"eval/spearman_cosine" in recorded


def test_triplets_are_asked_of_a_server_as_printed(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without("openai")
    few_sentences(examples)
    commands = [words for words in lines("syncse-local-server", skipped=True) if words[0] == "dino-st"]
    assert [words[1] for words in commands] == ["syncse", "prepare-triplets", "train-contrastive"]
    numbers = itertools.count()

    def script(prompt: str, attempt: int) -> dict[str, object]:
        return completion(f"Reader {next(numbers)} finds a seat in the library.")

    with hostile_server(script) as server:
        stand_ins = {"http://localhost:8000/v1": server.url, "HuggingFaceTB/SmolLM2-135M-Instruct": MODEL}
        for words in commands:
            run([stand_ins.get(word, word) for word in words], examples / "syncse-local-server", monkeypatch)
    assert (examples / "syncse-local-server/my-encoder/modules.json").is_file()


@pytest.mark.slow
def test_the_notebook_runs_and_keeps_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without("nbclient", "ipykernel")
    monkeypatch.chdir(ROOT)
    in_process_of_its_own(["-m", "tools.notebook", "--check"])
    text = (ROOT / "examples/notebook/dino_st.ipynb").read_text(encoding="utf-8")
    assert "600 pairs with the columns" in text
    assert str(Path.home()) not in text
    assert "site-packages" not in text
