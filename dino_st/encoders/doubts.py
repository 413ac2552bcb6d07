"""Signs that files of a model do not belong together, though their shapes fit: told, since none of them is a proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dino_st.encoders.directory import LAYER

_ALIKE = (
    "two three|dog dogs|man woman|red blue|king queen|car cars|play playing|good bad|big small|first second"
    "|he she|his her|eat drink|day night|is was|has have|north south|brother sister|walk walking|city town"
    "|house home|year years|day days|boy girl|black white|four five|old new|open close|hot cold|summer winter"
    "|mother father|water river|doctor hospital"
)
"""Words of which every embedding that was trained on English has two and two nearer than others."""

_ENOUGH, _SURE = 12, 5
_BEFORE_WORDS = ("Ġ", "▁", "")


def vocabulary_doubt(vocabulary: Mapping[str, int], embedding: Any) -> str:
    """Says, if so, that words which mean alike are no more alike in an embedding than others: its words are not these.

    So it is where the numbers of a vocabulary are shifted, or are another model's, and where nothing was trained. The
    difference of the mean cosines is compared with its standard error: with five models it was 8 to 36 times as large,
    and at most 4 times where their vocabularies were shifted. A vocabulary with few of the words has no say.
    """
    import torch

    numbers = [[_number(vocabulary, word) for word in pair.split()] for pair in _ALIKE.split("|")]
    pairs = [pair for pair in numbers if None not in pair]
    if len(pairs) < _ENOUGH or embedding.is_meta:
        return ""
    rows = embedding[torch.tensor(pairs, device=embedding.device)].detach().float().cpu()
    rows = torch.nn.functional.normalize(rows - rows.mean((0, 1)), dim=-1)
    cosines = rows[:, 0] @ rows[:, 1].T
    alike, others = cosines.diagonal(), cosines[~torch.eye(len(pairs), dtype=torch.bool)]
    if alike.mean() - others.mean() >= _SURE * others.std() / len(pairs) ** 0.5:
        return ""
    return (
        "words that mean alike, such as 'two' and 'three', are no more alike in its embedding than others, as if the "
        "vocabulary were shifted or another model's, or nothing had been trained; take the tokenizer of these weights"
    )


_FEW_ZEROS, _SHARE_OF_ZEROS = 256, 0.01
"""Rows of zeros that any embedding may have: those of single bytes, or a share of the words, that no text had."""


def zeros_doubt(model: Any, embedding: Any, vocabulary: Mapping[str, int]) -> str:
    """Says, if so, that words of a vocabulary, or whole matrices of a model's layers, have no weight but zero.

    So it is where a file was allocated and its content never came. Rows beyond the vocabulary may be zero.
    """
    found = []
    if embedding is not None and not embedding.is_meta:
        is_zero = ~embedding.detach().any(1).cpu()
        numbers = [number for number in set(vocabulary.values()) if 0 <= number < len(is_zero)]
        zeros = int(is_zero[numbers].sum())
        if zeros > max(_FEW_ZEROS, _SHARE_OF_ZEROS * len(numbers)):
            found.append(f"the vectors of {zeros} of its {len(numbers)} tokens")
    empty = [name for name, weight in model.named_parameters() if LAYER.match(name) and _is_empty(weight)]
    if empty:
        found.append(f"{len(empty)} weight matrices of its layers, such as {empty[0]!r},")
    if not found:
        return ""
    return f"{' and '.join(found)} are nothing but zeros, as after a broken download; fetch or train the model again"


def _is_empty(weight: Any) -> bool:
    """Whether a matrix holds zeros alone; its first row, which is quick, mostly tells."""
    return weight.ndim > 1 and not weight.is_meta and not weight[:1].any() and not weight.any()


def kind_doubt(config: Any) -> str:
    """Says, if so, that a configuration names the architecture of another kind of model than its `model_type`."""
    from transformers.models.auto import modeling_auto

    tables = [table for name, table in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")]
    for named in getattr(config, "architectures", None) or ():
        kinds = {kind for table in tables for kind, model in table.items() if named in (model, *_several(model))}
        if kinds and config.model_type not in kinds and not getattr(config, "auto_map", None):
            return (
                f"config.json names {named}, which is no model of its model_type {config.model_type!r}; if the type is "
                "wrong, the weights are read as what they are not"
            )
    return ""


def _several(models: Any) -> tuple[str, ...]:
    return models if isinstance(models, tuple) else ()


def position_doubt(transformer: Any) -> str:
    """Says, if so, that the positions of BERT are counted as those of RoBERTa, or the other way round.

    RoBERTa counts on from the padding, whose own row stays empty, so that it has two rows more than positions.
    """
    for name, module in transformer.named_modules():
        weight = getattr(module, "weight", None)
        if not name.endswith("position_embeddings") or weight is None or weight.ndim != 2 or weight.shape[0] < _LEAST:
            continue
        padding, rows = getattr(module, "padding_idx", None), weight.shape[0]
        if padding is not None and _is_round(rows) and weight[padding].any():
            return _counted_as("RoBERTa", "BERT", rows)
        if padding is None and _is_round(rows - 2) and not weight[1].any():
            return _counted_as("BERT", "RoBERTa", rows)
    return ""


_LEAST = 32


def _is_round(number: int) -> bool:
    return number & (number - 1) == 0


def _counted_as(kind: str, other: str, rows: int) -> str:
    return (
        f"its model_type counts positions as {kind} does, but the {rows} rows of its positions are those of a {other}; "
        "copy the config.json that belongs to the weights"
    )


def _number(vocabulary: Mapping[str, int], word: str) -> int | None:
    return next((vocabulary[sign + word] for sign in _BEFORE_WORDS if sign + word in vocabulary), None)
