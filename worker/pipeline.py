"""The stages of a job, in order. Each is a function of its inputs; the order is known here only.

request -> sentences -> voice -> speech -> audio -> timing -> subtitles -> storage -> response

With word timings, a sentence whose words are not all found goes back to speech, a few times.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from worker import audio, response, subtitles
from worker.audio import Audio, Span
from worker.casting import Chosen, choose_voice
from worker.errors import NotAvailableError, SynthesisError
from worker.observe import Stopwatch
from worker.parts import Parts
from worker.quality import Verdict, judge
from worker.request import SpeechRequest
from worker.response import Metrics, Segment, SpeechResponse
from worker.speech.engine import Utterance
from worker.speech.prompt import Voice
from worker.speech.sampling import Sampling
from worker.subtitles import SubtitleStyle
from worker.takes import Take, Takes, choose_takes
from worker.text import split
from worker.words import SentenceSpan, WordTiming, language_of

Progress = Callable[[int, int], None]  # sentences spoken, sentences in all

_Result = tuple[Path, str, str]  # a file to be stored, its ending and its content type


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
    _check_timings(request, parts)
    seed = secrets.randbits(53) if request.seed is None else request.seed
    sampling = Sampling(request.temperature, request.top_k, request.top_p, request.max_length, seed)
    with watch("text"):
        sentences = split(request.text)
    with watch("voice"):
        chosen = choose_voice(
            request,
            sentences[0],
            sampling,
            parts.engine,
            parts.voices,
            parts.fetch_reference,
            folder,
        )
    with watch("speech"):
        utterances: list[Utterance] = []
        for utterance in parts.engine.speak(
            sentences, chosen.speaking, sampling, chain=request.goes_on
        ):
            utterances.append(utterance)
            progress(len(utterances), len(sentences))

    def again(kept: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        other = replace(sampling, seed=(seed + attempt) % 2**63)
        with watch("speech"):
            spoken = _speak_again(kept, bad, chosen.speaking, other, request, parts)
        return [_take(utterance, request, parts, watch) for utterance in spoken]

    first = [_take(utterance, request, parts, watch) for utterance in utterances]
    takes = choose_takes(first, again, request.max_retries)
    with watch("audio"):
        if not any(len(take.audio.samples) for take in takes.kept):
            raise SynthesisError(
                "the model gave only silence; try another seed, or a temperature nearer to 0.8"
            )
        joined = audio.join([take.audio for take in takes.kept], request.multi_sentence_gap)
        whole = audio.limit_peak(joined.audio)
        file = folder / f"speech.{request.output_format}"
        audio.write(whole, file, request.output_format)
    words = _in_whole(takes.kept, joined.spans)
    results: list[_Result] = [
        (file, request.output_format, audio.CONTENT_TYPES[request.output_format])
    ]
    if request.enable_subtitles:
        with watch("subtitles"):
            results.append(_write_subtitles(request, takes.kept, joined.spans, words, folder))
    with watch("storage"):
        urls = [
            _store(result, ending, content_type, job_id, request, parts)
            for result, ending, content_type in results
        ]
        if request.save_voice is not None:
            parts.voices.save(request.save_voice, chosen.whole)
    return SpeechResponse(
        audio_url=urls[0],
        sample_rate=whole.sample_rate,
        duration=whole.duration,
        segments=tuple(
            Segment(text=take.utterance.text, start=span.start, end=span.end)
            for take, span in zip(takes.kept, joined.spans, strict=True)
        ),
        word_timings=_told(words) if request.wants_timings else None,
        subtitles_url=urls[1] if request.enable_subtitles else None,
        voice=chosen.used,
        seed=seed,
        metrics=_metrics(watch, chosen, takes, whole.duration),
    )


def _check_timings(request: SpeechRequest, parts: Parts) -> None:
    if request.wants_timings and parts.aligner is None:
        field = "enable_whisperx" if request.enable_whisperx else "enable_subtitles"
        raise NotAvailableError(
            f"{field}: this worker has no alignment model; its operator can install one with: "
            "python -m volume install",
            field=field,
        )


def _take(utterance: Utterance, request: SpeechRequest, parts: Parts, watch: Stopwatch) -> Take:
    """The sentence finished and, where timings are wanted, timed and judged."""
    with watch("audio"):
        finished = _finish(utterance, parts.engine.sample_rate, request)
    if not request.wants_timings or parts.aligner is None:
        return Take(utterance, finished, (), Verdict((), 0.0))
    with watch("timing"):
        span = SentenceSpan(utterance.text, 0.0, finished.duration)
        words = parts.aligner.align(
            finished.samples, finished.sample_rate, [span], default=language_of(request.text)
        )
        return Take(utterance, finished, tuple(words), judge(words, span, request.speed_shift))


def _speak_again(
    kept: Sequence[Take],
    bad: Sequence[int],
    voice: Voice,
    sampling: Sampling,
    request: SpeechRequest,
    parts: Parts,
) -> list[Utterance]:
    """Speak the sentences kept[i] for i in `bad` once more, each as it was spoken before."""
    texts = [kept[i].utterance.text for i in bad]
    if not request.goes_on:
        return list(parts.engine.speak(texts, voice, sampling))
    spoken: list[Utterance] = []
    for i, text in zip(bad, texts, strict=True):
        if i:
            before = kept[i - 1].utterance
            voice = replace(voice, transcript=before.text, semantic_tokens=before.semantic_tokens)
        spoken += parts.engine.speak([text], voice, sampling)
    return spoken


def _in_whole(takes: Sequence[Take], spans: Sequence[Span]) -> list[WordTiming]:
    """The words of all sentences, timed from the start of the whole audio."""
    return [
        replace(word, start=span.start + word.start, end=span.start + word.end, sentence=i)
        for i, (take, span) in enumerate(zip(takes, spans, strict=True))
        for word in take.words
    ]


def _told(words: Sequence[WordTiming]) -> tuple[response.WordTiming, ...]:
    return tuple(
        response.WordTiming(
            word=word.word,
            start=word.start,
            end=word.end,
            score=word.score,
            estimated=word.estimated,
        )
        for word in words
    )


def _write_subtitles(
    request: SpeechRequest,
    takes: Sequence[Take],
    spans: Sequence[Span],
    words: Sequence[WordTiming],
    folder: Path,
) -> _Result:
    """Write the subtitles' file; give it with its ending and content type."""
    sentences = [
        SentenceSpan(take.utterance.text, span.start, span.end)
        for take, span in zip(takes, spans, strict=True)
    ]
    style = request.subtitle_style or SubtitleStyle()
    file = folder / f"subtitles.{request.subtitle_format}"
    shown = subtitles.cues(words, sentences, style)
    file.write_text(subtitles.write(shown, style, request.subtitle_format), encoding="utf-8")
    return file, request.subtitle_format, subtitles.CONTENT_TYPES[request.subtitle_format]


