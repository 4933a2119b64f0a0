"""How speech becomes the file that a job asks for: its rate, its level, its format and its tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from worker.api.request import SpeechRequest
from worker.audio.files import write_blocks
from worker.audio.formats import SAMPLE_RATES
from worker.audio.levelling import Level, level
from worker.audio.resampling import resampled
from worker.audio.tags import Tags, words_of
from worker.audio.waveform import PEAK_DBFS, Samples

MISSED = 0.5  # LU below the loudness that was asked for, from which on the caller is told


def rate_of(request: SpeechRequest, sample_rate: int) -> int:
    """The rate in Hz of a job's files, whose speech is spoken at `sample_rate` Hz."""
    if request.sample_rate is not None:
        return request.sample_rate
    rates = SAMPLE_RATES.get(request.output_format, (sample_rate,))
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def tags_of(request: SpeechRequest, model: str) -> Mapping[str, str]:
    """What a job's audio says of itself; `model` is the name of the model that spoke."""
    several = request.turns is not None or request.markup
    voice = None if several else request.voice or request.save_voice
    return words_of(request.tags or Tags(), voice=voice, model=model)


def limit_of(request: SpeechRequest) -> float:
    """The highest that a peak of a job's audio may be, in dBTP."""
    return PEAK_DBFS if request.true_peak is None else request.true_peak


def write_speech(
    blocks: Callable[[], Iterable[Samples]],
    sample_rate: int,
    path: Path,
    request: SpeechRequest,
    model: str,
) -> Level:
    """Write speech of `sample_rate` Hz as the job asks; give its level.

    `blocks` begins the speech anew: it is measured, and then written, and never held whole. `model`
    is the name of the model that spoke. Raises SynthesisError and StorageError, as `write_blocks`.
    """
    rate = rate_of(request, sample_rate)

    def at_rate() -> Iterable[Samples]:
        return resampled(blocks(), sample_rate, rate)

    found = level(at_rate, rate, loudness=request.loudness, true_peak=limit_of(request))
    write_blocks(
        found.applied(at_rate()),
        rate,
        path,
        request.output_format,
        bit_rate=request.bit_rate,
        tags=tags_of(request, model),
    )
    return found


def what_is_missed(request: SpeechRequest, found: Level) -> str | None:
    """Say by how much speech is not as loud as the job asks; None where it is."""
    if request.loudness is None:
        return None
    if found.loudness is None:
        return (
            "loudness: the speech is too quiet to be measured (below -70 LUFS): it stays as it is"
        )
    missing = request.loudness - found.loudness
    if missing <= MISSED:
        return None
    return (
        f"loudness: the speech has {found.loudness:.1f} LUFS, {missing:.1f} LU less than the "
        f"{request.loudness:g} that were asked for: more gain would press its peaks too much"
    )
