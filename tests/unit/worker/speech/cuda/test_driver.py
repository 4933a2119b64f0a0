"""The driver's calls, on a libcuda that is compiled from C against NVIDIA's own declarations."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from pathlib import Path

import pytest

from tests.support import fake_cuda
from tests.support.fake_cuda import FakeCuda
from worker.speech.cuda import driver
from worker.speech.cuda.driver import FLOAT, INT, POINTER, DriverError, Function, Module
from worker.speech.device_errors import Failure, failure_of

pytestmark = pytest.mark.slow("compiles C")

CUBIN = b"other 8\nscale 24"
OUT_OF_MEMORY, ILLEGAL_ADDRESS, UNKNOWN = 2, 700, 999


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> FakeCuda:
    return fake_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def cuda(library: FakeCuda) -> FakeCuda:
    library.reset()
    return library


@pytest.fixture
def module(cuda: FakeCuda) -> Module:
    return Module.load(CUBIN, str(cuda.path))


@pytest.fixture
def scale(module: Module) -> Function:
    return module.function("scale")


class Scale(ctypes.Structure):
    """What `scale` takes."""

    _fields_ = (("at", POINTER), ("number", INT), ("share", FLOAT), ("last", ctypes.c_int64))


# Launches


@pytest.mark.parametrize(("overlap", "said"), [(False, ""), (True, " attribute 6=1")])
def test_a_launch_gives_the_driver_what_it_was_given(
    cuda: FakeCuda, scale: Function, overlap: bool, said: str
) -> None:
    """Among it the structure as C lays it, and by an attribute that the kernel may overlap."""
    values = 0x7F0000001000, -3, 0.5, -1
    scale.launch((2, 3, 4), (5, 6, 7), Scale(*values), stream=0xABC, overlap=overlap)
    head = "launch scale grid 2,3,4 block 5,6,7 shared 0 stream 0xabc"
    assert cuda.lines == [f"{head}{said} {struct.pack('<Qifq', *values).hex()}"]


def test_a_thread_without_a_context_gets_the_modules(cuda: FakeCuda, scale: Function) -> None:
    cuda.forget_context()
    for _ in range(2):
        scale.launch((1, 1, 1), (1, 1, 1), Scale(), stream=0)
    first, *rest = [line.split()[:2] for line in cuda.lines]
    assert first == ["context", "0x1234"]
    assert rest == [["launch", "scale"]] * 2


# Errors


@pytest.mark.parametrize(
    ("status", "words", "failure"),
    [
        (OUT_OF_MEMORY, "out of memory, CUDA_ERROR_OUT_OF_MEMORY", Failure.SHORT_OF_MEMORY),
        (ILLEGAL_ADDRESS, "an illegal memory access was encountered", Failure.BROKEN),
        (UNKNOWN, "error 999", Failure.BROKEN),
    ],
)
def test_a_launch_that_fails_says_what_the_worker_does_about_it(
    cuda: FakeCuda, scale: Function, status: int, words: str, failure: Failure
) -> None:
    cuda.fail("cuLaunchKernelEx", status)
    with pytest.raises(DriverError, match=words) as raised:
        scale.launch((1, 1, 1), (1, 1, 1), Scale(), stream=0)
    assert raised.value.status == status
    assert "launch of scale" in str(raised.value)
    assert failure_of(raised.value) is failure
    assert cuda.lines == []


@pytest.mark.parametrize("function", ["cuCtxGetCurrent", "cuModuleLoadData", "cuModuleGetFunction"])
def test_a_cubin_that_cannot_be_loaded_is_an_error(cuda: FakeCuda, function: str) -> None:
    cuda.fail(function, 209)
    with pytest.raises(DriverError, match=function):
        Module.load(CUBIN, str(cuda.path)).function("scale")


def test_a_kernel_that_is_not_in_the_cubin_is_an_error(module: Module) -> None:
    with pytest.raises(DriverError, match="named symbol not found"):
        module.function("none")


def test_without_a_context_nothing_is_loaded(cuda: FakeCuda) -> None:
    cuda.forget_context()
    with pytest.raises(DriverError, match="invalid device context"):
        Module.load(CUBIN, str(cuda.path))


def test_a_machine_without_a_driver_and_one_that_is_too_old_are_told(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=r"none\.so"):
        Module.load(CUBIN, str(tmp_path / "none.so"))
    with pytest.raises(DriverError, match="cuGetErrorString"):
        Module.load(CUBIN, "libm.so.6")


# What cuda.h says


def test_structures_and_numbers_are_those_of_cuda_h(tmp_path: Path) -> None:
    program = fake_cuda.compile_c("layout.c", tmp_path / "layout")
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    theirs = {name: int(value) for name, value in (line.split() for line in said.splitlines())}
    ours = {
        "CUDA_ERROR_INVALID_CONTEXT": driver._INVALID_CONTEXT,
        "CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION": (
            driver._PROGRAMMATIC_STREAM_SERIALIZATION
        ),
    }
    for structure in (driver.CUlaunchConfig, driver.CUlaunchAttribute):
        name = structure.__name__
        ours[name] = driver.ctypes.sizeof(structure)
        members = [member for member, _ in structure._fields_ if member != "value_pad"]
        ours |= {f"{name}.{member}": getattr(structure, member).offset for member in members}
    assert ours == theirs
