"""The options of decoding, and the one place where their defaults stand."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from dino_st.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How texts are drawn.

    Attributes:
        max_new_tokens: Tokens a text may take, its closing mark included.
        max_tries: Times a draw is made before it is given up; 1 means that a rejected draw is not repeated.
        decay_constant: λ of self-debiasing (arXiv 2104.07540, equation 2); 0 is plain sampling.
        decay_floor: Smallest factor that debiasing multiplies a probability by; the published code uses 0.01, and 0
            is the paper's formula.
        top_k: Tokens kept, the likeliest first; 0 keeps all.
        top_p: Share of the probability kept, measured after renormalising over the top k; 1 keeps all.
        min_words: Texts with fewer whitespace-separated words are rejected.
        curly_quotes: Whether typographic quotation marks end a text, too.
        max_total_tokens: Longest prompt plus new tokens; the model's own context, where shorter, goes first.
    """

    max_new_tokens: int = 40
    max_tries: int = 5
    decay_constant: float = 100.0
    decay_floor: float = 0.01
    top_k: int = 5
    top_p: float = 0.9
    min_words: int = 1
    curly_quotes: bool = False
    max_total_tokens: int = 1024

    def __post_init__(self) -> None:
        """Checks every range.

        Raises:
            ConfigurationError: If an option is out of range.
        """
        for name, lowest in (
            ("max_new_tokens", 1),
            ("max_tries", 1),
            ("top_k", 0),
            ("min_words", 0),
            ("max_total_tokens", 2),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise ConfigurationError(f"{name} = {value!r}: expected a whole number, at least {lowest}")
        for name in ("decay_constant", "decay_floor", "top_p"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ConfigurationError(f"{name} = {value!r}: expected a finite number")
        if self.decay_constant < 0:
            raise ConfigurationError(f"decay_constant = {self.decay_constant}: expected 0 (no debiasing) or more")
        if not 0 <= self.decay_floor <= 1:
            raise ConfigurationError(f"decay_floor = {self.decay_floor}: expected a number from 0 to 1")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p = {self.top_p}: expected above 0 and at most 1 (1 keeps every token)")
        if self.max_new_tokens >= self.max_total_tokens:
            raise ConfigurationError(
                f"max_new_tokens = {self.max_new_tokens} leaves no room for a prompt within max_total_tokens = "
                f"{self.max_total_tokens}"
            )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all options."""
        return tuple(field.name for field in fields(cls))
