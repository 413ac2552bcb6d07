"""`--dry-run`: what a run would do, without weights, without asking anybody, and without writing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dino_st.backends.local import LocalWriter
from dino_st.backends.options import ModelOptions
from dino_st.cli.main import app
from dino_st.decoding import memory
from dino_st.generation.dry_run import DryRun, Outline, dry_run, token_facts
from dino_st.generation.options import WritingOptions
from dino_st.models import bundled_directory
from dino_st.support import hub
from dino_st.tasks.prompts import build_prompts
from dino_st.tasks.spec import TaskSpec

SENTENCES = [f"Number {number} plays the {thing}." for number in range(10) for thing in ("flute", "drum", "lute")]


@pytest.fixture(scope="module")
def outline_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model without its weights."""
    directory = tmp_path_factory.mktemp("outline")
    for file in (bundled_directory("dino-tiny") or Path()).iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, directory)
    return directory


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x1.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    return tmp_path


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--output", "out", "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path().iterdir()) == ["x1.txt"]  # nothing was written
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def plan(model: Path | str, task: str = "sts-x2", sentences: list[str] | None = SENTENCES, **options: Any) -> DryRun:
    return dry_run(str(model), TaskSpec.load(task), WritingOptions.of(device="cpu", **options), sentences, None)


def test_prompts_tokens_and_waves_are_those_of_the_run(outline_only: Path, tmp_path: Path) -> None:
    spec, found = TaskSpec.load("sts-x2"), plan(outline_only, batch_size=48, dtype="float32")
    assert found.prompts["label 0.5"] == [build_prompts(spec, "0.5", x1).target for x1 in SENTENCES[:3]]
    writer = LocalWriter("dino-tiny", device="cpu", dtype="float32")
    lengths = [len(writer.encode_prompts(spec, label, x1, False)[0]) for label in spec.labels for x1 in SENTENCES]
    assert found.facts["prompt tokens"] == token_facts(lengths)
    command = f"generate --model dino-tiny --input {_file(tmp_path)} --output {tmp_path / 'raw'}"
    result = CliRunner().invoke(app, f"{command} --batch-size 48 --device cpu --dtype float32")
    assert result.exit_code == 0
    waves = len(list((tmp_path / "raw" / "data").iterdir()))
    assert found.facts["waves"] == f"{waves} of up to 4 sentences each"
    assert found.facts["texts"] == "180"


def _file(directory: Path) -> Path:
    file = directory / "x1.txt"
    file.write_text("\n".join(SENTENCES), encoding="utf-8")
    return file


def test_streams_are_as_many_as_the_model_itself_would_choose(
    outline_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: 100 * 2**20)
    monkeypatch.setattr("dino_st.generation.dry_run.free_memory", lambda _: 100 * 2**20)
    writer = LocalWriter("dino-tiny", device="cpu", dtype="float32")
    rows = writer.choose_rows("auto", TaskSpec.load("sts-x2"), SENTENCES, 40)
    assert 12 < rows < 2048  # by memory, and not by a limit
    found = plan(outline_only, dtype="float32")
    assert f"for {rows:,} streams" in found.facts["memory"]
    assert "100 MiB free now" in found.facts["memory"]
    weights = writer.model.num_parameters() * 4
    assert found.facts["memory"].startswith(f"about {weights / 2**20:,.0f} MiB of weights")


def test_a_shard_has_its_part_of_the_waves(outline_only: Path) -> None:
    found = plan(outline_only, batch_size=48, shard="2/3")
    assert found.facts["waves"] == "3 of up to 4 sentences each"  # of eight: 1, 4 and 7
    assert found.facts["texts"] == "180 in all shards"


def test_prompts_that_the_model_cannot_take_are_counted(outline_only: Path) -> None:
    found = plan(outline_only, sentences=["word " * 2000, "short"])
    assert found.facts["too long"].startswith("3 prompts have more than ")


def test_the_command_reads_no_weights_and_writes_nothing(outline_only: Path, work: Path) -> None:
    found = run("generate", "--model", outline_only, "--input", "x1.txt", "--samples", "1")
    assert found["plan"]["task"] == "sts-x2: 30 sentences, 3 labels, 1 texts for each"
    assert found["plan"]["time"].startswith("unknown")
    assert [len(prompts) for prompts in found["prompts"].values()] == [3, 3, 3]
    scratch = run("generate", "--model", outline_only, "--task", "sts-x1", "--num", "50")
    assert scratch["plan"]["task"] == "sts-x1: 50 texts from 3 instructions"
    assert all(len(prompts) == 1 for prompts in scratch["prompts"].values())


def test_a_server_is_not_asked(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server = ("--backend", "openai", "--base-url", "http://localhost:9/v1", "--model", "some-model")
    found = run("generate", "--input", "x1.txt", "--decay-constant", "0", *server)
    assert found["plan"]["requests"] == "180, more where an answer cannot be used"
    assert found["prompts"]["label 1"][0].startswith("[system] Go on with the user's text")
    assert SENTENCES[0] in found["prompts"]["label 1"][0]
    triplets = run("syncse", "--input", "x1.txt", *server)
    assert triplets["plan"]["requests"] == "60, more where an answer cannot be used"
    assert set(triplets["prompts"]) == {"positive", "negative"}
    scratch = run("syncse", "--task", "syncse-scratch", "--num", "100", *server)
    assert scratch["plan"]["requests"].startswith("10 for sentences and 200 for their triplets")


def test_requests_to_a_local_model_are_rendered_as_it_reads_them(outline_only: Path, work: Path) -> None:
    found = run("syncse", "--model", outline_only, "--input", "x1.txt")
    assert found["plan"]["prompt tokens"].endswith("of the first 60 requests")
    assert all(prompt.endswith('"') for prompts in found["prompts"].values() for prompt in prompts)


def test_of_a_model_on_the_hub_only_the_small_files_are_fetched(
    outline_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def fetch(name: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(outline_only)

    monkeypatch.setattr(hub, "hub_out_of_reach", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    Outline.of("owner/model", ModelOptions.of(device="cpu"))
    assert not any("safetensors" in pattern for pattern in asked[0])
    assert "*.json" in asked[0]
