"""`--push-to-hub`: what a command wrote goes to the hub when it has come to its end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dino_st.cli.summary import note
from dino_st.cli.support import say
from dino_st.data.cards import state_origin
from dino_st.errors import ConfigurationError
from dino_st.pipeline.publish import PublishOptions, check_upload, push_to_hub
from dino_st.support.objects import address_of, place
from dino_st.training.distributed import is_first

HUB_PANEL = {"push_to_hub": "The hub"}
"""The group of the options in `--help`."""


def publishes(kind: str, part: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Lets a command upload what it wrote to the hub, as a `dataset` or `model`; to be put below `takes`.

    With a `part`, what is uploaded is the directory of that name in the output. Name, token and card are looked at
    before the command begins, and nothing is uploaded unless it comes to its end.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(*, output: Path, given: dict[str, Any], **values: Any) -> None:
            own = {name: given.pop(name) for name in PublishOptions.model_fields if name in given}
            options = PublishOptions.of(**own)
            is_main = is_first()  # of several processes that train together
            if options.push_to_hub and given.get("shard"):
                raise ConfigurationError("--push-to-hub: a shard alone is no data set; give it to `dino-st merge`")
            if options.push_to_hub and (address := address_of(output)):
                raise ConfigurationError(f"--push-to-hub along with {address}: what is uploaded must be on a disk")
            if options.push_to_hub and is_main:
                check_upload(options, kind)
            command(output=output, given=given, **values)
            if values.get("dry_run"):  # nothing was written
                return
            if is_main:
                state_origin(place(output) / part, **options.origin)
            if options.push_to_hub and is_main:
                url = push_to_hub(output / part, options.push_to_hub, private=options.private)
                note(hub=url)
                say(f"Uploaded to {url}")

        return wrapper

    return decorate
