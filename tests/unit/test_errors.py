"""The errors that a user can see: their codes, what they are kinds of, and what breaks a device."""

from __future__ import annotations

import re

import pytest
import torch

from worker import errors
from worker.errors import WorkerError, device_failure, short_of_memory

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
    def below(kind: type[WorkerError]) -> set[str]:
        found = {kind.__name__ for kind in kind.__subclasses__()}
        return found.union(*map(below, kind.__subclasses__()))

    assert below(WorkerError) == set(CODES)


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


@pytest.mark.parametrize(
    ("error", "short", "broken"),
    [
        (OutOfMemoryError("tried to allocate 2 GiB"), True, False),
        (MemoryError("of the host"), True, False),
        (RuntimeError("CUDA error: out of memory\nmaybe asynchronously"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), True, False),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False, True),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access"), False, True),
        (RuntimeError("Triton Error [HIP]: an illegal memory access"), False, False),
        (RuntimeError("shapes do not fit"), False, False),
        (ValueError("'CUDA error: device-side assert triggered' is not a name"), False, False),
        (ValueError("CUDA error: out of memory"), False, False),
        (type("OutOfMemoryError", (Exception,), {})("of something else"), False, False),
    ],
)
def test_short_memory_and_a_broken_device_are_known_by_what_was_said(
    error: Exception, short: bool, broken: bool
) -> None:
    assert short_of_memory(error) is short
    found = device_failure(error)
    assert (found is not None) is broken
    if found is not None:
        assert found.code == "device_failed"
        assert found.message == "the GPU failed; the worker starts anew"


def test_torchs_own_word_for_short_memory_of_the_host_is_known() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60)
    assert short_of_memory(refused.value)
