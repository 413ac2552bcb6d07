"""Pairs for DINO's tasks from a server, without self-debiasing: the text up to the closing quotation mark.

The published code goes this way with GPT-3 (arXiv 2104.07540, section 4): a server gives texts and no probabilities of
all tokens, so that λ is 0. Where it says how likely a given text is, the best of several texts can be kept instead; see
`dino_st.generation.rerank`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any
from zlib import crc32

from dino_st.backends.answers.parsing import parse_reply
from dino_st.backends.chat import ChatBackend, ChatReply, ChatRequest, ScoringBackend, in_order, is_batching
from dino_st.backends.choice import backend_provenance
from dino_st.backends.journal import Ask, journalled
from dino_st.backends.servers.scoring import TextScore
from dino_st.data.cards import raw_card
from dino_st.data.columns import LABEL, LOG_PROBS, SENTENCE1, raw_pair, raw_schema
from dino_st.data.shards import ShardDirectory, Wave, WaveStore, write_rejected, write_waves
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError
from dino_st.generation.options import GenerationOptions
from dino_st.generation.rerank import widest
from dino_st.support.hashes import hash_texts, short_hash
from dino_st.support.progress import logger, progress
from dino_st.support.text import MARKS
from dino_st.tasks.prompts import build_prompts, quotable_in
from dino_st.tasks.spec import OPENED_BY, TaskSpec

WAVE = 64
"""Sentences whose pairs are stored together."""

SYSTEM = (
    "Go on with the user's text exactly where it stops. Answer with what is missing up to the closing quotation mark, "
    "with that mark, and with nothing else."
)


LINE_LABELS = re.compile(rf"^[^\W\d_][\w{MARKS} \u00a0]{{0,30}}[:：]", re.MULTILINE)
"""What stands at the beginning of an instruction's lines, such as `Sentence 2:`; models like to repeat it."""


@dataclass(frozen=True)
class PairDraw:
    """One text to be written, and how far that has come; `failed` is the reason of a request that got no reply."""

    x1_index: int
    x1: str
    label: str
    sample: int
    phrasing: int
    candidate: int = 0  # among those of which one is kept
    text: str | None = None
    tries: int = 0
    num_tokens: int = 0
    rejected: tuple[str, ...] = ()  # why texts of it were not taken
    failed: str | None = None
    log_probs: tuple[float, ...] | None = None  # of the text under each label of the task, where it was scored
    scored: int = 0  # candidates among which it was chosen
    alike: int = 0  # those of them that are as likely under every label

    @property
    def request_key(self) -> str:
        """Names the next try."""
        number = f"/{self.candidate}" if self.candidate else ""
        return f"pair/{short_hash(self.x1)}/{self.label}/{self.sample}/{self.tries}{number}"


