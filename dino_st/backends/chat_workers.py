"""Requests that the workers of a Ray cluster answer: by a model on each of several GPUs, or by asking one server.

The run itself stays in this process, the driver: it alone keeps the journal of replies and writes waves, so that what
is on disk does not tell who answered, and a run goes on with workers or without. What goes to a worker is one call of
`complete`, as it is; a model on a GPU would get the same requests together from one process. Workers that ask a server
hand replies over as they come, and keep one pace: that of an actor beside them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from logging.handlers import QueueHandler
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, NamedTuple

from dino_st.backends.chat import USAGE_FIELDS, ChatBackend, ChatReply, ChatRequest, usage_of
from dino_st.backends.choice import check_options, open_backend
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
)
from dino_st.backends.openai import OpenAIChat, Pace
from dino_st.backends.options import ChatOptions, ClusterOptions
from dino_st.data.shards import ShardDirectory
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ClusterError, ConfigurationError, DinoError
from dino_st.support.files import check_can_become_directory
from dino_st.support.hashes import versions
from dino_st.support.progress import logger

_TOGETHER_SECONDS = 0.05
"""Replies of a server that come within this time are handed over together."""

_WAIT_SECONDS = 60.0
"""How long nobody is ready before that is said, and said again."""


@dataclass(frozen=True)
class ChatJob:
    """What a worker must know before it answers."""

    model: str  # where it is found on every machine, or what a server knows it by
    name: str  # what manifests call it
    chat: ChatOptions
    options: Mapping[str, Any]
    threads: int


class Limits:
    """What all workers that ask one server have in common; an actor of its own, beside the driver."""

    def __init__(self, attempts_per_minute: float | None) -> None:
        self._pace = Pace(attempts_per_minute)
        self._error: DinoError | None = None

    def seconds_to_slot(self) -> float | DinoError:
        """See `Pace`; or what ended the run in one of the workers."""
        return self._error or self._pace.seconds_to_slot()

    def pause(self, seconds: float) -> None:
        """See `Pace`."""
        self._pace.pause(seconds)

    def stop(self, error: DinoError) -> None:
        """Lets no worker begin anything any more."""
        self._error = self._error or error


class SharedPace(Pace):
    """The pace that an actor keeps."""

    def __init__(self, limits: Any) -> None:
        super().__init__(None)
        self._limits = limits

    async def slot(self) -> float:
        """See `Pace`; raises what ended the run in another worker."""
        answer: float | DinoError = await self._limits.seconds_to_slot.remote()
        if isinstance(answer, DinoError):
            raise answer
        return answer

    def pause(self, seconds: float) -> None:
        """See `Pace`."""
        self._limits.pause.remote(seconds)

    def stop(self, error: DinoError) -> None:
        """See `Pace`."""
        import_module("ray").get(self._limits.stop.remote(error))


class _Odd(NamedTuple):
    """What is odd about a server; see `OpenAIChat`."""

    answered_as: list[str]
    is_cost_unknown: bool


class ChatWorker:
    """A process of a cluster that answers requests."""

    def look(self) -> dict[str, str]:
        """Who and where this is."""
        return own_sight()

    def open(self, job: ChatJob, limits: Any) -> tuple[dict[str, Any], bool, dict[str, str]]:
        """Loads the model, or gets ready to ask; its configuration, whether it chats, and what runs it."""
        self._came: SimpleQueue[ChatReply | logging.LogRecord] = SimpleQueue()
        heard = QueueHandler(self._came)
        heard.setLevel(logging.WARNING)
        logger.addHandler(heard)
        if is_local := job.chat.backend == "local":
            import_module("torch").set_num_threads(job.threads)
        backend = open_backend(job.model, job.chat.backend, base_url=job.chat.base_url, options=job.options)
        backend.name = job.name
        if isinstance(backend, OpenAIChat):
            backend.pace = SharedPace(limits)
        self._backend = backend
        return backend.configuration(), backend.is_chat, versions("torch", "transformers") if is_local else {}

    def answer(
        self, requests: Sequence[ChatRequest], decoding: DecodingOptions | None, way: str | None
    ) -> Iterator[list[ChatReply | str | _Odd]]:
        """Answers requests: replies, of a server as they come, and warnings between them."""
        backend = self._backend
        if not isinstance(backend, OpenAIChat):
            vars(backend)["decoding"] = decoding
            yield [*backend.complete(requests), *self._taken()]
            return
        backend.way = way
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(backend.complete, requests, self._came.put)
            while not asked.done():
                time.sleep(_TOGETHER_SECONDS)
                yield self._taken()
            yield [*self._taken(), _Odd(backend.answered_as, backend.is_cost_unknown)]
            asked.result()

    def _taken(self) -> list[Any]:
        came = (self._came.get() for _ in range(self._came.qsize()))
        return [one.getMessage() if isinstance(one, logging.LogRecord) else one for one in came]


class ChatCrew(Workforce[Place]):
    """The workers of one run as a `ChatBackend`, which several threads may ask: each call goes to a worker."""

    def __init__(self, ray: Any, job: ChatJob, options: ClusterOptions, front: OpenAIChat | None) -> None:
        gpus = 0.0 if front else gpus_of_worker(ray, options, str(job.options.get("device", "auto")))
        super().__init__(ray, options, gpus, ChatWorker, Place)
        self.name, self._front, self._job = job.name, front, job
        self._usage: Counter[str] = Counter(dict.fromkeys(USAGE_FIELDS, 0))
        self._said, self._stopped = set[str](), Event()
        self._known: dict[str, Any] = {}  # of the kind, what decides the answers
        self.is_chat = True
        self._errors: list[DinoError] = []  # why nobody is left
        self._entering: list[Thread] = []
        number = number_of_workers(ray, options, gpus)
        self._limits = None
        if front is not None:
            self._limits, self._job = self._shared_limits(front), replace(job, options=_share(front, number))
        self._free: SimpleQueue[Place | None] = SimpleQueue()  # None where nobody is left
        self.calls_at_once = 2 * number  # so that no worker waits for the driver
        self.hire(number)
        self._free.put(self._next())  # the first one says what the model is
        drawing = None if front else {"decay_constant": 0.0, **self._known["decoding"]}
        self.decoding = drawing and DecodingOptions(**drawing)  # whoever copies this backend may draw otherwise

    def _shared_limits(self, front: OpenAIChat) -> Any:
        """The actor that keeps the pace of all workers, on the driver's machine, with which it ends."""
        strategies = import_module("ray.util.scheduling_strategies")
        here = self._ray.get_runtime_context().get_node_id()
        beside = strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        made = self._ray.remote(num_cpus=0, scheduling_strategy=beside)(Limits)
        return made.remote(front.options.requests_per_minute)

    # As a backend

    def configuration(self) -> dict[str, Any]:
        """See `ChatBackend`; what the first worker says."""
        if self.decoding is None:
            return dict(self._known)
        return self._known | {"decoding": {name: getattr(self.decoding, name) for name in self._known["decoding"]}}

    @property
    def answered_as(self) -> list[str] | None:
        """See `OpenAIChat`."""
        return self._front.answered_as if self._front else None

    def find_scoring(self) -> str:
        """See `ScoringBackend`; the workers are told."""
        if self._front is None:
            raise ConfigurationError("a local model scores texts by `dino-st score`")
        with self._lock:
            return self._front.find_scoring()

    @property
    def usage(self) -> Counter[str]:
        """See `ChatBackend`."""
        return self._front.usage if self._front else Counter(self._usage)

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Has a worker answer requests, of which no two have one key, or another what that one leaves when it ends."""
        missing = {request.key: request for request in requests}
        way = self.find_scoring() if any(request.answer is not None for request in requests) else None
        replies: dict[str, ChatReply] = {}
        deaths = 0
        while missing:
            place = self._next()
            has_ended = False
            try:
                for part in place.actor.answer.remote(list(missing.values()), self.decoding, way):
                    for reply in self._take_in(self._get(part)):
                        replies[reply.key] = reply
                        del missing[reply.key]
                        if on_reply is not None:
                            on_reply(reply)
            except self._ray.exceptions.RayError as error:
                if self._stopped.is_set():
                    raise ClusterError("the workers were stopped") from None
                has_ended, deaths = True, deaths + 1
                said = last_words(self._ray, place.sight, error) if deaths >= DEATHS else ""
                self._replace(place, error, f"; another answers {len(missing)} of its requests")
                if deaths >= DEATHS:
                    raise ClusterError(
                        f"{deaths} workers ended on the same requests, such as {next(iter(missing))}: {said}\nWhat was "
                        "answered is kept; run again to go on, on workers with more memory perhaps"
                    ) from None
            else:
                place.deaths = 0
            finally:
                if not has_ended:
                    self._free.put(place)
        return [replies[request.key] for request in requests]

    def close(self) -> None:
        """Ends the workers, whatever they are at."""
        with self._lock:
            self._stopped.set()
            super().close()
            self._free.put(None)
        for thread in self._entering:
            thread.join(_WAIT_SECONDS)

    # The workers

    def _next(self) -> Place:
        """A worker that is ready, once there is one."""
        while True:
            try:
                place = self._free.get(timeout=_WAIT_SECONDS)
            except Empty:
                if self._kind is None:
                    self._tell_of_waiting()
                continue
            if place is not None:
                return place
            self._free.put(None)
            raise (self._errors or [ClusterError("the workers were stopped")])[0]

    def _begin(self, place: Place) -> None:
        """Lets a place be entered once its worker is ready."""
        self._entering.append(Thread(target=self._enter, args=(place,), daemon=True))
        self._entering[-1].start()

    def _enter(self, place: Place) -> None:
        """Waits until a worker is ready and lets it answer, or does without it where its answers might be others."""
        try:
            place.sight = self._get(place.actor.look.remote())
            self._check_version(place)
            configuration, is_chat, installed = self._get(place.actor.open.remote(self._job, self._limits))
        except DinoError as error:
            return self._give_up(place, error)
        except self._ray.exceptions.RayError as error:
            return None if self._stopped.is_set() else self._replace(place, error)
        with self._lock:
            kind = {**configuration, **installed}
            if self._kind is None:
                self._kind, self._known, self.is_chat = kind, configuration, is_chat
        if self._is_alike(place, kind):
            self._free.put(place)
        return None

    def _nobody_left(self, error: DinoError) -> None:
        """Has whoever waits for a worker raise the error."""
        self._errors.append(error)
        self._free.put(None)

    def _take_in(self, came: Sequence[ChatReply | str | _Odd]) -> list[ChatReply]:
        """Counts and tells what came of a worker; its replies."""
        front, replies = self._front, [one for one in came if isinstance(one, ChatReply)]
        with self._lock:
            for one in came:
                if isinstance(one, ChatReply):
                    (front.counted if front else self._usage).update(usage_of(one))
                elif isinstance(one, str) and one not in self._said:
                    self._said.add(one)
                    logger.warning("%s", one)
                elif isinstance(one, _Odd) and front:
                    front.answered_as += [name for name in one.answered_as if name not in front.answered_as]
                    front.is_cost_unknown |= one.is_cost_unknown
        return replies


def _share(front: OpenAIChat, number: int) -> dict[str, Any]:
    """The options of a worker, one of so many, that asks a server: its share of the requests in flight."""
    options = front.options.model_dump(exclude_unset=True)
    if front.options.concurrency < number:
        raise ConfigurationError(
            f"concurrency = {front.options.concurrency} along with {number} workers, each of which has a request in "
            "flight; take fewer workers"
        )
    return options | {"concurrency": front.options.concurrency // number}


@contextmanager
def chat_workers(
    model: object, chat: ChatOptions, options: Mapping[str, Any], cluster: ClusterOptions
) -> Iterator[ChatCrew]:
    """The workers of a Ray cluster as a backend; they end behind it.

    Raises ConfigurationError where the model or an option does not fit, or no cluster answers, MissingExtraError where
    Ray or a server's client is not installed, ClusterError where workers end again and again, and what loading raises.
    """
    check_fits(cluster, model, str(options.get("device", "auto")))
    check_options(chat.backend, base_url=chat.base_url, options=options)
    front = OpenAIChat(str(model), base_url=chat.base_url, **options) if chat.backend == "openai" else None
    if options.get("batch_api"):
        raise ConfigurationError("engine='ray' along with batch_api: the provider answers a batch; leave one out")
    ray = ray_package()
    where = found_everywhere(str(model)) if chat.backend == "local" else str(model)
    threads = max(1, int(cluster.cpus_per_worker))
    job = ChatJob(where, str(model), chat, dict(options), threads)
    with connected(ray, cluster):
        crew = ChatCrew(ray, job, cluster, front)
        try:
            yield crew
        finally:
            crew.close()


@contextmanager
def opened(
    model: str | Path | tuple[Any, Any] | ChatBackend,
    chat: ChatOptions,
    options: Mapping[str, Any],
    cluster: ClusterOptions,
    directory: ShardDirectory | None,
) -> Iterator[ChatBackend]:
    """A backend of this process (see `open_backend`), or the workers of a cluster as one, which end behind it.

    They are not started where another process writes into the directory.
    """
    if directory is not None:
        check_can_become_directory(directory.on_disk)  # the journal of replies needs one
    if cluster.engine == "local":
        yield open_backend(model, chat.backend, base_url=chat.base_url, options=options)
        return
    if directory is not None:
        with directory.locked():
            pass
    with chat_workers(model, chat, options, cluster) as writer:
        yield writer
