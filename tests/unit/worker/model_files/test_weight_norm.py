"""Weight norm: what factors stand for, whichever dimension they are of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worker.model_files.weight_norm import FACTORS, fold


def factors(dimension: int, *shape: int) -> tuple[Tensor, Tensor]:
    """A magnitude for each place of one dimension, and a direction of that shape."""
    generator = torch.Generator().manual_seed(dimension)
    ones = [size if d == dimension else 1 for d, size in enumerate(shape)]
    magnitude = 1 + torch.rand(*ones, generator=generator)
    return magnitude, torch.randn(*shape, generator=generator)


@pytest.mark.parametrize(("first", "second"), FACTORS)
@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_a_weight_is_its_direction_at_its_magnitude(
    dimension: int, first: str, second: str
) -> None:
    magnitude, direction = factors(dimension, 4, 3, 5)
    others = [d for d in range(3) if d != dimension]
    expected = magnitude * direction / direction.square().sum(others, keepdim=True).sqrt()
    kept = torch.ones(2)
    given = {f"a.b{first}": magnitude, f"a.b{second}": direction, "a.b.bias": kept}
    folded = fold(given)
    assert set(folded) == {"a.b.weight", "a.b.bias"}
    torch.testing.assert_close(folded["a.b.weight"], expected)
    assert folded["a.b.bias"] is kept
    assert set(given) == {f"a.b{first}", f"a.b{second}", "a.b.bias"}  # as it was


def test_one_magnitude_alone_is_that_of_the_first_dimension() -> None:
    magnitude, direction = torch.full((1, 1, 1), 2.0), torch.tensor([[[3.0, 4.0]]])
    folded = fold({"a.weight_g": magnitude, "a.weight_v": direction})
    torch.testing.assert_close(folded["a.weight"], torch.tensor([[[1.2, 1.6]]]))


def test_halves_are_folded_in_float32() -> None:
    magnitude, direction = (t.half() for t in factors(0, 4, 300))
    folded = fold({"a.weight_g": magnitude, "a.weight_v": direction})["a.weight"]
    exact = magnitude.double() * direction.double() / direction.double().norm(dim=1, keepdim=True)
    assert folded.dtype == torch.float32
    torch.testing.assert_close(folded.double(), exact, rtol=1e-5, atol=1e-7)


def test_two_weights_of_both_forms_are_each_their_own() -> None:
    tensors = {}
    for name, (first, second) in zip("ab", FACTORS, strict=True):
        tensors[name + first], tensors[name + second] = factors(0, 3, ord(name) % 3 + 2)
    folded = fold(tensors)
    assert {name: tuple(t.shape) for name, t in folded.items()} == {
        "a.weight": (3, 3),
        "b.weight": (3, 4),
    }
