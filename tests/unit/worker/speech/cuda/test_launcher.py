"""The language model's kernels launched on a GPU: a dry one, with a libcuda of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from tests.support import fake_cuda
from tests.support.dry_gpu import dry_gpu
from tests.support.fake_cuda import FakeCuda
from worker.speech.cuda import cubins as keeping
from worker.speech.cuda import launcher as module
from worker.speech.cuda.cubins import Cubins
from worker.speech.cuda.driver import DriverError
from worker.speech.cuda.launcher import GpuLauncher
from worker.speech.cuda.lm import KERNELS, Score
from worker.speech.cuda.nvrtc import Library
from worker.speech.cuda.open import open_module

pytestmark = pytest.mark.slow("compiles C")

GPU = torch.device("cuda")
CUBIN = "\n".join(f"{name} {ctypes.sizeof(structure)}" for name, structure in KERNELS.items())


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> FakeCuda:
    return fake_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def cuda(library: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A GPU whose cubins are the fake's."""
    library.reset()
    monkeypatch.setattr(keeping, "find_library", lambda: Library(library.path, "fake"))
    monkeypatch.setattr(Cubins, "get", lambda *_asked: CUBIN.encode())
    here = partial(open_module, folders=[], driver=str(library.path))
    monkeypatch.setattr(module, "open_module", here)
    with dry_gpu():
        yield library


@pytest.mark.parametrize(
    ("capability", "said"),
    [((8, 6), ""), ((8, 9), ""), ((9, 0), " attribute 6=1")],
)
def test_a_kernel_is_launched_on_the_current_stream_and_overlaps_where_it_can(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    launcher = GpuLauncher.open(GPU)
    assert launcher is not None
    assert launcher.processors == 1
    stream = torch.cuda.Stream()
    arguments = Score(x=0xABCD)
    with torch.cuda.stream(stream):
        launcher.launch("score_16", (5, 2, 1), 224, arguments)
    head = f"launch score_16 grid 5,2,1 block 224,1,1 shared 0 stream {stream.cuda_stream:#x}"
    assert cuda.lines == [f"{head}{said} {bytes(arguments).hex()}"]


def test_a_cubin_without_one_of_the_kernels_is_an_error(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cubins, "get", lambda *_asked: CUBIN.partition("\n")[0].encode())
    with pytest.raises(DriverError, match="named symbol not found"):
        GpuLauncher.open(GPU)


def test_where_they_cannot_be_had_there_is_none(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "find_library", lambda: None)
    assert GpuLauncher.open(GPU) is None
