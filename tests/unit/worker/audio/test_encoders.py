from __future__ import annotations

import gc
import io
import os
import struct
from itertools import pairwise
from pathlib import Path
from subprocess import run
from typing import get_args

import av
import imageio_ffmpeg
import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.sounds import speech, tone
from worker.audio.encoders import AAC_PADDING, MP3_PADDING, open_encoder
from worker.audio.files import write
from worker.audio.formats import PCM_RATE, STREAM_CONTENT_TYPES, STREAMS_WITH_TAGS, StreamFormat
from worker.audio.waveform import Audio
from worker.errors import SynthesisError

RATE = 16_000
RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
FORMATS: tuple[StreamFormat, ...] = get_args(StreamFormat)
PADDING = {"mp3": MP3_PADDING, "aac": AAC_PADDING}  # at the rate of the encoder
FLAC_SAMPLES_AT = 8 + 13  # the low 4 bits here and the next 4 bytes: STREAMINFO's number of samples
VOICE = speech("Fifty thin fish, she said, if half of this is enough.")


def encoded(
    audio_format: StreamFormat, samples: np.ndarray, cuts: list[int], rate: int = RATE
) -> bytes:
    encoder = open_encoder(audio_format, rate)
    parts = [encoder.encode(part) for part in np.split(samples, sorted(cuts))]
    return b"".join(parts) + encoder.finish()


def by_pyav(content: bytes) -> tuple[np.ndarray, int]:
    """Samples float32 [n] and their rate."""
    with av.open(io.BytesIO(content)) as container:
        frames = list(container.decode(audio=0))
    resampler = av.AudioResampler(format="fltp", layout="mono")
    parts = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(parts), frames[0].sample_rate


def by_libsndfile(content: bytes) -> tuple[np.ndarray, int]:
    with sf.SoundFile(io.BytesIO(content)) as decoder:
        parts = []
        while len(block := decoder.read(4_096, dtype="float32")):
            parts.append(block)
        return np.concatenate(parts), decoder.samplerate


def with_length(flac: bytes, samples: int) -> bytes:
    """A FLAC stream whose header has the number of samples, for readers that seek."""
    at = FLAC_SAMPLES_AT
    assert flac[at] & 15 == 0
    assert flac[at + 1 : at + 5] == bytes(4)
    return flac[: at + 1] + struct.pack(">I", samples) + flac[at + 5 :]


def similarity(found: np.ndarray, rate: int, original: np.ndarray) -> tuple[float, int]:
    """The best correlation of the two, and how many samples later than the original it is."""
    size = 1 << int(np.ceil(np.log2(len(found) + len(original))))
    spectrum = np.fft.rfft(found, size) * np.conj(np.fft.rfft(original, size))
    product = np.fft.irfft(spectrum, size)
    late = int(product.argmax())
    return float(product[late] / np.linalg.norm(found) / np.linalg.norm(original)), late


