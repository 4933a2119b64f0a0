"""Many jobs as one: they run beside each other, and each has an outcome of its own."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from worker.job.context import Job

T = TypeVar("T")

Task = Callable[[Job], T]


def run_beside(tasks: Sequence[Task[T]], job: Job, at_once: int) -> Iterator[T]:
    """Run the tasks, at most so many at once, as parts of one job; give what they give, in order.

    Each has a job of its own: its id, its folder, its stopwatch; they are cancelled together. What
    a task raises ends all.
    """
    threads = ThreadPoolExecutor(max(1, min(at_once, len(tasks))), "batch")
    try:
        done = [
            threads.submit(contextvars.copy_context().run, _run, task, job, number)
            for number, task in enumerate(tasks)
        ]
        for future in done:
            yield future.result()
    except BaseException:
        job.cancellation.cancel()  # nobody waits for the others
        raise
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _run(task: Task[T], job: Job, number: int) -> T:
    job.cancellation.check()
    folder = job.folder / f"part-{number}"
    folder.mkdir()
    return task(Job(f"{job.id}-{number}", job.components, folder, job.cancellation))
