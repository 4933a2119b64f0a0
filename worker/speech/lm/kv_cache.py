"""The key and value cache of the language model in torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worker.speech.lm.config import LMConfig
from worker.speech.lm.interface import WholeRows


class KVCache(WholeRows):
    """Keys and values of every layer: [layers, rows, P, kv heads, head_dim] each, all at once.

    Zeros, not garbage: a masked key still meets the softmax's arithmetic, and 0 * NaN is NaN.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys
        self.values = values

    @classmethod
    def empty(cls, config: LMConfig, rows: int, positions: int, like: Tensor) -> KVCache:
        """Make a cache of zeros, of the dtype and on the device of `like`."""
        shape = (
            config.num_hidden_layers,
            rows,
            positions,
            config.num_key_value_heads,
            config.head_dim,
        )
        return cls(zeros_like_rows(shape, like), zeros_like_rows(shape, like))

    @property
    def positions(self) -> int:
        """How many positions a row has room for."""
        return self.keys.shape[2]

    def rows(self, first: int, count: int) -> KVCache:
        """View `count` rows from `first` on, in the same memory."""
        rows = slice(first, first + count)
        return KVCache(self.keys[:, rows], self.values[:, rows])

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of row `source` to row `target`."""
        for part in (self.keys, self.values):
            part[:, target, :length] = part[:, source, :length]

    def scrub(self) -> None:
        """Replace each NaN and each infinity by zero."""
        for layer in (*self.keys, *self.values):
            layer.nan_to_num_(0.0, 0.0, 0.0)


def zeros_like_rows(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Make zeros of like's dtype and device; on a CPU, a page takes memory once it is written."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    words = np.zeros(shape, {2: np.int16, 4: np.int32}[like.element_size()])
    return torch.from_numpy(words).view(like.dtype)
