"""A classifier of reviews from generated ones: a logistic regression on sentence embeddings, scored on judged ones.

python classify.py REVIEWS... [--encoder NAME] [--senteval-dir DIR] [--seeds N]

Each directory of generated reviews is a row. No judged review is trained on or chosen by: a seed holds a tenth of the
generated reviews out, and the strength of regularisation is chosen by five-fold cross-validation on the others. The
last row is what needs no generated review: the nearer one of the two labels, as sentences.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from datasets import disable_progress_bars, load_dataset
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split

from dino_st.encoders.loading import load_trainable_encoder
from mteb_tasks import DinoMR

STRENGTHS = [2.0**power for power in range(-4, 6, 2)]
LABELS = {"negative": "A review of a bad movie.", "positive": "A review of a good movie."}


def generated(directory: str) -> tuple[list[str], np.ndarray, Counter[str]]:
    """The reviews of a directory, whether each is positive, and what was dropped."""
    rows = load_dataset(directory)["train"]
    dropped: Counter[str] = Counter()
    labels: dict[str, set[str]] = {}
    for row in rows:
        if row["sentence2"].casefold() == row["sentence1"].casefold():
            dropped["only the title"] += 1
        else:
            dropped["twice"] += row["label"] in labels.setdefault(row["sentence2"], set())
            labels[row["sentence2"]].add(row["label"])
    kept = {text: next(iter(of)) for text, of in labels.items() if len(of) == 1}
    dropped["under both labels"] = len(labels) - len(kept)
    return list(kept), np.array([label == "positive" for label in kept.values()]), +dropped


def judged(senteval_dir: str | None) -> tuple[list[str], np.ndarray]:
    """Judged reviews and whether each is positive: all of MR, or the few that lie beside this file."""
    if senteval_dir:
        rows = DinoMR(senteval_dir=senteval_dir).read_splits()["test"]
        return list(rows["text"]), np.array(rows["label"]) == 1
    with (Path(__file__).parent / "judged.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    return [row["text"] for row in found], np.array([row["label"] == "positive" for row in found])


def fit(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[Any, float]:
    """A classifier from nine tenths of the generated reviews, and its accuracy on the tenth."""
    train, held_out, of_train, of_held_out = train_test_split(
        features, labels, test_size=0.1, random_state=seed, stratify=labels
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": STRENGTHS}, cv=folds)
    search.fit(train, of_train)
    return search, search.score(held_out, of_held_out)


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", nargs="+")
    parser.add_argument("--encoder", default="dino-tiny-encoder")
    parser.add_argument("--senteval-dir")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    disable_progress_bars()
    encoder = load_trainable_encoder(given.encoder, device="cpu")
    texts, right = judged(given.senteval_dir)
    test = encoder.encode(texts, show_progress_bar=False)
    print(f"{len(texts)} judged reviews, {np.mean(right):.0%} of them positive; {given.encoder}; in per cent:\n")
    print("| reviews | negative + positive | dropped | held-out generated | judged: accuracy | called positive |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    for directory in given.reviews:
        reviews, labels, dropped = generated(directory)
        features = encoder.encode(reviews, show_progress_bar=False)
        scores = []
        for seed in range(given.seeds):
            classifier, held_out = fit(features, labels, seed)
            called = classifier.predict(test)
            scores.append((held_out, np.mean(called == right), np.mean(called)))
        held_out, accuracy, positive = 100 * np.mean(scores, axis=0)
        spread = 100 * np.std([score for _, score, _ in scores], ddof=min(1, given.seeds - 1))
        sizes = f"{np.sum(~labels)} + {np.sum(labels)} | {', '.join(f'{dropped[why]} {why}' for why in dropped)}"
        print(f"| {directory} | {sizes} | {held_out:.1f} | {accuracy:.1f} ± {spread:.1f} | {positive:.1f} |")
    negative, positive = encoder.encode(list(LABELS.values()), normalize_embeddings=True)
    called = test @ (positive - negative) > 0
    print(f"| none: the nearer label | | | | {100 * np.mean(called == right):.1f} | {100 * np.mean(called):.1f} |")


if __name__ == "__main__":
    main()
