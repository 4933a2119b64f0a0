"""Judges a sentence as it was spoken without its words' times: by its length, silence and tokens.

It costs a millisecond, so that it runs on every sentence. What it cannot tell is whether the words
are the right ones, where they take as long as the right ones would: that takes an aligner
(`speech_check`). Its limits lie outside of what good speech has in any style:
python -m bench.speech_gate measures how far.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.audio.waveform import (
    SPEECH_FLOOR_DBFS,
    SPEECH_RANGE_DB,
    WINDOW_SECONDS,
    Audio,
    db_to_amplitude,
    window_rms,
)
from worker.job.repeated_tokens import STUCK_WINDOW, TOKENS_A_SECOND, loop_of, stuck_of
from worker.job.speech_check import Verdict
from worker.speech.engine import Utterance
from worker.speech.voice import LEVELS, Style, Voice
from worker.text.pace import Pace, pace_of

# Of the time that a text takes at the voice's pace.
SHORTEST = 0.5
SHORTEST_CUT = 0.8  # where it ends at full loudness, as what is cut off does
LONGEST = 1.5
LONGEST_SECONDS = 0.4  # and as much more: few words may be drawn out
# Where it pauses more often than the text does, as before a sentence that nobody asked for.
LONGEST_PAUSED = 1.25
PAUSE_SECONDS = 0.15
CUT_DB = -20.0  # below the loudest 10 ms, that the last ones of whole speech are
CUT_WINDOWS = 3
IDLE_SECONDS = 1.5  # of silence inside
IDLE_DB = -40.0
LEAST_PAUSE = 5  # windows
FAINT_DBFS = -55.0  # of the loudest 10 ms
LOOP_TOKENS = 30  # 0.6 s that repeat what came before them

# Syllables a second at which a Pace holds; those of a style are its speed_value.
ORDINARY_SYLLABLES = 5.0
SLOWEST_SYLLABLES, FASTEST_SYLLABLES = 3.0, 7.0  # that the model is known to manage
# A stranger's pace, against the ordinary one.
LEAST_TEMPO, MOST_TEMPO = 0.6, 1.6
KNOWN_BY = 3  # sentences, by which a stranger's pace is known
_REPEATS = re.compile(r"(\w+)(?:\W+\1)+\b|([^\W\dA-Za-z]{1,4})\2+", re.IGNORECASE)


@dataclass(frozen=True)
class Tempo:
    """A voice's time for a text, in ordinary ones: somewhere between two factors."""

    least: float
    most: float

    @property
    def middle(self) -> float:
        """The likeliest."""
        return math.sqrt(self.least * self.most)


@dataclass(frozen=True)
class Pause:
    """Silence inside of a sentence; `start` counts seconds from its first sound."""

    start: float
    seconds: float


@dataclass(frozen=True)
class Heard:
    """What can be heard of a sentence, in windows of 10 ms."""

    seconds: float  # from the first window that can be heard to the last one
    loudest: float  # amplitude
    ends_loud: bool
    pauses: tuple[Pause, ...]  # inside, of 0.05 s and more


class SpeechGate:
    """Judges the sentences of a job's voices, in the order in which they are spoken.

    A voice whose pace nothing says is judged more closely by and by.
    """

    def __init__(self, voices: Mapping[str | None, Voice], max_tokens: int) -> None:
        """`voices` has that of each speaker."""
        self._gates = {name: VoiceGate(voice, max_tokens) for name, voice in voices.items()}

    def judge(self, utterance: Utterance, sample_rate: int, speaker: str | None = None) -> Verdict:
        """Judge a sentence as the model spoke it, neither trimmed nor shifted."""
        return self._gates[speaker].judge(utterance, sample_rate)


