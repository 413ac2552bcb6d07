"""What goes to the hub and what does not, against a small hub on this machine and the real client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import DatasetCardData, ModelCardData, RepoCard, constants
from sentence_transformers import SentenceTransformer
from typer.main import get_command
from typer.testing import CliRunner

from dino_st import prepare_pairs, push_to_hub, train_encoder
from dino_st.cli.main import app
from dino_st.cli.upload import publishes
from dino_st.data.cards import read_origin, state_origin
from dino_st.errors import ConfigurationError, HubError, InputError
from dino_st.pipeline import publish
from dino_st.pipeline.publish import PublishOptions, check_upload
from dino_st.preparation.splits import load_prepared, save_prepared
from tests.data.test_load_dataset import write_raw
from tests.hub_stand_in import TOKEN, Hub, as_the_hub, problems, running_hub
from tests.training_fixtures import QUICK, raw_pairs

# huggingface_hub's LFS upload, under httpx2
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with as_the_hub(monkeypatch) as hub:
        yield hub


def raw(directory: Path, *words: str) -> Path:
    """Raw data of a run by a model of this machine and, so it says, a server; with all that may lie about."""
    write_raw(directory, words or ("one", "two"))
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["provenance"] |= {"model": "/mnt/people/anna/models/small", "base_url": "http://gpu7.lab:8000/v1"}
    manifest["configuration"] |= {"device": "cpu", "base_url": "http://gpu7.lab:8000/v1"}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    card = directory / "README.md"
    card.write_text(card.read_text().replace("`tiny`", "`/mnt/people/anna/models/small`") + "http://gpu7.lab:8000/v1\n")
    for name in (".lock", "rejected.jsonl", "audit.jsonl", "run.log", "answers.jsonl", ".env", "data/notes.parquet"):
        (directory / name).write_text(f"secret of {directory}")
    return directory


def prepared(directory: Path, **changes: Any) -> Path:
    save_prepared(prepare_pairs(raw_pairs(20), **changes), directory, provenance={"model": "someone/writer"})
    return directory


@pytest.fixture(scope="module")
def encoder(bert: Path, splits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trained") / "encoder"
    train_encoder(splits, bert, directory, **QUICK)
    return directory


def downloaded(hub: Hub, repo: str, to: Path) -> Path:
    for name, content in hub.repositories[repo].files.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(content)
    return to


def test_raw_data_goes_up_with_its_records_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    directory = raw(tmp_path / "raw")
    url = push_to_hub(directory, "pairs", private=True, language="en,de", license="cc-by-4.0")
    assert url == f"{hub.address}/datasets/me/pairs"
    repository = hub.repositories["me/pairs"]
    assert repository.private
    shards = [f"data/train-0000{number}.parquet" for number in range(5)]
    assert sorted(repository.files) == ["README.md", *shards, "manifest.json"]
    for shard in shards:
        assert repository.files[shard] == (directory / shard).read_bytes()
    header = DatasetCardData(**hub.header("me/pairs"))
    assert (header.language, header.license) == (["en", "de"], "cc-by-4.0")
    assert header.tags == ["sentence-transformers", "dino-st", "synthetic"]
    assert (header.size_categories, header.task_categories) == (["n<1K"], ["sentence-similarity"])
    text = repository.files["README.md"].decode()
    assert 'load_dataset("me/pairs", split="train")' in text
    assert "Not stated" not in text
    assert read_origin(directory) == {"language": ["en", "de"], "license": "cc-by-4.0"}


def test_no_path_no_server_and_no_token_goes_up(hub: Hub, tmp_path: Path) -> None:
    directory = raw(tmp_path / "raw")
    push_to_hub(directory, "me/pairs")
    everything = b"\n".join(hub.repositories["me/pairs"].files.values()).decode(errors="replace")
    for secret in (TOKEN, "anna", "/mnt/", "gpu7", str(tmp_path), "secret of", f"{Path.home()}/"):
        assert secret not in everything
    manifest = json.loads(hub.repositories["me/pairs"].files["manifest.json"])
    assert manifest["provenance"]["model"] == "small"
    assert (
        manifest["configuration"]["task"]
        == json.loads((directory / "manifest.json").read_text())["configuration"]["task"]
    )
    assert "`small`" in everything
    assert "Not stated. It follows from the sentences" in everything


def test_no_path_goes_up_in_the_manifest_of_many_waves(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_LARGEST_TEXT", 10)
    push_to_hub(raw(tmp_path / "raw"), "me/pairs")
    manifest = hub.repositories["me/pairs"].files["manifest.json"].decode()
    for secret in ("anna", "/mnt/", "gpu7", str(tmp_path)):
        assert secret not in manifest


def test_no_model_is_named_for_data_whose_writer_is_not_recorded(hub: Hub, tmp_path: Path) -> None:
    save_prepared(prepare_pairs(raw_pairs(20)), tmp_path / "own", provenance={"model": "unknown"})
    push_to_hub(tmp_path / "own", "me/own")
    text = hub.repositories["me/own"].files["README.md"].decode()
    assert "Not stated. It follows from the sentences that were given.\n" in text
    assert "base_model" not in hub.header("me/own")


@pytest.mark.filterwarnings("ignore:all pairs have the label 0.5")
def test_language_and_licence_go_on_from_step_to_step(hub: Hub, tmp_path: Path) -> None:
    run = CliRunner()
    first, second = tmp_path / "scored", tmp_path / "prepared"
    write_raw(first, ["one", "two", "three", "four"])
    state_origin(first, language=["de"])
    done = run.invoke(app, ["prepare", str(first), "--output", str(second), "--license", "mit"])
    assert done.exit_code == 0, done.output
    assert read_origin(second) == {"language": ["de"], "license": "mit"}
    assert load_prepared(second).provenance.items() >= {"language": ["de"], "license": "mit"}.items()
    push_to_hub(second, "me/prepared")
    assert hub.header("me/prepared")["language"] == ["de"]


def test_prepared_splits_are_found_by_sentence_transformers_and_read_by_datasets(hub: Hub, tmp_path: Path) -> None:
    hub.models["someone/writer"] = {"license": "apache-2.0"}
    directory = prepared(tmp_path / "prepared")
    before = (directory / "README.md").read_text()
    push_to_hub(directory, "our-lab/pairs")
    header = hub.header("our-lab/pairs")
    assert "sentence-transformers" in header["tags"]
    assert header["base_model"] == ["someone/writer"]
    assert [one["split"] for one in header["configs"][0]["data_files"]] == ["train", "validation"]
    card = hub.repositories["our-lab/pairs"].files["README.md"].decode()
    assert "terms of `someone/writer`; its card on the hub says `apache-2.0`" in card
    copy = downloaded(hub, "our-lab/pairs", tmp_path / "copy")
    read = datasets.load_dataset(str(copy), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in read.items()} == {
        name: datasets.Dataset.from_parquet(str(directory / "data" / f"{name}.parquet")).num_rows for name in read
    }
    assert (directory / "README.md").read_text() == before  # at home the card names no files
    assert "configs" not in before


def test_an_encoder_goes_up_and_comes_down_the_same(hub: Hub, tmp_path: Path, encoder: Path) -> None:
    (encoder / "notes.md").write_text("mine")
    (encoder / "optimizer.pt").write_bytes(b"")
    push_to_hub(encoder, "me/encoder", language="en", license="apache-2.0")
    files = hub.repositories["me/encoder"].files
    assert {"modules.json", "training.json", "README.md", "model.safetensors", "1_Pooling/config.json"} <= set(files)
    assert not {"notes.md", "optimizer.pt", ".lock"} & set(files)
    header = ModelCardData(**hub.header("me/encoder"))
    assert (header.pipeline_tag, header.library_name) == ("sentence-similarity", "sentence-transformers")
    assert (header.language, header.license) == (["en"], "apache-2.0")
    assert 'SentenceTransformer("me/encoder")' in files["README.md"].decode()
    text = ["the dog sees a tree"]
    copy = SentenceTransformer(str(downloaded(hub, "me/encoder", tmp_path / "copy")), device="cpu")
    assert np.array_equal(copy.encode(text), SentenceTransformer(str(encoder), device="cpu").encode(text))


def test_what_is_there_is_not_sent_again_and_what_is_gone_is_removed(hub: Hub, tmp_path: Path) -> None:
    push_to_hub(raw(tmp_path / "raw", "a", "b", "c"), "me/pairs")
    hub.requests.clear()
    push_to_hub(tmp_path / "raw", "me/pairs")
    assert not [request for request in hub.requests if request.startswith("PUT")]
    assert hub.repositories["me/pairs"].commits == 1  # nothing had changed
    push_to_hub(raw(tmp_path / "fewer", "a"), "me/pairs")
    data = [name for name in hub.repositories["me/pairs"].files if name.startswith("data/")]
    assert len(data) == 3


def test_an_interrupted_upload_goes_on(hub: Hub, tmp_path: Path) -> None:
    sent: list[str] = []

    def fail_at_the_second(method: str, path: str) -> int | None:
        sent.extend([path] if method == "PUT" else [])
        return 400 if method == "PUT" and len(set(sent)) > 1 and path == sent[-1] != sent[0] else None

    hub.refuse = fail_at_the_second
    directory = prepared(tmp_path / "prepared")
    with pytest.raises(HubError, match=r"me/pairs: .*What was written is whole; the same command goes on"):
        push_to_hub(directory, "me/pairs")
    assert not hub.repositories["me/pairs"].files
    arrived, hub.refuse = set(hub.blobs), None
    assert len(arrived) == 1
    hub.requests.clear()
    push_to_hub(directory, "me/pairs")
    assert not [one for one in hub.requests if one.startswith("PUT") and one.split("/")[-1] in arrived]
    assert "data/validation.parquet" in hub.repositories["me/pairs"].files


@pytest.mark.slow
def test_a_killed_upload_goes_on_with_the_same_command(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    raw_pairs(20).to_json(pairs)
    command = [sys.executable, "-m", "dino_st", "prepare", str(pairs), "--output", str(tmp_path / "prepared")]
    with running_hub() as hub:
        told = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        process = subprocess.Popen(
            [*command, "--push-to-hub", "me/pairs"],
            env=os.environ | told,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        order, begun = threading.Lock(), list[str]()

        def kill(method: str, path: str) -> int | None:
            if method != "PUT":
                return None
            with order:  # files are sent side by side
                begun.append(path)
                if len(begun) == 1:
                    return None
            while not hub.blobs:
                time.sleep(0.01)
            process.kill()
            return 500

        hub.refuse = kill
        process.communicate(timeout=120)
        assert process.returncode == -9
        assert not hub.repositories["me/pairs"].files
        hub.refuse = None
        done = subprocess.run(
            [*command, "--push-to-hub", "me/pairs"], env=os.environ | told, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "complete already" in done.stdout
        assert f"Uploaded to {hub.address}/datasets/me/pairs" in done.stdout
        assert TOKEN not in done.stdout + done.stderr
        assert sum(request.startswith("PUT") for request in hub.requests) == 3  # one of them was cut off


@pytest.mark.parametrize(
    ("repo", "role", "refused", "message"),
    [
        ("me/pairs", "read", None, "the token may read alone; it needs the role write"),
        ("google/pairs", "write", None, "'google' is not you \\(me\\), nor an organisation .*our-lab"),
        ("readers/pairs", "write", None, "'readers' is not you"),
        ("me/pairs", "write", ("whoami", 401), "does not take the token; run `hf auth login`, or set HF_TOKEN"),
        ("me/pairs", "write", ("whoami", 429), "too many requests"),
        ("me/pairs", "write", ("repos/create", 403), "may not write there; it needs the role write"),
        ("me/pairs", "write", ("commit", 403), "may not write there"),
        ("me/pairs", "write", ("preupload", 404), "there is no such repository"),
    ],
)
def test_refusals_say_what_to_do(
    hub: Hub, tmp_path: Path, repo: str, role: str, refused: tuple[str, int] | None, message: str
) -> None:
    hub.role = role
    hub.refuse = refused and (lambda _, path: refused[1] if refused[0] in path else None)
    with pytest.raises(HubError, match=message) as caught:
        push_to_hub(raw(tmp_path / "raw"), repo)
    assert TOKEN not in str(caught.value)


def test_without_token_or_connection_it_is_said_at_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = PublishOptions.of(push_to_hub="me/pairs")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with pytest.raises(HubError, match="needs a token of the hub, and there is none; run `hf auth login`"):
        check_upload(options, "dataset")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"out of reach .offline mode is on"):
        check_upload(options, "dataset")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo_id": "a/b/c"}, "option 'push_to_hub' is 'a/b/c'; expected OWNER/NAME"),
        ({"repo_id": "me/x", "language": "English"}, "option 'language' is 'English'; expected codes of languages"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        push_to_hub(tmp_path, **options)


def test_a_licence_that_the_hub_does_not_know_is_refused_before_anything_is_made(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"the hub refuses the card .*license.*mend --language or --license"):
        push_to_hub(raw(tmp_path / "raw"), "me/pairs", license="do what you want")
    assert not hub.repositories


def test_the_card_is_looked_at_where_the_data_goes_and_nowhere_else(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions of huggingface_hub check at huggingface.co, whatever HF_ENDPOINT says."""

    def elsewhere(*_: Any, **__: Any) -> None:
        raise AssertionError("the card's header left for another machine")

    monkeypatch.setattr(RepoCard, "validate", elsewhere)
    assert check_upload(PublishOptions.of(push_to_hub="me/pairs", license="mit"), "dataset") == "me/pairs"
    assert "POST /api/validate-yaml" in hub.requests


