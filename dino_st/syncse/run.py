"""SynCSE (Zhang, Lan and He 2023, arXiv 2305.15077): triplets that a chat model writes, for contrastive training."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dino_st.backends.answers.faults import warn_of_passages
from dino_st.backends.chat import ChatBackend, in_order, is_batching
from dino_st.backends.chat_workers import opened
from dino_st.backends.choice import backend_provenance, from_all_tokens, is_local
from dino_st.backends.journal import Ask, journalled
from dino_st.backends.options import BackendName, ChatOptions, ClusterOptions, SynCSEOptions
from dino_st.data.cards import triplet_card
from dino_st.data.columns import ANCHOR, TRIPLET_COLUMNS
from dino_st.data.sentences import clean_sentences
from dino_st.data.shards import (
    RowsInMemory,
    ShardDirectory,
    Wave,
    WaveStore,
    collect_waves,
    write_rejected,
    write_waves,
)
from dino_st.errors import OutputError
from dino_st.models import warn_of_unknown_characters
from dino_st.support.files import REJECTED
from dino_st.support.hashes import hash_texts
from dino_st.support.progress import logger, progress
from dino_st.syncse.partial import Triplet, TripletWriter
from dino_st.syncse.scratch import SentenceWriter, WrittenSentence, load_sentences, save_sentences
from dino_st.tasks.syncse import PartialSpec, ScratchSpec, SynCSESpec, check_arguments, load_syncse_spec

if TYPE_CHECKING:
    from datasets import Dataset


WAVE = 256
"""Sentences whose triplets are stored together."""

SENTENCES = "sentences.jsonl"
"""The sentences from scratch, in a directory beside their triplets."""

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in (*TRIPLET_COLUMNS, "positive_instruction", "negative_instruction")),
        ("x1_index", pa.int64()),
        ("tries", pa.int64()),
    ]
)


@dataclass(frozen=True)
class TripletRun:
    """Everything that decides what is written."""

    backend: ChatBackend  # writes positives and negatives
    sentence_backend: ChatBackend  # writes sentences; the same model, for a local one drawing from all tokens
    spec: PartialSpec | ScratchSpec
    options: SynCSEOptions
    sentences: Sequence[str] | None  # distinct; None for a specification that has them written
    num: int | None  # sentences to write

    def in_memory(self, show_progress: bool) -> RowsInMemory:
        """Writes triplets without a directory: sentences that fail are not tried again by another run."""
        return collect_waves(partial(self._waves, show_progress), SCHEMA)

    def into(self, directory: ShardDirectory, show_progress: bool) -> ShardDirectory:
        """Writes triplets into a directory, or goes on there and tries again what was rejected; see `write_waves`."""
        return write_waves(
            directory,
            partial(self._waves, show_progress),
            configuration=self._configuration(),
            provenance=backend_provenance(self.backend),
            schema=SCHEMA,
            card=triplet_card,
            looks_again=True,
        )

    def _waves(self, show_progress: bool, store: WaveStore) -> Generator[Wave, None, None]:
        """The waves that are missing, and those in which a sentence without a triplet was tried again.

        Whether a sentence has a triplet is decided by the shards alone. `rejected.jsonl` tells how far the search for
        one had come, so that the next run goes on with other instructions.
        """
        with journalled(store.on_disk) as asking:
            sentences, happened_before = self._sentences(store, asking(self.sentence_backend), show_progress)
            rejected = {} if store.on_disk is None else _read_rejected(store.on_disk / REJECTED, sentences)
            spec, backend = self.spec.triplets if isinstance(self.spec, ScratchSpec) else self.spec, self.backend
            if not sentences:  # what happened is kept all the same
                nothing = Counter({**happened_before, "inputs": 0, "rows": 0, "given up": 0})
                if 0 not in store or store.counts_of(0) != nothing:
                    yield Wave(0, [], nothing)

            def writer(ask: Ask) -> TripletWriter:
                return TripletWriter(spec, ask, backend.is_chat, is_local(backend), self.options)

            coming = partial(_wanted, store, sentences, rejected)
            asking.ahead(backend, lambda ask: writer(ask).write([one for *_, wanted in coming() for one in wanted]))
            title, done = "writing triplets", store.counts["rows"]
            with progress(title, len(sentences), "sentences", done=done, shown=show_progress) as advance:
                ask = asking(backend)
                for (number, inputs, rows, wanted), written in in_order(
                    backend, lambda wave: writer(ask).write(wave[-1]), coming()
                ):
                    if wanted:
                        triplets, counts = written
                        if number in store:
                            counts.update(store.counts_of(number))
                        elif number == 0:
                            counts.update(happened_before)
                        rows |= {triplet.x1_index: triplet.as_row() for triplet in triplets if triplet.is_whole}
                        now = {"inputs": inputs, "rows": len(rows), "given up": inputs - len(rows)}
                        yield Wave(number, [rows[i] for i in sorted(rows)], {**counts, **now})
                        _note(triplets, rejected, store.on_disk)
                    advance(len(wanted))

    def _sentences(self, store: WaveStore, ask: Ask, show_progress: bool) -> tuple[Sequence[str], Counter[str]]:
        """The sentences, given or written, and what happened on the way; triplets for them fix those from scratch."""
        if self.sentences is not None:
            return self.sentences, Counter()
        stored = (
            load_sentences(store.on_disk / SENTENCES) if isinstance(store, ShardDirectory) and store.waves else None
        )
        if stored and 0 in store:
            self._warn_of_few(len(stored), store.counts_of(0))
            return [sentence.text for sentence in stored], Counter()
        written, counts = self._written(ask, show_progress)
        if stored and written != stored:  # the replies are gone, and other ones came
            return [sentence.text for sentence in stored], Counter()
        if store.on_disk is not None:
            save_sentences(store.on_disk / SENTENCES, written)
        return [sentence.text for sentence in written], counts

    def _written(self, ask: Ask, show_progress: bool) -> tuple[list[WrittenSentence], Counter[str]]:
        """Writes the sentences of a specification that has them written; a ModelError where requests failed."""
        num, spec = self.num or 0, self.spec
        if not isinstance(spec, ScratchSpec):
            raise TypeError(f"{spec.task_name} writes no sentences")
        backend = self.sentence_backend
        at_once = is_batching(backend)
        writer = SentenceWriter(spec, ask, backend.is_chat, is_local(backend), self.options, at_once)
        with progress("writing sentences", num, "sentences", shown=show_progress) as advance:
            written, counts = writer.write(num, advance)
        self._warn_of_few(len(written), counts)
        return written, counts

    def _warn_of_few(self, written: int, counts: Mapping[str, int]) -> None:
        """Tells why there are fewer sentences than were asked for, in this run or the one that wrote them."""
        num = self.num or 0
        if written < num:
            reasons = {name: count for name, count in counts.items() if name.startswith("left out sentences: ")}
            left_out = "".join(f", {count} left out: {name.partition(': ')[2]}" for name, count in reasons.items())
            advice = "ask for fewer, or give the specification more genres, topics and styles"
            requests, alike = counts.get("sentence requests", 0), counts.get("duplicate sentences", 0)
            if sum(reasons.values()) > alike:
                advice = "see the reasons, and choose another model or raise --max-new-tokens where answers are cut off"
            logger.warning(
                "%d of %d sentences came out of %d requests (%d were like others%s); %s",
                *(written, num, requests, alike, left_out, advice),
            )

    def _configuration(self) -> dict[str, Any]:
        """Everything that decides the triplets; not where a server stands, nor how many tries a run makes."""
        known = known_configuration(self.spec, self.options, self.sentences, self.num)
        writer, sentence_writer = self.backend.configuration(), self.sentence_backend.configuration()
        different = self.sentences is None and writer != sentence_writer
        return {
            "task": known.pop("task"),
            "inputs": known.pop("inputs"),
            "backend": {name: value for name, value in writer.items() if name != "base_url"},
            **({"sentence_decoding": sentence_writer.get("decoding")} if different else {}),
            **known,
        }


def known_configuration(
    spec: SynCSESpec, options: SynCSEOptions, sentences: Sequence[str] | None, num: int | None
) -> dict[str, Any]:
    """What decides a run, in the form of manifests, as far as it is known before the model is there."""
    inputs: dict[str, Any] = {"num": num}
    if sentences is not None:
        inputs = {"sentences": len(sentences), "sha256": hash_texts(sentences)}
    decided = options.model_dump(exclude={"max_tries"})
    return {"task": spec.model_dump(mode="json"), "inputs": inputs, **decided, "wave": WAVE}


def _wanted(
    store: WaveStore, sentences: Sequence[str], rejected: Mapping[int, Triplet]
) -> Iterator[tuple[int, int, dict[int, dict[str, Any]], list[Triplet]]]:
    """Of each wave its number, how many sentences it has, its rows by place, and the triplets that are missing."""
    for number in range(-(-len(sentences) // WAVE)):
        anchors = dict(enumerate(sentences[number * WAVE : (number + 1) * WAVE], number * WAVE))
        rows = _stored_rows(store, number, anchors)
        missing = [rejected.get(i, Triplet(i, text)) for i, text in anchors.items() if i not in rows]
        yield number, len(anchors), rows, missing


def _stored_rows(store: WaveStore, number: int, anchors: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    """The rows of a wave that is there already, by the place of their sentence, which must be one of these."""
    rows = {row["x1_index"]: row for row in store.rows_of(number)} if number in store else {}
    if any(anchors.get(place) != row[ANCHOR] for place, row in rows.items()):
        raise OutputError(
            f"{store.on_disk}: shard {number} belongs to other sentences than those of this run; put back what was "
            "changed there, or choose another --output"
        )
    return rows


def _note(triplets: Sequence[Triplet], rejected: dict[int, Triplet], directory: Path | None) -> None:
    """Brings what is known of the sentences without a triplet up to date, and `rejected.jsonl`."""
    known = dict(rejected)
    for triplet in triplets:
        rejected.pop(triplet.x1_index, None)
        if not triplet.is_whole:
            rejected[triplet.x1_index] = triplet
    if directory is not None and (rejected != known or not rejected):
        write_rejected(directory, (rejected[i].as_rejected() for i in sorted(rejected)))


def _read_rejected(path: Path, sentences: Sequence[str]) -> dict[int, Triplet]:
    """Reads how far the search for the triplets of rejected sentences had come, by the place of the sentence."""
    if not path.is_file():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        known = {line["x1_index"]: Triplet.from_rejected(line) for line in lines}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(
            f"{path}: cannot be read ({error}); remove it, and its sentences are tried from the start"
        ) from None
    return {i: one for i, one in known.items() if i < len(sentences) and one.anchor == sentences[i]}


def generate_triplets(
    model: str | Path | tuple[Any, Any] | ChatBackend,
    sentences: Iterable[str] | None = None,
    *,
    num: int | None = None,
    task: str | Path | Mapping[str, Any] | SynCSESpec = "syncse-partial",
    backend: BackendName = "local",
    base_url: str | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    show_progress: bool = False,
    options: SynCSEOptions | None = None,
    **changes: Any,
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
        show_progress: Whether to show a progress bar (on a terminal) or log lines.
        options: How texts are asked for.
        **changes: Fields of `SynCSEOptions` (`seed`, `max_tries`, `max_new_tokens`), in place of `options` or of what
            it says; for a local model `device`, `dtype`, `prompt_format`, `batch_size`, `top_k`, `top_p`, …; for a
            server the fields of `ServerOptions` (`temperature`, `concurrency`, `requests_per_minute`, `timeout`,
            `batch_api`, …). Those of `ClusterOptions`: `engine="ray"` lets workers on all GPUs of this machine, or of a
            Ray cluster (`ray_address`), answer.

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
        PendingError: If batches are not waited for (`batch_wait=False`) and not answered yet; call again later.
    """
    spec = load_syncse_spec(task)
    chosen = SynCSEOptions.take_from(changes, options)
    chat = ChatOptions.of(backend=backend, base_url=base_url)
    return run_triplets(model, sentences, num, spec, chosen, chat, changes, output_dir, show_progress)[0].to_dataset()


