"""How recordings are read: `python -m bench.recordings` measures what was decided by measurement.

- Which decoder reads an MP3: samples that each gives of a source of known length, and signal to
  noise against ffmpeg's, in dB. A frame that is left out is a hole.
- Which channel is heard: signal to noise of the first channel, of the mix of both and of what the
  worker takes, against the clean voice, in dB.
- What a minute costs: milliseconds of one thread for each kind of file, the better of three.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from tests.support.encoded import NO_XING, album_art, encoded, id3
from tests.support.sounds import Samples, speech
from worker.audio.recordings import by_ffmpeg, by_libsndfile
from worker.audio.recordings.reading import read
from worker.audio.recordings.take import Bounds, Take

RATE = 44_100
TEXT = "She carried a basket of apples. Nobody else was in the park."


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        show("MP3: the decoders", ("kind", "source", "libsndfile", "ffmpeg", "dB"), mp3(path))
        show("Channels, dB", ("recording", "first", "mix", "taken"), channels(path))
        show("A minute", ("kind", "MB", "ms"), minutes(path))


def show(title: str, head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def noise_ratio(found: Samples, source: Samples) -> str:
    both = min(len(found), len(source))
    error = np.square(found[:both] - source[:both]).sum()
    return f"{10 * np.log10(np.square(source[:both]).sum() / max(error, 1e-12)):.0f}"


def mp3(path: Path) -> Iterator[tuple[object, ...]]:
    voice = speech(TEXT, RATE)
    once = encoded(voice, RATE, "mp3", "libmp3lame", bit_rate=64_000)
    kinds = {
        "constant, counted": once,
        "changing, counted": encoded(voice, RATE, "mp3", "libmp3lame", quality=2),
        "average, counted": encoded(
            voice, RATE, "mp3", "libmp3lame", bit_rate=64_000, options={"abr": "1"}
        ),
        "constant": encoded(
            voice, RATE, "mp3", "libmp3lame", bit_rate=64_000, container_options=NO_XING
        ),
        "changing": encoded(voice, RATE, "mp3", "libmp3lame", quality=2, container_options=NO_XING),
        "with album art": id3(picture=album_art()) + once,
        "two joined": once + once,
    }
    for kind, content in kinds.items():
        path.write_bytes(content)
        found = []
        for decoder in (by_libsndfile, by_ffmpeg):
            take = Take(Bounds(60))
            with path.open("rb", buffering=0) as file:
                decoder.decode(file, take)
            found.append(take.samples())
        length = len(voice) * (2 if kind == "two joined" else 1)
        yield kind, length, len(found[0]), len(found[1]), noise_ratio(*found)


def channels(path: Path) -> Iterator[tuple[object, ...]]:
    voice = speech(TEXT)
    chance = np.random.default_rng(0)
    hiss = [0.01 * chance.standard_normal(len(voice)).astype(np.float32) for _ in range(2)]
    other = speech("Where is the station, please? I have been looking for it.", voice="en+f3")
    other = np.resize(other, len(voice))
    late = np.concatenate([np.zeros(16, np.float32), voice[:-16]])
    kinds = {
        "the same twice": (voice, voice),
        "each with its own hiss": (voice + hiss[0], voice + hiss[1]),
        "one inverted": (voice, -voice),
        "a millisecond apart": (voice, late),
        "on the right alone": (np.zeros_like(voice), voice),
        "hiss on the left": (10 * hiss[0], voice),
        "another speaker on the left, 6 dB below": (other * np.float32(0.5), voice),
    }
    for kind, sides in kinds.items():
        sound = np.stack(sides, axis=1)
        sf.write(path, sound, 16_000, "FLOAT", format="WAV")
        taken = read(path).audio.samples
        yield kind, *(noise_ratio(one, voice) for one in (sound[:, 0], sound.mean(axis=1), taken))


def minutes(path: Path) -> Iterator[tuple[object, ...]]:
    voice = np.resize(speech(TEXT, RATE), 60 * RATE)
    wide = np.stack([voice, np.roll(voice, 20)])
    kinds = {
        "WAV": (voice, RATE, "wav", "pcm_s16le"),
        "WAV, two channels": (wide, RATE, "wav", "pcm_s16le"),
        "FLAC": (voice, RATE, "flac", "flac"),
        "MP3": (voice, RATE, "mp3", "libmp3lame"),
        "MP3, two channels": (wide, RATE, "mp3", "libmp3lame"),
        "OGG, Opus": (soxr.resample(voice, RATE, 48_000)[: 60 * 48_000], 48_000, "ogg", "libopus"),
        "M4A": (voice, RATE, "ipod", "aac"),
        "WebM": (soxr.resample(voice, RATE, 48_000)[: 60 * 48_000], 48_000, "webm", "libopus"),
        "WMA": (voice, RATE, "asf", "wmav2"),
        "AMR": (soxr.resample(voice, RATE, 8_000), 8_000, "amr", "libopencore_amrnb"),
    }
    for kind, (sound, rate, container, coding) in kinds.items():
        path.write_bytes(encoded(sound, rate, container, coding, bit_rate=64_000))
        spent = []
        for _ in range(3):
            started = time.process_time()
            read(path, longest=61)
            spent.append(time.process_time() - started)
        yield kind, f"{path.stat().st_size / 1e6:.1f}", f"{1_000 * min(spent):.0f}"


if __name__ == "__main__":
    main()
