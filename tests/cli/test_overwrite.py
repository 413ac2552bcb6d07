"""What a second run does with what it finds: the same one goes on, another is refused, or replaces it if told to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dino_st.data.shards import MANIFEST, ShardDirectory
from dino_st.errors import OutputError
from dino_st.models import bundled_directory
from dino_st.preparation.splits import load_prepared, save_prepared
from dino_st.support.files import PREPARATION_RECORD, only_writer
from tests.cli.commands import run, words_of


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        {"sentence1": f"sentence {i}", "sentence2": f"text {i} {score}", "score": score}
        for i in range(60)
        for score in (0.0, 0.5, 1.0)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def generating(tmp_path: Path, model_directory: Path) -> list[object]:
    (tmp_path / "s.txt").write_text("\n".join(f"Sentence {i}." for i in range(6)))
    options = ["--device", "cpu", "--dtype", "float32", "--max-new-tokens", 14, "--top-k", 60]
    return ["generate", "--model", model_directory, "--input", tmp_path / "s.txt", "--output", tmp_path / "r", *options]


def test_generated_pairs_are_replaced_only_if_told_to(generating: list[object], tmp_path: Path) -> None:
    raw = tmp_path / "r"
    assert run(*generating, "--batch-size", 12).exit_code == 0
    (raw / "notes.txt").write_text("mine")
    before = contents(raw)
    refused = run(*generating, "--seed", 7)
    assert (refused.exit_code, "with --overwrite" in words_of(refused)) == (1, True)
    assert run(*generating, "--batch-size", 12, "--overwrite").exit_code == 0  # the same run: nothing to do
    assert contents(raw) == before
    assert run(*generating, "--seed", 7, "--overwrite").exit_code == 0
    anew = json.loads((raw / MANIFEST).read_text())
    assert run(*generating[:6], tmp_path / "fresh", *generating[7:], "--seed", 7).exit_code == 0
    fresh = json.loads((tmp_path / "fresh" / MANIFEST).read_text())
    assert (anew["configuration"], anew["shards"]) == (fresh["configuration"], fresh["shards"])
    assert {path.name for path in (raw / "data").iterdir()} == {
        path.name for path in (tmp_path / "fresh/data").iterdir()
    }
    assert (raw / "notes.txt").read_text() == "mine"


def test_what_is_not_ours_is_never_replaced(generating: list[object], pairs: Path, tmp_path: Path) -> None:
    for name in ("r", "p", "m"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
    (tmp_path / "data").mkdir()
    assert run("prepare", pairs, "--output", tmp_path / "data").exit_code == 0
    commands = [
        generating,
        ["prepare", pairs, "--output", tmp_path / "p"],
        ["prepare-triplets", pairs, "--output", tmp_path / "p"],
        ["train", tmp_path / "data", "--encoder", "dino-tiny-encoder", "--output", tmp_path / "m"],
        [*generating[:6], tmp_path / "data", *generating[7:]],  # ours, and of another kind
    ]
    before = contents(tmp_path)
    for command in commands:
        result = run(*command, "--overwrite")
        assert (result.exit_code, "holds something else" in words_of(result)) == (1, True), result.output
    assert contents(tmp_path) == before


def test_a_run_that_wrote_nothing_blocks_nothing(generating: list[object], tmp_path: Path) -> None:
    nothing = run(*generating, "--min-words", 13)
    assert (nothing.exit_code, ShardDirectory(tmp_path / "r").counts["rows"]) == (1, 0)
    assert run(*generating).exit_code == 0
    assert ShardDirectory(tmp_path / "r").counts["rows"]


def test_a_preparation_is_complete_already_or_refused_or_replaced(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "p"
    assert words_of(run("prepare", pairs, "--output", output)).endswith(f"Written to {output}")
    before = contents(output)
    again = run("prepare", pairs, "--output", output)
    assert (again.exit_code, "is complete already; nothing to do" in words_of(again)) == (0, True)
    refused = run("prepare", pairs, "--output", output, "--random-negatives", 1)
    assert refused.exit_code == 1
    assert "holds another preparation (--random-negatives was 2, now 1)" in words_of(refused)
    assert contents(output) == before
    replaced = run("prepare", pairs, "--output", output, "--random-negatives", 1, "--overwrite")
    assert "in place of an earlier preparation of 300 rows (--random-negatives was 2, now 1)" in words_of(replaced)
    assert load_prepared(output).options.random_negatives == 1
    pairs.write_text(pairs.read_text().replace("sentence 5", "sentence five"))
    other = run("prepare", pairs, "--output", output, "--random-negatives", 1)
    assert (other.exit_code, "other pairs, prepared in the same way" in words_of(other)) == (1, True)
    triplets = run("prepare-triplets", pairs, "--output", output)
    assert (triplets.exit_code, "holds another preparation" in words_of(triplets)) == (1, True)
    assert run("prepare-triplets", pairs, "--output", output, "--overwrite").exit_code == 0


@pytest.mark.parametrize("model", ["tf-idf", "mean:dino-tiny"])
def test_a_floor_or_baseline_is_not_taken_for_a_misspelt_directory(
    model: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / model.replace(":", "-").replace("tf-idf", "tf_idf")).mkdir()
    if ":" in model:
        (tmp_path / "dino-tiny").symlink_to(bundled_directory("dino-tiny") or "")
    result = run("evaluate", model, "--pairs", pairs, "--output", "tf_idf")
    assert result.exit_code == 0, result.output
    again = run("evaluate", model, "--pairs", pairs, "--output", "tf_idf")
    assert again.exit_code == 0, again.output


def test_an_earlier_preparation_stays_until_the_new_one_is_whole(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet

    output = tmp_path / "p"
    run("prepare", pairs, "--output", output)
    before = contents(output)
    write = pyarrow.parquet.write_table

    def full_disk(table: Any, file: Path) -> None:
        if "validation" in file.name:
            raise OSError(28, "No space left on device")
        write(table, file)

    with monkeypatch.context() as patch:
        patch.setattr("pyarrow.parquet.write_table", full_disk)
        result = run("prepare", pairs, "--output", output, "--seed", 7, "--overwrite")
    assert (result.exit_code, "No space left on device" in words_of(result)) == (1, True)
    assert contents(output) == before


def test_what_is_replaced_is_decided_while_nobody_else_writes(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "p"
    with only_writer(output):
        result = run("prepare", pairs, "--output", output)
        assert (result.exit_code, "another process is writing there" in words_of(result)) == (1, True)
        result = run("prepare-triplets", pairs, "--output", output)
        assert (result.exit_code, "another process is writing there" in words_of(result)) == (1, True)
    assert not (output / PREPARATION_RECORD).exists()


def test_edited_counts_are_told_and_not_believed(
    generating: list[object], pairs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(*generating)
    real = ShardDirectory(tmp_path / "r").counts
    manifest = json.loads((tmp_path / "r" / MANIFEST).read_text())
    for place in (manifest["counts"], manifest["shards"][0]["counts"]):
        place["rows"] = 999
        (tmp_path / "r" / MANIFEST).write_text(json.dumps(manifest))
        caplog.clear()
        assert ShardDirectory(tmp_path / "r").counts == real
        assert "do not fit the shards, as if edited" in caplog.text
    run("prepare", pairs, "--output", tmp_path / "p")
    record = json.loads((tmp_path / "p" / PREPARATION_RECORD).read_text())
    record["counts"]["train"] += 1
    (tmp_path / "p" / PREPARATION_RECORD).write_text(json.dumps(record))
    caplog.clear()
    assert load_prepared(tmp_path / "p").counts["train"] == record["counts"]["train"] - 1
    assert "do not fit the files, as if edited" in caplog.text


@pytest.mark.filterwarnings("default")
def test_another_training_run_is_refused_or_replaced_and_the_same_goes_on(pairs: Path, tmp_path: Path) -> None:
    run("prepare", pairs, "--output", tmp_path / "p")
    command = ["train", tmp_path / "p", "--encoder", "dino-tiny-encoder", "--output", tmp_path / "m", "--device", "cpu"]
    assert run(*command).exit_code == 0
    before = contents(tmp_path / "m")
    assert run(*command, "--overwrite").exit_code == 0
    assert contents(tmp_path / "m") == before
    refused = run(*command, "--seed", 7)
    assert (refused.exit_code, "--seed was 42, now 7" in words_of(refused)) == (1, True)
    assert run(*command, "--seed", 7, "--overwrite").exit_code == 0
    assert json.loads((tmp_path / "m/training.json").read_text())["options"]["seed"] == 7


def test_in_python_a_preparation_that_is_saved_takes_the_place_of_an_earlier_one(pairs: Path, tmp_path: Path) -> None:
    run("prepare", pairs, "--output", tmp_path / "p")
    run("prepare", pairs, "--output", tmp_path / "q", "--seed", 7)
    save_prepared(load_prepared(tmp_path / "q"), tmp_path / "p")
    assert load_prepared(tmp_path / "p").options.seed == 7
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("dear all")
    with pytest.raises(OutputError, match="holds something else"):
        save_prepared(load_prepared(tmp_path / "q"), tmp_path / "other")
