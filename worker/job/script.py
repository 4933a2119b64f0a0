"""The script of a job: the lines that it says, out of its text, and who says them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from worker.api.field_types import TOKEN
from worker.api.request import SpeechRequest
from worker.errors import RequestError
from worker.job.cast import Cast, Role
from worker.redaction import redact
from worker.text.line import Line, Replacement, joined
from worker.text.long_lines import cut
from worker.text.markup import MarkedText, Stretch, holds_tag
from worker.text.pronunciations import pronounce
from worker.text.sentences import split
from worker.text.spoken.normalize import replacements
from worker.text.words import language_of

_CONTEXT = 2_000  # characters of the text that say the language of a sentence without letters


@dataclass(frozen=True)
class Script:
    """All that a job says, and what each speaker's voice is chosen by."""

    lines: tuple[Line, ...]
    pause: float  # seconds of silence after the last line
    roles: Mapping[str | None, Role]  # by the speaker's name; also of who says nothing

    def silences(self, gap: float, sample_rate: int) -> tuple[int, ...]:
        """Samples of silence before each line, and after the last; `gap` parts two lines."""
        before = (line.silence(gap, first=not i) for i, line in enumerate(self.lines))
        return tuple(round(seconds * sample_rate) for seconds in (*before, self.pause))


def script_of(request: SpeechRequest) -> Script:
    """The script of a job. Raises RequestError where speakers contradict each other."""
    cast = Cast(request)
    lines: list[Line] = []
    pause: float | None = None  # since the last line, where one was asked for
    for part in _parts(request, cast):
        pause = _sum(pause, part.pause)
        for stretch, speaker in part.stretches:
            pause = _sum(pause, stretch.pause)
            for sentence in split(stretch.text):
                for line in lines_of_sentence(sentence, part.request):
                    lines.append(replace(line, speaker=speaker, pause=pause))
                    pause = None
        pause = _sum(pause, part.end)
    check_said(lines, request)
    return Script(tuple(lines), pause or 0.0, cast.roles)


def lines_of_sentence(sentence: str, request: SpeechRequest) -> list[Line]:
    """One sentence as this job says it; several lines where that takes too long for one."""
    pronounced = pronounce(sentence, request.pronunciations or {})
    said = joined(sentence, pronounced, _in_words(sentence, request))
    return cut(Line(sentence, said, semitones=request.pitch_shift, tempo=request.speed_shift))


def _in_words(sentence: str, request: SpeechRequest) -> tuple[Replacement, ...]:
    """What of the sentence the model is given in words."""
    if request.normalize == "off":
        return ()
    language = language_of(sentence, default=language_of(request.text[:_CONTEXT]))
    return replacements(sentence, language, request.normalize)


@dataclass(frozen=True)
class _Part:
    """A text of the job: its only one, or that of a turn."""

    request: SpeechRequest  # as it holds for this text
    stretches: list[tuple[Stretch, str | None]]  # each with its speaker
    pause: float | None  # seconds of silence before it
    end: float | None  # and after it


def _parts(request: SpeechRequest, cast: Cast) -> Iterator[_Part]:
    if request.turns is None:
        marked = request.marked
        if not marked.tags:
            cast.alone()
        stretches = [(one, _speaker(one, marked, cast)) for one in marked.stretches]
        _note_tags(marked, cast, None)
        yield _Part(request, stretches, None, marked.pause)
        return
    for number, turn in enumerate(request.turns):
        here = request.of_turn(turn)
        marked = here.marked
        own = cast.of_turn(number, turn, here)
        stretches = [
            (one, own if one.voice is None else cast.of_tag(one.voice, number))
            for one in marked.stretches
        ]
        _note_tags(marked, cast, number)
        yield _Part(here, stretches, turn.pause, marked.pause)


def _speaker(stretch: Stretch, marked: MarkedText, cast: Cast) -> str | None:
    """Who says a stretch of a job's only text; nobody in particular where it has one voice."""
    if not marked.tags:
        return None
    return cast.own() if stretch.voice is None else cast.of_tag(stretch.voice, None)


def _note_tags(marked: MarkedText, cast: Cast, turn: int | None) -> None:
    """Have the voices looked for that tags name, also those that say nothing."""
    for tag in marked.tags:
        cast.of_tag(tag, turn)


def check_said(lines: Iterable[Line], request: SpeechRequest) -> None:
    """Raise RequestError for what has come to be said by what was put together or replaced."""
    for line in lines:
        said = line.said
        if request.markup and holds_tag(said):
            raise RequestError(
                f"text: {redact(said)} would be said with a tag in it, since that is written over "
                "two lines or comes of a replacement; write it in one piece",
                field="text",
            )
        if request.pronunciations and TOKEN.search(said):
            raise RequestError(
                f"pronunciations: with them a sentence is said as {redact(said)}, which has a "
                "token of the model; change what the words are said as",
                field="pronunciations",
            )


def _sum(one: float | None, other: float | None) -> float | None:
    """Two silences together, where any is asked for."""
    if one is None or other is None:
        return other if one is None else one
    return one + other
