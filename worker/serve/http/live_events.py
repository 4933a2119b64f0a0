"""A job's speech as events in JSON: what the worker's own streams send."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from pydantic import JsonValue

from worker.api.response import TimedWord
from worker.errors import WorkerError
from worker.job.live import LiveEnd
from worker.job.live_sentences import LiveSentence
from worker.serve.http.answers import error_body, status_of
from worker.serve.http.speech_bytes import AudioBytes, Item

Event = dict[str, JsonValue]


def event_of(item: Item) -> Event:
    """An item as its event."""
    if isinstance(item, AudioBytes):
        audio = base64.b64encode(item.content).decode()
        return {"type": "speech.audio.delta", "audio": audio}
    if isinstance(item, LiveSentence):
        return sentence_event(item)
    return end_event(item)


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
        "words": None if words is None else _words(words),
        **_speaker(sentence.segment.speaker),
    }


def _words(words: Sequence[TimedWord]) -> list[JsonValue]:
    dumped = (word.model_dump(mode="json", exclude={"speaker"}) for word in words)
    return [{**word, **_speaker(one.speaker)} for word, one in zip(dumped, words, strict=True)]


def _speaker(name: str | None) -> Event:
    """Who speaks, where the request tells speakers apart."""
    return {} if name is None else {"speaker": name}


def end_event(end: LiveEnd) -> Event:
    """The event of what is known when all is said."""
    words, subtitles = end.words, end.subtitles
    return {
        "type": "speech.done",
        "sample_rate": end.sample_rate,
        "duration": round(end.duration, 3),
        "segments": [
            segment.model_dump(mode="json", exclude_none=True) for segment in end.segments
        ],
        "word_timings": None if words is None else _words(words),
        "subtitles": None
        if subtitles is None
        else {str(kind): text for kind, text in subtitles.items()},
        "voice": end.voice.model_dump(mode="json", exclude_none=True),
        "speakers": None
        if end.speakers is None
        else [speaker.model_dump(mode="json", exclude_none=True) for speaker in end.speakers],
        "seed": end.seed,
        "warnings": list(end.warnings),
        "metrics": end.metrics.model_dump(mode="json", exclude_none=True),
    }


def error_event(error: WorkerError) -> Event:
    """The event of what went wrong."""
    body = error_body(error, status_of(error))
    return {"type": "error", "error": dict(body["error"])}
