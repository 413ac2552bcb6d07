"""The options of `audit` and `report` and their defaults; light enough for `--help`."""

from __future__ import annotations

from dino_st.support.options import FrozenOptions, option


class AuditOptions(FrozenOptions):
    """Which pairs people judge; the defaults are those of the DINO paper's Table 3 (arXiv 2104.07540)."""

    per_score: int = option(100, "pairs drawn for each assigned score", ge=1)
    seed: int = option(42, "seed of the sample and its order", ge=0)


class ReportOptions(FrozenOptions):
    """What a report looks at."""

    sample: int = option(50_000, "rows of each set that the statistics of texts are computed on, if it has more", ge=1)
    examples: int = option(5, "pairs shown for each label, of the surest and doubtful", ge=0, le=100)
    seed: int = option(42, "seed of the sample and the examples", ge=0)
