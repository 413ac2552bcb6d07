"""Where the STS tasks take their data from: a directory, else the local datasets cache, else the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from datasets.exceptions import DatasetNotFoundError

from dino_st.errors import DatasetError, InputError
from mteb_tasks.abstask import AbsTaskScoredPairs
from mteb_tasks.hub_cache import read_cached
from mteb_tasks.sts_files import ScoredPair, find_root, read_table, read_year
from mteb_tasks.sts_layout import TableFile, YearLayout

STS_DIR_VARIABLE = "DINO_ST_STS_DIR"
HOW_TO_NAME_THE_DIRECTORY = (
    "Give a directory in SentEval layout with `--sts-dir DIR`, `sts_dir=...`, in a recipe `evaluate.sts_dir`, or the "
    f"variable {STS_DIR_VARIABLE}"
)


@dataclass(frozen=True)
class DataFiles:
    """The files behind a task's splits.

    Attributes:
        test: The year's files, or the files whose pairs are pooled, in SentEval layout.
        validation: Likewise; empty where the task has no such split.
        on_hub: Whether the hub has a copy of these very pairs.
    """

    test: YearLayout | tuple[TableFile, ...]
    validation: tuple[TableFile, ...] = ()
    on_hub: bool = True

    def splits(self) -> dict[str, YearLayout | tuple[TableFile, ...]]:
        """The files of every split that the task has."""
        return {"test": self.test} | ({"validation": self.validation} if self.validation else {})


class AbsTaskSTSData(AbsTaskScoredPairs):
    """A task on published STS or SICK data.

    Attributes:
        files: Where a subclass's pairs lie in a directory in SentEval layout.
    """

    files: ClassVar[DataFiles]

    def __init__(self, seed: int = 42, *, sts_dir: str | Path | None = None, **kwargs: Any) -> None:
        """Prepares the task; no file is read before `load_data`.

        Args:
            seed: mteb's seed; these tasks draw nothing.
            sts_dir: Directory in SentEval layout; None for the one that the variable DINO_ST_STS_DIR names, and where
                it names none, the local datasets cache and the hub.
            **kwargs: Handed on to mteb.
        """
        super().__init__(seed=seed, **kwargs)
        self.sts_dir = sts_dir

    def read_pairs(self) -> dict[str, list[ScoredPair]] | None:
        """Reads every split from the STS directory; None where none is named."""
        given = self.sts_dir or os.environ.get(STS_DIR_VARIABLE)
        if not given:
            return None
        root = find_root(given)
        return {split: _read_split(root, files) for split, files in self.files.splits().items()}

    @property
    def has_sources(self) -> bool:
        """Whether the papers report this task's sources one by one; the hub's copy does not name them."""
        return isinstance(self.files.test, YearLayout)

    def load_from_hub(self, **options: Any) -> None:
        """Loads the hub's copy at its pinned revision, from the local datasets cache where that holds it.

        Args:
            **options: Handed on to mteb's loader.

        Raises:
            InputError: The hub has no such data, or it is neither cached nor reachable.
            DatasetError: The copy has another number of pairs than was published.
        """
        name = type(self).metadata.name
        if not self.files.on_hub:
            raise InputError(
                f"{name} cannot be loaded from the hub, whose copy pools all of the data and does not say which pairs "
                f"are the test pairs. {HOW_TO_NAME_THE_DIRECTORY}."
            )
        repository, revision = type(self).metadata.dataset["path"], type(self).metadata.dataset["revision"]
        cached = read_cached(repository, revision)
        if cached is not None:
            self.dataset, self.data_loaded = cast("Any", cached), True
        else:
            self._ask_hub(name, repository, options)
        self._check_hub_counts(name)

    def _ask_hub(self, name: str, repository: str, options: dict[str, Any]) -> None:
        try:
            super().load_from_hub(**options)
        except (ConnectionError, DatasetNotFoundError, FileNotFoundError) as error:
            raise InputError(
                f"The data of {name} is neither in the local datasets cache nor can '{repository}' be loaded from the "
                f"hub ({_first_line(error)}). {HOW_TO_NAME_THE_DIRECTORY}, or connect to the network."
            ) from error

    def _check_hub_counts(self, name: str) -> None:
        dataset: Mapping[str, Any] = self.dataset or {}
        for split, files in self.files.splits().items():
            pairs = files.pairs if isinstance(files, YearLayout) else sum(table.pairs for table in files)
            found = len(dataset[split]) if split in dataset else 0
            if found != pairs:
                self.unload_data()
                raise DatasetError(
                    f"{name}: the hub's copy has {found} pairs in split '{split}', the published data has {pairs}. "
                    f"{HOW_TO_NAME_THE_DIRECTORY}."
                )


def _read_split(root: Path, files: YearLayout | tuple[TableFile, ...]) -> list[ScoredPair]:
    if isinstance(files, YearLayout):
        return read_year(root, files)
    return [pair for table in files for pair in read_table(root, table)]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
