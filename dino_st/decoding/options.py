"""The options of decoding, each declared once: type, default, bounds and help."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from dino_st.errors import ConfigurationError, suggest


def _option(default: Any, description: str, **bounds: float) -> Any:
    """A field with its help and bounds (pydantic's `ge`, `gt`, `le`), for the check and the command line."""
    return field(default=default, metadata={"description": description, **bounds})


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How texts are drawn; λ is that of self-debiasing (arXiv 2104.07540, equation 2)."""

    max_new_tokens: int = _option(40, "tokens that a text may take, its closing quotation mark included", ge=1)
    max_tries: int = _option(5, "times a draw is made before it is given up; 1 repeats no rejected draw", ge=1)
    decay_constant: float = _option(100.0, "strength λ of self-debiasing; 0 is plain sampling", ge=0)
    decay_floor: float = _option(
        0.01, "smallest factor of self-debiasing, as in the published code; 0 is the paper's formula", ge=0, le=1
    )
    top_k: int = _option(5, "tokens kept for a draw, the likeliest first; 0 keeps all", ge=0)
    top_p: float = _option(
        0.9, "share of probability kept, after renormalising over the top k; 1 keeps all", gt=0, le=1
    )
    min_words: int = _option(1, "reject texts with fewer words, or pairs of letters in scripts without spaces", ge=0)
    curly_quotes: bool = _option(False, "let typographic quotation marks end a text, too")
    max_total_tokens: int = _option(
        1024, "longest prompt plus new tokens; a shorter context of the model goes first", ge=2
    )

    def __post_init__(self) -> None:
        """Checks every type and range; raises ConfigurationError."""
        for option in fields(self):
            value, bounds = getattr(self, option.name), option.metadata
            expected = " and ".join(
                f"{word} {bounds[name]:g}"
                for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"))
                if name in bounds
            )
            if isinstance(option.default, bool):
                is_good, kind = isinstance(value, bool), "True or False"
            elif isinstance(option.default, int):
                is_good, kind = isinstance(value, int) and not isinstance(value, bool), "a whole number"
            else:
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                is_good, kind = is_number and math.isfinite(value), "a finite number"
            if not is_good:
                raise ConfigurationError(f"{option.name} = {value!r}: expected {kind}{expected and ', ' + expected}")
            if (
                value < bounds.get("ge", -math.inf)
                or value <= bounds.get("gt", -math.inf)
                or value > bounds.get("le", math.inf)
            ):
                raise ConfigurationError(f"{option.name} = {value!r}: expected {expected}")
        if self.max_new_tokens >= self.max_total_tokens:
            raise ConfigurationError(
                f"max_new_tokens = {self.max_new_tokens} leaves no room for a prompt within max_total_tokens = "
                f"{self.max_total_tokens}"
            )

    @classmethod
    def of(cls, options: Self | None = None, /, **changes: Any) -> Self:
        """Options from keyword arguments, or from others and what differs; ConfigurationError where one is bad."""
        for name in changes:
            if name not in cls.names():
                raise ConfigurationError(f"there is no option {name!r}: {suggest(name, cls.names())}")
        return cls(**changes) if options is None else replace(options, **changes)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all options."""
        return tuple(option.name for option in fields(cls))
