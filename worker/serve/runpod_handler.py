"""RunPod's only door: job -> request -> pipeline -> response.

Every error is answered here: as `{"error": TEXT}`, which RunPod shows as the job's failure, where
TEXT is a JSON object with code, message and field.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from worker.api.request import parse_request
from worker.api.response import SpeechResponse, SpokenSegment
from worker.cancellation import Cancellation
from worker.components import Components
from worker.errors import (
    DeviceError,
    JobCancelledError,
    MemoryShortError,
    WorkerError,
    disk_failure,
)
from worker.job import pipeline
from worker.job.answer_record import AnswerRecords
from worker.job.context import Announce, Job
from worker.job.metrics import overhead
from worker.job.seeds import job_seed
from worker.logs import event, lines_of, log
from worker.serve.progress import Answer, RunPodJob, Send, hand_over, send_progress, send_to_nobody
from worker.serve.shutdown import RunningJobs
from worker.speech.device_errors import device_failure, short_of_memory
from worker.stopwatch import Stopwatch
from worker.storage.keys import Keys
from worker.temp_folders import scratch_prefix

Handler = Callable[[RunPodJob], Awaitable[Answer]]

ANNOUNCING_SECONDS = 5.0  # that an answer waits for progress updates still under way


@dataclass(frozen=True)
class Service:
    """How this worker does its jobs."""

    max_jobs: int = 8  # at the same time
    streams: bool = False  # whether a job is streamed that does not say
    remembers: bool = False  # whether a job may be delivered again, and is then answered as before
    send: Send = send_to_nobody
    running: RunningJobs = field(default_factory=RunningJobs)


@dataclass(frozen=True)
class _Order:
    """One job on its way through a thread."""

    job: RunPodJob
    announce: Announce
    cancellation: Cancellation = field(default_factory=Cancellation)
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def id(self) -> str:
        given = self.job.get("id")
        return given if isinstance(given, str) else ""


def make_handler(components: Components, service: Service | None = None) -> Handler:
    """The function that RunPod calls with each job of an ordinary endpoint."""
    service = service or Service()
    work = _worker_threads(components, service)

    async def handle(job: RunPodJob) -> Answer:
        segments: asyncio.Queue[SpokenSegment | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        order = _Order(job, lambda s: hand_over(loop, segments, s))
        service.running.enter(order.cancellation)
        telling = asyncio.create_task(send_progress(job, segments, service.send))
        try:
            answer = await work(order)
            # Before the answer, so that no update comes after it.
            segments.put_nowait(None)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(telling), ANNOUNCING_SECONDS)
            return answer
        finally:
            telling.cancel()

    return handle


def make_stream_handler(
    components: Components, service: Service
) -> Callable[[RunPodJob], AsyncGenerator[Answer, None]]:
    """The generator that RunPod calls where its /stream is wanted: sentences, then the answer."""
    work = _worker_threads(components, service)

    async def stream(job: RunPodJob) -> AsyncGenerator[Answer, None]:
        segments: asyncio.Queue[SpokenSegment | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        order = _Order(job, lambda s: hand_over(loop, segments, s))
        service.running.enter(order.cancellation)
        answering = asyncio.create_task(work(order))
        answering.add_done_callback(lambda _done: segments.put_nowait(None))
        try:
            while (segment := await segments.get()) is not None:
                yield segment.to_json()
            yield await answering
        finally:
            order.cancellation.cancel()
            answering.cancel()

    return stream


def _worker_threads(
    components: Components, service: Service
) -> Callable[[_Order], Coroutine[Any, Any, Answer]]:
    """What does a job in a thread, so that the event loop goes on pinging and listening."""
    # Twice as many as jobs: one that was cancelled may still be on its way out.
    threads = ThreadPoolExecutor(2 * service.max_jobs, "job")
    manifests = AnswerRecords(components.storage, components.keys) if service.remembers else None

    async def work(order: _Order) -> Answer:
        if not isinstance(order.job.get("id"), str):
            # The SDK puts it into a header of all its requests, none of which can then be sent.
            service.running.give_up("the platform gave a job whose id is no text")
        try:
            return await asyncio.get_running_loop().run_in_executor(
                threads, partial(_answer, order, components, service, manifests)
            )
        except asyncio.CancelledError:  # how the SDK says that the platform cancelled the job
            order.cancellation.cancel()
            raise

    return work


def _answer(
    order: _Order, components: Components, service: Service, manifests: AnswerRecords | None
) -> Answer:
    """Do one job; the answer as RunPod wants it. Never raises; leaves no temporary file."""
    watch = order.watch
    watch.add("queue", watch.total)  # for this thread
    with lines_of(order.id):
        try:
            event(logging.DEBUG, "job begun")
            # What cannot be removed is swept by the next worker: the answer counts.
            with TemporaryDirectory(prefix=scratch_prefix(), ignore_cleanup_errors=True) as folder:
                response, again = _respond(order, components, service, manifests, Path(folder))
        except JobCancelledError as error:
            event(logging.INFO, "job cancelled", seconds=watch.total)
            return _failure(error.code, error.message, error.field)
        except DeviceError as error:
            event(logging.ERROR, "job failed", code=error.code, error=error.message)
            return _give_up(error, service)
        except WorkerError as error:
            event(
                logging.WARNING,
                "job failed",
                code=error.code,
                field=error.field,
                error=error.message,
                seconds=watch.total,
            )
            return _failure(error.code, error.message, error.field)
        except Exception as error:
            return _unforeseen(error, order, service)
        event(
            logging.INFO,
            "job answered again" if again else "job answered",
            audio_seconds=response.duration,
            seconds=watch.total,
            stages=dict(watch.seconds),
            overhead=overhead(watch),
            metrics=response.metrics.model_dump(mode="json", exclude={"seconds", "faults"}),
        )
        return dict(response.to_json())


def _respond(
    order: _Order,
    components: Components,
    service: Service,
    manifests: AnswerRecords | None,
    folder: Path,
) -> tuple[SpeechResponse, bool]:
    """The answer, and whether it was given before."""
    Keys.check_job_id(order.id)  # before anything is spoken that could be stored nowhere
    request, watch = parse_request(order.job.get("input")), order.watch
    streamed = service.streams if request.stream is None else request.stream
    job = Job(
        order.id,
        components,
        folder,
        order.cancellation,
        watch,
        announce=order.announce if streamed else None,
    )
    asked = request
    if manifests is not None:
        with watch("storage"):
            known = manifests.recall(request, job)
        if known is not None:
            if streamed:
                _announce_again(known, order.announce)
            return known, True
        asked = request.model_copy(update={"seed": job_seed(request, order.id)})
    response = pipeline.speak(asked, job)
    if manifests is not None:
        with watch("storage"):
            manifests.keep(request, response, job)
    return response, False


def _unforeseen(error: Exception, order: _Order, service: Service) -> Answer:
    """The answer of a job that ended in an error that is none of ours."""
    known: WorkerError | None = device_failure(error) or disk_failure(error)
    if short_of_memory(error):  # elsewhere than where the engine tries again
        known = MemoryShortError("the memory did not suffice; send the job again")
    code = "internal_error" if known is None else known.code
    log.exception("job failed", extra={"fields": {"code": code}})
    if isinstance(known, DeviceError):
        return _give_up(known, service)
    if known is not None:
        return _failure(known.code, known.message, known.field)
    message = "the worker failed in a way that it does not know; its log for job "
    return _failure("internal_error", f"{message}{order.id} says how", None)


def _give_up(error: DeviceError, service: Service) -> Answer:
    """The answer of a job that a broken GPU has ended, and with it the worker's end."""
    service.running.give_up(f"{error.code}: {error.message}")
    # RunPod's SDK takes the second key out, and asks the platform for a fresh worker.
    return {**_failure(error.code, error.message, error.field), "refresh_worker": True}


def _announce_again(response: SpeechResponse, announce: Announce) -> None:
    for index, segment in enumerate(response.segments):
        if segment.audio_url is not None:
            announce(
                SpokenSegment(
                    index=index,
                    total=len(response.segments),
                    text=segment.text,
                    start=segment.start,
                    end=segment.end,
                    audio_url=segment.audio_url,
                )
            )


def _failure(code: str, message: str, field: str | None) -> Answer:
    return {"error": json.dumps({"code": code, "message": message, "field": field})}
