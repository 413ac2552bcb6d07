"""Commands that get an address (`s3://…`) where a path is usual: on a store, or refused with advice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dino_st.errors import OutputError
from dino_st.syncse.run import generate_triplets
from tests.cli.commands import run, words_of
from tests.data.test_shards_on_object_stores import contents
from tests.shelf import Shelf

FLAGS = ["--max-new-tokens", "14", "--top-k", "60", "--dtype", "float32", "--device", "cpu", "--batch-size", "12"]

MOUNT = "mount it, or write to a disk and copy"
COPY = "this is an address, which is not read here: copy what is there"
OF_SERVER = "--backend openai --base-url http://127.0.0.1:9/v1 --decay-constant 0"


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("".join(f"Sentence number {i} about a cat.\n" for i in range(8)))
    return path


def test_data_on_an_object_store_is_written_merged_scored_and_prepared_as_on_disk(
    sentences: Path, model_directory: Path, tmp_path: Path
) -> None:
    generate = ["generate", "--model", model_directory, "--input", sentences, *FLAGS]
    score = ["--model", model_directory, "--dtype", "float32", "--device", "cpu", "--batch-size", "12"]
    shelf, disk = f"shelf:/{tmp_path}/store", tmp_path / "disk"
    for base in (shelf, disk):
        for command in (
            [*generate, "--shard", "1/2", "--output", f"{base}/1"],
            [*generate, "--shard", "2/2", "--output", f"{base}/2"],
            ["merge", f"{base}/1", f"{base}/2", "--output", f"{base}/raw"],
            ["score", f"{base}/raw", *score, "--output", f"{base}/scored", "--license", "mit"],
            ["prepare", f"{base}/scored", "--output", tmp_path / f"prepared-{base == disk}"],
        ):
            result = run(*command)
            assert result.exit_code == 0, result.output
            where = command[command.index("--output") + 1]
            assert f"in {where}" in words_of(result) or command[0] == "prepare"
    assert "license: mit" in (disk / "scored" / "README.md").read_text()
    assert contents(tmp_path / "store") == contents(disk)
    assert contents(tmp_path / "prepared-True") == contents(tmp_path / "prepared-False")
    result = run(*generate, "--output", f"{shelf}/whole", "--json")
    assert json.loads(result.stdout)["output"] == f"{shelf}/whole"


def test_what_a_store_refuses_is_told_before_the_model_is_loaded(
    sentences: Path, tmp_path: Path, model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shelf, "fails_at", 0)
    monkeypatch.setattr("dino_st.backends.local.LocalWriter", None)
    result = run("generate", "--model", model_directory, "--input", sentences, "--output", f"shelf://{tmp_path}/raw")
    assert result.exit_code == 1
    assert "cannot be used (ConnectionError: the network is gone); check address and network" in words_of(result)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "syncse --input {sentences} --model dino-tiny --output memory://a/raw",
            MOUNT,
        ),
        (
            f"generate --input {{sentences}} --model m {OF_SERVER} --output memory://a/raw",
            MOUNT,
        ),
        (
            "generate --input {sentences} --model dino-tiny --output memory://a/raw --push-to-hub me/raw",
            "--push-to-hub along with memory://a/raw: what is uploaded must be on a disk",
        ),
        ("run quickstart --output memory://a/all", MOUNT),
        (
            "train memory://a/prepared --encoder e --output model",
            COPY,
        ),
        ("audit memory://a/raw", COPY),
        ("report memory://a/raw --output out", COPY),
        (
            "prepare memory://a/pairs.csv --output out",
            "memory://a/pairs.csv: holds no manifest.json; expected a directory",
        ),
        (
            "generate --input memory://a/x.txt --model dino-tiny --output raw",
            COPY,
        ),
        (
            "report raw --output file:///tmp/a",
            "this is an address (file), and a directory is expected; leave out file://",
        ),
    ],
)
def test_where_a_disk_is_needed_an_address_is_refused_with_advice(
    command: str, message: str, sentences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    result = run(*command.format(sentences=sentences).split())
    assert result.exit_code in (1, 2), result.output
    assert message in words_of(result)
    assert contents(tmp_path) == before


def test_in_python_triplets_are_refused_before_their_model_is_loaded() -> None:
    with pytest.raises(
        OutputError, match=r"memory://a/raw: this is an address \(memory\), and a directory is expected"
    ):
        generate_triplets("no such model", ["A man plays."], output_dir="memory://a/raw")
