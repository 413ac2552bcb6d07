"""Which versions of packages something was made with, for manifests, cards and `dino-st version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package, `none` where it is missing; `python` is Python itself."""
    return {name: platform.python_version() if name == "python" else _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
