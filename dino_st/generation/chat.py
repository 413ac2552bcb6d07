"""Pairs for DINO's tasks from a chat server, without self-debiasing: the text up to the closing quotation mark.

The published code goes this way with GPT-3 (arXiv 2104.07540, section 4): a server gives texts and no probabilities of
all tokens, so that λ is 0.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from zlib import crc32

from dino_st.backends.answers import parse_reply
from dino_st.backends.chat import ChatBackend, ChatReply, ChatRequest
from dino_st.backends.choice import backend_provenance
from dino_st.backends.journal import Ask, journalled
from dino_st.data.cards import raw_card
from dino_st.data.columns import LABEL, SENTENCE1, raw_pair, raw_schema
from dino_st.data.shards import ShardDirectory, Wave, WaveStore, write_rejected, write_waves
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError
from dino_st.support.hashes import hash_texts, short_hash
from dino_st.support.progress import logger, progress
from dino_st.tasks.prompts import build_prompts
from dino_st.tasks.spec import OPENED_BY, TaskSpec

WAVE = 64
"""Sentences whose pairs are stored together."""

SYSTEM = (
    "Go on with the user's text exactly where it stops. Answer with what is missing up to the closing quotation mark, "
    "with that mark, and with nothing else."
)


LINE_LABELS = re.compile(r"^[^\W\d_][\w \u00a0]{0,30}[:：]", re.MULTILINE)
"""What stands at the beginning of an instruction's lines, such as `Sentence 2:`; models like to repeat it."""


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
        return f"pair/{short_hash(self.x1)}/{self.label}/{self.sample}/{self.tries}"


