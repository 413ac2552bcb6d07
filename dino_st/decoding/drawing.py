"""One token for every draw from the debiased distribution over its rows, as work of a fixed shape."""

from __future__ import annotations

import torch

from dino_st.decoding.options import DecodingOptions
from dino_st.decoding.sampling import draw_debiased, draw_tokens, top_k_top_p
from dino_st.forward.kernels import give_up_kernels, kernels_for

_ENTRIES = 2**28
"""Probabilities that are debiased and cut at once without the kernel."""


class TokenDrawing:
    """Draws tokens for draws whose streams are rows of a table of logits; all of it can be captured in a CUDA graph."""

    def __init__(self, options: DecodingOptions, unreachable: torch.Tensor, dtype: torch.dtype) -> None:
        """`unreachable` holds the ids that are never drawn; `dtype` is that of the logits."""
        self._options, self._unreachable = options, unreachable
        found = kernels_for(unreachable.device, dtype)
        fits = found is not None and 0 < options.top_k <= found.LARGEST_TOP_K
        self._kernel = found if fits and (options.decay_floor > 0 or options.decay_constant == 0) else None
        if self._kernel is not None:
            trial = torch.zeros(2, options.top_k + 1, dtype=dtype, device=unreachable.device)
            rows = torch.tensor([[0, 1], [1, -1]], device=unreachable.device)
            try:
                self.draw(trial, self._kernel.normalisers(trial), rows, rows[0].double() / 2)
            except Exception as error:  # noqa: BLE001  # of compilers and drivers of any kind
                give_up_kernels(error)
                self._kernel = None

    def normalise(self, logits: torch.Tensor) -> torch.Tensor:
        """Makes unreachable tokens impossible, in place, and returns log Σ exp of each row, shape (rows,)."""
        logits.index_fill_(1, self._unreachable, -torch.inf)
        if self._kernel is not None and logits.stride(1) == 1:
            normalisers: torch.Tensor = self._kernel.normalisers(logits)
            return normalisers
        return logits.logsumexp(dim=1)

    def draw(
        self, logits: torch.Tensor, normalisers: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws the next token of every draw by its random number, shape (draws,).

        `rows`, shape (draws, streams), names the row of each draw's target stream and those of its counter-streams, -1
        where it has fewer. Returns tokens, shape (draws,), and how likely each stream found its draw's token: log-
        probabilities in nats before any debiasing, of the shape of `rows`. A draw without a target row gets any token.
        """
        options, there = self._options, rows.clamp(min=0)
        if self._kernel is not None:
            probabilities, ids = self._kernel.debiased_candidates(
                logits, normalisers, rows, count=options.top_k, decay=options.decay_constant, floor=options.decay_floor
            )
            kept, places = top_k_top_p(probabilities, top_k=options.top_k, top_p=options.top_p)
            tokens = draw_tokens(kept, ids.gather(1, places), uniform)
        else:
            at_once = max(1, _ENTRIES // (logits.shape[1] * rows.shape[1]))
            parts = [
                self._draw_some(logits, rows[first : first + at_once], uniform[first : first + at_once])
                for first in range(0, len(rows), at_once)
            ]
            tokens = torch.cat(parts)
        return tokens, logits[there, tokens.unsqueeze(1)] - normalisers[there]

    def _draw_some(self, logits: torch.Tensor, rows: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        probabilities = logits[rows.clamp(min=0)].softmax(dim=-1)
        counters = probabilities[:, 1:].masked_fill_((rows[:, 1:] < 0).unsqueeze(-1), 0)
        probabilities[:, 0].masked_fill_(rows[:, :1] < 0, 1)  # whatever the row holds, some token is drawn
        return draw_debiased(probabilities[:, 0], counters, uniform, self._options)
