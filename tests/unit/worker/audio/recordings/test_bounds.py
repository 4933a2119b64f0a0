"""A stranger's file costs no more than the bounds: time, memory, other files, other hosts."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf

from tests.support.encoded import FRAGMENTED, encoded
from tests.support.sounds import speech, tone
from worker.audio.recordings import by_ffmpeg, reading
from worker.audio.recordings.take import DECODE_SECONDS, Bounds, Take
from worker.audio.recordings.watched import Watched
from worker.cancellation import Cancellation
from worker.errors import JobCancelledError, VoiceError


@pytest.fixture(scope="module")
def m4a() -> bytes:
    return encoded(speech("She carried a basket of apples.", 44_100), 44_100, "ipod", "aac")


frames_of = by_ffmpeg._frames


def refused(folder: Path, content: bytes, match: str) -> None:
    path = folder / "recording"
    path.write_bytes(content)
    with pytest.raises(VoiceError, match=match) as caught:
        reading.read(path, field="prompt_speech_url")
    assert caught.value.field == "prompt_speech_url"


# Other files, other hosts

LISTS = {
    "hls": ("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{}\n#EXT-X-ENDLIST\n", "M3U"),
    "hls of a host": ("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n", "M3U"),
    "concat": ("ffconcat version 1.0\nfile '{}'\n", "a list of files"),
    "sdp": ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=audio 5004 RTP/AVP 0\n", "SDP"),
    "dash": ("<?xml version='1.0'?><MPD><BaseURL>{}</BaseURL></MPD>", "XML"),
    "pls": ("[playlist]\nFile1=file://{}\n", "PLS"),
    "asx": ("<ASX><Entry><Ref href='file://{}'/></Entry></ASX>", "a text"),
    "a path": ("{}", "a text"),
    "a protocol": ("concat:{}|{}", "a text"),
    "a page": ("<!DOCTYPE html><title>404</title>", "a web page"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_files_are_named_and_not_followed(tmp_path, kind, opened):
    secret = tmp_path / "secret.wav"
    sf.write(secret, tone(300, 2.0), 16_000)
    text, name = LISTS[kind]
    opened.clear()
    refused(tmp_path, text.replace("{}", str(secret)).encode(), name)
    assert not any("secret" in place for place in opened)


def test_an_mp4_that_refers_to_another_file_does_not_open_it(tmp_path, m4a, opened):
    secret = tmp_path / "secret.wav"
    sf.write(secret, tone(300, 2.0), 16_000)
    path = tmp_path / "recording"
    path.write_bytes(_referring(m4a, f"file://{secret}"))
    opened.clear()
    with suppress(VoiceError):
        reading.read(path)
    assert not any("secret" in place for place in opened)


def test_no_demuxer_may_open_anything(m4a, tmp_path):
    refusal = by_ffmpeg._Refusal(Bounds(60, "prompt_speech_url"))
    with pytest.raises(VoiceError, match="refers to another file"):
        refusal("file:///etc/passwd", 0, {})


@pytest.fixture
def opened():
    """The files and addresses that are opened, by Python's audit events."""
    found: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "socket.connect", "socket.getaddrinfo"):
            found.append(str(arguments[0:2]))

    sys.addaudithook(hook)
    yield found
    watching = False


def _referring(content: bytes, place: str) -> bytes:
    """An MP4 whose sound is said to lie in another file."""
    at = content.find(b"url \0\0\0\1")
    name = place.encode() + b"\0"
    entry = struct.pack(">I4sI", 12 + len(name), b"url ", 0) + name
    content = content[: at - 4] + entry + content[at + 8 :]
    for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = content.find(box) - 4
        (length,) = struct.unpack_from(">I", content, at)
        content = content[:at] + struct.pack(">I", length + len(name)) + content[at + 4 :]
    return content


# Numbers that are too large


def test_an_mp4_of_more_samples_than_bytes_is_refused(tmp_path, m4a):
    at = m4a.find(b"stsz") + 8
    bomb = m4a[:at] + struct.pack(">II", 1, 0x7FFF_FFFF) + m4a[at + 8 :]
    refused(tmp_path, bomb, "more samples than bytes")


def test_a_fragment_of_more_samples_than_bytes_is_refused(tmp_path):
    live = encoded(tone(300, 2.0), 16_000, "mp4", "aac", container_options=FRAGMENTED)
    at = live.find(b"trun") + 4
    refused(
        tmp_path, live[:at] + struct.pack(">II", 0, 0x0FFF_FFFF) + live[at + 8 :], "samples than"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"RIFF\0\0\0\0WAVE" + 1_000_000 * b"LIST\0\0\0\0",
        500_000 * (b"RIFF\x04\0\0\0WAVEdata\0\0\0\0"),
        b"caff\0\1\0\0" + 500_000 * (b"free" + bytes(8)),
        500_000 * (b"ID3\4\0\0" + bytes(4)),
        struct.pack(">I4s", 16, b"ftyp") + b"M4A \0\0\0\0" + 500_000 * b"\0\0\0\x08free",
        b"OggS\0\2" + 1_000_000 * b"OggS",
        b"APETAGEX" + struct.pack("<II", 2000, 0xFFFF_FFFF) + bytes(1_000),
    ],
    ids=[
        "chunks of WAV",
        "joined WAVs",
        "chunks of CAF",
        "tags",
        "boxes of MP4",
        "pages of OGG",
        "a long tag",
    ],
)
def test_of_millions_of_parts_few_are_looked_at(tmp_path, content, monkeypatch):
    looks = 0

    def unpack_from(*arguments: object) -> tuple[int, ...]:
        nonlocal looks
        looks += 1
        return struct.unpack_from(*arguments)

    counted = SimpleNamespace(**{**vars(struct), "unpack_from": unpack_from})
    monkeypatch.setattr(reading.wav_header, "struct", counted)
    refused(tmp_path, content, "reference audio")
    assert looks <= 5_000


