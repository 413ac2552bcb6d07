from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

import dino_st
from dino_st.cli.main import app
from dino_st.data.shards import ShardDirectory, Wave
from dino_st.inspection.pairs import WrittenPairs

FLAGS = ["--max-new-tokens", "14", "--top-k", "60", "--top-p", "0.98", "--dtype", "float32", "--device", "cpu"]
SENTENCES = "\n".join(f"Sentence number {i} about a cat." for i in range(8)) + "\n"

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: object, **more: Any) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], **more)

    return invoke


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text(SENTENCES)
    return path


def assert_friendly(result: Result, message: str, code: int = 1) -> None:
    assert result.exit_code == code, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"dino-st {dino_st.__version__}\n")


def test_generate_then_prepare_write_what_datasets_reads(
    run: Run, sentences: Path, model_directory: Path, tmp_path: Path
) -> None:
    raw, prepared = tmp_path / "raw", tmp_path / "prepared"
    result = run("generate", "--model", model_directory, "--input", sentences, "--output", raw, *FLAGS)
    assert result.exit_code == 0, result.output
    rows = datasets.load_dataset(str(raw), split="train", cache_dir=str(tmp_path / "cache"))
    assert f"{len(rows)} pairs in" in result.output
    assert "rejected: " in result.output
    assert all(f"Examples of label {label}:" in result.output for label in ("1", "0.5", "0"))
    result = run("prepare", raw, "--output", prepared, "--seed", 7)
    assert result.exit_code == 0, result.output
    splits = datasets.load_dataset(str(prepared), cache_dir=str(tmp_path / "cache"))
    assert splits["train"].column_names == ["sentence1", "sentence2", "score"]
    record = json.loads((prepared / "preparation.json").read_text())
    assert record["options"]["seed"] == 7
    assert record["provenance"]["model"] == str(model_directory)


def test_rejections_of_generated_pairs_are_known_after_they_were_scored(
    run: Run, sentences: Path, model_directory: Path, tmp_path: Path
) -> None:
    raw, scored = tmp_path / "raw", tmp_path / "scored"
    assert run("generate", "--model", model_directory, "--input", sentences, "--output", raw, *FLAGS).exit_code == 0
    assert run("score", raw, "--model", model_directory, "--output", scored, *FLAGS[-4:]).exit_code == 0
    found = [
        {name: count for name, count in WrittenPairs.read(directory).counts.items() if name.startswith("rejected")}
        for directory in (raw, scored)
    ]
    assert found[0] == found[1] != {}


def test_generate_again_continues_and_does_nothing_more(
    run: Run, sentences: Path, model_directory: Path, tmp_path: Path
) -> None:
    command = ["generate", "--model", model_directory, "--input", sentences, "--output", tmp_path / "raw", *FLAGS]
    assert run(*command).exit_code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "raw/data").iterdir()}
    assert run(*command).exit_code == 0
    assert {p: p.read_bytes() for p in (tmp_path / "raw/data").iterdir()} == before


def test_generate_from_scratch_and_from_standard_input(run: Run, model_directory: Path, tmp_path: Path) -> None:
    flags = [*FLAGS, "--model", model_directory]
    scratch = run("generate", "--task", "sts-x1", "--num", 6, "--output", tmp_path / "x1", *flags)
    assert scratch.exit_code == 0, scratch.output
    assert "6 texts in" in scratch.output
    chained = run("generate", "--input", tmp_path / "x1", "--output", tmp_path / "raw", *flags)
    assert chained.exit_code == 0, chained.output
    piped = run("generate", "--input", "-", "--output", tmp_path / "piped", *flags, input="A cat.\nA dog.\n")
    assert piped.exit_code == 0, piped.output


@pytest.mark.parametrize(
    ("content", "message", "arguments"),
    [
        (None, "there is no such file", []),
        (b"", "the file is empty", []),
        (b"A cat.\nna\xefve\n", "line 2 is not UTF-8", []),
        (b"\n \n", "no sentence to start from", []),
        (b"A cat.\n", "a column ('text') was named", ["--column", "text"]),
    ],
)
def test_unusable_inputs_give_a_message_and_exit_code_1(
    content: bytes | None, message: str, arguments: list[str], run: Run, model_directory: Path, tmp_path: Path
) -> None:
    path = tmp_path / "input.txt"
    if content is not None:
        path.write_bytes(content)
    result = run("generate", "--model", model_directory, "--input", path, "--output", tmp_path / "raw", *arguments)
    assert_friendly(result, message)
    assert not (tmp_path / "raw").exists()


