"""What encoders gain by keeping a share of the weights that they had before training: a table of `docs/results.md`.

Encoders of `benchmarks/real_writer.py` (its options, its work directory) as they were trained, with half of the start's
weights, and with the share that the generated validation split likes best, as `start_share="auto"` keeps it. What is
compared is written down in `docs/benchmarks/real-writer-protocol.md`.

    python benchmarks/start_share.py --pairs DIR --sts-dir DIR --work DIR --students static --rows 0 1
        --learning-rate 1e-3 --first-seed 4 --seeds 10

Everything computed stays in the work directory; a rerun computes what is missing.
"""

from __future__ import annotations

import json
from collections import Counter

from real_writer import Row, Study, as_markdown, read_options
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.encoders.averaging import SHARES, average_weights, weights_of
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.training.objective import encode_once

Scores = dict[str, float]


class Averages:
    """An encoder between its start and what training made of it."""

    def __init__(self, study: Study, student: str, row: Row, seed: int, rate: float) -> None:
        self.study, self.student, self.seed = study, student, seed
        self.place = study.train(student, row, seed, rate)

    def encoder(self, share: float) -> SentenceTransformer:
        """The mean with a share of the start."""
        start = load_trainable_encoder(self.study.start(self.student), device="cpu")
        encoder = SentenceTransformer(str(self.place), device="cpu")
        average_weights(encoder, weights_of(start), weights_of(encoder), share)
        return encoder

    def validation(self) -> dict[float, float]:
        """Spearman × 100 on the generated validation split, by share."""
        file = self.study.work / "shares" / f"{self.place.name}.json"
        if not file.is_file():
            judged = self.study.prepared(self.student, self.seed)["validation"]
            texts = (list(judged[name]) for name in (SENTENCE1, SENTENCE2))
            score = encode_once(
                EmbeddingSimilarityEvaluator(*texts, list(judged[SCORE]), main_similarity="cosine", write_csv=False)
            )
            found = {str(share): 100 * score(self.encoder(share))["spearman_cosine"] for share in SHARES}
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(found), encoding="utf-8")
        return {float(share): score for share, score in json.loads(file.read_text(encoding="utf-8")).items()}

    def scores(self, share: float) -> Scores:
        """Scores on the tests, and on the generated validation split."""
        name, place = self.place.name, self.place
        if share and not (self.study.work / "scores" / f"{name}-share-{share:g}.json").is_file():
            place = self.study.work / "averaged"
            self.encoder(share).save_pretrained(str(place))
        tests = self.study.scores(f"{name}-share-{share:g}" if share else name, place)
        return tests | {"validation": self.validation()[share]}


def rows_of(averages: list[Averages]) -> tuple[dict[str, list[Scores]], Counter[float]]:
    """Scores of encoders of several seeds in each of three forms, and how often each share was chosen."""
    table: dict[str, list[Scores]] = {"as trained": [], "half of the start": [], "auto": []}
    taken = Counter[float]()
    for encoder in averages:
        validation = encoder.validation()
        chosen = max(SHARES, key=validation.__getitem__)
        taken[chosen] += 1
        for name, share in zip(table, (0.0, 0.5, chosen), strict=True):
            table[name].append(encoder.scores(share))
    return table, taken


def main() -> None:
    options = read_options(__doc__)
    study = Study(options)
    told = []
    for student in study.students:
        for number, row in study.chosen_rows(student):
            rate = study.choose_rate(student, row)
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            table, taken = rows_of([Averages(study, student, row, seed, rate) for seed in seeds])
            shares = ", ".join(f"{share:g} × {count}" for share, count in sorted(taken.items()))
            told.append(f"{as_markdown({f'{study.name(student)}, {row.name} ({rate:g})': table})}\nchosen: {shares}\n")
            (study.work / "start_share.md").write_text("\n".join(told), encoding="utf-8")
            print(f"row {number} done\n{told[-1]}", flush=True)


if __name__ == "__main__":
    main()
