"""Training recipes on pairs that a real language model wrote: the table of `docs/results.md`.

What is compared, on which students, and what chooses is written down in `docs/benchmarks/real-writer-protocol.md`. The
work directory is kept; a rerun computes what is missing, and the table grows run by run.

    python benchmarks/real_writer.py --pairs DIR --sts-dir DIR --work DIR [--glove DIR] [--model DIR]
        [--students static glove smollm2] [--rows 0 1] [--seeds 3] [--transformer-pairs 8000] [--layers 4]
    python benchmarks/real_writer.py ... --rows 1 9 10 11 12 13 14 15 16 17 18 --learning-rate 1e-3 2e-3

`--pairs` is a directory of `dino-st generate`; `--glove` and `--model` (`smollm2.gguf`, or a directory) come of
`python -m tools.real_models`. Students whose directory is not given are left out.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import shutil
import statistics
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.compute as pc
import torch
from ablations import best_rate, interval, stored_scores
from beyond_joint import Objectives, columns_of, cross_fitted, hard_negatives, ranking_lists
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import pairwise_cos_sim
from tokenizers import Tokenizer

import mteb_tasks
from dino_st import train_encoder
from dino_st.backends.files import GGUF
from dino_st.backends.loading import load_causal_model
from dino_st.data.columns import SENTENCE1, SENTENCE2
from dino_st.data.pairs import read_raw
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.evaluation.table import STS_SCORES
from dino_st.models import ENCODER
from dino_st.preparation.prepare import prepare_pairs
from dino_st.training.objective import pair_objective
from dino_st.training.record import read_record

JOINT = {"objective": "joint", "batch_size": 128}
RATES = {
    "static": (5e-4, 1e-3, 2e-3),
    "glove": (1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2),
    "smollm2": (3e-4, 1e-3),
}
SHAPE = {"layers": 4, "pooling": "mean", "bidirectional": False}
"""Of the transformer; see `load_trainable_encoder`."""
SHARED_WORDS_OUT = {"near_copy_overlap": 0.1, "near_copy_labels": (0.0,)}
MASK_ALONE = {"temperature": 0.05, "contrast_anchors": False, "contrast_positives": False}


@dataclass(frozen=True)
class Row:
    """One recipe: what differs from the published one, and whose learning rate it takes."""

    name: str
    preparation: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    rate_of: int | None = 0  # number of the row that the learning rate was chosen for; None for its own
    objective: Objectives | None = None
    folds: int = 0  # cross-fitting of the scores
    same_validation: bool = False  # that of the published preparation, whatever is prepared


ROWS = (
    Row("published"),
    Row("joint", training=JOINT, rate_of=1),
    Row("published, batches of 128", training={"batch_size": 128}),
    Row("joint with CoSENT", training={**JOINT, "loss": "cosent"}, rate_of=1),
    Row("without label smoothing", preparation={"label_smoothing": 0.0}),
    Row("without random negatives", preparation={"random_negatives": 0}),
    Row("8 random negatives", preparation={"random_negatives": 8}),
    Row("label-0 texts that share words out", preparation=SHARED_WORDS_OUT),
    Row("joint, batches of 32", training={"objective": "joint"}),
    *(
        Row(f"joint, {name}", training=JOINT, rate_of=None, **changes)
        for name, changes in {
            "8 random negatives": {"preparation": {"random_negatives": 8}, "same_validation": True},
            "label-0 texts that share words out": {"preparation": SHARED_WORDS_OUT, "same_validation": True},
            "hard negatives of label 0.5": {"objective": hard_negatives(0.5)},
            "hard negatives of label 0": {"objective": hard_negatives(0.1)},
            "hard negatives of both": {"objective": hard_negatives(0.5, 0.1)},
            "hard negatives of label 0.5, guided": {"objective": hard_negatives(0.5, guide=MASK_ALONE)},
            "GISTEmbed as published": {"objective": hard_negatives(0.5, guide={})},
            "posterior-mixed targets": {"preparation": {"target": "posterior-mixed"}},
            "posterior-mixed targets, ranking lists": {
                "preparation": {"target": "posterior-mixed"},
                "objective": ranking_lists(5),
            },
            "cross-fitted targets": {"folds": 3},
            "decayed hard negatives of label 0.5, width 0.17": {"objective": hard_negatives(0.5, decay_width=0.17)},
            "decayed hard negatives of label 0.5, width 8.58": {"objective": hard_negatives(0.5, decay_width=8.58)},
            "8 random negatives, label-0 texts that share words out": {
                "preparation": {"random_negatives": 8, **SHARED_WORDS_OUT},
                "same_validation": True,
            },
        }.items()
    ),
)

FIRST_ROWS = 7
"""Rows of the first table, which are computed unless others are named."""


class Study:
    """The runs, each in a directory of its own."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work
        self.tasks = mteb_tasks.select_tasks("sts", sts_dir=options.sts_dir)
        given = {"static": ENCODER, "glove": options.glove, "smollm2": options.model}
        self.students = {name: given[name] for name in options.students if given[name] is not None}

    @cache  # noqa: B019  (one study a process)
    def raw(self, student: str) -> tuple[Dataset, tuple[float, ...] | None]:
        """The pairs that a student is trained on, and the labels whose log-probabilities they have."""
        table, _, labels = read_raw(self.options.pairs)
        if student == "smollm2" and self.options.transformer_pairs < table.num_rows:
            last = table[SENTENCE1][self.options.transformer_pairs].as_py()
            end = pc.index(table[SENTENCE1], last).as_py()
            table = table.slice(0, end)
        return Dataset(table), None if labels is None else tuple(labels)

    def name(self, student: str) -> str:
        """A student's name in the work directory; that of a transformer says what differs from the first one."""
        shape = self.shape(student).items()
        differs = [name if value is True else f"{name}-{value}" for name, value in shape if value != SHAPE[name]]
        return "-".join([student, *differs])

    def shape(self, student: str) -> dict[str, Any]:
        """What is asked of a transformer; nothing of the other students."""
        return {name: getattr(self.options, name) for name in SHAPE} if student == "smollm2" else {}

    def start(self, student: str) -> str:
        """The untrained student."""
        if student == "static":
            return str(self.students[student])
        place = self.work / f"{self.name(student)}-start"
        if not (place / "modules.json").is_file():
            with transformers_directory(self.students[student]) as source:
                encoder = load_trainable_encoder(source, device="cpu", **self.shape(student))
            if student == "glove":
                encoder = without_unused_words(encoder, self.texts())
            encoder.save_pretrained(str(place))
        return str(place)

    def texts(self) -> Iterator[str]:
        """Every text of the pairs and of the STS files, with whatever else stands in these."""
        table, _, _ = read_raw(self.options.pairs)
        for column in (SENTENCE1, SENTENCE2):
            yield from table[column].to_pylist()
        for file in (file for file in sorted(self.options.sts_dir.rglob("*")) if file.is_file()):
            yield from file.read_text(encoding="utf-8", errors="replace").splitlines()

    def train(self, student: str, row: Row, seed: int, rate: float) -> Path:
        """A trained encoder."""
        place = self.work / f"{self.name(student)}-{row.name.replace(' ', '-').replace(',', '')}-{rate:g}-{seed}"
        record = read_record(place)
        if record is None or record.status != "complete":
            splits = self.splits(student, row, seed, rate)
            training = row.training | ({"dtype": self.options.transformer_dtype} if student == "smollm2" else {})
            with mock.patch("dino_st.training.objective.pair_objective", row.objective or pair_objective):
                train_encoder(splits, self.start(student), place, learning_rate=rate, seed=seed, **training)
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return place

    @cache  # noqa: B019  (one study a process)
    def prepared(self, student: str, seed: int, **options: Any) -> DatasetDict:
        """The pairs of a student, prepared."""
        raw, labels = self.raw(student)
        return prepare_pairs(raw, seed=seed, labels=labels, **options)

    def splits(self, student: str, row: Row, seed: int, rate: float) -> DatasetDict:
        """What a row trains on, and is validated on."""
        if row.same_validation:
            judged = self.prepared(student, seed)["validation"]
            train = self.prepared(student, seed, validation_share=0, **row.preparation)["train"]
            (*held_out, _), (*pairs, _) = columns_of(judged), columns_of(train)
            validated = set(zip(*held_out, strict=True))
            kept = [number for number, pair in enumerate(zip(*pairs, strict=True)) if pair not in validated]
            return DatasetDict(train=train.select(kept), validation=judged)
        splits = self.prepared(student, seed, **row.preparation)
        if row.folds:
            scorer = functools.partial(self.scorer, student, splits["validation"], seed, rate)
            train = cross_fitted(splits["train"], scorer, folds=row.folds, weight=0.5, seed=seed)
            return DatasetDict(train=train, validation=splits["validation"])
        return splits

    def scorer(self, student: str, validation: Dataset, seed: int, rate: float, pairs: Dataset, fold: int) -> Any:
        """Scores pairs by a student's cosines, or another encoder's, that was trained on pairs of other x1.

        It is scored once, after its last step, so that the validation split chooses nothing.
        """
        place = self.work / "folds" / f"{student}-{rate:g}-{seed}-{fold}"
        start = self.options.scorer or self.start(student)
        encoder = train_encoder(
            DatasetDict(train=pairs, validation=validation),
            start,
            place,
            learning_rate=rate,
            seed=seed,
            evaluation_steps=10**6,
            **JOINT,
        )
        shutil.rmtree(place, ignore_errors=True)
        return lambda first, second: pairwise_cos_sim(*(encoder.encode(texts) for texts in (first, second))).numpy()

    def validation(self, place: Path) -> float:
        """Spearman × 100 on the generated validation split, of the checkpoint that was kept."""
        record = read_record(place)
        if record is None or record.best is None:
            raise RuntimeError(f"{place}: no score on the validation split")
        return 100 * record.best.spearman

    def choose_rate(self, student: str, row: Row) -> float:
        """The learning rate whose encoder of seed 0 is best on the generated validation split."""
        rates = self.options.learning_rate or RATES[student]
        if len(rates) == 1:
            return float(rates[0])
        found = {rate: self.validation(self.train(student, row, 0, rate)) for rate in rates}
        return best_rate(f"{student}, {row.name}", found)

    def scores(self, name: str, model: str | Path) -> dict[str, float]:
        """Seven scores and their average, from the work directory where they are there."""
        half = name.startswith("smollm2") and self.options.transformer_dtype == "bfloat16"
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return stored_scores(self.work, name, model, self.tasks)

    def run(self) -> None:
        """Computes what is missing, and writes the table after every row."""
        table: dict[str, dict[str, list[dict[str, float]]]] = {}
        for student in self.students:
            name = self.name(student)
            rows = table.setdefault(name, {"untrained": [self.scores(f"{name}-untrained", self.start(student))]})
            rates: dict[int, float] = {}
            for number, row in self.chosen_rows(student):
                judged = number if row.rate_of is None else row.rate_of
                if judged not in rates:
                    rates[judged] = self.choose_rate(student, ROWS[judged])
                seeds = 1 if student == "smollm2" and not self.options.all_seeds else self.options.seeds
                for seed in range(self.options.first_seed, self.options.first_seed + seeds):
                    place = self.train(student, row, seed, rates[judged])
                    scores = self.scores(place.name, place) | {"validation": self.validation(place)}
                    rows.setdefault(f"{row.name} ({rates[judged]:g})", []).append(scores)
                (self.work / "table.md").write_text(as_markdown(table), encoding="utf-8")
                print(f"{student}: row {number} done\n{as_markdown(table)}", flush=True)

    def chosen_rows(self, student: str) -> Iterator[tuple[int, Row]]:
        """The rows to compute; a transformer takes long, so its are the first two unless others are named."""
        wanted = self.options.rows or (range(2) if student == "smollm2" else range(FIRST_ROWS))
        return ((number, ROWS[number]) for number in wanted)


