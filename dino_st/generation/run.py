"""Generation runs: waves of pairs or texts, in memory or into a directory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any
from zlib import crc32

from dino_st.backends.answers.comparison import repeats
from dino_st.backends.local import LocalWriter, Request
from dino_st.data.cards import raw_card
from dino_st.data.columns import INSTRUCTION, LABEL, LOG_PROBS, PROVENANCE_COLUMNS, TEXT, raw_pair, raw_schema
from dino_st.data.shards import (
    RowsInMemory,
    ShardDirectory,
    Wave,
    WaveStore,
    collect_waves,
    write_waves,
)
from dino_st.decoding.engine import DecodingEngine, Drawn
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError
from dino_st.generation.options import GenerationOptions
from dino_st.generation.rerank import widest
from dino_st.generation.waves import Writers
from dino_st.support.hashes import versions
from dino_st.support.progress import logger, progress
from dino_st.tasks.spec import TaskSpec

DRAWS_PER_TEXT = 10
"""Draws made for each text wanted from scratch before a label is given up as exhausted."""

_PROMPT_SAMPLE = 1000
"""Inputs looked at to guess how long prompts are."""


@dataclass(frozen=True)
class GenerationPlan:
    """Everything that decides what a local model writes, but the model."""

    spec: TaskSpec
    decoding: DecodingOptions
    options: GenerationOptions
    sentences: Sequence[str] | None  # distinct x1; None for a task without inputs
    num: int | None  # texts to write, for a task without inputs

    def into(self, directory: ShardDirectory, writers: Writers) -> ShardDirectory:
        """Fills a directory with waves, or continues there; see `write_waves`."""
        streams = writers.choose_streams(directory.begun_batch_size(self.options.batch_size))
        configuration = self._configuration(writers.identity, streams)
        if directory.makes_way_for(configuration):
            streams = configuration["batch_size"] = writers.choose_streams(self.options.batch_size)
        return write_waves(
            directory,
            writers.waves(streams),
            configuration=configuration,
            provenance={"model": writers.model, "versions": dict(writers.installed)},
            schema=self.schema(),
            card=partial(raw_card, self.spec),
        )

    def open(self, model: str, name: str) -> GenerationRun:
        """Loads the model that is found at a place, and in manifests has a name."""
        writer = LocalWriter(model, self.options)
        writer.name = name
        return GenerationRun(writer, self)

    @property
    def title(self) -> str:
        """What is done, for progress."""
        return f"generating {self.spec.task_name}"

    @property
    def device(self) -> str:
        """What the model runs on; see `ModelOptions`."""
        return self.options.device

    @property
    def undivided(self) -> str:
        """Why no other process can write a wave of this, if so."""
        if self.sentences is not None:
            return ""
        return (
            f"task {self.spec.task_name!r} writes texts that must differ from one another, each wave from all before it"
        )

    def facts(self) -> dict[str, Any]:
        """What of the configuration says which rows become examples."""
        return {"task": self.spec.model_dump(mode="json"), "seed": self.options.seed}

    def schema(self) -> Any:
        """The columns of the rows."""
        return raw_schema(self.spec, score_labels=self.stores_scores)

    @property
    def stores_scores(self) -> bool:
        """Whether rows tell how likely a text is under every label."""
        return self.options.score_labels or self.options.debias == "rerank"

    def numbers(self, streams: int) -> range:
        """The waves to write for the sentences; those of other shards are left out."""
        first, step = self.options.waves
        return range(first, -(-len(self.sentences or ()) // self.inputs_of_wave(streams)), step)

    def inputs_of_wave(self, streams: int) -> int:
        """How many sentences a wave takes."""
        return max(1, streams // (self.spec.streams_per_sample * self.options.samples))

    def given(self, number: int, streams: int) -> tuple[int, list[str]]:
        """The place of a wave's first sentence, and its sentences; it is cut from the sentences alone."""
        size = self.inputs_of_wave(streams)
        return number * size, list((self.sentences or ())[number * size : (number + 1) * size])

    def sample_of_inputs(self) -> Sequence[str]:
        """A few inputs, that show how long prompts are."""
        return (self.sentences or [])[:_PROMPT_SAMPLE]

    def for_workers(self) -> GenerationPlan:
        """This with a sample of its inputs."""
        return replace(self, sentences=tuple(self.sample_of_inputs()))

    def _configuration(self, identity: Mapping[str, str], streams: int) -> dict[str, Any]:
        known = self.options.known_configuration(self.spec, self.decoding, self.sentences, self.num)
        return {
            "task": known["task"],
            "inputs": known["inputs"],
            **identity,
            "decoding": known["decoding"],
            "seed": known["seed"],
            "batch_size": streams,
            "shard": known["shard"],
            **({"score_labels": True} if self.options.score_labels else {}),
            **self.options.reranking(),
        }

    def warn_if_short(self, counts: Counter[str]) -> None:
        """Warns where less came out than was asked for."""
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


