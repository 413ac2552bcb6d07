"""The options of `audit` and `report` and their defaults; light enough for `--help`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dino_st.support.options import FrozenOptions


class AuditOptions(FrozenOptions):
    """Which pairs people judge; the defaults are those of the DINO paper's Table 3 (arXiv 2104.07540)."""

    per_score: Annotated[int, Field(ge=1, description="pairs drawn for each assigned score")] = 100
    seed: Annotated[int, Field(ge=0, description="seed of the sample and its order")] = 42


class ReportOptions(FrozenOptions):
    """What a report looks at."""

    sample: Annotated[
        int, Field(ge=1, description="rows of each set that the statistics of texts are computed on, if it has more")
    ] = 50_000
    examples: Annotated[
        int, Field(ge=0, le=100, description="pairs shown for each label, of the surest and doubtful")
    ] = 5
    seed: Annotated[int, Field(ge=0, description="seed of the sample and the examples")] = 42
