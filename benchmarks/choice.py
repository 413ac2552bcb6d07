"""Which criterion without human labels chooses the better encoder: the table of `docs/results.md`.

Some sixty encoders, all from the bundled static start and the pairs of `benchmarks/real_writer.py`, with which the work
directory is shared: its recipes and seeds, more learning rates, fewer pairs. What is compared, and what for, is written
down in `docs/benchmarks/real-writer-protocol.md`.

    python benchmarks/choice.py --pairs DIR --sts-dir DIR --work DIR --other-pairs DIR

`--other-pairs` is a directory of `dino-st generate` by another writer, for sentences that are not among the others. The
work directory is kept; a rerun computes what is missing.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from real_writer import FIRST_ROWS, ROWS, Study
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.data.pairs import read_raw
from dino_st.encoders.loading import load_trainable_encoder
from mteb_tasks.sts_files import read_dev_pairs

RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
SIZES = (2_000, 8_000)
CRITERIA = {
    "split": "the generated validation split (as published)",
    "other writer": "pairs by another writer for other sentences",
    "agreement": "agreement of ranks with the untrained encoder",
    "other writer, agreeing": "the other writer's pairs, among the half that agrees most with the untrained encoder",
    "split and other writer": "the mean of the ranks by the split and by the other writer's pairs",
}

Numbers = npt.NDArray[np.float64]


class SmallerStudy(Study):
    """The same on the pairs of the first sentences."""

    def __init__(self, options: argparse.Namespace, pairs: int) -> None:
        self._pairs = pairs
        super().__init__(argparse.Namespace(**(vars(options) | {"work": options.work / f"{pairs}-pairs"})))

    def raw(self, student: str) -> tuple[Dataset, tuple[float, ...] | None]:
        """The first pairs."""
        data, labels = super().raw(student)
        return data.select(range(self._pairs)), labels


def encoders(options: argparse.Namespace) -> Iterator[tuple[str, str, Path, float]]:
    """Every encoder: the set of those that differ by learning rate alone, its name, directory and validation score."""
    whole = Study(options)
    for study in (whole, *(SmallerStudy(options, pairs) for pairs in SIZES)):
        study.work.mkdir(parents=True, exist_ok=True)
        for row in ROWS[:2]:
            for rate in RATES:
                place = study.train("static", row, 0, rate)
                name = f"{study.work.name}/{place.name}" if study is not whole else place.name
                yield f"{study.work.name}, {row.name}", name, place, study.validation(place)
    for row in ROWS[:FIRST_ROWS]:
        for seed in range(1 if row in ROWS[:2] else 0, 3):
            place = whole.train("static", row, seed, 2e-3 if row.rate_of else 1e-3)
            yield "", place.name, place, whole.validation(place)


def similarities(encoder: SentenceTransformer, first: Sequence[str], second: Sequence[str]) -> Numbers:
    """Cosines of pairs, shape (pairs,)."""
    one, other = (encoder.encode(list(texts), normalize_embeddings=True, batch_size=256) for texts in (first, second))
    cosines: Numbers = (one * other).sum(axis=1, dtype=np.float64)
    return cosines


def ranks(values: Numbers) -> Numbers:
    found: Numbers = values.argsort().argsort().astype(np.float64)
    return found


def criteria(found: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """The value of each criterion for every encoder; the greatest is chosen."""
    agrees = found["agreement"] >= np.median(found["agreement"])
    return {
        "split": found["split"],
        "other writer": found["other writer"],
        "agreement": found["agreement"],
        "other writer, agreeing": np.where(agrees, found["other writer"], -np.inf),
        "split and other writer": ranks(found["split"]) + ranks(found["other writer"]),
    }


def as_markdown(found: Mapping[str, Numbers], sets: Sequence[str]) -> str:
    """Rank correlation with STSb's development pairs, and the regret of the choice, among all and by learning rate."""
    dev, names = found["dev"], sorted(set(sets) - {""})
    lines = [
        "| criterion | rank correlation with STSb dev | regret among all | mean regret in choosing a learning rate |",
        "| --- | ---: | ---: | ---: |",
    ]
    everything = criteria(found)
    by_set = [criteria({name: values[np.array(sets) == each] for name, values in found.items()}) for each in names]
    of_sets = [dev[np.array(sets) == each] for each in names]
    for name, words in CRITERIA.items():
        values = everything[name]
        regret = dev.max() - dev[values.argmax()]
        regrets = [own.max() - own[each[name].argmax()] for each, own in zip(by_set, of_sets, strict=True)]
        correlation = spearmanr(values, dev).statistic
        lines.append(f"| {words} | {correlation:.2f} | {regret:.2f} | {statistics.mean(regrets):.2f} |")
    return "\n".join(lines) + f"\n\n{len(dev)} encoders; {len(names)} choices of a learning rate.\n"


def static_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line of a study of static encoders alone, with what else the parser knows."""
    parser.add_argument("--pairs", type=Path, required=True, help="directory of `dino-st generate`")
    parser.add_argument("--sts-dir", type=Path, required=True, help="STS data in SentEval layout")
    parser.add_argument("--work", type=Path, required=True, help="that of benchmarks/real_writer.py, or another")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="mteb")
    logging.getLogger("dino_st").setLevel(logging.WARNING)
    options.students, options.glove, options.model, options.transformer_pairs = ["static"], None, None, 0
    options.learning_rate = None
    return options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other-pairs", type=Path, required=True, help="as --pairs, by another writer")
    options = static_options(parser)
    table, _, _ = read_raw(options.other_pairs)
    other = [table[column].to_pylist() for column in (SENTENCE1, SENTENCE2, SCORE)]
    dev = read_dev_pairs(options.sts_dir)["STSb dev"]
    untrained = similarities(load_trainable_encoder(Study(options).start("static"), device="cpu"), *other[:2])
    found: dict[str, list[float]] = {name: [] for name in ("split", "other writer", "agreement", "dev")}
    sets, names = [], []
    for chosen_among, name, place, validation in encoders(options):
        encoder = SentenceTransformer(str(place), device="cpu")
        cosines = similarities(encoder, *other[:2])
        found["split"].append(validation)
        found["other writer"].append(100 * spearmanr(cosines, other[2]).statistic)
        found["agreement"].append(100 * spearmanr(cosines, untrained).statistic)
        of_dev = similarities(encoder, dev[SENTENCE1], dev[SENTENCE2])
        found["dev"].append(100 * spearmanr(of_dev, dev[SCORE]).statistic)
        sets.append(chosen_among)
        names.append(name)
        print(name, *(f"{key} {values[-1]:.2f}" for key, values in found.items()), sep=", ", flush=True)
    arrays = {key: np.array(values) for key, values in found.items()}
    (options.work / "choice.json").write_text(json.dumps({"encoders": names, **found}, indent=1), encoding="utf-8")
    report = as_markdown(arrays, sets)
    (options.work / "choice.md").write_text(report, encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
