"""Generates into a directory in forked processes that are killed at random moments, then in one that is not.

Run as `python -m tests.faults.killed_run MODEL DIRECTORY KILLS`; prints how many waves each victim left behind.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from dino_st import DinoDatasetBuilder
from dino_st.data.shards import ShardDirectory
from tests.faults import SENTENCES, SETTINGS


def generate(model: str, directory: Path) -> None:
    DinoDatasetBuilder(model, **SETTINGS).generate(SENTENCES, output_dir=directory)


def waves(directory: Path) -> int:
    return len(ShardDirectory(directory).waves)


def main(model: str, directory: Path, kills: int) -> None:
    import torch

    torch.set_num_threads(1)
    rng = random.Random(0)
    generate(model, directory.with_name("warm-up"))  # so that forks have everything loaded
    start = time.monotonic()
    generate(model, directory.with_name("timed"))
    whole = time.monotonic() - start
    left = []
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            generate(model, directory)
            os._exit(0)
        time.sleep(rng.uniform(0.05, 0.5) * whole)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left.append(waves(directory))
    generate(model, directory)
    print(json.dumps(left), flush=True)
    os._exit(0)  # a process that has forked may wait for ever for threads of its libraries at its end


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
