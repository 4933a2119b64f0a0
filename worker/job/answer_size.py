"""Keeps an answer below what RunPod takes: its long lists become files beside the audio.

RunPod refuses an item of /stream of more than 1 MB, and a job's answer of more than 10 MB (20 MB by
runsync): https://docs.runpod.io/serverless/endpoints/operation-reference. The worker would be told
nothing, and the client would wait for an answer that never comes. 20,000 characters of Chinese with
word timings have 1.5 MB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from worker.api.request import SpeechRequest
from worker.api.response import Segment, SpeechResponse, TimedWord
from worker.job.context import Job

LINES_MAX = 100  # of the metrics' faults, and of warnings, in an answer that is too large


@dataclass(frozen=True)
class AnswerLimit:
    """The most bytes that an answer may have as JSON, and how its reader knows the place."""

    bytes: int
    place: str


# With room for what the SDK and the platform put around it.
OF_JOBS = AnswerLimit(8_000_000, "the answer of a job")
OF_STREAMED_ITEMS = AnswerLimit(900_000, "an item of /stream")


def fit(
    response: SpeechResponse, request: SpeechRequest, job: Job, limit: AnswerLimit
) -> SpeechResponse:
    """The answer, or where it is too large the same with its longest lists in files.

    First the words with their times, then the sentences; each becomes a JSON file in the storage,
    with a URL of its own in the answer, and a warning says so. Raises StorageError.
    """
    for shorten in (_words_apart, _sentences_apart, _fewer_lines):
        if size_of(response.to_json()) <= limit.bytes:
            break
        response = shorten(response, request, job, limit)
    return response


def size_of(answer: Mapping[str, JsonValue]) -> int:
    """Bytes of an answer, as RunPod's SDK sends it."""
    return len(json.dumps({"output": answer}, ensure_ascii=False).encode())


def _words_apart(
    response: SpeechResponse, request: SpeechRequest, job: Job, limit: AnswerLimit
) -> SpeechResponse:
    words = response.word_timings
    if not words:
        return response
    url = _stored(words, job.keys(request).words, request, job)
    told = (
        f"the {len(words)} word_timings are too many for {limit.place}: word_timings_url has them"
    )
    return _changed(response, told, word_timings=None, word_timings_url=url)


def _sentences_apart(
    response: SpeechResponse, request: SpeechRequest, job: Job, limit: AnswerLimit
) -> SpeechResponse:
    sentences = response.segments
    url = _stored(sentences, job.keys(request).segments, request, job)
    told = f"the {len(sentences)} segments are too many for {limit.place}: segments_url has them"
    return _changed(response, told, segments=(), segments_url=url)


def _fewer_lines(
    response: SpeechResponse, _request: SpeechRequest, _job: Job, _limit: AnswerLimit
) -> SpeechResponse:
    metrics = response.metrics.model_copy(update={"faults": _first(response.metrics.faults)})
    return response.model_copy(update={"metrics": metrics, "warnings": _first(response.warnings)})


def _first(lines: Sequence[str]) -> tuple[str, ...]:
    """So many lines that they fit, the last ones before the others: they say where the rest is."""
    over = len(lines) - LINES_MAX
    if over <= 0:
        return tuple(lines)
    half = LINES_MAX // 2
    return (*lines[:half], f"{over} more, which the job's record has", *lines[-half:])


def _changed(response: SpeechResponse, told: str, **update: object) -> SpeechResponse:
    return response.model_copy(update={**update, "warnings": (*response.warnings, told)})


def _stored(
    items: Sequence[TimedWord] | Sequence[Segment], key: str, request: SpeechRequest, job: Job
) -> str:
    """Put a list into the storage as JSON, as the answer would have it; its URL."""
    file = job.folder / "part-of-answer.json"
    content = [item.model_dump(mode="json", exclude_none=True) for item in items]
    file.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), "utf-8")
    try:
        job.store(file, key, "application/json")
    finally:
        file.unlink(missing_ok=True)
    return job.url(request, key)
