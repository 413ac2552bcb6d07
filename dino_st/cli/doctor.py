"""`dino-st doctor`: what is installed, what it runs on, what would be slow and what is broken, to paste somewhere."""

from __future__ import annotations

import os
import platform
import re
import shutil
import site
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from dino_st.cli.support import OWN_SETTINGS
from dino_st.errors import first_line
from dino_st.models import ENCODER, LANGUAGE_MODEL, bundled_directory
from dino_st.support.hashes import versions
from dino_st.training.distributed import LAUNCHER

PACKAGE = "dino-st"
IMPORTED = ("torch", "transformers", "sentence_transformers", "datasets", "mteb")
"""What stages import; each alone may be broken although it is installed."""

EXTRAS = {
    "report": "pictures of `quickstart` and `report`",
    "audit": "judging in the browser (`audit --web`)",
    "openai": "chat servers (`--backend openai`)",
    "peft": "language models with an adapter, such as LoRA",
    "ray": "one data set by several GPUs or machines (--engine ray)",
    "kernel": "Triton's kernels on a GPU, where torch does not bring them",
    "gguf": "language models in llama.cpp's format",
}
"""What each extra is for; those of people who work on dino-st itself are left out."""

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")

_VARIABLES = re.compile(
    r"DINO_ST_\w+|HF_\w+|TRANSFORMERS_\w+|MTEB_CACHE|OPENAI_\w+|(HTTPS?|ALL|NO)_PROXY|CUDA_\w+|NVIDIA_\w+|PYTORCH_\w+|"
    r"(OMP|MKL)_NUM_THREADS|TOKENIZERS_PARALLELISM|WORLD_SIZE|(LOCAL_)?RANK|MASTER_(ADDR|PORT)|TMPDIR|PYTHONPATH|"
    r"(WANDB|TRACKIO|MLFLOW|TENSORBOARD)_\w+|DISABLE_MLFLOW_INTEGRATION",
    re.IGNORECASE,
)
_SECRET = re.compile("KEY|TOKEN(?!IZERS)|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
_POINTER_BYTES = 1024


@dataclass
class Checkup:
    """What was found."""

    sections: dict[str, dict[str, str]] = field(default_factory=dict)  # facts by section
    slow: list[str] = field(default_factory=list)  # what would be slow here, and what to do about it
    problems: list[str] = field(default_factory=list)  # why dino-st cannot be used

    def lines(self) -> Iterator[str]:
        """The findings as text."""
        for title, facts in self.sections.items():
            yield f"{title}:"
            width = max(map(len, facts), default=0)
            yield from (f"  {name:{width}}  {value}" for name, value in facts.items())
        if self.slow:
            yield "would be slow:"
            yield from (f"  - {line}" for line in self.slow)
        if self.problems:
            yield "cannot be used:"
            yield from (f"  - {line}" for line in self.problems)
        else:
            yield "can be used: nothing that is needed is missing"


def check_up() -> Checkup:
    """Looks at everything; imports what stages import, computes one product, and asks the hub whether it answers."""
    found = Checkup()
    found.sections["versions"] = _versions(found)
    found.sections["devices"] = _devices(found)
    found.sections["extras"] = _extras()
    found.sections["directories"] = _directories(found)
    found.sections["hub and mteb"] = {"hub": _hub(), "mteb": _mteb_hook()}
    found.sections["environment"] = _environment(found)
    return found


def _versions(found: Checkup) -> dict[str, str]:
    """Versions of what is required; what is missing, of a wrong version or cannot be imported is a problem."""
    from packaging.requirements import Requirement

    required = [Requirement(line) for line in requires(PACKAGE) or ()]
    required = [each for each in required if "extra" not in str(each.marker or "")]
    for each in required:
        try:
            there = version(each.name)
        except PackageNotFoundError:
            found.problems.append(f'{each.name} is not installed; run: pip install "{each.name}{each.specifier}"')
            continue
        if not each.specifier.contains(there, prereleases=True):
            wanted = f"{each.name}{each.specifier}"
            found.problems.append(f'{each.name} is {there}, expected {each.specifier}; run: pip install "{wanted}"')
    for name in IMPORTED:
        try:
            import_module(name)
        except Exception as error:  # noqa: BLE001  # whatever a broken library does
            found.problems.append(f"{name} cannot be imported: {type(error).__name__}: {first_line(error)}")
    names = ["python", PACKAGE, *(each.name for each in required)]
    return {"system": f"{platform.system()} {platform.release()}, {platform.machine()}", **versions(*names)}


def _devices(found: Checkup) -> dict[str, str]:
    """What models run on, and with what `generate` and `train` would; a product that goes wrong is a problem."""
    if "torch" not in sys.modules:
        return {}
    import torch

    from dino_st.backends.loading import resolve_device, resolve_dtype
    from dino_st.decoding.memory import free_memory

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, instructions = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    memory = _size(free_memory(torch.device("cpu")))
    facts = {"CPU": f"{usable} cores, {threads} threads, {instructions}, {memory} of memory free"}
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties, (free, _) = torch.cuda.get_device_properties(number), torch.cuda.mem_get_info(number)
        bfloat16 = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bfloat16"
        size = f"{_size(properties.total_memory)}, {_size(free)} free"
        facts[f"cuda:{number}"] = f"{properties.name}, {size}, {bfloat16}, CUDA {torch.version.cuda}"
    if torch.backends.mps.is_available():
        facts["mps"] = f"{_size(torch.mps.recommended_max_memory())} recommended at most"
    try:
        device = resolve_device("auto")
        facts["auto"] = f"{device}, {str(resolve_dtype('auto', device)).removeprefix('torch.')}"
        product = torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)
        if product.sum().item() != 512:
            found.problems.append(f"{device} computes wrongly: a product of ones is {product.sum().item()}, not 512")
    except RuntimeError as error:
        found.problems.append(f"nothing can be computed: {type(error).__name__}: {first_line(error)}")
    found.slow += _slow_devices(threads, usable, instructions)
    return facts


