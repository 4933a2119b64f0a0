"""Tensors from files, and modules that are built for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.small_tensors import TENSORS
from worker.speech.tensors import Uninitialised, read_tensors

CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "LLM").mkdir()
    return tmp_path / "LLM" / "weights"


def test_fractions_are_read_in_the_precision_that_is_asked_for(file: Path) -> None:
    """Whole numbers stay as they are: 70,001 has no bfloat16."""
    save_file(TENSORS, file)
    found = read_tensors(file, torch.bfloat16, CPU)
    assert found.keys() == TENSORS.keys()
    for name in ("half", "single"):
        assert torch.equal(found[name], TENSORS[name].to(torch.bfloat16))
    for name in ("whole", "yes"):
        assert found[name].dtype == TENSORS[name].dtype
        assert torch.equal(found[name], TENSORS[name])
    assert {tensor.device for tensor in found.values()} == {CPU}


FILLERS: list[Callable[[Tensor], object]] = [
    nn.init.uniform_,
    nn.init.normal_,
    nn.init.trunc_normal_,
    nn.init.kaiming_uniform_,
    lambda weight: nn.init.constant_(weight, 3.0),
    lambda weight: nn.init.normal_(tensor=weight),
]


@pytest.mark.parametrize("fill", FILLERS)
def test_weights_are_not_filled_and_buffers_are(fill: Callable[[Tensor], object]) -> None:
    """A file brings the weights; what a module computes for itself no file brings."""
    weight, buffer = nn.Parameter(torch.full((3, 3), 7.0)), torch.full((3, 3), 7.0)
    with Uninitialised():
        fill(weight)
        fill(buffer)
    assert (weight == 7).all()
    assert (buffer != 7).any()
    fill(weight)  # as ever
    assert (weight != 7).any()


def test_all_else_is_computed_as_ever() -> None:
    with Uninitialised():
        layer = nn.Linear(2, 2)
        layer.load_state_dict({"weight": torch.eye(2), "bias": torch.ones(2)})
        made = layer(torch.tensor([1.0, 2.0])) * layer.bias
        steps = torch.arange(3.0).mul_(2).add_(1).clamp_(max=4)
    assert made.tolist() == [2, 3]
    assert steps.tolist() == [1, 3, 4]
