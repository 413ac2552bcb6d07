"""Batches: which pairs meet in a step, and their tokens, which are made once and ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler, NoDuplicatesBatchSampler
from torch.utils.data import RandomSampler
from transformers import PreTrainedTokenizerBase

from dino_st.data.columns import SCORE, SENTENCE1, SENTENCE2
from dino_st.support.hashes import random_bits, random_order
from dino_st.support.progress import progress

_MOST_STRATA = 10

Preprocess: TypeAlias = Callable[..., dict[str, Any]]
"""Makes the features of a batch of texts, as `SentenceTransformer.preprocess` does."""

_AT_ONCE, _MANY = 1024, 50_000
"""Texts that are tokenized together, and that take long enough to show progress."""

_MOST_AHEAD = 1_000_000
"""Rows of whose texts the tokens are made ahead, and kept in memory."""

_SAMPLE = 64
"""Texts by which it is seen what an encoder makes of a batch."""

_TOKENS = ("input_ids", "attention_mask", "token_type_ids")


def scores_of(pairs: Dataset) -> npt.NDArray[np.float64]:
    """The scores of pairs, shape `(pairs,)`, without a Python object for each."""
    scores: npt.NDArray[np.float64] = pairs.with_format("arrow", columns=[SCORE])[:][SCORE].to_numpy()
    return scores.astype(np.float64)


def lengths_of(pairs: Dataset) -> npt.NDArray[np.int64]:
    """The characters of the longer text of each pair, shape `(pairs,)`: what a batch has to be padded to."""
    columns = pairs.with_format("arrow", columns=[SENTENCE1, SENTENCE2])[:]
    longer = pc.max_element_wise(*(pc.utf8_length(columns[name]) for name in (SENTENCE1, SENTENCE2)))
    lengths: npt.NDArray[np.int64] = longer.to_numpy().astype(np.int64)
    return lengths


def batches_by_kind(
    dataset: Dataset, batch_size: int, *, pairs_batch_size: int, pairs_sampler: Any = None, **named: Any
) -> Any:
    """Batches of what is contrasted hold no text twice; those of pairs with scores are any. Checkpoints pickle this.

    So texts for one x1 never meet as each other's negatives.
    """
    if SCORE not in dataset.column_names:
        return NoDuplicatesBatchSampler(dataset, batch_size=batch_size, **named)
    if pairs_sampler is not None:
        return pairs_sampler(dataset, batch_size=pairs_batch_size, **named)
    order = RandomSampler(dataset, generator=named.get("generator"))
    return DefaultBatchSampler(order, batch_size=pairs_batch_size, **named)


class OrderedBatches(DefaultBatchSampler):
    """Goes through the pairs once an epoch, in an order that depends on seed and epoch alone.

    A batch sampler of `SentenceTransformerTrainingArguments`; `model.fit` ignores batch samplers.
    """

    def order(self, pairs: Dataset, bits: np.random.PCG64) -> npt.NDArray[np.int64]:
        """The order of an epoch, shape `(pairs,)`."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the positions of the pairs of each batch."""
        pairs: Any = self.sampler  # what the base class calls the data set
        order = self.order(pairs, random_bits(self.seed, self.epoch)).tolist()
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch


class BalancedBatches(OrderedBatches):
    """Batches in which every score has about its share."""

    def order(self, pairs: Dataset, bits: np.random.PCG64) -> npt.NDArray[np.int64]:
        """The pairs in a balanced order."""
        return balanced_order(scores_of(pairs), bits)


class SortedBatches(OrderedBatches):
    """Batches of pairs of about the same length, so that little of a batch is padding."""

    def __init__(self, dataset: Dataset, *, window: int, **named: Any) -> None:
        super().__init__(dataset, **named)
        self.window = window

    def order(self, pairs: Dataset, bits: np.random.PCG64) -> npt.NDArray[np.int64]:
        """The pairs sorted by length within so many shuffled batches."""
        return sorted_order(lengths_of(pairs), self.batch_size, self.window, bits)


def balanced_order(scores: npt.NDArray[np.float64], bits: np.random.PCG64) -> npt.NDArray[np.int64]:
    """A random order of pairs, shape `(pairs,)`, in which every stretch has about the same share of each score.

    Pairs of one score are shuffled and then laid out at equal distances over the whole order, from a random place on.
    Where there are more than ten different scores, as with targets that are mixed with the posterior, ten intervals of
    equal width between the lowest and the highest stand for scores. Among any B in a row are B times the share of a
    score, give or take a few.
    """
    distinct, stratum = np.unique(scores, return_inverse=True)
    if len(distinct) > _MOST_STRATA:
        edges = np.linspace(distinct[0], distinct[-1], _MOST_STRATA + 1)[1:-1]
        stratum = np.unique(np.digitize(scores, edges), return_inverse=True)[1]
    shuffled = random_order(len(scores), bits)
    places = np.empty(len(scores))
    for number in range(int(stratum.max(initial=-1)) + 1):
        members = shuffled[stratum[shuffled] == number]
        start = int(bits.random_raw() >> 11) * 2.0**-53
        places[members] = (np.arange(len(members)) + start) / len(members)
    order: npt.NDArray[np.int64] = np.argsort(places, kind="stable")
    return order


