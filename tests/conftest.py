"""A tokenizer and models small enough to make on the spot, so that no test downloads anything."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads wait for each other where several tests run at once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRITON_INTERPRET", "1")  # must be there before anything imports Triton, as torch 2.6 does

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

from dino_st.encoders.directory import cap_attention
from tests.cards import compile_templates_once

torch.set_num_threads(1)
compile_templates_once()

CORPUS = [
    'A man said "yes." Then a woman said, "no". "Why?" they asked.',
    "Two dogs run over the green grass; a cat sleeps on the mat.",
    "Task: Write two sentences that mean the same thing.",
    "Task: Write two sentences that are somewhat similar.",
    "Task: Write two sentences that are on completely different topics.",
    'Sentence 1: "A man is playing a flute."\nSentence 2: "Someone plays the flute."\n',
    "“Curly quotes” stand in this sentence, with naïve café ünïcode.",
] * 4

VOCABULARY = 384


@contextmanager
def process_kept() -> Iterator[None]:
    """Takes back what a command sets for its process, or a library that it calls.

    That is where messages and warnings go and which, the answer to SIGTERM, variables, and the threads of torch.
    """
    own = logging.getLogger("dino_st")
    handlers, level, propagate = own.handlers[:], own.level, own.propagate
    terminated, threads, variables = signal.getsignal(signal.SIGTERM), torch.get_num_threads(), dict(os.environ)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        own.handlers[:], own.propagate = handlers, propagate
        own.setLevel(level)
        signal.signal(signal.SIGTERM, terminated)
        torch.set_num_threads(threads)
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)


@pytest.fixture(autouse=True)
def _process_kept_by_each_test() -> Iterator[None]:
    with process_kept():
        logging.getLogger("dino_st").addHandler(logging.NullHandler())  # then a command leaves the logger to `caplog`
        yield


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Any:
    """Fixtures that several tests share are made outside of any test's own `process_kept`, so they have theirs."""
    if fixturedef.scope == "function":
        return (yield)
    with process_kept():
        return (yield)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer whose vocabulary has marks inside larger tokens, such as `."`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=end, eos_token=end, pad_token=end)


def _configuration(family: str) -> Any:
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": VOCABULARY, "initializer_range": 0.4}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}
    wide = shape | {"intermediate_size": 48, "num_key_value_heads": 2}
    windows = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
    untied = {"tie_word_embeddings": False}  # else they repeat the last token
    more: dict[str, Any] = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
        "opt": shape | {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.4},
        "gpt_neox": wide,
        "llama": wide,
        "mistral": wide | {"sliding_window": 24},
        "qwen2": wide,
        "qwen3": wide | {"head_dim": 16},
        "gemma2": wide | windows | untied | {"query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0},
        "gemma3_text": wide | windows | untied | {"head_dim": 16, "query_pre_attn_scalar": 8},
        "phi": wide | {"partial_rotary_factor": 0.5},
        "phi3": wide | {"sliding_window": 24},
        "olmo2": wide,
        "smollm3": wide | {"no_rope_layers": [1, 0]},
        "granite": wide | {"attention_multiplier": 0.3, "residual_multiplier": 0.5, "logits_scaling": 0.5},
        "gpt_oss": wide | windows | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    }
    config: Any = CONFIG_MAPPING[family]
    known = {*config.__dataclass_fields__, *config.attribute_map}
    return config(**{name: value for name, value in (ends | more[family]).items() if name in known})


FAMILIES = (
    *("gpt2", "opt", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi", "phi3", "olmo2"),
    *("smollm3", "granite"),
)
"""Whose attention goes through transformers' interface, and that compute in float64 (gpt_oss does not); windows are
shorter than the tests' prompts."""


@pytest.fixture(scope="session")
def make_model(tokenizer: Any) -> Callable[..., Any]:
    """Builds a random model of a family: `make_model("gpt2", dtype=torch.float64)`; it seldom draws half a letter."""
    halves = [id_ for id_ in range(len(tokenizer)) if "\ufffd" in tokenizer.decode([id_])]

    def make(family: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_configuration(family)).to(dtype).eval()
        model.generation_config.pad_token_id = 0
        cap_attention(model)
        with torch.no_grad():
            model.get_output_embeddings().weight[halves] = 0
        return model

    return make


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory, make_model: Any, tokenizer: Any) -> Path:
    """A directory with a tiny GPT-2 and its tokenizer."""
    directory = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    make_model("gpt2", dtype=torch.float32).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data beside the repository; tests that want it are skipped where it is missing."""
    directory = Path(__file__).parents[2] / "shared"
    if not (directory / "data").is_dir():
        pytest.skip("needs the real data beside the repository")
    return directory


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny BERT."""
    from tests.training_fixtures import save_model

    return save_model(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def splits() -> Any:
    """Prepared pairs: 160 to train on and 60 to validate with."""
    from tests.training_fixtures import prepared_splits

    return prepared_splits(160, 60)


@pytest.fixture
def asking_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has chat servers of this machine asked without a proxy, and no key of whoever runs the tests sent."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