def test_what_is_public_does_not_take_what_is_to_be_private(hub: Hub, tmp_path: Path) -> None:
    push_to_hub(raw(tmp_path / "raw"), "me/pairs")
    with pytest.raises(HubError, match="is there already, and everyone may read it"):
        push_to_hub(tmp_path / "raw", "me/pairs", private=True)


def test_another_kind_of_data_does_not_go_to_the_same_repository(hub: Hub, tmp_path: Path) -> None:
    push_to_hub(raw(tmp_path / "raw"), "me/pairs")
    with pytest.raises(HubError, match=r"holds another kind of data \(it has manifest.json\)"):
        push_to_hub(prepared(tmp_path / "prepared"), "me/pairs")


def test_what_is_not_whole_is_not_uploaded(hub: Hub, tmp_path: Path) -> None:
    directory = raw(tmp_path / "raw")
    (directory / "data" / "train-00001.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="missing or damaged"):
        push_to_hub(directory, "me/pairs")
    write_raw(tmp_path / "part", ["one"], "1/2")
    with pytest.raises(InputError, match="is shard 1/2"):
        push_to_hub(tmp_path / "part", "me/pairs")
    with pytest.raises(InputError, match="it holds none of"):
        push_to_hub(tmp_path, "me/pairs")
    assert not hub.repositories


def test_a_command_looks_at_the_hub_first_and_uploads_last(hub: Hub, tmp_path: Path) -> None:
    run = CliRunner()
    pairs, output = tmp_path / "pairs.jsonl", tmp_path / "prepared"
    raw_pairs(20).to_json(pairs)
    command = ["prepare", str(pairs), "--output", str(output), "--push-to-hub"]
    refused = run.invoke(app, [*command, "google/pairs"])
    assert refused.exit_code == 3
    assert not output.exists()
    hub.refuse = lambda _, path: 403 if "commit" in path else None
    failed = run.invoke(app, [*command, "me/pairs"])
    assert failed.exit_code == 3
    assert "What was written is whole" in " ".join(failed.output.split())
    hub.refuse = None
    done = run.invoke(app, [*command, "me/pairs", "--private", "--language", "en", "--license", "mit"])
    assert done.exit_code == 3  # the first try made it a public one
    hub.repositories["me/pairs"].private = True
    done = run.invoke(app, [*command, "me/pairs", "--private", "--language", "en", "--license", "mit", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["hub"] == f"{hub.address}/datasets/me/pairs"
    assert hub.header("me/pairs")["license"] == "mit"


def test_a_recipe_uploads_the_encoder_that_it_trained(hub: Hub, tmp_path: Path) -> None:
    command = ["run", "quickstart", "--output", str(tmp_path / "out"), "--set", "limit=12", "--push-to-hub"]
    refused = CliRunner().invoke(app, [*command, "google/encoder"])
    assert refused.exit_code == 3, refused.output
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, [*command, "me/encoder", "--language", "en", "--license", "mit", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["hub"] == f"{hub.address}/me/encoder"
    assert {"modules.json", "model.safetensors", "training.json"} <= set(hub.repositories["me/encoder"].files)
    assert not any(name.startswith(("raw", "prepared", "data")) for name in hub.repositories["me/encoder"].files)
    assert (hub.header("me/encoder")["language"], hub.header("me/encoder")["license"]) == (["en"], "mit")


def test_scored_pairs_go_up_with_the_language_of_the_pairs(hub: Hub, tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", ["one", "two"])
    state_origin(tmp_path / "raw", language=["de"])
    command = ["score", str(tmp_path / "raw"), "--model", "dino-tiny", "--output", str(tmp_path / "scored")]
    done = CliRunner().invoke(app, [*command, "--license", "mit", "--push-to-hub", "me/scored"])
    assert done.exit_code == 0, done.output
    assert (hub.header("me/scored")["language"], hub.header("me/scored")["license"]) == (["de"], "mit")
    assert "manifest.json" in hub.repositories["me/scored"].files


def test_whatever_writes_data_or_an_encoder_can_upload_it() -> None:
    others = {"quickstart", "evaluate", "audit", "report", "tasks", "version", "doctor", "mteb"}
    for command in get_command(app).commands.values():  # type: ignore[attr-defined]  # a group
        assert ("push_to_hub" in {one.name for one in command.params}) is (command.name not in others), command.name


def test_a_dry_run_looks_at_the_hub_and_uploads_nothing(hub: Hub, tmp_path: Path) -> None:
    ran: list[Path] = []

    @publishes("dataset")
    def command(output: Path, given: dict[str, Any], dry_run: bool) -> None:
        ran.append(output)

    command(output=tmp_path / "raw", given={"push_to_hub": "me/pairs"}, dry_run=True)
    assert ran == [tmp_path / "raw"]
    assert "GET /api/whoami-v2" in hub.requests
    assert not hub.repositories


def test_the_stand_in_refuses_what_the_hub_would() -> None:
    assert problems("---\nlicense: mine\nlanguage: English\n---\n", "model")
    assert not problems("---\nlicense: mit\nlanguage: en\n---\n", "model")
    assert huggingface_hub.__version__
