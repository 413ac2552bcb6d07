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
from dino_st.errors import ConfigurationError
from dino_st.tasks.prompts import PromptFormat, encode_prompt

_BATCHES_AT_ONCE = 4
"""Batches between two reports of replies: the more, the more alike the lengths within each."""

_LABEL = "chat"


class LocalChat(LocalWriter):
    """A causal language model on this machine as a `ChatBackend`.

    An answer begins with the request's `opening` and ends at the first closing quotation mark, as everything that the
    engine writes. Random numbers belong to the request's key, so neither the other requests nor the batch size changes
    an answer, up to floating-point rounding of the model itself.

    Attributes:
        name: What the model is called in manifests.
        is_chat: Whether the tokenizer's chat template is used; otherwise prompts are raw text to continue.
        options: How answers are drawn; their `max_new_tokens` gives way to the request's.
    """

    def __init__(
        self,
        model: str | Path | tuple[Any, Any],
        *,
        device: str = "auto",
        dtype: str = "auto",
        prompt_format: PromptFormat = "auto",
        options: DecodingOptions | None = None,
        seed: int = 42,
        batch_size: int | str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        """Loads a model, or takes one that is loaded; see `LocalWriter`.

        Args:
            model: Directory, hub name, or a pair (model, tokenizer).
            device: `auto`, or a torch device name.
            dtype: `auto`, `float32`, `bfloat16`, `float16` or `float64`.
            prompt_format: `raw`, `chat`, or `auto` (a chat wherever the tokenizer has a chat template).
            options: How answers are drawn. There are no counter-prompts, so nothing is debiased.
            seed: Seed of all random numbers.
            batch_size: Answers written together, or `auto`.
            trust_remote_code: Whether code that comes with the model may run.

        Raises:
            ConfigurationError: If the batch size is neither `auto` nor a positive number.
            ModelError: If it cannot be loaded or is no decoder-only language model.
        """
        if batch_size != "auto" and (not str(batch_size).isdecimal() or int(batch_size) < 1):
            raise ConfigurationError(
                f"batch_size = {batch_size!r}: expected 'auto' or a number of answers written together, at least 1"
            )
        super().__init__(
            model, device=device, dtype=dtype, prompt_format=prompt_format, trust_remote_code=trust_remote_code
        )
        self.is_chat = self.prompt_format == "chat"
        self.options = replace(options or DecodingOptions(), decay_constant=0.0)
        self._seed = seed
        self._batch_size = batch_size
        self._usage: Counter[str] = Counter(dict.fromkeys(USAGE_FIELDS, 0))
        self._has_system_turn = self.is_chat and self._renders_system_turns()

    def configuration(self) -> dict[str, Any]:
        """What decides the answers; see `ChatBackend`."""
        ignored = ("max_new_tokens", "decay_constant", "decay_floor")
        return {
            "backend": "local",
            "model": self.name,
            "weights_sha256": self.weights_hash(),
            "settings_sha256": self.settings_hash(),
            "prompt_format": self.prompt_format,
            "decoding": {name: value for name, value in asdict(self.options).items() if name not in ignored},
            "seed": self._seed,
            "batch_size": self._batch_size,
            "dtype": self.dtype,
            "device": self.device,
        }

    @property
    def usage(self) -> Counter[str]:
        """Counts since the model was loaded; see `ChatBackend`."""
        return Counter(self._usage)

    def complete(
        self, requests: Sequence[ChatRequest], on_reply: Callable[[ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Answers requests, a few batches at a time; see `ChatBackend`.

        Raises:
            ConfigurationError: If a request's `max_new_tokens` leaves no room for a prompt.
            OutOfMemoryError: If a single answer does not fit into memory.
        """
        replies: dict[int, ChatReply] = {}
        places = sorted(range(len(requests)), key=lambda i: requests[i].max_new_tokens)
        for new_tokens, group in groupby(places, key=lambda i: requests[i].max_new_tokens):
            of_one_length = list(group)
            draws = {i: Draw(requests[i].key, _LABEL, 0, self.encode(requests[i])) for i in of_one_length}
            engine = self.engine(
                replace(self.options, max_new_tokens=new_tokens),
                seed=self._seed,
                rows=self._rows([len(draw.target) for draw in draws.values()], new_tokens),
            )
            size = _BATCHES_AT_ONCE * engine.rows
            for chunk in (of_one_length[start : start + size] for start in range(0, len(of_one_length), size)):
                for i, drawn in zip(chunk, engine.decode([draws[i] for i in chunk]), strict=True):
                    replies[i] = self._counted(_reply(draws[i], drawn))
                    if on_reply is not None:
                        on_reply(replies[i])
        return [replies[i] for i in range(len(requests))]

    def encode(self, request: ChatRequest) -> tuple[int, ...]:
        """Token ids of a request: a chat whose last turn begins with the opening, or raw text."""
        prompt, system = self._defused(request.prompt) or "", self._defused(request.system) or ""
        if not self._has_system_turn and system:
            prompt, system = f"{system}\n\n{prompt}", ""
        if not self.is_chat:
            return encode_prompt(prompt, self.tokenizer, "raw")
        rendered = self._render(system, prompt, self._defused(request.opening) or "")
        return tuple(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    def _render(self, system: str, prompt: str, opening: str) -> str:
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": prompt})
        if opening:
            turns.append({"role": "assistant", "content": opening})
        how = "continue_final_message" if opening else "add_generation_prompt"
        text: str = self.tokenizer.apply_chat_template(turns, tokenize=False, **{how: True})
        return text

    def _renders_system_turns(self) -> bool:
        """Whether the template takes a system turn; some refuse it, and some leave it out without a word."""
        from jinja2 import TemplateError

        probe = "Mind the probe 7193."
        try:
            return probe in self._render(probe, "Begin.", '"')
        except TemplateError:
            return False

    def _rows(self, lengths: Sequence[int], new_tokens: int) -> int:
        if self._batch_size != "auto":
            return int(self._batch_size)
        return self.automatic_rows(lengths, new_tokens)

    def _counted(self, reply: ChatReply) -> ChatReply:
        self._usage.update(usage_of(reply))
        return reply


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
