"""A Ray cluster as dino-st uses it: reaching or starting one, its room for workers, and those that a run has there."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from dino_st.backends.options import ClusterOptions
from dino_st.errors import ClusterError, ConfigurationError, DinoError, MissingExtraError, ModelError, first_line
from dino_st.models import bundled_directory
from dino_st.support.options import changes
from dino_st.support.progress import logger

DEATHS = 3
"""Ends of workers, one behind another, after which a place among them, or what they worked on, is given up."""

_OBJECT_STORE_BYTES = 200_000_000
_LOG_LINES = 8


def check_ray() -> None:
    """Raises MissingExtraError where Ray is not installed."""
    if find_spec("ray") is None:
        raise MissingExtraError("engine 'ray' needs Ray; run: pip install \"dino-st[ray]\"")


def ray_package() -> Any:
    """Ray, which is never to report how it is used; see `check_ray`."""
    check_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    return import_module("ray")


@contextmanager
def connected(ray: Any, options: ClusterOptions) -> Iterator[None]:
    """A cluster: the one at an address, one that this process has joined already, or one of this machine alone."""
    if ray.is_initialized():
        yield
        return
    address = options.ray_address
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if is_main else None
    try:
        if address is None:
            asked = 0 if options.workers == "auto" else math.ceil(int(options.workers) * options.cpus_per_worker)
            room = {"num_cpus": max(os.cpu_count() or 1, asked), "object_store_memory": _OBJECT_STORE_BYTES}
            ray.init(address="local", include_dashboard=False, **room, **quiet)
        else:
            _knock(address)
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises plain ones, too, as where a node does not start in time
        where = "on this machine" if address is None else f"at ray_address {address!r}"
        raise ConfigurationError(
            f"there is no Ray cluster {where} ({first_line(error)}); start one with `ray start --head` and on the "
            "other machines `ray start --address HOST:6379`, or leave out ray_address to use this machine alone"
        ) from error
    try:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)  # in place of Ray's
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError at once where nobody listens at HOST:PORT; Ray would try for long, and then end the process."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    elif address != "auto":
        raise ValueError("expected auto or HOST:PORT")


def check_fits(options: ClusterOptions, model: object, device: str) -> None:
    """Refuses (ConfigurationError) a model and options that workers have no use for, before anything is started."""
    if not isinstance(model, str | Path):
        raise ConfigurationError("engine='ray' loads the model in every worker; give its directory or name, not a pair")
    if ":" in device:
        raise ConfigurationError(
            f"device {device!r}: with engine='ray' every worker has GPUs of its own, and Ray shows it no others; give "
            "auto, cuda or cpu"
        )
    if str(options.ray_address or "").startswith("ray://"):
        raise ConfigurationError(
            f"ray_address {options.ray_address!r}: the driver writes the manifest, so it runs on a machine of the "
            "cluster; start the command there with ray_address='auto'"
        )


def gpus_of_worker(ray: Any, options: ClusterOptions, device: str) -> float:
    """GPUs of a worker: as asked for, or one where there is any and the device may be one."""
    if options.gpus_per_worker is not None:
        return options.gpus_per_worker
    return float(device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0)


def room(ray: Any, options: ClusterOptions, gpus: float) -> int:
    """How many workers the machines of the cluster have room for."""
    needs = {"CPU": options.cpus_per_worker, "GPU": gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(int(node.get(kind, 0) / need + 1e-6) for kind, need in needs.items() if need) for node in nodes)


def number_of_workers(ray: Any, options: ClusterOptions, gpus: float) -> int:
    """How many workers to start; a ConfigurationError where they do not fit."""
    possible = room(ray, options, gpus)
    wanted = possible if options.workers == "auto" else int(options.workers)
    if not wanted or (options.ray_address is None and wanted > possible):
        has = ray.cluster_resources()
        raise ConfigurationError(
            f"{max(wanted, 1)} workers of {options.cpus_per_worker:g} CPUs and {gpus:g} GPUs do not fit: "
            f"there are {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs; see workers, cpus_per_worker "
            "and gpus_per_worker"
        )
    return wanted


def found_everywhere(model: object) -> str:
    """Where workers find a model: a directory by its whole path, anything else by its name."""
    place = bundled_directory(model) if isinstance(model, str) else None
    exists = place is None and Path(str(model)).expanduser().exists()
    return str(Path(str(model)).expanduser().absolute()) if exists else str(model)


def own_sight() -> dict[str, str]:
    """Who and where a worker is, and its dino-st; nothing slow is imported."""
    streams = Path("/proc/self/fd/2")
    return {
        "host": socket.gethostname(),
        "node": import_module("ray").get_runtime_context().get_node_id(),
        "pid": str(os.getpid()),
        "log": str(streams.readlink()) if streams.is_symlink() else "",
        "dino-st": version("dino-st"),
    }


def last_words(ray: Any, sight: Mapping[str, str], error: Exception) -> str:
    """Why a worker ended, with the last lines of its log, or of what Python says."""
    if hasattr(error, "traceback_str"):
        return "\n".join(str(error.traceback_str).strip().splitlines()[-_LOG_LINES:])
    lines = ""
    if sight.get("host") == socket.gethostname():
        lines = last_lines(sight["log"])
    elif sight:
        strategies = import_module("ray.util.scheduling_strategies")
        there = strategies.NodeAffinitySchedulingStrategy(sight["node"], soft=False)
        read = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(last_lines)
        with suppress(ray.exceptions.RayError):
            lines = ray.get(read.remote(sight["log"]), timeout=30)
    why = " ".join(str(error).split())
    return f"{why[:600]}\nLast lines of {sight['log']} on {sight['host']}:\n{lines}" if lines else why[:600]


def last_lines(path: str) -> str:
    """The end of a log; empty where there is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LOG_LINES:])


