"""Waves that several processes write: on the GPUs of this machine, or of a Ray cluster.

This process, the driver, hands out the numbers of waves with their sentences, and alone writes the manifest. A worker
loads the model once, and for each wave puts the shard where the driver would have put it. So what is on disk does not
tell who wrote it, and a run begun with workers goes on without them, and the other way round.

What ends a worker costs the wave in progress: that goes to another worker, and a new one takes the old one's place.
"""

from __future__ import annotations

import pickle
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from dino_st.backends.cluster import (
    DEATHS,
    Place,
    Workforce,
    check_fits,
    connected,
    found_everywhere,
    gpus_of_worker,
    last_words,
    number_of_workers,
    own_sight,
    ray_package,
    room,
)
from dino_st.backends.options import ClusterOptions
from dino_st.data.habits import TextSample
from dino_st.data.shards import ShardDirectory, StoredWave, WaveStore, store_wave
from dino_st.errors import ClusterError, ConfigurationError, DinoError, OutputError, first_line
from dino_st.generation.waves import WavePlan, WaveRun, Writers
from dino_st.support.files import check_can_become_directory, make_directory, write_text
from dino_st.support.objects import place
from dino_st.support.progress import progress

_CALL_SECONDS, _MOST_AT_ONCE = 0.15, 128
"""Work that a worker gets in one call, at least a wave and at most so many; it has two calls before it."""

_MARK = ".workers.tmp"
"""The file by which workers know that they see the same directory as the driver."""

_SIGHT_SECONDS = 10.0
"""How long a worker looks for that file; file systems of networks show new ones late."""

_ENTER_SECONDS = 0.1
"""Waves that finish within this time are entered in the manifest together."""

_LOOK_SECONDS = 10.0
"""How often a cluster is asked for its size."""

_OTHERS_SECONDS = 60.0
"""How long a loaded worker of another kind than the run's waits for one of its kind."""


@dataclass(frozen=True)
class Job:
    """What a worker must know before it writes."""

    model: str  # where it is found on every machine
    name: str  # what manifests call it
    plan: WavePlan  # its inputs are only a sample
    output: str
    threads: int


class WaveWorker:
    """A process of a cluster that writes waves."""

    _run: WaveRun

    def look(self, output: str, token: str) -> dict[str, str]:
        """Who and where this is, and in `fault` why it cannot write into a directory; nothing slow is imported."""
        return own_sight() | {"fault": _fault(output, token)}

    def load(self, job: Job) -> tuple[dict[str, str], dict[str, str]]:
        """Loads the model; what of it decides the rows, and the versions of what runs it."""
        import torch

        torch.set_num_threads(job.threads)
        self._run, self._output = job.plan.open(job.model, job.name), place(job.output)
        self._sampled: defaultdict[str, TextSample] = defaultdict(TextSample)  # of this worker's waves, by label
        self._schema, self._facts, self._streams = job.plan.schema(), job.plan.facts(), 0
        return self._run.identity(), self._run.installed()

    def choose(self, batch_size: int | str) -> int:
        """How many streams are computed together."""
        return self._run.streams(batch_size)

    def write_all(self, streams: int, waves: Sequence[tuple[int, Any]]) -> bytes:
        """Writes the shards of waves; what `write` returns, pickled, so that the driver keeps nothing of Ray's memory.

        A wave is its number, and what it is made from.
        """
        return pickle.dumps([self.write(streams, *wave) for wave in waves])

    def write(self, streams: int, number: int, given: Any) -> StoredWave:
        """Writes the shard of a wave."""
        if streams != self._streams:
            self._engine, self._streams = self._run.engine(streams), streams
        stored = store_wave(self._output, self._run.wave(self._engine, number, given), self._schema, self._facts)
        known = self._sampled
        samples = {label: known[label].take_in(sample) for label, sample in stored.seen.samples.items()}
        return replace(stored, seen=replace(stored.seen, samples=samples))