def _store(
    file: Path,
    ending: str,
    content_type: str,
    job_id: str,
    request: SpeechRequest,
    parts: Parts,
) -> str:
    """Put one result of the job into the storage; its URL."""
    key = parts.keys.output_key(request.output_name, job_id, ending)
    parts.storage.put(file, key, content_type)
    return parts.storage.url(key, request.url_expiry or parts.url_expiry)


def _finish(utterance: Utterance, sample_rate: int, request: SpeechRequest) -> Audio:
    """One sentence without silence at its ends, in the pitch and tempo that are asked for."""
    trimmed = audio.trim(Audio(utterance.samples, sample_rate)).audio
    return audio.shift(trimmed, request.pitch_shift, request.speed_shift)


def _metrics(watch: Stopwatch, chosen: Chosen, takes: Takes, duration: float) -> Metrics:
    kept = [take.utterance for take in takes.kept]
    spoken = kept + [take.utterance for take in takes.dropped]
    codec = sum(utterance.codec_seconds for utterance in spoken)
    tokens = chosen.tokens + sum(utterance.tokens for utterance in spoken)
    model = max(watch.seconds["speech"] - codec, 1e-9)
    return Metrics(
        seconds={**watch.seconds, "codec": codec, "total": watch.total},
        sentences=len(kept),
        tokens=tokens,
        tokens_per_second=tokens / model,
        real_time_factor=watch.total / duration,
        truncated_sentences=sum(not utterance.complete for utterance in kept),
        silent_sentences=sum(not len(take.audio.samples) for take in takes.kept),
        retries=len(takes.dropped),
        faults=tuple(
            f"sentence {i}: {fault}"
            for i, take in enumerate(takes.kept, 1)
            for fault in take.verdict.faults
        ),
    )
