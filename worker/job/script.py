"""The script of a job: the lines that it says, out of its text."""

from __future__ import annotations

from worker.api.request import SpeechRequest
from worker.text.line import Line
from worker.text.sentences import split


def lines_of(request: SpeechRequest) -> tuple[Line, ...]:
    """The lines of a job, in order."""
    return tuple(line_of(sentence, request) for sentence in split(request.text))


def line_of(sentence: str, _request: SpeechRequest) -> Line:
    """One sentence as this job says it."""
    return Line(sentence)
