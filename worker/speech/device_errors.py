"""What an error of torch, CUDA or the host says of the memory or the device, and what follows.

    short of memory   try again with less, or alone (batch/scheduler.py, memory_retry.py); what
                      fails alone too fails in words, and nothing else does
    broken            every later call of the process fails too: the worker ends (DeviceError)
    doubtful          cuDNN and cuBLAS say of short memory what they say of a broken device: taken
                      for short memory, until it fails alone on a device that has plenty

The start needs these before torch is there, so this module imports it where it asks the device.
"""

from __future__ import annotations

from enum import Enum, auto

from worker.errors import DeviceError, MemoryShortError

# Bytes; where so much is free, nothing that is asked for alone fails for want of it.
PLENTY = 4 << 30

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


def device_failure(error: BaseException) -> DeviceError | None:
    """The error, in words for the user, of a process whose GPU is of no more use; else None."""
    return _broken_device() if failure_of(error) is Failure.BROKEN else None


def failed_alone(failure: Failure | None, message: str) -> MemoryShortError | DeviceError:
    """The error, in words for the user, of what was short of memory with the device to itself.

    `message` says what there was too little memory for. To be asked when what the work held was
    given back, for a device that seemed short of memory and has plenty is broken.
    """
    if failure is Failure.SHORT_OR_BROKEN and _has_plenty():
        return _broken_device()
    return MemoryShortError(message)


def _has_plenty() -> bool:
    """Whether a GPU has more memory free than anything asks for, or cannot even say so."""
    import torch  # noqa: PLC0415 - not before it raised something

    if not torch.cuda.is_available():
        return False
    try:
        return torch.cuda.mem_get_info()[0] >= PLENTY
    except RuntimeError:
        return True


def _broken_device() -> DeviceError:
    return DeviceError("the GPU failed and this worker is being replaced; send the job again")