@contextmanager
def transformers_directory(source: Path) -> Iterator[Path]:
    """A model's directory; the weights of a GGUF file are unpacked into one that is removed afterwards."""
    if source.suffix != GGUF:
        yield source
        return
    with tempfile.TemporaryDirectory() as place:
        for part in load_causal_model(source, device=torch.device("cpu"), dtype=torch.float32):
            part.save_pretrained(place)
        yield Path(place)


def without_unused_words(encoder: SentenceTransformer, texts: Iterable[str]) -> SentenceTransformer:
    """Word vectors without those of words that stand in none of these texts.

    AdamW goes over every row at every step, so that a step with 400,000 words takes ten times as long; the vectors of
    words that stand in a text are trained the same.
    """
    module: Any = encoder[0]
    tokenizer = json.loads(module.tokenizer.to_str())
    words, unknown = tokenizer["model"]["vocab"], tokenizer["model"]["unk_token"]
    rows = {words[unknown]}
    for encoding in module.tokenizer.encode_batch(list(texts), add_special_tokens=False):
        rows.update(encoding.ids)
    kept = sorted(rows)
    name_of = {row: word for word, row in words.items()}
    tokenizer["model"]["vocab"] = {name_of[row]: place for place, row in enumerate(kept)}
    weights = module.embedding.weight.detach()[kept].clone()
    small = StaticEmbedding(Tokenizer.from_str(json.dumps(tokenizer)), embedding_weights=weights)
    return SentenceTransformer(modules=[small], device="cpu")


