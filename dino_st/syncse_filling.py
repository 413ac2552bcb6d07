"""Triplets in a directory, wave by wave; what was rejected is tried again, and put in its place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dino_st.columns import ANCHOR, TRIPLET_COLUMNS
from dino_st.errors import OutputError
from dino_st.files import write_text
from dino_st.progress import progress
from dino_st.store import ShardStore, Wave
from dino_st.syncse_partial import Triplet, TripletWriter

WAVE = 256
"""Sentences whose triplets are stored together."""

REJECTED = "rejected.jsonl"
"""The sentences of a directory that have no triplet, with reasons; there is no such file where every one has."""

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in (*TRIPLET_COLUMNS, "positive_instruction", "negative_instruction")),
        ("x1_index", pa.int64()),
        ("tries", pa.int64()),
    ]
)


class TripletFilling:
    """The shards of a directory, and the sentences that have no row in them.

    Whether a sentence has a triplet is decided by the shards alone. `rejected.jsonl` tells how far the search for one
    had come, so that the next run goes on with other instructions.
    """

    def __init__(self, store: ShardStore, writer: TripletWriter) -> None:
        self._store = store
        self._writer = writer
        self._path = store.directory / REJECTED
        self._rejected = _read_rejected(self._path)

    @property
    def rejected(self) -> list[Triplet]:
        """What is known of the sentences without a triplet, in order."""
        return [self._rejected[place] for place in sorted(self._rejected)]

    def fill(self, sentences: Sequence[str], happened_before: Counter[str], show_progress: bool) -> bool:
        """Writes the waves that are missing, and tries again what is missing in the others.

        Args:
            sentences: The anchors, distinct.
            happened_before: Counts to be kept along with those of the first wave.
            show_progress: Whether to show a bar or log lines.

        Returns:
            Whether anything was written.

        Raises:
            OutputError: If the shards belong to other sentences, or cannot be written.
        """
        self._rejected = {
            place: triplet
            for place, triplet in self._rejected.items()
            if place < len(sentences) and triplet.anchor == sentences[place]
        }
        has_written = False
        with progress("writing triplets", len(sentences), "sentences", shown=show_progress) as advance:
            for number in range(-(-len(sentences) // WAVE)):
                start = number * WAVE
                anchors = dict(enumerate(sentences[start : start + WAVE], start))
                extra = happened_before if number == 0 else Counter[str]()
                has_written |= self._write_wave(number, anchors, extra)
                advance(len(anchors))
        return has_written

    def _write_wave(self, number: int, anchors: Mapping[int, str], happened_before: Counter[str]) -> bool:
        is_new = number >= self._store.waves
        rows: dict[int, dict[str, Any]] = (
            {} if is_new else {row["x1_index"]: row for row in self._store.rows_of(number)}
        )
        if any(anchors.get(place) != row[ANCHOR] for place, row in rows.items()):
            raise OutputError(
                f"{self._store.directory}: shard {number} belongs to other sentences than those of this run; put back "
                "what was changed there, or choose another --output"
            )
        wanted = [
            self._rejected.get(place, Triplet(place, text)) for place, text in anchors.items() if place not in rows
        ]
        if not wanted:
            return False
        triplets, counts = self._writer.write(wanted)
        counts.update(happened_before if is_new else self._store.counts_of(number))
        rows |= {triplet.x1_index: triplet.as_row() for triplet in triplets if triplet.is_whole}
        counts["inputs"], counts["rows"], counts["given up"] = len(anchors), len(rows), len(anchors) - len(rows)
        wave = Wave(number, [rows[place] for place in sorted(rows)], counts)
        (self._store.append if is_new else self._store.replace)(wave)
        self._note(triplets)
        return True

    def _note(self, triplets: Sequence[Triplet]) -> None:
        """Brings `rejected.jsonl` up to date."""
        known = dict(self._rejected)
        for triplet in triplets:
            self._rejected.pop(triplet.x1_index, None)
            if not triplet.is_whole:
                self._rejected[triplet.x1_index] = triplet
        if not self._rejected:
            self._path.unlink(missing_ok=True)
        elif self._rejected != known:
            lines = (json.dumps(triplet.as_rejected(), ensure_ascii=False) + "\n" for triplet in self.rejected)
            write_text(self._path, "".join(lines))


def _read_rejected(path: Path) -> dict[int, Triplet]:
    if not path.is_file():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return {line["x1_index"]: Triplet.from_rejected(line) for line in lines}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(
            f"{path}: cannot be read ({error}); remove it, and its sentences are tried from the start"
        ) from None
