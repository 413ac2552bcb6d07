from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaModel, MambaConfig, MambaForCausalLM, T5Config

from dino_st.backends import prompting
from dino_st.backends.loading import hash_weights, resolve_device, resolve_dtype
from dino_st.backends.local import LocalWriter
from dino_st.errors import ConfigurationError, MissingExtraError, ModelError


@pytest.fixture
def copy_of_model(model_directory: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in model_directory.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def small(**more: Any) -> dict[str, Any]:
    return {"vocab_size": 99, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, **more}


def test_a_directory_loads_in_the_dtype_asked_for(model_directory: Path) -> None:
    writer = LocalWriter(model_directory, device="cpu", dtype="float64")
    assert (writer.dtype, writer.device, writer.prompt_format) == ("float64", "cpu", "raw")
    assert not writer.model.training


def test_a_home_directory_may_be_abbreviated(model_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model_directory.parent))
    writer = LocalWriter(f"~/{model_directory.name}", device="cpu", dtype="float32")
    assert writer.weights_hash() == LocalWriter(model_directory, device="cpu", dtype="float32").weights_hash()


def test_a_loaded_model_is_taken_as_it_is(make_model: Callable[..., Any], tokenizer: Any) -> None:
    model = make_model("llama")
    writer = LocalWriter((model, tokenizer))
    assert writer.model is model
    assert writer.dtype == "float64"


def test_without_jinja2_a_chat_template_is_refused_with_what_to_install(
    make_model: Callable[..., Any], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    templated = copy.deepcopy(tokenizer)
    templated.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    monkeypatch.setattr(prompting, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'needs jinja2; run: pip install "jinja2>=3\.1", or choose'):
        LocalWriter((make_model("llama"), templated))
    assert LocalWriter((make_model("llama"), templated), prompt_format="raw").prompt_format == "raw"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such directory"):
        LocalWriter(tmp_path / "missing")


def test_a_name_that_cannot_be_fetched_says_what_to_check() -> None:
    with pytest.raises(ModelError, match=r"model 'nobody/nothing': there is no such directory.*out of reach.*Check"):
        LocalWriter("nobody/nothing")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("")
    with pytest.raises(ModelError, match="this is a file"):
        LocalWriter(tmp_path / "model.bin")


def test_a_directory_without_a_configuration_or_weights_is_named(copy_of_model: Path) -> None:
    (copy_of_model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        LocalWriter(copy_of_model)
    (copy_of_model / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no model directory \(no config.json\)"):
        LocalWriter(copy_of_model)


def test_a_pickled_checkpoint_is_refused_with_a_conversion_that_works(copy_of_model: Path) -> None:
    import subprocess
    import sys

    from safetensors.torch import load_file

    weights = load_file(copy_of_model / "model.safetensors")
    torch.save(weights, copy_of_model / "pytorch_model.bin")
    (copy_of_model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="only safetensors are loaded") as caught:
        LocalWriter(copy_of_model)
    command = str(caught.value).split('python -c "')[1].rsplit('"', 1)[0]
    subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)
    assert LocalWriter(copy_of_model).dtype


def test_truncated_weights_are_named(copy_of_model: Path) -> None:
    weights = copy_of_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read .*it is truncated or damaged: download it"):
        LocalWriter(copy_of_model)


def test_a_directory_without_a_tokenizer_is_refused(copy_of_model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy_of_model / name).unlink()
    with pytest.raises(ModelError, match="has no tokenizer beside it"):
        LocalWriter(copy_of_model)


def test_encoders_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    BertForMaskedLM(BertConfig(**small(intermediate_size=16))).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="is a BertForMaskedLM, not a causal language model"):
        LocalWriter(tmp_path / "bert")
    LlamaModel(LlamaConfig(**small(intermediate_size=16))).save_pretrained(tmp_path / "headless")
    tokenizer.save_pretrained(tmp_path / "headless")
    with pytest.raises(ModelError, match="is a LlamaModel, not a causal language model"):
        LocalWriter(tmp_path / "headless")


def test_a_head_that_the_weights_lack_is_not_made_up(tmp_path: Path, tokenizer: Any) -> None:
    LlamaModel(LlamaConfig(**small(intermediate_size=16))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["LlamaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"lacks 1 of the weights of a LlamaForCausalLM, such as 'lm_head.weight'"):
        LocalWriter(tmp_path)


def test_encoder_decoders_are_refused(copy_of_model: Path) -> None:
    T5Config(vocab_size=99, d_model=16).save_pretrained(copy_of_model)
    with pytest.raises(ModelError, match=r"encoder-decoder \(t5\)"):
        LocalWriter(copy_of_model)


def test_a_sentence_transformers_directory_without_a_configuration_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(ModelError, match="this is a sentence-transformers encoder"):
        LocalWriter(tmp_path)


def test_recurrent_models_are_refused(tokenizer: Any) -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=99, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(ModelError, match="keeps a recurrent state"):
        LocalWriter((model, tokenizer))


def test_unknown_devices_and_dtypes_are_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"device 'gpu' cannot be used here \(torch knows no such device\); use auto, cpu"
    ):
        resolve_device("gpu")
    with pytest.raises(ConfigurationError, match=r"dtype 'bfloat' is unknown; did you mean 'bfloat16'"):
        resolve_dtype("bfloat", torch.device("cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigurationError, match="device 'cuda' cannot be used here"):
            resolve_device("cuda")
    assert resolve_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)


def test_the_weights_hash_tells_models_apart(model_directory: Path, make_model: Callable[..., Any]) -> None:
    from_files = hash_weights(model_directory, None)
    assert from_files == hash_weights(model_directory, None)
    first, second = make_model("gpt2", seed=1), make_model("gpt2", seed=2)
    assert hash_weights(None, first) == hash_weights(None, make_model("gpt2", seed=1))
    assert len({from_files, hash_weights(None, first), hash_weights(None, second)}) == 3


def test_a_model_that_is_handed_in_is_of_the_type_and_on_the_device_that_the_options_say(
    make_model: Any, tokenizer: Any
) -> None:
    half = make_model("llama", dtype=torch.float16)
    with pytest.raises(ConfigurationError, match=r"dtype is 'float32', but .*'float16'.*model\.to\(torch\.float32\)"):
        LocalWriter((half, tokenizer), dtype="float32")
    with pytest.raises(ConfigurationError, match=r"device is 'cuda', but .*'cpu'.*model\.to\('cuda'\)"):
        LocalWriter((half, tokenizer), device="cuda")
    assert LocalWriter((half, tokenizer), dtype="float16", device="cpu").dtype == "float16"


def test_a_pair_of_other_things_is_refused_by_their_names(make_model: Any, tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"given \(LlamaForCausalLM, Tokenizer\); expected .* of transformers"):
        LocalWriter((make_model("llama"), tokenizer.backend_tokenizer))
