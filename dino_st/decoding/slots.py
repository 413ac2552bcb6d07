"""Decoding with work of a fixed shape: every stream keeps a slot, and a step of all of them is one CUDA graph.

A forward pass of a small model takes longer to launch than to compute. So the whole step (embedding, layers, output
layer, debiasing, top-k, top-p, draw, next token) works on buffers that stay where they are, and is captured once for
each number of rows and then replayed; what it draws is fed back on the device, and the host reads it a step behind.
Where nothing can be captured, such as on a CPU, the same code runs as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from dino_st.decoding.batch import Draw, prompt_table, text_scores
from dino_st.decoding.drawing import TokenDrawing
from dino_st.decoding.memory import is_out_of_memory
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import first_line
from dino_st.forward.cache import Indices, PackedStates, PromptRoom, on_device
from dino_st.forward.slot_cache import TOGETHER, Rows, SlotCache, groups_by_prompt

logger = logging.getLogger(__name__)

_REFILL = 1 / 16
"""Share of the slots that must be free for draws to begin, as a few take as long to begin as many."""

_FEWEST = 64
"""Rows of the smallest step: with fewer it takes as long."""


class Flight:
    """Tokens that are being drawn: which tries of which draws, and what the host will read."""

    def __init__(self, draws: Indices, attempts: Indices, drawn: torch.Tensor) -> None:
        self.draws, self.attempts = draws, attempts
        self._event: torch.cuda.Event | None = None
        if drawn.is_cuda:
            self._host = torch.empty(drawn.shape, dtype=drawn.dtype, pin_memory=True)
            self._host.copy_(drawn, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._host = drawn.clone()

    def read(self) -> tuple[Indices, Indices]:
        """The tokens of the draws, and whether each may end a text, as soon as they are there."""
        if self._event is not None:
            self._event.synchronize()
        tokens, may_end = self._host[:, : len(self.draws)].numpy()
        return tokens, may_end


class _Step:
    """A step of so many rows, on buffers of its own; a CUDA graph where that can be captured."""

    def __init__(self, slots: Slots, rows: int, groups: int) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self.sizes = [5 * rows, rows, rows * slots.columns, groups * TOGETHER]
        self.state = torch.zeros(sum(self.sizes), dtype=torch.int64, device=slots.device)
        of_rows, self._of_draws, table, members = torch.split(self.state, self.sizes)
        slot, start, length, written, self._draw_of_row = of_rows.view(5, rows)
        self._held = Rows(slot, start, length, written, members.view(groups, TOGETHER))
        self._table = table.view(rows, slots.columns)
        self.drawn = torch.zeros(2, rows, dtype=torch.int64, device=slots.device)

    def _work(self, slots: Slots) -> None:
        """Lets the model read each row's newest token, and draws the next ones, which the following step reads."""
        written = self._held.written
        logits = slots.read(slots.tokens[self._draw_of_row], self._held)
        steps = written[self._table[:, 0].clamp(min=0)] + 1
        slots.draw(logits, slots.drawing.normalise(logits), self._table, self._of_draws, steps, self.drawn)
        written.add_(1).clamp_(max=slots.room - 1)

    def capture(self, slots: Slots) -> None:
        """Captures the step as a graph, while none of its rows has a stream, so that every step is run by it alike."""
        try:
            self._work(slots)  # prepares what must not be prepared in a graph
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, pool=slots.pool):
                self._work(slots)
        except Exception as error:
            first = error.__context__ or error  # the end of a failed capture fails, too
            if is_out_of_memory(first):
                raise torch.OutOfMemoryError(str(first)) from error
            slots.give_up_capture(first)
        else:
            self._graph = graph

    def run(self, slots: Slots) -> None:
        """Makes a step."""
        if self._graph is None:
            self._work(slots)
        else:
            self._graph.replay()


class _Size(NamedTuple):
    """What a batch takes."""

    tokens: int = 0  # of its distinct prompts
    longest: int = 0  # of them
    draws: int = 0
    streams: int = 0


