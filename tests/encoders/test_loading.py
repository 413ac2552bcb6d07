"""Encoders that are incomplete, pickled, or of parts that do not belong together: a word, or they work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    CNN,
    LSTM,
    BoW,
    Dense,
    Normalize,
    Pooling,
    Router,
    Transformer,
)
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    Gemma2Model,
    Gemma2PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from dino_st.backends.local import LocalWriter
from dino_st.encoders.directory import directory_revision, local_directory
from dino_st.encoders.doubts import spelling_doubt, vectors_doubt
from dino_st.encoders.loading import encoder_files, load_trainable_encoder, warn_of_similarity, warn_of_tokens
from dino_st.errors import ConfigurationError, DinoWarning, MissingExtraError, ModelError
from dino_st.models import bundled_directory
from tests.training_fixtures import END, make_tokenizer, save_model, sentences, tiny_encoder


@pytest.fixture
def with_dense(tmp_path: Path) -> Path:
    """A sentence-transformers encoder whose third module has weights of its own."""
    model = tiny_encoder(tmp_path / "plain")
    model.append(Dense(32, 8, activation_function=torch.nn.Identity()))
    model.save(str(tmp_path / "encoder"))
    return tmp_path / "encoder"


def test_a_pickle_of_any_module_is_refused_with_a_command_that_converts_it(with_dense: Path) -> None:
    expected = load_trainable_encoder(with_dense, device="cpu").encode("the dog eats")
    dense = with_dense / "2_Dense"
    module = SentenceTransformer(str(with_dense), device="cpu")[2]
    torch.save(module.state_dict(), dense / "pytorch_model.bin")
    (dense / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the weights are a pickle \(2_Dense/pytorch_model\.bin\)") as caught:
        load_trainable_encoder(with_dense)
    command = str(caught.value).splitlines()[1]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True, capture_output=True)
    assert np.array_equal(load_trainable_encoder(with_dense, device="cpu").encode("the dog eats"), expected)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "2_Dense/model.safetensors"])
def test_a_pointer_of_git_lfs_is_named(with_dense: Path, file: str) -> None:
    (with_dense / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ModelError, match=rf"{file}: a pointer of Git LFS .*; run `git lfs pull`"):
        load_trainable_encoder(with_dense)


def _rename(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def _without_layer(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if ".layer.0." not in name}


def _with_second_layer(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {name.replace(".0.", ".1."): tensor.clone() for name, tensor in tensors.items() if ".0." in name}


def _broken(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {"embeddings.word_embeddings.weight": tensors["embeddings.word_embeddings.weight"] * torch.nan}


def _packed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {name: tensor.char() for name, tensor in tensors.items() if name.endswith("dense.weight")}


@pytest.mark.parametrize("kind", ["transformers", "sentence-transformers"])
@pytest.mark.parametrize(
    ("change", "layers", "message"),
    [
        (_rename, 1, r"lacks \d+ of the weights of a BertModel, such as 'embeddings"),
        (_without_layer, 1, r"lacks \d+ of the weights of a BertModel, such as 'encoder\.layer\.0"),
        (dict, 2, r"lacks \d+ of the weights of a BertModel, such as 'encoder\.layer\.1"),
        (_with_second_layer, 1, r"has weights that its configuration does not know, such as 'encoder\.layer\.1"),
        (_broken, 1, r"the weights .*word_embeddings.* hold NaN"),
        (_packed, 1, r"dense\.weight' holds whole numbers \(I8\), and config\.json has no quantization_config"),
    ],
)
def test_weights_that_transformers_would_make_up_or_leave_out_are_refused(
    tmp_path: Path, kind: str, change: Callable[[Any], Any], layers: int, message: str
) -> None:
    directory = save_model(tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    if kind == "sentence-transformers":
        load_trainable_encoder(directory, device="cpu").save(str(tmp_path / "saved"))
        directory = tmp_path / "saved"
    load_trainable_encoder(directory, device="cpu")
    save_file(change(load_file(directory / "model.safetensors")), directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    with pytest.raises(ModelError, match=message):
        load_trainable_encoder(directory, device="cpu")


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "model")
    tokenizer = make_tokenizer(pad=True)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(directory)
    last = len(tokenizer) - 1
    with pytest.raises(ModelError, match=rf"tokens up to number {last}, but the embedding has {last} rows"):
        load_trainable_encoder(directory)


def test_positions_that_begin_behind_the_padding_are_not_exceeded(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(pad=True)
    unlimited = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="<pad>")
    size: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1, **size)
    RobertaModel(config).save_pretrained(tmp_path)
    unlimited.save_pretrained(tmp_path)
    encoder = load_trainable_encoder(tmp_path, device="cpu")
    assert encoder.max_seq_length == 64
    encoder.encode(" ".join(sentences(30)))
    with pytest.raises(ConfigurationError, match=r"max_seq_length is 65, but .* has 64 positions"):
        load_trainable_encoder(tmp_path, max_seq_length=65)


def save_adapter(directory: Path, base: str | None) -> Path:
    directory.mkdir()
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    (directory / "adapter_model.safetensors").write_bytes(b"")
    return directory


def test_an_adapter_without_peft_names_what_to_install(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino_st.encoders.loading.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'adapter, .* run: pip install "dino-st\[peft\]"'):
        load_trainable_encoder(save_adapter(tmp_path / "adapter", str(bert)))
    with pytest.raises(ModelError, match="names no base model"):
        load_trainable_encoder(save_adapter(tmp_path / "none", None))


def test_weights_of_a_whole_encoder_beside_an_adapter_are_told_not_to_be_read(bert: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", str(bert))
    shutil.copy(bert / "model.safetensors", adapter)
    with pytest.warns(DinoWarning, match=r"base model of adapter_config\.json is read, and model\.safetensors is not"):
        encoder_files(adapter)


def test_another_base_model_is_another_revision_of_an_adapter(bert: Path, tmp_path: Path) -> None:
    base = save_model(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", str(base))
    before = directory_revision(adapter)
    (base / "config.json").write_text((base / "config.json").read_text() + " ")
    assert directory_revision(adapter) != before


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft against transformers
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_an_adapter_is_merged_into_its_base_model(tmp_path: Path, family: str) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModel, AutoModelForCausalLM

    base = save_model(tmp_path / "base", family)
    torch.manual_seed(0)
    kind, task = (AutoModel, None) if family == "bert" else (AutoModelForCausalLM, "CAUSAL_LM")
    targets = ["query", "value"] if family == "bert" else ["q_proj", "v_proj"]
    config = peft.LoraConfig(target_modules=targets, init_lora_weights=False, task_type=task)
    peft.get_peft_model(kind.from_pretrained(base), config).save_pretrained(tmp_path / "adapter")
    if family == "bert":  # beside it, as sentence-transformers itself saves an adapter
        model = tiny_encoder(tmp_path / "base")
        model.add_adapter(config)
        model.save(str(tmp_path / "whole"))
        whole = load_trainable_encoder(tmp_path / "whole", device="cpu")
        assert np.allclose(whole.encode("the dog eats"), model.encode("the dog eats"), atol=1e-5)
        assert all(weight.requires_grad for weight in whole.parameters())
    encoder, plain = (load_trainable_encoder(tmp_path / name, device="cpu") for name in ("adapter", "base"))
    assert not np.allclose(encoder.encode("the dog eats"), plain.encode("the dog eats"), atol=1e-3)
    assert all(weight.requires_grad for weight in encoder.parameters())
    encoder.save(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert np.allclose(again.encode("the dog eats"), encoder.encode("the dog eats"), atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft against transformers
def test_an_adapter_of_virtual_tokens_is_refused_by_its_kind(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = save_model(tmp_path / "base", "llama")
    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"of type PROMPT_TUNING, which adds virtual tokens.*such as LoRA"):
        LocalWriter(tmp_path / "adapter")


def test_a_model_of_the_hub_gets_the_pooling_asked_for_and_keeps_its_name(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dino_st.encoders.loading.fetch_model", lambda name: bert)
    encoder = load_trainable_encoder("someone/small", device="cpu", pooling="cls")
    assert encoder[1].pooling_mode == "cls"
    assert encoder.model_card_data.base_model == "someone/small"


@pytest.mark.parametrize("name", ["a/b/c", "models/", "my model", "./a", "~/a", "/a"])
def test_what_the_hub_has_no_names_like_is_a_path(name: str) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        local_directory(name)


@pytest.mark.parametrize("name", ["roberta-base", "sentence-transformers/all-MiniLM-L6-v2"])
def test_what_may_be_a_name_on_the_hub_is_left_to_it(name: str) -> None:
    assert local_directory(name) is None


def test_a_file_is_not_meant_where_a_directory_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "encoder.log").touch()
    with pytest.raises(ModelError, match=r"encoders' does not exist\. Give"):
        local_directory(tmp_path / "encoders")
    (tmp_path / "encoder").mkdir()
    with pytest.raises(ModelError, match=r"encoders' does not exist; did you mean '.*encoder'\?"):
        local_directory(tmp_path / "encoders")


def test_a_file_in_gguf_is_told_to_be_for_generating(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"a\.gguf' is a file in GGUF, which is read for generating and judging only"):
        load_trainable_encoder(tmp_path / "a.gguf")


def test_weights_are_needed_of_a_directory(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "model")
    assert isinstance(BertModel.from_pretrained(directory), BertModel)
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load_trainable_encoder(directory)


def bundled_copy(directory: Path) -> tuple[Path, Path]:
    """A copy of the bundled static encoder, and the file of its tokenizer."""
    found = local_directory("dino-tiny-encoder")
    assert found is not None
    shutil.copytree(found, directory)
    return directory, next(directory.rglob("tokenizer.json"))


def test_the_tokenizer_of_another_model_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder, file = bundled_copy(tmp_path / "encoder")
    load_trainable_encoder(encoder)
    assert "it: " not in caplog.text
    assert "as if it were another" not in caplog.text
    make_tokenizer(pad=True).backend_tokenizer.save(str(file))
    load_trainable_encoder(encoder)
    assert "as if it were another model's; take the tokenizer that belongs to the weights" in caplog.text


def test_texts_that_are_cut_or_unknown_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["A man plays a flute in the park.", "Two dogs run over the snow."]
    encoder, file = bundled_copy(tmp_path / "encoder")
    model = load_trainable_encoder(encoder)
    warn_of_tokens(model, texts, "it")
    assert "it: " not in caplog.text
    assert "as if it were another" not in caplog.text
    warn_of_tokens(model, ["猫坐在垫子上", "一只狗在跑"], "it")
    assert "100 % of the texts' tokens are unknown to its tokenizer" in caplog.text
    content = json.loads(file.read_text(encoding="utf-8"))
    content["truncation"] = {"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    file.write_text(json.dumps(content), encoding="utf-8")
    warn_of_tokens(load_trainable_encoder(encoder), texts, "it")
    assert "100 % of the texts are longer than the 1 tokens that it reads, and are cut" in caplog.text


def test_a_tokenizer_that_lost_its_lower_casing_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["The invoice was paid twice on Monday.", "My card was blocked at the airport in March."]
    encoder, file = bundled_copy(tmp_path / "encoder")
    warn_of_tokens(load_trainable_encoder(encoder), texts, "it")
    assert "dino_st" not in {record.name for record in caplog.records}
    content = json.loads(file.read_text(encoding="utf-8")) | {"normalizer": None}
    file.write_text(json.dumps(content), encoding="utf-8")
    warn_of_tokens(load_trainable_encoder(encoder), texts, "it")
    assert "it: 21 % of the texts' tokens are unknown to its tokenizer" in caplog.text


def test_a_transformer_that_cuts_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_encoder(tmp_path / "encoder")
    warn_of_tokens(model, sentences(20), "it")
    assert "it: " not in caplog.text
    assert "as if it were another" not in caplog.text
    model.max_seq_length = 3
    warn_of_tokens(model, sentences(20), "it")
    assert "100 % of the texts are longer than" in caplog.text


def test_a_hundredth_of_cut_texts_is_told_as_information_where_the_length_was_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="dino_st")
    model, texts = tiny_encoder(tmp_path / "encoder"), sentences(200)
    model.max_seq_length = 32
    assert warn_of_tokens(model, [*texts[1:], " ".join(texts)], "one of 200") == 0.005
    assert not caplog.records
    for is_chosen, level in ((False, "WARNING"), (True, "INFO")):
        caplog.clear()
        cut = warn_of_tokens(model, [*texts[2:], *[" ".join(texts)] * 2], "it", is_length_chosen=is_chosen)
        assert cut == 0.01
        assert [one.levelname for one in caplog.records] == [level]
        assert "1 % of the texts are longer than the 32 tokens that it reads" in caplog.text


def test_an_encoder_that_lost_its_modules_is_refused(tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "encoder").save_pretrained(str(tmp_path / "saved"))
    (tmp_path / "saved" / "modules.json").unlink()
    with pytest.raises(ModelError, match=r"modules\.json is missing beside 1_Pooling"):
        load_trainable_encoder(tmp_path / "saved")


def test_scores_of_attention_are_capped_where_transformers_would_not(
    make_model: Callable[..., Any], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model("gemma2", dtype=torch.float32).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids = tokenizer("A man is playing a flute.", return_tensors="pt")["input_ids"]
    loaded = Gemma2Model.from_pretrained(tmp_path, attn_implementation="eager")
    expected = loaded(input_ids=ids).last_hidden_state
    for layer in loaded.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert not torch.allclose(loaded(input_ids=ids).last_hidden_state, expected, atol=1e-3)
    monkeypatch.setattr(Gemma2PreTrainedModel, "_supports_sdpa", True)  # as up to transformers 5.20
    encoder = load_trainable_encoder(tmp_path, device="cpu")
    torch.testing.assert_close(encoder[0].model(input_ids=ids).last_hidden_state, expected)
    writer = LocalWriter(tmp_path, device="cpu", dtype="float32")
    torch.testing.assert_close(writer.model.model(input_ids=ids).last_hidden_state, expected)


@pytest.mark.parametrize("folder", ["1_Pooling", "2_Dense"])
def test_a_module_whose_folder_is_missing_is_named(with_dense: Path, folder: str) -> None:
    shutil.rmtree(with_dense / folder)
    with pytest.raises(
        ModelError, match=rf"names a module {folder[2:]} in {folder}, but {folder}/config\.json is missing"
    ):
        load_trainable_encoder(with_dense)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (BertForSequenceClassification, r"to classify texts .* \(BertForSequenceClassification\), not to give vectors"),
        (BertForTokenClassification, r"to label words \(BertForTokenClassification\)"),
        (BertForQuestionAnswering, "to find answers"),
        (BertForMaskedLM, ""),
        (BertModel, ""),
    ],
)
def test_a_model_with_another_purpose_is_told_of(
    kind: Any, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = save_model(tmp_path / "model")
    kind(BertConfig.from_pretrained(directory)).save_pretrained(directory)
    load_trainable_encoder(directory, device="cpu")
    assert bool(told) == (" was made " in caplog.text)
    assert re.search(told, caplog.text)


@pytest.mark.parametrize(
    ("own", "is_normal", "is_told"),
    [
        ("cosine", False, False),
        ("dot", False, True),
        ("dot", True, False),
        ("euclidean", False, True),
        ("euclidean", True, False),
        ("manhattan", True, True),
    ],
)
def test_an_encoder_made_for_another_similarity_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, own: str, is_normal: bool, is_told: bool
) -> None:
    model = tiny_encoder(tmp_path / "encoder")
    if is_normal:
        model.append(Normalize())
    model.similarity_fn_name = own
    warn_of_similarity(model, "it")
    assert (f"similarity_fn_name: {own}); what is compared here is the cosine" in caplog.text) == is_told


@pytest.mark.parametrize("kind", ["SparseEncoder", "CrossEncoder"])
def test_a_model_of_another_kind_of_sentence_transformers_is_told_of(
    with_dense: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = with_dense / "config_sentence_transformers.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    load_trainable_encoder(with_dense, device="cpu")
    assert "was made as" not in caplog.text
    file.write_text(json.dumps(config | {"model_type": kind}), encoding="utf-8")
    load_trainable_encoder(with_dense, device="cpu")
    assert f"was made as a {kind}, not to give dense vectors of sentences" in caplog.text


def test_a_module_with_weights_that_modules_json_no_longer_names_is_told(
    with_dense: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(with_dense / "2_Dense", with_dense / "2_Dense_512")  # a variant, of which one is named
    load_trainable_encoder(with_dense, device="cpu")
    assert "does not name" not in caplog.text
    file = with_dense / "modules.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:2]))
    load_trainable_encoder(with_dense, device="cpu")
    assert "modules.json does not name 2_Dense, which is left out" in caplog.text


def test_an_encoder_with_routes_is_read_and_each_route_needs_its_weights(tmp_path: Path) -> None:
    query, document = tiny_encoder(tmp_path / "query"), tiny_encoder(tmp_path / "document")
    routes = Router.for_query_document(list(query), list(document))
    SentenceTransformer(modules=[routes], device="cpu").save(str(tmp_path / "router"))
    loaded = load_trainable_encoder(tmp_path / "router", device="cpu")
    assert np.allclose(loaded.encode_document("the dog eats"), document.encode("the dog eats"), atol=1e-6)
    (tmp_path / "router" / "document_0_Transformer" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no weights .*document_0_Transformer"):
        load_trainable_encoder(tmp_path / "router", device="cpu")


def test_an_encoder_that_makes_no_vector_of_a_text_is_refused(with_dense: Path) -> None:
    file = with_dense / "modules.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))
    with pytest.raises(ModelError, match=r"names no module behind the transformer .*such as 1_Pooling"):
        load_trainable_encoder(with_dense)


def test_a_length_below_zero_is_refused(tmp_path: Path) -> None:
    model = tiny_encoder(tmp_path / "encoder")
    model.max_seq_length = -1
    with pytest.raises(ModelError, match=r"its maximum length is -1 tokens"):
        load_trainable_encoder(model)
    assert load_trainable_encoder(model, max_seq_length=8).max_seq_length == 8


def test_vectors_of_a_single_dimension_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_encoder(tmp_path / "encoder")
    warn_of_similarity(model, "it")
    assert not caplog.text
    model.truncate_dim = 1
    warn_of_similarity(model, "it")
    assert "it gives vectors of a single dimension" in caplog.text


def with_shifted_vocabulary(name: str, directory: Path) -> Path:
    """A copy of a bundled model whose tokenizer gives every word but the first the next one's number."""
    shutil.copytree(bundled_directory(name) or "", directory)
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    for word, number in vocabulary.items():
        if number:
            vocabulary[word] = number % (len(vocabulary) - 1) + 1
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return directory


