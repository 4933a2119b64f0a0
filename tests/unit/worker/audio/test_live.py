from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.sounds import clicks, speech, tone
from worker.audio.live import LiveLimiter, LiveShift, LiveTrim
from worker.audio.waveform import Audio, db_to_amplitude, limiting_gain, shift, trim
from worker.errors import SynthesisError

RATE = 16_000
VOICE = speech("Fifty thin fish, she said, if half of this is enough.")
LIMIT = db_to_amplitude(-1)
CUTS = st.lists(st.integers(0, 60_000), max_size=8)


def fed(stage, samples: np.ndarray, cuts: list[int]) -> np.ndarray:
    parts = np.split(samples, sorted(cuts))
    last = len(parts) - 1
    return np.concatenate([stage.feed(part, last=i == last) for i, part in enumerate(parts)])


def in_pieces(stage, samples: np.ndarray, size: int = 160) -> list[int]:
    """How many samples the stage has given after each piece of `size`."""
    given = [len(stage.feed(part)) for part in np.split(samples, range(size, len(samples), size))]
    return list(np.cumsum(given))


def silent(length: int) -> np.ndarray:
    return np.zeros(length, np.float32)


class TestTrim:
    @settings(max_examples=20, deadline=None)
    @given(cuts=CUTS, before=st.integers(0, 9_000), after=st.integers(0, 9_000))
    @example(cuts=[], before=1_086, after=0)  # a window between START_DBFS and trim's limit
    def test_speech_comes_as_trim_leaves_it_within_10_ms_of_its_margin(self, cuts, before, after):
        samples = np.pad(VOICE, (before, after))
        expected = trim(Audio(samples, RATE)).samples
        found = fed(LiveTrim(RATE), samples, cuts)
        assert abs(len(found) - len(expected)) <= 160
        both = min(len(found), len(expected))
        np.testing.assert_array_equal(found[-both:], expected[-both:])

    @settings(max_examples=20, deadline=None)
    @given(cuts=CUTS, before=st.integers(0, 9_000), after=st.integers(0, 9_000))
    def test_it_is_the_same_however_it_is_cut(self, cuts, before, after):
        samples = np.pad(VOICE, (before, after))
        np.testing.assert_array_equal(
            fed(LiveTrim(RATE), samples, cuts), fed(LiveTrim(RATE), samples, [])
        )

    @pytest.mark.parametrize("word", ["fifth", "she", "half", "sphinx", "thieves", "path"])
    @pytest.mark.parametrize("loudness", [1.0, 0.3, 0.1])
    def test_at_most_10_ms_of_the_margin_before_a_soft_consonant_are_lost(self, word, loudness):
        samples = np.pad(speech(word) * np.float32(loudness), 8_000)
        expected = trim(Audio(samples, RATE)).samples
        found = fed(LiveTrim(RATE), samples, [])
        lost = len(expected) - len(found)
        assert 0 <= lost <= 160
        np.testing.assert_array_equal(found, expected[lost:])

    def test_the_first_sound_leaves_with_its_margin_as_soon_as_it_is_heard(self):
        samples = np.concatenate([silent(16_000), tone(200, 0.1)])
        given = in_pieces(LiveTrim(RATE), samples)
        assert given[99] == 0
        assert given[100] == 800 + 160
        assert given[-1] == 800 + 1_600

    def test_after_a_sound_50_ms_leave_and_more_only_when_a_sound_follows(self):
        samples = np.concatenate([tone(200, 0.1), silent(32_000), tone(200, 0.1), silent(9_000)])
        stage = LiveTrim(RATE)
        given = in_pieces(stage, samples)
        assert given[10] == 1_600 + 160
        assert set(given[15:210]) == {1_600 + 800}
        assert given[210] == 33_600 + 160  # the silence within is kept, to the sample
        assert given[-1] == 35_200 + 800
        assert len(stage.feed(silent(0), last=True)) == 0

    @pytest.mark.parametrize("length", [0, 1, 159, 160, 5_000])
    @pytest.mark.parametrize("amplitude", [0.0, 1e-6])
    def test_where_nothing_can_be_heard_nothing_comes(self, length, amplitude):
        samples = np.full(length, amplitude, np.float32)
        assert len(fed(LiveTrim(RATE), samples, [100])) == 0

    def test_a_sentence_that_is_very_quiet_comes_at_its_end(self):
        samples = np.pad(VOICE * np.float32(db_to_amplitude(-70)), 8_000)
        stage = LiveTrim(RATE)
        assert in_pieces(stage, samples)[-1] == 0
        expected = trim(Audio(samples, RATE)).samples
        assert len(expected) > 0
        np.testing.assert_array_equal(stage.feed(silent(0), last=True), expected)

    def test_a_hum_far_below_the_speech_is_no_end_of_it(self):
        hum = tone(100, 1.0, amplitude=db_to_amplitude(-64))
        samples = np.concatenate([silent(3_000), VOICE, hum])
        np.testing.assert_array_equal(
            fed(LiveTrim(RATE), samples, [40_000]), trim(Audio(samples, RATE)).samples
        )

    def test_a_sound_in_a_last_window_that_is_not_whole_is_heard(self):
        samples = np.concatenate([tone(200, 0.1), silent(4_000), np.full(50, 0.5, np.float32)])
        np.testing.assert_array_equal(fed(LiveTrim(RATE), samples, [2_000]), samples)

    @pytest.mark.parametrize("rate", [8_000, 22_055, 48_000])
    def test_other_rates(self, rate):
        samples = np.pad(tone(200, 0.5, rate), rate)
        expected = trim(Audio(samples, rate)).samples
        np.testing.assert_array_equal(fed(LiveTrim(rate), samples, [7, rate]), expected)

    def test_what_is_no_number_is_an_error(self):
        with pytest.raises(SynthesisError, match="not numbers"):
            LiveTrim(RATE).feed(np.array([0, np.nan], np.float32))


