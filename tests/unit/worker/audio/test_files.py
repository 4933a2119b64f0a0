from __future__ import annotations

import errno
import re
import resource
import struct
import time
from pathlib import Path
from subprocess import run
from typing import get_args

import av
import imageio_ffmpeg
import numpy as np
import pytest
import soundfile as sf

from tests.support.sounds import speech, tone
from worker.audio.files import write, write_blocks, write_samples
from worker.audio.formats import CONTENT_TYPES, ENDINGS, Format, bit_rates, content_type
from worker.audio.ogg_pages import set_serial
from worker.audio.recordings import reading
from worker.audio.waveform import Audio, limit_peak
from worker.errors import JobCancelledError, StorageError, SynthesisError

RATE = 16_000
FORMATS: tuple[Format, ...] = ("wav", "flac", "mp3", "ogg")  # that libsndfile reads as they are
LOSSLESS: tuple[Format, ...] = ("wav", "flac")
ALL: tuple[Format, ...] = get_args(Format)


def read(path: Path) -> Audio:
    return reading.read(path).audio


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return speech("The reference voice speaks for a little more than two seconds.")


def by_pyav(path: Path) -> tuple[np.ndarray, int, float]:
    """Samples float32 [n], their rate, and the seconds that the header promises."""
    with av.open(str(path)) as container:
        promised = (container.duration or 0) / av.time_base
        frames = list(container.decode(audio=0))
    resampler = av.AudioResampler(format="fltp", layout="mono")
    parts = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(parts), frames[0].sample_rate, promised


def by_ffmpeg(path: Path, rate: int) -> np.ndarray:
    """Samples [n] at the rate, as ffmpeg's command line gives them."""
    command = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path))
    done = run([*command, "-f", "s16le", "-ar", str(rate), "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, "<i2").astype(np.float32) / 32768


def tags_of(path: Path) -> dict[str, str]:
    """The tags, by ffmpeg's names in small letters."""
    with av.open(str(path)) as container:
        found = {**container.streams.audio[0].metadata, **container.metadata}
    return {name.lower(): words for name, words in found.items()}


def rates_of(kind: Format) -> list[int]:
    return [8_000, 16_000, 24_000, 48_000] + ([] if kind == "opus" else [22_050, 44_100])


class TestLength:
    """The audio that comes back has the length of that which was given, and lies where it lay."""

    @pytest.mark.parametrize("length", [100, 700, 1_024, 20_001])
    @pytest.mark.parametrize(
        ("audio_format", "rate"),
        [(kind, rate) for kind in ("mp3", "opus", "aac", "wav", "flac") for rate in rates_of(kind)],
    )
    def test_to_the_sample(self, tmp_path, audio_format, rate, length):
        path = tmp_path / "out"
        samples = tone(300, 20_001 / rate, rate)[:length]
        write(Audio(samples, rate), path, audio_format)
        found, found_rate, promised = by_pyav(path)
        ratio = found_rate // rate
        assert found_rate == (48_000 if audio_format == "opus" else rate)
        extra = len(found) - ratio * length
        # PyAV heeds the first entry of MP4's edit list alone: what fills the last frame comes too.
        assert (0 <= extra < 1_024) if audio_format == "aac" else extra == 0
        # A file of Opus counts what comes before its sound.
        ahead = 0.0065 if audio_format == "opus" else 0
        assert promised == pytest.approx(length / rate + ahead, abs=1e-5)
        if length > 20_000:
            middle = slice(4_000, 16_000)
            assert level(found[::ratio][middle] - samples[middle]) < 0.2 * level(samples)

    @pytest.mark.parametrize("audio_format", ["mp3", "opus", "wav", "flac", "ogg"])
    def test_libsndfile_finds_it_too(self, tmp_path, voice, audio_format):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, audio_format)
        assert sf.info(path).frames == len(voice)
        assert len(sf.read(path)[0]) == len(voice)

    @pytest.mark.slow("starts ffmpeg")
    @pytest.mark.parametrize("audio_format", [kind for kind in ALL if kind != "pcm"])
    def test_ffmpeg_finds_it_too(self, tmp_path, voice, audio_format):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, audio_format)
        found = by_ffmpeg(path, RATE)
        assert len(found) == len(voice)
        assert level(found - voice) < 0.25 * level(voice)

    def test_pcm_is_16_bits_and_nothing_else(self, tmp_path):
        path = tmp_path / "out"
        write(Audio(np.array([0, 0.5, -1, 1.2, 2 / 32768], np.float32), RATE), path, "pcm")
        assert struct.unpack("<5h", path.read_bytes()) == (0, 16_384, -32_768, 32_767, 2)

    def test_the_header_of_aac_comes_before_its_sound(self, tmp_path, voice):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, "aac")
        content = path.read_bytes()
        assert 0 < content.index(b"moov") < content.index(b"mdat")


