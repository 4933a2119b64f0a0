"""Tokens that repeat, or hardly change."""

from __future__ import annotations

import random

import pytest

from worker.job.repeated_tokens import SHORTEST_LOOP, Stretch, loop_of, stuck_of


def varied(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(500), k=count)


@pytest.mark.parametrize("period", [1, 2, 4])
def test_a_sound_that_is_held_is_found(period: int) -> None:
    tokens = varied(100) + [600, 601, 602, 603][:period] * (80 // period) + varied(100, 1)
    found = stuck_of(tokens)
    assert found is not None
    assert found.start == pytest.approx(2.0, abs=0.1)
    assert found.seconds == pytest.approx(80 / 50, abs=0.15)


def test_what_changes_is_not_held() -> None:
    assert stuck_of(varied(400)) is None
    assert stuck_of([token for token in varied(80) for _ in range(6)]) is None  # slow speech
    assert stuck_of([5] * 49) is None
    assert stuck_of([]) is None


@pytest.mark.parametrize("period", [SHORTEST_LOOP, 17, 50, 149])
def test_a_loop_is_found_where_it_begins(period: int) -> None:
    piece = varied(period, 2)
    repeated = -(-60 // period)
    tokens = varied(100) + piece * (1 + repeated) + varied(100, 1)
    found = loop_of(tokens, 30)
    assert found is not None
    assert found.start == pytest.approx((100 + period) / 50, abs=0.35)
    assert found.seconds == pytest.approx(period * repeated / 50, abs=0.6)


def test_a_loop_may_change_a_little() -> None:
    piece = varied(25, 3)
    changed = list(piece)
    changed[7] = 999
    assert loop_of(piece + changed + piece, 30) is not None


def test_a_word_that_comes_again_is_no_loop() -> None:
    word = varied(12, 4)
    assert loop_of(varied(60) + word + varied(40, 5) + word + varied(60, 6), 30) is None
    assert loop_of(varied(500), 30) is None
    assert loop_of([], 30) is None


def test_the_longest_is_told() -> None:
    short, long = varied(40, 7), varied(40, 8)
    found = loop_of(short * 2 + varied(30, 9) + long * 4, 30)
    assert isinstance(found, Stretch)
    assert found.start == pytest.approx((80 + 30 + 40) / 50, abs=0.15)
