"""The stages of a job, in order. Each is a function of its inputs; the order is known here only.

request -> sentences -> voice -> speech -> audio -> storage -> response
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from volume.layout import Layout, LayoutError
from worker import audio
from worker.audio import Audio
from worker.errors import SetupError, SynthesisError, VoiceError
from worker.keys import Keys, keys_of
from worker.observe import Stopwatch
from worker.references import fetch_reference
from worker.request import SpeechRequest
from worker.response import Metrics, Segment, SpeechResponse, VoiceUsed
from worker.settings import Settings
from worker.speech.engine import Engine, Utterance
from worker.speech.prompt import Voice
from worker.speech.sampling import Sampling
from worker.storage import Storage, open_storage
from worker.text import split
from worker.voices import Voices

Progress = Callable[[int, int], None]  # sentences spoken, sentences in all


@dataclass(frozen=True)
class Parts:
    """What is loaded once and serves every job."""

    engine: Engine
    voices: Voices
    storage: Storage
    keys: Keys
    url_expiry: int  # seconds, where a job does not say
    fetch_reference: Callable[[str, Path], Path]  # prompt_speech_url, folder -> audio file

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """Everything that jobs need. Raises SetupError saying what is missing."""
        layout = Layout(settings.runpod_volume)
        try:
            checkpoint = layout.model(settings.spark_model)
        except LayoutError as error:
            raise SetupError(str(error)) from None
        storage, keys = open_storage(settings), keys_of(settings)
        engine = Engine.load(checkpoint, settings.spark_dtype)
        return cls(
            engine=engine,
            voices=Voices(engine, storage, keys, layout.voices / checkpoint.name),
            storage=storage,
            keys=keys,
            url_expiry=settings.s3_url_expiry,
            fetch_reference=lambda url, folder: fetch_reference(url, storage, keys, folder),
        )


@dataclass(frozen=True)
class _Chosen:
    """The voice that a job speaks with, and the one that it keeps."""

    speaking: Voice
    whole: Voice
    used: VoiceUsed
    tokens: int = 0  # that the language model made to choose it
    strayed: int = 0


def speak(
    request: SpeechRequest,
    job_id: str,
    parts: Parts,
    folder: Path,
    progress: Progress = lambda _done, _total: None,
) -> SpeechResponse:
    """Do one job, with `folder` for its temporary files.

    Raises the WorkerError that says what went wrong; nothing is stored then.
    """
    watch = Stopwatch()
    seed = secrets.randbits(53) if request.seed is None else request.seed
    sampling = Sampling(request.temperature, request.top_k, request.top_p, request.max_length, seed)
    with watch("text"):
        sentences = split(request.text)
    with watch("voice"):
        chosen = _choose_voice(request, sentences[0], sampling, parts, folder)
    with watch("speech"):
        utterances: list[Utterance] = []
        for utterance in parts.engine.speak(
            sentences, chosen.speaking, sampling, chain=request.goes_on
        ):
            utterances.append(utterance)
            progress(len(utterances), len(sentences))
    with watch("audio"):
        spoken = [_finish(utterance, parts.engine.sample_rate, request) for utterance in utterances]
        if not any(len(part.samples) for part in spoken):
            raise SynthesisError(
                "the model gave only silence; try another seed, or a temperature nearer to 0.8"
            )
        joined = audio.join(spoken, request.multi_sentence_gap)
        whole = audio.limit_peak(joined.audio)
        file = folder / f"speech.{request.output_format}"
        audio.write(whole, file, request.output_format)
    with watch("storage"):
        key = parts.keys.output_key(request.output_name, job_id, request.output_format)
        parts.storage.put(file, key, audio.CONTENT_TYPES[request.output_format])
        if request.save_voice is not None:
            parts.voices.save(request.save_voice, chosen.whole)
        url = parts.storage.url(key, request.url_expiry or parts.url_expiry)
    return SpeechResponse(
        audio_url=url,
        sample_rate=whole.sample_rate,
        duration=whole.duration,
        segments=tuple(
            Segment(text=utterance.text, start=span.start, end=span.end)
            for utterance, span in zip(utterances, joined.spans, strict=True)
        ),
        voice=chosen.used,
        seed=seed,
        metrics=_metrics(watch, chosen, utterances, spoken, whole.duration),
    )


def _choose_voice(
    request: SpeechRequest, first: str, sampling: Sampling, parts: Parts, folder: Path
) -> _Chosen:
    """The voice that the request names: reference audio, a saved one, or a style."""
    if request.style is not None:
        designed = parts.engine.design(request.style, first, sampling)
        used = VoiceUsed(source="style", name=request.save_voice)
        return _Chosen(designed.voice, designed.voice, used, designed.tokens, designed.strayed)
    if request.prompt_speech_url is not None:
        file = parts.fetch_reference(request.prompt_speech_url, folder)
        whole = parts.voices.listen(file, request.prompt_text)
        used = VoiceUsed(source="reference", name=request.save_voice)
    else:
        name = str(request.voice)  # the request names one of the three
        whole = parts.voices.saved(name)
        used = VoiceUsed(source="saved", name=name)
        if request.goes_on and whole.transcript is None:
            raise VoiceError(
                f"voice: {name!r} was saved without a transcript, so task_token 'continue' "
                "cannot go on from it; save it again with prompt_text",
                field="voice",
            )
    speaking = whole if request.uses_transcript else replace(whole, transcript=None)
    return _Chosen(speaking, whole, used)


def _finish(utterance: Utterance, sample_rate: int, request: SpeechRequest) -> Audio:
    """One sentence without silence at its ends, in the pitch and tempo that are asked for."""
    trimmed = audio.trim(Audio(utterance.samples, sample_rate)).audio
    return audio.shift(trimmed, request.pitch_shift, request.speed_shift)


def _metrics(
    watch: Stopwatch,
    chosen: _Chosen,
    utterances: list[Utterance],
    spoken: list[Audio],
    duration: float,
) -> Metrics:
    codec = sum(utterance.codec_seconds for utterance in utterances)
    tokens = chosen.tokens + sum(utterance.tokens for utterance in utterances)
    model = max(watch.seconds["speech"] - codec, 1e-9)
    return Metrics(
        seconds={**watch.seconds, "codec": codec, "total": watch.total},
        sentences=len(utterances),
        tokens=tokens,
        tokens_per_second=tokens / model,
        real_time_factor=watch.total / duration,
        grammar_violations=chosen.strayed + sum(utterance.strayed for utterance in utterances),
        truncated_sentences=sum(not utterance.complete for utterance in utterances),
        silent_sentences=sum(not len(part.samples) for part in spoken),
    )