CHANGES = [
    *[(0, 0.25), (0, 0.5), (0, 0.77), (0, 1.3), (0, 2.0), (0, 4.0)],
    *[(-12, 1.0), (-3, 1.0), (0.5, 1.0), (7, 1.0), (12, 1.0)],
    *[(-12, 4.0), (12, 4.0), (-12, 0.25), (12, 0.25), (2.5, 0.9), (-1, 1.15)],
]


class TestShift:
    @pytest.mark.parametrize(("semitones", "tempo"), CHANGES)
    def test_a_stream_is_what_shift_gives_to_the_bit(self, semitones, tempo):
        expected = shift(Audio(VOICE, RATE), semitones, tempo).samples
        found = fed(LiveShift(RATE, semitones, tempo), VOICE, [1_000, 1_001, 15_000, 30_000])
        assert len(found) == round(len(VOICE) / tempo)
        np.testing.assert_array_equal(found, expected)

    @settings(max_examples=15, deadline=None)
    @given(cuts=st.lists(st.integers(0, 13_000), max_size=8), change=st.sampled_from(CHANGES))
    def test_it_is_the_same_however_it_is_cut(self, cuts, change):
        samples = VOICE[:12_000]
        np.testing.assert_array_equal(
            fed(LiveShift(RATE, *change), samples, cuts),
            fed(LiveShift(RATE, *change), samples, []),
        )

    @settings(max_examples=25, deadline=None)
    @given(
        semitones=st.floats(-12, 12).map(lambda value: round(value, 2)),
        tempo=st.floats(0.25, 4),
        length=st.integers(0, 30_000),
    )
    def test_any_change_has_its_exact_length_and_no_break(self, semitones, tempo, length):
        samples = tone(200, length / RATE, amplitude=0.3)
        found = fed(LiveShift(RATE, semitones, tempo), samples, [length // 2])
        if semitones or tempo != 1:
            assert len(found) == round(length / tempo)
        # A wave of 200 Hz, an octave up 400: from one sample to the next it moves by little.
        steepest = 0.3 * 2 * np.pi * 200 * 2 ** (semitones / 12) / RATE
        assert np.abs(np.diff(found[800:-800])).max(initial=0) < 0.01 + 1.5 * steepest

    def test_without_a_change_the_very_samples_come_back(self):
        stage = LiveShift(RATE, 0, 1.0)
        assert stage.feed(VOICE) is VOICE
        assert len(stage.feed(silent(0), last=True)) == 0

    @pytest.mark.parametrize("last", [[0], [0, 0, 0]])
    def test_a_sentence_without_samples_gives_none(self, last):
        stage = LiveShift(RATE, 3, 0.8)
        assert all(
            len(stage.feed(silent(n), last=i == len(last) - 1)) == 0 for i, n in enumerate(last)
        )

    @pytest.mark.parametrize(
        ("semitones", "tempo", "fed_ms", "given_ms"),
        [
            (0, 1.0, 0, 0),
            (0, 0.8, 200, 70),
            (0, 1.25, 210, 40),
            (0, 2.0, 260, 20),
            (0, 4.0, 380, 10),
            (-3, 1.0, 260, 40),
            (3, 1.0, 260, 40),
        ],
    )
    def test_the_first_audio_does_not_wait_for_long(self, semitones, tempo, fed_ms, given_ms):
        given = in_pieces(LiveShift(RATE, semitones, tempo), VOICE[: fed_ms * 16])
        assert given[-1] >= given_ms * 16

    def test_it_never_falls_behind_by_more_than_an_eighth_and_its_reach(self):
        given = in_pieces(LiveShift(RATE, 0, 1.25), np.tile(VOICE, 2))
        for place, count in enumerate(given, 1):
            assert count * 1.25 / RATE >= 0.01 * place * 8 / 9 - 0.21

    @pytest.mark.parametrize(
        ("tempo", "off"), [(0.25, 0.008), (0.5, 0.005), (2, 0.005), (4, 0.015)]
    )
    def test_onsets_are_where_the_tempo_puts_them(self, tempo, off):
        positions = [100, 12_000, 24_000, 36_000, 47_900]
        found = fed(LiveShift(RATE, 0, tempo), clicks(positions, 48_000), [20_000])
        reach = round(3_000 / tempo)
        for position in positions:
            centre = round(position / tempo)
            first = max(0, centre - reach)
            place = first + int(np.abs(found[first : centre + reach]).argmax())
            assert abs(place - centre) <= off * RATE

    @pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
    def test_other_rates(self, rate):
        samples = speech("Half of it.", rate)
        expected = shift(Audio(samples, rate), 2, 1.2).samples
        np.testing.assert_array_equal(fed(LiveShift(rate, 2, 1.2), samples, [9_000]), expected)


def true_peak(samples: np.ndarray) -> float:
    between = soxr.resample(samples, RATE, 4 * RATE, quality="VHQ")
    return float(max(np.abs(samples).max(), np.abs(between).max()))


class TestLimiter:
    @settings(max_examples=25, deadline=None)
    @given(cuts=CUTS, gain=st.sampled_from([0.9, 1.3, 3.0, 40.0]))
    def test_it_is_the_same_however_it_is_cut(self, cuts, gain):
        samples = VOICE * np.float32(gain)
        once = fed(LiveLimiter(RATE), samples, [])
        np.testing.assert_array_equal(fed(LiveLimiter(RATE), samples, cuts), once)

    @pytest.mark.parametrize("length", [0, 1, 30, 5_000])
    def test_what_is_below_the_limit_comes_as_it_went_in(self, length):
        samples = (tone(440, length / RATE, amplitude=0.88) * np.hanning(length)).astype(np.float32)
        np.testing.assert_array_equal(fed(LiveLimiter(RATE), samples, [length // 3]), samples)

    @pytest.mark.parametrize("gain", [1.2, 2.0, 10.0])
    def test_loud_speech_stays_below_the_limit_between_its_samples_too(self, gain):
        samples = VOICE * np.float32(gain)
        found = fed(LiveLimiter(RATE), samples, [])
        assert len(found) == len(samples)
        assert np.abs(found).max() <= LIMIT * 1.0001
        assert true_peak(found) <= LIMIT * db_to_amplitude(0.1)
        assert true_peak(found) >= LIMIT * db_to_amplitude(-0.2)

    def test_behind_the_highest_peak_the_gain_is_the_file_s(self):
        samples = VOICE * np.float32(2)
        top = int(np.abs(samples).argmax())
        found = fed(LiveLimiter(RATE), samples, [])
        gain = limiting_gain([samples], RATE)
        np.testing.assert_allclose(
            found[top + 100 :], samples[top + 100 :] * gain, rtol=0.005, atol=1e-6
        )

    def test_before_a_peak_the_gain_falls_within_5_ms_and_smoothly(self):
        samples = np.full(8_000, 0.5, np.float32)  # what it is multiplied with shows
        samples[4_000] = 4
        gain = fed(LiveLimiter(RATE), samples, [])[:3_980] / 0.5
        assert (gain[:3_900] == 1).all()
        assert np.diff(gain).max() <= 1e-6
        assert -np.diff(gain).min() < 0.04
        assert fed(LiveLimiter(RATE), samples, [])[4_000] <= LIMIT

    def test_the_gain_does_not_rise_again(self):
        samples = np.concatenate([tone(300, 0.2, amplitude=2), tone(300, 2, amplitude=0.1)])
        found = fed(LiveLimiter(RATE), samples, [])
        ratio = np.abs(found[5_000:]).max() / 0.1
        assert ratio == pytest.approx(LIMIT / 2, rel=0.02)

    def test_a_peak_between_the_samples_counts(self):
        time = np.arange(4_000) - 2_000.5
        samples = (1.2 * np.sinc(0.9 * time)).astype(np.float32)
        assert np.abs(samples).max() < LIMIT
        found = fed(LiveLimiter(RATE), samples, [])
        assert np.abs(found).max() / np.abs(samples).max() == pytest.approx(LIMIT / 1.2, rel=0.02)

    def test_it_holds_back_less_than_6_ms(self):
        given = in_pieces(LiveLimiter(RATE), VOICE[:32_000])
        assert all(160 * place - count <= 96 for place, count in enumerate(given, 1))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_no_number_is_an_error(self, bad):
        with pytest.raises(SynthesisError, match="not numbers"):
            LiveLimiter(RATE).feed(np.array([0, bad], np.float32))