@pytest.mark.parametrize("audio_format", FORMATS)
class TestEveryFormat:
    @settings(max_examples=15, deadline=None)
    @given(cuts=st.lists(st.integers(0, 9_000), max_size=8))
    def test_the_bytes_are_the_same_however_the_samples_are_cut(self, audio_format, cuts):
        samples = VOICE[3_000:12_000]
        assert encoded(audio_format, samples, cuts) == encoded(audio_format, samples, [])

    @pytest.mark.parametrize("rate", RATES)
    def test_every_rate_is_taken_and_cut_in_pieces_of_20_ms_too(self, audio_format, rate):
        samples = tone(440, 1.3, rate)
        cuts = list(range(rate // 50, len(samples), rate // 50))
        content = encoded(audio_format, samples, cuts, rate)
        assert content == encoded(audio_format, samples, [], rate)
        if audio_format == "pcm":
            found, found_rate = np.frombuffer(content, "<i2") / 32768, PCM_RATE
        else:
            found, found_rate = by_pyav(content)
        extra = len(found) - round(len(samples) * found_rate / rate)
        assert 0 <= extra <= PADDING.get(audio_format, 0) or abs(extra) <= 1
        middle = found[len(found) // 3 : 2 * len(found) // 3]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 17))
        assert spectrum.argmax() * found_rate / (1 << 17) == pytest.approx(440, abs=1)
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.06)

    @pytest.mark.parametrize("length", [0, 1, 700, 4_321])
    def test_short_audio_has_its_length_too(self, audio_format, length):
        samples = np.full(length, 0.1, np.float32)
        content = encoded(audio_format, samples, [])
        if audio_format == "pcm":
            assert len(content) // 2 == round(length * 1.5)
        elif length:
            found, rate = by_pyav(content)
            extra = len(found) - length * rate // RATE
            assert 0 <= extra <= PADDING.get(audio_format, 0)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_is_an_error(self, audio_format, bad):
        encoder = open_encoder(audio_format, RATE)
        encoder.encode(VOICE[:1_000])
        with pytest.raises(SynthesisError, match="not numbers"):
            encoder.encode(np.array([0.1, bad], np.float32))

    def test_two_at_once_do_not_know_of_each_other(self, audio_format):
        first, second = open_encoder(audio_format, RATE), open_encoder(audio_format, RATE)
        ours, theirs = b"", b""
        for part in np.array_split(VOICE, 7):
            ours += first.encode(part)
            theirs += second.encode(part[::-1].copy())
        ours += first.finish()
        assert ours == encoded(audio_format, VOICE, [])

    def test_one_that_is_dropped_leaves_nothing(self, audio_format):
        def drop(count: int) -> None:
            for _ in range(count):
                open_encoder(audio_format, RATE).encode(VOICE[:5_000])

        gc.collect()
        gc.disable()  # what only the collector would free stays
        try:
            drop(3)
            before = (
                resident(),
                listed("task"),
                listed("fd"),
            )
            drop(20)
            after = resident(), listed("task"), listed("fd")
        finally:
            gc.enable()
        assert after[1:] == before[1:]
        assert after[0] - before[0] < 2_000_000

    def test_one_that_is_open_has_no_threads_and_less_than_a_megabyte(self, audio_format):
        for _ in range(3):
            encoded(audio_format, VOICE, [])
        threads, memory = listed("task"), resident()
        encoders = [open_encoder(audio_format, RATE) for _ in range(16)]
        for encoder in encoders:
            encoder.encode(VOICE[:5_000])
        assert listed("task") == threads
        assert resident() - memory < 16 * 1_000_000

    def test_the_processors_of_the_thread_stay(self, audio_format):
        before = os.sched_getaffinity(0)
        encoded(audio_format, VOICE, [])
        assert os.sched_getaffinity(0) == before

    def test_it_has_a_content_type(self, audio_format):
        assert STREAM_CONTENT_TYPES[audio_format].startswith("audio/")


def listed(name: str) -> int:
    """How many threads ("task") or open files ("fd") this process has."""
    return len(list(Path("/proc/self", name).iterdir()))


def resident() -> int:
    """Bytes of this process's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class TestWhatIsAskedFor:
    @pytest.mark.parametrize(
        ("audio_format", "rate"),
        [
            *((kind, rate) for kind in ("wav", "flac", "pcm") for rate in (8_000, 17_123, 48_000)),
            *((kind, rate) for kind in ("mp3", "aac") for rate in (8_000, 22_050, 44_100)),
            *(("opus", 8_000), ("opus", 48_000)),
        ],
    )
    def test_it_leaves_at_that_rate(self, audio_format, rate):
        encoder = open_encoder(audio_format, RATE, rate=rate)
        content = encoder.encode(tone(440, 1.5)) + encoder.finish()
        if audio_format == "pcm":
            found, found_rate = np.frombuffer(content, "<i2") / 32768, rate
        else:
            found, found_rate = by_pyav(content)
        assert found_rate == (48_000 if audio_format == "opus" else rate)
        extra = len(found) - round(1.5 * found_rate)
        assert 0 <= extra <= PADDING.get(audio_format, 0) or abs(extra) <= 1
        middle = found[len(found) // 3 : 2 * len(found) // 3]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 17))
        assert spectrum.argmax() * found_rate / (1 << 17) == pytest.approx(440, abs=1)

    @pytest.mark.parametrize("bit_rate", [24, 96, 160])
    def test_mp3_has_that_bit_rate(self, bit_rate):
        encoder = open_encoder("mp3", RATE, bit_rate=bit_rate)
        content = encoder.encode(VOICE) + encoder.finish()
        assert len(content) * 8 / 1000 / (len(VOICE) / RATE) == pytest.approx(bit_rate, rel=0.06)

    @pytest.mark.parametrize("audio_format", FORMATS)
    def test_tags_come_first_where_a_stream_can_have_them(self, audio_format):
        tags = {"title": "Ein Märchen", "comment": "Synthetic", "track": "3"}
        encoder = open_encoder(audio_format, RATE, tags=tags)
        content = encoder.encode(VOICE) + encoder.finish()
        assert ("Märchen".encode() in content or "Märchen".encode("utf-16-le") in content) == (
            audio_format in STREAMS_WITH_TAGS
        )
        if audio_format not in STREAMS_WITH_TAGS:
            assert content == encoded(audio_format, VOICE, [])
            return
        with av.open(io.BytesIO(content)) as container:
            found = {**container.streams.audio[0].metadata, **container.metadata}
        told = {name.lower(): words for name, words in found.items()}
        assert {name: told.get(name) for name in tags} == tags
        extra = len(by_pyav(content)[0]) - len(by_pyav(encoded(audio_format, VOICE, []))[0])
        assert extra == 0


class TestLength:
    @pytest.mark.parametrize("audio_format", ["opus", "flac", "wav"])
    def test_it_is_that_of_the_whole_for_two_readers(self, audio_format):
        content = encoded(audio_format, VOICE, [])
        named = with_length(content, len(VOICE)) if audio_format == "flac" else content
        for found, rate in (by_pyav(content), by_libsndfile(named)):
            assert len(found) * RATE / rate == len(VOICE)
            alike, late = similarity(found[:: rate // RATE], RATE, VOICE)
            assert alike > 0.95
            assert late == 0

    @pytest.mark.parametrize("reader", [by_pyav, by_libsndfile])
    def test_an_mp3_has_no_more_than_its_padding_before_and_after(self, reader):
        found, rate = reader(encoded("mp3", VOICE, []))
        alike, late = similarity(found, rate, VOICE)
        assert alike > 0.98
        assert 0 <= late <= 1_105 + 2
        assert late <= len(found) - len(VOICE) <= MP3_PADDING

    def test_aac_has_no_more_than_its_padding_before_and_after(self):
        found, rate = by_pyav(encoded("aac", VOICE, []))
        assert rate == 48_000
        alike, late = similarity(found[::3], RATE, VOICE)
        assert alike > 0.98
        assert 0 <= late * 3 <= 1_024 + 3
        assert late * 3 <= len(found) - 3 * len(VOICE) <= AAC_PADDING

    @pytest.mark.slow("starts ffmpeg")
    @pytest.mark.parametrize("audio_format", [f for f in FORMATS if f != "pcm"])
    def test_ffmpeg_reads_it_from_a_pipe(self, audio_format):
        content = encoded(audio_format, VOICE, [])
        command = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "-", "-f", "s16le")
        done = run(
            [*command, "-ac", "1", "-ar", "48000", "-"],
            input=content,
            capture_output=True,
            check=True,
        )
        extra = len(done.stdout) // 2 - 3 * len(VOICE)
        assert 0 <= extra <= 3 * PADDING.get(audio_format, 0)


class TestSixteenBits:
    @pytest.mark.parametrize("loudness", [0.00003, 0.5, 1.0, 1.7])
    def test_wav_and_flac_hold_what_the_file_holds(self, tmp_path, loudness):
        samples = VOICE * np.float32(loudness)
        write(Audio(samples, RATE), tmp_path / "file.wav", "wav")
        file, _ = sf.read(tmp_path / "file.wav", dtype="int16")
        stream = encoded("wav", samples, [5, 700])
        assert stream[44:] == file.astype("<i2").tobytes()
        flac = with_length(encoded("flac", samples, []), len(samples))
        found, _ = sf.read(io.BytesIO(flac), dtype="int16")
        assert found.tobytes() == stream[44:]

    def test_pcm_at_its_own_rate_is_not_changed(self):
        content = encoded("pcm", np.array([0, 0.5, -1, 1, 2 / 32768], np.float32), [], PCM_RATE)
        assert struct.unpack("<5h", content) == (0, 16_384, -32_768, 32_767, 2)

    def test_a_wav_without_an_end_says_so_as_readers_know_it(self):
        header = encoded("wav", VOICE, [])[:44]
        assert header[4:8] == header[40:44] == b"\xff\xff\xff\xff"
        assert struct.unpack("<HHIIHH", header[20:36]) == (1, 1, RATE, 2 * RATE, 2, 16)

    def test_a_wav_without_samples_is_one_all_the_same(self):
        with sf.SoundFile(io.BytesIO(encoded("wav", VOICE[:0], []))) as decoder:
            assert len(decoder.read(100)) == 0


class TestLatency:
    """How much audio an encoder holds: fed so many milliseconds, it has given so many."""

    @pytest.mark.parametrize(
        ("audio_format", "fed", "least"),
        [
            ("wav", 10, 44 + 320),
            ("pcm", 50, 24 * 2 * 20),
            ("opus", 40, 40 + 97),  # the two pages of the header, and a packet of 20 ms
            ("flac", 73, 200),  # a block of 1152
            ("mp3", 72, 288),  # two frames of 36 ms, of which the first leaves
            ("aac", 70, 20),
        ],
    )
    def test_the_first_audio_leaves_at_once(self, audio_format, fed, least):
        encoder = open_encoder(audio_format, RATE)
        content = b"".join(
            encoder.encode(VOICE[start : start + 160])
            for start in range(3_200, 3_200 + fed * 16, 160)
        )
        assert len(content) >= least
        assert audio_format in {"pcm", "wav"} or len(content) > len(head(audio_format))

    @pytest.mark.parametrize("audio_format", FORMATS)
    def test_it_never_holds_more_than_a_tenth_of_a_second(self, audio_format):
        encoder = open_encoder(audio_format, RATE)
        left = [len(encoder.encode(part)) for part in np.split(VOICE[:32_000], 200)]  # 10 ms each
        times = [place for place, count in enumerate(left) if count]
        assert max(after - before for before, after in pairwise(times)) <= 10
        assert len(encoder.finish()) < sum(left) / 5


def head(audio_format: StreamFormat) -> bytes:
    """What an encoder gives before any audio is coded."""
    return open_encoder(audio_format, RATE).encode(VOICE[:0])


class TestOpus:
    def test_the_stream_has_a_fixed_serial_and_names_no_version(self):
        content = encoded("opus", VOICE, [])
        pages = [at for at in range(len(content)) if content[at : at + 4] == b"OggS"]
        assert len({content[at + 14 : at + 18] for at in pages}) == 1
        assert b"libopus 1" not in content
        assert b"Lavc6" not in content

    def test_each_packet_leaves_in_a_page_of_its_own(self):
        content = encoded("opus", VOICE[:16_000], [])
        assert content.count(b"OggS") >= 2 + 49
