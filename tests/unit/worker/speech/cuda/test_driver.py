"""The driver's calls, on a libcuda that is compiled from C against NVIDIA's own declarations."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import fake_cuda
from tests.support.fake_cuda import FakeCuda
from worker.speech.cuda import driver
from worker.speech.cuda.driver import (
    BYTE,
    FLOAT,
    INT,
    INT64,
    POINTER,
    UNSIGNED,
    DriverError,
    Function,
    Module,
    Needs,
)
from worker.speech.device_errors import Failure, failure_of

pytestmark = pytest.mark.slow("compiles C")

CUBIN = b"scale 8 4 4\nmixed 1 8 4 1 8\nempty\nwhole 24"
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
    return module.function("scale", (POINTER, INT, FLOAT))


def hexadecimal(layout: str, *values: Any) -> str:
    return " ".join(
        struct.pack(f"<{one}", value).hex() for one, value in zip(layout, values, strict=True)
    )


# Launches


def test_a_launch_gives_the_driver_what_it_was_given(cuda: FakeCuda, scale: Function) -> None:
    scale.launch((2, 3, 4), (5, 6, 7), 0x7F0000001000, -3, 0.5, stream=0xABC, shared=512)
    arguments = hexadecimal("Qif", 0x7F0000001000, -3, 0.5)
    head = "launch scale grid 2,3,4 block 5,6,7 shared 512 stream 0xabc"
    assert cuda.lines == [f"{head} {arguments}"]


def test_a_launch_that_may_overlap_says_so_by_an_attribute(cuda: FakeCuda, scale: Function) -> None:
    scale.launch((2, 3, 4), (5, 6, 7), 16, 1, 2.0, stream=0xABC, shared=512, overlap=True)
    arguments = hexadecimal("Qif", 16, 1, 2.0)
    head = "launch scale grid 2,3,4 block 5,6,7 shared 512 stream 0xabc attribute 6=1"
    assert cuda.lines == [f"{head} {arguments}"]


def test_arguments_of_all_sizes_are_aligned_as_in_c(cuda: FakeCuda, module: Module) -> None:
    mixed = module.function("mixed", (BYTE, POINTER, UNSIGNED, BYTE, INT64))
    mixed.launch((1, 1, 1), (1, 1, 1), 255, 0, 0xFFFFFFFF, 7, -1, stream=0)
    (line,) = cuda.lines
    assert line.endswith(" " + hexadecimal("BQIBq", 255, 0, 0xFFFFFFFF, 7, -1))


def test_a_kernel_without_arguments_is_launched(cuda: FakeCuda, module: Module) -> None:
    empty = module.function("empty", ())
    for overlap in (False, True):
        empty.launch((1, 1, 1), (32, 1, 1), stream=0, overlap=overlap)
    assert [line.split()[:2] for line in cuda.lines] == [["launch", "empty"]] * 2


def test_the_arguments_of_one_launch_are_not_those_of_the_next(
    cuda: FakeCuda, module: Module, scale: Function
) -> None:
    again = module.function("scale", (POINTER, INT, FLOAT))
    for number, function in enumerate((scale, again, scale)):
        function.launch((1, 1, 1), (1, 1, 1), number, number, 0.0, stream=0)
    assert [line.split()[-3] for line in cuda.lines] == [hexadecimal("Q", n) for n in range(3)]


@pytest.mark.parametrize(
    "arguments", [(16, 1), (16, 1, 2.0, 3), (16, 0.5, 2.0), (16, 1 << 31, 0.0)]
)
def test_arguments_that_do_not_fit_the_signature_are_refused(
    cuda: FakeCuda, scale: Function, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(struct.error):
        scale.launch((1, 1, 1), (1, 1, 1), *arguments, stream=0)
    assert cuda.lines == []
    scale.launch((1, 1, 1), (1, 1, 1), 16, 1, 2.0, stream=0)
    assert len(cuda.lines) == 1


def test_threads_do_not_fill_each_others_arguments(cuda: FakeCuda, scale: Function) -> None:
    """The fake reads its lines without a lock, so each launch waits for its turn in the driver."""
    turn = threading.Lock()
    real = scale._launch_plainly

    def one_at_a_time(*arguments: Any) -> Any:
        with turn:
            return real(*arguments)

    scale._launch_plainly = one_at_a_time
    with ThreadPoolExecutor(4) as threads:
        for n in range(200):
            threads.submit(scale.launch, (n, 1, 1), (1, 1, 1), n, n, 0.0, stream=n + 1)
    launched = [line.split() for line in cuda.lines if line.startswith("launch")]
    assert len(launched) == 200
    for words in launched:
        n = int(words[3].split(",")[0])
        assert (words[9], words[10]) == (hex(n + 1), hexadecimal("Q", n))


def test_a_thread_without_a_context_gets_the_modules(cuda: FakeCuda, scale: Function) -> None:
    for overlap in (False, True):
        cuda.forget_context()
        scale.launch((1, 1, 1), (1, 1, 1), 16, 1, 2.0, stream=0, overlap=overlap)
    assert [line.split()[:2] for line in cuda.lines] == [
        *(["context", "0x1234"], ["launch", "scale"]),
    ] * 2


def test_more_shared_memory_than_any_kernel_has_is_asked_for_once(
    cuda: FakeCuda, scale: Function
) -> None:
    free = (48 << 10) - 1024  # the kernel has 1,024 bytes of its own
    for shared in (free, free + 16, free + 16, 64 << 10, 1024):
        scale.launch((1, 1, 1), (1, 1, 1), 16, 1, 2.0, stream=0, shared=shared)
    asked = [line for line in cuda.lines if line.startswith("allow")]
    assert asked == [f"allow scale {free + 16}", f"allow scale {64 << 10}"]
    assert sum(line.startswith("launch") for line in cuda.lines) == 5
    with pytest.raises(DriverError, match="invalid argument"):
        scale.launch((1, 1, 1), (1, 1, 1), 16, 1, 2.0, stream=0, shared=1 << 20)


def test_what_a_kernel_needs_is_told(scale: Function) -> None:
    assert scale.needs() == Needs(registers=40, local_bytes=16, shared_bytes=1024, threads=512)


# Launches with a structure


class Whole(ctypes.Structure):
    """What `whole` takes."""

    _fields_ = (("at", POINTER), ("number", INT), ("share", FLOAT), ("last", INT64))


@pytest.mark.parametrize("overlap", [False, True])
def test_a_structure_is_given_as_it_lies(cuda: FakeCuda, module: Module, overlap: bool) -> None:
    whole = module.function("whole", ())
    values = 0x7F0000001000, -3, 0.5, -1
    whole.launch_with((2, 3, 4), (5, 6, 7), Whole(*values), stream=0xABC, overlap=overlap)
    head = "launch whole grid 2,3,4 block 5,6,7 shared 0 stream 0xabc"
    said = " attribute 6=1" if overlap else ""
    assert cuda.lines == [f"{head}{said} {hexadecimal('Qifq', *values).replace(' ', '')}"]


def test_a_thread_without_a_context_gets_it_for_a_structure_too(
    cuda: FakeCuda, module: Module
) -> None:
    whole = module.function("whole", ())
    cuda.forget_context()
    whole.launch_with((1, 1, 1), (1, 1, 1), Whole(), stream=0)
    assert [line.split()[:2] for line in cuda.lines] == [["context", "0x1234"], ["launch", "whole"]]


# Errors


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(
    ("status", "words", "failure"),
    [
        (OUT_OF_MEMORY, "out of memory, CUDA_ERROR_OUT_OF_MEMORY", Failure.SHORT_OF_MEMORY),
        (ILLEGAL_ADDRESS, "an illegal memory access was encountered", Failure.BROKEN),
        (UNKNOWN, "error 999", Failure.BROKEN),
    ],
)
def test_a_launch_that_fails_says_what_the_worker_does_about_it(
    cuda: FakeCuda, scale: Function, status: int, words: str, failure: Failure, overlap: bool
) -> None:
    cuda.fail("cuLaunchKernelEx" if overlap else "cuLaunchKernel", status)
    with pytest.raises(DriverError, match=words) as raised:
        scale.launch((1, 1, 1), (1, 1, 1), 16, 1, 2.0, stream=0, overlap=overlap)
    assert raised.value.status == status
    assert "launch of scale" in str(raised.value)
    assert failure_of(raised.value) is failure
    cuda.fail("cuLaunchKernelEx", status)
    with pytest.raises(DriverError, match=words) as raised:
        scale.launch_with((1, 1, 1), (1, 1, 1), Whole(), stream=0, overlap=overlap)
    assert raised.value.status == status
    assert failure_of(raised.value) is failure
    assert cuda.lines == []


@pytest.mark.parametrize(
    "function", ["cuCtxGetCurrent", "cuModuleLoadData", "cuModuleGetFunction", "cuFuncGetAttribute"]
)
def test_a_cubin_that_cannot_be_loaded_is_an_error(cuda: FakeCuda, function: str) -> None:
    cuda.fail(function, 209)
    with pytest.raises(DriverError, match=function):
        Module.load(CUBIN, str(cuda.path)).function("scale", (POINTER, INT, FLOAT))


def test_a_kernel_that_is_not_in_the_cubin_is_an_error(module: Module) -> None:
    with pytest.raises(DriverError, match="named symbol not found"):
        module.function("other", ())


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
        "CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK": driver._THREADS,
        "CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES": driver._SHARED,
        "CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES": driver._LOCAL,
        "CU_FUNC_ATTRIBUTE_NUM_REGS": driver._REGISTERS,
        "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES": driver._DYNAMIC_SHARED,
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
