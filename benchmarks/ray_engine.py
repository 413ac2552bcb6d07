"""What workers of a Ray cluster gain and cost, on this machine.

    python benchmarks/ray_engine.py speed --inputs 2000 --repeats 3     # two workers, one worker, and one process
    python benchmarks/ray_engine.py speed --what score --inputs 2000    # the same for scoring their pairs
    python benchmarks/ray_engine.py driver --waves 100000               # waves without rows: what the driver takes
    python benchmarks/ray_engine.py chat --inputs 2000 --repeats 3      # triplets by a stand-in of a chat server

`speed` lets dino-tiny write for so many shipped or numbered sentences, or score the pairs, one thread a process, the
programs in turn. Seconds count from the first wave to the finished directory; loading the model, and starting Ray, are
left out. The rows are compared.

`driver` has workers that return an empty wave at once and write nothing, so what remains is Ray's calls, the manifest
and its lines on disk. The memory is that of the driver, after each tenth of the waves.

`chat` asks a server of its own process, which answers every request with a usable text after `--seconds`, for triplets.
Requests a second count from the first request to the finished directory, processor time is that of the command's
process alone: what is left to do there when workers ask.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from zlib import crc32

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ray
import torch

from dino_st import DinoDatasetBuilder
from dino_st.backends.options import ClusterOptions, ModelOptions
from dino_st.data.shards import Glance, ShardDirectory, StoredWave, shard_name
from dino_st.generation import workers
from dino_st.generation.run import GenerationRun
from dino_st.generation.scoring import ScoringRun
from dino_st.generation.workers import Crew, Job, WaveWorker
from dino_st.pipeline.stages import score_data
from dino_st.support.hashes import versions
from dino_st.syncse.run import TripletRun, generate_triplets

SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"

PROGRAMS: dict[str, dict[str, Any]] = {
    "one process": {},
    "one worker": {"engine": "ray", "cpus_per_worker": 1, "workers": 1},
    "two workers": {"engine": "ray", "cpus_per_worker": 1, "workers": 2},
}


class EmptyWorker(WaveWorker):
    """Returns waves without rows at once."""

    def load(self, job: Job) -> tuple[dict[str, str], dict[str, str]]:
        """Loads nothing."""
        identity = {"weights_sha256": "none", "device": "cpu", "dtype": "none"}
        return identity, versions("dino-st", "torch", "transformers")

    def write(self, streams: int, number: int, given: Any) -> StoredWave:
        """Writes nothing."""
        counts = {"inputs": len(given[1]), "rows": 0, "draws": 0, "tries": 0, "given up": 0, "tokens": 0}
        shard = {"file": shard_name(number), "rows": 0, "sha256": "0" * 64, "counts": counts}
        return StoredWave(number, shard, Glance.at(number, [], {}))


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


def timed(write: Callable[[], object], owner: type, name: str) -> float:
    """Seconds from the first wave, with which a generator of a class begins, to the end."""
    begun: list[float] = []
    waves = getattr(owner, name)

    def begins(self: Any, *arguments: Any) -> Any:
        while any(not worker.loaded for worker in getattr(self, "_workers", ())):
            self._step(1.0)
        begun.append(time.monotonic())
        return waves(self, *arguments)

    setattr(owner, name, begins)
    try:
        write()
    finally:
        setattr(owner, name, waves)
    return time.monotonic() - begun[0]


def speed(number: int, repeats: int, batch_size: int, what: str) -> None:
    torch.set_num_threads(1)
    sentences, model = inputs(number), {"batch_size": batch_size, "device": "cpu"}
    with tempfile.TemporaryDirectory() as base:
        raw = Path(base) / "raw"
        if what == "score":
            DinoDatasetBuilder("dino-tiny", **model, seed=1).generate_shards(raw, sentences)

        def write(directory: Path, options: dict[str, Any]) -> None:
            if what == "score":
                cluster = ClusterOptions.of(**options)
                score_data(raw, "dino-tiny", directory, options=ModelOptions.of(**model), cluster=cluster)
            else:
                builder = DinoDatasetBuilder("dino-tiny", load=not options, **model, seed=1)
                builder.generate_shards(directory, sentences, **options)

        def once(name: str, directory: Path) -> float:
            options = PROGRAMS[name]
            owner = Crew if options else GenerationRun if what == "generate" else ScoringRun
            return timed(partial(write, directory, options), owner, "waves" if options else "_waves")

        in_turn(once, repeats)


def in_turn(once: Callable[[str, Path], float], repeats: int) -> None:
    """Runs all programs one behind another, several times, and says how long they took."""
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    hashes = set()
    for _ in range(repeats):
        for name in PROGRAMS:
            with tempfile.TemporaryDirectory() as directory:
                seconds[name].append(once(name, Path(directory) / "out"))
                shards = ShardDirectory(Path(directory) / "out").shards
                hashes.add(tuple(shards[wave]["sha256"] for wave in sorted(shards)))
            print(f"{name}: {seconds[name][-1]:.2f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"medians: {', '.join(f'{name} {value:.2f} s' for name, value in medians.items())}")
    print(f"two workers are {medians['one process'] / medians['two workers']:.2f} times as fast as one process")
    print(f"one worker takes {medians['one worker'] / medians['one process'] - 1:+.1%}")
    print(f"rows: {'the same bytes' if len(hashes) == 1 else 'NOT the same'}")


def serve(pipe: Connection, seconds: float) -> None:
    """A chat server, as far as the client looks, that answers each prompt with a text of its own."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
                await asyncio.sleep(seconds)
                text = f'"Text {crc32(body)} tells of a dog."'
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                usage = {"prompt_tokens": 200, "completion_tokens": 12, "total_tokens": 212}
                reply = json.dumps({"id": "1", "model": "stand-in", "choices": [choice], "usage": usage}).encode()
                kind = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
                writer.write(kind + str(len(reply)).encode() + b"\r\n\r\n" + reply)

    async def listen() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(listen())


