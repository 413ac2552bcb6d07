"""In which forward passes of the encoder the texts of a batch are embedded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from sentence_transformers.base.losses.merged_forward import embed_columns, merge_feature_batches
from sentence_transformers.sentence_transformer import losses

_TOKENS_OF_A_PASS = 100
"""What a pass costs beside its tokens, in tokens.

Each has launches of its own, and a gradient of the whole embedding, which is written and added.
"""


def in_one_pass(loss: Any) -> Any:
    """Has losses encode the texts of a batch together, where they take whole columns of embeddings.

    sentence-transformers gives the first column a forward pass of its own, since it may hold queries that are much
    shorter than documents; the texts of our columns are alike. Its weights and gradients are those of separate passes
    but for rounding and dropout. Cached losses split their batches as they are told.
    """
    return _embedding_by(loss, lambda model, columns: embed_columns(model, columns, separate_first=False))


def in_passes_by_length(loss: Any) -> Any:
    """Has losses encode the texts of a batch in groups of about the same length, so that little is padding.

    That is for the CPU, on which padding costs what text costs. Weights and gradients are those of a pass for each
    column but for rounding and dropout. Where the texts of a batch cannot be put together, as those of static
    encoders, or their padding is on the left, each column is encoded by itself.
    """
    return _embedding_by(loss, _embed_by_length)


def in_mini_batches_by_length(loss: Any) -> Any:
    """Has a cached loss encode texts of about the same length together, so that little of a mini-batch is padding.

    Each column is sorted by itself, and its embeddings are put back in their order before they are compared: weights
    and gradients are the same but for rounding and dropout. Where the padding of a column is on the left, or
    there is none, the columns stay as they are.
    """
    embed, compare = loss.forward, loss.calculate_loss
    orders: list[torch.Tensor] = []

    def forward(columns: Iterable[dict[str, Any]], labels: torch.Tensor | None) -> torch.Tensor:
        columns = list(columns)
        lengths = map(_lengths, columns)
        orders[:] = [each.argsort(stable=True) for each in lengths if each is not None]
        if len(orders) == len(columns):
            columns = [_rows(*each) for each in zip(columns, orders, strict=True)]
        found: torch.Tensor = embed(columns, labels)
        return found

    def calculate_loss(parts: Sequence[Sequence[torch.Tensor]], *more: Any, **named: Any) -> torch.Tensor:
        if len(orders) < len(parts):
            as_they_are: torch.Tensor = compare(parts, *more, **named)
            return as_they_are
        with torch.no_grad():
            whole = [torch.cat([*each])[order.argsort()] for each, order in zip(parts, orders, strict=True)]
        for column in whole:
            column.requires_grad_(torch.is_grad_enabled())
        found: torch.Tensor = compare([[column] for column in whole], *more, **named)
        for column, order, own in zip(whole, orders, parts, strict=True):
            if column.grad is not None:  # as the loss leaves it for the second pass over the mini-batches
                sizes = [len(part) for part in own]
                for part, gradient in zip(own, torch.split(column.grad[order], sizes), strict=True):
                    part.grad = gradient
        return found

    loss.forward, loss.calculate_loss = forward, calculate_loss
    return loss


def parts_by_length(features: dict[str, Any], most: int) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
    """The texts of a column in parts of about the same length: their rows, and their features without needless padding.

    A part has so many texts, at most; with 0 all of them are one on a GPU, and on the CPU what costs least there.
    Where padding is on the left, or there is none, they stay in their order.
    """
    lengths = _lengths(features)
    if lengths is None:
        rows = torch.arange(len(features["input_ids"]), device=features["input_ids"].device)
        yield from ((part, _rows(features, part)) for part in torch.split(rows, most or len(rows)))
        return
    yield from _sorted_parts(features, lengths, most)


def _embedding_by(loss: Any, embed: Callable[[Any, Sequence[dict[str, Any]]], list[torch.Tensor]]) -> Any:
    changed: Any = loss
    if isinstance(loss, losses.CosineSimilarityLoss | losses.CoSENTLoss | losses.MultipleNegativesRankingLoss):
        changed.forward = lambda columns, labels: loss.compute_loss_from_embeddings(
            embed(loss.model, list(columns)), labels
        )
    return changed


def _embed_by_length(model: Any, columns: Sequence[dict[str, Any]]) -> list[torch.Tensor]:
    """The embeddings of each column of texts, shape `(texts, size)`."""
    merged = merge_feature_batches(list(columns))
    lengths = _lengths(merged or {})
    if merged is None or lengths is None:
        return [model(column)["sentence_embedding"] for column in columns]
    rows, parts = zip(*_sorted_parts(merged, lengths, 0), strict=True)
    found = torch.cat([model(part)["sentence_embedding"] for part in parts])
    return list(found[torch.cat(rows).argsort()].chunk(len(columns)))


def _sorted_parts(
    features: dict[str, Any], lengths: torch.Tensor, most: int
) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
    """See `parts_by_length`; the lengths are those of the texts."""
    order = lengths.argsort(stable=True)
    ends = [*range(0, len(order), most or len(order)), len(order)]
    if not most and order.device.type == "cpu":
        ends = _ends(lengths[order].tolist())
    for begin, end in itertools.pairwise(ends):
        yield order[begin:end], _rows(features, order[begin:end], int(lengths[order[end - 1]]))


def _lengths(features: dict[str, Any]) -> torch.Tensor | None:
    """The tokens of each text, shape `(texts,)`; None unless all have some, without gaps, and padding behind them."""
    mask = features.get("attention_mask")
    if mask is None or mask.ndim != 2:
        return None
    lengths: torch.Tensor = mask.sum(1)
    padded = torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]
    return lengths if bool((lengths > 0).all()) and torch.equal(mask > 0, padded) else None


def _rows(features: dict[str, Any], rows: torch.Tensor, width: int | None = None) -> dict[str, Any]:
    """The features of some texts, with all tokens or so many; what is no tensor, or a prompt's length, is of all."""
    found = dict(features)
    for name, value in features.items():
        if isinstance(value, torch.Tensor) and name != "prompt_length":
            found[name] = value[rows, :width] if value.ndim > 1 else value[rows]
    return found


def _ends(lengths: Sequence[int]) -> list[int]:
    """Where groups of sorted lengths begin and end for which tokens, with padding, and passes cost least."""
    changes = [place for place, (one, following) in enumerate(itertools.pairwise(lengths), 1) if one != following]
    best: list[tuple[int, list[int]]] = [(0, [0])]  # of the texts up to each change: what they cost, and the groups
    for end in [*changes, len(lengths)]:
        paid = ((cost + (end - ends[-1]) * lengths[end - 1], ends) for cost, ends in best)
        cost, ends = min(paid)
        best.append((cost + _TOKENS_OF_A_PASS, [*ends, end]))
    return best[-1][1]