@dataclass
class Place:
    """A place among the workers of a run, and the process that has it now."""

    actor: Any
    deaths: int = 0  # one behind another, with nothing finished between them
    sight: Mapping[str, str] = field(default_factory=dict)  # what the process said of itself

    def __str__(self) -> str:
        return f"worker {self.sight['pid']} on {self.sight['host']}" if self.sight else "a worker"


PlaceOfRun = TypeVar("PlaceOfRun", bound=Place)


class Workforce(Generic[PlaceOfRun]):
    """The workers of one run: started, compared, replaced where they end, and given up where that is of no use."""

    def __init__(self, ray: Any, options: ClusterOptions, gpus: float, worker: type, place: type[PlaceOfRun]) -> None:
        self._ray, self._options, self._gpus, self._worker, self._place = ray, options, gpus, worker, place
        self._lock = threading.RLock()
        self._kind: dict[str, Any] | None = None  # what all workers have in common, once one is ready
        self.places: list[PlaceOfRun] = []

    def _begin(self, place: PlaceOfRun) -> None:
        """Asks a new process for what it says of itself, and to get ready."""
        raise NotImplementedError

    def _nobody_left(self, error: DinoError) -> None:
        """Ends the run, the last of whose places was given up because of an error."""
        raise NotImplementedError

    def hire(self, number: int) -> None:
        """Adds places."""
        hired = [self._place(self._process()) for _ in range(number)]
        self.places += hired
        for place in hired:
            self._begin(place)

    def _process(self) -> Any:
        """Asks Ray for a process; it starts when there is room."""
        needs = {"num_cpus": self._options.cpus_per_worker, "num_gpus": self._gpus, "scheduling_strategy": "SPREAD"}
        return self._ray.remote(**needs, max_restarts=0, max_task_retries=0)(self._worker).remote()

    def _end(self, place: PlaceOfRun) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(place.actor)

    def close(self) -> None:
        """Ends the workers, whatever they are at."""
        for place in self.places:
            self._end(place)

    def _get(self, answer: Any) -> Any:
        """What a worker answers; raises as it is what dino-st raised there on purpose, and Ray's error of any other."""
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            if isinstance(cause := getattr(error, "cause", None), DinoError):
                raise cause from None
            raise

    def _check_version(self, place: PlaceOfRun) -> None:
        """Raises a ConfigurationError where a worker that has been seen has another dino-st than the driver."""
        own = version("dino-st")
        if place.sight["dino-st"] != own:
            raise ConfigurationError(
                f"{place} has dino-st {place.sight['dino-st']}, and the driver has {own}; install the same everywhere"
            )

    def _is_alike(self, place: PlaceOfRun, kind: Mapping[str, Any]) -> bool:
        """Whether a worker would do the same as the others; a place whose worker would not is given up."""
        found = changes(self._kind or {}, kind)
        if found:
            self._give_up(place, ModelError(f"{place} is of another kind: {'; '.join(found)}"))
        return not found

    def _tell_of_waiting(self) -> None:
        logger.warning(
            "no worker is ready: %d wait for a machine of the cluster with %g CPUs and %g GPUs free, or for their "
            "model",
            *(len(self.places), self._options.cpus_per_worker, self._gpus),
        )

    def _replace(self, place: PlaceOfRun, error: Exception, then: str = "") -> None:
        """Puts another process in the place of one that ended; too many behind one another, and it is given up."""
        place.deaths += 1
        logger.warning("%s ended (%s)%s", place, first_line(error), then)
        if place.deaths >= DEATHS:
            ended = f"{DEATHS} workers ended one behind another; no more are started in their place"
            return self._give_up(place, ClusterError(f"{ended}: {last_words(self._ray, place.sight, error)}"))
        self._end(place)
        with self._lock:
            place.actor, place.sight = self._process(), {}
        return self._begin(place)

    def _give_up(self, place: PlaceOfRun, error: DinoError) -> None:
        """Does without a place; where none is left, that is the end."""
        self._end(place)
        with self._lock:
            self.places.remove(place)
            if self.places:
                logger.warning("the others go on without one worker: %s", error)
            else:
                self._nobody_left(error)
