"""What dealing with noise is worth: filters, noise-aware targets, and the published recipe's own remedies.

Everything is as in `ablations.py` (2,000 sentences, bundled models, seven STS tasks, one learning rate), with a label
posterior for every pair (`dino-st score`). Which rows are combined in the last one is chosen by the Spearman
correlation on generated pairs for 400 other sentences of the same file, the same pairs for every row, so no human label
has a say in it. (The rows' own validation splits will not do: a filter changes what falls into them, so that what one
row is judged on would be what another was trained on.) The work directory is kept; a rerun computes what is missing,
and the table grows row by row.

    python benchmarks/noise_study.py --sts-dir DIR --work DIR [--seeds 5] [--learning-rate 5e-4] [--rows 0 5 6]

With `--rows`, only those are computed, and nothing is combined.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ablations import Row, Study, interval, lower_end, study_options
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from dino_st import DinoDatasetBuilder
from dino_st.data.shards import ShardDirectory
from dino_st.pipeline.stages import score_data
from dino_st.preparation.prepare import prepare_pairs

HELD_OUT, HELD_OUT_SEED = 400, 1000
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
    *(Row(f"{number} random negatives", preparation={"random_negatives": number}) for number in (4, 8, 16, 32, 64)),
    *(
        Row(f"λ = 0, {number} random negatives", decay_constant=0.0, preparation={"random_negatives": number})
        for number in (8, 32)
    ),
)


class NoiseStudy(Study):
    """The study; every row's pairs have log-probabilities."""

    def __init__(self, options: argparse.Namespace, rows: Sequence[Row]) -> None:
        super().__init__(options, rows)
        self._dropped: dict[str, int] = {}

    def raw(self, row: Row, seed: int) -> Dataset:
        """Generated and scored pairs."""
        generated = self.work / f"raw-{row.decay_constant:g}-{seed}"
        scored = self.work / f"scored-{row.decay_constant:g}-{seed}"
        if not ShardDirectory(scored).is_complete:  # else the language model need not be loaded
            super().raw(row, seed)
            score_data(generated, self.options.model, scored)
        return ShardDirectory(scored).to_dataset()

    def prepared(self, row: Row, seed: int) -> Any:
        """The pairs of a row; labels in the order of the task, as the log-probabilities are."""
        return prepare_pairs(self.raw(row, seed), seed=seed, labels=(1.0, 0.5, 0.0), **row.preparation)

    @cached_property
    def held_out(self) -> Dataset:
        """Pairs for sentences that no row has seen, prepared as published."""
        texts = random.Random(1).sample(sorted(set(self.all_sentences) - set(self.sentences)), HELD_OUT)
        builder = DinoDatasetBuilder(self.options.model, seed=HELD_OUT_SEED)
        pairs = builder.generate(texts, output_dir=self.work / "held-out", show_progress=False)
        return prepare_pairs(pairs, seed=HELD_OUT_SEED, validation_share=0.0)["train"]

    def scores(self, name: str, model: str | Path) -> dict[str, float]:
        """The seven scores, their average, and the Spearman correlation on the held-out generated pairs."""
        found = super().scores(name, model)
        if isinstance(model, Path) and "generated" not in found:
            columns = (list(self.held_out[column]) for column in ("sentence1", "sentence2", "score"))
            evaluator = EmbeddingSimilarityEvaluator(*columns, main_similarity="cosine", write_csv=False)
            found["generated"] = float(evaluator(SentenceTransformer(str(model), device="cpu"))["spearman_cosine"])
            (self.work / "scores" / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
        return found

    def dropped(self, name: str) -> int:
        """Pairs that a row's preparation drops for seed 0."""
        if name not in self._dropped:
            row = next(row for row in self.rows if row.name == name)
            counts = self.prepared(row, 0).counts
            self._dropped[name] = sum(count for what, count in counts.items() if what.startswith("dropped_"))
        return self._dropped[name]

    def remarks(self, found: dict[str, list[dict[str, float]]]) -> str:
        """The rows by what they may be chosen by."""
        first = next(iter(found.values()))
        lines = ["| held-out generated pairs | pairs dropped, seed 0 | Spearman × 100 | difference to the first |"]
        lines += ["| --- | ---: | ---: | ---: |"]
        for name, runs in found.items():
            values = [100 * run["generated"] for run in runs]
            differences = [value - 100 * run["generated"] for value, run in zip(values, first, strict=False)]
            mean = statistics.mean(values)
            lines.append(f"| {name} | {self.dropped(name)} | {mean:.2f} | {interval(differences)} |")
        return "\n" + "\n".join(lines) + "\n"


def best_combination(study: NoiseStudy) -> Row:
    """All changes of preparation that are better than the published recipe on the held-out generated pairs.

    Better means that the 95 % interval of the difference, paired by seed, lies above 0.
    """
    seeds = range(study.options.seeds)
    rate = study.choose_rate("static")

    def generated(row: Row) -> list[float]:
        places = [study.train(row, seed, rate) for seed in seeds]
        return [study.scores(place.name, place)["generated"] for place in places]

    published = study.rows[0]
    base = generated(published)
    gains = {}
    for row in study.rows[1:]:
        if row.decay_constant == published.decay_constant:
            gains[row.name] = [value - other for value, other in zip(generated(row), base, strict=True)]
    better = [row for row in study.rows if row.name in gains and lower_end(gains[row.name]) > 0]
    merged: dict[str, Any] = {}
    for row in sorted(better, key=lambda row: sum(gains[row.name])):  # where two set one option, the better one wins
        merged |= row.preparation
    print(f"combined: {[row.name for row in better]} → {merged}", flush=True)
    return replace(published, name="best combination", preparation=merged)


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
