"""The variables of the environment that name directories with data in SentEval layout; nothing is imported here."""

from __future__ import annotations

STS_DIR_VARIABLE = "DINO_ST_STS_DIR"
SENTEVAL_DIR_VARIABLE = "DINO_ST_SENTEVAL_DIR"
