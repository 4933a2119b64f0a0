"""The verdict on a sentence without the times of its words."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from tests.support.sounds import Samples, speech, tone
from worker.audio.waveform import Audio
from worker.job.speech_gate import Tempo, VoiceGate, heard_in, tempo_of
from worker.speech.engine import Utterance
from worker.speech.voice import Style, Voice

RATE = 16_000
TEXT = "The gardener walked slowly along the narrow path."
STRANGER = Voice((1, 2))
SPOKEN = speech(TEXT)


def designed(speed_value: int) -> Voice:
    return Voice((1, 2), style=Style(speed_value=speed_value))


def utterance(
    samples: Samples = SPOKEN, text: str = TEXT, *, complete: bool = True, tokens: int | None = None
) -> Utterance:
    codes = random.Random(1).choices(range(500), k=tokens or len(samples) // 320)
    return Utterance(text, samples, tuple(codes), len(codes), complete, codec_seconds=0.0)


def faults(spoken: Utterance, voice: Voice = STRANGER, limit: int = 3000) -> tuple[str, ...]:
    return VoiceGate(voice, limit).judge(spoken, RATE).faults


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.mark.parametrize("voice", [STRANGER, designed(4), designed(5), designed(6)])
def test_good_speech_is_good(voice: Voice) -> None:
    verdict = VoiceGate(voice, 3000).judge(utterance(), RATE)
    assert verdict.faults == ()
    assert verdict.seconds == 0
    assert faults(utterance(np.concatenate([silence(3), SPOKEN, silence(3)])), voice) == ()


@pytest.mark.parametrize(
    ("text", "samples", "part"),
    [
        (TEXT, SPOKEN[:1600], "0.1 s are too short for the text, which takes some 2"),
        (TEXT, silence(2.0), "nothing of it can be heard"),
        (TEXT, SPOKEN[:0], "nothing of it can be heard"),
        (TEXT, SPOKEN * np.float32(1e-3), "nothing of it can be heard"),
        ("Hm.", np.tile(SPOKEN, 4), "too long for the text"),
        (TEXT, np.concatenate([SPOKEN[:16000], silence(2), SPOKEN[16000:]]), "2.0 s of silence"),
    ],
)
def test_faults_are_named(text: str, samples: Samples, part: str) -> None:
    assert any(part in fault for fault in faults(utterance(samples, text)))


def test_where_the_silence_is_is_told() -> None:
    samples = np.concatenate([tone(200, 1.0), silence(2.5), tone(200, 1.0)])
    heard = heard_in(Audio(samples, RATE))
    (pause,) = heard.pauses
    assert (pause.start, pause.seconds) == pytest.approx((1.0, 2.5))
    assert heard.seconds == pytest.approx(4.5)


def test_what_pauses_where_the_text_does_not_may_be_less_long() -> None:
    longer = np.concatenate([SPOKEN, tone(200, 0.5)])
    paused = np.concatenate([SPOKEN, silence(0.3), tone(200, 0.5)])
    few = "The gardener walked along the path."  # of the same voice, a fifth shorter
    assert faults(utterance(longer, few), designed(6)) == ()
    assert any("too long" in fault for fault in faults(utterance(paused, few), designed(6)))
    commas = few.replace(" along", ", along")
    assert faults(utterance(paused, commas), designed(6)) == ()


def test_what_ends_at_full_loudness_is_cut_off() -> None:
    """The same length is good where it ends as speech does."""
    part = SPOKEN[: round(0.7 * len(SPOKEN))]
    loud = np.concatenate([part, tone(300, 0.05)])
    quiet = np.concatenate([loud, silence(0.1)])
    assert any("too short" in fault for fault in faults(utterance(loud), designed(5)))
    assert faults(utterance(quiet), designed(5)) == ()


def test_what_reached_the_limit_is_told_and_spoken_again() -> None:
    verdict = VoiceGate(STRANGER, 3000).judge(utterance(complete=False), RATE)
    assert "cut off at max_length" in verdict.faults[0]
    assert verdict.again


def test_a_limit_that_is_too_low_for_the_text_needs_no_other_take() -> None:
    cut = utterance(SPOKEN[: RATE * 64 // 50], complete=False)
    verdict = VoiceGate(STRANGER, 64).judge(cut, RATE)
    assert not verdict.good
    assert not verdict.again


def test_a_loop_is_doubted_unless_the_text_has_one() -> None:
    looped = np.tile(SPOKEN[8000:16000], 3)
    tokens = random.Random(2).choices(range(500), k=25) * 4
    spoken = replace(utterance(looped), semantic_tokens=tuple(tokens))
    assert any("repeat what came before" in fault for fault in faults(spoken))
    for text in ("No, no, no, no, do not do it!", "哈哈哈哈，太好了"):
        assert not any("repeat" in fault for fault in faults(replace(spoken, text=text)))


def test_a_sound_that_is_held_is_doubted() -> None:
    tokens = (*range(40), *([7, 8] * 40), *range(40))
    spoken = replace(utterance(), semantic_tokens=tokens)
    assert any("hardly changes" in fault for fault in faults(spoken))


@pytest.mark.parametrize(
    ("voice", "tempo"),
    [
        (STRANGER, Tempo(0.6, 1.6)),
        (designed(5), Tempo(1.0, 1.0)),
        (designed(4), Tempo(1.25, 1.25)),
        (designed(0), Tempo(5 / 3, 5.0)),  # as slow as it can, or as it is asked
        (designed(10), Tempo(0.5, 5 / 7)),
        (Voice((1,), style=Style(speed="very_low")), Tempo(5 / 3, 5 / 3)),
        (Voice((1,), style=Style(speed="very_high")), Tempo(5 / 7, 5 / 7)),
    ],
)
def test_a_style_says_how_fast_its_voice_speaks(voice: Voice, tempo: Tempo) -> None:
    found = tempo_of(voice)
    assert (found.least, found.most) == pytest.approx((tempo.least, tempo.most))


def test_so_does_a_transcript() -> None:
    tokens = tuple(range(1000, 1000 + len(SPOKEN) // 320))
    tempo = tempo_of(Voice((1,), tokens, TEXT))
    assert tempo.most < 1.2
    slow = tempo_of(Voice((1,), tokens * 2, TEXT))
    assert (slow.least, slow.most) == pytest.approx((2 * tempo.least, 1.6), rel=0.3)
    wrong = tempo_of(Voice((1,), tokens[:20], TEXT * 4))  # no recording is so fast
    assert (wrong.least, wrong.most) == (0.6, 0.6)


def test_a_slow_voice_is_slow_and_a_fast_one_fast() -> None:
    slow, fast = speech(TEXT, pace=100), speech(TEXT, pace=260)
    assert faults(utterance(slow), designed(3)) == ()
    assert faults(utterance(fast), designed(7)) == ()
    assert faults(utterance(slow), designed(7))


def test_a_strangers_pace_is_learned() -> None:
    """What could be a slow stranger's speech is too long once the stranger is known."""
    twice = np.concatenate([SPOKEN, SPOKEN])
    assert faults(utterance(twice)) == ()
    gate = VoiceGate(STRANGER, 3000)
    for _ in range(3):
        assert gate.judge(utterance(), RATE).good
    assert not gate.judge(utterance(twice), RATE).good


def test_of_two_bad_takes_the_one_with_more_of_the_text_is_better() -> None:
    gate = VoiceGate(designed(5), 3000)
    nothing, little = utterance(SPOKEN[:800]), utterance(SPOKEN[:8000])
    assert gate.judge(nothing, RATE).seconds > gate.judge(little, RATE).seconds
    long, longer = utterance(np.tile(SPOKEN, 3)), utterance(np.tile(SPOKEN, 5))
    assert gate.judge(long, RATE).seconds < gate.judge(longer, RATE).seconds
