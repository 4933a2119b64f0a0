"""torch, imported without what serves its compiler and training: what is used of those is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.worker_process import REPOSITORY

PROGRAM = """
import sys
from pathlib import Path
from worker import cpu_info, torch_import

cpu_info.GPU = Path(sys.argv[1])
torch_import.lighten()
import torch

left_out = {"torch._meta_registrations", "torch._decomp", "torch.ao.quantization"}
"""
LINEAR = """
x = torch.arange(6.0).view(2, 3)
assert torch.nn.functional.linear(x, x).tolist() == [[5, 14], [14, 50]]
assert not left_out & set(sys.modules)
"""
QUANTISED = "assert isinstance(torch.quantization.QuantStub(), torch.nn.Module)"
SHAPES = """
torch._meta_registrations.meta_index_Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

with FakeTensorMode():
    x = torch.empty(2, 3)
    assert torch.index_select(x, 1, torch.zeros(5, dtype=torch.int64)).shape == (2, 5)
    assert torch.nn.functional.scaled_dot_product_attention(*[x[None, None]] * 3).shape[-1] == 3
"""
WHOLE = "assert left_out < set(sys.modules)"


@pytest.mark.slow("torch is imported in a process of its own")
@pytest.mark.parametrize(
    ("then", "gpu"),
    [
        (LINEAR, "nothing"),
        (QUANTISED, "nothing"),
        (SHAPES, "nothing"),
        (WHOLE, ""),  # beside a GPU: the folder itself, which is there
    ],
)
def test_it_computes_and_what_was_left_out_comes_when_it_is_used(
    then: str, gpu: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-c", PROGRAM + then, str(tmp_path / gpu)]
    done = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
