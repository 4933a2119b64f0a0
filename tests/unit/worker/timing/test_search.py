"""Where words are found, by models whose hearing is written down frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.hearing import CHINESE, hearing, must_not_run
from worker.text.spoken.word_groups import WordGroup
from worker.timing.search import Hit, search

FRAME = 0.02
SECOND = np.zeros(16_000, np.float32)  # the models below hear the same in any window


def middle(frame: int) -> float:
    """Seconds at which a frame has its middle."""
    return (frame + 0.5) * FRAME


def words(*said: str) -> list[WordGroup]:
    """Words of one reading each."""
    return [WordGroup.of(one) for one in said]


def find(heard: str, *words: tuple[str, ...]) -> list[Hit | None]:
    return search(hearing(heard), SECOND, [WordGroup.of(*word) for word in words])


def test_a_word_begins_in_the_middle_of_its_first_letter_s_frame() -> None:
    cat, dog = find("__c_a_t_ _d_o_g__", ("cat",), ("dog",))
    assert cat is not None
    assert dog is not None
    assert cat.start == pytest.approx(middle(2), abs=0.005)
    assert dog.start == pytest.approx(middle(9), abs=0.02)
    assert cat.start < cat.end <= dog.start < dog.end <= 17 * FRAME
    assert cat.score == dog.score == pytest.approx(1.0, abs=0.01)
    assert not cat.guessed
    assert not dog.guessed


def test_a_word_ends_with_its_last_letter() -> None:
    (cat,) = find("__c_a_t__________", ("cat",))
    assert cat is not None
    assert cat.end == pytest.approx(middle(7), abs=0.012)


def test_words_behind_a_long_silence_are_where_they_are_heard() -> None:
    heard = "_c_a_t_" + "_" * 186 + " _d_o_g_"
    cat, dog = find(heard, ("cat",), ("dog",))
    assert cat is not None
    assert dog is not None
    assert cat.start == pytest.approx(middle(heard.index("c")), abs=0.005)
    # One frame in all of the window is the most that the times may stray.
    assert dog.start == pytest.approx(middle(heard.index("d")), abs=0.02)


def test_times_run_half_a_frame_from_either_end() -> None:
    # Letters are heard a little late. So a frame stands for its middle at the window's beginning
    # and for half a frame before itself at the end: on speech cut at known places the median error
    # is then 6 ms, and 9 ms where it is the middle throughout.
    heard = "c_a_t_".ljust(93, "_") + "_ d_o_g"
    cat, dog = find(heard, ("cat",), ("dog",))
    assert cat is not None
    assert dog is not None
    assert cat.start == pytest.approx(0.010, abs=0.002)
    assert dog.start == pytest.approx(95 * FRAME * 99 / 100 + 0.010, abs=0.005)


def test_a_word_that_is_not_spoken_takes_no_other_word_s_place() -> None:
    without = find("__c_a_t_ _d_o_g__", ("cat",), ("dog",))
    found = find("__c_a_t_ _d_o_g__", (), ("cat",), (), (), ("dog",), ())
    assert found == [None, without[0], None, None, without[1], None]


@pytest.mark.parametrize("words", [[], [()], [(), ()]])
def test_where_nothing_is_spoken_nothing_is_found(words: list[tuple[str, ...]]) -> None:
    assert find("__c_a_t__", *words) == [None] * len(words)


def test_in_an_empty_window_nothing_is_found_nor_asked_of_the_model() -> None:
    model = hearing("__c_a_t__")
    model._forward = must_not_run
    assert search(model, SECOND[:0], words("cat", "dog")) == [None, None]


@pytest.mark.parametrize(("frames", "found"), [(8, True), (7, False), (6, False), (1, False)])
def test_a_window_needs_more_frames_than_the_text_has_characters(frames: int, found: bool) -> None:
    heard = "cat dog_"[:frames]  # seven characters, the space among them
    assert [hit is not None for hit in find(heard, ("cat",), ("dog",))] == [found, found]


@pytest.mark.parametrize("order", [("one two", "nnn"), ("nnn", "one two"), ("n", "x", "one two")])
def test_the_reading_that_was_heard_gives_the_times(order: tuple[str, ...]) -> None:
    heard = "_o_n_e_ _t_w_o__ _e_n_d_"
    expected = find(heard, ("one two",), ("end",))
    assert find(heard, order, ("end",)) == expected
    assert expected[0] is not None
    assert expected[0].score == pytest.approx(1.0, abs=0.01)


def test_each_word_keeps_its_own_best_reading() -> None:
    # The first is heard in its second reading, the last one in its first: no turn has both.
    heard = "_t_w_o_ _c_a_t_ _s_i_x_"
    found = find(heard, ("zzz", "two"), ("cat",), ("six", "qqq"))
    assert found == find(heard, ("two",), ("cat",), ("six",))


def test_the_best_readings_are_aligned_together() -> None:
    # No turn has the best reading of each, and a wrong one takes letters from its neighbours.
    heard = "_o_n_e_t_w_o_t_e_n__"
    found = find(heard, ("seven", "one"), ("two", "one"), ("ten", "seventy"))
    assert found == find(heard, ("one",), ("two",), ("ten",))
    for hit, first in zip(found, "ot", strict=False):
        assert hit is not None
        assert hit.start == pytest.approx(middle(heard.index(first)), abs=0.012)


def test_the_likeliest_reading_wins_where_two_fit_alike() -> None:
    # In both readings the letters but one are not heard at all.
    heard = "_a_b________"
    assert find(heard, ("ab", "ab")) == find(heard, ("ab",))


def test_a_word_of_several_parts_goes_from_the_first_to_the_last() -> None:
    heard = "_o_n_e__ __t_w_o__ _e_n_d_"
    both, end = find(heard, ("one two",), ("end",))
    one, two, same = find(heard, ("one",), ("two",), ("end",))
    assert both is not None
    assert one is not None
    assert two is not None
    assert (both.start, both.end) == (one.start, two.end)
    assert both.score == pytest.approx((one.score + two.score) / 2)
    assert end == same


def test_the_score_of_parts_is_their_mean() -> None:
    heard = "_o_n_e__ __________ _e_n_d_"  # "two" is not heard
    (both, _) = find(heard, ("one two",), ("end",))
    one, two, _ = find(heard, ("one",), ("two",), ("end",))
    assert both is not None
    assert one is not None
    assert two is not None
    assert one.score > 0.9
    assert two.score < 0.5
    assert both.score == pytest.approx((one.score + two.score) / 2)


@pytest.mark.parametrize(
    ("word", "guessed"),
    [("caя", False), ("cяяa", False), ("cяя", True), ("яяя", True), ("я", True)],
)
def test_a_word_is_guessed_where_most_of_its_letters_are_unknown(word: str, guessed: bool) -> None:
    (hit,) = find("__c_x_x_a____", (word,))
    assert hit is not None
    assert hit.guessed == guessed


@pytest.mark.parametrize("word", ["CAFE", "café", "CAFÉ", "ｃafe"])
def test_letters_are_found_without_their_case_and_accents(word: str) -> None:
    plain = find("__c_a_f_e__", ("cafe",))
    assert find("__c_a_f_e__", (word,)) == plain
    assert plain[0] is not None
    assert not plain[0].guessed


@pytest.mark.parametrize("word", ["éàç", "ÉÀÇ"])
def test_a_letter_with_an_accent_is_not_just_any_letter(word: str) -> None:
    assert find("__e_a_c__", (word,)) == find("__e_a_c__", ("eac",))
    (elsewhere,) = find("__x_x_x__", (word,))
    assert elsewhere is not None
    assert elsewhere.score < 0.6
    assert not elsewhere.guessed


def test_an_apostrophe_is_a_letter_and_a_model_s_mark_is_none() -> None:
    model = hearing("__i_t_'_s__")
    assert model.knows("'")
    assert model.knows("s")
    assert not model.knows("|")
    assert not model.knows("<pad>")
    assert not model.knows("7")
    (hit,) = search(model, SECOND, words("it's"))
    assert hit is not None
    assert hit.score == pytest.approx(1.0, abs=0.01)


def test_chinese_characters_are_found_one_by_one() -> None:
    heard = "__今_天__去___看__书__"
    today, go, read = search(hearing(heard, "zh", CHINESE), SECOND, words("今天", "去", "看书"))
    assert today is not None
    assert go is not None
    assert read is not None
    for hit, first in ((today, "今"), (go, "去"), (read, "看")):
        assert hit.start == pytest.approx(middle(heard.index(first)), abs=0.02)
        assert hit.score == pytest.approx(1.0, abs=0.01)
    assert today.end <= go.start
    assert go.end <= read.start


@pytest.mark.parametrize(("word", "syllables"), [("potato", 3), ("out", 1), ("Yes", 1), ("hm", 1)])
def test_a_latin_word_in_chinese_takes_a_character_for_each_syllable(
    word: str, syllables: int
) -> None:
    # Three characters beside it: the window has room for them and so many more, or not.
    for frames, found in ((3 + syllables, False), (4 + syllables, True)):
        heard = ("今天" + "_" * 20)[: frames - 1] + "书"
        model = hearing(heard, "zh", CHINESE)
        hits = search(model, SECOND, words("今天", word, "书"))
        assert [hit is not None for hit in hits] == [found] * 3
        if found:
            assert hits[1] is not None
            assert hits[1].guessed


def test_spaces_of_a_reading_are_not_looked_for_in_chinese() -> None:
    heard = "__今_天__书__"
    model = hearing(heard, "zh", CHINESE)
    apart, together = (search(model, SECOND, words(word, "书")) for word in ("今 天", "今天"))
    assert apart == together


def test_the_window_is_heard_once_whatever_the_readings() -> None:
    calls = []
    model = hearing("_o_n_e_ _t_w_o__")
    forward = model._forward

    def counted(samples: torch.Tensor) -> torch.Tensor:
        calls.append(samples.shape)
        return forward(samples)

    model._forward = counted
    search(model, SECOND, [WordGroup.of("one", "two", "six"), WordGroup.of("two", "one")])
    assert calls == [(1, 16_000)]
