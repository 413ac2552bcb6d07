"""Scores for pairs by a judge: a language model, a chat server or a cross-encoder says how similar two sentences are.

The scale is that of the STS tasks (Agirre et al. 2012, https://aclanthology.org/S12-1051): 0, about different things,
to 5, the same meaning; what is stored lies between 0 and 1. A language model on this machine is asked for the
probability of each of the six digits, and its score is their expected value; a server's reply must be a number alone.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa

from dino_st.backends.answers.markup import plain_text
from dino_st.backends.chat import ChatBackend, ChatReply, ChatRequest, in_order
from dino_st.backends.choice import backend_provenance
from dino_st.backends.files import locate_model, model_files
from dino_st.backends.journal import Ask, journalled
from dino_st.backends.options import ModelOptions
from dino_st.data.alignment import agreement
from dino_st.data.cards import NOBODY_KNOWS, raw_card
from dino_st.data.columns import JUDGED, SCORE, SENTENCE1, SENTENCE2
from dino_st.data.shards import (
    ShardDirectory,
    StoredWaves,
    Wave,
    Waves,
    WaveStore,
    write_rejected,
    write_waves,
)
from dino_st.decoding.options import DecodingOptions
from dino_st.encoders.directory import directory_revision
from dino_st.encoders.loading import load_cross_encoder, warn_of_tokens
from dino_st.errors import ModelError
from dino_st.generation.options import JudgeOptions
from dino_st.generation.scoring import PairsAgain, known_pairs
from dino_st.generation.waves import Writers
from dino_st.support.hashes import short_hash, versions
from dino_st.support.progress import logger, progress
from dino_st.tasks.prompts import quotable

if TYPE_CHECKING:
    from dino_st.backends.local import LocalWriter
    from dino_st.tasks.spec import TaskSpec

HIGHEST = 5
"""The best score of the scale; the least is 0."""

INSTRUCTION = """\
Rate how similar in meaning two sentences are, from 0 to 5.
0: they are about different things.
1: they share the topic and nothing else.
2: they share some details.
3: they agree roughly; important details differ or are missing.
4: they mean nearly the same; small details differ.
5: they mean the same.

Sentence 1: "The girl waters the plants in her garden."
Sentence 2: "In her garden a girl is giving water to the plants."
Rating: "5"

Sentence 1: "Oil prices rose by two percent on Monday."
Sentence 2: "A boy is learning to swim."
Rating: "0"

Sentence 1: "Two men are repairing a red car."
Sentence 2: "Two men are working on a car in a garage."
Rating: "3"

