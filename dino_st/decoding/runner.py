"""Reading with the model: prompts once each, what several begin with once for all, then a token a row at a time."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import cycle, groupby, islice
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache

from dino_st.decoding.attention import SharedCache, shared_attention
from dino_st.decoding.cache import (
    CopiedCache,
    Indices,
    Layers,
    PackedStates,
    PromptRoom,
    PromptStates,
    RowCache,
    StreamBuffers,
    on_device,
)
from dino_st.decoding.head import HeadRows, float32_head, head_rows
from dino_st.decoding.slots.cache import Rows, SlotCache, groups_by_prompt
from dino_st.errors import ConfigurationError, ModelError, OutOfMemoryError

logger = logging.getLogger(__name__)

_PASS = {"cpu": 64}
_PASS_ELSEWHERE = 8192
"""Tokens that a forward pass takes as long for as to get under way: what it must save to be worth it."""

SLOT_DEVICES = ("cuda",)
"""Where a step of fixed shape, with a slot for each stream (`decoding.slots`), is quicker than rows that are shared."""

_LEVELS = 16
"""How often a group is split at most."""

_PREFILL_TOKENS, _PREFILL_TOKENS_ELSEWHERE, _PREFILL_BYTES = 16_384, 65_536, 3e9
"""Tokens of one prefill forward pass: enough to keep a CPU, or other hardware, busy; there, and what they keep."""

_HEADS = 16
"""Beginnings of prompts whose states are kept for later batches."""

_PROBE = (3, 4, 13)
"""Tokens of the probe: of a prompt, of a text behind it, and of a longer prompt that is read beside it."""

_ALIKE, _ALIKE_HALF, _LOOKS_AHEAD, _ROUNDED = 0.01, 0.2, 1e-3, 0.05
"""How far logits may differ, as a share of their spread, that should be the same: in float32, in half precision, in
float32 after the same prompt alone and with a text behind it, which in causal models leaves 1e-5 at most, and what two
orders of summing leave in half precision on average (0.02 in small models)."""

Prompts = Sequence[tuple[int, ...]]


def common_heads(prompts: Prompts, device: str) -> list[tuple[int, list[int]]]:
    """Groups distinct prompts by their beginnings, so that few tokens are read in all.

    Prompts for one label differ only in their sentence, and what stands before it is longer than most sentences. A
    group is the number of tokens that all its prompts begin with (always less than the shortest has), and their
    indices. The kind of device, such as `cuda`, says what a forward pass costs.
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


def chunks_by_length(lengths: Sequence[int], *, tokens: int, padding: int | None = None) -> Iterator[list[int]]:
    """Yields the indices of rows that are read in one forward pass, those of like length together, shortest first.

    A pass takes so many tokens, padding included, unless a single row exceeds it, and at most so much padding, if
    given.
    """
    chunk: list[int] = []
    own = 0
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        area = (len(chunk) + 1) * lengths[i]
        if chunk and (area > tokens or (padding is not None and area - own - lengths[i] > padding)):
            yield chunk
            chunk, own = [], 0
        chunk.append(i)
        own += lengths[i]
    if chunk:
        yield chunk


