"""Where a text ends: at its closing mark, looked for in the text and not in the tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

_WHOLE = re.compile(r"[.!?…。！？؟।]['’”»)\]]*\s+\Z")
"""How a text may end that has a blank before the mark behind it; any other goes on with what that mark opens."""

_OPENS = '"“'
"""Marks that may close a text, and behind a blank open a quotation."""

_TAG = re.compile(r"<[^\s<>]+>|\[/?[A-Z_]{3,}\]|◁[^\s▷]+▷")

Rejection = Literal[
    "no closing quote",
    "empty",
    "newline",
    "quotation inside",
    "too few words",
    "special token",
    "prompt too long",
    "broken character",
]
"""Why a draw yields no text."""


@dataclass(frozen=True)
class TextForm:
    """What a task's texts look like: their end, quotations inside them, line breaks, and what counts as a word."""

    closing_marks: tuple[str, ...] = ('"',)
    opening_marks: tuple[str, ...] = ()
    allow_newlines: bool = False
    count_words: Callable[[str], int] = lambda text: len(text.split())


@dataclass(frozen=True)
class Ending:
    """How a draw came out: a text, or the reason why there is none."""

    text: str | None
    rejection: Rejection | None


class StopRule:
    """Decides after every token whether a text is complete.

    A mark may be a token of its own, part of a larger one (`."`), or spread over several (a typographic mark is three
    bytes). So the text decides; yet most tokens cannot end one, and `may_end`, shape (vocabulary,), marks those whose
    text, taken alone, holds the end of a mark or a line break or is an unfinished character, so that only the rows that
    drew one are decoded. `unreachable`, likewise, marks tokens that are never drawn, since they mean end-of-text, are
    special, or are none of the tokenizer's: a model may have more output classes (`vocabulary_size`) than that. Bytes
    that make no whole character are decoded to U+FFFD; a text with one is rejected. A mark behind a blank may open a
    quotation inside the text (`the so-called "`), which would be cut there; it is rejected, too.
    """

    def __init__(
        self, tokenizer: Any, vocabulary_size: int, *, end_ids: Collection[int], min_words: int, form: TextForm
    ) -> None:
        self._tokenizer, self._min_words, self._form = tokenizer, min_words, form
        marks = sorted((*form.closing_marks, *form.opening_marks), key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, marks)))
        known = sorted(id_ for id_ in tokenizer.get_vocab().values() if id_ < vocabulary_size)
        pieces = tokenizer.batch_decode([[id_] for id_ in known], clean_up_tokenization_spaces=False)
        suspects = {mark[-1] for mark in form.closing_marks} | {"\ufffd", *("" if form.allow_newlines else "\n\r")}
        self._special = special_ids(tokenizer)
        self.may_end = torch.zeros(vocabulary_size, dtype=torch.bool)
        self.may_end[[i for i, text in zip(known, pieces, strict=True) if not text or suspects & set(text)]] = True
        self.may_end[[i for i in self._special if i < vocabulary_size]] = True
        self.unreachable = torch.ones(vocabulary_size, dtype=torch.bool)
        self.unreachable[known] = False
        self.unreachable[[i for i in {*end_ids, *self._special} if i < vocabulary_size]] = True

    def examine(self, ids: Sequence[int]) -> Ending | None:
        """How the text of the tokens drawn so far ends; None while it goes on."""
        if ids[-1] in self._special:
            return Ending(None, "special token")
        text: str = self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        end = self._end(text)
        written = text[:end]
        body = written.strip()
        if not self._form.allow_newlines and ("\n" in written or "\r" in written):
            return Ending(None, "newline")
        if end is None:
            return None
        if "\ufffd" in body:
            return Ending(None, "broken character")
        if not any(map(str.isalnum, body)):  # a lone full stop says as little as nothing
            return Ending(None, "empty")
        if text[end] in _OPENS and written[-1].isspace() and not _WHOLE.search(written):
            return Ending(None, "quotation inside")
        return Ending(None, "too few words") if self._form.count_words(body) < self._min_words else Ending(body, None)

    def _end(self, text: str) -> int | None:
        """Where the mark stands that closes a text; one that closes a quotation inside the text does not."""
        depth = 0
        for found in self._marks.finditer(text):
            depth += 1 if found[0] in self._form.opening_marks else -1
            if depth < 0:
                return found.start()
        return None


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Every id that stands for no text: what the tokenizer names, all added tokens marked special, and tags.

    Tags such as `<think>` are often added without the mark.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    marked = [i for i, token in added.items() if token.special or _TAG.fullmatch(token.content.strip())]
    return frozenset((*tokenizer.all_special_ids, *marked))


def end_of_text_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that means end-of-text to a model, from its configuration, generation settings and tokenizer."""
    ids: set[int] = set()
    for source in (model.config, getattr(model, "generation_config", None), tokenizer):
        value = getattr(source, "eos_token_id", None)
        ids.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    return frozenset(ids)
