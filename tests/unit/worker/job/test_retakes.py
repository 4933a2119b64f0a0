"""Which take of a sentence is kept, and how often one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.takes import take
from worker.job.retakes import Take, choose_takes
from worker.job.speech_check import Verdict


def texts(takes: Sequence[Take]) -> list[str]:
    return [one.utterance.text for one in takes]


def test_without_retries_nothing_is_spoken_again() -> None:
    def again(kept: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        raise AssertionError("nothing is to be spoken again")

    takes = choose_takes([take("a", 1.0)], again, 0)
    assert texts(takes.kept) == ["a"]
    assert takes.dropped == ()


def test_what_no_take_could_do_better_is_not_spoken_again() -> None:
    def again(kept: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        raise AssertionError("nothing is to be spoken again")

    hopeless = replace(take("a", 1.0), verdict=Verdict(("a fault",), 1.0, again=False))
    assert choose_takes([hopeless], again, 3).kept == (hopeless,)


def test_a_new_take_that_is_no_better_is_dropped() -> None:
    for new in (take("new", 1.0), take("new", 1.001)):
        takes = choose_takes([take("old", 1.0)], lambda *_, new=new: [new], 1)
        assert texts(takes.kept) == ["old"]
        assert texts(takes.dropped) == ["new"]


def test_an_old_take_that_is_worse_is_dropped() -> None:
    takes = choose_takes([take("old", 1.0)], lambda *_: [take("new", 0.999)], 1)
    assert texts(takes.kept) == ["new"]
    assert texts(takes.dropped) == ["old"]


def test_each_new_take_stands_in_for_its_own_sentence() -> None:
    wrong = {"b1": 0.0, "d1": 3.0, "d2": 1.0}

    def again(kept: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        names = [f"{kept[i].utterance.text}{attempt}" for i in bad]
        return [take(name, wrong[name]) for name in names]

    first = [take("a", 0.0), take("b", 2.0), take("c", 0.0), take("d", 2.0)]
    takes = choose_takes(iter(first), again, 2)
    assert texts(takes.kept) == ["a", "b1", "c", "d2"]
    assert texts(takes.dropped) == ["b", "d1", "d"]


def test_what_is_spoken_again_is_told_what_was_kept_so_far() -> None:
    told: list[list[str]] = []

    def again(kept: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        told.append(texts(kept))
        return [take(f"take {attempt}", 2.0 - attempt / 10)]

    choose_takes([take("first", 2.0), take("good", 0.0)], again, 2)
    assert told == [["first", "good"], ["take 1", "good"]]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_takes_must_come_as_were_asked_for(count: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        choose_takes([take("a", 1.0), take("b", 1.0)], lambda *_: [take("x", 0.0)] * count, 1)


def test_no_sentences_have_no_takes() -> None:
    takes = choose_takes([], lambda *_: [], 3)
    assert (takes.kept, takes.dropped) == ((), ())
