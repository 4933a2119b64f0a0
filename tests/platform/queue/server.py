"""A stand-in for RunPod's queue: the protocol of its SDK, and the platform's manners.

The routes and bodies are those of runpod 1.12.0 (serverless/modules/rp_job, rp_http, rp_ping):
job-take, job-take-batch, job-done, job-stream, job-stop and ping. For clients there are run,
runsync, status, stream, cancel and webhooks, as docs.runpod.io describes them, over TLS where a
context is given. Delivery is at least once: a job
whose worker has died (no ping for `dead_after`) or has lost its result (it pings, and does not
name the job any more) is queued again, at the front. Of several answers the first is accepted.

    with Queue().running() as queue:
        env = environment(volume, **queue.environment("pod-1"))      # of a worker process
        job = queue.put({"text": "Hello."})
        view = queue.wait(job, seconds=60)                           # view.status, view.output

All public methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import ClientError, ClientSession, web

Status = Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
# Bytes that the platform takes, by its documentation: of an item of a stream, and of an answer.
STREAM_ITEM_MAX = 1_000_000
ANSWER_MAX = 10_000_000
API_KEY = "queue-key-never-shown"
CLIENT_KEY = "client-key-never-shown"
ENDPOINT = "endpoint"
SYNC_WAIT = 90_000  # ms that runsync waits where the client does not say
WEBHOOK_TRIES = 3


@dataclass(frozen=True)
class Faults:
    """How often the platform misbehaves, each as a share of its requests (0 to 1)."""

    take_error: float = 0.0  # job-take answers 500
    take_garbage: float = 0.0  # ... or something that is no JSON
    take_lost: float = 0.0  # jobs are handed over, and the connection breaks before they arrive
    twice: float = 0.0  # a job that was handed over also stays in the queue
    done_error: float = 0.0  # job-done answers 500 and takes nothing; the SDK tries again
    done_refused: float = 0.0  # job-done answers 429 and takes nothing; the SDK gives up
    done_lost: float = 0.0  # the connection is reset and nothing is taken
    done_reset: float = 0.0  # the answer is taken and the connection reset all the same
    slow: float = 0.0  # any request is answered `slow_seconds` later
    slow_seconds: float = 1.0
    ping_error: float = 0.0  # ping answers 500, and counts for nothing


@dataclass
class Job:
    """All that the platform knows of a job."""

    id: str
    input: Any
    status: Status = "IN_QUEUE"
    output: Any = None
    error: str | None = None
    put_at: float = 0.0  # of time.monotonic()
    ended_at: float | None = None
    deliveries: list[tuple[str, float]] = field(default_factory=list)  # worker, when
    progress: list[Any] = field(default_factory=list)  # updates that came before the answer
    stream: list[Any] = field(default_factory=list)  # parts that came before the answer
    answers: list[dict[str, Any]] = field(default_factory=list)  # every final one, in order
    answered_by: str | None = None
    late_progress: int = 0  # updates that came after the answer
    missed: int = 0  # pings of its worker that did not name it
    webhook: str | None = None  # who is told of its end
    streamed: int = 0  # parts that its client has fetched

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def seconds(self) -> float:
        """From put() to its end."""
        return (self.ended_at or time.monotonic()) - self.put_at


@dataclass
class Worker:
    """A worker as the platform sees it."""

    id: str
    seen: float  # last ping, or last take before its first
    pings: int = 0
    jobs: set[str] = field(default_factory=set)  # handed to it and not ended
    most: int = 0  # jobs that it had at the same time
    to_stop: set[str] = field(default_factory=set)
    unhealthy: str | None = None  # what a failed fitness check reported
    stop_asked: bool = False  # an answer had stopPod


class Queue:
    """The server; see the module."""

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        hold_seconds: float = 5.0,
        dead_after: float = 6.0,
        ping_seconds: int = 1,
        seed: int = 0,
        tls: ssl.SSLContext | None = None,
        webhook_pause: float = 10.0,
    ) -> None:
        self.faults = faults or Faults()  # may be set anew at any time
        self.url = ""
        self.tls_port: int | None = None
        self.counts: Counter[str] = Counter()  # requests and faults, by name
        self.jobs: dict[str, Job] = {}
        self.workers: dict[str, Worker] = {}
        # What the next takes are answered with in place of jobs: status, content type, body.
        self.garbage: deque[tuple[int, str, bytes]] = deque()
        self._hold = hold_seconds
        self._dead_after = dead_after
        self._ping_seconds = ping_seconds
        self._tls = tls
        self._webhook_pause = webhook_pause
        self._webhooks: set[asyncio.Task[None]] = set()
        self._chance = random.Random(seed)
        self._waiting: deque[str] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Condition | None = None
        self._ended = threading.Condition()

    # What a test does.

    @contextmanager
    def running(self) -> Iterator[Queue]:
        """Serve on a free port of the loopback until the block ends."""
        up = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(up)), daemon=True)
        thread.start()
        assert up.wait(10)
        try:
            yield self
        finally:
            assert self._loop
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)

    def environment(self, worker: str) -> dict[str, str]:
        """What RunPod sets for the worker of this id."""
        place = f"{self.url}/v2/{ENDPOINT}"
        return {
            "RUNPOD_POD_ID": worker,
            "RUNPOD_AI_API_KEY": API_KEY,
            "RUNPOD_WEBHOOK_GET_JOB": f"{place}/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{place}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{place}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_PING": f"{place}/ping/$RUNPOD_POD_ID",
            "RUNPOD_PING_INTERVAL": str(1000 * self._ping_seconds),
        }

    def put(self, asked: Any, job_id: str | None = None) -> str:
        """Queue a job with this input; its id."""
        return self._run(self._put(asked, job_id))

    def hand_over(self, asked: Any, job_id: str, workers: Iterable[str]) -> None:
        """Know a job that workers have got already, by whatever way."""
        self.jobs[job_id] = Job(job_id, asked, "IN_PROGRESS", put_at=time.monotonic())
        for worker in workers:
            self.jobs[job_id].deliveries.append((worker, time.monotonic()))
            self.workers[worker].jobs.add(job_id)

    def cancel(self, job_id: str) -> None:
        """Cancel it, queued or running; nothing happens where it has ended."""
        self._run(self._cancel(job_id))

    def requeue(self, job_id: str) -> None:
        """Deliver a job again, whatever has become of it; a known answer is forgotten."""
        self._run(self._again(job_id))

    def wait(self, job_id: str, seconds: float = 60.0) -> Job:
        """Give the job when it has ended. Raises TimeoutError."""
        self.wait_until(lambda: self.jobs[job_id].ended, seconds, f"job {job_id} to end")
        return self.jobs[job_id]

    def wait_until(self, true: Callable[[], bool], seconds: float = 60.0, what: str = "it") -> None:
        """Return when `true` holds. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        with self._ended:
            while not true():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"waited {seconds} s for {what}")
                self._ended.wait(min(left, 0.05))

    def wait_for_worker(self, worker: str, seconds: float = 120.0) -> None:
        """Return when the worker asks for jobs."""
        self.wait_until(lambda: worker in self.workers, seconds, f"worker {worker}")

    # What the platform does.

    async def _serve(self, up: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed, self._stop = asyncio.Condition(), asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        place = f"/v2/{ENDPOINT}"
        app.add_routes(
            [
                web.get(f"{place}/job-take/{{worker}}", self._take),
                web.get(f"{place}/job-take-batch/{{worker}}", self._take),
                web.get(f"{place}/job-stop/{{worker}}", self._stops),
                web.get(f"{place}/ping/{{worker}}", self._ping),
                web.post(f"{place}/job-done/{{worker}}/{{job}}", self._done),
                web.post(f"{place}/job-stream/{{worker}}/{{job}}", self._streamed),
                web.post(f"{place}/run", self._client_run),
                web.post(f"{place}/runsync", self._client_runsync),
                web.get(f"{place}/status/{{job}}", self._client_status),
                web.get(f"{place}/stream/{{job}}", self._client_stream),
                web.post(f"{place}/cancel/{{job}}", self._client_cancel),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        if self._tls is not None:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls).start()
            self.tls_port = runner.addresses[1][1]
        reaper = asyncio.create_task(self._reap())
        up.set()
        await self._stop.wait()
        reaper.cancel()
        await runner.cleanup()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        assert self._loop, "the queue is not running"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _put(self, asked: Any, job_id: str | None) -> str:
        name = job_id or f"job-{len(self.jobs)}"
        assert name not in self.jobs, name
        self.jobs[name] = Job(name, asked, put_at=time.monotonic())
        self._waiting.append(name)
        await self._tell()
        return name

    async def _cancel(self, job_id: str) -> None:
        job = self.jobs[job_id]
        if job.ended:
            return
        for worker in self.workers.values():
            if job_id in worker.jobs:
                worker.to_stop.add(job_id)
        self._end(job, "CANCELLED")
        await self._tell()

    async def _again(self, job_id: str) -> None:
        job = self.jobs[job_id]
        job.status, job.output, job.error, job.ended_at = "IN_QUEUE", None, None, None
        job.progress, job.stream, job.put_at = [], [], time.monotonic()
        self._waiting.append(job_id)
        await self._tell()

    def _end(self, job: Job, status: Status) -> None:
        job.status, job.ended_at = status, time.monotonic()
        for worker in self.workers.values():
            worker.jobs.discard(job.id)
        if job.id in self._waiting:
            self._waiting.remove(job.id)
        if job.webhook is not None:
            task = asyncio.ensure_future(self._call_webhook(job, job.webhook))
            self._webhooks.add(task)
            task.add_done_callback(self._webhooks.discard)

    async def _tell(self) -> None:
        assert self._changed
        async with self._changed:
            self._changed.notify_all()
        with self._ended:
            self._ended.notify_all()

    async def _reap(self) -> None:
        """Queue again what died with its worker, and what a worker says no more of."""
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            for worker in self.workers.values():
                dead = now - worker.seen > self._dead_after
                for name in list(worker.jobs):
                    job = self.jobs[name]
                    if dead or job.missed >= 2:
                        worker.jobs.discard(name)
                        self.counts["requeued: worker died" if dead else "requeued: lost"] += 1
                        self._queue_again(job)
            await self._tell()

    def _queue_again(self, job: Job) -> None:
        if not job.ended and job.id not in self._waiting:
            job.status, job.missed = "IN_QUEUE", 0
            self._waiting.appendleft(job.id)

    def _falls(self, fault: str) -> bool:
        hit = self._chance.random() < getattr(self.faults, fault)
        self.counts[f"fault: {fault}"] += hit
        return hit

    async def _enter(self, request: web.Request, name: str) -> str:
        self.counts[name] += 1
        if request.headers.get("Authorization") != API_KEY:
            raise web.HTTPUnauthorized
        if self._falls("slow"):
            await asyncio.sleep(self.faults.slow_seconds)
        return request.match_info["worker"]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        name = await self._enter(request, "take")
        worker = self.workers.setdefault(name, Worker(name, time.monotonic()))
        if not worker.pings:
            worker.seen = time.monotonic()
        if self._falls("take_error"):
            raise web.HTTPInternalServerError
        if self._falls("take_garbage"):
            return web.Response(text="{", content_type="application/json")
        if self.garbage:
            status, kind, body = self.garbage.popleft()
            return web.Response(status=status, body=body, headers={"Content-Type": kind})
        batch = "/job-take-batch/" in request.path
        self.counts["take: batch" if batch else "take: single"] += 1
        wanted = int(request.query["batch_size"]) if batch else 1
        assert request.query["job_in_progress"] in {"0", "1"}
        assert self._changed
        try:
            async with asyncio.timeout(self._hold), self._changed:
                await self._changed.wait_for(lambda: bool(self._waiting) or _gone(request))
        except TimeoutError:
            return web.Response(status=204)
        if _gone(request):
            return web.Response(status=204)
        taken = []
        while self._waiting and len(taken) < wanted:
            job = self.jobs[self._waiting.popleft()]
            job.status, job.missed = "IN_PROGRESS", 0
            job.deliveries.append((name, time.monotonic()))
            worker.jobs.add(job.id)
            worker.most = max(worker.most, len(worker.jobs))
            taken.append({"id": job.id, "input": job.input})
            if self._falls("twice"):
                self._waiting.append(job.id)
        if self._falls("take_lost"):
            return _reset(request)
        return web.json_response(taken if batch else taken[0])

    async def _stops(self, request: web.Request) -> web.Response:
        name = await self._enter(request, "stop")
        worker = self.workers.setdefault(name, Worker(name, time.monotonic()))
        assert self._changed
        try:
            async with asyncio.timeout(self._hold), self._changed:
                await self._changed.wait_for(lambda: bool(worker.to_stop) or _gone(request))
        except TimeoutError:
            return web.Response(status=204)
        stopped, worker.to_stop = sorted(worker.to_stop), set()
        return web.json_response({"jobsToStop": stopped})

    async def _ping(self, request: web.Request) -> web.Response:
        name = await self._enter(request, "ping")
        if self._falls("ping_error"):
            raise web.HTTPInternalServerError
        now = time.monotonic()
        worker = self.workers.setdefault(name, Worker(name, now))
        if request.query.get("status") == "unhealthy":
            worker.unhealthy = f"{request.query['check']}: {request.query['reason']}"
            await self._tell()
            return web.Response()
        named = set(request.query.get("job_id", "").split(","))
        for job_id in worker.jobs:
            job = self.jobs[job_id]
            delivered = max((when for who, when in job.deliveries if who == name), default=now)
            if job_id in named:
                job.missed = 0
            elif now - delivered > 2 * self._ping_seconds:
                job.missed += 1
        worker.seen, worker.pings = now, worker.pings + 1
        return web.Response()

    async def _read(self, request: web.Request, most: int) -> bytes:
        """The body, where it is no larger than the platform takes."""
        body = await request.read()
        if len(body) > most:
            self.counts["too large"] += 1
            raise web.HTTPRequestEntityTooLarge(most, len(body))
        return body

    async def _done(self, request: web.Request) -> web.StreamResponse:
        name = await self._enter(request, "done")
        try:
            body = json.loads(await self._read(request, ANSWER_MAX))
        except ConnectionResetError:  # the worker was killed while it sent this
            return web.Response()
        job = self.jobs[request.match_info["job"]]
        if body.get("status") == "IN_PROGRESS":
            if job.ended:
                job.late_progress += 1
            else:
                job.progress.append(body["output"])
            await self._tell()
            return web.Response()
        if self._falls("done_error"):
            raise web.HTTPInternalServerError
        if self._falls("done_refused"):
            raise web.HTTPTooManyRequests
        if self._falls("done_lost"):
            return _reset(request)
        job.answers.append(body)
        worker = self.workers[name]
        worker.jobs.discard(job.id)
        worker.stop_asked |= bool(body.get("stopPod"))
        if not job.ended:
            job.output, job.error, job.answered_by = body.get("output"), body.get("error"), name
            self._end(job, "FAILED" if job.error else "COMPLETED")
        await self._tell()
        return _reset(request) if self._falls("done_reset") else web.Response()

    # What a client sends.

    async def _client_job(self, request: web.Request) -> Job:
        """The job that the client puts into the queue."""
        _check_client(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType
        body = await request.json()
        job = self.jobs[await self._put(body["input"], None)]
        job.webhook = body.get("webhook")
        return job

    def _known_job(self, request: web.Request) -> Job:
        """The job that the client asks after."""
        _check_client(request)
        job = self.jobs.get(request.match_info["job"])
        if job is None:
            raise web.HTTPNotFound
        return job

    async def _client_run(self, request: web.Request) -> web.Response:
        job = await self._client_job(request)
        return web.json_response({"id": job.id, "status": job.status})

    async def _client_runsync(self, request: web.Request) -> web.Response:
        """What has become of the client's job when it has ended, or the wait is over."""
        wait = min(max(int(request.query.get("wait", SYNC_WAIT)), 1_000), 300_000)
        job = await self._client_job(request)
        assert self._changed
        with suppress(TimeoutError):
            async with asyncio.timeout(wait / 1000), self._changed:
                await self._changed.wait_for(lambda: job.ended)
        return web.json_response(_view(job))

    async def _client_status(self, request: web.Request) -> web.Response:
        return web.json_response(_view(self._known_job(request)))

    async def _client_stream(self, request: web.Request) -> web.Response:
        """The parts that came since the client last asked."""
        job = self._known_job(request)
        parts, job.streamed = job.stream[job.streamed :], len(job.stream)
        return web.json_response(
            {"status": job.status, "stream": [{"output": part} for part in parts]}
        )

    async def _client_cancel(self, request: web.Request) -> web.Response:
        job = self._known_job(request)
        await self._cancel(job.id)
        return web.json_response({"id": job.id, "status": job.status})

    async def _call_webhook(self, job: Job, url: str) -> None:
        """Tell the client of the job's end; again, where it does not answer with 200."""
        for tried in range(WEBHOOK_TRIES):
            if tried:
                await asyncio.sleep(self._webhook_pause)
            self.counts["webhook"] += 1
            with suppress(ClientError):
                async with ClientSession() as session, session.post(url, json=_view(job)) as answer:
                    if answer.status == 200:
                        return
        self.counts["webhook: given up"] += 1

    async def _streamed(self, request: web.Request) -> web.StreamResponse:
        await self._enter(request, "stream")
        body = json.loads(await self._read(request, STREAM_ITEM_MAX))
        job = self.jobs[request.match_info["job"]]
        if not job.ended:
            job.stream.append(body["output"])
        await self._tell()
        return web.Response()


def _check_client(request: web.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {CLIENT_KEY}":
        raise web.HTTPUnauthorized


def _view(job: Job) -> dict[str, Any]:
    """What a client sees of a job. While it runs, its output is the last update of its progress."""
    view: dict[str, Any] = {"id": job.id, "status": job.status}
    if job.deliveries:
        worker, taken = job.deliveries[-1]
        view |= {"workerId": worker, "delayTime": _ms(taken - job.put_at)}
        if job.ended_at is not None:
            view["executionTime"] = _ms(job.ended_at - taken)
    if job.status == "COMPLETED":
        view["output"] = job.output
    elif job.status == "IN_PROGRESS" and job.progress:
        view["output"] = job.progress[-1]
    return view | ({"error": job.error} if job.error else {})


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _reset(request: web.Request) -> web.Response:
    """Break the connection without an answer."""
    assert request.transport
    request.transport.abort()
    return web.Response()