def test_an_encoder_whose_vocabulary_is_shifted_is_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_trainable_encoder("dino-tiny-encoder", device="cpu")
    assert "dino_st" not in {record.name for record in caplog.records}
    load_trainable_encoder(with_shifted_vocabulary("dino-tiny-encoder", tmp_path / "a"), device="cpu")
    assert ": forms of one word, such as 'dog' and 'dogs', are no more alike in its embedding" in caplog.text


def test_a_language_model_whose_vocabulary_is_shifted_is_doubted(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DinoWarning)
        LocalWriter("dino-tiny", device="cpu")
    with pytest.warns(DinoWarning, match="LlamaForCausalLM: forms of one word"):
        LocalWriter(str(with_shifted_vocabulary("dino-tiny", tmp_path / "a")), device="cpu")


def without_word(name: str, directory: Path, number: int) -> Path:
    """A copy of a bundled model whose vocabulary lost a line: words behind it have the number of the one before."""
    shutil.copytree(bundled_directory(name) or "", directory)
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    words = content["model"]["vocab"]
    (lost,) = (word for word, own in words.items() if own == number)
    content["model"]["vocab"] = {word: own - (own > number) for word, own in words.items() if word != lost}
    merges = content["model"].get("merges", [])
    content["model"]["merges"] = [pair for pair in merges if lost not in (*pair, "".join(pair))]
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return directory


