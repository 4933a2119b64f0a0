"""Runs a convolutional network over a sequence of any length, in chunks.

What a convolution gives at a place depends on the inputs within its reach, and beyond the
sequence's two ends it sees zeros. So a chunk that holds `context` more positions on each side than
are kept of it gives exactly what the whole sequence would have given, except that a chunk's edge
may only be taken for an end where it is one:

    sequence    |-------------------------------------------|
    chunk               [context|..... kept .....|context]
    first chunk |..... kept .....|context]
    last chunk                      [context|..... kept ....|
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from worker.logs import event
from worker.speech.device import empty_cache
from worker.speech.device_errors import short_of_memory

_Mark = tuple[Tensor | None, int, int]


def context_of(network: nn.Module) -> int:
    """Count the input positions on each side that an output depends on.

    Walks the convolutions from the output to the input. A transposed one makes `stride` outputs
    of each input, so a reach counted in its outputs shrinks by as much.
    """
    reach = 0
    for layer in reversed(list(network.modules())):
        if isinstance(layer, nn.ConvTranspose1d):
            kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
            reach = math.ceil((reach + max(padding, kernel - 1 - padding)) / stride)
        elif isinstance(layer, nn.Conv1d):
            reach += layer.dilation[0] * (layer.kernel_size[0] - 1) // 2
    return reach


def gap_of(network: nn.Module) -> int:
    """Count the positions between two sequences that no layer sees both of, as inputs.

    Each layer must see zeros there.
    """
    gap, rate = 0, 1
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
            reach = math.ceil(max(padding, kernel - 1 - padding) / stride)
            gap, rate = max(gap, math.ceil(reach / rate)), rate * stride
        elif isinstance(layer, nn.Conv1d):
            reach = layer.dilation[0] * (layer.kernel_size[0] - 1) // 2
            gap = max(gap, math.ceil(reach / rate))
    return gap


def cut(network: Callable[[Tensor], Tensor], rate: int) -> Callable[[Tensor, slice], Tensor]:
    """Let a network that maps [1, C, n] to [1, D, rate * n] give what is kept of n."""
    return lambda inputs, kept: network(inputs)[..., rate * kept.start : rate * kept.stop]


class ChunkedNetwork:
    """Feeds a sequence, as it arrives, through a network; gives each output once it is final."""

    def __init__(
        self,
        network: Callable[[Tensor, slice], Tensor],
        rate: int,
        context: int,
        length: int,
        *,
        fixed: bool = False,
    ) -> None:
        """`network` maps [1, C, n] to the outputs [1, D, rate * m] of the slice that is kept of n.

        No chunk is longer than `length`. Where the memory does not suffice for such a chunk, they
        are shorter from then on. With `fixed`, where a sequence is that long, each chunk is just as
        long, the last one too: for kernels that are compiled for a length.
        """
        self._fixed = fixed
        self._network = network
        self._rate = rate
        self._context = context
        self._shortest = 2 * context + 1  # of which one position is kept
        self._length = max(length, self._shortest)
        self._inputs: Tensor | None = None  # the last ones of the sequence, from `_start` on
        self._start = 0
        self._done = 0  # outputs given, in input positions

    def mark(self) -> _Mark:
        """Note the present state, for `go_back`."""
        return self._inputs, self._start, self._done

    def go_back(self, mark: _Mark) -> None:
        """Return to a state that was noted: what was fed since may be fed again."""
        self._inputs, self._start, self._done = mark

    def feed(
        self, inputs: Tensor, *, last: bool = False, ahead: int | None = None, beyond: int = 0
    ) -> list[Tensor]:
        """Take the next inputs [1, C, n]; give the outputs [1, D, rate * m] that are final now.

        With `ahead` outputs are given as if the sequence ended here, though it need not, but for
        those of the last `ahead` inputs. The first `beyond` of these are given all the same, and
        once more by the next call.
        """
        held = inputs if self._inputs is None else torch.cat([self._inputs, inputs], -1)
        available = self._start + held.shape[-1]
        if last:
            final = available
        elif ahead is not None:
            final = available - ahead + beyond
        else:
            final = available - self._context
        ends = last or ahead is not None
        outputs = []
        while self._done < final:
            begin = max(0, self._done - self._context)
            end = min(available, begin + self._length)
            if self._fixed:
                begin = max(0, min(begin, end - self._length))
            stop = final if ends and end == available else end - self._context
            kept = slice(self._done - begin, stop - begin)
            made = self._run(held[..., begin - self._start : end - self._start], kept)
            if made is not None:
                outputs.append(made)
                self._done = stop
        if ahead is not None and not last:
            self._done = min(self._done, max(0, available - ahead))
        start = max(0, self._done - self._context)
        if self._fixed:
            start = max(0, min(start, available - self._length))
        self._inputs = held[..., start - self._start :].clone()
        self._start = start
        return outputs

    def _run(self, chunk: Tensor, kept: slice) -> Tensor | None:
        """The outputs of what is kept; None where memory was short: chunks are shorter from now."""
        try:
            return self._network(chunk, kept)
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error) or self._length == self._shortest:
                raise
            self._length = max(self._length // 2, self._shortest)
            event(logging.WARNING, "audio is made in shorter chunks", tokens=self._length)
        # Only here, past the handler, has the traceback let go of the tensors that were too many.
        empty_cache()
        return None
