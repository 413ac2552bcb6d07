from __future__ import annotations

import copy
import dataclasses
import functools
import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dino_st.decoding import engine as engine_module
from dino_st.decoding import memory
from dino_st.decoding.engine import DecodingEngine, Draw, Drawn
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, OutOfMemoryError
from dino_st.forward.attention import SharedCache
from dino_st.forward.probe import probe
from dino_st.forward.runner import CausalModel
from dino_st.tasks.prompts import build_prompts, encode_prompt
from dino_st.tasks.spec import TaskSpec
from tests import reference
from tests.conftest import FAMILIES

SENTENCES = [
    "A man is playing a flute.",
    "Two dogs run.",
    "The cat, which sleeps on a mat, said no to a woman who asked why the grass is green and wet.",
]
OPTIONS = DecodingOptions(max_new_tokens=16, max_tries=3, top_k=60, top_p=0.98)


def sts_draws(tokenizer: Any, sentences: list[str] = SENTENCES, samples: int = 2) -> list[Draw]:
    spec = TaskSpec.load("sts-x2")
    draws = []
    for x1 in sentences:
        for label in spec.labels:
            prompts = build_prompts(spec, label, x1)
            target = encode_prompt(prompts.target, tokenizer)
            counters = tuple(encode_prompt(text, tokenizer) for text in prompts.counters)
            draws += [Draw(x1, label, sample, target, counters) for sample in range(samples)]
    return draws


def outcomes(drawn: list[Drawn]) -> list[tuple[str | None, int, tuple[int, ...]]]:
    return [(one.text, one.tries, one.tokens) for one in drawn]


def decode_at_once(monkeypatch: pytest.MonkeyPatch, streams: tuple[int, int]) -> None:
    """Lets one in so many streams, but at least so many, be decoded at a time, however small the model."""
    monkeypatch.setitem(memory._AT_ONCE, "cpu", streams)
    monkeypatch.setattr(memory, "_CPU_AT_ONCE", 0)


def copy_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets engines copy prompts, as for models that cannot share them."""
    copied = {"shares": False, "fits_slots": False}
    monkeypatch.setattr(engine_module, "probe", lambda model: dataclasses.replace(probe(model), **copied))


def reader_of(model: Any) -> CausalModel:
    """A model as the engine reads it."""
    return CausalModel(model, probe(model))


def count_attention(monkeypatch: pytest.MonkeyPatch, kind: Any = SharedCache) -> list[int]:
    """A list that grows with every use of a cache's attention, by default that over shared prompts."""
    attended: list[int] = []
    attend = kind.attend

    def counted(cache: Any, layer: int, *rest: Any) -> torch.Tensor:
        attended.append(layer)
        result: torch.Tensor = attend(cache, layer, *rest)
        return result

    monkeypatch.setattr(kind, "attend", counted)
    return attended


def reference_outcomes(
    model: Any, tokenizer: Any, draws: list[Draw], options: DecodingOptions
) -> list[tuple[str | None, int, tuple[int, ...]]]:
    """What the slow reference writes for draws, with seed 7."""
    return [
        reference.generate(
            model,
            tokenizer,
            (draw.target, *(draw.counters if options.decay_constant else ())),
            (7, draw.x1, draw.label, draw.sample),
            options,
        )
        for draw in draws
    ]