@dataclass(frozen=True)
class ChatPairRun:
    """Everything that decides what is written."""

    backend: ChatBackend
    spec: TaskSpec  # a task that takes sentences
    decoding: DecodingOptions  # `max_new_tokens`, `max_tries` and `min_words` of it; λ must be 0
    samples: int  # texts for each sentence and label
    sentences: Sequence[str]  # distinct x1

    def into(self, directory: ShardDirectory, show_progress: bool) -> None:
        """Writes pairs into a directory, wave by wave, or goes on there and asks again what failed; see `write_waves`.

        Draws that have no text are listed in `rejected.jsonl`.
        """
        check_debiasing(self.decoding.decay_constant)
        if not self.spec.needs_input:
            raise ConfigurationError(
                f"task {self.spec.task_name!r} writes texts from scratch, which a chat server is asked for with --task "
                "syncse-scratch; or choose --backend local"
            )
        if self.spec.allow_newlines or not set(self.spec.closing_marks) <= set(OPENED_BY):
            raise ConfigurationError(
                f"task {self.spec.task_name!r} allows line breaks, or ends texts by marks of its own, and a server's "
                "replies are read up to a closing quotation mark on one line; choose --backend local"
            )
        write_waves(
            directory,
            partial(self._waves, show_progress),
            configuration=self._configuration(),
            provenance=backend_provenance(self.backend),
            schema=raw_schema(self.spec),
            card=partial(raw_card, self.spec),
            looks_again=True,
        )

    def _waves(self, show_progress: bool, store: WaveStore) -> Generator[Wave, None, None]:
        """The waves that are new, or of which more is known now; lists the draws without a text at the end."""
        lost: list[PairDraw] = []
        same: list[str] = []
        alike: Counter[bool] = Counter()
        finished = [n for n in store.waves if not store.counts_of(n)["failed requests"]]
        done = sum(store.counts_of(number)["inputs"] for number in finished)
        title, total = f"generating {self.spec.task_name}", len(self.sentences)
        shown = progress(title, total, "inputs", done=done, shown=show_progress)
        with journalled(store.path) as asking, shown as advance:
            for number in range(-(-len(self.sentences) // WAVE)):
                start = number * WAVE
                chunk = self.sentences[start : start + WAVE]
                # A wave is looked through again as a whole: what was answered before is in the journal.
                draws = self._written(start, chunk, asking(self.backend))
                lost += [draw for draw in draws if draw.text is None]
                texts = _texts(draws)
                alike.update(
                    len(set(samples)) == 1
                    for by_label in texts.values()
                    for samples in by_label.values()
                    if len(samples) > 1
                )
                same += [
                    distinct.pop()
                    for by_label in texts.values()
                    if len(by_label) > 1 and len(distinct := set().union(*by_label.values())) == 1
                ]
                counts = _counts(draws) | {"inputs": len(chunk)}
                if number not in store or store.counts_of(number) != Counter(counts):
                    yield Wave(number, [self._row(draw) for draw in draws if draw.text is not None], counts)
                advance(0 if number in finished else len(chunk))
        if store.path is not None:
            write_rejected(store.path, map(_lost_line, lost))
        self._warn_if_alike(alike, same)

    def _warn_if_alike(self, alike: Counter[bool], same: Sequence[str]) -> None:
        """Tells of a server that does not sample, or that answers everything with one text.

        `alike` counts whether all samples of a prompt are one text; `same` holds the texts that stand under all labels.
        """
        if alike[True] > max(2, _MOST_ALIKE * alike.total()):
            logger.warning(
                "%d of %d times all samples of one prompt are the same text, as if the server took the likeliest token "
                "instead of sampling; look at its temperature or do_sample",
                alike[True],
                alike.total(),
            )
        if len(same) > max(1, _MANY_THE_SAME * len(self.sentences)):
            logger.warning(
                "%d of %d sentences have one and the same text under all labels, such as %r; look whether it answers "
                "the prompt, or is a message of the server",
                len(same),
                len(self.sentences),
                same[0],
            )

    def draws(self, start: int, chunk: Sequence[str]) -> list[PairDraw]:
        """What is to be written for sentences, of which the first is the one with this number."""
        return [
            PairDraw(start + i, x1, label, sample, (crc32(x1.encode()) + sample) % len(spec.instructions))
            for i, x1 in enumerate(chunk)
            for label, spec in self.spec.labels.items()
            for sample in range(self.samples)
        ]

    def _written(self, start: int, chunk: Sequence[str], ask: Ask) -> list[PairDraw]:
        """The draws of a wave, each tried until there is a text, a request fails, or tries run out."""
        draws = self.draws(start, chunk)
        for _ in range(self.decoding.max_tries):
            places = [i for i, draw in enumerate(draws) if draw.text is None and draw.failed is None]
            replies = ask([self.request(draws[i]) for i in places]) if places else []
            for i, reply in zip(places, replies, strict=True):
                draws[i] = self._judged(draws[i], reply)
        return draws

    def request(self, draw: PairDraw) -> ChatRequest:
        """The next request for a text."""
        limit = self.decoding.max_new_tokens
        return ChatRequest(draw.request_key, self._prompt(draw), SYSTEM, max_new_tokens=limit)

    def _prompt(self, draw: PairDraw) -> str:
        return build_prompts(self.spec, draw.label, draw.x1, phrasing=draw.phrasing).target

    def _judged(self, draw: PairDraw, reply: ChatReply) -> PairDraw:
        if reply.text is None:
            return replace(draw, failed=reply.failure or "no reason given")
        instruction = self.spec.labels[draw.label].phrasing(draw.phrasing)
        parsed = parse_reply(
            reply.text,
            draw.x1,
            prompt=f"{SYSTEM} {self._prompt(draw)}",
            labels=LINE_LABELS.findall(instruction),
            min_words=self.decoding.min_words,
            finished=reply.finished,
            closing_marks=self.spec.closing_marks,
        )
        text, rejection = parsed.text, parsed.reason
        tokens = draw.num_tokens if text is None else reply.completion_tokens
        seen = [draw.rejection, rejection] if rejection else [draw.rejection]
        reasons = "; ".join(reason for reason in seen if reason)
        return replace(draw, text=text, tries=draw.tries + 1, num_tokens=tokens, rejection=reasons or None)

    def _row(self, draw: PairDraw) -> dict[str, Any]:
        provenance = (draw.x1_index, draw.sample, draw.tries, draw.num_tokens)
        return raw_pair(self.spec, draw.label, draw.x1, draw.text, provenance, draw.phrasing)

    def _configuration(self) -> dict[str, Any]:
        names = ("max_new_tokens", "max_tries", "decay_constant", "min_words")
        inputs = {"sentences": len(self.sentences), "sha256": hash_texts(self.sentences), "samples": self.samples}
        return {
            "task": self.spec.model_dump(mode="json"),
            "inputs": inputs,
            "backend": {name: value for name, value in self.backend.configuration().items() if name != "base_url"},
            "decoding": {name: getattr(self.decoding, name) for name in names},
            "wave": WAVE,
        }


_MANY_THE_SAME = 0.1
"""Share of sentences from which on one text for all labels is told."""

_MOST_ALIKE = 0.5
"""Share of prompts with several samples from which on it is told that these are the same."""


def _texts(draws: Sequence[PairDraw]) -> dict[str, dict[str, list[str]]]:
    """The texts that were written, by x1 and label."""
    texts: dict[str, dict[str, list[str]]] = {}
    for draw in draws:
        if draw.text is not None:
            texts.setdefault(draw.x1, {}).setdefault(draw.label, []).append(draw.text)
    return texts


def check_debiasing(decay_constant: float) -> None:
    """Refuses (ConfigurationError) to debias with a server."""
    if decay_constant > 0:
        raise ConfigurationError(
            f"decay_constant = {decay_constant:g}: self-debiasing compares the probabilities of every next token under "
            "several prompts, and a chat server gives texts alone; use --decay-constant 0 (plain sampling), or "
            "--backend local"
        )


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
