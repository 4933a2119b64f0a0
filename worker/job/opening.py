"""The opening of a job: what is known before its first word is spoken, whoever waits for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from worker.api.request import SpeechRequest
from worker.api.response import SpeakerUsed
from worker.errors import WorkerError
from worker.job.beside import beside
from worker.job.cast import Role
from worker.job.context import Job
from worker.job.limits import check_lines, check_timings
from worker.job.script import Script, script_of
from worker.job.seeds import random_seed, speaker_seed
from worker.redaction import redact
from worker.speech.batch.sampling import Sampling
from worker.speech.voice import Style, Voice
from worker.text.line import Line
from worker.voices.choose import ChosenVoice, choose_voice

AT_ONCE = 8  # voices that are fetched, heard or designed beside each other


@dataclass(frozen=True)
class Opening:
    """The lines of a job, who speaks them and how the model's tokens are drawn."""

    script: Script
    cast: Mapping[str | None, ChosenVoice]  # by the speaker's name
    sampling: Sampling

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines of the job, in order."""
        return self.script.lines

    @property
    def voice(self) -> ChosenVoice:
        """The voice that speaks first."""
        return self.cast[self.lines[0].speaker]

    @property
    def voices(self) -> Mapping[str | None, Voice]:
        """The voice of each speaker."""
        return MappingProxyType({name: chosen.speaking for name, chosen in self.cast.items()})

    @property
    def voice_tokens(self) -> int:
        """How many tokens the language model made to design voices."""
        return sum(chosen.tokens for chosen in self.cast.values())

    @property
    def speakers(self) -> tuple[SpeakerUsed, ...] | None:
        """Who has spoken, in order; None where the job tells no speakers apart."""
        names = dict.fromkeys(line.speaker for line in self.lines)
        if None in names:
            return None
        used = ((str(name), self.cast[name].used) for name in names)
        return tuple(SpeakerUsed(speaker=name, source=v.source, name=v.name) for name, v in used)


def open_speech(request: SpeechRequest, job: Job) -> Opening:
    """Read the text and choose the voices. Raises the WorkerError that says what is wrong."""
    check_timings(request, job.components)
    sampling = sampling_of(request, random_seed(request))
    with job.watch("text"):
        script = script_of(request)
        check_lines(request, script.lines, job, script.pause)
        _warn_of_colours(request, script, job)
    with job.watch("voice"):
        cast = _choose(script, sampling, job)
    return Opening(script, MappingProxyType(cast), sampling)


def sampling_of(request: SpeechRequest, seed: int) -> Sampling:
    """How the model's tokens are drawn for this job."""
    return Sampling(request.temperature, request.top_k, request.top_p, request.max_length, seed)


def _warn_of_colours(request: SpeechRequest, script: Script, job: Job) -> None:
    """Tell of colours for speakers that the job does not have."""
    style = request.subtitle_style
    colours = (style and style.speaker_colours) or {}
    speakers = {line.speaker for line in script.lines}
    for name in colours:
        if name not in speakers:
            job.warn(f"subtitle_style: speaker_colours has {redact(name)}, who does not speak")


def _choose(script: Script, sampling: Sampling, job: Job) -> dict[str | None, ChosenVoice]:
    """The voice of each speaker; that of a recording or a name is fetched once for all of them.

    A designed voice is one speaker's alone: the second one of a style has another seed. Several
    are chosen beside each other; of what goes wrong the first speaker's is raised.
    """
    choices: dict[tuple[object, ...], Callable[[], ChosenVoice]] = {}
    chosen_by: dict[str | None, tuple[object, ...]] = {}
    styles: Counter[Style] = Counter()
    first = {line.speaker: line.said for line in reversed(script.lines)}
    for name, role in script.roles.items():
        drawn, key = sampling, role.voice
        if (style := role.request.style) is not None:
            if name not in first:
                continue  # nobody hears it
            drawn = replace(sampling, seed=speaker_seed(sampling.seed, styles[style]))
            styles[style] += 1
            key = (*key, name)
        chosen_by[name] = key
        choices.setdefault(key, partial(_voice_of, role, first.get(name, ""), drawn, job))
    found = dict(zip(choices, beside(list(choices.values()), AT_ONCE, "voice"), strict=True))
    return {name: found[key] for name, key in chosen_by.items()}


def _voice_of(role: Role, first_sentence: str, sampling: Sampling, job: Job) -> ChosenVoice:
    sources = job.voice_sources
    if role.turn is not None:  # each recording has a place of its own
        sources = replace(
            sources,
            folder=job.folder / f"voice-{role.turn}",
            warn=lambda warning: job.warn(f"{role.place}: {warning}"),
        )
        sources.folder.mkdir(exist_ok=True)
    try:
        return choose_voice(role.request, first_sentence, sampling, sources)
    except WorkerError as error:
        raise role.blamed(error) from None
