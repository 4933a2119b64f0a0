"""The errors that a user can see.

    WorkerError                       code              meaning
    |-- RequestError                  invalid_request   the job asks for something that cannot be
    |   `-- NotAvailableError         not_available     ... that this worker cannot do (yet)
    |-- VoiceError                    invalid_voice     the reference audio or saved voice is no use
    |-- DownloadError                 download_failed   a URL could not be fetched, or may not be
    |-- SynthesisError                synthesis_failed  the model gave nothing that can be heard
    |-- StorageError                  storage_failed    the bucket or folder refused
    |   `-- NotFoundError               not_found         ... since nothing is under that key
    |-- BusyError                     busy              more is waiting than the worker takes
    |-- JobCancelledError             cancelled         the platform or the caller gave the job up
    |-- MemoryShortError              out_of_memory     memory was short; the worker goes on
    |-- DeviceError                   device_failed     the GPU failed; the worker starts anew
    `-- SetupError                    setup_failed      the worker itself is not complete

Each is raised where it is known and answered in one place, `handler.py`. Anything else that
escapes is answered there as `internal_error`. A class's docstring says what happened and, after
an empty line, what to do: docs/API.md takes both.
"""

from __future__ import annotations

import errno
from typing import ClassVar

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


class WorkerError(Exception):
    """An error with a stable `code`, a `message` that says what to do, and maybe a `field`.

    `message` is for the user: it never holds a secret, a local path or a traceback.
    """

    code: ClassVar[str] = "worker_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class RequestError(WorkerError):
    """The job asks for something that cannot be.

    Change what the message names; the same job would fail again.
    """

    code = "invalid_request"


class NotAvailableError(RequestError):
    """The job asks for something that this worker or its model cannot do.

    Leave the field out, or use a worker and model that have it.
    """

    code = "not_available"


class VoiceError(WorkerError):
    """The reference audio or the saved voice is unusable.

    Give other audio or another name; `save_voice` makes saved voices.
    """

    code = "invalid_voice"


class DownloadError(WorkerError):
    """A URL could not be fetched, or may not be.

    Check that the URL can be read from the internet and has not expired.
    """

    code = "download_failed"


class SynthesisError(WorkerError):
    """The model gave nothing that can be heard.

    Try again with another seed, a lower temperature or other text.
    """

    code = "synthesis_failed"


class StorageError(WorkerError):
    """The bucket or the local folder refused.

    Try again; if it stays, the operator should check the bucket's settings.
    """

    code = "storage_failed"


def disk_failure(error: BaseException) -> StorageError | None:
    """The error, in words for the user, of a disk of the worker that takes no more; else None."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return StorageError(
            f"the worker's own disk failed ({error.strerror}); send the job again. If it stays, "
            "the operator should give the worker a larger container disk"
        )
    return None


class NotFoundError(StorageError):
    """Nothing is stored under that key.

    Check the name; the operator should see that nothing deletes the file while it is needed.
    """

    code = "not_found"


class BusyError(WorkerError):
    """More sentences wait for the model than this worker takes.

    Try again in a moment; the operator can add workers or lower MAX_CONCURRENCY.
    """

    code = "busy"


class JobCancelledError(WorkerError):
    """The job was cancelled before it ended.

    Nothing is to be done; the same job may be sent again.
    """

    code = "cancelled"


class MemoryShortError(WorkerError):
    """The memory did not suffice, not even for this part of the job alone.

    Send the job again. If it stays, use a shorter reference and shorter sentences; the operator can
    lower MAX_CONCURRENCY or choose a larger GPU.
    """

    code = "out_of_memory"


class DeviceError(WorkerError):
    """The GPU failed.

    Try again: the job will run on a fresh worker.
    """

    code = "device_failed"


class SetupError(WorkerError):
    """The worker itself is not complete: a model, a folder or a setting is missing.

    The operator should install or set what the message names.
    """

    code = "setup_failed"
