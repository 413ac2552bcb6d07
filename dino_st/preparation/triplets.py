"""Triplets: made from DINO pairs and back, and prepared for contrastive training.

A triplet is an anchor, a positive that means the same, and a hard negative that is about the same things and means
something else. Whatever is chosen here is chosen by a hash of seed and texts, so that neither the order of the rows nor
other rows matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa
from datasets import Dataset

from dino_st.data.columns import NEGATIVE, PAIR_COLUMNS, POSITIVE, SENTENCE1, TRIPLET_COLUMNS, numeric_pairs
from dino_st.data.habits import SAMPLED, TextSample
from dino_st.data.quality import summarise, warn_of_doubts
from dino_st.data.triplets import triplet_table
from dino_st.errors import DatasetError
from dino_st.preparation.options import TripletOptions
from dino_st.preparation.splits import PreparedSplits, format_counts
from dino_st.support.hashes import keyed_bits
from dino_st.support.progress import logger
from dino_st.support.text import is_blank, normal_form, without_form

Texts = tuple[str, str, str]

_POSITIVE_SCORE = 1.0
_NEGATIVE_SCORES = {"0.5": (0.5,), "0": (0.0,), "both": (0.5, 0.0)}
_SCORES = (0.0, 0.5, 1.0)


def to_triplets(pairs: Dataset, *, options: TripletOptions | None = None, **changes: Any) -> Dataset:
    """Makes triplets (x1, label-1 text, label-0.5 or label-0 text) from raw DINO pairs.

    Each text is used at least once: of the texts of an x1, the first positive meets the first negative, the second the
    second, and where there are fewer of one kind, its texts are used again. An x1 without a positive or without a
    negative is left out; how many were is logged, and `prepare_triplets` counts it.

    Example:
        >>> triplets = to_triplets(builder.generate(sentences), negatives="both")

    Args:
        pairs: Columns `sentence1`, `sentence2` and `score`, with the scores 0, 0.5 and 1.
        options: How triplets are made.
        **changes: Fields of `TripletOptions`, in place of `options` or of what it says: `negatives`, the label whose
            texts become negatives (`0.5`, about the same things, as hard negatives should be; `0`, something else;
            `both`, triplets of either kind), and `seed`, which decides which positive meets which negative.

    Returns:
        The columns `anchor`, `positive`, `negative`, ordered by anchor.

    Raises:
        ConfigurationError: An option is unknown or out of range.
        DatasetError: A column is missing, a score is another one (as in pairs that were prepared already), or no x1 has
            both a positive and a negative.
    """
    triplets, counts = _from_pairs(pairs, TripletOptions.of(options, **changes))
    logger.info("%s", ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items()))
    return _dataset(triplets)


def to_pairs(triplets: Dataset) -> Dataset:
    """Makes pairs of triplets: (anchor, positive) with score 1 and (anchor, negative) with score 0, each once.

    They come in the order of the triplets. Spearman's correlation on them is at most √3/2 ≈ 0.87, since there are only
    two scores. Raises DatasetError where the data set holds no triplets.
    """
    pairs: dict[tuple[str, str, float], None] = {}
    for anchor, positive, negative in _rows(triplets):
        pairs[anchor, positive, 1.0] = None
        pairs[anchor, negative, 0.0] = None
    columns = zip(*pairs, strict=True)
    return Dataset.from_dict({name: list(column) for name, column in zip(PAIR_COLUMNS, columns, strict=True)})


def prepare_triplets(raw: Dataset, *, options: TripletOptions | None = None, **changes: Any) -> PreparedSplits:
    """Turns raw triplets, or DINO pairs, into a training and a validation split.

    Triplets with a blank text, with two texts that are equal but for case, spaces and punctuation, and duplicates
    are dropped. The split is by anchor: all triplets of an anchor are in the same one, and so are
    those of two anchors that are each other's positives.

    Args:
        raw: Triplets as for `triplet_table`, or pairs as for `to_triplets`.
        options: How to prepare. The same rows and seed give the same splits, whatever the order of the rows.
        **changes: Fields of `TripletOptions`, in place of `options` or of what it says: `negatives` (of pairs: whose
            texts become negatives), `validation_share`, `max_validation`, `seed`.

    Returns:
        `train` and `validation` with the columns `anchor`, `positive`, `negative`; what was kept and dropped is in
        `counts`. `save_prepared` writes them to a directory, `load_prepared` reads it.

    Raises:
        ConfigurationError: An option is unknown or out of range.
        DatasetError: A column is missing, a value is no text, or no triplet is left.
    """
    options = TripletOptions.of(options, **changes)
    counts: dict[str, int] = {}
    names = getattr(raw, "column_names", ())
    if SENTENCE1 in names and POSITIVE not in names:
        triplets, counts = _from_pairs(raw, options)
    else:
        triplets = list(_rows(raw))
    counts["input"] = len(triplets)
    kept = _drop(triplets, counts)
    counts["kept"] = len(kept)
    if not kept:
        raise DatasetError(f"no triplet is left after preparation:\n{format_counts(counts)}")
    splits = {name: _dataset(rows) for name, rows in _split(kept, options, counts).items()}
    logger.info("prepared triplets:\n%s", format_counts(counts))
    texts = list(zip(*(splits["train"][:SAMPLED][name] for name in TRIPLET_COLUMNS), strict=True))  # in random order
    samples = {role: TextSample((row[0], row[1 + i]) for row in texts) for i, role in enumerate((POSITIVE, NEGATIVE))}
    quality = summarise([], samples)
    warn_of_doubts(quality)
    return PreparedSplits(splits, counts=counts, options=options, quality=quality)


def _from_pairs(pairs: Dataset, options: TripletOptions) -> tuple[list[Texts], dict[str, int]]:
    """Triplets of pairs, and what became of the x1."""
    table = numeric_pairs(pairs, name="the raw pairs")
    texts: dict[str, dict[float, set[str]]] = {}
    for x1, x2, score in zip(*(table[name].to_pylist() for name in PAIR_COLUMNS), strict=True):
        label = min(_SCORES, key=lambda known: abs(known - score))
        if abs(label - score) > 1e-6:
            raise DatasetError(
                f"a pair has the score {score:g}; triplets are made of raw pairs with the scores 0, 0.5 and 1. If "
                "these were prepared already, give what they were prepared from"
            )
        texts.setdefault(x1, {}).setdefault(label, set()).add(x2)
    counts = {"pairs": table.num_rows, "inputs": len(texts), "inputs_without_positive": 0, "inputs_without_negative": 0}
    triplets: list[Texts] = []
    for x1 in sorted(texts):
        made = list(_triplets_of(x1, texts[x1], options))
        if not made:
            missing = "negative" if _POSITIVE_SCORE in texts[x1] else "positive"
            counts[f"inputs_without_{missing}"] += 1
        triplets.extend(made)
    if not triplets:
        wanted = " or ".join(f"{score:g}" for score in _NEGATIVE_SCORES[options.negatives])
        raise DatasetError(
            f"no x1 of {len(texts):,} has both a text of score 1 and one of score {wanted}; "
            "generate pairs of both, or choose other negatives"
        )
    return triplets, counts


def _triplets_of(x1: str, texts: Mapping[float, Iterable[str]], options: TripletOptions) -> Iterator[Texts]:
    positives = _shuffled(options.seed, x1, texts.get(_POSITIVE_SCORE, ()))
    for score in _NEGATIVE_SCORES[options.negatives]:
        negatives = _shuffled(options.seed, x1, texts.get(score, ()))
        for place in range(max(len(positives), len(negatives)) if positives and negatives else 0):
            yield x1, positives[place % len(positives)], negatives[place % len(negatives)]


def _drop(triplets: Iterable[Texts], counts: dict[str, int]) -> list[Texts]:
    """Drops what teaches nothing or something wrong, and counts it by the first reason that applies."""
    dropped = dict.fromkeys(
        ("blank", "anchor_is_positive", "positive_is_negative", "anchor_is_negative", "duplicate"), 0
    )
    kept: dict[Texts, None] = {}
    stripped = [tuple(text.strip() for text in triplet) for triplet in triplets]
    alike: dict[str, str] = {}  # the first of texts that differ as `without_form` says
    for text in sorted({*chain.from_iterable(stripped)}):
        alike.setdefault(without_form(text), text)
    for triplet in stripped:
        anchor, positive, negative = texts = tuple(alike[without_form(text)] for text in triplet)
        of_anchor, of_positive, of_negative = (normal_form(text) or text for text in texts)
        if any(map(is_blank, texts)):
            dropped["blank"] += 1
        elif of_anchor == of_positive:
            dropped["anchor_is_positive"] += 1
        elif of_positive == of_negative:
            dropped["positive_is_negative"] += 1
        elif of_anchor == of_negative:
            dropped["anchor_is_negative"] += 1
        elif (anchor, positive, negative) in kept:
            dropped["duplicate"] += 1
        else:
            kept[anchor, positive, negative] = None
    counts |= {f"dropped_{reason}": count for reason, count in dropped.items()}
    return list(kept)


def _split(kept: Sequence[Texts], options: TripletOptions, counts: dict[str, int]) -> dict[str, list[Texts]]:
    """Splits by anchor, those that are each other's positives together; the rows come in random order."""
    groups = _groups(kept, _shuffled(options.seed, "validation", {triplet[0] for triplet in kept}))
    anchors = sum(map(len, groups))
    wanted = int(anchors * options.validation_share + 1e-6)
    if options.validation_share and anchors >= 2:
        wanted = max(wanted, 1)
    if options.max_validation:
        wanted = min(wanted, options.max_validation)
    held_out: set[str] = set()
    for group in groups:
        if len(held_out) + len(group) <= wanted:
            held_out.update(group)
    if wanted and not held_out and len(groups) > 1:
        smallest = min(groups, key=len)
        held_out.update(smallest)
    ordered = sorted(kept, key=lambda triplet: keyed_bits(options.seed, "order", *triplet))
    parts = {
        "train": [triplet for triplet in ordered if triplet[0] not in held_out],
        "validation": [triplet for triplet in ordered if triplet[0] in held_out],
    }
    counts |= {"anchors": anchors, "validation_anchors": len(held_out)}
    counts |= {name: len(rows) for name, rows in parts.items()}
    return parts