def run_triplets(
    model: str | Path | tuple[Any, Any] | ChatBackend,
    sentences: Iterable[str] | None,
    num: int | None,
    spec: SynCSESpec,
    options: SynCSEOptions,
    chat: ChatOptions,
    of_model: Mapping[str, Any],
    output_dir: str | os.PathLike[str] | None,
    show_progress: bool,
) -> tuple[WaveStore, Counter[str]]:
    """Does the work of `generate_triplets`; returns where the triplets are, and the `usage` of the model."""
    check_arguments(spec, has_sentences=sentences is not None, num=num)
    texts = None if sentences is None else clean_sentences(sentences).texts
    warn_of_unknown_characters(str(model) if chat.backend == "local" else "", texts or ())
    if isinstance(spec, PartialSpec):
        warn_of_passages([spec.wording], texts or ())
    of_backend = {**of_model, "seed": options.seed}
    cluster = ClusterOptions.take_from(of_backend)
    directory = None if output_dir is None else ShardDirectory.of(output_dir)
    with opened(model, chat, of_backend, cluster, directory) as writer:
        scratch_writer = from_all_tokens(writer) if writer is not model and "top_k" not in of_model else writer
        run = TripletRun(writer, scratch_writer, spec, options, texts, num)
        store = run.in_memory(show_progress) if directory is None else run.into(directory, show_progress)
        return store, writer.usage
