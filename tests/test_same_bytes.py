"""What the package makes of fixed inputs, against hashes made at commit 59457e4, before the modules became packages."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer

from dino_st import DinoDatasetBuilder, prepare_pairs, train_encoder

SENTENCES = Path(__file__).parents[1] / "recipes" / "quickstart-sentences.txt"

TEXTS = "2ca82092893e0c6960698268267c44e0e1f48c3f1379c4efad595fbca37e6124"
PREPARED = "6fbc967c9caae8c7229024daa38ed51c95e13af7ff1740ae995e5648773cfd63"
ENCODER = "4683321530af1ab566376b1bed10f5ec5b9e95d33020195bb51cc9daf1e45bc2"
ENCODER_MADE_WITH = ("AMD EPYC", "AVX512", "2.13.0+cpu")
"""Processor, instructions and torch behind `ENCODER`; another processor may round the gradients' sums otherwise."""

PROBES = [
    ("A man is playing a guitar.", "Someone plays the guitar."),
    ("A man is playing a guitar.", "The stock market fell sharply."),
    ("Two dogs run on the beach.", "Dogs are running near the sea."),
    ("She is cooking dinner.", "She is eating dinner."),
]
SIMILARITIES = [0.52770, 0.03039, 0.43315, 0.69720]


def digest(rows: object) -> str:
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def processor() -> tuple[str, str, str]:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor()])[0], torch.backends.cpu.get_cpu_capability(), torch.__version__


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    """Pairs for 256 sentences, in float64, where no draw depends on how a matrix product is cut."""
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()[:256]
    return DinoDatasetBuilder("dino-tiny", dtype="float64", device="cpu", seed=42).generate(sentences)


@pytest.fixture(scope="module")
def splits(pairs: Dataset) -> DatasetDict:
    return prepare_pairs(pairs)


@pytest.mark.slow
def test_the_texts_are_those_of_before(pairs: Dataset) -> None:
    rows = pairs.to_list()
    assert digest([[row["sentence1"], row["sentence2"], row["score"]] for row in rows]) == TEXTS


def test_the_prepared_pairs_are_those_of_before(splits: DatasetDict) -> None:
    assert digest({name: split.to_list() for name, split in splits.items()}) == PREPARED


@pytest.fixture(scope="module")
def encoder(splits: DatasetDict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("same-bytes") / "encoder"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_encoder(splits, "dino-tiny-encoder", directory, learning_rate=5e-4, device="cpu")
    finally:
        torch.set_num_threads(threads)
    return directory


def test_the_trained_encoder_measures_as_before(encoder: Path) -> None:
    model = SentenceTransformer(str(encoder), device="cpu")
    first, second = (model.encode([pair[side] for pair in PROBES], normalize_embeddings=True) for side in (0, 1))
    assert (first * second).sum(axis=1).tolist() == pytest.approx(SIMILARITIES, abs=1e-4)


def test_the_trained_encoder_has_the_bytes_of_before(encoder: Path) -> None:
    if (here := processor()) != ENCODER_MADE_WITH:
        pytest.skip(f"the hash was made with {ENCODER_MADE_WITH}, and here are {here}")
    assert hashlib.sha256((encoder / "model.safetensors").read_bytes()).hexdigest() == ENCODER
