from __future__ import annotations

import errno
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.support.sounds import speech, tone
from worker.audio.files import write, write_blocks, write_samples
from worker.audio.formats import CONTENT_TYPES, Format
from worker.audio.recordings import reading
from worker.audio.waveform import Audio, limit_peak
from worker.errors import JobCancelledError, StorageError, SynthesisError

RATE = 16_000
FORMATS: tuple[Format, ...] = ("wav", "flac", "mp3", "ogg")
LOSSLESS: tuple[Format, ...] = ("wav", "flac")


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def read(path: Path) -> Audio:
    return reading.read(path).audio


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return speech("The reference voice speaks for a little more than two seconds.")


class TestWrite:
    @pytest.mark.parametrize("audio_format", LOSSLESS)
    def test_lossless_formats_hold_16_bits_rounded(self, tmp_path, voice, audio_format):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, audio_format)
        assert sf.info(path).subtype == "PCM_16"
        back = read(path)
        assert np.abs(back.samples - voice).max() <= 0.5 / 32768
        assert back.sample_rate == RATE

    @pytest.mark.parametrize("audio_format", ["mp3", "ogg"])
    def test_lossy_formats_keep_the_length_and_the_sound(self, tmp_path, voice, audio_format):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, audio_format)
        back = read(path).samples
        assert len(back) == len(voice)
        assert level(back - voice) < 0.2 * level(voice)

    @pytest.mark.parametrize("audio_format", FORMATS)
    def test_the_file_is_what_its_content_type_says(self, tmp_path, voice, audio_format):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, audio_format)
        begins = {"audio/wav": b"RIFF", "audio/flac": b"fLaC", "audio/ogg": b"OggS"}
        content = path.read_bytes()
        if CONTENT_TYPES[audio_format] == "audio/mpeg":
            assert content[0] == 0xFF
            assert content[1] & 0xE6 == 0xE2  # frame sync, layer III
        else:
            assert content.startswith(begins[CONTENT_TYPES[audio_format]])

    @pytest.mark.parametrize("audio_format", ["wav", "flac", "mp3"])
    def test_the_same_audio_gives_the_same_bytes(self, tmp_path, voice, audio_format):
        for name in ("a", "b"):
            write(Audio(voice, RATE), tmp_path / name, audio_format)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_the_same_audio_gives_the_same_ogg_samples(self, tmp_path, voice):
        for name in ("a", "b"):
            write(Audio(voice, RATE), tmp_path / name, "ogg")
        np.testing.assert_array_equal(read(tmp_path / "a").samples, read(tmp_path / "b").samples)

    @pytest.mark.parametrize(
        ("audio_format", "minutes"), [("wav", 10), ("flac", 10), ("mp3", 1), ("ogg", 10)]
    )
    def test_long_audio_is_written_whole(self, tmp_path, audio_format, minutes):
        path = tmp_path / "long"
        noise = np.random.default_rng(2).standard_normal(RATE * 10)
        samples = np.tile(0.1 * noise.astype(np.float32), 6 * minutes)
        write(Audio(samples, RATE), path, audio_format)
        assert sf.info(path).frames == len(samples)

    @pytest.mark.parametrize("audio_format", FORMATS)
    def test_limited_audio_does_not_clip_after_decoding(self, tmp_path, voice, audio_format):
        path = tmp_path / "loud"
        write(limit_peak(Audio(voice * np.float32(20), RATE)), path, audio_format)
        assert np.abs(read(path).samples).max() < 1.0

    def test_samples_beyond_full_scale_are_clipped_and_not_wrapped(self, tmp_path):
        samples = np.array([1.5, -1.5, 1.0, -1.0, 0.25], dtype=np.float32)
        write(Audio(samples, RATE), tmp_path / "out.wav", "wav")
        stored, _ = sf.read(tmp_path / "out.wav", dtype="int16")
        assert stored.tolist() == [32767, -32768, 32767, -32768, 8192]

    @pytest.mark.parametrize("samples", [[], [0.0, np.nan]])
    def test_nothing_is_written_of_what_is_no_audio(self, tmp_path, samples):
        with pytest.raises(SynthesisError):
            write(Audio(np.array(samples, dtype=np.float32), RATE), tmp_path / "out.wav", "wav")
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_folder_is_an_error_without_its_path(self, tmp_path, voice):
        with pytest.raises(StorageError, match="could not be written as wav") as caught:
            write(Audio(voice, RATE), tmp_path / "gone" / "out.wav", "wav")
        assert str(tmp_path) not in caught.value.message

    def test_a_failed_write_leaves_the_old_file_and_no_other(self, tmp_path, voice):
        path = tmp_path / "out.mp3"
        write(Audio(voice, RATE), path, "mp3")
        before = path.read_bytes()
        with pytest.raises(StorageError, match="mp3"):
            write(Audio(voice, 17_123), path, "mp3")  # MPEG audio has no such sample rate
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("audio_format", "coding"),
        [("wav", "PCM_16"), ("flac", "PCM_16"), ("mp3", "MPEG_LAYER_III"), ("ogg", "VORBIS")],
    )
    @pytest.mark.parametrize("rate", [16_000, 24_000])
    def test_each_format_has_its_coding_one_channel_and_the_rate(
        self, tmp_path, audio_format, coding, rate
    ):
        path = tmp_path / "out"
        write(Audio(tone(300, 0.5, rate), rate), path, audio_format)
        found = sf.info(path)
        assert (found.format, found.subtype) == (audio_format.upper(), coding)
        assert (found.channels, found.samplerate, found.frames) == (1, rate, rate // 2)

    def test_the_formats_have_the_content_types_that_browsers_know(self):
        assert CONTENT_TYPES == {
            "wav": "audio/wav",
            "flac": "audio/flac",
            "mp3": "audio/mpeg",
            "ogg": "audio/ogg",
        }

    @pytest.mark.parametrize("length", [1, 4_095, 4_096, 4_097])
    def test_no_sample_is_lost_at_the_edge_of_a_block(self, tmp_path, length):
        samples = (np.arange(length) % 1_000 / 32_768).astype(np.float32)
        write(Audio(samples, RATE), tmp_path / "out.flac", "flac")
        np.testing.assert_array_equal(read(tmp_path / "out.flac").samples, samples)

    def test_16_bits_are_rounded_to_the_nearest(self, tmp_path):
        steps = np.array([0.4, 0.6, -0.4, -0.6, 100.3, -100.7], dtype=np.float32)
        write(Audio(steps / np.float32(32_768), RATE), tmp_path / "out.wav", "wav")
        stored, _ = sf.read(tmp_path / "out.wav", dtype="int16")
        assert stored.tolist() == [0, 1, 0, -1, 100, -101]

    def test_silence_stays_silent(self, tmp_path):
        write(Audio(np.zeros(1_000, dtype=np.float32), RATE), tmp_path / "out.wav", "wav")
        stored, _ = sf.read(tmp_path / "out.wav", dtype="int16")
        assert not stored.any()

    @pytest.mark.parametrize("audio_format", ["wav", "flac", "mp3"])
    def test_the_bytes_are_the_same_however_the_audio_is_cut(self, tmp_path, audio_format):
        samples = tone(220, 1.3)
        write(Audio(samples, RATE), tmp_path / "whole", audio_format)
        blocks = iter(np.split(samples, [0, 1, 5_000, 5_001, 20_000]))
        write_blocks(blocks, RATE, tmp_path / "cut", audio_format)
        assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()

    def test_a_block_that_fails_leaves_nothing(self, tmp_path):
        def blocks():
            yield tone(220, 1.0)
            raise JobCancelledError("the job was cancelled")

        with pytest.raises(JobCancelledError):
            write_blocks(blocks(), RATE, tmp_path / "out.wav", "wav")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99, 1])
    @pytest.mark.parametrize("audio_format", FORMATS)
    def test_a_disk_that_is_full_on_the_way_is_a_storage_error(self, tmp_path, audio_format, share):
        noise = np.random.default_rng(0).normal(0, 0.1, 20 * RATE).astype(np.float32)
        path = tmp_path / "out"
        write(Audio(noise, RATE), path, audio_format)
        room = int(share * path.stat().st_size) - (share == 1)  # but for one byte
        path.unlink()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(room, 0), hard))
        try:
            with pytest.raises(StorageError, match=f"as {audio_format}: File too large"):
                write(Audio(noise, RATE), path, audio_format)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list(tmp_path.iterdir())

    def test_a_full_disk_is_a_storage_error_that_says_so(self, tmp_path, monkeypatch):
        def full(_self: Path, _target: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(StorageError, match="wav: No space left on device") as caught:
            write(Audio(tone(200, 0.1), RATE), tmp_path / "out.wav", "wav")
        assert str(tmp_path) not in caught.value.message
        assert list(tmp_path.iterdir()) == []


class TestWriteSamples:
    def test_it_holds_the_very_samples(self, tmp_path):
        path = tmp_path / "kept.wav"
        samples = np.array([1.5, -2.0, 1e-7, 0.1, 1 / 3], dtype=np.float32)
        write_samples(Audio(samples, 24_000), path)
        back, rate = sf.read(path, dtype="float32")
        np.testing.assert_array_equal(back, samples)
        assert rate == 24_000
        assert (sf.info(path).format, sf.info(path).channels) == ("WAV", 1)

    def test_a_missing_folder_is_a_storage_error_without_its_path(self, tmp_path):
        with pytest.raises(StorageError, match="could not be kept") as caught:
            write_samples(Audio(tone(200, 0.1), RATE), tmp_path / "gone" / "kept.wav")
        assert str(tmp_path) not in caught.value.message

    def test_a_failed_write_is_one_too(self, tmp_path, monkeypatch):
        def full(_self: sf.SoundFile, _samples: np.ndarray) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(sf.SoundFile, "write", full)
        with pytest.raises(StorageError, match="No space left on device"):
            write_samples(Audio(tone(200, 0.1), RATE), tmp_path / "kept.wav")
