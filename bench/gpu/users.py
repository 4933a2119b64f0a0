"""What users get: tokens a second, seconds of audio a second, first audio, speech without gaps.

What is measured of whichever engine the bench has, so that two can stand side by side.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from bench.gpu import inside
from bench.gpu.bench import Bench, Found
from bench.ours import Ours
from bench.playback import Heard, summary
from bench.rates import lm_rate
from bench.sentences import sentences
from worker.speech.engine import Utterance

TOKENS_A_SECOND = 50
TOGETHER, STAGGERED = "together", "staggered"


def rates(bench: Bench) -> Found:
    """Tokens a second of the language model alone, by rows, prompts left out; its RTF alone."""
    found = {str(rows): lm_rate(bench.ours, rows, bench.scale, few=rows) for rows in counts(bench)}
    return {"tokens_a_second": found, "rtf": round(TOKENS_A_SECOND / found["1"], 4)}


def jobs(bench: Bench) -> Found:
    """Seconds of audio made in a second by so many jobs at once, with prompts and the codec.

    A wave of equal jobs each time; and at last clients that ask for one sentence after the other.
    """
    ours, tokens = bench.ours, bench.scale.job_tokens
    found: Found = {}
    bench.forget_peak()
    for count in counts(bench):
        texts, audio = sentences(count), count * tokens / TOKENS_A_SECOND
        spoken: list[Utterance] = []
        first, then = (
            bench.seconds(
                lambda texts=texts, spoken=spoken: spoken.extend(ours.jobs(texts, tokens))
            )
            for _ in "ab"
        )
        with ours.without_codec():
            alone = bench.seconds(lambda texts=texts: ours.jobs(texts, tokens))
        found[str(count)] = {
            "seconds": [round(first, 4), round(then, 4)],
            "rtf": round(then / audio, 4),
            "audio_a_second": round(audio / then, 1),
            "language_model_alone": round(audio / alone, 1),
            "codec_s": round(statistics.median(one.codec_seconds for one in spoken[count:]), 4),
        }
    found["one_after_the_other"] = {
        "clients": count,
        "audio_a_second": round(_sustained(ours, count, tokens, bench.scale.each), 1),
    }
    return found | {"peak_mb": bench.peak_memory() >> 20}


def counts(bench: Bench) -> list[int]:
    """The numbers of streams, as far as there are slots."""
    most = inside.slots(bench.ours.engine)
    return [count for count in bench.scale.streams if count <= most]


def _sustained(ours: Ours, clients: int, tokens: int, each: int) -> float:
    """Seconds of audio a second, of clients that ask for one sentence after the other.

    `each` of them on average, of several lengths, so that prompts are read beside rows that run.
    """
    count = clients * each
    lengths = np.random.default_rng(0).integers(tokens // 2, 3 * tokens // 2, count)
    waiting = deque(zip(sentences(count), lengths.tolist(), strict=True))
    ended: deque[tuple[float, float]] = deque()  # when, seconds of audio

    def client() -> None:
        while True:
            try:
                text, length = waiting.popleft()
            except IndexError:
                return
            ours.speak([text], length)
            ended.append((time.perf_counter(), length / TOKENS_A_SECOND))

    for one in [ours.thread(number).submit(client) for number in range(clients)]:
        one.result()
    return steady_rate(list(ended), clients)


def steady_rate(ended: Sequence[tuple[float, float]], clients: int) -> float:
    """Amount a second of what ended while all clients were busy, of (when, amount) in any order.

    From the end of as many as there are clients, on average the first of each, to when the last is
    begun. Raises ValueError where nothing is in between.
    """
    ordered = sorted(ended)
    inner = ordered[clients - 1 : len(ordered) - clients + 1]
    if len(inner) < 2:
        raise ValueError(f"{len(ended)} ends of {clients} clients have no steady part")
    seconds = max(inner[-1][0] - inner[0][0], 1e-9)
    return sum(amount for _when, amount in inner[1:]) / seconds


def streams(bench: Bench) -> Found:
    """First audio and gaps of eager streams, asked for together, and staggered.

    Staggered ones are asked for evenly within half of what they took together, so that all run
    at the same time for a while.
    """
    ours, tokens = bench.ours, bench.scale.stream_tokens
    found: Found = {TOGETHER: {}, STAGGERED: {}}
    for count in counts(bench):
        texts, rounds = sentences(count), bench.scale.stream_rounds(count)
        spread = 0.0
        for way in (TOGETHER, STAGGERED) if count > 1 else (TOGETHER,):
            heard: list[Heard] = []
            took = []
            for seed in range(rounds):
                begun = time.perf_counter()
                heard += ours.streams(texts, tokens, spread, seed)
                took.append(time.perf_counter() - begun)
            audio = count * tokens / TOKENS_A_SECOND
            seconds = statistics.median(took)
            found[way][str(count)] = summary(heard) | {
                "spread": round(spread, 3),
                "audio_a_second": round(audio / seconds, 1),
            }
            spread = seconds / 2
    return found
