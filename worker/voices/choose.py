"""Chooses the voice that a job speaks with: a cloned, a named or a designed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from worker.api.field_types import TranscriptMismatch
from worker.api.request import SpeechRequest
from worker.api.response import VoiceUsed
from worker.cancellation import Cancellation
from worker.errors import VoiceError
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.speech.voice import Voice
from worker.voices.library import Voices, Warn


@dataclass(frozen=True)
class VoiceSources:
    """The sources that the voice of one job may come from."""

    engine: Engine  # designs voices
    voices: Voices
    fetch_reference: Callable[[str, Path, Cancellation], Path]  # brings reference audio ...
    folder: Path  # ... into this one
    cancellation: Cancellation
    warn: Warn = lambda _warning: None  # is told what the sender of a recording should know


@dataclass(frozen=True)
class ChosenVoice:
    """The voice that a job speaks with, and the one that it saves with save_voice."""

    speaking: Voice
    whole: Voice  # with its transcript, also where the job uses the timbre alone
    used: VoiceUsed
    tokens: int = 0  # that the language model made to design it


def choose_voice(
    request: SpeechRequest, first_sentence: str, sampling: Sampling, sources: VoiceSources
) -> ChosenVoice:
    """The voice that the request names; a designed one is designed for the first sentence.

    Raises VoiceError, DownloadError and RequestError saying what to give instead.
    """
    cancellation = sources.cancellation
    if request.save_voice is not None:
        sources.voices.check_free(request.save_voice, "save_voice")  # before anything is spoken
    if request.style is not None:
        designed = sources.engine.design(request.style, first_sentence, sampling, cancellation)
        used = VoiceUsed(source="style", name=request.save_voice)
        return ChosenVoice(designed.voice, designed.voice, used, designed.tokens)
    if request.prompt_speech_url is not None:
        file = sources.fetch_reference(request.prompt_speech_url, sources.folder, cancellation)
        whole = sources.voices.listen(
            file,
            request.prompt_text,
            cancellation,
            warn=sources.warn,
            mismatch=_on_mismatch(request),
        )
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
    return ChosenVoice(speaking, whole, used)


def _on_mismatch(request: SpeechRequest) -> TranscriptMismatch:
    """What becomes of a transcript that is not the recording's: it may be needed, or not used."""
    if not request.uses_transcript and request.save_voice is None:
        return "ignore"
    if request.continues and request.transcript_mismatch == "drop":
        return "refuse"
    return request.transcript_mismatch
