"""What holds for word times whatever the text and whatever the model hears."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.texts import TEXTS
from worker.errors import SetupError
from worker.timing import Aligner
from worker.timing.model import CtcModel, load_model
from worker.words import SentenceSpan, WordTiming

ENGLISH = ("<pad>", "|", *ascii_lowercase, "'")
CHINESE = ("<pad>", *"今天气很好我们去图书馆你一九年百分之点零二三四五六七八十千万")
NOISE = np.random.default_rng(0).normal(size=16_000 * 40).astype(np.float32) * 0.1


def babbler(language: str, letters: tuple[str, ...]) -> CtcModel:
    """A model of random weights: it hears something in everything."""
    torch.manual_seed(1)
    layer = torch.nn.Conv1d(1, len(letters), 400, 320)
    alphabet = {letter: index for index, letter in enumerate(letters)}

    def forward(samples: torch.Tensor) -> torch.Tensor:
        return layer(samples[:, None]).transpose(1, 2) * 5

    return CtcModel(language, forward, alphabet, normalise=True, device="cpu")


BOTH = Aligner({"en": babbler("en", ENGLISH), "zh": babbler("zh", CHINESE)})
ALONE = Aligner({"en": babbler("en", ENGLISH)})


def check(timed: list[WordTiming], spans: list[SentenceSpan]) -> None:
    for index, span in enumerate(spans):
        words = [word for word in timed if word.sentence == index]
        assert "".join(word.word for word in words) == "".join(span.text.split())
        assert all(span.start <= w.start <= w.end <= span.end for w in words)
        assert all(before.end <= after.start for before, after in pairwise(words))
        assert all((w.score is None) == w.estimated for w in words)
        assert all(0 <= w.score <= 1 for w in words if w.score is not None)
    assert [w.sentence for w in timed] == sorted(w.sentence for w in timed)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.floats(0, 3), st.floats(0, 1)), max_size=3), st.booleans())
def test_all_words_come_back_in_order_inside_of_their_sentence(
    parts: list[tuple[str, float, float]], both: bool
) -> None:
    spans = []
    at = 0.0
    for text, seconds, gap in parts:
        spans.append(SentenceSpan(text, at, at + seconds))
        at += seconds + gap
    aligner = BOTH if both else ALONE
    check(aligner.align(NOISE[: round(at * 16_000)], 16_000, spans), spans)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 1.0, 30.0])
@pytest.mark.parametrize(
    "text", ["word " * 4000, "字" * 20_000, "a" * 20_000, "🙂 " * 10_000, "1999 " * 4000]
)
def test_20_000_characters(text: str, seconds: float) -> None:
    spans = [SentenceSpan(text, 0.0, seconds)]
    check(BOTH.align(NOISE[: round(seconds * 16_000)], 16_000, spans), spans)


def test_words_that_are_not_spoken_take_the_room_between_their_neighbours() -> None:
    timed = ALONE.align(NOISE[:32_000], 16_000, [SentenceSpan("one 🙂 — two !", 0.0, 2.0)])
    one, smile, dash, two, mark = timed
    assert [w.estimated for w in timed] == [False, True, True, False, True]
    assert (smile.start, dash.end) == (one.end, two.start)
    assert (mark.start, mark.end) == (two.end, 2.0)


def test_another_sample_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"16000 Hz, not 24000 Hz"):
        ALONE.align(NOISE, 24_000, [])


def test_a_folder_that_is_not_complete_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"vocab\.json is missing") as caught:
        load_model("en", tmp_path, "cpu")
    assert str(tmp_path.parent) not in caught.value.message
    with pytest.raises(SetupError, match="WHISPERX_LANGUAGES"):
        Aligner.load({})


@pytest.mark.parametrize(("setting", "mean"), [(None, 0.0), (True, 0.0), (False, 0.5)])
def test_the_demo_aligner_loads_and_samples_are_normalised_as_it_was_trained(
    demo_checkpoint: Path, tmp_path: Path, setting: bool | None, mean: float
) -> None:
    for file in (demo_checkpoint / "aligner").iterdir():
        (tmp_path / file.name).symlink_to(file)
    if setting is not None:
        text = json.dumps({"do_normalize": setting})
        (tmp_path / "preprocessor_config.json").write_text(text)
    heard: list[torch.Tensor] = []
    model = load_model("en", tmp_path, "cpu")
    forward = model._forward
    model._forward = lambda samples: heard.append(samples) or forward(samples)
    logits = model.logits(np.full(16_000, 0.5, np.float32))
    assert logits.shape == (1, 49, len(model.alphabet))
    assert heard[0].mean().item() == pytest.approx(mean, abs=1e-3)
