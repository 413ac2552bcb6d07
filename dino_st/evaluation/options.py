"""The options of evaluation, each declared once."""

from __future__ import annotations

from typing import Literal

from dino_st.support.options import DeviceName, FrozenOptions, option

SourceProtocol = Literal["all", "mean", "wmean"]
"""Which number of a task with several sources is reported: of the pooled pairs, or a mean over the sources."""


class EvaluationOptions(FrozenOptions):
    """How encoders are scored."""

    batch_size: int = option(32, "sentences encoded at once", ge=1)
    device: DeviceName = option("auto", "auto, cpu, cuda or mps")
    protocol: SourceProtocol = option(
        "all",
        "which score of tasks with several sources: all (of the pooled pairs, as published), mean (of the sources) "
        "or wmean (weighted by their sizes)",
    )
    add_to_card: bool = option(False, "state the scores in the card (README.md) of each encoder directory")
