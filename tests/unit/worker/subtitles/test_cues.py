"""Where captions and lines end, and how long a caption stays: at the limits themselves."""

from __future__ import annotations

import pytest

from worker.subtitles.cues import Cue, columns, cues
from worker.subtitles.style import SubtitleStyle
from worker.timing.word_timing import SentenceSpan, WordTiming


def spoken(*words: tuple[str, float, float], sentence: int = 0) -> list[WordTiming]:
    """Words, each with its start and end in seconds."""
    return [WordTiming(w, start, end, 0.9, sentence, estimated=False) for w, start, end in words]


def paced(text: str, pace: list[tuple[float, float]], columns: int = 8) -> list[Cue]:
    """Cues of one sentence; for each word the seconds that it lasts and that it is silent then."""
    words = []
    at = 0.0
    for word, (seconds, pause) in zip(text.split(), pace, strict=True):
        words.append((word, at, at + seconds))
        at += seconds + pause
    return cues(spoken(*words), [SentenceSpan(text, 0.0, at)], SubtitleStyle(max_columns=columns))


def evenly(text: str, seconds: float = 0.5, pauses: dict[int, float] | None = None) -> list[Cue]:
    """Cues of 8 columns a line for one sentence, `pauses[i]` seconds of silence behind word i."""
    return paced(text, [(seconds, (pauses or {}).get(i, 0.0)) for i in range(len(text.split()))])


def sizes(made: list[Cue]) -> list[int]:
    """How many words each cue has."""
    return [sum(map(len, cue.lines)) for cue in made]


def lines(cue: Cue) -> list[str]:
    return [
        "".join(f"{' ' if w.spaced and i else ''}{w.text}" for i, w in enumerate(line))
        for line in cue.lines
    ]


def shown(text: str, limit: int) -> list[list[str]]:
    """The lines of each cue of a sentence that is spoken at an even speed."""
    words = [(w, 0.6 * i, 0.6 * i + 0.5) for i, w in enumerate(text.split())]
    span = SentenceSpan(text, 0.0, 0.6 * len(words))
    return [lines(c) for c in cues(spoken(*words), [span], SubtitleStyle(max_columns=limit))]


@pytest.mark.parametrize(
    ("text", "wide"),
    [
        ("", 0),
        ("abc", 3),
        ("a b", 3),
        ("字", 2),
        ("，", 2),
        ("Ａ", 2),
        ("ｱ", 1),
        ("e\u0301", 1),
        ("\u200d", 0),
        ("a\u20dd", 1),
        ("—", 1),
        ("한", 2),
    ],
)
def test_columns(text: str, wide: int) -> None:
    assert columns(text) == wide


class TestLines:
    def test_what_just_fits_is_one_line(self) -> None:
        assert shown("abcd efghi", 10) == [["abcd efghi"]]
        assert shown("abcde fghij", 10) == [["abcde", "fghij"]]

    def test_what_just_fits_into_two_lines_is_one_cue(self) -> None:
        assert shown("abcd efghi jklm nopqr", 10) == [["abcd efghi", "jklm nopqr"]]
        assert len(shown("abcd efghi jklm nopqrs", 10)) == 2

    def test_a_cue_in_the_middle_may_fill_its_lines_too(self) -> None:
        # The space before a line's first word takes no column.
        assert shown("aaaa, bbb aaaa bbb, aaaa bbb aaaa bbb", 9) == [
            ["aaaa, bbb", "aaaa bbb,"],
            ["aaaa bbb", "aaaa bbb"],
        ]

    def test_the_space_before_a_cue_is_in_none_of_its_lines(self) -> None:
        assert shown("bbbb bbbb bbbb bbb, aaaa bb aaaaa", 9) == [
            ["bbbb bbbb", "bbbb bbb,"],
            ["aaaa bb", "aaaaa"],  # 7 and 5, not 4 and 8
        ]

    def test_two_lines_are_of_like_width(self) -> None:
        assert shown("aaaa bbbb cccc dddd", 12) == [["aaaa bbbb", "cccc dddd"]]
        assert shown("aa bbbbbb cc dd eeee", 14) == [["aa bbbbbb", "cc dd eeee"]]

    def test_a_clause_ends_its_line_though_the_other_is_longer(self) -> None:
        # 8 and 14 columns in place of 13 and 9.
        assert shown("aaa bbb, cccc dd eee ff", 20) == [["aaa bbb,", "cccc dd eee ff"]]
        assert shown("aaa bbbb cccc dd eee ff", 20) == [["aaa bbbb cccc", "dd eee ff"]]

    def test_no_word_has_a_line_alone_where_there_are_more_than_three(self) -> None:
        assert shown("aaaaaaaaaa bb ccc dd", 14) == [["aaaaaaaaaa bb", "ccc dd"]]
        assert shown("dd ccc bb aaaaaaaaaa", 14) == [["dd ccc", "bb aaaaaaaaaa"]]
        assert shown("aaaaaaaaaa bb cccccc", 14) == [["aaaaaaaaaa", "bb cccccc"]]

    def test_the_limit_is_kept_before_all(self) -> None:
        assert shown("aaaaaaaaaa bb, cc dd", 12) == [["aaaaaaaaaa", "bb, cc dd"]]


