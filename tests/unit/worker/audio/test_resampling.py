from __future__ import annotations

import numpy as np
import pytest

from tests.support.sounds import tone
from worker.audio.resampling import resampled


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_it_has_its_length_and_what_was_at_a_time_is_there(rate: int) -> None:
    samples = tone(300, 1.2345)
    found = np.concatenate(list(resampled(np.array_split(samples, 9), 16_000, rate)))
    assert len(found) == round(len(samples) * rate / 16_000)
    expected = tone(300, len(found) / rate, rate)
    middle = slice(rate // 10, -rate // 10)
    np.testing.assert_allclose(found[middle], expected[middle], atol=2e-3)


def test_it_is_the_same_however_it_is_cut() -> None:
    samples = tone(300, 1.0)
    whole = np.concatenate(list(resampled([samples], 16_000, 22_050)))
    cut = np.concatenate(list(resampled(np.split(samples, [0, 1, 777, 9_000]), 16_000, 22_050)))
    np.testing.assert_array_equal(cut, whole)


def test_at_its_own_rate_it_is_left_alone() -> None:
    samples = tone(300, 0.1)
    assert next(iter(resampled([samples], 16_000, 16_000))) is samples
