from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from dino_st.backends.local import LocalWriter
from dino_st.encoders.directory import local_directory
from dino_st.encoders.loading import load_trainable_encoder
from dino_st.errors import DinoWarning
from dino_st.evaluation.evaluate import find_model
from dino_st.models import ENCODER, LANGUAGE_MODEL, bundled_directory, warn_of_unknown_characters
from mteb_tasks.local_models import find_local_model


def test_only_the_two_bundled_names_are_bundled() -> None:
    assert bundled_directory("dino-tiny") == bundled_directory(LANGUAGE_MODEL) is not None
    assert bundled_directory("./dino-tiny") is None
    assert bundled_directory("gpt2") is None
    assert bundled_directory(Path("dino-tiny")) is None


def test_texts_that_the_bundled_model_was_not_trained_on_are_warned_of() -> None:
    russian, accents = ["Кошка спит.", "Дождь идёт.", "Он ушёл."], ["The café was closed all day.", "A dog runs."]
    with pytest.warns(DinoWarning, match="3 of 5 sentences have many characters that 'dino-tiny' was not trained on"):
        warn_of_unknown_characters("dino-tiny", [*russian, *accents])
    warn_of_unknown_characters("dino-tiny", accents)  # a warning would be an error
    warn_of_unknown_characters("./another-model", russian)


def test_a_bundled_name_wins_over_a_directory_and_a_path_over_the_bundled_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ENCODER).mkdir()
    (tmp_path / ENCODER / "config.json").write_text("{}")
    with pytest.warns(DinoWarning, match=rf"the model in .*{ENCODER} is not read; say \./{ENCODER} for that one"):
        assert local_directory(ENCODER) == bundled_directory(ENCODER)
    assert local_directory(ENCODER) == bundled_directory(ENCODER)  # told once; a warning would be an error
    assert local_directory(f"./{ENCODER}") == tmp_path / ENCODER


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_language_model_loads_without_network_in_the_type_asked_for(dtype: torch.dtype) -> None:
    writer = LocalWriter("dino-tiny", device="cpu", dtype=str(dtype).removeprefix("torch."))
    assert {parameter.dtype for parameter in writer.model.parameters()} == {dtype}
    assert writer.name == "dino-tiny"


def test_each_instruction_of_the_task_is_one_token_of_the_language_model() -> None:
    from dino_st.tasks.spec import TaskSpec

    tokenizer = LocalWriter("dino-tiny", device="cpu", dtype="float32").tokenizer
    for label in TaskSpec.load("sts-x2").labels.values():
        head, middle = label.instruction.split("<X1>")
        assert len(tokenizer(head)["input_ids"]) == len(tokenizer(middle)["input_ids"]) == 1
    assert tokenizer.convert_ids_to_tokens(tokenizer('"yes."')["input_ids"])[-1] == '"'


def test_the_encoder_loads_in_float32_everywhere() -> None:
    encoder = load_trainable_encoder(ENCODER, device="cpu")
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    alike, other = encoder.similarity(
        encoder.encode(["A man plays a guitar."]), encoder.encode(["a guitar", "the law"])
    )[0]
    assert alike > other + 0.3
    assert find_model(ENCODER).name == "local/dino-tiny-encoder"
    meta = find_local_model(ENCODER)
    assert meta is not None
    assert meta.name == "local/dino-tiny-encoder"


def test_the_encoder_can_be_trained_however_it_is_loaded() -> None:
    plain = SentenceTransformer(str(bundled_directory(ENCODER)), device="cpu")
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}
    assert all(torch.equal(weight, weight.half().float()) for weight in plain.parameters())  # so it compresses well


def test_the_language_model_is_an_encoder_too() -> None:
    assert load_trainable_encoder(LANGUAGE_MODEL, device="cpu").encode("a dog").shape == (256,)
