"""SentEval's transfer tasks: their files, their protocol against an independent computation, and `mteb`'s view."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_info, threadpool_limits

import mteb_tasks
from dino_st import evaluate_encoder
from dino_st.errors import ConfigurationError, DatasetError, InputError
from mteb_tasks import sts_files
from mteb_tasks.transfer import (
    CROSS_VALIDATED_GRID,
    NESTED_GRID,
    TRANSFER_TASKS,
    choose_and_predict,
    nested_cross_validation,
)
from tests.mteb_tasks.fixtures.encoders import make_bag_of_words
from tests.mteb_tasks.fixtures.senteval import write_transfer_directory

Matrix = NDArray[Any]
SEVEN = ["DinoMR", "DinoCR", "DinoSUBJ", "DinoMPQA", "DinoSST2", "DinoTREC", "DinoMRPC"]


@pytest.fixture(scope="module")
def senteval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transfer_directory(tmp_path_factory.mktemp("senteval"))


def _examples(classes: int = 2, seed: int = 0, size: int = 120) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=size)
    return rng.normal(size=(size, 5)) + 0.8 * np.eye(classes, 5)[labels], labels


def _fit(features: Matrix, labels: Matrix, strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(features, labels)


def _folds(labels: Matrix) -> list[tuple[Matrix, Matrix]]:
    return list(StratifiedKFold(10, shuffle=True, random_state=1111).split(labels, labels))


def _best(features: Matrix, labels: Matrix, grid: tuple[float, ...]) -> tuple[float, float]:
    """The C of SentEval's cross-validation and its accuracy, computed once more."""
    scores = [
        round(
            100 * np.mean([_fit(features[a], labels[a], c).score(features[b], labels[b]) for a, b in _folds(labels)]), 2
        )
        for c in grid
    ]
    return grid[int(np.argmax(scores))], max(scores) / 100


def test_nested_cross_validation_is_that_of_an_independent_program() -> None:
    features, labels = _examples()
    dev, test = [], []
    for train, held_out in _folds(labels):
        strength, accuracy = _best(features[train], labels[train], (0.25, 0.5, 1, 2, 4, 8))
        dev.append(accuracy)
        test.append(_fit(features[train], labels[train], strength).score(features[held_out], labels[held_out]))
    assert nested_cross_validation(features, labels) == pytest.approx((np.mean(dev), np.mean(test)))
    assert 0.6 < np.mean(test) < 0.9


def test_six_classes_are_chosen_for_by_cross_validation_and_predicted_as_by_an_independent_program() -> None:
    (features, labels), (test, _) = _examples(classes=5), _examples(classes=5, seed=1)
    strength, accuracy = _best(features, labels, (0.5, 1, 2, 4, 8, 16, 32))
    dev, predicted = choose_and_predict(features, labels, test, CROSS_VALIDATED_GRID)
    assert dev == pytest.approx(accuracy)
    assert predicted.tolist() == _fit(features, labels, strength).predict(test).tolist()


def test_a_validation_file_takes_the_place_of_cross_validation() -> None:
    (features, labels), (validation, right), (test, _) = _examples(), _examples(seed=1), _examples(seed=2)
    scores = [round(100 * _fit(features, labels, c).score(validation, right), 2) for c in NESTED_GRID]
    dev, predicted = choose_and_predict(features, labels, test, NESTED_GRID, (validation, right))
    assert dev == pytest.approx(max(scores) / 100)
    strength = NESTED_GRID[int(np.argmax(scores))]
    assert predicted.tolist() == _fit(features, labels, strength).predict(test).tolist()


@pytest.mark.parametrize("task", TRANSFER_TASKS)
def test_every_file_is_read_whole(task: Any, senteval: Path) -> None:
    instance = task(senteval_dir=senteval)
    instance.load_data()
    for part in task.parts:
        rows = instance.dataset[part.split]
        assert len(rows) in part.sizes
        texts = [rows[column] for column in rows.column_names if column != "label"]
        assert all(text.strip() for column in texts for text in column)
        assert set(rows["label"]) == set(range(6 if task.metadata.name == "DinoTREC" else 2))
    assert instance.metadata.revision == instance.data_revision() != "unread"
    assert instance.calculate_descriptive_statistics(overwrite_results=True)["test"]["num_samples"] == len(rows)


def test_the_rows_stand_in_sentevals_order_and_blank_lines_and_latin_1_are_kept(senteval: Path) -> None:
    rows = mteb_tasks.DinoCR(senteval_dir=senteval).read_splits()["test"]
    keys = [(len(row["text"].split()), row["label"]) for row in rows]
    assert keys == sorted(keys)
    assert rows[0:1000]["text"].count(".") == 1  # the blank line, which SentEval embeds as a full stop
    assert "déjà vu" in rows["text"]


def test_mrpc_classifies_differences_and_products_and_reports_f1(senteval: Path, tmp_path: Path) -> None:
    model = make_bag_of_words()
    evaluate_encoder(model, tasks=[mteb_tasks.DinoMRPC(senteval_dir=senteval)], output_dir=tmp_path)
    splits = mteb_tasks.DinoMRPC(senteval_dir=senteval).read_splits()
    features = {}
    for split, rows in splits.items():
        first, second = (model.encode(list(rows[name])) for name in ("sentence1", "sentence2"))
        features[split] = np.hstack([np.abs(first - second), first * second])
    labels = {split: np.array(rows["label"]) for split, rows in splits.items()}
    _, predicted = choose_and_predict(features["train"], labels["train"], features["test"], CROSS_VALIDATED_GRID)
    scores = json.loads(next(tmp_path.rglob("DinoMRPC.json")).read_text())["scores"]["test"][0]
    assert scores["accuracy"] == pytest.approx(np.mean(predicted == labels["test"]), abs=1e-5)
    assert scores["f1"] == pytest.approx(f1_score(labels["test"], predicted), abs=1e-5)
    assert scores["main_score"] == scores["accuracy"] > 0.55