def test_a_missing_column_is_named_with_the_nearest(run: Run, model_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,satz\n1,Eine Katze.\n")
    arguments = ["generate", "--model", model_directory, "--input", path, "--output", tmp_path / "raw"]
    assert_friendly(run(*arguments, "--column", "sats"), "there is no column 'sats'; did you mean 'satz'?")


def test_long_blank_and_doubled_lines_are_skipped_and_counted(run: Run, model_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"A cat.\r\n\r\nA cat.\r\nA\0dog.\r\n" + b"x" * 100_000 + b"\r\nA bird.\r\n")
    result = run("generate", "--model", model_directory, "--input", path, "--output", tmp_path / "raw", *FLAGS)
    assert result.exit_code == 0, result.output
    for line in ("skipped: blank: 1", "skipped: duplicate: 1", "skipped: NUL byte: 1", "rejected: prompt too long: 6"):
        assert line in result.output


def test_wrong_models_and_outputs_give_a_message(
    run: Run, sentences: Path, model_directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied/thesis.tex").write_text("")
    base = ["generate", "--input", sentences]
    assert_friendly(run(*base, "--model", tmp_path / "no", "--output", tmp_path / "raw"), "there is no such directory")
    (tmp_path / "empty").mkdir()
    assert_friendly(run(*base, "--model", tmp_path / "empty", "--output", tmp_path / "raw"), "no config.json")
    assert_friendly(run(*base, "--model", model_directory, "--output", tmp_path / "occupied"), "holds something else")
    assert_friendly(run(*base, "--model", model_directory, "--output", sentences / "raw"), "cannot be created")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-p", "3"], "--top-p = 3.0: expected above 0 and at most 1"),
        (["--dtype", "float8"], "dtype 'float8' is unknown"),
        (["--device", "tpu9"], "device 'tpu9' cannot be used here"),
        (["--batch-size", "lots"], "--batch-size is 'lots'"),
        (["--prompt-format", "html"], "--prompt-format is 'html'"),
        (["--num", "3"], "leave out --num"),
        (["--samples", "two"], "Invalid value for '--samples'"),
        (["--topp", "3"], "No such option"),
    ],
)
def test_wrong_options_give_a_message_and_exit_code_2(
    arguments: list[str], message: str, run: Run, sentences: Path, model_directory: Path, tmp_path: Path
) -> None:
    base = ["generate", "--model", model_directory, "--input", sentences, "--output", tmp_path / "raw"]
    assert_friendly(run(*base, *arguments), message, code=2)


def test_prepare_refuses_what_is_not_raw(run: Run, sentences: Path, tmp_path: Path) -> None:
    assert_friendly(run("prepare", tmp_path / "no", "--output", tmp_path / "p"), "there is no such file or directory")
    (tmp_path / "folder").mkdir()
    assert_friendly(run("prepare", tmp_path / "folder", "--output", tmp_path / "p"), "holds no table")
    assert_friendly(run("prepare", sentences, "--output", tmp_path / "p"), "is no table that can be read")


def test_prepare_reads_the_published_format(run: Run, tmp_path: Path) -> None:
    raw = tmp_path / "sts-dataset.jsonl"
    rows = [
        {"text_a": f"x{i}", "text_b": f"y{i} {label}", "label": label} for i in range(20) for label in ("1", "0.5", "0")
    ]
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run("prepare", raw, "--output", tmp_path / "p")
    assert result.exit_code == 0, result.output
    splits = datasets.load_dataset(str(tmp_path / "p"), cache_dir=str(tmp_path / "cache"))
    assert sum(len(split) for split in splits.values()) == 60 + 2 * 20


def test_a_shard_without_a_wave_is_no_failure(run: Run, sentences: Path, model_directory: Path, tmp_path: Path) -> None:
    arguments = ["--batch-size", 500, "--shard", "2/2", "--output", tmp_path / "raw"]
    result = run("generate", "--model", model_directory, "--input", sentences, *FLAGS, *arguments)
    assert result.exit_code == 0, result.output
    assert "0 pairs in" in result.output


