"""Workers of a cluster that do badly: what a machine without luck would do."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from dino_st.data import shards
from dino_st.data.shards import StoredWave
from dino_st.generation import workers
from dino_st.generation.workers import Job, WaveWorker
from dino_st.support.objects import Place
from tests import shelf  # noqa: F401  # which workers know then


def _beside(output: Place) -> Path:
    """The directory in which an output is, on a shelf, too."""
    return Path(str(output).removeprefix("shelf:/")).parent


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


class DoomedInTheMiddle(WaveWorker):
    """Dies once, when wave 2 is on disk and has not got its name yet; leaves its number beside the output."""

    def write(self, streams: int, number: int, given: Any) -> StoredWave:
        note = self._output.parent / "ended"

        def die(_: Path) -> str:
            note.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
            return ""

        if number == 2 and not note.exists():
            shards.hash_file = die  # type: ignore[assignment]
        return super().write(streams, number, given)


class DoomedOnceItIsPut(WaveWorker):
    """Dies once, when wave 2 is put on a shelf, and nobody was told; leaves its number beside the output."""

    def write(self, streams: int, number: int, given: Any) -> StoredWave:
        stored = super().write(streams, number, given)
        if number == 2 and not (note := _beside(self._output) / "ended").exists():
            note.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return stored


class Cramped(WaveWorker):
    """Runs out of memory, once, or always where there is a file `always` beside the output; notes that there."""

    def load(self, job: Job) -> Any:
        loaded = super().load(job)
        place, passes = self._output.parent, []

        def fail(*_: Any) -> None:
            passes.append(1)
            if len(passes) == 5 or (place / "always").exists():
                (place / "cramped").touch()
                raise torch.OutOfMemoryError("CUDA out of memory")

        self._run.writer.model.register_forward_pre_hook(fail)  # type: ignore[attr-defined]
        return loaded


class Held(WaveWorker):
    """Is in the middle of any wave from 2 on until there is a file `go` beside the output."""

    def write(self, streams: int, number: int, given: Any) -> StoredWave:
        while number >= 2 and not (_beside(self._output) / "go").exists():
            time.sleep(0.05)
        return super().write(streams, number, given)


class DoomedByAWave(WaveWorker):
    """Dies of wave 2."""

    def write(self, streams: int, number: int, given: Any) -> StoredWave:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(streams, number, given)
