"""Redoes the table of `docs/results.md`: what the published recipe and its parts are worth with the bundled models.

2,000 sentences of the STS Benchmark's training file (no score of it is read), the bundled language model, the bundled
encoder, the seven STS tasks, several seeds. The learning rate is chosen once, by the Spearman correlation on generated
validation pairs, and kept for every row. Everything is kept in the work directory; a rerun computes what is missing.

    python benchmarks/ablations.py --sts-dir DIR --work DIR [--seeds 3] [--learning-rate 5e-4]
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import shutil
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t

import mteb_tasks
from dino_st import DinoDatasetBuilder, evaluate_encoder, train_encoder
from dino_st.data.sentences import read_sentences
from dino_st.evaluation.floors import FLOORS
from dino_st.evaluation.table import STS_SCORES
from dino_st.preparation.prepare import prepare_pairs
from dino_st.preparation.splits import PreparedSplits
from dino_st.training.record import read_record

INPUTS = 2000
RATES = {"static": (5e-4, 1e-3, 2e-3, 4e-3), "transformer": (1e-4, 3e-4)}


@dataclass(frozen=True)
class Row:
    """One row of the table: what differs from the published recipe."""

    name: str
    decay_constant: float = 100.0
    preparation: dict[str, Any] = field(default_factory=dict)
    kind: str = "static"

    @property
    def key(self) -> str:
        """What directories of this row are called: the same for the same settings, whatever the row's name or place."""
        settings = [self.decay_constant, self.kind, sorted(self.preparation.items())]
        return blake2b(json.dumps(settings).encode(), digest_size=4).hexdigest()


ROWS = (
    Row("published recipe, λ = 100"),
    Row("λ = 0", decay_constant=0.0),
    Row("λ = 200", decay_constant=200.0),
    Row("without label smoothing", preparation={"label_smoothing": 0.0}),
    Row("without random negatives", preparation={"random_negatives": 0}),
    Row("transformer encoder, published recipe", kind="transformer"),
)


class Study:
    """The runs, each in a directory of its own.

    Args:
        options: The command line's.
        rows: What is compared; the first is the published recipe.
    """

    def __init__(self, options: argparse.Namespace, rows: Sequence[Row]) -> None:
        self.options, self.work, self.rows = options, options.work, rows
        texts = read_sentences(str(options.sts_dir / "STS" / "STSBenchmark" / "sts-train.csv")).texts
        self.all_sentences = sorted(set(texts))
        self.sentences = random.Random(0).sample(self.all_sentences, options.inputs)
        self.tasks = mteb_tasks.select_tasks("sts", sts_dir=options.sts_dir)
        self.encoders = {"static": options.encoder, "transformer": options.model}

    def raw(self, row: Row, seed: int) -> Any:
        """Generated pairs; continued where an earlier run stopped."""
        builder = DinoDatasetBuilder(self.options.model, seed=seed, decay_constant=row.decay_constant)
        place = self.work / f"raw-{row.decay_constant:g}-{seed}"
        return builder.generate(self.sentences, output_dir=place, show_progress=False)

    def prepared(self, row: Row, seed: int) -> PreparedSplits:
        """The pairs of a row, ready to train on."""
        return prepare_pairs(self.raw(row, seed), seed=seed, **row.preparation)

    def train(self, row: Row, seed: int, rate: float) -> Path:
        """A trained encoder."""
        place = self.work / f"model-{row.key}-{seed}-{rate:g}"
        record = read_record(place)
        if record is None or record.status != "complete":
            train_encoder(self.prepared(row, seed), self.encoders[row.kind], place, learning_rate=rate, seed=seed)
        return place

    def choose_rate(self, kind: str) -> float:
        """The learning rate with the best Spearman on generated validation pairs of the published recipe, seed 0."""
        if kind == "static" and self.options.learning_rate is not None:
            return float(self.options.learning_rate)
        row = next(row for row in self.rows if row.kind == kind)
        found = {}
        for rate in RATES[kind]:
            record = read_record(self.train(row, 0, rate))
            if record is None or record.best is None:
                raise RuntimeError(f"no score for learning rate {rate}")
            found[rate] = 100 * record.best.spearman
        return best_rate(kind, found)

    def scores(self, name: str, model: str | Path) -> dict[str, float]:
        """Seven scores and their average, from the work directory where they are there."""
        return stored_scores(self.work, name, model, self.tasks)

    def run(self) -> None:
        """Computes what is missing, and prints the table whenever a row is complete."""
        seeds = range(self.options.seeds)
        fixed = {"untrained encoder": self.scores("untrained-static", self.encoders["static"])}
        fixed |= {"untrained transformer": self.scores("untrained-transformer", self.encoders["transformer"])}
        fixed |= {name: self.scores(name, name) for name in FLOORS}
        rates: dict[str, float] = {}
        found: dict[str, list[dict[str, float]]] = {}
        for row in (self.rows[number] for number in self.options.rows or range(len(self.rows))):
            if row.kind not in rates:
                rates[row.kind] = self.choose_rate(row.kind)
            for seed in seeds:
                place = self.train(row, seed, rates[row.kind])
                found.setdefault(row.name, []).append(self.scores(place.name, place))
                shutil.rmtree(place / "checkpoints", ignore_errors=True)
            text = table(fixed, found) + self.remarks(found) + f"\nLearning rates: {rates}.\n"
            (self.work / "table.md").write_text(text, encoding="utf-8")
            print(text, flush=True)

    def remarks(self, found: dict[str, list[dict[str, float]]]) -> str:
        """What a study has to say below its table."""
        return ""


