"""RunPod's only door: job -> request -> pipeline -> response.

Every error is answered here: as `{"error": TEXT}`, which RunPod shows as the job's failure, where
TEXT is a JSON object with code, message and field.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from worker import pipeline
from worker.errors import WorkerError
from worker.observe import log
from worker.parts import Parts
from worker.request import parse_request

Job = dict[str, Any]  # RunPod's: {"id": ..., "input": ...}
Handler = Callable[[Job], Awaitable[dict[str, Any]]]


def make_handler(parts: Parts) -> Handler:
    """The function that RunPod calls with each job."""

    async def handle(job: Job) -> dict[str, Any]:
        # In a thread, so that the event loop goes on pinging and listening meanwhile.
        return await asyncio.to_thread(answer_job, job, parts)

    return handle


def answer_job(job: Job, parts: Parts) -> dict[str, Any]:
    """Do one job; the answer as RunPod wants it. Never raises; leaves no temporary file."""
    job_id = str(job.get("id", ""))
    try:
        request = parse_request(job.get("input"))
        with TemporaryDirectory(prefix="spark-tts-") as folder:
            response = pipeline.speak(request, job_id, parts, Path(folder))
        log.info(
            "job %s: %.2f s of speech in %.2f s",
            job_id,
            response.duration,
            response.metrics.seconds["total"],
        )
        return dict(response.to_json())
    except WorkerError as error:
        log.warning("job %s: %s: %s", job_id, error.code, error.message)
        return _failure(error.code, error.message, error.field)
    except Exception:
        log.exception("job %s: internal error", job_id)
        return _failure(
            "internal_error",
            f"the worker failed in a way that it does not know; its log for job {job_id} says how",
            None,
        )


def _failure(code: str, message: str, field: str | None) -> dict[str, Any]:
    return {"error": json.dumps({"code": code, "message": message, "field": field})}
