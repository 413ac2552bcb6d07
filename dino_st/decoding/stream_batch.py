"""The streams that are decoded together, and what is kept of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, islice

import torch

from dino_st.decoding.draws import Draw
from dino_st.decoding.kv_cache import PromptStates, StreamCache
from dino_st.decoding.shared_prompts import SharedCache


class StreamBatch:
    """The streams being decoded: draws in the order of their stream count, each with its target stream first."""

    def __init__(
        self,
        draws: Sequence[Draw],
        states: PromptStates,
        index: dict[tuple[int, ...], int],
        numbers: torch.Tensor,
        steps: int,
    ) -> None:
        device = states.lengths.device
        self.draws = list(range(len(draws)))
        self.uniforms = numbers
        self._counters = [len(draw.counters) for draw in draws]
        rows = [index[prompt] for draw in draws for prompt in draw.prompts]
        self.prompt_of_row = torch.tensor(rows, device=device)
        self._streams = torch.tensor([draw.streams for draw in draws], device=device)
        self._row_numbers = torch.arange(len(rows), device=device)
        is_scored = any(draw.scored for draw in draws)
        self._log_probs = states.logits.new_zeros(len(rows), steps) if is_scored else None
        self.cache: StreamCache | SharedCache = states.start_streams(self.prompt_of_row, steps - 1)
        self._number_rows(device)

    def _number_rows(self, device: torch.device) -> None:
        self.groups = [(count, len(list(group))) for count, group in groupby(self._counters)]
        sizes = torch.tensor([1 + count for count in self._counters], device=device)
        self.draw_of_row = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes)

    def record(self, row: int, step: int, probabilities: torch.Tensor, tokens: torch.Tensor) -> None:
        """Keeps how likely each stream found the token that was drawn, if texts are scored.

        Args:
            row: The first stream of the draws.
            step: Which token it is.
            probabilities: Shape (draws, streams of each, vocabulary).
            tokens: Shape (draws,).
        """
        if self._log_probs is not None:
            chosen = probabilities.gather(-1, tokens.view(-1, 1, 1).expand(-1, probabilities.shape[1], 1)).flatten()
            places = self._row_numbers[row : row + len(chosen)]
            self._log_probs[places, step] = chosen.clamp_(min=torch.finfo(chosen.dtype).tiny).log_()

    def log_probs(self, lengths: Sequence[int]) -> list[tuple[float, ...]]:
        """Sums what was kept over each draw's tokens, for each of its streams; empty if texts are not scored.

        Args:
            lengths: Tokens of each draw of the whole batch, in its order.
        """
        if self._log_probs is None:
            return [() for _ in lengths]
        written = torch.tensor(lengths, device=self._log_probs.device).repeat_interleave(self._streams)
        columns = torch.arange(self._log_probs.shape[1], device=written.device)
        sums = iter(self._log_probs.masked_fill(columns >= written.unsqueeze(1), 0).sum(dim=1).tolist())
        return [tuple(islice(sums, count)) for count in self._streams.tolist()]

    def compact(self, places: Sequence[int]) -> torch.Tensor:
        """Drops the streams of all draws but those at the given places.

        Returns:
            The places as a tensor, to select by.
        """
        device = self.draw_of_row.device
        kept = torch.tensor(places, device=device)
        wanted = torch.zeros(len(self.draws), dtype=torch.bool, device=device)
        wanted[kept] = True
        rows = wanted[self.draw_of_row].nonzero().squeeze(1)
        self.cache.keep(rows)
        self._row_numbers = self._row_numbers[rows]
        self.draws = [self.draws[place] for place in places]
        self.uniforms = self.uniforms[kept.to(self.uniforms.device)]
        self._counters = [self._counters[place] for place in places]
        self._number_rows(device)
        return kept
