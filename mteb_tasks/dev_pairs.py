"""The development pairs of the STS Benchmark and SICK: human scores, for those who ask for them by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mteb_tasks.sts_files import find_root, read_table
from mteb_tasks.sts_layout import SICK_TRIAL, STS_BENCHMARK_DEV

if TYPE_CHECKING:
    from datasets import Dataset


def read_dev_pairs(sts_dir: str | Path) -> dict[str, Dataset]:
    """Reads the 1,500 pairs of STSb dev and the 500 of SICK trial.

    Args:
        sts_dir: Directory in SentEval layout.

    Returns:
        `STSb dev` and `SICK dev` with the columns `sentence1`, `sentence2`, `score`.

    Raises:
        InputError: A file is missing or malformed.
        DatasetError: A file has another number of pairs than was published.
    """
    from datasets import Dataset

    root = find_root(sts_dir)
    found = {}
    for name, table in (("STSb dev", STS_BENCHMARK_DEV), ("SICK dev", SICK_TRIAL)):
        pairs = read_table(root, table)
        columns = {field: [getattr(pair, field) for pair in pairs] for field in ("sentence1", "sentence2", "score")}
        found[name] = Dataset.from_dict(columns)
    return found