class VoiceGate:
    """Judges the sentences of one voice."""

    def __init__(self, voice: Voice, max_tokens: int) -> None:
        self._tempo = tempo_of(voice)
        self._max_tokens = max_tokens
        self._ratios: list[float] = []  # of good sentences: their time by the ordinary one

    def judge(self, utterance: Utterance, sample_rate: int) -> Verdict:
        """Judge a sentence as the model spoke it, neither trimmed nor shifted."""
        return self.judge_heard(utterance, heard_in(Audio(utterance.samples, sample_rate)))

    def judge_heard(self, utterance: Utterance, heard: Heard) -> Verdict:
        """Judge a sentence of whose samples no more is needed than what can be heard in them."""
        pace = pace_of(utterance.text)
        found = list(self._faults(utterance, pace, heard))
        # No seed helps where the limit is too low for the text.
        needed = pace.least * min(1.0, self._known_tempo().least)
        again = utterance.complete or self._max_tokens / TOKENS_A_SECOND > needed
        if not found:
            self._ratios.append(2 * heard.seconds / (pace.least + pace.most))
        faults = tuple(fault for fault, _ in found)
        return Verdict(faults, sum(wrong for _, wrong in found), again=again)

    def _faults(
        self, utterance: Utterance, pace: Pace, heard: Heard
    ) -> Iterator[tuple[str, float]]:
        """Each fault in words, with the seconds of it."""
        tempo = self._known_tempo()
        usual = (pace.least + pace.most) / 2 * tempo.middle
        if not heard.seconds or heard.loudest < db_to_amplitude(FAINT_DBFS):
            yield "nothing of it can be heard", usual
            return
        share = SHORTEST_CUT if heard.ends_loud else SHORTEST
        pauses = sum(one.seconds > PAUSE_SECONDS * max(1, tempo.middle) for one in heard.pauses)
        longest = LONGEST * tempo.most * pace.most + LONGEST_SECONDS
        if pauses > pace.pauses:
            longest = LONGEST_PAUSED * tempo.most * pace.most
        told = f"for the text, which takes some {usual:.1f} s"
        if heard.seconds < share * tempo.least * pace.least:
            yield f"{heard.seconds:.1f} s are too short {told}", max(usual - heard.seconds, 0.1)
        elif heard.seconds > longest:
            yield f"{heard.seconds:.1f} s are too long {told}", heard.seconds - usual
        if not utterance.complete:
            yield f"cut off at max_length, {len(utterance.semantic_tokens)} tokens", 0.5
        for pause in heard.pauses:
            if pause.seconds > IDLE_SECONDS:
                where = f"of silence inside, at {pause.start:.1f} s"
                yield f"{pause.seconds:.1f} s {where}", pause.seconds
        yield from _repeated(utterance, tempo)

    def _known_tempo(self) -> Tempo:
        tempo = self._tempo
        if tempo.least == tempo.most or len(self._ratios) < KNOWN_BY:
            return tempo
        found = min(max(median(self._ratios), tempo.least), tempo.most)
        return Tempo(found, found)


def tempo_of(voice: Voice) -> Tempo:
    """What is known of a voice's pace: by its style, or by its transcript."""
    if voice.style is not None:
        return _tempo_of_style(voice.style)
    if voice.transcript is None or not voice.semantic_tokens:
        return Tempo(LEAST_TEMPO, MOST_TEMPO)
    pace, seconds = pace_of(voice.transcript), len(voice.semantic_tokens) / TOKENS_A_SECOND
    ends = (seconds / pace.most, seconds / pace.least)
    least, most = (min(max(end, LEAST_TEMPO), MOST_TEMPO) for end in ends)
    return Tempo(least, most)


def _tempo_of_style(style: Style) -> Tempo:
    """A model that is asked for more than it can goes no further than it can, or does."""
    syllables = float(LEVELS.index(style.speed) + SLOWEST_SYLLABLES)
    if style.speed_value is not None:
        syllables = max(1.0, style.speed_value)
    return Tempo(
        ORDINARY_SYLLABLES / max(syllables, SLOWEST_SYLLABLES),
        ORDINARY_SYLLABLES / min(syllables, FASTEST_SYLLABLES),
    )


def heard_in(audio: Audio) -> Heard:
    """Measure what can be heard; nothing of it where all is silent."""
    return heard_at(window_rms(audio))


def heard_at(rms: NDArray[np.floating[Any]]) -> Heard:
    """Measure the same by the levels [windows] of windows of 10 ms."""
    loudest = float(rms.max(initial=0.0))
    floor = max(loudest * db_to_amplitude(-SPEECH_RANGE_DB), db_to_amplitude(SPEECH_FLOOR_DBFS))
    heard = np.flatnonzero(rms > floor)
    if not heard.size:
        return Heard(0.0, loudest, ends_loud=False, pauses=())
    first, last = int(heard[0]), int(heard[-1]) + 1
    end = rms[-CUT_WINDOWS:].max()
    loud = np.flatnonzero(rms[first:last] > loudest * db_to_amplitude(IDLE_DB))
    gaps = np.diff(loud)
    return Heard(
        (last - first) * WINDOW_SECONDS,
        loudest,
        ends_loud=bool(end > loudest * db_to_amplitude(CUT_DB)),
        pauses=tuple(
            Pause(float(loud[i] + 1) * WINDOW_SECONDS, float(gaps[i] - 1) * WINDOW_SECONDS)
            for i in np.flatnonzero(gaps > LEAST_PAUSE)
        ),
    )


def _repeated(utterance: Utterance, tempo: Tempo) -> Iterator[tuple[str, float]]:
    """What repeats or hardly changes; a text that repeats itself may be spoken so."""
    tokens = utterance.semantic_tokens
    slow = tempo.most * SLOWEST_SYLLABLES / ORDINARY_SYLLABLES
    stuck = stuck_of(tokens, round(STUCK_WINDOW * max(1.0, slow)))
    if stuck is not None:
        at = f"of a sound that hardly changes, at {stuck.start:.1f} s"
        yield f"{stuck.seconds:.1f} s {at}", stuck.seconds
    elif not _REPEATS.search(utterance.text) and (loop := loop_of(tokens, LOOP_TOKENS)):
        at = f"that repeat what came before, at {loop.start:.1f} s"
        yield f"{loop.seconds:.1f} s {at}", loop.seconds
