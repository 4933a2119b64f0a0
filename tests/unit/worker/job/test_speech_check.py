"""The verdict on a sentence from its words' times and scores."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.takes import take
from worker.job.retakes import Take, choose_takes
from worker.job.speech_check import Verdict, judge
from worker.timing.word_timing import SentenceSpan, WordTiming

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


def verdict(timed: Sequence[Timed], end: float, tempo: float = 1.0, start: float = 0.0) -> Verdict:
    span = SentenceSpan(" ".join(w for w, *_ in timed), start, end)
    return judge(words(timed), span, tempo)


@pytest.mark.parametrize(("tempo", "factor"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.5)])
def test_what_a_pause_may_last_is_counted_as_the_model_spoke_it(
    tempo: float, factor: float
) -> None:
    for pause, wrong in [(1.49, 0.0), (1.51, 0.01), (2.0, 0.5)]:
        places = {
            "before 'one'": ([("one", pause, pause + 0.3, 0.9)], pause + 0.3),
            "before 'two'": (
                [("one", 0.0, 0.3, 0.9), ("two", 0.3 + pause, 0.6 + pause, 0.9)],
                0.6 + pause,
            ),
            "at the end": ([("one", 0.0, 0.3, 0.9)], 0.3 + pause),
        }
        for place, (timed, end) in places.items():
            slower = [(w, factor * a, factor * b, s) for w, a, b, s in timed]
            found = verdict(slower, factor * end, tempo)
            assert found.seconds == pytest.approx(wrong)
            assert found.good is (wrong == 0.0)
            assert [place in fault for fault in found.faults] == [True] * len(found.faults)


def test_a_pause_of_just_the_limit_is_good() -> None:
    assert verdict([("one", 1.5, 1.75, 0.9)], 3.25).good


@pytest.mark.parametrize(
    ("word", "longest"), [("stay", 1.6), ("I", 1.15), ("好的", 1.9), ("T恤", 1.6), ("—", 1.0)]
)
@pytest.mark.parametrize("tempo", [1.0, 0.5, 2.0])
def test_a_word_may_last_so_long(word: str, longest: float, tempo: float) -> None:
    """1 s and 0.15 s for each letter, a Chinese character being three."""
    assert verdict([(word, 0.0, (longest - 0.01) / tempo, 0.9)], longest / tempo, tempo).good
    end = (longest + 0.25) / tempo
    found = verdict([(word, 0.0, end, 0.9)], end, tempo)
    assert found.faults == (f"{word!r} lasts {longest + 0.25:.1f} s",)
    assert found.seconds == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("word", "score", "seconds", "said"),
    [
        ("spoken", 0.34, 0.179, False),
        ("spoken", 0.35, 0.179, True),
        ("spoken", 0.34, 0.181, True),
        ("would", 0.01, 0.05, True),
        ("would7", 0.01, 0.179, False),
        ("would-", 0.01, 0.05, True),
        ("squeezed.", 0.34, 0.239, False),
        ("squeezed.", 0.34, 0.241, True),
        ("今天", 0.1, 0.179, False),
        ("今天", 0.1, 0.181, True),
        ("今", 0.1, 0.05, True),
        ("spoken", 1.0, 0.04, True),
    ],
)
@pytest.mark.parametrize("tempo", [1.0, 0.5, 2.0])
def test_a_word_is_lost_where_its_place_is_short_and_its_sound_does_not_fit(
    word: str, score: float, seconds: float, said: bool, tempo: float
) -> None:
    """It has six letters or more, less than 0.03 s for each and a score below 0.35."""
    start, end = 1.0 / tempo, (1.0 + seconds) / tempo
    others = [("Well,", 0.0, start, 0.99), (word, start, end, score)]
    found = verdict(others, end, tempo)
    assert found.faults == (() if said else (f"{word!r} seems not to be said",))
    letters = {"spoken": 6, "would7": 6, "squeezed.": 8, "今天": 6}
    assert found.seconds == pytest.approx(0.0 if said else 0.15 * letters[word])


@pytest.mark.parametrize(("seconds", "said"), [(0.14, True), (0.125, True), (0.11, False)])
def test_a_fast_speaker_squeezes_no_word(seconds: float, said: bool) -> None:
    """Of the others a letter lasts 0.0375 s, and 0.6 of what all letters last is the limit."""
    others = [("Fastword", 0.0, 0.3, 0.9), ("quickly", 0.3, 0.5625, 0.9)]
    found = verdict([*others, ("squeez", 0.5625, 0.5625 + seconds, 0.1)], 0.5625 + seconds)
    assert found.good is said


@pytest.mark.parametrize(
    ("word", "said", "letters"),
    [
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven", 59),
        ("1987", "nineteen eighty seven", 19),
        ("1987", "一九八七", 12),
        ("A1B2C3", "A one B two C three", 20),
        ("billion", "billion dollars", 14),
        ("I", "I", 1),
    ],
)
def test_a_number_is_as_long_as_it_was_said(word: str, said: str, letters: int) -> None:
    longest = 1.0 + 0.15 * letters
    for seconds, good in ((longest - 0.01, True), (longest + 0.01, False)):
        timed = [WordTiming(word, 0.0, seconds, 0.9, 0, estimated=False, said=said)]
        assert judge(timed, SentenceSpan(word, 0.0, seconds)).good is good


def test_a_sentence_is_too_short_for_what_was_said() -> None:
    said = "one million two hundred thousand"
    timed = [WordTiming("1200000", 0.0, 0.5, 0.9, 0, estimated=False, said=said)]
    found = judge(timed, SentenceSpan("1200000", 0.0, 0.5))
    assert found.faults == ("0.5 s are too short for the text",)
    assert found.seconds == pytest.approx(0.15 * 28)


def test_a_word_without_a_score_of_its_own_is_not_called_lost() -> None:
    timed = [WordTiming("window", 0.0, 0.13, None, 0, estimated=False)]
    assert judge(timed, SentenceSpan("window", 0.0, 0.2)).good


@pytest.mark.parametrize("tempo", [1.0, 0.5, 2.0])
def test_a_sentence_must_be_long_enough_for_its_letters(tempo: float) -> None:
    """0.02 s for each; what is shorter is judged by that alone."""
    timed = [("Good", 0.0, 0.1 / tempo, 0.9), ("morning.", 0.1 / tempo, 0.2 / tempo, 0.9)]
    assert verdict(timed, 0.225 / tempo, tempo).good
    found = verdict(timed, 0.215 / tempo, tempo)
    assert found.faults == ("0.2 s are too short for the text",)
    assert found.seconds == pytest.approx(0.15 * 11)


def test_the_length_of_a_sentence_is_from_its_start_to_its_end() -> None:
    timed = [("Good", 7.0, 7.1, 0.9), ("morning.", 7.1, 7.2, 0.9)]
    assert verdict(timed, 7.25, start=7.0).good
    assert not verdict(timed, 7.2, start=7.0).good
    assert not verdict(timed, 9.0, start=7.0).good


@pytest.mark.parametrize(
    ("scores", "mean"),
    [((0.25, 0.25), None), ((0.2, 0.3), None), ((0.1, 0.38), 0.24), ((0.1, 0.1), 0.1)],
)
def test_words_that_hardly_fit_weigh_what_is_missing(
    scores: tuple[float, float], mean: float | None
) -> None:
    first, second = scores
    found = verdict([("good", 0.0, 0.5, first), ("days", 0.5, 1.0, second)], 1.0)
    if mean is None:
        assert found.good
    else:
        assert found.faults == (f"the words hardly fit the sound (mean score {mean:.2f})",)
        assert found.seconds == pytest.approx(0.15 * 8 * (1 - mean))


def test_a_weak_sentence_weighs_as_much_in_any_order_of_its_words() -> None:
    """All its letters count: 15 of them, of which 0.1 fits."""
    given = ["a", "good", "morning", "now"]
    for order in (given, given[::-1], [*given[1:], "a"]):
        timed = [(word, i / 2, i / 2 + 0.5, 0.1) for i, word in enumerate(order)]
        assert verdict(timed, 2.0).seconds == pytest.approx(0.15 * 15 * 0.9)


def test_words_that_were_not_measured_have_no_part_in_the_mean() -> None:
    timed = [("good", 0.0, 0.5, 0.3), ("😀", 0.5, 0.6, None), ("days", 0.6, 1.0, 0.3)]
    assert verdict(timed, 1.0).good


def test_all_that_is_wrong_adds_up() -> None:
    timed = [
        ("stay", 2.0, 4.0, 0.9),  # 0.5 s too late, 0.4 s too long
        ("always", 4.0, 4.1, 0.1),  # lost: six letters
        ("now", 4.2, 4.5, 0.9),
    ]
    found = verdict(timed, 6.25)  # 0.25 s of silence too much
    assert found.seconds == pytest.approx(0.5 + 0.4 + 0.15 * 6 + 0.25)
    assert len(found.faults) == 4


def test_a_pause_goes_from_one_measured_word_to_the_next() -> None:
    timed = [("one", 0.0, 0.3, 0.9), ("😀", 0.3, 1.9, None), ("two", 1.9, 2.2, 0.9)]
    found = verdict(timed, 2.2)
    assert found.faults == ("1.6 s without a word before 'two'",)
    assert found.seconds == pytest.approx(0.1)


def test_a_long_sentence_without_words_is_no_good() -> None:
    found = verdict([], 2.0)
    assert found.faults == ("2.0 s without a word at the end",)
    assert verdict([], 1.5).good


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
