"""A driver in a process of its own: `python -m tests.faults.ray_driver ADDRESS DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.test_workers import by_workers

if __name__ == "__main__":
    by_workers(sys.argv[1], Path(sys.argv[2]))
