"""Which learning rate three kinds of validation pairs prefer: generated ones, those for other sentences, human ones.

The published recipe as in `ablations.py` (2,000 sentences, bundled models, seed 0), trained once at each rate. The
first column is the split by which the recipe keeps its checkpoint; the second are pairs that the same language model
writes for the sentences of the quick start with another seed; the third is the development file of the STS Benchmark,
whose scores are people's.

    python benchmarks/learning_rates.py --sts-dir DIR --work DIR [--rates 5e-4 1e-3]

The work directory may be that of `ablations.py`; models that are there are not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ablations import ROWS, Study, add_study_options, prepare_study
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from dino_st import DinoDatasetBuilder
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.training.record import read_record
from mteb_tasks.sts_files import read_dev_pairs

RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"
OTHER_SENTENCES, OTHER_SEED = 400, 77


def other_pairs(options: argparse.Namespace) -> Dataset:
    """Pairs for sentences that no encoder here was trained on, without those whose two texts are the same."""
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()[:OTHER_SENTENCES]
    builder = DinoDatasetBuilder(options.model, seed=OTHER_SEED)
    pairs = builder.generate(texts, output_dir=options.work / f"other-{OTHER_SEED}", show_progress=False)
    return pairs.filter(lambda row: row["sentence1"] != row["sentence2"])


def spearman(encoder: SentenceTransformer, pairs: Dataset) -> float:
    """Spearman × 100 of cosine similarity against the pairs' scores."""
    columns = (list(pairs[column]) for column in ("sentence1", "sentence2", "score"))
    evaluator = EmbeddingSimilarityEvaluator(*columns, main_similarity="cosine", write_csv=False)
    return 100 * float(evaluator(encoder)["spearman_cosine"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to try")
    options = prepare_study(add_study_options(parser, seeds=1))
    study = Study(options, ROWS)
    others, human = other_pairs(options), read_dev_pairs(options.sts_dir)["STSb dev"]
    validation = study.prepared(ROWS[0], 0)["validation"]
    print("| learning rate | generated validation pairs | pairs for other sentences | STS Benchmark dev file |")
    print("| ---: | ---: | ---: | ---: |")
    for rate in (None, *options.rates):
        place = options.encoder if rate is None else study.train(ROWS[0], 0, rate)
        encoder = load_trainable_encoder(str(place), device="cpu")
        record = None if rate is None else read_record(Path(place))
        best = spearman(encoder, validation) if record is None or record.best is None else 100 * record.best.spearman
        name = "untrained" if rate is None else f"{rate:g}"
        print(f"| {name} | {best:.2f} | {spearman(encoder, others):.2f} | {spearman(encoder, human):.2f} |", flush=True)


if __name__ == "__main__":
    main()
