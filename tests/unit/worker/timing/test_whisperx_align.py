"""The alignment without pandas, against WhisperX's own: equal to the last bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import whisperx.alignment
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import DEMO_VOICE
from tests.support.hearing import CHINESE, ENGLISH
from tests.support.texts import TEXTS
from worker.text.spoken.word_groups import word_groups
from worker.timing import search as searching
from worker.timing.ctc_model import SAMPLE_RATE, CtcModel, load_model
from worker.timing.trellis import backtrack, get_trellis
from worker.timing.whisperx_align import LANGUAGES_WITHOUT_SPACES, load_align

WILDCARD = "\ue000"


def random_logits(frames: int, letters: int, spread: float, seed: int) -> torch.Tensor:
    """Logits [1, frames, letters]; with a spread of 0 every path is as good as any other."""
    draws = np.random.default_rng(seed).standard_normal((1, frames, letters), np.float32)
    return torch.from_numpy(draws * np.float32(spread))


def both(logits: torch.Tensor, text: str, language: str, alphabet: dict[str, int]) -> list[Any]:
    """What the published `align` gives for a window and a text, and ours."""
    seconds = (logits.shape[1] - 1) * 0.02
    return [
        align(
            [{"text": text, "start": 0.0, "end": seconds}],
            lambda _: SimpleNamespace(logits=logits),
            {"language": language, "dictionary": alphabet, "type": "huggingface"},
            torch.zeros(round(seconds * 16_000)),
            "cpu",
        )
        for align in (whisperx.alignment.align, load_align())
    ]


SPREADS = st.sampled_from([0.0, 1.0, 4.0, 12.0, 100.0])
SEEDS = st.integers(0, 2**32)


@given(st.data(), st.integers(1, 120), st.integers(2, 40), SPREADS, SEEDS)
def test_the_trellis_and_the_way_back_are_whisperx_s_own(
    data: st.DataObject, frames: int, letters: int, spread: float, seed: int
) -> None:
    emission = torch.log_softmax(random_logits(frames, letters, spread, seed)[0], -1)
    letter = st.integers(0, letters - 1)
    tokens = data.draw(st.lists(letter, min_size=1, max_size=60))  # also more than frames
    blank = data.draw(letter)
    trellis = get_trellis(emission, tokens, blank)
    assert torch.equal(trellis, whisperx.alignment.get_trellis(emission, tokens, blank))
    theirs = whisperx.alignment.backtrack(trellis, emission, tokens, blank)
    ours = backtrack(trellis, emission, tokens, blank)
    expected = theirs and [(p.token_index, p.time_index, p.score) for p in theirs]
    assert ours == expected


def test_there_is_no_way_back_where_the_best_end_is_before_the_characters() -> None:
    emission = torch.log_softmax(torch.zeros(3, 4), -1)
    tokens = [1, 2, 3, 1, 2]
    trellis = get_trellis(emission, tokens)
    assert whisperx.alignment.backtrack(trellis, emission, tokens) is None
    assert backtrack(trellis, emission, tokens) is None


WORDS = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz'é" + WILDCARD, min_size=1, max_size=14),
    min_size=1,
    max_size=20,
)


@given(WORDS, st.integers(1, 120), SPREADS, SEEDS, st.sampled_from([ENGLISH, ENGLISH[2:]]))
def test_words_of_letters_have_the_places_and_scores_that_whisperx_gives(
    words: list[str], spare: int, spread: float, seed: int, letters: tuple[str, ...]
) -> None:
    # In the second alphabet there is neither a blank of its own nor a mark between words.
    alphabet = {letter: index for index, letter in enumerate(letters)}
    text = " ".join(words)
    theirs, ours = both(
        random_logits(len(text) + spare, len(letters), spread, seed), text, "en", alphabet
    )
    assert ours == theirs


@given(
    st.text([*CHINESE[1:], WILDCARD, "馆"], min_size=1, max_size=60),
    st.integers(1, 120),
    SPREADS,
    SEEDS,
)
def test_chinese_characters_have_the_places_and_scores_that_whisperx_gives(
    text: str, spare: int, spread: float, seed: int
) -> None:
    alphabet = {letter: index for index, letter in enumerate(CHINESE)}
    theirs, ours = both(
        random_logits(len(text) + spare, len(CHINESE), spread, seed), text, "zh", alphabet
    )
    assert ours == theirs


@settings(max_examples=40)
@given(TEXTS, st.sampled_from([("en", ENGLISH), ("zh", CHINESE)]), st.integers(1, 250), SEEDS)
def test_any_text_is_found_where_it_was_found_by_whisperx_itself(
    text: str, model: tuple[str, tuple[str, ...]], frames: int, seed: int
) -> None:
    language, letters = model
    logits = random_logits(frames, len(letters), 4.0, seed)
    alphabet = {letter: index for index, letter in enumerate(letters)}
    hearing = CtcModel(language, lambda _: logits, alphabet, normalise=False, device="cpu")
    _, words = word_groups(text, language)
    window = np.ones(16_000, np.float32)
    ours = searching.search(hearing, window, words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "load_align", lambda: whisperx.alignment.align)
        assert searching.search(hearing, window, words) == ours


def test_real_speech_too(demo_checkpoint: Path) -> None:
    model = load_model("en", demo_checkpoint / "aligner", "cpu")
    samples, rate = soundfile.read(DEMO_VOICE, dtype="float32")
    assert rate == 16_000
    logits = model.logits(samples)
    text = "my sister bought a green car last year and she said it's naive"
    theirs, ours = both(logits, text, "en", model.alphabet)
    assert ours == theirs
    assert len(ours["word_segments"]) == len(text.split())


def test_the_languages_are_whisperx_s() -> None:
    assert list(LANGUAGES_WITHOUT_SPACES) == whisperx.alignment.LANGUAGES_WITHOUT_SPACES
    assert whisperx.alignment.SAMPLE_RATE == SAMPLE_RATE


def test_whisperx_s_own_module_stays_as_it_is() -> None:
    load_align()
    assert sys.modules["whisperx.alignment"] is whisperx.alignment
    assert whisperx.alignment.pd.__name__ == "pandas"
    assert whisperx.alignment.get_trellis.__module__ == "whisperx.alignment"
    assert load_align() is not whisperx.alignment.align
    assert load_align().__code__ == whisperx.alignment.align.__code__


@pytest.mark.slow("starts a process")
def test_what_align_does_not_touch_is_not_imported() -> None:
    script = (
        "import sys; from worker.timing.whisperx_align import load_align; load_align();"
        "unwanted = 'pandas nltk transformers torchaudio scipy sympy whisperx.alignment'.split();"
        "print([name for name in unwanted if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
