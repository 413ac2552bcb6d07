"""Rules that choose a learning rate by generated validation pairs, compared.

The static encoders of `benchmarks/choice.py` that differ by learning rate alone, with several seeds: seven rates for
each of two recipes and three sizes. Each rule sees what a user has, the encoders' cosines on the generated validation
split; how much it loses is measured on STSb's development pairs, which people have scored. What is compared is written
down in `docs/benchmarks/real-writer-protocol.md`.

    python benchmarks/choice_of_rate.py --pairs DIR --sts-dir DIR --work DIR --seeds 3 4 5
    python benchmarks/choice_of_rate.py --pairs DIR --sts-dir DIR --work DIR --seeds 4 5 --averages

The work directory is kept, and may be that of the other two programs; a rerun computes what is missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from ablations import half_width
from choice import RATES, SIZES, SmallerStudy, similarities, static_options
from datasets import Dataset
from real_writer import ROWS, Row, Study
from scipy.stats import rankdata, spearmanr
from sentence_transformers import SentenceTransformer
from start_share import Averages

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from mteb_tasks.sts_files import read_dev_pairs

REPLICATES = 400
"""Of the bootstrap; the standard error of its standard error is 3.5 %."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Encoders that differ by learning rate alone, lowest rate first."""

    name: str
    study: Study
    row: Row
    seed: int
    cosines: Numbers  # on the validation split, shape (rates, pairs)
    scores: Numbers  # of these pairs
    dev: Numbers  # Spearman × 100 on STSb's development pairs, shape (rates,)

    @cached_property
    def validation(self) -> Numbers:
        """Spearman × 100 on the validation split, shape (rates,)."""
        return np.array([100 * spearmanr(row, self.scores).statistic for row in self.cosines])

    @cached_property
    def standard_errors(self) -> Numbers:
        """Standard error of how far each encoder is below the best one, on other pairs like these, shape (rates,).

        By the bootstrap over pairs (Efron 1979), the same pairs for both of a difference.
        """
        random = np.random.default_rng(0)
        best, differences = int(self.validation.argmax()), []
        for _ in range(REPLICATES):
            drawn = random.integers(len(self.scores), size=len(self.scores))
            rows = np.vstack((self.cosines[:, drawn], self.scores[drawn]))
            ranks = rankdata(rows, axis=1)
            found = 100 * np.corrcoef(ranks)[-1, :-1]
            differences.append(found[best] - found)
        return np.std(differences, axis=0, ddof=1)


def within(errors: float) -> Callable[[Choice], int]:
    """The lowest rate whose encoder is so many standard errors, at most, below the best one.

    With one it is the one-standard-error rule (Breiman et al. 1984): of those that the pairs cannot tell apart, that
    which has moved least from its start.
    """

    def chosen(choice: Choice) -> int:
        behind = choice.validation.max() - choice.validation
        return int((behind <= errors * choice.standard_errors).argmax())

    return chosen


RULES: dict[str, Callable[[Choice], int]] = {
    "the best (as published)": lambda choice: int(choice.validation.argmax()),
    "the lowest within one standard error of the best": within(1),
    "the lowest within two": within(2),
}


def choices(options: argparse.Namespace) -> Iterator[Choice]:
    """All sets of encoders."""
    dev = read_dev_pairs(options.sts_dir)["STSb dev"]
    studies: Sequence[Study] = (Study(options), *(SmallerStudy(options, pairs) for pairs in SIZES))
    for seed in options.seeds:
        for study in studies:
            study.work.mkdir(parents=True, exist_ok=True)
            for row in ROWS[:2]:
                yield compared(study, row, seed, dev)


