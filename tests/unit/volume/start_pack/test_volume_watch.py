"""A volume that does not answer is noticed while it does not, and when it does."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

from tests.support.waiting import until
from volume.start_pack.volume_watch import VolumeWatch

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


class Told(list[tuple[bool, float]]):
    """What was told: whether the volume has answered, and the seconds."""

    def add(self, answered: bool, seconds: float) -> None:
        self.append((answered, seconds))

    @property
    def kinds(self) -> list[bool]:
        return [answered for answered, _ in self]


def test_silence_is_told_while_it_lasts_and_its_length_afterwards() -> None:
    volume, told = Volume(), Told()
    watch = VolumeWatch(VOLUME, volume.ask, patience=0.05, pause=0.01)
    watch.listen(told.add)
    watch.start()
    until(lambda: told)
    assert told.kinds == [False]
    volume.up.set()
    until(lambda: len(told) > 1)
    watch.end()
    until(ends)
    assert told.kinds[:2] == [False, True]  # once for each question
    assert told[1][1] >= told[0][1] >= 0.05
    assert {*volume.asked} == {VOLUME}


def test_a_volume_that_answers_is_asked_until_the_end_and_nothing_is_told() -> None:
    volume, told = Volume(), Told()
    volume.up.set()
    watch = VolumeWatch(VOLUME, volume.ask, patience=10.0, pause=0.001)
    watch.listen(told.add)
    watch.start()
    until(lambda: len(volume.asked) > 3)
    watch.end()
    until(ends)
    assert told == []


def test_what_was_noticed_before_anybody_listened_is_told_then() -> None:
    """And a question that is under way at the end: all of the process may wait for one page."""
    volume, told = Volume(), Told()
    watch = VolumeWatch(VOLUME, volume.ask, patience=0.0, pause=10.0)
    watch.start()
    until(lambda: volume.asked)
    watch.end()
    volume.up.set()
    until(ends)
    watch.listen(told.add)
    assert told.kinds == [True]


def test_a_question_that_no_thread_can_ask_is_told_of_too() -> None:
    """As while a library is loaded by a thread that holds Python's lock, and waits for its page."""
    volume, told = Volume(), Told()
    volume.up.set()
    watch = VolumeWatch(VOLUME, volume.ask, patience=0.3, pause=0.01)
    watch.listen(told.add)
    watch.start()
    until(lambda: volume.asked)
    ctypes.PyDLL(None).usleep(500_000)
    until(lambda: told)
    watch.end()
    until(ends)
    assert told[0][0]
    assert told[0][1] >= 0.3


def test_a_volume_that_is_not_there_is_left_to_the_start(tmp_path: Path) -> None:
    told = Told()
    watch = VolumeWatch(tmp_path / "none", patience=0.0, pause=0.001)
    watch.listen(told.add)
    watch.start()
    until(ends)
    assert told == []


def test_the_free_space_of_a_real_volume_can_be_asked(tmp_path: Path) -> None:
    told = Told()
    watch = VolumeWatch(tmp_path, patience=0.0, pause=0.001)
    watch.listen(told.add)
    watch.start()
    until(lambda: told)
    watch.end()
    until(ends)
