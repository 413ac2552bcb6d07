"""The task classes: metadata, where their data comes from, and scores that agree with SciPy's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from scipy.spatial.distance import cosine
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

import mteb_tasks
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import ConfigurationError, DatasetError, EvaluationError, InputError
from dino_st.evaluation.evaluate import evaluate_encoder
from mteb_tasks import sts_files
from mteb_tasks.registry import SYNCSE_TASKS
from mteb_tasks.tasks import ALL_TASKS, STS_TASKS
from tests.mteb_tasks.fixtures import make_bag_of_words, write_sts_directory
from tests.mteb_tasks.fixtures.senteval import YEARS

SHARED = Path(__file__).parents[3] / "shared"
SEVEN = [
    "DinoSTS12",
    "DinoSTS13",
    "DinoSTS14",
    "DinoSTS15",
    "DinoSTS16",
    "DinoSTSBenchmark",
    "DinoSICKR",
]


@pytest.fixture(scope="module")
def sts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sts_directory(tmp_path_factory.mktemp("sts"))


@pytest.fixture
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No directory named and an empty datasets cache."""
    monkeypatch.delenv("DINO_ST_STS_DIR", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def scipy_scores(model: SentenceTransformer, rows: list[tuple[str, str, float, str]]) -> dict[str, Any]:
    """What a task should report, computed without any code of the package."""
    first = model.encode([row[0] for row in rows], show_progress_bar=False).astype(np.float64)
    second = model.encode([row[1] for row in rows], show_progress_bar=False).astype(np.float64)
    # Pairs of identical sentences must tie: the noise of their embeddings is not an order.
    cosines = np.array([round(1 - cosine(a, b), 9) for a, b in zip(first, second, strict=True)])
    gold = np.array([row[2] for row in rows])
    names = np.array([row[3] for row in rows])
    sources = {name: spearmanr(cosines[names == name], gold[names == name])[0] for name in set(names)}
    sizes = [int((names == name).sum()) for name in sources]
    return {
        "all": spearmanr(cosines, gold)[0],
        "sources": sources,
        "mean": np.mean(list(sources.values())),
        "wmean": np.average(list(sources.values()), weights=sizes),
    }


def raw_rows(root: Path, task: str) -> list[tuple[str, str, float, str]]:
    """The pairs of a task, read here by other means than the package's."""
    if task == "DinoSTSBenchmark":
        lines = (root / "STS/STSBenchmark/sts-test.csv").read_text("utf-8").strip("\n").split("\n")
        return [(f[5], f[6], float(f[4]), "") for f in (line.split("\t") for line in lines)]
    if task in ("DinoSICKR", "DinoSICKRAll"):
        parts = ["test_annotated"] if task == "DinoSICKR" else ["train", "trial", "test_annotated"]
        texts = [(root / f"SICK/SICK_{part}.txt").read_text("utf-8").strip().split("\n")[1:] for part in parts]
        return [(f[1], f[2], float(f[3]), "") for text in texts for f in (line.split("\t") for line in text)]
    rows = []
    folder = root / f"STS/{task.removeprefix('Dino')}-en-test"
    for source in YEARS[task.removeprefix("Dino")]:
        inputs = (folder / f"STS.input.{source}.txt").read_text("utf-8").split("\n")
        gold = (folder / f"STS.gs.{source}.txt").read_text("utf-8").split("\n")
        pairs = [(line.split("\t"), score) for line, score in zip(inputs, gold, strict=False) if score]
        rows += [(fields[0], fields[1], float(score), source) for fields, score in pairs]
    return rows


def check_against_scipy(model: SentenceTransformer, root: Path, tasks: list[Any], output: Path) -> None:
    table = evaluate_encoder({"model": model}, tasks=tasks, output_dir=output)
    for task in tasks:
        name = task.metadata.name
        expected = scipy_scores(model, raw_rows(root, name))
        stored = json.loads(next(output.glob(f"results/*/*/{name}.json")).read_text("utf-8"))["scores"]["test"][0]
        assert stored["main_score"] == pytest.approx(expected["all"], abs=1e-6)
        assert table.scores["model"][name] == pytest.approx(100 * expected["all"], abs=1e-4)
        if name.removeprefix("Dino") in YEARS:
            assert stored["sources"] == pytest.approx(expected["sources"], abs=1e-6)
            assert stored["all"] == pytest.approx(expected["all"], abs=1e-6)
            assert stored["mean"] == pytest.approx(expected["mean"], abs=1e-6)
            assert stored["wmean"] == pytest.approx(expected["wmean"], abs=1e-6)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_metadata_are_complete(task: type[Any]) -> None:
    assert task.metadata.is_filled()
    assert task.metadata.main_score == "cosine_spearman"
    assert task.metadata.bibtex_citation.strip().startswith("@inproceedings{")
    assert task().hf_subsets == ["default"]


def test_a_directory_is_looked_through_for_all_that_the_papers_tasks_read(sts_dir: Path, tmp_path: Path) -> None:
    assert [file for task in STS_TASKS for file in (*task.files, *task.validation_files)] == [*sts_files.OF_THE_PAPERS]
    sts_files.check_sts_directory(sts_dir)
    for path in ("STS/STS15-en-test/STS.gs.belief.txt", "STS/STSBenchmark/sts-dev.csv", "SICK/SICK_test_annotated.txt"):
        shutil.copytree(sts_dir, tmp_path / path, dirs_exist_ok=True)
        (tmp_path / path / path).unlink()
        with pytest.raises(InputError, match=f"{path}' is missing"):
            sts_files.check_sts_directory(tmp_path / path)


def test_the_seven_tasks_have_the_papers_order() -> None:
    assert [task.metadata.name for task in STS_TASKS] == SEVEN


def test_every_score_agrees_with_scipy(sts_dir: Path, tmp_path: Path) -> None:
    tasks = mteb_tasks.select_tasks(["sts", "DinoSICKRAll"], sts_dir=sts_dir)
    check_against_scipy(make_bag_of_words(), sts_dir, tasks, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "models" / "stopgap-lm").is_dir(), reason="the shared model is not here")
