"""An endpoint on this machine: the stand-in for the queue, a bucket behind a door, workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.platform.queue.server import Job, Queue
from tests.platform.queue.workers import WorkerProcess
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, Door, s3_client, s3_server
from tests.support.worker_process import REPOSITORY, environment

BUCKET = "speech-bucket"
VOICE = REPOSITORY / "volume" / "demo" / "voices" / "demo.wav"
SENTENCES = (
    "My sister bought a green car last year.",
    "Please read this book to the children.",
    "She opened the window and looked at the garden.",
    "The train will leave in ten minutes.",
    "We had bread and cheese for lunch.",
)


@dataclass
class Endpoint:
    """The parts of it. Each worker computes with one thread, as if it had the machine's share."""

    queue: Queue
    door: Door
    folder: Path  # of logs and temporary files
    env: dict[str, str]
    workers: list[WorkerProcess] = field(default_factory=list)
    _started: int = 0

    def start_worker(self) -> WorkerProcess:
        """One more, with a name of its own; it is in none of the lists yet."""
        name = f"pod-{self._started:03}"
        self._started += 1
        scratch = self.folder / f"{name}.tmp"
        scratch.mkdir()
        env = {**self.env, "TMPDIR": str(scratch)}
        return WorkerProcess(self.queue, name, env, self.folder / f"{name}.log")

    def grow_to(self, number: int) -> None:
        """Have so many workers that are up."""
        self.workers += [self.start_worker() for _ in range(number - len(self.workers))]
        for process in self.workers:
            process.wait_until_up()

    def scratch(self, process: WorkerProcess) -> set[str]:
        """The temporary files of a worker."""
        folder = self.folder / f"{process.name}.tmp"
        return {str(path.relative_to(folder)) for path in folder.rglob("*")}

    def ask(self, asked: Any, job_id: str | None = None) -> Job:
        """Have a job done that must succeed."""
        job = self.queue.wait(self.queue.put(asked, job_id), 300)
        assert job.status == "COMPLETED", job.error
        return job

    def arrive(self, asked: Sequence[Any], moments: Sequence[float]) -> list[dict[str, float]]:
        """Have each job come at its second; when it came, its work, and how long it took."""

        def one(job: Any, moment: float) -> dict[str, float]:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            done = self.ask(job)
            return {"at": done.put_at - began, **work_of(done)}

        began = time.monotonic()
        with ThreadPoolExecutor(len(asked)) as clients:
            return list(clients.map(one, asked, moments))


def work_of(job: Job) -> dict[str, float]:
    """What an answered job was, and the seconds from its coming to its answer."""
    metrics = job.output["metrics"]
    return {"rows": metrics["sentences"], "tokens": metrics["tokens"], "seconds": job.seconds}


@contextmanager
def endpoint(volume: Path, folder: Path, **more: str) -> Iterator[Endpoint]:
    """An endpoint without workers yet; all processes are gone when the block ends."""
    # Its server writes a line for each request, and with it the signed URL.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with (
        s3_server(BUCKET) as bucket,
        Door(bucket).running() as door,
        Queue(hold_seconds=2.0, dead_after=8.0).running() as queue,
    ):
        s3_client(bucket).upload_file(str(VOICE), BUCKET, "voices/demo.wav")
        env = environment(
            volume,
            S3_BUCKET_NAME=BUCKET,
            AWS_ACCESS_KEY_ID=ACCESS_KEY,
            AWS_SECRET_ACCESS_KEY=SECRET_KEY,
            AWS_ENDPOINT_URL=door.url,
            WHISPERX_LANGUAGES="en",
            OMP_NUM_THREADS="1",
            **more,
        )
        made = Endpoint(queue, door, folder, env)
        try:
            yield made
        finally:
            for process in made.workers:
                process.kill()
