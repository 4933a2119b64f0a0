"""What the encoders and the live stages cost, and how long they hold audio back.

python -m bench.encoders

A row for each format, then one for each stage: milliseconds of one thread for a second of audio,
memory of one that is open, kilobits a second, and after how many milliseconds of audio, fed in
pieces of 10, the first of it has left. Noise of a voice's loudness, at the model's rate.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np

from worker.audio.encoders import open_encoder
from worker.audio.formats import StreamFormat
from worker.audio.live import LiveLimiter, LiveShift, LiveTrim
from worker.audio.waveform import Samples

RATE = 16_000
SECONDS = 5  # of audio: a sentence
PIECE = RATE // 10  # samples
OPEN = 32  # at once, for the memory
ROUNDS = 3

Feed = Callable[[Samples, bool], int]  # samples, whether they are the last -> what came out


def main() -> None:
    """Print the table, as it stands in docs/PERFORMANCE.md."""
    print("| | ms for a second | kB when open | kbit/s | first after |")
    print("| --- | --- | --- | --- | --- |")
    for name in get_args(StreamFormat):
        rate = len(_bytes_of(name)) * 8 / SECONDS / 1000
        _row(name, lambda name=name: _encoder(name), f"{rate:.0f}")
    _row("trim", lambda: _stage(LiveTrim(RATE)), "")
    for semitones, tempo in ((0, 0.5), (0, 1.25), (0, 2), (3, 1)):
        change = f"shift by {semitones} semitones" if semitones else f"shift to a tempo of {tempo}"
        _row(change, lambda s=semitones, t=tempo: _stage(LiveShift(RATE, s, t)), "")
    _row("limiter", lambda: _stage(LiveLimiter(RATE)), "")


def _row(name: str, make: Callable[[], Feed], rate: str) -> None:
    cost = min(_milliseconds(make()) for _ in range(ROUNDS))
    print(f"| {name} | {cost:.1f} | {_memory(make):.0f} | {rate} | {_first(make)} ms |")


def _encoder(name: StreamFormat) -> Feed:
    encoder = open_encoder(name, RATE)
    head = len(encoder.encode(np.zeros(0, np.float32)))
    counted = [head]

    def feed(samples: Samples, last: bool) -> int:
        content = encoder.encode(samples) + (encoder.finish() if last else b"")
        counted[0] += len(content)
        return max(0, counted[0] - HEADS.get(name, head))

    return feed


# Bytes that leave with the first audio, but are none.
HEADS = {"wav": 44, "opus": 97, "flac": 86}


def _stage(stage: LiveTrim | LiveShift | LiveLimiter) -> Feed:
    return lambda samples, last: len(stage.feed(samples, last=last))


def _sound() -> Samples:
    noise = np.random.default_rng(1).standard_normal(SECONDS * RATE)
    return (0.2 * np.sin(np.arange(len(noise)) / 20) + 0.03 * noise).astype(np.float32)


def _bytes_of(name: StreamFormat) -> bytes:
    encoder = open_encoder(name, RATE)
    return encoder.encode(_sound()) + encoder.finish()


def _milliseconds(feed: Feed) -> float:
    parts = np.split(_sound(), range(PIECE, SECONDS * RATE, PIECE))
    start = time.thread_time()
    for part in parts:
        feed(part, part is parts[-1])
    return (time.thread_time() - start) * 1000 / SECONDS


def _first(make: Callable[[], Feed]) -> int:
    feed = make()
    for place, part in enumerate(np.split(_sound(), SECONDS * 100), 1):
        if feed(part, False):
            return 10 * place
    raise ValueError("nothing came")


def _memory(make: Callable[[], Feed]) -> float:
    """Kilobytes of one that has taken a tenth of a second."""
    first = _opened(make)  # what is loaded once counts for none, and these stay, so that the
    gc.collect()  # others find no room that was left by them
    before = _resident()
    kept = [*first, *_opened(make)]
    return (_resident() - before) / (len(kept) - OPEN) / 1000


def _opened(make: Callable[[], Feed]) -> list[Feed]:
    feeds = [make() for _ in range(OPEN)]
    for feed in feeds:
        feed(_sound()[:PIECE], False)
    return feeds


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
