"""Which channel is heard, and who is told that there was another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.support.encoded import encoded
from tests.support.heard_voices import Heard
from tests.support.sounds import Samples, speech, tone
from worker.audio.recordings.reading import read
from worker.audio.recordings.take import CHANNELS_MAX

RATE = 16_000


@pytest.fixture(scope="module")
def voice() -> Samples:
    return speech("She carried a basket of apples. Nobody else was in the park.")


@pytest.fixture(scope="module")
def other() -> Samples:
    return speech("Where is the station, please? I have been looking for it.", voice="en+f3")


@pytest.fixture
def hear(tmp_path: Path):
    def hear(*channels: Samples):
        longest = max(map(len, channels))
        sound = np.stack([np.pad(one, (0, longest - len(one))) for one in channels], axis=1)
        path = tmp_path / "recording.wav"
        sf.write(path, sound, RATE, subtype="FLOAT")
        return read(path)

    return hear


def silence(like: Samples) -> Samples:
    return np.zeros_like(like)


def noise(like: Samples, loudness: float, seed: int = 1) -> Samples:
    return (loudness * np.random.default_rng(seed).standard_normal(len(like))).astype(np.float32)


def hum(like: Samples, loudness: float) -> Samples:
    return tone(50, len(like) / RATE + 1, RATE, loudness)[: len(like)]


def is_(found: Samples, source: Samples) -> bool:
    return np.array_equal(found[: len(source)], source)


def test_a_voice_on_the_right_alone_is_heard(hear, voice):
    for left in (silence(voice), noise(voice, 1e-4), voice * np.float32(0.05)):
        recording = hear(left, voice)
        assert is_(recording.audio.samples, voice)
        assert recording.warnings == ()


@pytest.mark.parametrize("place", range(CHANNELS_MAX))
def test_a_voice_in_any_channel_is_heard(hear, voice, place):
    channels = [silence(voice)] * CHANNELS_MAX
    channels[place] = voice
    assert is_(hear(*channels).audio.samples, voice)


@pytest.mark.parametrize("loudness", [0.01, 0.1, 0.5])
def test_noise_and_hum_are_no_voice_however_loud(hear, voice, loudness):
    for bad in (noise(voice, loudness), hum(voice, loudness), np.full_like(voice, loudness)):
        assert is_(hear(bad, voice).audio.samples, voice)
        assert is_(hear(voice, bad).audio.samples, voice)
        assert hear(bad, voice).warnings == ()


def test_a_click_is_no_voice(hear, voice):
    click = silence(voice)
    click[1_000] = 1.0
    assert is_(hear(click, voice).audio.samples, voice)


def test_a_word_in_a_minute_is_heard(hear, voice):
    long = np.zeros(50 * RATE, np.float32)
    long[RATE : RATE + len(voice) // 2] = voice[: len(voice) // 2]
    assert is_(hear(silence(long), long).audio.samples, long)


def test_a_second_channel_that_is_inverted_cancels_nothing(hear, voice):
    recording = hear(voice, -voice)
    assert is_(recording.audio.samples, voice)
    assert recording.warnings == ()


def test_where_both_are_alike_the_first_is_heard_as_upstream_does(hear, voice):
    for second in (voice, voice * np.float32(1.3), np.roll(voice, 20), voice + noise(voice, 0.01)):
        recording = hear(voice, second)
        assert is_(recording.audio.samples, voice)
        assert recording.warnings == ()


def test_the_louder_of_two_microphones_is_heard(hear, voice):
    assert is_(hear(voice * np.float32(0.5), voice).audio.samples, voice)


def test_tones_are_heard_though_they_rise_above_nothing(hear, voice):
    steady = tone(300, 3.0, RATE)
    assert is_(hear(silence(steady), steady).audio.samples, steady)


def test_of_two_speakers_the_louder_is_heard_and_the_other_told(hear, voice, other):
    wait = np.zeros(RATE // 2, np.float32)
    agent = np.concatenate([voice, wait, silence(other)])
    caller = np.concatenate([silence(voice), wait, other])
    for loudness, heard, told in ((1.0, agent, (1, 2)), (4.0, caller, (2, 1))):
        recording = hear(agent, caller * np.float32(loudness))
        assert is_(recording.audio.samples, heard * np.float32(loudness if told[0] == 2 else 1))
        (warning,) = recording.warnings
        sides = {1: "channel 1 (left)", 2: "channel 2 (right)"}
        assert f"{sides[told[0]]} was heard, {sides[told[1]]} was not" in warning


def test_two_who_speak_at_once_are_told_too(hear, voice, other):
    assert len(hear(voice, other).warnings) == 1


def test_what_leaks_of_the_other_side_is_not_told(hear, voice, other):
    assert hear(voice, other * np.float32(0.01)).warnings == ()


def test_three_speakers_are_named(hear, voice, other):
    third = speech("Good morning everybody, and welcome to the show.", pace=120)
    (warning,) = hear(voice, silence(voice), other, third).warnings
    assert "different speakers: channel " in warning
    assert "were not" in warning


def test_the_channel_is_found_by_ffmpeg_too(tmp_path, voice):
    path = tmp_path / "recording.m4a"
    sound = np.stack([silence(voice), voice])
    path.write_bytes(encoded(sound, RATE, "ipod", "aac", bit_rate=64_000))
    found = read(path).audio.samples
    assert np.abs(found).max() > 0.5 * np.abs(voice).max()


def test_values_that_are_no_numbers_are_left_to_the_check(hear, voice):
    broken = voice.copy()
    broken[5] = np.nan
    assert np.isnan(hear(broken, voice).audio.samples).any()


def test_who_asks_again_is_told_again_though_the_voice_is_cached(tmp_path, voice, other):
    heard = Heard(tmp_path)
    path = tmp_path / "call.wav"
    length = min(len(voice), len(other))
    sf.write(path, np.stack([voice[:length], other[:length]], axis=1), RATE)
    warnings: list[str] = []
    for _ in range(2):
        heard.voices.listen(path, None, warn=warnings.append)
    assert len(heard.ear.heard) == 1  # the second came from the cache
    assert len(warnings) == 2
    assert len(set(warnings)) == 1