def test_pairs_of_ones_own_need_no_other_task(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = tmp_path / "mine.csv"
    pairs.write_text("sentence1,sentence2,score\na cat,a cat,1\na cat,a dog,0\nthe dog,a dog,0.9\n")
    result = run("evaluate", "token-jaccard", "--pairs", pairs, "--output", tmp_path / "scores")
    assert "--sts-dir is not used" not in caplog.text
    run("evaluate", "token-jaccard", "--pairs", pairs, "--sts-dir", tmp_path)
    assert "--sts-dir is not used: along with --pairs no other task is scored" in caplog.text
    assert result.exit_code == 0, result.output
    [name, _] = json.loads((tmp_path / "scores/scores.json").read_text())["token-jaccard"]
    assert name.startswith("DinoPairs-mine-")


def test_a_shard_changed_behind_the_manifests_back_is_not_prepared(
    run: Run, sentences: Path, model_directory: Path, tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    assert run("generate", "--model", model_directory, "--input", sentences, "--output", raw, *FLAGS).exit_code == 0
    (raw / "data/train-00000.parquet").write_bytes(b"PAR1")
    assert_friendly(
        run("prepare", raw, "--output", tmp_path / "p"), "missing or damaged, not as manifest.json describes"
    )


def test_debug_shows_the_traceback(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINO_ST_DEBUG", "")
    monkeypatch.delenv("DINO_ST_DEBUG")
    arguments = ["prepare", tmp_path / "no", "--output", tmp_path / "p"]
    assert "Traceback" not in run(*arguments).output
    shown = run(*arguments, "--debug")
    assert "Traceback" in shown.output
    assert shown.exit_code == 1


def test_tasks_and_version_are_listed(run: Run) -> None:
    listing = run("tasks").output
    assert all(name in listing for name in ("sts-x1", "sts-x2", "movie-titles", "quickstart", "sts-dino-x1x2"))
    assert f"dino-st {dino_st.__version__}" in run("version").output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_and_keeps_what_was_finished(
    number: signal.Signals, code: int, model_directory: Path, tmp_path: Path
) -> None:
    path, raw = tmp_path / "many.txt", tmp_path / "raw"
    path.write_text("\n".join(f"Sentence number {i}." for i in range(3000)))
    command = [
        sys.executable,
        "-c",
        "from dino_st.cli.main import main; main()",
        "generate",
        "--model",
        model_directory,
    ]
    command += ["--input", path, "--output", raw, "--batch-size", "24", *FLAGS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [str(part) for part in command],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore Ctrl-C
    )
    deadline = time.monotonic() + 120
    while len(list(raw.glob("data/*.parquet"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(number)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == code, message
    assert "Run the same command again" in message
    assert "Traceback" not in message
    left = ShardDirectory(raw)
    assert len(left.waves) >= 2
    assert not left.is_complete
    rows = datasets.load_dataset(str(raw), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) >= left.counts["rows"] > 0


@pytest.mark.parametrize("kind", ["pairs", "triplets"])
def test_preparing_what_a_killed_run_left_says_that_it_is_not_complete(
    kind: str, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("anchor", "positive", "negative") if kind == "triplets" else ("sentence1", "sentence2")
    row: dict[str, Any] = {name: name for name in names}
    labels = {"0": {"instruction": 'a: "<X1>" b: "'}, "1": {"instruction": 'c: "<X1>" d: "'}}
    task = {"task_name": "t", "labels": labels}
    schema = pa.Table.from_pylist([row | {"score": 0.0}]).schema
    directory = ShardDirectory(tmp_path / "raw")
    provenance = {"model": None, "versions": {}}
    with directory.open(configuration={"seed": 0, "task": task}, provenance=provenance, schema=schema):
        rows = [{name: f"{text} {i}" for name, text in row.items()} | {"score": float(i % 2)} for i in range(40)]
        directory.put(Wave(0, rows, {"rows": 40}))
    command = "prepare" if kind == "pairs" else "prepare-triplets"
    result = run(command, tmp_path / "raw", "--output", tmp_path / "prepared")
    assert result.exit_code == 0, result.output
    words = " ".join((result.stderr + caplog.text).split())
    caplog.clear()
    assert f"{tmp_path}/raw is not complete; what is there is taken (the command that wrote it goes on)" in words
    with directory.locked():
        directory.finish("# raw\n")
    result = run(command, tmp_path / "raw", "--output", tmp_path / "prepared")
    assert "not complete" not in result.stderr + caplog.text
