"""A user's own scored pairs as an STS task."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mteb_tasks.abstask import AbsTaskScoredPairs
from mteb_tasks.metadata import LocalTaskMetadata
from mteb_tasks.pair_files import read_pair_file
from mteb_tasks.sts_files import ScoredPair, content_hash

_HASH_DIGITS = 8


class DinoPairs(AbsTaskScoredPairs):
    """Any file of `sentence1`, `sentence2`, `score` as an STS task of its own.

    The task's name carries the file's stem and eight hexadecimal digits of the hash of its pairs, so that a changed
    file is another task and no stored result of the old one answers for it.

    Example:
        >>> task = DinoPairs("validation.jsonl")
        >>> task.metadata.name
        'DinoPairs-validation-1f0c7a52'
    """

    min_score = 0
    max_score = 1
    metadata = LocalTaskMetadata(
        name="DinoPairs",
        description="Scored sentence pairs from a file of the user's own.",
        dataset={"path": "local/DinoPairs", "revision": "unread"},
        reference="https://arxiv.org/abs/2104.07540",
        type="STS",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="cosine_spearman",
        date=("2021-01-01", "2021-12-31"),
        domains=["Written"],
        task_subtypes=[],
        license="not specified",
        annotations_creators="derived",
        dialect=[],
        sample_creation="found",
        bibtex_citation="",
        is_public=False,
    )

    def __init__(self, file: str | Path, seed: int = 42, **kwargs: Any) -> None:
        """Reads the file.

        Args:
            file: A `.jsonl`, `.csv`, `.tsv` or `.parquet` file with the columns `sentence1`, `sentence2` and `score`.
            seed: mteb's seed; the task draws nothing.
            **kwargs: Handed on to mteb.

        Raises:
            InputError: The file cannot be read, or not used as scored pairs.
        """
        self.file = Path(file).expanduser()
        self._pairs = read_pair_file(self.file)
        self._name_after_content()
        super().__init__(seed=seed, **kwargs)

    def read_pairs(self) -> dict[str, list[ScoredPair]]:
        """The pairs that were in the file when the task was made, as the split `test`."""
        return {"test": self._pairs}

    def unload_data(self) -> None:
        """Releases mteb's copy of the data; the task keeps its name and its pairs."""
        super().unload_data()
        self._name_after_content()

    def _set_revision(self, revision: str) -> None:
        """The name and revision were settled when the file was read."""

    def _name_after_content(self) -> None:
        revision = content_hash(self.read_pairs())
        stem = re.sub(r"[^\w.-]+", "_", self.file.stem)
        name = f"DinoPairs-{stem}-{revision[:_HASH_DIGITS]}"
        fields = {"name": name, "dataset": {"path": f"local/{name}", "revision": revision}}
        self.metadata = type(self).metadata.model_copy(update=fields)
