"""The errors that a user can see: their codes, what they are kinds of, and those of a disk."""

from __future__ import annotations

import errno
import os
import re

import pytest

from tests.conftest import REPOSITORY
from worker import errors
from worker.api import model_names
from worker.errors import WorkerError, disk_failure, in_one_line
from worker.serve.http import answers, text_socket

HTTP = REPOSITORY / "docs" / "HTTP.md"
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
    "InternalError": "internal_error",
}


def test_each_error_has_the_code_that_the_tree_names() -> None:
    """Programs look at the codes, so they stay."""
    assert {name: getattr(errors, name).code for name in CODES} == CODES
    drawn = re.findall(r"-- (\w+) +(\w+) ", errors.__doc__ or "")
    assert dict(drawn) == CODES


def test_the_tree_holds_every_error() -> None:
    """One that stands elsewhere is that part's own business: users see its parent's code.

    But for the HTTP door, whose clients know other codes: its document has them.
    """
    assert {answers, model_names, text_socket}  # they have some

    def below(kind: type[WorkerError]) -> set[type[WorkerError]]:
        found = set(kind.__subclasses__())
        return found.union(*map(below, kind.__subclasses__()))

    kinds = below(WorkerError)
    assert {k.__name__ for k in kinds if k.__module__ == errors.__name__} == set(CODES)
    own = {k.code for k in kinds if k.__module__ != errors.__name__ and "code" in vars(k)}
    assert {"invalid_api_key", "model_not_found", "wrong_type"} < own
    section = HTTP.read_text().partition("## Errors")[2].partition("\n## ")[0]
    written = set(re.findall(r"\| `(\w+)` \|$", section, re.MULTILINE))
    assert own == written


@pytest.mark.parametrize("name", CODES)
def test_what_an_error_is_a_kind_of(name: str) -> None:
    """Who catches a StorageError means a missing file too, and so on."""
    parents = {"NotAvailableError": errors.RequestError, "NotFoundError": errors.StorageError}
    assert getattr(errors, name).__bases__ == (parents.get(name, WorkerError),)


def test_an_error_tells_its_message_and_its_field() -> None:
    error = errors.VoiceError("voice: it is silent", field="voice")
    assert (error.message, str(error), error.field) == (*["voice: it is silent"] * 2, "voice")
    assert errors.VoiceError("it is silent").field is None


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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (errors.DeviceError("the GPU failed"), "the GPU failed"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (KeyError(), "KeyError: "),
    ],
)
def test_an_error_is_told_in_one_line(error: Exception, line: str) -> None:
    assert in_one_line(error) == line
