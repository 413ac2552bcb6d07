"""MTEB tasks of dino-st: the papers' STS and transfer evaluation, and what `mteb run` lacks to use it.

The names are loaded when they are first used (PEP 562), so that `import mteb_tasks` imports neither mteb nor torch.
Not even this file imports anything, since the start-up hook in `mteb_tasks.autoload` runs through it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mteb_tasks.pairs import DinoPairs
    from mteb_tasks.registry import register, select_tasks, unregister
    from mteb_tasks.tasks import (
        DinoSICKR,
        DinoSICKRAll,
        DinoSTS12,
        DinoSTS13,
        DinoSTS14,
        DinoSTS15,
        DinoSTS16,
        DinoSTSBenchmark,
    )
    from mteb_tasks.transfer import DinoCR, DinoMPQA, DinoMR, DinoMRPC, DinoSST2, DinoSUBJ, DinoTREC

__all__ = [
    "DinoCR",
    "DinoMPQA",
    "DinoMR",
    "DinoMRPC",
    "DinoPairs",
    "DinoSICKR",
    "DinoSICKRAll",
    "DinoSST2",
    "DinoSTS12",
    "DinoSTS13",
    "DinoSTS14",
    "DinoSTS15",
    "DinoSTS16",
    "DinoSTSBenchmark",
    "DinoSUBJ",
    "DinoTREC",
    "register",
    "select_tasks",
    "unregister",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    kind = "tasks" if name.startswith(("DinoSTS", "DinoSICK")) else "transfer"
    home = "pairs" if name == "DinoPairs" else kind if name.startswith("Dino") else "registry"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
