"""How long `dino-st prepare` takes for a million pairs with every filter on, and how much memory.

    python benchmarks/preparation.py --output RAW --pairs 1000000
    /usr/bin/time -v dino-st prepare RAW --output PREPARED --explain --near-copy-edit 0.9 --near-copy-overlap 0.9 \
        --min-words 3 --max-words 40 --max-length-ratio 3 --min-token-log-prob -6 --max-repeated-trigrams 0.2 \
        --max-non-letters 0.4 --max-script-difference 0.5 --drop-broken-punctuation --drop-label-conflicts \
        --min-posterior 0.05 --target posterior-mixed --negative-guard overlap

The first writes a directory as `dino-st score` does: six x2 for each x1, two for each label, made of random words, so
that there is no model in it. One in twenty is a near-copy, repeats itself, is cut off, is in another script, or stands
there with another label, too; the log-probabilities mostly favour the assigned label. The second is what is measured.

Random words take a while to make: with `--copies 10` each pair is written ten times, with ten different words at the
end of its texts.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dino_st.data.columns import LOG_PROBS, PLAIN_LOG_PROB
from dino_st.data.shards import Glance, ShardDirectory, StoredWave, shard_name
from dino_st.support.files import make_directory
from dino_st.support.hashes import hash_file
from dino_st.tasks.spec import TaskSpec

WAVE = 30_000
SCHEMA = pa.schema(
    [
        ("sentence1", pa.string()),
        ("sentence2", pa.string()),
        ("score", pa.float64()),
        ("num_tokens", pa.int64()),
        (LOG_PROBS, pa.list_(pa.float64())),
        (PLAIN_LOG_PROB, pa.float64()),
    ]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, help="directory to write")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="how many pairs (default: 1000000)")
    parser.add_argument("--copies", type=int, default=1, help="pairs made of each pair of random words (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the texts (default: 0)")
    options = parser.parse_args()
    spec = TaskSpec.load("sts-x2")
    inputs = {"pairs": options.pairs, "copies": options.copies}
    configuration = {"task": spec.model_dump(mode="json"), "inputs": inputs, "seed": options.seed}
    provenance = {"model": "random words", "versions": {}}
    made = options.pairs // options.copies
    rows = synthetic_rows(made, [float(label) for label in spec.labels], random.Random(options.seed))
    with ShardDirectory(options.output).open(
        configuration=configuration, provenance=provenance, schema=SCHEMA
    ) as store:
        make_directory(options.output / "data")
        for number in range(-(-made // WAVE)):
            table = pa.Table.from_pylist(list(islice(rows, WAVE)), SCHEMA)
            for copy in range(options.copies):
                place = number * options.copies + copy
                store.enter([stored(options.output, place, copied(table, copy))])
        store.finish("# Random words\n")


def copied(table: pa.Table, copy: int) -> pa.Table:
    """The pairs as they are, or with another word at the end of both texts."""
    for column in range(2 if copy else 0):
        name = table.column_names[column]
        texts = pc.binary_join_element_wise(table[name].combine_chunks(), f"copy{copy}", " ")
        table = table.set_column(column, name, texts)
    return table


def stored(directory: Path, number: int, table: pa.Table) -> StoredWave:
    """Writes a wave without a look at its rows, which would take longer than to write them."""
    file = directory / shard_name(number)
    pq.write_table(table, file)
    entry = {"file": shard_name(number), "rows": len(table), "sha256": hash_file(file), "counts": {"rows": len(table)}}
    return StoredWave(number, entry, Glance({}, {}))


def synthetic_rows(pairs: int, labels: list[float], rng: random.Random) -> Iterator[dict[str, Any]]:
    """Pairs in the order in which they are generated."""
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20_000)]
    x1, earlier = "", ""
    for number in range(pairs):
        sample = number % (2 * len(labels))
        if sample == 0:
            x1 = " ".join(rng.choices(words, k=rng.randint(6, 16))).capitalize() + "."
        label = sample // 2
        x2 = _damaged(_x2(x1, labels[label], words, rng), x1, earlier, rng)
        earlier = x2
        log_probs = [round(rng.gauss(-30 + 4 * (place == label), 4), 4) for place in range(len(labels))]
        yield {
            "sentence1": x1,
            "sentence2": x2,
            "score": labels[label],
            "num_tokens": len(x2) // 4 + 2,
            LOG_PROBS: log_probs,
            PLAIN_LOG_PROB: round((len(x2) // 4 + 2) * rng.gauss(-4, 1), 4),
        }


def _x2(x1: str, label: float, words: list[str], rng: random.Random) -> str:
    """Half of the words of x1 for every half of the label, and new ones."""
    old = x1.rstrip(".").split()
    kept = rng.sample(old, int(len(old) * label * 0.8))
    return (
        " ".join([*kept, *rng.choices(words, k=max(len(old) - len(kept) + rng.randint(-3, 3), 1))]).capitalize() + "."
    )


def _damaged(x2: str, x1: str, earlier: str, rng: random.Random) -> str:
    """One x2 in twenty is spoilt, in one of several ways."""
    if rng.random() > 0.05:
        return x2
    ways = [
        x1[:-1] + "!",
        " ".join([x2[:12]] * 4),
        x2[:-1] + " and",
        "(" + x2,
        earlier,
        "женщина играет на гитаре",
        "!?",
    ]
    return rng.choice(ways) or x2


if __name__ == "__main__":
    main()
