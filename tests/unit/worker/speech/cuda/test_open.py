"""Kernels opened on a GPU, or None and why not: on a dry GPU with a libcuda of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support import fake_cuda
from tests.support.dry_gpu import dry_gpu
from tests.support.events import Events
from tests.support.fake_cuda import FakeCuda
from worker.speech.cuda import cubins as keeping
from worker.speech.cuda.cubins import Cubins
from worker.speech.cuda.nvrtc import CompileError, Library
from worker.speech.cuda.open import architecture_for, open_module

pytestmark = pytest.mark.slow("compiles C")

GPU = torch.device("cuda")


class Scale(ctypes.Structure):
    """What `scale` takes."""

    _fields_ = (("at", ctypes.c_void_p),)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> FakeCuda:
    return fake_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def cuda(library: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A GPU of capability 8.6, whose cubins are the fake's."""
    library.reset()
    monkeypatch.setattr(keeping, "find_library", lambda: Library(library.path, "fake"))
    asked = []

    def get(_self: Cubins, name: str, architecture: str) -> bytes:
        asked.append((name, architecture))
        if name == "wrong":
            raise CompileError("wrong.cu: no")
        return b"scale 8"

    monkeypatch.setattr(Cubins, "get", get)
    with dry_gpu():
        yield library
    assert set(asked) <= {("toy", "sm_86"), ("wrong", "sm_86")}


def test_kernels_are_opened_on_the_gpu(cuda: FakeCuda, events: Events) -> None:
    module = open_module("toy", GPU, [], str(cuda.path))
    assert module is not None
    module.function("scale").launch((1, 1, 1), (1, 1, 1), Scale(), stream=0)
    assert len(cuda.lines) == 1
    assert events() == []


def test_why_they_cannot_be_opened_is_told(
    cuda: FakeCuda, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_module("wrong", GPU, [], str(cuda.path)) is None
    assert events() == [
        ("CUDA kernels do not compile", {"kernels": "wrong", "error": "wrong.cu: no"})
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Cubins, "get", lambda *_: pytest.fail("compiled for no driver"))
        assert open_module("toy", GPU, [], str(tmp_path / "none.so")) is None
    cuda.fail("cuModuleLoadData", 209)
    assert open_module("toy", GPU, [], str(cuda.path)) is None
    first, second = events.of("CUDA kernels cannot be loaded")
    assert "none.so" in first["error"]
    assert "no kernel image is available" in second["error"]
    monkeypatch.setattr(keeping, "find_library", lambda: None)
    assert open_module("toy", GPU, [], str(cuda.path)) is None
    assert events()[-1] == ("no compiler for CUDA kernels", {})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    assert open_module("toy", GPU, [], str(cuda.path)) is None
    fields = {"kernels": "toy", "capability": "7.5"}
    assert events()[-1] == ("no CUDA kernels for this GPU", fields)


@pytest.mark.parametrize(
    ("capability", "architecture"),
    [
        ((8, 0), "sm_80"),
        ((8, 6), "sm_86"),
        ((8, 7), "sm_86"),
        ((8, 9), "sm_89"),
        ((9, 0), "sm_90"),
        ((7, 5), None),
        ((10, 0), None),
        ((12, 0), None),
    ],
)
def test_the_architecture_is_that_of_the_gpu_or_the_nearest_below_of_its_major(
    capability: tuple[int, int], architecture: str | None
) -> None:
    assert architecture_for(capability) == architecture
