"""Whose labels fit? Texts of several writers for the same sentences and labels, judged in one blind list.

    python benchmarks/judged_writers.py [FILE]

The file, by default `docs/audits/writers.jsonl`, has a line for each judgement: `writer`, `sentence1`, `sentence2`,
`generated` (the label), `judged`. Printed for each writer and label: how often each judgement was given, the share that
fits with Wilson's 95 % interval, and, of the sentences that the first writer has a text for under this label, too, for
how many only this one's text fits and for how many only the first one's, with the p of an exact sign test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scipy.stats import binomtest

from dino_st.inspection.judgements import SCALE, fitting, percent

AUDIT = Path(__file__).parents[1] / "docs" / "audits" / "writers.jsonl"


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else AUDIT
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    writers = list(dict.fromkeys(row["writer"] for row in rows))
    labels = sorted({row["generated"] for row in rows}, reverse=True)
    fits = {
        (row["writer"], row["generated"], row["sentence1"]): row["judged"] in fitting(row["generated"]) for row in rows
    }
    heads = [*(f"judged {score:g}" for score in SCALE), "fits", "only this one fits, only the first one's", "p"]
    print(f"| writer, label | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}")
    for writer in writers:
        for label in labels:
            judged = [row["judged"] for row in rows if (row["writer"], row["generated"]) == (writer, label)]
            own = {sentence: fit for (who, what, sentence), fit in fits.items() if (who, what) == (writer, label)}
            other = {
                sentence: fits[writers[0], label, sentence] for sentence in own if (writers[0], label, sentence) in fits
            }
            won = sum(own[sentence] and not fit for sentence, fit in other.items())
            lost = sum(fit and not own[sentence] for sentence, fit in other.items())
            p = f"{binomtest(won, won + lost).pvalue:.2g}" if won + lost else ""
            counts = [str(judged.count(score)) for score in SCALE]
            difference = "" if writer == writers[0] else f"{won}, {lost}"
            cells = [*counts, percent(sum(own.values()), len(own)), difference, p]
            print(f"| {writer}, {label:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
