"""Recordings of libsndfile's formats: read as upstream reads them, or refused in words."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.support.sounds import speech, tone
from worker.audio.files import write
from worker.audio.formats import Format
from worker.audio.recordings import reading
from worker.audio.recordings.reading import (
    REFERENCE_SECONDS_MAX,
    REFERENCE_SECONDS_MIN,
    check_reference,
)
from worker.audio.recordings.take import SAMPLE_RATE_MAX, SAMPLE_RATE_MIN
from worker.audio.waveform import Audio
from worker.errors import VoiceError

RATE = 16_000
FORMATS: tuple[Format, ...] = ("wav", "flac", "mp3", "ogg")
FLAC_FRAMES_AT = 8 + 13  # low 4 bits here and the next 4 bytes: STREAMINFO's number of samples


def read(path: Path, **bounds: object) -> Audio:
    return reading.read(path, **bounds).audio


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def pitch(audio: Audio) -> float:
    spectrum = np.abs(np.fft.rfft(audio.samples * np.hanning(len(audio.samples))))
    return float(spectrum.argmax() / audio.duration)


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return speech("The reference voice speaks for a little more than two seconds.")


@pytest.fixture
def file_of(tmp_path, voice):
    def make(audio_format: Format) -> Path:
        path = tmp_path / f"voice.{audio_format}"
        write(Audio(voice, RATE), path, audio_format)
        return path

    return make


def promising(content: bytes, data_bytes: int) -> bytes:
    """A WAV whose header gives its data another length."""
    at = content.find(b"data") + 4
    return content[:at] + struct.pack("<I", data_bytes) + content[at + 4 :]


class TestRead:
    @pytest.mark.parametrize("audio_format", FORMATS)
    @pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_the_first_channel_comes_at_its_own_rate(self, tmp_path, audio_format, rate, channels):
        path = tmp_path / "tone"
        sound = np.stack([tone(440, 1.5, rate), tone(1_000, 1.5, rate)], axis=1)[:, :channels]
        sf.write(path, sound, rate, format=audio_format)
        audio = read(path)
        assert audio.sample_rate == rate
        assert audio.samples.dtype == np.float32
        assert audio.samples.ndim == 1
        assert audio.duration == pytest.approx(1.5, abs=0.1)
        assert pitch(audio) == pytest.approx(440, abs=1)
        check_reference(audio)

    @pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
    def test_every_coding_of_wav_is_read(self, tmp_path, voice, subtype):
        path = tmp_path / "voice.wav"
        sf.write(path, voice, RATE, subtype=subtype)
        assert level(read(path).samples - voice) < 0.03 * level(voice) + 0.003

    def test_the_name_of_the_file_means_nothing(self, file_of):
        path = file_of("flac")
        assert len(read(path.rename(path.with_suffix(".raw"))).samples) > RATE

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not audio at all " * 100,
            b"<html><body>404 Not Found</body></html>",
            b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
            bytes(10_000),
            b"RIFF\x10\x00\x00\x00WAVE",
            b"OggS" + bytes(200),
            b"fLaC" + bytes(200),
            b"ID3\x04" + bytes(200),
            b"\xff\xfb\x90\x00" + bytes(200),
        ],
        ids=["empty", "text", "html", "png", "zeros", "riff", "oggs", "flac", "id3", "mpeg"],
    )
    def test_what_is_not_audio_is_refused(self, tmp_path, content):
        path = tmp_path / "secret-name.wav"
        path.write_bytes(content)
        with pytest.raises(VoiceError) as caught:
            read(path, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"
        assert "reference audio" in caught.value.message
        assert "secret-name" not in caught.value.message
        assert str(tmp_path) not in caught.value.message

    def test_an_empty_file_is_named_as_that(self, tmp_path):
        path = tmp_path / "voice.m4a"
        path.write_bytes(b"")
        with pytest.raises(VoiceError, match="is an empty file; upload it again"):
            read(path)

    @pytest.mark.parametrize("audio_format", ["wav", "flac", "mp3"])
    def test_a_file_cut_in_the_middle_is_refused(self, file_of, audio_format):
        path = file_of(audio_format)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(VoiceError, match=r"cut short|damaged"):
            read(path)

    def test_a_cut_ogg_is_read_as_far_as_it_goes(self, file_of, voice):
        path = file_of("ogg")
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert 0 < len(read(path).samples) < len(voice)

    @pytest.mark.parametrize("audio_format", FORMATS)
    def test_a_file_cut_in_its_header_is_refused(self, file_of, audio_format):
        path = file_of(audio_format)
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(VoiceError):
            read(path)

    @pytest.mark.parametrize("audio_format", FORMATS)
    def test_damage_is_refused_or_read_but_never_crashes(self, file_of, audio_format):
        path = file_of(audio_format)
        content = path.read_bytes()
        noise = np.random.default_rng(5)
        for _ in range(40):
            damaged = bytearray(content)
            for at in noise.integers(0, len(content), 20):
                damaged[at] = noise.integers(256)
            path.write_bytes(damaged)
            try:
                audio = read(path)
            except VoiceError:
                continue
            assert audio.duration <= REFERENCE_SECONDS_MAX + 1

    def test_a_file_without_samples_is_refused(self, tmp_path):
        path = tmp_path / "empty.wav"
        sf.write(path, np.zeros(0), RATE)
        with pytest.raises(VoiceError, match="empty"):
            read(path)

    @pytest.mark.parametrize("placeholder", [0x7FFF_FFFF, 0xFFFF_FFFF])
    def test_a_wav_that_was_streamed_is_read_to_its_end(self, file_of, voice, placeholder):
        path = file_of("wav")
        content = bytearray(path.read_bytes())
        at = content.find(b"data") + 4
        content[at : at + 4] = struct.pack("<I", placeholder)
        path.write_bytes(content)
        assert len(read(path).samples) == len(voice)

    def test_a_flac_that_says_it_has_hours_and_has_not_is_cut_short(self, file_of):
        path = file_of("flac")
        content = bytearray(path.read_bytes())
        content[FLAC_FRAMES_AT] |= 0x0F
        path.write_bytes(content)
        with pytest.raises(VoiceError, match="is cut short"):
            read(path)

    def test_a_flac_whose_header_hides_hours_costs_no_more_than_the_limit(self, tmp_path):
        path = tmp_path / "bomb.flac"
        minute = np.zeros(RATE * 60, dtype=np.int16)
        with sf.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as sink:
            for _ in range(60):
                sink.write(minute)
        assert path.stat().st_size < 2_000_000
        content = bytearray(path.read_bytes())
        content[FLAC_FRAMES_AT] &= 0xF0  # zero: length unknown
        content[FLAC_FRAMES_AT + 1 : FLAC_FRAMES_AT + 5] = bytes(4)
        path.write_bytes(content)

        tracemalloc.start()
        try:
            with pytest.raises(VoiceError, match="too long; use at most 60 s"):
                read(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * 4 * RATE * REFERENCE_SECONDS_MAX

    def test_many_channels_are_refused_before_decoding(self, file_of):
        path = file_of("wav")
        content = bytearray(path.read_bytes())
        content[22:24] = struct.pack("<H", 1_000)
        path.write_bytes(content)
        with pytest.raises(VoiceError, match="1000 channels"):
            read(path)

    @pytest.mark.parametrize("rate", [1, 4_000, 1_000_000])
    def test_an_absurd_sample_rate_is_refused(self, file_of, rate):
        path = file_of("wav")
        content = bytearray(path.read_bytes())
        content[24:28] = struct.pack("<I", rate)
        path.write_bytes(content)
        with pytest.raises(VoiceError, match=f"sample rate of {rate} Hz"):
            read(path)

    def test_the_limit_is_the_caller_s(self, tmp_path):
        path = tmp_path / "long.wav"
        sf.write(path, np.zeros(RATE * 90, dtype=np.float32), RATE)
        assert read(path, longest=90).duration == 90
        with pytest.raises(VoiceError, match=r"90\.00 s long; use at most 60 s"):
            read(path)

    def test_a_channel_that_cancels_the_first_changes_nothing(self, tmp_path, voice):
        path = tmp_path / "inverted.wav"
        sf.write(path, np.stack([voice, -voice], axis=1), RATE, subtype="FLOAT")
        np.testing.assert_array_equal(read(path).samples, voice)

    @pytest.mark.parametrize("channels", [8, 9])
    def test_eight_channels_are_the_most(self, tmp_path, voice, channels):
        path = tmp_path / "surround.wav"
        sf.write(path, np.stack([voice] * channels, axis=1), RATE, subtype="FLOAT")
        if channels == 8:
            np.testing.assert_array_equal(read(path).samples, voice)
            return
        with pytest.raises(VoiceError, match="has 9 channels; use at most 8") as caught:
            read(path, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    @pytest.mark.parametrize(
        ("rate", "fits"),
        [
            (SAMPLE_RATE_MIN - 1, False),
            (SAMPLE_RATE_MIN, True),
            (SAMPLE_RATE_MAX, True),
            (SAMPLE_RATE_MAX + 1, False),
        ],
    )
    def test_sample_rates_are_taken_from_8_to_192_khz(self, tmp_path, voice, rate, fits):
        path = tmp_path / "voice.wav"
        sf.write(path, voice, rate)
        if fits:
            assert read(path).sample_rate == rate
            return
        with pytest.raises(VoiceError, match=f"{rate} Hz; use 8000 to 192000") as caught:
            read(path, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    @pytest.mark.parametrize("extra", [0, 1])
    def test_one_sample_more_than_the_limit_is_too_long(self, tmp_path, extra):
        path = tmp_path / "long.wav"
        sf.write(path, tone(200, 1.0)[: 8_000 + extra], 8_000)
        if not extra:
            assert len(read(path, longest=1.0).samples) == 8_000
            return
        with pytest.raises(VoiceError, match=r"1\.00 s long; use at most 1 s") as caught:
            read(path, longest=1.0, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    def test_sixty_seconds_are_the_limit_where_none_is_told(self, tmp_path):
        path = tmp_path / "minute.wav"
        sf.write(path, np.zeros(8_000 * 60, dtype=np.int16), 8_000)
        assert read(path).duration == 60
        sf.write(path, np.zeros(8_000 * 60 + 1, dtype=np.int16), 8_000)
        with pytest.raises(VoiceError, match="use at most 60 s"):
            read(path)

    def test_the_limit_holds_where_the_header_tells_no_length(self, file_of):
        path = file_of("flac")
        content = bytearray(path.read_bytes())
        content[FLAC_FRAMES_AT] &= 0xF0  # zero: length unknown
        content[FLAC_FRAMES_AT + 1 : FLAC_FRAMES_AT + 5] = bytes(4)
        path.write_bytes(content)
        with pytest.raises(VoiceError, match=r"too long; use at most 0\.5 s") as caught:
            read(path, longest=0.5, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    @pytest.mark.parametrize("placeholder", [0x7FFF_0000, 0x7FFF_F000, 0x8000_0000, 0xFFFF_F000])
    def test_what_recorders_promise_in_place_of_a_length_is_no_length(
        self, file_of, voice, placeholder
    ):
        path = file_of("wav")
        path.write_bytes(promising(path.read_bytes(), placeholder))
        assert len(read(path).samples) == len(voice)

    @pytest.mark.parametrize("missing", [1, 2, 1_000])
    def test_a_wav_that_misses_a_single_byte_is_cut_short(self, file_of, voice, missing):
        path = file_of("wav")
        there = 2 * len(voice)
        path.write_bytes(promising(path.read_bytes(), there + missing))
        with pytest.raises(
            VoiceError, match=f"cut short: {there} of {there + missing} bytes"
        ) as caught:
            read(path, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    @pytest.mark.parametrize(("part", "whole"), [(0.95, True), (0.75, False), (0.4, False)])
    def test_an_mp3_may_miss_a_tenth_of_what_its_header_promises(self, tmp_path, part, whole):
        path = tmp_path / "tone.mp3"
        write(Audio(tone(220, 2.0), RATE), path, "mp3")
        content = path.read_bytes()
        path.write_bytes(content[: round(len(content) * part)])
        if whole:
            assert 0.9 * 32_000 <= len(read(path).samples) < 32_000
            return
        with pytest.raises(VoiceError, match=r"of 2\.\d\d s are there") as caught:
            read(path, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    def test_an_empty_file_s_field_is_named(self, tmp_path):
        path = tmp_path / "empty.wav"
        sf.write(path, np.zeros(0), RATE)
        with pytest.raises(VoiceError, match="has no samples") as caught:
            read(path, field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    def test_samples_beyond_full_scale_come_as_they_are(self, tmp_path):
        path = tmp_path / "loud.wav"
        loud = tone(200, 1.0, amplitude=1.5)
        sf.write(path, loud, RATE, subtype="FLOAT")
        np.testing.assert_array_equal(read(path).samples, loud)

    def test_files_are_closed(self, file_of):
        path = file_of("wav")
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            read(path)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestCheckReference:
    def test_one_second_and_sixty_are_the_bounds(self):
        for length, fits in ((15_999, False), (16_000, True), (960_000, True), (960_001, False)):
            audio = Audio(np.tile(np.float32([0.1, -0.1]), length)[:length], RATE)
            if fits:
                check_reference(audio)
                continue
            with pytest.raises(VoiceError, match="use 1 to 60 s"):
                check_reference(audio)

    @pytest.mark.parametrize(("loudness", "fits"), [(-59.9, True), (-60.1, False)])
    def test_its_loudest_moment_has_60_dbfs_or_more(self, loudness, fits):
        samples = np.zeros(16_000, dtype=np.float32)
        samples[1_600:1_760] = 10 ** (loudness / 20)  # one window of the hundred
        if fits:
            check_reference(Audio(samples, RATE))
            return
        with pytest.raises(VoiceError, match="has -60 dBFS, at least -60 is needed") as caught:
            check_reference(Audio(samples, RATE), field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_the_field_of_what_is_no_number_is_named(self, bad):
        samples = tone(200, 3.0)
        samples[5] = bad
        with pytest.raises(VoiceError, match="not numbers") as caught:
            check_reference(Audio(samples, RATE), field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    @pytest.mark.parametrize("seconds", [REFERENCE_SECONDS_MIN, 7.0, REFERENCE_SECONDS_MAX])
    def test_a_voice_of_permitted_length_passes(self, seconds):
        check_reference(Audio(tone(200, seconds), RATE))

    @pytest.mark.parametrize("seconds", [0.0, 0.99, 60.1])
    def test_other_lengths_are_refused(self, seconds):
        with pytest.raises(VoiceError, match="use 1 to 60 s") as caught:
            check_reference(Audio(tone(200, seconds), RATE), field="prompt_speech_url")
        assert caught.value.field == "prompt_speech_url"

    @pytest.mark.parametrize("amplitude", [0.0, 0.0005])
    def test_silence_is_refused(self, amplitude):
        with pytest.raises(VoiceError, match="silent"):
            check_reference(Audio(tone(200, 3.0, amplitude=amplitude), RATE))

    def test_an_offset_is_silence(self):
        with pytest.raises(VoiceError, match="silent"):
            check_reference(Audio(np.full(3 * RATE, 0.5, dtype=np.float32), RATE))

    def test_a_quiet_voice_passes(self, voice):
        check_reference(Audio(voice * np.float32(0.01), RATE))

    def test_what_is_no_number_is_refused(self):
        samples = tone(200, 3.0)
        samples[5] = np.nan
        with pytest.raises(VoiceError, match="not numbers"):
            check_reference(Audio(samples, RATE))
