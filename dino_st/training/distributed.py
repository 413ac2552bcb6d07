"""Several processes that train one encoder, as `torchrun` starts them: which one this is, and how they share a batch.

Every process draws the batches of one process and trains on its own part of each: of 512 rows and four processes, rank
1 has rows 128 to 255, in their order. Losses that compare the rows of a batch gather the embeddings of all parts, with
their gradients. The gradient of what is gathered is summed over the processes, and DistributedDataParallel divides the
sum of the weights' gradients by their number: so, of a mean over equal parts, both give the gradient of one process,
and no further factor is needed. What differs is rounding, the dropout, which each process draws for its own rows, and
the last rows of an epoch where they cannot be shared: fewer than there are processes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from dino_st.errors import ConfigurationError, DinoWarning

logger = logging.getLogger(__name__)

LAUNCHER = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What `torchrun` and `accelerate launch` set for each process that they start."""

_SILENT_SECONDS = 10.0
"""How long processes may wait for one another without a word."""

_LOST = re.compile(r"gloo|NCCL|Connection (closed|reset) by peer|Broken pipe", re.IGNORECASE)


def count_processes() -> int:
    """How many processes a launcher such as `torchrun` has started to train together.

    Some of its variables alone are left over from something else: they are taken out of the environment of this
    process, in which torch would wait for others forever.
    """
    if all(os.environ.get(name) for name in LAUNCHER) and os.environ["WORLD_SIZE"].isdecimal():
        return int(os.environ["WORLD_SIZE"])
    left = {name: os.environ.pop(name) for name in LAUNCHER[:3] if name in os.environ}
    size = left.get("WORLD_SIZE") or "1"
    if not size.isdecimal():
        logger.warning("WORLD_SIZE is %r, expected a number of processes: one process runs", size)
    elif int(size) > 1:
        missing = [name for name in LAUNCHER if name not in (*left, *os.environ)]
        are = "is" if len(missing) == 1 else "are"
        logger.warning("WORLD_SIZE is set, but %s %s not: one process runs", " and ".join(missing), are)
    return 1


def is_first() -> bool:
    """Whether this process is the only one, or the one of several that writes and tells how it goes."""
    return count_processes() == 1 or os.environ["RANK"] == "0"


def hush_others() -> None:
    """Has the first process alone log and warn from now on; why a process ends is still for each to say."""
    if not is_first():
        logging.getLogger("dino_st").setLevel(logging.CRITICAL)
        warnings.simplefilter("ignore", DinoWarning)


@contextlib.contextmanager
def telling_of_waits(processes: int) -> Iterator[None]:
    """Has a process say for whom it waits, where the others are long in coming; torch waits for minutes in silence."""
    words = "this process (rank %s) waits for the others, %d in all, at %s:%s, since %s are set, as torchrun does; "
    words += "where nothing has started others, take these variables out of the environment"
    where = [os.environ.get(name) for name in ("RANK", "MASTER_ADDR", "MASTER_PORT")]
    facts = (where[0], processes, *where[1:], ", ".join(LAUNCHER))
    timer = threading.Timer(_SILENT_SECONDS, logger.critical, (words, *facts))  # which `hush_others` lets through
    timer.daemon = True
    if processes > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_shares(processes: int, sizes: Mapping[str, int]) -> None:
    """Refuses batches, by their options' names, that the processes cannot share equally."""
    for name, size in sizes.items():
        if size % processes:
            raise ConfigurationError(
                f"{name} is {size}, which {processes} processes cannot share; expected a multiple of {processes}"
            )


def check_devices(processes: int) -> None:
    """Refuses more processes on this machine than it has GPUs to train on."""
    import torch

    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE") or processes), max(torch.cuda.device_count(), 1)
    if processes > 1 and here > gpus:
        raise ConfigurationError(
            f"{here} processes were started on this machine, which has {gpus} GPU{'s' * (gpus > 1)} to train on; start "
            f"one for each (torchrun --nproc-per-node {gpus}), or train on the CPU with device='cpu'"
        )


def check_agreement(facts: Mapping[str, str]) -> None:
    """Refuses processes that were not given the same, in every one of them; each fact has a name for people."""
    from torch import distributed

    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, dict(facts))
    for name, value in everyone[0].items():
        rank = next((rank for rank, other in enumerate(everyone) if other[name] != value), None)
        if rank is not None:
            raise ConfigurationError(
                f"the processes that train together were not given the same {name}: rank 0 has {value}, rank {rank} "
                f"has {everyone[rank][name]}. Start all by one command, with files that all of them see"
            )


def lost_another(error: BaseException) -> bool:
    """Whether an error of torch says that another process has ended."""
    from torch import distributed

    together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return together and isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


class ShareOfBatches:
    """The part of one process in each batch of a batch sampler; parts are equal, and follow one another by rank.

    Of a batch that cannot be shared, at the end of an epoch, the last rows are left out: fewer than processes.
    """

    drop_last = False

    def __init__(self, whole: Any, processes: int, rank: int) -> None:
        self.whole, self.processes, self.rank = whole, processes, rank
        self.batch_size = whole.batch_size // processes

    @property
    def sampler(self) -> Any:
        """The order of rows, which accelerate replaces by one that it can seed."""
        return self.whole.sampler

    @sampler.setter
    def sampler(self, order: Any) -> None:
        self.whole.sampler = order

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on."""
        if hasattr(self.whole, "set_epoch"):
            self.whole.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.whole:
            size = len(batch) // self.processes
            if size:
                yield batch[self.rank * size : (self.rank + 1) * size]

    def __len__(self) -> int:
        parts = getattr(self.whole, "batch_samplers", [self.whole])
        too_small = sum(0 < len(part.sampler) % part.batch_size < self.processes for part in parts)
        return int(len(self.whole) - too_small)


def compare_all(loss: Any) -> Any:
    """Has a loss that compares the pairs of a batch with one another see those of all processes."""
    from sentence_transformers.util.distributed import all_gather, all_gather_with_grad, get_world_size

    if get_world_size() > 1:
        own_pairs = loss.compute_loss_from_embeddings
        loss.compute_loss_from_embeddings = lambda embeddings, labels: own_pairs(
            [all_gather_with_grad(column) for column in embeddings], all_gather(labels.contiguous())
        )
    return loss
