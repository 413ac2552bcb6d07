"""Pairs for DINO's tasks from a chat server, without self-debiasing: the text up to the closing quotation mark.

The published code goes this way with GPT-3 (arXiv 2104.07540, section 4): a server gives texts and no probabilities of
all tokens, so that λ is 0.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pyarrow as pa

from dino_st.backends.chat import ChatBackend, ChatReply, ChatRequest, text_up_to_closing_mark
from dino_st.backends.journal import ReplyJournal
from dino_st.data.cards import raw_card
from dino_st.data.columns import INSTRUCTION, LABEL, PROVENANCE_COLUMNS, SCORE, SENTENCE1, SENTENCE2
from dino_st.data.shards import ShardStore, Wave, open_store
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError
from dino_st.support.files import REJECTED, write_text
from dino_st.support.hashes import hash_texts
from dino_st.support.progress import progress
from dino_st.syncse.run import JOURNAL, backend_provenance
from dino_st.tasks.prompts import build_prompts
from dino_st.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset


WAVE = 64
"""Sentences whose pairs are stored together."""

SYSTEM = (
    "Go on with the user's text exactly where it stops. Answer with what is missing up to the closing quotation mark, "
    "with that mark, and with nothing else."
)


@dataclass(frozen=True)
class PairDraw:
    """One text to be written, and how far that has come; `failed` is the reason of a request that got no reply."""

    x1_index: int
    x1: str
    label: str
    sample: int
    phrasing: int
    text: str | None = None
    tries: int = 0
    num_tokens: int = 0
    rejection: str | None = None
    failed: str | None = None

    @property
    def request_key(self) -> str:
        """Names the next try."""
        name = hashlib.sha256(self.x1.encode()).hexdigest()[:24]
        return f"pair/{name}/{self.label}/{self.sample}/{self.tries}"


@dataclass(frozen=True)
class ChatPairRun:
    """Everything that decides what is written.

    Attributes:
        backend: Who writes.
        spec: A task that takes sentences.
        decoding: `max_new_tokens`, `max_tries` and `min_words` of it; λ must be 0.
        samples: Texts for each sentence and label.
        sentences: Distinct x1.
    """

    backend: ChatBackend
    spec: TaskSpec
    decoding: DecodingOptions
    samples: int
    sentences: Sequence[str]

    def into(self, directory: Path, show_progress: bool) -> tuple[Dataset, Counter[str], int]:
        """Writes pairs into a directory, wave by wave; or goes on there, and asks again what failed.

        Returns:
            All rows, counts, and the number of draws without a text, which `rejected.jsonl` lists.

        Raises:
            ConfigurationError: If the task takes no sentences, or λ is not 0.
            OutputError: If the directory holds something else, was begun differently, is in use or cannot be written.
        """
        check_debiasing(self.decoding.decay_constant)
        if not self.spec.needs_input:
            raise ConfigurationError(
                f"task {self.spec.task_name!r} writes texts from scratch, which a chat server is asked for with --task "
                "syncse-scratch; or choose --backend local"
            )
        configuration, provenance = self._configuration(), backend_provenance(self.backend)
        with (
            open_store(directory, configuration=configuration, provenance=provenance, schema=self._schema()) as store,
            ReplyJournal(directory / JOURNAL) as journal,
        ):
            described: dict[str, Any] = {"configuration": configuration, "provenance": provenance}
            if not store.waves:
                store.write_card(raw_card(directory.name, self.spec, counts=store.counts, **described))
            lost = self._fill(store, journal, show_progress)
            store.finish(raw_card(directory.name, self.spec, counts=store.counts, **described))
            return store.to_dataset(), store.counts, lost

    def _fill(self, store: ShardStore, journal: ReplyJournal, show_progress: bool) -> int:
        lost: list[PairDraw] = []
        with progress(
            f"generating {self.spec.task_name}", len(self.sentences), "inputs", shown=show_progress
        ) as advance:
            for number in range(-(-len(self.sentences) // WAVE)):
                start = number * WAVE
                chunk = self.sentences[start : start + WAVE]
                is_new = number >= store.waves
                # A wave is looked through again as a whole: what was answered before is in the journal.
                draws = self._written(start, chunk, lambda asked: journal.complete(self.backend, asked))
                lost += [draw for draw in draws if draw.text is None]
                counts = _counts(draws) | {"inputs": len(chunk)}
                if is_new:
                    store.append(Wave(number, self._rows(draws), counts))
                elif store.counts_of(number) != Counter(counts):
                    store.replace(Wave(number, self._rows(draws), counts))
                advance(len(chunk))
        path = store.directory / REJECTED
        if lost:
            write_text(path, "".join(json.dumps(_lost_line(draw), ensure_ascii=False) + "\n" for draw in lost))
        else:
            path.unlink(missing_ok=True)
        return len(lost)

    def _written(
        self, start: int, chunk: Sequence[str], ask: Callable[[Sequence[ChatRequest]], list[ChatReply]]
    ) -> list[PairDraw]:
        """The draws of a wave, each tried until there is a text, a request fails, or tries run out."""
        draws = [
            PairDraw(start + i, x1, label, sample, (crc32(x1.encode()) + sample) % len(spec.instructions))
            for i, x1 in enumerate(chunk)
            for label, spec in self.spec.labels.items()
            for sample in range(self.samples)
        ]
        for _ in range(self.decoding.max_tries):
            places = [i for i, draw in enumerate(draws) if draw.text is None and draw.failed is None]
            replies = ask([self._request(draws[i]) for i in places]) if places else []
            for i, reply in zip(places, replies, strict=True):
                draws[i] = self._judged(draws[i], reply)
        return draws

    def _request(self, draw: PairDraw) -> ChatRequest:
        prompt = build_prompts(self.spec, draw.label, draw.x1, phrasing=draw.phrasing).target
        return ChatRequest(draw.request_key, prompt, SYSTEM, max_new_tokens=self.decoding.max_new_tokens)

    def _judged(self, draw: PairDraw, reply: ChatReply) -> PairDraw:
        if reply.text is None:
            return replace(draw, failed=reply.failure or "no reason given")
        text, rejection = text_of(reply.text, finished=reply.finished)
        if text is not None and len(text.split()) < self.decoding.min_words:
            text, rejection = None, "too few words"
        tokens = draw.num_tokens if text is None else reply.completion_tokens
        seen = [draw.rejection, rejection] if rejection else [draw.rejection]
        reasons = "; ".join(reason for reason in seen if reason)
        return replace(draw, text=text, tries=draw.tries + 1, num_tokens=tokens, rejection=reasons or None)

    def _rows(self, draws: Sequence[PairDraw]) -> list[dict[str, Any]]:
        rows = []
        for draw in draws:
            label = {SCORE: float(draw.label)} if self.spec.has_scores else {LABEL: draw.label}
            provenance = {name: getattr(draw, name) for name in PROVENANCE_COLUMNS}
            row = {SENTENCE1: draw.x1, SENTENCE2: draw.text} | label | provenance | {INSTRUCTION: draw.phrasing}
            if draw.text is not None:
                rows.append(row)
        return rows

    def _schema(self) -> pa.Schema:
        """The columns that local generation writes."""
        label = (SCORE, pa.float64()) if self.spec.has_scores else (LABEL, pa.string())
        columns = [(SENTENCE1, pa.string()), (SENTENCE2, pa.string()), label]
        columns += [(name, pa.int64()) for name in PROVENANCE_COLUMNS]
        return pa.schema([*columns, *([(INSTRUCTION, pa.int64())] if self.spec.phrasings > 1 else [])])

    def _configuration(self) -> dict[str, Any]:
        names = ("max_new_tokens", "max_tries", "decay_constant", "min_words")
        digest = hash_texts(self.sentences)
        return {
            "task": self.spec.model_dump(mode="json"),
            "inputs": {"sentences": len(self.sentences), "sha256": digest, "samples": self.samples},
            "backend": {name: value for name, value in self.backend.configuration().items() if name != "base_url"},
            "decoding": {name: getattr(self.decoding, name) for name in names},
            "wave": WAVE,
        }


def check_debiasing(decay_constant: float) -> None:
    """Refuses to debias with a server.

    Raises:
        ConfigurationError: If λ is above 0.
    """
    if decay_constant > 0:
        raise ConfigurationError(
            f"decay_constant = {decay_constant:g}: self-debiasing compares the probabilities of every next token under "
            "several prompts, and a chat server gives texts alone; use --decay-constant 0 (plain sampling), or "
            "--backend local"
        )


def text_of(reply: str, *, finished: bool) -> tuple[str | None, str | None]:
    """The text of a reply, or why there is none: what stands before the closing mark.

    A chat model often ends its answer where the mark should stand; then all of the answer is the text.

    Example:
        >>> text_of('A flute is played." They mean the same.', finished=True)
        ('A flute is played.', None)
        >>> text_of("A flute is played.", finished=True), text_of("A flute is", finished=False)
        (('A flute is played.', None), (None, 'no closing quote'))
    """
    text, bare = text_up_to_closing_mark(reply), reply.strip()
    if text is not None:
        return text, None
    if not bare.strip('"“” '):
        return None, "empty"
    if "\n" in bare or "\r" in bare:
        return None, "newline"
    return (bare, None) if finished and not set(bare) & set('"“”') else (None, "no closing quote")


def _counts(draws: Sequence[PairDraw]) -> dict[str, int]:
    """As `generation.count_outcomes` counts, and the requests that failed."""
    counts: Counter[str] = Counter()
    for draw in draws:
        counts.update(
            {
                "rows": int(draw.text is not None),
                "draws": 1,
                "tries": draw.tries,
                "given up": int(draw.text is None and draw.failed is None),
                "tokens": draw.num_tokens,
                "failed requests": int(draw.failed is not None),
            }
        )
        counts.update(f"rejected: {reason}" for reason in (draw.rejection or "").split("; ") if reason)
    return dict(counts)


def _lost_line(draw: PairDraw) -> dict[str, Any]:
    reason = f"request failed: {draw.failed}" if draw.failed else draw.rejection
    names = {"x1_index": draw.x1_index, SENTENCE1: draw.x1, LABEL: draw.label, "sample": draw.sample}
    return names | {"reason": reason}
