"""What dealing with noise is worth: filters, noise-aware targets, and the published recipe's own remedies.

Everything is as in `ablations.py` (2,000 sentences, bundled models, seven STS tasks, one learning rate), with a label
posterior for every pair (`dino-st score`). Which rows are combined in the last one is chosen by the Spearman
correlation on generated validation pairs, those of the published recipe for every row, so no human label has a say in
it. The work directory is kept; a rerun computes what is missing, and the table grows row by row.

    python benchmarks/noise_study.py --sts-dir DIR --work DIR [--seeds 5] [--learning-rate 5e-4] [--rows 0 5 6]

With `--rows`, only those are computed, and nothing is combined.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations import Row, Study, study_options
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from dino_st.preparation import prepare_pairs
from dino_st.shards import read_shards
from dino_st.stages import score_data
from dino_st.store import read_manifest

ALL_LABELS_BUT_SAME = (0.0, 0.5)
ROWS = (
    Row("published recipe, λ = 100"),
    Row("λ = 0", decay_constant=0.0),
    Row("λ = 200", decay_constant=200.0),
    Row("without label smoothing", preparation={"label_smoothing": 0.0}),
    Row("without random negatives", preparation={"random_negatives": 0}),
    Row("near-copies out", preparation={"near_copy_overlap": 0.9, "near_copy_labels": ALL_LABELS_BUT_SAME}),
    Row("lengths alike", preparation={"max_length_ratio": 2.0, "min_words": 3}),
    Row("unlikely texts out", preparation={"min_token_log_prob": -6.0}),
    Row(
        "repetitions and broken punctuation out",
        preparation={"max_repeated_trigrams": 0.2, "drop_broken_punctuation": True},
    ),
    Row("label conflicts solved", preparation={"drop_label_conflicts": True}),
    Row("posterior of the label at least 0.5", preparation={"min_posterior": 0.5}),
    Row("negatives guarded", preparation={"negative_guard": "overlap"}),
    Row("γ = 0.25", preparation={"target": "posterior-mixed", "posterior_weight": 0.25}),
    Row("γ = 0.5", preparation={"target": "posterior-mixed", "posterior_weight": 0.5}),
    Row("γ = 1", preparation={"target": "posterior-mixed", "posterior_weight": 1.0}),
    Row("labels drawn from the posterior", preparation={"target": "posterior-resampled", "posterior_weight": 1.0}),
)


class NoiseStudy(Study):
    """The study; every row's pairs have log-probabilities."""

    def raw(self, row: Row, seed: int) -> Dataset:
        """Generated and scored pairs."""
        generated = self.work / f"raw-{row.decay_constant:g}-{seed}"
        scored = self.work / f"scored-{row.decay_constant:g}-{seed}"
        if not (read_manifest(scored) or {}).get("complete"):  # else the language model need not be loaded
            super().raw(row, seed)
            score_data(generated, self.options.model, scored)
        return read_shards(scored, read_manifest(scored) or {})

    def prepared(self, row: Row, seed: int) -> Any:
        """The pairs of a row; labels in the order of the task, as the log-probabilities are."""
        return prepare_pairs(self.raw(row, seed), seed=seed, labels=(1.0, 0.5, 0.0), **row.preparation)

    def scores(self, name: str, model: str | Path) -> dict[str, float]:
        """The seven scores, their average, and the Spearman on the published recipe's validation pairs."""
        found = super().scores(name, model)
        if isinstance(model, Path) and "validation" not in found:
            seed = int(name.split("-")[2])
            pairs = self.prepared(self.rows[0], seed)["validation"]
            columns = (list(pairs[column]) for column in ("sentence1", "sentence2", "score"))
            evaluator = EmbeddingSimilarityEvaluator(*columns, main_similarity="cosine", write_csv=False)
            found["validation"] = float(evaluator(SentenceTransformer(str(model)))["spearman_cosine"])
            (self.work / "scores" / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
        return found

    def remarks(self, found: dict[str, list[dict[str, float]]]) -> str:
        """The rows by what they may be chosen by."""
        means = {name: statistics.mean(run["validation"] for run in runs) for name, runs in found.items()}
        lines = [f"- {name}: {100 * mean:.2f}" for name, mean in sorted(means.items(), key=lambda item: -item[1])]
        heading = "\nSpearman × 100 on the published recipe's generated validation pairs, mean over seeds:\n\n"
        return heading + "\n".join(lines) + "\n"


def best_combination(study: NoiseStudy) -> Row:
    """All changes of preparation that beat the published recipe on generated validation pairs."""
    seeds = range(study.options.seeds)
    rate = study.choose_rate("static")

    def validation(row: Row) -> float:
        names = [study.train(row, seed, rate) for seed in seeds]
        return statistics.mean(study.scores(place.name, place)["validation"] for place in names)

    found = {row.name: validation(row) for row in study.rows if row.decay_constant == study.rows[0].decay_constant}
    better = [row for row in study.rows if found.get(row.name, -1.0) > found[study.rows[0].name]]
    merged: dict[str, Any] = {}
    for row in sorted(better, key=lambda row: found[row.name]):  # where two set one option, the better one wins
        merged |= row.preparation
    print(f"combined: {[row.name for row in better]} → {merged}", flush=True)
    return replace(study.rows[0], name="best combination", preparation=merged)


def main() -> None:
    options = study_options(__doc__, seeds=5)
    study = NoiseStudy(options, ROWS)
    study.run()
    if options.rows:
        return
    combined = best_combination(study)
    if combined.preparation:
        NoiseStudy(options, (*ROWS, combined)).run()


if __name__ == "__main__":
    main()
