"""The language model in 8-bit integers on a CPU: native/lm.c behind the face of `lm.LanguageModel`.

A CPU's steps wait for memory, so weights of half the size are twice the speed; and eight rows are
multiplied while one read of the weights lasts. A row's numbers never depend on its neighbours.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.errors import SetupError
from worker.speech.checkpoint import map_tensors
from worker.speech.lm import LMConfig, rotary
from worker.speech.native import open_library

GROUP, BLOCK = 32, 16  # as in native/lm.c
EXTENSIONS = ("avx512_vnni",)


class _Sizes(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int64) for n in ("hidden", "inner", "layers", "heads", "kv_heads")),
        *((n, ctypes.c_int64) for n in ("head_dim", "positions")),
        ("eps", ctypes.c_float),
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_void_p)
        for name in ("qkv", "out", "gate_up", "down", "qkv_bias", "attention_norm", "mlp_norm")
    ]


def fits(config: LMConfig) -> str | None:
    """Why these sizes are none of the kernel's, or None when they are."""
    if config.head_dim % GROUP or config.head_dim > 128:
        return f"heads of {config.head_dim} channels"
    if config.hidden_size % GROUP or config.intermediate_size % GROUP:
        return f"widths of {config.hidden_size} and {config.intermediate_size}"
    return None


class Kernel:
    """The built library with a team of threads."""

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self.library = library
        library.pool_open.restype = ctypes.c_void_p
        library.lm_packed_size.restype = ctypes.c_int64
        self.pool = ctypes.c_void_p(library.pool_open(threads))
        if not self.pool:
            raise SetupError("no memory for the threads of the language model")
        weakref.finalize(self, library.pool_close, self.pool)

    @classmethod
    def open(cls, threads: int | None = None) -> Kernel | None:
        """With as many threads as torch uses; None where this machine cannot run it."""
        library = open_library("lm", EXTENSIONS)
        return None if library is None else cls(library, threads or torch.get_num_threads())


class Packed:
    """A matrix [outputs, inputs] in the kernel's own layout."""

    def __init__(self, kernel: Kernel, outputs: int, inputs: int) -> None:
        self.kernel = kernel
        self.outputs, self.inputs = outputs, inputs
        size = int(kernel.library.lm_packed_size(ctypes.c_int64(outputs), ctypes.c_int64(inputs)))
        self.bytes = _aligned(size)

    def fill(self, weight: Tensor, first: int = 0, parts: int | None = None, step: int = 0) -> None:
        """Quantise weight [n, inputs] into blocks of 16 outputs.

        From block `first` on; where `step` is given, `parts` blocks at a time, each time `step`
        blocks further on.
        """
        if weight.dtype not in {torch.float32, torch.bfloat16}:
            weight = weight.float()
        weight = weight.contiguous()
        blocks = len(weight) // BLOCK
        self.kernel.library.lm_pack(
            self.kernel.pool,
            ctypes.c_void_p(weight.data_ptr()),
            ctypes.c_int(weight.dtype == torch.bfloat16),
            *map(ctypes.c_int64, (len(weight), self.inputs, self.outputs)),
            *map(ctypes.c_int64, (first, parts or blocks, step)),
            ctypes.c_void_p(self.bytes.ctypes.data),
        )

    @property
    def address(self) -> int:
        """Where the bytes are."""
        return int(self.bytes.ctypes.data)

    def __call__(self, x: Tensor) -> Tensor:
        """x float32 [n, inputs] -> float32 [n, outputs]."""
        x = x.contiguous()
        y = torch.empty(len(x), self.outputs)
        failed = self.kernel.library.lm_linear(
            self.kernel.pool,
            ctypes.c_void_p(self.address),
            *map(ctypes.c_int64, (self.outputs, self.inputs, len(x))),
            *(ctypes.c_void_p(t.data_ptr()) for t in (x, y)),
        )
        if failed:
            raise torch.OutOfMemoryError("no memory for the activations of a product")
        return y