@dataclass(frozen=True)
class GenerationRun:
    """A plan, and the model of this process that writes it."""

    writer: LocalWriter
    plan: GenerationPlan

    def in_memory(self, show_progress: bool) -> RowsInMemory:
        """Generates without writing anything."""
        streams = self.streams(self.plan.options.batch_size)
        return collect_waves(partial(self._waves, streams, show_progress), self.plan.schema())

    def into(self, path: str | os.PathLike[str], show_progress: bool) -> ShardDirectory:
        """Generates into a directory, wave by wave, or continues there; see `write_waves`."""
        here = Writers.here(self, self.writer.name, lambda streams: partial(self._waves, streams, show_progress))
        return self.plan.into(ShardDirectory.of(path), here)

    def identity(self) -> dict[str, str]:
        """What of the model decides the rows."""
        return self.writer.identity()

    def installed(self) -> dict[str, str]:
        """The versions that a manifest records."""
        return versions("python", "dino-st", "torch", "transformers", "datasets", "numpy")

    def streams(self, batch_size: int | str) -> int:
        """Streams that a wave takes."""
        plan = self.plan
        return self.writer.choose_rows(batch_size, plan.spec, plan.sample_of_inputs(), plan.decoding.max_new_tokens)

    def engine(self, streams: int) -> DecodingEngine:
        """What decodes waves of at most so many streams."""
        plan = self.plan
        return self.writer.engine(plan.decoding, seed=plan.options.seed, rows=streams, spec=plan.spec)

    def _waves(self, streams: int, show_progress: bool, store: WaveStore) -> Generator[Wave, None, None]:
        """The waves that a store lacks, each of which takes at most so many streams and is decoded together."""
        engine, plan = self.engine(streams), self.plan
        if plan.sentences is not None:
            total, unit, waves = len(plan.sentences) // plan.options.waves[1], "inputs", self._pair_waves
        else:
            total, unit, waves = plan.num or 0, "texts", self._text_waves
        done = store.counts["inputs" if plan.spec.needs_input else "rows"]
        with progress(plan.title, total, unit, done=done, shown=show_progress) as advance:
            for wave in waves(engine, streams, store):
                yield wave
                advance(wave.counts.get("inputs", len(wave.rows)))
        plan.warn_if_short(store.counts)

    def _pair_waves(self, engine: DecodingEngine, streams: int, store: WaveStore) -> Iterator[Wave]:
        """Writes x2 for every sentence and label."""
        for number in self.plan.numbers(streams):
            if number not in store:
                yield self.wave(engine, number, self.plan.given(number, streams))

    def wave(self, engine: DecodingEngine, number: int, given: tuple[int, Sequence[str]]) -> Wave:
        """Writes x2 for a wave's sentences, of which the first has a place among all; rows by x1, label, sample."""
        spec, options, (first, sentences) = self.plan.spec, self.plan.options, given
        requests = [
            Request(x1, label, sample, self._phrasing(label, crc32(x1.encode()) + sample))
            for x1 in sentences
            for label in spec.labels
            for sample in range(options.samples)
        ]
        drawn = self._kept(requests, engine) if options.debias == "rerank" else self._pairs(requests, engine)
        index = {x1: first + i for i, x1 in enumerate(sentences)}
        rows = [
            self._pair_row(request, outcome, index[request.x1 or ""])
            for request, outcome in zip(requests, drawn, strict=True)
            if outcome.text is not None
        ]
        return Wave(number, rows, {"inputs": len(sentences), "rows": len(rows), **count_outcomes(drawn)})

    def _pairs(self, requests: Sequence[Request], engine: DecodingEngine) -> list[Drawn]:
        return self._written(requests, engine, score_labels=self.plan.stores_scores)

    def _kept(self, requests: Sequence[Request], engine: DecodingEngine) -> list[Drawn]:
        """Several texts for every request, of which the one with the widest margin is kept; what happened to all."""
        samples = self.plan.options.samples
        counts = [self.plan.options.candidates_of(self.plan.spec, request.label) for request in requests]
        every = [
            replace(request, sample=request.sample + samples * number)
            for request, count in zip(requests, counts, strict=True)
            for number in range(count)
        ]
        outcomes = iter(self._pairs(every, engine))
        kept = []
        for request, count in zip(requests, counts, strict=True):
            group = list(islice(outcomes, count))
            scored = [one for one in group if one.text is not None and one.log_probs is not None]
            best = (
                scored[widest(self.plan.spec, request.label, [one.log_probs or () for one in scored])]
                if scored
                else None
            )
            rejections = sum((one.rejections for one in group), Counter[str]())
            kept.append(replace(best or group[0], tries=sum(one.tries for one in group), rejections=rejections))
        return kept

    def _written(self, requests: Sequence[Request], engine: DecodingEngine, **options: Any) -> list[Drawn]:
        """Writes a text for every request; one that repeats its instruction, or the examples there, is rejected."""
        drawn = self.writer.write(self.plan.spec, requests, engine, **options)
        for i, (request, outcome) in enumerate(zip(requests, drawn, strict=True)):
            instruction = self.plan.spec.labels[request.label].phrasing(request.phrasing)
            if outcome.text is not None and repeats(outcome.text, [instruction], request.x1 or ""):
                reasons = outcome.rejections + Counter({"echo of the prompt": 1})
                drawn[i] = replace(outcome, text=None, log_probs=None, rejections=reasons)
        return drawn

    def _pair_row(self, request: Request, outcome: Drawn, x1_index: int) -> dict[str, Any]:
        provenance = (x1_index, request.sample, outcome.tries, len(outcome.tokens))
        row = raw_pair(self.plan.spec, request.label, request.x1, outcome.text, provenance, request.phrasing)
        # Log-probabilities go without the digits that depend on the size of the batch.
        log_probs = None if outcome.log_probs is None else [round(value, 4) for value in outcome.log_probs]
        return row | {LOG_PROBS: log_probs}

    def _phrasing(self, label: str, number: int) -> int:
        """Spreads draws evenly over the phrasings of a label."""
        return number % len(self.plan.spec.labels[label].instructions)

    def _text_waves(self, engine: DecodingEngine, streams: int, store: WaveStore) -> Iterator[Wave]:
        """Writes distinct texts from instructions alone, spread evenly over the labels.

        Candidates are looked at in one fixed order (sample number, then label), and a label's first distinct ones are
        taken, so the size of a wave does not change which texts come out. A wave depends on the texts of those before
        it alone: one that is missing among others comes out as it was, and those behind it stay as they are.
        """
        if self.plan.options.waves[1] > 1:
            raise ConfigurationError(
                f"task {self.plan.spec.task_name!r} writes texts that must differ from one another, so it cannot be "
                "split into shards; leave out shard"
            )
        labels, num = list(self.plan.spec.labels), self.plan.num or 0
        quota = {label: num // len(labels) + (i < num % len(labels)) for i, label in enumerate(labels)}
        missing, seen = Counter(quota), set[str]()
        largest = max(quota.values())
        size = max(1, min(streams // len(labels), largest + largest // 4))
        limit = largest * DRAWS_PER_TEXT
        for number, start in enumerate(range(0, limit, size)):
            wanted = [label for label in labels if missing[label] > 0]
            if not wanted:
                return
            if number in store:
                for row in store.rows_of(number):
                    missing[row[LABEL]] -= 1
                    seen.add(row[TEXT])
                continue
            samples = range(start, min(start + size, limit))
            requests = [
                Request(None, label, sample, self._phrasing(label, sample)) for sample in samples for label in wanted
            ]
            drawn = self._written(requests, engine)
            rows, counts = _distinct_texts(requests, drawn, missing, seen)
            yield Wave(number, rows, counts)


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
