"""Waves of generated rows: pairs for given sentences, or texts from scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from dino_st.backends.local import LocalWriter, Request
from dino_st.columns import INSTRUCTION, LABEL, LOG_PROBS, PROVENANCE_COLUMNS, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.decoding.engine import DecodingEngine, Drawn
from dino_st.store import Wave
from dino_st.task_spec import TaskSpec

if TYPE_CHECKING:
    import pyarrow as pa

DRAWS_PER_TEXT = 10
"""Draws made for each text wanted from scratch before a label is given up as exhausted."""


@dataclass(frozen=True)
class Generator:
    """A writer, what it writes, and how.

    Attributes:
        writer: The language model.
        spec: The task.
        engine: The decoding engine, holding options and seed.
        streams_in_wave: Streams that a wave may take; a wave is decoded together and stored together.
        score_labels: Whether pairs are stored with their log-probabilities under every label.
    """

    writer: LocalWriter
    spec: TaskSpec
    engine: DecodingEngine
    streams_in_wave: int
    score_labels: bool = False

    def pair_waves(self, sentences: Sequence[str], samples: int, *, first: int = 0, step: int = 1) -> Iterator[Wave]:
        """Writes x2 for every sentence and label.

        Args:
            sentences: Distinct x1. Waves are cut from this list alone.
            samples: Draws for each (x1, label).
            first: The wave to start at.
            step: Write every so many waves.

        Yields:
            Waves in the order of the sentences; in each, rows by x1, label and sample.
        """
        size = max(1, self.streams_in_wave // (self.spec.streams_per_sample * samples))
        for number in range(first, -(-len(sentences) // size), step):
            start = number * size
            chunk = sentences[start : start + size]
            requests = [
                Request(x1, label, sample, self._phrasing(label, crc32(x1.encode()) + sample))
                for x1 in chunk
                for label in self.spec.labels
                for sample in range(samples)
            ]
            drawn = self.writer.write(self.spec, requests, self.engine, score_labels=self.score_labels)
            index = {x1: start + i for i, x1 in enumerate(chunk)}
            rows = [
                self._pair_row(request, outcome, index[request.x1 or ""])
                for request, outcome in zip(requests, drawn, strict=True)
                if outcome.text is not None
            ]
            yield Wave(number, rows, {"inputs": len(chunk), "rows": len(rows), **count_outcomes(drawn)})

    def _pair_row(self, request: Request, outcome: Drawn, x1_index: int) -> dict[str, Any]:
        label = {SCORE: float(request.label)} if self.spec.has_scores else {LABEL: request.label}
        provenance = (x1_index, request.sample, outcome.tries, len(outcome.tokens))
        texts = {SENTENCE1: request.x1, SENTENCE2: outcome.text}
        more = {INSTRUCTION: request.phrasing, LOG_PROBS: _rounded(outcome.log_probs)}
        return texts | label | dict(zip(PROVENANCE_COLUMNS, provenance, strict=True)) | more

    def _phrasing(self, label: str, number: int) -> int:
        """Spreads draws evenly over the phrasings of a label."""
        return number % len(self.spec.labels[label].instructions)

    def text_waves(self, num: int, *, first: int = 0, before: Iterable[Mapping[str, Any]] = ()) -> Iterator[Wave]:
        """Writes distinct texts from instructions alone, spread evenly over the labels.

        Candidates are looked at in one fixed order (sample number, then label), and a label's first distinct ones are
        taken, so the size of a wave does not change which texts come out.

        Args:
            num: Texts wanted.
            first: The wave to start at.
            before: The rows of the waves before it.

        Yields:
            Waves, until every label has its share or `DRAWS_PER_TEXT` draws were made for each of its texts.
        """
        labels = list(self.spec.labels)
        quota = {label: num // len(labels) + (i < num % len(labels)) for i, label in enumerate(labels)}
        missing, seen = Counter(quota), set()
        for row in before:
            missing[row[LABEL]] -= 1
            seen.add(row[TEXT])
        largest = max(quota.values())
        size = max(1, min(self.streams_in_wave // len(labels), largest + largest // 4))
        limit = largest * DRAWS_PER_TEXT
        for start in range(first * size, limit, size):
            wanted = [label for label in labels if missing[label] > 0]
            if not wanted:
                return
            samples = range(start, min(start + size, limit))
            requests = [
                Request(None, label, sample, self._phrasing(label, sample)) for sample in samples for label in wanted
            ]
            drawn = self.writer.write(self.spec, requests, self.engine)
            rows, counts = _distinct_texts(requests, drawn, missing, seen)
            yield Wave(start // size, rows, counts)

    def schema(self) -> pa.Schema:
        """Columns of the rows: texts, `score` or `label`, where each row comes from, and what else was asked for."""
        import pyarrow as pa

        label = (SCORE, pa.float64()) if self.spec.has_scores else (LABEL, pa.string())
        texts = (SENTENCE1, SENTENCE2) if self.spec.needs_input else (TEXT,)
        provenance = PROVENANCE_COLUMNS if self.spec.needs_input else PROVENANCE_COLUMNS[1:]
        columns = [*((name, pa.string()) for name in texts), label, *((name, pa.int64()) for name in provenance)]
        if self.spec.phrasings > 1:
            columns.append((INSTRUCTION, pa.int64()))
        if self.score_labels and self.spec.needs_input:
            columns.append((LOG_PROBS, pa.list_(pa.float64())))
        return pa.schema(columns)


def _rounded(log_probs: Sequence[float] | None) -> list[float] | None:
    """Log-probabilities without the digits that depend on the size of the batch."""
    return None if log_probs is None else [round(value, 4) for value in log_probs]


def count_outcomes(drawn: Iterable[Drawn]) -> dict[str, int]:
    """Counts draws, tries, draws given up, and rejected tries by reason (`rejected: …`)."""
    counts: Counter[str] = Counter()
    for outcome in drawn:
        counts["draws"] += 1
        counts["tries"] += outcome.tries
        counts["given up"] += outcome.text is None
        counts["tokens"] += len(outcome.tokens)
        counts.update({f"rejected: {reason}": number for reason, number in outcome.rejections.items()})
    return dict(counts)


def _distinct_texts(
    requests: Sequence[Request], drawn: Sequence[Drawn], missing: Counter[str], seen: set[str]
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Takes the texts that are new and still wanted; updates `missing` and `seen`."""
    rows: list[dict[str, Any]] = []
    looked_at, duplicates = [], 0
    for request, outcome in zip(requests, drawn, strict=True):
        if missing[request.label] <= 0:
            continue
        looked_at.append(outcome)
        if outcome.text is None:
            continue
        if outcome.text in seen:
            duplicates += 1
            continue
        seen.add(outcome.text)
        missing[request.label] -= 1
        provenance = (request.sample, outcome.tries, len(outcome.tokens))
        row = {TEXT: outcome.text, LABEL: request.label, INSTRUCTION: request.phrasing}
        rows.append(row | dict(zip(PROVENANCE_COLUMNS[1:], provenance, strict=True)))
    return rows, {"rows": len(rows), "duplicate texts": duplicates, **count_outcomes(looked_at)}