class CausalModel:
    """What the engine asks of a transformers model: to read prompts, one more token a row, and whole texts.

    Options that not every architecture has (`position_ids`, `logits_to_keep`) are passed where they exist. A model that
    misreads prompts of several lengths side by side (`probe`) reads those of each length by themselves. `shares` says
    whether streams read their prompt's keys and values where they are, instead of from a copy for each. Streams write
    to `buffers`; a batch that is started ends the one before.
    """

    def __init__(self, model: Any, *, reading: Reading | None = None) -> None:
        """Prepares a model; how it reads is found out by `probe`, unless it is given."""
        self.model = model
        self._mixes_lengths = (reading or probe(model)).mixes_lengths
        self.shares = can_share(model) if reading is None else reading.shares
        self.fits_slots = self.shares and (reading or probe(model)).fits_slots
        self.buffers = StreamBuffers()
        self._heads: dict[tuple[int, ...], Layers] = {}
        self.device: torch.device = model.device
        wrapped = model.get_base_model() if hasattr(model, "get_base_model") else model  # a PEFT model passes all on
        options = {"position_ids", "logits_to_keep"} if self._mixes_lengths else {"logits_to_keep"}
        parameters = inspect.signature(wrapped.forward).parameters
        self._options = options & set(parameters)
        self._cache = "cache" if "cache" in parameters else "past_key_values"  # its name before transformers 5.24
        self._pass_tokens = _PREFILL_TOKENS
        if self.device.type != "cpu":
            of_a_token = reading.token_bytes if reading else probe(model).token_bytes
            most = int(_PREFILL_BYTES / max(1, of_a_token))
            self._pass_tokens = max(_PREFILL_TOKENS // 4, min(_PREFILL_TOKENS_ELSEWHERE, most))

    @torch.inference_mode()
    def read_prompts(self, prompts: Prompts, room: PromptRoom | None = None) -> PromptStates:
        """Runs the model over prompts; of those that are the same, once. In a `room`, what is kept of them is packed.

        Where streams share prompts, what a group of prompts begins with is read once, and their rests are read together
        with little padding at their end, which no token sees. All other prompts are read with those of the same length,
        so that nothing is padded.
        """
        prompts = list(dict.fromkeys(prompts))
        states: PromptStates | None = None
        spare = _PASS.get(self.device.type, _PASS_ELSEWHERE)
        groups = common_heads(prompts, self.device.type) if self.shares else [(0, list(range(len(prompts))))]
        for head, members in groups:
            before = self._read_head(prompts[members[0]][:head]) if head else []
            lengths, pads = [len(prompts[i]) - head for i in members], head or (room and self._mixes_lengths)
            for chunk in chunks_by_length(lengths, tokens=self._pass_tokens, padding=spare if pads else 0):
                places = [members[i] for i in chunk]
                layers, logits = self._read_rows([prompts[i][head:] for i in places], before)
                if states is None and room is not None:
                    states = PackedStates.into(prompts, layers, logits, room)
                states = states or PromptStates.empty(prompts, layers, logits)
                states.store(places, layers, logits)
        if states is None:
            raise ValueError("no prompts")
        return states

    def _read_head(self, head: tuple[int, ...]) -> Layers:
        """States of what prompts begin with, which most batches have in common."""
        if head not in self._heads:
            if len(self._heads) == _HEADS:
                del self._heads[next(iter(self._heads))]
            self._heads[head] = self._read_rows([head], [])[0]
        return self._heads[head]

    def _read_rows(self, rows: Prompts, before: Layers) -> tuple[Layers, torch.Tensor]:
        """Reads rows, padded at their end, behind the same tokens; returns the states and the logits after each row."""
        cache, start = DynamicCache(), before[0][0].shape[2] if before else 0
        for number, (keys, values) in enumerate(before):
            cache.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), number)
        lengths, longest = torch.tensor([len(row) for row in rows], device=self.device), max(map(len, rows))
        ids = torch.tensor([[*row, *row[-1:] * (longest - len(row))] for row in rows], device=self.device)
        positions = torch.arange(start, start + longest, device=self.device).expand(len(rows), -1)
        everyone, last = torch.arange(len(rows), device=self.device), lengths - longest - 1
        with self._select(everyone, last) as head:
            logits = self._forward(ids, cache, None, positions, keep=longest - min(map(len, rows)) + 1)
        layers: list[Any] = cache.layers  # of those of any cache, these have keys and values
        return [(layer.keys, layer.values) for layer in layers], head.of(logits, everyone, last)

    def _select(self, rows: torch.Tensor, columns: torch.Tensor | int = -1) -> AbstractContextManager[HeadRows]:
        return head_rows(self.model, rows, columns) if self._mixes_lengths else nullcontext(HeadRows())

    def start_rows(self, states: PromptStates, most_rows: int, steps: int) -> RowCache:
        """Room for so many rows that continue prompts, and so many tokens of each; none of them has begun."""
        if self.shares:
            return SharedCache(states, most_rows, steps, self.buffers)
        return CopiedCache(states, most_rows, 2 * steps)

    @torch.inference_mode()
    def read_tokens(self, tokens: torch.Tensor, cache: RowCache, row_of_stream: torch.Tensor) -> torch.Tensor:
        """Appends one token, shape (rows,), to every row; the cache is extended in place.

        `row_of_stream`, shape (streams,), names the row that has each stream's text. Returns next-token logits, float32
        or wider, shape (streams, vocabulary).
        """
        with self._select(row_of_stream) as head, shared_attention(self.model, cache):
            logits = self._forward(tokens.unsqueeze(1), cache, cache.attention_mask(), cache.position_ids())
        return head.of(logits, row_of_stream)

    @torch.inference_mode()
    def read_slots(self, tokens: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """Reads one token, shape (rows,), of every row that the cache is arranged for; returns next-token logits.

        They have shape (rows, vocabulary), float32 or wider.
        """
        with shared_attention(self.model, cache):
            return self._forward(tokens.unsqueeze(1), cache, None, cache.position_ids())[:, -1]

    @torch.inference_mode()
    def read_texts(self, ids: torch.Tensor, states: PromptStates, prompt_of_row: Indices) -> torch.Tensor:
        """Reads whole texts behind their prompts, whose states are left as they are.

        Ids have shape (texts, length); shorter texts are padded at their end. Returns what the model predicts after
        each token, shape (texts, length, vocabulary), float32 or wider.
        """
        length, rows = ids.shape[1], np.arange(len(prompt_of_row))
        cache = CopiedCache(states, len(rows), length)
        cache.start(rows, prompt_of_row)
        cache.arrange(prompt_of_row, np.zeros_like(rows))
        positions = cache.position_ids() + torch.arange(length, device=self.device)
        return self._forward(ids, cache, cache.attention_mask(length), positions, keep=length)

    def _forward(
        self, ids: torch.Tensor, cache: Cache, mask: torch.Tensor | None, positions: torch.Tensor, *, keep: int = 1
    ) -> torch.Tensor:
        if not self._mixes_lengths and isinstance(cache, CopiedCache):
            parts = list(cache.parts())
            read = [self._forward(ids[rows], part, None, positions[rows], keep=keep).clone() for rows, part in parts]
            return torch.cat(read)[cache.join(parts, ids.shape[1])]
        given: dict[str, Any] = {"position_ids": positions, "logits_to_keep": keep}
        options = {name: given[name] for name in self._options} | {self._cache: cache}
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **options)
        logits: torch.Tensor = output.logits[:, -keep:]
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits

    def read_probe(
        self, short: tuple[int, ...], text: tuple[int, ...], long: tuple[int, ...]
    ) -> tuple[torch.Tensor, int]:
        """What is predicted after a short prompt and each token of a text, with a longer prompt beside it.

        Logits of shape (1 + tokens of the text + 1, vocabulary), where the last row is the first token's once more,
        read by itself; and the bytes that are kept of a token.
        """
        states, rows, streams = self.read_prompts([short, long]), np.arange(2), torch.arange(2, device=self.device)
        texts = torch.tensor([text, text], device=self.device)
        behind = self.read_texts(texts, states, rows)[0].clone()
        cache = self.start_rows(states, 2, 1)
        cache.start(rows, rows)
        cache.arrange(rows, np.zeros_like(rows))
        first = self.read_tokens(texts[:, 0], cache, streams)[:1]
        kept = sum(state[0, :, 0].numel() * state.element_size() for layer in states.layers for state in layer)
        return torch.cat((states.logits[:1].float(), behind.float(), first.float())), kept


