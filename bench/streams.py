"""Many who listen at once, the engine alone: `python -m bench.streams`.

    python -m bench.streams [--model FOLDER] [--streams 1,8,16,32] [--sentences 4] [--rounds 3]
                            [--beside 0] [--apart 0]

Each stream is a thread that reads a text's pieces as they come, as for a client that takes all that
it gets; what a player that starts at the first piece would hear is reckoned from their times. They
begin together, or `--apart` seconds one after the other, after a round that is not counted. With
`--beside` so many jobs that want whole files run all the while.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.gpu.figures import markdown
from bench.playback import Heard, summary
from bench.sentences import sentences
from tests.support.worker_process import REPOSITORY
from worker.serve.startup import SWITCH_SECONDS
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine
from worker.speech.voice import Style, Voice

DEMO = REPOSITORY / "volume" / "demo" / "checkpoint"
HEAD = (
    *("streams", "first audio p50, ms", "p95", "without a gap of 100 ms, %", "longest gap, ms"),
    *("audio made in a second, s", "whole files beside, s"),
)


def main(arguments: list[str] | None = None) -> None:
    """Print a row for each number of streams."""
    options = _options(arguments)
    sys.setswitchinterval(SWITCH_SECONDS)  # as in a worker
    engine = Engine.load(options.model)
    voice = engine.design(STYLE, "Yes.", Sampling(seed=1, max_tokens=300)).voice
    rows = [HEAD]
    for count in options.streams:
        listening(engine, voice, count, options)
        found: list[Heard] = []
        seconds = audio = files = 0.0
        for _ in range(options.rounds):
            started = time.perf_counter()
            streams, whole = listening(engine, voice, count, options)
            seconds += time.perf_counter() - started
            found += streams
            audio += sum(one.audio for one in streams)
            files += whole
        rows.append(row(count, summary(found), audio / seconds, files / seconds))
    print("\n".join(markdown(rows)))


STYLE = Style("female", "moderate", "moderate")


def row(count: int, about: dict[str, float], audio: float, files: float) -> tuple[str, ...]:
    """Of one number of streams."""
    return (
        str(count),
        *(f"{1000 * about[name]:.0f}" for name in ("first_audio_p50", "first_audio_p95")),
        f"{100 * about['continuity']:.1f}",
        f"{1000 * about['worst_gap']:.0f}",
        f"{audio:.1f}",
        f"{files:.1f}" if files else "-",
    )


def listening(engine: Engine, voice: Voice, count: int, options: Any) -> tuple[list[Heard], float]:
    """One round: what each stream heard, and the seconds of audio of the files beside."""
    texts = sentences(count * options.sentences)
    over = threading.Event()

    def listen(number: int) -> Heard:
        time.sleep(number * options.apart)
        heard = Heard(time.perf_counter())
        mine = texts[number::count]
        for piece in engine.stream(mine, voice, Sampling(seed=number)):
            heard.add(time.perf_counter(), len(piece.samples) / engine.sample_rate)
        return heard

    def make_files(number: int) -> float:
        made = 0.0
        while not over.is_set():
            for one in engine.speak(sentences(40), voice, Sampling(seed=100 + number)):
                if over.is_set():
                    break
                made += len(one.samples) / engine.sample_rate
        return made

    with ThreadPoolExecutor(count + options.beside + 1) as threads:
        files = [threads.submit(make_files, number) for number in range(options.beside)]
        if files:
            time.sleep(0.5)
        streams = [threads.submit(listen, number) for number in range(count)]
        try:
            heard = [one.result() for one in streams]
        finally:
            over.set()
        return heard, sum(one.result() for one in files)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, default=DEMO, help="a checkpoint's folder")
    parser.add_argument("--streams", type=_numbers, default=(1, 8, 16, 32), help="at once")
    parser.add_argument("--sentences", type=int, default=4, help="of each stream")
    parser.add_argument("--rounds", type=int, default=3, help="that count")
    parser.add_argument("--beside", type=int, default=0, help="jobs that want whole files")
    parser.add_argument("--apart", type=float, default=0.0, help="seconds between two beginnings")
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    main()