def test_every_score_agrees_with_scipy_on_the_real_data_and_a_transformer(tmp_path: Path) -> None:
    root = SHARED / "data" / "sts"
    model = load_trainable_encoder(SHARED / "models" / "stopgap-lm", device="cpu")
    tasks = mteb_tasks.select_tasks(["DinoSTS13", "DinoSTS16", "DinoSTSBenchmark"], sts_dir=root)
    check_against_scipy(model, root, tasks, tmp_path)


def test_identical_sentences_tie_and_zero_vectors_have_similarity_zero() -> None:
    from dino_st.evaluation.metrics import pairwise_cosine

    first = np.array([[0.1, 0.7, 0.3], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=np.float32)
    second = np.array([[0.1, 0.7, 0.3], [1.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], dtype=np.float32)
    assert pairwise_cosine(first, second).tolist() == [1.0, 0.0, -1.0]
    noise = np.float32(1e-7)
    assert pairwise_cosine(first, second + noise)[0] == 1.0


def test_the_development_split_of_sts_benchmark_can_be_chosen(sts_dir: Path) -> None:
    task = mteb_tasks.DinoSTSBenchmark(sts_dir=sts_dir).filter_eval_splits(["validation"])
    table = evaluate_encoder({"model": make_bag_of_words()}, tasks=[task])
    task.load_data()
    data: Any = task.dataset
    assert {split: len(rows) for split, rows in data.items()} == {"test": 1379, "validation": 1500}
    rows = [(r["sentence1"], r["sentence2"], r["score"], "") for r in data["validation"]]
    assert table.scores["model"]["DinoSTSBenchmark"] == pytest.approx(
        100 * scipy_scores(make_bag_of_words(), rows)["all"], abs=1e-4
    )


def test_the_directory_may_be_named_by_the_environment(sts_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINO_ST_STS_DIR", str(sts_dir))
    task = mteb_tasks.DinoSTS13()
    task.load_data()
    assert len(task.dataset["test"]) == 1500  # type: ignore[index]


def test_local_data_have_their_hash_as_revision_until_they_are_unloaded(sts_dir: Path) -> None:
    task = mteb_tasks.DinoSTS13(sts_dir=sts_dir)
    task.load_data()
    assert task.metadata.revision == task.data_revision()
    assert task.metadata.revision != mteb_tasks.DinoSTS13.metadata.revision
    task.unload_data()
    assert task.metadata is mteb_tasks.DinoSTS13.metadata
    task.load_data()
    assert task.metadata.revision == task.data_revision()


def test_statistics_of_the_data_stay_out_of_the_installed_package(
    sts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path))
    task = mteb_tasks.DinoSTS16(sts_dir=sts_dir)
    task.load_data()
    statistics = task.calculate_descriptive_statistics()
    assert statistics["test"]["num_samples"] == 1186
    assert [path.name for path in tmp_path.rglob("*.json")] == [f"DinoSTS16-{task.data_revision()[:8]}.json"]


def _hub_copy(pairs: Mapping[str, int]) -> DatasetDict:
    return DatasetDict(
        {
            split: Dataset.from_dict({"sentence1": ["a"] * n, "sentence2": ["b"] * n, "score": [1.0] * n})
            for split, n in pairs.items()
        }
    )


def test_without_a_directory_the_hub_is_asked_for_the_pinned_revision(
    no_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def load_dataset(**options: Any) -> DatasetDict:
        asked.update(options)
        return _hub_copy({"train": 5, "test": 3108})

    monkeypatch.setattr("mteb.abstasks.abstask.load_dataset", load_dataset)
    task = mteb_tasks.DinoSTS12()
    task.load_data()
    assert (asked["path"], asked["revision"]) == ("mteb/sts12-sts", "a0d554a64d88156834ff5ae9920b964011b16384")
    assert task.metadata.revision == asked["revision"]


def test_a_hub_copy_of_another_size_is_refused(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mteb.abstasks.abstask.load_dataset", lambda **_: _hub_copy({"test": 3107}))
    with pytest.raises(DatasetError, match=r"DinoSTS12: the hub's copy has 3107 pairs in split 'test', .* has 3108"):
        mteb_tasks.DinoSTS12().load_data()


def test_the_datasets_cache_comes_before_the_hub(no_data: Path) -> None:
    revision = mteb_tasks.DinoSTS16.metadata.revision
    folder = no_data / "mteb___sts16-sts" / "default" / "0.0.0" / revision
    _hub_copy({"test": 1186})["test"].save_to_disk(folder)
    next(folder.glob("data-*.arrow")).rename(folder / "sts16-sts-test.arrow")
    (folder / "dataset_info.json").write_text(json.dumps({"splits": {"test": {"num_examples": 1186}}}))
    task = mteb_tasks.DinoSTS16()  # HF_HUB_OFFLINE is set, so asking the hub would fail
    task.load_data()
    assert len(task.dataset["test"]) == 1186  # type: ignore[index]


def test_data_that_are_nowhere_are_an_error_that_names_the_option(no_data: Path) -> None:
    with pytest.raises(
        InputError, match=r"data of DinoSTS12, .* not in the local cache, and the hub is out.*`--sts-dir DIR`"
    ):
        mteb_tasks.DinoSTS12().load_data()


def test_sick_cannot_come_from_the_hub_which_pools_it(no_data: Path) -> None:
    with pytest.raises(InputError, match=r"DinoSICKR cannot be loaded from the hub.*`--sts-dir DIR`"):
        mteb_tasks.DinoSICKR().load_data()


def test_sources_are_not_available_from_the_hub(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = _hub_copy({"test": 1186})
    texts = [f"the {word}" for word in ("man", "dog", "cat", "girl")]
    rows = {
        "sentence1": [texts[i % 4] for i in range(1186)],
        "sentence2": [texts[i % 3] for i in range(1186)],
        "score": [float(i % 5) for i in range(1186)],
    }
    copy["test"] = Dataset.from_dict(rows)
    monkeypatch.setattr("mteb.abstasks.abstask.load_dataset", lambda **_: copy)
    model = make_bag_of_words()
    assert evaluate_encoder({"model": model}, tasks=[mteb_tasks.DinoSTS16()]).tasks == ["DinoSTS16"]
    with pytest.raises(EvaluationError, match=r"DinoSTS16 has no score by the protocol 'mean'.*`--sts-dir DIR`"):
        evaluate_encoder({"model": model}, tasks=[mteb_tasks.DinoSTS16()], protocol="mean")


def test_tasks_are_selected_by_group_by_name_and_once(sts_dir: Path) -> None:
    tasks = mteb_tasks.select_tasks(["sts", "DinoSTS12", "DinoSICKRAll", "STS22.v2"], sts_dir=sts_dir)
    assert [task.metadata.name for task in tasks] == [*SEVEN, "DinoSICKRAll", "STS22.v2"]


def test_syncse_selects_mtebs_reranking_tasks() -> None:
    tasks = mteb_tasks.select_tasks("syncse")
    assert [task.metadata.name for task in tasks] == list(SYNCSE_TASKS)
    assert {task.metadata.type for task in tasks} == {"Reranking"}


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"no task 'DinoSTS21'; did you mean 'DinoSTS1\d'\?"):
        mteb_tasks.select_tasks("DinoSTS21")
    with pytest.raises(ConfigurationError, match=r"no task 'Foo'; no name is similar to it"):
        mteb_tasks.select_tasks("Foo")
    with pytest.raises(ConfigurationError, match=r"no task 'SciDocRR'; did you mean 'SciDocsRR'\?"):
        mteb_tasks.select_tasks("SciDocRR")


@pytest.mark.parametrize(
    ("column", "task"), [("STSb", "DinoSTSBenchmark"), ("sick", "DinoSICKR"), ("TREC", "DinoTREC")]
)
def test_the_head_of_a_column_is_answered_with_its_task_and_not_with_a_name_that_is_spelled_alike(
    column: str, task: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"no task '{column}'; did you mean '{task}'\?"):
        mteb_tasks.select_tasks(column)


def test_plain_mteb_evaluates_a_task(sts_dir: Path) -> None:
    task = mteb_tasks.DinoSTS16(sts_dir=sts_dir)
    model = make_bag_of_words()
    result = mteb.evaluate(_Encoder(model), task, cache=None, show_progress_bar=False)
    expected = scipy_scores(model, raw_rows(sts_dir, "DinoSTS16"))["all"]
    assert result.task_results[0].get_score() == pytest.approx(expected, abs=1e-6)
    assert result.task_results[0].dataset_revision == task.data_revision()


class _Encoder:
    """The least that mteb accepts as an encoder; its own wrapper warns of deprecations of its own making."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model
        self.mteb_model_meta = mteb.models.ModelMeta.create_empty({"name": "test/model", "revision": "1"})
        self.similarity = model.similarity
        self.similarity_pairwise = model.similarity_pairwise

    def encode(self, inputs: Iterator[dict[str, list[str]]], **_: Any) -> Any:
        return self.model.encode([text for batch in inputs for text in batch["text"]], show_progress_bar=False)


def test_of_a_task_in_several_languages_those_parts_are_taken_that_are_asked_for() -> None:
    [task] = mteb_tasks.select_tasks("STS22.v2", languages=["deu", "fra"])
    assert sorted(task.hf_subsets) == ["de", "de-fr", "fr"]
    [task] = mteb_tasks.select_tasks("JSICK", languages=["jpn"])
    assert list(task.hf_subsets) == ["default"]
    assert len(mteb_tasks.select_tasks("sts", languages=["eng"])) == 7


@pytest.mark.parametrize(
    ("name", "language", "message"),
    [
        ("JSICK", "deu", "languages = deu: MTEB's task JSICK is in jpn"),
        ("STS22.v2", "de", "languages = de: MTEB's task STS22.v2 is in ara.*deu is German"),
        ("sts", "deu", "languages = deu: DinoSTS12 is English; name tasks of MTEB"),
    ],
)
def test_a_language_that_a_task_has_not_is_refused_with_those_that_it_has(
    name: str, language: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mteb_tasks.select_tasks(name, languages=[language])
