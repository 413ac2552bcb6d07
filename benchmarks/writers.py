r"""The same students on pairs by several writers, and which faults of a writer the filters take out.

    python benchmarks/writers.py --pairs "λ = 100=DIR" "λ = 0=DIR" --work DIR --sts-dir DIR \
        --students static glove --glove DIR
    python benchmarks/writers.py --pairs "SmolLM2=DIR" --work DIR [--audit docs/audits/smollm2.jsonl]

Each of `--pairs` is a name and a directory of `dino-st generate`, for the same sentences; differences are to the first.
With `--sts-dir` each student of `--students` is trained on each by the recipes of `benchmarks/real_writer.py` that
`--rows` names, at its rate. What is trained at which rate is written down in
`docs/benchmarks/real-writer-protocol.md`. The work directory is kept; a rerun computes what is missing.

The first table counts faults, without training; with `--audit`, which has judged some of the pairs, also how many of
these fit their label before and after each filter.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ablations import table as score_table
from datasets import Dataset
from real_writer import ROWS, Study
from rerank import content, is_copy

from dino_st.data.columns import LOG_PROBS, SCORE, SENTENCE1, SENTENCE2
from dino_st.data.pairs import read_raw
from dino_st.inspection.judgements import fitting, percent
from dino_st.preparation.posterior import label_posterior
from dino_st.preparation.prepare import prepare_pairs

FILTERS: dict[str, dict[str, Any]] = {
    "as published": {},
    "near-copies of label 1 out (edits 0.9)": {"near_copy_edit": 0.9, "near_copy_labels": (1.0,)},
    "label 0 with a tenth of the words shared out": {"near_copy_overlap": 0.1, "near_copy_labels": (0.0,)},
    "posterior at least 0.5": {"min_posterior": 0.5, "posterior_temperature": 1.0},
}
"""Preparations of which faults are counted; no random negatives, and nothing is set aside."""

WITHOUT_NEGATIVES = {"random_negatives": 0, "validation_share": 0.0, "label_smoothing": 0.0, "seed": 0}

Rows = list[dict[str, Any]]


def faults(rows: Rows) -> list[str]:
    """Pairs of each label, and how many of them have a fault that can be counted."""
    of = {label: [row for row in rows if row[SCORE] == label] for label in (1.0, 0.5, 0.0)}
    on_topic = sum(bool(content(row[SENTENCE1]) & content(row[SENTENCE2])) for row in of[0.0])
    known = [row for row in rows if row.get("own") is not None]
    doubted = [sum(row["own"] < 0.5 for row in known if row[SCORE] == label) for label in of]
    counts = [len(of[1.0]), len(of[0.5]), len(of[0.0]), sum(map(is_copy, of[1.0])), on_topic]
    return [f"{count:,}" for count in counts] + ([f"{count:,}" for count in doubted] if known else ["", "", ""])


def with_posterior(data: Dataset, labels: tuple[float, ...] | None) -> Rows:
    """The rows of raw pairs with `own`, the posterior of the assigned label (uniform prior, temperature 1) if known."""
    rows: Rows = data.to_list()
    if labels is not None and LOG_PROBS in data.column_names:
        posterior = label_posterior(np.array(data[LOG_PROBS][:]))
        for row, known in zip(rows, posterior, strict=True):
            row["own"] = float(known[labels.index(row[SCORE])])
    return rows


def judged_right(rows: Rows, audit: Mapping[tuple[Any, ...], bool]) -> list[str]:
    """How many of the judged pairs among these fit their label."""
    found: dict[float, dict[tuple[Any, ...], bool]] = {label: {} for label in (1.0, 0.5, 0.0)}
    for row in rows:
        pair = row[SENTENCE1], row[SENTENCE2], row[SCORE]
        if pair in audit:
            found[row[SCORE]][pair] = audit[pair]
    return [percent(sum(each.values()), len(each)) + f" of {len(each)}" for each in found.values()] if audit else []


def table_of_faults(
    writers: Mapping[str, tuple[Dataset, tuple[float, ...] | None]], audit: Mapping[tuple[Any, ...], bool]
) -> str:
    """What is wrong with the pairs of each writer, raw and after each preparation."""
    heads = ["label 1", "0.5", "0", "copies, label 1", "a content word shared, label 0"]
    heads += [f"posterior below 0.5, label {label}" for label in ("1", "0.5", "0")]
    heads += [f"judged to fit, label {label}" for label in ("1", "0.5", "0")] if audit else []
    lines = [f"| pairs | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for name, (data, labels) in writers.items():
        rows = with_posterior(data, labels)
        lines.append(f"| {name}, raw | {' | '.join([*faults(rows), *judged_right(rows, audit)])} |")
        by_texts = {(row[SENTENCE1], row[SENTENCE2], row[SCORE]): row for row in rows}
        for filters, options in FILTERS.items():
            if "min_posterior" in options and "own" not in rows[0]:
                continue
            kept = prepare_pairs(data, labels=labels, **WITHOUT_NEGATIVES, **options)["train"].to_list()
            left = [by_texts[row[SENTENCE1], row[SENTENCE2], row[SCORE]] for row in kept]
            lines.append(f"| {name}, {filters} | {' | '.join([*faults(left), *judged_right(left, audit)])} |")
    return "\n".join(lines) + "\n"


class WriterStudy(Study):
    """The runs on the pairs of one writer."""

    def __init__(self, options: argparse.Namespace, name: str, pairs: Path) -> None:
        work = options.work / name.replace(" ", "")
        work.mkdir(parents=True, exist_ok=True)
        own = {"pairs": pairs, "work": work, "model": None}
        super().__init__(argparse.Namespace(**(vars(options) | own)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", required=True, metavar="NAME=DIR", help="a writer's name and pairs")
    parser.add_argument("--work", type=Path, required=True, help="directory for everything")
    parser.add_argument("--audit", type=Path, help="judged pairs of one of the writers, as in docs/audits")
    parser.add_argument("--sts-dir", type=Path, help="STS data in SentEval layout: train the static encoder on each")
    parser.add_argument("--rows", type=int, nargs="+", default=[0], help="numbers of the recipes (default: published)")
    parser.add_argument("--students", nargs="+", choices=("static", "glove"), default=["static"])
    parser.add_argument("--glove", type=Path, help="GloVe as a static encoder (tools/real_models.py)")
    parser.add_argument(
        "--learning-rates", type=float, nargs="+", default=[1e-3, 5e-2], help="of each student (default: 1e-3 5e-2)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of preparation and training (default: 3)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", module="mteb")
    logging.getLogger("dino_st").setLevel(logging.WARNING)
    directories = {name: Path(directory) for name, _, directory in (one.rpartition("=") for one in options.pairs)}
    writers = {}
    for name, directory in directories.items():
        table, _, labels = read_raw(directory)
        writers[name] = Dataset(table), None if labels is None else tuple(labels)
    lines = [] if options.audit is None else options.audit.read_text(encoding="utf-8").splitlines()
    audit = {
        (row[SENTENCE1], row[SENTENCE2], row["generated"]): row["judged"] in fitting(row["generated"])
        for row in map(json.loads, lines)
    }
    print(table_of_faults(writers, audit), flush=True)
    if options.sts_dir is None:
        return
    studies = {name: WriterStudy(options, name, directory) for name, directory in directories.items()}
    for student, rate in zip(options.students, options.learning_rates, strict=False):
        for row in (ROWS[number] for number in options.rows):
            found = {}
            for name, study in studies.items():
                places = [study.train(student, row, seed, rate) for seed in range(options.seeds)]
                found[f"{name}, {row.name} ({rate:g})"] = [study.scores(one.name, one) for one in places]
            study = next(iter(studies.values()))
            print(score_table({"untrained": study.scores(f"{student}-untrained", study.start(student))}, found))


if __name__ == "__main__":
    main()
