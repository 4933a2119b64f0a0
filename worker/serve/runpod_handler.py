"""RunPod's handlers: a job comes in, and its answer or its error goes out.

Every error is answered here, as `{"error": TEXT}`, which RunPod shows as the job's failure. TEXT is
a JSON object with code, message and field.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from worker.api.request import SpeechRequest, parse_request
from worker.api.response import SpeechResponse
from worker.cancellation import Cancellation
from worker.components import Components
from worker.errors import (
    DeviceError,
    JobCancelledError,
    WorkerError,
)
from worker.job import answer_size, pipeline
from worker.job.answer_record import AnswerRecords
from worker.job.answer_size import AnswerLimit
from worker.job.context import Announce, Job
from worker.job.metrics import logged, overhead
from worker.job.seeds import job_seed
from worker.logs import event, lines_of
from worker.serve.failures import for_the_user
from worker.serve.progress import (
    Answer,
    RunPodJob,
    SegmentQueue,
    Send,
    announce_recorded,
    send_progress,
    send_to_nobody,
)
from worker.serve.shutdown import RunningJobs
from worker.serve.start_stages import StartStages
from worker.stopwatch import Stopwatch
from worker.storage.keys import Keys
from worker.temp_folders import temp_prefix

Handler = Callable[[RunPodJob], Awaitable[Answer]]
StreamHandler = Callable[[RunPodJob], AsyncGenerator[Answer, None]]

ANNOUNCING_SECONDS = 5.0  # that an answer waits for progress updates still under way


@dataclass(frozen=True)
class Service:
    """How this worker does its jobs."""

    max_jobs: int = 8  # at the same time
    streams: bool = False  # whether a job is streamed that does not say
    remembers: bool = False  # whether a job may be delivered again, and is then answered as before
    send: Send = send_to_nobody
    running: RunningJobs = field(default_factory=RunningJobs)
    stages: StartStages | None = None  # of the worker's start, for its first job


@dataclass(frozen=True)
class _Delivery:
    """A job as RunPod delivered it, with what listens to it and what it may be cancelled by."""

    job: RunPodJob
    announce: Announce
    cancellation: Cancellation = field(default_factory=Cancellation)
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def id(self) -> str:
        given = self.job.get("id")
        return given if isinstance(given, str) else ""


def _delivered(job: RunPodJob, announce: Announce, service: Service) -> _Delivery:
    """The job, counted among those that run."""
    delivery = _Delivery(job, announce)
    if service.stages is not None:
        delivery.watch.start = service.stages.accept()
    service.running.enter(delivery.cancellation)
    return delivery


def make_handler(components: Components, service: Service | None = None) -> Handler:
    """Make the function that RunPod calls with each job of an ordinary endpoint."""
    service = service or Service()
    runner = _JobRunner(components, service, answer_size.OF_JOBS)

    async def handle(job: RunPodJob) -> Answer:
        segments = SegmentQueue()
        delivery = _delivered(job, segments.put, service)
        sending = asyncio.create_task(send_progress(job, segments, service.send))
        try:
            answer = await runner.run(delivery)
            # Before the answer, so that no update comes after it.
            segments.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCING_SECONDS):
                    await asyncio.shield(sending)
            return answer
        finally:
            sending.cancel()

    return handle


def make_stream_handler(components: Components, service: Service) -> StreamHandler:
    """Make the generator that RunPod calls where /stream is wanted: sentences, then the answer."""
    runner = _JobRunner(components, service, answer_size.OF_STREAMED_ITEMS)

    async def stream(job: RunPodJob) -> AsyncGenerator[Answer, None]:
        segments = SegmentQueue()
        delivery = _delivered(job, segments.put, service)
        answering = asyncio.create_task(runner.run(delivery))
        answering.add_done_callback(lambda _done: segments.close())
        try:
            while (segment := await segments.get()) is not None:
                yield segment.to_json()
            yield await answering
        finally:
            delivery.cancellation.cancel()
            answering.cancel()

    return stream


class _JobRunner:
    """Runs each job in a thread, so that the event loop goes on pinging and listening."""

    def __init__(self, components: Components, service: Service, limit: AnswerLimit) -> None:
        self._components = components
        self._limit = limit
        self._service = service
        # Twice as many as jobs: one that was cancelled may still be on its way out.
        self._threads = ThreadPoolExecutor(2 * service.max_jobs, "job")
        self._records: AnswerRecords | None = None
        if service.remembers:
            self._records = AnswerRecords(components.storage, components.keys)

    async def run(self, delivery: _Delivery) -> Answer:
        """The job's answer, be it speech or an error."""
        if not isinstance(delivery.job.get("id"), str):
            # The SDK puts it into a header of all its requests, none of which can then be sent.
            self._service.running.give_up("the platform gave a job whose id is no text")
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._answer, delivery)
        except asyncio.CancelledError:  # how the SDK says that the platform cancelled the job
            delivery.cancellation.cancel()
            raise

    def _answer(self, delivery: _Delivery) -> Answer:
        """The job's answer, computed in this thread. Never raises; leaves no temporary file."""
        watch = delivery.watch
        watch.add("queue", watch.total)  # for this thread
        with lines_of(delivery.id):
            event(logging.DEBUG, "job begun")
            try:
                # What cannot be removed is left to the next worker: the answer counts.
                with TemporaryDirectory(prefix=temp_prefix(), ignore_cleanup_errors=True) as name:
                    response, recorded = self._respond(delivery, Path(name))
            except Exception as error:
                return self._fail(delivery, error)
            event(
                logging.INFO,
                "job answered again" if recorded else "job answered",
                audio_seconds=response.duration,
                seconds=watch.total,
                stages=dict(watch.seconds),
                overhead=overhead(watch),
                metrics=logged(response.metrics),
            )
            return dict(response.to_json())

    def _respond(self, delivery: _Delivery, folder: Path) -> tuple[SpeechResponse, bool]:
        """The response, and whether it is the recorded one of an earlier delivery."""
        Keys.check_job_id(delivery.id)  # before anything is spoken that could be stored nowhere
        request = parse_request(delivery.job.get("input"))
        streams = self._service.streams if request.stream is None else request.stream
        job = Job(
            delivery.id,
            self._components,
            folder,
            delivery.cancellation,
            delivery.watch,
            announce=delivery.announce if streams else None,
        )
        if self._records is None:
            return self._fitted(pipeline.speak(request, job), request, job), False
        with job.watch("storage"):
            recorded = self._records.recall(request, job)
        if recorded is not None:
            if job.announce is not None:
                announce_recorded(recorded, job.announce)
            return self._fitted(recorded, request, job), True
        seeded = request.model_copy(update={"seed": job_seed(request, job.id)})
        response = pipeline.speak(seeded, job)
        answer = self._fitted(response, request, job)
        with job.watch("storage"):
            self._records.keep(request, response, job)  # whole: another door may take more
        return answer, False

    def _fitted(self, response: SpeechResponse, request: SpeechRequest, job: Job) -> SpeechResponse:
        with job.watch("storage"):
            return answer_size.fit(response, request, job, self._limit)

    def _fail(self, delivery: _Delivery, error: Exception) -> Answer:
        """The answer of a job that failed; a broken GPU ends the worker too."""
        shown = for_the_user(error, delivery.id)
        if isinstance(shown, JobCancelledError):
            event(logging.INFO, "job cancelled", seconds=delivery.watch.total)
            return _error_answer(shown)
        foreseen = shown is error
        broken = isinstance(shown, DeviceError)
        event(
            logging.WARNING if foreseen and not broken else logging.ERROR,
            "job failed",
            cause=None if foreseen else error,
            code=shown.code,
            field=shown.field,
            error=shown.message,
            seconds=delivery.watch.total,
        )
        if not broken:
            return _error_answer(shown)
        self._service.running.give_up(f"{shown.code}: {shown.message}")
        # RunPod's SDK takes the second key out, and asks the platform for a fresh worker.
        return {**_error_answer(shown), "refresh_worker": True}


def _error_answer(error: WorkerError) -> Answer:
    text = json.dumps({"code": error.code, "message": error.message, "field": error.field})
    return {"error": text}
