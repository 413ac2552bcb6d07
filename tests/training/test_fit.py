"""The traps of `SentenceTransformer.fit`, shown on `fit` itself, and the guards against them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from datasets import Dataset, DatasetDict
from packaging.version import Version
from sentence_transformers import InputExample, SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, CosineSimilarityLoss
from torch.utils.data import DataLoader

from dino_st.errors import ConfigurationError, DatasetError, DinoWarning
from dino_st.training.fit import to_dataloader, to_input_examples, warmup_steps
from tests.training_fixtures import prepared_splits, raw_pairs, tiny_encoder

pytestmark = pytest.mark.filterwarnings(
    "ignore:'pin_memory' argument is set as true but no accelerator:UserWarning",
)
PAIRS = {"sentence1": ["a b", "ü"], "sentence2": ["c", 'said "d"'], "score": [0.5, 1.0]}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SentenceTransformer:
    monkeypatch.chdir(tmp_path)  # fit writes ./checkpoints
    return tiny_encoder(tmp_path / "encoder")


@pytest.fixture
def train() -> Dataset:
    return prepared_splits(64, 8)["train"]


def fit(model: SentenceTransformer, loader: DataLoader[Any], **options: Any) -> float:
    """Runs fit with a rate at which one step is visible, and says how far any weight has moved."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.fit(
        train_objectives=[(loader, CosineSimilarityLoss(model))],
        optimizer_params={"lr": 1e-2},
        show_progress_bar=False,
        **options,
    )
    return max(float((weight.detach() - before[name]).abs().max()) for name, weight in model.named_parameters())


def plain_loader(examples: list[InputExample], batch_size: int) -> DataLoader[Any]:
    return DataLoader(examples, batch_size=batch_size)  # type: ignore[arg-type]


def test_fit_learns_from_the_loader_with_the_warmup_it_is_told(model: SentenceTransformer, train: Dataset) -> None:
    loader = to_dataloader(train, batch_size=8)
    assert fit(model, loader, warmup_steps=warmup_steps(loader)) > 1e-3


def test_examples_hold_two_texts_and_the_score_whatever_other_columns_there_are() -> None:
    examples = to_input_examples(Dataset.from_dict({"note": ["n", "m"], "x1_index": [0, 1], **PAIRS}))
    assert [(example.texts, example.label) for example in examples] == [(["a b", "c"], 0.5), (["ü", 'said "d"'], 1.0)]


def test_examples_follow_a_selection_of_rows() -> None:
    chosen = Dataset.from_dict(PAIRS).select([1])
    assert [example.texts[0] for example in to_input_examples(chosen)] == ["ü"]


@pytest.mark.parametrize(("steps", "epochs", "expected"), [(70, 1, 7), (71, 1, 8), (3, 1, 1), (30, 2, 6), (1, 1, 0)])
def test_warmup_is_a_tenth_of_all_steps_rounded_up_but_never_all(steps: int, epochs: int, expected: int) -> None:
    assert warmup_steps(range(steps), epochs) == expected  # type: ignore[arg-type]


def test_warmup_refuses_what_is_out_of_range() -> None:
    with pytest.raises(ConfigurationError, match="share is 2"):
        warmup_steps(range(3), share=2)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="epochs is 0"):
        warmup_steps(range(3), epochs=0)  # type: ignore[arg-type]


def test_batches_are_lists_of_examples_in_a_seeded_order(train: Dataset) -> None:
    def order(seed: int, shuffle: bool = True) -> list[str]:
        batches = list(to_dataloader(train, batch_size=10, shuffle=shuffle, seed=seed))
        assert [len(batch) for batch in batches] == [10] * 6 + [4]
        return [" | ".join(example.texts) for batch in batches for example in batch]

    given = [f"{row['sentence1']} | {row['sentence2']}" for row in train]
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1, shuffle=False) == given
    assert sorted(order(1)) == sorted(given)


def test_trap_of_fit_the_default_warmup_hardly_moves_a_weight(model: SentenceTransformer, train: Dataset) -> None:
    moved = fit(model, plain_loader(to_input_examples(train), 8))
    # Eight steps of 10,000: the rate is at most 0.08 % of 1e-2, so eight Adam steps move a weight less than 1e-4.
    assert moved < 1e-4


