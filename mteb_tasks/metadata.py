"""Task metadata that keep what mteb computes about the data out of the installed package."""

from __future__ import annotations

import os
from pathlib import Path

from mteb.abstasks.task_metadata import TaskMetadata


class LocalTaskMetadata(TaskMetadata):
    """Metadata of a task whose data may be local files.

    mteb writes a task's descriptive statistics beside its own modules and finds them again by the task's name. Here
    they go to mteb's cache, under the name and the data's revision.
    """

    @property
    def descriptive_stat_path(self) -> Path:
        """Where `calculate_descriptive_statistics` writes."""
        cache = Path(os.environ.get("MTEB_CACHE") or Path.home() / ".cache" / "mteb")
        return cache / "descriptive_stats" / f"{self.name}-{self.revision[:8]}.json"
