"""One run that writes triplets, in memory or into a directory."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dino_st.backends.chat import ChatBackend
from dino_st.backends.reply_journal import ReplyJournal
from dino_st.chat_choice import is_local
from dino_st.chat_options import SynCSEOptions
from dino_st.dataset_card import triplet_card
from dino_st.errors import ModelError
from dino_st.manifest import hash_texts
from dino_st.progress import logger, progress
from dino_st.store import ShardStore, open_store
from dino_st.syncse_filling import SCHEMA, WAVE, TripletFilling
from dino_st.syncse_partial import Triplet, TripletWriter
from dino_st.syncse_scratch import (
    SentenceWriter,
    WrittenSentence,
    load_sentences,
    save_sentences,
)
from dino_st.syncse_spec import PartialSpec, ScratchSpec

if TYPE_CHECKING:
    from datasets import Dataset

JOURNAL, SENTENCES = "replies.sqlite", "sentences.jsonl"
"""What lies in a directory beside the shards: replies, and sentences from scratch."""


@dataclass(frozen=True)
class TripletOutcome:
    """What a run left behind.

    Attributes:
        dataset: All triplets, in the order of the sentences.
        counts: Of all runs: sentences, rows, tries, rejections by reason.
        rejected: The sentences without a triplet, with reasons; in order.
        new_rows: Rows that this run wrote.
        usage: What this run asked of the model, as in `ChatBackend.usage`.
    """

    dataset: Dataset
    counts: Counter[str]
    rejected: Sequence[Triplet]
    new_rows: int
    usage: Counter[str]


@dataclass(frozen=True)
class TripletRun:
    """Everything that decides what is written.

    Attributes:
        backend: Who writes positives and negatives.
        sentence_backend: Who writes sentences; the same model, for a local one drawing from all tokens.
        spec: The specification.
        options: Seed, tries, tokens.
        sentences: Distinct sentences; None for a specification that has them written.
        num: Sentences to write.
    """

    backend: ChatBackend
    sentence_backend: ChatBackend
    spec: PartialSpec | ScratchSpec
    options: SynCSEOptions
    sentences: Sequence[str] | None
    num: int | None

    def in_memory(self, show_progress: bool) -> TripletOutcome:
        """Writes triplets without a directory: sentences that fail are not tried again by another run."""
        from datasets import Dataset

        sentences, counts = self._sentences(None, show_progress)
        writer, rows = self._writer(None), list[dict[str, Any]]()
        rejected: list[Triplet] = []
        with progress("writing triplets", len(sentences), "sentences", shown=show_progress) as advance:
            for start in range(0, len(sentences), WAVE):
                chunk = sentences[start : start + WAVE]
                triplets, happened = writer.write([Triplet(start + i, text) for i, text in enumerate(chunk)])
                counts.update(happened)
                rows += [triplet.as_row() for triplet in triplets if triplet.is_whole]
                rejected += [triplet for triplet in triplets if not triplet.is_whole]
                advance(len(chunk))
        counts.update({"inputs": len(sentences), "rows": len(rows), "given up": len(rejected)})
        return TripletOutcome(
            Dataset(pa.Table.from_pylist(rows, SCHEMA)), counts, rejected, len(rows), self.backend.usage
        )

    def into(self, directory: Path, show_progress: bool) -> TripletOutcome:
        """Writes triplets into a directory, wave by wave; or goes on there, and tries again what was rejected.

        Raises:
            OutputError: If the directory holds something else, was begun differently, is in use or cannot be written.
            ModelError: If requests for sentences failed, so that there are too few of them.
        """
        configuration, provenance = self._configuration(), backend_provenance(self.backend)
        with (
            open_store(directory, configuration=configuration, provenance=provenance, schema=SCHEMA) as store,
            ReplyJournal(directory / JOURNAL) as journal,
        ):
            before = store.counts["rows"]
            if not store.waves:
                store.write_card(self._card(store, configuration, provenance))
            sentences, counts = self._stored_sentences(store, journal, show_progress)
            filling = TripletFilling(store, self._writer(journal))
            has_written = filling.fill(sentences, counts, show_progress)
            if has_written or not store.is_complete:
                store.finish(self._card(store, configuration, provenance))
            else:
                logger.info("%s is complete already; nothing to do", directory)
            return TripletOutcome(
                store.to_dataset(), store.counts, filling.rejected, store.counts["rows"] - before, self.backend.usage
            )

    def _stored_sentences(
        self, store: ShardStore, journal: ReplyJournal, show_progress: bool
    ) -> tuple[Sequence[str], Counter[str]]:
        """The sentences, given or written; those from scratch are fixed as soon as there are triplets for them."""
        path = store.directory / SENTENCES
        if self.sentences is None and store.waves:
            return [sentence.text for sentence in load_sentences(path)], Counter()
        sentences, counts = self._sentences(journal, show_progress, path)
        return sentences, counts

    def _sentences(
        self, journal: ReplyJournal | None, show_progress: bool, path: Path | None = None
    ) -> tuple[Sequence[str], Counter[str]]:
        """The sentences given, or written now; and what happened on the way."""
        if self.sentences is not None:
            return self.sentences, Counter()
        written, counts = self._written(journal, show_progress)
        if path is not None:
            save_sentences(path, written)
        return [sentence.text for sentence in written], counts

    def _written(self, journal: ReplyJournal | None, show_progress: bool) -> tuple[list[WrittenSentence], Counter[str]]:
        """Writes the sentences of a specification that has them written.

        Raises:
            ModelError: If there are too few because requests failed.
        """
        num, spec = self.num or 0, self.spec
        if not isinstance(spec, ScratchSpec):
            raise TypeError(f"{spec.task_name} writes no sentences")
        backend = self.sentence_backend
        ask = backend.complete if journal is None else lambda requests: journal.complete(backend, requests)
        writer = SentenceWriter(spec, ask, backend.is_chat, is_local(backend), self.options)
        with progress("writing sentences", num, "sentences", shown=show_progress) as advance:
            written, counts = writer.write(num, advance)
        failed = counts["failed sentence requests"]
        if len(written) < num and failed:
            raise ModelError(
                f"{len(written):,} of {num:,} sentences came out, since {failed:,} of {counts['sentence requests']:,} "
                "requests failed; run again to go on (what was answered is kept where there is an output directory)"
            )
        if len(written) < num:
            logger.warning(
                "%d of %d sentences came out of %d requests (%d were like others); ask for fewer, or give the "
                "specification more genres, topics and styles",
                *(len(written), num, counts["sentence requests"], counts["duplicate sentences"]),
            )
        return written, counts

    def _writer(self, journal: ReplyJournal | None) -> TripletWriter:
        backend = self.backend
        ask = backend.complete if journal is None else lambda requests: journal.complete(backend, requests)
        spec = self.spec.triplets if isinstance(self.spec, ScratchSpec) else self.spec
        return TripletWriter(spec, ask, backend.is_chat, is_local(backend), self.options)

    def _configuration(self) -> dict[str, Any]:
        """What decides the triplets; not where a server stands, nor how many tries a run makes."""
        inputs: dict[str, Any] = {"num": self.num}
        if self.sentences is not None:
            inputs = {"sentences": len(self.sentences), "sha256": hash_texts(self.sentences)}
        writer, sentence_writer = self.backend.configuration(), self.sentence_backend.configuration()
        different = self.sentences is None and writer != sentence_writer
        return {
            "task": self.spec.model_dump(mode="json"),
            "inputs": inputs,
            "backend": {name: value for name, value in writer.items() if name != "base_url"},
            **({"sentence_decoding": sentence_writer.get("decoding")} if different else {}),
            **self.options.model_dump(exclude={"max_tries"}),
            "wave": WAVE,
        }

    def _card(self, store: ShardStore, configuration: dict[str, Any], provenance: dict[str, Any]) -> str:
        described = {"configuration": configuration, "provenance": provenance, "counts": store.counts}
        return triplet_card(store.directory.name, from_scratch=self.sentences is None, **described)


def backend_provenance(backend: ChatBackend) -> dict[str, Any]:
    """Model, versions and address, for manifests: what is worth knowing but decides nothing."""
    packages = ("dino-st", "datasets", *(("torch", "transformers") if is_local(backend) else ("openai",)))
    versions = {"python": platform.python_version()} | {name: _version(name) for name in packages}
    address = backend.configuration().get("base_url")
    return {"model": backend.name, "versions": versions} | ({"base_url": address} if address else {})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