def _groups(triplets: Sequence[Texts], anchors: Sequence[str]) -> list[list[str]]:
    """The anchors in groups that are in one split, in their order: those of a pair that stands in both directions."""
    group_of = {anchor: [anchor] for anchor in anchors}
    directions = {(anchor, positive) for anchor, positive, _ in triplets}
    for anchor, positive in sorted(directions):
        few, many = sorted((group_of[anchor], group_of.get(positive, [])), key=len)
        if (positive, anchor) in directions and few is not many:
            many.extend(few)
            group_of.update(dict.fromkeys(few, many))
    return list({id(group): group for group in map(group_of.__getitem__, anchors)}.values())


def _rows(triplets: Dataset) -> Iterator[Texts]:
    table = triplet_table(triplets, name="the triplets")
    return zip(*(table[name].to_pylist() for name in TRIPLET_COLUMNS), strict=True)


def _dataset(triplets: Sequence[Texts]) -> Dataset:
    columns: list[Any] = list(zip(*triplets, strict=True)) or [()] * len(TRIPLET_COLUMNS)
    arrays = [pa.array(column, pa.string()) for column in columns]
    fingerprint = hashlib.sha256(repr(columns).encode()).hexdigest()[:16]
    return Dataset(pa.table(arrays, names=list(TRIPLET_COLUMNS)), fingerprint=fingerprint)


def _shuffled(seed: int, group: str, texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: keyed_bits(seed, group, text))
