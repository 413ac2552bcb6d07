"""Signs that files of a model do not belong together, though their shapes fit: told, since none of them is a proof."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dino_st.encoders.directory import LAYER
from dino_st.errors import ModelError, first_line

_BEFORE_WORDS = ("Ġ", "▁", "")
_WORD = re.compile(r"[Ġ▁]?[^\W\d_]{3,}")
"""What begins a word in vocabularies of byte-level BPE, of SentencePiece and of WordPiece, and a word there."""

_ENOUGH, _MOST, _PARTS, _SURE = 50, 200, 20, 3
"""Forms of words that tell something, how many of a part of a vocabulary are compared, parts, and standard errors."""


def vocabulary_doubt(vocabulary: Mapping[str, int], embedding: Any) -> str:
    """Says, if so, that forms of one word are no more alike in an embedding than any words: these are not its rows.

    So it is where the numbers of a vocabulary are another model's, or shifted from some number on, as where a line was
    lost, and where nothing was trained. In each part of a vocabulary the difference of the mean cosines is compared
    with its standard error: with five models it was at least 9 times as large, and at most 3 behind a lost line. A
    vocabulary with few such forms has no say.
    """
    import torch

    pairs = [pair for pair in _forms(vocabulary) if max(pair) < len(embedding)]
    if len(pairs) < _ENOUGH or embedding.is_meta:
        return ""
    parts = min(_PARTS, len(pairs) // _ENOUGH)
    bounds = [(part * len(pairs) // parts, (part + 1) * len(pairs) // parts) for part in range(parts)]
    for start, end in [*bounds, (len(pairs) - _ENOUGH, len(pairs))]:
        own = pairs[start:end]
        rows = embedding[torch.tensor(own[:: len(own) // _MOST + 1], device=embedding.device)].detach().float().cpu()
        rows = rows[rows.any(-1).all(-1)]
        rows = torch.nn.functional.normalize(rows - rows.mean((0, 1)), dim=-1)
        more = (rows[:, 0] * (rows[:, 1] - rows[:, 1].roll(len(rows) // 2, 0))).sum(-1)
        if 2 * len(rows) > _ENOUGH and more.mean() < _SURE * more.std() / len(more) ** 0.5:
            where, what = (
                (f"from about number {max(own[0])} on, ", "had lost a line") if start else ("", "were shifted")
            )
            return (
                f"{where}forms of one word, such as 'dog' and 'dogs', are no more alike in its embedding than others, "
                f"as if the vocabulary {what} or were another model's, or nothing had been trained; take the tokenizer "
                "of these weights"
            )
    return ""


def _forms(vocabulary: Mapping[str, int]) -> list[tuple[int, int]]:
    """Numbers of words that differ in a final s, a capital, or in what begins a word; by the greater one."""
    found = []
    for word, number in vocabulary.items():
        if _WORD.fullmatch(word):
            forms = (f"{word}s", word[1:] if word[0] in _BEFORE_WORDS else "", word.capitalize())
            found += [(number, vocabulary[form]) for form in forms if form != word and form in vocabulary]
    return sorted(found, key=lambda pair: (max(pair), pair))


_PROBED, _MOST_LOST = 2000, 0.01


def spelling_doubt(tokenizer: Any) -> str:
    """Says, if so, that a tokenizer splits words which its own vocabulary has whole.

    So it is where merges are missing, or a normaliser or what splits words is another model's. Looked at are words of
    ASCII letters at the beginning of a word; a vocabulary that does not say which these are has no say.
    """
    vocabulary = tokenizer.get_vocab()
    marks = [mark for mark in _BEFORE_WORDS if mark and sum(word[:1] == mark for word in vocabulary) > _ENOUGH]
    if not marks and sum(word.startswith("##") for word in vocabulary) <= _ENOUGH:
        return ""
    mark = marks[0] if marks else ""
    words = [word for word in sorted(vocabulary) if word[: len(mark)] == mark and word.isascii() != bool(mark)]
    words = [word for word in words if re.fullmatch("[A-Za-z]{3,}", word.removeprefix(mark))]
    words = words[:: len(words) // _PROBED + 1]
    texts = [word.replace(mark, " ") if mark else word for word in words]
    if hasattr(tokenizer, "encode_batch"):
        found = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    else:
        found = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    lost = [word for word, ids in zip(words, found, strict=True) if ids != [vocabulary[word]]]
    if len(lost) <= _MOST_LOST * len(words):
        return ""
    return (
        f"{len(lost)} of {len(words)} words that its vocabulary has whole, such as {lost[0]!r}, are not read as they "
        "stand there, as where merges were lost or the normaliser is another model's; fetch the tokenizer files again"
    )


def files_doubt(tokenizer: Any, vocabulary: Mapping[str, int]) -> str:
    """Says, if so, that a vocabulary written out beside tokenizer.json (vocab.txt, vocab.json) is another one.

    Libraries read tokenizer.json, which gave the vocabulary at hand, so that words which somebody wrote into the other
    file are not known.
    """
    directory = Path(str(getattr(tokenizer, "name_or_path", "") or ""))
    if not (directory / "tokenizer.json").is_file():
        return ""
    try:
        if (written := directory / "vocab.txt").is_file():
            words = {word: number for number, word in enumerate(written.read_text("utf-8").rstrip("\n").split("\n"))}
        elif (written := directory / "vocab.json").is_file():
            words = json.loads(written.read_text("utf-8"))
            if not isinstance(words, dict):
                raise ValueError("no vocabulary")
        else:
            return ""
    except (OSError, ValueError):
        return f"{written.name} cannot be read; tokenizer.json, which stands beside it, is used"
    other = [word for word, number in words.items() if vocabulary.get(word) != number]
    if not other:
        return ""
    return (
        f"{written.name} and tokenizer.json differ in {len(other)} words, such as {other[0]!r}, and tokenizer.json is "
        f"what is read; if {written.name} was changed by hand, make tokenizer.json anew from it"
    )


_SENTENCES = (
    "The old man sat down on a chair and drank a cup of tea. She has lived in the north of the country for ten years. "
    "When it began to rain, the children ran back to the house. They want to sell their car, as they need the money."
)
_LEAST_WORDS, _MOST_PIECES, _FLUENT, _COPIED = 1000, 2, 0.65, 0.75
"""Tokens of a vocabulary that has words; tokens of a word at most for a language that a model knows; the greatest
surprise at sentences, where that at their words in reverse is 1, of a model that can write (0.4 and 0.5 of three that
can), and at sentences that stand there a second time, where that at the first is 1, of one that sees where a word
stands (0.1 to 0.6 of these; about 0.9 and more with a wrong number of heads, or queries and keys in another order)."""


def fluency_doubt(model: Any, tokenizer: Any) -> str:
    """Says, if so, that a language model finds plain sentences no likelier than their words reversed, or repeated.

    So it is where its configuration is not that of the weights though the shapes fit (another activation, norm or
    model type, a number of heads, a scale of positions), where layers are mixed up, and where nothing was trained.
    """
    import torch

    words = _SENTENCES.split()
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    size = len(tokenizer(_SENTENCES)["input_ids"])
    surprise = []
    for text in (f"{_SENTENCES} {_SENTENCES}", " ".join(reversed(words))):
        ids = torch.tensor([tokenizer(text)["input_ids"]], device=model.device)
        if len(tokenizer) < _LEAST_WORDS or size > _MOST_PIECES * len(words) or ids.shape[1] > positions:
            return ""
        with torch.inference_mode():
            predicted = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        surprise.append(torch.nn.functional.cross_entropy(predicted, ids[0, 1:], reduction="none"))
    first, second, reverse = surprise[0][: size - 1].sum(), surprise[0][size - 1 :].sum(), surprise[1].sum()
    if first >= _FLUENT * reverse:
        what = "plain English sentences hardly likelier than their words in reverse order"
    elif second >= _COPIED * first:
        what = "sentences hardly likelier where they stand a second time, as if it did not see where a word stands"
    else:
        return ""
    return (
        f"it finds {what}, as where config.json is not that of the weights (heads, rope, activation, norms), or "
        "nothing was trained; unless it is for other languages, fetch all its files again"
    )


_TEXTS = ("A man plays a flute.", "It is raining hard in the north.", "She bought a new car.", "Children sleep a lot.")
_TELLS_APART, _MOVED = 1e-4, 1e-3
"""A cosine's distance from 1 below which texts have one vector; causal models not trained for it have 0.01. And that
from which on a text has another vector beside a longer one; rounding makes 1e-6."""


def vectors_doubt(encoder: Any, vocabulary: Mapping[str, int]) -> str:
    """Says, if so, that texts of other words have one vector, or a text has another one beside a longer text.

    The former is so where a norm or its epsilon is wrong, the latter where padding comes first, and the positions or
    the pooling count from it, or where a layer reads it. Raises ModelError where the encoder cannot encode a text.
    """
    if len(vocabulary) < _LEAST_WORDS:
        return ""
    mode, options = encoder.training, {"convert_to_numpy": True, "normalize_embeddings": True}
    try:
        alone = encoder.encode([_TEXTS[0]], show_progress_bar=False, **options)
    except Exception as error:  # a module is a program
        raise ModelError(
            f"{' + '.join(type(module).__name__ for module in encoder)} cannot encode a sentence, neither here nor in "
            f"sentence-transformers: {type(error).__name__}: {first_line(error)}. Give an encoder whose encode works"
        ) from error
    vectors = encoder.encode([*_TEXTS, _SENTENCES], show_progress_bar=False, **options)
    encoder.train(mode)
    if ((vectors[: len(_TEXTS)] - vectors[0]) ** 2).sum(1).max() / 2 <= _TELLS_APART:
        return (
            "it gives texts that have nothing in common one and the same vector, as where config.json is not that of "
            "the weights, or some were lost; fetch or train the encoder again"
        )
    if ((vectors[0] - alone[0]) ** 2).sum() / 2 > _MOVED:
        moved = "it gives a text another vector where a longer one is encoded with it, as where "
        if getattr(encoder.tokenizer, "padding_side", "") == "left":
            return (
                f"{moved}padding stands before the words and positions are counted from it; set padding_side in "
                "tokenizer_config.json to 'right'"
            )
        return f"{moved}a layer goes over the padding, too (CNN); leave that layer out, or encode texts one at a time"
    return ""


CHAT = "message"
"""The name that sentence-transformers gives to texts which are read as a chat, in the tokenizer's template."""
_OF_ALL_TOKENS = {"mean", "mean_sqrt_len_tokens", "weightedmean", "max"}


