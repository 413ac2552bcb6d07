"""Scores for pairs that are there already: how likely each x2 is under the instruction of every label.

Generation can store these on the way (`score_labels`); this is for data sets that were written without them, or by
another model, or by people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from dino_st.backends.options import ModelOptions
from dino_st.data.cards import NOBODY_KNOWS, raw_card
from dino_st.data.columns import (
    INSTRUCTION,
    LABEL,
    LOG_PROBS,
    NUM_TOKENS,
    PLAIN_LOG_PROB,
    SCORE,
    SENTENCE1,
    SENTENCE2,
    as_table,
)
from dino_st.data.shards import ShardDirectory, Wave, WaveStore, write_waves
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import DatasetError
from dino_st.generation.waves import Writers
from dino_st.support.hashes import hash_texts, versions
from dino_st.support.progress import logger, progress
from dino_st.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset

    from dino_st.backends.local import LocalWriter, Scored
    from dino_st.decoding.engine import DecodingEngine


ROWS_IN_WAVE = 2048
"""Pairs that are stored together; a run that was interrupted goes on behind the last such group."""
_SAMPLE = 1000
"""Pairs looked at to guess how long prompts are."""
_NAMED, _SHOWN = 5, 40
"""Labels that are named in a warning, and characters of each."""
_TOO_LONG = "left out: prompt too long for the model"


@dataclass(frozen=True)
class PairsAgain:
    """Given pairs that are written once more, with something new in each row; every wave of them stands for itself."""

    spec: TaskSpec  # whose pairs they are
    table: pa.Table  # `sentence1`, `sentence2`, `score` or `label`, and whatever else
    provenance: Mapping[str, Any]  # where the pairs come from; kept, and not compared

    undivided = ""

    @property
    def rows_in_wave(self) -> int:
        """Pairs that are stored together; a run that was interrupted goes on behind the last such group."""
        return ROWS_IN_WAVE

    def numbers(self, _: int) -> range:
        """The waves, whatever a model takes at once."""
        return range(-(-len(self.table) // self.rows_in_wave))

    def given(self, number: int, _: int) -> list[dict[str, Any]]:
        """The rows of a wave."""
        rows: list[dict[str, Any]] = self.table.slice(number * self.rows_in_wave, self.rows_in_wave).to_pylist()
        return rows

    def sample(self) -> list[dict[str, Any]]:
        """A few rows, that show how long prompts are."""
        rows: list[dict[str, Any]] = self.table.slice(0, _SAMPLE).to_pylist()
        return rows

    def for_workers(self) -> Self:
        """This with a sample of its rows."""
        return replace(self, table=pa.Table.from_pylist(self.sample(), self.table.schema))

    def facts(self) -> dict[str, Any]:
        """What of the configuration says which rows become examples."""
        return {"task": self.spec.model_dump(mode="json")}

    def warn_if_short(self, counts: Counter[str]) -> None:
        """Nothing: a pair that is left out is counted with its reason, which whoever asked is told."""


@dataclass(frozen=True)
class ScoringPlan(PairsAgain):
    """Everything that decides the scores, but the model; the instructions of `spec` are asked about."""

    options: ModelOptions

    title = "scoring"

    @cached_property
    def known(self) -> dict[str, Any]:
        """What decides a run, in the form of manifests, as far as it is known before the model is loaded."""
        return {**known_pairs(self.spec, self.table), "scored": True}

    @property
    def device(self) -> str:
        """What the model runs on; see `ModelOptions`."""
        return self.options.device

    def open(self, model: str, name: str) -> ScoringRun:
        """Loads the model that is found at a place, and in manifests has a name."""
        from dino_st.backends.local import LocalWriter

        writer = LocalWriter(model, self.options)
        writer.name = name
        return ScoringRun(writer, self)

    def schema(self) -> pa.Schema:
        """The given columns and the new ones."""
        kept = [field for field in self.table.schema if field.name not in (LOG_PROBS, PLAIN_LOG_PROB, NUM_TOKENS)]
        new = [(NUM_TOKENS, pa.int64()), (LOG_PROBS, pa.list_(pa.float64())), (PLAIN_LOG_PROB, pa.float64())]
        return pa.schema([*kept, *(pa.field(name, kind) for name, kind in new)])

    def into(self, directory: ShardDirectory, writers: Writers) -> ShardDirectory:
        """Writes the pairs with their scores into a directory of shards, or continues there; see `GenerationPlan.into`.

        All columns stay; `log_probs` (a number for each label of the task, in its order) and `plain_log_prob` (without
        instruction) are new, and `num_tokens` is the number of tokens that were scored, closing mark included. A pair
        whose prompt is longer than the model's context is left out and counted: the directory's counts are `pairs`
        read, `rows` written, and pairs left out by reason, of all runs.
        """
        rows = writers.choose_streams(directory.begun_batch_size(self.options.batch_size))
        return write_waves(
            directory,
            writers.waves(rows),
            configuration={**self.known, **writers.identity, "batch_size": rows},
            provenance={
                "model": NOBODY_KNOWS,
                **self.provenance,
                "scored_by": writers.model,
                "versions": dict(writers.installed),
            },
            schema=self.schema(),
            card=partial(raw_card, self.spec),
        )


@dataclass(frozen=True)
class ScoringRun:
    """A plan, and the model of this process that scores."""

    writer: LocalWriter
    plan: ScoringPlan

    def into(self, directory: ShardDirectory, show_progress: bool) -> ShardDirectory:
        """See `ScoringPlan.into`."""
        here = Writers.here(self, self.writer.name, lambda rows: partial(self._waves, rows, show_progress))
        return self.plan.into(directory, here)

    def identity(self) -> dict[str, str]:
        """What of the model decides the scores."""
        return self.writer.identity()

    def installed(self) -> dict[str, str]:
        """The versions that a manifest records."""
        return versions("dino-st", "torch", "transformers")

    def streams(self, batch_size: int | str) -> int:
        """Streams that are scored together."""
        sample = [row[SENTENCE1] for row in self.plan.sample()]
        return self.writer.choose_rows(batch_size, self.plan.spec, sample, DecodingOptions().max_new_tokens)

    def engine(self, streams: int) -> DecodingEngine:
        """What scores so many streams together."""
        return self.writer.engine(DecodingOptions(), seed=0, rows=streams)

    def wave(self, engine: DecodingEngine, number: int, given: Sequence[dict[str, Any]]) -> Wave:
        """Scores the rows of a wave."""
        pairs = [(row[SENTENCE1], row[SENTENCE2], row.get(INSTRUCTION) or 0) for row in given]
        outcomes = self.writer.score(self.plan.spec, pairs, engine)
        kept = [_with_scores(row, one) for row, one in zip(given, outcomes, strict=True) if one.log_probs]
        return Wave(number, kept, {"pairs": len(given), "rows": len(kept), _TOO_LONG: len(given) - len(kept)})

    def _waves(self, rows: int, show_progress: bool, store: WaveStore) -> Generator[Wave, None, None]:
        engine, plan = self.engine(rows), self.plan
        with progress(plan.title, len(plan.table), "pairs", done=store.counts["pairs"], shown=show_progress) as advance:
            for number in plan.numbers(rows):
                if number not in store:
                    given = plan.given(number, rows)
                    yield self.wave(engine, number, given)
                    advance(len(given))


def known_pairs(spec: TaskSpec, table: pa.Table) -> dict[str, Any]:
    """The task and the pairs of a run that writes given pairs once more, in the form of manifests."""
    texts = (text for name in (SENTENCE1, SENTENCE2) for text in table[name].to_pylist())
    others = sorted(set(table.column_names) - {SENTENCE1, SENTENCE2, LOG_PROBS, PLAIN_LOG_PROB, NUM_TOKENS})
    kept = (repr(value) for name in others for value in (name, *table[name].to_pylist()))
    inputs = {"pairs": len(table), "sha256": hash_texts(chain(texts, kept))}
    return {"task": spec.model_dump(mode="json"), "inputs": inputs}


def scorable(dataset: Dataset | pa.Table, source: str = "the pairs") -> pa.Table:
    """Pairs as a table, in which the columns are there and every text is one."""
    table = as_table(dataset)
    names = table.column_names
    missing = [name for name in (SENTENCE1, SENTENCE2) if name not in names]
    if missing or not (SCORE in names or LABEL in names):
        raise DatasetError(
            f"{source}: the columns are {names}; expected {SENTENCE1}, {SENTENCE2}, and {SCORE} or {LABEL}"
        )
    if not len(table):
        raise DatasetError(f"{source}: there is no pair to score")
    for name in (SENTENCE1, SENTENCE2):
        texts = table[name].to_pylist()
        row = next((i for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()), None)
        if row is not None:
            raise DatasetError(
                f"column {name!r} of {source} is {texts[row]!r} in pair {row + 1} of {len(texts)}; expected a text: "
                "leave such pairs out"
            )
    for name in (SCORE, LABEL):
        if name in names and table[name].null_count:
            row = table[name].to_pylist().index(None)
            raise DatasetError(f"column {name!r} of {source} is empty in pair {row + 1} of {len(table)}")
    return table


def warn_of_other_labels(spec: TaskSpec, table: pa.Table) -> None:
    """Says how many pairs have labels that the task has not: what is asked about are the task's alone."""
    name = SCORE if SCORE in table.column_names else LABEL
    values, known = table[name].to_pylist(), set(spec.labels)
    if name == SCORE and spec.has_scores:
        values = [format(value, ".6g") for value in values]
        known = {format(float(label), ".6g") for label in spec.labels}
    others = Counter(value for value in values if value not in known)
    if others:
        logger.warning(
            "%d of %d pairs have a label that task %r has not (%s); its labels are %s, and of these alone is asked how "
            "likely each text is. Give the task that the pairs were written for (--task)",
            others.total(),
            len(table),
            spec.task_name,
            ", ".join(str(label)[:_SHOWN] for label, _ in others.most_common(_NAMED)) + ", …" * (len(others) > _NAMED),
            ", ".join(spec.labels),
        )


def _with_scores(row: dict[str, Any], scored: Scored) -> dict[str, Any]:
    log_probs = [round(value, 4) for value in scored.log_probs or ()]
    plain = None if scored.plain_log_prob is None else round(scored.plain_log_prob, 4)
    return row | {NUM_TOKENS: scored.num_tokens, LOG_PROBS: log_probs, PLAIN_LOG_PROB: plain}
