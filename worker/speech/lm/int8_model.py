"""The language model in 8-bit integers on a CPU: a Decoder whose steps are native/lm.c's.

A CPU's steps wait for memory, so weights of half the size are twice the speed; and eight rows are
multiplied while one read of the weights lasts. A row's numbers never depend on its neighbours.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.errors import SetupError
from worker.model_files.tensors import map_tensors
from worker.speech.checkpoint import WEIGHTS, Place
from worker.speech.lm.config import LMConfig
from worker.speech.lm.int8_weights import ROWS, LayerWeights, Matrix, Weights
from worker.speech.lm.interface import WholeRows
from worker.speech.lm.rotary import rotary
from worker.speech.native.lm import BLOCK, Layer, LmKernel, Sizes

_KINDS = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


class Packed(Matrix):
    """A matrix [outputs, inputs] that multiplies torch's tensors."""

    def __init__(self, kernel: LmKernel, outputs: int, inputs: int) -> None:
        super().__init__(kernel, outputs, inputs)
        self._kernel = kernel

    def fill(self, weight: Tensor) -> None:
        """Quantise weight [outputs, inputs]."""
        kind = _KINDS.get(weight.dtype)
        weight = (weight if kind else weight.float()).contiguous()
        place = Place(kind or "F32", tuple(weight.shape), 0)
        self.pack(self._kernel, ctypes.c_void_p(weight.data_ptr()), place)

    def __call__(self, x: Tensor) -> Tensor:
        """x float32 [n, inputs] -> float32 [n, outputs]."""
        x = x.contiguous()
        y = torch.empty(len(x), self.outputs)
        failed = self._kernel.library.lm_linear(
            self._kernel.pool,
            self.address,
            *(self.outputs, self.inputs, len(x)),
            *(x.data_ptr(), y.data_ptr()),
        )
        if failed:
            raise torch.OutOfMemoryError("no memory for the activations of a product")
        return y