"""
"""What is asked of a language model, before the pair."""

SYSTEM = "Answer with one number from 0 to 5 and with nothing else."

CROSS_ENCODER = "cross-encoder"

_WAVE = {"local": 2048, "openai": 64, CROSS_ENCODER: 2048}
"""Pairs that are stored together; a run that was interrupted goes on behind the last such group."""

_RATING = re.compile(
    r"""(?:```\w*\s+)? \{? \s* ["“*_]* (?:(?:(?:the|my|final|overall|similarity)\s)*
    (?:rating|score|similarity|answer|result) ["”*_]* \s*(?:[:=]|\bis:?(?=\s))["”*_]* \s*)?
    (?:<(?P<tag>\w+)>\s*)? ["“*`(\[]* (?P<number>-?\d+(?:\.\d+)?) ["”*`)\]]* (?(tag)\s*</(?P=tag)>)
    \s* \}? (?:\s+```)? \.?""",
    re.IGNORECASE | re.VERBOSE,
)
"""A number, with nothing but a label, marks, a tag, or JSON around it."""
_TOO_LONG = "left out: too long for the judge"
_NO_RATING = "left out: no rating"
_OFF_SCALE, _SCALES = "off the scale", (10, 100)
"""What a number is that is no rating, and the ends of larger scales that people ask judges for."""

_OFTEN, _MOSTLY = 0.02, 0.3
"""The share of numbers above the scale from which on it is told, and from which on the others are no ratings."""

_APART, _OFTEN_TORN, _TORN = 0.6, 0.1, "ratings of the two orders far apart"
"""The difference of the ratings of a pair's two orders that are far apart, and the share of such pairs that is told."""

_MANY = 0.2
"""The share of pairs without a rating from which on it is told."""

_REMEDIES = {
    "rejected: cut off": "raise --max-new-tokens, so that a model which thinks comes to its rating",
    "rejected: no number alone": "take a judge that answers with a number from 0 to 5 and nothing else",
}
"""What helps where many replies are rejected for a reason."""

_STUCK, _UNLIKELY = 20, 1e-6
"""Pairs in a row with one rating, and by what chance, from which on a judge seems to have got stuck."""

_FAILED = "failed requests"
_OF_MODELS = ("dino-st", "torch", "transformers")
_OF_CROSS_ENCODERS = ("dino-st", "sentence-transformers", "torch", "transformers")
_ALIKE, _DECIMALS, _LOWEST, _SPREAD, _FEW = 0.95, 0.1, 0.1, 1e-3, 5
"""Share of pairs with one and the same score, or with one of another scale, from which on it is told, and of those of
another scale with decimals, or with its lowest number; the least distance of the highest score from the lowest; how
many scores tell a scale."""


class Rating(NamedTuple):
    """What a judge says of a pair: a score from 0 to 1, or why there is none, and why replies were rejected."""

    score: float | None
    reason: str | None = None
    rejected: tuple[str, ...] = ()
    is_torn: bool = False  # whether the two orders of a pair got ratings that are far apart


class Judge(Protocol):
    """What rates pairs of sentences."""

    kind: str
    """`local`, `openai` or `cross-encoder`."""

    name: str
    """Of the model, for manifests."""

    def identity(self) -> dict[str, Any]:
        """What decides the ratings, for manifests."""

    def provenance(self) -> dict[str, Any]:
        """What is worth knowing and decides nothing."""

    def rate(self, pairs: Sequence[tuple[str, str]], asking: Callable[[ChatBackend], Ask]) -> list[Rating]:
        """A rating for every pair, in the same order."""


class ModelJudge:
    """A causal language model on this machine: the expected value of the probabilities of the six digits."""

    kind = "local"

    def __init__(self, writer: LocalWriter, rows: int) -> None:
        self.name = writer.name
        self._writer = writer
        self._engine = writer.engine(DecodingOptions(), seed=0, rows=rows)
        tokenizer = writer.tokenizer
        digits = (tokenizer(f'{digit}"', add_special_tokens=False)["input_ids"] for digit in range(HIGHEST + 1))
        self._digits = tuple(map(tuple, digits))

    def identity(self) -> dict[str, Any]:
        """See `Judge`."""
        return {"model": self.name, **self._writer.identity(), "batch_size": self._engine.rows}

    def provenance(self) -> dict[str, Any]:
        """See `Judge`."""
        return {"versions": versions(*_OF_MODELS)}

    def rate(self, pairs: Sequence[tuple[str, str]], _: Callable[[ChatBackend], Ask]) -> list[Rating]:
        """See `Judge`."""
        prompts = [self._writer.encode_opened(f'{question(pair, self._writer.defused)}Rating: "') for pair in pairs]
        longest = self._engine.longest_prompt
        ratings = [Rating(None, _TOO_LONG)] * len(pairs)
        fitting = [i for i, prompt in enumerate(prompts) if len(prompt) <= longest]
        asked = [(prompts[i],) * len(self._digits) for i in fitting]
        for i, log_probs in zip(fitting, self._engine.score(asked, [self._digits] * len(asked)), strict=True):
            ratings[i] = Rating(expected_rating(log_probs))
        return ratings


class ServerJudge:
    """A chat server, whose reply must be a number from 0 to 5; another reply is asked for again."""

    kind = "openai"

    def __init__(self, backend: ChatBackend, options: JudgeOptions) -> None:
        self.name = backend.name
        self.backend, self._options = backend, options

    def identity(self) -> dict[str, Any]:
        """See `Judge`."""
        asked = {name: value for name, value in self.backend.configuration().items() if name != "base_url"}
        return asked | {"max_tries": self._options.max_tries, "max_new_tokens": self._options.max_new_tokens}

    def provenance(self) -> dict[str, Any]:
        """See `Judge`."""
        return backend_provenance(self.backend)

    def rate(self, pairs: Sequence[tuple[str, str]], asking: Callable[[ChatBackend], Ask]) -> list[Rating]:
        """See `Judge`."""
        ask, limit = asking(self.backend), self._options.max_new_tokens
        ratings = [Rating(None, _NO_RATING)] * len(pairs)
        for tried in range(self._options.max_tries):
            places = [i for i, rating in enumerate(ratings) if rating.reason == _NO_RATING]
            requests = [
                ChatRequest(
                    f"judge/{short_hash(chr(0).join(pairs[i]))}/{tried}",
                    f"{question(pairs[i])}Rating:",
                    SYSTEM,
                    max_new_tokens=limit,
                )
                for i in places
            ]
            for i, reply in zip(places, ask(requests) if requests else [], strict=True):
                ratings[i] = _read(reply, ratings[i])
        return ratings


class CrossEncoderJudge:
    """A cross-encoder of sentence-transformers with one output between 0 and 1, such as one trained on STS."""

    kind = CROSS_ENCODER

    def __init__(self, directory: Path, name: str, *, device: str, batch_size: int = 64) -> None:
        self.name = name
        self._directory, self.batch_size, self._has_looked = directory, batch_size, False
        self._model = load_cross_encoder(directory, repr(name), device=device)
        if self._model.num_labels != 1:
            raise ModelError(
                f"model {name!r}: this cross-encoder has {self._model.num_labels} outputs; expected one, the "
                "similarity of two sentences (one for natural language inference has three)"
            )

    def identity(self) -> dict[str, Any]:
        """See `Judge`."""
        return {"model": self.name, "weights_sha256": directory_revision(self._directory)}

    def provenance(self) -> dict[str, Any]:
        """See `Judge`."""
        return {"versions": versions(*_OF_CROSS_ENCODERS)}

    def rate(self, pairs: Sequence[tuple[str, str]], _: Callable[[ChatBackend], Ask]) -> list[Rating]:
        """See `Judge`."""
        if not self._has_looked:
            warn_of_tokens(self._model, list(map(" ".join, pairs)), self.name)
            self._has_looked = True
        scores = self._model.predict(list(pairs), batch_size=self.batch_size, show_progress_bar=False).tolist()
        strange = next((score for score in scores if not 0 <= score <= 1), None)
        if strange is not None:
            raise ModelError(
                f"model {self.name!r} gives {strange:g} for a pair; expected a similarity from 0 to 1. Take a "
                "cross-encoder that was trained on STS, with a sigmoid at its end"
            )
        return [Rating(score) for score in scores]


@dataclass(frozen=True)
class JudgingPlan(PairsAgain):
    """Everything that decides the ratings, but the judge."""

    kind: str  # of the judge
    options: JudgeOptions
    model: ModelOptions = field(default_factory=ModelOptions)  # how a judge on this machine runs

    title = "judging"

    @property
    def rows_in_wave(self) -> int:
        """See `PairsAgain`."""
        return _WAVE[self.kind]

    @property
    def device(self) -> str:
        """What a judge on this machine runs on; see `ModelOptions`."""
        return self.model.device

    @cached_property
    def known(self) -> dict[str, Any]:
        """What decides a run, in the form of manifests, as far as it is known before the judge is loaded."""
        prompt = None if self.kind == CROSS_ENCODER else hashlib.sha256(f"{INSTRUCTION}{SYSTEM}".encode()).hexdigest()
        judge = {"kind": self.kind, "prompt_sha256": prompt, "both_orders": self.options.both_orders}
        others = [name for name in self.table.column_names if name != JUDGED]
        return {**known_pairs(self.spec, self.table.select(others)), "judge": judge}

    def open(self, model: str, name: str) -> LocalJudging:
        """Loads a judge of this machine that is found at a place, and in manifests has a name."""
        if self.kind == CROSS_ENCODER:
            return LocalJudging(self, CrossEncoderJudge(locate_model(model), name, device=self.model.device))
        model_files(model)
        from dino_st.backends.local import LocalWriter

        writer = LocalWriter(model, self.model)
        writer.name = name
        return LocalJudging(self, writer)

    def into(self, directory: ShardDirectory, writers: Writers) -> ShardDirectory:
        """Writes the pairs with ratings of a judge on this machine into a directory; see `GenerationPlan.into`."""
        asked = self.model.batch_size
        begun = directory.configuration.get("judge", {}).get("batch_size", asked)
        rows = writers.choose_streams(begun if asked == "auto" else asked)
        judge = {**writers.identity, **({} if self.kind == CROSS_ENCODER else {"batch_size": rows})}
        return self.written(directory, writers.model, judge, {"versions": dict(writers.installed)}, writers.waves(rows))

    def written(
        self,
        directory: ShardDirectory,
        name: str,
        judge: Mapping[str, Any],
        facts: Mapping[str, Any],
        waves: Waves | StoredWaves,
    ) -> ShardDirectory:
        """Writes the pairs with their ratings into a directory of shards, or continues there; see `write_waves`.

        All columns stay, and `judged`, from 0 to 1, is new. A pair without a rating is left out, counted by reason
        and, of a server, listed in `rejected.jsonl`; what failed is asked for again by the same run. `judge` says what
        of the judge decides the ratings, and `facts` what of it decides nothing.
        """
        known = self.known["judge"]
        return write_waves(
            directory,
            waves,
            configuration={**self.known, "judge": {"kind": self.kind, **judge, **known}},
            provenance={"model": NOBODY_KNOWS, **self.provenance, "judged_by": name, **facts},
            schema=self.schema(),
            card=partial(_card, self.spec, name),
            looks_again=self.kind == ServerJudge.kind,
        )

    def schema(self) -> pa.Schema:
        """The given columns, and the rating."""
        fields = [field for field in self.table.schema if field.name != JUDGED]
        return pa.schema([*fields, pa.field(JUDGED, pa.float64())])


@dataclass(frozen=True)
class JudgingRun:
    """A plan, and the judge that rates."""

    judge: Judge
    plan: JudgingPlan

    def into(self, directory: ShardDirectory, show_progress: bool = False) -> ShardDirectory:
        """See `JudgingPlan.written`."""
        judge, facts = self.judge.identity(), self.judge.provenance()
        return self.plan.written(directory, self.judge.name, judge, facts, partial(self._waves, show_progress))

    def _waves(self, show_progress: bool, store: WaveStore) -> Generator[Wave, None, None]:
        plan, asks, lost = self.plan, self.judge.kind == ServerJudge.kind, []
        done = store.counts["pairs"]
        shown = progress(plan.title, len(plan.table), "pairs", done=done, shown=show_progress)
        with journalled(store.on_disk if asks else None) as asking, ExitStack() as bar:
            if isinstance(self.judge, ServerJudge):
                pairs = list(zip(*(plan.table[name].to_pylist() for name in (SENTENCE1, SENTENCE2)), strict=True))
                asking.ahead(self.judge.backend, lambda ask: self._ratings(pairs, lambda _: ask))
            advance = bar.enter_context(shown)
            numbers = (number for number in plan.numbers(0) if asks or number not in store)
            given = ((number, plan.given(number, 0)) for number in numbers)
            backend = self.judge.backend if isinstance(self.judge, ServerJudge) else None
            for (number, rows), (wave, without) in in_order(backend, lambda one: self.wave(*one, asking), given):
                lost += without
                if number not in store:
                    advance(len(rows))
                if number not in store or store.counts_of(number) != Counter(wave.counts):
                    yield wave
        if asks and store.on_disk is not None:
            write_rejected(store.on_disk, lost)

    def wave(
        self, number: int, rows: Sequence[dict[str, Any]], asking: Callable[[ChatBackend], Ask]
    ) -> tuple[Wave, list[dict[str, Any]]]:
        """Rates the rows of a wave; also those without a rating, with the reason."""
        ratings = self._ratings([(row[SENTENCE1], row[SENTENCE2]) for row in rows], asking)
        kept, lost = [], []
        for row, rating in zip(rows, ratings, strict=True):
            if rating.score is not None:
                kept.append(row | {JUDGED: round(rating.score, 6)})
            else:
                lost.append({SENTENCE1: row[SENTENCE1], SENTENCE2: row[SENTENCE2], "reason": rating.reason})
        counts = Counter({"pairs": len(rows), "rows": len(kept), _FAILED: 0})
        for rating in ratings:
            counts.update([_TORN] if rating.is_torn else [])
            reason = rating.reason or ""
            counts.update([reason if reason.startswith("left out") else _FAILED] if reason else [])
            counts.update(f"rejected: {one}" for one in rating.rejected)
        return Wave(number, kept, dict(counts)), lost

    def _ratings(self, pairs: Sequence[tuple[str, str]], asking: Callable[[ChatBackend], Ask]) -> list[Rating]:
        """The ratings of pairs, those of both orders averaged."""
        if not self.plan.options.both_orders:
            return self.judge.rate(pairs, asking)
        both = self.judge.rate([*pairs, *((second, first) for first, second in pairs)], asking)
        return list(map(_mean, both[: len(pairs)], both[len(pairs) :]))


@dataclass(frozen=True)
class LocalJudging:
    """A plan, and the model of this process that is to judge, before it is known how many streams it takes at once."""

    plan: JudgingPlan
    loaded: LocalWriter | CrossEncoderJudge

    def into(self, directory: ShardDirectory, show_progress: bool) -> ShardDirectory:
        """See `JudgingPlan.into`."""
        here = Writers.here(self, self.loaded.name, lambda streams: partial(self.engine(streams)._waves, show_progress))
        return self.plan.into(directory, here)

    def identity(self) -> dict[str, Any]:
        """What of the model decides the ratings."""
        if isinstance(self.loaded, CrossEncoderJudge):
            return self.loaded.identity()
        return {"model": self.loaded.name, **self.loaded.identity()}

    def installed(self) -> dict[str, str]:
        """The versions that a manifest records."""
        return versions(*(_OF_CROSS_ENCODERS if isinstance(self.loaded, CrossEncoderJudge) else _OF_MODELS))

    def streams(self, batch_size: int | str) -> int:
        """Streams, or pairs of a cross-encoder, that are rated together."""
        if isinstance(self.loaded, CrossEncoderJudge):
            return self.loaded.batch_size
        if batch_size != "auto":
            return int(batch_size)
        pairs = [(row[SENTENCE1], row[SENTENCE2]) for row in self.plan.sample()]
        return self.loaded.automatic_rows([len(self.loaded.encode_opened(f'{question(one)}"')) for one in pairs], 2)

    def engine(self, streams: int) -> JudgingRun:
        """The judge that rates so many streams together."""
        loaded = self.loaded
        return JudgingRun(loaded if isinstance(loaded, CrossEncoderJudge) else ModelJudge(loaded, streams), self.plan)

    def wave(self, engine: JudgingRun, number: int, given: Sequence[dict[str, Any]]) -> Wave:
        """Rates the rows of a wave."""
        return engine.wave(number, given, lambda backend: backend.complete)[0]


def question(pair: tuple[str, str], defused: Callable[[str], str | None] = str) -> str:
    """What a language model is asked about a pair, up to the line of the answer."""
    first, second = (quotable(defused(text) or "") for text in pair)
    return f'{INSTRUCTION}Sentence 1: "{first}"\nSentence 2: "{second}"\n'


def expected_rating(log_probs: Sequence[float]) -> float:
    """The expected value, from 0 to 1, of ratings 0, 1, … with log-probabilities in nats, renormalised over these."""
    best = max(log_probs)
    weights = [math.exp(value - best) for value in log_probs]
    total = math.fsum(weights)
    return math.fsum(rating * weight for rating, weight in enumerate(weights)) / total / (len(weights) - 1)


def parse_rating(text: str, *, finished: bool = True) -> tuple[float | None, str]:
    """The rating in a reply, from 0 to 1, or why there is none: `cut off`, `no number alone` or `off the scale`.

    Example:
        >>> parse_rating("Rating: 4.5"), parse_rating("5/5"), parse_rating("7")
        ((0.9, ''), (None, 'no number alone'), (None, 'off the scale (up to 10)'))
    """
    answer, is_whole = plain_text(text, finished=finished)
    if answer is None or not is_whole:
        return None, "cut off"
    match = _RATING.fullmatch(answer.strip())
    if match is None:
        return None, "no number alone"
    value = float(match["number"])
    if 0 <= value <= HIGHEST:
        return value / HIGHEST, ""
    top = next((top for top in _SCALES if HIGHEST < value <= top), None)
    return None, _OFF_SCALE if top is None else f"{_OFF_SCALE} (up to {top})"


def check_rated(counts: Mapping[str, int], name: str) -> None:
    """Warns of a judge that left many pairs without a rating; a ModelError where that are all. Both say why."""
    rated, pairs = counts.get("rows", 0), counts.get("pairs", 0)
    reasons = {one: count for one, count in counts.items() if one.startswith(("rejected", "left out", "failed"))}
    why = max(reasons, key=lambda one: (reasons[one], one.startswith("rejected")), default="unknown")
    told = f"{why}; {_REMEDIES[why]}" if why in _REMEDIES else why
    if not rated:
        raise ModelError(f"{name} rated none of {pairs:,} pairs: {told}")
    if pairs - rated > _MANY * pairs:
        logger.warning("%s rated %s of %s pairs alone: %s", name, f"{rated:,}", f"{pairs:,}", told)


def check_scale(counts: Mapping[str, int], name: str) -> None:
    """Warns of a judge some of whose replies are numbers of a larger scale; a ModelError where these are many.

    Its ratings of 5 and less are of that scale, too.
    """
    tops = {top: counts.get(f"rejected: {_OFF_SCALE} (up to {top})", 0) for top in _SCALES}
    beyond, kept = sum(tops.values()), counts.get("rows", 0)
    if beyond < max(_FEW, _OFTEN * (beyond + kept)):
        return
    told = (
        f"{beyond:,} replies of {name} are numbers above {HIGHEST}, as if it rated from 0 to "
        f"{max(top for top, count in tops.items() if count)}, so that the {kept:,} ratings from 0 to {HIGHEST} may be "
        "of that scale, too"
    )
    if beyond > _MOSTLY * (beyond + kept):
        raise ModelError(f"{told}; do not use them, and take another judge, and another directory or --overwrite")
    logger.warning("%s; take another judge", told)


def check_orders(counts: Mapping[str, int], name: str) -> None:
    """Warns of a judge that rates many pairs otherwise when their sentences are exchanged: it guesses."""
    torn, kept = counts.get(_TORN, 0), counts.get("rows", 0)
    if torn >= max(_FEW, _OFTEN_TORN * kept):
        logger.warning(
            "%s rates %d of %d pairs at least %.0f of %d points higher or lower when their sentences are exchanged; "
            "their means say little, so look at some (dino-st audit), or take another judge",
            name,
            torn,
            kept,
            HIGHEST * _APART,
            HIGHEST,
        )


def tell_of_ratings(table: pa.Table, kind: str = "local") -> str:
    """How the ratings go with the scores that pairs have, as a sentence; warns of a judge that says nothing."""
    judged = table[JUDGED].to_pylist()
    value, most = Counter(judged).most_common(1)[0]
    if len(judged) > 1 and most >= _ALIKE * len(judged):
        logger.warning(
            "%d of %d pairs have the rating %g: this judge does not tell pairs apart, so train and validate by another",
            most,
            len(judged),
            value,
        )
    elif len(judged) > 1 and max(judged) - min(judged) < _SPREAD:
        logger.warning(
            "the ratings lie between %.6g and %.6g: this judge hardly tells pairs apart; take another",
            min(judged),
            max(judged),
        )
    given = [round(HIGHEST * rating, 6) for rating in judged]
    low = [rating for rating in given if rating <= 1]
    decimals = [rating for rating in low if not math.isclose(2 * rating, round(2 * rating), abs_tol=1e-3)]
    is_told = len(given) >= _FEW and len(low) >= _ALIKE * len(given) and len(decimals) >= _DECIMALS * len(given)
    if kind == ServerJudge.kind and is_told:
        logger.warning(
            "%d of %d ratings are not above 1, and many have decimals, such as %.3g, as if the judge rated from 0 to "
            "1: what was asked for, and is taken, are ratings from 0 to %d",
            len(low),
            len(given),
            decimals[0],
            HIGHEST,
        )
    if kind == ServerJudge.kind and min(given) >= 1 and given.count(1) >= max(_FEW, _LOWEST * len(given)):
        logger.warning(
            "no rating is below 1, and %d of %d are 1, as if the judge rated from 1 to %d: what was asked for, and is "
            "taken, are ratings from 0 to %d; look at pairs that have nothing in common",
            given.count(1),
            len(given),
            HIGHEST,
            HIGHEST,
        )
    scores = table[SCORE].to_pylist() if SCORE in table.column_names else []
    if scores and (stuck := _stuck(judged, scores)) is not None:
        logger.warning(
            "rows %d to %d all have the rating %g, whatever their scores, and of the other pairs %.0f %%: as if the "
            "judge had got stuck there, so leave these ratings out, or judge those pairs again",
            *stuck,
        )
    mean = f"mean rating {math.fsum(judged) / len(judged):.3f}"
    correlation = agreement(judged, scores, "these pairs")
    return mean if correlation is None else f"{mean}; Spearman with the assigned scores {correlation:.3f}"


def _stuck(ratings: Sequence[float], scores: Sequence[float]) -> tuple[int, int, float, float] | None:
    """Rows, from 1 on, whose one rating chance hardly makes; it, and its share of the other pairs of such scores."""
    ends = [place for place, (one, other) in enumerate(pairwise(ratings), 1) if one != other]
    start, end = max(pairwise([0, *ends, len(ratings)]), key=lambda run: run[1] - run[0])
    size, ordered = end - start, sorted(scores[start:end])
    least, most = ordered[size // 10], ordered[-1 - size // 10]
    others = [
        ratings[place] for place, score in enumerate(scores) if least <= score <= most and not start <= place < end
    ]
    share = others.count(ratings[start]) / max(len(others), 1)
    is_mixed = most - least >= (max(scores) - min(scores)) / 2 > 0
    if size < _STUCK or not is_mixed or 2 * len(others) < size or len(ratings) * max(share, 0.1) ** size > _UNLIKELY:
        return None
    return start + 1, end, ratings[start], 100 * share


def _read(reply: ChatReply, before: Rating) -> Rating:
    """What became of a pair after one more reply."""
    if reply.text is None:
        return Rating(None, f"request failed: {reply.failure or 'no reason given'}", before.rejected)
    score, fault = parse_rating(reply.text, finished=reply.finished)
    if score is not None:
        return Rating(score, None, before.rejected)
    return Rating(None, _NO_RATING, (*before.rejected, fault))


def _mean(one: Rating, other: Rating) -> Rating:
    rejected = (*one.rejected, *other.rejected)
    if one.score is None or other.score is None:
        return Rating(None, one.reason or other.reason, rejected)
    return Rating((one.score + other.score) / 2, None, rejected, abs(one.score - other.score) >= _APART)


def _card(spec: TaskSpec, judge: str, directory: str, **facts: Any) -> str:
    return raw_card(spec, directory, **facts) + (
        f"\n## Ratings\n\nColumn `judged`: how similar `{judge}` says the two sentences are, from 0 to 1. No human "
        "wrote or checked the ratings.\n"
    )
