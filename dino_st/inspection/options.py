"""The options of `audit` and `report` and their defaults; light enough for `--help`."""

from __future__ import annotations

from dino_st.support.options import FrozenOptions, option

PICTURES = {
    "labels": "How many rows each label has; a label with few rows is learned badly.",
    "lengths": "How many words the texts of each label have; where that differs, length alone gives the label away.",
    "overlap": "Which share of their different words the two sentences have in common; it should fall with the label, "
    "and a heap at 1 is copies.",
    "posterior": "Which label the language model itself gives the pairs of each label; the diagonal should be darkest.",
    "rejections": "What each stage left out and for which reason; a long bar says where to look first.",
    "training": "How well the encoder orders the validation pairs while it learns; the curve should rise "
    "above the dashed line, which is the untrained encoder.",
}
"""What each picture of a report means, by the beginning of its file's name."""


class AuditOptions(FrozenOptions):
    """Which pairs people judge; the defaults are those of the DINO paper's Table 3 (arXiv 2104.07540)."""

    per_score: int = option(100, "pairs drawn for each assigned score", ge=1)
    seed: int = option(42, "seed of the sample and its order", ge=0)


TOKEN_VARIABLE = "DINO_ST_AUDIT_TOKEN"
"""The environment variable that holds the secret of the page, which a process list then does not show."""


class PageOptions(FrozenOptions):
    """Where the page of an audit listens."""

    host: str = option("127.0.0.1", "address of --web; one beyond this machine needs a --token", min_length=1)
    port: int = option(8765, "port of --web; 0 for any that is free", ge=0, le=65_535)
    token: str | None = option(None, f"secret that the keys in the links of --web are made of; or in {TOKEN_VARIABLE}")


class ReportOptions(FrozenOptions):
    """What a report looks at."""

    sample: int = option(50_000, "rows of each set that the statistics of texts are computed on, if it has more", ge=1)
    examples: int = option(5, "pairs shown for each label, of the surest and doubtful", ge=0, le=100)
    seed: int = option(42, "seed of the sample and the examples", ge=0)
    every: float = option(10.0, "seconds between two looks with --follow", ge=0.1, le=86_400)
