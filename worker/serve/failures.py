"""What went wrong, in words for the user: the same at both doors."""

from __future__ import annotations

from worker.errors import InternalError, MemoryShortError, WorkerError, disk_failure
from worker.speech.device_errors import device_failure, short_of_memory


def for_the_user(error: Exception, job_id: str) -> WorkerError:
    """What an exception means for the user; one of ours says so itself."""
    if isinstance(error, WorkerError):
        return error
    if short_of_memory(error):  # elsewhere than where the engine tries again
        return MemoryShortError("not enough memory for this job; send it again")
    known: WorkerError | None = device_failure(error) or disk_failure(error)
    return known or InternalError(
        f"internal error; the worker's log has the traceback under job {job_id}"
    )
