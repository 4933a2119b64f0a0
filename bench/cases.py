"""Cases (a) to (d): what a user waits for, upstream beside ours."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

from bench.material import MODEL, TRANSCRIPT
from bench.measure import beside_parts, side_by_side
from bench.sentences import sentences
from bench.sides import Sides
from worker.settings import Settings
from worker.storage.keys import keys_of
from worker.storage.local import LocalStorage
from worker.voices.library import Voices

TOKENS_A_SECOND = 50


def sentence(sides: Sides) -> dict[str, Any]:
    """(a) One sentence by a designed voice: language model and codec."""
    sides.load()
    (text,), scale = sentences(1), sides.scale
    lm_seconds = []

    def theirs(number: int) -> None:
        sides.theirs.speak(text, scale.tokens - number)  # jobs seldom repeat a length
        lm_seconds.append(sides.theirs.lm_seconds / (scale.tokens - number))

    times = side_by_side(
        scale.rounds,
        theirs=theirs,
        ours=lambda number: sides.ours.speak([text], scale.tokens - number, seed=number),
    )
    # That of the middle round, as the medians are in tokens.
    audio = (scale.tokens - (scale.rounds - 1) / 2) / TOKENS_A_SECOND
    return _compared(times, audio) | {
        "theirs_lm_tokens_per_second": round(1 / sorted(lm_seconds)[len(lm_seconds) // 2], 2)
    }


def text(sides: Sides) -> dict[str, Any]:
    """(b) A text of several sentences, one job. Upstream speaks one after the other."""
    sides.load()
    texts, tokens = sentences(sides.scale.sentences), sides.scale.tokens
    times = beside_parts(
        [partial(sides.theirs.speak, one, tokens) for one in texts],
        lambda: sides.ours.speak(texts, tokens),
    )
    return _compared(times, len(texts) * tokens / TOKENS_A_SECOND)


def jobs(sides: Sides) -> dict[str, Any]:
    """(c) As many jobs at once, of one sentence each. Upstream has no way but in turn."""
    sides.load()
    count, tokens = sides.scale.sentences, sides.scale.tokens
    texts = sentences(2 * count)[count:]
    times = beside_parts(
        [partial(sides.theirs.speak, one, tokens) for one in texts],
        lambda: sides.ours.jobs(texts, tokens),
    )
    return _compared(times, len(texts) * tokens / TOKENS_A_SECOND)


def cloning(sides: Sides) -> dict[str, Any]:
    """(d) One sentence in the voice of a recording; ours also where its tokens are cached."""
    sides.load()
    (text,), scale, reference = sentences(1), sides.scale, sides.material.reference
    settings = Settings(runpod_volume=sides.material.scratch)
    folder = sides.material.scratch / "voices" / MODEL
    voices = Voices(
        sides.ours.engine,
        LocalStorage(sides.material.scratch / "local"),
        keys_of(settings),
        folder,
    )

    def ours(_: int) -> None:
        voice = voices.listen(reference, TRANSCRIPT)
        sides.ours.speak([text], scale.tokens, voice)

    def cold(number: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        ours(number)

    ours(0)
    sides.theirs.listen(reference)
    times = side_by_side(
        scale.rounds,
        theirs=lambda _: sides.theirs.speak(text, scale.tokens, reference, TRANSCRIPT),
        cold=cold,
        cached=ours,
        their_listening=lambda _: sides.theirs.listen(reference),
        our_listening=lambda _: sides.ours.engine.listen(reference),
    )
    found = {side: round(measured["median"], 3) for side, measured in times.items()}
    return found | {
        "times_cold": _times(found["theirs"], found["cold"]),
        "times_cached": _times(found["theirs"], found["cached"]),
        "times_listening": _times(found["their_listening"], found["our_listening"]),
        "rounds": times,
    }


def _compared(times: dict[str, Any], audio: float) -> dict[str, Any]:
    theirs, ours = times["theirs"]["median"], times["ours"]["median"]
    return {
        "audio_seconds": round(audio, 2),
        "theirs": round(theirs, 3),
        "ours": round(ours, 3),
        "times": _times(theirs, ours),
        "real_time_factor": round(ours / audio, 3),
        "their_real_time_factor": round(theirs / audio, 3),
        "rounds": times,
    }


def _times(theirs: float, ours: float) -> float:
    return round(theirs / ours, 2)
