"""Data sets of the hub that the local datasets cache already holds, read without asking the hub.

`datasets.load_dataset` asks the hub first, which takes half a minute of retries without a connection, and then settles
for whatever revision it finds in the cache.
"""

from __future__ import annotations

import json
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict, concatenate_datasets


def read_cached(repository: str, revision: str) -> DatasetDict | None:
    """Reads a data set from the cache that `datasets.load_dataset` filled earlier.

    Args:
        repository: Its repository on the hub, `owner/name`.
        revision: The commit, in full.

    Returns:
        Its splits; None where the cache does not hold this very revision.
    """
    owner, _, name = repository.partition("/")
    cache = Path(datasets.config.HF_DATASETS_CACHE).expanduser()
    for info in sorted(cache.glob(f"{owner}___{name}/*/*/{revision}/dataset_info.json")):
        splits = json.loads(info.read_text(encoding="utf-8")).get("splits") or {}
        shards = {split: sorted(info.parent.glob(f"{name}-{split}*.arrow")) for split in splits}
        if shards and all(shards.values()):
            return DatasetDict(
                {
                    split: concatenate_datasets([Dataset.from_file(str(f)) for f in files])
                    for split, files in shards.items()
                }
            )
    return None
