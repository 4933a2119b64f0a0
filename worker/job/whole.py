"""The whole of a job's speech: its audio file, and its subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.api.request import SpeechRequest
from worker.audio.formats import ENDINGS
from worker.audio.spool import laid_out
from worker.audio.waveform import Samples
from worker.job.context import Job
from worker.job.limits import only_silence
from worker.job.retakes import Take
from worker.job.speech_file import rate_of, what_is_missed, write_speech
from worker.subtitles import cues, formats
from worker.subtitles.style import SubtitleStyle
from worker.timing.word_timing import SentenceSpan, WordTiming


@dataclass(frozen=True)
class WholeSpeech:
    """The audio file of a job, and where each sentence lies in it."""

    file: Path
    sample_rate: int  # of the file
    loudness: float | None  # LUFS, where the job asks for one
    sentences: tuple[SentenceSpan, ...]
    pause: float = 0.0  # seconds of silence after the last one

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.sentences[-1].end + self.pause


def assemble(
    request: SpeechRequest, takes: Sequence[Take], silences: Sequence[int], job: Job
) -> WholeSpeech:
    """Write the sentences into one file, as loud as it is to be.

    `silences` are the samples of silence before each, and after the last one. Raises SynthesisError
    where nothing can be heard.
    """
    clips = [take.clip for take in takes]
    if not any(clip.length for clip in clips):
        raise only_silence()
    rate = job.components.engine.sample_rate
    file = job.folder / f"speech.{ENDINGS[request.output_format]}"
    level = write_speech(
        lambda: until_cancelled(job.spool.blocks(clips, silences), job),
        rate,
        file,
        request,
        job.components.voices.model,
    )
    if missed := what_is_missed(request, level):
        job.warn(missed)
    sentences = tuple(
        SentenceSpan(take.line.text, span.start, span.end, speaker=take.line.speaker)
        for take, span in zip(takes, laid_out(clips, silences), strict=True)
    )
    silence = silences[-1] / rate
    return WholeSpeech(file, rate_of(request, rate), level.loudness, sentences, silence)


def until_cancelled(blocks: Iterable[Samples], job: Job) -> Iterator[Samples]:
    """Give the blocks; raises JobCancelledError as soon as the job is cancelled."""
    for block in blocks:
        job.cancellation.check()
        yield block


def write_subtitles(
    request: SpeechRequest, words: Sequence[WordTiming], speech: WholeSpeech, folder: Path
) -> Path:
    """Write the subtitle file that the job asks for into `folder`."""
    style = request.subtitle_style or SubtitleStyle()
    lines = cues.cues(words, speech.sentences, style)
    text = formats.write(lines, style, request.subtitle_format, bom=request.subtitle_bom)
    file = folder / f"subtitles.{request.subtitle_format}"
    file.write_text(text, encoding="utf-8")
    return file
