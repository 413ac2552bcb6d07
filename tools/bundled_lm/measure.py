"""Measures the bundled model: perplexity on text kept back, how far sentence 2 depends on sentence 1, and overlap.

``python -m tools.bundled_lm.measure --model DIR --corpora DIR --evaluation DIR --sentences FILE``
"""

import argparse
import json
import math
import random
import statistics
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from dino_st import DinoDatasetBuilder
from tools.bundled_lm.documents import END, prepare, templates
from tools.bundled_lm.lexicon import Lexicon
from tools.bundled_lm.pairs import MIXTURES, PairMaker, jaccard
from tools.bundled_lm.sources import words

_BATCH = 64


class Scorer:
    """Token losses of a causal model, in nats."""

    def __init__(self, model: Path) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
        self.model = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32).eval()

    @torch.inference_mode()
    def losses(self, texts: Sequence[tuple[str, str]]) -> tuple[float, int]:
        """Sum of the losses of each second part given the first, and the number of tokens in the second parts."""
        total, count = 0.0, 0
        for start in range(0, len(texts), _BATCH):
            given = [self.tokenizer(before)["input_ids"] for before, _ in texts[start : start + _BATCH]]
            rows = [
                ids + self.tokenizer(text)["input_ids"] for ids, (_, text) in zip(given, texts[start:], strict=False)
            ]
            longest = max(map(len, rows))
            ids = torch.zeros(len(rows), longest, dtype=torch.long)
            counted = torch.zeros(len(rows), longest, dtype=torch.bool)
            for i, (row, before) in enumerate(zip(rows, given, strict=True)):
                ids[i, : len(row)] = torch.tensor(row)
                counted[i, len(before) : len(row)] = True
            logits = self.model(ids).logits[:, :-1].transpose(1, 2)
            loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:], reduction="none")[counted[:, 1:]]
            total, count = total + float(loss.sum()), count + len(loss)
        return total, count

    def perplexity(self, sentences: Sequence[str]) -> tuple[float, float]:
        """Perplexity of a token and of a word, the sentences standing alone and with their end."""
        total, count = self.losses([(END, sentence + END) for sentence in sentences])
        return math.exp(total / count), math.exp(total / sum(len(words(sentence)) + 1 for sentence in sentences))


def written_pairs(model: Path, sentences: list[str]) -> dict[str, object]:
    """What the model writes for sentences: rejections, copies, and how near label 1 stays to its sentence."""
    builder = DinoDatasetBuilder(model, dtype="float32")
    rows = builder.generate(sentences)
    same = [row for row in rows if row["score"] == 1.0]
    copied = [words(row["sentence1"]) == words(row["sentence2"]) for row in same]
    return {
        "x1": len(sentences),
        "draws": builder.counts["draws"],
        "given up": builder.counts["given up"],
        "tries": builder.counts["tries"],
        "tries rejected": sum(n for name, n in builder.counts.items() if name.startswith("rejected")),
        "label 1: identical": round(statistics.mean(copied), 3),
        **{
            f"label {label}: median token Jaccard": round(
                statistics.median(jaccard(r["sentence1"], r["sentence2"]) for r in rows if r["score"] == float(label)),
                3,
            )
            for label in ("1", "0.5", "0")
        },
    }


def written_sentences(model: Path, number: int, trained: set[tuple[str, ...]]) -> dict[str, object]:
    """What the model writes from scratch: different two-word runs over all of them, copies, length in words."""
    rows = DinoDatasetBuilder(model, task="sts-x1", dtype="float32").generate(num=number)
    texts = [words(text) for text in rows["text"]]
    runs = [run for text in texts for run in pairwise(text)]
    return {
        "sentences": len(texts),
        "distinct-2": round(len(set(runs)) / len(runs), 3),
        "word for word in the training text": round(statistics.mean(text in trained for text in texts), 3),
        "mean length in words": round(statistics.mean(map(len, texts)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "corpora", "evaluation", "sentences"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    training, kept_back, evaluation = prepare(arguments.corpora, arguments.evaluation)
    scorer, rng, report = Scorer(arguments.model), random.Random(0), {}
    held = {
        "captions": [g[0] for g in kept_back.groups["caption"]],
        "everyday sentences": kept_back.sentences["everyday"],
    }
    held["definitions"] = kept_back.sentences["definition"]
    for name, sentences in held.items():
        chosen = [s[:1].upper() + s[1:] for s in rng.sample(sentences, min(500, len(sentences)))]
        token, word = scorer.perplexity(chosen)
        report[f"perplexity, {name} ({len(chosen)})"] = {"token": round(token, 1), "word": round(word, 1)}
    lexicon = Lexicon(training.everything(), arguments.corpora / "open_english_wordnet")
    maker = PairMaker(kept_back, lexicon, MIXTURES["close"])
    heads, middle = templates()
    drawn = list(islice(maker.draw(rng), 1500))
    for label, head in heads.items():
        pairs = [pair for found, pair in drawn if found == label]
        wrong = [pairs[(i + 1) % len(pairs)][0] for i in range(len(pairs))]
        losses = []
        for firsts in ([first for first, _ in pairs], wrong):
            texts = [(f"{head}{first}{middle}", f'{second}"') for first, (_, second) in zip(firsts, pairs, strict=True)]
            total, count = scorer.losses(texts)
            losses.append(round(total / count, 3))
        report[f"loss of sentence 2, label {label} ({len(pairs)} pairs)"] = dict(
            zip(("right", "random"), losses, strict=True)
        )
    shipped = arguments.sentences.read_text(encoding="utf-8").splitlines()
    trained = {words(sentence) for sentence in training.everything()}
    report["shipped sentences"] = {
        "number": len(shipped),
        "in an evaluation file": sum(evaluation.overlaps(sentence) == "sentence" for sentence in shipped),
        "with 8 words in a row from an evaluation file": sum(evaluation.overlaps(s) == "8-gram" for s in shipped),
        "trained on": sum(words(sentence) in trained for sentence in shipped),
    }
    left = [evaluation.overlaps(sentence) for sentence in training.everything()]
    report["training sentences"] = {
        "number": len(left),
        "in an evaluation file": left.count("sentence"),
        "with 8 words in a row from an evaluation file": left.count("8-gram"),
    }
    report["pairs written for the shipped sentences"] = written_pairs(arguments.model, shipped)
    report["sentences written from scratch"] = written_sentences(arguments.model, 1000, trained)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
