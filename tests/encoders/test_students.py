"""Students made of plain transformers models: the first layers, a pooling, attention to both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MptConfig,
    OpenAIGPTConfig,
    Qwen2Config,
)

from dino_st.encoders.loading import PoolingName, load_trainable_encoder
from dino_st.errors import ConfigurationError, ModelError
from tests.training_fixtures import make_tokenizer, save_model, tiny_encoder

TEXTS = ["the dog eats", "the horse of the cat follows some bread of the mouse", "a stone"]
WIDE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


def save_decoder(directory: Path, family: str, *, layers: int = 3, padding_side: str = "right") -> Path:
    """A decoder of random weights that are large enough for its layers to differ; GPT-2's has no padding token."""
    tokenizer = make_tokenizer(pad=family != "gpt2")
    tokenizer.padding_side = padding_side
    size: dict[str, Any] = {"vocab_size": len(tokenizer), "initializer_range": 0.2}
    config = {
        "gpt2": lambda: GPT2Config(n_embd=32, n_head=2, n_positions=64, n_layer=layers, **size),
        "llama": lambda: LlamaConfig(num_hidden_layers=layers, **WIDE, **size),
        "qwen2": lambda: Qwen2Config(num_hidden_layers=layers, **WIDE, **size),
        "gemma3": lambda: Gemma3TextConfig(num_hidden_layers=layers, head_dim=16, **WIDE, **size),
        "openai-gpt": lambda: OpenAIGPTConfig(n_embd=32, n_head=2, n_positions=64, n_layer=layers, **size),
        "mpt": lambda: MptConfig(d_model=32, n_heads=2, n_layers=layers, **size),
    }[family]()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def token_states(directory: Path, text: str, layers: int, *, both_sides: bool = False) -> np.ndarray[Any, Any]:
    """What the first layers make of a text, through transformers alone, normed as at the end."""
    model = AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(directory)(text, return_tensors="pt")
    count = tokens["input_ids"].shape[1]
    mask: Any = torch.zeros(1, 1, count, count) if both_sides else tokens["attention_mask"]
    found: list[torch.Tensor] = []
    stack = model.h if hasattr(model, "h") else model.layers
    stack[layers - 1].register_forward_hook(
        lambda _module, _given, output: found.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        model(input_ids=tokens["input_ids"], attention_mask=mask)
        norm = model.ln_f if hasattr(model, "ln_f") else model.norm
        return np.asarray(norm(found[0].reshape(1, count, -1))[0])


def pooled(states: np.ndarray[Any, Any], pooling: PoolingName) -> np.ndarray[Any, Any]:
    places = np.arange(1, len(states) + 1)
    weights = {"mean": np.ones(len(states)), "weighted-mean": places, "last": places == len(states)}[pooling]
    return np.asarray(np.average(states, axis=0, weights=weights.astype(float)))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "last", "weighted-mean"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_student_is_the_first_layers_of_a_language_model_with_the_pooling_asked_for(
    tmp_path: Path, family: str, pooling: PoolingName, bidirectional: bool
) -> None:
    directory = save_decoder(tmp_path / "model", family)
    student = load_trainable_encoder(
        directory, device="cpu", layers=2, pooling=pooling, bidirectional=bidirectional
    ).eval()
    expected = [pooled(token_states(directory, text, 2, both_sides=bidirectional), pooling) for text in TEXTS]
    np.testing.assert_allclose(student.encode(TEXTS), expected, atol=2e-5)
    student.save_pretrained(str(tmp_path / "student"))
    again = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), expected, atol=2e-5)
    whole = load_trainable_encoder(directory, device="cpu", pooling=pooling, bidirectional=bidirectional).eval()
    assert not np.allclose(whole.encode(TEXTS), expected, atol=1e-2)


@pytest.mark.parametrize("family", ["qwen2", "gemma3"])
def test_a_student_of_layers_of_several_kinds_is_read_back(tmp_path: Path, family: str) -> None:
    directory = save_decoder(tmp_path / "model", family, layers=7)
    student = load_trainable_encoder(directory, device="cpu", layers=6, bidirectional=True).eval()
    student.save_pretrained(str(tmp_path / "student"))
    again = load_trainable_encoder(tmp_path / "student", device="cpu")
    assert again[0].model.config.num_hidden_layers == 6
    assert len(again[0].model.layers) == 6
    np.testing.assert_allclose(again.encode(TEXTS), student.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "last", "weighted-mean"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_embedding_whichever_side_the_tokenizer_pads(
    tmp_path: Path, family: str, pooling: PoolingName, side: str
) -> None:
    directory = save_decoder(tmp_path / "model", family, padding_side=side)
    student = load_trainable_encoder(directory, device="cpu", pooling=pooling).eval()
    student.save_pretrained(str(tmp_path / "student"))
    for encoder in (student, SentenceTransformer(str(tmp_path / "student"), device="cpu")):
        alone = [encoder.encode(text) for text in TEXTS]
        np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=2e-5)


def test_encoders_are_cut_as_well(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "bert")
    config = AutoModel.from_pretrained(directory).config
    config.num_hidden_layers = 3
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(directory)
    student = load_trainable_encoder(directory, device="cpu", layers=1)
    assert len(student[0].model.encoder.layer) == 1


def test_more_layers_than_there_are_are_refused(tmp_path: Path) -> None:
    directory = save_decoder(tmp_path / "model", "llama")
    load_trainable_encoder(directory, device="cpu", layers=3)
    with pytest.raises(ConfigurationError, match=r"layers is 4, but .* has 3 layers; choose from 1 to 3"):
        load_trainable_encoder(directory, device="cpu", layers=4)


@pytest.mark.parametrize("family", ["openai-gpt", "mpt"])
def test_a_mask_that_transformers_cannot_lift_is_refused(tmp_path: Path, family: str) -> None:
    directory = save_decoder(tmp_path / "model", family)
    load_trainable_encoder(directory, device="cpu")
    with pytest.raises(
        ConfigurationError, match=r"bidirectional=True, but .* cannot lift the causal mask of a \w+Model"
    ):
        load_trainable_encoder(directory, device="cpu", bidirectional=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 1}, r"layers=1: for plain transformers models, but .* is a sentence-transformers model"),
        ({"bidirectional": True}, r"bidirectional=True: for plain transformers models"),
    ],
)
def test_a_sentence_transformers_model_is_not_rebuilt(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    model = tiny_encoder(tmp_path / "plain")
    model.save_pretrained(str(tmp_path / "encoder"))
    for encoder in (model, tmp_path / "encoder"):
        with pytest.raises(ConfigurationError, match=message):
            load_trainable_encoder(encoder, **options)


def test_a_tokenizer_without_anything_to_pad_with_is_refused(tmp_path: Path) -> None:
    directory = save_decoder(tmp_path / "model", "gpt2")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(directory)
    with pytest.raises(ModelError, match="neither a padding nor an end-of-text token"):
        load_trainable_encoder(directory, device="cpu", layers=1)


def test_a_directory_of_static_word_vectors_is_trainable(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(make_tokenizer(pad=True)), 16)).astype(np.float32)
    static = StaticEmbedding(make_tokenizer(pad=True).backend_tokenizer, embedding_weights=vectors)
    SentenceTransformer(modules=[static]).save_pretrained(str(tmp_path / "static"))
    encoder = load_trainable_encoder(tmp_path / "static", device="cpu", max_seq_length=8)
    assert all(weight.requires_grad for weight in encoder.parameters())
    assert encoder.encode("the dog eats").shape == (16,)
