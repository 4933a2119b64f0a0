"""What stays in memory: the lately used, for a time, and never what was replaced meanwhile."""

from __future__ import annotations

from worker.voices.memory import Memory


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_kept_is_recalled_until_it_is_too_old() -> None:
    clock = Clock()
    memory = Memory[str](3, 60.0, clock)
    memory.keep("a", "old")
    clock.now += 59.9
    assert memory.recall("a") == "old"
    clock.now += 0.1
    assert memory.recall("a") is None
    assert len(memory) == 0


def test_asking_makes_nothing_younger_and_keeping_again_does() -> None:
    clock = Clock()
    memory = Memory[str](3, 60.0, clock)
    memory.keep("a", "one")
    clock.now += 50
    assert memory.recall("a") == "one"
    memory.keep("b", "two")
    clock.now += 20
    assert memory.recall("a") is None
    assert memory.recall("b") == "two"


def test_the_one_that_was_asked_for_longest_ago_goes_first() -> None:
    memory = Memory[int](2)
    memory.keep("a", 1)
    memory.keep("b", 2)
    assert memory.recall("a") == 1
    memory.keep("c", 3)
    assert [memory.recall(key) for key in "abc"] == [1, None, 3]
    assert len(memory) == 2


def test_what_is_forgotten_is_gone() -> None:
    memory = Memory[int](2)
    memory.keep("a", 1)
    memory.forget("a")
    memory.forget("never kept")
    assert memory.recall("a") is None


def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    """A slow read of one thread must not bring back what another replaced or removed."""
    memory = Memory[str](2)
    before = memory.changes
    memory.keep("a", "new")
    memory.keep_read("a", "old", before)
    assert memory.recall("a") == "new"
    before = memory.changes
    memory.forget("a")
    memory.keep_read("a", "new", before)
    assert memory.recall("a") is None
    memory.keep_read("a", "read since", memory.changes)
    assert memory.recall("a") == "read since"
