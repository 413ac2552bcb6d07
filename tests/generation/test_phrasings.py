"""Several instructions for one label, and pairs stored with their log-probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dino_st import DinoDatasetBuilder
from dino_st.data.columns import INSTRUCTION, LOG_PROBS
from dino_st.errors import TaskSpecError
from dino_st.tasks.prompts import build_prompts
from dino_st.tasks.spec import TaskSpec

SENTENCES = ["A man is playing a flute.", "Two dogs run.", "The cat sleeps on a mat.", "Stocks fell on Monday."]


def spec_with_phrasings() -> dict[str, Any]:
    content = json.loads(TaskSpec.load("sts-x2").model_dump_json())
    first = content["labels"]["1"]["instruction"]
    content["labels"]["1"]["instruction"] = [first, first.replace("Sentence", "Text"), first.replace("Task", "Job")]
    first = content["labels"]["0.5"]["instruction"]
    content["labels"]["0.5"]["instruction"] = [first, first.replace("Sentence", "Text")]
    return dict(content)


def test_a_counter_prompt_has_the_phrasing_of_its_target_or_the_first() -> None:
    spec = TaskSpec.load(spec_with_phrasings())
    built = build_prompts(spec, "0.5", "A dog.", phrasing=1)
    assert built.target.startswith("Task: Write two sentences that are somewhat similar.\nText 1: ")
    assert [text.splitlines()[1] for text in built.counters] == ['Text 1: "A dog."']
    built = build_prompts(spec, "0", "A dog.", phrasing=2)
    assert [text.splitlines()[0][:4] for text in (built.target, *built.counters)] == ["Task", "Job:", "Task"]


@pytest.mark.parametrize(
    ("phrasings", "message"),
    [
        ([], "holds no phrasing"),
        (['Say: "<X1>" "', 'Say: "<X1>" "'], "one of them twice"),
        (['Say: "<X1>" "', "Say: <X1>"], "must end in an opening quotation mark"),
        (['Say: "<X1>" "', 'Say: "'], "the placeholder <X1> is missing"),
    ],
)
def test_a_malformed_list_of_phrasings_is_refused(phrasings: list[str], message: str) -> None:
    with pytest.raises(TaskSpecError, match=message):
        TaskSpec.load({"task_name": "t", "labels": {"1": {"instruction": phrasings, "counter_labels": []}}})


def test_draws_are_spread_over_the_phrasings_and_say_which(model_directory: str) -> None:
    builder = DinoDatasetBuilder(model_directory, task=spec_with_phrasings(), dtype="float32", samples=6)
    rows = builder.generate(SENTENCES)
    used = {score: [r[INSTRUCTION] for r in rows if r["score"] == score] for score in (1.0, 0.5, 0.0)}
    assert (set(used[1.0]), set(used[0.5]), set(used[0.0])) == ({0, 1, 2}, {0, 1}, {0})
    for row in rows:
        others = [r for r in rows if (r["x1_index"], r["score"]) == (row["x1_index"], row["score"])]
        assert len({(r["sample"] - r[INSTRUCTION]) % 3 for r in others if row["score"] == 1.0}) <= 1


def test_pairs_are_stored_with_a_log_probability_for_each_label(model_directory: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dtype": "float64", "samples": 2, "seed": 5}
    plain = DinoDatasetBuilder(model_directory, **options).generate(SENTENCES)
    builder = DinoDatasetBuilder(model_directory, score_labels=True, **options)
    rows = builder.generate(SENTENCES, output_dir=tmp_path / "raw")
    assert LOG_PROBS not in plain.column_names
    assert rows.remove_columns(LOG_PROBS).to_list() == plain.to_list()
    values = np.array(rows[LOG_PROBS][:])
    assert values.shape == (len(rows), 3)
    assert (values < 0).all()
    smaller = DinoDatasetBuilder(model_directory, score_labels=True, batch_size=6, **options)
    assert smaller.generate(SENTENCES).to_list() == rows.to_list()
    manifest = json.loads((tmp_path / "raw" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["configuration"]["score_labels"] is True
