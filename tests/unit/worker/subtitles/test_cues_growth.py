"""The search for captions finds what looking at all does, in work that grows with the words."""

from __future__ import annotations

import sys
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from worker.subtitles.cues import (
    LONE_WORD,
    MAX_LINES,
    MAX_SECONDS,
    MIN_SECONDS,
    READING_SPEED,
    CueWord,
    _break_cost,
    _bridge_cost,
    _cue_ends,
    _line_ends,
    _width,
    cues,
)
from worker.subtitles.style import SubtitleStyle
from worker.text.words import split_words
from worker.timing.word_timing import SentenceSpan, WordTiming


def ends_by_looking_at_all(words: list[CueWord], ends: list[bool], limit: int) -> list[int]:
    """The plain form of the search: each cost by itself, in the words of the formulas."""
    until = [0, *accumulate(_width(word) for word in words)]
    line_end = _line_ends(words, until, limit)
    bridges = [0.0, *accumulate(_bridge_cost(words, ends, i) for i in range(len(words)))]
    best = [0.0] + [float("inf")] * len(words)
    origin = [0] * (len(words) + 1)

    def cue_cost(start: int, end: int) -> float:
        seconds = (words[end - 1].end - words[start].start) / 100
        free = (words[end].start - words[end - 1].end) / 100 if end < len(words) else MIN_SECONDS
        width = until[end] - until[start]
        cost = 1.0 + 0.5 * (1 - min(width / (limit * MAX_LINES), 1)) ** 2
        if end - start == 1 and len(words) > 1:
            cost += LONE_WORD
        cost += max(width / READING_SPEED - seconds - max(free, 0.0), 0.0)
        cost += 3.0 * max(seconds - MAX_SECONDS, 0.0) * (end - start > 1)
        return cost + max(MIN_SECONDS - seconds - max(free, 0.0), 0.0)

    for end in range(1, len(words) + 1):
        after = _break_cost(words, ends, end)
        for start in range(end - 1, -1, -1):
            if line_end[line_end[start]] < end:
                break
            cost = best[start] + after + bridges[end - 1] - bridges[start] + cue_cost(start, end)
            if cost < best[end]:
                best[end], origin[end] = cost, start
    found = [len(words)]
    while origin[found[-1]]:
        found.append(origin[found[-1]])
    return found[::-1]


WORDS = st.lists(
    st.tuples(
        st.sampled_from(["a", "boy,", "walks.", "好", "，", "\u200b", "x" * 9, "ok)", "e\u0301"]),
        st.booleans(),  # a space before it
        st.integers(0, 900),  # centiseconds that it lasts
        st.sampled_from([0, 0, 1, 30, 100, 101, 900, -20]),  # ... until the next
        st.booleans(),  # whether its sentence ends with it
    ),
    min_size=1,
    max_size=60,
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(WORDS, st.sampled_from([8, 9, 20, 42, 120]), st.sampled_from([1, 7, 100]))
def test_the_cheapest_division_is_found(
    parts: list[tuple[str, bool, int, int, bool]], limit: int, faster: int
) -> None:
    words, ends, at = [], [], 0
    for text, spaced, lasting, pause, last in parts:
        words.append(CueWord(text, spaced, at, at + lasting // faster))
        ends.append(last)
        at = max(at + lasting // faster + pause, at)
    assert _cue_ends(words, ends, limit) == ends_by_looking_at_all(words, ends, limit)


@settings(deadline=None, max_examples=30)
@given(TEXTS.filter(split_words), st.sampled_from([42, 120]))
def test_the_cheapest_division_of_a_text_is_found(text: str, limit: int) -> None:
    words = [
        CueWord(word.text, bool(i), 30 * i, 30 * i + 25)
        for i, word in enumerate(split_words(text))
        if _width(CueWord(word.text, True, 0, 0)) <= limit
    ]
    ends = [i + 1 == len(words) for i in range(len(words))]
    if words:
        assert _cue_ends(words, ends, limit) == ends_by_looking_at_all(words, ends, limit)


def calls(text: str, words: list[str], columns: int) -> int:
    """How many functions, C's too, a layout calls: what it does, on any machine."""
    timed = [
        WordTiming(word, 0.05 * i, 0.05 * i + 0.04, 0.9, 0, estimated=False)
        for i, word in enumerate(words)
    ]
    style = SubtitleStyle(max_columns=columns, size=20)
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        cues(timed, [SentenceSpan(text, 0.0, 0.05 * len(words))], style)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("word", ["a", "的", "boy,"])
def test_twice_the_words_are_twice_the_work_however_wide_the_lines(word: str) -> None:
    work = {
        (count, columns): calls(" ".join([word] * count), [word] * count, columns)
        for count in (300, 600)
        for columns in (20, 120)
    }
    for columns in (20, 120):
        assert work[600, columns] < 2.1 * work[300, columns]
    for count in (300, 600):
        assert work[count, 120] < 1.3 * work[count, 20]


@pytest.mark.parametrize("filling", ["x", "\u200b", "x\u0301", "字", "👩‍👩‍👧"])
def test_a_word_of_any_length_is_broken_in_work_that_grows_with_it(filling: str) -> None:
    """Characters that take no column stand on one line, however many they are."""
    work = []
    for count in (200, 400, 800):
        word = "x" * 60 + filling * count
        work.append(calls(word, [word], 42))
    for shorter, longer in pairwise(work):
        assert longer < 2.3 * shorter
