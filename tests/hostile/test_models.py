"""Language models of every kind: served, read by length, or refused in words, decided by a probe of a few tokens."""

from __future__ import annotations

import copy
import functools
import json
import re
import shutil
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from dino_st.backends import files, loading
from dino_st.backends.loading import check_causal_model, check_tokenizer, hash_weights, load_causal_model
from dino_st.backends.local import LocalWriter
from dino_st.backends.options import ModelOptions
from dino_st.data.shards import ShardDirectory
from dino_st.decoding import memory
from dino_st.decoding.engine import score_texts
from dino_st.errors import DinoWarning, MissingExtraError, ModelError
from dino_st.forward.probe import _in_company, probe
from dino_st.forward.runner import CausalModel
from dino_st.generation.dry_run import Outline
from dino_st.models import bundled_directory
from tests.conftest import VOCABULARY

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "d_model": 32,
    "num_hidden_layers": 2,
    "decoder_layers": 2,
    "encoder_layers": 1,
    "num_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "decoder_ffn_dim": 48,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
make: Any = AutoModelForCausalLM.from_config
WINDOWED: dict[str, Any] = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
SHORT, LONG, TEXT = (5, 6, 7, 8), tuple(range(9, 40)), (3, 4, 11, 12)


def test_what_ends_a_text_is_part_of_a_models_settings(tokenizer: Any) -> None:
    model = build("llama")
    before = loading.hash_settings(model, tokenizer)
    model.generation_config.eos_token_id = model.config.eos_token_id
    assert loading.hash_settings(model, tokenizer) == before
    model.generation_config.eos_token_id = [0, 7]
    assert loading.hash_settings(model, tokenizer) != before


def build(kind: str, **more: Any) -> Any:
    """A tiny model of a type, with weights large enough that every token and every position counts."""
    settings: Any = CONFIG_MAPPING[kind]
    known = {*settings.__dataclass_fields__, *settings.attribute_map}
    config = settings(**({name: value for name, value in SIZES.items() if name in known} | more))
    torch.manual_seed(0)
    model = make(config).eval()
    for weights in model.parameters():
        if weights.dim() > 1:
            weights.data = torch.randn_like(weights) * 0.3
    return model


def plain_score(model: Any, prompt: tuple[int, ...], text: tuple[int, ...]) -> float:
    """log p(text | prompt), from one forward pass over both and nothing else."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + text]), use_cache=False).logits[0].double()
    found = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return float(found[torch.arange(len(text)), torch.tensor(text)].sum())


def score(model: Any, *prompts: tuple[int, ...]) -> list[float]:
    reader, nothing = CausalModel(model, probe(model)), torch.tensor([], dtype=torch.long)
    with torch.inference_mode():
        return score_texts(reader, reader.read_prompts(prompts), prompts, [TEXT] * len(prompts), nothing)


SIDE_BY_SIDE: dict[str, dict[str, Any]] = {
    "gemma3_text": WINDOWED,
    "gemma4_text": WINDOWED
    | {"vocab_size_per_layer_input": 120, "hidden_size_per_layer_input": 8, "global_head_dim": 16},
    "gemma3n_text": {"vocab_size_per_layer_input": 120, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
    | WINDOWED,
    "qwen3": {},
    "mpt": {"n_heads": 4, "n_layers": 2},
    "bloom": {"n_head": 4, "n_layer": 2},
    "xglm": {"attention_heads": 4, "num_layers": 2, "ffn_dim": 48},
    "gpt_oss": WINDOWED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": {
        "attention_chunk_size": 16,
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
        "num_local_experts": 2,
        "intermediate_size_mlp": 48,
    },
}
OWN_ATTENTION = ("mpt", "bloom", "xglm")
"""Whose attention does not go through transformers' interface, so that prompts cannot be shared."""
BY_LENGTH = ("bart", "mbart", "pegasus", "blenderbot", "marian", "whisper")


