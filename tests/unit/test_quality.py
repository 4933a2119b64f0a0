"""The verdict on a sentence from its words' times and scores."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.takes import take
from worker.quality import judge
from worker.takes import Take, choose_takes
from worker.words import SentenceSpan, WordTiming

Timed = tuple[str, float, float, float | None]
GOOD: list[Timed] = [("She", 0.1, 0.3, 0.8), ("opened", 0.35, 0.7, 0.6), ("it.", 0.75, 0.9, 0.7)]


def words(timed: Sequence[Timed]) -> list[WordTiming]:
    return [WordTiming(w, a, b, s, 0, estimated=s is None) for w, a, b, s in timed]


def faults(timed: Sequence[Timed], end: float, tempo: float = 1.0) -> tuple[str, ...]:
    span = SentenceSpan(" ".join(w for w, *_ in timed), 0.0, end)
    return judge(words(timed), span, tempo).faults


def test_a_normal_sentence_is_good() -> None:
    assert faults(GOOD, 1.0) == ()


@pytest.mark.parametrize(
    ("timed", "end", "part"),
    [
        ([*GOOD[:2], ("window.", 0.7, 0.8, 0.1)], 0.9, "'window.' seems not to be said"),
        ([GOOD[0], ("opened", 0.35, 4.0, 0.6), ("it.", 4.1, 4.3, 0.7)], 4.4, "'opened' lasts 3."),
        (GOOD, 3.0, "2.1 s without a word at the end"),
        ([("It.", 2.0, 2.2, 0.9)], 2.3, "2.0 s without a word before 'It.'"),
        ([("今天", 0.1, 3.9, 0.9)], 4.0, "'今天' lasts 3.8 s"),
        ([("No", 0.1, 0.3, 0.2), ("way!", 0.35, 0.6, 0.1)], 0.7, "hardly fit the sound"),
        ([("Hippopotamus", 0.0, 0.1, None)], 0.1, "too short for the text"),
        ([("Hello.", 0.0, 0.0, None)], 0.0, "too short for the text"),
    ],
)
def test_faults_are_named(timed: list[Timed], end: float, part: str) -> None:
    assert any(part in fault for fault in faults(timed, end))


def test_limits_move_with_the_tempo_that_was_asked_for() -> None:
    slow = [(w, 2 * a, 2 * b, s) for w, a, b, s in [GOOD[0], ("opened", 0.4, 1.7, 0.6)]]
    assert faults(slow, 3.5)
    assert faults(slow, 3.5, tempo=0.5) == ()


def test_estimated_words_say_nothing_of_themselves() -> None:
    assert faults([("🙂", 0.0, 5.0, None)], 5.0) == ()


def test_a_short_word_may_be_swallowed() -> None:
    assert faults([GOOD[0], ("the", 0.3, 0.34, 0.01), ("dog.", 0.4, 0.7, 0.8)], 0.8) == ()


def test_good_takes_are_kept_as_they_are() -> None:
    first = [take("a", 0.0), take("b", 0.0)]

    def again(kept: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        raise AssertionError("nothing is to be spoken again")

    assert choose_takes(first, again, 3).kept == tuple(first)


@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_the_better_take_is_kept_and_the_number_bounded(retries: int) -> None:
    asked: list[tuple[list[int], int]] = []
    wrong = {1: 3.0, 2: 1.0, 3: 2.0}

    def again(kept: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        asked.append((list(bad), attempt))
        return [take(f"b{attempt}", wrong[attempt]) for _ in bad]

    takes = choose_takes([take("a", 0.0), take("b", 2.0)], again, retries)
    assert asked == [([1], attempt) for attempt in range(1, retries + 1)]
    assert [t.utterance.text for t in takes.kept] == ["a", "b2" if retries > 1 else "b"]
    assert len(takes.dropped) == retries


def test_what_became_good_is_not_spoken_again() -> None:
    asked: list[list[int]] = []

    def again(kept: Sequence[Take], bad: Sequence[int], attempt: int) -> list[Take]:
        asked.append(list(bad))
        return [take("new", 0.0 if i == 0 else 1.0) for i in bad]

    takes = choose_takes([take("a", 1.0), take("b", 1.0)], again, 2)
    assert asked == [[0, 1], [1]]
    assert [t.utterance.text for t in takes.kept] == ["new", "b"]
