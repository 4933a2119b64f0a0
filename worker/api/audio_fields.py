"""What the fields of the audio that goes out may say together: formats, rates, bit rates, tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from worker.audio.formats import (
    HAVE_BIT_RATES,
    HAVE_TAGS,
    SAMPLE_RATES,
    STREAMS_WITH_TAGS,
    StreamFormat,
    bit_rates,
)
from worker.errors import RequestError

if TYPE_CHECKING:
    from worker.api.request import SpeechRequest

MODEL_RATE = 16_000  # Hz of Spark-TTS' codec: what a file has where no rate is asked for


def audio_contradictions(request: SpeechRequest) -> Iterator[tuple[str, str]]:
    """Pairs of fields that contradict each other: the field to change, and the message."""
    kind, rate = request.output_format, request.sample_rate
    rates = SAMPLE_RATES.get(kind)
    if rate is not None and rates is not None and rate not in rates:
        words = f"{kind} cannot have {rate} Hz; give one of {_listed(rates)}"
        yield "sample_rate", f"sample_rate: {words}, or another format"
    elif request.bit_rate is not None:
        yield from _bit_rate(request, request.bit_rate, rate or MODEL_RATE)
    if request.tags is not None and kind not in HAVE_TAGS:
        yield "tags", f"tags: {kind} has no place for any; leave them out, or give another format"


def _bit_rate(request: SpeechRequest, asked: int, rate: int) -> Iterator[tuple[str, str]]:
    kind = request.output_format
    if kind not in HAVE_BIT_RATES:
        formats = " and ".join(HAVE_BIT_RATES)
        yield (
            "bit_rate",
            f"bit_rate: only {formats} have one to choose, and the format is {kind}; leave it out",
        )
        return
    allowed = bit_rates(kind, rate)
    if asked in allowed:
        return
    words = f"bit_rate: {kind} at {rate} Hz cannot have {asked} kbit/s; give {_listed(allowed)}"
    higher = [more for more in SAMPLE_RATES[kind] if more > rate and asked in bit_rates(kind, more)]
    if higher:
        words += f", or a sample_rate of {higher[0]} or more"
    yield "bit_rate", words


def _listed(numbers: Sequence[int]) -> str:
    if isinstance(numbers, range):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def check_live(request: SpeechRequest, response_format: StreamFormat) -> None:
    """Refuse what audio cannot have that is sent while it is made. Raises RequestError."""
    if request.tags is not None and response_format not in STREAMS_WITH_TAGS:
        raise RequestError(
            f"tags: a stream of {response_format} has no place for any; leave them out, or choose "
            f"one of {', '.join(STREAMS_WITH_TAGS)}",
            field="tags",
        )
    if request.loudness is not None:
        raise RequestError(
            "loudness: audio that is sent while it is made has left before its loudness is known; "
            "leave it out, or ask for a file: a job of the queue, or POST /v1/speech without "
            "stream",
            field="loudness",
        )
