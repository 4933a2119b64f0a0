"""What phones, browsers and dictation machines record; and what is refused by its name."""

from __future__ import annotations

import io
import wave
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
import soxr

from tests.support.encoded import FRAGMENTED, encoded
from tests.support.sounds import Samples, speech
from worker.audio.recordings import by_ffmpeg
from worker.audio.recordings.allowed import DECODERS, DEMUXERS
from worker.audio.recordings.reading import read
from worker.errors import VoiceError

LIVE = {"live": "1"}  # as MediaRecorder writes: nothing is known before the end
FASTSTART = {"movflags": "+faststart"}

# Container, coding, rate, and samples that the coding may add or lose at its ends.
KINDS: dict[str, tuple[str, str, int, int]] = {
    "m4a": ("ipod", "aac", 44_100, 1_024),
    "m4a, lossless": ("ipod", "alac", 44_100, 0),
    "mp4": ("mp4", "aac", 48_000, 1_024),
    "mov, uncompressed": ("mov", "pcm_s16le", 44_100, 0),
    "mov, big endian": ("mov", "pcm_s24be", 48_000, 0),
    "mp4 with opus": ("mp4", "libopus", 48_000, 960),
    "webm": ("webm", "libopus", 48_000, 0),
    "mkv": ("matroska", "aac", 44_100, 2_048),
    "mkv with flac": ("matroska", "flac", 44_100, 0),
    "mkv with mp3": ("matroska", "libmp3lame", 44_100, 2_304),
    "aac alone": ("adts", "aac", 44_100, 2_048),
    "3gp": ("3gp", "libopencore_amrnb", 8_000, 320),
    "3gp with aac": ("3gp", "aac", 44_100, 1_024),
    "amr": ("amr", "libopencore_amrnb", 8_000, 320),
    "wma": ("asf", "wmav2", 44_100, 2_048),
    "wma 1": ("asf", "wmav1", 44_100, 2_048),
    "caf": ("caf", "alac", 44_100, 0),
    "ogg with flac": ("ogg", "flac", 44_100, 0),
    "wav, mu-law": ("wav", "pcm_mulaw", 8_000, 0),
    "wav, A-law": ("wav", "pcm_alaw", 8_000, 0),
    "wav, IMA": ("wav", "adpcm_ima_wav", 16_000, 1_017),
    "wav, Microsoft": ("wav", "adpcm_ms", 16_000, 1_012),
    "wav, G.722": ("wav", "g722", 16_000, 1),
    "wav with mp3": ("wav", "libmp3lame", 44_100, 2_304),
    "rf64": ("wav", "pcm_s16le", 44_100, 0),
    "wav, extensible": ("wav", "pcm_s24le", 48_000, 0),
    "aiff": ("aiff", "pcm_s16be", 44_100, 0),
    "au": ("au", "pcm_mulaw", 8_000, 0),
    "w64": ("w64", "pcm_s16le", 44_100, 4),
}
OPTIONS = {"rf64": {"rf64": "always"}}


@pytest.fixture(scope="module")
def voice() -> Samples:
    return speech("She carried a basket of apples. Nobody else was in the park.", 44_100)


def at_rate(voice: Samples, rate: int) -> Samples:
    return voice if rate == 44_100 else soxr.resample(voice, 44_100, rate)


def hear(content: bytes, folder: Path):
    path = folder / "secret name.raw"
    path.write_bytes(content)
    return read(path, field="prompt_speech_url").audio


