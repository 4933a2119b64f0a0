"""Sentences that are stored and told of early: in order, at their times, and never in vain."""

from __future__ import annotations

import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.small_components import small_components
from tests.support.sounds import tone
from tests.support.waiting import until
from worker.api.request import parse_request
from worker.api.response import SpokenSegment
from worker.audio.spool import Clip
from worker.audio.waveform import Audio
from worker.cancellation import Cancellation
from worker.errors import StorageError
from worker.job.context import Job
from worker.job.sentence_stream import SentenceStream
from worker.storage.local import LocalStorage
from worker.text.line import Line

RATE = 16_000
LONG = 20.0
URLS = [f"url of output/speech_job-1.{index:04}.wav" for index in range(100)]


class Listener(LocalStorage):
    """A storage that is announced to as well, as far as a test lets it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "storage")
        self.scratch = folder / "segments"
        self.scratch.mkdir()
        components = replace(small_components(folder).components, storage=self)
        self.job = Job("job-1", components, self.scratch)
        self.events: list[str] = []
        self.told: list[SpokenSegment] = []
        self.peaks: list[float] = []
        self.let_go = threading.Event()
        self.let_go.set()
        self.begun = threading.Event()
        self.refused: frozenset[int] = frozenset()
        self.deaf: Exception | None = None

    def put(
        self, path: Path, key: str, content_type: str, *, cancellation: Cancellation | None = None
    ) -> None:
        index = int(key.split(".")[1])
        self.begun.set()
        assert self.let_go.wait(LONG)
        if index in self.refused:
            raise StorageError(f"no room for {index}")
        assert cancellation is self.job.cancellation
        samples, rate = np.fromfile(path, "<i2") / 32768, RATE
        if path.suffix != ".pcm":
            samples, rate = soundfile.read(path)
        assert rate == RATE
        self.peaks.append(float(np.abs(samples).max()))
        self.events.append(f"stored {index} as {content_type}")

    def url(self, key: str, _expiry_seconds: int) -> str:
        return f"url of {key}"

    def announce(self, segment: SpokenSegment) -> None:
        self.events.append(f"told {segment.index}")
        self.told.append(segment)
        if self.deaf is not None:
            raise self.deaf

    def segments(self, total: int = 3, gap: float = 0.25, **asked: Any) -> SentenceStream:
        request = parse_request({"text": "A.", "multi_sentence_gap": gap, **asked})
        return SentenceStream(self.announce, request, total, self.job)

    def sound(self, seconds: float, amplitude: float = 0.5) -> Clip:
        return self.job.spool.add(Audio(tone(400.0, seconds, RATE, amplitude), RATE))

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.scratch.glob("segment*"))


@pytest.fixture
def listener(tmp_path: Path) -> Listener:
    return Listener(tmp_path)


def add_three(listener: Listener, segments: SentenceStream) -> None:
    for _ in range(3):
        segments.add(Line("A."), listener.sound(0.1))


def test_each_is_stored_and_then_told_of_in_order_with_its_times(listener: Listener) -> None:
    with listener.segments() as segments:
        for text, seconds in (("One.", 0.1), ("Two.", 0.2), ("Three.", 0.4)):
            segments.add(Line(text), listener.sound(seconds))
        assert segments.urls() == URLS[:3]
        assert listener.left == []  # long before the job's folder goes
    assert listener.events == [
        f"{done} {index}{' as audio/wav' if done == 'stored' else ''}"
        for index in range(3)
        for done in ("stored", "told")
    ]
    assert [(s.index, s.total, s.text, s.audio_url) for s in listener.told] == [
        (0, 3, "One.", URLS[0]),
        (1, 3, "Two.", URLS[1]),
        (2, 3, "Three.", URLS[2]),
    ]
    # 0.1, a gap of 0.25, 0.2, a gap, 0.4
    assert [(s.start, s.end) for s in listener.told] == [(0, 0.1), (0.35, 0.55), (0.8, 1.2)]


def test_no_sentence_clips(listener: Listener) -> None:
    with listener.segments(1) as segments:
        segments.add(Line("Loud."), listener.sound(0.2, amplitude=1.5))
        segments.urls()
    assert listener.peaks[0] < 0.9  # -1 dBFS is 0.891


def test_a_slow_storage_holds_up_nobody(listener: Listener) -> None:
    listener.let_go.clear()
    with listener.segments() as segments:
        add_three(listener, segments)
        assert not listener.events
        listener.let_go.set()
        assert segments.urls() == URLS[:3]


def test_a_sentence_that_cannot_be_stored_ends_the_job_at_the_next(listener: Listener) -> None:
    listener.refused = frozenset([0])
    with listener.segments() as segments:
        segments.add(Line("One."), listener.sound(0.1))
        assert listener.begun.wait(LONG)
        until(segments._urls[0].done)
        with pytest.raises(StorageError, match="no room for 0"):
            segments.add(Line("Two."), listener.sound(0.1))
    assert 0 not in [segment.index for segment in listener.told]
    assert listener.left == []


def test_what_waits_for_a_slow_storage_waits_on_the_disk(listener: Listener) -> None:
    listener.let_go.clear()
    with listener.segments(total=100) as segments:
        clip = listener.sound(30.0)  # 1.9 MB
        tracemalloc.start()
        for _ in range(100):
            segments.add(Line("A."), clip)
        assert listener.begun.wait(LONG)  # the first is in memory
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        listener.let_go.set()
    assert held < 8_000_000


def test_the_last_sentence_that_cannot_be_stored_fails_the_job(listener: Listener) -> None:
    listener.refused = frozenset([2])
    with listener.segments() as segments:
        add_three(listener, segments)
        with pytest.raises(StorageError, match="no room for 2"):
            segments.urls()
    assert [segment.index for segment in listener.told] == [0, 1]


def test_a_failed_job_stores_no_more_but_waits_for_what_is_under_way(listener: Listener) -> None:
    listener.let_go.clear()

    def fail() -> None:
        with listener.segments() as segments:
            add_three(listener, segments)
            assert listener.begun.wait(LONG)
            threading.Timer(0.01, listener.let_go.set).start()
            raise ValueError("the speech failed")

    with pytest.raises(ValueError, match="the speech failed"):
        fail()
    assert listener.events == ["stored 0 as audio/wav", "told 0"]


def test_a_good_job_ends_with_all_stored(listener: Listener) -> None:
    listener.let_go.clear()
    with listener.segments() as segments:
        add_three(listener, segments)
        threading.Timer(0.01, listener.let_go.set).start()
    assert len(listener.told) == 3


def test_nobody_listens_and_all_is_stored(listener: Listener) -> None:
    """The event loop is closed, as it is once the worker's end has begun."""
    listener.deaf = RuntimeError("Event loop is closed")
    with listener.segments(1) as segments:
        segments.add(Line("One."), listener.sound(0.1))
        assert segments.urls() == URLS[:1]


def test_any_other_failure_to_tell_fails_the_job(listener: Listener) -> None:
    listener.deaf = ValueError("a fault")
    with listener.segments(1) as segments:
        segments.add(Line("One."), listener.sound(0.1))
        with pytest.raises(ValueError, match="a fault"):
            segments.urls()


def test_raw_samples_say_the_rate_that_they_have(listener: Listener) -> None:
    with listener.segments(output_format="pcm", sample_rate=8_000) as segments:
        segments.add(Line("A."), listener.sound(0.1))
        assert segments.urls() == [URLS[0].replace(".wav", ".pcm")]
    assert listener.events == ["stored 0 as audio/pcm; rate=8000", "told 0"]
