"""The language model's weights in 8 bits, as native/lm.c reads them.

They are read as they were packed when the model was prepared; where they were not, they are packed
from the published file. Neither needs torch, so that it can be done while torch is imported.
"""

from __future__ import annotations

import os
from ctypes import c_void_p
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from worker import cpu_info
from worker.errors import SetupError
from worker.speech.checkpoint import WEIGHTS, Place, find_tensors
from worker.speech.lm.config import LMConfig
from worker.speech.native.build import cores
from worker.speech.native.lm import BLOCK, GROUP, HEAD_DIM_MAX, KINDS, LmKernel

PACKED = "int8.safetensors"  # beside the other weights, where the model was prepared
# What is not in 8 bits: of each of these that there is, the rows that occur are read.
ROWS = ("model.embed_tokens.weight", "lm_head.weight")
LARGE_PAGE = 1 << 21  # bytes


class Arena:
    """One stretch of memory for some matrices, one after the other as they are read.

    Large pages, where the system has them, then hold all of it, and what the processor fetches
    ahead of a matrix's end is the next one.
    """

    def __init__(self, size: int) -> None:
        # numpy asks for large pages.
        memory = np.empty(size + LARGE_PAGE, np.uint8)
        start = -memory.ctypes.data % LARGE_PAGE
        self._free = memory[start : start + size]

    def take(self, size: int) -> NDArray[np.uint8]:
        """Give the next bytes; all sizes are multiples of a cache line."""
        taken, self._free = self._free[:size], self._free[size:]
        return taken