def chat(number: int, repeats: int, concurrency: int, seconds: float) -> None:
    ours, its = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(its, seconds), daemon=True)
    server.start()
    url, sentences = f"http://127.0.0.1:{ours.recv()}/v1", inputs(number)

    def once(name: str, directory: Path) -> float:
        begun: list[tuple[float, float]] = []
        waves = TripletRun._waves

        def begins(self: TripletRun, *arguments: Any) -> Any:
            begun.append((time.monotonic(), time.process_time()))
            return waves(self, *arguments)

        TripletRun._waves = begins  # type: ignore[method-assign]
        try:
            asked = {"backend": "openai", "base_url": url, "concurrency": concurrency}
            generate_triplets("stand-in", sentences, output_dir=directory, **asked, **PROGRAMS[name])
        finally:
            TripletRun._waves = waves  # type: ignore[method-assign]
        start, cpu = begun[0]
        spent, used = time.monotonic() - start, time.process_time() - cpu
        requests = ShardDirectory(directory).counts["tries"]
        print(f"{name}: {requests / spent:,.0f} requests a second, {used / requests * 1e3:.2f} ms of processor each")
        return spent

    in_turn(once, repeats)
    server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    fast = kinds.add_parser("speed")
    fast.add_argument("--inputs", type=int, default=2000)
    fast.add_argument("--repeats", type=int, default=3)
    fast.add_argument("--batch-size", type=int, default=768)
    fast.add_argument("--what", choices=("generate", "score"), default="generate")
    asked = kinds.add_parser("chat")
    asked.add_argument("--inputs", type=int, default=2000)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--concurrency", type=int, default=64)
    asked.add_argument("--seconds", type=float, default=0.0)
    empty = kinds.add_parser("driver")
    empty.add_argument("--waves", type=int, default=100_000)
    empty.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, ray {ray.__version__}")
    if given.kind == "driver":
        driver(given.waves, given.workers)
    elif given.kind == "chat":
        chat(given.inputs, given.repeats, given.concurrency, given.seconds)
    else:
        speed(given.inputs, given.repeats, given.batch_size, given.what)


if __name__ == "__main__":
    main()
