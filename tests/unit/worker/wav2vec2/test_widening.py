"""Weights in halves are in float32 while they are used, in memory that is used again."""

from __future__ import annotations

from contextlib import suppress
from threading import Barrier, Thread

import pytest
import torch

from worker.wav2vec2.widening import Widening


def weight(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_each_is_what_it_was(dtype: torch.dtype) -> None:
    widening = Widening(35)
    for shape in ((5, 7), (3, 4), (7, 5)):
        narrow = weight(*shape, dtype=dtype)
        with widening.wide(narrow) as wide:
            assert wide.dtype == torch.float32
            assert torch.equal(wide, narrow.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_no_half_is_given_as_it_is(dtype: torch.dtype) -> None:
    exact = weight(3, 4, dtype=dtype)
    with Widening(0).wide(exact) as wide:
        assert wide is exact


def test_memory_is_used_again_and_after_an_error_too() -> None:
    widening, places = Widening(35), []
    for shape in ((5, 7), (3, 4)):
        with suppress(ZeroDivisionError), widening.wide(weight(*shape)) as wide:
            places.append(wide.data_ptr())
            raise ZeroDivisionError
    assert places == [places[0]] * 2


def test_threads_at_the_same_time_have_memory_of_their_own() -> None:
    widening, both, found = Widening(35), Barrier(2, timeout=20), {}
    with widening.wide(weight(1, 35)):
        pass  # which leaves memory that one of them takes

    def use(sign: int) -> None:
        mine = sign * weight(5, 7)
        with widening.wide(mine) as wide:
            both.wait()
            found[sign] = torch.equal(wide, mine.float())
            both.wait()

    threads = [Thread(target=use, args=(sign,)) for sign in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: True, -1: True}


def test_memory_of_an_inference_is_of_use_outside_of_one() -> None:
    widening = Widening(35)
    with torch.inference_mode(), widening.wide(weight(5, 7)) as first:
        assert first.sum().item() == pytest.approx(weight(5, 7).float().sum().item())
    with torch.no_grad(), widening.wide(weight(7, 5)) as second:
        assert torch.equal(second, weight(7, 5).float())
