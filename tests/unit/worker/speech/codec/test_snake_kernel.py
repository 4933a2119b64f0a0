"""The snake's kernel, run on a CPU (tests/support/cuda_on_cpu), beside the formula in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.cuda_on_cpu import CpuLauncher
from worker.speech.codec.snake_kernel import SnakeKernel
from worker.speech.codec.wave_batch import After, snake

pytestmark = pytest.mark.slow("compiles C")
TOKENS = 5
ROUNDED = 2**-8  # of a number in bfloat16, at most


def numbers(*shape: int, spread: float = 1.0) -> Tensor:
    return (spread * torch.randn(*shape)).to(torch.bfloat16)


@pytest.mark.parametrize("last", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("added", [False, True], ids=["alone", "added"])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize(("channels", "rate"), [(8, 8), (24, 40), (48, 1000)])
def test_it_is_the_snake_rounded_once(
    channels: int, rate: int, summed: bool, added: bool, last: bool
) -> None:
    """Also past a block of threads, and for large angles."""
    torch.manual_seed(channels)
    order = torch.channels_last if last else torch.contiguous_format
    shape = 1, channels, 1, TOKENS * rate
    made = numbers(*shape, spread=20).contiguous(memory_format=order)
    residual = numbers(*shape).contiguous(memory_format=order) if added else None
    after = After(numbers(channels), numbers(channels).abs() + 0.1, rate, summed)
    valid = torch.tensor([True, True, False, True, False])
    total, out = SnakeKernel(CpuLauncher("codec"))(made, after, residual, valid)
    exact = After(after.bias.float(), after.alpha.float(), rate, summed=True)
    expected = snake(made.float(), exact, None if residual is None else residual.float(), valid)
    assert (total is not None) is summed
    for mine, theirs in ((total, expected[0]), (out, expected[1])):
        if mine is not None:
            assert mine.stride() == made.stride()
            assert (mine.float() - theirs).abs().le(ROUNDED * theirs.abs() + 1e-4).all()


@pytest.mark.parametrize("last", [False, True], ids=["rows", "columns"])
def test_what_is_no_number_stays_where_it_is(last: bool) -> None:
    """In a gap there are zeros all the same."""
    made = torch.zeros(1, 8, 1, 16, dtype=torch.bfloat16)
    made[..., 1::2] = float("nan")
    if last:
        made = made.contiguous(memory_format=torch.channels_last)
    after = After(torch.zeros(8).bfloat16(), torch.ones(8).bfloat16(), 8, summed=False)
    valid = torch.tensor([True, False])
    _, out = SnakeKernel(CpuLauncher("codec"))(made, after, None, valid)
    assert out[..., 1:8:2].isnan().all()
    assert not out[..., 0:8:2].any()
    assert not out[..., 8:].any()
