"""A stand-in for the platform's queue with one job: when it is asked for, and what is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

HELD = 10.0  # seconds that a request for a job waits where there is none


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Nothing: workers are killed while they ask."""


class OneJob:
    """A queue with this job, or None for an empty one."""

    def __init__(self, url: str, job: dict[str, Any] | None) -> None:
        self.url = url
        self.asked, self.answered, self.closing = Event(), Event(), Event()
        self.asked_at = self.answered_at = 0.0  # by time.perf_counter
        self.answer: dict[str, Any] = {}
        self._jobs = [job] if job is not None else []

    def variables(self) -> dict[str, str]:
        """What tells a worker's SDK of this queue."""
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{self.url}/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{self.url}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_POD_ID": "bench",
        }

    def take(self, *, several: bool) -> Any:
        """The job, as runpod 1.12's job-take or job-take-batch has it; None where there is none."""
        if not self.asked.is_set():
            self.asked_at = time.perf_counter()
            self.asked.set()
        if self._jobs:
            job = self._jobs.pop()
            return [job] if several else job
        self.closing.wait(HELD)
        return None

    def done(self, body: dict[str, Any]) -> None:
        """The job's answer has come."""
        if self.answered.is_set() or body.get("status") == "IN_PROGRESS":
            return
        self.answered_at, self.answer = time.perf_counter(), body
        self.answered.set()


@contextmanager
def one_job(job: dict[str, Any] | None) -> Iterator[OneJob]:
    """Run the queue on the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = None
            if "/job-take" in self.path:
                found = queue.take(several="/job-take-batch" in self.path)
            elif "/job-stop" in self.path:
                queue.closing.wait(HELD)
            self._send(found)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "/job-done" in self.path:
                queue.done(json.loads(body))
            self._send({})

        def _send(self, found: Any) -> None:
            content = b"" if found is None else json.dumps(found).encode()
            self.send_response(200 if content else 204)
            self.send_header("Content-Type", "application/json")
            if content:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    queue = OneJob(f"http://127.0.0.1:{server.server_port}", job)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield queue
    finally:
        queue.closing.set()
        server.shutdown()
        server.server_close()
