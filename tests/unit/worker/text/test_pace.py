"""How long a text takes to say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sounds import speech
from worker.text.pace import pace_of


@pytest.mark.parametrize(
    "text",
    [
        "The gardener walked slowly along the narrow path.",
        "The population is about 2,400,000.",
        "It costs $14.80, or 20% less than in 1999.",
        "Dr. Lee of the BBC lives 5 km from here.",
        "Hm.",
    ],
)
@pytest.mark.parametrize("words_a_minute", [120, 175, 220])
def test_a_text_takes_as_long_as_a_synthesizer_takes(text: str, words_a_minute: int) -> None:
    pace = pace_of(text)
    seconds = speech(text, pace=words_a_minute).size / 16_000
    tempo = 175 / words_a_minute
    assert 0.5 * pace.least * tempo < seconds < 1.6 * pace.most * tempo + 0.4


def test_so_does_chinese() -> None:
    pace = pace_of("今天天气很好，我们一起去图书馆看书吧。")
    seconds = speech("今天天气很好，我们一起去图书馆看书吧。", voice="cmn").size / 16_000
    assert 0.5 * pace.least < seconds < 1.6 * pace.most + 0.4


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        ("She came.", "She came back home."),
        ("Go to page 7.", "Go to page 777."),
        ("你好。", "你好，朋友们。"),
        ("Ok", "OK/@&"),
    ],
)
def test_more_text_takes_longer(shorter: str, longer: str) -> None:
    assert pace_of(shorter).most < pace_of(longer).most


def test_a_number_has_a_range() -> None:
    year = pace_of("1999")
    assert year.most > 1.1 * year.least
    assert pace_of("plain words").most == pace_of("plain words").least


@given(st.text(max_size=60))
def test_any_text_has_a_pace(text: str) -> None:
    pace = pace_of(text)
    assert 0 < pace.least <= pace.most
