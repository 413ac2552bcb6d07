"""A prompt's keys and values, computed once however many draws continue it; prompts that begin alike share them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache

from dino_st.decoding.attention import SharedCache, can_share, shared_attention
from dino_st.decoding.cache import Indices, RowCache, RowLayer, StreamBuffers, on_device
from dino_st.decoding.head import head_rows

_PASS = {"cpu": 64}
_PASS_ELSEWHERE = 512
"""Tokens that a forward pass takes as long for as to get under way: what it must save to be worth it."""

_LEVELS = 16
"""How often a group is split at most."""

_PREFILL_TOKENS = 16_384
"""Tokens of one prefill forward pass: enough to keep any hardware busy."""

Prompts = Sequence[tuple[int, ...]]


def common_heads(prompts: Prompts, device: str) -> list[tuple[int, list[int]]]:
    """Groups prompts by their beginnings, so that few tokens are read in all.

    Prompts for one label differ only in their sentence, and what stands before it is longer than most sentences.

    Args:
        prompts: Distinct token ids, at least one token each.
        device: Kind of device, such as `cuda`.

    Returns:
        For each group the number of tokens that all its prompts begin with (always less than the shortest has), and the
        indices of its prompts.
    """
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    return _best_groups(prompts, order, _PASS.get(device, _PASS_ELSEWHERE), _LEVELS)[1] if order else []


def _best_groups(
    prompts: Prompts, indices: list[int], a_pass: int, levels: int
) -> tuple[int, list[tuple[int, list[int]]]]:
    """The cheapest grouping of sorted prompts, and its cost in tokens."""
    if len(indices) == 1:
        return len(prompts[indices[0]]) + a_pass, [(0, indices)]
    first, last = prompts[indices[0]], prompts[indices[-1]]
    shared = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    head = min(shared, min(len(prompts[i]) for i in indices) - 1)
    whole = sum(len(prompts[i]) - head for i in indices) + head + a_pass
    if levels == 0 or len(first) <= shared:  # the first is the beginning of all others
        return whole, [(head, indices)]
    parts = [
        _best_groups(prompts, list(part), a_pass, levels - 1)
        for _, part in groupby(indices, key=lambda i: prompts[i][shared])
    ]
    split = sum(cost for cost, _ in parts)
    if whole <= split:
        return whole, [(head, indices)]
    return split, [group for _, groups in parts for group in groups]


def prefill_chunks(lengths: Sequence[int], device: str, *, padding: bool) -> Iterator[list[int]]:
    """Says which rows are read in one forward pass: those of like length, up to a number of tokens.

    Args:
        lengths: Tokens of each row.
        device: Kind of device, such as `cuda`.
        padding: Whether rows of different length may be read together, as long as little of it is padding.

    Yields:
        Indices of rows, shortest first.
    """
    chunk: list[int] = []
    tokens = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        area = (len(chunk) + 1) * lengths[i]
        spare = _PASS.get(device, _PASS_ELSEWHERE) if padding else 0
        if chunk and (area > _PREFILL_TOKENS or area > tokens + lengths[i] + spare):
            yield chunk
            chunk, tokens = [], 0
        chunk.append(i)
        tokens += lengths[i]
    if chunk:
        yield chunk


_Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, shape (rows, heads, positions, head size)."""


