"""Recordings as phones, browsers and taggers make them, by ffmpeg's encoders; given as bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from tests.support.sounds import Samples

NO_XING = {"write_xing": "0", "id3v2_version": "0"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}
JPEG = b"\xff\xd8\xff\xe0"


def encoded(
    samples: Samples,
    rate: int,
    container: str,
    codec: str,
    *,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    bit_rate: int | None = None,
    quality: int | None = None,  # of a changing bit rate
    tracks: Sequence[float] = (1.0,),  # the loudness of each
    default: int | None = None,  # the track to be heard
    film: bool = False,  # whether there are pictures beside the sound
) -> bytes:
    """Samples float32 [n] or [channels, n], encoded into a container."""
    sound = np.atleast_2d(samples)
    with TemporaryDirectory() as folder:  # for containers that are gone over once more at the end
        path = Path(folder) / "made"
        with av.open(path, "w", container, container_options=dict(container_options or {})) as file:
            pictures = _pictures(file, sound.shape[1] / rate) if film else None
            streams = [
                _stream(file, codec, rate, len(sound), options, bit_rate, quality) for _ in tracks
            ]
            for number, stream in enumerate(streams):
                if default is not None:
                    stream.disposition = int(number == default)
            for loudness, stream in zip(tracks, streams, strict=True):
                _encode(file, stream, sound * np.float32(loudness), rate)
            if pictures is not None:
                _draw(file, pictures, sound.shape[1] / rate)
        return path.read_bytes()


def _stream(
    file: av.container.OutputContainer,
    codec: str,
    rate: int,
    channels: int,
    options: Mapping[str, str] | None,
    bit_rate: int | None,
    quality: int | None,
) -> av.AudioStream:
    stream = file.add_stream(codec, rate=rate, options=dict(options or {}))
    context = stream.codec_context
    context.layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    context.format = av.Codec(codec, "w").audio_formats[0].name
    if bit_rate is not None:
        context.bit_rate = bit_rate
    if quality is not None:
        context.qscale = True
        context.global_quality = quality * 118  # FF_QP2LAMBDA
    return stream


def _encode(
    file: av.container.OutputContainer, stream: av.AudioStream, sound: Samples, rate: int
) -> None:
    context = stream.codec_context
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(sound, np.float32), format="fltp", layout=context.layout.name
    )
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    resampler = av.AudioResampler(
        format=context.format,
        layout=context.layout,
        rate=rate,
        frame_size=context.frame_size or 1024,
    )
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        file.mux(stream.encode(part))
    file.mux(stream.encode(None))


def _pictures(file: av.container.OutputContainer, seconds: float) -> av.VideoStream:
    codec = "libvpx" if file.format.name == "webm" else "mpeg4"
    stream = file.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    return stream


def _draw(file: av.container.OutputContainer, stream: av.VideoStream, seconds: float) -> None:
    for number in range(int(seconds * 25)):
        picture = av.VideoFrame.from_ndarray(
            np.full((48, 64, 3), number % 256, np.uint8), format="rgb24"
        )
        picture.pts = number
        file.mux(stream.encode(picture))
    file.mux(stream.encode(None))


# Tags


def id3(*, picture: bytes) -> bytes:
    """An ID3v2.4 tag with a picture of the front (APIC)."""
    body = b"\0image/jpeg\0\x03\0" + picture
    frame = b"APIC" + _syncsafe(len(body)) + b"\0\0" + body
    return b"ID3\x04\0\0" + _syncsafe(len(frame)) + frame


def ape(*, picture: bytes) -> bytes:
    """An APEv2 tag with a picture."""
    item = struct.pack("<II", len(picture), 2) + b"Cover Art (front)\0" + picture
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA000_0000, 0x8000_0000)
    )
    return head + item + foot


def album_art(size: int = 700_000) -> bytes:
    """What an encoder of pictures makes: bytes without order."""
    return JPEG + np.random.default_rng(1).bytes(size)


def _syncsafe(number: int) -> bytes:
    return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))


# Headers of WAV


def wav_lengths(content: bytes, riff: int, data: int) -> bytes:
    """A WAV whose header says other lengths, in bytes."""
    changed = io.BytesIO(content)
    changed.seek(4)
    changed.write(struct.pack("<I", riff))
    changed.seek(content.find(b"data") + 4)
    changed.write(struct.pack("<I", data))
    return changed.getvalue()