@pytest.mark.parametrize("number", [3000, 5800])
def test_a_vocabulary_that_lost_a_line_is_doubted_from_there_on(number: int, tmp_path: Path) -> None:
    with pytest.warns(DinoWarning, match="LlamaForCausalLM: from about number .* as if the vocabulary had lost a line"):
        LocalWriter(str(without_word("dino-tiny", tmp_path / "a", number)), device="cpu")


@pytest.mark.parametrize("number", [8000, 15500])
def test_an_encoder_whose_vocabulary_lost_a_line_is_doubted_from_there_on(
    number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = Path(shutil.copytree(bundled_directory("dino-tiny-encoder") or "", tmp_path / "a"))
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    words = content["model"]["vocab"]
    content["model"]["vocab"] = {word: own - (own > number) for word, own in words.items() if own != number}
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    load_trainable_encoder(directory, device="cpu")
    first = int(re.findall(r"from about number (\d+) on, forms of one word", caplog.text)[0])
    assert number - 800 < first < number + 800


def test_a_tokenizer_that_lost_merges_is_told(tmp_path: Path) -> None:
    directory = Path(shutil.copytree(bundled_directory("dino-tiny") or "", tmp_path / "a"))
    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    del content["model"]["merges"][5500:]
    (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.warns(
        DinoWarning, match=r"\d+ of \d+ words that its vocabulary has whole, such as 'Ġ.* merges were lost"
    ):
        LocalWriter(str(directory), device="cpu")


@pytest.mark.parametrize("name", ["vocab.txt", "vocab.json"])
def test_a_vocabulary_that_was_changed_beside_the_tokenizer_that_is_read_is_told(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = Path(shutil.copytree(bundled_directory("dino-tiny") or "", tmp_path / "a"))
    words = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]

    def write() -> None:
        lines = "\n".join(sorted(words, key=words.__getitem__))
        (directory / name).write_text(json.dumps(words) if name == "vocab.json" else lines + "\n", encoding="utf-8")
        load_trainable_encoder(directory, device="cpu")

    write()
    assert "differ" not in caplog.text
    words["myocarditis"] = words.pop("Ġthe")
    write()
    assert f"{name} and tokenizer.json differ in 1 words, such as 'myocarditis', and tokenizer.json is" in caplog.text


def test_capitals_that_a_normaliser_takes_from_a_vocabulary_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [f"{first}{a}{b}".title() for first in ("da", "ko") for a in "bcdfg" for b in ("oo", "ee", "u", "i")]
    vocabulary = {"[UNK]": 0, "[PAD]": 1} | {f"##{one}": 2 + i for i, one in enumerate([*"abcdefghijklmno", *words])}
    vocabulary |= {word: len(vocabulary) + i for i, word in enumerate(words)}
    for is_lower in (False, True):
        pieces = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
        pieces.normalizer, pieces.pre_tokenizer = BertNormalizer(lowercase=is_lower), BertPreTokenizer()
        told = spelling_doubt(PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="[UNK]"))
        assert ("40 of 40 words that its vocabulary has whole" in told) == is_lower


def test_an_encoder_with_one_vector_for_all_texts_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = Path(shutil.copytree(bundled_directory("dino-tiny") or "", tmp_path / "a"))
    load_trainable_encoder(directory, device="cpu")
    assert "one and the same vector" not in caplog.text
    stored = load_file(directory / "model.safetensors")
    stored["model.norm.weight"].zero_()
    save_file(stored, directory / "model.safetensors", {"format": "pt"})
    load_trainable_encoder(directory, device="cpu")
    assert "gives texts that have nothing in common one and the same vector, as where config.json" in caplog.text


def mix_up_layers(directory: Path) -> None:
    stored = load_file(directory / "model.safetensors")
    last = max(int(key.split(".")[2]) for key in stored if ".layers." in key)
    parts = {tuple(key.split(".")): weight for key, weight in stored.items()}
    mixed = {
        (*key[:2], str(last - int(key[2])), *key[3:]) if key[1] == "layers" else key: one for key, one in parts.items()
    }
    save_file(
        {".".join(key): weight for key, weight in mixed.items()}, directory / "model.safetensors", {"format": "pt"}
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda directory: change_settings(directory, rms_norm_eps=1.0),
        mix_up_layers,
    ],
)
def test_a_language_model_that_cannot_read_is_told(damage: Callable[[Path], None], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(bundled_directory("dino-tiny") or "", tmp_path / "a"))
    damage(directory)
    with pytest.warns(
        DinoWarning, match="finds plain English sentences hardly likelier than their words in reverse order"
    ):
        LocalWriter(str(directory), device="cpu")