class TestBitRate:
    @pytest.mark.parametrize(
        ("audio_format", "rate", "asked"),
        [
            *(
                ("mp3", 16_000, 32),
                ("mp3", 16_000, 160),
                ("mp3", 44_100, 192),
                ("mp3", 48_000, 320),
            ),
            *(("mp3", 8_000, 8), ("mp3", 24_000, 64)),
            *(("opus", 16_000, 16), ("opus", 48_000, 96)),
        ],
    )
    def test_it_is_the_one_that_was_asked_for(self, tmp_path, audio_format, rate, asked):
        path = tmp_path / "out"
        noise = np.random.default_rng(1).normal(0, 0.1, 6 * rate).astype(np.float32)
        write_blocks([noise], rate, path, audio_format, bit_rate=asked)
        found = path.stat().st_size * 8 / 6 / 1000
        assert found == pytest.approx(asked, rel=0.08 if audio_format == "mp3" else 0.2)
        assert asked in bit_rates(audio_format, rate)

    @pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])  # of each version of MPEG one
    def test_those_of_mp3_are_all_that_its_encoder_takes_as_they_are(self, tmp_path, rate):
        sound, taken = np.zeros(rate // 4, np.float32), []
        for asked in range(8, 328, 8):
            write_blocks([sound], rate, tmp_path / "out", "mp3", bit_rate=asked)
            with av.open(str(tmp_path / "out")) as container:
                if next(container.demux(audio=0)).size * 8 * rate == pytest.approx(
                    asked * 1000 * (1152 if rate >= 32_000 else 576), rel=0.02
                ):
                    taken.append(asked)
        allowed = list(bit_rates("mp3", rate))
        assert [asked for asked in taken if asked <= max(allowed)] == allowed

    def test_mp3_is_of_a_quality_where_none_is_asked_for(self, tmp_path, voice):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, "mp3")
        assert 40 < path.stat().st_size * 8 / 1000 / (len(voice) / RATE) < 70


TAGS = {
    "title": "Ein Märchen 今天",
    "artist": "nova",
    "album": "A & B",
    "genre": "Audiobook",
    "track": "3",
    "comment": "x" * 300,
    "copyright": "2026 somebody",
}


class TestTags:
    @pytest.mark.parametrize("audio_format", [kind for kind in ALL if kind != "pcm"])
    def test_two_readers_find_them(self, tmp_path, voice, audio_format):
        path = tmp_path / "out"
        write_blocks([voice], RATE, path, audio_format, tags=TAGS)
        found = tags_of(path)
        assert {name: found.get(name) for name in TAGS} == TAGS
        found_samples, _, _ = by_pyav(path)
        assert level(found_samples) == pytest.approx(level(voice), rel=0.05)
        if audio_format in FORMATS and audio_format != "mp3":  # whose tags libsndfile cannot read
            with sf.SoundFile(path) as again:
                assert (again.title, again.artist) == (TAGS["title"], TAGS["artist"])
                assert len(again.read()) == len(voice)

    def test_those_of_wav_come_after_its_sound(self, tmp_path, voice):
        write(Audio(voice, RATE), tmp_path / "plain", "wav")
        write_blocks([voice], RATE, tmp_path / "tagged", "wav", tags=TAGS)
        plain, tagged = (tmp_path / "plain").read_bytes(), (tmp_path / "tagged").read_bytes()
        assert tagged[44 : len(plain)] == plain[44:]
        assert tagged[len(plain) :].startswith(b"LIST")

    @pytest.mark.parametrize("audio_format", [kind for kind in ALL if kind != "pcm"])
    def test_they_hold_no_date_and_no_version(self, tmp_path, voice, audio_format):
        for name in ("a", "b"):
            write_blocks([voice], RATE, tmp_path / name, audio_format, tags=TAGS)
        content = (tmp_path / "a").read_bytes()
        assert content == (tmp_path / "b").read_bytes()
        assert not re.search(rb"Lav[fc]\d|libopus 1", content)