@dataclass(frozen=True)
class Reading:
    """How a model reads, as `probe` found out."""

    mixes_lengths: bool  # whether prompts of several lengths may be read side by side
    token_bytes: int = 0  # memory that the keys and values of one token take
    shares: bool = False  # whether streams may read their prompt's keys and values where they are
    fits_slots: bool = False  # whether, too, every stream may have a slot of its own


def can_share(model: Any) -> bool:
    """Whether streams of a model read their prompt's keys and values where they are, instead of from a copy for each.

    `probe` finds it out; of a model without weights (on the device `meta`) it is what transformers says of its class.
    """
    if model.device.type == "meta":
        return bool(getattr(model, "_supports_attention_backend", False))
    return probe(model).shares


_known: WeakKeyDictionary[Any, Reading] = WeakKeyDictionary()


def probe(model: Any) -> Reading:
    """Finds out whether, and how, a model can be decoded with: a few tokens alone and in company, compared.

    Raises ModelError if what it predicts after a prompt depends on what is read beside it or behind it, or if it keeps
    no keys and values that could be shared; ConfigurationError if it cannot compute in the type of its weights;
    OutOfMemoryError if it leaves no memory for even that. What was found is kept as long as the model is.
    """
    if model not in _known:
        _known[model] = _probe(model)
    return _known[model]


