"""Chooses the sentences that the quick start writes pairs for, from what the bundled model was not trained on.

``python -m tools.bundled_lm.sentences --corpora DIR --evaluation DIR --output recipes/quickstart-sentences.txt``
"""

import argparse
import random
from pathlib import Path

from tools.bundled_lm.documents import prepare
from tools.bundled_lm.news import News
from tools.bundled_lm.sources import Corpora, Evaluation, words

SHARES = {"caption": 290, "concepts": 60, "everyday": 250, "request": 80, "definition": 110, "example": 80}
SHARES |= {"encyclopedia": 60, "news": 70}
"""A thousand sentences; the news are told from our own templates."""


def choose(kept_back: Corpora, evaluation: Evaluation) -> list[str]:
    """Draws the sentences: 4 to 25 words, capital and full stop (requests and definitions stay as they are)."""
    rng, news, chosen = random.Random("quick start"), News(), []
    for domain, number in SHARES.items():
        pool = [group[0] for group in kept_back.groups.get(domain, [])] if domain != "request" else []
        if domain == "request":
            pool = [sentence for group in kept_back.groups[domain] for sentence in group]
        pool += kept_back.sentences.get(domain, [])
        pool = [news.one(rng) for _ in range(2 * number)] if domain == "news" else pool
        fitting = [s for s in dict.fromkeys(pool) if 4 <= len(words(s)) <= 25 and evaluation.overlaps(s) is None]
        chosen += [_dress(sentence, domain) for sentence in rng.sample(fitting, number)]
    rng.shuffle(chosen)
    return chosen


def _dress(sentence: str, domain: str) -> str:
    if domain in ("request", "definition", "example"):
        return sentence
    sentence = sentence[:1].upper() + sentence[1:]
    return sentence if sentence[-1] in ".!?" else sentence + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    _, kept_back, evaluation = prepare(arguments.corpora, arguments.evaluation)
    arguments.output.write_text("\n".join(choose(kept_back, evaluation)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