class Slots:
    """Buffers of fixed size for the streams that are decoded together, and the steps over them.

    A draw takes as many slots as it has streams. Draws are named by their places in the batch that was loaded last.
    """

    def __init__(
        self, model: Any, options: DecodingOptions, *, unreachable: torch.Tensor, may_end: torch.Tensor
    ) -> None:
        """`model` is a `runner.CausalModel`; ids that are never drawn, and a mask of tokens that may end a text."""
        self._model, self._options, self._unreachable, self._may_end = model, options, unreachable, may_end
        self.device, self.room = model.device, max(1, options.max_new_tokens - 1)
        self.captures = self.device.type == "cuda"
        self.columns, self._steps = 1, dict[tuple[int, int], _Step]()
        self.pool: Any = None  # of the memory that all steps share
        self.cache: SlotCache | None = None
        self._made: tuple[int, ...] | None = None  # what the buffers were made for
        self.room_for_prompts, self._largest = PromptRoom(), _Size()

    def prepare(self, batches: Sequence[Sequence[Draw]]) -> None:
        """Sees to it that the largest of some batches has room, so that nothing must move for another."""
        before = self._largest
        for batch in batches:
            prompts = {prompt for draw in batch for prompt in (*draw.prompts, *draw.scored)}
            size = sum(map(len, prompts)), max(map(len, prompts)), len(batch), sum(draw.streams for draw in batch)
            self._largest = _Size(*map(max, self._largest, size))
        if self._largest != before:
            self.release()
            self.room_for_prompts.least = self._largest.tokens

    def load(self, states: PackedStates, draws: Sequence[Draw], most_rows: int) -> None:
        """Begins a batch; buffers, and what was captured over them, are kept where they suffice."""
        self._states, (streams, prompts) = states, prompt_table(draws, states)
        self._streams, self._prompts = streams, prompts
        # What is drawn in half precision depends on the rows of a step, so these follow from this batch alone.
        self._at_once = max(int(streams.max()), min(most_rows, int(streams.sum())))
        self._most = most_rows = max(self._at_once, min(most_rows, self._largest.streams))
        (count, columns), size = prompts.shape, max(self._largest.draws, len(prompts)) + 1  # the last draw is none
        made = (states.layers[0][0].data_ptr(), most_rows, columns, size, max(states.width, self._largest.longest))
        if self._made != made:
            self._steps.clear()
            self.cache = None
            self.columns, self._made, steps = columns, made, self._options.max_new_tokens
            self.cache = SlotCache(states, most_rows + 1, self.room, made[-1])  # the last slot is no stream's
            self.tokens = torch.zeros(size, dtype=torch.int64, device=self.device)
            self._uniforms = torch.zeros(size, steps, dtype=torch.float64, device=self.device)
            self._log_probs = states.logits.new_zeros(size, columns, steps)
            self.drawing = TokenDrawing(self._options, self._unreachable, states.logits.dtype)
            if self.device.type == "cuda":
                self.pool = torch.cuda.graph_pool_handle()
        self._host_starts, self._host_lengths = states.starts.cpu().numpy(), states.lengths.cpu().numpy()
        self._behind_prompts = self.drawing.normalise(states.logits)
        self._free = list(range(self._at_once - 1, -1, -1))
        self._slots_of = np.full(prompts.shape, -1, dtype=np.int64)
        self._launched = np.zeros(count, dtype=np.int64)  # tokens that are drawn or being drawn
        self._attempts = np.zeros(count, dtype=np.int64)
        self._going = np.zeros(0, dtype=np.int64)
        self._step: _Step | None = None  # whose rows are those of the draws that go on

    def release(self) -> None:
        """Gives the memory back."""
        self._steps.clear()
        self.cache, self._made, self._step = None, None, None
        self.room_for_prompts.layers = []

    def give_up_capture(self, error: BaseException) -> None:
        """Goes on with single launches, and says so once."""
        self.captures = False
        logger.warning("a decoding step cannot be captured as a CUDA graph, which is slower: %s", first_line(error))

    @property
    def free(self) -> int:
        """Streams that there is room for."""
        return len(self._free)

    @property
    def has_room(self) -> bool:
        """Whether so many slots are free that it is worth beginning draws."""
        return self.is_empty or len(self._free) >= max(1, self._at_once * _REFILL)

    @property
    def is_empty(self) -> bool:
        """Whether no draw has tokens to come."""
        return not len(self._going)

    def begin(self, draws: Indices, uniforms: torch.Tensor) -> Flight:
        """Begins tries of draws, with random numbers of shape (draws, tokens), and draws their first tokens."""
        for draw in draws.tolist():
            taken = [self._free.pop() for _ in range(self._streams[draw])]
            self._slots_of[draw, : len(taken)] = taken
        self._launched[draws] = 1
        of_draws = on_device(draws, self.device)
        self._uniforms[of_draws] = on_device(uniforms, self.device)
        drawn = torch.zeros(2, len(draws), dtype=torch.int64, device=self.device)
        rows, steps = on_device(self._prompts[draws], self.device), torch.zeros_like(of_draws)
        self.draw(self._states.logits, self._behind_prompts, rows, of_draws, steps, drawn)
        self._go_on(np.concatenate((self._going, draws)))
        flight = Flight(draws, self._attempts[draws], drawn)
        self._leave(draws[self._launched[draws] == self._options.max_new_tokens])
        return flight

    def draw(
        self,
        logits: torch.Tensor,
        normalisers: torch.Tensor,
        rows: torch.Tensor,
        draws: torch.Tensor,
        steps: torch.Tensor,
        drawn: torch.Tensor,
    ) -> None:
        """Draws token number `steps` of draws, shape (draws,), and keeps it, whether it may end a text, and its scores.

        `rows` are those of the logits for each draw's streams, as in `TokenDrawing.draw`.
        """
        tokens, log_probs = self.drawing.draw(logits, normalisers, rows, self._uniforms[draws, steps])
        self._log_probs[draws, :, steps] = log_probs
        self.tokens[draws] = tokens
        drawn[0, : len(tokens)], drawn[1, : len(tokens)] = tokens, self._may_end[tokens]

    def read(self, tokens: torch.Tensor, rows: Rows) -> torch.Tensor:
        """What the model predicts after one more token of each row, shape (rows, vocabulary)."""
        if self.cache is None:
            raise RuntimeError("no batch is loaded")
        self.cache.arrange(rows)
        logits: torch.Tensor = self._model.read_slots(tokens, self.cache)
        return logits

    def step(self) -> Flight:
        """Draws the next token of all draws that go on."""
        step = self._step = self._step or self._arrange()
        draws = self._going
        step.run(self)
        flight = Flight(draws, self._attempts[draws], step.drawn)
        self._launched[draws] += 1
        self._leave(draws[self._launched[draws] == self._options.max_new_tokens])
        return flight

    def is_current(self, flight: Flight) -> npt.NDArray[np.bool_]:
        """Which of a flight's tries have not ended since, shape (draws,)."""
        current: npt.NDArray[np.bool_] = self._attempts[flight.draws] == flight.attempts
        return current

    def end(self, draws: Indices) -> None:
        """Ends tries of draws: what is still being drawn for them counts no more."""
        self._attempts[draws] += 1
        self._leave(draws)

    def _leave(self, draws: Indices) -> None:
        """Gives the slots of draws to others, unless they have left already."""
        leaving = draws[self._slots_of[draws, 0] >= 0]
        if len(leaving):
            slots = self._slots_of[leaving]
            self._free += slots[slots >= 0].tolist()
            self._slots_of[leaving] = -1
            self._go_on(self._going[~np.isin(self._going, leaving)])

    def _go_on(self, draws: Indices) -> None:
        self._going, self._step = draws, None

    def _arrange(self) -> _Step:
        """Chooses a step with room for the draws that go on and tells the device what its rows are about."""
        draws = self._going
        counts = self._streams[draws]
        rows, total = _round(self._at_once), int(counts.sum())
        while rows // 2 >= max(total, _FEWEST):
            rows //= 2
        slots, launched, columns = self._slots_of[draws], self._launched[draws], np.arange(self.columns)
        is_there = columns < counts[:, None]
        prompt = self._prompts[draws][is_there]
        members = groups_by_prompt(prompt)
        groups = rows if len(members) > rows // 2 else rows // 2
        step = self._steps.get((rows, groups)) or self._made_step(rows, groups)
        state, of_rows, of_draws, table, of_groups = self._nothing(step)
        of_rows[0, :total], of_rows[1, :total] = slots[is_there], self._host_starts[prompt]
        of_rows[2, :total], of_rows[3, :total] = self._host_lengths[prompt], np.repeat(launched - 1, counts)
        of_rows[4, :total], of_draws[: len(draws)] = np.repeat(draws, counts), draws
        table[: len(draws)][is_there] = np.arange(total)
        of_groups[: len(members)] = members
        step.state.copy_(on_device(state, self.device))
        return step

    def _made_step(self, rows: int, groups: int) -> _Step:
        step = _Step(self, rows, groups)
        step.state.copy_(on_device(self._nothing(step)[0], self.device))
        if self.captures:
            step.capture(self)
        self._steps[rows, groups] = step
        return step

    def _nothing(self, step: _Step) -> tuple[Indices, Indices, Indices, Indices, Indices]:
        """The state of a step whose rows have no streams, and views of its parts."""
        state = np.full(sum(step.sizes), -1, dtype=np.int64)
        of_rows, of_draws, table, of_groups = np.split(state, np.cumsum(step.sizes)[:-1])
        of_rows.reshape(5, -1)[:] = np.array([self._most, 0, 0, 0, len(self.tokens) - 1])[:, None]
        of_draws[:] = len(self.tokens) - 1
        return state, of_rows.reshape(5, -1), of_draws, table.reshape(-1, self.columns), of_groups.reshape(-1, TOGETHER)

    def log_probs(self, lengths: Sequence[int]) -> list[list[float]]:
        """Scores of the last tries, so many tokens long, for each stream."""
        return text_scores(self._log_probs[: len(lengths)], lengths, self._streams)


def _round(rows: int) -> int:
    """The next larger power of two, or one and a half times one, so that most batches take the same steps."""
    power = 1 << (rows - 1).bit_length()
    return power if rows > 3 * power // 4 else 3 * power // 4
