"""What is written in waves of which each stands for itself: a plan, a model that writes for it, and who has that model.

A plan says what a wave is made from and where its rows go; a run is a plan with the model of one process. Whether that
is the process that has the directory, or one of many workers, is no matter of the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from dino_st.data.shards import ShardDirectory, StoredWaves, Wave, Waves

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Writers:
    """Who writes the waves of a plan: the model of this process, or those of workers."""

    model: str  # its name, for manifests
    identity: Mapping[str, Any]  # what of it decides the rows
    installed: Mapping[str, str]  # the versions of what runs it
    choose_streams: Callable[[int | str], int]  # how many streams a wave takes, from a batch size
    waves: Callable[[int], Waves | StoredWaves]  # the waves, for so many streams

    @classmethod
    def here(cls, run: WaveRun, model: str, waves: Callable[[int], Waves]) -> Writers:
        """The model of this process."""
        return cls(model, run.identity(), run.installed(), run.streams, waves)


class WaveRun(Protocol):
    """A plan, and the model of a process that writes its waves: for generation, scoring and judging alike."""

    def identity(self) -> dict[str, Any]:
        """What of the model decides the rows."""

    def installed(self) -> dict[str, str]:
        """The versions of what runs it."""

    def streams(self, batch_size: int | str) -> int:
        """How many streams are computed together."""

    def engine(self, streams: int) -> Any:
        """What computes so many together."""

    def wave(self, engine: Any, number: int, given: Any) -> Wave:
        """Writes a wave by such an engine, from what `WavePlan.given` says."""


class WavePlan(Protocol):
    """What is written in waves of which each stands for itself, whoever writes it."""

    @property
    def title(self) -> str:
        """What is done, for progress."""

    @property
    def device(self) -> str:
        """What the model runs on."""

    @property
    def undivided(self) -> str:
        """Why no other process can write a wave of this, if so."""

    def for_workers(self) -> Self:
        """This with a sample of its inputs, for workers, which get those of their waves."""

    def open(self, model: str, name: str) -> WaveRun:
        """Loads the model that is found at a place, and in manifests has a name."""

    def numbers(self, streams: int) -> range:
        """The waves that there are where so many streams are computed together."""

    def given(self, number: int, streams: int) -> Any:
        """What a wave is made from."""

    def schema(self) -> pa.Schema:
        """The columns of the rows."""

    def facts(self) -> dict[str, Any]:
        """What of the configuration says which rows become examples."""

    def warn_if_short(self, counts: Counter[str]) -> None:
        """Warns where less came out than was asked for."""

    def into(self, directory: ShardDirectory, writers: Writers) -> ShardDirectory:
        """Fills a directory with waves, or continues there."""