def likeness(found: Samples, source: Samples) -> float:
    """How alike the loudness of both is through time, 0 to 1, at whatever delay."""
    a, b = (
        np.sqrt(np.square(x[: len(x) // 400 * 400]).reshape(-1, 400).mean(axis=1))
        for x in (found, source)
    )
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.correlate(a, b, "full").max())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_heard(tmp_path, voice, kind):
    container, coding, rate, slack = KINDS[kind]
    source = at_rate(voice, rate)
    audio = hear(
        encoded(
            source, rate, container, coding, bit_rate=64_000, container_options=OPTIONS.get(kind)
        ),
        tmp_path,
    )
    assert audio.sample_rate == rate
    assert audio.samples.dtype == np.float32
    assert abs(len(audio.samples) - len(source)) <= slack
    assert likeness(audio.samples, source) > 0.96


@pytest.mark.parametrize(
    ("container", "coding", "options"),
    [
        ("mp4", "aac", FRAGMENTED),
        ("mp4", "libopus", FRAGMENTED),
        ("mp4", "aac", FASTSTART),
        ("webm", "libopus", LIVE),
        ("matroska", "flac", LIVE),
    ],
)
def test_what_is_written_live_is_heard(tmp_path, voice, container, coding, options):
    source = at_rate(voice, 48_000)
    audio = hear(encoded(source, 48_000, container, coding, container_options=options), tmp_path)
    assert abs(len(audio.samples) - len(source)) <= 2_048
    assert likeness(audio.samples, source) > 0.96


@pytest.mark.parametrize(("container", "coding"), [("mp4", "aac"), ("webm", "libopus")])
def test_of_a_film_the_sound_is_heard(tmp_path, voice, container, coding):
    source = at_rate(voice, 48_000)
    audio = hear(encoded(source, 48_000, container, coding, film=True), tmp_path)
    assert abs(len(audio.samples) - len(source)) <= 2_048
    assert likeness(audio.samples, source) > 0.96


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize(("default", "heard"), [(1, 1), (0, 0)])
def test_of_several_tracks_the_default_one_is_heard(tmp_path, voice, container, default, heard):
    tracks = (0.25, 1.0)
    content = encoded(voice, 44_100, container, "aac", tracks=tracks, default=default)
    peak = np.abs(hear(content, tmp_path).samples).max()
    assert peak == pytest.approx(tracks[heard] * np.abs(voice).max(), rel=0.2)


def test_amr_of_16_khz_is_heard(tmp_path):
    """No encoder of it is at hand: frames of any bits at 23.85 kb/s, each of 20 ms."""
    chance = np.random.default_rng(0)
    frames = b"".join(b"\x44" + chance.bytes(60) for _ in range(100))
    audio = hear(b"#!AMR-WB\n" + frames, tmp_path)
    assert (audio.sample_rate, len(audio.samples)) == (16_000, 32_000)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_uncompressed_sound_is_the_same_by_both_ways(tmp_path, voice, bits):
    """ffmpeg's whole numbers are those of libsndfile, to the last bit."""
    coding = {8: "pcm_u8", 16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_s32le"}[bits]
    by_one = hear(encoded(voice, 44_100, "wav", coding), tmp_path)
    by_other = hear(encoded(voice, 44_100, "matroska", coding), tmp_path)
    np.testing.assert_array_equal(by_one.samples, by_other.samples)


# What is cut


@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_an_m4a_whose_index_is_missing_is_told(tmp_path, voice, share):
    whole = encoded(voice, 44_100, "ipod", "aac", bit_rate=64_000)
    with pytest.raises(VoiceError, match=r"cut short|without its index \(moov\)") as caught:
        hear(whole[: int(share * len(whole))], tmp_path)
    assert caught.value.field == "prompt_speech_url"


@pytest.mark.parametrize(
    ("container", "options"),
    [("mp4", FASTSTART), ("mp4", FRAGMENTED), ("matroska", None), ("asf", None)],
)
def test_a_container_with_fewer_bytes_than_it_says_is_told(tmp_path, voice, container, options):
    coding = "wmav2" if container == "asf" else "aac"
    whole = encoded(voice, 44_100, container, coding, bit_rate=64_000, container_options=options)
    with pytest.raises(VoiceError, match=r"cut short: \d+ of \d+ bytes"):
        hear(whole[: int(0.7 * len(whole))], tmp_path)


@pytest.mark.parametrize(
    ("container", "coding", "options"),
    [("adts", "aac", None), ("amr", "libopencore_amrnb", None), ("webm", "libopus", LIVE)],
)
def test_what_says_nothing_of_its_length_is_heard_as_far_as_it_goes(
    tmp_path, voice, container, coding, options
):
    rate = 8_000 if container == "amr" else 48_000
    source = at_rate(voice, rate)
    whole = encoded(source, rate, container, coding, container_options=options)
    found = hear(whole[: int(0.7 * len(whole))], tmp_path)
    assert 0.5 * len(source) < len(found.samples) < 0.9 * len(source)


@pytest.mark.parametrize(("count", "fits"), [(0, True), (2, True), (12, False)])
def test_a_few_damaged_packets_are_left_out_and_many_are_told(tmp_path, voice, count, fits):
    whole = encoded(voice, 44_100, "ipod", "alac")
    with av.open(io.BytesIO(whole)) as file:
        packets = [bytes(packet) for packet in file.demux(audio=0)]
    damaged = whole
    packets = [packet for packet in packets if whole.count(packet) == 1]  # those with sound
    for packet in packets[: 2 * count : 2]:
        damaged = damaged.replace(packet, b"\x5a" * len(packet))  # of no kind that ALAC has
    if fits:
        assert len(voice) - len(hear(damaged, tmp_path).samples) == count * 4_096
        return
    with pytest.raises(VoiceError, match=r"1\d of its \d+ packets are damaged"):
        hear(damaged, tmp_path)


# What is not read


@pytest.mark.parametrize(
    ("container", "coding", "name"),
    [
        ("avi", "pcm_s16le", "it is an AVI film"),
        ("flv", "aac", "it is an FLV film"),
        ("mpegts", "aac", r"it is an MPEG transport stream \(TS\)"),
        ("ac3", "ac3", "it is AC-3"),
        ("wv", "wavpack", "it is WavPack"),
        ("tta", "tta", "it is True Audio"),
        ("mp4", "ac3", "its coding, ac3, is not taken"),
        ("matroska", "eac3", "its coding, eac3, is not taken"),
        ("matroska", "wavpack", "its coding, wavpack, is not taken"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path, voice, container, coding, name):
    content = encoded(at_rate(voice, 48_000), 48_000, container, coding, bit_rate=64_000)
    with pytest.raises(VoiceError, match=name) as caught:
        hear(content, tmp_path)
    assert "use an undamaged WAV, FLAC, MP3, OGG, M4A" in caught.value.message
    assert "secret" not in caught.value.message


def test_a_container_of_libsndfile_that_nobody_records_in_is_refused_by_name(tmp_path, voice):
    sf.write(tmp_path / "made", voice, 44_100, format="IRCAM", subtype="PCM_16")
    with pytest.raises(VoiceError, match=r"it is SF \(Berkeley/IRCAM/CARL\), which is not taken"):
        hear((tmp_path / "made").read_bytes(), tmp_path)


def test_a_film_without_sound_is_told(tmp_path):
    silent = encoded(np.zeros(44_100, np.float32), 44_100, "mp4", "aac", film=True, tracks=())
    with pytest.raises(VoiceError, match="has no sound track"):
        hear(silent, tmp_path)


def test_the_lists_hold_what_ffmpeg_has(voice):
    """A name that a newer ffmpeg calls otherwise would switch a kind off in silence."""
    for demuxer, reason in DEMUXERS.items():
        assert av.format.ContainerFormat(demuxer.partition(",")[0]).is_input, demuxer
        assert reason
    for decoder, reason in DECODERS.items():
        assert av.Codec(decoder, "r").type == "audio", decoder
        assert reason


def test_pictures_are_not_decoded(tmp_path, voice, monkeypatch):
    decoded: list[str] = []
    monkeypatch.setattr(
        by_ffmpeg, "_frames", lambda packet: decoded.append(packet.stream.type) or packet.decode()
    )
    hear(encoded(voice, 44_100, "mp4", "aac", film=True), tmp_path)
    assert set(decoded) == {"audio"}
    assert "mpeg4" not in DECODERS
    assert av.Codec("mpeg4", "r").type == "video"


def test_mono_in_a_wav_is_what_upstream_reads(tmp_path, voice):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes((voice * 32_767).astype("<i2").tobytes())
    content = (tmp_path / "a.wav").read_bytes()
    np.testing.assert_array_equal(
        hear(content, tmp_path).samples, sf.read(io.BytesIO(content), dtype="float32")[0]
    )


def test_bits_that_are_flipped_anywhere_are_refused_or_heard(tmp_path, voice):
    """A small part of `tests/platform/hostile`: the new containers, changed and cut everywhere."""
    chance = np.random.default_rng(3)
    source = at_rate(voice, 16_000)[:24_000]
    for container, coding in (
        ("ipod", "aac"),
        ("webm", "libopus"),
        ("asf", "wmav2"),
        ("caf", "alac"),
    ):
        whole = encoded(source, 16_000, container, coding, bit_rate=32_000)
        ends = [0, *chance.integers(1, len(whole), 12).tolist(), len(whole)]
        for _, end in pairwise(sorted(ends)):
            damaged = bytearray(whole[:end])
            for at in chance.integers(0, end, chance.integers(0, 8)):
                damaged[at] ^= 1 << chance.integers(8)
            with suppress(VoiceError):
                assert hear(bytes(damaged), tmp_path).duration <= 61
