"""Speech is brought to its loudness, and its peaks stay below their limit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.loudness import bs1770, true_peak
from tests.support.sounds import clicks, speech, tone
from worker.audio.levelling import MOST_PRESSED, Level, Press, level
from worker.audio.waveform import db_to_amplitude, limiting_gain
from worker.errors import SynthesisError

RATE = 16_000
VOICE = speech(
    "The quick brown fox jumps over the lazy dog. She sells sea shells by the shore, and they "
    "cost seven pounds each."
)


def levelled(
    samples: np.ndarray, loudness: float | None, limit: float = -1, rate: int = RATE
) -> tuple[np.ndarray, Level]:
    def blocks() -> Iterator[np.ndarray]:
        return iter(np.array_split(samples, 7))

    found = level(blocks, rate, loudness=loudness, true_peak=limit)
    return np.concatenate(list(found.applied(blocks()))), found


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("target", [-36, -23, -19, -16])
def test_speech_has_the_loudness_that_was_asked_for(rate: int, target: float) -> None:
    voice = speech("The quick brown fox jumps over the lazy dog, and sells shells.", rate)
    heard, found = levelled(voice, target, rate=rate)
    assert bs1770(heard, rate) == pytest.approx(target, abs=0.5)
    assert found.loudness == pytest.approx(target, abs=0.2)
    assert true_peak(heard, rate) < -1 + 0.05
    assert len(heard) == len(voice)


@pytest.mark.parametrize("amplitude", [0.005, 0.05, 1.0, 4.0])
def test_it_does_not_depend_on_how_loud_the_speech_was(amplitude: float) -> None:
    heard, _ = levelled(VOICE * np.float32(amplitude), -18)
    assert bs1770(heard, RATE) == pytest.approx(-18, abs=0.3)


def test_gain_alone_is_given_where_the_peaks_allow_it() -> None:
    heard, found = levelled(VOICE, -23)
    assert found.press is None
    np.testing.assert_array_equal(heard, VOICE * np.float32(found.gain))


@pytest.mark.parametrize("limit", [-9, -3, -1, 0])
def test_peaks_stay_below_the_limit_however_loud_it_is_to_be(limit: float) -> None:
    heard, found = levelled(VOICE, -8, limit)
    assert true_peak(heard, RATE) < limit + 0.1
    assert true_peak(heard, RATE) > limit - 0.5
    assert found.loudness is not None
    assert found.loudness == pytest.approx(bs1770(heard, RATE), abs=0.2)
    assert found.loudness < -8.5  # the limit wins, and says by how much
    # The peak is pressed by no more than that.
    assert found.gain * np.abs(VOICE).max() < db_to_amplitude(limit + MOST_PRESSED + 0.1)


def test_a_peak_is_pressed_for_some_hundredths_of_a_second_and_smoothly() -> None:
    quiet = tone(200, 2.0, RATE, 0.1)
    peak = clicks([16_000], len(quiet), 0.9)
    press = Press(np.abs(quiet + peak).reshape(-1, 32).max(axis=1), RATE, 2.0, 0.9)
    gain = np.concatenate(list(press.applied([np.ones(len(quiet), np.float32)])))
    far = np.r_[: 16_000 - 800, 16_000 + 800 : len(gain)]
    np.testing.assert_allclose(gain[far], 2.0, rtol=1e-6)
    assert gain[16_000] == pytest.approx(0.9 / 0.9, rel=1e-3)
    assert np.abs(np.diff(gain)).max() < 2.0 / 16  # no step: at most a tenth of it in a millisecond


@settings(max_examples=30, deadline=None)
@given(
    peaks=st.lists(st.floats(0, 1), min_size=1, max_size=120),
    gain=st.floats(0.5, 8),
    cuts=st.lists(st.integers(0, 120 * 32), max_size=4),
)
def test_no_frame_is_louder_than_the_limit_nor_than_its_gain(
    peaks: list[float], gain: float, cuts: list[int]
) -> None:
    known = np.array(peaks, np.float32)
    press = Press(known, RATE, gain, 0.8)
    ones = np.ones(32 * len(known), np.float32)
    gains = np.concatenate(list(press.applied(np.split(ones, sorted(cuts)))))
    assert len(gains) == len(ones)
    assert (gains.reshape(-1, 32).max(axis=1) * known <= 0.8 * (1 + 1e-5)).all()
    assert gains.max() <= gain * (1 + 1e-6)
    assert gains.min() > 0
    np.testing.assert_allclose(gains, next(iter(press.applied([ones]))), rtol=1e-5)


@pytest.mark.parametrize("loudness", [None, -16])
def test_what_cannot_be_measured_is_left_as_it_is(loudness: float | None) -> None:
    faint = VOICE * np.float32(1e-5)
    heard, found = levelled(faint, loudness)
    assert found.loudness is None
    np.testing.assert_array_equal(heard, faint)


@pytest.mark.parametrize("limit", [-6, -1])
def test_without_a_loudness_there_is_the_limit_alone(limit: float) -> None:
    heard, found = levelled(VOICE * np.float32(2), None, limit)
    assert found.gain == float(limiting_gain([VOICE * np.float32(2)], RATE, limit))
    assert true_peak(heard, RATE) == pytest.approx(limit, abs=0.05)


def test_short_speech_has_its_loudness_too() -> None:
    heard, found = levelled(VOICE[1_600:4_800], -20)
    assert found.loudness == pytest.approx(-20, abs=0.2)
    assert bs1770(np.resize(heard, RATE), RATE) == pytest.approx(-20, abs=0.5)


@pytest.mark.parametrize("loudness", [None, -16])
def test_what_is_no_number_is_refused(loudness: float | None) -> None:
    samples = VOICE.copy()
    samples[5_000] = np.nan
    with pytest.raises(SynthesisError, match="not numbers"):
        levelled(samples, loudness)