class TestSpaces:
    @pytest.mark.parametrize(
        ("first", "second", "line"),
        [
            ("你好。", "再见。", "你好。再见。"),
            ("Hi.", "Bye.", "Hi. Bye."),
            ("Hi.", "再见。", "Hi. 再见。"),
            ("你好。", "Bye.", "你好。 Bye."),
        ],
    )
    def test_sentences_are_parted_as_their_script_does(
        self, first: str, second: str, line: str
    ) -> None:
        words = spoken((first, 0.0, 0.4)) + spoken((second, 0.5, 0.9), sentence=1)
        spans = [SentenceSpan(first, 0.0, 0.4), SentenceSpan(second, 0.5, 0.9)]
        assert [lines(cue) for cue in cues(words, spans, SubtitleStyle())] == [[line]]

    def test_words_stand_as_in_their_sentence(self) -> None:
        words = spoken(("今天", 0.0, 0.5), ("iPhone", 0.5, 1.0), ("很好", 1.0, 1.5))
        (cue,) = cues(words, [SentenceSpan("今天 iPhone很好", 0.0, 1.5)], SubtitleStyle())
        assert lines(cue) == ["今天 iPhone很好"]

    def test_a_word_that_comes_twice_is_looked_for_behind_the_first(self) -> None:
        words = spoken(("好", 0.0, 0.5), ("好", 0.5, 1.0), ("好", 1.0, 1.5))
        (cue,) = cues(words, [SentenceSpan("好 好好", 0.0, 1.5)], SubtitleStyle())
        assert lines(cue) == ["好 好好"]

    def test_white_space_of_any_length_is_one_space(self) -> None:
        words = spoken(("a", 0.0, 0.5), ("b", 0.5, 1.0))
        (cue,) = cues(words, [SentenceSpan("  a \n  b", 0.0, 1.0)], SubtitleStyle())
        assert lines(cue) == ["a b"]


