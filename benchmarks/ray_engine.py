"""What workers of a Ray cluster gain and cost, on this machine.

    python benchmarks/ray_engine.py speed --inputs 2000 --repeats 3     # two workers, one worker, and one process
    python benchmarks/ray_engine.py driver --waves 100000               # waves without rows: what the driver takes

`speed` lets dino-tiny write for so many shipped or numbered sentences, one thread a process, the programs in turn.
Seconds count from the first wave to the finished directory; loading the model, and starting Ray, are left out. The rows
are compared.

`driver` has workers that return an empty wave at once and write nothing, so what remains is Ray's calls, the manifest
and its lines on disk. The memory is that of the driver, after each tenth of the waves.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ray
import torch

from dino_st import DinoDatasetBuilder
from dino_st.data.shards import Glance, ShardDirectory, StoredWave, shard_name
from dino_st.generation import workers
from dino_st.generation.run import GenerationRun
from dino_st.generation.workers import Crew, Job, WaveWorker
from dino_st.support.hashes import versions

SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"


class EmptyWorker(WaveWorker):
    """Returns waves without rows at once."""

    def load(self, job: Job) -> tuple[dict[str, str], dict[str, str]]:
        """Loads nothing."""
        return {"weights_sha256": "none", "device": "cpu", "dtype": "none"}, versions("torch", "transformers")

    def write(self, streams: int, number: int, given: Any) -> StoredWave:
        """Writes nothing."""
        counts = {"inputs": len(given[1]), "rows": 0, "draws": 0, "tries": 0, "given up": 0, "tokens": 0}
        shard = {"file": shard_name(number), "rows": 0, "sha256": "0" * 64, "counts": counts}
        return StoredWave(number, shard, Glance({}, {}))


def inputs(number: int) -> list[str]:
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    return [sentences[i % len(sentences)] + ("" if i < len(sentences) else f" {i}") for i in range(number)]


def resident() -> float:
    """Memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def driver(waves: int, count: int) -> None:
    workers.WaveWorker = EmptyWorker  # type: ignore[misc]
    memory: list[str] = []
    enter, start, cpu = ShardDirectory.enter, 0.0, 0.0

    def watched(self: ShardDirectory, stored: Sequence[StoredWave]) -> None:
        nonlocal start, cpu
        if not start:
            start, cpu = time.monotonic(), time.process_time()
        enter(self, stored)
        if len(self.shards) * 10 // waves > len(memory):
            memory.append(f"{resident():.0f}")

    ShardDirectory.enter = watched  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as directory:
        builder = DinoDatasetBuilder("dino-tiny", load=False, batch_size=1, device="cpu")
        builder.generate_shards(
            Path(directory) / "raw", map(str, range(waves)), engine="ray", workers=count, cpus_per_worker=1
        )
        end, used = time.monotonic(), time.process_time() - cpu
        bytes_ = (Path(directory) / "raw/manifest.json").stat().st_size
        begin = time.monotonic()
        ShardDirectory(Path(directory) / "raw")
        print(f"{waves:,} empty waves by {count} workers: {end - start:.1f} s, {waves / (end - start):,.0f} a second")
        print(f"processor time of the driver: {used:.1f} s, {used / waves * 1e3:.3f} ms a wave")
        print(f"driver's memory after each tenth, MiB: {' '.join(memory)}")
        print(f"manifest: {bytes_ / 2**20:.1f} MiB, read in {time.monotonic() - begin:.1f} s")


def timed(directory: Path, sentences: list[str], options: dict[str, Any], writing: dict[str, Any]) -> float:
    """Seconds from the first wave to the finished directory."""
    begun: list[float] = []
    if options:
        waves = Crew.waves

        def watched(self: Crew, *arguments: Any) -> Any:
            while any(not worker.loaded for worker in self._workers):
                self._step(1.0)
            begun.append(time.monotonic())
            return waves(self, *arguments)

        Crew.waves = watched  # type: ignore[method-assign]
        builder = DinoDatasetBuilder("dino-tiny", load=False, **writing)
        try:
            builder.generate_shards(directory, sentences, **options)
        finally:
            Crew.waves = waves  # type: ignore[method-assign]
    else:
        alone = GenerationRun._waves

        def begins(self: GenerationRun, *arguments: Any) -> Any:
            begun.append(time.monotonic())
            return alone(self, *arguments)

        GenerationRun._waves = begins  # type: ignore[method-assign]
        builder = DinoDatasetBuilder("dino-tiny", **writing)
        try:
            builder.generate_shards(directory, sentences)
        finally:
            GenerationRun._waves = alone  # type: ignore[method-assign]
    return time.monotonic() - begun[0]


def speed(number: int, repeats: int, batch_size: int) -> None:
    torch.set_num_threads(1)
    sentences = inputs(number)
    writing = {"batch_size": batch_size, "device": "cpu", "seed": 1}
    ray_ = {"engine": "ray", "cpus_per_worker": 1}
    programs: dict[str, dict[str, Any]] = {
        "one process": {},
        "one worker": ray_ | {"workers": 1},
        "two workers": ray_ | {"workers": 2},
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    hashes = set()
    for _ in range(repeats):
        for name, options in programs.items():
            with tempfile.TemporaryDirectory() as directory:
                seconds[name].append(timed(Path(directory) / "raw", sentences, options, writing))
                shards = ShardDirectory(Path(directory) / "raw").shards
                hashes.add(tuple(shards[wave]["sha256"] for wave in sorted(shards)))
            print(f"{name}: {seconds[name][-1]:.2f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"medians: {', '.join(f'{name} {value:.2f} s' for name, value in medians.items())}")
    print(f"two workers are {medians['one process'] / medians['two workers']:.2f} times as fast as one process")
    print(f"one worker takes {medians['one worker'] / medians['one process'] - 1:+.1%}")
    print(f"rows: {'the same bytes' if len(hashes) == 1 else 'NOT the same'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    fast = kinds.add_parser("speed")
    fast.add_argument("--inputs", type=int, default=2000)
    fast.add_argument("--repeats", type=int, default=3)
    fast.add_argument("--batch-size", type=int, default=768)
    empty = kinds.add_parser("driver")
    empty.add_argument("--waves", type=int, default=100_000)
    empty.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, ray {ray.__version__}")
    if given.kind == "driver":
        driver(given.waves, given.workers)
    else:
        speed(given.inputs, given.repeats, given.batch_size)


if __name__ == "__main__":
    main()