def resident() -> int:
    """Bytes of this process's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class TestMemory:
    @pytest.mark.parametrize("audio_format", ["mp3", "opus", "aac", "flac"])
    def test_long_audio_is_encoded_as_it_comes(self, tmp_path, audio_format):
        noise = np.random.default_rng(3).normal(0, 0.01, RATE * 2).astype(np.float32)
        found = []

        def blocks(count):
            for _ in range(count):
                yield noise
                found.append(resident())

        write_blocks(blocks(50), RATE, tmp_path / "out", audio_format)
        # Held whole, the last eighty seconds alone would be 5 MB of samples.
        assert found[-1] - found[10] < 1_500_000


class TestOgg:
    def test_its_stream_has_one_number_whatever_the_clock_says(self, tmp_path, voice):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, "ogg")
        first = path.read_bytes()
        time.sleep(1.1)  # libsndfile's clock ticks in seconds
        write(Audio(voice, RATE), path, "ogg")
        assert path.read_bytes() == first

    def test_its_checksums_are_those_that_a_strict_reader_wants(self, tmp_path, voice):
        """ffmpeg's own pages have known checksums: the same rule gives them."""
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, "opus")
        theirs = path.read_bytes()
        with path.open("r+b") as file:
            set_serial(file, 77)
        assert path.read_bytes() != theirs
        with path.open("r+b") as file:
            set_serial(file, int.from_bytes(theirs[14:18], "little"))
        assert path.read_bytes() == theirs

    def test_what_is_no_page_is_an_error(self, tmp_path):
        path = tmp_path / "out"
        path.write_bytes(b"x" * 100)
        with path.open("r+b") as file, pytest.raises(OSError, match="not a page of Ogg"):
            set_serial(file)


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

    @pytest.mark.parametrize("audio_format", ALL)
    def test_the_file_is_what_its_content_type_says(self, tmp_path, voice, audio_format):
        path = tmp_path / "out"
        write(Audio(voice, RATE), path, audio_format)
        head = path.read_bytes()[:64]
        found = {
            "audio/wav": head.startswith(b"RIFF"),
            "audio/flac": head.startswith(b"fLaC"),
            "audio/mpeg": head[0] == 0xFF and head[1] & 0xE6 == 0xE2,  # frame sync, layer III
            "audio/ogg": head.startswith(b"OggS") and b"vorbis" in head,
            "audio/ogg; codecs=opus": head.startswith(b"OggS") and b"OpusHead" in head,
            "audio/mp4": head[4:12] == b"ftypM4A ",
            "audio/pcm": True,
        }
        assert found[CONTENT_TYPES[audio_format]]

    @pytest.mark.parametrize("audio_format", ALL)
    def test_the_same_audio_gives_the_same_bytes(self, tmp_path, voice, audio_format):
        for name in ("a", "b"):
            write(Audio(voice, RATE), tmp_path / name, audio_format)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

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
            "opus": "audio/ogg; codecs=opus",
            "aac": "audio/mp4",
            "m4a": "audio/mp4",
            "pcm": "audio/pcm",
        }
        assert content_type("pcm", 22_050) == "audio/pcm; rate=22050"
        assert content_type("mp3", 22_050) == "audio/mpeg"

    def test_a_name_ends_with_what_players_know(self):
        assert dict(ENDINGS) == {name: "m4a" if name == "aac" else name for name in ALL}

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

    @pytest.mark.parametrize("audio_format", ALL)
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
    @pytest.mark.parametrize("audio_format", [*FORMATS, "opus", "aac", "pcm"])
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