def _slow_devices(threads: int, usable: int, instructions: str) -> Iterator[str]:
    import torch

    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if not has_gpu and Path("/proc/driver/nvidia/version").exists():
        built = "has none for CUDA" if torch.version.cuda is None else f"is for CUDA {torch.version.cuda}"
        yield f"there is an NVIDIA driver, but torch {torch.__version__} cannot use it: the build {built}"
    elif not has_gpu:
        yield (
            "there is no GPU, so models run on the CPU; the documentation has what that costs, under Choose a model. "
            "Try --limit first, or let a chat server write (--backend openai)"
        )
    if not has_gpu and threads < usable:
        reason = f" (OMP_NUM_THREADS={given})" if (given := os.environ.get("OMP_NUM_THREADS")) else ""
        yield f"torch computes in {threads} threads on {usable} cores{reason}"
    if instructions in ("DEFAULT", "NO AVX"):
        yield "torch finds no vector instructions (AVX2, NEON) in this CPU"
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield "the GPU has no bfloat16: models run in float32; --dtype float16 may be faster"


def _extras() -> dict[str, str]:
    """Which extras and trackers are there, and how the others are installed."""
    facts = {}
    for name, purpose in EXTRAS.items():
        missing = _lacking(name)
        state = f'missing {", ".join(missing)}; pip install "{PACKAGE}[{name}]"' if missing else "there"
        facts[name] = f"{state} ({purpose})"
    there = [name for name in TRACKERS if versions(name)[name] != "none"]
    facts["trackers"] = (", ".join(there) or "none; pip install one of " + ", ".join(TRACKERS)) + " (`--report-to`)"
    return facts