@dataclass(frozen=True)
class ChatPairRun:
    """Everything that decides what is written."""

    backend: ChatBackend
    spec: TaskSpec  # a task that takes sentences
    decoding: DecodingOptions  # `max_new_tokens`, `max_tries` and `min_words` of it; λ must be 0
    options: GenerationOptions  # `samples`, `debias` and `candidates` of it
    sentences: Sequence[str]  # distinct x1

    def into(self, directory: ShardDirectory, show_progress: bool) -> None:
        """Writes pairs into a directory, wave by wave, or goes on there and asks again what failed; see `write_waves`.

        Draws that have no text are listed in `rejected.jsonl`.
        """
        check_debiasing(self.decoding.decay_constant)
        if self._reranks and not isinstance(self.backend, ScoringBackend):
            raise ConfigurationError(
                f"model {self.backend.name!r} does not say how likely a text is, which --debias rerank needs; leave "
                "--debias out"
            )
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
        if self._reranks and is_batching(self.backend):
            raise ConfigurationError(
                "option 'batch_api' along with debias='rerank': no batch interface says how likely a given text is; "
                "leave one of the two out"
            )
        if isinstance(self.backend, ScoringBackend) and self._reranks and not directory.is_begun:
            way = self.backend.find_scoring()
            logger.info("%s says how likely texts are (by %s)", self.backend.name, way)
        write_waves(
            directory,
            partial(self._waves, show_progress),
            configuration=self._configuration(),
            provenance=backend_provenance(self.backend),
            schema=raw_schema(self.spec, score_labels=self._reranks),
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
        with journalled(store.on_disk) as asking, ExitStack() as bar:
            asking.ahead(self.backend, partial(self._written, 0, self.sentences))
            advance = bar.enter_context(shown)
            ask = asking(self.backend)

            def wave(number: int) -> tuple[list[PairDraw], list[PairDraw]]:
                # A wave is looked through again as a whole: what was answered before is in the journal.
                written = self._written(number * WAVE, chunk_of(number), ask)
                return written, self._kept(written, ask) if self._reranks else written

            def chunk_of(number: int) -> Sequence[str]:
                return self.sentences[number * WAVE : (number + 1) * WAVE]

            for number, (written, draws) in in_order(self.backend, wave, range(-(-len(self.sentences) // WAVE))):
                chunk = chunk_of(number)
                lost += [draw for draw in draws if draw.text is None]
                texts = _texts(written)
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
        if store.on_disk is not None:
            write_rejected(store.on_disk, map(_lost_line, lost))
        self._warn_if_alike(alike, same, store.counts)

    def _warn_if_alike(self, alike: Counter[bool], same: Sequence[str], counts: Counter[str]) -> None:
        """Tells of a server that does not sample, or whose texts or scores do not depend on the prompt.

        `alike` counts whether all samples of a prompt are one text; `same` holds the texts that stand under all labels.
        """
        if counts[_ALIKE] > max(2, _MANY_THE_SAME * counts[_SCORED]):
            logger.warning(
                "%d of %d scored texts are exactly as likely under every label, so that nothing was chosen by it; look "
                "whether the server computes log-probabilities of a prompt",
                counts[_ALIKE],
                counts[_SCORED],
            )
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
            PairDraw(start + i, x1, label, sample, (crc32(x1.encode()) + sample) % len(spec.instructions), candidate)
            for i, x1 in enumerate(chunk)
            for label, spec in self.spec.labels.items()
            for sample in range(self.options.samples)
            for candidate in range(self.options.candidates_of(self.spec, label))
        ]

    @property
    def _reranks(self) -> bool:
        return self.options.debias == "rerank"

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
        limit, system = self.decoding.max_new_tokens, SYSTEM if self.backend.is_chat else ""
        closing = () if self.backend.is_chat else self.spec.closing_marks
        prompt = self._prompt(draw, draw.label)
        return ChatRequest(draw.request_key, prompt, system, max_new_tokens=limit, closing=closing or ('"',))

    def _prompt(self, draw: PairDraw, label: str) -> str:
        return build_prompts(self.spec, label, draw.x1, phrasing=draw.phrasing).target

    def _kept(self, draws: Sequence[PairDraw], ask: Ask) -> list[PairDraw]:
        """Of the candidates for each text the one with the widest margin, with what happened to all of them.

        Log-probabilities are those of the bare instruction up to the text, without a chat template: DINO's own prompt.
        """
        requests = {draw: self._scorings(draw) for draw in draws if draw.text is not None}
        distinct = {request.key: request for asked in requests.values() for request in asked}
        replies = {reply.key: reply for reply in ask(list(distinct.values()))} if distinct else {}
        scored = [self._scored(draw, [replies[one.key] for one in requests.get(draw, ())]) for draw in draws]
        groups = groupby(scored, key=lambda draw: (draw.x1_index, draw.label, draw.sample))
        return [_best(self.spec, list(group)) for _, group in groups]

    def _scorings(self, draw: PairDraw) -> list[ChatRequest]:
        """Asks how likely a draw's text and its closing mark are under the instruction of every label."""
        answer = quotable_in(self.spec, draw.text or "") + self.spec.closing_marks[0]
        prompts = [self._prompt(draw, label) for label in self.spec.labels]
        return [
            ChatRequest(f"score/{short_hash(prompt)}/{short_hash(answer)}", prompt, max_new_tokens=1, answer=answer)
            for prompt in prompts
        ]

    def _scored(self, draw: PairDraw, replies: Sequence[ChatReply]) -> PairDraw:
        if failure := next((reply.failure or "no reason given" for reply in replies if reply.text is None), None):
            return replace(draw, text=None, failed=failure)
        scores = [TextScore.of(reply.text or "") for reply in replies]
        fault = next((score.fault for score in scores if score.fault), None)
        if fault is None and len({score.split for score in scores}) > 1:
            fault = "split into other tokens under another label"
        if fault is not None:
            return _rejected(replace(draw, text=None), f"no score ({fault})")
        log_probs = tuple(score.log_prob for score in scores if score.log_prob is not None)
        return replace(draw, log_probs=log_probs, num_tokens=scores[0].num_tokens) if scores else draw

    def _judged(self, draw: PairDraw, reply: ChatReply) -> PairDraw:
        if reply.text is None:
            return replace(draw, failed=reply.failure or "no reason given")
        labels = self.spec.labels
        instruction = labels[draw.label].phrasing(draw.phrasing)
        parsed = parse_reply(
            reply.text,
            draw.x1,
            prompt=f"{SYSTEM} {self._prompt(draw, draw.label)}",
            labels=LINE_LABELS.findall(instruction),
            min_words=self.decoding.min_words,
            finished=reply.finished,
            closing_marks=self.spec.closing_marks,
            is_rewrite=self.spec.has_scores and len(labels) > 1 and draw.label == max(labels, key=float),
        )
        text, rejection = parsed.text, parsed.reason
        tokens = draw.num_tokens if text is None else reply.completion_tokens
        return _rejected(replace(draw, text=text, tries=draw.tries + 1, num_tokens=tokens), rejection)

    def _row(self, draw: PairDraw) -> dict[str, Any]:
        provenance = (draw.x1_index, draw.sample, draw.tries, draw.num_tokens)
        row = raw_pair(self.spec, draw.label, draw.x1, draw.text, provenance, draw.phrasing)
        return row if draw.log_probs is None else row | {LOG_PROBS: [round(value, 4) for value in draw.log_probs]}

    def _configuration(self) -> dict[str, Any]:
        names = ("max_new_tokens", "max_tries", "decay_constant", "min_words")
        inputs = {"sentences": len(self.sentences), "sha256": hash_texts(self.sentences)}
        return {
            "task": self.spec.model_dump(mode="json"),
            "inputs": inputs | {"samples": self.options.samples},
            "backend": {name: value for name, value in self.backend.configuration().items() if name != "base_url"},
            "decoding": {name: getattr(self.decoding, name) for name in names},
            "wave": WAVE,
            **self.options.reranking(),
        }


_MANY_THE_SAME = 0.1
"""Share of sentences, or of scored texts, from which on one text, or one score, for all labels is told."""

_SCORED, _ALIKE = "candidates", "candidates as likely under every label"
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
            "several prompts, and a server does not give them; use --decay-constant 0 (plain sampling), --debias "
            "rerank (which compares whole texts, and needs a server that returns log-probabilities of a prompt), or "
            "--backend local"
        )


def _rejected(draw: PairDraw, reason: str | None) -> PairDraw:
    """A draw with one more reason why a text of it was not taken, if there is one."""
    return draw if reason is None else replace(draw, rejected=(*draw.rejected, reason))


def _best(spec: TaskSpec, group: Sequence[PairDraw]) -> PairDraw:
    """The candidate that is kept; a request that failed leaves the choice to the next run."""
    failed = next((draw for draw in group if draw.failed is not None), None)
    written = [draw for draw in group if draw.log_probs is not None]
    best = group[0]
    if written:
        best = written[widest(spec, best.label, [draw.log_probs or () for draw in written])]
    best = best if failed is None else replace(failed, text=None, log_probs=None)
    rejected = tuple(reason for draw in group for reason in draw.rejected)
    alike = sum(len({round(value, 4) for value in draw.log_probs or ()}) == 1 < len(spec.labels) for draw in written)
    tries = sum(draw.tries for draw in group)
    return replace(best, tries=tries, rejected=rejected, scored=len(written), alike=alike)


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
                **({_SCORED: draw.scored} if draw.scored else {}),
                **({_ALIKE: draw.alike} if draw.alike else {}),
            }
        )
        counts.update(f"rejected: {reason}" for reason in draw.rejected)
    return dict(counts)


def _lost_line(draw: PairDraw) -> dict[str, Any]:
    reason = f"request failed: {draw.failed}" if draw.failed else "; ".join(draw.rejected) or None
    names = {"x1_index": draw.x1_index, SENTENCE1: draw.x1, LABEL: draw.label, "sample": draw.sample}
    return names | {"reason": reason}
