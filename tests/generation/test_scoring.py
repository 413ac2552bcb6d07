"""`dino-st score`: log-probabilities for pairs that are there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset
from typer.testing import CliRunner

from dino_st import DinoDatasetBuilder
from dino_st.backends.local import LocalWriter
from dino_st.backends.options import ModelOptions
from dino_st.cli.main import app
from dino_st.data.columns import LOG_PROBS, PLAIN_LOG_PROB
from dino_st.errors import ConfigurationError, DatasetError, OutputError
from dino_st.generation import scoring
from dino_st.generation.scoring import scorable
from dino_st.pipeline.stages import prepare_data, score_data
from dino_st.preparation.options import PreparationOptions
from tests.shards_fixtures import rows_of

SENTENCES = ["A man is playing a guitar.", "Two dogs run in the snow.", "Where is the bank?", "The sun is a star."]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scoring") / "raw"
    DinoDatasetBuilder("dino-tiny", dtype="float32", score_labels=True).generate(SENTENCES, output_dir=directory)
    return directory


def test_scores_of_stored_pairs_are_those_found_while_writing_them(raw: Path, tmp_path: Path) -> None:
    score_data(raw, "dino-tiny", tmp_path / "scored", options=ModelOptions(dtype="float32"))
    before, after = rows_of(raw), rows_of(tmp_path / "scored")
    assert [row["sentence2"] for row in after] == [row["sentence2"] for row in before]
    same = [i for i in range(len(after)) if after[i]["num_tokens"] == before[i]["num_tokens"]]
    assert len(same) > 0.8 * len(after)
    assert np.allclose([after[i][LOG_PROBS] for i in same], [before[i][LOG_PROBS] for i in same], atol=2e-3)
    assert all(row[PLAIN_LOG_PROB] < 0 for row in after)


def test_an_interrupted_run_goes_on_behind_what_is_stored(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "ROWS_IN_WAVE", 7)
    score_data(raw, "dino-tiny", tmp_path / "whole")
    score, calls = LocalWriter.score, []

    def interrupted(self: LocalWriter, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, *arguments)

    monkeypatch.setattr(LocalWriter, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_data(raw, "dino-tiny", tmp_path / "twice")
    assert len(rows_of(tmp_path / "twice")) == 14
    score_data(raw, "dino-tiny", tmp_path / "twice")
    assert rows_of(tmp_path / "twice") == rows_of(tmp_path / "whole")
    assert len(calls) == 2 + 1 + 2
    with pytest.raises(OutputError, match=r"task was 'sts-x2', now 'other'"):
        score_data(raw, "dino-tiny", tmp_path / "twice", task=str(_renamed_task(tmp_path)))


@pytest.mark.parametrize("column", ["score", "sample"])
def test_pairs_with_other_labels_or_columns_are_another_run(tmp_path: Path, column: str) -> None:
    pairs = {"sentence1": SENTENCES[:2], "sentence2": SENTENCES[2:], "score": [0.0, 1.0], "sample": [0, 1]}
    pyarrow.parquet.write_table(pa.table(pairs), tmp_path / "pairs.parquet")
    score_data(tmp_path / "pairs.parquet", "dino-tiny", tmp_path / "scored")
    swapped = pairs | {column: pairs[column][::-1]}
    pyarrow.parquet.write_table(pa.table(swapped), tmp_path / "pairs.parquet")
    with pytest.raises(OutputError, match="the pairs are others"):
        score_data(tmp_path / "pairs.parquet", "dino-tiny", tmp_path / "scored")


def _renamed_task(directory: Path) -> Path:
    content = json.loads(
        (Path(scoring.__file__).parents[1] / "tasks" / "specs" / "sts-x2.json").read_text(encoding="utf-8")
    )
    path = directory / "task.json"
    path.write_text(json.dumps(content | {"task_name": "other"}))
    return path


def test_the_card_of_scored_pairs_says_what_is_known_of_who_wrote_them(raw: Path, tmp_path: Path) -> None:
    score_data(raw, "dino-tiny", tmp_path / "scored")
    cards = [(place / "README.md").read_text() for place in (raw, tmp_path / "scored")]
    assert "written by the language model `dino-tiny` from instructions, with self-debiasing\n" in cards[0]
    assert "written by the language model `dino-tiny` from instructions\n" in cards[1]  # λ is not recorded there


def test_a_file_of_pairs_can_be_scored_and_prepared(tmp_path: Path) -> None:
    pairs = [("A dog runs.", "One dog runs.", 1.0), ("A dog runs.", "The bank is closed today.", 0.0)]
    file = tmp_path / "pairs.jsonl"
    rows = [{"sentence1": first, "sentence2": second, "score": score} for first, second, score in pairs]
    file.write_text("\n".join(map(json.dumps, rows)))
    arguments = ["score", str(file), "--model", "dino-tiny", "--output", str(tmp_path / "scored")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 pairs with scores" in result.output
    same, unrelated = (np.array(row[LOG_PROBS]) for row in rows_of(tmp_path / "scored"))
    assert same.argmax() in (0, 1)
    assert unrelated.argmax() == 2  # the task's labels are in the order 1, 0.5, 0
    arguments = ["prepare", str(tmp_path / "scored"), "--output", str(tmp_path / "prepared"), "--min-posterior", "0.01"]
    arguments += ["--random-negatives", "0", "--validation-share", "0", "--posterior-temperature", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output


def test_a_pair_beyond_the_models_context_is_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [{"sentence1": "A dog runs.", "sentence2": "word " * n, "score": 1.0} for n in (3, 600)]
    file.write_text("\n".join(map(json.dumps, rows)))
    counts = score_data(file, "dino-tiny", tmp_path / "scored")
    assert (counts["rows"], counts["left out: prompt too long for the model"]) == (1, 1)


def test_labels_that_the_task_has_not_are_told_and_its_log_probabilities_are_taken_for_no_other_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, scored = tmp_path / "pairs.csv", tmp_path / "scored"
    file.write_text("sentence1,sentence2,score\n" + "".join(f"A dog {n} runs.,A cat {n}.,{n % 3}\n" for n in range(6)))
    score_data(file, "dino-tiny", scored)
    told = [record.getMessage() for record in caplog.records if "has not" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("2 of 6 pairs have a label that task 'sts-x2' has not (2); its labels are 1, 0.5, 0, and")
    options = PreparationOptions(labels=(0, 1, 2), min_posterior=0.1, posterior_temperature=1)
    with pytest.raises(ConfigurationError, match=r"those of the labels of its task: \[1\.0, 0\.5, 0\.0\]. Score"):
        prepare_data(scored, tmp_path / "prepared", options)


def test_an_interrupted_run_keeps_its_batch_size_where_free_memory_has_changed(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalWriter, "automatic_rows", lambda *_: 96)
    score_data(raw, "dino-tiny", tmp_path / "scored")
    monkeypatch.setattr(LocalWriter, "automatic_rows", lambda *_: 48)
    score_data(raw, "dino-tiny", tmp_path / "scored")
    with pytest.raises(OutputError, match="batch_size was 96, now 48"):
        score_data(raw, "dino-tiny", tmp_path / "scored", options=ModelOptions(batch_size=48))


def test_pairs_are_not_scored_into_their_own_directory(raw: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds the pairs to be scored; give another directory"):
        score_data(raw, "dino-tiny", raw)


def test_a_task_without_pairs_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no pairs"):
        score_data(raw, "dino-tiny", tmp_path / "scored", task="sts-x1")


@pytest.mark.parametrize(("name", "values"), [("score", [1.0, None]), ("label", ["same", None])])
def test_a_pair_without_a_label_is_refused_by_its_row(name: str, values: list[Any]) -> None:
    data = Dataset.from_dict({"sentence1": ["a", "b"], "sentence2": ["c", "d"], name: values})
    with pytest.raises(DatasetError, match=f"column '{name}' of the pairs is empty in pair 2 of 2"):
        scorable(data)


def test_a_pair_without_a_text_is_refused_by_its_row(tmp_path: Path) -> None:
    from datasets import Dataset

    dataset = Dataset.from_dict({"sentence1": ["a", "b"], "sentence2": ["c", " "], "score": [1.0, 0.0]})
    with pytest.raises(DatasetError, match=r"'sentence2' of a\.csv is ' ' in pair 2 of 2; expected"):
        scoring.scorable(dataset, "a.csv")
