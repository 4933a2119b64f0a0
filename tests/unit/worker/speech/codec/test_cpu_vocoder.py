"""The wave generator in C against upstream's module, in float32.

Where this CPU lacks the instructions, the kernel runs in plain C (tests/support/any_cpu).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import any_cpu
from worker import cpu_info
from worker.speech.codec.cpu_vocoder import CpuVocoder
from worker.speech.codec.upstream import find_upstream
from worker.speech.codec.weight_norm import built_folded
from worker.speech.native.wave import WaveKernel

RATES, KERNELS = [8, 5, 4, 2], [16, 11, 8, 4]  # the published model's
SNR = 40  # dB; seen: 42.9 and more
EXTENSIONS = WaveKernel.interface.extensions
AT_HOME = cpu_info.flags() >= {"avx512f", *EXTENSIONS}
LENGTHS = (1, 2, 5, 13, 40, 113) if AT_HOME else (1, 2, 7)  # in plain C each takes its time


def generator(channels: int, inputs: int) -> Any:
    torch.manual_seed(channels)
    upstream = find_upstream()
    with built_folded(upstream.package):
        made = upstream.wave_generator(inputs, channels, RATES, KERNELS)
    for part in made.modules():
        if isinstance(part, (nn.Conv1d, nn.ConvTranspose1d)):
            nn.init.normal_(part.weight, std=0.5 / part.weight[0].numel() ** 0.5)
            nn.init.normal_(part.bias, std=0.05)
        if hasattr(part, "alpha"):
            nn.init.uniform_(part.alpha, 0.5, 1.5)
    return made.eval().requires_grad_(requires_grad=False)


def opened(made: Any) -> CpuVocoder:
    """It must be there on every machine: a lost compiler is a failure."""
    with any_cpu.kernels(*EXTENSIONS):
        found = CpuVocoder.open(made)
    assert found
    return found


@pytest.mark.slow("compiles C")
@pytest.mark.parametrize(("channels", "inputs"), [(192, 64), (128, 40), (80, 17)])
def test_samples_are_upstreams(channels: int, inputs: int) -> None:
    """Widths that are and are not multiples of 16; a start, an end, and lengths past a tile."""
    made = generator(channels, inputs)
    ours = opened(made)
    for length in LENGTHS:
        x = torch.randn(1, inputs, length, generator=torch.Generator().manual_seed(length))
        # oneDNN would compile its kernels anew for each length.
        with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
            expected, samples = made(x), ours(x)
        assert samples.shape == expected.shape == (1, 1, 320 * length)
        noise = (samples - expected).pow(2).mean()
        ratio = 10 * torch.log10(expected.pow(2).mean() / noise)
        print(f"{channels} channels, {length} rows: {ratio:.1f} dB")
        assert ratio > SNR


@pytest.mark.slow("compiles C")
def test_the_same_rows_give_the_same_bits_in_any_chunk() -> None:
    channels, inputs = (64, 32) if AT_HOME else (16, 16)
    ours = opened(generator(channels, inputs))
    x = torch.randn(1, inputs, 90, generator=torch.Generator().manual_seed(1))
    whole = ours(x)
    inner = ours(x[..., 20:80].contiguous())
    assert torch.equal(whole[..., 320 * 40 : 320 * 60], inner[..., 320 * 20 : 320 * 40])


@pytest.mark.slow("compiles C")
def test_another_structure_is_refused() -> None:
    made = generator(64, 32)
    made.model[-1] = nn.Identity()
    with pytest.raises(ValueError, match="tangent"):
        opened(made)


@pytest.mark.slow("compiles C")
def test_the_farthest_reach_that_there_are_zeros_for() -> None:
    made = generator(32, 16)
    torch.manual_seed(1)
    made.model[0] = nn.Conv1d(16, 32, 65, padding=32)
    x = torch.randn(1, 16, 5, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected, samples = made(x), opened(made)(x)
    noise = (samples - expected).pow(2).mean()
    assert 10 * torch.log10(expected.pow(2).mean() / noise) > SNR


@pytest.mark.slow("compiles C")
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(16, 32, 67, padding=33),  # reads past the zeros
        nn.Conv1d(16, 32, 7, padding=2),
        nn.Conv1d(16, 32, 7, padding=3, dilation=3),
        nn.Conv1d(16, 32, 1, stride=2),
    ],
)
def test_a_convolution_that_reaches_too_far_or_changes_the_length_is_refused(
    layer: nn.Module,
) -> None:
    made = generator(32, 16)
    made.model[0] = layer
    with pytest.raises(ValueError, match=r"a convolution (changes the length|reaches too far)"):
        opened(made)


@pytest.mark.slow("compiles C")
def test_a_transposed_convolution_of_another_length_is_refused() -> None:
    made = generator(32, 16)
    made.model[1].block[1].padding = (3,)
    with pytest.raises(ValueError, match="just multiply the length"):
        opened(made)


@pytest.mark.slow("compiles C")
def test_a_chunk_without_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = opened(generator(32, 16))
    monkeypatch.setattr(ours._kernel.library, "wave_speak", lambda *_: -1)
    with pytest.raises(torch.OutOfMemoryError, match="the waveform of a chunk"):
        ours(torch.zeros(1, 16, 3))


def test_where_there_is_no_kernel_there_is_no_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(WaveKernel, "open", asked.append)
    assert CpuVocoder.open(generator(32, 16)) is None
    assert asked == [torch.get_num_threads()]