@dataclass(frozen=True)
class PromptStates:
    """What the model keeps of a set of prompts.

    Attributes:
        keys: One tensor a layer, shape (prompts, heads, width, head size); a prompt's own positions are the last ones,
            and what stands before them means nothing.
        values: Likewise.
        lengths: Tokens of each prompt, shape (prompts,).
        logits: What the model predicts after each prompt, shape (prompts, vocabulary).
        shared: Whether streams read them where they are, instead of from a copy for each.
        buffers: Where streams write; those that are started end the ones before.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    lengths: torch.Tensor
    logits: torch.Tensor
    shared: bool
    buffers: StreamBuffers

    @property
    def width(self) -> int:
        """Length of the longest prompt."""
        return self.keys[0].shape[2]

    def start_streams(self, prompt_of_row: Indices, most_rows: int, steps: int) -> RowCache:
        """Gives rows their prompts' states, with room for the tokens to come.

        Args:
            prompt_of_row: Index of the prompt that each row continues, shape (rows,).
            most_rows: How many rows there may be.
            steps: Tokens to make room for.
        """
        if not self.shared:
            return self.copy_for(prompt_of_row, steps, most_rows)
        layers = list(zip(self.keys, self.values, strict=True))
        return SharedCache(layers, self.lengths, prompt_of_row, most_rows, steps, self.buffers)

    def copy_for(self, prompt_of_row: Indices, steps: int, most_rows: int = 0) -> StreamCache:
        """A copy of its prompt's states for every row; arguments as for `start_streams`."""
        prompts, most_rows = on_device(prompt_of_row, self.lengths.device), max(most_rows, len(prompt_of_row))

        def copied(states: torch.Tensor) -> torch.Tensor:
            return _with_room(states.index_select(0, prompts), most_rows, steps)

        layers = [RowLayer(copied(k), copied(v), self.width) for k, v in zip(self.keys, self.values, strict=True)]
        return StreamCache(layers, self.lengths, prompt_of_row, self.width, steps)


