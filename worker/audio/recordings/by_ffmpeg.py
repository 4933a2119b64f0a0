"""Decodes by ffmpeg's libraries what libsndfile does not know, or does not read to its end.

They are C that a stranger's bytes go through, so: only demuxers and decoders of `allowed`; no other
file or address is ever opened, whatever a file refers to; of several tracks only the one that is
heard goes to a decoder, and no picture ever does; one thread; and between packets, and whenever the
file is read, somebody looks at the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from worker.audio.recordings.allowed import DECODERS, DEMUXERS
from worker.audio.recordings.kinds import HEAD_BYTES, name_of
from worker.audio.recordings.take import Blocks, Bounds, Take
from worker.audio.recordings.watched import Watched
from worker.errors import VoiceError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

# ffmpeg opens no file with more: the names of all its protocols are others.
_NO_PROTOCOL = "none"
_PROBED_BYTES = 1 << 20  # in which a container has to show its tracks
_PROBED_MICROSECONDS = 5_000_000
_FRAME_SAMPLES_MAX = 1 << 20  # of one frame; the longest that a decoder here makes has 2^16
_DAMAGED = 0.02  # share of packets that may fail between good ones; the gaps are too short to hear
_DAMAGED_FEW = 3  # so many always may: where files were joined, one has no sound

_TAIL_PACKETS_MAX = 5_000  # without sound: what a recorder reserved and did not use, or a bomb

_FULL_SCALE = {"uint8": 128.0, "int16": 32_768.0, "int32": 2_147_483_648.0}


@dataclass
class Packets:
    """How many packets of the track there were, and how many of those with sound failed."""

    good: int = 0
    failed: int = 0  # between good ones
    waiting: int = 0  # since the last good one: what stands at the end may be a tag

    def count(self, *, good: bool) -> None:
        """Count one more."""
        if not good:
            self.waiting += 1
            return
        if self.good:
            self.failed += self.waiting
        self.good += 1
        self.waiting = 0


@dataclass(frozen=True)
class Found:
    """What ffmpeg says of the file: its container, and how many samples that honestly promises."""

    container: str
    promised: int | None
    frame: int  # samples of a frame


def decode(file: BinaryIO, take: Take) -> Found:
    """Decode the track that is heard into `take`. Raises VoiceError."""
    # Here, since a start needs none of it: most references are read by libsndfile alone.
    import av  # noqa: PLC0415

    bounds = take.bounds
    try:
        with _open(file, bounds) as container:
            bounds.check()
            track = _track(container, bounds)
            return _decode(container, track, take)
    except (av.FFmpegError, ValueError, OverflowError):
        bounds.check()  # what is read after the time is up looks like the file's end
        raise _refused(file, bounds) from None


def _open(file: BinaryIO, bounds: Bounds) -> InputContainer:
    import av  # noqa: PLC0415

    return av.open(
        Watched(file, bounds),
        "r",
        container_options={
            "format_whitelist": ",".join(DEMUXERS),
            "codec_whitelist": ",".join(DECODERS),
            "protocol_whitelist": _NO_PROTOCOL,
            "probesize": str(_PROBED_BYTES),
            "analyzeduration": str(_PROBED_MICROSECONDS),
        },
        metadata_errors="ignore",
        io_open=_Refusal(bounds),
    )


class _Refusal:
    """What PyAV asks to open another file."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def __call__(self, _url: str, _flags: int, _options: dict[str, str]) -> BinaryIO:
        raise self._bounds.fault("refers to another file; send one that holds the sound itself")


def _track(container: InputContainer, bounds: Bounds) -> av.AudioStream:
    """The track that is heard: the default one, else the first, of those that can be decoded."""
    from av.stream import Discard, Disposition  # noqa: PLC0415

    tracks = list(container.streams.audio)
    if not tracks:
        raise bounds.fault("has no sound track; send the recording of a voice")
    tracks.sort(key=lambda track: not track.disposition & Disposition.default)
    for track in tracks:
        if _coding(track) in DECODERS:
            for other in container.streams:
                if other is not track:
                    other.discard = Discard.all
            return track
    raise bounds.undecodable(f"its coding, {_coding(tracks[0])}, is not taken")


def _coding(track: av.AudioStream) -> str:
    """The name of the track's decoder."""
    return "an unknown one" if track.codec_context is None else track.codec_context.name


def _decode(container: InputContainer, track: av.AudioStream, take: Take) -> Found:
    context = track.codec_context
    if context.sample_rate:  # of HE-AAC it may be half of what comes, and one channel of two
        take.check(context.sample_rate, context.layout.nb_channels)
    context.thread_count = 1
    context.options = {"max_samples": str(_FRAME_SAMPLES_MAX)}
    frame_samples = 0
    packets = Packets()
    for packet in container.demux(track):
        take.bounds.check()
        empty = not packet.size  # the last of all, which asks for what the decoder still holds
        good = False
        for frame in _frames(packet):
            take.open(frame.sample_rate, frame.layout.nb_channels)
            take.add(_samples(frame))
            frame_samples = max(frame_samples, frame.samples)
            good = True
        if not empty:
            packets.count(good=good)
        if packets.waiting > _TAIL_PACKETS_MAX:
            break
    take.bounds.check()
    _check_damage(packets, take.bounds)
    return Found(container.format.name, _promised(container, track), frame_samples)


def _frames(packet: av.Packet[av.AudioStream]) -> Iterator[av.AudioFrame]:
    """The frames of a packet; of a damaged one none."""
    import av  # noqa: PLC0415

    try:
        yield from packet.decode()
    except av.FFmpegError:
        return


def _check_damage(packets: Packets, bounds: Bounds) -> None:
    if packets.waiting and not packets.good:
        raise bounds.undecodable("it is damaged")
    allowed = max(_DAMAGED_FEW, _DAMAGED * packets.good)
    if packets.failed > allowed:
        whole = packets.good + packets.failed
        raise bounds.undecodable(f"{packets.failed} of its {whole} packets are damaged")


def _promised(container: InputContainer, track: av.AudioStream) -> int | None:
    """The samples that the container honestly promises: FLAC's, whose encoder counted them."""
    if container.format.name != "flac" or not track.duration or track.time_base is None:
        return None
    return round(track.duration * track.time_base * track.codec_context.sample_rate)


def _samples(frame: av.AudioFrame) -> Blocks:
    """The frame's samples, float32 [n, channels] in -1..1."""
    values = frame.to_ndarray()  # [channels, n], or [1, n * channels]
    channels = frame.layout.nb_channels
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    scale = _FULL_SCALE.get(values.dtype.name)
    if scale is None:
        return np.asarray(values, np.float32)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - np.float32(scale)) / np.float32(scale)
    return (values / scale).astype(np.float32)


def _refused(file: BinaryIO, bounds: Bounds) -> VoiceError:
    """The error in words: what the file is, where that is known."""
    file.seek(0)
    name = name_of(file.read(HEAD_BYTES))
    if name is not None:
        return bounds.undecodable(f"it is {name}")
    return bounds.undecodable("it is damaged, or no recording")