@pytest.mark.parametrize("kind", [*SIDE_BY_SIDE, *BY_LENGTH])
def test_a_score_is_that_of_a_plain_forward_pass_alone_and_in_company(kind: str) -> None:
    model = build(kind, **SIDE_BY_SIDE.get(kind, {}))
    expected = [plain_score(model, SHORT, TEXT), plain_score(model, LONG, TEXT)]
    assert score(model, SHORT) == pytest.approx(expected[:1], abs=1e-3)
    assert score(model, SHORT, LONG) == pytest.approx(expected, abs=1e-3)
    assert probe(model).mixes_lengths == (kind not in BY_LENGTH)
    assert probe(model).shares == (kind not in (*BY_LENGTH, *OWN_ATTENTION))


WAYS: tuple[Any, ...] = ("alone", "shared", "copied")


@pytest.mark.parametrize("kind", [kind for kind in SIDE_BY_SIDE if kind not in OWN_ATTENTION])
def test_rows_that_share_a_prompt_longer_than_a_window_predict_what_the_model_does_alone(kind: str) -> None:
    model = build(kind, **SIDE_BY_SIDE[kind]).eval()
    with torch.inference_mode():
        expected, shared, copied = (_in_company(model, way, SHORT, TEXT + TEXT[::-1], LONG[:25]) for way in WAYS)
    torch.testing.assert_close(shared, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    torch.testing.assert_close(copied, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_a_model_that_reads_by_length_draws_in_company_what_it_draws_alone(tokenizer: Any) -> None:
    from dino_st.decoding.engine import DecodingEngine
    from dino_st.decoding.options import DecodingOptions
    from tests.decoding.test_engine import outcomes, sts_draws

    model = build("bart", vocab_size=VOCABULARY, max_position_embeddings=256)
    options = DecodingOptions(max_new_tokens=12, max_tries=2, top_k=60, top_p=0.98)
    draws = sts_draws(tokenizer)
    alone = [DecodingEngine(model, tokenizer, options, seed=7, rows=1).decode([draw])[0] for draw in draws]
    together = DecodingEngine(model, tokenizer, options, seed=7, rows=60).decode(draws)
    assert outcomes(together) == outcomes(alone)
    assert len({draw.tokens for draw in together}) > 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, "recurrent or convolutional layers"),
    "mamba": ({"state_size": 4}, "keeps a recurrent state"),
    "jamba": ({}, "keeps a recurrent state"),
    "falcon_h1": ({}, "keeps a recurrent state"),
    "recurrent_gemma": ({}, "recurrent"),  # which transformers 5.5 does not call stateful
    "qwen3_next": ({}, "keeps a recurrent state"),
    "nemotron_h": ({}, "keeps a recurrent state"),
    "minimax": ({"num_local_experts": 2}, "recurrent or convolutional layers"),
    "openai-gpt": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, "without such a cache"),
    "xlm": ({"emb_dim": 32, "n_layers": 2, "n_heads": 4}, "without such a cache"),
    "bert": ({}, "looks ahead: what follows a token changes"),
    "roberta": ({}, "looks ahead: what follows a token changes"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_decoded_with_is_refused_in_words(kind: str) -> None:
    more, words = REFUSED[kind]
    with pytest.raises(ModelError, match=words):
        check_causal_model(build(kind, **more))


def test_a_decoder_that_counts_positions_from_its_padding_reads_as_many_as_it_has() -> None:
    model = build("roberta", is_decoder=True, pad_token_id=1, max_position_embeddings=66)
    assert memory.context_length(model, 1024) == 64
    assert score(model, SHORT, LONG) == pytest.approx(
        [plain_score(model, SHORT, TEXT), plain_score(model, LONG, TEXT)], abs=1e-3
    )


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (
            "phi3",
            {
                "original_max_position_embeddings": 40,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 10_000.0,
                    "short_factor": [1.0] * 4,
                    "long_factor": [4.0] * 4,
                    "original_max_position_embeddings": 40,
                },
            },
        ),
        (
            "llama4_text",
            SIDE_BY_SIDE["llama4_text"] | {"attn_temperature_tuning": True, "floor_scale": 41, "attn_scale": 9.0},
        ),
    ],
)
def test_a_model_reads_no_further_than_it_treats_positions_alike_in_every_batch(
    kind: str, more: dict[str, Any]
) -> None:
    model = build(kind, **more)
    assert model.config.max_position_embeddings == 128
    assert memory.context_length(model, 1024) == 40
    both = score(model, SHORT, LONG)  # 35 tokens with the text
    assert both == pytest.approx([plain_score(model, SHORT, TEXT), plain_score(model, LONG, TEXT)], abs=1e-3)
    longer = tuple(range(9, 60))
    alone = plain_score(model, SHORT, TEXT)
    assert abs(score(model, SHORT, longer)[0] - alone) > 0.01, "beside a text beyond it another one is scored otherwise"


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
def test_an_output_layer_that_torch_quantised_is_refused_in_words() -> None:
    packed = torch.ao.quantization.quantize_dynamic(llama(), {torch.nn.Linear}, torch.qint8)
    with pytest.raises(ModelError, match=r"its output layer, a Linear, has no matrix of weights, as where torch quant"):
        probe(packed)


