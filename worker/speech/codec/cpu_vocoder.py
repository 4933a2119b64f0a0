"""BiCodec's wave generator on a CPU, by native/wave.c, in place of upstream's module.

The weights of upstream's layers (wave_layers.py) are packed. A chunk of any length costs the same
from the first time on, which torch's convolutions do not give: oneDNN compiles a kernel for each
length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from worker.speech.codec.wave_layers import walk
from worker.speech.native.wave import BLOCK, MARGIN, Convolution, Layer, WaveKernel


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
    def of(cls, kernel: WaveKernel, weight: Tensor, bias: Tensor, **place: int) -> _Packed:
        """Pack weights float32 [outputs, inputs, taps] and their bias, padded to blocks of 16."""
        outputs, inputs, taps = weight.shape
        blocks, pairs = -(-outputs // BLOCK), -(-inputs // BLOCK) * BLOCK // 2
        packed = torch.empty(blocks, taps, pairs, BLOCK, 2, dtype=torch.bfloat16)
        weight = weight.float()
        kernel.library.wave_pack(
            kernel.pool,
            weight.data_ptr(),
            *(outputs, inputs, taps),
            *weight.stride(),
            packed.data_ptr(),
        )
        return cls(packed, F.pad(bias.float(), (0, -outputs % BLOCK)), **place)

    @property
    def structure(self) -> Convolution:
        """The convolution as the kernel reads it; the tensors must outlive that."""
        blocks, taps, pairs = self.weights.shape[:3]
        return Convolution(
            weights=self.weights.data_ptr(),
            bias=self.bias.data_ptr(),
            inputs=2 * pairs,
            outputs=BLOCK * blocks,
            taps=taps,
            offset=self.offset,
            step=self.step,
            stride=self.stride,
            phase=self.phase,
        )


class CpuVocoder:
    """Turns features into samples, in bfloat16 with float32 sums."""

    def __init__(self, kernel: WaveKernel, generator: Any) -> None:
        """`generator` is upstream's, folded. Raises ValueError where it is built otherwise."""
        self._kernel = kernel
        self._inputs = generator.model[0].in_channels
        self._rate = 1
        self._kept: list[object] = []  # what the structures point to
        structures = []
        for layer in walk(generator):
            parts, alpha = _parts(kernel, layer.module), layer.alpha
            self._rate *= parts[0].stride
            array = (Convolution * len(parts))(*(part.structure for part in parts))
            padded = F.pad(alpha.flatten().float(), (0, -alpha.numel() % BLOCK), value=1.0)
            self._kept += [parts, array, padded]
            structures.append(Layer(len(parts), array, padded.data_ptr(), layer.what))
        self._layers = (Layer * len(structures))(*structures)

    @classmethod
    def open(cls, generator: Any) -> CpuVocoder | None:
        """Pack upstream's generator; None where this machine cannot run the kernel."""
        kernel = WaveKernel.open(torch.get_num_threads())
        return None if kernel is None else cls(kernel, generator)

    def __call__(self, features: Tensor) -> Tensor:
        """Turn features [1, C, n] into samples [1, 1, rate * n] within -1 and 1, both float32."""
        _, channels, count = features.shape
        x = torch.zeros(count + 2 * MARGIN, channels + -channels % BLOCK, dtype=torch.bfloat16)
        x[MARGIN : MARGIN + count, :channels] = features[0].T
        samples = torch.empty(self._rate * count)
        failed = self._kernel.library.wave_speak(
            self._kernel.pool,
            self._layers,
            *(len(self._layers), count),
            *(x.data_ptr(), samples.data_ptr()),
        )
        if failed:
            raise torch.OutOfMemoryError("no memory for the waveform of a chunk")
        return samples[None, None]


def _parts(kernel: WaveKernel, module: Any) -> list[_Packed]:
    """Pack a convolution as one part; a transposed one as a part for each of its phases."""
    weight, bias = module.weight, module.bias
    stride, padding = module.stride[0], int(module.padding[0])
    if isinstance(module, nn.ConvTranspose1d):
        phases = (weight[..., phase::stride].transpose(0, 1) for phase in range(stride))
        return [
            _Packed.of(kernel, part, bias, offset=0, step=-1, stride=stride, phase=phase - padding)
            for phase, part in enumerate(phases)
        ]
    dilation = module.dilation[0]
    if padding > MARGIN:
        raise ValueError("a convolution reaches too far")
    return [_Packed.of(kernel, weight, bias, offset=-padding, step=dilation)]
