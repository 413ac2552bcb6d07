"""Requested texts, and what became of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Draw:
    """One requested text, named by (x1, label, sample).

    Attributes:
        x1: The input sentence, empty where the task takes none.
        label: The label to write for.
        sample: Number of the text among those for the same (x1, label).
        target: Token ids of the target prompt.
        counters: Token ids of each counter-prompt.
        scored: Token ids of prompts after which the finished text is scored, whether it was written for them or not.
    """

    x1: str
    label: str
    sample: int
    target: tuple[int, ...]
    counters: tuple[tuple[int, ...], ...] = ()
    scored: tuple[tuple[int, ...], ...] = ()

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        """The prompts of its streams: the target prompt first."""
        return (self.target, *self.counters)

    @property
    def streams(self) -> int:
        """Rows of the batch that the draw takes."""
        return 1 + len(self.counters)


@dataclass
class Drawn:
    """What became of a draw.

    Attributes:
        text: The text without its closing mark; None if every try was rejected.
        tries: Tries made.
        tokens: Ids of the last try, closing mark included.
        rejections: How often each reason made a try fail.
        log_probs: log p(tokens | prompt) in nats for each of the draw's scored prompts, before any debiasing and with
            end-of-text impossible, as everywhere in decoding; None without a text.
    """

    text: str | None = None
    tries: int = 0
    tokens: tuple[int, ...] = ()
    rejections: Counter[str] = field(default_factory=Counter)
    log_probs: tuple[float, ...] | None = None
