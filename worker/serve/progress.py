"""Progress of a streamed job: its sentences on their way from the job's thread to RunPod."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from worker.api.response import PROGRESS_SEGMENTS, Progress, SpeechResponse, SpokenSegment
from worker.job.context import Announce
from worker.logs import event

RunPodJob = dict[str, Any]  # {"id": ..., "input": ...}
Answer = dict[str, Any]
# Sends a progress update, and returns when RunPod has it.
Send = Callable[[RunPodJob, Answer], Awaitable[None]]


class SegmentQueue:
    """Carries a job's spoken sentences from its thread to the event loop, in order."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[SpokenSegment | None] = asyncio.Queue()

    def put(self, segment: SpokenSegment) -> None:
        """Add a sentence, from any thread. Raises RuntimeError where the event loop is closed."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, segment)

    def close(self) -> None:
        """Say that none comes after those that are there; in the event loop."""
        self._queue.put_nowait(None)

    async def get(self) -> SpokenSegment | None:
        """Wait for the next sentence; None where there are no more."""
        return await self._queue.get()

    @property
    def empty(self) -> bool:
        """Whether the next sentence would have to be waited for."""
        return self._queue.empty()


async def send_to_nobody(_job: RunPodJob, _progress: Answer) -> None:
    """Send nothing, where there is no platform."""


async def send_progress(job: RunPodJob, segments: SegmentQueue, send: Send) -> None:
    """Send progress updates, one at a time and in order, each with the sentences that are new.

    What is ready while one is sent goes into the next, and what one may not hold into those after.
    """
    done, over = 0, False
    new: deque[SpokenSegment] = deque()
    while not over or new:
        while not over and not (new and segments.empty):
            segment = await segments.get()
            if segment is None:
                over = True
            else:
                new.append(segment)
        if not new:
            return
        sent = tuple(new.popleft() for _ in range(min(len(new), PROGRESS_SEGMENTS)))
        done += len(sent)
        progress = Progress(done=done, total=sent[-1].total, segments=sent)
        try:
            await send(job, progress.to_json())
        except Exception as error:
            event(logging.WARNING, "progress cannot be sent", error=repr(error))


def announce_recorded(response: SpeechResponse, announce: Announce) -> None:
    """Announce the sentences of a streamed job that is answered from its record."""
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
                    speaker=segment.speaker,
                )
            )
