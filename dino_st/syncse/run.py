"""SynCSE (Zhang, Lan and He 2023, arXiv 2305.15077): triplets that a chat model writes, for contrastive training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dino_st.backends.chat import ChatBackend
from dino_st.backends.choice import is_local
from dino_st.backends.journal import ReplyJournal
from dino_st.backends.options import BackendName, SynCSEOptions
from dino_st.data.cards import triplet_card
from dino_st.data.columns import ANCHOR, TRIPLET_COLUMNS
from dino_st.data.sentences import clean_sentences
from dino_st.data.shards import ShardStore, Wave, open_store
from dino_st.errors import ConfigurationError, ModelError, OutputError
from dino_st.support.files import REJECTED, write_text
from dino_st.support.hashes import hash_texts
from dino_st.support.progress import logger, progress
from dino_st.support.versions import versions
from dino_st.syncse.partial import Triplet, TripletWriter
from dino_st.syncse.scratch import (
    SentenceWriter,
    WrittenSentence,
    load_sentences,
    save_sentences,
)
from dino_st.tasks.syncse import PartialSpec, ScratchSpec, SynCSESpec, load_syncse_spec

if TYPE_CHECKING:
    from datasets import Dataset

    from dino_st.backends.chat import ChatBackend


WAVE = 256
"""Sentences whose triplets are stored together."""

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
    packages = ("torch", "transformers") if is_local(backend) else ("openai",)
    address = backend.configuration().get("base_url")
    made_with = versions("python", "dino-st", "datasets", *packages)
    return {"model": backend.name, "versions": made_with} | ({"base_url": address} if address else {})


def generate_triplets(
    model: str | Path | tuple[Any, Any] | ChatBackend,
    sentences: Iterable[str] | None = None,
    *,
    num: int | None = None,
    task: str | Path | Mapping[str, Any] | SynCSESpec = "syncse-partial",
    backend: BackendName = "local",
    base_url: str | None = None,
    output_dir: str | Path | None = None,
    show_progress: bool = False,
    **options: Any,
) -> Dataset:
    """Has a model write a positive and a hard negative for each sentence, and the sentences, too, if need be.

    Example:
        >>> triplets = generate_triplets("dino-tiny", ["A man is playing a flute."])
        >>> triplets = generate_triplets(
        ...     "Qwen/Qwen2.5-7B-Instruct",
        ...     num=10_000,
        ...     task="syncse-scratch",
        ...     backend="openai",
        ...     base_url="http://localhost:8000/v1",
        ...     output_dir="triplets",
        ... )

    Args:
        model: Hub name, directory, `dino-tiny`, a pair (model, tokenizer), the name that a server knows a model by, or
            a `ChatBackend`.
        sentences: For `syncse-partial`; blank ones and duplicates are skipped.
        num: For `syncse-scratch`: how many sentences to write.
        task: `syncse-partial`, `syncse-scratch`, a YAML file of one's own, or a specification.
        backend: `local`, or `openai` for a chat server; its key comes from the environment, `OPENAI_API_KEY`.
        base_url: Address of the server.
        output_dir: Where to write shards, replies and rejected sentences. The same call goes on behind an interruption
            without asking anything twice, and tries rejected sentences again. Without it all stays in memory.
        show_progress: Whether to show a progress bar (on a terminal) or log a line a minute.
        **options: Fields of `SynCSEOptions` (`seed`, `max_tries`, `max_new_tokens`); for a local model `device`,
            `dtype`, `prompt_format`, `batch_size`, `top_k`, `top_p`, …; for a server the fields of `ServerOptions`
            (`temperature`, `concurrency`, `requests_per_minute`, `timeout`, …).

    Returns:
        `anchor`, `positive`, `negative`, then the ids of the instructions (`positive_instruction`,
        `negative_instruction`), `x1_index` (position of the anchor among the distinct sentences) and `tries` (replies
        looked at for both texts, 2 when the first ones were taken); in the order of the sentences, without those that
        never got a usable triplet.

    Raises:
        ConfigurationError: If options do not fit one another, or the server refuses the key.
        InputError: If no usable sentence is among the inputs.
        TaskSpecError: If there is no such task, or it is malformed.
        ModelError: If the model cannot be loaded, or the server does not answer.
        OutputError: If the output directory cannot be used.
    """
    outcome = run_triplets(
        model, sentences, num, load_syncse_spec(task), backend, base_url, output_dir, show_progress, options
    )
    return outcome.dataset


def run_triplets(
    model: str | Path | tuple[Any, Any] | ChatBackend,
    sentences: Iterable[str] | None,
    num: int | None,
    spec: SynCSESpec,
    backend: BackendName,
    base_url: str | None,
    output_dir: str | Path | None,
    show_progress: bool,
    options: Mapping[str, Any],
) -> TripletOutcome:
    """What `generate_triplets` does, with counts and rejected sentences."""
    from dino_st.backends.choice import from_all_tokens, open_backend

    check_arguments(spec, has_sentences=sentences is not None, num=num)
    if isinstance(sentences, str):
        raise ConfigurationError("sentences: expected a list of sentences, given one text; wrap it: [text]")
    chosen = SynCSEOptions.of(**{name: options[name] for name in options if name in SynCSEOptions.model_fields})
    texts = None if sentences is None else clean_sentences(sentences).texts
    more = {name: value for name, value in options.items() if name not in SynCSEOptions.model_fields}
    writer = open_backend(model, backend, base_url=base_url, options=more | {"seed": chosen.seed})
    scratch_writer = from_all_tokens(writer) if writer is not model and "top_k" not in options else writer
    run = TripletRun(writer, scratch_writer, spec, chosen, texts, num)
    return run.in_memory(show_progress) if output_dir is None else run.into(Path(output_dir), show_progress)


def check_arguments(spec: SynCSESpec, *, has_sentences: bool, num: int | None) -> None:
    """Checks that a specification gets what it needs.

    Raises:
        ConfigurationError: If sentences are missing, or the number of those to write; or either is too much.
    """
    if isinstance(spec, ScratchSpec):
        if has_sentences or num is None:
            raise ConfigurationError(
                f"task {spec.task_name!r} writes its sentences itself: say how many with --num N, and leave out --input"
            )
        if num < 1:
            raise ConfigurationError(f"num = {num}: expected at least 1")
    elif not has_sentences or num is not None:
        raise ConfigurationError(
            f"task {spec.task_name!r} writes for given sentences: give them with --input FILE, and leave out --num"
        )
