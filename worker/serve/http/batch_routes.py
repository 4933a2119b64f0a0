"""The route of batches: up to 32 requests in one, each with its own status."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from worker.api.batch import parse_batch, parse_item
from worker.api.own_fields import BatchAnswer, BatchFields
from worker.errors import DeviceError, JobCancelledError
from worker.job import pipeline
from worker.job.batch import run_beside
from worker.job.context import Job
from worker.logs import event, lines_of
from worker.serve.failures import for_the_user
from worker.serve.http.answers import Json, error_body, status_of
from worker.serve.http.bodies import json_body
from worker.serve.http.door import Door
from worker.serve.http.limits import check_request
from worker.serve.http.schemas import OF_SPEECH, faults
from worker.serve.http.schemas import json_body as body_schema
from worker.settings import Settings

Outcome = dict[str, Any]  # status, and the response or the error


def batch_router(door: Door) -> APIRouter:
    """The route, on this door."""
    router = APIRouter(prefix="/v1", tags=["speech"])

    @router.post(
        "/audio/speech/batch",
        response_model=BatchAnswer,
        responses=faults(*OF_SPEECH),
        openapi_extra=body_schema(BatchFields),
    )
    async def batch(request: Request) -> Response:
        """Speak up to 32 texts; the answer has the outcome of each, in their order."""
        items = parse_batch(await json_body(request))
        running = door.start(partial(_work, items, door.settings, door.limit))
        try:
            outcomes = await running.first(request)
        finally:
            running.close()
        if outcomes is None:
            raise JobCancelledError("the batch was cancelled")
        data = [{"index": index, **outcome} for index, outcome in enumerate(outcomes)]
        return Json({"object": "list", "data": data})

    return router


def _work(
    items: Sequence[object], settings: Settings, at_once: int, job: Job
) -> Iterator[list[Outcome]]:
    tasks = [partial(_outcome, item, settings) for item in items]
    yield list(run_beside(tasks, job, at_once))


def _outcome(item: object, settings: Settings, job: Job) -> Outcome:
    """What comes of one item. Raises what is not its own fault alone."""
    with lines_of(job.id):
        try:
            request = parse_item(item, settings.spark_model, job.components.voices.is_builtin)
            check_request(request, settings)
            response = pipeline.speak(request, job)
        except (JobCancelledError, DeviceError):
            raise
        except Exception as failure:
            return _failed(failure, job)
        return {"status": 200, "response": response.to_json()}


def _failed(failure: Exception, job: Job) -> Outcome:
    shown = for_the_user(failure, job.id)
    if isinstance(shown, DeviceError):
        raise shown from failure
    event(
        logging.WARNING if shown is failure else logging.ERROR,
        "job failed",
        cause=None if shown is failure else failure,
        code=shown.code,
        field=shown.field,
        error=shown.message,
        seconds=job.watch.total,
    )
    status = status_of(shown)
    return {"status": status, **error_body(shown, status)}
