"""The stages of a job: their order, what each is asked, and what the answer says of them."""

from __future__ import annotations

import re
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile

from tests.support.small_components import (
    DESIGNED,
    HEARD,
    RATE,
    TEXT,
    EvenAligner,
    SmallParts,
    small_components,
)
from tests.support.sounds import tone
from worker.api.request import parse_request
from worker.api.response import SpeechResponse, SpokenSegment
from worker.audio import files, waveform
from worker.audio.waveform import Audio
from worker.errors import (
    JobCancelledError,
    NotAvailableError,
    RequestError,
    StorageError,
    SynthesisError,
)
from worker.job import pipeline
from worker.job.context import Job
from worker.speech.batch.sampling import Sampling
from worker.speech.voice import Voice

SENTENCES = ("One.", "Two two.", "Three three three.")
GAP = 0.3  # the API's default


class JobRunner:
    """Runs jobs with small components, and notes what they tell meanwhile."""

    def __init__(self, folder: Path, aligner: EvenAligner | None = None) -> None:
        self.small: SmallParts = small_components(folder, aligner)
        self.engine, self.storage = self.small.engine, self.small.storage
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.told: list[SpokenSegment] = []
        self.progress: list[tuple[int, int]] = []

    def job(self, streamed: bool = False) -> Job:
        return Job(
            "job-1",
            self.small.components,
            self.scratch,
            progress=lambda done, total: self.progress.append((done, total)),
            announce=self.told.append if streamed else None,
        )

    def speak(self, job: Job | None = None, text: str = TEXT, **asked: Any) -> SpeechResponse:
        return pipeline.speak(parse_request({"text": text, **asked}), job or self.job())

    def keys(self) -> list[str]:
        return [key for key, _ in self.storage.put_keys]


@pytest.fixture
def runner(tmp_path: Path) -> JobRunner:
    return JobRunner(tmp_path)


def file_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def test_sentences_are_joined_with_gaps_and_timed(runner: JobRunner) -> None:
    answer = runner.speak()
    assert answer.status == "success"
    assert answer.sample_rate == RATE
    assert [s.text for s in answer.segments] == list(SENTENCES)
    # 0.2 s a word, 0.3 s between two sentences.
    times = [(s.start, s.end) for s in answer.segments]
    assert times == [(0, 0.2), (0.5, 0.9), (1.2, 1.8)]
    assert answer.duration == 1.8
    assert all(segment.audio_url is None for segment in answer.segments)
    assert soundfile.info(file_of(answer.audio_url)).frames == 1.8 * RATE
    assert answer.word_timings is None
    assert answer.subtitles_url is None
    assert runner.progress == [(1, 3), (2, 3), (3, 3)]
    assert runner.speak(multi_sentence_gap=1).duration == pytest.approx(3.2)


@pytest.mark.parametrize(("gap", "samples"), [(0.30005, 4_801), (0.00004, 1), (0.00003, 0)])
def test_a_gap_is_rounded_to_whole_samples(runner: JobRunner, gap: float, samples: int) -> None:
    answer = runner.speak(multi_sentence_gap=gap)
    assert soundfile.info(file_of(answer.audio_url)).frames == 1.2 * RATE + 2 * samples


@pytest.mark.parametrize(("kind", "content_type"), [("wav", "audio/wav"), ("flac", "audio/flac")])
def test_a_result_lies_under_its_key_with_its_type(
    runner: JobRunner, kind: str, content_type: str
) -> None:
    answer = runner.speak(output_format=kind, output_name="hi")
    assert runner.storage.put_keys == [(f"output/hi_job-1.{kind}", content_type)]
    assert file_of(answer.audio_url).name == f"hi_job-1.{kind}"
    assert soundfile.info(file_of(answer.audio_url)).format == kind.upper()


