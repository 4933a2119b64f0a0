"""A job's speech as events in JSON: what the worker's own streams send."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from pydantic import JsonValue
from starlette.types import Receive, Scope, Send

from worker.errors import WorkerError
from worker.job.live import LiveEnd, LiveSentence
from worker.serve.http.answers import error_body, status_of
from worker.serve.http.door import Running
from worker.serve.http.speech_bytes import AudioBytes, Item

Event = dict[str, JsonValue]


class EventStream(StreamingResponse):
    """Server-sent events that are made while they are sent; whatever ends them ends the work."""

    def __init__(self, running: Running[Item], first: Item | None) -> None:
        super().__init__(
            _events(running, first),
            media_type="text/event-stream",
            # The second keeps nginx from holding events back.
            headers={
                "X-Request-Id": running.id,
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            },
        )
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.close()


async def _events(running: Running[Item], item: Item | None) -> AsyncIterator[bytes]:
    try:
        while item is not None:
            yield _sse(event_of(item))
            item = await running.next()
    except WorkerError as error:
        yield _sse(error_event(error))


def _sse(event: Event) -> bytes:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def event_of(item: Item) -> Event:
    """An item as its event."""
    if isinstance(item, AudioBytes):
        audio = base64.b64encode(item.content).decode()
        return {"type": "speech.audio.delta", "audio": audio}
    if isinstance(item, LiveSentence):
        return sentence_event(item)
    return _end_event(item)


def sentence_event(sentence: LiveSentence) -> Event:
    """The event of a sentence whose audio has been given."""
    words = sentence.words
    return {
        "type": "speech.sentence",
        "index": sentence.index,
        "total": sentence.total,
        "text": sentence.segment.text,
        "start": sentence.segment.start,
        "end": sentence.segment.end,
        "words": None if words is None else [word.model_dump(mode="json") for word in words],
    }


def _end_event(end: LiveEnd) -> Event:
    words, subtitles = end.words, end.subtitles
    return {
        "type": "speech.done",
        "sample_rate": end.sample_rate,
        "duration": round(end.duration, 3),
        "segments": [
            segment.model_dump(mode="json", exclude_none=True) for segment in end.segments
        ],
        "word_timings": None if words is None else [word.model_dump(mode="json") for word in words],
        "subtitles": None
        if subtitles is None
        else {str(kind): text for kind, text in subtitles.items()},
        "voice": end.voice.model_dump(mode="json", exclude_none=True),
        "seed": end.seed,
        "metrics": end.metrics.model_dump(mode="json"),
    }


def error_event(error: WorkerError) -> Event:
    """The event of what went wrong."""
    body = error_body(error, status_of(error))
    return {"type": "error", "error": dict(body["error"])}
