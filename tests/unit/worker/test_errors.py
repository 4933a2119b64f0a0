"""The errors that a user can see: their codes, what they are kinds of, and what breaks a device."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from worker import errors
from worker.errors import WorkerError, disk_failure
from worker.speech.device_errors import Failure, device_failure, failure_of, short_of_memory

CODES = {
    "RequestError": "invalid_request",
    "NotAvailableError": "not_available",
    "VoiceError": "invalid_voice",
    "DownloadError": "download_failed",
    "SynthesisError": "synthesis_failed",
    "StorageError": "storage_failed",
    "NotFoundError": "not_found",
    "BusyError": "busy",
    "JobCancelledError": "cancelled",
    "MemoryShortError": "out_of_memory",
    "DeviceError": "device_failed",
    "SetupError": "setup_failed",
}


def test_each_error_has_the_code_that_the_tree_names() -> None:
    """Programs look at the codes, so they stay."""
    assert {name: getattr(errors, name).code for name in CODES} == CODES
    drawn = re.findall(r"-- (\w+) +(\w+) ", errors.__doc__ or "")
    assert dict(drawn) == CODES


def test_the_tree_holds_every_error() -> None:
    """One that stands elsewhere is that part's own business: users see its parent's code."""

    def below(kind: type[WorkerError]) -> set[type[WorkerError]]:
        found = set(kind.__subclasses__())
        return found.union(*map(below, kind.__subclasses__()))

    kinds = below(WorkerError)
    assert {k.__name__ for k in kinds if k.__module__ == errors.__name__} == set(CODES)
    assert all("code" not in vars(k) for k in kinds if k.__module__ != errors.__name__)


@pytest.mark.parametrize("name", CODES)
def test_what_an_error_is_a_kind_of(name: str) -> None:
    """Who catches a StorageError means a missing file too, and so on."""
    parents = {"NotAvailableError": errors.RequestError, "NotFoundError": errors.StorageError}
    assert getattr(errors, name).__bases__ == (parents.get(name, WorkerError),)


def test_an_error_tells_its_message_and_its_field() -> None:
    error = errors.VoiceError("voice: it is silent", field="voice")
    assert (error.message, str(error), error.field) == (*["voice: it is silent"] * 2, "voice")
    assert errors.VoiceError("it is silent").field is None


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
        assert found.message == "the GPU failed; the worker starts anew"


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
    worker = Path(errors.__file__).parent
    others = [path for path in worker.rglob("*.py") if path != Path(errors.__file__)]
    assert len(others) > 50
    for path in others:
        text = path.read_text(encoding="utf-8")
        assert "CUDA error" not in text, path
        assert '"CUDA" in' not in text, path
        assert 'OutOfMemoryError"' not in text, path


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO"])
def test_a_disk_that_takes_no_more_is_the_storage(name: str) -> None:
    number = getattr(errno, name)
    found = disk_failure(OSError(number, os.strerror(number), "/tmp/secret"))
    assert found is not None
    assert found.code == "storage_failed"
    assert os.strerror(number) in found.message
    assert "secret" not in found.message


@pytest.mark.parametrize("error", [OSError("odd"), FileNotFoundError(2, "no"), ValueError(28)])
def test_any_other_error_is_no_disk_s(error: Exception) -> None:
    assert disk_failure(error) is None
