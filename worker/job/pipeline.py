"""The stages of a job, in order. Each is a function of its inputs; the order is known here only.

request -> sentences -> voice -> speech -> audio -> timing -> subtitles -> storage -> response

Sentences flow through speech, audio and timing one by one, and in a streamed job into the storage
too. With word timings, one whose words are not all found goes back to speech, a few times. Their
audio waits on the disk, so that a job's memory does not depend on how much it says.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from worker.api import response
from worker.api.request import SpeechRequest
from worker.api.response import Metrics, Segment, SpeechResponse
from worker.audio import files, waveform
from worker.audio import formats as audio_formats
from worker.audio.spool import Spool, laid_out
from worker.audio.waveform import Audio, Samples, Span
from worker.cancellation import Cancellation
from worker.components import Components
from worker.errors import NotAvailableError, RequestError, SynthesisError
from worker.job.result_keys import ResultKeys
from worker.job.retakes import Take, Takes, choose_takes
from worker.job.sentence_stream import Announce, SentenceStream
from worker.job.speech_check import Verdict, judge
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Utterance
from worker.speech.voice import Voice
from worker.stopwatch import Stopwatch
from worker.subtitles import cues
from worker.subtitles import formats as subtitle_formats
from worker.subtitles.style import SubtitleStyle
from worker.text.sentences import split, weigh
from worker.text.words import language_of
from worker.timing.word_timing import SentenceSpan, WordTiming
from worker.voices.choose import ChosenVoice, choose_voice

Progress = Callable[[int, int], None]  # sentences spoken, sentences in all

# What a job is for, and what it waits for; the rest of its time is the worker's own.
_STAGES = ("queue", "voice", "speech", "audio", "timing", "subtitles", "storage")
# What a sentence takes at an ordinary pace, and as much more for each letter (text.weigh); a model
# that needs so many times as much is ended.
_SENTENCE_SECONDS = 0.5
_LETTER_SECONDS = 0.07
_MOST_TIMES = 2
_TOKENS_A_SECOND = 50
# Sentences of a streamed job: RunPod takes 10 MB of an answer, and a signed URL may have 2 kB.
_MOST_STREAMED = 1_000
_Result = tuple[Path, str, str]  # a file to be stored, its key and its content type


@dataclass(frozen=True)
class Job:
    """What the stages of one job share, beside the request: `folder` is for temporary files."""

    id: str
    components: Components
    folder: Path
    cancellation: Cancellation = field(default_factory=Cancellation)
    watch: Stopwatch = field(default_factory=Stopwatch)
    progress: Progress = lambda _done, _total: None
    announce: Announce | None = None  # told of each sentence, where the job is streamed

    @cached_property
    def spool(self) -> Spool:
        """Where its sentences are kept until the whole is written."""
        return Spool(self.folder / "spoken.f32")


def speak(request: SpeechRequest, job: Job) -> SpeechResponse:
    """Do one job.

    Raises the WorkerError that says what went wrong; JobCancelledError when it was cancelled. The
    answer's results are stored then in part or not at all.
    """
    components, watch = job.components, job.watch
    _check_timings(request, components)
    keys = ResultKeys.of(request, job.id, components.keys)
    seed = secrets.randbits(53) if request.seed is None else request.seed
    sampling = Sampling(request.temperature, request.top_k, request.top_p, request.max_length, seed)
    with watch("text"):
        sentences = split(request.text)
        _check_length(request, sentences, components.max_job_seconds)
        if job.announce is not None and len(sentences) > _MOST_STREAMED:
            raise RequestError(
                f"text: it has {len(sentences)} sentences; with stream, where each is stored and "
                f"has a URL of its own, a job may have {_MOST_STREAMED}: divide the text, or leave "
                "stream out",
                field="text",
            )
    with watch("voice"):
        chosen = choose_voice(
            request,
            sentences[0],
            sampling,
            components.engine,
            components.voices,
            components.fetch_reference,
            job.folder,
            job.cancellation,
        )
    takes, segment_urls = _spoken(request, sentences, chosen.speaking, sampling, keys, job)
    with watch("audio"):
        clips = [take.clip for take in takes.kept]
        if not any(clip.length for clip in clips):
            raise SynthesisError(
                "the model gave only silence; try another seed, or a temperature nearer to 0.8"
            )
        rate = components.engine.sample_rate
        gap = round(request.multi_sentence_gap * rate)
        spans = laid_out(clips, gap)
        gain = waveform.limiting_gain(job.spool.blocks(clips, gap), rate)
        file = job.folder / f"speech.{request.output_format}"
        files.write_blocks(
            (block * gain for block in _until_cancelled(job, job.spool.blocks(clips, gap))),
            rate,
            file,
            request.output_format,
        )
    words = _in_whole(takes.kept, spans)
    results: list[_Result] = [
        (file, keys.audio, audio_formats.CONTENT_TYPES[request.output_format])
    ]
    if keys.subtitles is not None:
        with watch("subtitles"):
            results.append(_write_subtitles(request, takes.kept, spans, words, job.folder, keys))
    job.cancellation.check()
    with watch("storage"):
        for result, key, content_type in results:
            components.storage.put(result, key, content_type, cancellation=job.cancellation)
        if request.save_voice is not None:
            components.voices.save(request.save_voice, chosen.whole, job.cancellation)
    response = SpeechResponse(
        audio_url="",
        sample_rate=rate,
        duration=spans[-1].end,
        segments=tuple(
            Segment(text=take.utterance.text, start=span.start, end=span.end, audio_url=url)
            for take, span, url in zip(takes.kept, spans, segment_urls, strict=True)
        ),
        word_timings=_told(words) if request.wants_timings else None,
        voice=chosen.used,
        seed=seed,
        metrics=_metrics(watch, chosen, takes, spans[-1].end),
    )
    return keys.sign(response, partial(url_of, request=request, components=components))


def _until_cancelled(job: Job, blocks: Iterable[Samples]) -> Iterator[Samples]:
    for block in blocks:
        job.cancellation.check()
        yield block


def url_of(key: str, request: SpeechRequest, components: Components) -> str:
    """URL of a result, which lives as long as the job or the worker says."""
    return components.storage.url(key, request.url_expiry or components.url_expiry)


def _spoken(
    request: SpeechRequest,
    sentences: Sequence[str],
    voice: Voice,
    sampling: Sampling,
    keys: ResultKeys,
    job: Job,
) -> tuple[Takes, Sequence[str | None]]:
    """All sentences, and their URLs where the job is streamed.

    Each is finished and timed while those after it are being spoken. In a streamed job one that
    came out badly is spoken again at once, for the next are told of after it; else all of them
    together, as one batch.
    """
    watch = job.watch
    done: list[Take] = []

    def again(before: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        other = replace(sampling, seed=(sampling.seed + attempt) % 2**63)
        spoken = _spoken_again([*done, *before], bad, len(done), voice, other, request, job)
        takes: list[Take] = []
        with closing(spoken):
            while True:
                with watch("speech"):
                    utterance = next(spoken, None)
                if utterance is None:
                    return takes
                takes.append(_take(utterance, request, job))
                job.cancellation.check()

    first = _first_takes(request, sentences, voice, sampling, job)
    with closing(first):
        if job.announce is None:
            takes = choose_takes(first, again, request.max_retries)
            return takes, [None] * len(takes.kept)
        dropped: list[Take] = []
        with SentenceStream(
            job.announce,
            partial(_store_segment, request=request, keys=keys, job=job),
            job.spool,
            job.folder,
            request.output_format,
            len(sentences),
            request.multi_sentence_gap,
        ) as segments:
            for take in first:
                takes = choose_takes([take], again, request.max_retries)
                done += takes.kept
                dropped += takes.dropped
                segments.add(take.utterance.text, takes.kept[0].clip)
            with watch("storage"):
                return Takes(tuple(done), tuple(dropped)), segments.urls()


def _first_takes(
    request: SpeechRequest,
    sentences: Sequence[str],
    voice: Voice,
    sampling: Sampling,
    job: Job,
) -> Generator[Take, None, None]:
    """The sentences in order, each finished and timed as soon as it is spoken."""
    watch = job.watch
    made = 0.0
    spoken = job.components.engine.speak(
        sentences, voice, sampling, chain=request.goes_on, cancellation=job.cancellation
    )
    try:
        for count in range(1, len(sentences) + 1):
            with watch("speech"):
                utterance = next(spoken)
            if count == 1:
                watch.add("queue", utterance.queue_seconds)
                watch.add("speech", -utterance.queue_seconds)
            job.progress(count, len(sentences))
            take = _take(utterance, request, job)
            watch.mark("first_audio")
            made += take.clip.duration + request.multi_sentence_gap
            most = _MOST_TIMES * job.components.max_job_seconds
            if made - request.multi_sentence_gap > most:
                raise SynthesisError(
                    f"the model said more than {most} s, twice what a job may have; try another "
                    "seed, lower max_length or divide the text"
                )
            yield take
            job.cancellation.check()
    finally:
        if isinstance(spoken, Generator):
            spoken.close()  # gives up what is not yet spoken


def _store_segment(
    file: Path, index: int, request: SpeechRequest, keys: ResultKeys, job: Job
) -> str:
    key = keys.segment(index)
    kind = audio_formats.CONTENT_TYPES[request.output_format]
    job.components.storage.put(file, key, kind, cancellation=job.cancellation)
    return url_of(key, request, job.components)


def _check_timings(request: SpeechRequest, components: Components) -> None:
    if request.wants_timings and components.aligner is None:
        field = "enable_whisperx" if request.enable_whisperx else "enable_subtitles"
        raise NotAvailableError(
            f"{field}: this worker has no alignment model; its operator can install one with: "
            "python -m volume install",
            field=field,
        )


def _check_length(request: SpeechRequest, sentences: Sequence[str], most: int) -> None:
    """Refuse a text that would take more than `most` seconds, pauses included."""
    longest = request.max_length / _TOKENS_A_SECOND
    spoken = sum(
        min(longest, _SENTENCE_SECONDS + _LETTER_SECONDS * weigh(text)) for text in sentences
    )
    seconds = spoken / request.speed_shift + (len(sentences) - 1) * request.multi_sentence_gap
    if seconds > most:
        raise RequestError(
            f"text: it takes some {seconds:.0f} s, gaps included (sentences: {len(sentences)}); a "
            f"job of this worker may have {most}: divide the text, or lower multi_sentence_gap or "
            "max_length",
            field="text",
        )


def _take(utterance: Utterance, request: SpeechRequest, job: Job) -> Take:
    """The sentence finished, kept and, where timings are wanted, timed and judged."""
    components, watch = job.components, job.watch
    with watch("audio"):
        finished = _finish(utterance, components.engine.sample_rate, request)
        clip = job.spool.add(finished)
        utterance = replace(utterance, samples=finished.samples[:0].copy())
    if not request.wants_timings or components.aligner is None:
        return Take(utterance, clip, (), Verdict((), 0.0))
    with watch("timing"):
        span = SentenceSpan(utterance.text, 0.0, finished.duration)
        words = components.aligner.align(
            finished.samples, finished.sample_rate, [span], default=language_of(request.text)
        )
        return Take(utterance, clip, tuple(words), judge(words, span, request.speed_shift))


def _spoken_again(
    takes: Sequence[Take],
    bad: Sequence[int],
    offset: int,
    voice: Voice,
    sampling: Sampling,
    request: SpeechRequest,
    job: Job,
) -> Generator[Utterance, None, None]:
    """Speak the sentences takes[offset + i] for i in `bad` again, each as it was spoken before."""
    engine, cancellation = job.components.engine, job.cancellation
    places = [offset + i for i in bad]
    texts = [takes[place].utterance.text for place in places]
    if not request.goes_on:
        yield from engine.speak(texts, voice, sampling, cancellation=cancellation)
        return
    for place, text in zip(places, texts, strict=True):
        if place:
            before = takes[place - 1].utterance
            voice = replace(voice, transcript=before.text, semantic_tokens=before.semantic_tokens)
        yield from engine.speak([text], voice, sampling, cancellation=cancellation)


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
    keys: ResultKeys,
) -> _Result:
    """Write the subtitles' file; give it with its key and content type."""
    sentences = [
        SentenceSpan(take.utterance.text, span.start, span.end)
        for take, span in zip(takes, spans, strict=True)
    ]
    style = request.subtitle_style or SubtitleStyle()
    file = folder / f"subtitles.{request.subtitle_format}"
    shown = cues.cues(words, sentences, style)
    file.write_text(subtitle_formats.write(shown, style, request.subtitle_format), encoding="utf-8")
    return file, str(keys.subtitles), subtitle_formats.CONTENT_TYPES[request.subtitle_format]


