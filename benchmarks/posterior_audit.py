"""What the label posterior knows of pairs that were judged by hand.

    python benchmarks/posterior_audit.py --work DIR [--audit FILE] [--model dino-tiny] [--pairs DIR]

The pairs of an audit, by default `docs/audits/bundled-lm.jsonl`, are scored by the model that wrote them, or have their
log-probabilities from the directory of `dino-st generate --score-labels` that they were drawn from, and the label with
the highest posterior (uniform prior, temperature 1) is compared with the judgement, as the assigned label is. Then: how
well a low posterior of the assigned label, or a low mean log-probability of sentence 2's tokens without instruction,
finds pairs whose label is wrong: the area under the curve, where 0.5 is chance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from scipy.stats import rankdata

from dino_st.data.columns import LOG_PROBS, NUM_TOKENS, PLAIN_LOG_PROB, SCORE, SENTENCE1, SENTENCE2
from dino_st.data.shards import ShardDirectory
from dino_st.pipeline.stages import score_data
from dino_st.preparation.posterior import label_posterior

AUDIT = Path(__file__).parents[1] / "docs" / "audits" / "bundled-lm.jsonl"
LABELS = (1.0, 0.5, 0.0)
FITTING = {0.9: 1.0, 0.5: 0.5, 0.1: 0.0, 0.0: 0.0}
"""The label that a judgement stands for."""


def area(signal: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the curve: how often a positive item has the larger signal, ties counted half."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        return float("nan")
    ranks = rankdata(signal)[positive].sum()
    return float((ranks - count * (count + 1) / 2) / (count * (len(positive) - count)))


def as_written(rows: Sequence[Mapping[str, Any]], directory: Path) -> Dataset:
    """The judged pairs with all that is stored of them in the directory that they were drawn from."""
    table = ShardDirectory(directory).to_dataset()
    columns = zip(*(table[name][:] for name in (SENTENCE1, SENTENCE2, SCORE)), strict=True)
    places = {pair: place for place, pair in enumerate(columns)}
    return table.select([places[row[SENTENCE1], row[SENTENCE2], row[SCORE]] for row in rows])


def scored_anew(rows: Sequence[Mapping[str, Any]], model: str, work: Path) -> Dataset:
    """The judged pairs with their log-probabilities under a language model."""
    pairs, scored = work / "judged.jsonl", work / "scored"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    score_data(pairs, model, scored)
    table = ShardDirectory(scored).to_dataset()
    if [row[SENTENCE2] for row in rows] != list(table[SENTENCE2]):
        raise RuntimeError("the scored pairs stand in another order than the judged ones")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="directory for the scored pairs")
    parser.add_argument("--audit", type=Path, default=AUDIT, help=f"the judged pairs (default: {AUDIT.name})")
    parser.add_argument("--model", default="dino-tiny", help="the language model (default: dino-tiny)")
    parser.add_argument("--pairs", type=Path, help="take the log-probabilities from here, where the pairs came from")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    judged = [json.loads(line) for line in options.audit.read_text(encoding="utf-8").splitlines()]
    rows = [{SENTENCE1: row[SENTENCE1], SENTENCE2: row[SENTENCE2], SCORE: row["generated"]} for row in judged]
    with_pairs = options.pairs is not None
    table = as_written(rows, options.pairs) if with_pairs else scored_anew(rows, options.model, options.work)

    posterior = label_posterior(table[LOG_PROBS][:])
    likeliest = np.array(LABELS)[posterior.argmax(axis=1)]
    assigned = np.array([float(row["generated"]) for row in judged])
    truth = np.array([FITTING[float(row["judged"])] for row in judged])
    own = posterior[np.arange(len(posterior)), [LABELS.index(label) for label in assigned]]
    wrong = assigned != truth
    signals = {"1 − posterior": 1 - own}
    if PLAIN_LOG_PROB in table.column_names:
        plain = np.array(table[PLAIN_LOG_PROB][:], dtype=np.float64) / np.array(table[NUM_TOKENS][:])
        signals["− mean log p without instruction"] = -plain
    print(f"pairs: {len(judged)}, wrong label: {wrong.sum()}")
    print(f"right: assigned label {(~wrong).mean():.1%}, likeliest label {(likeliest == truth).mean():.1%}")
    differ = likeliest != assigned
    print(f"pairs for which the two differ: {differ.sum()}, of which the assigned label is right for", end=" ")
    print(f"{(differ & ~wrong).sum()}, the likeliest for {(differ & (likeliest == truth)).sum()}")
    print(f"\n| finds wrong labels among | {' | '.join(signals)} |\n| --- |{' ---: |' * len(signals)}")
    for name, chosen in (("all", assigned == assigned), *((f"label {label:g}", assigned == label) for label in LABELS)):
        areas = (area(signal[chosen], wrong[chosen]) for signal in signals.values())
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in areas)} |")


if __name__ == "__main__":
    main()