def test_the_default_warmup_warns_with_the_call_to_make(model: SentenceTransformer, train: Dataset) -> None:
    loader = to_dataloader(train, batch_size=8)
    with pytest.warns(
        DinoWarning, match=r"for 10,000 steps .* train for 8: .*warmup_steps=warmup_steps\(loader, epochs\)"
    ):
        fit(model, loader)


def test_the_warning_points_at_the_line_that_calls_fit(model: SentenceTransformer, train: Dataset) -> None:
    loader = to_dataloader(train, batch_size=8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, loader)
    ours = [warning for warning in caught if issubclass(warning.category, DinoWarning)]
    assert [Path(warning.filename).name for warning in ours] == ["test_fit.py"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("options", [{"warmup_steps": 2}, {"warmup_steps": 16, "epochs": 2}])
def test_a_warmup_that_fits_the_training_gives_no_warning_whoever_computed_it(
    options: dict[str, int], model: SentenceTransformer, train: Dataset
) -> None:
    fit(model, to_dataloader(train, batch_size=8), **options)


@pytest.mark.filterwarnings("error")
def test_who_reads_the_loader_without_fit_is_not_warned_of_fit(train: Dataset) -> None:
    assert len(list(to_dataloader(train, batch_size=8))) == 8


def test_trap_of_fit_all_zero_labels_lose_the_label_column_and_crash(model: SentenceTransformer) -> None:
    examples = [InputExample(texts=["a dog", "a cat"], label=0.0)] * 8
    with pytest.raises(AttributeError, match="NoneType"):
        fit(model, plain_loader(examples, 4), warmup_steps=1)
    with pytest.raises(DatasetError, match=r"all scores are 0: model\.fit would drop them"):
        to_dataloader(examples, batch_size=4)


def test_trap_of_fit_fewer_rows_than_a_batch_train_nothing(model: SentenceTransformer, train: Dataset) -> None:
    assert fit(model, plain_loader(to_input_examples(train.select(range(7))), 8), warmup_steps=1) == 0
    with pytest.raises(DatasetError, match=r"7 pairs are fewer than a batch of 8: model\.fit would train nothing"):
        to_dataloader(train.select(range(7)), batch_size=8)


def test_exactly_one_batch_is_enough_to_train(model: SentenceTransformer, train: Dataset) -> None:
    loader = to_dataloader(train.select(range(8)), batch_size=8)
    assert warmup_steps(loader, epochs=4) == 1
    assert fit(model, loader, warmup_steps=1, epochs=4) > 1e-3


@pytest.mark.parametrize(("rows", "epochs"), [(8, 1), (9, 1), (15, 1), (15, 2), (16, 1), (31, 1)])
def test_a_set_of_hardly_more_than_a_batch_is_trained(
    rows: int, epochs: int, model: SentenceTransformer, train: Dataset
) -> None:
    loader = to_dataloader(train.select(range(rows)), batch_size=8)
    told = pytest.warns(DinoWarning, match="the learning rate is zero") if rows % 8 else contextlib.nullcontext()
    with told:
        assert fit(model, loader, warmup_steps=warmup_steps(loader, epochs), epochs=epochs) > 1e-3


def test_steps_for_which_fit_leaves_no_learning_rate_are_told_with_a_size_that_helps(
    model: SentenceTransformer, train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *args: rates.append(self.param_groups[0]["lr"]) or step(self, *args)
    )
    loader = to_dataloader(train.select(range(31)), batch_size=16)
    with pytest.warns(DinoWarning, match=r"schedules 5 steps for 31 .* makes 10: at the last 5 .* such as 15"):
        fit(model, loader, warmup_steps=warmup_steps(loader, 5), epochs=5)
    assert len(rates) == 10
    assert rates[-5:] == [0] * 5


def test_trap_of_fit_mixed_lengths_are_cut_to_the_shortest(
    model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [InputExample(texts=["a", "b", "c"], label=1.0), InputExample(texts=["d", "e"], label=0.5)]
    seen: list[dict[str, list[Any]]] = []
    make = Dataset.from_dict
    with monkeypatch.context() as patch:
        patch.setattr(
            "sentence_transformers.sentence_transformer.fit_mixin.Dataset.from_dict",
            lambda columns: seen.append(columns) or make(columns),
        )
        fit(model, plain_loader(examples, 2), warmup_steps=1)
    assert [sorted(columns) for columns in seen][:1] == [["sentence_0", "sentence_1"]]
    with pytest.raises(DatasetError, match=r"example 0 has the texts \['a', 'b', 'c'\]; expected two"):
        to_dataloader(examples, batch_size=2)


@pytest.mark.parametrize(("make", "way"), [(pandas.DataFrame, "from_pandas"), (dict, "from_dict")])
def test_what_is_no_data_set_is_named_with_what_makes_one(make: Callable[[Any], Any], way: str) -> None:
    for take in (to_dataloader, to_input_examples):
        with pytest.raises(DatasetError, match=rf"is a {make.__name__}; expected a datasets.Dataset, as Dataset.{way}"):
            take(make(PAIRS))
    with pytest.raises(DatasetError, match=r"has the splits \['train'\]"):
        to_dataloader(DatasetDict(train=Dataset.from_dict(PAIRS)))  # type: ignore[arg-type]


def test_extra_columns_never_become_text() -> None:
    loader = to_dataloader(raw_pairs(4), batch_size=4)
    warmup_steps(loader)
    assert {len(example.texts) for batch in loader for example in batch} == {2}


@pytest.mark.parametrize("label", ["sports", None, True, float("nan")])
def test_labels_that_are_not_numbers_are_refused(label: Any) -> None:
    with pytest.raises(DatasetError, match=r"example 0 has the label .*; the training part is for numeric labels"):
        to_dataloader([InputExample(texts=["a", "b"], label=label)], batch_size=1)


def test_a_data_set_of_words_is_refused() -> None:
    words = Dataset.from_dict({"sentence1": ["a"], "sentence2": ["b"], "label": ["sports"]})
    with pytest.raises(DatasetError, match="the training part is for numeric labels"):
        to_dataloader(words, batch_size=1)


def test_a_batch_size_below_one_is_refused(train: Dataset) -> None:
    with pytest.raises(ConfigurationError, match="batch_size is 0"):
        to_dataloader(train, batch_size=0)


def test_an_epoch_of_fit_takes_as_many_steps_as_the_warmup_counts(
    model: SentenceTransformer, train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = to_dataloader(train.select(range(44)), batch_size=8)
    steps = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *args: steps.append(1) or step(self, *args))
    fit(model, loader, warmup_steps=warmup_steps(loader))
    assert len(steps) == len(loader) == 6


def test_fit_trains_half_the_bits_and_without_the_prompt_and_the_loader_says_so(
    model: SentenceTransformer, train: Dataset
) -> None:
    loader = to_dataloader(train, batch_size=8)
    steps = warmup_steps(loader)
    # Older versions of torch do not train such a model at all; the warning has told by then.
    old = Version(torch.__version__) < Version("2.12")
    outcome = pytest.raises(RuntimeError, match="expected BFloat16") if old else contextlib.nullcontext()
    with pytest.warns(DinoWarning, match=r"weights are bfloat16, .*: call model\.float\(\) before model\.fit"), outcome:
        fit(model.bfloat16(), loader, warmup_steps=steps)
    model.float()
    model.prompts["mine"], model.default_prompt_name = "query: ", "mine"
    with pytest.warns(DinoWarning, match=r"model\.encode puts the default prompt 'query: ' before each sentence"):
        fit(model, loader, warmup_steps=steps)


def test_fit_refuses_scores_that_no_cosine_has_for_the_loss_that_fits_cosines(
    model: SentenceTransformer, train: Dataset
) -> None:
    wide = train.map(lambda row: {"score": 5 * row["score"]})
    loader = to_dataloader(wide, batch_size=8)
    with pytest.raises(DatasetError, match=r"scores range from 0 to 5, and CosineSimilarityLoss .* take CoSENTLoss"):
        model.fit([(loader, CosineSimilarityLoss(model))], warmup_steps=1, show_progress_bar=False)
    model.fit([(loader, CoSENTLoss(model))], warmup_steps=1, show_progress_bar=False)