def test_the_whole_does_not_clip(runner: JobRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    loud = Audio(tone(400.0, 0.2, RATE, 1.5), RATE)
    monkeypatch.setattr(waveform, "shift", lambda *_: loud)
    samples, _ = soundfile.read(file_of(runner.speak().audio_url))
    assert 0.8 < abs(samples).max() < 0.9  # -1 dBFS is 0.891


def test_urls_live_as_long_as_the_job_says_and_else_the_worker(runner: JobRunner) -> None:
    runner.speak()
    assert runner.storage.expiries == {3600}
    runner.storage.expiries.clear()
    runner.speak(runner.job(streamed=True), url_expiry=60)
    assert runner.storage.expiries == {60}


def test_the_model_is_asked_what_the_job_asks(runner: JobRunner) -> None:
    job = runner.job()
    answer = runner.speak(job, temperature=0.5, top_k=3, top_p=0.25, max_length=99, seed=4)
    sampling = Sampling(temperature=0.5, top_k=3, top_p=0.25, max_tokens=99, seed=4)
    (asked,) = runner.engine.asked
    assert asked.sentences == SENTENCES
    assert (asked.sampling, asked.voice, asked.continues) == (sampling, DESIGNED, False)
    assert asked.cancellation is job.cancellation
    ((style, text, drawn, cancellation),) = runner.engine.designed
    assert (style.gender, text, drawn) == ("female", "One.", sampling)
    assert cancellation is job.cancellation
    assert answer.seed == 4
    assert answer.voice.source == "style"


def test_a_seed_that_is_not_given_is_drawn_and_told(runner: JobRunner) -> None:
    seeds = {runner.speak().seed for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**53 for seed in seeds)  # which every JSON reader keeps
    assert {asked.sampling.seed for asked in runner.engine.asked} == seeds
    assert runner.speak(seed=0).seed == 0


def test_tempo_and_pitch_are_applied_to_each_sentence(runner: JobRunner) -> None:
    answer = runner.speak(speed_shift=2.0, pitch_shift=3.0)
    assert [(s.start, s.end) for s in answer.segments] == [(0, 0.1), (0.4, 0.6), (0.9, 1.2)]
    samples, _ = soundfile.read(file_of(answer.audio_url))
    crossings = (samples[1600 * 9 + 800 : 1600 * 11 + 800] > 0).astype(int)  # 0.2 s of the third
    # 400 Hz, three semitones up: 475.7 Hz.
    assert abs((crossings[1:] > crossings[:-1]).sum() / 0.2 - 475.7) < 15


def test_words_are_timed_as_they_were_spoken_and_told_as_they_are_heard(tmp_path: Path) -> None:
    aligner = EvenAligner()
    answer = JobRunner(tmp_path, aligner).speak(speed_shift=4.0, enable_whisperx=True)
    assert [samples for _, samples, _ in aligner.seen] == [3200, 6400, 9600]
    for segment in answer.segments:
        words = [
            word for word in answer.word_timings or [] if segment.start <= word.start < segment.end
        ]
        assert words[0].start == pytest.approx(segment.start)
        assert words[-1].end == pytest.approx(segment.end)


def test_silence_around_a_sentence_is_cut(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = waveform.trim

    def trim(given: Audio) -> Audio:
        seen.append(len(given.samples))
        return real(Audio(given.samples[:2400], RATE))

    monkeypatch.setattr(waveform, "trim", trim)
    assert runner.speak().segments[2].end == pytest.approx(0.15 * 3 + GAP * 2)
    assert seen == [3200, 6400, 9600]


# --- cancelled, silent, refused


def test_a_cancelled_job_stores_nothing(runner: JobRunner) -> None:
    job = runner.job()
    runner.engine.before = lambda sentence: sentence == SENTENCES[2] and job.cancellation.cancel()
    with pytest.raises(JobCancelledError):
        runner.speak(job)
    assert not runner.storage.put_keys
    assert runner.engine.closed == 1


def test_a_job_that_is_cancelled_while_its_subtitles_are_written_stores_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = JobRunner(tmp_path, EvenAligner())
    job = runner.job()
    real = pipeline.write_subtitles

    def write(*given: Any) -> Any:
        job.cancellation.cancel()
        return real(*given)

    monkeypatch.setattr(pipeline, "write_subtitles", write)
    with pytest.raises(JobCancelledError):
        runner.speak(job, enable_subtitles=True)
    assert not runner.storage.put_keys


def test_a_cancelled_job_speaks_no_further(runner: JobRunner) -> None:
    job = runner.job()
    said: list[str] = []

    def before(sentence: str) -> None:
        said.append(sentence)
        job.cancellation.cancel()

    runner.engine.before = before
    with pytest.raises(JobCancelledError):
        runner.speak(job)
    assert said == ["One."]
    assert runner.progress == [(1, 3)]


def test_a_job_that_fails_gives_up_what_is_not_yet_spoken(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(waveform, "trim", fail)
    with pytest.raises(MemoryError) as failed:
        runner.speak()
    assert runner.engine.closed == 1  # also while somebody looks at the error and its frames
    assert failed.value is not None
    assert not runner.storage.put_keys


def test_a_sentence_that_cannot_be_stored_gives_up_those_after_it(runner: JobRunner) -> None:
    refused = threading.Event()

    def refuse(_key: str) -> None:
        refused.set()
        raise StorageError("full")

    said: list[str] = []

    def before(sentence: str) -> None:
        said.append(sentence)
        if sentence != SENTENCES[0]:
            assert refused.wait(20)
            time.sleep(0.02)  # the sentence's thread comes to its end

    runner.storage.before_put = refuse
    runner.engine.before = before
    with pytest.raises(StorageError, match="full") as failed:
        runner.speak(runner.job(streamed=True))
    assert runner.engine.closed == 1
    assert failed.value is not None
    assert said == list(SENTENCES[:2])
    assert not runner.told
    assert [file.name for file in runner.scratch.iterdir()] == ["spoken.f32"]


def test_one_silent_sentence_is_counted_and_all_are_an_error(runner: JobRunner) -> None:
    runner.engine.silent = frozenset(SENTENCES[:1])
    answer = runner.speak()
    assert answer.metrics.silent_sentences == 1
    assert [(s.start, s.end) for s in answer.segments] == [(0, 0), (0.3, 0.7), (1.0, 1.6)]
    runner.engine.silent = frozenset(SENTENCES)
    runner.storage.put_keys.clear()
    with pytest.raises(SynthesisError, match="only silence"):
        runner.speak(save_voice="ann")
    assert not runner.storage.put_keys
    assert not runner.storage.exists("voices/ann.json")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"enable_whisperx": True}, "enable_whisperx"),
        ({"enable_subtitles": True}, "enable_subtitles"),
        ({"enable_whisperx": True, "enable_subtitles": True}, "enable_whisperx"),
    ],
)
def test_timings_without_an_alignment_model_are_refused_before_anything_is_spoken(
    runner: JobRunner, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(NotAvailableError, match="python -m volume install") as refused:
        runner.speak(**asked)
    assert refused.value.field == field
    assert field in refused.value.message
    assert not runner.engine.designed


def test_a_job_whose_results_could_have_no_key_is_refused_before_anything_is_spoken(
    runner: JobRunner,
) -> None:
    with pytest.raises(RequestError) as refused:
        runner.speak(replace(runner.job(), id="../up"))
    assert refused.value.field == "id"
    assert not runner.engine.designed


# --- voices


@pytest.fixture
def reference(tmp_path: Path) -> str:
    files.write_samples(Audio(tone(300.0, 1.2), RATE), tmp_path / "ann.wav")
    return "ann.wav"


def test_a_voice_is_saved_whole_also_where_its_timbre_alone_is_used(
    runner: JobRunner, reference: str
) -> None:
    asked = {"prompt_speech_url": reference, "prompt_text": "So it was."}
    answer = runner.speak(**asked, task_token="cross_lingual", save_voice="ann")
    assert runner.engine.asked[0].voice == replace(HEARD, transcript=None)
    assert runner.small.voices.saved("ann").transcript == "So it was."
    assert (answer.voice.source, answer.voice.name) == ("reference", "ann")
    runner.speak(voice="ann")
    assert runner.engine.asked[1].voice == replace(HEARD, transcript="So it was.")


def test_a_voice_is_saved_only_where_that_is_asked_for(runner: JobRunner, reference: str) -> None:
    runner.speak(prompt_speech_url=reference)
    assert not (runner.storage._folder / "voices").exists()


def test_no_voice_is_saved_of_a_job_whose_results_cannot_be_stored(runner: JobRunner) -> None:
    def refuse(_key: str) -> None:
        raise StorageError("full")

    runner.storage.before_put = refuse
    with pytest.raises(StorageError):
        runner.speak(save_voice="ann")
    assert not runner.storage.exists("voices/ann.json")


# --- words


def test_words_are_timed_from_the_start_of_the_whole(tmp_path: Path) -> None:
    aligner = EvenAligner()
    runner = JobRunner(tmp_path, aligner)
    answer = runner.speak(enable_whisperx=True)
    assert answer.word_timings is not None
    # Each takes 0.2 s; the sentences begin at 0, 0.5 and 1.2.
    assert [(w.word, w.start, w.end) for w in answer.word_timings] == [
        ("One.", 0, 0.2),
        ("Two", 0.5, 0.7),
        ("two.", 0.7, 0.9),
        ("Three", 1.2, 1.4),
        ("three", 1.4, 1.6),
        ("three.", 1.6, 1.8),
    ]
    assert {(w.score, w.estimated) for w in answer.word_timings} == {(0.9, False)}
    assert aligner.seen == [
        ("One.", 3200, "en"),
        ("Two two.", 6400, "en"),
        (SENTENCES[2], 9600, "en"),
    ]
    assert answer.subtitles_url is None
    assert runner.keys() == ["output/speech_job-1.wav"]
    assert "timing" in answer.metrics.seconds


def test_words_are_not_looked_for_where_nobody_asks(tmp_path: Path) -> None:
    aligner = EvenAligner(weak=lambda *_: True)
    answer = JobRunner(tmp_path, aligner).speak(max_retries=3)
    assert not aligner.seen
    assert answer.metrics.faults == ()
    assert answer.metrics.retries == 0


def test_the_text_decides_the_language_of_a_sentence_without_letters(tmp_path: Path) -> None:
    aligner = EvenAligner()
    runner = JobRunner(tmp_path, aligner)
    runner.engine.word = 0.8  # of which Chinese has one a sentence here
    runner.speak(text="你好。今天天气很好！\n12.", enable_whisperx=True)
    assert {default for _, _, default in aligner.seen} == {"zh"}


def test_subtitles_are_stored_with_their_type_after_the_audio(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path, EvenAligner())
    answer = runner.speak(enable_subtitles=True, subtitle_format="srt", multi_sentence_gap=2)
    assert runner.storage.put_keys[0] == ("output/speech_job-1.wav", "audio/wav")
    key, content_type = runner.storage.put_keys[1]
    assert key == "output/speech_job-1.srt"
    assert "subrip" in content_type
    written = file_of(str(answer.subtitles_url)).read_text(encoding="utf-8")
    # 0.2 s a word and 2 s between the sentences.
    assert re.findall(r"(\S+) -->.*\n(.*)", written) == [
        ("00:00:00,000", SENTENCES[0]),
        ("00:00:02,200", SENTENCES[1]),
        ("00:00:04,600", SENTENCES[2]),
    ]
    assert answer.word_timings is not None
    assert "subtitles" in answer.metrics.seconds


@pytest.mark.parametrize("kind", ["ass", "srt", "vtt"])
def test_subtitles_for_old_players_begin_with_a_byte_order_mark(tmp_path: Path, kind: str) -> None:
    runner = JobRunner(tmp_path, EvenAligner())
    asked = {"enable_subtitles": True, "subtitle_format": kind}
    plain = file_of(str(runner.speak(**asked).subtitles_url)).read_bytes()
    marked = file_of(str(runner.speak(**asked, subtitle_bom=True).subtitles_url)).read_bytes()
    assert marked == b"\xef\xbb\xbf" + plain


def test_subtitles_look_as_the_job_says(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path, EvenAligner())
    plain = file_of(str(runner.speak(enable_subtitles=True).subtitles_url)).read_text()
    styled = runner.speak(
        enable_subtitles=True, subtitle_style={"font": "Inter", "mode": "karaoke"}
    )
    look = file_of(str(styled.subtitles_url)).read_text()
    assert ("Arial" in plain, "Inter" in plain) == (True, False)
    assert ("Arial" in look, "Inter" in look) == (False, True)
    assert r"{\k" in look


# --- spoken again


def bad_at_first(*sentences: str) -> Callable[[str, int], bool]:
    """These come out badly once, and well after that."""
    return lambda text, time: text in sentences and time == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_bad_sentence_is_spoken_again_with_another_seed(tmp_path: Path, streamed: bool) -> None:
    runner = JobRunner(tmp_path, EvenAligner(bad_at_first(*SENTENCES[1:])))
    answer = runner.speak(runner.job(streamed), enable_whisperx=True, seed=5)
    first, *others = runner.engine.asked
    assert (first.sentences, first.sampling.seed) == (SENTENCES, 5)
    # In a streamed job at once, one by one; else together.
    assert [asked.sentences for asked in others] == (
        [SENTENCES[1:2], SENTENCES[2:]] if streamed else [SENTENCES[1:]]
    )
    assert {asked.sampling.seed for asked in others} == {6}
    assert {asked.voice for asked in others} == {DESIGNED}
    assert {asked.cancellation for asked in others} == {first.cancellation}
    assert first.cancellation is not None
    assert answer.metrics.retries == 2
    assert answer.metrics.faults == ()
    assert answer.metrics.sentences == 3
    # One voice, and 10 tokens a word: six words, and five of them once more.
    assert answer.metrics.tokens == 5 + 60 + 50
    assert [segment.text for segment in answer.segments] == list(SENTENCES)


def test_each_attempt_has_a_seed_of_its_own_and_all_are_seeds(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path, EvenAligner(lambda text, _time: text == "One."))
    answer = runner.speak(enable_whisperx=True, seed=2**63 - 1, max_retries=3)
    seeds = [asked.sampling.seed for asked in runner.engine.asked]
    assert seeds == [2**63 - 1, 0, 1, 2]
    assert answer.metrics.retries == 3
    assert len(answer.metrics.faults) == 1
    assert answer.metrics.faults[0].startswith("sentence 1: ")
    assert answer.seed == 2**63 - 1


def test_the_default_is_one_retry_and_none_where_none_is_wanted(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path, EvenAligner(lambda *_: True))
    assert runner.speak(enable_whisperx=True).metrics.retries == 3  # one of each sentence
    assert runner.speak(enable_whisperx=True, max_retries=0).metrics.retries == 0
    assert [len(asked.sentences) for asked in runner.engine.asked] == [3, 3, 3]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_sentence_that_goes_on_is_spoken_again_from_the_one_before(
    tmp_path: Path, streamed: bool
) -> None:
    runner = JobRunner(tmp_path, EvenAligner(bad_at_first("One.", SENTENCES[2])))
    whole = Voice((1, 2), (3, 4), "So it was.")
    runner.small.voices.save("ann", whole)
    runner.speak(runner.job(streamed), voice="ann", task_token="continue", enable_whisperx=True)
    first, one, three = runner.engine.asked
    assert (first.continues, first.voice) == (True, whole)
    assert (one.sentences, one.voice) == (("One.",), whole)
    # Call 1 of the engine, its second sentence.
    before = replace(whole, transcript="Two two.", semantic_tokens=(1, 1))
    if streamed:  # the tone engine names tokens by the calls that there were so far
        before = replace(before, semantic_tokens=three.voice.semantic_tokens)
        assert three.voice.semantic_tokens[1] == 1
    assert (three.sentences, three.voice) == (SENTENCES[2:], before)
    assert not one.continues
    assert not three.continues


def test_only_continue_goes_on(runner: JobRunner) -> None:
    runner.small.voices.save("ann", Voice((1, 2), (3, 4), "So it was."))
    runner.speak(voice="ann", task_token="zero_shot")
    assert not runner.engine.asked[0].continues


# --- streamed


def test_a_streamed_job_stores_each_sentence_and_tells_of_it(runner: JobRunner) -> None:
    answer = runner.speak(runner.job(streamed=True), output_format="flac")
    assert runner.storage.put_keys == [
        ("output/speech_job-1.0000.flac", "audio/flac"),
        ("output/speech_job-1.0001.flac", "audio/flac"),
        ("output/speech_job-1.0002.flac", "audio/flac"),
        ("output/speech_job-1.flac", "audio/flac"),
    ]
    assert [(s.index, s.total, s.text, s.start, s.end, s.audio_url) for s in runner.told] == [
        (i, 3, s.text, s.start, s.end, s.audio_url) for i, s in enumerate(answer.segments)
    ]
    assert [soundfile.info(file_of(s.audio_url)).frames for s in runner.told] == [3200, 6400, 9600]


def test_a_sentence_is_told_of_while_the_next_is_spoken(runner: JobRunner) -> None:
    heard = threading.Event()

    def announce(segment: SpokenSegment) -> None:
        runner.told.append(segment)
        heard.set()

    # The last sentence is spoken only once the first has been told of.
    runner.engine.before = lambda sentence: sentence != SENTENCES[2] or heard.wait(20)
    runner.speak(replace(runner.job(), announce=announce))
    assert heard.is_set()
    assert [segment.index for segment in runner.told] == [0, 1, 2]


# --- metrics


def test_metrics_are_counted_over_all_that_was_spoken(runner: JobRunner) -> None:
    runner.engine.cut = frozenset(SENTENCES[1:2])
    metrics = runner.speak(max_retries=0).metrics
    assert metrics.sentences == 3
    assert metrics.tokens == 5 + 10 + 20 + 30
    assert metrics.batch_occupancy == pytest.approx((1 + 2 + 3) / 3)
    assert metrics.truncated_sentences == 1
    assert metrics.silent_sentences == 0
    assert metrics.retries == 0
    assert {"text", "voice", "speech", "audio", "storage", "queue", "codec", "first_audio",
            "overhead", "total"} == set(metrics.seconds)  # fmt: skip


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("worker.stopwatch.time.perf_counter", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


def test_seconds_go_to_the_stage_that_took_them(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    runner.engine.queue_seconds = 0.5
    runner.engine.before = lambda _sentence: clock.passes(1.0)
    runner.storage.before_put = lambda _key: clock.passes(4.0)
    real = waveform.trim

    def trim(given: Audio) -> Audio:
        clock.passes(0.25)
        return real(given)

    monkeypatch.setattr(waveform, "trim", trim)
    job = runner.job()
    job.watch.add("queue", 0.125)  # the wait for a thread, before
    answer = runner.speak(job)
    seconds = answer.metrics.seconds
    # Three sentences: a second each to speak, of which the first waited a half.
    assert (seconds["queue"], seconds["speech"]) == (0.625, 2.5)
    assert (seconds["audio"], seconds["storage"]) == (0.75, 4.0)
    assert seconds["first_audio"] == 1.25
    assert seconds["total"] == 7.75
    # The voice's 5 tokens were drawn in the stage before.
    assert answer.metrics.tokens == 5 + 60
    assert answer.metrics.tokens_per_second == pytest.approx(60 / 2.5)
    assert answer.metrics.real_time_factor == pytest.approx(7.75 / 1.8)


def test_the_codecs_seconds_are_part_of_speech_and_not_the_models(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    runner.engine.before = lambda _sentence: clock.passes(1.0)
    real = runner.engine._speak

    def spoken(sentences: Any) -> Any:
        for utterance in real(sentences):
            yield replace(utterance, codec_seconds=0.25)

    monkeypatch.setattr(runner.engine, "_speak", spoken)
    metrics = runner.speak().metrics
    assert (metrics.seconds["codec"], metrics.seconds["speech"]) == (0.75, 3.0)
    assert metrics.tokens_per_second == pytest.approx(60 / 2.25)


# --- bounds


def bounded(runner: JobRunner, seconds: int) -> Job:
    return replace(
        runner.job(), components=replace(runner.small.components, max_job_seconds=seconds)
    )


@pytest.mark.parametrize(
    ("text", "asked", "seconds"),
    [
        ("oh\n" * 6_600, {"multi_sentence_gap": 5}, 37_219),
        ("oh\n" * 6_600, {}, 6_204),
        ("好。\n" * 6_600, {}, 7_130),  # 0.78 s each
        ("oh\n" * 6_000, {"speed_shift": 0.5}, 9_480),
        (
            "Seven or more words of a line.\n" * 600,
            {"multi_sentence_gap": 5, "stream": True},
            4_560,
        ),
        ("9" * 20_000, {"speed_shift": 0.5}, 8_700),
    ],
)
def test_a_text_of_more_seconds_than_a_job_may_have_is_refused_before_anything_is_spoken(
    runner: JobRunner, text: str, asked: dict[str, Any], seconds: int
) -> None:
    most = min(7200, seconds - 20)
    with pytest.raises(RequestError, match="gaps included") as told:
        runner.speak(bounded(runner, most), text, **asked)
    (said,) = re.findall(r"some (\d+) s", told.value.message)
    assert int(said) == pytest.approx(seconds, rel=0.05)
    assert str(most) in told.value.message
    assert told.value.field == "text"
    assert not runner.engine.asked
    assert not runner.engine.designed
    assert not list(runner.scratch.iterdir())


def test_a_streamed_job_may_have_a_thousand_sentences(runner: JobRunner) -> None:
    """An answer with more URLs may be more than RunPod takes, after all was spoken."""
    with pytest.raises(RequestError, match="1001 sentences") as told:
        runner.speak(runner.job(streamed=True), "oh\n" * 1_001)
    assert told.value.field == "text"
    assert not runner.engine.asked
    assert len(runner.speak(runner.job(streamed=True), "oh\n" * 1_000).segments) == 1_000
    assert len(runner.speak(text="oh\n" * 1_001).segments) == 1_001


def test_the_bound_is_that_of_the_worker_and_max_length_counts(runner: JobRunner) -> None:
    """0.8, 1.1 and 2.9 s at an ordinary pace, and two gaps."""
    text = TEXT.replace("three", "three and three")
    assert runner.speak(bounded(runner, 6), text).status == "success"
    with pytest.raises(RequestError):
        runner.speak(bounded(runner, 5), text)
    assert runner.speak(bounded(runner, 4), text, max_length=64).status == "success"  # of it 1.28 s


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_that_goes_on_and_on_is_ended_at_the_bound(
    runner: JobRunner, streamed: bool
) -> None:
    """At twice what a job may have."""
    spoken: list[str] = []
    runner.engine.before = spoken.append
    runner.engine.word = 10.0
    job = bounded(runner, 15)
    job = replace(job, announce=runner.told.append if streamed else None)
    with pytest.raises(SynthesisError, match="more than 30 s"):
        runner.speak(job, text="One.\nOne.\nOne.\nOne.\nOne.\nOne.", max_retries=0)
    assert len(spoken) == 3  # 30.6 s
    assert runner.engine.closed == 1
    assert all(".000" in key for key, _ in runner.storage.put_keys)  # no whole
    longer = replace(job, components=replace(job.components, max_job_seconds=16))
    assert runner.speak(longer, "One.\nOne.\nOne.").duration == 30.6


@pytest.mark.parametrize("asked", [{}, {"stream": True}, {"output_format": "mp3"}])
def test_half_an_hour_takes_less_than_40_mb(runner: JobRunner, asked: dict[str, Any]) -> None:
    """Its samples alone have 115 MB, and the peaks between them four times as many."""
    runner.engine.word = 10.0
    job = runner.job(streamed=bool(asked.get("stream")))
    tracemalloc.start()
    answered = runner.speak(job, text="One two three.\n" * 58, multi_sentence_gap=1, **asked)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answered.duration == 58 * 30 + 57
    assert peak < 40_000_000  # a sentence is 30 s


def test_a_job_that_is_cancelled_while_the_whole_is_written_writes_no_more(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = runner.job()
    read: list[int] = []  # blocks, at each time that the whole is read: for its peak, for its file

    def blocks(*_: object) -> Iterator[np.ndarray]:
        read.append(0)
        for _ in range(100):
            read[-1] += 1
            if len(read) == 2:
                job.cancellation.cancel()
            yield np.ones(10, np.float32)

    monkeypatch.setattr(job.spool, "blocks", blocks)
    with pytest.raises(JobCancelledError):
        runner.speak(job)
    assert read == [100, 1]
    assert not runner.keys()


def test_sentences_that_are_spoken_again_take_no_memory_either(tmp_path: Path) -> None:
    """All of half an hour is said badly at first."""
    runner = JobRunner(tmp_path, EvenAligner(weak=lambda _text, time: time == 0))
    runner.engine.word = 10.0
    text = "\n".join(f"One two {chr(97 + i // 26)}{chr(97 + i % 26)}." for i in range(58))
    tracemalloc.start()
    answered = runner.speak(text=text, multi_sentence_gap=1, enable_whisperx=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answered.duration == 58 * 30 + 57
    assert answered.metrics.retries == 58
    assert peak < 40_000_000


def test_a_cancelled_job_speaks_no_further_sentence_again(tmp_path: Path) -> None:
    runner = JobRunner(tmp_path, EvenAligner(weak=lambda _text, _time: True))
    job = runner.job()
    aligner = runner.small.components.aligner
    assert isinstance(aligner, EvenAligner)
    aligner.weak = lambda _text, time: job.cancellation.cancel() if time else True
    with pytest.raises(JobCancelledError):
        runner.speak(job, enable_whisperx=True)
    assert len(aligner.seen) == 4  # three, and the first one again
    assert runner.engine.closed == 2


def test_a_silent_sentence_of_a_streamed_job_has_a_url_and_no_time(runner: JobRunner) -> None:
    runner.engine.silent = frozenset({SENTENCES[1]})
    answered = runner.speak(runner.job(streamed=True))
    assert answered.metrics.silent_sentences == 1
    quiet = answered.segments[1]
    assert quiet.start == quiet.end
    samples, _ = soundfile.read(file_of(str(quiet.audio_url).partition("?")[0]))
    assert len(samples)
    assert not samples.any()
