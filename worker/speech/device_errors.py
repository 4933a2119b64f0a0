"""What torch's, CUDA's or the host's error says of the memory or the device: one rule."""

from __future__ import annotations

from enum import Enum, auto

from worker.errors import DeviceError

# What an allocation that failed says, beside torch's own exception, which TorchScript wraps: of
# torch's allocators (the one for GPUs fails an assertion where NVML cannot tell it who has the
# memory), C++, Linux, CUDA and its libraries.
_SHORT = (
    *("out of memory", "allocate memory", "bad_alloc", "DefaultCPUAllocator: "),
    *("_ALLOC_FAILED", "_ALLOCATION_FAILED", "NVML_SUCCESS == "),
)
# cuDNN tries each of its algorithms, and where none gets memory says that there is none; cuBLAS and
# cuDNN ask for their own when a thread first uses them. A library that is broken says the same.
_DOUBTFUL = ("unable to find an engine", "CUBLAS_STATUS_NOT_INIT", "CUDNN_STATUS_NOT_INIT")
# Among them: a capture that failed half-way leaves torch's allocator unable to give memory back.
_BROKEN = (
    *("CUDA error", "CUDA driver error", "CUDA unknown error", "CUDACachingAllocator.cpp"),
    *("CUDA driver initialization failed", "No CUDA GPUs are available", "Triton Error [CUDA]"),
    *("CUBLAS_STATUS_", "cuDNN error", "CUDNN_STATUS_", "cuFFT error", "captures_underway"),
)


class Failure(Enum):
    """What torch's, CUDA's or the host's error says of the machine."""

    SHORT_OF_MEMORY = auto()  # an allocation failed: everything else still works
    SHORT_OR_BROKEN = auto()  # most likely so; another try with more room tells
    BROKEN = auto()  # every later call of the process fails too


def failure_of(error: BaseException) -> Failure | None:
    """What an error says of the memory or the device; None where it says nothing of them.

    The one place that knows the words. Only a RuntimeError, as torch raises it, is read: any other
    may quote what a user wrote.
    """
    # torch's own is named, since this module does not import it.
    if isinstance(error, MemoryError):
        return Failure.SHORT_OF_MEMORY
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or any(sign in text for sign in _SHORT):
        return Failure.SHORT_OF_MEMORY
    if any(sign in text for sign in _DOUBTFUL):
        return Failure.SHORT_OR_BROKEN
    return Failure.BROKEN if any(sign in text for sign in _BROKEN) else None


def short_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the device or the host, so that less may still succeed."""
    return failure_of(error) in {Failure.SHORT_OF_MEMORY, Failure.SHORT_OR_BROKEN}


def device_failure(error: Exception) -> DeviceError | None:
    """The error, in words for the user, of a process whose GPU is of no more use; else None."""
    return broken_device() if failure_of(error) is Failure.BROKEN else None


def broken_device() -> DeviceError:
    """Make the error for a GPU that failed."""
    return DeviceError("the GPU failed; the worker starts anew")