def test_a_picture_in_the_boxes_of_an_mp4_is_named(tmp_path):
    boxes = [(b"ftyp", b"heic\0\0\0\0"), (b"meta", bytes(40)), (b"mdat", bytes(90))]
    content = b"".join(struct.pack(">I4s", 8 + len(body), name) + body for name, body in boxes)
    refused(tmp_path, content, r"it is a picture \(HEIC\)")


def test_boxes_in_boxes_end(tmp_path):
    boxes = b"".join(struct.pack(">I4s", 8 * (5_000 - n), b"moov") for n in range(5_000))
    refused(tmp_path, struct.pack(">I4s", 16, b"ftyp") + b"M4A \0\0\0\0" + boxes, "reference audio")


@pytest.mark.parametrize("container", ["ipod", "webm"])
def test_hours_in_a_small_file_cost_no_more_than_the_limit(tmp_path, container):
    coding, rate = ("aac", 16_000) if container == "ipod" else ("libopus", 48_000)
    path = tmp_path / "hours"
    path.write_bytes(encoded(np.zeros(rate * 62, np.float32), rate, container, coding))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(VoiceError, match="too long; use at most 60 s"):
            reading.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 4 * rate * 60


def test_eight_channels_cost_the_memory_of_one(tmp_path):
    rate, channels = 48_000, 8
    path = tmp_path / "eight.wav"
    with sf.SoundFile(path, "w", rate, channels, "PCM_16") as sink:
        for _ in range(20):
            sink.write(np.random.default_rng(0).integers(-99, 99, (rate, channels), np.int16))
    tracemalloc.start()
    try:
        reading.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 4 * rate * 20


def test_sample_rates_and_channels_of_frames_are_bounded(tmp_path):
    content = encoded(np.zeros(4_000, np.float32), 4_000, "matroska", "pcm_s16le")
    refused(tmp_path, content, "sample rate of 4000 Hz; use 8000 to 192000")


def test_what_a_header_says_binds_nobody():
    """HE-AAC's header may have half of the rate, and one channel of the two, that are decoded."""
    take = Take(Bounds(60))
    take.check(22_050, 1)
    take.open(44_100, 2)
    take.add(np.ones((10, 2), np.float32))
    assert (take.sample_rate, take.channels, take.total) == (44_100, 2, 10)


def test_packets_without_sound_end(tmp_path, monkeypatch):
    """A recorder reserves a file's room and does not use it; or somebody wants the time."""
    packets: list[object] = []
    monkeypatch.setattr(by_ffmpeg, "_frames", lambda one: packets.append(one) or frames_of(one))
    frames = b"\x3c" + bytes(31)  # 12.2 kb/s
    path = tmp_path / "reserved.amr"
    path.write_bytes(b"#!AMR\n" + 100 * frames + b"\xe4" * 2_000_000)
    assert reading.read(path).audio.duration == pytest.approx(2.0, abs=0.1)
    assert len(packets) < 6_000


# Time


@pytest.fixture
def clip(tmp_path, m4a) -> Path:
    path = tmp_path / "clip.m4a"
    path.write_bytes(m4a)
    return path


class Clock:
    """Stands still, and is turned on at the nth look."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def __call__(self) -> float:
        self.looks -= 1
        return 0.0 if self.looks >= 0 else 2 * DECODE_SECONDS


@pytest.mark.parametrize("looks", [1, 2, 3, 5, 10, 40])
def test_it_ends_when_the_time_is_up_wherever_it_is(clip, looks):
    bounds = Bounds.starting_now(60, "prompt_speech_url", None, Clock(looks))
    with clip.open("rb", buffering=0) as file, pytest.raises(VoiceError, match="more than 20 s"):
        by_ffmpeg.decode(file, Take(bounds))


@pytest.mark.parametrize("kind", ["m4a", "wav"])
def test_a_job_that_was_cancelled_reads_no_more(clip, tmp_path, kind):
    if kind == "wav":
        clip = tmp_path / "clip.wav"
        sf.write(clip, tone(300, 2.0), 16_000)
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(JobCancelledError):
        reading.read(clip, cancellation=cancellation)


def test_a_file_ends_when_the_time_is_up(clip):
    with clip.open("rb", buffering=0) as file:
        over = Watched(file, Bounds(60, deadline=-1.0))
        assert (over.read(10), over.seek(5)) == (b"", -1)
        watched = Watched(file, Bounds(60))
        assert watched.seek(-5) == -1
        assert watched.seek(4) == 4
        assert watched.read(4) == b"ftyp"


def test_files_are_closed(clip, tmp_path):
    (tmp_path / "no recording").write_bytes(b"no recording")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (clip, tmp_path / "no recording"):
        for _ in range(3):
            with suppress(VoiceError):
                reading.read(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_ffmpeg_says_nothing_on_its_own(clip, capfd, m4a):
    clip.write_bytes(m4a[: len(m4a) // 2] + b"\xff" * 1_000 + m4a[len(m4a) // 2 :])
    with suppress(VoiceError):
        reading.read(clip)
    assert capfd.readouterr() == ("", "")
