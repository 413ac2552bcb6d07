"""A driver that does not come to its end: `python -m tests.faults.ray_driver ADDRESS DIRECTORY`."""

from __future__ import annotations

import sys

from dino_st.generation import workers
from dino_st.support import objects
from tests.faults.doomed_workers import Held
from tests.faults.test_workers import by_workers

if __name__ == "__main__":
    objects._RENEW_SECONDS = 0.5
    workers.WaveWorker = Held  # type: ignore[misc]
    by_workers(sys.argv[1], sys.argv[2])