class Matrix:
    """A matrix [outputs, inputs] in the kernel's own layout."""

    def __init__(
        self, kernel: LmKernel, outputs: int, inputs: int, arena: Arena | None = None
    ) -> None:
        self.outputs, self.inputs = outputs, inputs
        size = kernel.packed_size(outputs, inputs)
        self.bytes = (arena or Arena(size)).take(size)

    def pack(
        self,
        kernel: LmKernel,
        source: BinaryIO | c_void_p,
        place: Place,
        first: int = 0,
        parts: int | None = None,
        step: int = 0,
    ) -> None:
        """Quantise weights [n, inputs], in memory or in a file, into blocks of 16 outputs.

        From block `first` on; where `step` is given, `parts` blocks at a time, each time `step`
        blocks further on. Raises OSError where the file ends too soon.
        """
        memory, file = (source, -1) if isinstance(source, c_void_p) else (None, source.fileno())
        count = place.shape[0]
        failed = kernel.library.lm_pack(
            kernel.pool,
            *(memory, file),
            *(place.offset, KINDS[place.dtype]),
            *(count, self.inputs, self.outputs),
            *(first, parts or count // BLOCK, step),
            self.address,
        )
        if failed:
            raise OSError(failed, os.strerror(failed))

    @property
    def address(self) -> int:
        """The address of the bytes."""
        return int(self.bytes.ctypes.data)


MATRICES = ("qkv", "out", "gate_up", "down")  # of a layer, in the order of their use
VECTORS = ("qkv_bias", "attention_norm", "mlp_norm")


@dataclass(frozen=True)
class LayerWeights:
    """One layer's weights, named as in native/lm.c."""

    qkv: Matrix
    out: Matrix
    gate_up: Matrix
    down: Matrix
    qkv_bias: NDArray[np.float32]
    attention_norm: NDArray[np.float32]
    mlp_norm: NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """The weights of all layers, and of the norm behind them."""

    layers: tuple[LayerWeights, ...]
    norm: NDArray[np.float32]

    @classmethod
    def read(cls, folder: Path, config: LMConfig, kernel: LmKernel) -> Weights:
        """Read an LLM folder: what lies packed in it, else the weights, which are packed.

        Raises SetupError for one that does not fit.
        """
        path = folder / PACKED
        packed = path.is_file()
        path = path if packed else folder / WEIGHTS
        places = find_tensors(path)
        try:
            with path.open("rb") as file:
                arena = Arena(config.num_hidden_layers * _layer_size(config, kernel))
                reader = (_PackedReader if packed else _Reader)(file, places, config, kernel, arena)
                layers = tuple(reader.layer(i) for i in range(config.num_hidden_layers))
                return cls(layers, reader.vector(reader.last_norm, config.hidden_size))
        except KeyError as error:
            raise SetupError(f"LLM/{path.name} does not fit config.json: {error}") from None
        except OSError as error:
            raise SetupError(f"LLM/{path.name} cannot be read: {error}") from error

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """All of them, as they lie in a file named PACKED."""
        named: dict[str, NDArray[Any]] = {_PackedReader.last_norm: self.norm}
        for index, layer in enumerate(self.layers):
            named |= {_packed_name(index, what): getattr(layer, what).bytes for what in MATRICES}
            named |= {_packed_name(index, what): getattr(layer, what) for what in VECTORS}
        return named


@dataclass(frozen=True)
class _Reader:
    """Reads the tensors of one file. KeyError says which of them is missing or of another shape."""

    file: BufferedReader
    places: dict[str, Place]
    config: LMConfig
    kernel: LmKernel
    arena: Arena
    last_norm: ClassVar[str] = "model.norm.weight"

    def place(self, name: str, *shape: int) -> Place:
        place = self.places[name]
        if place.shape != shape:
            raise KeyError(f"{name} is {place.shape}, not {shape}")
        if place.dtype not in KINDS:
            raise KeyError(f"{name} is of type {place.dtype}, not one of {', '.join(KINDS)}")
        return place

    def vector(self, name: str, size: int) -> NDArray[np.float32]:
        place = self.place(name, size)
        self.file.seek(place.offset)
        raw = self.file.read(size * (4 if place.dtype == "F32" else 2))
        if place.dtype == "BF16":
            return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(raw, "<f4" if place.dtype == "F32" else "<f2").astype(np.float32)

    def layer(self, index: int) -> LayerWeights:
        c, name, source = self.config, f"model.layers.{index}.", self.file
        width = c.num_key_value_heads * c.head_dim
        qkv, out, gate_up, down = (Matrix(self.kernel, *shape, self.arena) for shape in _shapes(c))
        first, biases = 0, []
        for part, outputs in (("q", c.hidden_size), ("k", width), ("v", width)):
            part_name = f"{name}self_attn.{part}_proj."
            place = self.place(part_name + "weight", outputs, c.hidden_size)
            qkv.pack(self.kernel, source, place, first)
            biases.append(self.vector(part_name + "bias", outputs))
            first += outputs // BLOCK
        place = self.place(name + "self_attn.o_proj.weight", c.hidden_size, c.hidden_size)
        out.pack(self.kernel, source, place)
        for which, part in enumerate(("gate", "up")):
            place = self.place(f"{name}mlp.{part}_proj.weight", c.intermediate_size, c.hidden_size)
            gate_up.pack(self.kernel, source, place, first=2 * which, parts=2, step=4)
        place = self.place(name + "mlp.down_proj.weight", c.hidden_size, c.intermediate_size)
        down.pack(self.kernel, source, place)
        return LayerWeights(
            qkv,
            out,
            gate_up,
            down,
            np.concatenate(biases),
            self.vector(name + "input_layernorm.weight", c.hidden_size),
            self.vector(name + "post_attention_layernorm.weight", c.hidden_size),
        )


class _PackedReader(_Reader):
    """Reads a file of tensors that are packed already."""

    last_norm = "norm"

    def layer(self, index: int) -> LayerWeights:
        c = self.config
        width = c.num_key_value_heads * c.head_dim
        # Memory is taken in the order of use, whatever the file's.
        qkv, out, gate_up, down = (
            self._matrix(_packed_name(index, what), *shape)
            for what, shape in zip(MATRICES, _shapes(c), strict=True)
        )
        qkv_bias, attention_norm, mlp_norm = (
            self.vector(_packed_name(index, what), size)
            for what, size in zip(
                VECTORS, (c.hidden_size + 2 * width, c.hidden_size, c.hidden_size), strict=True
            )
        )
        return LayerWeights(qkv, out, gate_up, down, qkv_bias, attention_norm, mlp_norm)

    def _matrix(self, name: str, outputs: int, inputs: int) -> Matrix:
        matrix = Matrix(self.kernel, outputs, inputs, self.arena)
        place = self.places[name]
        if place.shape != matrix.bytes.shape:
            raise KeyError(f"{name} is {place.shape}, not {matrix.bytes.shape}")
        self.file.seek(place.offset)
        if self.file.readinto(matrix.bytes.data) != matrix.bytes.size:
            raise OSError(f"{name} is cut short")
        return matrix


def _packed_name(layer: int, what: str) -> str:
    return f"layers.{layer:02}.{what}"  # so that the file has them in the order of their use


def _shapes(c: LMConfig) -> tuple[tuple[int, int], ...]:
    """Outputs and inputs of a layer's matrices, in the order of their use."""
    width = c.num_key_value_heads * c.head_dim
    return (
        (c.hidden_size + 2 * width, c.hidden_size),
        (c.hidden_size, c.hidden_size),
        (2 * c.intermediate_size, c.hidden_size),
        (c.hidden_size, c.intermediate_size),
    )


def _layer_size(config: LMConfig, kernel: LmKernel) -> int:
    return sum(kernel.packed_size(*shape) for shape in _shapes(config))


def why_unsupported(config: LMConfig) -> str | None:
    """Why the kernel cannot run a model of these sizes; None when it can."""
    if config.head_dim % GROUP or config.head_dim > HEAD_DIM_MAX:
        return f"its attention heads have {config.head_dim} channels"
    if config.hidden_size % GROUP or config.intermediate_size % GROUP:
        return (
            f"its widths {config.hidden_size} and {config.intermediate_size} are not both "
            f"multiples of {GROUP}"
        )
    return None


def is_wanted(folder: Path, dtype: str) -> bool:
    """Whether an engine of `dtype` will want an LLM folder's weights in 8 bits of a CPU.

    Not where there is a GPU, or where this machine or the model's sizes are none of the kernel's.
    """
    lacking = {*LmKernel.interface.extensions} - cpu_info.flags()
    if dtype not in {"auto", "int8"} or cpu_info.GPU.exists() or lacking:
        return False
    return why_unsupported(LMConfig.read(folder / "config.json")) is None


def read_ahead(folder: Path, dtype: str) -> Weights | None:
    """Read the weights of an LLM folder, where an engine of `dtype` will want them.

    For a thread beside torch's import: it uses all cores but one. None where they are not wanted,
    or the kernel cannot be had. Raises SetupError as `Weights.read`.
    """
    if not is_wanted(folder, dtype):
        return None
    kernel = LmKernel.open(max(1, cores() - 1))
    config = LMConfig.read(folder / "config.json")
    return None if kernel is None else Weights.read(folder, config, kernel)
