"""Listeners: each asks for a text, hears its audio come, and may leave in the middle."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.playback import Heard

PCM_BYTES = 2 * 24_000  # of a second of OpenAI's pcm
TEXTS = (
    "My sister bought a green car last year, and she drives it to the sea on every free day.",
    "Please read this book to the children, for they have waited for it since the morning.",
    "She opened the window and looked at the garden, where the old man was cutting the grass.",
    "The train will leave in ten minutes. We had bread and cheese for lunch, and then some tea.",
    "He walked along the river until it was dark. Nobody knew where the small dog had gone.",
)
Fields = dict[str, Any]
AGAIN_SECONDS = 1.0  # after which a listener who was refused, or lost, asks again


@dataclass
class Counts:
    """What became of the requests of a round."""

    whole: int = 0  # heard to the end
    left: int = 0  # the listener left in the middle
    refused: int = 0  # 429
    failed: list[str] = field(default_factory=list)  # anything else


@dataclass
class Round:
    """A round of listeners."""

    counts: Counts = field(default_factory=Counts)
    streams: list[Heard] = field(default_factory=list)  # of those that were heard


async def together(url: str, number: int, rounds: int, more: Fields) -> Round:
    """So many listeners at the same moment, all of whom stay, one round after the other.

    `more` are fields of each request.
    """
    found = Round()
    async with _session() as session:
        for n in range(rounds):
            await asyncio.gather(
                *(_hear(session, url, n * number + i, found, more) for i in range(number))
            )
    return found


async def for_a_while(
    url: str, number: int, seconds: float, leaving: float, seed: int, more: Fields
) -> Round:
    """So many listeners, each of whom asks again and again; a share of `leaving` does not stay."""
    found = Round()
    until = time.monotonic() + seconds

    async def one(listener: int) -> None:
        chance = random.Random(f"{seed} {listener}")
        await asyncio.sleep(chance.uniform(0, 2))
        n = 0
        while time.monotonic() < until:
            stays = None if chance.random() >= leaving else chance.uniform(0.05, 3.0)
            await _hear(session, url, listener * 1000 + n, found, more, stays)
            n += 1

    async with _session() as session:
        await asyncio.gather(*(one(listener) for listener in range(number)))
    return found


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=300)
    )


async def _hear(
    session: aiohttp.ClientSession,
    url: str,
    number: int,
    found: Round,
    more: Fields,
    stays: float | None = None,
) -> None:
    """Ask for a text; leave after `stays` seconds of audio, where that is given."""
    body = {
        "input": TEXTS[number % len(TEXTS)],
        "voice": "alloy",
        "response_format": "pcm",
        "seed": number,
        **more,
    }
    heard = Heard(time.perf_counter())
    counts = found.counts
    try:
        async with session.post(f"{url}/v1/audio/speech", json=body) as answer:
            if answer.status == 429:
                counts.refused += 1
                await asyncio.sleep(AGAIN_SECONDS)
                return
            if answer.status != 200:
                counts.failed.append(f"{answer.status}: {(await answer.text())[:300]}")
                return
            async for chunk in answer.content.iter_any():
                heard.add(time.perf_counter(), len(chunk) / PCM_BYTES)
                if stays is not None and heard.audio >= stays:
                    answer.close()
                    counts.left += 1
                    found.streams.append(heard)
                    return
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        counts.failed.append(repr(error))
        await asyncio.sleep(AGAIN_SECONDS)  # where the worker is gone, all would fail without end
        return
    if not heard.arrivals:
        counts.failed.append("no audio")
        return
    counts.whole += 1
    found.streams.append(heard)