class TestBreaks:
    def test_a_pause_of_a_second_is_bridged_and_a_longer_one_is_not(self) -> None:
        assert len(evenly("one two by me", pauses={1: 1.0})) == 1
        first, second = evenly("one two by me", pauses={1: 1.01})
        assert (lines(first), lines(second)) == (["one two"], ["by me"])

    @pytest.mark.parametrize(("behind", "expected"), [(1, [2, 4]), (2, [3, 3]), (3, [4, 2])])
    def test_a_cue_ends_in_a_pause(self, behind: int, expected: list[int]) -> None:
        made = evenly("aaa aaa aaa aaa aaa aaa", pauses={behind: 0.4})
        assert sizes(made) == expected

    @pytest.mark.parametrize("mark", [",", ";", ":", "，", "、", "—", ")", ',"', "."])
    def test_a_cue_ends_with_a_clause(self, mark: str) -> None:
        for behind, expected in ((1, [2, 4]), (3, [4, 2])):
            words = ["aaa"] * 6
            words[behind] = "aaaa"[columns(mark) :] + mark
            made = evenly(" ".join(words), pauses={4 - behind: 0.4})  # the pause is elsewhere
            assert sizes(made) == expected

    @pytest.mark.parametrize("end", [".", "!", "?", "…", "。", '."', "!)", "?”"])
    def test_the_end_of_a_sentence_is_better_than_that_of_a_clause(self, end: str) -> None:
        full = "aaaa"[columns(end) :] + end
        made = evenly(f"aaa {full} aaa aaa, aaa aaa", pauses={3: 0.3})
        assert sizes(made) == [2, 4]

    @pytest.mark.parametrize("first", [2, 3, 4])
    def test_a_cue_ends_with_its_sentence_though_no_mark_is_there(self, first: int) -> None:
        words = [("aaa", 0.5 * i, 0.5 * i + 0.5) for i in range(6)]
        timed = spoken(*words[:first]) + spoken(*words[first:], sentence=1)
        middle = 0.5 * first
        spans = [
            SentenceSpan(" ".join(["aaa"] * first), 0.0, middle),
            SentenceSpan(" ".join(["aaa"] * (6 - first)), middle, 3.0),
        ]
        assert sizes(cues(timed, spans, SubtitleStyle(max_columns=8))) == [first, 6 - first]

    def test_two_sentences_that_are_whole_captions_are_two_cues(self) -> None:
        text = "We walk along the river."
        words = [(w, 0.5 * i, 0.5 * i + 0.5) for i, w in enumerate(text.split())]
        again = [(w, start + 2.6, end + 2.6) for w, start, end in words]
        spans = [SentenceSpan(text, 0.0, 2.5), SentenceSpan(text, 2.6, 5.1)]
        made = cues(spoken(*words) + spoken(*again, sentence=1), spans, SubtitleStyle())
        assert [lines(cue) for cue in made] == [[text], [text]]

    def test_slow_speech_is_divided_so_that_no_cue_stays_over_seven_seconds(self) -> None:
        made = evenly("aaa aaa aaa aaa", seconds=3.0)
        assert sizes(made) == [2, 2]
        (short,) = evenly("aaa aaa aaa aaa", seconds=1.75)
        assert (short.start, short.end) == (0, 700)

    @pytest.mark.parametrize("text", ["aaa aaa aaa aaa, aaa", "aaa, aaa aaa aaa aaa"])
    def test_a_clause_is_broken_before_a_word_stands_alone(self, text: str) -> None:
        made = evenly(text)
        assert all(sum(map(len, cue.lines)) > 1 for cue in made)

    def test_without_clauses_and_pauses_cues_are_of_like_width(self) -> None:
        assert sizes(evenly("aaa aaa aaa aaa aaa aaa")) == [3, 3]

    def test_a_cue_that_would_be_shown_too_short_is_not_made_for_a_pause(self) -> None:
        # Two words of 0.15 s and a pause of 0.2 s are half a second; three are 1.5 s.
        fast, slow = (0.15, 0.0), (1.0, 0.0)
        made = paced("aaa aaa aaa aaa aaa aaa", [fast, (0.15, 0.2), slow, slow, slow, slow])
        assert sizes(made) == [3, 3]
        pace = [(0.5, 0.0), (0.5, 0.2), slow, slow, slow, slow]
        assert sizes(paced("aaa aaa aaa aaa aaa aaa", pace)) == [2, 4]

    def test_a_cue_that_could_not_be_read_is_not_made_for_a_pause(self) -> None:
        # Four words of 39 columns need 1.95 s and have 1.6; two of 19 have their second.
        text = " ".join(["aaaaaaaaa"] * 6)
        slow, fast = (0.5, 0.0), (0.2, 0.0)
        made = paced(text, [slow, slow, fast, (0.2, 0.2), slow, slow], columns=20)
        assert sizes(made) == [2, 4]
        made = paced(text, [slow, slow, slow, (0.5, 0.2), slow, slow], columns=20)
        assert sizes(made) == [4, 2]

    def test_a_word_that_takes_long_does_not_take_the_next_one_along(self) -> None:
        made = paced("aaa aaa", [(20.0, 0.0), (0.5, 0.0)])
        assert sizes(made) == [1, 1]

    def test_a_single_word_may_take_its_time(self) -> None:
        (cue,) = evenly("aaa", seconds=20.0)
        assert (cue.start, cue.end) == (0, 2000)


