"""A prompt's keys and values, computed once however many draws continue it."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from dino_st.decoding.shared_prompts import SharedCache, can_share, shared_attention

_PREFILL_TOKENS = 16_384
"""Tokens of one prefill forward pass: enough to keep any hardware busy."""


@dataclass(frozen=True)
class PromptStates:
    """What the model keeps of a set of prompts.

    Attributes:
        keys: One tensor a layer, shape (prompts, heads, width, head size); a prompt's own positions are the last ones.
        values: Likewise.
        lengths: Tokens of each prompt, shape (prompts,).
        logits: What the model predicts after each prompt, shape (prompts, vocabulary).
        shared: Whether streams read them where they are, instead of from a copy for each.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    lengths: torch.Tensor
    logits: torch.Tensor
    shared: bool = False

    @property
    def width(self) -> int:
        """Length of the longest prompt."""
        return self.keys[0].shape[2]

    def start_streams(self, prompt_of_row: torch.Tensor, steps: int) -> StreamCache | SharedCache:
        """Gives every stream its prompt's states, with room for the tokens to come.

        Args:
            prompt_of_row: Index of the prompt that each stream continues, shape (streams,).
            steps: Tokens to make room for.
        """
        if self.shared:
            return SharedCache(list(zip(self.keys, self.values, strict=True)), prompt_of_row, self.lengths, steps)
        return self.copy_for(prompt_of_row, steps)

    def copy_for(self, prompt_of_row: torch.Tensor, steps: int) -> StreamCache:
        """A copy of its prompt's states for every stream; arguments as for `start_streams`."""
        layers: list[StreamLayer] = [
            StreamLayer(k.index_select(0, prompt_of_row), v.index_select(0, prompt_of_row), steps)
            for k, v in zip(self.keys, self.values, strict=True)
        ]
        return StreamCache(layers, self.lengths[prompt_of_row], self.width, steps)


class StreamLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__ has no types
    """One layer's keys and values of all streams, in a buffer that is allocated once instead of growing."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, steps: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = keys.dtype, keys.device
        self.filled = keys.shape[2]
        self.key_buffer = _with_room(keys, steps)
        self.value_buffer = _with_room(values, steps)
        self.is_initialized = True
        self._show()

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to do: the buffers exist from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes the states of new tokens behind the others and returns all of them."""
        end = self.filled + key_states.shape[2]
        self.key_buffer[:, :, self.filled : end] = key_states
        self.value_buffer[:, :, self.filled : end] = value_states
        self.filled = end
        return self._show()

    def get_seq_length(self) -> int:
        """Positions filled so far."""
        return self.filled

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every stream but the given ones."""
        self.key_buffer = self.key_buffer.index_select(0, rows)
        self.value_buffer = self.value_buffer.index_select(0, rows)
        self._show()

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys = self.key_buffer[:, :, : self.filled]
        self.values = self.value_buffer[:, :, : self.filled]
        return self.keys, self.values


class StreamCache(Cache):
    """Keys and values of all streams of a batch, and where each stream's text begins.

    Prompts of several lengths stand right-aligned, so that all streams write to the same column; a mask hides what
    lies left of the shorter ones.
    """

    def __init__(self, layers: list[StreamLayer], lengths: torch.Tensor, width: int, steps: int) -> None:
        super().__init__(layers=list(layers))
        self._streams = layers
        self._lengths = lengths
        self._even = bool((lengths == width).all())
        columns = torch.arange(width + steps, device=lengths.device)
        self._mask = (columns >= width - lengths.unsqueeze(1)).to(torch.int64)

    def attention_mask(self, new_tokens: int = 1) -> torch.Tensor | None:
        """What the next tokens of each stream may attend to, shape (streams, positions); None where all before."""
        return None if self._even else self._mask[:, : self.get_seq_length() + new_tokens]

    def position_ids(self, step: int) -> torch.Tensor:
        """Position of the next token of each stream, shape (streams, 1)."""
        return (self._lengths + step).unsqueeze(1)

    def keep(self, rows: torch.Tensor) -> None:
        """Drops every stream but the given ones."""
        for layer in self._streams:
            layer.keep(rows)
        self._lengths = self._lengths[rows]
        self._mask = self._mask[rows]


class CausalModel:
    """The two things the engine asks of a transformers model: read prompts, and read one more token a stream.

    Options that not every architecture has (`position_ids`, `logits_to_keep`) are passed where they exist.
    """

    def __init__(self, model: Any, *, longest: int) -> None:
        """Prepares a model.

        Args:
            model: A transformers causal model.
            longest: Tokens that a prompt and its text take together at most.
        """
        self.model = model
        self.shares = can_share(model, longest)
        self.device: torch.device = model.device
        wrapped = model.get_base_model() if hasattr(model, "get_base_model") else model  # a PEFT model passes all on
        self._parameters = inspect.signature(wrapped.forward).parameters

    @torch.inference_mode()
    def read_prompts(self, prompts: Sequence[tuple[int, ...]]) -> PromptStates:
        """Runs the model over distinct prompts, those of one length together, so that nothing is padded.

        Args:
            prompts: Token ids.

        Returns:
            Their states, in the same order.
        """
        order, chunks = _chunks_of_one_length(prompts)
        parts = [self._read_chunk([prompts[i] for i in chunk]) for chunk in chunks]
        width = max(len(prompt) for prompt in prompts)
        back = torch.empty(len(order), dtype=torch.int64)
        back[order] = torch.arange(len(order))
        back = back.to(self.device)
        layers: list[list[Any]] = [list(layer) for layer in zip(*(cache.layers for cache, _ in parts), strict=True)]
        return PromptStates(
            keys=[_right_aligned([part.keys for part in layer], width, back) for layer in layers],
            values=[_right_aligned([part.values for part in layer], width, back) for layer in layers],
            lengths=torch.tensor([len(prompt) for prompt in prompts], device=self.device),
            logits=torch.cat([logits for _, logits in parts]).index_select(0, back),
            shared=self.shares,
        )

    def _read_chunk(self, prompts: Sequence[tuple[int, ...]]) -> tuple[DynamicCache, torch.Tensor]:
        cache = DynamicCache()
        ids = torch.tensor(prompts, device=self.device)
        positions = torch.arange(ids.shape[1], device=self.device).unsqueeze(0).expand_as(ids)
        return cache, self._forward(ids, cache, None, positions)[:, -1].clone()

    @torch.inference_mode()
    def read_tokens(self, tokens: torch.Tensor, cache: StreamCache | SharedCache, step: int) -> torch.Tensor:
        """Appends one token to every stream.

        Args:
            tokens: Shape (streams,).
            cache: The streams' states; extended in place.
            step: How many tokens each stream has had before this one.

        Returns:
            Next-token logits, float32 or wider, shape (streams, vocabulary).
        """
        ids, positions = tokens.unsqueeze(1), cache.position_ids(step)
        if isinstance(cache, SharedCache):
            with shared_attention(self.model, cache):
                return self._forward(ids, cache, None, positions)[:, -1]
        return self._forward(ids, cache, cache.attention_mask(), positions)[:, -1]

    @torch.inference_mode()
    def read_texts(self, ids: torch.Tensor, states: PromptStates, prompt_of_row: torch.Tensor) -> torch.Tensor:
        """Reads whole texts behind their prompts.

        Args:
            ids: Tokens, shape (texts, length); shorter texts are padded at their end.
            states: The prompts' states; left as they are.
            prompt_of_row: Index of each text's prompt, shape (texts,).

        Returns:
            What the model predicts after each token, shape (texts, length, vocabulary), float32 or wider.
        """
        length = ids.shape[1]
        cache = states.copy_for(prompt_of_row, length)
        positions = cache.position_ids(0) + torch.arange(length, device=self.device)
        return self._forward(ids, cache, cache.attention_mask(length), positions, keep=length)

    def _forward(
        self, ids: torch.Tensor, cache: Cache, mask: torch.Tensor | None, positions: torch.Tensor, *, keep: int = 1
    ) -> torch.Tensor:
        options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": keep}
        options = {name: value for name, value in options.items() if name in self._parameters}
        output = self.model(input_ids=ids, past_key_values=cache, attention_mask=mask, use_cache=True, **options)
        logits: torch.Tensor = output.logits[:, -keep:]
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


@contextmanager
def float32_head(model: Any) -> Iterator[None]:
    """Lets a half-precision model's output layer write float32, so that near ties are not decided by rounding.

    The products of half-precision numbers are summed in float32 anyway; what is gained is that the sums are not
    rounded to half precision. On a CPU the logits also go to one buffer over and over, since fresh memory of that size
    costs as much time to map as to fill. So logits must be used, or copied, before the model runs again.

    Args:
        model: A transformers causal model; its own forward is restored afterwards.
    """
    head = model.get_output_embeddings()
    is_half = isinstance(head, torch.nn.Linear) and head.weight.dtype in (torch.bfloat16, torch.float16)
    if not isinstance(head, torch.nn.Linear) or not (is_half or head.weight.device.type == "cpu"):
        yield
        return
    vars(head)["forward"] = _mixed_product(head) if head.weight.is_cuda and _MIXED else _buffered_product(head)
    try:
        yield
    finally:
        del vars(head)["forward"]


_MIXED = "out_dtype" in (torch.mm.__doc__ or "")
"""Whether this torch multiplies half-precision matrices into float32 (on GPUs)."""


def _mixed_product(head: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    bias = None if head.bias is None else head.bias.float()

    def product(hidden: torch.Tensor) -> torch.Tensor:
        flat = torch.mm(hidden.flatten(0, -2), head.weight.t(), out_dtype=torch.float32)
        return (flat if bias is None else flat + bias).view(*hidden.shape[:-1], -1)

    return product


def _buffered_product(head: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    dtype = torch.promote_types(head.weight.dtype, torch.float32)
    weight, bias = head.weight.to(dtype), None if head.bias is None else head.bias.to(dtype)
    buffer = weight.new_empty(0)

    def product(hidden: torch.Tensor) -> torch.Tensor:
        nonlocal buffer
        flat = hidden.flatten(0, -2).to(dtype)
        if len(buffer) < len(flat):
            buffer = weight.new_empty(len(flat), len(weight))
        logits = torch.mm(flat, weight.t(), out=buffer[: len(flat)])
        return (logits if bias is None else logits.add_(bias)).view(*hidden.shape[:-1], -1)

    return product


def _chunks_of_one_length(prompts: Sequence[tuple[int, ...]]) -> tuple[list[int], list[list[int]]]:
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        by_length[len(prompt)].append(i)
    chunks = []
    for length in sorted(by_length):
        indices = by_length[length]
        size = max(1, _PREFILL_TOKENS // length)
        chunks += [indices[start : start + size] for start in range(0, len(indices), size)]
    return [i for chunk in chunks for i in chunk], chunks


def _right_aligned(states: Sequence[torch.Tensor], width: int, back: torch.Tensor) -> torch.Tensor:
    padded = [torch.nn.functional.pad(part, (0, 0, width - part.shape[2], 0)) for part in states]
    return torch.cat(padded).index_select(0, back)


def _with_room(states: torch.Tensor, steps: int) -> torch.Tensor:
    rows, heads, width, size = states.shape
    buffer = states.new_empty(rows, heads, width + steps, size)  # only what was written is ever read
    buffer[:, :, :width] = states
    return buffer
