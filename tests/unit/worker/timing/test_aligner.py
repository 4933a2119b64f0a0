"""What holds for word times whatever the text and whatever the model hears."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import hearing as ears
from tests.support.hearing import hearing
from tests.support.texts import TEXTS
from worker.errors import SetupError
from worker.speech.device import Lane
from worker.text.spoken.word_groups import WordGroup
from worker.timing.aligner import Aligner
from worker.timing.ctc_model import CtcModel, load_model
from worker.timing.search import Hit, search
from worker.timing.word_timing import SentenceSpan, WordTiming

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


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize(("setting", "mean"), [(None, 0.0), (True, 0.0), (False, 0.5)])
def test_the_demo_aligner_loads_and_samples_are_normalised_as_it_was_trained(
    demo_checkpoint: Path, tmp_path: Path, setting: bool | None, mean: float, file: str
) -> None:
    for path in (demo_checkpoint / "aligner").iterdir():
        (tmp_path / path.name).symlink_to(path)
    if setting is not None:
        extractor = {"do_normalize": setting}
        content = (
            extractor if file == "preprocessor_config.json" else {"feature_extractor": extractor}
        )
        (tmp_path / file).write_text(json.dumps(content))
    heard: list[torch.Tensor] = []
    model = load_model("en", tmp_path, "cpu")
    forward = model._forward
    model._forward = lambda samples: heard.append(samples) or forward(samples)
    logits = model.logits(np.full(16_000, 0.5, np.float32))
    assert logits.shape == (1, 49, len(model.alphabet))
    assert heard[0].mean().item() == pytest.approx(mean, abs=1e-3)


FRAME = 320  # samples
HOP = 0.02  # seconds


def sounding(voice: str) -> np.ndarray:
    """Samples with a voice in the frames marked "#", silence in the others."""
    loud = np.repeat([char == "#" for char in voice], FRAME)
    return np.where(loud, 0.5 * np.sin(np.arange(loud.size)), 0).astype(np.float32)


def heard(model: CtcModel, samples: np.ndarray, text: str) -> list[WordTiming]:
    """The words of a text that is all of the samples."""
    spans = [SentenceSpan(text, 0.0, samples.size / 16_000)]
    timed = Aligner({model.language: model}).align(samples, 16_000, spans)
    check(timed, spans)
    return timed


def found(model: CtcModel, samples: np.ndarray, *words: str) -> list[Hit]:
    """Where the words are by the path alone."""
    hits = search(model, samples, [WordGroup.of(word) for word in words])
    assert all(hits)
    return [hit for hit in hits if hit]


CAT = hearing("__c_a_t" + "_" * 43)  # one word, in 50 frames


@pytest.mark.parametrize(("voiced", "end"), [(12, 12), (20, 20), (50, 50)])
def test_the_last_word_goes_on_until_the_voice_stops(voiced: int, end: int) -> None:
    samples = sounding(("#" * voiced).ljust(50, "."))
    (cat,) = heard(CAT, samples, "cat")
    assert cat.end == pytest.approx(end * HOP)
    assert not cat.estimated


@pytest.mark.parametrize(("silent", "end"), [(4, 16 + 4 + 2), (5, 16 + 5 + 2), (6, 16), (20, 16)])
def test_the_last_word_goes_on_over_a_tenth_of_a_second_and_no_more(silent: int, end: int) -> None:
    samples = sounding(("#" * 16 + "." * silent + "##").ljust(50, "."))
    (cat,) = heard(CAT, samples, "cat")
    assert cat.end == pytest.approx(end * HOP)


@pytest.mark.parametrize(("decibels", "voiced"), [(-37, True), (-43, False)])
def test_what_is_40_db_below_the_loudest_frame_is_no_voice(decibels: int, voiced: bool) -> None:
    samples = sounding("#" * 30 + "." * 20)
    samples[12 * FRAME :] *= 10 ** (decibels / 20)
    (cat,) = heard(CAT, samples, "cat")
    assert cat.end == pytest.approx((30 if voiced else 12) * HOP)


def test_in_silence_the_last_word_ends_with_its_last_letter() -> None:
    (hit,) = found(CAT, sounding("." * 50), "cat")
    (cat,) = heard(CAT, sounding("." * 50), "cat")
    assert cat.start == pytest.approx(hit.start)
    assert cat.end == pytest.approx(round(hit.end / HOP) * HOP)


def test_samples_behind_the_last_whole_frame_do_no_harm() -> None:
    samples = sounding("#" * 20 + "." * 30)
    (whole,) = heard(CAT, samples, "cat")
    (more,) = heard(CAT, np.append(samples, np.float32([0.9] * 319)), "cat")
    assert more.end == whole.end


PAIR = hearing("__c_a_t" + "_" * 23 + " _d_o_g" + "_" * 13)  # the space in frame 30


@pytest.mark.parametrize("voiced", [8, 15, 20])
def test_a_word_before_a_pause_ends_where_its_voice_does(voiced: int) -> None:
    samples = sounding(("#" * voiced).ljust(31, ".") + "#" * 19)
    cat, dog = heard(PAIR, samples, "cat dog")
    assert cat.end == pytest.approx(voiced * HOP)
    assert dog.end == pytest.approx(50 * HOP)


@pytest.mark.parametrize("quiet", [0, 2, 3, 4])
def test_a_short_silence_at_a_word_s_end_is_of_the_word(quiet: int) -> None:
    hit, _ = found(PAIR, sounding("#" * 50), "cat", "dog")
    # The last two frames of a word may be the next word's first ones: they do not count.
    last = round(hit.end / HOP) - 2
    samples = sounding("#" * (last - quiet) + "." * quiet + "#" * (50 - last))
    cat, _ = heard(PAIR, samples, "cat dog")
    pause = quiet >= 3
    assert cat.end == pytest.approx((last - quiet) * HOP if pause else hit.end)


def test_a_word_in_whose_place_there_is_no_voice_keeps_that_place() -> None:
    samples = sounding("##" + "." * 30 + "#" * 18)  # a sound before "cat" and one from "dog" on
    hit, _ = found(PAIR, samples, "cat", "dog")
    cat, _ = heard(PAIR, samples, "cat dog")
    assert (cat.start, cat.end) == pytest.approx((hit.start, hit.end))


def test_no_word_lasts_beyond_its_sentence() -> None:
    (cat,) = heard(CAT, sounding("#####"), "cat")  # the model says that it ends in frame 7
    assert cat.end == pytest.approx(0.1)


def test_only_the_last_word_goes_on() -> None:
    samples = sounding("#" * 50)
    hits = found(PAIR, samples, "cat", "dog")
    cat, dog = heard(PAIR, samples, "cat dog")
    assert (cat.start, cat.end) == pytest.approx((hits[0].start, hits[0].end))
    assert dog.start == pytest.approx(hits[1].start)
    assert dog.end == pytest.approx(1.0)
    assert dog.end > hits[1].end


def test_the_last_word_that_is_spoken_goes_on_and_what_follows_has_the_rest() -> None:
    samples = sounding("#" * 20 + "." * 30)
    cat, smile = heard(CAT, samples, "cat 🙂")
    assert cat.end == pytest.approx(20 * HOP)
    assert (smile.start, smile.end) == pytest.approx((20 * HOP, 1.0))
    assert smile.estimated
    assert smile.score is None


def test_each_sentence_s_words_lie_in_its_own_part_of_the_audio() -> None:
    samples = np.zeros(64_000, np.float32)
    samples[16_000:32_000] = sounding("#" * 20 + "." * 30)
    samples[40_000:56_000] = sounding("#" * 30 + "." * 20)
    got: list[torch.Tensor] = []
    model = hearing("__c_a_t" + "_" * 43, listen=got.append)
    spans = [SentenceSpan("cat", 1.0, 2.0), SentenceSpan("cat", 2.5, 3.5)]
    first, second = Aligner({"en": model}).align(samples, 16_000, spans)
    assert [window.shape for window in got] == [(1, 16_000)] * 2
    assert torch.equal(got[1][0], torch.from_numpy(samples[40_000:56_000]))
    assert second.start - first.start == pytest.approx(1.5)
    assert (first.end, second.end) == pytest.approx((1.4, 3.1))
    assert (first.sentence, second.sentence) == (0, 1)


@pytest.mark.parametrize(("start", "end"), [(0.50002, 1.00002), (0.49998, 0.99998)])
def test_a_sentence_s_bounds_are_rounded_to_samples(start: float, end: float) -> None:
    got: list[torch.Tensor] = []
    model = hearing("__c_a_t___", listen=got.append)
    Aligner({"en": model}).align(NOISE, 16_000, [SentenceSpan("cat", start, end)])
    assert torch.equal(got[0][0], torch.from_numpy(NOISE[8_000:16_000]))


def test_unspoken_words_share_their_room_by_their_letters() -> None:
    samples = sounding("#" * 20 + "." * 30)
    spans = [SentenceSpan("cat ... —", 2.0, 3.0)]
    whole = np.concatenate([np.zeros(32_000, np.float32), samples])
    _, dots, dash = Aligner({"en": CAT}).align(whole, 16_000, spans)
    # From 2.4 s to 3 s: three quarters for three marks, one for one.
    assert (dots.start, dots.end) == pytest.approx((2.4, 2.85))
    assert (dash.start, dash.end) == pytest.approx((2.85, 3.0))


def test_unspoken_words_before_the_first_have_the_room_from_the_sentence_s_start() -> None:
    whole = np.concatenate([np.zeros(32_000, np.float32), sounding("#" * 50)])
    spans = [SentenceSpan("... — cat", 2.0, 3.0)]
    dots, dash, cat = Aligner({"en": CAT}).align(whole, 16_000, spans)
    assert dots.start == pytest.approx(2.0)
    assert dash.end == pytest.approx(cat.start)
    assert dots.end == dash.start == pytest.approx(2.0 + 0.75 * (cat.start - 2.0))


def test_a_sentence_in_which_nothing_is_found_is_shared_out_whole() -> None:
    spans = [SentenceSpan("… 🙂🙂🙂", 1.0, 3.0)]
    one, three = ALONE.align(NOISE, 16_000, spans)
    assert (one.start, one.end, three.start, three.end) == pytest.approx((1.0, 1.5, 1.5, 3.0))


def test_a_guessed_word_has_a_place_and_no_score() -> None:
    heard_is = "__c_a_t_ _x_x_x_ _d_o_g__" + "_" * 5
    model = hearing(heard_is)
    cat, guessed, dog = heard(model, sounding("#" * 30), "cat яяя dog")
    assert (guessed.score, guessed.estimated) == (None, True)
    assert guessed.start > cat.start
    assert guessed.end > guessed.start
    assert guessed.start == pytest.approx((heard_is.index("x") + 0.5) * HOP, abs=HOP)
    assert cat.score is not None
    assert dog.score is not None
    assert cat.score > 0.9


def both(
    english: str, chinese: str, log: list[tuple[str, np.ndarray]]
) -> tuple[Aligner, CtcModel, CtcModel]:
    """An aligner of two models that note which of them is asked, and for which samples."""
    models = [
        hearing(
            text,
            language,
            letters,
            lambda window, language=language: log.append((language, window[0].numpy())),
        )
        for text, language, letters in (
            (english, "en", ears.ENGLISH),
            (chinese, "zh", ears.CHINESE),
        )
    ]
    return Aligner({"en": models[0], "zh": models[1]}), models[0], models[1]


def test_a_word_of_the_other_language_is_looked_for_between_its_neighbours() -> None:
    log: list[tuple[str, np.ndarray]] = []
    english = "_c_a_t_ _x_x_ _d_o_g_".ljust(50, "_")
    aligner, model, other = both(english, "__今__", log)
    samples = sounding("#" * 50)
    cat, word, dog = aligner.align(samples, 16_000, [SentenceSpan("cat 今 dog", 0.0, 1.0)])
    (_, (_, part)) = log
    assert [language for language, _ in log] == ["en", "zh"]
    # The part reaches from the end of "cat" to the beginning of "dog".
    cats, _, dogs = found(model, samples, "cat", "今", "dog")
    first, last = round(cats.end * 16_000), round(dogs.start * 16_000)
    np.testing.assert_array_equal(part, samples[first:last])
    (inside,) = found(other, part, "今")
    assert word.start == pytest.approx(cats.end + inside.start, abs=1e-6)
    assert word.score == pytest.approx(inside.score)
    assert not word.estimated
    assert cat.end <= word.start <= word.end <= dog.start


@pytest.mark.parametrize("text", ["今天 one cat dog", "one cat dog 今天"])
def test_at_a_sentence_s_edge_it_is_looked_for_up_to_the_edge(text: str) -> None:
    log: list[tuple[str, np.ndarray]] = []
    aligner, model, _ = both("_x_x_ _o_n_e_ _c_a_t_ _d_o_g_".ljust(50, "_"), "_今_天_", log)
    samples = sounding("#" * 50)
    aligner.align(samples, 16_000, [SentenceSpan(text, 0.0, 1.0)])
    hits = found(model, samples, *text.split())
    first = 0 if text.startswith("今") else round(hits[2].end * 16_000)
    last = round(hits[1].start * 16_000) if text.startswith("今") else 16_000
    assert [language for language, _ in log[:2]] == ["en", "zh"]
    np.testing.assert_array_equal(log[1][1], samples[first:last])


def test_what_the_other_model_does_not_find_stays_where_it_was() -> None:
    log: list[tuple[str, np.ndarray]] = []
    english = "_c_a_t_ _x_x_ _d_o_g_".ljust(50, "_")
    aligner, model, _ = both(english, "今", log)  # one frame: no room for a character
    samples = sounding("#" * 50)
    _, word, _ = aligner.align(samples, 16_000, [SentenceSpan("cat 今 dog", 0.0, 1.0)])
    _, hit, _ = found(model, samples, "cat", "今", "dog")
    assert word.start == pytest.approx(hit.start)
    assert word.estimated  # English letters for 今: only its place is known


def test_words_of_one_language_are_looked_for_once() -> None:
    log: list[tuple[str, np.ndarray]] = []
    aligner, _, _ = both("_c_a_t_ _d_o_g_".ljust(50, "_"), "__今__", log)
    aligner.align(sounding("#" * 50), 16_000, [SentenceSpan("cat dog", 0.0, 1.0)])
    assert [language for language, _ in log] == ["en"]


@pytest.mark.parametrize(
    ("texts", "default", "asked"),
    [
        (["1999"], None, ["en"]),
        (["1999"], "zh", ["zh"]),
        (["今天去看书", "1999"], None, ["zh", "zh"]),
        (["one two", "1999"], None, ["en", "en"]),
        (["one two", "1999"], "zh", ["en", "zh"]),
        (["今天", "one"], "en", ["zh", "en"]),
    ],
)
def test_a_sentence_without_letters_is_in_the_language_of_the_others(
    texts: list[str], default: str | None, asked: list[str]
) -> None:
    log: list[tuple[str, np.ndarray]] = []
    aligner, _, _ = both("_" * 50, "_" * 50, log)
    spans = [SentenceSpan(text, float(i), i + 1.0) for i, text in enumerate(texts)]
    aligner.align(NOISE, 16_000, spans, default=default)
    assert [language for language, _ in log] == asked


def test_a_language_without_a_model_is_located_by_the_first_one() -> None:
    log: list[tuple[str, np.ndarray]] = []
    model = hearing("__x__x__".ljust(50, "_"), listen=lambda w: log.append(("en", w[0].numpy())))
    (word,) = Aligner({"en": model}).align(
        sounding("#" * 50), 16_000, [SentenceSpan("今天", 0.0, 1.0)]
    )
    assert len(log) == 1
    assert (word.score, word.estimated) == (None, True)


def test_without_sentences_there_are_no_words() -> None:
    assert BOTH.align(NOISE, 16_000, []) == []


@pytest.mark.parametrize(
    ("device", "gpu", "where"),
    [(None, False, "cpu"), (None, True, "cuda"), ("cpu", True, "cpu"), ("cuda:1", False, "cuda:1")],
)
def test_each_language_s_model_is_loaded_from_its_folder_to_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str | None, gpu: bool, where: str
) -> None:
    loaded: list[tuple[Any, ...]] = []

    def load(*asked: Any) -> CtcModel:
        loaded.append(asked)
        return CAT

    monkeypatch.setattr("worker.timing.aligner.load_model", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    Aligner.load({"en": Path("a"), "zh": Path("b")}, device, Lane)
    assert loaded == [("en", Path("a"), where, Lane), ("zh", Path("b"), where, Lane)]