def _finish(utterance: Utterance, sample_rate: int, request: SpeechRequest) -> Audio:
    """One sentence without silence at its ends, in the pitch and tempo that are asked for."""
    trimmed = waveform.trim(Audio(utterance.samples, sample_rate))
    return waveform.shift(trimmed, request.pitch_shift, request.speed_shift)


def _metrics(watch: Stopwatch, chosen: ChosenVoice, takes: Takes, duration: float) -> Metrics:
    kept = [take.utterance for take in takes.kept]
    spoken = kept + [take.utterance for take in takes.dropped]
    codec = sum(utterance.codec_seconds for utterance in spoken)
    tokens = sum(utterance.tokens for utterance in spoken)
    # A voice is designed in the stage before.
    model = max(watch.seconds["speech"] - codec, 1e-9)
    return Metrics(
        seconds={
            **watch.seconds,
            "codec": codec,
            "overhead": overhead(watch),
            "total": watch.total,
        },
        sentences=len(kept),
        tokens=chosen.tokens + tokens,
        tokens_per_second=tokens / model,
        real_time_factor=watch.total / duration,
        batch_occupancy=sum(utterance.occupancy for utterance in spoken) / len(spoken),
        truncated_sentences=sum(not utterance.complete for utterance in kept),
        silent_sentences=sum(not take.clip.length for take in takes.kept),
        retries=len(takes.dropped),
        faults=tuple(
            f"sentence {i}: {fault}"
            for i, take in enumerate(takes.kept, 1)
            for fault in take.verdict.faults
        ),
    )


def overhead(watch: Stopwatch) -> float:
    """Seconds that went neither into a stage nor into waiting: what the worker itself costs."""
    return max(watch.total - sum(watch.seconds.get(stage, 0.0) for stage in _STAGES), 0.0)
