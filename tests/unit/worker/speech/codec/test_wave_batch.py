"""The wave generator over several chunks in one sequence, beside upstream's over each alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.codec_parts import HOP, random_bicodec
from worker.speech.codec import wave_batch
from worker.speech.codec.chunked_network import gap_of
from worker.speech.codec.wave_batch import WaveBatch

GENERATOR = random_bicodec().decoder
GAP = gap_of(GENERATOR)
INPUTS = 36
LENGTHS = (5, 1, 30, 9)
FORMS = [
    {"channels_last": last, "products": products}
    for last in (False, True)
    for products in (False, True)
]


def features(length: int) -> Tensor:
    return torch.randn(1, INPUTS, length, generator=torch.Generator().manual_seed(length))


def laid(lengths: tuple[int, ...], size: int) -> tuple[Tensor, Tensor, list[int]]:
    """Features of chunks with gaps, whose positions they are, and where each begins."""
    x, valid, begins, end = torch.zeros(1, INPUTS, size), torch.zeros(size).bool(), [], 0
    for length in lengths:
        x[..., end : end + length] = features(length)
        valid[end : end + length] = True
        begins.append(end)
        end += length + GAP
    return x, valid, begins


@pytest.fixture(autouse=True)
def _plain() -> Any:
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.mark.parametrize("form", FORMS)
def test_each_chunk_has_the_samples_that_it_has_alone(form: dict[str, bool]) -> None:
    batch = WaveBatch(GENERATOR, torch.float32, **form)
    assert batch.rate == HOP
    x, valid, begins = laid(LENGTHS, 64)
    samples = batch(x, valid)
    assert samples.shape == (64 * HOP,)
    for begin, length in zip(begins, LENGTHS, strict=True):
        expected = GENERATOR(features(length)).flatten()
        made = samples[HOP * begin : HOP * (begin + length)]
        assert expected.abs().max() > 0.1
        assert (made - expected).abs().max() < 1e-5


def test_a_chunk_that_is_no_number_leaves_the_others_alone() -> None:
    batch = WaveBatch(GENERATOR, torch.float32)
    x, valid, begins = laid(LENGTHS, 64)
    x[..., begins[2] + 4] = float("nan")
    samples = batch(x, valid)
    assert samples.isnan().any()
    for begin, length in [(begins[1], 1), (begins[3], 9)]:
        assert samples[HOP * begin : HOP * (begin + length)].isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_all_operations_see_their_tensors_in_one_order(form: dict[str, bool]) -> None:
    """As a kernel needs them, that is told of one order for all."""
    orders: set[bool] = set()

    def watched(made: Tensor, after: Any, residual: Tensor | None, valid: Tensor) -> Any:
        given = [made] if residual is None else [made, residual]
        orders.update(tensor.is_contiguous() for tensor in given)
        return wave_batch.snake(made, after, residual, valid)

    x, valid, _ = laid(LENGTHS, 64)
    WaveBatch(GENERATOR, torch.float32, watched, **form)(x, valid)
    assert orders == {not form["channels_last"]}


def test_samples_are_bfloat16s_where_that_is_asked_for() -> None:
    half = random_bicodec().decoder.to(torch.bfloat16)
    x, valid, _ = laid((60,), 64)
    samples = WaveBatch(half, torch.bfloat16)(x, valid)[: 60 * HOP]
    expected = GENERATOR(features(60)).flatten()
    assert samples.dtype == torch.float32
    noise = (samples - expected).square().mean() / expected.square().mean()
    assert 1e-7 < noise < 1e-3


@pytest.mark.parametrize(
    ("place", "layer", "said"),
    [
        (-1, torch.nn.Identity(), "tangent"),
        (0, torch.nn.Conv1d(36, 32, 7, padding=2), "changes the length"),
        (0, torch.nn.Conv1d(36, 32, 1, stride=2), "changes the length"),
    ],
)
def test_another_structure_is_refused(place: int, layer: torch.nn.Module, said: str) -> None:
    generator = random_bicodec().decoder
    generator.model[place] = layer
    with pytest.raises(ValueError, match=said):
        WaveBatch(generator, torch.float32)