def template_doubt(encoder: Any) -> str:
    """Says, if so, that a chat template stands around every text, and that its tokens are pooled with the text's.

    Where one token is taken, as in encoders that were made with a template, the template is a prompt like any other.
    """
    first = encoder[0]
    modes = [getattr(module, "pooling_mode", ()) for module in encoder]
    pooled = {mode for found in modes for mode in ([found] if isinstance(found, str) else found)}
    if CHAT not in getattr(first, "modality_config", {}) or not pooled & _OF_ALL_TOKENS:
        return ""
    text = "a"
    added = first.preprocess([text])["input_ids"].shape[1] - len(first.tokenizer(text)["input_ids"])
    if added <= 0:
        return ""
    return (
        f"every text is read inside the tokenizer's chat template, whose {added} tokens are pooled with the text's "
        f"own, so that all vectors are alike; take {CHAT!r} out of modality_config in sentence_bert_config.json, or "
        "load the plain transformers model, which is read without a template"
    )


_FEW_ZEROS, _SHARE_OF_ZEROS = 256, 0.01
"""Rows of zeros that any embedding may have: those of single bytes, or a share of the words, that no text had."""


def zeros_doubt(model: Any, embedding: Any, vocabulary: Mapping[str, int]) -> str:
    """Says, if so, that words of a vocabulary, or whole matrices of a model's layers, have no weight but zero.

    So it is where a file was allocated and its content never came. Rows beyond the vocabulary may be zero, and so is
    half of an adapter before it is trained.
    """
    found = []
    if embedding is not None and not embedding.is_meta:
        is_zero = ~embedding.detach().any(1).cpu()
        numbers = [number for number in set(vocabulary.values()) if 0 <= number < len(is_zero)]
        zeros = int(is_zero[numbers].sum())
        if zeros > max(_FEW_ZEROS, _SHARE_OF_ZEROS * len(numbers)):
            found.append(f"the vectors of {zeros} of its {len(numbers)} tokens")
    own = ((name, weight) for name, weight in model.named_parameters() if LAYER.match(name) and ".lora_" not in name)
    empty = [name for name, weight in own if _is_empty(weight)]
    if empty:
        found.append(f"{len(empty)} weight matrices of its layers, such as {empty[0]!r},")
    if not found:
        return ""
    return f"{' and '.join(found)} are nothing but zeros, as after a broken download; fetch or train the model again"