def compared(study: Study, row: Row, seed: int, dev: Dataset) -> Choice:
    """One set of encoders, from the work directory where it is there."""
    place = study.work / f"choice-{row.name}-{seed}.npz"
    if not place.is_file():
        judged = study.prepared("static", seed)["validation"]
        cosines, of_dev = [], []
        for rate in RATES:
            encoder = SentenceTransformer(str(study.train("static", row, seed, rate)), device="cpu")
            cosines.append(similarities(encoder, judged[SENTENCE1], judged[SENTENCE2]))
            found = similarities(encoder, dev[SENTENCE1], dev[SENTENCE2])
            of_dev.append(100 * spearmanr(found, dev[SCORE]).statistic)
        np.savez(place, cosines=np.array(cosines), scores=np.array(judged[SCORE]), dev=np.array(of_dev))
    with np.load(place) as kept:
        return Choice(f"{study.work.name}, {row.name}", study, row, seed, kept["cosines"], kept["scores"], kept["dev"])


def of_averages(choice: Choice, dev: Dataset) -> tuple[float, float]:
    """Spearman × 100 on STSb's development pairs: of the average that the validation split likes best, and the highest.

    The choice is among all rates and shares of the start that `start_share="auto"` tries; at a tie the largest share.
    """
    found: dict[tuple[float, float, float], float] = {}
    for rate in RATES:
        averages = Averages(choice.study, "static", choice.row, choice.seed, rate)
        for share, score in averages.validation().items():
            encoder = averages.encoder(share)
            cosines = similarities(encoder, dev[SENTENCE1], dev[SENTENCE2])
            found[score, share, rate] = float(100 * spearmanr(cosines, dev[SCORE]).statistic)
    return found[max(found)], max(found.values())


def averages_as_markdown(found: Sequence[Choice], dev: Dataset) -> str:
    """Mean regret of the choice among averages beside that of the published choice.

    Both are measured against the best rate as trained; the former against the best average, too.
    """
    first = [float(choice.dev.max() - choice.dev[int(choice.validation.argmax())]) for choice in found]
    taken, best = zip(*(of_averages(choice, dev) for choice in found), strict=True)
    own = [float(choice.dev.max()) - reached for choice, reached in zip(found, taken, strict=True)]
    of_all = [most - reached for most, reached in zip(best, taken, strict=True)]
    differences = [one - other for one, other in zip(own, first, strict=True)]
    return (
        "| choice | mean regret | largest | difference |\n| --- | ---: | ---: | ---: |\n"
        f"| the best as trained | {statistics.mean(first):.3f} | {max(first):.2f} | |\n"
        f"| the best average with the start | {statistics.mean(own):.3f} | {max(own):.2f} | "
        f"{statistics.mean(differences):+.3f} ± {half_width(differences):.3f} |\n"
        f"| the same, against the best average | {statistics.mean(of_all):.3f} | {max(of_all):.2f} | |\n\n"
        f"{' '.join(format(regret, '.2f') for regret in own)}\n"
    )


def as_markdown(found: Sequence[Choice]) -> str:
    """Mean regret of each rule, and its difference to the first, paired by choice."""
    lines = [
        "| rule | mean regret | largest | difference to the first | rates, of 7 |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    first: list[float] = []
    for name, rule in RULES.items():
        taken = [rule(choice) for choice in found]
        regrets = [float(choice.dev.max() - choice.dev[number]) for choice, number in zip(found, taken, strict=True)]
        first = first or regrets
        differences = [own - other for own, other in zip(regrets, first, strict=True)]
        lines.append(
            f"| {name} | {statistics.mean(regrets):.3f} | {max(regrets):.2f} | "
            f"{'' if regrets is first else f'{statistics.mean(differences):+.3f} ± {half_width(differences):.3f}'} | "
            f"{' '.join(str(number + 1) for number in taken)} |"
        )
    return "\n".join(lines) + f"\n\n{len(found)} choices of a learning rate.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="of preparation and training")
    parser.add_argument("--averages", action="store_true", help="choose among averages with the start, too")
    options = static_options(parser)
    found = []
    for choice in choices(options):
        found.append(choice)
        told = {"validation": choice.validation, "errors": choice.standard_errors, "dev": choice.dev}
        print(
            choice.name,
            choice.seed,
            json.dumps({name: values.round(2).tolist() for name, values in told.items()}),
            flush=True,
        )
    report = as_markdown(found)
    if options.averages:
        report += "\n" + averages_as_markdown(found, read_dev_pairs(options.sts_dir)["STSb dev"])
    (options.work / "choice_of_rate.md").write_text(report, encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