@torch.inference_mode()
def _probe(model: Any) -> Reading:
    name, half = type(model).__name__, model.dtype in (torch.bfloat16, torch.float16)
    settings = model.config.get_text_config().to_dict() | model.config.to_dict()
    special = {
        value
        for key, value in settings.items()
        if key.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    }
    size = model.get_output_embeddings().weight.shape[0]
    ordinary = [id_ % size for id_ in range(size // 2, size // 2 + min(size, 64)) if id_ % size not in special]
    ids = cycle(ordinary or [0])
    short, text, long = (tuple(islice(ids, length)) for length in _PROBE)
    try:
        alone = model(input_ids=torch.tensor([short + text], device=model.device), use_cache=False).logits[0].float()
    except Exception as error:
        raise _unreadable(model, error) from error
    expected = alone[[*range(len(short) - 1, len(alone)), len(short)]]
    if expected.isnan().any():
        raise ModelError(
            f"{name} predicts no numbers (NaN) in {str(model.dtype).removeprefix('torch.')}; choose another --dtype, "
            "such as float32, or mend the weights"
        )
    if expected.max() == expected.min():
        raise ModelError(f"{name} finds every token equally likely; its weights are empty or were never trained")
    failure: Exception | None = None
    for mixes_lengths in (True, False):
        reader = CausalModel(model, reading=Reading(mixes_lengths))
        try:
            with float32_head(model):
                found, token_bytes = reader.read_probe(short, text, long)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise _unreadable(model, error) from error
        except Exception as error:  # noqa: BLE001  # whatever a model's own code raises
            failure = failure or error
            continue
        distance = _distance(found, expected)
        looks_ahead = distance[0] > (_ALIKE_HALF if half else _LOOKS_AHEAD)
        if distance.median() <= (_ALIKE_HALF if half else _ALIKE) and not looks_ahead:
            if not mixes_lengths:
                logger.info(
                    "%s misreads prompts of several lengths side by side; those of each length are read "
                    "by themselves, which is slower",
                    name,
                )
            shares = mixes_lengths and _shares(model, short, text, long)
            return Reading(mixes_lengths, token_bytes, shares, shares and _fits_slots(model, short, text, long))
    if failure is not None:
        raise _unreadable(model, failure) from failure
    if looks_ahead:
        raise ModelError(
            f"{name} looks ahead: what follows a token changes what it predicts there. Expected a causal language "
            "model; an encoder belongs to `dino-st train --encoder`"
        )
    raise ModelError(
        f"{name} cannot be decoded with: what it predicts after a prompt depends on the prompts that are read beside "
        "it; use a decoder-only transformer, such as those of the GPT-2, Llama, Qwen or Gemma families"
    )


def _shares(model: Any, head: tuple[int, ...], text: tuple[int, ...], rest: tuple[int, ...]) -> bool:
    """Whether rows that share a prompt, whose beginning is read once for others, predict what the model does by itself.

    Compared with a pass over all tokens in the model's own attention: they must agree but for rounding, which in half
    precision is told from rows with a copy of their prompts.
    """
    if _agrees(model, True, head, text, rest):
        return True
    logger.info(
        "models of type %s decode with a copy of the prompt for each stream, which is slower",
        model.config.get_text_config().model_type,
    )
    return False


def _fits_slots(model: Any, head: tuple[int, ...], text: tuple[int, ...], rest: tuple[int, ...]) -> bool:
    """Whether rows that share prompts may have slots of their own, on devices where that is quicker."""
    if model.device.type not in SLOT_DEVICES:
        return False
    if _agrees(model, "slots", head, text, rest):
        return True
    logger.info(
        "models of type %s decode without CUDA graphs, which is slower", model.config.get_text_config().model_type
    )
    return False


def _agrees(
    model: Any, way: Literal[True, "slots"], head: tuple[int, ...], text: tuple[int, ...], rest: tuple[int, ...]
) -> bool:
    half = model.dtype in (torch.bfloat16, torch.float16)
    try:
        with float32_head(model):
            expected = _in_company(model, None, head, text, rest)
            found = _distance(_in_company(model, way, head, text, rest), expected)
            copied = _distance(_in_company(model, False, head, text, rest), expected) if half else found
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever a model's own code raises
        logger.debug("sharing prompts ended in %r", error)
        return False
    return bool(found.median() <= _ROUNDED + 2 * copied.median() if half else found.max() <= _LOOKS_AHEAD)


def _on_slots(
    reader: CausalModel, prompts: list[tuple[int, ...]], texts: list[tuple[int, ...]], batches: list[Any]
) -> torch.Tensor:
    """The same in slots, of which the last draw takes that of the first."""
    states = cast(PackedStates, reader.read_prompts(prompts, PromptRoom()))
    cache, found = SlotCache(states, 2, len(texts[0]), states.longest), []
    for batch in batches:
        text, step = np.array(batch).T
        prompts_of_rows = np.array([0, 0, 1])[text]
        given = (on_device(each, reader.device) for each in (prompts_of_rows, text % 2, step))
        prompt, slots, written = given
        members = on_device(groups_by_prompt(prompts_of_rows), reader.device)
        cache.arrange(Rows(slots, states.starts[prompt], states.lengths[prompt], written, members))
        ids = torch.tensor([texts[row][step] for row, step in batch], device=reader.device)
        found.append(reader.read_slots(ids, cache).float().clone())
    return torch.cat(found)


def _in_company(
    model: Any,
    shares: bool | Literal["slots"] | None,
    head: tuple[int, ...],
    text: tuple[int, ...],
    rest: tuple[int, ...],
) -> torch.Tensor:
    """What is predicted after each token of three texts behind two prompts that begin alike.

    The first ends after two tokens, when the third takes its place and begins. Float32 logits, shape (texts' tokens,
    vocabulary). Rows share their prompts (in slots of their own), or have copies, or (None) all tokens are read at once
    by the model alone.
    """
    prompts, texts = [head + rest, head + rest[:2]], [text, text[::-1], text]
    batches = [((0, step), (1, step)) if step < 2 else ((2, step - 2), (1, step)) for step in range(len(text))]
    if shares is None:
        rows = [prompts[number] + each for number, each in zip((0, 0, 1), texts, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + row[-1:] * (width - len(row)) for row in rows], device=model.device)
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
        places = [(row, len(rows[row]) - len(text) + step) for batch in batches for row, step in batch]
        return logits[[row for row, _ in places], [column for _, column in places]]
    reader, places_of = CausalModel(model, reading=Reading(True, shares=bool(shares))), np.arange(2)
    if shares == "slots":
        return _on_slots(reader, prompts, texts, batches)
    before = reader._read_rows([head], [])[0]
    layers, predicted = reader._read_rows([prompt[len(head) :] for prompt in reversed(prompts)], before)
    states = PromptStates.empty(prompts, layers, predicted)
    states.store([1, 0], layers, predicted)
    cache, found = reader.start_rows(states, 2, len(text)), []
    for number, batch in enumerate(batches):
        if number in (0, 2):
            cache.start(places_of[: 2 - number // 2], np.array([number // 2, 0])[: 2 - number // 2])
        cache.arrange(np.array([number // 2 > 0, 0]), np.array([step for _, step in batch]))
        ids = torch.tensor([texts[row][step] for row, step in batch], device=model.device)
        found.append(reader.read_tokens(ids, cache, torch.arange(2, device=model.device)).float().clone())
    return torch.cat(found)


def _unreadable(model: Any, error: Exception) -> Exception:
    """Says what follows from an error in a model's own code."""
    reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return OutOfMemoryError(
            f"beside {type(model).__name__} there is no memory left for a few tokens; use a smaller model, a narrower "
            "--dtype or another --device"
        )
    if model.dtype == torch.float64 and "Double" in reason:
        return ConfigurationError(
            f"this model cannot compute in float64 ({reason}); choose another dtype, such as float32"
        )
    return ModelError(
        f"{type(model).__name__} cannot be decoded with: reading a few tokens ended in {type(error).__name__}: "
        f"{reason}. Needed is a transformer that keeps keys and values of each token (`past_key_values`), which draws "
        "can share; recurrent or convolutional layers (Mamba, Jamba, LFM2, MiniMax) and models without such a cache "
        "(GPT-1, XLM) cannot be used"
    )


def _distance(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """How far logits lie from others as a share of their spread, shape (rows,); ruled-out tokens do not count."""
    allowed = expected.abs().amax(dim=0) < 1e4
    found, expected = found[:, allowed], expected[:, allowed]
    spread = (expected - expected.mean(dim=1, keepdim=True)).norm(dim=1)
    distance: torch.Tensor = (found - expected).norm(dim=1) / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    return distance