class Int8Cache:
    """Keys and values of some rows, as float16: [rows, layers, 2, kv heads, positions * head_dim].

    The memory of a row is touched, and so taken, only as far as its sequence goes.
    """

    def __init__(self, tensor: Tensor, first: int, head_dim: int) -> None:
        self.tensor = tensor
        self.first = first  # the row that a call's row 0 is
        self._head_dim = head_dim

    @property
    def positions(self) -> int:
        """That a row has room for."""
        return self.tensor.shape[-1] // self._head_dim

    def rows(self, first: int, _count: int) -> Int8Cache:
        """The rows from `first` on."""
        return Int8Cache(self.tensor, self.first + first, self._head_dim)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make row `target` what row `source` is, of which `length` positions count."""
        used = -(-length // BLOCK) * BLOCK * self._head_dim
        self.tensor[target, ..., :used] = self.tensor[source, ..., :used]


class Int8LanguageModel:
    """A Qwen2 decoder in 8 bits: float32 hidden states and logits come out."""

    device = torch.device("cpu")

    def __init__(self, config: LMConfig, kernel: Kernel, folder: Path) -> None:
        self.config = config
        self._kernel = kernel
        file = folder / "model.safetensors"
        # Mapped anew for each layer: what has been packed is let go at once. Of the embedding,
        # only the rows of the tokens that occur are ever read.
        self._packed: list[tuple[Packed | Tensor, ...]] = [
            self._pack(map_tensors(file), layer) for layer in range(config.num_hidden_layers)
        ]
        tensors = map_tensors(file)
        self._embedding = tensors["model.embed_tokens.weight"]
        self._output = tensors.get("lm_head.weight", self._embedding)
        self._norm = tensors["model.norm.weight"].float().clone()
        self._layers = (_Layer * config.num_hidden_layers)(
            *(
                _Layer(*(p.address if isinstance(p, Packed) else p.data_ptr() for p in parts))
                for parts in self._packed
            )
        )
        self._rotary = rotary(config, torch.zeros(0, dtype=torch.long))

    @classmethod
    def load(cls, folder: Path, kernel: Kernel) -> Int8LanguageModel:
        """From a published or prepared LLM folder. Raises SetupError for one that does not fit."""
        config = LMConfig.read(folder / "config.json")
        try:
            return cls(config, kernel, folder)
        except (KeyError, RuntimeError) as error:
            raise SetupError(f"LLM/model.safetensors does not fit config.json: {error}") from None

    def _pack(self, tensors: dict[str, Tensor], layer: int) -> tuple[Packed | Tensor, ...]:
        c, name = self.config, f"model.layers.{layer}."
        width = c.num_key_value_heads * c.head_dim

        def get(part: str, *shape: int) -> Tensor:
            tensor = tensors[name + part]
            if tuple(tensor.shape) != shape:
                raise KeyError(f"{name}{part} is {tuple(tensor.shape)}, not {shape}")
            return tensor

        qkv = Packed(self._kernel, c.hidden_size + 2 * width, c.hidden_size)
        first, biases = 0, []
        for part, outputs in (("q", c.hidden_size), ("k", width), ("v", width)):
            qkv.fill(get(f"self_attn.{part}_proj.weight", outputs, c.hidden_size), first)
            biases.append(get(f"self_attn.{part}_proj.bias", outputs).float())
            first += outputs // BLOCK
        out = Packed(self._kernel, c.hidden_size, c.hidden_size)
        out.fill(get("self_attn.o_proj.weight", c.hidden_size, c.hidden_size))
        gate_up = Packed(self._kernel, 2 * c.intermediate_size, c.hidden_size)
        for place, part in enumerate(("gate", "up")):
            weight = get(f"mlp.{part}_proj.weight", c.intermediate_size, c.hidden_size)
            gate_up.fill(weight, first=2 * place, parts=2, step=4)
        down = Packed(self._kernel, c.hidden_size, c.intermediate_size)
        down.fill(get("mlp.down_proj.weight", c.hidden_size, c.intermediate_size))
        norms = (
            get(f"{part}_layernorm.weight", c.hidden_size).float().clone()
            for part in ("input", "post_attention")
        )
        return qkv, out, gate_up, down, torch.cat(biases), *norms

    def new_cache(self, rows: int, positions: int | None = None) -> Int8Cache:
        """For `rows` sequences of at most `positions` tokens, by default the model's most."""
        c = self.config
        room = -(-(positions or c.max_position_embeddings) // BLOCK) * BLOCK
        # numpy's zeros are pages that nobody has touched yet; torch's are all written.
        zeros = np.zeros(
            (rows, c.num_hidden_layers, 2, c.num_key_value_heads, room * c.head_dim), np.int16
        )
        if len(self._rotary[0]) < room:
            self._rotary = rotary(c, torch.arange(room))
        return Int8Cache(torch.from_numpy(zeros), 0, c.head_dim)

    def prefill(self, prompts: Sequence[Sequence[int]], cache: Int8Cache) -> Tensor:
        """Run each prompt into a row of the cache; the hidden states [rows, D] after their ends."""
        ids = torch.tensor([token for prompt in prompts for token in prompt])
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        rows = torch.repeat_interleave(torch.arange(len(prompts)), lengths)
        at = torch.cat([torch.arange(len(prompt)) for prompt in prompts])
        return self._run(ids, rows, at, cache)[lengths.cumsum(0) - 1]

    def step(self, ids: Tensor, positions: Tensor, cache: Int8Cache, _length: int) -> Tensor:
        """One more token ids [B] of each row, at positions [B]: its hidden states [B, D]."""
        return self._run(ids, torch.arange(len(ids)), positions, cache)

    def head(self, ids: Tensor) -> Int8Head:
        """What gives the logits of these tokens [n] alone."""
        return Int8Head(self._kernel, self._output[ids])

    def _run(self, ids: Tensor, rows: Tensor, at: Tensor, cache: Int8Cache) -> Tensor:
        """Tokens [n] of the cache's rows [n] at positions [n] -> hidden states [n, D]."""
        c = self.config
        sizes = _Sizes(
            c.hidden_size,
            c.intermediate_size,
            c.num_hidden_layers,
            c.num_attention_heads,
            c.num_key_value_heads,
            c.head_dim,
            cache.positions,
            c.rms_norm_eps,
        )
        x = F.embedding(ids, self._embedding).float()
        rows = (rows + cache.first).contiguous()
        at = at.contiguous()
        tensors = (self._norm, *self._rotary)
        failed = self._kernel.library.lm_forward(
            self._kernel.pool,
            ctypes.byref(sizes),
            self._layers,
            *(ctypes.c_void_p(t.data_ptr()) for t in tensors),
            ctypes.c_int64(len(ids)),
            *(ctypes.c_void_p(t.data_ptr()) for t in (rows, at, cache.tensor, x)),
        )
        if failed:
            raise torch.OutOfMemoryError("no memory for the activations of a step")
        return x


class Int8Head:
    """The output matrix of some tokens."""

    def __init__(self, kernel: Kernel, weight: Tensor) -> None:
        self._count = len(weight)
        padded = F.pad(weight, (0, 0, 0, -len(weight) % BLOCK))
        self._packed = Packed(kernel, *padded.shape)
        self._packed.fill(padded)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, D] -> logits float32 [B, n]."""
        return self._packed(hidden)[:, : self._count]


def _aligned(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Fresh bytes that begin at a cache line, in large pages where the system has them."""
    bytes_ = np.empty(size + 64, np.uint8)
    start = -bytes_.ctypes.data % 64
    return bytes_[start : start + size]
