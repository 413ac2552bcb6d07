"""What an editable install takes along: the start-up hook alone, since it finds the recipes in the repository."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableInstall(BuildHookInterface):  # type: ignore[type-arg]
    """Leaves the recipes out of editable installs, where a copy would go stale and outlive an uninstall."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a build.

        Args:
            version: `standard` or `editable`.
            build_data: What the build includes.
        """
        if version == "editable":
            hooks = ("dino_st_mteb.pth", "dino_st_mteb.start")
            build_data["force_include_editable"] = {f"mteb_tasks/autoload/{name}": name for name in hooks}
