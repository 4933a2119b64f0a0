"""The errors that a user can see.

    WorkerError                       code              meaning
    |-- RequestError                  invalid_request   the job asks for something impossible
    |   `-- NotAvailableError         not_available     ... for what this worker or model lacks
    |-- VoiceError                    invalid_voice     the reference or saved voice is unusable
    |-- DownloadError                 download_failed   a URL cannot be fetched, or may not be
    |-- SynthesisError                synthesis_failed  the model made no audible speech
    |-- StorageError                  storage_failed    the bucket or folder refused a request
    |   `-- NotFoundError             not_found         ... since nothing is stored under that key
    |-- BusyError                     busy              too many sentences wait for the model
    |-- JobCancelledError             cancelled         the platform or the client cancelled the job
    |-- MemoryShortError              out_of_memory     not enough memory; the worker goes on
    |-- DeviceError                   device_failed     the GPU failed; the worker is replaced
    |-- SetupError                    setup_failed      the worker lacks something and cannot start
    `-- InternalError                 internal_error    any exception that is none of these

Each is raised where it is known and answered in one place, serve/runpod_handler.py. The docstring
of a class says in its first line what happened and, after an empty line, what to do: docs/API.md
takes both.
"""

from __future__ import annotations

import errno
from typing import ClassVar

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


class WorkerError(Exception):
    """An error with a stable `code`, a `message` and, where one is to blame, the `field`.

    The message is for the user and says what to do. It holds no secret, local path or traceback.
    """

    code: ClassVar[str] = "worker_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class RequestError(WorkerError):
    """The job asks for something impossible.

    Change what the message names; the same job would fail again.
    """

    code = "invalid_request"


class NotAvailableError(RequestError):
    """The job asks for something that this worker or its model cannot do.

    Leave the field out, or use a worker and a model that can.
    """

    code = "not_available"


class VoiceError(WorkerError):
    """The reference audio or the saved voice is unusable.

    Use another recording or another name; `save_voice` makes saved voices.
    """

    code = "invalid_voice"


class DownloadError(WorkerError):
    """A URL cannot be fetched, or may not be.

    Check that the URL is public and has not expired.
    """

    code = "download_failed"


class SynthesisError(WorkerError):
    """The model's speech is unusable: silent, far too long, or of a sentence that does not fit.

    Try again with another seed, a lower temperature or other text.
    """

    code = "synthesis_failed"


class StorageError(WorkerError):
    """The bucket, the local folder or the worker's own disk could not read or write a file.

    Send the job again; if it still fails, the operator should check the bucket's settings.
    """

    code = "storage_failed"


class NotFoundError(StorageError):
    """A file that the job needs is not in the storage.

    Send the job again; the operator should check that no lifecycle rule deletes files in use.
    """

    code = "not_found"


class BusyError(WorkerError):
    """More sentences wait for the model than this worker accepts.

    Send the job again in a moment; the operator can add workers or lower MAX_CONCURRENCY.
    """

    code = "busy"


class JobCancelledError(WorkerError):
    """The job was cancelled before it ended.

    There is nothing to do; the same job may be sent again.
    """

    code = "cancelled"


class MemoryShortError(WorkerError):
    """Not enough memory for a part of the job, even with nothing beside it.

    Send the job again. If it still fails, use a shorter reference and shorter sentences; the
    operator can lower MAX_CONCURRENCY or choose a larger GPU.
    """

    code = "out_of_memory"


class DeviceError(WorkerError):
    """The GPU failed, and the worker is being replaced.

    Send the job again: it will run on a fresh worker.
    """

    code = "device_failed"


class SetupError(WorkerError):
    """The worker cannot start: a model, a folder or a setting is missing or wrong.

    The operator should install or set what the message names.
    """

    code = "setup_failed"


class InternalError(WorkerError):
    """The worker failed by a fault of its own.

    Report it, with the traceback that the worker's log has under the job's id.
    """

    code = "internal_error"


def disk_failure(error: BaseException) -> StorageError | None:
    """The error for the user, where the worker's own disk is full or broken; else None."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return StorageError(
            f"the worker's own disk failed ({error.strerror}); send the job again. If it still "
            "fails, the operator should give the worker a larger container disk"
        )
    return None


def in_one_line(error: BaseException) -> str:
    """An error for the log: its message if it is one of ours, else its type and first line."""
    if isinstance(error, WorkerError):
        return error.message
    return f"{type(error).__name__}: {error}".splitlines()[0]