def _fault(address: str, token: str) -> str:
    """Why a directory cannot be written here, if so: it is not there, is another one, or may not be written."""
    until = time.monotonic() + _SIGHT_SECONDS
    try:
        output = place(address)
        while True:
            try:
                seen = (output / _MARK).read_text(encoding="utf-8")
            except OSError as error:
                seen = error.strerror or str(error)
            if seen == token or time.monotonic() > until:
                break
            time.sleep(0.2)
        if seen != token:
            return (
                f"it does not see what the driver wrote there ({seen if len(seen) != len(token) else 'another file'})"
            )
        make_directory(output)
        check_can_become_directory(output)
    except DinoError as error:
        return str(error)
    return ""


def write_with_workers(
    directory: ShardDirectory,
    model: str | Path | tuple[Any, Any],
    plan: WavePlan,
    options: ClusterOptions,
    show_progress: bool,
) -> ShardDirectory:
    """Fills a directory by the workers of a Ray cluster, or continues there.

    Raises ConfigurationError where the task, the model or an option does not fit, a worker has another version of
    dino-st, or no cluster answers; MissingExtraError where Ray is not installed; OutputError where the directory is in
    use, or workers do not see it; ClusterError where workers end again and again; and what loading and writing raise.
    """
    if plan.undivided:
        raise ConfigurationError(f"{plan.undivided}, which is the work of one process; leave out engine='ray'")
    check_fits(options, model, plan.device)
    check_can_become_directory(directory.path)
    ray = ray_package()
    if isinstance(directory.path, Path):
        directory.path = directory.path.expanduser().absolute()
    output = directory.path
    job = Job(
        found_everywhere(model), str(model), plan.for_workers(), str(output), max(1, int(options.cpus_per_worker))
    )
    token = secrets.token_hex(16)
    with directory.locked():  # another driver is told of before anything is started
        write_text(output / _MARK, token)
    try:
        with connected(ray, options):
            crew = Crew(ray, job, plan, options, token)
            try:
                opened = crew.open(directory.configuration)
                writers = Writers(
                    str(model), *opened, crew.choose, lambda streams: partial(crew.waves, streams, show_progress)
                )
                return plan.into(directory, writers)
            finally:
                crew.close()
    finally:
        (output / _MARK).unlink(missing_ok=True)


@dataclass
class _Call:
    """What a worker was asked."""

    answer: Any  # Ray's reference
    numbers: Sequence[int] = ()  # of the waves to write, if that is what was asked


@dataclass
class _Worker(Place):
    """A place among the workers, and what its process has been asked and has said."""

    calls: deque[_Call] = field(default_factory=deque)  # unanswered, in their order
    loaded: tuple[dict[str, str], dict[str, str]] | None = None  # identity and versions
    is_admitted: bool = False  # whether it is of the kind that writes this run


