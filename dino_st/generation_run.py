"""One run of generation, in memory or into a directory."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dino_st.backends.local import LocalWriter
from dino_st.dataset_card import raw_card
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError
from dino_st.generation import Generator
from dino_st.generation_options import GenerationOptions
from dino_st.manifest import begun_batch_size, hash_texts
from dino_st.progress import logger, progress
from dino_st.store import ShardStore, Wave, open_store
from dino_st.task_spec import TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset

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
        provenance = {"model": self.writer.name, "versions": _versions()}
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


def _versions() -> dict[str, str]:
    packages = ("dino-st", "torch", "transformers", "datasets", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