def sorted_order(
    lengths: npt.NDArray[np.int64], batch_size: int, window: int, bits: np.random.PCG64
) -> npt.NDArray[np.int64]:
    """A random order of pairs, shape `(pairs,)`, sorted by length within every `window` batches.

    The whole batches of a window are shuffled again, so that no step knows how long the next one's texts are.
    """
    order = random_order(len(lengths), bits)
    for start in range(0, len(order), batch_size * window):
        part = order[start : start + batch_size * window]
        part = part[np.argsort(lengths[part], kind="stable")]
        whole = len(part) - len(part) % batch_size
        batches = part[:whole].reshape(-1, batch_size)
        order[start : start + whole] = batches[random_order(len(batches), bits)].ravel()
        order[start + whole : start + len(part)] = part[whole:]
    return order


def texts_of(parts: Iterable[Dataset], rows: int | None = None) -> list[str]:
    """The different texts of data sets, or of about so many rows of each, from its beginning to its end."""
    found: dict[str, None] = {}
    for part in parts:
        for column in part.with_format("arrow")[:: 1 if rows is None else len(part) // rows + 1].columns:
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                found |= dict.fromkeys(column.unique().to_pylist())
    return list(found)


def tokens_ahead(model: SentenceTransformer, parts: Sequence[Dataset], prompt: str | None) -> Preprocess:
    """Gives `model.preprocess` for the texts of data sets, which are tokenized here and now, or itself.

    Itself where a sample shows that the encoder makes something else of a batch than token ids, padded to the longest
    text, a mask and token types of 0; and where there are more texts than memory should hold once more.
    """
    plain: Preprocess = model.preprocess
    if sum(map(len, parts)) > _MOST_AHEAD or not isinstance(model.tokenizer, PreTrainedTokenizerBase):
        return plain
    texts = texts_of(parts)
    sample = list(dict.fromkeys([*texts[:_SAMPLE], max(texts, key=len)]))
    if not {"input_ids", "attention_mask"} <= plain(sample, prompt=prompt).keys():
        return plain
    looked_at = TokensAhead(model, sample, prompt)
    batches = [sample, sample[-1:], *([text] for text in sample[:3])]
    if all(_same(plain(batch, prompt=prompt), looked_at(batch, prompt=prompt)) for batch in batches):
        return TokensAhead(model, texts, prompt)
    return plain


def _same(ones: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether features have the same names, in the same order, types and values."""
    return list(ones) == list(others) and all(
        one.dtype == other.dtype and torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        for one, other in zip(ones.values(), others.values(), strict=True)
    )


class TokensAhead:
    """What `model.preprocess` makes of texts, which are tokenized ahead and padded for their batch.

    Each text is tokenized once, whatever the number of epochs and of pairs that it stands in, and in large batches that
    the tokenizer spreads over the processors.
    """

    def __init__(self, model: SentenceTransformer, texts: Sequence[str], prompt: str | None) -> None:
        self.preprocess, self.prompt = model.preprocess, prompt
        tokenizer: Any = model.tokenizer
        self._on_left, self._padding = tokenizer.padding_side == "left", tokenizer.pad_token_id
        self._place = {text: place for place, text in enumerate(texts)}
        tokens, lengths = [], []
        with progress("tokenizing", len(texts), "texts", shown=len(texts) > _MANY) as advance:
            for start in range(0, len(texts), _AT_ONCE):
                features = self.preprocess(texts[start : start + _AT_ONCE], prompt=prompt)
                kept = features["attention_mask"].bool()
                tokens.append(features["input_ids"][kept].numpy().astype(np.int32))
                lengths.append(kept.sum(1).numpy())
                advance(len(kept))
        self._others = {name: None if name in _TOKENS else value for name, value in features.items()}
        self._tokens, self._lengths = np.concatenate(tokens), np.concatenate(lengths)
        self._ends = np.cumsum(self._lengths)

    def __call__(self, inputs: Sequence[Any], prompt: str | None = None, task: str | None = None) -> dict[str, Any]:
        """The features of a batch of texts."""
        places = [self._place[text] for text in inputs if text in self._place]
        if prompt != self.prompt or task is not None or len(places) < len(inputs):
            return self.preprocess(inputs, prompt=prompt, task=task)
        lengths, ends = self._lengths[places], self._ends[places]
        width = int(lengths.max())
        place = np.arange(width) + (lengths[:, None] - width) * self._on_left  # of each token in its text
        kept = (place >= 0) & (place < lengths[:, None])
        ids = np.full(kept.shape, self._padding, np.int64)
        ids[kept] = self._tokens[(place + (ends - lengths)[:, None])[kept]]
        made = dict(zip(_TOKENS, (ids, kept.astype(np.int64), np.zeros_like(ids)), strict=True))
        return {name: torch.from_numpy(made[name]) if name in made else value for name, value in self._others.items()}