def as_markdown(table: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """The table: means over seeds; differences to the first recipe of a student are paired by seed."""
    columns = [*STS_SCORES.columns, "average"]
    heads = [*STS_SCORES.columns.values(), "Avg.", "difference to the first", "generated validation", "difference"]
    lines = [
        f"| student, recipe (learning rate) | {' | '.join(heads)} | seeds |",
        f"| --- |{' ---: |' * len(heads)} ---: |",
    ]
    for student, rows in table.items():
        first = next((runs for name, runs in rows.items() if name != "untrained"), [])
        for name, runs in rows.items():
            cells = [f"{statistics.mean(run[column] for run in runs):.2f}" for column in columns]
            for column in ("average", "validation"):
                if column == "validation":
                    cells.append(f"{statistics.mean(run[column] for run in runs):.2f}" if column in runs[0] else "")
                gains = [run[column] - other[column] for run, other in zip(runs, first, strict=False) if column in run]
                cells.append("" if name == "untrained" or runs is first else interval(gains))
            lines.append(f"| {student}, {name} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(lines) + "\n"


def read_options(description: str | None) -> argparse.Namespace:
    """The command line; makes the work directory and quiets what is not of the study."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="directory of `dino-st generate`")
    parser.add_argument("--sts-dir", type=Path, required=True, help="STS data in SentEval layout")
    parser.add_argument("--work", type=Path, required=True, help="directory for everything")
    parser.add_argument("--glove", type=Path, help="GloVe as a static encoder (tools/real_models.py)")
    parser.add_argument("--model", type=Path, help="SmolLM2: a GGUF file, or a transformers directory")
    parser.add_argument("--students", nargs="+", choices=RATES, default=list(RATES), help="default: all that are given")
    parser.add_argument(
        "--rows", type=int, nargs="+", help="numbers of the recipes, from 0 (default: see the protocol)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each row (default: 3)")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="rates are chosen with seed 0, whichever is the first"
    )
    parser.add_argument(
        "--learning-rate", type=float, nargs="+", help="to choose from, instead of the protocol's; one is not chosen"
    )
    parser.add_argument("--scorer", type=Path, help="encoder to train across folds (default: the student)")
    parser.add_argument("--all-seeds", action="store_true", help="train the transformer with all seeds, not one")
    parser.add_argument("--layers", type=int, default=SHAPE["layers"], help="of the transformer (default: 4)")
    parser.add_argument(
        "--pooling", choices=("mean", "weighted-mean", "last"), default=SHAPE["pooling"], help="(default: mean)"
    )
    parser.add_argument("--bidirectional", action="store_true", help="lift the transformer's causal mask")
    parser.add_argument("--transformer-pairs", type=int, default=8000, help="pairs for the transformer (default: 8000)")
    parser.add_argument(
        "--transformer-dtype",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="of the transformer's arithmetic; float32 is quicker on processors without bfloat16 (default: bfloat16)",
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", module="mteb")
    logging.getLogger("dino_st").setLevel(logging.WARNING)
    return options


def main() -> None:
    Study(read_options(__doc__)).run()


if __name__ == "__main__":
    main()
