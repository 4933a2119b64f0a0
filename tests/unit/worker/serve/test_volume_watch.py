"""A volume that does not answer is told of while it does not, and when it does."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import pytest

from tests.support.events import Events
from tests.support.waiting import until
from worker.serve.volume_watch import VolumeWatch

VOLUME = Path("/somewhere")


def ends() -> bool:
    return not any(thread.name == "volume-watch" for thread in threading.enumerate())


class Volume:
    """Answers while `up` is set."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.asked: list[Path] = []

    def ask(self, path: Path) -> None:
        self.asked.append(path)
        assert self.up.wait(10)


def test_silence_is_told_while_it_lasts_and_its_length_afterwards(events: Events) -> None:
    volume = Volume()
    watch = VolumeWatch(VOLUME, volume.ask, patience=0.02, pause=0.01)
    watch.start()
    until(lambda: events.of("volume does not answer"))
    assert not events.of("volume answered late")
    volume.up.set()
    until(lambda: events.of("volume answered late"))
    watch.end()
    until(ends)
    (late,) = events.of("volume answered late")
    (silent,) = events.of("volume does not answer")  # once for each question
    assert late["seconds"] >= silent["seconds"] >= 0.0
    assert {*events.warnings()} == {"volume does not answer", "volume answered late"}
    assert {*volume.asked} == {VOLUME}


def test_a_volume_that_answers_is_asked_until_the_end_and_nothing_is_told(events: Events) -> None:
    volume = Volume()
    volume.up.set()
    watch = VolumeWatch(VOLUME, volume.ask, patience=10.0, pause=0.001)
    watch.start()
    until(lambda: len(volume.asked) > 3)
    watch.end()
    until(ends)
    assert not events()


def test_a_question_under_way_at_the_end_is_told_of(events: Events) -> None:
    """As the whole process may have waited for the same page, the watch included."""
    volume = Volume()
    watch = VolumeWatch(VOLUME, volume.ask, patience=0.0, pause=10.0)
    watch.start()
    until(lambda: volume.asked)
    watch.end()
    volume.up.set()
    until(ends)
    assert events.warnings() == ["volume answered late"]


def test_a_question_that_no_thread_can_ask_is_told_of_too(events: Events) -> None:
    """As while a library is loaded by a thread that holds Python's lock, and waits for its page."""
    volume = Volume()
    volume.up.set()
    watch = VolumeWatch(VOLUME, volume.ask, patience=0.3, pause=0.01)
    watch.start()
    until(lambda: volume.asked)
    ctypes.PyDLL(None).usleep(500_000)
    until(lambda: events.of("volume answered late"))
    watch.end()
    until(ends)
    assert events.of("volume answered late")[0]["seconds"] >= 0.3


def test_a_volume_that_is_not_there_is_left_to_the_start(events: Events, tmp_path: Path) -> None:
    watch = VolumeWatch(tmp_path / "none", patience=0.0, pause=0.001)
    watch.start()
    until(ends)
    assert not events()
    watch.end()


@pytest.mark.usefixtures("events")
def test_the_free_space_of_a_real_volume_can_be_asked(tmp_path: Path) -> None:
    watch = VolumeWatch(tmp_path, pause=0.001)
    watch.start()
    watch.end()
    until(ends)