class Int8Cache(WholeRows):
    """Keys and values of some rows, as float16: [rows, layers, 2, kv heads, positions * head_dim].

    The memory of a row is touched, and so taken, only as far as its sequence goes.
    """

    def __init__(self, tensor: Tensor, first: int, head_dim: int) -> None:
        self.tensor = tensor
        self.first = first  # the row that a call's row 0 is
        self._head_dim = head_dim

    @property
    def positions(self) -> int:
        """How many positions a row has room for."""
        return self.tensor.shape[-1] // self._head_dim

    def rows(self, first: int, _count: int) -> Int8Cache:
        """View the rows from `first` on."""
        return Int8Cache(self.tensor, self.first + first, self._head_dim)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of row `source` to row `target`."""
        used = -(-length // BLOCK) * BLOCK * self._head_dim
        self.tensor[target, ..., :used] = self.tensor[source, ..., :used]

    def scrub(self) -> None:
        """Replace each NaN by zero; memory that no row has touched stays untouched."""
        for part in self.tensor.view(torch.float16).flatten(0, 1):
            part[part.isnan()] = 0


class Int8LanguageModel:
    """A Qwen2 decoder in 8 bits: float32 hidden states and logits come out."""

    device = torch.device("cpu")
    dtype = torch.float16
    masked = False
    in_parts = True

    def __init__(
        self, config: LMConfig, kernel: LmKernel, weights: Weights, tensors: dict[str, Tensor]
    ) -> None:
        """`tensors` are the file's of ROWS, mapped."""
        self.config = config
        self._kernel = kernel
        self._weights = weights  # what the structures point to
        self._embedding = tensors["model.embed_tokens.weight"]
        # A tied model is saved without its head; one that is there all the same is what it spoke
        # with when it was saved.
        tied = config.tie_word_embeddings and "lm_head.weight" not in tensors
        self._output = self._embedding if tied else tensors["lm_head.weight"]
        for name, tensor in (("the embedding", self._embedding), ("the output", self._output)):
            if tuple(tensor.shape) != (config.vocab_size, config.hidden_size):
                raise KeyError(f"{name} is {tuple(tensor.shape)}")
        self._layers = (Layer * len(weights.layers))(*map(_addresses, weights.layers))
        self._rotary = rotary(config, torch.zeros(0, dtype=torch.long))

    @classmethod
    def load(
        cls, folder: Path, kernel: LmKernel, weights: Weights | None = None
    ) -> Int8LanguageModel:
        """Load a published LLM folder, whose weights may have been read before.

        Raises SetupError for one that does not fit.
        """
        config = LMConfig.read(folder / "config.json")
        weights = weights or Weights.read(folder, config, kernel)
        try:
            return cls(config, kernel, weights, map_tensors(folder / WEIGHTS, ROWS))
        except KeyError as error:
            raise SetupError(f"LLM/{WEIGHTS} does not fit config.json: {error}") from None

    def new_cache(self, rows: int, positions: int) -> Int8Cache:
        """Make a cache for `rows` sequences of at most `positions` tokens."""
        c = self.config
        room = -(-positions // BLOCK) * BLOCK
        shape = (rows, c.num_hidden_layers, 2, c.num_key_value_heads, room * c.head_dim)
        if len(self._rotary[0]) < room:
            self._rotary = rotary(c, torch.arange(room))
        return Int8Cache(torch.from_numpy(_untouched(shape)), 0, c.head_dim)

    def prefill(
        self, parts: Sequence[Sequence[int]], cache: Int8Cache, begins: Sequence[int] = ()
    ) -> Tensor:
        """Run part i of a prompt into row i of the cache, from position begins[i] or 0 on.

        Gives the hidden states [rows, D] after the parts' ends.
        """
        ids = torch.tensor([token for part in parts for token in part])
        lengths = torch.tensor([len(part) for part in parts])
        rows = torch.repeat_interleave(torch.arange(len(parts)), lengths)
        at = torch.cat(
            [
                torch.arange(begin, begin + len(part))
                for part, begin in zip(parts, begins or [0] * len(parts), strict=True)
            ]
        )
        return self._run(ids, rows, at, cache, lengths.cumsum(0) - 1)

    def step(self, ids: Tensor, positions: Tensor, cache: Int8Cache, _length: int) -> Tensor:
        """Run one more token of each row, ids [B] at positions [B]: hidden states [B, D]."""
        each = torch.arange(len(ids))
        return self._run(ids, each, positions, cache, each)

    def head(self, ids: Tensor) -> Int8Head:
        """Cut the output matrix to these tokens [n]."""
        return Int8Head(self._kernel, self._output[ids])

    def _run(
        self, ids: Tensor, rows: Tensor, at: Tensor, cache: Int8Cache, wanted: Tensor
    ) -> Tensor:
        """Run tokens [n] of rows [n] at positions [n]: the hidden states of those wanted [m].

        `wanted` are indices among the n, ascending.
        """
        c = self.config
        sizes = Sizes(
            hidden=c.hidden_size,
            inner=c.intermediate_size,
            layers=c.num_hidden_layers,
            heads=c.num_attention_heads,
            kv_heads=c.num_key_value_heads,
            head_dim=c.head_dim,
            positions=cache.positions,
            eps=c.rms_norm_eps,
        )
        x = F.embedding(ids, self._embedding).float()
        rows, at = rows + cache.first, at.clone()  # which the kernel uses up
        failed = self._kernel.library.lm_forward(
            self._kernel.pool,
            ctypes.byref(sizes),
            self._layers,
            self._weights.norm.ctypes.data,
            *(t.data_ptr() for t in self._rotary),
            *(len(ids), len(wanted)),
            *(t.data_ptr() for t in (wanted, rows, at, cache.tensor, x)),
        )
        if failed:
            raise torch.OutOfMemoryError("no memory for the activations of a step")
        return x[: len(wanted)]


class Int8Head:
    """The output matrix, cut to some tokens."""

    def __init__(self, kernel: LmKernel, weight: Tensor) -> None:
        self._count = len(weight)
        padded = F.pad(weight, (0, 0, 0, -len(weight) % BLOCK))
        self._packed = Packed(kernel, len(padded), padded.shape[1])
        self._packed.fill(padded)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, D] -> logits float32 [B, n]."""
        return self._packed(hidden)[:, : self._count]


def _untouched(shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Make zeros that take memory only where used; torch's and huge pages are taken whole."""
    size = np.dtype(np.int16).itemsize * math.prod(shape)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages does not know them
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.int16).reshape(shape)


def _addresses(layer: LayerWeights) -> Layer:
    """The layer as the kernel reads it; its weights must outlive that."""
    matrices = {name: getattr(layer, name).address for name in ("qkv", "out", "gate_up", "down")}
    return Layer(
        **matrices,
        qkv_bias=layer.qkv_bias.ctypes.data,
        attention_norm=layer.attention_norm.ctypes.data,
        mlp_norm=layer.mlp_norm.ctypes.data,
    )