def break_forward(model: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every forward pass of a model fail as torch would."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(message)

    monkeypatch.setattr(model, "forward", broken)


@pytest.mark.parametrize("path", ["shared prompts", "copied prompts"])
@pytest.mark.parametrize("decay_constant", [100.0, 0.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_batched_decoding_draws_the_tokens_of_the_slow_reference(
    family: str, decay_constant: float, path: str, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(family)
    probe(model)
    attended = count_attention(monkeypatch)
    if path == "copied prompts":
        copy_prompts(monkeypatch)
    decode_at_once(monkeypatch, (4, 9))  # draws wait for the rows of others
    options = dataclasses.replace(OPTIONS, decay_constant=decay_constant)
    draws = sts_draws(tokenizer)
    drawn = DecodingEngine(model, tokenizer, options, seed=7, rows=30).decode(draws)
    expected = reference_outcomes(model, tokenizer, draws, options)
    assert outcomes(drawn) == expected
    assert bool(attended) == (path == "shared prompts")
    written = [tokenizer.decode(tokens) for _, _, tokens in expected]
    assert any('"' in text for text in written), "the comparison says nothing unless some text ends at a mark"
    if (family, decay_constant) != ("phi", 0.0):  # whose texts are all cut at a mark inside
        assert any(text for text, _, _ in expected)


@pytest.mark.parametrize("path", ["shared prompts", "copied prompts"])
@pytest.mark.parametrize("counters", [1, 2, 3])
def test_any_number_of_counter_prompts_and_the_papers_formula_match_the_reference(
    counters: int, path: str, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama")
    if path == "copied prompts":
        copy_prompts(monkeypatch)
    options = dataclasses.replace(OPTIONS, decay_floor=0.0)
    texts = ["Task: one", "Task: two, a longer one", "Sentence", "A cat"][: 1 + counters]
    prompts = [encode_prompt(f'{text} "', tokenizer) for text in texts]
    draws = [Draw("", "y", sample, prompts[0], tuple(prompts[1:])) for sample in range(6)]
    drawn = DecodingEngine(model, tokenizer, options, seed=1, rows=100).decode(draws)
    expected = [reference.generate(model, tokenizer, prompts, (1, "", "y", d.sample), options) for d in draws]
    assert outcomes(drawn) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", [*FAMILIES, "gpt_oss"])
def test_every_family_shares_prompts_whatever_the_rounding(family: str, dtype: torch.dtype, make_model: Any) -> None:
    assert probe(make_model(family, dtype=dtype)).shares


def test_a_model_whose_attention_differs_from_the_shared_one_copies_prompts_and_says_so_once(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, attend = make_model("llama"), SharedCache.attend
    monkeypatch.setattr(SharedCache, "attend", lambda *given: attend(*given) * 1.01)
    with caplog.at_level("INFO", logger="dino_st"):
        engines = [DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30) for _ in range(2)]
    assert [record.message for record in caplog.records] == [
        "models of type llama decode with a copy of the prompt for each stream, which is slower"
    ]
    monkeypatch.undo()
    attended = count_attention(monkeypatch)
    drawn = [outcomes(engine.decode(sts_draws(tokenizer)[:4])) for engine in engines]
    assert drawn[0] == drawn[1]
    assert not attended


def test_the_models_own_attention_is_back_after_decoding_even_after_an_error(make_model: Any, tokenizer: Any) -> None:
    model = make_model("llama")
    before = model.config._attn_implementation
    engine = DecodingEngine(model, tokenizer, OPTIONS, seed=7, rows=30)
    engine.decode(sts_draws(tokenizer)[:4])
    assert model.config._attn_implementation == before

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no")

    handle = model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="no"):
        engine.decode(sts_draws(tokenizer)[:4])
    handle.remove()
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("path", ["shared prompts", "copied prompts"])
@pytest.mark.parametrize(("rows", "at_once"), [(1, 1), (5, 5), (12, 4), (1000, 7), (1000, 1000)])
def test_in_float64_neither_batch_size_nor_order_changes_the_outcome(
    rows: int, at_once: int, path: str, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("gpt2")
    if path == "copied prompts":
        copy_prompts(monkeypatch)
    draws = sts_draws(tokenizer)
    expected = outcomes(DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=24).decode(draws))
    decode_at_once(monkeypatch, (10**6, at_once))
    shuffled = list(range(len(draws)))
    random.Random(5).shuffle(shuffled)
    engine = DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=rows)
    drawn = outcomes(engine.decode([draws[i] for i in shuffled]))
    assert [drawn[shuffled.index(i)] for i in range(len(draws))] == expected


def test_debiasing_and_the_seed_change_what_is_written(make_model: Any, tokenizer: Any) -> None:
    model = make_model("gpt2")
    draws = sts_draws(tokenizer)

    def texts(seed: int, decay_constant: float) -> list[Any]:
        options = dataclasses.replace(OPTIONS, decay_constant=decay_constant)
        return outcomes(DecodingEngine(model, tokenizer, options, seed=seed, rows=50).decode(draws))

    assert texts(1, 100.0) != texts(1, 0.0)
    assert texts(1, 100.0) != texts(2, 100.0)
    assert texts(1, 100.0) == texts(1, 100.0)
    unbiased = [i for i, draw in enumerate(draws) if not draw.counters]
    assert [texts(1, 100.0)[i] for i in unbiased] == [texts(1, 0.0)[i] for i in unbiased]


def test_end_of_text_is_never_drawn(make_model: Any, tokenizer: Any) -> None:
    model = make_model("gpt2")
    options = dataclasses.replace(OPTIONS, max_new_tokens=40, top_k=0, top_p=1.0, max_tries=1)
    drawn = DecodingEngine(model, tokenizer, options, seed=0, rows=200).decode(sts_draws(tokenizer, samples=10))
    assert not any(tokenizer.eos_token_id in one.tokens for one in drawn)
    assert sum(len(one.tokens) for one in drawn) > 1000


def test_each_distinct_prompt_is_read_once(make_model: Any, tokenizer: Any) -> None:
    model = make_model("gpt2")
    probe(model)
    read = []
    handle = model.register_forward_pre_hook(
        lambda _module, _args, kwargs: read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    draws = sts_draws(tokenizer)
    DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=1000).decode(draws)
    handle.remove()
    tokens = sum(rows * width for rows, width in read if width > 1)
    distinct = {prompt for draw in draws for prompt in draw.prompts}
    assert len(distinct) == 3 * len(SENTENCES)
    assert max(map(len, distinct)) < tokens <= sum(map(len, distinct))


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_that_begin_alike_have_the_states_of_prompts_read_alone(
    family: str, make_model: Any, tokenizer: Any
) -> None:
    model = reader_of(make_model(family))
    words = [f"{place} {animal}" * repeats for place in "abcdefgh" for animal in ("cat", "dog") for repeats in (1, 3)]
    prompts = list(dict.fromkeys(prompt for draw in sts_draws(tokenizer, words) for prompt in draw.prompts))
    prompts.append(prompts[0][:-5])
    read: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _module, _args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    together = model.read_prompts(prompts)
    if model.reading.shares:
        assert sum(read) < 0.6 * sum(map(len, prompts))
    for prompt in prompts:
        alone, i = model.read_prompts([prompt]), together.index[prompt]
        torch.testing.assert_close(together.logits[i], alone.logits[0], rtol=0, atol=1e-10)
        for both, expected in zip(together.layers, alone.layers, strict=True):
            for states, own in zip(both, expected, strict=True):
                torch.testing.assert_close(states[i, :, -len(prompt) :], own[0], rtol=0, atol=1e-10)
        assert together.lengths[i] == len(prompt)


@pytest.mark.parametrize("path", ["shared prompts", "copied prompts"])
def test_each_beginning_of_a_text_is_read_once_after_each_prompt_and_none_after_its_end(
    path: str, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("gpt2")
    if path == "copied prompts":
        copy_prompts(monkeypatch)
    probe(model)
    shapes = []
    handle = model.register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    options = dataclasses.replace(OPTIONS, top_k=5, max_new_tokens=200, max_tries=1)
    draws = sts_draws(tokenizer, ["A man."], 8)
    drawn = DecodingEngine(model, tokenizer, options, seed=3, rows=1000).decode(draws)
    handle.remove()
    beginnings = [
        {
            (prompt, one.tokens[:length])
            for draw, one in zip(draws, drawn, strict=True)
            for prompt in draw.prompts
            if len(one.tokens) > length
        }
        for length in range(1, max(len(one.tokens) for one in drawn))
    ]
    assert [shape[0] for shape in shapes if shape[1] == 1] == [len(distinct) for distinct in beginnings]
    assert len(beginnings[0]) < len(beginnings[3]) > len(beginnings[-1])
    assert len(beginnings) < options.max_new_tokens - 1


def test_a_model_that_does_not_call_its_output_layer_is_decoded_all_the_same(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, draws = make_model("gpt2"), sts_draws(tokenizer)
    expected = outcomes(DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=1000).decode(draws))
    elsewhere = copy.deepcopy(model.get_output_embeddings())
    monkeypatch.setattr(model, "get_output_embeddings", lambda: elsewhere)
    assert outcomes(DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=1000).decode(draws)) == expected


def test_a_prompt_beyond_the_context_is_counted_and_the_others_are_written(make_model: Any, tokenizer: Any) -> None:
    draws = sts_draws(tokenizer, ["word " * 400, "A man."])
    drawn = DecodingEngine(make_model("gpt2"), tokenizer, OPTIONS, seed=3, rows=64).decode(draws)
    assert [one.rejections["prompt too long"] for one in drawn] == [1] * 6 + [0] * 6
    assert all(one.tries == 0 and one.text is None for one in drawn[:6])
    assert all(one.tries > 0 for one in drawn[6:])


@pytest.mark.parametrize(("excess", "tries"), [(0, 1), (1, 0)])
def test_a_prompt_must_leave_room_for_every_new_token(excess: int, tries: int, make_model: Any, tokenizer: Any) -> None:
    options = dataclasses.replace(OPTIONS, max_new_tokens=40, max_tries=1)
    prompt = (7,) * (256 - 40 + excess)  # the context of the tests' models is 256
    [drawn] = DecodingEngine(make_model("gpt2"), tokenizer, options, seed=3, rows=8).decode([Draw("x", "1", 0, prompt)])
    assert drawn.tries == tries


def test_running_out_of_memory_halves_the_batch_and_changes_nothing(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("gpt2")
    draws = sts_draws(tokenizer)
    expected = outcomes(DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=1000).decode(draws))
    forward, refused = model.forward, []

    @functools.wraps(forward)
    def small_forward(*args: Any, **kwargs: Any) -> Any:
        if kwargs["input_ids"].shape == (kwargs["input_ids"].shape[0], 1) and kwargs["input_ids"].shape[0] > 10:
            refused.append(kwargs["input_ids"].shape[0])
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", small_forward)
    engine = DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=1000)
    assert outcomes(engine.decode(draws)) == expected
    assert refused
    assert engine.rows <= 10 + 3


def test_after_memory_ran_out_no_batch_is_tried_that_is_as_large(make_model: Any, tokenizer: Any) -> None:
    engine = DecodingEngine(make_model("gpt2"), tokenizer, OPTIONS, seed=3, rows=8)
    tried: list[int] = []

    def work(items: Any) -> list[int]:
        tried.append(len(items))
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(items)

    for _ in range(2):
        assert engine._halving(work, range(8), lambda _: 1) == list(range(8))
    assert tried == [8, 4, 2, 2, 2, 2] + [2] * 4


def test_a_draw_that_never_fits_gives_an_error_that_says_what_to_do(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("gpt2")
    probe(model)
    break_forward(model, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes", monkeypatch)
    with pytest.raises(OutOfMemoryError, match="use a smaller model"):
        DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=1000).decode(sts_draws(tokenizer))


@pytest.mark.parametrize(
    ("message", "error", "wording"),
    [
        ("shapes do not fit", RuntimeError, "shapes do not fit"),
        (
            "Expected mat_a to be Float32, BFloat16 or Float16 matrix, got Double",
            ConfigurationError,
            r"cannot compute in float64 .* choose another dtype, such as float32",
        ),
    ],
)
def test_other_errors_are_not_taken_for_a_lack_of_memory(
    message: str,
    error: type[Exception],
    wording: str,
    make_model: Any,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model("gpt2")
    break_forward(model, message, monkeypatch)
    with pytest.raises(error, match=wording):
        DecodingEngine(model, tokenizer, OPTIONS, seed=3, rows=1000).decode(sts_draws(tokenizer))


@pytest.mark.parametrize("has_instructions", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_give_float32_logits_and_get_their_head_back(
    dtype: torch.dtype, has_instructions: bool, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dino_st.forward import head

    monkeypatch.setattr(head, "multiplies_bfloat16", lambda: has_instructions)
    monkeypatch.setattr(head, "_LARGE", 0)
    model = make_model("gpt2", dtype=dtype)
    prompts = [encode_prompt('A man said, "', tokenizer), encode_prompt("Two dogs run", tokenizer)]
    with head.float32_head(model):
        logits = torch.stack([reader_of(model).read_prompts([prompt]).logits[0].clone() for prompt in prompts])
    with torch.inference_mode():
        hidden = torch.cat([model.transformer(torch.tensor([prompt])).last_hidden_state[:, -1] for prompt in prompts])
        expected = hidden.float() @ model.lm_head.weight.float().T
    likeliest = expected.topk(60).indices  # of the 384 entries, fewer than what is corrected, since rounding tips some
    torch.testing.assert_close(logits.gather(1, likeliest), expected.gather(1, likeliest))
    is_exact = dtype == torch.float16 or not has_instructions
    torch.testing.assert_close(logits, expected, **({} if is_exact else {"rtol": 0.0, "atol": 0.05}))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.to(dtype).float()), "the sums must not have been rounded"
    assert "forward" not in vars(model.lm_head)


def test_logits_far_from_zero_keep_their_digits_where_products_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from dino_st.forward import head

    monkeypatch.setattr(head, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(head, "_LARGE", 0)
    hidden = torch.randn(5, 1, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    layer = torch.nn.Linear(64, 5000, bias=False, dtype=torch.bfloat16)
    with torch.inference_mode():
        hidden[..., 0] = 25
        layer.weight[:, 0] = -4  # as in GPT-2: -100 for every token
        expected = (hidden.float() @ layer.weight.float().T).squeeze(1)
        model = SimpleNamespace(get_output_embeddings=lambda: layer)
        with head.float32_head(model):
            logits = layer(hidden).squeeze(1)
        rounded = (hidden @ layer.weight.T).float().squeeze(1)
    assert (rounded - expected).abs().max() > 0.2
    assert (logits - expected).abs().max() < 0.02
    likeliest = expected.topk(20).indices
    torch.testing.assert_close(logits.gather(1, likeliest), expected.gather(1, likeliest))
