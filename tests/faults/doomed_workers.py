"""Workers of a cluster that do badly: what a machine without luck would do."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from dino_st.data.shards import StoredWave
from dino_st.generation import workers
from dino_st.generation.workers import Job, WaveWorker


class Blind(WaveWorker):
    """Sees another directory than the driver."""

    def look(self, output: str, token: str) -> dict[str, str]:
        workers._SIGHT_SECONDS = 0.2
        return super().look(f"{output}-elsewhere", token)

    def load(self, job: Job) -> Any:
        raise RuntimeError("the model must not be loaded")


class DoomedAtStart(WaveWorker):
    """Dies whenever it loads the model, on the machines that are marked so."""

    def load(self, job: Job) -> Any:
        if "DOOMED" in os.environ:
            print("these are my last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(job)


class Stranger(WaveWorker):
    """Computes otherwise than the others, on the machines that are marked so."""

    def load(self, job: Job) -> Any:
        identity, installed = super().load(job)
        return identity | ({"dtype": "float16"} if "DOOMED" in os.environ else {}), installed


class DoomedByAWave(WaveWorker):
    """Dies of wave 2."""

    def write(self, streams: int, number: int, given: Any) -> StoredWave:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(streams, number, given)
