"""What mteb is told of an encoder, and what stands in its card."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mteb
import pytest
from huggingface_hub import ModelCard
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction

import mteb_tasks
from dino_st.data.cards import with_header
from dino_st.encoders.directory import directory_revision
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ModelError
from dino_st.evaluation.evaluate import evaluate_encoder
from dino_st.evaluation.model_meta import directory_meta, loaded_meta
from tests.hub_stand_in import problems
from tests.mteb_tasks.fixtures import make_bag_of_words, make_transformer, write_sts_directory

MEASURED = ("n_parameters", "memory_usage_mb", "embed_dim", "similarity_fn_name", "use_instructions")


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """An encoder as training leaves it, with a record and a card."""
    directory = tmp_path / "my-encoder"
    make_bag_of_words(directory)
    header = {"language": ["en", "de"], "license": "apache-2.0", "datasets": ["me/pairs"], "tags": ["dino-st"]}
    (directory / "README.md").write_text(with_header("# my-encoder\n", **header), encoding="utf-8")
    record = {"encoder": "someone/start", "encoder_revision": None, "options": {"checkpoint_choice": "sts-dev"}}
    (directory / "training.json").write_text(json.dumps(record), encoding="utf-8")
    return directory


def meta(directory: Path) -> ModelMeta:
    return directory_meta(directory, directory_revision(directory))


def test_the_files_say_what_the_loaded_encoder_says(encoder: Path, tmp_path: Path) -> None:
    for directory in (encoder, make_transformer(tmp_path / "bert")):
        from_files = meta(directory)
        loaded = loaded_meta("a/b", "c", load_trainable_encoder(directory, device="cpu"))
        assert {name: getattr(from_files, name) for name in MEASURED} == {n: getattr(loaded, n) for n in MEASURED}
        assert from_files.max_tokens == loaded.max_tokens


def test_every_field_of_mteb_is_filled_in_or_left_out_on_purpose(encoder: Path) -> None:
    found = meta(encoder)
    assert found.languages == ["eng-Latn", "deu-Latn"]
    assert (found.license, found.open_weights) == ("apache-2.0", True)
    assert found.adapted_from == "someone/start"
    assert found.training_datasets == {"STSBenchmark", "SICK-R"}
    assert found.public_training_data == "https://huggingface.co/datasets/me/pairs"
    assert found.n_embedding_parameters == found.n_parameters
    assert found.framework == ["Sentence Transformers", "PyTorch", "safetensors"]
    assert found.is_zero_shot_on(["STSBenchmark"]) is False
    unknown = {name for name in ModelMeta.model_fields if getattr(found, name) is None}
    of_publications = {"release_date", "reference", "citation", "contacts", "superseded_by"}
    of_others = {"n_active_parameters_override", "experiment_kwargs", "output_dtypes", "extra_requirements_groups"}
    assert unknown <= {*of_publications, *of_others, "loader", "public_training_code"}


def test_nothing_is_said_that_the_directory_does_not_say(tmp_path: Path) -> None:
    found = meta(make_transformer(tmp_path / "bert"))
    guessable = ("languages", "license", "open_weights", "training_datasets", "adapted_from", "public_training_data")
    assert [getattr(found, name) for name in guessable] == [None] * len(guessable)
    assert found.similarity_fn_name == ScoringFunction.COSINE


@pytest.mark.parametrize("header", [{"license": "my own", "language": "tlh-x"}, {"license": ["mit"], "language": 7}])
def test_what_mteb_has_no_name_for_is_left_out(tmp_path: Path, header: dict[str, Any]) -> None:
    directory = make_transformer(tmp_path / "bert")
    (directory / "README.md").write_text(with_header("# bert\n", **header), encoding="utf-8")
    found = meta(directory)
    assert (found.languages, found.license) == (None, None)


@pytest.mark.filterwarnings("ignore:is_cross_encoder is deprecated")  # mteb writes it, and warns of it as it reads
def test_mtebs_own_code_reads_what_is_stored(encoder: Path, tmp_path: Path) -> None:
    sts_dir = write_sts_directory(tmp_path / "sts")
    tasks = mteb_tasks.select_tasks(["DinoSTS13"], sts_dir=sts_dir)
    evaluate_encoder(str(encoder), tasks=tasks, output_dir=tmp_path / "out")
    stored = next((tmp_path / "out").rglob("model_meta.json"))
    read = ModelMeta.model_validate_json_resolved(stored.read_text(encoding="utf-8"))
    assert read.name == "local/my-encoder"
    assert read.languages == ["eng-Latn", "deu-Latn"]
    assert read.max_tokens is None or math.isinf(read.max_tokens)
    mteb_tasks.register()
    results = mteb.ResultCache(tmp_path / "out").load_results(tasks=["DinoSTS13"], require_model_meta=True)
    assert [model.model_name for model in results.model_results] == ["local/my-encoder"]
    assert results.to_dataframe().shape[0] == 1


def test_mteb_run_gets_the_same_and_a_loader(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(encoder.parent)
    mteb_tasks.register()
    found = mteb.get_model("./my-encoder", device="cpu").mteb_model_meta
    assert found.loader is not None
    assert found.name == "local/my-encoder"
    assert (found.embed_dim, found.languages, found.license) == (12, ["eng-Latn", "deu-Latn"], "apache-2.0")
    assert "deu-Latn" in found.to_python()


def test_measured_scores_go_into_the_card_once(encoder: Path, tmp_path: Path) -> None:
    sts_dir = write_sts_directory(tmp_path / "sts")
    for _ in range(2):
        tasks = mteb_tasks.select_tasks(["DinoSTS13", "DinoSTS16"], sts_dir=sts_dir)
        table = evaluate_encoder(str(encoder), tasks=tasks, add_to_card=True)
    card = ModelCard.load(encoder / "README.md")
    found = {one.dataset_name: one for one in card.data.eval_results}
    assert len(card.data.eval_results) == 2
    for name, score in table.scores[str(encoder)].items():
        assert found[name].metric_value == pytest.approx(score / 100, abs=1e-6)
        assert (found[name].task_type, found[name].metric_type) == ("STS", "cosine_spearman")
        assert found[name].dataset_type == f"local/{name}"
        assert found[name].dataset_revision
    assert card.data.license == "apache-2.0"
    assert not problems(str(card), "model")


def test_scores_are_kept_where_a_card_cannot_be_read(
    encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (encoder / "README.md").write_text("---\nlanguage: [en\n---\n# card\n", encoding="utf-8")
    tasks = mteb_tasks.select_tasks(["DinoSTS13"], sts_dir=write_sts_directory(tmp_path / "sts"))
    evaluate_encoder(str(encoder), tasks=tasks, output_dir=tmp_path / "out", add_to_card=True)
    assert (tmp_path / "out" / "scores.json").is_file()
    assert "README.md: its header cannot be read" in caplog.text


@pytest.mark.parametrize("options", [None, "x", []])
def test_a_foreign_record_of_training_is_no_obstacle(encoder: Path, options: Any) -> None:
    (encoder / "training.json").write_text(json.dumps({"options": options}), encoding="utf-8")
    assert meta(encoder).training_datasets is None


def test_without_the_option_no_card_changes(encoder: Path, tmp_path: Path) -> None:
    before = (encoder / "README.md").read_bytes()
    evaluate_encoder(str(encoder), tasks=mteb_tasks.select_tasks(["DinoSTS13"], sts_dir=write_sts_directory(tmp_path)))
    assert (encoder / "README.md").read_bytes() == before


def test_a_similarity_that_does_not_exist_is_named(encoder: Path) -> None:
    file = encoder / "config_sentence_transformers.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"similarity_fn_name": "foo"}), encoding="utf-8")
    with pytest.raises(ModelError, match="similarity_fn_name is 'foo'; expected cosine, dot, euclidean or manhattan"):
        meta(encoder)
