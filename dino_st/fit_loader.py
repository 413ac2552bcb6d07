"""The `DataLoader` handed to `SentenceTransformer.fit`, which warns of fit's default warm-up when it would bite."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from dino_st.errors import DinoWarning

if TYPE_CHECKING:
    from sentence_transformers import InputExample

FIT_DEFAULT_WARMUP_STEPS = 10_000
"""`warmup_steps` of `SentenceTransformer.fit` when it is not given."""


class FitDataLoader(DataLoader[Any]):
    """A loader of `InputExample` batches that is unused until `warmup_steps` was called for it, or warns.

    `fit` reads the loader once, as lists of examples, whatever the collate function; so this one collates to lists
    as well. `fit` warms up for 10,000 steps unless told otherwise. On a set with fewer steps than that the learning
    rate never gets near its peak, and hardly anything is learned, silently.

    Attributes:
        warmup_was_computed: Whether `dino_st.warmup_steps` was called for this loader.
    """

    warmup_was_computed: bool = False

    def __init__(self, examples: Sequence[InputExample], *, batch_size: int, shuffle: bool, seed: int) -> None:
        """Makes the loader.

        Args:
            examples: What to train on.
            batch_size: Examples in a batch; `fit` takes it over.
            shuffle: Whether the order is random.
            seed: Seed of the random order.
        """
        super().__init__(
            examples,  # type: ignore[arg-type]
            batch_size=batch_size,
            shuffle=shuffle,
            collate_fn=list,
            generator=torch.Generator().manual_seed(seed),
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if not self.warmup_was_computed and len(self) < FIT_DEFAULT_WARMUP_STEPS:
            warnings.warn(
                f"model.fit warms up for {FIT_DEFAULT_WARMUP_STEPS:,} steps unless told otherwise, and this loader has "
                f"{len(self):,}: the learning rate would stay near zero. Call model.fit(train_objectives="
                "[(loader, loss)], warmup_steps=warmup_steps(loader, epochs), epochs=epochs) with "
                "`from dino_st import warmup_steps`.",
                DinoWarning,
                stacklevel=3,
            )
        return super().__iter__()
