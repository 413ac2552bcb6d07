"""A causal language model on this machine as a `ChatBackend`, through the decoding engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from dino_st.backends.chat import USAGE_FIELDS, ChatReply, ChatRequest, usage_of
from dino_st.backends.local import LocalWriter
from dino_st.decoding.batch import Draw, Drawn
from dino_st.decoding.options import DecodingOptions

_BATCHES_AT_ONCE = 4
"""Batches between two reports of replies: the more, the more alike the lengths within each."""

_LABEL = "chat"


class LocalChat(LocalWriter):
    """A causal language model on this machine as a `ChatBackend`; options and errors are those of `LocalWriter`.

    An answer begins with the request's `opening` and ends at the first closing quotation mark, as everything that the
    engine writes. Random numbers belong to the request's key, so neither the other requests nor the batch size (a
    number of answers) changes an answer, up to floating-point rounding of the model itself. There are no
    counter-prompts, so nothing is debiased; `max_new_tokens` is the request's. Without a chat template prompts are raw
    text to continue.
    """

    def __init__(
        self,
        model: str | Path | tuple[Any, Any],
        decoding: DecodingOptions | None = None,
        *,
        seed: int = 42,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.is_chat = self.prompt_format == "chat"
        self.decoding = replace(decoding or DecodingOptions(), decay_constant=0.0)
        self._seed = seed
        self._usage: Counter[str] = Counter(dict.fromkeys(USAGE_FIELDS, 0))

    def configuration(self) -> dict[str, Any]:
        """What decides the answers; see `ChatBackend`."""
        ignored = ("max_new_tokens", "decay_constant", "decay_floor")
        return {
            "backend": "local",
            "model": self.name,
            **self.identity(),
            "decoding": {name: value for name, value in asdict(self.decoding).items() if name not in ignored},
            "seed": self._seed,
            "batch_size": self.options.batch_size,
        }

    @property
    def usage(self) -> Counter[str]:
        """Counts since the model was loaded; see `ChatBackend`."""
        return Counter(self._usage)

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Answers requests, a few batches at a time; see `ChatBackend`.

        Raises ConfigurationError where a request's `max_new_tokens` leaves no room for a prompt, and OutOfMemoryError
        where a single answer does not fit into memory.
        """
        replies: dict[int, ChatReply] = {}
        places = sorted(range(len(requests)), key=lambda i: requests[i].max_new_tokens)
        for new_tokens, group in groupby(places, key=lambda i: requests[i].max_new_tokens):
            draws = {i: Draw(requests[i].key, _LABEL, 0, self.encode(requests[i])) for i in group}
            rows = self.options.batch_size
            if rows == "auto":
                rows = self.automatic_rows([len(draw.target) for draw in draws.values()], new_tokens)
            decoding = replace(self.decoding, max_new_tokens=new_tokens)
            engine = self.engine(decoding, seed=self._seed, rows=int(rows))
            waiting = list(draws)
            while waiting:
                size = _BATCHES_AT_ONCE * engine.rows
                chunk, waiting = waiting[:size], waiting[size:]
                for i, drawn in zip(chunk, engine.decode([draws[i] for i in chunk]), strict=True):
                    replies[i] = _reply(draws[i], drawn)
                    self._usage.update(usage_of(replies[i]))
                    if on_reply is not None:
                        on_reply(replies[i])
        return [replies[i] for i in range(len(requests))]


def _reply(draw: Draw, drawn: Drawn) -> ChatReply:
    reasons = ", ".join(f"{reason} ({n})" for reason, n in sorted(drawn.rejections.items()))
    return ChatReply(
        key=draw.x1,
        text=drawn.text,
        failure=None if drawn.text is not None else f"every try was rejected: {reasons}",
        prompt_tokens=len(draw.target),
        completion_tokens=len(drawn.tokens),
        attempts=max(1, drawn.tries),
    )
