"""What goes wrong on real machines: kills, full disks, lack of memory, damaged files."""

from __future__ import annotations

from typing import Any

SENTENCES = [f"Sentence number {i} is about a cat." for i in range(60)]
SETTINGS: dict[str, Any] = {
    "max_new_tokens": 12,
    "max_tries": 2,
    "top_k": 60,
    "top_p": 0.98,
    "batch_size": 36,
    "dtype": "float64",
    "device": "cpu",
}