class TestTimes:
    def test_a_cue_begins_and_ends_with_its_words_to_the_centisecond(self) -> None:
        words = spoken(("one", 1.004, 1.5), ("two", 1.6, 2.716))
        (cue,) = cues(words, [SentenceSpan("one two", 1.0, 2.72)], SubtitleStyle())
        assert (cue.start, cue.end) == (100, 272)
        assert [(w.start, w.end) for w in cue.lines[0]] == [(100, 150), (160, 272)]

    def test_a_cue_stays_until_it_is_read_at_20_columns_a_second(self) -> None:
        text = "aaaaaaaaa bbbbbbbbb ccccccccc ddddddddd"  # 39 columns: 1.95 s
        words = spoken(*((w, 0.1 * i, 0.1 * i + 0.1) for i, w in enumerate(text.split())))
        (cue,) = cues(words, [SentenceSpan(text, 0.0, 9.0)], SubtitleStyle())
        assert (cue.start, cue.end) == (0, 195)

    @pytest.mark.parametrize(("end", "until"), [(9.0, 100), (1.0, 100), (0.7, 70), (0.4, 40)])
    def test_the_last_cue_stays_a_second_where_the_audio_does(self, end: float, until: int) -> None:
        (cue,) = cues(spoken(("Go!", 0.0, 0.4)), [SentenceSpan("Go!", 0.0, end)], SubtitleStyle())
        assert (cue.start, cue.end) == (0, until)

    @pytest.mark.parametrize(("next_start", "end"), [(1.6, 100), (0.7, 70), (0.45, 45)])
    def test_a_cue_gives_way_to_the_next_one(self, next_start: float, end: int) -> None:
        texts = ("Let us go now!", "Now do it all!")  # two lines each: they cannot be one cue
        words, spans = [], []
        for i, (text, at) in enumerate(zip(texts, (0.0, next_start), strict=True)):
            timed = ((w, at + 0.1 * j, at + 0.1 * j + 0.1) for j, w in enumerate(text.split()))
            words += spoken(*timed, sentence=i)
            spans.append(SentenceSpan(text, at, at + 0.4))
        first, second = cues(words, spans, SubtitleStyle(max_columns=8))
        assert (first.start, first.end) == (0, end)
        assert second.start == round(100 * next_start)

    def test_words_without_any_time_are_shown_for_a_centisecond_each_cue(self) -> None:
        text = " ".join(["aaaaaaaa"] * 6)
        words = spoken(*(("aaaaaaaa", 2.0, 2.0) for _ in range(6)))
        made = cues(words, [SentenceSpan(text, 2.0, 2.0)], SubtitleStyle(max_columns=8))
        assert [(cue.start, cue.end) for cue in made] == [(200, 201), (201, 202), (202, 203)]
        for cue in made:
            inside = [w for line in cue.lines for w in line]
            assert all(cue.start <= w.start <= w.end <= cue.end for w in inside)

    def test_nothing_to_show_gives_no_cue(self) -> None:
        assert cues([], [], SubtitleStyle()) == []
        assert cues([], [SentenceSpan("", 0.0, 1.0)], SubtitleStyle()) == []


class TestWideWords:
    def test_the_parts_of_a_word_share_its_time_by_their_columns(self) -> None:
        text = "a" * 20
        made = cues(
            spoken((text, 1.0, 3.0)), [SentenceSpan(text, 1.0, 3.0)], SubtitleStyle(max_columns=8)
        )
        parts = [w for cue in made for line in cue.lines for w in line]
        assert [(w.text, w.start, w.end) for w in parts] == [
            ("a" * 8, 100, 180),
            ("a" * 8, 180, 260),
            ("a" * 4, 260, 300),
        ]

    @pytest.mark.parametrize(("letters", "parts"), [(8, 1), (9, 2), (16, 2), (17, 3)])
    def test_a_word_is_parted_where_it_is_wider_than_a_line(self, letters: int, parts: int) -> None:
        made = evenly("a" * letters, seconds=2.0)
        assert sum(len(line) for cue in made for line in cue.lines) == parts

    def test_chinese_is_parted_by_its_double_columns(self) -> None:
        text = "字" * 10
        made = evenly(text, seconds=2.0)
        assert [line for cue in made for line in lines(cue)] == ["字" * 4, "字" * 4, "字" * 2]

    def test_what_is_one_picture_is_not_torn(self) -> None:
        family = "👩‍👩‍👧"  # three people of two columns each, joined
        made = evenly(family * 3, seconds=2.0)
        assert [line for cue in made for line in lines(cue)] == [family] * 3

    @pytest.mark.parametrize("count", [1, 2, 3])
    @pytest.mark.parametrize(
        "picture", ["👩🏽‍❤️‍💋‍👨🏿", "ᄀ" * 9]
    )  # 11 and 18 columns, and not to be torn
    def test_a_picture_wider_than_a_line_has_a_line_of_its_own(
        self, picture: str, count: int
    ) -> None:
        made = evenly(" ".join([picture] * count), seconds=2.0)
        assert [line for cue in made for line in lines(cue)] == [picture] * count
        beside = evenly(f"a{picture}b", seconds=2.0)
        assert [line for cue in beside for line in lines(cue)] == ["a", picture, "b"]

    def test_its_parts_are_put_together_without_spaces_and_the_first_has_the_word_s_own(
        self,
    ) -> None:
        made = evenly("bb " + "a" * 20 + " c", seconds=2.0)
        words = [w for cue in made for line in cue.lines for w in line]
        assert [w.spaced for w in words] == [False, True, False, False, True]
