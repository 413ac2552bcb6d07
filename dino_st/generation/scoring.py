"""Scores for pairs that are there already: how likely each x2 is under the instruction of every label.

Generation can store these on the way (`score_labels`); this is for data sets that were written without them, or by
another model, or by people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dino_st.backends.options import ModelOptions
from dino_st.data.cards import raw_card
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
from dino_st.support.hashes import hash_texts, versions
from dino_st.support.progress import progress
from dino_st.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset

    from dino_st.backends.local import LocalWriter, Scored


ROWS_IN_WAVE = 2048
"""Pairs that are stored together; a run that was interrupted goes on behind the last such group."""
_TOO_LONG = "left out: prompt too long for the model"


@dataclass(frozen=True)
class ScoringRun:
    """Everything that decides the scores."""

    writer: LocalWriter
    spec: TaskSpec  # whose instructions are asked about
    options: ModelOptions
    dataset: Dataset | pa.Table  # `sentence1`, `sentence2`, `score` or `label`, and whatever else
    provenance: Mapping[str, Any]  # where the pairs come from; kept, and not compared
    known: Mapping[str, Any]  # the `known_configuration` of these pairs

    def into(self, directory: ShardDirectory, show_progress: bool = False) -> Counter[str]:
        """Writes the pairs with their scores into a directory of shards, or continues there.

        All columns stay; `log_probs` (a number for each label of the task, in its order) and `plain_log_prob` (without
        instruction) are new, and `num_tokens` is the number of tokens that were scored, closing mark included. A pair
        whose prompt is longer than the model's context is left out and counted: `pairs` read, `rows` written, and pairs
        left out by reason are returned, of all runs. Raises DatasetError where a column is missing, or a text is.
        """
        table = scorable(self.dataset)
        sample = table[SENTENCE1].slice(0, 1000).to_pylist()
        size = directory.begun_batch_size(self.options.batch_size)
        rows = self.writer.choose_rows(size, self.spec, sample, DecodingOptions().max_new_tokens)
        made_with = {"scored_by": self.writer.name, "versions": versions("dino-st", "torch", "transformers")}
        write_waves(
            directory,
            partial(self._waves, table, rows, show_progress),
            configuration={**self.known, **self.writer.identity(), "batch_size": rows},
            provenance={"model": "unknown", **self.provenance, **made_with},
            schema=_schema(table.schema),
            card=partial(raw_card, self.spec),
        )
        return directory.counts

    def _waves(self, table: pa.Table, rows: int, show_progress: bool, store: WaveStore) -> Generator[Wave, None, None]:
        engine = self.writer.engine(DecodingOptions(), seed=0, rows=rows)
        with progress("scoring", len(table), "pairs", done=store.counts["pairs"], shown=show_progress) as advance:
            for number in range(-(-len(table) // ROWS_IN_WAVE)):
                if number in store:
                    continue
                part = table.slice(number * ROWS_IN_WAVE, ROWS_IN_WAVE).to_pylist()
                pairs = [(row[SENTENCE1], row[SENTENCE2], row.get(INSTRUCTION) or 0) for row in part]
                outcomes = self.writer.score(self.spec, pairs, engine)
                kept = [_with_scores(row, one) for row, one in zip(part, outcomes, strict=True) if one.log_probs]
                yield Wave(number, kept, {"pairs": len(part), "rows": len(kept), _TOO_LONG: len(part) - len(kept)})
                advance(len(part))


def known_configuration(spec: TaskSpec, table: pa.Table) -> dict[str, Any]:
    """What decides a run, in the form of manifests, as far as it is known before the model is loaded."""
    return {**known_pairs(spec, table), "scored": True}


def known_pairs(spec: TaskSpec, table: pa.Table) -> dict[str, Any]:
    """The task and the pairs of a run that writes given pairs once more, in the form of manifests."""
    texts = (text for name in (SENTENCE1, SENTENCE2) for text in table[name].to_pylist())
    others = sorted(set(table.column_names) - {SENTENCE1, SENTENCE2, LOG_PROBS, PLAIN_LOG_PROB, NUM_TOKENS})
    kept = (repr(value) for name in others for value in (name, *table[name].to_pylist()))
    inputs = {"pairs": len(table), "sha256": hash_texts(chain(texts, kept))}
    return {"task": spec.model_dump(mode="json"), "inputs": inputs}


def scorable(dataset: Dataset | pa.Table) -> pa.Table:
    """Pairs as a table, in which the columns are there and every text is one."""
    table = as_table(dataset)
    names = table.column_names
    missing = [name for name in (SENTENCE1, SENTENCE2) if name not in names]
    if missing or not (SCORE in names or LABEL in names):
        raise DatasetError(
            f"the pairs have the columns {names}; expected {SENTENCE1}, {SENTENCE2}, and {SCORE} or {LABEL}"
        )
    if not len(table):
        raise DatasetError("there is no pair to score")
    for name in (SENTENCE1, SENTENCE2):
        texts = table[name].to_pylist()
        row = next((i for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()), None)
        if row is not None:
            raise DatasetError(f"column {name!r} is {texts[row]!r} in row {row}; expected a text")
    return table


def _schema(given: pa.Schema) -> pa.Schema:
    """The given columns and the new ones."""
    kept = [field for field in given if field.name not in (LOG_PROBS, PLAIN_LOG_PROB, NUM_TOKENS)]
    new = [(NUM_TOKENS, pa.int64()), (LOG_PROBS, pa.list_(pa.float64())), (PLAIN_LOG_PROB, pa.float64())]
    return pa.schema([*kept, *(pa.field(name, kind) for name, kind in new)])


def _with_scores(row: dict[str, Any], scored: Scored) -> dict[str, Any]:
    log_probs = [round(value, 4) for value in scored.log_probs or ()]
    plain = None if scored.plain_log_prob is None else round(scored.plain_log_prob, 4)
    return row | {NUM_TOKENS: scored.num_tokens, LOG_PROBS: log_probs, PLAIN_LOG_PROB: plain}
