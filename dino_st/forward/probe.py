"""How a model reads, found out by a few tokens alone and in company."""

from __future__ import annotations

import logging
from itertools import cycle, islice
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch

from dino_st.errors import ConfigurationError, ModelError, OutOfMemoryError, first_line
from dino_st.forward.cache import PackedStates, PromptRoom, PromptStates, on_device
from dino_st.forward.head import float32_head
from dino_st.forward.runner import CausalModel, Reading
from dino_st.forward.slot_cache import Rows, SlotCache, groups_by_prompt

logger = logging.getLogger(__name__)

SLOT_DEVICES = ("cuda",)
"""Where a step of fixed shape, with a slot for each stream (`decoding.slots`), is quicker than rows that are shared."""

_LENGTHS = (3, 4, 13)
"""Tokens of a prompt, of a text behind it, and of a longer prompt that is read beside it."""

_ALIKE, _ALIKE_HALF, _LOOKS_AHEAD, _ROUNDED = 0.01, 0.2, 1e-3, 0.05
"""How far logits may differ, as a share of their spread, that should be the same: in float32, in half precision, in
float32 after the same prompt alone and with a text behind it, which in causal models leaves 1e-5 at most, and what two
orders of summing leave in half precision on average (0.02 in small models)."""

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
    ids = cycle(_ordinary_tokens(model))
    short, text, long = (tuple(islice(ids, length)) for length in _LENGTHS)
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
        try:
            with float32_head(model):
                found, token_bytes = _beside_another(CausalModel(model, Reading(mixes_lengths)), short, text, long)
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
            shares = mixes_lengths and _agrees(model, "shared", short, text, long)
            fits_slots = shares and model.device.type in SLOT_DEVICES and _agrees(model, "slots", short, text, long)
            return Reading(mixes_lengths, token_bytes, shares, fits_slots)
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


def _ordinary_tokens(model: Any) -> list[int]:
    """Ids from the middle of a model's vocabulary that its configuration gives no special meaning."""
    settings = model.config.get_text_config().to_dict() | model.config.to_dict()
    names = [name for name in settings if name.endswith(("_token_id", "_token_index"))]
    special = {settings[name] for name in names if isinstance(settings[name], int)}
    layer = model.get_output_embeddings()
    if not isinstance(layer.weight, torch.Tensor):
        raise ModelError(
            f"{type(model).__name__}: its output layer, a {type(layer).__name__}, has no matrix of weights, as where "
            "torch quantised it; give the model as it was before"
        )
    size = layer.weight.shape[0]
    return [id_ % size for id_ in range(size // 2, size // 2 + min(size, 64)) if id_ % size not in special] or [0]


def _beside_another(
    reader: CausalModel, short: tuple[int, ...], text: tuple[int, ...], long: tuple[int, ...]
) -> tuple[torch.Tensor, int]:
    """What is predicted after a short prompt and each token of a text, with a longer prompt beside it.

    Logits of shape (1 + tokens of the text + 1, vocabulary), where the last row is the first token's once more, read by
    itself; and the bytes that are kept of a token.
    """
    states, rows, streams = reader.read_prompts([short, long]), np.arange(2), torch.arange(2, device=reader.device)
    texts = torch.tensor([text, text], device=reader.device)
    behind = reader.read_texts(texts, states, rows)[0].clone()
    cache = reader.start_rows(states, 2, 1)
    cache.start(rows, rows)
    cache.arrange(rows, np.zeros_like(rows))
    first = reader.read_tokens(texts[:, 0], cache, streams)[:1]
    kept = sum(state[0, :, 0].numel() * state.element_size() for layer in states.layers for state in layer)
    return torch.cat((states.logits[:1].float(), behind.float(), first.float())), kept


_Way = Literal["alone", "copied", "shared", "slots"]
_SLOWER = {"shared": "with a copy of the prompt for each stream", "slots": "without CUDA graphs"}
"""How models decode that do not fit a way."""


def _agrees(model: Any, way: _Way, head: tuple[int, ...], text: tuple[int, ...], rest: tuple[int, ...]) -> bool:
    """Whether rows predict in one way what the model does by itself; says so where they do not.

    They must agree with a pass over all tokens in the model's own attention but for rounding, which in half precision
    is told from rows with a copy of their prompts.
    """
    half, agrees = model.dtype in (torch.bfloat16, torch.float16), False
    try:
        with float32_head(model):
            expected = _in_company(model, "alone", head, text, rest)
            found = _distance(_in_company(model, way, head, text, rest), expected)
            copied = _distance(_in_company(model, "copied", head, text, rest), expected) if half else found
        agrees = bool(found.median() <= _ROUNDED + 2 * copied.median() if half else found.max() <= _LOOKS_AHEAD)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever a model's own code raises
        logger.debug("sharing prompts ended in %r", error)
    if not agrees:
        kind = model.config.get_text_config().model_type
        logger.info("models of type %s decode %s, which is slower", kind, _SLOWER[way])
    return agrees


def _in_company(
    model: Any, way: _Way, head: tuple[int, ...], text: tuple[int, ...], rest: tuple[int, ...]
) -> torch.Tensor:
    """What is predicted after each token of three texts behind two prompts that begin alike.

    The first ends after two tokens, when the third takes its place and begins. Float32 logits, shape (texts' tokens,
    vocabulary). Rows have copies of their prompts, share them, or share them and have slots of their own; or ("alone")
    all tokens are read at once by the model itself.
    """
    prompts, texts, prompt_of_text = [head + rest, head + rest[:2]], [text, text[::-1], text], np.array([0, 0, 1])
    batches = [((0, step), (1, step)) if step < 2 else ((2, step - 2), (1, step)) for step in range(len(text))]
    if way == "alone":
        rows = [prompts[prompt] + each for prompt, each in zip(prompt_of_text, texts, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + row[-1:] * (width - len(row)) for row in rows], device=model.device)
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
        places = [(row, len(rows[row]) - len(text) + step) for batch in batches for row, step in batch]
        return logits[[row for row, _ in places], [column for _, column in places]]
    reader, found = CausalModel(model, Reading(True, shares=way != "copied")), []
    if way == "slots":
        packed = cast(PackedStates, reader.read_prompts(prompts, PromptRoom()))
        slots = SlotCache(packed, 2, len(text), packed.width)
    else:
        before = reader.read_rows([head], [])[0]
        layers, predicted = reader.read_rows([prompt[len(head) :] for prompt in reversed(prompts)], before)
        states = PromptStates.empty(prompts, layers, predicted)
        states.store([1, 0], layers, predicted)
        cache = reader.start_rows(states, 2, len(text))
    for batch in batches:
        of_rows, step = np.array(batch).T
        prompt, ids = prompt_of_text[of_rows], torch.tensor([texts[row][at] for row, at in batch], device=model.device)
        if way == "slots":
            slot, written, of = (on_device(each, model.device) for each in (of_rows % 2, step, prompt))
            members = on_device(groups_by_prompt(prompt), model.device)
            slots.arrange(Rows(slot, packed.starts[of], packed.lengths[of], written, members))
            logits = reader.read_slots(ids, slots)
        else:
            if (new := (step == 0).nonzero()[0]).size:
                cache.start(new, prompt[new])
            cache.arrange(prompt, step)
            logits = reader.read_tokens(ids, cache, torch.arange(2, device=model.device))
        found.append(logits.float().clone())
    return torch.cat(found)


def _unreadable(model: Any, error: Exception) -> Exception:
    """Says what follows from an error in a model's own code."""
    reason = first_line(error)
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
