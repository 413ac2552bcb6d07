"""A generation run: waves of pairs for given sentences, or of texts from scratch, in memory or into a directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pyarrow as pa

from dino_st.backends.local import LocalWriter, Request
from dino_st.data.cards import raw_card
from dino_st.data.columns import INSTRUCTION, LABEL, LOG_PROBS, PROVENANCE_COLUMNS, SCORE, SENTENCE1, SENTENCE2, TEXT
from dino_st.data.shards import ShardStore, Wave, begun_batch_size, open_store
from dino_st.decoding.engine import DecodingEngine, Drawn
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError
from dino_st.generation.options import GenerationOptions
from dino_st.support.hashes import hash_texts
from dino_st.support.progress import logger, progress
from dino_st.support.versions import versions
from dino_st.tasks.spec import TaskSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


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


_PROMPT_SAMPLE = 1000
"""Inputs looked at to guess how long prompts are."""


@dataclass(frozen=True)
class GenerationRun:
    """Everything that decides what is written.

    Attributes:
        writer: The language model.
        spec: The task.
        decoding: Sampling and debiasing.
        options: Samples, seed, batch size.
        sentences: Distinct x1; None for a task without inputs.
        num: Texts to write, for a task without inputs.
    """

    writer: LocalWriter
    spec: TaskSpec
    decoding: DecodingOptions
    options: GenerationOptions
    sentences: Sequence[str] | None
    num: int | None

    def in_memory(self, show_progress: bool) -> tuple[Dataset, Counter[str]]:
        """Generates without writing anything.

        Returns:
            The rows, and the counts of what happened.
        """
        from datasets import Dataset

        generator = self._generator(self.options.batch_size)
        rows: list[Mapping[str, Any]] = []
        counts: Counter[str] = Counter()
        with self._progress(show_progress) as advance:
            for wave in self._waves(generator, first=self.options.waves[0]):
                rows += wave.rows
                _account(wave, counts, advance)
        self._warn_if_short(counts)
        return Dataset(pa.Table.from_pylist(rows, generator.schema())), counts

    def into(self, directory: Path, show_progress: bool) -> Counter[str]:
        """Generates into a directory, wave by wave, or continues there.

        Returns:
            The counts of all runs that wrote it.

        Raises:
            OutputError: If the directory holds something else, was begun differently, is in use or cannot be written.
        """
        generator = self._generator(begun_batch_size(directory, self.options.batch_size))
        configuration = self._configuration(generator)
        provenance = {
            "model": self.writer.name,
            "versions": versions("python", "dino-st", "torch", "transformers", "datasets", "numpy"),
        }
        with open_store(
            directory, configuration=configuration, provenance=provenance, schema=generator.schema()
        ) as store:
            if store.is_complete:
                logger.info("%s is complete already; nothing to do", directory)
                return store.counts

            def card() -> str:
                described = {"configuration": configuration, "provenance": provenance, "counts": store.counts}
                return raw_card(directory.name, self.spec, **described)

            if store.waves:
                logger.info("continuing %s: %d waves are finished", directory, store.waves)
            store.write_card(card())
            counts = self._fill(store, generator, show_progress)
            self._warn_if_short(counts)
            store.finish(card())
            return counts

    def _fill(self, store: ShardStore, generator: Generator, show_progress: bool) -> Counter[str]:
        counts = store.counts
        before = () if self.spec.needs_input else list(store.rows())
        start, step = self.options.waves
        with ExitStack() as stack:
            done = counts["inputs" if self.spec.needs_input else "rows"]
            advance = stack.enter_context(self._progress(show_progress, done))
            for wave in self._waves(generator, first=start + step * store.waves, before=before):
                store.append(wave)
                _account(wave, counts, advance)
        return counts

    def _generator(self, batch_size: int | str) -> Generator:
        inputs = (self.sentences or [])[:_PROMPT_SAMPLE]
        rows = self.writer.choose_rows(batch_size, self.spec, inputs, self.decoding.max_new_tokens)
        engine = self.writer.engine(self.decoding, seed=self.options.seed, rows=rows)
        return Generator(self.writer, self.spec, engine, rows, self.options.score_labels)

    def _waves(self, generator: Generator, *, first: int, before: Iterable[Mapping[str, Any]] = ()) -> Iterable[Wave]:
        step = self.options.waves[1]
        if self.sentences is not None:
            return generator.pair_waves(self.sentences, self.options.samples, first=first, step=step)
        if step > 1:
            raise ConfigurationError(
                f"task {self.spec.task_name!r} writes texts that must differ from one another, so it cannot be split "
                "into shards; leave out shard"
            )
        return generator.text_waves(self.num or 0, first=first, before=before)

    def _configuration(self, generator: Generator) -> dict[str, Any]:
        inputs: dict[str, Any] = {"num": self.num}
        if self.sentences is not None:
            digest = hash_texts(self.sentences)
            inputs = {"sentences": len(self.sentences), "sha256": digest, "samples": self.options.samples}
        extra = {"score_labels": True} if self.options.score_labels else {}
        return {
            "task": self.spec.model_dump(mode="json"),
            "inputs": inputs,
            "weights_sha256": self.writer.weights_hash(),
            "settings_sha256": self.writer.settings_hash(),
            "prompt_format": self.writer.prompt_format,
            "decoding": asdict(self.decoding),
            "seed": self.options.seed,
            "batch_size": generator.streams_in_wave,
            "shard": self.options.shard,
            "dtype": self.writer.dtype,
            "device": self.writer.device,
            **extra,
        }

    def _progress(self, shown: bool, done: int = 0) -> Any:
        total = (self.num or 0) if self.sentences is None else len(self.sentences) // self.options.waves[1]
        unit = "inputs" if self.spec.needs_input else "texts"
        return progress(f"generating {self.spec.task_name}", total, unit, done=done, shown=shown)

    def _warn_if_short(self, counts: Counter[str]) -> None:
        """Says so where less came out than was asked for."""
        reasons = ", ".join(f"{n} {why}" for why, n in sorted(counts.items()) if why.startswith(("rejected", "dup")))
        if self.num is not None and counts["rows"] < self.num:
            logger.warning(
                "%d of %d texts came out of ten draws for each (%s); ask for fewer, or change model or sampling",
                counts["rows"],
                self.num,
                reasons,
            )
        elif counts["draws"] and not counts["rows"]:
            logger.warning("not one draw gave a text (%s); try another model or instruction", reasons)


def _account(wave: Wave, counts: Counter[str], advance: Callable[[int], None]) -> None:
    counts.update(wave.counts)
    advance(wave.counts.get("inputs", len(wave.rows)))
