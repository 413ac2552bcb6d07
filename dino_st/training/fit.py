"""The adapter to `SentenceTransformer.fit`: examples, a loader that refuses what `fit` gets wrong, and its warm-up."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from dino_st.data.columns import PAIR_COLUMNS, SENTENCE1, SENTENCE2, numeric_pairs, refuse_blank
from dino_st.encoders.loading import narrow_weights
from dino_st.errors import ConfigurationError, DatasetError, DinoWarning
from dino_st.training.options import TrainingOptions

_DEFAULTS = TrainingOptions()

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import InputExample, SentenceTransformer


class FitDataLoader(DataLoader[Any]):
    """A loader of `InputExample` batches that warns where `fit` would train in another way than it seems.

    `fit` reads the loader once, as lists of examples, whatever the collate function; so this one collates to lists
    as well. `fit` warms up for 10,000 steps unless told otherwise. On a set with fewer steps than that the learning
    rate never gets near its peak, and hardly anything is learned, silently.
    """

    def __init__(self, examples: Sequence[InputExample], *, batch_size: int, shuffle: bool, seed: int) -> None:
        super().__init__(
            examples,  # type: ignore[arg-type]
            batch_size=batch_size,
            shuffle=shuffle,
            collate_fn=list,
            generator=torch.Generator().manual_seed(seed),
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        from sentence_transformers import SentenceTransformer

        reader = dict(sys._getframe(1).f_locals)  # those of `fit`, which hands its loader neither model nor options
        if isinstance(reader.get("self"), SentenceTransformer) and {"warmup_steps", "epochs"} <= reader.keys():
            _warn_of_schedule(self, reader)
            _warn_of_model(reader["self"])
            _check_reach(self, zip(reader.get("data_loaders", ()), reader.get("loss_fns", ()), strict=True))
            # The trainer behind fit asks for pinned memory everywhere, and fit has no option to leave it.
            message = "'pin_memory' argument is set as true but no accelerator"
            warnings.filterwarnings("ignore", message, UserWarning, r"torch\.utils\.data")
        return super().__iter__()


_WASTED = 0.2
"""Share of the steps for which no learning rate is left, from which on it is told."""


def _warn_of_schedule(loader: FitDataLoader, reader: Mapping[str, Any]) -> None:
    """Warns where the learning rate of a call of `fit`, whose variables are given, stays low, or ends before its steps.

    It falls to zero within as many steps as there are whole batches; those of what is left over in each epoch follow.
    """
    warmup, epochs, objectives = reader["warmup_steps"], reader["epochs"], reader.get("data_loaders") or [loader]
    given = reader.get("steps_per_epoch") or 0
    steps = (given or min(map(len, objectives))) * len(objectives) * epochs
    if warmup > steps:
        warnings.warn(
            f"model.fit would warm up for {warmup:,} steps (its default is 10,000) and train for {steps:,}: the "
            "learning rate would not reach its peak. Call model.fit(train_objectives=[(loader, loss)], "
            "warmup_steps=warmup_steps(loader, epochs), epochs=epochs) with `from dino_st import warmup_steps`.",
            DinoWarning,
            stacklevel=4,
        )
    left = 0 if given or len(objectives) > 1 else len(loader) - _whole_batches(loader)
    if left >= _WASTED * len(loader):
        pairs = len(loader.dataset)  # type: ignore[arg-type]
        warnings.warn(
            f"model.fit schedules {steps - left * epochs} steps for {pairs} pairs in batches of {loader.batch_size}, "
            f"and makes {steps}: at the last {left * epochs} the learning rate is zero. Choose a batch_size of which "
            f"whole batches make up the pairs, or nearly, such as {pairs // len(loader)}",
            DinoWarning,
            stacklevel=4,
        )


def _whole_batches(loader: DataLoader[Any]) -> int:
    """Batches that are as large as asked for, of which `fit` makes its schedule; all of what is no DataLoader."""
    rows, size = getattr(loader, "dataset", None), getattr(loader, "batch_size", None)
    return len(loader) if size is None or not isinstance(rows, Sized) else len(rows) // size


def _check_reach(loader: FitDataLoader, objectives: Iterable[tuple[Any, Any]]) -> None:
    """Raises where a loss that fits cosines is to be trained on scores that no cosine has."""
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    examples: Any = loader.dataset
    scores = [example.label for example in examples]
    is_off = min(scores) < -1 or max(scores) > 1
    if is_off and any(other is loader and isinstance(loss, CosineSimilarityLoss) for other, loss in objectives):
        raise DatasetError(
            f"scores range from {min(scores):g} to {max(scores):g}, and CosineSimilarityLoss fits cosines, which lie "
            "between -1 and 1; bring the scores there, or take CoSENTLoss, which looks at their order alone"
        )


def _warn_of_model(model: SentenceTransformer) -> None:
    """Warns if `fit` would train a model in another way than it is used."""
    if narrow := narrow_weights(model):
        warnings.warn(
            f"the model's weights are {narrow}, in which small updates are lost: call model.float() before model.fit, "
            "or load it with dino_st.encoders.loading.load_trainable_encoder",
            DinoWarning,
            stacklevel=4,
        )
    if prompt := model.prompts.get(model.default_prompt_name or ""):
        warnings.warn(
            f"model.encode puts the default prompt {prompt!r} before each sentence, and model.fit does not: set "
            "model.default_prompt_name = None, or train with dino_st.train_encoder, which does",
            DinoWarning,
            stacklevel=4,
        )


def to_input_examples(dataset: Dataset) -> list[InputExample]:
    """Turns pairs into the examples that `SentenceTransformer.fit` and the evaluators read.

    Args:
        dataset: Pairs with `sentence1`, `sentence2` and `score`; further columns never become text.

    Returns:
        One example for each row, in order: `texts` holds the two sentences, `label` the score as a float.

    Raises:
        DatasetError: A column is missing, the labels are not numbers, or a value is missing or not finite.
    """
    from sentence_transformers import InputExample

    table = numeric_pairs(dataset)
    refuse_blank(table, (SENTENCE1, SENTENCE2), "the data set")
    columns = (table[column].to_pylist() for column in PAIR_COLUMNS)
    return [InputExample(texts=[first, second], label=score) for first, second, score in zip(*columns, strict=True)]


def to_dataloader(
    dataset: Dataset | Sequence[InputExample],
    *,
    batch_size: int = _DEFAULTS.batch_size,
    shuffle: bool = True,
    seed: int = _DEFAULTS.seed,
) -> FitDataLoader:
    """Makes the loader for `model.fit(train_objectives=[(loader, loss)], warmup_steps=warmup_steps(loader))`.

    What `fit` would train on wrongly without a word is refused here: labels that are all zero (it drops them and
    the loss crashes), fewer rows than a batch (it schedules no step, so the learning rate is zero), examples of
    different lengths (it cuts them), columns beyond the pair (they would be text), and, when `fit` is called, scores
    beyond -1 and 1 for `CosineSimilarityLoss`. A warning comes when `fit` is
    called with a warm-up that is longer than the training, as its default is on small sets, where it learns nothing.

    Args:
        dataset: Pairs with `sentence1`, `sentence2` and `score`, or examples made from pairs.
        batch_size: Pairs in a batch.
        shuffle: Whether the order is random.
        seed: Seed of the random order.

    Returns:
        A `torch.utils.data.DataLoader` whose batches are lists of `InputExample`.

    Raises:
        ConfigurationError: The batch size is not positive.
        DatasetError: The data cannot be trained on; the message says why and what to do.
    """
    from datasets import Dataset

    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}; expected at least 1")
    if isinstance(dataset, Dataset | dict) or hasattr(dataset, "columns"):
        examples = to_input_examples(dataset)  # which refuses what is no data set
    else:
        examples = list(dataset)
        _check_examples(examples)
    if len(examples) < batch_size:
        raise DatasetError(
            f"{len(examples)} pairs are fewer than a batch of {batch_size}: model.fit would train nothing, silently. "
            "Pass a smaller batch_size or generate more pairs"
        )
    if all(example.label == 0 for example in examples):
        raise DatasetError(
            "all scores are 0: model.fit would drop them. Train on pairs with different scores, such as 0, 0.5 and 1"
        )
    return FitDataLoader(examples, batch_size=batch_size, shuffle=shuffle, seed=seed)


def _check_examples(examples: Sequence[InputExample]) -> None:
    """Raises unless every example is two texts and a number."""
    for row, example in enumerate(examples):
        texts = getattr(example, "texts", None)
        if not isinstance(texts, list | tuple) or len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise DatasetError(
                f"example {row} has the texts {texts!r}; expected two in every example (model.fit cuts examples of "
                "different lengths to the shortest, silently)"
            )
        label = example.label
        if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
            raise DatasetError(
                f"example {row} has the label {label!r}; the training part is for numeric labels, such as 0.5"
            )


def warmup_steps(loader: DataLoader[Any], epochs: int = _DEFAULTS.epochs, share: float = _DEFAULTS.warmup_share) -> int:
    """The warm-up that `model.fit` should be called with: a share of all steps, rounded up, but never all of them.

    Args:
        loader: What `to_dataloader` returned, or any `DataLoader`.
        epochs: Passes over the data, as given to `fit`.
        share: Share of the steps in which the learning rate rises from zero to its peak.

    Returns:
        Steps; the ceiling of `share * epochs * len(loader)`, and fewer than `fit` makes its schedule for, which are
        those of whole batches: at the end of it the learning rate is zero.

    Raises:
        ConfigurationError: `epochs` is not positive or `share` is not between 0 and 1.
    """
    if epochs < 1:
        raise ConfigurationError(f"epochs is {epochs}; expected at least 1")
    if not 0 <= share <= 1:
        raise ConfigurationError(f"share is {share}; expected a number from 0 to 1")
    wanted = math.ceil(Fraction(str(share)) * epochs * len(loader))
    return max(0, min(wanted, epochs * _whole_batches(loader) - 1))
