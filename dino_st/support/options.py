"""The base class of option models: frozen, validated, and worded for people when a value is refused."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from dino_st.errors import ConfigurationError, suggest


class FrozenOptions(BaseModel):
    """Options of one step: each default is written once, in the field, and read from there by everything else.

    A subclass declares fields with a default, bounds and a description. `create` builds one from keyword arguments
    and turns whatever pydantic refuses into a `ConfigurationError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def create(cls, **values: Any) -> Self:
        """Validates options given as keyword arguments.

        Args:
            **values: Option names and values; what is missing keeps its default.

        Returns:
            The frozen options.

        Raises:
            ConfigurationError: An option is unknown, of the wrong type or out of range. The message names every
                such option with what was given and what is expected.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigurationError(_wording(cls, error)) from error


def _wording(cls: type[FrozenOptions], error: ValidationError) -> str:
    """One line for each option that pydantic refused."""
    lines = []
    for problem in error.errors():
        if not problem["loc"]:
            lines.append("expected " + problem["msg"].removeprefix("Value error, "))
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            lines.append(f"there is no option {name!r}: {suggest(name, cls.model_fields)}")
        else:
            reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            lines.append(f"option {name!r} is {problem['input']!r}; expected {reason}")
    return "; ".join(lines)