def table(fixed: dict[str, dict[str, float]], found: dict[str, list[dict[str, float]]]) -> str:
    """The table in Markdown: means over seeds; differences of averages to the published recipe are paired by seed."""
    heads = [*STS_SCORES.columns.values(), "Avg.", "difference to the published recipe"]
    lines = [f"| Spearman × 100 | {' | '.join(heads)} |", f"| --- | {' | '.join(['---:'] * len(heads))} |"]
    columns = [*STS_SCORES.columns, "average"]
    for name, scores in fixed.items():
        lines.append(f"| {name} | {' | '.join(f'{scores[c]:.2f}' for c in columns)} | |")
    base_name = next(iter(found), "")
    base = [scores["average"] for scores in found.get(base_name, [])]
    for name, runs in found.items():
        means = [statistics.mean(scores[c] for scores in runs) for c in columns]
        differences = [scores["average"] - other for scores, other in zip(runs, base, strict=False)]
        shown = "" if name == base_name or "transformer" in name else interval(differences)
        lines.append(f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} | {shown} |")
    return "\n".join(lines) + "\n"


def stored_scores(work: Path, name: str, model: str | Path, tasks: Any) -> dict[str, float]:
    """An encoder's scores on STS, from the work directory where they are there."""
    file = work / "scores" / f"{name}.json"
    if not file.exists():
        table = evaluate_encoder({name: str(model)}, tasks=tasks)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(table.to_dict()[name]), encoding="utf-8")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def best_rate(what: str, found: Mapping[float, float]) -> float:
    """The learning rate with the best Spearman × 100 on the generated validation pairs; prints them all."""
    listed = ", ".join(f"{rate:g}: {score:.2f}" for rate, score in found.items())
    print(f"{what}: generated validation by learning rate {listed}", flush=True)
    return max(found, key=found.__getitem__)


def interval(values: Sequence[float]) -> str:
    """Mean and half width of the 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:+.2f}"
    return f"{statistics.mean(values):+.2f} ± {half_width(values):.2f}"


def lower_end(values: Sequence[float]) -> float:
    """Lower end of the 95 % interval of the mean; of a single value nothing is known."""
    return statistics.mean(values) - half_width(values) if len(values) > 1 else -math.inf


def half_width(values: Sequence[float]) -> float:
    """Half width of the 95 % interval of the mean (Student's t)."""
    return float(student_t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5


def study_options(description: str | None, seeds: int) -> argparse.Namespace:
    """The command line of a study."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of the rows to compute, from 0 (default: all)")
    parser.add_argument("--learning-rate", type=float, help="of the static encoder, instead of choosing one")
    return prepare_study(add_study_options(parser, seeds))


def add_study_options(parser: argparse.ArgumentParser, seeds: int) -> argparse.ArgumentParser:
    """Adds what all studies are asked for."""
    parser.add_argument("--sts-dir", type=Path, required=True, help="STS data in SentEval layout")
    parser.add_argument("--work", type=Path, required=True, help="directory for everything")
    parser.add_argument("--seeds", type=int, default=seeds, help=f"seeds of each row (default: {seeds})")
    parser.add_argument("--inputs", type=int, default=INPUTS, help=f"sentences x1 (default: {INPUTS})")
    parser.add_argument("--model", default="dino-tiny", help="the language model (default: dino-tiny)")
    parser.add_argument("--encoder", default="dino-tiny-encoder", help="what is trained (default: dino-tiny-encoder)")
    return parser


def prepare_study(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Reads the command line, makes the work directory, and quietens the libraries."""
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", module="mteb")
    logging.getLogger("dino_st").setLevel(logging.WARNING)
    return options


if __name__ == "__main__":
    Study(study_options(__doc__, seeds=3), ROWS).run()