def test_the_seven_stand_in_one_table_above_the_published_rows(senteval: Path, tmp_path: Path) -> None:
    tasks = mteb_tasks.select_tasks(["DinoSST2", "DinoTREC"], senteval_dir=senteval)
    model = make_bag_of_words()
    table = evaluate_encoder({"words": model}, tasks=tasks, output_dir=tmp_path, show_progress=False)
    assert table.scores["words"]["DinoSST2"] > 60
    assert table.scores["words"]["DinoTREC"] > 30
    again = evaluate_encoder({"words": model}, tasks=tasks, output_dir=tmp_path, show_progress=False)
    assert again.scores["words"] == pytest.approx(table.scores["words"], abs=0.01)  # mteb stores five digits


def test_the_group_and_the_benchmark_hold_the_seven(monkeypatch: pytest.MonkeyPatch, senteval: Path) -> None:
    assert [task.metadata.name for task in mteb_tasks.select_tasks("transfer")] == SEVEN
    mteb_tasks.register()
    try:
        benchmark = mteb.get_benchmark("DinoTransfer(eng, v1)")
        assert [task.metadata.name for task in benchmark.tasks] == SEVEN
        monkeypatch.setenv("DINO_ST_SENTEVAL_DIR", str(senteval))
        task: Any = mteb.get_task("DinoTREC")
        assert len(task.read_splits()["train"]) == 5452
    finally:
        mteb_tasks.unregister()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda root: (root / "TREC/TREC_10.label").unlink(), InputError, "TREC_10.label' is missing"),
        (lambda root: shutil.rmtree(root / "TREC"), InputError, "does not hold 'TREC'"),
        (lambda root: _append(root, "TREC/TREC_10.label", "LOC:city Where ?"), DatasetError, "501 examples"),
        (lambda root: _replace_line(root, "TREC/TREC_10.label", "WHAT:x is this ?"), InputError, "line 1: 'WHAT:x"),
        (lambda root: _replace_line(root, "TREC/TREC_10.label", ""), InputError, "line 1: ''"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, senteval: Path, change: Any, error: type[Exception], words: str) -> None:
    shutil.copytree(senteval / "TREC", tmp_path / "TREC")
    change(tmp_path)
    with pytest.raises(error, match=words):
        mteb_tasks.DinoTREC(senteval_dir=tmp_path).load_data()


@pytest.mark.parametrize(
    ("file", "line"), [("SST/binary/sentiment-dev", "fine\t2"), ("MRPC/msr_paraphrase_test.txt", "1\t2\t3\tone")]
)
def test_a_line_of_another_form_is_named(tmp_path: Path, senteval: Path, file: str, line: str) -> None:
    shutil.copytree(senteval / file.partition("/")[0], tmp_path / file.partition("/")[0])
    _append(tmp_path, file, line)
    task = mteb_tasks.DinoSST2 if file.startswith("SST") else mteb_tasks.DinoMRPC
    with pytest.raises(InputError, match=r"line \d+: .* is no line of this file"):
        task(senteval_dir=tmp_path).load_data()


def _append(root: Path, file: str, line: str) -> None:
    with (root / file).open("a", encoding="utf-8") as handle:
        handle.write(line + "\n")


def _replace_line(root: Path, file: str, line: str) -> None:
    _, *lines = (root / file).read_text(encoding="utf-8").splitlines()
    (root / file).write_text("\n".join([line, *lines]) + "\n", encoding="utf-8")


def test_a_directory_is_looked_through_for_the_folder_of_each_task(senteval: Path, tmp_path: Path) -> None:
    folders = [task.parts[0].files[0].partition("/")[0] for task in TRANSFER_TASKS]
    assert folders == list(sts_files.TRANSFER_FOLDERS)
    sts_files.check_senteval_directory(senteval)
    shutil.copytree(senteval, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "SST")
    with pytest.raises(InputError, match="does not hold 'SST'"):
        sts_files.check_senteval_directory(tmp_path / "less")


def test_classifiers_are_fitted_in_one_thread_so_that_the_score_is_that_of_any_machine(
    monkeypatch: pytest.MonkeyPatch, senteval: Path
) -> None:
    threads: list[int] = []

    def fit(*_: Any) -> tuple[float, Matrix]:
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        return 0.5, np.zeros(500)

    monkeypatch.setattr("mteb_tasks.transfer.choose_and_predict", fit)
    with threadpool_limits(2):
        evaluate_encoder(make_bag_of_words(), tasks=[mteb_tasks.DinoTREC(senteval_dir=senteval)])
    assert threads
    assert set(threads) == {1}


def test_without_a_directory_the_error_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DINO_ST_SENTEVAL_DIR", "DINO_ST_STS_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="--senteval-dir DIR"):
        mteb_tasks.DinoMR().load_data()
    with pytest.raises(ConfigurationError, match="did you mean 'DinoMRPC'"):
        mteb_tasks.select_tasks("DinoMRPX")


REAL = Path(os.environ.get("DINO_ST_SENTEVAL_DIR") or Path(__file__).parents[3] / "shared" / "data" / "senteval")


@pytest.mark.skipif(not (REAL / "downstream").is_dir(), reason="no SentEval data here (DINO_ST_SENTEVAL_DIR)")
@pytest.mark.parametrize("task", TRANSFER_TASKS)
def test_the_real_files_are_read_whole(task: Any) -> None:
    instance = task(senteval_dir=REAL)
    instance.load_data()
    assert {part.split for part in task.parts} == set(instance.dataset)