def _is_empty(weight: Any) -> bool:
    """Whether a matrix holds zeros alone; its first row, which is quick, mostly tells."""
    return weight.ndim > 1 and not weight.is_meta and not weight[:1].any() and not weight.any()


def kind_doubt(config: Any) -> str:
    """Says, if so, that a configuration names the architecture of another kind of model, or makes an encoder causal."""
    from transformers.models.auto import modeling_auto

    tables = [table for name, table in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")]
    for named in getattr(config, "architectures", None) or ():
        is_encoder = config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and "LMHead" not in named
        if getattr(config, "is_decoder", False) and is_encoder and named.endswith(("Model", "ForMaskedLM")):
            return (
                f"config.json says is_decoder, so that no token sees those behind it, as a {named} should; set it to "
                "false, unless the model was trained so"
            )
        kinds = {kind for table in tables for kind, model in table.items() if named in (model, *_several(model))}
        if kinds and config.model_type not in kinds and not getattr(config, "auto_map", None):
            return (
                f"config.json names {named}, which is no model of its model_type {config.model_type!r}; if the type is "
                "wrong, the weights are read as what they are not"
            )
    return ""


def marks_doubt(config: Any, tokenizer: Any) -> str:
    """Says, if so, that a tokenizer puts its marks of a text's beginning and end, such as [CLS] and [SEP], nowhere."""
    from transformers.models.auto import modeling_auto

    marks = {name: getattr(tokenizer, f"{name}_token_id", None) for name in ("cls", "sep")}
    if None in marks.values() or config.model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return ""
    if not set(marks.values()).isdisjoint(tokenizer("A man plays a flute.")["input_ids"]):
        return ""
    return (
        f"its tokenizer knows {tokenizer.cls_token!r} and {tokenizer.sep_token!r}, and puts neither around a text, as "
        "where the post_processor of tokenizer.json was lost; unless it was trained so, fetch the tokenizer files again"
    )


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
