"""The language model's weights in 8 bits, as native/lm.c reads them.

Packed from the file itself, without torch: so it can be done while torch is being imported.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from worker.errors import SetupError
from worker.speech.checkpoint import Place, find_tensors
from worker.speech.lm.config import LMConfig
from worker.speech.native import build

GROUP, BLOCK = 32, 16  # as in native/lm.c
EXTENSIONS = ("avx512_vnni",)
KINDS = {"F32": 0, "BF16": 1, "F16": 2}  # as in native/lm.c, by the names of safetensors
WEIGHTS = "model.safetensors"
LARGE_PAGE = 1 << 21
GPU = Path("/dev/nvidiactl")


class Kernel(build.Kernel):
    """native/lm.c."""

    @classmethod
    def open(cls, threads: int | None = None) -> Kernel | None:
        """With so many threads, else one for each core; None where this machine cannot run it."""
        kernel = cls.of("lm", EXTENSIONS, threads or cores())
        if kernel is not None:
            kernel.library.lm_packed_size.restype = ctypes.c_int64
        return kernel


class Arena:
    """Memory for some matrices, one after the other as they are read, at one stretch.

    Large pages, where the system has them, then hold all of it, and what the processor fetches
    ahead of a matrix's end is the next one.
    """

    def __init__(self, size: int) -> None:
        # numpy asks for large pages.
        memory = np.empty(size + LARGE_PAGE, np.uint8)
        start = -memory.ctypes.data % LARGE_PAGE
        self._free = memory[start : start + size]

    def take(self, size: int) -> NDArray[np.uint8]:
        """The next bytes; all sizes are multiples of a cache line."""
        taken, self._free = self._free[:size], self._free[size:]
        return taken


class Matrix:
    """A matrix [outputs, inputs] in the kernel's own layout."""

    def __init__(
        self, kernel: Kernel, outputs: int, inputs: int, arena: Arena | None = None
    ) -> None:
        self.outputs, self.inputs = outputs, inputs
        size = packed_size(kernel, outputs, inputs)
        self.bytes = (arena or Arena(size)).take(size)

    def pack(
        self,
        kernel: Kernel,
        source: int | ctypes.c_void_p,
        place: Place,
        first: int = 0,
        parts: int | None = None,
        step: int = 0,
    ) -> None:
        """Quantise weights [n, inputs], in memory or in an open file, into blocks of 16 outputs.

        From block `first` on; where `step` is given, `parts` blocks at a time, each time `step`
        blocks further on. Raises OSError where the file ends too soon.
        """
        in_file = isinstance(source, int)
        count = place.shape[0]
        failed = kernel.library.lm_pack(
            kernel.pool,
            None if in_file else source,
            ctypes.c_int(source if isinstance(source, int) else -1),
            ctypes.c_int64(place.offset),
            ctypes.c_int(KINDS[place.dtype]),
            *map(ctypes.c_int64, (count, self.inputs, self.outputs)),
            *map(ctypes.c_int64, (first, parts or count // BLOCK, step)),
            ctypes.c_void_p(self.bytes.ctypes.data),
        )
        if failed:
            raise OSError(failed, os.strerror(failed))

    @property
    def address(self) -> int:
        """Where the bytes are."""
        return int(self.bytes.ctypes.data)


@dataclass(frozen=True)
class Layer:
    """One layer, as native/lm.c names its parts."""

    qkv: Matrix
    out: Matrix
    gate_up: Matrix
    down: Matrix
    qkv_bias: NDArray[np.float32]
    attention_norm: NDArray[np.float32]
    mlp_norm: NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """All layers."""

    layers: tuple[Layer, ...]
    norm: NDArray[np.float32]

    @classmethod
    def read(cls, folder: Path, config: LMConfig, kernel: Kernel) -> Weights:
        """From a published LLM folder. Raises SetupError for one that does not fit."""
        path = folder / WEIGHTS
        places = find_tensors(path)
        try:
            with path.open("rb") as file:
                arena = Arena(config.num_hidden_layers * _layer_size(config, kernel))
                reader = _Reader(file, places, config, kernel, arena)
                layers = tuple(reader.layer(i) for i in range(config.num_hidden_layers))
                return cls(layers, reader.vector("model.norm.weight", config.hidden_size))
        except KeyError as error:
            raise SetupError(f"LLM/{WEIGHTS} does not fit config.json: {error}") from None
        except OSError as error:
            raise SetupError(f"LLM/{WEIGHTS} cannot be read: {error}") from error


@dataclass(frozen=True)
class _Reader:
    """Reads the tensors of one file. KeyError says which of them is missing or of another shape."""

    file: BinaryIO
    places: dict[str, Place]
    config: LMConfig
    kernel: Kernel
    arena: Arena

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

    def layer(self, index: int) -> Layer:
        c, name, source = self.config, f"model.layers.{index}.", self.file.fileno()
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
        return Layer(
            qkv,
            out,
            gate_up,
            down,
            np.concatenate(biases),
            self.vector(name + "input_layernorm.weight", c.hidden_size),
            self.vector(name + "post_attention_layernorm.weight", c.hidden_size),
        )


def _shapes(c: LMConfig) -> tuple[tuple[int, int], ...]:
    """Outputs and inputs of a layer's matrices, in the order of their use."""
    width = c.num_key_value_heads * c.head_dim
    return (
        (c.hidden_size + 2 * width, c.hidden_size),
        (c.hidden_size, c.hidden_size),
        (2 * c.intermediate_size, c.hidden_size),
        (c.hidden_size, c.intermediate_size),
    )


def _layer_size(config: LMConfig, kernel: Kernel) -> int:
    return sum(packed_size(kernel, *shape) for shape in _shapes(config))


def why_unsupported(config: LMConfig) -> str | None:
    """Why these sizes are none of the kernel's, or None when they are."""
    if config.head_dim % GROUP or config.head_dim > 128:
        return f"heads of {config.head_dim} channels"
    if config.hidden_size % GROUP or config.intermediate_size % GROUP:
        return f"widths of {config.hidden_size} and {config.intermediate_size}"
    return None


def read_ahead(folder: Path, dtype: str) -> Weights | None:
    """The weights of a published LLM folder, where an engine of `dtype` is going to want them.

    For a thread beside torch's import: all cores but one. None where there is a GPU, or where
    this machine or these sizes are none of the kernel's. Raises SetupError as `Weights.read`.
    """
    if dtype not in {"auto", "int8"} or GPU.exists() or set(EXTENSIONS) - build.cpu_flags():
        return None
    config = LMConfig.read(folder / "config.json")
    if why_unsupported(config):
        return None
    kernel = Kernel.open(max(1, cores() - 1))
    return None if kernel is None else Weights.read(folder, config, kernel)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def packed_size(kernel: Kernel, outputs: int, inputs: int) -> int:
    """Bytes of a packed matrix."""
    return int(kernel.library.lm_packed_size(ctypes.c_int64(outputs), ctypes.c_int64(inputs)))