class StreamCache(RowCache):
    """Keys and values of all rows of a batch, and where each row's text begins.

    Prompts of several lengths stand right-aligned, so that all rows write to the same column; a mask hides what lies
    left of the shorter ones.
    """

    def __init__(
        self, layers: list[RowLayer], lengths: torch.Tensor, prompt_of_row: Indices, width: int, steps: int
    ) -> None:
        super().__init__(layers, lengths.device)
        self._lengths, self._width = lengths, width
        self._even = bool((lengths == width).all())
        self._columns = torch.arange(width + steps, device=lengths.device)
        self.arrange(prompt_of_row)

    def attention_mask(self, new_tokens: int = 1) -> torch.Tensor | None:
        """What the next tokens of each row may attend to, shape (rows, positions); None where all before."""
        if self._even:
            return None
        columns = self._columns[: self.get_seq_length() + new_tokens]
        return (columns >= self._width - self._row_lengths.unsqueeze(1)).to(torch.int64)

    def position_ids(self, step: int) -> torch.Tensor:
        """Position of the next token of each row, shape (rows, 1)."""
        return (self._row_lengths + step).unsqueeze(1)

    def arrange(self, prompt_of_row: Indices) -> None:
        """Takes note of the prompt that each row continues, shape (rows,)."""
        for layer in self._row_layers:
            layer.show(len(prompt_of_row))
        self._row_lengths = self._lengths[on_device(prompt_of_row, self._device)]


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
        self.buffers = StreamBuffers()
        self.device: torch.device = model.device
        wrapped = model.get_base_model() if hasattr(model, "get_base_model") else model  # a PEFT model passes all on
        self._parameters = inspect.signature(wrapped.forward).parameters

    @torch.inference_mode()
    def read_prompts(self, prompts: Sequence[tuple[int, ...]]) -> PromptStates:
        """Runs the model over distinct prompts.

        Where the model's attention is known (`can_share`), what a group of prompts begins with is read once, and their
        rests are read together with little padding between the two parts; padding attends to the beginning, so that it
        stays finite. All other prompts are read with those of the same length, so that nothing is padded.

        Args:
            prompts: Token ids.

        Returns:
            Their states, in the same order.
        """
        lengths = [len(prompt) for prompt in prompts]
        states: PromptStates | None = None
        device = self.device.type
        for head, members in common_heads(prompts, device) if self.shares else [(0, list(range(len(prompts))))]:
            before = self._read_rows([prompts[members[0]][:head]], [])[0] if head else []
            for chunk in prefill_chunks([lengths[i] - head for i in members], device, padding=head > 0):
                places = [members[i] for i in chunk]
                layers, logits = self._read_rows([prompts[i][head:] for i in places], before)
                states = states or self._empty_states(lengths, layers, logits)
                _store(states, places, head, layers, logits)
        if states is None:
            raise ValueError("no prompts")
        return states

    def _read_rows(self, rows: Sequence[tuple[int, ...]], before: _Layers) -> tuple[_Layers, torch.Tensor]:
        """Reads left-padded rows, all behind the same tokens; returns the states, and the logits after each row."""
        cache, start = DynamicCache(), before[0][0].shape[2] if before else 0
        for number, (keys, values) in enumerate(before):
            cache.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), number)
        lengths, longest = torch.tensor([len(row) for row in rows], device=self.device), max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=self.device)
        columns = torch.arange(longest, device=self.device) - (longest - lengths.unsqueeze(1))
        mask = None
        if (columns < 0).any():
            mask = torch.cat((columns.new_ones(len(rows), start), (columns >= 0).to(torch.int64)), dim=1)
        logits = self._forward(ids, cache, mask, start + columns.clamp(min=0))[:, -1]
        layers: list[Any] = cache.layers  # of those of any cache, these have keys and values
        return [(layer.keys, layer.values) for layer in layers], logits

    def _empty_states(self, lengths: list[int], layers: _Layers, logits: torch.Tensor) -> PromptStates:
        def empty(state: torch.Tensor) -> torch.Tensor:
            return state.new_empty(len(lengths), state.shape[1], max(lengths), state.shape[3])

        return PromptStates(
            keys=[empty(keys) for keys, _ in layers],
            values=[empty(values) for _, values in layers],
            lengths=torch.tensor(lengths, device=self.device),
            logits=logits.new_empty(len(lengths), logits.shape[1]),
            shared=self.shares,
            buffers=self.buffers,
        )

    @torch.inference_mode()
    def read_tokens(
        self, tokens: torch.Tensor, cache: RowCache, row_of_stream: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Appends one token to every row.

        Args:
            tokens: Shape (rows,).
            cache: The rows' states; extended in place.
            row_of_stream: Which row has the text of each stream, shape (streams,).
            step: How many tokens each stream has had before this one.

        Returns:
            Next-token logits, float32 or wider, shape (streams, vocabulary).
        """
        ids = tokens.unsqueeze(1)
        positions = cache.position_ids(step)
        with head_rows(self.model, row_of_stream) as head:
            if isinstance(cache, SharedCache):
                with shared_attention(self.model, cache):
                    logits = self._forward(ids, cache, None, positions)[:, -1]
            else:
                logits = self._forward(ids, cache, cache.attention_mask(), positions)[:, -1]
        return logits if head.has_selected else logits.index_select(0, row_of_stream)

    @torch.inference_mode()
    def read_texts(self, ids: torch.Tensor, states: PromptStates, prompt_of_row: Indices) -> torch.Tensor:
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


def _store(states: PromptStates, places: list[int], head: int, layers: _Layers, logits: torch.Tensor) -> None:
    """Writes what was read of some prompts, shortest first, to their places, right-aligned and without padding."""
    device, width = logits.device, states.width
    states.logits[torch.tensor(places, device=device)] = logits
    lengths = states.lengths[torch.tensor(places, device=device)].tolist()
    for length, run in groupby(range(len(places)), key=lengths.__getitem__):
        rows = list(run)
        here, there = slice(rows[0], rows[-1] + 1), torch.tensor([places[row] for row in rows], device=device)
        own = length - head
        for kept, read in zip(zip(states.keys, states.values, strict=True), layers, strict=True):
            for target, source in zip(kept, read, strict=True):
                target[there, :, : width - length] = 0  # has no weight in attention, but must be finite
                target[there, :, width - own :] = source[here, :, source.shape[2] - own :]
                target[there, :, width - length : width - own] = source[here, :, :head]


def _with_room(states: torch.Tensor, most_rows: int, steps: int) -> torch.Tensor:
    rows, heads, width, size = states.shape
    buffer = states.new_empty(most_rows, heads, width + steps, size)  # only what was written is ever read
    buffer[:rows, :, :width] = states
    return buffer
