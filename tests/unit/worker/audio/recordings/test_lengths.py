"""A length in a header is a promise: all that is there is heard, and judged by what was decoded."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from tests.support.encoded import NO_XING, album_art, ape, encoded, id3, wav_lengths
from tests.support.sounds import Samples, speech, tone
from worker.audio.files import write
from worker.audio.recordings.reading import read
from worker.audio.waveform import Audio
from worker.errors import VoiceError

RATE = 44_100
CODER_DELAY = 4_000  # samples that an MP3 may have more than its source: delay, padding, one frame
UNKNOWN = 0xFFFF_FFFF


@pytest.fixture(scope="module")
def voice() -> Samples:
    return speech("She carried a basket of apples. Nobody else was in the park.", RATE)


@pytest.fixture
def heard(tmp_path: Path):
    def hear(content: bytes, longest: float = 60.0) -> Samples:
        path = tmp_path / "recording"
        path.write_bytes(content)
        return read(path, longest=longest, field="prompt_speech_url").audio.samples

    return hear


def mp3(samples: Samples, rate: int = RATE, counted: bool = True, **coding: object) -> bytes:
    options = None if counted else NO_XING
    return encoded(samples, rate, "mp3", "libmp3lame", container_options=options, **coding)


def made_by_libsndfile(samples: Samples, rate: int, container: str, coding: str, path: Path):
    with sf.SoundFile(path, "w", rate, 1, coding, format=container) as sink:
        for start in range(0, len(samples), 4_096):
            sink.write(samples[start : start + 4_096])
    return path.read_bytes()


CODINGS = {
    "constant": {"bit_rate": 64_000},
    "average": {"bit_rate": 64_000, "options": {"abr": "1"}},
    "changing": {"quality": 2},
    "changing, small": {"quality": 9},
}


class TestMp3:
    @pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
    @pytest.mark.parametrize("coding", CODINGS)
    def test_every_bit_rate_is_read_to_its_end(self, heard, voice, coding, counted):
        found = heard(mp3(voice, counted=counted, **CODINGS[coding]))
        assert 0 <= len(found) - len(voice) <= (0 if counted else CODER_DELAY)

    @pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 32_000, 48_000])
    def test_in_every_version_of_mpeg(self, heard, voice, rate):
        sound = soxr.resample(voice, RATE, rate)
        assert 0 <= len(heard(mp3(sound, rate, False, quality=4))) - len(sound) <= CODER_DELAY

    def test_silence_in_front_is_no_measure_of_the_rest(self, heard, voice):
        sound = np.concatenate([np.zeros(2 * RATE, np.float32), voice])
        assert 0 <= len(heard(mp3(sound, counted=False, quality=2))) - len(sound) <= CODER_DELAY

    @pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
    @pytest.mark.parametrize("where", ["id3 before", "id3 behind", "ape behind", "ape before"])
    def test_album_art_is_no_sound(self, heard, voice, where, counted):
        coded = mp3(voice, counted=counted, bit_rate=64_000)
        tag = (id3 if where.startswith("id3") else ape)(picture=album_art())
        found = heard(tag + coded if where.endswith("before") else coded + tag)
        assert 0 <= len(found) - len(voice) <= CODER_DELAY

    @pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
    def test_all_of_joined_files_are_heard(self, heard, voice, counted):
        found = heard(3 * mp3(voice, counted=counted, bit_rate=64_000))
        assert 0 <= len(found) - 3 * len(voice) <= 3 * CODER_DELAY

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_joined_files_of_one_channel_and_of_two(self, heard, voice, order):
        both = [voice, np.stack([voice, voice])]
        coded = [mp3(both[number], bit_rate=64_000) for number in order]
        assert 0 <= len(heard(b"".join(coded))) - 2 * len(voice) <= 2 * CODER_DELAY

    def test_joined_files_of_two_rates_are_refused(self, heard, voice):
        slower = mp3(soxr.resample(voice, RATE, 24_000), 24_000)
        with pytest.raises(VoiceError, match="changes from 44100 to 24000 Hz"):
            heard(mp3(voice) + slower)

    def test_the_estimate_of_a_bomb_does_not_hide_its_length(self, heard, voice):
        coded = mp3(voice, counted=False, quality=2)
        with pytest.raises(VoiceError, match="too long; use at most 2 s"):
            heard(coded, longest=2.0)

    @pytest.mark.parametrize("counted", [True, False], ids=["counted", "not counted"])
    def test_a_cut_one_is_told_where_somebody_counted(self, heard, voice, counted):
        coded = mp3(voice, counted=counted, bit_rate=64_000)
        if not counted:
            assert 0.4 * len(voice) < len(heard(coded[: len(coded) // 2])) < 0.6 * len(voice)
            return
        with pytest.raises(VoiceError, match=r"cut short: 1\.\d\d of 3\.\d\d s") as caught:
            heard(coded[: len(coded) // 2])
        assert caught.value.field == "prompt_speech_url"

    @pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
    def test_no_frame_in_the_middle_is_left_out(self, tmp_path, rate):
        """libsndfile takes frames of LAME's for wrong that are right, and goes on without them."""
        path = tmp_path / "tone"
        write(Audio(tone(440, 2.0, rate), rate), path, "mp3")
        powers = (
            np.square(read(path).audio.samples[: rate * 2]).reshape(-1, rate // 20).mean(axis=1)
        )
        assert powers.min() > 0.9 * powers.max()

    def test_where_libsndfile_is_right_its_samples_are_kept(self, heard, voice, tmp_path):
        coded = mp3(voice, bit_rate=64_000)
        (tmp_path / "same").write_bytes(coded)
        with sf.SoundFile(tmp_path / "same") as file:
            blocks = list(file.blocks(4_096, dtype="float32"))
        np.testing.assert_array_equal(heard(coded), np.concatenate(blocks))


LENGTHS = {
    "a pipe: 0": (36, 0),
    "nothing written at all": (0, 0),
    "ffmpeg's pipe": (UNKNOWN, UNKNOWN),
    "only the data is unknown": (None, UNKNOWN),
    "only the data is 0": (None, 0),
    "RIFF is 0": (0, None),
    "RIFF is half": (10_000, None),
    "a recorder that died after a moment": (36 + 2_000, 2_000),
}


class TestWav:
    @pytest.mark.parametrize("lengths", LENGTHS)
    @pytest.mark.parametrize("coding", ["PCM_16", "ULAW", "PCM_24", "FLOAT"])
    def test_all_that_is_there_is_heard(self, heard, voice, tmp_path, lengths, coding):
        honest = made_by_libsndfile(voice, RATE, "WAV", coding, tmp_path / "honest")
        riff, data = LENGTHS[lengths]
        at = honest.find(b"data") + 4
        there = struct.unpack_from("<I", honest, at)[0]
        behind = honest[at + 4 + there :]  # chunks that libsndfile writes there
        content = wav_lengths(
            honest[: at + 4 + there],
            len(honest) - 8 if riff is None else riff,
            there if data is None else data,
        )
        found, whole = heard(content), heard(honest)
        np.testing.assert_array_equal(found[: len(whole)], whole)
        assert len(found) == len(whole), behind

    def test_rf64_without_its_long_lengths(self, heard, voice, tmp_path):
        honest = made_by_libsndfile(voice, RATE, "RF64", "PCM_16", tmp_path / "honest")
        at = honest.find(b"ds64") + 8
        np.testing.assert_array_equal(
            heard(honest[:at] + bytes(24) + honest[at + 24 :]), heard(honest)
        )

    def test_chunks_behind_the_sound_are_no_sound(self, heard, voice, tmp_path):
        honest = made_by_libsndfile(voice, RATE, "WAV", "PCM_16", tmp_path / "honest")
        note = b"LIST" + struct.pack("<I", 1_000) + bytes(1_000)
        whole = wav_lengths(honest + note, len(honest) + 1_000, 2 * len(voice))
        assert len(heard(whole)) == len(voice)
        for tag in (b"TAG" + bytes(125), id3(picture=b"JPEG"), bytes(4_096)):
            assert len(heard(honest + tag)) == len(voice)

    def test_all_of_joined_files_are_heard(self, heard, voice, tmp_path):
        one = made_by_libsndfile(voice, RATE, "WAV", "PCM_16", tmp_path / "one")
        np.testing.assert_array_equal(heard(one + one), np.tile(heard(one), 2))
        unknown = wav_lengths(one, UNKNOWN, UNKNOWN)
        np.testing.assert_array_equal(heard(unknown + one), np.tile(heard(one), 2))

    def test_joined_files_of_two_rates_are_refused(self, heard, voice, tmp_path):
        one = made_by_libsndfile(voice, RATE, "WAV", "PCM_16", tmp_path / "one")
        other = made_by_libsndfile(voice, 16_000, "WAV", "PCM_16", tmp_path / "other")
        with pytest.raises(VoiceError, match="changes from 44100 to 16000 Hz"):
            heard(one + other)

    def test_one_without_sound_is_empty(self, heard, tmp_path):
        empty = made_by_libsndfile(np.zeros(0, np.float32), RATE, "WAV", "PCM_16", tmp_path / "a")
        note = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + bytes(18)
        for content in (empty, wav_lengths(empty + note, len(empty) + 26, 0)):
            with pytest.raises(VoiceError, match="empty"):
                heard(content)


class TestOthers:
    def test_a_flac_that_was_written_into_a_pipe(self, heard, voice, tmp_path):
        honest = made_by_libsndfile(voice, RATE, "FLAC", "PCM_16", tmp_path / "a.flac")
        unknown = bytearray(honest)
        unknown[21] &= 0xF0
        unknown[22:26] = bytes(4)
        np.testing.assert_array_equal(heard(bytes(unknown)), heard(honest))

    @pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
    def test_a_cut_flac_is_told(self, heard, voice, tmp_path, share):
        honest = made_by_libsndfile(voice, RATE, "FLAC", "PCM_16", tmp_path / "a.flac")
        with pytest.raises(VoiceError, match=f"cut short: .* of {len(voice)} samples"):
            heard(honest[: int(share * len(honest))])

    @pytest.mark.parametrize(
        ("container", "coding"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
    )
    def test_all_of_joined_files_are_heard(self, heard, voice, tmp_path, container, coding):
        sound = soxr.resample(voice, RATE, 48_000)
        one = made_by_libsndfile(sound, 48_000, container, coding, tmp_path / "one")
        slack = 0 if container == "FLAC" else 1_024  # Vorbis' first block
        assert 0 <= len(heard(one + one)) - 2 * len(sound) <= slack

    def test_an_ogg_whose_last_page_says_nothing_useful(self, heard, voice, tmp_path):
        whole = made_by_libsndfile(voice, RATE, "OGG", "VORBIS", tmp_path / "a.ogg")
        for position in (0, 1, 20_000, 2**40):
            assert 0 <= len(heard(_ending_at(whole, position))) - len(voice) <= 1_024

    @pytest.mark.parametrize("container", ["AIFF", "W64", "CAF", "AU"])
    def test_uncompressed_ones_of_less_than_they_say_are_told(
        self, heard, voice, tmp_path, container
    ):
        whole = made_by_libsndfile(voice, RATE, container, "PCM_16", tmp_path / "a")
        assert len(heard(whole)) == pytest.approx(len(voice), abs=4)  # W64 is padded
        with pytest.raises(VoiceError, match="cut short"):
            heard(whole[: len(whole) // 2])


def _ending_at(content: bytes, position: int) -> bytes:
    """An OGG whose last page says that it ends at another sample."""
    at = content.rfind(b"OggS")
    page = bytearray(content[at:])
    struct.pack_into("<q", page, 6, position)
    struct.pack_into("<I", page, 22, 0)
    struct.pack_into("<I", page, 22, _ogg_checksum(page))
    return content[:at] + bytes(page)


def _ogg_checksum(page: bytearray) -> int:
    """RFC 3533: a CRC of 32 bits, of 0x04C11DB7, that begins with 0 and turns nothing round."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C1_1DB7 if value & 0x8000_0000 else 0)) & UNKNOWN
    return value
