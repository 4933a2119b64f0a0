"""The rows of the running batch on the device: all that a step reads and writes, at fixed places.

Nothing here waits for the device, and every step of one size runs the same operations on the same
memory: so a step can be captured as a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worker.speech.decoder import Cache, Decoder
from worker.speech.graphs import Graphs
from worker.speech.plan import Head
from worker.speech.sampling import Cuts, Sampling, cuts, draw, row_uniforms

Places = slice | list[int]
MOST_CAPTURED = 64  # top_k up to which captured steps serve


class RowState:
    """State of `slots` rows of at most `positions` tokens, one tensor a quantity."""

    def __init__(self, lm: Decoder, slots: int, positions: int) -> None:
        self._lm = lm
        self._positions = positions
        device = lm.device
        self.cache: Cache = lm.new_cache(slots, positions)
        self.ids = torch.zeros(slots, dtype=torch.long, device=device)  # the last token
        self.at = torch.zeros(slots, dtype=torch.long, device=device)  # its position
        self.drawn = torch.zeros(slots, dtype=torch.long, device=device)  # tokens of the answer
        self.end_from = torch.zeros(slots, dtype=torch.long, device=device)
        self.uniforms = torch.zeros(slots, positions, dtype=torch.float64, device=device)
        self.temperature = torch.ones(slots, 1, device=device)
        self.top_k = torch.ones(slots, 1, dtype=torch.long, device=device)
        self.top_p = torch.ones(slots, 1, device=device)
        self._most = [1] * slots  # top_k again, where the host can read it
        self._graphs: Graphs | None = None
        self._captured: Head | None = None  # the head that the graphs draw from

    @property
    def _all(self) -> tuple[Tensor, ...]:
        return (
            self.ids,
            self.at,
            self.drawn,
            self.end_from,
            self.uniforms,
            self.temperature,
            self.top_k,
            self.top_p,
        )

    def set(
        self, place: int, name: str, limit: int, fed: int, drawn: int, end_from: int, how: Sampling
    ) -> None:
        """Begin a row of which `fed` tokens are in the cache, `drawn` of them its answer's."""
        temperature, top_k, top_p = cuts(how, 1 << 30)
        self.at[place] = fed - 1
        self.drawn[place] = drawn
        self.end_from[place] = max(end_from, how.min_tokens)
        self.uniforms[place, :limit] = row_uniforms(how.seed, name, limit).to(self.uniforms.device)
        self.temperature[place] = temperature
        self.top_k[place] = top_k
        self.top_p[place] = top_p
        self._most[place] = top_k

    def move(self, source: int, target: int, length: int) -> None:
        """Make place `target` what `source` is; `length` of its positions are in the cache."""
        for tensor in self._all:
            tensor[target] = tensor[source]
        self._most[target] = self._most[source]
        self.cache.copy(source, target, length)

    def capture(self, head: Head) -> None:
        """Capture the steps that draw from this head; there must be no rows yet."""
        if self._lm.device.type == "cuda":
            self._graphs = Graphs(
                lambda count, length: self._turn(count, length, head, MOST_CAPTURED),
                len(self._most),
                self._positions,
            )
            self._captured = head
            for tensor in (self.ids, self.at, self.drawn):
                tensor.zero_()

    def turn(self, count: int, length: int, head: Head) -> Tensor:
        """Feed the last tokens of the first `count` rows and draw their next ones: ids [count]."""
        most = max(self._most[:count])
        if self._graphs is not None and head is self._captured and most <= MOST_CAPTURED:
            tokens = self._graphs.replay(count, length)
            if tokens is not None:
                return tokens
        return self._turn(count, length, head, most)

    def _turn(self, count: int, length: int, head: Head, most: int) -> Tensor:
        return self.draw(self.advance(count, length), slice(0, count), head, most)

    def advance(self, count: int, length: int) -> Tensor:
        """Feed the last tokens of the first `count` rows: hidden states [count, D]."""
        rows = self.cache.rows(0, count)
        return self._lm.step(self.ids[:count], self.at[:count], rows, length)

    def draw(self, hidden: Tensor, places: Places, head: Head, most: int | None = None) -> Tensor:
        """Draw the next token of the rows at `places` from their states [n, D]: ids [n].

        `most` is at least each row's top_k; without it, the host's own record says it.
        """
        logits = head.logits(hidden)  # [n, tokens of the head]
        drawn = self.drawn[places]
        if head.end is not None:
            early = drawn < self.end_from[places]
            logits[:, head.end] = logits[:, head.end].masked_fill(early, float("-inf"))
        if most is None:
            found = self._most[places] if isinstance(places, slice) else [
                self._most[place] for place in places
            ]  # fmt: skip
            most = max(found)
        how = Cuts(self.temperature[places], self.top_k[places], self.top_p[places], most)
        uniform = self.uniforms[places].gather(1, drawn[:, None])[:, 0]
        tokens = head.ids[draw(logits, how, uniform)]
        self.ids[places] = tokens
        # Rows past the batch run along in a captured step: they stay where there is room.
        last = self._positions - 1
        self.at[places] = (self.at[places] + 1).clamp(max=last)
        self.drawn[places] = (drawn + 1).clamp(max=last)
        return tokens
