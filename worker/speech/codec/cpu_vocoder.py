"""BiCodec's wave generator on a CPU: native/wave.c behind the face of upstream's module.

Upstream's module stays the description: its layers are walked, and their weights packed. A window
of any length costs the same from the first time on, which torch's convolutions do not give: oneDNN
compiles a kernel for each length.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.speech.native import build

EXTENSIONS = ("avx512_bf16",)
BLOCK, MARGIN = 16, 32  # as in native/wave.c
SPEAK, START, INSIDE, ADD = range(4)  # what becomes of a convolution's sums


class _Convolution(ctypes.Structure):
    _fields_ = [
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        *(
            (name, ctypes.c_int64)
            for name in ("inputs", "outputs", "taps", "offset", "step", "stride", "phase")
        ),
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int64),
        ("parts", ctypes.c_void_p),
        ("alpha", ctypes.c_void_p),
        ("what", ctypes.c_int64),
    ]


@dataclass(frozen=True)
class _Packed:
    """A convolution as the kernel reads it."""

    weights: Tensor  # bfloat16 [outputs / 16, taps, inputs / 2, 16, 2]
    bias: Tensor  # float32 [outputs]
    offset: int
    step: int
    stride: int = 1
    phase: int = 0

    @classmethod
    def of(cls, kernel: build.Kernel, weight: Tensor, bias: Tensor, **place: int) -> _Packed:
        """Of weights float32 [outputs, inputs, taps] and bias, padded to blocks of 16."""
        outputs, inputs, taps = weight.shape
        blocks, pairs = -(-outputs // BLOCK), -(-inputs // BLOCK) * BLOCK // 2
        packed = torch.empty(blocks, taps, pairs, BLOCK, 2, dtype=torch.bfloat16)
        weight = weight.float()
        kernel.library.wave_pack(
            kernel.pool,
            ctypes.c_void_p(weight.data_ptr()),
            *map(ctypes.c_int64, (outputs, inputs, taps, *weight.stride())),
            ctypes.c_void_p(packed.data_ptr()),
        )
        return cls(packed, F.pad(bias.float(), (0, -outputs % BLOCK)), **place)

    @property
    def structure(self) -> _Convolution:
        """For the kernel; the tensors must outlive it."""
        blocks, taps, pairs = self.weights.shape[:3]
        return _Convolution(
            self.weights.data_ptr(),
            self.bias.data_ptr(),
            2 * pairs,
            BLOCK * blocks,
            taps,
            self.offset,
            self.step,
            self.stride,
            self.phase,
        )


class CpuVocoder:
    """Tokens' vectors to samples, in bfloat16 with float32 sums."""

    def __init__(self, kernel: build.Kernel, generator: Any) -> None:
        """`generator` is upstream's, folded. Raises ValueError where it is built otherwise."""
        self._kernel = kernel
        layers = list(_walk(kernel, list(generator.model)))
        self._inputs = generator.model[0].in_channels
        self._rate = 1
        self._kept: list[object] = []  # what the structures point to
        structures = []
        for what, parts, alpha in layers:
            self._rate *= parts[0].stride
            array = (_Convolution * len(parts))(*(part.structure for part in parts))
            padded = F.pad(alpha.flatten().float(), (0, -alpha.numel() % BLOCK), value=1.0)
            self._kept += [parts, array, padded]
            structures.append(_Layer(len(parts), ctypes.addressof(array), padded.data_ptr(), what))
        self._layers = (_Layer * len(structures))(*structures)

    @classmethod
    def open(cls, generator: Any) -> CpuVocoder | None:
        """None where this machine cannot run it."""
        kernel = build.Kernel.of("wave", EXTENSIONS, torch.get_num_threads())
        return None if kernel is None else cls(kernel, generator)

    def __call__(self, vectors: Tensor) -> Tensor:
        """vectors float32 [1, C, n] -> samples float32 [1, 1, rate * n] between -1 and 1."""
        _, channels, count = vectors.shape
        x = torch.zeros(count + 2 * MARGIN, channels + -channels % BLOCK, dtype=torch.bfloat16)
        x[MARGIN : MARGIN + count, :channels] = vectors[0].T
        samples = torch.empty(self._rate * count)
        failed = self._kernel.library.wave_speak(
            self._kernel.pool,
            self._layers,
            *map(ctypes.c_int64, (len(self._layers), count)),
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, samples)),
        )
        if failed:
            raise torch.OutOfMemoryError("no memory for the waveform of a window")
        return samples[None, None]


def _walk(kernel: build.Kernel, modules: list[Any]) -> list[tuple[int, list[_Packed], Tensor]]:
    """The convolutions in order: what becomes of each, its parts, and the snake that follows.

    Upstream's order: a convolution; blocks of a snake, a transposed convolution and residual units
    of (snake, convolution, snake, convolution); a snake, a convolution, a hyperbolic tangent.
    """
    steps: list[tuple[int | None, Any]] = [(INSIDE, modules[0])]
    for module in modules[1:-3]:
        snake, transposed, *units = module.block
        steps += [(None, snake), (START, transposed)]
        for unit in units:
            first, wide, second, narrow = unit.block
            steps += [(None, first), (INSIDE, wide), (None, second), (ADD, narrow)]
    steps += [(None, modules[-3]), (SPEAK, modules[-2])]
    if not isinstance(modules[-1], nn.Tanh):
        raise ValueError(  # noqa: TRY004 - of the weights, not of an argument
            "the wave generator does not end in a hyperbolic tangent"
        )
    walked = []
    for place, (what, module) in enumerate(steps):
        if what is not None:
            alpha = torch.ones(1) if what == SPEAK else steps[place + 1][1].alpha
            walked.append((what, _parts(kernel, module), alpha))
    return walked


def _parts(kernel: build.Kernel, module: Any) -> list[_Packed]:
    """A convolution as one part; a transposed one as a part for each of its phases."""
    weight, bias = module.weight, module.bias
    taps, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
    if isinstance(module, nn.ConvTranspose1d):
        if taps - 2 * padding != stride:
            raise ValueError("a transposed convolution does not just multiply the length")
        phases = (weight[..., phase::stride].transpose(0, 1) for phase in range(stride))
        return [
            _Packed.of(kernel, part, bias, offset=0, step=-1, stride=stride, phase=phase - padding)
            for phase, part in enumerate(phases)
        ]
    dilation = module.dilation[0]
    if stride != 1 or 2 * padding != dilation * (taps - 1) or padding > MARGIN:
        raise ValueError("a convolution changes the length, or reaches too far")
    return [_Packed.of(kernel, weight, bias, offset=-padding, step=dilation)]
