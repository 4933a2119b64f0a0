"""Loudness is that of ITU-R BS.1770, whoever computes it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.loudness import bs1770
from tests.support.sounds import speech, tone
from worker.audio.loudness import loudness_of

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000)
TEXT = "The quick brown fox jumps over the lazy dog. They sell sea shells by the shore."


def sine(dbfs: float, seconds: float, rate: int = 48_000) -> np.ndarray:
    """1 kHz whose peak has so many dBFS, as EBU Tech 3341 has it."""
    return tone(1_000, seconds, rate, 10 ** (dbfs / 20))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dbfs", [-23.0, -33.0])
def test_a_sine_in_one_channel_is_3_lu_below_what_it_is_in_two(rate: int, dbfs: float) -> None:
    """Tests 1 and 2 of Tech 3341, whose two channels give -23 and -33."""
    found = loudness_of([sine(dbfs, 20, rate)], rate)
    assert found == pytest.approx(dbfs - 3.01, abs=0.1)


@pytest.mark.parametrize(
    "parts",
    [
        [(-36, 10), (-23, 60), (-36, 10)],  # test 3: quiet beginnings count for nothing
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],  # 4
        [(-26, 20), (-20, 20.1), (-26, 20)],  # 5
    ],
)
def test_what_is_quiet_counts_for_nothing(parts: list[tuple[float, float]]) -> None:
    signal = [sine(dbfs, seconds) for dbfs, seconds in parts]
    assert loudness_of(signal, 48_000) == pytest.approx(-23 - 3.01, abs=0.1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("voice", ["en", "cmn"])
def test_speech_is_as_loud_as_an_independent_computation_finds(rate: int, voice: str) -> None:
    text = TEXT if voice == "en" else "今天天气很好，我们去看书。"
    samples = speech(text, rate, voice)
    # Where the rate is low, ffmpeg's filter bends a little near half of it.
    close = 0.2 if rate < 22_050 else 0.1
    assert loudness_of([samples], rate) == pytest.approx(bs1770(samples, rate), abs=close)


def test_it_is_the_same_however_the_audio_is_cut() -> None:
    samples = speech(TEXT)
    whole = loudness_of([samples], 16_000)
    for cuts in ([1, 2, 3], [5_000, 5_000, 20_001], list(range(160, len(samples), 160))):
        assert loudness_of(np.split(samples, cuts), 16_000) == whole


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.3999])
def test_what_is_shorter_than_a_block_is_measured_as_if_it_were_repeated(seconds: float) -> None:
    once = sine(-20, seconds, 16_000)
    found = loudness_of(np.array_split(once, 3), 16_000)
    assert found == pytest.approx(loudness_of([np.resize(once, 32_000)], 16_000), abs=0.3)
    assert found == pytest.approx(-23.01, abs=0.3)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(100), np.zeros(48_000), sine(-75, 3)])
def test_silence_has_none(samples: np.ndarray) -> None:
    assert loudness_of([samples.astype(np.float32)], 48_000) is None
