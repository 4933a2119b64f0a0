"""The rows of the running batch on the device: all that a step reads and writes, at fixed places.

Nothing here waits for the device, and every step of one size runs the same operations on the same
memory: so a step can be captured as a CUDA graph.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from worker.logs import event
from worker.speech.batch.cuda_graphs import LENGTHS, SIZES, CudaGraphs, up_to
from worker.speech.batch.output_head import OutputHead
from worker.speech.batch.sampling import ALL, BatchSampling, Sampling, draw, row_uniforms
from worker.speech.device import on_device, send
from worker.speech.device_errors import short_of_memory
from worker.speech.lm.interface import Cache, Decoder

Places = slice | list[int]
NARROW = 64
WIDTHS = (NARROW, 1024, ALL)
NOTHING = -1  # in place of a token, where the logits are no numbers


def width(how: Sampling, widths: Sequence[int] = WIDTHS) -> int:
    """How many candidates a row's draw looks at: one of a batch's widths, by its own top_k alone.

    Rows of one width are drawn together, and a row's draw is computed alike whatever its
    neighbours' top_k is.
    """
    _temperature, top_k, _top_p = how.without_exceptions()
    return next(width for width in widths if top_k <= width)


class DeviceBatch:
    """State of `slots` rows of at most `positions` tokens, one tensor a quantity."""

    widths: Sequence[int] = WIDTHS  # of draws; the first one's are captured

    def __init__(self, lm: Decoder, slots: int, positions: int) -> None:
        self._lm = lm
        self.positions = positions
        device = lm.device
        self.cache: Cache = lm.new_cache(slots, positions)
        # A column for each row, so that it is begun and moved in one piece.
        self._state = torch.zeros(6, slots, dtype=torch.long, device=device)
        self.ids = self._state[0]  # the last token
        self.at = self._state[1]  # its position
        self.drawn = self._state[2]  # tokens of the answer
        self.end_from = self._state[3]
        self.top_k = self._state[4][:, None]
        floats = self._state[5].view(torch.float32).view(slots, 2)
        self.temperature, self.top_p = floats[:, :1], floats[:, 1:]
        for tensor in (self.top_k, self.temperature, self.top_p):
            tensor.fill_(1)
        self.uniforms = torch.zeros(slots, positions, dtype=torch.float64, device=device)
        self._most = [self.widths[0]] * slots  # the draws' widths
        self._graphs: CudaGraphs | None = None
        self._captured: OutputHead | None = None  # the head that the graphs draw from
        # What the graphs alone use: whose draw counts, and the states that it starts from.
        self._speaking = torch.zeros(slots, dtype=torch.bool, device=device)
        self._speaks = [False] * slots  # the same, where the host can read it
        self._told: tuple[int, Collection[int]] = 0, ()  # what the last step was asked for
        self._tokens: Tensor | None = None  # that it drew
        self._hidden: Tensor | None = None  # [slots, D]

    def set(
        self,
        place: int,
        name: str,
        limit: int,
        fed: int,
        drawn: int,
        end_from: int,
        how: Sampling,
        last: int = 0,
    ) -> None:
        """Begin a row that has `fed` tokens, `drawn` of them its answer's, the last being `last`.

        They are in the cache and its next token is drawn first; or all but the last are, and it
        advances first.
        """
        temperature, top_k, top_p = how.without_exceptions()
        column = np.empty(6, np.int64)
        column[:5] = last, fed - 1, drawn, max(end_from, how.min_tokens), top_k
        column[5:].view(np.float32)[:] = temperature, top_p
        send(torch.from_numpy(column), self._state[:, place])
        send(row_uniforms(how.seed, name, limit), self.uniforms[place, :limit])
        self._most[place] = width(how, self.widths)

    def move(self, source: int, target: int, length: int) -> None:
        """Make place `target` what `source` is; `length` of its positions are in the cache."""
        self._state[:, target] = self._state[:, source]
        self.uniforms[target] = self.uniforms[source]
        self._most[target] = self._most[source]
        self.cache.copy(source, target, length)

    def scrub(self) -> None:
        """Leave nothing of a row whose states were no numbers, wherever it stands or stood."""
        self.cache.scrub()

    def capture(self, head: OutputHead) -> None:
        """Capture the steps, and the draw from this head; there must be no rows yet.

        Where that cannot be, steps run as they are written; but raises what says that the memory
        was short.
        """
        if self._lm.device.type != "cuda":
            return
        states = self._feed(1, 1)
        self._hidden = states.new_zeros(len(self._most), states.shape[1])
        try:
            self._graphs = self._graphs_of(head)
        except RuntimeError as error:
            # What torch says of the capture's end stands before what broke it.
            for cause in (error, error.__context__):
                if cause is not None and short_of_memory(cause):
                    raise cause from None
            event(logging.ERROR, "steps run uncaptured", error=str(error))
        else:
            self._captured = head
        for tensor in (self.ids, self.at, self.drawn):
            tensor.zero_()

    def _graphs_of(self, head: OutputHead) -> CudaGraphs:
        return CudaGraphs(
            self._advance,
            lambda count: self._draw_speaking(count, head),
            up_to(SIZES, len(self._most)),
            up_to(LENGTHS if self._lm.masked else (), self.positions),
        )

    # Steps

    def draws_captured(self, head: OutputHead, most: int) -> bool:
        """Whether captured steps draw from this head, at this width."""
        return self._graphs is not None and head is self._captured and most == self.widths[0]

    def advance(self, count: int, length: int, speaking: Collection[int] = ()) -> Tensor:
        """Feed the last tokens of the first `count` rows: hidden states [count, D].

        `length` is more than each one's position. The states last until the next call. Of rows at
        the places `speaking`, whose draws are captured, the next tokens are drawn: `captured_draw`.
        """
        if self._graphs is None or self._hidden is None:
            return self._feed(count, length)
        self._tell(count, speaking)
        self._tokens = self._graphs.step(count, length)
        return self._hidden[:count]

    @property
    def captured_draw(self) -> Tensor:
        """The ids [count] that `advance` drew, to be read where rows speak alone."""
        assert self._tokens is not None  # noqa: S101 - the caller has asked draws_captured
        return self._tokens

    def _tell(self, count: int, places: Collection[int]) -> None:
        """Tell the device which of the first `count` rows speak."""
        if self._told != (count, places):
            self._told, chosen = (count, places), set(places)
            for place in range(count):
                speaks = place in chosen
                if self._speaks[place] != speaks:
                    self._speaks[place] = speaks
                    self._speaking[place] = speaks

    def draw(self, hidden: Tensor, places: Places, head: OutputHead) -> Tensor:
        """Draw the next token of the rows at `places` from their states [n, D]: ids [n]."""
        found = self._most[places] if isinstance(places, slice) else [
            self._most[place] for place in places
        ]  # fmt: skip
        where = places if isinstance(places, slice) else on_device(places, self.ids.device)
        return self._draw(hidden, where, head, max(found))

    def _draw(self, hidden: Tensor, where: slice | Tensor, head: OutputHead, most: int) -> Tensor:
        """Draw as `draw` does; `most` is at least each row's top_k."""
        tokens = self._next(hidden, where, head, most)
        self.ids[where] = tokens.clamp(min=0)
        last = self.positions - 1
        self.at[where] = (self.at[where] + 1).clamp(max=last)
        self.drawn[where] = (self.drawn[where] + 1).clamp(max=last)
        return tokens

    def _feed(self, count: int, length: int) -> Tensor:
        rows = self.cache.rows(0, count)
        return self._lm.step(self.ids[:count], self.at[:count], rows, length)

    def _advance(self, count: int, length: int) -> None:
        assert self._hidden is not None  # noqa: S101 - made before anything is captured
        self._hidden[:count] = self._feed(count, length)

    def _draw_speaking(self, count: int, head: OutputHead) -> Tensor:
        """Draw as `draw` does for the first `count` rows, and leave those that do not speak."""
        assert self._hidden is not None  # noqa: S101
        tokens = self._next(self._hidden[:count], slice(0, count), head, NARROW)
        speaking = self._speaking[:count]
        ids, at, drawn = self.ids[:count], self.at[:count], self.drawn[:count]
        ids.copy_(torch.where(speaking, tokens.clamp(min=0), ids))
        # Rows past the batch run along: they stay where there is room.
        last = self.positions - 1
        at.add_(speaking).clamp_(max=last)
        drawn.add_(speaking).clamp_(max=last)
        return tokens

    def _next(self, hidden: Tensor, places: slice | Tensor, head: OutputHead, most: int) -> Tensor:
        """The next tokens [n] from states [n, D]; `most` is at least each one's top_k."""
        logits = head.logits(hidden)  # [n, tokens of the head]
        drawn = self.drawn[places]
        if head.end is not None:
            early = drawn < self.end_from[places]
            logits[:, head.end] = logits[:, head.end].masked_fill(early, float("-inf"))
        how = BatchSampling(self.temperature[places], self.top_k[places], self.top_p[places], most)
        uniform = self.uniforms[places].gather(1, drawn[:, None])[:, 0]
        drawn_at = draw(logits, how, uniform)
        return torch.where(drawn_at < 0, NOTHING, head.ids[drawn_at.clamp(min=0)])