class Crew(Workforce[_Worker]):
    """The workers of one run, which are given waves."""

    def __init__(self, ray: Any, job: Job, plan: WavePlan, options: ClusterOptions, token: str) -> None:
        super().__init__(ray, options, gpus_of_worker(ray, options, plan.device), WaveWorker, _Worker)
        self._job, self._plan, self._token = job, plan, token
        self._fresh: Iterator[int] = iter(())
        self._again: deque[int] = deque()
        self._finished: list[StoredWave] = []  # waves that are to be entered yet
        self._victims: Counter[int] = Counter()  # workers that ended on a wave
        self._lost: dict[int, str] = {}  # waves given up, and what the last worker said
        self._at_once = 1  # waves that a worker gets in one call
        self._looked = self._told = time.monotonic()
        self.hire(number_of_workers(ray, options, self._gpus))

    def _begin(self, place: _Worker) -> None:
        """Asks a new process for what it sees; `_seen` has it load the model."""
        place.calls, place.loaded, place.is_admitted = deque(), None, False
        place.calls.append(_Call(place.actor.look.remote(self._job.output, self._token)))

    def open(self, begun: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """Waits until a worker has the model; identity and versions that the run takes from it.

        A worker of the kind that wrote the directory before (`begun`, its configuration) is waited for a while.
        """

        def fits(worker: _Worker) -> bool:
            identity = worker.loaded[0] if worker.loaded else {}
            return bool(identity) and all(begun.get(name) in (None, value) for name, value in identity.items())

        since = None
        while True:
            loaded = [worker for worker in self.places if worker.loaded]
            since = since or (time.monotonic() if loaded else None)
            chosen = next(filter(fits, loaded), None)
            is_late = since is not None and time.monotonic() - since > _OTHERS_SECONDS
            if chosen is None and loaded and (is_late or len(loaded) == len(self.places)):
                chosen = loaded[0]
            if chosen is not None and chosen.loaded is not None:
                break
            self._step(1.0)
        self._first = chosen
        self._kind = _kind(*chosen.loaded)
        for worker in loaded:
            self._admit(worker)
        return chosen.loaded

    def choose(self, batch_size: int | str) -> int:
        """How many streams a wave takes, by the memory of the first worker; the same for all."""
        if batch_size != "auto":
            return int(batch_size)
        try:
            return int(self._get(self._first.actor.choose.remote(batch_size)))
        except self._ray.exceptions.RayError as error:
            raise ClusterError(f"{self._first} ended ({first_line(error)}); run again") from error

    def waves(self, streams: int, show_progress: bool, store: WaveStore) -> Generator[list[StoredWave], None, None]:
        """The waves that a store lacks, those together that finish at about the same time."""
        numbers, start = self._plan.numbers(streams), time.monotonic()
        self._fresh = (number for number in numbers if number not in store)
        finished = self._finished
        entered, rows, waves = start, 0, 0
        with progress(self._plan.title, len(numbers), "waves", done=len(store.waves), shown=show_progress) as advance:
            while True:
                is_writing = self._hand_out(streams)
                if finished and (not is_writing or time.monotonic() - entered > _ENTER_SECONDS):
                    yield list(finished)
                    rows += sum(wave.shard["rows"] for wave in finished)
                    alive = sum(worker.is_admitted for worker in self.places)
                    seconds = time.monotonic() - start
                    rate, waves = rows / seconds, waves + len(finished)
                    self._at_once = min(max(1, int(_CALL_SECONDS * waves / seconds / max(alive, 1))), _MOST_AT_ONCE)
                    advance(len(finished), f"{rate:,.1f} pairs a second, {alive} of {len(self.places)} workers alive")
                    entered = time.monotonic()
                    finished.clear()
                elif not is_writing:
                    break
                else:
                    try:
                        self._step(_ENTER_SECONDS if finished else 1.0)
                    except BaseException:
                        if finished:
                            yield list(finished)
                        raise
        if self._lost:
            number, said = next(iter(self._lost.items()))
            raise ClusterError(
                f"{len(self._lost)} waves ended {DEATHS} workers each, such as wave {number}: {said}"
                "\nThe others are finished. Run again to go on with these, on workers with more memory perhaps"
            )
        self._plan.warn_if_short(store.counts)

    # One step

    def _hand_out(self, streams: int) -> bool:
        """Gives waves to workers that have few; whether any wave is, or may come to be, in work."""
        is_left = True
        for has in range(2):
            for worker in self.places:
                if not worker.is_admitted or len(worker.calls) > has:
                    continue
                numbers = list(islice(self._fresh, self._at_once)) or (self._one_again() if not has else [])
                if not numbers:
                    is_left = False
                    break
                waves = [(number, self._plan.given(number, streams)) for number in numbers]
                worker.calls.append(_Call(worker.actor.write_all.remote(streams, waves), numbers))
        return is_left or any(call.numbers for worker in self.places for call in worker.calls)

    def _one_again(self) -> list[int]:
        """A wave whose worker ended, alone, so that one that ends workers is told from its neighbours.

        Nor is it to have another before it, whose answer may be lost along with the worker.
        """
        return [self._again.popleft()] if self._again else []

    def _step(self, seconds: float) -> None:
        """Waits for an answer, up to so many seconds, and takes in all that have come."""
        self._grow()
        answers = {call.answer: worker for worker in self.places for call in worker.calls}
        ready, _ = self._ray.wait(list(answers), num_returns=1, timeout=seconds)
        if ready and len(answers) > 1:
            ready, _ = self._ray.wait(list(answers), num_returns=len(answers), timeout=0)
        came = set(ready)
        for worker in {id(answers[answer]): answers[answer] for answer in ready}.values():
            while worker.calls and worker.calls[0].answer in came:
                try:
                    answer = self._get(worker.calls[0].answer)
                except DinoError as error:
                    if worker.calls[0].numbers:  # it would be the same in another worker
                        raise
                    self._unfit(worker, error)
                    break
                except self._ray.exceptions.RayError as error:
                    self._ended(worker, error)
                    break
                call = worker.calls.popleft()
                if call.numbers:
                    worker.deaths = 0
                    self._finished += pickle.loads(answer)
                elif not worker.sight:
                    self._seen(worker, answer)
                else:
                    worker.loaded = answer
                    self._admit(worker)

    def _grow(self) -> None:
        """Takes in machines that were added, and says now and then where no worker has room."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            if self._options.workers == "auto":
                self.hire(room(self._ray, self._options, self._gpus) - len(self.places))
        if any(worker.sight for worker in self.places):
            self._told = now
        elif now - self._told > 60:
            self._told = now
            self._tell_of_waiting()

    def _seen(self, worker: _Worker, sight: dict[str, str]) -> None:
        """Takes in what a worker says of itself, and has it load the model if all is right."""
        worker.sight = sight
        try:
            self._check_version(worker)
        except ConfigurationError as error:
            return self._unfit(worker, error)
        if sight["fault"]:
            return self._unfit(
                worker,
                OutputError(
                    f"{self._job.output}: {worker} cannot write there: {sight['fault']}. Put the directory on a file "
                    "system that all machines share, under the same path"
                ),
            )
        return worker.calls.append(_Call(worker.actor.load.remote(self._job)))

    def _admit(self, worker: _Worker) -> None:
        """Lets a loaded worker write, or does without it where what it wrote would not be the same."""
        if self._kind is not None and worker.loaded is not None:
            worker.is_admitted = self._is_alike(worker, _kind(*worker.loaded))

    def _unfit(self, worker: _Worker, error: DinoError) -> None:
        """Raises what is wrong with a worker, or, once others can write, does without it."""
        if self._kind is None:
            raise error
        self._give_up(worker, error)

    def _ended(self, worker: _Worker, error: Exception) -> None:
        """Gives the waves of a worker that ended to others, and puts another process in its place."""
        asked, numbers = worker.calls[0].numbers, [number for call in worker.calls for number in call.numbers]
        if len(asked) == 1:
            self._victims[asked[0]] += 1
            if self._victims[asked[0]] >= DEATHS:
                self._lost[numbers.pop(0)] = last_words(self._ray, worker.sight, error)
        self._again += numbers
        self._replace(worker, error, "; another writes its waves" if numbers else "")

    def _nobody_left(self, error: DinoError) -> None:
        """Raises that nobody is left to write."""
        raise ClusterError(
            f"no worker is left, since all ended, {DEATHS} one behind another in each place, or do not fit. What was "
            f"finished is on disk; mend what is wrong and run again. The last one: {error}"
        )


def _kind(identity: Mapping[str, str], installed: Mapping[str, str]) -> dict[str, str]:
    """What workers that write one data set must have in common."""
    return {**identity, **{name: installed[name] for name in ("torch", "transformers")}}
