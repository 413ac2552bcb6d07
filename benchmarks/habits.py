"""How often pairs have what is told at the end of a run: the largest share in any 3,000 rows, or 1,000 of a label.

    python benchmarks/habits.py PAIRS [PAIRS ...]

What `dino-st prepare` reads, whole. Thresholds are at nothing, so that a line is printed for whatever is there at all.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

from dino_st.data import habits, quality
from dino_st.data.pairs import read_raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=Path)
    places = parser.parse_args().pairs
    for name in [name for name in vars(habits) if re.match("_(FEW|SHARE)_|_(TIMES|ANSWERED)$", name)]:
        setattr(habits, name, int("SHARE" not in name and name != "_ANSWERED"))
    for place in places:
        rows = read_raw(place)[0].to_pylist()
        most: defaultdict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
        for start in range(0, max(1, len(rows) - 2_999), 3_000):
            pairs = defaultdict(list)
            for row in rows[start : start + 3_000]:
                pairs[quality.label_name(row)].append((row["sentence1"], row["sentence2"]))
            samples = {label: habits.TextSample(those) for label, those in sorted(pairs.items())}
            told = [("several labels", habits.under_several_labels(samples))]
            told += [("one for many", words) for _, words in habits.ones_for_many(samples)[:1]]
            told += [("out of word order", words) for _, words in habits.out_of_word_order(samples)]
            told += [("out of order", habits.out_of_order(samples[max(samples)], samples[min(samples)]))]
            for label, sample in samples.items():
                checks = (
                    ("strangers", "copies", "answers", "apart") if label in quality._alike(samples) else ("copies",)
                )
                told += [(f"{check} {label}", getattr(sample, check)()) for check in checks]
                size = len(sample.pairs())
                for feature, texts in habits._compared(sample.pairs())[0].items():
                    told.append((f"{feature.kind} {label}", f"{len(texts)} of {size} {feature.what} {feature.words}"))
            for kind, words in filter(lambda one: one[1], told):
                some, of, *_ = re.findall(r"\b\d[\d,]*\b", re.sub("“.*?”", "", words))
                most[kind] = max(most[kind], (int(some.replace(",", "")) / int(of.replace(",", "")), words))
        for kind, (share, words) in sorted(most.items()):
            print(f"{place.name}  {kind:>20}  {share:.4f}  {words[:100]}")


if __name__ == "__main__":
    main()
