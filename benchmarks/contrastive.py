"""Compares what DINO's data is worth as pairs, as triplets, and as both; the table is in `docs/results.md`.

The setting is that of `ablations.py`: 2,000 sentences of the STS Benchmark's training file (no score of it is read),
the bundled language model and encoder, the seven STS tasks, several seeds, λ = 100. The same generated data is trained
on as pairs by the cosine loss (the published recipe), as triplets by the contrastive loss, and as both together. Each
way has a learning rate of its own, chosen once by its generated validation split. Everything is kept in the work
directory, which may be that of `ablations.py`: what it generated is not generated again. A rerun computes what is
missing.

    python benchmarks/contrastive.py --sts-dir DIR --work DIR [--seeds 3] [--model DIR] [--encoder DIR]
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations import ROWS, Study, study_options, table

from dino_st import prepare_pairs, prepare_triplets, train_contrastive, train_encoder
from dino_st.evaluation.floors import FLOORS
from dino_st.training.record import read_record

GENERATED = ROWS[0]
"""The row of `ablations.py` whose data everything here is trained on."""


def train_pairs(raw: Any, encoder: str, place: Path, rate: float, seed: int) -> None:
    """The published recipe."""
    train_encoder(prepare_pairs(raw, seed=seed), encoder, place, learning_rate=rate, seed=seed)


def train_triplets(raw: Any, encoder: str, place: Path, rate: float, seed: int) -> None:
    """Triplets (x1, label-1 text, label-0.5 text) by the contrastive loss."""
    train_contrastive(prepare_triplets(raw, seed=seed), encoder, place, learning_rate=rate, seed=seed)


def train_both(raw: Any, encoder: str, place: Path, rate: float, seed: int) -> None:
    """Both losses, each on its own data."""
    triplets, pairs = prepare_triplets(raw, seed=seed), prepare_pairs(raw, seed=seed)
    train_contrastive(triplets, encoder, place, pairs=pairs, learning_rate=rate, seed=seed)


@dataclass(frozen=True)
class Way:
    """A row of the table: how it is trained, and the learning rates to choose from."""

    name: str
    train: Callable[[Any, str, Path, float, int], None]
    rates: tuple[float, ...]


WAYS = {
    "pairs": Way("pairs, cosine loss (published recipe)", train_pairs, (5e-4, 1e-3, 2e-3, 4e-3)),
    "triplets": Way("triplets, contrastive loss", train_triplets, (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)),
    "both": Way("pairs and triplets, both losses", train_both, (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)),
}


class Comparison(Study):
    """The runs, each in a directory of its own."""

    def trained(self, way: str, seed: int, rate: float) -> Path:
        """A trained encoder."""
        place = Path(self.work) / f"way-{way}-{seed}-{rate:g}"
        record = read_record(place)
        if record is None or record.status != "complete":
            WAYS[way].train(self.raw(GENERATED, seed), self.options.encoder, place, rate, seed)
        return place

    def best_rate(self, way: str) -> float:
        """The learning rate with the best score on the generated validation split, seed 0."""
        found = {}
        for rate in WAYS[way].rates:
            record = read_record(self.trained(way, 0, rate))
            if record is None or record.best is None:
                raise RuntimeError(f"no score for learning rate {rate}")
            found[rate] = record.best.spearman
        print(f"{way}: generated validation Spearman by learning rate {found}", flush=True)
        return max(found, key=found.__getitem__)

    def run(self) -> None:
        """Computes what is missing, and prints the table whenever a row is complete."""
        fixed = {"untrained encoder": self.scores("untrained-static", self.options.encoder)}
        fixed |= {name: self.scores(name, name) for name in FLOORS}
        rates: dict[str, float] = {}
        found: dict[str, list[dict[str, float]]] = {}
        for name, way in WAYS.items():
            rates[name] = self.best_rate(name)
            for seed in range(self.options.seeds):
                place = self.trained(name, seed, rates[name])
                found.setdefault(way.name, []).append(self.scores(place.name, place))
                shutil.rmtree(place / "checkpoints", ignore_errors=True)
            text = table(fixed, found) + f"\nLearning rates: {rates}.\n"
            (Path(self.work) / "contrastive.md").write_text(text, encoding="utf-8")
            print(text, flush=True)


if __name__ == "__main__":
    Comparison(study_options(__doc__, seeds=3), (GENERATED,)).run()
