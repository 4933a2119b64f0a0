"""What breaks a device, what is short of memory, and what either is told as."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worker.errors import DeviceError, MemoryShortError
from worker.speech import device_errors
from worker.speech.device_errors import (
    PLENTY,
    Failure,
    device_failure,
    failed_alone,
    failure_of,
    short_of_memory,
)

GPU_FAILED = "the GPU failed and this worker is being replaced; send the job again"


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


SHORT, DOUBT, BROKEN = Failure.SHORT_OF_MEMORY, Failure.SHORT_OR_BROKEN, Failure.BROKEN
WRAPPED = """The following operation failed in the TorchScript interpreter.
Traceback of TorchScript (most recent call last):
RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB."""


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        # torch 2.6, libc10_cuda
        ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of", SHORT),
        ("Allocation on device 0 would exceed allowed memory. (out of memory)", SHORT),
        ("CUDA error: out of memory\nmaybe asynchronously", SHORT),
        ("CUDA driver error: out of memory", SHORT),
        ('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/x/CUDACachingAllocator.cpp":1015', SHORT),
        (WRAPPED, SHORT),
        ("CUDA error: an illegal memory access was encountered", BROKEN),
        ("CUDA error: device-side assert triggered", BROKEN),
        ("CUDA error: uncorrectable ECC error encountered", BROKEN),
        ("CUDA error: unspecified launch failure", BROKEN),
        ("CUDA driver error: unknown error", BROKEN),
        ("CUDA unknown error - this may be due to an incorrectly set up environment", BROKEN),
        ("CUDA driver initialization failed, you might not have a CUDA gpu.", BROKEN),
        ("No CUDA GPUs are available", BROKEN),
        ('captures_underway.empty() INTERNAL ASSERT FAILED at "/x/CUDACachingAlloc"', BROKEN),
        ('!to_map INTERNAL ASSERT FAILED at "/x/CUDACachingAllocator.cpp":2300', BROKEN),
        # torch, CPU
        ("err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9", SHORT),
        ("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.", SHORT),
        ("Could not allocate memory for Tensor SizesAndStrides!", SHORT),
        ("unable to mmap 40 bytes from file <model.bin>: Cannot allocate memory (12)", SHORT),
        ("std::bad_alloc", SHORT),
        # its libraries
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", SHORT),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(`", BROKEN),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", DOUBT),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", SHORT),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", SHORT),  # cuDNN 9
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", SHORT),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", DOUBT),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", BROKEN),
        ("GET was unable to find an engine to execute this computation", DOUBT),
        ("FIND was unable to find an engine to execute this computation", DOUBT),
        ("cuFFT error: CUFFT_ALLOC_FAILED", SHORT),
        ("cuFFT error: CUFFT_INTERNAL_ERROR", BROKEN),
        ("std::bad_alloc: cudaErrorMemoryAllocation: out of memory", SHORT),  # thrust
        ("Triton Error [CUDA]: an illegal memory access", BROKEN),
        ("Triton Error [CUDA]: out of memory", SHORT),
        # neither
        ("Triton Error [HIP]: an illegal memory access", None),
        ("shapes do not fit", None),
        ("CUDA generator expects graph capture to be underway", None),
        ("q must be on CUDA", None),
        ("", None),
    ],
)
def test_short_memory_and_a_broken_device_are_known_by_what_was_said(
    text: str, failure: Failure | None
) -> None:
    error = RuntimeError(text)
    assert failure_of(error) is failure
    assert short_of_memory(error) is (failure in {SHORT, DOUBT})  # worth another try, with less
    found = device_failure(error)
    assert (found is not None) is (failure is BROKEN)
    if found is not None:
        assert found.code == "device_failed"
        assert found.message == GPU_FAILED


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (OutOfMemoryError("tried to allocate 2 GiB"), SHORT),
        (torch.OutOfMemoryError("no memory for the waveform of a window"), SHORT),  # our C's
        (MemoryError("of the host"), SHORT),
        (MemoryError(), SHORT),
        (ValueError("'CUDA error: device-side assert triggered' is not a name"), None),
        (ValueError("CUDA error: out of memory"), None),
        (KeyError("CUDA error: an illegal memory access"), None),
        (type("OutOfMemoryError", (Exception,), {})("of something else"), None),
    ],
)
def test_what_may_quote_a_user_is_not_read(error: Exception, failure: Failure | None) -> None:
    assert failure_of(error) is failure


def test_an_array_that_does_not_fit_the_host_is_short_memory() -> None:
    with pytest.raises(MemoryError) as refused:
        np.empty(1 << 58, np.uint8)
    assert failure_of(refused.value) is SHORT


def test_torchs_own_word_for_short_memory_of_the_host_is_known() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60)
    assert failure_of(refused.value) is SHORT


def test_a_broken_device_has_one_message() -> None:
    """The words are not elsewhere in the code: there is one classifier."""
    worker = Path(device_errors.__file__).parents[1]
    others = [path for path in worker.rglob("*.py") if path != Path(device_errors.__file__)]
    assert len(others) > 50
    for path in others:
        text = path.read_text(encoding="utf-8")
        assert "CUDA error" not in text, path
        assert '"CUDA" in' not in text, path
        assert 'OutOfMemoryError"' not in text, path


# With the device to itself


@pytest.mark.parametrize("failure", [Failure.SHORT_OF_MEMORY, Failure.SHORT_OR_BROKEN])
@pytest.mark.parametrize(
    "free", [None, 0, PLENTY - 1, PLENTY, 80 << 30, RuntimeError("CUDA error: unknown")]
)
def test_what_fails_alone_is_told_by_what_it_said_and_what_is_free(
    failure: Failure, free: int | Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: a CPU. A true want of memory never breaks the device: others may have given back."""

    def told() -> tuple[int, int]:
        if isinstance(free, int):
            return free, 80 << 30
        assert free is not None
        raise free

    monkeypatch.setattr(torch.cuda, "is_available", lambda: free is not None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", told)
    plenty = free is not None and (not isinstance(free, int) or free >= PLENTY)
    found = failed_alone(failure, "not enough memory for a test")
    if failure is Failure.SHORT_OR_BROKEN and plenty:
        assert isinstance(found, DeviceError)
        assert found.message == GPU_FAILED
    else:
        assert isinstance(found, MemoryShortError)
        assert found.message == "not enough memory for a test"


@pytest.mark.slow("starts a process")
def test_it_can_be_asked_before_torch_is_there() -> None:
    script = "import sys, worker.speech.device_errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