def test_weights_that_are_no_numbers_are_told_at_once() -> None:
    model = build("llama")
    model.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"predicts no numbers \(NaN\) in float32"):
        check_causal_model(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "bart"])
def test_rounding_is_not_taken_for_a_fault(kind: str, dtype: torch.dtype) -> None:
    assert probe(build(kind).to(dtype)).mixes_lengths == (kind != "bart")


def test_sizing_measures_what_a_token_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of several shapes, which no single number of the configuration describes."""
    model = build("gemma4_text", **SIDE_BY_SIDE["gemma4_text"])
    states = CausalModel(model, probe(model)).read_prompts([LONG])
    kept = sum(state.numel() * state.element_size() for layer in states.layers for state in layer)
    assert probe(model).token_bytes == kept / len(LONG)
    assert memory.automatic_rows(model, probe(model), prompt_tokens=10, new_tokens=5) >= 12


def test_a_probe_takes_few_tokens_and_is_made_once() -> None:
    model, read = build("llama"), []
    forward = model.forward

    @functools.wraps(forward)
    def counted(*arguments: Any, **named: Any) -> Any:
        read.append(named["input_ids"].numel())
        return forward(*arguments, **named)

    model.forward = counted
    check_causal_model(model)
    assert len(read) <= 12
    assert sum(read) < 150
    check_causal_model(model)
    assert len(read) <= 12


def save(model: Any, tokenizer: Any, directory: Path, **changes: Any) -> Path:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    if changes:
        edit(directory / "config.json", **changes)
    return directory


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def load(directory: Path | str) -> tuple[Any, Any]:
    return load_causal_model(directory, device=torch.device("cpu"), dtype=torch.float32)


def test_a_language_model_inside_one_that_sees_images_is_served(tmp_path: Path, tokenizer: Any) -> None:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {name: value for name, value in SIZES.items() if name in CONFIG_MAPPING["gemma3_text"].__dataclass_fields__}
    settings: Any = CONFIG_MAPPING["gemma3"]
    config = settings(
        text_config=text | {"vocab_size": VOCABULARY},
        vision_config=vision | {"image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=1,
    )
    torch.manual_seed(0)
    directory = save(make(config), tokenizer, tmp_path / "gemma3")
    assert json.loads((directory / "config.json").read_text())["architectures"] == ["Gemma3ForConditionalGeneration"]
    model = LocalWriter(directory, device="cpu", dtype="float32").model
    assert score(model, SHORT, LONG)[0] == pytest.approx(plain_score(model, SHORT, TEXT), abs=1e-3)


def test_a_model_that_only_a_class_for_images_loads_is_served_where_the_probe_allows(
    tmp_path: Path, tokenizer: Any
) -> None:
    from transformers import AutoModelForImageTextToText

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, **vision}
    settings: Any = CONFIG_MAPPING["llava"]
    text = llama().config.to_dict()
    config = settings(text_config=text, vision_config=vision, image_token_index=1)
    make_any: Any = AutoModelForImageTextToText.from_config
    model = LocalWriter(save(make_any(config), tokenizer, tmp_path), device="cpu", dtype="float32").model
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert score(model, SHORT, LONG)[0] == pytest.approx(plain_score(model, SHORT, TEXT), abs=1e-3)


def llama(vocabulary: int = VOCABULARY, **more: Any) -> Any:
    config = LlamaConfig(**(SIZES | {"vocab_size": vocabulary, "max_position_embeddings": 256} | more))
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    return model.eval()


def test_a_tokenizer_larger_than_the_embedding_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ModelError, match=rf"has 84 tokens that LlamaForCausalLM does not know.*{VOCABULARY - 1}.*300"):
        LocalWriter((llama(300), tokenizer))


def test_a_small_bidirectional_model_looks_ahead_too() -> None:
    model = make(CONFIG_MAPPING["bert"](**{name: SIZES[name] for name in SIZES if "size" in name or "num_" in name}))
    with pytest.raises(ModelError, match="looks ahead"):
        check_causal_model(model.eval())


def test_weights_of_zeros_are_refused() -> None:
    model = llama()
    for weights in model.parameters():
        weights.data.zero_()
    with pytest.raises(ModelError, match="finds every token equally likely"):
        check_causal_model(model)


def test_a_quotation_mark_that_means_end_of_text_is_refused(tokenizer: Any) -> None:
    model = llama()
    model.generation_config.eos_token_id = [0, tokenizer.convert_tokens_to_ids('"')]
    with pytest.raises(ModelError, match=r"no text could end\. Mend eos_token_id"):
        check_tokenizer(model, tokenizer, [])


def test_a_word_that_means_end_of_text_is_told(tokenizer: Any) -> None:
    model = llama()
    model.generation_config.eos_token_id = [0, tokenizer.convert_tokens_to_ids("Ġman"), 999_999]
    with pytest.warns(
        DinoWarning, match="eos_token_id says that ' man' means end-of-text to Llama.*no text will have it"
    ):
        check_tokenizer(model, tokenizer, [])


def test_a_tokenizer_much_smaller_than_the_embedding_is_doubted(tokenizer: Any) -> None:
    with pytest.warns(DinoWarning, match="as if it were another model's"):
        check_tokenizer(llama(3 * VOCABULARY), tokenizer, [])


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    """A copy of the bundled language model."""
    return Path(shutil.copytree(bundled_directory("dino-tiny") or "", tmp_path / "bundled"))


@pytest.mark.parametrize(
    ("lost", "shown"), [("decoder", "The ĠM useum Ġon Ġ"), ("pre_tokenizer", "TheMuseumonElmStreet")]
)
def test_a_tokenizer_that_lost_its_decoder_or_pre_tokenizer_is_refused(bundled: Path, lost: str, shown: str) -> None:
    edit(bundled / "tokenizer.json", **{lost: None})
    with pytest.raises(ModelError, match=rf"comes back as \"{shown}.*fetch the tokenizer files of this model again"):
        LocalWriter(str(bundled), device="cpu")
    with pytest.raises(ModelError, match=rf"comes back as \"{shown}"):
        Outline.of(str(bundled), ModelOptions(device="cpu"))


def test_a_tokenizer_that_loses_capitals_is_told(bundled: Path) -> None:
    edit(bundled / "tokenizer.json", normalizer={"type": "Lowercase"})
    with pytest.warns(DinoWarning) as told:
        LocalWriter(str(bundled), device="cpu")
    decoded, words = (str(one.message) for one in told)
    assert re.search('comes back in small letters: .* as "the museum on elm street', decoded)
    assert re.search(r"\d+ of \d+ words that its vocabulary has whole, .*normaliser is another model's", words)


def test_a_tokenizer_that_knows_too_few_letters_has_no_say() -> None:
    few = Tokenizer(WordLevel({"the": 0, "[UNK]": 1}, unk_token="[UNK]"))
    few.pre_tokenizer = Whitespace()
    loading.check_decoding(PreTrainedTokenizerFast(tokenizer_object=few, unk_token="[UNK]"), "it")


@pytest.mark.parametrize(("pad", "is_told"), [("!", True), ("the", True), ("<pad>", False), ("[PAD]", False)])
def test_a_word_or_mark_that_is_marked_special_is_told(
    pad: str, is_told: bool, tokenizer: Any, recwarn: pytest.WarningsRecorder
) -> None:
    marked = copy.deepcopy(tokenizer)
    marked.add_special_tokens({"pad_token": pad})
    check_tokenizer(build("llama", vocab_size=len(marked)), marked, [])
    told = [str(warning.message) for warning in recwarn if warning.category is DinoWarning]
    assert [f"marks {pad!r} as special, as no text of LlamaForCausalLM" in one for one in told] == [True] * is_told


def test_padding_that_was_added_behind_the_embedding_does_no_harm(tokenizer: Any) -> None:
    padded = copy.deepcopy(tokenizer)
    padded.add_special_tokens({"pad_token": "[PAD]"})
    LocalWriter((llama(), padded))
    with pytest.raises(ModelError, match=r"has 1 tokens .* such as '\[PAD\]'"):
        check_tokenizer(llama(), padded, [padded.pad_token_id])


def change_weights(directory: Path, name: str, kind: torch.dtype) -> None:
    """Stores one of the weights as another type."""
    weights = load_file(directory / "model.safetensors")
    save_file({**weights, name: weights[name].to(kind)}, directory / "model.safetensors", {"format": "pt"})


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pointer instead of weights": (
        lambda d: (d / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        r"model\.safetensors is a pointer of Git LFS, not the file; run `git lfs pull`",
    ),
    "pointer instead of a tokenizer": (
        lambda d: (d / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        r"tokenizer\.json is a pointer of Git LFS",
    ),
    "weights cut off in their middle": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-1000]),
        r"model\.safetensors cannot be read .*truncated or damaged: download it again",
    ),
    "weights cut off in their header": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:5]),
        r"model\.safetensors cannot be read .*truncated or damaged: download it again",
    ),
    "empty weights": (lambda d: (d / "model.safetensors").write_bytes(b""), r"model\.safetensors cannot be read"),
    "configuration of no known type": (
        lambda d: (d / "config.json").write_text('{"model_type": "no-such-type"}'),
        r"cannot be loaded: .*no-such-type",
    ),
    "configuration that is no JSON": (lambda d: (d / "config.json").write_text("{"), r"cannot be loaded: "),
    "an encoder-decoder": (
        lambda d: (d / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}'),
        r"is an encoder-decoder \(t5\)",
    ),
    "a classifier": (
        lambda d: edit(d / "config.json", architectures=["LlamaForSequenceClassification"]),
        r"is a LlamaForSequenceClassification, not a causal language model",
    ),
    "a layer too few in the configuration": (
        lambda d: edit(d / "config.json", num_hidden_layers=1),
        r"has weights that its configuration does not know, such as 'model\.layers\.1",
    ),
    "a layer too many in the configuration": (
        lambda d: edit(d / "config.json", num_hidden_layers=9),
        r"lacks \d+ of the weights",
    ),
    "another size in the configuration": (
        lambda d: edit(d / "config.json", intermediate_size=7),
        r"The sizes in config\.json are not those of the weights",
    ),
    "no tokenizer": (
        lambda d: [file.unlink() for file in d.glob("tokenizer*")],  # of which older transformers make an empty one
        r"tokenizer .*is missing or damaged; copy all files|has no tokenizer beside it; copy its files",
    ),
    "half a tokenizer": (
        lambda d: (d / "tokenizer.json").write_text((d / "tokenizer.json").read_text()[:999]),
        r"tokenizer .*is missing or damaged; copy all files",
    ),
    "a part of the weights": (
        lambda d: (d / "model.safetensors").rename(d / "model-00001-of-00002.safetensors"),
        r"model-00001-of-00002\.safetensors is a part, and model\.safetensors\.index\.json is missing",
    ),
    "weights of whole numbers that nothing unpacks": (
        lambda d: change_weights(d, "model.layers.0.mlp.up_proj.weight", torch.int8),
        r"'model\.layers\.0\.mlp\.up_proj\.weight' holds whole numbers \(I8\), and config\.json has no quantiz",
    ),
    "settings of generation that are no JSON": (
        lambda d: (d / "generation_config.json").write_text('{"eos_token_id": [0'),
        r"generation_config\.json is damaged, and may say what ends a text",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_directory_is_told_with_its_file(kind: str, tmp_path: Path, tokenizer: Any) -> None:
    directory = save(llama(), tokenizer, tmp_path / "model")
    damage, words = DAMAGE[kind]
    damage(directory)
    with pytest.raises(ModelError, match=words):
        load(directory)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./no/such/place", "there is no such directory or file"),
        ("/no/such/model.gguf", "there is no such directory or file"),
        ("~/no-such-model", "there is no such directory or file"),
        ("a/b/c", "there is no such directory or file"),
        ("", "there is no such directory or file"),
        ("owner/no-such-model", "there is no such directory, and as a name on the hub .* out of reach"),
        ("owner/no-such-model/x.gguf", "there is no such directory, and as a name on the hub .* out of reach"),
        ("gpt2-xxl", "there is no such directory, and as a name on the hub .* out of reach"),
    ],
)
def test_a_mistyped_name_is_told_at_once(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load(name)


def test_a_gguf_file_of_the_hub_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--owner--name/snapshots/abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--owner--name/refs").mkdir()
    (tmp_path / "models--owner--name/refs/main").write_text("abc")
    (snapshot / "tiny.gguf").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert files.locate_model("owner/name/tiny.gguf") == snapshot / "tiny.gguf"
    with pytest.raises(ModelError, match=r"model 'owner/name/other\.gguf': there is no such directory.*out of reach"):
        files.locate_model("owner/name/other.gguf")


def test_the_hub_is_asked_once_in_a_run(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build("llama", vocab_size=VOCABULARY).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    asked: list[str] = []
    monkeypatch.setattr(files, "fetch_model", lambda name, **_: asked.append(name) or tmp_path / "model")
    files.look_at_model("owner/model", ShardDirectory(tmp_path / "raw"), {})
    writer = LocalWriter("owner/model", device="cpu", prompt_format="raw")
    assert writer.name == "owner/model"
    assert writer.weights_hash() == files.hash_weight_files(tmp_path / "model")
    assert asked == ["owner/model"]
    LocalWriter("owner/model", device="cpu", prompt_format="raw")  # later, when the hub may have another revision
    assert asked == ["owner/model"] * 2


# Adapters


def test_an_adapter_without_peft_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "../base"}')
    (tmp_path / "adapter_model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="this is an adapter, and peft reads those; run: pip install"):
        load(tmp_path)


@pytest.fixture
def adapter(tmp_path: Path, tokenizer: Any) -> Path:
    """A directory with a LoRA adapter alone, beside that of its base model."""
    peft = pytest.importorskip("peft", reason="needs peft")
    save(llama(), tokenizer, tmp_path / "base")
    torch.manual_seed(1)
    settings = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    with warnings.catch_warnings(action="ignore"):
        peft.get_peft_model(llama(), settings).save_pretrained(tmp_path / "adapter")
    name_base(tmp_path / "adapter", "../base")
    return tmp_path / "adapter"


def name_base(directory: Path, base: str | None) -> None:
    edit(directory / "adapter_config.json", base_model_name_or_path=base)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_merged_into_the_base_model_that_it_names(adapter: Path) -> None:
    import peft

    model, tokenizer = load(adapter)
    expected = peft.PeftModel.from_pretrained(load(adapter.parent / "base")[0], str(adapter)).eval()
    ids = torch.tensor([SHORT])
    assert torch.allclose(model(ids).logits, expected(ids).logits, atol=1e-5)
    assert not torch.allclose(model(ids).logits, load(adapter.parent / "base")[0](ids).logits, atol=1e-3)
    assert (type(model).__name__, len(tokenizer)) == ("LlamaForCausalLM", VOCABULARY)
    hashes = {hash_weights(adapter, model), hash_weights(adapter.parent / "base", model)}
    assert len(hashes) == 2
    weights = adapter.parent / "base/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert hash_weights(adapter, model) not in hashes


@pytest.mark.filterwarnings("ignore")
def test_whether_an_adapter_is_active_is_part_of_the_hash_of_a_model_handed_in(adapter: Path) -> None:
    import peft

    model: Any = peft.PeftModel.from_pretrained(load(adapter.parent / "base")[0], str(adapter))
    active = hash_weights(None, model)
    model.base_model.disable_adapter_layers()
    assert hash_weights(None, model) != active


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft against transformers
def test_an_adapter_that_changes_nothing_is_told(adapter: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DinoWarning)
        load(adapter)
    weights = load_file(adapter / "adapter_model.safetensors")
    empty = {name: weight * 0 if "lora_B" in name else weight for name, weight in weights.items()}
    save_file(empty, adapter / "adapter_model.safetensors")
    with pytest.warns(DinoWarning, match="changes nothing: all its weights lora_B are zero"):
        load(adapter)


def test_of_two_models_in_one_directory_the_one_that_is_not_read_is_named(adapter: Path, tokenizer: Any) -> None:
    shutil.copy(adapter.parent / "base" / "model.safetensors", adapter)
    with pytest.warns(DinoWarning, match=r"base model of adapter_config\.json is read, and model\.safetensors is not"):
        load(adapter)
    other = save(llama(), tokenizer, adapter.parent / "other")
    shutil.copy(other / "model.safetensors", other / "model-00001-of-00001.safetensors")
    with pytest.warns(DinoWarning, match=r"model\.safetensors is read, and model-00001-of-00001\.safetensors is not"):
        load(other)


def test_an_adapter_that_fits_no_weight_is_refused(adapter: Path) -> None:
    """PEFT only warns, and the base model would write alone."""
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name.replace("layers.", "blocks."): value for name, value in weights.items()},
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(ModelError, match=r"this adapter cannot be merged into .*Found missing adapter keys"):
        load(adapter)


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (None, "names no base model"),
        ("../gone/away", r"this is an adapter for '../gone/away'\. .*there is no such directory"),
        ("owner/base", r"this is an adapter for 'owner/base'\. .*out of reach"),
        (".", r"adapter_config\.json names this very directory as the base model"),
        ("../adapter", r"adapter_config\.json names this very directory as the base model"),
    ],
)
def test_an_adapter_whose_base_model_is_not_there_says_which(adapter: Path, base: str | None, words: str) -> None:
    name_base(adapter, base)
    with pytest.raises(ModelError, match=words):
        load(adapter)


def test_weights_of_an_adapter_that_have_no_place_are_not_left_out(adapter: Path, tokenizer: Any) -> None:
    """PEFT passes over them in silence."""
    save(llama(num_hidden_layers=1), tokenizer, adapter.parent / "shallow")
    name_base(adapter, "../shallow")
    words = r"2 weights of the adapter, such as 'base_model\.model\.model\.layers\.1\..*', have no place in Llama"
    with pytest.raises(ModelError, match=words):
        load(adapter)


def test_an_adapter_for_another_model_is_refused(adapter: Path, tokenizer: Any) -> None:
    shutil.rmtree(adapter.parent / "base")
    save(llama(hidden_size=64), tokenizer, adapter.parent / "base")
    with pytest.raises(ModelError, match=r"this adapter cannot be merged into .*base'"):
        load(adapter)


# GGUF


@pytest.fixture
def packed(tmp_path: Path, tokenizer: Any) -> Path:
    """A tiny Llama as a GGUF file, and as the directory `plain`, from which its weights come."""
    gguf = pytest.importorskip("gguf", reason="needs gguf")
    pytest.importorskip("transformers", minversion="5.23", reason="GGUF takes a newer transformers")
    model = llama(num_key_value_heads=4, intermediate_size=64, tie_word_embeddings=False)
    save(model, tokenizer, tmp_path / "plain")
    write_gguf(gguf, tmp_path / "tiny.gguf", model, tokenizer)
    return tmp_path / "tiny.gguf"


def write_gguf(
    gguf: Any,
    path: Path,
    model: Any,
    tokenizer: Any,
    architecture: str = "llama",
    kind: str = "F32",
    begins: bool | None = None,
) -> None:
    config, writer = model.config, gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token == "<|endoftext|>" else 1 for token in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    if begins is not None:
        writer.add_add_bos_token(begins)
    writer.add_chat_template("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weights in model.state_dict().items():
        values = weights.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp interleaves the halves of each head
            values = (
                values.reshape(config.num_attention_heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
            )
        type_ = getattr(gguf.GGMLQuantizationType, kind if values.ndim > 1 else "F32")
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight",)), gguf.quantize(values, type_), raw_dtype=type_
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_the_model_that_it_was_made_of(packed: Path, tokenizer: Any) -> None:
    model, read = load(packed)
    plain = load(packed.parent / "plain")[0]
    ids = torch.tensor([SHORT + TEXT])
    assert torch.allclose(model(ids).logits, plain(ids).logits, atol=1e-5)
    text = 'A man said "yes." Why?'
    assert read(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert "[{{ m.role }}]" in read.chat_template


@pytest.mark.parametrize("begins", [False, True])
def test_a_gguf_file_says_whether_texts_begin_with_a_special_token(packed: Path, tokenizer: Any, begins: bool) -> None:
    import gguf

    model = load(packed.parent / "plain")[0]
    write_gguf(gguf, packed, model, tokenizer, begins=begins)
    assert load(packed)[1]("Why?")["input_ids"] == [0] * begins + tokenizer("Why?")["input_ids"]


def test_the_hash_of_a_gguf_file_goes_into_the_manifest_wherever_it_lies(packed: Path, tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.copy(packed, tmp_path / "elsewhere/renamed.gguf"))
    first, second = (LocalWriter(path, device="cpu", dtype="float32").identity() for path in (packed, moved))
    assert first == second
    inner = hashlib.sha256(packed.read_bytes()).digest()
    assert first["weights_sha256"] == hashlib.sha256(inner).hexdigest()
    assert first["prompt_format"] == "chat"


def test_quantised_weights_are_unpacked(packed: Path, tokenizer: Any) -> None:
    import gguf

    plain = load(packed.parent / "plain")[0]
    write_gguf(gguf, packed, plain, tokenizer, kind="Q8_0")
    ids = torch.tensor([SHORT + TEXT])
    assert torch.allclose(load(packed)[0](ids).logits, plain(ids).logits, atol=0.05)


def test_an_architecture_that_transformers_cannot_read_is_refused_with_those_it_can(
    packed: Path, tokenizer: Any
) -> None:
    import gguf

    model = load(packed.parent / "plain")[0]
    write_gguf(gguf, packed, model, tokenizer, architecture="plamo")
    with pytest.raises(
        ModelError, match=r"architecture plamo is not supported yet\. transformers reads .*llama.*qwen2"
    ):
        load(packed)
    write_gguf(gguf, packed, model, tokenizer, architecture="nomic-bert")
    with pytest.raises(ModelError, match=r"this is an encoder \(nomic-bert\)"):
        load(packed)


@pytest.mark.parametrize("kept", [0, 3, 1000, -1, -5000])
def test_a_gguf_file_that_is_cut_off_is_told(packed: Path, kept: int) -> None:
    packed.write_bytes(packed.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"cannot be read as GGUF .*cut off or damaged: download it again"):
        load(packed)


def test_a_quantisation_that_cannot_be_unpacked_is_told(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gguf

    def unknown(*_: Any) -> Any:
        raise NotImplementedError("Dequantization for F32 is not yet implemented")

    monkeypatch.setattr(gguf, "dequantize", unknown)
    with pytest.raises(ModelError, match=r"weights quantised as F32 cannot be unpacked.*Q8_0"):
        load(packed)


def test_a_directory_of_gguf_files_asks_for_one_of_them(tmp_path: Path) -> None:
    (tmp_path / "b.gguf").touch()
    (tmp_path / "a.gguf").touch()
    with pytest.raises(ModelError, match=r"holds GGUF files; name one of them, such as .*a\.gguf"):
        load(tmp_path)


def test_without_gguf_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(files, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'reading GGUF needs gguf; run: pip install "dino-st\[gguf\]"'):
        load(tmp_path / "tiny.gguf")


def test_the_extra_for_gguf_takes_the_transformers_without_which_files_are_refused() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"transformers>={files._GGUF_SINCE}" in project["optional-dependencies"]["gguf"]


@pytest.mark.parametrize("read", [load, lambda path: loading.load_outline(path, dtype=torch.float32)])
def test_a_gguf_file_is_refused_where_transformers_would_misread_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    pytest.importorskip("gguf", reason="needs gguf")
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(files, "version", lambda _: "5.9.0")
    with pytest.raises(
        MissingExtraError, match=r'transformers 5\.9\.0 misreads.*5\.23 or newer; run: pip install "dino-st'
    ):
        read(tmp_path / "tiny.gguf")