def split_heads(directory: Path) -> None:
    """Twice as many heads of half the size, which fit the weights, too."""
    settings = json.loads((directory / "config.json").read_text())
    heads = settings["num_attention_heads"]
    size = settings["hidden_size"] // heads
    change_settings(directory, num_attention_heads=2 * heads, num_key_value_heads=2 * heads, head_dim=size // 2)


def interleave(directory: Path) -> None:
    """Rows of queries and keys as the original Llama files have them, as where a conversion left them so."""
    stored = load_file(directory / "model.safetensors")
    heads = json.loads((directory / "config.json").read_text())["num_attention_heads"]
    for key, weight in stored.items():
        if "q_proj.weight" in key or "k_proj.weight" in key:
            size = weight.shape[0] // heads
            rows = weight.view(heads, 2, size // 2, -1).transpose(1, 2).reshape(weight.shape)
            stored[key] = rows.contiguous()
    save_file(stored, directory / "model.safetensors", {"format": "pt"})


def stretch_positions(directory: Path) -> None:
    settings = json.loads((directory / "config.json").read_text())
    theta = (settings.get("rope_parameters") or settings)["rope_theta"]
    rope = {"rope_type": "linear", "factor": 8.0, "rope_theta": theta}
    change_settings(directory, rope_parameters=rope)


@pytest.mark.parametrize("damage", [split_heads, interleave, stretch_positions])
def test_a_language_model_that_does_not_see_where_a_word_stands_is_told(
    damage: Callable[[Path], None], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    directory = Path(shutil.copytree(bundled_directory("dino-tiny") or "", tmp_path / "a"))
    LocalWriter(str(directory), device="cpu")
    assert not [one for one in recwarn if issubclass(one.category, DinoWarning)]
    damage(directory)
    with pytest.warns(DinoWarning, match="sentences hardly likelier where they stand a second time"):
        LocalWriter(str(directory), device="cpu")


def with_zeros(name: str, directory: Path, part: str, first: int = 0) -> Path:
    """A copy of a bundled model in which weights are zero from a row on: those with a part in their names."""
    shutil.copytree(bundled_directory(name) or "", directory)
    for file in directory.rglob("model.safetensors"):
        stored = load_file(file)
        for key in filter(lambda key: part in key, stored):
            stored[key][first:] = 0
        save_file(stored, file, {"format": "pt"})
    return directory


def test_an_encoder_whose_words_lost_their_vectors_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_trainable_encoder(with_zeros("dino-tiny-encoder", tmp_path / "few", "embedding", 15900), device="cpu")
    assert "zeros" not in caplog.text  # not more words than a corpus may lack
    load_trainable_encoder(with_zeros("dino-tiny-encoder", tmp_path / "many", "embedding", 9000), device="cpu")
    assert "the vectors of 7002 of its 16000 tokens are nothing but zeros" in caplog.text


def test_an_encoder_with_a_layer_of_zeros_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = save_model(tmp_path / "a")
    load_trainable_encoder(directory, device="cpu")
    assert not caplog.text
    stored = load_file(directory / "model.safetensors")
    stored["encoder.layer.0.attention.self.key.weight"].zero_()
    save_file(stored, directory / "model.safetensors", {"format": "pt"})
    load_trainable_encoder(directory, device="cpu")
    assert "1 weight matrices of its layers, such as 'model.encoder.layer.0.attention.self.key.weight'," in caplog.text
    assert "are nothing but zeros, as after a broken download" in caplog.text


def test_a_language_model_with_zeros_is_told(tmp_path: Path) -> None:
    with pytest.warns(
        DinoWarning, match=r"LlamaForCausalLM: 7 weight matrices of its layers, such as 'model\.layers\.1"
    ):
        LocalWriter(str(with_zeros("dino-tiny", tmp_path / "layer", "layers.1.")), device="cpu")
    with pytest.warns(DinoWarning, match=r"the vectors of \d+ of its \d+ tokens are nothing but zeros"):
        LocalWriter(str(with_zeros("dino-tiny", tmp_path / "words", "embed_tokens", 5500)), device="cpu")


def change_settings(directory: Path, **changed: Any) -> None:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8")) | changed
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")


TEMPLATE = "<|system|>be helpful and kind in every answer<|user|>{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture
def chat_model(tmp_path: Path) -> Path:
    """A language model whose tokenizer has a chat template."""
    directory = save_model(tmp_path / "chat", "llama")
    (directory / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return directory


def test_a_plain_model_with_a_chat_template_reads_texts_as_they_are_and_once_saved(
    chat_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_trainable_encoder(save_model(tmp_path / "plain", "llama"), device="cpu").encode("the dog eats")
    student = load_trainable_encoder(chat_model, device="cpu")
    student.save_pretrained(str(tmp_path / "student"))
    saved = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    for encoder in (student, saved, load_trainable_encoder(tmp_path / "student", device="cpu")):
        np.testing.assert_allclose(encoder.encode("the dog eats"), expected, rtol=1e-5)
    assert "chat template" not in caplog.text


@pytest.mark.parametrize(("pooling", "is_told"), [("mean", True), ("lasttoken", False)])
def test_a_chat_template_whose_tokens_are_averaged_is_told(
    chat_model: Path, pooling: str, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transformer = Transformer(str(chat_model))
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling)]
    encoder = SentenceTransformer(modules=modules, device="cpu")
    encoder.save_pretrained(str(tmp_path / "student"))
    load_trainable_encoder(tmp_path / "student", device="cpu")
    assert ("tokens are pooled with the text's own" in caplog.text) == is_told


def test_an_encoder_that_is_read_as_a_decoder_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = save_model(tmp_path / "a")
    change_settings(directory, is_decoder=True)
    load_trainable_encoder(directory, device="cpu")
    assert "config.json says is_decoder, so that no token sees those behind it, as a BertModel should" in caplog.text


def test_weights_of_bert_read_as_those_of_roberta_are_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = save_model(tmp_path / "a")
    change_settings(directory, model_type="roberta")
    load_trainable_encoder(directory, device="cpu")
    assert "config.json names BertModel, which is no model of its model_type 'roberta'" in caplog.text
    assert "counts positions as RoBERTa does, but the 64 rows of its positions are those of a BERT" in caplog.text


def test_weights_of_roberta_read_as_those_of_bert_are_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = save_model(tmp_path / "a")
    size: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = RobertaConfig(vocab_size=400, max_position_embeddings=66, pad_token_id=1, type_vocab_size=2, **size)
    RobertaModel(config).save_pretrained(directory)
    load_trainable_encoder(directory, device="cpu")
    assert not caplog.text
    change_settings(directory, model_type="bert", architectures=["BertModel"])
    load_trainable_encoder(directory, device="cpu")
    assert "counts positions as BERT does, but the 66 rows of its positions are those of a RoBERTa" in caplog.text
    assert "names" not in caplog.text


def test_a_language_model_of_another_type_than_its_architecture_is_doubted(tmp_path: Path) -> None:
    directory = save_model(tmp_path / "a", "llama")
    change_settings(directory, model_type="mistral", bos_token_id=0, eos_token_id=0)
    (directory / "generation_config.json").unlink()
    with pytest.warns(DinoWarning, match="names LlamaForCausalLM, which is no model of its model_type 'mistral'"):
        LocalWriter(str(directory), device="cpu")


def test_an_encoder_that_pads_before_the_words_and_counts_positions_from_there_is_doubted(tmp_path: Path) -> None:
    encoder, words = tiny_encoder(tmp_path / "bert"), {str(number): number for number in range(1000)}
    assert vectors_doubt(encoder, words) == ""
    encoder.tokenizer.padding_side = "left"
    assert "words and positions are counted from it; set padding_side" in vectors_doubt(encoder, words)


def test_an_encoder_with_a_layer_that_reads_the_padding_is_doubted_for_that(tmp_path: Path) -> None:
    transformer, words = tiny_encoder(tmp_path / "bert")[0], {str(number): number for number in range(1000)}
    size = transformer.get_embedding_dimension()
    encoder = SentenceTransformer(modules=[transformer, CNN(size, 8), Pooling(24)], device="cpu")
    assert "a layer goes over the padding, too (CNN)" in vectors_doubt(encoder, words)


def test_an_encoder_that_cannot_encode_is_refused_as_one(tmp_path: Path) -> None:
    transformer, words = tiny_encoder(tmp_path / "bert")[0], {str(number): number for number in range(1000)}
    encoder = SentenceTransformer(
        modules=[transformer, LSTM(transformer.get_embedding_dimension(), 8), Pooling(16)], device="cpu"
    )
    with pytest.raises(ModelError, match=r"Transformer \+ LSTM \+ Pooling cannot encode a sentence.*KeyError"):
        vectors_doubt(encoder, words)


def test_an_encoder_that_counts_words_needs_no_weights(tmp_path: Path) -> None:
    vocabulary = ["cat", "dog", "sits", "runs"]
    SentenceTransformer(modules=[BoW(vocabulary)], device="cpu").save_pretrained(str(tmp_path))
    encoder = load_trainable_encoder(tmp_path, device="cpu")
    assert encoder.encode(["dog runs"]).tolist() == [[0, 1, 0, 1]]


@pytest.mark.parametrize(("family", "is_told"), [("bert", True), ("llama", False)])
def test_a_tokenizer_that_lost_the_marks_around_a_text_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, family: str, is_told: bool
) -> None:
    directory, tokenizer = save_model(tmp_path / family, family), make_tokenizer(pad=is_told)
    tokenizer.add_special_tokens({"cls_token": END, "sep_token": END})
    tokenizer.save_pretrained(directory)
    load_trainable_encoder(directory, device="cpu")
    assert (f"knows '{END}' and '{END}', and puts neither around a text" in caplog.text) == is_told
    caplog.clear()
    template = TemplateProcessing(single=f"{END} $A {END}", special_tokens=[(END, 0)])
    tokenizer.backend_tokenizer.post_processor = template
    tokenizer.save_pretrained(directory)
    load_trainable_encoder(directory, device="cpu")
    assert "around a text" not in caplog.text
