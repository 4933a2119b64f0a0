"""The script of a job: the lines that it says, out of its text."""

from __future__ import annotations

from worker.api.request import SpeechRequest
from worker.text.line import Line, Replacement
from worker.text.long_lines import cut
from worker.text.sentences import split
from worker.text.spoken.normalize import replacements
from worker.text.words import language_of

_CONTEXT = 2_000  # characters of the text that say the language of a sentence without letters


def lines_of(request: SpeechRequest) -> tuple[Line, ...]:
    """The lines of a job, in order."""
    return tuple(
        line for sentence in split(request.text) for line in lines_of_sentence(sentence, request)
    )


def lines_of_sentence(sentence: str, request: SpeechRequest) -> list[Line]:
    """One sentence as this job says it; several lines where that takes too long for one."""
    return cut(Line(sentence, _in_words(sentence, request)))


def _in_words(sentence: str, request: SpeechRequest) -> tuple[Replacement, ...]:
    """What of the sentence the model is given in words."""
    if request.normalize == "off":
        return ()
    language = language_of(sentence, default=language_of(request.text[:_CONTEXT]))
    return replacements(sentence, language, request.normalize)
