"""Progress updates of a job that is streamed, in order, each with the sentences that are new."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from worker.api.response import PROGRESS_SEGMENTS, Progress, SpokenSegment
from worker.logs import event

RunPodJob = dict[str, Any]  # {"id": ..., "input": ...}
Answer = dict[str, Any]
# Sends a progress update, and gives back when RunPod has it.
Send = Callable[[RunPodJob, Answer], Awaitable[None]]


async def send_to_nobody(_job: RunPodJob, _progress: Answer) -> None:
    """Where there is no platform."""


def hand_over(
    loop: asyncio.AbstractEventLoop,
    segments: asyncio.Queue[SpokenSegment | None],
    segment: SpokenSegment,
) -> None:
    """From the job's thread to the event loop. Raises RuntimeError where that is closed."""
    loop.call_soon_threadsafe(segments.put_nowait, segment)


async def send_progress(
    job: RunPodJob, segments: asyncio.Queue[SpokenSegment | None], send: Send
) -> None:
    """Send progress updates, one at a time and in order, each with the sentences that are new.

    What is ready while one is sent goes into the next, and what one may not hold into those after.
    """
    done, over = 0, False
    new: deque[SpokenSegment] = deque()
    while not over or new:
        while not over and not (new and segments.empty()):
            segment = await segments.get()
            if segment is None:
                over = True
            else:
                new.append(segment)
        if not new:
            return
        told = tuple(new.popleft() for _ in range(min(len(new), PROGRESS_SEGMENTS)))
        done += len(told)
        progress = Progress(done=done, total=told[-1].total, segments=told)
        try:
            await send(job, progress.to_json())
        except Exception as error:
            event(logging.WARNING, "progress cannot be sent", error=repr(error))
