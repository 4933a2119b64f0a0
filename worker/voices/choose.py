"""Chooses the voice that a job speaks with: a cloned, a named or a designed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from worker.api.request import SpeechRequest
from worker.api.response import VoiceUsed
from worker.cancellation import Cancellation
from worker.errors import VoiceError
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.speech.voice import Voice
from worker.voices.library import Voices
from worker.voices.transcripts import dropped_transcript, refused_transcript


@dataclass(frozen=True)
class VoiceSources:
    """The sources that the voice of one job may come from."""

    engine: Engine  # designs voices
    voices: Voices
    fetch_reference: Callable[[str, Path, Cancellation], Path]  # brings reference audio ...
    folder: Path  # ... into this one
    cancellation: Cancellation


@dataclass(frozen=True)
class ChosenVoice:
    """The voice that a job speaks with, and the one that it saves with save_voice."""

    speaking: Voice
    whole: Voice  # with its transcript, also where the job uses the timbre alone
    used: VoiceUsed
    tokens: int = 0  # that the language model made to design it
    warnings: tuple[str, ...] = ()  # for the caller


def choose_voice(
    request: SpeechRequest, first_sentence: str, sampling: Sampling, sources: VoiceSources
) -> ChosenVoice:
    """The voice that the request names; a designed one is designed for the first sentence.

    Raises VoiceError, DownloadError and RequestError saying what to give instead.
    """
    cancellation = sources.cancellation
    warnings: tuple[str, ...] = ()
    if request.save_voice is not None:
        sources.voices.check_free(request.save_voice, "save_voice")  # before anything is spoken
    if request.style is not None:
        designed = sources.engine.design(request.style, first_sentence, sampling, cancellation)
        used = VoiceUsed(source="style", name=request.save_voice)
        return ChosenVoice(designed.voice, designed.voice, used, designed.tokens)
    if request.prompt_speech_url is not None:
        file = sources.fetch_reference(request.prompt_speech_url, sources.folder, cancellation)
        whole = sources.voices.listen(file, request.prompt_text, cancellation)
        if (misfit := _misfit(request, file, sources)) is not None:
            whole = replace(whole, transcript=None)
            warnings = (dropped_transcript("prompt_text", misfit),)
        used = VoiceUsed(source="reference", name=request.save_voice)
    else:
        name = str(request.voice)  # the request names one of the three
        whole = sources.voices.saved(name, cancellation)
        builtin = sources.voices.is_builtin(name)
        used = VoiceUsed(source="builtin" if builtin else "saved", name=name)
        if request.continues and whole.transcript is None:
            reason = "is a built-in voice" if builtin else "was saved"
            remedy = "save one" if builtin else "save it again"
            raise VoiceError(
                f"voice: {name!r} {reason} without a transcript, so task_token 'continue' "
                f"has no words to continue from; {remedy} with prompt_text",
                field="voice",
            )
    speaking = whole if request.uses_transcript else replace(whole, transcript=None)
    return ChosenVoice(speaking, whole, used, warnings=warnings)


def _misfit(request: SpeechRequest, file: Path, sources: VoiceSources) -> str | None:
    """Why the transcript is not the recording's, where that matters and the job goes on without.

    Raises VoiceError where it may not.
    """
    transcript, wanted = request.prompt_text, request.transcript_mismatch
    unused = not request.uses_transcript and request.save_voice is None
    if transcript is None or unused or wanted == "ignore":
        return None
    misfit = sources.voices.misfit(file, transcript)
    if misfit is not None and (wanted == "refuse" or request.continues):
        raise refused_transcript("prompt_text", misfit)
    return misfit
