from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sounds import clicks, speech, spoken, tone
from worker.audio.waveform import (
    Audio,
    amplitude_to_db,
    check_finite,
    db_to_amplitude,
    limit_peak,
    limiting_gain,
    shift,
    trim,
    window_rms,
)
from worker.errors import SynthesisError

RATE = 16_000
TEXT = "Fifty thin fish, she said, if half of this is enough."


def decibels(value: float) -> float:
    return float(10 ** (value / 20))


def pitch(samples: np.ndarray, rate: int) -> float:
    """Frequency in Hz of the strongest partial in the middle half, to rate / 262144."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    return float(spectrum.argmax()) * rate / (1 << 18)


def trimmed_and_cut(
    samples: np.ndarray, rate: int = RATE, **margin: float
) -> tuple[Audio, tuple[int, int]]:
    """What trim leaves, and how many samples it cut at the front and at the back."""
    whole = samples.astype(np.float32)
    left = trim(Audio(whole, rate), **margin)
    assert np.shares_memory(left.samples, whole)  # so its place in memory tells where it was
    front = (left.samples.ctypes.data - whole.ctypes.data) // whole.itemsize
    return left, (front, len(whole) - front - len(left.samples))


class TestTrim:
    @pytest.mark.parametrize("loudness", [0.0, -20.0, -40.0, -60.0])
    def test_speech_is_kept_and_the_silence_around_it_goes(self, loudness):
        voice = speech(TEXT) * np.float32(decibels(loudness))
        step = 1 / 32768  # what differs from zero by less is lost in any file of 16 bits
        audible = np.flatnonzero(np.abs(voice) > max(np.abs(voice).max() * 0.02, 2 * step))
        samples = np.concatenate([np.zeros(9_000), voice, np.zeros(20_000)]).astype(np.float32)

        left, (front, back) = trimmed_and_cut(samples)

        assert front <= 9_000 + audible[0]
        assert len(samples) - back > 9_000 + audible[-1]
        assert front > 8_000
        assert back > 18_000
        np.testing.assert_array_equal(left.samples, samples[front : len(samples) - back])

    @pytest.mark.parametrize("word", ["fifth", "she", "half", "sphinx", "thieves", "path"])
    def test_a_weak_consonant_at_the_edge_is_kept(self, word):
        voice = speech(word)
        audible = np.flatnonzero(np.abs(voice) > np.abs(voice).max() * 0.01)
        _, (front, back) = trimmed_and_cut(np.pad(voice, 8_000), margin=0.0)
        # A window is 160 samples: what lies in the first or last of them may be below it in mean.
        assert front <= 8_000 + audible[0] + 160
        assert back <= 8_000 + len(voice) - audible[-1] + 160

    def test_a_noise_floor_well_below_speech_is_silence(self):
        noise = np.random.default_rng(1).standard_normal(80_000) * decibels(-75)
        voice = speech(TEXT)[:40_000]
        noise[20_000:60_000] += voice
        _, (front, back) = trimmed_and_cut(noise)
        assert 18_000 < front <= 20_000 + 800
        assert back > 18_000

    @pytest.mark.parametrize("amplitude", [0.0, 1e-6])
    def test_what_nobody_can_hear_comes_back_empty(self, amplitude):
        trimmed = trim(Audio(np.full(5_000, amplitude, dtype=np.float32), RATE))
        assert (len(trimmed.samples), trimmed.sample_rate) == (0, RATE)

    @pytest.mark.parametrize("length", [0, 1, 7, 159, 160, 161])
    def test_tiny_audio_is_left_whole(self, length):
        assert len(trim(Audio(np.full(length, 0.1, dtype=np.float32), RATE)).samples) == length

    def test_the_margin_is_kept_on_both_sides(self):
        samples = np.zeros(48_000, dtype=np.float32)
        samples[16_000:32_000] = tone(200, 1.0)
        _, cut = trimmed_and_cut(samples, margin=0.1)
        assert cut == (14_400, 14_400)

    def test_without_a_word_50_ms_are_kept(self):
        samples = np.pad(np.full(1_600, 0.5, dtype=np.float32), 16_000)
        left, cut = trimmed_and_cut(samples)
        assert cut == (16_000 - 800, 16_000 - 800)
        assert len(left.samples) == 1_600 + 2 * 800
        assert left.sample_rate == RATE

    def test_the_margin_ends_where_the_audio_does(self):
        samples = np.zeros(3_200, dtype=np.float32)
        samples[320:480] = samples[2_880:3_040] = 0.5  # 20 ms from either end
        trimmed = trim(Audio(samples, RATE))
        np.testing.assert_array_equal(trimmed.samples, samples)

    def test_the_margin_is_of_the_audio_s_own_sample_rate(self):
        samples = np.pad(np.full(4_800, 0.5, dtype=np.float32), 48_000)
        left, cut = trimmed_and_cut(samples, 48_000)
        assert cut == (48_000 - 2_400, 48_000 - 2_400)
        assert left.sample_rate == 48_000

    def test_the_margin_is_rounded_to_whole_samples(self):
        # At 22,055 Hz a window of 10 ms is 221 samples, and 50 ms are 1102.75.
        samples = np.zeros(221 * 50, dtype=np.float32)
        samples[221 * 20 : 221 * 30] = 0.5
        _, cut = trimmed_and_cut(samples, 22_055)
        assert cut == (221 * 20 - 1_103, 221 * 20 - 1_103)

    @pytest.mark.parametrize(("loudness", "heard"), [(-49.0, True), (-51.0, False)])
    def test_what_is_50_db_below_the_loudest_moment_is_silence(self, loudness, heard):
        samples = np.zeros(16_000, dtype=np.float32)
        samples[8_000:9_600] = 0.5
        samples[1_600:3_200] = 0.5 * decibels(loudness)
        _, cut = trimmed_and_cut(samples, margin=0.0)
        assert cut == (1_600 if heard else 8_000, 6_400)

    @pytest.mark.parametrize(("loudness", "heard"), [(-99.0, True), (-101.0, False)])
    def test_what_rounds_to_zero_in_16_bits_is_silence(self, loudness, heard):
        samples = np.full(1_600, decibels(loudness), dtype=np.float32)
        trimmed = trim(Audio(samples, RATE))
        assert len(trimmed.samples) == (1_600 if heard else 0)

    def test_a_sound_in_the_last_part_of_a_window_is_heard(self):
        samples = np.zeros(16_000 + 50, dtype=np.float32)
        samples[-50:] = 0.5  # less than a window of 10 ms behind the last whole one
        _, cut = trimmed_and_cut(samples, margin=0.0)
        assert cut == (16_000, 0)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_no_number_is_an_error_and_not_silence(self, bad):
        samples = tone(200, 1.0)
        samples[7] = bad
        with pytest.raises(SynthesisError, match="not numbers"):
            trim(Audio(samples, RATE))


class TestShift:
    @pytest.mark.parametrize("semitones", [-12, -7, -1, 0, 0.5, 4, 12])
    @pytest.mark.parametrize("tempo", [0.25, 0.5, 0.8, 1.0, 1.3, 2.0, 4.0])
    def test_pitch_and_duration_are_right(self, semitones, tempo):
        for frequency in (100, 150, 220, 440, 1000):
            samples = tone(frequency, 2.0)
            shifted = shift(Audio(samples, RATE), semitones, tempo)
            assert len(shifted.samples) == round(len(samples) / tempo)
            expected = frequency * 2 ** (semitones / 12)
            off = 0.01 if tempo >= 0.5 else 0.015
            assert pitch(shifted.samples, RATE) == pytest.approx(expected, rel=off)

    @pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
    def test_it_holds_at_other_sample_rates(self, rate):
        shifted = shift(Audio(tone(220, 2.0, rate), rate), 3, 0.9)
        assert shifted.sample_rate == rate
        assert len(shifted.samples) == round(2 * rate / 0.9)
        assert pitch(shifted.samples, rate) == pytest.approx(220 * 2**0.25, rel=0.01)

    @pytest.mark.parametrize(("semitones", "tempo"), [(0, 0.5), (0, 1.4), (0, 2), (5, 1), (-5, 1)])
    def test_onsets_move_with_the_tempo_and_not_with_the_pitch(self, semitones, tempo):
        positions = [100, 12_000, 24_000, 36_000, 47_900]
        shifted = shift(Audio(clicks(positions, 48_000), RATE), semitones, tempo)
        reach = round(3_000 / tempo)
        for position in positions:
            centre = round(position / tempo)
            first = max(0, centre - reach)
            found = first + int(np.abs(shifted.samples[first : centre + reach]).argmax())
            assert abs(found - centre) <= 0.005 * RATE

    @pytest.mark.parametrize(
        ("semitones", "tempo"),
        [(-12, 4.0), (12, 0.25), (12, 4.0), (-12, 0.25), (-12, 2.0), (12, 0.5), (0, 4.0)],
    )
    def test_onsets_hold_at_the_corners_of_the_range(self, semitones, tempo):
        positions = [12_000, 24_000, 36_000]
        shifted = shift(Audio(clicks(positions, 48_000), RATE), semitones, tempo)
        reach = round(3_000 / tempo)
        for position in positions:
            centre = round(position / tempo)
            found = (
                centre
                - reach
                + int(np.abs(shifted.samples[centre - reach :][: 2 * reach]).argmax())
            )
            assert abs(found - centre) <= (0.024 if tempo == 4 else 0.020) * RATE

    @pytest.mark.parametrize(
        ("semitones", "tempo"), [(2, 0.8), (0, 0.25), (0, 4), (12, 4), (-12, 4)]
    )
    def test_the_first_and_last_sound_keep_their_loudness(self, semitones, tempo):
        shifted = shift(Audio(tone(300, 2.0), RATE), semitones, tempo).samples
        middle = np.sqrt(np.mean(shifted[len(shifted) // 3 : len(shifted) // 2] ** 2))
        length = round(320 / min(tempo, 0.8))
        for end in (shifted[:length], shifted[-length:]):
            assert np.sqrt(np.mean(end**2)) > 0.6 * middle

    def test_no_change_gives_the_same_object(self):
        audio = Audio(tone(300, 0.1), RATE)
        assert shift(audio, 0, 1.0) is audio

    @pytest.mark.parametrize(("semitones", "tempo"), [(3, 1.0), (0, 1.5)])
    def test_each_change_alone_is_made(self, semitones, tempo):
        audio = Audio(tone(300, 0.5), RATE)
        shifted = shift(audio, semitones, tempo)
        assert shifted is not audio
        assert len(shifted.samples) == round(8_000 / tempo)
        assert shifted.samples.dtype == np.float32
        assert pitch(shifted.samples, RATE) == pytest.approx(300 * 2 ** (semitones / 12), rel=0.01)

    def test_empty_audio_is_the_same_object(self):
        empty = Audio(np.zeros(0, dtype=np.float32), RATE)
        assert shift(empty, 3, 0.5) is empty

    @pytest.mark.parametrize("length", [0, 1, 2, 100, 1_000])
    @pytest.mark.parametrize(("semitones", "tempo"), [(0, 0.25), (-12, 4.0), (12, 0.77)])
    def test_short_audio_has_its_exact_length_too(self, length, semitones, tempo):
        shifted = shift(Audio(np.full(length, 0.1, dtype=np.float32), RATE), semitones, tempo)
        assert len(shifted.samples) == round(length / tempo)
        assert np.isfinite(shifted.samples).all()

    def test_the_same_audio_gives_the_same_samples(self):
        audio = Audio(speech(TEXT), RATE)
        first, second = shift(audio, 3, 0.6), shift(audio, 3, 0.6)
        np.testing.assert_array_equal(first.samples, second.samples)

    def test_words_of_real_speech_keep_their_order_and_place(self):
        said = spoken("one. two. three.")
        shifted = shift(Audio(said.samples, RATE), -3, 0.5)
        for word in said.words:
            before = said.samples[round(word.start * RATE) :][: RATE // 5]
            after = shifted.samples[round(word.start * RATE / 0.5) :][: 2 * RATE // 5]
            loud = np.sqrt(np.mean(before**2))
            assert np.sqrt(np.mean(after**2)) == pytest.approx(loud, rel=0.3)


class TestLimitPeak:
    def test_loud_audio_is_scaled_below_the_limit(self):
        limited = limit_peak(Audio(tone(440, 1.0, amplitude=3.0), RATE))
        assert np.abs(limited.samples).max() == pytest.approx(decibels(-1), rel=1e-3)
        np.testing.assert_allclose(
            limited.samples, tone(440, 1.0, amplitude=decibels(-1)), atol=1e-3
        )

    def test_quiet_audio_is_the_same_object(self):
        audio = Audio(tone(440, 1.0, amplitude=0.5), RATE)
        assert limit_peak(audio) is audio

    def test_a_peak_between_the_samples_counts(self):
        # A quarter of the sample rate, half a sample off: all samples at 0.707 of the peak.
        time = np.arange(RATE) + 0.5
        samples = (1.2 * np.sin(np.pi / 2 * time)).astype(np.float32)
        assert np.abs(samples).max() < decibels(-1)
        limited = limit_peak(Audio(samples, RATE)).samples
        assert np.abs(limited[4_000:12_000]).max() == pytest.approx(
            decibels(-1) * np.sqrt(0.5), rel=0.1
        )

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_is_an_error(self, bad):
        samples = tone(440, 0.1)
        samples[7] = bad
        with pytest.raises(SynthesisError, match="not numbers"):
            limit_peak(Audio(samples, RATE))

    def test_empty_audio_passes(self):
        empty = Audio(np.zeros(0, dtype=np.float32), RATE)
        assert limit_peak(empty) is empty

    @pytest.mark.parametrize("degrees", [22.5, 67.5])
    def test_a_peak_a_quarter_of_the_way_between_two_samples_counts(self, degrees):
        # At a quarter of the sample rate a sample is 90 degrees long. The crest lies a quarter or
        # three quarters of the way from one sample to the next, where double the rate has none.
        samples = np.sin(np.radians(degrees + 90 * np.arange(RATE))).astype(np.float32)
        limited = limit_peak(Audio(samples, RATE)).samples
        ratio = np.abs(limited[4_000:12_000]).max() / np.abs(samples).max()
        assert ratio <= decibels(-1)
        assert ratio == pytest.approx(decibels(-1), rel=0.1)  # the ends ring a little

    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_single_peak_between_two_samples_counts_on_either_side(self, sign):
        # Its samples reach 0.84 of full scale, the wave between them 1.2; beyond zero it has 0.26.
        time = np.arange(4_000) - 2_000.5
        samples = (sign * 1.2 * np.sinc(0.9 * time)).astype(np.float32)
        limited = limit_peak(Audio(samples, RATE)).samples
        ratio = np.abs(limited).max() / np.abs(samples).max()
        assert ratio == pytest.approx(decibels(-1) / 1.2, rel=0.02)

    def test_what_is_scaled_is_scaled_everywhere_alike(self):
        samples = tone(440, 1.0, amplitude=3.0)
        samples[:8_000] *= 0.01
        limited = limit_peak(Audio(samples, RATE))
        assert limited.samples.dtype == np.float32
        assert limited.sample_rate == RATE
        quiet, loud = (np.abs(part).max() for part in np.split(limited.samples, 2))
        assert quiet / loud == pytest.approx(0.01, rel=1e-3)

    @pytest.mark.parametrize(("amplitude", "kept"), [(0.885, True), (0.897, False)])
    def test_the_limit_is_one_decibel_below_full_scale(self, amplitude, kept):
        # -1 dBFS is 0.891. What comes and goes as slowly as this has no peak between its samples.
        hum = np.hanning(16_000).astype(np.float32) * np.float32(amplitude)
        audio = Audio(hum, RATE)
        assert (limit_peak(audio) is audio) == kept
        assert np.abs(limit_peak(audio).samples).max() <= 0.8913

    @given(cuts=st.lists(st.integers(0, 3_000), max_size=6))
    def test_the_gain_is_the_same_however_the_audio_is_cut(self, cuts):
        time = np.arange(3_000) - 1_500.5
        samples = (1.2 * np.sinc(0.9 * time)).astype(np.float32)
        gain = limiting_gain(np.split(samples, sorted(cuts)), RATE)
        assert gain == limiting_gain([samples], RATE)
        assert gain == pytest.approx(decibels(-1) / 1.2, rel=0.02)


class TestMeasures:
    def test_each_window_of_10_ms_has_its_loudness_and_the_last_is_filled_with_silence(self):
        samples = np.concatenate([np.full(80, 0.2), np.full(80, -0.6), np.full(40, 0.5)])
        rms = window_rms(Audio(samples.astype(np.float32), 8_000))
        assert rms == pytest.approx([0.2, 0.6, 0.5 * np.sqrt(40 / 80)])

    @pytest.mark.parametrize(("length", "windows"), [(0, 0), (1, 1), (160, 1), (161, 2)])
    def test_there_is_a_window_for_each_begun_hundredth(self, length, windows):
        assert len(window_rms(Audio(np.ones(length, dtype=np.float32), RATE))) == windows

    @pytest.mark.parametrize(("db", "amplitude"), [(0, 1.0), (-20, 0.1), (-6.0206, 0.5), (20, 10)])
    def test_decibels_are_of_full_scale(self, db, amplitude):
        assert db_to_amplitude(db) == pytest.approx(amplitude, rel=1e-4)
        assert amplitude_to_db(amplitude) == pytest.approx(db, abs=1e-3)

    def test_silence_has_a_loudness_too(self):
        assert amplitude_to_db(0.0) == -200

    def test_numbers_pass_and_others_are_an_error(self):
        check_finite(Audio(tone(200, 0.1), RATE))
        with pytest.raises(SynthesisError, match="another seed"):
            check_finite(Audio(np.array([0.0, np.nan], dtype=np.float32), RATE))

    def test_the_length_is_in_seconds(self):
        assert Audio(np.zeros(12_000, dtype=np.float32), 24_000).duration == 0.5