def _lacking(extra: str) -> list[str]:
    """The packages of an extra that are not there, and those that are too old, with the version that is asked for."""
    from packaging.requirements import Requirement

    found = [Requirement(line) for line in requires(PACKAGE) or ()]
    of_extra = [each for each in found if each.marker and f'extra == "{extra}"' in str(each.marker)]
    there = versions(*(each.name for each in of_extra))
    missing = [each.name for each in of_extra if there[each.name] == "none"]
    known = [each for each in of_extra if each.name not in missing]
    return missing + [
        f"{each.name}{each.specifier}"
        for each in known
        if not each.specifier.contains(there[each.name], prereleases=True)
    ]


def _directories(found: Checkup) -> dict[str, str]:
    """Where files go: whether they may, and how much room there is."""
    places = {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir())}
    if "datasets" in sys.modules:
        import datasets
        from huggingface_hub import constants

        places |= {"models": Path(constants.HF_HUB_CACHE), "data sets": Path(datasets.config.HF_DATASETS_CACHE)}
    places["mteb"] = Path(os.environ.get("MTEB_CACHE") or Path.home() / ".cache" / "mteb")
    facts = {}
    for name, path in places.items():
        existing = next(each for each in (path, *path.parents) if each.exists())
        is_writable = os.access(existing, os.W_OK)
        room = _size(shutil.disk_usage(existing).free)
        facts[name] = f"{_short(path)}: {'writable' if is_writable else 'cannot be written'}, {room} free"
        if not is_writable and name == "temporary":
            found.problems.append(f"{path}: temporary files cannot be written; name another place with TMPDIR")
    for name in (LANGUAGE_MODEL, ENCODER):
        weights = max(bundled_directory(name).glob("*.safetensors"), default=None)  # type: ignore[union-attr]
        if weights is None or weights.stat().st_size < _POINTER_BYTES:
            found.problems.append(
                f"{name}, which comes with {PACKAGE}, has no weights; run: git lfs pull, or reinstall"
            )
    return facts


def _hub() -> str:
    try:
        from dino_st.support.hub import hub_out_of_reach

        reason = hub_out_of_reach()
    except ImportError as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
    return "answers" if reason is None else f"is not asked or out of reach: only what is on this machine ({reason})"


def _mteb_hook() -> str:
    """Whether the plain command `mteb` knows our tasks."""
    from mteb_tasks.autoload import SWITCH_OFF

    name = f"dino_st_mteb.{'start' if sys.version_info >= (3, 15) else 'pth'}"
    places = [*site.getsitepackages(), site.getusersitepackages()]
    if os.environ.get(SWITCH_OFF, "") not in ("", "0"):
        return f"the start-up hook is switched off by {SWITCH_OFF}; `dino-st mteb run …` works without it"
    if not any(Path(place, name).is_file() for place in places):
        return "the start-up hook is not installed; `dino-st mteb run …` works without it"
    return "`mteb run` knows the tasks, by the start-up hook"


def _environment(found: Checkup) -> dict[str, str]:
    """The variables that matter, without what is nobody's business."""
    given = {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)}
    left = [name for name in LAUNCHER if given.get(name)]
    if left and len(left) < len(LAUNCHER):
        found.slow.append(f"{', '.join(left)}: left over from a launcher; training takes no notice of them")
    shown = {name: value for name, value in given.items() if OWN_SETTINGS.get(name) != value}
    return {name: _shown(name, value) for name, value in shown.items()}


def _shown(name: str, value: str) -> str:
    """A variable's value without names, passwords and keys."""
    if _SECRET.search(name):
        return "(set)" if value else "(empty)"
    return _short(re.sub(r"//[^/@\s]*@", "//…@", re.sub(r"\?\S*", "?…", value)))


def _short(path: str | Path) -> str:
    """A path with ~ in place of the home directory, which has a person's name."""
    return re.sub(rf"(?<![^:]){re.escape(str(Path.home()))}(?=[/\\]|$|:)", "~", str(path))


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"
